//! The task `tag` of plain vectors, such as the frames of a recording: a label for each, N→N.
//!
//! [`EachTask`] trains, [`Labeller`] uses a finished model, on files and on a stream whose end is not known.

mod judge;
mod labeller;
mod predict;
mod task;
#[cfg(test)]
mod tests;

pub use labeller::Labeller;
pub use task::EachTask;

use crate::recipe::{InputKind, Recipe, Task};

/// Whether the recipe asks for labels of plain vectors.
pub(crate) fn labels_each(recipe: &Recipe) -> bool {
    recipe.model.task == Task::Tag
        && matches!(recipe.input.kind, InputKind::Audio | InputKind::Graph | InputKind::Vectors)
}
