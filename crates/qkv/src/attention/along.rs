//! Steps along the edges of one node, for all of its heads at once: rows of a tile are heads, columns are neighbours.
//!
//! The rows of neighbours are read where they lie. With few neighbours a node there is nothing to gain from packing them, and
//! the heads of a neighbour lie side by side.

use super::additive::{activate, slope_of};
use super::edges::HEADS;
use crate::options::ScoreActivation;
use crate::simd::Vector;

/// Rows in the caller's memory, of every head.
#[derive(Clone, Copy)]
pub(crate) struct Nodes {
    /// Row 0 of head 0.
    pub(crate) start: *const f32,
    /// From one row to the next.
    pub(crate) stride: usize,
    /// From one head to the next.
    pub(crate) head_stride: usize,
    /// Heads of the query that share one head of these.
    pub(crate) group: usize,
    /// Numbers of a row of one head.
    pub(crate) dim: usize,
}

// SAFETY: rows are reached through it by functions whose contracts say what can be read, and nobody writes to them meanwhile.
unsafe impl Sync for Nodes {}

impl Nodes {
    /// The row of a node, of the head that lies so many numbers behind the first.
    #[inline(always)]
    pub(super) fn row(&self, node: u32, offset: usize) -> *const f32 {
        self.start.wrapping_add(node as usize * self.stride + offset)
    }

    /// How many numbers behind the first the head lies that a head of the query sees.
    #[inline(always)]
    pub(super) fn offset(&self, head: usize) -> usize {
        head / self.group * self.head_stride
    }

    /// The same for some heads in a row: worked out once for all neighbours, since a division takes as long as a product.
    #[inline(always)]
    fn offsets(&self, first_head: usize, heads: usize) -> [usize; HEADS] {
        let mut offsets = [0; HEADS];
        for (n, offset) in offsets.iter_mut().enumerate().take(heads) {
            *offset = self.offset(first_head + n);
        }
        offsets
    }
}

/// Nodes, and numbers of each, that are asked for at once: what a first-level cache has room for, beside what is in use.
const MOST: usize = 32;
const NUMBERS: usize = 256;

/// Numbers of a cache line.
const LINE: usize = 16;

/// Neighbours between the one that is read and the one whose rows are asked for.
const AHEAD: usize = 6;

/// Asks for the rows of all heads of a node that is needed soon, if there are more than were asked for beforehand.
///
/// # Safety
///
/// The instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn prefetch<V: Vector>(nodes: &Nodes, list: &[u32], column: usize, heads: usize) {
    if list.len() > MOST && column + AHEAD < list.len() {
        // SAFETY: by the contract.
        unsafe { prefetch_nodes::<V>(nodes, heads, &list[column + AHEAD..][..1]) }
    }
}

/// Asks for the rows of all heads of some nodes.
///
/// # Safety
///
/// The instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn prefetch_nodes<V: Vector>(nodes: &Nodes, heads: usize, list: &[u32]) {
    let numbers = (heads - 1) / nodes.group * nodes.head_stride + nodes.dim;
    for &node in list.iter().take(MOST) {
        let row = nodes.start.wrapping_add(node as usize * nodes.stride);
        // From where the row's first cache line begins, so that the last is among them.
        let before = row.addr() / size_of::<f32>() % LINE;
        let row = row.wrapping_sub(before);
        for at in (0..before + numbers.min(NUMBERS)).step_by(LINE) {
            // SAFETY: what is asked for need not exist.
            unsafe { V::prefetch(row.wrapping_add(at)) }
        }
    }
}

/// How two vectors become a number.
#[derive(Clone, Copy)]
pub(crate) enum Pairing {
    /// Their dot product.
    Dot,
    /// The additive score, with the weights of all heads, `[heads, dim]`.
    Additive { weights: *const f32, activation: ScoreActivation },
    /// The score of rank one.
    RankOne { slope: f32 },
}

