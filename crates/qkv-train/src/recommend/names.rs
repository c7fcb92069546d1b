//! The names of items and users, and the ids that a model knows them by.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Names in the order of their ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Names {
    /// Those of `names` that `keep` says, by their place.
    pub(super) fn chosen(names: &[String], keep: impl Fn(usize) -> bool) -> Self {
        let kept = names.iter().enumerate().filter(|(place, _)| keep(*place));
        Self::of(kept.map(|(_, name)| name.clone()).collect())
    }

    fn of(names: Vec<String>) -> Self {
        let ids = names.iter().cloned().zip(0..).collect();
        Self { names, ids }
    }

    /// The id of a name, if it is known.
    pub(super) fn id(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    /// The ids of other names, `None` for those that are not known.
    pub(super) fn ids_of(&self, names: &[String]) -> Vec<Option<u32>> {
        names.iter().map(|name| self.id(name)).collect()
    }

    /// The name of an id, which must be one.
    pub(super) fn name(&self, id: u32) -> &str {
        &self.names[id as usize]
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    fn from_json(content: &Value, what: &str) -> Result<Self, String> {
        let names: Vec<String> = serde_json::from_value(content[what].clone()).map_err(|e| format!("{what}: {e}"))?;
        let names = Self::of(names);
        match names.ids.len() == names.len() {
            true => Ok(names),
            false => Err(format!("{what}: a name stands there twice")),
        }
    }
}

/// What a model knows by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The items that training had.
    pub(super) items: Names,
    /// The users that the model has a vector of; none where it has one of no user.
    pub(super) users: Names,
}

impl Known {
    /// The content of `vocab.json`.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let content = json!({ "items": self.items.names, "users": self.users.names });
        serde_json::to_vec(&content).expect("names are strings")
    }

    /// What [`Known::to_json`] gave.
    pub(super) fn from_json(content: &[u8]) -> Result<Self, String> {
        let content: Value = serde_json::from_slice(content).map_err(|e| e.to_string())?;
        Ok(Self { items: Names::from_json(&content, "items")?, users: Names::from_json(&content, "users")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_json_and_keep_their_ids() {
        let all: Vec<String> = ["a", "b\t", "ç"].map(String::from).to_vec();
        let known = Known { items: Names::chosen(&all, |place| place != 1), users: Names::chosen(&all, |_| true) };
        let read = Known::from_json(&known.to_json()).expect("what was written");
        assert_eq!(read.items.ids_of(&all), [Some(0), None, Some(1)]);
        assert_eq!((read.users.len(), read.users.name(1)), (3, "b\t"));
    }

    #[test]
    fn broken_names_are_refused() {
        for (content, word) in [
            ("{\"items\": [\"a\", \"a\"], \"users\": []}", "twice"),
            ("{\"items\": [1], \"users\": []}", "items"),
            ("{\"items\": []}", "users"),
            ("[", "EOF"),
        ] {
            let error = Known::from_json(content.as_bytes()).expect_err(content);
            assert!(error.contains(word), "{content}: {error}");
        }
    }
}
