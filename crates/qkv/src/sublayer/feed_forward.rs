//! The fully connected half of a block.
//!
//! ```text
//! forward    h = norm(x);  z = h · up + b_up;  a = dropout(act(z));  r = x + dropout(a · down + b_down);  out = r
//!            (or h = x and out = norm(r), where the norm stands behind)
//! backward   d_r = d_out (or through the norm);   d_s = dropout(d_r);   d_b_down = Σ d_s;   d_down = aᵀ · d_s
//!            d_a = d_s · downᵀ;   d_z = dropout(d_a) · act'(z);   d_b_up = Σ d_z;   d_up = hᵀ · d_z
//!            d_h = d_z · upᵀ;     d_x = d_r + (d_h through the norm)
//! ```

use super::{Norm, NormPlace, part, sum_columns};
use crate::activation::Activation;
use crate::math::add_to;
use crate::norm::denormalise;
use crate::pool::{Buffer, Pool};
use crate::product::{
    Columns, Dropping, Finish, Gradient, Panels, Place, Product, RowBlocks, Rows, Sink, Weights, for_each,
    pack_dropped, product, weight_gradients,
};
use crate::random::Key;

/// The sub-layer with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct FeedForward<'a> {
    /// The normalisation.
    pub norm: Norm<'a>,
    /// `[d_model, d_ff]`.
    pub up_weight: &'a [f32],
    /// `[d_ff]`.
    pub up_bias: &'a [f32],
    /// `[d_ff, d_model]`.
    pub down_weight: &'a [f32],
    /// `[d_model]`.
    pub down_bias: &'a [f32],
    /// Between the two.
    pub activation: Activation,
    /// Rate and key of the dropout behind the activation.
    pub hidden_dropout: Option<(f32, Key)>,
    /// Rate and key of the dropout before the residual.
    pub dropout: Option<(f32, Key)>,
}

/// What the backward pass needs of the forward pass, beside its input.
#[derive(Debug)]
pub struct FeedForwardSaved {
    /// z, in slabs.
    pre: Buffer,
    /// What is normalised behind: r, rows.
    sum: Option<Buffer>,
    /// Mean and deviation of each row that is normalised.
    mean: Buffer,
    rstd: Buffer,
}

/// Where the gradients go; all are overwritten. Shapes are those of what they are the gradients of.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is the gradient of what has its name")]
pub struct FeedForwardGradients<'a> {
    pub x: &'a mut [f32],
    pub gamma: &'a mut [f32],
    pub beta: &'a mut [f32],
    pub up_weight: &'a mut [f32],
    pub up_bias: &'a mut [f32],
    pub down_weight: &'a mut [f32],
    pub down_bias: &'a mut [f32],
}

