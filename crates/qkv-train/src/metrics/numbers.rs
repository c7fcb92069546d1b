//! Predicted numbers against those that were wanted.
//!
//! All take as many numbers of one as of the other, in the same order. NaN among them makes the result NaN, and so may
//! what is not finite.

use super::mean;

/// The root of the mean squared error, in the unit of the numbers; 0 of none.
///
/// # Panics
///
/// If there are not as many of one as of the other.
pub fn rmse(wanted: &[f64], predicted: &[f64]) -> f64 {
    mean(differences(wanted, predicted).map(|difference| difference * difference)).sqrt()
}

/// The mean absolute error, in the unit of the numbers; 0 of none.
///
/// # Panics
///
/// If there are not as many of one as of the other.
pub fn mae(wanted: &[f64], predicted: &[f64]) -> f64 {
    mean(differences(wanted, predicted).map(f64::abs))
}

/// The coefficient of determination, `1 - squared errors / squared deviations from the mean of what was wanted`: 1 at
/// best, 0 for whoever always says the mean, below 0 for worse. If all that was wanted is the same, it is 1 if all was
/// predicted exactly and else 0, as in scikit-learn; 0 of none.
///
/// # Panics
///
/// If there are not as many of one as of the other.
pub fn r_squared(wanted: &[f64], predicted: &[f64]) -> f64 {
    let differences: Vec<f64> = differences(wanted, predicted).collect();
    if is_constant(wanted) {
        let exact = !wanted.is_empty() && differences.iter().all(|difference| *difference == 0.0);
        return if differences.iter().any(|x| x.is_nan()) { f64::NAN } else { f64::from(u8::from(exact)) };
    }
    let deviations = deviations(wanted);
    let unit = largest(&deviations);
    let squares = |values: &[f64]| values.iter().map(|x| (x / unit).powi(2)).sum::<f64>();
    1.0 - squares(&differences) / squares(&deviations)
}

/// Pearson's correlation, between -1 and 1: how near the two are to a straight line. If either is the same throughout
/// there is none, and the result is 0.
///
/// # Panics
///
/// If there are not as many of one as of the other.
pub fn pearson(wanted: &[f64], predicted: &[f64]) -> f64 {
    assert_same_length(wanted, predicted);
    if wanted.iter().chain(predicted).any(|x| x.is_nan()) {
        return f64::NAN;
    }
    // Asked outright, since a mean that was rounded would leave deviations where there are none.
    if is_constant(wanted) || is_constant(predicted) {
        return 0.0;
    }
    let [wanted, predicted] = [wanted, predicted].map(|values| {
        let deviations = deviations(values);
        let unit = largest(&deviations);
        deviations.into_iter().map(|x| x / unit).collect::<Vec<f64>>()
    });
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let norms = product(&wanted, &wanted).sqrt() * product(&predicted, &predicted).sqrt();
    (product(&wanted, &predicted) / norms).clamp(-1.0, 1.0)
}

/// Spearman's correlation, between -1 and 1: Pearson's of the ranks, so 1 if both have the same order, whatever the
/// distances. Equal numbers share the mean of their ranks. If either is the same throughout there is none, and the
/// result is 0.
///
/// # Panics
///
/// If there are not as many of one as of the other.
pub fn spearman(wanted: &[f64], predicted: &[f64]) -> f64 {
    if wanted.iter().chain(predicted).any(|x| x.is_nan()) {
        assert_same_length(wanted, predicted);
        return f64::NAN;
    }
    pearson(&mid_ranks(wanted), &mid_ranks(predicted))
}

/// The rank of each value, the lowest's being 1; equal values share the mean of their ranks. NaN is below all, and
/// equal to itself.
pub(super) fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let compare = |&a: &usize, &b: &usize| {
        let (a, b) = (values[a], values[b]);
        a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(compare);
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|a, b| compare(a, b).is_eq()) {
        let rank = before as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|&i| ranks[i] = rank);
        before += equal.len();
    }
    ranks
}

fn assert_same_length(wanted: &[f64], predicted: &[f64]) {
    assert_eq!(wanted.len(), predicted.len(), "each wanted number needs its prediction");
}

fn differences(wanted: &[f64], predicted: &[f64]) -> impl Iterator<Item = f64> {
    assert_same_length(wanted, predicted);
    wanted.iter().zip(predicted).map(|(wanted, predicted)| predicted - wanted)
}

fn deviations(values: &[f64]) -> Vec<f64> {
    let mean = mean(values.iter().copied());
    values.iter().map(|x| x - mean).collect()
}

