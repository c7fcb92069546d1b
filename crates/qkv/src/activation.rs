//! Bias and activation in one pass over memory: what follows the matrix product of a linear layer. ([`linear`](mod@crate::linear)
//! does both at once; this is for products from elsewhere.)
//!
//! ```text
//! forward    z = x + bias;  out = act(z)
//! backward   d_x = d_out · act'(z), z computed again;  d_bias = Σ_tokens d_x
//! ```

use crate::blocks;
use crate::isa::{Target, isa_dispatch};
use crate::math::{elu_and_slope, gelu, gelu_and_slope, sigmoid, sum_rows, tanh};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// z.
    Identity,
    /// max(z, 0); its slope at 0 is 0.
    Relu,
    /// z Φ(z) (Hendrycks and Gimpel 2016), the exact form with the normal distribution, not the one with tanh.
    Gelu,
    /// tanh z.
    Tanh,
    /// 1 / (1 + e⁻ᶻ).
    Sigmoid,
    /// z above 0, eᶻ - 1 below (Clevert et al. 2016).
    Elu,
}

/// `out = act(x + bias)` with `x` and `out` `[tokens, dim]`, `bias` `[dim]`.
///
/// # Panics
///
/// If a slice has another length than its shape.
pub fn bias_activation_forward(x: &[f32], bias: &[f32], act: Activation, out: &mut [f32]) {
    check(x, bias, out.len());
    if x.is_empty() {
        return;
    }
    let block = blocks::rows_per_block(bias.len()) * bias.len();
    blocks::for_each(x.len(), x.chunks(block).zip(out.chunks_mut(block)), |(x, out)| activate(x, bias, act, out));
}

fn check(x: &[f32], bias: &[f32], out: usize) {
    let dim = bias.len();
    let rows = x.len().checked_div(dim).unwrap_or(0);
    assert_eq!(x.len(), rows * dim, "bias_activation: x has {} numbers, expected rows of {dim}", x.len());
    assert_eq!(out, x.len(), "bias_activation: x has {} numbers, its counterpart {out}", x.len());
}

#[inline(always)]
fn activate_body<T: Target>(x: &[f32], bias: &[f32], act: Activation, out: &mut [f32]) {
    // outside the loops, so that each of them is one straight line
    match act {
        Activation::Identity => activate_with(x, bias, out, |z| z),
        Activation::Relu => activate_with(x, bias, out, |z| if z > 0.0 { z } else { 0.0 }),
        Activation::Gelu => activate_with(x, bias, out, gelu::<T>),
        Activation::Tanh => activate_with(x, bias, out, tanh::<T>),
        Activation::Sigmoid => activate_with(x, bias, out, sigmoid::<T>),
        Activation::Elu => activate_with(x, bias, out, |z| elu_and_slope::<T>(z).0),
    }
}
isa_dispatch!(fn activate(x: &[f32], bias: &[f32], act: Activation, out: &mut [f32]) = activate_body);

#[inline(always)]
fn activate_with(x: &[f32], bias: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32) {
    for (x, out) in x.chunks_exact(bias.len()).zip(out.chunks_exact_mut(bias.len())) {
        for ((out, &x), &bias) in out.iter_mut().zip(x).zip(bias) {
            *out = f(x + bias);
        }
    }
}

/// The gradients of [`bias_activation_forward`]: `d_x` `[tokens, dim]` and `d_bias` `[dim]`, both overwritten.
///
/// # Panics
///
/// If a slice has another length than its shape.
pub fn bias_activation_backward(
    d_out: &[f32],
    x: &[f32],
    bias: &[f32],
    act: Activation,
    d_x: &mut [f32],
    d_bias: &mut [f32],
) {
    check(x, bias, d_out.len());
    check(x, bias, d_x.len());
    assert_eq!(d_bias.len(), bias.len(), "bias_activation: d_bias has {} numbers, bias {}", d_bias.len(), bias.len());
    if x.is_empty() {
        d_bias.fill(0.0);
        return;
    }
    let dim = bias.len();
    // at least 32 rows, so that the partial sums stay small beside `x`
    let block = blocks::rows_per_block(dim).max(32) * dim;
    let mut partial = vec![0.0; x.len().div_ceil(block) * dim];
    let parts = d_out.chunks(block).zip(x.chunks(block)).zip(d_x.chunks_mut(block).zip(partial.chunks_mut(dim)));
    blocks::for_each(x.len(), parts, |((d_out, x), (d_x, d_bias))| deactivate(d_out, x, bias, act, d_x, d_bias));
    sum_rows(&partial, d_bias);
}

