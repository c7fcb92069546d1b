//! The self-attending half of a block, norm, projections, dropout and residual included, as one operation.

use std::sync::Arc;

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
use burn::tensor::{Tensor, TensorData};
use qkv::Offsets;
use qkv::activation::Activation;
use qkv::random::Key;
use qkv::sublayer::{Norm, NormPlace, Rotary, SelfAttention, SelfAttentionGradients, SelfAttentionSaved};

use super::feed_forward::sublayer_twin;
use super::{LAYER_NORM_EPSILON, flex, linear_twin};
use crate::attention::{AttentionExtras, AttentionOptions, Layout, attention_twin};
use crate::memory::{self, Slot};

/// What is not learned of [`self_attention`].
#[derive(Clone, Debug)]
pub struct SelfAttentionCall {
    /// Where the norm stands.
    pub place: NormPlace,
    /// Heads; a divisor of `d_model`.
    pub heads: usize,
    /// What attention computes.
    pub attention: AttentionOptions,
    /// Turns queries and keys.
    pub rotary: Option<Arc<RotaryAngles>>,
    /// Rate and key of the dropout before the residual.
    pub dropout: Option<(f32, Key)>,
}

/// The angles by which the queries and keys of a batch are turned (Su et al., 2021).
#[derive(Debug)]
pub struct RotaryAngles {
    /// `[tokens, head_dim / 2]`.
    pub cos: Vec<f32>,
    /// `[tokens, head_dim / 2]`.
    pub sin: Vec<f32>,
}

/// The input of [`self_attention`] and its parameters, or their gradients. What the options do not ask for is empty.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) struct SelfAttentionTensors<B: Backend> {
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    query_weight: FloatTensor<B>,
    query_bias: FloatTensor<B>,
    key_weight: FloatTensor<B>,
    key_bias: FloatTensor<B>,
    value_weight: FloatTensor<B>,
    value_bias: FloatTensor<B>,
    output_weight: FloatTensor<B>,
    output_bias: FloatTensor<B>,
    score: FloatTensor<B>,
    bias: FloatTensor<B>,
}

const TENSORS: usize = 13;

impl<B: Backend> SelfAttentionTensors<B> {
    /// In the order in which they stand.
    fn into_array(self) -> [FloatTensor<B>; TENSORS] {
        [
            self.x,
            self.gamma,
            self.beta,
            self.query_weight,
            self.query_bias,
            self.key_weight,
            self.key_bias,
            self.value_weight,
            self.value_bias,
            self.output_weight,
            self.output_bias,
            self.score,
            self.bias,
        ]
    }

    fn from_array(all: [FloatTensor<B>; TENSORS]) -> Self {
        let [
            x,
            gamma,
            beta,
            query_weight,
            query_bias,
            key_weight,
            key_bias,
            value_weight,
            value_bias,
            output_weight,
            output_bias,
            score,
            bias,
        ] = all;
        Self {
            x,
            gamma,
            beta,
            query_weight,
            query_bias,
            key_weight,
            key_bias,
            value_weight,
            value_bias,
            output_weight,
            output_bias,
            score,
            bias,
        }
    }
}

#[backend_extension(Flex, Autodiff)]
pub(crate) trait SelfAttentionOps: Backend {
    /// With `keep`, what the backward pass needs is put there.
    fn self_attention(
        #[extension_type] tensors: SelfAttentionTensors<Self>,
        call: Arc<SelfAttentionCall>,
        sets: Offsets,
        keep: Option<Slot<SelfAttentionSaved>>,
    ) -> FloatTensor<Self>;

    /// `wanted`: whether the gradients of the score's weights and of the bias are.
    fn self_attention_backward(
        d_out: FloatTensor<Self>,
        #[extension_type] tensors: SelfAttentionTensors<Self>,
        call: Arc<SelfAttentionCall>,
        sets: Offsets,
        saved: Slot<SelfAttentionSaved>,
        wanted: [bool; 2],
    ) -> SelfAttentionTensors<Self>;
}

impl SelfAttentionTensors<Flex> {
    /// The kernel's view of contiguous tensors.
    fn kernel<'a>(&'a self, call: &'a SelfAttentionCall) -> SelfAttention<'a> {
        SelfAttention {
            norm: Norm {
                place: call.place,
                gamma: flex::slice(&self.gamma),
                beta: flex::slice(&self.beta),
                epsilon: LAYER_NORM_EPSILON,
            },
            weights: [&self.query_weight, &self.key_weight, &self.value_weight].map(flex::slice),
            biases: [&self.query_bias, &self.key_bias, &self.value_bias].map(flex::slice),
            output_weight: flex::slice(&self.output_weight),
            output_bias: flex::slice(&self.output_bias),
            heads: call.heads,
            options: call.attention.kernel_options(flex::slice(&self.score), flex::slice(&self.bias)),
            rotary: call.rotary.as_ref().map(|angles| Rotary { cos: &angles.cos, sin: &angles.sin }),
            dropout: call.dropout,
        }
    }
}

