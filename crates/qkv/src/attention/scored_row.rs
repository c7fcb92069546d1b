//! Scores of rank one, their softmax and its sums, for one node and all of its heads at once, where a register holds all heads of one
//! neighbour or more.
//!
//! ```text
//! s_n = q + k_n;  w_n = e^(scale · leaky(s_n)) / Σ_n e^…;  out = Σ_n w_n · v_n;  out⁺ = Σ_{n: s_n > 0} w_n · v_n
//! ```
//!
//! Departure from the steps of tiles (`along.rs`, `softmax.rs`), where a row is a head: with a dozen neighbours and four heads, rows are
//! short and many, and numbers go to memory one by one to be read as registers right after. A processor waits for that until all that it
//! has asked memory for before is there, so that the neighbours of one node cannot be fetched while those of another are at work.
//! Here the heads of neighbours lie side by side in registers, as they do in memory.

use super::along::{Nodes, load_up_to, prefetch};
use crate::simd::{Vector, exp2};

/// Neighbours that a call takes at most.
pub(crate) const MOST: usize = super::kernels::FORWARD_KEYS;

/// Numbers of each scratch buffer of a call.
pub(crate) const SCRATCH: usize = 16 * (MOST + 16);

/// The operands of [`scored_row`].
#[derive(Clone, Copy)]
pub(crate) struct ScoredRow<'a> {
    /// The node's own numbers, one for each head.
    pub(crate) query: *const f32,
    /// Those of all nodes, heads side by side.
    pub(crate) key: Nodes,
    /// No two heads share one.
    pub(crate) value: Nodes,
    /// The neighbours: one at least, and [`MOST`] at most.
    pub(crate) list: &'a [u32],
    /// 1, 2, 4, 8 or 16, and no more than a register has lanes.
    pub(crate) heads: usize,
    pub(crate) slope: f32,
    pub(crate) scale: f32,
    /// Written: rows of heads.
    pub(crate) out: *mut f32,
    pub(crate) out_head_stride: usize,
    /// Written, `heads` numbers each: the largest logits, and the sums of powers above them.
    pub(crate) largest: *mut f32,
    pub(crate) total: *mut f32,
    /// Written, [`SCRATCH`] numbers each: weights, and those whose scores are positive.
    pub(crate) weights: *mut f32,
    pub(crate) positive: *mut f32,
    /// What is kept, if it is not null: the weights with the signs of their scores, `[list.len(), heads]`; out⁺, `[heads, dim]`; and the
    /// shares of weights whose scores are positive, and of the others, `[2, heads]`.
    pub(crate) kept: *mut f32,
    pub(crate) out_positive: *mut f32,
    pub(crate) shares: *mut f32,
    /// Whether the first two go past the caches.
    pub(crate) past: bool,
}

/// The formula of the module's head.
///
/// # Safety
///
/// The instruction set of `V`; the operands hold what they say.
#[inline(always)]
pub(crate) unsafe fn scored_row<V: Vector>(r: &ScoredRow<'_>) {
    // SAFETY: by the contract.
    unsafe {
        match r.heads {
            1 => row::<V, 1>(r),
            2 => row::<V, 2>(r),
            4 => row::<V, 4>(r),
            8 => row::<V, 8>(r),
            _ => row::<V, 16>(r),
        }
    }
}

/// # Safety
///
/// That of [`scored_row`], of `H` heads.
#[inline(always)]
unsafe fn row<V: Vector, const H: usize>(r: &ScoredRow<'_>) {
    if H > V::LANES {
        return;
    }
    // SAFETY: by the contract.
    unsafe {
        weights_of::<V, H>(r);
        let registers = H * r.value.dim.div_ceil(V::LANES);
        for first in (0..registers).step_by(TOGETHER) {
            match (r.kept.is_null(), registers - first >= TOGETHER) {
                (false, true) => sums::<V, H, true, TOGETHER>(r, first),
                (true, true) => sums::<V, H, false, TOGETHER>(r, first),
                (false, false) => (first..registers).for_each(|at| sums::<V, H, true, 1>(r, at)),
                (true, false) => (first..registers).for_each(|at| sums::<V, H, false, 1>(r, at)),
            }
        }
    }
}

