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
//! Options add `logits`, `weigh` and `drops` between products and weights, as in the forward pass, take `mixed` for `gradient`, and
//! after it `bias_gradient` and `chain` (steps.rs, bias.rs); scores that are no products take others for `scores` and the last two
//! (additive.rs).
//!
//! Departures from the paper (Dao, 2023): blocks of keys run in parallel although each adds to all gradients of queries. They
//! take turns, in ascending order, so the sums have the same bits with any number of threads and no second copy of the
//! gradient is kept; since a block adds only after it has computed, and blocks begin at the same tile of queries one
//! after the other, they seldom wait.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::additive::AdditiveBackward;
use super::bias::ToBias;
use super::choice::{Choice, Scoring};
use super::edges::{self, Kept};
use super::forward::{SOON, with_next};
use super::kernels::{BACKWARD_KEYS, BACKWARD_QUERIES, DOTS, Transfer};
use super::micro::{Products, Span, Sums};
use super::pack::{Rows, SLAB, padded, slabs};
use super::pipeline::{Keys, Pipeline, Place, Tally, Tile};
use super::plan::{Block, Plan};
use super::scored::{Keep, ToVectors};
use super::shape::{Gradients, Inputs, Saved, Shape, View};
use super::softmax::Gradient;
use super::steps::{Chain, Mixed};
use super::weights::{Finished, origin_and_rest};
use super::workspace::{Cut, Scratch, Shared, Workspace, own};
use crate::options::{Bias, Mask};
use crate::work;

/// Numbers kept for each query of each head: `origin`, `rest` and `minus_delta`.
pub(super) const ROW_NUMBERS: usize = 3;

/// What all blocks of a call share.
pub(super) struct Call<'a> {
    pub(super) pipeline: Pipeline<'a>,
    pub(super) saved: &'a Saved<'a>,
    pub(super) d_out: &'a View<'a>,
    pub(super) gradients: &'a Gradients<'a>,
    /// The product at which a weight would be 1, what rounding took from it, and `-delta`, times the scale if that is applied there:
    /// `[heads, query tokens]` each.
    rows: RowNumbers,
    turns: &'a [AtomicUsize],
    /// Of graphs that are walked through by tiles, as the plan has them.
    graphs: &'a [(usize, usize)],
    hulls: &'a [Range<usize>],
    /// Whether a thread has panicked, whose turn will not end.
    pub(super) abandoned: AtomicBool,
    pub(super) layout: Layout,
    block_keys: usize,
    /// Where the gradient of the bias goes, if it is wanted.
    pub(super) to_bias: Option<ToBias>,
    /// Sums over pairs: numbers of each head, and among them, those of the score's weights if they are wanted.
    pub(super) per_head: usize,
    d_score: Option<usize>,
    sums: Shared,
    /// How many tasks have added their tallies to them.
    handed_in: AtomicUsize,
    /// What the forward pass has kept of edges, if it has.
    pub(super) keep: Option<Keep>,
    /// Where the gradients of query and key go on to, if they were made of the values.
    pub(super) vectors: Option<ToVectors<'a>>,
}

/// Where a thread's scratch memory holds what.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    q: usize,
    d_out: usize,
    pub(super) weights: usize,
    pub(super) gradient: usize,
    pub(super) dq: usize,
    key_panels: usize,
    value_panels: usize,
    keys: usize,
    pub(super) dk: usize,
    pub(super) dv: usize,
    /// Tiles that only some options need: all weights, derivatives of logits by products, what is added to logits.
    pub(super) whole: usize,
    pub(super) slope: usize,
    pub(super) biases: usize,
    /// Ones, where a score adds numbers.
    ones: usize,
    /// Weights of the additive score, in whole registers, and the gradient of them that nobody wants.
    score: usize,
    d_score: usize,
    pub(super) total: usize,
}

