//! The steps from samples to rows, put together: for a stream, and for a whole recording.

use super::frames::{FrameOptions, Framer, Normalise};
use super::normalise::{RunningScale, Scale};
use super::resample::Resampler;
use crate::error::{Error, Result};

/// As how many frames a training set's scale counts at the start of a stream that is normalised as a recording.
const KNOWN_FRAMES: usize = 100;

/// Lays frames end to end. Of frames that do not fill the last row zeros are appended, which after normalising is the mean.
#[derive(Debug, Clone)]
pub struct Stacker {
    row: usize,
    held: Vec<f32>,
}

impl Stacker {
    /// Rows of `stack` frames of `dim` numbers.
    #[must_use]
    pub fn new(stack: usize, dim: usize) -> Self {
        Self { row: (stack * dim).max(1), held: Vec::new() }
    }

    /// Takes some frames and appends the rows that they fill.
    pub fn push(&mut self, frames: &[f32], out: &mut Vec<f32>) {
        self.held.extend_from_slice(frames);
        let full = self.held.len() / self.row * self.row;
        out.extend(self.held.drain(..full));
    }

    /// Appends the last row, filled up, after which others may begin.
    pub fn finish(&mut self, out: &mut Vec<f32>) {
        if !self.held.is_empty() {
            self.held.resize(self.row, 0.0);
            out.append(&mut self.held);
        }
    }
}

/// The rows of a whole recording's `frames`, `[frames, dim]`: `stack` of them each.
#[must_use]
pub fn stack(frames: &[f32], dim: usize, stack: usize) -> Vec<f32> {
    let (mut stacker, mut out) = (Stacker::new(stack, dim), Vec::new());
    stacker.push(frames, &mut out);
    stacker.finish(&mut out);
    out
}

/// Samples of a stream to rows for a model, block by block: resampled, framed, normalised and stacked.
///
/// With [`Normalise::Corpus`] or none the rows are to the bit those of the whole recording. With
/// [`Normalise::Recording`], which would have to know the future, frames are normalised by a [`RunningScale`].
#[derive(Clone)]
pub struct FrameStream {
    resampler: Resampler,
    framer: Framer,
    scaling: Scaling,
    stacker: Stacker,
    samples: Vec<f32>,
    frames: Vec<f32>,
}

#[derive(Clone)]
enum Scaling {
    None,
    Fixed(Scale),
    Running(RunningScale),
}

impl FrameStream {
    /// For samples at `rate`. `scale` is that of the training set, which every way to normalise needs here.
    ///
    /// # Errors
    ///
    /// As [`FrameOptions::check`]; a rate of 0; a scale that is missing, broken, or for frames of another size.
    pub fn new(options: &FrameOptions, rate: u32, scale: Option<&Scale>) -> Result<Self> {
        let framer = Framer::new(options)?;
        check_rate(rate)?;
        let scaling = match options.normalise {
            Normalise::None => Scaling::None,
            Normalise::Corpus => Scaling::Fixed(known(options, scale)?.clone()),
            Normalise::Recording => Scaling::Running(RunningScale::new(known(options, scale)?, KNOWN_FRAMES)),
        };
        Ok(Self {
            resampler: Resampler::new(rate, options.rate),
            framer,
            scaling,
            stacker: Stacker::new(options.stack, options.frame_dim()),
            samples: Vec::new(),
            frames: Vec::new(),
        })
    }

    /// Takes some samples and appends the rows that they complete, `[rows, row_dim]`.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.samples.clear();
        self.resampler.push(samples, &mut self.samples);
        self.frames.clear();
        self.framer.push(&self.samples, &mut self.frames);
        self.hand_on(out);
    }

    /// Appends what is left, after which another stream may begin.
    pub fn finish(&mut self, out: &mut Vec<f32>) {
        self.samples.clear();
        self.resampler.finish(&mut self.samples);
        self.frames.clear();
        self.framer.push(&self.samples, &mut self.frames);
        self.framer.finish(&mut self.frames);
        self.hand_on(out);
        self.stacker.finish(out);
        if let Scaling::Running(running) = &mut self.scaling {
            running.restart();
        }
    }

    fn hand_on(&mut self, out: &mut Vec<f32>) {
        match &mut self.scaling {
            Scaling::None => {}
            Scaling::Fixed(scale) => scale.apply(&mut self.frames),
            Scaling::Running(running) => running.apply(&mut self.frames),
        }
        self.stacker.push(&self.frames, out);
    }
}

impl FrameOptions {
    /// The frames of a whole recording with samples at `rate`, `[frames, frame_dim]`: resampled, framed and normalised, but
    /// not stacked, since [masks](super::mask()) come before. `scale` is needed for [`Normalise::Corpus`] alone.
    ///
    /// # Errors
    ///
    /// As [`FrameStream::new`].
    pub fn frames_of(&self, samples: &[f32], rate: u32, scale: Option<&Scale>) -> Result<Vec<f32>> {
        let mut framer = Framer::new(self)?;
        check_rate(rate)?;
        let mut resampler = Resampler::new(rate, self.rate);
        let (mut resampled, mut frames) = (Vec::new(), Vec::new());
        resampler.push(samples, &mut resampled);
        resampler.finish(&mut resampled);
        framer.push(&resampled, &mut frames);
        framer.finish(&mut frames);
        match self.normalise {
            Normalise::None => {}
            Normalise::Corpus => known(self, scale)?.apply(&mut frames),
            Normalise::Recording => Scale::recording(&mut frames, self.frame_dim()),
        }
        Ok(frames)
    }
}

fn check_rate(rate: u32) -> Result<()> {
    match rate {
        0 => Err(Error::unusable("the sound", "has 0 samples a second", "give the rate at which it was recorded")),
        _ => Ok(()),
    }
}

fn known<'a>(options: &FrameOptions, scale: Option<&'a Scale>) -> Result<&'a Scale> {
    let refuse = |what: String| Error::unusable("the scale of the training set", what, "train the model anew");
    match scale {
        None => Err(refuse("is not there".to_owned())),
        Some(scale) if !scale.is_sound() => Err(refuse("is broken".to_owned())),
        Some(scale) if scale.dim() != options.frame_dim() => {
            Err(refuse(format!("is for frames of {} numbers, these have {}", scale.dim(), options.frame_dim())))
        }
        Some(scale) => Ok(scale),
    }
}
