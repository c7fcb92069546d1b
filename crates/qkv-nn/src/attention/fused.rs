//! Attention by the kernels of the crate `qkv`, one Burn operation forward and one backward, in memory that grows with the
//! length of a set and never with its square.

use std::sync::{Arc, OnceLock};

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
use burn_flex::FlexTensor;
use qkv::Offsets;
use qkv::attention::{self as kernel, Chosen, Inputs, Saved, Shape, VectorGradients, View, ViewMut};
use qkv::gather::{neighbour_mean, neighbour_mean_backward};
use qkv::options::Options;
use qkv::pool::Buffer;
use qkv::rank_one::rank_one_forward;

use super::{AttentionExtras, AttentionOptions, Layout};
use crate::memory::{self, pool};
use crate::ops::flex;

/// The tensors of a call, and their gradients. Those that a call does not have are empty: query and key if they are numbers that are
/// made of the values, by the vectors of a score of rank one.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) struct Operands<B: Backend> {
    /// `[query tokens, heads, head_dim]`.
    query: FloatTensor<B>,
    /// `[key tokens, kv_heads, head_dim]`.
    key: FloatTensor<B>,
    /// `[key tokens, kv_heads, value_dim]`.
    value: FloatTensor<B>,
    /// Weights of the additive score, or the vectors of a score of rank one, `[2, heads · value_dim]`.
    score: FloatTensor<B>,
    /// Numbers of the bias.
    bias: FloatTensor<B>,
}

impl<B: Backend> Operands<B> {
    fn from_array([query, key, value, score, bias]: [FloatTensor<B>; 5]) -> Self {
        Self { query, key, value, score, bias }
    }

    fn into_array(self) -> [FloatTensor<B>; 5] {
        [self.query, self.key, self.value, self.score, self.bias]
    }
}

/// What of a call is no tensor.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    options: AttentionOptions,
    queries: Offsets,
    keys: Offsets,
    /// Whether the result is the mean over heads.
    mean_of_heads: bool,
}

/// Where the forward pass leaves what the backward pass needs besides its result.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left(Arc<OnceLock<LeftBehind>>);

#[derive(Debug)]
struct LeftBehind {
    /// The log-sum-exps, `[heads, query tokens]` in f64.
    lse: Buffer,
    /// What else the kernels keep.
    kept: Buffer,
    /// Queries and keys that were made of the values.
    numbers: Option<[FlexTensor; 2]>,
    /// What each head has given, `[query tokens, heads, value_dim]`, if the result is their mean.
    of_heads: Option<Buffer>,
}

#[backend_extension(Flex, Autodiff)]
pub(crate) trait AttentionOps: Backend {
    /// `[query tokens, heads, value_dim]`.
    fn attention_forward(
        #[extension_type] operands: Operands<Self>,
        call: Call,
        left: Option<Left>,
    ) -> FloatTensor<Self>;

    /// The gradients of those that are wanted; the others are empty.
    fn attention_backward(
        d_out: FloatTensor<Self>,
        out: FloatTensor<Self>,
        #[extension_type] operands: Operands<Self>,
        call: Call,
        left: Left,
        wanted: [bool; 5],
    ) -> Operands<Self>;

    /// `[heads, q_len, kv_len]` of the only set.
    fn attention_weights_forward(#[extension_type] operands: Operands<Self>, call: Call) -> FloatTensor<Self>;
}

impl AttentionOps for Flex {
    fn attention_forward(operands: Operands<Self>, call: Call, left: Option<Left>) -> FloatTensor<Self> {
        let is_scored = operands.is_scored();
        let operands = operands.scored(None).readable();
        let inputs = operands.inputs(&call);
        let (tokens, Shape { heads, value_dim, .. }) = (call.queries.tokens(), inputs.shape);
        let numbers = tokens * heads * value_dim;
        let (mut out, mut of_heads) = match call.mean_of_heads {
            true => (Vec::new(), Some(pool().take(numbers))),
            false => (memory::take(numbers), None),
        };
        let view = ViewMut::new(of_heads.as_deref_mut().unwrap_or(&mut out), heads, value_dim);
        let needed = match left {
            Some(_) => {
                kernel::kept_numbers(&inputs, &operands.options(&call)).unwrap_or_else(|error| panic!("{error}"))
            }
            None => 0,
        };
        let (mut lse, mut kept) =
            (pool().take(if left.is_some() { 2 * heads * tokens } else { 0 }), pool().take(needed));
        operands.attend(&call, view, lse.as_f64_mut(), &mut kept);
        let numbers = (left.is_some() && is_scored).then(|| [operands.query.clone(), operands.key.clone()]);
        operands.give();
        if let Some(of_heads) = &of_heads {
            out = memory::take(tokens * value_dim);
            neighbour_mean(of_heads, value_dim, heads, &mut out);
        }
        if let Some(Left(place)) = left {
            let left_behind = LeftBehind { lse, kept, numbers, of_heads };
            place.set(left_behind).expect("each forward pass has a place of its own");
        }
        match call.mean_of_heads {
            true => flex::tensor(out, [tokens, value_dim]),
            false => flex::tensor(out, [tokens, heads, value_dim]),
        }
    }

