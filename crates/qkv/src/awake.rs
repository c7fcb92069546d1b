//! Keeping the threads of a pool awake while one of them goes from one piece of parallel work to the next.
//!
//! A thread of a rayon pool that has found no work for some 20 µs goes to sleep, and to wake it takes longer than many a piece of
//! a training step does. [`awake`] lets the others look for work all the time until a function has returned.

use crate::work::cores;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Runs `run` on this thread while all others of its rayon pool, as many as there are cores for, stay awake: a step of training,
/// say, whose pieces are done in parallel one after the other. They use their processors for it, so what waits for something else
/// does not belong here.
///
/// On a thread that belongs to no pool, or to one of a single thread, this only calls `run`.
pub fn awake<R>(run: impl FnOnce() -> R) -> R {
    awake_and_counted(|_| run())
}

/// The same; `run` is told where the threads that look for work are counted.
fn awake_and_counted<R>(run: impl FnOnce(&AtomicUsize) -> R) -> R {
    let others = rayon::current_num_threads().min(cores()) - 1;
    let looking = AtomicUsize::new(0);
    let Some(home) = rayon::current_thread_index().filter(|_| others > 0) else { return run(&looking) };
    let (begun, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    rayon::in_place_scope(|scope| {
        for _ in 0..others {
            scope.spawn(|_| {
                let begun_before = begun.fetch_add(1, Ordering::Relaxed);
                // This thread waits for `run` itself when it finds the task here, and would wait for ever.
                if rayon::current_thread_index() != Some(home) {
                    looking.fetch_add(1, Ordering::Relaxed);
                    if begun_before + 1 < others {
                        leave_to_others(|| begun.load(Ordering::Relaxed) == others || done.load(Ordering::Relaxed));
                    }
                    look_for_work(&done);
                    looking.fetch_sub(1, Ordering::Relaxed);
                }
            });
        }
        let _end = End(&done);
        run(&looking)
    })
}

/// Waits, for about as long as it takes threads to wake, until all have begun: who looks for work finds the tasks that are meant to
/// wake the others, and would do them all.
fn leave_to_others(have_begun: impl Fn() -> bool) {
    const LOOKS: usize = 1 << 14;
    for _ in 0..LOOKS {
        if have_begun() {
            break;
        }
        std::hint::spin_loop();
    }
}

fn look_for_work(done: &AtomicBool) {
    /// Looks in vain after which another thread of the system may have the processor, should it want it.
    const LOOKS: usize = 1 << 12;
    let mut in_vain = 0_usize;
    while !done.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            continue;
        }
        in_vain += 1;
        if in_vain.is_multiple_of(LOOKS) {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Says that it is over, even if `run` panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;
    use std::time::{Duration, Instant};

    fn in_pool<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(run)
    }

    #[test]
    fn parallel_work_within_is_done_and_its_result_comes_back() {
        for threads in [1, 2, 5] {
            let sums: Vec<u64> = in_pool(threads, || {
                awake(|| (0..200).map(|n| (0..n).into_par_iter().map(|x: u64| x * x).sum()).collect())
            });
            assert!(sums.iter().zip(0..).all(|(&sum, n)| sum == (0..n).map(|x: u64| x * x).sum::<u64>()));
        }
    }

    #[test]
    fn the_others_look_for_work_until_it_is_over() {
        let looked = in_pool(3, || {
            awake_and_counted(|looking| {
                let start = Instant::now();
                while looking.load(Ordering::Relaxed) < 2 && start.elapsed() < Duration::from_secs(60) {
                    std::thread::yield_now();
                }
                looking.load(Ordering::Relaxed)
            })
        });
        assert_eq!(looked, 2);
    }

    #[test]
    fn one_within_another_ends() {
        let found = in_pool(3, || awake(|| awake(|| (0..1000_u64).into_par_iter().sum::<u64>())));
        assert_eq!(found, 499_500);
    }

    #[test]
    fn a_panic_ends_it() {
        let found = std::panic::catch_unwind(|| in_pool(2, || awake(|| panic!("on purpose"))));
        assert!(found.is_err());
    }

    #[test]
    fn outside_of_a_pool_it_is_a_call() {
        assert_eq!(awake(|| 7), 7);
    }
}
