//! Products of a few queries with keys where they lie: each key is read once, for all queries of its head, and none is copied.
//!
//! With so few queries there is less to compute than to read, so what counts is that memory is read in order and once.

use super::micro::Span;
use super::pack::{Rows, SLAB};
use crate::simd::Vector;

/// Queries up to which keys are not worth packing: what a key is multiplied with takes less time than it takes to come.
pub(super) const DIRECT_ROWS: usize = 8;

/// Keys whose products are summed side by side, to hide the latency of an addition.
const KEYS: usize = 4;

/// The operands of [`direct`].
#[derive(Clone, Copy)]
pub(crate) struct Direct<'a> {
    /// Slabs of as many rows as there are spans.
    pub(crate) left: *const f32,
    /// Keys in the caller's memory.
    pub(crate) keys: Rows,
    /// For each row, the keys that are wanted.
    pub(crate) spans: &'a [Span],
    /// `stride` numbers a row.
    pub(crate) out: *mut f32,
    pub(crate) stride: usize,
}

/// `out[r][j] = Σ_c left[r][c] · keys[j][c]`.
///
/// # Safety
///
/// The instruction set of `V`; the operands hold what they say.
#[inline(always)]
pub(crate) unsafe fn direct<V: Vector>(d: &Direct<'_>) {
    let hull = Span::hull(d.spans);
    if hull.is_empty() {
        return;
    }
    let dim = d.keys.dim;
    let whole = dim / V::LANES * V::LANES;
    for first in (hull.first..hull.end).step_by(KEYS) {
        let count = KEYS.min(hull.end - first);
        // SAFETY: rows and keys exist, by the contract; keys beyond the last repeat it.
        unsafe {
            let mut key = [d.keys.start; KEYS];
            for (n, key) in key.iter_mut().enumerate() {
                *key = d.keys.start.add((first + n.min(count - 1)) * d.keys.stride);
            }
            for row in 0..d.spans.len() {
                let mut acc = [V::splat(0.0); KEYS];
                for column in (0..whole).step_by(V::LANES) {
                    let q = V::load(d.left.add((column / SLAB * d.spans.len() + row) * SLAB + column % SLAB));
                    for (acc, key) in acc.iter_mut().zip(key) {
                        *acc = q.mul_add(V::load(key.add(column)), *acc);
                        V::prefetch(key.wrapping_add(column + KEYS * AHEAD * d.keys.stride));
                    }
                }
                if whole < dim {
                    let q = V::load(d.left.add((whole / SLAB * d.spans.len() + row) * SLAB + whole % SLAB));
                    for (acc, key) in acc.iter_mut().zip(key) {
                        *acc = q.mul_add(V::load_first(key.add(whole), dim - whole), *acc);
                    }
                }
                for (n, acc) in acc.iter().enumerate().take(count) {
                    *d.out.add(row * d.stride + first + n) = acc.reduce_add();
                }
            }
        }
    }
}

/// Steps between the keys that are read and those that are asked for.
const AHEAD: usize = 2;
