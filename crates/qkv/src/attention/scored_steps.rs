//! Steps along the edges of one node where scores are of rank one: what the forward pass keeps of each edge, and what a key gets of
//! its own.
//!
//! What is kept of an edge lies side by side for all heads, since a key reads it from anywhere: the numbers of a row of a tile, which is a
//! head, go to places as far apart as one edge is from the next.

use super::along::{Nodes, load_up_to, pair_dot, prefetch};
use crate::simd::Vector;

/// The operands of [`edge_keep`].
#[derive(Clone, Copy)]
pub(crate) struct EdgeKeep {
    /// Weights: `stride` numbers a row, a row for each of `heads`, of which `count` are of edges.
    pub(crate) tile: *const f32,
    /// The same before dropout, if `whole_at` is not 0.
    pub(crate) whole: *const f32,
    /// The derivatives of their scores: 1 where the score was positive.
    pub(crate) slope: *const f32,
    pub(crate) stride: usize,
    pub(crate) heads: usize,
    pub(crate) count: usize,
    /// What the weights of each head are multiplied by.
    pub(crate) factors: *const f32,
    /// Of the first edge: weights with the sign of their scores, and those before dropout, if any, `whole_at` numbers behind;
    /// `to_stride` numbers on, the next edge.
    pub(crate) to: *mut f32,
    pub(crate) to_stride: usize,
    pub(crate) whole_at: usize,
    /// Written: a tile of the weights whose scores are positive, not multiplied.
    pub(crate) positive: *mut f32,
    /// Sums of these before dropout, one for each head; before more is added they are multiplied by `rescale`.
    pub(crate) sums: *mut f32,
    pub(crate) rescale: *const f32,
}

/// Keeps the weights of edges, with the signs of their scores, and puts aside those whose scores are positive.
///
/// # Safety
///
/// The operands hold what they say.
#[inline(always)]
pub(crate) unsafe fn edge_keep(k: &EdgeKeep) {
    const TOGETHER: usize = 4;
    let mut row = 0;
    while row < k.heads {
        // SAFETY: by the contract.
        row += unsafe {
            if k.heads - row < TOGETHER {
                keep_rows::<1>(k, row);
                1
            } else {
                keep_rows::<TOGETHER>(k, row);
                TOGETHER
            }
        };
    }
}

/// [`edge_keep`] of `ROWS` heads.
///
/// # Safety
///
/// That of [`edge_keep`].
#[inline(always)]
unsafe fn keep_rows<const ROWS: usize>(k: &EdgeKeep, first: usize) {
    // SAFETY: by the contract; the positive tile is no other's.
    unsafe {
        let row =
            |tile: *const f32, n: usize| std::slice::from_raw_parts(tile.wrapping_add((first + n) * k.stride), k.count);
        let factors: [f32; ROWS] = std::array::from_fn(|n| *k.factors.add(first + n));
        let weights: [&[f32]; ROWS] = std::array::from_fn(|n| row(k.tile, n));
        let slopes: [&[f32]; ROWS] = std::array::from_fn(|n| row(k.slope, n));
        for n in 0..ROWS {
            let positive = std::slice::from_raw_parts_mut(k.positive.add((first + n) * k.stride), k.count);
            let whole = if k.whole_at > 0 { row(k.whole, n) } else { weights[n] };
            let sum = k.sums.add(first + n);
            *sum = *sum * *k.rescale.add(first + n) + sum_of_positive(whole, slopes[n]);
            for ((to, &weight), &slope) in positive.iter_mut().zip(weights[n]).zip(slopes[n]) {
                *to = if slope == 1.0 { weight } else { 0.0 };
            }
        }
        for edge in 0..k.count {
            let to = k.to.add(edge * k.to_stride + first);
            for n in 0..ROWS {
                // A weight is not negative, which leaves its sign to say on which side of 0 the score was.
                let sign = if *slopes[n].get_unchecked(edge) == 1.0 { 1.0_f32 } else { -1.0 };
                *to.add(n) = (weights[n].get_unchecked(edge) * factors[n]).copysign(sign);
            }
        }
        if k.whole_at > 0 {
            for (n, factor) in factors.iter().enumerate() {
                for (edge, weight) in row(k.whole, n).iter().enumerate() {
                    *k.to.add(edge * k.to_stride + k.whole_at + first + n) = weight * factor;
                }
            }
        }
    }
}

/// The sum of the weights whose scores are positive.
#[inline(always)]
fn sum_of_positive(weights: &[f32], slopes: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    for (weights, slopes) in weights.chunks(LANES).zip(slopes.chunks(LANES)) {
        for (sum, (&weight, &slope)) in sums.iter_mut().zip(weights.iter().zip(slopes)) {
            *sum += if slope == 1.0 { weight } else { 0.0 };
        }
    }
    sums.iter().sum()
}

