//! A finished language model: evaluating, and going on with a text.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use qkv::random::Key;
use qkv_data::{Codec, PairFormat, Unit, read_text};
use qkv_nn::layers::{DecoderState, Init};
use serde_json::{Value, json};

use super::GenerateModel;
use super::judge::{judge, unknown_warning};
use super::sample::Sampling;
use super::task::{noun, sizes};
use crate::error::{Error, Result};
use crate::model::{FileKind, Judgement};
use crate::model_dir::ModelDir;
use crate::recipe::{Recipe, Strategy};

/// Keeps the draws of units apart from those of training.
const SAMPLING_STREAM: u64 = 0x5A3E;

/// A model with what it needs to be used.
#[derive(Debug)]
pub struct Generator {
    recipe: Recipe,
    codec: Codec,
    model: GenerateModel,
}

/// The content of `vocab.json`.
pub(super) fn vocab_json(codec: &Codec) -> Vec<u8> {
    serde_json::to_vec(&json!({ "text": codec.to_json() })).expect("units are strings")
}

impl Generator {
    /// Reads what is in a model directory, to be used as `recipe` says. `vocab` is the content of its `vocab.json`.
    pub(crate) fn read(dir: &ModelDir, recipe: Recipe, vocab: &Value) -> Result<Self> {
        check_strategy(&recipe)?;
        let codec = Codec::from_json(&vocab["text"]).map_err(|e| dir.broken("vocab.json", &e.to_string()))?;
        let model = GenerateModel::new(&recipe, sizes(&codec), &Init::new(0, &Device::flex()));
        let model = dir.weights()?.apply(model).map_err(|e| dir.broken("model.safetensors", &e))?;
        Ok(Self { recipe, codec, model: model.valid() })
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// How texts become ids.
    pub(super) fn codec(&self) -> &Codec {
        &self.codec
    }

    /// The model itself.
    pub(super) fn model(&self) -> &GenerateModel {
        &self.model
    }

    /// Judges the model on a text, as it is judged on the dev text in training.
    ///
    /// # Errors
    /// If the text cannot be read or is of less than two units.
    pub fn evaluate(&self, data: &str, kind: FileKind) -> Result<Judgement> {
        check_format(kind.format)?;
        let text = read_text(data, self.encoding(kind).as_deref())?;
        let (ids, unknown) = (self.codec.encode(&text), self.codec.unknown(&text));
        check_judgeable(data, ids.len())?;
        let start = Instant::now();
        let reached = judge(&self.model, &ids, self.recipe.model.context, self.recipe.decoding.batch_tokens);
        let characters = self.codec.decode(&ids[1..]).chars().count();
        Ok(Judgement {
            examples: reached.windows,
            tokens: reached.tokens,
            metrics: [vec![("loss", reached.loss)], reached.metrics(characters)].concat(),
            remarks: Vec::new(),
            details: Vec::new(),
            seconds: start.elapsed().as_secs_f64(),
            warnings: unknown_warning(data, &unknown, noun(&self.codec)).into_iter().collect(),
        })
    }

    /// What follows `prompt`, `decoding.max_length` units one at a time, drawn by the seed for the prompt of this `number`.
    ///
    /// Each comes from at most the last `model.context` units before it and at least half as many, if there are so many; an empty
    /// prompt is taken for the beginning of a line. Prompts are gone on with one by one, not in batches, and each draws from a
    /// stream of its own: so what follows one depends on nothing but itself, its number, and the seed.
    pub(super) fn pieces(&self, prompt: &str, number: u64) -> impl Iterator<Item = String> + '_ {
        let sampling = Sampling::of(&self.recipe.decoding);
        let key = Key::new(self.recipe.training.seed).fold(SAMPLING_STREAM).fold(number);
        let mut text = Text::new(self, prompt);
        (0..self.recipe.decoding.max_length as u64).map(move |step| {
            // Neither the unknown nor the beginning or the end of a text can be written.
            let (id, _) = sampling.choose(&text.vocab_logits(), Codec::FIRST as usize, key.uniform(step));
            text.push(id)
        })
    }

    /// What the user should know of prompt `number`: that the model does not know some of its units.
    pub(super) fn unknown_in_prompt(&self, source: &str, prompt: &str, number: u64) -> Option<String> {
        let unknown = self.codec.unknown(prompt);
        let first = &unknown.first()?.text;
        let count: usize = unknown.iter().map(|unknown| unknown.count).sum();
        let noun = if noun(&self.codec) == "words" { "words" } else { "characters" };
        Some(format!(
            "{source}: prompt {number}: {count} {noun} are unknown to the model and read as one and the same (the first {first:?})"
        ))
    }

