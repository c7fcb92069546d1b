//! Pairs as sets that are read and ids that are written, and packed batches of them.

use std::sync::Arc;

use qkv::Offsets;
use qkv::random::Key;
use qkv_data::{Codec, Pair};
use qkv_nn::attention::Layout;
use qkv_nn::layers::{Memory, Pass};
use serde_json::{Value, json};

use crate::error::Result;
use crate::generate::task::codec_options;
use crate::generate::{GenerateModel, SourceSize, Vocabularies};
use crate::input::{Batch, Examples, Reader, Sets};
use crate::recipe::{InputKind, Recipe, Training};
use crate::tag::hidden;

/// How what is read becomes sets, and what is written becomes ids.
#[derive(Debug)]
pub(super) struct Codecs {
    source: SourceReader,
    target: Codec,
}

/// How what is read becomes sets.
#[derive(Debug)]
enum SourceReader {
    /// Texts, by a vocabulary of their own.
    Own(Codec),
    /// Texts, by the vocabulary of what is written.
    Shared,
    /// Pictures or recordings.
    Sets(Reader),
}

impl Codecs {
    /// Those of some pairs with targets.
    pub(super) fn build(recipe: &Recipe, pairs: &[Pair]) -> Result<Self> {
        let sources = pairs.iter().map(|pair| pair.source.as_str());
        let targets = pairs.iter().map(|pair| pair.target.as_deref().unwrap_or_default());
        let input = &recipe.input;
        if input.shared {
            let target = target_codec(recipe, sources.chain(targets))?;
            return Ok(Self { source: SourceReader::Shared, target });
        }
        let source = Codec::train(sources.collect::<Vec<_>>(), &codec_options(recipe, input.unit)?)?;
        Ok(Self { source: SourceReader::Own(source), target: target_codec(recipe, targets)? })
    }

    /// Those of some pictures or recordings, which `reader` reads, with their texts.
    pub(super) fn of_sets(recipe: &Recipe, reader: Reader, examples: &Examples) -> Result<Self> {
        Ok(Self { source: SourceReader::Sets(reader), target: target_codec(recipe, texts(examples))? })
    }

    /// How texts that are read become ids; `None` where what is read is no text.
    pub(super) fn source(&self) -> Option<&Codec> {
        match &self.source {
            SourceReader::Own(source) => Some(source),
            SourceReader::Shared => Some(&self.target),
            SourceReader::Sets(_) => None,
        }
    }

    /// How files of pictures or recordings become sets; `None` where what is read is text.
    pub(super) fn reader(&self) -> Option<&Reader> {
        match &self.source {
            SourceReader::Sets(reader) => Some(reader),
            SourceReader::Own(_) | SourceReader::Shared => None,
        }
    }

    pub(super) fn target(&self) -> &Codec {
        &self.target
    }

    pub(super) fn sizes(&self) -> Vocabularies {
        let source = match &self.source {
            SourceReader::Own(source) => SourceSize::Units(source.len()),
            SourceReader::Shared => SourceSize::Units(self.target.len()),
            SourceReader::Sets(reader) => SourceSize::Vectors(reader.dim()),
        };
        Vocabularies { source: Some(source), target: self.target.len() }
    }

    /// The content of `vocab.json`.
    pub(super) fn to_json(&self) -> Value {
        match &self.source {
            SourceReader::Own(source) => json!({ "source": source.to_json(), "target": self.target.to_json() }),
            SourceReader::Shared => json!({ "shared": self.target.to_json() }),
            SourceReader::Sets(reader) => {
                let mut content = reader.to_json();
                content["target"] = self.target.to_json();
                content
            }
        }
    }

    /// What [`Codecs::to_json`] gave of a model that was trained by `recipe`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn from_json(recipe: &Recipe, content: &Value) -> std::result::Result<Self, String> {
        let codec = |key: &str| Codec::from_json(&content[key]).map_err(|e| e.to_string());
        if recipe.input.kind != InputKind::Text {
            let reader = Reader::from_json(recipe, content)?;
            return Ok(Self { source: SourceReader::Sets(reader), target: codec("target")? });
        }
        Ok(match content.get("shared") {
            Some(_) => Self { source: SourceReader::Shared, target: codec("shared")? },
            None => Self { source: SourceReader::Own(codec("source")?), target: codec("target")? },
        })
    }

    /// Texts that are read, as ids with an end, so that none is empty.
    ///
    /// # Panics
    /// If what is read is no text.
    pub(super) fn sources<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Sequences {
        let texts: Vec<&str> = texts.collect();
        let codec = self.source().expect("a model that reads texts");
        Sequences::of(codec.encode_many(&texts).into_iter().map(|mut ids| {
            ids.push(Codec::END);
            ids
        }))
    }

    /// Texts that are to be written, as ids between a beginning and an end.
    fn targets<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Sequences {
        let texts: Vec<&str> = texts.collect();
        let framed = |ids: Vec<u32>| [&[Codec::BEGIN][..], &ids, &[Codec::END]].concat();
        Sequences::of(self.target.encode_many(&texts).into_iter().map(framed))
    }
}

