//! What both halves are checked with: the formulas in f64, and the kernels that do one thing each.

use super::*;
use crate::activation::{Activation, bias_activation_backward, bias_activation_forward};
use crate::dropout::dropout_in_place;
use crate::matmul::{Layout, matmul};
use crate::norm::{layer_norm_backward, layer_norm_forward};
use crate::pool::Pool;
use crate::random::Key;
use crate::testing::{
    activated, assert_close, differences, dot, numbers, poisoned, same_bits_with_any_threads, to_f64,
};

mod attention;
mod feed_forward;

const PLACES: [NormPlace; 2] = [NormPlace::Before, NormPlace::After];
/// Large enough that rows of few numbers, which happen to be near each other, are not blown up.
const EPSILON: f32 = 1e-2;

/// Rate and key of a dropout, if there is one.
type Dropout = Option<(f32, Key)>;

fn bits(x: &[Vec<f32>]) -> Vec<Vec<u32>> {
    x.iter().map(|x| x.iter().map(|x| x.to_bits()).collect()).collect()
}

/// Compares what was found with the gradient, by central differences, of `reference` with respect to each parameter.
#[track_caller]
fn assert_gradients<const N: usize>(
    parameters: &[Vec<f32>; N],
    d_out: &[f32],
    found: &[Vec<f32>; N],
    reference: impl Fn(&[Vec<f64>; N]) -> Vec<f64>,
) {
    let all = parameters.each_ref().map(|x| to_f64(x));
    for (i, (parameter, found)) in parameters.iter().zip(found).enumerate() {
        println!("parameter {i}");
        let with = |x: &[f64]| {
            let mut all = all.clone();
            all[i] = x.to_vec();
            dot(&reference(&all), d_out)
        };
        assert_close(found, &differences(parameter, with), 3e-5);
    }
}

// the formulas

fn normed(x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
    let dim = gamma.len();
    let row = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / dim as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / dim as f64;
        let rstd = 1.0 / (variance + f64::from(EPSILON)).sqrt();
        (0..dim).map(|d| (x[d] - mean) * rstd * gamma[d] + beta[d]).collect::<Vec<_>>()
    };
    x.chunks_exact(dim).flat_map(row).collect()
}

/// `x · weight + bias`.
fn affine(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let n = bias.len();
    let row = |x: &[f64]| -> Vec<f64> {
        (0..n).map(|at| bias[at] + x.iter().zip(weight.chunks_exact(n)).map(|(x, w)| x * w[at]).sum::<f64>()).collect()
    };
    x.chunks_exact(weight.len() / n).flat_map(row).collect()
}

fn plus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn dropped(x: &[f64], dropout: Dropout) -> Vec<f64> {
    let factors = without(&vec![1.0; x.len()], dropout);
    x.iter().zip(factors).map(|(x, factor)| x * f64::from(factor)).collect()
}

// the kernels

fn without(x: &[f32], dropout: Dropout) -> Vec<f32> {
    let mut x = x.to_vec();
    if let Some((rate, key)) = dropout {
        dropout_in_place(&mut x, rate, key);
    }
    x
}

/// `a · b`, with `n` columns; `k` numbers are summed.
fn times((a, a_layout): (&[f32], Layout), (b, b_layout): (&[f32], Layout), k: usize) -> Vec<f32> {
    let (m, n) = (a.len() / k.max(1), b.len() / k.max(1));
    let mut out = vec![f32::NAN; m * n];
    matmul(a, a_layout, b, b_layout, &mut out, m, k, n);
    out
}

/// `x · weight`, with `weight` of `dim` rows.
fn forth(x: &[f32], weight: &[f32], dim: usize) -> Vec<f32> {
    times((x, Layout::Normal), (weight, Layout::Normal), dim)
}

/// `d · weightᵀ`, with `weight` of `dim` columns.
fn back(d: &[f32], weight: &[f32], dim: usize) -> Vec<f32> {
    times((d, Layout::Normal), (weight, Layout::Transposed), dim)
}

/// `xᵀ · d`, where both have rows for `tokens`.
fn of_weight(x: &[f32], d: &[f32], tokens: usize, shape: usize) -> Vec<f32> {
    if tokens == 0 { vec![0.0; shape] } else { times((x, Layout::Transposed), (d, Layout::Normal), tokens) }
}

fn biased(x: &[f32], bias: &[f32], act: Activation) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len()];
    bias_activation_forward(x, bias, act, &mut out);
    out
}

/// `d_x` and `d_bias`
fn unbiased(d: &[f32], x: &[f32], bias: &[f32], act: Activation) -> [Vec<f32>; 2] {
    let [mut d_x, mut d_bias] = [x, bias].map(|x| vec![f32::NAN; x.len()]);
    bias_activation_backward(d, x, bias, act, &mut d_x, &mut d_bias);
    [d_x, d_bias]
}

/// The result, mean and deviation.
fn norm_forth(x: &[f32], gamma: &[f32], beta: &[f32]) -> [Vec<f32>; 3] {
    let tokens = x.len() / gamma.len();
    let [mut out, mut mean, mut rstd] = [x.len(), tokens, tokens].map(|n| vec![f32::NAN; n]);
    layer_norm_forward(x, gamma, beta, EPSILON, &mut out, &mut mean, &mut rstd);
    [out, mean, rstd]
}

/// The gradients of `x`, gamma and beta.
fn norm_back(d: &[f32], x: &[f32], gamma: &[f32], [_, mean, rstd]: &[Vec<f32>; 3]) -> [Vec<f32>; 3] {
    let [mut d_x, mut d_gamma, mut d_beta] = [x, gamma, gamma].map(|x| vec![f32::NAN; x.len()]);
    layer_norm_backward(d, x, gamma, mean, rstd, &mut d_x, &mut d_gamma, &mut d_beta);
    [d_x, d_gamma, d_beta]
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}
