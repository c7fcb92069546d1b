//! Layer normalisation over the last axis (Ba, Kiros, Hinton 2016).
//!
//! ```text
//! forward    mean = Σ x / D;  rstd = 1 / √(Σ (x - mean)² / D + eps);  h = (x - mean) rstd;  out = h γ + β
//! backward   d_β = Σ_rows d_out;  d_γ = Σ_rows d_out h
//!            d_h = d_out γ;  d_x = rstd (d_h - mean_D(d_h) - h mean_D(d_h h))
//! ```
//!
//! The variance is taken in a second pass over the row, which lies in the first-level cache by then: the one-pass formula
//! cancels where the mean is large.

use crate::blocks;
use crate::isa::{Target, isa_dispatch};
use crate::math::sum_rows;
use crate::product::Place;
use crate::simd::Vector;

/// `out = (x - mean) * rstd * gamma + beta` for each row; `x` and `out` `[tokens, dim]`, `gamma` and `beta` `[dim]`.
/// `mean` and `rstd` `[tokens]` receive what the backward pass needs. `eps` is added to the variance.
///
/// # Panics
///
/// If a slice has another length than its shape.
pub fn layer_norm_forward(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    out: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let (tokens, dim) = (mean.len(), gamma.len());
    assert_eq!(x.len(), tokens * dim, "layer_norm_forward: x has {} numbers, expected [{tokens}, {dim}]", x.len());
    assert_eq!(out.len(), x.len(), "layer_norm_forward: out has {} numbers, x {}", out.len(), x.len());
    assert_eq!(beta.len(), dim, "layer_norm_forward: beta has {} numbers, gamma {dim}", beta.len());
    assert_eq!(rstd.len(), tokens, "layer_norm_forward: rstd has {} numbers, mean {tokens}", rstd.len());
    if dim == 0 {
        return;
    }
    let rows = blocks::rows_per_block(dim);
    let stats = mean.chunks_mut(rows).zip(rstd.chunks_mut(rows));
    let parts = x.chunks(rows * dim).zip(out.chunks_mut(rows * dim)).zip(stats);
    let place = Place::Rows { stride: dim };
    blocks::for_each(x.len(), parts, |((x, out), (mean, rstd))| normalise(x, gamma, beta, eps, out, place, mean, rstd));
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "those of `layer_norm_forward`")]
fn normalise_body<T: Target>(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    out: &mut [f32],
    place: Place,
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let dim = gamma.len();
    let share = 1.0 / dim as f32;
    for (x, (mean, rstd)) in x.chunks_exact(dim).zip(mean.iter_mut().zip(rstd.iter_mut())) {
        // SAFETY: `isa_dispatch!` calls this only where the instruction set is there; the row has `dim` numbers.
        unsafe {
            let [sum] = row_sums::<T::Vector, _>(dim, |at, count| [part_of(x, at, count)]);
            *mean = sum * share;
            let mean = T::Vector::splat(*mean);
            let [squares] = row_sums::<T::Vector, _>(dim, |at, count| {
                let d = part_of::<T::Vector>(x, at, count).sub(mean).keep(0, count, T::Vector::splat(0.0));
                [d.mul(d)]
            });
            *rstd = 1.0 / (squares * share + eps).sqrt();
        }
    }
    normalise_again_body::<T>(x, gamma, beta, out, place, mean, rstd);
}
isa_dispatch!(
    /// A block of rows.
    pub(crate) fn normalise(
        x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32], place: Place, mean: &mut [f32], rstd: &mut [f32],
    ) = normalise_body
);

#[inline(always)]
fn normalise_again_body<T: Target>(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    out: &mut [f32],
    place: Place,
    mean: &[f32],
    rstd: &[f32],
) {
    let dim = gamma.len();
    assert_eq!(beta.len(), dim, "norm: gain and shift");
    for (row, (x, (&mean, &rstd))) in x.chunks_exact(dim).zip(mean.iter().zip(rstd)).enumerate() {
        for at in (0..dim).step_by(T::Vector::LANES) {
            let count = T::Vector::LANES.min(dim - at);
            let out = &mut out[place.at(row, at)..][..count];
            // SAFETY: `isa_dispatch!` calls this only where the instruction set is there; rows, gain and shift have `dim` numbers.
            unsafe {
                let h = part_of::<T::Vector>(x, at, count).sub(T::Vector::splat(mean)).mul(T::Vector::splat(rstd));
                let y = h.mul_add(part_of(gamma, at, count), part_of(beta, at, count));
                put(y, out, 0, count);
            }
        }
    }
}
isa_dispatch!(
    /// The same from means and deviations that are known.
    pub(crate) fn normalise_again(
        x: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32], place: Place, mean: &[f32], rstd: &[f32],
    ) = normalise_again_body
);

