//! The lists of cases that every instruction set is tested with.

use super::Shape;
use crate::options::{Mask, Normalizer, ScoreActivation};
use crate::random::Key;

/// How queries, keys and values lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Memory {
    Packed,
    ByHead,
    /// One buffer `[tokens, 3, heads, dim]`, as a fused projection leaves it; the gradients likewise.
    Qkv,
    /// Gaps between heads and rows.
    Gaps,
}

/// A [`Score`](crate::options::Score) without its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scoring {
    Dot,
    Capped(f32),
    Additive(ScoreActivation),
    RankOne(f32),
}

/// A [`Bias`](crate::options::Bias) without its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Biased {
    No,
    Alibi { offset: isize },
    Relative { reach: usize, offset: isize },
    Grid { reach: [usize; 2] },
    Stored { count: usize },
    Edges,
    Dense,
}

/// Which edges a graph has, query and key counted from the beginning of their set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Graph {
    /// This share of all pairs, at random.
    Random(f32),
    /// Blocks of so many queries and keys on the diagonal.
    Blocks(usize),
    /// So many queries that see every key and keys that every query sees, and otherwise the diagonal.
    Hubs(usize),
    /// This share of all pairs, but every third query sees nothing and every fourth key is seen by nobody.
    Isolated(f32),
    /// This share of all pairs in every second set, none in the others.
    EverySecondSet(f32),
}

