//! A small matrix product whose bits, row by row, do not depend on how many rows there are.
//!
//! ```text
//! right[k, n] packed in strips of 32 columns: strip s holds [k, 32], zeros beyond n
//! for each strip, for each block of T::TILE_ROWS rows (then 4, 2, 1):
//!     acc[row][column] = 0;  for p in 0..k: acc[row][column] += left[row][p] · strip[p][column]
//! ```
//!
//! Each number of the result is one chain over `p`, ascending, in every block. For the recurrent product of a few rows,
//! where `gemm` chooses its order by shape. Strips outside, rows inside: a strip of 256 rows is 32 KiB and stays in the
//! first-level cache while all blocks of rows pass over it.

use crate::isa::{Target, isa_dispatch};
use crate::matmul::Layout;
use crate::strip::{STRIP, Strip};

/// The right-hand side, packed once for many products.
pub(crate) struct PackedRight {
    strips: Vec<f32>,
    inner: usize,
    columns: usize,
}

impl PackedRight {
    /// From `[inner, columns]`, or `[columns, inner]` if transposed. `inner` and `columns` are not 0.
    pub(crate) fn new(right: &[f32], layout: Layout, inner: usize, columns: usize) -> Self {
        assert_eq!(right.len(), inner * columns, "right-hand side of [{inner}, {columns}]");
        let mut strips = vec![0.0; columns.div_ceil(STRIP) * inner * STRIP];
        for (s, strip) in strips.chunks_exact_mut(inner * STRIP).enumerate() {
            let first = s * STRIP;
            let width = STRIP.min(columns - first);
            for (p, row) in strip.chunks_exact_mut(STRIP).enumerate() {
                match layout {
                    Layout::Normal => row[..width].copy_from_slice(&right[p * columns + first..][..width]),
                    Layout::Transposed => {
                        row[..width].iter_mut().enumerate().for_each(|(n, x)| *x = right[(first + n) * inner + p]);
                    }
                }
            }
        }
        Self { strips, inner, columns }
    }
}

#[inline(always)]
fn multiply_body<T: Target>(left: &[f32], right: &PackedRight, out: &mut [f32]) {
    let (inner, columns) = (right.inner, right.columns);
    let rows = left.len() / inner;
    for (s, strip) in right.strips.chunks_exact(inner * STRIP).enumerate() {
        let first = s * STRIP;
        let mut row = 0;
        while row < rows {
            let left = &left[row * inner..];
            let out = &mut out[row * columns + first..];
            row += match rows - row {
                8.. if T::TILE_ROWS >= 8 => tile::<T, 8>(left, strip, inner, columns, first, out),
                4.. if T::TILE_ROWS >= 4 => tile::<T, 4>(left, strip, inner, columns, first, out),
                2.. if T::TILE_ROWS >= 2 => tile::<T, 2>(left, strip, inner, columns, first, out),
                _ => tile::<T, 1>(left, strip, inner, columns, first, out),
            };
        }
    }
}
isa_dispatch!(
    /// `out = left · right` with `left` `[rows, inner]` and `out` `[rows, columns]`, on the calling thread.
    pub(crate) fn multiply(left: &[f32], right: &PackedRight, out: &mut [f32]) = multiply_body
);

/// One tile of `ROWS` rows; `out` begins at its first number. Returns `ROWS`.
#[inline(always)]
fn tile<T: Target, const ROWS: usize>(
    left: &[f32],
    strip: &[f32],
    inner: usize,
    columns: usize,
    first: usize,
    out: &mut [f32],
) -> usize {
    let left: [&[f32]; ROWS] = std::array::from_fn(|row| &left[row * inner..][..inner]);
    // SAFETY: `multiply` is the only way here, and `isa_dispatch!` calls its body for `T` only on a processor that has the
    // instruction set of `T`.
    let acc: [[f32; STRIP]; ROWS] = unsafe {
        let mut acc = [T::Strip::zero(); ROWS];
        for (p, right) in strip.as_chunks().0.iter().enumerate() {
            let right = T::Strip::load(right);
            for (acc, left) in acc.iter_mut().zip(left) {
                *acc = acc.add_product(left[p], right);
            }
        }
        // (a closure would be compiled for any processor, and its steps called)
        let mut stored = [[0.0; STRIP]; ROWS];
        for (stored, acc) in stored.iter_mut().zip(acc) {
            *stored = acc.store();
        }
        stored
    };
    let width = STRIP.min(columns - first);
    for (row, acc) in acc.iter().enumerate() {
        out[row * columns..][..width].copy_from_slice(&acc[..width]);
    }
    ROWS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    #[test]
    fn every_row_equals_the_reference_and_has_the_bits_it_has_alone() {
        for (rows, inner, columns) in [(1, 1, 1), (2, 59, 33), (15, 113, 64), (8, 7, 236)] {
            for layout in [Layout::Normal, Layout::Transposed] {
                let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
                let packed = PackedRight::new(&right, layout, inner, columns);
                let mut out = vec![f32::NAN; rows * columns];
                multiply(&left, &packed, &mut out);
                let at = |p: usize, n: usize| {
                    if layout == Layout::Normal { right[p * columns + n] } else { right[n * inner + p] }
                };
                let expected = (0..rows * columns).map(|i| {
                    (0..inner).map(|p| f64::from(left[i / columns * inner + p]) * f64::from(at(p, i % columns))).sum()
                });
                assert_close(&out, &expected.collect::<Vec<f64>>(), 1e-5);
                for (left, out) in left.chunks_exact(inner).zip(out.chunks_exact(columns)) {
                    let mut alone = vec![f32::NAN; columns];
                    multiply(left, &packed, &mut alone);
                    assert_eq!(alone, out);
                }
            }
        }
    }
}
