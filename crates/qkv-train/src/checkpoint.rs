//! What a run needs to go on in the same bits: written every so many steps, at the end of each epoch, and on Ctrl-C.
//!
//! A checkpoint is several files; `state.json` names them with their hashes and is renamed into place last, so that at
//! any moment the state on disk is whole. Files that no state names any more are removed afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;
use crate::model_dir::FileRecord;
use crate::trainer::EpochRecord;
use crate::weights::Weights;

/// Where a run is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Optimiser steps taken.
    pub(crate) step: u64,
    /// Epochs finished.
    pub(crate) epoch: usize,
    /// Batches of the running epoch that are done.
    pub(crate) batch: usize,
    /// Sum over them of loss times examples' tokens, and those tokens.
    pub(crate) loss_sum: f64,
    pub(crate) loss_tokens: usize,
    /// Seconds that the run has taken, in all its parts.
    pub(crate) seconds: f64,
    /// The best epoch so far and its scores.
    pub(crate) best: Option<EpochRecord>,
    /// Epochs since then.
    pub(crate) since_best: usize,
    /// All epochs so far.
    pub(crate) history: Vec<EpochRecord>,
    /// Epochs whose parameters are kept to be averaged: number and dev metric of the parameters themselves.
    pub(crate) kept: Vec<(usize, f64)>,
    /// The recipe, and a hash of the data.
    pub(crate) recipe: String,
    pub(crate) fingerprint: String,
    /// The checkpoint's other files.
    pub(crate) files: BTreeMap<String, FileRecord>,
}

/// The folder `checkpoint/` of a run.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
}

const STATE: &str = "state.json";

impl Checkpoints {
    pub(crate) fn new(out: &Path) -> Self {
        Self { folder: out.join("checkpoint") }
    }

    /// The last state, if there is one.
    pub(crate) fn state(&self) -> Result<Option<State>> {
        let path = self.folder.join(STATE);
        if !path.exists() {
            return Ok(None);
        }
        let state: State = serde_json::from_slice(&files::read(&path)?)
            .map_err(|e| broken(&path, &format!("is not what qkv wrote ({e})")))?;
        Ok(Some(state))
    }

    /// Writes model, optimiser and state. `weights` are whole sets of parameters, by name, that are not on disk yet. If
    /// that fails, the last state stays and what was written beside it goes, since room is what is wanted then.
    pub(crate) fn write<M: Module>(
        &self,
        state: &mut State,
        model: &M,
        optimizer: &ModuleOptimizer,
        weights: &[(String, &Weights)],
    ) -> Result<()> {
        // What stands on disk for this very place is left alone: Burn's record of the moments has them in any order, so
        // writing them again would put other bytes under a name whose hash the state already holds.
        if self.state()?.is_some_and(|before| before.place() == state.place()) {
            return Ok(());
        }
        let written = self.write_all(state, model, optimizer, weights);
        match (&written, self.state()) {
            (Ok(()), _) => self.tidy(Some(state)),
            (Err(_), Ok(before)) => self.tidy(before.as_ref()),
            (Err(_), Err(_)) => {}
        }
        written
    }

    fn write_all<M: Module>(
        &self,
        state: &mut State,
        model: &M,
        optimizer: &ModuleOptimizer,
        weights: &[(String, &Weights)],
    ) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(|e| Error::io("make the folder", &self.folder, &e))?;
        let record = |e: burn::store::RecordError| Error::Training(format!("cannot store the model: {e}"));
        let model = model.clone().into_record().into_bytes().map_err(record)?;
        let optimizer = optimizer.to_record().into_bytes().map_err(record)?;
        let step = state.step;
        let mut contents: Vec<(String, Vec<u8>)> =
            vec![(format!("model-{step}.bpk"), model.to_vec()), (format!("optimizer-{step}.bpk"), optimizer.to_vec())];
        contents.extend(weights.iter().map(|(name, weights)| (name.clone(), weights.to_safetensors())));
        let mut records: BTreeMap<String, FileRecord> = BTreeMap::new();
        for (name, content) in &contents {
            files::write_atomically(&self.folder.join(name), content)?;
            records.insert(name.clone(), FileRecord::of(content));
        }
        let wanted = state.weight_files();
        records
            .extend(state.files.iter().filter(|(name, _)| wanted.contains(name)).map(|(n, r)| (n.clone(), r.clone())));
        state.files = records;
        let content = serde_json::to_vec_pretty(state).expect("a state is plain data");
        files::write_atomically(&self.folder.join(STATE), &content)
    }

    /// Model and optimiser as the state has them.
    pub(crate) fn read<M: Module>(
        &self,
        state: &State,
        model: M,
        optimizer: ModuleOptimizer,
    ) -> Result<(M, ModuleOptimizer)> {
        let bytes =
            |name: String| Ok::<_, Error>((self.folder.join(&name), Bytes::from_bytes_vec(self.part(state, &name)?)));
        let (path, content) = bytes(format!("model-{}.bpk", state.step))?;
        let fail = |e: burn::store::RecordError| broken(&path, &e.to_string());
        let model = model.try_load_record(ModuleRecord::from_bytes(content).map_err(fail)?).map_err(fail)?;
        let (path, content) = bytes(format!("optimizer-{}.bpk", state.step))?;
        let fail = |e: burn::store::RecordError| broken(&path, &e.to_string());
        let optimizer = optimizer.load_record(OptimizerRecord::from_bytes(content).map_err(fail)?);
        Ok((model, optimizer))
    }

    /// A whole set of parameters that [`Checkpoints::write`] stored.
    pub(crate) fn weights(&self, state: &State, name: &str) -> Result<Weights> {
        let content = self.part(state, name)?;
        Weights::from_safetensors(&content).map_err(|e| broken(&self.folder.join(name), &e))
    }

    fn part(&self, state: &State, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(name);
        if !path.exists() {
            return Err(broken(&path, "is missing"));
        }
        let content = files::read(&path)?;
        if state.files.get(name) != Some(&FileRecord::of(&content)) {
            return Err(broken(&path, "was changed or cut short"));
        }
        Ok(content)
    }

    /// The run is finished: nothing of it is needed any more.
    pub(crate) fn remove(&self) {
        // A folder that stays behind costs room, not truth; but not a state without its files.
        let _ = fs::remove_file(self.folder.join(STATE));
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// Removes the files that `state`, the one on disk, does not name.
    pub(crate) fn tidy(&self, state: Option<&State>) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if state.is_none_or(|state| name != STATE && !state.files.contains_key(&name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The error of a part that cannot be used.
fn broken(path: &Path, what: &str) -> Error {
    Error::model(path, format!("{what}: the run cannot go on; begin it again with another --out"))
}

impl State {
    /// Step, epoch and batch: with seed and data, all that the parameters depend on.
    fn place(&self) -> (u64, usize, usize) {
        (self.step, self.epoch, self.batch)
    }

    /// The sets of parameters that the state refers to.
    fn weight_files(&self) -> Vec<String> {
        let kept = self.kept.iter().map(|(epoch, _)| epoch_file(*epoch));
        kept.chain(self.best.iter().map(|best| best_file(best.epoch))).collect()
    }
}

/// The parameters at the end of an epoch.
pub(crate) fn epoch_file(epoch: usize) -> String {
    format!("epoch-{epoch}.safetensors")
}

/// The parameters that are best so far.
pub(crate) fn best_file(epoch: usize) -> String {
    format!("best-{epoch}.safetensors")
}
