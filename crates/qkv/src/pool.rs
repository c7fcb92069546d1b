//! Memory that is used again.
//!
//! A step of training asks for the same buffers as the step before. Memory that is given back to the system in between comes
//! again page by page, each of them zeroed and faulted in, at a cost like that of the arithmetic; so buffers go back to a
//! [`Pool`], which hands them out with whatever they hold.

use crate::attention::Workspace;
use std::cmp::Reverse;
use std::ops::{Deref, DerefMut, RangeInclusive};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Numbers of a cache line.
const LINE: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// After how long a buffer that nobody took is freed, as soon as somebody asks for another: longer than nearly every step of
/// training, at the beginning of which is kept what its end wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// Numbers of all vectors of a size that may be with somebody, for all that is known: those that never come back must not stand for others
/// for ever. 1 GiB.
const MOST_LENT: usize = 256 << 20;

/// Numbers of a vector that is worth keeping.
const SMALL: usize = 4096;

/// Free buffers. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Free>>);

/// Memory that nobody uses.
#[derive(Debug)]
struct Idle<T> {
    memory: T,
    /// When it came back.
    since: Instant,
    /// The thread that had it: it may still be in that one's cache.
    thread: Option<usize>,
}

impl<T> Idle<T> {
    fn now(memory: T) -> Self {
        Self { memory, since: Instant::now(), thread: rayon::current_thread_index() }
    }
}

/// Frees what nobody took for so long, and takes what is in `range` by its `size`: the smallest, of those what the calling thread
/// had, and of those the last.
fn take_best<T>(
    idle: &mut Vec<Idle<T>>,
    range: RangeInclusive<usize>,
    size: impl Fn(&T) -> usize,
    patience: Duration,
) -> Option<T> {
    let now = Instant::now();
    idle.retain(|idle| now.duration_since(idle.since) < patience);
    let thread = rayon::current_thread_index();
    let fits = (0..idle.len()).filter(|&at| range.contains(&size(&idle[at].memory)));
    let rank = |&at: &usize| (size(&idle[at].memory), idle[at].thread != thread, Reverse(idle[at].since));
    let best = fits.min_by_key(rank)?;
    Some(idle.swap_remove(best).memory)
}

#[derive(Debug)]
struct Free {
    buffers: Vec<Idle<Vec<Line>>>,
    vectors: Vec<Idle<Vec<f32>>>,
    /// How many vectors of a size are with somebody, by the powers of 2.
    lent: [usize; usize::BITS as usize],
    /// What attention computes in, each with the thread that had it. These stay as large as the largest call has made them, one for
    /// each caller at a time.
    workspaces: Vec<(Option<usize>, Workspace)>,
}

impl Default for Free {
    fn default() -> Self {
        Self { buffers: Vec::new(), vectors: Vec::new(), lent: [0; usize::BITS as usize], workspaces: Vec::new() }
    }
}

impl Free {
    /// How many vectors of about the size of this one, which is not empty, are with somebody.
    fn lent(&mut self, vector: &Vec<f32>) -> &mut usize {
        &mut self.lent[vector.capacity().ilog2() as usize]
    }

    /// If vectors of a size lie unused for so long, more came back than are taken: whatever is thought to be with somebody has been lost.
    fn forget_lost(&mut self, patience: Duration) {
        let Self { vectors, lent, .. } = self;
        let now = Instant::now();
        for idle in vectors.iter().filter(|idle| now.duration_since(idle.since) >= patience) {
            lent[idle.memory.capacity().ilog2() as usize] = 0;
        }
    }
}

impl Pool {
    /// Without any buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// `len` numbers that begin on a cache line. What they are is not said. They come back when the buffer is dropped.
    pub fn take(&self, len: usize) -> Buffer {
        let lines = len.div_ceil(LINE);
        // not one so large that somebody else will want it
        let taken = take_best(&mut self.lock().buffers, lines..=4 * lines + LINE, Vec::len, PATIENCE);
        Buffer { lines: taken.unwrap_or_else(|| vec![Line([0.0; LINE]); lines]), len, pool: self.clone() }
    }

    /// The same as a plain vector, for whoever must own one. It comes back by [`Pool::give`].
    pub fn take_vec(&self, len: usize) -> Vec<f32> {
        let taken = {
            let mut free = self.lock();
            free.forget_lost(PATIENCE);
            take_best(&mut free.vectors, len..=2 * len + LINE, Vec::capacity, PATIENCE)
        };
        let mut vector = taken.unwrap_or_else(|| vec![0.0; len]);
        vector.resize(len, 0.0);
        if vector.capacity() >= SMALL {
            let mut free = self.lock();
            let most = (MOST_LENT / vector.capacity()).max(8);
            let lent = free.lent(&vector);
            *lent = most.min(*lent + 1);
        }
        vector
    }

    /// Gives a vector for others to take. It need not be one of the pool's, since others may have come into the hands of who gives it for one
    /// that was; but no more are kept than were taken.
    pub fn give(&self, vector: Vec<f32>) {
        // what is small the allocator keeps by itself
        if vector.capacity() >= SMALL {
            let mut free = self.lock();
            let lent = free.lent(&vector);
            if *lent > 0 {
                *lent -= 1;
                free.vectors.push(Idle::now(vector));
            }
        }
    }

