//! What `bench` and `explain` share: a call of attention on random data, timed.

use std::time::Instant;

use qkv::attention::{
    Explanation, Gradients, Inputs, Saved, Shape, View, ViewMut, Workspace, attention_backward, attention_forward,
};
use qkv::options::{Mask, Options};
use qkv::{Key, Offsets};
use rayon::prelude::*;

use crate::Failure;

/// What all data is drawn from: two runs do the same work on the same numbers.
const SEED: u64 = 1;

/// Runs whose median counts, at least.
const RUNS: usize = 5;

/// Seconds that these runs take together, at least.
const SECONDS: f64 = 0.7;

/// Which attention.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) shape: Shape,
    pub(crate) queries: Offsets,
    pub(crate) keys: Offsets,
    pub(crate) mask: Mask,
}

impl Problem {
    pub(crate) fn explain(&self, threads: usize) -> Result<Explanation, Failure> {
        let Self { shape, queries, keys, mask } = self;
        qkv::attention::explain(*shape, queries, keys, *mask, threads).map_err(|e| Failure::usage(e.to_string()))
    }
}

/// A problem with numbers drawn from a normal distribution, and room for the answers; one head after the other in
/// memory.
pub(crate) struct Drawn {
    problem: Problem,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    out: Vec<f32>,
    lse: Vec<f64>,
    /// The gradient of the result and of the inputs, if the backward pass is wanted.
    backward: Option<Backward>,
    workspace: Workspace,
}

struct Backward {
    d_out: Vec<f32>,
    d_query: Vec<f32>,
    d_key: Vec<f32>,
    d_value: Vec<f32>,
}

impl Drawn {
    pub(crate) fn new(problem: Problem, backward: bool) -> Self {
        let Shape { heads, kv_heads, head_dim, value_dim } = problem.shape;
        let (q_len, kv_len) = (problem.queries.tokens(), problem.keys.tokens());
        let sizes = [q_len * heads * head_dim, kv_len * kv_heads * head_dim, kv_len * kv_heads * value_dim];
        let out = q_len * heads * value_dim;
        Self {
            query: normal(sizes[0], 0),
            key: normal(sizes[1], 1),
            value: normal(sizes[2], 2),
            out: room(out),
            lse: vec![0.0; q_len * heads],
            backward: backward.then(|| Backward {
                d_out: normal(out, 3),
                d_query: room(sizes[0]),
                d_key: room(sizes[1]),
                d_value: room(sizes[2]),
            }),
            workspace: Workspace::new(),
            problem,
        }
    }

    pub(crate) fn forward(&mut self) -> Result<(), Failure> {
        let (inputs, options) = call(&self.problem, &self.query, &self.key, &self.value);
        let (tokens, dim) = (self.problem.queries.tokens(), self.problem.shape.value_dim);
        let out = ViewMut::by_head(&mut self.out, tokens, dim);
        attention_forward(&inputs, &options, out, &mut self.lse, &mut self.workspace)
            .map_err(|e| Failure::new(e.to_string()))
    }

    /// The gradients, after a forward pass; nothing where they are not wanted.
    pub(crate) fn backward(&mut self) -> Result<(), Failure> {
        let Some(Backward { d_out, d_query, d_key, d_value }) = &mut self.backward else { return Ok(()) };
        let (inputs, options) = call(&self.problem, &self.query, &self.key, &self.value);
        let Shape { head_dim, value_dim, .. } = self.problem.shape;
        let (q_len, kv_len) = (self.problem.queries.tokens(), self.problem.keys.tokens());
        let saved = Saved { out: View::by_head(&self.out, q_len, value_dim), lse: &self.lse };
        let gradients = Gradients {
            query: ViewMut::by_head(d_query, q_len, head_dim),
            key: ViewMut::by_head(d_key, kv_len, head_dim),
            value: ViewMut::by_head(d_value, kv_len, value_dim),
        };
        let d_out = View::by_head(d_out, q_len, value_dim);
        attention_backward(&inputs, &options, &saved, d_out, gradients, &mut self.workspace)
            .map_err(|e| Failure::new(e.to_string()))
    }
}

fn call<'a>(problem: &'a Problem, query: &'a [f32], key: &'a [f32], value: &'a [f32]) -> (Inputs<'a>, Options<'a>) {
    let Problem { shape, queries, keys, mask } = problem;
    let inputs = Inputs {
        shape: *shape,
        query: View::by_head(query, queries.tokens(), shape.head_dim),
        key: View::by_head(key, keys.tokens(), shape.head_dim),
        value: View::by_head(value, keys.tokens(), shape.value_dim),
        queries,
        keys,
    };
    (inputs, Options { mask: *mask, ..Options::default() })
}

