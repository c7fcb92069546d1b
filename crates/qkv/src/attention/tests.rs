use proptest::prelude::*;

use super::cases::{Case, Memory, case, cases};
use super::kernels::Kernels;
use super::reference::{Problem, Results};
use super::*;
use crate::offsets::Offsets;
use crate::options::Dropout;
use crate::random::Key;
use crate::testing::{differences, dot, numbers, to_f64};

/// All instruction sets of this processor.
fn instruction_sets() -> Vec<&'static Kernels> {
    let all = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon];
    all.into_iter().filter(|isa| isa.is_available()).map(Kernels::of).collect()
}

/// A case with its numbers, packed.
struct Data {
    case: Case,
    queries: Offsets,
    keys: Offsets,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    d_out: Vec<f32>,
}

impl Data {
    fn new(case: &Case, seed: u64) -> Self {
        let queries = Offsets::from_lengths(case.lengths.iter().map(|n| n.0));
        let keys = Offsets::from_lengths(case.lengths.iter().map(|n| n.1));
        let Shape { heads, kv_heads, head_dim, value_dim } = case.shape;
        let (q_len, kv_len) = (queries.tokens(), keys.tokens());
        Self {
            case: case.clone(),
            q: numbers(q_len * heads * head_dim, 4 * seed),
            k: numbers(kv_len * kv_heads * head_dim, 4 * seed + 1),
            v: numbers(kv_len * kv_heads * value_dim, 4 * seed + 2),
            d_out: numbers(q_len * heads * value_dim, 4 * seed + 3),
            queries,
            keys,
        }
    }

