//! Matrix products whose results are worked on while they are at hand.
//!
//! ```text
//! out[r][n]  = finish(Σ_c left[r][c] · right[c][n])        activations times weights
//! d_w[i][n]  = Σ_r left[r][i] · right[r][n]                gradients of weights
//! ```
//!
//! What stands before and behind a product (norm, bias, activation, dropout, residual) is done on a block of rows that is
//! still in the second-level cache, and what stands behind it on a tile that is still in the first. The rows of a batch are cut
//! into blocks by their number alone, and a task is a block; each number of a result is one chain of multiply-adds in
//! ascending order, so that the bits of a row depend neither on threads nor on what other rows there are.
//!
//! Three layouts:
//!
//! ```text
//! rows     [rows][dim]                     what callers hold
//! slabs    [blocks][dim / 64][height][64]  left operand, and both operands of a gradient: the rows that a tile broadcasts lie a
//!                                          constant 256 bytes apart. Zeros stand behind the last column where a
//!                                          block was packed, and nothing in particular where a finish put it
//! panels   [columns / P][inner][P]         right operand, P = 2 registers
//! ```
//!
//! What belongs here: products of blocks and their layouts. What does not: which products a layer is made of.

mod finish;
mod gradient;
mod layout;
mod panels;

pub(crate) use finish::{Dropping, Finish, Place, Sink, deactivate_rows};
pub(crate) use gradient::{Columns, Gradient, weight_gradient_alone, weight_gradients};
pub(crate) use layout::{RowBlocks, Rows, pack, pack_dropped, padded};
pub use panels::{Panels, Weights};

use crate::attention::micro::{even_parts, product_tile, with_rows};
use crate::attention::pack::SLAB;
use crate::isa::{Target, isa_dispatch};
use crate::simd::Vector;
use crate::work;

/// Rows of the largest tile, and columns of the widest.
pub(crate) const TILE_ROWS: usize = 14;
pub(crate) const TILE_COLUMNS: usize = 32;

/// The sums of a tile, row after row of a panel's width. (Aligned, for what is stored across two cache lines and loaded again at
/// once has to wait.)
#[repr(align(64))]
pub(crate) struct Tile(pub(crate) [f32; TILE_COLUMNS * TILE_ROWS]);

impl Tile {
    pub(crate) const ZERO: Tile = Tile([0.0; TILE_COLUMNS * TILE_ROWS]);
}

/// One block of rows against all panels.
pub(crate) struct Product<'a> {
    /// The block in slabs.
    pub(crate) left: &'a [f32],
    /// Rows that a block has room for.
    pub(crate) height: usize,
    /// Rows that it has.
    pub(crate) rows: usize,
    /// The right operand.
    pub(crate) panels: &'a Panels,
}

#[inline(always)]
fn product_body<T: Target>(p: &Product<'_>, finish: &mut Finish<'_>) {
    let (inner, columns) = (p.panels.inner, p.panels.columns);
    let panel = 2 * T::Vector::LANES;
    assert!(p.rows <= p.height && p.left.len() >= p.height * padded(inner), "a block of {} rows", p.rows);
    assert_eq!(p.panels.numbers.len(), columns.div_ceil(panel) * inner * panel, "panels of [{inner}, {columns}]");
    let mut tile = Tile::ZERO;
    // A panel of 256 rows stays in the first-level cache while all rows of the block pass over it.
    for first in (0..columns).step_by(panel) {
        let right = p.panels.numbers[first * inner..].as_ptr();
        let width = panel.min(columns - first);
        for (row, rows) in even_parts(p.rows, T::Vector::PRODUCT_ROWS) {
            finish.prefetch::<T>((row, rows), first);
            // SAFETY: `isa_dispatch!` calls this only where the instruction set is there; row and panel exist, by the asserts.
            unsafe {
                let left = p.left.as_ptr().add(row * SLAB);
                with_rows!(rows, T::Vector::PRODUCT_ROWS, ROWS => {
                    let acc = product_tile::<T::Vector, ROWS, false>(left, p.height * SLAB, right, inner);
                    if width == panel && finish.registers::<T, ROWS>(acc, row, first) {
                        continue;
                    }
                    for (tile, acc) in tile.0.chunks_exact_mut(panel).zip(acc) {
                        acc[0].store(tile.as_mut_ptr());
                        acc[1].store(tile.as_mut_ptr().add(T::Vector::LANES));
                    }
                });
            }
            finish.tile::<T>(&mut tile, (row, rows), (first, width));
        }
    }
}
isa_dispatch!(
    /// `finish(left · panels)`.
    pub(crate) fn product(p: &Product<'_>, finish: &mut Finish<'_>) = product_body
);

/// Multiply-adds up to which work stays on the calling thread: some ten microseconds of it.
const INLINE: usize = 1 << 20;

/// Calls `run` on each task, in any order and on any thread. `macs` is the multiply-adds of all.
pub(crate) fn for_each<B: Send>(macs: usize, tasks: impl Iterator<Item = B>, run: impl Fn(B) + Sync + Send) {
    if macs <= INLINE || rayon::current_num_threads() == 1 {
        tasks.for_each(run);
    } else {
        work::for_each(tasks, run);
    }
}

#[cfg(test)]
mod tests;
