//! From products to weights: the online softmax of the forward pass, and its repetition in the backward pass.
//!
//! ```text
//! forward, for each tile of keys          backward
//!   new = max(row_max, max_j x_j)           w_j  = 2^(factor · (x_j - origin) + rest)
//!   r   = 2^(factor · (row_max - new))
//!   w_j = 2^(factor · (x_j - new))
//!   row_sum = row_sum · r + Σ_j w_j
//!   row_max = new
//! ```
//!
//! with x the plain products and `factor = scale · log2 e`: the scale costs nothing. (Milakov and Gimelshein, 2018.)
//!
//! The backward pass normalises with the log-sum-exp, which it is given in f64: `origin` is the product at which the weight would be
//! 1, as near as an f32 comes to it, and `rest` what is left of it, in powers of 2. So a row whose weight is all on one key has the
//! weight 1 again, however large its logits.

use super::micro::{Finish, Span};
use crate::simd::{Vector, exp2};

/// Partial sums of a row that are kept apart: the lanes of the widest register.
pub(crate) const ROW_SUMS: usize = 16;

/// A tile of products on its way to weights, and the state of its rows.
#[derive(Clone, Copy)]
pub(crate) struct Online<'a> {
    /// `STRIDE` numbers a row: products in, weights out.
    pub(crate) tile: *mut f32,
    /// For each row, the columns it may attend to. The weights of all others, up to `columns`, become zero.
    pub(crate) spans: &'a [Span],
    /// Columns of the tile: a multiple of the widest register.
    pub(crate) columns: usize,
    /// What products are multiplied by before 2 is raised to them; not negative.
    pub(crate) factor: f32,
    /// The largest product of each row so far.
    pub(crate) row_max: *mut f32,
    /// `ROW_SUMS` partial sums of each row.
    pub(crate) row_sum: *mut f32,
    /// Written: what the row's sums so far are to be multiplied by. Room for a multiple of `ROW_SUMS` rows.
    pub(crate) rescale: *mut f32,
}

/// The forward step of the module's head.
///
/// # Safety
///
/// The instruction set of `V`; the pointers hold what they say for `spans.len()` rows.
#[inline(always)]
pub(crate) unsafe fn online<V: Vector, const STRIDE: usize>(o: &Online<'_>) {
    let rows = o.spans.len();
    // SAFETY: by the contract.
    unsafe {
        for (row, span) in o.spans.iter().enumerate() {
            let before = *o.row_max.add(row);
            let mut after = before;
            if !span.is_empty() {
                after = after.max(largest::<V>(o.tile.add(row * STRIDE), *span));
            }
            // -∞ before and after is a row that may attend to nothing yet
            *o.rescale.add(row) = if before == after { 0.0 } else { (before - after) * o.factor };
            *o.row_max.add(row) = after;
        }
        for row in (0..rows).step_by(V::LANES) {
            exp2(V::load(o.rescale.add(row))).store(o.rescale.add(row));
        }
        for (row, span) in o.spans.iter().enumerate() {
            let tile = o.tile.add(row * STRIDE);
            let row_max = *o.row_max.add(row);
            // (−∞ of a row without a key: from whatever else is −∞ less that, NaN would come)
            let origin = if row_max == f32::NEG_INFINITY { 0.0 } else { row_max };
            let total = raise::<V>(tile, *span, o.columns, [o.factor, origin, 0.0]);
            let row_sum = o.row_sum.add(row * ROW_SUMS);
            V::load(row_sum).mul_add(V::splat(*o.rescale.add(row)), total).store(row_sum);
        }
    }
}

/// The largest number of a row within a span that is not empty. Numbers of a register that lie outside of it become -∞.
///
/// # Safety
///
/// The instruction set of `V`; the span, rounded to whole registers, can be read and written.
#[inline(always)]
unsafe fn largest<V: Vector>(row: *mut f32, span: Span) -> f32 {
    let (first, end) = registers::<V>(span);
    // SAFETY: by the contract.
    unsafe {
        let outside = V::splat(f32::NEG_INFINITY);
        keep_span(row, span, outside);
        let mut most = outside;
        for at in (first..end).step_by(V::LANES) {
            most = most.max(V::load(row.add(at)));
        }
        most.reduce_max()
    }
}

/// `x = 2^(factor · (x - origin) + rest)` within the span, 0 in the other registers up to `columns`; returns the sums.
///
/// Less the origin before it is multiplied, the largest product is exactly 0: of logits so large that the product of one with
/// the factor is rounded by more than the exponent has room for, neither infinity nor NaN comes.
///
/// # Safety
///
/// The instruction set of `V`; `columns` numbers can be read and written, and those of the span's registers that lie
/// outside of it are -∞.
#[inline(always)]
unsafe fn raise<V: Vector>(row: *mut f32, span: Span, columns: usize, [factor, origin, rest]: [f32; 3]) -> V {
    // SAFETY: by the contract.
    unsafe {
        let mut total = V::splat(0.0);
        let (first, end) = registers::<V>(span);
        clear::<V>(row, first, end, columns);
        let (factor, origin, rest) = (V::splat(factor), V::splat(origin), V::splat(rest));
        for at in (first..end).step_by(V::LANES) {
            let weight = exp2(V::load(row.add(at)).sub(origin).mul_add(factor, rest));
            weight.store(row.add(at));
            total = total.add(weight);
        }
        total
    }
}

