//! A finished model, whatever its task: read, judged and used through one door.
//!
//! What belongs here: what all tasks have in common once a model is there, and the one place that chooses between them. A
//! new task is one more variant here and one more arm in [`run`](crate::run).

use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use qkv_data::builtin::Part;

use crate::classify::Classifier;
use crate::embed::Embed;
use crate::error::{Error, Result};
use crate::generate::{Generator, Transcriber, Translator, hears};
use crate::model_dir::ModelDir;
use crate::recipe::{InputKind, Recipe, Task};
use crate::recommend::{Rater, Recommender, recommends};
use crate::tag::Tagger;
use crate::tag::each::{Labeller, labels_each};
use crate::tag::pictures::Segmenter;

/// What the user says of a file that is to be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileKind<'a> {
    /// Its format; told by ending and content if `None`.
    pub format: Option<&'a str>,
    /// Its encoding; that of the training data if `None`.
    pub encoding: Option<&'a str>,
}

impl FileKind<'_> {
    /// The recipe of a model, as it reads such a file.
    pub(crate) fn of(self, recipe: &Recipe) -> Recipe {
        let mut recipe = recipe.clone();
        // The format of the training data says nothing of this file's; its encoding is likely to be.
        recipe.data.format = self.format.map(str::to_string);
        recipe.data.encoding = self.encoding.map(str::to_string).or(recipe.data.encoding);
        recipe
    }
}

/// How predictions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As the input came: CoNLL-U with its column filled, columns with the last one filled, text as `word_TAG`; a prompt
    /// with what follows it; `label<TAB>text`, or a number in the label's place, for a whole text; for a picture whose pixels have
    /// classes its name and the share of each.
    Same,
    /// One JSON object for each example.
    Json,
}

/// What a model reached on data that it was not trained on.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Sentences, texts, or windows of a text.
    pub examples: usize,
    /// Words, characters or pixels that were judged.
    pub tokens: usize,
    /// Metrics by their usual names.
    pub metrics: Vec<(&'static str, f64)>,
    /// What a person may want to know beside a metric, by its name.
    pub remarks: Vec<(&'static str, String)>,
    /// What does not fit into a number.
    pub details: Vec<Detail>,
    /// How long it took.
    pub seconds: f64,
    /// What the user should know of the data, a line each.
    pub warnings: Vec<String>,
}

/// A table beside the metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    /// What it is, for a program.
    pub name: &'static str,
    /// For a program.
    pub json: serde_json::Value,
    /// For a person; several lines.
    pub text: String,
}

/// How much was predicted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predicted {
    /// Sentences, texts or prompts.
    pub examples: usize,
    /// Words that got a label or were read, characters that were written, or pixels that got a class.
    pub tokens: usize,
    /// What the user should know at the end, a line each.
    pub warnings: Vec<String>,
}

/// So many lines are told of what a model has not seen; of more, how many there are.
const MOST_TOLD: usize = 10;

impl Predicted {
    /// Adds what the user should know of some examples.
    pub(crate) fn tell(&mut self, lines: &[String]) {
        self.warnings.extend(lines.iter().take(MOST_TOLD).cloned());
        if lines.len() > MOST_TOLD {
            self.warnings.push(format!("and {} more of the kind", lines.len() - MOST_TOLD));
        }
    }
}

/// How much was predicted so far, for whoever watches it: examples and tokens.
pub type Watch<'a> = &'a mut dyn FnMut(usize, usize);

/// Keys of a finished model's recipe that say how files are read.
const READING: [&str; 16] = [
    "data.names",
    "data.test_files",
    "data.dev_files",
    "data.label",
    "data.text",
    "data.encoding",
    "data.join",
    "data.join_gap",
    "data.join_seconds",
    "data.join_count",
    "data.background",
    "data.split",
    "data.ignore",
    "data.series",
    "data.smiles",
    "data.max_tokens",
];

/// What is done otherwise than when the model was trained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides<'a> {
    /// Keys of the table `[decoding]` and those that say how files are read, as `decoding.key=value`.
    pub set: &'a [String],
    /// What is drawn from.
    pub seed: Option<u64>,
}

