//! A case with its numbers: run by the reference and by the kernels, and the two compared.

use super::super::cases::{Biased, Case, Graph, Memory, Scoring};
use super::super::kernels::Kernels;
use super::super::reference::{Float, Problem, Results, Slack};
use super::super::{
    Gradients, Inputs, Saved, Shape, View, ViewMut, Workspace, backward_with, forward_with, kept_numbers,
};
use crate::csr::Csr;
use crate::isa::Isa;
use crate::offsets::Offsets;
use crate::options::{Bias, Buckets, Dropout, Mask, Options, Score};
use crate::random::Key;
use crate::testing::numbers;

/// All instruction sets of this processor.
pub(super) fn instruction_sets() -> Vec<&'static Kernels> {
    let all = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon];
    all.into_iter().filter(|isa| isa.is_available()).map(Kernels::of).collect()
}

/// A case with its numbers, packed.
#[derive(Clone)]
pub(super) struct Data {
    pub(super) case: Case,
    pub(super) queries: Offsets,
    pub(super) keys: Offsets,
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    pub(super) d_out: Vec<f32>,
    /// Of an additive score.
    pub(super) score_weights: Vec<f32>,
    /// The numbers of the bias.
    pub(super) bias: Vec<f32>,
    pub(super) graph: Option<Csr>,
    /// The buckets of all pairs.
    pub(super) pairs: Vec<u8>,
    /// The coordinates of queries and of keys.
    pub(super) places: [Vec<[i32; 2]>; 2],
    pub(super) dropout: Option<Dropout>,
}

impl Data {
    pub(super) fn new(case: &Case, seed: u64) -> Self {
        let queries = Offsets::from_lengths(case.lengths.iter().map(|n| n.0));
        let keys = Offsets::from_lengths(case.lengths.iter().map(|n| n.1));
        let Shape { heads, kv_heads, head_dim, value_dim } = case.shape;
        let (q_len, kv_len) = (queries.tokens(), keys.tokens());
        let key = Key::new(seed).fold(1);
        let mut data = Self {
            case: case.clone(),
            q: numbers(q_len * heads * head_dim, 4 * seed),
            k: numbers(kv_len * kv_heads * head_dim, 4 * seed + 1),
            v: numbers(kv_len * kv_heads * value_dim, 4 * seed + 2),
            d_out: numbers(q_len * heads * value_dim, 4 * seed + 3),
            score_weights: Vec::new(),
            bias: Vec::new(),
            graph: case.graph.map(|graph| edges(graph, &queries, &keys, key)),
            pairs: Vec::new(),
            places: [Vec::new(), Vec::new()],
            dropout: case.dropout.map(|rate| Dropout { rate, key }),
            queries,
            keys,
        };
        let numbers = |n: usize, which: u64| numbers(n, (1 << 32) + 2 * seed + which);
        if let Scoring::Additive(_) = case.score {
            // so that logits are about as large as those of scaled products
            let scale = 1.0 / (head_dim as f32).sqrt();
            data.score_weights = numbers(heads * head_dim, 0).iter().map(|w| w * scale).collect();
        }
        let pairs: usize = case.lengths.iter().map(|n| n.0 * n.1).sum();
        match case.bias {
            Biased::No | Biased::Alibi { .. } | Biased::Relative { .. } | Biased::Edges | Biased::Dense => {}
            Biased::Grid { .. } => {
                let place = |width: usize, i: usize| [(i / width) as i32 - 2, (i % width) as i32];
                data.places = [(q_len, 7), (kv_len, 5)].map(|(n, width)| (0..n).map(|i| place(width, i)).collect());
                // as far apart as numbers can be
                data.places[0].iter_mut().skip(2).step_by(40).for_each(|place| *place = [i32::MAX, i32::MIN]);
                data.places[1].iter_mut().skip(1).step_by(30).for_each(|place| *place = [i32::MIN, i32::MAX]);
            }
            Biased::Stored { count } => {
                data.pairs = (0..pairs as u64).map(|i| (key.bits(i) as usize % count) as u8).collect();
            }
        }
        let buckets = data.buckets().map_or(0, Buckets::count);
        data.bias = match case.bias {
            Biased::No => Vec::new(),
            // the slopes of the paper fall like this; small ones at first, lest near keys be all there is
            Biased::Alibi { .. } => (0..heads).map(|head| 0.3 * 0.5_f32.powi(head as i32)).collect(),
            Biased::Relative { .. } | Biased::Grid { .. } | Biased::Stored { .. } => numbers(heads * buckets, 1),
            Biased::Edges => numbers(data.graph.as_ref().map_or(0, Csr::edges) * heads, 1),
            Biased::Dense => numbers(pairs * heads, 1),
        };
        data
    }

