//! The task `generate`: what comes next, again and again, 1→N.
//!
//! [`GenerateModel`] is the model, [`GenerateTask`] trains it, [`Generator`] uses a finished one. The sequence is that of a
//! text's characters; other units, and sequences that begin from another one, will have their place here.

mod generator;
mod judge;
mod model;
mod predict;
mod sample;
mod task;

pub use generator::Generator;
pub use model::GenerateModel;
pub use task::GenerateTask;
