//! The self-attending half of a block.
//!
//! ```text
//! forward    h = norm(x);  q, k, v = h · w_q + b_q, …;  o = attention(q, k, v);  r = x + dropout(o · w_o + b_o);  out = r
//!            (or h = x and out = norm(r), where the norm stands behind)
//! backward   d_r = d_out (or through the norm);  d_s = dropout(d_r);  d_b_o = Σ d_s;  d_w_o = oᵀ · d_s;  d_o = d_s · w_oᵀ
//!            d_q, d_k, d_v by attention;  d_b_q = Σ d_q;  d_w_q = hᵀ · d_q;  …
//!            d_h = d_q · w_qᵀ + d_k · w_kᵀ + d_v · w_vᵀ;  d_x = d_r + (d_h through the norm)
//! ```
//!
//! Query, key and value are one product: their weights are laid side by side as panels, and attention reads its rows
//! `[tokens, 3, heads, head_dim]` in place.

use super::{Norm, NormPlace, Rotary, part, sum_columns};
use crate::attention::{Gradients, Inputs, Saved, Shape, View, ViewMut, attention_backward, attention_forward};
use crate::math::add_to;
use crate::norm::denormalise;
use crate::offsets::Offsets;
use crate::options::{Bias, Mask, Options, Score};
use crate::pool::{Buffer, Pool};
use crate::product::{
    Columns, Dropping, Finish, Gradient, Panels, Place, Product, RowBlocks, Rows, Sink, Weights, for_each, pack,
    pack_dropped, padded, product, weight_gradients,
};
use crate::random::Key;
use crate::work;