    fn buckets(&self) -> Option<Buckets<'_>> {
        match self.case.bias {
            Biased::Relative { reach, offset } => Some(Buckets::Relative { reach, offset }),
            Biased::Grid { reach } => Some(Buckets::Grid { queries: &self.places[0], keys: &self.places[1], reach }),
            Biased::Stored { count } => Some(Buckets::Stored { pairs: &self.pairs, count }),
            Biased::No | Biased::Alibi { .. } | Biased::Edges | Biased::Dense => None,
        }
    }

    pub(super) fn options(&self) -> Options<'_> {
        let scale = self.case.scale;
        let score = match self.case.score {
            Scoring::Dot => Score::Dot { scale, softcap: None },
            Scoring::Capped(cap) => Score::Dot { scale, softcap: Some(cap) },
            Scoring::Additive(activation) => Score::Additive { activation, weights: &self.score_weights },
            Scoring::RankOne(slope) => Score::RankOne { slope },
        };
        let bias = match (self.case.bias, self.buckets()) {
            (_, Some(buckets)) => Bias::Buckets { table: &self.bias, buckets },
            (Biased::Alibi { offset }, _) => Bias::Alibi { slopes: &self.bias, offset },
            (Biased::Edges, _) => Bias::Edges { values: &self.bias },
            (Biased::Dense, _) => Bias::Dense { values: &self.bias },
            _ => Bias::None,
        };
        let mask = self.graph.as_ref().map_or(self.case.mask, Mask::Graph);
        Options { score, normalizer: self.case.normalizer, mask, bias, dropout: self.dropout }
    }

    pub(super) fn inputs(&self) -> Inputs<'_> {
        let shape = self.case.shape;
        Inputs {
            shape,
            query: View::new(&self.q, shape.heads, shape.head_dim),
            key: View::new(&self.k, shape.kv_heads, shape.head_dim),
            value: View::new(&self.v, shape.kv_heads, shape.value_dim),
            queries: &self.queries,
            keys: &self.keys,
        }
    }

    pub(super) fn problem<F: Float>(&self) -> Problem<'_, F> {
        Problem::new(self.case.shape, self.options(), [&self.queries, &self.keys], [&self.q, &self.k, &self.v])
    }

    pub(super) fn reference<F: Float>(&self) -> Results<F> {
        let d_out: Vec<F> = self.d_out.iter().map(|&x| F::from(x)).collect();
        self.problem().solve(&d_out)
    }

    /// One of its sets, alone. Dropout, which counts the sets, makes another choice.
    pub(super) fn only(&self, set: usize) -> Self {
        let Shape { heads, kv_heads, head_dim, value_dim } = self.case.shape;
        let (queries, keys) = (self.queries.range(set), self.keys.range(set));
        let before: usize = self.case.lengths[..set].iter().map(|n| n.0 * n.1).sum();
        let pairs = before..before + queries.len() * keys.len();
        let cut =
            |x: &[f32], rows: &std::ops::Range<usize>, width: usize| x[rows.start * width..rows.end * width].to_vec();
        let edges = self
            .graph
            .as_ref()
            .map_or(0..0, |graph| graph.row_offsets()[queries.start]..graph.row_offsets()[queries.end]);
        let graph = self.graph.as_ref().map(|graph| {
            let rows = graph.row_offsets()[queries.start..=queries.end].iter().map(|at| at - edges.start).collect();
            let columns = graph.columns()[edges.clone()].iter().map(|&key| key - keys.start as u32).collect();
            Csr::new(rows, columns, keys.len()).expect("edges that stay in their set")
        });
        Self {
            case: Case { lengths: vec![self.case.lengths[set]], ..self.case.clone() },
            queries: Offsets::from_lengths([queries.len()]),
            keys: Offsets::from_lengths([keys.len()]),
            q: cut(&self.q, &queries, heads * head_dim),
            k: cut(&self.k, &keys, kv_heads * head_dim),
            v: cut(&self.v, &keys, kv_heads * value_dim),
            d_out: cut(&self.d_out, &queries, heads * value_dim),
            score_weights: self.score_weights.clone(),
            bias: match self.case.bias {
                Biased::Dense => cut(&self.bias, &pairs, heads),
                Biased::Edges => cut(&self.bias, &edges, heads),
                _ => self.bias.clone(),
            },
            graph,
            pairs: if self.pairs.is_empty() { Vec::new() } else { self.pairs[pairs].to_vec() },
            places: [(0, queries), (1, keys)].map(|(which, rows)| {
                if self.places[which].is_empty() { Vec::new() } else { self.places[which][rows].to_vec() }
            }),
            dropout: self.dropout,
        }
    }

    /// Forward and backward by the kernels, in the memory that the case asks for.
    pub(super) fn run(&self, kernels: &'static Kernels, workspace: &mut Workspace) -> Results<f32> {
        self.run_with_lse(kernels, workspace).0
    }

    /// `out` alone, as where no backward pass follows.
    pub(super) fn out_for_good(&self, kernels: &'static Kernels, workspace: &mut Workspace) -> Vec<f32> {
        let Case { shape, memory, .. } = self.case;
        let (q_len, kv_len) = (self.queries.tokens(), self.keys.tokens());
        let held = [
            Held::new(&self.q, q_len, shape.heads, shape.head_dim, memory),
            Held::new(&self.k, kv_len, shape.kv_heads, shape.head_dim, memory),
            Held::new(&self.v, kv_len, shape.kv_heads, shape.value_dim, memory),
        ];
        let mut out = Held::new(&vec![f32::NAN; self.d_out.len()], q_len, shape.heads, shape.value_dim, memory);
        let [query, key, value] = held.each_ref().map(Held::view);
        let inputs = Inputs { shape, query, key, value, queries: &self.queries, keys: &self.keys };
        forward_with(kernels, &inputs, &self.options(), out.view_mut(), &mut [], &mut [], workspace).expect("fits");
        out.packed()
    }

    /// The same, and the log-sum-exps as they were saved.
    pub(super) fn run_with_lse(
        &self,
        kernels: &'static Kernels,
        workspace: &mut Workspace,
    ) -> (Results<f32>, Vec<f64>) {
        let (results, lse, _) = self.run_and_save(kernels, workspace);
        (results, lse)
    }

    /// The same, and all that was saved.
    pub(super) fn run_and_save(
        &self,
        kernels: &'static Kernels,
        workspace: &mut Workspace,
    ) -> (Results<f32>, Vec<f64>, Vec<f32>) {
        let shape = self.case.shape;
        let (q_len, kv_len) = (self.queries.tokens(), self.keys.tokens());
        let mut q = Held::new(&self.q, q_len, shape.heads, shape.head_dim, self.case.memory);
        let mut k = Held::new(&self.k, kv_len, shape.kv_heads, shape.head_dim, self.case.memory);
        let mut v = Held::new(&self.v, kv_len, shape.kv_heads, shape.value_dim, self.case.memory);
        let d_out = Held::new(&self.d_out, q_len, shape.heads, shape.value_dim, self.case.memory);
        let mut out =
            Held::new(&vec![f32::NAN; self.d_out.len()], q_len, shape.heads, shape.value_dim, self.case.memory);
        let mut lse = vec![f64::NAN; shape.heads * q_len];
        let fused = self.fused();
        let [query, key, value] = match &fused {
            Some(fused) => View::qkv(fused, shape.heads, shape.head_dim),
            None => [q.view(), k.view(), v.view()],
        };
        let inputs = Inputs { shape, query, key, value, queries: &self.queries, keys: &self.keys };
        let options = self.options();
        // What can be kept is, but for one way that operands lie.
        let keeps = self.case.memory != Memory::Gaps;
        let mut kept = vec![f32::NAN; if keeps { kept_numbers(&inputs, &options).expect("fits") } else { 0 }];
        forward_with(kernels, &inputs, &options, out.view_mut(), &mut lse, &mut kept, workspace).expect("fits");
        let saved = Saved { out: out.view(), lse: &lse, kept: &kept };
        let mut d_fused = vec![f32::NAN; fused.as_ref().map_or(0, Vec::len)];
        let mut held = [q.like(), k.like(), v.like()];
        let [query, key, value] = if fused.is_some() {
            ViewMut::qkv(&mut d_fused, shape.heads, shape.head_dim)
        } else {
            held.each_mut().map(Held::view_mut)
        };
        let mut d_score = vec![f32::NAN; self.score_weights.len()];
        let mut d_bias = vec![f32::NAN; self.bias.len()];
        let score = matches!(self.case.score, Scoring::Additive(_)).then_some(&mut d_score[..]);
        let bias = (self.case.bias != Biased::No).then_some(&mut d_bias[..]);
        let gradients = Gradients { score, bias, ..Gradients::new(query, key, value) };
        backward_with(kernels, &inputs, &options, &saved, (d_out.view(), gradients), workspace).expect("fits");
        if fused.is_some() {
            let parts = View::qkv(&d_fused, shape.heads, shape.head_dim);
            for (held, part) in [&mut q, &mut k, &mut v].into_iter().zip(parts) {
                held.fill_from(&part);
            }
            held = [q, k, v];
        }
        let [dq, dk, dv] = held.map(|held| held.packed());
        let short = lse.iter().map(|&x| x as f32).collect();
        let results = Results { out: out.packed(), lse: short, dq, dk, dv, d_score, d_bias, slack: Slack::default() };
        (results, lse, kept)
    }

    /// `[tokens, 3, heads, dim]`, if the case asks for it.
    fn fused(&self) -> Option<Vec<f32>> {
        (self.case.memory == Memory::Qkv).then(|| {
            let width = self.case.shape.heads * self.case.shape.head_dim;
            let rows = self.q.chunks(width).zip(self.k.chunks(width)).zip(self.v.chunks(width));
            rows.flat_map(|((q, k), v)| [q, k, v].concat()).collect()
        })
    }
}