impl Overrides<'_> {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        for assignment in self.set {
            let key = assignment.split('=').next().unwrap_or_default().trim();
            if !key.starts_with("decoding.") && !READING.contains(&key) {
                return Err(Error::Recipe(format!(
                    "`--set {assignment}`: of a finished model only keys of [decoding] can be set, as in decoding.top_k=10, and how files are read: {}",
                    READING.join(", ")
                )));
            }
            if key == "data.ignore" && recipe.input.kind == InputKind::Table {
                return Err(Error::Recipe(format!(
                    "`--set {assignment}`: a model of tables looks at the columns that it was trained with, and at no other: leave it out"
                )));
            }
            recipe.set(assignment)?;
        }
        recipe.training.seed = self.seed.unwrap_or(recipe.training.seed);
        recipe.check()
    }
}

/// A finished model of any task.
#[derive(Debug)]
pub enum Model {
    /// Gives labels to words.
    Tag(Tagger),
    /// Gives a class to each pixel.
    Segment(Segmenter),
    /// Gives a label to each plain vector, such as the frames of a recording.
    Each(Labeller),
    /// Gives a label, or a number, to a whole text.
    Classify(Classifier),
    /// Goes on with a text.
    Generate(Generator),
    /// Writes a text from another, from a picture or from a recording.
    Translate(Translator),
    /// Writes what is said in a recording.
    Transcribe(Transcriber),
    /// Says what is chosen next.
    Recommend(Recommender),
    /// Says how well an item will be liked.
    Rate(Rater),
}

