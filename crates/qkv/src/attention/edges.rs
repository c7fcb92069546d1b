//! Attention along the edges of sparse graphs: work and memory follow the edges.
//!
//! ```text
//! forward, for each query, with the keys at the end of its edges, all heads at once
//!     products → weights → acc                            as in forward.rs, rows of a tile are heads
//! backward
//!     for each query: weights and d_products of its edges, kept; d_query
//!     for each key, with the queries that see it:
//!         d_value = Σ weight · d_out;  d_key = Σ d_product · query
//! ```
//!
//! A key's gradients are summed by the thread that has the key, over its edges in a fixed order: nothing is scattered, and the
//! bits do not depend on threads. What that takes is two numbers for each edge and head.

use std::ops::Range;
use std::sync::Mutex;

use super::along::{EdgeAdditive, EdgeGradient, EdgeScores, EdgeSums, Nodes, Pairing};
use super::backward;
use super::choice::Scoring;
use super::forward::Call;
use super::kernels::{BACKWARD_KEYS, FORWARD_KEYS, FORWARD_QUERIES, Transfer};
use super::micro::Span;
use super::pack::padded;
use super::pipeline::{Keys, Pipeline, Place, Tile};
use super::plan::Plan;
use super::scored::{self, KeptRow};
use super::shape::{Shape, View};
use super::steps::Chain;
use super::walk::{KeyPiece, prefetch_queries, sum_key};
use super::weights::{Finished, State, origin_and_rest};
use super::workspace::{Scratch, Shared, own};
use crate::csr::Csr;
use crate::work;

/// Heads that go through a tile together.
pub(super) const HEADS: usize = FORWARD_QUERIES;

/// Some queries, or keys, of one set.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) set: usize,
    /// Counted from the beginning of the set.
    pub(crate) nodes: Range<usize>,
}

/// Rows of a view, for heads that share one in groups.
pub(super) fn nodes(view: &View<'_>, token: usize, group: usize, dim: usize) -> Nodes {
    let (stride, head_stride) = view.strides();
    Nodes { start: view.row(token, 0), stride, head_stride, group, dim }
}

/// Tells how two vectors become a product.
pub(super) fn pairing(pipeline: &Pipeline<'_>) -> Pairing {
    match pipeline.choice.scoring {
        Scoring::Dot { .. } => Pairing::Dot,
        Scoring::Additive { activation, weights } => Pairing::Additive { weights: weights.as_ptr(), activation },
        Scoring::RankOne { slope } => Pairing::RankOne { slope },
    }
}

/// The first `STRIDE` of some edges' keys, counted from the beginning of their set.
pub(super) fn keys_of<const STRIDE: usize>(edges: &Csr, some: &Range<usize>, first_key: usize, to: &mut [u32; STRIDE]) {
    for (to, &key) in to.iter_mut().zip(&edges.columns()[some.clone()]) {
        *to = key - first_key as u32;
    }
}

/// The edges of a query, in pieces that fit a tile.
pub(super) fn pieces<const STRIDE: usize>(
    edges: &Csr,
    query: usize,
) -> impl Iterator<Item = Range<usize>> + use<STRIDE> {
    let (start, end) = (edges.row_offsets()[query], edges.row_offsets()[query + 1]);
    (start..end).step_by(STRIDE).map(move |first| first..(first + STRIDE).min(end))
}

/// `out` and `lse` of all sets that go along their edges.
pub(super) fn forward(call: &Call<'_>, plan: &Plan, threads: &[Mutex<Scratch>]) {
    let Some(edges) = call.pipeline.choice.edges() else { return };
    work::in_order(plan.by_query.len(), |n| {
        let mut scratch = own(threads);
        let Unit { set, nodes } = &plan.by_query[n];
        for query in nodes.clone() {
            // SAFETY: the scratch memory has the size of the layout.
            unsafe {
                if query + 1 < nodes.end {
                    prefetch_keys(&call.pipeline, edges, *set, query + 1);
                }
                forward_query(call, edges, *set, query, &mut scratch);
            }
        }
        // SAFETY: the processor has the instruction set.
        unsafe { (call.pipeline.kernels.passed)() }
    });
}

/// Asks for keys that a query sees, and for their values: they lie anywhere, and its predecessor's work hides how long they take.
///
/// # Safety
///
/// The query exists.
unsafe fn prefetch_keys(pipeline: &Pipeline<'_>, edges: &Csr, set: usize, query: usize) {
    let inputs = pipeline.inputs;
    let Shape { heads, head_dim, value_dim, .. } = inputs.shape;
    let list = edges.neighbours(inputs.queries.range(set).start + query);
    for (view, dim) in [(&inputs.key, head_dim), (&inputs.value, value_dim)] {
        // SAFETY: by the contract.
        unsafe { (pipeline.kernels.prefetch_nodes)(&nodes(view, 0, inputs.shape.group(), dim), heads, list) }
    }
}

