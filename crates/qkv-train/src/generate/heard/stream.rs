//! Listening: units come out as sound goes in.

use std::io::{self, Write};
use std::sync::atomic::AtomicBool;

use qkv_data::Source;
use qkv_data::audio::SoundStream;
use serde_json::json;

use super::Transcriber;
use super::ctc::CtcGreedy;
use super::task::BLANK;
use crate::error::{Result, gone};
use crate::input::Reader;
use crate::listen::{Clock, Listener};
use crate::model::{Predicted, Style, Watch};

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
        (sound, reach): (SoundStream, usize),
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        let Reader::Sounds(options) = &self.reader else { unreachable!("what hears reads sounds") };
        let seconds = Clock::of(&self.recipe, options).step;
        let mut words = Words { codec: &self.codec, style, ids: Vec::new(), text: String::new(), seconds };
        let mut greedy = CtcGreedy::new(BLANK);
        let classes = self.codec.len();
        let listener = Listener { recipe: &self.recipe, options, model: &self.model, reach };
        let mut take = |first: usize, logits: &[f32]| {
            for (vector, row) in (first..).zip(logits.chunks_exact(classes)) {
                if let Some(id) = greedy.push(row) {
                    words.push(id, vector, out)?;
                }
            }
            Ok(())
        };
        let done = listener.listen(sound, &mut take, stop, watch)?;
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
