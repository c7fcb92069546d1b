//! Mean and deviation of each number of a frame, taken away.

use serde::{Deserialize, Serialize};

/// Deviations are at least this (features are natural logarithms), so that what hardly changes does not become noise, and
/// silence becomes zeros.
const LEAST: f64 = 1e-2;

/// Mean and deviation of each number of a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// The means, `[frame_dim]`.
    pub mean: Vec<f32>,
    /// The deviations, `[frame_dim]`, none below 0.01.
    pub deviation: Vec<f32>,
}

/// Sums over frames, of which a [`Scale`] is made.
#[derive(Debug, Clone)]
struct Sums {
    count: f64,
    mean: Vec<f64>,
    /// Sums of squared distances from the mean.
    squares: Vec<f64>,
}

impl Sums {
    fn new(dim: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; dim], squares: vec![0.0; dim] }
    }

    /// Adds a frame (Welford 1962).
    fn add(&mut self, frame: &[f32]) {
        self.count += 1.0;
        for ((mean, squares), &value) in self.mean.iter_mut().zip(&mut self.squares).zip(frame) {
            let before = f64::from(value) - *mean;
            *mean += before / self.count;
            *squares += before * (f64::from(value) - *mean);
        }
    }

    fn scale(&self) -> Scale {
        let deviation = |&squares: &f64| (squares / self.count.max(1.0)).sqrt().max(LEAST) as f32;
        let mean = self.mean.iter().map(|&mean| mean as f32).collect();
        Scale { mean, deviation: self.squares.iter().map(deviation).collect() }
    }
}

impl Scale {
    /// Of all frames of some recordings, each `[frames, dim]`. Without a frame, mean 0 and the least deviation.
    pub fn of<'a>(recordings: impl IntoIterator<Item = &'a [f32]>, dim: usize) -> Self {
        let mut sums = Sums::new(dim);
        for frames in recordings {
            frames.chunks_exact(dim.max(1)).for_each(|frame| sums.add(frame));
        }
        sums.scale()
    }

    /// Numbers in a frame.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Whether it can be applied: as many deviations as means, all of them numbers, no deviation zero or below.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.mean.len() == self.deviation.len()
            && self.mean.iter().all(|mean| mean.is_finite())
            && self.deviation.iter().all(|deviation| deviation.is_finite() && *deviation > 0.0)
    }

    /// Normalises `frames`, `[frames, dim]`.
    pub fn apply(&self, frames: &mut [f32]) {
        for frame in frames.chunks_exact_mut(self.dim().max(1)) {
            for ((value, mean), deviation) in frame.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *value = (*value - mean) / deviation;
            }
        }
    }

    /// Normalises the frames of a recording by themselves.
    pub(super) fn recording(frames: &mut [f32], dim: usize) {
        Self::of([&*frames], dim).apply(frames);
    }
}

/// Normalises a stream nearly as its recording would be: by the frames so far, the present one included, together with
/// what was known before as if it had been seen for some frames. What comes later is not known, so the first seconds of a
/// stream are normalised otherwise than they would be with the whole; a model that is to read streams to the same bits is
/// better trained with [`Normalise::Corpus`](super::Normalise::Corpus). (Kaldi's online CMVN does the like.)
#[derive(Debug, Clone)]
pub struct RunningScale {
    before: Sums,
    sums: Sums,
}

impl RunningScale {
    /// With what was `known` before, such as the scale of the training set, counted as `frames` frames.
    #[must_use]
    pub fn new(known: &Scale, frames: usize) -> Self {
        let count = frames.max(1) as f64;
        let squares = known.deviation.iter().map(|&deviation| f64::from(deviation).powi(2) * count).collect();
        let before = Sums { count, mean: known.mean.iter().map(|&mean| f64::from(mean)).collect(), squares };
        Self { sums: before.clone(), before }
    }

    /// Normalises the next `frames` of the stream, `[frames, dim]`.
    pub fn apply(&mut self, frames: &mut [f32]) {
        for frame in frames.chunks_exact_mut(self.sums.mean.len().max(1)) {
            self.sums.add(frame);
            for (place, value) in frame.iter_mut().enumerate() {
                let deviation = (self.sums.squares[place] / self.sums.count).sqrt().max(LEAST);
                *value = ((f64::from(*value) - self.sums.mean[place]) / deviation) as f32;
            }
        }
    }

    /// Begins another stream.
    pub fn restart(&mut self) {
        self.sums = self.before.clone();
    }
}

#[cfg(test)]
mod tests {
    use qkv::random::Key;

    use super::*;

    fn noise(count: usize, dim: usize) -> Vec<f32> {
        let key = Key::new(5);
        (0..count * dim).map(|n| 3.0 * key.normal(n as u64) - 7.0 * (n % dim) as f32).collect()
    }

    fn moments(frames: &[f32], dim: usize, place: usize) -> (f64, f64) {
        let values: Vec<f64> = frames.chunks(dim).map(|frame| f64::from(frame[place])).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, square.sqrt())
    }

    #[test]
    fn a_recording_gets_mean_zero_and_deviation_one() {
        let mut frames = noise(500, 3);
        let (mean, deviation) = moments(&frames, 3, 2);
        let scale = Scale::of(frames.chunks(150), 3);
        assert!((f64::from(scale.mean[2]) - mean).abs() < 1e-5);
        assert!((f64::from(scale.deviation[2]) - deviation).abs() < 1e-5);
        Scale::recording(&mut frames, 3);
        for place in 0..3 {
            let (mean, deviation) = moments(&frames, 3, place);
            assert!(mean.abs() < 1e-5 && (deviation - 1.0).abs() < 1e-5, "{mean} {deviation}");
        }
    }

    #[test]
    fn silence_becomes_zeros() {
        let mut frames = vec![1e-10_f32.ln(); 30 * 40];
        Scale::recording(&mut frames, 40);
        assert!(frames.iter().all(|&value| value == 0.0));
        let none = Scale::of([], 4);
        assert!(none.is_sound() && none.mean == [0.0; 4]);
    }

    #[test]
    fn a_scale_comes_back_from_json_and_a_broken_one_is_told() {
        let scale = Scale::of([noise(9, 4).as_slice()], 4);
        let text = serde_json::to_string(&scale).unwrap();
        assert_eq!(serde_json::from_str::<Scale>(&text).unwrap(), scale);
        assert!(scale.is_sound());
        for (mean, deviation) in [(vec![1.0], vec![0.0]), (vec![f32::NAN], vec![1.0]), (vec![], vec![1.0])] {
            assert!(!Scale { mean, deviation }.is_sound());
        }
    }

    #[test]
    fn a_running_scale_comes_to_the_recording_s_in_blocks_of_any_size() {
        let frames = noise(4000, 2);
        let known = Scale { mean: vec![0.0; 2], deviation: vec![1.0; 2] };
        let mut running = RunningScale::new(&known, 10);
        let (mut all, mut blocks) = (frames.clone(), frames.clone());
        running.apply(&mut all);
        running.restart();
        blocks.chunks_mut(2 * 7).for_each(|block| running.apply(block));
        assert_eq!(all, blocks);
        let mut whole = frames;
        Scale::recording(&mut whole, 2);
        let last = whole.iter().zip(&all).rev().take(500);
        assert!(last.into_iter().all(|(whole, running)| (whole - running).abs() < 0.1));
        // The first frame is seen nearly as what was known before says.
        assert!((all[0] - whole[0] * 3.0).abs() < 3.0 && all[0].is_finite());
    }
}
