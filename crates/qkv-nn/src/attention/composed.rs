//! Attention composed of Burn's own operations, group by group and tile by tile.
//!
//! ```text
//! for each group of sets of like length:
//!     unpack query, key, value to [sets, heads, max_len, dim]
//!     for each tile of queries:
//!         logits  = score(queries, keys it may see) + bias + (0 | −∞)
//!         weights = dropout(normalise(logits))
//!         out     = weights · values
//! pack all groups
//! ```

use burn::tensor::{Tensor, activation};
use qkv::gather::NONE;
use qkv::options::Normalizer;
use std::sync::Arc;

use super::layout::{Group, Layout, Tile};
use super::{AttentionExtras, AttentionOptions, Score};
use crate::ops::{dropout, gather_sum};

pub(super) fn attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    let ([tokens, heads, _], [_, _, value_dim]) = (query.dims(), value.dims());
    if tokens == 0 {
        return value;
    }
    let tiles = layout.tiles(options.mask, &query.device());
    let query = scaled(query, options.score);
    let mut outs = Vec::with_capacity(layout.groups.len());
    let mut place = 0;
    for (group, tiles) in layout.groups.iter().zip(tiles.iter()) {
        let [q, k, v] = [&query, &key, &value].map(|x| unpack(x.clone(), group));
        let mut parts = Vec::with_capacity(tiles.len());
        for tile in tiles {
            let mut weights = tile_weights(&q, &k, extras, tile, options);
            if let Some((rate, key)) = options.dropout {
                weights = dropout(weights, rate, key.fold(place));
            }
            place += 1;
            parts.push(weights.matmul(v.clone().narrow(2, tile.keys.start, tile.keys.len())));
        }
        let out = if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 2) };
        let rows = group.lengths.len() * group.max_len;
        outs.push(out.swap_dims(1, 2).reshape([rows, heads * value_dim]));
    }
    let padded = if outs.len() == 1 { outs.remove(0) } else { Tensor::cat(outs, 0) };
    gather_sum(padded, layout.pack.clone(), 1).reshape([tokens, heads, value_dim])
}

pub(super) fn weights(
    query: Tensor<3>,
    key: Tensor<3>,
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    let ([tokens, heads, _], device) = (query.dims(), query.device());
    let tiles = layout.tiles(options.mask, &device);
    let query = scaled(query, options.score);
    let mut parts = Vec::new();
    for (group, tiles) in layout.groups.iter().zip(tiles.iter()) {
        let [q, k] = [&query, &key].map(|x| unpack(x.clone(), group));
        for tile in tiles {
            let rows = tile.queries.len();
            let part = tile_weights(&q, &k, extras, tile, options).reshape([heads, rows, tile.keys.len()]);
            let before = Tensor::zeros([heads, rows, tile.keys.start], &device);
            let behind = Tensor::zeros([heads, rows, tokens - tile.keys.end], &device);
            parts.push(Tensor::cat(vec![before, part, behind], 2));
        }
    }
    if parts.is_empty() { Tensor::zeros([heads, 0, 0], &device) } else { Tensor::cat(parts, 1) }
}

/// The scale of a dot product, put on the smaller side of the product.
fn scaled(query: Tensor<3>, score: Score) -> Tensor<3> {
    let [_, _, head_dim] = query.dims();
    match score {
        Score::Dot { .. } => query * score.scale(head_dim),
        Score::Additive => query,
    }
}

/// `[tokens, heads, dim]` to `[sets, heads, max_len, dim]`.
fn unpack(x: Tensor<3>, group: &Group) -> Tensor<4> {
    let [tokens, heads, dim] = x.dims();
    gather_sum(x.reshape([tokens, heads * dim]), group.unpack.clone(), 1)
        .reshape([group.lengths.len(), group.max_len, heads, dim])
        .swap_dims(1, 2)
}

/// The weights of a tile, `[sets, heads, queries, keys]`.
fn tile_weights(
    q: &Tensor<4>,
    k: &Tensor<4>,
    extras: &AttentionExtras,
    tile: &Tile,
    options: &AttentionOptions,
) -> Tensor<4> {
    let q = q.clone().narrow(2, tile.queries.start, tile.queries.len());
    let k = k.clone().narrow(2, tile.keys.start, tile.keys.len());
    let mut logits = match options.score {
        Score::Dot { .. } => q.matmul(k.transpose()),
        Score::Additive => {
            let w = extras.additive.as_ref().expect("the additive score comes with its vector");
            additive_logits(q, k, w.clone())
        }
    };
    if let Some(table) = &extras.relative_bias {
        logits = logits + relative_bias(table.clone(), tile);
    }
    if let Some(hidden) = &tile.hidden {
        logits = logits + hidden.clone();
    }
    let weights = match options.normalizer {
        Normalizer::Softmax => activation::softmax(logits, 3),
        Normalizer::SoftmaxPlusOne => {
            let [sets, heads, rows, columns] = logits.dims();
            let nothing = Tensor::zeros([sets, heads, rows, 1], &logits.device());
            activation::softmax(Tensor::cat(vec![logits, nothing], 3), 3).narrow(3, 0, columns)
        }
        Normalizer::Sigmoid => activation::sigmoid(logits - tile.counts.clone().log()),
        Normalizer::Relu => activation::relu(logits) / tile.counts.clone(),
    };
    match &tile.attends {
        Some(attends) => weights * attends.clone(),
        None => weights,
    }
}

/// `w · tanh(q_i + k_j)`.
fn additive_logits(q: Tensor<4>, k: Tensor<4>, w: Tensor<2>) -> Tensor<4> {
    let ([sets, heads, rows, dim], [_, _, columns, _]) = (q.dims(), k.dims());
    let sum = q.reshape([sets, heads, rows, 1, dim]) + k.reshape([sets, heads, 1, columns, dim]);
    let weighted = activation::tanh(sum) * w.reshape([1, heads, 1, 1, dim]);
    weighted.sum_dim(4).reshape([sets, heads, rows, columns])
}

/// `[1, heads, queries, keys]` from a table of `[2 · range + 1, heads]`.
fn relative_bias(table: Tensor<2>, tile: &Tile) -> Tensor<4> {
    let [buckets, heads] = table.dims();
    let range = (buckets / 2) as isize;
    let ids: Arc<[u32]> = tile
        .queries
        .clone()
        .flat_map(|i| tile.keys.clone().map(move |j| (j as isize - i as isize).clamp(-range, range) + range))
        .map(|bucket| bucket as u32)
        .collect();
    debug_assert!(!ids.contains(&NONE));
    gather_sum(table, ids, 1).reshape([1, tile.queries.len(), tile.keys.len(), heads]).permute([0, 3, 1, 2])
}
