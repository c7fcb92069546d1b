//! BLEU of a corpus (Papineni et al., 2002), with the tokenizer and the smoothing that make figures comparable (Post,
//! 2018, "A Call for Clarity in Reporting BLEU Scores").
//!
//! It is the figure that sacreBLEU 2 gives by default, of signature `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp`, or
//! `case:lc`. Per n-gram order up to four, the share of the hypotheses' n-grams that stand in their references as well;
//! the geometric mean of the four; and a penalty for hypotheses that are shorter than the references, which such shares
//! would not notice. All is counted over the corpus before anything is divided: the mean of sentences' BLEU is another
//! figure.

use std::ops::AddAssign;

use super::ngrams::{is_space, ngram_count, ngram_matches};
use super::share;

/// The longest n-grams that are counted.
const ORDERS: usize = 4;

/// BLEU and what it is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bleu {
    /// BLEU, between 0 and 100.
    pub score: f64,
    /// The share of n-grams that match, for n = 1 to 4, between 0 and 100, after smoothing.
    pub precisions: [f64; ORDERS],
    /// What the precisions' geometric mean is multiplied by: less than 1 if the hypotheses are the shorter.
    pub brevity_penalty: f64,
    /// The hypotheses' tokens.
    pub hypothesis_length: usize,
    /// The references' tokens.
    pub reference_length: usize,
}

/// BLEU of some hypotheses, each with its reference; `lowercase` makes letters small before they are compared.
///
/// It is 0 if no word matches, if no hypothesis has four tokens, and of no sentences at all.
///
/// ```
/// use qkv_train::metrics::bleu;
///
/// let pairs = [("the small cat sat on a mat", "the small cat sat on the mat")];
/// assert_eq!(format!("{:.2}", bleu(pairs, false).score), "64.35");
/// ```
pub fn bleu<H: AsRef<str>, R: AsRef<str>>(pairs: impl IntoIterator<Item = (H, R)>, lowercase: bool) -> Bleu {
    let mut counts = BleuCounts::default();
    for (hypothesis, reference) in pairs {
        counts.add(hypothesis.as_ref(), reference.as_ref(), lowercase);
    }
    counts.bleu()
}

/// All that BLEU needs to know of some sentences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BleuCounts {
    /// The hypotheses' n-grams that stand in their references as well, for n = 1 to 4.
    pub matches: [usize; ORDERS],
    /// The hypotheses' n-grams, for n = 1 to 4.
    pub ngrams: [usize; ORDERS],
    /// The hypotheses' tokens.
    pub hypothesis_length: usize,
    /// The references' tokens.
    pub reference_length: usize,
}

impl BleuCounts {
    /// Counts one more sentence.
    pub fn add(&mut self, hypothesis: &str, reference: &str, lowercase: bool) {
        let [hypothesis, reference] = [hypothesis, reference]
            .map(|text| if lowercase { tokenize_13a(&text.to_lowercase()) } else { tokenize_13a(text) });
        for (i, (matches, ngrams)) in self.matches.iter_mut().zip(&mut self.ngrams).enumerate() {
            *matches += ngram_matches(&hypothesis, &reference, i + 1);
            *ngrams += ngram_count(hypothesis.len(), i + 1);
        }
        self.hypothesis_length += hypothesis.len();
        self.reference_length += reference.len();
    }

    /// BLEU of the sentences that were counted.
    pub fn bleu(&self) -> Bleu {
        let &Self { matches, ngrams, hypothesis_length, reference_length } = self;
        let mut precisions = [0.0; ORDERS];
        // Where only long n-grams fail to match, each order without a match is given half the precision of one match,
        // the next a quarter, and so on; else one such order would make BLEU 0 (method 3 of Chen and Cherry, 2014).
        if matches != [0; ORDERS] {
            let mut matches_of_none = 1.0;
            for ((precision, matches), ngrams) in precisions.iter_mut().zip(matches).zip(ngrams) {
                *precision = share(matches, ngrams);
                if matches == 0 && ngrams > 0 {
                    matches_of_none /= 2.0;
                    *precision = matches_of_none / ngrams as f64;
                }
            }
        }
        let brevity_penalty = match (hypothesis_length, reference_length) {
            (hypothesis, reference) if hypothesis >= reference => 1.0,
            (0, _) => 0.0,
            (hypothesis, reference) => (1.0 - reference as f64 / hypothesis as f64).exp(),
        };
        // The logarithm of a precision of 0 is -inf, which makes the mean 0.
        let mean = (precisions.iter().map(|precision| precision.ln()).sum::<f64>() / ORDERS as f64).exp();
        let score = 100.0 * brevity_penalty * mean;
        Bleu {
            score,
            precisions: precisions.map(|precision| 100.0 * precision),
            brevity_penalty,
            hypothesis_length,
            reference_length,
        }
    }
}

