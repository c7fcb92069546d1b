//! A whole training run: from a recipe to a model directory.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::files;
use crate::memory;
use crate::model_dir::{self, ModelDir, Parts};
use crate::recipe::{Recipe, Task};
use crate::tag::TagTask;
use crate::trainer::{self, EpochRecord, Observer};
use crate::weights::Weights;

/// What a run came to.
#[derive(Clone, Debug)]
pub enum Report {
    /// The model directory holds a finished model already; nothing was changed.
    AlreadyFinished {
        /// The dev metric that decided.
        metric: &'static str,
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
        metric: &'static str,
        /// Numbers in the model.
        parameters: usize,
        /// Seconds of training.
        seconds: f64,
    },
}

/// What a recipe and its data are like, and what a run would take.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Known words, labels, training and dev tokens.
    pub counts: [usize; 4],
    /// Numbers in the model.
    pub parameters: usize,
    /// Seconds for all epochs, from a few steps that were really taken.
    pub seconds: f64,
    /// The most memory that this process has held while it took them, in bytes; `None` where the system does not tell.
    pub peak_memory: Option<u64>,
    /// What the user should know of the data, a line each.
    pub warnings: Vec<String>,
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
    recipe.check()?;
    check_folder(out, resume)?;
    if let Some(report) = finished(out)? {
        return Ok(report);
    }
    match recipe.model.task {
        Task::Tag => {
            let task = TagTask::prepare(recipe)?;
            warn(task.warnings());
            files::make_folder(out)?;
            let _lock = files::lock(out)?;
            files::remove_litter(out);
            let outcome = trainer::train(&task, recipe, Some(out), stop, observer)?;
            let metrics = outcome.metrics_json();
            let weights = Weights::of(&outcome.model);
            let tagger = task.tagger(outcome.model);
            let parts = Parts {
                task: "tag",
                finished: !outcome.interrupted,
                recipe: task.recipe(),
                weights: &weights,
                vocab: tagger.vocab_json(),
                metrics,
            };
            model_dir::write(out, &parts)?;
            if !outcome.interrupted {
                trainer::remove_checkpoints(out);
            }
            Ok(Report::Trained {
                interrupted: outcome.interrupted,
                best: outcome.best,
                metric: trainer::Task::metric(&task),
                parameters: weights.count(),
                seconds: outcome.seconds,
            })
        }
    }
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
    let found = ["f1", "accuracy"].into_iter().find_map(|name| Some((name, metrics.get(name)?.as_f64()?)));
    let (metric, score) = found.unwrap_or(("accuracy", f64::NAN));
    Ok(Some(Report::AlreadyFinished { metric, score }))
}

/// Checks recipe and data and predicts time and memory, by a few steps on a model that is thrown away.
///
/// # Errors
/// As for [`run`].
pub fn estimate(recipe: &Recipe) -> Result<Estimate> {
    let task = match recipe.model.task {
        Task::Tag => TagTask::prepare(recipe)?,
    };
    let (epoch, evaluation) = trainer::rehearse(&task, recipe, 10)?;
    let device = burn::tensor::Device::flex();
    let model = trainer::Task::new_model(&task, &qkv_nn::layers::Init::new(0, &device));
    let evaluations = if recipe.training.average == crate::recipe::Average::None { 1.0 } else { 2.0 };
    Ok(Estimate {
        counts: task.counts(),
        parameters: burn::module::Module::num_params(&model),
        seconds: recipe.training.epochs as f64 * (epoch + evaluations * evaluation),
        peak_memory: memory::peak(),
        warnings: task.warnings().to_vec(),
    })
}
