//! Writing from a stream: as fast as a batch where there is much, at once where there is little, in bounded memory, in order.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use qkv_data::{Pair, stream_pairs};
use serde_json::json;

use super::Translator;
use super::data::Sources;
use super::translator::Translation;
use crate::arrivals::Arrivals;
use crate::error::{Result, gone};
use crate::input::Reader;
use crate::longest::check_longest;
use crate::model::{FileKind, Predicted, Style, Watch};

/// Batches taken into memory at once.
const CHUNK_BATCHES: usize = 8;

impl Translator {
    /// Reads texts from `source`, a path or `-`, one on each line or as pairs are written, and writes what the model makes of each
    /// to `out`, in their order, one on each line. Of pictures and recordings `source` is a file, a folder or a manifest.
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
        if let Some(reader) = self.reader() {
            return self.predict_files(reader, source, style, out, stop, watch);
        }
        let (paths, options) = ([source.to_string()], self.source_options(kind)?);
        let arrivals = Arrivals::of(move || stream_pairs(&paths, &options));
        let limit = CHUNK_BATCHES * self.recipe().decoding.batch_tokens;
        let mut done = Predicted::default();
        let (mut units, mut unknown) = (0, 0);
        let mut cut = Cut::default();
        while !stop.load(Ordering::Relaxed) {
            let (chunk, end) = arrivals.take(limit, |pair: &Pair| 1 + pair.source.len() / 4, stop);
            let sources = self.sources(chunk.iter().map(|pair| pair.source.as_str()));
            check_longest(self.recipe(), source, done.examples, sources.lengths())?;
            let (of_these, all) = sources.unknown();
            (unknown, units) = (unknown + of_these, units + all);
            let (sources, stopped) = (Sources::Units(sources), || stop.load(Ordering::Relaxed));
            let mut texts = self.translate_from(done.examples as u64, &sources, 0..sources.len(), &stopped);
            if stop.load(Ordering::Relaxed) {
                // What was cut short is not what the model would have written.
                break;
            }
            for (pair, texts) in chunk.iter().zip(&mut texts) {
                if pair.source.trim().is_empty() {
                    *texts = vec![Translation::nothing()];
                }
                if gone(write(("source", &pair.source), texts, style, self.recipe().decoding.beam > 1, out))? {
                    return Ok(done);
                }
                done.tokens += texts.first().map_or(0, |best| best.units);
                cut.count(texts.first());
            }
            if gone(out.flush())? {
                return Ok(done);
            }
            done.examples += chunk.len();
            watch(done.examples, done.tokens);
            match end {
                None => {}
                Some(Ok(())) => break,
                Some(Err(e)) => return Err(e),
            }
        }
        done.warnings.extend(cut.warning(source, self.recipe().decoding.max_length));
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

    /// The same for pictures or recordings: each is called by the name of its file.
    fn predict_files(
        &self,
        reader: &Reader,
        source: &str,
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        let limit = CHUNK_BATCHES * self.recipe().decoding.batch_tokens;
        let (mut done, mut cut) = (Predicted::default(), Cut::default());
        for examples in reader.pieces(self.recipe(), source)? {
            let examples = examples?;
            let (first, lengths) = (done.examples, examples.sets.lengths());
            check_longest(self.recipe(), source, first, lengths.iter().copied())?;
            let sources = Sources::Sets(examples.sets);
            while done.examples - first < lengths.len() {
                let start = done.examples - first;
                let mut taken = 0;
                let fits = |length: &&usize| {
                    taken += **length;
                    taken <= limit
                };
                // One at least, however long.
                let chunk = start..start + lengths[start..].iter().take_while(fits).count().max(1);
                let stopped = || stop.load(Ordering::Relaxed);
                let texts = self.translate_from(first as u64, &sources, chunk.clone(), &stopped);
                if stopped() {
                    // What was cut short is not what the model would have written.
                    return Ok(done);
                }
                let mut write_chunk = || {
                    for (example, texts) in examples.labelled[chunk.clone()].iter().zip(&texts) {
                        write(("file", &example.text), texts, style, self.recipe().decoding.beam > 1, out)?;
                    }
                    out.flush()
                };
                if gone(write_chunk())? {
                    return Ok(done);
                }
                for texts in &texts {
                    done.tokens += texts.first().map_or(0, |best| best.units);
                    cut.count(texts.first());
                }
                done.examples = first + chunk.end;
                watch(done.examples, done.tokens);
            }
        }
        done.warnings.extend(cut.warning(source, self.recipe().decoding.max_length));
        Ok(done)
    }
}

/// How many texts were cut at the limit of their length.
#[derive(Default)]
struct Cut {
    written: usize,
    cut: usize,
    first: Option<usize>,
}

impl Cut {
    fn count(&mut self, best: Option<&Translation>) {
        self.written += 1;
        if best.is_some_and(|best| !best.complete) {
            self.cut += 1;
            self.first.get_or_insert(self.written);
        }
    }

    fn warning(&self, source: &str, limit: usize) -> Option<String> {
        let Self { written, cut, first } = self;
        first.map(|first| {
            format!(
                "{source}: {cut} of {written} texts (the first is number {first}) had not come to an end at decoding.max_length = {limit} and were cut there"
            )
        })
    }
}

/// One line for the texts that were written from what is called `source`, best first.
fn write(
    (key, source): (&str, &str),
    texts: &[Translation],
    style: Style,
    alternatives: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Some(best) = texts.first() else { return writeln!(out) };
    match style {
        // A line for a line, whatever was written.
        Style::Same => writeln!(out, "{}", best.text.replace(['\n', '\r'], " ")),
        Style::Json => {
            let one = |text: &Translation| json!({ "text": text.text, "log_probability": text.log_probability, "complete": text.complete });
            let mut object = json!({
                key: source, "text": best.text,
                "log_probability": best.log_probability, "complete": best.complete,
            });
            if alternatives {
                object["alternatives"] = texts[1..].iter().map(one).collect();
            }
            writeln!(out, "{object}")
        }
    }
}
