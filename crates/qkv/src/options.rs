//! What attention can be asked for: score, normaliser, mask. Plain values, shared by kernels and layers.

use std::ops::Range;

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

/// Which keys a query may attend to. A set never attends into another, whatever the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All of its set.
    Full,
    /// Those from `left` before it to `right` behind it: truncated attention.
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
            Mask::Window { left, right } => j + left >= i && j <= i + right,
        }
    }

    /// The keys, of `kv_len`, that any of the queries in `queries` may attend to.
    pub fn keys(self, queries: Range<usize>, kv_len: usize) -> Range<usize> {
        match self {
            Mask::Full => 0..kv_len,
            Mask::Window { left, right } => {
                let end = queries.end.saturating_add(right).min(kv_len);
                queries.start.saturating_sub(left).min(end)..end
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_smallest_range_that_holds_all_allowed() {
        for mask in [Mask::Full, Mask::Window { left: 2, right: 0 }, Mask::Window { left: 0, right: 3 }] {
            for kv_len in [1, 5, 9] {
                for queries in [0..1, 2..4, 0..kv_len] {
                    let queries = queries.start.min(kv_len)..queries.end.min(kv_len);
                    if queries.is_empty() {
                        continue;
                    }
                    let allowed: Vec<usize> =
                        (0..kv_len).filter(|&j| queries.clone().any(|i| mask.allows(i, j))).collect();
                    assert_eq!(mask.keys(queries, kv_len).collect::<Vec<_>>(), allowed);
                }
            }
        }
    }

    #[test]
    fn the_default_scale_is_one_over_the_root_of_the_width() {
        assert_eq!(Score::Dot { scale: None }.scale(64), 0.125);
        assert_eq!(Score::Dot { scale: Some(2.0) }.scale(64), 2.0);
    }
}
