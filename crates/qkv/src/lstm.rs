//! A packed LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000), the input product hoisted
//! out: `gates_x = x · w_x + b` is one matrix product over all tokens, done by the caller.
//!
//! Columns of the gates, `hidden` each: **i**nput, **f**orget, cell candidate **g**, **o**utput. The state starts as zeros.
//!
//! ```text
//! forward, t ascending (descending if `reverse`)
//!     z = gates_x[t] + h[t-1] · w_h
//!     i, f, o = sigmoid(z_i, z_f, z_o);  g = tanh(z_g)
//!     c[t] = f c[t-1] + i g;  h[t] = o tanh(c[t])
//! backward, t the other way
//!     d_h = d_out[t] + d_z[t+1] · w_hᵀ;  d_c = d_c' + d_h o (1 - tanh² c[t])
//!     d_z = (d_c g i(1-i), d_c c[t-1] f(1-f), d_c i (1-g²), d_h tanh(c[t]) o(1-o));  d_c' = d_c f
//!     d_gates_x[t] = d_z;   d_w_h = Σ_t h[t-1]ᵀ · d_z
//! ```
//!
//! Departures. Sets are sorted by length and taken `GROUP` at a time, so that one pass over `w_h` serves all sets of a
//! group that are still running; groups run side by side. The recurrent product is our own (`tile.rs`): each of its
//! numbers is one chain of additions over the inner index, so that a set has the same bits whatever stands beside it.
//! `d_w_h` is one matrix product over all tokens at the end.

use crate::blocks;
use crate::isa::{Target, isa_dispatch};
use crate::math::{sigmoid, tanh};
use crate::matmul::{Layout, matmul};
use crate::offsets::Offsets;
use crate::tile::{PackedRight, multiply};

/// Sets that step together: the rows of one AVX-512 register tile. More would share `w_h` further, but leave cores idle
/// in small batches.
const GROUP: usize = 8;

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct LstmSaved {
    /// i, f, g, o after their functions, `[tokens, 4 * hidden]`.
    pub gates: Vec<f32>,
    /// c, `[tokens, hidden]`.
    pub cell: Vec<f32>,
}

impl LstmSaved {
    /// Room for a batch, as zeros.
    pub fn new(tokens: usize, hidden: usize) -> Self {
        Self { gates: vec![0.0; tokens * 4 * hidden], cell: vec![0.0; tokens * hidden] }
    }
}

/// The hidden state of every token, `out` `[tokens, hidden]`, from `gates_x` `[tokens, 4 * hidden]` (input product and
/// bias) and `w_h` `[hidden, 4 * hidden]`. Each set is run from its first token to its last, or from last to first if
/// `reverse`. The bits of a set do not depend on the rest of the batch.
///
/// # Panics
///
/// If a slice has another length than its shape.
pub fn lstm_forward(
    gates_x: &[f32],
    w_h: &[f32],
    hidden: usize,
    offsets: &Offsets,
    reverse: bool,
    out: &mut [f32],
    saved: &mut LstmSaved,
) {
    let tokens = offsets.tokens();
    check("gates_x", gates_x.len(), tokens, 4 * hidden);
    check("w_h", w_h.len(), hidden, 4 * hidden);
    check("out", out.len(), tokens, hidden);
    check("saved.gates", saved.gates.len(), tokens, 4 * hidden);
    check("saved.cell", saved.cell.len(), tokens, hidden);
    if out.is_empty() {
        return;
    }
    let w_h = PackedRight::new(w_h, Layout::Normal, hidden, 4 * hidden);
    let rows = split(gates_x, offsets, 4 * hidden).into_iter().zip(split_mut(&mut saved.gates, offsets, 4 * hidden));
    let rows = rows.zip(split_mut(&mut saved.cell, offsets, hidden)).zip(split_mut(out, offsets, hidden));
    let sets = rows.map(|(((gates_x, gates), cell), out)| ForwardSet { gates_x, gates, cell, out }).collect();
    let groups = groups_by_length(sets, offsets);
    blocks::for_each(tokens * 4 * hidden * hidden, groups.into_iter(), |group| {
        forward_group(group, &w_h, hidden, reverse)
    });
}

fn check(name: &str, found: usize, rows: usize, columns: usize) {
    assert_eq!(found, rows * columns, "lstm: {name} has {found} numbers, expected [{rows}, {columns}]");
}

