//! A fully connected layer over a window. One of them, as wide as wanted, is the net over a window that self-attention is
//! compared with; a stack of narrow ones, one in each block, is a convolutional net. On grids windows are squares, and the net is
//! one for pictures.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::activation::Activation;

use super::{Geometry, Init, Linear};
use crate::attention::Layout;
use crate::ops::gather_sum;

/// The vectors from `radius` before to `radius` behind, end to end, through one linear layer; on a grid those of the square from
/// `radius` rows above to `radius` below and as many columns to either side. With a weight `[window · d_model, d_model]`, rows from
/// above to below and columns from left to right, it is a convolution with stride 1 and zeros beyond the edges.
#[derive(Module, Debug)]
pub struct WindowLinear {
    linear: Linear,
    #[module(skip)]
    radius: usize,
    #[module(skip)]
    geometry: Geometry,
    #[module(skip)]
    activation: Activation,
}

impl WindowLinear {
    /// A window of `2 · radius + 1` vectors of `d_model` elements, or of its square.
    pub fn new(d_model: usize, radius: usize, geometry: Geometry, activation: Activation, init: &Init) -> Self {
        Self { linear: Linear::new(geometry.window(radius) * d_model, d_model, init), radius, geometry, activation }
    }

    /// `[tokens, d_model]` to the same. Beyond the ends of a set, and beyond the edges of a grid, stand zeros.
    pub fn forward(&self, x: Tensor<2>, layout: &Layout) -> Tensor<2> {
        let [tokens, d_model] = x.dims();
        let ids = match self.geometry {
            Geometry::Line | Geometry::Graph { .. } => layout.window(self.radius),
            Geometry::Grid { .. } => layout.square(self.radius),
        };
        let windows = gather_sum(x, ids, 1).reshape([tokens, self.geometry.window(self.radius) * d_model]);
        self.linear.forward(windows, self.activation)
    }
}
