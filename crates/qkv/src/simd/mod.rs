//! The narrow vector trait over which the attention kernels are written once.
//!
//! Belongs here: what one register can do, and the functions of one number that are the same for every register. The files
//! below hold instructions only. What an instruction set may compute differently is the rounding of `mul_add`, which is
//! fused where the processor can do so.

use crate::random::{Block, MIX};

#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

/// One register of `f32`, and the shape of the register tiles that suit its instruction set.
///
/// # Safety
///
/// Every function asks that the processor has the instruction set that the implementing type belongs to. Pointers need not
/// be aligned; what they are read or written for is said at each function.
pub(crate) trait Vector: Copy {
    /// Numbers in a register: at most 16, and a divisor of it.
    const LANES: usize;

    /// Rows of the tile of products, which is two registers wide: `2 · rows` accumulators, two registers for the panel and
    /// one for the left operand.
    const PRODUCT_ROWS: usize;

    /// Rows of the tile of weighted sums.
    const SUM_ROWS: usize;

    /// Registers across the tile of weighted sums: `rows · registers` accumulators, the registers of one row of the right
    /// operand and one for the left.
    const SUM_VECTORS: usize;

    /// A register of as many unsigned integers.
    type Bits: Copy;

    /// `first`, `first + 1`, and so on, modulo 2³².
    unsafe fn counting(first: u32) -> Self::Bits;

    /// `LANES` integers from `from`.
    unsafe fn load_bits(from: *const u32) -> Self::Bits;

    /// `a xor x`, for the same `x` in every lane.
    unsafe fn xor(a: Self::Bits, x: u32) -> Self::Bits;

    /// `a xor (a >> N)`.
    unsafe fn xor_shifted<const N: u32>(a: Self::Bits) -> Self::Bits;

    /// `a · x` modulo 2³².
    unsafe fn mul_bits(a: Self::Bits, x: u32) -> Self::Bits;

    /// `table[entry]` for each of the `LANES` bytes from `entries`, which are all entries of the table.
    #[inline(always)]
    unsafe fn look_up(table: &[f32], entries: *const u8) -> Self {
        let mut found = [0.0; 16];
        for (lane, found) in found.iter_mut().enumerate().take(Self::LANES) {
            // SAFETY: `LANES` entries of the table can be read, says the caller.
            *found = unsafe { *table.get_unchecked(usize::from(*entries.add(lane))) };
        }
        // SAFETY: a register has at most 16 numbers.
        unsafe { Self::load(found.as_ptr()) }
    }

    /// `self` where `bits >= least`, 0 elsewhere.
    unsafe fn where_at_least(self, bits: Self::Bits, least: u32) -> Self;

    /// `x` in every lane.
    unsafe fn splat(x: f32) -> Self;

    /// `LANES` numbers from `from`.
    unsafe fn load(from: *const f32) -> Self;

    /// `LANES` numbers to `to`.
    unsafe fn store(self, to: *mut f32);

    /// The first `count <= LANES` numbers from `from`, zeros behind them; reads no others.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;

    /// [`Vector::store`], past the caches where the processor can: for what nobody reads soon. Behind the last of them comes
    /// [`Vector::passed`].
    #[inline(always)]
    unsafe fn store_past(self, to: *mut f32) {
        // SAFETY: as `store`.
        unsafe { self.store(to) }
    }

    /// From here on other threads see what was stored past the caches as they see all else.
    #[inline(always)]
    unsafe fn passed() {}

    /// The first `N` numbers from `from`, repeated; `N` divides `LANES`, and reads no others.
    #[inline(always)]
    unsafe fn repeated<const N: usize>(from: *const f32) -> Self {
        let mut numbers = [0.0; 16];
        for (lane, number) in numbers.iter_mut().enumerate() {
            // SAFETY: so many can be read, says the caller.
            *number = unsafe { *from.add(lane % N) };
        }
        // SAFETY: a register has at most 16 numbers.
        unsafe { Self::load(numbers.as_ptr()) }
    }

    /// Lane `i` becomes what lane `i xor N` was, `N` a power of two below `LANES`.
    #[inline(always)]
    unsafe fn exchanged<const N: usize>(self) -> Self {
        let mut numbers = [0.0; 16];
        // SAFETY: a register has at most 16 numbers.
        unsafe {
            self.store(numbers.as_mut_ptr());
            let numbers: [f32; 16] = std::array::from_fn(|lane| numbers[(lane ^ N) % Self::LANES]);
            Self::load(numbers.as_ptr())
        }
    }

    /// The first `count <= LANES` numbers to `to`; writes no others.
    unsafe fn store_first(self, to: *mut f32, count: usize);

    /// `self · b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;

    /// `a · b + c` of single numbers, rounded as [`Vector::mul_add`] rounds.
    unsafe fn mul_add_number(a: f32, b: f32, c: f32) -> f32;

    /// Asks for the cache line of `at`, which need not exist.
    #[inline(always)]
    unsafe fn prefetch(_at: *const f32) {}

    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;

    /// `self - b`.
    unsafe fn sub(self, b: Self) -> Self;

    /// `self · b`.
    unsafe fn mul(self, b: Self) -> Self;

    /// `self / b`.
    unsafe fn div(self, b: Self) -> Self;

    /// The larger of both, lane by lane; `b` where one of them is NaN.
    unsafe fn max(self, b: Self) -> Self;

    /// The smaller of both, lane by lane; `b` where one of them is NaN.
    unsafe fn min(self, b: Self) -> Self;

