//! From ratings to what the trainer asks of a model of what is chosen next.

use burn::tensor::Tensor;
use qkv::random::Key;
use qkv_data::builtin::Part;
use qkv_data::{Ratings, leave_one_out, plan_epoch, read_ratings};
use qkv_nn::layers::{Init, Pass};

use super::histories::{Case, Choices, HeldOut};
use super::judge::Ranking;
use super::model::{LossOptions, RecommendModel, RecommendSizes};
use super::names::{Known, Names};
use super::recommender::Recommender;
use crate::error::{Error, Result};
use crate::files;
use crate::memory;
use crate::recipe::{Metric, Mixer, Recipe};
use crate::run::{Count, Prepared};
use crate::tag::BYTES_PER_PARAMETER;
use crate::trainer::{Criterion, Scores, Task};

/// Histories, ready to be trained on. An example is the number of a history, or of a choice where order does not count.
#[derive(Debug)]
pub struct RecommendTask {
    recipe: Recipe,
    known: Known,
    sizes: RecommendSizes,
    train: Choices,
    lengths: Vec<usize>,
    dev: Vec<Case>,
    warnings: Vec<String>,
}

/// Keeps the draws that hide items apart from those of dropout.
const HIDING_STREAM: u64 = 0xD0D0;

impl RecommendTask {
    /// Reads what the recipe names and numbers items and users.
    ///
    /// # Errors
    /// If the recipe names no ratings, or they cannot be read, or nothing can be held out of them.
    pub fn prepare(recipe: &Recipe) -> Result<Self> {
        super::check(recipe)?;
        let path = recipe.train_path()?;
        Self::from_ratings(recipe, &read_ratings(path, recipe.data.encoding.as_deref())?, path)
    }

    /// The same from ratings in memory; `source` is what messages call them.
    ///
    /// # Errors
    /// If nothing can be held out of them, or no item is chosen `input.min_count` times.
    pub fn from_ratings(recipe: &Recipe, ratings: &Ratings, source: &str) -> Result<Self> {
        super::check(recipe)?;
        let parts = leave_one_out(&ratings.histories());
        let mut counts = vec![0; ratings.items.len()];
        parts.train.iter().flatten().for_each(|&item| counts[item as usize] += 1);
        let least = recipe.input.min_count.max(1);
        let is_known = |item: usize| counts[item] >= least;
        let has_users = recipe.model.mixer == Mixer::Factors;
        let chose = |user: usize| parts.train[user].iter().any(|&item| is_known(item as usize));
        let known = Known {
            items: Names::chosen(&ratings.items, is_known),
            users: Names::chosen(&ratings.users, |user| has_users && chose(user)),
        };
        let train = Choices::of(&known, ratings, &parts);
        if train.items.is_empty() {
            return Err(Error::Training(format!(
                "{source}: no item is chosen input.min_count = {least} times in training: lower input.min_count, or give more ratings"
            )));
        }
        let dev = HeldOut::of(&known, ratings, &parts, Part::Dev);
        if dev.cases.iter().all(|case| case.next.is_none()) {
            return Err(Error::Training(format!(
                "{source}: of no user can an item be held out that training knows: give histories of three items or more, of items that more than one user chose"
            )));
        }
        let count = train.items.len() as f64;
        let shares = train.counts(known.items.len()).into_iter().map(|chosen| chosen as f64 / count).collect();
        let sizes = RecommendSizes { users: known.users.len(), items: known.items.len(), shares };
        let needed = RecommendModel::parameter_count(recipe, &sizes).saturating_mul(BYTES_PER_PARAMETER);
        memory::check(needed, "lower model.d_model, model.d_ff or model.layers")?;
        let context = recipe.model.context;
        let lengths = match recipe.model.mixer {
            Mixer::Factors | Mixer::Popularity => vec![1; train.items.len()],
            _ => (0..train.ends.len()).map(|number| train.history(number).len().min(context)).collect(),
        };
        let warnings = dev.warnings(source, has_users, recipe.decoding.seen);
        Ok(Self { recipe: recipe.clone(), known, sizes, train, lengths, dev: dev.cases, warnings })
    }

    /// A finished model with what it needs to be used.
    pub fn recommender(&self, model: RecommendModel) -> Recommender {
        Recommender::new(self.recipe.clone(), self.known.clone(), model)
    }
}

impl Prepared for RecommendTask {
    fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn counts(&self) -> Vec<Count> {
        vec![
            Count { name: "users", title: "users", number: self.train.ends.len() },
            Count { name: "items", title: "items", number: self.known.items.len() },
        ]
    }

    fn tokens(&self) -> [usize; 2] {
        [self.lengths.iter().sum(), self.dev.len()]
    }

    fn vocab_json(&self) -> Vec<u8> {
        self.known.to_json()
    }
}

impl Task for RecommendTask {
    type Model = RecommendModel;
    type Example = usize;

    fn new_model(&self, init: &Init) -> RecommendModel {
        RecommendModel::new(&self.recipe, &self.sizes, init)
    }

