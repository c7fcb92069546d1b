//! The parts of words that may become subwords of the unigram model, with their counts and places.
//!
//! Here belongs the counting; which of them become subwords is the affair of `unigram`. Every place of the words is sorted by
//! what stands there (a suffix array whose suffixes end with their word or after [`MAX_PIECE`] characters), so that the places
//! of each part lie side by side.

use std::cmp::Reverse;
use std::ops::Range;

use rayon::prelude::*;

/// The longest subword, in characters.
pub(super) const MAX_PIECE: usize = 16;
/// A part that occurs once teaches nothing.
const MIN_COUNT: u64 = 2;

/// What stands at each place of the words, in the order of the code points.
pub(super) struct Suffixes<'text> {
    text: &'text [char],
    starts: Vec<u32>,
    /// How often the word occurs that each character of the text belongs to.
    counts: Vec<u64>,
    /// How many characters there are from each on to the end of its word, at most [`MAX_PIECE`].
    lengths: Vec<u8>,
}

/// A part of words that may become a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seed {
    /// Which of the suffixes begin with it.
    pub(super) suffixes: Range<usize>,
    /// In characters.
    pub(super) length: usize,
    /// How often it occurs in the texts.
    pub(super) count: u64,
}

impl Seed {
    /// How many characters of the texts it could stand for.
    pub(super) fn weight(&self) -> u64 {
        self.count * self.length as u64
    }
}

impl<'text> Suffixes<'text> {
    /// Of `words`, which are ranges of `text` and their counts and fill it without a gap.
    pub(super) fn sorted(text: &'text [char], words: &[(Range<usize>, u64)]) -> Self {
        let mut counts = Vec::with_capacity(text.len());
        let mut lengths = Vec::with_capacity(text.len());
        for (range, count) in words {
            counts.extend(range.clone().map(|_| count));
            lengths.extend(range.clone().map(|place| (range.end - place).min(MAX_PIECE) as u8));
        }
        let mut suffixes = Self { text, starts: Vec::new(), counts, lengths };
        let mut starts: Vec<u32> = (0..text.len() as u32).collect();
        let order = |&a: &u32, &b: &u32| {
            let (first, second) = (suffixes.head(a, MAX_PIECE), suffixes.head(b, MAX_PIECE));
            first.cmp(second).then(a.cmp(&b))
        };
        starts.par_sort_unstable_by(order);
        suffixes.starts = starts;
        suffixes
    }

    /// The first characters from `start` on, as far as the word reaches.
    fn head(&self, start: u32, length: usize) -> &'text [char] {
        let start = start as usize;
        &self.text[start..start + length.min(usize::from(self.lengths[start]))]
    }

    /// Where `seed` starts in the text.
    pub(super) fn places(&self, seed: &Seed) -> &[u32] {
        &self.starts[seed.suffixes.clone()]
    }

    /// All characters, and of the longer parts of words those that could stand for most characters of the texts, at most
    /// `most` in all.
    pub(super) fn seeds(&self, most: usize) -> Vec<Seed> {
        let mut seeds: Vec<Seed> = self.parts(1).collect();
        let characters = seeds.len();
        for length in 2..=MAX_PIECE {
            seeds.extend(self.parts(length).filter(|seed| seed.count >= MIN_COUNT));
            // Now, since all lengths together may need much memory.
            seeds[characters..].sort_unstable_by_key(|seed| (Reverse(seed.weight()), seed.suffixes.start, seed.length));
            seeds.truncate(most.max(characters));
        }
        seeds
    }

    /// The parts of words of one length, in the order of the code points.
    fn parts(&self, length: usize) -> impl Iterator<Item = Seed> {
        let mut start = 0;
        let runs = self.starts.chunk_by(move |&a, &b| self.head(a, length) == self.head(b, length));
        runs.filter_map(move |places| {
            let suffixes = start..start + places.len();
            start = suffixes.end;
            // Shorter ones are the ends of words.
            let is_part = self.head(places[0], length).len() == length;
            let count = || places.iter().map(|&place| self.counts[place as usize]).sum();
            is_part.then(|| Seed { suffixes, length, count: count() })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Every part of the words with its count and its places, by looking at each of them.
    fn parts(words: &[(String, u64)]) -> BTreeMap<Vec<char>, (u64, Vec<u32>)> {
        let mut parts: BTreeMap<Vec<char>, (u64, Vec<u32>)> = BTreeMap::new();
        let mut start = 0;
        for (word, count) in words {
            let word: Vec<char> = word.chars().collect();
            for from in 0..word.len() {
                for to in from + 1..=word.len().min(from + MAX_PIECE) {
                    let (sum, places) = parts.entry(word[from..to].to_vec()).or_default();
                    *sum += count;
                    places.push((start + from) as u32);
                }
            }
            start += word.len();
        }
        parts.retain(|part, (count, _)| part.len() == 1 || *count >= MIN_COUNT);
        parts
    }

    proptest! {
        #[test]
        fn seeds_are_all_parts_that_occur_again(words in prop::collection::vec(("[aé花]{1,20}", 1_u64..4), 1..8)) {
            let mut text = Vec::new();
            let mut ranges = Vec::new();
            for (word, count) in &words {
                let start = text.len();
                text.extend(word.chars());
                ranges.push((start..text.len(), *count));
            }
            let suffixes = Suffixes::sorted(&text, &ranges);
            let seeds = suffixes.seeds(usize::MAX);
            let part = |seed: &Seed| {
                let mut places = suffixes.places(seed).to_vec();
                places.sort_unstable();
                let start = places[0] as usize;
                (text[start..start + seed.length].to_vec(), (seed.count, places))
            };
            let found: BTreeMap<_, _> = seeds.iter().map(part).collect();
            prop_assert_eq!(found.len(), seeds.len());
            prop_assert_eq!(found, parts(&words));
            // All characters, and then the best.
            let characters = seeds.iter().filter(|seed| seed.length == 1).count();
            prop_assert!(seeds[characters..].is_sorted_by_key(|seed| Reverse(seed.weight())));
            prop_assert_eq!(&suffixes.seeds(characters + 5)[..], &seeds[..seeds.len().min(characters + 5)]);
            prop_assert_eq!(&suffixes.seeds(1)[..], &seeds[..characters]);
        }
    }
}
