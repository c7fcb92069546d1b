//! What `bench` and `explain` share: a call of attention on random data, timed.

use std::time::Instant;

use qkv::attention::{
    Explanation, Gradients, Inputs, Saved, Shape, View, ViewMut, Workspace, attention_backward,
    attention_forward_keeping, kept_numbers,
};
use qkv::options::{Bias, Options, Score};
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
pub(crate) struct Problem<'a> {
    pub(crate) shape: Shape,
    pub(crate) queries: Offsets,
    pub(crate) keys: Offsets,
    pub(crate) options: Options<'a>,
    pub(crate) layout: Layout,
}

/// How vectors lie in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Layout {
    /// `[heads, tokens, dim]`.
    #[default]
    ByHead,
    /// `[tokens, heads, dim]`.
    ByToken,
}

impl Layout {
    fn view(self, data: &[f32], tokens: usize, heads: usize, dim: usize) -> View<'_> {
        match self {
            Layout::ByHead => View::by_head(data, tokens, dim),
            Layout::ByToken => View::new(data, heads, dim),
        }
    }

    fn view_mut(self, data: &mut [f32], tokens: usize, heads: usize, dim: usize) -> ViewMut<'_> {
        match self {
            Layout::ByHead => ViewMut::by_head(data, tokens, dim),
            Layout::ByToken => ViewMut::new(data, heads, dim),
        }
    }
}

impl Problem<'_> {
    pub(crate) fn explain(&self, threads: usize) -> Result<Explanation, Failure> {
        let Self { shape, queries, keys, options, .. } = self;
        qkv::attention::explain(*shape, queries, keys, options, threads).map_err(|e| Failure::usage(e.to_string()))
    }
}

/// A problem with numbers drawn from a normal distribution, and room for the answers.
pub(crate) struct Drawn<'a> {
    problem: Problem<'a>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    out: Vec<f32>,
    lse: Vec<f64>,
    /// What else the forward pass keeps for the backward pass; nothing if it is empty.
    kept: Vec<f32>,
    /// The gradient of the result, and of the inputs and whatever is learned, if the backward pass is wanted.
    backward: Option<Backward>,
    workspace: Workspace,
}

struct Backward {
    d_out: Vec<f32>,
    d_query: Vec<f32>,
    d_key: Vec<f32>,
    d_value: Vec<f32>,
    d_score: Option<Vec<f32>>,
    d_bias: Option<Vec<f32>>,
}

impl<'a> Drawn<'a> {
    pub(crate) fn new(problem: Problem<'a>, backward: bool) -> Self {
        let Shape { heads, kv_heads, head_dim, value_dim } = problem.shape;
        let (q_len, kv_len) = (problem.queries.tokens(), problem.keys.tokens());
        let sizes = [q_len * heads * head_dim, kv_len * kv_heads * head_dim, kv_len * kv_heads * value_dim];
        let out = q_len * heads * value_dim;
        let [score, bias] = learned(&problem.options);
        Self {
            query: normal(sizes[0], 0),
            key: normal(sizes[1], 1),
            value: normal(sizes[2], 2),
            out: room(out),
            lse: vec![0.0; q_len * heads],
            kept: Vec::new(),
            backward: backward.then(|| Backward {
                d_out: normal(out, 3),
                d_query: room(sizes[0]),
                d_key: room(sizes[1]),
                d_value: room(sizes[2]),
                d_score: score.map(room),
                d_bias: bias.map(room),
            }),
            workspace: Workspace::new(),
            problem,
        }
    }

    /// The same, keeping what can be kept for the backward pass, as training does.
    pub(crate) fn keeping(self) -> Self {
        let inputs = inputs(&self.problem, &self.query, &self.key, &self.value);
        // (what does not fit together the forward pass says)
        let needed = kept_numbers(&inputs, &self.problem.options).unwrap_or(0);
        Self { kept: room(if self.backward.is_some() { needed } else { 0 }), ..self }
    }

    pub(crate) fn forward(&mut self) -> Result<(), Failure> {
        let inputs = inputs(&self.problem, &self.query, &self.key, &self.value);
        let Problem { shape, queries, options, layout, .. } = &self.problem;
        let out = layout.view_mut(&mut self.out, queries.tokens(), shape.heads, shape.value_dim);
        attention_forward_keeping(&inputs, options, out, &mut self.lse, &mut self.kept, &mut self.workspace)
            .map_err(|e| Failure::new(e.to_string()))
    }

    /// The gradients, after a forward pass; nothing where they are not wanted.
    pub(crate) fn backward(&mut self) -> Result<(), Failure> {
        let Some(Backward { d_out, d_query, d_key, d_value, d_score, d_bias }) = &mut self.backward else {
            return Ok(());
        };
        let inputs = inputs(&self.problem, &self.query, &self.key, &self.value);
        let Problem { shape, queries, keys, options, layout } = &self.problem;
        let Shape { heads, kv_heads, head_dim, value_dim } = *shape;
        let (q_len, kv_len) = (queries.tokens(), keys.tokens());
        let out = layout.view(&self.out, q_len, heads, value_dim);
        let saved = Saved { out, lse: &self.lse, kept: &self.kept };
        let gradients = Gradients {
            score: d_score.as_deref_mut(),
            bias: d_bias.as_deref_mut(),
            ..Gradients::new(
                layout.view_mut(d_query, q_len, heads, head_dim),
                layout.view_mut(d_key, kv_len, kv_heads, head_dim),
                layout.view_mut(d_value, kv_len, kv_heads, value_dim),
            )
        };
        let d_out = layout.view(d_out, q_len, heads, value_dim);
        attention_backward(&inputs, options, &saved, d_out, gradients, &mut self.workspace)
            .map_err(|e| Failure::new(e.to_string()))
    }

