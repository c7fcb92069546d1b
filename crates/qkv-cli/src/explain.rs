//! `explain`: what a call of attention will do, and with `--measure` what it did.

use std::io::{IsTerminal, Write};

use qkv::attention::{Explanation, Pass, Shape, Tile};
use qkv::options::{Mask, Options};
use qkv::{Offsets, peak};
use qkv_train::memory;
use qkv_view::Table;
use serde_json::{Map, Value, json};

use crate::Failure;
use crate::arguments;
use crate::commands::print;
use crate::measure::{self, Drawn, Layout, Problem, gflops, places, seconds};

/// Queries or keys, times heads: what a plan is made for within a second or two.
const MOST_ROWS: u128 = 1 << 28;

/// Sets, times heads.
const MOST_SETS: u128 = 1 << 20;

/// Sets, times heads, times pieces of the longest set.
const MOST_STEPS: u128 = 1 << 28;

/// Length of a vector.
const WIDEST: usize = 1 << 16;

/// A pass that takes longer is measured once, without warming up.
const LONG_SECONDS: f64 = 1.0;

pub(crate) fn explain(options: &arguments::Explain) -> Result<(), Failure> {
    let problem = problem(options)?;
    let threads = rayon::current_num_threads();
    let said = problem.explain(threads)?;
    let measured = if options.measure {
        check_memory(said.peak_bytes)?;
        Some(Measured::of(&problem, &said)?)
    } else {
        None
    };
    if options.json {
        return print(&Value::from(object(&problem, &said, measured.as_ref())).to_string());
    }
    print(text(&problem, &said, measured.as_ref())?.trim_end())
}

/// The problem that the flags speak of, within the bounds of what can be planned.
fn problem(options: &arguments::Explain) -> Result<Problem<'static>, Failure> {
    let shape = Shape {
        heads: options.heads,
        kv_heads: options.kv_heads.unwrap_or(options.heads),
        head_dim: options.head_dim,
        value_dim: options.value_dim.unwrap_or(options.head_dim),
    };
    let mask = mask(options)?;
    let (q_lens, kv_lens) = match &options.lengths {
        Some(text) => {
            let lengths = measure::lengths(text)?;
            (lengths.clone(), lengths)
        }
        None => (vec![options.tokens], vec![options.kv_tokens.unwrap_or(options.tokens)]),
    };
    // Sums of lengths that would overflow are refused before they are taken.
    let tokens = |lengths: &[usize]| lengths.iter().map(|&length| length as u128).sum::<u128>();
    let heads = shape.heads.max(shape.kv_heads) as u128;
    let longest = q_lens.iter().chain(&kv_lens).max().map_or(0, |&length| length as u128);
    let sets = heads.saturating_mul(q_lens.len() as u128);
    at_most("vectors times heads", tokens(&q_lens).max(tokens(&kv_lens)).saturating_mul(heads), MOST_ROWS)?;
    at_most("sets times heads", sets, MOST_SETS)?;
    at_most("sets times heads times 1/64 of the longest set", sets.saturating_mul(longest / 64 + 1), MOST_STEPS)?;
    at_most("numbers in a vector", shape.head_dim.max(shape.value_dim) as u128, WIDEST as u128)?;
    Ok(Problem {
        shape,
        queries: Offsets::from_lengths(q_lens),
        keys: Offsets::from_lengths(kv_lens),
        options: Options { mask, ..Options::default() },
        layout: Layout::ByHead,
    })
}

fn at_most(what: &str, found: u128, most: u128) -> Result<(), Failure> {
    if found <= most {
        return Ok(());
    }
    Err(Failure::usage(format!("explain goes up to {most} {what}, found {found}: ask for less")))
}

