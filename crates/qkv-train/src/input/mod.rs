//! What comes in, of any kind: read from files, kept as sets, packed into batches, and made into vectors of the model.
//!
//! ```text
//! files ──Reader──▶ Examples (Sets and what is known of each) ──batch──▶ Batch ──InputEmbedding──▶ [tokens, d_model], Layout
//! ```
//!
//! A task knows the types of this module and nothing of what they hold: a new kind of input is a new file here, and one more variant
//! of [`Reader`], [`Sets`] and [`Batch`]. What a task makes of its vectors is the task's own.

mod classes;
mod embedding;
mod graphs;
mod media;
mod molecules;
mod nodes;
mod parts;
mod pictures;
mod pieces;
mod reader;
mod recordings;
mod rows;
mod sets;
mod sounds;
#[cfg(test)]
pub(crate) mod testing;
mod tracks;
mod units;

pub(crate) use embedding::{InputEmbedding, InputSizes, with_first};
pub(crate) use graphs::random_nodes;
pub(crate) use molecules::buckets;
pub(crate) use parts::Parting;
pub(crate) use reader::{Data, Examples, Reader, Wants, check_lengths, key, nouns};
pub(crate) use sets::{Batch, Sets, VectorBatch};
pub(crate) use sounds::SoundOptions;
pub(crate) use units::{Units, noun};
