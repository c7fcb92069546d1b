use burn::tensor::Tensor;
use qkv::Offsets;
use qkv::options::{Mask, Normalizer};
use qkv::random::Key;

use super::*;
use crate::ops::testing::{assert_close, random, values};

/// The formula, set by set and pair by pair, in f64.
fn reference(q: &[f32], k: &[f32], v: &[f32], case: &Case) -> Vec<f32> {
    let (heads, dim) = (case.heads, case.dim);
    let mut out = vec![0.0; v.len()];
    for set in 0..case.offsets.sets() {
        let rows = case.offsets.range(set);
        for head in 0..heads {
            let at = |x: &[f32], row: usize, e: usize| f64::from(x[(row * heads + head) * dim + e]);
            for i in rows.clone() {
                let place = |row: usize| row - rows.start;
                let allowed: Vec<usize> =
                    rows.clone().filter(|&j| case.options.mask.allows(place(i), place(j))).collect();
                let logits: Vec<f64> = allowed
                    .iter()
                    .map(|&j| {
                        let score: f64 = match case.options.score {
                            Score::Dot { .. } => {
                                let scale = f64::from(case.options.score.scale(dim));
                                scale * (0..dim).map(|e| at(q, i, e) * at(k, j, e)).sum::<f64>()
                            }
                            Score::Additive => (0..dim)
                                .map(|e| f64::from(case.w[head * dim + e]) * (at(q, i, e) + at(k, j, e)).tanh())
                                .sum(),
                        };
                        let bias = case.bias.as_ref().map_or(0.0, |(range, table)| {
                            let range = *range as isize;
                            let bucket = (j as isize - i as isize).clamp(-range, range) + range;
                            f64::from(table[bucket as usize * heads + head])
                        });
                        score + bias
                    })
                    .collect();
                let weights: Vec<f64> = match case.options.normalizer {
                    Normalizer::Softmax | Normalizer::SoftmaxPlusOne => {
                        let nothing = if case.options.normalizer == Normalizer::Softmax { 0.0 } else { 1.0_f64 };
                        let sum = nothing + logits.iter().map(|x| x.exp()).sum::<f64>();
                        logits.iter().map(|x| x.exp() / sum).collect()
                    }
                    Normalizer::Sigmoid => {
                        logits.iter().map(|x| 1.0 / (1.0 + logits.len() as f64 * (-x).exp())).collect()
                    }
                    Normalizer::Relu => logits.iter().map(|x| x.max(0.0) / logits.len() as f64).collect(),
                };
                for e in 0..dim {
                    let sum: f64 = allowed.iter().zip(&weights).map(|(&j, w)| w * at(v, j, e)).sum();
                    out[(i * heads + head) * dim + e] = sum as f32;
                }
            }
        }
    }
    out
}

#[derive(Clone)]
struct Case {
    offsets: Offsets,
    heads: usize,
    dim: usize,
    options: AttentionOptions,
    bias: Option<(usize, Vec<f32>)>,
    w: Vec<f32>,
}

/// One list of cases for every test: each score, normaliser, mask and bias, over sets of odd sizes.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let lengths: [&[usize]; 5] = [&[1], &[2, 0, 59], &[7, 7, 7], &[3, 140, 1, 12, 5], &[300]];
    for (place, lengths) in lengths.iter().enumerate() {
        for score in [Score::Dot { scale: None }, Score::Dot { scale: Some(0.3) }, Score::Additive] {
            for normalizer in [Normalizer::Softmax, Normalizer::SoftmaxPlusOne, Normalizer::Relu, Normalizer::Sigmoid] {
                for mask in [
                    Mask::Full,
                    Mask::Window { left: 3, right: 2 },
                    Mask::Window { left: 0, right: 0 },
                    Mask::Causal { offset: 1 },
                    Mask::Causal { offset: -2 },
                ] {
                    for biased in [false, true] {
                        // The additive score of the longest set is left to the shorter ones: it is slow.
                        if score == Score::Additive && lengths.iter().any(|&length| length > 200) {
                            continue;
                        }
                        let (heads, dim) = (1 + place % 3, [4, 5, 1][place % 3]);
                        let options = AttentionOptions { score, normalizer, mask, dropout: None };
                        let bias = biased.then(|| (4, values(random([9, heads], 7))));
                        let offsets = Offsets::from_lengths(lengths.iter().copied());
                        let w = values(random([heads, dim], 8));
                        cases.push(Case { offsets, heads, dim, options, bias, w });
                    }
                }
            }
        }
    }
    cases
}

impl Case {
    fn inputs(&self) -> [Tensor<3>; 3] {
        [1, 2, 3].map(|seed| random([self.offsets.tokens(), self.heads, self.dim], seed).require_grad())
    }

    fn extras(&self) -> AttentionExtras {
        let device = crate::ops::testing::device();
        AttentionExtras {
            relative_bias: self.bias.as_ref().map(|(range, table)| {
                let data = burn::tensor::TensorData::new(table.clone(), [2 * range + 1, self.heads]);
                Tensor::from_data(data, &device).require_grad()
            }),
            additive: (self.options.score == Score::Additive).then(|| {
                let data = burn::tensor::TensorData::new(self.w.clone(), [self.heads, self.dim]);
                Tensor::from_data(data, &device).require_grad()
            }),
        }
    }

    fn run(&self, inputs: [Tensor<3>; 3]) -> Tensor<3> {
        self.run_with(inputs, &self.extras())
    }

    fn run_with(&self, [q, k, v]: [Tensor<3>; 3], extras: &AttentionExtras) -> Tensor<3> {
        attention(q, k, v, extras, &Layout::new(self.offsets.clone()), &self.options)
    }
}