/// The sub-layer with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct SelfAttention<'a> {
    /// The normalisation.
    pub norm: Norm<'a>,
    /// Of query, key and value: `[d_model, d_model]` each.
    pub weights: [&'a [f32]; 3],
    /// Of query, key and value: `[d_model]` each.
    pub biases: [&'a [f32]; 3],
    /// `[d_model, d_model]`.
    pub output_weight: &'a [f32],
    /// `[d_model]`.
    pub output_bias: &'a [f32],
    /// Heads; a divisor of `d_model`.
    pub heads: usize,
    /// Score, normaliser, mask, bias and dropout of the weights.
    pub options: Options<'a>,
    /// Turns queries and keys.
    pub rotary: Option<Rotary<'a>>,
    /// Rate and key of the dropout before the residual.
    pub dropout: Option<(f32, Key)>,
}

/// What the backward pass needs of the forward pass, beside its input.
#[derive(Debug)]
pub struct SelfAttentionSaved {
    /// `[tokens, 3, d_model]`.
    projections: Buffer,
    /// What attention gave, `[tokens, d_model]`, and its log-sum-exps.
    attended: Buffer,
    lse: Buffer,
    /// What is normalised behind: r, rows.
    sum: Option<Buffer>,
    /// Mean and deviation of each row that is normalised.
    mean: Buffer,
    rstd: Buffer,
}

/// Where the gradients go; all are overwritten. Shapes are those of what they are the gradients of.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is the gradient of what has its name")]
pub struct SelfAttentionGradients<'a> {
    pub x: &'a mut [f32],
    pub gamma: &'a mut [f32],
    pub beta: &'a mut [f32],
    pub weights: [&'a mut [f32]; 3],
    pub biases: [&'a mut [f32]; 3],
    pub output_weight: &'a mut [f32],
    pub output_bias: &'a mut [f32],
    /// That of the additive score's weights, if it is wanted.
    pub score: Option<&'a mut [f32]>,
    /// That of attention's bias, if it is wanted.
    pub bias: Option<&'a mut [f32]>,
}

impl SelfAttention<'_> {
    /// The weights as the forward pass wants them.
    pub fn panels(&self, pool: &Pool) -> [Panels; 2] {
        let d_model = self.d_model();
        let projection = Weights::SideBySide { parts: &self.weights, inner: d_model };
        let output = Weights::SideBySide { parts: &[self.output_weight], inner: d_model };
        Panels::of([projection, output], pool)
    }

    fn d_model(&self) -> usize {
        self.output_bias.len()
    }

    fn check(&self, x: &[f32], other: &[f32], sets: &Offsets) -> Cut {
        let (d_model, tokens) = (self.d_model(), sets.tokens());
        let square = d_model * d_model;
        for (name, found, expected) in [
            ("x", x.len(), tokens * d_model),
            ("its counterpart", other.len(), x.len()),
            ("gamma", self.norm.gamma.len(), d_model),
            ("beta", self.norm.beta.len(), d_model),
            ("output_weight", self.output_weight.len(), square),
        ] {
            assert_eq!(found, expected, "self_attention: {name} has {found} numbers, expected {expected}");
        }
        for (weight, bias) in self.weights.iter().zip(self.biases) {
            assert!(
                weight.len() == square && bias.len() == d_model,
                "self_attention: weights of {} numbers and biases of {}, expected {square} and {d_model}",
                weight.len(),
                bias.len()
            );
        }
        assert!(
            self.heads > 0 && d_model > 0 && d_model.is_multiple_of(self.heads),
            "self_attention: {} heads do not divide {d_model}",
            self.heads
        );
        if let Some(rotary) = self.rotary {
            let head_dim = d_model / self.heads;
            let half = head_dim / 2;
            assert!(head_dim.is_multiple_of(2), "self_attention: rotary angles turn pairs, and a head has {head_dim}");
            assert!(
                rotary.cos.len() == tokens * half && rotary.sin.len() == tokens * half,
                "self_attention: rotary angles are not [{tokens}, {half}]"
            );
        }
        match self.blocks_of_sets(sets) {
            Some(blocks) => Cut { blocks, own: Some(SetsOfBlocks::new(blocks, sets.len_of(0))) },
            None => Cut { blocks: RowBlocks::of(tokens), own: None },
        }
    }

    /// Blocks of whole sets, where attention has nothing that is counted over all sets of a batch.
    fn blocks_of_sets(&self, sets: &Offsets) -> Option<RowBlocks> {
        let Options { score, mask, bias, dropout, .. } = &self.options;
        let alone = matches!(score, Score::Dot { .. })
            && matches!(bias, Bias::None)
            && !matches!(mask, Mask::Graph(_))
            && dropout.is_none();
        if alone { RowBlocks::of_sets(sets) } else { None }
    }

    fn inputs<'a>(&self, projections: &'a [f32], sets: &'a Offsets) -> Inputs<'a> {
        let head_dim = self.d_model() / self.heads;
        let [query, key, value] = View::qkv(projections, self.heads, head_dim);
        Inputs { shape: Shape::new(self.heads, head_dim), query, key, value, queries: sets, keys: sets }
    }

    /// `out` of `x`, both `[tokens, d_model]`; `panels` are those of [`SelfAttention::panels`]. With `keep`, what the backward
    /// pass needs is kept.
    ///
    /// # Panics
    ///
    /// If a slice has another length than its shape, or the options do not fit the batch.
    pub fn forward(
        &self,
        x: &[f32],
        sets: &Offsets,
        panels: &[Panels; 2],
        keep: bool,
        out: &mut [f32],
        pool: &Pool,
    ) -> Option<SelfAttentionSaved> {
        let cut = self.check(x, out, sets);
        let blocks = cut.blocks;
        let (tokens, d_model, height) = (blocks.rows, self.d_model(), blocks.height);
        let [projection, output] = panels;
        assert!(
            projection.dims() == (d_model, 3 * d_model) && output.dims() == (d_model, d_model),
            "self_attention: panels of other weights"
        );
        let before = self.norm.place == NormPlace::Before;
        let mut bias = pool.take(3 * d_model);
        bias.chunks_exact_mut(d_model).zip(self.biases).for_each(|(to, from)| to.copy_from_slice(from));
        let call = Forward { layer: self, panels, bias: &bias, drop: Dropping::new(self.dropout), height, pool };
        let (mut mean, mut rstd) = (pool.take(tokens), pool.take(tokens));
        let mut projections = pool.take(tokens * 3 * d_model);
        let mut attended = pool.take(tokens * d_model);
        let mut lse = pool.take(2 * self.heads * tokens);
        let mut sum = (keep && !before).then(|| pool.take(x.len()));

        let rows_len = height * d_model;
        let mut sums = sum.as_deref_mut().unwrap_or_default().chunks_mut(rows_len);
        if let Some(own) = &cut.own {
            let stats = mean.chunks_mut(height).zip(rstd.chunks_mut(height));
            let between = projections.chunks_mut(3 * rows_len).zip(attended.chunks_mut(rows_len));
            let between = between.zip(lse.as_f64_mut().chunks_mut(self.heads * height));
            let tasks = x.chunks(rows_len).zip(out.chunks_mut(rows_len)).zip(stats).zip(between).enumerate();
            let tasks = tasks.map(|(block, task)| (blocks.first(block), part(&mut sums), task));
            for_each(4 * tokens * d_model * d_model, tasks, |(first_row, sum, task)| {
                let (((x, out), (mean, rstd)), ((projections, attended), lse)) = task;
                call.project(x, first_row, projections, (&mut *mean, &mut *rstd));
                work::alone(|| self.attend(projections, own.of(x.len() / d_model), attended, lse, pool));
                call.put_out((x, attended), first_row, (out, sum), (mean, rstd));
            });
        } else {
            let stats = mean.chunks_mut(height).zip(rstd.chunks_mut(height));
            let tasks = x.chunks(rows_len).zip(projections.chunks_mut(3 * rows_len)).zip(stats).enumerate();
            for_each(3 * tokens * d_model * d_model, tasks, |(block, ((x, projections), stats))| {
                call.project(x, blocks.first(block), projections, stats);
            });
            self.attend(&projections, sets, &mut attended, lse.as_f64_mut(), pool);
            let stats = mean.chunks_mut(height).zip(rstd.chunks_mut(height));
            let rows = x.chunks(rows_len).zip(attended.chunks(rows_len)).zip(out.chunks_mut(rows_len));
            let tasks = rows.zip(stats).enumerate().map(|(block, task)| (blocks.first(block), task, part(&mut sums)));
            for_each(tokens * d_model * d_model, tasks, |(first_row, ((rows, out), stats), sum)| {
                call.put_out(rows, first_row, (out, sum), stats);
            });
        }
        keep.then_some(SelfAttentionSaved { projections, attended, lse, sum, mean, rstd })
    }

    /// What attention makes of the projections of some sets.
    fn attend(&self, projections: &[f32], sets: &Offsets, attended: &mut [f32], lse: &mut [f64], pool: &Pool) {
        let view = ViewMut::new(attended, self.heads, self.d_model() / self.heads);
        let inputs = self.inputs(projections, sets);
        pool.with_workspace(|workspace| attention_forward(&inputs, &self.options, view, lse, workspace))
            .unwrap_or_else(|error| panic!("self_attention: {error}"));
    }

    /// Turns the queries and keys of a block of projections, or their gradients back.
    fn turn(&self, projections: &mut [f32], first_row: usize, back: bool) {
        if let Some(rotary) = self.rotary {
            let (d_model, heads) = (self.d_model(), self.heads);
            rotary.turn(projections, 3 * d_model, (2 * heads, d_model / heads), first_row, back);
        }
    }

    /// The gradients, given that of the result.
    ///
    /// # Panics
    ///
    /// If a slice has another length than its shape, or `saved` is of another batch.
    pub fn backward(
        &self,
        d_out: &[f32],
        x: &[f32],
        sets: &Offsets,
        saved: SelfAttentionSaved,
        gradients: SelfAttentionGradients<'_>,
        pool: &Pool,
    ) {
        let cut = self.check(x, d_out, sets);
        let blocks = cut.blocks;
        let (tokens, d_model, height) = (blocks.rows, self.d_model(), blocks.height);
        let before = self.norm.place == NormPlace::Before;
        assert!(
            saved.attended.len() == tokens * d_model && saved.mean.len() == tokens && saved.sum.is_none() == before,
            "self_attention: what was saved is of another batch"
        );
        let (rows_len, slabs) = (height * d_model, blocks.slabs_of_one(d_model));
        let part_slabs = height * padded(d_model);
        // partial sums of each block: gamma, beta, output bias, and those of query, key and value
        let per_block = 6 * d_model;
        let mut sums = pool.take(blocks.count() * per_block);
        let projection = Weights::Transposed { parts: &self.weights, columns: d_model };
        let output = Weights::Transposed { parts: &[self.output_weight], columns: d_model };
        let panels = Panels::of([projection, output], pool);
        let call = Backward { layer: self, panels: &panels, drop: Dropping::new(self.dropout), height, pool };

        let (mut d_s, mut o) = (pool.take(blocks.slabs(d_model)), pool.take(blocks.slabs(d_model)));
        let (mut h, mut d_qkv) = (pool.take(blocks.slabs(d_model)), pool.take(3 * blocks.slabs(d_model)));
        let (mut d_r, mut d_attended) = (pool.take(if before { 0 } else { x.len() }), pool.take(tokens * d_model));
        let mut d_projections = pool.take(3 * tokens * d_model);
        let mut behind = saved.sum.as_deref().unwrap_or_default().chunks(rows_len);
        let stats = || saved.mean.chunks(height).zip(saved.rstd.chunks(height));
        let entered = d_s.chunks_mut(slabs).zip(o.chunks_mut(slabs)).zip(d_attended.chunks_mut(rows_len));
        let left = h.chunks_mut(slabs).zip(d_qkv.chunks_mut(3 * part_slabs)).zip(gradients.x.chunks_mut(rows_len));
        if let Some(own) = &cut.own {
            let mut d_rs = d_r.chunks_mut(rows_len);
            let between = saved.projections.chunks(3 * rows_len).zip(saved.lse.as_f64().chunks(self.heads * height));
            let between = between.zip(d_projections.chunks_mut(3 * rows_len));
            let inputs = d_out.chunks(rows_len).zip(x.chunks(rows_len)).zip(saved.attended.chunks(rows_len));
            let results = entered.zip(left).zip(sums.chunks_mut(per_block));
            let tasks = inputs.zip(stats()).zip(between).zip(results).enumerate();
            let tasks = tasks
                .map(|(block, task)| (blocks.first(block), behind.next().unwrap_or_default(), part(&mut d_rs), task));
            for_each(4 * tokens * d_model * d_model, tasks, |(first_row, sum, d_r, task)| {
                let (((((d_out, x), attended), stats), ((projections, lse), d_projections)), results) = task;
                let ((((d_s, o), d_attended), ((h, d_qkv), d_x)), sums) = results;
                call.enter((d_out, attended, sum), first_row, stats, (d_s, o), (&mut *d_r, d_attended, &mut *sums));
                let sets = own.of(x.len() / d_model);
                let saved = (projections, attended, lse);
                work::alone(|| self.attend_back(saved, sets, d_attended, d_projections, [None, None], pool));
                let d_r = if before { d_out } else { &*d_r };
                call.leave((x, d_r), first_row, stats, d_projections, (h, d_qkv), (d_x, sums));
            });
        } else {
            let mut d_rs = d_r.chunks_mut(rows_len);
            let inputs = d_out.chunks(rows_len).zip(saved.attended.chunks(rows_len));
            let tasks = inputs.zip(stats()).zip(entered).zip(sums.chunks_mut(per_block)).enumerate();
            let tasks = tasks
                .map(|(block, task)| (blocks.first(block), behind.next().unwrap_or_default(), part(&mut d_rs), task));
            for_each(tokens * d_model * d_model, tasks, |(first_row, sum, d_r, task)| {
                let ((((d_out, attended), stats), ((d_s, o), d_attended)), sums) = task;
                call.enter((d_out, attended, sum), first_row, stats, (d_s, o), (d_r, d_attended, sums));
            });
            let of_forward = (&saved.projections[..], &saved.attended[..], saved.lse.as_f64());
            let wanted = [gradients.score, gradients.bias];
            self.attend_back(of_forward, sets, &d_attended, &mut d_projections, wanted, pool);
            let d_rs: &[f32] = if before { d_out } else { &d_r };
            let inputs = x.chunks(rows_len).zip(d_rs.chunks(rows_len)).zip(d_projections.chunks_mut(3 * rows_len));
            let tasks = inputs.zip(stats()).zip(left.zip(sums.chunks_mut(per_block))).enumerate();
            for_each(3 * tokens * d_model * d_model, tasks, |(block, task)| {
                let (((rows, d_projections), stats), (((h, d_qkv), d_x), sums)) = task;
                call.leave(rows, blocks.first(block), stats, d_projections, (h, d_qkv), (d_x, sums));
            });
        }
        let column = |number: usize, out: &mut [f32]| sum_columns(&sums, per_block, number * d_model, out);
        column(0, gradients.gamma);
        column(1, gradients.beta);
        column(2, gradients.output_bias);
        for (number, d_bias) in gradients.biases.into_iter().enumerate() {
            column(3 + number, d_bias);
        }
        let [h, o, d_s] = [&h, &o, &d_s].map(|slabs| Columns::all(blocks, slabs, d_model));
        let [query, key, value] = gradients.weights;
        let projection = |number: usize, out| {
            let slabs = &d_qkv[(number * part_slabs).min(d_qkv.len())..];
            Gradient { left: h, right: Columns { slabs, next: 3 * part_slabs, dim: d_model }, out }
        };
        let output = Gradient { left: o, right: d_s, out: gradients.output_weight };
        weight_gradients(blocks, [projection(0, query), projection(1, key), projection(2, value), output]);
    }

    /// Undoes `attend`: the gradients of the projections of some sets, and those of the score's weights and the bias that are
    /// wanted.
    fn attend_back(
        &self,
        (projections, attended, lse): (&[f32], &[f32], &[f64]),
        sets: &Offsets,
        d_attended: &[f32],
        d_projections: &mut [f32],
        [score, bias]: [Option<&mut [f32]>; 2],
        pool: &Pool,
    ) {
        let head_dim = self.d_model() / self.heads;
        let [query, key, value] = ViewMut::qkv(d_projections, self.heads, head_dim);
        let gradients = Gradients { query, key, value, score, bias, vectors: None };
        let inputs = self.inputs(projections, sets);
        let saved = Saved { out: View::new(attended, self.heads, head_dim), lse, kept: &[] };
        let d_out = View::new(d_attended, self.heads, head_dim);
        pool.with_workspace(|workspace| {
            attention_backward(&inputs, &self.options, &saved, d_out, gradients, workspace)
        })
        .unwrap_or_else(|error| panic!("self_attention: {error}"));
    }
}

/// How the rows of a call are cut into tasks.
struct Cut {
    blocks: RowBlocks,
    /// The sets of each block, where no set has rows in two: then a task goes from the norm to the residual, and what it hands
    /// from step to step stays in its thread's cache.
    own: Option<SetsOfBlocks>,
}

/// The sets of a block, and of the last, which may have fewer.
struct SetsOfBlocks([Offsets; 2]);

impl SetsOfBlocks {
    fn new(blocks: RowBlocks, length: usize) -> Self {
        let sets = |rows: usize| Offsets::from_lengths(std::iter::repeat_n(length, rows / length));
        Self([sets(blocks.height), sets(blocks.rows_of(blocks.count() - 1))])
    }

    /// The sets of a block of so many rows.
    fn of(&self, rows: usize) -> &Offsets {
        let [of_all, of_last] = &self.0;
        if of_all.tokens() == rows { of_all } else { of_last }
    }
}

/// What the tasks of a forward pass share.
struct Forward<'a> {
    layer: &'a SelfAttention<'a>,
    panels: &'a [Panels; 2],
    /// Of query, key and value, end to end.
    bias: &'a [f32],
    drop: Option<Dropping>,
    height: usize,
    pool: &'a Pool,
}

