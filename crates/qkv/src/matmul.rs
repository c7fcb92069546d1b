//! Matrix products without anything around them: a thin layer over the `gemm` crate, for the gradient of the LSTM's recurrent
//! weights and for comparisons. Layers multiply by [`product`](crate::product).
//!
//! `gemm` picks its own instruction set, whatever `QKV_ISA` says. It never splits the inner dimension between threads,
//! so that the bits do not depend on their number; a test here holds it to that.

use gemm::Parallelism;

/// How a matrix lies in its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Row-major, as the product wants it.
    Normal,
    /// Row-major, but of the transposed matrix.
    Transposed,
}

/// `out = a · b` with `a` `[m, k]`, `b` `[k, n]` and `out` `[m, n]`. Where a layout is [`Layout::Transposed`], the slice
/// holds `[k, m]` or `[n, k]` instead. With `k = 0` the result is zero.
///
/// # Panics
///
/// If a slice has another length than its shape.
#[allow(clippy::too_many_arguments, reason = "two matrices with their layouts, and the three sizes of every product")]
pub fn matmul(a: &[f32], a_layout: Layout, b: &[f32], b_layout: Layout, out: &mut [f32], m: usize, k: usize, n: usize) {
    product(a, a_layout, b, b_layout, out, (m, k, n), false);
}

/// As [`matmul`], but added to what `out` holds: `out += a · b`.
///
/// # Panics
///
/// If a slice has another length than its shape.
#[allow(clippy::too_many_arguments, reason = "as in `matmul`")]
pub fn matmul_add(
    a: &[f32],
    a_layout: Layout,
    b: &[f32],
    b_layout: Layout,
    out: &mut [f32],
    m: usize,
    k: usize,
    n: usize,
) {
    product(a, a_layout, b, b_layout, out, (m, k, n), true);
}

fn product(
    a: &[f32],
    a_layout: Layout,
    b: &[f32],
    b_layout: Layout,
    out: &mut [f32],
    (m, k, n): (usize, usize, usize),
    add: bool,
) {
    assert_eq!(Some(a.len()), m.checked_mul(k), "matmul: a has {} numbers, expected {m} · {k}", a.len());
    assert_eq!(Some(b.len()), k.checked_mul(n), "matmul: b has {} numbers, expected {k} · {n}", b.len());
    assert_eq!(Some(out.len()), m.checked_mul(n), "matmul: out has {} numbers, expected {m} · {n}", out.len());
    // (column stride, row stride)
    let strides = |layout, rows: usize, columns: usize| match layout {
        Layout::Normal => (1, columns as isize),
        Layout::Transposed => (rows as isize, 1),
    };
    let (a_column, a_row) = strides(a_layout, m, k);
    let (b_column, b_row) = strides(b_layout, k, n);
    let parallelism = if rayon::current_num_threads() > 1 { Parallelism::Rayon(0) } else { Parallelism::None };
    // SAFETY: the asserts above say that each slice holds exactly rows · columns numbers, and its strides are those of a
    // dense matrix of that shape, so every element addressed lies inside it; `out` is borrowed alone, and overlaps none.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.as_ptr(),
            a_column,
            a_row,
            b.as_ptr(),
            b_column,
            b_row,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers, same_bits_with_any_threads};
    use proptest::prelude::*;

    fn reference(a: &[f32], ta: Layout, b: &[f32], tb: Layout, m: usize, k: usize, n: usize) -> Vec<f64> {
        let a_at = |i: usize, p: usize| f64::from(if ta == Layout::Normal { a[i * k + p] } else { a[p * m + i] });
        let b_at = |p: usize, j: usize| f64::from(if tb == Layout::Normal { b[p * n + j] } else { b[j * k + p] });
        (0..m * n).map(|at| (0..k).map(|p| a_at(at / n, p) * b_at(p, at % n)).sum()).collect()
    }

    const LAYOUTS: [Layout; 2] = [Layout::Normal, Layout::Transposed];
    const SIZES: [usize; 6] = [0, 1, 2, 3, 59, 113];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn products_of_every_layout_equal_the_reference(
            m in prop::sample::select(&SIZES[..]), k in prop::sample::select(&SIZES[..]), n in prop::sample::select(&SIZES[..]),
            ta in prop::sample::select(&LAYOUTS[..]), tb in prop::sample::select(&LAYOUTS[..]),
        ) {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let expected = reference(&a, ta, &b, tb, m, k, n);
            let mut out = vec![f32::NAN; m * n];
            matmul(&a, ta, &b, tb, &mut out, m, k, n);
            assert_close(&out, &expected, 1e-5);
            let start = numbers(m * n, 3);
            let mut added = start.clone();
            matmul_add(&a, ta, &b, tb, &mut added, m, k, n);
            let expected: Vec<f64> = expected.iter().zip(&start).map(|(p, s)| p + f64::from(*s)).collect();
            assert_close(&added, &expected, 1e-5);
        }
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        for (m, k, n) in
            [(113, 59, 203), (512, 1000, 256), (3000, 64, 8), (1, 4000, 700), (700, 4000, 1), (64, 5000, 64)]
        {
            for (ta, tb) in [
                (Layout::Normal, Layout::Normal),
                (Layout::Transposed, Layout::Normal),
                (Layout::Normal, Layout::Transposed),
            ] {
                let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                same_bits_with_any_threads(|| {
                    let mut out = vec![0.0; m * n];
                    matmul(&a, ta, &b, tb, &mut out, m, k, n);
                    out
                });
            }
        }
    }

    #[test]
    #[should_panic(expected = "matmul: b has 5 numbers, expected 2 · 3")]
    fn a_wrong_length_panics() {
        matmul(&[0.0; 2], Layout::Normal, &[0.0; 5], Layout::Normal, &mut [0.0; 3], 1, 2, 3);
    }
}
