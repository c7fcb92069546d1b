//! Places, neighbours and buckets on grids, each against what a plain search over the set finds.

use std::sync::Arc;

use burn::tensor::Tensor;
use proptest::prelude::*;
use qkv::Offsets;
use qkv::gather::NONE;
use qkv::options::Normalizer;

use super::super::*;
use crate::ops::gather_sum;
use crate::ops::testing::{assert_close, random, values};

/// A layout of sets with the vectors before a grid, its rows and columns, and the vectors behind it.
fn layout(sets: &[[usize; 4]]) -> Layout {
    let lengths = sets.iter().map(|[first, rows, columns, behind]| first + rows * columns + behind);
    let grids = sets.iter().map(|&[first, rows, columns, _]| Grid { first, rows, columns });
    Layout::with_grids(Offsets::from_lengths(lengths), grids.collect())
}

/// Pictures, with a vector for the whole, with words, words alone, nothing, a single row and a single column.
const SETS: [[usize; 4]; 8] =
    [[0, 3, 4, 0], [1, 2, 3, 5], [4, 0, 0, 3], [0, 0, 0, 0], [0, 1, 7, 2], [2, 5, 1, 0], [0, 0, 3, 1], [1, 1, 1, 1]];

fn any_sets() -> impl Strategy<Value = Vec<[usize; 4]>> {
    let set = (0..4_usize, 0..6_usize, 0..6_usize, 0..5_usize).prop_map(|(a, b, c, d)| [a, b, c, d]);
    proptest::collection::vec(set, 0..5)
}

/// The rows of the batch, each with its set and its place, written out by loops.
fn written_out(sets: &[[usize; 4]]) -> Vec<(usize, Place)> {
    let mut all = Vec::new();
    for (set, &[first, rows, columns, behind]) in sets.iter().enumerate() {
        all.extend((0..first).map(|n| (set, Place::Line(n as u32))));
        for row in 0..rows {
            all.extend((0..columns).map(|column| (set, Place::Grid([row as u32, column as u32]))));
        }
        all.extend((first..first + behind).map(|n| (set, Place::Line(n as u32))));
    }
    all
}

/// The learned bucket of a pair of places, from what the documentation says.
fn bucket(query: Place, key: Place, range: usize) -> usize {
    let side = 2 * range + 1;
    let kept = |query: u32, key: u32| {
        let range = range as i64;
        ((i64::from(query) - i64::from(key)).clamp(-range, range) + range) as usize
    };
    match (query, key) {
        (Place::Grid(query), Place::Grid(key)) => kept(query[0], key[0]) * side + kept(query[1], key[1]),
        (Place::Line(query), Place::Line(key)) => side * side + kept(query, key),
        (Place::Grid(_), Place::Line(_)) => side * side + side,
        (Place::Line(_), Place::Grid(_)) => side * side + side + 1,
    }
}

/// The learned bucket of each pair of one set, as [`Layout::relative`] has it, by the formula of [`qkv::options::Buckets::Grid`].
fn found_bucket(layout: &Layout, range: usize, query: usize, key: usize) -> u32 {
    let relative = layout.relative(range);
    let Buckets::Grid { queries, keys, reach } = &relative.buckets else { panic!("not by two coordinates") };
    let kept = |n: usize| {
        let reach = reach[n] as i32;
        ((queries[query][n] - keys[key][n]).clamp(-reach, reach) + reach) as usize
    };
    relative.learned[kept(0) * (2 * reach[1] + 1) + kept(1)]
}

