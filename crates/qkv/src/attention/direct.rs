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
                // Key by key, each in order, as memory is read best; the chains of several keys run side by side all the same.
                for (acc, key) in acc.iter_mut().zip(key) {
                    for column in (0..whole).step_by(V::LANES) {
                        let q = V::load(d.left.add((column / SLAB * d.spans.len() + row) * SLAB + column % SLAB));
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
const AHEAD: usize = 4;

/// Values between the one that is added and the one that is asked for.
const VALUES_AHEAD: usize = 16;

/// Registers across a sum: with those of two rows they fill half of the widest instruction set's, and a value of 128 numbers is
/// read in one go.
const WIDTH: usize = 8;

/// The operands of [`direct_sums`].
#[derive(Clone, Copy)]
pub(crate) struct DirectSums<'a> {
    /// Weights, `stride` numbers a row.
    pub(crate) left: *const f32,
    pub(crate) stride: usize,
    /// Values in the caller's memory, of whole registers.
    pub(crate) values: Rows,
    /// For each row, the values that take part.
    pub(crate) spans: &'a [Span],
    /// `out_stride` numbers a row, of which `values.dim` are sums.
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    /// What each row is multiplied by before the sum is added; nothing if null.
    pub(crate) rescale: *const f32,
}

/// `out[r][c] = out[r][c] · rescale[r] + Σ_j left[r][j] · values[j][c]`.
///
/// # Safety
///
/// The instruction set of `V`; the operands hold what they say, weights outside of a row's span but within that of another
/// are 0.
#[inline(always)]
pub(crate) unsafe fn direct_sums<V: Vector>(d: &DirectSums<'_>) {
    for (first, count) in super::micro::even_parts(d.spans.len(), 2) {
        let mut column = 0;
        while column < d.values.dim {
            // SAFETY: rows and registers exist, by the contract.
            column += V::LANES
                * unsafe {
                    match (count, (d.values.dim - column) / V::LANES) {
                        (1, WIDTH..) => direct_sum::<V, 1, WIDTH>(d, first, column),
                        (_, WIDTH..) => direct_sum::<V, 2, WIDTH>(d, first, column),
                        (1, 4..) => direct_sum::<V, 1, 4>(d, first, column),
                        (_, 4..) => direct_sum::<V, 2, 4>(d, first, column),
                        (1, 2..) => direct_sum::<V, 1, 2>(d, first, column),
                        (_, 2..) => direct_sum::<V, 2, 2>(d, first, column),
                        (1, _) => direct_sum::<V, 1, 1>(d, first, column),
                        (_, _) => direct_sum::<V, 2, 1>(d, first, column),
                    }
                };
        }
    }
}

/// So many rows and registers from `column` on; returns how many registers.
///
/// # Safety
///
/// That of [`direct_sums`].
#[inline(always)]
unsafe fn direct_sum<V: Vector, const ROWS: usize, const REGISTERS: usize>(
    d: &DirectSums<'_>,
    row: usize,
    column: usize,
) -> usize {
    // SAFETY: by the contract.
    unsafe {
        let mut acc = [[V::splat(0.0); REGISTERS]; ROWS];
        for (r, acc) in acc.iter_mut().enumerate() {
            let factor = V::splat(if d.rescale.is_null() { 1.0 } else { *d.rescale.add(row + r) });
            for (n, acc) in acc.iter_mut().enumerate() {
                *acc = V::load(d.out.add((row + r) * d.out_stride + column + n * V::LANES)).mul(factor);
            }
        }
        let hull = Span::hull(&d.spans[row..row + ROWS]);
        let hull = if hull.is_empty() { Span::default() } else { hull };
        for j in hull.first..hull.end {
            let value = d.values.start.add(j * d.values.stride + column);
            let mut weights = [V::splat(0.0); ROWS];
            for (r, weight) in weights.iter_mut().enumerate() {
                *weight = V::splat(*d.left.add((row + r) * d.stride + j));
            }
            for n in 0..REGISTERS {
                let x = V::load(value.add(n * V::LANES));
                V::prefetch(value.wrapping_add(n * V::LANES + VALUES_AHEAD * d.values.stride));
                for (acc, weight) in acc.iter_mut().zip(weights) {
                    acc[n] = weight.mul_add(x, acc[n]);
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (n, acc) in acc.iter().enumerate() {
                acc.store(d.out.add((row + r) * d.out_stride + column + n * V::LANES));
            }
        }
    }
    REGISTERS
}
