//! Samples to frames: the spectrum of each short window as the numbers that a model reads.
//!
//! Here belongs what one recording gives by itself. Normalising is in [`normalise`](super::normalise), putting the steps
//! together in [`stream`](super::stream).
//!
//! For each window of samples `x`, of which one begins each step:
//!
//! ```text
//! y[0] = 0.03 x[0],  y[n] = x[n] - 0.97 x[n-1]                       pre-emphasis: speech falls by 6 dB an octave
//! power[k] = |Σ y[n] (1/2 - 1/2 cos(2π n / window)) e^(-2πi k n / size)|²       Hann window, size ≥ window
//! band[b] = ln max(Σ filter[b][k] power[k], 1e-10)                  see `MelFilters`
//! mfcc[c] = Σ cosine[c][b] band[b]                                  see `cosines`
//! delta[t] = (feature[t+1] - feature[t-1] + 2 (feature[t+2] - feature[t-2])) / 10,  first and last repeated
//! ```
//!
//! The floor of 1e-10 is below the power of 16-bit rounding. Nothing is drawn or dithered.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};
use serde::{Deserialize, Serialize};

use super::filters::{MelFilters, cosines};
use crate::error::{Error, Result};

const PRE_EMPHASIS: f32 = 0.97;

/// The power below which there is silence.
const FLOOR: f32 = 1e-10;

/// The longest transform. It is made longer than the window where bands would else be narrower than its steps.
const LONGEST: usize = 1 << 16;

/// More bands than hearing tells apart many times over.
const MOST_BANDS: usize = 512;

/// Frames to each side that a delta looks at.
const REACH: usize = 2;

/// What is computed of each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Features {
    /// The logarithm of the power in bands of the mel scale.
    LogMel {
        /// How many bands.
        bands: usize,
    },
    /// The first numbers of the cosine transform of these, the zeroth included (Davis and Mermelstein 1980).
    Mfcc {
        /// How many bands.
        bands: usize,
        /// How many numbers are kept, at most as many as bands.
        coefficients: usize,
    },
}

/// By what frames are normalised, each number for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// By the mean and deviation over the recording, which takes loudness, room and microphone away.
    Recording,
    /// By those over the training set.
    Corpus,
    /// Not at all.
    None,
}

/// How sound becomes frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrameOptions {
    /// Samples a second to which all sound is brought first.
    pub rate: u32,
    /// The length of a window in milliseconds.
    pub window_ms: f32,
    /// The time from one window to the next in milliseconds.
    pub step_ms: f32,
    /// What is computed of each window.
    pub features: Features,
    /// Whether how fast each number changes is put behind them, which doubles a frame.
    pub deltas: bool,
    /// By what frames are normalised.
    pub normalise: Normalise,
    /// How many frames are laid end to end as one row for the model, which then has as many fewer rows.
    pub stack: usize,
}

impl Default for FrameOptions {
    /// 40 log-mel bands of 25 ms every 10 ms at 16 kHz, normalised by recording.
    fn default() -> Self {
        Self {
            rate: 16_000,
            window_ms: 25.0,
            step_ms: 10.0,
            features: Features::LogMel { bands: 40 },
            deltas: false,
            normalise: Normalise::Recording,
            stack: 1,
        }
    }
}

impl FrameOptions {
    /// Whether frames can be made so.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] that names the option: a rate below 100 Hz or above 768 kHz, windows or steps of less than a
    /// sample or more than ten seconds, no band or more than the transform can part, too many coefficients, a stack of
    /// none or more than a thousand.
    pub fn check(&self) -> Result<()> {
        let refuse = |option: &str, what: String, mend: &str| Err(Error::unusable(option, what, mend));
        if !(100..=768_000).contains(&self.rate) {
            return refuse("rate", format!("{} Hz is no rate of sound", self.rate), "give 8000 or 16000");
        }
        for (option, milliseconds) in [("window_ms", self.window_ms), ("step_ms", self.step_ms)] {
            let samples = f64::from(milliseconds) * f64::from(self.rate) / 1000.0;
            if !(samples >= 1.0 && milliseconds <= 10_000.0 && samples <= LONGEST as f64) {
                let what = format!("{milliseconds} ms at {} Hz are too few or too many samples", self.rate);
                return refuse(option, what, "give a window of about 25 ms and a step of about 10 ms");
            }
        }
        let (Features::LogMel { bands } | Features::Mfcc { bands, .. }) = self.features;
        if bands == 0 || self.filters().is_none() {
            let what = format!("{bands} bands cannot be told apart at {} Hz", self.rate);
            return refuse("bands", what, "give 20 to 80");
        }
        if let Features::Mfcc { coefficients, .. } = self.features
            && !(1..=bands).contains(&coefficients)
        {
            return refuse("coefficients", format!("{coefficients} of {bands} bands"), "give 13, or at most the bands");
        }
        if !(1..=1000).contains(&self.stack) {
            return refuse("stack", format!("{} frames do not make a row", self.stack), "give 1 to 4");
        }
        Ok(())
    }

