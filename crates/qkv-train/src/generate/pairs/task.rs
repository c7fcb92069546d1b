//! From pairs to what the trainer asks of a task.

use burn::tensor::Tensor;
use qkv::random::Key;
use qkv_data::{Codec, Pair, PairFormat, PairOptions, Source, carve, plan_epoch, read_pairs, stream_pairs};
use qkv_nn::attention::Layout;
use qkv_nn::layers::{Init, Pass};
use qkv_nn::ops::cross_entropy;

use super::data::{Codecs, EncodedPairs, texts};
use super::judge::{Decoding, Written, judge_loss, quality, write_all};
use crate::error::{Error, Result};
use crate::files;
use crate::generate::GenerateModel;
use crate::input::{Data, Examples, Reader, Wants, nouns};
use crate::memory;
use crate::recipe::{Cross, InputKind, Metric, Output, Pooling, Recipe, Unit};
use crate::run::{Count, Prepared};
use crate::tag::BYTES_PER_PARAMETER;
use crate::trainer::{Criterion, Scores, Task};

/// Pairs, ready to be trained on. An example is the number of one.
#[derive(Debug)]
pub struct PairTask {
    recipe: Recipe,
    codecs: Codecs,
    train: EncodedPairs,
    lengths: Vec<usize>,
    dev: EncodedPairs,
    /// The dev texts to be written.
    references: Vec<String>,
    warnings: Vec<String>,
}

impl PairTask {
    /// Reads what the recipe names and builds the vocabularies.
    ///
    /// # Errors
    /// If the recipe names no training data, or the data cannot be read, or has too long a text.
    pub fn prepare(recipe: &Recipe) -> Result<Self> {
        recipe.check()?;
        check_metric(recipe)?;
        check_look(recipe)?;
        if recipe.input.kind != InputKind::Text {
            return Self::from_prepared(recipe, Reader::prepare(recipe, Wants::Texts)?);
        }
        let options = pair_options(recipe)?;
        let paths = recipe.train_paths()?;
        let mut train = read_pairs(paths.all(), &options)?;
        let (dev, dev_name) = match &recipe.data.dev {
            Some(dev) => (read_pairs(dev.all(), &options)?, dev.name()),
            None => {
                let (stay, go) = carve(train.len(), recipe.data.dev_fraction, recipe.training.seed)?;
                let dev = go.iter().map(|&i| train[i].clone()).collect();
                train = stay.iter().map(|&i| std::mem::take(&mut train[i])).collect();
                (dev, paths.name())
            }
        };
        let task = Self::from_pairs(recipe, &train, &dev, &dev_name)?;
        check_lengths(recipe, &train, &task.train, &paths.name())?;
        if recipe.data.dev.is_none() {
            check_lengths(recipe, &dev, &task.dev, &dev_name)?;
        }
        Ok(task)
    }

    /// The same from pairs in memory; `dev_name` is what messages call the dev set.
    ///
    /// # Errors
    /// If there are none, or a vocabulary cannot be made of them.
    pub fn from_pairs(recipe: &Recipe, train: &[Pair], dev: &[Pair], dev_name: &str) -> Result<Self> {
        if train.is_empty() || dev.is_empty() {
            let which = if train.is_empty() { "to train on" } else { "in the dev set" };
            return Err(Error::Training(format!("{dev_name}: there is no pair {which}: give more of them")));
        }
        let codecs = Codecs::build(recipe, train)?;
        check_memory(recipe, &codecs)?;
        let references = dev.iter().map(|pair| pair.target.clone().unwrap_or_default()).collect();
        let (train, dev) = (EncodedPairs::of(&codecs, train), EncodedPairs::of(&codecs, dev));
        Ok(Self::of(recipe, codecs, train, (dev, dev_name, references)))
    }

    /// The same from pictures or recordings with their texts.
    ///
    /// # Errors
    /// If a vocabulary cannot be made of the texts, or an example is too long.
    fn from_prepared(recipe: &Recipe, Data { reader, train, dev, .. }: Data) -> Result<Self> {
        let codecs =
            Codecs::of_sets(recipe, reader, &train).map_err(|e| Error::Training(format!("{}: {e}", train.name)))?;
        check_memory(recipe, &codecs)?;
        let (dev_name, references) = (dev.name.clone(), texts(&dev).map(str::to_string).collect());
        let encoded = EncodedPairs::of_sets(&codecs, train.clone());
        check_examples(recipe, &train, &encoded)?;
        let dev = EncodedPairs::of_sets(&codecs, dev);
        Ok(Self::of(recipe, codecs, encoded, (dev, &dev_name, references)))
    }

    fn of(
        recipe: &Recipe,
        codecs: Codecs,
        train: EncodedPairs,
        (dev, dev_name, references): (EncodedPairs, &str, Vec<String>),
    ) -> Self {
        let (warnings, lengths) = (unknown_warnings(&dev, dev_name), train.lengths());
        Self { recipe: recipe.clone(), codecs, train, lengths, dev, references, warnings }
    }
}

