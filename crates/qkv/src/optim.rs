//! The arithmetic of an optimiser step: AdamW, the norm by which gradients are clipped, and averaging of weights.
//!
//! ```text
//! g   = grad · grad_scale
//! m₁ ← β₁ m₁ + (1 - β₁) g;   m₂ ← β₂ m₂ + (1 - β₂) g²
//! p  ← p (1 - lr · weight_decay) - lr · (m₁ / (1 - β₁ᵗ)) / (√(m₂ / (1 - β₂ᵗ)) + ε)
//! ```
//!
//! (Loshchilov and Hutter 2019, as PyTorch computes it.) One pass over memory; what is the same for all numbers is computed
//! once, in f64.

use crate::blocks::{self, BLOCK};
use crate::isa::{Target, isa_dispatch};

/// Σ x², in f64; the sum of this over all gradients is the square of their global norm.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    blocks::map(x.len(), x.chunks(BLOCK), squares).iter().fold(0.0, |total, sum| total + sum)
}

#[inline(always)]
fn squares_body<T: Target>(x: &[f32]) -> f64 {
    const LANES: usize = 16;
    let mut acc = [0.0_f64; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for x in chunks {
        for lane in 0..LANES {
            acc[lane] += f64::from(x[lane]) * f64::from(x[lane]);
        }
    }
    for (acc, &x) in acc.iter_mut().zip(rest) {
        *acc += f64::from(x) * f64::from(x);
    }
    acc.iter().fold(0.0, |total, lane| total + lane)
}
isa_dispatch!(fn squares(x: &[f32]) -> f64 = squares_body);

/// The settings of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the mean of the gradient.
    pub beta_1: f32,
    /// Decay of the mean of its square.
    pub beta_2: f32,
    /// Added to the root of the second moment, after the correction of its bias.
    pub epsilon: f32,
    /// Share of a parameter, times `lr`, that a step takes away; apart from the gradient.
    pub weight_decay: f32,
    /// What each gradient is multiplied by first: 1, or less to clip by norm.
    pub grad_scale: f32,
}

/// One step of AdamW, in place. `step` counts from 1. The moments start as zeros.
///
/// # Panics
///
/// If the slices differ in length, or `step` is 0.
pub fn adamw_step(
    options: &AdamW,
    step: u64,
    param: &mut [f32],
    grad: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
) {
    for (name, found) in [("grad", grad.len()), ("moment_1", moment_1.len()), ("moment_2", moment_2.len())] {
        assert_eq!(found, param.len(), "adamw_step: {name} has {found} numbers, param {}", param.len());
    }
    assert!(step > 0, "adamw_step: steps count from 1, found 0");
    let factors = Factors::new(options, step);
    let work = SLICES * param.len();
    let moments = moment_1.chunks_mut(PART).zip(moment_2.chunks_mut(PART));
    let parts = param.chunks_mut(PART).zip(grad.chunks(PART)).zip(moments);
    blocks::for_each(work, parts, |((param, grad), (moment_1, moment_2))| {
        update(factors, param, grad, moment_1, moment_2)
    });
}

/// Parameter, gradient and two moments.
const SLICES: usize = 4;

/// Numbers of each that are updated by one thread at a time.
const PART: usize = BLOCK / SLICES;

/// What is the same for all numbers of a step.
#[derive(Clone, Copy)]
struct Factors {
    grad_scale: f32,
    beta_1: f32,
    rest_1: f32,
    beta_2: f32,
    rest_2: f32,
    keep: f32,
    rate: f32,
    root_scale: f32,
    epsilon: f32,
}

impl Factors {
    fn new(options: &AdamW, step: u64) -> Self {
        let [lr, beta_1, beta_2] = [options.lr, options.beta_1, options.beta_2].map(f64::from);
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        Self {
            grad_scale: options.grad_scale,
            beta_1: options.beta_1,
            rest_1: (1.0 - beta_1) as f32,
            beta_2: options.beta_2,
            rest_2: (1.0 - beta_2) as f32,
            keep: (1.0 - lr * f64::from(options.weight_decay)) as f32,
            rate: (lr / correction(beta_1)) as f32,
            root_scale: (1.0 / correction(beta_2).sqrt()) as f32,
            epsilon: options.epsilon,
        }
    }
}

#[inline(always)]
fn update_body<T: Target>(f: Factors, param: &mut [f32], grad: &[f32], moment_1: &mut [f32], moment_2: &mut [f32]) {
    let moments = moment_1.iter_mut().zip(moment_2);
    for ((param, &grad), (moment_1, moment_2)) in param.iter_mut().zip(grad).zip(moments) {
        let g = grad * f.grad_scale;
        let m_1 = T::mul_add(f.rest_1, g, f.beta_1 * *moment_1);
        let m_2 = T::mul_add(f.rest_2 * g, g, f.beta_2 * *moment_2);
        let direction = m_1 / T::mul_add(m_2.sqrt(), f.root_scale, f.epsilon);
        *param = T::mul_add(*param, f.keep, -(f.rate * direction));
        (*moment_1, *moment_2) = (m_1, m_2);
    }
}
isa_dispatch!(fn update(f: Factors, param: &mut [f32], grad: &[f32], moment_1: &mut [f32], moment_2: &mut [f32]) = update_body);

