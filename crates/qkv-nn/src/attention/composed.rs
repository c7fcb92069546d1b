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
//!
//! Which pairs take part, which number of the bias is theirs, and which are dropped is worked out on the host, by the same
//! formulas as in the kernels.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData, activation};
use qkv::gather::NONE;
use qkv::options::{Normalizer, ScoreActivation};
use qkv::random::Key;

use super::layout::Group;
use super::tiles::{Pair, Tile};
use super::{AttentionExtras, AttentionOptions, Bias, Buckets, Layout, Mask, Score};
use crate::ops::gather_sum_twin as gather;

pub(super) fn attention(
    [query, key, value]: [Tensor<3>; 3],
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    let ([tokens, heads, _], [_, _, value_dim], device) = (query.dims(), value.dims(), query.device());
    let grouped = layout.grouped();
    if tokens == 0 {
        return Tensor::zeros([0, heads, value_dim], &device);
    }
    let tiles = layout.tiles(&options.mask, &device);
    let query = scaled(query, options.score);
    let mut outs = Vec::with_capacity(grouped.groups.len());
    for (group, tiles) in grouped.groups.iter().zip(tiles.iter()) {
        let q = unpack(query.clone(), heads, &group.unpack_queries, group.q_len);
        let [k, v] = [&key, &value].map(|x| unpack(x.clone(), heads, &group.unpack_keys, group.kv_len));
        let mut parts = Vec::with_capacity(tiles.len());
        for tile in tiles {
            let mut weights = tile_weights(&q, &k, extras, (group, tile), options);
            if let Some((rate, key)) = options.dropout {
                weights = weights * kept((group, tile), &options.mask, heads, (rate, key), &device);
            }
            parts.push(weights.matmul(v.clone().narrow(2, tile.keys.start, tile.keys.len())));
        }
        let rows = group.sets.len() * group.q_len;
        outs.push(Tensor::cat(parts, 2).swap_dims(1, 2).reshape([rows, heads * value_dim]));
    }
    gather(Tensor::cat(outs, 0), grouped.pack.clone(), 1).reshape([tokens, heads, value_dim])
}

/// Of the only set, `[heads, q_len, kv_len]`.
pub(super) fn weights(
    query: Tensor<3>,
    key: Tensor<3>,
    extras: &AttentionExtras,
    layout: &Layout,
    options: &AttentionOptions,
) -> Tensor<3> {
    let ([q_len, heads, _], [kv_len, _, _], device) = (query.dims(), key.dims(), query.device());
    if q_len * kv_len == 0 {
        return Tensor::zeros([heads, q_len, kv_len], &device);
    }
    let tiles = layout.tiles(&options.mask, &device);
    let (group, tiles) = (&layout.grouped().groups[0], &tiles[0]);
    let q = unpack(scaled(query, options.score), heads, &group.unpack_queries, q_len);
    let k = unpack(key, heads, &group.unpack_keys, kv_len);
    let parts = tiles.iter().map(|tile| {
        let (rows, columns) = (tile.queries.len(), tile.keys.len());
        let part = tile_weights(&q, &k, extras, (group, tile), options).reshape([heads, rows, columns]);
        let before = Tensor::zeros([heads, rows, tile.keys.start], &device);
        let behind = Tensor::zeros([heads, rows, kv_len - tile.keys.end], &device);
        Tensor::cat(vec![before, part, behind], 2)
    });
    Tensor::cat(parts.collect(), 1)
}

/// The scale of a dot product, put on the smaller side of the product.
fn scaled(query: Tensor<3>, score: Score) -> Tensor<3> {
    let [_, _, head_dim] = query.dims();
    match score {
        Score::Dot { .. } => query * score.scale(head_dim),
        Score::Additive { .. } | Score::RankOne { .. } => query,
    }
}

/// `[tokens, heads of x, dim]` to `[sets, heads, len, dim]`; a head that several share is there once for each.
fn unpack(x: Tensor<3>, heads: usize, ids: &Arc<[u32]>, len: usize) -> Tensor<4> {
    let [tokens, own, dim] = x.dims();
    let sets = ids.len() / len;
    let x = gather(x.reshape([tokens, own * dim]), ids.clone(), 1).reshape([sets, len, own, dim]).swap_dims(1, 2);
    if own == heads {
        return x;
    }
    x.reshape([sets, own, 1, len, dim]).repeat_dim(2, heads / own).reshape([sets, heads, len, dim])
}