/// Whether what the recipe names are pairs, to write the one from the other, and not one text to go on with. Pictures and recordings
/// have their texts with them.
///
/// # Errors
/// If no training data is named or it cannot be opened, or the format is not known.
pub fn reads_pairs(recipe: &Recipe) -> Result<bool> {
    let paths = recipe.train_paths()?.all();
    if recipe.input.kind != InputKind::Text {
        return Ok(true);
    }
    let options = PairOptions { need_targets: false, ..pair_options(recipe)? };
    if paths.len() > 1 {
        return Ok(true);
    }
    // What the program carries are texts.
    if paths.iter().all(|path| matches!(Source::parse(path), Source::Builtin(_))) {
        return Ok(false);
    }
    let format = match options.format {
        Some(format) => format,
        // What the first lines tell is read, and a pipe cannot be read again.
        None if paths.iter().any(|path| can_be_read_once(path)) => {
            return Err(Error::Recipe(format!(
                "data.train: {} can be read only once, and whether it holds a text or pairs is not known before: say so by data.format = \"text\", or a format of pairs such as \"pairs\"",
                paths.join(" ")
            )));
        }
        None => stream_pairs(paths, &options)?.format(),
    };
    Ok(format != PairFormat::Text)
}

/// Whether a source is standard input or a pipe.
fn can_be_read_once(path: &str) -> bool {
    match Source::parse(path) {
        Source::Builtin(_) => false,
        Source::Stdin => true,
        Source::File(path) => std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()),
    }
}

/// What the user should know of units that training never had.
pub(super) fn unknown_warnings(pairs: &EncodedPairs, name: &str) -> Vec<String> {
    let told = |side: &str, count: usize| format!("{name}: {count} units of what is {side} do not occur in training");
    let counts = [("read", pairs.sources.unknown()), ("to be written", pairs.targets.unknown().0)];
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(side, count)| told(side, count)).collect()
}

/// How the recipe's files are read.
pub(super) fn pair_options(recipe: &Recipe) -> Result<PairOptions> {
    let data = &recipe.data;
    let format = data.format.as_deref().map(str::parse::<PairFormat>).transpose();
    Ok(PairOptions {
        format: format.map_err(|e| Error::Recipe(e.to_string()))?,
        source: data.source.clone(),
        target: data.target.clone(),
        encoding: data.encoding.clone(),
        need_targets: true,
    })
}

/// Checks that what is to decide which epoch is best is measured of the units that are written.
fn check_metric(recipe: &Recipe) -> Result<()> {
    let phones = recipe.input.target_unit.unwrap_or(recipe.input.unit) == Unit::Phones;
    match recipe.training.metric {
        Some(Metric::Per) if !phones => Err(Error::Recipe(
            "training.metric = \"per\" counts wrong phones: set input.target_unit = \"phones\", or choose wer, which counts wrong words"
                .into(),
        )),
        Some(Metric::Bleu) if phones => Err(Error::Recipe(
            "training.metric = \"bleu\" compares words, and what is written are phones: choose per, wer or exact_match".into(),
        )),
        _ => Ok(()),
    }
}

fn check_memory(recipe: &Recipe, codecs: &Codecs) -> Result<()> {
    let needed = GenerateModel::parameter_count(recipe, codecs.sizes()).saturating_mul(BYTES_PER_PARAMETER);
    memory::check(needed, "lower model.d_model, model.d_ff, model.layers or input.subwords")
}

/// Checks what the side that writes needs of a recipe when it looks at what was read.
fn check_look(recipe: &Recipe) -> Result<()> {
    let model = &recipe.model;
    if model.output == Output::Ctc {
        return Err(Error::Recipe(
            "model.output = \"ctc\" has no side that writes one unit after the other: set model.output = \"decoder\""
                .into(),
        ));
    }
    match model.cross {
        Cross::Attention if model.heads == 0 || !model.d_model.is_multiple_of(model.heads) => {
            Err(Error::Recipe(format!(
                "model.d_model ({}) must be divisible by model.heads ({}), which must be at least 1, for model.cross = \"attention\"",
                model.d_model, model.heads
            )))
        }
        Cross::None if model.pooling == Some(Pooling::Class) => Err(Error::Recipe(
            "model.pooling = \"class\" is for classify and regress: choose mean, ends or attention for the vector that is fed to every step"
                .into(),
        )),
        _ => Ok(()),
    }
}

/// Checks that no text is so long that it must be a mistake.
fn check_lengths(recipe: &Recipe, pairs: &[Pair], encoded: &EncodedPairs, name: &str) -> Result<()> {
    let most = recipe.data.max_tokens;
    let longest = encoded.sources.lengths().into_iter().zip(encoded.targets.lengths());
    // (a target has a beginning and an end)
    let mut longest = longest.map(|(source, target)| source.max(target - 2));
    match longest.position(|length| length > most).map(|place| &pairs[place]) {
        None => Ok(()),
        Some(pair) => Err(Error::Training(format!(
            "{name}:{}: the pair has a text of more than data.max_tokens = {most} units; split it, or raise data.max_tokens",
            pair.line
        ))),
    }
}