impl Graph {
    /// Whether query `i` sees key `j`; random numbers from `key`.
    pub(crate) fn has_edge(self, set: usize, i: usize, j: usize, key: Key) -> bool {
        let random = |share| key.fold(set as u64).fold(i as u64).uniform(j as u64) < share;
        match self {
            Graph::Random(share) => random(share),
            Graph::Blocks(size) => i / size == j / size,
            Graph::Hubs(count) => i < count || j < count || i == j,
            Graph::Isolated(share) => i % 3 != 1 && j % 4 != 2 && random(share),
            Graph::EverySecondSet(share) => set % 2 == 1 && random(share),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Queries and keys of each set.
    pub(crate) lengths: Vec<(usize, usize)>,
    pub(crate) shape: Shape,
    pub(crate) mask: Mask<'static>,
    /// The mask instead, if there is one.
    pub(crate) graph: Option<Graph>,
    pub(crate) scale: Option<f32>,
    pub(crate) score: Scoring,
    pub(crate) normalizer: Normalizer,
    pub(crate) bias: Biased,
    /// The rate.
    pub(crate) dropout: Option<f32>,
    pub(crate) memory: Memory,
}

/// The plain options.
pub(crate) fn case(lengths: &[(usize, usize)], shape: Shape, mask: Mask<'static>) -> Case {
    Case {
        lengths: lengths.to_vec(),
        shape,
        mask,
        graph: None,
        scale: None,
        score: Scoring::Dot,
        normalizer: Normalizer::Softmax,
        bias: Biased::No,
        dropout: None,
        memory: Memory::Packed,
    }
}

fn grouped(heads: usize, kv_heads: usize, head_dim: usize, value_dim: usize) -> Shape {
    Shape { heads, kv_heads, head_dim, value_dim }
}

const CAUSAL: Mask<'static> = Mask::Causal { offset: 0 };

pub(crate) fn cases() -> Vec<Case> {
    let window = |left, right| Mask::Window { left, right };
    let mut cases = Vec::new();
    // sizes: one, odd ones, a tile of either pass and its neighbours, more than a tile of keys, of a block
    for n in [1, 2, 3, 14, 41, 42, 43, 59, 83, 84, 85, 95, 96, 97, 127, 128, 129, 191, 193] {
        cases.push(case(&[(n, n)], Shape::new(1, 16), Mask::Full));
        cases.push(case(&[(n, n)], Shape::new(2, 8), CAUSAL));
        cases.push(case(&[(n, n)], Shape::new(1, 8), window(5, 3)));
    }
    for (q, k) in [(113, 203), (203, 113), (1, 300), (300, 1), (42, 128), (84, 96), (85, 400), (1, 1030)] {
        cases.push(case(&[(q, k)], Shape::new(1, 20), Mask::Full));
        cases.push(case(&[(q, k)], grouped(2, 1, 16, 24), Mask::Causal { offset: k as isize - q as isize }));
        cases.push(case(&[(q, k)], Shape::new(1, 16), window(40, 11)));
    }
    // widths: below, at and beside a register of each instruction set, and the largest that are asked for
    for head_dim in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48, 59, 64, 80, 96, 111, 128, 256, 512] {
        cases.push(case(&[(45, 70)], Shape::new(1, head_dim), Mask::Full));
        cases.push(case(&[(45, 45)], grouped(1, 1, head_dim, 513 - head_dim), CAUSAL));
    }
    // rows, and keys, that may attend to nothing
    for offset in [-1, -4, -50, -1000] {
        cases.push(case(&[(60, 60), (3, 3)], Shape::new(2, 16), Mask::Causal { offset }));
    }
    cases.push(case(&[(7, 0), (0, 5), (0, 0), (4, 4)], Shape::new(2, 16), Mask::Full));
    cases.push(case(&[(500, 20)], Shape::new(1, 16), window(3, 0)));
    cases.push(case(&[(20, 500)], Shape::new(1, 16), window(0, 7)));
    cases.push(case(&[], Shape::new(2, 16), Mask::Full));
    // sets of all sizes side by side, long ones among them
    cases.push(case(
        &[(5, 5), (0, 0), (1, 1), (130, 130), (2, 2), (700, 700), (43, 43)],
        Shape::new(2, 16),
        Mask::Full,
    ));
    cases.push(case(&[(600, 600), (90, 90), (555, 555)], Shape::new(2, 16), CAUSAL));
    cases.push(case(&[(600, 600), (90, 90), (555, 555)], Shape::new(2, 16), window(70, 30)));
    cases.push(case(&[(1, 1); 3000], Shape::new(2, 4), Mask::Full));
    cases.push(case(&(0..1500).map(|n| (n % 7, n % 7)).collect::<Vec<_>>(), Shape::new(1, 8), CAUSAL));
    cases.push(case(&[(9000, 9000)], Shape::new(1, 8), window(20, 20)));
    cases.push(case(&[(1500, 1500)], Shape::new(1, 16), Mask::Full));
    cases.push(case(&[(1300, 1300)], grouped(4, 2, 16, 8), CAUSAL));
    // sets that threads share, under masks that reach over several blocks of keys
    for (q, k) in [(900, 1300), (1300, 700), (2500, 300)] {
        for mask in [
            Mask::Causal { offset: -700 },
            Mask::Causal { offset: 700 },
            window(usize::MAX, 0),
            window(500, usize::MAX),
            window(0, 600),
        ] {
            cases.push(case(&[(q, k)], grouped(2, 1, 8, 8), mask));
        }
    }
    // groups of heads
    for kv_heads in [1, 2, 3, 6] {
        cases.push(case(&[(50, 77), (600, 600)], grouped(6, kv_heads, 12, 20), Mask::Full));
    }
    // memory
    for memory in [Memory::ByHead, Memory::Qkv, Memory::Gaps] {
        for mask in [Mask::Full, CAUSAL, window(9, 2)] {
            for lengths in [&[(60, 60), (131, 131)][..], &[(530, 530)]] {
                cases.push(Case { memory, ..case(lengths, Shape::new(3, 20), mask) });
            }
        }
    }
    // scales, and logits of ten thousand
    for scale in [0.0, -0.3, 1.0, 50.0, 700.0, -700.0] {
        for mask in [Mask::Full, CAUSAL] {
            cases.push(Case { scale: Some(scale), ..case(&[(70, 70), (600, 600)], Shape::new(1, 16), mask) });
        }
    }
    cases
}

/// One part of the options of a case, other than the plain one.
type Change = Box<dyn Fn(Case) -> Case>;

const TANH: Scoring = Scoring::Additive(ScoreActivation::Tanh);
const LEAKY: Scoring = Scoring::Additive(ScoreActivation::LeakyRelu { slope: 0.2 });

fn score(score: Scoring) -> Change {
    Box::new(move |case| {
        // one number for a query and one for a key
        let head_dim = if let Scoring::RankOne(_) = score { 1 } else { case.shape.head_dim };
        Case { score, shape: Shape { head_dim, ..case.shape }, ..case }
    })
}

fn normalizer(normalizer: Normalizer) -> Change {
    Box::new(move |case| Case { normalizer, ..case })
}

fn graph(graph: Graph) -> Change {
    Box::new(move |case| Case { graph: Some(graph), ..case })
}

fn bias(bias: Biased) -> Change {
    Box::new(move |case| {
        // edges that are not there have no bias
        let edges = if bias == Biased::Edges { Some(Graph::Random(0.3)) } else { None };
        Case { bias, graph: case.graph.or(edges), ..case }
    })
}

fn dropout(rate: f32) -> Change {
    Box::new(move |case| Case { dropout: Some(rate), ..case })
}

pub(crate) const NORMALIZERS: [Normalizer; 4] =
    [Normalizer::Softmax, Normalizer::SoftmaxPlusOne, Normalizer::Relu, Normalizer::Sigmoid];

pub(crate) const SCORES: [Scoring; 6] = [
    Scoring::Dot,
    Scoring::Capped(1.5),
    TANH,
    LEAKY,
    Scoring::Additive(ScoreActivation::LeakyRelu { slope: -0.5 }),
    Scoring::RankOne(0.2),
];

pub(crate) const BIASES: [Biased; 7] = [
    Biased::No,
    Biased::Alibi { offset: 1 },
    Biased::Relative { reach: 2, offset: -1 },
    Biased::Grid { reach: [1, 2] },
    Biased::Stored { count: 5 },
    Biased::Edges,
    Biased::Dense,
];

const GRAPHS: [Graph; 6] = [
    Graph::Random(0.03),
    Graph::Random(0.8),
    Graph::Blocks(24),
    Graph::Hubs(2),
    Graph::Isolated(0.2),
    Graph::EverySecondSet(0.5),
];

/// Every part of the options by itself, the plain ones left out.
fn single_changes() -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(SCORES[1..].iter().map(|&x| score(x)));
    changes.extend(NORMALIZERS[1..].iter().map(|&x| normalizer(x)));
    changes.extend(BIASES[1..].iter().map(|&x| bias(x)));
    changes.extend(GRAPHS.iter().map(|&x| graph(x)));
    changes.push(dropout(0.1));
    changes
}

