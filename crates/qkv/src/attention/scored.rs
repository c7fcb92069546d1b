//! The backward pass along edges where a logit is made of a number of the query and a number of the key, as in graph attention
//! networks (Veličković et al., 2018).
//!
//! ```text
//! for each query: weights of its edges, kept with the signs of their scores      reads two numbers of each neighbour
//! for each key, with the queries that see it:                                    reads their rows of d_out
//!     d_weight = d_out · value;  d_value = Σ weight · d_out;  d_key = Σ d_score
//! for each query: d_query = Σ d_score                                            reads what was kept, in order
//! ```
//!
//! Departure from `edges.rs`, where the gradient of a weight is computed with the query: since the scores need no vectors, the only rows
//! that are read from anywhere in memory are those of `d_out`, once. On graphs that are larger than the caches that decides the time.

use std::sync::Mutex;

use super::along::EdgeKey;
use super::backward;
use super::choice::Scoring;
use super::edges::{HEADS, Unit, nodes, prefetch_keys};
use super::kernels::BACKWARD_KEYS;
use super::pack::padded;
use super::plan::Plan;
use super::shape::Shape;
use super::walk::{Kept, KeyPiece, Piece, prefetch_queries, sum_key, with_weights};
use super::workspace::{Scratch, own};
use crate::csr::Csr;
use crate::work;

/// Whether a call's backward pass can go this way: scores of rank one, weights that are a softmax's, and no bias that learns.
pub(super) fn fits(call: &backward::Call<'_>) -> bool {
    let choice = call.pipeline.choice;
    matches!(choice.scoring, Scoring::RankOne { .. }) && choice.normalizer.has_sum() && call.to_bias.is_none()
}

/// The gradients of all sets that go along their edges.
pub(super) fn backward(call: &backward::Call<'_>, edges: &Csr, plan: &Plan, threads: &[Mutex<Scratch>], kept: Kept) {
    let Scoring::RankOne { slope } = call.pipeline.choice.scoring else { return };
    work::in_order(plan.by_query.len(), |n| {
        let mut scratch = own(threads);
        let Unit { set, nodes } = &plan.by_query[n];
        for query in nodes.clone() {
            // SAFETY: the scratch memory has the size of the layout, and no other thread has the query.
            unsafe {
                if query + 1 < nodes.end {
                    prefetch_keys(&call.pipeline, edges, *set, query + 1, false);
                }
                keep_weights(call, edges, (*set, query), scratch.numbers(), kept);
            }
        }
    });
    work::in_order(plan.by_key.len(), |n| {
        let mut scratch = own(threads);
        let Unit { set, nodes } = &plan.by_key[n];
        for key in nodes.clone() {
            // SAFETY: as above, and what is kept of the edges is complete.
            unsafe {
                if key + 2 < nodes.end {
                    prefetch_queries(call, edges, (*set, key + 2), kept);
                }
                key_gradients(call, edges, (*set, key), scratch.numbers(), kept, slope);
            }
        }
    });
    work::in_order(plan.by_query.len(), |n| {
        let Unit { set, nodes } = &plan.by_query[n];
        for query in nodes.clone() {
            // SAFETY: as above.
            unsafe { query_gradients(call, edges, (*set, query), kept) }
        }
    });
}

/// Keeps the weights of a query's edges, with the signs of their scores, and what their gradients get through each other.
///
/// # Safety
///
/// `numbers` has the size of the layout and is this thread's alone; no other thread has the query.
unsafe fn keep_weights(call: &backward::Call<'_>, edges: &Csr, of: (usize, usize), numbers: *mut f32, kept: Kept) {
    for first_head in (0..kept.heads).step_by(HEADS) {
        let heads = first_head..kept.heads.min(first_head + HEADS);
        // SAFETY: by the contract; the tiles have so many rows and columns.
        unsafe {
            with_weights(call, edges, of, heads, numbers, |Piece { edges, tile, slope, minus_delta, .. }| {
                let (_, whole) = call.pipeline.gradient_tiles(tile.start, numbers.add(call.layout.whole));
                for (row, minus_delta) in minus_delta.iter().enumerate() {
                    for (n, edge) in edges.clone().enumerate() {
                        let at = row * BACKWARD_KEYS + n;
                        // A weight is not negative, which leaves its sign to say on which side of 0 the score was.
                        let sign = if *slope.add(at) == 1.0 { 1.0 } else { -1.0_f32 };
                        *kept.weights(edge).add(first_head + row) = (*tile.start.add(at)).copysign(sign);
                        *kept.gradients(edge).add(first_head + row) = *whole.add(at) * minus_delta;
                    }
                }
            });
        }
    }
}

/// Writes the gradients of a key and its value, and keeps those of the scores.
///
/// # Safety
///
/// `scratch` has the size of the layout and is this thread's alone, no other thread has the key, and its edges are kept.
unsafe fn key_gradients(
    call: &backward::Call<'_>,
    edges: &Csr,
    (set, key): (usize, usize),
    scratch: *mut f32,
    kept: Kept,
    slope: f32,
) {
    let inputs = call.pipeline.inputs;
    let shape @ Shape { head_dim, value_dim, .. } = inputs.shape;
    let token = inputs.keys.range(set).start + key;
    // SAFETY: by the contract; the inputs were checked to hold the rows of all nodes.
    unsafe {
        sum_key(call, edges, (set, key), scratch, |piece| {
            let KeyPiece { list, first_query, edges, first_head, heads, dk, dv } = piece;
            let mut d_score = [0.0; HEADS];
            (call.pipeline.kernels.edge_key)(&EdgeKey {
                value: nodes(&inputs.value, token, shape.group(), value_dim),
                d_out: nodes(call.d_out, first_query, 1, value_dim),
                list,
                edges,
                first_head,
                heads,
                kept: kept.weights(0),
                all_heads: kept.heads,
                factor: call.pipeline.choice.kept_factor(),
                slope,
                d_value: dv,
                out_stride: padded(value_dim),
                d_score: d_score.as_mut_ptr(),
            });
            for (row, d_score) in d_score.iter().enumerate().take(heads) {
                *dk.add((first_head + row) / shape.group() * padded(head_dim)) += d_score;
            }
        });
    }
}

/// Writes the gradient of a query, a number for each head.
///
/// # Safety
///
/// No other thread has the query, and the gradients of its edges' scores are kept.
unsafe fn query_gradients(call: &backward::Call<'_>, edges: &Csr, (set, query): (usize, usize), kept: Kept) {
    let (inputs, scale) = (call.pipeline.inputs, call.pipeline.choice.scale);
    let token = inputs.queries.range(set).start + query;
    let own = edges.row_offsets()[token]..edges.row_offsets()[token + 1];
    for first_head in (0..kept.heads).step_by(HEADS) {
        let heads = HEADS.min(kept.heads - first_head);
        let mut sums = [0.0; HEADS];
        for edge in own.clone() {
            // SAFETY: by the contract.
            let gradients = unsafe { std::slice::from_raw_parts(kept.gradients(edge).add(first_head), heads) };
            sums.iter_mut().zip(gradients).for_each(|(sum, gradient)| *sum += gradient);
        }
        for (row, sum) in sums.iter().enumerate().take(heads) {
            // SAFETY: the gradient was checked to hold the row.
            unsafe { *call.gradients.query.row(token, first_head + row) = sum * scale }
        }
    }
}