impl AddAssign for BleuCounts {
    fn add_assign(&mut self, other: Self) {
        for i in 0..ORDERS {
            self.matches[i] += other.matches[i];
            self.ngrams[i] += other.ngrams[i];
        }
        self.hypothesis_length += other.hypothesis_length;
        self.reference_length += other.reference_length;
    }
}

/// The tokens of a sentence as BLEU counts them, by the rules of WMT's script `mteval-v13a`:
///
/// 1. `<skipped>` is dropped, a word parted by a hyphen at a line's end is joined, and four HTML entities are read.
/// 2. ASCII punctuation but `'`, `-`, `.` and `,` stands for itself.
/// 3. So do points and commas after anything but a digit, or before anything but a digit: `1,000.5` is one token.
/// 4. So does a hyphen after a digit.
///
/// Other than ASCII, nothing is told apart but by white space.
pub fn tokenize_13a(sentence: &str) -> Vec<String> {
    let text = sentence.trim_end_matches(is_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    // One after the other, `&amp;` before the two that it may make: `&amp;lt;` is read as `<`.
    let text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let mut spaced = String::with_capacity(2 * text.len());
    // A space stands before and after, so that a point at either end is beside something that is no digit.
    for character in [' '].into_iter().chain(text.chars()).chain([' ']) {
        if character.is_ascii_punctuation() && !"'-.,".contains(character) {
            spaced.extend([' ', character, ' ']);
        } else {
            spaced.push(character);
        }
    }
    let (digit, point) = (|c: char| c.is_ascii_digit(), |c: char| matches!(c, '.' | ','));
    let spaced = space_pairs(&spaced, ["", " ", " "], |a, b| !digit(a) && point(b));
    let spaced = space_pairs(&spaced, [" ", " ", ""], |a, b| point(a) && !digit(b));
    let spaced = space_pairs(&spaced, ["", " ", " "], |a, b| digit(a) && b == '-');
    spaced.split(is_space).filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

/// Puts `spaces` before, between and behind the characters of each pair that `is_pair`. The pairs are looked for from
/// left to right and do not overlap, as a regular expression's matches do not: of `...` the first two points may be one
/// and the third is in none.
fn space_pairs(text: &str, spaces: [&str; 3], is_pair: impl Fn(char, char) -> bool) -> String {
    let [before, between, behind] = spaces;
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    let mut characters = text.chars().peekable();
    while let Some(first) = characters.next() {
        match characters.next_if(|&second| is_pair(first, second)) {
            Some(second) => {
                out.push_str(before);
                out.push(first);
                out.push_str(between);
                out.push(second);
                out.push_str(behind);
            }
            None => out.push(first),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn tokens_are_those_of_13a() {
        for (sentence, expected) in [
            ("It costs 1,000.5 dollars.", "It costs 1,000.5 dollars ."),
            ("Wait... what?!", "Wait . . . what ? !"),
            ("5-year-old, state-of-the-art", "5 - year-old , state-of-the-art"),
            ("-5 5- 5--6", "-5 5 - 5 - -6"),
            ("v1.,2 .5 5. 3.a a.3", "v1 . , 2 . 5 5 . 3 . a a . 3"),
            ("..,..", ". . , . ."),
            ("don't (or won't) a/b", "don't ( or won't ) a / b"),
            ("[a]{b}|c~", "[ a ] { b } | c ~"),
            ("&quot;Tom &amp; Jerry&quot; &lt;b&gt;", "\" Tom & Jerry \" < b >"),
            ("&amp;lt;", "<"),
            ("new-\nline one\ntwo", "newline one two"),
            ("trail-\n", "trail-"),
            ("a <skipped>b", "a b"),
            ("naïve café — 花，です。", "naïve café — 花，です。"),
            ("x\u{a0}y\u{1c}z", "x y z"),
            ("", ""),
        ] {
            assert_eq!(tokenize_13a(sentence).join(" "), expected, "{sentence:?}");
        }
    }

    /// What sacreBLEU 2.6 gives.
    #[test]
    fn sentences_have_their_known_bleu() {
        for (hypothesis, reference, expected) in [
            ("the small cat sat on a mat", "the small cat sat on the mat", 64.34588841607616),
            ("The price is 1,000.5 dollars, not 1,000.", "The price is 1,000.5 dollars, not 1,005.", 75.06238537503395),
            ("A 5-year-old boy, and his dog.", "A 5-year old boy and his dog.", 39.281465090051285),
            ("He said &quot;go now&quot; to us.", "He said \"go now\" to them.", 75.06238537503395),
            ("Ein Mädchen läuft über die Straße.", "Ein Mädchen rennt über die Straße.", 48.892302243490086),
            // No n-gram of more than one word matches, and what matches once counts once.
            ("a b c d e", "a x b y c z d w e", 7.177391079020487),
            // Longer than the reference.
            ("a dog runs on the beach today", "a dog runs", 24.446151121745054),
            // Fewer than four words, though all match.
            ("two men play", "two men play football", 0.0),
            ("", "a man is here", 0.0),
            ("a man is here", "", 0.0),
            ("", "", 0.0),
            ("no word the same", "an entirely other sentence here", 0.0),
        ] {
            assert_near(bleu([(hypothesis, reference)], false).score, expected);
        }
    }

    #[test]
    fn case_counts_unless_told_otherwise() {
        let pairs = [("A MAN RIDES A RED BIKE", "a man rides a red bicycle")];
        assert_eq!(bleu(pairs, false).score, 0.0);
        assert_near(bleu(pairs, true).score, 75.98356856515926);
    }

    #[test]
    fn a_word_of_the_reference_matches_once() {
        let mut counts = BleuCounts::default();
        counts.add("tick tick tick tick tick", "tick tock tick tick", false);
        assert_eq!((counts.matches, counts.ngrams), ([3, 1, 0, 0], [5, 4, 3, 2]));
        let bleu = counts.bleu();
        assert_near(bleu.precisions[2], 100.0 / (2.0 * 3.0));
        assert_near(bleu.precisions[3], 100.0 / (4.0 * 2.0));
    }

    #[test]
    fn a_corpus_is_counted_before_it_is_divided() {
        let pairs = [
            ("a dog runs", "a dog runs fast"),
            ("he sold 3-4 old, red cars.", "he sold 3-4 red cars."),
            ("", "rain today"),
        ];
        let found = bleu(pairs, false);
        assert_eq!((found.hypothesis_length, found.reference_length), (13, 14));
        let mut counts = BleuCounts::default();
        for (hypothesis, reference) in pairs {
            let mut sentence = BleuCounts::default();
            sentence.add(hypothesis, reference, false);
            counts += sentence;
        }
        assert_eq!(counts.bleu(), found);
        assert_near(found.score, 51.76595774170637);
        assert_near(found.brevity_penalty, (-1.0_f64 / 13.0).exp());
    }

    #[test]
    fn nothing_gives_zero() {
        let none: [(&str, &str); 0] = [];
        let found = bleu(none, false);
        assert_eq!((found.score, found.precisions, found.brevity_penalty), (0.0, [0.0; 4], 1.0));
        assert_eq!(bleu([("", "a man")], false).brevity_penalty, 0.0);
        assert_eq!(bleu([("a man", "")], false).brevity_penalty, 1.0);
    }

    proptest! {
        #[test]
        fn equal_texts_have_bleu_100(sentences in prop::collection::vec("[a-z]{1,3}( [a-z,.5-]{1,3}){3,9}", 1..5)) {
            let found = bleu(sentences.iter().map(|sentence| (sentence, sentence)), false);
            prop_assert_eq!((found.score, found.precisions), (100.0, [100.0; 4]));
        }

        #[test]
        fn any_text_is_judged(hypothesis in "(\\PC|[a-b.,&; \n-]){0,20}", reference in "(\\PC|[a-b.,&; \n-]){0,20}") {
            let found = bleu([(&hypothesis, &reference)], true);
            prop_assert!((0.0..=100.0).contains(&found.score));
            let tokens = tokenize_13a(&hypothesis);
            prop_assert!(tokens.iter().all(|token| !token.is_empty() && !token.contains(is_space)));
        }
    }
}
