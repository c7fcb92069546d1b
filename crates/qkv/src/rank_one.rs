//! The numbers that scores of rank one are sums of, as in graph attention networks (Veličković et al. 2018): of each vector one as a
//! query and one as a key, for each head.
//!
//! ```text
//! forward    q[t,h] = x[t,h] · a[h];                     k[t,h] = x[t,h] · b[h]
//! backward   d_x[t,h] += d_q[t,h] a[h] + d_k[t,h] b[h];  d_a[h] = Σ_t d_q[t,h] x[t,h];  d_b[h] = Σ_t d_k[t,h] x[t,h]
//! ```
//!
//! `x` is also what attention sums up, so its gradient is there already when this one is added to it.

use crate::attention::pair_dot;
use crate::blocks;
use crate::isa::{Target, isa_dispatch};
use crate::math::sum_rows;

/// `query` and `key`, `[tokens, heads]`, of `x` `[tokens, heads, dim]` and `weights` `[2, heads, dim]`, a then b.
///
/// # Panics
///
/// If a slice has another length than its shape.
pub fn rank_one_forward(x: &[f32], weights: &[f32], heads: usize, query: &mut [f32], key: &mut [f32]) {
    let width = check(x, weights, heads, [query.len(), key.len()]);
    if query.is_empty() {
        return;
    }
    let rows = blocks::rows_per_block(width);
    let parts = x.chunks(rows * width).zip(query.chunks_mut(rows * heads).zip(key.chunks_mut(rows * heads)));
    blocks::for_each(x.len(), parts, |(x, (query, key))| scores(x, weights, heads, query, key));
}

fn check(x: &[f32], weights: &[f32], heads: usize, numbers: [usize; 2]) -> usize {
    let width = weights.len() / 2;
    assert!(
        heads > 0 && width > 0 && weights.len() == 2 * width && width.is_multiple_of(heads),
        "rank_one: {} weights, expected 2 · {heads} · dim",
        weights.len()
    );
    let tokens = x.len() / width;
    assert_eq!(x.len(), tokens * width, "rank_one: x has {} numbers, expected rows of {width}", x.len());
    assert_eq!(
        numbers,
        [tokens * heads; 2],
        "rank_one: numbers of queries and keys for {tokens} rows of {heads} heads"
    );
    width
}

#[inline(always)]
fn scores_body<T: Target>(x: &[f32], weights: &[f32], heads: usize, query: &mut [f32], key: &mut [f32]) {
    let width = weights.len() / 2;
    let (a, b) = weights.split_at(width);
    let dim = width / heads;
    let rows = x.chunks_exact(width).zip(query.chunks_exact_mut(heads).zip(key.chunks_exact_mut(heads)));
    for (x, (query, key)) in rows {
        let of_heads = x.chunks_exact(dim).zip(a.chunks_exact(dim).zip(b.chunks_exact(dim)));
        for ((x, (a, b)), (query, key)) in of_heads.zip(query.iter_mut().zip(key)) {
            (*query, *key) = (dot::<T>(x, a), dot::<T>(x, b));
        }
    }
}
isa_dispatch!(fn scores(x: &[f32], weights: &[f32], heads: usize, query: &mut [f32], key: &mut [f32]) = scores_body);

#[inline(always)]
fn dot<T: Target>(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    // SAFETY: the instruction set is that of `T`, and both have so many numbers.
    unsafe { pair_dot::<T::Vector>(a.len(), a.as_ptr(), b.as_ptr()) }
}

/// The gradients of [`rank_one_forward`]: added to `d_x` `[tokens, heads, dim]`, and `d_weights` `[2, heads, dim]`, overwritten.
///
/// # Panics
///
/// If a slice has another length than its shape.
pub fn rank_one_backward(
    x: &[f32],
    weights: &[f32],
    heads: usize,
    [d_query, d_key]: [&[f32]; 2],
    d_x: &mut [f32],
    d_weights: &mut [f32],
) {
    let width = check(x, weights, heads, [d_query.len(), d_key.len()]);
    assert_eq!(d_x.len(), x.len(), "rank_one: x has {} numbers, its gradient {}", x.len(), d_x.len());
    assert_eq!(d_weights.len(), weights.len(), "rank_one: {} weights, {} gradients", weights.len(), d_weights.len());
    if x.is_empty() {
        d_weights.fill(0.0);
        return;
    }
    let rows = blocks::rows_per_block(width).max(32);
    let mut partial = vec![0.0; x.len().div_ceil(rows * width) * weights.len()];
    let numbers = d_query.chunks(rows * heads).zip(d_key.chunks(rows * heads));
    let parts = x.chunks(rows * width).zip(d_x.chunks_mut(rows * width)).zip(numbers);
    blocks::for_each(x.len(), parts.zip(partial.chunks_mut(weights.len())), |(((x, d_x), (d_query, d_key)), sums)| {
        gradients(x, weights, heads, d_query, d_key, d_x, sums);
    });
    sum_rows(&partial, d_weights);
}

