use std::f64::consts::{PI, TAU};

use proptest::prelude::*;
use qkv::random::Key;

use super::super::normalise::Scale;
use super::super::stream::{FrameStream, stack};
use super::super::testing::sine;
use super::*;

fn noise(count: usize, seed: u64) -> Vec<f32> {
    let key = Key::new(seed);
    (0..count).map(|n| 0.1 * key.normal(n as u64)).collect()
}

fn frames(options: &FrameOptions, samples: &[f32]) -> Vec<f32> {
    let (mut framer, mut out) = (Framer::new(options).unwrap(), Vec::new());
    framer.push(samples, &mut out);
    framer.finish(&mut out);
    out
}

fn plain(rate: u32, features: Features) -> FrameOptions {
    FrameOptions { rate, features, normalise: Normalise::None, ..FrameOptions::default() }
}

/// The formulas of the module's head, by a plain Fourier sum in `f64`.
fn by_formula(options: &FrameOptions, samples: &[f32], size: usize) -> Vec<f64> {
    let (Features::LogMel { bands } | Features::Mfcc { bands, .. }) = options.features;
    let (rate, window) = (f64::from(options.rate), options.window());
    let mel = |hertz: f64| 1_127.010_48 * (hertz / 700.0).ln_1p();
    let edge = |n: usize| mel(20.0) + (mel(rate / 2.0) - mel(20.0)) * n as f64 / (bands + 1) as f64;
    let mut out = Vec::new();
    for start in (0..=samples.len() - window).step_by(options.step()) {
        let x = |n: usize| f64::from(samples[start + n]);
        let y: Vec<f64> = (0..window)
            .map(|n| (x(n) - 0.97 * x(n.saturating_sub(1))) * (0.5 - 0.5 * (TAU * n as f64 / window as f64).cos()))
            .collect();
        let power: Vec<f64> = (0..=size / 2)
            .map(|k| {
                let turn = TAU * k as f64 / size as f64;
                let re: f64 = y.iter().enumerate().map(|(n, y)| y * (turn * n as f64).cos()).sum();
                let im: f64 = y.iter().enumerate().map(|(n, y)| y * (turn * n as f64).sin()).sum();
                re * re + im * im
            })
            .collect();
        let log: Vec<f64> = (0..bands)
            .map(|band| {
                let weight = |k: usize| {
                    let place = mel(k as f64 * rate / size as f64);
                    let rising = (place - edge(band)) / (edge(band + 1) - edge(band));
                    let falling = (edge(band + 2) - place) / (edge(band + 2) - edge(band + 1));
                    rising.min(falling).max(0.0)
                };
                power.iter().enumerate().map(|(k, power)| weight(k) * power).sum::<f64>().max(1e-10).ln()
            })
            .collect();
        match options.features {
            Features::LogMel { .. } => out.extend(log),
            Features::Mfcc { coefficients, .. } => out.extend((0..coefficients).map(|c| {
                let terms = log.iter().enumerate();
                let sum: f64 = terms.map(|(n, x)| x * (PI * c as f64 * (n as f64 + 0.5) / bands as f64).cos()).sum();
                sum * if c == 0 { 1.0 / bands as f64 } else { 2.0 / bands as f64 }.sqrt()
            })),
        }
    }
    out
}

#[test]
fn frames_are_what_the_formulas_say() {
    for (rate, features, size) in [
        (8000, Features::LogMel { bands: 23 }, 256),
        (16_000, Features::LogMel { bands: 40 }, 512),
        (8000, Features::LogMel { bands: 80 }, 256),
        (8000, Features::LogMel { bands: 120 }, 512),
        (11_025, Features::Mfcc { bands: 26, coefficients: 13 }, 512),
    ] {
        let options = plain(rate, features);
        let mut samples = noise(options.window() + 3 * options.step() + 7, u64::from(rate));
        samples.iter_mut().zip(sine(rate, 700.0, 9000)).for_each(|(x, tone)| *x = 0.01 * *x + tone);
        let (found, expected) = (frames(&options, &samples), by_formula(&options, &samples, size));
        assert_eq!((found.len(), found.len()), (expected.len(), 4 * options.feature_dim()));
        for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((f64::from(*found) - expected).abs() < 2e-3, "{rate} {features:?} {place}: {found} {expected}");
        }
    }
}

