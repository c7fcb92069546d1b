//! The vectors of a model that gives a label or a number to a whole text: one for each of its units.

use qkv_data::{EncodedSentences, Sentence, stream_labelled, tokenize};

use super::Classifier;
use crate::embed::{Corpus, Embed, Text, Texts, cut_by, vocabulary_of, words_of};
use crate::error::{Error, Result};
use crate::input::{Sets, Units};
use crate::numbers::floats;
use crate::recipe::{Recipe, Unit};

impl Embed for Classifier {
    fn layers(&self) -> usize {
        self.model().layers()
    }

    fn recipe(&self) -> &Recipe {
        self.recipe()
    }

    fn is_spaced(&self) -> bool {
        self.recipe().input.unit == Unit::Words
    }

    fn vocabulary(&self) -> Vec<Text> {
        match self.units() {
            Some(Units::Words { vocabulary, .. }) => words_of(vocabulary),
            Some(Units::Codec(codec)) => vocabulary_of(codec),
            None => Vec::new(),
        }
    }

    fn cut(&self, text: &str) -> Result<Text> {
        let units = self.units().ok_or_else(|| Error::Recipe("embed: this model reads no texts".into()))?;
        Ok(match units {
            Units::Words { vocabulary, .. } => {
                let units = tokenize(text, None);
                let ids = units.iter().map(|word| vocabulary.id(word)).collect();
                Text { units, ids }
            }
            Units::Codec(codec) => cut_by(codec, text),
        })
    }

    fn open<'a>(&'a self, corpus: &Corpus) -> Result<Texts<'a>> {
        let texts = stream_labelled(corpus.source, &self.text_options(corpus.kind)?)?;
        Ok(Box::new(texts.map(|text| self.cut(&text.map_err(Error::from)?.text))))
    }

    fn vectors(&self, texts: &[&Text], layer: usize) -> Vec<f32> {
        let encoded = match self.units() {
            Some(Units::Words { vocabulary, affixes }) => {
                let sentences: Vec<Sentence> =
                    texts.iter().map(|text| Sentence::from_words(text.units.clone())).collect();
                EncodedSentences::from_sentences(&sentences, vocabulary, affixes.as_ref(), None).0
            }
            _ => EncodedSentences::from_ids(texts.iter().map(|text| text.ids.clone())),
        };
        let batch = Sets::Texts(encoded).batch(&(0..texts.len()).collect::<Vec<_>>());
        floats(qkv::awake(|| self.model().vectors(&batch, layer)).into_data())
    }
}
