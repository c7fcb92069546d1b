//! From one text to another: what is read decides what is written, and the model how much.
//!
//! [`PairTask`] learns from pairs, [`Translator`] uses a finished model.

mod data;
mod judge;
mod predict;
mod task;
mod translator;

pub(super) use judge::quality;
pub use task::{PairTask, reads_pairs};
pub use translator::{Translation, Translator};
