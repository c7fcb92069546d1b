//! A finished tagger: evaluating and predicting.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use qkv_data::builtin::Part;
use qkv_data::{
    AffixOptions, Column, EncodedSentences, Labels, Lexicon, ReadOptions, Sentence, TextBatch, UNSEEN, Vocabulary,
    plan_in_order, read_tagged,
};
use qkv_nn::attention::Layout;
use qkv_nn::layers::{Init, Pass};
use serde::{Deserialize, Serialize};

use super::model::{ModelSizes, TagModel, affix_options};
use super::task::{UPOS, counted_targets, read_options};
use crate::error::{Error, Result};
use crate::longest::check_longest;
use crate::metrics::{EntityCounts, is_bio, share};
use crate::model::{FileKind, Judgement};
use crate::model_dir::ModelDir;
use crate::numbers::{argmax, floats};
use crate::recipe::Recipe;
use qkv::gather::NONE;

/// What a tagger reached on labelled data.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Sentences.
    pub examples: usize,
    /// Words with a label.
    pub tokens: usize,
    /// Mean cross-entropy, nats a word.
    pub loss: f64,
    /// The share of words with the right label.
    pub accuracy: f64,
    /// Entities, for labels in BIO form.
    pub entities: Option<EntityCounts>,
    /// How long it took.
    pub seconds: f64,
    /// What the user should know of the data, a line each.
    pub warnings: Vec<String>,
}

impl From<Evaluation> for Judgement {
    fn from(evaluation: Evaluation) -> Self {
        let Evaluation { examples, tokens, loss, accuracy, entities, seconds, warnings } = evaluation;
        let mut metrics = vec![("accuracy", accuracy), ("loss", loss)];
        let mut remarks = Vec::new();
        if let Some(entities) = entities {
            metrics.extend([("f1", entities.f1()), ("precision", entities.precision()), ("recall", entities.recall())]);
            remarks.push(("f1", format!("{} of {} entities", entities.right, entities.wanted)));
        }
        Self { examples, tokens, metrics, remarks, details: Vec::new(), seconds, warnings }
    }
}

/// A model with what it needs to be used.
#[derive(Debug)]
pub struct Tagger {
    recipe: Recipe,
    vocabulary: Vocabulary,
    labels: Labels,
    affixes: Option<AffixOptions>,
    model: TagModel,
}

/// What `vocab.json` holds.
#[derive(Serialize, Deserialize)]
struct Vocabularies {
    words: Vocabulary,
    labels: Labels,
}

/// The content of `vocab.json`.
pub(super) fn vocab_json(words: &Vocabulary, labels: &Labels) -> Vec<u8> {
    let vocabularies = Vocabularies { words: words.clone(), labels: labels.clone() };
    serde_json::to_vec(&vocabularies).expect("words and labels are strings")
}

impl Tagger {
    pub(super) fn new(recipe: Recipe, vocabulary: Vocabulary, labels: Labels, model: TagModel) -> Self {
        let affixes = affix_options(&recipe);
        Self { recipe, vocabulary, labels, affixes, model: model.valid() }
    }

    /// Reads a model directory.
    ///
    /// # Errors
    /// If a part is missing, cut short, changed, or of a newer version.
    pub fn load(path: &Path) -> Result<Self> {
        let dir = ModelDir::open(path)?;
        let recipe = dir.recipe()?;
        Self::read(&dir, recipe)
    }

