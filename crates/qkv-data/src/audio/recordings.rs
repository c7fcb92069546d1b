//! All recordings of a data set at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::decode::SoundStream;
use super::frames::{FrameOptions, Framer, Normalise};
use super::normalise::Scale;
use super::resample::Resampler;
use crate::error::{Error, Result};
use crate::listing::Listed;
use crate::source::Source;

/// How recordings are read.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordingOptions {
    /// A longer recording is an error, so that a damaged header or a wrong file cannot fill the memory.
    pub max_seconds: f64,
    /// Whether the samples are kept, at [`FrameOptions::rate`], which [`join`](super::join()) and
    /// [`perturb`](super::perturb()) need. They take some ten times the memory that frames take.
    pub samples: bool,
}

impl Default for RecordingOptions {
    /// Up to an hour, without samples.
    fn default() -> Self {
        Self { max_seconds: 3600.0, samples: false }
    }
}

/// A recording as frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Its frames, `[frames, frame_dim]`, not stacked. With [`Normalise::Recording`] they are normalised; with
    /// [`Normalise::Corpus`] they are as they are, to make a [`Scale`] of and to apply it to.
    pub frames: Vec<f32>,
    /// Its samples if they were asked for, at [`FrameOptions::rate`].
    pub samples: Option<Vec<f32>>,
    /// How long it is.
    pub seconds: f64,
}

/// Decodes and frames all `files`, on all threads of the present pool; the result is in their order and does not depend
/// on how many those are. After each file `progress` is told how many are done. Once `stop` is set, no other file is begun
/// and the answer is `None`.
///
/// # Errors
///
/// As [`FrameOptions::check`]; of the files that cannot be read (see [`SoundStream`]) or are longer than
/// [`RecordingOptions::max_seconds`] the first one's.
pub fn read_recordings(
    files: &[Listed],
    frames: &FrameOptions,
    options: &RecordingOptions,
    progress: &(dyn Fn(usize) + Sync),
    stop: &AtomicBool,
) -> Result<Option<Vec<Recording>>> {
    let framer = Framer::new(frames)?;
    let resamplers = Resamplers { to: frames.rate, known: Mutex::new(HashMap::new()) };
    let reading = Reading { framer, frames, options, resamplers };
    // Files behind the first one that cannot be read need not be read; those before it must, to know that it is the first.
    let (done, failed) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let read = |(place, file): (usize, &Listed)| {
        if stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed) < place {
            return Ok(None);
        }
        let recording = reading.read(file).inspect_err(|_| {
            failed.fetch_min(place, Ordering::Relaxed);
        })?;
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(Some(recording))
    };
    let all: Vec<Result<Option<Recording>>> = files.par_iter().enumerate().map(read).collect();
    all.into_iter().collect()
}

struct Reading<'a> {
    framer: Framer,
    frames: &'a FrameOptions,
    options: &'a RecordingOptions,
    resamplers: Resamplers,
}

impl Reading<'_> {
    fn read(&self, file: &Listed) -> Result<Recording> {
        let mut stream = SoundStream::open(&Source::from(&file.path))?;
        let mut resampler = self.resamplers.from(stream.rate());
        let mut framer = self.framer.clone();
        let (mut resampled, mut frames) = (Vec::new(), Vec::new());
        let mut kept = self.options.samples.then(Vec::new);
        let mut count = 0_u64;
        let rate = f64::from(stream.rate());
        while let Some(block) = stream.next_block()? {
            count += block.len() as u64;
            if count as f64 > self.options.max_seconds * rate {
                let what = format!("is longer than {} s", self.options.max_seconds);
                return Err(Error::unusable(
                    &file.name(),
                    what,
                    "cut it into pieces, or let `predict -` listen to it as it comes",
                ));
            }
            resampled.clear();
            resampler.push(block, &mut resampled);
            framer.push(&resampled, &mut frames);
            kept.iter_mut().for_each(|kept| kept.extend_from_slice(&resampled));
        }
        resampled.clear();
        resampler.finish(&mut resampled);
        framer.push(&resampled, &mut frames);
        framer.finish(&mut frames);
        kept.iter_mut().for_each(|kept| kept.extend_from_slice(&resampled));
        if self.frames.normalise == Normalise::Recording {
            Scale::recording(&mut frames, self.frames.frame_dim());
        }
        frames.shrink_to_fit();
        Ok(Recording { frames, samples: kept, seconds: count as f64 / rate })
    }
}

/// Resamplers by the rate they begin with: their tables take longer than a short recording.
struct Resamplers {
    to: u32,
    known: Mutex<HashMap<u32, Resampler>>,
}

