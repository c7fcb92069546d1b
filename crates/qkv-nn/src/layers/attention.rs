//! Multi-head self-attention with its four products: Wq, Wk, Wv, Wo.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use qkv::activation::Activation;
use qkv::attention::Shape;
use qkv::options::{Mask, Normalizer};

use super::{Geometry, Init, LayerNorm, Linear, NormPlace, Pass, Sees, rotary_angles, rotary_angles_at};
use crate::attention::{
    AttentionExtras, AttentionOptions, Bias, Buckets, KeyValueCache, Layout, Score, attention, attention_weights,
};
use crate::ops::{SelfAttentionCall, SelfAttentionParameters, gather_sum, self_attention, turned_twin};

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
    /// The distance up to which a learned bias tells distances apart, on a grid in rows and columns; `None` for no bias.
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
    /// `[heads, 2 · range + 1]`, by query less key; on grids and of graphs as [`Geometry::relative_buckets`] says.
    relative_bias: Option<Param<Tensor<2>>>,
    /// `[kinds, heads]`, by the kind of an edge.
    edge_kinds: Option<Param<Tensor<2>>>,
    /// `[numbers, heads]`, what a number of an edge adds to its bias.
    edge_numbers: Option<Param<Tensor<2>>>,
    additive: Option<Param<Tensor<2>>>,
    #[module(skip)]
    options: SelfAttentionOptions,
    #[module(skip)]
    geometry: Geometry,
}

impl SelfAttention {
    /// A layer for vectors of `d_model` elements that lie as `geometry` says.
    ///
    /// # Panics
    /// If `d_model` does not divide by the number of heads.
    pub fn new(d_model: usize, options: SelfAttentionOptions, geometry: Geometry, init: &Init) -> Self {
        let heads = options.heads;
        assert!(heads > 0 && d_model.is_multiple_of(heads), "d_model {d_model} does not divide by {heads} heads");
        let head_dim = d_model / heads;
        let [kinds, numbers] = geometry.edge_biases();
        let of_edges = |rows: usize| (rows > 0).then(|| init.constant([rows, heads], 0.0));
        Self {
            query: Linear::new(d_model, d_model, init),
            key: Linear::new(d_model, d_model, init),
            value: Linear::new(d_model, d_model, init),
            output: Linear::new(d_model, d_model, init),
            relative_bias: options
                .relative_range
                .map(|range| geometry.relative_buckets(range))
                .filter(|&buckets| buckets > 0)
                .map(|buckets| match geometry {
                    Geometry::Graph { sees, .. } => init.values(sees.first_bias(heads), [heads, buckets]),
                    _ => init.constant([heads, buckets], 0.0),
                }),
            edge_kinds: of_edges(kinds),
            edge_numbers: of_edges(numbers),
            additive: matches!(options.score, Score::Additive { .. })
                .then(|| init.uniform([heads, head_dim], 1.0 / (head_dim as f32).sqrt())),
            options,
            geometry,
        }
    }

    /// What the layer makes of `x`, `[tokens, d_model]` to the same: without norm, residual, and what is around them.
    pub fn forward(&self, x: Tensor<2>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let [tokens, d_model] = x.dims();
        let value = self.split(self.value.forward(x.clone(), Activation::Identity));
        let (query, key) = self.query_and_key(x, layout);
        let (options, extras) = self.over(layout, pass);
        let out = attention(query, key, value, &extras, layout, &options);
        self.output.forward(out.reshape([tokens, d_model]), Activation::Identity)
    }

    /// The half of a block that this layer is the heart of, `[tokens, d_model]` to the same: with norm, residual, and a dropout of
    /// rate `dropout` before it.
    pub fn sublayer(
        &self,
        x: Tensor<2>,
        norm: &LayerNorm,
        place: NormPlace,
        dropout: f32,
        layout: &Layout,
        pass: &Pass,
    ) -> Tensor<2> {
        let [_, d_model] = x.dims();
        let (gamma, beta) = norm.parameters();
        let (attention, extras) = self.over(layout, pass);
        let linears = [&self.query, &self.key, &self.value, &self.output];
        let parameters = SelfAttentionParameters {
            gamma,
            beta,
            weights: linears.map(Linear::weight),
            biases: linears.map(Linear::bias),
            extras,
        };
        let call = SelfAttentionCall {
            place,
            heads: self.options.heads,
            attention,
            rotary: self.options.rotary.then(|| rotary_angles(layout, self.geometry, d_model / self.options.heads)),
            dropout: pass.next(dropout),
        };
        self_attention(x, parameters, layout, call)
    }

