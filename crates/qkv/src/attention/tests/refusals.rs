//! Options that are malformed, or do not fit the inputs, are refused by both passes, and never by a panic.

use super::super::*;
use crate::csr::Csr;
use crate::offsets::Offsets;
use crate::options::*;
use crate::random::Key;
use crate::testing::numbers;

const SHAPE: Shape = Shape { heads: 2, kv_heads: 1, head_dim: 4, value_dim: 3 };
/// Queries and keys of each set; 5 and 6 in all, 16 pairs.
const LENGTHS: [(usize, usize); 2] = [(3, 4), (2, 2)];

/// Both passes, with gradients of so many numbers for score and bias.
fn call(
    shape: Shape,
    options: &Options<'_>,
    score: Option<usize>,
    bias: Option<usize>,
) -> [Result<(), AttentionError>; 2] {
    let [queries, keys] = [LENGTHS.map(|n| n.0), LENGTHS.map(|n| n.1)].map(Offsets::from_lengths);
    let (heads, head_dim) = (shape.heads, shape.head_dim);
    let (x, d_out) = (numbers(100, 1), numbers(30, 2));
    let inputs = Inputs {
        shape,
        query: View::new(&x, heads, head_dim),
        key: View::new(&x, 1, head_dim),
        value: View::new(&x, 1, 3),
        queries: &queries,
        keys: &keys,
    };
    let (mut out, mut lse) = (vec![0.0; 30], vec![0.0; 10]);
    let mut workspace = Workspace::new();
    let forward = attention_forward(&inputs, options, ViewMut::new(&mut out, heads, 3), &mut lse, &mut workspace);
    let (mut dq, mut dk, mut dv) = (vec![0.0; 5 * heads * head_dim], vec![0.0; 6 * head_dim], vec![0.0; 18]);
    let (mut d_score, mut d_bias) = (score.map(|n| vec![0.0; n]), bias.map(|n| vec![0.0; n]));
    let gradients = Gradients {
        score: d_score.as_deref_mut(),
        bias: d_bias.as_deref_mut(),
        ..Gradients::new(
            ViewMut::new(&mut dq, heads, head_dim),
            ViewMut::new(&mut dk, 1, head_dim),
            ViewMut::new(&mut dv, 1, 3),
        )
    };
    let saved = Saved { out: View::new(&out, heads, 3), lse: &lse, kept: &[] };
    let d_out = View::new(&d_out, heads, 3);
    [forward, attention_backward(&inputs, options, &saved, d_out, gradients, &mut workspace)]
}

fn plain() -> Options<'static> {
    Options::default()
}

#[track_caller]
fn accepted(options: &Options<'_>) {
    assert_eq!(call(SHAPE, options, None, None), [Ok(()), Ok(())], "{options:?}");
}

#[track_caller]
fn refused_with(shape: Shape, options: &Options<'_>) {
    for result in call(shape, options, None, None) {
        let error = result.expect_err("malformed");
        assert!(error.to_string().starts_with("attention: "), "{error}");
    }
}

#[track_caller]
fn refused(options: &Options<'_>) {
    refused_with(SHAPE, options);
}

#[test]
fn scores() {
    let x = numbers(20, 1);
    let with = |score| Options { score, ..plain() };
    let capped = |softcap| with(Score::Dot { scale: None, softcap: Some(softcap) });
    accepted(&capped(1.0));
    [0.0, -0.0, -1.0, f32::NAN, f32::NEG_INFINITY].into_iter().for_each(|cap| refused(&capped(cap)));
    for activation in [ScoreActivation::Tanh, ScoreActivation::LeakyRelu { slope: 0.2 }] {
        let additive = |n: usize| with(Score::Additive { activation, weights: &x[..n] });
        accepted(&additive(8));
        [0, 4, 7, 9].into_iter().for_each(|n| refused(&additive(n)));
    }
    let rank_one = with(Score::RankOne { slope: 0.2 });
    let narrow = Shape { head_dim: 1, ..SHAPE };
    assert_eq!(call(narrow, &rank_one, None, None), [Ok(()), Ok(())]);
    [2, 4].into_iter().for_each(|head_dim| refused_with(Shape { head_dim, ..SHAPE }, &rank_one));
}