    fn options(&self) -> Options<'_> {
        Options { score: Score::Dot { scale: self.case.scale }, mask: self.case.mask, ..Options::default() }
    }

    fn problem<F: super::reference::Float>(&self) -> Problem<'_, F> {
        let convert = |x: &[f32]| x.iter().map(|&x| F::from(x)).collect();
        Problem {
            shape: self.case.shape,
            mask: self.case.mask,
            scale: Score::Dot { scale: self.case.scale }.scale(self.case.shape.head_dim),
            queries: &self.queries,
            keys: &self.keys,
            q: convert(&self.q),
            k: convert(&self.k),
            v: convert(&self.v),
        }
    }

    fn reference<F: super::reference::Float>(&self) -> Results<F> {
        let d_out: Vec<F> = self.d_out.iter().map(|&x| F::from(x)).collect();
        self.problem().solve(&d_out)
    }

    /// Forward and backward by the kernels, in the memory that the case asks for.
    fn run(&self, kernels: &'static Kernels, workspace: &mut Workspace) -> Results<f32> {
        self.run_with_lse(kernels, workspace).0
    }

    /// The same, and the log-sum-exps as they were saved.
    fn run_with_lse(&self, kernels: &'static Kernels, workspace: &mut Workspace) -> (Results<f32>, Vec<f64>) {
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
        forward_with(kernels, &inputs, &options, out.view_mut(), &mut lse, workspace).expect("fits");
        let saved = Saved { out: out.view(), lse: &lse };
        let mut d_fused = vec![f32::NAN; fused.as_ref().map_or(0, Vec::len)];
        let mut held = [q.like(), k.like(), v.like()];
        let [query, key, value] = if fused.is_some() {
            ViewMut::qkv(&mut d_fused, shape.heads, shape.head_dim)
        } else {
            held.each_mut().map(Held::view_mut)
        };
        let gradients = Gradients { query, key, value };
        backward_with(kernels, &inputs, &options, &saved, (d_out.view(), gradients), workspace).expect("fits");
        if fused.is_some() {
            let parts = View::qkv(&d_fused, shape.heads, shape.head_dim);
            for (held, part) in [&mut q, &mut k, &mut v].into_iter().zip(parts) {
                held.fill_from(&part);
            }
            held = [q, k, v];
        }
        let [dq, dk, dv] = held.map(|held| held.packed());
        (Results { out: out.packed(), lse: lse.iter().map(|&x| x as f32).collect(), dq, dk, dv }, lse)
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
fn error<F: Into<f64> + Copy>(found: &[F], exact: &[f64]) -> f64 {
    assert_eq!(found.len(), exact.len());
    let difference = |(&a, &b): (&F, &f64)| if a.into() == b { 0.0 } else { (a.into() - b).abs() };
    // NaN counts as the largest
    found.iter().zip(exact).map(difference).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// Error at most `times` that of the plain formula in f32, plus a floor of a few units in the last place of what the numbers
/// are sums and differences of: of the largest, or of `terms`. (The gradient of a query with one key is 0, as the difference
/// of two equal products of `d_out` and the value.)
#[track_caller]
fn assert_as_good(what: &str, case: &Case, [times, ulps, terms]: [f64; 3], [found, naive]: [&[f32]; 2], exact: &[f64]) {
    let (found, naive) = (error(found, exact), error(naive, exact));
    let largest = exact.iter().filter(|x| x.is_finite()).fold(0.0, |a: f64, b| a.max(b.abs()));
    let allowed = times * naive + ulps * f64::from(f32::EPSILON) * largest.max(terms);
    assert!(found <= allowed, "{what}: error {found:e}, plain f32 {naive:e}, largest {largest:e}, of {case:?}");
}

#[track_caller]
fn assert_all_as_good(case: &Case, found: &Results<f32>, naive: &Results<f32>, exact: &Results<f64>) {
    // d_out · v, a chain of so many additions; the plain formula takes its mean over the keys, the kernels d_out · out, and the
    // two round differently
    let value_dim = case.shape.value_dim as f64;
    let scale = case.scale.map_or(1.0, |scale| f64::from(scale.abs()).max(1.0));
    let products = value_dim.sqrt().max(value_dim / 4.0) * scale;
    // queries whose weight is all on one key
    let crowd = case.lengths.iter().map(|&(q, k)| q as f64 / k.max(1) as f64).fold(1.0, f64::max).sqrt();
    assert_as_good("out", case, [2.0, 4.0, 1.0], [&found.out, &naive.out], &exact.out);
    assert_as_good("lse", case, [2.0, 4.0, 1.0], [&found.lse, &naive.lse], &exact.lse);
    assert_as_good("d_query", case, [3.0, 4.0, products], [&found.dq, &naive.dq], &exact.dq);
    assert_as_good("d_key", case, [3.0, 4.0, products * crowd], [&found.dk, &naive.dk], &exact.dk);
    assert_as_good("d_value", case, [3.0, 4.0, 1.0], [&found.dv, &naive.dv], &exact.dv);
}

/// The results of several draws, end to end.
fn joined<F>(results: impl Iterator<Item = Results<F>>) -> Results<F> {
    let join = |mut a: Results<F>, b: Results<F>| {
        a.out.extend(b.out);
        a.lse.extend(b.lse);
        a.dq.extend(b.dq);
        a.dk.extend(b.dk);
        a.dv.extend(b.dv);
        a
    };
    results.reduce(join).expect("at least one")
}

#[test]
fn every_case_on_every_instruction_set_is_as_exact_as_the_formula() {
    for (seed, case) in cases().iter().enumerate() {
        // Of logits in the thousands, a few rows that two keys compete for make all of the error: look at many.
        let draws = if case.scale.is_some_and(|scale| scale.abs() >= 50.0) { 6 } else { 1 };
        let draws: Vec<Data> = (0..draws).map(|draw| Data::new(case, seed as u64 + 1000 * draw)).collect();
        let exact = joined(draws.iter().map(Data::reference::<f64>));
        let naive = joined(draws.iter().map(Data::reference::<f32>));
        for kernels in instruction_sets() {
            let found = joined(draws.iter().map(|data| data.run(kernels, &mut Workspace::new())));
            assert_all_as_good(case, &found, &naive, &exact);
        }
    }
}

#[test]
fn the_reference_has_the_gradient_of_finite_differences() {
    let shape = Shape { heads: 4, kv_heads: 2, head_dim: 3, value_dim: 2 };
    for mask in
        [Mask::Full, Mask::Causal { offset: -1 }, Mask::Causal { offset: 2 }, Mask::Window { left: 1, right: 2 }]
    {
        let data = Data::new(&case(&[(4, 5), (3, 3)], shape, mask), 7);
        let found = data.reference::<f64>();
        let loss = |q: &[f64], k: &[f64], v: &[f64]| {
            let problem = Problem { q: q.to_vec(), k: k.to_vec(), v: v.to_vec(), ..data.problem::<f64>() };
            dot(&problem.solve(&to_f64(&data.d_out)).out, &data.d_out)
        };
        let (q, k, v) = (to_f64(&data.q), to_f64(&data.k), to_f64(&data.v));
        let close = |found: &[f64], expected: &[f64]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-8), "{found:?} {expected:?}");
        };
        close(&found.dq, &differences(&data.q, |x| loss(x, &k, &v)));
        close(&found.dk, &differences(&data.k, |x| loss(&q, x, &v)));
        close(&found.dv, &differences(&data.v, |x| loss(&q, &k, x)));
    }
}

