//! `builtin:homographs`: a seeded grammar whose sentences put self-attention to the proof.
//!
//! Three families, each in English and Chinese, each balanced so that a model which cannot see the evidence is right
//! on exactly half of the marked words, whatever it learns:
//!
//! - *local*: homographs (`I saw a saw .`) decided within two words. Each homograph has each of its two tags equally
//!   often in every part;
//! - *far*: one clause whose sense one word far to the left decides. Each sentence stands beside its twin, which
//!   differs in that word and in the tag it decides, in nothing else;
//! - *order*: who did what to whom. Each sentence stands beside its mirror image, made of the same words.
//!
//! Here belong the sizes of the parts and what the families share: drawing, drafts, and the register that keeps the
//! parts apart. What a family's sentences look like belongs in its own file.

use std::collections::BTreeSet;

use qkv::random::Key;

use super::{Corpus, Family, Language, Mark, MarkedSentence, Part};
use super::{homographs_far, homographs_local, homographs_order};

/// Any number would do; the corpus is a function of it.
const SEED: u64 = 0x5a77_a5a7;

/// How much of each family a part holds.
pub(super) struct Sizes {
    /// Tokens for each tag of an English homograph of the large noun-or-verb class.
    pub(super) shared: usize,
    /// Tokens for each tag of a homograph that is alone in its class, whose contexts must be learned from it alone.
    pub(super) alone: usize,
    /// Sentences in which one noun-or-verb homograph stands in both readings, for each such word.
    pub(super) twins: usize,
    /// Sentences of several homographs.
    pub(super) mixed: usize,
    /// Pairs of far sentences for each language and bucket of distances.
    pub(super) far_pairs: usize,
    /// Pairs of sentences about who did what, in English; half as many in Chinese.
    pub(super) order_pairs: usize,
}

/// The sizes of a part: about 3,000 sentences and 26,000 words to train on. Little enough that a window as wide as the
/// longest sentence memorises (with half as many far pairs again it comes near to the rule), enough that each distance has
/// seven pairs or more in each language.
fn sizes(part: Part) -> Sizes {
    match part {
        Part::Train => Sizes { shared: 20, alone: 24, twins: 3, mixed: 240, far_pairs: 42, order_pairs: 120 },
        Part::Dev => Sizes { shared: 2, alone: 2, twins: 0, mixed: 20, far_pairs: 12, order_pairs: 30 },
        Part::Test => Sizes { shared: 4, alone: 5, twins: 1, mixed: 50, far_pairs: 30, order_pairs: 100 },
    }
}

/// The corpus: the same sentences in the same order at every call, on every machine.
#[must_use]
pub fn homographs() -> Corpus {
    let key = Key::new(SEED);
    let mut register = Register::default();
    // The test part comes first, so that its named examples (`I saw a saw .`) are its own.
    let test = part(Part::Test, key.fold(0), &mut register);
    let dev = part(Part::Dev, key.fold(1), &mut register);
    let train = part(Part::Train, key.fold(2), &mut register);
    Corpus { train, dev, test }
}

fn part(part: Part, key: Key, register: &mut Register) -> Vec<MarkedSentence> {
    let sizes = sizes(part);
    let named = part == Part::Test;
    let mut sentences = homographs_local::sentences(&sizes, named, &mut Dice::new(key.fold(0)), register);
    sentences.extend(homographs_far::sentences(&sizes, named, &mut Dice::new(key.fold(1)), register));
    sentences.extend(homographs_order::sentences(&sizes, &mut Dice::new(key.fold(2)), register));
    sentences
}

/// Draws in a row from one key.
pub(super) struct Dice {
    key: Key,
    next: u64,
}

impl Dice {
    pub(super) fn new(key: Key) -> Self {
        Self { key, next: 0 }
    }

    /// A number below `bound`; zero when `bound` is zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bits = u64::from(self.key.bits(self.next));
        self.next += 1;
        // The upper half of the product: as even as 32 bits allow, without a division. Less than `bound`, so it fits.
        ((bits * bound as u64) >> 32) as usize
    }

    /// A number from 0 to 1, without 1.
    pub(super) fn uniform(&mut self) -> f64 {
        let bits = self.key.bits(self.next);
        self.next += 1;
        f64::from(bits) / 4_294_967_296.0
    }

    /// One of `items`; none when there are none.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }
}

/// A sentence in the making.
#[derive(Clone, Default)]
pub(super) struct Draft {
    words: Vec<String>,
    tags: Vec<String>,
    marks: Vec<Mark>,
}

impl Draft {
    /// Words so far.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// The words so far.
    pub(super) fn words(&self) -> &[String] {
        &self.words
    }

    /// Appends another draft.
    pub(super) fn append(&mut self, other: &Self) {
        self.words.extend_from_slice(&other.words);
        self.tags.extend_from_slice(&other.tags);
        self.marks.extend_from_slice(&other.marks);
    }

    /// Appends a word with its mark.
    pub(super) fn push(&mut self, word: &str, tag: &str, mark: Mark) {
        self.words.push(word.to_owned());
        self.tags.push(tag.to_owned());
        self.marks.push(mark);
    }

    /// Appends a word that has one tag everywhere.
    pub(super) fn plain(&mut self, word: &str, tag: &str) {
        self.push(word, tag, Mark::Plain);
    }

    /// The sentence.
    pub(super) fn finish(self, family: Family, language: Language) -> MarkedSentence {
        MarkedSentence { words: self.words, tags: self.tags, marks: self.marks, family, language }
    }
}

/// What has been said already, in any part.
#[derive(Default)]
pub(super) struct Register(BTreeSet<String>);

impl Register {
    /// Enters a group of sentences that must stay together under `key`, which is equal for groups that must not fall
    /// into two parts. False, and nothing entered, when the key or one of the sentences is there already.
    pub(super) fn admit(&mut self, key: &str, group: &[MarkedSentence]) -> bool {
        let mut entries: BTreeSet<String> = group.iter().map(|s| s.words.join(" ")).collect();
        entries.insert(format!("#{key}"));
        if entries.iter().any(|entry| self.0.contains(entry)) {
            return false;
        }
        self.0.extend(entries);
        true
    }
}

/// Attempts at a new sentence before a family gives up; a lexicon too small for the sizes shows as a short part in the
/// tests, not as a program that hangs.
pub(super) const ATTEMPTS: usize = 5_000;