#[test]
fn attention_equals_the_formula() {
    for case in cases() {
        let inputs = case.inputs();
        let [q, k, v] = inputs.clone().map(values);
        let expected = reference(&q, &k, &v, &case);
        let shape = [case.offsets.tokens(), case.heads, case.dim];
        let expected = Tensor::from_data(burn::tensor::TensorData::new(expected, shape), &inputs[0].device());
        assert_close(case.run(inputs), expected, 2e-5);
    }
}

#[test]
fn gradients_equal_differences_of_the_formula() {
    for case in cases().into_iter().filter(|case| case.offsets.tokens() < 30) {
        let (inputs, extras) = (case.inputs(), case.extras());
        let d_out = random(inputs[0].dims(), 9);
        let grads = (case.run_with(inputs.clone(), &extras) * d_out.clone()).sum().backward();
        let (flat, d_out) = (inputs.clone().map(values), values(d_out));
        let objective = |x: &[Vec<f32>; 3], case: &Case| -> f64 {
            let out = reference(&x[0], &x[1], &x[2], case);
            out.iter().zip(&d_out).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        // Around the kink of ReLU a difference is no derivative.
        let slack = if case.options.normalizer == Normalizer::Relu { 0.15 } else { 5e-3 };
        let check = |name: &str, gradient: &[f32], difference: &dyn Fn(usize, f32) -> f64| {
            for (element, &gradient) in gradient.iter().enumerate().step_by(3) {
                let expected = (difference(element, 1e-2) - difference(element, -1e-2)) / 2e-2;
                let error = (expected - f64::from(gradient)).abs();
                assert!(error < slack * (1.0 + expected.abs()), "{name}[{element}]: {expected} {gradient}");
            }
        };
        for (which, input) in inputs.iter().enumerate() {
            let gradient = values(input.grad(&grads).expect("each input has a gradient"));
            check(["query", "key", "value"][which], &gradient, &|element, step| {
                let mut moved = flat.clone();
                moved[which][element] += step;
                objective(&moved, &case)
            });
        }
        if let Some(table) = &extras.relative_bias {
            let gradient = values(table.grad(&grads).expect("the bias has a gradient"));
            check("relative bias", &gradient, &|element, step| {
                let mut moved = case.clone();
                moved.bias.as_mut().expect("a bias").1[element] += step;
                objective(&flat, &moved)
            });
        }
        if let Some(w) = &extras.additive {
            let gradient = values(w.grad(&grads).expect("w has a gradient"));
            check("w", &gradient, &|element, step| {
                let mut moved = case.clone();
                moved.w[element] += step;
                objective(&flat, &moved)
            });
        }
    }
}

#[test]
fn a_set_never_sees_another() {
    for case in cases().into_iter().filter(|case| case.offsets.sets() > 2) {
        let clean = case.inputs();
        let rows = case.offsets.range(2);
        let poison = |x: &Tensor<3>| {
            let mut flat = values(x.clone());
            let width = case.heads * case.dim;
            flat[rows.start * width..rows.end * width].fill(f32::NAN);
            Tensor::from_data(burn::tensor::TensorData::new(flat, x.dims()), &x.device())
        };
        let poisoned = case.run([poison(&clean[0]), poison(&clean[1]), poison(&clean[2])]);
        let (a, b) = (values(case.run(clean)), values(poisoned));
        let width = case.heads * case.dim;
        for (i, (x, y)) in a.iter().zip(&b).enumerate() {
            if !rows.contains(&(i / width)) {
                assert_eq!(x, y, "row {}", i / width);
            }
        }
    }
}

#[test]
fn weights_of_a_row_are_those_that_make_its_output() {
    let case = Case {
        offsets: Offsets::from_lengths([150]),
        heads: 2,
        dim: 4,
        options: AttentionOptions {
            score: Score::Dot { scale: None },
            normalizer: Normalizer::Softmax,
            mask: Mask::Window { left: 9, right: 140 },
            dropout: None,
        },
        bias: None,
        w: Vec::new(),
    };
    let [q, k, v] = case.inputs();
    let layout = Layout::new(case.offsets.clone());
    let weights = attention_weights(q.clone(), k.clone(), &case.extras(), &layout, &case.options);
    let out = weights.matmul(v.clone().swap_dims(0, 1)).swap_dims(0, 1);
    assert_close(out, case.run([q, k, v]), 1e-5);
}

#[test]
fn dropped_weights_are_zero_and_the_others_scaled() {
    let offsets = Offsets::from_lengths([64]);
    let options = |dropout| AttentionOptions {
        score: Score::Dot { scale: None },
        normalizer: Normalizer::Softmax,
        mask: Mask::Full,
        dropout,
    };
    // All keys alike and one-hot values: the output is the row of weights.
    let device = crate::ops::testing::device();
    let zeros = Tensor::<3>::zeros([64, 1, 64], &device);
    let value = Tensor::<2>::eye(64, &device).reshape([64, 1, 64]);
    let run = |dropout| {
        let layout = Layout::new(offsets.clone());
        let extras = AttentionExtras::default();
        values(attention(zeros.clone(), zeros.clone(), value.clone(), &extras, &layout, &options(dropout)))
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
    let case = Case {
        offsets: Offsets::from_lengths([0, 0]),
        heads: 2,
        dim: 3,
        options: AttentionOptions {
            score: Score::Dot { scale: None },
            normalizer: Normalizer::Softmax,
            mask: Mask::Full,
            dropout: None,
        },
        bias: None,
        w: Vec::new(),
    };
    assert_eq!(case.run(case.inputs()).dims(), [0, 2, 3]);
}