/// The operands of [`edge_scores`].
#[derive(Clone, Copy)]
pub(crate) struct EdgeScores<'a> {
    /// The node itself: row 0.
    pub(crate) left: Nodes,
    pub(crate) right: Nodes,
    /// The neighbours, rows of `right`.
    pub(crate) list: &'a [u32],
    /// Heads, from this one on: rows of the tile.
    pub(crate) first_head: usize,
    pub(crate) heads: usize,
    pub(crate) pairing: Pairing,
    /// `stride` numbers a row.
    pub(crate) out: *mut f32,
    pub(crate) stride: usize,
    /// Written by the score of rank one, if not null: its derivative.
    pub(crate) derivative: *mut f32,
}

/// `out[h][n]` of the node's and its neighbour's vectors.
///
/// # Safety
///
/// The instruction set of `V`; the operands hold what they say.
#[inline(always)]
pub(crate) unsafe fn edge_scores<V: Vector>(e: &EdgeScores<'_>) {
    // SAFETY: by the contract.
    unsafe {
        match e.pairing {
            Pairing::Dot => vector_scores::<V, false, false>(e, std::ptr::null(), 0.0),
            Pairing::Additive { weights, activation: ScoreActivation::Tanh } => {
                vector_scores::<V, true, true>(e, weights, 0.0)
            }
            Pairing::Additive { weights, activation } => {
                vector_scores::<V, true, false>(e, weights, slope_of(activation))
            }
            Pairing::RankOne { slope } => rank_one_scores(e, slope),
        }
    }
}

/// # Safety
///
/// That of [`edge_scores`].
#[inline(always)]
unsafe fn vector_scores<V: Vector, const ADDITIVE: bool, const TANH: bool>(
    e: &EdgeScores<'_>,
    weights: *const f32,
    slope: f32,
) {
    let dim = e.left.dim;
    let (left, right) = (e.left.offsets(e.first_head, e.heads), e.right.offsets(e.first_head, e.heads));
    for (column, &node) in e.list.iter().enumerate() {
        // SAFETY: rows of nodes that exist, by the contract.
        unsafe {
            prefetch::<V>(&e.right, e.list, column, e.first_head + e.heads);
            let to = e.out.add(column);
            for row in 0..e.heads {
                let (left, right) = (e.left.row(0, left[row]), e.right.row(node, right[row]));
                *to.add(row * e.stride) = if ADDITIVE {
                    pair_additive::<V, TANH>(dim, left, right, weights.add((e.first_head + row) * dim), slope)
                } else {
                    pair_dot::<V>(dim, left, right)
                };
            }
        }
    }
}

/// # Safety
///
/// That of [`edge_scores`].
#[inline(always)]
unsafe fn rank_one_scores(e: &EdgeScores<'_>, slope: f32) {
    for row in 0..e.heads {
        let head = e.first_head + row;
        let offset = e.right.offset(head);
        // SAFETY: rows of nodes that exist, by the contract.
        unsafe {
            let own = *e.left.row(0, e.left.offset(head));
            let out = std::slice::from_raw_parts_mut(e.out.add(row * e.stride), e.list.len());
            for (out, &node) in out.iter_mut().zip(e.list) {
                *out = own + *e.right.row(node, offset);
            }
            if !e.derivative.is_null() {
                let derivative = std::slice::from_raw_parts_mut(e.derivative.add(row * e.stride), e.list.len());
                for (to, &sum) in derivative.iter_mut().zip(&*out) {
                    *to = if sum > 0.0 { 1.0 } else { slope };
                }
            }
            for out in out {
                *out *= if *out > 0.0 { 1.0 } else { slope };
            }
        }
    }
}

/// The dot product of two rows.
///
/// # Safety
///
/// The instruction set of `V`; both rows have `dim` numbers.
#[inline(always)]
pub(crate) unsafe fn pair_dot<V: Vector>(dim: usize, left: *const f32, right: *const f32) -> f32 {
    // SAFETY: by the contract.
    unsafe {
        let mut acc = V::splat(0.0);
        for at in (0..dim).step_by(V::LANES) {
            let (a, b) = load_both::<V>(left.add(at), right.add(at), dim - at);
            acc = a.mul_add(b, acc);
        }
        acc.reduce_add()
    }
}

