//! Functions of one number and sums over a row, written so that the compiler vectorises the loop around them: no
//! branches, no calls, no tables.

use crate::isa::Target;

/// eˣ with a relative error below 2⁻²³; 0 below -104, infinity above 88.73, denormals where they belong, NaN for NaN.
///
/// ```text
/// n = round(x / ln 2);  r = x - n ln 2, ln 2 in two parts;  e^x = 2^n (1 + r + r² p(r))
/// ```
///
/// with p of Cephes `expf` (Moshier). 2ⁿ is applied in two factors, so that neither end of the range needs a branch.
#[inline(always)]
pub(crate) fn exp<T: Target>(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // added to a small number, it rounds to the nearest integer and leaves it in the low bits
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-104.0, 89.0);
    let shifted = T::mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = T::mul_add(n, -LN_2_LOW, T::mul_add(n, -LN_2_HIGH, x));
    let mut p = 1.987_569_1e-4;
    p = T::mul_add(p, r, 1.398_2e-3);
    p = T::mul_add(p, r, 8.333_452e-3);
    p = T::mul_add(p, r, 4.166_579_6e-2);
    p = T::mul_add(p, r, 1.666_666_5e-1);
    p = T::mul_add(p, r, 0.5);
    let mantissa = T::mul_add(p, r * r, r) + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = exponent >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    mantissa * power(half) * power(exponent.wrapping_sub(half))
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid<T: Target>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<T>(-x))
}

/// tanh x with a relative error below 5e-7: the rational approximation of degree 13 over 6 that Eigen uses (`ptanh`),
/// with its clamp, from which on it stays within 2.5e-7 of 1.
#[inline(always)]
pub(crate) fn tanh<T: Target>(x: f32) -> f32 {
    let x = x.clamp(-7.998_812, 7.998_812);
    let s = x * x;
    let mut p = -2.760_768_5e-16;
    p = T::mul_add(p, s, 2.000_188e-13);
    p = T::mul_add(p, s, -8.604_672e-11);
    p = T::mul_add(p, s, 5.122_297e-8);
    p = T::mul_add(p, s, 1.485_722_4e-5);
    p = T::mul_add(p, s, 6.372_619_3e-4);
    p = T::mul_add(p, s, 4.893_524_6e-3);
    let mut q = 1.198_258_4e-6;
    q = T::mul_add(q, s, 1.185_347_1e-4);
    q = T::mul_add(q, s, 2.268_434_6e-3);
    q = T::mul_add(q, s, 4.893_525e-3);
    (x * p / q).clamp(-1.0, 1.0)
}

/// Φ(x), the share of a normal distribution below x, with an absolute error below 1.2e-7.
///
/// With t = |x| / √2: near 0, ½ + ½ erf(t) by a polynomial; beyond, the tail ½ erfc(t) = ½ e^r(t) itself, so that small
/// values do not come from subtracting two near 1. Polynomials of N. Juffa's `erff` (below 1 ulp).
#[inline(always)]
pub(crate) fn normal_cdf<T: Target>(x: f32) -> f32 {
    let t = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let s = t * t;
    let mut near = -5.967_617e-4;
    near = T::mul_add(near, s, 4.991_194_2e-3);
    near = T::mul_add(near, s, -2.676_813_5e-2);
    near = T::mul_add(near, s, 1.128_199_3e-1);
    near = T::mul_add(near, s, -3.761_253_4e-1);
    near = T::mul_add(near, s, 1.283_791_7e-1);
    near = T::mul_add(near, t, t);
    let mut far = T::mul_add(-1.728_534_7e-5, t, 3.831_971_3e-4);
    far = T::mul_add(far, s, T::mul_add(-3.883_964_4e-3, t, 2.425_462_2e-2));
    far = T::mul_add(far, t, -1.067_778_8e-1);
    far = T::mul_add(far, t, -6.348_467e-1);
    far = T::mul_add(far, t, -1.287_175_1e-1);
    far = T::mul_add(far, t, -t);
    let tail = if t > 0.927_734_4 { 0.5 * exp::<T>(far) } else { T::mul_add(near, -0.5, 0.5) };
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// Partial sums of a row: as many as two AVX-512 registers hold, enough to hide the latency of an addition.
const LANES: usize = 32;

/// Σ f(x[i]), in an order that depends on the length alone.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum_2(x, x, |a, _| f(a))
}

