//! Bare layers of attention along edges, as graph attention networks have them: a product, attention, a non-linearity, and nothing
//! around it, neither norm nor residual nor a fully connected part. The last layer gives the classes.
//!
//! ```text
//! h = x W          q, k, v of h, by the score:
//!   GAT    (rank one)   q_i = a·h_i, k_j = b·h_j, one number a head; v = h;     logit leaky_relu(q_i + k_j)
//!   GATv2  (additive)   q, k = two products of x; v = k;                        logit w · leaky_relu(q_i + k_j)
//!   dot                 q, k, v = three products of x;                          logit q_i · k_j / √d
//! out_i = elu(Σ_j softmax_j(logit_ij + bias of the edge) v_j + c), over the nodes j at the other end of the edges of i
//! ```

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use qkv::activation::Activation;
use qkv::gather::NONE;
use qkv::options::ScoreActivation;
use qkv::random::Key;

use super::geometry::rows_of_kinds;
use super::{Init, Pass};
use crate::attention::{
    AttentionExtras, AttentionOptions, Bias, Graph, Layout, Mask, Score, attention, rank_one_attention,
    rank_one_attention_mean,
};
use crate::ops::{bias_activation, gather_sum, linear};

/// The slope of leaky ReLU below zero, as in GAT and GATv2.
const SLOPE: f32 = 0.2;

/// How the logit of an edge is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeScore {
    /// GAT (Veličković et al., 2018).
    RankOne,
    /// GATv2 (Brody et al., 2022).
    Additive,
    /// The scaled dot product (Vaswani et al., 2017).
    Dot,
}

/// What a stack is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EdgeStackOptions {
    /// Elements of the vectors that come in, or rows of the table of features.
    pub dim: usize,
    /// Layers, the last of which gives the classes.
    pub layers: usize,
    /// Heads of all layers but the last.
    pub heads: usize,
    /// Heads of the last layer, each of which gives all classes; what they give is averaged.
    pub last_heads: usize,
    /// Elements of one of these heads.
    pub head_dim: usize,
    /// Numbers that come out for each node.
    pub classes: usize,
    /// How the logit of an edge is made; `None` for no attention at all: each node for itself.
    pub score: Option<EdgeScore>,
    /// Kinds of edges that a learned bias tells apart; 0 or 1 for none.
    pub kinds: usize,
    /// Numbers of an edge, from which a learned bias is made; 0 for none.
    pub numbers: usize,
    /// Dropout on what goes into each layer.
    pub dropout: f32,
    /// Dropout on the weights.
    pub attention_dropout: f32,
}

/// What goes into a layer: vectors, or few of many features, or both end to end, the features first.
#[derive(Clone, Debug, Default)]
pub struct NodeInput {
    /// Few of many features.
    pub sparse: Option<SparseNodes>,
    /// `[tokens, dim]`.
    pub dense: Option<Tensor<2>>,
}

/// Of many features few for each node: node `i` has those that `ids[i · width..][..width]` says, [`NONE`] where it has fewer.
#[derive(Clone, Debug, Default)]
pub struct SparseNodes {
    /// `[tokens, width]`.
    pub ids: Arc<[u32]>,
    /// The most features of a node.
    pub width: usize,
    /// How many features there are.
    pub features: usize,
    /// The value of each, `[tokens, width]`; empty if all are 1.
    pub values: Arc<[f32]>,
    /// What all features of a node are multiplied by, `[tokens]`; empty if by 1.
    pub scales: Arc<[f32]>,
}

impl NodeInput {
    /// Vectors.
    pub fn dense(x: Tensor<2>) -> Self {
        Self { sparse: None, dense: Some(x) }
    }

    /// `x W`, where `x` is this with dropout.
    ///
    /// # Panics
    /// If there is nothing, or `weight` has not a row for each feature and each element.
    pub fn product(&self, weight: Tensor<2>, dropout: Option<(f32, Key)>) -> Tensor<2> {
        let [rows, columns] = weight.dims();
        let features = self.sparse.as_ref().map_or(0, |sparse| sparse.features);
        let part = |range: std::ops::Range<usize>| {
            if range.len() == rows { weight.clone() } else { weight.clone().slice([range, 0..columns]) }
        };
        let sparse = self.sparse.as_ref().map(|sparse| sparse.product(part(0..features), dropout));
        let dense = self.dense.as_ref().map(|x| {
            let dropped = dropout.map(|(rate, key)| crate::ops::dropout(x.clone(), rate, key.fold(1)));
            product(dropped.unwrap_or_else(|| x.clone()), part(features..rows))
        });
        match (sparse, dense) {
            (Some(sparse), Some(dense)) => sparse + dense,
            (sparse, dense) => sparse.or(dense).expect("nodes have features"),
        }
    }
}

