//! Classes against the classes that were wanted: the table of confusions, what follows from it, and the area under the
//! ROC curve for scores of two classes.
//!
//! Names and definitions are scikit-learn's: a share of nothing is 0 (its `zero_division=0`), and a mean over classes
//! is over those that occur.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use serde_json::{Value, json};

use super::numbers::mid_ranks;
use super::{mean, share};

/// How often each class was predicted where each was wanted. Only what occurs takes memory, and any number can be a
/// class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    /// By (wanted, predicted); none is 0.
    counts: BTreeMap<(u32, u32), usize>,
}

/// What became of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassCounts {
    /// Its id.
    pub class: u32,
    /// How often it was wanted, its *support*.
    pub wanted: usize,
    /// How often it was predicted.
    pub predicted: usize,
    /// How often both.
    pub right: usize,
}

impl ClassCounts {
    /// The share of its predictions that are right; 0 if there are none.
    pub fn precision(&self) -> f64 {
        share(self.right, self.predicted)
    }

    /// The share of its occurrences that were predicted; 0 if there are none.
    pub fn recall(&self) -> f64 {
        share(self.right, self.wanted)
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        share(2 * self.right, self.wanted + self.predicted)
    }
}

/// One class taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The class that was wanted.
    pub wanted: u32,
    /// The class that was predicted instead.
    pub predicted: u32,
    /// How often.
    pub count: usize,
}

impl Confusion {
    /// Counts one more example.
    pub fn add(&mut self, wanted: u32, predicted: u32) {
        *self.counts.entry((wanted, predicted)).or_default() += 1;
    }

    /// Counts `count` more examples of one kind.
    pub fn add_many(&mut self, wanted: u32, predicted: u32, count: usize) {
        // None is not kept: a class that does not occur is none.
        if count > 0 {
            *self.counts.entry((wanted, predicted)).or_default() += count;
        }
    }

    /// How often `predicted` was predicted where `wanted` was wanted.
    pub fn count(&self, wanted: u32, predicted: u32) -> usize {
        self.counts.get(&(wanted, predicted)).copied().unwrap_or(0)
    }

    /// How many examples were counted.
    pub fn examples(&self) -> usize {
        self.counts.values().sum()
    }

    /// How many of them are right.
    pub fn right(&self) -> usize {
        self.counts.iter().filter(|((wanted, predicted), _)| wanted == predicted).map(|(_, count)| count).sum()
    }

    /// The share of examples that are right; 0 of none.
    pub fn accuracy(&self) -> f64 {
        share(self.right(), self.examples())
    }

    /// The mean recall of the classes that were wanted; 0 of none. Unlike accuracy it does not grow by always
    /// predicting the commonest.
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.classes().iter().filter(|class| class.wanted > 0).map(ClassCounts::recall))
    }

    /// The mean F1 of the classes that were wanted or predicted; 0 of none. A class that was predicted and never wanted
    /// has an F1 of 0 and takes part, as it does in scikit-learn's `f1_score(average="macro")` unless `labels` leaves
    /// it out.
    pub fn macro_f1(&self) -> f64 {
        mean(self.classes().iter().map(ClassCounts::f1))
    }

    /// What became of each class that was wanted or predicted, by id.
    pub fn classes(&self) -> Vec<ClassCounts> {
        let mut classes: BTreeMap<u32, ClassCounts> = BTreeMap::new();
        for (&(wanted, predicted), &count) in &self.counts {
            for class in BTreeSet::from([wanted, predicted]) {
                let none = ClassCounts { class, wanted: 0, predicted: 0, right: 0 };
                let counts = classes.entry(class).or_insert(none);
                counts.wanted += if class == wanted { count } else { 0 };
                counts.predicted += if class == predicted { count } else { 0 };
                counts.right += if wanted == predicted { count } else { 0 };
            }
        }
        classes.into_values().collect()
    }

    /// Which classes were taken for which, the commonest mistake first.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let wrong = self.counts.iter().filter(|((wanted, predicted), _)| wanted != predicted);
        let mut mistakes: Vec<Mistake> =
            wrong.map(|(&(wanted, predicted), &count)| Mistake { wanted, predicted, count }).collect();
        mistakes.sort_by_key(|mistake| std::cmp::Reverse(mistake.count));
        mistakes
    }

    /// All of it: the figures, `classes` with theirs, and `mistakes` with how often each was made, the commonest first.
    /// A class is called by its name, or by its id if `names` has none for it.
    pub fn to_json(&self, names: &[String]) -> Value {
        let class = |class: &ClassCounts| {
            json!({
                "name": class_name(names, class.class),
                "precision": class.precision(),
                "recall": class.recall(),
                "f1": class.f1(),
                "wanted": class.wanted,
                "predicted": class.predicted,
                "right": class.right,
            })
        };
        let mistake = |mistake: &Mistake| {
            let [wanted, predicted] = [mistake.wanted, mistake.predicted].map(|class| class_name(names, class));
            json!({"wanted": wanted, "predicted": predicted, "count": mistake.count})
        };
        json!({
            "examples": self.examples(),
            "accuracy": self.accuracy(),
            "balanced_accuracy": self.balanced_accuracy(),
            "macro_f1": self.macro_f1(),
            "classes": self.classes().iter().map(class).collect::<Vec<_>>(),
            "mistakes": self.mistakes().iter().map(mistake).collect::<Vec<_>>(),
        })
    }
}

