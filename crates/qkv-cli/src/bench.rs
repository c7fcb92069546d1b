//! `bench`: the kernels, timed on work that is known by name, beside the speed that no kernel can exceed.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qkv::attention::Shape;
use qkv::options::Mask;
use qkv::{Isa, Key, Offsets, peak};
use serde_json::json;

use crate::Failure;
use crate::arguments::BenchAttention;
use crate::commands::print;
use crate::measure::{self, Drawn, Problem, gflops, median_seconds, places};

/// Sets of the ragged case, and the bounds of their lengths.
const RAGGED: (usize, usize, usize) = (64, 8, 1024);

/// What the lengths of the ragged case are drawn from.
const LENGTHS_SEED: u64 = 7;

/// Floating-point operations of a forward and a backward pass for one of a forward pass: two products forward, and five
/// backward, one of which is the first again.
const BOTH: f64 = 3.5;

/// One piece of work.
struct Case {
    name: String,
    problem: Problem,
    backward: bool,
    flops: f64,
}

pub(crate) fn attention(options: &BenchAttention) -> Result<(), Failure> {
    match options.precision.as_str() {
        "f32" => {}
        "bf16" => return Err(Failure::usage("--precision bf16: not yet; choose f32")),
        other => return Err(Failure::usage(format!("--precision {other}: no such precision; choose f32"))),
    }
    let threads = rayon::current_num_threads();
    if options.peak {
        let object = json!({
            "peak_gflops": places(peak::measure_peak(threads), 1), "isa": Isa::detect().name(), "threads": threads,
        });
        return print(&object.to_string());
    }
    let all = cases(&ragged_lengths(options.lengths.as_deref())?);
    let (asked, chosen): (&str, Vec<&Case>) = match (&options.case, &options.only) {
        (Some(name), _) => {
            let is_named = |case: &&Case| case.name == *name || case.name.strip_prefix("float32 ") == Some(name);
            (name, all.iter().filter(is_named).collect())
        }
        (None, Some(text)) => (text, all.iter().filter(|case| case.name.contains(text.as_str())).collect()),
        (None, None) => ("", all.iter().collect()),
    };
    if chosen.is_empty() {
        let how = if options.case.is_some() { "is called" } else { "has in its name" };
        return Err(Failure::usage(format!(
            "no case {how} `{asked}`; there are {}, and more that --list tells",
            in_short(&all)
        )));
    }
    if options.list {
        return chosen.iter().try_for_each(|case| print(&case.name));
    }
    // Within the pool: work that is handed to it from outside costs each call the sleep and the awakening of a thread.
    rayon::scope(|_| run(&chosen, threads, options.json))
}

/// Measures case after case and prints each as soon as it is known.
fn run(chosen: &[&Case], threads: usize, json: bool) -> Result<(), Failure> {
    let mut peak = peak::measure_peak(threads);
    let wide = chosen.iter().map(|case| case.name.len()).max().unwrap_or(0);
    if !json {
        let threads = if threads == 1 { "one thread".to_string() } else { format!("{threads} threads") };
        print(&format!(
            "peak: {peak:.1} GFLOP/s, multiply-adds from registers, {}, {threads}\n",
            Isa::detect().name()
        ))?;
        print(&format!("{:<wide$}  {:>10}  {:>8}  {:>7}", "case", "ms", "GFLOP/s", "of peak"))?;
    }
    let live = live(chosen.len());
    for case in chosen {
        if let Some(bar) = &live {
            bar.set_message(case.name.clone());
            bar.tick();
        }
        let seconds = case.seconds()?;
        // Beside each case, since the machine is not the same from one to the next: whatever it does otherwise takes from the
        // peak as from the case.
        let before = std::mem::replace(&mut peak, peak::measure_peak(threads));
        let peak = peak.max(before);
        let (ms, speed) = (seconds * 1e3, gflops(case.flops, seconds));
        let share = speed / peak;
        let line = if json {
            json!({
                "case": case.name, "ms": places(ms, 4), "gflops": places(speed, 2), "of_peak": places(share, 4),
            })
            .to_string()
        } else {
            format!("{:<wide$}  {ms:>10.3}  {speed:>8.1}  {:>5.1} %", case.name, 100.0 * share)
        };
        match &live {
            Some(bar) => bar.suspend(|| print(&line))?,
            None => print(&line)?,
        }
        if let Some(bar) = &live {
            bar.inc(1);
        }
    }
    if let Some(bar) = &live {
        bar.finish_and_clear();
    }
    Ok(())
}

/// What is being measured, on a terminal. It is drawn between cases only: a thread that did so meanwhile would be
/// measured too.
fn live(cases: usize) -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::with_draw_target(Some(cases as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{pos}/{len} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    })
}

impl Case {
    fn seconds(&self) -> Result<f64, Failure> {
        let mut drawn = Drawn::new(self.problem.clone(), self.backward);
        median_seconds(|| {
            drawn.forward()?;
            drawn.backward()
        })
    }
}

