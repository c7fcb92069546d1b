//! The vectors that know their context, of any layer of any model: written to a file, or compared with each other.
//!
//! What belongs here: how texts stream through a model in bounded memory, the files that vectors are written to
//! ([`write_vectors`]), and nearest neighbours before and after context ([`nearest`]). What a model gives of its own is the trait
//! `Embed`: a new class of models implements it and gets one more arm in `Model::embedder`.

mod nearest;
mod npy;
mod write;

use std::sync::atomic::{AtomicBool, Ordering};

use qkv_data::builtin::Part;
use qkv_data::{Codec, Unit, Vocabulary, plan_in_order};

pub use nearest::{Nearest, Neighbour, Occurrence, OneHot, Query, nearest};
pub use write::{Request, Written, write_vectors};

use crate::error::{Error, Result};
use crate::longest::check_longest;
use crate::model::FileKind;
use crate::recipe::Recipe;

/// Batches whose vectors are in memory at once.
const CHUNK_BATCHES: usize = 8;

/// A text, cut into what a model has a vector for each of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// How each unit is written: a word, a subword, a character.
    pub units: Vec<String>,
    /// The id of each; 0 if the model does not know it.
    pub ids: Vec<u32>,
}

/// Data that vectors are made of.
#[derive(Clone, Copy, Debug)]
pub struct Corpus<'a> {
    /// A path, `builtin:NAME`, or `-`.
    pub source: &'a str,
    /// The part of data that has parts.
    pub part: Part,
    /// What the user says of the file.
    pub kind: FileKind<'a>,
}

/// Texts one at a time, as they are read.
pub(crate) type Texts<'a> = Box<dyn Iterator<Item = Result<Text>> + 'a>;

/// A model whose vectors can be looked at.
pub(crate) trait Embed {
    /// Blocks that a text goes through.
    fn layers(&self) -> usize;

    /// The recipe that it was trained by.
    fn recipe(&self) -> &Recipe;

    /// Whether a long text is cut into pieces that do not see each other.
    fn cuts_texts(&self) -> bool {
        false
    }

    /// Elements of a vector.
    fn d_model(&self) -> usize {
        self.recipe().model.d_model
    }

    /// Vectors that are made at once, at most.
    fn batch_tokens(&self) -> usize {
        self.recipe().decoding.batch_tokens
    }

    /// Whether there is a space between two units of a text, as there is between words.
    fn is_spaced(&self) -> bool;

    /// The units that have an id of their own, each as a text of one unit.
    fn vocabulary(&self) -> Vec<Text>;

    /// A text as the model reads it.
    fn cut(&self, text: &str) -> Result<Text>;

    /// The texts of a file.
    fn open<'a>(&'a self, corpus: &Corpus) -> Result<Texts<'a>>;

    /// The vectors of one layer of some texts end to end, `[units, d_model]`. Of layer 0 they know neither place nor context.
    fn vectors(&self, texts: &[&Text], layer: usize) -> Vec<f32>;
}

/// A text as `codec` cuts it.
pub(crate) fn cut_by(codec: &Codec, text: &str) -> Text {
    let ids = codec.encode(text);
    let units = match codec.unit() {
        // As they are written: an unknown word has a name, too.
        Unit::Words => text.split_whitespace().map(str::to_string).collect(),
        _ => ids.iter().map(|&id| codec.unit_text(id).unwrap_or_default().to_string()).collect(),
    };
    Text { units, ids }
}

/// The units that `codec` knows, each as a text of one unit.
pub(crate) fn vocabulary_of(codec: &Codec) -> Vec<Text> {
    let unit = |id| codec.unit_text(id).map(|unit| Text { units: vec![unit.to_string()], ids: vec![id] });
    (Codec::FIRST..codec.len() as u32).filter_map(unit).collect()
}

/// The words of a vocabulary, each as a text of one unit.
pub(crate) fn words_of(vocabulary: &Vocabulary) -> Vec<Text> {
    let words = (0..).zip(vocabulary.words()).filter(|(id, _)| *id != Vocabulary::UNKNOWN);
    words.map(|(id, word)| Text { units: vec![word.clone()], ids: vec![id] }).collect()
}

/// The layer that is meant, the last if none is named.
fn chosen_layer(model: &dyn Embed, layer: Option<usize>) -> Result<usize> {
    let layers = model.layers();
    match layer {
        Some(layer) if layer > layers => Err(Error::Recipe(format!(
            "--layer {layer}: the model has {layers}: give 0 for what goes into the first, up to {layers} for what comes out of the last"
        ))),
        layer => Ok(layer.unwrap_or(layers)),
    }
}

/// Hands each of `texts` with its number, counted from one, and its vectors to `take`, in their order and in the memory of a few
/// batches. Returns how many there were.
///
/// # Errors
/// Those of the texts and of `take`; if it was told to stop.
fn for_each(
    model: &dyn Embed,
    texts: impl Iterator<Item = Result<Text>>,
    layer: usize,
    stop: &AtomicBool,
    mut take: impl FnMut(usize, &Text, &[f32]) -> Result<()>,
) -> Result<usize> {
    let (limit, d_model) = (CHUNK_BATCHES * model.batch_tokens(), model.d_model());
    let (mut chunk, mut units, mut done) = (Vec::new(), 0, 0);
    let mut texts = texts.peekable();
    while let Some(text) = texts.next() {
        let text = text?;
        units += 1 + text.units.len();
        chunk.push(text);
        if units < limit && texts.peek().is_some() {
            continue;
        }
        let lengths: Vec<usize> = chunk.iter().map(|text| text.units.len()).collect();
        if !model.cuts_texts() {
            check_longest(model.recipe(), "what is read", done, lengths.iter().copied())?;
        }
        let mut vectors = vec![Vec::new(); chunk.len()];
        for numbers in plan_in_order(&lengths, model.batch_tokens()) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Training("stopped; nothing was written".into()));
            }
            let batch: Vec<&Text> = numbers.iter().map(|&number| &chunk[number]).collect();
            let all = if lengths[numbers[numbers.len() - 1]] == 0 { Vec::new() } else { model.vectors(&batch, layer) };
            let mut rest = all.as_slice();
            for number in numbers {
                let (here, after) = rest.split_at(lengths[number] * d_model);
                (vectors[number], rest) = (here.to_vec(), after);
            }
        }
        for (text, vectors) in chunk.drain(..).zip(vectors) {
            done += 1;
            take(done, &text, &vectors)?;
        }
        units = 0;
    }
    Ok(done)
}
