//! A whole training run: from a recipe to a model directory.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::model_dir::{self, ModelDir, Parts};
use crate::recipe::{Recipe, Task};
use crate::tag::TagTask;
use crate::trainer::{self, EpochRecord, Observer};
use crate::weights::Weights;

/// What a run came to.
#[derive(Clone, Debug)]
pub enum Report {
    /// The model directory holds a finished model already; nothing was changed.
    AlreadyFinished,
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

/// Trains by `recipe` into the folder `out`. `warn` gets what the user should know of the data, a line each.
///
/// # Errors
/// If recipe, data or folder are not fit for it. Nothing that was in the folder is lost.
pub fn run(
    recipe: &Recipe,
    out: &Path,
    resume: bool,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
    warn: &mut dyn FnMut(&str),
) -> Result<Report> {
    recipe.check()?;
    if out.join("config.json").exists() && !trainer::has_checkpoint(out) {
        let dir = ModelDir::open(out)?;
        if resume && dir.config().finished {
            return Ok(Report::AlreadyFinished);
        }
    }
    let occupied = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    if occupied && !resume {
        let reason = "the folder is not empty: add --resume to go on with the run in it, or give another --out";
        return Err(Error::model(out, reason));
    }
    fs::create_dir_all(out).map_err(|e| Error::io("make the folder", out, &e))?;
    match recipe.model.task {
        Task::Tag => {
            let task = TagTask::prepare(recipe)?;
            task.warnings().iter().for_each(|warning| warn(warning));
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
        peak_memory: peak_memory(),
        warnings: task.warnings().to_vec(),
    })
}

/// The most memory that this process has held, in bytes.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
