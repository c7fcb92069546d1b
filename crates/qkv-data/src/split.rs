//! Parts of a data set that did not come in parts.
//!
//! Here belongs the choice of which examples are held out; reading them does not.

use qkv::random::Key;

use crate::error::{Error, Result};
use crate::plan::shuffle;

/// Keeps the shuffle that splits apart from those that order epochs under the same seed.
const SPLIT: u64 = 0x5350_4c49_5400;

/// Chooses about `fraction` of `count` examples as a dev part: the indices of the training part and of the dev part,
/// each rising. Both parts have at least one example. A function of its arguments alone.
///
/// # Errors
///
/// [`Error::TooFewToSplit`] if there are fewer than two; [`Error::Unusable`] if `fraction` is not between 0 and 1.
pub fn carve(count: usize, fraction: f64, seed: u64) -> Result<(Vec<usize>, Vec<usize>)> {
    if !(0.0..=1.0).contains(&fraction) {
        let what = format!("{fraction} is not a share of the training set");
        return Err(Error::unusable("data.dev_fraction", what, "give a number between 0 and 1, such as 0.1"));
    }
    if count < 2 {
        return Err(Error::TooFewToSplit { count });
    }
    let held_out = ((count as f64 * fraction).round() as usize).clamp(1, count - 1);
    let mut train: Vec<usize> = (0..count).collect();
    shuffle(&mut train, Key::new(seed).fold(SPLIT));
    let mut dev = train.split_off(count - held_out);
    train.sort_unstable();
    dev.sort_unstable();
    Ok((train, dev))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_complete_and_repeatable() {
        let (train, dev) = carve(100, 0.1, 7).unwrap();
        assert_eq!((train.len(), dev.len()), (90, 10));
        let mut all = [train.clone(), dev.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(carve(100, 0.1, 7).unwrap(), (train, dev.clone()));
        assert_ne!(carve(100, 0.1, 8).unwrap().1, dev);
        assert_ne!(dev, (90..100).collect::<Vec<_>>(), "not simply the last ones");
    }

    #[test]
    fn each_part_has_at_least_one() {
        for fraction in [0.0, 0.5, 1.0] {
            let (train, dev) = carve(2, fraction, 0).unwrap();
            assert_eq!((train.len(), dev.len()), (1, 1));
        }
    }

    #[test]
    fn too_few_or_a_wrong_share_is_an_error() {
        for count in 0..2 {
            assert!(matches!(carve(count, 0.1, 0), Err(Error::TooFewToSplit { .. })));
        }
        for fraction in [-0.1, 1.1, f64::NAN] {
            assert!(carve(10, fraction, 0).unwrap_err().to_string().contains("data.dev_fraction"));
        }
    }
}
