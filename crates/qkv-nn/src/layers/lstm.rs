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
    /// `hidden` is the width of one direction.
    pub fn new(d_model: usize, hidden: usize, init: &Init) -> Self {
        let limit = 1.0 / (hidden.max(1) as f32).sqrt();
        Self {
            input: (0..2).map(|_| Linear::new(d_model, 4 * hidden, init)).collect(),
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
