//! What the tests of several files share.

use crate::activation::Activation;
use crate::pool::Pool;
use crate::random::Key;

/// `n` numbers from a normal distribution.
pub(crate) fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let key = Key::new(seed);
    (0..n as u64).map(|i| key.normal(i)).collect()
}

pub(crate) fn to_f64(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Every number within `tolerance` of what is expected, relative to the largest expected number and at least to one.
#[track_caller]
pub(crate) fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "lengths");
    let scale = expected.iter().fold(1.0_f64, |a, b| a.max(b.abs()));
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= tolerance * scale, "at {i}: found {found}, expected {expected}, scale {scale}");
    }
}

/// The gradient of `f` at `x` by central differences.
pub(crate) fn differences(x: &[f32], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut x = to_f64(x);
    (0..x.len())
        .map(|i| {
            let middle = x[i];
            let mut at = |value| {
                x[i] = value;
                f(&x)
            };
            let slope = (at(middle + STEP) - at(middle - STEP)) / (2.0 * STEP);
            x[i] = middle;
            slope
        })
        .collect()
}

pub(crate) fn dot(a: &[f64], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum()
}

/// Runs `f` on pools of one, two and five threads and compares all bits.
#[track_caller]
pub(crate) fn same_bits_with_any_threads(f: impl Fn() -> Vec<f32> + Sync) {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| f().into_iter().map(f32::to_bits).collect::<Vec<_>>())
    };
    let one = run(1);
    for threads in [2, 5] {
        let found = run(threads);
        assert_eq!(one.len(), found.len());
        let differing = one.iter().zip(&found).position(|(a, b)| a != b);
        assert_eq!(differing, None, "{threads} threads give other bits than one, first at this index");
    }
}

/// Full of buffers of all sizes that hold nothing but NaN.
pub(crate) fn poisoned() -> Pool {
    let pool = Pool::new();
    let sizes = (4..17).flat_map(|power| [1 << power; 16]);
    let buffers = sizes.map(|n| {
        let mut buffer = pool.take(n);
        buffer.fill(f32::NAN);
        buffer
    });
    drop(buffers.collect::<Vec<_>>());
    pool
}

/// The share of a normal distribution below x: ½ + φ(x) (x + x³/3 + x⁵/15 + …), whose terms do not cancel.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..400 {
        term *= x * x / f64::from(2 * n + 1);
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// `act(z)`.
pub(crate) fn activated(z: f64, act: Activation) -> f64 {
    match act {
        Activation::Identity => z,
        Activation::Relu => z.max(0.0),
        Activation::Gelu => z * normal_cdf(z),
        Activation::Tanh => z.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-z).exp()),
        Activation::Elu => {
            if z > 0.0 {
                z
            } else {
                z.exp_m1()
            }
        }
    }
}
