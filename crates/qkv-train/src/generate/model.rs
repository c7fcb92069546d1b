//! Characters in, for each place one row of logits for what comes next.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::activation::Activation;
use qkv_nn::attention::Layout;
use qkv_nn::layers::{Encoder, Init, Linear, Pass, TextEmbedding, TextEmbeddingOptions};

use crate::encoder::{encoder_options, encoder_parameters};
use crate::recipe::{Recipe, Words};

/// Embedding, an encoder in which no place sees what comes after it, and a linear layer to the vocabulary.
#[derive(Module, Debug)]
pub struct GenerateModel {
    embedding: TextEmbedding,
    encoder: Encoder,
    head: Linear,
    #[module(skip)]
    dropout: f32,
}

impl GenerateModel {
    /// A model with fresh parameters for a vocabulary of `vocabulary` ids.
    pub fn new(recipe: &Recipe, vocabulary: usize, init: &Init) -> Self {
        let d_model = recipe.model.d_model;
        let embedding = TextEmbeddingOptions {
            vocabulary,
            buckets: 0,
            embedding_dim: embedding_dim(recipe),
            d_model,
            deviation: recipe.input.embedding_deviation as f32,
            pretrained: None,
        };
        Self {
            embedding: TextEmbedding::new(&embedding, init),
            encoder: Encoder::new(&encoder_options(recipe), init),
            head: Linear::new(d_model, vocabulary, init),
            dropout: recipe.training.dropout as f32,
        }
    }

    /// How many numbers [`GenerateModel::new`] would make a model of, without making one.
    pub fn parameter_count(recipe: &Recipe, vocabulary: usize) -> u128 {
        let [d, dim, vocabulary] = [recipe.model.d_model, embedding_dim(recipe), vocabulary].map(|n| n as u128);
        let linear = |dim_in: u128, dim_out: u128| dim_in * dim_out + dim_out;
        let embedding = vocabulary * dim + if dim == d { 0 } else { linear(dim, d) };
        embedding + encoder_parameters(&encoder_options(recipe)) + linear(d, vocabulary)
    }

    /// Logits of what follows each place, `[tokens, vocabulary]`, from the ids of some sequences end to end.
    pub fn forward(&self, ids: Arc<[u32]>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        self.head.forward(self.encode(ids, layout, pass), Activation::Identity)
    }

    /// Logits of what follows the last place of the last sequence, `[1, vocabulary]`.
    pub fn forward_last(&self, ids: Arc<[u32]>, layout: &Layout) -> Tensor<2> {
        let x = self.encode(ids, layout, &Pass::inference());
        let last = x.dims()[0].saturating_sub(1);
        self.head.forward(x.narrow(0, last, 1), Activation::Identity)
    }

    fn encode(&self, ids: Arc<[u32]>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let x = self.embedding.forward(ids, Arc::from([]), 0);
        self.encoder.forward(pass.dropout(x, self.dropout), layout, pass)
    }
}

fn embedding_dim(recipe: &Recipe) -> usize {
    match recipe.input.words {
        Words::OneHot => recipe.model.d_model,
        Words::Embedding => recipe.input.embedding_dim.unwrap_or(recipe.model.d_model),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::floats;
    use burn::tensor::Device;
    use qkv::Offsets;

    fn recipe(assignments: &[&str]) -> Recipe {
        let mut recipe = Recipe::default();
        let common = ["model.task=generate", "input.unit=characters", "model.d_model=8", "model.heads=2"];
        for assignment in common.iter().chain(assignments) {
            recipe.set(assignment).expect(assignment);
        }
        recipe.check().expect("a recipe that can be");
        recipe
    }

    const CHOICES: [&[&str]; 7] = [
        &[],
        &["model.mixer=none", "model.positions=none", "model.norm=after"],
        &["model.positions=learned", "model.context=7"],
        &["model.positions=learned", "model.max_positions=3"],
        &["model.positions=rotary", "input.words=one-hot"],
        &["model.positions=relative", "model.relative_range=2", "input.embedding_dim=5"],
        &["model.window=2", "model.score=additive"],
    ];

    #[test]
    fn parameters_are_counted_without_making_them() {
        for assignments in CHOICES {
            let recipe = recipe(assignments);
            let model = GenerateModel::new(&recipe, 11, &Init::new(1, &Device::flex()));
            assert_eq!(GenerateModel::parameter_count(&recipe, 11), model.num_params() as u128, "{assignments:?}");
        }
    }

    #[test]
    fn no_place_sees_what_comes_after_it_or_another_sequence() {
        for assignments in CHOICES {
            let model = GenerateModel::new(&recipe(assignments), 11, &Init::new(1, &Device::flex()));
            let logits = |ids: &[u32], lengths: &[usize]| {
                let layout = Layout::new(Offsets::from_lengths(lengths.iter().copied()));
                floats(model.forward(ids.into(), &layout, &Pass::inference()).into_data())
            };
            let whole = logits(&[1, 2, 3, 4, 5, 6, 7, 8], &[3, 5]);
            // The last two of the second sequence are others.
            let other = logits(&[1, 2, 3, 4, 5, 6, 9, 10], &[3, 5]);
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(near(&whole[..6 * 11], &other[..6 * 11]), "{assignments:?}");
            assert!(!near(&whole[6 * 11..], &other[6 * 11..]), "{assignments:?}");
            let alone = logits(&[4, 5, 6, 7, 8], &[5]);
            assert!(near(&whole[3 * 11..], &alone), "{assignments:?}");
            let layout = Layout::new(Offsets::from_lengths([5]));
            let last = floats(model.forward_last(Arc::from([4, 5, 6, 7, 8]), &layout).into_data());
            assert!(near(&alone[4 * 11..], &last), "{assignments:?}");
        }
    }
}
