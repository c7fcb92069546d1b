//! The fully connected part of a block: each vector alone.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::activation::Activation;

use super::{Init, LayerNorm, Linear, NormPlace, Pass};
use crate::ops::{FeedForwardOptions, FeedForwardParameters, feed_forward};

/// `down(activation(up(x)))` with dropout in between.
#[derive(Module, Debug)]
pub struct FeedForward {
    up: Linear,
    down: Linear,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    hidden_dropout: f32,
}

impl FeedForward {
    /// From `d_model` up to `d_ff` and down again; `hidden_dropout` is the rate in between.
    pub fn new(d_model: usize, d_ff: usize, activation: Activation, hidden_dropout: f32, init: &Init) -> Self {
        let (up, down) = (Linear::new(d_model, d_ff, init), Linear::new(d_ff, d_model, init));
        Self { up, down, activation, hidden_dropout }
    }

    /// The half of a block that this layer is the heart of, `[tokens, d_model]` to the same: with norm, residual, and a dropout of
    /// rate `dropout` before it.
    pub fn sublayer(&self, x: Tensor<2>, norm: &LayerNorm, place: NormPlace, dropout: f32, pass: &Pass) -> Tensor<2> {
        let (gamma, beta) = norm.parameters();
        let parameters = FeedForwardParameters {
            gamma,
            beta,
            up_weight: self.up.weight(),
            up_bias: self.up.bias(),
            down_weight: self.down.weight(),
            down_bias: self.down.bias(),
        };
        let options = FeedForwardOptions {
            place,
            activation: self.activation,
            hidden_dropout: pass.next(self.hidden_dropout),
            dropout: pass.next(dropout),
        };
        feed_forward(x, parameters, &options)
    }
}
