//! Sentences as numbers, and packed batches of them.
//!
//! Here belongs the step from words to ids and from chosen sentences to one packed batch. Which sentences are chosen
//! is [`plan`](crate::plan)'s affair, and tensors are the trainer's.

use std::collections::HashMap;
use std::sync::Arc;

use qkv::Offsets;
use qkv::gather::NONE;

use crate::affixes::AffixOptions;
use crate::sentence::Sentence;
use crate::vocab::{Labels, Vocabulary};

/// The target of a word whose label was never seen in training. No answer can be right, so it counts as wrong; a word
/// without any label has [`NONE`] and does not count.
pub const UNSEEN: u32 = u32::MAX - 1;

/// Some sentences, packed: all their words end to end.
#[derive(Debug, Clone)]
pub struct TextBatch {
    /// Word ids, `[tokens]`.
    pub words: Arc<[u32]>,
    /// Rows of the affix table, `[tokens, affix_width]`, [`NONE`] where a word has no such affix; empty without affixes.
    pub affixes: Arc<[u32]>,
    /// How many affix rows each word has, 0 without affixes.
    pub affix_width: usize,
    /// Label ids, `[tokens]`; [`NONE`] where there is no label, [`UNSEEN`] where training had no such label.
    pub targets: Arc<[u32]>,
    /// Which words are which sentence's: set `s` is the sentence `indices[s]`.
    pub offsets: Offsets,
    /// Which sentences these are.
    pub indices: Vec<usize>,
}

/// A label of the data that training never saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnseenLabel {
    /// The label.
    pub label: String,
    /// The line where it stands first, counted from one.
    pub line: usize,
    /// How often it stands in the data.
    pub count: usize,
}

/// All sentences of a file as numbers, end to end.
#[derive(Debug, Clone)]
pub struct EncodedSentences {
    words: Vec<u32>,
    affixes: Vec<u32>,
    affix_width: usize,
    targets: Vec<u32>,
    offsets: Offsets,
}

impl EncodedSentences {
    /// Numbers the words of `sentences`, and their labels if the sentences and the caller have any. Beside them, the
    /// labels that are not in `labels`, in the order of their first occurrence.
    pub fn from_sentences(
        sentences: &[Sentence],
        vocabulary: &Vocabulary,
        affixes: Option<&AffixOptions>,
        labels: Option<&Labels>,
    ) -> (Self, Vec<UnseenLabel>) {
        let offsets = Offsets::from_lengths(sentences.iter().map(|sentence| sentence.words.len()));
        let affix_width = affixes.map_or(0, AffixOptions::width);
        let tokens = offsets.tokens();
        let mut encoded = Self {
            words: Vec::with_capacity(tokens),
            affixes: Vec::with_capacity(tokens * affix_width),
            affix_width,
            targets: Vec::with_capacity(tokens),
            offsets,
        };
        let mut unseen = Unseen::default();
        for sentence in sentences {
            for (place, word) in sentence.words.iter().enumerate() {
                encoded.words.push(vocabulary.id(word));
                if let Some(affixes) = affixes {
                    affixes.rows(word, &mut encoded.affixes);
                }
                let label = sentence.labels.as_ref().and_then(|labels| labels.get(place));
                encoded.targets.push(match (labels, label) {
                    (Some(labels), Some(label)) => labels.id(label).unwrap_or_else(|| {
                        unseen.note(label, sentence.word_lines.get(place).copied().unwrap_or(sentence.line));
                        UNSEEN
                    }),
                    _ => NONE,
                });
            }
        }
        (encoded, unseen.labels)
    }

    /// Texts whose units are numbered already, such as a [`Codec`](crate::Codec) numbers them: a set for each, without
    /// affixes and without labels.
    pub fn from_ids<I: IntoIterator<Item = Vec<u32>>>(texts: I) -> Self {
        let (mut words, mut lengths) = (Vec::new(), Vec::new());
        for ids in texts {
            lengths.push(ids.len());
            words.extend(ids);
        }
        let targets = vec![NONE; words.len()];
        Self { words, affixes: Vec::new(), affix_width: 0, targets, offsets: Offsets::from_lengths(lengths) }
    }

    /// How many sentences there are.
    pub fn len(&self) -> usize {
        self.offsets.sets()
    }

    /// Whether there are no sentences.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many words all sentences have together.
    pub fn tokens(&self) -> usize {
        self.offsets.tokens()
    }

    /// How many words each sentence has.
    pub fn lengths(&self) -> Vec<usize> {
        (0..self.len()).map(|sentence| self.offsets.len_of(sentence)).collect()
    }

    /// Label ids of one sentence's words, as in [`TextBatch::targets`].
    pub fn targets(&self, sentence: usize) -> &[u32] {
        &self.targets[self.offsets.range(sentence)]
    }

    /// The sentences `indices`, packed in that order.
    ///
    /// # Panics
    ///
    /// If an index is not below [`len`](Self::len).
    pub fn batch(&self, indices: &[usize]) -> TextBatch {
        let offsets = Offsets::from_lengths(indices.iter().map(|&sentence| self.offsets.len_of(sentence)));
        let tokens = offsets.tokens();
        let mut words = Vec::with_capacity(tokens);
        let mut affixes = Vec::with_capacity(tokens * self.affix_width);
        let mut targets = Vec::with_capacity(tokens);
        for &sentence in indices {
            let range = self.offsets.range(sentence);
            affixes.extend_from_slice(&self.affixes[range.start * self.affix_width..range.end * self.affix_width]);
            words.extend_from_slice(&self.words[range.clone()]);
            targets.extend_from_slice(&self.targets[range]);
        }
        TextBatch {
            words: words.into(),
            affixes: affixes.into(),
            affix_width: self.affix_width,
            targets: targets.into(),
            offsets,
            indices: indices.to_vec(),
        }
    }
}

