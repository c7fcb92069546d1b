//! The fully connected part of a block: each vector alone.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::activation::Activation;

use super::{Init, Linear, Pass};

/// `down(activation(up(x)))` with dropout in between.
#[derive(Module, Debug)]
pub struct FeedForward {
    up: Linear,
    down: Linear,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: f32,
}

impl FeedForward {
    /// From `d_model` up to `d_ff` and down again.
    pub fn new(d_model: usize, d_ff: usize, activation: Activation, dropout: f32, init: &Init) -> Self {
        Self { up: Linear::new(d_model, d_ff, init), down: Linear::new(d_ff, d_model, init), activation, dropout }
    }

    /// `[tokens, d_model]` to the same.
    pub fn forward(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let hidden = pass.dropout(self.up.forward(x, self.activation), self.dropout);
        self.down.forward(hidden, Activation::Identity)
    }
}
