//! What attention promises beside its formula: who gets a gradient, what it costs, and what it refuses.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use qkv::options::Normalizer;
use qkv::random::Key;
use qkv::{Csr, Offsets};

use super::super::*;
use super::twin::for_each_case;
use crate::ops::testing::{assert_close, device, random, values};

fn layout(lengths: &[usize]) -> Layout {
    Layout::new(Offsets::from_lengths(lengths.iter().copied()))
}

fn plain(inputs: [Tensor<3>; 3], layout: &Layout, options: &AttentionOptions) -> Tensor<3> {
    let [query, key, value] = inputs;
    attention(query, key, value, &AttentionExtras::default(), layout, options)
}

fn relative(reach: usize) -> AttentionOptions {
    AttentionOptions { bias: Bias::Buckets(Buckets::Relative { reach, offset: 0 }), ..AttentionOptions::default() }
}

#[test]
fn a_tensor_that_needs_no_gradient_gets_none_and_changes_nobody_elses() {
    let (layout, options) = (layout(&[5, 40]), relative(3));
    let fresh = |tracked: [bool; 4]| {
        let inputs = [0, 1, 2].map(|n| {
            let x = random([45, 2, 4], n as u64);
            if tracked[n] { x.require_grad() } else { x }
        });
        let bias: Tensor<2> = random([2, 7], 5);
        (inputs, if tracked[3] { bias.require_grad() } else { bias })
    };
    let run = |([query, key, value], bias): ([Tensor<3>; 3], Tensor<2>)| {
        let extras = AttentionExtras { score: None, bias: Some(bias.clone()) };
        let out = attention(query.clone(), key.clone(), value.clone(), &extras, &layout, &options);
        let grads = (out * random([45, 2, 4], 9)).sum().backward();
        ([query, key, value].map(|x| x.grad(&grads)), bias.grad(&grads))
    };
    let (all, all_bias) = run(fresh([true; 4]));
    for untracked in 0..4 {
        let mut tracked = [true; 4];
        tracked[untracked] = false;
        let (some, some_bias) = run(fresh(tracked));
        for n in 0..3 {
            assert_eq!(some[n].is_some(), tracked[n]);
            if let (Some(some), Some(all)) = (&some[n], &all[n]) {
                assert_eq!(values(some.clone()), values(all.clone()));
            }
        }
        assert_eq!(some_bias.is_some(), tracked[3]);
        if let (Some(some), Some(all)) = (some_bias, &all_bias) {
            assert_close(some, all.clone(), 1e-6);
        }
    }
}

#[test]
fn without_autodiff_the_result_is_the_same() {
    let (layout, options, device) = (layout(&[5, 40]), relative(3), Device::flex());
    let inputs = [1, 2, 3].map(|seed| random([45, 2, 4], seed));
    let bias: Tensor<2> = random([2, 7], 5);
    let run = |[query, key, value]: [Tensor<3>; 3], bias| {
        attention(query, key, value, &AttentionExtras { score: None, bias: Some(bias) }, &layout, &options)
    };
    let with = values(run(inputs.clone(), bias.clone()));
    let inner = |x: Tensor<3>| Tensor::from_data(x.into_data(), &device);
    let out = run(inputs.map(inner), Tensor::from_data(bias.into_data(), &device));
    assert!(!out.device().is_autodiff());
    assert_eq!(values(out), with);
}

