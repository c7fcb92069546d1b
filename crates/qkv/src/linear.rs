//! The fully connected layer: product, bias and activation in one pass.
//!
//! ```text
//! forward    z = x · weight + bias;  out = act(z)
//! backward   d_z = d_out · act'(z);  d_bias = Σ_tokens d_z
//!            d_x = d_z · weightᵀ;    d_weight = xᵀ · d_z
//! ```

use crate::activation::Activation;
use crate::math::sum_rows;
use crate::pool::{Buffer, Pool};
use crate::product::{
    Columns, Finish, Gradient, Panels, Place, Product, RowBlocks, Rows, Sink, deactivate_rows, for_each, pack,
    pack_dropped, padded, product, weight_gradient_alone, weight_gradients,
};
use crate::sublayer::part;

/// What the backward pass needs of the forward pass, beside its input.
#[derive(Debug)]
pub struct LinearSaved {
    /// z in slabs; nothing where its slope is 1 everywhere.
    pre: Option<Buffer>,
}

/// `out = act(x · weights + bias)` with `x` `[tokens, dim_in]`, `weights` the panels of `[dim_in, dim_out]`, `bias` `[dim_out]`
/// and `out` `[tokens, dim_out]`. With `keep`, what the backward pass needs is kept.
///
/// # Panics
///
/// If a slice has another length than its shape.
pub fn linear_forward(
    x: &[f32],
    weights: &Panels,
    bias: &[f32],
    act: Activation,
    keep: bool,
    out: &mut [f32],
    pool: &Pool,
) -> LinearSaved {
    let (dim_in, dim_out) = weights.dims();
    assert!(dim_in > 0 || dim_out == 0, "linear: a width of 0");
    assert_eq!(bias.len(), dim_out, "linear: bias has {} numbers, expected {dim_out}", bias.len());
    let tokens = out.len().checked_div(dim_out).unwrap_or(0);
    assert_eq!(out.len(), tokens * dim_out, "linear: out has {} numbers, expected rows of {dim_out}", out.len());
    assert_eq!(x.len(), tokens * dim_in, "linear: x has {} numbers, expected [{tokens}, {dim_in}]", x.len());
    let blocks = RowBlocks::of(tokens);
    let mut pre = (keep && act != Activation::Identity).then(|| pool.take(blocks.slabs(dim_out)));
    if tokens == 0 {
        return LinearSaved { pre };
    }
    let mut pres = pre.as_deref_mut().unwrap_or_default().chunks_mut(blocks.slabs_of_one(dim_out));
    let rows = x.chunks(blocks.height * dim_in);
    let tasks = rows.zip(out.chunks_mut(blocks.height * dim_out)).map(|(x, out)| (x, out, part(&mut pres)));
    for_each(tokens * dim_in * dim_out, tasks, |(x, out, pre)| {
        let rows = out.len() / dim_out;
        let mut left = pool.take(blocks.slabs_of_one(dim_in));
        pack(Rows::dense(x, dim_in), blocks.height, &mut left);
        let product_of = Product { left: &left, height: blocks.height, rows, panels: weights };
        if pre.is_empty() {
            let sink = Sink { out, place: Place::Rows { stride: dim_out } };
            let mut finish = match act {
                Activation::Identity => Finish::Plain { bias: Some(bias), sink },
                act => Finish::Activate { bias, act, pre: None, drop: None, first_row: 0, sink },
            };
            product(&product_of, &mut finish);
            return;
        }
        // z stays in slabs, and what leaves is rows
        let place = Place::Slabs { height: blocks.height };
        let mut hidden = pool.take(blocks.slabs_of_one(dim_out));
        let sink = Sink { out: &mut hidden, place };
        product(&product_of, &mut Finish::Activate { bias, act, pre: Some(pre), drop: None, first_row: 0, sink });
        for (row, out) in out.chunks_exact_mut(dim_out).enumerate() {
            place.copy_row(&hidden, row, out);
        }
    });
    LinearSaved { pre }
}

