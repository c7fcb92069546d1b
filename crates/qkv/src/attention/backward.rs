//! Attention, backward.
//!
//! ```text
//! delta_i = d_out_i · out_i
//! for each block of keys                            dk, dv = 0
//!     for each tile of queries that sees it, from the last to the first
//!         dq_part = 0
//!         for each tile of keys of the block
//!             products  = q · k                     undoes scores    scores_again   micro.rs
//!             weights   = e^(scale · products - lse)     online      again          softmax.rs
//!             dv       += weightsᵀ · d_out               mix         by_key         micro.rs
//!             d_products = weights · (d_out · v - delta) · scale
//!                                                        online      gradient       micro.rs, softmax.rs
//!             dk       += d_productsᵀ · q                scores      by_key
//!             dq_part  += d_products · k                 scores      by_query
//!         wait for the turn of the tile;  d_query += dq_part;  pass the turn on
//!     d_key = dk;  d_value = dv
//! ```
//!
//! Departures from the paper (Dao, 2023): blocks of keys run in parallel although each adds to all gradients of queries. They
//! take turns, in ascending order, so the sums have the same bits with any number of threads and no second copy of the
//! gradient is kept; since a block adds only after it has computed, and blocks begin at the same tile of queries one
//! after the other, they seldom wait.

use std::f64::consts::LOG2_E;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::forward::{exponent_factor, fill_spans};
use super::kernels::{BACKWARD_KEYS, BACKWARD_QUERIES, DOTS, Kernels, Transfer};
use super::micro::{Products, Span, Sums};
use super::pack::{Rows, padded, slabs};
use super::plan::Block;
use super::shape::{Gradients, Inputs, Saved, Shape, View};
use super::softmax::{Again, Gradient};
use super::work;
use super::workspace::{Cut, Workspace, own};
use crate::options::Mask;

/// Numbers kept for each query of each head: `shift`, `gain` and `minus_delta`.
pub(super) const ROW_NUMBERS: usize = 3;

/// What all blocks of a call share.
struct Call<'a> {
    kernels: &'static Kernels,
    inputs: &'a Inputs<'a>,
    mask: Mask,
    scale: f32,
    saved: &'a Saved<'a>,
    d_out: &'a View<'a>,
    gradients: &'a Gradients<'a>,
    /// `-lse · log2 e`, what rounding took from it, and `-scale · delta`: `[heads, query tokens]` each.
    rows: RowNumbers,
    turns: &'a [AtomicUsize],
    /// Whether a thread has panicked, whose turn will not end.
    abandoned: AtomicBool,
    layout: Layout,
    block_keys: usize,
}

/// Where a thread's scratch memory holds what.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    q: usize,
    d_out: usize,
    weights: usize,
    gradient: usize,
    dq: usize,
    key_panels: usize,
    value_panels: usize,
    keys: usize,
    dk: usize,
    dv: usize,
    pub(super) total: usize,
}

impl Layout {
    pub(super) fn new(Shape { head_dim, value_dim, .. }: Shape, block_keys: usize) -> Self {
        let (head_padded, value_padded) = (padded(head_dim), padded(value_dim));
        let mut cut = Cut::new();
        Self {
            q: cut.part(slabs(head_dim, BACKWARD_QUERIES)),
            d_out: cut.part(slabs(value_dim, BACKWARD_QUERIES)),
            weights: cut.part(BACKWARD_QUERIES * BACKWARD_KEYS),
            gradient: cut.part(BACKWARD_QUERIES * BACKWARD_KEYS),
            dq: cut.part(BACKWARD_QUERIES * head_padded),
            key_panels: cut.part(block_keys * head_dim),
            value_panels: cut.part(block_keys * value_dim),
            keys: cut.part(block_keys * head_padded),
            dk: cut.part(block_keys * head_padded),
            dv: cut.part(block_keys * value_padded),
            total: cut.total(),
        }
    }
}

