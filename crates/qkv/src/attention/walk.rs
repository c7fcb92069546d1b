//! What the ways back along edges have in common (`edges.rs`, `scored.rs`): a query's edges in pieces with their weights, a key's edges in
//! pieces with the sums of its gradients, and what is kept of each edge in between.

use std::ops::Range;

use super::along::{EdgeScores, Nodes, Pairing};
use super::backward;
use super::choice::Scoring;
use super::edges::{HEADS, keys_of, nodes, pairing, pieces};
use super::kernels::{BACKWARD_KEYS, Transfer};
use super::micro::Span;
use super::pack::padded;
use super::pipeline::{Keys, Place, Tile};
use super::shape::Shape;
use super::weights::{Finished, origin_and_rest};
use super::workspace::Shared;
use crate::csr::Csr;

/// What is kept of each edge: weights, then gradients of products, a number for each head.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    start: Shared,
    pub(super) heads: usize,
}

impl Kept {
    /// Numbers that all edges take.
    pub(super) fn numbers(edges: usize, heads: usize) -> usize {
        2 * edges * heads
    }

    pub(super) fn new(start: Shared, heads: usize) -> Self {
        Self { start, heads }
    }

    pub(super) fn weights(self, edge: usize) -> *mut f32 {
        self.start.at(2 * edge * self.heads)
    }

    pub(super) fn gradients(self, edge: usize) -> *mut f32 {
        self.start.at((2 * edge + 1) * self.heads)
    }
}

/// Some edges of a query, with their weights.
pub(super) struct Piece<'a> {
    pub(super) edges: Range<usize>,
    /// How the scores were made.
    pub(super) scores: &'a EdgeScores<'a>,
    pub(super) place: &'a Place<'a>,
    /// The weights, those of a head in a row.
    pub(super) tile: Tile<'a>,
    /// The derivatives of the logits by the products, laid out alike; null where they are all 1.
    pub(super) slope: *mut f32,
    /// For each head what its query's weights get through each other.
    pub(super) minus_delta: &'a [f32],
}