/// A few of each, to be combined.
fn main_changes() -> Vec<Vec<Change>> {
    vec![
        [Scoring::Capped(1.5), TANH, LEAKY, Scoring::RankOne(0.2)].map(score).into(),
        NORMALIZERS[1..].iter().map(|&x| normalizer(x)).collect(),
        BIASES[1..].iter().map(|&x| bias(x)).collect(),
        [Graph::Random(0.1), Graph::Blocks(24), Graph::Isolated(0.5)].map(graph).into(),
        vec![dropout(0.3)],
    ]
}

/// Options other than the plain ones: each by itself in many shapes, then all pairs, then more of them at once.
pub(crate) fn option_cases() -> Vec<Case> {
    let mut cases = alone();
    cases.extend(together());
    cases.extend(extremes());
    cases.extend(ways());
    cases
}

/// Ways through a set that shapes above seldom take.
fn ways() -> Vec<Case> {
    let tanh = Scoring::Additive(ScoreActivation::Tanh);
    let mut cases = Vec::new();
    // more heads than a tile along edges has rows
    for (graph, bias) in [(0.04, Biased::Alibi { offset: 1 }), (0.5, Biased::Relative { reach: 5, offset: 0 })] {
        for score in [Scoring::Dot, tanh] {
            let plain = case(&[(50, 50), (9, 30)], grouped(90, 45, 3, 2), Mask::Full);
            cases.push(Case { graph: Some(Graph::Random(graph)), bias, score, ..plain });
        }
    }
    // scores of rank one along edges, a register of whole heads or not; two queries with more edges than a tile has columns
    for heads in [1, 2, 3, 4, 5, 8, 16, 17] {
        for (value_dim, slope) in [(1, 0.2), (16, -0.5), (20, 0.0), (40, 1.0)] {
            let plain = case(&[(70, 70), (9, 30)], grouped(heads, heads, 1, value_dim), Mask::Full);
            let plain = Case { score: Scoring::RankOne(slope), graph: Some(Graph::Random(0.06)), ..plain };
            cases.push(Case { dropout: Some(0.4), ..plain.clone() });
            cases.push(Case {
                normalizer: Normalizer::SoftmaxPlusOne,
                graph: Some(Graph::Isolated(0.1)),
                ..plain.clone()
            });
            for (graph, memory) in [(Graph::Hubs(2), Memory::Packed), (Graph::Random(0.03), Memory::ByHead)] {
                cases.push(Case { lengths: vec![(300, 300)], graph: Some(graph), memory, ..plain.clone() });
            }
            cases.push(plain);
        }
    }
    let plain = case(&[(300, 300)], grouped(2, 2, 1, 5), Mask::Full);
    let hubs = Case { score: Scoring::RankOne(0.2), graph: Some(Graph::Hubs(2)), ..plain };
    cases.push(Case { dropout: Some(0.4), normalizer: Normalizer::SoftmaxPlusOne, ..hubs });
    // blocks on the diagonal, each of them dense: tiles that see few blocks of keys; and sets without an edge
    for bias in [Biased::No, Biased::Edges, Biased::Alibi { offset: 0 }, Biased::Grid { reach: [3, 9] }] {
        let plain = case(&[(1300, 1300)], Shape::new(1, 4), Mask::Full);
        cases.push(Case { graph: Some(Graph::Blocks(60)), bias, ..plain.clone() });
        cases.push(Case {
            graph: Some(Graph::EverySecondSet(0.02)),
            lengths: vec![(400, 400), (300, 1100)],
            bias,
            ..plain
        });
    }
    // a few queries, tiles and short sets in one batch
    for bias in [Biased::Stored { count: 40 }, Biased::Dense, Biased::Relative { reach: 2000, offset: 3 }] {
        let plain = case(&[(1, 2100), (120, 120), (3, 1500), (7, 7), (20, 1100)], grouped(4, 2, 16, 16), Mask::Full);
        cases.push(Case { bias, dropout: Some(0.3), ..plain.clone() });
        cases.push(Case { bias, normalizer: Normalizer::SoftmaxPlusOne, ..plain });
    }
    cases
}

