//! What attention can be asked for: score, normaliser, mask, bias, dropout. Plain values, shared by kernels and layers; each
//! goes with each.

use std::ops::Range;

use crate::csr::Csr;
use crate::random::Key;

/// How a query and a key become a logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score<'a> {
    /// `scale · q·k` (Luong et al., 2015; scaled as in Vaswani et al., 2017), or `softcap · tanh(scale · q·k / softcap)`, which
    /// stays within `±softcap` (Bello et al., 2017; Gemma 2, 2024).
    Dot {
        /// What the product is multiplied by; `None` is `1 / √head_dim`.
        scale: Option<f32>,
        /// The bound; greater than 0 and finite, and not so small that the scale over it is infinite.
        softcap: Option<f32>,
    },
    /// `Σ_c w_c · act(q_c + k_c)`.
    Additive {
        /// tanh in Bahdanau et al. (2015), leaky ReLU in Brody et al. (2022, GATv2).
        activation: ScoreActivation,
        /// w: `[heads, head_dim]`.
        weights: &'a [f32],
    },
    /// `leaky_relu(s_i + t_j)`: query and key are one number each, `head_dim` is 1 (Veličković et al., 2018, GAT).
    RankOne {
        /// What negative sums are multiplied by; 0.2 in the paper.
        slope: f32,
    },
}

impl Score<'_> {
    /// The scaled dot product of Vaswani et al. (2017).
    pub const DOT: Score<'static> = Score::Dot { scale: None, softcap: None };

    /// The factor for a dot product of vectors of `head_dim` elements; 1 for other scores.
    pub fn scale(self, head_dim: usize) -> f32 {
        match self {
            Score::Dot { scale, .. } => scale.unwrap_or(1.0 / (head_dim.max(1) as f32).sqrt()),
            Score::Additive { .. } | Score::RankOne { .. } => 1.0,
        }
    }
}

/// What the additive score does to each sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScoreActivation {
    /// The hyperbolic tangent.
    Tanh,
    /// `x` if positive, else `slope · x`.
    LeakyRelu {
        /// What negative numbers are multiplied by.
        slope: f32,
    },
}

/// How the logits of one query become weights. `n` is the number of keys that the mask allows this query.
///
/// A log-sum-exp is saved of those that have a sum: `ln Σ exp(logits)`, and `ln(1 + Σ exp(logits))`. The others save 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalizer {
    /// `exp(logit) / Σ exp(logits)`.
    Softmax,
    /// `exp(logit) / (1 + Σ exp(logits))`: a query may attend to nothing (Miller, 2023; the sink of Xiao et al., 2024, as a key
    /// whose logit and value are 0).
    SoftmaxPlusOne,
    /// `max(logit, 0) / n` (Wortsman et al., 2023).
    Relu,
    /// `1 / (1 + exp(ln n - logit))`: at logits of 0 the weights are `1 / (1 + n)` (Ramapuram et al., 2025).
    Sigmoid,
}

impl Normalizer {
    /// Whether the weights of a row depend on each other, through a sum.
    pub fn has_sum(self) -> bool {
        matches!(self, Normalizer::Softmax | Normalizer::SoftmaxPlusOne)
    }
}

/// Which keys a query may attend to. A set never attends into another, whatever the mask; positions count from the beginning
/// of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask<'a> {
    /// All of its set.
    Full,
    /// Those up to `offset` behind it: 0 for a sequence that attends to itself, `kv_len - q_len` for queries that are the last
    /// of what the keys are all of.
    Causal {
        /// How far the keys are ahead of the queries.
        offset: isize,
    },
    /// Those from `left` before it to `right` behind it: truncated attention. With `right: 0` it is causal as well.
    Window {
        /// Keys before the query.
        left: usize,
        /// Keys behind the query.
        right: usize,
    },
    /// Those at the other end of its edges. Row `i` lists the keys of query `i`; both are counted through the whole batch, and
    /// no edge leaves its set.
    Graph(&'a Csr),
}

