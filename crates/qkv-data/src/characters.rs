//! Plain text as one long sequence of characters: what a language model reads.
//!
//! Here belong reading a whole file as one text, giving each of its characters a number, and cutting off its end as a dev
//! part. How the sequence is cut into windows is [`plan`](crate::plan)'s affair. Words are none of this module's: sentences
//! and their tokenizer are in [`text`](crate::text).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::builtin::VERSE;
use crate::error::{Error, Result};
use crate::source::Source;

/// Reads all of a source, in `encoding` (UTF-8 if `None`), as one text. A byte order mark is no part of it, and every line
/// ends in `\n` alone, whatever system it was written on; a last line without an end stays so.
///
/// # Errors
///
/// What cannot be opened, bytes that the encoding does not know, `builtin:` data but `builtin:verse`, which alone is a text, and an
/// empty file.
pub fn read_text(source: impl Into<Source>, encoding: Option<&str>) -> Result<String> {
    let source = source.into();
    if source == Source::Builtin("verse".to_owned()) {
        return Ok(VERSE.to_owned());
    }
    let mut lines = source.open(encoding)?;
    let mut text = String::new();
    while let Some(line) = lines.next_line()? {
        text.push_str(line.text());
        if line.raw.ends_with('\n') {
            text.push('\n');
        }
    }
    if text.is_empty() {
        return Err(Error::unusable(lines.name(), "there is no text in it", "is it the right file?"));
    }
    Ok(text)
}

/// Where a text of `characters` is cut in two if its end, a share of about `fraction`, is held out. The end, and not pieces
/// from all over it, because what stands beside a piece would give it away.
///
/// # Errors
///
/// [`Error::Unusable`] if `fraction` is not between 0 and 1.
pub fn carve_end(characters: usize, fraction: f64) -> Result<usize> {
    if !(0.0..=1.0).contains(&fraction) {
        let what = format!("{fraction} is not a share of the training text");
        return Err(Error::unusable("data.dev_fraction", what, "give a number between 0 and 1, such as 0.1"));
    }
    Ok(characters - ((characters as f64 * fraction).ceil() as usize).min(characters))
}

/// The characters that have an id, in the order of their code points. Id 0 is the unknown, which stands for every other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<char>", into = "Vec<char>")]
pub(crate) struct CharacterVocabulary {
    characters: Vec<char>,
}

impl CharacterVocabulary {
    /// The id of every character that has none of its own.
    pub(crate) const UNKNOWN: u32 = 0;

    /// The characters that occur in `texts` at least `min_count` times.
    pub(crate) fn build_from<T: AsRef<str>>(texts: impl IntoIterator<Item = T>, min_count: usize) -> Self {
        let mut counts: BTreeMap<char, usize> = BTreeMap::new();
        for text in texts {
            text.as_ref().chars().for_each(|character| *counts.entry(character).or_default() += 1);
        }
        let kept = counts.into_iter().filter(|(_, count)| *count >= min_count);
        Self { characters: kept.map(|(character, _)| character).collect() }
    }

    /// The id of `character`, or [`UNKNOWN`](Self::UNKNOWN).
    pub(crate) fn id(&self, character: char) -> u32 {
        self.characters.binary_search(&character).map_or(Self::UNKNOWN, |place| place as u32 + 1)
    }

    /// The character of `id`, or `None` if it is the unknown or there are not so many.
    pub(crate) fn character(&self, id: u32) -> Option<char> {
        self.characters.get((id as usize).checked_sub(1)?).copied()
    }

    /// How many ids there are, the unknown's included.
    pub(crate) fn len(&self) -> usize {
        self.characters.len() + 1
    }
}

impl From<CharacterVocabulary> for Vec<char> {
    fn from(vocabulary: CharacterVocabulary) -> Self {
        vocabulary.characters
    }
}

impl TryFrom<Vec<char>> for CharacterVocabulary {
    type Error = String;

    fn try_from(characters: Vec<char>) -> std::result::Result<Self, String> {
        match characters.windows(2).all(|pair| pair[0] < pair[1]) {
            true => Ok(Self { characters }),
            false => Err("the characters are not in the order of their code points".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8], encoding: Option<&str>) -> Result<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        std::fs::write(&path, content).unwrap();
        read_text(&path, encoding)
    }

    #[test]
    fn a_file_is_one_text_with_plain_line_ends() {
        assert_eq!(read(b"\xef\xbb\xbfone\r\n\r\n two\n\nend", None).unwrap(), "one\n\n two\n\nend");
        assert_eq!(read(b"caf\xe9\n", Some("latin-1")).unwrap(), "café\n");
        assert!(read(b"ok\ncaf\xe9\n", None).unwrap_err().to_string().contains("text.txt:2: byte 4"));
        for empty in [&b""[..], b"\xef\xbb\xbf"] {
            assert!(read(empty, None).unwrap_err().to_string().contains("there is no text in it"));
        }
        assert!(read_text("builtin:homographs", None).is_err());
    }

    #[test]
    fn the_end_is_held_out() {
        assert_eq!(carve_end(1000, 0.1).unwrap(), 900);
        assert_eq!(carve_end(1_115_394, 0.1).unwrap(), 1_003_854);
        assert_eq!(carve_end(3, 0.1).unwrap(), 2);
        assert_eq!((carve_end(0, 0.5).unwrap(), carve_end(7, 1.0).unwrap()), (0, 0));
        assert!(carve_end(7, f64::NAN).unwrap_err().to_string().contains("data.dev_fraction"));
    }

    #[test]
    fn characters_are_sorted_and_the_unknown_is_first() {
        let vocabulary = CharacterVocabulary::build_from(["cab a花"], 1);
        assert_eq!(vocabulary.len(), 6);
        assert_eq!(" abc花z".chars().map(|c| vocabulary.id(c)).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 0]);
        assert_eq!(
            (vocabulary.character(0), vocabulary.character(5), vocabulary.character(6)),
            (None, Some('花'), None)
        );
        let common = CharacterVocabulary::build_from(["cab a花"], 2);
        assert_eq!((common.len(), common.id('a'), common.id('b')), (2, 1, 0));
        assert_eq!(CharacterVocabulary::build_from([""], 1).len(), 1);
    }

    #[test]
    fn a_vocabulary_survives_json_and_damage_is_refused() {
        let vocabulary = CharacterVocabulary::build_from(["b\na\""], 1);
        let json = serde_json::to_string(&vocabulary).unwrap();
        assert_eq!(json, r#"["\n","\"","a","b"]"#);
        assert_eq!(serde_json::from_str::<CharacterVocabulary>(&json).unwrap(), vocabulary);
        for json in [r#"["b","a"]"#, r#"["a","a"]"#, r#"["ab"]"#] {
            assert!(serde_json::from_str::<CharacterVocabulary>(json).is_err(), "{json}");
        }
    }
}
