//! The two register tiles that nearly all time is spent in.
//!
//! ```text
//! products   out[r][j]  = Σ_c left[r][c] · right[j][c]       q · k and d_out · v; right in panels
//! sums       out[r][c] += Σ_t left[r][t] · right[t][c]       weights · v, and the three gradients
//! ```
//!
//! Both keep their sums in registers over the whole inner loop, and each number of the result is one chain of
//! multiply-adds in ascending order, whatever rows it shares a tile with: the bits of a row do not depend on its
//! neighbours.

use super::pack::SLAB;
use crate::simd::Vector;

/// The columns that a row of a tile may attend to, counted from the first of the tile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: usize,
    pub(crate) end: usize,
}

impl Span {
    /// No column.
    pub(crate) const NONE: Span = Span { first: usize::MAX, end: 0 };

    pub(crate) fn is_empty(self) -> bool {
        self.first >= self.end
    }

    /// The smallest span that holds all of `spans`.
    #[inline(always)]
    pub(crate) fn hull(spans: &[Span]) -> Span {
        spans
            .iter()
            .filter(|span| !span.is_empty())
            .fold(Span::NONE, |hull, span| Span { first: hull.first.min(span.first), end: hull.end.max(span.end) })
    }
}

/// Runs `$body` with the constant `$rows` equal to `$count`, for counts up to `$most`.
macro_rules! with_rows {
    ($count:expr, $most:expr, $rows:ident => $body:expr) => {
        with_rows!(@ $count, $most, $rows, $body, 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@ $count:expr, $most:expr, $rows:ident, $body:expr, $($n:literal)*) => {
        match $count {
            $($n if $n <= $most => {
                const $rows: usize = $n;
                $body
            })*
            count => unreachable!("{count} rows in a tile of {}", $most),
        }
    };
}

pub(crate) use with_rows;

/// Splits `0..count` into as few parts of at most `most` as there can be, as even as they can be.
#[inline(always)]
pub(crate) fn even_parts(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = count.div_ceil(most);
    let size = count.checked_div(parts).unwrap_or(0);
    let longer = count - size * parts;
    (0..parts).map(move |part| (part * size + part.min(longer), size + usize::from(part < longer)))
}

/// What happens to a register of products before it is stored.
pub(crate) trait Finish<V> {
    /// The register of row `row` that is stored `at` numbers behind the beginning of the tile.
    ///
    /// # Safety
    ///
    /// The instruction set of `V`, and that the row and the place exist.
    unsafe fn finish(&self, products: V, row: usize, at: usize) -> V;

    /// Asks for what the register at that place will need.
    ///
    /// # Safety
    ///
    /// As [`Finish::finish`].
    #[inline(always)]
    unsafe fn prefetch(&self, _at: usize) {}
}

/// Nothing.
pub(crate) struct AsIs;

impl<V> Finish<V> for AsIs {
    #[inline(always)]
    unsafe fn finish(&self, products: V, _: usize, _: usize) -> V {
        products
    }
}

/// The operands of [`products`].
#[derive(Clone, Copy)]
pub(crate) struct Products<'a> {
    /// Slabs of `height` rows, from the first row of the tile on.
    pub(crate) left: *const f32,
    /// Rows of a slab.
    pub(crate) height: usize,
    /// Panels.
    pub(crate) right: *const f32,
    /// Length of the vectors.
    pub(crate) dim: usize,
    /// For each row, the columns that are wanted. Panels without one are left as they are.
    pub(crate) spans: &'a [Span],
    /// `STRIDE` numbers a row.
    pub(crate) out: *mut f32,
}

