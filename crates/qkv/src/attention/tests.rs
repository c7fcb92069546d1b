use proptest::prelude::*;

mod data;
mod dropout;
mod fuzz;
mod options;
mod reference;
mod refusals;
mod scored;

use super::cases::{Case, Memory, case, cases};
use super::kernels::Kernels;
use super::*;
use crate::offsets::Offsets;
use crate::options::*;
use crate::random::Key;
use crate::testing::{numbers, to_f64};
use data::{Data, assert_all_within, assert_cases, bits, error, instruction_sets};

#[test]
fn every_case_on_every_instruction_set_is_as_exact_as_the_formula() {
    assert_cases(&cases());
}

#[test]
fn threads_do_not_change_a_bit() {
    let pools = [1, 2, 5].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("a pool"));
    let masks = [
        Mask::Full,
        Mask::Causal { offset: 0 },
        Mask::Causal { offset: -300 },
        Mask::Causal { offset: 500 },
        Mask::Window { left: 100, right: 7 },
        Mask::Window { left: usize::MAX, right: 0 },
        Mask::Window { left: 3, right: usize::MAX },
    ];
    for mask in masks {
        let shape = Shape { heads: 2, kv_heads: 1, head_dim: 16, value_dim: 24 };
        let lengths = [(1100, 1100), (3, 3), (200, 200), (1500, 640), (400, 1900)];
        let data = Data::new(&case(&lengths, shape, mask), 3);
        for kernels in instruction_sets() {
            let [one, two, five] =
                pools.each_ref().map(|pool| pool.install(|| bits(&data.run(kernels, &mut Workspace::new()))));
            assert!(one == two && one == five, "{mask:?}, registers of {}", kernels.lanes);
        }
    }
}

#[test]
fn a_set_has_the_bits_it_has_alone_and_never_sees_another() {
    for mask in [Mask::Full, Mask::Causal { offset: 1 }, Mask::Window { left: 30, right: 30 }] {
        for (length, beside) in [(50, 65), (600, 65), (600, 2000)] {
            let shape = Shape::new(2, 20);
            let mut data = Data::new(&case(&[(33, 33), (length, length), (beside, beside)], shape, mask), 5);
            let rows = data.queries.range(1);
            let (first, end) = (rows.start * 40, rows.end * 40);
            for x in [&mut data.q, &mut data.k, &mut data.v, &mut data.d_out] {
                x[..first].fill(f32::NAN);
                x[end..].fill(f32::INFINITY);
            }
            let cut = |x: &[f32]| x[first..end].to_vec();
            let alone = data.only(1);
            for kernels in instruction_sets() {
                let beside = data.run(kernels, &mut Workspace::new());
                let alone = alone.run(kernels, &mut Workspace::new());
                for (a, b) in [(&beside.out, &alone.out), (&beside.dk, &alone.dk), (&beside.dv, &alone.dv)] {
                    assert_eq!(cut(a), *b);
                }
                assert!(error(&cut(&beside.dq), &to_f64(&alone.dq)) < 1e-5);
                assert!(alone.out.iter().chain(&alone.dq).chain(&alone.dk).chain(&alone.dv).all(|x| x.is_finite()));
            }
        }
    }
}

#[test]
fn a_row_that_may_attend_to_nothing_is_zero_with_zero_gradient() {
    let data = Data::new(&case(&[(9, 9)], Shape::new(1, 8), Mask::Causal { offset: -3 }), 1);
    for kernels in instruction_sets() {
        let r = data.run(kernels, &mut Workspace::new());
        assert!(r.out[..24].iter().chain(&r.dq[..24]).all(|&x| x == 0.0));
        assert!(r.lse[..3].iter().all(|&x| x == f32::NEG_INFINITY));
        // nobody sees the last three keys
        assert!(r.dk[48..].iter().chain(&r.dv[48..]).all(|&x| x == 0.0));
        assert!(r.out[24..].iter().chain(&r.dk[..48]).all(|&x| x.is_finite() && x != 0.0));
    }
}

