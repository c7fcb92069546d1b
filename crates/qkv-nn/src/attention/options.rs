//! What attention can be asked for: the choices of [`qkv::options`], as values that own what they are made of. What of it
//! is learned comes beside them, as tensors, in [`AttentionExtras`](super::AttentionExtras).

use std::sync::Arc;

use qkv::options::{self, Dropout, Normalizer, Options, ScoreActivation};
use qkv::{Csr, Key};

/// How a query and a key become a logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// `scale · q·k` (Vaswani et al., 2017), or `softcap · tanh(scale · q·k / softcap)` (Gemma 2, 2024).
    Dot {
        /// What the product is multiplied by; `None` is `1 / √head_dim`.
        scale: Option<f32>,
        /// The bound of the logits.
        softcap: Option<f32>,
    },
    /// `w · act(q + k)` (Bahdanau et al., 2015; GATv2 by Brody et al., 2022); `w` is
    /// [`AttentionExtras::score`](super::AttentionExtras::score).
    Additive {
        /// What is done to each sum.
        activation: ScoreActivation,
    },
    /// `leaky_relu(q + k)` of one number each: `head_dim` is 1 (GAT by Veličković et al., 2018).
    RankOne {
        /// What negative sums are multiplied by.
        slope: f32,
    },
}

impl Score {
    /// The scaled dot product of Vaswani et al. (2017).
    pub const DOT: Self = Self::Dot { scale: None, softcap: None };

    /// The additive score of Bahdanau et al. (2015).
    pub const ADDITIVE: Self = Self::Additive { activation: ScoreActivation::Tanh };

    /// The factor for a dot product of vectors of `head_dim` elements; 1 for other scores.
    pub fn scale(self, head_dim: usize) -> f32 {
        self.kernel(&[]).scale(head_dim)
    }

    fn kernel(self, weights: &[f32]) -> options::Score<'_> {
        match self {
            Self::Dot { scale, softcap } => options::Score::Dot { scale, softcap },
            Self::Additive { activation } => options::Score::Additive { activation, weights },
            Self::RankOne { slope } => options::Score::RankOne { slope },
        }
    }
}

/// Which keys a query may attend to. Positions count from the beginning of the set; a set never attends into another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mask {
    /// All of its set.
    #[default]
    Full,
    /// Those up to `offset` behind it.
    Causal {
        /// How far the keys are ahead of the queries.
        offset: isize,
    },
    /// Those from `left` before it to `right` behind it.
    Window {
        /// Keys before the query.
        left: usize,
        /// Keys behind the query.
        right: usize,
    },
    /// Those at the other end of its edges, both counted through the whole batch: row `i` lists the keys of query `i`.
    Graph(Arc<Csr>),
}

impl Mask {
    /// The same, borrowed, as the kernels take it.
    pub fn kernel(&self) -> options::Mask<'_> {
        match self {
            Self::Full => options::Mask::Full,
            Self::Causal { offset } => options::Mask::Causal { offset: *offset },
            Self::Window { left, right } => options::Mask::Window { left: *left, right: *right },
            Self::Graph(edges) => options::Mask::Graph(edges),
        }
    }
}

impl From<options::Mask<'_>> for Mask {
    fn from(mask: options::Mask<'_>) -> Self {
        match mask {
            options::Mask::Full => Self::Full,
            options::Mask::Causal { offset } => Self::Causal { offset },
            options::Mask::Window { left, right } => Self::Window { left, right },
            options::Mask::Graph(edges) => Self::Graph(Arc::new(edges.clone())),
        }
    }
}

