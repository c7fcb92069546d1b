//! Multi-head self-attention with its four products: Wq, Wk, Wv, Wo.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use qkv::activation::Activation;
use qkv::options::{Mask, Normalizer};

use super::{Init, Linear, Pass, Rotary};
use crate::attention::{AttentionExtras, AttentionOptions, Layout, Score, attention, attention_weights};

/// What a layer of self-attention is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelfAttentionOptions {
    /// Heads; `d_model` divides by it.
    pub heads: usize,
    /// How a query and a key become a logit.
    pub score: Score,
    /// How the logits of a query become weights.
    pub normalizer: Normalizer,
    /// Which keys a query may attend to.
    pub mask: Mask<'static>,
    /// Whether queries and keys are turned by their place.
    pub rotary: bool,
    /// The distance up to which a learned bias tells distances apart; `None` for no bias.
    pub relative_range: Option<usize>,
    /// Dropout on the weights.
    pub dropout: f32,
}

/// Multi-head self-attention (Vaswani et al., 2017).
#[derive(Module, Debug)]
pub struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    relative_bias: Option<Param<Tensor<2>>>,
    additive: Option<Param<Tensor<2>>>,
    #[module(skip)]
    options: SelfAttentionOptions,
}

impl SelfAttention {
    /// A layer for vectors of `d_model` elements.
    ///
    /// # Panics
    /// If `d_model` does not divide by the number of heads.
    pub fn new(d_model: usize, options: SelfAttentionOptions, init: &Init) -> Self {
        let heads = options.heads;
        assert!(heads > 0 && d_model.is_multiple_of(heads), "d_model {d_model} does not divide by {heads} heads");
        let head_dim = d_model / heads;
        Self {
            query: Linear::new(d_model, d_model, init),
            key: Linear::new(d_model, d_model, init),
            value: Linear::new(d_model, d_model, init),
            output: Linear::new(d_model, d_model, init),
            relative_bias: options.relative_range.map(|range| init.constant([2 * range + 1, heads], 0.0)),
            additive: (options.score == Score::Additive)
                .then(|| init.uniform([heads, head_dim], 1.0 / (head_dim as f32).sqrt())),
            options,
        }
    }

    /// `[tokens, d_model]` to the same.
    pub fn forward(&self, x: Tensor<2>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let [tokens, d_model] = x.dims();
        let (query, key) = self.query_and_key(x.clone(), layout);
        let value = self.split(self.value.forward(x, Activation::Identity));
        let options = self.attention_options(pass);
        let out = attention(query, key, value, &self.extras(), layout, &options);
        self.output.forward(out.reshape([tokens, d_model]), Activation::Identity)
    }

    /// The weights, `[heads, tokens, tokens]`, of a batch that holds one set.
    pub fn weights(&self, x: Tensor<2>, layout: &Layout) -> Tensor<3> {
        let (query, key) = self.query_and_key(x, layout);
        attention_weights(query, key, &self.extras(), layout, &self.attention_options(&Pass::inference()))
    }

    fn query_and_key(&self, x: Tensor<2>, layout: &Layout) -> (Tensor<3>, Tensor<3>) {
        let query = self.split(self.query.forward(x.clone(), Activation::Identity));
        let key = self.split(self.key.forward(x, Activation::Identity));
        if !self.options.rotary {
            return (query, key);
        }
        let rotary = Rotary::new(layout, query.dims()[2], &query.device());
        (rotary.forward(query), rotary.forward(key))
    }

    fn split(&self, x: Tensor<2>) -> Tensor<3> {
        let [tokens, d_model] = x.dims();
        x.reshape([tokens, self.options.heads, d_model / self.options.heads])
    }

    fn extras(&self) -> AttentionExtras {
        AttentionExtras {
            relative_bias: self.relative_bias.as_ref().map(Param::val),
            additive: self.additive.as_ref().map(Param::val),
        }
    }

    fn attention_options(&self, pass: &Pass) -> AttentionOptions {
        AttentionOptions {
            score: self.options.score,
            normalizer: self.options.normalizer,
            mask: self.options.mask,
            dropout: pass.next(self.options.dropout),
        }
    }
}
