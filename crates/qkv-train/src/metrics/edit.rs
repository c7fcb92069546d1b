//! Sequences against the sequences that were wanted: edit distance, error rates, exact match.
//!
//! Two figures go by the name of *word error rate*, and they are not the same:
//!
//! | here | in speech recognition and translation | in grapheme-to-phoneme conversion |
//! | --- | --- | --- |
//! | [`ErrorRate::item_error_rate`] | word error rate (WER), of characters CER | phone error rate (PER) |
//! | [`ErrorRate::sequence_error_rate`] | sentence error rate | word error rate (WER), as SIGMORPHON has it |
//!
//! The first is edits over wanted items; the second the share of sequences not exactly right, where one sequence is a
//! whole word's pronunciation.

use std::ops::AddAssign;

use super::share;

/// The least number of items to be inserted, removed or replaced that makes `a` of `b` (Levenshtein, 1966).
///
/// In time `a.len() * b.len()`, less for what they begin and end with in common, and memory for the shorter alone.
pub fn edit_distance<T: Eq>(a: &[T], b: &[T]) -> usize {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let common = long.iter().zip(short).take_while(|(x, y)| x == y).count();
    let (long, short) = (&long[common..], &short[common..]);
    let common = long.iter().rev().zip(short.iter().rev()).take_while(|(x, y)| x == y).count();
    let (long, short) = (&long[..long.len() - common], &short[..short.len() - common]);

    // The distances of what was passed of `long` to each beginning of `short`; at first, of nothing.
    let mut distances: Vec<usize> = (0..=short.len()).collect();
    for (i, x) in long.iter().enumerate() {
        let mut diagonal = i;
        distances[0] = i + 1;
        for (j, y) in short.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = distances[j + 1];
            distances[j + 1] = replaced.min(distances[j] + 1).min(diagonal + 1);
        }
    }
    distances[short.len()]
}

/// Counts of sequences and of what would mend them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorRate {
    /// Items to be inserted, removed or replaced.
    pub edits: usize,
    /// Items of the wanted sequences.
    pub wanted_items: usize,
    /// Sequences that are not exactly right.
    pub wrong: usize,
    /// All sequences.
    pub sequences: usize,
}

impl ErrorRate {
    /// Counts one more sequence.
    pub fn add<T: Eq>(&mut self, wanted: &[T], predicted: &[T]) {
        let edits = edit_distance(wanted, predicted);
        *self += Self { edits, wanted_items: wanted.len(), wrong: usize::from(edits > 0), sequences: 1 };
    }

    /// Edits over wanted items, over the corpus: the word error rate (WER) if items are words, PER if they are phones,
    /// CER if they are characters. It may be above 1, as what is predicted may be longer than what was wanted. Where
    /// nothing was wanted it is 0 if nothing was predicted, else 1.
    pub fn item_error_rate(&self) -> f64 {
        match self.wanted_items {
            0 => f64::from(u8::from(self.edits > 0)),
            _ => share(self.edits, self.wanted_items),
        }
    }

    /// The share of sequences that are not exactly right, 0 of none: what SIGMORPHON's task of grapheme-to-phoneme
    /// conversion calls the word error rate, a sequence being a word's pronunciation.
    pub fn sequence_error_rate(&self) -> f64 {
        share(self.wrong, self.sequences)
    }

    /// The share of sequences that are exactly right, 0 of none.
    pub fn exact_match(&self) -> f64 {
        share(self.sequences - self.wrong, self.sequences)
    }
}

impl AddAssign for ErrorRate {
    fn add_assign(&mut self, other: Self) {
        self.edits += other.edits;
        self.wanted_items += other.wanted_items;
        self.wrong += other.wrong;
        self.sequences += other.sequences;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition.
    fn naive(a: &[u8], b: &[u8]) -> usize {
        let (Some((x, a_rest)), Some((y, b_rest))) = (a.split_first(), b.split_first()) else {
            return a.len().max(b.len());
        };
        let replaced = naive(a_rest, b_rest) + usize::from(x != y);
        replaced.min(naive(a_rest, b) + 1).min(naive(a, b_rest) + 1)
    }

    #[test]
    fn known_distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("sunday", "saturday", 3),
            ("abcd", "bcda", 2),
            ("same", "same", 0),
            ("aXbc", "aYbc", 1),
            ("aa", "aaaa", 2),
        ] {
            assert_eq!(edit_distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
        assert_eq!(edit_distance(&["a", "b"], &["a", "x", "b"]), 1);
    }

    #[test]
    fn the_two_error_rates_are_not_the_same() {
        let mut rate = ErrorRate::default();
        rate.add(&["t", "uː"], &["t", "uː"]);
        rate.add(&["w", "ʌ", "n"], &["w", "ɒ", "n", "z"]);
        rate.add(&["θ", "r", "iː"], &["t", "r", "iː"]);
        assert_eq!(rate, ErrorRate { edits: 3, wanted_items: 8, wrong: 2, sequences: 3 });
        assert_eq!(rate.item_error_rate(), 3.0 / 8.0);
        assert_eq!(rate.sequence_error_rate(), 2.0 / 3.0);
        assert_eq!(rate.exact_match(), 1.0 / 3.0);
    }

    #[test]
    fn nothing_wanted_is_no_division_by_zero() {
        let mut rate = ErrorRate::default();
        assert_eq!((rate.item_error_rate(), rate.sequence_error_rate(), rate.exact_match()), (0.0, 0.0, 0.0));
        rate.add::<u8>(b"", b"");
        assert_eq!((rate.item_error_rate(), rate.sequence_error_rate(), rate.exact_match()), (0.0, 0.0, 1.0));
        rate.add(b"", b"xyz");
        assert_eq!((rate.item_error_rate(), rate.sequence_error_rate(), rate.exact_match()), (1.0, 0.5, 0.5));
    }

    #[test]
    fn a_rate_may_be_above_one() {
        let mut rate = ErrorRate::default();
        rate.add(b"a", b"bcd");
        assert_eq!(rate.item_error_rate(), 3.0);
    }

    fn few() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..3, 0..7)
    }

    proptest! {
        #[test]
        fn distance_is_that_of_the_definition(a in few(), b in few()) {
            prop_assert_eq!(edit_distance(&a, &b), naive(&a, &b));
        }

        #[test]
        fn distance_is_a_metric(
            a in prop::collection::vec(0u8..4, 0..40),
            b in prop::collection::vec(0u8..4, 0..40),
            c in prop::collection::vec(0u8..4, 0..40),
        ) {
            let distance = edit_distance(&a, &b);
            prop_assert_eq!(distance, edit_distance(&b, &a));
            prop_assert_eq!(distance == 0, a == b);
            prop_assert!(distance <= edit_distance(&a, &c) + edit_distance(&c, &b));
            prop_assert!((a.len().abs_diff(b.len())..=a.len().max(b.len())).contains(&distance));
        }
    }
}
