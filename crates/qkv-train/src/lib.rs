//! Tasks and how they are trained, evaluated and used.
//!
//! What belongs here: recipes, a model for each kind of output with its loss and its metric, the training loop with its
//! checkpoints, and the directory a finished model lives in. What does not: layers and operations (`qkv-nn`), readers and
//! batches (`qkv-data`), arguments and progress bars (`qkv-cli`).

pub mod bench;
pub mod bench_graphs;
pub mod classify;
pub mod demo;
pub mod embed;
pub mod error;
pub mod files;
pub mod generate;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod model_dir;
pub mod recipe;
pub mod recommend;
pub mod run;
pub mod schedule;
pub mod tag;
pub mod trainer;
pub mod weights;

mod arrivals;
mod checkpoint;
pub mod each;
mod input;
mod listen;
mod longest;
mod numbers;
mod stack;

pub use error::{Error, Result};
pub use model::Model;
pub use recipe::Recipe;
