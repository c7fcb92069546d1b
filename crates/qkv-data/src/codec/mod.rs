//! How a text becomes ids and ids become a text again, for models that read or write texts.
//!
//! Here belong the kinds of units that a text can be cut into and the one type over them, [`Codec`]. What gives words and
//! characters their ids are the vocabularies of [`vocab`](crate::vocab) and [`characters`](crate::characters); the subwords
//! are in `subwords`, and how they are learnt in `train`, those of the unigram model in `unigram` and `seeds`. The tagger's
//! words, which punctuation is split off, are none of this module's: they are in [`text`](crate::text).
//!
//! The first three ids are the same in every codec: the unknown, and the beginning and the end of a text. Neither of the
//! latter two stands for anything that can be written: `<s>` in a text is three characters, or a word like any other.

mod seeds;
mod subwords;
#[cfg(test)]
mod tests;
mod train;
mod unigram;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::characters::CharacterVocabulary;
use crate::error::{Error, Result};
use crate::vocab::{Vocabulary, VocabularyOptions, folded};
use subwords::Subwords;

/// How the three ids that are no units of a text are written.
const SPECIAL: [&str; Codec::FIRST as usize] = [Vocabulary::UNKNOWN_WORD, "<s>", "</s>"];
/// How an unknown character or subword is written: `⁇`. An unknown word is [`Vocabulary::UNKNOWN_WORD`].
const UNKNOWN_TEXT: &str = "\u{2047}";

/// What a text is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// What stands between white space.
    #[default]
    Words,
    /// Every `char`, spaces and ends of lines among them.
    Characters,
    /// Subwords by byte pair encoding: the commonest pair of neighbours becomes one, again and again.
    /// <https://arxiv.org/abs/1508.07909>
    Bpe,
    /// Subwords of the unigram model: of all ways to cut a word the likeliest, where each subword has its probability.
    /// <https://arxiv.org/abs/1804.10959>
    Unigram,
}

impl Unit {
    /// Every unit, in the order in which they are listed to users.
    pub const ALL: [Self; 4] = [Self::Words, Self::Characters, Self::Bpe, Self::Unigram];

    /// The name that chooses this unit.
    pub fn name(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Characters => "characters",
            Self::Bpe => "bpe",
            Self::Unigram => "unigram",
        }
    }
}

impl FromStr for Unit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let wanted = name.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|unit| unit.name() == wanted)
            .ok_or_else(|| Error::unknown_name("unit", name, Self::ALL.map(Self::name)))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Which units get an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodecOptions {
    /// What a text is cut into.
    pub unit: Unit,
    /// Subwords: how many ids there are at most, the three special ones included. Words and characters have as many as occur.
    pub size: usize,
    /// Words and characters: what occurs less often is unknown. Without effect on subwords.
    pub min_count: usize,
    /// Fold texts to lower case.
    pub lowercase: bool,
}

impl Default for CodecOptions {
    /// Every word that occurs, as it is written; if subwords are chosen, 8,000 of them.
    fn default() -> Self {
        Self { unit: Unit::Words, size: 8000, min_count: 1, lowercase: false }
    }
}

/// Something in a text that has no id of its own: a word, or in a text of characters or subwords a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownUnit {
    /// How it is written.
    pub text: String,
    /// The line of the text where it stands first, counted from one.
    pub line: usize,
    /// How often it stands in the text.
    pub count: usize,
}

/// Turns texts into ids and back.
///
/// It may be used from many threads at once. What is written to a model directory is [`to_json`](Self::to_json).
///
/// ```
/// use qkv_data::{Codec, CodecOptions, Unit};
///
/// # fn main() -> qkv_data::Result<()> {
/// let codec = Codec::train(["jump twice", "walk left"].into_iter(), &CodecOptions::default())?;
/// let ids = codec.encode("walk twice around");
/// assert_eq!(codec.decode(&ids), "walk twice <unk>");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Codec {
    units: Units,
    /// How each id is written.
    texts: Vec<String>,
}

#[derive(Debug, Clone)]
enum Units {
    Words(Vocabulary),
    Characters { lowercase: bool, vocabulary: CharacterVocabulary },
    Subwords(Box<Subwords>),
}

/// A codec as it is written.
#[derive(Deserialize)]
#[serde(tag = "unit", rename_all = "lowercase", deny_unknown_fields)]
enum CodecFile {
    Words { vocabulary: Vocabulary },
    Characters { lowercase: bool, characters: CharacterVocabulary },
    Bpe { lowercase: bool, tokenizer: Value },
    Unigram { lowercase: bool, tokenizer: Value },
}