/// Calls `run` for the edges of a query, in pieces that fit a tile, when their weights, of some heads, lie in the tiles of the layout:
/// as they were in the forward pass, and what else their gradients need.
///
/// # Safety
///
/// `numbers` has the size of the layout; there are so many heads, and no more than [`HEADS`].
pub(super) unsafe fn with_weights(
    call: &backward::Call<'_>,
    edges: &Csr,
    (set, query): (usize, usize),
    heads: Range<usize>,
    numbers: *mut f32,
    mut run: impl FnMut(Piece<'_>),
) {
    let (pipeline, layout) = (&call.pipeline, call.layout);
    let (kernels, inputs, choice) = (pipeline.kernels, pipeline.inputs, pipeline.choice);
    let shape @ Shape { head_dim, value_dim, .. } = inputs.shape;
    let (token, first_key) = (inputs.queries.range(set).start + query, inputs.keys.range(set).start);
    let (first_head, count) = (heads.start, heads.len());
    let (mut origin, mut rest, mut minus_delta) = ([0.0; HEADS], [0.0; HEADS], [0.0; HEADS]);
    for (row, head) in heads.clone().enumerate() {
        let lse = call.saved.lse[head * inputs.queries.tokens() + token];
        [origin[row], rest[row]] = origin_and_rest(lse, pipeline.backward_factor());
    }
    // SAFETY: by the contract; the inputs were checked to hold the rows of all nodes.
    unsafe {
        if choice.normalizer.has_sum() {
            // Summed as the gradients of the weights are, so that where they cancel they do so to the last digits.
            (kernels.edge_scores)(&EdgeScores {
                left: nodes(call.d_out, token, 1, value_dim),
                right: nodes(&call.saved.out, token, 1, value_dim),
                list: &[0],
                first_head,
                heads: count,
                pairing: Pairing::Dot,
                out: minus_delta.as_mut_ptr(),
                stride: 1,
                derivative: std::ptr::null_mut(),
            });
            minus_delta.iter_mut().for_each(|delta| *delta = -*delta);
        }
        let (weights, whole) = (numbers.add(layout.weights), numbers.add(layout.whole));
        let slope = if choice.has_slope() { numbers.add(layout.slope) } else { std::ptr::null_mut() };
        for piece in pieces::<BACKWARD_KEYS>(edges, token) {
            let mut list = [0; BACKWARD_KEYS];
            keys_of(edges, &piece, first_key, &mut list);
            let scores = EdgeScores {
                left: nodes(&inputs.query, token, 1, head_dim),
                right: nodes(&inputs.key, first_key, shape.group(), head_dim),
                list: &list[..piece.len()],
                first_head,
                heads: count,
                pairing: pairing(pipeline),
                out: weights,
                stride: BACKWARD_KEYS,
                derivative: slope,
            };
            (kernels.edge_scores)(&scores);
            let spans = [Span { first: 0, end: piece.len() }; HEADS];
            let place = Place {
                set,
                heads: heads.clone(),
                queries: query..query + 1,
                keys: Keys::Edges { first: piece.start, list: &list, count: piece.len() },
            };
            let columns = piece.len().next_multiple_of(kernels.lanes);
            let tile = Tile { start: weights, stride: BACKWARD_KEYS, spans: &spans[..count], columns };
            let finished = Finished { whole, origin: origin.as_ptr(), rest: rest.as_ptr() };
            pipeline.weights_again(&place, tile, finished, slope, numbers.add(layout.biases));
            let minus_delta = &minus_delta[..count];
            run(Piece { edges: piece, scores: &scores, place: &place, tile, slope, minus_delta });
        }
    }
}

/// Asks for what a key's gradients are sums of.
///
/// # Safety
///
/// The key exists.
pub(super) unsafe fn prefetch_queries(call: &backward::Call<'_>, edges: &Csr, (set, key): (usize, usize), kept: Kept) {
    let inputs = call.pipeline.inputs;
    let Shape { heads, head_dim, value_dim, .. } = inputs.shape;
    let token = inputs.keys.range(set).start + key;
    let by_column = edges.by_column();
    let entries = by_column.offsets[token]..by_column.offsets[token + 1];
    let kernels = call.pipeline.kernels;
    // SAFETY: what is asked for need not exist.
    unsafe {
        let of_edge = Nodes { start: kept.weights(0), stride: 2 * heads, head_stride: 0, group: 1, dim: 2 * heads };
        (kernels.prefetch_nodes)(&of_edge, 1, &by_column.edges[entries.clone()]);
        (kernels.prefetch_nodes)(&nodes(call.d_out, 0, 1, value_dim), heads, &by_column.rows[entries.clone()]);
        if !matches!(call.pipeline.choice.scoring, Scoring::RankOne { .. }) {
            (kernels.prefetch_nodes)(&nodes(&inputs.query, 0, 1, head_dim), heads, &by_column.rows[entries]);
        }
    }
}

/// Some edges of a key, for some heads.
pub(super) struct KeyPiece<'a> {
    /// The queries that see it, counted from the first of the set.
    pub(super) list: &'a [u32],
    pub(super) first_query: usize,
    /// The edges that they see it by.
    pub(super) edges: &'a [u32],
    pub(super) first_head: usize,
    pub(super) heads: usize,
    /// Added to: the gradients of the key and of its value, rows of all heads.
    pub(super) dk: *mut f32,
    pub(super) dv: *mut f32,
}

/// Writes the gradients of a key and its value, to which `add` adds what comes by some of its edges.
///
/// # Safety
///
/// `scratch` has the size of the layout and is this thread's alone, and no other thread has the key.
pub(super) unsafe fn sum_key(
    call: &backward::Call<'_>,
    edges: &Csr,
    (set, key): (usize, usize),
    scratch: *mut f32,
    mut add: impl FnMut(KeyPiece<'_>),
) {
    let (pipeline, layout) = (&call.pipeline, call.layout);
    let (inputs, choice) = (pipeline.inputs, pipeline.choice);
    let Shape { heads: all_heads, kv_heads, head_dim, value_dim } = inputs.shape;
    let (head_padded, value_padded) = (padded(head_dim), padded(value_dim));
    let (token, first_query) = (inputs.keys.range(set).start + key, inputs.queries.range(set).start);
    let by_column = edges.by_column();
    let entries = by_column.offsets[token]..by_column.offsets[token + 1];
    // SAFETY: the layout has room for the sums of all heads of a key; the gradients were checked to hold its rows.
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
            let (list, edges) = (&list[..some.len()], &by_column.edges[some]);
            for first_head in (0..all_heads).step_by(HEADS) {
                let heads = HEADS.min(all_heads - first_head);
                add(KeyPiece { list, first_query, edges, first_head, heads, dk, dv });
            }
        }
        for (from, from_stride, to, dim, factor) in [
            (dk, head_padded, &call.gradients.key, head_dim, choice.scale),
            (dv, value_padded, &call.gradients.value, value_dim, choice.kept_factor()),
        ] {
            (pipeline.kernels.write_rows)(&Transfer {
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
