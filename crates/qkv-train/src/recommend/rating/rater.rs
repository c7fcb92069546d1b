//! A finished model of ratings: judging it, and predicting.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use qkv_data::builtin::Part;
use qkv_data::{part_of_rating, read_ratings};
use qkv_nn::layers::Init;
use serde_json::json;

use super::model::RatingModel;
use super::task::Placed;
use crate::error::{Error, Result};
use crate::model::{FileKind, Judgement, Predicted, Style, Watch};
use crate::model_dir::ModelDir;
use crate::recipe::Recipe;
use crate::recommend::check_format;
use crate::recommend::names::Known;
use crate::recommend::predict::{arrived, field, written};

/// A model with what it needs to be used.
#[derive(Debug)]
pub struct Rater {
    recipe: Recipe,
    known: Known,
    model: RatingModel,
}

impl Rater {
    pub(super) fn new(recipe: Recipe, known: Known, model: RatingModel) -> Self {
        Self { recipe, known, model: model.valid() }
    }

    /// Reads what is in a model directory, to be used as `recipe` says.
    pub(crate) fn read(dir: &ModelDir, recipe: Recipe) -> Result<Self> {
        let known = Known::from_json(&dir.read("vocab.json")?).map_err(|e| dir.broken("vocab.json", &e))?;
        let init = Init::new(0, &Device::flex());
        let model = RatingModel::new(&recipe, known.users.len(), known.items.len(), 0.0, &init);
        let model = dir.weights()?.apply(model).map_err(|e| dir.broken("model.safetensors", &e))?;
        Ok(Self::new(recipe, known, model))
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// What the model has learned of an item, if it knows it.
    pub fn item_vector(&self, name: &str) -> Option<Vec<f32>> {
        let (id, vectors) = (self.known.items.id(name)?, self.model.item_vectors());
        vectors.chunks_exact(self.recipe.model.d_model).nth(id as usize).map(<[f32]>::to_vec)
    }

    /// Judges the model on the ratings of `part`, as the seed of its training parts them.
    ///
    /// # Errors
    /// If the ratings cannot be read, or none of them is in the part.
    pub fn evaluate(&self, data: &str, part: Part, kind: FileKind) -> Result<Judgement> {
        check_format(kind.format)?;
        let ratings = read_ratings(data, self.encoding(kind).as_deref())?;
        let start = Instant::now();
        let seed = self.recipe.training.seed;
        let placed = Placed::of(&self.known, &ratings, |place| part_of_rating(place, seed) == part);
        if placed.len() == 0 {
            let all = ratings.ratings.len();
            return Err(Error::Training(format!(
                "{data}: none of its {all} ratings falls into the part that --split asks for: give more of them"
            )));
        }
        let (rmse, mae) = placed.errors(&self.model, self.recipe.decoding.batch_tokens);
        Ok(Judgement {
            examples: placed.len(),
            tokens: placed.len(),
            metrics: vec![("rmse", rmse), ("mae", mae), ("loss", rmse * rmse)],
            remarks: Vec::new(),
            details: Vec::new(),
            seconds: start.elapsed().as_secs_f64(),
            warnings: self
                .foreign(data, placed.len(), ratings.ratings.len())
                .into_iter()
                .chain(placed.warnings(data))
                .collect(),
        })
    }

    /// What the user should know of a file that is not the one trained on: its parts mean nothing.
    fn foreign(&self, data: &str, judged: usize, all: usize) -> Option<String> {
        let place =
            |path: &str| std::fs::canonicalize(path).map_or_else(|_| path.into(), std::path::PathBuf::into_os_string);
        let trained = self.recipe.train_path().ok().filter(|path| place(path) != place(data))?;
        Some(format!(
            "{data}: it is not the file that was trained on, {trained}; which ratings are judged ({judged} of {all}) is told by their place in that file, and if they stand here in another order most of them were trained on"
        ))
    }

    /// Reads users and items from `source`, a path or `-`, and writes each pair to `out` with the rating that the model
    /// predicts, in their order; ratings that stand there are not looked at.
    ///
    /// # Errors
    /// If the source cannot be read. If `out` refuses, unless its reader has gone, which ends the work in peace.
    pub fn predict_stream(
        &self,
        source: &str,
        kind: FileKind,
        style: Style,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        check_format(kind.format)?;
        let mut done = Predicted::default();
        let Some(ratings) = arrived(source, self.encoding(kind), stop)? else { return Ok(done) };
        let placed = Placed::of(&self.known, &ratings, |_| true);
        let batch = self.recipe.decoding.batch_tokens;
        for (number, chunk) in ratings.ratings.chunks(batch).enumerate() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let range = number * batch..number * batch + chunk.len();
            let users = &placed.users[range.clone()];
            let predicted = qkv::awake(|| self.model.predict(users, &placed.items[range], batch));
            let write_all = || -> io::Result<()> {
                for (rating, predicted) in chunk.iter().zip(predicted) {
                    let (user, item) = (&ratings.users[rating.user as usize], &ratings.items[rating.item as usize]);
                    match style {
                        Style::Same => writeln!(out, "{}\t{}\t{predicted:.4}", field(user), field(item))?,
                        Style::Json => {
                            writeln!(out, "{}", json!({ "user": user, "item": item, "rating": predicted }))?;
                        }
                    }
                }
                out.flush()
            };
            let mut gone = false;
            written(write_all(), &mut gone)?;
            if gone {
                return Ok(done);
            }
            done.examples += chunk.len();
            done.tokens += chunk.len();
            watch(done.examples, done.tokens);
        }
        done.warnings = placed.warnings(source);
        Ok(done)
    }

    /// The encoding of a file: what the user says, else that of the training data.
    fn encoding(&self, kind: FileKind) -> Option<String> {
        kind.encoding.map(str::to_string).or_else(|| self.recipe.data.encoding.clone())
    }
}
