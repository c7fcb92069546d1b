//! From a text to what the trainer asks of a language model.

use std::ops::Range;

use burn::tensor::Tensor;
use qkv::random::Key;
use qkv_data::{Codec, CodecOptions, carve_end, plan_windows, read_text};
use qkv_nn::attention::Layout;
use qkv_nn::layers::{Init, Pass};
use qkv_nn::ops::cross_entropy;

use super::generator::{check_judgeable, check_strategy, vocab_json};
use super::judge::{judge, packed, unknown_warning};
use super::{GenerateModel, Vocabularies};
use crate::error::{Error, Result};
use crate::files;
use crate::memory;
use crate::recipe::{Metric, Recipe, Unit};
use crate::run::{Count, Prepared};
use crate::tag::{BYTES_PER_PARAMETER, hidden};
use crate::trainer::{Criterion, Scores, Task};

/// A text, ready to be trained on. An example is a window of it: the range of the units that something follows.
#[derive(Debug)]
pub struct GenerateTask {
    recipe: Recipe,
    codec: Codec,
    train: Vec<u32>,
    dev: Vec<u32>,
    /// Characters that the units of `dev` stand for, but for the first unit.
    dev_characters: usize,
    warnings: Vec<String>,
}

impl GenerateTask {
    /// Reads what the recipe names and numbers its units.
    ///
    /// # Errors
    /// If the recipe names no training text, or a text cannot be read, or is too short.
    pub fn prepare(recipe: &Recipe) -> Result<Self> {
        recipe.check()?;
        check_strategy(recipe)?;
        check_metric(recipe)?;
        let data = &recipe.data;
        let train_path = recipe.train_path()?;
        let train = read_text(train_path, data.encoding.as_deref())?;
        if let Some(dev_path) = recipe.dev_path()? {
            let dev = read_text(dev_path, data.encoding.as_deref())?;
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
        if train.is_empty() {
            return Err(Error::Training(format!(
                "{train_name}: no character is left to train on beside the dev part: give more text, or a --dev file"
            )));
        }
        let told = |e: qkv_data::Error| Error::Training(format!("{train_name}: {e}"));
        let codec = Codec::train([train], &codec_options(recipe, recipe.input.unit)?).map_err(told)?;
        let needed = GenerateModel::parameter_count(recipe, sizes(&codec)).saturating_mul(BYTES_PER_PARAMETER);
        memory::check(needed, "lower model.d_model, model.d_ff or model.layers")?;
        let unknown = codec.unknown(dev);
        let (train, dev) = (codec.encode(train), codec.encode(dev));
        let (units, least) = (train.len(), recipe.model.context.saturating_add(1));
        if units < least {
            return Err(Error::Training(format!(
                "{train_name}: {units} {} to train on, fewer than the {least} of one window (model.context + 1): give more text, or lower model.context",
                noun(&codec)
            )));
        }
        check_judgeable(dev_name, dev.len())?;
        let warnings = unknown_warning(dev_name, &unknown, noun(&codec)).into_iter().collect();
        let dev_characters = codec.decode(&dev[1..]).chars().count();
        Ok(Self { recipe: recipe.clone(), codec, train, dev, dev_characters, warnings })
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
        let title = noun(&self.codec);
        vec![Count { name: title, title, number: self.codec.len() - Codec::FIRST as usize }]
    }

    fn tokens(&self) -> [usize; 2] {
        [self.train.len(), self.dev.len()]
    }

    fn vocab_json(&self) -> Vec<u8> {
        vocab_json(&self.codec)
    }
}

impl Task for GenerateTask {
    type Model = GenerateModel;
    type Example = Range<usize>;

    fn new_model(&self, init: &Init) -> GenerateModel {
        GenerateModel::new(&self.recipe, sizes(&self.codec), init)
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
        let inputs = hidden(&inputs, training.word_dropout, Codec::UNKNOWN, key.fold(HIDING_STREAM));
        let vocab_logits = model.forward(inputs, &Layout::new(offsets), None, &Pass::training(key));
        cross_entropy(vocab_logits, targets, training.label_smoothing as f32)
    }

    fn evaluate(&self, model: &GenerateModel) -> Scores {
        let reached = judge(model, &self.dev, self.recipe.model.context, self.recipe.decoding.batch_tokens);
        Scores { loss: reached.loss, metrics: reached.metrics(self.dev_characters) }
    }

    fn criterion(&self) -> Criterion {
        match self.recipe.training.metric {
            Some(Metric::Accuracy) => Criterion::Highest("accuracy"),
            _ => Criterion::Lowest("loss"),
        }
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

/// Checks that what is to decide which epoch is best is measured of a language model.
fn check_metric(recipe: &Recipe) -> Result<()> {
    match recipe.training.metric {
        None | Some(Metric::Loss | Metric::Accuracy) => Ok(()),
        Some(_) => Err(Error::Recipe(
            "training.metric: what goes on with a text is judged by loss or accuracy; the others compare what is written from pairs"
                .into(),
        )),
    }
}

/// A language model reads nothing.
pub(super) fn sizes(codec: &Codec) -> Vocabularies {
    Vocabularies { source: None, target: codec.len() }
}

/// How texts of one side become ids.
///
/// # Errors
/// If the unit is none of texts.
pub(crate) fn codec_options(recipe: &Recipe, unit: Unit) -> Result<CodecOptions> {
    let input = &recipe.input;
    let unit = match unit {
        Unit::Words | Unit::Phones => qkv_data::Unit::Words,
        Unit::Characters => qkv_data::Unit::Characters,
        Unit::Bpe => qkv_data::Unit::Bpe,
        Unit::Unigram => qkv_data::Unit::Unigram,
        Unit::Items => return Err(Error::Recipe("input.unit = \"items\" is for who chose what, not for texts".into())),
    };
    Ok(CodecOptions { unit, size: input.subwords, min_count: input.min_count, lowercase: input.lowercase })
}

/// What the units of a text are called.
pub(super) fn noun(codec: &Codec) -> &'static str {
    match codec.unit() {
        qkv_data::Unit::Words => "words",
        qkv_data::Unit::Characters => "characters",
        qkv_data::Unit::Bpe | qkv_data::Unit::Unigram => "subwords",
    }
}
