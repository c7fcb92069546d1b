//! The fully connected half of a block, norm, dropout and residual included, as one operation.

use burn::backend::{
    Backend, Dispatch, ExtensionType, Flex,
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
use qkv::activation::Activation;
use qkv::random::Key;
use qkv::sublayer::{FeedForward, FeedForwardGradients, FeedForwardSaved, Norm, NormPlace};

use super::{LAYER_NORM_EPSILON, dropout_twin, flex, layer_norm_twin, linear_twin};
use crate::memory::{self, Slot};

/// What is not learned of [`feed_forward`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedForwardOptions {
    /// Where the norm stands.
    pub place: NormPlace,
    /// Between the two linear layers.
    pub activation: Activation,
    /// Rate and key of the dropout behind the activation.
    pub hidden_dropout: Option<(f32, Key)>,
    /// Rate and key of the dropout before the residual.
    pub dropout: Option<(f32, Key)>,
}

/// The input of [`feed_forward`] and its parameters, or their gradients.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) struct FeedForwardTensors<B: Backend> {
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    up_weight: FloatTensor<B>,
    up_bias: FloatTensor<B>,
    down_weight: FloatTensor<B>,
    down_bias: FloatTensor<B>,
}

#[backend_extension(Flex, Autodiff)]
pub(crate) trait FeedForwardOps: Backend {
    /// With `keep`, what the backward pass needs is put there.
    fn feed_forward(
        #[extension_type] tensors: FeedForwardTensors<Self>,
        options: FeedForwardOptions,
        keep: Option<Slot<FeedForwardSaved>>,
    ) -> FloatTensor<Self>;

    fn feed_forward_backward(
        d_out: FloatTensor<Self>,
        #[extension_type] tensors: FeedForwardTensors<Self>,
        options: FeedForwardOptions,
        saved: Slot<FeedForwardSaved>,
    ) -> FeedForwardTensors<Self>;
}

impl FeedForwardTensors<Flex> {
    fn contiguous(self) -> Self {
        let [x, gamma, beta, up_weight, up_bias, down_weight, down_bias] =
            [self.x, self.gamma, self.beta, self.up_weight, self.up_bias, self.down_weight, self.down_bias]
                .map(flex::contiguous);
        Self { x, gamma, beta, up_weight, up_bias, down_weight, down_bias }
    }

    /// The kernel's view of contiguous tensors.
    fn kernel(&self, options: &FeedForwardOptions) -> FeedForward<'_> {
        FeedForward {
            norm: Norm {
                place: options.place,
                gamma: flex::slice(&self.gamma),
                beta: flex::slice(&self.beta),
                epsilon: LAYER_NORM_EPSILON,
            },
            up_weight: flex::slice(&self.up_weight),
            up_bias: flex::slice(&self.up_bias),
            down_weight: flex::slice(&self.down_weight),
            down_bias: flex::slice(&self.down_bias),
            activation: options.activation,
            hidden_dropout: options.hidden_dropout,
            dropout: options.dropout,
        }
    }
}

impl FeedForwardOps for Flex {
    fn feed_forward(
        tensors: FeedForwardTensors<Self>,
        options: FeedForwardOptions,
        keep: Option<Slot<FeedForwardSaved>>,
    ) -> FloatTensor<Self> {
        let tensors = tensors.contiguous();
        let (kernel, pool) = (tensors.kernel(&options), memory::pool());
        let [tokens, d_model] = flex::dims(&tensors.x);
        let (x, mut out) = (flex::slice(&tensors.x), memory::take(tokens * d_model));
        let keep = keep.as_ref();
        let panels = memory::panels_for(keep, &[&tensors.up_weight, &tensors.down_weight], || kernel.panels(pool));
        memory::fill(keep, kernel.forward(x, panels.array(), keep.is_some(), &mut out, pool));
        flex::tensor(out, [tokens, d_model])
    }