#[test]
fn nan_in_a_query_stays_in_its_row() {
    let mut data = Data::new(&case(&[(100, 100)], Shape::new(1, 16), Mask::Full), 2);
    data.q[40 * 16 + 3] = f32::NAN;
    for kernels in instruction_sets() {
        let r = data.run(kernels, &mut Workspace::new());
        for (row, out) in r.out.chunks(16).enumerate() {
            assert_eq!(out.iter().all(|x| x.is_nan()), row == 40, "row {row}");
            assert_eq!(out.iter().any(|x| x.is_nan()), row == 40, "row {row}");
        }
        assert!(r.lse[40].is_nan());
    }
}

#[test]
fn an_infinite_logit_is_what_the_formula_makes_of_it() {
    // -∞ takes no part, as if it were masked; +∞ is NaN, since ∞ - ∞ is
    let mut data = Data::new(&case(&[(3, 40)], Shape::new(1, 1), Mask::Full), 2);
    data.q.copy_from_slice(&[1.0, -1.0, 0.5]);
    data.k[17] = f32::INFINITY;
    for kernels in instruction_sets() {
        let r = data.run(kernels, &mut Workspace::new());
        assert!(r.out[0].is_nan() && r.out[2].is_nan());
        let (weights, _) = data.problem::<f64>().weights(0, 0, 1);
        let expected: f64 = weights.iter().zip(&data.v).map(|(w, &v)| w * f64::from(v)).sum();
        assert_eq!(weights[17], 0.0);
        assert!((f64::from(r.out[1]) - expected).abs() < 1e-6);
    }
    // nothing but -∞ is a row without a key
    data.k.fill(f32::INFINITY);
    for kernels in instruction_sets() {
        let (r, lse) = data.run_with_lse(kernels, &mut Workspace::new());
        assert_eq!((r.out[1], lse[1]), (0.0, f64::NEG_INFINITY));
        let view = |x| View::new(x, 1, 1);
        let [query, key, value] = [view(&data.q), view(&data.k), view(&data.v)];
        let inputs = Inputs { shape: data.case.shape, query, key, value, queries: &data.queries, keys: &data.keys };
        let mut weights = [f32::NAN; 40];
        let chosen = Chosen { set: 0, heads: &[0], queries: &[1] };
        attention_weights(&inputs, &data.options(), &lse, &chosen, &mut weights).expect("fits");
        assert_eq!(weights, [0.0; 40]);
    }
}

#[test]
fn the_largest_finite_logits_give_finite_weights() {
    // the product of one with the scale is rounded by more than 2 can be raised to
    for (logit, scale) in [(1e5_f32, 1.0), (1e10, 0.7), (-1e10, 1.0), (3e11, -2.0), (3e15, -2.0), (1e18, 1.0)] {
        let mut data = Data::new(&Case { scale: Some(scale), ..case(&[(2, 3)], Shape::new(1, 1), Mask::Full) }, 2);
        data.q.copy_from_slice(&[logit, logit]);
        data.k.copy_from_slice(&[1.0, 1.0, 1.0 + f32::EPSILON]);
        data.v.copy_from_slice(&[1.0, 2.0, 4.0]);
        for kernels in instruction_sets() {
            let (r, lse) = data.run_with_lse(kernels, &mut Workspace::new());
            let all = [&r.out, &r.dq, &r.dk, &r.dv];
            assert!(all.into_iter().flatten().chain(&r.lse).all(|x| x.is_finite()), "logits of {logit}");
            // from there on an f64 has no room for the logarithm of a sum beside the largest logit
            if (logit * scale).abs() > 1e12 {
                continue;
            }
            let inputs = data.inputs();
            let chosen = Chosen { set: 0, heads: &[0], queries: &[1] };
            let mut weights = [f32::NAN; 3];
            attention_weights(&inputs, &data.options(), &lse, &chosen, &mut weights).expect("fits");
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-3, "logits of {logit}: {weights:?}");
        }
    }
}

#[test]
fn a_workspace_is_used_again_for_any_shape() {
    let mut workspace = Workspace::new();
    let list = [
        case(&[(700, 700)], Shape::new(2, 64), Mask::Full),
        case(&[(3, 3), (40, 40)], Shape::new(1, 5), Mask::Full),
        case(&[(2000, 2000)], Shape::new(1, 8), Mask::Window { left: 9, right: 9 }),
    ];
    for case in list.iter().chain(&list) {
        let data = Data::new(case, 1);
        for kernels in instruction_sets() {
            assert_eq!(bits(&data.run(kernels, &mut workspace)), bits(&data.run(kernels, &mut Workspace::new())));
        }
    }
}

