//! What attention can be asked for: score, normaliser, mask. Plain values, shared by kernels and layers.

use std::ops::Range;

use crate::random::Key;

/// How a query and a key become a logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// `scale · q·k` (Luong et al., 2015; scaled as in Vaswani et al., 2017). `None` is `1 / √head_dim`.
    Dot {
        /// What the product is multiplied by.
        scale: Option<f32>,
    },
    /// `w · tanh(q + k)` (Bahdanau et al., 2015).
    Additive,
}

impl Score {
    /// The factor for a dot product of vectors of `head_dim` elements; 1 for other scores.
    pub fn scale(self, head_dim: usize) -> f32 {
        match self {
            Score::Dot { scale } => scale.unwrap_or(1.0 / (head_dim.max(1) as f32).sqrt()),
            Score::Additive => 1.0,
        }
    }
}

/// How the logits of one query become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalizer {
    /// `exp(logit) / Σ exp(logits)`.
    Softmax,
    /// `max(logit, 0) / n`, where `n` is the number of keys that the mask allows this query (Wortsman et al., 2023).
    Relu,
}

/// Which keys a query may attend to. A set never attends into another, whatever the mask; positions count from the beginning
/// of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mask {
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
}

impl Mask {
    /// Whether query `i` may attend to key `j`.
    pub fn allows(self, i: usize, j: usize) -> bool {
        match self {
            Mask::Full => true,
            Mask::Causal { offset } => j < end_of_causal(i, offset),
            Mask::Window { left, right } => j >= i.saturating_sub(left) && j <= i.saturating_add(right),
        }
    }

    /// The keys, of `kv_len`, that query `i` may attend to: for every mask of this type one range, which moves forward with
    /// `i` or stays.
    pub fn row(self, i: usize, kv_len: usize) -> Range<usize> {
        self.keys(i..i + 1, kv_len)
    }

    /// The keys, of `kv_len`, that any of the queries in `queries`, which are at least one, may attend to.
    pub fn keys(self, queries: Range<usize>, kv_len: usize) -> Range<usize> {
        match self {
            Mask::Full => 0..kv_len,
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
            Mask::Full => 0..q_len,
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

    /// How many pairs of a query and a key take part, of `q_len` and `kv_len`.
    pub fn pairs(self, q_len: usize, kv_len: usize) -> usize {
        match self {
            Mask::Full => q_len * kv_len,
            _ => (0..q_len).map(|i| self.row(i, kv_len).len()).sum(),
        }
    }
}

/// The first key behind those that query `i` may attend to.
fn end_of_causal(i: usize, offset: isize) -> usize {
    (i + 1).saturating_add_signed(offset)
}

/// What is added to the logits before they are normalised. Kernels that lack a kind say so with an error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Bias<'a> {
    /// Nothing.
    #[default]
    None,
    /// `-slope · |i - j|` (Press et al., 2022).
    Alibi {
        /// One for each head.
        slopes: &'a [f32],
    },
    /// A number for each pair.
    Dense {
        /// `[heads, q, kv]`, of a batch of one set.
        values: &'a [f32],
    },
}

/// Weights that are left out at random, in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The share that is left out.
    pub rate: f32,
    /// What the choice is drawn from: the same key makes the same choice, forward and backward.
    pub key: Key,
}

/// What attention computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options<'a> {
    /// How a query and a key become a logit.
    pub score: Score,
    /// How the logits of a query become weights.
    pub normalizer: Normalizer,
    /// Which keys a query may attend to.
    pub mask: Mask,
    /// What is added to the logits.
    pub bias: Bias<'a>,
    /// Which weights are left out.
    pub dropout: Option<Dropout>,
}

impl Default for Options<'_> {
    /// The scaled dot product and the softmax of Vaswani et al. (2017), over the whole set.
    fn default() -> Self {
        let score = Score::Dot { scale: None };
        Self { score, normalizer: Normalizer::Softmax, mask: Mask::Full, bias: Bias::None, dropout: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASKS: [Mask; 8] = [
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
        assert_eq!(Score::Dot { scale: None }.scale(64), 0.125);
        assert_eq!(Score::Dot { scale: Some(2.0) }.scale(64), 2.0);
    }
}
