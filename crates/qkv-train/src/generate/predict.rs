//! Going on with prompts from a stream, each as it comes.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use qkv_data::Source;
use qkv_data::source::Line;

use super::Generator;
use super::generator::check_format;
use crate::arrivals::Arrivals;
use crate::error::{Error, Result};
use crate::model::{FileKind, Predicted, Style, Watch};

impl Generator {
    /// Reads prompts from `source`, a path or `-`, one on each line, and writes each with what follows it to `out`, a unit
    /// at a time.
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
        check_format(kind.format)?;
        let (name, encoding) = (source.to_string(), self.encoding(kind));
        let prompts = Arrivals::of(move || {
            let mut lines = Source::parse(&name).open(encoding.as_deref())?;
            Ok(std::iter::from_fn(move || lines.next_line().transpose()))
        });
        let mut done = Predicted::default();
        while !stop.load(Ordering::Relaxed) {
            let (lines, end) = prompts.take(1, |_| 1, stop);
            for prompt in lines.iter().map(Line::text) {
                let number = done.examples as u64;
                done.warnings.extend(self.unknown_in_prompt(source, prompt, number + 1));
                match self.write(prompt, number, style, out, stop, &mut |written| {
                    watch(done.examples, done.tokens + written);
                }) {
                    Ok(written) => done.tokens += written,
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(done),
                    Err(e) => return Err(Error::output(&e)),
                }
                done.examples += usize::from(!stop.load(Ordering::Relaxed));
            }
            match end {
                None => {}
                Some(Ok(())) => break,
                Some(Err(e)) => return Err(e),
            }
        }
        if done.examples == 0 && !stop.load(Ordering::Relaxed) {
            done.warnings.push(format!("{source}: there is no prompt in it; an empty line is one, too"));
        }
        Ok(done)
    }

    /// Writes `prompt` with what follows it; says how many units that were. Told to stop, it leaves the text where it
    /// is, and writes no object of a part of it.
    fn write(
        &self,
        prompt: &str,
        number: u64,
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(usize),
    ) -> io::Result<usize> {
        let mut text = String::new();
        let mut written = 0;
        if style == Style::Same {
            write!(out, "{prompt}")?;
            out.flush()?;
        }
        // A step is over sooner than a thread wakes.
        qkv::awake(|| {
            for piece in self.pieces(prompt, number) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                match style {
                    Style::Same => {
                        write!(out, "{piece}")?;
                        out.flush()?;
                    }
                    Style::Json => text.push_str(&piece),
                }
                written += 1;
                watch(written);
            }
            io::Result::Ok(())
        })?;
        match style {
            Style::Same => writeln!(out)?,
            Style::Json if stop.load(Ordering::Relaxed) => {}
            Style::Json => writeln!(out, "{}", serde_json::json!({ "prompt": prompt, "text": text }))?,
        }
        out.flush()?;
        Ok(written)
    }
}
