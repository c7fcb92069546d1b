//! What a word shows on its outside: prefixes, suffixes, shape and lower-cased form, as hashed rows of one table.
//!
//! Here belongs the way from a word's characters to row numbers, so that unknown words are not all alike. The table
//! itself is a model's parameter and lives with the model; known words have their own rows through
//! [`Vocabulary`](crate::Vocabulary).
//!
//! Every row number is `hash(kind, text) mod buckets`, where the hash is 64-bit FNV-1a over the byte of the kind and
//! the UTF-8 bytes of the text, its upper half folded into the lower: the same on every machine and in every version,
//! since a model on disk depends on it.

use qkv::gather::NONE;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which rows a word's characters choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AffixOptions {
    /// Prefixes of one up to so many characters.
    pub prefixes: usize,
    /// Suffixes of one up to so many characters.
    pub suffixes: usize,
    /// The word's shape: `Xxx` for `Apple`, `dd-xx` for `12-fold`.
    pub shape: bool,
    /// The whole word in lower case.
    pub lowercase: bool,
    /// Rows of the table, shared by all kinds.
    pub buckets: usize,
}

impl Default for AffixOptions {
    /// Prefixes and suffixes of up to four characters, shape and lower case, in 2^15 rows.
    fn default() -> Self {
        Self { prefixes: 4, suffixes: 4, shape: true, lowercase: true, buckets: 1 << 15 }
    }
}

/// The byte that keeps one kind's text apart from another's: the prefix `s` is not the suffix `s`.
const PREFIX: u8 = b'p';
const SUFFIX: u8 = b's';
const SHAPE: u8 = b'x';
const LOWER: u8 = b'l';

impl AffixOptions {
    /// How many ids [`rows`](Self::rows) gives for each word.
    pub fn width(&self) -> usize {
        self.prefixes + self.suffixes + usize::from(self.shape) + usize::from(self.lowercase)
    }

    /// Refuses a table without rows, and one with more rows than a row number can name.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`], naming the setting.
    pub fn check(&self) -> Result<()> {
        if self.width() > 0 && self.buckets == 0 {
            return Err(Error::unusable("input.buckets", "is 0", "give the table at least one row"));
        }
        // The two highest ids mean "none" and "unseen" elsewhere.
        if self.buckets >= crate::batch::UNSEEN as usize {
            return Err(Error::unusable("input.buckets", "is too large", "2^20 rows are plenty"));
        }
        Ok(())
    }

    /// Pushes the `width()` row numbers of `word`: prefixes from short to long, suffixes from short to long, shape,
    /// lower case. A prefix or suffix as long as the word, or longer, is [`NONE`].
    ///
    /// Prefixes and suffixes are of the word in lower case, so that `Station`, `STATION` and `station` share them; how
    /// it is written is the shape's to tell.
    pub fn rows(&self, word: &str, rows: &mut Vec<u32>) {
        let lower = word.to_lowercase();
        let (written, word) = (word, lower.as_str());
        // Short of the whole word, which would tell the word even where training hides it.
        let mut ends = word.char_indices().map(|(at, _)| at).skip(1);
        rows.extend((0..self.prefixes).map(|_| ends.next().map_or(NONE, |end| self.row(PREFIX, &word[..end]))));
        let mut begins = word.char_indices().rev().map(|(at, _)| at).filter(|&at| at > 0);
        rows.extend((0..self.suffixes).map(|_| begins.next().map_or(NONE, |begin| self.row(SUFFIX, &word[begin..]))));
        if self.shape {
            rows.push(self.row(SHAPE, &shape(written)));
        }
        if self.lowercase {
            rows.push(self.row(LOWER, word));
        }
    }

    fn row(&self, kind: u8, text: &str) -> u32 {
        if self.buckets == 0 {
            return NONE;
        }
        let hash = fnv1a(kind, text);
        let folded = (hash ^ (hash >> 32)) & 0xffff_ffff;
        u32::try_from(folded % self.buckets as u64).unwrap_or(NONE)
    }
}

/// 64-bit FNV-1a (Fowler, Noll, Vo) over `kind` and then the bytes of `text`.
fn fnv1a(kind: u8, text: &str) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    std::iter::once(kind)
        .chain(text.bytes())
        .fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// The shape of a word: upper case is `X`, lower case `x`, a letter without case `c`, a digit `d`, anything else itself;
