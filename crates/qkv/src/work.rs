//! Threads: numbered tasks, done by whoever is free.
//!
//! Rayon gives the threads. Within one call the tasks are handed out by a counter, and who finds none left waits for the others
//! awake: a thread that rayon has put to sleep takes longer to wake, some 50 µs, than many a call takes.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rayon::prelude::*;

/// Times that a thread looks whether the others are done before it may sleep: a millisecond or less.
const LOOKS: usize = 1 << 16;

/// Looks after which another thread of the system may have the processor.
const LOOKS_AT_ONCE: usize = 1 << 12;

/// Calls `run` with each of `0..count`, on the threads of the current pool, or on this one if there is only one to call.
///
/// Numbers are taken in ascending order: when `run(n)` begins, `run(m)` has begun for every m < n, on a thread that goes on
/// with it. So a run may wait for an earlier one.
pub(crate) fn in_order(count: usize, run: impl Fn(usize) + Sync) {
    let workers = count.min(rayon::current_num_threads()).min(cores());
    if workers <= 1 || is_alone() {
        return (0..count).for_each(run);
    }
    let (next, done, abandoned) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    (0..workers).into_par_iter().with_max_len(1).for_each(|_| {
        let _abandon = Abandon(&abandoned);
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                break;
            }
            run(n);
            done.fetch_add(1, Ordering::Release);
        }
        for look in 1..=LOOKS {
            if done.load(Ordering::Acquire) == count || abandoned.load(Ordering::Relaxed) {
                break;
            }
            if look.is_multiple_of(LOOKS_AT_ONCE) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    });
}

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Calls `run`, all of whose work stays on the calling thread: it is a task among many.
pub(crate) fn alone<R>(run: impl FnOnce() -> R) -> R {
    /// Puts back what was, also behind a panic.
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _back = Back(ALONE.replace(true));
    run()
}

/// Whether the calling thread works for itself.
pub(crate) fn is_alone() -> bool {
    ALONE.get()
}

/// Calls `run` on each task, as [`in_order`] calls it on numbers.
pub(crate) fn for_each<B: Send>(tasks: impl Iterator<Item = B>, run: impl Fn(B) + Sync) {
    let tasks: Vec<Mutex<Option<B>>> = tasks.map(|task| Mutex::new(Some(task))).collect();
    in_order(tasks.len(), |n| {
        let task = tasks[n].lock().unwrap_or_else(PoisonError::into_inner).take();
        run(task.expect("a number is handed out once"));
    });
}

/// The result of `run` on each task, in the order of the tasks.
pub(crate) fn map<B: Send, R: Send>(tasks: impl Iterator<Item = B>, run: impl Fn(B) -> R + Sync) -> Vec<R> {
    let tasks: Vec<B> = tasks.collect();
    let mut results: Vec<Option<R>> = tasks.iter().map(|_| None).collect();
    for_each(tasks.into_iter().zip(&mut results), |(task, result)| *result = Some(run(task)));
    results.into_iter().map(|result| result.expect("each task has run")).collect()
}

/// Cores of this machine. More workers than these, in a pool that has more threads, would only wait for each other.
pub(crate) fn cores() -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn in_pool<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(run)
    }

    #[test]
    fn each_number_is_run_once_after_those_before_it_have_begun() {
        for threads in [1, 2, 3, 7] {
            for count in [0, 1, 2, 5, 1000] {
                let begun: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                in_pool(threads, || {
                    in_order(count, |n| {
                        assert_eq!(begun[n].fetch_add(1, Ordering::SeqCst), 0, "{n} of {count}");
                        // Whoever has an earlier number has begun, or is about to: it may be waited for.
                        while n > 0 && begun[n - 1].load(Ordering::SeqCst) == 0 {
                            std::thread::yield_now();
                        }
                    });
                });
                assert!(
                    begun.iter().all(|begun| begun.load(Ordering::SeqCst) == 1),
                    "{threads} threads, {count} numbers"
                );
            }
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_tasks() {
        for threads in [1, 2, 7] {
            let found = in_pool(threads, || map((0..100).map(|n| n * 3), |n: u64| n + 1));
            assert!(found.into_iter().eq((0..100).map(|n| n * 3 + 1)));
        }
    }

    #[test]
    fn a_panic_of_one_task_ends_the_call() {
        for threads in [1, 2, 7] {
            let run = || in_order(50, |n| assert!(n != 20, "on purpose"));
            assert!(catch_unwind(AssertUnwindSafe(|| in_pool(threads, run))).is_err(), "{threads} threads");
        }
    }

    #[test]
    fn one_within_another_and_outside_of_a_pool() {
        let total = AtomicUsize::new(0);
        let add = |n: usize| {
            total.fetch_add(n, Ordering::Relaxed);
        };
        in_pool(3, || in_order(10, |_| in_order(10, add)));
        std::thread::scope(|scope| scope.spawn(|| in_order(10, add)).join().expect("no panic"));
        assert_eq!(total.into_inner(), 11 * 45);
    }
}
