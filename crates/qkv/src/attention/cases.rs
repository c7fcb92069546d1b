//! The one list of cases that every instruction set is tested with.

use super::Shape;
use crate::options::Mask;

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

#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Queries and keys of each set.
    pub(crate) lengths: Vec<(usize, usize)>,
    pub(crate) shape: Shape,
    pub(crate) mask: Mask,
    pub(crate) scale: Option<f32>,
    pub(crate) memory: Memory,
}

pub(crate) fn case(lengths: &[(usize, usize)], shape: Shape, mask: Mask) -> Case {
    Case { lengths: lengths.to_vec(), shape, mask, scale: None, memory: Memory::Packed }
}

fn grouped(heads: usize, kv_heads: usize, head_dim: usize, value_dim: usize) -> Shape {
    Shape { heads, kv_heads, head_dim, value_dim }
}

const CAUSAL: Mask = Mask::Causal { offset: 0 };

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
