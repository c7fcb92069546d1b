//! Attention, forward.
//!
//! ```text
//! for each tile of queries                          acc, row_sum = 0; row_max = -∞
//!     for each tile of keys that the mask lets it see
//!         products = q · k                          scores     micro.rs
//!         weights, rescale from products            online     softmax.rs
//!         acc = acc · rescale + weights · v         mix        micro.rs
//!     out = acc / Σ row_sum;  lse = scale · row_max + ln Σ row_sum
//! ```
//!
//! Departures from the paper (Dao, 2023):
//! 1. Keys are packed into panels and values into dense rows, once for all queries: a tile of queries then streams both,
//!    in order, from whatever cache holds them, at some 3 bytes for each cycle of multiply-adds.
//! 2. Tiles of keys begin at the first panel that a tile of queries sees, not on a grid: a window costs its width.
//! 3. Each register tile leaves out the panels and terms that the mask takes from all of its rows.

use std::ops::Range;

use super::kernels::{FORWARD_KEYS, FORWARD_QUERIES, Transfer};
use super::micro::{Products, Span, Sums};
use super::pack::{Rows, padded, slabs};
use super::pipeline::{Keys, Pipeline, Place, Tile};
use super::plan::{Packed, Packing, Unit, packed_keys};
use super::scored::Keep;
use super::shape::{Inputs, Shape, ViewMut};
use super::softmax::ROW_SUMS;
use super::weights::State;
use super::workspace::{Cut, Shared, Workspace, own};
use super::{edges, few};
use crate::work;

/// Rows of what comes next that are asked for: of a set that is no longer all, of others the beginning. They lie too far
/// apart, and are too short, for the processor to foresee them.
pub(super) const SOON: usize = 64;

/// Each part with the one behind it, if there is one.
pub(super) fn with_next<T>(parts: &[T]) -> impl Iterator<Item = (&T, Option<&T>)> {
    parts.iter().zip(parts.iter().skip(1).map(Some).chain([None]))
}

/// What all tiles of a call share.
pub(super) struct Call<'a> {
    pub(super) pipeline: Pipeline<'a>,
    pub(super) out: &'a ViewMut<'a>,
    /// Null if nobody wants it.
    lse: *mut f64,
    pub(super) layout: Layout,
    /// Where weights along edges are kept, if they are.
    pub(super) keep: Option<Keep>,
}

// SAFETY: `lse` is written at places that no two units share.
unsafe impl Sync for Call<'_> {}

/// Where a thread's scratch memory holds what.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) q: usize,
    pub(super) tile: usize,
    pub(super) acc: usize,
    pub(super) row_max: usize,
    pub(super) row_sum: usize,
    pub(super) rescale: usize,
    /// A tile of what is added to logits, where that is collected.
    pub(super) biases: usize,
    pub(super) packed: usize,
    /// What is needed to keep weights along edges, where they are: tiles of derivatives of scores, of weights before dropout and of
    /// those whose scores are positive, the sums of the latter, and of each row its share and a factor.
    pub(super) slope: usize,
    pub(super) whole: usize,
    pub(super) positive: usize,
    pub(super) positive_acc: usize,
    pub(super) shares: usize,
    pub(super) factors: usize,
    pub(super) total: usize,
}

impl Layout {
    /// For tiles of [`FORWARD_QUERIES`] rows and sums of `sums` rows; `packed` numbers of keys and values.
    pub(super) fn new(shape: Shape, sums: usize, collects_bias: bool, packed: usize, keeps: bool) -> Self {
        let mut cut = Cut::new();
        let sums = sums.max(FORWARD_QUERIES);
        let if_kept = |numbers: usize| if keeps { numbers } else { 0 };
        Self {
            q: cut.part(slabs(shape.head_dim, sums)),
            tile: cut.part(FORWARD_QUERIES * FORWARD_KEYS),
            acc: cut.part(sums * padded(shape.value_dim)),
            row_max: cut.part(sums),
            row_sum: cut.part(sums * ROW_SUMS),
            // (the rows of the last head of a part, in whole registers)
            rescale: cut.part(sums + ROW_SUMS),
            biases: cut.part(if collects_bias { FORWARD_QUERIES * FORWARD_KEYS + 16 } else { 0 }),
            packed: cut.part(packed),
            slope: cut.part(if_kept(FORWARD_QUERIES * FORWARD_KEYS)),
            whole: cut.part(if_kept(FORWARD_QUERIES * FORWARD_KEYS)),
            positive: cut.part(if_kept(FORWARD_QUERIES * FORWARD_KEYS)),
            positive_acc: cut.part(if_kept(FORWARD_QUERIES * padded(shape.value_dim))),
            shares: cut.part(if_kept(FORWARD_QUERIES)),
            factors: cut.part(if_kept(FORWARD_QUERIES + ROW_SUMS)),
            total: cut.total(),
        }
    }
}

