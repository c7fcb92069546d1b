//! Samples at another rate.
//!
//! Windowed-sinc interpolation (J. O. Smith, *Digital Audio Resampling Home Page*, ccrma.stanford.edu/~jos/resample): the
//! sample at time `t` is the sum of the input times a sinc around `t` that is cut off at 0.95 of the lower of the two
//! Nyquist frequencies, under a Kaiser window of 48 samples of the lower rate to each side. What lies below 0.9 of it
//! passes unchanged, what lies above it is some 75 dB down.
//!
//! Times are fractions with whole numerators, so that nothing drifts, and there is a row of coefficients for each
//! fraction that occurs; where those are more than 512, a sample is interpolated between two of 512 rows, which is
//! 106 dB right.
//!
//! Our own and not the crate `rubato`: that takes blocks of sizes it chooses and starts with a delay, which this would
//! have to undo to give the same bits whatever the blocks; the arithmetic is one dot product.

use std::f64::consts::PI;
use std::sync::Arc;

/// Samples of the lower rate to each side of the window.
const HALF: f64 = 48.0;

/// Where the sinc is cut off, of the lower Nyquist frequency.
const CUTOFF: f64 = 0.95;

/// Kaiser's shape for 75 dB (Kaiser and Schafer 1980: 0.1102 (A - 8.7)).
const BETA: f64 = 7.3;

/// The most rows of coefficients.
const MOST_ROWS: u64 = 512;

/// Taps are a multiple of this.
const LANES: usize = 8;

/// Turns samples of one rate into those of another, block by block. There are `ceil(n · to / from)` for `n` of them, the
/// first at the time of the first.
#[derive(Debug, Clone)]
pub struct Resampler {
    table: Arc<Table>,
    /// The samples that are still needed, the next output's first one at `start`.
    held: Vec<f32>,
    start: usize,
    /// The time of the next output in samples of the input, and its fraction in units of `1 / table.up`.
    whole: u64,
    fraction: u64,
    received: u64,
}

#[derive(Debug)]
struct Table {
    /// The ratio of the rates in lowest terms: `up` outputs take as long as `down` inputs.
    up: u64,
    down: u64,
    taps: usize,
    /// Into how many steps the time between two inputs is divided.
    steps: u64,
    /// `steps + 1` rows of `taps`.
    rows: Vec<f32>,
}

impl Resampler {
    /// From samples at `from` to samples at `to` a second, neither of which is 0.
    #[must_use]
    pub fn new(from: u32, to: u32) -> Self {
        let mut resampler = Self {
            table: Arc::new(Table::new(u64::from(from.max(1)), u64::from(to.max(1)))),
            held: Vec::new(),
            start: 0,
            whole: 0,
            fraction: 0,
            received: 0,
        };
        resampler.restart();
        resampler
    }

    /// Begins another recording with the same rates.
    pub fn restart(&mut self) {
        // Before the first sample there is silence.
        self.held.clear();
        self.held.resize((self.table.taps / 2).saturating_sub(1), 0.0);
        (self.start, self.whole, self.fraction, self.received) = (0, 0, 0, 0);
    }

    /// Takes some samples and appends what can be told of the output.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        if self.table.up == self.table.down {
            out.extend_from_slice(samples);
            return;
        }
        self.received += samples.len() as u64;
        self.held.extend_from_slice(samples);
        while self.start + self.table.taps <= self.held.len() {
            self.one(out);
        }
        self.forget();
    }

    /// Appends the rest of the output, after which another recording may begin.
    pub fn finish(&mut self, out: &mut Vec<f32>) {
        if self.table.up != self.table.down {
            while self.whole < self.received {
                let needed = self.start + self.table.taps;
                if needed > self.held.len() {
                    self.held.resize(needed, 0.0);
                }
                self.one(out);
            }
        }
        self.restart();
    }

    fn one(&mut self, out: &mut Vec<f32>) {
        let table = &self.table;
        out.push(table.at(&self.held[self.start..self.start + table.taps], self.fraction));
        self.fraction += table.down;
        let step = self.fraction / table.up;
        self.fraction %= table.up;
        self.whole += step;
        self.start += step as usize;
    }

    /// Drops what no output needs any more, once it is worth the move.
    fn forget(&mut self) {
        let gone = self.start.min(self.held.len());
        if gone > 4096 || gone == self.held.len() {
            self.held.drain(..gone);
            self.start -= gone;
        }
    }
}

