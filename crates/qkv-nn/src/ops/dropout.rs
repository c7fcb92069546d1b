//! Dropout from a counter-based generator: the mask is a function of the key, so the backward pass makes it again.

use burn::backend::{
    Backend, Dispatch, Flex, TensorMetadata,
    autodiff::{
        Autodiff,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::FloatTensor,
};
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;
use qkv::random::Key;

use super::flex;
use crate::memory;

#[backend_extension(Flex, Autodiff)]
pub(crate) trait DropoutOps: Backend {
    fn dropout_forward(x: FloatTensor<Self>, rate: f32, key: Key) -> FloatTensor<Self>;
}

impl DropoutOps for Flex {
    fn dropout_forward(x: FloatTensor<Self>, rate: f32, key: Key) -> FloatTensor<Self> {
        let shape = x.shape();
        let x = flex::contiguous(x);
        let mut out = memory::take(shape.num_elements());
        qkv::dropout::dropout(flex::slice(&x), rate, key, &mut out);
        memory::give(x);
        FlexTensor::from_data(TensorData::new(out, shape))
    }
}

impl<B: DropoutOps, C: CheckpointStrategy> DropoutOps for Autodiff<B, C> {
    fn dropout_forward(x: FloatTensor<Self>, rate: f32, key: Key) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct DropoutBackward;
        impl<B: DropoutOps> Backward<B, 1> for DropoutBackward {
            type State = (f32, Key);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_out = grads.consume::<B>(&ops.node);
                let ([x], (rate, key)) = (ops.parents, ops.state);
                if let Some(node) = x {
                    // the same mask and the same scale undo the forward pass
                    grads.register::<B>(node.id, B::dropout_forward(d_out, rate, key));
                }
            }
        }
        let node = x.node();
        let out = B::dropout_forward(x.into_primitive(), rate, key);
        match DropoutBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((rate, key), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

/// Zeroes each element with probability `rate` and scales the others by `1 / (1 − rate)` (Srivastava et al., 2014).
///
/// Element `i` (in row-major order) is kept or not by draw `i` of `key`: no state, no order of calls.
pub fn dropout<const D: usize>(x: Tensor<D>, rate: f32, key: Key) -> Tensor<D> {
    if !memory::has_kernels(&x.device()) {
        return dropout_twin(x, rate, key);
    }
    Tensor::from_dispatch(Dispatch::dropout_forward(x.into_dispatch(), rate, key))
}

/// The same as [`dropout`], composed of Burn's own operations: the mask is made on the host.
pub fn dropout_twin<const D: usize>(x: Tensor<D>, rate: f32, key: Key) -> Tensor<D> {
    let shape = x.dims();
    let ones = vec![1.0; shape.iter().product()];
    let mut mask = vec![0.0; ones.len()];
    qkv::dropout::dropout(&ones, rate, key, &mut mask);
    let mask = Tensor::<D>::from_data(TensorData::new(mask, shape), &x.device());
    x * mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, values};

    #[test]
    fn dropout_and_its_gradient_equal_the_twin() {
        let x = random([13, 4, 7], 1).require_grad();
        let d_out = random([13, 4, 7], 2);
        let key = Key::new(5);
        let (ours, twin) = (dropout(x.clone(), 0.3, key), dropout_twin(x.clone(), 0.3, key));
        assert_close(ours.clone(), twin.clone(), 1e-6);
        let dropped = values(ours.clone()).iter().filter(|v| **v == 0.0).count();
        assert!((60..170).contains(&dropped), "{dropped} of 364 dropped at rate 0.3");
        let (a, b) = ((ours * d_out.clone()).sum().backward(), (twin * d_out).sum().backward());
        assert_close(x.grad(&a).expect("x"), x.grad(&b).expect("x"), 1e-6);
    }

    #[test]
    fn a_transposed_view_is_dropped_in_its_own_order() {
        let x = random([5, 9], 1);
        let key = Key::new(5);
        assert_close(dropout(x.clone().transpose(), 0.5, key), dropout_twin(x.transpose(), 0.5, key), 1e-6);
    }
}