/// `out` and `lse` of checked inputs; no `lse` where it is empty.
pub(super) fn forward(
    pipeline: Pipeline<'_>,
    out: &ViewMut<'_>,
    lse: &mut [f64],
    keep: Option<Keep>,
    workspace: &mut Workspace,
) {
    let Pipeline { inputs, choice, .. } = pipeline;
    workspace.plan.forward(inputs, choice, lse.is_empty());
    let layout = workspace.plan.forward_layout(inputs.shape, choice, keep.is_some());
    workspace.packed.reserve(workspace.plan.packed);
    workspace.partial.reserve(workspace.plan.partial);
    workspace.for_threads(layout.total);
    let (packed, partial) = (Shared(workspace.packed.as_mut_ptr()), Shared(workspace.partial.as_mut_ptr()));
    let lse = if lse.is_empty() { std::ptr::null_mut() } else { lse.as_mut_ptr() };
    let call = Call { pipeline, out, lse, layout, keep };
    let (plan, threads) = (&workspace.plan, &workspace.threads);
    for (packings, tasks) in &plan.waves {
        work::in_order(packings.len(), |n| call.pack(&plan.packings[packings.start + n], packed));
        work::in_order(tasks.len(), |n| {
            let mut scratch = own(threads);
            let units = &plan.units[plan.tasks[tasks.start + n].clone()];
            for (unit, next) in with_next(units) {
                if let Some(next) = next {
                    call.ask_for(next);
                }
                // SAFETY: the scratch memory has the size of the layout; the packings of this wave are done.
                unsafe { call.unit(unit, scratch.numbers(), packed) }
            }
        });
    }
    few::forward(&call, plan, threads, partial);
    edges::forward(&call, plan, threads);
}

/// Packed keys and values.
#[derive(Clone, Copy)]
struct Operands {
    keys: *const f32,
    values: *const f32,
    /// The key that they begin with: a multiple of the panel.
    first: usize,
}

