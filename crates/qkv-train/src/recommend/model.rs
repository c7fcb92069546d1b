//! Models of what somebody chooses next: who it is and what they chose so far in, a logit for each item out.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use qkv::Offsets;
use qkv::activation::Activation;
use qkv::gather::NONE;
use qkv_nn::attention::Layout;
use qkv_nn::layers::{Init, Pass};
use qkv_nn::ops::{cross_entropy, gather_sum, linear};

use super::histories::Query;
use crate::generate::{GenerateModel, Vocabularies};
use crate::numbers::floats;
use crate::recipe::{Mixer, Recipe};
use crate::tag::hidden;

/// How many items and users there are, and how often each item was chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecommendSizes {
    /// Users that get a vector.
    pub users: usize,
    /// Items.
    pub items: usize,
    /// The share of each item in all choices, where biases begin; empty for a model whose parameters are read.
    pub shares: Vec<f64>,
}

impl RecommendSizes {
    /// The logarithms of the shares: logits that say what is popular.
    fn log_shares(&self) -> Vec<f32> {
        match self.shares.is_empty() {
            true => vec![0.0; self.items],
            false => self.shares.iter().map(|share| share.ln() as f32).collect(),
        }
    }
}

/// A model of what is chosen next.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, and it is never moved about")]
pub enum RecommendModel {
    /// A language model over items.
    Sequence(SequenceModel),
    /// A vector for each user and for each item.
    Factors(FactorModel),
    /// How often each item was chosen.
    Popularity(PopularityModel),
}

/// A language model whose words are items. Behind the last item's id comes one for the beginning of a history.
#[derive(Module, Debug)]
pub struct SequenceModel {
    decoder: GenerateModel,
    #[module(skip)]
    items: usize,
    #[module(skip)]
    context: usize,
}

/// `logit(item | user) = user · item + bias(item)`; the logit of an item to somebody unknown is its bias.
#[derive(Module, Debug)]
pub struct FactorModel {
    users: Param<Tensor<2>>,
    items: Param<Tensor<2>>,
    item_bias: Param<Tensor<1>>,
    #[module(skip)]
    dropout: f32,
}

/// `logit(item) = ln(share of the item in all choices)`.
#[derive(Module, Debug)]
pub struct PopularityModel {
    log_shares: Param<Tensor<1>>,
}

impl RecommendModel {
    /// A model with fresh parameters.
    pub fn new(recipe: &Recipe, sizes: &RecommendSizes, init: &Init) -> Self {
        let (d_model, deviation) = (recipe.model.d_model, recipe.input.embedding_deviation as f32);
        let bias = |init: &Init| init.values(sizes.log_shares(), [sizes.items]);
        match recipe.model.mixer {
            Mixer::Factors => Self::Factors(FactorModel {
                users: init.normal([sizes.users, d_model], deviation),
                items: init.normal([sizes.items, d_model], deviation),
                item_bias: bias(init),
                dropout: recipe.training.dropout as f32,
            }),
            Mixer::Popularity => Self::Popularity(PopularityModel { log_shares: bias(init) }),
            _ => Self::Sequence(SequenceModel {
                decoder: GenerateModel::new(recipe, vocabularies(sizes), init),
                items: sizes.items,
                context: recipe.model.context,
            }),
        }
    }

    /// How many numbers [`RecommendModel::new`] would make a model of, without making one.
    pub fn parameter_count(recipe: &Recipe, sizes: &RecommendSizes) -> u128 {
        let [users, items, d_model] = [sizes.users, sizes.items, recipe.model.d_model].map(|n| n as u128);
        match recipe.model.mixer {
            Mixer::Factors => (users + items) * d_model + items,
            Mixer::Popularity => items,
            _ => GenerateModel::parameter_count(recipe, vocabularies(sizes)),
        }
    }

