//! Random numbers as a pure function of (key, index).
//!
//! There is no state to share or to restore: a run that is resumed, or split over other threads, draws the same numbers.
//!
//! ```text
//! key   = SplitMix64 of the seed; fold(n) is output n of the SplitMix64 generator whose state is the key
//! bits  = mix(mix(low(index) ^ low(key)) ^ (high(key) + high(index) · odd))
//! mix   = x ^= x >> 16; x *= 21f0aaad; x ^= x >> 15; x *= d35a2d97; x ^= x >> 15
//! ```
//!
//! Why two rounds of a 32-bit mixer and not Philox: sixteen of them fit one AVX-512 register, and dropout over a slice
//! then runs at the speed of memory. The mixer has the `lowbias32` form with the constants that TheIronBorn found
//! (github.com/skeeto/hash-prospector, issue 19); SplitMix64 is Steele, Lea, Flood, *Fast splittable pseudorandom number
//! generators*, OOPSLA 2014. Not for secrets.

/// Names a stream of random numbers. Derived step by step: `Key::new(seed).fold(step).fold(layer)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The key of a seed.
    pub fn new(seed: u64) -> Self {
        Self(0).fold(seed)
    }

    /// The `n`-th key below this one.
    #[must_use]
    pub fn fold(self, n: u64) -> Self {
        Self(mix_64(self.0.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n.wrapping_add(1)))))
    }

    /// 32 random bits.
    #[inline]
    pub fn bits(self, index: u64) -> u32 {
        self.block(index).bits(index as u32)
    }

    /// Uniform in `[0, 1)`, in steps of 2⁻²⁴.
    #[inline]
    pub fn uniform(self, index: u64) -> f32 {
        (self.bits(index) >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Normal with mean 0 and deviation 1 (Box and Muller 1958), from the draws `2·index` and `2·index + 1` of this key.
    pub fn normal(self, index: u64) -> f32 {
        let first = index.wrapping_mul(2);
        // 1 - u is never 0, where the logarithm has no value
        let radius = (-2.0 * (1.0 - self.uniform(first)).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform(first.wrapping_add(1))).cos()
    }

    /// What is common to the 2³² indices that share the upper half of `index`.
    #[inline]
    pub(crate) fn block(self, index: u64) -> Block {
        let upper = ((index >> 32) as u32).wrapping_mul(0x9e37_79b9);
        Block { low: self.0 as u32, high: ((self.0 >> 32) as u32).wrapping_add(upper) }
    }
}

/// A key and the upper half of an index: the rest is 32-bit arithmetic.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) low: u32,
    pub(crate) high: u32,
}

impl Block {
    #[inline(always)]
    pub(crate) fn bits(self, index: u32) -> u32 {
        mix_32(mix_32(index ^ self.low) ^ self.high)
    }
}

/// The factors of the 32-bit mixer.
pub(crate) const MIX: [u32; 2] = [0x21f0_aaad, 0xd35a_2d97];

#[inline(always)]
fn mix_32(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(MIX[0]);
    x ^= x >> 15;
    x = x.wrapping_mul(MIX[1]);
    x ^ (x >> 15)
}

