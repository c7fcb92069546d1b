//! The cases of `--options`: every score, normaliser, mask and bias, and dropout.
//!
//! Belongs here: which work there is, and the numbers that options borrow. Measuring it does not.

use std::collections::HashSet;

use qkv::attention::Shape;
use qkv::options::{Bias, Buckets, Dropout, Mask, Normalizer, Options, Score, ScoreActivation};
use qkv::{Csr, Key, Offsets};

use super::{Beside, Case};
use crate::Failure;
use crate::measure::{self, Layout, Problem};

/// What graphs and buckets are drawn from, and what is dropped.
const SEED: u64 = 3;

/// Columns of the grid that vectors are laid out on, row by row.
const COLUMNS: usize = 32;

/// The largest distance of the case whose table ends before the sequence does.
const REACH: usize = 128;

/// Keys before and behind a query, where a graph is a window.
const NEAR: usize = 32;

/// What of a problem's options has to be drawn first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extra {
    Nothing,
    /// The weights of the additive score.
    Additive,
    /// The slopes of ALiBi.
    Alibi,
    /// A table of distances up to this.
    Relative(usize),
    /// A table of distances in two coordinates, up to these.
    Grid([usize; 2]),
    /// A table of so many buckets, and a bucket for each pair.
    Stored(usize),
    /// A number for each pair.
    Dense,
    /// The edges that are the mask.
    Graph(Graph),
    /// Edges with a number each.
    Edges(Graph),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Graph {
    /// Of all pairs.
    Full,
    /// Of all pairs that are at most so far apart.
    Near(usize),
    /// So many, drawn at random.
    Random(usize),
}

/// What options borrow.
#[derive(Default)]
pub(super) struct Numbers {
    /// Weights, slopes, a table, or a bias.
    learned: Vec<f32>,
    places: Vec<[i32; 2]>,
    buckets: Vec<u8>,
    graph: Option<Csr>,
}

impl Extra {
    /// The numbers of one problem.
    pub(super) fn draw(self, problem: &Problem<'_>) -> Result<Numbers, Failure> {
        let Shape { heads, head_dim, .. } = problem.shape;
        let tokens = problem.keys.tokens();
        let pairs = problem.queries.tokens() * tokens;
        let learned = |count| Numbers { learned: measure::normal(count, 4), ..Numbers::default() };
        let table = |buckets: Buckets<'_>| learned(heads * buckets.count());
        Ok(match self {
            Extra::Nothing => Numbers::default(),
            Extra::Additive => learned(heads * head_dim),
            Extra::Alibi => {
                // as in the paper: 2^-1 to 2^-8 for eight heads
                let slope = |head| (-8.0 * (head + 1) as f32 / heads as f32).exp2();
                Numbers { learned: (0..heads).map(slope).collect(), ..Numbers::default() }
            }
            Extra::Relative(reach) => table(Buckets::Relative { reach, offset: 0 }),
            Extra::Grid(reach) => {
                let place = |t: usize| [(t / COLUMNS) as i32, (t % COLUMNS) as i32];
                let places = (0..tokens).map(place).collect();
                Numbers { places, ..table(Buckets::Grid { queries: &[], keys: &[], reach }) }
            }
            Extra::Stored(count) => {
                let key = Key::new(SEED);
                let buckets = (0..pairs as u64).map(|pair| below(key, pair, count) as u8).collect();
                Numbers { buckets, ..table(Buckets::Stored { pairs: &[], count }) }
            }
            Extra::Dense => learned(heads * pairs),
            Extra::Graph(graph) => Numbers { graph: Some(graph.edges(tokens)?), ..Numbers::default() },
            Extra::Edges(graph) => {
                let graph = graph.edges(tokens)?;
                Numbers { graph: Some(graph.clone()), ..learned(heads * graph.edges()) }
            }
        })
    }

    /// `options` with what was drawn.
    pub(super) fn complete<'a>(self, options: Options<'static>, numbers: &'a Numbers) -> Options<'a> {
        let Numbers { learned, places, buckets, graph } = numbers;
        let mask = graph.as_ref().map_or(options.mask, Mask::Graph);
        let with = |bias| Options { mask, bias, ..options };
        let of_table = |buckets| with(Bias::Buckets { table: learned, buckets });
        match self {
            Extra::Nothing | Extra::Graph(_) => with(options.bias),
            Extra::Additive => {
                let score = Score::Additive { activation: ScoreActivation::Tanh, weights: learned };
                Options { score, ..options }
            }
            Extra::Alibi => with(Bias::Alibi { slopes: learned, offset: 0 }),
            Extra::Relative(reach) => of_table(Buckets::Relative { reach, offset: 0 }),
            Extra::Grid(reach) => of_table(Buckets::Grid { queries: places, keys: places, reach }),
            Extra::Stored(count) => of_table(Buckets::Stored { pairs: buckets, count }),
            Extra::Dense => with(Bias::Dense { values: learned }),
            Extra::Edges(_) => with(Bias::Edges { values: learned }),
        }
    }
}

