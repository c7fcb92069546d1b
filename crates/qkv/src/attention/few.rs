//! A few queries against many keys: work is split over the keys, and what the parts find is merged.
//!
//! ```text
//! for each part of the keys, by any thread
//!     for each tile of its keys, for each head of keys
//!         products of all queries of the heads that share it, weights, acc        as in forward.rs
//!     leave acc, row_max and row_sum
//! for each query and head: merge the parts, in their order
//! ```
//!
//! Where the heads of a key lie side by side in memory, one part has all of them: memory is then read in order.

use std::ops::Range;
use std::sync::Mutex;

use super::choice::Scoring;
use super::direct::{DIRECT_ROWS, Direct, DirectSums};
use super::forward::Call;
use super::kernels::{FORWARD_KEYS, FORWARD_QUERIES};
use super::micro::{Products, Span, Sums};
use super::pack::{padded, slabs};
use super::pipeline::{Keys, Place, Tile};
use super::plan::Plan;
use super::shape::Shape;
use super::softmax::ROW_SUMS;
use super::weights::State;
use super::workspace::{Cut, Scratch, Shared, own};
use crate::options::Normalizer;
use crate::work;

/// Rows that are asked for before they are come to.
const SOON: usize = 16;

/// Keys of one set that some queries meet.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) set: usize,
    pub(crate) kv_heads: Range<usize>,
    /// Counted from the beginning of the set.
    pub(crate) keys: Range<usize>,
    /// Whether they are the first of those that the queries see.
    pub(crate) is_first: bool,
    /// Where the results of the first head of keys are left; those of the others follow.
    pub(crate) partial: usize,
}

/// The parts of one set and head of keys.
#[derive(Clone, Debug)]
pub(crate) struct Merge {
    pub(crate) set: usize,
    pub(crate) kv_head: usize,
    /// Where the result of the first part lies.
    pub(crate) first: usize,
    /// From one part to the next.
    pub(crate) stride: usize,
    pub(crate) parts: usize,
}

/// Where the result of a part for one head of keys holds what.
#[derive(Clone, Copy)]
struct Record {
    row_max: usize,
    row_sum: usize,
    total: usize,
}

impl Record {
    fn new(rows: usize, value_dim: usize) -> Self {
        let mut cut = Cut::new();
        cut.part(rows * padded(value_dim));
        Self { row_max: cut.part(rows), row_sum: cut.part(rows), total: cut.total() }
    }
}

/// Numbers that a part leaves for one head of keys.
pub(super) fn record(shape: Shape, q_len: usize) -> usize {
    Record::new(shape.group() * q_len, shape.value_dim).total
}

/// Numbers that a part packs of its keys and values: a tile of them.
pub(super) fn packed(shape: Shape) -> usize {
    FORWARD_KEYS * (shape.head_dim + padded(shape.value_dim))
}

/// Whether a set has few enough queries for so many keys that they are worth sharing out.
pub(super) fn is_few(shape: Shape, q_len: usize, kv_len: usize) -> bool {
    let rows = shape.group() * q_len;
    rows > 0 && rows <= FORWARD_QUERIES && kv_len >= 8 * FORWARD_KEYS.max(rows)
}

/// The same where no backward pass follows, for which so few queries need not be many keys: what counts is that these are not packed.
/// (Products with keys where they lie add up in another order than those of tiles, from which the backward pass finds the weights
/// again; among logits of a hundred it would find others.)
pub(super) fn is_few_for_good(shape: Shape, q_len: usize, kv_len: usize) -> bool {
    let rows = shape.group() * q_len;
    is_few(shape, q_len, kv_len) || rows > 0 && rows <= DIRECT_ROWS && kv_len > rows
}

