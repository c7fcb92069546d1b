//! A bias and an activation behind what is no product: `act(x + bias)` in one pass.

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
use burn::tensor::Tensor;
use qkv::activation::{Activation, bias_activation_backward, bias_activation_forward};

use super::flex;
use super::linear::activated_twin;
use crate::memory;

#[backend_extension(Flex, Autodiff)]
pub(crate) trait BiasActivationOps: Backend {
    fn bias_activation_forward(x: FloatTensor<Self>, bias: FloatTensor<Self>, act: Activation) -> FloatTensor<Self>;

    /// `(d_x, d_bias)`.
    fn bias_activation_backward(
        d_out: FloatTensor<Self>,
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        act: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl BiasActivationOps for Flex {
    fn bias_activation_forward(x: FloatTensor<Self>, bias: FloatTensor<Self>, act: Activation) -> FloatTensor<Self> {
        let (x, bias) = (flex::contiguous(x), flex::contiguous(bias));
        let [tokens, dim] = flex::dims(&x);
        let mut out = memory::take(tokens * dim);
        bias_activation_forward(flex::slice(&x), flex::slice(&bias), act, &mut out);
        memory::give(x);
        flex::tensor(out, [tokens, dim])
    }

    fn bias_activation_backward(
        d_out: FloatTensor<Self>,
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        act: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (d_out, x, bias) = (flex::contiguous(d_out), flex::contiguous(x), flex::contiguous(bias));
        let [tokens, dim] = flex::dims(&x);
        let (mut d_x, mut d_bias) = (memory::take(tokens * dim), memory::take(dim));
        let [d, numbers, own] = [&d_out, &x, &bias].map(flex::slice);
        bias_activation_backward(d, numbers, own, act, &mut d_x, &mut d_bias);
        memory::give(d_out);
        memory::give(x);
        (flex::tensor(d_x, [tokens, dim]), flex::tensor(d_bias, [dim]))
    }
}

impl<B: BiasActivationOps, C: CheckpointStrategy> BiasActivationOps for Autodiff<B, C> {
    fn bias_activation_forward(x: FloatTensor<Self>, bias: FloatTensor<Self>, act: Activation) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct BiasActivationBackward;
        impl<B: BiasActivationOps> Backward<B, 2> for BiasActivationBackward {
            type State = (FloatTensor<B>, FloatTensor<B>, Activation);
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_out = grads.consume::<B>(&ops.node);
                let ([of_x, of_bias], (x, bias, act)) = (ops.parents, ops.state);
                let (d_x, d_bias) = B::bias_activation_backward(d_out, x, bias, act);
                for (node, gradient) in [(of_x, d_x), (of_bias, d_bias)] {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
        let nodes = [x.node(), bias.node()];
        let (x, bias) = (x.into_primitive(), bias.into_primitive());
        let out = B::bias_activation_forward(x.clone(), bias.clone(), act);
        match BiasActivationBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, bias, act), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn bias_activation_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("bias_activation has no second derivative")
    }
}

/// `act(x + bias)`, `x` `[tokens, dim]` and `bias` `[dim]`.
pub fn bias_activation(x: Tensor<2>, bias: Tensor<1>, act: Activation) -> Tensor<2> {
    if !memory::has_kernels(&x.device()) {
        return bias_activation_twin(x, bias, act);
    }
    assert_eq!(x.dims()[1], bias.dims()[0], "bias_activation: rows of {:?} and a bias of {:?}", x.dims(), bias.dims());
    Tensor::from_dispatch(Dispatch::bias_activation_forward(x.into_dispatch(), bias.into_dispatch(), act))
}

/// The same as [`bias_activation`], composed of Burn's own operations.
pub fn bias_activation_twin(x: Tensor<2>, bias: Tensor<1>, act: Activation) -> Tensor<2> {
    activated_twin(x + bias.unsqueeze(), act)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn bias_activation_and_its_gradients_equal_the_twin() {
        for act in [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::Elu] {
            for [tokens, dim] in [[1, 1], [7, 5], [113, 33]] {
                let (x, bias) = (random([tokens, dim], 1).require_grad(), random([dim], 2).require_grad());
                let weights = random([tokens, dim], 3);
                let ours = bias_activation(x.clone(), bias.clone(), act);
                let twin = bias_activation_twin(x.clone(), bias.clone(), act);
                assert_close(ours.clone(), twin.clone(), 1e-6);
                let [ours, twin] = [ours, twin].map(|out| (out * weights.clone()).sum().backward());
                assert_close(x.grad(&ours).expect("of x"), x.grad(&twin).expect("of x"), 1e-5);
                assert_close(bias.grad(&ours).expect("of bias"), bias.grad(&twin).expect("of bias"), 1e-4);
            }
        }
    }
}
