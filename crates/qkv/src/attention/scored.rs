//! Attention along edges where a logit is made of a number of the query and a number of the key, as in graph attention networks
//! (Veličković et al., 2018).
//!
//! With `s_ij` the derivative of the score, 1 where it is positive and the slope elsewhere, and `w_ij` the weights:
//!
//! ```text
//! forward, beside edges.rs       keeps w_ij with the sign of the score;  out⁺_i = Σ_{j: score positive} w_ij · v_j;  w⁺_i = Σ w_ij of these
//! backward, for each query       reads its own rows
//!     delta = d_out · out;  a = d_out · out⁺
//!     d_query = a - delta · w⁺ + slope · (delta - a - delta · w⁻)
//! backward, for each key, with the queries that see it       reads their rows of d_out
//!     d_value = Σ w · d_out;  d_key = Σ s · w · (d_out · v - delta)
//! ```
//!
//! Departures from `edges.rs`. There the gradient of a weight is computed with the query, from values that lie anywhere in memory, and kept
//! for the key. Here a query's gradient needs none of its neighbours: what `d_out` is multiplied with is summed in the forward pass. So the
//! only rows of vectors that the backward pass reads from anywhere are those of `d_out`, once. On graphs that are larger than the caches that
//! decides the time. Weights are computed once: kept are one number for each edge and head, two under dropout, and for each query out⁺ and
//! both shares of its weights.

use std::ops::Range;
use std::sync::Mutex;

use super::along::{EdgeSums, Nodes};
use super::backward;
use super::choice::{Choice, Scoring};
use super::edges::{HEADS, Unit, nodes};
use super::forward;
use super::kernels::{FORWARD_KEYS, FORWARD_QUERIES, Transfer};
use super::pack::padded;
use super::plan::Plan;
use super::scored_row::{self, ScoredQuery, ScoredRow};
use super::scored_steps::{EdgeKeep, EdgeKey};
use super::shape::{Gradients, Inputs, Shape};
use super::walk::{KeyPiece, prefetch_queries, sum_key};
use super::workspace::{Cut, Scratch, Shared, own};
use crate::csr::Csr;
use crate::math::sum_rows;
use crate::options::{Bias, Normalizer};
use crate::rank_one;
use crate::work;

/// Keys between the one at work and the one whose queries are asked for.
const AHEAD: usize = 2;

// Both scratch buffers of a row lie where a tile does otherwise.
const _: () = assert!(2 * scored_row::SCRATCH <= FORWARD_QUERIES * FORWARD_KEYS);

/// Numbers that are not in a cache any more when the backward pass reads them: 16 MiB.
const MANY: usize = 4 << 20;

/// Where what is kept lies.
#[derive(Clone, Copy)]
pub(super) struct Keep {
    start: Shared,
    /// Numbers of an edge, and how far behind its weights those before dropout lie: 0 if they are the same.
    stride: usize,
    whole_at: usize,
    /// Where `out⁺` begins, `[query tokens, heads, value_dim]`, and `w⁺` and `w⁻`, `[query tokens, 2, heads]`.
    positive: usize,
    shares: usize,
    total: usize,
    heads: usize,
    value_dim: usize,
    slope: f32,
}

impl Keep {
    /// What a call keeps: nothing unless its weights are a softmax's, of such scores alone.
    pub(super) fn new(inputs: &Inputs<'_>, choice: &Choice<'_>) -> Option<Self> {
        let (Scoring::RankOne { slope }, Some(edges)) = (choice.scoring, choice.edges()) else { return None };
        if !choice.normalizer.has_sum() || choice.bias != Bias::None {
            return None;
        }
        let Shape { heads, value_dim, .. } = inputs.shape;
        let (stride, whole_at) = if choice.dropout.is_some() { (2 * heads, heads) } else { (heads, 0) };
        let tokens = inputs.queries.tokens();
        let mut cut = Cut::new();
        cut.part(edges.edges() * stride);
        let (positive, shares) = (cut.part(tokens * heads * value_dim), cut.part(tokens * heads * 2));
        let start = Shared(std::ptr::null_mut());
        Some(Self { start, stride, whole_at, positive, shares, total: cut.total(), heads, value_dim, slope })
    }

    /// How many numbers that takes.
    pub(super) fn numbers(&self) -> usize {
        self.total
    }