    /// The weights, `[heads, tokens, tokens]`, of a batch that holds one set.
    pub fn weights(&self, x: Tensor<2>, layout: &Layout) -> Tensor<3> {
        let (query, key) = self.query_and_key(x, layout);
        let (options, extras) = self.over(layout, &Pass::inference());
        attention_weights(query, key, &extras, layout, &options)
    }

    fn query_and_key(&self, x: Tensor<2>, layout: &Layout) -> (Tensor<3>, Tensor<3>) {
        let query = self.split(self.query.forward(x.clone(), Activation::Identity));
        let key = self.split(self.key.forward(x, Activation::Identity));
        if !self.options.rotary {
            return (query, key);
        }
        let angles = rotary_angles(layout, self.geometry, query.dims()[2]);
        (turned_twin(query, &angles), turned_twin(key, &angles))
    }

    /// One step: `x` `[sequences, d_model]`, normalised already, is the next vector of each sequence, `cache` holds what was kept of
    /// those before it. What comes out is what the layer makes of that place, without norm and residual. The sequences are lines.
    pub(super) fn step(&self, x: Tensor<2>, cache: &mut Option<KeyValueCache>) -> Tensor<2> {
        let [rows, d_model] = x.dims();
        let shape = Shape::new(self.options.heads, d_model / self.options.heads);
        let cache = cache.get_or_insert_with(|| KeyValueCache::new(rows, shape));
        let value = self.split(self.value.forward(x.clone(), Activation::Identity));
        let mut query = self.split(self.query.forward(x.clone(), Activation::Identity));
        let mut key = self.split(self.key.forward(x, Activation::Identity));
        if self.options.rotary {
            let angles = rotary_angles_at(cache.len(), rows, shape.head_dim);
            (query, key) = (turned_twin(query, &angles), turned_twin(key, &angles));
        }
        cache.push(key, value);
        let out = cache.attend(query, &self.extras(), &self.attention_options(&Pass::inference()));
        self.output.forward(out.reshape([rows, d_model]), Activation::Identity)
    }

    fn split(&self, x: Tensor<2>) -> Tensor<3> {
        let [tokens, d_model] = x.dims();
        x.reshape([tokens, self.options.heads, d_model / self.options.heads])
    }

    fn extras(&self) -> AttentionExtras {
        AttentionExtras {
            bias: self.relative_bias.as_ref().map(Param::val),
            score: self.additive.as_ref().map(Param::val),
        }
    }

    /// What is computed over the vectors of `layout`, and from which numbers.
    fn over(&self, layout: &Layout, pass: &Pass) -> (AttentionOptions, AttentionExtras) {
        let (mut options, mut extras) = (self.attention_options(pass), self.extras());
        if let (Geometry::Grid { .. }, Some(range), Some(table)) =
            (self.geometry, self.options.relative_range, extras.bias.clone())
        {
            let relative = layout.relative(range);
            options.bias = Bias::Buckets(relative.buckets.clone());
            extras.bias = Some(gather_sum(table.transpose(), relative.learned.clone(), 1).transpose());
        }
        if let (Geometry::Graph { sees, .. }, Some(graph)) = (self.geometry, layout.graph()) {
            (options.mask, options.bias) = match (sees, &extras.bias) {
                (Sees::Edges, _) => (crate::attention::Mask::Graph(graph.edges.clone()), Bias::None),
                (Sees::Buckets { distances, edges }, Some(_)) => {
                    let count = distances + edges;
                    (options.mask, Bias::Buckets(Buckets::Stored { pairs: graph.pairs.clone(), count }))
                }
                _ => (options.mask, Bias::None),
            };
            let (kinds, numbers) = (self.edge_kinds.as_ref(), self.edge_numbers.as_ref());
            if let Some(bias) = graph.bias(kinds.map(Param::val), numbers.map(Param::val)) {
                (options.bias, extras.bias) = (Bias::Edges, Some(bias));
            }
        }
        (options, extras)
    }

    /// What is computed where all vectors lie on lines.
    fn attention_options(&self, pass: &Pass) -> AttentionOptions {
        AttentionOptions {
            score: self.options.score,
            normalizer: self.options.normalizer,
            mask: self.options.mask.into(),
            bias: match self.options.relative_range {
                Some(reach) => Bias::Buckets(Buckets::Relative { reach, offset: 0 }),
                None => Bias::None,
            },
            dropout: pass.next(self.options.dropout),
        }
    }
}
