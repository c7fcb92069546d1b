//! Positions: self-attention alone cannot tell an order, so each vector is told its place.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use qkv::gather::NONE;

use super::{Geometry, Init};
use crate::attention::{Layout, Place};
use crate::ops::{RotaryAngles, gather_sum};

/// How vectors are told their place before the first block.
///
/// On a grid each vector is told row and column, what lies on no grid its place on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionsOptions {
    /// Not at all. Rotary and relative positions are told inside attention instead.
    None,
    /// Sines and cosines of geometric frequencies are added (Vaswani et al., 2017). On a grid the first half of the elements is told
    /// the row and the second half the column.
    Sinusoidal,
    /// A learned vector for each of the first `max_positions` places is added; later places share the last. On a grid two are
    /// added, one for the row and one for the column, of which [`Geometry::Grid`] says how many there are.
    Learned {
        /// Rows of the table, for places on a line.
        max_positions: usize,
    },
}

/// Adds to each vector what its place calls for.
#[derive(Module, Debug)]
pub struct Positions {
    /// For places on a line; on grids then rows, then columns.
    table: Option<Param<Tensor<2>>>,
    #[module(skip)]
    geometry: Geometry,
    #[module(skip)]
    sinusoidal: bool,
}

impl Positions {
    /// Positions for vectors of `d_model` elements.
    pub fn new(options: PositionsOptions, geometry: Geometry, d_model: usize, init: &Init) -> Self {
        let table = match options {
            PositionsOptions::Learned { max_positions } => {
                Some(init.normal([geometry.learned_positions(max_positions), d_model], 0.02))
            }
            PositionsOptions::None | PositionsOptions::Sinusoidal => None,
        };
        Self { table, geometry, sinusoidal: options == PositionsOptions::Sinusoidal }
    }

    /// `[tokens, d_model]` to the same.
    pub fn forward(&self, x: Tensor<2>, layout: &Layout) -> Tensor<2> {
        if let Some(table) = &self.table {
            let table = table.val();
            let (ids, width) = self.rows(table.dims()[0], layout);
            return x + gather_sum(table, ids, width);
        }
        if self.sinusoidal {
            let ([tokens, d_model], device) = (x.dims(), x.device());
            let told = by_place(&self.geometry.places(layout), d_model, sinusoid);
            return x + Tensor::from_data(TensorData::new(told, [tokens, d_model]), &device);
        }
        x
    }

    /// The rows of a table of `count` that are added to each vector, and how many that is.
    fn rows(&self, count: usize, layout: &Layout) -> (Arc<[u32]>, usize) {
        let [_, rows, columns] = self.geometry.tables(0).map(|n| n as u32);
        let places = self.geometry.places(layout).into_iter();
        let line = match self.geometry {
            Geometry::Line | Geometry::Graph { .. } => count as u32,
            Geometry::Grid { .. } => count as u32 - rows - columns,
        };
        let ids = places.map(|place| match place {
            Place::Line(at) => [at.min(line - 1), NONE],
            Place::Grid([row, column]) => [line + row.min(rows - 1), line + rows + column.min(columns - 1)],
        });
        match self.geometry {
            Geometry::Line | Geometry::Graph { .. } => (ids.map(|[id, _]| id).collect(), 1),
            Geometry::Grid { .. } => (ids.flatten().collect(), 2),
        }
    }
}

impl Positions {
    /// `x` `[sequences, d_model]`, each the vector at place `position` of its sequence, which is a line.
    pub(super) fn at(&self, x: Tensor<2>, position: usize) -> Tensor<2> {
        let ([_, d_model], device) = (x.dims(), x.device());
        if let Some(table) = &self.table {
            let table = table.val();
            let row = position.min(table.dims()[0] - 1);
            return x + table.narrow(0, row, 1);
        }
        if self.sinusoidal {
            let told: Vec<f32> = (0..d_model).map(|i| sinusoid(position as f64, i, d_model) as f32).collect();
            return x + Tensor::from_data(TensorData::new(told, [1, d_model]), &device);
        }
        x
    }
}

/// The frequency of pair `pair` of `pairs`: from 1 down to 1/10000.
fn frequency(pair: usize, pairs: usize) -> f64 {
    10_000_f64.powf(-(pair as f64) / pairs as f64)
}

/// Element `i` of `width` that a place is told by: `sin(place · f_p)` at element `2p`, `cos` at `2p + 1`.
fn sinusoid(place: f64, i: usize, width: usize) -> f64 {
    let angle = place * frequency(i / 2, width.div_ceil(2));
    if i.is_multiple_of(2) { angle.sin() } else { angle.cos() }
}

/// `width` numbers for each vector, `[tokens, width]`: on a line `of(place, i, width)` for each `i`, on a grid first those of
/// the row, half of them, then those of the column.
fn by_place(places: &[Place], width: usize, of: impl Fn(f64, usize, usize) -> f64) -> Vec<f32> {
    // Of each place once: many sets share it, and a sine takes as long as dozens of multiplications.
    let table = |at: fn(&Place) -> Option<u32>, width: usize| -> Vec<f32> {
        let count = places.iter().filter_map(at).max().map_or(0, |last| last as usize + 1);
        (0..count * width).map(|n| of((n / width) as f64, n % width, width) as f32).collect()
    };
    let halves = [width / 2, width - width / 2];
    let line = table(|place| if let Place::Line(at) = place { Some(*at) } else { None }, width);
    let rows = table(|place| if let Place::Grid([row, _]) = place { Some(*row) } else { None }, halves[0]);
    let columns = table(|place| if let Place::Grid([_, column]) = place { Some(*column) } else { None }, halves[1]);
    let mut numbers = Vec::with_capacity(places.len() * width);
    for place in places {
        match *place {
            Place::Line(at) => numbers.extend_from_slice(&line[at as usize * width..][..width]),
            Place::Grid([row, column]) => {
                numbers.extend_from_slice(&rows[row as usize * halves[0]..][..halves[0]]);
                numbers.extend_from_slice(&columns[column as usize * halves[1]..][..halves[1]]);
            }
        }
    }
    numbers
}

/// The angles by which the vectors of a batch are turned (Su et al., 2021), for heads of `head_dim` elements, of which pairs
/// `(p, p + head_dim / 2)` turn together. On a grid the first half of the pairs turns with the row and the second half with the
/// column, so that products depend on the distances in both alone (Heo et al., 2024). Worked out once for a batch.
///
/// # Panics
/// If `head_dim` is odd.
pub(super) fn rotary_angles(layout: &Layout, geometry: Geometry, head_dim: usize) -> Arc<RotaryAngles> {
    assert!(head_dim.is_multiple_of(2), "rotary positions need an even head_dim, not {head_dim}");
    layout.rotary((head_dim, geometry != Geometry::Line), || {
        let places = geometry.places(layout);
        let of =
            |f: fn(f64) -> f64| by_place(&places, head_dim / 2, |place, pair, pairs| f(place * frequency(pair, pairs)));
        RotaryAngles { cos: of(f64::cos), sin: of(f64::sin) }
    })
}

/// The same where each of `rows` vectors stands at place `position` of a line.
pub(super) fn rotary_angles_at(position: usize, rows: usize, head_dim: usize) -> RotaryAngles {
    let half = head_dim / 2;
    let of = |f: fn(f64) -> f64| -> Vec<f32> {
        let angles = (0..half).map(|pair| f(position as f64 * frequency(pair, half)) as f32);
        angles.collect::<Vec<_>>().repeat(rows)
    };
    RotaryAngles { cos: of(f64::cos), sin: of(f64::sin) }
}
