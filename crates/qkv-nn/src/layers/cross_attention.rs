//! Attention from one sequence to the vectors of another: how a decoder looks at what was read.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use qkv::activation::Activation;
use qkv::options::Normalizer;

use super::{Init, LayerNorm, Linear, NormPlace, Pass};
use crate::attention::{AttentionExtras, AttentionOptions, Layout, Score, attention};

/// What a layer of cross-attention is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossAttentionOptions {
    /// Heads; `d_model` divides by it.
    pub heads: usize,
    /// How a query and a key become a logit.
    pub score: Score,
    /// How the logits of a query become weights.
    pub normalizer: Normalizer,
    /// Dropout on the weights.
    pub dropout: f32,
}

/// Multi-head attention whose queries come from one sequence, keys and values from another (Vaswani et al., 2017; with an additive
/// score and one head that of Bahdanau et al., 2015).
#[derive(Module, Debug)]
pub struct CrossAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    additive: Option<Param<Tensor<2>>>,
    #[module(skip)]
    options: CrossAttentionOptions,
}

/// Keys and values of the vectors that are looked at, `[source tokens, heads, head_dim]` each.
#[derive(Clone, Debug)]
pub(super) struct Looked {
    key: Tensor<3>,
    value: Tensor<3>,
}

impl CrossAttention {
    /// A layer for vectors of `d_model` elements on both sides.
    ///
    /// # Panics
    /// If `d_model` does not divide by the number of heads.
    pub fn new(d_model: usize, options: CrossAttentionOptions, init: &Init) -> Self {
        let heads = options.heads;
        assert!(heads > 0 && d_model.is_multiple_of(heads), "d_model {d_model} does not divide by {heads} heads");
        let head_dim = d_model / heads;
        let linear = || Linear::new(d_model, d_model, init);
        Self {
            query: linear(),
            key: linear(),
            value: linear(),
            output: linear(),
            additive: matches!(options.score, Score::Additive { .. })
                .then(|| init.uniform([heads, head_dim], 1.0 / (head_dim as f32).sqrt())),
            options,
        }
    }

    /// Keys and values of `source`, `[source tokens, d_model]`.
    pub(super) fn look_at(&self, source: Tensor<2>) -> Looked {
        let key = self.split(self.key.forward(source.clone(), Activation::Identity));
        let value = self.split(self.value.forward(source, Activation::Identity));
        Looked { key, value }
    }

    /// The half of a block that this layer is the heart of, `[tokens, d_model]` to the same. `layout` says which queries see which
    /// keys.
    pub(super) fn sublayer(
        &self,
        x: Tensor<2>,
        looked: &Looked,
        layout: &Layout,
        (norm, place): (&LayerNorm, NormPlace),
        dropout: f32,
        pass: &Pass,
    ) -> Tensor<2> {
        let attend = |x: Tensor<2>| {
            let [tokens, d_model] = x.dims();
            let query = self.split(self.query.forward(x, Activation::Identity));
            let (key, value) = (looked.key.clone(), looked.value.clone());
            let out = attention(query, key, value, &self.extras(), layout, &self.attention_options(pass));
            self.output.forward(out.reshape([tokens, d_model]), Activation::Identity)
        };
        match place {
            NormPlace::Before => x.clone() + pass.dropout(attend(norm.forward(x)), dropout),
            NormPlace::After => norm.forward(x.clone() + pass.dropout(attend(x), dropout)),
        }
    }

    fn split(&self, x: Tensor<2>) -> Tensor<3> {
        let [tokens, d_model] = x.dims();
        x.reshape([tokens, self.options.heads, d_model / self.options.heads])
    }

    fn extras(&self) -> AttentionExtras {
        AttentionExtras { bias: None, score: self.additive.as_ref().map(Param::val) }
    }

    fn attention_options(&self, pass: &Pass) -> AttentionOptions {
        let CrossAttentionOptions { score, normalizer, dropout, .. } = self.options;
        AttentionOptions { score, normalizer, dropout: pass.next(dropout), ..AttentionOptions::default() }
    }
}