/// The span, rounded to whole registers; `(0, 0)` if it is empty.
#[inline(always)]
pub(super) fn registers<V: Vector>(span: Span) -> (usize, usize) {
    if span.is_empty() { (0, 0) } else { (span.first / V::LANES * V::LANES, span.end.next_multiple_of(V::LANES)) }
}

/// Numbers of the span's registers that lie outside of it become those of `outside`.
///
/// # Safety
///
/// The instruction set of `V`; the span, rounded to whole registers, can be read and written.
#[inline(always)]
pub(super) unsafe fn keep_span<V: Vector>(row: *mut f32, span: Span, outside: V) {
    let (first, end) = registers::<V>(span);
    // SAFETY: by the contract.
    unsafe {
        if first < span.first && !span.is_empty() {
            V::load(row.add(first)).keep(span.first - first, V::LANES, outside).store(row.add(first));
        }
        if span.end < end {
            let last = end - V::LANES;
            V::load(row.add(last)).keep(0, span.end - last, outside).store(row.add(last));
        }
    }
}

/// Zeros in `0..first` and `end..columns`.
///
/// # Safety
///
/// The instruction set of `V`; all three are multiples of its width, and `columns` numbers can be written.
#[inline(always)]
pub(super) unsafe fn clear<V: Vector>(row: *mut f32, first: usize, end: usize, columns: usize) {
    for range in [0..first, end..columns] {
        for at in range.step_by(V::LANES) {
            // SAFETY: by the contract.
            unsafe { V::splat(0.0).store(row.add(at)) }
        }
    }
}

/// The sum of each row, of its `ROW_SUMS` partial sums.
///
/// # Safety
///
/// The instruction set of `V`; `rows · ROW_SUMS` numbers can be read, and `rows` written.
#[inline(always)]
pub(crate) unsafe fn totals<V: Vector>(row_sum: *const f32, rows: usize, to: *mut f32) {
    for row in 0..rows {
        // SAFETY: by the contract. Only as many partial sums as a register has lanes were ever added to.
        unsafe { *to.add(row) = V::load(row_sum.add(row * ROW_SUMS)).reduce_add() }
    }
}

/// A tile of products whose rows are finished.
#[derive(Clone, Copy)]
pub(crate) struct Again<'a> {
    /// `STRIDE` numbers a row: products in, weights out.
    pub(crate) tile: *mut f32,
    /// A tile of the same shape; rows that may not attend to all columns are zeroed, for what is left out later.
    pub(crate) gradient: *mut f32,
    /// For each row, the columns it may attend to.
    pub(crate) spans: &'a [Span],
    /// Columns of the tile.
    pub(crate) columns: usize,
    /// `scale · log2 e`.
    pub(crate) factor: f32,
    /// The product at which the weight of each row would be 1; ∞ for a row that attends to nothing.
    pub(crate) origin: *const f32,
    /// What is left of it, in powers of 2.
    pub(crate) rest: *const f32,
}

/// The backward step of the module's head.
///
/// # Safety
///
/// The instruction set of `V`; the pointers hold what they say for `spans.len()` rows.
#[inline(always)]
pub(crate) unsafe fn again<V: Vector, const STRIDE: usize>(a: &Again<'_>) {
    for (row, span) in a.spans.iter().enumerate() {
        // SAFETY: by the contract.
        unsafe {
            let tile = a.tile.add(row * STRIDE);
            raise::<V>(tile, *span, a.columns, [a.factor, *a.origin.add(row), *a.rest.add(row)]);
            if span.first > 0 || span.end < a.columns {
                clear::<V>(a.gradient.add(row * STRIDE), 0, 0, a.columns);
                keep_span(tile, *span, V::splat(0.0));
            }
        }
    }
}

/// The gradient of the products, from that of the weights: `d_products = weights · (d_weights - delta) · scale`.
pub(crate) struct Gradient {
    /// The weights, laid out as the tile.
    pub(crate) weights: *const f32,
    /// `-scale · delta` of each row.
    pub(crate) minus_delta: *const f32,
    /// The scale of the products.
    pub(crate) scale: f32,
}

impl<V: Vector> Finish<V> for Gradient {
    #[inline(always)]
    unsafe fn finish(&self, d_weights: V, row: usize, at: usize) -> V {
        // SAFETY: row and place exist, says the caller.
        unsafe {
            let difference = d_weights.mul_add(V::splat(self.scale), V::splat(*self.minus_delta.add(row)));
            difference.mul(V::load(self.weights.add(at)))
        }
    }

    #[inline(always)]
    unsafe fn prefetch(&self, at: usize) {
        // SAFETY: the place exists, says the caller.
        unsafe { V::prefetch(self.weights.add(at)) }
    }
}
