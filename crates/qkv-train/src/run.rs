//! A whole training run: from a recipe to a model directory.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::Device;
use qkv_nn::layers::Init;

use crate::classify::ClassifyTask;
use crate::error::{Error, Result};
use crate::files;
use crate::generate::{GenerateTask, HearTask, PairTask, hears, reads_pairs};
use crate::memory;
use crate::model_dir::{self, ModelDir, Parts};
use crate::recipe::{InputKind, Recipe, Task};
use crate::recommend::{RatingTask, RecommendTask, recommends, settled};
use crate::tag::TagTask;
use crate::tag::each::{EachTask, labels_each};
use crate::tag::pictures::SegmentTask;
use crate::trainer::{self, EpochRecord, Observer};
use crate::weights::Weights;

/// What a run came to.
#[derive(Clone, Debug)]
pub enum Report {
    /// The model directory holds a finished model already; nothing was changed.
    AlreadyFinished {
        /// The dev metric that decided.
        metric: String,
        /// What the model reached by it.
        score: f64,
    },
    /// The run went to its end, or was stopped and left what it had.
    Trained {
        /// Whether it was stopped.
        interrupted: bool,
        /// The epoch that the model is of.
        best: Option<EpochRecord>,
        /// The dev metric that decided.
        metric: String,
        /// Numbers in the model.
        parameters: usize,
        /// Seconds of training.
        seconds: f64,
    },
}

/// What a recipe and its data are like, and what a run would take.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// What the data has of what.
    pub counts: Vec<Count>,
    /// Vectors of the training and of the dev set.
    pub tokens: [usize; 2],
    /// Numbers in the model.
    pub parameters: usize,
    /// Seconds for the whole run, from a few steps that were really taken.
    pub seconds: f64,
    /// The most memory that this process has held while it took them, in bytes; `None` where the system does not tell.
    pub peak_memory: Option<u64>,
    /// What the user should know of the data, a line each.
    pub warnings: Vec<String>,
}

/// How many of something the data has, such as words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// What is counted, for a program.
    pub name: &'static str,
    /// What is counted, for a person.
    pub title: &'static str,
    /// How many there are.
    pub number: usize,
}

/// A task whose data is read: what a run needs of it beside training.
pub trait Prepared: trainer::Task {
    /// The recipe, with what the data decided filled in.
    fn recipe(&self) -> &Recipe;

    /// What the user should know of the data, a line each.
    fn warnings(&self) -> &[String];

    /// The sizes of its vocabularies, the unknown not counted.
    fn counts(&self) -> Vec<Count>;

    /// Vectors of the training and of the dev set.
    fn tokens(&self) -> [usize; 2];

    /// The content of `vocab.json`.
    fn vocab_json(&self) -> Vec<u8>;
}

/// Who watches a run, and what it is told.
struct Watchers<'a> {
    stop: &'a AtomicBool,
    observer: &'a mut dyn Observer,
    warn: &'a mut dyn FnMut(&[String]),
}

/// Trains by `recipe` into the folder `out`. `warn` gets what the user should know of the data, a line each, before
/// training begins.
///
/// # Errors
/// If recipe, data or folder are not fit for it. Nothing that was in the folder is lost.
pub fn run(
    recipe: &Recipe,
    out: &Path,
    resume: bool,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
    warn: &mut dyn FnMut(&[String]),
) -> Result<Report> {
    let recipe = &settled(recipe);
    recipe.check()?;
    check_folder(out, resume)?;
    if let Some(report) = finished(out)? {
        check_same_recipe(out, recipe)?;
        return Ok(report);
    }
    let watchers = Watchers { stop, observer, warn };
    match recipe.model.task {
        Task::Tag if recipe.input.kind == InputKind::Image => {
            run_task(&SegmentTask::prepare(recipe)?, recipe, out, watchers)
        }
        Task::Tag if labels_each(recipe) => run_task(&EachTask::prepare(recipe)?, recipe, out, watchers),
        Task::Tag => run_task(&TagTask::prepare(recipe)?, recipe, out, watchers),
        Task::Regress if recommends(recipe) => run_task(&RatingTask::prepare(recipe)?, recipe, out, watchers),
        Task::Generate if recommends(recipe) => run_task(&RecommendTask::prepare(recipe)?, recipe, out, watchers),
        Task::Classify | Task::Regress => run_task(&ClassifyTask::prepare(recipe)?, recipe, out, watchers),
        Task::Generate if hears(recipe) => run_task(&HearTask::prepare(recipe)?, recipe, out, watchers),
        Task::Generate if reads_pairs(recipe)? => run_task(&PairTask::prepare(recipe)?, recipe, out, watchers),
        Task::Generate => run_task(&GenerateTask::prepare(recipe)?, recipe, out, watchers),
    }
}

fn run_task<T: Prepared>(task: &T, recipe: &Recipe, out: &Path, watchers: Watchers) -> Result<Report> {
    (watchers.warn)(task.warnings());
    files::make_folder(out)?;
    let _lock = files::lock(out)?;
    files::remove_litter(out);
    let outcome = trainer::train(task, recipe, Some(out), watchers.stop, watchers.observer)?;
    let weights = Weights::of(&outcome.model);
    let parts = Parts {
        task: recipe.model.task.name(),
        finished: !outcome.interrupted,
        recipe: task.recipe(),
        weights: &weights,
        vocab: task.vocab_json(),
        metrics: outcome.metrics_json(),
    };
    model_dir::write(out, &parts)?;
    if !outcome.interrupted {
        trainer::remove_checkpoints(out);
    }
    Ok(Report::Trained {
        interrupted: outcome.interrupted,
        best: outcome.best,
        metric: task.criterion().name().to_string(),
        parameters: weights.count(),
        seconds: outcome.seconds,
    })
}

