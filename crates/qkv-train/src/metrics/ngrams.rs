//! Runs of n items and how many of them two sequences share: what BLEU and chrF count.

use std::collections::HashMap;
use std::hash::Hash;

/// How many runs of `order` items a sequence of `length` items has.
pub(super) fn ngram_count(length: usize, order: usize) -> usize {
    (length + 1).saturating_sub(order)
}

/// How many of the hypothesis's runs of `order` items match one of the reference's, each of which is used up by its
/// match.
pub(super) fn ngram_matches<T: Eq + Hash>(hypothesis: &[T], reference: &[T], order: usize) -> usize {
    let mut left: HashMap<&[T], usize> = HashMap::new();
    for ngram in reference.windows(order) {
        *left.entry(ngram).or_default() += 1;
    }
    let mut matches = 0;
    for ngram in hypothesis.windows(order) {
        if let Some(left) = left.get_mut(ngram).filter(|left| **left > 0) {
            *left -= 1;
            matches += 1;
        }
    }
    matches
}

/// Whether Python takes the character for white space, as the reference implementations of the metrics do. To what
/// Unicode calls so it adds four separators among the control characters.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_the_reference_matches_once() {
        assert_eq!(ngram_matches(b"aaaa", b"aa", 1), 2);
        assert_eq!(ngram_matches(b"aaaa", b"aa", 2), 1);
        assert_eq!(ngram_matches(b"abab", b"babab", 3), 2);
        assert_eq!(ngram_matches(b"ab", b"ab", 3), 0);
        assert_eq!(ngram_matches(b"", b"ab", 1), 0);
    }

    #[test]
    fn short_sequences_have_no_long_runs() {
        assert_eq!([0, 1, 2, 5].map(|length| ngram_count(length, 2)), [0, 0, 1, 4]);
        for length in 0..5 {
            assert_eq!(ngram_count(length, 3), vec![0; length].windows(3).count());
        }
    }

    #[test]
    fn separators_are_white_space() {
        assert!([' ', '\n', '\u{1c}', '\u{1f}', '\u{85}', '\u{a0}', '\u{3000}'].into_iter().all(is_space));
        assert!(!['\u{0}', '\u{1b}', '\u{200b}', '_'].into_iter().any(is_space));
    }
}