/// Room for an answer. Zeros would be given by the system page by page while the first run writes to them, which takes longer
/// than the run.
fn room(count: usize) -> Vec<f32> {
    vec![f32::NAN; count]
}

fn normal(count: usize, stream: u64) -> Vec<f32> {
    let key = Key::new(SEED).fold(stream);
    (0..count).into_par_iter().map(|i| key.normal(i as u64)).collect()
}

/// The median of the seconds that `run` takes, after one run to warm up.
pub(crate) fn median_seconds(mut run: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    run()?;
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < RUNS || start.elapsed().as_secs_f64() < SECONDS {
        times.push(seconds(&mut run)?);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// How long `run` takes, once.
pub(crate) fn seconds(run: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Operations in so many seconds, in GFLOP/s.
pub(crate) fn gflops(flops: f64, seconds: f64) -> f64 {
    flops / seconds.max(1e-9) / 1e9
}

/// Rounded to so many places, for output.
pub(crate) fn places(x: f64, places: i32) -> f64 {
    let factor = 10_f64.powi(places);
    (x * factor).round() / factor
}

/// Lengths of sets: numbers between commas, or a file that holds them, as such or as a line `{"lengths": [...]}`.
pub(crate) fn lengths(text: &str) -> Result<Vec<usize>, Failure> {
    let is_list = text.contains(',') && !std::path::Path::new(text).exists()
        || text.chars().all(|c| c.is_ascii_digit() || c == ' ');
    let (name, content) = if is_list {
        ("--lengths".to_string(), text.to_string())
    } else {
        let content = std::fs::read_to_string(text).map_err(|e| {
            Failure::usage(format!("--lengths {text}: neither numbers between commas nor a file that can be read: {e}"))
        })?;
        (format!("--lengths {text}"), content)
    };
    let json = content.lines().find_map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        value.get("lengths").map(ToString::to_string)
    });
    let list = json.unwrap_or(content);
    let list = list.trim().trim_start_matches('[').trim_end_matches(']');
    let parts = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty());
    let lengths: Result<Vec<usize>, _> = parts
        .map(|part| {
            part.parse().map_err(|_| {
                Failure::usage(format!("{name}: expected lengths of sets that can be counted, found `{}`", short(part)))
            })
        })
        .collect();
    match lengths? {
        none if none.is_empty() => Err(Failure::usage(format!("{name}: expected lengths of sets, found none"))),
        lengths => Ok(lengths),
    }
}

/// What a message can hold of a text that may be long.
fn short(text: &str) -> String {
    if text.chars().count() > 40 { text.chars().take(40).collect::<String>() + "…" } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_from_a_list_and_from_a_file() {
        assert_eq!(lengths("10,20, 30").expect("a list"), [10, 20, 30]);
        let file = std::env::temp_dir().join(format!("qkv-lengths-{}", std::process::id()));
        let name = file.to_str().expect("UTF-8");
        for content in ["10,20,30\n", "10\n20\n30", "{\"case\": 1}\n{\"lengths\": [10, 20, 30]}\n", "[10, 20, 30]"] {
            std::fs::write(&file, content).expect("written");
            assert_eq!(lengths(name).expect(content), [10, 20, 30], "{content}");
        }
        std::fs::write(&file, "{\"lengths\": [1, -2]}").expect("written");
        assert!(lengths(name).expect_err("negative").message.contains("`-2`"));
        std::fs::remove_file(&file).expect("removed");
        for (text, wanted) in
            [(",", "found none"), ("10,x", "`x`"), ("nowhere", "neither"), ("99999999999999999999999", "`999")]
        {
            let failure = lengths(text).expect_err(text);
            assert!(failure.message.contains(wanted) && failure.status == 2, "{}", failure.message);
        }
    }

    #[test]
    fn forward_and_backward_run_on_ragged_sets() {
        let sets = Offsets::from_lengths([3, 0, 70]);
        let shape = Shape { heads: 2, kv_heads: 1, head_dim: 5, value_dim: 3 };
        let problem = Problem { shape, queries: sets.clone(), keys: sets, mask: Mask::Causal { offset: 0 } };
        let mut drawn = Drawn::new(problem, true);
        drawn.forward().expect("it fits");
        drawn.backward().expect("it fits");
        let gradients = drawn.backward.expect("wanted");
        for numbers in [&drawn.out, &gradients.d_query, &gradients.d_key, &gradients.d_value] {
            assert!(numbers.iter().all(|x| x.is_finite()) && numbers.iter().any(|x| *x != 0.0));
        }
    }
}