fn mix_64(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 1 << 18;

    /// Standard deviations between a count of successes and what is expected of `n` trials.
    fn deviations(count: u64, n: u64, rate: f64) -> f64 {
        (count as f64 - n as f64 * rate) / (n as f64 * rate * (1.0 - rate)).sqrt()
    }

    #[test]
    fn numbers_never_change_between_versions() {
        // A saved run must resume in the same bits.
        let key = Key::new(7).fold(1);
        let drawn = [key.bits(0), key.bits(1), key.bits(1 << 32), Key::new(0).bits(0)];
        assert_eq!(drawn, PINNED);
    }
    const PINNED: [u32; 4] = [683_634_195, 2_738_204_926, 937_702_696, 3_929_570_116];

    #[test]
    fn every_bit_is_fair_and_independent_of_its_neighbours_in_index_and_key() {
        for seed in 0..8 {
            let key = Key::new(seed);
            let others = [key.fold(0), key.fold(1), Key::new(seed + 1)];
            for bit in [0, 1, 15, 16, 30, 31] {
                let at = |key: Key, index| key.bits(index) >> bit & 1;
                let ones: u64 = (0..DRAWS).map(|i| u64::from(at(key, i))).sum();
                assert!(deviations(ones, DRAWS, 0.5).abs() < 5.0, "bit {bit}: {ones} ones");
                for lag in [1, 2, 3, 64, 1 << 16, 1 << 32] {
                    let equal = (0..DRAWS).filter(|&i| at(key, i) == at(key, i + lag)).count() as u64;
                    assert!(deviations(equal, DRAWS, 0.5).abs() < 5.0, "bit {bit}, lag {lag}: {equal}");
                }
                for other in others {
                    let equal = (0..DRAWS).filter(|&i| at(key, i) == at(other, i)).count() as u64;
                    assert!(deviations(equal, DRAWS, 0.5).abs() < 5.0, "bit {bit}, {other:?}: {equal}");
                }
            }
        }
    }

    #[test]
    fn one_flipped_bit_of_the_index_flips_half_of_the_bits() {
        for flip in 0..64 {
            let key = Key::new(3).fold(flip);
            let changed: u64 = (0..4096).map(|i| u64::from((key.bits(i) ^ key.bits(i ^ 1 << flip)).count_ones())).sum();
            assert!((changed as f64 / 4096.0 - 16.0).abs() < 0.3, "bit {flip} changes {changed} of 4096");
        }
    }

    #[test]
    fn bytes_are_uniform_by_chi_square() {
        for key in [Key::new(1), Key::new(2).fold(5).fold(6)] {
            for shift in [0, 12, 24] {
                let mut counts = [0_u32; 256];
                (0..DRAWS).for_each(|i| counts[(key.bits(i) >> shift & 255) as usize] += 1);
                let expected = DRAWS as f64 / 256.0;
                let chi: f64 = counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
                // 255 degrees of freedom: mean 255, deviation 22.6
                assert!((chi - 255.0).abs() < 5.0 * 22.6, "chi-square {chi}");
            }
        }
    }

    #[test]
    fn keys_of_different_paths_differ() {
        let mut keys: Vec<u64> = Vec::new();
        for a in 0..30 {
            keys.push(Key::new(a).0);
            for b in 0..30 {
                keys.push(Key::new(a).fold(b).0);
                keys.extend((0..5).map(|c| Key::new(a).fold(b).fold(c).0));
            }
        }
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }

    #[test]
    fn uniform_stays_below_one_and_has_the_right_moments() {
        let key = Key::new(11);
        let draws: Vec<f64> = (0..DRAWS).map(|i| f64::from(key.uniform(i))).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / DRAWS as f64;
        let variance = draws.iter().map(|u| (u - mean).powi(2)).sum::<f64>() / DRAWS as f64;
        assert!((mean - 0.5).abs() < 0.003 && (variance - 1.0 / 12.0).abs() < 0.001, "{mean} {variance}");
    }

    #[test]
    fn normal_has_the_right_moments_and_no_correlation() {
        let key = Key::new(12);
        let draws: Vec<f64> = (0..DRAWS).map(|i| f64::from(key.normal(i))).collect();
        let moment = |power| draws.iter().map(|x| x.powi(power)).sum::<f64>() / DRAWS as f64;
        assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.02, "{} {}", moment(1), moment(2));
        assert!(moment(3).abs() < 0.04 && (moment(4) - 3.0).abs() < 0.1, "{} {}", moment(3), moment(4));
        let lagged = draws.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / DRAWS as f64;
        assert!(lagged.abs() < 0.01, "{lagged}");
    }
}
