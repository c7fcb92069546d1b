//! From files to what the trainer asks of a task.

use burn::tensor::Tensor;
use qkv::random::Key;
use qkv_data::plan_epoch;
use qkv_nn::layers::{Init, Pass};
use qkv_nn::ops::cross_entropy;
use serde_json::json;

use super::judge::{by_classes, judge, pixels_of_classes, unseen_warnings};
use super::model::{SegmentSizes, new_model, parameter_count, pixel_logits};
use crate::each::EachModel;
use crate::error::{Error, Result};
use crate::files;
use crate::input::{Data, Reader, Sets, Wants, check_lengths};
use crate::memory;
use crate::recipe::{Metric, Recipe};
use crate::run::{Count, Prepared};
use crate::tag::BYTES_PER_PARAMETER;
use crate::trainer::{Criterion, Scores, Task};

/// Pictures with the class of each pixel, ready to be trained on. An example is the number of one.
#[derive(Debug)]
pub struct SegmentTask {
    recipe: Recipe,
    reader: Reader,
    classes: Vec<String>,
    sizes: SegmentSizes,
    train: Sets,
    lengths: Vec<usize>,
    dev: Sets,
    warnings: Vec<String>,
}

impl SegmentTask {
    /// Reads what the recipe names.
    ///
    /// # Errors
    /// If the recipe names no training data, pictures or masks cannot be read, a picture is too large, or there is nothing to be
    /// learned from them.
    pub fn prepare(recipe: &Recipe) -> Result<Self> {
        recipe.check()?;
        let Data { reader, train, mut dev, .. } = Reader::prepare(recipe, Wants::Masks)?;
        let classes = train.sets.album().and_then(|album| album.masks.as_ref()).map(|masks| masks.classes().to_vec());
        let classes = classes.unwrap_or_default();
        let dev_names = by_classes(&mut dev, &classes)?;
        let mut warnings = Vec::new();
        let (seen, never): (Vec<_>, Vec<_>) =
            classes.iter().zip(pixels_of_classes(&train.sets)).partition(|(_, count)| *count > 0);
        if let [] | [_] = seen[..] {
            let what = seen
                .first()
                .map_or("no pixel".to_string(), |(only, _)| format!("no pixel of another class than `{only}`"));
            return Err(Error::Training(format!(
                "{}: there is {what} in the training part, so there is nothing to learn: are these the right masks?",
                train.name
            )));
        }
        for (class, _) in never {
            warnings.push(format!("{}: class `{class}` never occurs in training and will not be learned", train.name));
        }
        if pixels_of_classes(&dev.sets).iter().take(classes.len()).all(|count| *count == 0) {
            return Err(Error::Training(format!(
                "{}: no pixel of its dev part is of a class that occurs in training: are these the right masks?",
                dev.name
            )));
        }
        warnings.extend(unseen_warnings(&dev.name, &dev_names, classes.len(), &dev.sets));
        check_lengths(recipe, &train)?;
        let sizes = sizes(&reader, classes.len());
        let needed = parameter_count(recipe, &sizes).saturating_mul(BYTES_PER_PARAMETER);
        memory::check(needed, "lower model.d_model, model.d_ff, model.layers or input.patch")?;
        let (train, dev) = (train.sets, dev.sets);
        let lengths = train.lengths();
        Ok(Self { recipe: recipe.clone(), reader, classes, sizes, train, lengths, dev, warnings })
    }
}

#[cfg(test)]
impl SegmentTask {
    pub(super) fn train(&self) -> &Sets {
        &self.train
    }

    pub(super) fn dev(&self) -> &Sets {
        &self.dev
    }
}

/// What the data decides of a model's size.
pub(super) fn sizes(reader: &Reader, classes: usize) -> SegmentSizes {
    SegmentSizes { input: reader.sizes(), classes }
}

impl Prepared for SegmentTask {
    fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn counts(&self) -> Vec<Count> {
        vec![
            Count { name: "pictures", title: "pictures", number: self.train.len() },
            Count { name: "classes", title: "classes", number: self.classes.len() },
        ]
    }

    fn tokens(&self) -> [usize; 2] {
        [self.train.tokens(), self.dev.tokens()]
    }

    fn vocab_json(&self) -> Vec<u8> {
        let mut object = self.reader.to_json();
        object["classes"] = json!(self.classes);
        serde_json::to_vec(&object).expect("names and numbers")
    }
}

impl Task for SegmentTask {
    type Model = EachModel;
    type Example = usize;

    fn new_model(&self, init: &Init) -> EachModel {
        new_model(&self.recipe, &self.sizes, init)
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
        let class_logits = pixel_logits(model, &batch, self.classes.len(), &Pass::training(key));
        let targets = self.train.pixel_classes(examples, Some(key));
        cross_entropy(class_logits, targets.into(), training.label_smoothing as f32)
    }

    fn evaluate(&self, model: &EachModel) -> Scores {
        let reached = judge(model, &self.dev, self.classes.len(), self.recipe.decoding.batch_tokens);
        Scores { loss: reached.loss, metrics: reached.metrics() }
    }

    fn criterion(&self) -> Criterion {
        match self.recipe.training.metric {
            Some(Metric::Loss) => Criterion::Lowest("loss"),
            Some(Metric::Accuracy) => Criterion::Highest("accuracy"),
            _ => Criterion::Highest("mean_iou"),
        }
    }

    fn fingerprint(&self) -> String {
        let mut content = self.vocab_json();
        content.extend(self.train.content());
        content.extend(self.dev.content());
        files::hash(&content)
    }
}
