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

use super::along::{EdgeKey, EdgeScores, Pairing};
use super::backward;
use super::choice::Scoring;
use super::edges::{HEADS, Kept, Unit, keys_of, nodes, pairing, pieces, prefetch_queries};
use super::kernels::{BACKWARD_KEYS, Transfer};
use super::micro::Span;
use super::pack::padded;
use super::pipeline::{Keys, Place, Tile};
use super::plan::Plan;
use super::shape::Shape;
use super::weights::{Finished, origin_and_rest};
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
            unsafe { keep_weights(call, edges, (*set, query), &mut scratch, kept) }
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
/// `scratch` has the size of the layout; no other thread has the query.
unsafe fn keep_weights(
    call: &backward::Call<'_>,
    edges: &Csr,
    (set, query): (usize, usize),
    scratch: &mut Scratch,
    kept: Kept,
) {
    let (pipeline, layout) = (&call.pipeline, call.layout);
    let (kernels, inputs) = (pipeline.kernels, pipeline.inputs);
    let shape @ Shape { heads: all_heads, head_dim, value_dim, .. } = inputs.shape;
    let (token, first_key) = (inputs.queries.range(set).start + query, inputs.keys.range(set).start);
    let numbers = scratch.numbers();
    // SAFETY: the layout has room for HEADS rows; the inputs were checked to hold the rows of all nodes.
    unsafe {
        let (weights, whole, slope) =
            (numbers.add(layout.weights), numbers.add(layout.whole), numbers.add(layout.slope));
        for first_head in (0..all_heads).step_by(HEADS) {
            let heads = HEADS.min(all_heads - first_head);
            let (mut origin, mut rest, mut delta) = ([0.0; HEADS], [0.0; HEADS], [0.0; HEADS]);
            for row in 0..heads {
                let lse = call.saved.lse[(first_head + row) * inputs.queries.tokens() + token];
                [origin[row], rest[row]] = origin_and_rest(lse, pipeline.backward_factor());
            }
            // Summed as the gradients of the weights are, so that where they cancel they do so to the last digits.
            (kernels.edge_scores)(&EdgeScores {
                left: nodes(call.d_out, token, 1, value_dim),
                right: nodes(&call.saved.out, token, 1, value_dim),
                list: &[0],
                first_head,
                heads,
                pairing: Pairing::Dot,
                out: delta.as_mut_ptr(),
                stride: 1,
                derivative: std::ptr::null_mut(),
            });
            for piece in pieces::<BACKWARD_KEYS>(edges, token) {
                let mut list = [0; BACKWARD_KEYS];
                keys_of(edges, &piece, first_key, &mut list);
                let count = piece.len();
                (kernels.edge_scores)(&EdgeScores {
                    left: nodes(&inputs.query, token, 1, head_dim),
                    right: nodes(&inputs.key, first_key, shape.group(), head_dim),
                    list: &list[..count],
                    first_head,
                    heads,
                    pairing: pairing(pipeline),
                    out: weights,
                    stride: BACKWARD_KEYS,
                    derivative: slope,
                });
                let spans = [Span { first: 0, end: count }; HEADS];
                let place = Place {
                    set,
                    heads: first_head..first_head + heads,
                    queries: query..query + 1,
                    keys: Keys::Edges { first: piece.start, list: &list, count },
                };
                let columns = count.next_multiple_of(kernels.lanes);
                let tile = Tile { start: weights, stride: BACKWARD_KEYS, spans: &spans[..heads], columns };
                let finished = Finished { whole, origin: origin.as_ptr(), rest: rest.as_ptr() };
                pipeline.weights_again(&place, tile, finished, slope, numbers.add(layout.biases));
                let (_, whole) = pipeline.gradient_tiles(weights, whole);
                for (row, delta) in delta.iter().enumerate().take(heads) {
                    let at = row * BACKWARD_KEYS;
                    for (n, edge) in piece.clone().enumerate() {
                        // A weight is not negative, which leaves its sign to say on which side of 0 the score was.
                        let sign = if *slope.add(at + n) == 1.0 { 1.0 } else { -1.0_f32 };
                        *kept.weights(edge).add(first_head + row) = (*weights.add(at + n)).copysign(sign);
                        *kept.gradients(edge).add(first_head + row) = *whole.add(at + n) * -delta;
                    }
                }
            }
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
    let (pipeline, layout) = (&call.pipeline, call.layout);
    let (kernels, inputs, choice) = (pipeline.kernels, pipeline.inputs, pipeline.choice);
    let shape @ Shape { heads: all_heads, kv_heads, head_dim, value_dim } = inputs.shape;
    let (head_padded, value_padded) = (padded(head_dim), padded(value_dim));
    let (token, first_query) = (inputs.keys.range(set).start + key, inputs.queries.range(set).start);
    let by_column = edges.by_column();
    let entries = by_column.offsets[token]..by_column.offsets[token + 1];
    // SAFETY: the layout has room for the sums of all heads of a key; the inputs were checked to hold the rows of all nodes.
    unsafe {
        let (dk, dv) = (scratch.add(layout.dk), scratch.add(layout.dv));
        std::slice::from_raw_parts_mut(dk, kv_heads * head_padded).fill(0.0);
        std::slice::from_raw_parts_mut(dv, kv_heads * value_padded).fill(0.0);
        for first in entries.clone().step_by(BACKWARD_KEYS) {
            let some = first..(first + BACKWARD_KEYS).min(entries.end);
            let mut list = [0; BACKWARD_KEYS];
            for (to, &query) in list.iter_mut().zip(&by_column.rows[some.clone()]) {
                *to = query - first_query as u32;
            }
            for first_head in (0..all_heads).step_by(HEADS) {
                let heads = HEADS.min(all_heads - first_head);
                let mut d_score = [0.0; HEADS];
                (kernels.edge_key)(&EdgeKey {
                    value: nodes(&inputs.value, token, shape.group(), value_dim),
                    d_out: nodes(call.d_out, first_query, 1, value_dim),
                    list: &list[..some.len()],
                    edges: &by_column.edges[some.clone()],
                    first_head,
                    heads,
                    kept: kept.weights(0),
                    all_heads: kept.heads,
                    factor: choice.kept_factor(),
                    slope,
                    d_value: dv,
                    out_stride: value_padded,
                    d_score: d_score.as_mut_ptr(),
                });
                for (row, d_score) in d_score.iter().enumerate().take(heads) {
                    *dk.add((first_head + row) / shape.group() * head_padded) += d_score;
                }
            }
        }
        for (from, from_stride, to, dim, factor) in [
            (dk, head_padded, &call.gradients.key, head_dim, choice.scale),
            (dv, value_padded, &call.gradients.value, value_dim, choice.kept_factor()),
        ] {
            (kernels.write_rows)(&Transfer {
                from,
                from_stride,
                to: to.row(token, 0),
                to_stride: to.head_stride(),
                rows: kv_heads,
                dim,
                factors: std::ptr::null(),
                factor,
            });
        }
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