    /// Reads what is in a model directory, to be used as `recipe` says.
    pub(crate) fn read(dir: &ModelDir, recipe: Recipe) -> Result<Self> {
        let content = dir.read("vocab.json")?;
        let Vocabularies { words, labels } =
            serde_json::from_slice(&content).map_err(|e| dir.broken("vocab.json", &e.to_string()))?;
        let sizes = ModelSizes { vocabulary: words.len(), labels: labels.len(), pretrained: None };
        let device = Device::flex();
        let model = TagModel::new(&recipe, &sizes, &Init::new(0, &device));
        let model = dir.weights()?.apply(model).map_err(|e| dir.broken("model.safetensors", &e))?;
        Ok(Self::new(recipe, words, labels, model))
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The column of a CoNLL-U file that it fills.
    ///
    /// # Errors
    /// If the recipe names none that is known.
    pub fn column(&self) -> Result<Column> {
        Ok(self.recipe.data.one_label().unwrap_or(UPOS).parse::<Column>()?)
    }

    /// Whether `label` is one of those that it gives.
    pub fn gives(&self, label: &str) -> bool {
        self.labels.id(label).is_some()
    }

    /// The model itself.
    pub fn model(&self) -> &TagModel {
        &self.model
    }

    /// The words that it knows.
    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// How it sees the characters of words; `None` if it does not.
    pub(super) fn affixes(&self) -> Option<&AffixOptions> {
        self.affixes.as_ref()
    }

    /// Judges the tagger on labelled data.
    ///
    /// # Errors
    /// If the data cannot be read.
    pub fn evaluate(&self, data: &str, part: Part, kind: FileKind) -> Result<Evaluation> {
        let sentences = read_tagged(data, &self.options(kind, part)?)?;
        let (encoded, unseen) =
            EncodedSentences::from_sentences(&sentences, &self.vocabulary, self.affixes.as_ref(), Some(&self.labels));
        if encoded.tokens() == unseen.iter().map(|unseen| unseen.count).sum::<usize>() {
            return Err(Error::Training(format!(
                "{data}: none of its labels was seen in training: is it the right file, and the right column?"
            )));
        }
        check_longest(&self.recipe, data, 0, encoded.lengths())?;
        let mut result = evaluate(&self.model, &encoded, &self.labels, self.recipe.decoding.batch_tokens);
        result.warnings = unseen
            .iter()
            .map(|u| {
                let (label, line, count) = (&u.label, u.line, u.count);
                format!("{data}:{line}: label `{label}` was never seen in training; its {count} words count as wrong")
            })
            .collect();
        Ok(result)
    }

    /// A label for each word of each sentence.
    pub fn predict(&self, sentences: &[Sentence]) -> Vec<Vec<&str>> {
        let (encoded, _) = EncodedSentences::from_sentences(sentences, &self.vocabulary, self.affixes.as_ref(), None);
        let mut labels = vec![Vec::new(); sentences.len()];
        for (index, ids) in predicted(&self.model, &encoded, self.labels.len(), self.recipe.decoding.batch_tokens) {
            labels[index] = ids.iter().map(|&id| self.labels.name(id).unwrap_or_default()).collect();
        }
        labels
    }

    /// A label for each of some words that make a sentence.
    pub fn predict_words(&self, words: &[String]) -> Vec<String> {
        let sentence = Sentence::from_words(words.to_vec());
        self.predict(&[sentence]).concat().into_iter().map(str::to_string).collect()
    }

    /// The attention weights over one sentence: for each layer `(heads, weights)`, heads × words × words, row-major.
    pub fn attention_weights(&self, words: &[String]) -> Vec<(usize, Vec<f32>)> {
        let sentence = Sentence::from_words(words.to_vec());
        let (encoded, _) = EncodedSentences::from_sentences(&[sentence], &self.vocabulary, self.affixes.as_ref(), None);
        let batch = encoded.batch(&[0]);
        let layout = Layout::new(batch.offsets.clone());
        let layers = self.model.attention_weights(&batch, &layout).into_iter();
        layers.map(|weights| (weights.dims()[0], floats(weights.into_data()))).collect()
    }

    /// How data for prediction is read.
    ///
    /// # Errors
    /// If the format is not known.
    pub fn prediction_options(&self, kind: FileKind) -> Result<ReadOptions> {
        Ok(ReadOptions {
            need_labels: false,
            lexicon: Some(Lexicon::of(Arc::new(self.vocabulary.clone()))),
            ..self.options(kind, Part::Test)?
        })
    }

    fn options(&self, kind: FileKind, part: Part) -> Result<ReadOptions> {
        let mut recipe = self.recipe.clone();
        // The format of the training data says nothing of this file's; its encoding is likely to be.
        recipe.data.format = kind.format.map(str::to_string);
        recipe.data.encoding = kind.encoding.map(str::to_string).or(recipe.data.encoding);
        read_options(&recipe, part)
    }
}

/// For each sentence its number and its label ids.
fn predicted(
    model: &TagModel,
    encoded: &EncodedSentences,
    labels: usize,
    batch_tokens: usize,
) -> impl Iterator<Item = (usize, Vec<u32>)> {
    plan_in_order(&encoded.lengths(), batch_tokens).into_iter().flat_map(move |indices| {
        let batch = encoded.batch(&indices);
        let class_logits = class_logits(model, &batch);
        let best: Vec<u32> = class_logits.chunks_exact(labels).map(argmax).collect();
        let offsets = batch.offsets.clone();
        indices.into_iter().enumerate().map(move |(set, index)| (index, best[offsets.range(set)].to_vec()))
    })
}

fn class_logits(model: &TagModel, batch: &TextBatch) -> Vec<f32> {
    if batch.offsets.tokens() == 0 {
        return Vec::new();
    }
    let layout = Layout::new(batch.offsets.clone());
    floats(qkv::awake(|| model.forward(batch, &layout, &Pass::inference())).into_data())
}

/// Judges `model` on `encoded`.
pub(super) fn evaluate(
    model: &TagModel,
    encoded: &EncodedSentences,
    labels: &Labels,
    batch_tokens: usize,
) -> Evaluation {
    let start = Instant::now();
    let bio = is_bio(labels.names().iter().map(String::as_str));
    let name = |&id: &u32| labels.name(id).unwrap_or("O");
    let (mut tokens, mut right, mut loss, mut counted_loss) = (0, 0, 0.0, 0);
    let mut entities = EntityCounts::default();
    for indices in plan_in_order(&encoded.lengths(), batch_tokens) {
        let batch = encoded.batch(&indices);
        let class_logits = class_logits(model, &batch);
        let mut lse = vec![0.0; batch.targets.len()];
        let targets = counted_targets(&batch.targets);
        let part = qkv::loss::cross_entropy_forward(&class_logits, labels.len(), &targets, 0.0, &mut lse);
        loss += f64::from(part.loss) * part.counted as f64;
        counted_loss += part.counted;
        let best: Vec<u32> = class_logits.chunks_exact(labels.len()).map(argmax).collect();
        for (target, best) in batch.targets.iter().zip(&best).filter(|(target, _)| **target != NONE) {
            tokens += 1;
            right += usize::from(target == best);
        }
        if bio {
            for set in 0..batch.offsets.sets() {
                let rows = batch.offsets.range(set);
                // An unseen label is kept apart from every known one, so that its entity counts as missed.
                let wanted: Vec<&str> =
                    batch.targets[rows.clone()].iter().map(|id| if *id == UNSEEN { "B-?" } else { name(id) }).collect();
                let found: Vec<&str> = best[rows].iter().map(name).collect();
                entities.add(&wanted, &found);
            }
        }
    }
    Evaluation {
        examples: encoded.len(),
        tokens,
        loss: if counted_loss == 0 { 0.0 } else { loss / counted_loss as f64 },
        accuracy: share(right, tokens),
        entities: bio.then_some(entities),
        seconds: start.elapsed().as_secs_f64(),
        warnings: Vec::new(),
    }
}