impl SelfAttentionOps for Flex {
    fn self_attention(
        tensors: SelfAttentionTensors<Self>,
        call: Arc<SelfAttentionCall>,
        sets: Offsets,
        keep: Option<Slot<SelfAttentionSaved>>,
    ) -> FloatTensor<Self> {
        let tensors = SelfAttentionTensors::<Self>::from_array(tensors.into_array().map(flex::contiguous));
        let (kernel, pool, keep) = (tensors.kernel(&call), memory::pool(), keep.as_ref());
        let [tokens, d_model] = flex::dims(&tensors.x);
        let (x, mut out) = (flex::slice(&tensors.x), memory::take(tokens * d_model));
        let weights = [&tensors.query_weight, &tensors.key_weight, &tensors.value_weight, &tensors.output_weight];
        let panels = memory::panels_for(keep, &weights, || kernel.panels(pool));
        memory::fill(keep, kernel.forward(x, &sets, panels.array(), keep.is_some(), &mut out, pool));
        flex::tensor(out, [tokens, d_model])
    }

    fn self_attention_backward(
        d_out: FloatTensor<Self>,
        tensors: SelfAttentionTensors<Self>,
        call: Arc<SelfAttentionCall>,
        sets: Offsets,
        saved: Slot<SelfAttentionSaved>,
        wanted: [bool; 2],
    ) -> SelfAttentionTensors<Self> {
        let d_out = flex::contiguous(d_out);
        let all = tensors.into_array().map(flex::contiguous);
        let shapes = all.each_ref().map(|tensor| (flex::shape(tensor), flex::slice(tensor).len()));
        let mut gradients = shapes.each_ref().map(|(_, len)| memory::take(*len));
        let tensors = SelfAttentionTensors::<Self>::from_array(all);
        let [x, gamma, beta, w_q, b_q, w_k, b_k, w_v, b_v, output_weight, output_bias, score, bias] =
            gradients.each_mut().map(|gradient| &mut gradient[..]);
        let d = SelfAttentionGradients {
            x,
            gamma,
            beta,
            weights: [w_q, w_k, w_v],
            biases: [b_q, b_k, b_v],
            output_weight,
            output_bias,
            score: wanted[0].then_some(score),
            bias: wanted[1].then_some(bias),
        };
        let saved = memory::take_out(&saved);
        let kernel = tensors.kernel(&call);
        kernel.backward(flex::slice(&d_out), flex::slice(&tensors.x), &sets, saved, d, memory::pool());
        memory::give(d_out);
        memory::give(tensors.x);
        let mut shapes = shapes.into_iter();
        SelfAttentionTensors::from_array(gradients.map(|gradient| {
            let (shape, _) = shapes.next().expect("one for each");
            flex::tensor_of(gradient, shape)
        }))
    }
}

