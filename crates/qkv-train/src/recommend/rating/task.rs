//! From ratings to what the trainer asks of a model of ratings.

use burn::tensor::Tensor;
use qkv::gather::NONE;
use qkv::random::Key;
use qkv_data::builtin::Part;
use qkv_data::{Rating, Ratings, part_of_rating, plan_epoch, read_ratings};
use qkv_nn::layers::{Init, Pass};

use super::model::{RatingBatch, RatingModel};
use super::rater::Rater;
use crate::error::{Error, Result};
use crate::files;
use crate::memory;
use crate::metrics::{mae, rmse};
use crate::recipe::Recipe;
use crate::recommend::names::{Known, Names};
use crate::run::{Count, Prepared};
use crate::tag::BYTES_PER_PARAMETER;
use crate::trainer::{Criterion, Scores, Task};

/// Ratings, ready to be trained on. An example is the number of one.
#[derive(Debug)]
pub struct RatingTask {
    recipe: Recipe,
    known: Known,
    /// The mean of the training ratings.
    offset: f32,
    train: Placed,
    lengths: Vec<usize>,
    dev: Placed,
    warnings: Vec<String>,
}

/// Some ratings in a model's ids; [`NONE`] for what it does not know.
#[derive(Clone, Debug, Default)]
pub(super) struct Placed {
    pub(super) users: Vec<u32>,
    pub(super) items: Vec<u32>,
    pub(super) ratings: Vec<f32>,
}

impl Placed {
    /// Those of `ratings` that `keep` says, by their place.
    pub(super) fn of(known: &Known, ratings: &Ratings, keep: impl Fn(usize) -> bool) -> Self {
        let (users, items) = (known.users.ids_of(&ratings.users), known.items.ids_of(&ratings.items));
        let mut placed = Self::default();
        for (_, rating) in ratings.ratings.iter().enumerate().filter(|(place, _)| keep(*place)) {
            placed.users.push(users[rating.user as usize].unwrap_or(NONE));
            placed.items.push(items[rating.item as usize].unwrap_or(NONE));
            placed.ratings.push(rating.rating);
        }
        placed
    }

    pub(super) fn len(&self) -> usize {
        self.ratings.len()
    }

    /// What the user should know of the ratings in `source`, a line each.
    pub(super) fn warnings(&self, source: &str) -> Vec<String> {
        let sides = [("users", "item", &self.users), ("items", "user", &self.items)];
        let unknown = sides.map(|(what, other, ids)| (what, other, ids.iter().filter(|id| **id == NONE).count()));
        let told = unknown.into_iter().filter(|(.., count)| *count > 0).map(|(what, other, count)| {
            let all = self.len();
            format!("{source}: {count} of {all} ratings are of {what} that never occur in training: what is known of the {other} alone is said of them")
        });
        told.collect()
    }

    /// Root mean squared and mean absolute error of `model`.
    pub(super) fn errors(&self, model: &RatingModel, batch_size: usize) -> (f64, f64) {
        let wide = |numbers: &[f32]| numbers.iter().copied().map(f64::from).collect::<Vec<f64>>();
        let predicted = wide(&qkv::awake(|| model.predict(&self.users, &self.items, batch_size)));
        let wanted = wide(&self.ratings);
        (rmse(&wanted, &predicted), mae(&wanted, &predicted))
    }
}

impl RatingTask {
    /// Reads what the recipe names, and splits it by the seed.
    ///
    /// # Errors
    /// If the recipe names no ratings, or they cannot be read, or are too few to be split, or all the same.
    pub fn prepare(recipe: &Recipe) -> Result<Self> {
        super::super::check(recipe)?;
        let path = recipe.train_path()?;
        Self::from_ratings(recipe, &read_ratings(path, recipe.data.encoding.as_deref())?, path)
    }