impl Resamplers {
    fn from(&self, rate: u32) -> Resampler {
        // Few data sets have recordings of more rates than this; more would be kept for nothing.
        const MOST: usize = 16;
        // A thread that panicked with the lock left a map that is whole.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(&rate) {
            return Resampler::new(rate, self.to);
        }
        known.entry(rate).or_insert_with(|| Resampler::new(rate, self.to)).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::{sine, wav16};
    use super::*;
    use crate::listing::{ListOptions, list_files};

    fn set(sounds: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, Vec<Listed>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in sounds {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let options = ListOptions { endings: super::super::SOUND_ENDINGS, ..ListOptions::default() };
        let files = list_files(folder.path(), &options).unwrap();
        (folder, files)
    }

    fn read(files: &[Listed], frames: &FrameOptions, options: &RecordingOptions) -> Result<Option<Vec<Recording>>> {
        read_recordings(files, frames, options, &|_| {}, &AtomicBool::new(false))
    }

    #[test]
    fn recordings_come_in_order_whatever_the_number_of_threads() {
        let sounds: Vec<(String, Vec<u8>)> = (0..40_u32)
            .map(|n| (format!("{n:02}.wav"), wav16(8000 + 4000 * (n % 3), 1, &sine(8000, 300.0 + f64::from(n), 900))))
            .collect();
        let sounds: Vec<(&str, Vec<u8>)> = sounds.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        let (_folder, files) = set(&sounds);
        let frames = FrameOptions::default();
        let told = AtomicUsize::new(0);
        let progress = |done: usize| {
            told.fetch_max(done, Ordering::Relaxed);
        };
        let options = RecordingOptions { samples: true, ..RecordingOptions::default() };
        let all = read_recordings(&files, &frames, &options, &progress, &AtomicBool::new(false)).unwrap().unwrap();
        assert_eq!((all.len(), told.into_inner()), (40, 40));
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| read(&files, &frames, &options)).unwrap().unwrap(), all);
        }
        for (file, recording) in files.iter().zip(&all) {
            let sound = super::super::read_sound(&file.path, 10.0).unwrap();
            assert_eq!(recording.frames, frames.frames_of(&sound.samples, sound.rate, None).unwrap());
            let (kept, count) = (recording.samples.as_ref().unwrap(), sound.samples.len() as u64 * 16_000);
            assert_eq!(kept.len() as u64, count.div_ceil(u64::from(sound.rate)));
            assert!((recording.seconds - sound.seconds()).abs() < 1e-9);
        }
    }

    #[test]
    fn the_first_that_cannot_be_read_is_named_and_a_stop_is_heeded() {
        let good = wav16(8000, 1, &[0.5; 900]);
        let (_folder, files) =
            set(&[("a.wav", good.clone()), ("b.wav", good[..900].to_vec()), ("c.wav", good), ("d.wav", vec![1])]);
        for _ in 0..20 {
            let error = read(&files, &FrameOptions::default(), &RecordingOptions::default()).unwrap_err().to_string();
            assert!(error.contains("b.wav: is cut off"), "{error}");
        }
        let short = RecordingOptions { max_seconds: 0.1, samples: false };
        let error = read(&files[..1], &FrameOptions::default(), &short).unwrap_err().to_string();
        assert!(error.contains("a.wav: is longer than 0.1 s"), "{error}");
        let stopped = AtomicBool::new(true);
        let none = read_recordings(&files, &FrameOptions::default(), &short, &|_| {}, &stopped).unwrap();
        assert!(none.is_none());
    }

    #[test]
    fn spoken_digits_are_read_and_framed() {
        let Ok(data) = std::env::var("QKV_DATA") else {
            println!("skipped: QKV_DATA is not set");
            return;
        };
        let options = ListOptions { endings: &["wav"], ..ListOptions::default() };
        let files = list_files(Path::new(&data).join("fsdd/recordings"), &options).unwrap();
        let frames = FrameOptions { rate: 8000, ..FrameOptions::default() };
        let start = std::time::Instant::now();
        let all = read(&files, &frames, &RecordingOptions::default()).unwrap().unwrap();
        let (took, seconds) = (start.elapsed().as_secs_f64(), all.iter().map(|one| one.seconds).sum::<f64>());
        println!("{} recordings, {seconds:.0} s of sound, in {took:.2} s", all.len());
        assert_eq!(all.len(), 3000);
        for (file, recording) in files.iter().zip(&all) {
            let count = (recording.seconds * 8000.0).round() as usize;
            assert_eq!(recording.frames.len(), frames.frame_count(count) * 40, "{}", file.name());
            assert!(recording.frames.iter().all(|value| value.is_finite()), "{}", file.name());
        }
    }
}
