//! The training loop: our own, over Burn's optimisers.
//!
//! Its state is a function of seed and step: the order of an epoch comes from (seed, epoch), what a step drops from
//! (seed, step), the rate from how far the run is. So a run that was interrupted, even killed, and goes on from its last
//! checkpoint ends in the same bits as one that was not.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use qkv::random::Key;
use qkv_nn::layers::Init;
use qkv_nn::optim::{FusedAdamW, clip_scale, global_norm};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoints, State, best_file, epoch_file};
use crate::error::{Error, Result};
use crate::recipe::{Average, Recipe, TABLES};
use crate::schedule::learning_rate;
use crate::weights::Weights;

/// What the trainer asks of a task.
pub trait Task {
    /// The model that the task trains.
    type Model: Module;
    /// What names one training example.
    type Example;

    /// A model with fresh parameters.
    fn new_model(&self, init: &Init) -> Self::Model;

    /// The batches of an epoch, counted from 0: a function of seed and epoch.
    fn plan(&self, epoch: usize) -> Vec<Vec<Self::Example>>;

    /// How many vectors a training example has.
    fn length(&self, example: &Self::Example) -> usize;

    /// The loss of some examples, shape `[1]`; what is dropped is drawn from `key`.
    fn loss(&self, model: &Self::Model, examples: &[Self::Example], key: Key) -> Tensor<1>;

    /// What `model`, which holds no gradients, reaches on the dev set.
    fn evaluate(&self, model: &Self::Model) -> Scores;

    /// What decides which epoch is best.
    fn criterion(&self) -> Criterion;

    /// A hash of the training and dev data and all that comes from them: a run can only go on with the same.
    fn fingerprint(&self) -> String;
}

/// The dev metric that decides which of two epochs is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// The higher, as for an accuracy.
    Highest(&'static str),
    /// The lower, as for a loss.
    Lowest(&'static str),
}

impl Criterion {
    /// The metric's usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Highest(name) | Self::Lowest(name) => name,
        }
    }

    /// From worse to better; what is no number is worst.
    pub fn compare(self, a: f64, b: f64) -> Ordering {
        match (a.is_nan(), b.is_nan()) {
            (false, false) => match self {
                Self::Highest(_) => a.total_cmp(&b),
                Self::Lowest(_) => b.total_cmp(&a),
            },
            (a, b) => b.cmp(&a),
        }
    }
}

/// What a model reaches on the dev set.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Mean loss.
    pub loss: f64,
    /// Metrics by their usual names.
    pub metrics: Vec<(&'static str, f64)>,
}

impl Scores {
    /// The metric that decides; the loss is one as well.
    fn by(&self, criterion: Criterion) -> f64 {
        let name = criterion.name();
        let found = self.metrics.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        found.unwrap_or(if name == "loss" { self.loss } else { f64::NAN })
    }
}

/// One finished epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean training loss over the epoch.
    pub train_loss: f64,
    /// Mean dev loss.
    pub loss: f64,
    /// Dev metrics by name.
    pub metrics: serde_json::Map<String, serde_json::Value>,
    /// The name of the dev metric that decides.
    pub metric: String,
    /// What it was.
    pub score: f64,
    /// Seconds since the run began.
    pub seconds: f64,
}

/// Where a run is, for whoever watches it.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The running epoch, counted from 1.
    pub epoch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Batches done in it.
    pub batch: usize,
    /// Batches in it.
    pub batches: usize,
    /// Steps done in all epochs.
    pub step: u64,
    /// Steps that the run is planned for.
    pub steps: u64,
    /// Vectors in the last batch.
    pub tokens: usize,
    /// Mean training loss of the epoch so far.
    pub loss: f64,
    /// The learning rate of the last step.
    pub learning_rate: f64,
}

/// Watches a run.
pub trait Observer {
    /// After each step.
    fn step(&mut self, progress: &Progress);
    /// After each epoch; `best` if none was better before.
    fn epoch(&mut self, record: &EpochRecord, best: bool);
}