    /// The same in a buffer that has so many, to be written.
    pub(super) fn at(self, buffer: &mut [f32]) -> Self {
        Self { start: Shared(buffer.as_mut_ptr()), ..self }
    }

    /// The same in a buffer that has so many, to be read alone.
    pub(super) fn of(self, buffer: &[f32]) -> Self {
        Self { start: Shared(buffer.as_ptr().cast_mut()), ..self }
    }

    fn edge(&self, edge: usize) -> *mut f32 {
        self.start.at(edge * self.stride)
    }

    /// The shares of a query's weights whose scores are positive, and of the others, `[2, heads]`.
    fn shares(&self, token: usize) -> *mut f32 {
        self.start.at(self.shares + token * 2 * self.heads)
    }

    /// Rows of `out⁺`.
    fn positive(&self) -> Nodes {
        let (start, dim) = (self.start.at(self.positive), self.value_dim);
        Nodes { start, stride: self.heads * dim, head_stride: dim, group: 1, dim }
    }
}

/// A query with some of its heads, and its edges.
pub(super) struct KeptRow {
    pub(super) token: usize,
    pub(super) first_head: usize,
    pub(super) heads: usize,
    pub(super) edges: Range<usize>,
}

impl KeptRow {
    /// Whether more edges go out than a tile has columns: what weights are divided by is then known only behind the last.
    fn is_long(&self) -> bool {
        self.edges.len() > FORWARD_KEYS
    }
}

/// Writes `out`, `lse` and what is kept of a query, if it is one of those that go through registers with all of their heads; says whether
/// it has.
///
/// # Safety
///
/// `scratch` has the size of the layout and is this thread's alone; no other thread has the query.
pub(super) unsafe fn forward_row(call: &forward::Call<'_>, edges: &Csr, token: usize, scratch: *mut f32) -> bool {
    let forward::Call { pipeline, layout, keep, .. } = *call;
    let (inputs, choice, kernels) = (pipeline.inputs, pipeline.choice, pipeline.kernels);
    let Shape { heads, value_dim, .. } = inputs.shape;
    let Scoring::RankOne { slope } = choice.scoring else { return false };
    let own = edges.row_offsets()[token]..edges.row_offsets()[token + 1];
    let (_, query_stride) = inputs.query.strides();
    let (_, key_stride) = inputs.key.strides();
    let fits = heads.is_power_of_two()
        && heads <= kernels.lanes
        && (heads == 1 || (query_stride, key_stride) == (1, 1))
        && inputs.shape.group() == 1
        && choice.is_plain_softmax()
        && (1..=scored_row::MOST).contains(&own.len());
    if !fits {
        return false;
    }
    let null = std::ptr::null_mut();
    // SAFETY: by the contract; the layout has room for both buffers in the parts that they are given, and the inputs were checked to
    // hold the rows of all nodes.
    unsafe {
        let (largest, total) = (scratch.add(layout.row_max), scratch.add(layout.rescale));
        (kernels.scored_row)(&ScoredRow {
            query: inputs.query.row(token, 0),
            key: nodes(&inputs.key, 0, 1, 1),
            value: nodes(&inputs.value, 0, 1, value_dim),
            list: &edges.columns()[own.clone()],
            heads,
            slope,
            scale: choice.scale,
            out: call.out.row(token, 0),
            out_head_stride: call.out.head_stride(),
            largest,
            total,
            weights: scratch.add(layout.tile),
            positive: scratch.add(layout.tile + scored_row::SCRATCH),
            kept: keep.map_or(null, |keep| keep.edge(own.start)),
            out_positive: keep.map_or(null, |keep| keep.start.at(keep.positive + token * heads * value_dim)),
            shares: keep.map_or(null, |keep| keep.shares(token)),
            past: keep.is_some_and(|keep| keep.total > MANY),
        });
        for head in 0..heads {
            let (_, lse) = pipeline.end(*largest.add(head), *total.add(head));
            call.save(head, token, lse);
        }
    }
    true
}