/// The rows of one set.
struct ForwardSet<'a> {
    gates_x: &'a [f32],
    gates: &'a mut [f32],
    cell: &'a mut [f32],
    out: &'a mut [f32],
}

fn split<'a>(mut rows: &'a [f32], offsets: &Offsets, dim: usize) -> Vec<&'a [f32]> {
    let take = |length| {
        let (set, rest) = rows.split_at(length * dim);
        rows = rest;
        set
    };
    offsets.lengths().map(take).collect()
}

fn split_mut<'a>(mut rows: &'a mut [f32], offsets: &Offsets, dim: usize) -> Vec<&'a mut [f32]> {
    let take = |length| {
        let (set, rest) = std::mem::take(&mut rows).split_at_mut(length * dim);
        rows = rest;
        set
    };
    offsets.lengths().map(take).collect()
}

/// The sets and their lengths, longest first, [`GROUP`] at a time; empty sets are left out.
fn groups_by_length<S>(sets: Vec<S>, offsets: &Offsets) -> Vec<Vec<(usize, S)>> {
    let mut sets: Vec<(usize, S)> = offsets.lengths().zip(sets).filter(|(length, _)| *length > 0).collect();
    sets.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    let mut groups = Vec::with_capacity(sets.len().div_ceil(GROUP));
    let mut sets = sets.into_iter().peekable();
    while sets.peek().is_some() {
        groups.push(sets.by_ref().take(GROUP).collect());
    }
    groups
}

/// The row of a set at a step.
fn row_at(step: usize, length: usize, reverse: bool) -> usize {
    if reverse { length - 1 - step } else { step }
}

fn forward_group(mut sets: Vec<(usize, ForwardSet<'_>)>, w_h: &PackedRight, hidden: usize, reverse: bool) {
    let longest = sets[0].0;
    let mut h = vec![0.0; sets.len() * hidden];
    let mut c = vec![0.0; sets.len() * hidden];
    let mut z = vec![0.0; sets.len() * 4 * hidden];
    let mut running = sets.len();
    for step in 0..longest {
        while sets[running - 1].0 <= step {
            running -= 1;
        }
        // h is zero before the first step, and so is the product
        if step > 0 {
            multiply(&h[..running * hidden], w_h, &mut z[..running * 4 * hidden]);
        }
        let states = h.chunks_exact_mut(hidden).zip(c.chunks_exact_mut(hidden)).zip(z.chunks_exact(4 * hidden));
        for ((length, set), ((h, c), z)) in sets[..running].iter_mut().zip(states) {
            let row = row_at(step, *length, reverse);
            let gates = &mut set.gates[row * 4 * hidden..][..4 * hidden];
            step_forward(&set.gates_x[row * 4 * hidden..][..4 * hidden], z, gates, c, h);
            set.cell[row * hidden..][..hidden].copy_from_slice(c);
            set.out[row * hidden..][..hidden].copy_from_slice(h);
        }
    }
}

/// One step of one set: `gates` is written, `c` and `h` go from the last step to this one.
#[inline(always)]
fn step_forward_body<T: Target>(x: &[f32], z: &[f32], gates: &mut [f32], c: &mut [f32], h: &mut [f32]) {
    let hidden = h.len();
    for (k, ((gate, x), z)) in
        gates.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)).zip(z.chunks_exact(hidden)).enumerate()
    {
        if k == 2 {
            gate.iter_mut().zip(x).zip(z).for_each(|((gate, x), z)| *gate = tanh::<T>(x + z));
        } else {
            gate.iter_mut().zip(x).zip(z).for_each(|((gate, x), z)| *gate = sigmoid::<T>(x + z));
        }
    }
    let (i, f, g, o) = quarters(gates);
    for (((h, c), (i, f)), (g, o)) in h.iter_mut().zip(c).zip(i.iter().zip(f)).zip(g.iter().zip(o)) {
        *c = T::mul_add(*f, *c, i * g);
        *h = o * tanh::<T>(*c);
    }
}
isa_dispatch!(fn step_forward(x: &[f32], z: &[f32], gates: &mut [f32], c: &mut [f32], h: &mut [f32]) = step_forward_body);

#[inline(always)]
fn quarters(gates: &[f32]) -> (&[f32], &[f32], &[f32], &[f32]) {
    let ((i, f), (g, o)) = {
        let (left, right) = gates.split_at(gates.len() / 2);
        (left.split_at(left.len() / 2), right.split_at(right.len() / 2))
    };
    (i, f, g, o)
}

