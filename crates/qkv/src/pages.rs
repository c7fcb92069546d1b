//! Memory for rows that are read from anywhere.
//!
//! A row of 64 numbers is four cache lines where it begins with one, and five elsewhere. And it is found by way of the table of pages: with
//! pages of 4 KiB, that of a buffer of 25 MB does not fit where the processor keeps what it needs of it.
//!
//! Belongs here: where blocks begin, and in what pages. Which allocator a program has is the program's choice.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, whose blocks of 64 KiB or more begin with a cache line, and whose blocks of 4 MiB or more are asked for in
/// large pages (on Linux).
///
/// What that costs: zeros are written at once where the system would give pages of zeros as they are touched, and a block that grows is
/// copied where it would be moved by its pages.
///
/// ```
/// #[global_allocator]
/// static MEMORY: qkv::LargePages = qkv::LargePages;
///
/// let numbers = vec![1.0_f32; 1 << 22];
/// assert_eq!(numbers.as_ptr().align_offset(64), 0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LargePages;

/// Bytes of a block that begins with a cache line, and of a cache line.
const ALIGNED: usize = 64 << 10;
const LINE: usize = 64;

/// Bytes of a block that is worth asking for: two large pages, so that one lies in it whole.
#[cfg(target_os = "linux")]
const LARGE: usize = 4 << 20;

/// What the system is asked for.
fn widened(layout: Layout) -> Layout {
    if layout.size() < ALIGNED { layout } else { layout.align_to(LINE).unwrap_or(layout) }
}

// SAFETY: all is done by the system's allocator, which is told the same layout when a block comes and when it goes, one that is aligned as
// was asked or better; to ask for large pages does not change what is in them.
unsafe impl GlobalAlloc for LargePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by this function's contract.
        asked(unsafe { System.alloc(widened(layout)) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by this function's contract; the block has the size.
        unsafe {
            if layout.size() < ALIGNED {
                return System.alloc_zeroed(layout);
            }
            // Zeros are written after large pages have been asked for.
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: by this function's contract.
        unsafe { System.dealloc(block, widened(layout)) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by this function's contract the size is one that a layout can have; both blocks have what is copied.
        unsafe {
            if layout.size() < ALIGNED && size < ALIGNED {
                return System.realloc(block, layout, size);
            }
            let new = Layout::from_size_align_unchecked(size, layout.align());
            let moved = self.alloc(new);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// The same block, after the system has been told that large pages would do for it, if it is large.
#[cfg(target_os = "linux")]
fn asked(block: *mut u8, size: usize) -> *mut u8 {
    /// The smallest page there is; where pages are larger the system refuses a range that begins within one, which does no harm.
    const PAGE: usize = 4096;
    if size >= LARGE && !block.is_null() {
        let skipped = block.align_offset(PAGE);
        let whole = (size - skipped) / PAGE * PAGE;
        // SAFETY: the range lies in the block, and the advice leaves its content as it is.
        unsafe { libc::madvise(block.wrapping_add(skipped).cast(), whole, libc::MADV_HUGEPAGE) };
    }
    block
}

#[cfg(not(target_os = "linux"))]
fn asked(block: *mut u8, _size: usize) -> *mut u8 {
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_all_sizes_come_grow_shrink_and_go() {
        let sizes = [1, 1000, ALIGNED - 1, ALIGNED, 3 * ALIGNED, 5 << 20, 9 << 20, 100];
        let layout = |size| Layout::from_size_align(size, 4).expect("a size");
        // SAFETY: no size is 0, each block is read where it was written, and goes with the layout that it has.
        unsafe {
            for &size in &sizes {
                let block = LargePages.alloc_zeroed(layout(size));
                assert!(std::slice::from_raw_parts(block, size).iter().all(|&byte| byte == 0));
                assert!(size < ALIGNED || block.align_offset(LINE) == 0);
                LargePages.dealloc(block, layout(size));
            }
            let mut block = LargePages.alloc(layout(sizes[0]));
            *block = 7;
            for pair in sizes.windows(2) {
                block = LargePages.realloc(block, layout(pair[0]), pair[1]);
                assert!(*block == 7 && (pair[1] < ALIGNED || block.align_offset(LINE) == 0));
                block.add(pair[1] - 1).write(1);
            }
            LargePages.dealloc(block, layout(100));
        }
    }
}
