//! A finished model, whatever its task: read, judged and used through one door.
//!
//! What belongs here: what all tasks have in common once a model is there, and the one place that chooses between them. A
//! new task is one more variant here and one more arm in [`run`](crate::run).

use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use qkv_data::builtin::Part;

use crate::error::{Error, Result};
use crate::generate::Generator;
use crate::model_dir::ModelDir;
use crate::recipe::{Recipe, Task};
use crate::tag::Tagger;

/// What the user says of a file that is to be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileKind<'a> {
    /// Its format; told by ending and content if `None`.
    pub format: Option<&'a str>,
    /// Its encoding; that of the training data if `None`.
    pub encoding: Option<&'a str>,
}

/// How predictions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As the input came: CoNLL-U with its column filled, columns with the last one filled, text as `word_TAG`; a prompt
    /// with what follows it.
    Same,
    /// One JSON object for each example.
    Json,
}

/// What a model reached on data that it was not trained on.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Sentences, or windows of a text.
    pub examples: usize,
    /// Words or characters that were judged.
    pub tokens: usize,
    /// Metrics by their usual names.
    pub metrics: Vec<(&'static str, f64)>,
    /// What a person may want to know beside a metric, by its name.
    pub remarks: Vec<(&'static str, String)>,
    /// How long it took.
    pub seconds: f64,
    /// What the user should know of the data, a line each.
    pub warnings: Vec<String>,
}

/// How much was predicted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predicted {
    /// Sentences or prompts.
    pub examples: usize,
    /// Words that got a label, or characters that were written.
    pub tokens: usize,
    /// What the user should know at the end, a line each.
    pub warnings: Vec<String>,
}

/// How much was predicted so far, for whoever watches it: examples and tokens.
pub type Watch<'a> = &'a mut dyn FnMut(usize, usize);

/// What is done otherwise than when the model was trained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides<'a> {
    /// Keys of the table `[decoding]`, as `decoding.key=value`.
    pub set: &'a [String],
    /// What is drawn from.
    pub seed: Option<u64>,
}

impl Overrides<'_> {
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        for assignment in self.set {
            if !assignment.trim_start().starts_with("decoding.") {
                return Err(Error::Recipe(format!(
                    "`--set {assignment}`: of a finished model only keys of [decoding] can be set, as in decoding.top_k=10"
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
    /// Goes on with a text.
    Generate(Generator),
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
            Task::Tag => Self::Tag(Tagger::read(&dir, recipe)?),
            Task::Generate => Self::Generate(Generator::read(&dir, recipe)?),
        })
    }

    /// What it does.
    pub fn task(&self) -> Task {
        match self {
            Self::Tag(_) => Task::Tag,
            Self::Generate(_) => Task::Generate,
        }
    }

    /// What an example is called that is predicted, and what it is a sequence of; many of each.
    pub fn nouns(&self) -> (&'static str, &'static str) {
        match self {
            Self::Tag(_) => ("sentences", "words"),
            Self::Generate(_) => ("prompts", "characters"),
        }
    }

    /// Judges the model on the part `part` of `data`, where data has parts.
    ///
    /// # Errors
    /// If the data cannot be read, or is not what the model can be judged on.
    pub fn evaluate(&self, data: &str, part: Part, kind: FileKind) -> Result<Judgement> {
        match self {
            Self::Tag(tagger) => tagger.evaluate(data, part, kind).map(Into::into),
            Self::Generate(generator) => generator.evaluate(data, kind),
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
            Self::Generate(generator) => generator.predict_stream(source, kind, style, out, stop, watch),
        }
    }
}
