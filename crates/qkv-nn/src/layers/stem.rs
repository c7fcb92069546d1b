//! What stands before an encoder of frames in time: convolutions that take every second place, so that attention has a half or a
//! quarter of the frames to look at, each of which knows its neighbours.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::Offsets;
use qkv::activation::Activation;
use qkv::gather::NONE;

use super::{Init, Linear};
use crate::attention::Layout;
use crate::ops::gather_sum;

/// Frames that one step of a convolution sees.
const KERNEL: usize = 3;

/// Convolutions along time of width 3 and stride 2, each behind it a GELU, as before the encoder of Whisper (Radford et al., 2022).
/// The first goes from `dim` to `d_model` elements.
#[derive(Module, Debug)]
pub struct ConvStem {
    layers: Vec<Linear>,
}

impl ConvStem {
    /// `layers` convolutions; with none, frames would have to have `d_model` elements already.
    ///
    /// # Panics
    /// If `layers` is 0.
    pub fn new(dim: usize, d_model: usize, layers: usize, init: &Init) -> Self {
        assert!(layers > 0, "a stem of convolutions needs one at least");
        let width = |layer| if layer == 0 { dim } else { d_model };
        Self { layers: (0..layers).map(|layer| Linear::new(KERNEL * width(layer), d_model, init)).collect() }
    }

    /// How many numbers [`ConvStem::new`] would make.
    pub fn parameter_count(dim: usize, d_model: usize, layers: usize) -> u128 {
        let [dim, d, layers] = [dim, d_model, layers].map(|n| n as u128);
        let linear = |dim_in: u128| KERNEL as u128 * dim_in * d + d;
        linear(dim) + layers.saturating_sub(1) * linear(d)
    }

    /// How many vectors `layers` convolutions leave of a set of `length` frames: half of them after each, rounded up.
    pub fn length_after(length: usize, layers: usize) -> usize {
        (0..layers).fold(length, |length, _| length.div_ceil(2))
    }

    /// `[tokens, dim]`, whose sets own the rows that `offsets` says, to `[fewer tokens, d_model]` and their layout. Vector `i` of a
    /// convolution comes of frames `2i - 1` to `2i + 1`, zeros beyond the ends of a set.
    pub fn forward(&self, mut x: Tensor<2>, offsets: &Offsets) -> (Tensor<2>, Layout) {
        let mut offsets = offsets.clone();
        for layer in &self.layers {
            let ([_, dim], (ids, fewer)) = (x.dims(), every_second(&offsets));
            let frames = gather_sum(x, ids, 1).reshape([fewer.tokens(), KERNEL * dim]);
            x = layer.forward(frames, Activation::Gelu);
            offsets = fewer;
        }
        (x, Layout::new(offsets))
    }
}

