//! Frames in, one row of logits for each vector out: one for each unit and one for none.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::Offsets;
use qkv::activation::Activation;
use qkv_nn::layers::{Encoder, Init, Linear, Pass};

use crate::input::{Batch, InputEmbedding, InputSizes};
use crate::recipe::{Mixer, Normalise, Positions, Recipe};
use crate::stack::{encoder_options, encoder_parameters};

/// Embedding, encoder, and a linear layer to the units.
#[derive(Module, Debug)]
pub struct HearModel {
    embedding: InputEmbedding,
    encoder: Encoder,
    head: Linear,
    #[module(skip)]
    dropout: f32,
}

impl HearModel {
    /// A model with fresh parameters, whose vectors give one of `classes`.
    pub(super) fn new(recipe: &Recipe, sizes: &InputSizes, classes: usize, init: &Init) -> Self {
        Self {
            embedding: InputEmbedding::new(recipe, sizes, init),
            encoder: Encoder::new(&encoder_options(recipe), init),
            head: Linear::new(recipe.model.d_model, classes, init),
            dropout: recipe.training.dropout as f32,
        }
    }

    /// How many numbers [`HearModel::new`] would make a model of, without making one.
    pub(super) fn parameter_count(recipe: &Recipe, sizes: &InputSizes, classes: usize) -> u128 {
        let [d, classes] = [recipe.model.d_model, classes].map(|n| n as u128);
        InputEmbedding::parameter_count(recipe, sizes)
            + encoder_parameters(&encoder_options(recipe))
            + (d * classes + classes)
    }

    /// Logits `[vectors, classes]`, and which vectors are which recording's.
    pub(super) fn forward(&self, batch: &Batch, pass: &Pass) -> (Tensor<2>, Offsets) {
        let (x, layout) = self.embedding.forward(batch, &self.head.device());
        let x = self.encoder.forward(pass.dropout(x, self.dropout), &layout, pass);
        (self.head.forward(x, Activation::Identity), layout.offsets().clone())
    }
}

/// How many vectors to each side of a vector its logits depend on, where that is bounded and places do not count: then a piece of a
/// recording is heard as the whole is.
pub(super) fn reach(recipe: &Recipe) -> Option<usize> {
    let model = &recipe.model;
    if matches!(model.positions, Positions::Sinusoidal | Positions::Learned)
        || recipe.input.normalise == Normalise::Recording
    {
        return None;
    }
    match model.mixer {
        Mixer::None => Some(0),
        Mixer::Window => Some(model.window.unwrap_or(2)),
        Mixer::Cnn => Some(model.layers * model.window.unwrap_or(1)),
        Mixer::Attention => model.window.map(|window| model.layers * window),
        _ => None,
    }
}