/// Each part of the options by itself.
fn alone() -> Vec<Case> {
    let mut cases = Vec::new();
    for change in single_changes() {
        // sizes: one, two, the tiles of either pass and their neighbours; widths beside a register; grouped heads; cross
        // attention; sets side by side
        for n in [1, 2, 41, 42, 43, 83, 84, 85, 95, 96, 97, 127, 128, 129] {
            cases.push(change(case(&[(n, n)], Shape::new(1, 8), if n % 2 == 0 { Mask::Full } else { CAUSAL })));
        }
        for (n, head_dim) in [1, 5, 16, 20, 33, 64, 70].into_iter().enumerate() {
            let shape = grouped(2, 1 + n % 2, head_dim, [3, 5, 24, 20, 16, 64, 1][n]);
            cases.push(change(case(&[(45, 60)], shape, Mask::Full)));
        }
        for (q, k) in [(59, 130), (130, 59), (1, 300), (300, 1)] {
            let causal = Mask::Causal { offset: k as isize - q as isize };
            cases.push(change(case(&[(q, k)], grouped(2, 2, 20, 5), causal)));
        }
        let window = Mask::Window { left: 40, right: 9 };
        cases.push(change(case(
            &[(5, 5), (0, 0), (1, 1), (130, 97), (7, 0), (0, 5), (43, 43)],
            grouped(3, 1, 5, 16),
            window,
        )));
        cases.push(change(case(&[(2, 2), (300, 300)], Shape::new(1, 16), window)));
        cases.push(change(case(&[(17, 17); 9], Shape::new(2, 16), Mask::Full)));
        cases.push(change(case(&[(60, 60), (3, 3)], Shape::new(2, 16), Mask::Causal { offset: -4 })));
        for memory in [Memory::ByHead, Memory::Qkv, Memory::Gaps] {
            let with = change(case(&[(60, 60), (101, 101)], Shape::new(2, 20), CAUSAL));
            // a fused projection has keys as long as values
            let value_dim = with.shape.head_dim;
            cases.push(Case { memory, shape: Shape { value_dim, ..with.shape }, ..with });
        }
        // a set that threads share, and one of several blocks of keys
        cases.push(change(case(&[(90, 700)], grouped(2, 1, 5, 8), Mask::Full)));
        cases.push(change(case(&[(700, 90)], grouped(2, 1, 5, 8), Mask::Full)));
    }
    for change in [normalizer(Normalizer::Relu), score(TANH), bias(Biased::Dense), graph(GRAPHS[0]), dropout(0.5)] {
        cases.push(change(case(&[(700, 700)], Shape::new(1, 5), CAUSAL)));
    }
    cases
}

