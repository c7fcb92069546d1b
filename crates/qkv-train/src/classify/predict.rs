//! Predicting from a stream: as fast as a batch where there is much, at once where there is little, in bounded memory, in
//! order. Of pictures and recordings all are read before the first is answered.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use qkv_data::{LabelledFormat, LabelledText, plan_following, stream_labelled};
use serde_json::{Map, Value, json};

use super::classifier::{Classifier, Prediction, unknown_texts, unknown_warning};
use crate::arrivals::Arrivals;
use crate::error::{Result, gone};
use crate::input::{Sets, key};
use crate::longest::check_longest;
use crate::model::{FileKind, Predicted, Style, Watch};
use crate::recipe::InputKind;

/// Batches taken into memory at once.
const CHUNK_BATCHES: usize = 8;

impl Classifier {
    /// Reads texts from `source`, a path or `-`, and writes what the model says of each to `out`, in their order.
    ///
    /// Whatever has arrived is answered at once, so a slow writer at the other end of a pipe is answered line by line. Of
    /// plain text each line gives a line, a blank one a blank one. `watch` is called after each chunk.
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
        if self.recipe().input.kind != InputKind::Text {
            return self.predict_files((source, kind), style, out, stop, watch);
        }
        let (name, options) = (source.to_string(), self.prediction_options(kind)?);
        let guessed = options.format.is_none();
        let arrivals = Arrivals::of(move || {
            let stream = stream_labelled(name.as_str(), &options)?;
            let format = stream.format();
            Ok(stream.map(move |text| text.map(|text| (format, text))))
        });
        let limit = CHUNK_BATCHES * self.recipe().decoding.batch_tokens;
        let mut done = Predicted::default();
        let (mut unknown, mut labelled) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            // A unit has a character at least, and mostly several.
            let size = |(_, text): &(Option<LabelledFormat>, LabelledText)| 1 + text.text.len() / 4;
            let (chunk, end) = arrivals.take(limit, size, stop);
            let texts: Vec<&str> = chunk.iter().map(|(_, text)| text.text.as_str()).collect();
            let encoded = self.encode(&texts);
            check_longest(self.recipe(), source, done.examples, encoded.lengths())?;
            unknown += unknown_texts(&encoded);
            labelled += chunk.iter().filter(|(format, text)| guessed && self.begins_with_label(*format, text)).count();
            let tokens = encoded.tokens();
            let predictions = self.predict_sets(&Sets::Texts(encoded));
            if gone(write_all((key(self.recipe()), &texts), &predictions, self.gives_labels(), style, out))? {
                return Ok(done);
            }
            done.examples += texts.len();
            done.tokens += tokens;
            watch(done.examples, done.tokens);
            match end {
                None => {}
                Some(Ok(())) => break,
                Some(Err(e)) => return Err(e),
            }
        }
        if labelled > 1 && labelled == done.examples {
            done.warnings.push(format!(
                "{source}: every text begins with a label of this model, which is read as a part of it: if it is none, give --format label-text"
            ));
        }
        done.warnings.extend(unknown_warning(source, unknown, done.examples));
        if done.examples == 0 && !stop.load(Ordering::Relaxed) {
            done.warnings.push(format!("{source}: there is no text in it"));
        }
        Ok(done)
    }

    /// The same for pictures or recordings: each is called by the name of its file.
    fn predict_files(
        &self,
        (source, kind): (&str, FileKind),
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        let mut done = Predicted::default();
        let recipe = kind.of(self.recipe());
        for examples in self.reader().pieces(&recipe, source)? {
            let examples = examples?;
            done.tell(&examples.warnings);
            let lengths = examples.sets.lengths();
            check_longest(self.recipe(), source, done.examples, lengths.iter().copied())?;
            for chunk in plan_following(&lengths, self.recipe().decoding.batch_tokens) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(done);
                }
                let outputs = self.predict_some(&examples.sets, &chunk);
                let names: Vec<&str> = chunk.iter().map(|&place| examples.labelled[place].text.as_str()).collect();
                if gone(write_all((key(self.recipe()), &names), &outputs, self.gives_labels(), style, out))? {
                    return Ok(done);
                }
                done.examples += chunk.len();
                done.tokens += chunk.iter().map(|&place| lengths[place]).sum::<usize>();
                watch(done.examples, done.tokens);
            }
        }
        Ok(done)
    }

    /// Whether a line of plain text looks like one of `label text`.
    fn begins_with_label(&self, format: Option<LabelledFormat>, text: &LabelledText) -> bool {
        let first = text.text.split_once(' ').map_or("", |(first, _)| first);
        format == Some(LabelledFormat::Text) && self.gives(first)
    }
}