/// The edges of a graph, through the whole batch.
fn edges(graph: Graph, queries: &Offsets, keys: &Offsets, key: Key) -> Csr {
    let (mut rows, mut columns) = (vec![0], Vec::new());
    for set in 0..queries.sets() {
        for i in 0..queries.len_of(set) {
            let row = (0..keys.len_of(set)).filter(|&j| graph.has_edge(set, i, j, key));
            columns.extend(row.map(|j| (keys.range(set).start + j) as u32));
            rows.push(columns.len());
        }
    }
    Csr::new(rows, columns, keys.tokens()).expect("well formed")
}

/// Numbers in the memory of a case.
struct Held {
    data: Vec<f32>,
    dims: [usize; 3],
    strides: [usize; 2],
}

impl Held {
    fn new(packed: &[f32], tokens: usize, heads: usize, dim: usize, memory: Memory) -> Self {
        let strides = match memory {
            Memory::ByHead => [dim, tokens * dim],
            Memory::Gaps => [heads * (dim + 3) + 5, dim + 3],
            Memory::Packed | Memory::Qkv => [heads * dim, dim],
        };
        let mut held =
            Self { data: vec![777.0; tokens * heads * (dim + 3) + 5 * tokens], dims: [tokens, heads, dim], strides };
        held.fill_from(&View::new(packed, heads, dim));
        held
    }