impl Call<'_> {
    /// Keys of a set, in the caller's memory.
    fn keys(&self, set: usize, kv_head: usize, keys: Range<usize>) -> Rows {
        let first = self.pipeline.inputs.keys.range(set).start + keys.start;
        self.pipeline.inputs.key.rows(first, kv_head, keys.len(), self.pipeline.inputs.shape.head_dim)
    }

    /// Values of a set, in the caller's memory.
    fn values(&self, set: usize, kv_head: usize, keys: Range<usize>) -> Rows {
        let first = self.pipeline.inputs.keys.range(set).start + keys.start;
        self.pipeline.inputs.value.rows(first, kv_head, keys.len(), self.pipeline.inputs.shape.value_dim)
    }

    /// Packs some keys and values of a long set; they begin with a whole panel.
    fn pack(&self, packing: &Packing, packed: Shared) {
        let &Packing { set, kv_head, ref keys, packed: offset } = packing;
        let shape = self.pipeline.inputs.shape;
        let values = offset + packed_keys(shape, self.pipeline.inputs.keys.len_of(set));
        let value_dim = padded(shape.value_dim);
        // SAFETY: the inputs were checked, the buffer is as large as the plan says, and no two packings share a part of it.
        unsafe {
            let to = packed.at(offset + keys.start * shape.head_dim);
            (self.pipeline.kernels.pack_panels)(self.keys(set, kv_head, keys.clone()), to);
            let to = packed.at(values + keys.start * value_dim);
            (self.pipeline.kernels.pack_rows)(self.values(set, kv_head, keys.clone()), to, value_dim);
        }
    }

    /// Asks for the first rows of a unit that packs its own.
    fn ask_for(&self, unit: &Unit) {
        let &Unit { set, kv_head, ref heads, ref queries, ref packed, .. } = unit;
        let Packed::Own(keys) = packed else { return };
        let Inputs { query, queries: sets, shape, .. } = self.pipeline.inputs;
        let keys = keys.start..keys.end.min(keys.start + SOON);
        let query =
            query.rows(sets.range(set).start + queries.start, heads.start, queries.len().min(SOON), shape.head_dim);
        for rows in [self.keys(set, kv_head, keys.clone()), self.values(set, kv_head, keys), query] {
            // SAFETY: what is asked for need not exist.
            unsafe { (self.pipeline.kernels.prefetch_rows)(rows) }
        }
    }

    /// Runs one unit.
    ///
    /// # Safety
    ///
    /// `scratch` has the size of the layout and is this thread's alone; what the unit finds packed is complete.
    unsafe fn unit(&self, unit: &Unit, scratch: *mut f32, packed: Shared) {
        let &Unit { set, kv_head, .. } = unit;
        let shape = self.pipeline.inputs.shape;
        // SAFETY: offsets lie within the buffers they are for; the scratch memory has room for as many keys as any unit packs.
        let packed = unsafe {
            match &unit.packed {
                &Packed::At(offset) => {
                    let keys = packed.at(offset);
                    let values = keys.add(packed_keys(shape, self.pipeline.inputs.keys.len_of(set)));
                    Operands { keys, values, first: 0 }
                }
                Packed::Own(range) => {
                    let keys = scratch.add(self.layout.packed);
                    let values = keys.add(packed_keys(shape, range.len()));
                    (self.pipeline.kernels.pack_panels)(self.keys(set, kv_head, range.clone()), keys);
                    let from = self.values(set, kv_head, range.clone());
                    (self.pipeline.kernels.pack_rows)(from, values, padded(shape.value_dim));
                    Operands { keys, values, first: range.start }
                }
            }
        };
        for head in unit.heads.clone() {
            for first in unit.queries.clone().step_by(FORWARD_QUERIES) {
                let rows = FORWARD_QUERIES.min(unit.queries.end - first);
                // SAFETY: as above.
                unsafe { self.tile((set, head), first..first + rows, packed, scratch) }
            }
        }
    }

    /// One tile of queries against all of its keys.
    ///
    /// # Safety
    ///
    /// That of [`Call::unit`]; `packed` holds the keys and values that the queries see.
    unsafe fn tile(&self, (set, head): (usize, usize), queries: Range<usize>, packed: Operands, scratch: *mut f32) {
        let (pipeline, layout) = (&self.pipeline, self.layout);
        let (kernels, inputs) = (pipeline.kernels, pipeline.inputs);
        let Shape { head_dim, value_dim, .. } = inputs.shape;
        let value_dim_padded = padded(value_dim);
        let rows = queries.len();
        let first_token = inputs.queries.range(set).start + queries.start;
        // SAFETY: the parts of the scratch memory are as long as the layout made them, for a tile of FORWARD_QUERIES rows;
        // inputs and output were checked to hold the rows of the set.
        unsafe {
            let (q, tile, acc) = (scratch.add(layout.q), scratch.add(layout.tile), scratch.add(layout.acc));
            let state = self.state(scratch);
            let from = inputs.query.rows(first_token, head, rows, head_dim);
            (kernels.pack_slabs)(from, pipeline.query_factor(), q, FORWARD_QUERIES, FORWARD_QUERIES as isize);
            std::slice::from_raw_parts_mut(acc, rows * value_dim_padded).fill(0.0);
            pipeline.begin(state, rows);

            let seen = pipeline.seen(set, queries.clone());
            let mut spans = [Span::NONE; FORWARD_QUERIES];
            let spans = &mut spans[..rows];
            let first_panel = seen.start / kernels.panel() * kernels.panel();
            for first in (first_panel..seen.end).step_by(FORWARD_KEYS) {
                let keys = first..(first + FORWARD_KEYS).min(seen.end);
                pipeline.fill_spans(spans, set, &queries, &keys);
                let place = Place { set, heads: head..head + 1, queries: queries.clone(), keys: Keys::From(first) };
                let next = Place { keys: Keys::From(first + FORWARD_KEYS), ..place.clone() };
                pipeline.prefetch_bias(&next, keys.len(), None);
                let products = Products {
                    left: q,
                    height: FORWARD_QUERIES,
                    right: packed.keys.add((first - packed.first) * head_dim),
                    dim: head_dim,
                    spans,
                    out: tile,
                };
                pipeline.scores(head..head + 1, &products, (kernels.scores, FORWARD_KEYS), std::ptr::null_mut());
                let columns = keys.len().next_multiple_of(kernels.lanes);
                let weights = Tile { start: tile, stride: FORWARD_KEYS, spans, columns };
                let rescale =
                    pipeline.weights(&place, weights, state, std::ptr::null_mut(), scratch.add(layout.biases));
                (kernels.mix)(&Sums {
                    left: tile,
                    right: packed.values.add((first - packed.first) * value_dim_padded),
                    right_stride: value_dim_padded,
                    out: acc,
                    out_stride: value_dim_padded,
                    rows,
                    columns: value_dim_padded,
                    spans,
                    rescale,
                });
            }

            (kernels.totals)(state.row_sum, rows, state.rescale);
            for row in 0..rows {
                let (factor, lse) = pipeline.end(*state.row_max.add(row), *state.rescale.add(row));
                *state.rescale.add(row) = factor;
                self.save(head, first_token + row, lse);
            }
            (kernels.write_rows)(&Transfer {
                from: acc,
                from_stride: value_dim_padded,
                to: self.out.row(first_token, head),
                to_stride: self.out.row_stride(),
                rows,
                dim: value_dim,
                factors: state.rescale,
                factor: 1.0,
            });
        }
    }

    /// The state of rows in a thread's scratch memory.
    pub(super) fn state(&self, scratch: *mut f32) -> State {
        let layout = self.layout;
        State {
            row_max: scratch.wrapping_add(layout.row_max),
            row_sum: scratch.wrapping_add(layout.row_sum),
            rescale: scratch.wrapping_add(layout.rescale),
        }
    }

    /// Saves the log-sum-exp of a query of a head.
    ///
    /// # Safety
    ///
    /// Both exist, and no other thread has them.
    pub(super) unsafe fn save(&self, head: usize, token: usize, lse: f64) {
        if !self.lse.is_null() {
            // SAFETY: one was checked to be there for each head and query, if they are wanted.
            unsafe { *self.lse.add(head * self.pipeline.inputs.queries.tokens() + token) = lse }
        }
    }
}
