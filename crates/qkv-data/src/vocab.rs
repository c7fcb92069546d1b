//! Names and their numbers: an open set of words with an explicit unknown, and a closed set of labels.
//!
//! Here belongs what gives a string its id, and what is written to `vocab.json`. Embeddings of the ids belong to the
//! model, and what an unknown word still shows of itself to [`affixes`](crate::affixes).

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

/// Which words of the training set get an id of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VocabularyOptions {
    /// A word that occurs less often than this is unknown.
    pub min_count: usize,
    /// Fold words to lower case.
    pub lowercase: bool,
    /// Keep no more than so many words, the commonest, the unknown not counted.
    pub max_size: Option<usize>,
}

impl Default for VocabularyOptions {
    /// Every word that occurs, as it is written.
    fn default() -> Self {
        Self { min_count: 1, lowercase: false, max_size: None }
    }
}

/// The words that have an id. Id 0 is the unknown, [`UNKNOWN_WORD`](Self::UNKNOWN_WORD).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "VocabularyFile", into = "VocabularyFile")]
pub struct Vocabulary {
    words: Vec<String>,
    lowercase: bool,
    ids: HashMap<String, u32>,
}

/// A vocabulary as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VocabularyFile {
    lowercase: bool,
    words: Vec<String>,
}

impl Vocabulary {
    /// How the unknown word is written.
    pub const UNKNOWN_WORD: &str = "<unk>";
    /// The id of every word that has none of its own.
    pub const UNKNOWN: u32 = 0;

    /// Counts `words` and gives the ids: the unknown first, then by falling count, equal counts in the order of their
    /// bytes. The result depends on the words alone, not on their order.
    pub fn build<I>(words: I, options: &VocabularyOptions) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for word in words {
            let word = folded(word.as_ref(), options.lowercase);
            match counts.get_mut(word.as_ref()) {
                Some(count) => *count += 1,
                None => _ = counts.insert(word.into_owned(), 1),
            }
        }
        counts.remove(Self::UNKNOWN_WORD);
        let mut kept: Vec<(String, usize)> =
            counts.into_iter().filter(|(_, count)| *count >= options.min_count).collect();
        kept.sort_unstable_by(|(word, count), (other_word, other_count)| {
            other_count.cmp(count).then_with(|| word.cmp(other_word))
        });
        kept.truncate(options.max_size.unwrap_or(usize::MAX));
        let words =
            std::iter::once(Self::UNKNOWN_WORD.to_owned()).chain(kept.into_iter().map(|(word, _)| word)).collect();
        Self::from_words(words, options.lowercase)
    }

    fn from_words(words: Vec<String>, lowercase: bool) -> Self {
        let ids = number(&words);
        Self { words, lowercase, ids }
    }

    /// The id of `word`, or [`UNKNOWN`](Self::UNKNOWN).
    pub fn id(&self, word: &str) -> u32 {
        self.ids.get(folded(word, self.lowercase).as_ref()).copied().unwrap_or(Self::UNKNOWN)
    }

    /// Whether `word` has an id of its own.
    pub fn contains(&self, word: &str) -> bool {
        self.id(word) != Self::UNKNOWN
    }

    /// How many ids there are, the unknown's included.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether nothing but the unknown has an id.
    pub fn is_empty(&self) -> bool {
        self.words.len() <= 1
    }

    /// The words in the order of their ids, the unknown first.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether words are folded to lower case before they are looked up.
    pub fn lowercase(&self) -> bool {
        self.lowercase
    }
}

impl From<Vocabulary> for VocabularyFile {
    fn from(vocabulary: Vocabulary) -> Self {
        Self { lowercase: vocabulary.lowercase, words: vocabulary.words }
    }
}

impl TryFrom<VocabularyFile> for Vocabulary {
    type Error = String;

    fn try_from(file: VocabularyFile) -> Result<Self, String> {
        if file.words.first().map(String::as_str) != Some(Self::UNKNOWN_WORD) {
            return Err(format!("the first word of a vocabulary must be {}", Self::UNKNOWN_WORD));
        }
        let vocabulary = Self::from_words(file.words, file.lowercase);
        match vocabulary.ids.len() == vocabulary.words.len() {
            true => Ok(vocabulary),
            false => Err("a word stands in the vocabulary twice".to_owned()),
        }
    }
}

