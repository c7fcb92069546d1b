//! `bench`: the kernels, timed on work that is known by name, beside the speed that no kernel can exceed.

mod graphs;
mod options;
mod reading;
mod train;

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qkv::attention::Shape;
use qkv::options::{Mask, Options};
use qkv::{Isa, Key, Offsets, peak};
use qkv_train::memory;
use serde_json::{Map, Value, json};

use crate::Failure;
use crate::arguments::BenchAttention;
use crate::commands::print;
use crate::measure::{self, Drawn, Layout, Problem, gflops, median_seconds, median_seconds_and_ratio, places};
pub(crate) use graphs::graphs;
use options::{Extra, Numbers};
use reading::Memory;
pub(crate) use train::train;

/// Sets of the ragged case, and the bounds of their lengths.
const RAGGED: (usize, usize, usize) = (64, 8, 1024);

/// What the lengths of the ragged case are drawn from.
const LENGTHS_SEED: u64 = 7;

/// One piece of work.
struct Case {
    name: String,
    problem: Problem<'static>,
    /// What of its options is drawn when it is measured.
    extra: Extra,
    backward: bool,
    flops: f64,
    beside: Beside,
}

/// What a case is compared with, apart from the peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// The same work without the option, in turn with it.
    Plain,
    /// The speed of reading memory, since it reads more than it computes.
    Reading,
}

/// What was found of a case.
struct Found {
    seconds: f64,
    /// How many times the seconds of plain attention these are.
    costs: Option<f64>,
    /// Keys and values read, in GB/s.
    read: Option<f64>,
}

pub(crate) fn attention(options: &BenchAttention) -> Result<(), Failure> {
    check_precision(&options.precision)?;
    let threads = rayon::current_num_threads();
    if options.peak {
        let mut object = json!({
            "peak_gflops": places(peak::measure_peak(threads), 1), "isa": Isa::detect().name(), "threads": threads,
        });
        if options.options {
            check_memory(reading::BYTES as u128)?;
            object["read_gb_s"] = places(Memory::new(reading::BYTES).gb_per_second(threads), 2).into();
        }
        return print(&object.to_string());
    }
    let all = match options.options {
        true => options::cases(1),
        false => plain_cases(&ragged_lengths(options.lengths.as_deref())?),
    };
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
        let others = if options.options { "" } else { ", and --options has others" };
        return Err(Failure::usage(format!(
            "no case {how} `{asked}`; there are {}, and more that --list tells{others}",
            in_short(&all)
        )));
    }
    if options.list {
        return chosen.iter().try_for_each(|case| print(&case.name));
    }
    run(&chosen, threads, options.json)
}

