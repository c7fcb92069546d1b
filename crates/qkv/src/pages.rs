//! Memory in large pages, where a system gives them to who asks.
//!
//! A vector that is read from anywhere in a large buffer is found by way of the table of pages; with pages of 4 KiB, that of a
//! buffer of 25 MB does not fit where the processor keeps what it needs of it. And fresh memory comes page by page, each at the cost
//! of an interrupt.
//!
//! Belongs here: the asking. Which allocator a program has is the program's choice.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, whose large blocks are asked for in large pages (Linux; elsewhere it is the system's alone).
///
/// ```
/// #[global_allocator]
/// static MEMORY: qkv::LargePages = qkv::LargePages;
/// # assert_eq!(vec![1.0_f32; 1 << 22].iter().sum::<f32>(), 4_194_304.0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LargePages;

/// Bytes of a block that is worth asking for: two large pages, so that one lies in it whole.
#[cfg(target_os = "linux")]
const LARGE: usize = 4 << 20;

// SAFETY: all is done by the system's allocator; to ask for large pages does not change what is in them.
unsafe impl GlobalAlloc for LargePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by this function's contract.
        asked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by this function's contract.
        asked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: by this function's contract.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by this function's contract.
        asked(unsafe { System.realloc(block, layout, size) }, size)
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