/// The gradients of checked inputs.
pub(crate) fn backward(
    kernels: &'static Kernels,
    inputs: &Inputs<'_>,
    (mask, scale): (Mask, f32),
    saved: &Saved<'_>,
    (d_out, gradients): (&View<'_>, &Gradients<'_>),
    workspace: &mut Workspace,
) {
    workspace.plan.backward(inputs, mask);
    let layout = Layout::new(inputs.shape, workspace.plan.block_keys);
    workspace.for_threads(layout.total);
    let rows = inputs.shape.heads * inputs.queries.tokens();
    workspace.rows.reserve(ROW_NUMBERS * rows);
    let turns = &mut workspace.turns;
    turns.clear();
    turns.resize_with(workspace.plan.turns, AtomicUsize::default);

    let row_numbers = RowNumbers([0, 1, 2].map(|n| workspace.rows.as_mut_ptr().wrapping_add(n * rows)));
    let (plan, threads) = (&workspace.plan, &workspace.threads);
    let (block_keys, abandoned) = (plan.block_keys, AtomicBool::new(false));
    let call = Call {
        kernels,
        inputs,
        mask,
        scale,
        saved,
        d_out,
        gradients,
        rows: row_numbers,
        turns,
        abandoned,
        layout,
        block_keys,
    };
    work::in_order(plan.shared, |n| call.prepare_share(&plan.blocks[n]));
    work::in_order(plan.tasks.len(), |n| {
        let mut scratch = own(threads);
        for block in plan.tasks[n].clone() {
            let _abandon = work::Abandon(&call.abandoned);
            // SAFETY: the scratch memory has the size of the layout.
            unsafe { call.block(&plan.blocks[block], scratch.as_mut_ptr()) }
        }
    });
}

/// `shift`, `gain` and `minus_delta` of every row.
struct RowNumbers([*mut f32; ROW_NUMBERS]);

// SAFETY: a row is written by the unit that prepares it, and read by others only after that.
unsafe impl Sync for RowNumbers {}

impl RowNumbers {
    fn at(&self, row: usize) -> [*mut f32; ROW_NUMBERS] {
        self.0.map(|numbers| numbers.wrapping_add(row))
    }
}