/// The gradients of [`lstm_forward`]: `d_gates_x` `[tokens, 4 * hidden]` and `d_w_h` `[hidden, 4 * hidden]`, both
/// overwritten. `out` and `saved` are what the forward pass left.
///
/// # Panics
///
/// If a slice has another length than its shape.
#[allow(clippy::too_many_arguments, reason = "the parameters of the forward pass, in their order")]
pub fn lstm_backward(
    d_out: &[f32],
    w_h: &[f32],
    hidden: usize,
    offsets: &Offsets,
    reverse: bool,
    out: &[f32],
    saved: &LstmSaved,
    d_gates_x: &mut [f32],
    d_w_h: &mut [f32],
) {
    let tokens = offsets.tokens();
    check("d_out", d_out.len(), tokens, hidden);
    check("w_h", w_h.len(), hidden, 4 * hidden);
    check("out", out.len(), tokens, hidden);
    check("saved.gates", saved.gates.len(), tokens, 4 * hidden);
    check("saved.cell", saved.cell.len(), tokens, hidden);
    check("d_gates_x", d_gates_x.len(), tokens, 4 * hidden);
    check("d_w_h", d_w_h.len(), hidden, 4 * hidden);
    if out.is_empty() {
        d_w_h.fill(0.0);
        return;
    }
    let w_h_transposed = PackedRight::new(w_h, Layout::Transposed, 4 * hidden, hidden);
    let rows = split(d_out, offsets, hidden).into_iter().zip(split(&saved.gates, offsets, 4 * hidden));
    let rows = rows.zip(split(&saved.cell, offsets, hidden)).zip(split_mut(d_gates_x, offsets, 4 * hidden));
    let sets = rows.map(|(((d_out, gates), cell), d_z)| BackwardSet { d_out, gates, cell, d_z }).collect();
    let groups = groups_by_length(sets, offsets);
    blocks::for_each(tokens * 4 * hidden * hidden, groups.into_iter(), |group| {
        backward_group(group, &w_h_transposed, hidden, reverse);
    });
    // undoes `h[t-1] · w_h` towards w_h
    let h_before = states_before(out, hidden, offsets, reverse);
    matmul(&h_before, Layout::Transposed, d_gates_x, Layout::Normal, d_w_h, hidden, tokens, 4 * hidden);
}

/// h[t-1] for every token.
fn states_before(out: &[f32], hidden: usize, offsets: &Offsets, reverse: bool) -> Vec<f32> {
    let mut before = vec![0.0; out.len()];
    for set in (0..offsets.sets()).filter(|set| offsets.len_of(*set) > 0) {
        let (first, last) = (offsets.range(set).start * hidden, (offsets.range(set).end - 1) * hidden);
        if reverse {
            before[first..last].copy_from_slice(&out[first + hidden..last + hidden]);
        } else {
            before[first + hidden..last + hidden].copy_from_slice(&out[first..last]);
        }
    }
    before
}

struct BackwardSet<'a> {
    d_out: &'a [f32],
    gates: &'a [f32],
    cell: &'a [f32],
    d_z: &'a mut [f32],
}

