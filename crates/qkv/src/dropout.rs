//! Dropout: each number kept with probability `1 - rate` and scaled by its inverse, or zero.
//!
//! ```text
//! kept(i) = bits(key, i) ≥ rate · 2³²
//! out_i   = x_i / (1 - rate)   if kept(i), else 0
//! ```
//!
//! The mask is a function of the key and the position, so it is nowhere stored: the backward pass is **the same function
//! with the same key, applied to `d_out`**.

use crate::blocks::{self, BLOCK};
use crate::isa::{Target, isa_dispatch};
use crate::random::{Block, Key};

/// `out[i] = x[i] / (1 - rate)` where position `i` is kept under `key`, else 0. Also the backward pass: `d_x` is this of
/// `d_out`.
///
/// # Panics
///
/// If `x` and `out` differ in length, or `rate` is not in `[0, 1)`.
pub fn dropout(x: &[f32], rate: f32, key: Key, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "dropout: x has {} numbers, out {}", x.len(), out.len());
    let Some((threshold, scale)) = plan_or_panic(rate) else {
        out.copy_from_slice(x);
        return;
    };
    let work = x.len();
    blocks::for_each(work, x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).enumerate(), |(block, (x, out))| {
        // BLOCK divides 2³², so that the upper half of the index is the same in a whole block
        let first = (block * BLOCK) as u64;
        copy_kept(x, out, key.block(first), first as u32, threshold, scale);
    });
}

/// As [`dropout`], with `x` itself as the output.
///
/// # Panics
///
/// If `rate` is not in `[0, 1)`.
pub fn dropout_in_place(x: &mut [f32], rate: f32, key: Key) {
    let Some((threshold, scale)) = plan_or_panic(rate) else { return };
    let work = x.len();
    blocks::for_each(work, x.chunks_mut(BLOCK).enumerate(), |(block, x)| {
        let first = (block * BLOCK) as u64;
        keep(x, key.block(first), first as u32, threshold, scale);
    });
}

/// The smallest bits that are kept and the scale; `None` unless the rate is in [0, 1).
pub(crate) fn plan(rate: f32) -> Option<(u32, f32)> {
    // the largest rate below 1 is 1 - 2⁻²⁴, so that the product fits
    let threshold = (f64::from(rate) * 4_294_967_296.0).round() as u32;
    (0.0..1.0).contains(&rate).then(|| (threshold, 1.0 / (1.0 - rate)))
}

/// The same; `None` where nothing is to be done.
pub(crate) fn plan_or_panic(rate: f32) -> Option<(u32, f32)> {
    let Some((threshold, scale)) = plan(rate) else { panic!("dropout: rate {rate} is not in [0, 1)") };
    (threshold > 0).then_some((threshold, scale))
}

#[inline(always)]
pub(crate) fn kept_or_zero(x: f32, bits: u32, threshold: u32, scale: f32) -> f32 {
    if bits >= threshold { x * scale } else { 0.0 }
}

#[inline(always)]
fn copy_kept_body<T: Target>(x: &[f32], out: &mut [f32], block: Block, first: u32, threshold: u32, scale: f32) {
    for (i, (out, &x)) in (0_u32..).zip(out.iter_mut().zip(x)) {
        *out = kept_or_zero(x, block.bits(first.wrapping_add(i)), threshold, scale);
    }
}
isa_dispatch!(fn copy_kept(x: &[f32], out: &mut [f32], block: Block, first: u32, threshold: u32, scale: f32) = copy_kept_body);

#[inline(always)]
fn keep_body<T: Target>(x: &mut [f32], block: Block, first: u32, threshold: u32, scale: f32) {
    for (i, x) in (0_u32..).zip(x) {
        *x = kept_or_zero(*x, block.bits(first.wrapping_add(i)), threshold, scale);
    }
}
isa_dispatch!(fn keep(x: &mut [f32], block: Block, first: u32, threshold: u32, scale: f32) = keep_body);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{numbers, same_bits_with_any_threads};
    use proptest::prelude::*;

    #[test]
    fn the_rate_is_what_was_asked_for_and_the_mean_is_kept() {
        const N: usize = 1 << 20;
        for rate in [0.1_f32, 0.5, 0.9] {
            let mut out = vec![0.0; N];
            dropout(&vec![1.0; N], rate, Key::new(9), &mut out);
            let dropped = out.iter().filter(|x| **x == 0.0).count() as f64 / N as f64;
            let deviation = (f64::from(rate) * (1.0 - f64::from(rate)) / N as f64).sqrt();
            assert!((dropped - f64::from(rate)).abs() < 5.0 * deviation, "{dropped} of rate {rate}");
            assert!(out.iter().all(|x| *x == 0.0 || *x == 1.0 / (1.0 - rate)));
        }
    }

    #[test]
    fn rate_zero_keeps_everything() {
        let x = numbers(113, 1);
        let mut out = vec![0.0; 113];
        dropout(&x, 0.0, Key::new(1), &mut out);
        assert_eq!(out, x);
    }

    #[test]
    fn other_keys_and_neighbouring_rows_drop_other_positions() {
        let mask = |key| {
            let mut out = vec![0.0; 1 << 16];
            dropout(&vec![1.0; 1 << 16], 0.5, key, &mut out);
            out
        };
        let (a, b) = (mask(Key::new(1).fold(0)), mask(Key::new(1).fold(1)));
        let agreement = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
        assert!((agreement(&a, &b) - 0.5).abs() < 0.01);
        assert!((agreement(&a[..65_000], &a[512..65_512]) - 0.5).abs() < 0.01);
    }

    #[test]
    #[should_panic(expected = "rate 1 is not in [0, 1)")]
    fn rate_one_panics() {
        dropout(&[], 1.0, Key::new(1), &mut []);
    }

    #[test]
    #[should_panic(expected = "x has 2 numbers, out 3")]
    fn a_wrong_length_panics() {
        dropout(&[0.0; 2], 0.5, Key::new(1), &mut [0.0; 3]);
    }

    proptest! {
        #[test]
        fn every_position_follows_its_own_bits(n in prop::sample::select(&[0_usize, 1, 2, 59, 113, 40_000][..]), seed: u64, rate in 0.0_f32..1.0) {
            let (x, key) = (numbers(n, seed), Key::new(seed));
            let mut out = vec![f32::NAN; n];
            dropout(&x, rate, key, &mut out);
            let threshold = (f64::from(rate) * 4_294_967_296.0).round();
            for i in 0..n {
                let kept = f64::from(key.bits(i as u64)) >= threshold;
                prop_assert_eq!(out[i], if kept { x[i] * (1.0 / (1.0 - rate)) } else { 0.0 });
            }
            let mut in_place = x;
            dropout_in_place(&mut in_place, rate, key);
            prop_assert_eq!(in_place, out);
        }
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        let x = numbers(200_001, 1);
        same_bits_with_any_threads(|| {
            let mut out = vec![0.0; x.len()];
            dropout(&x, 0.3, Key::new(4), &mut out);
            out
        });
    }
}