    fn feed_forward_backward(
        d_out: FloatTensor<Self>,
        tensors: FeedForwardTensors<Self>,
        options: FeedForwardOptions,
        saved: Slot<FeedForwardSaved>,
    ) -> FeedForwardTensors<Self> {
        let (d_out, tensors) = (flex::contiguous(d_out), tensors.contiguous());
        let ([tokens, d_model], [_, d_ff]) = (flex::dims(&tensors.x), flex::dims::<2>(&tensors.up_weight));
        let lengths = [tokens * d_model, d_model, d_model, d_model * d_ff, d_ff, d_ff * d_model, d_model];
        let [mut x, mut gamma, mut beta, mut up_weight, mut up_bias, mut down_weight, mut down_bias] =
            lengths.map(memory::take);
        let gradients = FeedForwardGradients {
            x: &mut x,
            gamma: &mut gamma,
            beta: &mut beta,
            up_weight: &mut up_weight,
            up_bias: &mut up_bias,
            down_weight: &mut down_weight,
            down_bias: &mut down_bias,
        };
        let saved = memory::take_out(&saved);
        let kernel = tensors.kernel(&options);
        kernel.backward(flex::slice(&d_out), flex::slice(&tensors.x), saved, gradients, memory::pool());
        memory::give(d_out);
        memory::give(tensors.x);
        FeedForwardTensors {
            x: flex::tensor(x, [tokens, d_model]),
            gamma: flex::tensor(gamma, [d_model]),
            beta: flex::tensor(beta, [d_model]),
            up_weight: flex::tensor(up_weight, [d_model, d_ff]),
            up_bias: flex::tensor(up_bias, [d_ff]),
            down_weight: flex::tensor(down_weight, [d_ff, d_model]),
            down_bias: flex::tensor(down_bias, [d_model]),
        }
    }
}