#[test]
fn a_tone_is_loudest_in_its_band() {
    let options = plain(16_000, Features::LogMel { bands: 40 });
    for hertz in [300.0, 1000.0, 3000.0, 6500.0] {
        let out = frames(&options, &sine(16_000, hertz, 16_000));
        let loudest = (0..40).max_by(|&a, &b| out[400 + a].total_cmp(&out[400 + b])).unwrap() as f64;
        let mel = |hertz: f64| 1_127.010_48 * (hertz / 700.0).ln_1p();
        let expected = (mel(hertz) - mel(20.0)) / (mel(8000.0) - mel(20.0)) * 41.0 - 1.0;
        assert!((loudest - expected).abs() < 0.8, "{hertz}: {loudest} {expected}");
    }
}

#[test]
fn counts_are_as_promised_and_the_shortest_gives_one() {
    for (window_ms, step_ms) in [(25.0, 10.0), (10.0, 25.0), (10.0, 10.0), (0.25, 0.125)] {
        let options = FrameOptions { window_ms, step_ms, ..plain(8000, Features::LogMel { bands: 1 }) };
        for count in [0, 1, 2, 79, 80, 81, 199, 200, 201, 279, 280, 281, 1000] {
            let out = frames(&options, &noise(count, 3));
            assert_eq!(out.len(), options.frame_count(count), "{window_ms} {step_ms} {count}");
        }
    }
    let options = plain(8000, Features::LogMel { bands: 20 });
    let (short, mut padded) = (noise(70, 1), noise(70, 1));
    padded.resize(200, 0.0);
    assert_eq!(frames(&options, &short), frames(&options, &padded));
}

#[test]
fn silence_and_constants_give_numbers() {
    for deltas in [false, true] {
        for normalise in [Normalise::Recording, Normalise::None] {
            for value in [0.0, 0.5, 1e12] {
                let options =
                    FrameOptions { deltas, normalise, ..plain(8000, Features::Mfcc { bands: 20, coefficients: 13 }) };
                let out = options.frames_of(&vec![value; 2000], 8000, None).unwrap();
                assert!(!out.is_empty() && out.iter().all(|x| x.is_finite()), "{value} {options:?}");
                if normalise == Normalise::Recording {
                    assert!(out.iter().all(|&x| x == 0.0), "what does not change is zero");
                }
            }
        }
    }
}

#[test]
fn deltas_are_the_slope_of_the_features() {
    let still = plain(8000, Features::LogMel { bands: 5 });
    let options = FrameOptions { deltas: true, ..still.clone() };
    for count in [100, 200, 300, 1000] {
        let samples = noise(count, 9);
        let (still, moving) = (frames(&still, &samples), frames(&options, &samples));
        let last = still.len() / 5 - 1;
        assert_eq!(moving.len(), 2 * still.len());
        for (t, frame) in moving.chunks(10).enumerate() {
            for place in 0..5 {
                let at = |ahead: isize| still[t.saturating_add_signed(ahead).min(last) * 5 + place];
                let expected = (at(1) - at(-1) + 2.0 * (at(2) - at(-2))) / 10.0;
                assert_eq!(frame[place], at(0));
                assert!((frame[5 + place] - expected).abs() < 1e-5, "{count} {t} {place}");
            }
        }
    }
}

