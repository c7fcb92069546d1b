//! The recurrent baseline: an LSTM in each direction.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use qkv::activation::Activation;

use super::{Init, Linear};
use crate::attention::Layout;
use crate::ops::lstm;

/// A bidirectional LSTM over packed sets and a linear layer that joins both directions.
#[derive(Module, Debug)]
pub struct BiLstm {
    input: Vec<Linear>,
    recurrent: Vec<Param<Tensor<2>>>,
    join: Linear,
}

impl BiLstm {
    /// `hidden` is the width of one direction. Forget gates start open, with a bias of 1 (Jozefowicz et al., 2015), without
    /// which an LSTM hardly learns what lies far away.
    pub fn new(d_model: usize, hidden: usize, init: &Init) -> Self {
        let limit = 1.0 / (hidden.max(1) as f32).sqrt();
        Self {
            input: (0..2).map(|_| Linear::with_bias(d_model, &gate_bias(hidden), init)).collect(),
            recurrent: (0..2).map(|_| init.uniform([hidden, 4 * hidden], limit)).collect(),
            join: Linear::new(2 * hidden, d_model, init),
        }
    }

    /// `[tokens, d_model]` to the same.
    pub fn forward(&self, x: Tensor<2>, layout: &Layout) -> Tensor<2> {
        let directions = self.input.iter().zip(&self.recurrent).zip([false, true]);
        let states = directions
            .map(|((input, recurrent), reverse)| {
                let gates_x = input.forward(x.clone(), Activation::Identity);
                lstm(gates_x, recurrent.val(), layout.offsets(), reverse)
            })
            .collect();
        self.join.forward(Tensor::cat(states, 1), Activation::Identity)
    }
}

/// Gates in the order input, forget, cell, output.
fn gate_bias(hidden: usize) -> Vec<f32> {
    let mut bias = vec![0.0; 4 * hidden];
    bias[hidden..2 * hidden].fill(1.0);
    bias
}
