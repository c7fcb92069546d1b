//! A second call of attention with the same workspace allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use qkv::attention::{
    Gradients, Inputs, Saved, Shape, View, ViewMut, Workspace, attention_backward, attention_forward,
};
use qkv::options::{Mask, Options};
use qkv::{Key, Offsets};

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
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            for mask in [Mask::Full, Mask::Causal { offset: 0 }, Mask::Window { left: 50, right: 9 }] {
                let options = Options { mask, ..Options::default() };
                let mut workspace = Workspace::new();
                let mut call = || {
                    let before = ALLOCATIONS.load(Ordering::Relaxed);
                    let to = ViewMut::new(&mut out, 4, 24);
                    attention_forward(&inputs, &options, to, &mut lse, &mut workspace).expect("fits");
                    let saved = Saved { out: View::new(&out, 4, 24), lse: &lse };
                    let gradients = Gradients::new(
                        ViewMut::new(&mut dq, 4, 20),
                        ViewMut::new(&mut dk, 2, 20),
                        ViewMut::new(&mut dv, 2, 24),
                    );
                    let d_out = View::new(&d_out, 4, 24);
                    attention_backward(&inputs, &options, &saved, d_out, gradients, &mut workspace).expect("fits");
                    ALLOCATIONS.load(Ordering::Relaxed) - before
                };
                assert!(call() > 0, "the first call has to get its memory from somewhere");
                assert_eq!(call(), 0, "{mask:?} with {threads} threads");
            }
        });
    }
}
