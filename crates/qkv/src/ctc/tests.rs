//! Against the sum over all paths, against a plain forward and backward pass over logarithms in f64, and both at their limits.

use super::*;
use crate::random::Key;
use crate::testing::{assert_close, differences, numbers, same_bits_with_any_threads, to_f64};
use proptest::prelude::*;

/// The target that a path spells.
fn spelled(path: &[u32], blank: u32) -> Vec<u32> {
    let mut path = path.to_vec();
    path.dedup();
    path.retain(|id| *id != blank);
    path
}

fn log_softmax(x: &[f64], classes: usize) -> Vec<f64> {
    let row = |x: &[f64]| -> Vec<f64> {
        let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lse = max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
        x.iter().map(|x| x - lse).collect()
    };
    x.chunks_exact(classes).flat_map(row).collect()
}

fn log_add(a: f64, b: f64) -> f64 {
    let max = a.max(b);
    if max == f64::NEG_INFINITY { max } else { max + ((a - max).exp() + (b - max).exp()).ln() }
}

/// -ln P as the sum over each of the `classes^frames` paths.
fn by_enumeration(x: &[f64], classes: usize, target: &[u32], blank: u32) -> f64 {
    let (frames, log_p) = (x.len() / classes, log_softmax(x, classes));
    let mut probability = 0.0;
    for number in 0..classes.pow(frames as u32) {
        let path: Vec<u32> = (0..frames as u32).map(|t| (number / classes.pow(t) % classes) as u32).collect();
        if spelled(&path, blank) == target {
            let along = path.iter().enumerate().map(|(t, &id)| log_p[t * classes + id as usize]);
            probability += along.sum::<f64>().exp();
        }
    }
    -probability.ln()
}

/// -ln P and its gradient, from all alphas and betas as logarithms.
fn reference(x: &[f64], classes: usize, target: &[u32], blank: u32) -> (f64, Vec<f64>) {
    let (frames, states, log_p) = (x.len() / classes, 2 * target.len() + 1, log_softmax(x, classes));
    let class = |s: usize| if s.is_multiple_of(2) { blank } else { target[s / 2] } as usize;
    let may_skip = |s: usize| s % 2 == 1 && s > 1 && class(s) != class(s - 2);
    let none = f64::NEG_INFINITY;
    let mut alpha = vec![vec![none; states]; frames + 1];
    alpha[0][0] = 0.0;
    for t in 0..frames {
        for s in 0..states {
            let mut sum = alpha[t][s];
            // before the first frame a path stands on the first blank, and may enter the first label
            sum = log_add(sum, if s > 0 { alpha[t][s - 1] } else { none });
            sum = log_add(sum, if may_skip(s) { alpha[t][s - 2] } else { none });
            alpha[t + 1][s] = sum + log_p[t * classes + class(s)];
        }
    }
    let before_last = if states > 1 { alpha[frames][states - 2] } else { none };
    let total = log_add(alpha[frames][states - 1], before_last);
    let mut beta = vec![none; states];
    beta[states - 1] = 0.0;
    if states > 1 {
        beta[states - 2] = 0.0;
    }
    let mut gradient: Vec<f64> = log_p.iter().map(|log_p| log_p.exp()).collect();
    for t in (0..frames).rev() {
        let row = &mut gradient[t * classes..][..classes];
        (0..states).for_each(|s| row[class(s)] -= (alpha[t + 1][s] + beta[s] - total).exp());
        let with_p: Vec<f64> = (0..states).map(|s| beta[s] + log_p[t * classes + class(s)]).collect();
        for (s, beta) in beta.iter_mut().enumerate() {
            *beta = log_add(with_p[s], with_p.get(s + 1).copied().unwrap_or(none));
            *beta = log_add(*beta, if s + 2 < states && may_skip(s + 2) { with_p[s + 2] } else { none });
        }
    }
    (-total, gradient)
}

/// A batch: frames, labels, and where they are whose.
struct Case {
    x: Vec<f32>,
    classes: usize,
    frames: Offsets,
    ids: Vec<u32>,
    labels: Offsets,
    blank: u32,
}

