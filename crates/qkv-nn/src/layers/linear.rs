//! The fully connected layer.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use qkv::activation::Activation;

use super::Init;
use crate::ops::linear;

/// `activation(x · weight + bias)`.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Linear {
    /// Weights uniform in `±√(6 / (dim_in + dim_out))` (Glorot and Bengio, 2010), bias 0.
    pub fn new(dim_in: usize, dim_out: usize, init: &Init) -> Self {
        Self::with_bias(dim_in, &vec![0.0; dim_out], init)
    }

    /// The same with a given initial bias, whose length is `dim_out`.
    pub fn with_bias(dim_in: usize, bias: &[f32], init: &Init) -> Self {
        let dim_out = bias.len();
        let limit = (6.0 / (dim_in + dim_out).max(1) as f32).sqrt();
        Self { weight: init.uniform([dim_in, dim_out], limit), bias: init.values(bias.to_vec(), [dim_out]) }
    }

    /// `[tokens, dim_in]` to `[tokens, dim_out]`.
    pub fn forward(&self, x: Tensor<2>, activation: Activation) -> Tensor<2> {
        linear(x, self.weight.val(), self.bias.val(), activation)
    }

    pub(super) fn weight(&self) -> Tensor<2> {
        self.weight.val()
    }

    pub(super) fn bias(&self) -> Tensor<1> {
        self.bias.val()
    }

    /// Where its parameters are.
    pub fn device(&self) -> Device {
        self.weight.val().device()
    }

    /// `[dim_in, dim_out]`.
    pub fn dims(&self) -> [usize; 2] {
        self.weight.val().dims()
    }
}
