//! How work is split: into blocks whose size depends on the shape alone, so that the bits do not depend on the threads.

use crate::work;

/// Numbers in one block: 64 KiB of each `f32` slice, so that two inputs and an output stay in a 256 KiB second-level
/// cache, and a few microseconds of work, several times what it costs to hand a block to another thread.
pub(crate) const BLOCK: usize = 16 * 1024;

/// Up to this much work stays on the calling thread: to wake another would take longer.
const INLINE: usize = 2 * BLOCK;

/// How many rows of `row` numbers make a block.
pub(crate) fn rows_per_block(row: usize) -> usize {
    (BLOCK / row.max(1)).max(1)
}

/// Calls `run` on each block, in any order and on any thread. `work` is how many numbers are touched in all.
pub(crate) fn for_each<B: Send>(work: usize, blocks: impl Iterator<Item = B>, run: impl Fn(B) + Sync + Send) {
    if work <= INLINE {
        blocks.for_each(run);
    } else {
        work::for_each(blocks, run);
    }
}

/// The result of `run` on each block, in the order of the blocks.
pub(crate) fn map<B: Send, R: Send>(
    work: usize,
    blocks: impl Iterator<Item = B>,
    run: impl Fn(B) -> R + Sync + Send,
) -> Vec<R> {
    if work <= INLINE { blocks.map(run).collect() } else { work::map(blocks, run) }
}
