//! The speed at which this machine reads memory: what bounds a kernel that meets each number once.
//!
//! Belongs here: the measurement. It is a sum as anyone would write it, so that a share of it says how near a kernel comes to
//! what is had without effort.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

/// What is read, many times what any cache holds.
pub(super) const BYTES: usize = 1 << 30;

/// Runs of which the best counts.
const RUNS: usize = 5;

/// Sums that are kept side by side, so that none waits for another.
const SUMS: usize = 32;

/// Numbers that are read to measure how fast that is.
pub(super) struct Memory(Vec<f32>);

impl Memory {
    pub(super) fn new(bytes: usize) -> Self {
        // Ones: pages of zeros that nothing was written to may all be the same one.
        Self(vec![1.0; bytes / size_of::<f32>()])
    }

    /// GB/s (10⁹ bytes) of as many threads as there are in the pool. The best of several runs: whatever else the machine does
    /// can only take from it.
    pub(super) fn gb_per_second(&self, threads: usize) -> f64 {
        let piece = self.0.len().div_ceil(threads.max(1)).max(1);
        let run = |_| {
            let start = Instant::now();
            black_box(self.0.par_chunks(piece).map(sum).sum::<f32>());
            start.elapsed().as_secs_f64()
        };
        let best = (0..RUNS).map(run).fold(f64::INFINITY, f64::min);
        size_of_val(&self.0[..]) as f64 / best.max(1e-9) / 1e9
    }
}

fn sum(numbers: &[f32]) -> f32 {
    let mut sums = [0.0; SUMS];
    let (rows, rest) = numbers.as_chunks::<SUMS>();
    for row in rows {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_has_a_speed() {
        let memory = Memory::new(1 << 20);
        for threads in [0, 1, 3] {
            let speed = memory.gb_per_second(threads);
            assert!(speed.is_finite() && speed > 0.0, "{threads} threads: {speed} GB/s");
        }
        assert_eq!(sum(&vec![1.0; 1000]), 1000.0);
    }
}