proptest! {
    #[test]
    fn places_neighbours_and_buckets_are_what_a_search_finds(
        sets in any_sets(),
        radius in 0..3_usize,
        range in 0..4_usize,
    ) {
        let (layout, all) = (layout(&sets), written_out(&sets));
        prop_assert_eq!(layout.places(), all.iter().map(|&(_, place)| place).collect::<Vec<_>>());
        let (square, side) = (layout.square(radius), 2 * radius + 1);
        prop_assert_eq!(square.len(), all.len() * side * side);
        for (row, &(set, place)) in all.iter().enumerate() {
            for (at, &found) in square[row * side * side..][..side * side].iter().enumerate() {
                let step = |at: u32, by: usize| i64::from(at) + by as i64 - radius as i64;
                let wanted = |other: Place| match (place, other) {
                    (Place::Grid([y, x]), Place::Grid([v, u])) => {
                        i64::from(v) == step(y, at / side) && i64::from(u) == step(x, at % side)
                    }
                    (Place::Line(x), Place::Line(u)) => at / side == radius && i64::from(u) == step(x, at % side),
                    _ => false,
                };
                let expected = all.iter().position(|&(other, place)| other == set && wanted(place));
                prop_assert_eq!(found, expected.map_or(NONE, |row| row as u32));
            }
        }
        for (query, &(set, at)) in all.iter().enumerate() {
            for (key, &(_, to)) in all.iter().enumerate().filter(|(_, (other, _))| *other == set) {
                prop_assert_eq!(found_bucket(&layout, range, query, key), bucket(at, to, range) as u32);
            }
        }
    }

    #[test]
    fn half_a_grid_has_the_squares_of_the_whole(sets in any_sets()) {
        let (whole, all) = (layout(&sets), written_out(&sets));
        let (ids, half) = whole.halved();
        let half_of = |[first, rows, columns, behind]: [usize; 4]| [first, rows.div_ceil(2), columns.div_ceil(2), behind];
        let halves: Vec<[usize; 4]> = sets.iter().copied().map(half_of).collect();
        let left = written_out(&halves);
        prop_assert_eq!(half.places(), left.iter().map(|&(_, place)| place).collect::<Vec<_>>());
        prop_assert_eq!(ids.len(), 4 * left.len());
        for (&(set, place), ids) in left.iter().zip(ids.chunks_exact(4)) {
            let is_of = |other: Place| match (place, other) {
                (Place::Grid(half), Place::Grid(whole)) => whole.map(|n| n / 2) == half,
                (place, other) => place == other,
            };
            let own = (0_u32..).zip(&all).filter(|(_, (of, at))| *of == set && is_of(*at));
            let wanted: Vec<u32> = own.map(|(row, _)| row).collect();
            // All of the square, each as often as the others.
            for row in &wanted {
                prop_assert_eq!(ids.iter().filter(|id| *id == row).count(), 4 / wanted.len());
            }
        }
    }
}

/// Attention with equal logits but for a bias of places, in f64.
fn formula(v: &[f32], table: &[f32], heads: usize, dim: usize, range: usize, mask: &Mask) -> Vec<f64> {
    let (all, buckets) = (written_out(&SETS), relative_buckets(range));
    let mut out = vec![0.0; v.len()];
    let first = |set: usize| all.iter().position(|&(of, _)| of == set).expect("a set that has this row");
    for (i, &(set, query)) in all.iter().enumerate() {
        for head in 0..heads {
            let (mut sum, mut total) = (0.0, vec![0.0; dim]);
            for (j, &(_, key)) in all.iter().enumerate().filter(|(_, (of, _))| *of == set) {
                if !mask.kernel().allows(i - first(set), j - first(set)) {
                    continue;
                }
                let weight = f64::from(table[head * buckets + bucket(query, key, range)]).exp();
                sum += weight;
                for (e, total) in total.iter_mut().enumerate() {
                    *total += weight * f64::from(v[(j * heads + head) * dim + e]);
                }
            }
            for (e, total) in total.into_iter().enumerate() {
                out[(i * heads + head) * dim + e] = if sum > 0.0 { total / sum } else { 0.0 };
            }
        }
    }
    out
}

