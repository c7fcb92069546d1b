//! Layer normalisation over the last axis.

use burn::backend::{
    AutodiffBackend, Backend, Dispatch, Flex,
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
use qkv::norm;

use super::flex;
use crate::memory;

/// Added to the variance before its root is taken.
pub const LAYER_NORM_EPSILON: f32 = 1e-5;

#[backend_extension(Flex, Autodiff)]
pub(crate) trait LayerNormOps: Backend {
    /// `(out, mean, rstd)`.
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `(d_x, d_gamma, d_beta)`.
    fn layer_norm_backward(
        d_out: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        rstd: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl LayerNormOps for Flex {
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, gamma, beta) = (flex::contiguous(x), flex::contiguous(gamma), flex::contiguous(beta));
        let [tokens, dim] = flex::dims(&x);
        let (mut out, mut mean, mut rstd) = (memory::take(tokens * dim), memory::take(tokens), memory::take(tokens));
        let (gamma, beta) = (flex::slice(&gamma), flex::slice(&beta));
        norm::layer_norm_forward(flex::slice(&x), gamma, beta, LAYER_NORM_EPSILON, &mut out, &mut mean, &mut rstd);
        (flex::tensor(out, [tokens, dim]), flex::tensor(mean, [tokens]), flex::tensor(rstd, [tokens]))
    }

    fn layer_norm_backward(
        d_out: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        rstd: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (d_out, x, gamma) = (flex::contiguous(d_out), flex::contiguous(x), flex::contiguous(gamma));
        let [tokens, dim] = flex::dims(&x);
        let (mut d_x, mut d_gamma, mut d_beta) = (memory::take(tokens * dim), memory::take(dim), memory::take(dim));
        norm::layer_norm_backward(
            flex::slice(&d_out),
            flex::slice(&x),
            flex::slice(&gamma),
            flex::slice(&mean),
            flex::slice(&rstd),
            &mut d_x,
            &mut d_gamma,
            &mut d_beta,
        );
        memory::give(d_out);
        memory::give(x);
        (flex::tensor(d_x, [tokens, dim]), flex::tensor(d_gamma, [dim]), flex::tensor(d_beta, [dim]))
    }
}

impl<B: LayerNormOps, C: CheckpointStrategy> LayerNormOps for Autodiff<B, C> {
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct LayerNormBackward;
        impl<B: LayerNormOps> Backward<B, 3> for LayerNormBackward {
            type State = [FloatTensor<B>; 4];
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_out = grads.consume::<B>(&ops.node);
                let [x, gamma, mean, rstd] = ops.state;
                let (d_x, d_gamma, d_beta) = B::layer_norm_backward(d_out, x, gamma, mean, rstd);
                for (parent, gradient) in ops.parents.into_iter().zip([d_x, d_gamma, d_beta]) {
                    if let Some(node) = parent {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
        let nodes = [x.node(), gamma.node(), beta.node()];
        let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
        let (out, mean, rstd) = B::layer_norm_forward(x.clone(), gamma.clone(), beta);
        let untracked = (Self::from_inner(mean.clone()), Self::from_inner(rstd.clone()));
        let out = match LayerNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([x, gamma, mean, rstd], out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        };
        (out, untracked.0, untracked.1)
    }

    fn layer_norm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("layer_norm has no second derivative")
    }
}

/// `(x − mean) / √(variance + ε) · gamma + beta` over the last axis (Ba, Kiros and Hinton, 2016).
///
/// Shapes: `x` `[tokens, dim]`, `gamma` and `beta` `[dim]`.
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<2> {
    if !memory::has_kernels(&x.device()) {
        return layer_norm_twin(x, gamma, beta);
    }
    let (out, _, _) = Dispatch::layer_norm_forward(x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(out)
}

/// The same as [`layer_norm`], composed of Burn's own operations.
pub fn layer_norm_twin(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<2> {
    let mean = x.clone().mean_dim(1);
    let centred = x - mean;
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    centred / (variance + LAYER_NORM_EPSILON).sqrt() * gamma.unsqueeze() + beta.unsqueeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn layer_norm_and_its_gradients_equal_the_twin() {
        for [tokens, dim] in [[1, 2], [5, 59], [113, 64]] {
            let x = (random([tokens, dim], 1) * 3.0 + 1.5).detach().require_grad();
            let (gamma, beta) = (random([dim], 2).require_grad(), random([dim], 3).require_grad());
            let d_out = random([tokens, dim], 4);
            let ours = layer_norm(x.clone(), gamma.clone(), beta.clone());
            let twin = layer_norm_twin(x.clone(), gamma.clone(), beta.clone());
            assert_close(ours.clone(), twin.clone(), 1e-5);
            let (a, b) = ((ours * d_out.clone()).sum().backward(), (twin * d_out).sum().backward());
            assert_close(x.grad(&a).expect("x"), x.grad(&b).expect("x"), 1e-4);
            assert_close(gamma.grad(&a).expect("gamma"), gamma.grad(&b).expect("gamma"), 1e-4);
            assert_close(beta.grad(&a).expect("beta"), beta.grad(&b).expect("beta"), 1e-4);
        }
    }
}
