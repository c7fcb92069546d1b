//! A finished model of the task: evaluating and predicting.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use qkv_data::builtin::Part;
use qkv_data::{Codec, EncodedSentences, Group, LabelledOptions, read_labelled};
use qkv_nn::layers::Init;
use serde_json::Value;

use super::answers::{Answers, Wanted};
use super::judge::{by_group, judge, outputs, outputs_of};
use super::model::{ClassifyModel, ClassifySizes};
use super::several::{Target, ranges};
use super::task::labelled_options;
use crate::error::Result;
use crate::input::{Examples, Parting, Reader, Sets, Units, Wants, nouns};
use crate::longest::check_longest;
use crate::model::{FileKind, Judgement};
use crate::model_dir::ModelDir;
use crate::numbers::argmax;
use crate::recipe::{InputKind, Recipe, Task};

/// A model with what it needs to be used.
#[derive(Debug)]
pub struct Classifier {
    recipe: Recipe,
    reader: Reader,
    parting: Option<Parting>,
    answers: Answers,
    model: ClassifyModel,
}

/// What a model says of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Prediction<'a> {
    /// The likeliest label, and how likely each is.
    Label {
        /// The likeliest.
        label: &'a str,
        /// Each label with its probability; together they are 1.
        probabilities: Vec<(&'a str, f64)>,
    },
    /// A number, in the unit of those that were learned from.
    Value(f64),
    /// Each of several columns that were learned at once, with what is said of it.
    Several(Vec<(&'a str, Prediction<'a>)>),
}

impl Classifier {
    /// Reads what is in a model directory, to be used as `recipe` says.
    pub(crate) fn read(dir: &ModelDir, recipe: Recipe) -> Result<Self> {
        let broken = |e: String| dir.broken("vocab.json", &e);
        let vocab: Value = serde_json::from_slice(&dir.read("vocab.json")?).map_err(|e| broken(e.to_string()))?;
        let reader = Reader::from_json(&recipe, &vocab).map_err(broken)?;
        let parting = Parting::from_json(&vocab).map_err(broken)?;
        let answers = Answers::from_json(recipe.model.task, &vocab).map_err(broken)?;
        answers.check_columns(recipe.data.labels())?;
        let sizes = ClassifySizes { input: reader.sizes(), outputs: answers.outputs() };
        let model = ClassifyModel::new(&recipe, &sizes, &Init::new(0, &Device::flex()));
        let model = dir.weights()?.apply(model).map_err(|e| dir.broken("model.safetensors", &e))?;
        Ok(Self { recipe, reader, parting, answers, model: model.valid() })
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// How files become sets.
    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// How texts become sets of ids; `None` where none come in.
    pub(super) fn units(&self) -> Option<&Units> {
        self.reader.units()
    }

    /// The model itself.
    pub(super) fn model(&self) -> &ClassifyModel {
        &self.model
    }

    /// What an example is called, and what it is a set of; many of each.
    pub fn nouns(&self) -> (&'static str, &'static str) {
        nouns(&self.recipe)
    }

    /// Whether `label` is one of those that it gives.
    pub fn gives(&self, label: &str) -> bool {
        matches!(&self.answers, Answers::Classes(labels) if labels.id(label).is_some())
    }

    /// Whether it answers with labels, not with numbers.
    pub(super) fn gives_labels(&self) -> bool {
        self.recipe.model.task == Task::Classify
    }

    /// Judges the model on examples with their labels or numbers; on those of the part `part` where data has parts.
    ///
    /// # Errors
    /// If the data cannot be read, or has no label that the model gives.
    pub fn evaluate(&self, data: &str, part: Part, kind: FileKind) -> Result<Judgement> {
        let (mut start, mut warnings) = (Instant::now(), Vec::new());
        let examples = if self.recipe.input.kind == InputKind::Text {
            let texts = read_labelled(data, &self.options(kind, part)?)?;
            // To read a text file is no work of the model's; to decode pictures and sound is a part of it.
            start = Instant::now();
            let encoded = self.reader.texts(&texts.iter().map(|text| &text.text).collect::<Vec<_>>());
            warnings.extend(unknown_warning(data, unknown_texts(&encoded), texts.len()));
            Examples::new(texts, Sets::Texts(encoded), data)
        } else {
            let part = (part, self.parting.as_ref());
            self.reader.read_parted(&kind.of(&self.recipe), data, part, Wants::Labels)?
        };
        let (wanted, told) = self.answers.wanted_of(&examples)?;
        check_longest(&self.recipe, data, 0, examples.sets.lengths())?;
        let outputs = self.outputs(&examples.sets);
        let reached = judge(&outputs, &self.answers, &wanted);
        let seconds = start.elapsed().as_secs_f64();
        let mut remarks = Vec::new();
        if let (Some((confusion, _)), Wanted::Classes { .. }) = (&reached.confusion, &wanted) {
            let noun = self.nouns().0;
            remarks.push(("accuracy", format!("{} of {} {noun}", confusion.right(), confusion.examples())));
        }
        warnings.extend(examples.warnings.iter().cloned());
        warnings.splice(0..0, told);
        let groups: Vec<Option<Group>> = examples.labelled.iter().map(|example| example.group).collect();
        let groups = by_group(&outputs, &self.answers, &wanted, &groups);
        let details = reached.detail().into_iter().chain(groups).collect();
        let mut metrics = reached.metrics;
        metrics.push(("loss", reached.loss));
        let (examples, tokens) = (examples.sets.len(), examples.sets.tokens());
        Ok(Judgement { examples, tokens, metrics, remarks, details, seconds, warnings })
    }

    /// What the model says of each text; `None` of one without a single unit, such as an empty one.
    pub fn predict<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Vec<Option<Prediction<'_>>> {
        self.predict_sets(&Sets::Texts(self.encode(texts)))
    }

