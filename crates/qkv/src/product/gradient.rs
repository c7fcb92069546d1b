//! Gradients of weights: sums over all rows of a batch.

use super::{RowBlocks, for_each};
use crate::attention::micro::{even_parts, with_rows};
use crate::attention::pack::SLAB;
use crate::isa::{Target, isa_dispatch};
use crate::simd::Vector;

/// Rows of a result that make a task: a slab of the left operand, or, where there are few, half of one, for the sake of more
/// threads.
const TASK_ROWS: usize = SLAB;
const FEW_TASK_ROWS: usize = SLAB / 2;

/// Rows of a batch that are summed before a tile of the result is put down: as many as leave a slab of the right operand in
/// the first-level cache, and two blocks of sets of 64.
const SUMMED: usize = 128;

/// Rows between the one that is added and the one whose cache lines are asked for: some 200 cycles.
const AHEAD: usize = 16;

/// Columns of the rows of a batch, in slabs.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    /// From the first slab of the first block on.
    pub(crate) slabs: &'a [f32],
    /// From one block to the next.
    pub(crate) next: usize,
    /// How many columns.
    pub(crate) dim: usize,
}

impl<'a> Columns<'a> {
    /// All that `slabs` holds.
    pub(crate) fn all(blocks: RowBlocks, slabs: &'a [f32], dim: usize) -> Self {
        Self { slabs, next: blocks.slabs_of_one(dim), dim }
    }

    fn check(&self, blocks: RowBlocks) {
        let needed = (blocks.count() - 1) * self.next + blocks.slabs_of_one(self.dim);
        assert!(self.slabs.len() >= needed, "gradient: {} numbers in slabs, expected {needed}", self.slabs.len());
    }
}

/// `out[i][n] = Σ_r left[r][i] · right[r][n]`, overwritten, `[left.dim, right.dim]`.
pub(crate) struct Gradient<'a> {
    pub(crate) left: Columns<'a>,
    pub(crate) right: Columns<'a>,
    pub(crate) out: &'a mut [f32],
}

/// Several gradients over the rows of one batch.
pub(crate) fn weight_gradients<const N: usize>(blocks: RowBlocks, all: [Gradient<'_>; N]) {
    let mut work = 0;
    for Gradient { left, right, out } in &all {
        assert_eq!(out.len(), left.dim * right.dim, "gradient: out is not [{}, {}]", left.dim, right.dim);
        if blocks.rows > 0 {
            left.check(blocks);
            right.check(blocks);
        }
        work += blocks.rows * out.len();
    }
    let tasks = all.into_iter().flat_map(|Gradient { left, right, out }| {
        let rows = if left.dim < 4 * TASK_ROWS { FEW_TASK_ROWS } else { TASK_ROWS };
        let parts = out.chunks_mut((rows * right.dim).max(1)).enumerate();
        parts.map(move |(part, out)| (Operands { blocks, left, right }, part * rows, out))
    });
    for_each(work, tasks, |(operands, first, out)| match blocks.rows {
        0 => out.fill(0.0),
        _ => rows_of_gradient(&operands, first, out),
    });
}

/// A gradient over so few rows that one thread has it.
pub(crate) fn weight_gradient_alone(blocks: RowBlocks, Gradient { left, right, out }: Gradient<'_>) {
    assert_eq!(out.len(), left.dim * right.dim, "gradient: out is not [{}, {}]", left.dim, right.dim);
    left.check(blocks);
    right.check(blocks);
    let operands = Operands { blocks, left, right };
    for (part, out) in out.chunks_mut(TASK_ROWS * right.dim).enumerate() {
        rows_of_gradient(&operands, part * TASK_ROWS, out);
    }
}

struct Operands<'a> {
    blocks: RowBlocks,
    left: Columns<'a>,
    right: Columns<'a>,
}

