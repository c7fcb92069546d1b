//! What is said of a text: one of some labels, a number, or several such at once.

use std::collections::HashMap;

use qkv_data::{LabelledText, Labels, UnseenLabel, numbers};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::several::{self, Known, Target};
use crate::error::{Error, Result};
use crate::input::Examples;
use crate::metrics::mean_and_deviation;
use crate::recipe::Task;

/// What a model may answer.
#[derive(Clone, Debug)]
pub(super) enum Answers {
    /// One of these labels.
    Classes(Labels),
    /// A number on this scale.
    Numbers(Scale),
    /// One for each of several columns, which are learned at once.
    Several(Vec<Target>),
}

/// Numbers as a model gives them: so many deviations from the mean of what it was trained on. Whatever the unit of the
/// numbers is, one learning rate then fits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scale {
    mean: f64,
    deviation: f64,
}

impl Scale {
    /// A number in deviations from the mean.
    pub(super) fn standard(self, number: f64) -> f32 {
        ((number - self.mean) / self.deviation) as f32
    }

    /// What [`Scale::standard`] was given.
    pub(super) fn number(self, standard: f32) -> f64 {
        self.mean + self.deviation * f64::from(standard)
    }

    /// The number without digits that say nothing: to a millionth of the deviation.
    pub(super) fn rounded(self, standard: f32) -> f64 {
        let number = self.number(standard);
        let decimals = (6.0 - self.deviation.log10().floor()).clamp(0.0, 300.0) as usize;
        format!("{number:.decimals$}").parse().unwrap_or(number)
    }
}

/// What is wanted of some texts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    /// The number of each text's label among `names`, which begin with the labels that the model knows and go on with
    /// those that it does not.
    Classes {
        /// One for each text.
        ids: Vec<u32>,
        /// What the numbers stand for.
        names: Vec<String>,
    },
    /// A number for each text.
    Numbers(Vec<f64>),
    /// Of each of several columns what is wanted of the texts that have it.
    Several(Vec<Known>),
}

impl Wanted {
    /// What is wanted of some of the texts, in the order of `places`.
    pub(super) fn some(&self, places: &[usize]) -> Self {
        match self {
            Self::Classes { ids, names } => {
                Self::Classes { ids: places.iter().map(|&place| ids[place]).collect(), names: names.clone() }
            }
            Self::Numbers(numbers) => Self::Numbers(places.iter().map(|&place| numbers[place]).collect()),
            Self::Several(known) => Self::Several(known.iter().map(|known| known.some(places)).collect()),
        }
    }
}

impl Wanted {
    /// All of it, for a fingerprint.
    pub(super) fn add_content(&self, content: &mut Vec<u8>) {
        match self {
            Self::Classes { ids, .. } => content.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
            Self::Numbers(numbers) => content.extend(numbers.iter().flat_map(|x| x.to_le_bytes())),
            Self::Several(known) => known.iter().for_each(|known| {
                content.extend(known.places.iter().flat_map(|place| (*place as u64).to_le_bytes()));
                known.wanted.add_content(content);
            }),
        }
    }
}

impl Answers {
    /// What there is to be learned from `examples`; `columns` names what is learned where it is several.
    ///
    /// # Errors
    /// As for [`Answers::build`], of any of them.
    pub(super) fn of(task: Task, columns: &[String], examples: &Examples) -> Result<Self> {
        match examples.targets.is_empty() {
            true => Self::build(task, &examples.labelled, (&examples.name, examples.sets.noun())),
            false => several::targets(task, columns, examples).map(Self::Several),
        }
    }

    /// What is wanted of `examples`; beside it what the user should know, a line each.
    ///
    /// # Errors
    /// As for [`Answers::wanted`], of any of several things.
    pub(super) fn wanted_of(&self, examples: &Examples) -> Result<(Wanted, Vec<String>)> {
        if let Self::Several(targets) = self {
            return several::known(targets, examples).map(|(known, told)| (Wanted::Several(known), told));
        }
        let (wanted, unseen) = self.wanted(&examples.labelled, &examples.name)?;
        Ok((wanted, unseen_warnings(&unseen, (&examples.name, examples.sets.noun())).collect()))
    }

    /// What there is to be learned from `texts`, which messages call `name`, and each of them a `noun`.
    ///
    /// # Errors
    /// If all texts have the same label, or a label is no number where a number is to be learned.
    pub(super) fn build(task: Task, texts: &[LabelledText], (name, noun): (&str, &str)) -> Result<Self> {
        if task == Task::Regress {
            return scale(&numbers(texts, name)?, (name, noun)).map(Self::Numbers);
        }
        let labels = Labels::build(texts.iter().filter_map(|text| text.label.as_ref()));
        match labels.len() {
            0 | 1 => Err(same((name, noun), labels.name(0).unwrap_or_default())),
            _ => Ok(Self::Classes(labels)),
        }
    }