/// The additive score of two rows.
///
/// # Safety
///
/// The instruction set of `V`; rows and weights have `dim` numbers.
#[inline(always)]
unsafe fn pair_additive<V: Vector, const TANH: bool>(
    dim: usize,
    left: *const f32,
    right: *const f32,
    weights: *const f32,
    slope: f32,
) -> f32 {
    // SAFETY: by the contract; behind the end of a row the weights are 0.
    unsafe {
        let (mut acc, slope) = (V::splat(0.0), V::splat(slope));
        for at in (0..dim).step_by(V::LANES) {
            let (a, b) = load_both::<V>(left.add(at), right.add(at), dim - at);
            let w = load_up_to::<V>(weights.add(at), dim - at);
            acc = activate::<V, TANH>(a.add(b), slope).0.mul_add(w, acc);
        }
        acc.reduce_add()
    }
}

/// A register of as many numbers as there are, zeros behind them.
///
/// # Safety
///
/// The instruction set of `V`; `count` numbers can be read.
#[inline(always)]
pub(super) unsafe fn load_up_to<V: Vector>(from: *const f32, count: usize) -> V {
    // SAFETY: by the contract.
    unsafe { if count >= V::LANES { V::load(from) } else { V::load_first(from, count) } }
}

/// # Safety
///
/// That of [`load_up_to`], for both.
#[inline(always)]
unsafe fn load_both<V: Vector>(a: *const f32, b: *const f32, count: usize) -> (V, V) {
    // SAFETY: by the contract.
    unsafe { (load_up_to::<V>(a, count), load_up_to::<V>(b, count)) }
}

/// The operands of [`edge_sums`].
#[derive(Clone, Copy)]
pub(crate) struct EdgeSums<'a> {
    /// `stride` numbers a row, a row for each head.
    pub(crate) tile: *const f32,
    pub(crate) stride: usize,
    pub(crate) right: Nodes,
    /// The neighbours, rows of `right`.
    pub(crate) list: &'a [u32],
    pub(crate) first_head: usize,
    pub(crate) heads: usize,
    /// `out_stride` numbers a row, for every `out_group` heads.
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    pub(crate) out_group: usize,
    /// What each head's sum so far is multiplied by; nothing if null.
    pub(crate) rescale: *const f32,
}

/// `out[h] = out[h] · rescale[h] + Σ_n tile[h][n] · right[n][h]`.
///
/// # Safety
///
/// The instruction set of `V`; the operands hold what they say, rows of `out` whole registers.
#[inline(always)]
pub(crate) unsafe fn edge_sums<V: Vector>(e: &EdgeSums<'_>) {
    let dim = e.right.dim;
    for row in 0..e.heads {
        let head = e.first_head + row;
        let offset = e.right.offset(head);
        for at in (0..dim).step_by(V::LANES) {
            // SAFETY: rows of nodes that exist, by the contract.
            unsafe {
                let out = e.out.wrapping_add(head / e.out_group * e.out_stride + at);
                let mut acc = V::load(out);
                if !e.rescale.is_null() {
                    acc = acc.mul(V::splat(*e.rescale.add(row)));
                }
                for (column, &node) in e.list.iter().enumerate() {
                    if row == 0 && at == 0 {
                        prefetch::<V>(&e.right, e.list, column, e.first_head + e.heads);
                    }
                    let weight = V::splat(*e.tile.add(row * e.stride + column));
                    acc = weight.mul_add(load_up_to::<V>(e.right.row(node, offset).add(at), dim - at), acc);
                }
                acc.store(out);
            }
        }
    }
}

/// The operands of [`edge_additive`].
#[derive(Clone, Copy)]
pub(crate) struct EdgeAdditive<'a> {
    /// The gradient of the logits: `stride` numbers a row, a row for each head.
    pub(crate) gradient: *const f32,
    pub(crate) stride: usize,
    /// The node itself: row 0.
    pub(crate) left: Nodes,
    pub(crate) right: Nodes,
    pub(crate) list: &'a [u32],
    pub(crate) first_head: usize,
    pub(crate) heads: usize,
    /// `[heads, dim]`.
    pub(crate) weights: *const f32,
    pub(crate) activation: ScoreActivation,
    /// Added to: `out_stride` numbers for every head of `left`.
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    /// Added to, if not null: `d_weights_stride` numbers for each head.
    pub(crate) d_weights: *mut f32,
    pub(crate) d_weights_stride: usize,
}

