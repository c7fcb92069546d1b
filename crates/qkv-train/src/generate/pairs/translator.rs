//! A finished model that writes from what it has read: evaluating and writing.

use std::ops::Range;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use qkv_data::builtin::Part;
use qkv_data::{Codec, PairOptions, read_pairs};
use qkv_nn::layers::Init;
use serde_json::{Value, json};

use super::data::{Codecs, EncodedPairs, Sequences, Sources, texts};
use super::judge::{Decoding, Written, judge_loss, quality, write_all};
use super::task::{pair_options, unknown_warnings};
use crate::error::{Error, Result};
use crate::generate::GenerateModel;
use crate::input::{Reader, Wants, nouns};
use crate::longest::check_longest;
use crate::model::{Detail, FileKind, Judgement};
use crate::model_dir::ModelDir;
use crate::recipe::{Recipe, Unit};

/// A model with what it needs to be used.
#[derive(Debug)]
pub struct Translator {
    recipe: Recipe,
    codecs: Codecs,
    model: GenerateModel,
}

/// A text that was written from another, from a picture or from a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Translation {
    /// The text.
    pub text: String,
    /// Its units.
    pub units: usize,
    /// The logarithm of its probability, its end included.
    pub log_probability: f64,
    /// Whether it came to its end, or to `decoding.max_length`.
    pub complete: bool,
}

impl Translation {
    /// What is made of nothing.
    pub(super) fn nothing() -> Self {
        Self { text: String::new(), units: 0, log_probability: 0.0, complete: true }
    }
}

/// What a model is judged on.
struct Known {
    pairs: EncodedPairs,
    /// The texts that are read; `None` where what is read is no text.
    read: Option<Vec<String>>,
    /// The texts that are to be written.
    wanted: Vec<String>,
}

/// Lengths, in words, that results are told apart by: from one to before the next.
const LENGTHS: [usize; 6] = [1, 6, 11, 16, 21, 31];

impl Translator {
    /// Reads what is in a model directory, to be used as `recipe` says. `vocab` is the content of its `vocab.json`.
    pub(crate) fn read(dir: &ModelDir, recipe: Recipe, vocab: &Value) -> Result<Self> {
        let codecs = Codecs::from_json(&recipe, vocab).map_err(|e| dir.broken("vocab.json", &e))?;
        let model = GenerateModel::new(&recipe, codecs.sizes(), &Init::new(0, &Device::flex()));
        let model = dir.weights()?.apply(model).map_err(|e| dir.broken("model.safetensors", &e))?;
        Ok(Self { recipe, codecs, model: model.valid() })
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// What an example is called, and what it becomes a sequence of; many of each.
    pub fn nouns(&self) -> (&'static str, &'static str) {
        (nouns(&self.recipe).0, "units")
    }

    /// How texts that are read become ids; `None` where what is read is no text.
    pub(in crate::generate) fn source_codec(&self) -> Option<&Codec> {
        self.codecs.source()
    }

    /// How files of pictures or recordings become sets; `None` where what is read is text.
    pub(super) fn reader(&self) -> Option<&Reader> {
        self.codecs.reader()
    }

    /// The model itself.
    pub(in crate::generate) fn model(&self) -> &GenerateModel {
        &self.model
    }

    /// Judges the model on pairs: what it thinks of the right texts, and how near to them is what it writes. Of pictures and
    /// recordings those of the part `part` are read, where data has parts.
    ///
    /// # Errors
    /// If the pairs cannot be read.
    pub fn evaluate(&self, paths: &[String], part: Part, kind: FileKind) -> Result<Judgement> {
        let name = paths.join(" and ");
        let Known { pairs: encoded, read, wanted } = self.read_known(paths, part, kind)?;
        let start = Instant::now();
        check_longest(&self.recipe, &name, 0, encoded.sources.lengths())?;
        let reached = judge_loss(&self.model, &encoded, self.recipe.decoding.batch_tokens);
        let written = self.translations(&encoded, &|| false);
        let texts: Vec<String> =
            written.iter().map(|all| all.first().map_or_else(String::new, |best| best.text.clone())).collect();
        let mut metrics = quality(&self.recipe, &texts, &wanted);
        metrics.extend([("loss", reached.loss), ("perplexity", reached.loss.exp()), ("accuracy", reached.accuracy)]);
        let mut warnings = unknown_warnings(&encoded, &name);
        warnings.extend(self.limit_warning(&name, written.iter().flatten()));
        Ok(Judgement {
            examples: wanted.len(),
            tokens: reached.tokens,
            metrics,
            remarks: Vec::new(),
            details: self.by_length(read.as_deref(), &texts, &wanted).into_iter().collect(),
            seconds: start.elapsed().as_secs_f64(),
            warnings,
        })
    }

    /// Reads what the model is to be judged on.
    fn read_known(&self, paths: &[String], part: Part, kind: FileKind) -> Result<Known> {
        if let Some(reader) = self.reader() {
            let [path] = paths else {
                return Err(Error::Recipe(format!(
                    "{}: this model is judged on one file or folder of {}; two are for parallel text",
                    paths.join(" and "),
                    self.nouns().0
                )));
            };
            let examples = reader.read(&self.recipe, path, part, Wants::Texts)?;
            let wanted = texts(&examples).map(str::to_string).collect();
            return Ok(Known { pairs: EncodedPairs::of_sets(&self.codecs, examples), read: None, wanted });
        }
        let pairs = read_pairs(paths, &self.options(kind)?)?;
        if pairs.is_empty() {
            return Err(Error::Training(format!("{}: there is no pair in it", paths.join(" and "))));
        }
        let encoded = EncodedPairs::of(&self.codecs, &pairs);
        let (read, wanted) = pairs.into_iter().map(|pair| (pair.source, pair.target.unwrap_or_default())).unzip();
        Ok(Known { pairs: encoded, read: Some(read), wanted })
    }

    /// Texts as the model reads them.
    ///
    /// # Panics
    /// If what it reads is no text.
    pub(super) fn sources<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Sequences {
        self.codecs.sources(texts)
    }

    /// What is written for each of the `which` of some sources that `first` stand before, best first, as many as the beam is wide. What
    /// is drawn for one depends on its number, and on no other. `stop` ends the work early: those that were not begun have none.
    pub(super) fn translate_from(
        &self,
        first: u64,
        sources: &Sources,
        which: Range<usize>,
        stop: &dyn Fn() -> bool,
    ) -> Vec<Vec<Translation>> {
        write_all(&self.model, sources, which, &Decoding::of(&self.recipe).starting_at(first), stop)
            .into_iter()
            .map(|texts| texts.into_iter().map(|text| self.decoded(text)).collect())
            .collect()
    }

    fn translations(&self, pairs: &EncodedPairs, stop: &dyn Fn() -> bool) -> Vec<Vec<Translation>> {
        let written = write_all(&self.model, &pairs.sources, 0..pairs.sources.len(), &Decoding::of(&self.recipe), stop);
        let best = |texts: Vec<Written>| texts.into_iter().take(1).map(|text| self.decoded(text)).collect();
        written.into_iter().map(best).collect()
    }

    fn decoded(&self, text: Written) -> Translation {
        let Written { ids, log_probability, complete } = text;
        Translation { text: self.codecs.target().decode(&ids), units: ids.len(), log_probability, complete }
    }

    /// What the user should know of texts that were not brought to an end.
    pub(super) fn limit_warning<'a>(
        &self,
        name: &str,
        written: impl Iterator<Item = &'a Translation>,
    ) -> Option<String> {
        let (mut all, mut cut) = (0, 0);
        for text in written {
            all += 1;
            cut += usize::from(!text.complete);
        }
        let limit = self.recipe.decoding.max_length;
        (cut > 0).then(|| {
            format!("{name}: {cut} of {all} texts had not come to an end at decoding.max_length = {limit} and were cut there")
        })
    }