    /// Samples in a window.
    #[must_use]
    pub fn window(&self) -> usize {
        samples_in(self.window_ms, self.rate)
    }

    /// Samples from one window to the next.
    #[must_use]
    pub fn step(&self) -> usize {
        samples_in(self.step_ms, self.rate)
    }

    /// Numbers in the features of a window: bands or coefficients.
    #[must_use]
    pub fn feature_dim(&self) -> usize {
        match self.features {
            Features::LogMel { bands } => bands,
            Features::Mfcc { coefficients, .. } => coefficients,
        }
    }

    /// Numbers in a frame: its features and, if asked for, their deltas.
    #[must_use]
    pub fn frame_dim(&self) -> usize {
        self.feature_dim() * if self.deltas { 2 } else { 1 }
    }

    /// Numbers in a row for the model: [`stack`](Self::stack) frames.
    #[must_use]
    pub fn row_dim(&self) -> usize {
        self.frame_dim() * self.stack
    }

    /// How many frames so many samples at [`rate`](Self::rate) give: one for each step at which a whole window begins, at
    /// least one if there is a sample.
    #[must_use]
    pub fn frame_count(&self, samples: usize) -> usize {
        match samples.checked_sub(self.window()) {
            Some(rest) => 1 + rest / self.step(),
            None => usize::from(samples > 0),
        }
    }

    /// The filters, and by them the size of the transform: the next power of two at which no band is empty.
    fn filters(&self) -> Option<(MelFilters, usize)> {
        let (Features::LogMel { bands } | Features::Mfcc { bands, .. }) = self.features;
        let mut size = self.window().next_power_of_two().max(4);
        while bands <= MOST_BANDS && size <= LONGEST {
            if let Some(filters) = MelFilters::new(bands, self.rate, size) {
                return Some((filters, size));
            }
            size *= 2;
        }
        None
    }
}

fn samples_in(milliseconds: f32, rate: u32) -> usize {
    ((f64::from(milliseconds) * f64::from(rate) / 1000.0).round() as usize).max(1)
}

/// Turns samples at [`FrameOptions::rate`] into frames, block by block, in the memory of a window.
///
/// A clone shares what was prepared, so that threads each take one.
#[derive(Clone)]
pub struct Framer {
    plan: Arc<Plan>,
    /// Samples from the next window's first one on.
    held: Vec<f32>,
    /// Samples yet to come before the next window, where steps are longer than windows.
    skip: usize,
    /// Whether there was a sample, and whether there was a frame.
    started: bool,
    framed: bool,
    deltas: Option<Deltas>,
    room: Room,
}

/// What is the same for all recordings.
struct Plan {
    window: Vec<f32>,
    step: usize,
    transform: Arc<dyn RealToComplex<f32>>,
    filters: MelFilters,
    bands: usize,
    /// `[coefficients, bands]`; empty if the bands themselves are wanted.
    cosines: Vec<f32>,
}

/// Where a window is worked on.
#[derive(Clone)]
struct Room {
    windowed: Vec<f32>,
    spectrum: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    power: Vec<f32>,
    bands: Vec<f32>,
    features: Vec<f32>,
}

impl Framer {
    /// Prepares windows, transform and filters.
    ///
    /// # Errors
    ///
    /// As [`FrameOptions::check`].
    pub fn new(options: &FrameOptions) -> Result<Self> {
        options.check()?;
        let refusal = || Error::unusable("bands", "cannot be told apart", "give 20 to 80");
        let (filters, size) = options.filters().ok_or_else(refusal)?;
        let length = options.window();
        let hann = |n: usize| (0.5 - 0.5 * (std::f64::consts::TAU * n as f64 / length as f64).cos()) as f32;
        let transform = RealFftPlanner::<f32>::new().plan_fft_forward(size);
        let (bands, kept) = match options.features {
            Features::LogMel { bands } => (bands, Vec::new()),
            Features::Mfcc { bands, coefficients } => (bands, cosines(coefficients, bands)),
        };
        let room = Room {
            windowed: transform.make_input_vec(),
            spectrum: transform.make_output_vec(),
            scratch: transform.make_scratch_vec(),
            power: vec![0.0; size / 2 + 1],
            bands: Vec::new(),
            features: Vec::new(),
        };
        let window = (0..length).map(hann).collect();
        let plan = Plan { window, step: options.step(), transform, filters, bands, cosines: kept };
        let deltas = options.deltas.then(|| Deltas::new(options.feature_dim()));
        Ok(Self { plan: Arc::new(plan), held: Vec::new(), skip: 0, started: false, framed: false, deltas, room })
    }

