//! Holes in training recordings, so that a model does not rely on any one moment or band.

use std::ops::Range;

use qkv::random::Key;
use serde::{Deserialize, Serialize};

/// How many holes, and how large (Park et al., *SpecAugment*, Interspeech 2019, without its warping of time, which it
/// finds to matter least).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskOptions {
    /// How many stretches of time are taken out.
    pub time_masks: usize,
    /// The most frames that one takes.
    pub time_frames: usize,
    /// The largest share of the recording that one takes.
    pub time_share: f32,
    /// How many stretches of bands are taken out, each for the whole recording.
    pub band_masks: usize,
    /// The most bands that one takes.
    pub bands: usize,
}

impl Default for MaskOptions {
    /// Two holes of up to 25 frames and a tenth of the recording, two of up to 8 bands.
    fn default() -> Self {
        Self { time_masks: 2, time_frames: 25, time_share: 0.1, band_masks: 2, bands: 8 }
    }
}

/// Takes stretches of time and of bands out of normalised `frames`, `[frames, dim]`, before they are stacked: they become
/// zero, the mean. Each frame has `dim / features` groups of `features` numbers, such as bands and their deltas, which
/// lose the same bands. Width and place of each hole are uniform draws of `key`.
pub fn mask(frames: &mut [f32], dim: usize, features: usize, options: &MaskOptions, key: Key) {
    if dim == 0 || features == 0 {
        return;
    }
    let count = frames.len() / dim;
    let share = (f64::from(options.time_share.clamp(0.0, 1.0)) * count as f64) as usize;
    let most = options.time_frames.min(share);
    for n in 0..options.time_masks {
        let hole = stretch(count, most, key.fold(0), n);
        frames[hole.start * dim..hole.end * dim].fill(0.0);
    }
    for n in 0..options.band_masks {
        let hole = stretch(features, options.bands.min(features), key.fold(1), n);
        for group in frames.chunks_exact_mut(dim).flat_map(|frame| frame.chunks_exact_mut(features)) {
            group[hole.clone()].fill(0.0);
        }
    }
}

/// The `n`-th stretch of 0 to `most` among `count`.
fn stretch(count: usize, most: usize, key: Key, n: usize) -> Range<usize> {
    let width = below(most + 1, key, 2 * n as u64);
    let start = below(count - width + 1, key, 2 * n as u64 + 1);
    start..start + width
}

/// A whole number from 0 to `count - 1`, uniform but for 2⁻³² of it.
pub(super) fn below(count: usize, key: Key, index: u64) -> usize {
    ((u128::from(key.bits(index)) * count as u128) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holes_are_whole_stretches_of_time_and_bands(
            count in 0..60_usize, features in 1..20_usize, groups in 1..3_usize, seed in 0..500_u64,
            (time_masks, time_frames, band_masks, bands) in (0..4_usize, 0..30_usize, 0..4_usize, 0..25_usize),
            time_share in 0.0..1.2_f32,
        ) {
            let options = MaskOptions { time_masks, time_frames, time_share, band_masks, bands };
            let dim = features * groups;
            let mut frames = vec![1.0_f32; count * dim];
            mask(&mut frames, dim, features, &options, Key::new(seed));
            let again = &mut vec![1.0_f32; count * dim];
            mask(again, dim, features, &options, Key::new(seed));
            prop_assert_eq!(&frames, again);
            let gone: Vec<bool> = frames.chunks(dim).map(|frame| frame.iter().all(|&x| x == 0.0)).collect();
            let kept = frames.chunks(dim).zip(&gone).find(|(_, gone)| !**gone).map(|(frame, _)| frame.to_vec());
            // Every frame is gone, or has the same bands as the others.
            for frame in frames.chunks(dim) {
                prop_assert!(frame.iter().all(|&x| x == 0.0) || Some(frame) == kept.as_deref());
            }
            if let Some(kept) = kept {
                let lost = kept[..features].iter().filter(|&&x| x == 0.0).count();
                prop_assert!(lost <= band_masks * bands);
                prop_assert!(kept.chunks(features).all(|group| group == &kept[..features]));
                prop_assert!(gone.iter().filter(|&&gone| gone).count() <= time_masks * time_frames);
            }
        }
    }

    #[test]
    fn keys_differ_and_widths_are_uniform() {
        let options = MaskOptions { time_masks: 1, time_frames: 9, time_share: 1.0, band_masks: 0, bands: 0 };
        let mut widths = [0_u32; 10];
        for seed in 0..10_000 {
            let mut frames = vec![1.0; 100];
            mask(&mut frames, 1, 1, &options, Key::new(seed));
            widths[frames.iter().filter(|&&x| x == 0.0).count()] += 1;
        }
        // 1000 expected, deviation 30.
        assert!(widths.iter().all(|&count| count.abs_diff(1000) < 150), "{widths:?}");
    }
}
