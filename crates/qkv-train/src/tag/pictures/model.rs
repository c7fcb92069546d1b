//! Patches in, a row of class logits for each of their pixels out.

use burn::tensor::Tensor;
use qkv_nn::layers::{Init, Pass};

use crate::each::EachModel;
use crate::input::{Batch, InputSizes};
use crate::recipe::Recipe;

/// What of a model's size comes from the data.
#[derive(Clone, Debug)]
pub(crate) struct SegmentSizes {
    /// What comes in.
    pub(crate) input: InputSizes,
    /// Classes of a pixel.
    pub(crate) classes: usize,
}

/// A model with fresh parameters, whose vectors give the classes of all pixels of a patch.
pub(crate) fn new_model(recipe: &Recipe, sizes: &SegmentSizes, init: &Init) -> EachModel {
    EachModel::new(recipe, &sizes.input, pixels(recipe) * sizes.classes, init)
}

/// How many numbers [`new_model`] would make a model of, without making one.
pub(crate) fn parameter_count(recipe: &Recipe, sizes: &SegmentSizes) -> u128 {
    EachModel::parameter_count(recipe, &sizes.input, pixels(recipe) * sizes.classes)
}

/// Class logits of the pixels of each vector, `[tokens · patch², classes]`: of a patch row by row, those beyond the edge of the
/// picture as well.
pub(crate) fn pixel_logits(model: &EachModel, batch: &Batch, classes: usize, pass: &Pass) -> Tensor<2> {
    let (of_patches, _) = model.forward(batch, pass);
    let [tokens, outputs] = of_patches.dims();
    of_patches.reshape([tokens * outputs / classes, classes])
}

/// Pixels of a patch.
fn pixels(recipe: &Recipe) -> usize {
    recipe.input.patch * recipe.input.patch
}
