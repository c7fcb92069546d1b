//! Numbers of data sets: how they are written, their mean and deviation, and the labels that stand beside them.
//!
//! Here belongs what tables, series and graphs have in common. What they are made of is in modules of their own.

mod given;

use serde::{Deserialize, Serialize};

use crate::error::quote;
use crate::examples::Refusal;

pub use given::GivenLabels;
pub(crate) use given::Names;

/// The words, in lower case, that mean that a value is missing; an empty field means it as well.
pub const MISSING: [&str; 7] = ["na", "n/a", "nan", "null", "none", "?", "<na>"];

/// Whether `text` stands for a value that is not there: blank, or one of [`MISSING`], whatever its capitals.
#[must_use]
pub fn is_missing(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || (text.len() <= 4 && MISSING.iter().any(|word| text.eq_ignore_ascii_case(word)))
}

/// The finite number of single precision that `text` is, which stands in the column `column`.
pub(crate) fn single(text: &str, column: &str) -> std::result::Result<f32, Refusal> {
    const MEND: &str = "write a finite number, take the row out, or name the column in data.ignore";
    let text = text.trim();
    if let Some(number) = text.parse().ok().and_then(finite) {
        return Ok(number);
    }
    let column = quote(column);
    let what = match text {
        "" => format!("a number is missing in the column {column}"),
        _ if text.parse::<f64>().is_ok() => format!("{} in the column {column} is not a finite number", quote(text)),
        _ => format!("{} in the column {column} is not a number", quote(text)),
    };
    Err(Refusal::new(what, MEND))
}

/// `number` in single precision, unless it is none or beyond its range.
pub(crate) fn finite(number: f64) -> Option<f32> {
    let single = number as f32;
    single.is_finite().then_some(single)
}

/// The refusal of a number that is infinite, none, or beyond single precision.
pub(crate) fn not_finite(text: &str) -> Refusal {
    let mend = "numbers have to be finite and below 3.4e38; fill it in, or take the row or the column out";
    Refusal::new(format!("{} is not a finite number", quote(text)), mend)
}

/// Mean and deviation of some numbers, added one at a time (Welford 1962).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let before = value - self.mean;
        self.mean += before / self.count;
        self.squares += before * (value - self.mean);
    }

    /// 0 of no numbers.
    pub(crate) fn mean(&self) -> f64 {
        self.mean
    }

    /// 1 of no numbers and of those that are all the same. Of numbers that differ by no more than the rounding of their precision,
    /// `rounding` of the mean, as much as the mean, and at least 1: what is always the same becomes about 0, not noise.
    pub(crate) fn deviation(&self, rounding: f64) -> f64 {
        match self.spread() {
            spread if spread > rounding * self.mean.abs() && spread > f64::from(f32::MIN_POSITIVE) => spread,
            // By as much as the mean, that of a last digit is left is next to nothing.
            spread if spread > 0.0 => self.mean.abs().max(1.0),
            _ => 1.0,
        }
    }

    fn spread(&self) -> f64 {
        (self.squares / self.count.max(1.0)).sqrt()
    }
}

/// By how much of their mean numbers of single and of double precision differ that are the same but for rounding.
pub(crate) const SINGLE: f64 = 1e-7;
pub(crate) const DOUBLE: f64 = 1e-14;

/// So many deviations from the mean are the most that a number is said to be away: sums of squares of it stay finite.
const FARTHEST: f32 = 1e6;

/// Mean and deviation of each number of a vector, as found in the training part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StandardParts")]
pub struct Standard {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

#[derive(Deserialize)]
struct StandardParts {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl TryFrom<StandardParts> for Standard {
    type Error = String;

    fn try_from(StandardParts { mean, deviation }: StandardParts) -> Result<Self, String> {
        let is_sound = mean.len() == deviation.len()
            && mean.iter().all(|mean| mean.is_finite())
            && deviation.iter().all(|deviation| deviation.is_finite() && *deviation > 0.0);
        match is_sound {
            true => Ok(Self { mean, deviation }),
            false => Err("there are not as many deviations above 0 as finite means".to_owned()),
        }
    }
}

impl Standard {
    /// Of all vectors of some packed sets, each `[rows, dim]`. What never changes but by rounding becomes about 0.
    pub fn of<'sets>(sets: impl IntoIterator<Item = &'sets [f32]>, dim: usize) -> Self {
        let mut moments = vec![Moments::default(); dim];
        for row in sets.into_iter().flat_map(|set| set.chunks_exact(dim.max(1))) {
            moments.iter_mut().zip(row).for_each(|(moments, &value)| moments.add(f64::from(value)));
        }
        // A mean of numbers of single precision is one; a deviation may be beyond it.
        let deviation = |moments: &Moments| moments.deviation(SINGLE).min(f64::from(f32::MAX)) as f32;
        Self {
            mean: moments.iter().map(|moments| moments.mean() as f32).collect(),
            deviation: moments.iter().map(deviation).collect(),
        }
    }

