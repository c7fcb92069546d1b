//! Attention whose queries and keys are numbers made of the values, by one vector each: that of graph attention networks
//! (Veličković et al., 2018).

use burn::tensor::{Tensor, TensorData};

use super::{AttentionExtras, AttentionOptions, Layout, Score, attention_twin, check, fused};
use crate::memory::has_kernels;

/// `out_i = Σ_j weights_ij · x_j`, where the logit of a pair is `leaky(a · x_i + b · x_j)`, for each set and head.
///
/// Shapes: `x` `[tokens, heads, dim]`; `vectors` `[2, heads · dim]`, a then b; `bias` as [`AttentionExtras::bias`]; the result is
/// `[tokens, heads, dim]`. As one operation: neither the numbers nor their gradients become tensors.
///
/// # Panics
/// If the score of the options is not [`Score::RankOne`], or shapes, layout and options do not fit together.
pub fn rank_one_attention(
    x: Tensor<3>,
    vectors: Tensor<2>,
    bias: Option<Tensor<2>>,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    if !has_kernels(&x.device()) {
        return rank_one_attention_twin(x, vectors, bias, layout, options);
    }
    let bias = checked(&x, &vectors, bias, layout, options);
    fused::rank_one_attention(x, vectors, bias, layout, options)
}

/// The mean over heads of [`rank_one_attention`], `[tokens, dim]`. A share of its gradient is that of each head, so backward one row is read
/// where others read one for each.
///
/// # Panics
/// As [`rank_one_attention`].
pub fn rank_one_attention_mean(
    x: Tensor<3>,
    vectors: Tensor<2>,
    bias: Option<Tensor<2>>,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<2> {
    if !has_kernels(&x.device()) {
        return rank_one_attention_twin(x, vectors, bias, layout, options).mean_dim(1).squeeze_dim(1);
    }
    let bias = checked(&x, &vectors, bias, layout, options);
    fused::rank_one_attention(x, vectors, bias, layout, options)
}

/// The bias, once it is known that shapes, layout and options fit together.
fn checked(
    x: &Tensor<3>,
    vectors: &Tensor<2>,
    bias: Option<Tensor<2>>,
    layout: &Layout,
    options: &AttentionOptions,
) -> Option<Tensor<2>> {
    check_vectors(x, vectors, options);
    let [tokens, heads, _] = x.dims();
    let extras = AttentionExtras { bias, score: None };
    check([[tokens, heads, 1], [tokens, heads, 1], x.dims()], &extras, layout, options);
    extras.bias
}

/// The same as [`rank_one_attention`], composed of Burn's own operations.
pub fn rank_one_attention_twin(
    x: Tensor<3>,
    vectors: Tensor<2>,
    bias: Option<Tensor<2>>,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    check_vectors(&x, &vectors, options);
    let [tokens, heads, dim] = x.dims();
    let sums = x.clone().reshape([tokens, heads * dim]).matmul(by_head(vectors, heads));
    let [query, key] = [0, 1].map(|n| sums.clone().narrow(1, n * heads, heads).reshape([tokens, heads, 1]));
    attention_twin(query, key, x, &AttentionExtras { bias, score: None }, layout, options)
}

fn check_vectors(x: &Tensor<3>, vectors: &Tensor<2>, options: &AttentionOptions) {
    let [_, heads, dim] = x.dims();
    assert!(matches!(options.score, Score::RankOne { .. }), "rank_one_attention: the score is {:?}", options.score);
    assert_eq!(vectors.dims(), [2, heads * dim], "rank_one_attention: vectors for {heads} heads of {dim} numbers");
}

/// `[heads · dim, 2 · heads]`: column `h` has `a` in the rows of head `h`, and column `heads + h` has `b` there.
fn by_head(vectors: Tensor<2>, heads: usize) -> Tensor<2> {
    let ([_, width], device) = (vectors.dims(), vectors.device());
    let dim = width / heads;
    let is_own = |at: usize| (at / (2 * heads)) / dim == at % heads;
    let own: Vec<f32> = (0..width * 2 * heads).map(|at| if is_own(at) { 1.0 } else { 0.0 }).collect();
    let own = Tensor::<2>::from_data(TensorData::new(own, [width, 2 * heads]), &device);
    vectors.transpose().reshape([width, 2, 1]).repeat_dim(2, heads).reshape([width, 2 * heads]) * own
}
