//! From files to what the trainer asks of a task.

use std::sync::Arc;

use burn::tensor::Tensor;
use qkv::gather::NONE;
use qkv::random::Key;
use qkv_data::builtin::Part;
use qkv_data::{
    Column, EncodedSentences, Format, Labels, ReadOptions, Sentence, Source, TextBatch, UNSEEN, Vocabulary,
    VocabularyOptions, carve, check_lengths, plan_epoch, read_tagged, read_vectors,
};
use qkv_nn::attention::Layout;
use qkv_nn::layers::{Init, Pass};
use qkv_nn::ops::cross_entropy;

use super::model::{ModelSizes, TagModel, affix_options};
use super::tagger::{Evaluation, Tagger, evaluate, vocab_json};
use crate::error::{Error, Result};
use crate::files;
use crate::memory;
use crate::metrics::is_bio;
use crate::recipe::{Recipe, Training, Words};
use crate::run::{Count, Prepared};
use crate::trainer::{Criterion, Scores, Task};

/// A tagger's data, ready to be trained on.
#[derive(Debug)]
pub struct TagTask {
    recipe: Recipe,
    vocabulary: Vocabulary,
    labels: Labels,
    sizes: ModelSizes,
    train: EncodedSentences,
    lengths: Vec<usize>,
    dev: EncodedSentences,
    warnings: Vec<String>,
}

impl TagTask {
    /// Reads what the recipe names and builds the vocabularies.
    ///
    /// # Errors
    /// If the recipe names no training data, or the data cannot be read, or has too long a sentence.
    pub fn prepare(recipe: &Recipe) -> Result<Self> {
        recipe.check()?;
        let data = &recipe.data;
        let train_path = recipe.train_path()?;
        let options = read_options(recipe, Part::Train)?;
        let mut train = read_tagged(train_path, &options)?;
        check_lengths(&train, train_path, data.max_tokens)?;
        let (dev, dev_path) = match (recipe.dev_path()?, Source::parse(train_path)) {
            (Some(path), _) => (read_tagged(path, &read_options(recipe, Part::Dev)?)?, path),
            (None, Source::Builtin(_)) => (read_tagged(train_path, &read_options(recipe, Part::Dev)?)?, train_path),
            (None, _) => {
                let (stay, go) = carve(train.len(), data.dev_fraction, recipe.training.seed)?;
                let dev = go.iter().map(|&i| train[i].clone()).collect();
                train = stay.iter().map(|&i| std::mem::take(&mut train[i])).collect();
                (dev, train_path)
            }
        };
        Self::from_sentences(recipe, &train, &dev, dev_path)
    }

    /// The same from sentences in memory; `dev_name` is what messages call the dev set.
    ///
    /// # Errors
    /// If word vectors cannot be read or there is only one label.
    pub fn from_sentences(recipe: &Recipe, train: &[Sentence], dev: &[Sentence], dev_name: &str) -> Result<Self> {
        let input = &recipe.input;
        let words = train.iter().flat_map(|sentence| &sentence.words);
        let options = VocabularyOptions {
            min_count: input.min_count,
            lowercase: input.lowercase,
            ..VocabularyOptions::default()
        };
        let vocabulary = Vocabulary::build(words, &options);
        let labels = Labels::build(train.iter().filter_map(|sentence| sentence.labels.as_ref()).flatten());
        if labels.len() < 2 {
            let only = labels.name(0).unwrap_or_default();
            return Err(Error::Training(format!(
                "every word of the training data has the same label, `{only}`: there is nothing to learn; is data.label the right column?"
            )));
        }
        let affixes = affix_options(recipe);
        if let Some(affixes) = &affixes {
            affixes.check()?;
        }
        let (train, _) = EncodedSentences::from_sentences(train, &vocabulary, affixes.as_ref(), Some(&labels));
        let (dev, unseen) = EncodedSentences::from_sentences(dev, &vocabulary, affixes.as_ref(), Some(&labels));
        let mut warnings: Vec<String> = unseen
            .iter()
            .map(|unseen| {
                let (label, line, count) = (&unseen.label, unseen.line, unseen.count);
                format!("{dev_name}:{line}: label `{label}` never occurs in training; its {count} words count as wrong")
            })
            .collect();
        let mut sizes = ModelSizes { vocabulary: vocabulary.len(), labels: labels.len(), pretrained: None };
        let mut recipe = recipe.clone();
        if input.words == Words::Embedding {
            sizes.pretrained = read_pretrained(&mut recipe, &vocabulary)?;
        }
        if dev.tokens() == unseen.iter().map(|unseen| unseen.count).sum::<usize>() {
            return Err(Error::Training(format!(
                "none of the labels in {dev_name} occurs in training: is it the right file, and the right column?"
            )));
        }
        if labels.len() > 100 && labels.len() * 4 > train.tokens() {
            let (count, words) = (labels.len(), train.tokens());
            warnings
                .insert(0, format!("there are {count} different labels for {words} words: are the columns swapped?"));
        }
        let needed = TagModel::parameter_count(&recipe, &sizes).saturating_mul(BYTES_PER_PARAMETER);
        memory::check(needed, "lower model.d_model, model.d_ff, model.layers or input.buckets")?;
        let lengths = train.lengths();
        Ok(Self { recipe, vocabulary, labels, sizes, train, lengths, dev, warnings })
    }

