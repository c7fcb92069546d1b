//! Initial values of parameters: a function of the seed and of the order in which they are made, nothing else.

use std::cell::Cell;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use qkv::random::Key;

/// Makes parameters on a device, each from its own stream of random numbers.
#[derive(Debug)]
pub struct Init {
    key: Key,
    made: Cell<u64>,
    device: Device,
}

impl Init {
    /// Parameters for `device` from `seed`.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { key: Key::new(seed).fold(INIT_STREAM), made: Cell::new(0), device: device.clone() }
    }

    /// Where the parameters are made.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// All elements `value`.
    pub fn constant<const D: usize>(&self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        self.values(vec![value; shape.iter().product()], shape)
    }

    /// Uniform in `±limit`.
    pub fn uniform<const D: usize>(&self, shape: [usize; D], limit: f32) -> Param<Tensor<D>> {
        let key = self.next();
        let count = shape.iter().product::<usize>() as u64;
        self.values((0..count).map(|i| (key.uniform(i) * 2.0 - 1.0) * limit).collect(), shape)
    }

    /// Normal with mean 0 and the given standard deviation.
    pub fn normal<const D: usize>(&self, shape: [usize; D], deviation: f32) -> Param<Tensor<D>> {
        let key = self.next();
        let count = shape.iter().product::<usize>() as u64;
        self.values((0..count).map(|i| key.normal(i) * deviation).collect(), shape)
    }

    /// The given values.
    pub fn values<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_data(TensorData::new(values, shape), &self.device)
    }

    fn next(&self) -> Key {
        let made = self.made.get();
        self.made.set(made + 1);
        self.key.fold(made)
    }
}

/// Keeps the numbers that start parameters apart from those that shuffle and drop.
const INIT_STREAM: u64 = 0x1417;
