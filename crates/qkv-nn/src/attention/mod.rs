//! Attention over packed sets: the one function that every layer calls, [`attention`].
//!
//! It stands on Burn's own operations: sets of like length are laid side by side in a padded tensor, attended, and
//! packed again. Work goes by tiles of queries, each against the keys that its mask lets it see, so a window costs
//! O(N · window).

mod composed;
mod layout;

use burn::tensor::Tensor;
use qkv::options::{Mask, Normalizer};
use qkv::random::Key;

pub use layout::Layout;

/// How a query and a key become a logit; what of it is learned comes with [`AttentionExtras`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// `scale · q·k`; `None` is `1 / √head_dim`.
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
            Score::Dot { scale } => qkv::options::Score::Dot { scale, softcap: None }.scale(head_dim),
            Score::Additive => 1.0,
        }
    }
}

/// What a call of [`attention`] computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// How a query and a key become a logit.
    pub score: Score,
    /// How the logits of a query become weights.
    pub normalizer: Normalizer,
    /// Which keys a query may attend to.
    pub mask: Mask<'static>,
    /// Rate and key of the dropout on the weights.
    pub dropout: Option<(f32, Key)>,
}

/// Tensors that take part beside query, key and value.
#[derive(Clone, Debug, Default)]
pub struct AttentionExtras {
    /// `[2 · range + 1, heads]`: added to the logit of query `i` and key `j` is row `clamp(j − i, ±range) + range`
    /// (Shaw et al., 2018, in the scalar form of Raffel et al., 2020).
    pub relative_bias: Option<Tensor<2>>,
    /// `[heads, head_dim]`: the vector `w` of the additive score.
    pub additive: Option<Tensor<2>>,
}

/// `out_i = Σ_j weights_ij · value_j` for each set and head, `weights = normalise(score(query_i, key_j) + bias)`.
///
/// Shapes: `query` and `key` `[tokens, heads, head_dim]`, `value` `[tokens, heads, value_dim]`; the result is
/// `[tokens, heads, value_dim]`. A set attends to itself alone.
///
/// # Panics
/// If the additive score is asked for without [`AttentionExtras::additive`].
pub fn attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    composed::attention(query, key, value, extras, layout, options)
}

/// The weights themselves, `[heads, tokens, tokens]`, row-major over queries, of a batch that holds one set.
///
/// # Panics
/// If the batch holds more than one set.
pub fn attention_weights(
    query: Tensor<3>,
    key: Tensor<3>,
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    assert_eq!(layout.offsets().sets(), 1, "weights are taken of one set at a time");
    composed::weights(query, key, extras, layout, options)
}

#[cfg(test)]
mod tests;
