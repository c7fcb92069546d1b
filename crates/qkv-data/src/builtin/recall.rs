//! `builtin:recall`: texts that ask for something said once, near or far before: `… anna red … ben blue … ? anna` wants
//! `red`.
//!
//! A text is fillers, pairs of a key and a value among them, and a question at its end for one of the keys. The label is that
//! key's value. So that nothing but the asked pair tells the answer,
//!
//! - keys, values and fillers are drawn each for itself, the keys of a text all different, and its values too;
//! - each pair stands in a range of distances of its own ([`RECALL_RANGES`]), which are drawn without regard to which pair
//!   will be asked for; that is drawn from them evenly, so each range is asked for equally often.
//!
//! Whoever does not find the asked key again can know that the answer is one of the values in the text. In dev and test there
//! are always [`RECALL_PAIRS`] of them, so that is right once in so many at best. Texts to learn from are mostly shorter, so
//! that what there is to be learned can be found where it is easy: each has a *reach*, the farthest range that it may use, and in
//! the shortest there are two pairs or three. A model that learns from long texts alone hardly finds out in minutes that there
//! are pairs.
//!
//! Here belongs what is drawn. How it is read belongs in [`labelled`](crate::labelled).

use qkv::random::Key;

use super::Part;
use super::homographs::Dice;

/// What may be asked for.
pub const RECALL_KEYS: [&str; 16] = [
    "anna", "ben", "clara", "david", "emma", "felix", "greta", "hugo", "ida", "jonas", "karla", "leo", "mona", "nils",
    "olga", "paul",
];

/// What may be answered.
pub const RECALL_VALUES: [&str; 8] = ["red", "green", "blue", "yellow", "purple", "white", "black", "orange"];

/// Pairs in a text; in those to learn from that are too short for them, one in each range that there is.
pub const RECALL_PAIRS: usize = 4;

/// The ranges of distances, both ends included. The distance of a word is the number of words between it and the question; both
/// words of a pair lie in one range, and the distance of the pair is that of its value.
pub const RECALL_RANGES: [(usize, usize); 7] = [(2, 3), (4, 7), (8, 15), (16, 31), (32, 63), (64, 127), (128, 256)];

/// What stands between the pairs and says nothing.
const FILLERS: [&str; 24] = [
    "rain", "stone", "river", "door", "table", "window", "street", "garden", "bread", "cloud", "paper", "bridge",
    "morning", "winter", "music", "letter", "forest", "island", "kitchen", "market", "engine", "basket", "candle",
    "harbour",
];

/// Fillers before the first pair, at most; and no more than the least distance of the farthest range.
const MOST_BEFORE: usize = 16;

/// The farthest ranges that texts to learn from may use, in turn: three quarters are short.
const REACHES: [usize; 12] = [1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5, 6];

/// Which texts are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecallOptions {
    /// How many texts there are to learn from.
    pub train: usize,
    /// How many choose the best of a model's states.
    pub dev: usize,
    /// How many a model is judged by.
    pub test: usize,
    /// Text i of a part is a function of the seed, the part and i: more texts leave the first as they were.
    pub seed: u64,
}

impl Default for RecallOptions {
    /// In dev 200 and in test 400 of each range.
    fn default() -> Self {
        Self { train: 20_000, dev: 1400, test: 2800, seed: 1 }
    }
}

impl RecallOptions {
    /// How many texts a part has.
    #[must_use]
    pub fn count(&self, part: Part) -> usize {
        match part {
            Part::Train => self.train,
            Part::Dev => self.dev,
            Part::Test => self.test,
        }
    }
}

/// A key and its value in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecallPair {
    /// One of [`RECALL_KEYS`].
    pub key: &'static str,
    /// One of [`RECALL_VALUES`], the next word.
    pub value: &'static str,
    /// Words between the value and the question.
    pub distance: usize,
    /// Which of [`RECALL_RANGES`] both words lie in.
    pub range: usize,
}

/// A text that asks for one of its pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecallText {
    /// The words; the last two are `?` and the key that is asked for.
    pub words: Vec<&'static str>,
    /// The pairs, from the beginning of the text to its end.
    pub pairs: Vec<RecallPair>,
    /// Which of the pairs is asked for.
    pub asked: usize,
}

impl RecallText {
    /// The pair that is asked for, whose value is the answer.
    #[must_use]
    pub fn answer(&self) -> RecallPair {
        self.pairs[self.asked]
    }
}

