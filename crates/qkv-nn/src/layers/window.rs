//! A fully connected layer over a window. One of them, as wide as wanted, is the net over a window that self-attention is
//! compared with; a stack of narrow ones, one in each block, is a convolutional net.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::activation::Activation;

use super::{Init, Linear};
use crate::attention::Layout;
use crate::ops::gather_sum;

/// The vectors from `radius` before to `radius` behind, end to end, through one linear layer.
#[derive(Module, Debug)]
pub struct WindowLinear {
    linear: Linear,
    #[module(skip)]
    radius: usize,
    #[module(skip)]
    activation: Activation,
}

impl WindowLinear {
    /// A window of `2 · radius + 1` vectors of `d_model` elements.
    pub fn new(d_model: usize, radius: usize, activation: Activation, init: &Init) -> Self {
        Self { linear: Linear::new((2 * radius + 1) * d_model, d_model, init), radius, activation }
    }

    /// `[tokens, d_model]` to the same. Beyond the ends of a set stand zeros.
    pub fn forward(&self, x: Tensor<2>, layout: &Layout) -> Tensor<2> {
        let [tokens, d_model] = x.dims();
        let windows = gather_sum(x, layout.window(self.radius), 1).reshape([tokens, (2 * self.radius + 1) * d_model]);
        self.linear.forward(windows, self.activation)
    }
}