/// Refuses what is not computed in.
fn check_precision(precision: &str) -> Result<(), Failure> {
    match precision {
        "f32" => Ok(()),
        "bf16" => Err(Failure::usage("--precision bf16: not yet; choose f32")),
        other => Err(Failure::usage(format!("--precision {other}: no such precision; choose f32"))),
    }
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
        let compared = chosen.iter().any(|case| case.beside != Beside::Nothing);
        let compared = if compared { "   costs, or reads" } else { "" };
        print(&format!("{:<wide$}  {:>10}  {:>8}  {:>7}{compared}", "case", "ms", "GFLOP/s", "of peak"))?;
    }
    let (live, mut memory) = (live(chosen.len()), None);
    for case in chosen {
        if let Some(bar) = &live {
            bar.set_message(case.name.clone());
            bar.tick();
        }
        let memory = match case.beside {
            Beside::Nothing | Beside::Plain => None,
            Beside::Reading => {
                let beside = if memory.is_none() { reading::BYTES } else { 0 };
                check_memory(case.bytes(threads)? + beside as u128)?;
                Some(&*memory.get_or_insert_with(|| Memory::new(reading::BYTES)))
            }
        };
        let reading = memory.map(|memory| memory.gb_per_second(threads));
        let found = case.measure()?;
        // Beside each case, since the machine is not the same from one to the next: whatever it does otherwise takes from the
        // peak as from the case.
        let before = std::mem::replace(&mut peak, peak::measure_peak(threads));
        let peak = peak.max(before);
        let reading = memory.zip(reading).map(|(memory, before)| before.max(memory.gb_per_second(threads)));
        let of_read = found.read.zip(reading).map(|(read, most)| read / most);
        let line = case.line(&found, peak, of_read);
        let line = if json { Value::from(line.0).to_string() } else { format!("{:<wide$}{}", case.name, line.1) };
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
    /// `pairs` of a query and a key take part, in all sets, for one head.
    fn new(
        name: &str,
        problem: Problem<'static>,
        pairs: f64,
        (extra, backward, beside): (Extra, bool, Beside),
    ) -> Self {
        let Shape { heads, head_dim, value_dim, .. } = problem.shape;
        // Two products forward, and five backward, one of which is the first again.
        let (dims, pass) = match backward {
            false => (head_dim + value_dim, "forward"),
            true => (4 * head_dim + 3 * value_dim, "forward+backward"),
        };
        let flops = 2.0 * pairs * (heads * dims) as f64;
        Self { name: format!("float32 {name} {pass}"), problem, extra, backward, flops, beside }
    }

    /// Its problem with what its options borrow.
    fn completed<'a>(&self, numbers: &'a Numbers) -> Problem<'a> {
        Problem { options: self.extra.complete(self.problem.options, numbers), ..self.problem.clone() }
    }

    /// The same work without the option.
    fn plain(&self) -> Problem<'static> {
        let options = Options { mask: self.problem.options.mask, ..Options::default() };
        Problem { options, ..self.problem.clone() }
    }

    /// Bytes of keys and values, which are read once at least.
    fn read_bytes(&self) -> usize {
        let Shape { kv_heads, head_dim, value_dim, .. } = self.problem.shape;
        self.problem.keys.tokens() * kv_heads * (head_dim + value_dim) * size_of::<f32>()
    }

    /// Bytes that its forward pass takes.
    fn bytes(&self, threads: usize) -> Result<u128, Failure> {
        let said = self.problem.explain(threads)?;
        Ok(said.input_bytes + said.output_bytes + said.forward.scratch_bytes)
    }

    fn measure(&self) -> Result<Found, Failure> {
        let numbers = self.extra.draw(&self.problem)?;
        let mut drawn = Drawn::new(self.completed(&numbers), self.backward).keeping();
        let run = || {
            drawn.forward()?;
            drawn.backward()
        };
        let (seconds, costs) = if self.beside == Beside::Plain {
            let mut plain = Drawn::new(self.plain(), self.backward);
            let run_plain = || {
                plain.forward()?;
                plain.backward()
            };
            let (seconds, costs) = median_seconds_and_ratio(run_plain, run)?;
            (seconds, Some(costs))
        } else {
            (median_seconds(run)?, None)
        };
        let reads = self.beside == Beside::Reading;
        let read = reads.then(|| self.read_bytes() as f64 / seconds.max(1e-9) / 1e9);
        Ok(Found { seconds, costs, read })
    }

    /// What was found, for a program and for a person; for the latter without the name.
    fn line(&self, found: &Found, peak: f64, of_read: Option<f64>) -> (Map<String, Value>, String) {
        let (ms, speed) = (found.seconds * 1e3, gflops(self.flops, found.seconds));
        let share = speed / peak;
        let mut object = Map::new();
        object.insert("case".into(), self.name.as_str().into());
        let mut put = |name: &str, x: f64, digits| object.insert(name.into(), places(x, digits).into());
        put("ms", ms, 4);
        put("gflops", speed, 2);
        put("of_peak", share, 4);
        let mut text = format!("  {ms:>10.3}  {speed:>8.1}  {:>5.1} %", 100.0 * share);
        if let Some(costs) = found.costs {
            put("costs", costs, 3);
            text += &format!("   {costs:.2} of plain");
        }
        if let Some((read, share)) = found.read.zip(of_read) {
            put("read_gb_s", read, 2);
            put("of_read", share, 4);
            text += &format!("   {read:.1} GB/s, {:.1} % of memory", 100.0 * share);
        }
        (object, text)
    }
}

/// Refuses what this machine cannot hold, before it is asked for.
fn check_memory(needed: u128) -> Result<(), Failure> {
    let gib = |bytes: f64| bytes / f64::from(1 << 30);
    match memory::available() {
        Some(available) if needed > u128::from(available) => Err(Failure::new(format!(
            "the cases of a cache, and reading memory, take {:.1} GiB, and this machine has {:.1} GiB left: choose others \
             with --only",
            gib(needed as f64),
            gib(available as f64),
        ))),
        _ => Ok(()),
    }
}

/// The cases of plain attention, in the order in which they are shown.
fn plain_cases(ragged: &[usize]) -> Vec<Case> {
    const FULL: Mask<'static> = Mask::Full;
    const CAUSAL: Mask<'static> = Mask::Causal { offset: 0 };
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
    (mask, pairs): (Mask<'static>, f64),
    passes: &[bool],
) {
    let sets = Offsets::from_lengths(lengths.iter().copied());
    let (shape, options) = (Shape::new(heads, dim), Options { mask, ..Options::default() });
    for &backward in passes {
        let (queries, keys) = (sets.clone(), sets.clone());
        let problem = Problem { shape, queries, keys, options, layout: Layout::ByHead };
        cases.push(Case::new(name, problem, pairs, (Extra::Nothing, backward, Beside::Nothing)));
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
    let work = |case: &Case| case.name.rsplit_once(' ').map(|(work, _)| work.to_string());
    let mut first: Vec<&Case> = cases.iter().collect();
    first.dedup_by_key(|case| work(case));
    first.iter().take(2).map(|case| format!("`{}`", case.name)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_those_of_the_pairs() {
        for case in plain_cases(&ragged_lengths(None).expect("drawn")) {
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
