//! Recommendation: what somebody chooses next, or how well they will like it, from who chose what and when.
//!
//! The input is a file of ratings (`input.unit = "items"`), and the task says what is asked of it:
//!
//! - `generate`, the next item: a user's history is a sequence, and the last two items are held out. [`RecommendTask`]
//!   trains a [`RecommendModel`], [`Recommender`] uses a finished one. Which model, the mixer says: a language model over
//!   items (`attention`, `rnn`, `none`), a vector for each user and item (`factors`), or counts (`popularity`).
//! - `regress`, the rating itself: [`RatingTask`], [`RatingModel`] and [`Rater`], by `factors` alone.
//!
//! What belongs here: from ratings to training examples, the two models of factors, and rankings. Reading ratings does not
//! (`qkv-data`), nor does the language model (`generate/`) or what rankings are judged by (`metrics/`).

mod histories;
mod judge;
mod model;
mod names;
mod predict;
mod rating;
mod recommender;
mod task;

pub use model::{RecommendModel, RecommendSizes};
pub use rating::{Rater, RatingModel, RatingTask};
pub use recommender::{Recommendation, Recommender};
pub use task::RecommendTask;

use crate::error::{Error, Result};
use crate::recipe::{Average, Metric, Mixer, Recipe, Task, Unit};

/// Whether the recipe's input is who chose what, and not texts.
pub fn recommends(recipe: &Recipe) -> bool {
    recipe.input.unit == Unit::Items
}

/// The recipe as it is run: counting takes no second pass, so `popularity` has one epoch whatever else is asked for.
pub fn settled(recipe: &Recipe) -> Recipe {
    let mut recipe = recipe.clone();
    if recommends(&recipe) && recipe.model.mixer == Mixer::Popularity {
        let training = &mut recipe.training;
        (training.epochs, training.steps, training.average) = (1, None, Average::None);
    }
    recipe
}

/// Checks what recommendation asks of a recipe beyond what all tasks do.
fn check(recipe: &Recipe) -> Result<()> {
    recipe.check()?;
    let refuse = |message: &str| Err(Error::Recipe(message.to_string()));
    check_format(recipe.data.format.as_deref())?;
    if recipe.data.dev.is_some() {
        return refuse(match recipe.model.task {
            Task::Regress => {
                "data.dev: of ratings a tenth, drawn by training.seed, is the dev set: leave the key out, and give all ratings as data.train"
            }
            _ => {
                "data.dev: of ratings the last item but one of each user is the dev set: leave the key out, and give all ratings as data.train"
            }
        });
    }
    match (recipe.model.task, recipe.model.mixer, recipe.training.metric) {
        (Task::Regress, Mixer::Factors, _) => Ok(()),
        (Task::Regress, mixer, _) => refuse(&format!(
            "model.mixer = \"{}\": ratings are predicted by model.mixer = \"factors\"; what comes next, by any, with model.task = \"generate\"",
            mixer.name()
        )),
        (_, _, None | Some(Metric::Loss | Metric::Ndcg)) => Ok(()),
        (..) => refuse("training.metric: which epoch recommends best is decided by \"ndcg\" or \"loss\""),
    }
}

/// Checks that a file's format, where one is named, is that of ratings.
fn check_format(format: Option<&str>) -> Result<()> {
    match format {
        None | Some("ratings") => Ok(()),
        Some(other) => Err(Error::Recipe(format!(
            "data.format = \"{other}\": who chose what is read from \"ratings\", a user, an item, and perhaps a rating and a time on each line; leave it out"
        ))),
    }
}