impl<B: FeedForwardOps, C: CheckpointStrategy> FeedForwardOps for Autodiff<B, C> {
    fn feed_forward(
        tensors: FeedForwardTensors<Self>,
        options: FeedForwardOptions,
        _: Option<Slot<FeedForwardSaved>>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct FeedForwardBackward(FeedForwardOptions);
        impl<B: FeedForwardOps> Backward<B, 7> for FeedForwardBackward {
            type State = (FeedForwardTensors<B>, Slot<FeedForwardSaved>);
            fn backward(self, ops: Ops<Self::State, 7>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_out = grads.consume::<B>(&ops.node);
                let (tensors, saved) = ops.state;
                let d = B::feed_forward_backward(d_out, tensors, self.0, saved);
                let all = [d.x, d.gamma, d.beta, d.up_weight, d.up_bias, d.down_weight, d.down_bias];
                for (parent, gradient) in ops.parents.into_iter().zip(all) {
                    if let Some(node) = parent {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
        let FeedForwardTensors { x, gamma, beta, up_weight, up_bias, down_weight, down_bias } = tensors;
        let all = [x, gamma, beta, up_weight, up_bias, down_weight, down_bias];
        let nodes = all.each_ref().map(|tensor| tensor.node());
        let [x, gamma, beta, up_weight, up_bias, down_weight, down_bias] = all.map(|tensor| tensor.into_primitive());
        let tensors = FeedForwardTensors::<B> { x, gamma, beta, up_weight, up_bias, down_weight, down_bias };
        match FeedForwardBackward(options).prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let saved = memory::slot();
                let out = B::feed_forward(tensors.clone(), options, Some(saved.clone()));
                prep.finish((tensors, saved), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::feed_forward(tensors, options, None)),
        }
    }

    fn feed_forward_backward(
        _: FloatTensor<Self>,
        _: FeedForwardTensors<Self>,
        _: FeedForwardOptions,
        _: Slot<FeedForwardSaved>,
    ) -> FeedForwardTensors<Self> {
        panic!("feed_forward has no second derivative")
    }
}

/// What is learned of [`feed_forward`].
#[derive(Clone, Debug)]
pub struct FeedForwardParameters {
    /// Gain of the norm, `[d_model]`.
    pub gamma: Tensor<1>,
    /// Shift of the norm, `[d_model]`.
    pub beta: Tensor<1>,
    /// `[d_model, d_ff]`.
    pub up_weight: Tensor<2>,
    /// `[d_ff]`.
    pub up_bias: Tensor<1>,
    /// `[d_ff, d_model]`.
    pub down_weight: Tensor<2>,
    /// `[d_model]`.
    pub down_bias: Tensor<1>,
}

/// `x + dropout(down(dropout(act(up(norm(x))))))`, or `norm(x + dropout(down(dropout(act(up(x))))))`; `[tokens, d_model]` to the
/// same.
pub fn feed_forward(x: Tensor<2>, parameters: FeedForwardParameters, options: &FeedForwardOptions) -> Tensor<2> {
    if !memory::has_kernels(&x.device()) {
        return feed_forward_twin(x, parameters, options);
    }
    let tensors = FeedForwardTensors {
        x: x.into_dispatch(),
        gamma: parameters.gamma.into_dispatch(),
        beta: parameters.beta.into_dispatch(),
        up_weight: parameters.up_weight.into_dispatch(),
        up_bias: parameters.up_bias.into_dispatch(),
        down_weight: parameters.down_weight.into_dispatch(),
        down_bias: parameters.down_bias.into_dispatch(),
    };
    Tensor::from_dispatch(Dispatch::feed_forward(tensors, *options, None))
}

/// The same as [`feed_forward`], composed of Burn's own operations.
pub fn feed_forward_twin(x: Tensor<2>, parameters: FeedForwardParameters, options: &FeedForwardOptions) -> Tensor<2> {
    let FeedForwardParameters { gamma, beta, up_weight, up_bias, down_weight, down_bias } = parameters;
    sublayer_twin(x, gamma, beta, options.place, options.dropout, |x| {
        let hidden = dropped_twin(linear_twin(x, up_weight, up_bias, options.activation), options.hidden_dropout);
        linear_twin(hidden, down_weight, down_bias, Activation::Identity)
    })
}

/// `part` with norm, dropout and residual around it, composed of Burn's own operations.
pub(super) fn sublayer_twin(
    x: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    place: NormPlace,
    dropout: Option<(f32, Key)>,
    part: impl FnOnce(Tensor<2>) -> Tensor<2>,
) -> Tensor<2> {
    match place {
        NormPlace::Before => {
            let h = layer_norm_twin(x.clone(), gamma, beta);
            x + dropped_twin(part(h), dropout)
        }
        NormPlace::After => {
            let r = x.clone() + dropped_twin(part(x), dropout);
            layer_norm_twin(r, gamma, beta)
        }
    }
}

fn dropped_twin(x: Tensor<2>, dropout: Option<(f32, Key)>) -> Tensor<2> {
    match dropout {
        Some((rate, key)) => dropout_twin(x, rate, key),
        None => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn feed_forward_and_its_gradients_equal_the_twin() {
        let key = Key::new(5);
        for [tokens, d_model, d_ff] in [[1, 1, 1], [7, 3, 5], [59, 33, 70], [130, 64, 128]] {
            for (place, activation) in [(NormPlace::Before, Activation::Gelu), (NormPlace::After, Activation::Relu)] {
                for dropout in [None, Some((0.3, key))] {
                    let hidden_dropout = dropout.map(|(rate, key)| (rate / 2.0, key.fold(1)));
                    let options = FeedForwardOptions { place, activation, hidden_dropout, dropout };
                    let x = random([tokens, d_model], 1).require_grad();
                    let parameters = FeedForwardParameters {
                        gamma: random([d_model], 2).require_grad(),
                        beta: random([d_model], 3).require_grad(),
                        up_weight: random([d_model, d_ff], 4).require_grad(),
                        up_bias: random([d_ff], 5).require_grad(),
                        down_weight: random([d_ff, d_model], 6).require_grad(),
                        down_bias: random([d_model], 7).require_grad(),
                    };
                    let d_out = random([tokens, d_model], 8);
                    let ours = feed_forward(x.clone(), parameters.clone(), &options);
                    let twin = feed_forward_twin(x.clone(), parameters.clone(), &options);
                    assert_close(ours.clone(), twin.clone(), 1e-4);
                    let (a, b) = ((ours * d_out.clone()).sum().backward(), (twin * d_out).sum().backward());
                    assert_close(x.grad(&a).expect("x"), x.grad(&b).expect("x"), 1e-3);
                    let FeedForwardParameters { gamma, beta, up_weight, up_bias, down_weight, down_bias } = parameters;
                    for weight in [up_weight, down_weight] {
                        assert_close(weight.grad(&a).expect("weight"), weight.grad(&b).expect("weight"), 1e-3);
                    }
                    for bias in [gamma, beta, up_bias, down_bias] {
                        assert_close(bias.grad(&a).expect("bias"), bias.grad(&b).expect("bias"), 1e-3);
                    }
                }
            }
        }
    }
}
