//! All options, alone and together, on every instruction set.

use proptest::prelude::*;

use super::super::cases::{BIASES, Biased, Case, Graph, Memory, NORMALIZERS, SCORES, Scoring, case, option_cases};
use super::super::*;
use super::data::{Data, assert_all_as_good, assert_all_within, assert_cases, bits, error, instruction_sets};
use crate::csr::Csr;
use crate::options::*;
use crate::testing::{numbers, to_f64};

const TANH: Scoring = Scoring::Additive(ScoreActivation::Tanh);
const LEAKY: Scoring = Scoring::Additive(ScoreActivation::LeakyRelu { slope: 0.2 });

/// All that a case can say, at least once and mixed, over the shape and the sets of `plain`.
fn mixed(plain: &Case) -> Vec<Case> {
    let causal = Mask::Causal { offset: 3 };
    let isolated = Some(Graph::Isolated(0.2));
    vec![
        Case { score: Scoring::Capped(2.0), bias: Biased::Alibi { offset: 0 }, mask: causal, ..plain.clone() },
        Case { score: TANH, normalizer: Normalizer::Sigmoid, bias: Biased::Dense, ..plain.clone() },
        Case { score: LEAKY, graph: isolated, bias: Biased::Edges, dropout: Some(0.2), ..plain.clone() },
        Case {
            score: Scoring::RankOne(0.2),
            graph: Some(Graph::Hubs(3)),
            shape: Shape { head_dim: 1, ..plain.shape },
            ..plain.clone()
        },
        Case {
            normalizer: Normalizer::SoftmaxPlusOne,
            bias: Biased::Relative { reach: 40, offset: 2 },
            dropout: Some(0.5),
            ..plain.clone()
        },
        Case {
            normalizer: Normalizer::Relu,
            bias: Biased::Grid { reach: [4, 3] },
            mask: Mask::Window { left: 90, right: 200 },
            ..plain.clone()
        },
        Case { bias: Biased::Stored { count: 9 }, mask: causal, dropout: Some(0.1), ..plain.clone() },
        Case { graph: isolated, bias: Biased::Dense, normalizer: Normalizer::Sigmoid, ..plain.clone() },
    ]
}

#[test]
fn every_case_on_every_instruction_set_is_as_exact_as_the_formula() {
    assert_cases(&option_cases());
}

#[test]
fn threads_do_not_change_a_bit() {
    let pools = [1, 2, 5].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("a pool"));
    let shape = Shape { heads: 2, kv_heads: 1, head_dim: 6, value_dim: 9 };
    // tiles, short sets and a few queries; with a graph, edges and tiles
    let lengths = [(700, 700), (3, 3), (150, 150), (1200, 300), (200, 1500), (2, 1600)];
    let blocks = Case { graph: Some(Graph::Blocks(110)), ..case(&lengths, shape, Mask::Full) };
    let blocks = [Biased::Edges, Biased::Relative { reach: 30, offset: 0 }].map(|bias| Case { bias, ..blocks.clone() });
    for case in mixed(&case(&lengths, shape, Mask::Full)).into_iter().chain(blocks) {
        let data = Data::new(&case, 3);
        for kernels in instruction_sets() {
            let [one, two, five] =
                pools.each_ref().map(|pool| pool.install(|| bits(&data.run(kernels, &mut Workspace::new()))));
            assert!(one == two && one == five, "{case:?}, registers of {}", kernels.lanes);
        }
    }
}