impl Forward<'_> {
    /// `q, k, v = norm(x) · w + b`, turned, of a block of rows.
    fn project(&self, x: &[f32], first_row: usize, projections: &mut [f32], stats: (&mut [f32], &mut [f32])) {
        let (d_model, height) = (self.layer.d_model(), self.height);
        let mut left = self.pool.take(height * padded(d_model));
        self.layer.norm.pack(x, height, &mut left, stats);
        let sink = Sink { out: projections, place: Place::Rows { stride: 3 * d_model } };
        let product_of = Product { left: &left, height, rows: x.len() / d_model, panels: &self.panels[0] };
        product(&product_of, &mut Finish::Plain { bias: Some(self.bias), sink });
        self.layer.turn(projections, first_row, false);
    }

    /// `r = x + dropout(o · w_o + b_o)`, and the norm where it stands behind, of a block of rows. `sum` is where r goes; nothing if
    /// nobody wants it.
    fn put_out(
        &self,
        (x, attended): (&[f32], &[f32]),
        first_row: usize,
        (out, sum): (&mut [f32], &mut [f32]),
        stats: (&mut [f32], &mut [f32]),
    ) {
        let (layer, height) = (self.layer, self.height);
        let d_model = layer.d_model();
        let mut left = self.pool.take(height * padded(d_model));
        pack(Rows::dense(attended, d_model), height, &mut left);
        let product_of = Product { left: &left, height, rows: x.len() / d_model, panels: &self.panels[1] };
        let residual = |out| Finish::Residual { bias: layer.output_bias, drop: self.drop, first_row, residual: x, out };
        if layer.norm.place == NormPlace::Before {
            return product(&product_of, &mut residual(out));
        }
        let mut own = sum.is_empty().then(|| self.pool.take(x.len()));
        let sum = own.as_deref_mut().unwrap_or(sum);
        product(&product_of, &mut residual(sum));
        layer.norm.rows(sum, out, stats);
    }
}

