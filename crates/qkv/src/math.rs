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
    let (mantissa, exponent) = exp_parts::<T>(x.clamp(-104.0, 89.0));
    let half = exponent >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    mantissa * power(half) * power(exponent.wrapping_sub(half))
}

/// m in `[0.7, 1.42]` and n, of which eˣ = m 2ⁿ, for |x| up to 2²¹.
#[inline(always)]
pub(crate) fn exp_parts<T: Target>(x: f32) -> (f32, i32) {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // added to a small number, it rounds to the nearest integer and leaves it in the low bits
    const ROUND: f32 = 12_582_912.0;
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
    (mantissa, (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32))
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid<T: Target>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<T>(-x))
}

/// x above 0, eˣ - 1 below; and the slope of that.
#[inline(always)]
pub(crate) fn elu_and_slope<T: Target>(x: f32) -> (f32, f32) {
    let power = exp::<T>(if x > 0.0 { 0.0 } else { x });
    (if x > 0.0 { x } else { power - 1.0 }, power)
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

/// Φ(-t), the share of a normal distribution beyond t, and e^(-t²/2), for t in `[0, FAR]`; both with an absolute error below 1e-7.
///
/// ```text
/// Φ(-t) = e^(-t²/2) p(t);   e^(-t²/2) = 2^n 2^f,  n the integer next to -t² / 2 ln 2
/// ```
///
/// p, half the scaled complement erfcx(t / √2), varies so little that one polynomial serves from 0 to where the tail ends.
/// It and that of 2ᶠ were fitted for the smallest largest error (by linear programming), p weighted by e^(-t²/2) and with no
/// zero.
#[inline(always)]
pub(crate) fn normal_tail<T: Target>(t: f32) -> (f32, f32) {
    const ROUND: f32 = 12_582_912.0;
    const SCALE: f32 = -0.5 * std::f32::consts::LOG2_E;
    let s = t * t;
    let shifted = T::mul_add(s, SCALE, ROUND);
    let f = T::mul_add(s, SCALE, -(shifted - ROUND));
    let mut power = 1.535_336_5e-4;
    power = T::mul_add(power, f, 1.339_887_5e-3);
    power = T::mul_add(power, f, 9.618_437e-3);
    power = T::mul_add(power, f, 5.550_332_4e-2);
    power = T::mul_add(power, f, 2.402_264_8e-1);
    power = T::mul_add(power, f, 6.931_472e-1);
    power = T::mul_add(power, f, 1.0);
    let bell = f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23));
    let mut p = 4.615_499_8e-8;
    for c in TAIL {
        p = T::mul_add(p, t, c);
    }
    (bell * p, bell)
}

/// Beyond this, e^(-t²/2) would be a denormal; the tail is below 1e-30 there.
const FAR: f32 = 13.2;

/// Coefficients of p, from that of t¹¹ to that of 1.
const TAIL: [f32; 12] = [
    -1.324_623_4e-6,
    1.719_168_5e-5,
    -1.350_617_8e-4,
    7.298_123e-4,
    -2.946_435_2e-3,
    9.505_249e-3,
    -2.592_931_9e-2,
    6.218_541_4e-2,
    -1.328_934_3e-1,
    2.499_878_6e-1,
    -3.989_417e-1,
    0.5,
];

/// GELU, x Φ(x) = max(x, 0) - |x| Φ(-|x|), with an absolute error below 1e-7 (1 + |x|).
#[inline(always)]
pub(crate) fn gelu<T: Target>(x: f32) -> f32 {
    let t = x.clamp(-FAR, FAR).abs();
    T::mul_add(-t, normal_tail::<T>(t).0, if x > 0.0 { x } else { 0.0 })
}

