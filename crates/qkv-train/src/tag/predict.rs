//! Predicting from a stream: as fast as a batch where there is much, at once where there is little, in bounded memory.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use qkv_data::{Column, Sentence, stream, write_labelled};

use super::Tagger;
use crate::arrivals::Arrivals;
use crate::error::{Result, gone};
use crate::longest::check_longest;
use crate::model::{FileKind, Predicted, Style, Watch};

/// Words taken into memory at once, in batches.
const CHUNK_BATCHES: usize = 8;

impl Tagger {
    /// Reads sentences from `source`, a path or `-`, and writes them with their labels to `out`, in their order.
    ///
    /// Whatever has arrived is predicted and written at once, so a slow writer at the other end of a pipe is answered line
    /// by line. `watch` is called after each chunk.
    ///
    /// # Errors
    /// If the source cannot be read; what was read before is written. If `out` refuses, unless its reader has gone, which
    /// ends the work in peace.
    pub fn predict_stream(
        &self,
        source: &str,
        kind: FileKind,
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        let (name, options, column) = (source.to_string(), self.prediction_options(kind)?, self.column()?);
        let sentences = Arrivals::of(move || stream(&name, &options));
        let limit = CHUNK_BATCHES * self.recipe().decoding.batch_tokens;
        let mut done = Predicted::default();
        // Words that came with a label, and those of them whose label is one that the model gives.
        let (mut replaced, mut known) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            let (chunk, end) = sentences.take(limit, |sentence: &Sentence| sentence.words.len(), stop);
            check_longest(self.recipe(), source, done.examples, chunk.iter().map(|sentence| sentence.words.len()))?;
            done.examples += chunk.len();
            done.tokens += chunk.iter().map(|sentence| sentence.words.len()).sum::<usize>();
            for label in chunk.iter().filter_map(|sentence| sentence.labels.as_ref()).flatten() {
                replaced += 1;
                known += usize::from(self.gives(label));
            }
            if gone(self.write(&chunk, column, style, out))? {
                return Ok(done);
            }
            watch(done.examples, done.tokens);
            match end {
                None => {}
                Some(Ok(())) => break,
                Some(Err(e)) => return Err(e),
            }
        }
        if replaced > 0 && known == 0 {
            done.warnings.push(format!(
                "none of the labels that stood in {source} is one of this model's: was it this column, and this file, that should be filled?"
            ));
        }
        if done.examples == 0 && !stop.load(Ordering::Relaxed) {
            done.warnings.push(format!("{source}: there is no sentence in it"));
        }
        Ok(done)
    }

    fn write(&self, sentences: &[Sentence], column: Column, style: Style, out: &mut dyn Write) -> io::Result<()> {
        for (sentence, labels) in sentences.iter().zip(self.predict(sentences)) {
            match style {
                Style::Same => write_labelled(sentence, column, &labels, out).map_err(|e| match e {
                    qkv_data::Error::Io { source, .. } => source,
                    other => io::Error::other(other),
                })?,
                Style::Json => {
                    let line = serde_json::json!({ "words": sentence.words, "labels": labels });
                    writeln!(out, "{line}")?;
                }
            }
        }
        out.flush()
    }
}