/// What is added to the logits. Numbers that can be learned are [`AttentionExtras::bias`](super::AttentionExtras::bias).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Bias {
    /// Nothing.
    #[default]
    None,
    /// `-slope · |i + offset - j|` (Press et al., 2022); the slopes are not learned.
    Alibi {
        /// One for each head.
        slopes: Arc<[f32]>,
        /// How far the keys are ahead of the queries.
        offset: isize,
    },
    /// A number for each head and bucket; the tensor is `[heads, buckets]`.
    Buckets(Buckets),
    /// A number for each edge of a [`Mask::Graph`]; the tensor is `[edges, heads]`, edges in the order of the [`Csr`].
    Edges,
    /// A number for each pair; the tensor holds `[heads, q_len, kv_len]` of each set, one set after the other, in whatever
    /// shape: `[heads · q_len, kv_len]` suits a batch of one set.
    Dense,
}

/// Which bucket the pair of query `i` and key `j` belongs to; the formulas are those of [`qkv::options::Buckets`].
#[derive(Clone, Debug, PartialEq)]
pub enum Buckets {
    /// By the distance: bucket `clamp(i + offset - j, ±reach) + reach` (Shaw et al., 2018, in the scalar form of Raffel et al.,
    /// 2020).
    Relative {
        /// The largest distance that has a bucket of its own.
        reach: usize,
        /// How far the keys are ahead of the queries.
        offset: isize,
    },
    /// By the distances in two coordinates (Liu et al., 2021, for images).
    Grid {
        /// The place of each query, through the whole batch.
        queries: Arc<[[i32; 2]]>,
        /// The place of each key.
        keys: Arc<[[i32; 2]]>,
        /// The largest distance that has a bucket of its own.
        reach: [usize; 2],
    },
    /// As stored for each pair.
    Stored {
        /// `[q_len, kv_len]` of each set, one set after the other; all less than `count`.
        pairs: Arc<[u8]>,
        /// How many buckets.
        count: usize,
    },
}

impl Buckets {
    /// How many buckets.
    pub fn count(&self) -> usize {
        self.kernel().count()
    }

    fn kernel(&self) -> options::Buckets<'_> {
        match self {
            Self::Relative { reach, offset } => options::Buckets::Relative { reach: *reach, offset: *offset },
            Self::Grid { queries, keys, reach } => options::Buckets::Grid { queries, keys, reach: *reach },
            Self::Stored { pairs, count } => options::Buckets::Stored { pairs, count: *count },
        }
    }
}

/// What a call of [`attention`](super::attention) computes.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionOptions {
    /// How a query and a key become a logit.
    pub score: Score,
    /// How the logits of a query become weights.
    pub normalizer: Normalizer,
    /// Which keys a query may attend to.
    pub mask: Mask,
    /// What is added to the logits.
    pub bias: Bias,
    /// Rate and key of the dropout on the weights: which are left out follows from key, set, head, query and key alone
    /// ([`qkv::options::Dropout`]).
    pub dropout: Option<(f32, Key)>,
}

impl Default for AttentionOptions {
    /// The scaled dot product and the softmax of Vaswani et al. (2017), over the whole set.
    fn default() -> Self {
        let (score, normalizer) = (Score::DOT, Normalizer::Softmax);
        Self { score, normalizer, mask: Mask::Full, bias: Bias::None, dropout: None }
    }
}

impl AttentionOptions {
    /// The same, borrowed, as the kernels take it, with the numbers of [`AttentionExtras`](super::AttentionExtras): the weights
    /// of the additive score and those of the bias, each empty if there is none.
    pub(crate) fn kernel_options<'a>(&'a self, score: &'a [f32], bias: &'a [f32]) -> Options<'a> {
        Options {
            score: self.score.kernel(score),
            normalizer: self.normalizer,
            mask: self.mask.kernel(),
            bias: match &self.bias {
                Bias::None => options::Bias::None,
                Bias::Alibi { slopes, offset } => options::Bias::Alibi { slopes, offset: *offset },
                Bias::Buckets(buckets) => options::Bias::Buckets { table: bias, buckets: buckets.kernel() },
                Bias::Edges => options::Bias::Edges { values: bias },
                Bias::Dense => options::Bias::Dense { values: bias },
            },
            dropout: self.dropout.map(|(rate, key)| Dropout { rate, key }),
        }
    }
}
