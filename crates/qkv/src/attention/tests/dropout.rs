//! Which weights dropout leaves out, read out of the kernels: with unit vectors as values the rows of `out` are the weights.

use super::super::cases::{Biased, Case, NORMALIZERS, case};
use super::super::kernels::Kernels;
use super::super::*;
use super::data::{Data, bits, instruction_sets};
use crate::options::*;
use crate::random::Key;

/// Sets of `n` queries and keys, all logits 2, values and `d_out` unit vectors.
fn readable(n: usize, [sets, heads]: [usize; 2], normalizer: Normalizer, dropout: Dropout) -> Data {
    let shape = Shape { heads, kv_heads: heads, head_dim: 4, value_dim: n };
    let plain = case(&vec![(n, n); sets], shape, Mask::Full);
    let mut data = Data::new(&Case { normalizer, ..plain }, 1);
    data.dropout = Some(dropout);
    data.q.fill(1.0);
    data.k.fill(1.0);
    let unit: Vec<f32> = (0..data.v.len()).map(|at| f32::from(u8::from(at / n / heads % n == at % n))).collect();
    data.v.clone_from(&unit);
    data.d_out = unit;
    data
}

/// The weights as the forward pass and as the backward pass had them, `[sets, heads, queries, keys]`.
fn read(data: &Data, kernels: &'static Kernels) -> [Vec<f32>; 2] {
    let (heads, n) = (data.case.shape.heads, data.case.shape.value_dim);
    let r = data.run(kernels, &mut Workspace::new());
    let mut both = [Vec::new(), Vec::new()];
    for set in 0..data.case.lengths.len() {
        for (head, i, j) in (0..heads).flat_map(|h| (0..n).flat_map(move |i| (0..n).map(move |j| (h, i, j)))) {
            both[0].push(r.out[((set * n + i) * heads + head) * n + j]);
            // d_v_j = Σ_i weight_ij · d_out_i
            both[1].push(r.dv[((set * n + j) * heads + head) * n + i]);
        }
    }
    both
}

#[test]
fn forward_and_backward_leave_out_the_same_weights_on_every_instruction_set() {
    for normalizer in NORMALIZERS {
        for (rate, n) in [(0.0, 50), (0.1, 97), (0.5, 150), (0.9, 150)] {
            let data = readable(n, [2, 2], normalizer, Dropout { rate, key: Key::new(8) });
            let problem = data.problem::<f64>();
            let rows = (0..2).flat_map(|set| (0..2).flat_map(move |head| (0..n).map(move |i| (set, head, i))));
            let expected: Vec<f64> = rows.flat_map(|(set, head, i)| problem.dropped_weights(set, head, i)).collect();
            for kernels in instruction_sets() {
                for found in read(&data, kernels) {
                    for (&found, &expected) in found.iter().zip(&expected) {
                        assert_eq!(found == 0.0, expected == 0.0, "rate {rate}, {normalizer:?}");
                        assert!((f64::from(found) - expected).abs() <= 1e-6 * expected, "{found} {expected}");
                    }
                }
            }
        }
    }
}

#[test]
fn weights_are_left_out_at_the_rate_and_independently_of_each_other() {
    const N: usize = 256;
    let kept = |rate: f32, key| {
        let data = readable(N, [2, 2], Normalizer::Softmax, Dropout { rate, key });
        let [forward, _] = read(&data, Kernels::of(Isa::detect()));
        forward.iter().map(|&weight| weight != 0.0).collect::<Vec<_>>()
    };
    for rate in [0.1_f32, 0.5, 0.8] {
        let all = kept(rate, Key::new(5));
        let (n, p) = (all.len() as f64, 1.0 - f64::from(rate));
        let share = all.iter().filter(|&&kept| kept).count() as f64 / n;
        assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / n).sqrt(), "rate {rate}: kept {share}");
        // Two that are independent agree in this share. Of neighbours, each takes part in two pairs, so that pairs are not
        // independent of each other.
        let agreement = p * p + (1.0 - p) * (1.0 - p);
        let covariance = p.powi(3) + (1.0 - p).powi(3) - agreement * agreement;
        let deviation = ((agreement * (1.0 - agreement) + 2.0 * covariance) / n).sqrt();
        let independent = |what: &str, others: &[bool]| {
            let equal = all.iter().zip(others).filter(|(a, b)| a == b).count() as f64 / others.len() as f64;
            let allowed = 5.0 * deviation * (n / others.len() as f64).sqrt();
            assert!((equal - agreement).abs() < allowed, "{what}, rate {rate}: {equal} of {agreement}");
        };
        for (what, lag) in [
            ("the next key", 1),
            ("the key after that", 2),
            ("16 keys on", 16),
            ("the next query", N),
            ("the next of both", N + 1),
            ("the key before, of the next query", N - 1),
            ("the next head", N * N),
            ("the next set", 2 * N * N),
            ("the next of both head and set", 3 * N * N),
        ] {
            independent(what, &all[lag..]);
        }
        for other in [Key::new(6), Key::new(5).fold(0), Key::new(5).fold(1)] {
            independent("another key", &kept(rate, other));
        }
        // transposed: query and key do not play the same part
        let transposed: Vec<bool> =
            (0..all.len()).map(|at| all[at / (N * N) * N * N + at % N * N + at / N % N]).collect();
        let off_diagonal =
            |x: &[bool]| -> Vec<bool> { (0..x.len()).filter(|at| at / N % N < at % N).map(|at| x[at]).collect() };
        let pair = [&all, &transposed].map(|x| off_diagonal(x));
        let equal = pair[0].iter().zip(&pair[1]).filter(|(a, b)| a == b).count() as f64 / pair[0].len() as f64;
        assert!((equal - agreement).abs() < 5.0 * deviation * 2_f64.sqrt(), "transposed, rate {rate}: {equal}");
    }
}