/// `out[r][j] = finish(Σ_c left[r][c] · right[j][c])`.
///
/// # Safety
///
/// The instruction set of `V`; the operands hold what they say, for `spans.len()` rows and the columns of all spans, rounded
/// to whole panels; `finish` may be called for all of them.
#[inline(always)]
pub(crate) unsafe fn products<V: Vector, F: Finish<V>, const STRIDE: usize>(p: &Products<'_>, finish: &F) {
    let panel = 2 * V::LANES;
    let hull = Span::hull(p.spans);
    if hull.is_empty() {
        return;
    }
    // A panel stays in the first-level cache while all rows pass over it.
    for n in hull.first / panel..hull.end.div_ceil(panel) {
        for (row, rows) in even_parts(p.spans.len(), V::PRODUCT_ROWS) {
            let wanted = Span::hull(&p.spans[row..row + rows]);
            if wanted.first >= (n + 1) * panel || wanted.end <= n * panel {
                continue;
            }
            // SAFETY: row and panel exist, by the contract.
            unsafe {
                let left = p.left.add(row * SLAB);
                let right = p.right.add(n * panel * p.dim);
                for r in row..row + rows {
                    finish.prefetch(r * STRIDE + n * panel);
                    finish.prefetch(r * STRIDE + n * panel + V::LANES);
                }
                with_rows!(rows, V::PRODUCT_ROWS, ROWS => {
                    let acc = product_tile::<V, ROWS, true>(left, p.height * SLAB, right, p.dim);
                    for (r, acc) in (row..).zip(acc) {
                        let at = r * STRIDE + n * panel;
                        finish.finish(acc[0], r, at).store(p.out.add(at));
                        finish.finish(acc[1], r, at + V::LANES).store(p.out.add(at + V::LANES));
                    }
                });
            }
        }
    }
}

/// `ROWS` rows against one panel.
///
/// # Safety
///
/// The instruction set of `V`; `left` holds `ROWS` rows in slabs `slab` numbers apart, `right` a panel of `dim` columns.
#[inline(always)]
pub(crate) unsafe fn product_tile<V: Vector, const ROWS: usize, const NEXT: bool>(
    mut left: *const f32,
    slab: usize,
    mut right: *const f32,
    dim: usize,
) -> [[V; 2]; ROWS] {
    // SAFETY: by the contract; the last step of a slab is the last column or the end of the slab.
    unsafe {
        let mut acc = [[V::splat(0.0); 2]; ROWS];
        let mut remaining = dim;
        while remaining > 0 {
            let steps = remaining.min(SLAB);
            for step in 0..steps {
                let (b0, b1) = (V::load(right), V::load(right.add(V::LANES)));
                if NEXT {
                    // The next panel, which a window reaches too soon for the processor to guess it.
                    V::prefetch(right.wrapping_add(2 * V::LANES * dim));
                    V::prefetch(right.wrapping_add(2 * V::LANES * dim + V::LANES));
                }
                right = right.add(2 * V::LANES);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let a = V::splat(*left.add(r * SLAB + step));
                    acc[0] = a.mul_add(b0, acc[0]);
                    acc[1] = a.mul_add(b1, acc[1]);
                }
            }
            remaining -= steps;
            left = left.wrapping_add(slab);
        }
        acc
    }
}

/// The operands of [`sums`].
#[derive(Clone, Copy)]
pub(crate) struct Sums<'a> {
    /// Number `r · ROW + t · TERM` is `left[r][t]`.
    pub(crate) left: *const f32,
    /// Number `t · right_stride + c` is `right[t][c]` within one slab (or row), see [`sums`].
    pub(crate) right: *const f32,
    /// From one term to the next.
    pub(crate) right_stride: usize,
    /// Number `r · out_stride + c` is `out[r][c]`.
    pub(crate) out: *mut f32,
    /// From one row to the next.
    pub(crate) out_stride: usize,
    /// How many rows.
    pub(crate) rows: usize,
    /// How many columns: whole slabs.
    pub(crate) columns: usize,
    /// The spans of the tile of weights, by query.
    pub(crate) spans: &'a [Span],
    /// What each row is multiplied by before the sum is added; nothing if null.
    pub(crate) rescale: *const f32,
}