    /// The sets that texts become.
    pub(super) fn encode<T: AsRef<str> + Sync>(&self, texts: &[T]) -> EncodedSentences {
        self.reader.texts(texts)
    }

    /// The same for what is sets already.
    pub(super) fn predict_sets(&self, sets: &Sets) -> Vec<Option<Prediction<'_>>> {
        let outputs = self.outputs(sets);
        let rows = outputs.chunks_exact(self.answers.outputs()).zip(sets.lengths());
        rows.map(|(row, length)| (length > 0).then(|| self.prediction(row))).collect()
    }

    /// The same for the sets `indices` alone, which are one batch.
    pub(super) fn predict_some(&self, sets: &Sets, indices: &[usize]) -> Vec<Option<Prediction<'_>>> {
        let found = outputs_of(&self.model, sets, indices);
        found.chunks_exact(self.answers.outputs()).map(|row| Some(self.prediction(row))).collect()
    }

    fn prediction(&self, outputs: &[f32]) -> Prediction<'_> {
        prediction(&self.answers, outputs)
    }

    fn outputs(&self, sets: &Sets) -> Vec<f32> {
        outputs(&self.model, sets, self.answers.outputs(), self.recipe.decoding.batch_tokens)
    }

    /// How files are read, or the part `part` of what the program carries.
    fn options(&self, kind: FileKind, part: Part) -> Result<LabelledOptions> {
        labelled_options(&kind.of(&self.recipe), part)
    }

    /// How files are read of which nothing but the texts is wanted, without blank lines.
    pub(super) fn text_options(&self, kind: FileKind) -> Result<LabelledOptions> {
        Ok(LabelledOptions { need_labels: false, ..self.options(kind, Part::Test)? })
    }

    /// How files are read of which nothing but the texts is wanted.
    pub(super) fn prediction_options(&self, kind: FileKind) -> Result<LabelledOptions> {
        Ok(LabelledOptions { need_labels: false, keep_blank: true, ..self.options(kind, Part::Test)? })
    }
}

/// What the outputs for one example say.
fn prediction<'a>(answers: &'a Answers, outputs: &[f32]) -> Prediction<'a> {
    match answers {
        Answers::Numbers(scale) => Prediction::Value(scale.rounded(outputs[0])),
        Answers::Classes(labels) => Prediction::Label {
            label: labels.name(argmax(outputs)).unwrap_or_default(),
            probabilities: labels.names().iter().map(String::as_str).zip(softmax(outputs)).collect(),
        },
        Answers::Several(targets) => {
            let of = |(target, range): (&'a Target, std::ops::Range<usize>)| {
                (target.name.as_str(), prediction(&target.answers, &outputs[range]))
            };
            Prediction::Several(targets.iter().zip(ranges(targets)).map(of).collect())
        }
    }
}

/// How many sets have units, and all of them unknown. Words with affixes are read by these.
pub(super) fn unknown_texts(encoded: &EncodedSentences) -> usize {
    let words = encoded.batch(&(0..encoded.len()).collect::<Vec<_>>());
    let is_unknown = |set: &usize| {
        let ids = &words.words[words.offsets.range(*set)];
        // The unknown has this id in vocabularies of words as well.
        words.affixes.is_empty() && !ids.is_empty() && ids.iter().all(|&id| id == Codec::UNKNOWN)
    };
    (0..encoded.len()).filter(is_unknown).count()
}

/// What the user should know of texts that the model cannot read.
pub(super) fn unknown_warning(name: &str, unknown: usize, texts: usize) -> Option<String> {
    (unknown > 0).then(|| {
        format!(
            "{name}: in {unknown} of {texts} texts nothing is known from training: is it the right file, language and encoding?"
        )
    })
}

/// Probabilities of logits.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - highest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_large_logits_are_exact() {
        assert_eq!(softmax(&[1e4, 1e4]), [0.5, 0.5]);
        let [low, high] = softmax(&[-1e4, 1e4 - 20.0])[..] else { panic!("two") };
        assert!(low >= 0.0 && high == 1.0);
        assert!((softmax(&[0.0, 3.0_f32.ln()])[1] - 0.75).abs() < 1e-7);
    }

    #[test]
    fn texts_of_unknown_units_alone_are_counted() {
        let encoded = EncodedSentences::from_ids([vec![0, 0], vec![0, 5], vec![], vec![0]]);
        assert_eq!(unknown_texts(&encoded), 2);
        assert_eq!(unknown_warning("x", 0, 4), None);
        assert!(unknown_warning("x", 2, 4).is_some_and(|warning| warning.starts_with("x: in 2 of 4 texts")));
    }
}
