//! From recordings and what is said in them to what the trainer asks of a task.

use std::sync::Arc;

use burn::tensor::Tensor;
use qkv::Offsets;
use qkv::ctc::ctc_frames_needed;
use qkv::random::Key;
use qkv_data::{Codec, LabelledText, plan_epoch, plan_in_order};
use qkv_nn::layers::{ConvStem, Init, Pass};
use qkv_nn::ops::ctc_loss;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::ctc::{ctc_beam_search, ctc_greedy};
use crate::each::EachModel;
use crate::error::{Error, Result};
use crate::files;
use crate::generate::codec_options;
use crate::generate::quality;
use crate::input::{Examples, Reader, Sets, Wants, check_lengths, nouns};
use crate::memory;
use crate::numbers::floats;
use crate::recipe::{Metric, Recipe};
use crate::run::{Count, Prepared};
use crate::tag::BYTES_PER_PARAMETER;
use crate::trainer::{Criterion, Scores, Task};

/// The class of a vector that gives no unit: the id of a beginning, which no text has.
pub(super) const BLANK: u32 = Codec::BEGIN;

/// Recordings, ready to be trained on. An example is the number of one.
#[derive(Debug)]
pub struct HearTask {
    recipe: Recipe,
    reader: Reader,
    codec: Codec,
    train: Sets,
    lengths: Vec<usize>,
    targets: Targets,
    dev: Sets,
    dev_targets: Targets,
    /// What is said in the dev set.
    references: Vec<String>,
    warnings: Vec<String>,
}

/// Units of texts, end to end.
#[derive(Clone, Debug)]
pub(super) struct Targets {
    ids: Vec<u32>,
    offsets: Offsets,
}

impl Targets {
    pub(super) fn of(codec: &Codec, texts: &[LabelledText]) -> Self {
        let texts: Vec<&str> = texts.iter().map(|text| text.label.as_deref().unwrap_or_default()).collect();
        let ids = codec.encode_many(&texts);
        let offsets = Offsets::from_lengths(ids.iter().map(Vec::len));
        Self { ids: ids.concat(), offsets }
    }

    pub(super) fn packed(&self, numbers: &[usize]) -> (Arc<[u32]>, Offsets) {
        let parts: Vec<&[u32]> = numbers.iter().map(|&number| &self.ids[self.offsets.range(number)]).collect();
        (parts.concat().into(), Offsets::from_lengths(parts.iter().map(|part| part.len())))
    }
}

impl HearTask {
    /// Reads what the recipe names and builds the vocabulary of what is said.
    ///
    /// # Errors
    /// If the recipe names no training data, it cannot be read, or a recording has no text or is too long.
    pub fn prepare(recipe: &Recipe) -> Result<Self> {
        recipe.check()?;
        let data = Reader::prepare(recipe, Wants::Texts)?;
        let texts = data.train.labelled.iter().map(|text| text.label.as_deref().unwrap_or_default());
        let unit = recipe.input.target_unit.unwrap_or(recipe.input.unit);
        let codec = Codec::train(texts, &codec_options(recipe, unit)?)?;
        let needed =
            EachModel::parameter_count(recipe, &data.reader.sizes(), codec.len()).saturating_mul(BYTES_PER_PARAMETER);
        memory::check(needed, "lower model.d_model, model.d_ff or model.layers")?;
        check_lengths(recipe, &data.train)?;
        let lengths = data.train.sets.lengths();
        let (targets, dev_targets) =
            (Targets::of(&codec, &data.train.labelled), Targets::of(&codec, &data.dev.labelled));
        let mut warnings: Vec<String> = unknown_warning(&dev_targets, &data.dev.name).into_iter().collect();
        for (examples, targets) in [(&data.train, &targets), (&data.dev, &dev_targets)] {
            warnings.extend(too_short(recipe, examples, targets)?);
        }
        let references = data.dev.labelled.into_iter().map(|text| text.label.unwrap_or_default()).collect();
        Ok(Self {
            recipe: recipe.clone(),
            reader: data.reader,
            codec,
            train: data.train.sets,
            lengths: lengths.into_iter().map(|length| length.max(1)).collect(),
            targets,
            dev: data.dev.sets,
            dev_targets,
            references,
            warnings,
        })
    }
}

