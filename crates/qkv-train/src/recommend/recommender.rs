//! A finished model of what is chosen next: judging it, and recommending.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use qkv_data::builtin::Part;
use qkv_data::{leave_one_out, read_ratings};
use qkv_nn::layers::Init;

use super::histories::{HeldOut, Query};
use super::judge::{Ranking, TOP};
use super::model::{RecommendModel, RecommendSizes};
use super::names::Known;
use crate::error::{Error, Result};
use crate::model::{FileKind, Judgement};
use crate::model_dir::ModelDir;
use crate::recipe::Recipe;

/// A model with what it needs to be used.
#[derive(Debug)]
pub struct Recommender {
    recipe: Recipe,
    pub(super) known: Known,
    model: RecommendModel,
}

/// An item that somebody may choose next.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendation {
    /// Its name.
    pub item: String,
    /// How likely it is among all that may be recommended.
    pub probability: f64,
}

impl Recommender {
    pub(super) fn new(recipe: Recipe, known: Known, model: RecommendModel) -> Self {
        Self { recipe, known, model: model.valid() }
    }

    /// Reads what is in a model directory, to be used as `recipe` says.
    pub(crate) fn read(dir: &ModelDir, recipe: Recipe) -> Result<Self> {
        let known = Known::from_json(&dir.read("vocab.json")?).map_err(|e| dir.broken("vocab.json", &e))?;
        let sizes = RecommendSizes { users: known.users.len(), items: known.items.len(), ..RecommendSizes::default() };
        let model = RecommendModel::new(&recipe, &sizes, &Init::new(0, &Device::flex()));
        let model = dir.weights()?.apply(model).map_err(|e| dir.broken("model.safetensors", &e))?;
        Ok(Self::new(recipe, known, model))
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Judges the model by the last item of each user, or for [`Part::Dev`] by the last but one, said from all before it.
    ///
    /// # Errors
    /// If the ratings cannot be read, nothing can be held out of them, or they are to be judged on what was trained on.
    pub fn evaluate(&self, data: &str, part: Part, kind: FileKind) -> Result<Judgement> {
        super::check_format(kind.format)?;
        if part == Part::Train {
            return Err(Error::Recipe(
                "--split train: of what is trained on nothing is held out; give dev, the last item but one of each user, or test, the last".into(),
            ));
        }
        let ratings = read_ratings(data, self.encoding(kind).as_deref())?;
        let start = Instant::now();
        let parts = leave_one_out(&ratings.histories());
        let held_out = HeldOut::of(&self.known, &ratings, &parts, part);
        if held_out.cases.is_empty() {
            return Err(Error::Training(format!(
                "{data}: no user has three items or more, so nothing is held out to judge by: give longer histories"
            )));
        }
        if held_out.cases.iter().all(|case| case.next.is_none()) {
            return Err(Error::Training(format!(
                "{data}: none of the items that are held out was seen in training: is it the right file?"
            )));
        }
        let reached = Ranking::of(&self.recipe).judge(&self.model, &held_out.cases);
        Ok(Judgement {
            examples: held_out.cases.len(),
            tokens: held_out.cases.len(),
            metrics: [reached.metrics(), vec![("loss", reached.loss)]].concat(),
            remarks: Vec::new(),
            details: Vec::new(),
            seconds: start.elapsed().as_secs_f64(),
            warnings: held_out.warnings(data, self.has_users(), self.recipe.decoding.seen),
        })
    }

    /// What is recommended to each, best first: `decoding.top_k` items, ten if that is not given, or as many as there are.
    pub(super) fn recommend(&self, queries: &[&Query]) -> Vec<Vec<Recommendation>> {
        let count = self.recipe.decoding.top_k.unwrap_or(TOP);
        let named = |(item, probability)| Recommendation { item: self.known.items.name(item).into(), probability };
        let answers = Ranking::of(&self.recipe).recommend(&self.model, queries, count);
        answers.into_iter().map(|items| items.into_iter().map(named).collect()).collect()
    }

    /// Whether the model has a vector for each user.
    pub(super) fn has_users(&self) -> bool {
        matches!(self.model, RecommendModel::Factors(_))
    }

    /// The encoding of a file: what the user says, else that of the training data.
    pub(super) fn encoding(&self, kind: FileKind) -> Option<String> {
        kind.encoding.map(str::to_string).or_else(|| self.recipe.data.encoding.clone())
    }
}