/// Every two parts of the options, and every three with a graph or with dropout.
fn together() -> Vec<Case> {
    let mut cases = Vec::new();
    let lengths = [(0, 3), (47, 70), (85, 85)];
    let base = || case(&lengths, grouped(2, 1, 12, 10), Mask::Causal { offset: 20 });
    let parts = main_changes();
    for (n, first) in parts.iter().enumerate() {
        for second in &parts[n + 1..] {
            for (a, b) in first.iter().flat_map(|a| second.iter().map(move |b| (a, b))) {
                cases.push(b(a(base())));
            }
        }
    }
    let [scores, normalizers, biases, graphs, dropouts] = &parts[..] else { unreachable!("five parts") };
    for (n, bias) in biases.iter().enumerate() {
        for (m, normalizer) in normalizers.iter().enumerate() {
            let (score, graph) = (&scores[(n + m) % scores.len()], &graphs[(n + m) % graphs.len()]);
            cases.push(dropouts[0](bias(normalizer(base()))));
            cases.push(bias(graph(normalizer(base()))));
            cases.push(bias(score(normalizer(base()))));
            cases.push(dropouts[0](bias(graph(score(normalizer(base()))))));
        }
    }
    cases
}

/// Few queries of many keys, numbers at the ends of their ranges.
fn extremes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, change) in single_changes().into_iter().enumerate() {
        let (q, kv_heads) = (1 + n % 5, [1, 2, 4, 8][n % 4]);
        cases.push(change(case(&[(q, 5000)], grouped(8, kv_heads, 8, 6), Mask::Full)));
    }
    let base = |head_dim| case(&[(50, 50), (90, 20)], Shape::new(2, head_dim), Mask::Full);
    for offset in [isize::MIN, -700, 700, isize::MAX] {
        cases.push(bias(Biased::Relative { reach: 3, offset })(base(8)));
    }
    for offset in [-700, 700] {
        cases.push(bias(Biased::Alibi { offset })(base(8)));
    }
    for reach in [0, 1, 40, 3000] {
        cases.push(bias(Biased::Relative { reach, offset: 0 })(base(8)));
        cases.push(bias(Biased::Grid { reach: [reach.min(60), 1] })(base(8)));
    }
    for count in [1, 2, 255, 256] {
        cases.push(bias(Biased::Stored { count })(base(8)));
    }
    for rate in [0.0, 1e-10, 0.5, 0.99, 1.0 - f32::EPSILON / 2.0] {
        cases.push(dropout(rate)(base(8)));
    }
    for cap in [1e-3, 0.1, 30.0, 1e6] {
        cases.push(score(Scoring::Capped(cap))(base(8)));
    }
    // logits in the hundreds: weights that are 0 or 1, sums that would overflow
    for which in NORMALIZERS {
        for scale in [-60.0, 0.0, 60.0] {
            cases.push(Case { scale: Some(scale), ..normalizer(which)(base(16)) });
        }
        cases.push(Case { scale: Some(60.0), ..score(Scoring::Capped(50.0))(normalizer(which)(base(16))) });
    }
    for (head_dim, which) in [(128, TANH), (130, LEAKY), (1, TANH), (1, LEAKY), (256, Scoring::Capped(2.0))] {
        cases.push(score(which)(base(head_dim)));
    }
    cases.extend((0..3).map(|n| graph([Graph::Random(0.0), Graph::Random(1.0), Graph::Blocks(1)][n])(base(16))));
    // many small sets, as molecules are
    cases.push(bias(Biased::Edges)(case(
        &(0..400).map(|n| (n % 7, n % 7)).collect::<Vec<_>>(),
        Shape::new(2, 8),
        CAUSAL,
    )));
    for change in single_changes() {
        cases.push(change(case(&[(1, 1); 150], Shape::new(1, 4), Mask::Full)));
    }
    cases
}