    /// Calls `run` with a workspace of attention, which is kept for the next call.
    pub fn with_workspace<R>(&self, run: impl FnOnce(&mut Workspace) -> R) -> R {
        let thread = rayon::current_thread_index();
        let mut workspace = {
            let workspaces = &mut self.lock().workspaces;
            let own = workspaces.iter().rposition(|(of, _)| *of == thread);
            own.map(|at| workspaces.swap_remove(at)).or_else(|| workspaces.pop()).unwrap_or_default().1
        };
        let result = run(&mut workspace);
        self.lock().workspaces.push((thread, workspace));
        result
    }

    /// Bytes that are held for whoever asks next.
    pub fn bytes(&self) -> usize {
        let free = self.lock();
        let buffers = free.buffers.iter().map(|idle| idle.memory.len() * size_of::<Line>());
        let vectors = free.vectors.iter().map(|idle| idle.memory.capacity() * size_of::<f32>());
        buffers.sum::<usize>()
            + vectors.sum::<usize>()
            + free.workspaces.iter().map(|(_, workspace)| workspace.bytes()).sum::<usize>()
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        // A panic elsewhere leaves a list that is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers from a [`Pool`].
#[derive(Debug)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
    pool: Pool,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: lines are numbers without gaps, and there are at least `len` of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above; the lines are borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl Buffer {
    /// The same memory as half as many numbers of double precision.
    pub fn as_f64(&self) -> &[f64] {
        // SAFETY: any bits are a number; a line is aligned for it, and two numbers of it are one.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len / 2) }
    }

    /// The same, to be written to.
    pub fn as_f64_mut(&mut self) -> &mut [f64] {
        // SAFETY: as above; the lines are borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len / 2) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.lines);
        self.pool.lock().buffers.push(Idle::now(memory));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_handed_out_again() {
        let pool = Pool::new();
        let mut buffer = pool.take(100);
        assert_eq!((buffer.len(), buffer.as_ptr().align_offset(64)), (100, 0));
        buffer.fill(7.0);
        drop(buffer);
        assert_eq!(pool.bytes(), 7 * 64);
        let again = pool.take(90);
        assert_eq!((&again[..], pool.bytes()), (&[7.0; 90][..], 0));
    }

    #[test]
    fn a_small_request_does_not_take_a_large_buffer() {
        let pool = Pool::new();
        drop(pool.take(1 << 20));
        let _small = pool.take(10);
        assert_eq!(pool.bytes(), 4 << 20);
    }

    #[test]
    fn what_nobody_takes_is_freed() {
        let mut idle = vec![Idle::now(vec![0_u8; 100])];
        assert!(take_best(&mut idle, 200..=300, Vec::len, PATIENCE).is_none() && idle.len() == 1, "it is too early");
        assert!(
            take_best(&mut idle, 100..=100, Vec::len, Duration::ZERO).is_none() && idle.is_empty(),
            "it is too late"
        );
    }

    #[test]
    fn vectors_come_back_as_long_as_they_are_asked_for() {
        let pool = Pool::new();
        let mut vector = pool.take_vec(10_000);
        vector.fill(7.0);
        let start = vector.as_ptr();
        pool.give(vector);
        let again = pool.take_vec(9_000);
        assert_eq!((again.as_ptr(), again.len(), again[8_999]), (start, 9_000, 7.0));
        pool.give(again);
        let longer = pool.take_vec(10_000);
        assert_eq!((longer.as_ptr(), longer.len()), (start, 10_000));
        pool.give(vec![0.0; 10]);
        assert_eq!(pool.bytes(), 0, "what is small is not kept");
    }

    #[test]
    fn no_more_vectors_are_kept_than_were_taken() {
        let pool = Pool::new();
        for _ in 0..10 {
            let taken = pool.take_vec(10_000);
            pool.give(taken);
            pool.give(vec![0.0; 10_000]);
        }
        assert_eq!(pool.bytes(), 40_000);
        // One that never comes back, and another in its place.
        drop(pool.take_vec(10_000));
        pool.give(vec![0.0; 10_000]);
        assert_eq!(pool.bytes(), 40_000);
    }

    #[test]
    fn vectors_that_never_come_back_do_not_stand_for_others_for_ever() {
        let pool = Pool::new();
        (0..300).for_each(|_| drop(pool.take_vec(40 << 20)));
        assert_eq!(*pool.lock().lent(&vec![0.0; 40 << 20]), 8);
        (0..300).for_each(|_| drop(pool.take_vec(10_000)));
        pool.give(vec![0.0; 10_000]);
        pool.lock().forget_lost(Duration::ZERO);
        assert_eq!(*pool.lock().lent(&vec![0.0; 10_000]), 0);
        pool.give(vec![0.0; 10_000]);
        assert_eq!(pool.bytes(), 40_000);
    }

    #[test]
    fn no_numbers_at_all() {
        assert!(Pool::new().take(0).is_empty());
    }
}
