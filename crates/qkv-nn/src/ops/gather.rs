//! Sums of table rows: embeddings, packing and unpacking, windows, all with one gradient.

use std::sync::Arc;

use burn::backend::{
    Backend, Dispatch, Flex,
    autodiff::{
        Autodiff,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::FloatTensor,
};
use burn::tensor::{Int, Tensor, TensorData};
use qkv::gather::{self, NONE};

use super::flex;
use crate::memory;

#[backend_extension(Flex, Autodiff)]
pub(crate) trait GatherOps: Backend {
    fn gather_sum_forward(table: FloatTensor<Self>, ids: Arc<[u32]>, width: usize) -> FloatTensor<Self>;
    fn gather_sum_backward(d_out: FloatTensor<Self>, ids: Arc<[u32]>, width: usize, rows: usize) -> FloatTensor<Self>;
}

impl GatherOps for Flex {
    fn gather_sum_forward(table: FloatTensor<Self>, ids: Arc<[u32]>, width: usize) -> FloatTensor<Self> {
        let table = flex::contiguous(table);
        let [_, dim] = flex::dims(&table);
        let mut out = memory::take(ids.len() / width * dim);
        gather::gather_sum(flex::slice(&table), dim, &ids, width, &mut out);
        flex::tensor(out, [ids.len() / width, dim])
    }

    fn gather_sum_backward(d_out: FloatTensor<Self>, ids: Arc<[u32]>, width: usize, rows: usize) -> FloatTensor<Self> {
        let d_out = flex::contiguous(d_out);
        let [_, dim] = flex::dims(&d_out);
        let mut d_table = memory::take(rows * dim);
        gather::scatter_sum(flex::slice(&d_out), dim, &ids, width, rows, &mut d_table);
        memory::give(d_out);
        flex::tensor(d_table, [rows, dim])
    }
}

impl<B: GatherOps, C: CheckpointStrategy> GatherOps for Autodiff<B, C> {
    fn gather_sum_forward(table: FloatTensor<Self>, ids: Arc<[u32]>, width: usize) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct GatherBackward;
        impl<B: GatherOps> Backward<B, 1> for GatherBackward {
            type State = (Arc<[u32]>, usize, usize);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_out = grads.consume::<B>(&ops.node);
                let ([table], (ids, width, rows)) = (ops.parents, ops.state);
                if let Some(node) = table {
                    grads.register::<B>(node.id, B::gather_sum_backward(d_out, ids, width, rows));
                }
            }
        }
        use burn::backend::TensorMetadata;
        let node = table.node();
        let table = table.into_primitive();
        let [rows, _] = table.shape().dims();
        let out = B::gather_sum_forward(table, ids.clone(), width);
        match GatherBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((ids, width, rows), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn gather_sum_backward(_: FloatTensor<Self>, _: Arc<[u32]>, _: usize, _: usize) -> FloatTensor<Self> {
        panic!("gather_sum has no second derivative")
    }
}

/// `out[i] = Σ_f table[ids[i · width + f]]`, where an id of [`NONE`] adds nothing.
///
/// Shapes: `table` `[rows, dim]`, `ids` `n · width` long; the result is `[n, dim]`. An embedding is `width = 1`; packing
/// and unpacking are the same with row numbers as ids, [`NONE`] giving the zero rows of the padding.
///
/// # Panics
/// If an id is neither below `rows` nor [`NONE`], or `ids` is no multiple of `width`.
pub fn gather_sum(table: Tensor<2>, ids: Arc<[u32]>, width: usize) -> Tensor<2> {
    if !memory::has_kernels(&table.device()) {
        return gather_sum_twin(table, ids, width);
    }
    assert!(
        width > 0 && ids.len().is_multiple_of(width),
        "gather_sum: {} ids do not divide by the width {width}",
        ids.len()
    );
    Tensor::from_dispatch(Dispatch::gather_sum_forward(table.into_dispatch(), ids, width))
}

/// The same as [`gather_sum`], composed of Burn's own operations.
pub fn gather_sum_twin(table: Tensor<2>, ids: Arc<[u32]>, width: usize) -> Tensor<2> {
    let ([_, dim], device) = (table.dims(), table.device());
    // NONE reads a row of zeros put in front of the table.
    let table = Tensor::cat(vec![Tensor::zeros([1, dim], &device), table], 0);
    let ids: Vec<i64> = ids.iter().map(|&id| if id == NONE { 0 } else { i64::from(id) + 1 }).collect();
    let count = ids.len();
    let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [count]), &device);
    table.select(0, ids).reshape([count / width, width, dim]).sum_dim(1).reshape([count / width, dim])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};
    use qkv::random::Key;

    #[test]
    fn gather_sum_and_its_gradient_equal_the_twin() {
        for (rows, dim, count, width) in [(1, 1, 1, 1), (7, 5, 11, 3), (113, 33, 59, 8)] {
            let table = random([rows, dim], 1).require_grad();
            let key = Key::new(2);
            let ids: Arc<[u32]> = (0..(count * width) as u64)
                .map(|i| key.bits(i) % (rows as u32 + 1))
                .map(|id| if id == rows as u32 { NONE } else { id })
                .collect();
            let d_out = random([count, dim], 3);
            let ours = gather_sum(table.clone(), ids.clone(), width);
            let twin = gather_sum_twin(table.clone(), ids, width);
            assert_close(ours.clone(), twin.clone(), 1e-6);
            let (a, b) = ((ours * d_out.clone()).sum().backward(), (twin * d_out).sum().backward());
            assert_close(table.grad(&a).expect("table"), table.grad(&b).expect("table"), 1e-5);
        }
    }
}