#[inline(always)]
fn rows_of_gradient_body<T: Target>(o: &Operands<'_>, first: usize, out: &mut [f32]) {
    let (blocks, right_dim) = (o.blocks, o.right.dim);
    let rows = out.len() / right_dim;
    let together = (SUMMED / blocks.height).max(1);
    for first_block in (0..blocks.count()).step_by(together) {
        let some = first_block..(first_block + together).min(blocks.count());
        for slab in 0..right_dim.div_ceil(SLAB) {
            let columns = SLAB.min(right_dim - slab * SLAB);
            let vectors = columns.div_ceil(T::Vector::LANES);
            for (vector, width) in (0..vectors)
                .step_by(T::Vector::SUM_VECTORS)
                .map(|first| (first, T::Vector::SUM_VECTORS.min(vectors - first)))
            {
                let column = vector * T::Vector::LANES;
                for (row, rows) in even_parts(rows, T::Vector::SUM_ROWS) {
                    let i = first + row;
                    let tile = Tile {
                        left: &o.left.slabs[i / SLAB * blocks.height * SLAB + i % SLAB..],
                        left_next: o.left.next,
                        right: &o.right.slabs[slab * blocks.height * SLAB + column..],
                        right_next: o.right.next,
                        blocks,
                        some: (some.start, some.end),
                        out: &mut out[row * right_dim + slab * SLAB + column..],
                        stride: right_dim,
                        columns: columns - column,
                    };
                    // SAFETY: `isa_dispatch!` calls this only where the instruction set is there. The rows of a
                    // task divide a slab, so that the rows of a tile are columns of one slab of the left operand.
                    unsafe {
                        with_rows!(rows, T::Vector::SUM_ROWS, ROWS => match width {
                            1 => tile.run::<T::Vector, ROWS, 1>(),
                            2 if T::Vector::SUM_VECTORS >= 2 => tile.run::<T::Vector, ROWS, 2>(),
                            3 if T::Vector::SUM_VECTORS >= 3 => tile.run::<T::Vector, ROWS, 3>(),
                            4 if T::Vector::SUM_VECTORS >= 4 => tile.run::<T::Vector, ROWS, 4>(),
                            width => unreachable!("{width} registers in a tile"),
                        });
                    }
                }
            }
        }
    }
}
isa_dispatch!(fn rows_of_gradient(o: &Operands<'_>, first: usize, out: &mut [f32]) = rows_of_gradient_body);

/// One tile of the result and the blocks that are added to it.
struct Tile<'a> {
    /// From the tile's first row in block 0 on, and how far the next block is.
    left: &'a [f32],
    left_next: usize,
    right: &'a [f32],
    right_next: usize,
    blocks: RowBlocks,
    some: (usize, usize),
    out: &'a mut [f32],
    stride: usize,
    /// Columns from the tile's first to the end of the slab.
    columns: usize,
}

impl Tile<'_> {
    /// # Safety
    ///
    /// The instruction set of `V`; the operands have what the tile says.
    #[inline(always)]
    unsafe fn run<V: Vector, const ROWS: usize, const WIDTH: usize>(self) {
        let count = |n: usize| V::LANES.min(self.columns - n * V::LANES);
        // SAFETY: by the contract; of the result, only columns that exist are touched.
        unsafe {
            let mut acc = [[V::splat(0.0); WIDTH]; ROWS];
            let out = self.out.as_mut_ptr();
            if self.some.0 > 0 {
                for (r, acc) in acc.iter_mut().enumerate() {
                    for (n, acc) in acc.iter_mut().enumerate() {
                        let from = out.add(r * self.stride + n * V::LANES);
                        *acc = if count(n) == V::LANES { V::load(from) } else { V::load_first(from, count(n)) };
                    }
                }
            }
            for block in self.some.0..self.some.1 {
                let mut left = self.left.as_ptr().add(block * self.left_next);
                let mut right = self.right.as_ptr().add(block * self.right_next);
                for _ in 0..self.blocks.rows_of(block) {
                    let mut b = [V::splat(0.0); WIDTH];
                    for (n, b) in b.iter_mut().enumerate() {
                        *b = V::load(right.add(n * V::LANES));
                        V::prefetch(right.wrapping_add(AHEAD * SLAB + n * V::LANES));
                    }
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let a = V::splat(*left.add(r));
                        for (acc, b) in acc.iter_mut().zip(b) {
                            *acc = a.mul_add(b, *acc);
                        }
                    }
                    left = left.wrapping_add(SLAB);
                    right = right.wrapping_add(SLAB);
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                for (n, acc) in acc.iter().enumerate() {
                    let to = out.add(r * self.stride + n * V::LANES);
                    if count(n) == V::LANES { acc.store(to) } else { acc.store_first(to, count(n)) }
                }
            }
        }
    }
}
