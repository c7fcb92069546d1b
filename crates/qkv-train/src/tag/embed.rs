//! The vectors of a tagger: one for each word.

use qkv_data::{EncodedSentences, Format, ReadOptions, Sentence, stream, stream_reader};
use qkv_nn::attention::Layout;

use super::Tagger;
use crate::embed::{Corpus, Embed, Text, Texts, words_of};
use crate::error::{Error, Result};
use crate::model::FileKind;
use crate::numbers::floats;
use crate::recipe::Recipe;

impl Tagger {
    fn numbered(&self, sentence: Sentence) -> Text {
        let ids = sentence.words.iter().map(|word| self.vocabulary().id(word)).collect();
        Text { units: sentence.words, ids }
    }
}

impl Embed for Tagger {
    fn layers(&self) -> usize {
        self.model().layers()
    }

    fn recipe(&self) -> &Recipe {
        self.recipe()
    }

    fn is_spaced(&self) -> bool {
        true
    }

    fn vocabulary(&self) -> Vec<Text> {
        words_of(self.vocabulary())
    }

    fn cut(&self, text: &str) -> Result<Text> {
        let options = ReadOptions { format: Some(Format::Text), ..self.prediction_options(FileKind::default())? };
        // One text, whatever ends of lines it has.
        let text = std::io::Cursor::new(text.replace(['\n', '\r'], " ").into_bytes());
        let mut all = Text::default();
        for sentence in stream_reader(text, "the text", &options)? {
            let Text { units, ids } = self.numbered(sentence?);
            all.units.extend(units);
            all.ids.extend(ids);
        }
        Ok(all)
    }

    fn open<'a>(&'a self, corpus: &Corpus) -> Result<Texts<'a>> {
        let options = ReadOptions { part: corpus.part, ..self.prediction_options(corpus.kind)? };
        let sentences = stream(corpus.source, &options)?;
        Ok(Box::new(sentences.map(|sentence| sentence.map(|sentence| self.numbered(sentence)).map_err(Error::from))))
    }

    fn vectors(&self, texts: &[&Text], layer: usize) -> Vec<f32> {
        let sentences: Vec<Sentence> = texts.iter().map(|text| Sentence::from_words(text.units.clone())).collect();
        let (encoded, _) = EncodedSentences::from_sentences(&sentences, self.vocabulary(), self.affixes(), None);
        let batch = encoded.batch(&(0..sentences.len()).collect::<Vec<_>>());
        let layout = Layout::new(batch.offsets.clone());
        floats(qkv::awake(|| self.model().vectors(&batch, &layout, layer)).into_data())
    }
}
