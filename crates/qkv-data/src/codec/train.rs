//! Learns subwords from texts, the same ones every time.
//!
//! Here belongs what stands before the trainers: counting words, and bounding what they are given. Which neighbours become
//! one is the affair of a trainer from elsewhere; how the unigram model is learnt is in `unigram`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::RangeInclusive;

use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::Unigram;

use super::subwords::{SPACE, Subwords};
use super::{Codec, SPECIAL, unigram};
use crate::error::{Error, Result};

/// How many ids of subwords there may be: the special ones, the space and a character; and no more than is sane, since the
/// trainer sets memory aside for all of them at once.
const SIZES: RangeInclusive<usize> = SPECIAL.len() + 2..=1_000_000;
/// Longer words are learnt from in parts: the time of a trainer grows with the square of a word's length.
const MAX_WORD: usize = 256;
/// One trainer counts pairs in 32 bits, the other places.
const MAX_CHARACTERS: u64 = i32::MAX as u64;
/// A pair that occurs once teaches nothing.
const MIN_PAIR: u64 = 2;

/// Learns subwords by byte pair encoding.
///
/// What the trainer makes of the same words is the same, although it goes through hash maps and uses many threads: it adds
/// up whole numbers; a symbol comes into being in one merge alone, so each pair enters the queue of merges once; and pairs of
/// the same count leave the queue in the order of their ids.
pub(super) fn bpe<'text>(
    texts: impl IntoIterator<Item = &'text str>,
    size: usize,
    lowercase: bool,
) -> Result<Subwords> {
    let words = words(texts, size, lowercase)?;
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .special_tokens(SPECIAL.map(|special| AddedToken::from(special, true)).to_vec())
        .vocab_size(size)
        .min_frequency(MIN_PAIR)
        .build();
    let mut model = BPE::builder().unk_token(SPECIAL[0].to_owned()).build().map_err(refused)?;
    let counts = words.into_iter().map(|(word, count)| (word.into(), count)).collect();
    trainer.do_train(&counts, &mut model).map_err(refused)?;
    Subwords::new(model, lowercase).map_err(refused)
}

/// Learns subwords of the unigram model.
///
/// The trainer of the crate that cuts texts is not used: what it learns differs from process to process, and there are texts
/// that it panics on.
pub(super) fn unigram<'text>(
    texts: impl IntoIterator<Item = &'text str>,
    size: usize,
    lowercase: bool,
) -> Result<Subwords> {
    let words = words(texts, size, lowercase)?;
    let special = SPECIAL.map(|special| (special.to_owned(), 0.0));
    let pieces = special.into_iter().chain(unigram::learn(&words, size - SPECIAL.len())).collect();
    let model = Unigram::from(pieces, Some(Codec::UNKNOWN as usize), false).map_err(refused)?;
    Subwords::new(model, lowercase).map_err(refused)
}

/// The words of `texts`, and parts of words, with their counts. They have no more characters than `size` ids have room for.
fn words<'text>(
    texts: impl IntoIterator<Item = &'text str>,
    size: usize,
    lowercase: bool,
) -> Result<BTreeMap<String, u64>> {
    if !SIZES.contains(&size) {
        let what = format!("{size} ids of subwords are out of range");
        return Err(Error::unusable("size", what, format!("give {} to {}", SIZES.start(), SIZES.end())));
    }
    let cutter = Subwords::new(BPE::default(), lowercase).map_err(refused)?;
    bounded(count_words(texts, &cutter), size)
}

fn count_words<'text>(texts: impl IntoIterator<Item = &'text str>, cutter: &Subwords) -> HashMap<String, u64> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for text in texts {
        cutter.for_each_word(text, |word| match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => _ = counts.insert(word.to_owned(), 1),
        });
    }
    counts
}

/// Cuts words at the characters that have no room among `size` ids, and long words into parts.
fn bounded(words: HashMap<String, u64>, size: usize) -> Result<BTreeMap<String, u64>> {
    let mut characters: HashMap<char, u64> = HashMap::new();
    for (word, count) in &words {
        word.chars().for_each(|character| *characters.entry(character).or_default() += count);
    }
    let total: u64 = characters.values().sum();
    if total > MAX_CHARACTERS {
        let what =
            format!("they have {total} characters, more than the {MAX_CHARACTERS} that subwords are learnt from");
        return Err(Error::unusable(TEXTS, what, "learn the subwords from a part of them"));
    }
    if total == 0 {
        return Err(nothing("there is nothing in them that subwords could be learnt from"));
    }
    let alphabet = alphabet(characters, size);
    let mut parts: BTreeMap<String, u64> = BTreeMap::new();
    for (word, count) in words {
        for part in word.split(|character| !alphabet.contains(&character)) {
            let characters: Vec<char> = part.chars().collect();
            for part in characters.chunks(MAX_WORD) {
                *parts.entry(part.iter().collect()).or_default() += count;
            }
        }
    }
    Ok(parts)
}

/// The characters that get an id: the space, and the commonest others.
fn alphabet(characters: HashMap<char, u64>, size: usize) -> HashSet<char> {
    let mut characters: Vec<(char, u64)> = characters.into_iter().collect();
    characters.sort_unstable_by_key(|&(character, count)| (character != SPACE, Reverse(count), character));
    characters.truncate(size - SPECIAL.len());
    characters.into_iter().map(|(character, _)| character).collect()
}

/// How messages name what is learnt from.
const TEXTS: &str = "the training texts";

/// Texts that no unit could be learnt from.
pub(super) fn nothing(what: impl fmt::Display) -> Error {
    Error::unusable(TEXTS, what, "are they the right files?")
}

/// What the trainer refused.
fn refused(error: tokenizers::Error) -> Error {
    Error::unusable(TEXTS, format!("no subwords can be learnt from them: {error}"), "choose words or characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(words: &[(&str, u64)]) -> HashMap<String, u64> {
        words.iter().map(|&(word, count)| (word.to_owned(), count)).collect()
    }

    #[test]
    fn words_are_cut_at_rare_characters_and_where_they_are_long() {
        let words = counts(&[("▁abxab", 3), ("▁ab", 2), ("y", 1)]);
        let parts: Vec<(String, u64)> = bounded(words, SPECIAL.len() + 3).unwrap().into_iter().collect();
        assert_eq!(parts, [("ab".to_owned(), 3), ("▁ab".to_owned(), 5)]);
        let parts = bounded(counts(&[(&"é".repeat(MAX_WORD * 2 + 1), 1)]), 10).unwrap();
        assert_eq!(parts, BTreeMap::from([("é".to_owned(), 1), ("é".repeat(MAX_WORD), 2)]));
    }

    #[test]
    fn more_than_can_be_counted_is_an_error() {
        bounded(counts(&[("ab", MAX_CHARACTERS / 2)]), 10).unwrap();
        let message = bounded(counts(&[("ab", MAX_CHARACTERS / 2 + 1)]), 10).unwrap_err().to_string();
        assert!(message.starts_with("the training texts: they have 2147483648 characters"), "{message}");
    }
}
