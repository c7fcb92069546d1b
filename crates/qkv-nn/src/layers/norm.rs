//! Layer normalisation with its gain and shift.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::Init;
use crate::ops::layer_norm;

/// Normalises each vector to mean 0 and variance 1, then scales and shifts its elements.
#[derive(Module, Debug)]
pub struct LayerNorm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
}

impl LayerNorm {
    /// Gain 1, shift 0.
    pub fn new(dim: usize, init: &Init) -> Self {
        Self { gamma: init.constant([dim], 1.0), beta: init.constant([dim], 0.0) }
    }

    /// Gain and shift.
    pub(super) fn parameters(&self) -> (Tensor<1>, Tensor<1>) {
        (self.gamma.val(), self.beta.val())
    }

    /// `[tokens, dim]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        layer_norm(x, self.gamma.val(), self.beta.val())
    }
}