impl Case {
    /// Sets of so many frames and labels. Of few classes, so that labels repeat.
    fn new(sizes: &[(usize, usize)], classes: usize, blank: u32, seed: u64) -> Self {
        let frames = Offsets::from_lengths(sizes.iter().map(|(frames, _)| *frames));
        let labels = Offsets::from_lengths(sizes.iter().map(|(_, labels)| *labels));
        let key = Key::new(seed ^ 77);
        let label = |n| key.bits(n) % (classes as u32 - 1);
        let ids = (0..labels.tokens() as u64).map(label).map(|id| id + u32::from(id >= blank)).collect();
        let x = numbers(frames.tokens() * classes, seed).iter().map(|x| 2.0 * x).collect();
        Self { x, classes, frames, ids, labels, blank }
    }

    fn targets(&self) -> CtcTargets<'_> {
        CtcTargets { ids: &self.ids, offsets: &self.labels, blank: self.blank }
    }

    fn set<'a>(&'a self, x: &'a [f64], set: usize) -> (&'a [f64], &'a [u32]) {
        let (rows, labels) = (self.frames.range(set), self.labels.range(set));
        (&x[rows.start * self.classes..rows.end * self.classes], &self.ids[labels])
    }

    /// The mean and its gradient, after the reference.
    fn expected(&self, d_loss: f32) -> (f64, Vec<f64>) {
        let x = to_f64(&self.x);
        let found: Vec<_> = (0..self.frames.sets())
            .map(|set| {
                let (x, target) = self.set(&x, set);
                (reference(x, self.classes, target, self.blank), target.len().max(1) as f64)
            })
            .collect();
        let counted = found.iter().filter(|((loss, _), _)| loss.is_finite()).count().max(1) as f64;
        let (mut loss, mut gradient) = (0.0, Vec::new());
        for ((nats, d_nats), labels) in found {
            let share = if nats.is_finite() { 1.0 / (labels * counted) } else { 0.0 };
            loss += if share > 0.0 { share * nats } else { 0.0 };
            gradient.extend(d_nats.iter().map(|d| if share > 0.0 { f64::from(d_loss) * share * d } else { 0.0 }));
        }
        (loss, gradient)
    }

    fn ours(&self, d_loss: f32) -> (Ctc, Vec<f32>) {
        self.with(&mut CtcSaved::with_memory(vec![f32::NAN; 64]), d_loss)
    }

    fn with(&self, saved: &mut CtcSaved, d_loss: f32) -> (Ctc, Vec<f32>) {
        saved.numbers.fill(f32::NAN);
        let found = ctc_forward(&self.x, self.classes, &self.frames, &self.targets(), saved);
        let mut d_logits = vec![f32::NAN; self.x.len()];
        ctc_backward(&self.x, self.classes, &self.frames, &self.targets(), saved, d_loss, &mut d_logits);
        (found, d_logits)
    }
}

#[test]
fn the_reference_is_the_sum_over_all_paths() {
    let all: [(usize, &[u32]); 9] = [
        (1, &[]),
        (3, &[]),
        (1, &[2]),
        (4, &[0]),
        (5, &[0, 2]),
        (5, &[2, 2]),
        (6, &[0, 0, 2]),
        (3, &[0, 2, 0]),
        (5, &[2, 2, 2]),
    ];
    for (frames, target) in all {
        let x = numbers(frames * 3, frames as u64);
        let (loss, gradient) = reference(&to_f64(&x), 3, target, 1);
        let expected = by_enumeration(&to_f64(&x), 3, target, 1);
        assert!((loss - expected).abs() < 1e-12, "{frames} {target:?}: {loss} {expected}");
        let slopes = differences(&x, |x| reference(x, 3, target, 1).0);
        assert!(gradient.iter().zip(&slopes).all(|(a, b)| (a - b).abs() < 1e-8), "{gradient:?} {slopes:?}");
    }
    assert_eq!(by_enumeration(&[0.0; 6], 3, &[2, 2], 1), f64::INFINITY);
    assert_eq!(reference(&[0.0; 6], 3, &[2, 2], 1).0, f64::INFINITY);
}

