//! Labels as they stand in the data: each spelling once, and which of them is whose.

use std::collections::HashMap;

use qkv::gather::NONE;

use super::is_missing;
use crate::batch::{UNSEEN, UnseenLabel};
use crate::error::{Error, Result, quote};
use crate::vocab::Labels;

/// A label, or none, for each of some things: rows, steps, nodes, or whole sets.
#[derive(Debug, Clone, Default)]
pub struct GivenLabels {
    /// For each thing its label's place in `names`, or [`NONE`].
    ids: Vec<u32>,
    names: Names,
    /// The line where each name stands first.
    lines: Vec<usize>,
}

/// Names and their places, in the order of their first occurrence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    names: Vec<String>,
    places: HashMap<String, u32>,
}

impl Names {
    /// The place of `name`, which is added if it is new.
    pub(crate) fn place_of(&mut self, name: &str) -> u32 {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        // So many names as 32 bits cannot count would not fit into the memory of a machine.
        let place = self.names.len() as u32;
        self.places.insert(name.to_owned(), place);
        self.names.push(name.to_owned());
        place
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn into_names(self) -> Vec<String> {
        self.names
    }
}

impl PartialEq for GivenLabels {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl GivenLabels {
    /// Adds the label of the next thing, on line `line`; one that is blank, or a word for what is missing, is none.
    pub(crate) fn push(&mut self, label: Option<&str>, line: usize) {
        let label = label.map(str::trim).filter(|label| !is_missing(label));
        let id = label.map_or(NONE, |label| self.names.place_of(label));
        if self.names.names.len() > self.lines.len() {
            self.lines.push(line);
        }
        self.ids.push(id);
    }

    /// How many things there are, with a label or without.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no things.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether nothing has a label.
    #[must_use]
    pub fn has_none(&self) -> bool {
        self.names.names.is_empty()
    }

    /// The label of a thing.
    ///
    /// # Panics
    ///
    /// If there is no such thing.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        self.names.names.get(self.ids[index] as usize).map(String::as_str)
    }

    /// The label of each thing.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Each label once, in the order of their first occurrence.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names.names
    }

    /// The ids of the labels by `labels`: [`NONE`] where there is no label, [`UNSEEN`] where there is one that `labels` has
    /// not. Beside them those, in the order of their first occurrence.
    #[must_use]
    pub fn targets(&self, labels: &Labels) -> (Vec<u32>, Vec<UnseenLabel>) {
        let known: Vec<u32> = self.names.names.iter().map(|name| labels.id(name).unwrap_or(UNSEEN)).collect();
        let mut counts = vec![0; self.names.names.len()];
        let targets = self.ids.iter().map(|&id| match known.get(id as usize) {
            Some(&known) => {
                counts[id as usize] += 1;
                known
            }
            None => NONE,
        });
        let targets = targets.collect();
        let unseen = (0..self.names.names.len()).filter(|&place| known[place] == UNSEEN && counts[place] > 0);
        let unseen = unseen.map(|place| UnseenLabel {
            label: self.names.names[place].clone(),
            line: self.lines[place],
            count: counts[place],
        });
        (targets, unseen.collect())
    }

    /// The labels as numbers, in data that messages call `source`.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`], which names the line, for the first label that is no finite number.
    pub fn numbers(&self, source: &str) -> Result<Vec<Option<f64>>> {
        let number = |(name, &line): (&String, &usize)| {
            let number = name.parse().ok().filter(|number: &f64| number.is_finite());
            number.ok_or_else(|| {
                let mend =
                    "write one such as -1.5 or 2e-3, or train with model.task = \"classify\" if labels are names";
                Error::malformed(source, line, format!("the label {} is not a finite number", quote(name)), mend)
            })
        };
        let numbers = self.names.names.iter().zip(&self.lines).map(number).collect::<Result<Vec<f64>>>()?;
        Ok(self.ids.iter().map(|&id| numbers.get(id as usize).copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(given: &[Option<&str>]) -> GivenLabels {
        let mut labels = GivenLabels::default();
        given.iter().enumerate().for_each(|(place, label)| labels.push(*label, place + 1));
        labels
    }

    #[test]
    fn labels_become_ids_and_unseen_ones_are_counted() {
        let given = labels(&[Some("b"), None, Some(" a "), Some(""), Some("z"), Some("z")]);
        assert_eq!((given.get(2), given.get(3)), (Some("a"), None));
        let (targets, unseen) = given.targets(&Labels::build(["a", "b"]));
        assert_eq!(targets, [1, NONE, 0, NONE, UNSEEN, UNSEEN]);
        assert_eq!(unseen, [UnseenLabel { label: "z".to_owned(), line: 5, count: 2 }]);
        assert_eq!(given, labels(&[Some("b"), None, Some("a"), None, Some("z"), Some("z")]));
        assert_ne!(given, labels(&[Some("b")]));
    }

    #[test]
    fn labels_become_numbers_or_name_their_line() {
        let given = labels(&[Some("1.5"), None, Some("NaN"), Some("?")]);
        assert_eq!(given.numbers("a.csv").unwrap(), [Some(1.5), None, None, None]);
        for wrong in ["x", "inf"] {
            let message = labels(&[Some("1"), Some(wrong)]).numbers("a.csv").unwrap_err().to_string();
            assert!(message.starts_with(&format!("a.csv:2: the label \"{wrong}\" is not a finite")), "{message}");
        }
    }
}
