//! The recurrent baseline: an LSTM in each direction, or one that goes forward alone.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation};
use qkv::activation::Activation;

use super::{Init, Linear};
use crate::attention::Layout;
use crate::ops::lstm;

/// Which way an LSTM reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directions {
    /// One from the first vector to the last, one from the last to the first.
    Both,
    /// From the first to the last: no place knows what comes after it.
    Forward,
}

/// An LSTM over packed sets and a linear layer that makes its states vectors of the model.
#[derive(Module, Debug)]
pub struct Lstm {
    input: Vec<Linear>,
    recurrent: Vec<Param<Tensor<2>>>,
    join: Linear,
}

/// What an LSTM that goes forward keeps from step to step, a row for each sequence.
#[derive(Clone, Debug)]
pub struct LstmState {
    hidden: Tensor<2>,
    cell: Tensor<2>,
}

impl Lstm {
    /// `hidden` is the width of one direction. Forget gates start open, with a bias of 1 (Jozefowicz et al., 2015), without
    /// which an LSTM hardly learns what lies far away.
    pub fn new(d_model: usize, hidden: usize, directions: Directions, init: &Init) -> Self {
        let count = match directions {
            Directions::Both => 2,
            Directions::Forward => 1,
        };
        let limit = 1.0 / (hidden.max(1) as f32).sqrt();
        Self {
            input: (0..count).map(|_| Linear::with_bias(d_model, &gate_bias(hidden), init)).collect(),
            recurrent: (0..count).map(|_| init.uniform([hidden, 4 * hidden], limit)).collect(),
            join: Linear::new(count * hidden, d_model, init),
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

    /// One step: `x` `[sequences, d_model]` is the next vector of each sequence. What comes out is what
    /// [`forward`](Self::forward) gives at that place. Without a state the sequences begin.
    ///
    /// # Panics
    /// If the LSTM reads both ways.
    pub fn step(&self, x: Tensor<2>, state: &mut Option<LstmState>) -> Tensor<2> {
        let ([input], [recurrent]) = (&self.input[..], &self.recurrent[..]) else {
            panic!("an LSTM that reads both ways cannot go step by step")
        };
        let ([rows, _], recurrent) = (x.dims(), recurrent.val());
        let ([hidden, _], device) = (recurrent.dims(), x.device());
        let before = state.take().unwrap_or_else(|| {
            let zeros = Tensor::zeros([rows, hidden], &device);
            LstmState { hidden: zeros.clone(), cell: zeros }
        });
        let gates = input.forward(x, Activation::Identity) + before.hidden.matmul(recurrent);
        let gate = |n: usize| gates.clone().narrow(1, n * hidden, hidden);
        let [i, f, o] = [0, 1, 3].map(|n| activation::sigmoid(gate(n)));
        let cell = f * before.cell + i * gate(2).tanh();
        let hidden = o * cell.clone().tanh();
        *state = Some(LstmState { hidden: hidden.clone(), cell });
        self.join.forward(hidden, Activation::Identity)
    }
}

impl LstmState {
    /// The states of `rows`, in that order.
    pub(super) fn select(self, rows: &[usize]) -> Self {
        let device = self.cell.device();
        let rows = super::indices(rows, &device);
        Self { hidden: self.hidden.select(0, rows.clone()), cell: self.cell.select(0, rows) }
    }
}

/// Gates in the order input, forget, cell, output.
fn gate_bias(hidden: usize) -> Vec<f32> {
    let mut bias = vec![0.0; 4 * hidden];
    bias[hidden..2 * hidden].fill(1.0);
    bias
}
