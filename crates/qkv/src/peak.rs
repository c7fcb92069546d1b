//! The speed that no kernel can exceed: multiply-adds whose operands never leave their registers.
//!
//! Belongs here: the measurement. Kernels are judged by the share of it that they reach, since a share carries over from
//! one machine to the next, and a time does not.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::time::Instant;

use crate::attention::pack::SLAB;
use crate::isa::Isa;
use crate::simd::{Vector, portable};

/// Runs of which the best counts.
const RUNS: usize = 9;

/// Seconds of a run: long enough that threads which begin some microseconds apart do not matter.
const RUN_SECONDS: f64 = 0.025;

/// Multiply-adds of [`Isa::detect`] from registers alone, in GFLOP/s (two for each multiply-add), on `threads` threads, at
/// least one, and no more than there are cores. They are the function's own, not those of a pool. Takes about a third of a
/// second.
///
/// The best of several short runs: whatever else the machine does can only take from it.
pub fn measure_peak(threads: usize) -> f64 {
    let cores = std::thread::available_parallelism().map_or(usize::MAX, NonZeroUsize::get);
    Chains::of(Isa::detect()).measure(threads.clamp(1, cores))
}

/// Chains of multiply-adds, compiled for one instruction set.
struct Chains {
    /// Floating-point operations of one step.
    flops: usize,
    /// Does so many steps.
    ///
    /// # Safety
    ///
    /// The processor has the instruction set.
    run: unsafe fn(usize),
}

impl Chains {
    /// Those of an instruction set that the processor has.
    fn of(isa: Isa) -> Self {
        assert!(isa.is_available(), "this processor has no {}", isa.name());
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::CHAINS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::CHAINS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::CHAINS,
            _ => scalar::CHAINS,
        }
    }

    fn run(&self, steps: usize) {
        // SAFETY: `of` is the only way to come by a value, and asserts that the processor has the instruction set.
        unsafe { (self.run)(steps) }
    }

    /// GFLOP/s of `threads` threads.
    fn measure(&self, threads: usize) -> f64 {
        let steps = self.steps();
        let (barrier, origin) = (Barrier::new(threads), Instant::now());
        // when each run of a thread began and ended
        let runs = || -> Vec<(f64, f64)> {
            let one = |_| {
                barrier.wait();
                let start = origin.elapsed().as_secs_f64();
                self.run(steps);
                (start, origin.elapsed().as_secs_f64())
            };
            (0..RUNS).map(one).collect()
        };
        let times: Vec<Vec<(f64, f64)>> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(runs)).collect();
            std::iter::once(runs()).chain(others.into_iter().filter_map(|other| other.join().ok())).collect()
        });
        let seconds = |run: usize| {
            let first = times.iter().map(|runs| runs[run].0).fold(f64::INFINITY, f64::min);
            let last = times.iter().map(|runs| runs[run].1).fold(0.0, f64::max);
            last - first
        };
        let best = (0..RUNS).map(seconds).fold(f64::INFINITY, f64::min);
        (threads * steps * self.flops) as f64 / best.max(1e-9) / 1e9
    }

    /// Steps that take about [`RUN_SECONDS`].
    fn steps(&self) -> usize {
        let mut steps = 1 << 12;
        loop {
            let start = Instant::now();
            self.run(steps);
            let seconds = start.elapsed().as_secs_f64();
            if seconds > RUN_SECONDS / 4.0 {
                return ((steps as f64 * RUN_SECONDS / seconds) as usize).max(1);
            }
            steps *= 2;
        }
    }
}

/// `COUNT` numbers of `V` lanes, each step `x = x · a + b`. No chain waits for another, and `COUNT` is at least the latency
/// of a multiply-add times how many of them begin in a cycle, so that none waits for itself either.
///
/// # Safety
///
/// The instruction set of `V`.
#[inline(always)]
unsafe fn chains<V: Vector, const COUNT: usize>(steps: usize) {
    // Numbers come from memory and go back to it, since what the compiler knows of them (that all lanes are equal, that
    // lanes are summed) can lead it away from whole registers where these are arrays.
    let (a, b, mut x) = (black_box([0.5; SLAB]), black_box([0.5; SLAB]), black_box([[2.0; SLAB]; COUNT]));
    // SAFETY: by the contract; a register is at most SLAB numbers wide.
    unsafe {
        // x tends to 1: neither does it overflow nor become so small that the processor slows down.
        let (a, b) = (V::load(a.as_ptr()), V::load(b.as_ptr()));
        let mut registers: [V; COUNT] = std::array::from_fn(|n| V::load(x[n].as_ptr()));
        for _ in 0..steps {
            for register in &mut registers {
                *register = register.mul_add(a, b);
            }
        }
        for (register, x) in registers.into_iter().zip(&mut x) {
            register.store(x.as_mut_ptr());
        }
    }
    black_box(x);
}

macro_rules! chains {
    ($module:ident, $vector:ty, $count:literal $(, $features:literal)?) => {
        mod $module {
            use super::*;

            $(#[target_feature(enable = $features)])?
            unsafe fn run(steps: usize) {
                // SAFETY: the contract of this function is that of the other.
                unsafe { chains::<$vector, $count>(steps) }
            }

            pub(super) const CHAINS: Chains = Chains { flops: 2 * $count * <$vector as Vector>::LANES, run };
        }
    };
}

// 16 registers: two hold a and b, and without a fused multiply-add one holds the product.
chains!(scalar, portable::Portable, 12);
#[cfg(target_arch = "x86_64")]
chains!(avx2, crate::simd::x86::Avx2, 12, "avx2,fma");
// 32 registers
#[cfg(target_arch = "x86_64")]
chains!(avx512, crate::simd::x86::Avx512, 24, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma");
#[cfg(target_arch = "aarch64")]
chains!(neon, crate::simd::neon::Neon, 24, "neon");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_has_a_speed() {
        let sets = [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512];
        for isa in sets.into_iter().filter(|isa| isa.is_available()) {
            let peak = Chains::of(isa).measure(1);
            assert!(peak.is_finite() && peak > 0.0, "{}: {peak} GFLOP/s", isa.name());
        }
    }

    #[test]
    fn no_threads_are_one_thread() {
        assert!(measure_peak(0) > 0.0);
    }
}
