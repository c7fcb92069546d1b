//! From sound to what is said in it, by a unit or nothing for each vector (connectionist temporal classification, Graves et al.,
//! 2006): what is written comes in the order of what is heard, so nothing has to look for it, and work stays linear in the length.
//!
//! [`HearTask`] trains, [`Transcriber`] uses a finished model, on files and on a stream whose end is not known.

pub mod ctc;
mod stream;
mod task;
#[cfg(test)]
mod tests;
mod transcriber;

pub use crate::each::EachModel;
pub use task::HearTask;
pub use transcriber::Transcriber;

use crate::recipe::{Output, Recipe, Task};

/// Whether the recipe asks for this task.
pub fn hears(recipe: &Recipe) -> bool {
    recipe.model.task == Task::Generate && recipe.model.output == Output::Ctc
}