/// `x` combined with what the other neighbours in the register have of the same head.
///
/// # Safety
///
/// The instruction set of `V`.
#[inline(always)]
unsafe fn fold<V: Vector, const H: usize>(mut x: V, combine: impl Fn(V, V) -> V) -> V {
    // SAFETY: by the contract; lanes are exchanged with lanes that there are.
    unsafe {
        if H <= 1 && V::LANES > 1 {
            x = combine(x, x.exchanged::<1>());
        }
        if H <= 2 && V::LANES > 2 {
            x = combine(x, x.exchanged::<2>());
        }
        if H <= 4 && V::LANES > 4 {
            x = combine(x, x.exchanged::<4>());
        }
        if H <= 8 && V::LANES > 8 {
            x = combine(x, x.exchanged::<8>());
        }
        x
    }
}

/// A register of the numbers of neighbours from `first` on; behind the last it is repeated.
///
/// # Safety
///
/// That of [`scored_row`].
#[inline(always)]
unsafe fn keys<V: Vector, const H: usize>(r: &ScoredRow<'_>, first: usize) -> V {
    let last = r.list.len() - 1;
    let mut numbers = [0.0; 16];
    for group in 0..V::LANES / H {
        // SAFETY: rows of nodes that exist, by the contract.
        unsafe {
            let row = r.key.row(*r.list.get_unchecked((first + group).min(last)), 0);
            for head in 0..H {
                numbers[group * H + head] = *row.add(head);
            }
        }
    }
    // SAFETY: the instruction set, by the contract.
    unsafe { V::load(numbers.as_ptr()) }
}

/// The weights, and what is kept of them.
///
/// # Safety
///
/// That of [`scored_row`], of `H` heads, no more than there are lanes.
#[inline(always)]
unsafe fn weights_of<V: Vector, const H: usize>(r: &ScoredRow<'_>) {
    let (each, count) = (V::LANES / H, r.list.len() * H);
    // SAFETY: by the contract; the scratch buffers have room for whole registers.
    unsafe {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let (slope, scale, factor) = (V::splat(r.slope), V::splat(r.scale), V::splat(std::f32::consts::LOG2_E));
        let logit = |s: V| s.mul(one.where_positive(slope, s)).mul(scale);
        let (query, mut most) = (V::repeated::<H>(r.query), V::splat(f32::NEG_INFINITY));
        for first in (0..r.list.len()).step_by(each) {
            let s = query.add(keys::<V, H>(r, first));
            s.store(r.positive.add(first * H));
            most = most.max(logit(s));
        }
        most = fold::<V, H>(most, |a, b| a.max(b));
        // (of a row whose logits are all -∞ nothing is to be subtracted: what comes is not NaN)
        let origin = V::splat(f32::MIN).max(most);
        let (mut total, mut of_positive) = (zero, zero);
        for at in (0..count).step_by(V::LANES) {
            let s = V::load(r.positive.add(at));
            let mut power = exp2(logit(s).sub(origin).mul(factor));
            if count - at < V::LANES {
                power = power.keep(0, count - at, zero);
            }
            power.store(r.weights.add(at));
            total = total.add(power);
            of_positive = of_positive.add(power.where_positive(zero, s));
        }
        total = fold::<V, H>(total, |a, b| a.add(b));
        let share = one.div(total).where_positive(zero, total);
        most.store_first(r.largest, H);
        total.store_first(r.total, H);
        if !r.kept.is_null() {
            let positive = fold::<V, H>(of_positive, |a, b| a.add(b)).mul(share);
            positive.store_first(r.shares, H);
            one.sub(positive).store_first(r.shares.add(H), H);
        }
        let minus = V::splat(-1.0);
        for at in (0..count).step_by(V::LANES) {
            let (s, weight) = (V::load(r.positive.add(at)), V::load(r.weights.add(at)).mul(share));
            weight.store(r.weights.add(at));
            if !r.kept.is_null() {
                weight.where_positive(zero, s).store(r.positive.add(at));
                let signed = weight.where_positive(weight.mul(minus), s);
                match count - at {
                    few if few < V::LANES => signed.store_first(r.kept.add(at), few),
                    _ if r.past => signed.store_past(r.kept.add(at)),
                    _ => signed.store(r.kept.add(at)),
                }
            }
        }
    }
}