impl SparseNodes {
    fn product(&self, weight: Tensor<2>, dropout: Option<(f32, Key)>) -> Tensor<2> {
        let device = weight.device();
        let (ids, kept) = match dropout {
            Some((rate, key)) => (dropped(&self.ids, rate, key), 1.0 / (1.0 - rate)),
            None => (self.ids.clone(), 1.0),
        };
        let column = |numbers: Vec<f32>| {
            let rows = numbers.len();
            Tensor::<2>::from_data(TensorData::new(numbers, [rows, 1]), &device)
        };
        let sums = if self.values.is_empty() {
            gather_sum(weight, ids, self.width)
        } else {
            let rows = gather_sum(weight, ids, 1) * column(self.values.to_vec());
            gather_sum(rows, (0..self.values.len() as u32).collect(), self.width)
        };
        if self.scales.is_empty() && kept == 1.0 {
            return sums;
        }
        let scale = |i: usize| kept * self.scales.get(i).copied().unwrap_or(1.0);
        let scales = (0..sums.dims()[0]).map(scale).collect();
        sums * column(scales)
    }
}

/// The ids without those that are dropped.
fn dropped(ids: &[u32], rate: f32, key: Key) -> Arc<[u32]> {
    let keep = |(i, &id): (usize, &u32)| if key.uniform(i as u64) < rate { NONE } else { id };
    ids.iter().enumerate().map(keep).collect()
}

/// `x W`.
fn product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let (outputs, device) = (weight.dims()[1], weight.device());
    linear(x, weight, Tensor::zeros([outputs], &device), Activation::Identity)
}

/// One layer.
#[derive(Module, Debug)]
pub struct EdgeAttention {
    /// `[dim, products · heads · head_dim]`: that of the values; with the additive score before it that of the queries; with the dot
    /// product those of queries and keys.
    weight: Param<Tensor<2>>,
    /// Of the rank-one score `[2, heads · head_dim]`, a and b; of the additive one `[heads, head_dim]`.
    score: Option<Param<Tensor<2>>>,
    edge_kinds: Option<Param<Tensor<2>>>,
    edge_numbers: Option<Param<Tensor<2>>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    kind: Option<EdgeScore>,
    #[module(skip)]
    dropout: f32,
    #[module(skip)]
    attention_dropout: f32,
}

impl EdgeAttention {
    /// A layer from `dim` elements to `heads` heads of `head_dim` each.
    fn new(options: &EdgeStackOptions, dim: usize, [heads, head_dim]: [usize; 2], init: &Init) -> Self {
        let width = heads * head_dim;
        let glorot = |rows: usize, columns: usize| (6.0 / (rows + columns).max(1) as f32).sqrt();
        let of_edges = |rows: usize| (rows > 0 && options.score.is_some()).then(|| init.constant([rows, heads], 0.0));
        Self {
            weight: init.uniform([dim, products(options.score) * width], glorot(dim, width)),
            score: match options.score {
                Some(EdgeScore::RankOne) => Some(init.uniform([2, width], glorot(1, head_dim))),
                Some(EdgeScore::Additive) => Some(init.uniform([heads, head_dim], glorot(1, head_dim))),
                Some(EdgeScore::Dot) | None => None,
            },
            edge_kinds: of_edges(rows_of_kinds(options.kinds)),
            edge_numbers: of_edges(options.numbers),
            bias: init.constant([width], 0.0),
            heads,
            kind: options.score,
            dropout: options.dropout,
            attention_dropout: options.attention_dropout,
        }
    }

    /// `[tokens, heads · head_dim]`.
    fn forward(&self, x: &NodeInput, act: Activation, layout: &Layout, pass: &Pass) -> Tensor<2> {
        bias_activation(self.attended(x, false, layout, pass), self.bias.val(), act)
    }

    /// The mean over heads, `[tokens, head_dim]`.
    fn mean_of_heads(&self, x: &NodeInput, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let mean = self.attended(x, true, layout, pass);
        let bias = self.bias.val();
        let bias = bias.clone().reshape([self.heads, bias.dims()[0] / self.heads]).mean_dim(0).squeeze_dim(0);
        bias_activation(mean, bias, Activation::Identity)
    }