/// # Safety
///
/// `scratch` has the size of the layout and is this thread's alone; no other thread has the query.
unsafe fn forward_query(call: &Call<'_>, edges: &Csr, set: usize, query: usize, scratch: &mut Scratch) {
    let Call { pipeline, layout, keep, .. } = *call;
    let (scratch, maxima) = scratch.numbers_and_maxima();
    let (kernels, inputs) = (pipeline.kernels, pipeline.inputs);
    let shape @ Shape { head_dim, value_dim, .. } = inputs.shape;
    let value_padded = padded(value_dim);
    let (token, first_key) = (inputs.queries.range(set).start + query, inputs.keys.range(set).start);
    // SAFETY: the layout has room for HEADS rows; the inputs were checked to hold the rows of all nodes.
    unsafe {
        if scored::forward_row(call, edges, token, scratch) {
            return;
        }
        let state @ State { row_max, row_sum, rescale } = call.state(scratch);
        let (acc, tile) = (scratch.add(layout.acc), scratch.add(layout.tile));
        for first_head in (0..shape.heads).step_by(HEADS) {
            let heads = HEADS.min(shape.heads - first_head);
            std::slice::from_raw_parts_mut(acc, heads * value_padded).fill(0.0);
            pipeline.begin(state, heads);
            let row =
                KeptRow { token, first_head, heads, edges: edges.row_offsets()[token]..edges.row_offsets()[token + 1] };
            let slope = keep.map_or(std::ptr::null_mut(), |keep| keep.begin(call, &row, scratch, maxima));
            for piece in pieces::<FORWARD_KEYS>(edges, token) {
                let mut list = [0; FORWARD_KEYS];
                keys_of(edges, &piece, first_key, &mut list);
                let count = piece.len();
                (kernels.edge_scores)(&EdgeScores {
                    left: nodes(&inputs.query, token, 1, head_dim),
                    right: nodes(&inputs.key, first_key, shape.group(), head_dim),
                    list: &list[..count],
                    first_head,
                    heads,
                    pairing: pairing(&pipeline),
                    out: tile,
                    stride: FORWARD_KEYS,
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
                let weights = Tile { start: tile, stride: FORWARD_KEYS, spans: &spans[..heads], columns };
                let whole = if keep.is_some() { scratch.add(layout.whole) } else { std::ptr::null_mut() };
                let rescale = pipeline.weights(&place, weights, state, whole, scratch.add(layout.biases));
                let sums = EdgeSums {
                    tile,
                    stride: FORWARD_KEYS,
                    right: nodes(&inputs.value, first_key, shape.group(), value_dim),
                    list: &list[..count],
                    first_head,
                    heads,
                    out: acc.wrapping_sub(first_head * value_padded),
                    out_stride: value_padded,
                    out_group: 1,
                    rescale,
                };
                (kernels.edge_sums)(&sums);
                if let Some(keep) = keep {
                    keep.piece(call, &row, piece.start, &sums, scratch, maxima);
                }
            }
            (kernels.totals)(row_sum, heads, rescale);
            for row in 0..heads {
                let (factor, lse) = pipeline.end(*row_max.add(row), *rescale.add(row));
                *rescale.add(row) = factor;
                call.save(first_head + row, token, lse);
            }
            (kernels.write_rows)(&Transfer {
                from: acc,
                from_stride: value_padded,
                to: call.out.row(token, first_head),
                to_stride: call.out.head_stride(),
                rows: heads,
                dim: value_dim,
                factors: rescale,
                factor: 1.0,
            });
            if let Some(keep) = keep {
                keep.end(call, &row, scratch, maxima);
            }
        }
    }
}

/// The gradients of all sets that go along their edges; sums over pairs go to the tallies.
pub(super) fn backward(call: &backward::Call<'_>, plan: &Plan, threads: &[Mutex<Scratch>], kept: Kept) {
    let Some(edges) = call.pipeline.choice.edges() else { return };
    if let Some(keep) = call.keep {
        return scored::backward(call, &keep, edges, plan, threads);
    }
    work::in_order(plan.by_query.len(), |n| {
        let mut scratch = own(threads);
        let _abandon = work::Abandon(&call.abandoned);
        let Unit { set, nodes } = &plan.by_query[n];
        for query in nodes.clone() {
            // SAFETY: the scratch memory has the size of the layout.
            unsafe {
                if query + 1 < nodes.end {
                    prefetch_keys(&call.pipeline, edges, *set, query + 1);
                }
                backward_query(call, edges, (*set, query), &mut scratch, kept);
            }
        }
        call.hand_in(plan.tasks.len() + n, &mut scratch);
    });
    let inputs = call.pipeline.inputs;
    let Shape { heads, head_dim, value_dim, .. } = inputs.shape;
    let of_edge = Nodes { start: kept.weights(0), stride: 2 * heads, head_stride: 0, group: 1, dim: 2 * heads };
    let (d_out, query) = (nodes(call.d_out, 0, 1, value_dim), nodes(&inputs.query, 0, 1, head_dim));
    work::in_order(plan.by_key.len(), |n| {
        let mut scratch = own(threads);
        let Unit { set, nodes } = &plan.by_key[n];
        for key in nodes.clone() {
            // SAFETY: as above, and what is kept of the edges is complete.
            unsafe {
                if key + 1 < nodes.end {
                    prefetch_queries(call, edges, (*set, key + 1), &of_edge, &[(d_out, heads), (query, heads)]);
                }
                backward_key(call, edges, (*set, key), scratch.numbers(), kept);
            }
        }
    });
}

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
struct Piece<'a> {
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
unsafe fn with_weights(
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

/// Keeps weights and gradients of the products of a query's edges, and writes its gradient.
///
/// # Safety
///
/// `scratch` has the size of the layout; no other thread has the query.
unsafe fn backward_query(
    call: &backward::Call<'_>,
    edges: &Csr,
    (set, query): (usize, usize),
    scratch: &mut Scratch,
    kept: Kept,
) {
    let (pipeline, layout) = (&call.pipeline, call.layout);
    let (kernels, inputs, choice) = (pipeline.kernels, pipeline.inputs, pipeline.choice);
    let shape @ Shape { heads: all_heads, head_dim, value_dim, .. } = inputs.shape;
    let head_padded = padded(head_dim);
    let (token, first_key) = (inputs.queries.range(set).start + query, inputs.keys.range(set).start);
    let numbers = scratch.numbers();
    let mut tally = scratch.tally();
    // SAFETY: the layout has room for HEADS rows; the inputs were checked to hold the rows of all nodes.
    unsafe {
        let (gradient, dq) = (numbers.add(layout.gradient), numbers.add(layout.dq));
        for first_head in (0..all_heads).step_by(HEADS) {
            let heads = HEADS.min(all_heads - first_head);
            std::slice::from_raw_parts_mut(dq, heads * head_padded).fill(0.0);
            with_weights(call, edges, (set, query), first_head..first_head + heads, numbers, |piece| {
                let Piece { edges, scores, place, tile, slope, minus_delta } = piece;
                (kernels.edge_scores)(&EdgeScores {
                    left: nodes(call.d_out, token, 1, value_dim),
                    right: nodes(&inputs.value, first_key, shape.group(), value_dim),
                    pairing: Pairing::Dot,
                    out: gradient,
                    derivative: std::ptr::null_mut(),
                    ..*scores
                });
                let (kept_tile, whole_tile) = pipeline.gradient_tiles(tile.start, numbers.add(layout.whole));
                (kernels.edge_gradient)(&EdgeGradient {
                    tile: gradient,
                    stride: BACKWARD_KEYS,
                    columns: tile.columns,
                    kept: kept_tile,
                    whole: whole_tile,
                    minus_delta,
                    factor: choice.kept_factor(),
                });
                let d_logits = Tile { start: gradient, ..tile };
                if let Some(to_bias) = call.to_bias {
                    pipeline.bias_gradient(place, d_logits, &mut tally, to_bias);
                }
                if !slope.is_null() {
                    (kernels.chain)(&Chain { tile: gradient, slope, stride: BACKWARD_KEYS, spans: tile.spans });
                }
                for (n, edge) in edges.enumerate() {
                    for row in 0..heads {
                        *kept.weights(edge).add(first_head + row) = *tile.start.add(row * BACKWARD_KEYS + n);
                        *kept.gradients(edge).add(first_head + row) = *gradient.add(row * BACKWARD_KEYS + n);
                    }
                }
                let d_query = Direction {
                    left: scores.left,
                    right: scores.right,
                    list: scores.list,
                    first_head,
                    heads,
                    gradient,
                    out: dq.wrapping_sub(first_head * head_padded),
                    out_group: 1,
                    d_weights: call.d_score_of(&mut tally, first_head..first_head + heads),
                };
                d_query.add(call);
            });
            (kernels.write_rows)(&Transfer {
                from: dq,
                from_stride: head_padded,
                to: call.gradients.query.row(token, first_head),
                to_stride: call.gradients.query.head_stride(),
                rows: heads,
                dim: head_dim,
                factors: std::ptr::null(),
                factor: choice.scale,
            });
        }
    }
}

/// Writes the gradients of a key and its value.
///
/// # Safety
///
/// That of [`sum_key`], and the edges of the key are kept.
unsafe fn backward_key(
    call: &backward::Call<'_>,
    edges: &Csr,
    (set, key): (usize, usize),
    scratch: *mut f32,
    kept: Kept,
) {
    let (pipeline, layout) = (&call.pipeline, call.layout);
    let (kernels, inputs) = (pipeline.kernels, pipeline.inputs);
    let shape @ Shape { head_dim, value_dim, .. } = inputs.shape;
    let token = inputs.keys.range(set).start + key;
    // SAFETY: by the contract; the layout has room for HEADS rows, and the inputs were checked to hold the rows of all nodes.
    unsafe {
        let (weights, gradient) = (scratch.add(layout.weights), scratch.add(layout.gradient));
        sum_key(call, edges, (set, key), scratch, |piece| {
            let KeyPiece { list, first_query, edges, first_head, heads, dk, dv } = piece;
            for (n, &edge) in edges.iter().enumerate() {
                for row in 0..heads {
                    let head = first_head + row;
                    *weights.add(row * BACKWARD_KEYS + n) = *kept.weights(edge as usize).add(head);
                    *gradient.add(row * BACKWARD_KEYS + n) = *kept.gradients(edge as usize).add(head);
                }
            }
            (kernels.edge_sums)(&EdgeSums {
                tile: weights,
                stride: BACKWARD_KEYS,
                right: nodes(call.d_out, first_query, 1, value_dim),
                list,
                first_head,
                heads,
                out: dv,
                out_stride: padded(value_dim),
                out_group: shape.group(),
                rescale: std::ptr::null(),
            });
            let d_key = Direction {
                left: nodes(&inputs.key, token, shape.group(), head_dim),
                right: nodes(&inputs.query, first_query, 1, head_dim),
                list,
                first_head,
                heads,
                gradient,
                out: dk,
                out_group: shape.group(),
                d_weights: std::ptr::null_mut(),
            };
            d_key.add(call);
        });
    }
}

/// From gradients of products to that of the node on one side of the edges.
struct Direction<'a> {
    left: Nodes,
    right: Nodes,
    list: &'a [u32],
    first_head: usize,
    heads: usize,
    gradient: *const f32,
    /// Added to: a row for every `out_group` heads.
    out: *mut f32,
    out_group: usize,
    /// Added to, if not null: the gradient of the score's weights, of all heads.
    d_weights: *mut f32,
}

impl Direction<'_> {
    /// # Safety
    ///
    /// The nodes exist, and the pointers hold what they say for the heads.
    unsafe fn add(&self, call: &backward::Call<'_>) {
        let (kernels, stride) = (call.pipeline.kernels, BACKWARD_KEYS);
        let &Self { left, right, list, first_head, heads, gradient, out, out_group, d_weights } = self;
        let out_stride = padded(left.dim);
        // SAFETY: by the contract.
        unsafe {
            match call.pipeline.choice.scoring {
                Scoring::Dot { .. } => (kernels.edge_sums)(&EdgeSums {
                    tile: gradient,
                    stride,
                    right,
                    list,
                    first_head,
                    heads,
                    out,
                    out_stride,
                    out_group,
                    rescale: std::ptr::null(),
                }),
                Scoring::Additive { activation, weights } => (kernels.edge_additive)(&EdgeAdditive {
                    gradient,
                    stride,
                    left,
                    right,
                    list,
                    first_head,
                    heads,
                    weights: weights.as_ptr(),
                    activation,
                    out,
                    out_stride,
                    d_weights,
                    d_weights_stride: call.per_head,
                }),
                // the derivative of the sum by either side is 1
                Scoring::RankOne { .. } => {
                    for row in 0..heads {
                        let numbers = std::slice::from_raw_parts(gradient.add(row * stride), list.len());
                        *out.wrapping_add((first_head + row) / out_group * out_stride) += numbers.iter().sum::<f32>();
                    }
                }
            }
        }
    }
}
