//! The vectors of a model that gives a label or a number to a whole text: one for each of its units.

use qkv_data::{Codec, EncodedSentences, Sentence, Vocabulary, stream_labelled, tokenize};

use super::Classifier;
use super::units::Units;
use crate::embed::{Corpus, Embed, Text, Texts};
use crate::error::{Error, Result};
use crate::numbers::floats;
use crate::recipe::Unit;

impl Embed for Classifier {
    fn layers(&self) -> usize {
        self.model().layers()
    }

    fn d_model(&self) -> usize {
        self.recipe().model.d_model
    }

    fn batch_tokens(&self) -> usize {
        self.recipe().decoding.batch_tokens
    }

    fn is_spaced(&self) -> bool {
        self.recipe().input.unit == Unit::Words
    }

    fn vocabulary(&self) -> Vec<Text> {
        let one = |unit: &str, id| Text { units: vec![unit.to_string()], ids: vec![id] };
        match self.units() {
            Units::Words { vocabulary, .. } => {
                let words = (0..).zip(vocabulary.words()).filter(|(id, _)| *id != Vocabulary::UNKNOWN);
                words.map(|(id, word)| one(word, id)).collect()
            }
            Units::Codec(codec) => {
                (Codec::FIRST..codec.len() as u32).filter_map(|id| Some(one(codec.unit_text(id)?, id))).collect()
            }
        }
    }

    fn cut(&self, text: &str) -> Result<Text> {
        Ok(match self.units() {
            Units::Words { vocabulary, .. } => {
                let units = tokenize(text, None);
                let ids = units.iter().map(|word| vocabulary.id(word)).collect();
                Text { units, ids }
            }
            Units::Codec(codec) => {
                let ids = codec.encode(text);
                let units = ids.iter().map(|&id| codec.unit_text(id).unwrap_or_default().to_string()).collect();
                Text { units, ids }
            }
        })
    }

    fn open<'a>(&'a self, corpus: &Corpus) -> Result<Texts<'a>> {
        let texts = stream_labelled(corpus.source, &self.text_options(corpus.kind)?)?;
        Ok(Box::new(texts.map(|text| self.cut(&text.map_err(Error::from)?.text))))
    }

    fn vectors(&self, texts: &[&Text], layer: usize) -> Vec<f32> {
        let encoded = match self.units() {
            Units::Words { vocabulary, affixes } => {
                let sentences: Vec<Sentence> =
                    texts.iter().map(|text| Sentence::from_words(text.units.clone())).collect();
                EncodedSentences::from_sentences(&sentences, vocabulary, affixes.as_ref(), None).0
            }
            Units::Codec(_) => EncodedSentences::from_ids(texts.iter().map(|text| text.ids.clone())),
        };
        let batch = encoded.batch(&(0..texts.len()).collect::<Vec<_>>());
        floats(qkv::awake(|| self.model().vectors(&batch, layer)).into_data())
    }
}
