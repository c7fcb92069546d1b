//! Scores that are no products: additive ones and those of rank one, over the same tiles and layouts.
//!
//! ```text
//! forward   logit[r][j] = Σ_c w_c · act(q[r][c] + k[j][c])
//! backward  u = d_logit[r][j] · w_c · act'(q[r][c] + k[j][c])        dq[r][c] += u;  dk[j][c] += u
//!           dw_c += d_logit[r][j] · act(q[r][c] + k[j][c])
//! ```
//!
//! Forward, the keys of a panel fill the lanes of a register, backward the coordinates do, so that each of the three
//! gradients is added lane by lane. What the activation gives is computed again, never stored: N² · d of it would be.

use super::micro::{Products, Span, even_parts, with_rows};
use super::pack::SLAB;
use crate::options::ScoreActivation;
use crate::simd::{Vector, tanh};

/// Rows that share a panel's numbers while they are in registers: as many chains of tanh as hide its latency.
const ROWS: usize = 4;

/// The activation of a vector, and its derivative.
///
/// # Safety
///
/// The instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn activate<V: Vector, const TANH: bool>(x: V, slope: V) -> (V, V) {
    // SAFETY: by the contract.
    unsafe {
        if TANH {
            let t = tanh(x);
            (t, V::splat(1.0).sub(t.mul(t)))
        } else {
            let factor = V::splat(1.0).where_positive(slope, x);
            (x.mul(factor), factor)
        }
    }
}

/// The slope of the leaky ReLU; of no meaning for others.
pub(super) fn slope_of(activation: ScoreActivation) -> f32 {
    if let ScoreActivation::LeakyRelu { slope } = activation { slope } else { 0.0 }
}

/// The operands of [`additive`].
#[derive(Clone, Copy)]
pub(crate) struct Additive<'a> {
    /// As for products: slabs of queries, panels of keys.
    pub(crate) operands: Products<'a>,
    /// Numbers of a row of the tile.
    pub(crate) stride: usize,
    /// w, `dim` numbers.
    pub(crate) weights: *const f32,
    pub(crate) activation: ScoreActivation,
}

/// The forward pass of the module's head.
///
/// # Safety
///
/// That of [`products`](super::micro::products), for rows of `stride` numbers.
#[inline(always)]
pub(crate) unsafe fn additive<V: Vector>(a: &Additive<'_>) {
    // SAFETY: by the contract.
    unsafe {
        match a.activation {
            ScoreActivation::Tanh => additive_panels::<V, true>(a),
            ScoreActivation::LeakyRelu { .. } => additive_panels::<V, false>(a),
        }
    }
}

/// # Safety
///
/// That of [`additive`].
#[inline(always)]
unsafe fn additive_panels<V: Vector, const TANH: bool>(a: &Additive<'_>) {
    let p = &a.operands;
    let panel = 2 * V::LANES;
    let hull = Span::hull(p.spans);
    if hull.is_empty() {
        return;
    }
    for n in hull.first / panel..hull.end.div_ceil(panel) {
        for (row, rows) in even_parts(p.spans.len(), ROWS) {
            let wanted = Span::hull(&p.spans[row..row + rows]);
            if wanted.first >= (n + 1) * panel || wanted.end <= n * panel {
                continue;
            }
            // SAFETY: row and panel exist, by the contract.
            unsafe {
                let right = p.right.add(n * panel * p.dim);
                let out = p.out.add(row * a.stride + n * panel);
                with_rows!(rows, ROWS, COUNT => additive_tile::<V, TANH, COUNT>(a, row, right, out));
            }
        }
    }
}

/// `COUNT` rows against one panel.
///
/// # Safety
///
/// That of [`additive`].
#[inline(always)]
unsafe fn additive_tile<V: Vector, const TANH: bool, const COUNT: usize>(
    a: &Additive<'_>,
    row: usize,
    right: *const f32,
    out: *mut f32,
) {
    // SAFETY: by the contract.
    unsafe {
        let p = &a.operands;
        let slope = V::splat(slope_of(a.activation));
        let mut acc = [[V::splat(0.0); 2]; COUNT];
        for c in 0..p.dim {
            let left = p.left.add((c / SLAB * p.height + row) * SLAB + c % SLAB);
            let (k0, k1) = (V::load(right.add(c * 2 * V::LANES)), V::load(right.add(c * 2 * V::LANES + V::LANES)));
            let w = V::splat(*a.weights.add(c));
            for (r, acc) in acc.iter_mut().enumerate() {
                let q = V::splat(*left.add(r * SLAB));
                acc[0] = activate::<V, TANH>(q.add(k0), slope).0.mul_add(w, acc[0]);
                acc[1] = activate::<V, TANH>(q.add(k1), slope).0.mul_add(w, acc[1]);
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            acc[0].store(out.add(r * a.stride));
            acc[1].store(out.add(r * a.stride + V::LANES));
        }
    }
}

/// The operands of [`additive_backward`].
#[derive(Clone, Copy)]
pub(crate) struct AdditiveBackward<'a> {
    /// The gradient of the logits, `stride` numbers a row; 0 outside of the spans.
    pub(crate) gradient: *const f32,
    pub(crate) stride: usize,
    pub(crate) spans: &'a [Span],
    /// Slabs of `height` queries.
    pub(crate) q: *const f32,
    pub(crate) height: usize,
    /// Rows of keys, `dim` numbers apart.
    pub(crate) k: *const f32,
    /// w, `dim` numbers.
    pub(crate) weights: *const f32,
    /// The width of a vector, in whole registers; zeros behind its end.
    pub(crate) dim: usize,
    pub(crate) activation: ScoreActivation,
    /// Added to: `dim` numbers a row.
    pub(crate) dq: *mut f32,
    pub(crate) dk: *mut f32,
    /// Added to: `dim` numbers.
    pub(crate) dw: *mut f32,
}