/// Text `index` of a part; there is one for every index. In dev and test each of seven one after the other asks for another of
/// [`RECALL_RANGES`]; among those to learn from near ones are asked for more often.
#[must_use]
pub fn recall(options: &RecallOptions, part: Part, index: usize) -> RecallText {
    let mut dice = Dice::new(Key::new(options.seed).fold(part as u64).fold(index as u64));
    // In turn, so that each comes equally often: the reach, and what is asked for.
    let (reach, turn) = match part {
        Part::Train => (REACHES[index % REACHES.len()], index / REACHES.len()),
        Part::Dev | Part::Test => (RECALL_RANGES.len() - 1, index),
    };
    let asked_range = turn % (reach + 1);
    // The other ranges, drawn evenly from the rest: which of all of them is asked for cannot be told from what they are.
    let mut others: Vec<usize> = (0..=reach).filter(|&range| range != asked_range).collect();
    let mut ranges = vec![asked_range];
    ranges.extend((1..RECALL_PAIRS.min(reach + 1)).map(|_| others.swap_remove(dice.below(others.len()))));
    // From the farthest to the nearest, as they stand in the text.
    ranges.sort_unstable_by(|a, b| b.cmp(a));
    let (mut keys, mut values) = (RECALL_KEYS.to_vec(), RECALL_VALUES.to_vec());
    let pairs: Vec<RecallPair> = ranges
        .iter()
        .map(|&range| {
            let (low, high) = RECALL_RANGES[range];
            RecallPair {
                key: keys.swap_remove(dice.below(keys.len())),
                value: values.swap_remove(dice.below(values.len())),
                // The key, one word farther away, lies in the range as well.
                distance: low + dice.below(high - low),
                range,
            }
        })
        .collect();
    let asked = ranges.iter().position(|&range| range == asked_range).unwrap_or_default();
    let before = dice.below(MOST_BEFORE.min(RECALL_RANGES[reach].0) + 1);
    let length = before + pairs.first().map_or(0, |pair| pair.distance + 2);
    let mut words: Vec<&'static str> = (0..length).map(|_| FILLERS[dice.below(FILLERS.len())]).collect();
    for pair in &pairs {
        let value = length - 1 - pair.distance;
        (words[value - 1], words[value]) = (pair.key, pair.value);
    }
    words.extend(["?", pairs[asked].key]);
    RecallText { words, pairs, asked }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;
    use crate::tokenize;

    const PARTS: [Part; 3] = [Part::Train, Part::Dev, Part::Test];

    fn some() -> RecallOptions {
        RecallOptions { train: 7000, ..RecallOptions::default() }
    }

    fn texts(part: Part) -> impl Iterator<Item = RecallText> {
        (0..some().count(part)).map(move |index| recall(&some(), part, index))
    }

    #[test]
    fn no_text_is_judged_twice_or_was_learned_from() {
        let judged: Vec<Vec<&str>> =
            [Part::Dev, Part::Test].into_iter().flat_map(texts).map(|text| text.words).collect();
        let distinct: HashSet<&Vec<&str>> = judged.iter().collect();
        assert_eq!(distinct.len(), judged.len());
        assert!(texts(Part::Train).all(|text| !distinct.contains(&text.words)));
    }

    #[test]
    fn a_text_is_a_function_of_seed_part_and_index() {
        let (few, other) = (RecallOptions { train: 1, ..some() }, RecallOptions { seed: 2, ..some() });
        assert_eq!(recall(&few, Part::Train, 39), recall(&some(), Part::Train, 39));
        assert_ne!(recall(&other, Part::Train, 39), recall(&some(), Part::Train, 39));
        assert_ne!(recall(&some(), Part::Dev, 39), recall(&some(), Part::Train, 39));
    }

    #[test]
    fn words_are_what_their_lists_say_and_no_list_shares_a_word() {
        let all = [&RECALL_KEYS[..], &RECALL_VALUES, &FILLERS, &["?"]].concat();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        for text in texts(Part::Train).take(1000) {
            assert_eq!(tokenize(&text.words.join(" "), None), text.words);
            let count = |list: &[&str]| text.words.iter().filter(|word| list.contains(word)).count();
            // The asked key stands in the question as well.
            assert_eq!((count(&RECALL_KEYS), count(&RECALL_VALUES)), (text.pairs.len() + 1, text.pairs.len()));
        }
    }

    #[test]
    fn pairs_stand_where_they_say_once_each_and_in_ranges_of_their_own() {
        for (text, most) in
            texts(Part::Test).map(|text| (text, true)).chain(texts(Part::Train).map(|text| (text, false)))
        {
            let question = text.words.len() - 2;
            assert_eq!((text.words[question], text.words[question + 1]), ("?", text.answer().key));
            assert!(text.pairs.len() == RECALL_PAIRS || !most && (2..RECALL_PAIRS).contains(&text.pairs.len()));
            for pair in &text.pairs {
                let value = question - 1 - pair.distance;
                assert_eq!((text.words[value - 1], text.words[value]), (pair.key, pair.value));
                let (low, high) = RECALL_RANGES[pair.range];
                assert!(low <= pair.distance && pair.distance < high, "{pair:?}");
                assert_eq!(text.words[..question].iter().filter(|word| **word == pair.key).count(), 1);
                assert_eq!(text.words.iter().filter(|word| **word == pair.value).count(), 1);
            }
            assert!(text.pairs.is_sorted_by(|a, b| a.range > b.range), "{:?}", text.pairs);
        }
    }

    #[test]
    fn each_range_is_asked_for_equally_often_and_reaches_from_end_to_end() {
        let mut distances: [HashSet<usize>; 7] = Default::default();
        let mut counts = [0; 7];
        for text in texts(Part::Test) {
            counts[text.answer().range] += 1;
            distances[text.answer().range].insert(text.answer().distance);
        }
        assert_eq!(counts, [400; 7]);
        for ((low, high), distances) in RECALL_RANGES.into_iter().zip(&distances) {
            assert!(distances.len() * 10 >= (high - low) * 9, "{low} to {high}: {} distances", distances.len());
        }
    }

    /// Asserts that a guess is right as often as chance, five standard errors given: for each guess whether it was right, and how
    /// likely that was.
    fn is_chance(name: &str, guesses: impl Iterator<Item = (bool, f64)>) {
        let (mut right, mut expected, mut variance) = (0.0, 0.0, 0.0);
        for (is_right, chance) in guesses {
            right += f64::from(u8::from(is_right));
            expected += chance;
            variance += chance * (1.0 - chance);
        }
        assert!((right - expected).abs() < 5.0 * variance.sqrt(), "{name}: right {right} times, by chance {expected}");
    }

    #[test]
    fn only_the_asked_pair_tells_the_answer() {
        for part in PARTS {
            let texts: Vec<RecallText> = texts(part).collect();
            let chance = |text: &RecallText| 1.0 / text.pairs.len() as f64;
            // Of the pairs by their place, from the first or from the last.
            for place in 0..RECALL_PAIRS {
                let guess = |text: &RecallText, at: usize| (text.asked == at, chance(text));
                let there = || texts.iter().filter(|text| place < text.pairs.len());
                is_chance("from the first", there().map(|text| guess(text, place)));
                is_chance("from the last", there().map(|text| guess(text, text.pairs.len() - 1 - place)));
            }
            for value in RECALL_VALUES {
                let all = texts.iter().map(|text| (text.answer().value == value, 1.0 / RECALL_VALUES.len() as f64));
                is_chance(value, all);
                let holds = |text: &&RecallText| text.pairs.iter().any(|pair| pair.value == value);
                is_chance(value, texts.iter().filter(holds).map(|text| (text.answer().value == value, chance(text))));
            }
            for range in 0..RECALL_RANGES.len() {
                let holds = |text: &&RecallText| text.pairs.iter().any(|pair| pair.range == range);
                is_chance(
                    "a range",
                    texts.iter().filter(holds).map(|text| (text.answer().range == range, chance(text))),
                );
            }
        }
    }

    #[test]
    fn no_word_of_the_question_and_no_filler_goes_with_an_answer() {
        let mut counts: BTreeMap<&str, [usize; 8]> = BTreeMap::new();
        for text in texts(Part::Train) {
            let answer = RECALL_VALUES.iter().position(|value| *value == text.answer().value).unwrap();
            let question = text.words.len() - 2;
            // The words beside the question, and those beside the pair.
            let value = question - 1 - text.answer().distance;
            let near = [question - 1, question + 1, value + 1].map(|at| text.words[at]);
            let before = (value >= 2).then(|| text.words[value - 2]);
            for word in near.into_iter().chain(before).filter(|word| !RECALL_VALUES.contains(word)) {
                counts.entry(word).or_default()[answer] += 1;
            }
        }
        for (word, counts) in counts {
            let all: usize = counts.iter().sum();
            for right in counts {
                is_chance(word, (0..all).map(|n| (n < right, 1.0 / RECALL_VALUES.len() as f64)));
            }
        }
    }
}
