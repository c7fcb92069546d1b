//! Predicting: what is from when to when in a recording, of a whole one and as it goes in.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use qkv_data::audio::SoundStream;
use qkv_data::{Source, plan_following};
use serde_json::{Value, json};

use super::Labeller;
use super::judge::class_logits;
use crate::error::{Result, gone};
use crate::input::{Reader, Sets};
use crate::listen::{Clock, Listener, reach};
use crate::longest::check_longest;
use crate::model::{FileKind, Predicted, Style, Watch};
use crate::numbers::argmax;

impl Labeller {
    /// Writes what is heard from when to when in each recording of `source`: a line for each stretch of vectors with one label, its
    /// beginning and end in seconds and the label, before them the recording's name; or with [`Style::Json`] an object for each
    /// recording. Of `-`, sound from standard input, stretches are written as they come to an end, without a name, where no vector
    /// depends on all others.
    ///
    /// # Errors
    /// If the source cannot be read; what was heard before is written. If `out` refuses, unless its reader has gone, which ends the
    /// work in peace.
    pub fn predict_stream(
        &self,
        source: &str,
        kind: FileKind,
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        if let Some(reach) = reach(&self.recipe).filter(|_| source == "-") {
            return self.listen_to((SoundStream::open(&Source::Stdin)?, reach), style, out, stop, watch);
        }
        let mut done = Predicted::default();
        let recipe = kind.of(&self.recipe);
        for examples in self.reader.pieces(&recipe, source)? {
            let examples = examples?;
            done.tell(&examples.warnings);
            let lengths = examples.sets.lengths();
            check_longest(&self.recipe, source, done.examples, lengths.iter().copied())?;
            for numbers in plan_following(&lengths, self.recipe.decoding.batch_tokens) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(done);
                }
                let (logits, offsets) = class_logits(&self.model, &examples.sets.batch(&numbers));
                let best: Vec<u32> = logits.chunks_exact(self.labels.len()).map(argmax).collect();
                for (set, &number) in numbers.iter().enumerate() {
                    let (name, best) = (examples.labelled[number].text.as_str(), &best[offsets.range(set)]);
                    let written = match &examples.sets {
                        Sets::Sounds(_) => self.write(name, &self.stretches(best), style, out),
                        Sets::Graphs(graphs) => {
                            let nodes: Vec<String> = graphs.node_names(number).collect();
                            let is_plain_one = examples.sets.len() == 1 && style != Style::Json;
                            let name = if is_plain_one { "" } else { name };
                            self.write_each((name, "graph"), ("nodes", &nodes), best, style, out)
                        }
                        _ => {
                            let places: Vec<String> = (0..best.len()).map(|place| place.to_string()).collect();
                            self.write_each((name, "sequence"), ("places", &places), best, style, out)
                        }
                    };
                    if gone(written)? {
                        return Ok(done);
                    }
                }
                if gone(out.flush())? {
                    return Ok(done);
                }
                done.examples += numbers.len();
                done.tokens += numbers.iter().map(|&number| lengths[number]).sum::<usize>();
                watch(done.examples, done.tokens);
            }
        }
        Ok(done)
    }

    /// What is from when to when, where these are the labels of a recording's vectors.
    fn stretches(&self, labels: &[u32]) -> Vec<Stretch> {
        let mut found = Stretches::new(self.clock());
        let mut all: Vec<Stretch> = labels.iter().filter_map(|&label| found.push(label)).collect();
        all.extend(found.finish());
        all
    }

    /// Writes stretches as they come to an end, of a model whose vectors depend on `reach` to each side.
    pub(super) fn listen_to(
        &self,
        (sound, reach): (SoundStream, usize),
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        let Reader::Sounds(options) = &self.reader else { unreachable!("what listens reads sounds") };
        let listener = Listener { recipe: &self.recipe, options, model: &self.model, reach };
        let mut found = Stretches::new(self.clock());
        let write = |stretch: Stretch, out: &mut dyn Write| {
            match style {
                Style::Same => writeln!(out, "{}", self.plain(&stretch))?,
                Style::Json => writeln!(out, "{}", self.json(&stretch))?,
            }
            out.flush()
        };
        let mut take = |_, logits: &[f32]| {
            let rows = logits.chunks_exact(self.labels.len());
            rows.flat_map(|row| found.push(argmax(row))).try_for_each(|stretch| write(stretch, out))
        };
        let done = listener.listen(sound, &mut take, stop, watch)?;
        gone(found.finish().map_or(Ok(()), |stretch| write(stretch, out)))?;
        Ok(done)
    }

    fn clock(&self) -> Clock {
        let Reader::Sounds(options) = &self.reader else { unreachable!("vectors in time are of sounds") };
        Clock::of(&self.recipe, options)
    }

    fn write(&self, name: &str, found: &[Stretch], style: Style, out: &mut dyn Write) -> io::Result<()> {
        match style {
            Style::Same => found.iter().try_for_each(|stretch| writeln!(out, "{name}\t{}", self.plain(stretch))),
            Style::Json => {
                let stretches: Vec<Value> = found.iter().map(|stretch| self.json(stretch)).collect();
                writeln!(out, "{}", json!({ "file": name, "stretches": stretches }))
            }
        }
    }

    /// Writes a line for each vector, its name and its label, before them that of its set if it has one; or an object for the set.
    fn write_each(
        &self,
        (name, what): (&str, &str),
        (noun, vectors): (&str, &[String]),
        best: &[u32],
        style: Style,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let labels = best.iter().map(|&label| self.labels[label as usize].as_str());
        if style == Style::Json {
            let labels: Vec<&str> = labels.collect();
            return writeln!(out, "{}", json!({ what: name, noun: vectors, "labels": labels }));
        }
        let before = if name.is_empty() { String::new() } else { format!("{name}\t") };
        vectors.iter().zip(labels).try_for_each(|(vector, label)| writeln!(out, "{before}{vector}\t{label}"))
    }

    fn plain(&self, Stretch { start, end, label }: &Stretch) -> String {
        format!("{start:.3}\t{end:.3}\t{}", self.labels[*label as usize])
    }

    fn json(&self, Stretch { start, end, label }: &Stretch) -> Value {
        json!({ "start": start, "end": end, "label": self.labels[*label as usize] })
    }
}

/// Vectors of one label, one behind the other: from and to, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    start: f64,
    end: f64,
    label: u32,
}

/// Makes stretches of labels as they come.
struct Stretches {
    clock: Clock,
    /// Vectors so far.
    count: usize,
    /// The label of the last ones, and the first of these.
    open: Option<(u32, usize)>,
}

impl Stretches {
    fn new(clock: Clock) -> Self {
        Self { clock, count: 0, open: None }
    }

    /// Takes the label of the next vector. The stretch before it, if it came to an end.
    fn push(&mut self, label: u32) -> Option<Stretch> {
        let ended = if self.open.is_some_and(|(open, _)| open != label) { self.finish() } else { None };
        self.open.get_or_insert((label, self.count));
        self.count += 1;
        ended
    }

    /// The last stretch.
    fn finish(&mut self) -> Option<Stretch> {
        let (label, first) = self.open.take()?;
        Some(Stretch { start: self.clock.start(first), end: self.clock.start(self.count), label })
    }
}
