//! From a text to what the trainer asks of a task.

use std::ops::Range;

use burn::tensor::Tensor;
use qkv::random::Key;
use qkv_data::{CharacterVocabulary, carve_end, check_text_format, plan_windows, read_text};
use qkv_nn::attention::Layout;
use qkv_nn::layers::{Init, Pass};
use qkv_nn::ops::cross_entropy;

use super::GenerateModel;
use super::generator::{check_judgeable, vocab_json};
use super::judge::{judge, packed, unknown_warning};
use crate::error::{Error, Result};
use crate::files;
use crate::memory;
use crate::recipe::Recipe;
use crate::run::{Count, Prepared};
use crate::tag::{BYTES_PER_PARAMETER, hidden};
use crate::trainer::{Criterion, Scores, Task};

/// A text, ready to be trained on. An example is a window of it: the range of the characters that something follows.
#[derive(Debug)]
pub struct GenerateTask {
    recipe: Recipe,
    vocabulary: CharacterVocabulary,
    train: Vec<u32>,
    dev: Vec<u32>,
    warnings: Vec<String>,
}

impl GenerateTask {
    /// Reads what the recipe names and numbers its characters.
    ///
    /// # Errors
    /// If the recipe names no training text, or a text cannot be read, or is too short.
    pub fn prepare(recipe: &Recipe) -> Result<Self> {
        recipe.check()?;
        let data = &recipe.data;
        check_text_format(data.format.as_deref()).map_err(|e| Error::Recipe(e.to_string()))?;
        let train_path = recipe.train_path()?;
        let train = read_text(train_path, data.encoding.as_deref())?;
        if let Some(dev_path) = &data.dev {
            let dev = read_text(dev_path.as_str(), data.encoding.as_deref())?;
            return Self::from_texts(recipe, (train_path, &train), (dev_path, &dev));
        }
        let place = carve_end(train.chars().count(), data.dev_fraction)?;
        let byte = train.char_indices().nth(place).map_or(train.len(), |(byte, _)| byte);
        let (train, dev) = train.split_at(byte);
        Self::from_texts(recipe, (train_path, train), (train_path, dev))
    }

    /// The same from texts in memory, each with what messages call it.
    ///
    /// # Errors
    /// If a text is too short.
    pub fn from_texts(recipe: &Recipe, train: (&str, &str), dev: (&str, &str)) -> Result<Self> {
        let ((train_name, train), (dev_name, dev)) = (train, dev);
        let vocabulary = CharacterVocabulary::build(train, recipe.input.min_count);
        if train.is_empty() {
            return Err(Error::Training(format!(
                "{train_name}: no character is left to train on beside the dev part: give more text, or a --dev file"
            )));
        }
        if vocabulary.is_empty() {
            return Err(Error::Training(format!(
                "{train_name}: no character occurs input.min_count = {} times: lower it, or give more text",
                recipe.input.min_count
            )));
        }
        let needed = GenerateModel::parameter_count(recipe, vocabulary.len()).saturating_mul(BYTES_PER_PARAMETER);
        memory::check(needed, "lower model.d_model, model.d_ff or model.layers")?;
        let ((train, _), (dev, unknown)) = (vocabulary.encode(train), vocabulary.encode(dev));
        let (characters, least) = (train.len(), recipe.model.context.saturating_add(1));
        if characters < least {
            return Err(Error::Training(format!(
                "{train_name}: {characters} characters to train on, fewer than the {least} of one window (model.context + 1): give more text, or lower model.context"
            )));
        }
        check_judgeable(dev_name, dev.len())?;
        let warnings = unknown_warning(dev_name, &unknown).into_iter().collect();
        Ok(Self { recipe: recipe.clone(), vocabulary, train, dev, warnings })
    }
}

impl Prepared for GenerateTask {
    fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn counts(&self) -> Vec<Count> {
        vec![Count { name: "characters", title: "characters", number: self.vocabulary.len() - 1 }]
    }

    fn tokens(&self) -> [usize; 2] {
        [self.train.len(), self.dev.len()]
    }

    fn vocab_json(&self) -> Vec<u8> {
        vocab_json(&self.vocabulary)
    }
}

impl Task for GenerateTask {
    type Model = GenerateModel;
    type Example = Range<usize>;

    fn new_model(&self, init: &Init) -> GenerateModel {
        GenerateModel::new(&self.recipe, self.vocabulary.len(), init)
    }

    fn plan(&self, epoch: usize) -> Vec<Vec<Range<usize>>> {
        let (training, context) = (&self.recipe.training, self.recipe.model.context);
        // The last character is followed by nothing.
        plan_windows(self.train.len() - 1, context, training.batch_tokens, training.seed, epoch as u64)
    }

    fn length(&self, example: &Range<usize>) -> usize {
        example.len()
    }

    fn loss(&self, model: &GenerateModel, examples: &[Range<usize>], key: Key) -> Tensor<1> {
        let training = &self.recipe.training;
        let (inputs, targets, offsets) = packed(&self.train, examples);
        let inputs = hidden(&inputs, training.word_dropout, CharacterVocabulary::UNKNOWN, key.fold(HIDING_STREAM));
        let vocab_logits = model.forward(inputs, &Layout::new(offsets), &Pass::training(key));
        cross_entropy(vocab_logits, targets, training.label_smoothing as f32)
    }

    fn evaluate(&self, model: &GenerateModel) -> Scores {
        let reached = judge(model, &self.dev, self.recipe.model.context, self.recipe.decoding.batch_tokens);
        Scores { loss: reached.loss, metrics: reached.metrics() }
    }

    fn criterion(&self) -> Criterion {
        Criterion::Lowest("loss")
    }

    fn fingerprint(&self) -> String {
        let mut content = self.vocab_json();
        for part in [&self.train, &self.dev] {
            content.extend(part.len().to_le_bytes());
            content.extend(part.iter().flat_map(|id| id.to_le_bytes()));
        }
        files::hash(&content)
    }
}

/// Keeps the draws that hide characters apart from those of dropout.
const HIDING_STREAM: u64 = 0xD0D0;