/// Where the gradients of [`linear_forward`] go; all are overwritten.
#[derive(Debug)]
pub struct LinearGradients<'a> {
    /// `[tokens, dim_in]`, if it is wanted.
    pub x: Option<&'a mut [f32]>,
    /// `[dim_in, dim_out]`.
    pub weight: &'a mut [f32],
    /// `[dim_out]`.
    pub bias: &'a mut [f32],
}

/// The gradients of [`linear_forward`] with respect to `x`, `weight` and `bias`, given that of its result.
///
/// # Panics
///
/// If a slice has another length than its shape.
pub fn linear_backward(
    d_out: &[f32],
    x: &[f32],
    weight: &[f32],
    act: Activation,
    saved: LinearSaved,
    gradients: LinearGradients<'_>,
    pool: &Pool,
) {
    let dim_out = gradients.bias.len();
    let (tokens, dim_in) =
        (d_out.len().checked_div(dim_out).unwrap_or(0), weight.len().checked_div(dim_out).unwrap_or(0));
    for (name, found, expected) in [
        ("d_out", d_out.len(), tokens * dim_out),
        ("x", x.len(), tokens * dim_in),
        ("weight", weight.len(), dim_in * dim_out),
        ("d_weight", gradients.weight.len(), dim_in * dim_out),
        ("d_x", gradients.x.as_ref().map_or(tokens * dim_in, |d_x| d_x.len()), tokens * dim_in),
    ] {
        assert_eq!(found, expected, "linear: {name} has {found} numbers, expected {expected}");
    }
    let blocks = RowBlocks::of(tokens);
    let pre = saved.pre;
    assert!(
        pre.is_some() == (act != Activation::Identity)
            && pre.as_ref().is_none_or(|pre| pre.len() == blocks.slabs(dim_out)),
        "linear: what was saved is not of {tokens} rows of {dim_out} numbers"
    );
    assert!(dim_in > 0 || dim_out == 0, "linear: a width of 0");
    if tokens == 0 || dim_out == 0 {
        gradients.weight.fill(0.0);
        gradients.bias.fill(0.0);
        return;
    }
    let transposed = gradients.x.is_some().then(|| Panels::transposed(&[weight], dim_in, pool));
    let undo = Undo { height: blocks.height, dims: [dim_in, dim_out], act, transposed };
    let mut sums = pool.take(blocks.count() * dim_out);
    let group = blocks_together(blocks, dim_in, dim_out);
    let rows = group * blocks.height;
    let mut d_xs = gradients.x.unwrap_or_default().chunks_mut(rows * dim_in);
    let mut pres = pre.as_deref().unwrap_or_default().chunks(group * blocks.slabs_of_one(dim_out));
    let inputs = d_out.chunks(rows * dim_out).zip(x.chunks(rows * dim_in)).zip(sums.chunks_mut(group * dim_out));
    let tasks = inputs.map(|((d_out, x), sums)| {
        let (d_x, pre) = (part(&mut d_xs), pres.next().unwrap_or_default());
        Rowwise { d_out, x, pre, d_x, sums }
    });
    let work = tokens * dim_in * dim_out;
    if group == 1 {
        let (mut x_slabs, mut d_z) = (pool.take(blocks.slabs(dim_in)), pool.take(blocks.slabs(dim_out)));
        let slabs = x_slabs.chunks_mut(blocks.slabs_of_one(dim_in)).zip(d_z.chunks_mut(blocks.slabs_of_one(dim_out)));
        for_each(work, tasks.zip(slabs), |(rowwise, (x_slabs, d_z))| undo.block(rowwise, x_slabs, d_z));
        let (left, right) = (Columns::all(blocks, &x_slabs, dim_in), Columns::all(blocks, &d_z, dim_out));
        weight_gradients(blocks, [Gradient { left, right, out: gradients.weight }]);
    } else {
        let mut partial = pool.take(blocks.count().div_ceil(group) * weight.len());
        for_each(work, tasks.zip(partial.chunks_mut(weight.len())), |(rowwise, out)| {
            let own = RowBlocks { rows: rowwise.x.len() / dim_in, height: blocks.height };
            let (mut x_slabs, mut d_z) = (pool.take(own.slabs(dim_in)), pool.take(own.slabs(dim_out)));
            let slabs = x_slabs.chunks_mut(own.slabs_of_one(dim_in)).zip(d_z.chunks_mut(own.slabs_of_one(dim_out)));
            rowwise.by_block(&undo).zip(slabs).for_each(|(block, (x_slabs, d_z))| undo.block(block, x_slabs, d_z));
            let (left, right) = (Columns::all(own, &x_slabs, dim_in), Columns::all(own, &d_z, dim_out));
            weight_gradient_alone(own, Gradient { left, right, out });
        });
        sum_rows(&partial, gradients.weight);
    }
    sum_rows(&sums, gradients.bias);
}