/// The vocabulary of texts that are to be written, and of what else shares it.
fn target_codec<'a>(recipe: &Recipe, texts: impl Iterator<Item = &'a str>) -> Result<Codec> {
    let unit = recipe.input.target_unit.unwrap_or(recipe.input.unit);
    Ok(Codec::train(texts.collect::<Vec<_>>(), &codec_options(recipe, unit)?)?)
}

/// The texts that go with some pictures or recordings.
pub(super) fn texts(examples: &Examples) -> impl Iterator<Item = &str> {
    examples.labelled.iter().map(|example| example.label.as_deref().unwrap_or_default())
}

/// Many sequences of ids, end to end.
#[derive(Clone, Debug)]
pub(super) struct Sequences {
    pub(super) ids: Vec<u32>,
    pub(super) offsets: Offsets,
}

impl Sequences {
    fn of(sequences: impl Iterator<Item = Vec<u32>>) -> Self {
        let (mut ids, mut lengths) = (Vec::new(), Vec::new());
        for sequence in sequences {
            lengths.push(sequence.len());
            ids.extend(sequence);
        }
        Self { ids, offsets: Offsets::from_lengths(lengths) }
    }

    fn len(&self) -> usize {
        self.offsets.sets()
    }

    /// How many units are unknown, of how many; ends are none.
    pub(super) fn unknown(&self) -> (usize, usize) {
        let count = |is: fn(&u32) -> bool| self.ids.iter().filter(|id| is(id)).count();
        (count(|&id| id == Codec::UNKNOWN), count(|&id| !matches!(id, Codec::BEGIN | Codec::END)))
    }

    pub(super) fn get(&self, number: usize) -> &[u32] {
        &self.ids[self.offsets.range(number)]
    }

    pub(super) fn lengths(&self) -> Vec<usize> {
        self.offsets.lengths().collect()
    }

    fn add_content(&self, content: &mut Vec<u8>) {
        content.extend(self.offsets.as_slice().iter().flat_map(|offset| offset.to_le_bytes()));
        content.extend(self.ids.iter().flat_map(|id| id.to_le_bytes()));
    }

    /// Some of them, packed, each through `part`.
    fn packed(&self, numbers: &[usize], part: impl Fn(&[u32]) -> &[u32]) -> (Arc<[u32]>, Offsets) {
        let parts: Vec<&[u32]> = numbers.iter().map(|&number| part(self.get(number))).collect();
        (parts.concat().into(), Offsets::from_lengths(parts.iter().map(|part| part.len())))
    }
}

/// What is read, of whatever kind.
#[expect(clippy::large_enum_variant, reason = "there are two of them, and they stay where they are")]
#[derive(Clone, Debug)]
pub(super) enum Sources {
    /// Texts, by their units.
    Units(Sequences),
    /// Pictures or recordings.
    Sets(Sets),
}