impl Table {
    fn new(from: u64, to: u64) -> Self {
        let divisor = gcd(from, to);
        let (up, down) = (to / divisor, from / divisor);
        if up == down {
            return Self { up, down, taps: 0, steps: 1, rows: Vec::new() };
        }
        // How much lower the output's rate is.
        let lower = (to as f64 / from as f64).min(1.0);
        let half = ((HALF / lower).ceil() as usize).next_multiple_of(LANES / 2);
        let (taps, steps) = (2 * half, up.min(MOST_ROWS));
        let mut rows = Vec::with_capacity((steps as usize + 1) * taps);
        for step in 0..=steps {
            let time = step as f64 / steps as f64;
            let weight = |tap: usize| kernel(tap as f64 - (half - 1) as f64 - time, lower);
            let row: Vec<f64> = (0..taps).map(weight).collect();
            // So that a constant stays one.
            let sum: f64 = row.iter().sum();
            rows.extend(row.iter().map(|weight| (weight / sum) as f32));
        }
        Self { up, down, taps, steps, rows }
    }

    /// The output `fraction / up` after the middle of the `window`.
    fn at(&self, window: &[f32], fraction: u64) -> f32 {
        let place = fraction * self.steps;
        let (row, rest) = ((place / self.up) as usize, place % self.up);
        let dot_with = |row: usize| dot(window, &self.rows[row * self.taps..(row + 1) * self.taps]);
        let sample = dot_with(row);
        if rest == 0 {
            return sample;
        }
        sample + (dot_with(row + 1) - sample) * (rest as f32 / self.up as f32)
    }
}

/// The weight of a sample that lies `time` samples from the output, whose rate is `lower` of the input's or higher.
fn kernel(time: f64, lower: f64) -> f64 {
    let place = time * lower / HALF;
    if place.abs() >= 1.0 {
        return 0.0;
    }
    let angle = PI * time * CUTOFF * lower;
    let sinc = if angle == 0.0 { 1.0 } else { angle.sin() / angle };
    sinc * bessel(BETA * (1.0 - place * place).sqrt())
}

/// The modified Bessel function of order zero, by its power series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for n in 1..40 {
        term *= (x / (2.0 * f64::from(n))).powi(2);
        sum += term;
    }
    sum
}

