//! Parts of a set of molecules: by scaffold, or at random.
//!
//! Molecules with the same scaffold are alike, so that a model that has seen some of them knows much of the others. A split
//! by scaffold keeps them in one part and so asks of the model what is asked in use: to judge what it has not seen.

use std::collections::HashMap;

use qkv::random::Key;

use crate::error::{Error, Result};
use crate::plan::shuffle;

/// Keeps the shuffles of this split apart from others under the same seed.
const RANDOM: u64 = 0x4d4f_4c52_414e_4400;

/// How messages call the shares.
const SETTING: &str = "the shares of the parts";

/// How much of a set goes to training and to the dev part; the rest is for the test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// The share of the training part.
    pub train: f64,
    /// The share of the dev part.
    pub dev: f64,
}

impl Default for Shares {
    /// Eight tenths, one tenth, and one tenth for the test.
    fn default() -> Self {
        Self { train: 0.8, dev: 0.1 }
    }
}

impl Shares {
    fn check(self) -> Result<()> {
        let (train, dev) = (self.train, self.dev);
        // Sums such as 0.7 + 0.3 may exceed 1 by a rounding.
        if train > 0.0 && dev >= 0.0 && train + dev <= 1.0 + 1e-9 {
            return Ok(());
        }
        let what = format!("{train} for training and {dev} for dev are no shares of a set");
        Err(Error::unusable(SETTING, what, "give a positive share and one that is not negative, together at most 1"))
    }

    fn has_test(self) -> bool {
        self.train + self.dev < 1.0 - 1e-9
    }
}

/// The places of a set's members that each part has, each rising.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartIndices {
    /// For training.
    pub train: Vec<usize>,
    /// For dev.
    pub dev: Vec<usize>,
    /// For the test.
    pub test: Vec<usize>,
}

impl PartIndices {
    /// The parts, sorted, if each that was asked for has a member.
    fn finish(mut self, shares: Shares, what_splits: &str) -> Result<Self> {
        let count = self.train.len() + self.dev.len() + self.test.len();
        let empty = [
            ("training", self.train.is_empty()),
            ("dev", self.dev.is_empty() && shares.dev > 0.0),
            ("test", self.test.is_empty() && shares.has_test()),
        ];
        if let Some((part, _)) = empty.iter().find(|(_, is_empty)| *is_empty) {
            let what = format!("{count} molecules split {what_splits} leave the {part} part without any");
            return Err(Error::unusable(SETTING, what, "give more molecules, other shares, or split at random"));
        }
        [&mut self.train, &mut self.dev, &mut self.test].into_iter().for_each(|part| part.sort_unstable());
        Ok(self)
    }
}

/// Splits molecules by their scaffolds, of which `keys` are the [keys](super::scaffold_key), as DeepChem's
/// `ScaffoldSplitter` does.
///
/// Molecules with the same key form a group. The groups, from the largest to the smallest (of equally large ones that
/// first whose first molecule comes later), go to the training part as long as they fit there; those that do not, to the
/// dev part as long as training and dev together stay within their shares; the rest is the test part. So this split has
/// no seed: the test part is made of molecules with rare scaffolds. Molecules without a ring are one group.
///
/// # Errors
///
/// Shares that are none, and a part with a share that gets no molecule, as where all have the same scaffold.
pub fn scaffold_split<K: AsRef<str>>(keys: &[K], shares: Shares) -> Result<PartIndices> {
    shares.check()?;
    let mut groups = groups(keys);
    groups.sort_by_key(|group| std::cmp::Reverse((group.len(), group[0])));
    fill(groups, keys.len(), shares).finish(shares, "by scaffold")
}

/// Splits `count` molecules at random: the shares of training and dev are rounded, the test part is what remains.
///
/// # Errors
///
/// Shares that are none, and a part with a share that gets no molecule.
pub fn random_split(count: usize, shares: Shares, seed: u64) -> Result<PartIndices> {
    shares.check()?;
    let size = |share: f64| ((count as f64 * share).round() as usize).min(count);
    let mut train: Vec<usize> = (0..count).collect();
    shuffle(&mut train, Key::new(seed).fold(RANDOM));
    let mut dev = train.split_off(size(shares.train));
    let most = if shares.has_test() { size(shares.dev).min(dev.len()) } else { dev.len() };
    let test = dev.split_off(most);
    PartIndices { train, dev, test }.finish(shares, "at random")
}

