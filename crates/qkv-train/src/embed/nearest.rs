//! The nearest neighbours of a word: as one-hot vectors, as embeddings, and in context.
//!
//! As one-hot vectors all words are equally far from each other. An embedding is a place among others that are like it, the same
//! wherever the word stands. In context the same word is at another place in each text.

use std::sync::atomic::AtomicBool;

use super::{Corpus, Embed, Text, chosen_layer, for_each};
use crate::error::{Error, Result};
use crate::model::Model;

/// Units shown on each side of a word in context.
const REACH: usize = 5;

/// Whose neighbours are looked for, and where.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// A word, or another unit of the model.
    pub word: &'a str,
    /// Neighbours, at most.
    pub count: usize,
    /// The layer that words in context are compared in; the last if not given.
    pub layer: Option<usize>,
    /// Texts in which it stands.
    pub texts: &'a [String],
    /// Where neighbours in context are looked for; in `texts` if nowhere else. Without texts, the first place where the word stands
    /// in it and the one whose vector is least like that are taken.
    pub corpus: Option<Corpus<'a>>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// The unit, as the model writes it.
    pub word: String,
    /// Whether the model knows it; if not, it is read as any other unknown word, but for its characters where the model sees them.
    pub known: bool,
    /// What one-hot vectors know of the others.
    pub one_hot: OneHot,
    /// The neighbours before context: among the vectors that go into the first block, one for each unit of the vocabulary.
    pub before: Vec<Neighbour>,
    /// The layer of what follows.
    pub layer: usize,
    /// The neighbours in context, for each place where the word stands.
    pub after: Vec<Occurrence>,
}

/// How far the one-hot vector of a word is from those of the others: the least and the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneHot {
    /// Other units of the vocabulary.
    pub others: usize,
    /// Of the cosines.
    pub cosine: [f64; 2],
    /// Of the distances.
    pub distance: [f64; 2],
}

/// A unit and how near it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// The unit.
    pub word: String,
    /// The cosine between its vector and that of the word.
    pub cosine: f64,
    /// Where it stands, if it is one in context: the nearest of all places where it stands.
    pub place: Option<Place>,
}

/// A place in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the text, counted from one.
    pub text: usize,
    /// The number of the unit in it, counted from one.
    pub unit: usize,
    /// What stands around it, the unit itself in brackets.
    pub context: String,
}

/// A place where the word stands, and what is near to it there.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    /// Where.
    pub place: Place,
    /// The cosine between its vector and that of the first occurrence: before context it would be 1.
    pub cosine_with_first: f64,
    /// The units in context whose vectors are nearest, each unit once.
    pub neighbours: Vec<Neighbour>,
}

/// Finds the neighbours of a word.
///
/// # Errors
/// If the word is no single unit of the model, does not stand in a text or in the corpus, or the corpus cannot be read.
pub fn nearest(model: &Model, query: &Query, stop: &AtomicBool) -> Result<Nearest> {
    let model = model.embedder()?;
    let layer = chosen_layer(model, query.layer)?;
    let vocabulary = model.vocabulary();
    let word = Word::resolve(model, &vocabulary, query.word)?;
    let search = Search { model, word: &word, layer, stop };
    let mut after = search.starts(query)?;
    if !after.is_empty() {
        search.fill(query, &mut after)?;
    }
    let known = word.id != 0;
    // As many elements as there are units, and one for all that are unknown.
    let place = vocabulary.iter().position(|text| text.ids[0] == word.id).unwrap_or(vocabulary.len());
    Ok(Nearest {
        one_hot: one_hot(vocabulary.len() + 1, place as u32),
        before: before(model, vocabulary, &word, query.count, stop)?,
        known,
        layer,
        after: after.into_iter().map(|start| start.occurrence).collect(),
        word: word.name,
    })
}

/// The unit that is asked for.
struct Word {
    name: String,
    id: u32,
}