/// `out` and `lse` of all sets with few queries.
pub(super) fn forward(call: &Call<'_>, plan: &Plan, threads: &[Mutex<Scratch>], partial: Shared) {
    work::in_order(plan.parts.len(), |n| {
        let mut scratch = own(threads);
        // SAFETY: the scratch memory has the size of the layout, and no two parts share what they leave.
        unsafe { part(call, &plan.parts[n], scratch.numbers(), partial) }
    });
    work::in_order(plan.merges.len(), |n| {
        // SAFETY: all parts are done, and no two merges share a query and head.
        unsafe { merge(call, &plan.merges[n], partial) }
    });
}

/// # Safety
///
/// `scratch` has the size of the layout and is this thread's alone, as is the part's place in `partial`.
unsafe fn part(call: &Call<'_>, part: &Part, scratch: *mut f32, partial: Shared) {
    let Call { pipeline, layout, .. } = *call;
    let (kernels, inputs) = (pipeline.kernels, pipeline.inputs);
    let shape @ Shape { head_dim, value_dim, .. } = inputs.shape;
    let value_padded = padded(value_dim);
    let (queries, keys) = (inputs.queries.range(part.set), inputs.keys.range(part.set));
    let (q_len, group) = (queries.len(), shape.group());
    let rows = group * q_len;
    let heads_of = |kv_head: usize| kv_head * group..(kv_head + 1) * group;
    // SAFETY: the layout has room for the rows of all heads; inputs were checked to hold the rows of the set.
    unsafe {
        let state = call.state(scratch);
        let acc = scratch.add(layout.acc);
        let tile = scratch.add(layout.tile);
        let q_of = |n: usize| scratch.wrapping_add(layout.q + n * slabs(head_dim, rows));
        for (n, kv_head) in part.kv_heads.clone().enumerate() {
            for (member, head) in heads_of(kv_head).enumerate() {
                let from = inputs.query.rows(queries.start, head, q_len, head_dim);
                let to = q_of(n).add(member * q_len * super::pack::SLAB);
                (kernels.pack_slabs)(from, pipeline.query_factor(), to, rows, 0);
            }
        }
        std::slice::from_raw_parts_mut(acc, part.kv_heads.len() * rows * value_padded).fill(0.0);
        let plus_one = part.is_first && pipeline.choice.normalizer == Normalizer::SoftmaxPlusOne;
        pipeline.begin_with(state, part.kv_heads.len() * rows, plus_one);
        let is_direct = rows <= DIRECT_ROWS && matches!(pipeline.choice.scoring, Scoring::Dot { .. });
        let key_panels = scratch.add(layout.packed);
        let value_rows = key_panels.add(FORWARD_KEYS * head_dim);
        let mut spans = [Span::NONE; FORWARD_QUERIES];
        let spans = &mut spans[..rows];
        for first in part.keys.clone().step_by(FORWARD_KEYS) {
            let seen = first..(first + FORWARD_KEYS).min(part.keys.end);
            for spans in spans.chunks_exact_mut(q_len) {
                pipeline.fill_spans(spans, part.set, &(0..q_len), &seen);
            }
            for (n, kv_head) in part.kv_heads.clone().enumerate() {
                let from = inputs.key.rows(keys.start + first, kv_head, seen.len(), head_dim);
                // Whatever is read next has to be on its way before what is read now has ended.
                let soon = inputs.value.rows(keys.start + first, kv_head, seen.len().min(SOON), value_dim);
                (kernels.prefetch_rows)(soon);
                if is_direct {
                    let (left, out, stride) = (q_of(n), tile, FORWARD_KEYS);
                    (kernels.direct)(&Direct { left, keys: from, spans, out, stride });
                } else {
                    (kernels.pack_panels)(from, key_panels);
                    let products =
                        Products { left: q_of(n), height: rows, right: key_panels, dim: head_dim, spans, out: tile };
                    let dot = (kernels.scores, FORWARD_KEYS);
                    pipeline.scores(heads_of(kv_head), &products, dot, std::ptr::null_mut());
                }
                let columns = seen.len().next_multiple_of(kernels.lanes);
                let place =
                    Place { set: part.set, heads: heads_of(kv_head), queries: 0..q_len, keys: Keys::From(first) };
                let weights = Tile { start: tile, stride: FORWARD_KEYS, spans, columns };
                let state = state.beginning_at(n * rows);
                let rescale =
                    pipeline.weights(&place, weights, state, std::ptr::null_mut(), scratch.add(layout.biases));
                let (next, next_head) = match kv_head + 1 < part.kv_heads.end {
                    true => (first, kv_head + 1),
                    false => (first + FORWARD_KEYS, part.kv_heads.start),
                };
                let soon = inputs.key.rows(keys.start + next, next_head, SOON, head_dim);
                (kernels.prefetch_rows)(soon);
                let values = inputs.value.rows(keys.start + first, kv_head, seen.len(), value_dim);
                let out = acc.add(n * rows * value_padded);
                if rows <= DIRECT_ROWS && value_dim.is_multiple_of(kernels.lanes) {
                    let (left, stride, out_stride) = (tile.cast_const(), FORWARD_KEYS, value_padded);
                    (kernels.direct_sums)(&DirectSums { left, stride, values, spans, out, out_stride, rescale });
                } else {
                    (kernels.pack_rows)(values, value_rows, value_padded);
                    (kernels.mix)(&Sums {
                        left: tile,
                        right: value_rows,
                        right_stride: value_padded,
                        out,
                        out_stride: value_padded,
                        rows,
                        columns: value_padded,
                        spans,
                        rescale,
                    });
                }
            }
        }
        let record = Record::new(rows, value_dim);
        for n in 0..part.kv_heads.len() {
            let to = partial.at(part.partial + n * record.total);
            let State { row_max, row_sum, .. } = state.beginning_at(n * rows);
            to.copy_from_nonoverlapping(acc.add(n * rows * value_padded), rows * value_padded);
            to.add(record.row_max).copy_from_nonoverlapping(row_max, rows);
            (kernels.totals)(row_sum, rows, to.add(record.row_sum));
        }
    }
}