    /// `self` where `by > 0`, `other` elsewhere.
    unsafe fn where_positive(self, other: Self, by: Self) -> Self;

    /// The nearest integer.
    unsafe fn round(self) -> Self;

    /// `self · 2ⁿ` for integers `n >= -160`, or 0 where that is denormal; NaN if `self` is NaN.
    unsafe fn scale_by_power(self, n: Self) -> Self;

    /// Lanes `first..end` of `self`, and `other` in the rest.
    unsafe fn keep(self, first: usize, end: usize, other: Self) -> Self;

    /// The largest lane.
    unsafe fn reduce_max(self) -> f32;

    /// The sum of the lanes, in an order that is fixed.
    unsafe fn reduce_add(self) -> f32;

    /// `LANES` rows of a matrix, `row_stride` numbers apart, of which the first `columns <= LANES` columns are read, written
    /// transposed: column `c` to `to + c · to_stride`. `rows <= LANES` of them exist; the others count as zero.
    unsafe fn transpose(
        from: *const f32,
        row_stride: usize,
        rows: usize,
        columns: usize,
        to: *mut f32,
        to_stride: usize,
    );
}

/// 2ˣ with a relative error below 2⁻²³; 0 below -150, and from -127 on 0 or what a denormal makes of it; NaN for NaN and for
/// infinity.
///
/// ```text
/// n = round(x);  f = x - n in [-½, ½];  2^x = 2^n p(f)
/// ```
///
/// with p the polynomial of degree 6 whose largest relative error is least (2·10⁻⁹) among those with p(0) = 1.
///
/// # Safety
///
/// That of [`Vector`].
#[inline(always)]
pub(crate) unsafe fn exp2<V: Vector>(x: V) -> V {
    const P: [f32; 6] =
        [std::f32::consts::LN_2, 0.240_226_48, 0.055_503_324, 0.009_618_437, 0.001_339_887_5, 0.000_153_533_62];
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        // keeps -∞ from becoming ∞ - ∞ below; the order lets NaN through
        let x = V::splat(-160.0).max(x);
        let n = x.round();
        let f = x.sub(n);
        let mut p = V::splat(P[5]);
        p = p.mul_add(f, V::splat(P[4]));
        p = p.mul_add(f, V::splat(P[3]));
        p = p.mul_add(f, V::splat(P[2]));
        p = p.mul_add(f, V::splat(P[1]));
        p = p.mul_add(f, V::splat(P[0]));
        p = p.mul_add(f, V::splat(1.0));
        p.scale_by_power(n)
    }
}

/// tanh x with an error of about two units in the last place, NaN for NaN.
///
/// ```text
/// |x| > 0.625:  tanh |x| = 1 - 2 / (e^2|x| + 1);     otherwise  tanh x = x + x³ p(x²)
/// ```
///
/// with p of Cephes `tanhf` (Moshier). What bounds logits is multiplied by their bound, so that one more unit would be seen.
///
/// # Safety
///
/// That of [`Vector`].
#[inline(always)]
pub(crate) unsafe fn tanh<V: Vector>(x: V) -> V {
    const P: [f32; 5] = [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1];
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let size = x.max(zero.sub(x));
        // from 10 on it is 1; the order lets NaN through
        let power = exp2(V::splat(10.0).min(size).mul(V::splat(2.0 * std::f32::consts::LOG2_E)));
        let far = one.sub(V::splat(2.0).div(power.add(one)));
        let far = far.where_positive(zero.sub(far), x);
        let s = x.mul(x);
        let mut p = V::splat(P[0]);
        p = p.mul_add(s, V::splat(P[1]));
        p = p.mul_add(s, V::splat(P[2]));
        p = p.mul_add(s, V::splat(P[3]));
        p = p.mul_add(s, V::splat(P[4]));
        let near = p.mul(s).mul_add(x, x);
        near.where_positive(far, V::splat(0.625).sub(size))
    }
}

/// The bits of [`Block::bits`](crate::random::Block::bits) for a register of indices.
///
/// # Safety
///
/// That of [`Vector`].
#[inline(always)]
pub(crate) unsafe fn random_bits<V: Vector>(block: Block, indices: V::Bits) -> V::Bits {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { mix::<V>(V::xor(mix::<V>(V::xor(indices, block.low)), block.high)) }
}

/// The mixer of [`random`](crate::random).
#[inline(always)]
unsafe fn mix<V: Vector>(x: V::Bits) -> V::Bits {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let x = V::mul_bits(V::xor_shifted::<16>(x), MIX[0]);
        let x = V::mul_bits(V::xor_shifted::<15>(x), MIX[1]);
        V::xor_shifted::<15>(x)
    }
}

/// Transposes number by number; for instruction sets without a better way, and for the edges of those with one.
///
/// # Safety
///
/// That of [`Vector::transpose`].
#[inline(always)]
pub(crate) unsafe fn transpose_by_number<const LANES: usize>(
    from: *const f32,
    row_stride: usize,
    rows: usize,
    columns: usize,
    to: *mut f32,
    to_stride: usize,
) {
    for c in 0..columns {
        for r in 0..LANES {
            // SAFETY: row r < rows and column c < columns exist; each of `columns` columns has LANES places.
            unsafe {
                let x = if r < rows { *from.add(r * row_stride + c) } else { 0.0 };
                *to.add(c * to_stride + r) = x;
            }
        }
    }
}