    /// A finished model with what it needs to be used.
    pub fn tagger(&self, model: TagModel) -> Tagger {
        Tagger::new(self.recipe.clone(), self.vocabulary.clone(), self.labels.clone(), model)
    }
}

/// The batch with units and affixes hidden where a draw says so, for the training step of `key`. Its draws are apart from
/// those of dropout.
pub(crate) fn with_hidden(mut batch: TextBatch, training: &Training, key: Key) -> TextBatch {
    let key = key.fold(HIDING_STREAM);
    batch.words = hidden(&batch.words, training.word_dropout, Vocabulary::UNKNOWN, key.fold(0));
    batch.affixes = hidden(&batch.affixes, training.affix_dropout, NONE, key.fold(1));
    batch
}

/// `ids` with a share of `rate` replaced by `instead`.
pub(crate) fn hidden(ids: &Arc<[u32]>, rate: f64, instead: u32, key: Key) -> Arc<[u32]> {
    if rate == 0.0 {
        return ids.clone();
    }
    ids.iter().zip(0..).map(|(&id, i)| if f64::from(key.uniform(i)) < rate { instead } else { id }).collect()
}

impl Prepared for TagTask {
    fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn counts(&self) -> Vec<Count> {
        vec![
            Count { name: "words", title: "known words", number: self.vocabulary.len() - 1 },
            Count { name: "labels", title: "labels", number: self.labels.len() },
        ]
    }

    fn tokens(&self) -> [usize; 2] {
        [self.train.tokens(), self.dev.tokens()]
    }

    fn vocab_json(&self) -> Vec<u8> {
        vocab_json(&self.vocabulary, &self.labels)
    }
}

impl Task for TagTask {
    type Model = TagModel;
    type Example = usize;

    fn new_model(&self, init: &Init) -> TagModel {
        TagModel::new(&self.recipe, &self.sizes, init)
    }