#[test]
fn views_are_read_where_they_lie() {
    let (layout, options) = (layout(&[5, 20]), AttentionOptions::default());
    let d_out = random([25, 2, 4], 9);
    let run = |x: &Tensor<3>, parts: &dyn Fn(Tensor<3>) -> [Tensor<3>; 3]| {
        let out = plain(parts(x.clone()), &layout, &options);
        let grads = (out.clone() * d_out.clone()).sum().backward();
        (out, x.grad(&grads).expect("a gradient"))
    };
    // parts of a fused projection; the same, copied; and rows and heads exchanged
    let fused: Tensor<3> = random([25, 6, 4], 1).require_grad();
    let part = |x: &Tensor<3>, n: usize| x.clone().narrow(1, 2 * n, 2);
    let (out, grad) = run(&fused, &|x| [0, 1, 2].map(|n| part(&x, n)));
    let (copied, copied_grad) = run(&fused, &|x| [0, 1, 2].map(|n| part(&x, n) * 1.0));
    assert_eq!(values(out.clone()), values(copied));
    assert_close(grad, copied_grad, 1e-6);
    let by_head = fused.clone().swap_dims(0, 1).detach().require_grad();
    let (swapped, _) = run(&by_head, &|x| [0, 1, 2].map(|n| part(&x.clone().swap_dims(0, 1), n)));
    let reversed = fused.permute([2, 0, 1]).detach().require_grad();
    let (permuted, _) = run(&reversed, &|x| [0, 1, 2].map(|n| part(&x.clone().permute([1, 2, 0]), n)));
    assert_close(swapped, out.clone(), 1e-6);
    assert_close(permuted, out, 1e-6);
}

#[test]
fn nodes_without_edges_give_zeros_and_no_gradient() {
    let edges = Arc::new(Csr::from_edges(7, &[(1, 0), (1, 2), (4, 4)]).expect("edges of seven nodes"));
    let layout = layout(&[3, 4]);
    for normalizer in [Normalizer::Softmax, Normalizer::SoftmaxPlusOne, Normalizer::Relu, Normalizer::Sigmoid] {
        for bias in [Bias::None, Bias::Edges] {
            let mask = Mask::Graph(Arc::clone(&edges));
            let options = AttentionOptions { normalizer, mask, bias, ..AttentionOptions::default() };
            let inputs = [1, 2, 3].map(|seed| random::<3>([7, 2, 4], seed).require_grad());
            let bias = (options.bias == Bias::Edges).then(|| random([3, 2], 5));
            let [query, key, value] = inputs.clone();
            let extras = AttentionExtras { score: None, bias };
            for function in [attention, attention_twin] {
                let out = function(query.clone(), key.clone(), value.clone(), &extras, &layout, &options);
                let grads = (out.clone() * random([7, 2, 4], 9)).sum().backward();
                let (out, d_query) = (values(out), values(query.grad(&grads).expect("a gradient")));
                for row in [0, 2, 3, 5, 6] {
                    assert_eq!(out[row * 8..][..8], [0.0; 8], "{normalizer:?}, row {row}");
                    assert_eq!(d_query[row * 8..][..8], [0.0; 8], "{normalizer:?}, row {row}");
                }
                let all = inputs.iter().flat_map(|x| values(x.grad(&grads).expect("a gradient")));
                assert!(all.chain(out).all(f32::is_finite));
            }
        }
    }
}

#[test]
fn a_graph_without_any_edge_gives_zeros() {
    let mask = Mask::Graph(Arc::new(Csr::from_edges(5, &[]).expect("no edges")));
    let options = AttentionOptions { mask, bias: Bias::Edges, ..AttentionOptions::default() };
    let x = random([5, 1, 3], 1).require_grad();
    let extras = AttentionExtras { score: None, bias: Some(Tensor::zeros([0, 1], &device())) };
    for function in [attention, attention_twin] {
        let out = function(x.clone(), x.clone(), x.clone(), &extras, &layout(&[2, 3]), &options);
        let grads = out.clone().sum().backward();
        assert_eq!(values(out), [0.0; 15]);
        assert_eq!(values(x.grad(&grads).expect("a gradient")), [0.0; 15]);
    }
}

#[test]
fn weights_of_a_row_are_those_that_make_its_output() {
    let mask = Mask::Window { left: 9, right: 140 };
    let options = AttentionOptions { mask, ..AttentionOptions::default() };
    let [q, k, v] = [1, 2, 3].map(|seed| random::<3>([150, 2, 4], seed));
    let layout = layout(&[150]);
    let weights = attention_weights(q.clone(), k.clone(), &AttentionExtras::default(), &layout, &options);
    let out = weights.matmul(v.clone().swap_dims(0, 1)).swap_dims(0, 1);
    assert_close(out, plain([q, k, v], &layout, &options), 1e-5);
}