/// The backward pass of the module's head.
///
/// # Safety
///
/// The instruction set of `V`; the operands hold what they say.
#[inline(always)]
pub(crate) unsafe fn additive_backward<V: Vector>(a: &AdditiveBackward<'_>) {
    // SAFETY: by the contract.
    unsafe {
        match a.activation {
            ScoreActivation::Tanh => backward_rows::<V, true>(a),
            ScoreActivation::LeakyRelu { .. } => backward_rows::<V, false>(a),
        }
    }
}

/// # Safety
///
/// That of [`additive_backward`].
#[inline(always)]
unsafe fn backward_rows<V: Vector, const TANH: bool>(a: &AdditiveBackward<'_>) {
    for column in (0..a.dim).step_by(V::LANES) {
        for (row, rows) in even_parts(a.spans.len(), ROWS) {
            let keys = Span::hull(&a.spans[row..row + rows]);
            if keys.is_empty() {
                continue;
            }
            // SAFETY: rows and keys exist, by the contract.
            unsafe {
                with_rows!(rows, ROWS, COUNT => backward_tile::<V, TANH, COUNT>(a, column, row, keys));
            }
        }
    }
}

/// One register of coordinates, of `COUNT` queries and their keys.
///
/// # Safety
///
/// That of [`additive_backward`].
#[inline(always)]
unsafe fn backward_tile<V: Vector, const TANH: bool, const COUNT: usize>(
    a: &AdditiveBackward<'_>,
    column: usize,
    row: usize,
    keys: Span,
) {
    // SAFETY: by the contract.
    unsafe {
        let slope = V::splat(slope_of(a.activation));
        let w = V::load(a.weights.add(column));
        let left = a.q.add((column / SLAB * a.height + row) * SLAB + column % SLAB);
        let (mut q, mut dq) = ([V::splat(0.0); COUNT], [V::splat(0.0); COUNT]);
        for (r, q) in q.iter_mut().enumerate() {
            *q = V::load(left.add(r * SLAB));
        }
        // A sum of its own, lest thousands of small numbers be added to a large one.
        let mut dw = V::splat(0.0);
        for key in keys.first..keys.end {
            let k = V::load(a.k.add(key * a.dim + column));
            let mut dk = V::splat(0.0);
            for r in 0..COUNT {
                let g = V::splat(*a.gradient.add((row + r) * a.stride + key));
                let (t, derivative) = activate::<V, TANH>(q[r].add(k), slope);
                let u = g.mul(derivative);
                dw = g.mul_add(t, dw);
                dq[r] = dq[r].add(u);
                dk = dk.add(u);
            }
            let to = a.dk.add(key * a.dim + column);
            w.mul_add(dk, V::load(to)).store(to);
        }
        for (r, dq) in dq.iter().enumerate() {
            let to = a.dq.add((row + r) * a.dim + column);
            w.mul_add(*dq, V::load(to)).store(to);
        }
        let to = a.dw.add(column);
        V::load(to).add(dw).store(to);
    }
}

/// The operands of [`rank_one`].
#[derive(Clone, Copy)]
pub(crate) struct RankOne<'a> {
    /// As for products, of vectors of one number.
    pub(crate) operands: Products<'a>,
    /// Numbers of a row of the tile.
    pub(crate) stride: usize,
    /// What negative sums are multiplied by.
    pub(crate) slope: f32,
    /// Written, if not null: the derivative by the sum, laid out as the tile.
    pub(crate) derivative: *mut f32,
}

/// `logit[r][j] = leaky_relu(q[r] + k[j])`.
///
/// # Safety
///
/// That of [`additive`].
#[inline(always)]
pub(crate) unsafe fn rank_one<V: Vector>(o: &RankOne<'_>) {
    let p = &o.operands;
    for (row, span) in p.spans.iter().enumerate() {
        let (first, end) = super::softmax::registers::<V>(*span);
        // SAFETY: by the contract. A panel of vectors of one number is a row of keys.
        unsafe {
            let q = V::splat(*p.left.add(row * SLAB));
            let slope = V::splat(o.slope);
            for at in (first..end).step_by(V::LANES) {
                let (logit, derivative) = activate::<V, false>(q.add(V::load(p.right.add(at))), slope);
                logit.store(p.out.add(row * o.stride + at));
                if !o.derivative.is_null() {
                    derivative.store(o.derivative.add(row * o.stride + at));
                }
            }
        }
    }
}