fn bits(r: &Results<f32>) -> Vec<u32> {
    [&r.out, &r.lse, &r.dq, &r.dk, &r.dv].into_iter().flatten().map(|x| x.to_bits()).collect()
}

#[test]
fn threads_do_not_change_a_bit() {
    let pools = [1, 2, 5].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("a pool"));
    let masks = [
        Mask::Full,
        Mask::Causal { offset: 0 },
        Mask::Causal { offset: -300 },
        Mask::Causal { offset: 500 },
        Mask::Window { left: 100, right: 7 },
        Mask::Window { left: usize::MAX, right: 0 },
        Mask::Window { left: 3, right: usize::MAX },
    ];
    for mask in masks {
        let shape = Shape { heads: 2, kv_heads: 1, head_dim: 16, value_dim: 24 };
        let lengths = [(1100, 1100), (3, 3), (200, 200), (1500, 640), (400, 1900)];
        let data = Data::new(&case(&lengths, shape, mask), 3);
        for kernels in instruction_sets() {
            let [one, two, five] =
                pools.each_ref().map(|pool| pool.install(|| bits(&data.run(kernels, &mut Workspace::new()))));
            assert!(one == two && one == five, "{mask:?}, registers of {}", kernels.lanes);
        }
    }
}

#[test]
fn a_set_has_the_bits_it_has_alone_and_never_sees_another() {
    for mask in [Mask::Full, Mask::Causal { offset: 1 }, Mask::Window { left: 30, right: 30 }] {
        for (length, beside) in [(50, 65), (600, 65), (600, 2000)] {
            let shape = Shape::new(2, 20);
            let mut data = Data::new(&case(&[(33, 33), (length, length), (beside, beside)], shape, mask), 5);
            let rows = data.queries.range(1);
            let (first, end) = (rows.start * 40, rows.end * 40);
            for x in [&mut data.q, &mut data.k, &mut data.v, &mut data.d_out] {
                x[..first].fill(f32::NAN);
                x[end..].fill(f32::INFINITY);
            }
            let cut = |x: &[f32]| x[first..end].to_vec();
            let alone = Data {
                case: case(&[(length, length)], shape, mask),
                queries: Offsets::from_lengths([length]),
                keys: Offsets::from_lengths([length]),
                q: cut(&data.q),
                k: cut(&data.k),
                v: cut(&data.v),
                d_out: cut(&data.d_out),
            };
            for kernels in instruction_sets() {
                let beside = data.run(kernels, &mut Workspace::new());
                let alone = alone.run(kernels, &mut Workspace::new());
                for (a, b) in [(&beside.out, &alone.out), (&beside.dk, &alone.dk), (&beside.dv, &alone.dv)] {
                    assert_eq!(cut(a), *b);
                }
                assert!(error(&cut(&beside.dq), &to_f64(&alone.dq)) < 1e-5);
                assert!(alone.out.iter().chain(&alone.dq).chain(&alone.dk).chain(&alone.dv).all(|x| x.is_finite()));
            }
        }
    }
}