/// The mask that the flags ask for together.
fn mask(options: &arguments::Explain) -> Result<Mask<'static>, Failure> {
    let refuse = |message: String| Err(Failure::usage(message));
    let (window, offset) = (options.window.as_deref(), options.causal_offset);
    let implied = match (window, offset) {
        (Some(_), Some(_)) => {
            return refuse(
                "--window and --causal-offset: a mask is the one or the other; a causal window is --window LEFT,0"
                    .into(),
            );
        }
        (Some(_), None) => "window",
        (None, Some(_)) => "causal",
        (None, None) => "full",
    };
    let name = options.mask.as_deref().unwrap_or(implied);
    match (name, window, offset) {
        ("full", None, None) => Ok(Mask::Full),
        ("causal", None, offset) => Ok(Mask::Causal { offset: offset.unwrap_or(0) }),
        ("window", Some(window), None) => {
            let (left, right) = window.split_once(',').unwrap_or((window, window));
            match (left.trim().parse(), right.trim().parse()) {
                (Ok(left), Ok(right)) => Ok(Mask::Window { left, right }),
                _ => refuse(format!("--window {window}: expected LEFT or LEFT,RIGHT, such as 128 or 128,0")),
            }
        }
        ("window", None, _) => refuse("--mask window: say how wide with --window LEFT[,RIGHT]".into()),
        ("full" | "causal", Some(_), _) => refuse(format!("--mask {name} has no use for --window")),
        ("full" | "window", _, Some(_)) => refuse(format!("--mask {name} has no use for --causal-offset")),
        _ => refuse(format!("--mask {name}: no such mask; choose full, causal or window")),
    }
}

/// Refuses what this machine cannot hold, before it is asked for.
fn check_memory(bytes: u128) -> Result<(), Failure> {
    match memory::available() {
        Some(available) if bytes > u128::from(available) => Err(Failure::new(format!(
            "--measure would take {}, and this machine has {} left: ask for fewer --tokens or --heads, or leave it out",
            size(bytes),
            size(u128::from(available)),
        ))),
        _ => Ok(()),
    }
}

/// What a run showed.
struct Measured {
    forward_seconds: f64,
    backward_seconds: f64,
    /// Of the machine, in GFLOP/s.
    peak_gflops: f64,
    /// By how much the process grew; unknown where the system does not tell.
    grown_bytes: Option<u64>,
}

impl Measured {
    fn of(problem: &Problem, said: &Explanation) -> Result<Self, Failure> {
        // What was held at most before may be more than what is held now; growth counts from the latter.
        let (held, most) = (memory::held(), memory::peak());
        let stage = |what| {
            if std::io::stderr().is_terminal() {
                // cleared by the next, and by the last
                let _ = write!(std::io::stderr(), "\r\x1b[K{what}");
            }
        };
        stage("drawing numbers");
        let mut drawn = Drawn::new(problem.clone(), true);
        stage("forward");
        let first_forward = seconds(|| drawn.forward())?;
        stage("backward");
        let first_backward = seconds(|| drawn.backward())?;
        stage("once more, for the time");
        let grown_bytes = match (held, most, memory::peak()) {
            (Some(held), Some(before), Some(after)) if after > before => Some(after.saturating_sub(held)),
            _ => None,
        };
        let forward_seconds = again(first_forward, || drawn.forward())?;
        let backward_seconds = again(first_backward, || drawn.backward())?;
        stage("");
        Ok(Self { forward_seconds, backward_seconds, peak_gflops: peak::measure_peak(said.threads), grown_bytes })
    }

    fn gflops(&self, said: &Explanation) -> [f64; 2] {
        [(said.forward, self.forward_seconds), (said.backward, self.backward_seconds)]
            .map(|(pass, seconds)| gflops(pass.flops as f64, seconds))
    }
}

/// The median of several runs, unless the first was so long that warming up does not matter.
fn again(first: f64, run: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    if first > LONG_SECONDS { Ok(first) } else { measure::median_seconds(run) }
}

