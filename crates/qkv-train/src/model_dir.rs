//! The directory that a finished model lives in: its files, their hashes, and the checks when it is read.
//!
//! `config.json` is written last and holds the size and hash of every other file, so a directory with a `config.json`
//! that fits is whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::{self, Staged};
use crate::recipe::Recipe;
use crate::weights::Weights;

/// The version of the layout that this program writes and reads. Version 1 had biases by distance the other way round, which
/// shapes alone do not always tell.
pub const FORMAT_VERSION: u32 = 2;

const CONFIG: &str = "config.json";

/// The key of `config.json` that holds a hash of all its others.
const SEAL: &str = "sha256";

/// What `config.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The version of the layout.
    pub format_version: u32,
    /// The program that wrote it.
    pub program: String,
    /// What comes out of the model.
    pub task: String,
    /// Whether training went to its end.
    pub finished: bool,
    /// Numbers in the model.
    pub parameters: usize,
    /// The recipe that it was trained by.
    pub recipe: Recipe,
    /// Each other file with its size and hash.
    pub files: BTreeMap<String, FileRecord>,
}

/// Size and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Size.
    pub bytes: usize,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

impl FileRecord {
    /// That of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self { bytes: content.len(), sha256: files::hash(content) }
    }
}

/// What goes into a model directory.
pub struct Parts<'a> {
    /// What comes out of the model.
    pub task: &'a str,
    /// Whether training went to its end.
    pub finished: bool,
    /// The recipe, with what the data decided filled in.
    pub recipe: &'a Recipe,
    /// The parameters.
    pub weights: &'a Weights,
    /// The content of `vocab.json`.
    pub vocab: Vec<u8>,
    /// The content of `metrics.json`.
    pub metrics: Vec<u8>,
}

/// Writes a model directory, each file whole, `config.json` last. All are written before the first takes its place, so
/// that a full disk leaves what was there.
///
/// # Errors
/// If a file cannot be written.
pub fn write(path: &Path, parts: &Parts) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::io("make the folder", path, &e))?;
    let contents = [
        ("model.safetensors", parts.weights.to_safetensors()),
        ("vocab.json", parts.vocab.clone()),
        ("metrics.json", parts.metrics.clone()),
    ];
    let (mut staged, mut records) = (Vec::new(), BTreeMap::new());
    for (name, content) in contents {
        staged.push(Staged::new(&path.join(name), &content)?);
        records.insert(name.to_string(), FileRecord::of(&content));
    }
    let config = Config {
        format_version: FORMAT_VERSION,
        program: concat!("qkv ", env!("CARGO_PKG_VERSION")).to_string(),
        task: parts.task.to_string(),
        finished: parts.finished,
        parameters: parts.weights.count(),
        recipe: parts.recipe.clone(),
        files: records,
    };
    let mut config = serde_json::to_value(&config).expect("a configuration is plain data");
    config[SEAL] = seal(&config).into();
    let content = serde_json::to_vec_pretty(&config).expect("a configuration is plain data");
    staged.push(Staged::new(&path.join(CONFIG), &content)?);
    staged.into_iter().try_for_each(Staged::publish)
}

/// A model directory that was read and found whole.
#[derive(Debug)]
pub struct ModelDir {
    path: PathBuf,
    config: Config,
}

impl ModelDir {
    /// Opens a directory and checks that its parts are those that were written.
    ///
    /// # Errors
    /// Names the part that is missing, cut short, changed, or of a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        let config_path = path.join(CONFIG);
        if path.is_file() {
            return Err(Error::model(
                path,
                "is a file, not a folder; a model is a folder that `qkv train … --out FOLDER` makes",
            ));
        }
        if !path.is_dir() {
            return Err(Error::model(path, "there is no such folder; a model is made by `qkv train … --out FOLDER`"));
        }
        if !config_path.exists() {
            let reason = match has_checkpoint(path) {
                true => "training has not finished, so there is no model yet; go on with the same command and --resume",
                false if holds_runs(path) => "holds several runs: name one of its folders seed-N",
                false => "config.json is missing: this is no model directory, or a broken one; train again",
            };
            return Err(Error::model(path, reason));
        }
        let content = files::read(&config_path)?;
        let broken =
            |e: serde_json::Error| Error::model(&config_path, format!("is not what qkv wrote ({e}); {}", mend(path)));
        // The version first: a newer config may hold what this program cannot read.
        let mut value: Value = serde_json::from_slice(&content).map_err(broken)?;
        let version = value.get("format_version").and_then(Value::as_u64).unwrap_or(0);
        if version > u64::from(FORMAT_VERSION) {
            return Err(Error::model(
                &config_path,
                format!(
                    "has format version {version}, newer than the {FORMAT_VERSION} that this program reads; use a newer qkv"
                ),
            ));
        }
        if (1..u64::from(FORMAT_VERSION)).contains(&version) {
            return Err(Error::model(
                &config_path,
                format!(
                    "has format version {version}, older than the {FORMAT_VERSION} that this program reads; train again, or use an older qkv"
                ),
            ));
        }
        let sealed = value.as_object_mut().and_then(|object| object.shift_remove(SEAL));
        if sealed.is_some_and(|sealed| sealed != seal(&value)) {
            return Err(Error::model(&config_path, format!("was changed since training; {}", mend(path))));
        }
        let config: Config = serde_json::from_slice(&content).map_err(broken)?;
        let dir = Self { path: path.to_path_buf(), config };
        for name in dir.config.files.keys() {
            dir.read(name)?;
        }
        Ok(dir)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The recipe that the model was trained by.
    ///
    /// # Errors
    /// If it holds values that cannot be.
    pub fn recipe(&self) -> Result<Recipe> {
        let recipe = self.config.recipe.clone();
        recipe.check().map_err(|e| self.broken(CONFIG, &e.to_string()))?;
        Ok(recipe)
    }

