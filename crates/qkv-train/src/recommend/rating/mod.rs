//! Rating prediction: how well somebody will like an item, by matrix factorisation.

mod model;
mod rater;
mod task;
#[cfg(test)]
mod tests;

pub use model::RatingModel;
pub use rater::Rater;
pub use task::RatingTask;
