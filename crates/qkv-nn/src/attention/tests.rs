//! Attention against the formula; `tests/twin.rs` has it against its twin, with all options, `tests/grid.rs` sets with grids, and
//! `tests/promises.rs` what else it promises.

mod grid;
mod promises;
mod twin;

use burn::tensor::{Tensor, TensorData};
use qkv::Offsets;
use qkv::options::Normalizer;

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
                    rows.clone().filter(|&j| case.options.mask.kernel().allows(place(i), place(j))).collect();
                let logits: Vec<f64> = allowed
                    .iter()
                    .map(|&j| {
                        let score: f64 = match case.options.score {
                            Score::Dot { .. } => {
                                let scale = f64::from(case.options.score.scale(dim));
                                scale * (0..dim).map(|e| at(q, i, e) * at(k, j, e)).sum::<f64>()
                            }
                            _ => (0..dim)
                                .map(|e| f64::from(case.w[head * dim + e]) * (at(q, i, e) + at(k, j, e)).tanh())
                                .sum(),
                        };
                        let bias = case.bias.as_ref().map_or(0.0, |(range, table)| {
                            let range = *range as isize;
                            let bucket = (i as isize - j as isize).clamp(-range, range) + range;
                            f64::from(table[head * (2 * range as usize + 1) + bucket as usize])
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
        for score in [Score::DOT, Score::Dot { scale: Some(0.3), softcap: None }, Score::ADDITIVE] {
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
                        if score == Score::ADDITIVE && lengths.iter().any(|&length| length > 200) {
                            continue;
                        }
                        let (heads, dim) = (1 + place % 3, [4, 5, 1][place % 3]);
                        let relative = Bias::Buckets(Buckets::Relative { reach: 4, offset: 0 });
                        let options = AttentionOptions {
                            score,
                            normalizer,
                            mask: mask.clone(),
                            bias: if biased { relative } else { Bias::None },
                            dropout: None,
                        };
                        let bias = biased.then(|| (4, values(random([heads, 9], 7))));
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
            score: (self.options.score == Score::ADDITIVE).then(|| {
                let data = TensorData::new(self.w.clone(), [self.heads, self.dim]);
                Tensor::from_data(data, &device).require_grad()
            }),
            bias: self.bias.as_ref().map(|(range, table)| {
                let data = TensorData::new(table.clone(), [self.heads, 2 * range + 1]);
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
        let expected = Tensor::from_data(TensorData::new(expected, shape), &inputs[0].device());
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
        let here = objective(&flat, &case);
        let check = |name: &str, gradient: &[f32], at: &dyn Fn(usize, f32) -> f64| {
            for (element, &gradient) in gradient.iter().enumerate().step_by(3) {
                let [right, left] = [1e-2, -1e-2].map(|step| (at(element, step) - here) / f64::from(step));
                let (expected, slack) = ((right + left) / 2.0, 5e-3 * (1.0 + right.abs()));
                // Around the kink of ReLU a difference is no derivative.
                if case.options.normalizer == Normalizer::Relu && (right - left).abs() > slack {
                    continue;
                }
                let error = (expected - f64::from(gradient)).abs();
                assert!(error < slack, "{name}[{element}]: {expected} {gradient}, {:?}", case.options);
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
        if let Some(table) = &extras.bias {
            let gradient = values(table.grad(&grads).expect("the bias has a gradient"));
            check("relative bias", &gradient, &|element, step| {
                let mut moved = case.clone();
                moved.bias.as_mut().expect("a bias").1[element] += step;
                objective(&flat, &moved)
            });
        }
        if let Some(w) = &extras.score {
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
            Tensor::from_data(TensorData::new(flat, x.dims()), &x.device())
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