impl FromIterator<(u32, u32)> for Confusion {
    /// Counts pairs of a wanted and a predicted class.
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(pairs: I) -> Self {
        let mut confusion = Self::default();
        pairs.into_iter().for_each(|(wanted, predicted)| confusion.add(wanted, predicted));
        confusion
    }
}

impl AddAssign<&Self> for Confusion {
    fn add_assign(&mut self, other: &Self) {
        for (&pair, count) in &other.counts {
            *self.counts.entry(pair).or_default() += count;
        }
    }
}

/// What a class is called.
pub(super) fn class_name(names: &[String], class: u32) -> String {
    names.get(class as usize).cloned().unwrap_or_else(|| class.to_string())
}

/// The area under the ROC curve: how probable it is that an example of the class has a higher score than one that is
/// not of it, where equal scores count one half (Mann and Whitney, 1947). NaN is below every number. 0.5 is chance, and
/// the answer as well if either kind is missing, since then nothing can be told apart.
///
/// # Panics
///
/// If there are not as many scores as examples.
pub fn roc_auc(wanted: &[bool], scores: &[f32]) -> f64 {
    assert_eq!(wanted.len(), scores.len(), "each example needs its score");
    let positives = wanted.iter().filter(|wanted| **wanted).count() as f64;
    let negatives = wanted.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return 0.5;
    }
    let scores: Vec<f64> = scores.iter().map(|&score| f64::from(score)).collect();
    let ranks: f64 = mid_ranks(&scores).iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(rank, _)| rank).sum();
    (ranks - positives * (positives + 1.0) / 2.0) / (positives * negatives)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Confusion {
        let (wanted, predicted) = ([0, 0, 0, 0, 1, 1, 2, 2, 2, 4], [0, 0, 1, 2, 1, 1, 2, 0, 3, 2]);
        wanted.into_iter().zip(predicted).collect()
    }

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    /// What scikit-learn gives. Class 3 was predicted and never wanted, class 4 wanted and never predicted.
    #[test]
    fn known_figures() {
        let confusion = example();
        assert_eq!((confusion.count(0, 2), confusion.count(2, 0), confusion.count(3, 3)), (1, 1, 0));
        assert_eq!((confusion.right(), confusion.examples()), (5, 10));
        assert_near(confusion.accuracy(), 0.5);
        assert_near(confusion.balanced_accuracy(), 0.4583333333333333);
        assert_near(confusion.macro_f1(), 0.34095238095238095);
        let of_classes =
            [(0.5, 2.0 / 3.0, 4), (1.0, 2.0 / 3.0, 2), (1.0 / 3.0, 1.0 / 3.0, 3), (0.0, 0.0, 0), (0.0, 0.0, 1)];
        let f1 = [4.0 / 7.0, 0.8, 1.0 / 3.0, 0.0, 0.0];
        for (class, ((recall, precision, support), f1)) in
            confusion.classes().iter().zip(of_classes.into_iter().zip(f1))
        {
            assert_eq!((class.recall(), class.precision(), class.wanted), (recall, precision, support));
            assert_near(class.f1(), f1);
        }
    }

    #[test]
    fn nothing_gives_zero() {
        let none = Confusion::default();
        assert_eq!((none.accuracy(), none.balanced_accuracy(), none.macro_f1()), (0.0, 0.0, 0.0));
        assert!(none.classes().is_empty() && none.mistakes().is_empty());
        assert_eq!(none.to_json(&[])["accuracy"], 0.0);
    }

    #[test]
    fn tables_add_up_and_any_number_is_a_class() {
        let mut sum = example();
        sum.add(u32::MAX, 0);
        sum += &example();
        assert_eq!((sum.examples(), sum.count(0, 0), sum.count(u32::MAX, 0)), (21, 4, 1));
    }

    #[test]
    fn the_commonest_mistake_comes_first() {
        let confusion: Confusion = [(1, 0), (0, 1), (0, 2), (0, 2), (2, 2)].into_iter().collect();
        let mistakes = [(0, 2, 2), (0, 1, 1), (1, 0, 1)];
        let mistakes = mistakes.map(|(wanted, predicted, count)| Mistake { wanted, predicted, count });
        assert_eq!(confusion.mistakes(), mistakes);
    }

    #[test]
    fn json_has_names_where_there_are_some() {
        let confusion: Confusion = [(0, 0), (0, 2), (0, 2), (1, 1)].into_iter().collect();
        let json = confusion.to_json(&["yes".to_owned(), "no".to_owned()]);
        let third = 1.0 / 3.0;
        let expected = json!({
            "examples": 4,
            "accuracy": 0.5,
            "balanced_accuracy": 2.0 / 3.0,
            "macro_f1": 0.5,
            "classes": [
                {"name": "yes", "precision": 1.0, "recall": third, "f1": 0.5, "wanted": 3, "predicted": 1, "right": 1},
                {"name": "no", "precision": 1.0, "recall": 1.0, "f1": 1.0, "wanted": 1, "predicted": 1, "right": 1},
                {"name": "2", "precision": 0.0, "recall": 0.0, "f1": 0.0, "wanted": 0, "predicted": 2, "right": 0},
            ],
            "mistakes": [{"wanted": "yes", "predicted": "2", "count": 2}],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn roc_auc_counts_equal_scores_half() {
        let wanted = [false, false, true, true, false, true];
        assert_near(roc_auc(&wanted, &[0.1, 0.4, 0.35, 0.8, 0.4, 0.4]), 2.0 / 3.0);
        assert_eq!(roc_auc(&[false, true], &[0.1, 0.2]), 1.0);
        assert_eq!(roc_auc(&[true, false], &[0.1, 0.2]), 0.0);
        assert_eq!(roc_auc(&[true, false, true], &[0.3; 3]), 0.5);
        assert_eq!(roc_auc(&[true, false], &[f32::NAN, -9.0]), 0.0, "NaN is below every number");
        for one_kind in [&[][..], &[true], &[false, false]] {
            assert_eq!(roc_auc(one_kind, &vec![0.7; one_kind.len()]), 0.5);
        }
    }

    proptest! {
        #[test]
        fn roc_auc_is_the_share_of_pairs_in_order(examples in prop::collection::vec((any::<bool>(), 0u8..6), 0..20)) {
            let (wanted, scores): (Vec<bool>, Vec<f32>) =
                examples.into_iter().map(|(wanted, score)| (wanted, f32::from(score))).unzip();
            let of = |kind: bool| wanted.iter().zip(&scores).filter(move |(wanted, _)| **wanted == kind);
            let pairs = of(true).flat_map(|(_, high)| of(false).map(move |(_, low)| (high, low)));
            let wins: Vec<f64> =
                pairs.map(|(high, low)| if high > low { 1.0 } else if high == low { 0.5 } else { 0.0 }).collect();
            prop_assume!(!wins.is_empty());
            prop_assert!((roc_auc(&wanted, &scores) - mean(wins)).abs() < 1e-12);
        }

        #[test]
        fn classes_add_up(pairs in prop::collection::vec((0u32..5, 0u32..5), 0..40)) {
            let confusion: Confusion = pairs.iter().copied().collect();
            let classes = confusion.classes();
            prop_assert_eq!(confusion.examples(), pairs.len());
            prop_assert_eq!(classes.iter().map(|class| class.wanted).sum::<usize>(), pairs.len());
            prop_assert_eq!(classes.iter().map(|class| class.predicted).sum::<usize>(), pairs.len());
            prop_assert_eq!(classes.iter().map(|class| class.right).sum::<usize>(), confusion.right());
            let wrong: usize = confusion.mistakes().iter().map(|mistake| mistake.count).sum();
            prop_assert_eq!(confusion.right() + wrong, pairs.len());
        }
    }
}