impl Layout {
    pub(super) fn new(shape: Shape, choice: &Choice<'_>, block_keys: usize) -> Self {
        let Shape { head_dim, value_dim, kv_heads, heads } = shape;
        let (head_padded, value_padded) = (padded(head_dim), padded(value_dim));
        let mut cut = Cut::new();
        let graph = choice.edges().is_some();
        // a key's gradients of all heads, where edges are followed
        let rows = if graph { block_keys.max(kv_heads) } else { block_keys };
        let tile = BACKWARD_QUERIES * BACKWARD_KEYS;
        let tile_if = |needed: bool| if needed { tile } else { 0 };
        let is_additive = matches!(choice.scoring, Scoring::Additive { .. });
        Self {
            q: cut.part(slabs(head_dim, BACKWARD_QUERIES)),
            d_out: cut.part(slabs(value_dim, BACKWARD_QUERIES)),
            weights: cut.part(tile),
            gradient: cut.part(tile),
            dq: cut.part(BACKWARD_QUERIES * head_padded),
            key_panels: cut.part(block_keys * head_dim),
            value_panels: cut.part(block_keys * value_dim),
            keys: cut.part(block_keys * head_padded),
            dk: cut.part(rows * head_padded),
            dv: cut.part(rows * value_padded),
            whole: cut.part(tile_if(graph)),
            slope: cut.part(tile_if(choice.has_slope())),
            biases: cut.part(if choice.collects_bias() { tile + 16 } else { 0 }),
            ones: cut.part(if matches!(choice.scoring, Scoring::RankOne { .. }) { BACKWARD_QUERIES * SLAB } else { 0 }),
            score: cut.part(if is_additive { heads * head_padded } else { 0 }),
            d_score: cut.part(if is_additive { head_padded } else { 0 }),
            total: cut.total(),
        }
    }
}

/// What is summed over pairs: numbers of a head for the bias, by difference and by number, and for the weights of the score.
pub(super) fn summed(choice: &Choice<'_>, shape: Shape, [score, bias]: [bool; 2]) -> [usize; 3] {
    let is_additive = matches!(choice.scoring, Scoring::Additive { .. });
    let [by_difference, by_number] = if bias { choice.summed_bias() } else { [0; 2] };
    [by_difference, by_number, if score && is_additive { padded(shape.head_dim) } else { 0 }]
}