#[test]
fn the_mean_over_many_keys_is_what_it_is_without_dropout() {
    const DRAWS: u64 = 300;
    for normalizer in NORMALIZERS {
        let shape = Shape { heads: 2, kv_heads: 1, head_dim: 8, value_dim: 6 };
        let plain = case(&[(7, 120), (30, 30)], shape, Mask::Causal { offset: 100 });
        let mut data = Data::new(&Case { normalizer, bias: Biased::Alibi { offset: 0 }, ..plain }, 1);
        let expected = data.reference::<f64>().out;
        // Of each number, the sum of w² v²: what is left out and scaled has the variance w² v² · rate / (1 - rate).
        let problem = data.problem::<f64>();
        let mut variance = vec![0.0; expected.len()];
        for (set, head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (queries, keys) = (data.queries.range(set), data.keys.range(set));
            for i in 0..queries.len() {
                for (w, j) in problem.dropped_weights(set, head, i).into_iter().zip(keys.clone()) {
                    for c in 0..6 {
                        let term = w * f64::from(data.v[j * 6 + c]);
                        variance[((queries.start + i) * 2 + head) * 6 + c] += term * term * 0.4 / 0.6;
                    }
                }
            }
        }
        let mut mean = vec![0.0; expected.len()];
        for draw in 0..DRAWS {
            data.dropout = Some(Dropout { rate: 0.4, key: Key::new(3).fold(draw) });
            let (mut out, mut lse) = (vec![0.0; expected.len()], vec![0.0; 2 * data.queries.tokens()]);
            let to = ViewMut::new(&mut out, 2, 6);
            attention_forward(&data.inputs(), &data.options(), to, &mut lse, &mut Workspace::new()).expect("fits");
            mean.iter_mut().zip(&out).for_each(|(mean, &x)| *mean += f64::from(x) / DRAWS as f64);
        }
        let mut squares = 0.0;
        for ((mean, expected), variance) in mean.iter().zip(&expected).zip(&variance) {
            let deviations = (mean - expected) / (variance / DRAWS as f64).sqrt().max(1e-6);
            assert!(deviations.abs() < 5.0, "{normalizer:?}: {mean} for {expected}, {deviations} deviations");
            squares += deviations * deviations;
        }
        // neither too far nor too near
        assert!((0.7..1.3).contains(&(squares / mean.len() as f64)), "{normalizer:?}: {squares}");
    }
}

#[test]
fn a_rate_of_zero_is_no_dropout_and_one_near_to_one_leaves_nothing() {
    for normalizer in NORMALIZERS {
        let mut data = Data::new(&Case { normalizer, ..case(&[(70, 90)], Shape::new(2, 8), Mask::Full) }, 1);
        for kernels in instruction_sets() {
            data.dropout = None;
            let (without, lse) = data.run_with_lse(kernels, &mut Workspace::new());
            data.dropout = Some(Dropout { rate: 0.0, key: Key::new(1) });
            assert_eq!(bits(&data.run(kernels, &mut Workspace::new())), bits(&without));
            // the sums are those of all weights, whatever is left out
            data.dropout = Some(Dropout { rate: 1.0 - f32::EPSILON / 2.0, key: Key::new(1) });
            let (r, same) = data.run_with_lse(kernels, &mut Workspace::new());
            assert_eq!(lse, same);
            assert!([r.out, r.dq, r.dk, r.dv].iter().flatten().all(|&x| x == 0.0));
        }
    }
}