impl Mask<'_> {
    /// Whether query `i` may attend to key `j`: counted from the beginning of their set, under a graph through the batch.
    ///
    /// # Panics
    ///
    /// If the graph has no row `i`.
    pub fn allows(self, i: usize, j: usize) -> bool {
        match self {
            Mask::Graph(edges) => u32::try_from(j).is_ok_and(|j| edges.neighbours(i).binary_search(&j).is_ok()),
            Mask::Full => true,
            Mask::Causal { offset } => j < end_of_causal(i, offset),
            Mask::Window { left, right } => j >= i.saturating_sub(left) && j <= i.saturating_add(right),
        }
    }

    /// The keys, of `kv_len`, that query `i` may attend to: for every mask but a graph one range, which moves forward
    /// with `i` or stays. Edges go where they like: under a graph this is all of the set, as are the ranges below.
    pub fn row(self, i: usize, kv_len: usize) -> Range<usize> {
        self.keys(i..i + 1, kv_len)
    }

    /// The keys, of `kv_len`, that any of the queries in `queries`, which are at least one, may attend to.
    pub fn keys(self, queries: Range<usize>, kv_len: usize) -> Range<usize> {
        match self {
            Mask::Full | Mask::Graph(_) => 0..kv_len,
            Mask::Causal { offset } => 0..end_of_causal(queries.end - 1, offset).min(kv_len),
            Mask::Window { left, right } => {
                let end = queries.end.saturating_add(right).min(kv_len);
                queries.start.saturating_sub(left).min(end)..end
            }
        }
    }

    /// The queries, of `q_len`, that may attend to any of the keys in `keys`, which are at least one.
    pub fn queries(self, keys: Range<usize>, q_len: usize) -> Range<usize> {
        match self {
            Mask::Full | Mask::Graph(_) => 0..q_len,
            Mask::Causal { offset } => {
                // j <= i + offset
                let first = if offset < 0 {
                    keys.start.saturating_add(offset.unsigned_abs())
                } else {
                    keys.start.saturating_sub(offset.unsigned_abs())
                };
                first.min(q_len)..q_len
            }
            Mask::Window { left, right } => {
                let end = keys.end.saturating_add(left).min(q_len);
                keys.start.saturating_sub(right).min(end)..end
            }
        }
    }

    /// How many pairs of a query and a key take part, of `q_len` and `kv_len`; under a graph, which counts its own
    /// ([`Csr::edges`]), all of them.
    pub fn pairs(self, q_len: usize, kv_len: usize) -> usize {
        match self {
            Mask::Full | Mask::Graph(_) => q_len * kv_len,
            _ => (0..q_len).map(|i| self.row(i, kv_len).len()).sum(),
        }
    }
}

/// The first key behind those that query `i` may attend to.
fn end_of_causal(i: usize, offset: isize) -> usize {
    (i + 1).saturating_add_signed(offset)
}

/// What is added to the logits before they are normalised; each kind has a gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Bias<'a> {
    /// Nothing.
    #[default]
    None,
    /// `-slope · |i + offset - j|` (Press et al., 2022).
    Alibi {
        /// One for each head.
        slopes: &'a [f32],
        /// How far the keys are ahead of the queries.
        offset: isize,
    },
    /// `table[head][bucket of i and j]`.
    Buckets {
        /// `[heads, buckets]`.
        table: &'a [f32],
        /// Which pair belongs to which bucket.
        buckets: Buckets<'a>,
    },
    /// A number for each edge of a [`Mask::Graph`].
    Edges {
        /// `[edges, heads]`, edges in the order of the [`Csr`].
        values: &'a [f32],
    },
    /// A number for each pair.
    Dense {
        /// `[heads, q_len, kv_len]` of each set, one set after the other.
        values: &'a [f32],
    },
}

/// Which bucket the pair of query `i` and key `j` belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Buckets<'a> {
    /// By the distance `i + offset - j`, kept within `±reach` (Shaw et al., 2018): bucket
    /// `clamp(i + offset - j, -reach, reach) + reach` of `2 · reach + 1`, the first for keys that come far after the query.
    Relative {
        /// The largest distance that has a bucket of its own.
        reach: usize,
        /// How far the keys are ahead of the queries.
        offset: isize,
    },
    /// By the distances in two coordinates, `d = query - key`, each kept within its `±reach` (Liu et al., 2021, for images): bucket
    /// `(d[0] + reach[0]) · (2 · reach[1] + 1) + d[1] + reach[1]` of `(2 · reach[0] + 1) · (2 · reach[1] + 1)`.
    Grid {
        /// The place of each query, through the whole batch.
        queries: &'a [[i32; 2]],
        /// The place of each key.
        keys: &'a [[i32; 2]],
        /// The largest distance that has a bucket of its own; at most 32767.
        reach: [usize; 2],
    },
    /// As stored for each pair: distances along bonds, say.
    Stored {
        /// `[q_len, kv_len]` of each set, one set after the other; all less than `count`.
        pairs: &'a [u8],
        /// How many buckets.
        count: usize,
    },
}