/// The forward pass: what it does for the backward pass besides `out` and `lse`. Scratch memory has the size of its layout.
impl Keep {
    /// No edge seen yet; returns where the derivatives of scores are to be put.
    ///
    /// # Safety
    ///
    /// `scratch` is this thread's alone.
    pub(super) unsafe fn begin(
        &self,
        call: &forward::Call<'_>,
        row: &KeptRow,
        scratch: *mut f32,
        maxima: &mut Vec<f32>,
    ) -> *mut f32 {
        maxima.clear();
        // SAFETY: by the contract.
        unsafe {
            std::slice::from_raw_parts_mut(scratch.add(call.layout.positive_acc), row.heads * padded(self.value_dim))
                .fill(0.0);
            std::slice::from_raw_parts_mut(scratch.add(call.layout.shares), row.heads).fill(0.0);
            scratch.add(call.layout.slope)
        }
    }

    /// Keeps the weights of some edges, from `first` on, whose sums are `sums`.
    ///
    /// # Safety
    ///
    /// That of [`Keep::begin`]; weights and derivatives of the scores lie in their tiles, and no other thread has the query.
    pub(super) unsafe fn piece(
        &self,
        call: &forward::Call<'_>,
        row: &KeptRow,
        first: usize,
        sums: &EdgeSums<'_>,
        scratch: *mut f32,
        maxima: &mut Vec<f32>,
    ) {
        let (layout, kernels) = (call.layout, call.pipeline.kernels);
        // SAFETY: by the contract.
        unsafe {
            let factors = std::slice::from_raw_parts_mut(scratch.add(layout.factors), row.heads);
            if row.is_long() {
                factors.fill(1.0);
                maxima.extend_from_slice(std::slice::from_raw_parts(scratch.add(layout.row_max), row.heads));
            } else {
                self.divisors(call, row, scratch);
            }
            let positive = scratch.add(layout.positive);
            (kernels.edge_keep)(&EdgeKeep {
                tile: sums.tile,
                whole: scratch.add(layout.whole),
                slope: scratch.add(layout.slope),
                stride: sums.stride,
                heads: row.heads,
                count: sums.list.len(),
                factors: scratch.add(layout.factors),
                to: self.edge(first).add(row.first_head),
                to_stride: self.stride,
                whole_at: self.whole_at,
                positive,
                sums: scratch.add(layout.shares),
                rescale: sums.rescale,
            });
            let out = scratch.add(layout.positive_acc).wrapping_sub(row.first_head * sums.out_stride);
            (kernels.edge_sums)(&EdgeSums { tile: positive, out, ..*sums });
        }
    }

    /// Puts what weights are divided by, of each head, to its place as a factor.
    ///
    /// # Safety
    ///
    /// That of [`Keep::begin`].
    unsafe fn divisors(&self, call: &forward::Call<'_>, row: &KeptRow, scratch: *mut f32) {
        // SAFETY: by the contract.
        unsafe {
            let factors = scratch.add(call.layout.factors);
            (call.pipeline.kernels.totals)(scratch.add(call.layout.row_sum), row.heads, factors);
            for factor in std::slice::from_raw_parts_mut(factors, row.heads) {
                // (a row whose logits are all -∞ has no weights)
                *factor = if *factor == 0.0 { 0.0 } else { 1.0 / *factor };
            }
        }
    }

    /// All edges seen: finishes what is kept.
    ///
    /// # Safety
    ///
    /// That of [`Keep::piece`]; `rescale` has the factors of the sums.
    pub(super) unsafe fn end(&self, call: &forward::Call<'_>, row: &KeptRow, scratch: *mut f32, maxima: &[f32]) {
        let (layout, pipeline) = (call.layout, &call.pipeline);
        let to_power = f64::from(pipeline.exponent_factor());
        // SAFETY: by the contract.
        unsafe {
            self.divisors(call, row, scratch);
            let factors = std::slice::from_raw_parts(scratch.add(layout.factors), row.heads);
            let largest = std::slice::from_raw_parts(scratch.add(layout.row_max), row.heads);
            let pieces = row.edges.clone().step_by(FORWARD_KEYS).zip(maxima.chunks_exact(row.heads));
            for (first, before) in pieces {
                for edge in first..(first + FORWARD_KEYS).min(row.edges.end) {
                    let kept = self.edge(edge).add(row.first_head);
                    for head in 0..row.heads {
                        // Weights were told from the largest logit so far.
                        let factor = match before[head] == largest[head] {
                            true => factors[head],
                            false => factors[head] * rescaled(before[head], largest[head], to_power),
                        };
                        *kept.add(head) *= factor;
                        if self.whole_at > 0 {
                            *kept.add(self.whole_at + head) *= factor;
                        }
                    }
                }
            }
            for head in 0..row.heads {
                let positive = *scratch.add(layout.shares + head) * factors[head];
                // What the key takes whose logit is 0, if there is one.
                let of_one = match pipeline.choice.normalizer {
                    Normalizer::SoftmaxPlusOne => rescaled(0.0, largest[head], to_power) * factors[head],
                    _ => 0.0,
                };
                let shares = self.shares(row.token).add(row.first_head + head);
                (*shares, *shares.add(self.heads)) = (positive, 1.0 - of_one - positive);
            }
            (pipeline.kernels.write_rows)(&Transfer {
                from: scratch.add(layout.positive_acc),
                from_stride: padded(self.value_dim),
                to: self.start.at(self.positive + (row.token * self.heads + row.first_head) * self.value_dim),
                to_stride: self.value_dim,
                rows: row.heads,
                dim: self.value_dim,
                factors: scratch.add(layout.rescale),
                factor: 1.0,
            });
        }
    }
}

