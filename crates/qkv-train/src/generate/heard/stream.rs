//! Listening: units come out as sound goes in, in the memory of a piece.
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

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use qkv::Offsets;
use qkv_data::Source;
use qkv_data::audio::{FrameStream, SoundStream};
use qkv_nn::layers::Pass;
use serde_json::json;

use super::Transcriber;
use super::ctc::CtcGreedy;
use super::task::BLANK;
use crate::error::{Result, gone};
use crate::input::{Batch, Reader, VectorBatch};
use crate::model::{Predicted, Style, Watch};
use crate::numbers::floats;

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

impl Transcriber {
    /// Writes what is said in the sound of standard input, of a model whose vectors depend on `reach` to each side.
    pub(super) fn listen(
        &self,
        reach: usize,
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        self.listen_to((SoundStream::open(&Source::Stdin)?, reach), style, out, stop, watch)
    }

    pub(super) fn listen_to(
        &self,
        (mut sound, reach): (SoundStream, usize),
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        let Reader::Sounds(options) = &self.reader else { unreachable!("what hears reads sounds") };
        let mut frames = FrameStream::new(&options.frames, sound.rate(), Some(&options.scale))?;
        let group = 1 << self.recipe.input.convolutions;
        // (a convolution sees a vector more)
        let reach = reach + usize::from(group > 1);
        let mut window = Window { rows: Vec::new(), dim: options.frames.row_dim(), group, reach, given: 0 };
        let seconds = f64::from(options.frames.step_ms) / 1000.0 * (options.frames.stack * group) as f64;
        let mut words = Words { codec: &self.codec, style, ids: Vec::new(), text: String::new(), seconds };
        let mut greedy = CtcGreedy::new(BLANK);
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
                let values = window.rows[..count * window.dim].to_vec();
                let offsets = Offsets::from_lengths([count]);
                let batch = Batch::Vectors(VectorBatch { values, dim: window.dim, offsets, grids: Vec::new() });
                let (logits, offsets) = qkv::awake(|| self.model.forward(&batch, &Pass::inference()));
                let classes = self.codec.len();
                let logits = floats(logits.into_data());
                let given = window.given..if at_end { offsets.tokens() } else { offsets.tokens() - reach };
                for vector in given.clone() {
                    if let Some(id) = greedy.push(&logits[vector * classes..][..classes]) {
                        let written = words.push(id, before + vector - given.start, out);
                        if gone(written)? {
                            return Ok(done);
                        }
                    }
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
        gone(words.finish(out))?;
        Ok(done)
    }
}

/// Writes units as they are heard.
struct Words<'a> {
    codec: &'a qkv_data::Codec,
    style: Style,
    ids: Vec<u32>,
    /// What was written so far.
    text: String,
    /// Seconds of a vector.
    seconds: f64,
}

impl Words<'_> {
    fn push(&mut self, id: u32, vector: usize, out: &mut dyn Write) -> io::Result<()> {
        self.ids.push(id);
        let text = self.codec.decode(&self.ids);
        // A unit may be a piece of a word, with or without a space before it.
        let new = text.strip_prefix(self.text.as_str()).unwrap_or(&text).to_string();
        match self.style {
            Style::Same => write!(out, "{new}")?,
            Style::Json => {
                let at = (vector as f64 * self.seconds * 1000.0).round() / 1000.0;
                writeln!(out, "{}", json!({ "unit": new.trim(), "seconds": at }))?;
            }
        }
        self.text = text;
        // Only the last unit decides how the next is joined to it.
        if self.ids.len() > KEPT {
            self.ids.drain(..KEPT / 2);
            self.text = self.codec.decode(&self.ids);
        }
        out.flush()
    }

    fn finish(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.style == Style::Same {
            writeln!(out)?;
        }
        out.flush()
    }
}

/// Units whose text is kept.
const KEPT: usize = 64;
