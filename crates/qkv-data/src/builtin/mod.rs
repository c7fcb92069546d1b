//! Data that comes with the program: `builtin:NAME` instead of a path.
//!
//! Here belong the type of an embedded sentence, the lists of names and what can be said of such a corpus without
//! training anything (its ceiling for a model that sees one word at a time). What a corpus, [labelled texts](recall()), a
//! world of [ratings](films()) or of [pictures](scenes()) consists of belongs in a file of its own; everything read from disk
//! belongs elsewhere.

mod films;
mod films_titles;
mod homographs;
mod homographs_far;
mod homographs_local;
mod homographs_order;
mod homographs_words;
mod recall;
mod scenes;
mod scenes_draw;
mod scenes_files;
mod scenes_words;
mod verse;

use std::collections::BTreeMap;
use std::fmt;

pub use films::{Films, MOOD_FILMS, films};
pub use films_titles::FILM_FEATURES;
pub use homographs::homographs;
pub use recall::{
    RECALL_KEYS, RECALL_PAIRS, RECALL_RANGES, RECALL_VALUES, RecallOptions, RecallPair, RecallText, recall,
};
pub use scenes::{
    SCENE_CLASSES, SCENE_COLOURS, SCENE_SHAPES, Scene, SceneObject, SceneOptions, accuracy_without_pictures, scene,
    scenes,
};
pub use scenes_files::write_scenes;
pub use verse::VERSE;

/// The names that [`open`] knows, without the `builtin:` before them: corpora of tagged sentences.
pub const NAMES: &[&str] = &["homographs"];

/// The names that [`read_ratings`](crate::read_ratings) knows, without the `builtin:` before them.
pub const RATINGS: &[&str] = &["films"];

/// The names that [`read_labelled`](crate::read_labelled) knows, without the `builtin:` before them.
pub const LABELLED: &[&str] = &["recall"];

/// The names that [`read_pictures`](crate::image::read_pictures) and
/// [`read_segmented`](crate::image::read_segmented) know, without the `builtin:` before them.
pub const PICTURES: &[&str] = &["scenes"];

/// What builtin data that a task of another kind asked for holds, if there is data of that name.
pub(crate) fn held(name: &str) -> Option<&'static str> {
    let kinds = [
        (NAMES, "tagged sentences"),
        (RATINGS, "ratings"),
        (PICTURES, "pictures"),
        (LABELLED, "labelled texts"),
        (&["verse"], "one text"),
    ];
    kinds.into_iter().find(|(names, _)| names.contains(&name)).map(|(_, held)| held)
}

/// What a token is for, when accuracy is counted apart from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A word with one tag everywhere.
    Plain,
    /// A word with two tags, decided by the words next to it.
    Homograph,
    /// A word with two senses, decided by one cue `distance` words to its left.
    Far {
        /// Words from the cue to this one; 1 would be the next word.
        distance: usize,
    },
    /// A word whose tag only the order of the words decides.
    Order,
}

/// Where the evidence for the marked words of a sentence lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Within two words.
    Local,
    /// In one word, 3 to 20 to the left.
    Far,
    /// In the order alone.
    Order,
}

/// The language of a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// English.
    English,
    /// Chinese, already cut into words.
    Chinese,
}

/// The parts of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What a model learns from.
    Train,
    /// What chooses the best of its states.
    Dev,
    /// What it is judged by, once.
    Test,
}

/// One sentence with its tags, and what each of its words is there to show.
///
/// `words`, `tags` and `marks` have the same length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedSentence {
    /// The words, punctuation included.
    pub words: Vec<String>,
    /// The right tag of each word.
    pub tags: Vec<String>,
    /// What each word is there to show.
    pub marks: Vec<Mark>,
    /// Where the evidence lies.
    pub family: Family,
    /// The language.
    pub language: Language,
}

/// A corpus in its three parts, which share no sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// What a model learns from.
    pub train: Vec<MarkedSentence>,
    /// What chooses the best of its states.
    pub dev: Vec<MarkedSentence>,
    /// What it is judged by.
    pub test: Vec<MarkedSentence>,
}

impl Corpus {
    /// The sentences of one part.
    #[must_use]
    pub fn part(&self, part: Part) -> &[MarkedSentence] {
        match part {
            Part::Train => &self.train,
            Part::Dev => &self.dev,
            Part::Test => &self.test,
        }
    }
}

/// The distances that far evidence is reported by, both ends included.
pub const DISTANCE_BUCKETS: [(usize, usize); 4] = [(3, 5), (6, 9), (10, 14), (15, 20)];

/// The index in [`DISTANCE_BUCKETS`] of a distance, if one of them holds it.
#[must_use]
pub fn distance_bucket(distance: usize) -> Option<usize> {
    DISTANCE_BUCKETS.iter().position(|&(low, high)| (low..=high).contains(&distance))
}

/// `builtin:NAME` with a name that is no corpus of tagged sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownBuiltin {
    /// The name that was asked for.
    pub name: String,
}

impl fmt::Display for UnknownBuiltin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match held(&self.name) {
            Some(held) => format!("holds {held}, not tagged sentences"),
            None => "there is no such embedded corpus".to_owned(),
        };
        write!(f, "builtin:{}: {what}; known: {}", self.name, NAMES.join(", "))
    }
}

impl std::error::Error for UnknownBuiltin {}

/// One part of the embedded corpus of that name, as tagged sentences.
///
/// `name` may carry the `builtin:` of the command line or not.
///
/// # Errors
///
/// [`UnknownBuiltin`] when there is no corpus of tagged sentences of that name; its message lists those that there are.
pub fn open(name: &str, part: Part) -> Result<Vec<MarkedSentence>, UnknownBuiltin> {
    match name.strip_prefix("builtin:").unwrap_or(name) {
        "homographs" => {
            let corpus = homographs();
            Ok(match part {
                Part::Train => corpus.train,
                Part::Dev => corpus.dev,
                Part::Test => corpus.test,
            })
        }
        other => Err(UnknownBuiltin { name: other.to_owned() }),
    }
}

/// The accuracy, as a share of one, that no predictor can exceed which sees one word and nothing around it.
///
/// Such a predictor gives every occurrence of a word the same tag, so its best is the commonest tag of each word *in
/// the sentences it is judged by*. `counted` chooses the tokens that count, by their mark. No token counted: 1.
#[must_use]
pub fn ceiling_without_context(sentences: &[MarkedSentence], counted: impl Fn(Mark) -> bool) -> f64 {
    let mut tags_of: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for sentence in sentences {
        for ((word, tag), &mark) in sentence.words.iter().zip(&sentence.tags).zip(&sentence.marks) {
            if counted(mark) {
                *tags_of.entry(word).or_default().entry(tag).or_default() += 1;
            }
        }
    }
    let tokens: usize = tags_of.values().flat_map(BTreeMap::values).sum();
    let right: usize = tags_of.values().filter_map(|tags| tags.values().max()).sum();
    if tokens == 0 { 1.0 } else { right as f64 / tokens as f64 }
}

#[cfg(test)]
mod tests;
