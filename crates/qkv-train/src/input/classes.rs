//! What the classes of vectors are called.

use std::collections::{BTreeSet, HashMap};

/// Classes in the order in which data named them, and the numbers that they go by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Classes {
    names: Vec<String>,
    places: HashMap<String, u32>,
    /// The number of each, once there are known ones.
    numbers: Vec<u32>,
}

impl Classes {
    /// The place of `name`, which is made one if it is new.
    pub(crate) fn place(&mut self, name: &str) -> u32 {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        let place = self.names.len() as u32;
        self.names.push(name.to_string());
        self.places.insert(name.to_string(), place);
        self.numbers.push(place);
        place
    }

    /// The number of the class in a place.
    pub(crate) fn number(&self, place: u32) -> u32 {
        self.numbers[place as usize]
    }

    /// Numbers classes as `known`, and those that are not known behind; what all are called then.
    pub(crate) fn number_by(&mut self, known: &[String]) -> Vec<String> {
        let mut all = known.to_vec();
        let numbers: HashMap<&str, u32> = known.iter().map(String::as_str).zip(0..).collect();
        self.numbers = (self.names.iter())
            .map(|name| {
                numbers.get(name.as_str()).copied().unwrap_or_else(|| {
                    all.push(name.clone());
                    all.len() as u32 - 1
                })
            })
            .collect();
        all
    }

    /// The names of some places, sorted, each once.
    pub(crate) fn names_of(&self, places: impl IntoIterator<Item = u32>) -> Vec<String> {
        let places: BTreeSet<u32> = places.into_iter().collect();
        let mut names: Vec<String> = places.into_iter().map(|place| self.names[place as usize].clone()).collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_classes_keep_their_numbers_and_others_come_behind() {
        let mut classes = Classes::default();
        let places: Vec<u32> = ["rain", "owl", "rain", "fox"].iter().map(|name| classes.place(name)).collect();
        assert_eq!(places, [0, 1, 0, 2]);
        assert_eq!(classes.names_of(places.clone()), ["fox", "owl", "rain"]);
        let known = ["fox", "cat", "rain"].map(str::to_string);
        assert_eq!(classes.number_by(&known), ["fox", "cat", "rain", "owl"]);
        assert_eq!(places.iter().map(|&place| classes.number(place)).collect::<Vec<_>>(), [2, 3, 2, 0]);
    }
}
