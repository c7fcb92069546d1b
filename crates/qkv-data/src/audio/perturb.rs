//! Training recordings made a little different: faster or slower, louder or softer, with noise.

use qkv::random::Key;
use serde::{Deserialize, Serialize};

/// How different. All off by default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerturbOptions {
    /// The speed is drawn from one less this to one plus this, at most 0.5: 0.1 for 0.9 to 1.1. Pitch goes with it (Ko et
    /// al., *Audio augmentation for speech recognition*, Interspeech 2015).
    pub speed: f32,
    /// Loudness changes by up to so many decibels either way.
    pub gain_db: f32,
    /// White noise is added, so many decibels below the recording; twice as many at most, drawn uniformly. `None` adds none.
    pub noise_db: Option<f32>,
}

/// The recording as `key` makes it different. As long as before, but for the speed.
#[must_use]
pub fn perturb(samples: &[f32], options: &PerturbOptions, key: Key) -> Vec<f32> {
    // From -1 to 1.
    let draw = |n: u64| 2.0 * key.uniform(n) - 1.0;
    let mut samples = change_speed(samples, 1.0 + f64::from(options.speed.clamp(0.0, 0.5) * draw(0)));
    let gain = amplitude(options.gain_db * draw(1));
    let power = samples.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    let noise = match options.noise_db {
        Some(below) => power.sqrt() as f32 * amplitude(-below.max(0.0) * (1.0 + key.uniform(2))),
        None => 0.0,
    };
    let key = key.fold(0);
    for (n, sample) in samples.iter_mut().enumerate() {
        if noise > 0.0 {
            *sample += noise * key.normal(n as u64);
        }
        *sample *= gain;
    }
    samples
}

/// Samples on the straight lines between the given ones. What that does to high frequencies is part of the change.
fn change_speed(samples: &[f32], speed: f64) -> Vec<f32> {
    if speed == 1.0 || samples.is_empty() {
        return samples.to_vec();
    }
    let count = ((samples.len() as f64 / speed).round() as usize).max(1);
    let last = samples.len() - 1;
    let at = |n: usize| {
        let time = n as f64 * speed;
        let (place, rest) = (time as usize, time.fract() as f32);
        let (one, other) = (samples[place.min(last)], samples[(place + 1).min(last)]);
        one + (other - one) * rest
    };
    (0..count).map(at).collect()
}

/// What decibels are as a factor.
pub(super) fn amplitude(decibels: f32) -> f32 {
    10.0_f32.powf(decibels / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_for_changes_nothing() {
        let samples = [0.1, -0.2, 0.3];
        assert_eq!(perturb(&samples, &PerturbOptions::default(), Key::new(1)), samples);
        let all = PerturbOptions { speed: 0.1, gain_db: 6.0, noise_db: Some(20.0) };
        assert!(perturb(&[], &all, Key::new(1)).is_empty());
        assert!(perturb(&[0.0; 50], &all, Key::new(1)).iter().all(|&x| x == 0.0), "silence has no noise");
    }

    #[test]
    fn speed_changes_length_within_its_bounds_and_keeps_a_line_straight() {
        let samples: Vec<f32> = (0..1000).map(|n| n as f32).collect();
        let options = PerturbOptions { speed: 0.1, ..PerturbOptions::default() };
        let (mut shortest, mut longest) = (usize::MAX, 0);
        for seed in 0..300 {
            let out = perturb(&samples, &options, Key::new(seed));
            (shortest, longest) = (shortest.min(out.len()), longest.max(out.len()));
            let speed = out[1];
            assert!((0.9..=1.1001).contains(&speed) && (out[500] - 500.0 * speed).abs() < 0.1);
        }
        assert!((909..915).contains(&shortest) && (1105..=1112).contains(&longest), "{shortest} {longest}");
    }

    #[test]
    fn gain_and_noise_are_as_loud_as_asked_for() {
        let samples: Vec<f32> = (0..20_000).map(|n| (n as f32 * 0.3).sin()).collect();
        let options = PerturbOptions { noise_db: Some(10.0), ..PerturbOptions::default() };
        for seed in 0..20 {
            let out = perturb(&samples, &options, Key::new(seed));
            let noise = out.iter().zip(&samples).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / 10_000.0;
            let below = -10.0 * noise.log10();
            assert!((9.8..20.2).contains(&below), "{below} dB");
        }
        let options = PerturbOptions { gain_db: 6.0, ..PerturbOptions::default() };
        let gains: Vec<f32> = (0..300).map(|seed| perturb(&[1.0], &options, Key::new(seed))[0]).collect();
        let (least, most) = gains.iter().fold((9.0_f32, 0.0_f32), |(a, b), &x| (a.min(x), b.max(x)));
        assert!((0.5..0.53).contains(&least) && (1.9..2.0).contains(&most), "{least} {most}");
    }
}
