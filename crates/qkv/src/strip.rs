//! Thirty-two numbers in registers, and the one thing that `tile.rs` does with them.
//!
//! Instructions only, no algorithm. Written by hand because the compiler, given arrays, keeps the accumulators of several
//! rows in memory, and the recurrent product then runs at a tenth of the speed.

/// Columns of a tile.
pub(crate) const STRIP: usize = 32;

/// [`STRIP`] numbers.
pub(crate) trait Strip: Copy {
    /// All zero.
    ///
    /// # Safety
    ///
    /// The processor has the instruction set that the implementing type belongs to.
    unsafe fn zero() -> Self;

    /// The numbers of an array.
    ///
    /// # Safety
    ///
    /// As [`Strip::zero`].
    unsafe fn load(from: &[f32; STRIP]) -> Self;

    /// `self + x · right`.
    ///
    /// # Safety
    ///
    /// As [`Strip::zero`].
    unsafe fn add_product(self, x: f32, right: Self) -> Self;

    /// The numbers, as an array.
    ///
    /// # Safety
    ///
    /// As [`Strip::zero`].
    unsafe fn store(self) -> [f32; STRIP];
}

/// What any processor can do.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; STRIP]);

impl Strip for Portable {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; STRIP])
    }

    #[inline(always)]
    unsafe fn load(from: &[f32; STRIP]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    unsafe fn add_product(mut self, x: f32, right: Self) -> Self {
        for (acc, right) in self.0.iter_mut().zip(right.0) {
            // fused where that costs nothing
            *acc = if cfg!(target_arch = "aarch64") { x.mul_add(right, *acc) } else { x * right + *acc };
        }
        self
    }

    #[inline(always)]
    unsafe fn store(self) -> [f32; STRIP] {
        self.0
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use std::arch::x86_64::*;

    use super::{STRIP, Strip};

    macro_rules! strip {
        ($(#[$meta:meta])* $name:ident, [$vector:ty; $count:literal], $lanes:literal,
         $zero:ident, $load:ident, $splat:ident, $fma:ident, $store:ident) => {
            $(#[$meta])*
            #[derive(Clone, Copy)]
            pub(crate) struct $name([$vector; $count]);

            impl Strip for $name {
                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: the caller vouches for the instruction set.
                    unsafe { Self([$zero(); $count]) }
                }

                #[inline(always)]
                unsafe fn load(from: &[f32; STRIP]) -> Self {
                    // SAFETY: as above; register n reads numbers n · lanes to (n + 1) · lanes, of count · lanes = 32.
                    unsafe { Self(std::array::from_fn(|n| $load(from.as_ptr().add(n * $lanes)))) }
                }

                #[inline(always)]
                unsafe fn add_product(mut self, x: f32, right: Self) -> Self {
                    for n in 0..$count {
                        // SAFETY: the caller vouches for the instruction set.
                        self.0[n] = unsafe { $fma($splat(x), right.0[n], self.0[n]) };
                    }
                    self
                }

                #[inline(always)]
                unsafe fn store(self) -> [f32; STRIP] {
                    let mut to = [0.0; STRIP];
                    for n in 0..$count {
                        // SAFETY: as in `load`, written instead of read.
                        unsafe { $store(to.as_mut_ptr().add(n * $lanes), self.0[n]) };
                    }
                    to
                }
            }

            const _: () = assert!($count * $lanes == STRIP);
        };
    }

    strip!(
        /// Four AVX2 registers.
        Avx2, [__m256; 4], 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps
    );
    strip!(
        /// Two AVX-512 registers.
        Avx512, [__m512; 2], 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps
    );
}