impl<B: SelfAttentionOps, C: CheckpointStrategy> SelfAttentionOps for Autodiff<B, C> {
    fn self_attention(
        tensors: SelfAttentionTensors<Self>,
        call: Arc<SelfAttentionCall>,
        sets: Offsets,
        _: Option<Slot<SelfAttentionSaved>>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct SelfAttentionBackward(Arc<SelfAttentionCall>, Offsets);
        impl<B: SelfAttentionOps> Backward<B, TENSORS> for SelfAttentionBackward {
            type State = (SelfAttentionTensors<B>, Slot<SelfAttentionSaved>);
            fn backward(self, ops: Ops<Self::State, TENSORS>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_out = grads.consume::<B>(&ops.node);
                let (tensors, saved) = ops.state;
                let wanted = [TENSORS - 2, TENSORS - 1].map(|at| ops.parents[at].is_some());
                let d = B::self_attention_backward(d_out, tensors, self.0, self.1, saved, wanted);
                for (parent, gradient) in ops.parents.into_iter().zip(d.into_array()) {
                    if let Some(node) = parent {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
        let all = tensors.into_array();
        let nodes = all.each_ref().map(|tensor| tensor.node());
        let tensors = SelfAttentionTensors::<B>::from_array(all.map(|tensor| tensor.into_primitive()));
        let backward = SelfAttentionBackward(call.clone(), sets.clone());
        match backward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let saved = memory::slot();
                let out = B::self_attention(tensors.clone(), call, sets, Some(saved.clone()));
                prep.finish((tensors, saved), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::self_attention(tensors, call, sets, None)),
        }
    }

    fn self_attention_backward(
        _: FloatTensor<Self>,
        _: SelfAttentionTensors<Self>,
        _: Arc<SelfAttentionCall>,
        _: Offsets,
        _: Slot<SelfAttentionSaved>,
        _: [bool; 2],
    ) -> SelfAttentionTensors<Self> {
        panic!("self_attention has no second derivative")
    }
}

/// What is learned of [`self_attention`].
#[derive(Clone, Debug)]
pub struct SelfAttentionParameters {
    /// Gain of the norm, `[d_model]`.
    pub gamma: Tensor<1>,
    /// Shift of the norm, `[d_model]`.
    pub beta: Tensor<1>,
    /// Of query, key, value and output: `[d_model, d_model]` each.
    pub weights: [Tensor<2>; 4],
    /// Of query, key, value and output: `[d_model]` each.
    pub biases: [Tensor<1>; 4],
    /// What is learned of the score and the bias of attention.
    pub extras: AttentionExtras,
}

/// `x + dropout(output(attention(query(h), key(h), value(h))))` with `h = norm(x)`, or `norm(x + dropout(…(x)))`; `[tokens, d_model]`
/// to the same.
pub fn self_attention(
    x: Tensor<2>,
    parameters: SelfAttentionParameters,
    layout: &Layout,
    call: SelfAttentionCall,
) -> Tensor<2> {
    let device = x.device();
    if !memory::has_kernels(&device) {
        return self_attention_twin(x, parameters, layout, &call);
    }
    let SelfAttentionParameters { gamma, beta, weights, biases, extras } = parameters;
    let [query_weight, key_weight, value_weight, output_weight] = weights.map(Tensor::into_dispatch);
    let [query_bias, key_bias, value_bias, output_bias] = biases.map(Tensor::into_dispatch);
    let [score, bias] = [extras.score, extras.bias].map(|given| {
        let given = given.unwrap_or_else(|| Tensor::from_data(TensorData::new(Vec::<f32>::new(), [0, 0]), &device));
        given.into_dispatch()
    });
    let tensors = SelfAttentionTensors {
        x: x.into_dispatch(),
        gamma: gamma.into_dispatch(),
        beta: beta.into_dispatch(),
        query_weight,
        query_bias,
        key_weight,
        key_bias,
        value_weight,
        value_bias,
        output_weight,
        output_bias,
        score,
        bias,
    };
    Tensor::from_dispatch(Dispatch::self_attention(tensors, Arc::new(call), layout.offsets().clone(), None))
}

/// The same as [`self_attention`], composed of Burn's own operations.
pub fn self_attention_twin(
    x: Tensor<2>,
    parameters: SelfAttentionParameters,
    layout: &Layout,
    call: &SelfAttentionCall,
) -> Tensor<2> {
    let SelfAttentionParameters { gamma, beta, weights, biases, extras } = parameters;
    let ([tokens, d_model], heads) = (x.dims(), call.heads);
    sublayer_twin(x, gamma, beta, call.place, call.dropout, |h| {
        let [w_q, w_k, w_v, w_o] = weights;
        let [b_q, b_k, b_v, b_o] = biases;
        let project = |weight, bias| {
            let projected = linear_twin(h.clone(), weight, bias, Activation::Identity);
            projected.reshape([tokens, heads, d_model / heads])
        };
        let (query, key, value) = (project(w_q, b_q), project(w_k, b_k), project(w_v, b_v));
        let [query, key] = [query, key].map(|x| match &call.rotary {
            Some(angles) => turned_twin(x, angles),
            None => x,
        });
        let out = attention_twin(query, key, value, &extras, layout, &call.attention);
        linear_twin(out.reshape([tokens, d_model]), w_o, b_o, Activation::Identity)
    })
}

/// `[tokens, heads, head_dim]` turned by the angles of each row, composed of Burn's own operations.
pub fn turned_twin(x: Tensor<3>, angles: &RotaryAngles) -> Tensor<3> {
    let ([tokens, _, head_dim], device) = (x.dims(), x.device());
    let half = head_dim / 2;
    let tensor =
        |numbers: &[f32]| Tensor::<3>::from_data(TensorData::new(numbers.to_vec(), [tokens, 1, half]), &device);
    let (cos, sin) = (tensor(&angles.cos), tensor(&angles.sin));
    let (first, second) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
    Tensor::cat(vec![first.clone() * cos.clone() - second.clone() * sin.clone(), first * sin + second * cos], 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{Bias, Buckets, Mask, Score};
    use crate::ops::testing::{assert_close, random};
    use qkv::options::Normalizer;

    fn call(heads: usize, attention: AttentionOptions) -> SelfAttentionCall {
        SelfAttentionCall { place: NormPlace::Before, heads, attention, rotary: None, dropout: None }
    }

    fn angles(tokens: usize, half: usize) -> Arc<RotaryAngles> {
        let of = |f: fn(f32) -> f32| (0..tokens * half).map(|i| f(i as f32 * 0.37)).collect();
        Arc::new(RotaryAngles { cos: of(f32::cos), sin: of(f32::sin) })
    }

    #[test]
    fn self_attention_and_its_gradients_equal_the_twin() {
        let plain = AttentionOptions {
            score: Score::DOT,
            normalizer: Normalizer::Softmax,
            mask: Mask::Full,
            bias: Bias::None,
            dropout: None,
        };
        let relative =
            AttentionOptions { bias: Bias::Buckets(Buckets::Relative { reach: 3, offset: 0 }), ..plain.clone() };
        let key = Key::new(5);
        for (lengths, d_model, heads) in
            [(vec![1], 2, 1), (vec![7, 0, 3], 6, 3), (vec![61, 5, 140], 64, 2), (vec![9], 72, 4)]
        {
            let sets = Offsets::from_lengths(lengths.iter().copied());
            let (tokens, layout) = (sets.tokens(), Layout::new(sets));
            for (number, call) in [
                call(heads, plain.clone()),
                SelfAttentionCall { place: NormPlace::After, dropout: Some((0.2, key)), ..call(heads, plain.clone()) },
                call(heads, relative.clone()),
                call(heads, AttentionOptions { score: Score::ADDITIVE, normalizer: Normalizer::Relu, ..plain.clone() }),
                SelfAttentionCall {
                    rotary: Some(angles(tokens, d_model / heads / 2)),
                    ..call(heads, AttentionOptions { mask: Mask::Causal { offset: 0 }, ..plain.clone() })
                },
                call(
                    heads,
                    AttentionOptions {
                        mask: Mask::Window { left: 2, right: 1 },
                        dropout: Some((0.3, key)),
                        ..relative.clone()
                    },
                ),
            ]
            .into_iter()
            .enumerate()
            {
                let extras = AttentionExtras {
                    score: (call.attention.score == Score::ADDITIVE)
                        .then(|| random([heads, d_model / heads], 30).require_grad()),
                    bias: (call.attention.bias != Bias::None).then(|| random([heads, 7], 31).require_grad()),
                };
                let scale = 1.0 / (d_model as f32).sqrt();
                let parameters = SelfAttentionParameters {
                    gamma: random([d_model], 2).require_grad(),
                    beta: random([d_model], 3).require_grad(),
                    weights: [4, 5, 6, 7]
                        .map(|seed| (random([d_model, d_model], seed) * scale).detach().require_grad()),
                    biases: [8, 9, 10, 11].map(|seed| random([d_model], seed).require_grad()),
                    extras,
                };
                let x = random([tokens, d_model], 1).require_grad();
                let d_out = random([tokens, d_model], 12);
                let ours = self_attention(x.clone(), parameters.clone(), &layout, call.clone());
                let twin = self_attention_twin(x.clone(), parameters.clone(), &layout, &call);
                assert_close(ours.clone(), twin.clone(), 1e-4);
                let (a, b) = ((ours * d_out.clone()).sum().backward(), (twin * d_out).sum().backward());
                let tolerance = 1e-3;
                assert_close(x.grad(&a).expect("x"), x.grad(&b).expect("x"), tolerance);
                let SelfAttentionParameters { gamma, beta, weights, biases, extras } = parameters;
                for weight in weights.into_iter().chain(extras.score).chain(extras.bias) {
                    let (a, b) = (weight.grad(&a).expect("weight"), weight.grad(&b).expect("weight"));
                    assert_close(a, b, tolerance);
                }
                for (place, bias) in [gamma, beta].into_iter().chain(biases).enumerate() {
                    // the softmax does not see the bias of the keys: its gradient is rounding
                    if place != 3 || number == 3 {
                        assert_close(bias.grad(&a).expect("bias"), bias.grad(&b).expect("bias"), tolerance);
                    }
                }
            }
        }
    }
}
