//! 64-bit ARM: NEON, which is part of the architecture.

use std::arch::aarch64::*;

use super::{Vector, transpose_by_number};

/// Four numbers. 32 registers: 12 × 2 accumulators leave room for the panel and the left operand, 6 × 4 likewise.
#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

// SAFETY of every block below: NEON is part of the architecture; the caller vouches for the ranges behind the pointers,
// which are those that the trait names.
#[allow(clippy::undocumented_unsafe_blocks, reason = "said once, above")]
#[allow(unused_unsafe, reason = "which intrinsics are safe depends on the compiler's version")]
impl Vector for Neon {
    const LANES: usize = 4;
    const PRODUCT_ROWS: usize = 12;
    const SUM_ROWS: usize = 6;
    const SUM_VECTORS: usize = 4;
    type Bits = uint32x4_t;

    #[inline(always)]
    unsafe fn counting(first: u32) -> uint32x4_t {
        let lanes: [u32; 4] = [0, 1, 2, 3].map(|lane| first.wrapping_add(lane));
        unsafe { vld1q_u32(lanes.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn load_bits(from: *const u32) -> uint32x4_t {
        unsafe { vld1q_u32(from) }
    }

    #[inline(always)]
    unsafe fn xor(a: uint32x4_t, x: u32) -> uint32x4_t {
        unsafe { veorq_u32(a, vdupq_n_u32(x)) }
    }

    #[inline(always)]
    unsafe fn xor_shifted<const N: u32>(a: uint32x4_t) -> uint32x4_t {
        unsafe { veorq_u32(a, vshlq_u32(a, vdupq_n_s32(-(N as i32)))) }
    }

    #[inline(always)]
    unsafe fn mul_bits(a: uint32x4_t, x: u32) -> uint32x4_t {
        unsafe { vmulq_u32(a, vdupq_n_u32(x)) }
    }

    #[inline(always)]
    unsafe fn where_at_least(self, bits: uint32x4_t, least: u32) -> Self {
        Self(unsafe { vbslq_f32(vcgeq_u32(bits, vdupq_n_u32(least)), self.0, vdupq_n_f32(0.0)) })
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(unsafe { vdupq_n_f32(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { vld1q_f32(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let numbers: [f32; 4] = std::array::from_fn(|lane| if lane < count { unsafe { *from.add(lane) } } else { 0.0 });
        unsafe { Self::load(numbers.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        let mut numbers = [0.0; 4];
        unsafe { self.store(numbers.as_mut_ptr()) };
        for (lane, x) in numbers.iter().enumerate().take(count) {
            unsafe { *to.add(lane) = *x }
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Self(unsafe { vfmaq_f32(c.0, self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn mul_add_number(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(unsafe { vaddq_f32(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(unsafe { vsubq_f32(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Self(unsafe { vmulq_f32(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        Self(unsafe { vdivq_f32(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        // as for the maximum
        Self(unsafe { vbslq_f32(vcltq_f32(self.0, b.0), self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn where_positive(self, other: Self, by: Self) -> Self {
        Self(unsafe { vbslq_f32(vcgtq_f32(by.0, vdupq_n_f32(0.0)), self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // a comparison and a choice, since the instruction for the maximum returns NaN whichever operand is one
        Self(unsafe { vbslq_f32(vcgtq_f32(self.0, b.0), self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { vrndnq_f32(self.0) })
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, n: Self) -> Self {
        unsafe {
            // From -127 on the factor is 0, from 128 on infinite.
            let n = vminq_f32(vmaxq_f32(n.0, vdupq_n_f32(-127.0)), vdupq_n_f32(128.0));
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            Self(vmulq_f32(self.0, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))))
        }
    }

    #[inline(always)]
    unsafe fn keep(self, first: usize, end: usize, other: Self) -> Self {
        let lanes: [u32; 4] = std::array::from_fn(|lane| if (first..end).contains(&lane) { u32::MAX } else { 0 });
        Self(unsafe { vbslq_f32(vld1q_u32(lanes.as_ptr()), self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        unsafe { vmaxnmvq_f32(self.0) }
    }

    #[inline(always)]
    unsafe fn reduce_add(self) -> f32 {
        unsafe { vaddvq_f32(self.0) }
    }

    #[inline(always)]
    unsafe fn transpose(
        from: *const f32,
        row_stride: usize,
        rows: usize,
        columns: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: what this asks for is what that asks for.
        unsafe { transpose_by_number::<4>(from, row_stride, rows, columns, to, to_stride) }
    }
}