impl Buckets<'_> {
    /// How many buckets.
    pub fn count(self) -> usize {
        let side = |reach: usize| reach.saturating_mul(2).saturating_add(1);
        match self {
            Buckets::Relative { reach, .. } => side(reach),
            Buckets::Grid { reach, .. } => side(reach[0]).saturating_mul(side(reach[1])),
            Buckets::Stored { count, .. } => count,
        }
    }
}

/// Weights that are left out at random, in training; the others are multiplied by `1 / (1 - rate)` (Srivastava et al., 2014).
/// Which ones, follows from key, set, head of the query, query and key alone, the last two counted from the beginning of their set:
/// those whose `key.fold(set).fold(head).fold(i).bits(j)` is less than `rate · 2³²`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The share that is left out, in [0, 1).
    pub rate: f32,
    /// What the choice is drawn from: the same key makes the same choice, forward and backward.
    pub key: Key,
}

/// What attention computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options<'a> {
    /// How a query and a key become a logit.
    pub score: Score<'a>,
    /// How the logits of a query become weights.
    pub normalizer: Normalizer,
    /// Which keys a query may attend to.
    pub mask: Mask<'a>,
    /// What is added to the logits.
    pub bias: Bias<'a>,
    /// Which weights are left out.
    pub dropout: Option<Dropout>,
}

impl Default for Options<'_> {
    /// The scaled dot product and the softmax of Vaswani et al. (2017), over the whole set.
    fn default() -> Self {
        Self { score: Score::DOT, normalizer: Normalizer::Softmax, mask: Mask::Full, bias: Bias::None, dropout: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASKS: [Mask<'static>; 8] = [
        Mask::Full,
        Mask::Causal { offset: 0 },
        Mask::Causal { offset: 3 },
        Mask::Causal { offset: -4 },
        Mask::Window { left: 2, right: 0 },
        Mask::Window { left: 0, right: 3 },
        Mask::Window { left: 0, right: 0 },
        Mask::Window { left: usize::MAX, right: usize::MAX },
    ];

    #[test]
    fn ranges_are_the_smallest_that_hold_all_allowed() {
        for mask in MASKS {
            for (q_len, kv_len) in [(1, 1), (5, 5), (9, 5), (5, 9)] {
                for first in 0..q_len {
                    for end in first + 1..=q_len {
                        let allowed = (0..kv_len).filter(|&j| (first..end).any(|i| mask.allows(i, j)));
                        assert!(
                            mask.keys(first..end, kv_len).eq(allowed),
                            "{mask:?}, queries {first}..{end} of {kv_len}"
                        );
                    }
                    assert_eq!(mask.row(first, kv_len), mask.keys(first..first + 1, kv_len));
                }
                for first in 0..kv_len {
                    for end in first + 1..=kv_len {
                        let allowed = (0..q_len).filter(|&i| (first..end).any(|j| mask.allows(i, j)));
                        assert!(
                            mask.queries(first..end, q_len).eq(allowed),
                            "{mask:?}, keys {first}..{end} of {q_len}"
                        );
                    }
                }
                let pairs = (0..q_len).map(|i| (0..kv_len).filter(|&j| mask.allows(i, j)).count()).sum::<usize>();
                assert_eq!(mask.pairs(q_len, kv_len), pairs);
            }
        }
    }

    #[test]
    fn the_default_scale_is_one_over_the_root_of_the_width() {
        assert_eq!(Score::DOT.scale(64), 0.125);
        assert_eq!(Score::Dot { scale: Some(2.0), softcap: None }.scale(64), 2.0);
    }
}
