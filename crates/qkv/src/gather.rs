//! Rows of a table, picked by number and added; and the way back.
//!
//! ```text
//! forward    out_i = Σ_f table[ids[i, f]]                  f ascending, NONE skipped
//! backward   d_table_r = Σ_{(i, f): ids[i, f] = r} d_out_i     (i, f) ascending
//! ```
//!
//! One pair serves embeddings, sums of several features, and windows (NONE beyond an end). The backward pass first sorts the positions by row, by counting, so that each row of the table has one
//! owner and a fixed order of additions; no two threads ever write to one row.

use crate::blocks;
use crate::isa::{Target, isa_dispatch};

/// The id that names no row: it adds nothing, and gets no gradient.
pub const NONE: u32 = u32::MAX;

/// `out[i] = Σ_f table[ids[i * width + f]]` with `table` `[rows, dim]`, `ids` `[tokens, width]` and `out` `[tokens, dim]`.
/// An id that is [`NONE`] is skipped.
///
/// # Panics
///
/// If a slice has another length than its shape, or an id is neither [`NONE`] nor below `rows`.
pub fn gather_sum(table: &[f32], dim: usize, ids: &[u32], width: usize, out: &mut [f32]) {
    if dim == 0 {
        return;
    }
    let tokens = out.len() / dim;
    assert_eq!(table.len() % dim, 0, "gather_sum: table has {} numbers, expected rows of {dim}", table.len());
    assert!(
        out.len() == tokens * dim && ids.len() == tokens * width,
        "gather_sum: out has {} numbers and ids {}, expected [tokens, {dim}] and [tokens, {width}]",
        out.len(),
        ids.len()
    );
    if width == 0 {
        out.fill(0.0);
        return;
    }
    let block = blocks::rows_per_block(dim * width);
    let work = ids.len() * dim;
    blocks::for_each(work, ids.chunks(block * width).zip(out.chunks_mut(block * dim)), |(ids, out)| {
        pick(table, dim, ids, width, out);
    });
}

#[inline(always)]
fn pick_body<T: Target>(table: &[f32], dim: usize, ids: &[u32], width: usize, out: &mut [f32]) {
    for (ids, out) in ids.chunks_exact(width).zip(out.chunks_exact_mut(dim)) {
        let mut rows = ids.iter().filter(|id| **id != NONE).map(|&id| row_of(table, dim, id));
        match rows.next() {
            Some(row) => out.copy_from_slice(row),
            None => out.fill(0.0),
        }
        for row in rows {
            crate::math::add_to(out, row);
        }
    }
}
isa_dispatch!(fn pick(table: &[f32], dim: usize, ids: &[u32], width: usize, out: &mut [f32]) = pick_body);

#[inline(always)]
fn row_of(table: &[f32], dim: usize, id: u32) -> &[f32] {
    let first = id as usize * dim;
    table.get(first..first + dim).unwrap_or_else(|| outside(id, table.len() / dim))
}

#[cold]
#[inline(never)]
fn outside(id: u32, rows: usize) -> ! {
    panic!("gather: id {id} of a table of {rows} rows")
}

/// `out[i]` the mean of `width` rows of `table` that follow each other, from row `i · width` on, with `table` `[tokens · width, dim]` and `out`
/// `[tokens, dim]`.
///
/// # Panics
///
/// If a slice has another length than its shape, or `width` is 0.
pub fn neighbour_mean(table: &[f32], dim: usize, width: usize, out: &mut [f32]) {
    assert!(
        width > 0 && table.len() == out.len() * width && out.len().is_multiple_of(dim),
        "neighbour_mean: out has {} numbers and table {}, expected [tokens, {dim}] and [tokens · {width}, {dim}]",
        out.len(),
        table.len()
    );
    if out.is_empty() {
        return;
    }
    let rows = blocks::rows_per_block(dim * width);
    let parts = table.chunks(rows * width * dim).zip(out.chunks_mut(rows * dim));
    blocks::for_each(table.len(), parts, |(table, out)| mean_of_rows(table, dim, width, out));
}

#[inline(always)]
fn mean_of_rows_body<T: Target>(table: &[f32], dim: usize, width: usize, out: &mut [f32]) {
    let share = 1.0 / width as f32;
    for (rows, out) in table.chunks_exact(width * dim).zip(out.chunks_exact_mut(dim)) {
        let (first, others) = rows.split_at(dim);
        out.copy_from_slice(first);
        for row in others.chunks_exact(dim) {
            crate::math::add_to(out, row);
        }
        out.iter_mut().for_each(|x| *x *= share);
    }
}
isa_dispatch!(fn mean_of_rows(table: &[f32], dim: usize, width: usize, out: &mut [f32]) = mean_of_rows_body);