/// `out[r][c] = out[r][c] · rescale[r] + Σ_t left[r][t] · right[t][c]`, over the terms that some row of a register tile
/// attends to; the weights of the others are zero.
///
/// `ROW` and `TERM` are the strides of the left operand: `(STRIDE, 1)` where its rows are queries, `(1, STRIDE)` where they
/// are keys. Slab `s` of the right operand begins `s · SLABS` numbers behind the first.
///
/// # Safety
///
/// The instruction set of `V`; the operands hold what they say.
#[inline(always)]
pub(crate) unsafe fn sums<V: Vector, const ROW: usize, const TERM: usize, const SLABS: usize>(s: &Sums<'_>) {
    let vectors = s.columns / V::LANES;
    for (vector, width) in strips(vectors, V::SUM_VECTORS) {
        for (row, rows) in even_parts(s.rows, V::SUM_ROWS) {
            let terms = if TERM == 1 {
                Span::hull(&s.spans[row..row + rows])
            } else {
                queries_of(s.spans, Span { first: row, end: row + rows })
            };
            if terms.is_empty() && s.rescale.is_null() {
                continue;
            }
            let terms = if terms.is_empty() { Span::default() } else { terms };
            let column = vector * V::LANES;
            // SAFETY: row, column and terms exist, by the contract.
            unsafe {
                let tile = SumTile {
                    left: s.left.add(row * ROW + terms.first * TERM),
                    right: s.right.add(column / SLAB * SLABS + column % SLAB + terms.first * s.right_stride),
                    right_stride: s.right_stride,
                    terms: terms.end - terms.first,
                    out: s.out.add(row * s.out_stride + column),
                    out_stride: s.out_stride,
                    rescale: if s.rescale.is_null() { s.rescale } else { s.rescale.add(row) },
                };
                with_rows!(rows, V::SUM_ROWS, ROWS => match width {
                    1 => tile.run::<V, ROWS, 1, ROW, TERM, SLABS>(),
                    2 if V::SUM_VECTORS >= 2 => tile.run::<V, ROWS, 2, ROW, TERM, SLABS>(),
                    3 if V::SUM_VECTORS >= 3 => tile.run::<V, ROWS, 3, ROW, TERM, SLABS>(),
                    4 if V::SUM_VECTORS >= 4 => tile.run::<V, ROWS, 4, ROW, TERM, SLABS>(),
                    width => unreachable!("{width} registers in a tile of {}", V::SUM_VECTORS),
                });
            }
        }
    }
}

/// Splits `0..count` into parts of `size` and a last one of what remains.
#[inline(always)]
fn strips(count: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).step_by(size).map(move |first| (first, size.min(count - first)))
}

/// The queries, first to last, whose span meets `keys`.
#[inline(always)]
fn queries_of(spans: &[Span], keys: Span) -> Span {
    let meets = |span: &Span| span.first < keys.end && span.end > keys.first && !span.is_empty();
    match spans.iter().position(meets) {
        None => Span::NONE,
        Some(first) => Span { first, end: spans.iter().rposition(meets).map_or(first, |last| last + 1) },
    }
}

/// Terms between the one that is added and the one whose cache lines are asked for: some 200 cycles.
const AHEAD: usize = 16;

/// One register tile of [`sums`].
struct SumTile {
    left: *const f32,
    right: *const f32,
    right_stride: usize,
    terms: usize,
    out: *mut f32,
    out_stride: usize,
    rescale: *const f32,
}

impl SumTile {
    /// `ROWS` rows, `WIDTH` registers.
    ///
    /// # Safety
    ///
    /// That of [`sums`].
    #[inline(always)]
    unsafe fn run<
        V: Vector,
        const ROWS: usize,
        const WIDTH: usize,
        const ROW: usize,
        const TERM: usize,
        const SLABS: usize,
    >(
        &self,
    ) {
        // SAFETY: by the contract.
        unsafe {
            let mut acc = [[V::splat(0.0); WIDTH]; ROWS];
            for (r, acc) in acc.iter_mut().enumerate() {
                for (n, acc) in acc.iter_mut().enumerate() {
                    *acc = V::load(self.out.add(r * self.out_stride + n * V::LANES));
                }
            }
            if !self.rescale.is_null() {
                for (r, acc) in acc.iter_mut().enumerate() {
                    let factor = V::splat(*self.rescale.add(r));
                    acc.iter_mut().for_each(|acc| *acc = acc.mul(factor));
                }
            }
            let (mut left, mut right) = (self.left, self.right);
            for _ in 0..self.terms {
                let mut b = [V::splat(0.0); WIDTH];
                for (n, b) in b.iter_mut().enumerate() {
                    let column = n * V::LANES;
                    let at = column / SLAB * SLABS + column % SLAB;
                    *b = V::load(right.add(at));
                    V::prefetch(right.wrapping_add(at + AHEAD * self.right_stride));
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let a = V::splat(*left.add(r * ROW));
                    for (acc, b) in acc.iter_mut().zip(b) {
                        *acc = a.mul_add(b, *acc);
                    }
                }
                left = left.wrapping_add(TERM);
                right = right.wrapping_add(self.right_stride);
            }
            for (r, acc) in acc.iter().enumerate() {
                for (n, acc) in acc.iter().enumerate() {
                    acc.store(self.out.add(r * self.out_stride + n * V::LANES));
                }
            }
        }
    }
}