#[test]
#[should_panic(expected = "attention_weights has no backward pass")]
fn a_gradient_through_the_weights_is_refused() {
    let x = random([4, 1, 3], 1).require_grad();
    let extras = AttentionExtras::default();
    attention_weights(x.clone(), x, &extras, &layout(&[4]), &AttentionOptions::default()).sum().backward();
}

#[test]
fn dropped_weights_are_zero_and_the_others_scaled() {
    // All keys alike and one-hot values: the output is the row of weights.
    let zeros = Tensor::<3>::zeros([64, 1, 64], &device());
    let value = Tensor::<2>::eye(64, &device()).reshape([64, 1, 64]);
    let run = |dropout| {
        let options = AttentionOptions { dropout, ..AttentionOptions::default() };
        values(plain([zeros.clone(), zeros.clone(), value.clone()], &layout(&[64]), &options))
    };
    let dropped = run(Some((0.25, Key::new(1))));
    let kept = 1.0 / 64.0 / 0.75;
    assert!(dropped.iter().all(|&w| w == 0.0 || (w - kept).abs() < 1e-6));
    let share = dropped.iter().filter(|&&w| w == 0.0).count() as f64 / dropped.len() as f64;
    assert!((share - 0.25).abs() < 0.03, "{share}");
    assert_eq!(dropped, run(Some((0.25, Key::new(1)))), "same key, same mask");
    assert_ne!(dropped, run(Some((0.25, Key::new(2)))));
    assert_ne!(dropped, run(None));
}

#[test]
fn an_empty_batch_gives_nothing() {
    for lengths in [&[][..], &[0, 0]] {
        let inputs = [1, 2, 3].map(|seed| random([0, 2, 3], seed).require_grad());
        let out = plain(inputs.clone(), &layout(lengths), &AttentionOptions::default());
        assert_eq!(out.dims(), [0, 2, 3]);
        let grads = out.sum().backward();
        assert_eq!(inputs[0].grad(&grads).expect("a gradient").dims(), [0, 2, 3]);
    }
}

#[test]
fn a_long_set_takes_time_and_memory_in_proportion_to_its_length() {
    const LEN: usize = 20_000;
    let options = AttentionOptions { mask: Mask::Window { left: 8, right: 8 }, ..relative(8) };
    let run = |start: usize, len: usize| {
        let part = |seed| random::<3>([LEN, 2, 8], seed).narrow(0, start, len).detach().require_grad();
        let inputs = [1, 2, 3].map(part);
        let [query, key, value] = inputs.clone();
        let bias = random([2, 17], 5).require_grad();
        let extras = AttentionExtras { score: None, bias: Some(bias.clone()) };
        let begin = Instant::now();
        let out = attention(query, key, value, &extras, &layout(&[len]), &options);
        let grads = (out.clone() * out.clone().detach()).sum().backward();
        let seconds = begin.elapsed().as_secs_f64();
        assert!(bias.grad(&grads).is_some());
        (out, inputs.map(|x| x.grad(&grads).expect("a gradient")), seconds)
    };
    let (out, grads, seconds) = run(0, LEN);
    assert!(seconds < 5.0, "{seconds} s");
    // What N x N weights of two heads would take is 3.2 GB.
    let held = crate::memory::pool().bytes();
    assert!(held < 200 << 20, "{held} bytes are held");
    // A window knows nothing of what is far away.
    let (piece, piece_grads, _) = run(10_000, 200);
    let inner = |x: Tensor<3>, start: usize| x.narrow(0, start, 100);
    assert_close(inner(piece, 50), inner(out, 10_050), 1e-5);
    for (piece, whole) in piece_grads.into_iter().zip(grads) {
        assert_close(inner(piece, 50), inner(whole, 10_050), 1e-5);
    }
}

#[test]
fn the_same_call_gives_the_same_bits() {
    for_each_case(29, |case| assert_eq!(values(case.fused()), values(case.fused())));
}

#[test]
#[should_panic(expected = "the numbers of the bias are Some([2, 7]), found Some([7, 2])")]
fn a_transposed_table_is_refused() {
    let x = random([4, 2, 3], 1);
    let extras = AttentionExtras { score: None, bias: Some(random([7, 2], 2)) };
    attention(x.clone(), x.clone(), x, &extras, &layout(&[4]), &relative(3));
}