/// The places of equal keys, each rising, in the order of their first places.
fn groups<K: AsRef<str>>(keys: &[K]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known = HashMap::new();
    for (place, key) in keys.iter().enumerate() {
        let group = *known.entry(key.as_ref()).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(group) => group.push(place),
            None => groups.push(vec![place]),
        }
    }
    groups
}

fn fill(groups: Vec<Vec<usize>>, count: usize, shares: Shares) -> PartIndices {
    // A rounding must not shut out what exactly fits.
    let most = |share: f64| share * count as f64 + 1e-6;
    let (train, both) = (most(shares.train), most(shares.train + shares.dev));
    let mut parts = PartIndices::default();
    for group in groups {
        if (parts.train.len() + group.len()) as f64 <= train {
            parts.train.extend(group);
        } else if (parts.train.len() + parts.dev.len() + group.len()) as f64 <= both {
            parts.dev.extend(group);
        } else {
            parts.test.extend(group);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    fn all_of(parts: &PartIndices) -> Vec<usize> {
        let mut all = [parts.train.clone(), parts.dev.clone(), parts.test.clone()].concat();
        all.sort_unstable();
        all
    }

    #[test]
    fn the_largest_groups_train_and_the_rarest_test() {
        let parts = scaffold_split(&keys("cabaaaaabb"), Shares { train: 0.6, dev: 0.3 }).unwrap();
        assert_eq!(parts, PartIndices { train: vec![1, 3, 4, 5, 6, 7], dev: vec![2, 8, 9], test: vec![0] });
        // Of equally large groups the one that begins later comes first.
        let parts = scaffold_split(&keys("abcdefghij"), Shares::default()).unwrap();
        assert_eq!((parts.dev, parts.test), (vec![1], vec![0]));
    }

    #[test]
    fn a_group_that_does_not_fit_goes_to_the_next_part_and_smaller_ones_still_fit() {
        let message = scaffold_split(&keys("aaaaaabbbc"), Shares { train: 0.7, dev: 0.2 }).unwrap_err().to_string();
        assert!(message.contains("leave the test part without any"), "{message}");
        let parts = scaffold_split(&keys("aaaaaabbcd"), Shares { train: 0.7, dev: 0.2 }).unwrap();
        assert_eq!((parts.train.len(), parts.dev, parts.test), (7, vec![6, 7], vec![8]));
    }

    #[test]
    fn groups_stay_together() {
        let keys: Vec<String> = (0..300).map(|place| format!("{}", (place * place) % 61)).collect();
        let parts = scaffold_split(&keys, Shares::default()).unwrap();
        assert_eq!(all_of(&parts), (0..300).collect::<Vec<_>>());
        assert!(parts.train.len() <= 240 && parts.train.len() > 220);
        let of = |part: &[usize]| part.iter().map(|&place| keys[place].clone()).collect::<Vec<_>>();
        assert!(of(&parts.train).iter().all(|key| !of(&parts.dev).contains(key) && !of(&parts.test).contains(key)));
        assert!(of(&parts.dev).iter().all(|key| !of(&parts.test).contains(key)));
    }

    #[test]
    fn random_parts_are_complete_disjoint_and_repeatable() {
        let parts = random_split(101, Shares::default(), 3).unwrap();
        assert_eq!((parts.train.len(), parts.dev.len(), parts.test.len()), (81, 10, 10));
        assert_eq!(all_of(&parts), (0..101).collect::<Vec<_>>());
        assert_eq!(random_split(101, Shares::default(), 3).unwrap(), parts);
        assert_ne!(random_split(101, Shares::default(), 4).unwrap(), parts);
        let parts = random_split(5, Shares { train: 0.7, dev: 0.3 }, 0).unwrap();
        assert_eq!((parts.train.len(), parts.dev.len(), parts.test.len()), (4, 1, 0));
    }

    #[test]
    fn shares_that_are_none_and_parts_that_stay_empty_are_errors() {
        for (train, dev) in [(0.0, 0.5), (0.9, 0.2), (0.5, -0.1), (f64::NAN, 0.1)] {
            let message = random_split(10, Shares { train, dev }, 0).unwrap_err().to_string();
            assert!(message.contains("no shares of a set"), "{message}");
        }
        let message = scaffold_split(&keys("aaaaaaaaaa"), Shares::default()).unwrap_err().to_string();
        assert!(message.contains("by scaffold leave the training part without any"), "{message}");
        assert!(random_split(3, Shares::default(), 0).is_err());
        assert!(random_split(0, Shares::default(), 0).is_err());
    }
}