impl Graph {
    /// Row `i` lists what node `i` attends to.
    fn edges(self, nodes: usize) -> Result<Csr, Failure> {
        let rows = |row: &dyn Fn(usize) -> std::ops::Range<usize>| {
            let (mut offsets, mut columns) = (vec![0], Vec::new());
            for i in 0..nodes {
                columns.extend(row(i).map(|j| j as u32));
                offsets.push(columns.len());
            }
            Csr::new(offsets, columns, nodes)
        };
        match self {
            Graph::Full => rows(&|_| 0..nodes),
            Graph::Near(reach) => rows(&|i| i.saturating_sub(reach)..nodes.min(i + reach + 1)),
            Graph::Random(edges) => {
                let key = Key::new(SEED);
                let draw = |n: u64| (below(key, 2 * n, nodes), below(key, 2 * n + 1, nodes));
                // An edge that was drawn before would count once.
                let mut seen = HashSet::with_capacity(edges);
                let drawn: Vec<_> = (0..).map(draw).filter(|&edge| seen.insert(edge)).take(edges).collect();
                Csr::from_edges(nodes, &drawn)
            }
        }
        .map_err(|e| Failure::new(e.to_string()))
    }

    /// How many edges there are.
    fn count(self, nodes: usize) -> usize {
        match self {
            Graph::Full => nodes * nodes,
            Graph::Near(reach) => Mask::Window { left: reach, right: reach }.pairs(nodes, nodes),
            Graph::Random(edges) => edges,
        }
    }
}

/// Number `n` of a key, below `count`.
fn below(key: Key, n: u64, count: usize) -> usize {
    ((u64::from(key.bits(n)) * count as u64) >> 32) as usize
}

/// All cases, in the order in which they are shown. Tests have fewer vectors, the named number divided by `shrink`.
pub(super) fn cases(shrink: usize) -> Vec<Case> {
    let mut cases = alone(shrink);
    cases.extend(cached(shrink));
    cases.extend(graph(shrink));
    cases.extend(beside_plain(shrink));
    cases
}

/// One case.
struct Work {
    name: String,
    /// Of the queries, and of the keys.
    lengths: [usize; 2],
    shape: Shape,
    options: Options<'static>,
    extra: Extra,
    layout: Layout,
}

impl Work {
    /// Self-attention of one set.
    fn new(name: String, tokens: usize, shape: Shape) -> Self {
        let (options, layout) = (Options::default(), Layout::ByHead);
        Self { name, lengths: [tokens; 2], shape, options, extra: Extra::Nothing, layout }
    }

    fn case(&self, backward: bool, beside: Beside) -> Case {
        let [queries, keys] = self.lengths.map(|length| Offsets::from_lengths([length]));
        let pairs = match self.extra {
            Extra::Graph(graph) | Extra::Edges(graph) => graph.count(queries.tokens()),
            _ => self.options.mask.pairs(queries.tokens(), keys.tokens()),
        };
        let problem = Problem { shape: self.shape, queries, keys, options: self.options, layout: self.layout };
        Case::new(&self.name, problem, pairs as f64, (self.extra, backward, beside))
    }
}

/// What is well known by itself, most of it in both passes.
fn alone(shrink: usize) -> Vec<Case> {
    let (plain, eight) = (Options::default(), Shape::new(8, 64));
    let mut cases = Vec::new();
    for (name, tokens, shape, options, extra) in [
        ("relative bias", 4096, eight, plain, Extra::Relative(4096 / shrink - 1)),
        ("dropout0.1", 2048, eight, dropout(), Extra::Nothing),
        ("relu", 2048, eight, normalizer(Normalizer::Relu), Extra::Nothing),
        ("sigmoid", 2048, eight, normalizer(Normalizer::Sigmoid), Extra::Nothing),
        ("additive", 512, Shape::new(4, 32), plain, Extra::Additive),
    ] {
        let name = format!("{name} h{} n{tokens} d{}", shape.heads, shape.head_dim);
        let work = Work { options, extra, ..Work::new(name, tokens / shrink, shape) };
        cases.push(work.case(true, Beside::Nothing));
    }
    cases
}

/// One query and the keys and values of all that came before it.
fn cached(shrink: usize) -> Vec<Case> {
    let (tokens, heads, dim) = (32768, 32, 128);
    let mut cases = Vec::new();
    for (kv_heads, layout) in [(heads, Layout::ByHead), (heads, Layout::ByToken), (8, Layout::ByHead)] {
        let grouped = if kv_heads < heads { format!(" kv{kv_heads}") } else { String::new() };
        let shape = Shape { kv_heads, ..Shape::new(heads, dim) };
        let name = format!("cache h{heads}{grouped} n{tokens} d{dim}");
        let lengths = [1, tokens / shrink];
        let mut case = Work { lengths, layout, ..Work::new(name, 1, shape) }.case(false, Beside::Reading);
        if let Layout::ByToken = layout {
            case.name += " token-major";
        }
        cases.push(case);
    }
    cases
}

