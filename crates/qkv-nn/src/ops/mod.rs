//! Operations that stand in the hot path, each as one Burn backend extension with a hand-written backward pass: from single
//! steps, as [`linear`] or [`dropout`], to whole halves of a block, [`self_attention`] and [`feed_forward`].
//!
//! A file holds one operation: the extension trait, its kernel call on the CPU, its gradient, the public function on
//! tensors, and its *twin*, the same thing composed of Burn's own operations. The twin is what tests compare with, and
//! what a device without our kernels runs. Arithmetic does not belong here: it lives in the crate `qkv`.

mod bias_activation;
mod cross_entropy;
mod ctc;
mod dropout;
mod feed_forward;
mod gather;
mod layer_norm;
mod linear;
mod lstm;
mod self_attention;

pub use bias_activation::{bias_activation, bias_activation_twin};
pub use cross_entropy::{CrossEntropyOptions, cross_entropy, cross_entropy_twin};
pub use ctc::{ctc_loss, ctc_loss_twin};
pub use dropout::{dropout, dropout_twin};
pub use feed_forward::{FeedForwardOptions, FeedForwardParameters, feed_forward, feed_forward_twin};
pub use gather::{gather_sum, gather_sum_twin};
pub use layer_norm::{LAYER_NORM_EPSILON, layer_norm, layer_norm_twin};
pub use linear::{linear, linear_twin};
pub use lstm::{lstm, lstm_twin};
pub use self_attention::{
    RotaryAngles, SelfAttentionCall, SelfAttentionParameters, self_attention, self_attention_twin, turned_twin,
};

pub(crate) mod flex {
    //! Where a kernel meets Burn's CPU tensors: borrowed slices in, owned vectors out.
    use burn::backend::TensorMetadata;
    use burn::tensor::{Shape, TensorData};
    use burn_flex::FlexTensor;

    /// The tensor itself if its elements stand in order, a copy that does otherwise.
    pub(crate) fn contiguous(x: FlexTensor) -> FlexTensor {
        if x.as_slice::<f32>().is_some() { x } else { x.to_contiguous() }
    }

    /// The elements of a tensor that [`contiguous`] returned.
    pub(crate) fn slice(x: &FlexTensor) -> &[f32] {
        x.as_slice().expect("the tensor was made contiguous and holds f32, the only precision there is")
    }

    pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(values, shape))
    }

    pub(crate) fn tensor_of(values: Vec<f32>, shape: Shape) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(values, shape))
    }

    pub(crate) fn shape(x: &FlexTensor) -> Shape {
        x.shape()
    }

    pub(crate) fn dims<const D: usize>(x: &FlexTensor) -> [usize; D] {
        x.shape().dims()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of all operations share.
    use burn::tensor::{Device, Tensor, TensorData};
    use qkv::random::Key;

    /// The CPU, with gradients.
    pub(crate) fn device() -> Device {
        Device::flex().autodiff()
    }

    /// Normally distributed numbers that depend on `seed` alone.
    pub(crate) fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
        let key = Key::new(seed);
        let values: Vec<f32> = (0..shape.iter().product::<usize>() as u64).map(|i| key.normal(i)).collect();
        Tensor::from_data(TensorData::new(values, shape), &device())
    }

    pub(crate) fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec::<f32>().expect("f32")
    }

    /// Fails unless `a` and `b` agree to `tolerance`, relative to the largest magnitude in `b`.
    #[track_caller]
    pub(crate) fn assert_close<const D: usize>(a: Tensor<D>, b: Tensor<D>, tolerance: f32) {
        assert_eq!(a.dims(), b.dims());
        let (a, b) = (values(a), values(b));
        let scale = b.iter().fold(1e-3_f32, |m, x| m.max(x.abs()));
        for (i, (x, y)) in a.iter().zip(&b).enumerate() {
            assert!((x - y).abs() <= tolerance * scale, "element {i}: {x} against {y} (scale {scale})");
        }
    }
}
