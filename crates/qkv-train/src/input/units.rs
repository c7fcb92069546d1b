//! From a text to the ids of a set: words with their affixes, or the units of a codec.

use qkv_data::{AffixOptions, Codec, EncodedSentences, Sentence, Vocabulary, VocabularyOptions, tokenize};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::error::Result;
use crate::generate::codec_options;
use crate::recipe::{Recipe, Unit};
use crate::tag::affix_options;

/// How texts become sets of ids.
#[derive(Clone, Debug)]
pub(crate) enum Units {
    /// Words, as plain text is split into them, and what they show of their characters.
    Words {
        /// Those with an id of their own.
        vocabulary: Vocabulary,
        /// `None` if characters add nothing.
        affixes: Option<AffixOptions>,
    },
    /// Characters or subwords.
    Codec(Codec),
}

impl Units {
    /// Those that occur in `texts`.
    ///
    /// # Errors
    /// If nothing in the texts becomes a unit, or affixes have no table to go to.
    pub(crate) fn build<'a>(recipe: &Recipe, texts: impl Iterator<Item = &'a str>) -> Result<Self> {
        let input = &recipe.input;
        if input.unit != Unit::Words {
            return Ok(Self::Codec(Codec::train(texts, &codec_options(recipe, input.unit)?)?));
        }
        let affixes = affix_options(recipe);
        if let Some(affixes) = &affixes {
            affixes.check()?;
        }
        let options = VocabularyOptions { min_count: input.min_count, lowercase: input.lowercase, max_size: None };
        Ok(Self::Words {
            vocabulary: Vocabulary::build(texts.flat_map(|text| tokenize(text, None)), &options),
            affixes,
        })
    }

    /// A set for each text.
    pub(crate) fn encode<T: AsRef<str> + Sync>(&self, texts: &[T]) -> EncodedSentences {
        match self {
            Self::Words { vocabulary, affixes } => {
                // Without a list of words: the texts that they were learned from were split without one.
                let words = |text: &T| Sentence::from_words(tokenize(text.as_ref(), None));
                let sentences: Vec<Sentence> = texts.par_iter().map(words).collect();
                EncodedSentences::from_sentences(&sentences, vocabulary, affixes.as_ref(), None).0
            }
            Self::Codec(codec) => EncodedSentences::from_ids(codec.encode_many(texts)),
        }
    }

    /// The vocabulary of words; `None` where units are not words.
    pub(crate) fn words(&self) -> Option<&Vocabulary> {
        match self {
            Self::Words { vocabulary, .. } => Some(vocabulary),
            Self::Codec(_) => None,
        }
    }

    /// How many ids there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Words { vocabulary, .. } => vocabulary.len(),
            Self::Codec(codec) => codec.len(),
        }
    }

    /// How many units are known.
    pub(crate) fn known(&self) -> usize {
        match self {
            Self::Words { vocabulary, .. } => vocabulary.len() - 1,
            Self::Codec(codec) => codec.len() - Codec::FIRST as usize,
        }
    }

    /// As `vocab.json` holds them.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Words { vocabulary, .. } => json!({ "words": vocabulary }),
            Self::Codec(codec) => json!({ "codec": codec.to_json() }),
        }
    }

    /// What [`Units::to_json`] wrote.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn from_json(recipe: &Recipe, value: &Value) -> std::result::Result<Self, String> {
        match (recipe.input.unit, value.get("words"), value.get("codec")) {
            (Unit::Words, Some(words), _) => {
                let vocabulary = serde_json::from_value(words.clone()).map_err(|e| e.to_string())?;
                Ok(Self::Words { vocabulary, affixes: affix_options(recipe) })
            }
            (Unit::Words, None, _) => Err("it has no words".into()),
            (_, _, Some(codec)) => Codec::from_json(codec).map(Self::Codec).map_err(|e| e.to_string()),
            (_, _, None) => Err("it has no codec".into()),
        }
    }
}

/// What a text's units are called, many of them.
pub(crate) fn noun(recipe: &Recipe) -> &'static str {
    match recipe.input.unit {
        Unit::Words => "words",
        Unit::Characters => "characters",
        _ => "subwords",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 3] = ["What's the river?", "the old river", ""];

    fn recipe(assignments: &[&str]) -> Recipe {
        let mut recipe = Recipe::default();
        assignments.iter().for_each(|assignment| recipe.set(assignment).expect(assignment));
        recipe
    }

    #[test]
    fn every_unit_survives_json() {
        for assignments in [
            &["input.unit=words", "input.lowercase=true"][..],
            &["input.unit=words", "input.characters=affixes"],
            &["input.unit=characters"],
            &["input.unit=bpe", "input.subwords=30"],
        ] {
            let recipe = recipe(assignments);
            let units = Units::build(&recipe, TEXTS.into_iter()).expect("units");
            let read = Units::from_json(&recipe, &units.to_json()).expect("read");
            let (before, after) = (units.encode(&TEXTS), read.encode(&TEXTS));
            assert_eq!(before.lengths(), after.lengths(), "{assignments:?}");
            let all = [0, 1, 2];
            assert_eq!(before.batch(&all).words, after.batch(&all).words, "{assignments:?}");
            assert_eq!(before.batch(&all).affixes, after.batch(&all).affixes, "{assignments:?}");
            assert_eq!((before.lengths()[2], units.len()), (0, read.len()));
            assert!(before.batch(&all).words.iter().all(|&id| id != 0), "all that was trained on is known");
        }
    }

    #[test]
    fn words_are_those_of_plain_text_and_characters_are_characters() {
        let words = Units::build(&recipe(&[]), TEXTS.into_iter()).expect("units");
        assert_eq!(words.encode(&TEXTS).lengths(), [5, 3, 0], "What 's the river ?");
        assert_eq!(words.known(), 6);
        let characters = Units::build(&recipe(&["input.unit=characters"]), TEXTS.into_iter()).expect("units");
        assert_eq!(characters.encode(&TEXTS).lengths(), [17, 13, 0]);
    }

    #[test]
    fn what_is_of_another_unit_is_refused() {
        let words = Units::build(&recipe(&[]), TEXTS.into_iter()).expect("units").to_json();
        assert!(Units::from_json(&recipe(&["input.unit=characters"]), &words).is_err());
        assert!(Units::from_json(&recipe(&[]), &json!({ "codec": {} })).is_err());
        assert!(Units::from_json(&recipe(&[]), &json!({ "words": 3 })).is_err());
    }

    #[test]
    fn texts_of_nothing_have_no_units() {
        assert!(Units::build(&recipe(&["input.unit=bpe"]), ["", " "].into_iter()).is_err());
    }
}