/// `average += weight * (x - average)`: an average of weights that moves towards `x`.
///
/// # Panics
///
/// If the slices differ in length.
pub fn lerp_in_place(average: &mut [f32], x: &[f32], weight: f32) {
    assert_eq!(average.len(), x.len(), "lerp_in_place: average has {} numbers, x {}", average.len(), x.len());
    let work = x.len();
    blocks::for_each(work, average.chunks_mut(BLOCK).zip(x.chunks(BLOCK)), |(average, x)| lerp(average, x, weight));
}

#[inline(always)]
fn lerp_body<T: Target>(average: &mut [f32], x: &[f32], weight: f32) {
    for (average, &x) in average.iter_mut().zip(x) {
        *average = T::mul_add(weight, x - *average, *average);
    }
}
isa_dispatch!(fn lerp(average: &mut [f32], x: &[f32], weight: f32) = lerp_body);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers, same_bits_with_any_threads, to_f64};
    use proptest::prelude::*;

    const OPTIONS: AdamW =
        AdamW { lr: 1e-2, beta_1: 0.9, beta_2: 0.98, epsilon: 1e-8, weight_decay: 0.1, grad_scale: 0.5 };

    fn reference(o: &AdamW, step: i32, p: &mut [f64], grad: &[f64], m_1: &mut [f64], m_2: &mut [f64]) {
        let [lr, b_1, b_2, eps, decay, scale] =
            [o.lr, o.beta_1, o.beta_2, o.epsilon, o.weight_decay, o.grad_scale].map(f64::from);
        for i in 0..p.len() {
            let g = grad[i] * scale;
            m_1[i] = b_1 * m_1[i] + (1.0 - b_1) * g;
            m_2[i] = b_2 * m_2[i] + (1.0 - b_2) * g * g;
            let (mean, square) = (m_1[i] / (1.0 - b_1.powi(step)), m_2[i] / (1.0 - b_2.powi(step)));
            p[i] -= lr * decay * p[i];
            p[i] -= lr * mean / (square.sqrt() + eps);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn several_steps_equal_the_reference(n in prop::sample::select(&[0_usize, 1, 2, 59, 113][..]), seed: u64) {
            let (mut p, mut m_1, mut m_2) = (numbers(n, seed), vec![0.0; n], vec![0.0; n]);
            let (mut p_64, mut m_1_64, mut m_2_64) = (to_f64(&p), vec![0.0; n], vec![0.0; n]);
            for step in 1..6 {
                let grad = numbers(n, seed ^ step);
                adamw_step(&OPTIONS, step, &mut p, &grad, &mut m_1, &mut m_2);
                reference(&OPTIONS, step as i32, &mut p_64, &to_f64(&grad), &mut m_1_64, &mut m_2_64);
            }
            assert_close(&p, &p_64, 1e-6);
            assert_close(&m_1, &m_1_64, 1e-6);
            assert_close(&m_2, &m_2_64, 1e-6);
        }

        #[test]
        fn the_sum_of_squares_is_exact_to_f64(n in prop::sample::select(&[0_usize, 1, 2, 59, 113, 70_001][..]), seed: u64) {
            let x = numbers(n, seed);
            let expected: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
            prop_assert!((sum_of_squares(&x) - expected).abs() <= 1e-12 * expected);
        }

        #[test]
        fn lerp_moves_by_the_weight(n in prop::sample::select(&[0_usize, 1, 59, 40_000][..]), weight in 0.0_f32..1.0) {
            let (start, x) = (numbers(n, 1), numbers(n, 2));
            let mut average = start.clone();
            lerp_in_place(&mut average, &x, weight);
            let expected: Vec<f64> = start.iter().zip(&x).map(|(&a, &x)| f64::from(a) + f64::from(weight) * (f64::from(x) - f64::from(a))).collect();
            assert_close(&average, &expected, 1e-6);
        }
    }

    #[test]
    fn the_first_step_is_as_long_as_the_learning_rate() {
        let options = AdamW { weight_decay: 0.0, grad_scale: 1.0, ..OPTIONS };
        let mut p = [0.0, 0.0];
        adamw_step(&options, 1, &mut p, &[1e-3, -1e3], &mut [0.0; 2], &mut [0.0; 2]);
        assert_close(&p, &[-1e-2, 1e-2], 1e-6);
    }

    #[test]
    fn a_zero_gradient_leaves_only_the_decay() {
        let mut p = [2.0];
        adamw_step(&OPTIONS, 1, &mut p, &[0.0], &mut [0.0], &mut [0.0]);
        assert_eq!(p, [2.0 * (1.0 - 1e-3)]);
    }

    #[test]
    #[should_panic(expected = "steps count from 1")]
    fn step_zero_panics() {
        adamw_step(&OPTIONS, 0, &mut [], &[], &mut [], &mut []);
    }

    #[test]
    #[should_panic(expected = "grad has 2 numbers, param 3")]
    fn a_wrong_length_panics() {
        adamw_step(&OPTIONS, 1, &mut [0.0; 3], &[0.0; 2], &mut [0.0; 3], &mut [0.0; 3]);
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        let (start, grad) = (numbers(200_003, 1), numbers(200_003, 2));
        same_bits_with_any_threads(|| {
            let (mut p, mut m_1, mut m_2) = (start.clone(), vec![0.0; start.len()], vec![0.0; start.len()]);
            adamw_step(&OPTIONS, 1, &mut p, &grad, &mut m_1, &mut m_2);
            lerp_in_place(&mut p, &start, 0.25);
            let bits = sum_of_squares(&p).to_bits();
            p.extend([f32::from_bits(bits as u32), f32::from_bits((bits >> 32) as u32)]);
            [p, m_1, m_2].concat()
        });
    }
}
