//! A finished model of the task: evaluating, and the mask of a picture.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use qkv_data::builtin::Part;
use qkv_data::image::Mask;
use qkv_nn::layers::Init;
use rayon::prelude::*;
use serde_json::Value;

use super::judge::{by_classes, class_logits, judge, unseen_warnings};
use super::model::new_model;
use super::task::sizes;
use crate::each::EachModel;
use crate::error::{Error, Result};
use crate::input::{Reader, Sets, Wants};
use crate::longest::check_longest;
use crate::model::Judgement;
use crate::model_dir::ModelDir;
use crate::numbers::argmax;
use crate::recipe::Recipe;

/// A model with what it needs to be used.
#[derive(Debug)]
pub struct Segmenter {
    recipe: Recipe,
    reader: Reader,
    classes: Vec<String>,
    model: EachModel,
}

impl Segmenter {
    /// Reads what is in a model directory, to be used as `recipe` says.
    pub(crate) fn read(dir: &ModelDir, recipe: Recipe) -> Result<Self> {
        let broken = |e: String| dir.broken("vocab.json", &e);
        let vocab: Value = serde_json::from_slice(&dir.read("vocab.json")?).map_err(|e| broken(e.to_string()))?;
        let reader = Reader::from_json(&recipe, &vocab).map_err(broken)?;
        let classes: Vec<String> = vocab
            .get("classes")
            .and_then(|classes| serde_json::from_value(classes.clone()).ok())
            .filter(|classes: &Vec<String>| (1..=255).contains(&classes.len()))
            .ok_or_else(|| broken("it does not name the classes of pixels".into()))?;
        let model = new_model(&recipe, &sizes(&reader, classes.len()), &Init::new(0, &Device::flex()));
        let model = dir.weights()?.apply(model).map_err(|e| dir.broken("model.safetensors", &e))?;
        Ok(Self { recipe, reader, classes, model: model.valid() })
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// What the classes of pixels are called, in the order of their numbers.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How files become sets.
    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Judges the model on pictures with masks; on those of the part `part` where data has parts.
    ///
    /// # Errors
    /// If the data cannot be read, or has no pixel of a class that the model gives.
    pub fn evaluate(&self, data: &str, part: Part) -> Result<Judgement> {
        let start = Instant::now();
        let mut examples = self.reader.read(&self.recipe, data, part, Wants::Masks)?;
        let (known, names) = (self.classes.len(), by_classes(&mut examples, &self.classes)?);
        check_longest(&self.recipe, data, 0, examples.sets.lengths())?;
        let reached = judge(&self.model, &examples.sets, known, self.recipe.decoding.batch_tokens);
        let is_known = |class: &u32| (*class as usize) < known;
        if !reached.confusion.classes().iter().any(|class| class.wanted > 0 && is_known(&class.class)) {
            return Err(Error::Training(format!(
                "{data}: no pixel of it is of a class that this model gives: are these the right masks?"
            )));
        }
        let seconds = start.elapsed().as_secs_f64();
        let (right, pixels) = (reached.confusion.right(), reached.confusion.examples());
        let mut metrics = reached.metrics();
        metrics.push(("loss", reached.loss));
        Ok(Judgement {
            examples: examples.sets.len(),
            tokens: pixels,
            metrics,
            remarks: vec![("accuracy", format!("{right} of {pixels} pixels"))],
            details: vec![reached.detail(&names)],
            seconds,
            warnings: unseen_warnings(data, &names, known, &examples.sets),
        })
    }

    /// The class of each pixel of the pictures `indices`, which are one batch.
    pub(super) fn masks(&self, sets: &Sets, indices: &[usize]) -> Vec<Mask> {
        let Some(album) = sets.album() else { return Vec::new() };
        let patch = album.pictures.options().patch;
        let class_logits = class_logits(&self.model, sets, indices, self.classes.len());
        // There are 255 classes at most.
        let best: Vec<u8> = class_logits.par_chunks_exact(self.classes.len()).map(|row| argmax(row) as u8).collect();
        let mut rest = best.as_slice();
        let of_picture = |&index: &usize| {
            let picture = album.which[index];
            let ((height, width), (rows, columns)) = (album.pictures.size(picture), album.pictures.grid(picture));
            let (own, others) = rest.split_at(rows * columns * patch * patch);
            rest = others;
            Mask::of_patches(own, height, width, patch)
        };
        indices.iter().map(of_picture).collect()
    }
}