/// Σ f(x[i], y[i]), in an order that depends on the length alone.
#[inline(always)]
pub(crate) fn sum_2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut acc = [0.0; LANES];
    let (x_chunks, y_chunks) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = x_chunks.remainder().iter().zip(y_chunks.remainder());
    for (x, y) in x_chunks.zip(y_chunks) {
        for lane in 0..LANES {
            acc[lane] += f(x[lane], y[lane]);
        }
    }
    for (acc, (&x, &y)) in acc.iter_mut().zip(rest) {
        *acc += f(x, y);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            acc[lane] += acc[lane + width];
        }
        width /= 2;
    }
    acc[0]
}

/// The largest of a row; -∞ if it is empty.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut acc = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for x in chunks {
        for lane in 0..LANES {
            acc[lane] = if x[lane] > acc[lane] { x[lane] } else { acc[lane] };
        }
    }
    acc.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| a.max(b))
}

/// `out += x`.
#[inline(always)]
pub(crate) fn add_to(out: &mut [f32], x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += x;
    }
}

/// Adds rows of partial sums, `[blocks, dim]`, in their order.
pub(crate) fn sum_rows(partial: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    if !out.is_empty() {
        partial.chunks_exact(out.len()).for_each(|row| add_to(out, row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::isa_dispatch;
    use crate::testing::assert_close;

    #[inline(always)]
    fn table_body<T: Target>(x: &[f32], out: &mut [[f32; 4]]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = [exp::<T>(x), sigmoid::<T>(x), tanh::<T>(x), normal_cdf::<T>(x)];
        }
    }
    isa_dispatch!(fn table(x: &[f32], out: &mut [[f32; 4]]) = table_body);

    fn at(x: f32) -> [f32; 4] {
        let mut out = [[0.0; 4]];
        table(&[x], &mut out);
        out[0]
    }

    /// erf by its series, in f64: exact enough up to 6.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn functions_are_accurate_to_f32() {
        let mut worst = [0.0_f64; 4];
        for i in -87_000..=88_000 {
            let x = i as f32 * 1e-3;
            let (ours, x) = (at(x).map(f64::from), f64::from(x));
            worst[0] = worst[0].max((ours[0] / x.exp() - 1.0).abs());
            worst[1] = worst[1].max((ours[1] * (1.0 + (-x).exp()) - 1.0).abs());
            if x != 0.0 {
                worst[2] = worst[2].max((ours[2] / x.tanh() - 1.0).abs());
            }
            if x.abs() < 6.0 {
                let cdf = 0.5 + 0.5 * erf(x * std::f64::consts::FRAC_1_SQRT_2);
                worst[3] = worst[3].max((ours[3] - cdf).abs());
            }
        }
        let allowed = [1.2e-7, 2.5e-7, 5e-7, 1.2e-7];
        assert!(worst.iter().zip(allowed).all(|(worst, allowed)| *worst < allowed), "{worst:?}");
    }

    #[test]
    fn functions_hold_at_the_ends_of_the_range() {
        for x in [-1e30, f32::NEG_INFINITY, -200.0] {
            assert_close(&at(x), &[0.0, 0.0, -1.0, 0.0], 2.5e-7);
            assert_eq!([at(x)[0], at(x)[1], at(x)[3]], [0.0; 3], "at {x}");
        }
        for x in [1e30, f32::INFINITY, 200.0] {
            assert_close(&at(x)[1..], &[1.0; 3], 2.5e-7);
            assert_eq!([at(x)[0], at(x)[1], at(x)[3]], [f32::INFINITY, 1.0, 1.0], "at {x}");
        }
        assert_eq!(at(0.0), [1.0, 0.5, 0.0, 0.5]);
        assert!(at(f32::NAN).iter().all(|y| y.is_nan()));
        let denormal = at(-95.0)[0];
        assert!(denormal > 0.0 && (f64::from(denormal) / (-95.0_f64).exp() - 1.0).abs() < 1e-2);
    }

    #[test]
    fn sums_and_maxima_of_any_length() {
        for n in [0, 1, 31, 32, 33, 59, 113, 200] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            let expected: f32 = x.iter().map(|x| x * x).sum();
            assert_eq!(sum(&x, |x| x * x), expected);
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
