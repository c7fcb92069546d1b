//! What any processor can do: plain arithmetic on four numbers, without fused multiply-add.

use super::{Vector, transpose_by_number};

const LANES: usize = 4;

/// Four numbers.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], b.0[lane])))
    }
}

// Nothing here is unsafe but the pointers, whose ranges are those that the trait names.
impl Vector for Portable {
    const LANES: usize = LANES;
    const PRODUCT_ROWS: usize = 4;
    const SUM_ROWS: usize = 4;
    const SUM_VECTORS: usize = 2;
    type Bits = [u32; LANES];

    #[inline(always)]
    unsafe fn counting(first: u32) -> [u32; LANES] {
        [0, 1, 2, 3].map(|lane| first.wrapping_add(lane))
    }

    #[inline(always)]
    unsafe fn load_bits(from: *const u32) -> [u32; LANES] {
        // SAFETY: LANES integers can be read, says the caller.
        unsafe { from.cast::<[u32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn xor(a: [u32; LANES], x: u32) -> [u32; LANES] {
        a.map(|a| a ^ x)
    }

    #[inline(always)]
    unsafe fn xor_shifted<const N: u32>(a: [u32; LANES]) -> [u32; LANES] {
        a.map(|a| a ^ (a >> N))
    }

    #[inline(always)]
    unsafe fn mul_bits(a: [u32; LANES], x: u32) -> [u32; LANES] {
        a.map(|a| a.wrapping_mul(x))
    }

    #[inline(always)]
    unsafe fn where_at_least(self, bits: [u32; LANES], least: u32) -> Self {
        Self(std::array::from_fn(|lane| if bits[lane] >= least { self.0[lane] } else { 0.0 }))
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: LANES numbers can be read, says the caller.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: LANES numbers can be written, says the caller.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: `count` numbers can be read, says the caller.
        Self(std::array::from_fn(|lane| if lane < count { unsafe { *from.add(lane) } } else { 0.0 }))
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        for lane in 0..count {
            // SAFETY: `count` numbers can be written, says the caller.
            unsafe { *to.add(lane) = self.0[lane] }
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] * b.0[lane] + c.0[lane]))
    }

    #[inline(always)]
    unsafe fn mul_add_number(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn where_positive(self, other: Self, by: Self) -> Self {
        Self(std::array::from_fn(|lane| if by.0[lane] > 0.0 { self.0[lane] } else { other.0[lane] }))
    }

    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Added to a small number, it leaves the nearest integer; larger ones, as far as they are not integers, are so large that
        // their power of two is 0 or infinite anyway.
        const ROUND: f32 = 12_582_912.0;
        Self(self.0.map(|x| if x.abs() < 4_194_304.0 { (x + ROUND) - ROUND } else { x }))
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, n: Self) -> Self {
        self.zip(n, |x, n| {
            // From -127 on the factor is 0, from 128 on infinite.
            let n = n.clamp(-127.0, 128.0) as i32;
            x * f32::from_bits(((n + 127) << 23) as u32)
        })
    }

    #[inline(always)]
    unsafe fn keep(self, first: usize, end: usize, other: Self) -> Self {
        Self(std::array::from_fn(|lane| if (first..end).contains(&lane) { self.0[lane] } else { other.0[lane] }))
    }

    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        let [a, b, c, d] = self.0;
        a.max(c).max(b.max(d))
    }

    #[inline(always)]
    unsafe fn reduce_add(self) -> f32 {
        let [a, b, c, d] = self.0;
        (a + c) + (b + d)
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
        unsafe { transpose_by_number::<LANES>(from, row_stride, rows, columns, to, to_stride) }
    }
}
