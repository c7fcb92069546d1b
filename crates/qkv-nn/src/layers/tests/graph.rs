//! Stacks over graphs.

use std::sync::Arc;

use qkv::{Csr, Offsets};

use super::*;
use crate::attention::Graph;

const NODES: usize = 12;

/// Graphs of 5, 1 and 6 nodes; what the nodes are called is `order`.
fn graph(order: &[usize; NODES], left_out: Option<(usize, usize)>) -> (Offsets, Graph) {
    let edges = [(0, 1), (1, 2), (2, 0), (3, 4), (6, 7), (7, 8), (8, 9), (9, 10), (10, 11), (6, 9), (11, 6)];
    let mut known: Vec<(usize, usize, u32)> = Vec::new();
    for (number, &(a, b)) in edges.iter().enumerate() {
        known.push((a, b, number as u32 % 2));
        known.push((b, a, number as u32 % 2));
    }
    known.extend((0..NODES).map(|node| (node, node, 2)));
    known.retain(|&(a, b, _)| Some((a, b)) != left_out);
    let mut renamed: Vec<(usize, usize, u32, usize)> =
        known.iter().enumerate().map(|(at, &(a, b, kind))| (order[a], order[b], kind, at)).collect();
    renamed.sort_unstable();
    let pairs: Vec<(usize, usize)> = renamed.iter().map(|&(a, b, ..)| (a, b)).collect();
    let place = |at: usize| (0..NODES).find(|&node| order[node] == at).expect("a node");
    let offsets = Offsets::from_lengths([5, 1, 6]);
    let mut buckets = Vec::new();
    for set in 0..3 {
        let rows = offsets.range(set);
        buckets.extend(rows.clone().flat_map(|a| rows.clone().map(move |b| (place(a) + 2 * place(b)) as u8 % 4)));
    }
    let numbers = |&(a, b, ..): &(usize, usize, u32, usize)| [(place(a) * 7 + place(b)) as f32 * 0.05, 0.3];
    let graph = Graph {
        edges: Arc::new(Csr::from_edges(NODES, &pairs).expect("edges of these nodes")),
        kinds: renamed.iter().map(|&(_, _, kind, _)| kind).collect(),
        numbers: renamed.iter().flat_map(numbers).collect(),
        pairs: buckets.into(),
    };
    (offsets, graph)
}

fn layout(order: &[usize; NODES], left_out: Option<(usize, usize)>) -> Layout {
    let (offsets, graph) = graph(order, left_out);
    Layout::with_graph(offsets, graph)
}

const AS_THEY_ARE: [usize; NODES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
/// Within each graph.
const MIXED: [usize; NODES] = [3, 0, 4, 1, 2, 5, 8, 11, 6, 10, 7, 9];

/// A stack with parameters that are all other than their initial zeros.
enum Stack {
    Bare(EdgeStack),
    Full(Box<Encoder>),
}

impl Stack {
    fn forward(&self, x: Tensor<2>, layout: &Layout) -> Tensor<2> {
        match self {
            Self::Bare(stack) => stack.forward(NodeInput::dense(x), layout, &Pass::inference()),
            Self::Full(encoder) => encoder.forward(x, layout, &Pass::inference()),
        }
    }
}

struct Shake(u64);

impl ModuleMapper for Shake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        let key = self.0;
        param.map(|tensor| {
            let shape = tensor.dims();
            (tensor + random(shape, key) * 0.3).detach().require_grad()
        })
    }
}

fn bare(score: Option<EdgeScore>, kinds: usize, numbers: usize) -> EdgeStackOptions {
    EdgeStackOptions {
        dim: D_MODEL,
        layers: 2,
        heads: 2,
        last_heads: if kinds == 0 { 1 } else { 3 },
        head_dim: 4,
        classes: D_MODEL,
        score,
        kinds,
        numbers,
        dropout: 0.0,
        attention_dropout: 0.0,
    }
}

fn full(sees: Sees, kinds: usize, numbers: usize) -> EncoderOptions {
    let range = matches!(sees, Sees::Buckets { .. }).then_some(0);
    let attention = SelfAttentionOptions { relative_range: range, ..attention() };
    EncoderOptions {
        geometry: Geometry::Graph { sees, kinds, numbers },
        ..options(MixerOptions::Attention(attention), PositionsOptions::None)
    }
}

/// Every kind of stack, whether a node learns along edges at most, and whether it learns of others.
fn stacks() -> Vec<(Stack, bool, bool)> {
    let init = || Init::new(5, &device());
    let scores = [Some(EdgeScore::RankOne), Some(EdgeScore::Additive), Some(EdgeScore::Dot), None];
    let mut all = Vec::new();
    for (kinds, numbers) in [(0, 0), (3, 0), (3, 2), (0, 2)] {
        for score in scores {
            let options = bare(score, kinds, numbers);
            let stack = EdgeStack::new(&options, &init());
            assert_eq!(EdgeStack::parameter_count(&options), stack.num_params() as u128);
            all.push((Stack::Bare(stack.map(&mut Shake(0))), true, score.is_some()));
        }
        let encoder = Encoder::new(&full(Sees::Edges, kinds, numbers), &init()).map(&mut Shake(0));
        all.push((Stack::Full(Box::new(encoder)), true, true));
    }
    for sees in [Sees::All, Sees::Buckets { distances: 2, edges: 2 }] {
        let encoder = Encoder::new(&full(sees, 3, 2), &init()).map(&mut Shake(0));
        all.push((Stack::Full(Box::new(encoder)), false, true));
    }
    all
}