    /// The same without the bias, or the mean over heads.
    fn attended(&self, x: &NodeInput, mean: bool, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let products = x.product(self.weight.val(), pass.next(self.dropout));
        let dropout = pass.next(self.attention_dropout);
        let [tokens, _] = products.dims();
        let width = self.bias.val().dims()[0];
        let whole = |out: Tensor<2>| match mean {
            // As sums of rows, one operation each way.
            true => {
                let rows = out.reshape([tokens * self.heads, width / self.heads]);
                gather_sum(rows, (0..(tokens * self.heads) as u32).collect(), self.heads) / self.heads as f32
            }
            false => out,
        };
        let Some(kind) = self.kind else { return whole(products) };
        let part = |n: usize| products.clone().narrow(1, n * width, width);
        let split = |x: Tensor<2>| {
            let [_, elements] = x.dims();
            x.reshape([tokens, self.heads, elements / self.heads])
        };
        let graph = layout.graph().expect("a layout with edges");
        let edges = self.edge_bias(graph);
        let options = AttentionOptions {
            score: match kind {
                EdgeScore::RankOne => Score::RankOne { slope: SLOPE },
                EdgeScore::Additive => Score::Additive { activation: ScoreActivation::LeakyRelu { slope: SLOPE } },
                EdgeScore::Dot => Score::DOT,
            },
            mask: Mask::Graph(graph.edges.clone()),
            bias: if edges.is_some() { Bias::Edges } else { Bias::None },
            dropout,
            ..AttentionOptions::default()
        };
        let score = self.score.as_ref().map(Param::val);
        let out = match (kind, score) {
            (EdgeScore::RankOne, Some(vectors)) if mean => {
                return rank_one_attention_mean(split(products), vectors, edges, layout, &options);
            }
            (EdgeScore::RankOne, Some(vectors)) => {
                rank_one_attention(split(products), vectors, edges, layout, &options)
            }
            (EdgeScore::Dot, _) => {
                let extras = AttentionExtras { bias: edges, score: None };
                attention(split(part(0)), split(part(1)), split(part(2)), &extras, layout, &options)
            }
            (_, score) => {
                let extras = AttentionExtras { bias: edges, score };
                attention(split(part(0)), split(part(1)), split(part(1)), &extras, layout, &options)
            }
        };
        whole(out.reshape([tokens, width]))
    }

    /// `[edges, heads]`: what kind and numbers of each edge add to its logits.
    fn edge_bias(&self, graph: &Graph) -> Option<Tensor<2>> {
        graph.bias(self.edge_kinds.as_ref().map(Param::val), self.edge_numbers.as_ref().map(Param::val))
    }
}

/// How many products of what comes in a layer needs.
fn products(score: Option<EdgeScore>) -> usize {
    match score {
        None | Some(EdgeScore::RankOne) => 1,
        Some(EdgeScore::Additive) => 2,
        Some(EdgeScore::Dot) => 3,
    }
}

/// Layers one behind the other.
#[derive(Module, Debug)]
pub struct EdgeStack {
    layers: Vec<EdgeAttention>,
}

impl EdgeStack {
    /// A stack with fresh parameters.
    pub fn new(options: &EdgeStackOptions, init: &Init) -> Self {
        let shapes = shapes(options);
        Self { layers: shapes.map(|(dim, heads)| EdgeAttention::new(options, dim, heads, init)).collect() }
    }

    /// How many numbers [`EdgeStack::new`] would make.
    pub fn parameter_count(options: &EdgeStackOptions) -> u128 {
        let of_layer = |(dim, [heads, head_dim]): (usize, [usize; 2])| {
            let [dim, heads, width] = [dim, heads, heads * head_dim].map(|n| n as u128);
            let score = match options.score {
                Some(EdgeScore::RankOne) => 2 * width,
                Some(EdgeScore::Additive) => width,
                Some(EdgeScore::Dot) | None => 0,
            };
            let edges = if options.score.is_some() {
                (rows_of_kinds(options.kinds) + options.numbers) as u128 * heads
            } else {
                0
            };
            dim * products(options.score) as u128 * width + score + edges + width
        };
        shapes(options).map(of_layer).sum()
    }

    /// What comes in to `[tokens, classes]`.
    pub fn forward(&self, x: NodeInput, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let (last, others) = self.layers.split_last().expect("a stack has a layer");
        let x = others.iter().fold(x, |x, layer| NodeInput::dense(layer.forward(&x, Activation::Elu, layout, pass)));
        match last.heads {
            1 => last.forward(&x, Activation::Identity, layout, pass),
            _ => last.mean_of_heads(&x, layout, pass),
        }
    }

    /// Where its parameters are.
    pub fn device(&self) -> Device {
        self.layers[0].bias.val().device()
    }
}

/// What goes into each layer, and its heads and their elements.
fn shapes(options: &EdgeStackOptions) -> impl Iterator<Item = (usize, [usize; 2])> {
    let &EdgeStackOptions { dim, layers, heads, last_heads, head_dim, classes, .. } = options;
    (0..layers.max(1)).map(move |layer| {
        let dim = if layer == 0 { dim } else { heads * head_dim };
        (dim, if layer + 1 >= layers { [last_heads, classes] } else { [heads, head_dim] })
    })
}
