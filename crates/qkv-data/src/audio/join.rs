//! Recordings laid end to end with gaps between them: short ones of one thing each, such as digits, become strings of them.

use std::ops::Range;

use qkv::random::Key;
use serde::{Deserialize, Serialize};

use super::mask::below;
use super::perturb::amplitude;
use crate::error::{Error, Result};

/// The longest string, so that a slip in a number does not fill the memory.
const MOST_SECONDS: f64 = 4.0 * 3600.0;

/// A recording that strings are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spoken<'a> {
    /// Its samples, at the same rate as those of all others.
    pub samples: &'a [f32],
    /// What is said in it.
    pub label: u32,
}

/// How long a string is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinLength {
    /// So many recordings, drawn uniformly.
    Count {
        /// At least.
        least: usize,
        /// At most.
        most: usize,
    },
    /// As many as are drawn until one would go beyond so many seconds, and at least one.
    Seconds(f32),
}

/// How strings are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JoinOptions {
    /// How long they are.
    pub length: JoinLength,
    /// The shortest and the longest gap in seconds: before the first recording, between two, and after the last.
    pub gap: (f32, f32),
    /// Each recording becomes louder or softer by up to so many decibels.
    pub gain_db: f32,
    /// White noise through the whole string, in decibels against a sine of full scale, such as -60. Without it gaps are
    /// silent as no microphone is, which a model may take for a sign that recordings end there.
    pub noise_db: Option<f32>,
}

impl Default for JoinOptions {
    /// 1 to 7 recordings with gaps of 0 to 0.3 seconds.
    fn default() -> Self {
        Self { length: JoinLength::Count { least: 1, most: 7 }, gap: (0.0, 0.3), gain_db: 0.0, noise_db: None }
    }
}

impl JoinOptions {
    /// Whether strings can be made so.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] that names the option: no recordings or fewer at most than at least, more than four hours, a gap
    /// below zero, above a minute or longer at least than at most, loudness that is not a number.
    pub fn check(&self) -> Result<()> {
        let refuse = |option: &str, what: String, mend: &str| Err(Error::unusable(option, what, mend));
        match self.length {
            JoinLength::Count { least, most } if least == 0 || least > most => {
                return refuse("length", format!("{least} to {most} recordings are no range"), "give such as 1 to 7");
            }
            JoinLength::Seconds(seconds) if !(seconds > 0.0 && f64::from(seconds) <= MOST_SECONDS) => {
                return refuse("length", format!("{seconds} seconds are no length"), "give up to four hours");
            }
            _ => {}
        }
        let (least, most) = self.gap;
        if !(0.0 <= least && least <= most && most <= 60.0) {
            return refuse("gap", format!("{least} to {most} seconds are no range"), "give such as 0 to 0.3");
        }
        if !self.gain_db.is_finite() || self.noise_db.is_some_and(|noise| !noise.is_finite() || noise > 0.0) {
            return refuse("gain_db", "or noise_db is not a loudness".to_owned(), "give such as 6 and -60");
        }
        Ok(())
    }
}

/// A string of recordings.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// Its samples.
    pub samples: Vec<f32>,
    /// What is said in it, in order.
    pub labels: Vec<u32>,
    /// Where in `samples` each of these is.
    pub places: Vec<Range<usize>>,
    /// Which recording each of these is.
    pub recordings: Vec<usize>,
}

