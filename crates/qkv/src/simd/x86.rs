//! x86-64: AVX2 with FMA, and AVX-512 F, VL, DQ and BW.

use std::arch::x86_64::*;

use super::{Vector, transpose_by_number};

/// Eight numbers. 16 registers: 6 × 2 accumulators leave two for the right operand and one for the left.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

impl Avx2 {
    /// All ones in lanes `first..end`.
    #[inline(always)]
    unsafe fn mask(first: usize, end: usize) -> __m256i {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let from = _mm256_cmpgt_epi32(lanes, _mm256_set1_epi32(first as i32 - 1));
            let to = _mm256_cmpgt_epi32(_mm256_set1_epi32(end as i32), lanes);
            _mm256_and_si256(from, to)
        }
    }
}

// SAFETY of every block below: the caller vouches for the instruction set and for the ranges behind the pointers, which
// are those that the trait names.
#[allow(clippy::undocumented_unsafe_blocks, reason = "said once, above")]
impl Vector for Avx2 {
    const LANES: usize = 8;
    const PRODUCT_ROWS: usize = 6;
    const SUM_ROWS: usize = 6;
    const SUM_VECTORS: usize = 2;
    type Bits = __m256i;

    #[inline(always)]
    unsafe fn counting(first: u32) -> __m256i {
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_add_epi32(lanes, _mm256_set1_epi32(first as i32))
        }
    }

    #[inline(always)]
    unsafe fn load_bits(from: *const u32) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn xor(a: __m256i, x: u32) -> __m256i {
        unsafe { _mm256_xor_si256(a, _mm256_set1_epi32(x as i32)) }
    }

    #[inline(always)]
    unsafe fn xor_shifted<const N: u32>(a: __m256i) -> __m256i {
        // (the shift with a count in a register: its constant form takes another type in each width)
        unsafe { _mm256_xor_si256(a, _mm256_srl_epi32(a, _mm_cvtsi32_si128(N as i32))) }
    }

    #[inline(always)]
    unsafe fn mul_bits(a: __m256i, x: u32) -> __m256i {
        unsafe { _mm256_mullo_epi32(a, _mm256_set1_epi32(x as i32)) }
    }

    #[inline(always)]
    unsafe fn where_at_least(self, bits: __m256i, least: u32) -> Self {
        unsafe {
            let enough = _mm256_cmpeq_epi32(_mm256_max_epu32(bits, _mm256_set1_epi32(least as i32)), bits);
            Self(_mm256_and_ps(self.0, _mm256_castsi256_ps(enough)))
        }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        Self(unsafe { _mm256_maskload_ps(from, Self::mask(0, count)) })
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe { _mm256_maskstore_ps(to, Self::mask(0, count), self.0) }
    }

    #[inline(always)]
    unsafe fn repeated<const N: usize>(from: *const f32) -> Self {
        unsafe {
            Self(match N {
                1 => _mm256_set1_ps(*from),
                2 => _mm256_castpd_ps(_mm256_set1_pd(from.cast::<f64>().read_unaligned())),
                4 => _mm256_broadcast_ps(&from.cast::<__m128>().read_unaligned()),
                _ => _mm256_loadu_ps(from),
            })
        }
    }

    #[inline(always)]
    unsafe fn exchanged<const N: usize>(self) -> Self {
        unsafe {
            Self(match N {
                1 => _mm256_permute_ps::<0b10_11_00_01>(self.0),
                2 => _mm256_permute_ps::<0b01_00_11_10>(self.0),
                _ => _mm256_permute2f128_ps::<1>(self.0, self.0),
            })
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }

    #[inline(always)]
    unsafe fn mul_add_number(a: f32, b: f32, c: f32) -> f32 {
        // one instruction where this is inlined
        a.mul_add(b, c)
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Self(unsafe { _mm256_mul_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        Self(unsafe { _mm256_div_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn where_positive(self, other: Self, by: Self) -> Self {
        unsafe {
            let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(by.0, _mm256_setzero_ps());
            Self(_mm256_blendv_ps(other.0, self.0, positive))
        }
    }

    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, n: Self) -> Self {
        unsafe {
            // From -127 on the factor is 0, from 128 on infinite.
            let n = _mm256_min_ps(_mm256_max_ps(n.0, _mm256_set1_ps(-127.0)), _mm256_set1_ps(128.0));
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            Self(_mm256_mul_ps(self.0, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))))
        }
    }

    #[inline(always)]
    unsafe fn keep(self, first: usize, end: usize, other: Self) -> Self {
        Self(unsafe { _mm256_blendv_ps(other.0, self.0, _mm256_castsi256_ps(Self::mask(first, end))) })
    }

    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn reduce_add(self) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
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
        if rows < 8 || columns < 8 {
            return unsafe { transpose_by_number::<8>(from, row_stride, rows, columns, to, to_stride) };
        }
        unsafe {
            let r: [__m256; 8] = std::array::from_fn(|n| _mm256_loadu_ps(from.add(n * row_stride)));
            // pairs of numbers, then of pairs, then of halves
            let pairs: [__m256; 8] = std::array::from_fn(|n| {
                let (a, b) = (r[n / 2 * 2], r[n / 2 * 2 + 1]);
                if n % 2 == 0 { _mm256_unpacklo_ps(a, b) } else { _mm256_unpackhi_ps(a, b) }
            });
            let quads: [__m256; 8] = std::array::from_fn(|n| {
                let (a, b) = (pairs[n / 4 * 4 + n % 4 / 2], pairs[n / 4 * 4 + n % 4 / 2 + 2]);
                let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
                _mm256_castpd_ps(if n % 2 == 0 { _mm256_unpacklo_pd(a, b) } else { _mm256_unpackhi_pd(a, b) })
            });
            for n in 0..4 {
                _mm256_storeu_ps(to.add(n * to_stride), _mm256_permute2f128_ps::<0x20>(quads[n], quads[n + 4]));
                _mm256_storeu_ps(to.add((n + 4) * to_stride), _mm256_permute2f128_ps::<0x31>(quads[n], quads[n + 4]));
            }
        }
    }
}

/// Sixteen numbers. 32 registers: 14 × 2 accumulators leave two for the panel and one for the left operand, 6 × 4 leave
/// four for the right operand and one for the left.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

impl Avx512 {
    /// Ones in lanes `first..end`.
    #[inline(always)]
    fn mask(first: usize, end: usize) -> __mmask16 {
        ((1_u32 << end) - (1_u32 << first)) as __mmask16
    }
}

// SAFETY of every block below: as for AVX2.
#[allow(clippy::undocumented_unsafe_blocks, reason = "said once, above")]
impl Vector for Avx512 {
    const LANES: usize = 16;
    const PRODUCT_ROWS: usize = 14;
    const SUM_ROWS: usize = 6;
    const SUM_VECTORS: usize = 4;
    type Bits = __m512i;

    #[inline(always)]
    unsafe fn counting(first: u32) -> __m512i {
        unsafe {
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            _mm512_add_epi32(lanes, _mm512_set1_epi32(first as i32))
        }
    }

    #[inline(always)]
    unsafe fn load_bits(from: *const u32) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn look_up(table: &[f32], entries: *const u8) -> Self {
        unsafe {
            let entries = _mm512_cvtepu8_epi32(_mm_loadu_si128(entries.cast()));
            // tables of up to two registers are looked up in registers
            let count = table.len();
            if count > 32 {
                return Self(_mm512_i32gather_ps::<4>(entries, table.as_ptr()));
            }
            let low = Self::load_first(table.as_ptr(), count.min(16));
            let high = Self::load_first(table.as_ptr().add(count.min(16)), count - count.min(16));
            Self(_mm512_permutex2var_ps(low.0, entries, high.0))
        }
    }

    #[inline(always)]
    unsafe fn xor(a: __m512i, x: u32) -> __m512i {
        unsafe { _mm512_xor_si512(a, _mm512_set1_epi32(x as i32)) }
    }

    #[inline(always)]
    unsafe fn xor_shifted<const N: u32>(a: __m512i) -> __m512i {
        // (the shift with a count in a register: its constant form takes another type in each width)
        unsafe { _mm512_xor_si512(a, _mm512_srl_epi32(a, _mm_cvtsi32_si128(N as i32))) }
    }

    #[inline(always)]
    unsafe fn mul_bits(a: __m512i, x: u32) -> __m512i {
        unsafe { _mm512_mullo_epi32(a, _mm512_set1_epi32(x as i32)) }
    }

    #[inline(always)]
    unsafe fn where_at_least(self, bits: __m512i, least: u32) -> Self {
        unsafe {
            let enough = _mm512_cmpge_epu32_mask(bits, _mm512_set1_epi32(least as i32));
            Self(_mm512_maskz_mov_ps(enough, self.0))
        }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        Self(unsafe { _mm512_maskz_loadu_ps(Self::mask(0, count), from) })
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, Self::mask(0, count), self.0) }
    }

    #[inline(always)]
    unsafe fn store_past(self, to: *mut f32) {
        unsafe {
            // A whole cache line, or none.
            match to.addr() % 64 {
                0 => _mm512_stream_ps(to, self.0),
                _ => _mm512_storeu_ps(to, self.0),
            }
        }
    }

    #[inline(always)]
    unsafe fn passed() {
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn repeated<const N: usize>(from: *const f32) -> Self {
        unsafe {
            Self(match N {
                1 => _mm512_set1_ps(*from),
                2 => _mm512_castpd_ps(_mm512_set1_pd(from.cast::<f64>().read_unaligned())),
                4 => _mm512_broadcast_f32x4(from.cast::<__m128>().read_unaligned()),
                8 => _mm512_broadcast_f32x8(_mm256_loadu_ps(from)),
                _ => _mm512_loadu_ps(from),
            })
        }
    }

    #[inline(always)]
    unsafe fn exchanged<const N: usize>(self) -> Self {
        unsafe {
            Self(match N {
                1 => _mm512_permute_ps::<0b10_11_00_01>(self.0),
                2 => _mm512_permute_ps::<0b01_00_11_10>(self.0),
                4 => _mm512_shuffle_f32x4::<0b10_11_00_01>(self.0, self.0),
                _ => _mm512_shuffle_f32x4::<0b01_00_11_10>(self.0, self.0),
            })
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }

    #[inline(always)]
    unsafe fn mul_add_number(a: f32, b: f32, c: f32) -> f32 {
        // one instruction where this is inlined
        a.mul_add(b, c)
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn where_positive(self, other: Self, by: Self) -> Self {
        unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(by.0, _mm512_setzero_ps());
            Self(_mm512_mask_mov_ps(other.0, positive, self.0))
        }
    }

    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, n: Self) -> Self {
        Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }

    #[inline(always)]
    unsafe fn keep(self, first: usize, end: usize, other: Self) -> Self {
        Self(unsafe { _mm512_mask_mov_ps(other.0, Self::mask(first, end), self.0) })
    }

    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            Avx2(eight).reduce_max()
        }
    }

    #[inline(always)]
    unsafe fn reduce_add(self) -> f32 {
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            Avx2(eight).reduce_add()
        }
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
        if rows < 16 || columns < 16 {
            return unsafe { transpose_by_number::<16>(from, row_stride, rows, columns, to, to_stride) };
        }
        unsafe {
            let r: [__m512; 16] = std::array::from_fn(|n| _mm512_loadu_ps(from.add(n * row_stride)));
            // 4 × 4 blocks are transposed within rows 4m..4m+4, then the blocks themselves
            let pairs: [__m512; 16] = std::array::from_fn(|n| {
                let (a, b) = (r[n / 2 * 2], r[n / 2 * 2 + 1]);
                if n % 2 == 0 { _mm512_unpacklo_ps(a, b) } else { _mm512_unpackhi_ps(a, b) }
            });
            let quads: [__m512; 16] = std::array::from_fn(|n| {
                let first = n / 4 * 4 + n % 4 / 2;
                let (a, b) = (_mm512_castps_pd(pairs[first]), _mm512_castps_pd(pairs[first + 2]));
                _mm512_castpd_ps(if n % 2 == 0 { _mm512_unpacklo_pd(a, b) } else { _mm512_unpackhi_pd(a, b) })
            });
            // quads[4m + c] holds, in 128-bit lane l, column 4l + c of rows 4m..4m+4
            for c in 0..4 {
                let (a, b, d, e) = (quads[c], quads[4 + c], quads[8 + c], quads[12 + c]);
                let low = _mm512_shuffle_f32x4::<0x88>(a, b); // lanes 0 and 2 of a, of b
                let high = _mm512_shuffle_f32x4::<0xdd>(a, b); // lanes 1 and 3
                let low_2 = _mm512_shuffle_f32x4::<0x88>(d, e);
                let high_2 = _mm512_shuffle_f32x4::<0xdd>(d, e);
                _mm512_storeu_ps(to.add(c * to_stride), _mm512_shuffle_f32x4::<0x88>(low, low_2));
                _mm512_storeu_ps(to.add((8 + c) * to_stride), _mm512_shuffle_f32x4::<0xdd>(low, low_2));
                _mm512_storeu_ps(to.add((4 + c) * to_stride), _mm512_shuffle_f32x4::<0x88>(high, high_2));
                _mm512_storeu_ps(to.add((12 + c) * to_stride), _mm512_shuffle_f32x4::<0xdd>(high, high_2));
            }
        }
    }
}
