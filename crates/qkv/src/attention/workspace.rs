//! Memory that calls reuse.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use super::pipeline::Tally;
use super::plan::Plan;
use crate::work;

/// Scratch memory of attention. It grows to what the largest call needs and is kept: a second call of the same shape, with
/// the same number of threads, from a thread of the pool, allocates nothing. (To hand work to a pool from outside, rayon itself
/// allocates now and then; so do gradients of [vectors](super::VectorGradients), and each thread once when it first meets a query with more
/// edges than a tile has columns.)
///
/// How much a call will need, [`explain`](super::explain) says.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Keys and values of long sets, packed once for all queries.
    pub(crate) packed: Buffer,
    /// What the backward pass needs of each query: three numbers, `[heads, query tokens]` each.
    pub(crate) rows: Buffer,
    /// For each tile of queries of a long set, how many blocks of keys have added to its gradient.
    pub(crate) turns: Vec<AtomicUsize>,
    /// Results of a few queries over a part of their keys, before they are merged.
    pub(crate) partial: Buffer,
    /// What is added to logits by difference, for each head.
    pub(crate) differences: Buffer,
    /// Where the numbers of each set begin in a bias that is stored by pair.
    pub(crate) starts: Vec<usize>,
    /// Gradients that are summed over pairs.
    pub(crate) sums: Buffer,
    /// Weights and gradients of products of each edge, or gradients of vectors by each unit.
    pub(crate) by_edge: Buffer,
    /// One for each thread.
    pub(crate) threads: Vec<Mutex<Scratch>>,
    /// How the work of the last call was split.
    pub(crate) plan: Plan,
}

impl Workspace {
    /// Without any memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        let threads: usize = self.threads.iter().map(|scratch| lock(scratch).bytes()).sum();
        let buffers = [&self.packed, &self.rows, &self.partial, &self.differences, &self.sums, &self.by_edge];
        buffers.map(Buffer::bytes).iter().sum::<usize>()
            + self.starts.capacity() * size_of::<usize>()
            + threads
            + self.turns.capacity() * size_of::<AtomicUsize>()
            + self.plan.bytes()
    }

    /// A buffer of at least `len` numbers for each thread of the current pool.
    pub(crate) fn for_threads(&mut self, len: usize) {
        let threads = rayon::current_num_threads();
        if self.threads.len() < threads {
            self.threads.resize_with(threads, Mutex::default);
        }
        // A call that keeps to its thread needs the memory of that one alone.
        let own = rayon::current_thread_index().unwrap_or(0);
        let needed = if work::is_alone() { own..own + 1 } else { 0..threads };
        for buffer in &mut self.threads[needed] {
            buffer.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).numbers.reserve(len);
        }
    }

    /// A tally of so many heads and sums, all zero, for each thread of the current pool; none if there is nothing to sum.
    pub(crate) fn tallies(&mut self, heads: usize, per_head: usize) {
        let heads = if per_head == 0 { 0 } else { heads };
        for scratch in &mut self.threads[..rayon::current_num_threads()] {
            let scratch = scratch.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            scratch.sums.reserve(heads * per_head);
            scratch.sums.clear(heads * per_head);
            scratch.touched.clear();
            scratch.touched.resize(heads, 0..0);
        }
        self.sums.reserve(heads * per_head);
        self.sums.clear(heads * per_head);
    }
}

/// The scratch memory of the thread that calls. Work never leaves its thread while it holds it, so it never waits.
pub(crate) fn own(threads: &[Mutex<Scratch>]) -> std::sync::MutexGuard<'_, Scratch> {
    lock(&threads[rayon::current_thread_index().unwrap_or(0)])
}

fn lock(buffer: &Mutex<Scratch>) -> std::sync::MutexGuard<'_, Scratch> {
    // A panic elsewhere leaves numbers that are overwritten before they are read.
    buffer.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What a thread computes in, on cache lines of its own: two, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Scratch {
    numbers: Buffer,
    /// Its part of gradients that are summed over pairs, for each head; zero but where it is touched.
    sums: Buffer,
    touched: Vec<Range<usize>>,
    /// Of a query with very many edges, the largest logits up to each piece of them.
    maxima: Vec<f32>,
}

impl Scratch {
    pub(crate) fn numbers(&mut self) -> *mut f32 {
        self.numbers.as_mut_ptr()
    }

    /// The same, and a list to be filled.
    pub(crate) fn numbers_and_maxima(&mut self) -> (*mut f32, &mut Vec<f32>) {
        (self.numbers.as_mut_ptr(), &mut self.maxima)
    }

    /// Its tally.
    pub(super) fn tally(&mut self) -> Tally<'_> {
        Tally { sums: self.sums.as_mut_ptr(), touched: &mut self.touched }
    }

    fn bytes(&self) -> usize {
        self.numbers.bytes()
            + self.sums.bytes()
            + self.touched.capacity() * size_of::<Range<usize>>()
            + self.maxima.capacity() * size_of::<f32>()
    }
}

/// A pointer that all threads use, each its own part behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared(pub(crate) *mut f32);

// SAFETY: who uses it says which part.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn at(self, n: usize) -> *mut f32 {
        self.0.wrapping_add(n)
    }
}

/// Numbers of one cache line.
const LINE: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
#[allow(dead_code, reason = "reached through pointers")]
struct Line([f32; LINE]);

/// Numbers that begin on a cache line.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<Line>);

impl Buffer {
    /// Room for `len` numbers. What they are is not said.
    pub(crate) fn reserve(&mut self, len: usize) {
        let lines = len.div_ceil(LINE);
        if self.0.len() < lines {
            // What was there is of no use, so it need not be copied, nor held beside its successor.
            self.0 = Vec::new();
            self.0.resize(lines, Line::default());
        }
    }

    /// Zeros in the first `len` numbers, which are there.
    pub(crate) fn clear(&mut self, len: usize) {
        self.0[..len.div_ceil(LINE)].fill(Line::default());
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Line>()
    }
}

/// Cuts a buffer into parts that each begin on a cache line; counts first, then hands out.
pub(crate) struct Cut(usize);

impl Cut {
    pub(crate) fn new() -> Self {
        Self(0)
    }

    /// Where a part of `len` numbers begins.
    pub(crate) fn part(&mut self, len: usize) -> usize {
        let start = self.0;
        self.0 += len.next_multiple_of(LINE);
        start
    }

    /// How many numbers all parts take.
    pub(crate) fn total(&self) -> usize {
        self.0
    }
}
