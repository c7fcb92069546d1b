//! Word vectors from a `.vec` text file, as fastText and word2vec write them.
//!
//! Here belongs reading them, a line at a time, keeping only those of known words. What becomes of them is the
//! model's affair.
//!
//! Each line is a word and its numbers, parted by spaces. A first line of two whole numbers says how many words and
//! how many numbers there are; without it the first word's line says how many.

use crate::error::{Error, Result, quote};
use crate::source::{Lines, Source};
use crate::vocab::Vocabulary;

/// More numbers than this are taken for a damaged header, so that it cannot ask for all memory.
const MAX_DIM: usize = 1 << 14;

/// Vectors for some of the words of a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct WordVectors {
    /// Numbers in each vector.
    pub dim: usize,
    /// The vectors in the order of the vocabulary's ids, `[vocabulary, dim]`; zeros where none was found.
    pub rows: Vec<f32>,
    /// Which words have a vector.
    pub found: Vec<bool>,
}

impl WordVectors {
    /// The vector of the word `id`, if one was found.
    pub fn get(&self, id: u32) -> Option<&[f32]> {
        let id = id as usize;
        let found = self.found.get(id).copied().unwrap_or(false);
        found.then(|| &self.rows[id * self.dim..(id + 1) * self.dim])
    }

    /// How many words have a vector.
    pub fn found_count(&self) -> usize {
        self.found.iter().filter(|&&found| found).count()
    }
}

/// Reads the vectors of the words of `vocabulary`.
///
/// If the vocabulary is lower-cased, a word's vector is that of its lower-cased form, or else of the first form that
/// folds to it. Of a word that stands in the file twice the first vector counts.
///
/// # Errors
///
/// What cannot be opened or decoded, a line with a wrong number of values or with something that is not a finite
/// number, an empty file, and one that ends before the count in its first line.
pub fn read_vectors(source: impl Into<Source>, vocabulary: &Vocabulary) -> Result<WordVectors> {
    read_lines(source.into().open(None)?, vocabulary)
}

/// How a word's vector was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Not,
    ByFolding,
    AsWritten,
}

fn read_lines(mut lines: Lines, vocabulary: &Vocabulary) -> Result<WordVectors> {
    let name = lines.name().to_owned();
    let mut dim = None;
    let mut promised = None;
    let mut words = 0;
    let mut rows = Vec::new();
    let mut found = vec![Found::Not; vocabulary.len()];
    while let Some(line) = lines.next_line()? {
        let text = line.text().trim_end_matches([' ', '\t']);
        if text.is_empty() {
            continue;
        }
        if dim.is_none() {
            if let Some((count, width)) = header(text) {
                promised = Some(count);
                dim = Some(width);
            }
            let width = dim.unwrap_or_else(|| text.split(' ').count() - 1);
            if width == 0 {
                let mend = "each line is a word and its numbers, parted by spaces; is this a .vec file?";
                return Err(Error::malformed(&name, line.number, "there are no numbers on this line", mend));
            }
            dim = Some(width);
            if width > MAX_DIM {
                let what = format!("vectors of {width} numbers are too long");
                return Err(Error::malformed(&name, line.number, what, "is this a .vec file?"));
            }
            rows = vec![0.0; vocabulary.len() * width];
            if promised.is_some() {
                continue;
            }
        }
        let dim = dim.unwrap_or_default();
        let (word, values) = split(text, dim).ok_or_else(|| {
            let what = format!("expected a word and {dim} numbers, found {} numbers", text.split(' ').count() - 1);
            Error::malformed(&name, line.number, what, "every word needs as many as the first; is the file cut short?")
        })?;
        let number = |value: &str| {
            value.parse().ok().filter(|value: &f32| value.is_finite()).ok_or_else(|| {
                let what = format!("{} is not a finite number", quote(value));
                let mend = "each line is a word and its numbers, parted by single spaces";
                Error::malformed(&name, line.number, what, mend)
            })
        };
        words += 1;
        if words == 1 {
            // A file of something else may have no word that is known.
            values.split(' ').try_for_each(|value| number(value).map(drop))?;
        }
        let id = vocabulary.id(word);
        let how = if vocabulary.words().get(id as usize).is_some_and(|known| known == word) {
            Found::AsWritten
        } else {
            Found::ByFolding
        };
        if id == Vocabulary::UNKNOWN || found[id as usize] >= how {
            continue;
        }
        found[id as usize] = how;
        let start = id as usize * dim;
        for (place, value) in rows[start..start + dim].iter_mut().zip(values.split(' ')) {
            *place = number(value)?;
        }
    }
    let Some(dim) = dim.filter(|_| words > 0) else {
        return Err(Error::unusable(&name, "there are no word vectors in it", "is this a .vec text file?"));
    };
    if let Some(promised) = promised.filter(|&promised| promised > words) {
        let what = format!("the first line promises {promised} words, but there are {words}");
        return Err(Error::unusable(&name, what, "the file is cut short; fetch it again"));
    }
    Ok(WordVectors { dim, rows, found: found.into_iter().map(|found| found != Found::Not).collect() })
}

