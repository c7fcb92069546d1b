//! How operands are laid out for the register tiles.
//!
//! Belongs here: copies that change the layout, nothing else. Three layouts:
//!
//! ```text
//! panels   [rows / P][dim][P]        right operand of a product q · k: step c of the sum reads P = 2 · LANES rows at once
//! slabs    [dim / 64][height][64]    left operand of a product, and a tile that is both: the rows that a register tile
//!                                    broadcasts lie a constant 256 bytes apart, so that one pointer reaches them all
//! rows     [rows][stride]            right operand of a weighted sum: row after row, dense
//! ```
//!
//! Rows and columns that do not exist are zero, so the tiles need no masks: neither an odd `head_dim` nor the last keys
//! of a set reach them. All of it also frees the tiles from the strides of the caller, whose rows may lie so far apart
//! that they fall on the same few cache sets.

use crate::simd::Vector;

/// Columns of a slab: the usual width of a head, so that one loop runs over it.
pub(crate) const SLAB: usize = 64;

/// `dim` rounded up to whole registers of every instruction set.
pub(crate) fn padded(dim: usize) -> usize {
    dim.next_multiple_of(16)
}

/// Numbers that `height` rows take in slabs.
pub(crate) fn slabs(dim: usize, height: usize) -> usize {
    dim.next_multiple_of(SLAB) * height
}

/// Registers of a row between the one that is transposed and the one that is asked for: so many rows at once are more than the
/// processor foresees.
const AHEAD: usize = 4;

/// Rows between the one that is copied and the one that is asked for.
const ROWS_AHEAD: usize = 8;

/// Rows of a matrix in the caller's memory.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    /// The first number of the first row.
    pub(crate) start: *const f32,
    /// From one row to the next.
    pub(crate) stride: usize,
    /// How many.
    pub(crate) count: usize,
    /// Numbers of each.
    pub(crate) dim: usize,
}

/// `to = [rows / P][dim][P]`.
///
/// # Safety
///
/// The instruction set of `V`; `from` can be read, and `to` written for `count`, rounded up to a multiple of
/// `2 · V::LANES`, times `dim` numbers.
#[inline(always)]
pub(crate) unsafe fn pack_panels<V: Vector>(from: Rows, to: *mut f32) {
    let panel = 2 * V::LANES;
    for first in (0..from.count.next_multiple_of(panel)).step_by(V::LANES) {
        let rows = V::LANES.min(from.count.saturating_sub(first));
        // SAFETY: half a panel of `dim` columns begins there.
        let half = unsafe { to.add(first / panel * panel * from.dim + first % panel) };
        for column in (0..from.dim).step_by(V::LANES) {
            let columns = V::LANES.min(from.dim - column);
            // SAFETY: those rows and columns exist; column c of the half lies c panels behind its beginning. Where no row
            // exists, none is read, and the pointer only has to be a number.
            unsafe {
                let from_tile = from.start.wrapping_add(first * from.stride + column);
                for row in 0..rows {
                    V::prefetch(from_tile.wrapping_add(row * from.stride + AHEAD * V::LANES));
                }
                V::transpose(from_tile, from.stride, rows, columns, half.add(column * panel), panel);
            }
        }
    }
}

/// `to = [dim / 64][height][64]`, each number times `factor`; of `height` rows the first `from.count` are written, and of
/// their columns those up to `padded(dim)`.
///
/// The rows that begin `next` rows further on are asked for meanwhile; they need not exist.
///
/// # Safety
///
/// The instruction set of `V`; `from` can be read, `from.count <= height`, and `to` can be written for
/// `slabs(from.dim, height)` numbers.
#[inline(always)]
pub(crate) unsafe fn pack_slabs<V: Vector>(from: Rows, factor: f32, to: *mut f32, height: usize, next: isize) {
    for row in 0..from.count {
        for column in (0..padded(from.dim)).step_by(V::LANES) {
            let columns = V::LANES.min(from.dim.saturating_sub(column));
            // SAFETY: the row has `columns` numbers from there on; the slab of that column has `height` rows.
            unsafe {
                let x = load_columns::<V>(from.start.wrapping_add(row * from.stride + column), columns);
                let slab = to.add(column / SLAB * height * SLAB + column % SLAB);
                let ahead = (row as isize + next).wrapping_mul(from.stride as isize);
                V::prefetch(from.start.wrapping_offset(ahead.wrapping_add(column as isize)));
                x.mul(V::splat(factor)).store(slab.add(row * SLAB));
            }
        }
    }
}

/// `to = [count][stride]`, with zeros from `dim` to `padded(dim)`, or to `stride`, a multiple of the register, if that is less.
///
/// # Safety
///
/// The instruction set of `V`; `from` can be read, and `to` can be written for `from.count · stride` numbers.
#[inline(always)]
pub(crate) unsafe fn pack_rows<V: Vector>(from: Rows, to: *mut f32, stride: usize) {
    for row in 0..from.count {
        for column in (0..padded(from.dim).min(stride)).step_by(V::LANES) {
            let columns = V::LANES.min(from.dim.saturating_sub(column));
            // SAFETY: the row has `columns` numbers from there on, and `stride` places.
            unsafe {
                let x = from.start.wrapping_add(row * from.stride + column);
                V::prefetch(x.wrapping_add(ROWS_AHEAD * from.stride));
                load_columns::<V>(x, columns).store(to.add(row * stride + column));
            }
        }
    }
}

/// Asks for the cache lines of all rows.
///
/// # Safety
///
/// The instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn prefetch_rows<V: Vector>(rows: Rows) {
    const SIZE: usize = size_of::<f32>();
    // SAFETY: what is asked for need not exist.
    unsafe { prefetch_bytes::<V>(rows.start.cast(), rows.stride.wrapping_mul(SIZE), rows.count, rows.dim * SIZE) }
}

/// Asks for the cache lines of `count` rows of `len` bytes, `stride` apart.
///
/// # Safety
///
/// The instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn prefetch_bytes<V: Vector>(start: *const u8, stride: usize, count: usize, len: usize) {
    const LINE: usize = 64;
    for row in 0..count {
        for at in (0..len).step_by(LINE) {
            // SAFETY: what is asked for need not exist.
            unsafe { V::prefetch(start.wrapping_add(row.wrapping_mul(stride).wrapping_add(at)).cast()) }
        }
    }
}

/// The first `columns` numbers; the whole register where they fill it.
///
/// # Safety
///
/// The instruction set of `V`; `columns <= V::LANES` numbers can be read.
#[inline(always)]
unsafe fn load_columns<V: Vector>(from: *const f32, columns: usize) -> V {
    // SAFETY: as many are read as the caller vouches for.
    unsafe { if columns == V::LANES { V::load(from) } else { V::load_first(from, columns) } }
}