/// Nobody watches.
impl Observer for () {
    fn step(&mut self, _: &Progress) {}
    fn epoch(&mut self, _: &EpochRecord, _: bool) {}
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome<M> {
    /// The best model, without gradients.
    pub model: M,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// The epoch that the model is of; `None` if it was stopped before the first ended.
    pub best: Option<EpochRecord>,
    /// All epochs.
    pub history: Vec<EpochRecord>,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Seconds that the run took, in all its parts.
    pub seconds: f64,
}

impl<M> Outcome<M> {
    /// The content of `metrics.json`.
    pub fn metrics_json(&self) -> Vec<u8> {
        let mut object = serde_json::Map::new();
        if let Some(best) = &self.best {
            object.insert("loss".into(), best.loss.into());
            object.extend(best.metrics.clone());
            object.insert("metric".into(), best.metric.clone().into());
            object.insert("best_epoch".into(), best.epoch.into());
        }
        object.insert("steps".into(), self.steps.into());
        object.insert("seconds".into(), self.seconds.into());
        let flat = |record: &EpochRecord| {
            let mut epoch = serde_json::Map::new();
            epoch.insert("epoch".into(), record.epoch.into());
            epoch.insert("train_loss".into(), record.train_loss.into());
            epoch.insert("loss".into(), record.loss.into());
            epoch.extend(record.metrics.clone());
            epoch.insert("seconds".into(), record.seconds.into());
            serde_json::Value::Object(epoch)
        };
        object.insert("epochs".into(), self.history.iter().map(flat).collect::<Vec<_>>().into());
        serde_json::to_vec_pretty(&object).expect("numbers and names")
    }
}

/// Trains `task` by `recipe`. With `out`, checkpoints go to `out/checkpoint`, and a run found there goes on.
///
/// # Errors
/// If a checkpoint cannot be written or read, does not fit recipe and data, or the loss is no longer a number.
pub fn train<T: Task>(
    task: &T,
    recipe: &Recipe,
    out: Option<&Path>,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome<T::Model>> {
    let mut run = Run::new(task, recipe, out)?;
    let interrupted = run.epochs(stop, observer)?;
    run.finish(interrupted)
}

/// Removes the checkpoints of a run whose model is safely written.
pub fn remove_checkpoints(out: &Path) {
    Checkpoints::new(out).remove();
}

/// Whether `out` holds a run that can go on.
///
/// # Errors
/// If its state cannot be read.
pub fn has_checkpoint(out: &Path) -> Result<bool> {
    Ok(Checkpoints::new(out).state()?.is_some())
}

/// The seconds that a whole run takes, as measured on a model that is thrown away: `batches` of the first epoch are really
/// trained on, and the dev set is judged once.
///
/// # Errors
/// If the loss is not a number.
pub fn rehearse<T: Task>(task: &T, recipe: &Recipe, batches: usize) -> Result<f64> {
    let mut run = Run::new(task, recipe, None)?;
    let mut plan = task.plan(0);
    let all: usize = plan.iter().map(|batch| run.tokens(batch)).sum();
    let whole = plan.len();
    // The batch with the longest sets first: it decides the memory.
    let longest = |batch: &Vec<T::Example>| batch.iter().map(|example| task.length(example)).max();
    if let Some(place) = (0..whole).max_by_key(|&place| longest(&plan[place])) {
        plan.swap(0, place);
    }
    let (mut seconds, mut tokens) = (0.0, 0);
    for (place, batch) in plan.iter().take(batches + 1).enumerate() {
        let start = Instant::now();
        run.step(batch, 0.0)?;
        if place > 0 || whole == 1 {
            seconds += start.elapsed().as_secs_f64();
            tokens += run.tokens(batch);
        }
    }
    let epoch = seconds / tokens.max(1) as f64 * all as f64;
    let start = Instant::now();
    task.evaluate(&run.model().valid());
    let evaluation = start.elapsed().as_secs_f64();
    let evaluations = if recipe.training.average == Average::None { 1.0 } else { 2.0 };
    let epochs = match recipe.training.steps {
        Some(steps) => steps as f64 / whole.max(1) as f64,
        None => recipe.training.epochs as f64,
    };
    Ok(epochs * epoch + epochs.ceil() * evaluations * evaluation)
}

/// The sum of the squares of all parameters.
pub(crate) fn squares<M: Module>(model: &M) -> Tensor<1> {
    struct Squares(Option<Tensor<1>>);
    impl ModuleVisitor for Squares {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let x = param.val();
            let own = (x.clone() * x).sum();
            self.0 = Some(match self.0.take() {
                Some(sum) => sum + own,
                None => own,
            });
        }
    }
    let mut visitor = Squares(None);
    model.visit(&mut visitor);
    visitor.0.expect("a model has parameters")
}

/// Time between two checkpoints at the ends of epochs, at least.
const BETWEEN_CHECKPOINTS: Duration = Duration::from_secs(1);

/// Keeps the draws of training apart from those that start parameters.
const TRAINING_STREAM: u64 = 0x7247;

struct Run<'a, T: Task> {
    task: &'a T,
    recipe: &'a Recipe,
    checkpoints: Option<Checkpoints>,
    state: State,
    /// `None` only while an optimiser step has it.
    model: Option<T::Model>,
    optimizer: FusedAdamW,
    moments: ModuleOptimizer,
    /// Parameters at the end of the epochs that `state.kept` names.
    kept: Vec<Weights>,
    /// Parameters of the best epoch.
    best: Option<Weights>,
    /// When the last checkpoint was written.
    written: Option<Instant>,
    started: Instant,
    seconds_before: f64,
}