#[inline(always)]
fn gradients_body<T: Target>(
    x: &[f32],
    weights: &[f32],
    heads: usize,
    d_query: &[f32],
    d_key: &[f32],
    d_x: &mut [f32],
    d_weights: &mut [f32],
) {
    let width = weights.len() / 2;
    let dim = width / heads;
    let (a, b) = weights.split_at(width);
    let (d_a, d_b) = d_weights.split_at_mut(width);
    let rows = x.chunks_exact(width).zip(d_x.chunks_exact_mut(width));
    for ((x, d_x), (d_query, d_key)) in rows.zip(d_query.chunks_exact(heads).zip(d_key.chunks_exact(heads))) {
        for (head, (&d_query, &d_key)) in d_query.iter().zip(d_key).enumerate() {
            let own = head * dim..(head + 1) * dim;
            let [x, a, b] = [x, a, b].map(|numbers| &numbers[own.clone()]);
            let [d_x, d_a, d_b] = [&mut *d_x, &mut *d_a, &mut *d_b].map(|numbers| &mut numbers[own.clone()]);
            for i in 0..dim {
                d_x[i] = T::mul_add(d_query, a[i], T::mul_add(d_key, b[i], d_x[i]));
                d_a[i] = T::mul_add(d_query, x[i], d_a[i]);
                d_b[i] = T::mul_add(d_key, x[i], d_b[i]);
            }
        }
    }
}
isa_dispatch!(pub(crate) fn gradients(x: &[f32], weights: &[f32], heads: usize, d_query: &[f32], d_key: &[f32], d_x: &mut [f32], d_weights: &mut [f32]) = gradients_body);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, differences, dot, numbers, same_bits_with_any_threads, to_f64};
    use proptest::prelude::*;

    fn reference(x: &[f64], weights: &[f64], heads: usize) -> Vec<f64> {
        let width = weights.len() / 2;
        let dim = width / heads;
        let of = |weights: &[f64]| -> Vec<f64> {
            x.chunks_exact(dim)
                .enumerate()
                .map(|(at, x)| {
                    let head = at % heads;
                    x.iter().zip(&weights[head * dim..][..dim]).map(|(x, w)| x * w).sum()
                })
                .collect()
        };
        [of(&weights[..width]), of(&weights[width..])].concat()
    }

    /// Queries and keys, then the gradients of `x`, which begins at `before`, and of the weights.
    fn ours(x: &[f32], weights: &[f32], heads: usize, d_out: &[f32], before: f32) -> [Vec<f32>; 3] {
        let count = d_out.len() / 2;
        let mut out = vec![f32::NAN; 2 * count];
        let (query, key) = out.split_at_mut(count);
        rank_one_forward(x, weights, heads, query, key);
        let (mut d_x, mut d_weights) = (vec![before; x.len()], vec![f32::NAN; weights.len()]);
        let (d_query, d_key) = d_out.split_at(count);
        rank_one_backward(x, weights, heads, [d_query, d_key], &mut d_x, &mut d_weights);
        [out, d_x, d_weights]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn forward_and_backward_equal_the_reference(
            tokens in prop::sample::select(&[0_usize, 1, 2, 7][..]), heads in 1_usize..4,
            dim in prop::sample::select(&[1_usize, 2, 15, 16, 33][..]), seed: u64,
        ) {
            let (x, weights) = (numbers(tokens * heads * dim, seed), numbers(2 * heads * dim, 2));
            let d_out = numbers(2 * tokens * heads, 3);
            let [out, d_x, d_weights] = ours(&x, &weights, heads, &d_out, 0.0);
            let (x_64, weights_64) = (to_f64(&x), to_f64(&weights));
            assert_close(&out, &reference(&x_64, &weights_64, heads), 2e-6);
            assert_close(&d_x, &differences(&x, |x| dot(&reference(x, &weights_64, heads), &d_out)), 2e-6);
            assert_close(&d_weights, &differences(&weights, |w| dot(&reference(&x_64, w, heads), &d_out)), 5e-6);
            // What was there before stays.
            let [_, more, _] = ours(&x, &weights, heads, &d_out, 1.0);
            assert_close(&more, &d_x.iter().map(|x| f64::from(*x) + 1.0).collect::<Vec<_>>(), 2e-6);
        }
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        let (x, weights, d_out) = (numbers(3000 * 4 * 17, 1), numbers(2 * 4 * 17, 2), numbers(2 * 3000 * 4, 3));
        same_bits_with_any_threads(|| ours(&x, &weights, 4, &d_out, 0.0).concat());
    }

    #[test]
    #[should_panic(expected = "x has 5 numbers, expected rows of 3")]
    fn a_wrong_length_panics() {
        rank_one_forward(&[0.0; 5], &[0.0; 6], 1, &mut [0.0; 1], &mut [0.0; 1]);
    }
}
