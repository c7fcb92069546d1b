//! What models are judged by.
//!
//! Here belong figures that are computed from what was wanted and what was predicted, as plain numbers, labels and
//! strings: a file for each kind of output, with the counts that add up over batches where there are such. Running a
//! model does not, and neither do losses.
//!
//! Shares are between 0 and 1; BLEU and chrF alone are between 0 and 100, as the field gives them. Nothing divides by
//! zero: what a figure is for no input at all stands with it.

mod bleu;
mod chrf;
mod classes;
mod classes_text;
mod edit;
mod entities;
mod ngrams;
mod numbers;
mod overlap;
mod ranking;

pub use bleu::{Bleu, BleuCounts, bleu, tokenize_13a};
pub use chrf::{ChrfCounts, chrf};
pub use classes::{ClassCounts, Confusion, Mistake, roc_auc};
pub use edit::{ErrorRate, edit_distance};
pub use entities::{EntityCounts, entities, is_bio};
pub use numbers::{mae, pearson, r_squared, rmse, spearman};
pub use ranking::{Ranks, rank_of};

/// `part / whole`, and 0 of nothing.
pub fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A figure as it is shown: four decimals, or, where they would hide what there is or would stand behind a row of digits, four digits and a power
/// of ten.
pub fn shown(value: f64) -> String {
    let plain = value == 0.0 || !value.is_finite() || (5e-5..1e7).contains(&value.abs());
    if plain { format!("{value:.4}") } else { format!("{value:.3e}") }
}

/// Mean and standard deviation (of a sample; 0 for a single value).
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 })
}

/// The mean, and 0 of nothing.
fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count == 0.0 { 0.0 } else { sum / count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_any_size_are_shown() {
        let all = [0.0, 0.98765, -3.0, 0.00004, 3.03e38, -2e7, f64::NAN].map(shown);
        assert_eq!(all, ["0.0000", "0.9877", "-3.0000", "4.000e-5", "3.030e38", "-2.000e7", "NaN"]);
    }

    #[test]
    fn mean_and_deviation_of_a_sample() {
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, 2_f64.sqrt()));
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
    }
}