#[test]
fn a_set_has_the_bits_it_has_alone_and_never_sees_another() {
    for (length, beside) in [(50, 65), (600, 65), (300, 900)] {
        let shape = Shape { heads: 2, kv_heads: 2, head_dim: 6, value_dim: 10 };
        let lengths = [(33, 33), (length, length), (beside, beside)];
        for case in mixed(&case(&lengths, shape, Mask::Full)) {
            let mut data = Data::new(&Case { dropout: None, ..case.clone() }, 5);
            let alone = data.only(1);
            let rows = data.queries.range(1);
            let of_head = [shape.heads * data.case.shape.head_dim, shape.heads * shape.value_dim];
            for (x, width) in [
                (&mut data.q, of_head[0]),
                (&mut data.k, of_head[0]),
                (&mut data.v, of_head[1]),
                (&mut data.d_out, of_head[1]),
            ] {
                x[..rows.start * width].fill(f32::NAN);
                x[rows.end * width..].fill(f32::INFINITY);
            }
            // numbers of the bias that belong to one set
            let own = match case.bias {
                Biased::Dense => Some(33 * 33 * 2),
                Biased::Edges => data.graph.as_ref().map(|graph| graph.row_offsets()[rows.start] * 2),
                _ => None,
            };
            let own = own.map(|first| first..first + alone.bias.len());
            if let Some(own) = own.clone() {
                data.bias[..own.start].fill(f32::NAN);
                data.bias[own.end..].fill(f32::INFINITY);
            }
            for kernels in instruction_sets() {
                let beside = data.run(kernels, &mut Workspace::new());
                let alone = alone.run(kernels, &mut Workspace::new());
                let cut = |x: &[f32], width: usize| x[rows.start * width..rows.end * width].to_vec();
                assert_eq!(cut(&beside.out, of_head[1]), alone.out, "{case:?}");
                assert_eq!(cut(&beside.dk, of_head[0]), alone.dk, "{case:?}");
                assert_eq!(cut(&beside.dv, of_head[1]), alone.dv, "{case:?}");
                assert!(error(&cut(&beside.dq, of_head[0]), &to_f64(&alone.dq)) < 1e-5, "{case:?}");
                if let Some(own) = own.clone() {
                    assert!(error(&beside.d_bias[own], &to_f64(&alone.d_bias)) < 1e-5, "{case:?}");
                }
                let all = [&alone.out, &alone.dq, &alone.dk, &alone.dv, &alone.d_score, &alone.d_bias];
                assert!(all.into_iter().flatten().all(|x| x.is_finite()), "{case:?}");
            }
        }
    }
}

#[test]
fn a_workspace_is_used_again_for_any_options() {
    let mut workspace = Workspace::new();
    let list: Vec<Case> = option_cases().into_iter().step_by(23).collect();
    for case in list.iter().chain(&list) {
        let data = Data::new(case, 1);
        for kernels in instruction_sets() {
            let again = bits(&data.run(kernels, &mut workspace));
            assert!(again == bits(&data.run(kernels, &mut Workspace::new())), "{case:?}");
        }
    }
}

#[test]
fn gradients_that_nobody_asks_for_change_nothing() {
    let shape = Shape { heads: 2, kv_heads: 1, head_dim: 6, value_dim: 10 };
    for case in mixed(&case(&[(60, 45), (130, 130)], shape, Mask::Full)) {
        let data = Data::new(&case, 2);
        let Shape { head_dim, .. } = case.shape;
        for kernels in instruction_sets() {
            let (all, lse, kept) = data.run_and_save(kernels, &mut Workspace::new());
            let saved = Saved { out: View::new(&all.out, 2, 10), lse: &lse, kept: &kept };
            let (mut dq, mut dk, mut dv) = (all.dq.clone(), all.dk.clone(), all.dv.clone());
            [&mut dq, &mut dk, &mut dv].into_iter().for_each(|x| x.fill(f32::NAN));
            let gradients = Gradients::new(
                ViewMut::new(&mut dq, 2, head_dim),
                ViewMut::new(&mut dk, 1, head_dim),
                ViewMut::new(&mut dv, 1, 10),
            );
            let d_out = (View::new(&data.d_out, 2, 10), gradients);
            backward_with(kernels, &data.inputs(), &data.options(), &saved, d_out, &mut Workspace::new())
                .expect("fits");
            assert!(dq == all.dq && dk == all.dk && dv == all.dv, "{case:?}");
        }
    }
}

