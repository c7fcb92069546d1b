//! Softmax cross-entropy with label smoothing (Szegedy et al. 2016), ignored targets, and a weight for each class.
//!
//! ```text
//! q         = (1 - smoothing) one_hot(target) + smoothing / classes
//! w         = weight of the target's class, or 1;   0 in rows that do not count
//! forward   lse = max x + ln Σ e^(x - max x);   loss = Σ_rows w (lse - Σ_c q_c x_c) / Σ_rows w
//! backward  d_x = d_loss · w / Σ_rows w · (softmax(x) - q)
//! ```
//!
//! Two departures, for exactness where logits are large. The loss is computed from `x - max x`, not as a difference of two
//! large numbers. And the backward pass divides `e^(x - lse)` by its sum, which is 1 but for the rounding of `lse`: at 1e4
//! that rounding alone would change each weight by a thousandth part.

use crate::blocks;
use crate::gather::NONE;
use crate::isa::{Target, isa_dispatch};
use crate::math::{exp, max, sum};

/// How rows are judged. From a number: that label smoothing, and all classes alike.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropyOptions<'a> {
    /// How much of the target is spread over all classes.
    pub smoothing: f32,
    /// How much a row counts, by the class of its target, `[classes]`; `None` counts all alike.
    pub class_weights: Option<&'a [f32]>,
}

impl From<f32> for CrossEntropyOptions<'_> {
    fn from(smoothing: f32) -> Self {
        Self { smoothing, class_weights: None }
    }
}

impl CrossEntropyOptions<'_> {
    /// How much a row with this target counts.
    #[inline(always)]
    fn weight(&self, target: u32) -> f32 {
        self.class_weights.map_or(1.0, |weights| weights[target as usize])
    }
}

/// What [`cross_entropy_forward`] finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// Mean over the rows that count, each by its weight, in nats; 0 if none does.
    pub loss: f32,
    /// How many rows count: those whose target is not [`NONE`].
    pub counted: usize,
}

/// The loss of `class_logits` `[tokens, classes]` against `targets` `[tokens]`, where [`NONE`] marks a row that does not
/// count. `lse` `[tokens]` receives the natural logarithm of each row's sum of exponentials, for every row.
///
/// # Panics
///
/// If a slice has another length than its shape, a target is neither [`NONE`] nor below `classes`, the smoothing is
/// not in `[0, 1]`, or a weight is negative or not finite.
pub fn cross_entropy_forward<'a>(
    class_logits: &[f32],
    classes: usize,
    targets: &[u32],
    options: impl Into<CrossEntropyOptions<'a>>,
    lse: &mut [f32],
) -> CrossEntropy {
    let options = options.into();
    let (counted, weight) = check(class_logits, classes, targets, &options, lse.len());
    if classes == 0 {
        lse.fill(f32::NEG_INFINITY);
        return CrossEntropy { loss: 0.0, counted };
    }
    let rows = blocks::rows_per_block(classes);
    let parts = class_logits.chunks(rows * classes).zip(targets.chunks(rows)).zip(lse.chunks_mut(rows));
    let sums = blocks::map(class_logits.len(), parts, |((class_logits, targets), lse)| {
        loss_of_rows(class_logits, classes, targets, options, lse)
    });
    // in f64 and in the order of the blocks
    let total = sums.iter().fold(0.0, |total, sum| total + sum);
    CrossEntropy { loss: if weight == 0.0 { 0.0 } else { (total / weight) as f32 }, counted }
}

/// Checks all lengths and returns how many rows count, and how much all of them together.
fn check(
    class_logits: &[f32],
    classes: usize,
    targets: &[u32],
    options: &CrossEntropyOptions,
    lse: usize,
) -> (usize, f64) {
    let (tokens, smoothing) = (targets.len(), options.smoothing);
    let logits = class_logits.len();
    assert_eq!(
        logits,
        tokens * classes,
        "cross_entropy: class_logits has {logits} numbers, expected [{tokens}, {classes}]"
    );
    assert_eq!(lse, tokens, "cross_entropy: lse has {lse} numbers, targets {tokens}");
    assert!((0.0..=1.0).contains(&smoothing), "cross_entropy: smoothing {smoothing} is not in [0, 1]");
    if let Some(weights) = options.class_weights {
        let given = weights.len();
        assert_eq!(given, classes, "cross_entropy: {given} class weights for {classes} classes");
        let fit = weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0);
        assert!(fit, "cross_entropy: a class weight is negative or not finite");
    }
    let (mut counted, mut weight) = (0, 0.0);
    for &target in targets.iter().filter(|target| **target != NONE) {
        assert!((target as usize) < classes, "cross_entropy: target {target} of {classes} classes");
        counted += 1;
        weight += f64::from(options.weight(target));
    }
    (counted, weight)
}

