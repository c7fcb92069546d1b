//! What is kept of scores of rank one, and where their gradients go on to.

use super::super::cases::{Case, Graph, Memory, Scoring, case};
use super::super::kernels::Kernels;
use super::super::reference::Results;
use super::super::{
    AttentionError, Gradients, Saved, Shape, VectorGradients, View, ViewMut, Workspace, attention_forward_keeping,
    backward_with, kept_numbers,
};
use super::data::{Data, instruction_sets};
use crate::options::Mask;
use crate::rank_one::rank_one_backward;
use crate::testing::{assert_close, numbers, to_f64};

const HEADS: usize = 4;
const DIM: usize = 6;

/// Along edges, by tiles, and some sets so and some so.
fn some_cases() -> [Case; 3] {
    let shape = Shape { heads: HEADS, kv_heads: HEADS, head_dim: 1, value_dim: DIM };
    let plain = Case { score: Scoring::RankOne(0.2), ..case(&[(60, 60), (0, 0), (97, 97)], shape, Mask::Full) };
    let by_graph = |graph| Case { graph: Some(graph), ..plain.clone() };
    let mixed = Case { lengths: vec![(3, 3), (400, 400)], ..by_graph(Graph::Blocks(9)) };
    [by_graph(Graph::Isolated(0.05)), by_graph(Graph::Random(0.8)), mixed]
}

/// The gradients of query, key, value and vectors, from what a forward pass has saved.
fn with_vectors(
    data: &Data,
    kernels: &'static Kernels,
    vectors: &[f32],
    (results, lse, kept): (&Results<f32>, &[f64], &[f32]),
) -> [Vec<f32>; 4] {
    let Shape { heads, value_dim, .. } = data.case.shape;
    let [mut dq, mut dk, mut dv] = [&results.dq, &results.dk, &results.dv].map(|x| vec![f32::NAN; x.len()]);
    let mut gradient = vec![f32::NAN; vectors.len()];
    let gradients = Gradients {
        vectors: Some(VectorGradients { vectors, gradient: &mut gradient }),
        ..Gradients::new(
            ViewMut::new(&mut dq, heads, 1),
            ViewMut::new(&mut dk, heads, 1),
            ViewMut::new(&mut dv, heads, value_dim),
        )
    };
    let saved = Saved { out: View::new(&results.out, heads, value_dim), lse, kept };
    let to = (View::new(&data.d_out, heads, value_dim), gradients);
    backward_with(kernels, &data.inputs(), &data.options(), &saved, to, &mut Workspace::new()).expect("fits");
    [dq, dk, dv, gradient]
}

#[test]
fn gradients_go_on_to_values_and_vectors() {
    for case in some_cases() {
        let data = Data::new(&case, 4);
        let vectors = numbers(2 * HEADS * DIM, 9);
        for kernels in instruction_sets() {
            for keeps in [true, false] {
                let memory = if keeps { Memory::Packed } else { Memory::Gaps };
                let data = Data { case: Case { memory, ..case.clone() }, ..data.clone() };
                let (results, lse, kept) = data.run_and_save(kernels, &mut Workspace::new());
                let (mut d_value, mut d_vectors) = (results.dv.clone(), vec![f32::NAN; vectors.len()]);
                rank_one_backward(&data.v, &vectors, HEADS, [&results.dq, &results.dk], &mut d_value, &mut d_vectors);

                let data = Data { case: case.clone(), ..data };
                let [dq, dk, dv, gradient] = with_vectors(&data, kernels, &vectors, (&results, &lse, &kept));
                assert_close(&dv, &to_f64(&d_value), 1e-6);
                assert_close(&gradient, &to_f64(&d_vectors), 5e-6);
                assert!(dq == results.dq && dk == results.dk, "{case:?}");
            }
        }
    }
}