    fn plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        let training = &self.recipe.training;
        plan_epoch(&self.lengths, training.batch_tokens, training.seed, epoch as u64)
    }

    fn length(&self, example: &usize) -> usize {
        self.lengths[*example]
    }

    fn loss(&self, model: &TagModel, examples: &[usize], key: Key) -> Tensor<1> {
        let batch = with_hidden(self.train.batch(examples), &self.recipe.training, key);
        let layout = Layout::new(batch.offsets.clone());
        let class_logits = model.forward(&batch, &layout, &Pass::training(key));
        let smoothing = self.recipe.training.label_smoothing as f32;
        cross_entropy(class_logits, counted_targets(&batch.targets), smoothing)
    }

    fn evaluate(&self, model: &TagModel) -> Scores {
        let Evaluation { loss, accuracy, entities, .. } =
            evaluate(model, &self.dev, &self.labels, self.recipe.decoding.batch_tokens);
        let mut metrics = vec![("accuracy", accuracy)];
        if let Some(entities) = entities {
            metrics.insert(0, ("f1", entities.f1()));
        }
        Scores { loss, metrics }
    }

    fn criterion(&self) -> Criterion {
        let bio = is_bio(self.labels.names().iter().map(String::as_str));
        Criterion::Highest(if bio { "f1" } else { "accuracy" })
    }

    fn fingerprint(&self) -> String {
        let mut content = serde_json::to_vec(&(&self.vocabulary, &self.labels)).unwrap_or_default();
        for part in [&self.train, &self.dev] {
            content.extend(part.lengths().iter().flat_map(|length| length.to_le_bytes()));
            let everything: Vec<usize> = (0..part.len()).collect();
            let batch = part.batch(&everything);
            for ids in [&batch.words, &batch.affixes, &batch.targets] {
                content.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
            }
        }
        content.extend(self.sizes.pretrained.iter().flatten().flat_map(|x| x.to_le_bytes()));
        files::hash(&content)
    }
}

/// A parameter in training is four numbers: itself, its gradient, two moments.
pub(crate) const BYTES_PER_PARAMETER: u128 = 16;

/// The column of CoNLL-U that holds the labels, unless another is named.
pub(super) const UPOS: &str = "upos";

/// Keeps the draws that hide words and affixes apart from those of dropout.
const HIDING_STREAM: u64 = 0xD0D0;

/// Targets as the loss wants them: a label that training never saw has no logit, so it is left out.
pub(super) fn counted_targets(targets: &Arc<[u32]>) -> Arc<[u32]> {
    if !targets.contains(&UNSEEN) {
        return targets.clone();
    }
    targets.iter().map(|&target| if target == UNSEEN { NONE } else { target }).collect()
}

/// How the recipe's files are read.
pub(crate) fn read_options(recipe: &Recipe, part: Part) -> Result<ReadOptions> {
    let data = &recipe.data;
    let format = data.format.as_deref().map(str::parse::<Format>).transpose();
    let label = data.one_label().unwrap_or(UPOS).parse::<Column>();
    let wrong = |e: qkv_data::Error| Error::Recipe(e.to_string());
    Ok(ReadOptions {
        format: format.map_err(wrong)?,
        label: label.map_err(wrong)?,
        encoding: data.encoding.clone(),
        part,
        ..ReadOptions::default()
    })
}

/// The vectors that the words of `vocabulary` start from, `vocabulary · dim` numbers, NaN where there is none; `None` if the
/// recipe names no file of them. What `dim` is goes into the recipe.
///
/// # Errors
/// If they cannot be read, or the recipe wants others.
pub(crate) fn read_pretrained(recipe: &mut Recipe, vocabulary: &Vocabulary) -> Result<Option<Vec<f32>>> {
    let Some(path) = &recipe.input.vectors else { return Ok(None) };
    let vectors = read_vectors(path.as_str(), vocabulary)?;
    if vectors.found_count() == 0 {
        return Err(Error::Training(format!(
            "{path}: none of the {} words of training has a vector in it: is it the right file of input.vectors?",
            vocabulary.len() - 1
        )));
    }
    match recipe.input.embedding_dim {
        Some(dim) if dim != vectors.dim => {
            return Err(Error::Recipe(format!(
                "input.embedding_dim = {dim}, but the vectors of {path} have {} elements: leave the key out",
                vectors.dim
            )));
        }
        _ => recipe.input.embedding_dim = Some(vectors.dim),
    }
    Ok(Some(pretrained(&vectors, vocabulary.len())))
}

fn pretrained(vectors: &qkv_data::WordVectors, vocabulary: usize) -> Vec<f32> {
    let mut values = vec![f32::NAN; vocabulary * vectors.dim];
    for (id, row) in values.chunks_exact_mut(vectors.dim.max(1)).enumerate() {
        if let Some(vector) = vectors.get(id as u32) {
            row.copy_from_slice(vector);
        }
    }
    values
}
