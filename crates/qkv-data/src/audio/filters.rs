//! From the power at each frequency to bands as wide as hearing has them, and their cosine transform.

/// The lowest frequency that a band has part in: below it is rumble, not speech.
const LOWEST_HZ: f64 = 20.0;

/// Triangles over the power at the frequencies of a Fourier transform, equally wide and half overlapping on the mel scale
/// of HTK (`2595 log10(1 + f / 700)`, S. Young et al., *The HTK Book*), from 20 Hz to half the rate. Each triangle is one at
/// its top, not of equal area as Slaney's are.
#[derive(Debug)]
pub(super) struct MelFilters {
    /// For each band its first frequency and the weights from there.
    bands: Vec<(usize, Vec<f32>)>,
}

impl MelFilters {
    /// `bands` filters for a transform of `size` samples at `rate`; `None` if one of them would lie between two
    /// frequencies and see nothing.
    pub(super) fn new(bands: usize, rate: u32, size: usize) -> Option<Self> {
        let rate = f64::from(rate);
        let (low, high) = (mel(LOWEST_HZ.min(rate / 8.0)), mel(rate / 2.0));
        let width = (high - low) / (bands + 1) as f64;
        let filter = |band: usize| {
            let middle = low + width * (band + 1) as f64;
            let weight = |bin: usize| {
                let place = mel(bin as f64 * rate / size as f64);
                (1.0 - (place - middle).abs() / width).max(0.0) as f32
            };
            let first = (0..=size / 2).find(|&bin| weight(bin) > 0.0)?;
            let weights: Vec<f32> = (first..=size / 2).map(weight).take_while(|&weight| weight > 0.0).collect();
            Some((first, weights))
        };
        Some(Self { bands: (0..bands).map(filter).collect::<Option<_>>()? })
    }

    /// Appends what each band has of the `power`, `[size / 2 + 1]`.
    pub(super) fn apply(&self, power: &[f32], out: &mut Vec<f32>) {
        out.extend(self.bands.iter().map(|(first, weights)| {
            let power = &power[*first..*first + weights.len()];
            power.iter().zip(weights).map(|(power, weight)| power * weight).sum::<f32>()
        }));
    }
}

fn mel(hertz: f64) -> f64 {
    2595.0 * (1.0 + hertz / 700.0).log10()
}

/// The first rows of the orthonormal cosine transform (DCT-II) of `bands` numbers, `[coefficients, bands]`:
/// `sqrt(2 / bands) cos(π k (n + 1/2) / bands)`, the row `k = 0` divided by `sqrt 2`.
pub(super) fn cosines(coefficients: usize, bands: usize) -> Vec<f32> {
    let row = |k: usize| {
        let scale = (if k == 0 { 1.0 } else { 2.0 } / bands as f64).sqrt();
        (0..bands)
            .map(move |n| (scale * (std::f64::consts::PI * k as f64 * (n as f64 + 0.5) / bands as f64).cos()) as f32)
    };
    (0..coefficients).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triangles_add_to_one_between_the_first_and_the_last_top() {
        let filters = MelFilters::new(20, 16_000, 1024).unwrap();
        let mut sums = vec![0.0_f32; 513];
        for (first, weights) in &filters.bands {
            for (place, weight) in weights.iter().enumerate() {
                sums[first + place] += weight;
            }
        }
        let top = |band: usize| {
            let (first, weights) = &filters.bands[band];
            first + weights.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
        };
        assert!(sums[top(0) + 1..top(19)].iter().all(|sum| (sum - 1.0).abs() < 1e-5));
        assert_eq!(sums[0], 0.0);
        assert!(MelFilters::new(120, 8000, 256).is_none());
    }

    #[test]
    fn cosines_are_orthonormal() {
        let rows = cosines(7, 7);
        for one in 0..7 {
            for other in 0..7 {
                let product: f32 = (0..7).map(|n| rows[7 * one + n] * rows[7 * other + n]).sum();
                assert!((product - f32::from(u8::from(one == other))).abs() < 1e-6);
            }
        }
    }
}