    /// Every answer, for tests.
    #[cfg(test)]
    pub(crate) fn answers(&self) -> Vec<&[f32]> {
        let mut answers = vec![&self.out[..]];
        if let Some(Backward { d_query, d_key, d_value, d_score, d_bias, .. }) = &self.backward {
            answers.extend([&d_query[..], d_key, d_value]);
            answers.extend([d_score, d_bias].into_iter().flatten().map(|numbers| &numbers[..]));
        }
        answers
    }
}

fn inputs<'a>(problem: &'a Problem<'_>, query: &'a [f32], key: &'a [f32], value: &'a [f32]) -> Inputs<'a> {
    let Problem { shape, queries, keys, layout, .. } = problem;
    let Shape { heads, kv_heads, head_dim, value_dim } = *shape;
    Inputs {
        shape: *shape,
        query: layout.view(query, queries.tokens(), heads, head_dim),
        key: layout.view(key, keys.tokens(), kv_heads, head_dim),
        value: layout.view(value, keys.tokens(), kv_heads, value_dim),
        queries,
        keys,
    }
}

/// How many numbers of the score and of the bias have a gradient.
fn learned(options: &Options<'_>) -> [Option<usize>; 2] {
    let score = match options.score {
        Score::Additive { weights, .. } => Some(weights.len()),
        Score::Dot { .. } | Score::RankOne { .. } => None,
    };
    let bias = match options.bias {
        Bias::None => None,
        Bias::Alibi { slopes: numbers, .. }
        | Bias::Buckets { table: numbers, .. }
        | Bias::Edges { values: numbers }
        | Bias::Dense { values: numbers } => Some(numbers.len()),
    };
    [score, bias]
}

/// Room for an answer. Zeros would be given by the system page by page while the first run writes to them, which takes longer
/// than the run.
fn room(count: usize) -> Vec<f32> {
    vec![f32::NAN; count]
}

/// Numbers from a normal distribution; each stream has its own.
pub(crate) fn normal(count: usize, stream: u64) -> Vec<f32> {
    let key = Key::new(SEED).fold(stream);
    (0..count).into_par_iter().map(|i| key.normal(i as u64)).collect()
}

/// The median of the seconds that `run` takes, after one run to warm up.
pub(crate) fn median_seconds(run: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    median_seconds_of(SECONDS, run)
}

/// The same of runs that take so many seconds together, at least.
pub(crate) fn median_seconds_of(least: f64, mut run: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    run()?;
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < RUNS || start.elapsed().as_secs_f64() < least {
        times.push(seconds(&mut run)?);
    }
    Ok(median(times))
}

/// The median of the seconds that `run` takes, and of how many times as many they are as those of `plain`; the two run in
/// turn, so that whatever else the machine does meanwhile slows down both.
pub(crate) fn median_seconds_and_ratio(
    mut plain: impl FnMut() -> Result<(), Failure>,
    mut run: impl FnMut() -> Result<(), Failure>,
) -> Result<(f64, f64), Failure> {
    plain()?;
    run()?;
    let (mut times, mut ratios, start) = (Vec::new(), Vec::new(), Instant::now());
    while times.len() < RUNS || start.elapsed().as_secs_f64() < 2.0 * SECONDS {
        let (plain_seconds, run_seconds) = (seconds(&mut plain)?, seconds(&mut run)?);
        times.push(run_seconds);
        ratios.push(run_seconds / plain_seconds.max(1e-9));
    }
    Ok((median(times), median(ratios)))
}

/// The one in the middle, of at least one.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
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
    use qkv::options::Mask;

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
        let options = Options { mask: Mask::Causal { offset: 0 }, ..Options::default() };
        for layout in [Layout::ByHead, Layout::ByToken] {
            let problem = Problem { shape, queries: sets.clone(), keys: sets.clone(), options, layout };
            let mut drawn = Drawn::new(problem, true);
            drawn.forward().expect("it fits");
            drawn.backward().expect("it fits");
            assert_eq!(drawn.answers().len(), 4);
            for numbers in drawn.answers() {
                assert!(numbers.iter().all(|x| x.is_finite()) && numbers.iter().any(|x| *x != 0.0));
            }
        }
    }

    #[test]
    fn a_ratio_is_that_of_two_runs_in_turn() {
        let wait = |ms| {
            move || {
                std::thread::sleep(std::time::Duration::from_millis(ms));
                Ok(())
            }
        };
        let (seconds, ratio) = median_seconds_and_ratio(wait(20), wait(60)).expect("nothing fails");
        assert!(seconds >= 0.06 && (1.5..4.0).contains(&ratio), "{seconds}, {ratio}");
    }
}