/// `2^(factor · (before - after))`.
fn rescaled(before: f32, after: f32, factor: f64) -> f32 {
    ((f64::from(before) - f64::from(after)) * factor).exp2() as f32
}

/// The gradients of all sets that go along their edges.
pub(super) fn backward(call: &backward::Call<'_>, keep: &Keep, edges: &Csr, plan: &Plan, threads: &[Mutex<Scratch>]) {
    let inputs = call.pipeline.inputs;
    let heads = keep.heads;
    // What was kept of rows while sets were walked through by tiles is of no use any more.
    let minus_delta = call.spare_rows();
    work::in_order(plan.by_query.len(), |n| {
        let Unit { set, nodes } = &plan.by_query[n];
        for query in nodes.clone() {
            // SAFETY: no other thread has the query.
            unsafe { query_gradients(call, keep, inputs.queries.range(*set).start + query, minus_delta) }
        }
    });
    let of_edge = Nodes { start: keep.edge(0), stride: keep.stride, head_stride: 0, group: 1, dim: keep.stride };
    let deltas = Nodes { start: minus_delta.at(0), stride: heads, head_stride: 0, group: 1, dim: heads };
    let of_query = [(nodes(call.d_out, 0, 1, inputs.shape.value_dim), heads), (deltas, 1)];
    work::in_order(plan.by_key.len(), |n| {
        let mut scratch = own(threads);
        let Unit { set, nodes } = &plan.by_key[n];
        for key in nodes.clone() {
            // SAFETY: the scratch memory has the size of the layout, no other thread has the key, and all queries are done.
            unsafe {
                if key + AHEAD < nodes.end {
                    prefetch_queries(call, edges, (*set, key + AHEAD), &of_edge, &of_query);
                }
                key_gradients(call, keep, edges, (*set, key), scratch.numbers(), minus_delta);
            }
        }
        if let Some(vectors) = call.vectors.filter(|_| along_edges(plan)) {
            let first = inputs.keys.range(*set).start;
            // SAFETY: queries and keys are the same nodes, no other thread has these, and their gradients are complete.
            unsafe { vectors.add(n, first + nodes.start..first + nodes.end) }
        }
    });
}

/// Whether all sets go along their edges.
fn along_edges(plan: &Plan) -> bool {
    plan.tasks.is_empty()
}

/// Writes the gradient of a query, a number for each head, and keeps what its weights get through each other.
///
/// # Safety
///
/// No other thread has the query.
unsafe fn query_gradients(call: &backward::Call<'_>, keep: &Keep, token: usize, minus_delta: Shared) {
    let (pipeline, heads) = (&call.pipeline, keep.heads);
    let of_query = |rows: Nodes| Nodes { start: rows.start.wrapping_add(token * rows.stride), ..rows };
    // SAFETY: the inputs were checked to hold the rows of all nodes, and what was kept has as many.
    unsafe {
        (pipeline.kernels.scored_query)(&ScoredQuery {
            d_out: nodes(call.d_out, token, 1, keep.value_dim),
            out: nodes(&call.saved.out, token, 1, keep.value_dim),
            out_positive: of_query(keep.positive()),
            heads,
            shares: keep.shares(token),
            slope: keep.slope,
            scale: pipeline.choice.scale,
            gradient: call.gradients.query.row(token, 0),
            gradient_stride: call.gradients.query.head_stride(),
            minus_delta: minus_delta.at(token * heads),
        });
    }
}