fn object(problem: &Problem, said: &Explanation, measured: Option<&Measured>) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_string(), value);
    let Shape { heads, kv_heads, head_dim, value_dim } = problem.shape;
    put("heads", heads.into());
    put("kv_heads", kv_heads.into());
    put("head_dim", head_dim.into());
    put("value_dim", value_dim.into());
    put("sets", problem.queries.sets().into());
    put("tokens", problem.queries.tokens().into());
    put("kv_tokens", problem.keys.tokens().into());
    put("mask", mask_name(problem).into());
    put("precision", "f32".into());
    put("isa", said.isa.name().into());
    put("threads", said.threads.into());
    let tile = |tile: Tile| json!([tile.rows, tile.columns]);
    put("register_tiles", json!({ "products": tile(said.products), "sums": tile(said.sums) }));
    put("pairs", number(said.pairs));
    put("waves", said.waves.into());
    for (name, pass) in [("forward", &said.forward), ("backward", &said.backward)] {
        put(
            name,
            json!({
                "tile": tile(pass.tile), "units": pass.units, "tasks": pass.tasks, "flops": number(pass.flops),
                "bytes": number(pass.bytes), "flops_per_byte": places(pass.intensity(), 2),
                "scratch_bytes": number(pass.scratch_bytes),
            }),
        );
    }
    put("input_bytes", number(said.input_bytes));
    put("output_bytes", number(said.output_bytes));
    put("gradient_bytes", number(said.gradient_bytes));
    put("scratch_bytes", number(said.scratch_bytes));
    put("peak_bytes", number(said.peak_bytes));
    if let Some(measured) = measured {
        let [forward, backward] = measured.gflops(said);
        let pass = |seconds: f64, gflops: f64| {
            json!({
                "ms": places(seconds * 1e3, 4), "gflops": places(gflops, 2),
                "of_peak": places(gflops / measured.peak_gflops, 4),
            })
        };
        put(
            "measured",
            json!({
                "forward": pass(measured.forward_seconds, forward),
                "backward": pass(measured.backward_seconds, backward),
                "peak_gflops": places(measured.peak_gflops, 1), "peak_bytes": measured.grown_bytes,
            }),
        );
    }
    object
}

/// Exact where JSON's usual numbers can be.
fn number(x: u128) -> Value {
    u64::try_from(x).map_or_else(|_| Value::from(x as f64), Value::from)
}