/// The first `count` numbers of a register from number `at` on, zeros behind them.
///
/// # Safety
///
/// The instruction set of `V`; the numbers exist.
#[inline(always)]
unsafe fn part_of<V: Vector>(x: &[f32], at: usize, count: usize) -> V {
    // SAFETY: by the contract.
    unsafe {
        let from = x.as_ptr().add(at);
        if count == V::LANES { V::load(from) } else { V::load_first(from, count) }
    }
}

/// The other way round.
///
/// # Safety
///
/// That of [`part_of`].
#[inline(always)]
unsafe fn put<V: Vector>(x: V, out: &mut [f32], at: usize, count: usize) {
    // SAFETY: by the contract.
    unsafe {
        let to = out.as_mut_ptr().add(at);
        if count == V::LANES { x.store(to) } else { x.store_first(to, count) }
    }
}

/// `sums += x`.
///
/// # Safety
///
/// The instruction set of `V`.
#[inline(always)]
unsafe fn add_each<V: Vector, const N: usize>(sums: &mut [V; N], x: [V; N]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        // SAFETY: by the contract.
        *sum = unsafe { sum.add(x) };
    }
}

/// Sums of a row that `part` gives register by register, in an order that depends on its length alone: four chains side by side,
/// to hide the latency of an addition.
///
/// # Safety
///
/// The instruction set of `V`; `part` may be called for each register of `dim` numbers.
#[inline(always)]
unsafe fn row_sums<V: Vector, const N: usize>(dim: usize, mut part: impl FnMut(usize, usize) -> [V; N]) -> [f32; N] {
    const CHAINS: usize = 4;
    // SAFETY: by the contract.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; CHAINS];
        // (`part` is called at one place, so that it is compiled into it, with its instruction set)
        for first in (0..dim).step_by(CHAINS * V::LANES) {
            for (chain, sums) in sums.iter_mut().enumerate() {
                let at = first + chain * V::LANES;
                if at < dim {
                    add_each(sums, part(at, V::LANES.min(dim - at)));
                }
            }
        }
        let ([a, b, c, d], mut totals) = (sums, [0.0; N]);
        for (n, total) in totals.iter_mut().enumerate() {
            *total = a[n].add(b[n]).add(c[n].add(d[n])).reduce_add();
        }
        totals
    }
}

