//! Positions: self-attention alone cannot tell an order, so each vector is told its place.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::Init;
use crate::attention::Layout;
use crate::ops::{RotaryAngles, gather_sum};

/// How vectors are told their place before the first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionsOptions {
    /// Not at all. Rotary and relative positions are told inside attention instead.
    None,
    /// Sines and cosines of geometric frequencies are added (Vaswani et al., 2017).
    Sinusoidal,
    /// A learned vector for each of the first `max_positions` places is added; later places share the last.
    Learned {
        /// Rows of the table.
        max_positions: usize,
    },
}

/// Adds to each vector what its place calls for.
#[derive(Module, Debug)]
pub struct Positions {
    table: Option<Param<Tensor<2>>>,
    #[module(skip)]
    sinusoidal: bool,
}

impl Positions {
    /// Positions for vectors of `d_model` elements.
    pub fn new(options: PositionsOptions, d_model: usize, init: &Init) -> Self {
        let table = match options {
            PositionsOptions::Learned { max_positions } => Some(init.normal([max_positions.max(1), d_model], 0.02)),
            PositionsOptions::None | PositionsOptions::Sinusoidal => None,
        };
        Self { table, sinusoidal: options == PositionsOptions::Sinusoidal }
    }

    /// `[tokens, d_model]` to the same.
    pub fn forward(&self, x: Tensor<2>, layout: &Layout) -> Tensor<2> {
        if let Some(table) = &self.table {
            let table = table.val();
            let last = table.dims()[0] as u32 - 1;
            let ids: Arc<[u32]> = layout.positions().iter().map(|&position| position.min(last)).collect();
            return x + gather_sum(table, ids, 1);
        }
        if self.sinusoidal {
            let ([_, d_model], device) = (x.dims(), x.device());
            return x + sinusoids(&layout.positions(), d_model, &device);
        }
        x
    }
}

impl Positions {
    /// `x` `[sequences, d_model]`, each the vector at place `position` of its sequence.
    pub(super) fn at(&self, x: Tensor<2>, position: usize) -> Tensor<2> {
        let ([_, d_model], device) = (x.dims(), x.device());
        if let Some(table) = &self.table {
            let table = table.val();
            let row = position.min(table.dims()[0] - 1);
            return x + table.narrow(0, row, 1);
        }
        if self.sinusoidal {
            return x + sinusoids(&[position as u32], d_model, &device);
        }
        x
    }
}

/// The frequency of pair `pair` of `pairs`: from 1 down to 1/10000.
fn frequency(pair: usize, pairs: usize) -> f64 {
    10_000_f64.powf(-(pair as f64) / pairs as f64)
}

/// `[positions, d_model]`: `sin(position · f_p)` at element `2p`, `cos` at `2p + 1`.
fn sinusoids(positions: &[u32], d_model: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0.0; positions.len() * d_model];
    for (row, &position) in values.chunks_exact_mut(d_model.max(1)).zip(positions) {
        for (i, x) in row.iter_mut().enumerate() {
            let angle = f64::from(position) * frequency(i / 2, d_model.div_ceil(2));
            *x = if i % 2 == 0 { angle.sin() } else { angle.cos() } as f32;
        }
    }
    Tensor::from_data(TensorData::new(values, [positions.len(), d_model]), device)
}

/// The angles by which the vectors of a batch are turned (Su et al., 2021), for heads of `head_dim` elements, of which pairs
/// `(p, p + head_dim / 2)` turn together. Worked out once for a batch.
///
/// # Panics
/// If `head_dim` is odd.
pub(super) fn rotary_angles(layout: &Layout, head_dim: usize) -> Arc<RotaryAngles> {
    assert!(head_dim.is_multiple_of(2), "rotary positions need an even head_dim, not {head_dim}");
    layout.rotary(head_dim, || {
        let half = head_dim / 2;
        let frequencies = rotary_frequencies(half);
        let positions = layout.positions();
        let count = positions.iter().map(|&position| position as usize + 1).max().unwrap_or(0);
        // Of each place once: many sets share it, and a sine takes as long as dozens of multiplications.
        let of_places = |f: fn(f64) -> f64| -> Vec<f32> {
            (0..count * half).map(|at| f((at / half) as f64 * frequencies[at % half]) as f32).collect()
        };
        let of_rows = |places: Vec<f32>| {
            positions.iter().flat_map(|&position| &places[position as usize * half..][..half]).copied().collect()
        };
        RotaryAngles { cos: of_rows(of_places(f64::cos)), sin: of_rows(of_places(f64::sin)) }
    })
}

/// The same where each of `rows` vectors stands at place `position`.
pub(super) fn rotary_angles_at(position: usize, rows: usize, head_dim: usize) -> RotaryAngles {
    let of = |f: fn(f64) -> f64| -> Vec<f32> {
        let angles =
            rotary_frequencies(head_dim / 2).into_iter().map(|frequency| f(position as f64 * frequency) as f32);
        angles.collect::<Vec<_>>().repeat(rows)
    };
    RotaryAngles { cos: of(f64::cos), sin: of(f64::sin) }
}

fn rotary_frequencies(half: usize) -> Vec<f64> {
    (0..half).map(|pair| frequency(pair, half)).collect()
}