    /// Takes some samples and appends the frames that they complete, `[frames, frame_dim]`. Deltas come two frames later.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.started |= !samples.is_empty();
        let skipped = self.skip.min(samples.len());
        self.skip -= skipped;
        self.held.extend_from_slice(&samples[skipped..]);
        let (window, step) = (self.plan.window.len(), self.plan.step);
        let mut start = 0;
        while start + window <= self.held.len() {
            self.plan.features(&self.held[start..start + window], &mut self.room);
            self.hand_on(out);
            start += step;
        }
        let gone = start.min(self.held.len());
        self.held.drain(..gone);
        self.skip += start - gone;
    }

    /// Appends what is left: of a recording shorter than a window the one frame that it has, filled up with silence. Then
    /// another recording may begin.
    pub fn finish(&mut self, out: &mut Vec<f32>) {
        if self.started && !self.framed {
            let mut held = std::mem::take(&mut self.held);
            held.resize(self.plan.window.len(), 0.0);
            self.plan.features(&held, &mut self.room);
            self.hand_on(out);
        }
        if let Some(deltas) = &mut self.deltas {
            deltas.finish(out);
        }
        self.held.clear();
        (self.skip, self.started, self.framed) = (0, false, false);
    }

    fn hand_on(&mut self, out: &mut Vec<f32>) {
        self.framed = true;
        match &mut self.deltas {
            Some(deltas) => deltas.push(&self.room.features, out),
            None => out.extend_from_slice(&self.room.features),
        }
    }
}

impl Plan {
    /// Computes `room.features` of a window of samples.
    fn features(&self, samples: &[f32], room: &mut Room) {
        room.windowed.fill(0.0);
        let mut before = samples[0];
        for ((place, &sample), window) in room.windowed.iter_mut().zip(samples).zip(&self.window) {
            *place = (sample - PRE_EMPHASIS * before) * window;
            before = sample;
        }
        // It only fails if the lengths are not its own, which they are.
        let done = self.transform.process_with_scratch(&mut room.windowed, &mut room.spectrum, &mut room.scratch);
        debug_assert!(done.is_ok());
        for (power, bin) in room.power.iter_mut().zip(&room.spectrum) {
            *power = bin.norm_sqr();
        }
        room.bands.clear();
        self.filters.apply(&room.power, &mut room.bands);
        room.bands.iter_mut().for_each(|band| *band = band.max(FLOOR).ln());
        room.features.clear();
        if self.cosines.is_empty() {
            room.features.extend_from_slice(&room.bands);
        } else {
            let rows = self.cosines.chunks_exact(self.bands);
            let product = |row: &[f32]| row.iter().zip(&room.bands).map(|(a, b)| a * b).sum::<f32>();
            room.features.extend(rows.map(product));
        }
    }
}

/// Puts how fast features change behind them. A frame is handed on once it is known what comes two frames later.
#[derive(Debug, Clone)]
struct Deltas {
    dim: usize,
    /// Up to five frames of features, the last one the latest.
    recent: Vec<f32>,
}

impl Deltas {
    fn new(dim: usize) -> Self {
        Self { dim, recent: Vec::new() }
    }

    fn push(&mut self, features: &[f32], out: &mut Vec<f32>) {
        if self.recent.is_empty() {
            (0..REACH).for_each(|_| self.recent.extend_from_slice(features));
        }
        self.recent.extend_from_slice(features);
        let five = (2 * REACH + 1) * self.dim;
        if self.recent.len() < five {
            return;
        }
        let at = |frame: usize, place: usize| self.recent[frame * self.dim + place];
        out.extend((0..self.dim).map(|place| at(2, place)));
        out.extend(
            (0..self.dim).map(|place| ((at(3, place) - at(1, place)) + 2.0 * (at(4, place) - at(0, place))) / 10.0),
        );
        self.recent.drain(..self.dim);
    }

    fn finish(&mut self, out: &mut Vec<f32>) {
        if !self.recent.is_empty() {
            let last = self.recent[self.recent.len() - self.dim..].to_vec();
            (0..REACH).for_each(|_| self.push(&last, out));
        }
        self.recent.clear();
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