    fn attention_backward(
        d_out: FloatTensor<Self>,
        out: FloatTensor<Self>,
        operands: Operands<Self>,
        call: Call,
        Left(left): Left,
        wanted: [bool; 5],
    ) -> Operands<Self> {
        let is_scored = operands.is_scored();
        let LeftBehind { lse, kept, numbers, of_heads } =
            left.get().expect("the forward pass has left its log-sum-exps");
        let operands = operands.scored(numbers.clone()).readable();
        let inputs = operands.inputs(&call);
        let Shape { heads, value_dim, .. } = inputs.shape;
        // The gradient of a mean is a share of it for each head: one row for all of them.
        let d_out = match call.mean_of_heads {
            true => {
                let (d_mean, dims) = (flex::contiguous(d_out), [call.queries.tokens(), value_dim]);
                let mut shares = memory::take(dims.iter().product());
                neighbour_mean_backward(flex::slice(&d_mean), heads, &mut shares);
                memory::give(d_mean);
                flex::tensor(shares, dims)
            }
            false => readable(d_out),
        };
        let (out_view, d_out_view) = match of_heads {
            Some(of_heads) => (View::new(of_heads, heads, value_dim), View::strided(flex::slice(&d_out), value_dim, 0)),
            None => (view(&out), view(&d_out)),
        };
        let saved = Saved { out: out_view, lse: lse.as_f64(), kept };
        // The kernel computes the gradients of query, key and value together: what nobody wants of them is scratch memory.
        let dims = [&operands.query, &operands.key, &operands.value].map(flex::dims::<3>);
        let [mut d_query, mut d_key, mut d_value] = [0, 1, 2].map(|n| Room::new(dims[n].iter().product(), wanted[n]));
        let [[_, heads, head_dim], [_, kv_heads, _], [_, _, value_dim]] = dims;
        let extra = [&operands.score, &operands.bias].map(flex::dims::<2>);
        let [mut d_score, mut d_bias] = [0, 1].map(|n| wanted[3 + n].then(|| memory::take(extra[n].iter().product())));
        // A score's numbers are the weights of the additive one, or vectors.
        let (vectors, score) = match is_scored {
            true => {
                let gradient = d_score.get_or_insert_with(|| memory::take(extra[0].iter().product()));
                (Some(VectorGradients { vectors: flex::slice(&operands.score), gradient }), None)
            }
            false => (None, d_score.as_deref_mut()),
        };
        let gradients = kernel::Gradients {
            query: ViewMut::new(d_query.numbers(), heads, head_dim),
            key: ViewMut::new(d_key.numbers(), kv_heads, head_dim),
            value: ViewMut::new(d_value.numbers(), kv_heads, value_dim),
            score,
            bias: d_bias.as_deref_mut(),
            vectors,
        };
        let options = operands.options(&call);
        pool()
            .with_workspace(|workspace| {
                kernel::attention_backward(&inputs, &options, &saved, d_out_view, gradients, workspace)
            })
            .unwrap_or_else(|error| panic!("{error}"));
        memory::give(d_out);
        operands.give();
        memory::give(out);
        if let Some(LeftBehind { numbers: Some(numbers), .. }) = Arc::into_inner(left).and_then(OnceLock::into_inner) {
            numbers.into_iter().for_each(memory::give);
        }
        Operands {
            query: d_query.tensor(dims[0]),
            key: d_key.tensor(dims[1]),
            value: d_value.tensor(dims[2]),
            score: d_score.map_or_else(empty, |numbers| flex::tensor(numbers, extra[0])),
            bias: d_bias.map_or_else(empty, |numbers| flex::tensor(numbers, extra[1])),
        }
    }