impl Call<'_> {
    /// Prepares as large a share of the queries of a set as the block has of its keys.
    fn prepare_share(&self, block: &Block) {
        let (q_len, kv_len) = (self.inputs.queries.len_of(block.set), self.inputs.keys.len_of(block.set));
        let share = |key: usize| (q_len as u128 * key as u128 / kv_len as u128) as usize;
        self.prepare(block, share(block.keys.start)..share(block.keys.end));
    }

    /// `shift`, `gain` and `minus_delta` of some queries of the block's set, and zeros in their gradient.
    fn prepare(&self, block: &Block, queries: Range<usize>) {
        let Shape { head_dim, value_dim, .. } = self.inputs.shape;
        let tokens = self.inputs.queries.tokens();
        let first_token = self.inputs.queries.range(block.set).start;
        let group = self.inputs.shape.group();
        for head in block.kv_head * group..(block.kv_head + 1) * group {
            for first in queries.clone().step_by(DOTS) {
                let count = DOTS.min(queries.end - first);
                let first = first_token + first;
                let rows = |view: &View<'_>| view.rows(first, head, count, value_dim);
                // SAFETY: the inputs were checked to hold the rows.
                let deltas = unsafe { (self.kernels.row_dots)(rows(self.d_out), rows(&self.saved.out)) };
                for (token, delta) in (first..first + count).zip(deltas) {
                    let row = head * tokens + token;
                    let [shift, gain, minus_delta] = self.rows.at(row);
                    // A row that attends to nothing has no weights, now as before: 2^(x - ∞) = 0.
                    let lse = self.saved.lse[row];
                    let lse = if lse == f64::NEG_INFINITY { f64::INFINITY } else { lse };
                    let exact = -lse * LOG2_E;
                    // SAFETY: the gradient was checked to hold the row, `rows` has one for each head and token.
                    unsafe {
                        *shift = exact as f32;
                        *gain = if lse.is_finite() { (exact - f64::from(*shift)).exp2() as f32 } else { 1.0 };
                        *minus_delta = -self.scale * delta;
                        std::slice::from_raw_parts_mut(self.gradients.query.row(token, head), head_dim).fill(0.0);
                    }
                }
            }
        }
    }

    /// Runs one block: the gradients of its keys and values, and its part of those of the queries, which have been prepared
    /// if other blocks share them.
    ///
    /// # Safety
    ///
    /// `scratch` has the size of the layout and is this thread's alone.
    unsafe fn block(&self, block: &Block, scratch: *mut f32) {
        if block.turns.is_none() {
            self.prepare(block, 0..self.inputs.queries.len_of(block.set));
        }
        for first in block.keys.clone().step_by(self.block_keys) {
            let keys = first..(first + self.block_keys).min(block.keys.end);
            // SAFETY: as above.
            unsafe { self.keys(block, keys, scratch) }
        }
    }

    /// As many keys as the scratch memory holds.
    ///
    /// # Safety
    ///
    /// That of [`Call::block`].
    unsafe fn keys(&self, block: &Block, keys: Range<usize>, scratch: *mut f32) {
        let (kernels, layout) = (self.kernels, self.layout);
        let shape @ Shape { head_dim, value_dim, .. } = self.inputs.shape;
        let (head_padded, value_padded) = (padded(head_dim), padded(value_dim));
        let &Block { set, kv_head, turns, .. } = block;
        let q_len = self.inputs.queries.len_of(set);
        let kv_token = self.inputs.keys.range(set).start + keys.start;
        let (key, value) = (&self.inputs.key, &self.inputs.value);
        // SAFETY: the parts of the scratch memory are as long as the layout made them, for as many rows as a block has; inputs and
        // gradients were checked to hold the rows of the set.
        unsafe {
            let (dk, dv) = (scratch.add(layout.dk), scratch.add(layout.dv));
            let from = key.rows(kv_token, kv_head, keys.len(), head_dim);
            (kernels.pack_panels)(from, scratch.add(layout.key_panels));
            (kernels.pack_rows)(from, scratch.add(layout.keys), head_padded);
            let from = value.rows(kv_token, kv_head, keys.len(), value_dim);
            (kernels.pack_panels)(from, scratch.add(layout.value_panels));
            std::slice::from_raw_parts_mut(dk, keys.len() * head_padded).fill(0.0);
            std::slice::from_raw_parts_mut(dv, keys.len() * value_padded).fill(0.0);

            let seen = if q_len == 0 { 0..0 } else { self.mask.queries(keys.clone(), q_len) };
            let tiles = q_len.div_ceil(BACKWARD_QUERIES);
            for member in 0..shape.group() {
                let head = kv_head * shape.group() + member;
                let turns = turns.map(|turns| &self.turns[turns + member * tiles..][..tiles]);
                // From the last to the first: under a window a block shares its first tiles with the last of the block
                // before it, which has come to them by then.
                for tile in (seen.start / BACKWARD_QUERIES..seen.end.div_ceil(BACKWARD_QUERIES)).rev() {
                    let grid = tile * BACKWARD_QUERIES..((tile + 1) * BACKWARD_QUERIES).min(q_len);
                    let queries = grid.start.max(seen.start)..grid.end.min(seen.end);
                    if queries.is_empty() {
                        continue;
                    }
                    self.tile((set, head), queries.clone(), keys.clone(), scratch);
                    if let Some(turns) = turns {
                        let first_keys = self.mask.keys(grid, self.inputs.keys.len_of(set)).start;
                        work::wait_for(
                            &turns[tile],
                            keys.start / self.block_keys - first_keys / self.block_keys,
                            &self.abandoned,
                        );
                    }
                    let token = self.inputs.queries.range(set).start + queries.start;
                    (kernels.add_rows)(&Transfer {
                        from: scratch.add(layout.dq),
                        from_stride: head_padded,
                        to: self.gradients.query.row(token, head),
                        to_stride: self.gradients.query.row_stride(),
                        rows: queries.len(),
                        dim: head_dim,
                        factors: std::ptr::null(),
                    });
                    if let Some(turns) = turns {
                        turns[tile].fetch_add(1, Ordering::Release);
                    }
                }
            }

            for (from, from_stride, to, dim) in
                [(dk, head_padded, &self.gradients.key, head_dim), (dv, value_padded, &self.gradients.value, value_dim)]
            {
                (kernels.write_rows)(&Transfer {
                    from,
                    from_stride,
                    to: to.row(kv_token, kv_head),
                    to_stride: to.row_stride(),
                    rows: keys.len(),
                    dim,
                    factors: std::ptr::null(),
                });
            }
        }
    }

    /// One tile of queries against the keys in scratch memory: adds to `dk` and `dv`, and leaves their part of `d_query` in
    /// `dq`.
    ///
    /// # Safety
    ///
    /// That of [`Call::block`]; keys and values are packed.
    unsafe fn tile(&self, (set, head): (usize, usize), queries: Range<usize>, keys: Range<usize>, scratch: *mut f32) {
        let (kernels, layout) = (self.kernels, self.layout);
        let Shape { head_dim, value_dim, .. } = self.inputs.shape;
        let (head_padded, value_padded) = (padded(head_dim), padded(value_dim));
        let token = self.inputs.queries.range(set).start + queries.start;
        let kv_len = self.inputs.keys.len_of(set);
        let rows = queries.len();
        let row = head * self.inputs.queries.tokens() + token;
        // SAFETY: as in `keys`, for BACKWARD_QUERIES rows.
        unsafe {
            let (q, d_out, dq) = (scratch.add(layout.q), scratch.add(layout.d_out), scratch.add(layout.dq));
            let (weights, gradient) = (scratch.add(layout.weights), scratch.add(layout.gradient));
            let from = self.inputs.query.rows(token, head, rows, head_dim);
            let next = -(BACKWARD_QUERIES as isize);
            (kernels.pack_slabs)(from, 1.0, q, BACKWARD_QUERIES, next);
            let from = self.d_out.rows(token, head, rows, value_dim);
            (kernels.pack_slabs)(from, 1.0, d_out, BACKWARD_QUERIES, next);
            // what the tile adds to, after all else
            let to = &self.gradients.query;
            (kernels.prefetch_rows)(Rows {
                start: to.row(token, head),
                stride: to.row_stride(),
                count: rows,
                dim: head_dim,
            });
            std::slice::from_raw_parts_mut(dq, rows * head_padded).fill(0.0);

            let mut spans = [Span::NONE; BACKWARD_QUERIES];
            let spans = &mut spans[..rows];
            for first in keys.clone().step_by(BACKWARD_KEYS) {
                let part = first..(first + BACKWARD_KEYS).min(keys.end);
                fill_spans(spans, self.mask, &queries, &part, kv_len);
                if spans.iter().all(|span| span.is_empty()) {
                    continue;
                }
                let at = first - keys.start;
                let (spans, columns) = (&*spans, part.len().next_multiple_of(kernels.lanes));
                (kernels.scores_again)(&Products {
                    left: q,
                    height: BACKWARD_QUERIES,
                    right: scratch.add(layout.key_panels + at * head_dim),
                    dim: head_dim,
                    spans,
                    out: weights,
                });
                let factor = exponent_factor(self.scale).copysign(self.scale);
                let [shift, gain, minus_delta] = self.rows.at(row).map(<*mut f32>::cast_const);
                (kernels.again)(&Again { tile: weights, gradient, spans, columns, factor, shift, gain });
                let by_key = Sums {
                    left: weights,
                    right: d_out,
                    right_stride: super::pack::SLAB,
                    out: scratch.add(layout.dv + at * value_padded),
                    out_stride: value_padded,
                    rows: part.len(),
                    columns: value_padded,
                    spans,
                    rescale: std::ptr::null(),
                };
                (kernels.by_key)(&by_key);
                (kernels.gradient)(
                    &Products {
                        left: d_out,
                        height: BACKWARD_QUERIES,
                        right: scratch.add(layout.value_panels + at * value_dim),
                        dim: value_dim,
                        spans,
                        out: gradient,
                    },
                    &Gradient { weights, minus_delta, scale: self.scale },
                );
                (kernels.by_key)(&Sums {
                    left: gradient,
                    right: q,
                    out: scratch.add(layout.dk + at * head_padded),
                    out_stride: head_padded,
                    columns: head_padded,
                    ..by_key
                });
                (kernels.by_query)(&Sums {
                    left: gradient,
                    right: scratch.add(layout.keys + at * head_padded),
                    right_stride: head_padded,
                    out: dq,
                    out_stride: head_padded,
                    rows,
                    columns: head_padded,
                    ..by_key
                });
            }
        }
    }
}
