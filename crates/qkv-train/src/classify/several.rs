//! Several things that are learned at once, as the columns of a table of measurements: each has its own labels or its own scale, and
//! an example may be without some of them.
//!
//! The outputs of a model are those of one target behind those of the other. What an example lacks has no part in loss and metrics.

use std::ops::Range;

use burn::tensor::Tensor;
use qkv_data::LabelledText;
use serde_json::{Map, Value, json};

use super::answers::{Answers, Wanted, unseen_warnings};
use super::judge::{self, Reached};
use super::task::Targets;
use crate::error::{Error, Result};
use crate::input::Examples;
use crate::metrics::mean_and_deviation;
use crate::model::Detail;
use crate::recipe::Task;

/// One of several things that are learned.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Its column.
    pub(super) name: String,
    /// What may be said of it: labels or numbers.
    pub(super) answers: Answers,
}

/// What is wanted of those examples that have a target.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    /// Their places among all examples.
    pub(super) places: Vec<usize>,
    /// For each of them.
    pub(super) wanted: Wanted,
}

impl Known {
    /// The same of some of the examples, in the order of `places`.
    pub(super) fn some(&self, places: &[usize]) -> Self {
        let has = |place: usize| self.places.binary_search(&place).ok();
        let (new, old): (Vec<usize>, Vec<usize>) =
            places.iter().enumerate().filter_map(|(new, &place)| Some((new, has(place)?))).unzip();
        Self { places: new, wanted: self.wanted.some(&old) }
    }
}

/// Where the outputs of each target lie.
pub(super) fn ranges(targets: &[Target]) -> impl Iterator<Item = Range<usize>> {
    targets.iter().scan(0, |end, target| {
        let start = std::mem::replace(end, *end + target.answers.outputs());
        Some(start..*end)
    })
}

/// The examples that have the target `number`: their places, and what is known of them.
fn having(examples: &Examples, number: usize) -> (Vec<usize>, Vec<LabelledText>) {
    let labelled = |(place, targets): (usize, &Vec<Option<String>>)| {
        let label = targets.get(number)?.clone()?;
        Some((place, LabelledText { label: Some(label), ..examples.labelled[place].clone() }))
    };
    examples.targets.iter().enumerate().filter_map(labelled).unzip()
}

/// How messages call a target of examples.
fn called(examples: &Examples, column: &str) -> String {
    format!("{}, column `{column}`", examples.name)
}

/// What there is to be learned of each of the columns.
///
/// # Errors
/// If no example has one of them, all that have it have the same, or a label is no number where numbers are learned.
pub(super) fn targets(task: Task, columns: &[String], examples: &Examples) -> Result<Vec<Target>> {
    let target = |(number, column): (usize, &String)| {
        let name = called(examples, column);
        let (_, labelled) = having(examples, number);
        if labelled.is_empty() {
            return Err(Error::Training(format!(
                "{name}: no example that is trained on has a value there: take it out of data.label"
            )));
        }
        Ok(Target { name: column.clone(), answers: Answers::build(task, &labelled, (&name, examples.sets.noun()))? })
    };
    columns.iter().enumerate().map(target).collect()
}

/// What is wanted of each of the targets; beside it what the user should know, a line each.
///
/// # Errors
/// If of a target there is no label that the model knows, or one is no number where numbers are wanted.
pub(super) fn known(targets: &[Target], examples: &Examples) -> Result<(Vec<Known>, Vec<String>)> {
    let mut told = Vec::new();
    let known = |(number, target): (usize, &Target)| {
        let name = called(examples, &target.name);
        let (places, labelled) = having(examples, number);
        let wanted = match &target.answers {
            _ if !places.is_empty() => {
                let (wanted, unseen) = target.answers.wanted(&labelled, &name)?;
                told.extend(unseen_warnings(&unseen, (&name, examples.sets.noun())));
                wanted
            }
            Answers::Classes(labels) => Wanted::Classes { ids: Vec::new(), names: labels.names().to_vec() },
            _ => Wanted::Numbers(Vec::new()),
        };
        if places.is_empty() {
            told.push(format!("{name}: no example has a value there, so it is not judged"));
        }
        Ok(Known { places, wanted })
    };
    let known: Result<Vec<Known>> = targets.iter().enumerate().map(known).collect();
    Ok((known?, told))
}