    fn like(&self) -> Self {
        Self { data: self.data.clone(), ..*self }
    }

    fn fill_from(&mut self, from: &View<'_>) {
        self.each(|to, token, head, c| {
            // SAFETY: the view has these dimensions.
            *to = unsafe { *from.row(token, head).add(c) };
        });
    }

    fn each(&mut self, mut f: impl FnMut(&mut f32, usize, usize, usize)) {
        let [tokens, heads, dim] = self.dims;
        for token in 0..tokens {
            for head in 0..heads {
                for c in 0..dim {
                    f(&mut self.data[token * self.strides[0] + head * self.strides[1] + c], token, head, c);
                }
            }
        }
    }

    fn view(&self) -> View<'_> {
        View::strided(&self.data, self.strides[0], self.strides[1])
    }

    fn view_mut(&mut self) -> ViewMut<'_> {
        ViewMut::strided(&mut self.data, self.strides[0], self.strides[1])
    }

    /// The numbers, packed, after a check that nothing between them was touched.
    fn packed(mut self) -> Vec<f32> {
        let mut packed = Vec::new();
        self.each(|x, _, _, _| packed.push(std::mem::replace(x, 777.0)));
        assert!(self.data.iter().all(|&x| x == 777.0), "a gap was written to");
        packed
    }
}