#[test]
fn a_bias_over_grids_equals_the_formula_and_so_does_its_gradient() {
    const STEP: f32 = 1e-2;
    let (layout, heads, dim) = (layout(&SETS), 2, 3);
    let tokens = layout.offsets().tokens();
    for range in [0, 1, 2, 5] {
        for mask in [Mask::Full, Mask::Window { left: 4, right: 2 }] {
            let relative = layout.relative(range);
            let bias = Bias::Buckets(relative.buckets.clone());
            let options = AttentionOptions { mask: mask.clone(), bias, ..AttentionOptions::default() };
            let table = random([heads, relative_buckets(range)], 1).require_grad();
            let value = random([tokens, heads, dim], 2);
            let d_out = random([tokens, heads, dim], 3);
            let run = |attention: &dyn Fn(Tensor<3>, &AttentionExtras) -> Tensor<3>| {
                let picked = gather_sum(table.clone().transpose(), relative.learned.clone(), 1).transpose();
                let out = attention(
                    Tensor::zeros([tokens, heads, 4], &value.device()),
                    &AttentionExtras { score: None, bias: Some(picked) },
                );
                let grads = (out.clone() * d_out.clone()).sum().backward();
                (values(out), values(table.grad(&grads).expect("the table has a gradient")))
            };
            let ours = run(&|x, extras| attention(x.clone(), x, value.clone(), extras, &layout, &options));
            let twin = run(&|x, extras| attention_twin(x.clone(), x, value.clone(), extras, &layout, &options));
            let (v, numbers, d) = (values(value.clone()), values(table.clone()), values(d_out.clone()));
            let expected = formula(&v, &numbers, heads, dim, range, &mask);
            for (out, gradient) in [ours, twin] {
                for (found, expected) in out.iter().zip(&expected) {
                    assert!((f64::from(*found) - expected).abs() < 2e-6, "{found}, not {expected}");
                }
                let loss = |table: &[f32]| -> f64 {
                    let out = formula(&v, table, heads, dim, range, &mask);
                    out.iter().zip(&d).map(|(out, d)| out * f64::from(*d)).sum()
                };
                for (n, &found) in gradient.iter().enumerate().step_by(3) {
                    let moved = |by: f32| {
                        let mut table = numbers.clone();
                        table[n] += by;
                        loss(&table)
                    };
                    let difference = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
                    assert!((difference - f64::from(found)).abs() < 1e-3, "{n}: {found}, not {difference}");
                }
            }
        }
    }
}

#[test]
fn grids_of_any_size_keep_to_the_twin_with_every_normaliser() {
    // The last has so many words beside so small a picture that differences are not laid out but looked up.
    for sets in [&SETS[..], &[[0, 14, 14, 16], [1, 7, 9, 0]], &[[0, 6, 6, 300]]] {
        let (layout, heads) = (layout(sets), 2);
        let tokens = layout.offsets().tokens();
        for normalizer in [Normalizer::Softmax, Normalizer::SoftmaxPlusOne, Normalizer::Relu, Normalizer::Sigmoid] {
            let relative = layout.relative(3);
            let bias = Bias::Buckets(relative.buckets.clone());
            let options = AttentionOptions { normalizer, bias, ..AttentionOptions::default() };
            let [table] = [random([heads, relative_buckets(3)], 1).require_grad()];
            let inputs = [2, 3, 4].map(|seed| random([tokens, heads, 5], seed).require_grad());
            let run = |attention: fn(
                Tensor<3>,
                Tensor<3>,
                Tensor<3>,
                &AttentionExtras,
                &Layout,
                &AttentionOptions,
            ) -> Tensor<3>| {
                let picked = gather_sum(table.clone().transpose(), Arc::clone(&relative.learned), 1).transpose();
                let [query, key, value] = inputs.clone();
                let out = attention(
                    query,
                    key,
                    value,
                    &AttentionExtras { score: None, bias: Some(picked) },
                    &layout,
                    &options,
                );
                let grads = (out.clone() * random(out.dims(), 5)).sum().backward();
                let of_inputs = inputs.each_ref().map(|x| x.grad(&grads).expect("each input has a gradient"));
                (out, of_inputs, table.grad(&grads).expect("the table has a gradient"))
            };
            let (ours, twin) = (run(attention), run(attention_twin));
            assert_close(ours.0, twin.0, 1e-5);
            for (ours, twin) in ours.1.into_iter().zip(twin.1) {
                assert_close(ours, twin, 2e-5);
            }
            assert_close(ours.2, twin.2, 2e-5);
        }
    }
}

#[test]
#[should_panic(expected = "2 sets, 1 grids")]
fn a_grid_is_given_for_each_set() {
    Layout::with_grids(Offsets::from_lengths([4, 4]), vec![Grid::new(2, 2)]);
}

#[test]
#[should_panic(expected = "does not fit into set 1, which has 4 vectors")]
fn a_grid_beyond_its_set_is_refused() {
    let second = Grid { first: 1, ..Grid::new(2, 2) };
    Layout::with_grids(Offsets::from_lengths([4, 4]), vec![Grid::new(2, 2), second]);
}

#[test]
#[should_panic(expected = "does not fit into set 0")]
fn a_grid_of_more_vectors_than_can_be_counted_is_refused() {
    Layout::with_grids(Offsets::from_lengths([4]), vec![Grid::new(usize::MAX, 3)]);
}

#[test]
#[should_panic(expected = "grids of 32766 rows at most, not 40000")]
fn a_relative_bias_refuses_what_the_kernels_cannot_tell_apart() {
    layout(&[[0, 40_000, 1, 0]]).relative(1);
}