    /// The encoding of a file: what the user says, else that of the training text.
    pub(super) fn encoding(&self, kind: FileKind) -> Option<String> {
        kind.encoding.map(str::to_string).or_else(|| self.recipe.data.encoding.clone())
    }
}

/// A text that is being written.
struct Text<'a> {
    generator: &'a Generator,
    /// All units, those of the prompt included.
    ids: Vec<u32>,
    /// Where in `ids` those begin that are not shown yet, and of which nothing remains to be seen.
    line: usize,
    /// How much of what `ids[line..]` stands for has been shown, in bytes.
    shown: usize,
    /// What the model knows of the units it has seen, and how many of `ids` those are.
    state: DecoderState,
    seen: usize,
    /// Whether the prompt ends in a space that its units do not hold: it is that before the next word.
    after_space: bool,
}

/// What a subword begins with that stands at the beginning of a word.
const WORD_BEGINS: char = '▁';

impl<'a> Text<'a> {
    fn new(generator: &'a Generator, prompt: &str) -> Self {
        let codec = &generator.codec;
        let mut ids = codec.encode(if prompt.is_empty() { "\n" } else { prompt });
        if ids.is_empty() {
            // Units without ends of lines, or a prompt of spaces alone.
            ids.push(Codec::BEGIN);
        }
        let shown = codec.decode(&ids).len();
        let seen = ids.len().saturating_sub(generator.recipe.model.context);
        let after_space = match codec.unit() {
            Unit::Characters => false,
            Unit::Words => prompt.ends_with(char::is_whitespace),
            Unit::Bpe | Unit::Unigram => prompt.ends_with(' '),
        };
        Self { generator, ids, line: 0, shown, state: generator.model.begin(None, 1), seen, after_space }
    }

