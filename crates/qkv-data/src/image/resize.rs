//! Pictures and masks brought to another size.
//!
//! ```text
//! one axis, n numbers to m:   r = n / m,  reach = max(r, 1)
//! centre of output i          c = (i + 1/2) r
//! weight of input j           max(0, 1 - |j + 1/2 - c| / reach), divided by their sum
//! ```
//!
//! The axes are done one after the other, in the order that needs the smaller array between them.

/// A picture `[height, width, channels]` at another height and width.
pub(super) fn triangle(pixels: &[u8], shape: [usize; 3], height: usize, width: usize) -> Vec<u8> {
    let [old_height, old_width, channels] = shape;
    let resized = if old_height.saturating_mul(width) <= height.saturating_mul(old_width) {
        let between = along(pixels, [old_height, old_width, channels], width);
        along(&between, [1, old_height, width * channels], height)
    } else {
        let between = along(pixels, [1, old_height, old_width * channels], height);
        along(&between, [height, old_width, channels], width)
    };
    resized.into_iter().map(|value| (value + 0.5) as u8).collect()
}

/// An array `[outer, length, inner]` with another length.
fn along<T: Copy + Into<f32>>(values: &[T], [outer, length, inner]: [usize; 3], new_length: usize) -> Vec<f32> {
    let mut out = vec![0.0; outer * new_length * inner];
    let taps: Vec<(usize, Vec<f32>)> = (0..new_length).map(|place| weights(place, length, new_length)).collect();
    for (block, new_block) in values.chunks_exact(length * inner).zip(out.chunks_exact_mut(new_length * inner)) {
        for ((first, weights), new_row) in taps.iter().zip(new_block.chunks_exact_mut(inner)) {
            for (row, &weight) in block[first * inner..].chunks_exact(inner).zip(weights) {
                for (sum, &value) in new_row.iter_mut().zip(row) {
                    *sum += weight * value.into();
                }
            }
        }
    }
    out
}

/// The first input that output `place` sees, and the weights of it and its followers; they add up to one.
fn weights(place: usize, length: usize, new_length: usize) -> (usize, Vec<f32>) {
    let ratio = length as f64 / new_length as f64;
    let (reach, centre) = (ratio.max(1.0), (place as f64 + 0.5) * ratio);
    let first = ((centre - reach).floor().max(0.0) as usize).min(length - 1);
    let last = ((centre + reach).ceil() as usize).clamp(first + 1, length);
    let weight = |input: usize| (1.0 - (input as f64 + 0.5 - centre).abs() / reach).max(0.0);
    let raw: Vec<f64> = (first..last).map(weight).collect();
    let sum: f64 = raw.iter().sum();
    (first, raw.into_iter().map(|weight| (weight / sum) as f32).collect())
}

/// A mask `[height, width]` at another height and width: each pixel the one that its centre falls on.
pub(super) fn nearest(pixels: &[u8], [old_height, old_width]: [usize; 2], height: usize, width: usize) -> Vec<u8> {
    let at = |place: usize, old: usize, new: usize| ((2 * place + 1) * old / (2 * new)).min(old - 1);
    let row = |y: usize| &pixels[at(y, old_height, height) * old_width..][..old_width];
    (0..height).flat_map(|y| (0..width).map(move |x| row(y)[at(x, old_width, width)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_even_picture_stays_even_and_no_value_leaves_the_range(
            (height, width, new_height, new_width) in (1usize..20, 1usize..20, 1usize..20, 1usize..20),
            channels in prop::sample::select(vec![1usize, 3]),
            seed: u64,
        ) {
            let even = vec![77; height * width * channels];
            let resized = triangle(&even, [height, width, channels], new_height, new_width);
            prop_assert_eq!(resized, vec![77; new_height * new_width * channels]);
            let key = qkv::random::Key::new(seed);
            let any: Vec<u8> = (0..height * width * channels).map(|i| 50 + (key.bits(i as u64) % 100) as u8).collect();
            let resized = triangle(&any, [height, width, channels], new_height, new_width);
            let (low, high) = (any.iter().min().unwrap(), any.iter().max().unwrap());
            prop_assert!(resized.iter().all(|value| (low..=high).contains(&value)));
            prop_assert_eq!(triangle(&any, [height, width, channels], height, width), any.clone());
            let labels = nearest(&any[..height * width], [height, width], new_height, new_width);
            prop_assert!(labels.len() == new_height * new_width && labels.iter().all(|value| any.contains(value)));
        }
    }

    #[test]
    fn halves_are_weighted_means_and_doubles_are_interpolated() {
        // Of four pixels two: a triangle of reach 2 around 1 sees 0.5, 1.5 and 2.5 at weights 3/4, 3/4 and 1/4.
        let expected =
            [(0.75 * 10.0 + 0.75 * 20.0 + 0.25 * 30.0) / 1.75, (0.25 * 20.0 + 0.75 * 30.0 + 0.75 * 40.0) / 1.75];
        let expected = expected.map(|mean: f64| mean.round() as u8);
        assert_eq!(triangle(&[10, 20, 30, 40], [1, 4, 1], 1, 2), expected);
        assert_eq!(triangle(&[0, 100], [1, 2, 1], 1, 4), [0, 25, 75, 100]);
        assert_eq!(triangle(&[0, 100], [2, 1, 1], 4, 1), [0, 25, 75, 100]);
        assert_eq!(nearest(&[1, 2, 3, 4], [2, 2], 4, 4), [1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]);
        assert_eq!(nearest(&[1, 2, 3, 4, 5], [1, 5], 1, 1), [3]);
    }
}
