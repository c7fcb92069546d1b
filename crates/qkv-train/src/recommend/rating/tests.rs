//! What the factors of the embedded films are: that world is made of dot products, so it can be asked whether they are
//! found again.

use std::sync::atomic::AtomicBool;

use qkv_data::builtin::{FILM_FEATURES, Part, films};

use super::RatingTask;
use crate::metrics::r_squared;
use crate::model::FileKind;
use crate::recipe::Recipe;
use crate::trainer::train;

/// The standard deviation of what nothing can predict of a rating: noise, and the rounding to half stars.
const NOISE: f64 = 0.333;

/// What the linear map of `rows` and a constant that is nearest to `wanted` gives, by the normal equations.
fn linear_fit(rows: &[Vec<f32>], wanted: &[f64]) -> Vec<f64> {
    let rows: Vec<Vec<f64>> =
        rows.iter().map(|row| row.iter().copied().map(f64::from).chain([1.0]).collect()).collect();
    let size = rows[0].len();
    let mut system = vec![vec![0.0; size + 1]; size];
    for (row, wanted) in rows.iter().zip(wanted) {
        for (i, equation) in system.iter_mut().enumerate() {
            let terms = row.iter().chain([wanted]);
            equation.iter_mut().zip(terms).for_each(|(sum, term)| *sum += row[i] * term);
        }
    }
    for column in 0..size {
        let pivot: Vec<f64> = system[column].iter().map(|x| x / system[column][column]).collect();
        for (i, equation) in system.iter_mut().enumerate() {
            let factor = if i == column { equation[column] - 1.0 } else { equation[column] };
            equation.iter_mut().zip(&pivot).for_each(|(x, pivot)| *x -= factor * pivot);
        }
    }
    let apply = |row: &Vec<f64>| row.iter().zip(&system).map(|(x, equation)| x * equation[size]).sum();
    rows.iter().map(apply).collect()
}

#[test]
fn the_factors_of_films_are_their_features_up_to_a_linear_map() {
    let mut recipe = Recipe::default();
    for assignment in [
        "data.train=builtin:films",
        "input.unit=items",
        "model.task=regress",
        "model.mixer=factors",
        "model.d_model=3",
        "training.epochs=50",
        "training.learning_rate=3e-2",
        "training.weight_decay=0.1",
        "training.dropout=0",
    ] {
        recipe.set(assignment).expect(assignment);
    }
    let world = films();
    let task = RatingTask::from_ratings(&recipe, &world.ratings, "builtin:films").expect("ratings");
    let outcome = train(&task, &recipe, None, &AtomicBool::new(false), &mut ()).expect("a run");
    let rater = task.rater(outcome.model);

    let reached = rater.evaluate("builtin:films", Part::Test, FileKind::default()).expect("a judgement");
    let (name, rmse) = reached.metrics[0];
    assert_eq!((name, reached.warnings.len()), ("rmse", 0));
    assert!(rmse > 0.95 * NOISE && rmse < 1.15 * NOISE, "{rmse}, of which {NOISE} is noise");

    let vectors: Vec<Vec<f32>> = world.titles.iter().map(|title| rater.item_vector(title).expect("a film")).collect();
    let explained: [f64; FILM_FEATURES] = std::array::from_fn(|feature| {
        let wanted: Vec<f64> = world.features.iter().map(|film| f64::from(film[feature])).collect();
        r_squared(&wanted, &linear_fit(&vectors, &wanted))
    });
    assert!(explained.iter().all(|share| *share > 0.9), "{:?}: {explained:?}", world.feature_names);
}
