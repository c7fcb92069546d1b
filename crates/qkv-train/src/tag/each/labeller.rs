//! A finished model of the task: evaluating.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use qkv_data::builtin::Part;
use qkv_nn::layers::Init;
use serde_json::Value;

use super::judge::judge;
use super::task::number_labels;
use crate::each::EachModel;
use crate::error::Result;
use crate::input::{Parting, Reader, Wants, nouns};
use crate::longest::check_longest;
use crate::model::{FileKind, Judgement};
use crate::model_dir::ModelDir;
use crate::recipe::Recipe;

/// A model with what it needs to be used.
#[derive(Debug)]
pub struct Labeller {
    pub(super) recipe: Recipe,
    pub(super) reader: Reader,
    pub(super) parting: Option<Parting>,
    pub(super) labels: Vec<String>,
    pub(super) model: EachModel,
}

impl Labeller {
    /// Reads what is in a model directory, to be used as `recipe` says.
    pub(crate) fn read(dir: &ModelDir, recipe: Recipe) -> Result<Self> {
        let broken = |e: String| dir.broken("vocab.json", &e);
        let vocab: Value = serde_json::from_slice(&dir.read("vocab.json")?).map_err(|e| broken(e.to_string()))?;
        let reader = Reader::from_json(&recipe, &vocab).map_err(broken)?;
        let labels: Vec<String> = vocab
            .get("labels")
            .and_then(|labels| serde_json::from_value(labels.clone()).ok())
            .filter(|labels: &Vec<String>| !labels.is_empty())
            .ok_or_else(|| broken("it does not name the labels".into()))?;
        let parting = Parting::from_json(&vocab).map_err(broken)?;
        let model = EachModel::new(&recipe, &reader.sizes(), labels.len(), &Init::new(0, &Device::flex()));
        let model = dir.weights()?.apply(model).map_err(|e| dir.broken("model.safetensors", &e))?;
        Ok(Self { recipe, reader, parting, labels, model: model.valid() })
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// What an example is called, and what it is a set of; many of each.
    pub fn nouns(&self) -> (&'static str, &'static str) {
        nouns(&self.recipe)
    }

    /// Judges the model on sets whose vectors have labels; on those of the part `part` where data has parts.
    ///
    /// # Errors
    /// If the data cannot be read, or has no label that the model gives.
    pub fn evaluate(&self, data: &str, part: Part, kind: FileKind) -> Result<Judgement> {
        let start = Instant::now();
        let part = (part, self.parting.as_ref());
        let mut examples = self.reader.read_parted(&kind.of(&self.recipe), data, part, Wants::Each)?;
        let mut warnings = std::mem::take(&mut examples.warnings);
        warnings.extend(number_labels(&mut examples.sets, &self.labels, data)?);
        let names = examples.sets.number_classes(&self.labels);
        check_longest(&self.recipe, data, 0, examples.sets.lengths())?;
        let reached = judge(&self.model, &examples.sets, self.labels.len(), self.recipe.decoding.batch_tokens);
        let seconds = start.elapsed().as_secs_f64();
        let (right, vectors) = (reached.confusion.right(), reached.confusion.examples());
        let mut metrics = reached.metrics();
        metrics.push(("loss", reached.loss));
        Ok(Judgement {
            examples: examples.sets.len(),
            tokens: vectors,
            metrics,
            remarks: vec![("accuracy", format!("{right} of {vectors} vectors"))],
            details: vec![reached.detail(&names)],
            seconds,
            warnings,
        })
    }
}
