//! `bench graphs`: epochs of graph attention networks, timed.
//!
//! Belongs here: clock, memory and output. The models and their cases live in `qkv-train`.

use qkv_train::bench_graphs::{Case, cases};
use qkv_train::memory;
use serde_json::json;

use crate::Failure;
use crate::arguments::BenchGraphs;
use crate::commands::print;
use crate::measure::{median_seconds_of, places, seconds};

/// Seconds that the epochs of a case take together, at least.
const SECONDS: f64 = 3.0;

/// An epoch that takes longer is run twice and no more.
const LONG_SECONDS: f64 = 10.0;

/// More edges than these are run only where they are asked for.
const MANY: usize = 2_000_000;

pub(crate) fn graphs(options: &BenchGraphs) -> Result<(), Failure> {
    let all = cases();
    let usual = |case: &Case| match case {
        Case::Cora => options.data.is_some(),
        Case::Random { edges, .. } => *edges <= MANY,
    };
    let chosen: Vec<&Case> = match &options.only {
        Some(text) => {
            let exact: Vec<&Case> = all.iter().filter(|case| case.name() == *text).collect();
            if exact.is_empty() {
                all.iter().filter(|case| case.name().contains(text.as_str())).collect()
            } else {
                exact
            }
        }
        None => all.iter().filter(|case| usual(case)).collect(),
    };
    if chosen.is_empty() {
        let names: Vec<String> = all.iter().map(Case::name).collect();
        let text = options.only.as_deref().unwrap_or_default();
        return Err(Failure::usage(format!("no case has in its name `{text}`; there are {}", names.join(", "))));
    }
    if !options.json {
        print(&format!("{:<26}  {:>12}  {:>10}", "case", "ms an epoch", "memory MiB"))?;
    }
    for case in chosen {
        let held = memory::held();
        let mut prepared = case.prepare(options.data.as_deref())?;
        let mut epoch = || prepared.epoch().map_err(Failure::from);
        // The first makes the moments of the optimiser, and the edges by their other ends.
        let first = seconds(&mut epoch)?;
        let median = if first > LONG_SECONDS { seconds(&mut epoch)? } else { median_seconds_of(SECONDS, &mut epoch)? };
        let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
        let grown = memory::peak().zip(held).map(|(peak, held)| mib(peak.saturating_sub(held)));
        let (name, ms) = (case.name(), places(median * 1e3, 4));
        match options.json {
            true => print(&json!({ "case": name, "ms": ms, "peak_mib": grown.map(|mib| places(mib, 1)) }).to_string())?,
            false => {
                let grown = grown.map_or("-".into(), |mib| format!("{mib:.0}"));
                print(&format!("{name:<26}  {:>12.2}  {grown:>10}", median * 1e3))?;
            }
        }
    }
    Ok(())
}