    /// The same from ratings in memory; `source` is what messages call them.
    ///
    /// # Errors
    /// If there are too few to be split, or all are the same.
    pub fn from_ratings(recipe: &Recipe, ratings: &Ratings, source: &str) -> Result<Self> {
        super::super::check(recipe)?;
        let parts: Vec<Part> =
            (0..ratings.ratings.len()).map(|place| part_of_rating(place, recipe.training.seed)).collect();
        let of_part = |part: Part| {
            let placed = ratings.ratings.iter().zip(&parts);
            placed.filter(move |(_, of)| **of == part).map(|(rating, _)| rating)
        };
        let (mut users, mut items) = (vec![false; ratings.users.len()], vec![0; ratings.items.len()]);
        let (mut sum, mut count) = (0.0, 0.0);
        for &Rating { user, item, rating, .. } in of_part(Part::Train) {
            users[user as usize] = true;
            items[item as usize] += 1;
            (sum, count) = (sum + f64::from(rating), count + 1.0);
        }
        if count == 0.0 || of_part(Part::Dev).next().is_none() {
            return Err(Error::Training(format!(
                "{source}: {} ratings are too few: of ten about eight are trained on and one is held out for dev and for test each; give more",
                parts.len()
            )));
        }
        let mut values = of_part(Part::Train).map(|rating| rating.rating);
        let first = values.next().unwrap_or_default();
        if values.all(|rating| rating == first) {
            return Err(Error::Training(format!(
                "{source}: all ratings are {first}: there is nothing to predict; give ratings that differ, or ask what comes next with model.task = \"generate\""
            )));
        }
        let least = recipe.input.min_count.max(1);
        let known = Known {
            items: Names::chosen(&ratings.items, |item| items[item] >= least),
            users: Names::chosen(&ratings.users, |user| users[user]),
        };
        let needed = RatingModel::parameter_count(recipe, known.users.len(), known.items.len());
        memory::check(needed.saturating_mul(BYTES_PER_PARAMETER), "lower model.d_model")?;
        let train = Placed::of(&known, ratings, |place| parts[place] == Part::Train);
        let dev = Placed::of(&known, ratings, |place| parts[place] == Part::Dev);
        Ok(Self {
            recipe: recipe.clone(),
            known,
            offset: (sum / count) as f32,
            lengths: vec![1; train.len()],
            train,
            warnings: dev.warnings(source),
            dev,
        })
    }

    /// A finished model with what it needs to be used.
    pub fn rater(&self, model: RatingModel) -> Rater {
        Rater::new(self.recipe.clone(), self.known.clone(), model)
    }
}

impl Prepared for RatingTask {
    fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn counts(&self) -> Vec<Count> {
        vec![
            Count { name: "users", title: "users", number: self.known.users.len() },
            Count { name: "items", title: "items", number: self.known.items.len() },
        ]
    }

    fn tokens(&self) -> [usize; 2] {
        [self.train.len(), self.dev.len()]
    }

    fn vocab_json(&self) -> Vec<u8> {
        self.known.to_json()
    }
}

impl Task for RatingTask {
    type Model = RatingModel;
    type Example = usize;

    fn new_model(&self, init: &Init) -> RatingModel {
        RatingModel::new(&self.recipe, self.known.users.len(), self.known.items.len(), self.offset, init)
    }

    fn plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        let training = &self.recipe.training;
        plan_epoch(&self.lengths, training.batch_tokens, training.seed, epoch as u64)
    }

    fn length(&self, _: &usize) -> usize {
        1
    }

    fn loss(&self, model: &RatingModel, examples: &[usize], key: Key) -> Tensor<1> {
        let batch = RatingBatch {
            users: examples.iter().map(|&place| self.train.users[place]).collect(),
            items: examples.iter().map(|&place| self.train.items[place]).collect(),
            ratings: examples.iter().map(|&place| self.train.ratings[place]).collect(),
        };
        model.loss(&batch, &Pass::training(key))
    }

    fn evaluate(&self, model: &RatingModel) -> Scores {
        let (rmse, mae) = self.dev.errors(model, self.recipe.decoding.batch_tokens);
        Scores { loss: rmse * rmse, metrics: vec![("rmse", rmse), ("mae", mae)] }
    }

    fn criterion(&self) -> Criterion {
        Criterion::Lowest("rmse")
    }

    fn fingerprint(&self) -> String {
        let mut content = self.vocab_json();
        for part in [&self.train, &self.dev] {
            content.extend((part.len() as u64).to_le_bytes());
            content.extend(part.users.iter().chain(&part.items).flat_map(|id| id.to_le_bytes()));
            content.extend(part.ratings.iter().flat_map(|rating| rating.to_le_bytes()));
        }
        files::hash(&content)
    }
}