/// The labels of a task: a closed set, in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Labels {
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Labels {
    /// The set of `labels`, each with an id.
    pub fn build<I>(labels: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut names: BTreeSet<String> = BTreeSet::new();
        for label in labels {
            if !names.contains(label.as_ref()) {
                names.insert(label.as_ref().to_owned());
            }
        }
        let names: Vec<String> = names.into_iter().collect();
        Self { ids: number(&names), names }
    }

    /// The id of `label`, or `None` if it is not of the set.
    pub fn id(&self, label: &str) -> Option<u32> {
        self.ids.get(label).copied()
    }

    /// The label of `id`, or `None` if there are not so many.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.names.get(id as usize).map(String::as_str)
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The labels in the order of their ids.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl From<Labels> for Vec<String> {
    fn from(labels: Labels) -> Self {
        labels.names
    }
}

impl TryFrom<Vec<String>> for Labels {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Self, String> {
        let labels = Self { ids: number(&names), names };
        match labels.ids.len() == labels.names.len() {
            true => Ok(labels),
            false => Err("a label stands in the list twice".to_owned()),
        }
    }
}

/// `word` in lower case if asked for; borrowed where nothing changes, which is the common case.
pub(crate) fn folded(word: &str, lowercase: bool) -> Cow<'_, str> {
    if lowercase && word.chars().any(|character| !character.is_ascii_lowercase()) {
        Cow::Owned(word.to_lowercase())
    } else {
        Cow::Borrowed(word)
    }
}

/// Each name with its place in the list.
fn number(names: &[String]) -> HashMap<String, u32> {
    names.iter().cloned().zip(0..).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_by_falling_count_and_then_by_spelling() {
        let vocabulary =
            Vocabulary::build(["b", "a", "c", "c", "<unk>", "<unk>", "<unk>"], &VocabularyOptions::default());
        assert_eq!(vocabulary.words(), ["<unk>", "c", "a", "b"]);
        assert_eq!((vocabulary.id("c"), vocabulary.id("b"), vocabulary.id("z")), (1, 3, 0));
        assert!(vocabulary.contains("a") && !vocabulary.contains("A") && !vocabulary.contains("<unk>"));
        assert_eq!(vocabulary.len(), 4);
    }

    #[test]
    fn order_of_the_words_does_not_matter() {
        let words = ["x", "y", "x", "z", "y", "w"];
        let backwards = words.iter().rev();
        let options = VocabularyOptions::default();
        assert_eq!(Vocabulary::build(words, &options), Vocabulary::build(backwards, &options));
    }

    #[test]
    fn rare_words_and_words_beyond_the_size_are_unknown() {
        let words = ["a", "a", "a", "B", "b", "c"];
        let options = VocabularyOptions { min_count: 2, lowercase: true, max_size: None };
        let vocabulary = Vocabulary::build(words, &options);
        assert_eq!(vocabulary.words(), ["<unk>", "a", "b"]);
        assert_eq!((vocabulary.id("B"), vocabulary.id("A"), vocabulary.id("C")), (2, 1, 0));
        let vocabulary = Vocabulary::build(words, &VocabularyOptions { max_size: Some(1), ..options });
        assert_eq!(vocabulary.words(), ["<unk>", "a"]);
    }

    #[test]
    fn vocabulary_survives_json() {
        let options = VocabularyOptions { lowercase: true, ..VocabularyOptions::default() };
        let vocabulary = Vocabulary::build(["Ä", "花", "b"], &options);
        let json = serde_json::to_string(&vocabulary).unwrap();
        assert_eq!(json, r#"{"lowercase":true,"words":["<unk>","b","ä","花"]}"#);
        let read: Vocabulary = serde_json::from_str(&json).unwrap();
        assert_eq!(read, vocabulary);
        assert_eq!(read.id("Ä"), 2);
    }

    #[test]
    fn damaged_json_is_refused() {
        for json in [
            r#"{"lowercase":true,"words":["a"]}"#,
            r#"{"lowercase":true,"words":[]}"#,
            r#"{"lowercase":true,"words":["<unk>","a","a"]}"#,
            r#"{"words":["<unk>"]}"#,
        ] {
            assert!(serde_json::from_str::<Vocabulary>(json).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<Labels>(r#"["a","a"]"#).is_err());
    }

    #[test]
    fn labels_are_closed_and_sorted() {
        let labels = Labels::build(["VERB", "NOUN", "VERB", "ADJ"]);
        assert_eq!(labels.names(), ["ADJ", "NOUN", "VERB"]);
        assert_eq!((labels.id("VERB"), labels.id("X")), (Some(2), None));
        assert_eq!((labels.name(0), labels.name(3)), (Some("ADJ"), None));
        let read: Labels = serde_json::from_str(&serde_json::to_string(&labels).unwrap()).unwrap();
        assert_eq!(read, labels);
    }
}