/// Writes the gradients of a key and its value.
///
/// # Safety
///
/// `scratch` has the size of the layout and is this thread's alone, no other thread has the key, and the queries are done.
unsafe fn key_gradients(
    call: &backward::Call<'_>,
    keep: &Keep,
    edges: &Csr,
    (set, key): (usize, usize),
    scratch: *mut f32,
    minus_delta: Shared,
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
                kept: keep.edge(0),
                kept_stride: keep.stride,
                whole_at: keep.whole_at,
                minus_delta: minus_delta.at(first_query * keep.heads),
                all_heads: keep.heads,
                factor: call.pipeline.choice.kept_factor(),
                slope: keep.slope,
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

/// The gradient that values get through queries and keys which are products of them with vectors, and that of the vectors.
#[derive(Clone, Copy)]
pub(super) struct ToVectors<'a> {
    value: Shared,
    vectors: &'a [f32],
    d_query: Shared,
    d_key: Shared,
    d_value: Shared,
    heads: usize,
    /// The gradient of the vectors by each unit.
    partial: Shared,
}

// SAFETY: each thread reads and writes the rows of nodes of its own.
unsafe impl Sync for ToVectors<'_> {}

impl<'a> ToVectors<'a> {
    /// Of checked operands, with room for the gradients by each unit.
    pub(super) fn new(inputs: &Inputs<'_>, gradients: &Gradients<'_>, vectors: &'a [f32], partial: Shared) -> Self {
        Self {
            value: Shared(inputs.value.row(0, 0).cast_mut()),
            vectors,
            d_query: Shared(gradients.query.row(0, 0)),
            d_key: Shared(gradients.key.row(0, 0)),
            d_value: Shared(gradients.value.row(0, 0)),
            heads: inputs.shape.heads,
            partial,
        }
    }

    /// Adds what some nodes get.
    ///
    /// # Safety
    ///
    /// The nodes exist, nobody else reads or writes their gradients, and there is room for that of the unit.
    pub(super) unsafe fn add(&self, unit: usize, nodes: Range<usize>) {
        let width = self.vectors.len() / 2;
        let numbers = nodes.len() * self.heads;
        // SAFETY: by the contract; operands and gradients are packed.
        unsafe {
            let read = |start: Shared, width: usize| start.at(nodes.start * width).cast_const();
            let [d_query, d_key] =
                [self.d_query, self.d_key].map(|start| std::slice::from_raw_parts(read(start, self.heads), numbers));
            let value = std::slice::from_raw_parts(read(self.value, width), nodes.len() * width);
            let d_value = std::slice::from_raw_parts_mut(self.d_value.at(nodes.start * width), nodes.len() * width);
            let sums = self.partial.at(unit * self.vectors.len());
            let sums = std::slice::from_raw_parts_mut(sums, self.vectors.len());
            sums.fill(0.0);
            rank_one::gradients(value, self.vectors, self.heads, d_query, d_key, d_value, sums);
        }
    }

    /// Finishes both gradients, of so many tokens, once those of query and key are complete: units have added theirs if what the plan says was
    /// done as here.
    pub(super) fn finish(&self, kept: bool, plan: &Plan, tokens: usize, gradient: &mut [f32]) {
        // SAFETY: operands and gradients were checked to hold the tokens, packed; the units are done.
        unsafe {
            if kept && along_edges(plan) {
                let numbers = plan.by_key.len() * self.vectors.len();
                return sum_rows(std::slice::from_raw_parts(self.partial.at(0), numbers), gradient);
            }
            let (numbers, width) = (tokens * self.heads, self.vectors.len() / 2);
            let read = |start: Shared, numbers: usize| std::slice::from_raw_parts(start.at(0).cast_const(), numbers);
            let d_value = std::slice::from_raw_parts_mut(self.d_value.at(0), tokens * width);
            let of_nodes = [read(self.d_query, numbers), read(self.d_key, numbers)];
            let value = read(self.value, tokens * width);
            rank_one::rank_one_backward(value, self.vectors, self.heads, of_nodes, d_value, gradient);
        }
    }
}
