//! A finished model of the task: evaluating, and writing what is said.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use qkv_data::builtin::Part;
use qkv_data::{Codec, plan_following};
use qkv_nn::layers::Init;
use serde_json::{Value, json};

use super::task::{Heard, Targets, codec_of, hear, hear_all, too_short, unknown_warning};
use crate::each::EachModel;
use crate::error::{Result, gone};
use crate::generate::quality;
use crate::input::{Reader, Wants, nouns};
use crate::listen::reach;
use crate::longest::check_longest;
use crate::model::{Judgement, Predicted, Style, Watch};
use crate::model_dir::ModelDir;
use crate::recipe::Recipe;

/// A model with what it needs to be used.
#[derive(Debug)]
pub struct Transcriber {
    pub(super) recipe: Recipe,
    pub(super) reader: Reader,
    pub(super) codec: Codec,
    pub(super) model: EachModel,
}

impl Transcriber {
    /// Reads what is in a model directory, to be used as `recipe` says. `vocab` is the content of its `vocab.json`.
    pub(crate) fn read(dir: &ModelDir, recipe: Recipe, vocab: &Value) -> Result<Self> {
        let reader = Reader::from_json(&recipe, vocab).map_err(|e| dir.broken("vocab.json", &e))?;
        let codec = codec_of(vocab).map_err(|e| dir.broken("vocab.json", &e.to_string()))?;
        let model = EachModel::new(&recipe, &reader.sizes(), codec.len(), &Init::new(0, &Device::flex()));
        let model = dir.weights()?.apply(model).map_err(|e| dir.broken("model.safetensors", &e))?;
        Ok(Self { recipe, reader, codec, model: model.valid() })
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Judges the model on recordings and what is said in them; on those of the part `part` where data has parts.
    ///
    /// # Errors
    /// If the data cannot be read.
    pub fn evaluate(&self, data: &str, part: Part) -> Result<Judgement> {
        let start = Instant::now();
        let examples = self.reader.read(&self.recipe, data, part, Wants::Texts)?;
        check_longest(&self.recipe, data, 0, examples.sets.lengths())?;
        let targets = Targets::of(&self.codec, &examples.labelled);
        let short = too_short(&self.recipe, &examples, &targets)?;
        let decoding = &self.recipe.decoding;
        let how = (&self.codec, decoding.beam, decoding.batch_tokens);
        let (texts, loss) = hear_all(&self.model, &examples.sets, &targets, how);
        let wanted: Vec<String> = examples.labelled.iter().map(|text| text.label.clone().unwrap_or_default()).collect();
        let mut metrics = quality(&self.recipe, &texts, &wanted);
        metrics.push(("loss", loss));
        Ok(Judgement {
            examples: examples.sets.len(),
            tokens: examples.sets.tokens(),
            metrics,
            remarks: Vec::new(),
            details: Vec::new(),
            seconds: start.elapsed().as_secs_f64(),
            warnings: unknown_warning(&targets, data).into_iter().chain(short).collect(),
        })
    }

    /// Writes what is said in each recording of `source`, a line for each. Of `-`, sound from standard input, units are written as
    /// they are heard, where no vector depends on all others and nothing is searched for.
    ///
    /// # Errors
    /// If the source cannot be read; what was heard before is written. If `out` refuses, unless its reader has gone, which ends the
    /// work in peace.
    pub fn predict_stream(
        &self,
        source: &str,
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        // Where the end has to be known, it is waited for.
        if let Some(reach) = reach(&self.recipe).filter(|_| source == "-" && self.recipe.decoding.beam == 1) {
            return self.listen(reach, style, out, stop, watch);
        }
        let decoding = &self.recipe.decoding;
        let mut done = Predicted::default();
        for examples in self.reader.pieces(&self.recipe, source)? {
            let examples = examples?;
            let lengths = examples.sets.lengths();
            check_longest(&self.recipe, source, done.examples, lengths.iter().copied())?;
            for numbers in plan_following(&lengths, decoding.batch_tokens) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(done);
                }
                let (heard, _) = hear(&self.model, (&examples.sets, &numbers), None, (&self.codec, decoding.beam));
                let names = numbers.iter().map(|&number| examples.labelled[number].text.as_str());
                if gone(write_all(names.zip(&heard), style, out))? {
                    return Ok(done);
                }
                done.examples += numbers.len();
                done.tokens += numbers.iter().map(|&number| lengths[number]).sum::<usize>();
                watch(done.examples, done.tokens);
            }
        }
        Ok(done)
    }

    /// What an example is called, and what it is a set of; many of each.
    pub fn nouns(&self) -> (&'static str, &'static str) {
        nouns(&self.recipe)
    }
}

fn write_all<'a>(
    heard: impl Iterator<Item = (&'a str, &'a Heard)>,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    for (name, Heard { text, log_probability }) in heard {
        match style {
            // A line for a recording, whatever was heard.
            Style::Same => writeln!(out, "{}", text.replace(['\n', '\r'], " "))?,
            Style::Json => {
                let line = json!({ "file": name, "text": text, "log_probability": log_probability });
                writeln!(out, "{line}")?;
            }
        }
    }
    out.flush()
}
