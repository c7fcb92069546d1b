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

use std::f64::consts::LN_2;
use std::ops::Range;

use super::kernels::{FORWARD_KEYS, FORWARD_QUERIES, Kernels, Transfer};
use super::micro::{Products, Span, Sums};
use super::pack::{Rows, padded, slabs};
use super::plan::{Packed, Packing, Unit, packed_keys};
use super::shape::{Inputs, Shape, ViewMut};
use super::softmax::{Online, ROW_SUMS};
use super::work;
use super::workspace::{Cut, Workspace, own};
use crate::options::Mask;

/// What all tiles of a call share.
struct Call<'a> {
    kernels: &'static Kernels,
    inputs: &'a Inputs<'a>,
    mask: Mask,
    scale: f32,
    out: &'a ViewMut<'a>,
    lse: *mut f64,
    layout: Layout,
}

// SAFETY: `lse` is written at places that no two units share.
unsafe impl Sync for Call<'_> {}

/// Where a thread's scratch memory holds what.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    q: usize,
    tile: usize,
    acc: usize,
    row_max: usize,
    row_sum: usize,
    rescale: usize,
    packed: usize,
    pub(super) total: usize,
}

impl Layout {
    pub(super) fn new(shape: Shape, own_keys: usize) -> Self {
        let mut cut = Cut::new();
        Self {
            q: cut.part(slabs(shape.head_dim, FORWARD_QUERIES)),
            tile: cut.part(FORWARD_QUERIES * FORWARD_KEYS),
            acc: cut.part(FORWARD_QUERIES * padded(shape.value_dim)),
            row_max: cut.part(FORWARD_QUERIES),
            row_sum: cut.part(FORWARD_QUERIES * ROW_SUMS),
            rescale: cut.part(FORWARD_QUERIES.next_multiple_of(ROW_SUMS)),
            packed: cut.part(super::plan::packed_numbers(shape, own_keys)),
            total: cut.total(),
        }
    }
}

/// `out` and `lse` of checked inputs.
pub(crate) fn forward(
    kernels: &'static Kernels,
    inputs: &Inputs<'_>,
    (mask, scale): (Mask, f32),
    out: &ViewMut<'_>,
    lse: &mut [f64],
    workspace: &mut Workspace,
) {
    workspace.plan.forward(inputs, mask);
    let layout = Layout::new(inputs.shape, workspace.plan.own_keys);
    workspace.packed.reserve(workspace.plan.packed);
    workspace.for_threads(layout.total);
    let packed = Shared(workspace.packed.as_mut_ptr());
    let call = Call { kernels, inputs, mask, scale, out, lse: lse.as_mut_ptr(), layout };
    let (plan, threads) = (&workspace.plan, &workspace.threads);
    for (packings, tasks) in &plan.waves {
        work::in_order(packings.len(), |n| call.pack(&plan.packings[packings.start + n], packed));
        work::in_order(tasks.len(), |n| {
            let mut scratch = own(threads);
            for unit in plan.tasks[tasks.start + n].clone() {
                // SAFETY: the scratch memory has the size of the layout; the packings of this wave are done.
                unsafe { call.unit(&plan.units[unit], scratch.as_mut_ptr(), packed) }
            }
        });
    }
}

