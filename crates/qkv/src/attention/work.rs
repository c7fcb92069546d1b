//! Threads.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;

/// Calls `run` with each of `0..count`, on the threads of the current pool, or on this one if there is only one to call.
///
/// Numbers are taken in ascending order: when `run(n)` begins, `run(m)` has begun for every m < n, on a thread that goes on
/// with it. So a run may wait for an earlier one.
pub(crate) fn in_order(count: usize, run: impl Fn(usize) + Sync) {
    let workers = count.min(rayon::current_num_threads()).min(cores());
    if workers <= 1 {
        return (0..count).for_each(run);
    }
    let next = AtomicUsize::new(0);
    (0..workers).into_par_iter().with_max_len(1).for_each(|_| {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                break;
            }
            run(n);
        }
    });
}

/// Cores of this machine. More workers than these, in a pool that has more threads, would only wait for each other.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    // With a few, even where the system says one: what depends on the number of workers shows itself in the tests.
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(usize::MAX, NonZeroUsize::get).max(4))
}

/// Raises a flag if its thread panics, for those that would wait for it.
pub(crate) struct Abandon<'a>(pub(crate) &'a AtomicBool);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Waits until `turn` has the value `wanted`, which another thread is about to give it.
///
/// # Panics
///
/// If that thread has panicked.
pub(crate) fn wait_for(turn: &AtomicUsize, wanted: usize, abandoned: &AtomicBool) {
    let mut tries = 0_u32;
    while turn.load(Ordering::Acquire) != wanted {
        assert!(!abandoned.load(Ordering::Relaxed), "the thread whose turn it is has panicked");
        tries = tries.saturating_add(1);
        // Should the other thread have lost its core, it needs this one.
        if tries < 10_000 { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}
