//! Blocks of rows, and how they are laid out as slabs.

use super::Dropping;
use crate::attention::pack::SLAB;
use crate::isa::{Target, isa_dispatch};
use crate::offsets::Offsets;

/// Rows of a block at most: four tiles, which at 256 columns leave most of a second-level cache to the panels.
const MOST_ROWS: usize = 56;

/// Rows of a block at least, where there are so many: a tile.
const FEW_ROWS: usize = 16;

/// Into how many blocks few rows are cut, for as many threads.
const FEW_BLOCKS: usize = 8;

/// Many blocks come in multiples of this, so that two threads have done as many at the end.
const EVEN: usize = 2;

/// So many blocks need not be even.
const MANY_BLOCKS: usize = 16;

/// Rows of the longest set that is a block by itself, and of several sets that are one together.
const MOST_ROWS_OF_A_SET: usize = 128;
const MOST_ROWS_OF_SETS: usize = 64;

/// `dim` rounded up to whole slabs.
pub(crate) fn padded(dim: usize) -> usize {
    dim.next_multiple_of(SLAB)
}

/// How the rows of a batch are cut into blocks: by their number alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowBlocks {
    /// All rows.
    pub(crate) rows: usize,
    /// Rows of each block but the last, which may have fewer.
    pub(crate) height: usize,
}

impl RowBlocks {
    /// The blocks of so many rows.
    pub(crate) fn of(rows: usize) -> Self {
        let count = match rows.div_ceil(MOST_ROWS) {
            few if few < FEW_BLOCKS => few.max((rows / FEW_ROWS).min(FEW_BLOCKS)).max(1),
            many => many.next_multiple_of(EVEN),
        };
        Self { rows, height: rows.div_ceil(count).max(1) }
    }

    /// Blocks of whole sets, where all sets are of one length and there are enough of them.
    pub(crate) fn of_sets(sets: &Offsets) -> Option<Self> {
        let length = sets.lengths().next()?;
        if !(FEW_ROWS..=MOST_ROWS_OF_A_SET).contains(&length) || sets.lengths().any(|other| other != length) {
            return None;
        }
        let together = (MOST_ROWS_OF_SETS / length).max(1);
        let blocks = Self { rows: sets.tokens(), height: length * together };
        let count = blocks.count();
        (count >= FEW_BLOCKS && (count.is_multiple_of(EVEN) || count >= MANY_BLOCKS)).then_some(blocks)
    }

    /// How many blocks.
    pub(crate) fn count(self) -> usize {
        self.rows.div_ceil(self.height)
    }

    /// The first row of block `block`.
    pub(crate) fn first(self, block: usize) -> usize {
        block * self.height
    }

    /// Rows of block `block`.
    pub(crate) fn rows_of(self, block: usize) -> usize {
        self.height.min(self.rows - self.first(block))
    }

    /// Numbers that one block takes in slabs.
    pub(crate) fn slabs_of_one(self, dim: usize) -> usize {
        self.height * padded(dim)
    }

    /// Numbers that all blocks take in slabs.
    pub(crate) fn slabs(self, dim: usize) -> usize {
        self.count() * self.slabs_of_one(dim)
    }
}

/// Rows that stand a stride apart in what callers hold.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// From the first number of the first row on.
    pub(crate) x: &'a [f32],
    /// From one row to the next.
    pub(crate) stride: usize,
    /// How many.
    pub(crate) count: usize,
    /// Numbers of each.
    pub(crate) dim: usize,
}

impl<'a> Rows<'a> {
    /// Rows without gaps.
    pub(crate) fn dense(x: &'a [f32], dim: usize) -> Self {
        Self { x, stride: dim, count: x.len() / dim, dim }
    }
}

/// What is left of a column of slabs that begins at `first`.
fn width_from(first: usize, dim: usize) -> usize {
    SLAB.min(dim.saturating_sub(first))
}

#[inline(always)]
fn pack_body<T: Target>(rows: Rows<'_>, height: usize, slabs: &mut [f32]) {
    for (slab, slab_out) in slabs.chunks_exact_mut(height * SLAB).enumerate() {
        let first = slab * SLAB;
        let width = width_from(first, rows.dim);
        for (row, out) in slab_out.as_chunks_mut::<SLAB>().0.iter_mut().take(rows.count).enumerate() {
            copy_padded(&rows.x[row * rows.stride + first..][..width], out);
        }
    }
}
isa_dispatch!(
    /// A block of rows as slabs of `height` rows.
    pub(crate) fn pack(rows: Rows<'_>, height: usize, slabs: &mut [f32]) = pack_body
);

/// Whole slabs, which are nearly all, are copied without a call.
#[inline(always)]
fn copy_padded(x: &[f32], out: &mut [f32; SLAB]) {
    match x.as_array() {
        Some(x) => *out = *x,
        None => {
            out[..x.len()].copy_from_slice(x);
            out[x.len()..].fill(0.0);
        }
    }
}

#[inline(always)]
fn pack_dropped_body<T: Target>(
    rows: Rows<'_>,
    first_row: usize,
    drop: Option<Dropping>,
    height: usize,
    slabs: &mut [f32],
    sums: &mut [f32],
) {
    for (slab, slab_out) in slabs.chunks_exact_mut(height * SLAB).enumerate() {
        let first = slab * SLAB;
        let width = width_from(first, rows.dim);
        let mut sum = [0.0; SLAB];
        for (row, out) in slab_out.as_chunks_mut::<SLAB>().0.iter_mut().take(rows.count).enumerate() {
            copy_padded(&rows.x[row * rows.stride + first..][..width], out);
            if let Some(drop) = drop {
                drop.row(out, (first_row + row) * rows.dim + first);
            }
            for (sum, x) in sum.iter_mut().zip(&*out) {
                *sum += x;
            }
        }
        sums[first..first + width].copy_from_slice(&sum[..width]);
    }
}
isa_dispatch!(
    /// The same of `dropout(x)`, of which the block begins with row `first_row` of the batch; `sums` `[dim]` receives the sum of
    /// its rows.
    pub(crate) fn pack_dropped(
        rows: Rows<'_>, first_row: usize, drop: Option<Dropping>, height: usize, slabs: &mut [f32], sums: &mut [f32],
    ) = pack_dropped_body
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_one_length_are_cut_between_them() {
        let of = |lengths: &[usize]| RowBlocks::of_sets(&Offsets::from_lengths(lengths.iter().copied()));
        assert_eq!(of(&[64; 12]), Some(RowBlocks { rows: 768, height: 64 }));
        assert_eq!(of(&[20; 50]), Some(RowBlocks { rows: 1000, height: 60 }));
        assert_eq!(of(&[128; 8]).map(RowBlocks::count), Some(8));
        // of several lengths, too long, too short, too few, and few that leave a thread idle
        for lengths in [&[64, 64, 63][..], &[129; 9], &[15; 90], &[64; 7], &[64; 9], &[]] {
            assert_eq!(of(lengths), None, "{lengths:?}");
        }
    }
}