impl Model {
    /// Reads a model directory.
    ///
    /// # Errors
    /// If a part is missing, cut short, changed, or of a newer version, or an override cannot be.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self> {
        let dir = ModelDir::open(path)?;
        let mut recipe = dir.recipe()?;
        overrides.apply(&mut recipe)?;
        Ok(match recipe.model.task {
            Task::Tag if recipe.input.kind == InputKind::Image => Self::Segment(Segmenter::read(&dir, recipe)?),
            Task::Tag if labels_each(&recipe) => Self::Each(Labeller::read(&dir, recipe)?),
            Task::Tag => Self::Tag(Tagger::read(&dir, recipe)?),
            Task::Regress if recommends(&recipe) => Self::Rate(Rater::read(&dir, recipe)?),
            Task::Generate if recommends(&recipe) => Self::Recommend(Recommender::read(&dir, recipe)?),
            Task::Classify | Task::Regress => Self::Classify(Classifier::read(&dir, recipe)?),
            Task::Generate => {
                let vocab: serde_json::Value = serde_json::from_slice(&dir.read("vocab.json")?)
                    .map_err(|e| dir.broken("vocab.json", &e.to_string()))?;
                if hears(&recipe) {
                    return Transcriber::read(&dir, recipe, &vocab).map(Self::Transcribe);
                }
                match vocab.get("target").or(vocab.get("shared")) {
                    Some(_) => Self::Translate(Translator::read(&dir, recipe, &vocab)?),
                    None => Self::Generate(Generator::read(&dir, recipe, &vocab)?),
                }
            }
        })
    }

    /// What it does.
    pub fn task(&self) -> Task {
        match self {
            Self::Tag(_) | Self::Segment(_) | Self::Each(_) => Task::Tag,
            Self::Classify(classifier) => classifier.recipe().model.task,
            Self::Generate(_) | Self::Translate(_) | Self::Transcribe(_) | Self::Recommend(_) => Task::Generate,
            Self::Rate(_) => Task::Regress,
        }
    }

    /// What an example is called that is predicted, and what it is a sequence of; many of each.
    pub fn nouns(&self) -> (&'static str, &'static str) {
        match self {
            Self::Tag(_) => ("sentences", "words"),
            Self::Segment(_) => ("pictures", "pixels"),
            Self::Each(labeller) => labeller.nouns(),
            Self::Classify(classifier) => classifier.nouns(),
            Self::Generate(_) => ("prompts", "units"),
            Self::Translate(translator) => translator.nouns(),
            Self::Transcribe(transcriber) => transcriber.nouns(),
            Self::Recommend(_) => ("users", "items"),
            Self::Rate(_) => ("ratings", "ratings"),
        }
    }

    /// Judges the model on the part `part` of `data`, where data has parts: one path, or two of parallel text.
    ///
    /// # Errors
    /// If the data cannot be read, or is not what the model can be judged on.
    pub fn evaluate(&self, data: &[String], part: Part, kind: FileKind) -> Result<Judgement> {
        let one = || match data {
            [path] => Ok(path.as_str()),
            _ => Err(Error::Recipe(format!(
                "{}: this model is judged on one file; two are for a model that writes a text from another",
                data.join(" and ")
            ))),
        };
        match self {
            Self::Tag(tagger) => tagger.evaluate(one()?, part, kind).map(Into::into),
            Self::Segment(segmenter) => segmenter.evaluate(one()?, part),
            Self::Each(labeller) => labeller.evaluate(one()?, part, kind),
            Self::Classify(classifier) => classifier.evaluate(one()?, part, kind),
            Self::Generate(generator) => generator.evaluate(one()?, kind),
            Self::Translate(translator) => translator.evaluate(data, part, kind),
            Self::Transcribe(transcriber) => transcriber.evaluate(one()?, part),
            Self::Recommend(recommender) => recommender.evaluate(one()?, part, kind),
            Self::Rate(rater) => rater.evaluate(one()?, part, kind),
        }
    }

    /// Reads examples from `source`, a path or `-`, and writes what is predicted to `out`, in their order and as they come.
    ///
    /// # Errors
    /// If the source cannot be read; what was read before is written. If `out` refuses, unless its reader has gone, which
    /// ends the work in peace.
    pub fn predict_stream(
        &self,
        source: &str,
        kind: FileKind,
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        match self {
            Self::Tag(tagger) => tagger.predict_stream(source, kind, style, out, stop, watch),
            Self::Segment(segmenter) => segmenter.predict_stream(source, style, None, out, stop, watch),
            Self::Each(labeller) => labeller.predict_stream(source, kind, style, out, stop, watch),
            Self::Classify(classifier) => classifier.predict_stream(source, kind, style, out, stop, watch),
            Self::Generate(generator) => generator.predict_stream(source, kind, style, out, stop, watch),
            Self::Translate(translator) => translator.predict_stream(source, kind, style, out, stop, watch),
            Self::Transcribe(transcriber) => transcriber.predict_stream(source, style, out, stop, watch),
            Self::Recommend(recommender) => recommender.predict_stream(source, kind, style, out, stop, watch),
            Self::Rate(rater) => rater.predict_stream(source, kind, style, out, stop, watch),
        }
    }

    /// The same of a model that gives a class to each pixel, with the mask of each picture as a PNG file in the folder `masks`; see
    /// [`Segmenter::predict_stream`].
    ///
    /// # Errors
    /// As there, and if it is another model.
    pub fn predict_masks(
        &self,
        source: &str,
        masks: &Path,
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        match self {
            Self::Segment(segmenter) => segmenter.predict_stream(source, style, Some(masks), out, stop, watch),
            _ => Err(Error::Recipe(
                "--masks: this model gives no classes to pixels: leave it out, or name one of model.task = \"tag\" and input.kind = \"image\"".into(),
            )),
        }
    }

    /// What gives its vectors; see [`embed`](crate::embed).
    ///
    /// # Errors
    /// If it is a model of no texts.
    pub(crate) fn embedder(&self) -> Result<&dyn Embed> {
        let no_text = || Err(Error::Recipe("embed: vectors are written of texts alone".into()));
        Ok(match self {
            Self::Tag(tagger) => tagger,
            Self::Classify(classifier) if classifier.recipe().input.kind != InputKind::Text => return no_text(),
            Self::Translate(translator) if translator.recipe().input.kind != InputKind::Text => return no_text(),
            Self::Classify(classifier) => classifier,
            Self::Generate(generator) => generator,
            Self::Translate(translator) => translator,
            Self::Segment(_) | Self::Each(_) | Self::Transcribe(_) => return no_text(),
            Self::Recommend(_) | Self::Rate(_) => {
                return Err(Error::Recipe(
                    "embed: this model is of items, and vectors are written of texts alone".into(),
                ));
            }
        })
    }
}
