//! What the options ask for between products and weighted sums: elementwise passes over a tile that lies in a near cache.
//!
//! ```text
//! forward                                                     backward
//!   logit  = cap(scale · product) + bias    logits              the same, and cap'
//!   weight = max(logit, 0) / n, or          weigh               the same, and its derivative by the logit
//!            1 / (1 + n e^-logit)
//!   weight = 0 where dropped                drop                the same, for the same ones
//!                                                               d_bias += d_logit along diagonals    diagonals
//!                                                               d_product = d_logit · cap'           chain
//! ```
//!
//! Each costs some cycles for 16 pairs, where the two products of the forward pass take 64 at width 64. What needs none of it
//! runs none of it.

use super::micro::{Finish, Span};
use super::softmax::{clear, keep_span, registers};
use crate::random::Block;
use crate::simd::{Vector, exp2, random_bits, tanh};

/// A tile of products on its way to logits.
#[derive(Clone, Copy)]
pub(crate) struct Logits<'a> {
    /// `stride` numbers a row.
    pub(crate) tile: *mut f32,
    pub(crate) stride: usize,
    /// For each row, the columns it may attend to; no others are changed, but those of their registers.
    pub(crate) spans: &'a [Span],
    /// What products are multiplied by.
    pub(crate) scale: f32,
    /// The bound of the logits, before the bias.
    pub(crate) cap: Option<f32>,
    /// For each row, where what is added to column 0 lies, or would; null for nothing.
    pub(crate) addends: &'a [*const f32],
    /// Written, if not null: the derivative of the cap.
    pub(crate) slope: *mut f32,
}

/// `x = cap · tanh(scale · x / cap) + addend`, or `scale · x + addend`.
///
/// # Safety
///
/// The instruction set of `V`; tile and slope hold `spans.len()` rows, addends the columns of their spans, rounded down to a
/// whole register at the first.
#[inline(always)]
pub(crate) unsafe fn logits<V: Vector>(l: &Logits<'_>) {
    // SAFETY: by the contract.
    unsafe {
        match l.cap {
            None => logit_rows::<V, false>(l, 1.0),
            Some(cap) => logit_rows::<V, true>(l, cap),
        }
    }
}

/// # Safety
///
/// That of [`logits`].
#[inline(always)]
unsafe fn logit_rows<V: Vector, const CAP: bool>(l: &Logits<'_>, cap: f32) {
    for (row, span) in l.spans.iter().enumerate() {
        let (first, end) = registers::<V>(*span);
        let addend = l.addends[row];
        // SAFETY: by the contract; the last register of the addends is read up to the end of the span.
        unsafe {
            let tile = l.tile.add(row * l.stride);
            let (scale, cap_in) = (V::splat(l.scale), V::splat(l.scale / cap));
            for at in (first..end).step_by(V::LANES) {
                let x = V::load(tile.add(at));
                let count = span.end - at;
                let b = if addend.is_null() {
                    V::splat(0.0)
                } else if count >= V::LANES {
                    V::load(addend.wrapping_add(at))
                } else {
                    V::load_first(addend.wrapping_add(at), count)
                };
                let logit = if CAP {
                    let t = tanh(x.mul(cap_in));
                    if !l.slope.is_null() {
                        V::splat(1.0).sub(t.mul(t)).store(l.slope.add(row * l.stride + at));
                    }
                    t.mul_add(V::splat(cap), b)
                } else {
                    x.mul_add(scale, b)
                };
                logit.store(tile.add(at));
            }
        }
    }
}

/// A tile of logits on its way to weights that do not depend on each other.
#[derive(Clone, Copy)]
pub(crate) struct Weigh<'a> {
    /// `stride` numbers a row: products in, weights out.
    pub(crate) tile: *mut f32,
    pub(crate) stride: usize,
    /// For each row, the columns it may attend to. The weights of all others, up to `columns`, become zero.
    pub(crate) spans: &'a [Span],
    pub(crate) columns: usize,
    /// What the tile is multiplied by to be logits.
    pub(crate) scale: f32,
    /// n of each row.
    pub(crate) counts: &'a [f32],
    /// The sigmoid, or else the ReLU.
    pub(crate) sigmoid: bool,
    /// Written, if not null: the derivative of each weight by its logit.
    pub(crate) derivative: *mut f32,
}

