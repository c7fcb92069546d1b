//! From one text to another, or from a picture or a recording to a text: what is read decides what is written, and the model how much.
//!
//! [`PairTask`] learns from pairs, [`Translator`] uses a finished model.

mod data;
mod judge;
mod predict;
mod task;
#[cfg(test)]
mod tests;
mod translator;

pub(super) use judge::quality;
pub use task::{PairTask, reads_pairs};
pub use translator::{Translation, Translator};
