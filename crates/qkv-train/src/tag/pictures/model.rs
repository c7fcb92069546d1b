//! Patches in, a row of class logits for each of their pixels out.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::activation::Activation;
use qkv_nn::layers::{Encoder, Init, Linear, Pass};

use crate::input::{Batch, InputEmbedding, InputSizes};
use crate::recipe::Recipe;
use crate::stack::{encoder_options, encoder_parameters};

/// What of a model's size comes from the data.
#[derive(Clone, Debug)]
pub(crate) struct SegmentSizes {
    /// What comes in.
    pub(crate) input: InputSizes,
    /// Classes of a pixel.
    pub(crate) classes: usize,
}

/// Embedding, encoder, and a linear layer to the classes of all pixels of a patch.
#[derive(Module, Debug)]
pub struct SegmentModel {
    embedding: InputEmbedding,
    encoder: Encoder,
    head: Linear,
    #[module(skip)]
    pixels: usize,
    #[module(skip)]
    dropout: f32,
}

impl SegmentModel {
    /// A model with fresh parameters.
    pub(crate) fn new(recipe: &Recipe, sizes: &SegmentSizes, init: &Init) -> Self {
        let pixels = pixels(recipe);
        Self {
            embedding: InputEmbedding::new(recipe, &sizes.input, init),
            encoder: Encoder::new(&encoder_options(recipe, &sizes.input), init),
            head: Linear::new(recipe.model.d_model, pixels * sizes.classes, init),
            pixels,
            dropout: recipe.training.dropout as f32,
        }
    }

    /// How many numbers [`SegmentModel::new`] would make a model of, without making one.
    pub(crate) fn parameter_count(recipe: &Recipe, sizes: &SegmentSizes) -> u128 {
        let (d, outputs) = (recipe.model.d_model as u128, (pixels(recipe) * sizes.classes) as u128);
        InputEmbedding::parameter_count(recipe, &sizes.input)
            + encoder_parameters(&encoder_options(recipe, &sizes.input))
            + (d * outputs + outputs)
    }

    /// Class logits of the pixels of each vector, `[tokens · patch², classes]`: of a patch row by row, those beyond the edge of the
    /// picture as well.
    pub(crate) fn forward(&self, batch: &Batch, pass: &Pass) -> Tensor<2> {
        let (x, layout) = self.embedding.forward(batch, &self.head.device());
        let x = self.encoder.forward(pass.dropout(x, self.dropout), &layout, pass);
        let of_patches = self.head.forward(x, Activation::Identity);
        let [tokens, outputs] = of_patches.dims();
        of_patches.reshape([tokens * self.pixels, outputs / self.pixels])
    }
}

/// Pixels of a patch.
fn pixels(recipe: &Recipe) -> usize {
    recipe.input.patch * recipe.input.patch
}