/// What a batch costs: the mean over all values that are there, `Σ_t n_t · loss_t / Σ_t n_t`.
///
/// Each of `targets` stands with how many outputs it has and says what is wanted of every training example.
pub(super) fn loss(targets: &[(usize, Targets)], outputs: &Tensor<2>, examples: &[usize], smoothing: f32) -> Tensor<1> {
    let all: usize = targets.iter().map(|(_, targets)| targets.known(examples)).sum();
    let mut start = 0;
    let mut sum: Option<Tensor<1>> = None;
    for (width, targets) in targets {
        let count = targets.known(examples);
        if count > 0 {
            let outputs = outputs.clone().narrow(1, start, *width);
            let part = targets.loss(outputs, examples, smoothing) * (count as f64 / all as f64);
            sum = Some(match sum {
                Some(sum) => sum + part,
                None => part,
            });
        }
        start += width;
    }
    // Every example has a value at least, and no batch is without examples.
    sum.unwrap_or_else(|| outputs.clone().sum() * 0.0)
}

/// Judges outputs, `[examples, outputs of all targets]`: each metric is the mean over the targets, each target by the examples that
/// have it. Of a target whose values are all of one class here there is no ROC curve.
pub(super) fn judge(outputs: &[f32], targets: &[Target], known: &[Known]) -> Reached {
    let width: usize = targets.iter().map(|target| target.answers.outputs()).sum();
    let (mut names, mut values): (Vec<&'static str>, Vec<Vec<f64>>) = Default::default();
    let (mut losses, mut count) = (0.0, 0);
    let (mut rows, mut lines) = (Vec::new(), String::new());
    let widest = targets.iter().map(|target| target.name.chars().count()).max().unwrap_or(0).min(40);
    for ((target, range), Known { places, wanted }) in targets.iter().zip(ranges(targets)).zip(known) {
        let mut row = json!({ "name": target.name, "examples": places.len() });
        lines += &format!("  {:<widest$} {:>6} examples", target.name, places.len());
        if !places.is_empty() {
            let of_target = |place: &usize| &outputs[place * width..][range.clone()];
            let found: Vec<f32> = places.iter().flat_map(of_target).copied().collect();
            let mut reached = judge::judge(&found, &target.answers, wanted);
            reached.metrics.retain(|(name, _)| *name != "roc_auc" || has_both(wanted));
            for (name, value) in &reached.metrics {
                let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
                    names.push(name);
                    values.push(Vec::new());
                    names.len() - 1
                });
                values[place].push(*value);
            }
            losses += reached.loss * places.len() as f64;
            count += places.len();
            reached.metrics.push(("loss", reached.loss));
            for (name, value) in reached.metrics {
                row[name] = value.into();
                lines += &format!("  {name} {}", crate::metrics::shown(value));
            }
        }
        lines.push('\n');
        rows.push(row);
    }
    let metrics = names.into_iter().zip(values.iter().map(|values| mean_and_deviation(values).0)).collect();
    let targets = Detail { name: "targets", json: Value::Array(rows), text: format!("targets\n{lines}") };
    Reached { loss: losses / count.max(1) as f64, metrics, confusion: None, targets: Some(targets) }
}

/// Whether there are examples of both of two classes.
fn has_both(wanted: &Wanted) -> bool {
    matches!(wanted, Wanted::Classes { ids, .. } if ids.contains(&0) && ids.contains(&1))
}

/// As `vocab.json` holds them.
pub(super) fn to_json(targets: &[Target]) -> Value {
    let object = |target: &Target| {
        let mut object = target.answers.to_json();
        object["name"] = json!(target.name);
        object
    };
    targets.iter().map(object).collect()
}