/// The unseen labels so far, each with its place in the list.
#[derive(Default)]
struct Unseen {
    labels: Vec<UnseenLabel>,
    places: HashMap<String, usize>,
}

impl Unseen {
    fn note(&mut self, label: &str, line: usize) {
        match self.places.get(label) {
            Some(&place) => self.labels[place].count += 1,
            None => {
                self.places.insert(label.to_owned(), self.labels.len());
                self.labels.push(UnseenLabel { label: label.to_owned(), line, count: 1 });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::VocabularyOptions;

    fn sentence(line: usize, words: &[&str], labels: Option<&[&str]>) -> Sentence {
        let mut sentence = Sentence::from_words(words.iter().map(|word| (*word).to_owned()).collect());
        sentence.labels = labels.map(|labels| labels.iter().map(|label| (*label).to_owned()).collect());
        sentence.line = line;
        sentence.word_lines = (line..line + words.len()).collect();
        sentence
    }

    fn example() -> (Vec<Sentence>, Vocabulary, Labels) {
        let sentences = vec![
            sentence(1, &["I", "saw"], Some(&["PRON", "VERB"])),
            sentence(4, &[], None),
            sentence(5, &["a", "saw", "."], Some(&["DET", "NOUN", "PUNCT"])),
            sentence(9, &["x", "y"], Some(&["PUNCT", "SYM"])),
        ];
        let vocabulary = Vocabulary::build(["saw", "saw", "I", "a"], &VocabularyOptions::default());
        (sentences, vocabulary, Labels::build(["PRON", "VERB", "DET", "NOUN"]))
    }

    #[test]
    fn a_batch_holds_the_chosen_sentences_end_to_end() {
        let (sentences, vocabulary, labels) = example();
        let affixes = AffixOptions { prefixes: 2, ..AffixOptions::default() };
        let (encoded, _) = EncodedSentences::from_sentences(&sentences, &vocabulary, Some(&affixes), Some(&labels));
        assert_eq!((encoded.len(), encoded.tokens(), encoded.lengths()), (4, 7, vec![2, 0, 3, 2]));
        let batch = encoded.batch(&[2, 1, 0]);
        assert_eq!(batch.indices, [2, 1, 0]);
        assert_eq!(*batch.words, [3, 1, 0, 2, 1]);
        assert_eq!((batch.offsets.sets(), batch.offsets.range(1), batch.offsets.range(2)), (3, 3..3, 3..5));
        let mut expected = Vec::new();
        ["a", "saw", ".", "I", "saw"].iter().for_each(|word| affixes.rows(word, &mut expected));
        assert_eq!(*batch.affixes, expected);
        assert_eq!(*batch.targets, [0, 1, UNSEEN, 2, 3]);
        assert_eq!(encoded.targets(0), [2, 3]);
    }

    #[test]
    fn unseen_labels_are_named_by_their_first_line_and_counted() {
        let (sentences, vocabulary, labels) = example();
        let (encoded, unseen) = EncodedSentences::from_sentences(&sentences, &vocabulary, None, Some(&labels));
        let expected = [("PUNCT", 7, 2), ("SYM", 10, 1)];
        let expected = expected.map(|(label, line, count)| UnseenLabel { label: label.to_owned(), line, count });
        assert_eq!(unseen, expected);
        assert_eq!(encoded.targets(3), [UNSEEN, UNSEEN]);
        let batch = encoded.batch(&[3]);
        assert!(batch.affixes.is_empty() && batch.affix_width == 0);
    }

    #[test]
    fn without_labels_no_target_counts() {
        let (mut sentences, vocabulary, labels) = example();
        let (encoded, unseen) = EncodedSentences::from_sentences(&sentences, &vocabulary, None, None);
        assert!(unseen.is_empty() && *encoded.batch(&[0, 2]).targets == [NONE; 5]);
        sentences.iter_mut().for_each(|sentence| sentence.labels = None);
        let (encoded, unseen) = EncodedSentences::from_sentences(&sentences, &vocabulary, None, Some(&labels));
        assert!(unseen.is_empty() && *encoded.batch(&[0, 2]).targets == [NONE; 5]);
    }

    #[test]
    fn numbered_texts_are_sets_without_labels() {
        let encoded = EncodedSentences::from_ids([vec![7, 8], vec![], vec![9]]);
        assert_eq!((encoded.lengths(), encoded.tokens()), (vec![2, 0, 1], 3));
        let batch = encoded.batch(&[2, 1, 0]);
        assert_eq!((&*batch.words, &*batch.targets), (&[9, 7, 8][..], &[NONE; 3][..]));
        assert!(batch.affixes.is_empty() && batch.affix_width == 0);
        assert_eq!((batch.offsets.range(1), batch.offsets.range(2)), (1..1, 1..3));
    }

    #[test]
    fn an_empty_batch_is_empty() {
        let (sentences, vocabulary, labels) = example();
        let (encoded, _) = EncodedSentences::from_sentences(&sentences, &vocabulary, None, Some(&labels));
        let batch = encoded.batch(&[]);
        assert!(batch.words.is_empty() && batch.targets.is_empty() && batch.offsets.sets() == 0);
    }
}
