//! The same model on a device that has none of our kernels: what it learns there is what it learns on the CPU.
//!
//! With the features `wgpu` and `cuda` the first device of that kind is compared. Without them, or where there is none, the
//! test says so and passes.

mod common;

use burn::tensor::Device;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::tensor::{DeviceType, Tensor};
use common::{
    Batch, CAUSAL_ROTARY, GRID, Model, Numbers, RELATIVE, assert_close, encoder, gradients, parameters, train,
};
use qkv_nn::composed;
use qkv_nn::layers::{EncoderOptions, MixerOptions, NormPlace};
use qkv_nn::optim::FusedAdamW;

const ENCODERS: [EncoderOptions; 5] = [
    encoder(MixerOptions::Attention(RELATIVE), NormPlace::Before),
    encoder(MixerOptions::Attention(CAUSAL_ROTARY), NormPlace::After),
    encoder(MixerOptions::Cnn { radius: 1 }, NormPlace::After),
    EncoderOptions { geometry: GRID, ..encoder(MixerOptions::Attention(RELATIVE), NormPlace::Before) },
    EncoderOptions { geometry: GRID, ..encoder(MixerOptions::Cnn { radius: 1 }, NormPlace::Before) },
];

/// What comes of a fresh model.
struct Learned {
    gradients: Vec<Numbers>,
    /// Before each of three steps of training.
    losses: Vec<f32>,
    /// After them.
    parameters: Vec<Numbers>,
}

fn learn(options: &EncoderOptions, device: Device) -> Learned {
    let batches = [1, 2, 3].map(|seed| Batch::new(&[5, 1, 17, 40, 0, 12, 16], seed));
    let model = Model::new(options, &device.autodiff());
    let gradients = gradients(&model, &model.loss(&batches[0], 0).backward());
    // Adam divides what is 0 but for rounding by its own size: with this much added to the size it stays small.
    let optimizer = FusedAdamW { epsilon: 1e-3, ..FusedAdamW::new(0.01) };
    let (model, losses) = train(model, optimizer, &batches);
    Learned { gradients, losses, parameters: parameters(&model) }
}

/// Fails unless what `learn_there` makes of each encoder is what the CPU makes of it.
fn compare(learn_there: impl Fn(&EncoderOptions) -> Learned) {
    const TOLERANCE: f32 = 1e-3;
    const FLOOR: f32 = 1e-6;
    for options in ENCODERS {
        let (there, here) = (learn_there(&options), learn(&options, Device::flex()));
        assert_close(&there.gradients, &here.gradients, TOLERANCE, FLOOR);
        for (there, here) in there.losses.iter().zip(&here.losses) {
            assert!((there - here).abs() <= TOLERANCE * here, "a loss of {there}, on the CPU {here}");
        }
        assert_close(&there.parameters, &here.parameters, TOLERANCE, FLOOR);
    }
}

/// Compares the first device of a kind that computes, if there is one.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn compare_first(kind: DeviceType) {
    let name = format!("{kind:?}");
    // A driver that is there only in part may panic where there is no device to be found or opened.
    let first = std::panic::catch_unwind(|| {
        let first = Device::enumerate(kind).first()?.clone();
        Tensor::<1>::ones([2], &first).into_data();
        Some(first)
    });
    match first {
        Ok(Some(device)) => {
            println!("compared with the CPU: {device:?}");
            compare(|options| learn(options, device.clone()));
        }
        Ok(None) => println!("skipped: no device of the kind {name} was found"),
        Err(_) => println!("skipped: the first device of the kind {name} could not be opened"),
    }
}

#[test]
fn a_model_learns_on_wgpu_what_it_learns_on_the_cpu() {
    #[cfg(feature = "wgpu")]
    compare_first(DeviceType::Wgpu);
    #[cfg(not(feature = "wgpu"))]
    println!("skipped: compiled without the feature wgpu");
}

#[test]
fn a_model_learns_on_cuda_what_it_learns_on_the_cpu() {
    #[cfg(feature = "cuda")]
    compare_first(DeviceType::Cuda);
    #[cfg(not(feature = "cuda"))]
    println!("skipped: compiled without the feature cuda");
}

#[test]
fn the_comparison_holds_where_the_cpu_stands_in_for_a_second_device() {
    compare(|options| composed(|| learn(options, Device::flex())));
}
