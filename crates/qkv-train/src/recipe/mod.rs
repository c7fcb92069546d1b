//! Recipes: what a run is made of, as five tables of keys, each with a default.
//!
//! What belongs here: the keys (in `keys.rs`), how they are read from TOML and set from `table.key=value`, and the checks
//! that need nothing but the recipe itself. What the keys lead to is decided where they are used.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

mod check;
mod effect;
mod keys;
mod words;

pub use keys::*;
pub use words::*;

/// All that decides a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recipe {
    /// Where examples come from.
    pub data: Data,
    /// How an example becomes a set of vectors.
    pub input: Input,
    /// The encoder and what comes out of it.
    pub model: Model,
    /// How parameters are found.
    pub training: Training,
    /// How a finished model is used.
    pub decoding: Decoding,
}

/// The tables in the order in which they are documented.
pub const TABLES: &[(&str, &[(&str, &str)])] = &[
    ("data", Data::KEYS),
    ("input", Input::KEYS),
    ("model", Model::KEYS),
    ("training", Training::KEYS),
    ("decoding", Decoding::KEYS),
];

impl Recipe {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, or has a key or a value that is not known; the message names the nearest known key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read the recipe", path, &e))?;
        let hint = match path.extension() {
            Some(ending) if ending == "toml" => "",
            _ => "; a recipe is a TOML file: if this is data, write --train before it",
        };
        Self::parse(&text).map_err(|e| Error::Recipe(format!("{}: {e}{hint}", path.display())))
    }

    /// Reads a recipe from TOML text.
    ///
    /// # Errors
    /// As for [`Recipe::read`].
    pub fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            let line = e.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Error::Recipe(format!("line {line}: {}", one_line(&e)))
        })?;
        for (name, content) in &table {
            let keys = known_table(name)?;
            let Some(content) = content.as_table() else {
                return Err(Error::Recipe(format!("`{name}` must be a table, written [{name}]")));
            };
            for key in content.keys() {
                known_key(name, keys, key)?;
            }
        }
        Self::from_table(table)
    }

    /// Sets one key, given as `table.key=value`. The value is TOML; a bare word is taken as a string, and `none` clears a
    /// key that may be absent.
    ///
    /// # Errors
    /// If the form, the key or the value is wrong.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let wrong_form =
            || Error::Recipe(format!("`--set {assignment}`: expected table.key=value, as in model.layers=3"));
        let (path, value) = assignment.split_once('=').ok_or_else(wrong_form)?;
        let (name, key) = path.trim().split_once('.').ok_or_else(wrong_form)?;
        known_key(name, known_table(name)?, key)?;
        let mut table = self.to_table();
        let content = table.get_mut(name).and_then(toml::Value::as_table_mut).ok_or_else(wrong_form)?;
        let value = value.trim();
        let parsed: toml::Value = match format!("value = {value}").parse::<toml::Table>() {
            Ok(mut parsed) => parsed.remove("value").ok_or_else(wrong_form)?,
            Err(_) => bare(value),
        };
        let optional = matches!(
            (name, key),
            (
                "data",
                "train"
                    | "dev"
                    | "format"
                    | "encoding"
                    | "label"
                    | "text"
                    | "source"
                    | "target"
                    | "names"
                    | "test_files"
                    | "dev_files"
                    | "join"
                    | "join_seconds"
                    | "join_count"
                    | "background"
                    | "split"
                    | "ignore"
                    | "categories"
                    | "series"
                    | "smiles"
            ) | ("input", "embedding_dim" | "vectors" | "target_unit" | "colour" | "resize")
                | ("model", "d_ff" | "window" | "relative_range" | "hidden" | "decoder_layers" | "pooling")
                | ("training", "steps" | "metric")
                | ("decoding", "top_k" | "top_p" | "strategy")
        );
        if optional && value == "none" {
            content.remove(key);
        } else {
            // A whole number is a fine value for a key that holds fractions.
            let was_float = content.get(key).is_some_and(toml::Value::is_float);
            let parsed = match parsed {
                toml::Value::Integer(n) if was_float => toml::Value::Float(n as f64),
                other => other,
            };
            content.insert(key.to_string(), parsed);
        }
        *self = Self::from_table(table).map_err(|e| Error::Recipe(format!("`--set {assignment}`: {e}")))?;
        Ok(())
    }

    /// The recipe as TOML text.
    pub fn to_toml(&self) -> String {
        self.to_table().to_string()
    }

    fn to_table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("a recipe holds nothing that TOML cannot")
    }

    fn from_table(table: toml::Table) -> Result<Self> {
        // One table at a time, so that the message can name it.
        fn part<T: Default + for<'de> Deserialize<'de>>(table: &toml::Table, name: &str) -> Result<T> {
            let Some(value) = table.get(name) else { return Ok(T::default()) };
            let content = value.as_table().cloned().unwrap_or_default();
            for (key, value) in &content {
                let one: toml::Table = [(key.clone(), value.clone())].into_iter().collect();
                one.try_into::<T>().map_err(|e| Error::Recipe(format!("{name}.{key}: {}", one_line(&e))))?;
            }
            content.try_into().map_err(|e| Error::Recipe(format!("[{name}]: {}", one_line(&e))))
        }
        let recipe = Self {
            data: part(&table, "data")?,
            input: part(&table, "input")?,
            model: part(&table, "model")?,
            training: part(&table, "training")?,
            decoding: part(&table, "decoding")?,
        };
        Ok(recipe)
    }

    /// What to train on.
    ///
    /// # Errors
    /// If nothing is named.
    pub fn train_paths(&self) -> Result<&Paths> {
        let missing = "no training data: set data.train in the recipe, or give --train FILE";
        self.data.train.as_ref().ok_or_else(|| Error::Recipe(missing.into()))
    }

    /// The one file to train on.
    ///
    /// # Errors
    /// If none is named, or two.
    pub fn train_path(&self) -> Result<&str> {
        let path = self.only("data.train", self.train_paths()?)?;
        if self.input.kind == InputKind::Text && Path::new(path).is_dir() {
            return Err(Error::Training(format!(
                "{path}: is a folder; name one of the files in it, or for recordings, pictures or a graph give --input audio, image or graph"
            )));
        }
        Ok(path)
    }

    /// The one file that the best epoch is judged on, if one is named.
    ///
    /// # Errors
    /// If two are named.
    pub fn dev_path(&self) -> Result<Option<&str>> {
        self.data.dev.as_ref().map(|paths| self.only("data.dev", paths)).transpose()
    }

    fn only<'a>(&self, key: &str, paths: &'a Paths) -> Result<&'a str> {
        match paths.all() {
            [path] => Ok(path),
            paths => Err(Error::Recipe(format!(
                "{key} names {} files, and what is learned from here is one: two are for pairs of model.task = \"generate\"",
                paths.len()
            ))),
        }
    }
}