impl Codec {
    /// The id of everything that has none of its own.
    pub const UNKNOWN: u32 = 0;
    /// The id that stands before a text.
    pub const BEGIN: u32 = 1;
    /// The id that stands behind a text.
    pub const END: u32 = 2;
    /// The first id of a unit of texts.
    pub const FIRST: u32 = 3;

    /// Learns from `texts` which units there are. The same texts, in whatever order, and the same options give the same ids,
    /// in every process and with any number of threads.
    ///
    /// The ids of words go by falling count, those of characters by code point and those of unigram subwords by falling
    /// probability. In subwords a text is first put into
    /// normalisation form C, runs of spaces become one, and spaces at both ends of a line fall away. Each word then begins
    /// with `▁`, which stands for the space before it (and so `▁` in a text is read as a space), and punctuation marks,
    /// tabs and ends of lines stand for themselves: `Sofa.` is `▁Sofa` or parts of it, and `.`. Every character
    /// has an id unless there are more of them than `options.size` has room for; then the rarest are unknown. Unknown
    /// characters side by side are one unknown of unigram subwords, and as many as they are of subwords by byte pair encoding.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if nothing in the texts becomes a unit, and for subwords also if `options.size` is out of range or
    /// the texts are longer than 2³¹ characters.
    pub fn train<'text>(texts: impl IntoIterator<Item = &'text str>, options: &CodecOptions) -> Result<Self> {
        let &CodecOptions { unit, size, min_count, lowercase } = options;
        let units = match unit {
            Unit::Words => {
                let options = VocabularyOptions { min_count, lowercase, max_size: None };
                Units::Words(Vocabulary::build(texts.into_iter().flat_map(str::split_whitespace), &options))
            }
            Unit::Characters => {
                let texts = texts.into_iter().map(|text| folded(text, lowercase));
                Units::Characters { lowercase, vocabulary: CharacterVocabulary::build_from(texts, min_count) }
            }
            Unit::Bpe => Units::Subwords(Box::new(train::bpe(texts, size, lowercase)?)),
            Unit::Unigram => Units::Subwords(Box::new(train::unigram(texts, size, lowercase)?)),
        };
        let codec = Self::new(units);
        match codec.is_empty() {
            false => Ok(codec),
            true => Err(train::nothing(format!("there are no {unit} in them that occur at least {min_count} times"))),
        }
    }

    fn new(units: Units) -> Self {
        let unknown = if matches!(units, Units::Words(_)) { SPECIAL[0] } else { UNKNOWN_TEXT };
        let mut texts = vec![unknown.to_owned(), SPECIAL[1].to_owned(), SPECIAL[2].to_owned()];
        match &units {
            Units::Words(vocabulary) => texts.extend(vocabulary.words().iter().skip(1).cloned()),
            Units::Characters { vocabulary, .. } => {
                let ids = 1..vocabulary.len() as u32;
                texts.extend(ids.filter_map(|id| vocabulary.character(id)).map(String::from));
            }
            Units::Subwords(subwords) => texts.extend(subwords.pieces().into_iter().skip(SPECIAL.len())),
        }
        Self { units, texts }
    }

    /// The ids of the units of `text`, without [`BEGIN`](Self::BEGIN) and [`END`](Self::END).
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match &self.units {
            Units::Words(vocabulary) => text.split_whitespace().map(|word| shifted(vocabulary.id(word))).collect(),
            Units::Characters { lowercase, vocabulary } => {
                folded(text, *lowercase).chars().map(|character| shifted(vocabulary.id(character))).collect()
            }
            Units::Subwords(subwords) => subwords.encode(text),
        }
    }

    /// [`encode`](Self::encode) of each of `texts`, on the threads of rayon.
    pub fn encode_many<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Vec<Vec<u32>> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// The text that `ids` stand for: words with one space between them, characters and subwords with nothing.
    /// [`BEGIN`](Self::BEGIN) and [`END`](Self::END) are left out. An unknown, and any id beyond the last, is written as
    /// [`unit_text`](Self::unit_text) shows [`UNKNOWN`](Self::UNKNOWN): `<unk>` among words, `⁇` elsewhere.
    pub fn decode(&self, ids: &[u32]) -> String {
        let is_unit = |id: &u32| !matches!(*id, Self::BEGIN | Self::END);
        let texts = ids.iter().copied().filter(is_unit).map(|id| self.unit_text(id).unwrap_or(&self.texts[0]));
        match &self.units {
            Units::Words(_) => texts.collect::<Vec<_>>().join(" "),
            Units::Characters { .. } => texts.collect(),
            Units::Subwords(_) => subwords::joined(texts),
        }
    }

    /// How the unit `id` looks, for pages and tables, or `None` if there are not so many. A subword begins with `▁` if there
    /// is a space before it; a character may be one that cannot be seen.
    pub fn unit_text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(String::as_str)
    }

    /// How many ids there are, the three special ones included.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are no ids but the three special ones.
    pub fn is_empty(&self) -> bool {
        self.len() <= Self::FIRST as usize
    }

    /// What texts are cut into.
    pub fn unit(&self) -> Unit {
        match &self.units {
            Units::Words(_) => Unit::Words,
            Units::Characters { .. } => Unit::Characters,
            Units::Subwords(subwords) => subwords.unit(),
        }
    }

    /// What in `text` is unknown, in the order of its first occurrence. A text of subwords is searched for characters, since
    /// every word of known characters can be written with subwords.
    pub fn unknown(&self, text: &str) -> Vec<UnknownUnit> {
        let mut found = Unknowns::default();
        let mut buffer = [0; 4];
        for (line, piece) in (1..).zip(text.split_inclusive('\n')) {
            match &self.units {
                Units::Words(vocabulary) => {
                    let unknown = piece.split_whitespace().filter(|word| !vocabulary.contains(word));
                    unknown.for_each(|word| found.add(word, line));
                }
                Units::Characters { lowercase, vocabulary } => {
                    let folded = folded(piece, *lowercase);
                    let unknown = folded.chars().filter(|&c| vocabulary.id(c) == CharacterVocabulary::UNKNOWN);
                    unknown.for_each(|character| found.add(character.encode_utf8(&mut buffer), line));
                }
                Units::Subwords(subwords) => {
                    let normal = subwords.normal(piece);
                    let unknown = normal.chars().filter(|&character| !subwords.knows(character));
                    unknown.for_each(|character| found.add(character.encode_utf8(&mut buffer), line));
                }
            }
        }
        found.units
    }

    /// The codec as it is kept in a model directory. Of subwords, `tokenizer` is what other programs call a
    /// `tokenizer.json`.
    pub fn to_json(&self) -> Value {
        let unit = self.unit();
        match &self.units {
            Units::Words(vocabulary) => json!({ "unit": unit, "vocabulary": vocabulary }),
            Units::Characters { lowercase, vocabulary } => {
                json!({ "unit": unit, "lowercase": lowercase, "characters": vocabulary })
            }
            Units::Subwords(subwords) => {
                json!({ "unit": unit, "lowercase": subwords.lowercase(), "tokenizer": subwords.to_json() })
            }
        }
    }

    /// The codec that [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] for anything that it did not write.
    pub fn from_json(value: &Value) -> Result<Self> {
        let broken = |what: String| {
            Error::unusable("codec", format!("it is damaged: {what}"), "restore the model directory, or train again")
        };
        let units = match CodecFile::deserialize(value).map_err(|error| broken(error.to_string()))? {
            CodecFile::Words { vocabulary } => Units::Words(vocabulary),
            CodecFile::Characters { lowercase, characters } => Units::Characters { lowercase, vocabulary: characters },
            CodecFile::Bpe { lowercase, tokenizer } => {
                Units::Subwords(Box::new(Subwords::read_bpe(&tokenizer, lowercase).map_err(broken)?))
            }
            CodecFile::Unigram { lowercase, tokenizer } => {
                Units::Subwords(Box::new(Subwords::read_unigram(&tokenizer, lowercase).map_err(broken)?))
            }
        };
        Ok(Self::new(units))
    }
}

/// The id that a codec gives to what has `id` in a vocabulary, where the unknown is the only special one.
fn shifted(id: u32) -> u32 {
    if id == Vocabulary::UNKNOWN { Codec::UNKNOWN } else { id + Codec::FIRST - 1 }
}

/// Unknown units in the order in which they came first.
#[derive(Default)]
struct Unknowns {
    units: Vec<UnknownUnit>,
    places: HashMap<String, usize>,
}

impl Unknowns {
    fn add(&mut self, text: &str, line: usize) {
        match self.places.get(text) {
            Some(&place) => self.units[place].count += 1,
            None => {
                self.places.insert(text.to_owned(), self.units.len());
                self.units.push(UnknownUnit { text: text.to_owned(), line, count: 1 });
            }
        }
    }
}
