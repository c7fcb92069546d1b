//! The vectors of models that generate: of a language model those of the side that writes, of what is learned from pairs those of
//! the side that reads.

use std::sync::Arc;

use qkv::Offsets;
use qkv_data::{Codec, Source, Unit, plan_in_order, stream_pairs, windows};
use qkv_nn::attention::Layout;

use super::generator::check_format;
use super::{GenerateModel, Generator, Translator};
use crate::embed::{Corpus, Embed, Text, Texts, cut_by, vocabulary_of};
use crate::error::{Error, Result};
use crate::numbers::floats;
use crate::recipe::Recipe;

fn vectors(model: &GenerateModel, ids: Vec<u32>, lengths: impl IntoIterator<Item = usize>, layer: usize) -> Vec<f32> {
    let layout = Layout::new(Offsets::from_lengths(lengths));
    floats(qkv::awake(|| model.vectors(Arc::from(ids), &layout, layer)).into_data())
}

/// A text is a line. What is longer than `model.context` is cut into windows of so many units, as it is when the model is judged.
impl Embed for Generator {
    fn layers(&self) -> usize {
        self.model().layers()
    }

    fn recipe(&self) -> &Recipe {
        self.recipe()
    }

    fn cuts_texts(&self) -> bool {
        true
    }

    fn is_spaced(&self) -> bool {
        self.codec().unit() == Unit::Words
    }

    fn vocabulary(&self) -> Vec<Text> {
        vocabulary_of(self.codec())
    }

    fn cut(&self, text: &str) -> Result<Text> {
        Ok(cut_by(self.codec(), text))
    }

    fn open<'a>(&'a self, corpus: &Corpus) -> Result<Texts<'a>> {
        check_format(corpus.kind.format)?;
        let mut lines = Source::parse(corpus.source).open(self.encoding(corpus.kind).as_deref())?;
        let next = move || lines.next_line().transpose();
        Ok(Box::new(std::iter::from_fn(next).map(|line| Ok(cut_by(self.codec(), line?.text())))))
    }

    fn vectors(&self, texts: &[&Text], layer: usize) -> Vec<f32> {
        let pieces = texts.iter().flat_map(|text| {
            let windows = windows(text.ids.len(), self.recipe().model.context, 0).into_iter();
            windows.map(|window| &text.ids[window])
        });
        let pieces: Vec<&[u32]> = pieces.collect();
        let lengths: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
        let mut all = vec![Vec::new(); pieces.len()];
        for numbers in plan_in_order(&lengths, self.batch_tokens()) {
            let ids = numbers.iter().flat_map(|&number| pieces[number]).copied().collect();
            let found = vectors(self.model(), ids, numbers.iter().map(|&number| lengths[number]), layer);
            let mut rest = found.as_slice();
            for number in numbers {
                let (here, after) = rest.split_at(lengths[number] * self.d_model());
                (all[number], rest) = (here.to_vec(), after);
            }
        }
        all.concat()
    }
}

/// Of pairs, what is read. The end that stands behind each text is looked at, but has no vector of its own.
impl Embed for Translator {
    fn layers(&self) -> usize {
        self.model().layers()
    }

    fn recipe(&self) -> &Recipe {
        self.recipe()
    }

    fn is_spaced(&self) -> bool {
        self.source_codec().is_some_and(|codec| codec.unit() == Unit::Words)
    }

    fn vocabulary(&self) -> Vec<Text> {
        self.source_codec().map(vocabulary_of).unwrap_or_default()
    }

    fn cut(&self, text: &str) -> Result<Text> {
        let codec = self.source_codec().ok_or_else(|| Error::Recipe("embed: this model reads no texts".into()))?;
        Ok(cut_by(codec, text))
    }

    fn open<'a>(&'a self, corpus: &Corpus) -> Result<Texts<'a>> {
        let pairs = stream_pairs(&[corpus.source.to_string()], &self.source_options(corpus.kind)?)?;
        Ok(Box::new(pairs.map(|pair| self.cut(&pair.map_err(Error::from)?.source))))
    }

    fn vectors(&self, texts: &[&Text], layer: usize) -> Vec<f32> {
        let ids = texts.iter().flat_map(|text| text.ids.iter().copied().chain([Codec::END])).collect();
        let found = vectors(self.model(), ids, texts.iter().map(|text| text.ids.len() + 1), layer);
        let (mut rest, mut all) = (found.as_slice(), Vec::with_capacity(found.len()));
        for text in texts {
            let (here, after) = rest.split_at(text.ids.len() * self.d_model());
            all.extend_from_slice(here);
            rest = &after[self.d_model()..];
        }
        all
    }
}
