//! Listening: what a model says of sound comes out as the sound goes in, in the memory of a piece.
//!
//! ```text
//! rows      ──┬────────────┬─────────────────┬────────────┬──▶ as they come
//!             │  reach     │      piece      │  reach     │
//!             └────────────┴─────────────────┴────────────┘     goes through the model
//!                           └── its logits are kept ──┘
//! ```
//!
//! Where a vector's logits depend on so many vectors to each side and on no place, those of a piece in the middle are those that the
//! whole recording would give. So what is heard is the same, a reach and a piece after it was said.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use qkv::Offsets;
use qkv_data::audio::{FrameStream, SoundStream};
use qkv_nn::layers::Pass;

use crate::each::EachModel;
use crate::error::{Result, gone};
use crate::input::{Batch, SoundOptions, VectorBatch};
use crate::model::{Predicted, Watch};
use crate::numbers::floats;
use crate::recipe::{Mixer, Normalise, Positions, Recipe};

/// Vectors of a piece at least: so many that what is computed twice at its ends is little.
const PIECE: usize = 32;

/// The rows of a stream that the model still needs.
struct Window {
    rows: Vec<f32>,
    dim: usize,
    /// Rows for one vector of the encoder.
    group: usize,
    /// Vectors to each side that a vector depends on.
    reach: usize,
    /// Vectors at the beginning of `rows` whose logits are given already.
    given: usize,
}

impl Window {
    /// How many whole vectors there are.
    fn vectors(&self) -> usize {
        self.rows.len() / self.dim / self.group
    }

    /// Whether a piece can go through the model.
    fn is_ready(&self) -> bool {
        self.vectors() >= self.given + self.reach.max(PIECE) + self.reach
    }

    /// Lets go of what no vector to come depends on. `until` is behind the last that was given.
    fn advance(&mut self, until: usize) {
        let gone = until.saturating_sub(self.reach);
        self.rows.drain(..gone * self.group * self.dim);
        self.given = until - gone;
    }
}

/// A model that listens.
pub(crate) struct Listener<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) options: &'a SoundOptions,
    pub(crate) model: &'a EachModel,
    /// Vectors to each side that a vector depends on, see [`reach`].
    pub(crate) reach: usize,
}

impl Listener<'_> {
    /// Lets `sound` through the model. `take` gets the logits of the vectors that are sure, end to end, and the number of the first.
    ///
    /// # Errors
    /// If the sound cannot be read; what was heard before was taken. If `take` fails, unless because the reader of what it writes has
    /// gone, which ends the work in peace.
    pub(crate) fn listen(
        &self,
        mut sound: SoundStream,
        take: &mut dyn FnMut(usize, &[f32]) -> io::Result<()>,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        let mut frames = FrameStream::new(&self.options.frames, sound.rate(), Some(&self.options.scale))?;
        let group = 1 << self.recipe.input.convolutions;
        // (a convolution sees a vector more)
        let reach = self.reach + usize::from(group > 1);
        let mut window = Window { rows: Vec::new(), dim: self.options.frames.row_dim(), group, reach, given: 0 };
        let (mut done, mut before) = (Predicted { examples: 1, ..Predicted::default() }, 0);
        let mut at_end = false;
        while !at_end && !stop.load(Ordering::Relaxed) {
            match sound.next_block()? {
                Some(block) => frames.push(block, &mut window.rows),
                None => {
                    frames.finish(&mut window.rows);
                    at_end = true;
                }
            }
            while window.is_ready() || (at_end && !window.rows.is_empty()) {
                let count = if at_end { window.rows.len() / window.dim } else { window.vectors() * group };
                let batch = VectorBatch {
                    values: window.rows[..count * window.dim].to_vec(),
                    dim: window.dim,
                    offsets: Offsets::from_lengths([count]),
                    grids: Vec::new(),
                    targets: Vec::new(),
                };
                let (logits, offsets) = qkv::awake(|| self.model.forward(&Batch::Vectors(batch), &Pass::inference()));
                let [_, classes] = logits.dims();
                let logits = floats(logits.into_data());
                let given = window.given..if at_end { offsets.tokens() } else { offsets.tokens() - reach };
                if gone(take(before, &logits[given.start * classes..given.end * classes]))? {
                    return Ok(done);
                }
                before += given.len();
                done.tokens += if at_end { count - window.given * group } else { given.len() * group };
                watch(done.examples, done.tokens);
                if at_end {
                    break;
                }
                window.advance(given.end);
            }
        }
        Ok(done)
    }
}

/// When the vectors are that come out of a model of sound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The middle of the first, in seconds.
    middle: f64,
    /// Seconds from one to the next.
    pub(crate) step: f64,
}

impl Clock {
    pub(crate) fn of(recipe: &Recipe, options: &SoundOptions) -> Self {
        let (frames, stack) = (&options.frames, options.frames.stack as f64);
        let [step, window] = [frames.step(), frames.window()].map(|samples| samples as f64 / f64::from(frames.rate));
        let halvings = recipe.input.convolutions as i32;
        Self { middle: (stack - 1.0) / 2.0 * step + window / 2.0, step: step * stack * 2.0_f64.powi(halvings) }
    }

    /// When a vector begins, half way from the one before it, to the millisecond.
    pub(crate) fn start(&self, vector: usize) -> f64 {
        let seconds = self.middle + (vector as f64 - 0.5) * self.step;
        if vector == 0 { 0.0 } else { (seconds.max(0.0) * 1000.0).round() / 1000.0 }
    }
}

/// How many vectors to each side of a vector its logits depend on, where that is bounded and places do not count: then a piece of a
/// recording is heard as the whole is.
pub(crate) fn reach(recipe: &Recipe) -> Option<usize> {
    let model = &recipe.model;
    if matches!(model.positions, Positions::Sinusoidal | Positions::Learned)
        || recipe.input.normalise == Normalise::Recording
    {
        return None;
    }
    match model.mixer {
        Mixer::None => Some(0),
        Mixer::Window => Some(model.window.unwrap_or(2)),
        Mixer::Cnn => Some(model.layers * model.window.unwrap_or(1)),
        Mixer::Attention => model.window.map(|window| model.layers * window),
        _ => None,
    }
}