/// Registers that are summed up together.
const TOGETHER: usize = 4;

/// `N` registers of the sums, from the register `first` of a row on.
///
/// # Safety
///
/// That of [`scored_row`]; the weights are there.
#[inline(always)]
unsafe fn sums<V: Vector, const H: usize, const KEEP: bool, const N: usize>(r: &ScoredRow<'_>, first: usize) {
    let dim = r.value.dim;
    let of_head = dim.div_ceil(V::LANES);
    // Head, and where in it the register begins.
    let places: [(usize, usize); N] =
        std::array::from_fn(|n| ((first + n) / of_head, (first + n) % of_head * V::LANES));
    // SAFETY: rows of nodes that exist, by the contract.
    unsafe {
        let (mut all, mut positive) = ([V::splat(0.0); N], [V::splat(0.0); N]);
        let offsets = places.map(|(head, at)| head * r.value.head_stride + at);
        for (column, &node) in r.list.iter().enumerate() {
            if first == 0 {
                prefetch::<V>(&r.value, r.list, column, H);
            }
            for n in 0..N {
                let (head, at) = places[n];
                let value = load_up_to::<V>(r.value.row(node, offsets[n]), dim - at);
                all[n] = V::splat(*r.weights.add(column * H + head)).mul_add(value, all[n]);
                if KEEP {
                    positive[n] = V::splat(*r.positive.add(column * H + head)).mul_add(value, positive[n]);
                }
            }
        }
        for (n, (head, at)) in places.into_iter().enumerate() {
            let count = (dim - at).min(V::LANES);
            all[n].store_first(r.out.add(head * r.out_head_stride + at), count);
            if KEEP {
                let to = r.out_positive.add(head * dim + at);
                if r.past && count == V::LANES {
                    positive[n].store_past(to)
                } else {
                    positive[n].store_first(to, count)
                }
            }
        }
    }
}

/// The operands of [`scored_query`].
#[derive(Clone, Copy)]
pub(crate) struct ScoredQuery {
    /// The node itself: row 0 of each.
    pub(crate) d_out: Nodes,
    pub(crate) out: Nodes,
    pub(crate) out_positive: Nodes,
    pub(crate) heads: usize,
    /// As [`ScoredRow::shares`].
    pub(crate) shares: *const f32,
    pub(crate) slope: f32,
    pub(crate) scale: f32,
    /// Written: the gradient of the number of each head, so far apart, and `-d_out · out`.
    pub(crate) gradient: *mut f32,
    pub(crate) gradient_stride: usize,
    pub(crate) minus_delta: *mut f32,
}

/// `gradient = scale · (a - delta · w⁺ + slope · (delta - a - delta · w⁻))` with `delta = d_out · out` and `a = d_out · out⁺`.
///
/// # Safety
///
/// The instruction set of `V`; the operands hold what they say.
#[inline(always)]
pub(crate) unsafe fn scored_query<V: Vector>(q: &ScoredQuery) {
    let dim = q.d_out.dim;
    for head in 0..q.heads {
        // SAFETY: by the contract.
        unsafe {
            let [d_out, out, positive] = [&q.d_out, &q.out, &q.out_positive].map(|x| x.row(0, x.offset(head)));
            let (mut delta, mut of_positive) = (V::splat(0.0), V::splat(0.0));
            for at in (0..dim).step_by(V::LANES) {
                let d_out = load_up_to::<V>(d_out.add(at), dim - at);
                delta = d_out.mul_add(load_up_to::<V>(out.add(at), dim - at), delta);
                of_positive = d_out.mul_add(load_up_to::<V>(positive.add(at), dim - at), of_positive);
            }
            let (delta, of_positive) = (delta.reduce_add(), of_positive.reduce_add());
            let [share, of_others] = [*q.shares.add(head), *q.shares.add(q.heads + head)];
            let others = delta - of_positive - delta * of_others;
            let gradient = of_positive - delta * share + q.slope * others;
            *q.gradient.add(head * q.gradient_stride) = q.scale * gradient;
            *q.minus_delta.add(head) = -delta;
        }
    }
}