/// `out[h] += Σ_n g[h][n] · w[h] · act'(left[h] + right[n][h])`, `d_weights[h] += Σ_n g[h][n] · act(left[h] + right[n][h])`.
///
/// # Safety
///
/// The instruction set of `V`; the operands hold what they say, rows of `out` and `d_weights` whole registers.
#[inline(always)]
pub(crate) unsafe fn edge_additive<V: Vector>(e: &EdgeAdditive<'_>) {
    // SAFETY: by the contract.
    unsafe {
        match e.activation {
            ScoreActivation::Tanh => edge_additive_rows::<V, true>(e),
            ScoreActivation::LeakyRelu { .. } => edge_additive_rows::<V, false>(e),
        }
    }
}

/// # Safety
///
/// That of [`edge_additive`].
#[inline(always)]
unsafe fn edge_additive_rows<V: Vector, const TANH: bool>(e: &EdgeAdditive<'_>) {
    let dim = e.left.dim;
    for row in 0..e.heads {
        let head = e.first_head + row;
        let offset = e.right.offset(head);
        for at in (0..dim).step_by(V::LANES) {
            // SAFETY: rows of nodes that exist, by the contract; behind the end of a row the weights are 0, and so is what is
            // added there.
            unsafe {
                let slope = V::splat(slope_of(e.activation));
                let left = load_up_to::<V>(e.left.row(0, e.left.offset(head)).add(at), dim - at);
                let (mut sum, mut d_weights) = (V::splat(0.0), V::splat(0.0));
                for (column, &node) in e.list.iter().enumerate() {
                    let g = V::splat(*e.gradient.add(row * e.stride + column));
                    let right = load_up_to::<V>(e.right.row(node, offset).add(at), dim - at);
                    let (t, derivative) = activate::<V, TANH>(left.add(right), slope);
                    sum = g.mul_add(derivative, sum);
                    d_weights = g.mul_add(t, d_weights);
                }
                let w = load_up_to::<V>(e.weights.add(head * dim + at), dim - at);
                let out = e.out.wrapping_add(head / e.left.group * e.out_stride + at);
                w.mul_add(sum, V::load(out)).store(out);
                if !e.d_weights.is_null() {
                    let to = e.d_weights.add(head * e.d_weights_stride + at);
                    V::load(to).add(d_weights).store(to);
                }
            }
        }
    }
}

/// The operands of [`edge_gradient`].
#[derive(Clone, Copy)]
pub(crate) struct EdgeGradient<'a> {
    /// `stride` numbers a row: gradients of the weights in, of the logits out.
    pub(crate) tile: *mut f32,
    pub(crate) stride: usize,
    pub(crate) columns: usize,
    /// As in [`Mixed`](super::steps::Mixed).
    pub(crate) kept: *const f32,
    pub(crate) whole: *const f32,
    pub(crate) minus_delta: &'a [f32],
    pub(crate) factor: f32,
}

/// `d_logit = kept · d_weight · factor + whole · minus_delta`.
///
/// # Safety
///
/// The instruction set of `V`; the tiles have `minus_delta.len()` rows of `columns` numbers, in whole registers.
#[inline(always)]
pub(crate) unsafe fn edge_gradient<V: Vector>(e: &EdgeGradient<'_>) {
    for (row, &minus_delta) in e.minus_delta.iter().enumerate() {
        for at in (0..e.columns).step_by(V::LANES) {
            let at = row * e.stride + at;
            // SAFETY: by the contract.
            unsafe {
                let through_others = V::load(e.whole.add(at)).mul(V::splat(minus_delta));
                let d_weight = V::load(e.tile.add(at)).mul(V::splat(e.factor));
                d_weight.mul_add(V::load(e.kept.add(at)), through_others).store(e.tile.add(at));
            }
        }
    }
}