#[test]
fn rates() {
    let with = |rate| Options { dropout: Some(Dropout { rate, key: Key::new(1) }), ..plain() };
    [0.0, 0.3, 1.0 - f32::EPSILON].into_iter().for_each(|rate| accepted(&with(rate)));
    [1.0, 1.5, -0.1, -1e-30, f32::NAN, f32::INFINITY].into_iter().for_each(|rate| refused(&with(rate)));
}

#[test]
fn biases() {
    let x = numbers(200_000, 1);
    let with = |bias| Options { bias, ..plain() };
    let alibi = |n: usize| with(Bias::Alibi { slopes: &x[..n], offset: 0 });
    accepted(&alibi(2));
    [0, 1, 3].into_iter().for_each(|n| refused(&alibi(n)));
    let dense = |n: usize| with(Bias::Dense { values: &x[..n] });
    accepted(&dense(32));
    [0, 16, 31, 33].into_iter().for_each(|n| refused(&dense(n)));
    let table = |n: usize, buckets| with(Bias::Buckets { table: &x[..n], buckets });
    let relative = |reach| Buckets::Relative { reach, offset: 0 };
    accepted(&table(10, relative(2)));
    accepted(&table(2, relative(0)));
    [0, 5, 9, 11].into_iter().for_each(|n| refused(&table(n, relative(2))));
    // more buckets than can be counted
    [usize::MAX, usize::MAX / 2, 1 << 62].into_iter().for_each(|reach| refused(&table(10, relative(reach))));
    let places = [[0_i32, 5]; 7];
    let grid = |queries: usize, keys: usize, reach| Buckets::Grid {
        queries: &places[..queries],
        keys: &places[..keys],
        reach,
    };
    accepted(&table(30, grid(5, 6, [1, 2])));
    [(4, 6), (6, 6), (5, 5), (5, 7), (0, 0)].into_iter().for_each(|(q, k)| refused(&table(30, grid(q, k, [1, 2]))));
    [0, 29, 31].into_iter().for_each(|n| refused(&table(n, grid(5, 6, [1, 2]))));
    accepted(&table(2 * 65_535, grid(5, 6, [32_767, 0])));
    refused(&table(2 * 65_537, grid(5, 6, [0, 32_768])));
    refused(&table(30, grid(5, 6, [usize::MAX, 1 << 40])));
    let mut pairs = [0_u8, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0];
    let stored = |n: usize, pairs: &[u8], count| {
        let bias = Bias::Buckets { table: &x[..n], buckets: Buckets::Stored { pairs, count } };
        call(SHAPE, &Options { bias, ..plain() }, None, None)
    };
    let is_refused = |[forward, backward]: [Result<(), AttentionError>; 2]| forward.is_err() && backward.is_err();
    assert_eq!(stored(6, &pairs[..16], 3), [Ok(()), Ok(())]);
    assert_eq!(stored(2000, &pairs[..16], 1000), [Ok(()), Ok(())]);
    assert!(is_refused(stored(6, &pairs[..15], 3)) && is_refused(stored(6, &pairs, 3)));
    assert!(is_refused(stored(5, &pairs[..16], 3)) && is_refused(stored(7, &pairs[..16], 3)));
    assert!(is_refused(stored(4, &pairs[..16], 2)) && is_refused(stored(0, &pairs[..16], 0)));
    assert!(is_refused(stored(10, &pairs[..16], usize::MAX)));
    pairs[15] = 3;
    assert!(is_refused(stored(6, &pairs[..16], 3)), "the last pair is beyond the buckets");
}