impl Sources {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Units(units) => units.len(),
            Self::Sets(sets) => sets.len(),
        }
    }

    /// Vectors of each.
    pub(super) fn lengths(&self) -> Vec<usize> {
        match self {
            Self::Units(units) => units.lengths(),
            Self::Sets(sets) => sets.lengths(),
        }
    }

    /// How many units are unknown; of what is no text none is.
    pub(super) fn unknown(&self) -> usize {
        match self {
            Self::Units(units) => units.unknown().0,
            Self::Sets(_) => 0,
        }
    }

    /// Some of them, packed.
    pub(super) fn batch(&self, numbers: &[usize]) -> SourceBatch {
        match self {
            Self::Units(units) => {
                let (ids, offsets) = units.packed(numbers, |ids| ids);
                SourceBatch::Units(ids, offsets)
            }
            Self::Sets(sets) => SourceBatch::Sets(sets.batch(numbers)),
        }
    }

    /// The same for the training step of `key`: hidden, masked and varied as `training` says.
    fn training_batch(&self, numbers: &[usize], training: &Training, key: Key) -> SourceBatch {
        match self {
            Self::Sets(sets) => SourceBatch::Sets(sets.training_batch(numbers, training, key)),
            Self::Units(units) => {
                let (ids, offsets) = units.packed(numbers, |ids| ids);
                let ids = hidden(&ids, training.word_dropout, Codec::UNKNOWN, key.fold(HIDING_STREAM));
                SourceBatch::Units(ids, offsets)
            }
        }
    }

    /// All that a model sees of them, as bytes to be hashed.
    fn add_content(&self, content: &mut Vec<u8>) {
        match self {
            Self::Units(units) => units.add_content(content),
            Self::Sets(sets) => content.extend(sets.content()),
        }
    }
}

/// Some of what is read, packed.
#[derive(Clone, Debug)]
pub(super) enum SourceBatch {
    /// Ids, and which are whose.
    Units(Arc<[u32]>, Offsets),
    /// Vectors of pictures or recordings.
    Sets(Batch),
}

impl SourceBatch {
    /// What `model` makes of it.
    pub(super) fn read(self, model: &GenerateModel, pass: &Pass) -> Memory {
        match self {
            Self::Units(ids, offsets) => model.read(ids, &Layout::new(offsets), pass),
            Self::Sets(batch) => model.read_sets(&batch, pass),
        }
    }
}

/// Pairs as a model has them.
#[derive(Clone, Debug)]
pub(super) struct EncodedPairs {
    pub(super) sources: Sources,
    pub(super) targets: Sequences,
}

/// Some pairs, packed: what is read, what has been written before each place, and what is to be written there.
#[derive(Clone, Debug)]
pub(super) struct PairBatch {
    pub(super) source: SourceBatch,
    pub(super) before: Arc<[u32]>,
    pub(super) targets: Arc<[u32]>,
    pub(super) target_offsets: Offsets,
}

impl EncodedPairs {
    pub(super) fn of(codecs: &Codecs, pairs: &[Pair]) -> Self {
        Self {
            sources: Sources::Units(codecs.sources(pairs.iter().map(|pair| pair.source.as_str()))),
            targets: codecs.targets(pairs.iter().map(|pair| pair.target.as_deref().unwrap_or_default())),
        }
    }

    /// Those of pictures or recordings with their texts.
    pub(super) fn of_sets(codecs: &Codecs, examples: Examples) -> Self {
        Self { targets: codecs.targets(texts(&examples)), sources: Sources::Sets(examples.sets) }
    }

    /// Vectors of each pair, on both sides.
    pub(super) fn lengths(&self) -> Vec<usize> {
        // Of a target with its beginning and its end all but one are vectors.
        self.sources.lengths().into_iter().zip(self.targets.offsets.lengths()).map(|(a, b)| a + b - 1).collect()
    }

    /// Some of them, packed, as they are.
    pub(super) fn batch(&self, numbers: &[usize]) -> PairBatch {
        self.packed(numbers, self.sources.batch(numbers))
    }

    /// The same for the training step of `key`: hidden, masked and varied as `training` says.
    pub(super) fn training_batch(&self, numbers: &[usize], training: &Training, key: Key) -> PairBatch {
        let batch = self.packed(numbers, self.sources.training_batch(numbers, training, key));
        let before = hidden(&batch.before, training.word_dropout, Codec::UNKNOWN, key.fold(HIDING_STREAM + 1));
        PairBatch { before, ..batch }
    }

    fn packed(&self, numbers: &[usize], source: SourceBatch) -> PairBatch {
        let (before, target_offsets) = self.targets.packed(numbers, |ids| &ids[..ids.len() - 1]);
        let (targets, _) = self.targets.packed(numbers, |ids| &ids[1..]);
        PairBatch { source, before, targets, target_offsets }
    }

    /// All that a model sees of them, as bytes to be hashed.
    pub(super) fn add_content(&self, content: &mut Vec<u8>) {
        self.sources.add_content(content);
        self.targets.add_content(content);
    }
}

/// Keeps the draws that hide units apart from those of dropout.
const HIDING_STREAM: u64 = 0xD0D0;
