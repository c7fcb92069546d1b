//! Attention over packed sets, of queries, keys and values that are there: [`attention`]. The layers have it inside an
//! operation of their own, [`self_attention`](crate::ops::self_attention), with the same options.
//!
//! On the CPU it is one operation over the kernels of the crate `qkv`, forward and backward (`fused.rs`). Its twin, which
//! other devices run and tests compare with, stands on Burn's own operations (`composed.rs`): sets of like length are laid side
//! by side in padded tensors (`layout.rs`), attended tile by tile (`tiles.rs`), and packed again. Vectors of a set may lie on a grid, as those of a picture do (`grid.rs`).

mod cache;
mod composed;
mod fused;
mod graph;
mod grid;
mod layout;
mod options;
mod rank_one;
mod tiles;

use burn::tensor::Tensor;

pub use cache::KeyValueCache;
pub use graph::Graph;
pub(crate) use grid::relative_buckets;
pub use grid::{Grid, Place};
pub use layout::Layout;
pub use options::{AttentionOptions, Bias, Buckets, Mask, Score};
pub use rank_one::{rank_one_attention, rank_one_attention_mean, rank_one_attention_twin};

use crate::memory::has_kernels;

/// Tensors that take part beside query, key and value; each has a gradient.
#[derive(Clone, Debug, Default)]
pub struct AttentionExtras {
    /// `[heads, head_dim]`: the vectors `w` of [`Score::Additive`]; `None` for other scores.
    pub score: Option<Tensor<2>>,
    /// The numbers of the [`Bias`], which says their shape; `None` if it has none.
    pub bias: Option<Tensor<2>>,
}

/// `out_i = Σ_j weights_ij · value_j` for each set and head, `weights = normalise(score(query_i, key_j) + bias)`.
///
/// Shapes: `query` `[query tokens, heads, head_dim]`, `key` `[key tokens, kv_heads, head_dim]`, `value`
/// `[key tokens, kv_heads, value_dim]`; the result is `[query tokens, heads, value_dim]`. Queries attend to the keys of their
/// own set alone. With `kv_heads < heads`, head `h` of the query attends to head `h · kv_heads / heads`. A row that may attend
/// to nothing gives zeros and no gradient.
///
/// # Panics
/// If shapes, layout, extras and options do not fit together.
pub fn attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    if !has_kernels(&query.device()) {
        return attention_twin(query, key, value, extras, layout, options);
    }
    check([query.dims(), key.dims(), value.dims()], extras, layout, options);
    fused::attention([query, key, value], extras, layout, options)
}

/// The same as [`attention`], composed of Burn's own operations.
pub fn attention_twin(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    check([query.dims(), key.dims(), value.dims()], extras, layout, options);
    composed::attention([query, key, value], extras, layout, options)
}

/// The weights themselves, `[heads, q_len, kv_len]`, of a batch that holds one set; all of them, whatever dropout leaves
/// out. They are for looking at: a backward pass through them panics.
///
/// # Panics
/// If the batch holds more than one set, or as [`attention`] does.
pub fn attention_weights(
    query: Tensor<3>,
    key: Tensor<3>,
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    if !has_kernels(&query.device()) {
        return attention_weights_twin(query, key, extras, layout, options);
    }
    check_one_set(layout);
    check([query.dims(), key.dims(), key.dims()], extras, layout, options);
    fused::weights(query, key, extras, layout, options)
}

/// The same as [`attention_weights`], composed of Burn's own operations.
pub fn attention_weights_twin(
    query: Tensor<3>,
    key: Tensor<3>,
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    check_one_set(layout);
    check([query.dims(), key.dims(), key.dims()], extras, layout, options);
    composed::weights(query, key, extras, layout, options)
}

fn check_one_set(layout: &Layout) {
    assert_eq!(layout.queries().sets(), 1, "attention: weights are taken of one set at a time");
}

/// What the kernels, which know only numbers and not their shape, cannot check.
fn check(dims: [[usize; 3]; 3], extras: &AttentionExtras, layout: &Layout, options: &AttentionOptions) {
    let [query, key, value] = dims;
    let ([tokens, heads, head_dim], [kv_tokens, kv_heads, key_dim]) = (query, key);
    assert!(
        tokens == layout.queries().tokens()
            && kv_tokens == layout.keys().tokens()
            && key_dim == head_dim
            && value[..2] == key[..2]
            && kv_heads > 0
            && heads.is_multiple_of(kv_heads),
        "attention: expected query [{}, heads, head_dim], key [{}, kv_heads, head_dim] and value [{1}, kv_heads, value_dim] with \
         kv_heads a divisor of heads, found {query:?}, {key:?} and {value:?}",
        layout.queries().tokens(),
        layout.keys().tokens(),
    );
    let expected = matches!(options.score, Score::Additive { .. }).then_some([heads, head_dim]);
    let found = extras.score.as_ref().map(Tensor::dims);
    assert!(found == expected, "attention: the weights of {:?} are {expected:?}, found {found:?}", options.score);
    let found = extras.bias.as_ref().map(Tensor::dims);
    let expected = match (&options.bias, &options.mask) {
        (Bias::None | Bias::Alibi { .. }, _) => None,
        (Bias::Buckets(buckets), _) => Some([heads, buckets.count()]),
        (Bias::Edges, Mask::Graph(edges)) => Some([edges.edges(), heads]),
        (Bias::Edges, _) => panic!("attention: a bias for each edge needs the mask of a graph"),
        (Bias::Dense, _) => {
            let numbers = layout.pairs() * heads;
            let given = found.map(|found| found.iter().product::<usize>());
            assert!(given == Some(numbers), "attention: the dense bias has {numbers} numbers, found {found:?}");
            found
        }
    };
    assert!(found == expected, "attention: the numbers of the bias are {expected:?}, found {found:?}");
}

#[cfg(test)]
mod tests;