#[test]
fn graphs() {
    let x = numbers(50, 1);
    let graph = |rows: &[&[u32]], nodes: usize| {
        let mut offsets = vec![0];
        rows.iter().for_each(|row| offsets.push(offsets[offsets.len() - 1] + row.len()));
        Csr::new(offsets, rows.concat(), nodes).expect("well formed")
    };
    let check = |graph: &Csr, bias, fits: bool| {
        let options = Options { mask: Mask::Graph(graph), bias, ..plain() };
        if fits { accepted(&options) } else { refused(&options) }
    };
    let edges = |n: usize| Bias::Edges { values: &x[..n] };
    let good: [&[u32]; 5] = [&[0, 3], &[], &[1, 2], &[4], &[4, 5]];
    let fitting = graph(&good, 6);
    check(&fitting, Bias::None, true);
    check(&fitting, edges(14), true);
    [0, 7, 13, 15].into_iter().for_each(|n| check(&fitting, edges(n), false));
    // rows and nodes that are not the queries and keys
    check(&graph(&good[..4], 6), Bias::None, false);
    check(&graph(&[&good[..], &[&[4]]].concat(), 6), Bias::None, false);
    check(&graph(&good, 7), Bias::None, false);
    check(&graph(&[&[], &[], &[], &[], &[]], 5), Bias::None, false);
    check(&graph(&[], 0), Bias::None, false);
    // out of the first set, and out of the second
    check(&graph(&[&[0, 4], &[], &[], &[], &[]], 6), Bias::None, false);
    check(&graph(&[&[0], &[], &[], &[3, 4], &[]], 6), Bias::None, false);
    check(&graph(&[&[0], &[], &[], &[], &[0]], 6), Bias::None, false);
    // edges that are not there
    for mask in [Mask::Full, Mask::Causal { offset: 0 }, Mask::Window { left: 1, right: 1 }] {
        [0, 14, 32].into_iter().for_each(|n| refused(&Options { mask, bias: edges(n), ..plain() }));
    }
}

#[test]
fn gradients() {
    let x = numbers(100, 1);
    let pairs = [0_u8; 16];
    let places = [[0_i32; 2]; 6];
    let csr = Csr::new(vec![0, 2, 2, 3, 4, 4], vec![0, 3, 1, 5], 6).expect("well formed");
    let grid = Buckets::Grid { queries: &places[..5], keys: &places, reach: [1, 1] };
    let table = |n: usize, buckets| Bias::Buckets { table: &x[..n], buckets };
    let graph = Options { mask: Mask::Graph(&csr), ..plain() };
    let additive = Score::Additive { activation: ScoreActivation::Tanh, weights: &x[..8] };
    let with = |bias| Options { bias, ..plain() };
    for (options, score, bias) in [
        (plain(), None, None),
        (Options { score: additive, ..plain() }, Some(8), None),
        (with(Bias::Alibi { slopes: &x[..2], offset: 0 }), None, Some(2)),
        (with(table(10, Buckets::Relative { reach: 2, offset: 0 })), None, Some(10)),
        (with(table(18, grid)), None, Some(18)),
        (with(table(8, Buckets::Stored { pairs: &pairs, count: 4 })), None, Some(8)),
        (with(Bias::Dense { values: &x[..32] }), None, Some(32)),
        (Options { bias: Bias::Edges { values: &x[..8] }, ..graph }, None, Some(8)),
        (Options { score: additive, bias: Bias::Edges { values: &x[..8] }, ..graph }, Some(8), Some(8)),
    ] {
        let calls = |score, bias| call(SHAPE, &options, score, bias);
        assert_eq!(calls(score, bias), [Ok(()), Ok(())], "{options:?}");
        assert_eq!(calls(None, None), [Ok(()), Ok(())], "{options:?}");
        // one number more or less, or of what is not there
        let wrong = |n: Option<usize>| n.map_or(vec![3], |n| vec![n - 1, n + 1, 0]);
        let wrong_scores = wrong(score).into_iter().map(|n| (Some(n), bias));
        let wrong_biases = wrong(bias).into_iter().map(|n| (score, Some(n)));
        for (score, bias) in wrong_scores.chain(wrong_biases) {
            let [forward, backward] = calls(score, bias);
            let error = backward.expect_err("gradients that do not fit");
            assert!(forward.is_ok(), "{error}, {options:?}");
            assert!(error.to_string().starts_with("attention: "), "{error}");
        }
    }
}