/// All work, in the order in which it is shown.
fn cases(ragged: &[usize]) -> Vec<Case> {
    const FULL: Mask = Mask::Full;
    const CAUSAL: Mask = Mask::Causal { offset: 0 };
    let mut cases = Vec::new();
    // sets, heads, tokens of each, width
    for (sets, heads, tokens, dim, mask) in [
        (1, 8, 512, 64, FULL),
        (1, 8, 2048, 64, FULL),
        (1, 8, 2048, 64, CAUSAL),
        (1, 1, 8192, 64, FULL),
        (8, 12, 128, 64, FULL),
        (1, 8, 2048, 128, FULL),
    ] {
        let causal = if mask == CAUSAL { " causal" } else { "" };
        let name = format!("b{sets} h{heads} n{tokens} d{dim}{causal}");
        let pairs = (sets * tokens * tokens) as f64;
        // The half of a square is the usual count for a triangle, although the diagonal makes it some more.
        let pairs = if mask == CAUSAL { pairs / 2.0 } else { pairs };
        add(&mut cases, &name, &vec![tokens; sets], (heads, dim), (mask, pairs), &[false, true]);
    }
    let (width, tokens) = (128, 4096);
    let pairs = (tokens * (2 * width + 1) - width * (width + 1)) as f64;
    let mask = Mask::Window { left: width, right: width };
    add(&mut cases, &format!("window{width} h8 n{tokens} d64"), &[tokens], (8, 64), (mask, pairs), &[false, true]);
    let (sets, low, high) = RAGGED;
    let pairs = ragged.iter().map(|&length| (length * length) as f64).sum();
    add(&mut cases, &format!("ragged{sets} {low}-{high} h8 d64"), ragged, (8, 64), (FULL, pairs), &[true]);
    cases
}

/// Adds the forward pass, the forward and backward pass, or both.
fn add(
    cases: &mut Vec<Case>,
    name: &str,
    lengths: &[usize],
    (heads, dim): (usize, usize),
    (mask, pairs): (Mask, f64),
    passes: &[bool],
) {
    let sets = Offsets::from_lengths(lengths.iter().copied());
    let problem = Problem { shape: Shape::new(heads, dim), queries: sets.clone(), keys: sets, mask };
    let forward = 4.0 * pairs * (heads * dim) as f64;
    for &backward in passes {
        let (pass, flops) = if backward { ("forward+backward", BOTH * forward) } else { ("forward", forward) };
        cases.push(Case { name: format!("float32 {name} {pass}"), problem: problem.clone(), backward, flops });
    }
}

/// The lengths that were given, or as many drawn from a seed: the logarithm of a length is uniform.
fn ragged_lengths(given: Option<&str>) -> Result<Vec<usize>, Failure> {
    let (sets, low, high) = RAGGED;
    let Some(text) = given else {
        let (key, ratio) = (Key::new(LENGTHS_SEED), high as f32 / low as f32);
        let draw = |set| ((low as f32 * ratio.powf(key.uniform(set))) as usize).clamp(low, high);
        return Ok((0..sets as u64).map(draw).collect());
    };
    let lengths = measure::lengths(text)?;
    match lengths.iter().find(|length| !(low..=high).contains(length)) {
        Some(length) => Err(Failure::usage(format!("--lengths: expected lengths of {low} to {high}, found {length}"))),
        None if lengths.len() != sets => {
            Err(Failure::usage(format!("--lengths: expected {sets} lengths, found {}", lengths.len())))
        }
        None => Ok(lengths),
    }
}

/// The first few names.
fn in_short(cases: &[Case]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for case in cases {
        let name = case.name.strip_prefix("float32 ").unwrap_or(&case.name);
        let name = name.rsplit_once(' ').map_or(name, |(name, _)| name);
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    names.truncate(2);
    names.iter().map(|name| format!("`float32 {name} forward`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_those_of_the_pairs() {
        for case in cases(&ragged_lengths(None).expect("drawn")) {
            let said = case.problem.explain(1).expect("it fits");
            let counted = said.forward.flops + if case.backward { said.backward.flops } else { 0 };
            let ratio = counted as f64 / case.flops;
            let expected = if case.name.contains("causal") { 1.0..1.001 } else { 0.999_999..1.000_001 };
            assert!(expected.contains(&ratio), "{}: {ratio}", case.name);
        }
    }

    #[test]
    fn drawn_lengths_are_spread_over_their_range() {
        let mut lengths = ragged_lengths(None).expect("drawn");
        assert_eq!(lengths.len(), 64);
        lengths.sort_unstable();
        assert!(lengths[0] >= 8 && lengths[0] < 16 && lengths[63] <= 1024 && lengths[63] > 512, "{lengths:?}");
        assert!((45..180).contains(&lengths[32]), "the middle is near the root of 8 · 1024: {lengths:?}");
    }
}