#[cfg(test)]
impl HearTask {
    /// What a finished model needs beside its weights.
    pub(super) fn parts(&self) -> (Reader, Codec) {
        (self.reader.clone(), self.codec.clone())
    }
}

/// What the user should know of units that training never had.
pub(super) fn unknown_warning(targets: &Targets, name: &str) -> Option<String> {
    let count = targets.ids.iter().filter(|&&id| id == Codec::UNKNOWN).count();
    (count > 0).then(|| format!("{name}: {count} units of what is said do not occur in training"))
}

/// What the user should know of recordings that have fewer vectors than what is said in them has units: nothing can be learned of them.
///
/// # Errors
/// If that is so of all.
pub(super) fn too_short(recipe: &Recipe, examples: &Examples, targets: &Targets) -> Result<Option<String>> {
    let vectors = |frames: usize| ConvStem::length_after(frames, recipe.input.convolutions);
    let needed = |place: usize| ctc_frames_needed(&targets.ids[targets.offsets.range(place)]);
    let lengths = examples.sets.lengths();
    let short: Vec<usize> = (0..lengths.len()).filter(|&place| needed(place) > vectors(lengths[place])).collect();
    let Some(&first) = short.first() else { return Ok(None) };
    let told = format!(
        "{}: {} of {} recordings have fewer vectors than what is said in them has units ({}: {} for {}), and do not count: lower input.stack or input.convolutions, or set larger units by input.unit",
        examples.name,
        short.len(),
        lengths.len(),
        examples.labelled[first].text,
        vectors(lengths[first]),
        needed(first)
    );
    if short.len() == lengths.len() { Err(Error::Training(told)) } else { Ok(Some(told)) }
}

/// The content of `vocab.json`.
pub(super) fn vocab_json(reader: &Reader, codec: &Codec) -> Vec<u8> {
    let mut object = reader.to_json();
    object["heard"] = codec.to_json();
    serde_json::to_vec(&object).expect("names and numbers")
}

/// The codec of what [`vocab_json`] wrote.
pub(super) fn codec_of(vocab: &Value) -> qkv_data::Result<Codec> {
    Codec::from_json(vocab.get("heard").unwrap_or(&json!({})))
}

/// What was heard in a recording.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) text: String,
    /// The logarithm of its probability, where it was searched for.
    pub(super) log_probability: Option<f64>,
}

/// What `model` hears in the sets `numbers`, which are one batch, and how far from `targets`, if there are any, that is. `beam`
/// beginnings are gone on with side by side; 1 takes the likeliest path.
pub(super) fn hear(
    model: &EachModel,
    (sets, numbers): (&Sets, &[usize]),
    targets: Option<&Targets>,
    (codec, beam): (&Codec, usize),
) -> (Vec<Heard>, f64) {
    let classes = codec.len();
    let batch = sets.batch(numbers);
    let (logits, offsets) = qkv::awake(|| model.forward(&batch, &Pass::inference()));
    let loss = targets.map_or(0.0, |targets| {
        let (ids, target_offsets) = targets.packed(numbers);
        floats(ctc_loss(logits.clone(), &offsets, ids, &target_offsets, BLANK).into_data())[0].into()
    });
    let logits = floats(logits.into_data());
    let of_set = |set: usize| {
        let rows = offsets.range(set);
        let frames = &logits[rows.start * classes..rows.end * classes];
        if beam == 1 {
            let ids: Vec<u32> = ctc_greedy(frames, classes, BLANK).into_iter().map(|(id, _)| id).collect();
            return Heard { text: codec.decode(&ids), log_probability: None };
        }
        let best = ctc_beam_search(&log_softmax(frames, classes), classes, BLANK, beam).into_iter().next();
        best.map_or_else(Heard::default, |best| Heard {
            text: codec.decode(&best.ids),
            log_probability: Some(best.log_probability),
        })
    };
    ((0..offsets.sets()).into_par_iter().map(of_set).collect(), loss)
}