/// The largest difference.
pub(super) fn error<F: Into<f64> + Copy>(found: &[F], exact: &[f64]) -> f64 {
    assert_eq!(found.len(), exact.len());
    let difference = |(&a, &b): (&F, &f64)| if a.into() == b { 0.0 } else { (a.into() - b).abs() };
    // NaN counts as the largest
    found.iter().zip(exact).map(difference).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// Error at most `times` that of the plain formula in f32, plus a floor of a few units in the last place of what the numbers
/// are sums and differences of: of the largest, or of `terms`. (The gradient of a query with one key is 0, as the difference
/// of two equal products of `d_out` and the value.) Plus `undecided`, by which all of them may be wrong.
#[track_caller]
fn assert_as_good(
    what: &str,
    case: &Case,
    [times, ulps, terms]: [f64; 3],
    undecided: f64,
    [found, naive]: [&[f32]; 2],
    exact: &[f64],
) {
    let (found, naive) = (error(found, exact), error(naive, exact));
    let largest = exact.iter().filter(|x| x.is_finite()).fold(0.0, |a: f64, b| a.max(b.abs()));
    let allowed = times * naive + ulps * f64::from(f32::EPSILON) * largest.max(terms) + undecided;
    assert!(
        found <= allowed,
        "{what}: error {found:e}, plain f32 {naive:e}, largest {largest:e}, terms {terms:e}, undecided {undecided:e}, of \
         {case:?}"
    );
}

#[track_caller]
pub(super) fn assert_all_as_good(case: &Case, found: &Results<f32>, naive: &Results<f32>, exact: &Results<f64>) {
    assert_all_within(1.0, case, [found, naive], exact);
}

/// The same with bounds so many times as wide: for more draws than leave room for no exception.
#[track_caller]
pub(super) fn assert_all_within(wide: f64, case: &Case, [found, naive]: [&Results<f32>; 2], exact: &Results<f64>) {
    // d_out · v, a chain of so many additions; the plain formula takes its mean over the keys, the kernels d_out · out, and the
    // two round differently
    let value_dim = case.shape.value_dim as f64;
    let scale = case.scale.map_or(1.0, |scale| f64::from(scale.abs()).max(1.0));
    let kept = 1.0 / (1.0 - f64::from(case.dropout.unwrap_or(0.0)));
    let products = value_dim.sqrt().max(value_dim / 4.0) * kept;
    // queries whose weight is all on one key
    let crowd = case.lengths.iter().map(|&(q, k)| q as f64 / k.max(1) as f64).fold(1.0, f64::max).sqrt();
    let Slack { score_terms, bias_terms, key_terms, query_terms, undecided, undecided_bias } = exact.slack;
    // no number of a query or key is larger, nor what an activation makes of the sum of two
    let undecided = 8.0 * scale * undecided;
    let key_terms = (products * crowd).max(key_terms) * scale;
    let assert = |what, [times, ulps, terms]: [f64; 3], slack, pair, exact: &[f64]| {
        assert_as_good(what, case, [wide * times, wide * ulps, terms], slack, pair, exact);
    };
    assert("out", [2.0, 4.0, kept], 0.0, [&found.out, &naive.out], &exact.out);
    assert("lse", [2.0, 4.0, 1.0], 0.0, [&found.lse, &naive.lse], &exact.lse);
    assert("d_query", [3.0, 4.0, products.max(query_terms) * scale], undecided, [&found.dq, &naive.dq], &exact.dq);
    assert("d_key", [3.0, 4.0, key_terms], undecided, [&found.dk, &naive.dk], &exact.dk);
    assert("d_value", [3.0, 4.0, kept], 0.0, [&found.dv, &naive.dv], &exact.dv);
    assert("d_score", [3.0, 4.0, score_terms], undecided, [&found.d_score, &naive.d_score], &exact.d_score);
    assert("d_bias", [3.0, 4.0, bias_terms], undecided_bias, [&found.d_bias, &naive.d_bias], &exact.d_bias);
}

/// The results of several draws, end to end.
pub(super) fn joined<F>(results: impl Iterator<Item = Results<F>>) -> Results<F> {
    let join = |mut a: Results<F>, b: Results<F>| {
        a.out.extend(b.out);
        a.lse.extend(b.lse);
        a.dq.extend(b.dq);
        a.dk.extend(b.dk);
        a.dv.extend(b.dv);
        a.d_score.extend(b.d_score);
        a.d_bias.extend(b.d_bias);
        a.slack = Slack {
            score_terms: a.slack.score_terms.max(b.slack.score_terms),
            bias_terms: a.slack.bias_terms.max(b.slack.bias_terms),
            key_terms: a.slack.key_terms.max(b.slack.key_terms),
            query_terms: a.slack.query_terms.max(b.slack.query_terms),
            undecided: a.slack.undecided.max(b.slack.undecided),
            undecided_bias: a.slack.undecided_bias.max(b.slack.undecided_bias),
        };
        a
    };
    results.reduce(join).expect("at least one")
}

/// Every instruction set on every case, against the formula.
#[track_caller]
pub(super) fn assert_cases(cases: &[Case]) {
    for (seed, case) in cases.iter().enumerate() {
        // Of logits in the thousands, a few rows that two keys compete for make all of the error: look at many.
        let draws = if case.scale.is_some_and(|scale| scale.abs() >= 50.0) { 6 } else { 1 };
        let draws: Vec<Data> = (0..draws).map(|draw| Data::new(case, seed as u64 + 1000 * draw)).collect();
        let exact = joined(draws.iter().map(Data::reference::<f64>));
        let naive = joined(draws.iter().map(Data::reference::<f32>));
        for kernels in instruction_sets() {
            let mut found = joined(draws.iter().map(|data| data.run(kernels, &mut Workspace::new())));
            assert_all_as_good(case, &found, &naive, &exact);
            found.out = draws.iter().flat_map(|data| data.out_for_good(kernels, &mut Workspace::new())).collect();
            assert_all_as_good(case, &found, &naive, &exact);
        }
    }
}

/// All numbers that the kernels write.
pub(super) fn bits(r: &Results<f32>) -> Vec<u32> {
    let all = [&r.out, &r.lse, &r.dq, &r.dk, &r.dv, &r.d_score, &r.d_bias];
    all.into_iter().flatten().map(|x| x.to_bits()).collect()
}