#[test]
fn options_that_give_no_frames_are_refused() {
    let default = FrameOptions::default;
    let mel = |bands| Features::LogMel { bands };
    for (options, expected) in [
        (FrameOptions { rate: 0, ..default() }, "rate: "),
        (FrameOptions { rate: 1_000_000, ..default() }, "rate: "),
        (FrameOptions { window_ms: 0.0, ..default() }, "window_ms: "),
        (FrameOptions { window_ms: f32::NAN, ..default() }, "window_ms: "),
        (FrameOptions { window_ms: 1e9, ..default() }, "window_ms: "),
        (FrameOptions { step_ms: -1.0, ..default() }, "step_ms: "),
        (FrameOptions { features: mel(0), ..default() }, "bands: "),
        (FrameOptions { features: mel(usize::MAX), ..default() }, "bands: "),
        (FrameOptions { features: Features::Mfcc { bands: 20, coefficients: 21 }, ..default() }, "coefficients: "),
        (FrameOptions { features: Features::Mfcc { bands: 20, coefficients: 0 }, ..default() }, "coefficients: "),
        (FrameOptions { stack: 0, ..default() }, "stack: "),
    ] {
        let said = options.check().unwrap_err().to_string();
        assert!(said.starts_with(expected) && !said.contains('\n'), "{said}");
        assert!(Framer::new(&options).is_err());
    }
    let options = default();
    assert_eq!(serde_json::from_str::<FrameOptions>(&serde_json::to_string(&options).unwrap()).unwrap(), options);
    let corpus = FrameOptions { normalise: Normalise::Corpus, ..default() };
    let scale = |dim: usize| Scale { mean: vec![0.0; dim], deviation: vec![1.0; dim] };
    let broken = Scale { mean: vec![0.0; 40], deviation: vec![0.0; 40] };
    for (options, scale) in [(&corpus, None), (&corpus, Some(&scale(39))), (&corpus, Some(&broken)), (&default(), None)]
    {
        assert!(FrameStream::new(options, 8000, scale).is_err());
    }
    assert!(FrameStream::new(&corpus, 0, Some(&scale(40))).is_err());
    assert!(corpus.frames_of(&[0.0; 900], 8000, None).is_err());
}

proptest! {
    #[test]
    fn blocks_of_any_size_give_the_same_bits(
        sizes in prop::collection::vec(0..2500_usize, 1..10), seed in 0..100_u64, from in 0..7_usize,
        (window_ms, step_ms) in (1.0..40.0_f32, 1.0..40.0_f32), deltas in any::<bool>(), stack_of in 1..5_usize,
        mfcc in any::<bool>(), corpus in any::<bool>(),
    ) {
        let rate = [8000, 11_025, 12_345, 16_000, 22_050, 44_100, 48_000][from];
        let features = match mfcc {
            true => Features::Mfcc { bands: 12, coefficients: 5 },
            false => Features::LogMel { bands: 12 },
        };
        let normalise = if corpus { Normalise::Corpus } else { Normalise::None };
        let options = FrameOptions { rate: 8000, window_ms, step_ms, features, deltas, normalise, stack: stack_of };
        let dim = options.frame_dim();
        let scale = Scale { mean: vec![-3.0; dim], deviation: vec![2.5; dim] };
        let samples = noise(sizes.iter().sum(), seed);
        let whole = options.frames_of(&samples, rate, Some(&scale)).unwrap();
        let expected = stack(&whole, dim, stack_of);
        prop_assert_eq!(expected.len() % options.row_dim(), 0);
        let mut stream = FrameStream::new(&options, rate, Some(&scale)).unwrap();
        // Twice, to see that a finished one begins anew.
        for _ in 0..2 {
            let (mut out, mut rest) = (Vec::new(), samples.as_slice());
            for &size in &sizes {
                stream.push(&rest[..size], &mut out);
                rest = &rest[size..];
            }
            stream.finish(&mut out);
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&out), bits(&expected));
        }
    }

    #[test]
    fn a_recording_s_loudness_does_not_matter(gain in 0.1..10.0_f32, seed in 0..100_u64) {
        let options = FrameOptions { rate: 8000, ..FrameOptions::default() };
        let samples = noise(4000, seed);
        let louder: Vec<f32> = samples.iter().map(|x| x * gain).collect();
        let (one, other) = (options.frames_of(&samples, 8000, None).unwrap(), options.frames_of(&louder, 8000, None).unwrap());
        prop_assert!(one.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-3));
    }
}
