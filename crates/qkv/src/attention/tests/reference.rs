//! Whether the reference itself is right: its gradients by finite differences, its results by hand and by what must be equal.

use super::super::cases::{BIASES, Biased, Case, Graph, NORMALIZERS, SCORES, Scoring, case};
use super::super::reference::{Problem, Results};
use super::super::*;
use super::data::{Data, error};
use crate::csr::Csr;
use crate::offsets::Offsets;
use crate::options::*;
use crate::testing::{differences, dot, numbers, to_f64};

const MASKS: [Mask<'static>; 4] =
    [Mask::Full, Mask::Causal { offset: -1 }, Mask::Causal { offset: 2 }, Mask::Window { left: 1, right: 1 }];

/// Every score with every normaliser, mask, bias and dropout, in a few small sets.
fn all_options() -> Vec<Case> {
    let masks = MASKS.map(|mask| (mask, None));
    let graphs = [Graph::Random(0.7), Graph::Isolated(0.9)].map(|graph| (Mask::Full, Some(graph)));
    let mut cases = Vec::new();
    for score in SCORES {
        for normalizer in NORMALIZERS {
            for (mask, graph) in masks.into_iter().chain(graphs) {
                for bias in BIASES {
                    if bias == Biased::Edges && graph.is_none() {
                        continue;
                    }
                    let head_dim = if let Scoring::RankOne(_) = score { 1 } else { 2 };
                    let shape = Shape { heads: 4, kv_heads: 2, head_dim, value_dim: 1 };
                    let plain = case(&[(2, 3), (3, 1)], shape, mask);
                    for dropout in [None, Some(0.4)] {
                        cases.push(Case { score, normalizer, graph, bias, dropout, ..plain.clone() });
                    }
                }
            }
        }
    }
    cases
}

#[test]
fn the_reference_has_the_gradient_of_finite_differences() {
    for case in all_options() {
        // a step across a kink would not be the derivative of either side
        let data = (0..100).map(|seed| Data::new(&case, seed)).find(|data| data.problem::<f64>().nearest_kink() > 1e-3);
        let data = data.expect("numbers away from every kink");
        let found = data.reference::<f64>();
        let d_out = to_f64(&data.d_out);
        let loss = |change: &dyn Fn(&mut Problem<'_, f64>)| {
            let mut problem = data.problem::<f64>();
            change(&mut problem);
            dot(&problem.solve(&d_out).out, &data.d_out)
        };
        let close = |what: &str, found: &[f64], expected: &[f64]| {
            assert!(error(found, expected) < 1e-8, "{what}: {found:?} {expected:?} of {case:?}");
        };
        close("query", &found.dq, &differences(&data.q, |x| loss(&|problem| problem.q = x.to_vec())));
        close("key", &found.dk, &differences(&data.k, |x| loss(&|problem| problem.k = x.to_vec())));
        close("value", &found.dv, &differences(&data.v, |x| loss(&|problem| problem.v = x.to_vec())));
        close("score", &found.d_score, &differences(&data.score_weights, |x| loss(&|problem| problem.w = x.to_vec())));
        close("bias", &found.d_bias, &differences(&data.bias, |x| loss(&|problem| problem.bias = x.to_vec())));
    }
}

#[track_caller]
fn assert_same(a: &Results<f64>, b: &Results<f64>) {
    for (a, b) in [(&a.out, &b.out), (&a.lse, &b.lse), (&a.dq, &b.dq), (&a.dk, &b.dk), (&a.dv, &b.dv)] {
        assert!(error(a, b) < 1e-12, "{a:?} {b:?}");
    }
}

#[test]
fn weights_by_hand() {
    // one query and its keys, one number each
    let weights = |options: Options<'_>, q: f32, keys: &[f32]| {
        let one = Offsets::from_lengths([1]);
        let all = Offsets::from_lengths([keys.len()]);
        Problem::<f64>::new(Shape::new(1, 1), options, [&one, &all], [&[q], keys, keys]).weights(0, 0, 0)
    };
    let close = |(found, lse): (Vec<f64>, f64), expected: &[f64], expected_lse: f64| {
        assert!(error(&found, expected) < 1e-7 && error(&[lse], &[expected_lse]) < 1e-7, "{found:?} {lse}");
    };
    let plain = Options::default();
    let with = |normalizer| Options { normalizer, ..plain };
    let (a, b) = (2_f64.exp(), (-1_f64).exp());
    close(weights(with(Normalizer::Softmax), 1.0, &[2.0, -1.0]), &[a / (a + b), b / (a + b)], (a + b).ln());
    let sum = 1.0 + a + b;
    close(weights(with(Normalizer::SoftmaxPlusOne), 1.0, &[2.0, -1.0]), &[a / sum, b / sum], sum.ln());
    close(weights(with(Normalizer::Relu), 1.0, &[2.0, -1.0]), &[1.0, 0.0], 0.0);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let shifted = [sigmoid(2.0 - 2_f64.ln()), sigmoid(-1.0 - 2_f64.ln())];
    close(weights(with(Normalizer::Sigmoid), 1.0, &[2.0, -1.0]), &shifted, 0.0);
    close(weights(with(Normalizer::Sigmoid), 0.0, &[2.0, -1.0, 5.0]), &[0.25; 3], 0.0);
    // nothing to attend to
    for (normalizer, lse) in NORMALIZERS.into_iter().zip([f64::NEG_INFINITY, 0.0, 0.0, 0.0]) {
        close(weights(with(normalizer), 1.0, &[]), &[], lse);
    }
    // scores, seen through the ReLU, which leaves positive ones of one key as they are
    let relu = |score| Options { score, ..with(Normalizer::Relu) };
    let capped = Score::Dot { scale: Some(0.5), softcap: Some(2.0) };
    close(weights(relu(capped), 3.0, &[4.0]), &[2.0 * 3_f64.tanh()], 0.0);
    let additive = |activation| Score::Additive { activation, weights: &[-2.0] };
    close(weights(relu(additive(ScoreActivation::Tanh)), 1.0, &[-3.0]), &[2.0 * 2_f64.tanh()], 0.0);
    let leaky = ScoreActivation::LeakyRelu { slope: 0.25 };
    close(weights(relu(additive(leaky)), 1.0, &[-3.0]), &[1.0], 0.0);
    close(weights(relu(Score::RankOne { slope: -0.5 }), 1.0, &[-3.0]), &[1.0], 0.0);
    close(weights(relu(Score::RankOne { slope: -0.5 }), 1.0, &[2.0]), &[3.0], 0.0);
}