#[inline(always)]
fn deactivate_body<T: Target>(
    d_out: &[f32],
    x: &[f32],
    bias: &[f32],
    act: Activation,
    d_x: &mut [f32],
    d_bias: &mut [f32],
) {
    match act {
        Activation::Identity => deactivate_with(d_out, x, bias, d_x, d_bias, |d, _| d),
        Activation::Relu => deactivate_with(d_out, x, bias, d_x, d_bias, |d, z| if z > 0.0 { d } else { 0.0 }),
        Activation::Gelu => deactivate_with(d_out, x, bias, d_x, d_bias, |d, z| d * gelu_and_slope::<T>(z).1),
        Activation::Tanh => deactivate_with(d_out, x, bias, d_x, d_bias, |d, z| {
            let y = tanh::<T>(z);
            d * (1.0 - y * y)
        }),
        Activation::Sigmoid => deactivate_with(d_out, x, bias, d_x, d_bias, |d, z| {
            let y = sigmoid::<T>(z);
            d * y * (1.0 - y)
        }),
        Activation::Elu => deactivate_with(d_out, x, bias, d_x, d_bias, |d, z| d * elu_and_slope::<T>(z).1),
    }
}
isa_dispatch!(fn deactivate(d_out: &[f32], x: &[f32], bias: &[f32], act: Activation, d_x: &mut [f32], d_bias: &mut [f32]) = deactivate_body);

#[inline(always)]
fn deactivate_with(
    d_out: &[f32],
    x: &[f32],
    bias: &[f32],
    d_x: &mut [f32],
    d_bias: &mut [f32],
    d_act: impl Fn(f32, f32) -> f32,
) {
    let dim = bias.len();
    for ((d_out, x), d_x) in d_out.chunks_exact(dim).zip(x.chunks_exact(dim)).zip(d_x.chunks_exact_mut(dim)) {
        for (((d_x, &d_out), &x), (&bias, d_bias)) in
            d_x.iter_mut().zip(d_out).zip(x).zip(bias.iter().zip(d_bias.iter_mut()))
        {
            // undoes `act`, then `x + bias`
            *d_x = d_act(d_out, x + bias);
            *d_bias += *d_x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{activated, assert_close, differences, dot, numbers, same_bits_with_any_threads, to_f64};
    use proptest::prelude::*;

    const ALL: [Activation; 6] = [
        Activation::Identity,
        Activation::Relu,
        Activation::Gelu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Elu,
    ];

    fn reference(x: &[f64], bias: &[f64], act: Activation) -> Vec<f64> {
        x.iter().enumerate().map(|(i, x)| activated(x + bias[i % bias.len()], act)).collect()
    }

    fn ours(x: &[f32], bias: &[f32], act: Activation, d_out: &[f32]) -> [Vec<f32>; 3] {
        let [mut out, mut d_x, mut d_bias] = [x.len(), x.len(), bias.len()].map(|n| vec![f32::NAN; n]);
        bias_activation_forward(x, bias, act, &mut out);
        bias_activation_backward(d_out, x, bias, act, &mut d_x, &mut d_bias);
        [out, d_x, d_bias]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn forward_and_backward_equal_the_reference(
            tokens in prop::sample::select(&[0_usize, 1, 2, 7][..]), dim in prop::sample::select(&[0_usize, 1, 2, 59, 113][..]),
            act in prop::sample::select(&ALL[..]), seed: u64,
        ) {
            let (x, bias, d_out) = (numbers(tokens * dim, seed), numbers(dim, 2), numbers(tokens * dim, 3));
            let [out, d_x, d_bias] = ours(&x, &bias, act, &d_out);
            let (x_64, bias_64) = (to_f64(&x), to_f64(&bias));
            assert_close(&out, &reference(&x_64, &bias_64, act), 1e-6);
            assert_close(&d_x, &differences(&x, |x| dot(&reference(x, &bias_64, act), &d_out)), 2e-6);
            assert_close(&d_bias, &differences(&bias, |bias| dot(&reference(&x_64, bias, act), &d_out)), 3e-6);
        }
    }

    #[test]
    fn no_rows_have_a_zero_bias_gradient() {
        let [.., d_bias] = ours(&[], &[1.0; 3], Activation::Gelu, &[]);
        assert_eq!(d_bias, [0.0; 3]);
    }

    #[test]
    fn far_from_zero_gelu_is_relu_and_its_slope_is_a_step() {
        let x = [-1e20, -50.0, 50.0, 1e18];
        let [out, d_x, _] = ours(&x, &[0.0], Activation::Gelu, &[1.0; 4]);
        assert_eq!((&out[2..], &d_x[2..]), (&[50.0, 1e18][..], &[1.0; 2][..]));
        assert!(out[..2].iter().chain(&d_x[..2]).all(|y| y.abs() < 1e-30), "{out:?}, {d_x:?}");
    }

    #[test]
    #[should_panic(expected = "x has 5 numbers, expected rows of 3")]
    fn a_wrong_length_panics() {
        bias_activation_forward(&[0.0; 5], &[0.0; 3], Activation::Relu, &mut [0.0; 5]);
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        let (x, bias, d_out) = (numbers(1000 * 113, 1), numbers(113, 2), numbers(1000 * 113, 3));
        for act in ALL {
            same_bits_with_any_threads(|| ours(&x, &bias, act, &d_out).concat());
        }
    }
}