/// A pointer that all threads use, each its own part behind it.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: who uses it says which part.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(self, n: usize) -> *mut f32 {
        self.0.wrapping_add(n)
    }
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
        let first = self.inputs.keys.range(set).start + keys.start;
        self.inputs.key.rows(first, kv_head, keys.len(), self.inputs.shape.head_dim)
    }

    /// Values of a set, in the caller's memory.
    fn values(&self, set: usize, kv_head: usize, keys: Range<usize>) -> Rows {
        let first = self.inputs.keys.range(set).start + keys.start;
        self.inputs.value.rows(first, kv_head, keys.len(), self.inputs.shape.value_dim)
    }

    /// Packs some keys and values of a long set; they begin with a whole panel.
    fn pack(&self, packing: &Packing, packed: Shared) {
        let &Packing { set, kv_head, ref keys, packed: offset } = packing;
        let shape = self.inputs.shape;
        let values = offset + packed_keys(shape, self.inputs.keys.len_of(set));
        let value_dim = padded(shape.value_dim);
        // SAFETY: the inputs were checked, the buffer is as large as the plan says, and no two packings share a part of it.
        unsafe {
            let to = packed.at(offset + keys.start * shape.head_dim);
            (self.kernels.pack_panels)(self.keys(set, kv_head, keys.clone()), to);
            let to = packed.at(values + keys.start * value_dim);
            (self.kernels.pack_rows)(self.values(set, kv_head, keys.clone()), to, value_dim);
        }
    }

    /// Runs one unit.
    ///
    /// # Safety
    ///
    /// `scratch` has the size of the layout and is this thread's alone; what the unit finds packed is complete.
    unsafe fn unit(&self, unit: &Unit, scratch: *mut f32, packed: Shared) {
        let &Unit { set, kv_head, .. } = unit;
        let shape = self.inputs.shape;
        // SAFETY: offsets lie within the buffers they are for; the scratch memory has room for as many keys as any unit packs.
        let packed = unsafe {
            match &unit.packed {
                &Packed::At(offset) => {
                    let keys = packed.at(offset);
                    let values = keys.add(packed_keys(shape, self.inputs.keys.len_of(set)));
                    Operands { keys, values, first: 0 }
                }
                Packed::Own(range) => {
                    let keys = scratch.add(self.layout.packed);
                    let values = keys.add(packed_keys(shape, range.len()));
                    (self.kernels.pack_panels)(self.keys(set, kv_head, range.clone()), keys);
                    let from = self.values(set, kv_head, range.clone());
                    (self.kernels.pack_rows)(from, values, padded(shape.value_dim));
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
        let (kernels, layout) = (self.kernels, self.layout);
        let Shape { head_dim, value_dim, .. } = self.inputs.shape;
        let value_dim_padded = padded(value_dim);
        let kv_len = self.inputs.keys.len_of(set);
        let rows = queries.len();
        let first_token = self.inputs.queries.range(set).start + queries.start;
        let factor = exponent_factor(self.scale);
        // SAFETY: the parts of the scratch memory are as long as the layout made them, for a tile of FORWARD_QUERIES rows;
        // inputs and output were checked to hold the rows of the set.
        unsafe {
            let (q, tile, acc) = (scratch.add(layout.q), scratch.add(layout.tile), scratch.add(layout.acc));
            let (row_max, row_sum) = (scratch.add(layout.row_max), scratch.add(layout.row_sum));
            let rescale = scratch.add(layout.rescale);
            let from = self.inputs.query.rows(first_token, head, rows, head_dim);
            // The sign of the scale goes to the query, where it changes no digit, so that the largest product has the
            // largest weight.
            (kernels.pack_slabs)(from, self.scale.signum(), q, FORWARD_QUERIES, FORWARD_QUERIES as isize);
            std::slice::from_raw_parts_mut(acc, rows * value_dim_padded).fill(0.0);
            std::slice::from_raw_parts_mut(row_sum, rows * ROW_SUMS).fill(0.0);
            std::slice::from_raw_parts_mut(row_max, rows).fill(f32::NEG_INFINITY);

            let seen = self.mask.keys(queries.clone(), kv_len);
            let mut spans = [Span::NONE; FORWARD_QUERIES];
            let spans = &mut spans[..rows];
            let first_panel = seen.start / kernels.panel() * kernels.panel();
            for first in (first_panel..seen.end).step_by(FORWARD_KEYS) {
                let keys = first..(first + FORWARD_KEYS).min(seen.end);
                fill_spans(spans, self.mask, &queries, &keys, kv_len);
                (kernels.scores)(&Products {
                    left: q,
                    height: FORWARD_QUERIES,
                    right: packed.keys.add((first - packed.first) * head_dim),
                    dim: head_dim,
                    spans,
                    out: tile,
                });
                let columns = keys.len().next_multiple_of(kernels.lanes);
                (kernels.online)(&Online { tile, spans, columns, factor, row_max, row_sum, rescale });
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

            let tokens = self.inputs.queries.tokens();
            (kernels.totals)(row_sum, rows, rescale);
            for row in 0..rows {
                let sum = *rescale.add(row);
                let largest = *row_max.add(row);
                // a row without a key: nothing was added to it, so any factor leaves zero
                let empty = largest == f32::NEG_INFINITY && sum == 0.0;
                *rescale.add(row) = if empty { 0.0 } else { 1.0 / sum };
                // the product rounded as in the exponents
                let lse = (f64::from(largest * factor) + f64::from(sum).log2()) * LN_2;
                *self.lse.add(head * tokens + first_token + row) = if empty { f64::NEG_INFINITY } else { lse };
            }
            (kernels.write_rows)(&Transfer {
                from: acc,
                from_stride: value_dim_padded,
                to: self.out.row(first_token, head),
                to_stride: self.out.row_stride(),
                rows,
                dim: value_dim,
                factors: rescale,
            });
        }
    }
}

/// What a product is multiplied by before 2 is raised to it. Never 0, which would make NaN of the -∞ that masks.
pub(crate) fn exponent_factor(scale: f32) -> f32 {
    (scale.abs() * std::f32::consts::LOG2_E).max(f32::MIN_POSITIVE)
}

/// The columns of a tile that each of its rows may attend to.
pub(crate) fn fill_spans(spans: &mut [Span], mask: Mask, queries: &Range<usize>, keys: &Range<usize>, kv_len: usize) {
    for (row, span) in spans.iter_mut().enumerate() {
        let allowed = mask.row(queries.start + row, kv_len);
        let (first, end) = (allowed.start.max(keys.start), allowed.end.min(keys.end));
        *span = if first < end { Span { first: first - keys.start, end: end - keys.start } } else { Span::NONE };
    }
}