/// What `model` hears in all of `sets`, and its mean loss.
pub(super) fn hear_all(
    model: &EachModel,
    sets: &Sets,
    targets: &Targets,
    (codec, beam, batch_tokens): (&Codec, usize, usize),
) -> (Vec<String>, f64) {
    let (mut texts, mut loss) = (vec![String::new(); sets.len()], 0.0);
    for numbers in plan_in_order(&sets.lengths(), batch_tokens) {
        let (heard, of_batch) = hear(model, (sets, &numbers), Some(targets), (codec, beam));
        loss += of_batch * numbers.len() as f64;
        for (number, heard) in numbers.into_iter().zip(heard) {
            texts[number] = heard.text;
        }
    }
    (texts, loss / sets.len().max(1) as f64)
}

fn log_softmax(logits: &[f32], classes: usize) -> Vec<f32> {
    let of_row = |row: &[f32]| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|&x| (x - most).exp()).sum();
        let lse = most + sum.ln();
        row.iter().map(|&x| x - lse).collect::<Vec<_>>()
    };
    logits.chunks_exact(classes).flat_map(of_row).collect()
}

impl Prepared for HearTask {
    fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn counts(&self) -> Vec<Count> {
        let (examples, _) = nouns(&self.recipe);
        let units = self.codec.len() - Codec::FIRST as usize;
        vec![
            Count { name: examples, title: examples, number: self.train.len() },
            Count { name: "target_units", title: "units written", number: units },
        ]
    }

    fn tokens(&self) -> [usize; 2] {
        [self.train.tokens(), self.dev.tokens()]
    }

    fn vocab_json(&self) -> Vec<u8> {
        vocab_json(&self.reader, &self.codec)
    }
}

impl Task for HearTask {
    type Model = EachModel;
    type Example = usize;

    fn new_model(&self, init: &Init) -> EachModel {
        EachModel::new(&self.recipe, &self.reader.sizes(), self.codec.len(), init)
    }

    fn plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        let training = &self.recipe.training;
        plan_epoch(&self.lengths, training.batch_tokens, training.seed, epoch as u64)
    }

    fn length(&self, example: &usize) -> usize {
        self.lengths[*example]
    }

    fn loss(&self, model: &EachModel, examples: &[usize], key: Key) -> Tensor<1> {
        let batch = self.train.training_batch(examples, &self.recipe.training, key);
        let (logits, offsets) = model.forward(&batch, &Pass::training(key));
        let (ids, target_offsets) = self.targets.packed(examples);
        ctc_loss(logits, &offsets, ids, &target_offsets, BLANK)
    }

    fn evaluate(&self, model: &EachModel) -> Scores {
        let how = (&self.codec, 1, self.recipe.decoding.batch_tokens);
        let (texts, loss) = hear_all(model, &self.dev, &self.dev_targets, how);
        Scores { loss, metrics: quality(&self.recipe, &texts, &self.references) }
    }

    fn criterion(&self) -> Criterion {
        match self.recipe.training.metric {
            Some(Metric::Loss) => Criterion::Lowest("loss"),
            Some(Metric::ExactMatch) => Criterion::Highest("exact_match"),
            Some(Metric::Per) => Criterion::Lowest("per"),
            _ => Criterion::Lowest("wer"),
        }
    }

    fn fingerprint(&self) -> String {
        let mut content = self.vocab_json();
        content.extend(self.train.content());
        content.extend(self.dev.content());
        for targets in [&self.targets, &self.dev_targets] {
            content.extend(targets.offsets.as_slice().iter().flat_map(|offset| offset.to_le_bytes()));
            content.extend(targets.ids.iter().flat_map(|id| id.to_le_bytes()));
        }
        files::hash(&content)
    }
}