/// The unit in which the largest deviation is 1, so that squares of tiny ones do not vanish and of huge ones stay
/// finite. It is not 0 unless all values are the same.
fn largest(deviations: &[f64]) -> f64 {
    deviations.iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Figure = fn(&[f64], &[f64]) -> f64;

    const ALL: [Figure; 5] = [rmse, mae, r_squared, pearson, spearman];

    #[track_caller]
    fn assert_near(found: [f64; 5], expected: [f64; 5]) {
        let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12);
        assert!(near, "{found:?} is not {expected:?}");
    }

    /// What scikit-learn and SciPy give.
    #[test]
    fn known_figures() {
        let (wanted, predicted) = ([3.0, -0.5, 2.0, 7.0, 7.0], [2.5, 0.0, 2.0, 8.0, 6.0]);
        let expected = [0.5_f64.sqrt(), 0.6, 0.9415887850467289, 0.9705169753699756, 0.9746794344808963];
        assert_near(ALL.map(|figure| figure(&wanted, &predicted)), expected);
    }

    #[test]
    fn the_mean_explains_nothing_and_worse_is_below_zero() {
        assert_eq!(r_squared(&[1.0, 2.0, 3.0], &[2.0; 3]), 0.0);
        assert_eq!(r_squared(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -3.0);
    }

    #[test]
    fn nothing_and_constants_divide_by_no_zero() {
        let of_none = ALL.map(|figure| figure(&[], &[]));
        assert!(of_none.iter().all(|x| *x == 0.0 && x.is_sign_positive()), "{of_none:?}");
        assert_eq!(ALL.map(|figure| figure(&[2.0], &[2.0])), [0.0, 0.0, 1.0, 0.0, 0.0]);
        // The mean of these is not quite 0.1.
        assert_eq!(ALL.map(|figure| figure(&[0.1; 3], &[0.1; 3])), [0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(ALL.map(|figure| figure(&[1.0; 2], &[1.0, 3.0])), [2_f64.sqrt(), 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn nan_is_not_hidden() {
        for (wanted, predicted) in
            [([1.0, 2.0], [1.0, f64::NAN]), ([1.0, 1.0], [f64::NAN; 2]), ([f64::NAN; 2], [1.0, 2.0])]
        {
            assert!(ALL.iter().all(|figure| figure(&wanted, &predicted).is_nan()), "{wanted:?} {predicted:?}");
        }
    }

    #[test]
    fn every_number_needs_its_prediction() {
        for figure in ALL {
            assert!(std::panic::catch_unwind(|| figure(&[1.0, 2.0], &[1.0])).is_err());
            assert!(std::panic::catch_unwind(|| figure(&[1.0, f64::NAN], &[1.0])).is_err());
        }
    }

    #[test]
    fn equal_values_share_the_mean_of_their_ranks() {
        assert_eq!(mid_ranks(&[5.0, 1.0, 5.0, 0.0, 5.0, -0.0]), [5.0, 3.0, 5.0, 1.5, 5.0, 1.5]);
        assert_eq!(mid_ranks(&[f64::NAN, f64::NEG_INFINITY, f64::NAN]), [1.5, 3.0, 1.5]);
    }

    #[test]
    fn an_order_is_all_that_spearman_sees() {
        let wanted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(spearman(&wanted, &[1.0, 10.0, 100.0, 1e300]), 1.0);
        assert_eq!(spearman(&wanted, &[0.4, 0.3, 0.2, -9.0]), -1.0);
        assert!(pearson(&wanted, &[1.0, 10.0, 100.0, 1e300]) < 0.8);
    }

    proptest! {
        #[test]
        fn correlation_and_r_squared_have_no_unit(
            pairs in prop::collection::vec((-5i8..5, -5i8..5), 2..12),
            scale in prop::sample::select(vec![1e-200, 1e-3, -7.0, 1e200]),
        ) {
            let pairs = pairs.into_iter().map(|(wanted, predicted)| (f64::from(wanted), f64::from(predicted)));
            let (wanted, predicted): (Vec<f64>, Vec<f64>) = pairs.unzip();
            let scaled = |values: &[f64]| values.iter().map(|x| x * scale).collect::<Vec<f64>>();
            for figure in [r_squared, pearson, spearman] {
                let (found, expected) = (figure(&scaled(&wanted), &scaled(&predicted)), figure(&wanted, &predicted));
                prop_assert!((found - expected).abs() < 1e-9 * (1.0 + expected.abs()), "{} is not {}", found, expected);
            }
        }

        #[test]
        fn ranks_are_places_in_a_sorted_list(values in prop::collection::vec((0u8..9).prop_map(f64::from), 0..20)) {
            for (value, rank) in values.iter().zip(mid_ranks(&values)) {
                let below = values.iter().filter(|other| *other < value).count() as f64;
                let equal = values.iter().filter(|other| *other == value).count() as f64;
                prop_assert_eq!(rank, below + (equal + 1.0) / 2.0);
            }
        }
    }
}