/// The count and the width, if a line is a header.
fn header(text: &str) -> Option<(usize, usize)> {
    let (count, width) = text.split_once(' ')?;
    Some((count.parse().ok()?, width.parse().ok()?))
}

/// A line's word and its last `dim` fields. A word may hold spaces (`. . .`, as GloVe has it), but when what precedes
/// the values ends in a number too, the line has too many of them.
fn split(text: &str, dim: usize) -> Option<(&str, &str)> {
    let (at, _) = text.rmatch_indices(' ').nth(dim - 1)?;
    let (word, values) = (&text[..at], &text[at + 1..]);
    let surplus = word.rsplit_once(' ').is_some_and(|(_, last)| last.parse::<f32>().is_ok());
    (!word.is_empty() && !surplus).then_some((word, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::VocabularyOptions;

    fn read(text: &'static str, words: &[&str], lowercase: bool) -> Result<WordVectors> {
        let options = VocabularyOptions { lowercase, ..VocabularyOptions::default() };
        read_lines(Lines::from_reader(text.as_bytes(), "x.vec"), &Vocabulary::build(words, &options))
    }

    #[test]
    fn vectors_of_known_words_are_kept_with_or_without_a_header() {
        for text in ["3 2\na 1 2 \nzz 3 4\nb -0.5 1e-3\n", "a 1 2\nzz 3 4\r\nb -0.5 1e-3"] {
            let vectors = read(text, &["a", "b", "c"], false).unwrap();
            assert_eq!((vectors.dim, vectors.found_count(), vectors.rows.len()), (2, 2, 8));
            assert_eq!(vectors.get(1), Some(&[1.0, 2.0][..]));
            assert_eq!(vectors.get(2), Some(&[-0.5, 1e-3][..]));
            assert_eq!((vectors.get(0), vectors.get(3), vectors.get(99)), (None, None, None));
        }
    }

    #[test]
    fn the_form_as_written_goes_before_a_folded_one_and_the_first_before_the_second() {
        let vectors = read("The 1\nthe 2\nthe 3\nTHE 4\nB 5\nb' 6\n", &["the", "b"], true).unwrap();
        assert_eq!((vectors.get(2), vectors.get(1)), (Some(&[2.0][..]), Some(&[5.0][..])));
    }

    #[test]
    fn a_word_may_hold_spaces() {
        let vectors = read("a 1 2\n. . . 3 4\n", &["a", ". . ."], false).unwrap();
        assert_eq!(vectors.get(1), Some(&[3.0, 4.0][..]));
    }

    #[test]
    fn malformed_lines_are_named() {
        for (text, expected) in [
            ("a 1 2\nb 1\n", "x.vec:2: expected a word and 2 numbers, found 1 numbers"),
            ("a 1 2\nb 1 2 3\n", "x.vec:2: expected a word and 2 numbers, found 3 numbers"),
            ("2 2\na 1 x\n", "x.vec:2: \"x\" is not a finite number"),
            ("a 1 nan\n", "x.vec:1: \"nan\" is not a finite number"),
            ("a  1\n", "x.vec:1: \"\" is not a finite number"),
            ("nobody knows\n", "x.vec:1: \"knows\" is not a finite number"),
            ("word\n", "x.vec:1: there are no numbers"),
            ("5 0\n", "x.vec:1: there are no numbers"),
            ("2 99999999999999999\n", "x.vec:1: vectors of 99999999999999999 numbers are too long"),
            ("", "x.vec: there are no word vectors"),
            ("0 3\n", "x.vec: there are no word vectors"),
            ("3 1\na 1\n", "x.vec: the first line promises 3 words, but there are 1"),
        ] {
            let message = read(text, &["a", "b"], false).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{text:?}: {message}");
            assert!(!message.contains('\n'));
        }
    }
}