#[test]
fn weights_are_those_of_the_formula() {
    let shape = Shape { heads: 4, kv_heads: 2, head_dim: 20, value_dim: 3 };
    let data = Data::new(&case(&[(5, 5), (30, 50)], shape, Mask::Window { left: 7, right: 12 }), 4);
    let (_, lse) = data.run_with_lse(Kernels::of(Isa::detect()), &mut Workspace::new());
    let view = |x, heads, dim| View::new(x, heads, dim);
    let inputs = Inputs {
        shape,
        query: view(&data.q, 4, 20),
        key: view(&data.k, 2, 20),
        value: view(&data.v, 2, 3),
        queries: &data.queries,
        keys: &data.keys,
    };
    let chosen = Chosen { set: 1, heads: &[3, 0], queries: &[29, 0, 7] };
    let mut weights = vec![f32::NAN; 2 * 3 * 50];
    attention_weights(&inputs, &data.options(), &lse, &chosen, &mut weights).expect("fits");
    for (row, found) in weights.chunks(50).enumerate() {
        let (head, i) = (chosen.heads[row / 3], chosen.queries[row % 3]);
        let (expected, _) = data.problem::<f64>().weights(1, head, i);
        let mut whole = vec![0.0; 50];
        whole[data.case.mask.row(i, 50)].copy_from_slice(&expected);
        assert!(error(found, &whole) < 1e-6);
        assert!((found.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    let bad = |chosen: Chosen<'_>, len: usize| {
        attention_weights(&inputs, &data.options(), &lse, &chosen, &mut vec![0.0; len])
            .expect_err("does not fit")
            .to_string()
    };
    assert!(bad(Chosen { set: 2, ..chosen }, 300).contains("set 2 was chosen, but there are 2"));
    assert!(bad(Chosen { heads: &[4], ..chosen }, 150).contains("head 4 was chosen"));
    assert!(bad(Chosen { queries: &[30], ..chosen }, 100).contains("query 30 was chosen"));
    assert!(bad(chosen, 299).contains("[2, 3, 50] weights, found 299"));
}

#[test]
fn merged_halves_are_the_whole() {
    let shape = Shape::new(2, 16);
    let whole = Data::new(&case(&[(30, 90)], shape, Mask::Full), 6);
    let kernels = Kernels::of(Isa::detect());
    for split in [0, 1, 40, 90] {
        let half = |from: usize, to: usize| {
            let cut = |x: &[f32]| x[from * 32..to * 32].to_vec();
            let data = Data {
                case: case(&[(30, to - from)], shape, Mask::Full),
                keys: Offsets::from_lengths([to - from]),
                k: cut(&whole.k),
                v: cut(&whole.v),
                ..whole.clone()
            };
            data.run_with_lse(kernels, &mut Workspace::new())
        };
        let (a, b, all) = (half(0, split), half(split, 90), half(0, 90));
        let [a, b] = [&a, &b].map(|(r, lse)| Saved { out: View::new(&r.out, 2, 16), lse, kept: &[] });
        let (mut out, mut lse) = (vec![f32::NAN; 30 * 32], vec![f64::NAN; 60]);
        merge(&a, &b, ([30, 2, 16], Normalizer::Softmax), ViewMut::new(&mut out, 2, 16), &mut lse).expect("fits");
        assert!(error(&out, &to_f64(&all.0.out)) < 1e-6 && error(&lse, &all.1) < 1e-6);
    }
}

#[test]
fn merging_two_that_saw_nothing_leaves_nothing() {
    let (out, lse) = ([0.0; 4], [f64::NEG_INFINITY]);
    let saved = Saved { out: View::new(&out, 1, 4), lse: &lse, kept: &[] };
    let (mut both, mut both_lse) = ([f32::NAN; 4], [f64::NAN]);
    merge(&saved, &saved, ([1, 1, 4], Normalizer::Softmax), ViewMut::new(&mut both, 1, 4), &mut both_lse)
        .expect("fits");
    assert_eq!((both, both_lse), ([0.0; 4], [f64::NEG_INFINITY]));
    // but NaN is not nothing
    let nan = Saved { lse: &[f64::NAN], ..saved };
    for (a, b) in [(&saved, &nan), (&nan, &saved)] {
        merge(a, b, ([1, 1, 4], Normalizer::Softmax), ViewMut::new(&mut both, 1, 4), &mut both_lse).expect("fits");
        assert!(both_lse[0].is_nan() && both[0].is_nan());
    }
}

#[test]
fn merging_counts_the_one_of_the_softmax_plus_one_once() {
    let shape = Shape::new(1, 4);
    let x = numbers(40 * 4, 3);
    let attend = |keys: std::ops::Range<usize>, normalizer| {
        let (queries, own) = (Offsets::from_lengths([3]), Offsets::from_lengths([keys.len()]));
        let (q, k) = (View::new(&x[..12], 1, 4), View::new(&x[keys.start * 4..keys.end * 4], 1, 4));
        let inputs = Inputs { shape, query: q, key: k, value: k, queries: &queries, keys: &own };
        let (mut out, mut lse) = (vec![0.0; 12], vec![0.0; 3]);
        let options = Options { normalizer, ..Options::default() };
        attention_forward(&inputs, &options, ViewMut::new(&mut out, 1, 4), &mut lse, &mut Workspace::new())
            .expect("fits");
        (out, lse)
    };
    let [a, b, all] = [0..15, 15..40, 0..40].map(|keys| attend(keys, Normalizer::SoftmaxPlusOne));
    let [a, b] = [&a, &b].map(|(out, lse)| Saved { out: View::new(out, 1, 4), lse, kept: &[] });
    let (mut out, mut lse) = (vec![f32::NAN; 12], vec![f64::NAN; 3]);
    let to = ViewMut::new(&mut out, 1, 4);
    merge(&a, &b, ([3, 1, 4], Normalizer::SoftmaxPlusOne), to, &mut lse).expect("fits");
    assert!(error(&out, &to_f64(&all.0)) < 1e-6 && error(&lse, &all.1) < 1e-6);
    let to = ViewMut::new(&mut out, 1, 4);
    let refused = merge(&a, &b, ([3, 1, 4], Normalizer::Relu), to, &mut lse);
    assert_eq!(refused, Err(AttentionError::Merge { normalizer: Normalizer::Relu }));
}

#[test]
fn self_attention_without_parameters() {
    let x = numbers(60 * 5, 9);
    let y = self_attention(&x, 5).expect("whole vectors");
    let row = |i: usize| &x[i * 5..][..5];
    for i in 0..60 {
        let logits: Vec<f64> =
            (0..60).map(|j| row(i).iter().zip(row(j)).map(|(a, b)| f64::from(a * b)).sum()).collect();
        let largest = logits.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = logits.iter().map(|x| (x - largest).exp()).sum();
        for c in 0..5 {
            let mean: f64 = (0..60).map(|j| (logits[j] - largest).exp() / sum * f64::from(row(j)[c])).sum();
            assert!((f64::from(y[i * 5 + c]) - mean).abs() < 1e-5);
        }
    }
    assert_eq!(self_attention(&[], 5), Ok(vec![]));
    assert!(
        self_attention(&x, 7)
            .expect_err("300 is no multiple of 7")
            .to_string()
            .contains("multiple of 7 numbers, found 300")
    );
    assert!(self_attention(&x, 0).is_err());
}

#[test]
fn what_does_not_fit_together_is_refused_by_name() {
    let data = numbers(4000, 1);
    let (three, four) = (Offsets::from_lengths([3, 4]), Offsets::from_lengths([7]));
    let shape = Shape::new(2, 8);
    let view = View::new(&data, 2, 8);
    let good = Inputs { shape, query: view, key: view, value: view, queries: &three, keys: &three };
    let short = View::new(&data[..7 * 16 - 1], 2, 8);
    let call = |inputs: &Inputs<'_>, out: usize, strides: [usize; 2], lse: usize| {
        let (mut out, mut lse) = (vec![0.0; out], vec![0.0; lse]);
        let out = ViewMut::strided(&mut out, strides[0], strides[1]);
        attention_forward(inputs, &Options::default(), out, &mut lse, &mut Workspace::new())
    };
    let refused =
        |inputs: &Inputs<'_>, out, strides, lse| call(inputs, out, strides, lse).expect_err("refused").to_string();
    assert_eq!(call(&good, 112, [16, 8], 14), Ok(()));
    let with = |shape| Inputs { shape, ..good };
    for (inputs, wanted) in [
        (with(Shape { heads: 3, ..shape }), "multiple of kv_heads, both at least 1, found 3 and 2"),
        (with(Shape { kv_heads: 0, ..shape }), "found 2 and 0"),
        (with(Shape { heads: 0, ..shape }), "found 0 and 2"),
        (with(Shape { head_dim: 0, ..shape }), "at least 1, found 0 and 8"),
        (with(Shape { value_dim: 0, ..shape }), "found 8 and 0"),
        (Inputs { keys: &four, ..good }, "as many sets of keys as of queries, found 1 and 2"),
        (Inputs { query: short, ..good }, "query [7, 2, 8] with strides 16 and 8 needs 112 numbers, found 111"),
        (Inputs { key: short, ..good }, "key [7, 2, 8]"),
        (Inputs { value: short, ..good }, "value [7, 2, 8]"),
        (Inputs { value: View::strided(&data, usize::MAX, 8), ..good }, "value [7, 2, 8]"),
    ] {
        let message = refused(&inputs, 112, [16, 8], 14);
        assert!(message.contains(wanted), "{message}");
    }
    assert!(refused(&good, 111, [16, 8], 14).contains("out [7, 2, 8] with strides 16 and 8 needs 112"));
    assert!(refused(&good, 999, [15, 8], 14).contains("rows of out overlap: width 8, strides 15 and 8"));
    assert!(refused(&good, 999, [8, 55], 14).contains("overlap"));
    assert!(refused(&good, 112, [16, 8], 13).contains("[2, 7] log-sum-exps, found 13"));
    // a part of a fused buffer is not wider than it says
    let mut fused = vec![0.0; 7 * 48];
    let [out, ..] = ViewMut::qkv(&mut fused, 2, 8);
    assert_eq!(attention_forward(&good, &Options::default(), out, &mut [0.0; 14], &mut Workspace::new()), Ok(()));
    let [out, ..] = ViewMut::qkv(&mut fused, 2, 8);
    let wide = Inputs {
        shape: Shape { heads: 2, kv_heads: 2, head_dim: 8, value_dim: 10 },
        value: View::new(&data, 2, 10),
        ..good
    };
    assert!(attention_forward(&wide, &Options::default(), out, &mut [0.0; 14], &mut Workspace::new()).is_err());
    let plain = Options::default();
    // rows that are one and the same in memory, more than can be counted: nothing may be sized by them
    let (one, many) = (Offsets::from_lengths([1]), Offsets::from_lengths([1 << 60]));
    let same = View::strided(&data, 0, 0);
    let mask = Mask::Causal { offset: 5000 };
    let huge = Inputs { shape: Shape::new(1, 16), query: same, key: same, value: same, queries: &one, keys: &many };
    let mut out = vec![0.0; 16];
    let to = ViewMut::new(&mut out, 1, 16);
    let error = attention_forward(&huge, &Options { mask, ..plain }, to, &mut [0.0], &mut Workspace::new());
    assert!(matches!(error, Err(AttentionError::TooLarge { .. })), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn any_shape_and_mask(
        lengths in prop::collection::vec((0_usize..150, 0_usize..150), 0..4),
        long in 0_usize..900,
        (kv_heads, group) in (1_usize..3, 1_usize..3),
        (head_dim, value_dim) in (1_usize..40, 1_usize..40),
        mask in prop_oneof![
            Just(Mask::Full),
            (-60_isize..60).prop_map(|offset| Mask::Causal { offset }),
            (0_usize..100, 0_usize..100).prop_map(|(left, right)| Mask::Window { left, right }),
        ],
        seed in 0_u64..1000,
    ) {
        let mut lengths = lengths;
        if long > 600 {
            lengths.push((long / 3, long));
        }
        let shape = Shape { heads: kv_heads * group, kv_heads, head_dim, value_dim };
        let memory = [Memory::Packed, Memory::ByHead, Memory::Gaps][Key::new(seed).bits(0) as usize % 3];
        let case = Case { memory, ..case(&lengths, shape, mask) };
        let data = Data::new(&case, seed);
        let (exact, naive) = (data.reference::<f64>(), data.reference::<f32>());
        for kernels in instruction_sets() {
            // half as wide again, since what is drawn is drawn anew each time
            let found = data.run(kernels, &mut Workspace::new());
            assert_all_within(1.5, &case, [&found, &naive], &exact);
        }
    }
}