#[inline(always)]
fn loss_of_rows_body<T: Target>(
    class_logits: &[f32],
    classes: usize,
    targets: &[u32],
    options: CrossEntropyOptions<'_>,
    lse: &mut [f32],
) -> f64 {
    let (mut total, smoothing) = (0.0, options.smoothing);
    for ((x, &target), lse) in class_logits.chunks_exact(classes).zip(targets).zip(lse) {
        let row_max = max(x);
        let log_sum = exp_sum::<T>(x, row_max).ln();
        *lse = row_max + log_sum;
        if target != NONE {
            let mut loss = log_sum - (1.0 - smoothing) * (x[target as usize] - row_max);
            // a class ruled out by -∞ costs nothing unless smoothing asks for it
            if smoothing > 0.0 {
                loss -= smoothing / classes as f32 * sum(x, |x| x - row_max);
            }
            total += f64::from(options.weight(target)) * f64::from(loss);
        }
    }
    total
}
isa_dispatch!(fn loss_of_rows(
    class_logits: &[f32], classes: usize, targets: &[u32], options: CrossEntropyOptions<'_>, lse: &mut [f32],
) -> f64 = loss_of_rows_body);

/// Σ e^(x - row_max). By way of a buffer, for then both loops vectorise whatever the compiler makes of the lanes.
#[inline(always)]
fn exp_sum<T: Target>(x: &[f32], row_max: f32) -> f32 {
    const WIDTH: usize = 256;
    let mut buffer = [0.0; WIDTH];
    let mut total = 0.0;
    for x in x.chunks(WIDTH) {
        for (out, &x) in buffer.iter_mut().zip(x) {
            *out = exp::<T>(x - row_max);
        }
        total += sum(&buffer[..x.len()], |e| e);
    }
    total
}

/// The gradient of [`cross_entropy_forward`] with respect to the logits, times `d_loss`, into `d_logits`
/// `[tokens, classes]`, overwritten. `lse` is what the forward pass left.
///
/// # Panics
///
/// As [`cross_entropy_forward`].
pub fn cross_entropy_backward<'a>(
    class_logits: &[f32],
    classes: usize,
    targets: &[u32],
    options: impl Into<CrossEntropyOptions<'a>>,
    lse: &[f32],
    d_loss: f32,
    d_logits: &mut [f32],
) {
    let options = options.into();
    let (_, weight) = check(class_logits, classes, targets, &options, lse.len());
    let found = d_logits.len();
    assert_eq!(
        found,
        class_logits.len(),
        "cross_entropy: d_logits has {found} numbers, class_logits {}",
        class_logits.len()
    );
    if d_logits.is_empty() {
        return;
    }
    // undoes the mean; where nothing has weight, no row's gradient has any either
    let d_row = if weight == 0.0 { 0.0 } else { d_loss / weight as f32 };
    let rows = blocks::rows_per_block(classes);
    let inputs = class_logits.chunks(rows * classes).zip(targets.chunks(rows)).zip(lse.chunks(rows));
    let parts = inputs.zip(d_logits.chunks_mut(rows * classes));
    blocks::for_each(class_logits.len(), parts, |(((class_logits, targets), lse), d_logits)| {
        gradient_of_rows(class_logits, classes, targets, options, lse, d_row, d_logits);
    });
}