impl<'a, T: Task> Run<'a, T> {
    fn new(task: &'a T, recipe: &'a Recipe, out: Option<&Path>) -> Result<Self> {
        let device = Device::flex().autodiff();
        let model = task.new_model(&Init::new(recipe.training.seed, &device));
        let optimizer = FusedAdamW::new(recipe.training.weight_decay as f32);
        let moments: ModuleOptimizer = optimizer.clone().into();
        let (recipe_text, fingerprint) = (recipe.to_toml(), task.fingerprint());
        let checkpoints = out.map(Checkpoints::new);
        let found = checkpoints.as_ref().map(Checkpoints::state).transpose()?.flatten();
        let mut run = Self {
            task,
            recipe,
            checkpoints,
            state: State { recipe: recipe_text, fingerprint, ..State::default() },
            model: Some(model),
            optimizer,
            moments,
            kept: Vec::new(),
            best: None,
            written: None,
            started: Instant::now(),
            seconds_before: 0.0,
        };
        if let Some(state) = found {
            run.go_on_from(state)?;
        }
        Ok(run)
    }

    fn go_on_from(&mut self, state: State) -> Result<()> {
        if state.recipe != self.state.recipe {
            let difference = first_difference(&state.recipe, &self.state.recipe);
            return Err(Error::Recipe(format!(
                "--resume: the recipe is not the one that the run began with: {difference}; give the same, or another --out"
            )));
        }
        if state.fingerprint != self.state.fingerprint {
            return Err(Error::Training(
                "--resume: the content of data.train, data.dev or input.vectors is not what the run began with; give the same data, or another --out".into(),
            ));
        }
        let checkpoints = self.checkpoints.as_ref().expect("a state was found in it");
        let model = self.model.take().expect("no step is running");
        let (model, moments) = checkpoints.read(&state, model, self.moments.clone())?;
        (self.model, self.moments) = (Some(model), moments);
        for (epoch, _) in &state.kept {
            self.kept.push(checkpoints.weights(&state, &epoch_file(*epoch))?);
        }
        if let Some(best) = &state.best {
            self.best = Some(checkpoints.weights(&state, &best_file(best.epoch))?);
        }
        checkpoints.tidy(Some(&state));
        self.seconds_before = state.seconds;
        self.state = state;
        Ok(())
    }

    fn model(&self) -> &T::Model {
        self.model.as_ref().expect("no step is running")
    }

    /// How many vectors a batch has.
    fn tokens(&self, batch: &[T::Example]) -> usize {
        batch.iter().map(|example| self.task.length(example)).sum()
    }

    /// Whether the run is at its end: of its steps where it has a number of them, else of its epochs.
    fn at_end(&self) -> bool {
        let training = &self.recipe.training;
        match training.steps {
            Some(steps) => self.state.step >= steps as u64,
            None => self.state.epoch >= training.epochs,
        }
    }