fn backward_group(mut sets: Vec<(usize, BackwardSet<'_>)>, w_h: &PackedRight, hidden: usize, reverse: bool) {
    let longest = sets[0].0;
    let zeros = vec![0.0; hidden];
    let mut d_h = vec![0.0; sets.len() * hidden];
    let mut d_c = vec![0.0; sets.len() * hidden];
    let mut d_z = vec![0.0; sets.len() * 4 * hidden];
    let mut running = 0;
    for step in (0..longest).rev() {
        while running < sets.len() && sets[running].0 > step {
            running += 1;
        }
        let states = d_h.chunks_exact(hidden).zip(d_c.chunks_exact_mut(hidden)).zip(d_z.chunks_exact_mut(4 * hidden));
        for ((length, set), ((d_h, d_c), d_z)) in sets[..running].iter_mut().zip(states) {
            let row = row_at(step, *length, reverse);
            let cell_before =
                if step == 0 { &zeros } else { &set.cell[row_at(step - 1, *length, reverse) * hidden..][..hidden] };
            let (gates, cell) = (&set.gates[row * 4 * hidden..][..4 * hidden], &set.cell[row * hidden..][..hidden]);
            step_backward(&set.d_out[row * hidden..][..hidden], d_h, gates, cell, cell_before, d_c, d_z);
            set.d_z[row * 4 * hidden..][..4 * hidden].copy_from_slice(d_z);
        }
        // undoes `h[t-1] · w_h` towards h
        if step > 0 {
            multiply(&d_z[..running * 4 * hidden], w_h, &mut d_h[..running * hidden]);
        }
    }
}

/// One step of one set: `d_z` is written, `d_c` goes from this step to the one before.
#[inline(always)]
fn step_backward_body<T: Target>(
    d_out: &[f32],
    d_h: &[f32],
    gates: &[f32],
    cell: &[f32],
    cell_before: &[f32],
    d_c: &mut [f32],
    d_z: &mut [f32],
) {
    let hidden = d_c.len();
    let (i, f, g, o) = quarters(gates);
    let (left, right) = d_z.split_at_mut(2 * hidden);
    let ((d_i, d_f), (d_g, d_o)) = (left.split_at_mut(hidden), right.split_at_mut(hidden));
    // one length, said once, so that the loop below needs no further checks
    let (d_out, d_h, cell, cell_before) = (&d_out[..hidden], &d_h[..hidden], &cell[..hidden], &cell_before[..hidden]);
    let (i, f, g, o) = (&i[..hidden], &f[..hidden], &g[..hidden], &o[..hidden]);
    let (d_i, d_f, d_g, d_o) = (&mut d_i[..hidden], &mut d_f[..hidden], &mut d_g[..hidden], &mut d_o[..hidden]);
    for n in 0..hidden {
        // undoes `h = o tanh(c)`
        let d_h = d_out[n] + d_h[n];
        let y = tanh::<T>(cell[n]);
        let d_cell = T::mul_add(d_h * o[n], 1.0 - y * y, d_c[n]);
        d_o[n] = d_h * y * o[n] * (1.0 - o[n]);
        // undoes `c = f c' + i g`, then the functions of the gates
        d_i[n] = d_cell * g[n] * i[n] * (1.0 - i[n]);
        d_f[n] = d_cell * cell_before[n] * f[n] * (1.0 - f[n]);
        d_g[n] = d_cell * i[n] * (1.0 - g[n] * g[n]);
        d_c[n] = d_cell * f[n];
    }
}
isa_dispatch!(fn step_backward(
    d_out: &[f32], d_h: &[f32], gates: &[f32], cell: &[f32], cell_before: &[f32], d_c: &mut [f32], d_z: &mut [f32],
) = step_backward_body);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, differences, dot, numbers, same_bits_with_any_threads, to_f64};
    use proptest::prelude::*;

    fn reference(gates_x: &[f64], w_h: &[f64], hidden: usize, offsets: &Offsets, reverse: bool) -> Vec<f64> {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut out = vec![0.0; offsets.tokens() * hidden];
        for set in 0..offsets.sets() {
            let (mut h, mut c) = (vec![0.0; hidden], vec![0.0; hidden]);
            let mut rows: Vec<usize> = offsets.range(set).collect();
            if reverse {
                rows.reverse();
            }
            for row in rows {
                let z = |column: usize| {
                    let product: f64 = (0..hidden).map(|k| h[k] * w_h[k * 4 * hidden + column]).sum();
                    gates_x[row * 4 * hidden + column] + product
                };
                let z: Vec<f64> = (0..4 * hidden).map(z).collect();
                for n in 0..hidden {
                    c[n] = sigmoid(z[hidden + n]) * c[n] + sigmoid(z[n]) * z[2 * hidden + n].tanh();
                    h[n] = sigmoid(z[3 * hidden + n]) * c[n].tanh();
                }
                out[row * hidden..][..hidden].copy_from_slice(&h);
            }
        }
        out
    }

    /// `out`, `d_gates_x`, `d_w_h`
    fn ours(gates_x: &[f32], w_h: &[f32], d_out: &[f32], offsets: &Offsets, reverse: bool) -> [Vec<f32>; 3] {
        let (tokens, hidden) = (offsets.tokens(), (w_h.len() / 4).isqrt());
        let mut saved = LstmSaved { gates: vec![f32::NAN; tokens * 4 * hidden], cell: vec![f32::NAN; tokens * hidden] };
        let [mut out, mut d_gates_x, mut d_w_h] =
            [tokens * hidden, tokens * 4 * hidden, w_h.len()].map(|n| vec![f32::NAN; n]);
        lstm_forward(gates_x, w_h, hidden, offsets, reverse, &mut out, &mut saved);
        lstm_backward(d_out, w_h, hidden, offsets, reverse, &out, &saved, &mut d_gates_x, &mut d_w_h);
        [out, d_gates_x, d_w_h]
    }

    fn weights(hidden: usize) -> Vec<f32> {
        numbers(4 * hidden * hidden, 9).iter().map(|w| w / (hidden as f32).sqrt()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn forward_and_backward_equal_the_reference(
            lengths in prop::collection::vec(0_usize..5, 0..12), hidden in prop::sample::select(&[0_usize, 1, 2, 5][..]), reverse: bool,
        ) {
            let offsets = Offsets::from_lengths(lengths);
            let (gates_x, w_h) = (numbers(offsets.tokens() * 4 * hidden, 1), weights(hidden));
            let d_out = numbers(offsets.tokens() * hidden, 2);
            let [out, d_gates_x, d_w_h] = ours(&gates_x, &w_h, &d_out, &offsets, reverse);
            let (gates_64, w_64) = (to_f64(&gates_x), to_f64(&w_h));
            assert_close(&out, &reference(&gates_64, &w_64, hidden, &offsets, reverse), 1e-6);
            let from_gates = differences(&gates_x, |gates_x| dot(&reference(gates_x, &w_64, hidden, &offsets, reverse), &d_out));
            assert_close(&d_gates_x, &from_gates, 3e-6);
            let from_w = differences(&w_h, |w_h| dot(&reference(&gates_64, w_h, hidden, &offsets, reverse), &d_out));
            assert_close(&d_w_h, &from_w, 1e-5);
        }
    }

    #[test]
    fn a_wide_state_equals_the_reference() {
        let (hidden, offsets) = (113, Offsets::from_lengths([3, 59, 0, 1, 7, 20, 20, 2, 5, 6, 7]));
        let (gates_x, w_h) = (numbers(offsets.tokens() * 4 * hidden, 1), weights(hidden));
        for reverse in [false, true] {
            let [out, ..] = ours(&gates_x, &w_h, &vec![0.0; offsets.tokens() * hidden], &offsets, reverse);
            assert_close(&out, &reference(&to_f64(&gates_x), &to_f64(&w_h), hidden, &offsets, reverse), 3e-6);
        }
    }

    #[test]
    fn a_set_alone_has_the_same_bits_as_in_a_batch() {
        let offsets = Offsets::from_lengths([5, 59, 0, 1, 17, 33, 33, 33, 2, 8, 9, 10, 11, 40, 21]);
        for (hidden, reverse) in [(59, false), (64, true)] {
            let (gates_x, w_h) = (numbers(offsets.tokens() * 4 * hidden, 1), weights(hidden));
            let d_out = numbers(offsets.tokens() * hidden, 2);
            let [out, d_gates_x, _] = ours(&gates_x, &w_h, &d_out, &offsets, reverse);
            for set in 0..offsets.sets() {
                let range = offsets.range(set);
                let (wide, narrow) =
                    (range.start * 4 * hidden..range.end * 4 * hidden, range.start * hidden..range.end * hidden);
                let alone = Offsets::from_lengths([range.len()]);
                let [own, d_own, _] = ours(&gates_x[wide.clone()], &w_h, &d_out[narrow.clone()], &alone, reverse);
                assert!(own.iter().zip(&out[narrow]).all(|(a, b)| a.to_bits() == b.to_bits()), "set {set}");
                assert!(d_own.iter().zip(&d_gates_x[wide]).all(|(a, b)| a.to_bits() == b.to_bits()), "set {set}");
            }
        }
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        let offsets = Offsets::from_lengths((0..40).map(|set| set * 7 % 31));
        let hidden = 59;
        let (gates_x, w_h) = (numbers(offsets.tokens() * 4 * hidden, 1), weights(hidden));
        let d_out = numbers(offsets.tokens() * hidden, 2);
        same_bits_with_any_threads(|| ours(&gates_x, &w_h, &d_out, &offsets, false).concat());
    }

    #[test]
    #[should_panic(expected = "gates_x has 7 numbers, expected [2, 4]")]
    fn a_wrong_length_panics() {
        let (offsets, mut saved) = (Offsets::from_lengths([2]), LstmSaved::new(2, 1));
        lstm_forward(&[0.0; 7], &[0.0; 4], 1, &offsets, false, &mut [0.0; 2], &mut saved);
    }
}