#[test]
fn other_names_of_the_nodes_change_nothing_but_their_order() {
    for (stack, ..) in stacks() {
        let x = random([NODES, D_MODEL], 1);
        let there = stack.forward(x.clone(), &layout(&AS_THEY_ARE, None));
        let rows: Vec<usize> =
            (0..NODES).map(|at| (0..NODES).find(|&node| MIXED[node] == at).expect("a node")).collect();
        let mixed = stack.forward(x.select(0, indices(&rows, &device())), &layout(&MIXED, None));
        assert_close(mixed, there.select(0, indices(&rows, &device())), 1e-5);
    }
}

#[test]
fn an_edge_that_is_not_there_has_no_influence() {
    // Along one edge alone, from 4 to 3: with it 3 learns of 4, and without it nothing at all.
    for (stack, _, learns) in stacks().into_iter().filter(|(_, edges, _)| *edges) {
        let x = random([NODES, D_MODEL], 1);
        let changed = x.clone().slice_assign([4..5, 0..D_MODEL], random([1, D_MODEL], 9));
        let difference = |left_out: Option<(usize, usize)>, node: usize| {
            let layout = layout(&AS_THEY_ARE, left_out);
            let [one, other] = [&x, &changed].map(|x| values(stack.forward(x.clone(), &layout).narrow(0, node, 1)));
            one.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert_eq!(difference(Some((3, 4)), 3), 0.0, "exactly nothing");
        assert_eq!(difference(None, 7), 0.0, "another graph");
        assert!(!learns || difference(None, 3) > 0.0);
    }
}

#[test]
fn gradients_are_those_of_the_twin() {
    for (stack, ..) in stacks() {
        let weights = random([NODES, D_MODEL], 2);
        let run = |x: &Tensor<2>| {
            let out = stack.forward(x.clone(), &layout(&AS_THEY_ARE, None));
            let grads = (out.clone() * weights.clone()).sum().backward();
            let of_parameters = match &stack {
                Stack::Bare(stack) => parameter_gradients(stack, &grads),
                Stack::Full(encoder) => parameter_gradients(&**encoder, &grads),
            };
            (values(out), values(x.grad(&grads).expect("of the input")), of_parameters)
        };
        let x = random([NODES, D_MODEL], 1).require_grad();
        let (out, d_x, d_parameters) = run(&x);
        let (twin, d_twin, d_twin_parameters) = composed(|| run(&x));
        let close = |a: &[f32], b: &[f32]| {
            let scale = b.iter().fold(1.0_f32, |max, x| max.max(x.abs()));
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-5 * scale)
        };
        assert!(close(&out, &twin) && close(&d_x, &d_twin));
        assert_eq!(d_parameters.len(), d_twin_parameters.len());
        assert!(d_parameters.iter().zip(&d_twin_parameters).all(|(a, b)| close(a, b)));
    }
}

fn parameter_gradients<M: Module>(module: &M, grads: &burn::tensor::Gradients) -> Vec<Vec<f32>> {
    struct Collect<'a>(&'a burn::tensor::Gradients, Vec<Vec<f32>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push(values(param.val().grad(self.0).expect("a gradient for each parameter")));
        }
    }
    let mut collect = Collect(grads, Vec::new());
    module.visit(&mut collect);
    collect.1
}

#[test]
fn few_of_many_features_are_as_their_vectors() {
    let stack =
        EdgeStack::new(&EdgeStackOptions { dim: 7, ..bare(Some(EdgeScore::RankOne), 0, 0) }, &Init::new(5, &device()));
    let none = qkv::gather::NONE;
    let ids: Vec<u32> =
        (0..NODES as u32).flat_map(|node| [node % 7, if node % 3 == 0 { none } else { (node + 2) % 7 }]).collect();
    let scales: Vec<f32> = (0..NODES).map(|node| if node % 3 == 0 { 1.0 } else { 0.5 }).collect();
    let mut dense = vec![0.0; NODES * 7];
    for (node, ids) in ids.chunks(2).enumerate() {
        ids.iter().filter(|&&id| id != none).for_each(|&id| dense[node * 7 + id as usize] += scales[node]);
    }
    let dense = Tensor::from_data(TensorData::new(dense, [NODES, 7]), &device());
    let layout = layout(&AS_THEY_ARE, None);
    let sparse =
        SparseNodes { ids: ids.into(), width: 2, features: 7, scales: scales.into(), ..SparseNodes::default() };
    let out = stack.forward(NodeInput { sparse: Some(sparse.clone()), dense: None }, &layout, &Pass::inference());
    // A value for each, instead of a scale for all of a node.
    let values = sparse.scales.iter().flat_map(|&scale| [scale; 2]).collect();
    let valued = SparseNodes { values, scales: [].into(), ..sparse };
    let same = stack.forward(NodeInput { sparse: Some(valued), dense: None }, &layout, &Pass::inference());
    assert_close(out.clone(), same, 1e-5);
    assert_close(out, stack.forward(NodeInput::dense(dense), &layout, &Pass::inference()), 1e-5);
}