    /// Runs until the end, until patience is at its own, or until somebody says stop; says whether it was that.
    fn epochs(&mut self, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<bool> {
        let training = &self.recipe.training;
        while !self.at_end() && !self.out_of_patience() {
            let mut plan = self.task.plan(self.state.epoch);
            let (whole, before) = (plan.len(), self.state.step - self.state.batch as u64);
            if let Some(steps) = training.steps {
                // The epoch in which the steps end is cut there.
                plan.truncate((steps as u64 - before).try_into().unwrap_or(usize::MAX));
            }
            let steps =
                training.steps.map_or((training.epochs as u64).saturating_mul(whole as u64), |steps| steps as u64);
            let epochs = training.steps.map_or(training.epochs, |steps| steps.div_ceil(whole.max(1)));
            while self.state.batch < plan.len() {
                if stop.load(Relaxed) {
                    self.checkpoint()?;
                    return Ok(true);
                }
                let batch = &plan[self.state.batch];
                let done = match training.steps {
                    Some(steps) => self.state.step as f64 / steps as f64,
                    None => (self.state.epoch as f64 + self.state.batch as f64 / whole as f64) / training.epochs as f64,
                };
                let rate = learning_rate(training, done);
                let loss = self.step(batch, rate)?;
                let tokens = self.tokens(batch);
                self.state.loss_sum += loss * tokens as f64;
                self.state.loss_tokens += tokens;
                self.state.batch += 1;
                observer.step(&Progress {
                    epoch: self.state.epoch + 1,
                    epochs: epochs.max(self.state.epoch + 1),
                    batch: self.state.batch,
                    batches: plan.len(),
                    step: before + self.state.batch as u64,
                    steps,
                    tokens,
                    loss: self.mean_loss(),
                    learning_rate: rate,
                });
                if self.state.step.is_multiple_of(training.checkpoint_every as u64) && self.state.batch < plan.len() {
                    self.checkpoint()?;
                }
            }
            self.end_epoch(observer)?;
        }
        Ok(false)
    }

    fn out_of_patience(&self) -> bool {
        let patience = self.recipe.training.patience;
        patience > 0 && self.state.since_best >= patience
    }

    fn mean_loss(&self) -> f64 {
        self.state.loss_sum / self.state.loss_tokens.max(1) as f64
    }

    /// One optimiser step; returns the loss before it.
    fn step(&mut self, batch: &[T::Example], rate: f64) -> Result<f64> {
        qkv::awake(|| self.one_step(batch, rate))
    }

    fn one_step(&mut self, batch: &[T::Example], rate: f64) -> Result<f64> {
        let training = &self.recipe.training;
        let key = Key::new(training.seed).fold(TRAINING_STREAM).fold(self.state.step);
        let model = self.model.take().expect("no step is running");
        let loss = self.task.loss(&model, batch, key);
        let value = f64::from(loss.clone().into_scalar::<f32>());
        if !value.is_finite() {
            let step = self.state.step + 1;
            return Err(Error::Training(format!("the loss is {value} at step {step}: lower training.learning_rate")));
        }
        let minimised = match training.l2 > 0.0 {
            true => loss + squares(&model) * (training.l2 / 2.0),
            false => loss,
        };
        let grads = GradientsParams::from_grads(minimised.backward(), &model);
        let limit = (training.clip > 0.0).then_some(training.clip);
        self.optimizer.grad_scale.set(clip_scale(global_norm(&model, &grads), limit));
        self.model = Some(self.moments.step(rate, model, grads));
        self.state.step += 1;
        Ok(value)
    }

    fn end_epoch(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let (epoch, criterion) = (self.state.epoch + 1, self.task.criterion());
        let model = self.model().valid();
        let weights = Weights::of(&model);
        let mut scores = self.task.evaluate(&model);
        let mut candidate = weights.clone();
        if self.keep(epoch, weights, scores.by(criterion)) && self.kept.len() > 1 {
            candidate = Weights::mean(&self.kept);
            let averaged = candidate.apply(model).map_err(Error::Training)?;
            scores = self.task.evaluate(&averaged);
        }
        if !scores.loss.is_finite() {
            let loss = scores.loss;
            return Err(Error::Training(format!(
                "the dev loss is {loss} after epoch {epoch}: lower training.learning_rate"
            )));
        }
        let record = EpochRecord {
            epoch,
            train_loss: self.mean_loss(),
            loss: scores.loss,
            metrics: scores.metrics.iter().map(|(name, value)| ((*name).to_string(), (*value).into())).collect(),
            metric: criterion.name().to_string(),
            score: scores.by(criterion),
            seconds: self.seconds(),
        };
        let best = self.state.best.as_ref();
        let better = best.is_none_or(|best| is_better(criterion, &record, best));
        if better {
            (self.state.best, self.best, self.state.since_best) = (Some(record.clone()), Some(candidate), 0);
        } else {
            self.state.since_best += 1;
        }
        self.state.history.push(record.clone());
        self.state.epoch = epoch;
        (self.state.batch, self.state.loss_sum, self.state.loss_tokens) = (0, 0.0, 0);
        observer.epoch(&record, better);
        // Epochs of milliseconds would otherwise wait for the disk: what a kill takes then is done again in less than a second.
        match self.written.is_none_or(|written| written.elapsed() >= BETWEEN_CHECKPOINTS) {
            true => self.checkpoint(),
            false => Ok(()),
        }
    }

    /// Keeps an epoch's parameters if they are to be averaged; says whether the average changed.
    fn keep(&mut self, epoch: usize, weights: Weights, score: f64) -> bool {
        let training = &self.recipe.training;
        if training.average == Average::None {
            return false;
        }
        self.state.kept.push((epoch, score));
        self.kept.push(weights);
        if self.kept.len() > training.average_count {
            let oldest = 0;
            let (criterion, kept) = (self.task.criterion(), &self.state.kept);
            let worst = (0..kept.len()).min_by(|&a, &b| criterion.compare(kept[a].1, kept[b].1));
            let goes = if training.average == Average::Last { oldest } else { worst.unwrap_or(oldest) };
            self.state.kept.remove(goes);
            self.kept.remove(goes);
            return goes < training.average_count;
        }
        true
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.state.seconds = self.seconds();
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        let mut named: Vec<(String, &Weights)> = Vec::new();
        named.extend(self.state.kept.iter().zip(&self.kept).map(|((epoch, _), weights)| (epoch_file(*epoch), weights)));
        named.extend(self.state.best.iter().zip(&self.best).map(|(best, weights)| (best_file(best.epoch), weights)));
        named.retain(|(name, _)| !self.state.files.contains_key(name));
        let model = self.model.as_ref().expect("no step is running");
        checkpoints.write(&mut self.state, model, &self.moments, &named)?;
        self.written = Some(Instant::now());
        Ok(())
    }

    fn finish(self, interrupted: bool) -> Result<Outcome<T::Model>> {
        let seconds = self.seconds();
        let mut model = self.model.expect("no step is running").valid();
        if let Some(best) = &self.best {
            model = best.apply(model).map_err(Error::Training)?;
        }
        let State { best, history, step, .. } = self.state;
        Ok(Outcome { model, interrupted, best, history, steps: step, seconds })
    }
}

/// Whether an epoch is better than the best so far: by its score, and of two with the same score by its dev loss.
fn is_better(criterion: Criterion, record: &EpochRecord, best: &EpochRecord) -> bool {
    match criterion.compare(record.score, best.score) {
        Ordering::Equal => record.loss < best.loss,
        order => order == Ordering::Greater,
    }
}

/// The first key in which two recipes differ, with what it was and is.
pub(crate) fn first_difference(before: &str, now: &str) -> String {
    let [before, now] = [before, now].map(|text| text.parse::<toml::Table>().unwrap_or_default());
    let value = |recipe: &toml::Table, table: &str, key: &str| {
        let value = recipe.get(table).and_then(|table| table.get(key));
        value.map_or("not given".to_string(), |value| format!("`{value}`"))
    };
    let keys = TABLES.iter().flat_map(|(table, keys)| keys.iter().map(move |(key, _)| (*table, *key)));
    keys.map(|(table, key)| (table, key, value(&before, table, key), value(&now, table, key)))
        .find(|(_, _, before, now)| before != now)
        .map_or("keys that this version does not know".to_string(), |(table, key, before, now)| {
            format!("{table}.{key} was {before} and is {now}")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_criterion_says_which_way_is_better() {
        let best = |criterion: Criterion, scores: &[f64]| {
            scores.iter().copied().max_by(|a, b| criterion.compare(*a, *b)).expect("scores")
        };
        let scores = [f64::NAN, 0.5, 2.0, f64::NAN];
        assert_eq!(best(Criterion::Highest("accuracy"), &scores), 2.0);
        assert_eq!(best(Criterion::Lowest("loss"), &scores), 0.5);
        let reached = Scores { loss: 1.5, metrics: vec![("accuracy", 0.25)] };
        assert_eq!(reached.by(Criterion::Lowest("loss")), 1.5);
        assert_eq!(reached.by(Criterion::Highest("accuracy")), 0.25);
        assert!(reached.by(Criterion::Highest("f1")).is_nan());
    }

    #[test]
    fn of_two_epochs_with_the_same_score_the_one_with_the_lower_loss_is_better() {
        let record = |score: f64, loss: f64| EpochRecord {
            epoch: 1,
            train_loss: 0.0,
            loss,
            metrics: Default::default(),
            metric: "accuracy".into(),
            score,
            seconds: 0.0,
        };
        let better = |one: (f64, f64), other: (f64, f64)| {
            is_better(Criterion::Highest("accuracy"), &record(one.0, one.1), &record(other.0, other.1))
        };
        assert!(better((0.9, 0.4), (0.9, 0.5)) && better((0.91, 0.6), (0.9, 0.5)));
        assert!(!better((0.9, 0.5), (0.9, 0.5)) && !better((0.9, 0.6), (0.9, 0.5)) && !better((0.8, 0.1), (0.9, 0.5)));
    }

    #[test]
    fn recipes_differ_by_a_named_key() {
        let (before, mut now) = (Recipe::default(), Recipe::default());
        now.model.window = Some(3);
        now.training.epochs = 7;
        let difference = |a: &Recipe, b: &Recipe| first_difference(&a.to_toml(), &b.to_toml());
        assert_eq!(difference(&before, &now), "model.window was not given and is `3`");
        now.model.window = None;
        assert_eq!(difference(&before, &now), "training.epochs was `20` and is `7`");
    }
}