#[test]
fn a_row_that_may_attend_to_nothing_is_zero_with_zero_gradient() {
    let data = Data::new(&case(&[(9, 9)], Shape::new(1, 8), Mask::Causal { offset: -3 }), 1);
    for kernels in instruction_sets() {
        let r = data.run(kernels, &mut Workspace::new());
        assert!(r.out[..24].iter().chain(&r.dq[..24]).all(|&x| x == 0.0));
        assert!(r.lse[..3].iter().all(|&x| x == f32::NEG_INFINITY));
        // nobody sees the last three keys
        assert!(r.dk[48..].iter().chain(&r.dv[48..]).all(|&x| x == 0.0));
        assert!(r.out[24..].iter().chain(&r.dk[..48]).all(|&x| x.is_finite() && x != 0.0));
    }
}

#[test]
fn nan_in_a_query_stays_in_its_row() {
    let mut data = Data::new(&case(&[(100, 100)], Shape::new(1, 16), Mask::Full), 2);
    data.q[40 * 16 + 3] = f32::NAN;
    for kernels in instruction_sets() {
        let r = data.run(kernels, &mut Workspace::new());
        for (row, out) in r.out.chunks(16).enumerate() {
            assert_eq!(out.iter().all(|x| x.is_nan()), row == 40, "row {row}");
            assert_eq!(out.iter().any(|x| x.is_nan()), row == 40, "row {row}");
        }
        assert!(r.lse[40].is_nan());
    }
}

#[test]
fn an_infinite_logit_is_what_the_formula_makes_of_it() {
    // -∞ takes no part, as if it were masked; +∞ is NaN, since ∞ - ∞ is
    let mut data = Data::new(&case(&[(3, 40)], Shape::new(1, 1), Mask::Full), 2);
    data.q.copy_from_slice(&[1.0, -1.0, 0.5]);
    data.k[17] = f32::INFINITY;
    for kernels in instruction_sets() {
        let r = data.run(kernels, &mut Workspace::new());
        assert!(r.out[0].is_nan() && r.out[2].is_nan());
        let (weights, _) = data.problem::<f64>().weights(0, 0, 1);
        let expected: f64 = weights.iter().zip(&data.v).map(|(w, &v)| w * f64::from(v)).sum();
        assert_eq!(weights[17], 0.0);
        assert!((f64::from(r.out[1]) - expected).abs() < 1e-6);
    }
    // nothing but -∞ is a row without a key
    data.k.fill(f32::INFINITY);
    for kernels in instruction_sets() {
        let (r, lse) = data.run_with_lse(kernels, &mut Workspace::new());
        assert_eq!((r.out[1], lse[1]), (0.0, f64::NEG_INFINITY));
        let view = |x| View::new(x, 1, 1);
        let [query, key, value] = [view(&data.q), view(&data.k), view(&data.v)];
        let inputs = Inputs { shape: data.case.shape, query, key, value, queries: &data.queries, keys: &data.keys };
        let mut weights = [f32::NAN; 40];
        let chosen = Chosen { set: 0, heads: &[0], queries: &[1] };
        attention_weights(&inputs, &data.options(), &lse, &chosen, &mut weights).expect("fits");
        assert_eq!(weights, [0.0; 40]);
    }
}

#[test]
fn a_workspace_is_used_again_for_any_shape() {
    let mut workspace = Workspace::new();
    let list = [
        case(&[(700, 700)], Shape::new(2, 64), Mask::Full),
        case(&[(3, 3), (40, 40)], Shape::new(1, 5), Mask::Full),
        case(&[(2000, 2000)], Shape::new(1, 8), Mask::Window { left: 9, right: 9 }),
    ];
    for case in list.iter().chain(&list) {
        let data = Data::new(case, 1);
        for kernels in instruction_sets() {
            assert_eq!(bits(&data.run(kernels, &mut workspace)), bits(&data.run(kernels, &mut Workspace::new())));
        }
    }
}