    /// How many numbers a vector has.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// The means, `[dim]`.
    #[must_use]
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The deviations, `[dim]`, all above 0.
    #[must_use]
    pub fn deviation(&self) -> &[f32] {
        &self.deviation
    }

    /// Takes the mean away and divides by the deviation, in `rows`, `[rows, dim]`. What would be beyond single precision is as large as
    /// can be: a number so far from those of training is no more than far.
    pub fn apply(&self, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.dim().max(1)) {
            for ((value, mean), deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *value = ((*value - mean) / deviation).clamp(-FARTHEST, FARTHEST);
            }
        }
    }

    /// What [`apply`](Self::apply) did, undone.
    pub fn undo(&self, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.dim().max(1)) {
            for ((value, mean), deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *value = *value * deviation + mean;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_missing_is_told_by_its_word() {
        for text in ["", " ", "NA", "NaN", "null", "?", " none ", "N/A", "<NA>"] {
            assert!(is_missing(text), "{text}");
        }
        for text in ["0", "-", "Nancy", "nano", "inf", "??"] {
            assert!(!is_missing(text), "{text}");
        }
    }

    #[test]
    fn only_finite_numbers_are_taken() {
        assert_eq!(single(" -1.5e2 ", "x").ok(), Some(-150.0));
        for (text, what) in [
            ("inf", "\"inf\" in the column \"n\" is not a finite number"),
            ("1e39", "\"1e39\" in the column \"n\" is not a finite number"),
            ("nan", "\"nan\" in the column \"n\" is not a finite number"),
            ("NA", "\"NA\" in the column \"n\" is not a number"),
            (" ", "a number is missing in the column \"n\""),
        ] {
            let message = single(text, "n").unwrap_err().at("a.csv", 3).to_string();
            assert!(message.starts_with(&format!("a.csv:3: {what}; ")), "{message}");
        }
    }

    #[test]
    fn what_changes_by_rounding_alone_becomes_about_zero_and_what_is_far_stays_finite() {
        let mut rows = vec![1e10, 1e10 + 1e3, 1e10];
        Standard::of([rows.as_slice()], 1).apply(&mut rows);
        assert!(rows.iter().all(|value| value.abs() < 1e-6), "{rows:?}");
        // In double precision the same numbers are told apart.
        let moments = [1e10, 1e10 + 1.0].iter().fold(Moments::default(), |mut moments, &value| {
            moments.add(value);
            moments
        });
        assert_eq!((moments.deviation(DOUBLE), moments.deviation(SINGLE)), (0.5, 1e10 + 0.5));
        let standard = Standard::of([[1e-30_f32, -1e-30].as_slice()], 1);
        let mut far = [3e38_f32, -3e38];
        standard.apply(&mut far);
        assert_eq!(far, [FARTHEST, -FARTHEST]);
    }

    #[test]
    fn what_never_changes_becomes_zero() {
        let mut rows = vec![3.0, 0.1, 3.0, 0.1];
        let standard = Standard::of([rows.as_slice()], 2);
        assert_eq!(standard.deviation(), [1.0, 1.0]);
        standard.apply(&mut rows);
        assert_eq!(rows, [0.0; 4]);
        assert_eq!(Standard::of([], 2).mean(), [0.0; 2]);
    }

    #[test]
    fn a_damaged_standard_is_refused() {
        for json in [
            r#"{"mean":[1.0],"deviation":[]}"#,
            r#"{"mean":[1.0],"deviation":[0.0]}"#,
            r#"{"mean":[1.0],"deviation":[-1.0]}"#,
            r#"{"mean":[1e39],"deviation":[1.0]}"#,
        ] {
            assert!(serde_json::from_str::<Standard>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn standardised_numbers_have_mean_zero_and_deviation_one(
            rows in prop::collection::vec(prop::array::uniform3(-1e3_f32..1e3), 2..60),
        ) {
            let flat: Vec<f32> = rows.concat();
            let standard = Standard::of(flat.chunks(6), 3);
            let again: Standard = serde_json::from_str(&serde_json::to_string(&standard).unwrap()).unwrap();
            prop_assert_eq!(&again, &standard);
            let mut changed = flat.clone();
            standard.apply(&mut changed);
            // (two rows at a time were given, an odd last one is a set of its own)
            for place in 0..3 {
                let column: Vec<f64> = changed.iter().skip(place).step_by(3).map(|&value| f64::from(value)).collect();
                let mean = column.iter().sum::<f64>() / column.len() as f64;
                let square = column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / column.len() as f64;
                prop_assert!(mean.abs() < 1e-3 && (square.sqrt() - 1.0).abs() < 1e-3, "{} {}", mean, square);
            }
            standard.undo(&mut changed);
            for (one, other) in changed.iter().zip(&flat) {
                prop_assert!((one - other).abs() < 1e-2, "{} {}", one, other);
            }
        }
    }
}