/// of a run of one of these, no more than two are kept, so that long words share shapes.
pub fn shape(word: &str) -> String {
    const KEPT: usize = 2;
    let mut shape = String::new();
    let mut last = None;
    let mut run = 0;
    for character in word.chars() {
        let class = if character.is_uppercase() {
            'X'
        } else if character.is_lowercase() {
            'x'
        } else if character.is_numeric() && !is_ideograph(character) {
            'd'
        } else if character.is_alphabetic() {
            'c'
        } else {
            character
        };
        run = if last == Some(class) { run + 1 } else { 1 };
        last = Some(class);
        if run <= KEPT {
            shape.push(class);
        }
    }
    shape
}

/// Ideographs such as 一 are letters to readers, whatever their numeric value.
fn is_ideograph(character: char) -> bool {
    matches!(character, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(options: &AffixOptions, word: &str) -> Vec<u32> {
        let mut rows = Vec::new();
        options.rows(word, &mut rows);
        rows
    }

    #[test]
    fn shapes_collapse_long_runs() {
        for (word, expected) in [
            ("Apple", "Xxx"),
            ("USA", "XX"),
            ("12-fold", "dd-xx"),
            ("1999", "dd"),
            ("iPhone6", "xXxxd"),
            ("十二月", "cc"),
            ("...", ".."),
            ("", ""),
        ] {
            assert_eq!(shape(word), expected, "{word}");
        }
    }

    #[test]
    fn hash_is_the_published_fnv1a() {
        // Test vectors of the FNV reference: "a" and "foobar".
        assert_eq!(fnv1a(b'a', ""), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b'f', "oobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn rows_of_a_word_never_change() {
        let options = AffixOptions { prefixes: 2, suffixes: 3, shape: true, lowercase: true, buckets: 1000 };
        let fold = |hash: u64| ((hash ^ (hash >> 32)) & 0xffff_ffff) % 1000;
        let expected = [
            fold(fnv1a(b'p', "花")),
            u64::from(NONE),
            fold(fnv1a(b's', "花")),
            u64::from(NONE),
            u64::from(NONE),
            fold(fnv1a(b'x', "cc")),
            fold(fnv1a(b'l', "花花")),
        ];
        assert_eq!(rows(&options, "花花").into_iter().map(u64::from).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn width_is_what_rows_gives() {
        for word in ["", "a", "walking", "上海人"] {
            for prefixes in 0..4 {
                for (shape, lowercase) in [(false, false), (true, false), (false, true), (true, true)] {
                    let options = AffixOptions { prefixes, suffixes: 3, shape, lowercase, buckets: 77 };
                    let rows = rows(&options, word);
                    assert_eq!(rows.len(), options.width());
                    assert!(rows.iter().all(|&row| row < 77 || row == NONE));
                    let none = rows.iter().filter(|&&row| row == NONE).count();
                    // All but the whole word.
                    let chars = word.chars().count().saturating_sub(1);
                    assert_eq!(none, prefixes.saturating_sub(chars) + 3usize.saturating_sub(chars));
                }
            }
        }
    }

    #[test]
    fn affixes_are_of_characters_and_kinds_are_apart() {
        let options = AffixOptions { prefixes: 2, suffixes: 2, shape: false, lowercase: false, buckets: 1 << 20 };
        let one = rows(&options, "上海滩");
        let other = rows(&options, "上花滩");
        assert_eq!(one[0], other[0]);
        assert_ne!(one[1], other[1]);
        assert_eq!(one[2], other[2]);
        assert_ne!(one[3], other[3]);
        assert_ne!(rows(&options, "花花花")[1], rows(&options, "花花花")[3], "prefix and suffix of the same text");
        assert_eq!(rows(&options, "running")[3], rows(&options, "walking")[3], "-ng");
        assert_eq!(rows(&options, "RUNNING"), rows(&options, "running"), "case is the shape's to tell");
    }

    #[test]
    fn no_affix_tells_the_whole_word() {
        let options = AffixOptions { prefixes: 4, suffixes: 4, shape: false, lowercase: false, buckets: 1 << 20 };
        let whole = [options.row(PREFIX, "saw"), options.row(SUFFIX, "saw")];
        assert!(!rows(&options, "saw").iter().any(|row| whole.contains(row)));
        assert!(rows(&options, "saws").contains(&whole[0]));
    }

    #[test]
    fn a_table_without_rows_is_refused_but_never_divides_by_zero() {
        let options = AffixOptions { buckets: 0, ..AffixOptions::default() };
        assert!(options.check().unwrap_err().to_string().contains("input.buckets"));
        assert!(rows(&options, "word").iter().all(|&row| row == NONE));
        AffixOptions::default().check().unwrap();
    }
}
