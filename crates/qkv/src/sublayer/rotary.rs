//! Rotary positions (Su et al., 2021): queries and keys are turned by angles that grow with their place, so that their product
//! depends on the distance alone.
//!
//! ```text
//! (x_p, x_{p + half})  ←  (x_p cos - x_{p + half} sin,  x_p sin + x_{p + half} cos)
//! ```
//!
//! A turn is undone by the turn the other way: that is the backward pass.

use crate::isa::{Target, isa_dispatch};

/// The angles of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'a> {
    /// `[tokens, head_dim / 2]`.
    pub cos: &'a [f32],
    /// `[tokens, head_dim / 2]`.
    pub sin: &'a [f32],
}

impl Rotary<'_> {
    /// Turns `vectors` heads, which stand one behind the other, at the beginning of each row of `stride` numbers; the block
    /// begins with row `first_row`. Backwards if `back`.
    pub(crate) fn turn(
        &self,
        rows: &mut [f32],
        stride: usize,
        (vectors, head_dim): (usize, usize),
        first_row: usize,
        back: bool,
    ) {
        let half = head_dim / 2;
        let (cos, sin) = (&self.cos[first_row * half..], &self.sin[first_row * half..]);
        turn_rows(rows, stride, vectors, half, cos, sin, if back { -1.0 } else { 1.0 });
    }
}

#[inline(always)]
fn turn_rows_body<T: Target>(
    rows: &mut [f32],
    stride: usize,
    vectors: usize,
    half: usize,
    cos: &[f32],
    sin: &[f32],
    direction: f32,
) {
    if half == 0 {
        return;
    }
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (x, (cos, sin)) in rows.chunks_exact_mut(stride).zip(angles) {
        for x in x[..2 * vectors * half].chunks_exact_mut(2 * half) {
            let (first, second) = x.split_at_mut(half);
            for pair in 0..half {
                let (a, b, cos, sin) = (first[pair], second[pair], cos[pair], sin[pair] * direction);
                first[pair] = a * cos - b * sin;
                second[pair] = a * sin + b * cos;
            }
        }
    }
}
isa_dispatch!(fn turn_rows(
    rows: &mut [f32], stride: usize, vectors: usize, half: usize, cos: &[f32], sin: &[f32], direction: f32,
) = turn_rows_body);
