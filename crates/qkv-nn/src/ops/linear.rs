//! `out = activation(x · weight + bias)` as one operation.

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
use burn::tensor::{Tensor, activation};
use qkv::activation::Activation;
use qkv::linear::{LinearGradients, LinearSaved, linear_backward, linear_forward};
use qkv::product::Panels;

use super::flex;
use crate::memory::{self, Slot};

#[backend_extension(Flex, Autodiff)]
pub(crate) trait LinearOps: Backend {
    /// With `keep`, what the backward pass needs is put there.
    fn linear_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        act: Activation,
        keep: Option<Slot<LinearSaved>>,
    ) -> FloatTensor<Self>;

    /// `(d_x, d_weight, d_bias)`; without `want_x` the first is empty.
    fn linear_backward(
        d_out: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        act: Activation,
        saved: Slot<LinearSaved>,
        want_x: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl LinearOps for Flex {
    fn linear_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        act: Activation,
        keep: Option<Slot<LinearSaved>>,
    ) -> FloatTensor<Self> {
        let (x, weight, bias) = (flex::contiguous(x), flex::contiguous(weight), flex::contiguous(bias));
        let ([tokens, _], [dim_in, dim_out]) = (flex::dims::<2>(&x), flex::dims(&weight));
        let pool = memory::pool();
        let keep = keep.as_ref();
        let panels =
            memory::panels_for(keep, &[&weight], || [Panels::side_by_side(&[flex::slice(&weight)], dim_in, pool)]);
        let [panels] = panels.array();
        let mut out = memory::take(tokens * dim_out);
        let (x, bias) = (flex::slice(&x), flex::slice(&bias));
        let saved = linear_forward(x, panels, bias, act, keep.is_some(), &mut out, pool);
        memory::fill(keep, Some(saved));
        flex::tensor(out, [tokens, dim_out])
    }

    fn linear_backward(
        d_out: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        act: Activation,
        saved: Slot<LinearSaved>,
        want_x: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (d_out, x, weight) = (flex::contiguous(d_out), flex::contiguous(x), flex::contiguous(weight));
        let ([tokens, dim_in], [_, dim_out]) = (flex::dims::<2>(&x), flex::dims::<2>(&weight));
        let mut d_x = memory::take(if want_x { tokens * dim_in } else { 0 });
        let (mut d_weight, mut d_bias) = (memory::take(dim_in * dim_out), memory::take(dim_out));
        let gradients = LinearGradients { x: want_x.then_some(&mut d_x[..]), weight: &mut d_weight, bias: &mut d_bias };
        linear_backward(
            flex::slice(&d_out),
            flex::slice(&x),
            flex::slice(&weight),
            act,
            memory::take_out(&saved),
            gradients,
            memory::pool(),
        );
        memory::give(d_out);
        memory::give(x);
        let rows = if want_x { tokens } else { 0 };
        (flex::tensor(d_x, [rows, dim_in]), flex::tensor(d_weight, [dim_in, dim_out]), flex::tensor(d_bias, [dim_out]))
    }
}

impl<B: LinearOps, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn linear_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        act: Activation,
        _: Option<Slot<LinearSaved>>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct LinearBackward(Activation);
        impl<B: LinearOps> Backward<B, 3> for LinearBackward {
            type State = (FloatTensor<B>, FloatTensor<B>, Slot<LinearSaved>);
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_out = grads.consume::<B>(&ops.node);
                let (x, weight, saved) = ops.state;
                let want_x = ops.parents[0].is_some();
                let (d_x, d_weight, d_bias) = B::linear_backward(d_out, x, weight, self.0, saved, want_x);
                for (parent, gradient) in ops.parents.into_iter().zip([d_x, d_weight, d_bias]) {
                    if let Some(node) = parent {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
        let nodes = [x.node(), weight.node(), bias.node()];
        let (x, weight, bias) = (x.into_primitive(), weight.into_primitive(), bias.into_primitive());
        match LinearBackward(act).prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let saved = memory::slot();
                let out = B::linear_forward(x.clone(), weight.clone(), bias, act, Some(saved.clone()));
                prep.finish((x, weight, saved), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::linear_forward(x, weight, bias, act, None)),
        }
    }

    fn linear_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Activation,
        _: Slot<LinearSaved>,
        _: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("linear has no second derivative")
    }
}

/// `activation(x · weight + bias)`.
///
/// Shapes: `x` `[tokens, dim_in]`, `weight` `[dim_in, dim_out]`, `bias` `[dim_out]`; the result is `[tokens, dim_out]`.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, act: Activation) -> Tensor<2> {
    if !memory::has_kernels(&x.device()) {
        return linear_twin(x, weight, bias, act);
    }
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::linear_forward(x, weight, bias, act, None))
}

/// The same as [`linear`], composed of Burn's own operations.
pub fn linear_twin(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, act: Activation) -> Tensor<2> {
    activated_twin(x.matmul(weight) + bias.unsqueeze(), act)
}

/// `act(z)` by Burn's own operations.
pub(super) fn activated_twin(product: Tensor<2>, act: Activation) -> Tensor<2> {
    match act {
        Activation::Identity => product,
        Activation::Relu => activation::relu(product),
        Activation::Gelu => gelu_twin(product),
        Activation::Tanh => activation::tanh(product),
        Activation::Sigmoid => activation::sigmoid(product),
        Activation::Elu => activation::elu(product, 1.0),
    }
}

/// `x · Φ(x)`. (Burn's own has, on most devices, the gradient of an approximation.)
fn gelu_twin(x: Tensor<2>) -> Tensor<2> {
    let share = ((x.clone() * std::f32::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
    x * share
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