#[test]
fn small_sets_equal_the_sum_over_all_paths() {
    for seed in 0..30 {
        let sizes = [(5, 2), (1, 0), (6, 3), (4, 1)];
        let case = Case::new(&sizes, 3, (seed % 3) as u32, seed);
        let mut saved = CtcSaved::new();
        ctc_forward(&case.x, 3, &case.frames, &case.targets(), &mut saved);
        let x = to_f64(&case.x);
        for (set, loss) in saved.losses().enumerate() {
            let (x, target) = case.set(&x, set);
            let expected = by_enumeration(x, 3, target, case.blank);
            if expected.is_infinite() {
                assert_eq!(f64::from(loss), expected, "seed {seed}, set {set}");
            } else {
                assert!((f64::from(loss) - expected).abs() < 2e-6 * expected.max(1.0), "seed {seed}, set {set}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn forward_and_backward_equal_the_reference(
        sizes in prop::collection::vec((0_usize..70, 0_usize..40), 0..7),
        classes in prop::sample::select(&[2_usize, 3, 5, 31, 32, 33, 70][..]), blank: u32, seed: u64,
    ) {
        let case = Case::new(&sizes, classes, blank % classes as u32, seed);
        let (found, d_logits) = case.ours(0.7);
        let (loss, gradient) = case.expected(0.7);
        prop_assert!((f64::from(found.loss) - loss).abs() <= 2e-6 * loss.max(1.0), "{found:?} {loss}");
        assert_close(&d_logits, &gradient, 2e-6);
        let fits = |set: usize| ctc_frames_needed(&case.ids[case.labels.range(set)]) <= case.frames.len_of(set);
        prop_assert_eq!(found.counted, (0..sizes.len()).filter(|set| fits(*set)).count());
        prop_assert_eq!(found.counted + found.impossible, sizes.len());
        // softmax and posterior both add up to one
        for row in d_logits.chunks_exact(classes) {
            prop_assert!(row.iter().sum::<f32>().abs() <= 5e-7, "{row:?}");
        }
    }

    #[test]
    fn segments_do_not_change_a_bit(frames in 0_usize..200, labels in 0_usize..60, seed: u64) {
        let (labels, numbers) = (labels.min(frames / 2), 1);
        let case = Case::new(&[(frames, labels)], 5, 0, seed);
        let whole = Plan::new(frames, labels, 5, usize::MAX);
        prop_assert_eq!(whole.segments(), 1);
        let run = |plan: Plan| {
            let mut memory = vec![f32::NAN; plan.numbers()];
            let memory = plan.split(&mut memory);
            let mut set = Set { plan, logits: &case.x, target: &case.ids, blank: 0, memory };
            let end = set.forward();
            let mut d_logits = vec![0.0; case.x.len()];
            if end.is_possible() {
                set.backward(end.exponent, 1.0, &mut d_logits);
            }
            (end.nats.to_bits(), d_logits.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        prop_assert_eq!(run(whole), run(Plan::new(frames, labels, 5, numbers)));
    }
}

#[test]
fn as_few_frames_as_a_target_needs_leave_one_path() {
    // 16 and 32 labels: where a block of states ends
    for labels in [1, 2, 15, 16, 17, 31, 32, 33, 64] {
        for classes in [2, 6] {
            let mut case = Case::new(&[(1, labels)], classes, 0, labels as u64);
            let needed = ctc_frames_needed(&case.ids);
            case.frames = Offsets::from_lengths([needed]);
            case.x = numbers(needed * classes, 4);
            let (found, d_logits) = case.ours(1.0);
            let mut path = Vec::new();
            for &id in &case.ids {
                if path.last() == Some(&id) {
                    path.push(0);
                }
                path.push(id);
            }
            let log_p = log_softmax(&to_f64(&case.x), classes);
            let nats: f64 = -path.iter().enumerate().map(|(t, &id)| log_p[t * classes + id as usize]).sum::<f64>();
            assert!((f64::from(found.loss) / (nats / labels as f64) - 1.0).abs() < 1e-6, "{labels} labels");
            let mut expected: Vec<f64> = log_p.iter().map(|x| x.exp() / labels as f64).collect();
            path.iter().enumerate().for_each(|(t, &id)| expected[t * classes + id as usize] -= 1.0 / labels as f64);
            assert_close(&d_logits, &expected, 1e-6);
            case.frames = Offsets::from_lengths([needed - 1]);
            case.x.truncate((needed - 1) * classes);
            assert_eq!(case.ours(1.0).0, Ctc { loss: 0.0, counted: 0, impossible: 1 });
        }
    }
}

#[test]
fn a_long_recording_is_as_exact_as_a_short_one() {
    // more than one segment, and labels enough that alphas would underflow by far
    for (frames, labels, spread) in [(20_000, 500, 1.0), (3_000, 1_100, 8.0)] {
        let mut case = Case::new(&[(frames, labels)], 30, 0, 3);
        case.x.iter_mut().for_each(|x| *x *= spread);
        assert!(Plan::new(frames, labels, 30, SEGMENT).segments() > 1);
        let (found, d_logits) = case.ours(labels as f32);
        let (loss, gradient) = case.expected(labels as f32);
        assert!((f64::from(found.loss) / loss - 1.0).abs() < 1e-6, "{} {loss}", found.loss);
        assert_close(&d_logits, &gradient, 3e-5);
    }
}

#[test]
fn a_path_that_only_the_end_proves_right_is_not_lost() {
    // The frames say 1 and then 2, the target 2 and then 1. What spells it is less likely than other beginnings by e^40 for each of
    // some 60 frames.
    let (frames, classes) = (120, 3);
    let mut x = vec![0.0; frames * classes];
    for (t, row) in x.chunks_exact_mut(classes).enumerate() {
        row.copy_from_slice(if t < 60 { &[-20.0, 20.0, -20.0] } else { &[-20.0, -20.0, 20.0] });
    }
    let case = Case {
        x,
        classes,
        frames: Offsets::from_lengths([frames]),
        ids: vec![2, 1],
        labels: Offsets::from_lengths([2]),
        blank: 0,
    };
    let (found, d_logits) = case.ours(1.0);
    let (loss, gradient) = case.expected(1.0);
    assert!(loss > 1000.0 && (f64::from(found.loss) / loss - 1.0).abs() < 1e-6, "{} {loss}", found.loss);
    assert_close(&d_logits, &gradient, 1e-5);
}

#[test]
fn large_logits_are_exact() {
    let mut case = Case::new(&[(40, 9), (50, 20)], 7, 2, 8);
    case.x.iter_mut().for_each(|x| *x += 1e4);
    let (found, d_logits) = case.ours(1.0);
    let (loss, gradient) = case.expected(1.0);
    assert!((f64::from(found.loss) / loss - 1.0).abs() < 1e-6, "{} {loss}", found.loss);
    assert_close(&d_logits, &gradient, 1e-6);
    case.x.iter_mut().for_each(|x| *x = (*x - 1e4) * 1e3);
    let (found, d_logits) = case.ours(1.0);
    let (loss, gradient) = case.expected(1.0);
    assert!((f64::from(found.loss) / loss - 1.0).abs() < 1e-6, "{} {loss}", found.loss);
    assert_close(&d_logits, &gradient, 1e-4);
}

#[test]
fn what_cannot_be_spelled_is_skipped_and_counted() {
    let mut case = Case::new(&[(9, 3), (2, 3), (0, 1), (0, 0), (4, 0)], 4, 0, 5);
    let (found, d_logits) = case.ours(1.0);
    assert_eq!((found.counted, found.impossible), (3, 2));
    let (loss, gradient) = case.expected(1.0);
    assert!((f64::from(found.loss) - loss).abs() < 1e-6);
    assert_close(&d_logits, &gradient, 1e-6);
    assert_eq!(d_logits[9 * 4..11 * 4], [0.0; 8]);
    // a label that is ruled out in every frame
    let label = case.ids[0] as usize;
    case.x[..9 * 4].chunks_exact_mut(4).for_each(|row| row[label] = f32::NEG_INFINITY);
    let (found, d_logits) = case.ours(1.0);
    assert_eq!((found.counted, found.impossible), (2, 3));
    assert!(found.loss.is_finite() && d_logits.iter().all(|d| d.is_finite()));
    assert_eq!(d_logits[..9 * 4], [0.0; 36]);
}

#[test]
fn a_class_ruled_out_by_infinity_has_no_gradient() {
    let mut case = Case::new(&[(9, 3)], 4, 0, 5);
    let other = (1..4).find(|id| !case.ids.contains(id)).unwrap_or(case.ids[2]) as usize;
    case.x[4 + other] = f32::NEG_INFINITY;
    let (found, d_logits) = case.ours(1.0);
    let (loss, gradient) = case.expected(1.0);
    assert!((f64::from(found.loss) - loss).abs() < 1e-6, "{found:?} {loss}");
    assert_close(&d_logits, &gradient, 1e-6);
    assert_eq!(d_logits[4 + other], 0.0);
}

#[test]
fn without_sets_or_without_frames_the_loss_is_zero() {
    assert_eq!(Case::new(&[], 3, 0, 1).ours(1.0), (Ctc { loss: 0.0, counted: 0, impossible: 0 }, vec![]));
    assert_eq!(Case::new(&[(0, 0)], 3, 0, 1).ours(1.0), (Ctc { loss: 0.0, counted: 1, impossible: 0 }, vec![]));
}

#[test]
fn not_a_number_is_not_hidden() {
    let mut case = Case::new(&[(9, 3), (8, 2)], 4, 0, 5);
    case.x[17] = f32::NAN;
    let (found, d_logits) = case.ours(1.0);
    assert!(found.loss.is_nan() && found.counted == 2, "{found:?}");
    assert!(d_logits[16..20].iter().all(|d| d.is_nan()) && d_logits[9 * 4..].iter().all(|d| d.is_finite()));
}

#[test]
fn memory_that_held_something_else_changes_no_bit() {
    let case = Case::new(&[(60, 20), (900, 400)], 12, 4, 9);
    let bits = |(found, d_logits): (Ctc, Vec<f32>)| (found, d_logits.into_iter().map(f32::to_bits).collect::<Vec<_>>());
    let fresh = bits(case.ours(1.0));
    let mut saved = CtcSaved::new();
    Case::new(&[(700, 90), (900, 300), (50, 3)], 12, 4, 1).with(&mut saved, 1.0);
    assert_eq!(bits(case.with(&mut saved, 1.0)), fresh);
    assert_eq!(bits(case.with(&mut CtcSaved::with_memory(saved.into_memory()), 1.0)), fresh);
}

#[test]
fn memory_of_a_long_recording_grows_with_the_root_of_its_frames() {
    let numbers =
        |frames, labels| CtcSaved::numbers_for(30, &Offsets::from_lengths([frames]), &Offsets::from_lengths([labels]));
    // half an hour in frames of 40 ms
    let long = numbers(45_000, 2_000);
    assert!(long * 4 < 16 << 20, "{long} numbers");
    assert!(numbers(180_000, 2_000) < long * 5 / 2);
}

#[test]
fn threads_do_not_change_the_bits() {
    let sizes: Vec<_> = (0..20).map(|n| (n * 37 % 211, n * 11 % 60)).collect();
    let case = Case::new(&sizes, 59, 58, 1);
    same_bits_with_any_threads(|| {
        let (found, mut d_logits) = case.ours(1.0);
        d_logits.push(found.loss);
        d_logits
    });
}

#[test]
#[should_panic(expected = "logits has 7 numbers, expected [2, 4]")]
fn a_wrong_length_panics() {
    let mut case = Case::new(&[(2, 1)], 4, 0, 1);
    case.x.pop();
    case.ours(1.0);
}

#[test]
#[should_panic(expected = "label 2 is the blank")]
fn a_target_that_holds_the_blank_panics() {
    let case = Case::new(&[(2, 1)], 4, 0, 1);
    Case { ids: vec![2], blank: 2, ..case }.ours(1.0);
}

#[test]
#[should_panic(expected = "label 4 of 4 classes")]
fn a_label_that_is_no_class_panics() {
    Case { ids: vec![4], ..Case::new(&[(2, 1)], 4, 0, 1) }.ours(1.0);
}

#[test]
#[should_panic(expected = "is of another shape, or was used up")]
fn a_second_backward_pass_panics() {
    let case = Case::new(&[(2, 1)], 4, 0, 1);
    let mut saved = CtcSaved::new();
    case.with(&mut saved, 1.0);
    ctc_backward(&case.x, 4, &case.frames, &case.targets(), &mut saved, 1.0, &mut [0.0; 8]);
}