/// The way back of [`neighbour_mean`]: `d_rows` becomes the gradient that each of the rows has whose mean has the gradient `d_out`, both
/// `[tokens, dim]`.
///
/// # Panics
///
/// If the slices differ in length.
pub fn neighbour_mean_backward(d_out: &[f32], width: usize, d_rows: &mut [f32]) {
    assert_eq!(d_out.len(), d_rows.len(), "neighbour_mean_backward: slices of two lengths");
    let share = 1.0 / width as f32;
    let parts = d_out.chunks(blocks::BLOCK).zip(d_rows.chunks_mut(blocks::BLOCK));
    blocks::for_each(d_out.len(), parts, |(d_out, d_rows)| {
        d_rows.iter_mut().zip(d_out).for_each(|(to, from)| *to = share * from);
    });
}

/// Undoes [`gather_sum`]: `d_table[r] = Σ d_out[i]` over all positions of `ids` that hold `r`, with `d_out`
/// `[tokens, dim]`, `ids` `[tokens, width]` and `d_table` `[rows, dim]`. What `d_table` held is overwritten.
///
/// # Panics
///
/// If a slice has another length than its shape, or an id is neither [`NONE`] nor below `rows`, or there are 2³² ids.
pub fn scatter_sum(d_out: &[f32], dim: usize, ids: &[u32], width: usize, rows: usize, d_table: &mut [f32]) {
    assert_eq!(
        d_table.len(),
        rows * dim,
        "scatter_sum: d_table has {} numbers, expected [{rows}, {dim}]",
        d_table.len()
    );
    let tokens = ids.len().checked_div(width).unwrap_or(0);
    assert!(
        width == 0 || (ids.len() == tokens * width && d_out.len() == tokens * dim),
        "scatter_sum: d_out has {} numbers and ids {}, expected [tokens, {dim}] and [tokens, {width}]",
        d_out.len(),
        ids.len()
    );
    assert!(ids.len() < u32::MAX as usize, "scatter_sum: {} ids, expected fewer than 2³² - 1", ids.len());
    if d_table.is_empty() {
        assert!(dim == 0 || ids.iter().all(|&id| id == NONE), "gather: an id of a table of {rows} rows");
        return;
    }
    let (starts, sources) = sources_of_rows(ids, width, rows);
    // rows that make a block of work on average: few where a small table is used often
    let block = (blocks::BLOCK * rows / ((ids.len() + rows) * dim)).clamp(1, rows);
    let work = (ids.len() + rows) * dim;
    blocks::for_each(work, d_table.chunks_mut(block * dim).enumerate(), |(index, d_rows)| {
        let first = index * block;
        add_sources(d_out, dim, &starts[first..=first + d_rows.len() / dim], &sources, d_rows);
    });
}

/// The tokens that name each row, ascending: row `r` has `sources[starts[r]..starts[r + 1]]`. A counting sort.
fn sources_of_rows(ids: &[u32], width: usize, rows: usize) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0_u32; rows + 1];
    for &id in ids.iter().filter(|id| **id != NONE) {
        match starts.get_mut(id as usize + 1) {
            Some(count) => *count += 1,
            None => outside(id, rows),
        }
    }
    for row in 0..rows {
        starts[row + 1] += starts[row];
    }
    let mut next = starts.clone();
    let mut sources = vec![0_u32; starts[rows] as usize];
    if width > 0 {
        for (token, ids) in (0_u32..).zip(ids.chunks_exact(width)) {
            for &id in ids.iter().filter(|id| **id != NONE) {
                let place = &mut next[id as usize];
                sources[*place as usize] = token;
                *place += 1;
            }
        }
    }
    (starts, sources)
}