/// What [`to_json`] wrote.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn from_json(task: Task, value: &Value) -> std::result::Result<Vec<Target>, String> {
    let target = |value: &Value| {
        let object: &Map<String, Value> = value.as_object().ok_or("a target is none")?;
        let name = object.get("name").and_then(Value::as_str).ok_or("a target has no name")?;
        match object.contains_key("targets") {
            true => Err("a target holds targets".to_string()),
            false => Ok(Target { name: name.to_string(), answers: Answers::from_json(task, value)? }),
        }
    };
    let targets = value.as_array().ok_or("its targets are no list")?;
    targets.iter().map(target).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use qkv_data::EncodedSentences;

    use super::*;
    use crate::input::Sets;
    use crate::numbers::floats;

    fn examples(targets: &[&[&str]]) -> Examples {
        let text = |line: usize| LabelledText { text: "x".into(), label: None, line, group: None };
        let given = |value: &&str| (!value.is_empty()).then(|| (*value).to_string());
        Examples {
            targets: targets.iter().map(|values| values.iter().map(given).collect()).collect(),
            ..Examples::new(
                (1..=targets.len()).map(text).collect(),
                Sets::Texts(EncodedSentences::from_ids(vec![vec![0]; targets.len()])),
                "train",
            )
        }
    }

    fn columns() -> Vec<String> {
        ["a", "b"].map(String::from).to_vec()
    }

    #[test]
    fn what_is_missing_costs_nothing_and_the_rest_counts_alike() {
        // Outputs of a, two labels, then of b, which is a number in deviations.
        let rows: [[f32; 3]; 3] = [[0.5, -0.5, 9.0], [1.0, 2.0, 0.25], [7.0, 7.0, -1.0]];
        let outputs = Tensor::<2>::from_data(TensorData::from(rows), &Device::flex());
        let labels = Targets::Classes { ids: vec![1, 0, qkv::gather::NONE], weights: None };
        let targets = [(2, labels), (1, Targets::Numbers(vec![f32::NAN, 0.0, 1.0]))];
        let entropy = |right: f64, wrong: f64| (1.0 + (wrong - right).exp()).ln();
        let expected = (entropy(-0.5, 0.5) + entropy(1.0, 2.0) + 0.25_f64.powi(2) + 4.0) / 4.0;
        let found = floats(loss(&targets, &outputs, &[0, 1, 2], 0.0).into_data())[0];
        assert!((f64::from(found) - expected).abs() < 1e-6, "{found} is not {expected}");
        let alone = outputs.narrow(0, 0, 1);
        let found = floats(loss(&targets, &alone, &[0], 0.0).into_data())[0];
        assert!((f64::from(found) - entropy(-0.5, 0.5)).abs() < 1e-6, "{found}");
    }

    #[test]
    fn each_target_is_judged_by_those_that_have_it() {
        let train = examples(&[&["0", "10"], &["2", ""], &["4", "30"]]);
        let targets = targets(Task::Regress, &columns(), &train).expect("numbers");
        let dev = examples(&[&["2", ""], &["", "20"], &["4", "20"]]);
        let (known, told) = known(&targets, &dev).expect("known");
        assert_eq!((&known[0].places[..], &known[1].places[..], told), (&[0, 2][..], &[1, 2][..], vec![]));
        // a: mean 2, deviation 2; b: mean 20, deviation of a sample of two.
        let outputs = [0.5, 99.0, 99.0, 0.0, 1.0, 0.0];
        let reached = judge(&outputs, &targets, &known);
        let rmse = |name: &str| reached.metrics.iter().find(|(known, _)| *known == name).expect("judged").1;
        assert!((rmse("mae") - 0.25).abs() < 1e-12 && (rmse("rmse") - 0.5_f64.sqrt() / 2.0).abs() < 1e-12);
        assert_eq!(reached.loss, 0.25 / 4.0);
        let detail = reached.detail().expect("a table");
        assert_eq!((&detail.json[0]["examples"], &detail.json[1]["rmse"]), (&2.into(), &0.0.into()));
        // Of the second and the third example alone.
        let some = known[0].some(&[1, 2]);
        assert_eq!((some.places, some.wanted), (vec![1], Wanted::Numbers(vec![4.0])));
    }

    #[test]
    fn a_curve_needs_both_classes_and_a_target_that_is_missing_is_told() {
        let train = examples(&[&["0", "x"], &["1", "y"]]);
        let targets = targets(Task::Classify, &columns(), &train).expect("labels");
        let (known, told) = known(&targets, &examples(&[&["1", ""], &["1", ""]])).expect("known");
        assert_eq!(told, ["train, column `b`: no example has a value there, so it is not judged"]);
        let reached = judge(&[0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], &targets, &known);
        assert_eq!(reached.metrics, [("accuracy", 0.5), ("f1", 1.0 / 3.0)]);
        let both = examples(&[&["0", "x"], &["1", "x"]]);
        let (known, _) = super::known(&targets, &both).expect("known");
        let reached = judge(&[1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0], &targets, &known);
        assert_eq!(reached.metrics, [("accuracy", 1.0), ("f1", 1.0), ("roc_auc", 1.0)]);
        let error =
            super::targets(Task::Classify, &columns(), &examples(&[&["0", ""]])).expect_err("nothing").to_string();
        assert!(error.contains("column `a`") || error.contains("column `b`"), "{error}");
    }

    #[test]
    fn targets_survive_json_and_damage_is_refused() {
        let train = examples(&[&["0", "10"], &["2", ""], &["4", "30"]]);
        for task in [Task::Classify, Task::Regress] {
            let answers = Answers::Several(targets(task, &columns(), &train).expect("targets"));
            let read = Answers::from_json(task, &answers.to_json()).expect("read");
            assert_eq!((answers.to_json(), answers.outputs()), (read.to_json(), read.outputs()));
        }
        for wrong in [json!([1]), json!({}), json!([{ "name": "a" }]), json!([{ "labels": ["x", "y"] }])] {
            assert!(from_json(Task::Classify, &wrong).is_err(), "{wrong}");
        }
    }
}