/// The weights of a tile, `[sets, heads, queries, keys]`.
fn tile_weights(
    q: &Tensor<4>,
    k: &Tensor<4>,
    extras: &AttentionExtras,
    (group, tile): (&Group, &Tile),
    options: &AttentionOptions,
) -> Tensor<4> {
    let q = q.clone().narrow(2, tile.queries.start, tile.queries.len());
    let k = k.clone().narrow(2, tile.keys.start, tile.keys.len());
    let [_, heads, _, _] = q.dims();
    let mut logits = scores(q, k, extras, options.score);
    if let Some(bias) = tile_bias((group, tile), extras, options, (heads, &logits.device())) {
        logits = logits + bias;
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

/// The scores of `q`, times the scale, and `k`.
fn scores(q: Tensor<4>, k: Tensor<4>, extras: &AttentionExtras, score: Score) -> Tensor<4> {
    match score {
        Score::Dot { softcap: None, .. } => q.matmul(k.transpose()),
        Score::Dot { softcap: Some(cap), .. } => activation::tanh(q.matmul(k.transpose()) / cap) * cap,
        Score::Additive { activation } => {
            let ([sets, heads, rows, dim], [_, _, columns, _]) = (q.dims(), k.dims());
            let w = extras.score.clone().expect("the additive score was checked to come with its weights");
            let sum = q.reshape([sets, heads, rows, 1, dim]) + k.reshape([sets, heads, 1, columns, dim]);
            let activated = match activation {
                ScoreActivation::Tanh => activation::tanh(sum),
                ScoreActivation::LeakyRelu { slope } => leaky_relu(sum, slope),
            };
            (activated * w.reshape([1, heads, 1, 1, dim])).sum_dim(4).reshape([sets, heads, rows, columns])
        }
        Score::RankOne { slope } => {
            assert_eq!(q.dims()[3], 1, "attention: the score of rank one needs a head_dim of 1");
            leaky_relu(q + k.transpose(), slope)
        }
    }
}

fn leaky_relu<const D: usize>(x: Tensor<D>, slope: f32) -> Tensor<D> {
    activation::relu(x.clone()) - activation::relu(-x) * slope
}

/// What is added to the logits of a tile: something that fits `[sets, heads, queries, keys]`.
fn tile_bias(
    (group, tile): (&Group, &Tile),
    extras: &AttentionExtras,
    options: &AttentionOptions,
    (heads, device): (usize, &Device),
) -> Option<Tensor<4>> {
    let (mask, ranges) = (&options.mask, (&tile.queries, &tile.keys));
    let dims = [group.sets.len(), 1, tile.queries.len(), tile.keys.len()];
    let [sets, _, rows, columns] = dims;
    // A number for each pair from the row that `of` says, of `[rows, heads]`.
    let by_row = |table: Tensor<2>, of: &dyn Fn(&Pair<'_>) -> usize| {
        let ids: Arc<[u32]> = group.for_pairs(ranges, mask, 1, NONE, |pair| of(pair) as u32).into();
        gather(table, ids, 1).reshape([sets, rows, columns, heads]).permute([0, 3, 1, 2])
    };
    let table = || extras.bias.clone().filter(|table| table.dims().iter().all(|&n| n > 0));
    match &options.bias {
        Bias::None => None,
        Bias::Alibi { slopes, offset } => {
            let of = |pair: &Pair<'_>| -(distance(pair, *offset).unsigned_abs() as f32);
            let distances = group.for_pairs(ranges, mask, 1, 0.0, of);
            let distances = Tensor::<4>::from_data(TensorData::new(distances, dims), device);
            let slopes = TensorData::new(slopes.to_vec(), [1, heads, 1, 1]);
            Some(distances * Tensor::from_data(slopes, device))
        }
        Bias::Buckets(buckets) => table().map(|table| by_row(table.transpose(), &|pair| bucket(buckets, pair))),
        Bias::Edges => table().map(|table| by_row(table, &|pair| pair.edge)),
        Bias::Dense => table().map(|table| {
            let of = |pair: &Pair<'_>| {
                let (q_len, kv_len) = (pair.set.queries.len(), pair.set.keys.len());
                pair.set.pairs_before * heads + (pair.head * q_len + pair.query) * kv_len + pair.key
            };
            let ids: Arc<[u32]> = group.for_pairs(ranges, mask, heads, NONE, |pair| of(pair) as u32).into();
            let numbers = table.dims().iter().product();
            gather(table.reshape([numbers, 1]), ids, 1).reshape([sets, heads, rows, columns])
        }),
    }
}

/// `i + offset - j`.
fn distance(pair: &Pair<'_>, offset: isize) -> isize {
    pair.query as isize + offset - pair.key as isize
}

fn bucket(buckets: &Buckets, pair: &Pair<'_>) -> usize {
    let kept =
        |distance: isize, reach: usize| (distance.clamp(-(reach as isize), reach as isize) + reach as isize) as usize;
    match buckets {
        Buckets::Relative { reach, offset } => kept(distance(pair, *offset), *reach),
        Buckets::Grid { queries, keys, reach } => {
            let (query, key) = (queries[pair.set.queries.start + pair.query], keys[pair.set.keys.start + pair.key]);
            let [row, column] = [0, 1].map(|n| kept(query[n] as isize - key[n] as isize, reach[n]));
            row * (2 * reach[1] + 1) + column
        }
        Buckets::Stored { pairs, .. } => {
            usize::from(pairs[pair.set.pairs_before + pair.query * pair.set.keys.len() + pair.key])
        }
    }
}

/// What dropout multiplies the weights of a tile by, `[sets, heads, queries, keys]`: 0, or the inverse of the share that is kept.
fn kept(
    (group, tile): (&Group, &Tile),
    mask: &Mask,
    heads: usize,
    (rate, key): (f32, Key),
    device: &Device,
) -> Tensor<4> {
    assert!(
        (0.0..1.0).contains(&rate),
        "attention: expected a dropout rate of at least 0 and less than 1, found {rate}"
    );
    let least = (f64::from(rate) * 4_294_967_296.0).round() as u32;
    let of = |pair: &Pair<'_>| {
        let row = key.fold(pair.set.number as u64).fold(pair.head as u64).fold(pair.query as u64);
        if row.bits(pair.key as u64) >= least { 1.0 / (1.0 - rate) } else { 0.0 }
    };
    let factors = group.for_pairs((&tile.queries, &tile.keys), mask, heads, 0.0, of);
    let dims = [group.sets.len(), heads, tile.queries.len(), tile.keys.len()];
    Tensor::from_data(TensorData::new(factors, dims), device)
}
