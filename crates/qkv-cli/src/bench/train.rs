//! `bench train`: steps of training and inference of an encoder, timed, beside the speed that no kernel can exceed.
//!
//! Belongs here: clock, memory and output. The model and its cases live in `qkv-train`.

use std::process::{Command, Stdio};

use qkv::peak;
use qkv_train::bench::{Case, cases, mixer_cases};
use qkv_train::memory;
use serde_json::{Value, json};

use super::{check_precision, live};
use crate::Failure;
use crate::arguments::BenchTrain;
use crate::commands::print;
use crate::measure::{self, gflops, median_seconds_of, places, seconds};

/// Seconds that the runs of a case take together, at least: of training, and of inference.
const SECONDS: [f64; 2] = [1.5, 0.7];

/// A run of training that takes longer is not run again: those that follow take as long.
const LONG_SECONDS: f64 = 20.0;

pub(crate) fn train(options: &BenchTrain) -> Result<(), Failure> {
    check_precision(&options.precision)?;
    let all = if options.mixers { mixer_cases() } else { cases() };
    let chosen = choose(&all, options)?;
    if options.list {
        let line = |name: &str| if options.json { json!({ "case": name }).to_string() } else { name.to_string() };
        return chosen.iter().try_for_each(|case| print(&line(&case.name)));
    }
    let lengths = options.lengths.as_deref().map(measure::lengths).transpose()?;
    if let Some(lengths) = &lengths {
        chosen.iter().try_for_each(|case| check_lengths(case, lengths))?;
    }
    let threads = rayon::current_num_threads();
    let wide = chosen.iter().map(|case| case.name.len()).max().unwrap_or(0);
    if !options.json {
        print(&format!(
            "{:<wide$}  {:>10}  {:>8}  {:>7}  {:>9}  {:>10}",
            "case", "ms", "GFLOP/s", "of peak", "vectors/s", "memory MiB"
        ))?;
    }
    let live = live(chosen.len());
    for case in &chosen {
        if let Some(bar) = &live {
            bar.set_message(case.name.clone());
            bar.tick();
        }
        let found = match chosen.len() {
            1 => measure_case(case, lengths.as_deref(), options.memory, threads)?,
            _ => apart(case, options, threads)?,
        };
        let line = if options.json { found.to_string() } else { row(&found, wide) };
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

/// The cases that were asked for. Those that take minutes are only among them if nothing else can be meant.
fn choose<'a>(all: &'a [Case], options: &BenchTrain) -> Result<Vec<&'a Case>, Failure> {
    let usual = |case: &Case| if options.memory { case.memory } else { options.list || !case.long };
    let asked = |case: &Case| match (&options.case, &options.only) {
        (Some(name), _) => case.name == *name,
        (None, Some(text)) => case.name.contains(text.as_str()),
        (None, None) => true,
    };
    let matching: Vec<&Case> = all.iter().filter(|case| asked(case)).collect();
    let Some(first) = matching.first() else {
        let (how, text) = match (&options.case, &options.only) {
            (Some(name), _) => ("is called", name.as_str()),
            (None, text) => ("has in its name", text.as_deref().unwrap_or_default()),
        };
        let names: Vec<String> = all.iter().take(2).map(|case| format!("`{}`", case.name)).collect();
        return Err(Failure::usage(format!(
            "no case {how} `{text}`; there are {}, and more that --list tells",
            names.join(", ")
        )));
    };
    let chosen: Vec<&Case> = matching.iter().copied().filter(|case| usual(case)).collect();
    match chosen.is_empty() {
        true if first.long || options.memory => Ok(matching),
        _ => Ok(chosen),
    }
}

fn check_lengths(case: &Case, lengths: &[usize]) -> Result<(), Failure> {
    let (name, (low, high)) = (&case.name, case.lengths().into_inner());
    if lengths.len() != case.sets {
        return Err(Failure::usage(format!(
            "--lengths: expected {} for `{name}`, found {}; give one for each set, and choose the case with --case",
            case.sets,
            lengths.len()
        )));
    }
    match lengths.iter().find(|length| !case.lengths().contains(length)) {
        Some(length) if low == high => {
            Err(Failure::usage(format!("--lengths: expected nothing but {high} for `{name}`, found {length}")))
        }
        Some(length) => {
            Err(Failure::usage(format!("--lengths: expected lengths of {low} to {high} for `{name}`, found {length}")))
        }
        None => Ok(()),
    }
}

/// Measures a case in this process.
fn measure_case(case: &Case, lengths: Option<&[usize]>, brief: bool, threads: usize) -> Result<Value, Failure> {
    let lengths = lengths.map_or_else(|| case.draw_lengths(), <[usize]>::to_vec);
    let before = peak::measure_peak(threads);
    // What was held at most before may be more than what is held now; growth counts from the latter.
    let (held, most) = (memory::held(), memory::peak());
    let mut prepared = case.prepare(&lengths)?;
    let mut run = || prepared.step().map_err(Failure::from);
    // The first step makes the moments of the optimiser; from the second on memory is what it stays.
    let first = seconds(&mut run)?;
    let median = match brief || first > LONG_SECONDS {
        true => seconds(&mut run)?,
        false => median_seconds_of(SECONDS[usize::from(!case.train)], &mut run)?,
    };
    let grown = match (held, most, memory::peak()) {
        (Some(held), Some(before), Some(after)) if after > before => Some(after.saturating_sub(held)),
        _ => None,
    };
    // Beside the case, since the machine is not the same from one moment to the next.
    let peak = peak::measure_peak(threads).max(before);
    let speed = gflops(case.flops(&lengths), median);
    let tokens = lengths.iter().sum::<usize>() as f64;
    Ok(json!({
        "case": case.name, "ms": places(median * 1e3, 4), "gflops": places(speed, 2), "of_peak": places(speed / peak, 4),
        "tokens_per_second": places(tokens / median.max(1e-9), 0), "peak_memory": grown,
    }))
}

/// Measures a case in a process of its own, so that what the cases before it took does not stand in its memory.
fn apart(case: &Case, options: &BenchTrain, threads: usize) -> Result<Value, Failure> {
    let failed = |what: String| Failure::new(format!("cannot run `{}` in a process of its own: {what}", case.name));
    let mut command = Command::new(std::env::current_exe().map_err(|e| failed(e.to_string()))?);
    command.args(["bench", "train", "--json", "--case", &case.name, "--threads", &threads.to_string()]);
    for (is_set, flag) in [(options.memory, "--memory"), (options.mixers, "--mixers")] {
        command.args(is_set.then_some(flag));
    }
    if let Some(lengths) = &options.lengths {
        command.args(["--lengths", lengths]);
    }
    let output = command.stdin(Stdio::null()).output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        let message = message.trim();
        return Err(match message.strip_prefix("error: ") {
            Some(message) => Failure::new(format!("`{}`: {message}", case.name)),
            None => failed(format!("it ended with {}, {message}", output.status)),
        });
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(e.to_string()))
}

/// What was found, for a person.
fn row(found: &Value, wide: usize) -> String {
    let figure = |name: &str| found[name].as_f64();
    let number = |name| figure(name).unwrap_or(f64::NAN);
    let memory = figure("peak_memory").map_or("?".to_string(), |bytes| format!("{:.1}", bytes / f64::from(1 << 20)));
    format!(
        "{:<wide$}  {:>10.3}  {:>8.1}  {:>5.1} %  {:>9.0}  {memory:>10}",
        found["case"].as_str().unwrap_or_default(),
        number("ms"),
        number("gflops"),
        100.0 * number("of_peak"),
        number("tokens_per_second"),
    )
}