    /// The content of a part, checked against its record.
    ///
    /// # Errors
    /// If it is missing, cut short or changed.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path.join(name);
        let Some(record) = self.config.files.get(name) else {
            return Err(Error::model(&path, "is not among the files that config.json lists; train again"));
        };
        if !path.exists() {
            return Err(Error::model(&path, format!("is missing; {}", mend(&self.path))));
        }
        let content = files::read(&path)?;
        if content.len() < record.bytes {
            let (here, whole) = (content.len(), record.bytes);
            let reason = format!("is cut short, {here} of {whole} bytes; {}", mend(&self.path));
            return Err(Error::model(&path, reason));
        }
        if FileRecord::of(&content) != *record {
            return Err(Error::model(&path, format!("was changed since training; {}", mend(&self.path))));
        }
        Ok(content)
    }

    /// The parameters.
    ///
    /// # Errors
    /// If the file is broken.
    pub fn weights(&self) -> Result<Weights> {
        let content = self.read("model.safetensors")?;
        Weights::from_safetensors(&content).map_err(|e| self.broken("model.safetensors", &e))
    }

    /// The error of a part whose content, although it is what was written, cannot be used.
    pub fn broken(&self, name: &str, what: &str) -> Error {
        Error::model(&self.path.join(name), format!("{what}; {}", mend(&self.path)))
    }

    /// The content of `metrics.json`.
    ///
    /// # Errors
    /// If it is missing or broken.
    pub fn metrics(&self) -> Result<Value> {
        let content = self.read("metrics.json")?;
        serde_json::from_slice(&content).map_err(|e| self.broken("metrics.json", &e.to_string()))
    }
}

/// What seals a configuration against changes.
fn seal(config: &Value) -> String {
    files::hash(config.to_string().as_bytes())
}

/// Whether training in the folder can go on.
fn has_checkpoint(path: &Path) -> bool {
    path.join("checkpoint").exists()
}

/// Whether the folder is that of `--runs`.
fn holds_runs(path: &Path) -> bool {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("seed-"))
}

/// What would mend a broken model directory.
fn mend(path: &Path) -> &'static str {
    match has_checkpoint(path) {
        true => "training has not finished: go on with the same command and --resume",
        false => "copy the model again or train again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use qkv_nn::layers::{Init, Linear};

    fn written() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("tempdir");
        let weights = Weights::of(&Linear::new(3, 5, &Init::new(1, &Device::flex())));
        let parts = Parts {
            task: "tag",
            finished: true,
            recipe: &Recipe::default(),
            weights: &weights,
            vocab: b"{}".to_vec(),
            metrics: br#"{"loss": 0.5}"#.to_vec(),
        };
        write(folder.path(), &parts).expect("write");
        folder
    }

    fn refused(folder: &Path) -> String {
        let error = ModelDir::open(folder).expect_err("refused").to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn a_whole_directory_is_read_back() {
        let folder = written();
        let dir = ModelDir::open(folder.path()).expect("open");
        assert_eq!(dir.config().parameters, 20);
        assert_eq!(dir.weights().expect("weights").count(), 20);
        assert_eq!(dir.metrics().expect("metrics")["loss"], 0.5);
    }

    #[test]
    fn a_missing_part_is_refused_by_name() {
        for name in ["model.safetensors", "vocab.json", "metrics.json", "config.json"] {
            let folder = written();
            fs::remove_file(folder.path().join(name)).expect("remove");
            let error = refused(folder.path());
            assert!(error.contains(name) && error.contains("missing"), "{error}");
        }
    }

    #[test]
    fn a_part_cut_short_or_changed_is_refused_by_name() {
        let folder = written();
        let path = folder.path().join("model.safetensors");
        let mut content = fs::read(&path).expect("read");
        fs::write(&path, &content[..content.len() - 1]).expect("cut");
        let error = refused(folder.path());
        assert!(error.contains("model.safetensors") && error.contains("cut short"), "{error}");
        *content.last_mut().expect("not empty") ^= 1;
        fs::write(&path, &content).expect("change");
        let error = refused(folder.path());
        assert!(error.contains("model.safetensors") && error.contains("changed"), "{error}");
        fs::write(folder.path().join("config.json"), b"{").expect("break");
        assert!(refused(folder.path()).contains("config.json"));
    }

    #[test]
    fn another_version_is_refused() {
        let folder = written();
        let path = folder.path().join("config.json");
        let config = fs::read_to_string(&path).expect("read");
        for (version, why) in [(99, "newer"), (1, "older")] {
            let other = config.replace("\"format_version\": 2", &format!("\"format_version\": {version}"));
            fs::write(&path, other).expect("write");
            assert!(refused(folder.path()).contains(why));
        }
    }

    #[test]
    fn no_folder_and_an_unfinished_run_are_told_apart() {
        let folder = tempfile::tempdir().expect("tempdir");
        assert!(refused(&folder.path().join("nothing")).contains("no such folder"));
        fs::create_dir(folder.path().join("checkpoint")).expect("mkdir");
        assert!(refused(folder.path()).contains("--resume"));
    }
}