#[inline(always)]
fn add_sources_body<T: Target>(d_out: &[f32], dim: usize, starts: &[u32], sources: &[u32], d_rows: &mut [f32]) {
    for (bounds, d_row) in starts.windows(2).zip(d_rows.chunks_exact_mut(dim)) {
        d_row.fill(0.0);
        for &token in &sources[bounds[0] as usize..bounds[1] as usize] {
            crate::math::add_to(d_row, &d_out[token as usize * dim..][..dim]);
        }
    }
}
isa_dispatch!(fn add_sources(d_out: &[f32], dim: usize, starts: &[u32], sources: &[u32], d_rows: &mut [f32]) = add_sources_body);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, differences, dot, numbers, same_bits_with_any_threads};
    use proptest::prelude::*;

    fn random_ids(n: usize, rows: usize) -> Vec<u32> {
        let key = crate::Key::new(77);
        let draw = |i| key.bits(i) % (rows as u32 + 1);
        (0..n as u64).map(|i| if draw(i) == rows as u32 { NONE } else { draw(i) }).collect()
    }

    fn reference(table: &[f64], dim: usize, ids: &[u32], width: usize) -> Vec<f64> {
        let mut out = vec![0.0; ids.len() / width * dim];
        for (position, &id) in ids.iter().enumerate().filter(|(_, id)| **id != NONE) {
            for d in 0..dim {
                out[position / width * dim + d] += table[id as usize * dim + d];
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn forward_and_backward_equal_the_reference(
            dim in prop::sample::select(&[0_usize, 1, 2, 59][..]), width in 1_usize..4,
            tokens in prop::sample::select(&[0_usize, 1, 2, 59, 113][..]), rows in prop::sample::select(&[1_usize, 2, 7][..]),
        ) {
            let (table, ids) = (numbers(rows * dim, 1), random_ids(tokens * width, rows));
            let mut out = vec![f32::NAN; tokens * dim];
            gather_sum(&table, dim, &ids, width, &mut out);
            assert_close(&out, &reference(&crate::testing::to_f64(&table), dim, &ids, width), 1e-6);
            let d_out = numbers(tokens * dim, 2);
            let mut d_table = vec![f32::NAN; rows * dim];
            scatter_sum(&d_out, dim, &ids, width, rows, &mut d_table);
            let expected = differences(&table, |table| dot(&reference(table, dim, &ids, width), &d_out));
            assert_close(&d_table, &expected, 1e-5);
        }
    }

    #[test]
    fn packing_and_unpacking_are_each_other_s_way_back() {
        // two sets of 2 and 1 vectors, padded to 2
        let (pack, unpack) = ([0, 1, 2], [0, 1, 2, NONE]);
        let padded = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0, 9.0];
        let (mut packed, mut back) = ([0.0; 6], [f32::NAN; 8]);
        gather_sum(&padded, 2, &pack, 1, &mut packed);
        assert_eq!(packed, padded[..6]);
        gather_sum(&packed, 2, &unpack, 1, &mut back);
        assert_eq!(back, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0]);
    }

    #[test]
    fn the_mean_of_rows_that_follow_each_other_and_its_gradient() {
        for (tokens, dim, width) in [(0, 3, 2), (1, 1, 1), (7, 5, 3), (3000, 16, 4), (5, 0, 2)] {
            let table = numbers(tokens * width * dim, 3);
            let reference = |table: &[f64]| -> Vec<f64> {
                let at = |i: usize, d: usize| (0..width).map(|w| table[(i * width + w) * dim + d]).sum::<f64>();
                (0..tokens).flat_map(|i| (0..dim).map(move |d| at(i, d) / width as f64)).collect()
            };
            let mut out = vec![f32::NAN; tokens * dim];
            neighbour_mean(&table, dim, width, &mut out);
            assert_close(&out, &reference(&crate::testing::to_f64(&table)), 1e-6);
            let d_out = numbers(tokens * dim, 4);
            let mut d_rows = vec![f32::NAN; tokens * dim];
            neighbour_mean_backward(&d_out, width, &mut d_rows);
            if tokens < 100 {
                let expected = differences(&table, |table| dot(&reference(table), &d_out));
                let all: Vec<f32> = d_rows.chunks(dim.max(1)).flat_map(|row| row.repeat(width)).collect();
                assert_close(&all, &expected, 1e-5);
            }
        }
    }

    #[test]
    #[should_panic(expected = "id 3 of a table of 3 rows")]
    fn an_id_outside_the_table_panics() {
        gather_sum(&[0.0; 6], 2, &[0, 3], 1, &mut [0.0; 4]);
    }

    #[test]
    #[should_panic(expected = "id 3 of a table of 3 rows")]
    fn an_id_outside_the_gradient_panics() {
        scatter_sum(&[0.0; 4], 2, &[0, 3], 1, 3, &mut [0.0; 6]);
    }

    #[test]
    #[should_panic(expected = "expected [tokens, 2] and [tokens, 3]")]
    fn a_wrong_length_panics() {
        gather_sum(&[0.0; 6], 2, &[0, 1], 3, &mut [0.0; 4]);
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        for (rows, dim) in [(5, 64), (3000, 33)] {
            let (table, ids) = (numbers(rows * dim, 1), random_ids(4000, rows));
            let d_out = numbers(2000 * dim, 2);
            same_bits_with_any_threads(|| {
                let (mut out, mut d_table) = (vec![0.0; 2000 * dim], vec![0.0; rows * dim]);
                gather_sum(&table, dim, &ids, 2, &mut out);
                scatter_sum(&d_out, dim, &ids, 2, rows, &mut d_table);
                [out, d_table].concat()
            });
        }
    }
}
