//! A second call of attention with the same workspace allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use qkv::attention::{
    Gradients, Inputs, Saved, Shape, View, ViewMut, Workspace, attention_backward, attention_forward,
};
use qkv::options::{Bias, Buckets, Dropout, Mask, Normalizer, Options};
use qkv::{Csr, Key, Offsets};

/// Counts what any thread asks of it.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let key = Key::new(seed);
    (0..count as u64).map(|n| key.normal(n)).collect()
}

// One test, so that no other runs beside it and is counted.
#[test]
fn a_second_call_allocates_nothing() {
    let shape = Shape { heads: 4, kv_heads: 2, head_dim: 20, value_dim: 24 };
    let sets = Offsets::from_lengths([3, 700, 0, 60, 1200, 1]);
    let tokens = sets.tokens();
    let (q, k, v) = (numbers(tokens * 4 * 20, 1), numbers(tokens * 2 * 20, 2), numbers(tokens * 2 * 24, 3));
    let d_out = numbers(tokens * 4 * 24, 4);
    let inputs = Inputs {
        shape,
        query: View::new(&q, 4, 20),
        key: View::new(&k, 2, 20),
        value: View::new(&v, 2, 24),
        queries: &sets,
        keys: &sets,
    };
    let (mut out, mut lse) = (vec![0.0; d_out.len()], vec![0.0; 4 * tokens]);
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let mut d_bias = vec![0.0; 1 << 20];
    let plain = Options::default();
    let graph = |near: fn(usize, usize) -> bool| {
        let rows = (0..sets.sets()).flat_map(|set| sets.range(set).map(move |i| (i, set)));
        let edges: Vec<_> =
            rows.flat_map(|(i, set)| sets.range(set).filter(move |&j| near(i, j)).map(move |j| (i, j))).collect();
        Csr::from_edges(tokens, &edges).expect("well formed")
    };
    let (sparse, dense) = (graph(|i, j| (i * 7 + j * 13) % 101 == 0), graph(|i, j| i / 200 == j / 200));
    let (slopes, table, by_edge) = (numbers(4, 5), numbers(4 * 21, 6), numbers(4 * sparse.edges(), 7));
    let places: Vec<[i32; 2]> = (0..tokens as i32).map(|t| [t / 30, t % 30]).collect();
    let grid = Buckets::Grid { queries: &places, keys: &places, reach: [1, 3] };
    let relative = Buckets::Relative { reach: 10, offset: 0 };
    let alibi = Bias::Alibi { slopes: &slopes, offset: 0 };
    let with_table = |buckets| Options { bias: Bias::Buckets { table: &table, buckets }, ..plain };
    let all = [
        plain,
        Options { mask: Mask::Causal { offset: 0 }, ..plain },
        Options { mask: Mask::Window { left: 50, right: 9 }, ..plain },
        Options { mask: Mask::Graph(&sparse), bias: Bias::Edges { values: &by_edge }, ..plain },
        Options { mask: Mask::Graph(&dense), bias: alibi, ..plain },
        Options { normalizer: Normalizer::Sigmoid, dropout: Some(Dropout { rate: 0.1, key: Key::new(1) }), ..plain },
        with_table(relative),
        with_table(grid),
        Options { mask: Mask::Graph(&sparse), ..with_table(grid) },
    ];
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            for options in &all {
                let numbers = match options.bias {
                    Bias::Alibi { .. } => 4,
                    Bias::Buckets { table, .. } => table.len(),
                    Bias::Edges { values } => values.len(),
                    _ => 0,
                };
                let mut workspace = Workspace::new();
                let mut call = || {
                    let before = ALLOCATIONS.load(Ordering::Relaxed);
                    let to = ViewMut::new(&mut out, 4, 24);
                    attention_forward(&inputs, options, to, &mut lse, &mut workspace).expect("fits");
                    let saved = Saved { out: View::new(&out, 4, 24), lse: &lse, kept: &[] };
                    let mut gradients = Gradients::new(
                        ViewMut::new(&mut dq, 4, 20),
                        ViewMut::new(&mut dk, 2, 20),
                        ViewMut::new(&mut dv, 2, 24),
                    );
                    gradients.bias = (numbers > 0).then(|| &mut d_bias[..numbers]);
                    let d_out = View::new(&d_out, 4, 24);
                    attention_backward(&inputs, options, &saved, d_out, gradients, &mut workspace).expect("fits");
                    ALLOCATIONS.load(Ordering::Relaxed) - before
                };
                assert!(call() > 0, "the first call has to get its memory from somewhere");
                assert_eq!(call(), 0, "{options:?} with {threads} threads");
            }
        });
    }
}
