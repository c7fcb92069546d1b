//! Pooling on grids: squares of two by two become one, so that what follows works on a quarter of the vectors.

use burn::tensor::Tensor;

use crate::attention::Layout;
use crate::ops::gather_sum;

/// How the vectors of a square of two by two become one. There is nothing to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GridPooling {
    /// Their mean.
    Mean,
    /// The largest of each element.
    Max,
}

impl GridPooling {
    /// `[tokens, d_model]` to the vectors of a layout whose grids have half the rows and half the columns, rounded up, and that
    /// layout. At the edge of an odd side a square is what is there of it. Vectors on no grid stay as they are.
    pub fn forward(self, x: Tensor<2>, layout: &Layout) -> (Tensor<2>, Layout) {
        let [_, d_model] = x.dims();
        let (squares, halved) = layout.halved();
        let x = match self {
            // What stands in a square more than once stands there as often as each other, so the mean is that of what is there.
            Self::Mean => gather_sum(x, squares, 4) * 0.25,
            Self::Max if squares.is_empty() => gather_sum(x, squares, 4),
            Self::Max => {
                let count = squares.len() / 4;
                gather_sum(x, squares, 1).reshape([count, 4, d_model]).max_dim(1).reshape([count, d_model])
            }
        };
        (x, halved)
    }
}