/// GELU and its slope, Φ(x) + x e^(-x²/2) / √(2π).
#[inline(always)]
pub(crate) fn gelu_and_slope<T: Target>(x: f32) -> (f32, f32) {
    const INVERSE_ROOT_OF_TAU: f32 = 0.398_942_3;
    let near = x.clamp(-FAR, FAR);
    let (tail, bell) = normal_tail::<T>(near.abs());
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    let value = T::mul_add(-near.abs(), tail, if x > 0.0 { x } else { 0.0 });
    (value, T::mul_add(near * INVERSE_ROOT_OF_TAU, bell, cdf))
}

/// Partial sums of a row: as many as two AVX-512 registers hold, enough to hide the latency of an addition.
const LANES: usize = 32;

/// Σ f(x[i]), in an order that depends on the length alone.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut acc = [0.0; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for x in chunks {
        for lane in 0..LANES {
            acc[lane] += f(x[lane]);
        }
    }
    for (acc, &x) in acc.iter_mut().zip(rest) {
        *acc += f(x);
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
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            acc[lane] = if acc[lane + width] > acc[lane] { acc[lane + width] } else { acc[lane] };
        }
        width /= 2;
    }
    rest.iter().fold(acc[0], |a, &b| a.max(b))
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
    use crate::testing::{assert_close, normal_cdf};

    #[inline(always)]
    fn table_body<T: Target>(x: &[f32], out: &mut [[f32; 6]]) {
        for (out, &x) in out.iter_mut().zip(x) {
            let (gelu_again, slope) = gelu_and_slope::<T>(x);
            let (tail, gelu) = (normal_tail::<T>(x.clamp(-FAR, FAR).abs()).0, gelu::<T>(x));
            assert!(gelu.to_bits() == gelu_again.to_bits() || gelu.is_nan(), "at {x}");
            *out = [exp::<T>(x), sigmoid::<T>(x), tanh::<T>(x), tail, gelu, slope];
        }
    }
    isa_dispatch!(fn table(x: &[f32], out: &mut [[f32; 6]]) = table_body);

    fn at(x: f32) -> [f32; 6] {
        let mut out = [[0.0; 6]];
        table(&[x], &mut out);
        out[0]
    }

    #[test]
    fn functions_are_accurate_to_f32() {
        let mut worst = [0.0_f64; 6];
        for i in -87_000..=88_000 {
            let x = i as f32 * 1e-3;
            let (ours, x) = (at(x).map(f64::from), f64::from(x));
            worst[0] = worst[0].max((ours[0] / x.exp() - 1.0).abs());
            worst[1] = worst[1].max((ours[1] * (1.0 + (-x).exp()) - 1.0).abs());
            if x != 0.0 {
                worst[2] = worst[2].max((ours[2] / x.tanh() - 1.0).abs());
            }
            if x.abs() < 20.0 {
                let cdf = normal_cdf(x);
                let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
                worst[3] = worst[3].max((ours[3] - cdf.min(1.0 - cdf)).abs());
                worst[4] = worst[4].max((ours[4] - x * cdf).abs() / (1.0 + x.abs()));
                worst[5] = worst[5].max((ours[5] - (cdf + x * density)).abs());
            }
        }
        let allowed = [1.2e-7, 2.5e-7, 5e-7, 1e-7, 1e-7, 2e-7];
        assert!(worst.iter().zip(allowed).all(|(worst, allowed)| *worst < allowed), "{worst:?}");
    }

    #[test]
    fn functions_hold_at_the_ends_of_the_range() {
        for x in [-1e30, f32::NEG_INFINITY, -200.0] {
            assert_close(&at(x), &[0.0, 0.0, -1.0, 0.0, 0.0, 0.0], 2.5e-7);
            assert_eq!(at(x)[..2], [0.0; 2], "at {x}");
        }
        for x in [1e30, f32::INFINITY, 200.0] {
            assert_close(&at(x)[1..4], &[1.0, 1.0, 0.0], 2.5e-7);
            assert_eq!([at(x)[0], at(x)[1], at(x)[4], at(x)[5]], [f32::INFINITY, 1.0, x, 1.0], "at {x}");
        }
        assert_eq!(at(0.0), [1.0, 0.5, 0.0, 0.5, 0.0, 0.5]);
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