#[test]
fn a_query_without_an_edge_is_zero_with_zero_gradient_and_so_is_a_key() {
    for (score, normalizer) in SCORES.into_iter().flat_map(|score| NORMALIZERS.map(|n| (score, n))) {
        for bias in [Biased::No, Biased::Edges, Biased::Dense] {
            let shape = Shape {
                heads: 2,
                kv_heads: 2,
                head_dim: if let Scoring::RankOne(_) = score { 1 } else { 8 },
                value_dim: 8,
            };
            let graph = Some(Graph::Isolated(0.6));
            let plain = case(&[(50, 70), (20, 0), (3, 2)], shape, Mask::Full);
            let data = Data::new(&Case { score, normalizer, bias, graph, ..plain }, 1);
            let graph = data.graph.as_ref().expect("a graph");
            for kernels in instruction_sets() {
                let (r, lse) = data.run_with_lse(kernels, &mut Workspace::new());
                let empty = if normalizer == Normalizer::Softmax { f64::NEG_INFINITY } else { 0.0 };
                let width = 2 * shape.head_dim;
                for i in (0..73).filter(|&i| graph.neighbours(i).is_empty()) {
                    assert!(r.out[i * 16..][..16].iter().chain(&r.dq[i * width..][..width]).all(|&x| x == 0.0));
                    assert_eq!([lse[i], lse[73 + i]], [empty; 2], "query {i}, {normalizer:?}");
                }
                for j in (0..72).filter(|j| !graph.columns().contains(&(*j as u32))) {
                    assert!(r.dv[j * 16..][..16].iter().chain(&r.dk[j * width..][..width]).all(|&x| x == 0.0));
                }
                if !normalizer.has_sum() {
                    assert!(lse.iter().all(|&x| x == 0.0), "weights that have no sum leave zeros");
                }
            }
        }
    }
}

#[test]
fn without_an_edge_a_query_has_nothing_of_the_key() {
    // The same graph with and without the edge from query 40 to key 60; then another key and value at its other end.
    for (score, normalizer) in SCORES.into_iter().flat_map(|score| NORMALIZERS.map(|n| (score, n))) {
        let shape = Shape {
            heads: 2,
            kv_heads: 1,
            head_dim: if let Scoring::RankOne(_) = score { 1 } else { 8 },
            value_dim: 8,
        };
        let plain = case(&[(9, 9), (90, 110)], shape, Mask::Full);
        let data = Data::new(&Case { score, normalizer, graph: Some(Graph::Random(0.5)), ..plain }, 1);
        let (query, key) = (9 + 40, 9 + 60);
        let pairs = (0..data.queries.tokens()).flat_map(|row| {
            let neighbours = data.graph.as_ref().map_or(&[][..], |graph| graph.neighbours(row));
            neighbours.iter().map(move |&column| (row, column as usize))
        });
        let without: Vec<_> = pairs.filter(|&edge| edge != (query, key)).collect();
        let with = [&without[..], &[(query, key)]].concat();
        let results = |edges: &[(usize, usize)], seed: u64, kernels| {
            let mut data = data.clone();
            data.k[key * shape.head_dim..][..shape.head_dim].copy_from_slice(&numbers(shape.head_dim, seed));
            data.v[key * 8..][..8].copy_from_slice(&numbers(8, seed + 1));
            // so many rows as there are queries, not as there are keys
            let square = Csr::from_edges(data.keys.tokens(), edges).expect("well formed");
            let rows = square.row_offsets()[..=data.queries.tokens()].to_vec();
            data.graph = Some(Csr::new(rows, square.columns().to_vec(), data.keys.tokens()).expect("well formed"));
            let (r, lse) = data.run_with_lse(kernels, &mut Workspace::new());
            let width = 2 * shape.head_dim;
            let of_query = [&r.out[query * 16..][..16], &r.dq[query * width..][..width]].concat();
            (of_query, lse[query].to_bits())
        };
        for kernels in instruction_sets() {
            assert_eq!(results(&without, 100, kernels), results(&without, 200, kernels), "{score:?} {normalizer:?}");
            assert_ne!(results(&with, 100, kernels), results(&without, 100, kernels), "{score:?} {normalizer:?}");
        }
    }
}