fn known_table(name: &str) -> Result<&'static [(&'static str, &'static str)]> {
    let known = TABLES.iter().find(|(table, _)| *table == name);
    known.map(|(_, keys)| *keys).ok_or_else(|| {
        if let Some((table, _)) = TABLES.iter().find(|(_, keys)| keys.iter().any(|(key, _)| *key == name)) {
            return Error::Recipe(format!("`{name}` is a key of [{table}]: write it under that heading"));
        }
        Error::Recipe(format!("unknown table [{name}]; nearest: [{}]", nearest(name, TABLES.iter().map(|(t, _)| *t))))
    })
}

fn known_key(table: &str, keys: &[(&'static str, &str)], key: &str) -> Result<()> {
    if keys.iter().any(|(known, _)| *known == key) {
        return Ok(());
    }
    // The key may be known in another table.
    if let Some((other, _)) = TABLES.iter().find(|(_, keys)| keys.iter().any(|(known, _)| *known == key)) {
        return Err(Error::Recipe(format!("unknown key `{key}` in [{table}]; it belongs in [{other}]")));
    }
    let nearest = nearest(key, keys.iter().map(|(known, _)| *known));
    Err(Error::Recipe(format!("unknown key `{key}` in [{table}]; nearest: `{nearest}`")))
}

/// What a shell leaves of words: a word, or a list of such, `[a, b]`.
fn bare(value: &str) -> toml::Value {
    let word = |word: &str| toml::Value::String(word.trim().trim_matches('"').to_string());
    match value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(words) => toml::Value::Array(words.split(',').map(word).collect()),
        None => toml::Value::String(value.to_string()),
    }
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    known.max_by(|a, b| strsim::jaro_winkler(word, a).total_cmp(&strsim::jaro_winkler(word, b))).unwrap_or_default()
}

/// TOML's messages span several lines; ours are one.
fn one_line(error: &toml::de::Error) -> String {
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    let plain =
        [("expected usize", "expected a whole number from 0"), ("expected u64", "expected a whole number from 0")];
    plain
        .iter()
        .fold(message, |message, (jargon, plain)| message.replace(jargon, plain))
        .replace("expected f64", "expected a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_survives_being_written_and_read() {
        let mut recipe = Recipe::default();
        recipe.set("data.train=some/file.conllu").expect("set");
        recipe.set("model.window=3").expect("set");
        recipe.set("training.learning_rate=1").expect("set");
        assert_eq!(Recipe::parse(&recipe.to_toml()).expect("parse"), recipe);
        assert_eq!(recipe.model.window, Some(3));
        recipe.set("model.window=none").expect("set");
        assert_eq!(recipe.model.window, None);
        recipe.set("model.mixer=none").expect("set");
        assert_eq!(recipe.model.mixer, Mixer::None);
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known() {
        let error = Recipe::parse("[training]\nlearning_rat = 1").expect_err("unknown").to_string();
        assert!(error.contains("learning_rate") && error.contains("learning_rat`"), "{error}");
        let error = Recipe::parse("[modle]\nlayers = 1").expect_err("unknown").to_string();
        assert!(error.contains("[model]"), "{error}");
        let error = Recipe::parse("[model]\nepochs = 1").expect_err("misplaced").to_string();
        assert!(error.contains("[training]"), "{error}");
        let error = Recipe::default().set("training.epoch=1").expect_err("unknown").to_string();
        assert!(error.contains("`epochs`"), "{error}");
    }

    #[test]
    fn a_wrong_value_names_its_key_in_one_line() {
        for text in
            ["[model]\nlayers = \"two\"", "[model]\nmixer = \"attn\"", "[training]\nseed = -1", "layers = 3", "[model"]
        {
            let error = Recipe::parse(text).expect_err(text).to_string();
            assert!(!error.contains('\n') && !error.is_empty(), "{text}: {error}");
        }
        let error = Recipe::parse("[model]\nmixer = \"attn\"").expect_err("mixer").to_string();
        assert!(error.contains("mixer") && error.contains("attention"), "{error}");
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        for (assignment, key) in [
            ("model.heads=3", "heads"),
            ("training.epochs=0", "epochs"),
            ("training.dropout=1.0", "dropout"),
            ("training.precision=f16", "precision"),
            ("data.dev_fraction=0", "dev_fraction"),
            ("model.d_model=123456789012", "d_model"),
            ("training.steps=0", "steps"),
            ("model.context=0", "context"),
            ("decoding.top_k=0", "top_k"),
            ("decoding.temperature=-1", "temperature"),
            ("input.unit=characters", "unit"),
            ("model.mixer=factors", "items"),
            ("training.metric=bleu", "metric"),
            ("decoding.beam=0", "beam"),
            ("decoding.top_p=0", "top_p"),
            ("decoding.length_penalty=-1", "length_penalty"),
            ("training.class_weights=balanced", "class_weights"),
        ] {
            let mut recipe = Recipe::default();
            recipe.set(assignment).expect(assignment);
            let error = recipe.check().expect_err(assignment).to_string();
            assert!(error.contains(key), "{error}");
        }
        Recipe::default().check().expect("the defaults can be");
    }

    #[test]
    fn generate_refuses_what_sees_the_future_or_needs_words() {
        let recipe = |assignment: &str| {
            let mut recipe = Recipe::default();
            for assignment in ["model.task=generate", "input.unit=characters", "model.positions=none", assignment] {
                recipe.set(assignment).expect(assignment);
            }
            recipe.check()
        };
        for (assignment, word) in [
            ("model.mixer=cnn", "\"cnn\""),
            ("model.mixer=window", "\"window\""),
            ("input.characters=affixes", "input.characters"),
        ] {
            let error = recipe(assignment).expect_err(assignment).to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
        recipe("model.mixer=none").expect("each character alone");
        recipe("model.window=8").expect("a window of the past");
    }

    #[test]
    fn regress_has_no_labels_and_pooling_by_attention_needs_heads_that_divide() {
        for (assignments, word) in [
            (["model.task=regress", "training.label_smoothing=0.1"], "label_smoothing"),
            (["model.task=regress", "training.metric=f1"], "training.metric"),
            (["model.task=regress", "training.class_weights=balanced"], "class_weights"),
            (["model.mixer=cnn", "model.pooling=attention"], "model.heads"),
        ] {
            let mut recipe = Recipe::default();
            for assignment in ["model.d_model=90"].iter().chain(&assignments) {
                recipe.set(assignment).expect(assignment);
            }
            recipe.model.mixer = Mixer::Cnn;
            let error = recipe.check().expect_err("cannot be").to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn every_recipe_of_the_repository_can_be() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes");
        for entry in std::fs::read_dir(folder).expect("recipes") {
            let path = entry.expect("entry").path();
            let recipe = Recipe::read(&path).expect("a recipe");
            recipe.check().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }

    #[test]
    fn every_key_is_documented() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/recipes.md");
        let page = std::fs::read_to_string(page).expect("docs/recipes.md");
        for (table, keys) in TABLES {
            for (key, _) in *keys {
                assert!(page.contains(&format!("| `{table}.{key}` |")), "docs/recipes.md lacks {table}.{key}");
            }
        }
    }
}