#[test]
fn what_was_kept_of_something_else_is_refused() {
    let data = Data::new(&some_cases()[0], 1);
    let (inputs, options) = (data.inputs(), data.options());
    let needed = kept_numbers(&inputs, &options).expect("fits");
    assert!(needed > 0);
    let (mut out, mut lse) = (vec![0.0; data.d_out.len()], vec![0.0; data.q.len()]);
    for (len, expected) in [(0, Ok(())), (needed, Ok(())), (7, Err(AttentionError::Kept { needed, found: 7 }))] {
        let (view, mut kept) = (ViewMut::new(&mut out, HEADS, DIM), vec![0.0; len]);
        let workspace = &mut Workspace::new();
        let found = attention_forward_keeping(&inputs, &options, view, &mut lse, &mut kept, workspace);
        assert_eq!(found, expected);
    }
    let dense = Data::new(&Case { score: Scoring::Dot, ..data.case.clone() }, 1);
    assert_eq!(kept_numbers(&dense.inputs(), &dense.options()), Ok(0));
}

#[test]
fn vectors_of_another_size_are_refused() {
    let data = Data::new(&some_cases()[0], 1);
    let (results, lse, kept) = data.run_and_save(instruction_sets()[0], &mut Workspace::new());
    for (vectors, dim) in [(2 * HEADS * DIM - 1, DIM), (2 * HEADS * DIM, DIM + 1)] {
        let [mut dq, mut dk] = [&results.dq, &results.dk].map(|x| vec![0.0; x.len()]);
        let mut dv = vec![0.0; data.keys.tokens() * HEADS * dim];
        let (vectors, mut gradient) = (vec![0.0; vectors], vec![0.0; 2 * HEADS * DIM]);
        let gradients = Gradients {
            vectors: Some(VectorGradients { vectors: &vectors, gradient: &mut gradient }),
            ..Gradients::new(
                ViewMut::new(&mut dq, HEADS, 1),
                ViewMut::new(&mut dk, HEADS, 1),
                ViewMut::strided(&mut dv, HEADS * dim, dim),
            )
        };
        let saved = Saved { out: View::new(&results.out, HEADS, DIM), lse: &lse, kept: &kept };
        let to = (View::new(&data.d_out, HEADS, DIM), gradients);
        let kernels = instruction_sets()[0];
        let found = backward_with(kernels, &data.inputs(), &data.options(), &saved, to, &mut Workspace::new());
        assert_eq!(found, Err(AttentionError::Vectors { numbers: 2 * HEADS * DIM }));
    }
}

/// Queries that go through registers with all of their heads and some that do not, in several units, with more kept than caches hold.
#[test]
fn threads_do_not_change_a_bit() {
    let pools = [1, 2, 5].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("a pool"));
    let shape = |heads, value_dim| Shape { heads, kv_heads: heads, head_dim: 1, value_dim };
    let hubs = case(&[(1500, 1500), (40, 40), (1200, 1200)], shape(4, 16), Mask::Full);
    let hubs = Case { graph: Some(Graph::Hubs(2)), ..hubs };
    let many = case(&[(4100, 4100)], shape(16, 64), Mask::Full);
    let many = Case { graph: Some(Graph::Blocks(1)), ..many };
    for case in [Case { dropout: Some(0.3), ..hubs.clone() }, hubs, many] {
        let case = Case { score: Scoring::RankOne(0.2), ..case };
        let Shape { heads, value_dim, .. } = case.shape;
        let data = Data::new(&case, 3);
        let vectors = numbers(2 * heads * value_dim, 9);
        for kernels in instruction_sets() {
            let run = || {
                let (results, lse, kept) = data.run_and_save(kernels, &mut Workspace::new());
                let [dq, dk, dv, gradient] = with_vectors(&data, kernels, &vectors, (&results, &lse, &kept));
                [results.out, dq, dk, dv, gradient].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let [one, two, five] = pools.each_ref().map(|pool| pool.install(run));
            assert!(one == two && one == five, "registers of {}", kernels.lanes);
        }
    }
}