#[test]
fn one_more_in_the_sum_is_a_key_and_a_value_of_zero() {
    let shape = Shape::new(2, 3);
    let (q, k, v) = (numbers(4 * 6, 1), numbers(5 * 6, 2), numbers(5 * 6, 3));
    let with_zero = |x: &[f32]| [x, &[0.0; 6]].concat();
    let queries = Offsets::from_lengths([4]);
    let [five, six] = [5, 6].map(|n| Offsets::from_lengths([n]));
    let options = Options { normalizer: Normalizer::SoftmaxPlusOne, ..Options::default() };
    let found = Problem::<f64>::new(shape, options, [&queries, &five], [&q, &k, &v]).solve(&[1.0; 24]);
    let keys = [&q[..], &with_zero(&k), &with_zero(&v)];
    let mut expected = Problem::<f64>::new(shape, Options::default(), [&queries, &six], keys).solve(&[1.0; 24]);
    expected.dk.truncate(30);
    expected.dv.truncate(30);
    assert_same(&found, &expected);
}

#[test]
fn a_graph_with_the_edges_of_a_mask_is_that_mask() {
    for normalizer in NORMALIZERS {
        for mask in MASKS {
            let data = Data::new(&Case { normalizer, ..case(&[(3, 5), (0, 2), (6, 4)], Shape::new(2, 3), mask) }, 1);
            let (mut rows, mut columns) = (vec![0], Vec::new());
            for set in 0..3 {
                let keys = data.keys.range(set);
                for i in 0..data.queries.len_of(set) {
                    columns.extend(mask.row(i, keys.len()).map(|j| (keys.start + j) as u32));
                    rows.push(columns.len());
                }
            }
            let graph = Some(Csr::new(rows, columns, 11).expect("well formed"));
            assert_same(&Data { graph, ..data.clone() }.reference(), &data.reference());
        }
    }
}

