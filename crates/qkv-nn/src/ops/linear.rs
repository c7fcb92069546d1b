//! `out = activation(x · weight + bias)` as one operation.

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
use burn::tensor::{Tensor, activation};
use qkv::activation::{Activation, bias_activation_backward, bias_activation_forward};
use qkv::matmul::{Layout, matmul};

use super::flex;

#[backend_extension(Flex, Autodiff)]
pub(crate) trait LinearOps: Backend {
    /// `(out, product)`; `product = x · weight` is what the backward pass needs of the forward pass.
    fn linear_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        act: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `(d_x, d_weight, d_bias)`.
    fn linear_backward(
        d_out: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        product: FloatTensor<Self>,
        act: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl LinearOps for Flex {
    fn linear_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        act: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (x, weight, bias) = (flex::contiguous(x), flex::contiguous(weight), flex::contiguous(bias));
        let ([tokens, dim_in], [_, dim_out]) = (flex::dims(&x), flex::dims::<2>(&weight));
        let mut product = vec![0.0; tokens * dim_out];
        matmul(
            flex::slice(&x),
            Layout::Normal,
            flex::slice(&weight),
            Layout::Normal,
            &mut product,
            tokens,
            dim_in,
            dim_out,
        );
        let mut out = vec![0.0; tokens * dim_out];
        bias_activation_forward(&product, flex::slice(&bias), act, &mut out);
        (flex::tensor(out, [tokens, dim_out]), flex::tensor(product, [tokens, dim_out]))
    }

    fn linear_backward(
        d_out: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        product: FloatTensor<Self>,
        act: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (d_out, x, weight) = (flex::contiguous(d_out), flex::contiguous(x), flex::contiguous(weight));
        let (bias, product) = (flex::contiguous(bias), flex::contiguous(product));
        let ([tokens, dim_in], [_, dim_out]) = (flex::dims(&x), flex::dims::<2>(&weight));
        // undoes `out = activation(product + bias)`
        let (mut d_product, mut d_bias) = (vec![0.0; tokens * dim_out], vec![0.0; dim_out]);
        bias_activation_backward(
            flex::slice(&d_out),
            flex::slice(&product),
            flex::slice(&bias),
            act,
            &mut d_product,
            &mut d_bias,
        );
        // undoes `product = x · weight`
        let (mut d_x, mut d_weight) = (vec![0.0; tokens * dim_in], vec![0.0; dim_in * dim_out]);
        matmul(&d_product, Layout::Normal, flex::slice(&weight), Layout::Transposed, &mut d_x, tokens, dim_out, dim_in);
        matmul(flex::slice(&x), Layout::Transposed, &d_product, Layout::Normal, &mut d_weight, dim_in, tokens, dim_out);
        (
            flex::tensor(d_x, [tokens, dim_in]),
            flex::tensor(d_weight, [dim_in, dim_out]),
            flex::tensor(d_bias, [dim_out]),
        )
    }
}

impl<B: LinearOps, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn linear_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        act: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct LinearBackward(Activation);
        impl<B: LinearOps> Backward<B, 3> for LinearBackward {
            type State = [FloatTensor<B>; 4];
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_out = grads.consume::<B>(&ops.node);
                let [x, weight, bias, product] = ops.state;
                let (d_x, d_weight, d_bias) = B::linear_backward(d_out, x, weight, bias, product, self.0);
                for (parent, gradient) in ops.parents.into_iter().zip([d_x, d_weight, d_bias]) {
                    if let Some(node) = parent {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
        let nodes = [x.node(), weight.node(), bias.node()];
        let (x, weight, bias) = (x.into_primitive(), weight.into_primitive(), bias.into_primitive());
        let (out, product) = B::linear_forward(x.clone(), weight.clone(), bias.clone(), act);
        let untracked = Self::from_inner(product.clone());
        let out = match LinearBackward(act).prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([x, weight, bias, product], out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        };
        (out, untracked)
    }

    fn linear_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("linear has no second derivative")
    }
}

/// `activation(x · weight + bias)`.
///
/// Shapes: `x` `[tokens, dim_in]`, `weight` `[dim_in, dim_out]`, `bias` `[dim_out]`; the result is `[tokens, dim_out]`.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, act: Activation) -> Tensor<2> {
    let (out, _) = Dispatch::linear_forward(x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch(), act);
    Tensor::from_dispatch(out)
}

/// The same as [`linear`], composed of Burn's own operations.
pub fn linear_twin(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, act: Activation) -> Tensor<2> {
    let product = x.matmul(weight) + bias.unsqueeze();
    match act {
        Activation::Identity => product,
        Activation::Relu => activation::relu(product),
        Activation::Gelu => activation::gelu(product),
        Activation::Tanh => activation::tanh(product),
        Activation::Sigmoid => activation::sigmoid(product),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn linear_and_its_gradients_equal_the_twin() {
        for act in [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::Tanh, Activation::Sigmoid] {
            for [tokens, dim_in, dim_out] in [[1, 1, 1], [7, 3, 5], [59, 33, 17]] {
                let x = random([tokens, dim_in], 1).require_grad();
                let weight = random([dim_in, dim_out], 2).require_grad();
                let bias = random([dim_out], 3).require_grad();
                let d_out = random([tokens, dim_out], 4);
                let ours = linear(x.clone(), weight.clone(), bias.clone(), act);
                let twin = linear_twin(x.clone(), weight.clone(), bias.clone(), act);
                assert_close(ours.clone(), twin.clone(), 1e-5);
                let (a, b) = ((ours * d_out.clone()).sum().backward(), (twin * d_out).sum().backward());
                assert_close(x.grad(&a).expect("x"), x.grad(&b).expect("x"), 1e-4);
                assert_close(weight.grad(&a).expect("weight"), weight.grad(&b).expect("weight"), 1e-4);
                assert_close(bias.grad(&a).expect("bias"), bias.grad(&b).expect("bias"), 1e-4);
            }
        }
    }

    #[test]
    fn a_transposed_view_is_read_right() {
        let (x, weight, bias) = (random([5, 9], 1), random([4, 5], 2), random([4], 3));
        let ours = linear(x.clone().transpose(), weight.clone().transpose(), bias.clone(), Activation::Identity);
        assert_close(ours, linear_twin(x.transpose(), weight.transpose(), bias, Activation::Identity), 1e-5);
    }
}