#[test]
fn weights_are_those_of_the_formula() {
    let shape = Shape { heads: 4, kv_heads: 2, head_dim: 20, value_dim: 3 };
    let data = Data::new(&case(&[(5, 5), (30, 50)], shape, Mask::Window { left: 7, right: 12 }), 4);
    let (_, lse) = data.run_with_lse(Kernels::of(Isa::detect()), &mut Workspace::new());
    let view = |x, heads, dim| View::new(x, heads, dim);
    let inputs = Inputs {
        shape,
        query: view(&data.q, 4, 20),
        key: view(&data.k, 2, 20),
        value: view(&data.v, 2, 3),
        queries: &data.queries,
        keys: &data.keys,
    };
    let chosen = Chosen { set: 1, heads: &[3, 0], queries: &[29, 0, 7] };
    let mut weights = vec![f32::NAN; 2 * 3 * 50];
    attention_weights(&inputs, &data.options(), &lse, &chosen, &mut weights).expect("fits");
    for (row, found) in weights.chunks(50).enumerate() {
        let (head, i) = (chosen.heads[row / 3], chosen.queries[row % 3]);
        let (expected, _) = data.problem::<f64>().weights(1, head, i);
        let mut whole = vec![0.0; 50];
        whole[data.case.mask.row(i, 50)].copy_from_slice(&expected);
        assert!(error(found, &whole) < 1e-6);
        assert!((found.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    let bad = |chosen: Chosen<'_>, len: usize| {
        attention_weights(&inputs, &data.options(), &lse, &chosen, &mut vec![0.0; len])
            .expect_err("does not fit")
            .to_string()
    };
    assert!(bad(Chosen { set: 2, ..chosen }, 300).contains("set 2 was chosen, but there are 2"));
    assert!(bad(Chosen { heads: &[4], ..chosen }, 150).contains("head 4 was chosen"));
    assert!(bad(Chosen { queries: &[30], ..chosen }, 100).contains("query 30 was chosen"));
    assert!(bad(chosen, 299).contains("[2, 3, 50] weights, found 299"));
}

#[test]
fn merged_halves_are_the_whole() {
    let shape = Shape::new(2, 16);
    let whole = Data::new(&case(&[(30, 90)], shape, Mask::Full), 6);
    let kernels = Kernels::of(Isa::detect());
    for split in [0, 1, 40, 90] {
        let half = |from: usize, to: usize| {
            let cut = |x: &[f32]| x[from * 32..to * 32].to_vec();
            let data = Data {
                case: case(&[(30, to - from)], shape, Mask::Full),
                queries: whole.queries.clone(),
                keys: Offsets::from_lengths([to - from]),
                q: whole.q.clone(),
                k: cut(&whole.k),
                v: cut(&whole.v),
                d_out: whole.d_out.clone(),
            };
            data.run_with_lse(kernels, &mut Workspace::new())
        };
        let (a, b, all) = (half(0, split), half(split, 90), half(0, 90));
        let [a, b] = [&a, &b].map(|(r, lse)| Saved { out: View::new(&r.out, 2, 16), lse });
        let (mut out, mut lse) = (vec![f32::NAN; 30 * 32], vec![f64::NAN; 60]);
        merge(&a, &b, [30, 2, 16], ViewMut::new(&mut out, 2, 16), &mut lse).expect("fits");
        assert!(error(&out, &to_f64(&all.0.out)) < 1e-6 && error(&lse, &all.1) < 1e-6);
    }
}

#[test]
fn merging_two_that_saw_nothing_leaves_nothing() {
    let (out, lse) = ([0.0; 4], [f64::NEG_INFINITY]);
    let saved = Saved { out: View::new(&out, 1, 4), lse: &lse };
    let (mut both, mut both_lse) = ([f32::NAN; 4], [f64::NAN]);
    merge(&saved, &saved, [1, 1, 4], ViewMut::new(&mut both, 1, 4), &mut both_lse).expect("fits");
    assert_eq!((both, both_lse), ([0.0; 4], [f64::NEG_INFINITY]));
    // but NaN is not nothing
    let nan = Saved { lse: &[f64::NAN], ..saved };
    for (a, b) in [(&saved, &nan), (&nan, &saved)] {
        merge(a, b, [1, 1, 4], ViewMut::new(&mut both, 1, 4), &mut both_lse).expect("fits");
        assert!(both_lse[0].is_nan() && both[0].is_nan());
    }
}

#[test]
fn self_attention_without_parameters() {
    let x = numbers(60 * 5, 9);
    let y = self_attention(&x, 5).expect("whole vectors");
    let row = |i: usize| &x[i * 5..][..5];
    for i in 0..60 {
        let logits: Vec<f64> =
            (0..60).map(|j| row(i).iter().zip(row(j)).map(|(a, b)| f64::from(a * b)).sum()).collect();
        let largest = logits.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = logits.iter().map(|x| (x - largest).exp()).sum();
        for c in 0..5 {
            let mean: f64 = (0..60).map(|j| (logits[j] - largest).exp() / sum * f64::from(row(j)[c])).sum();
            assert!((f64::from(y[i * 5 + c]) - mean).abs() < 1e-5);
        }
    }
    assert_eq!(self_attention(&[], 5), Ok(vec![]));
    assert!(
        self_attention(&x, 7)
            .expect_err("300 is no multiple of 7")
            .to_string()
            .contains("multiple of 7 numbers, found 300")
    );
    assert!(self_attention(&x, 0).is_err());
}

#[test]
fn what_does_not_fit_together_is_refused_by_name() {
    let data = numbers(4000, 1);
    let (three, four) = (Offsets::from_lengths([3, 4]), Offsets::from_lengths([7]));
    let shape = Shape::new(2, 8);
    let view = View::new(&data, 2, 8);
    let good = Inputs { shape, query: view, key: view, value: view, queries: &three, keys: &three };
    let short = View::new(&data[..7 * 16 - 1], 2, 8);
    let call = |inputs: &Inputs<'_>, out: usize, strides: [usize; 2], lse: usize| {
        let (mut out, mut lse) = (vec![0.0; out], vec![0.0; lse]);
        let out = ViewMut::strided(&mut out, strides[0], strides[1]);
        attention_forward(inputs, &Options::default(), out, &mut lse, &mut Workspace::new())
    };
    let refused =
        |inputs: &Inputs<'_>, out, strides, lse| call(inputs, out, strides, lse).expect_err("refused").to_string();
    assert_eq!(call(&good, 112, [16, 8], 14), Ok(()));
    let with = |shape| Inputs { shape, ..good };
    for (inputs, wanted) in [
        (with(Shape { heads: 3, ..shape }), "multiple of kv_heads, both at least 1, found 3 and 2"),
        (with(Shape { kv_heads: 0, ..shape }), "found 2 and 0"),
        (with(Shape { heads: 0, ..shape }), "found 0 and 2"),
        (with(Shape { head_dim: 0, ..shape }), "at least 1, found 0 and 8"),
        (with(Shape { value_dim: 0, ..shape }), "found 8 and 0"),
        (Inputs { keys: &four, ..good }, "as many sets of keys as of queries, found 1 and 2"),
        (Inputs { query: short, ..good }, "query [7, 2, 8] with strides 16 and 8 needs 112 numbers, found 111"),
        (Inputs { key: short, ..good }, "key [7, 2, 8]"),
        (Inputs { value: short, ..good }, "value [7, 2, 8]"),
        (Inputs { value: View::strided(&data, usize::MAX, 8), ..good }, "value [7, 2, 8]"),
    ] {
        let message = refused(&inputs, 112, [16, 8], 14);
        assert!(message.contains(wanted), "{message}");
    }
    assert!(refused(&good, 111, [16, 8], 14).contains("out [7, 2, 8] with strides 16 and 8 needs 112"));
    assert!(refused(&good, 999, [15, 8], 14).contains("rows of out overlap: width 8, strides 15 and 8"));
    assert!(refused(&good, 999, [8, 55], 14).contains("overlap"));
    assert!(refused(&good, 112, [16, 8], 13).contains("[2, 7] log-sum-exps, found 13"));
    // a part of a fused buffer is not wider than it says
    let mut fused = vec![0.0; 7 * 48];
    let [out, ..] = ViewMut::qkv(&mut fused, 2, 8);
    assert_eq!(attention_forward(&good, &Options::default(), out, &mut [0.0; 14], &mut Workspace::new()), Ok(()));
    let [out, ..] = ViewMut::qkv(&mut fused, 2, 8);
    let wide = Inputs {
        shape: Shape { heads: 2, kv_heads: 2, head_dim: 8, value_dim: 10 },
        value: View::new(&data, 2, 10),
        ..good
    };
    assert!(attention_forward(&wide, &Options::default(), out, &mut [0.0; 14], &mut Workspace::new()).is_err());
    let plain = Options::default();
    for (options, wanted) in [
        (Options { score: Score::Additive, ..plain }, "the additive score"),
        (Options { normalizer: Normalizer::Relu, ..plain }, "a normaliser other than the softmax"),
        (Options { bias: Bias::Alibi { slopes: &[0.5, 0.25] }, ..plain }, "the bias by slopes"),
        (Options { bias: Bias::Dense { values: &[] }, ..plain }, "a dense bias"),
        (Options { dropout: Some(Dropout { rate: 0.1, key: Key::new(1) }), ..plain }, "dropout"),
    ] {
        let mut out = vec![0.0; 112];
        let to = ViewMut::new(&mut out, 2, 8);
        let error = attention_forward(&good, &options, to, &mut [0.0; 14], &mut Workspace::new());
        assert!(error.expect_err("not fused").to_string().contains(&format!("do not have {wanted}")));
    }
    // rows that are one and the same in memory, more than can be counted: nothing may be sized by them
    let (one, many) = (Offsets::from_lengths([1]), Offsets::from_lengths([1 << 60]));
    let same = View::strided(&data, 0, 0);
    let mask = Mask::Causal { offset: 5000 };
    let huge = Inputs { shape: Shape::new(1, 16), query: same, key: same, value: same, queries: &one, keys: &many };
    let mut out = vec![0.0; 16];
    let to = ViewMut::new(&mut out, 1, 16);
    let error = attention_forward(&huge, &Options { mask, ..plain }, to, &mut [0.0], &mut Workspace::new());
    assert!(matches!(error, Err(AttentionError::TooLarge { .. })), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn any_shape_and_mask(
        lengths in prop::collection::vec((0_usize..150, 0_usize..150), 0..4),
        long in 0_usize..900,
        (kv_heads, group) in (1_usize..3, 1_usize..3),
        (head_dim, value_dim) in (1_usize..40, 1_usize..40),
        mask in prop_oneof![
            Just(Mask::Full),
            (-60_isize..60).prop_map(|offset| Mask::Causal { offset }),
            (0_usize..100, 0_usize..100).prop_map(|(left, right)| Mask::Window { left, right }),
        ],
        seed in 0_u64..1000,
    ) {
        let mut lengths = lengths;
        if long > 600 {
            lengths.push((long / 3, long));
        }
        let shape = Shape { heads: kv_heads * group, kv_heads, head_dim, value_dim };
        let memory = [Memory::Packed, Memory::ByHead, Memory::Gaps][Key::new(seed).bits(0) as usize % 3];
        let case = Case { memory, ..case(&lengths, shape, mask) };
        let data = Data::new(&case, seed);
        let (exact, naive) = (data.reference::<f64>(), data.reference::<f32>());
        for kernels in instruction_sets() {
            assert_all_as_good(&case, &data.run(kernels, &mut Workspace::new()), &naive, &exact);
        }
    }
}