    fn attention_weights_forward(operands: Operands<Self>, call: Call) -> FloatTensor<Self> {
        let operands = operands.readable();
        let inputs = operands.inputs(&call);
        let Shape { heads, value_dim, .. } = inputs.shape;
        let (q_len, kv_len) = (call.queries.tokens(), call.keys.tokens());
        let mut out = pool().take(q_len * heads * value_dim);
        let mut lse = pool().take(2 * heads * q_len);
        operands.attend(&call, ViewMut::new(&mut out, heads, value_dim), lse.as_f64_mut(), &mut []);
        let (all_heads, all_queries): (Vec<_>, Vec<_>) = ((0..heads).collect(), (0..q_len).collect());
        let chosen = Chosen { set: 0, heads: &all_heads, queries: &all_queries };
        let mut weights = vec![0.0; heads * q_len * kv_len];
        kernel::attention_weights(&inputs, &operands.options(&call), lse.as_f64(), &chosen, &mut weights)
            .unwrap_or_else(|error| panic!("{error}"));
        flex::tensor(weights, [heads, q_len, kv_len])
    }
}

impl<B: AttentionOps, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn attention_forward(operands: Operands<Self>, call: Call, _: Option<Left>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct AttentionBackward;
        impl<B: AttentionOps> Backward<B, 5> for AttentionBackward {
            type State = (FloatTensor<B>, Operands<B>, Call, Left);
            fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_out = grads.consume::<B>(&ops.node);
                let wanted = ops.parents.each_ref().map(Option::is_some);
                let (out, operands, call, left) = ops.state;
                let gradients = B::attention_backward(d_out, out, operands, call, left, wanted);
                for (parent, gradient) in ops.parents.into_iter().zip(gradients.into_array()) {
                    if let Some(node) = parent {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
        let operands = operands.into_array();
        let nodes = operands.each_ref().map(|operand| operand.node());
        let operands = Operands::from_array(operands.map(|operand| operand.into_primitive()));
        match AttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let left = Left::default();
                let out = B::attention_forward(operands.clone(), call.clone(), Some(left.clone()));
                prep.finish((out.clone(), operands, call, left), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::attention_forward(operands, call, None)),
        }
    }

    fn attention_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Operands<Self>,
        _: Call,
        _: Left,
        _: [bool; 5],
    ) -> Operands<Self> {
        panic!("attention has no second derivative")
    }

    fn attention_weights_forward(operands: Operands<Self>, call: Call) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct WeightsBackward;
        impl<B: AttentionOps> Backward<B, 5> for WeightsBackward {
            type State = ();
            fn backward(self, _: Ops<(), 5>, _: &mut Gradients, _: &mut Checkpointer) {
                panic!("attention_weights has no backward pass: the weights are for looking at")
            }
        }
        let operands = operands.into_array();
        let nodes = operands.each_ref().map(|operand| operand.node());
        let operands = Operands::from_array(operands.map(|operand| operand.into_primitive()));
        let weights = B::attention_weights_forward(operands, call);
        WeightsBackward.prepare::<C>(nodes).compute_bound().stateless(weights)
    }
}

impl Operands<Flex> {
    /// Whether query and key are to be made of the values.
    fn is_scored(&self) -> bool {
        flex::shape(&self.query).num_dims() == 2
    }

    /// The same with query and key, if they are to be made of the values and have not been.
    fn scored(self, made: Option<[FlexTensor; 2]>) -> Self {
        if let Some([query, key]) = made {
            return Self {
                query,
                key,
                value: flex::contiguous(self.value),
                score: flex::contiguous(self.score),
                ..self
            };
        }
        if !self.is_scored() {
            return self;
        }
        let (value, score) = (flex::contiguous(self.value), flex::contiguous(self.score));
        let [tokens, heads, _] = flex::dims(&value);
        let [mut query, mut key] = [0, 1].map(|_| memory::take(tokens * heads));
        rank_one_forward(flex::slice(&value), flex::slice(&score), heads, &mut query, &mut key);
        let [query, key] = [query, key].map(|numbers| flex::tensor(numbers, [tokens, heads, 1]));
        Self { query, key, value, score, ..self }
    }

    /// The same, where [`view`] and [`flex::slice`] can read them.
    fn readable(self) -> Self {
        let Self { query, key, value, score, bias } = self;
        let [query, key, value] = [query, key, value].map(readable);
        let [score, bias] = [score, bias].map(flex::contiguous);
        Self { query, key, value, score, bias }
    }

    /// Takes back the memory of those that nobody else holds.
    fn give(self) {
        let Self { query, key, value, score, bias } = self;
        [query, key, value, score, bias].into_iter().for_each(memory::give);
    }