fn text(problem: &Problem, said: &Explanation, measured: Option<&Measured>) -> Result<String, Failure> {
    let Shape { heads, kv_heads, head_dim, value_dim } = problem.shape;
    let (queries, keys) = (&problem.queries, &problem.keys);
    let plural = |count: usize, what: &str| if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") };
    let many = |sets: &Offsets, what: &str| format!("{} {what}{}", grouped(sets.tokens() as u128), in_all(sets));
    let vectors = if queries == keys {
        many(queries, "vectors")
    } else {
        format!("{}, {}", many(queries, "queries"), many(keys, "keys"))
    };
    let shared = if kv_heads == heads { String::new() } else { format!(" over {}", plural(kv_heads, "head")) };
    let widths =
        if value_dim == head_dim { format!("{head_dim}") } else { format!("{head_dim}, values of {value_dim}") };
    let tile = |tile: Tile| format!("{} × {}", tile.rows, tile.columns);
    let facts = [
        (
            "attention",
            format!("{}{shared} of width {widths}; {vectors}; mask {}", plural(heads, "head"), mask_name(problem)),
        ),
        ("kernel", format!("fused, exact softmax, f32, {}, {}", said.isa.name(), plural(said.threads, "thread"))),
        ("register tiles", format!("{} for products, {} for weighted sums", tile(said.products), tile(said.sums))),
        (
            "pairs",
            format!(
                "{} of a query and a key, {:.1} % of all",
                grouped(said.pairs),
                100.0 * share_of_pairs(problem, said)
            ),
        ),
        ("packing", packing(said.waves)),
    ];
    let wide = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out: String = facts.iter().map(|(name, fact)| format!("{name:<wide$}  {fact}\n")).collect();

    let row = |name: &str, of: &dyn Fn(&Pass) -> String| vec![name.to_string(), of(&said.forward), of(&said.backward)];
    let mut rows = vec![
        row("tile, queries × keys", &|pass| tile(pass.tile)),
        row("units of work", &|pass| grouped(pass.units as u128)),
        row("tasks, one thread each", &|pass| grouped(pass.tasks as u128)),
        row("operations", &|pass| operations(pass.flops)),
        row("bytes moved, at least", &|pass| size(pass.bytes)),
        row("operations for a byte", &|pass| format!("{:.1}", pass.intensity())),
        row("scratch memory", &|pass| size(pass.scratch_bytes)),
    ];
    if let Some(measured) = measured {
        let (speeds, seconds) = (measured.gflops(said), [measured.forward_seconds, measured.backward_seconds]);
        let mut add = |name: &str, [forward, backward]: [String; 2]| rows.push(vec![name.into(), forward, backward]);
        add("measured: ms", seconds.map(|seconds| format!("{:.3}", seconds * 1e3)));
        add("GFLOP/s", speeds.map(|speed| format!("{speed:.1}")));
        let peak = measured.peak_gflops;
        add(&format!("of the peak, {peak:.1}"), speeds.map(|speed| format!("{:.1} %", 100.0 * speed / peak)));
    }
    let header = ["", "forward", "backward"].map(String::from).to_vec();
    out.push('\n');
    out.push_str(&Table { header, rows }.to_text().map_err(|e| Failure::new(e.to_string()))?);
    out.push_str(&format!(
        "\nmemory, forward and backward: {} = {} inputs + {} outputs + {} gradients + {} scratch\n",
        size(said.peak_bytes),
        size(said.input_bytes),
        size(said.output_bytes),
        size(said.gradient_bytes),
        size(said.scratch_bytes),
    ));
    if let Some(grown) = measured.and_then(|measured| measured.grown_bytes) {
        out.push_str(&format!("measured: the process grew by {} at most\n", size(u128::from(grown))));
    }
    Ok(out)
}

/// Into how many sets vectors are divided; nothing if there is no need to tell.
fn in_all(sets: &Offsets) -> String {
    if sets.sets() == 1 { String::new() } else { format!(" in {} sets", grouped(sets.sets() as u128)) }
}

fn packing(waves: usize) -> String {
    match waves {
        0 => "none beforehand: each unit packs the keys and values that it needs".to_string(),
        1 => "keys and values of long sets are packed once, before their queries".to_string(),
        _ => format!("keys and values of long sets are packed in {waves} waves, each before its queries"),
    }
}

/// Of all pairs of a query and a key of the same set, how many take part.
fn share_of_pairs(problem: &Problem, said: &Explanation) -> f64 {
    let lengths = problem.queries.lengths().zip(problem.keys.lengths());
    let all: u128 = lengths.map(|(q_len, kv_len)| q_len as u128 * kv_len as u128).sum();
    if all == 0 { 0.0 } else { said.pairs as f64 / all as f64 }
}

fn mask_name(problem: &Problem) -> String {
    match problem.options.mask {
        Mask::Full => "full".to_string(),
        Mask::Causal { offset: 0 } => "causal".to_string(),
        Mask::Causal { offset } => format!("causal, keys {offset} ahead"),
        Mask::Window { left, right } => format!("window, {left} before and {right} behind"),
        Mask::Graph(edges) => format!("{} edges", edges.edges()),
    }
}

/// Bytes as a person reads them.
fn size(bytes: u128) -> String {
    let (mut amount, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") }
}

/// Operations as a person reads them.
fn operations(flops: u128) -> String {
    let (mut amount, mut unit) = (flops as f64, "FLOP");
    for next in ["kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"] {
        if amount < 1000.0 {
            break;
        }
        (amount, unit) = (amount / 1000.0, next);
    }
    format!("{amount:.2} {unit}")
}

/// A whole number with its thousands set apart.
fn grouped(x: u128) -> String {
    let digits = x.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