/// The gradients of checked inputs, with what the forward pass has kept, if it has.
pub(super) fn backward(
    pipeline: Pipeline<'_>,
    saved: &Saved<'_>,
    keep: Option<Keep>,
    (d_out, gradients): (&View<'_>, &mut Gradients<'_>),
    workspace: &mut Workspace,
) {
    let Pipeline { inputs, choice, .. } = pipeline;
    let shape = inputs.shape;
    workspace.plan.backward(inputs, choice);
    let layout = Layout::new(shape, choice, workspace.plan.block_keys);
    workspace.for_threads(layout.total);
    let rows = shape.heads * inputs.queries.tokens();
    workspace.rows.reserve(ROW_NUMBERS * rows);
    let turns = &mut workspace.turns;
    turns.clear();
    turns.resize_with(workspace.plan.turns, AtomicUsize::default);
    let [by_difference, by_number, summed_score] =
        summed(choice, shape, [gradients.score.is_some(), gradients.bias.is_some()]);
    let summed_bias = by_difference + by_number;
    let per_head = summed_bias + summed_score;
    workspace.tallies(shape.heads, per_head);
    let followed = if workspace.plan.by_query.is_empty() { 0 } else { choice.edges().map_or(0, |edges| edges.edges()) };
    let vectors = gradients.vectors.as_ref().map(|of| of.vectors);
    workspace.by_edge.reserve(match (keep, vectors) {
        (None, _) => Kept::numbers(followed, shape.heads),
        (Some(_), vectors) => workspace.plan.by_key.len() * vectors.map_or(0, <[f32]>::len),
    });
    let by_edge = Shared(workspace.by_edge.as_mut_ptr());
    let kept = Kept::new(by_edge, shape.heads);
    let vectors = vectors.map(|vectors| ToVectors::new(inputs, gradients, vectors, by_edge));
    // Of a dense bias every number is written where every pair takes part.
    let all_written = matches!(choice.bias, Bias::Dense { .. }) && choice.mask == Mask::Full;
    if let (Some(bias), false) = (&mut gradients.bias, all_written) {
        bias.fill(0.0);
    }
    let to_bias = |bias: &mut &mut [f32]| ToBias { per_head, by_number: by_difference, own: Shared(bias.as_mut_ptr()) };
    let to_bias = gradients.bias.as_mut().map(to_bias);

    let row_numbers = RowNumbers([0, 1, 2].map(|n| workspace.rows.as_mut_ptr().wrapping_add(n * rows)));
    let sums = Shared(workspace.sums.as_mut_ptr());
    let (plan, threads) = (&workspace.plan, &workspace.threads);
    let call = Call {
        pipeline,
        saved,
        d_out,
        gradients,
        rows: row_numbers,
        turns: &workspace.turns,
        graphs: &plan.graphs,
        hulls: &plan.hulls,
        abandoned: AtomicBool::new(false),
        layout,
        block_keys: plan.block_keys,
        to_bias,
        per_head,
        d_score: (summed_score > 0).then_some(summed_bias),
        sums,
        handed_in: AtomicUsize::new(0),
        keep,
        vectors,
    };
    call.blocks(plan, threads);
    edges::backward(&call, plan, threads, kept);
    if let (Some(to), Some(of)) = (vectors, &mut gradients.vectors) {
        to.finish(keep.is_some(), plan, inputs.queries.tokens(), of.gradient);
    }
    let heads = if per_head == 0 { 0 } else { shape.heads };
    for head in 0..heads {
        // SAFETY: the sums have so many numbers, and no thread is at work on them.
        let sums = unsafe { std::slice::from_raw_parts(sums.at(head * per_head), per_head) };
        if let (Some(bias), true) = (&mut gradients.bias, summed_bias > 0) {
            let (by_difference, others) = sums.split_at(by_difference);
            choice.collect_bias(head, [by_difference, &others[..by_number]], bias);
        }
        if let (Some(score), true) = (&mut gradients.score, summed_score > 0) {
            score[head * shape.head_dim..][..shape.head_dim].copy_from_slice(&sums[summed_bias..][..shape.head_dim]);
        }
    }
}

/// `origin`, `rest` and `minus_delta` of every row.
struct RowNumbers([*mut f32; ROW_NUMBERS]);

// SAFETY: a row is written by the unit that prepares it, and read by others only after that.
unsafe impl Sync for RowNumbers {}

impl RowNumbers {
    fn at(&self, row: usize) -> [*mut f32; ROW_NUMBERS] {
        self.0.map(|numbers| numbers.wrapping_add(row))
    }
}