/// The attention of a graph.
fn graph(shrink: usize) -> Vec<Case> {
    let (nodes, edges, heads, dim) = (100_000, 1_000_000, 4, 16);
    let shape = Shape { head_dim: 1, value_dim: dim, ..Shape::new(heads, 1) };
    let options = Options { score: Score::RankOne { slope: 0.2 }, ..Options::default() };
    let name = format!("gat n{nodes} e{edges} h{heads} d{dim}");
    let extra = Extra::Graph(Graph::Random(edges / shrink));
    // The heads of a node side by side, as whoever follows edges has them.
    let layout = Layout::ByToken;
    vec![Work { options, extra, layout, ..Work::new(name, nodes / shrink, shape) }.case(true, Beside::Nothing)]
}

/// Each option by itself, for what it costs.
fn beside_plain(shrink: usize) -> Vec<Case> {
    let (named, plain) = (2048, Options::default());
    let tokens = named / shrink;
    let near = Options { mask: Mask::Window { left: NEAR, right: NEAR }, ..plain };
    let capped = Options { score: Score::Dot { scale: None, softcap: Some(30.0) }, ..plain };
    let mut cases = Vec::new();
    for (name, options, extra) in [
        ("softcap", capped, Extra::Nothing),
        ("softmax-plus-one", normalizer(Normalizer::SoftmaxPlusOne), Extra::Nothing),
        ("relu", normalizer(Normalizer::Relu), Extra::Nothing),
        ("sigmoid", normalizer(Normalizer::Sigmoid), Extra::Nothing),
        ("alibi", plain, Extra::Alibi),
        (&format!("relative{REACH}"), plain, Extra::Relative(REACH)),
        (&format!("relative{}", named - 1), plain, Extra::Relative(tokens - 1)),
        (&format!("grid{}x{COLUMNS}", named / COLUMNS), plain, Extra::Grid([named / COLUMNS - 1, COLUMNS - 1])),
        ("stored32", plain, Extra::Stored(32)),
        ("dense bias", plain, Extra::Dense),
        ("dropout0.1", dropout(), Extra::Nothing),
        ("full graph", plain, Extra::Graph(Graph::Full)),
        (&format!("window{NEAR} edges"), near, Extra::Edges(Graph::Near(NEAR))),
    ] {
        let name = format!("b1 h8 n{named} d64 {name}");
        let work = Work { options, extra, ..Work::new(name, tokens, Shape::new(8, 64)) };
        cases.extend([false, true].map(|backward| work.case(backward, Beside::Plain)));
    }
    cases
}

fn normalizer(normalizer: Normalizer) -> Options<'static> {
    Options { normalizer, ..Options::default() }
}

fn dropout() -> Options<'static> {
    Options { dropout: Some(Dropout { rate: 0.1, key: Key::new(SEED) }), ..Options::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Drawn;

    #[test]
    fn every_case_can_be_run_and_counts_its_operations() {
        for case in cases(32) {
            let numbers = case.extra.draw(&case.problem).expect("drawn");
            let problem = case.completed(&numbers);
            let said = problem.explain(1).expect("it fits");
            let counted = said.forward.flops + if case.backward { said.backward.flops } else { 0 };
            assert!((counted as f64 / case.flops - 1.0).abs() < 1e-6, "{}: {counted}, {}", case.name, case.flops);

            let mut drawn = Drawn::new(problem.clone(), case.backward).keeping();
            drawn.forward().expect("it fits");
            drawn.backward().expect("it fits");
            let has_table = !numbers.learned.is_empty();
            assert_eq!(
                drawn.answers().len(),
                if case.backward { 4 + usize::from(has_table) } else { 1 },
                "{}",
                case.name
            );
            for numbers in drawn.answers() {
                let finite = numbers.iter().all(|x| x.is_finite());
                assert!(finite && numbers.iter().any(|x| *x != 0.0), "{}", case.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_only_options_differ_from_plain() {
        let cases = cases(1);
        let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        for case in cases.iter().filter(|case| case.beside == Beside::Plain) {
            let numbers = case.extra.draw(&case.problem).expect("drawn");
            assert_ne!(case.completed(&numbers).options, case.plain().options, "{}", case.name);
        }
    }

    #[test]
    fn a_random_graph_has_as_many_edges_as_it_says() {
        for graph in [Graph::Full, Graph::Near(3), Graph::Random(50)] {
            let edges = graph.edges(10).expect("drawn");
            assert_eq!((edges.rows(), edges.edges()), (10, graph.count(10)), "{graph:?}");
        }
    }
}
