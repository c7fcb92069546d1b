//! The two halves of a block of a transformer, each as one operation on packed rows.
//!
//! ```text
//! before   out = x + dropout(part(norm(x)))            (Xiong et al., 2020)
//! after    out = norm(x + dropout(part(x)))            (Vaswani et al., 2017)
//!
//! part     feed-forward:     down(dropout(act(up(·))))
//!          self-attention:   output(attention(query(·), key(·), value(·)))
//! ```
//!
//! Forward, a task is a block of rows: it is normalised, multiplied, activated, multiplied again and added to its residual
//! while it is in the second-level cache. What the backward pass needs of it, and nothing else, goes to memory: the sums
//! before the activation, the projections and the result of attention, mean and deviation of each row. Norm, activation and
//! dropout are computed again. Where no set has rows in two blocks, a task of the self-attending half goes from the norm to the residual.
//!
//! `docs/arithmetic.md` of the repository derives the backward pass, `docs/performance.md` says what it costs.

mod attention;
mod feed_forward;
mod rotary;

pub use attention::{SelfAttention, SelfAttentionGradients, SelfAttentionSaved};
pub use feed_forward::{FeedForward, FeedForwardGradients, FeedForwardSaved};
pub use rotary::Rotary;

use crate::math::add_to;
use crate::norm;
use crate::product::{Place, Rows, pack};
use std::slice::ChunksMut;

/// Where a sub-layer normalises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// `x + part(norm(x))`.
    Before,
    /// `norm(x + part(x))`.
    After,
}

/// Layer normalisation with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Where it stands.
    pub place: NormPlace,
    /// Gain: `[d_model]`.
    pub gamma: &'a [f32],
    /// Shift: `[d_model]`.
    pub beta: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

impl Norm<'_> {
    /// A block of rows, normalised.
    fn rows(&self, x: &[f32], out: &mut [f32], (mean, rstd): (&mut [f32], &mut [f32])) {
        let place = Place::Rows { stride: self.gamma.len() };
        norm::normalise(x, self.gamma, self.beta, self.epsilon, out, place, mean, rstd);
    }

    /// A block of rows as slabs, normalised if the norm stands before.
    fn pack(&self, x: &[f32], height: usize, slabs: &mut [f32], (mean, rstd): (&mut [f32], &mut [f32])) {
        match self.place {
            NormPlace::Before => {
                let place = Place::Slabs { height };
                norm::normalise(x, self.gamma, self.beta, self.epsilon, slabs, place, mean, rstd);
            }
            NormPlace::After => pack(Rows::dense(x, self.gamma.len()), height, slabs),
        }
    }

    /// The same, with the means and deviations that were found then.
    fn pack_again(&self, x: &[f32], height: usize, slabs: &mut [f32], (mean, rstd): (&[f32], &[f32])) {
        match self.place {
            NormPlace::Before => {
                norm::normalise_again(x, self.gamma, self.beta, slabs, Place::Slabs { height }, mean, rstd);
            }
            NormPlace::After => pack(Rows::dense(x, self.gamma.len()), height, slabs),
        }
    }
}

/// The next part of a slice that is handed out block by block; nothing behind its end.
pub(crate) fn part<'a>(parts: &mut ChunksMut<'a, f32>) -> &'a mut [f32] {
    parts.next().unwrap_or_default()
}

/// Adds the columns from `first` on of `[blocks, width]` partial sums, in the order of the blocks.
fn sum_columns(sums: &[f32], width: usize, first: usize, out: &mut [f32]) {
    out.fill(0.0);
    for row in sums.chunks_exact(width) {
        add_to(out, &row[first..first + out.len()]);
    }
}

#[cfg(test)]
mod tests;