#[inline(always)]
fn gradient_of_rows_body<T: Target>(
    class_logits: &[f32],
    classes: usize,
    targets: &[u32],
    options: CrossEntropyOptions<'_>,
    lse: &[f32],
    d_row: f32,
    d_logits: &mut [f32],
) {
    let smoothing = options.smoothing;
    let rows = class_logits.chunks_exact(classes).zip(d_logits.chunks_exact_mut(classes));
    for ((x, d_x), (&target, &lse)) in rows.zip(targets.iter().zip(lse)) {
        if target == NONE {
            d_x.fill(0.0);
            continue;
        }
        // undoes `lse`: its gradient is the softmax
        for (d_x, &x) in d_x.iter_mut().zip(x) {
            *d_x = exp::<T>(x - lse);
        }
        let d_row = d_row * options.weight(target);
        let scale = d_row / sum(d_x, |e| e);
        // undoes `- Σ q x`
        let everywhere = d_row * smoothing / classes as f32;
        for d_x in d_x.iter_mut() {
            *d_x = T::mul_add(*d_x, scale, -everywhere);
        }
        d_x[target as usize] -= d_row * (1.0 - smoothing);
    }
}
isa_dispatch!(fn gradient_of_rows(
    class_logits: &[f32], classes: usize, targets: &[u32], options: CrossEntropyOptions<'_>, lse: &[f32], d_row: f32, d_logits: &mut [f32],
) = gradient_of_rows_body);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, differences, numbers, same_bits_with_any_threads, to_f64};
    use proptest::prelude::*;

    fn reference(x: &[f64], classes: usize, targets: &[u32], options: CrossEntropyOptions) -> f64 {
        let (mut total, mut all, smoothing) = (0.0, 0.0, f64::from(options.smoothing));
        for (x, &target) in x.chunks_exact(classes).zip(targets).filter(|(_, target)| **target != NONE) {
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
            let weight = options.class_weights.map_or(1.0, |weights| f64::from(weights[target as usize]));
            all += weight;
            for (class, x) in x.iter().enumerate() {
                let one_hot = if class == target as usize { 1.0 - smoothing } else { 0.0 };
                let q = one_hot + smoothing / classes as f64;
                total += if q > 0.0 { weight * q * (lse - x) } else { 0.0 };
            }
        }
        if all == 0.0 { 0.0 } else { total / all }
    }

    fn random_targets(tokens: usize, classes: usize) -> Vec<u32> {
        let key = crate::Key::new(5);
        (0..tokens as u64)
            .map(|i| if key.bits(i).is_multiple_of(4) { NONE } else { key.bits(i) / 4 % classes as u32 })
            .collect()
    }

    fn ours<'a>(
        x: &[f32],
        classes: usize,
        targets: &[u32],
        options: impl Into<CrossEntropyOptions<'a>>,
    ) -> (CrossEntropy, Vec<f32>) {
        let options = options.into();
        let mut lse = vec![f32::NAN; targets.len()];
        let found = cross_entropy_forward(x, classes, targets, options, &mut lse);
        let mut d_logits = vec![f32::NAN; x.len()];
        cross_entropy_backward(x, classes, targets, options, &lse, 0.7, &mut d_logits);
        (found, d_logits)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn forward_and_backward_equal_the_reference(
            tokens in prop::sample::select(&[0_usize, 1, 2, 13][..]), classes in prop::sample::select(&[1_usize, 2, 59, 113, 300][..]),
            smoothing in prop::sample::select(&[0.0_f32, 0.1, 1.0][..]), weighted: bool, seed: u64,
        ) {
            // some classes count nothing
            let weights: Vec<f32> = numbers(classes, seed ^ 1).iter().map(|x| x.max(0.0)).collect();
            let options = CrossEntropyOptions { smoothing, class_weights: weighted.then_some(&weights) };
            let (x, targets) = (numbers(tokens * classes, seed), random_targets(tokens, classes));
            let (found, d_logits) = ours(&x, classes, &targets, options);
            let loss = |x: &[f64]| reference(x, classes, &targets, options);
            prop_assert_eq!(found.counted, targets.iter().filter(|target| **target != NONE).count());
            assert_close(&[found.loss], &[loss(&to_f64(&x))], 1e-6);
            let expected: Vec<f64> = differences(&x, loss).iter().map(|d| d * f64::from(0.7_f32)).collect();
            assert_close(&d_logits, &expected, 1e-6);
        }
    }

    #[test]
    fn large_logits_are_exact() {
        let x = [1e4, 1e4 - 0.5, -1e4, -1e4, -1e4, 1e4];
        let (found, d_logits) = ours(&x, 3, &[1, 2], 0.0);
        let expected = reference(&to_f64(&x), 3, &[1, 2], 0.0.into());
        assert!((f64::from(found.loss) / expected - 1.0).abs() < 1e-6, "{} {expected}", found.loss);
        let p = 1.0 / (1.0 + (-0.5_f64).exp());
        let half = f64::from(0.35_f32);
        assert_close(&d_logits, &[half * p, -half * p, 0.0, 0.0, 0.0, 0.0], 1e-6);
    }

    #[test]
    fn a_class_ruled_out_by_infinity_costs_nothing() {
        let (found, d_logits) = ours(&[0.0, 0.0, f32::NEG_INFINITY], 3, &[0], 0.0);
        assert_close(&[found.loss], &[2.0_f64.ln()], 1e-6);
        assert_close(&d_logits, &[-0.35, 0.35, 0.0], 1e-6);
    }

    #[test]
    fn where_no_row_counts_the_loss_and_its_gradient_are_zero() {
        let (found, d_logits) = ours(&[1.0, 2.0, 3.0, 4.0], 2, &[NONE, NONE], 0.1);
        assert_eq!((found, d_logits), (CrossEntropy { loss: 0.0, counted: 0 }, vec![0.0; 4]));
    }

    #[test]
    fn where_all_weights_are_zero_the_loss_and_its_gradient_are_zero() {
        let options = CrossEntropyOptions { smoothing: 0.1, class_weights: Some(&[0.0, 3.0]) };
        let (found, d_logits) = ours(&[1.0, 2.0, 3.0, 4.0], 2, &[0, 0], options);
        assert_eq!((found, d_logits), (CrossEntropy { loss: 0.0, counted: 2 }, vec![0.0; 4]));
    }

    #[test]
    fn equal_weights_are_no_weights() {
        let (tokens, classes) = (40, 7);
        let (x, targets) = (numbers(tokens * classes, 1), random_targets(tokens, classes));
        let options = CrossEntropyOptions { smoothing: 0.1, class_weights: Some(&[1.0; 7]) };
        assert_eq!(ours(&x, classes, &targets, options), ours(&x, classes, &targets, 0.1));
    }

    #[test]
    fn a_row_of_weight_two_counts_as_two_rows() {
        let (row, other) = ([0.3, -1.0], [0.2, 0.9]);
        let options = CrossEntropyOptions { smoothing: 0.0, class_weights: Some(&[2.0, 1.0]) };
        let (weighted, _) = ours(&[row, other].concat(), 2, &[0, 1], options);
        let (twice, _) = ours(&[row, row, other].concat(), 2, &[0, 0, 1], 0.0);
        assert!((weighted.loss - twice.loss).abs() < 1e-6, "{weighted:?} {twice:?}");
    }

    #[test]
    #[should_panic(expected = "2 class weights for 3 classes")]
    fn a_weight_for_each_class_is_needed() {
        ours(&[0.0; 3], 3, &[0], CrossEntropyOptions { smoothing: 0.0, class_weights: Some(&[1.0; 2]) });
    }

    #[test]
    fn lse_is_given_for_every_row() {
        let mut lse = [0.0; 2];
        cross_entropy_forward(&[1.0, 1.0, 3.0, 3.0], 2, &[NONE, 0], 0.0, &mut lse);
        assert_close(&lse, &[1.0 + 2.0_f64.ln(), 3.0 + 2.0_f64.ln()], 1e-6);
    }

    #[test]
    #[should_panic(expected = "target 3 of 3 classes")]
    fn a_target_that_is_no_class_panics() {
        ours(&[0.0; 3], 3, &[3], 0.0);
    }

    #[test]
    #[should_panic(expected = "class_logits has 4 numbers, expected [1, 3]")]
    fn a_wrong_length_panics() {
        ours(&[0.0; 4], 3, &[0], 0.0);
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        let (tokens, classes) = (2000, 59);
        let (x, targets) = (numbers(tokens * classes, 1), random_targets(tokens, classes));
        same_bits_with_any_threads(|| {
            let (found, mut d_logits) = ours(&x, classes, &targets, 0.1);
            d_logits.push(found.loss);
            d_logits
        });
    }
}