#[test]
fn every_bias_is_a_dense_one_with_the_numbers_that_its_formula_gives() {
    let clamped = |x: i64, reach: i64| (x.clamp(-reach, reach) + reach) as usize;
    for bias in BIASES {
        let lengths = [(3, 4), (0, 1), (5, 2)];
        let graph = (bias == Biased::Edges).then_some(Graph::Random(0.6));
        let data = Data::new(&Case { bias, graph, ..case(&lengths, Shape::new(2, 3), Mask::Causal { offset: 1 }) }, 1);
        let mut dense = Data { case: Case { bias: Biased::Dense, ..data.case.clone() }, ..data.clone() };
        dense.bias.clear();
        // of each number of the dense bias, which number it is and what it is multiplied by
        let mut numbers = Vec::new();
        let mut before = 0;
        for (set, (q_len, kv_len)) in lengths.into_iter().enumerate() {
            let (queries, keys) = (data.queries.range(set), data.keys.range(set));
            for (head, i, j) in (0..2).flat_map(|h| (0..q_len).flat_map(move |i| (0..kv_len).map(move |j| (h, i, j)))) {
                let (query, key) = (queries.start + i, keys.start + j);
                let number = match data.options().bias {
                    Bias::None => None,
                    Bias::Alibi { offset, .. } => Some((head, -((i as f32 + offset as f32 - j as f32).abs()))),
                    Bias::Buckets { buckets: Buckets::Relative { .. }, .. } => {
                        // as `BIASES` has it
                        Some((head * 5 + clamped(i as i64 - 1 - j as i64, 2), 1.0))
                    }
                    Bias::Buckets { buckets: Buckets::Grid { queries, keys, .. }, .. } => {
                        let distance = |axis: usize| i64::from(queries[query][axis]) - i64::from(keys[key][axis]);
                        Some((head * 15 + clamped(distance(0), 1) * 5 + clamped(distance(1), 2), 1.0))
                    }
                    Bias::Buckets { buckets: Buckets::Stored { pairs, count }, .. } => {
                        Some((head * count + usize::from(pairs[before + i * kv_len + j]), 1.0))
                    }
                    Bias::Edges { .. } => {
                        let graph = data.graph.as_ref().expect("a graph");
                        let edges = graph.row_offsets()[query]..graph.row_offsets()[query + 1];
                        let edge = edges.into_iter().find(|&edge| graph.columns()[edge] == key as u32);
                        edge.map(|edge| (edge * 2 + head, 1.0))
                    }
                    Bias::Dense { .. } => Some((before * 2 + (head * q_len + i) * kv_len + j, 1.0)),
                };
                dense.bias.push(number.map_or(0.0, |(number, factor)| factor * data.bias[number]));
                numbers.push(number);
            }
            before += q_len * kv_len;
        }
        let (found, expected) = (data.reference::<f64>(), dense.reference::<f64>());
        assert!(error(&found.out, &expected.out) < 1e-6 && error(&found.dq, &expected.dq) < 1e-6, "{bias:?}");
        let mut d_bias = vec![0.0; data.bias.len()];
        for (number, d) in numbers.into_iter().zip(expected.d_bias) {
            if let Some((number, factor)) = number {
                d_bias[number] += f64::from(factor) * d;
            }
        }
        assert!(error(&found.d_bias, &d_bias) < 1e-6, "{bias:?}");
    }
}
