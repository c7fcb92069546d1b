//! The model of all tasks that say something of each vector: sets in, one row of logits for each vector out.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::Offsets;
use qkv::activation::Activation;
use qkv_nn::layers::{Encoder, Init, Linear, Pass};

use crate::input::{Batch, InputEmbedding, InputSizes};
use crate::recipe::Recipe;
use crate::stack::{encoder_options, encoder_parameters};

/// Embedding, encoder, and a linear layer to classes or units.
#[derive(Module, Debug)]
pub struct EachModel {
    embedding: InputEmbedding,
    encoder: Encoder,
    head: Linear,
    #[module(skip)]
    dropout: f32,
}

impl EachModel {
    /// A model with fresh parameters, whose vectors give one of `classes`.
    pub(crate) fn new(recipe: &Recipe, sizes: &InputSizes, classes: usize, init: &Init) -> Self {
        Self {
            embedding: InputEmbedding::new(recipe, sizes, init),
            encoder: Encoder::new(&encoder_options(recipe), init),
            head: Linear::new(recipe.model.d_model, classes, init),
            dropout: recipe.training.dropout as f32,
        }
    }

    /// How many numbers [`EachModel::new`] would make a model of, without making one.
    pub(crate) fn parameter_count(recipe: &Recipe, sizes: &InputSizes, classes: usize) -> u128 {
        let [d, classes] = [recipe.model.d_model, classes].map(|n| n as u128);
        InputEmbedding::parameter_count(recipe, sizes)
            + encoder_parameters(&encoder_options(recipe))
            + (d * classes + classes)
    }

    /// Logits `[vectors, classes]`, and which vectors are which set's.
    pub(crate) fn forward(&self, batch: &Batch, pass: &Pass) -> (Tensor<2>, Offsets) {
        let (x, layout) = self.embedding.forward(batch, &self.head.device());
        let x = self.encoder.forward(pass.dropout(x, self.dropout), &layout, pass);
        (self.head.forward(x, Activation::Identity), layout.offsets().clone())
    }
}