/// The gradients of [`layer_norm_forward`]: `d_x` `[tokens, dim]`, `d_gamma` and `d_beta` `[dim]`, all overwritten.
///
/// # Panics
///
/// If a slice has another length than its shape.
#[allow(clippy::too_many_arguments, reason = "the parameters of the forward pass, in their order")]
pub fn layer_norm_backward(
    d_out: &[f32],
    x: &[f32],
    gamma: &[f32],
    mean: &[f32],
    rstd: &[f32],
    d_x: &mut [f32],
    d_gamma: &mut [f32],
    d_beta: &mut [f32],
) {
    let (tokens, dim) = (mean.len(), gamma.len());
    for (name, found) in [("d_out", d_out.len()), ("x", x.len()), ("d_x", d_x.len())] {
        assert_eq!(found, tokens * dim, "layer_norm_backward: {name} has {found} numbers, expected [{tokens}, {dim}]");
    }
    for (name, found, expected) in
        [("rstd", rstd.len(), tokens), ("d_gamma", d_gamma.len(), dim), ("d_beta", d_beta.len(), dim)]
    {
        assert_eq!(found, expected, "layer_norm_backward: {name} has {found} numbers, expected {expected}");
    }
    if dim == 0 {
        return;
    }
    // at least 32 rows, so that the partial sums stay small beside `x`
    let rows = blocks::rows_per_block(dim).max(32);
    let count = tokens.div_ceil(rows);
    let mut partial = vec![0.0; 2 * count * dim];
    let (partial_gamma, partial_beta) = partial.split_at_mut(count * dim);
    let inputs = d_out.chunks(rows * dim).zip(x.chunks(rows * dim)).zip(mean.chunks(rows).zip(rstd.chunks(rows)));
    let sums = partial_gamma.chunks_mut(dim).zip(partial_beta.chunks_mut(dim));
    let parts = inputs.zip(d_x.chunks_mut(rows * dim).zip(sums));
    blocks::for_each(x.len(), parts, |(((d_out, x), (mean, rstd)), (d_x, (d_gamma, d_beta)))| {
        denormalise(d_out, x, &[], gamma, mean, rstd, d_x, d_gamma, d_beta);
    });
    sum_rows(partial_gamma, d_gamma);
    sum_rows(partial_beta, d_beta);
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "those of `layer_norm_backward`")]
fn denormalise_body<T: Target>(
    d_out: &[f32],
    x: &[f32],
    plus: &[f32],
    gamma: &[f32],
    mean: &[f32],
    rstd: &[f32],
    d_x: &mut [f32],
    d_gamma: &mut [f32],
    d_beta: &mut [f32],
) {
    let dim = gamma.len();
    assert!(d_gamma.len() == dim && d_beta.len() == dim, "norm: gradients of gain and shift");
    let share = 1.0 / dim as f32;
    let mut plus = plus.chunks_exact(dim);
    let rows = d_out.chunks_exact(dim).zip(x.chunks_exact(dim)).zip(d_x.chunks_exact_mut(dim));
    for (((d_out, x), d_x), (&mean, &rstd)) in rows.zip(mean.iter().zip(rstd)) {
        let plus = plus.next();
        // SAFETY: `isa_dispatch!` calls this only where the instruction set is there; all rows and sums have `dim` numbers.
        unsafe {
            let (mean, rstd) = (T::Vector::splat(mean), T::Vector::splat(rstd));
            let part = |row: &[f32], at, count| part_of::<T::Vector>(row, at, count);
            let h = |at, count| part(x, at, count).sub(mean).mul(rstd);
            // undoes `out = h γ + β`; where the row ends within a register, d_out is zero behind it
            let sums = row_sums::<T::Vector, _>(dim, |at, count| {
                let (d_out, h) = (part(d_out, at, count), h(at, count));
                let d_h = d_out.mul(part(gamma, at, count));
                put(d_out.mul_add(h, part(d_gamma, at, count)), d_gamma, at, count);
                put(d_out.add(part(d_beta, at, count)), d_beta, at, count);
                [d_h, d_h.mul(h)]
            });
            // undoes `h = (x - mean) rstd`, through mean and rstd as well
            let (mean_dh, mean_dh_h) = (T::Vector::splat(sums[0] * share), T::Vector::splat(sums[1] * share));
            for at in (0..dim).step_by(T::Vector::LANES) {
                let count = T::Vector::LANES.min(dim - at);
                let d_h = part(d_out, at, count).mul(part(gamma, at, count));
                let through = h(at, count).mul_add(mean_dh_h, mean_dh);
                let plus = plus.map_or(T::Vector::splat(0.0), |plus| part(plus, at, count));
                put(d_h.sub(through).mul_add(rstd, plus), d_x, at, count);
            }
        }
    }
}
isa_dispatch!(
    /// The gradients of some rows: `d_x`, to which `plus` is added unless it is empty, is overwritten, and to `d_gamma` and
    /// `d_beta` the sums of the rows are added.
    pub(crate) fn denormalise(
        d_out: &[f32], x: &[f32], plus: &[f32], gamma: &[f32], mean: &[f32], rstd: &[f32],
        d_x: &mut [f32], d_gamma: &mut [f32], d_beta: &mut [f32],
    ) = denormalise_body
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, differences, dot, numbers, same_bits_with_any_threads, to_f64};
    use proptest::prelude::*;

    const EPS: f32 = 1e-5;

    fn reference(x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
        let dim = gamma.len();
        let row = |x: &[f64]| {
            let mean = x.iter().sum::<f64>() / dim as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / dim as f64;
            let rstd = 1.0 / (variance + f64::from(EPS)).sqrt();
            (0..dim).map(|d| (x[d] - mean) * rstd * gamma[d] + beta[d]).collect::<Vec<_>>()
        };
        if dim == 0 { vec![] } else { x.chunks_exact(dim).flat_map(row).collect() }
    }

    /// `out`, `d_x`, `d_gamma`, `d_beta`
    fn ours(x: &[f32], gamma: &[f32], beta: &[f32], d_out: &[f32], tokens: usize) -> [Vec<f32>; 4] {
        let dim = gamma.len();
        let (mut out, mut mean, mut rstd) = (vec![f32::NAN; x.len()], vec![f32::NAN; tokens], vec![f32::NAN; tokens]);
        layer_norm_forward(x, gamma, beta, EPS, &mut out, &mut mean, &mut rstd);
        let [mut d_x, mut d_gamma, mut d_beta] = [x.len(), dim, dim].map(|n| vec![f32::NAN; n]);
        layer_norm_backward(d_out, x, gamma, &mean, &rstd, &mut d_x, &mut d_gamma, &mut d_beta);
        [out, d_x, d_gamma, d_beta]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn forward_and_backward_equal_the_reference(
            tokens in prop::sample::select(&[0_usize, 1, 2, 5][..]), dim in prop::sample::select(&[0_usize, 1, 2, 59, 64, 113, 128][..]), seed: u64,
        ) {
            let (x, gamma, beta) = (numbers(tokens * dim, seed), numbers(dim, 2), numbers(dim, 3));
            let d_out = numbers(tokens * dim, 4);
            let [out, d_x, d_gamma, d_beta] = ours(&x, &gamma, &beta, &d_out, tokens);
            let [x_64, gamma_64, beta_64] = [&x, &gamma, &beta].map(|x| to_f64(x));
            // Two numbers that happen to be near each other have a small variance and a large slope, by which what rounding takes
            // from their mean is multiplied.
            let slope = |row: &[f64]| row.iter().fold(0.0_f64, |a, x| a.max(x.abs())) / (row[0] - row[1]).abs().max(1e-3);
            let slopes = if dim == 2 { x_64.chunks(2).map(slope).fold(1.0, f64::max) } else { 1.0 };
            assert_close(&out, &reference(&x_64, &gamma_64, &beta_64), 3e-6 * slopes);
            if dim != 2 {
                assert_close(&d_x, &differences(&x, |x| dot(&reference(x, &gamma_64, &beta_64), &d_out)), 1e-4);
            }
            let expected = differences(&gamma, |gamma| dot(&reference(&x_64, gamma, &beta_64), &d_out));
            assert_close(&d_gamma, &expected, 1e-5 * slopes);
            assert_close(&d_beta, &differences(&beta, |beta| dot(&reference(&x_64, &gamma_64, beta), &d_out)), 1e-5);
        }
    }

    #[test]
    fn a_large_mean_does_not_cancel() {
        let x: Vec<f32> = (0..64).map(|i| 1000.0 + i as f32 / 8.0).collect();
        let [out, ..] = ours(&x, &[1.0; 64], &[0.0; 64], &[0.0; 64], 1);
        assert_close(&out, &reference(&to_f64(&x), &[1.0; 64], &[0.0; 64]), 1e-4);
    }

    #[test]
    fn no_rows_have_zero_parameter_gradients() {
        let [_, _, d_gamma, d_beta] = ours(&[], &[1.0; 3], &[0.0; 3], &[], 0);
        assert_eq!((d_gamma, d_beta), (vec![0.0; 3], vec![0.0; 3]));
    }

    #[test]
    #[should_panic(expected = "x has 5 numbers, expected [2, 3]")]
    fn a_wrong_length_panics() {
        layer_norm_forward(&[0.0; 5], &[0.0; 3], &[0.0; 3], EPS, &mut [0.0; 6], &mut [0.0; 2], &mut [0.0; 2]);
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        let (tokens, dim) = (1000, 113);
        let (x, d_out) = (numbers(tokens * dim, 1), numbers(tokens * dim, 2));
        let (gamma, beta) = (numbers(dim, 3), numbers(dim, 4));
        same_bits_with_any_threads(|| ours(&x, &gamma, &beta, &d_out, tokens).concat());
    }
}
