//! The tasks `classify` and `regress`: one label, or one number, for the whole of a text, a picture or a recording, N→1.
//!
//! [`ClassifyModel`] is the model, [`ClassifyTask`] trains it, [`Classifier`] uses a finished one. The two tasks differ in
//! what is said of a text and how it is judged, which `answers.rs` and `judge.rs` tell apart; all else is the same.

mod answers;
mod classifier;
mod embed;
mod judge;
mod model;
mod predict;
mod several;
mod task;

pub use classifier::{Classifier, Prediction};
pub use model::ClassifyModel;
pub use task::ClassifyTask;