    /// Logits of what each would choose next, `[queries, items]` row by row.
    pub(super) fn item_logits(&self, queries: &[&Query]) -> Vec<f32> {
        match self {
            Self::Sequence(model) => {
                let histories: Vec<Vec<u32>> = queries.iter().map(|query| model.read(&query.history)).collect();
                let offsets = Offsets::from_lengths(histories.iter().map(Vec::len));
                let layout = Layout::new(offsets);
                let logits = model.decoder.forward_last(histories.concat().into(), &layout, &Pass::inference());
                // The beginning of a history is not to be chosen.
                let rows = floats(logits.into_data());
                rows.chunks_exact(model.items + 1).flat_map(|row| &row[..model.items]).copied().collect()
            }
            Self::Factors(model) => {
                let users: Arc<[u32]> = queries.iter().map(|query| query.user.unwrap_or(NONE)).collect();
                floats(model.forward(users, &Pass::inference()).into_data())
            }
            Self::Popularity(model) => floats(model.log_shares.val().into_data()).repeat(queries.len()),
        }
    }
}

/// A language model reads nothing; it writes items, and is shown the beginning of a history beside them.
fn vocabularies(sizes: &RecommendSizes) -> Vocabularies {
    Vocabularies { source: None, target: sizes.items + 1 }
}

impl SequenceModel {
    /// What is shown to say what follows `history`: its last `model.context` items, or all of it behind a beginning.
    fn read(&self, history: &[u32]) -> Vec<u32> {
        match history.len().checked_sub(self.context) {
            Some(first) => history[first..].to_vec(),
            None => [&[self.items as u32], history].concat(),
        }
    }

    /// The loss of each item of some histories given those before it, of the last `model.context` items of each. A share
    /// of `item_dropout` of what is shown is hidden.
    pub(super) fn loss(&self, histories: &[&[u32]], options: LossOptions, pass: &Pass) -> Tensor<1> {
        let (mut inputs, mut targets, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for history in histories {
            let Some((_, before)) = history.split_last() else { continue };
            let shown = self.read(before);
            targets.extend_from_slice(&history[history.len() - shown.len()..]);
            lengths.push(shown.len());
            inputs.extend(shown);
        }
        let inputs = hidden(&inputs.into(), options.item_dropout, NONE, options.key);
        let logits = self.decoder.forward(inputs, &Layout::new(Offsets::from_lengths(lengths)), None, pass);
        cross_entropy(logits, targets.into(), options.smoothing)
    }
}

/// What a loss depends on beside model and examples.
#[derive(Clone, Copy, Debug)]
pub(super) struct LossOptions {
    /// The share of items that are hidden from a language model.
    pub(super) item_dropout: f64,
    /// What is drawn from which those are.
    pub(super) key: qkv::random::Key,
    /// How much of the target is spread over all items.
    pub(super) smoothing: f32,
}

impl FactorModel {
    fn forward(&self, users: Arc<[u32]>, pass: &Pass) -> Tensor<2> {
        let users = pass.dropout(gather_sum(self.users.val(), users, 1), self.dropout);
        linear(users, self.items.val().transpose(), self.item_bias.val(), Activation::Identity)
    }

