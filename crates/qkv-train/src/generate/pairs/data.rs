//! Pairs of texts as ids, and packed batches of them.

use std::sync::Arc;

use qkv::Offsets;
use qkv_data::{Codec, Pair};
use serde_json::{Value, json};

use crate::error::Result;
use crate::generate::Vocabularies;
use crate::generate::task::codec_options;
use crate::recipe::Recipe;

/// How texts of either side become ids.
#[derive(Debug)]
pub(super) struct Codecs {
    /// `None` where both sides share one.
    source: Option<Codec>,
    target: Codec,
}

impl Codecs {
    /// Those of some pairs with targets.
    pub(super) fn build(recipe: &Recipe, pairs: &[Pair]) -> Result<Self> {
        let sources = pairs.iter().map(|pair| pair.source.as_str());
        let targets = pairs.iter().map(|pair| pair.target.as_deref().unwrap_or_default());
        let input = &recipe.input;
        let target_unit = input.target_unit.unwrap_or(input.unit);
        if input.shared {
            let both: Vec<&str> = sources.chain(targets).collect();
            return Ok(Self { source: None, target: Codec::train(both, &codec_options(recipe, target_unit)?)? });
        }
        let (sources, targets): (Vec<&str>, Vec<&str>) = (sources.collect(), targets.collect());
        Ok(Self {
            source: Some(Codec::train(sources, &codec_options(recipe, input.unit)?)?),
            target: Codec::train(targets, &codec_options(recipe, target_unit)?)?,
        })
    }

    pub(super) fn source(&self) -> &Codec {
        self.source.as_ref().unwrap_or(&self.target)
    }

    pub(super) fn target(&self) -> &Codec {
        &self.target
    }

    pub(super) fn sizes(&self) -> Vocabularies {
        Vocabularies { source: Some(self.source().len()), target: self.target.len() }
    }

    /// The content of `vocab.json`.
    pub(super) fn to_json(&self) -> Value {
        match &self.source {
            Some(source) => json!({ "source": source.to_json(), "target": self.target.to_json() }),
            None => json!({ "shared": self.target.to_json() }),
        }
    }

    /// What [`Codecs::to_json`] gave.
    pub(super) fn from_json(content: &Value) -> qkv_data::Result<Self> {
        Ok(match content.get("shared") {
            Some(shared) => Self { source: None, target: Codec::from_json(shared)? },
            None => Self {
                source: Some(Codec::from_json(&content["source"])?),
                target: Codec::from_json(&content["target"])?,
            },
        })
    }

    /// Texts that are read, as ids with an end, so that none is empty.
    pub(super) fn sources<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Sequences {
        let texts: Vec<&str> = texts.collect();
        Sequences::of(self.source().encode_many(&texts).into_iter().map(|mut ids| {
            ids.push(Codec::END);
            ids
        }))
    }

    /// Texts that are to be written, as ids between a beginning and an end.
    pub(super) fn targets<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Sequences {
        let texts: Vec<&str> = texts.collect();
        let framed = |ids: Vec<u32>| [&[Codec::BEGIN][..], &ids, &[Codec::END]].concat();
        Sequences::of(self.target.encode_many(&texts).into_iter().map(framed))
    }
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

    pub(super) fn len(&self) -> usize {
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

    /// Some of them, packed, each through `part`.
    pub(super) fn packed(&self, numbers: &[usize], part: impl Fn(&[u32]) -> &[u32]) -> (Arc<[u32]>, Offsets) {
        let parts: Vec<&[u32]> = numbers.iter().map(|&number| part(self.get(number))).collect();
        (parts.concat().into(), Offsets::from_lengths(parts.iter().map(|part| part.len())))
    }
}

/// Pairs as ids.
#[derive(Clone, Debug)]
pub(super) struct EncodedPairs {
    pub(super) sources: Sequences,
    pub(super) targets: Sequences,
}

/// Some pairs, packed: what is read, what has been written before each place, and what is to be written there.
#[derive(Clone, Debug)]
pub(super) struct PairBatch {
    pub(super) source: Arc<[u32]>,
    pub(super) source_offsets: Offsets,
    pub(super) before: Arc<[u32]>,
    pub(super) targets: Arc<[u32]>,
    pub(super) target_offsets: Offsets,
}

impl EncodedPairs {
    pub(super) fn of(codecs: &Codecs, pairs: &[Pair]) -> Self {
        Self {
            sources: codecs.sources(pairs.iter().map(|pair| pair.source.as_str())),
            targets: codecs.targets(pairs.iter().map(|pair| pair.target.as_deref().unwrap_or_default())),
        }
    }

    /// Vectors of each pair, on both sides.
    pub(super) fn lengths(&self) -> Vec<usize> {
        // Of a target with its beginning and its end all but one are vectors.
        self.sources.offsets.lengths().zip(self.targets.offsets.lengths()).map(|(a, b)| a + b - 1).collect()
    }

    pub(super) fn batch(&self, numbers: &[usize]) -> PairBatch {
        let (source, source_offsets) = self.sources.packed(numbers, |ids| ids);
        let (before, target_offsets) = self.targets.packed(numbers, |ids| &ids[..ids.len() - 1]);
        let (targets, _) = self.targets.packed(numbers, |ids| &ids[1..]);
        PairBatch { source, source_offsets, before, targets, target_offsets }
    }
}
