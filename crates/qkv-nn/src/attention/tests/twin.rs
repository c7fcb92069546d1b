//! The fused operation against its twin, forward and every gradient, over one list of cases: each option with each, on sets of
//! odd sizes.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use qkv::options::{Normalizer, ScoreActivation};
use qkv::random::Key;
use qkv::{Csr, Offsets};

use super::super::*;
use crate::ops::testing::{assert_close, device, random, values};

/// Sizes of a batch; `keys` is `None` in self-attention.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    queries: &'static [usize],
    keys: Option<&'static [usize]>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    value_dim: usize,
    /// Of all options, each how manieth is tried.
    every: usize,
}

const SIZES: [Sizes; 9] = [
    Sizes { queries: &[1], keys: None, heads: 1, kv_heads: 1, head_dim: 3, value_dim: 3, every: 1 },
    Sizes { queries: &[5, 0, 1, 13, 7], keys: None, heads: 2, kv_heads: 2, head_dim: 4, value_dim: 4, every: 1 },
    Sizes {
        queries: &[9, 2, 0, 8],
        keys: Some(&[3, 11, 4, 8]),
        heads: 4,
        kv_heads: 2,
        head_dim: 5,
        value_dim: 3,
        every: 1,
    },
    Sizes { queries: &[3, 6], keys: Some(&[0, 17]), heads: 3, kv_heads: 1, head_dim: 2, value_dim: 6, every: 5 },
    Sizes { queries: &[59, 1, 61], keys: None, heads: 3, kv_heads: 3, head_dim: 7, value_dim: 9, every: 17 },
    Sizes { queries: &[3, 140, 1, 12, 150], keys: None, heads: 2, kv_heads: 1, head_dim: 6, value_dim: 6, every: 41 },
    Sizes { queries: &[1, 131], keys: Some(&[257, 19]), heads: 2, kv_heads: 2, head_dim: 4, value_dim: 5, every: 43 },
    Sizes { queries: &[600, 3], keys: None, heads: 1, kv_heads: 1, head_dim: 4, value_dim: 4, every: 101 },
    Sizes { queries: &[2, 530], keys: Some(&[9, 700]), heads: 2, kv_heads: 1, head_dim: 3, value_dim: 2, every: 211 },
];

pub(super) struct Case {
    pub(super) layout: Layout,
    pub(super) inputs: [Tensor<3>; 3],
    pub(super) extras: AttentionExtras,
    pub(super) options: AttentionOptions,
}

impl Sizes {
    fn offsets(&self) -> [Offsets; 2] {
        [self.queries, self.keys.unwrap_or(self.queries)].map(|lengths| Offsets::from_lengths(lengths.iter().copied()))
    }

    /// All options, each with each.
    fn options(&self) -> Vec<AttentionOptions> {
        let normalizers = [Normalizer::Softmax, Normalizer::SoftmaxPlusOne, Normalizer::Relu, Normalizer::Sigmoid];
        let masks = [
            Mask::Full,
            Mask::Causal { offset: 1 },
            Mask::Causal { offset: -2 },
            Mask::Window { left: 3, right: 2 },
            Mask::Graph(Arc::new(self.graph())),
        ];
        let mut all = Vec::new();
        for score in scores() {
            for normalizer in normalizers {
                for mask in &masks {
                    for bias in self.biases() {
                        if bias == Bias::Edges && !matches!(mask, Mask::Graph(_)) {
                            continue;
                        }
                        for dropout in [None, Some((0.3, Key::new(11)))] {
                            let (mask, bias) = (mask.clone(), bias.clone());
                            all.push(AttentionOptions { score, normalizer, mask, bias, dropout });
                        }
                    }
                }
            }
        }
        all
    }

    fn biases(&self) -> [Bias; 7] {
        let [queries, keys] = self.offsets();
        let layout = self.layout();
        let places = |tokens: usize| -> Arc<[[i32; 2]]> { (0..tokens as i32).map(|t| [t / 3, t % 3 - 1]).collect() };
        [
            Bias::None,
            Bias::Alibi { slopes: (0..self.heads).map(|head| 0.5_f32.powi(head as i32 + 1)).collect(), offset: 1 },
            Bias::Buckets(Buckets::Relative { reach: 4, offset: -1 }),
            Bias::Buckets(Buckets::Grid {
                queries: places(queries.tokens()),
                keys: places(keys.tokens()),
                reach: [2, 1],
            }),
            Bias::Buckets(Buckets::Stored {
                pairs: (0..layout.pairs()).map(|n| (n * n % 7) as u8).collect(),
                count: 7,
            }),
            Bias::Edges,
            Bias::Dense,
        ]
    }