/// `w = max(x, 0) / n`, `w' = [x > 0] / n`, or `w = 1 / (1 + n e^-x)`, `w' = w (1 - w)`.
///
/// # Safety
///
/// The instruction set of `V`; the pointers hold what they say for `spans.len()` rows.
#[inline(always)]
pub(crate) unsafe fn weigh<V: Vector>(w: &Weigh<'_>) {
    // SAFETY: by the contract.
    unsafe {
        if w.sigmoid {
            weigh_rows::<V, true>(w);
        } else {
            weigh_rows::<V, false>(w);
        }
    }
}

/// # Safety
///
/// That of [`weigh`].
#[inline(always)]
unsafe fn weigh_rows<V: Vector, const SIGMOID: bool>(w: &Weigh<'_>) {
    for (row, span) in w.spans.iter().enumerate() {
        // SAFETY: by the contract.
        unsafe {
            let tile = w.tile.add(row * w.stride);
            let derivative = if w.derivative.is_null() { w.derivative } else { w.derivative.add(row * w.stride) };
            let (first, end) = registers::<V>(*span);
            let (zero, one) = (V::splat(0.0), V::splat(1.0));
            let share = V::splat(1.0 / w.counts[row]);
            let (factor, shift) = (V::splat(-w.scale * std::f32::consts::LOG2_E), V::splat(w.counts[row].log2()));
            for at in (first..end).step_by(V::LANES) {
                let x = V::load(tile.add(at));
                let (weight, slope) = if SIGMOID {
                    // from 128 on the power is infinite and the weight 0; a NaN goes through
                    let power = exp2(V::splat(128.0).min(x.mul_add(factor, shift)));
                    let weight = one.div(one.add(power));
                    (weight, weight.mul(one.sub(weight)))
                } else {
                    let x = x.mul(V::splat(w.scale));
                    (zero.max(x).mul(share), share.where_positive(zero, x))
                };
                weight.store(tile.add(at));
                if !derivative.is_null() {
                    slope.store(derivative.add(at));
                }
            }
            keep_span(tile, *span, zero);
            clear::<V>(tile, first, end, w.columns);
            if !derivative.is_null() {
                keep_span(derivative, *span, zero);
                clear::<V>(derivative, first, end, w.columns);
            }
        }
    }
}

/// What becomes of a second tile when weights are dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// There is none.
    None,
    /// The weights as they were are copied to it.
    Copied,
    /// The same of it are dropped.
    Dropped,
}

/// A tile of weights of which some are dropped.
#[derive(Clone, Copy)]
pub(crate) struct Drops<'a> {
    /// `stride` numbers a row.
    pub(crate) tile: *mut f32,
    pub(crate) stride: usize,
    pub(crate) columns: usize,
    /// For each row, what its choices are drawn from.
    pub(crate) rows: &'a [Block],
    /// The key of column 0, where keys follow each other.
    pub(crate) first: u32,
    /// The key of each column, where they do not; null where they do.
    pub(crate) list: *const u32,
    /// The smallest bits that are kept.
    pub(crate) least: u32,
    /// Laid out as the tile.
    pub(crate) second: *mut f32,
    pub(crate) use_second: Second,
}

/// `w = 0` where the bits of row and key are less than `least`. The others are not multiplied: that is done once, to their sum.
///
/// # Safety
///
/// The instruction set of `V`; the pointers hold what they say for `rows.len()` rows and the columns, rounded up to whole
/// registers.
#[inline(always)]
pub(crate) unsafe fn drops<V: Vector>(d: &Drops<'_>) {
    // SAFETY: by the contract.
    unsafe {
        match d.use_second {
            Second::None => drop_rows::<V, false, false>(d),
            Second::Copied => drop_rows::<V, true, false>(d),
            Second::Dropped => drop_rows::<V, false, true>(d),
        }
    }
}

/// # Safety
///
/// That of [`drops`].
#[inline(always)]
unsafe fn drop_rows<V: Vector, const COPY: bool, const BOTH: bool>(d: &Drops<'_>) {
    for (row, &block) in d.rows.iter().enumerate() {
        // SAFETY: by the contract.
        unsafe {
            let tile = d.tile.add(row * d.stride);
            let second = if COPY || BOTH { d.second.add(row * d.stride) } else { d.second };
            for at in (0..d.columns).step_by(V::LANES) {
                let keys = if d.list.is_null() {
                    V::counting(d.first.wrapping_add(at as u32))
                } else {
                    V::load_bits(d.list.add(at))
                };
                let bits = random_bits::<V>(block, keys);
                let weight = V::load(tile.add(at));
                if COPY {
                    weight.store(second.add(at));
                }
                if BOTH {
                    V::load(second.add(at)).where_at_least(bits, d.least).store(second.add(at));
                }
                weight.where_at_least(bits, d.least).store(tile.add(at));
            }
        }
    }
}