    /// Logits of what follows. What the model has seen is kept, so that a step costs what a look at it costs; when the context is
    /// full, it begins again with the later half.
    fn vocab_logits(&mut self) -> Vec<f32> {
        let (model, context) = (&self.generator.model, self.generator.recipe.model.context);
        if self.state.position() >= context {
            self.state = model.begin(None, 1);
            self.seen = self.ids.len() - context.div_ceil(2).min(self.ids.len());
        }
        let mut vocab_logits = Vec::new();
        for &id in &self.ids[self.seen..] {
            vocab_logits = model.step(&[id], &mut self.state);
        }
        self.seen = self.ids.len();
        if self.after_space && matches!(self.generator.codec.unit(), Unit::Bpe | Unit::Unigram) {
            // Behind a space no word goes on.
            let begins = |unit: &str| unit.starts_with(|c: char| c == WORD_BEGINS || c.is_whitespace());
            for (id, logit) in (0..).zip(&mut vocab_logits) {
                if !self.generator.codec.unit_text(id).is_some_and(begins) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        vocab_logits
    }

    /// One more unit; returns what is to be shown of it.
    fn push(&mut self, id: u32) -> String {
        /// Units from which the text on is put together anew.
        const LINE: usize = 64;
        self.ids.push(id);
        let text = self.generator.codec.decode(&self.ids[self.line..]);
        let new = text.get(self.shown..).unwrap_or_default();
        let new =
            new.strip_prefix(if std::mem::take(&mut self.after_space) { " " } else { "" }).unwrap_or(new).to_string();
        self.shown = text.len();
        if self.ids.len() - self.line > LINE {
            // One unit stays, for what stands between it and the next.
            self.line = self.ids.len() - 1;
            self.shown = self.generator.codec.decode(&self.ids[self.line..]).len();
        }
        new
    }
}

/// Checks that what comes next is drawn: a beam searches for the likeliest whole text, and here none comes to an end.
pub(super) fn check_strategy(recipe: &Recipe) -> Result<()> {
    match recipe.decoding.strategy {
        Some(Strategy::Beam) => Err(Error::Recipe(
            "decoding.strategy = \"beam\" is for a model that writes from what it reads: leave it out, and set decoding.temperature = 0 for the likeliest"
                .into(),
        )),
        _ => Ok(()),
    }
}

/// Checks that a file's format, where one is named, is plain text.
pub(super) fn check_format(format: Option<&str>) -> Result<()> {
    match format.map(str::parse::<PairFormat>).transpose().map_err(|e| Error::Recipe(e.to_string()))? {
        None | Some(PairFormat::Text) => Ok(()),
        Some(other) => Err(Error::Recipe(format!(
            "data.format: \"{other}\" is a format of pairs, and what this model goes on with is plain text: leave it out, or give \"text\""
        ))),
    }
}

/// Checks that a text is long enough for something in it to be predicted.
///
/// # Errors
/// If it is not.
pub(super) fn check_judgeable(source: &str, units: usize) -> Result<()> {
    if units < 2 {
        return Err(Error::Training(format!(
            "{source}: {units} units of text are too few to judge a model by, which says each from those before it; give at least 2"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use qkv_data::CodecOptions;

    const TEXT: &str = "the old stone fell, and the other stones fell.\nthe cat sat on the stone.\n";

    fn generator(unit: Unit) -> Generator {
        let mut recipe = Recipe::default();
        for assignment in ["model.task=generate", "model.d_model=8", "model.heads=2", "model.layers=1"] {
            recipe.set(assignment).expect(assignment);
        }
        let codec = Codec::train([TEXT], &CodecOptions { unit, size: 40, ..CodecOptions::default() }).expect("units");
        let model = GenerateModel::new(&recipe, sizes(&codec), &Init::new(1, &Device::flex()));
        Generator { recipe, codec, model }
    }

    /// What is shown behind `prompt` when the units of `text` are pushed.
    fn shown(generator: &Generator, prompt: &str, ids: &[u32]) -> String {
        let mut written = Text::new(generator, prompt);
        ids.iter().map(|&id| written.push(id)).collect()
    }

    #[test]
    fn prompt_and_continuation_are_the_text_that_they_are_units_of() {
        // Long enough that the text is put together anew several times.
        let whole = TEXT.repeat(8);
        for (unit, prompt) in [
            (Unit::Words, "the old"),
            (Unit::Words, "the old stone fell, and"),
            (Unit::Bpe, "the old stone"),
            (Unit::Bpe, "the old stone fell"),
            (Unit::Characters, "the old st"),
            (Unit::Characters, "the old "),
        ] {
            let generator = generator(unit);
            let (ids, begun) = (generator.codec.encode(&whole), generator.codec.encode(prompt));
            assert_eq!(ids[..begun.len()], begun, "the prompt is the beginning");
            let found = format!("{prompt}{}", shown(&generator, prompt, &ids[begun.len()..]));
            assert_eq!(found, generator.codec.decode(&ids), "{unit}");
        }
    }

    #[test]
    fn a_space_that_the_prompt_ends_in_is_the_one_before_the_next_word() {
        for unit in [Unit::Words, Unit::Bpe] {
            let generator = generator(unit);
            let ids = generator.codec.encode("the cat sat");
            for (prompt, wanted) in [
                ("stone", " the cat sat"),
                ("stone ", "the cat sat"),
                ("stone  ", "the cat sat"),
                ("   ", "the cat sat"),
            ] {
                assert_eq!(shown(&generator, prompt, &ids), wanted, "{unit} {prompt:?}");
            }
        }
        // Characters hold every space.
        let generator = generator(Unit::Characters);
        let ids = generator.codec.encode(" the");
        assert_eq!(shown(&generator, "stone ", &ids), " the");
    }

    #[test]
    fn behind_a_space_no_word_goes_on() {
        let generator = generator(Unit::Bpe);
        let begins = |id: usize| {
            let unit = generator.codec.unit_text(id as u32).expect("an id");
            unit.starts_with(WORD_BEGINS) || unit == "\n"
        };
        let mut text = Text::new(&generator, "the ");
        let logits = text.vocab_logits();
        let allowed = |id: usize| logits[id] > f32::NEG_INFINITY;
        assert!((0..logits.len()).all(|id| allowed(id) == begins(id)) && (0..logits.len()).any(allowed));
        text.push(generator.codec.encode("cat")[0]);
        assert!(text.vocab_logits().iter().all(|logit| logit.is_finite()), "then anything may");
        assert!(Text::new(&generator, "the").vocab_logits().iter().all(|logit| logit.is_finite()));
    }

    #[test]
    fn an_empty_prompt_begins_a_line() {
        for unit in Unit::ALL {
            let generator = generator(unit);
            let ids = generator.codec.encode(if unit == Unit::Characters { "cat" } else { "the cat" });
            let wanted = generator.codec.decode(&ids);
            // Behind the end of a line a subword shows the space that it begins with.
            assert_eq!(shown(&generator, "", &ids).trim_start(), wanted, "{unit}");
        }
    }

    #[test]
    fn of_a_long_prompt_the_model_sees_the_end() {
        let mut generator = generator(Unit::Characters);
        generator.recipe.model.context = 6;
        let logits = |prompt: &str| Text::new(&generator, prompt).vocab_logits();
        assert_eq!(logits(&format!("{}cat sat", TEXT.repeat(3))), logits("cat sat"));
        assert_ne!(logits("cat sat"), logits("cat set"));
        // Full, it goes on with the later half.
        let mut text = Text::new(&generator, "cat sat");
        text.vocab_logits();
        text.push(generator.codec.encode("e")[0]);
        assert_eq!(text.vocab_logits(), logits("ate"));
    }
}
