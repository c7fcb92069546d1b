//! The task `tag`: a label for each vector, N→N.
//!
//! [`TagModel`] is the model of words, [`TagTask`] trains it, [`Tagger`] uses a finished one. Labels of plain vectors,
//! such as the frames of a recording, are in [`each`], those of pixels in [`pictures`].

pub mod each;
mod embed;
mod model;
pub mod pictures;
mod predict;
mod tagger;
mod task;

pub use model::{ModelSizes, TagModel};
pub(crate) use model::{affix_options, embedding_options, embedding_parameters};
pub use tagger::{Evaluation, Tagger};
pub use task::TagTask;
pub(crate) use task::{BYTES_PER_PARAMETER, hidden, read_pretrained, with_hidden};

pub use qkv_data::builtin::Part;