/// The gradient of the logits where weights were dropped or do not depend on each other:
/// `d_logit = kept · d_weight · factor + whole · minus_delta`.
pub(crate) struct Mixed {
    /// Weights of those kept, or the derivatives of theirs.
    pub(crate) kept: *const f32,
    /// All weights; where they do not depend on each other, `minus_delta` is 0.
    pub(crate) whole: *const f32,
    /// `-delta` of each row.
    pub(crate) minus_delta: *const f32,
    /// `1 / (1 - rate)`.
    pub(crate) factor: f32,
}

impl<V: Vector> Finish<V> for Mixed {
    #[inline(always)]
    unsafe fn finish(&self, d_weights: V, row: usize, at: usize) -> V {
        // SAFETY: row and place exist, says the caller.
        unsafe {
            let through_others = V::load(self.whole.add(at)).mul(V::splat(*self.minus_delta.add(row)));
            d_weights.mul(V::splat(self.factor)).mul_add(V::load(self.kept.add(at)), through_others)
        }
    }

    #[inline(always)]
    unsafe fn prefetch(&self, at: usize) {
        // SAFETY: the place exists, says the caller.
        unsafe { V::prefetch(self.kept.add(at)) }
    }
}

/// Two tiles of one shape.
#[derive(Clone, Copy)]
pub(crate) struct Chain<'a> {
    /// `stride` numbers a row.
    pub(crate) tile: *mut f32,
    /// The same.
    pub(crate) slope: *const f32,
    pub(crate) stride: usize,
    /// For each row, the columns it may attend to; other columns of their registers become 0.
    pub(crate) spans: &'a [Span],
}

/// `x = x · slope`.
///
/// # Safety
///
/// The instruction set of `V`; the pointers hold what they say for `spans.len()` rows.
#[inline(always)]
pub(crate) unsafe fn chain<V: Vector>(c: &Chain<'_>) {
    for (row, span) in c.spans.iter().enumerate() {
        let (first, end) = registers::<V>(*span);
        // SAFETY: by the contract.
        unsafe {
            let (tile, slope) = (c.tile.add(row * c.stride), c.slope.add(row * c.stride));
            for at in (first..end).step_by(V::LANES) {
                V::load(tile.add(at)).mul(V::load(slope.add(at))).store(tile.add(at));
            }
            keep_span(tile, *span, V::splat(0.0));
        }
    }
}

/// A tile that is summed along its diagonals.
#[derive(Clone, Copy)]
pub(crate) struct Diagonals<'a> {
    /// `stride` numbers a row.
    pub(crate) tile: *const f32,
    pub(crate) stride: usize,
    /// For each row, the columns it may attend to.
    pub(crate) spans: &'a [Span],
    /// Where the diagonal through row 0 and column 0 is added to; that of row r and column c lies `c - r` numbers behind.
    pub(crate) out: *mut f32,
}

/// `out[c - r] += tile[r][c]`: rows from the first to the last, a register of neighbouring diagonals at a time, so that each is
/// loaded and stored once.
///
/// # Safety
///
/// The instruction set of `V`; the tile holds the spans of its rows and lies within an allocation that has as many numbers
/// more on either side as a register; `out` holds all diagonals and a register more on either side.
#[inline(always)]
pub(crate) unsafe fn diagonals<V: Vector>(d: &Diagonals<'_>) {
    let rows = d.spans.iter().enumerate().filter(|(_, span)| !span.is_empty());
    let first = rows.clone().map(|(row, span)| span.first as isize - row as isize).min();
    let end = rows.map(|(row, span)| span.end as isize - row as isize).max();
    let (Some(mut at), Some(end)) = (first, end) else { return };
    while at < end {
        // SAFETY: by the contract: registers that begin or end outside of a span lie in the allocation, and lanes outside are
        // not used.
        unsafe {
            let mut sum = V::load(d.out.offset(at));
            for (row, span) in d.spans.iter().enumerate() {
                let column = at + row as isize;
                let (from, to) = (span.first as isize - column, span.end as isize - column);
                if span.is_empty() || from >= V::LANES as isize || to <= 0 {
                    continue;
                }
                let x = V::load(d.tile.offset(row as isize * d.stride as isize + column));
                sum = if from <= 0 && to >= V::LANES as isize {
                    sum.add(x)
                } else {
                    let (from, to) = (from.max(0) as usize, (to as usize).min(V::LANES));
                    sum.add(x.keep(from, to, V::splat(0.0)))
                };
            }
            sum.store(d.out.offset(at));
        }
        at += V::LANES as isize;
    }
}
