//! The task `generate`: what comes next, again and again, until the model itself says that it is over.
//!
//! [`GenerateModel`] is the model, of which one half reads and the other writes. A language model only writes:
//! [`GenerateTask`] trains it, [`Generator`] uses a finished one. What is learned from pairs, a text, a picture or a
//! recording and the text that is to be written of it, reads first: [`PairTask`] and [`Translator`]. `search.rs` and `sample.rs` choose,
//! of all that could be written, what is.

mod embed;
mod generator;
pub mod heard;
mod judge;
mod model;
mod pairs;
mod predict;
mod sample;
mod search;
mod task;

pub use generator::Generator;
pub use heard::{HearTask, Transcriber, hears};
pub use model::{GenerateModel, SourceSize, Vocabularies};
use pairs::quality;
pub use pairs::{PairTask, Translation, Translator, reads_pairs};
pub use task::GenerateTask;
pub(crate) use task::codec_options;