/// The same of pictures or recordings and their texts.
fn check_examples(recipe: &Recipe, examples: &Examples, encoded: &EncodedPairs) -> Result<()> {
    let (most, noun) = (recipe.data.max_tokens, nouns(recipe).1);
    let lengths = encoded.sources.lengths().into_iter().zip(encoded.targets.lengths());
    for (example, (read, target)) in examples.labelled.iter().zip(lengths) {
        // (a target has a beginning and an end)
        let (length, of, mend) = match () {
            () if read > most => (read, noun, "make fewer of it by another key of [input]"),
            () if target - 2 > most => (target - 2, "units of text", "shorten its text"),
            () => continue,
        };
        return Err(Error::Training(format!(
            "{}: it has {length} {of}, more than data.max_tokens = {most}; raise data.max_tokens, or {mend}",
            example.text
        )));
    }
    Ok(())
}

impl Prepared for PairTask {
    fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn counts(&self) -> Vec<Count> {
        let count = |codec: &Codec| codec.len() - Codec::FIRST as usize;
        let examples = nouns(&self.recipe).0;
        let read = match self.codecs.source() {
            Some(source) => Count { name: "source_units", title: "units read", number: count(source) },
            None => Count { name: examples, title: examples, number: self.train.sources.len() },
        };
        vec![read, Count { name: "target_units", title: "units written", number: count(self.codecs.target()) }]
    }

    fn tokens(&self) -> [usize; 2] {
        [self.lengths.iter().sum(), self.dev.lengths().iter().sum()]
    }

    fn vocab_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.codecs.to_json()).expect("units are strings")
    }
}

impl Task for PairTask {
    type Model = GenerateModel;
    type Example = usize;

    fn new_model(&self, init: &Init) -> GenerateModel {
        GenerateModel::new(&self.recipe, self.codecs.sizes(), init)
    }

    fn plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        let training = &self.recipe.training;
        plan_epoch(&self.lengths, training.batch_tokens, training.seed, epoch as u64)
    }

    fn length(&self, example: &usize) -> usize {
        self.lengths[*example]
    }

    fn loss(&self, model: &GenerateModel, examples: &[usize], key: Key) -> Tensor<1> {
        let training = &self.recipe.training;
        let batch = self.train.training_batch(examples, training, key);
        let pass = Pass::training(key);
        let memory = batch.source.read(model, &pass);
        let vocab_logits = model.forward(batch.before, &Layout::new(batch.target_offsets), Some(&memory), &pass);
        cross_entropy(vocab_logits, batch.targets, training.label_smoothing as f32)
    }

    fn evaluate(&self, model: &GenerateModel) -> Scores {
        let reached = judge_loss(model, &self.dev, self.recipe.decoding.batch_tokens);
        let mut metrics = vec![("perplexity", reached.loss.exp()), ("accuracy", reached.accuracy)];
        if let Some(Metric::Bleu | Metric::ExactMatch | Metric::Wer | Metric::Per) = self.recipe.training.metric {
            // One beginning at a time: which epoch is best does not hang on the width of the beam.
            let decoding = Decoding::of(&self.recipe).greedy();
            let written = write_all(model, &self.dev.sources, 0..self.dev.sources.len(), &decoding, &|| false);
            let texts: Vec<String> = written.iter().map(|texts| self.codecs.target().decode(best(texts))).collect();
            metrics.extend(quality(&self.recipe, &texts, &self.references));
        }
        Scores { loss: reached.loss, metrics }
    }

    fn criterion(&self) -> Criterion {
        match self.recipe.training.metric {
            // (a recipe of texts with the metric of recommendations, or of pixels, is refused)
            None | Some(Metric::Loss | Metric::Ndcg | Metric::MeanIou | Metric::RocAuc) => Criterion::Lowest("loss"),
            Some(Metric::Accuracy | Metric::F1) => Criterion::Highest("accuracy"),
            Some(Metric::Bleu) => Criterion::Highest("bleu"),
            Some(Metric::ExactMatch) => Criterion::Highest("exact_match"),
            Some(Metric::Wer) => Criterion::Lowest("wer"),
            Some(Metric::Per) => Criterion::Lowest("per"),
        }
    }

    fn fingerprint(&self) -> String {
        let mut content = self.vocab_json();
        self.train.add_content(&mut content);
        self.dev.add_content(&mut content);
        // What is written is compared with the texts, of which the units may say less.
        for text in &self.references {
            content.extend(text.len().to_le_bytes());
            content.extend(text.as_bytes());
        }
        files::hash(&content)
    }
}

/// The ids of the best of some texts.
pub(super) fn best(texts: &[Written]) -> &[u32] {
    texts.first().map_or(&[], |text| &text.ids)
}