impl Call<'_> {
    /// The blocks of all sets that are walked through by tiles.
    fn blocks(&self, plan: &Plan, threads: &[Mutex<Scratch>]) {
        work::in_order(plan.shared, |n| self.prepare_share(&plan.blocks[n]));
        work::in_order(plan.tasks.len(), |n| {
            let mut scratch = own(threads);
            let _abandon = work::Abandon(&self.abandoned);
            for (block, next) in with_next(&plan.blocks[plan.tasks[n].clone()]) {
                if let Some(next) = next {
                    self.ask_for(next);
                }
                // SAFETY: the scratch memory has the size of the layout.
                unsafe { self.block(block, &mut scratch) }
            }
            self.hand_in(n, &mut scratch);
        });
    }

    /// The memory of what is kept of rows, once all sets are done that are walked through by tiles: a number for each head and query
    /// at least.
    pub(super) fn spare_rows(&self) -> Shared {
        Shared(self.rows.0[0])
    }

    /// Adds what a task has summed over pairs to the sums of all, after all tasks before it: the order of an addition decides
    /// its bits.
    pub(super) fn hand_in(&self, task: usize, scratch: &mut Scratch) {
        if self.per_head == 0 {
            return;
        }
        work::wait_for(&self.handed_in, task, &self.abandoned);
        let Tally { sums, touched } = scratch.tally();
        for (head, touched) in touched.iter_mut().enumerate() {
            for at in std::mem::take(touched) {
                let at = head * self.per_head + at;
                // SAFETY: both have as many numbers for each head; the sums are this thread's until the turn is passed on.
                unsafe {
                    *self.sums.at(at) += *sums.add(at);
                    *sums.add(at) = 0.0;
                }
            }
        }
        self.handed_in.store(task + 1, Ordering::Release);
    }

    /// The sums of the gradient of the score's weights, of all heads, or null if nobody wants them.
    pub(super) fn d_score_of(&self, tally: &mut Tally<'_>, heads: Range<usize>) -> *mut f32 {
        let Some(offset) = self.d_score else { return std::ptr::null_mut() };
        for head in heads {
            tally.touch(head, offset..self.per_head);
        }
        tally.sums.wrapping_add(offset)
    }

    /// Prepares as large a share of the queries of a set as the block has of its keys.
    fn prepare_share(&self, block: &Block) {
        let inputs = self.pipeline.inputs;
        let (q_len, kv_len) = (inputs.queries.len_of(block.set), inputs.keys.len_of(block.set));
        let share = |key: usize| (q_len as u128 * key as u128 / kv_len as u128) as usize;
        self.prepare(block.set, self.heads_of(block.kv_head), share(block.keys.start)..share(block.keys.end));
    }

    /// The heads of the query that share a head of keys.
    fn heads_of(&self, kv_head: usize) -> Range<usize> {
        let group = self.pipeline.inputs.shape.group();
        kv_head * group..(kv_head + 1) * group
    }

    /// `origin`, `rest` and `minus_delta` of some queries of a set, and zeros in their gradient.
    fn prepare(&self, set: usize, heads: Range<usize>, queries: Range<usize>) {
        let inputs = self.pipeline.inputs;
        let Shape { head_dim, value_dim, .. } = inputs.shape;
        let tokens = inputs.queries.tokens();
        let first_token = inputs.queries.range(set).start;
        let (scale, _) = self.pipeline.scales();
        let has_sum = self.pipeline.choice.normalizer.has_sum();
        let factor = self.pipeline.backward_factor();
        for head in heads {
            for first in queries.clone().step_by(DOTS) {
                let count = DOTS.min(queries.end - first);
                let first = first_token + first;
                let rows = |view: &View<'_>| view.rows(first, head, count, value_dim);
                // SAFETY: the inputs were checked to hold the rows.
                let deltas = unsafe { (self.pipeline.kernels.row_dots)(rows(self.d_out), rows(&self.saved.out)) };
                for (token, delta) in (first..first + count).zip(deltas) {
                    let row = head * tokens + token;
                    let [origin, rest, minus_delta] = self.rows.at(row);
                    let [row_origin, row_rest] = origin_and_rest(self.saved.lse[row], factor);
                    // SAFETY: the gradient was checked to hold the row, `rows` has one for each head and token.
                    unsafe {
                        (*origin, *rest) = (row_origin, row_rest);
                        *minus_delta = if has_sum { -scale * delta } else { 0.0 };
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
    /// `scratch` has the size of the layout.
    unsafe fn block(&self, block: &Block, scratch: &mut Scratch) {
        if block.turns.is_none() {
            let q_len = self.pipeline.inputs.queries.len_of(block.set);
            self.prepare(block.set, self.heads_of(block.kv_head), 0..q_len);
        }
        for first in block.keys.clone().step_by(self.block_keys) {
            let keys = first..(first + self.block_keys).min(block.keys.end);
            // SAFETY: as above.
            unsafe { self.keys(block, keys, scratch) }
        }
    }

    /// Asks for the first rows of a block.
    fn ask_for(&self, block: &Block) {
        let &Block { set, kv_head, ref keys, .. } = block;
        let Inputs { query, key, value, queries, keys: sets, shape } = self.pipeline.inputs;
        let Shape { head_dim, value_dim, .. } = *shape;
        let (head, count) = (kv_head * shape.group(), queries.len_of(set).min(SOON));
        let (token, key_token) = (queries.range(set).start, sets.range(set).start + keys.start);
        let keys = keys.len().min(SOON);
        for rows in [
            key.rows(key_token, kv_head, keys, head_dim),
            value.rows(key_token, kv_head, keys, value_dim),
            query.rows(token, head, count, head_dim),
            self.d_out.rows(token, head, count, value_dim),
            self.saved.out.rows(token, head, count, value_dim),
        ] {
            // SAFETY: what is asked for need not exist.
            unsafe { (self.pipeline.kernels.prefetch_rows)(rows) }
        }
    }

    /// As many keys as the scratch memory holds.
    ///
    /// # Safety
    ///
    /// That of [`Call::block`].
    unsafe fn keys(&self, block: &Block, keys: Range<usize>, scratch: &mut Scratch) {
        let (pipeline, layout) = (&self.pipeline, self.layout);
        let (kernels, inputs, mask) = (pipeline.kernels, pipeline.inputs, pipeline.choice.mask);
        let shape @ Shape { head_dim, value_dim, .. } = inputs.shape;
        let (head_padded, value_padded) = (padded(head_dim), padded(value_dim));
        let &Block { set, kv_head, turns, .. } = block;
        let q_len = inputs.queries.len_of(set);
        let kv_token = inputs.keys.range(set).start + keys.start;
        let (key, value) = (&inputs.key, &inputs.value);
        let (_, scale) = pipeline.scales();
        let numbers = scratch.numbers();
        let mut tally = scratch.tally();
        // SAFETY: the parts of the scratch memory are as long as the layout made them, for as many rows as a block has; inputs and
        // gradients were checked to hold the rows of the set.
        unsafe {
            let (dk, dv) = (numbers.add(layout.dk), numbers.add(layout.dv));
            let from = key.rows(kv_token, kv_head, keys.len(), head_dim);
            (kernels.pack_panels)(from, numbers.add(layout.key_panels));
            (kernels.pack_rows)(from, numbers.add(layout.keys), head_padded);
            let from = value.rows(kv_token, kv_head, keys.len(), value_dim);
            (kernels.pack_panels)(from, numbers.add(layout.value_panels));
            std::slice::from_raw_parts_mut(dk, keys.len() * head_padded).fill(0.0);
            std::slice::from_raw_parts_mut(dv, keys.len() * value_padded).fill(0.0);
            self.lay_out_score(numbers);

            let seen = if q_len == 0 { 0..0 } else { mask.queries(keys.clone(), q_len) };
            let seen_tiles = match self.graphs.get(set) {
                None => seen.start / BACKWARD_QUERIES..seen.end.div_ceil(BACKWARD_QUERIES),
                Some(_) => block.tiles.clone(),
            };
            let tiles = q_len.div_ceil(BACKWARD_QUERIES);
            for member in 0..shape.group() {
                let head = kv_head * shape.group() + member;
                let turns = turns.map(|turns| &self.turns[turns + member * tiles..][..tiles]);
                // From the last to the first: under a window a block shares its first tiles with the last of the block
                // before it, which has come to them by then.
                for tile in seen_tiles.clone().rev() {
                    let grid = tile * BACKWARD_QUERIES..((tile + 1) * BACKWARD_QUERIES).min(q_len);
                    let queries = grid.start.max(seen.start)..grid.end.min(seen.end);
                    // all keys that the tile sees, block by block
                    let hull = match self.graphs.get(set) {
                        None => mask.keys(grid, inputs.keys.len_of(set)),
                        Some(&(first, _)) => self.hulls[first + tile].clone(),
                    };
                    if queries.is_empty() || hull.start >= keys.end || hull.end <= keys.start {
                        continue;
                    }
                    self.tile((set, head), queries.clone(), keys.clone(), numbers, &mut tally);
                    if let Some(turns) = turns {
                        let turn = keys.start / self.block_keys - hull.start / self.block_keys;
                        work::wait_for(&turns[tile], turn, &self.abandoned);
                    }
                    let token = inputs.queries.range(set).start + queries.start;
                    (kernels.add_rows)(&Transfer {
                        from: numbers.add(layout.dq),
                        from_stride: head_padded,
                        to: self.gradients.query.row(token, head),
                        to_stride: self.gradients.query.row_stride(),
                        rows: queries.len(),
                        dim: head_dim,
                        factors: std::ptr::null(),
                        factor: scale,
                    });
                    if let Some(turns) = turns {
                        turns[tile].fetch_add(1, Ordering::Release);
                    }
                }
            }

            for (from, from_stride, to, dim, factor) in [
                (dk, head_padded, &self.gradients.key, head_dim, scale),
                (dv, value_padded, &self.gradients.value, value_dim, pipeline.choice.kept_factor()),
            ] {
                (kernels.write_rows)(&Transfer {
                    from,
                    from_stride,
                    to: to.row(kv_token, kv_head),
                    to_stride: to.row_stride(),
                    rows: keys.len(),
                    dim,
                    factors: std::ptr::null(),
                    factor,
                });
            }
        }
    }

    /// What a score that is no product needs beside its operands.
    ///
    /// # Safety
    ///
    /// The scratch memory has the size of the layout.
    unsafe fn lay_out_score(&self, scratch: *mut f32) {
        let layout = self.layout;
        let Shape { heads, head_dim, .. } = self.pipeline.inputs.shape;
        // SAFETY: by the contract.
        unsafe {
            match self.pipeline.choice.scoring {
                Scoring::Dot { .. } => {}
                Scoring::RankOne { .. } => {
                    std::slice::from_raw_parts_mut(scratch.add(layout.ones), BACKWARD_QUERIES * SLAB).fill(1.0);
                }
                Scoring::Additive { weights, .. } => {
                    let from = Rows { start: weights.as_ptr(), stride: head_dim, count: heads, dim: head_dim };
                    (self.pipeline.kernels.pack_rows)(from, scratch.add(layout.score), padded(head_dim));
                }
            }
        }
    }

    /// One tile of queries against the keys in scratch memory: adds to `dk` and `dv`, and leaves their part of `d_query` in
    /// `dq`.
    ///
    /// # Safety
    ///
    /// That of [`Call::block`]; keys and values are packed.
    unsafe fn tile(
        &self,
        (set, head): (usize, usize),
        queries: Range<usize>,
        keys: Range<usize>,
        scratch: *mut f32,
        tally: &mut Tally<'_>,
    ) {
        let (pipeline, layout) = (&self.pipeline, self.layout);
        let (kernels, inputs, choice) = (pipeline.kernels, pipeline.inputs, pipeline.choice);
        let Shape { head_dim, value_dim, .. } = inputs.shape;
        let (head_padded, value_padded) = (padded(head_dim), padded(value_dim));
        let token = inputs.queries.range(set).start + queries.start;
        let rows = queries.len();
        let row = head * inputs.queries.tokens() + token;
        let mut spans = [Span::NONE; BACKWARD_QUERIES];
        let spans = &mut spans[..rows];
        // SAFETY: as in `keys`, for BACKWARD_QUERIES rows.
        unsafe {
            let (q, d_out, dq) = (scratch.add(layout.q), scratch.add(layout.d_out), scratch.add(layout.dq));
            let (weights, gradient) = (scratch.add(layout.weights), scratch.add(layout.gradient));
            let from = inputs.query.rows(token, head, rows, head_dim);
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

            for first in keys.clone().step_by(BACKWARD_KEYS) {
                let part = first..(first + BACKWARD_KEYS).min(keys.end);
                pipeline.fill_spans(spans, set, &queries, &part);
                if spans.iter().all(|span| span.is_empty()) {
                    continue;
                }
                let at = first - keys.start;
                let (spans, columns) = (&*spans, part.len().next_multiple_of(kernels.lanes));
                let place = Place { set, heads: head..head + 1, queries: queries.clone(), keys: Keys::From(first) };
                pipeline.prefetch_bias(&place, part.len(), self.to_bias.map(|to| to.own));
                let slope = if choice.has_slope() { scratch.add(layout.slope) } else { std::ptr::null_mut() };
                let products = Products {
                    left: q,
                    height: BACKWARD_QUERIES,
                    right: scratch.add(layout.key_panels + at * head_dim),
                    dim: head_dim,
                    spans,
                    out: weights,
                };
                pipeline.scores(head..head + 1, &products, (kernels.scores_again, BACKWARD_KEYS), slope);
                let tile = Tile { start: weights, stride: BACKWARD_KEYS, spans, columns };
                let [origin, rest, minus_delta] = self.rows.at(row).map(<*mut f32>::cast_const);
                let finished = Finished { whole: gradient, origin, rest };
                pipeline.weights_again(&place, tile, finished, slope, scratch.add(layout.biases));
                let by_key = Sums {
                    left: weights,
                    right: d_out,
                    right_stride: SLAB,
                    out: scratch.add(layout.dv + at * value_padded),
                    out_stride: value_padded,
                    rows: part.len(),
                    columns: value_padded,
                    spans,
                    rescale: std::ptr::null(),
                };
                (kernels.by_key)(&by_key);
                let products = Products {
                    left: d_out,
                    height: BACKWARD_QUERIES,
                    right: scratch.add(layout.value_panels + at * value_dim),
                    dim: value_dim,
                    spans,
                    out: gradient,
                };
                let (scale, _) = pipeline.scales();
                let (kept, whole) = pipeline.gradient_tiles(weights, gradient);
                if std::ptr::eq(kept, whole) && std::ptr::eq(kept, weights) {
                    (kernels.gradient)(&products, &Gradient { weights, minus_delta, scale });
                } else {
                    let factor = scale * choice.kept_factor();
                    (kernels.mixed)(&products, &Mixed { kept, whole, minus_delta, factor });
                }
                let d_logits = Tile { start: gradient, ..tile };
                if let Some(to_bias) = self.to_bias {
                    pipeline.bias_gradient(&place, d_logits, tally, to_bias);
                }
                if choice.has_slope() {
                    (kernels.chain)(&Chain { tile: gradient, slope, stride: BACKWARD_KEYS, spans });
                }
                let d_key = Sums {
                    left: gradient,
                    right: q,
                    out: scratch.add(layout.dk + at * head_padded),
                    out_stride: head_padded,
                    columns: head_padded,
                    ..by_key
                };
                let d_query = Sums {
                    left: gradient,
                    right: scratch.add(layout.keys + at * head_padded),
                    right_stride: head_padded,
                    out: dq,
                    rows,
                    ..d_key
                };
                match choice.scoring {
                    Scoring::Dot { .. } => {
                        (kernels.by_key)(&d_key);
                        (kernels.by_query)(&d_query);
                    }
                    // the derivative of the sum by either side is 1
                    Scoring::RankOne { .. } => {
                        let ones = scratch.add(layout.ones).cast_const();
                        (kernels.by_key)(&Sums { right: ones, ..d_key });
                        (kernels.by_query)(&Sums { right: ones, ..d_query });
                    }
                    Scoring::Additive { activation, .. } => {
                        let sums = self.d_score_of(tally, head..head + 1);
                        let unwanted = scratch.add(layout.d_score);
                        (kernels.additive_backward)(&AdditiveBackward {
                            gradient,
                            stride: BACKWARD_KEYS,
                            spans,
                            q,
                            height: BACKWARD_QUERIES,
                            k: d_query.right,
                            weights: scratch.add(layout.score + head * head_padded),
                            dim: head_padded,
                            activation,
                            dq,
                            dk: d_key.out,
                            dw: if sums.is_null() { unwanted } else { sums.add(head * self.per_head) },
                        });
                    }
                }
            }
        }
    }
}
