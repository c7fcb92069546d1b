//! chrF of a corpus (Popović, 2015): the F-score of character n-grams.
//!
//! It is the figure chrF2 that sacreBLEU 2 gives by default, of signature
//! `nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`, or `case:lc`: precision and recall of the n-grams of 1 to 6
//! characters, without white space, each averaged over the orders that both sides have, and recall counted twice as
//! much. It needs no tokenizer, and notices endings where BLEU sees but another word.

use std::ops::AddAssign;

use super::ngrams::{is_space, ngram_count, ngram_matches};
use super::share;

/// The longest n-grams that are counted.
const ORDERS: usize = 6;
/// How many times as much as precision recall counts.
const BETA: f64 = 2.0;

/// chrF2 of some hypotheses, each with its reference, between 0 and 100; `lowercase` makes letters small before they
/// are compared. It is 0 if no character matches, and of no sentences at all.
pub fn chrf<H: AsRef<str>, R: AsRef<str>>(pairs: impl IntoIterator<Item = (H, R)>, lowercase: bool) -> f64 {
    let mut counts = ChrfCounts::default();
    for (hypothesis, reference) in pairs {
        counts.add(hypothesis.as_ref(), reference.as_ref(), lowercase);
    }
    counts.chrf()
}

/// All that chrF needs to know of some sentences: counts for n-grams of 1 to 6 characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChrfCounts {
    /// N-grams of the hypotheses that stand in their references as well.
    pub matches: [usize; ORDERS],
    /// N-grams of those hypotheses whose reference is long enough to have one.
    pub hypothesis: [usize; ORDERS],
    /// N-grams of the references.
    pub reference: [usize; ORDERS],
}

impl ChrfCounts {
    /// Counts one more sentence.
    pub fn add(&mut self, hypothesis: &str, reference: &str, lowercase: bool) {
        let [hypothesis, reference] = [hypothesis, reference].map(|text| {
            let text = if lowercase { text.to_lowercase() } else { text.to_owned() };
            text.chars().filter(|&character| !is_space(character)).collect::<Vec<char>>()
        });
        for i in 0..ORDERS {
            let wanted = ngram_count(reference.len(), i + 1);
            if wanted > 0 {
                self.matches[i] += ngram_matches(&hypothesis, &reference, i + 1);
                self.hypothesis[i] += ngram_count(hypothesis.len(), i + 1);
                self.reference[i] += wanted;
            }
        }
    }

    /// chrF2 of the sentences that were counted, between 0 and 100.
    pub fn chrf(&self) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
        for i in 0..ORDERS {
            if self.hypothesis[i] > 0 && self.reference[i] > 0 {
                precision += share(self.matches[i], self.hypothesis[i]);
                recall += share(self.matches[i], self.reference[i]);
                orders += 1.0;
            }
        }
        if precision == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / orders, recall / orders);
        let weight = BETA * BETA;
        100.0 * (1.0 + weight) * precision * recall / (weight * precision + recall)
    }
}

impl AddAssign for ChrfCounts {
    fn add_assign(&mut self, other: Self) {
        for i in 0..ORDERS {
            self.matches[i] += other.matches[i];
            self.hypothesis[i] += other.hypothesis[i];
            self.reference[i] += other.reference[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    /// What sacreBLEU 2.6 gives.
    #[test]
    fn sentences_have_their_known_chrf() {
        for (hypothesis, reference, expected) in [
            ("the small cat sat on a mat", "the small cat sat on the mat", 75.22736312256741),
            ("He said &quot;go now&quot; to us.", "He said \"go now\" to them.", 34.755385455263294),
            ("Ein Mädchen läuft über die Straße.", "Ein Mädchen rennt über die Straße.", 74.95074242488036),
            ("花が咲く", "花は咲く", 27.083333333333332),
            ("ab cd ef gh", "ab cd xx gh", 30.912698412698408),
            // Only the orders that both sides have are averaged.
            ("abc", "abcdefgh", 32.250580046403705),
            ("Tür", "Türen", 53.34987593052109),
            ("a b\u{a0}c\n", "abc", 100.0),
            ("xyz", "abc", 0.0),
            ("", "abc", 0.0),
            ("abc", "", 0.0),
            ("", "", 0.0),
        ] {
            assert_near(chrf([(hypothesis, reference)], false), expected);
        }
    }

    #[test]
    fn case_counts_unless_told_otherwise() {
        assert_near(chrf([("the cats", "The cat")], false), 56.22688535134266);
        assert_near(chrf([("the cats", "The cat")], true), 93.25876662636034);
    }

    #[test]
    fn a_corpus_is_counted_before_it_is_divided() {
        let pairs = [("abc", "ab"), ("Ein kleiner Hund", "Ein kleines Hündchen")];
        assert_near(chrf(pairs, false), 48.141384026220976);
        let mut counts = ChrfCounts::default();
        for (hypothesis, reference) in pairs {
            let mut sentence = ChrfCounts::default();
            sentence.add(hypothesis, reference, false);
            counts += sentence;
        }
        assert_eq!(counts.chrf(), chrf(pairs, false));
        assert_eq!(counts.hypothesis[2], 12, "a reference of two characters has no run of three to be compared with");
        let none: [(&str, &str); 0] = [];
        assert_eq!(chrf(none, false), 0.0);
    }

    proptest! {
        #[test]
        fn equal_texts_have_chrf_100(text in "[a-c ]{0,9}x[a-c ]{0,9}") {
            prop_assert_eq!(chrf([(&text, &text)], false), 100.0);
        }

        #[test]
        fn any_text_is_judged(hypothesis in "[a-c ]{0,12}\\PC{0,3}", reference in "[a-c ]{0,12}\\PC{0,3}") {
            let found = chrf([(&hypothesis, &reference)], true);
            prop_assert!((0.0..=100.0 + 1e-9).contains(&found));
        }
    }
}