#[test]
#[should_panic(expected = "the weights of Additive { activation: Tanh } are Some([2, 3]), found None")]
fn an_additive_score_without_weights_is_refused() {
    let x = random([4, 2, 3], 1);
    plain([x.clone(), x.clone(), x], &layout(&[4]), &AttentionOptions { score: Score::ADDITIVE, ..Default::default() });
}

#[test]
#[should_panic(expected = "expected query [5, heads, head_dim]")]
fn a_layout_of_another_batch_is_refused() {
    let x = random([4, 2, 3], 1);
    plain([x.clone(), x.clone(), x], &layout(&[5]), &AttentionOptions::default());
}

#[test]
#[should_panic(expected = "the score of rank one needs a head_dim of 1, found 3")]
fn what_the_kernel_refuses_is_said_in_its_words() {
    let x = random([4, 2, 3], 1);
    let options = AttentionOptions { score: Score::RankOne { slope: 0.2 }, ..AttentionOptions::default() };
    plain([x.clone(), x.clone(), x], &layout(&[4]), &options);
}

/// Graphs of 40 and of 23 nodes, each of which sees five others at most, with a bias for each edge or without one.
#[test]
fn attention_by_numbers_of_the_values_equals_its_twin() {
    let offsets = Offsets::from_lengths([40, 23]);
    let pairs: Vec<(usize, usize)> = (0..63)
        .flat_map(|node| {
            let (first, count) = if node < 40 { (0, 40) } else { (40, 23) };
            (0..node % 6).map(move |n| (node, first + (node * 7 + n * 11) % count))
        })
        .collect();
    let edges = Csr::from_edges(63, &pairs).expect("nodes that exist");
    let layout = Layout::new(offsets);
    for (heads, dim) in [(1, 7), (4, 16), (3, 33)] {
        for (learns, dropout) in [(false, None), (true, None), (false, Some((0.4, Key::new(3))))] {
            let options = AttentionOptions {
                score: Score::RankOne { slope: 0.2 },
                mask: Mask::Graph(Arc::new(edges.clone())),
                bias: if learns { Bias::Edges } else { Bias::None },
                dropout,
                ..AttentionOptions::default()
            };
            let x = random([63, heads, dim], 1).require_grad();
            let vectors = random([2, heads * dim], 2).require_grad();
            let bias = learns.then(|| random([edges.edges(), heads], 3).require_grad());
            let ours = rank_one_attention(x.clone(), vectors.clone(), bias.clone(), &layout, &options);
            let twin = rank_one_attention_twin(x.clone(), vectors.clone(), bias.clone(), &layout, &options);
            assert_close(ours.clone(), twin.clone(), 1e-5);
            let d_out = random([63, heads, dim], 4);
            let [ours, twin] = [ours, twin].map(|out| (out * d_out.clone()).sum().backward());
            assert_close(x.grad(&ours).expect("of x"), x.grad(&twin).expect("of x"), 2e-5);
            assert_close(vectors.grad(&ours).expect("of both"), vectors.grad(&twin).expect("of both"), 2e-5);
            if let Some(bias) = &bias {
                assert_close(bias.grad(&ours).expect("of the bias"), bias.grad(&twin).expect("of the bias"), 2e-5);
            }
            // The mean over heads.
            let sum = rank_one_attention_mean(x.clone(), vectors.clone(), bias.clone(), &layout, &options);
            let twin = rank_one_attention_twin(x.clone(), vectors.clone(), bias, &layout, &options);
            let twin: Tensor<2> = twin.mean_dim(1).squeeze_dim(1);
            assert_close(sum.clone(), twin.clone(), 1e-5);
            let d_sum = random([63, dim], 5);
            let [sum, twin] = [sum, twin].map(|out| (out * d_sum.clone()).sum().backward());
            assert_close(x.grad(&sum).expect("of x"), x.grad(&twin).expect("of x"), 2e-5);
            assert_close(vectors.grad(&sum).expect("of both"), vectors.grad(&twin).expect("of both"), 2e-5);
        }
    }
}