    /// How many numbers a model gives for each text.
    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::Classes(labels) => labels.len(),
            Self::Numbers(_) => 1,
            Self::Several(targets) => targets.iter().map(|target| target.answers.outputs()).sum(),
        }
    }

    /// Checks that data is read for as many things as there are answers to: by their order, since in another file columns may be
    /// called otherwise.
    ///
    /// # Errors
    /// If `columns`, which name what is wanted, are fewer or more.
    pub(super) fn check_columns(&self, columns: &[String]) -> Result<()> {
        let learned: Vec<&str> = match self {
            Self::Several(targets) => targets.iter().map(|target| target.name.as_str()).collect(),
            _ if columns.len() > 1 => Vec::new(),
            _ => return Ok(()),
        };
        match learned.len() == columns.len() {
            true => Ok(()),
            false if learned.is_empty() => {
                Err(Error::Recipe("data.label: this model gives one answer: name one column".into()))
            }
            false => Err(Error::Recipe(format!(
                "data.label: this model answers for `{}`: name as many columns in this order, or leave it out",
                learned.join("`, `")
            ))),
        }
    }

    /// How many labels there are of each thing that is told in labels.
    pub(super) fn widths(&self) -> Vec<usize> {
        match self {
            Self::Classes(labels) => vec![labels.len()],
            Self::Numbers(_) => Vec::new(),
            Self::Several(targets) => targets.iter().flat_map(|target| target.answers.widths()).collect(),
        }
    }

    /// What is wanted of `texts`, which messages call `name`; beside it the labels that the model does not know.
    ///
    /// # Errors
    /// If there is no label that it knows, or a label is no number where one is wanted.
    pub(super) fn wanted<'a>(&self, texts: &'a [LabelledText], name: &str) -> Result<(Wanted, Vec<UnseenLabel>)> {
        let labels = match self {
            Self::Numbers(_) => return Ok((Wanted::Numbers(numbers(texts, name)?), Vec::new())),
            Self::Classes(labels) => labels,
            Self::Several(_) => unreachable!("several things are asked for one by one"),
        };
        let mut unseen: Vec<UnseenLabel> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut id = |text: &'a LabelledText| {
            let label = text.label.as_deref().unwrap_or_default();
            labels.id(label).unwrap_or_else(|| {
                let place = *places.entry(label).or_insert_with(|| {
                    unseen.push(UnseenLabel { label: label.to_string(), line: text.line, count: 0 });
                    unseen.len() - 1
                });
                unseen[place].count += 1;
                (labels.len() + place) as u32
            })
        };
        let ids: Vec<u32> = texts.iter().map(&mut id).collect();
        if ids.iter().all(|&id| id as usize >= labels.len()) {
            return Err(Error::Training(format!(
                "{name}: none of its labels was seen in training: is it the right file, and the right column?"
            )));
        }
        let names = labels.names().iter().chain(unseen.iter().map(|unseen| &unseen.label)).cloned().collect();
        Ok((Wanted::Classes { ids, names }, unseen))
    }

    /// As `vocab.json` holds them.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Classes(labels) => json!({ "labels": labels }),
            Self::Numbers(scale) => json!({ "scale": scale }),
            Self::Several(targets) => json!({ "targets": several::to_json(targets) }),
        }
    }

    /// What [`Answers::to_json`] wrote.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn from_json(task: Task, value: &Value) -> std::result::Result<Self, String> {
        if let Some(targets) = value.get("targets") {
            return several::from_json(task, targets).map(Self::Several);
        }
        let part = |name: &str| value.get(name).cloned().ok_or(format!("it has no {name}"));
        if task == Task::Regress {
            let scale: Scale = serde_json::from_value(part("scale")?).map_err(|e| e.to_string())?;
            return match scale.mean.is_finite() && scale.deviation.is_finite() && scale.deviation > 0.0 {
                true => Ok(Self::Numbers(scale)),
                false => Err("its scale is none".into()),
            };
        }
        serde_json::from_value(part("labels")?).map(Self::Classes).map_err(|e| e.to_string())
    }
}

/// Warnings of labels that count as wrong, whatever the model says.
pub(super) fn unseen_warnings<'a>(
    unseen: &'a [UnseenLabel],
    (name, noun): (&'a str, &'a str),
) -> impl Iterator<Item = String> + 'a {
    unseen.iter().map(move |UnseenLabel { label, line, count }| {
        let count = match count {
            1 => format!("1 {} counts", noun.trim_end_matches('s')),
            _ => format!("{count} {noun} count"),
        };
        format!("{name}:{line}: label `{label}` never occurs in training; its {count} as wrong")
    })
}