/// What the tasks of a backward pass share.
struct Backward<'a> {
    layer: &'a SelfAttention<'a>,
    /// Of the projections and of the output, transposed.
    panels: &'a [Panels; 2],
    drop: Option<Dropping>,
    height: usize,
    pool: &'a Pool,
}

impl Backward<'_> {
    /// Undoes `put_out`: d_r, d_s and the gradient of what attention gave, of a block of rows; `sum` is r, where the norm stands
    /// behind. Packs what the gradient of the output's weights wants.
    fn enter(
        &self,
        (d_out, attended, sum): (&[f32], &[f32], &[f32]),
        first_row: usize,
        (mean, rstd): (&[f32], &[f32]),
        (d_s, o): (&mut [f32], &mut [f32]),
        (d_r, d_attended, sums): (&mut [f32], &mut [f32], &mut [f32]),
    ) {
        let (layer, height) = (self.layer, self.height);
        let d_model = layer.d_model();
        sums.fill(0.0);
        let (d_gamma, rest) = sums.split_at_mut(d_model);
        let (d_beta, d_bias) = rest.split_at_mut(d_model);
        let d_r = if layer.norm.place == NormPlace::Before {
            d_out
        } else {
            denormalise(d_out, sum, &[], layer.norm.gamma, mean, rstd, d_r, d_gamma, d_beta);
            d_r
        };
        pack_dropped(Rows::dense(d_r, d_model), first_row, self.drop, height, d_s, &mut d_bias[..d_model]);
        pack(Rows::dense(attended, d_model), height, o);
        let sink = Sink { out: d_attended, place: Place::Rows { stride: d_model } };
        let product_of = Product { left: d_s, height, rows: d_out.len() / d_model, panels: &self.panels[1] };
        product(&product_of, &mut Finish::Plain { bias: None, sink });
    }

    /// Undoes `project`: d_x of a block of rows. Packs what the gradients of the projections' weights want.
    fn leave(
        &self,
        (x, d_r): (&[f32], &[f32]),
        first_row: usize,
        (mean, rstd): (&[f32], &[f32]),
        d_projections: &mut [f32],
        (h, d_qkv): (&mut [f32], &mut [f32]),
        (d_x, sums): (&mut [f32], &mut [f32]),
    ) {
        let (layer, height) = (self.layer, self.height);
        let d_model = layer.d_model();
        let before = layer.norm.place == NormPlace::Before;
        let rows = x.len() / d_model;
        let (d_norm, d_biases) = sums.split_at_mut(3 * d_model);
        layer.turn(d_projections, first_row, true);
        let parts = d_qkv.chunks_mut(height * padded(d_model)).zip(d_biases.chunks_mut(d_model)).enumerate();
        for (number, (slabs, d_bias)) in parts {
            let x = &d_projections[number * d_model..];
            let part_rows = Rows { x, stride: 3 * d_model, count: rows, dim: d_model };
            pack_dropped(part_rows, 0, None, height, slabs, d_bias);
        }
        layer.norm.pack_again(x, height, h, (mean, rstd));
        let mut scratch = self.pool.take(if before { x.len() } else { 0 });
        let d_h = if before { &mut scratch[..] } else { &mut *d_x };
        let sink = Sink { out: d_h, place: Place::Rows { stride: d_model } };
        let product_of = Product { left: d_qkv, height, rows, panels: &self.panels[0] };
        product(&product_of, &mut Finish::Plain { bias: None, sink });
        if before {
            let (d_gamma, rest) = d_norm.split_at_mut(d_model);
            denormalise(&scratch, x, d_r, layer.norm.gamma, mean, rstd, d_x, d_gamma, &mut rest[..d_model]);
        } else {
            add_to(d_x, d_r);
        }
    }
}
