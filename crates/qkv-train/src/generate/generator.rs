//! A finished language model: evaluating, and going on with a text.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use qkv::Offsets;
use qkv::random::Key;
use qkv_data::{CharacterVocabulary, check_text_format, read_text};
use qkv_nn::attention::Layout;
use qkv_nn::layers::Init;
use serde::{Deserialize, Serialize};

use super::GenerateModel;
use super::judge::{judge, unknown_warning};
use super::sample::Sampling;
use crate::error::{Error, Result};
use crate::model::{FileKind, Judgement};
use crate::model_dir::ModelDir;
use crate::numbers::floats;
use crate::recipe::Recipe;

/// Keeps the draws of characters apart from those of training.
const SAMPLING_STREAM: u64 = 0x5A3E;

/// A model with what it needs to be used.
#[derive(Debug)]
pub struct Generator {
    recipe: Recipe,
    vocabulary: CharacterVocabulary,
    model: GenerateModel,
}

/// What `vocab.json` holds.
#[derive(Serialize, Deserialize)]
struct Vocabularies {
    characters: CharacterVocabulary,
}

/// The content of `vocab.json`.
pub(super) fn vocab_json(characters: &CharacterVocabulary) -> Vec<u8> {
    let vocabularies = Vocabularies { characters: characters.clone() };
    serde_json::to_vec(&vocabularies).expect("characters are characters")
}

impl Generator {
    /// Reads what is in a model directory, to be used as `recipe` says.
    pub(crate) fn read(dir: &ModelDir, recipe: Recipe) -> Result<Self> {
        let content = dir.read("vocab.json")?;
        let Vocabularies { characters: vocabulary } =
            serde_json::from_slice(&content).map_err(|e| dir.broken("vocab.json", &e.to_string()))?;
        let model = GenerateModel::new(&recipe, vocabulary.len(), &Init::new(0, &Device::flex()));
        let model = dir.weights()?.apply(model).map_err(|e| dir.broken("model.safetensors", &e))?;
        Ok(Self { recipe, vocabulary, model: model.valid() })
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Judges the model on a text, as it is judged on the dev text in training.
    ///
    /// # Errors
    /// If the text cannot be read or is of less than two characters.
    pub fn evaluate(&self, data: &str, kind: FileKind) -> Result<Judgement> {
        check_text_format(kind.format)?;
        let text = read_text(data, self.encoding(kind).as_deref())?;
        let (ids, unknown) = self.vocabulary.encode(&text);
        check_judgeable(data, ids.len())?;
        let start = Instant::now();
        let reached = judge(&self.model, &ids, self.recipe.model.context, self.recipe.decoding.batch_tokens);
        Ok(Judgement {
            examples: reached.windows,
            tokens: reached.tokens,
            metrics: [vec![("loss", reached.loss)], reached.metrics()].concat(),
            remarks: Vec::new(),
            seconds: start.elapsed().as_secs_f64(),
            warnings: unknown_warning(data, &unknown).into_iter().collect(),
        })
    }

    /// What follows `prompt`, `decoding.max_length` characters, drawn by the seed for the prompt of this `number`.
    pub fn continuation(&self, prompt: &str, number: u64) -> String {
        self.characters(prompt, number).collect()
    }

    /// The same, one character at a time.
    ///
    /// Each comes from the last `model.context` characters before it; an empty prompt is taken for the beginning of a line.
    /// Prompts are gone on with one by one, not in batches, and each draws from a stream of its own: so what follows one
    /// depends on nothing but itself, its number, and the seed.
    pub(super) fn characters(&self, prompt: &str, number: u64) -> impl Iterator<Item = char> + '_ {
        let decoding = &self.recipe.decoding;
        let sampling = Sampling { temperature: decoding.temperature, top_k: decoding.top_k };
        let key = Key::new(self.recipe.training.seed).fold(SAMPLING_STREAM).fold(number);
        let (mut ids, _) = self.vocabulary.encode(if prompt.is_empty() { "\n" } else { prompt });
        (0..decoding.max_length as u64).map_while(move |step| {
            // The unknown could not be written.
            let first = CharacterVocabulary::UNKNOWN as usize + 1;
            let id = sampling.choose(&self.vocab_logits(&ids), first, key.uniform(step));
            ids.drain(..(ids.len() + 1).saturating_sub(self.recipe.model.context));
            ids.push(id);
            self.vocabulary.character(id)
        })
    }

    /// What the user should know of prompt `number`: that the model does not know some of its characters.
    pub(super) fn unknown_in_prompt(&self, source: &str, prompt: &str, number: u64) -> Option<String> {
        let (_, unknown) = self.vocabulary.encode(prompt);
        let first = unknown.first()?.character;
        let count: usize = unknown.iter().map(|unknown| unknown.count).sum();
        Some(format!(
            "{source}: prompt {number}: {count} characters are unknown to the model and read as one and the same (the first {first:?})"
        ))
    }

    /// Logits of what follows the last `model.context` of `ids`.
    fn vocab_logits(&self, ids: &[u32]) -> Vec<f32> {
        let seen = &ids[ids.len().saturating_sub(self.recipe.model.context)..];
        let layout = Layout::new(Offsets::from_lengths([seen.len()]));
        floats(self.model.forward_last(seen.into(), &layout).into_data())
    }

    /// The encoding of a file: what the user says, else that of the training text.
    pub(super) fn encoding(&self, kind: FileKind) -> Option<String> {
        kind.encoding.map(str::to_string).or_else(|| self.recipe.data.encoding.clone())
    }
}

/// Checks that a text is long enough for something in it to be predicted.
///
/// # Errors
/// If it is not.
pub(super) fn check_judgeable(source: &str, characters: usize) -> Result<()> {
    if characters < 2 {
        return Err(Error::Training(format!(
            "{source}: {characters} characters are too few to judge a model by, which says each from those before it; give at least 2"
        )));
    }
    Ok(())
}