/// The frames that each step of a convolution sees, and whose the steps are.
fn every_second(offsets: &Offsets) -> (Arc<[u32]>, Offsets) {
    let mut ids = Vec::new();
    for set in 0..offsets.sets() {
        let rows = offsets.range(set);
        for middle in rows.clone().step_by(2) {
            ids.extend((0..KERNEL).map(|step| match (middle + step).checked_sub(KERNEL / 2) {
                Some(row) if rows.contains(&row) => row as u32,
                _ => NONE,
            }));
        }
    }
    (ids.into(), Offsets::from_lengths(offsets.lengths().map(|length| length.div_ceil(2))))
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use qkv::activation::bias_activation_forward;

    use super::super::tests::{assert_gradients_are_those_composed, parameters};
    use super::*;
    use crate::ops::testing::{assert_close, device, random, values};

    const LENGTHS: [usize; 6] = [1, 8, 0, 5, 2, 3];

    /// A convolution of width 3 and stride 2 of one set, and a GELU, in f64.
    fn convolution(x: &[Vec<f64>], weight: &[f32], bias: &[f32]) -> Vec<Vec<f64>> {
        let step = |middle: usize| {
            let element = |to: usize| {
                let mut sum = f64::from(bias[to]);
                for step in 0..3 {
                    let frame = (middle + step).checked_sub(1).and_then(|at| x.get(at));
                    for (e, x) in frame.into_iter().flatten().enumerate() {
                        sum += x * f64::from(weight[(step * x_dim(weight, bias) + e) * bias.len() + to]);
                    }
                }
                let mut out = [0.0];
                bias_activation_forward(&[sum as f32], &[0.0], Activation::Gelu, &mut out);
                out[0]
            };
            (0..bias.len()).map(|to| f64::from(element(to))).collect()
        };
        (0..x.len()).step_by(2).map(step).collect()
    }

    fn x_dim(weight: &[f32], bias: &[f32]) -> usize {
        weight.len() / bias.len() / 3
    }

    #[test]
    fn a_stem_equals_plain_loops() {
        for (dim, d_model, layers) in [(3, 4, 1), (5, 4, 2), (1, 2, 3)] {
            let stem = ConvStem::new(dim, d_model, layers, &Init::new(3, &device()));
            let found = parameters(&stem);
            let count: usize = found.iter().map(|(_, numbers)| numbers.len()).sum();
            assert_eq!(count as u128, ConvStem::parameter_count(dim, d_model, layers));
            let offsets = Offsets::from_lengths(LENGTHS);
            let x = random([offsets.tokens(), dim], 1);
            let numbers = values(x.clone());
            let mut expected = Vec::new();
            for set in 0..offsets.sets() {
                let frame = |row: usize| numbers[row * dim..][..dim].iter().map(|&x| f64::from(x)).collect();
                let mut set: Vec<Vec<f64>> = offsets.range(set).map(frame).collect();
                let length = ConvStem::length_after(set.len(), layers);
                for layer in found.chunks_exact(2) {
                    set = convolution(&set, &layer[0].1, &layer[1].1);
                }
                assert_eq!(set.len(), length);
                expected.extend(set.into_iter().flatten().map(|x| x as f32));
            }
            let (out, layout) = stem.forward(x.clone(), &offsets);
            let lengths = LENGTHS.map(|length| ConvStem::length_after(length, layers));
            assert_eq!(layout.offsets(), &Offsets::from_lengths(lengths));
            let expected = TensorData::new(expected, [layout.offsets().tokens(), d_model]);
            assert_close(out, Tensor::from_data(expected, &device()), 1e-5);
            assert_gradients_are_those_composed(&stem, &format!("{layers} layers"), || {
                let x = x.clone().require_grad();
                (stem.forward(x.clone(), &offsets).0, x)
            });
        }
    }

    #[test]
    fn the_gradient_of_the_frames_equals_finite_differences() {
        const STEP: f32 = 1e-2;
        let (stem, offsets) = (ConvStem::new(2, 3, 2, &Init::new(3, &device())), Offsets::from_lengths([5, 2]));
        let loss = |x: Tensor<2>| {
            let (out, _) = stem.forward(x, &offsets);
            (out.clone() * random(out.dims(), 2)).sum()
        };
        let x = random([7, 2], 1).require_grad();
        let found = values(x.grad(&loss(x.clone()).backward()).expect("the frames"));
        let x = values(x);
        for (n, found) in found.into_iter().enumerate() {
            let moved = |by: f32| {
                let mut x = x.clone();
                x[n] += by;
                f64::from(loss(Tensor::from_data(TensorData::new(x, [7, 2]), &device())).into_scalar::<f32>())
            };
            let difference = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
            assert!((difference - f64::from(found)).abs() < 2e-3, "{n}: {found}, not {difference}");
        }
    }

    #[test]
    fn a_batch_without_frames_passes_through() {
        let stem = ConvStem::new(2, 3, 2, &Init::new(3, &device()));
        let (out, layout) = stem.forward(Tensor::zeros([0, 2], &device()), &Offsets::from_lengths([0, 0]));
        assert_eq!((out.dims(), layout.offsets().sets()), ([0, 3], 2));
    }

    #[test]
    #[should_panic(expected = "needs one at least")]
    fn a_stem_of_nothing_is_refused() {
        ConvStem::new(2, 3, 0, &Init::new(3, &device()));
    }
}