    /// Some eight edges for each query, none for every fifth.
    fn graph(&self) -> Csr {
        let [queries, keys] = self.offsets();
        let key = Key::new(3);
        let (mut row_offsets, mut columns) = (vec![0], Vec::new());
        for set in 0..queries.sets() {
            let own = keys.range(set);
            let share = 8.0 / own.len().max(16) as f32;
            for query in queries.range(set) {
                let joined = |&column: &usize| query % 5 != 4 && key.fold(query as u64).uniform(column as u64) < share;
                columns.extend(own.clone().filter(joined).map(|column| column as u32));
                row_offsets.push(columns.len());
            }
        }
        Csr::new(row_offsets, columns, keys.tokens()).expect("rows rise")
    }

    fn layout(&self) -> Layout {
        let [queries, keys] = self.offsets();
        if self.keys.is_none() { Layout::new(queries) } else { Layout::cross(queries, keys) }
    }

    fn case(&self, options: AttentionOptions) -> Case {
        let [queries, keys] = self.offsets().map(|offsets| offsets.tokens());
        let layout = self.layout();
        let head_dim = if matches!(options.score, Score::RankOne { .. }) { 1 } else { self.head_dim };
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let dims = [[queries, heads, head_dim], [keys, kv_heads, head_dim], [keys, kv_heads, self.value_dim]];
        let bias = match (&options.bias, &options.mask) {
            (Bias::None | Bias::Alibi { .. }, _) => None,
            (Bias::Buckets(buckets), _) => Some([heads, buckets.count()]),
            (Bias::Edges, Mask::Graph(edges)) => Some([edges.edges(), heads]),
            (Bias::Edges, _) => panic!("edges without a graph"),
            (Bias::Dense, _) => Some([heads, layout.pairs()]),
        };
        let extras = AttentionExtras {
            score: matches!(options.score, Score::Additive { .. }).then(|| random([heads, head_dim], 4).require_grad()),
            bias: bias.map(|dims| random(dims, 5).require_grad()),
        };
        let inputs = [0, 1, 2].map(|n| random(dims[n], n as u64 + 1).require_grad());
        Case { layout, inputs, extras, options }
    }
}

fn scores() -> [Score; 5] {
    [
        Score::DOT,
        Score::Dot { scale: Some(0.7), softcap: Some(1.5) },
        Score::ADDITIVE,
        Score::Additive { activation: ScoreActivation::LeakyRelu { slope: 0.2 } },
        Score::RankOne { slope: 0.2 },
    ]
}

/// Runs every `every`-th of the list of cases, and says how many.
pub(super) fn for_each_case(every: usize, mut run: impl FnMut(&Case)) -> usize {
    let list = SIZES.iter().enumerate().flat_map(|(n, sizes)| {
        sizes.options().into_iter().skip(n).step_by(sizes.every).map(move |options| (sizes, options))
    });
    list.step_by(every).map(|(sizes, options)| run(&sizes.case(options))).count()
}

impl Case {
    pub(super) fn fused(&self) -> Tensor<3> {
        let [query, key, value] = self.inputs.clone();
        attention(query, key, value, &self.extras, &self.layout, &self.options)
    }

    pub(super) fn twin(&self) -> Tensor<3> {
        let [query, key, value] = self.inputs.clone();
        attention_twin(query, key, value, &self.extras, &self.layout, &self.options)
    }

    fn name(&self) -> String {
        let AttentionOptions { score, normalizer, mask, bias, dropout } = &self.options;
        let mask = if let Mask::Graph(_) = mask { "graph".to_string() } else { format!("{mask:?}") };
        let bias = match bias {
            Bias::Buckets(Buckets::Grid { .. }) => "grid",
            Bias::Buckets(Buckets::Stored { .. }) => "stored",
            Bias::Buckets(Buckets::Relative { .. }) => "relative",
            Bias::Alibi { .. } => "alibi",
            Bias::None => "no bias",
            Bias::Edges => "edges",
            Bias::Dense => "dense",
        };
        let dims = self.inputs.each_ref().map(|x| x.dims());
        format!("{dims:?}, {score:?}, {normalizer:?}, {mask}, {bias}, {}", dropout.is_some())
    }
}