/// In a fixed order, and so that it runs on vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qkv::random::Key;

    use super::*;

    fn all_at_once(from: u32, to: u32, samples: &[f32]) -> Vec<f32> {
        let (mut resampler, mut out) = (Resampler::new(from, to), Vec::new());
        resampler.push(samples, &mut out);
        resampler.finish(&mut out);
        out
    }

    fn sine(rate: u32, hertz: f64, count: usize) -> Vec<f32> {
        let step = std::f64::consts::TAU * hertz / f64::from(rate);
        (0..count).map(|n| (step * n as f64).sin() as f32).collect()
    }

    /// The amplitude of a sine of so many hertz in the middle of the samples, and of the rest, by least squares.
    fn amplitudes(samples: &[f32], rate: u32, hertz: f64) -> (f64, f64) {
        let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
        let step = std::f64::consts::TAU * hertz / f64::from(rate);
        let (mut cc, mut cs, mut ss, mut xc, mut xs) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (n, &x) in middle.iter().enumerate() {
            let (s, c) = (step * n as f64).sin_cos();
            (cc, cs, ss) = (cc + c * c, cs + c * s, ss + s * s);
            (xc, xs) = (xc + f64::from(x) * c, xs + f64::from(x) * s);
        }
        let det = cc * ss - cs * cs;
        let (a, b) = ((xc * ss - xs * cs) / det, (xs * cc - xc * cs) / det);
        let rest = middle.iter().enumerate().map(|(n, &x)| {
            let (s, c) = (step * n as f64).sin_cos();
            (f64::from(x) - a * c - b * s).powi(2)
        });
        let rest = (2.0 * rest.sum::<f64>() / middle.len() as f64).sqrt();
        ((a * a + b * b).sqrt(), rest)
    }

    const RATES: [(u32, u32); 12] = [
        (8000, 16_000),
        (11_025, 16_000),
        (22_050, 16_000),
        (44_100, 16_000),
        (48_000, 16_000),
        (12_345, 16_000),
        (44_100, 8000),
        (16_000, 8000),
        (8000, 12_345),
        (44_101, 16_000),
        (192_000, 8000),
        (16_000, 48_000),
    ];

    #[test]
    fn a_sine_below_nine_tenths_keeps_frequency_and_amplitude() {
        for (from, to) in RATES {
            let nyquist = f64::from(from.min(to)) / 2.0;
            for share in [0.01, 0.1, 0.37, 0.62, 0.8, 0.899] {
                let out = all_at_once(from, to, &sine(from, share * nyquist, from as usize / 2));
                let (kept, rest) = amplitudes(&out, to, share * nyquist);
                assert!((20.0 * kept.log10()).abs() < 0.1, "{from} to {to} at {share}: {kept}");
                assert!(rest < 1e-3, "{from} to {to} at {share}: {rest} besides");
            }
        }
    }

    #[test]
    fn what_lies_above_is_sixty_decibels_down() {
        for (from, to) in RATES.into_iter().filter(|(from, to)| from > to) {
            let nyquist = f64::from(to) / 2.0;
            for share in [1.0, 1.01, 1.1, 1.3, 1.7, 2.1] {
                if share * nyquist < f64::from(from) / 2.0 {
                    let out = all_at_once(from, to, &sine(from, share * nyquist, from as usize / 2));
                    let middle = &out[out.len() / 4..out.len() * 3 / 4];
                    let loudest = middle.iter().fold(0.0_f32, |loudest, x| loudest.max(x.abs()));
                    assert!(loudest < 1e-3, "{from} to {to} at {share}: {loudest}");
                }
            }
        }
    }

    #[test]
    fn a_constant_stays_one_and_the_count_is_right() {
        for (from, to) in RATES {
            for count in [0_u64, 1, 2, 100, 5000] {
                let out = all_at_once(from, to, &vec![0.5; count as usize]);
                assert_eq!(out.len() as u64, (count * u64::from(to)).div_ceil(u64::from(from)), "{from} to {to}");
                if count == 5000 {
                    assert!((out[out.len() / 2] - 0.5).abs() < 1e-5);
                }
            }
        }
        assert_eq!(all_at_once(8000, 8000, &[0.1, 0.2]), [0.1, 0.2]);
    }

    proptest! {
        #[test]
        fn blocks_of_any_size_give_the_same_bits(
            pair in 0..RATES.len(), sizes in prop::collection::vec(0..700_usize, 1..12), seed in 0..100_u64,
        ) {
            let (from, to) = RATES[pair];
            let key = Key::new(seed);
            let samples: Vec<f32> = (0..sizes.iter().sum::<usize>()).map(|n| key.normal(n as u64)).collect();
            let (mut resampler, mut out, mut rest) = (Resampler::new(from, to), Vec::new(), samples.as_slice());
            // Twice, to see that a finished one begins anew.
            for _ in 0..2 {
                out.clear();
                rest = &samples;
                for &size in &sizes {
                    resampler.push(&rest[..size], &mut out);
                    rest = &rest[size..];
                }
                resampler.finish(&mut out);
            }
            prop_assert!(rest.is_empty());
            let bits = |samples: &[f32]| samples.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&out), bits(&all_at_once(from, to, &samples)));
        }
    }
}