    fn plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        let training = &self.recipe.training;
        plan_epoch(&self.lengths, training.batch_tokens, training.seed, epoch as u64)
    }

    fn length(&self, example: &usize) -> usize {
        self.lengths[*example]
    }

    fn loss(&self, model: &RecommendModel, examples: &[usize], key: Key) -> Tensor<1> {
        let training = &self.recipe.training;
        let smoothing = training.label_smoothing as f32;
        let pass = Pass::training(key);
        let chosen = |of: &[u32]| examples.iter().map(|&choice| of[choice]).collect();
        match model {
            RecommendModel::Sequence(model) => {
                let histories: Vec<&[u32]> = examples.iter().map(|&number| self.train.history(number)).collect();
                let key = key.fold(HIDING_STREAM);
                model.loss(&histories, LossOptions { item_dropout: training.word_dropout, key, smoothing }, &pass)
            }
            RecommendModel::Factors(model) => {
                model.loss(chosen(&self.train.users), chosen(&self.train.items), smoothing, &pass)
            }
            RecommendModel::Popularity(model) => model.loss(chosen(&self.train.items)),
        }
    }

    fn evaluate(&self, model: &RecommendModel) -> Scores {
        let reached = Ranking::of(&self.recipe).judge(model, &self.dev);
        Scores { loss: reached.loss, metrics: reached.metrics() }
    }

    fn criterion(&self) -> Criterion {
        match self.recipe.training.metric {
            Some(Metric::Loss) => Criterion::Lowest("loss"),
            _ => Criterion::Highest("ndcg@10"),
        }
    }

    fn fingerprint(&self) -> String {
        let mut content = self.vocab_json();
        let mut number = |n: u64| content.extend(n.to_le_bytes());
        self.train.ends.iter().for_each(|&end| number(end as u64));
        self.train.items.iter().chain(&self.train.users).for_each(|&id| number(id.into()));
        for case in &self.dev {
            number(case.query.user.map_or(u64::MAX, u64::from));
            number(case.query.history.len() as u64);
            case.query.history.iter().chain(&case.next).for_each(|&item| number(item.into()));
        }
        files::hash(&content)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use qkv_data::builtin::films;

    use super::super::settled;
    use super::*;
    use crate::trainer::{Outcome, train};
    use crate::weights::Weights;

    fn trained(assignments: &[&str]) -> (RecommendTask, Outcome<RecommendModel>) {
        let mut recipe = Recipe::default();
        for assignment in ["model.task=generate", "input.unit=items"].iter().chain(assignments) {
            recipe.set(assignment).expect(assignment);
        }
        let recipe = settled(&recipe);
        let task = RecommendTask::from_ratings(&recipe, &films().ratings, "films").expect("ratings");
        let outcome = train(&task, &recipe, None, &AtomicBool::new(false), &mut ()).expect("a run");
        (task, outcome)
    }

    #[test]
    fn counting_is_not_trained_and_a_vector_for_each_user_says_more() {
        let (task, popularity) = trained(&["model.mixer=popularity", "training.weight_decay=0.5"]);
        let fresh = task.new_model(&Init::new(1, &burn::tensor::Device::flex()));
        assert_eq!(Weights::of(&popularity.model), Weights::of(&fresh), "no step moves it");
        assert_eq!(popularity.history.len(), 1, "there is nothing to do in a second epoch");
        let best = popularity.best.expect("an epoch");
        // The loss of counting is the entropy of the shares.
        let entropy: f64 = task.sizes.shares.iter().map(|share| -share * share.ln()).sum();
        assert!((best.train_loss - entropy).abs() < 1e-4, "{} {entropy}", best.train_loss);

        let settings = ["model.mixer=factors", "model.d_model=8", "training.learning_rate=1e-2", "training.epochs=12"];
        let (_, factors) = trained(&settings);
        let factors = factors.best.expect("an epoch");
        assert!(factors.score > best.score + 0.05, "{} {}", factors.score, best.score);
        assert_eq!((factors.metric.as_str(), best.metric.as_str()), ("ndcg@10", "ndcg@10"));
    }

    #[test]
    fn an_epoch_sees_every_choice_that_is_in_its_context() {
        let mut recipe = Recipe::default();
        for assignment in ["model.task=generate", "input.unit=items", "model.context=20"] {
            recipe.set(assignment).expect(assignment);
        }
        let ratings = films().ratings;
        let all: Vec<usize> = ratings.histories().iter().map(|history| history.len() - 2).collect();
        for (mixer, vectors) in [
            ("attention", all.iter().map(|&length| length.min(20)).sum::<usize>()),
            ("factors", all.iter().sum()),
            ("popularity", all.iter().sum()),
        ] {
            recipe.set(&format!("model.mixer={mixer}")).expect(mixer);
            let task = RecommendTask::from_ratings(&recipe, &ratings, "films").expect("ratings");
            let plan = task.plan(0);
            let planned: usize = plan.iter().flatten().map(|example| task.length(example)).sum();
            assert_eq!((planned, task.tokens()), (vectors, [vectors, 1000]), "{mixer}");
            assert!(plan.iter().all(|batch| batch.iter().map(|one| task.length(one)).sum::<usize>() <= 2000));
        }
    }
}
