//! What a bias adds where it lies in a table: rows of a tile put together from runs of it, or looked up number by number.
//!
//! By two coordinates, neighbouring keys of one line of a grid have neighbouring numbers of the table, so that a row of a tile
//! is a few runs of it; and the gradient of the table is added run by run.

use crate::simd::Vector;

/// Columns of a tile whose numbers follow each other in the table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    pub(crate) column: usize,
    pub(crate) len: usize,
    /// Where the first lies, counted from what a row says.
    pub(crate) code: isize,
}

/// A tile, and where its numbers are in a table.
#[derive(Clone, Copy)]
pub(crate) struct Runs<'a> {
    /// `stride` numbers a row.
    pub(crate) tile: *mut f32,
    pub(crate) stride: usize,
    /// In ascending order of columns.
    pub(crate) runs: &'a [Run],
    /// For each row, where code 0 lies, or would.
    pub(crate) rows: &'a [*mut f32],
}

/// `tile[r][c] = rows[r][code of c]`.
///
/// # Safety
///
/// The instruction set of `V`; all numbers exist, with room for a register behind the last of the table and of the tile.
#[inline(always)]
pub(crate) unsafe fn copy_runs<V: Vector>(r: &Runs<'_>) {
    for (row, &from) in r.rows.iter().enumerate() {
        for run in r.runs {
            for at in (0..run.len).step_by(V::LANES) {
                // SAFETY: by the contract; what is written behind the end of a run is overwritten by the next.
                unsafe {
                    let x = V::load(from.wrapping_offset(run.code).wrapping_add(at));
                    x.store(r.tile.add(row * r.stride + run.column + at));
                }
            }
        }
    }
}

/// Rows between two that are added one after the other: registers that overlap what has just been written would wait for it.
const APART: usize = 17;

/// `rows[r][code of c] += tile[r][c]`.
///
/// # Safety
///
/// That of [`copy_runs`].
#[inline(always)]
pub(crate) unsafe fn add_runs<V: Vector>(r: &Runs<'_>) {
    for first in 0..APART {
        for row in (first..r.rows.len()).step_by(APART) {
            for run in r.runs {
                for at in (0..run.len).step_by(V::LANES) {
                    // SAFETY: by the contract.
                    unsafe {
                        let x = V::load(r.tile.add(row * r.stride + run.column + at));
                        let x = if run.len - at >= V::LANES { x } else { x.keep(0, run.len - at, V::splat(0.0)) };
                        let to = r.rows[row].wrapping_offset(run.code).wrapping_add(at);
                        V::load(to).add(x).store(to);
                    }
                }
            }
        }
    }
}

/// `to[n] = table[stored[n]]`.
///
/// # Safety
///
/// The instruction set of `V`; every number of `stored` is one of the table's, and `to` can be written for as many.
#[inline(always)]
pub(crate) unsafe fn look_up<V: Vector>(table: &[f32], stored: &[u8], to: *mut f32) {
    let whole = stored.len() / V::LANES * V::LANES;
    for at in (0..whole).step_by(V::LANES) {
        // SAFETY: by the contract.
        unsafe { V::look_up(table, stored.as_ptr().add(at)).store(to.add(at)) }
    }
    for (at, &entry) in stored.iter().enumerate().skip(whole) {
        // SAFETY: by the contract.
        unsafe { *to.add(at) = *table.get_unchecked(usize::from(entry)) }
    }
}

/// Sums of the gradient by entry, several of each: two pairs of the same entry, one after the other, need not wait for each
/// other's sum.
pub(crate) struct Entries([[f32; ENTRIES]; ABREAST]);

/// As many as a byte can name.
pub(crate) const ENTRIES: usize = 256;

/// How many.
const ABREAST: usize = 8;

impl Entries {
    pub(crate) fn new() -> Self {
        Self([[0.0; ENTRIES]; ABREAST])
    }

    /// Adds each number to the sum of its entry.
    pub(crate) fn add(&mut self, stored: &[u8], numbers: &[f32]) {
        let (stored_chunks, number_chunks) = (stored.chunks_exact(ABREAST), numbers.chunks_exact(ABREAST));
        let rest = stored_chunks.remainder().iter().zip(number_chunks.remainder());
        rest.for_each(|(&entry, x)| self.0[0][usize::from(entry)] += x);
        for (stored, numbers) in stored_chunks.zip(number_chunks) {
            for n in 0..ABREAST {
                self.0[n][usize::from(stored[n])] += numbers[n];
            }
        }
    }

    /// Adds the sums to those of a head.
    pub(crate) fn finish(&self, sums: &mut [f32]) {
        for (entry, sum) in sums.iter_mut().enumerate() {
            *sum += self.0.iter().map(|entries| entries[entry]).sum::<f32>();
        }
    }
}
