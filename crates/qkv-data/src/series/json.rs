//! Sequences as JSON objects, one on each line.

use serde_json::{Map, Value};

use super::SeriesOptions;
use super::build::{About, Builder};
use crate::error::{Result, quote};
use crate::examples::{Refusal, kind, next_not_blank, object};
use crate::numbers::{finite, not_finite};
use crate::source::Lines;
use crate::tables::part_of;

type Read<T> = std::result::Result<T, Refusal>;

const MEND: &str = "write {\"vectors\": [[1.0, 2.0], …], \"label\": \"…\"}, or \"values\": [1.0, …] for single numbers";

pub(super) fn read(mut lines: Lines, options: &SeriesOptions, builder: &mut Builder) -> Result<()> {
    while let Some(line) = next_not_blank(&mut lines)? {
        let text = line.text();
        let taken = object(text).and_then(|object| take(&object, options, builder, line.number));
        taken.map_err(|refusal| refusal.at(lines.name(), line.number))?;
    }
    Ok(())
}

fn take(object: &Map<String, Value>, options: &SeriesOptions, builder: &mut Builder, line: usize) -> Read<()> {
    let steps = match (object.get("vectors"), object.get("values")) {
        (Some(_), Some(_)) => return Err(Refusal::new("there are both vectors and values", MEND)),
        (Some(Value::Array(vectors)), None) => {
            vectors.iter().enumerate().try_for_each(|(step, vector)| take_vector(vector, step, builder))?;
            vectors.len()
        }
        (None, Some(Value::Array(values))) => {
            for (step, value) in values.iter().enumerate() {
                builder.take_dim(1).map_err(|what| Refusal::new(what, "let all have as many"))?;
                builder.values.push(number(value, step)?);
            }
            values.len()
        }
        (Some(other), None) | (None, Some(other)) => {
            return Err(Refusal::new(format!("expected an array of steps, found {}", kind(other)), MEND));
        }
        (None, None) => return Err(Refusal::new("there are neither vectors nor values", MEND)),
    };
    if steps == 0 {
        return Err(Refusal::new("the sequence has no step", "give it one, or take the line out"));
    }
    let name = object.get("id").map(|value| text(value, "id")).transpose()?.flatten();
    if options.plain {
        builder.end(&About { name: name.as_deref(), line, ..About::default() }, steps);
        return Ok(());
    }
    let label_key = options.label.as_deref().unwrap_or("label");
    let label = match object.get(label_key) {
        // The key that the user named may hold a label for each step.
        Some(Value::Array(labels)) if options.label.is_some() => {
            take_labels(labels, steps, builder, line)?;
            None
        }
        Some(value) => text(value, label_key)?,
        None => None,
    };
    if options.label.is_none() {
        match object.get("labels") {
            Some(Value::Array(labels)) => take_labels(labels, steps, builder, line)?,
            None | Some(Value::Null) => {}
            Some(other) => {
                let what = format!("expected an array of labels, found {}", kind(other));
                return Err(Refusal::new(what, "write a label for each step, or one as \"label\" for the whole"));
            }
        }
    }
    let split_key = options.split.as_deref().unwrap_or("split");
    let split = object.get(split_key).map(|value| text(value, split_key)).transpose()?;
    let part = split.map(|split| part_of(split.unwrap_or_default().trim())).transpose()?;
    builder.end(&About { label: label.as_deref(), part, name: name.as_deref(), line }, steps);
    Ok(())
}

fn take_vector(vector: &Value, step: usize, builder: &mut Builder) -> Read<()> {
    let Value::Array(numbers) = vector else {
        return Err(Refusal::new(format!("step {} is {}, not an array of numbers", step + 1, kind(vector)), MEND));
    };
    let as_many = |what: String| Refusal::new(format!("step {}: {what}", step + 1), "let all have as many");
    builder.take_dim(numbers.len()).map_err(as_many)?;
    numbers.iter().try_for_each(|value| {
        builder.values.push(number(value, step)?);
        Ok(())
    })
}

fn number(value: &Value, step: usize) -> Read<f32> {
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::INFINITY);
            finite(number).ok_or_else(|| not_finite(&number.to_string()))
        }
        Value::Null => {
            Err(Refusal::new(format!("step {} lacks a number", step + 1), "fill it in, or take the step out"))
        }
        other => Err(Refusal::new(format!("step {} holds {}, not a number", step + 1, kind(other)), MEND)),
    }
}

fn take_labels(labels: &[Value], steps: usize, builder: &mut Builder, line: usize) -> Read<()> {
    if labels.len() != steps {
        let what = format!("there are {} labels for {steps} steps", labels.len());
        return Err(Refusal::new(what, "give each step one, or null"));
    }
    for label in labels {
        builder.push_step_label(text(label, "labels")?.as_deref(), line);
    }
    Ok(())
}

/// A value as text, whatever kind of single value it is.
fn text(value: &Value, key: &str) -> Read<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(_) | Value::Bool(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => {
            let what = format!("the key {} is {}", quote(key), kind(value));
            Err(Refusal::new(what, "write a string, a number, true or false"))
        }
    }
}