fn scale(numbers: &[f64], (name, noun): (&str, &str)) -> Result<Scale> {
    let first = numbers.first().copied().unwrap_or_default();
    if numbers.iter().all(|number| *number == first) {
        return Err(same((name, noun), &first.to_string()));
    }
    let (mean, deviation) = mean_and_deviation(numbers);
    match mean.is_finite() && deviation.is_finite() && deviation > 0.0 {
        true => Ok(Scale { mean, deviation }),
        false => Err(Error::Training(format!(
            "{name}: the labels lie too far apart, or too near, for arithmetic: write them in another unit"
        ))),
    }
}

fn same((name, noun): (&str, &str), label: &str) -> Error {
    Error::Training(format!(
        "{name}: all {noun} that are trained on have the same label, `{label}`: there is nothing to learn; is data.label the right column?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(labels: &[&str]) -> Vec<LabelledText> {
        let text = |(place, label): (usize, &&str)| LabelledText {
            text: "a text".into(),
            label: Some((*label).into()),
            line: 10 + place,
            group: None,
        };
        labels.iter().enumerate().map(text).collect()
    }

    #[test]
    fn unknown_labels_are_numbered_behind_the_known_ones() {
        let answers = Answers::build(Task::Classify, &texts(&["b", "a", "b"]), ("train", "texts")).expect("labels");
        assert_eq!(answers.outputs(), 2);
        let (wanted, unseen) = answers.wanted(&texts(&["z", "a", "y", "z", "b"]), "dev").expect("known");
        let names = ["a", "b", "z", "y"].map(String::from).to_vec();
        assert_eq!(wanted, Wanted::Classes { ids: vec![2, 0, 3, 2, 1], names });
        let warnings: Vec<String> = unseen_warnings(&unseen, ("dev", "texts")).collect();
        assert_eq!(
            warnings,
            [
                "dev:10: label `z` never occurs in training; its 2 texts count as wrong",
                "dev:12: label `y` never occurs in training; its 1 text counts as wrong"
            ]
        );
        let error = answers.wanted(&texts(&["x", "y"]), "other").expect_err("none is known").to_string();
        assert!(error.starts_with("other: none of its labels"), "{error}");
    }

    #[test]
    fn what_is_all_the_same_cannot_be_learned() {
        for (task, labels) in [(Task::Classify, ["x", "x"]), (Task::Regress, ["0.1", "0.10"])] {
            let error = Answers::build(task, &texts(&labels), ("train", "rows")).expect_err("the same").to_string();
            assert!(
                error.starts_with("train: all rows that") && error.contains(&format!("`{}`", labels[0])),
                "{error}"
            );
        }
        let error = Answers::build(Task::Regress, &texts(&["1", "one"]), ("train", "texts"))
            .expect_err("no number")
            .to_string();
        assert!(error.starts_with("train:11: the label \"one\""), "{error}");
        let error =
            Answers::build(Task::Regress, &texts(&["1e308", "-1e308"]), ("train", "texts")).expect_err("too far");
        assert!(error.to_string().contains("another unit"), "{error}");
    }

    #[test]
    fn numbers_come_back_from_their_scale() {
        let answers =
            Answers::build(Task::Regress, &texts(&["1000", "3000", "2000"]), ("train", "texts")).expect("numbers");
        let Answers::Numbers(scale) = answers else { panic!("{answers:?}") };
        assert_eq!((scale.standard(2000.0), scale.standard(3000.0)), (0.0, 1.0));
        for number in [-7.25, 0.0, 1999.5] {
            assert!((scale.number(scale.standard(number)) - number).abs() < 1e-3, "{number}");
        }
        assert_eq!(scale.rounded(0.12345678), 2123.457);
        let coarse = Scale { mean: 1e12, deviation: 3e9 };
        assert_eq!(coarse.rounded(0.123), (1e12 + 3e9 * f64::from(0.123_f32)).round());
    }

    #[test]
    fn answers_survive_json_and_damage_is_refused() {
        for (task, labels) in [(Task::Classify, ["x", "y"]), (Task::Regress, ["0.1", "0.3"])] {
            let answers = Answers::build(task, &texts(&labels), ("train", "texts")).expect("answers");
            let read = Answers::from_json(task, &answers.to_json()).expect("read");
            assert_eq!(answers.to_json(), read.to_json());
            let other = if task == Task::Regress { Task::Classify } else { Task::Regress };
            assert!(Answers::from_json(other, &answers.to_json()).is_err());
        }
        let flat = json!({ "scale": { "mean": 1.0, "deviation": 0.0 } });
        assert!(Answers::from_json(Task::Regress, &flat).is_err());
    }
}