/// Numbers in the slabs of blocks that are done together: half of a second-level cache of 512 KiB.
const TOGETHER: usize = 64 << 10;

/// How many blocks add to the gradient of the weights before others do: as many as leave their slabs in the cache, where the batch has many
/// rows and the weights are few, so that it is not worth writing all slabs to memory and reading them again. Otherwise 1, and all slabs are kept.
fn blocks_together(blocks: RowBlocks, dim_in: usize, dim_out: usize) -> usize {
    let group = TOGETHER / (blocks.slabs_of_one(dim_in) + blocks.slabs_of_one(dim_out)).max(1);
    let sums = dim_in * dim_out * blocks.count().div_ceil(group.max(1));
    if group > 1 && blocks.count() >= 8 * group && sums <= blocks.rows * (dim_in + dim_out) / 4 { group } else { 1 }
}

/// Rows of a batch, and what becomes of them.
struct Rowwise<'a> {
    d_out: &'a [f32],
    x: &'a [f32],
    /// In slabs; empty if it was not kept, as `d_x` if it is not wanted.
    pre: &'a [f32],
    d_x: &'a mut [f32],
    /// The gradient of the bias by each block.
    sums: &'a mut [f32],
}

impl<'a> Rowwise<'a> {
    /// One block after the other.
    fn by_block(self, undo: &Undo) -> impl Iterator<Item = Rowwise<'a>> {
        let ([dim_in, dim_out], height) = (undo.dims, undo.height);
        let mut d_xs = self.d_x.chunks_mut(height * dim_in);
        let mut pres = self.pre.chunks(height * padded(dim_out));
        let inputs = self.d_out.chunks(height * dim_out).zip(self.x.chunks(height * dim_in));
        inputs.zip(self.sums.chunks_mut(dim_out)).map(move |((d_out, x), sums)| {
            let (d_x, pre) = (part(&mut d_xs), pres.next().unwrap_or_default());
            Rowwise { d_out, x, pre, d_x, sums }
        })
    }
}

/// The way back of one block.
struct Undo {
    height: usize,
    /// Numbers of a row that comes in, and of one that goes out.
    dims: [usize; 2],
    act: Activation,
    /// Of the weights, if `d_x` is wanted.
    transposed: Option<Panels>,
}

impl Undo {
    /// All but the gradient of the weights, for which both operands are left in slabs.
    fn block(&self, block: Rowwise<'_>, x_slabs: &mut [f32], d_z: &mut [f32]) {
        let (Rowwise { d_out, x, pre, d_x, sums }, [dim_in, dim_out]) = (block, self.dims);
        let rows = d_out.len() / dim_out;
        pack(Rows::dense(x, dim_in), self.height, x_slabs);
        // undoes `out = act(z)`, and sums what undoes `z = … + bias`
        pack_dropped(Rows::dense(d_out, dim_out), 0, None, self.height, d_z, sums);
        if !pre.is_empty() {
            deactivate_rows(self.act, rows, dim_out, self.height, pre, d_z, sums);
        }
        // undoes `x · weight`
        if let Some(panels) = &self.transposed {
            let sink = Sink { out: d_x, place: Place::Rows { stride: dim_in } };
            let product_of = Product { left: d_z, height: self.height, rows, panels };
            product(&product_of, &mut Finish::Plain { bias: None, sink });
        }
    }
}

#[cfg(test)]
mod tests;
