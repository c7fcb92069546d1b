//! Writing from a stream: as fast as a batch where there is much, at once where there is little, in bounded memory, in order.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use qkv_data::{Pair, stream_pairs};
use serde_json::json;

use super::Translator;
use super::translator::Translation;
use crate::arrivals::Arrivals;
use crate::error::{Error, Result};
use crate::longest::check_longest;
use crate::model::{FileKind, Predicted, Style, Watch};

/// Batches taken into memory at once.
const CHUNK_BATCHES: usize = 8;

impl Translator {
    /// Reads texts from `source`, a path or `-`, one on each line or as pairs are written, and writes what the model makes of each
    /// to `out`, in their order, one on each line.
    ///
    /// Whatever has arrived is answered at once, so a slow writer at the other end of a pipe is answered line by line. `watch` is
    /// called after each chunk. A blank line is answered with a blank line, so that there are as many of one as of the other.
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
        let (paths, options) = ([source.to_string()], self.source_options(kind)?);
        let arrivals = Arrivals::of(move || stream_pairs(&paths, &options));
        let limit = CHUNK_BATCHES * self.recipe().decoding.batch_tokens;
        let mut done = Predicted::default();
        let (mut written, mut cut, mut units, mut unknown) = (0_usize, 0_usize, 0, 0);
        let mut first_cut = None;
        while !stop.load(Ordering::Relaxed) {
            let (chunk, end) = arrivals.take(limit, |pair: &Pair| 1 + pair.source.len() / 4, stop);
            let sources = self.sources(chunk.iter().map(|pair| pair.source.as_str()));
            check_longest(self.recipe(), source, done.examples, sources.lengths())?;
            let (of_these, all) = sources.unknown();
            (unknown, units) = (unknown + of_these, units + all);
            let mut texts = self.translate_from(done.examples as u64, &sources, &|| stop.load(Ordering::Relaxed));
            if stop.load(Ordering::Relaxed) {
                // What was cut short is not what the model would have written.
                break;
            }
            for (pair, texts) in chunk.iter().zip(&mut texts) {
                if pair.source.trim().is_empty() {
                    *texts = vec![Translation::nothing()];
                }
                match write(pair, texts, style, self.recipe().decoding.beam > 1, out) {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(done),
                    Err(e) => return Err(Error::output(&e)),
                }
                let best = texts.first();
                done.tokens += best.map_or(0, |best| best.units);
                written += 1;
                if best.is_some_and(|best| !best.complete) {
                    cut += 1;
                    first_cut.get_or_insert(written);
                }
            }
            match out.flush() {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(done),
                Err(e) => return Err(Error::output(&e)),
            }
            done.examples += chunk.len();
            watch(done.examples, done.tokens);
            match end {
                None => {}
                Some(Ok(())) => break,
                Some(Err(e)) => return Err(e),
            }
        }
        if let Some(first) = first_cut {
            done.warnings.push(format!(
                "{source}: {cut} of {written} texts (the first is number {first}) had not come to an end at decoding.max_length = {} and were cut there",
                self.recipe().decoding.max_length
            ));
        }
        if unknown > 0 {
            done.warnings.push(format!(
                "{source}: {unknown} of {units} units are unknown to the model and read as one and the same"
            ));
        }
        if done.examples == 0 && !stop.load(Ordering::Relaxed) {
            done.warnings.push(format!("{source}: there is no text in it"));
        }
        Ok(done)
    }
}

fn write(pair: &Pair, texts: &[Translation], style: Style, alternatives: bool, out: &mut dyn Write) -> io::Result<()> {
    let Some(best) = texts.first() else { return writeln!(out) };
    match style {
        // A line for a line, whatever was written.
        Style::Same => writeln!(out, "{}", best.text.replace(['\n', '\r'], " ")),
        Style::Json => {
            let one = |text: &Translation| json!({ "text": text.text, "log_probability": text.log_probability, "complete": text.complete });
            let mut object = json!({
                "source": pair.source, "text": best.text,
                "log_probability": best.log_probability, "complete": best.complete,
            });
            if alternatives {
                object["alternatives"] = texts[1..].iter().map(one).collect();
            }
            writeln!(out, "{object}")
        }
    }
}