/// Fails unless `a` and `b` agree, relative to the largest magnitude. (Gradients are differences of numbers around 1; where all
/// of them cancel, as in a set of one, what is left is rounding.)
fn check<const D: usize>(what: &str, case: &Case, a: Tensor<D>, b: Tensor<D>, tolerance: f32) {
    let (a, b) = (values(a), values(b));
    let scale = b.iter().fold(0.05_f32, |most, x| most.max(x.abs()));
    let worst =
        a.iter().zip(&b).map(|(x, y)| (x - y).abs() / scale).fold(0.0, |most, x| if x <= most { most } else { x });
    assert!(worst <= tolerance, "{what}: {worst} of {scale}, {}", case.name());
}

#[test]
fn attention_and_its_gradients_equal_the_twin() {
    let count = for_each_case(1, |case| {
        let (ours, twin) = (case.fused(), case.twin());
        check("out", case, ours.clone(), twin.clone(), 1e-5);
        let d_out = random(ours.dims(), 9);
        let (a, b) = ((ours * d_out.clone()).sum().backward(), (twin * d_out).sum().backward());
        for (name, x) in ["query", "key", "value"].iter().zip(&case.inputs) {
            check(name, case, x.grad(&a).expect("a gradient"), x.grad(&b).expect("a gradient of the twin"), 2e-5);
        }
        for (name, x) in ["score", "bias"].iter().zip([&case.extras.score, &case.extras.bias]) {
            if let Some(x) = x {
                let twin = x.grad(&b).unwrap_or_else(|| x.zeros_like());
                check(name, case, x.grad(&a).expect("a gradient"), twin, 2e-5);
            }
        }
    });
    assert!(count > 3000, "{count} cases");
}

#[test]
fn weights_equal_those_of_the_twin() {
    let sizes = [
        Sizes { queries: &[1], keys: None, heads: 1, kv_heads: 1, head_dim: 3, value_dim: 3, every: 7 },
        Sizes { queries: &[13], keys: Some(&[21]), heads: 4, kv_heads: 2, head_dim: 5, value_dim: 5, every: 7 },
        Sizes { queries: &[150], keys: None, heads: 2, kv_heads: 1, head_dim: 4, value_dim: 4, every: 53 },
        Sizes { queries: &[4], keys: Some(&[0]), heads: 2, kv_heads: 1, head_dim: 4, value_dim: 4, every: 97 },
        Sizes { queries: &[0], keys: Some(&[4]), heads: 2, kv_heads: 1, head_dim: 4, value_dim: 4, every: 97 },
    ];
    for sizes in sizes {
        for options in sizes.options().into_iter().step_by(sizes.every) {
            let case = sizes.case(options);
            let [query, key, _] = case.inputs.clone();
            let ours = attention_weights(query.clone(), key.clone(), &case.extras, &case.layout, &case.options);
            let twin = attention_weights_twin(query.clone(), key.clone(), &case.extras, &case.layout, &case.options);
            assert_eq!(ours.dims(), [sizes.heads, query.dims()[0], key.dims()[0]]);
            check("weights", &case, ours, twin, 1e-5);
        }
    }
}

#[test]
fn a_dense_bias_of_one_set_may_have_a_row_for_each_query() {
    let sizes = Sizes { queries: &[6], keys: Some(&[9]), heads: 2, kv_heads: 2, head_dim: 4, value_dim: 4, every: 1 };
    let mut case = sizes.case(AttentionOptions { bias: Bias::Dense, ..AttentionOptions::default() });
    let flat = case.fused();
    case.extras.bias = case.extras.bias.map(|bias| bias.reshape([12, 9]));
    assert_close(case.fused(), flat, 0.0);
    assert_close(case.fused(), case.twin(), 1e-5);
}

#[test]
fn the_last_bucket_is_that_of_keys_far_before_the_query() {
    // Bucket i - j + reach: the last one is large, which is that of the last query and the first key.
    let table = Tensor::<2>::from_data(TensorData::new(vec![0.0_f32, 0.0, 0.0, 0.0, 50.0], [1, 5]), &device());
    let options = AttentionOptions {
        bias: Bias::Buckets(Buckets::Relative { reach: 2, offset: 0 }),
        ..AttentionOptions::default()
    };
    let extras = AttentionExtras { score: None, bias: Some(table) };
    let layout = Layout::new(Offsets::from_lengths([3]));
    let zeros = Tensor::<3>::zeros([3, 1, 2], &device());
    let weights = values(attention_weights(zeros.clone(), zeros, &extras, &layout, &options));
    assert!(weights[6] > 0.999, "the last row sees the first key: {weights:?}");
}
