//! From files to what the trainer asks of a task.

use burn::tensor::Tensor;
use qkv::random::Key;
use qkv_data::plan_epoch;
use qkv_nn::layers::{Init, Pass};
use qkv_nn::ops::cross_entropy;
use serde_json::json;

use super::judge::judge;
use crate::each::EachModel;
use crate::error::{Error, Result};
use crate::files;
use crate::input::{Data, Parting, Reader, Sets, Wants, check_lengths, nouns};
use crate::memory;
use crate::recipe::{Metric, Recipe};
use crate::run::{Count, Prepared};
use crate::tag::BYTES_PER_PARAMETER;
use crate::trainer::{Criterion, Scores, Task};

/// Sets of vectors that have labels, ready to be trained on. An example is the number of one.
#[derive(Debug)]
pub struct EachTask {
    recipe: Recipe,
    reader: Reader,
    parting: Option<Parting>,
    labels: Vec<String>,
    train: Sets,
    lengths: Vec<usize>,
    dev: Sets,
    warnings: Vec<String>,
}

impl EachTask {
    /// Reads what the recipe names.
    ///
    /// # Errors
    /// If the recipe names no training data, it cannot be read, a set is too long, or there is nothing to be learned.
    pub fn prepare(recipe: &Recipe) -> Result<Self> {
        recipe.check()?;
        let Data { reader, mut train, mut dev, parting } = Reader::prepare(recipe, Wants::Each)?;
        let labels = train.sets.class_names();
        if let [] | [_] = labels[..] {
            let found = labels.first().map_or("no label".to_string(), |only| format!("no label but `{only}`"));
            return Err(Error::Training(format!(
                "{}: its training part has {found}, so there is nothing to learn: are these the right labels?",
                train.name
            )));
        }
        train.sets.number_classes(&labels);
        let mut warnings = train.warnings.clone();
        warnings.append(&mut dev.warnings);
        warnings.extend(number_labels(&mut dev.sets, &labels, &dev.name)?);
        check_lengths(recipe, &train)?;
        let needed = EachModel::parameter_count(recipe, &reader.sizes(), labels.len());
        memory::check(needed.saturating_mul(BYTES_PER_PARAMETER), "lower model.d_model, model.d_ff or model.layers")?;
        let lengths = train.sets.lengths().into_iter().map(|length| length.max(1)).collect();
        Ok(Self {
            recipe: recipe.clone(),
            reader,
            parting,
            labels,
            train: train.sets,
            lengths,
            dev: dev.sets,
            warnings,
        })
    }
}

#[cfg(test)]
impl EachTask {
    /// What a finished model needs beside its weights.
    pub(super) fn parts(&self) -> (Reader, Vec<String>) {
        (self.reader.clone(), self.labels.clone())
    }
}

/// Numbers the labels of `sets` as a model does that has learned `labels`; what the user should know of others, a line each.
///
/// # Errors
/// If the model knows none of those of `sets`.
pub(super) fn number_labels(sets: &mut Sets, labels: &[String], name: &str) -> Result<Vec<String>> {
    let found = sets.class_names();
    sets.number_classes(labels);
    let (known, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|label| labels.contains(label));
    if known.is_empty() {
        return Err(Error::Training(format!(
            "{name}: none of its labels was seen in training: is it the right file, and the right labels?"
        )));
    }
    let told = |label: String| format!("{name}: label `{label}` was never seen in training and counts as wrong");
    Ok(others.into_iter().map(told).collect())
}

impl Prepared for EachTask {
    fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn counts(&self) -> Vec<Count> {
        let (examples, _) = nouns(&self.recipe);
        vec![
            Count { name: examples, title: examples, number: self.train.len() },
            Count { name: "labels", title: "labels", number: self.labels.len() },
        ]
    }

    fn tokens(&self) -> [usize; 2] {
        [self.train.tokens(), self.dev.tokens()]
    }

    fn vocab_json(&self) -> Vec<u8> {
        let mut object = self.reader.to_json();
        object["labels"] = json!(self.labels);
        if let Some(parting) = &self.parting {
            object["parting"] = json!(parting);
        }
        serde_json::to_vec(&object).expect("names and numbers")
    }
}

impl Task for EachTask {
    type Model = EachModel;
    type Example = usize;

    fn new_model(&self, init: &Init) -> EachModel {
        EachModel::new(&self.recipe, &self.reader.sizes(), self.labels.len(), init)
    }

    fn plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        let training = &self.recipe.training;
        plan_epoch(&self.lengths, training.batch_tokens, training.seed, epoch as u64)
    }

    fn length(&self, example: &usize) -> usize {
        self.lengths[*example]
    }

    fn loss(&self, model: &EachModel, examples: &[usize], key: Key) -> Tensor<1> {
        let training = &self.recipe.training;
        let batch = self.train.training_batch(examples, training, key);
        let (class_logits, _) = model.forward(&batch, &Pass::training(key));
        cross_entropy(class_logits, batch.targets().into(), training.label_smoothing as f32)
    }

    fn evaluate(&self, model: &EachModel) -> Scores {
        let reached = judge(model, &self.dev, self.labels.len(), self.recipe.decoding.batch_tokens);
        Scores { loss: reached.loss, metrics: reached.metrics() }
    }

    fn criterion(&self) -> Criterion {
        match self.recipe.training.metric {
            Some(Metric::Loss) => Criterion::Lowest("loss"),
            Some(Metric::F1) => Criterion::Highest("f1"),
            _ => Criterion::Highest("accuracy"),
        }
    }

    fn fingerprint(&self) -> String {
        let mut content = self.vocab_json();
        content.extend(self.train.content());
        content.extend(self.dev.content());
        files::hash(&content)
    }
}
