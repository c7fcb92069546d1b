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
use crate::options::Options;
use crate::pool::{Buffer, Pool};
use crate::product::{
    Columns, Dropping, Finish, Gradient, Panels, Place, Product, RowBlocks, Rows, Sink, Weights, for_each, pack,
    pack_dropped, padded, product, weight_gradients,
};
use crate::random::Key;

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

    fn check(&self, x: &[f32], other: &[f32], sets: &Offsets) -> RowBlocks {
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
        RowBlocks::of(tokens)
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
        let blocks = self.check(x, out, sets);
        let (tokens, d_model, height) = (blocks.rows, self.d_model(), blocks.height);
        let [projection, output] = panels;
        assert!(
            projection.dims() == (d_model, 3 * d_model) && output.dims() == (d_model, d_model),
            "self_attention: panels of other weights"
        );
        let before = self.norm.place == NormPlace::Before;
        let mut bias = pool.take(3 * d_model);
        bias.chunks_exact_mut(d_model).zip(self.biases).for_each(|(to, from)| to.copy_from_slice(from));
        let (mut mean, mut rstd) = (pool.take(tokens), pool.take(tokens));
        let mut projections = pool.take(tokens * 3 * d_model);
        let rows_len = height * d_model;

        let stats = mean.chunks_mut(height).zip(rstd.chunks_mut(height));
        let tasks = x.chunks(rows_len).zip(projections.chunks_mut(3 * rows_len)).zip(stats).enumerate();
        for_each(3 * tokens * d_model * d_model, tasks, |(block, ((x, projections), stats))| {
            let mut left = pool.take(blocks.slabs_of_one(d_model));
            self.norm.pack(x, height, &mut left, stats);
            let rows = x.len() / d_model;
            let sink = Sink { out: projections, place: Place::Rows { stride: 3 * d_model } };
            let product_of = Product { left: &left, height, rows, panels: projection };
            product(&product_of, &mut Finish::Plain { bias: Some(&bias), sink });
            self.turn(projections, blocks.first(block), false);
        });

        let mut attended = pool.take(tokens * d_model);
        let mut lse = pool.take(2 * self.heads * tokens);
        let view = ViewMut::new(&mut attended, self.heads, d_model / self.heads);
        let inputs = self.inputs(&projections, sets);
        pool.with_workspace(|workspace| attention_forward(&inputs, &self.options, view, lse.as_f64_mut(), workspace))
            .unwrap_or_else(|error| panic!("self_attention: {error}"));

        let drop = Dropping::new(self.dropout);
        let mut sum = (keep && !before).then(|| pool.take(x.len()));
        let mut sums = sum.as_deref_mut().unwrap_or_default().chunks_mut(rows_len);
        let stats = mean.chunks_mut(height).zip(rstd.chunks_mut(height));
        let rows = x.chunks(rows_len).zip(attended.chunks(rows_len)).zip(out.chunks_mut(rows_len));
        let tasks = rows.zip(stats).enumerate().map(|(block, task)| (blocks.first(block), task, part(&mut sums)));
        for_each(tokens * d_model * d_model, tasks, |(first_row, (((x, attended), out), stats), sum)| {
            let mut left = pool.take(blocks.slabs_of_one(d_model));
            pack(Rows::dense(attended, d_model), height, &mut left);
            let product_of = Product { left: &left, height, rows: x.len() / d_model, panels: output };
            let residual = |out| Finish::Residual { bias: self.output_bias, drop, first_row, residual: x, out };
            if before {
                return product(&product_of, &mut residual(out));
            }
            let mut own = sum.is_empty().then(|| pool.take(x.len()));
            let sum = own.as_deref_mut().unwrap_or(sum);
            product(&product_of, &mut residual(sum));
            self.norm.rows(sum, out, stats);
        });
        keep.then_some(SelfAttentionSaved { projections, attended, lse, sum, mean, rstd })
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
        let blocks = self.check(x, d_out, sets);
        let (tokens, d_model, height) = (blocks.rows, self.d_model(), blocks.height);
        let before = self.norm.place == NormPlace::Before;
        assert!(
            saved.attended.len() == tokens * d_model && saved.mean.len() == tokens && saved.sum.is_none() == before,
            "self_attention: what was saved is of another batch"
        );
        let drop = Dropping::new(self.dropout);
        let (rows_len, slabs) = (height * d_model, blocks.slabs_of_one(d_model));
        // partial sums of each block: gamma, beta, output bias, and those of query, key and value
        let per_block = 6 * d_model;
        let mut sums = pool.take(blocks.count() * per_block);

        // undoes `out = norm(r)`, `r = x + dropout(o · w_o + b_o)`
        let projection = Weights::Transposed { parts: &self.weights, columns: d_model };
        let output = Weights::Transposed { parts: &[self.output_weight], columns: d_model };
        let [projection, output] = Panels::of([projection, output], pool);
        let (mut d_s, mut o) = (pool.take(blocks.slabs(d_model)), pool.take(blocks.slabs(d_model)));
        let (mut d_r, mut d_attended) = (pool.take(if before { 0 } else { x.len() }), pool.take(tokens * d_model));
        let mut behind = saved.sum.as_deref().unwrap_or_default().chunks(rows_len);
        let mut d_rs = d_r.chunks_mut(rows_len);
        let inputs = d_out.chunks(rows_len).zip(saved.attended.chunks(rows_len));
        let stats = saved.mean.chunks(height).zip(saved.rstd.chunks(height));
        let results = d_s.chunks_mut(slabs).zip(o.chunks_mut(slabs)).zip(d_attended.chunks_mut(rows_len));
        let tasks = inputs.zip(stats).zip(results).zip(sums.chunks_mut(per_block)).enumerate();
        let tasks =
            tasks.map(|(block, task)| (blocks.first(block), behind.next().unwrap_or_default(), part(&mut d_rs), task));
        for_each(tokens * d_model * d_model, tasks, |(first_row, sum, d_r, task)| {
            let ((((d_out, attended), (mean, rstd)), ((d_s, o), d_attended)), sums) = task;
            sums.fill(0.0);
            let (d_gamma, rest) = sums.split_at_mut(d_model);
            let (d_beta, d_bias) = rest.split_at_mut(d_model);
            let d_r = if before {
                d_out
            } else {
                denormalise(d_out, sum, &[], self.norm.gamma, mean, rstd, d_r, d_gamma, d_beta);
                d_r
            };
            pack_dropped(Rows::dense(d_r, d_model), first_row, drop, height, d_s, &mut d_bias[..d_model]);
            pack(Rows::dense(attended, d_model), height, o);
            let sink = Sink { out: d_attended, place: Place::Rows { stride: d_model } };
            let product_of = Product { left: d_s, height, rows: d_out.len() / d_model, panels: &output };
            product(&product_of, &mut Finish::Plain { bias: None, sink });
        });

        // undoes attention
        let mut d_projections = pool.take(3 * tokens * d_model);
        let head_dim = d_model / self.heads;
        let [query, key, value] = ViewMut::qkv(&mut d_projections, self.heads, head_dim);
        let d_attention = Gradients { query, key, value, score: gradients.score, bias: gradients.bias };
        let inputs = self.inputs(&saved.projections, sets);
        let of_forward = Saved { out: View::new(&saved.attended, self.heads, head_dim), lse: saved.lse.as_f64() };
        let d_view = View::new(&d_attended, self.heads, head_dim);
        pool.with_workspace(|workspace| {
            attention_backward(&inputs, &self.options, &of_forward, d_view, d_attention, workspace)
        })
        .unwrap_or_else(|error| panic!("self_attention: {error}"));

        // undoes `q, k, v = h · w + b`, then `h = norm(x)`
        let part_slabs = height * padded(d_model);
        let (mut h, mut d_qkv) = (pool.take(blocks.slabs(d_model)), pool.take(3 * blocks.slabs(d_model)));
        let inputs = x.chunks(rows_len).zip(d_projections.chunks_mut(3 * rows_len));
        let stats = saved.mean.chunks(height).zip(saved.rstd.chunks(height));
        let operands = h.chunks_mut(slabs).zip(d_qkv.chunks_mut(3 * part_slabs));
        let results = gradients.x.chunks_mut(rows_len).zip(sums.chunks_mut(per_block));
        let d_rs: &[f32] = if before { d_out } else { &d_r };
        let tasks = inputs.zip(stats).zip(operands).zip(results.zip(d_rs.chunks(rows_len))).enumerate();
        for_each(3 * tokens * d_model * d_model, tasks, |(block, task)| {
            let ((((x, d_projections), (mean, rstd)), (h, d_qkv)), ((d_x, sums), d_r)) = task;
            let rows = x.len() / d_model;
            let (d_norm, d_biases) = sums.split_at_mut(3 * d_model);
            self.turn(d_projections, blocks.first(block), true);
            let parts = d_qkv.chunks_mut(part_slabs).zip(d_biases.chunks_mut(d_model)).enumerate();
            for (number, (slabs, d_bias)) in parts {
                let x = &d_projections[number * d_model..];
                let part_rows = Rows { x, stride: 3 * d_model, count: rows, dim: d_model };
                pack_dropped(part_rows, 0, None, height, slabs, d_bias);
            }
            self.norm.pack_again(x, height, h, (mean, rstd));
            let mut scratch = pool.take(if before { x.len() } else { 0 });
            let d_h = if before { &mut scratch[..] } else { &mut *d_x };
            let sink = Sink { out: d_h, place: Place::Rows { stride: d_model } };
            let product_of = Product { left: d_qkv, height, rows, panels: &projection };
            product(&product_of, &mut Finish::Plain { bias: None, sink });
            if before {
                let (d_gamma, rest) = d_norm.split_at_mut(d_model);
                denormalise(&scratch, x, d_r, self.norm.gamma, mean, rstd, d_x, d_gamma, &mut rest[..d_model]);
            } else {
                add_to(d_x, d_r);
            }
        });
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
}