impl Word {
    fn resolve(model: &dyn Embed, vocabulary: &[Text], word: &str) -> Result<Self> {
        if let Some(known) = vocabulary.iter().find(|text| text.units[0] == word) {
            return Ok(Self { name: word.to_string(), id: known.ids[0] });
        }
        let text = model.cut(word)?;
        match (&text.units[..], &text.ids[..]) {
            ([name], [id]) => Ok(Self { name: name.clone(), id: *id }),
            ([], _) => Err(Error::Recipe("--nearest: there is no word: give one, as in --nearest saw".into())),
            (units, _) => Err(Error::Recipe(format!(
                "--nearest {word:?} is {} units to this model, and not one: name one of {}",
                units.len(),
                units.iter().map(|unit| format!("{unit:?}")).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// Whether unit `place` of `text` is this one. Unknown ones have one id and are told apart by how they are written.
    fn is(&self, text: &Text, place: usize) -> bool {
        text.ids[place] == self.id && (self.id != 0 || text.units[place] == self.name)
    }

    fn places(&self, text: &Text) -> Vec<usize> {
        (0..text.units.len()).filter(|&place| self.is(text, place)).collect()
    }
}

/// An occurrence whose neighbours are looked for.
struct Start {
    occurrence: Occurrence,
    vector: Vec<f32>,
    /// Whether its text is of the corpus, where it would find itself.
    of_corpus: bool,
}

struct Search<'a> {
    model: &'a dyn Embed,
    word: &'a Word,
    layer: usize,
    stop: &'a AtomicBool,
}

impl Search<'_> {
    /// The places where the word stands, with their vectors, but without neighbours.
    fn starts(&self, query: &Query) -> Result<Vec<Start>> {
        match (query.texts, &query.corpus) {
            ([], None) => Ok(Vec::new()),
            ([], Some(corpus)) => self.starts_of_corpus(corpus),
            (texts, _) => self.starts_of_texts(texts, query.corpus.is_none()),
        }
    }

    fn starts_of_texts(&self, texts: &[String], of_corpus: bool) -> Result<Vec<Start>> {
        let mut starts: Vec<Start> = Vec::new();
        for (number, text) in (1..).zip(texts) {
            let cut = self.model.cut(text)?;
            let places = self.word.places(&cut);
            if places.is_empty() {
                return Err(Error::Recipe(format!(
                    "--text {text:?}: {:?} does not stand in it: give a text that has it",
                    self.word.name
                )));
            }
            let vectors = self.model.vectors(&[&cut], self.layer);
            for place in places {
                let start = self.start((number, place), &cut, row(&vectors, place, self.model), of_corpus);
                starts.push(start.compared_with(starts.first()));
            }
        }
        Ok(starts)
    }

    /// The first place of the corpus where the word stands, and the one whose vector is least like that.
    fn starts_of_corpus(&self, corpus: &Corpus) -> Result<Vec<Start>> {
        if corpus.source == "-" {
            return Err(Error::Recipe(
                "--data -: the corpus is read twice, which standard input cannot be: name a file, or give --text"
                    .into(),
            ));
        }
        let (mut first, mut other): (Option<Start>, Option<Start>) = (None, None);
        for_each(self.model, self.model.open(corpus)?, self.layer, self.stop, |number, text, vectors| {
            for place in self.word.places(text) {
                let vector = row(vectors, place, self.model);
                let Some(first) = &first else {
                    first = Some(self.start((number, place), text, vector, true));
                    continue;
                };
                let cosine = cosine(&first.vector, vector);
                if other.as_ref().is_none_or(|other| cosine < other.occurrence.cosine_with_first) {
                    let start = self.start((number, place), text, vector, true);
                    other = Some(start.compared_with(Some(first)));
                }
            }
            Ok(())
        })?;
        match first {
            Some(first) => Ok(std::iter::once(first).chain(other).collect()),
            None => Err(Error::Training(format!(
                "{}: {:?} does not stand in it: name a corpus that has it, or give a --text",
                corpus.source, self.word.name
            ))),
        }
    }

    fn start(&self, (number, place): (usize, usize), text: &Text, vector: &[f32], of_corpus: bool) -> Start {
        let place = place_of(self.model, number, text, place);
        let occurrence = Occurrence { place, cosine_with_first: 1.0, neighbours: Vec::new() };
        Start { occurrence, vector: vector.to_vec(), of_corpus }
    }

    /// Looks for the neighbours of all places at once.
    fn fill(&self, query: &Query, starts: &mut [Start]) -> Result<()> {
        let texts: super::Texts = match &query.corpus {
            Some(corpus) => self.model.open(corpus)?,
            None => Box::new(query.texts.iter().map(|text| self.model.cut(text))),
        };
        for_each(self.model, texts, self.layer, self.stop, |number, text, vectors| {
            for start in starts.iter_mut() {
                let Start { occurrence, vector, of_corpus } = start;
                for (place, unit) in text.units.iter().enumerate() {
                    let itself = (occurrence.place.text, occurrence.place.unit) == (number, place + 1);
                    if *of_corpus && itself {
                        continue;
                    }
                    let cosine = cosine(vector, row(vectors, place, self.model));
                    keep(&mut occurrence.neighbours, query.count, unit, cosine, || {
                        Some(place_of(self.model, number, text, place))
                    });
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}

impl Start {
    fn compared_with(mut self, first: Option<&Self>) -> Self {
        if let Some(first) = first {
            self.occurrence.cosine_with_first = cosine(&first.vector, &self.vector);
        }
        self
    }
}

/// The neighbours among the vectors that go into the first block.
fn before(
    model: &dyn Embed,
    vocabulary: Vec<Text>,
    word: &Word,
    count: usize,
    stop: &AtomicBool,
) -> Result<Vec<Neighbour>> {
    let own = Text { units: vec![word.name.clone()], ids: vec![word.id] };
    let (own, mut found) = (model.vectors(&[&own], 0), Vec::new());
    for_each(model, vocabulary.into_iter().map(Ok), 0, stop, |_, text, vector| {
        if !word.is(text, 0) {
            keep(&mut found, count, &text.units[0], cosine(&own, vector), || None);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Puts a unit among the `count` nearest, each unit once; of equally near ones the earlier stays in front. Whatever is pushed out
/// was less near than all that are there at the end, so what is found does not depend on the order.
fn keep(found: &mut Vec<Neighbour>, count: usize, word: &str, cosine: f64, place: impl FnOnce() -> Option<Place>) {
    if found.len() >= count && found.last().is_none_or(|last| cosine <= last.cosine) {
        return;
    }
    if let Some(before) = found.iter().position(|neighbour| neighbour.word == word) {
        if cosine <= found[before].cosine {
            return;
        }
        found.remove(before);
    }
    let at = found.partition_point(|neighbour| neighbour.cosine >= cosine);
    found.insert(at, Neighbour { word: word.to_string(), cosine, place: place() });
    found.truncate(count);
}

/// A one-hot vector of each of `size` ids is compared with that of `id`.
fn one_hot(size: usize, id: u32) -> OneHot {
    // All elements of a one-hot vector are 0 but one, so its products with others have one term at most.
    let product = |a: u32, b: u32| f64::from(u8::from(a == b));
    let others = || (0..size as u32).filter(|&other| other != id);
    let cosine = |other| product(id, other) / (product(id, id) * product(other, other)).sqrt();
    let distance = |other| (product(id, id) + product(other, other) - 2.0 * product(id, other)).sqrt();
    let range = |of: &dyn Fn(u32) -> f64| {
        others().map(of).fold([f64::INFINITY, f64::NEG_INFINITY], |[least, most], x| [least.min(x), most.max(x)])
    };
    OneHot { others: others().count(), cosine: range(&cosine), distance: range(&distance) }
}

fn row<'a>(vectors: &'a [f32], place: usize, model: &dyn Embed) -> &'a [f32] {
    &vectors[place * model.d_model()..][..model.d_model()]
}

/// The cosine of the angle between two vectors; 0 if one of them is all zeros.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let norms = (product(a, a) * product(b, b)).sqrt();
    if norms > 0.0 { product(a, b) / norms } else { 0.0 }
}

/// A place with what stands around it: `… the old [saw] was sharp …`.
fn place_of(model: &dyn Embed, number: usize, text: &Text, place: usize) -> Place {
    // Of characters it takes more to make a context.
    let (space, reach) = if model.is_spaced() { (" ", REACH) } else { ("", 4 * REACH) };
    let (from, to) = (place.saturating_sub(reach), text.units.len().min(place + reach + 1));
    let side = |units: &[String]| units.join(space);
    let (left, right) = (side(&text.units[from..place]), side(&text.units[place + 1..to]));
    let between = |side: &str| if side.is_empty() { "" } else { space };
    let context = format!(
        "{}{left}{}[{}]{}{right}{}",
        if from > 0 { "… " } else { "" },
        between(&left),
        text.units[place],
        between(&right),
        if to < text.units.len() { " …" } else { "" },
    );
    Place { text: number, unit: place + 1, context }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &[Neighbour]) -> Vec<(&str, f64)> {
        found.iter().map(|neighbour| (neighbour.word.as_str(), neighbour.cosine)).collect()
    }

    #[test]
    fn one_hot_vectors_are_all_equally_far_from_each_other() {
        for id in [0, 3, 6] {
            let OneHot { others, cosine, distance } = one_hot(7, id);
            assert_eq!((others, cosine, distance), (6, [0.0, 0.0], [2_f64.sqrt(), 2_f64.sqrt()]));
        }
    }

    #[test]
    fn the_cosine_is_that_of_the_angle() {
        assert!((cosine(&[1.0, 0.0], &[1.0, 1.0]) - 0.5_f64.sqrt()).abs() < 1e-12);
        assert_eq!((cosine(&[2.0, 0.0], &[-3.0, 0.0]), cosine(&[0.0, 0.0], &[1.0, 2.0])), (-1.0, 0.0));
    }

    #[test]
    fn each_word_is_kept_once_at_its_nearest_whatever_the_order() {
        let given = [("a", 0.1), ("b", 0.5), ("a", 0.9), ("c", 0.3), ("b", 0.4), ("d", 0.6), ("c", 0.8)];
        for rotation in 0..given.len() {
            let mut found = Vec::new();
            for (word, cosine) in given.iter().cycle().skip(rotation).take(given.len()) {
                keep(&mut found, 3, word, *cosine, || None);
            }
            assert_eq!(names(&found), [("a", 0.9), ("c", 0.8), ("d", 0.6)], "from {rotation}");
        }
        let mut found = Vec::new();
        keep(&mut found, 0, "a", 1.0, || None);
        assert!(found.is_empty(), "none is asked for");
    }
}