/// The operands of [`edge_key`].
#[derive(Clone, Copy)]
pub(crate) struct EdgeKey<'a> {
    /// The value of the key: row 0.
    pub(crate) value: Nodes,
    pub(crate) d_out: Nodes,
    /// The queries that see the key, rows of `d_out`, and the edges that they see it by.
    pub(crate) list: &'a [u32],
    pub(crate) edges: &'a [u32],
    pub(crate) first_head: usize,
    pub(crate) heads: usize,
    /// Of each edge `kept_stride` numbers: weights with the signs of their scores and, `whole_at` numbers behind, those before dropout.
    pub(crate) kept: *const f32,
    pub(crate) kept_stride: usize,
    pub(crate) whole_at: usize,
    /// What a query's weights get through each other, `[queries, all_heads]`.
    pub(crate) minus_delta: *const f32,
    pub(crate) all_heads: usize,
    /// What gradients of weights are multiplied by, and the derivative of a score below 0.
    pub(crate) factor: f32,
    pub(crate) slope: f32,
    /// Added to: `out_stride` numbers for every `value.group` heads.
    pub(crate) d_value: *mut f32,
    pub(crate) out_stride: usize,
    /// Added to: a number for each head, `first_head` being the first.
    pub(crate) d_score: *mut f32,
}

/// `d_value[h] += Σ weight[h] · d_out[h]`, `d_score[h] += Σ score'[h] · (weight[h] · factor · d_out[h] · value[h] + whole[h] ·
/// minus_delta[h])`.
///
/// The row of a query is used for both while it is near; where a register holds it, it is read once.
///
/// # Safety
///
/// The instruction set of `V`; the operands hold what they say, rows of `d_value` whole registers.
#[inline(always)]
pub(crate) unsafe fn edge_key<V: Vector>(e: &EdgeKey<'_>) {
    const TOGETHER: usize = 4;
    let mut row = 0;
    while row < e.heads {
        let together = if e.heads - row < TOGETHER { 1 } else { TOGETHER };
        // SAFETY: by the contract.
        unsafe {
            match (e.value.dim <= V::LANES, together) {
                (false, _) => heads_of_key::<V, TOGETHER, false>(e, row, together),
                (true, 1) => heads_of_key::<V, 1, true>(e, row, 1),
                (true, _) => heads_of_key::<V, TOGETHER, true>(e, row, TOGETHER),
            }
        }
        row += together;
    }
}

/// [`edge_key`] of `count <= MOST` heads, which is `MOST` where a row is one register, `NARROW`.
///
/// # Safety
///
/// That of [`edge_key`].
#[inline(always)]
unsafe fn heads_of_key<V: Vector, const MOST: usize, const NARROW: bool>(e: &EdgeKey<'_>, first: usize, count: usize) {
    let dim = e.value.dim;
    // SAFETY: the instruction set, by the contract.
    let zero = unsafe { V::splat(0.0) };
    let (mut values, mut sums, mut d_score) = ([zero; MOST], [zero; MOST], [0.0; MOST]);
    let (mut places, mut to) = ([(std::ptr::null(), 0); MOST], [std::ptr::null_mut(); MOST]);
    for row in 0..count {
        let head = e.first_head + first + row;
        places[row] = (e.value.row(0, e.value.offset(head)), e.d_out.offset(head));
        to[row] = e.d_value.wrapping_add(head / e.value.group * e.out_stride);
        if NARROW {
            // SAFETY: the row of the key, by the contract.
            values[row] = unsafe { load_up_to::<V>(places[row].0, dim) };
        }
    }
    for (column, (&query, &edge)) in e.list.iter().zip(e.edges).enumerate() {
        // SAFETY: rows of nodes that exist, by the contract.
        unsafe {
            if first == 0 {
                prefetch::<V>(&e.d_out, e.list, column, e.first_head + e.heads);
            }
            let kept = e.kept.add(e.kept_stride * edge as usize + e.first_head + first);
            let minus_delta = e.minus_delta.add(e.all_heads * query as usize + e.first_head + first);
            let (mut rows, mut signed, mut d_weights) = ([zero; MOST], [0.0_f32; MOST], [0.0; MOST]);
            for row in 0..if NARROW { MOST } else { count } {
                let (value, offset) = places[row];
                let d_out = e.d_out.row(query, offset);
                signed[row] = *kept.add(row);
                d_weights[row] = if NARROW {
                    rows[row] = load_up_to::<V>(d_out, dim);
                    rows[row].mul(values[row]).reduce_add()
                } else {
                    pair_dot::<V>(dim, d_out, value)
                };
            }
            for row in 0..if NARROW { MOST } else { count } {
                let weight = signed[row].abs();
                let through_others = (*kept.add(e.whole_at + row)).abs() * *minus_delta.add(row);
                let d_logit = V::mul_add_number(d_weights[row] * e.factor, weight, through_others);
                d_score[row] += if signed[row].is_sign_negative() { d_logit * e.slope } else { d_logit };
                let weight = V::splat(weight);
                if NARROW {
                    sums[row] = weight.mul_add(rows[row], sums[row]);
                } else {
                    let d_out = e.d_out.row(query, places[row].1);
                    for at in (0..dim).step_by(V::LANES) {
                        let to = to[row].wrapping_add(at);
                        weight.mul_add(load_up_to::<V>(d_out.add(at), dim - at), V::load(to)).store(to);
                    }
                }
            }
        }
    }
    for row in 0..count {
        // SAFETY: by the contract.
        unsafe {
            *e.d_score.add(first + row) += d_score[row];
            if NARROW {
                V::load(to[row]).add(sums[row]).store(to[row]);
            }
        }
    }
}