#[test]
fn a_bias_of_minus_infinity_is_a_key_that_is_not_there() {
    let shape = Shape::new(2, 8);
    for normalizer in NORMALIZERS {
        let plain = case(&[(70, 70)], shape, Mask::Full);
        let mut data = Data::new(&Case { normalizer, bias: Biased::Dense, ..plain }, 1);
        let kept = |pair: usize| pair % 70 % 3 != 1 && pair / 70 % 70 != 20;
        (0..2 * 70 * 70).filter(|&pair| !kept(pair)).for_each(|pair| data.bias[pair] = f32::NEG_INFINITY);
        let (exact, naive) = (data.reference::<f64>(), data.reference::<f32>());
        for kernels in instruction_sets() {
            let found = data.run(kernels, &mut Workspace::new());
            assert_all_as_good(&data.case, &found, &naive, &exact);
            assert!((0..2 * 70 * 70).filter(|&pair| !kept(pair)).all(|pair| found.d_bias[pair] == 0.0));
            assert!(found.out[20 * 16..][..16].iter().all(|&x| x == 0.0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn any_options_and_shape(
        lengths in prop::collection::vec((0_usize..100, 0_usize..100), 0..4),
        long in 0_usize..900,
        (kv_heads, group) in (1_usize..4, 1_usize..4),
        (head_dim, value_dim) in (1_usize..40, 1_usize..40),
        mask in prop_oneof![
            Just(Mask::Full),
            (-60_isize..60).prop_map(|offset| Mask::Causal { offset }),
            (0_usize..100, 0_usize..100).prop_map(|(left, right)| Mask::Window { left, right }),
        ],
        graph in prop::option::of(prop_oneof![
            (0.0_f32..1.0).prop_map(Graph::Random),
            (1_usize..60).prop_map(Graph::Blocks),
            (0_usize..4).prop_map(Graph::Hubs),
            (0.0_f32..1.0).prop_map(Graph::Isolated),
            (0.0_f32..1.0).prop_map(Graph::EverySecondSet),
        ]),
        score in prop_oneof![
            Just(Scoring::Dot),
            (0.2_f32..50.0).prop_map(Scoring::Capped),
            Just(TANH),
            (-1.0_f32..1.0).prop_map(|slope| Scoring::Additive(ScoreActivation::LeakyRelu { slope })),
            (-1.0_f32..1.0).prop_map(Scoring::RankOne),
        ],
        normalizer in prop::sample::select(&NORMALIZERS[..]),
        bias in prop_oneof![
            prop::sample::select(&BIASES[..]),
            (0_usize..90, -200_isize..200).prop_map(|(reach, offset)| Biased::Relative { reach, offset }),
            (0_usize..9, 0_usize..9).prop_map(|(y, x)| Biased::Grid { reach: [y, x] }),
            (1_usize..257).prop_map(|count| Biased::Stored { count }),
            (-200_isize..200).prop_map(|offset| Biased::Alibi { offset }),
        ],
        dropout in prop::option::of(0.0_f32..0.95),
        (scale, seed) in (prop::option::of(-4.0_f32..4.0), 0_u64..1000),
    ) {
        let mut lengths = lengths;
        if long > 600 {
            lengths.push((long % 7, long));
        }
        let head_dim = if let Scoring::RankOne(_) = score { 1 } else { head_dim };
        let shape = Shape { heads: kv_heads * group, kv_heads, head_dim, value_dim };
        let graph = graph.or((bias == Biased::Edges).then_some(Graph::Random(0.4)));
        let memory = [Memory::Packed, Memory::ByHead, Memory::Gaps][seed as usize % 3];
        let plain = case(&lengths, shape, mask);
        let case = Case { memory, graph, score, normalizer, bias, dropout, scale, ..plain };
        let data = Data::new(&case, seed);
        let (exact, naive) = (data.reference::<f64>(), data.reference::<f32>());
        for kernels in instruction_sets() {
            // twice the bounds, since what is drawn is drawn anew each time
            let mut found = data.run(kernels, &mut Workspace::new());
            assert_all_within(2.0, &case, [&found, &naive], &exact);
            found.out = data.out_for_good(kernels, &mut Workspace::new());
            assert_all_within(2.0, &case, [&found, &naive], &exact);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn a_few_queries_without_lse(
        lengths in prop::collection::vec((0_usize..5, 0_usize..300), 1..6),
        (kv_heads, group) in (1_usize..4, 1_usize..4),
        head_dim in 1_usize..70,
        value_dim in prop_oneof![1_usize..70, Just(16), Just(32), Just(64), Just(128)],
        mask in prop_oneof![
            Just(Mask::Full),
            (-60_isize..300).prop_map(|offset| Mask::Causal { offset }),
            (0_usize..100, 0_usize..100).prop_map(|(left, right)| Mask::Window { left, right }),
        ],
        score in prop_oneof![Just(Scoring::Dot), Just(TANH)],
        normalizer in prop::sample::select(&NORMALIZERS[..]),
        memory in prop_oneof![Just(Memory::Packed), Just(Memory::ByHead), Just(Memory::Gaps)],
    ) {
        let shape = Shape { heads: kv_heads * group, kv_heads, head_dim, value_dim };
        assert_cases(&[Case { score, normalizer, memory, ..case(&lengths, shape, mask) }]);
    }
}