impl FeedForward<'_> {
    /// The weights as the forward pass wants them.
    pub fn panels(&self, pool: &Pool) -> [Panels; 2] {
        let (d_model, d_ff) = self.dims();
        let up = Weights::SideBySide { parts: &[self.up_weight], inner: d_model };
        let down = Weights::SideBySide { parts: &[self.down_weight], inner: d_ff };
        Panels::of([up, down], pool)
    }

    fn dims(&self) -> (usize, usize) {
        (self.down_bias.len(), self.up_bias.len())
    }

    fn check(&self, x: &[f32], other: &[f32]) -> RowBlocks {
        let (d_model, d_ff) = self.dims();
        let tokens = x.len().checked_div(d_model).unwrap_or(0);
        for (name, found, expected) in [
            ("x", x.len(), tokens * d_model),
            ("its counterpart", other.len(), x.len()),
            ("gamma", self.norm.gamma.len(), d_model),
            ("beta", self.norm.beta.len(), d_model),
            ("up_weight", self.up_weight.len(), d_model * d_ff),
            ("down_weight", self.down_weight.len(), d_model * d_ff),
        ] {
            assert_eq!(found, expected, "feed_forward: {name} has {found} numbers, expected {expected}");
        }
        assert!(d_model > 0 && d_ff > 0, "feed_forward: a width of 0");
        RowBlocks::of(tokens)
    }

    /// `out` of `x`, both `[tokens, d_model]`; `panels` are those of [`FeedForward::panels`]. With `keep`, what the backward pass
    /// needs is kept.
    ///
    /// # Panics
    ///
    /// If a slice has another length than its shape.
    pub fn forward(
        &self,
        x: &[f32],
        panels: &[Panels; 2],
        keep: bool,
        out: &mut [f32],
        pool: &Pool,
    ) -> Option<FeedForwardSaved> {
        let blocks = self.check(x, out);
        let (d_model, d_ff) = self.dims();
        let [up, down] = panels;
        assert!(
            up.dims() == (d_model, d_ff) && down.dims() == (d_ff, d_model),
            "feed_forward: panels of other weights"
        );
        let [hidden_drop, drop] = [self.hidden_dropout, self.dropout].map(Dropping::new);
        let before = self.norm.place == NormPlace::Before;
        let mut saved = keep.then(|| FeedForwardSaved {
            pre: pool.take(blocks.slabs(d_ff)),
            sum: (!before).then(|| pool.take(x.len())),
            mean: pool.take(blocks.rows),
            rstd: pool.take(blocks.rows),
        });
        let [pre, sum, mean, rstd] = match &mut saved {
            Some(saved) => [
                &mut saved.pre[..],
                saved.sum.as_deref_mut().unwrap_or_default(),
                &mut saved.mean[..],
                &mut saved.rstd[..],
            ],
            None => [&mut [][..], &mut [], &mut [], &mut []],
        };
        let rows_len = blocks.height * d_model;
        let (mut pres, mut sums) = (pre.chunks_mut(blocks.slabs_of_one(d_ff)), sum.chunks_mut(rows_len));
        let (mut means, mut rstds) = (mean.chunks_mut(blocks.height), rstd.chunks_mut(blocks.height));
        let tasks = x.chunks(rows_len).zip(out.chunks_mut(rows_len)).enumerate().map(|(block, (x, out))| {
            (blocks.first(block), x, out, part(&mut pres), part(&mut sums), [part(&mut means), part(&mut rstds)])
        });
        for_each(2 * blocks.rows * d_model * d_ff, tasks, |(first_row, x, out, pre, sum, stats)| {
            let (height, rows) = (blocks.height, x.len() / d_model);
            let [mean, rstd] = stats;
            let mut own = mean.is_empty().then(|| pool.take(2 * rows));
            let (mean, rstd) = own.as_deref_mut().map_or((mean, rstd), |own| own.split_at_mut(rows));
            let mut left = pool.take(blocks.slabs_of_one(d_model));
            let mut hidden = pool.take(blocks.slabs_of_one(d_ff));
            self.norm.pack(x, height, &mut left, (mean, rstd));
            let sink = Sink { out: &mut hidden, place: Place::Slabs { height } };
            let pre = (!pre.is_empty()).then_some(pre);
            product(
                &Product { left: &left, height, rows, panels: up },
                &mut Finish::Activate {
                    bias: self.up_bias,
                    act: self.activation,
                    pre,
                    drop: hidden_drop,
                    first_row,
                    sink,
                },
            );
            let second = Product { left: &hidden, height, rows, panels: down };
            let residual = |out| Finish::Residual { bias: self.down_bias, drop, first_row, residual: x, out };
            if before {
                return product(&second, &mut residual(out));
            }
            let mut own_sum = (sum.is_empty()).then(|| pool.take(x.len()));
            let sum = own_sum.as_deref_mut().unwrap_or(sum);
            product(&second, &mut residual(sum));
            self.norm.rows(sum, out, (mean, rstd));
        });
        saved
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
        mut saved: FeedForwardSaved,
        gradients: FeedForwardGradients<'_>,
        pool: &Pool,
    ) {
        let blocks = self.check(x, d_out);
        let (d_model, d_ff) = self.dims();
        let before = self.norm.place == NormPlace::Before;
        assert!(
            saved.pre.len() == blocks.slabs(d_ff) && saved.mean.len() == blocks.rows && saved.sum.is_none() == before,
            "feed_forward: what was saved is of another batch"
        );
        let [hidden_drop, drop] = [self.hidden_dropout, self.dropout].map(Dropping::new);
        let up = Weights::Transposed { parts: &[self.up_weight], columns: d_model };
        let down = Weights::Transposed { parts: &[self.down_weight], columns: d_ff };
        let [up, down] = Panels::of([up, down], pool);
        let mut h = pool.take(blocks.slabs(d_model));
        let mut d_s = pool.take(blocks.slabs(d_model));
        let mut d_z = pool.take(blocks.slabs(d_ff));
        let per_block = 3 * d_model + d_ff;
        let mut sums = pool.take(blocks.count() * per_block);

        let (height, rows_len) = (blocks.height, blocks.height * d_model);
        let slabs = blocks.slabs_of_one(d_model);
        let mut part_sums = saved.sum.as_deref().unwrap_or_default().chunks(rows_len);
        let inputs = d_out.chunks(rows_len).zip(x.chunks(rows_len));
        let stats = saved.mean.chunks(height).zip(saved.rstd.chunks(height));
        let kept = saved.pre.chunks_mut(blocks.slabs_of_one(d_ff)).zip(d_z.chunks_mut(blocks.slabs_of_one(d_ff)));
        let operands = h.chunks_mut(slabs).zip(d_s.chunks_mut(slabs)).zip(kept);
        let results = gradients.x.chunks_mut(rows_len).zip(sums.chunks_mut(per_block));
        let tasks = inputs
            .zip(stats)
            .zip(operands.zip(results))
            .enumerate()
            .map(|(block, task)| (blocks.first(block), part_sums.next().unwrap_or_default(), task));
        for_each(2 * blocks.rows * d_model * d_ff, tasks, |(first_row, sum, task)| {
            let (((d_out, x), (mean, rstd)), (((h, d_s), (pre, d_z)), (d_x, sums))) = task;
            let rows = x.len() / d_model;
            let (d_gamma, rest) = sums.split_at_mut(d_model);
            let (d_beta, rest) = rest.split_at_mut(d_model);
            let (d_down_bias, d_up_bias) = rest.split_at_mut(d_model);
            d_gamma.fill(0.0);
            d_beta.fill(0.0);
            d_up_bias.fill(0.0);
            // d_h where the norm stands before, d_r where it stands behind
            let mut scratch = pool.take(x.len());
            self.norm.pack_again(x, height, h, (mean, rstd));
            if !before {
                // undoes `out = norm(r)`
                denormalise(d_out, sum, &[], self.norm.gamma, mean, rstd, &mut scratch, d_gamma, d_beta);
            }
            let d_r = if before { d_out } else { &scratch[..] };
            // undoes `r = x + dropout(a · down + b_down)`, then `a = dropout(act(z))`
            pack_dropped(Rows::dense(d_r, d_model), first_row, drop, height, d_s, d_down_bias);
            let sink = Sink { out: d_z, place: Place::Slabs { height } };
            product(
                &Product { left: d_s, height, rows, panels: &down },
                &mut Finish::Deactivate {
                    act: self.activation,
                    pre,
                    drop: hidden_drop,
                    first_row,
                    d_bias: d_up_bias,
                    sink,
                    columns: d_ff,
                },
            );
            // undoes `z = h · up + b_up`, then `h = norm(x)`
            let up = Product { left: d_z, height, rows, panels: &up };
            let plain = |out| Finish::Plain { bias: None, sink: Sink { out, place: Place::Rows { stride: d_model } } };
            if before {
                product(&up, &mut plain(&mut scratch));
                denormalise(&scratch, x, d_out, self.norm.gamma, mean, rstd, d_x, d_gamma, d_beta);
            } else {
                product(&up, &mut plain(d_x));
                add_to(d_x, &scratch);
            }
        });
        let column = |first: usize, out: &mut [f32]| sum_columns(&sums, per_block, first, out);
        column(0, gradients.gamma);
        column(d_model, gradients.beta);
        column(2 * d_model, gradients.down_bias);
        column(3 * d_model, gradients.up_bias);
        // (`pre` holds a by now)
        let [h, d_s] = [&h, &d_s].map(|slabs| Columns::all(blocks, slabs, d_model));
        let [a, d_z] = [&saved.pre, &d_z].map(|slabs| Columns::all(blocks, slabs, d_ff));
        let up = Gradient { left: h, right: d_z, out: gradients.up_weight };
        let down = Gradient { left: a, right: d_s, out: gradients.down_weight };
        weight_gradients(blocks, [up, down]);
    }
}