/// Makes the string that `key` names from `recordings`, all with `rate` samples a second; each is as likely at every place
/// as any other. A function of its arguments alone: string `n` of an epoch is that of `key.fold(epoch).fold(n)`.
///
/// # Errors
///
/// As [`JoinOptions::check`]; no recordings, or one without samples; a string longer than four hours.
pub fn join(recordings: &[Spoken<'_>], rate: u32, options: &JoinOptions, key: Key) -> Result<Joined> {
    options.check()?;
    let refuse = |what: &str, mend: &str| Err(Error::unusable("the recordings to be joined", what, mend));
    if recordings.is_empty() {
        return refuse("are none", "name a part that has some");
    }
    if recordings.iter().any(|recording| recording.samples.is_empty()) {
        return refuse("have one without samples among them", "read them with their samples");
    }
    let in_samples = |seconds: f64| (seconds * f64::from(rate)).round() as usize;
    let (chosen, gaps, gains, noise) = (key.fold(0), key.fold(1), key.fold(2), key.fold(3));
    let (count, most) = match options.length {
        JoinLength::Count { least, most } => (Some(least + below(most - least + 1, key, 0)), in_samples(MOST_SECONDS)),
        JoinLength::Seconds(seconds) => (None, in_samples(f64::from(seconds))),
    };
    let gap = |n: u64| {
        let (least, most) = (f64::from(options.gap.0), f64::from(options.gap.1));
        in_samples(least + (most - least) * f64::from(gaps.uniform(n)))
    };
    let mut joined = Joined { samples: Vec::new(), labels: Vec::new(), places: Vec::new(), recordings: Vec::new() };
    joined.samples.resize(gap(0), 0.0);
    let mut n = 0;
    while count.is_none_or(|count| joined.labels.len() < count) {
        let recording = below(recordings.len(), chosen, n);
        let Spoken { samples, label } = recordings[recording];
        let behind = gap(n + 1);
        if n > 0 && joined.samples.len() + samples.len() + behind > most {
            if count.is_some() {
                return refuse("make a string of more than four hours", "join fewer of them");
            }
            break;
        }
        let start = joined.samples.len();
        let gain = amplitude(options.gain_db * (2.0 * gains.uniform(n) - 1.0));
        joined.samples.extend(samples.iter().map(|sample| sample * gain));
        joined.places.push(start..joined.samples.len());
        joined.labels.push(label);
        joined.recordings.push(recording);
        joined.samples.resize(joined.samples.len() + behind, 0.0);
        n += 1;
    }
    if let Some(loudness) = options.noise_db {
        // The deviation of a sine of full scale is the root of a half.
        let deviation = amplitude(loudness) * std::f32::consts::FRAC_1_SQRT_2;
        for (n, sample) in joined.samples.iter_mut().enumerate() {
            *sample += deviation * noise.normal(n as u64);
        }
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEN: [f32; 10] = [1.0; 10];
    const THIRTY: [f32; 30] = [2.0; 30];

    fn two() -> [Spoken<'static>; 2] {
        [Spoken { samples: &TEN, label: 4 }, Spoken { samples: &THIRTY, label: 9 }]
    }

    #[test]
    fn a_string_of_seconds_is_as_long_as_fits_and_has_each_recording_equally_often() {
        let options = JoinOptions { length: JoinLength::Seconds(1800.0), ..JoinOptions::default() };
        let joined = join(&two(), 100, &options, Key::new(1)).unwrap();
        assert!((180_000 - 60..=180_000).contains(&joined.samples.len()), "{}", joined.samples.len());
        let nines = joined.labels.iter().filter(|&&label| label == 9).count() as f64;
        assert!((nines / joined.labels.len() as f64 - 0.5).abs() < 0.05);
        let short = JoinOptions { length: JoinLength::Seconds(0.01), ..options };
        assert_eq!(join(&two(), 100, &short, Key::new(1)).unwrap().labels.len(), 1);
    }

    #[test]
    fn noise_fills_the_gaps_as_loud_as_asked_for() {
        let length = JoinLength::Count { least: 400, most: 400 };
        let options = JoinOptions { length, gap: (1.0, 1.0), noise_db: Some(-40.0), ..JoinOptions::default() };
        let joined = join(&two(), 100, &options, Key::new(2)).unwrap();
        let gaps = joined.places.windows(2).flat_map(|pair| &joined.samples[pair[0].end..pair[1].start]);
        let power = gaps.map(|&x| f64::from(x).powi(2)).sum::<f64>() / (399.0 * 100.0);
        assert!((power - 0.5e-4).abs() < 0.02e-4, "{power}");
    }

    #[test]
    fn what_makes_no_string_is_refused() {
        let count = |least, most| JoinOptions { length: JoinLength::Count { least, most }, ..JoinOptions::default() };
        let seconds = |seconds| JoinOptions { length: JoinLength::Seconds(seconds), ..JoinOptions::default() };
        for options in [
            count(0, 1),
            count(3, 2),
            count(usize::MAX, usize::MAX),
            seconds(0.0),
            seconds(-1.0),
            seconds(f32::NAN),
            seconds(1e9),
            JoinOptions { gap: (-0.1, 0.1), ..JoinOptions::default() },
            JoinOptions { gap: (0.2, 0.1), ..JoinOptions::default() },
            JoinOptions { gap: (0.0, f32::NAN), ..JoinOptions::default() },
            JoinOptions { gain_db: f32::INFINITY, ..JoinOptions::default() },
            JoinOptions { noise_db: Some(1.0), ..JoinOptions::default() },
        ] {
            let message = join(&two(), 1, &options, Key::new(1)).err().unwrap().to_string();
            assert!(!message.contains('\n'), "{message}");
        }
        let default = JoinOptions::default();
        assert!(join(&[], 8000, &default, Key::new(1)).unwrap_err().to_string().contains("are none"));
        let empty = [Spoken { samples: &[], label: 0 }];
        assert!(join(&empty, 8000, &default, Key::new(1)).unwrap_err().to_string().contains("without samples"));
    }

    proptest! {
        #[test]
        fn strings_hold_their_recordings_where_they_say(
            least in 1..5_usize, more in 0..5_usize, gap in (0.0..0.2_f32, 0.0..0.2_f32), seed in 0..1000_u64,
        ) {
            let options = JoinOptions {
                length: JoinLength::Count { least, most: least + more },
                gap: (gap.0, gap.0 + gap.1),
                ..JoinOptions::default()
            };
            let joined = join(&two(), 100, &options, Key::new(seed)).unwrap();
            prop_assert_eq!(&joined, &join(&two(), 100, &options, Key::new(seed)).unwrap());
            prop_assert!((least..=least + more).contains(&joined.labels.len()));
            let ends = joined.places.iter().map(|place| place.end);
            let starts = joined.places.iter().map(|place| place.start).chain([joined.samples.len()]);
            for (end, start) in [0].into_iter().chain(ends).zip(starts) {
                let seconds = (start - end) as f32 / 100.0;
                prop_assert!(seconds >= options.gap.0 - 0.006 && seconds <= options.gap.1 + 0.006);
                prop_assert!(joined.samples[end..start].iter().all(|&x| x == 0.0));
            }
            for ((place, &recording), &label) in joined.places.iter().zip(&joined.recordings).zip(&joined.labels) {
                let spoken = two()[recording];
                prop_assert_eq!(spoken.label, label);
                prop_assert_eq!(&joined.samples[place.clone()], spoken.samples);
            }
        }
    }
}