fn write_all(
    (key, texts): (&str, &[&str]),
    predictions: &[Option<Prediction>],
    labels: bool,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    for (text, prediction) in texts.iter().zip(predictions) {
        match style {
            Style::Same => writeln!(out, "{}", plain(text, prediction.as_ref()))?,
            Style::Json => writeln!(out, "{}", json_line((key, text), prediction.as_ref(), labels))?,
        }
    }
    out.flush()
}

/// `label<TAB>text`, of several targets their answers in their order; a blank line for a blank text.
fn plain(text: &str, prediction: Option<&Prediction>) -> String {
    let one_line = |text: &str| text.replace(['\t', '\n', '\r'], " ");
    match prediction {
        Some(Prediction::Label { label, .. }) => format!("{}\t{}", one_line(label), one_line(text)),
        Some(Prediction::Value(value)) => format!("{value}\t{}", one_line(text)),
        Some(Prediction::Several(targets)) => {
            let mut line = String::new();
            for (_, prediction) in targets {
                let answer = match prediction {
                    Prediction::Label { label, .. } => one_line(label),
                    Prediction::Value(value) => value.to_string(),
                    Prediction::Several(_) => unreachable!("targets are of one kind each"),
                };
                line += &answer;
                line.push('\t');
            }
            line + &one_line(text)
        }
        None if text.trim().is_empty() => String::new(),
        None => format!("\t{}", one_line(text)),
    }
}

/// The keys are the same for a text of which nothing is said. Of several targets `answers` has an object for each.
fn json_line((key, text): (&str, &str), prediction: Option<&Prediction>, labels: bool) -> Value {
    match prediction {
        Some(Prediction::Label { label, probabilities }) => {
            let named = |(name, p): &(&str, f64)| ((*name).to_string(), Value::from(*p));
            let probabilities: Map<String, Value> = probabilities.iter().map(named).collect();
            json!({ key: text, "label": label, "probabilities": probabilities })
        }
        Some(Prediction::Value(value)) => json!({ key: text, "value": value }),
        Some(Prediction::Several(targets)) => {
            let answer = |(name, prediction): &(&str, Prediction)| {
                let mut answer = json_line((key, text), Some(prediction), labels);
                answer.as_object_mut().map(|answer| answer.remove(key));
                ((*name).to_string(), answer)
            };
            let answers: Map<String, Value> = targets.iter().map(answer).collect();
            json!({ key: text, "answers": answers })
        }
        None if labels => json!({ key: text, "label": null, "probabilities": null }),
        None => json!({ key: text, "value": null }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_line_whatever_is_in_it() {
        let prediction = Prediction::Label { label: "a\tb", probabilities: vec![("a\tb", 0.75), ("c", 0.25)] };
        assert_eq!(plain("x\ty\r\nz", Some(&prediction)), "a b\tx y  z");
        assert_eq!(plain("x", Some(&Prediction::Value(-1.5))), "-1.5\tx");
        let line = json_line(("text", "x\ty"), Some(&prediction), true).to_string();
        assert_eq!(line, r#"{"text":"x\ty","label":"a\tb","probabilities":{"a\tb":0.75,"c":0.25}}"#);
    }

    #[test]
    fn of_nothing_nothing_is_said() {
        assert_eq!((plain(" ", None), plain("\u{1}", None)), (String::new(), "\t\u{1}".into()));
        assert_eq!(json_line(("text", ""), None, true).to_string(), r#"{"text":"","label":null,"probabilities":null}"#);
        assert_eq!(json_line(("text", ""), None, false).to_string(), r#"{"text":"","value":null}"#);
    }
}
