//! The task `tag` of pictures: a class for each pixel, N→N.
//!
//! [`SegmentTask`] trains, [`Segmenter`] uses a finished model.
//!
//! ```text
//! picture ──patches──▶ [patches, patch² · channels] ──encoder──▶ [patches, d_model] ──linear──▶ [patches, patch² · classes]
//! ```
//!
//! The last of these is a row of class logits for each pixel, so that what comes out has every pixel of the picture, whatever the
//! patch; with `input.patch = 1` each vector is a pixel, and gets its one label.

mod judge;
mod model;
mod predict;
mod segmenter;
mod task;
#[cfg(test)]
mod tests;

pub use segmenter::Segmenter;
pub use task::SegmentTask;