const _: () = assert!(ROW_SUMS <= 16, "a record leaves the totals of its rows, not their partial sums");

/// # Safety
///
/// The parts are complete.
unsafe fn merge(call: &Call<'_>, merge: &Merge, partial: Shared) {
    let pipeline = &call.pipeline;
    let inputs = pipeline.inputs;
    let shape @ Shape { value_dim, .. } = inputs.shape;
    let (value_padded, queries) = (padded(value_dim), inputs.queries.range(merge.set));
    let rows = shape.group() * queries.len();
    let record = Record::new(rows, value_dim);
    let sums = pipeline.choice.normalizer.has_sum();
    for row in 0..rows {
        let (head, token) = (merge.kv_head * shape.group() + row / queries.len(), queries.start + row % queries.len());
        // SAFETY: the records of all parts lie there; the output was checked to hold the row.
        unsafe {
            let out = std::slice::from_raw_parts_mut(call.out.row(token, head), value_dim);
            let of = |n: usize| partial.at(merge.first + n * merge.stride).cast_const();
            // (the order lets NaN through)
            let largest = (0..merge.parts).map(|n| *of(n).add(record.row_max + row));
            let largest = largest.fold(f32::NEG_INFINITY, |a, b| if a > b || a.is_nan() { a } else { b });
            let factor = |n: usize| match *of(n).add(record.row_max + row) {
                _ if !sums => 1.0,
                // it saw nothing
                f32::NEG_INFINITY => 0.0,
                own => f64::from((own - largest) * pipeline.exponent_factor()).exp2() as f32,
            };
            let mut sum = 0.0;
            out.fill(0.0);
            for n in 0..merge.parts {
                let factor = factor(n);
                sum += factor * *of(n).add(record.row_sum + row);
                let acc = std::slice::from_raw_parts(of(n).add(row * value_padded), value_dim);
                out.iter_mut().zip(acc).for_each(|(to, &x)| *to += factor * x);
            }
            let (factor, lse) = pipeline.end(largest, sum);
            out.iter_mut().for_each(|x| *x *= factor);
            call.save(head, token, lse);
        }
    }
}