    /// Quality by the length of what was read, or of what is wanted where it is no text: the table that tells one vector for a whole
    /// set from attention.
    fn by_length(&self, read: Option<&[String]>, texts: &[String], wanted: &[String]) -> Option<Detail> {
        let input = &self.recipe.input;
        let (measured, unit, of) = match read {
            Some(read) => (read, input.unit, "what is read"),
            None => (wanted, input.target_unit.unwrap_or(input.unit), "what is wanted"),
        };
        let length = |text: &str| match unit {
            Unit::Characters => text.chars().count(),
            _ => text.split_whitespace().count(),
        };
        let (mut rows, mut lines) = (Vec::new(), String::new());
        for (place, &from) in LENGTHS.iter().enumerate() {
            let to = LENGTHS.get(place + 1).map(|next| next - 1);
            let inside = |text: &str| length(text) >= from && to.is_none_or(|to| length(text) <= to);
            let chosen: Vec<usize> = (0..measured.len()).filter(|&i| inside(&measured[i])).collect();
            if chosen.is_empty() {
                continue;
            }
            let these = |all: &[String]| chosen.iter().map(|&i| all[i].clone()).collect::<Vec<_>>();
            let metrics = quality(&self.recipe, &these(texts), &these(wanted));
            let range = to.map_or_else(|| format!("{from} or more"), |to| format!("{from} to {to}"));
            let shown: String = metrics.iter().map(|(name, value)| format!("  {name} {value:.4}")).collect();
            lines += &format!("  {range:<12} {:>6} examples{shown}\n", chosen.len());
            let mut row = json!({ "from": from, "to": to, "examples": chosen.len() });
            for (name, value) in metrics {
                row[name] = value.into();
            }
            rows.push(row);
        }
        (rows.len() > 1).then(|| Detail {
            name: "by_length",
            json: Value::Array(rows),
            text: format!("by length of {of}\n{lines}"),
        })
    }

    /// How files are read.
    fn options(&self, kind: FileKind) -> Result<PairOptions> {
        let mut recipe = self.recipe.clone();
        // The format of the training data says nothing of this file's; its encoding is likely to be.
        recipe.data.format = kind.format.map(str::to_string);
        recipe.data.encoding = kind.encoding.map(str::to_string).or(recipe.data.encoding);
        pair_options(&recipe)
    }

    /// How files without targets are read.
    pub(in crate::generate) fn source_options(&self, kind: FileKind) -> Result<PairOptions> {
        Ok(PairOptions { need_targets: false, ..self.options(kind)? })
    }
}