/// Checks that a run may begin in the folder `out`, or with `resume` go on.
///
/// # Errors
/// If the folder holds something that a run would do harm to.
pub fn check_folder(out: &Path, resume: bool) -> Result<()> {
    let names: Vec<_> = match fs::read_dir(out) {
        Ok(entries) => {
            entries.flatten().map(|entry| entry.file_name()).filter(|name| !files::is_litter(name)).collect()
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("use as the model's folder", out, &e)),
    };
    if names.is_empty() {
        return Ok(());
    }
    if !resume {
        let reason = "the folder is not empty: add --resume to go on with the run in it, or give another --out";
        return Err(Error::model(out, reason));
    }
    // A run that was killed before its first checkpoint has left an empty `checkpoint` at most.
    if finished(out)?.is_some() || trainer::has_checkpoint(out)? || names == ["checkpoint"] {
        return Ok(());
    }
    let reason = "--resume: there is no run in the folder that could go on, but other files; give another --out";
    Err(Error::model(out, reason))
}

/// Checks that a folder holds nothing but several runs, which each have a folder of their own in it.
///
/// # Errors
/// If it holds anything else.
pub fn check_folder_of_runs(out: &Path) -> Result<()> {
    let entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("use as the folder of several runs", out, &e)),
    };
    let mut others = entries.flatten().map(|entry| entry.file_name());
    match others.find(|name| !files::is_litter(name) && !name.to_string_lossy().starts_with("seed-")) {
        None => Ok(()),
        Some(other) => Err(Error::model(
            out,
            format!(
                "--runs: the folder holds {} as well, which is no run of several: give another --out",
                other.display()
            ),
        )),
    }
}

/// Checks that a finished model is of the recipe that is asked for.
fn check_same_recipe(out: &Path, recipe: &Recipe) -> Result<()> {
    let before = ModelDir::open(out)?.recipe()?;
    let mut now = recipe.clone();
    // The data may have decided it.
    now.input.embedding_dim = now.input.embedding_dim.or(before.input.embedding_dim);
    let (before, now) = (before.to_toml(), now.to_toml());
    if before == now {
        return Ok(());
    }
    let difference = trainer::first_difference(&before, &now);
    Err(Error::Recipe(format!(
        "--resume: the model in {} is finished, and not of this recipe: {difference}; give another --out",
        out.display()
    )))
}

/// What the finished model in the folder `out` reached; `None` if there is none.
fn finished(out: &Path) -> Result<Option<Report>> {
    if !out.join("config.json").exists() {
        return Ok(None);
    }
    let dir = match ModelDir::open(out) {
        Ok(dir) => dir,
        // Killed between two of its files; what they are made from is still there.
        Err(_) if trainer::has_checkpoint(out)? => return Ok(None),
        Err(e) => return Err(e),
    };
    if !dir.config().finished {
        return Ok(None);
    }
    let metrics = dir.metrics()?;
    let metric = metrics.get("metric").and_then(|name| name.as_str()).unwrap_or("accuracy").to_string();
    let score = metrics.get(&metric).and_then(|score| score.as_f64()).unwrap_or(f64::NAN);
    Ok(Some(Report::AlreadyFinished { metric, score }))
}

/// Checks recipe and data and predicts time and memory, by a few steps on a model that is thrown away.
///
/// # Errors
/// As for [`run`].
pub fn estimate(recipe: &Recipe) -> Result<Estimate> {
    let recipe = &settled(recipe);
    match recipe.model.task {
        Task::Tag if recipe.input.kind == InputKind::Image => estimate_task(&SegmentTask::prepare(recipe)?, recipe),
        Task::Tag if labels_each(recipe) => estimate_task(&EachTask::prepare(recipe)?, recipe),
        Task::Tag => estimate_task(&TagTask::prepare(recipe)?, recipe),
        Task::Regress if recommends(recipe) => estimate_task(&RatingTask::prepare(recipe)?, recipe),
        Task::Generate if recommends(recipe) => estimate_task(&RecommendTask::prepare(recipe)?, recipe),
        Task::Classify | Task::Regress => estimate_task(&ClassifyTask::prepare(recipe)?, recipe),
        Task::Generate if hears(recipe) => estimate_task(&HearTask::prepare(recipe)?, recipe),
        Task::Generate if reads_pairs(recipe)? => estimate_task(&PairTask::prepare(recipe)?, recipe),
        Task::Generate => estimate_task(&GenerateTask::prepare(recipe)?, recipe),
    }
}

fn estimate_task<T: Prepared>(task: &T, recipe: &Recipe) -> Result<Estimate> {
    let seconds = trainer::rehearse(task, recipe, 10)?;
    Ok(Estimate {
        counts: task.counts(),
        tokens: task.tokens(),
        parameters: task.new_model(&Init::new(0, &Device::flex())).num_params(),
        seconds,
        peak_memory: memory::peak(),
        warnings: task.warnings().to_vec(),
    })
}