    fn inputs<'a>(&'a self, call: &'a Call) -> Inputs<'a> {
        let ([_, heads, head_dim], [_, kv_heads, value_dim]) = (flex::dims(&self.query), flex::dims(&self.value));
        Inputs {
            shape: Shape { heads, kv_heads, head_dim, value_dim },
            query: view(&self.query),
            key: view(&self.key),
            value: view(&self.value),
            queries: &call.queries,
            keys: &call.keys,
        }
    }

    fn options<'a>(&'a self, call: &'a Call) -> Options<'a> {
        call.options.kernel_options(flex::slice(&self.score), flex::slice(&self.bias))
    }

    /// The forward pass into `out`, with its log-sum-exps and what else it keeps if `lse` and `kept` are not empty.
    fn attend(&self, call: &Call, out: ViewMut<'_>, lse: &mut [f64], kept: &mut [f32]) {
        let (inputs, options) = (self.inputs(call), self.options(call));
        pool()
            .with_workspace(|workspace| kernel::attention_forward_keeping(&inputs, &options, out, lse, kept, workspace))
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Room for a gradient: of a tensor that lasts, or scratch memory.
enum Room {
    Wanted(Vec<f32>),
    Scratch(Buffer),
}

impl Room {
    fn new(len: usize, wanted: bool) -> Self {
        if wanted { Self::Wanted(memory::take(len)) } else { Self::Scratch(pool().take(len)) }
    }

    fn numbers(&mut self) -> &mut [f32] {
        match self {
            Self::Wanted(numbers) => numbers,
            Self::Scratch(numbers) => numbers,
        }
    }

    fn tensor(self, dims: [usize; 3]) -> FlexTensor {
        match self {
            Self::Wanted(numbers) => flex::tensor(numbers, dims),
            Self::Scratch(_) => empty(),
        }
    }
}

fn empty() -> FlexTensor {
    flex::tensor(Vec::new(), [0, 0])
}

/// The tensor itself if the numbers of each row and head stand side by side, as they do in a part of a fused projection, else a
/// copy where they do.
fn readable(x: FlexTensor) -> FlexTensor {
    let [row, head, number] = strides(&x);
    if number == 1 && row >= 0 && head >= 0 { x } else { x.to_contiguous() }
}

/// What [`readable`] returned, read where it lies.
fn view(x: &FlexTensor) -> View<'_> {
    let [row, head, _] = strides(x).map(isize::unsigned_abs);
    let numbers = x.storage::<f32>();
    View::strided(numbers.get(x.layout().start_offset()..).unwrap_or_default(), row, head)
}

fn strides(x: &FlexTensor) -> [isize; 3] {
    x.layout().strides().try_into().expect("query, key and value have three axes")
}

fn operands([query, key, value]: [Tensor<3>; 3], extras: &AttentionExtras) -> Operands<Dispatch> {
    let device = query.device();
    let [score, bias] = [&extras.score, &extras.bias]
        .map(|extra| extra.clone().unwrap_or_else(|| Tensor::empty([0, 0], &device)).into_dispatch());
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    Operands { query, key, value, score, bias }
}

fn call(layout: &Layout, options: &AttentionOptions) -> Call {
    let (queries, keys) = (layout.queries().clone(), layout.keys().clone());
    Call { options: options.clone(), queries, keys, mean_of_heads: false }
}

/// [`attention`](super::attention) where the kernels can read.
pub(super) fn attention(
    inputs: [Tensor<3>; 3],
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::attention_forward(operands(inputs, extras), call(layout, options), None))
}

/// [`rank_one_attention`](super::rank_one_attention) where the kernels can read, or, of rank 2, [its mean over
/// heads](super::rank_one_attention_mean).
pub(super) fn rank_one_attention<const D: usize>(
    value: Tensor<3>,
    vectors: Tensor<2>,
    bias: Option<Tensor<2>>,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<D> {
    let device = value.device();
    let none = || Tensor::<2>::empty([0, 0], &device).into_dispatch();
    let operands = Operands {
        query: none(),
        key: none(),
        value: value.into_dispatch(),
        score: vectors.into_dispatch(),
        bias: bias.map_or_else(none, Tensor::into_dispatch),
    };
    let call = Call { mean_of_heads: D == 2, ..call(layout, options) };
    Tensor::from_dispatch(Dispatch::attention_forward(operands, call, None))
}

/// [`attention_weights`](super::attention_weights) where the kernels can read.
pub(super) fn weights(
    query: Tensor<3>,
    key: Tensor<3>,
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    // The weights do not depend on the values; the keys stand in for them.
    let operands = operands([query, key.clone(), key], extras);
    Tensor::from_dispatch(Dispatch::attention_weights_forward(operands, call(layout, options)))
}