    /// The loss of some choices: `items[i]` was chosen by `users[i]`.
    pub(super) fn loss(&self, users: Arc<[u32]>, items: Arc<[u32]>, smoothing: f32, pass: &Pass) -> Tensor<1> {
        cross_entropy(self.forward(users, pass), items, smoothing)
    }
}

impl PopularityModel {
    /// The loss of some choices. Counting has found the least there is, so no parameter gets a gradient.
    pub(super) fn loss(&self, items: Arc<[u32]>) -> Tensor<1> {
        let row = self.log_shares.val().detach().reshape([1, -1]);
        let logits = gather_sum(row, vec![0; items.len()].into(), 1);
        // The trainer asks every loss for its gradient, this one too: a leaf, which nothing is behind.
        cross_entropy(logits, items, 0.0).detach().require_grad()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    const MODELS: [&[&str]; 6] = [
        &["model.mixer=factors"],
        &["model.mixer=popularity"],
        &["model.mixer=attention", "model.heads=2", "model.context=4"],
        &["model.mixer=attention", "model.heads=2", "model.tied=true", "model.positions=learned"],
        &["model.mixer=rnn", "model.positions=none"],
        &["model.mixer=none", "model.positions=none"],
    ];

    fn recipe(assignments: &[&str]) -> Recipe {
        let mut recipe = Recipe::default();
        for assignment in ["model.task=generate", "input.unit=items", "model.d_model=8"].iter().chain(assignments) {
            recipe.set(assignment).expect(assignment);
        }
        super::super::check(&recipe).expect("a recipe that can be");
        recipe
    }

    fn sizes() -> RecommendSizes {
        RecommendSizes { users: 3, items: 5, shares: vec![0.1, 0.2, 0.3, 0.1, 0.3] }
    }

    fn model(recipe: &Recipe) -> RecommendModel {
        RecommendModel::new(recipe, &sizes(), &Init::new(1, &Device::flex()))
    }

    fn query(user: Option<u32>, history: &[u32]) -> Query {
        Query { user, history: history.to_vec() }
    }

    #[test]
    fn parameters_are_counted_without_making_them() {
        for assignments in MODELS {
            let recipe = recipe(assignments);
            let counted = RecommendModel::parameter_count(&recipe, &sizes());
            assert_eq!(counted, model(&recipe).num_params() as u128, "{assignments:?}");
        }
    }

    #[test]
    fn each_query_is_answered_for_itself() {
        for assignments in MODELS {
            let model = model(&recipe(assignments));
            let queries = [query(Some(0), &[1, 2]), query(None, &[]), query(Some(2), &[4, 3, 2, 1, 0, 1])];
            let together = model.item_logits(&queries.iter().collect::<Vec<_>>());
            let alone: Vec<f32> = queries.iter().flat_map(|query| model.item_logits(&[query])).collect();
            assert_eq!(together.len(), 15, "{assignments:?}");
            assert!(together.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5), "{together:?} {alone:?}");
        }
    }

    #[test]
    fn a_stranger_is_told_what_is_popular() {
        for assignments in &MODELS[..2] {
            let logits = model(&recipe(assignments)).item_logits(&[&query(None, &[0, 1])]);
            for (logit, share) in logits.iter().zip(sizes().shares) {
                assert!((f64::from(*logit).exp() - share).abs() < 1e-6, "{logits:?}");
            }
        }
    }

    #[test]
    fn only_the_last_items_of_a_long_history_count() {
        let model = model(&recipe(MODELS[2]));
        let logits = |history: &[u32]| model.item_logits(&[&query(None, history)]);
        assert_eq!(logits(&[0, 1, 1, 2, 3, 4]), logits(&[4, 3, 1, 2, 3, 4]));
        assert_ne!(logits(&[0, 1, 2, 3]), logits(&[0, 1, 2, 4]));
        assert_ne!(logits(&[1, 2, 3]), logits(&[0, 1, 2, 3]));
    }

    #[test]
    fn the_loss_of_a_history_is_that_of_each_item_given_those_before() {
        // A context of 4: of the longer history the last four items are predicted, of the shorter one all three.
        let model = model(&recipe(MODELS[2]));
        let histories: [&[u32]; 2] = [&[0, 1, 2, 3, 4, 0], &[2, 1, 3]];
        let RecommendModel::Sequence(sequence) = &model else { panic!("a language model") };
        let options = LossOptions { item_dropout: 0.0, key: qkv::random::Key::new(1), smoothing: 0.0 };
        let loss = sequence.loss(&histories, options, &Pass::inference()).into_scalar::<f32>();
        let rows = |shown: Vec<u32>| {
            let layout = Layout::new(Offsets::from_lengths([shown.len()]));
            floats(sequence.decoder.forward(shown.into(), &layout, None, &Pass::inference()).into_data())
        };
        let (mut sum, mut count) = (0.0, 0.0);
        for (shown, targets) in [(vec![1, 2, 3, 4], [2, 3, 4, 0].as_slice()), (vec![5, 2, 1], &[2, 1, 3])] {
            for (row, target) in rows(shown).chunks_exact(6).zip(targets) {
                let all: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
                sum += all.ln() - f64::from(row[*target as usize]);
                count += 1.0;
            }
        }
        assert!((f64::from(loss) - sum / count).abs() < 1e-5, "{loss} {}", sum / count);
    }
}
