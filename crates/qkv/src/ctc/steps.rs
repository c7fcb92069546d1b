//! One frame: from the probabilities of one row of states to those of the next, in either direction.
//!
//! Belongs here: the arithmetic of rows and their layout. Does not: which rows there are and what becomes of them.
//!
//! A probability is a pair, m 2ᵉ with m in `[1, 2)` and e an integer of its own, so that nothing underflows however unlikely
//! a state is beside others, and each step rounds relatively. Zero is 2 to a power that no path reaches, [`NEVER`]. The integers lie
//! among the numbers of a row as their bits.
//!
//! A row is four stretches of the same length: m and e of the labels, m and e of the blanks; blank i stands before label i. The row
//! of a forward step has [`LANES`] numbers of nothing before the first state, that of a backward step as many after the last.
//! Only whole blocks of [`LANES`] states are computed.

use crate::isa::{Target, isa_dispatch};
use crate::math::{exp, exp_parts, max, sum};

/// States that are computed together: an AVX-512 register of them.
pub(super) const LANES: usize = 16;

/// The exponent of zero. Twice it is still an `i32`.
pub(super) const NEVER: i32 = -(1 << 29);

/// Logits further below the greatest of their frame count as -∞: where [`exp_parts`] ends.
const LOWEST: f32 = -((1 << 21) as f32);

/// An exponent, as it stands in a row.
pub(super) fn stored(exponent: i32) -> f32 {
    f32::from_bits(exponent as u32)
}

/// What [`stored`] has stored.
#[inline(always)]
fn exponent(stored: f32) -> i32 {
    stored.to_bits() as i32
}

/// 2ᵈ for d ≤ 127; 0 below 2⁻¹²⁶.
#[inline(always)]
fn two_to(d: i32) -> f32 {
    let biased = if d > -127 { d + 127 } else { 0 };
    f32::from_bits((biased << 23) as u32)
}

/// eˣ as m 2ᵉ, for x ≤ 0.
#[inline(always)]
fn power<T: Target>(x: f32) -> (f32, i32) {
    // so that NaN, too, is told as zero: it shows in the sum of its row
    let possible = x > LOWEST;
    let (m, e) = exp_parts::<T>(if possible { x } else { LOWEST });
    (m, if possible { e } else { NEVER })
}

/// m 2ᵉ with m in `[1, 2)` again, as two numbers of a row.
#[inline(always)]
fn normal(m: f32, e: i32) -> (f32, f32) {
    let bits = m.to_bits();
    let e = e + (bits >> 23) as i32 - 127;
    (f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000), stored(if e > NEVER { e } else { NEVER }))
}

/// Σ m 2ᵉ of two, m in `[1, 4)`.
#[inline(always)]
fn sum_of_two<T: Target>(a: (f32, i32), b: (f32, i32)) -> (f32, i32) {
    let e = if a.1 > b.1 { a.1 } else { b.1 };
    (T::mul_add(a.0, two_to(a.1 - e), b.0 * two_to(b.1 - e)), e)
}

/// Σ m 2ᵉ of three, m in `[1, 6)`.
#[inline(always)]
fn sum_of_three<T: Target>(a: (f32, i32), b: (f32, i32), c: (f32, i32)) -> (f32, i32) {
    let e = if a.1 > b.1 { a.1 } else { b.1 };
    let e = if c.1 > e { c.1 } else { e };
    let two = T::mul_add(a.0, two_to(a.1 - e), b.0 * two_to(b.1 - e));
    (T::mul_add(c.0, two_to(c.1 - e), two), e)
}

/// m and e of the labels, m and e of the blanks.
#[inline(always)]
pub(super) fn parts(row: &[f32]) -> [&[f32]; 4] {
    let ((a, b), (c, d)) = {
        let (labels, blanks) = row.split_at(row.len() / 2);
        (labels.split_at(labels.len() / 2), blanks.split_at(blanks.len() / 2))
    };
    [a, b, c, d]
}

/// As [`parts`], to be written.
#[inline(always)]
pub(super) fn parts_mut(row: &mut [f32]) -> [&mut [f32]; 4] {
    let half = row.len() / 2;
    let (labels, blanks) = row.split_at_mut(half);
    let ((a, b), (c, d)) = (labels.split_at_mut(half / 2), blanks.split_at_mut(half / 2));
    [a, b, c, d]
}

/// Nothing at all in places `from..to` of each stretch.
pub(super) fn clear(row: &mut [f32], from: usize, to: usize) {
    for (n, part) in parts_mut(row).into_iter().enumerate() {
        part[from..to].fill(if n % 2 == 0 { 1.0 } else { stored(NEVER) });
    }
}

/// What a step is told beside rows.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    /// Logit of each label less the greatest of the frame; -∞ behind the last.
    pub(super) labels: &'a [f32],
    /// For each label the exponent that a step over the blank before it has at most: [`NEVER`] after its equal.
    pub(super) caps: &'a [f32],
    /// Logit of the blank less the greatest.
    pub(super) blank: f32,
    /// Which states are computed: from, to; multiples of [`LANES`].
    pub(super) band: (usize, usize),
}

/// Shifted logits of the labels `ids` of a frame, into `out`.
pub(super) fn pick(x: &[f32], row_max: f32, ids: &[u32], out: &mut [f32]) {
    for (out, &id) in out.iter_mut().zip(ids) {
        *out = x[id as usize] - row_max;
    }
}

#[inline(always)]
fn step_forward_body<T: Target>(before: &[f32], now: &mut [f32], frame: Frame<'_>) {
    let (lo, hi) = frame.band;
    // a multiple that the compiler knows, so that it leaves no rest for single numbers
    let n = (hi - lo) / LANES * LANES;
    let [label_m, label_e, blank_m, blank_e] = parts(before);
    let (label, last) = ((&label_m[lo + LANES..][..n], &label_e[lo + LANES..][..n]), lo + LANES - 1);
    let last = (&label_m[last..][..n], &label_e[last..][..n]);
    let blank = (&blank_m[lo + LANES..][..n], &blank_e[lo + LANES..][..n]);
    let [label_m, label_e, blank_m, blank_e] = parts_mut(now);
    let (label_m, label_e) = (&mut label_m[lo + LANES..][..n], &mut label_e[lo + LANES..][..n]);
    let (blank_m, blank_e) = (&mut blank_m[lo + LANES..][..n], &mut blank_e[lo + LANES..][..n]);
    let (x, caps) = (&frame.labels[lo..][..n], &frame.caps[lo..][..n]);
    let p_blank = power::<T>(frame.blank);
    for i in 0..n {
        let (here, before) = ((label.0[i], exponent(label.1[i])), (blank.0[i], exponent(blank.1[i])));
        let (last, cap) = ((last.0[i], exponent(last.1[i])), exponent(caps[i]));
        let skipped = (last.0, if last.1 < cap { last.1 } else { cap });
        let (p, all) = (power::<T>(x[i]), sum_of_three::<T>(here, before, skipped));
        (label_m[i], label_e[i]) = normal(all.0 * p.0, all.1 + p.1);
        let all = sum_of_two::<T>(before, last);
        (blank_m[i], blank_e[i]) = normal(all.0 * p_blank.0, all.1 + p_blank.1);
    }
}
isa_dispatch!(
    /// `now[i] = p (before[i] + before[i - 1] + before[i - 2])` over the states that may precede.
    pub(super) fn step_forward(before: &[f32], now: &mut [f32], frame: Frame<'_>) = step_forward_body
);

/// What a backward step meets of the forward pass, and leaves of both.
pub(super) struct Meeting<'a> {
    /// The row of the forward pass for this frame.
    pub(super) forward: &'a [f32],
    /// The exponent of the probability of the whole.
    pub(super) exponent: i32,
    /// Posterior of each label up to a factor common to all states; in the band only.
    pub(super) labels: &'a mut [f32],
    /// The same of the blanks.
    pub(super) blanks: &'a mut [f32],
}

#[inline(always)]
fn step_backward_body<T: Target>(after: &[f32], now: &mut [f32], frame: Frame<'_>, meeting: Meeting<'_>) {
    let (lo, hi) = frame.band;
    // a multiple that the compiler knows, so that it leaves no rest for single numbers
    let n = (hi - lo) / LANES * LANES;
    let [label_m, label_e, blank_m, blank_e] = parts(after);
    let label = (&label_m[lo..][..n], &label_e[lo..][..n]);
    let next_label = (&label_m[lo + 1..][..n], &label_e[lo + 1..][..n]);
    let blank = (&blank_m[lo..][..n], &blank_e[lo..][..n]);
    let next_blank = (&blank_m[lo + 1..][..n], &blank_e[lo + 1..][..n]);
    let [label_m, label_e, blank_m, blank_e] = parts_mut(now);
    let (label_m, label_e) = (&mut label_m[lo..][..n], &mut label_e[lo..][..n]);
    let (blank_m, blank_e) = (&mut blank_m[lo..][..n], &mut blank_e[lo..][..n]);
    let [alpha_label_m, alpha_label_e, alpha_blank_m, alpha_blank_e] = parts(meeting.forward);
    let alpha_label = (&alpha_label_m[lo + LANES..][..n], &alpha_label_e[lo + LANES..][..n]);
    let alpha_blank = (&alpha_blank_m[lo + LANES..][..n], &alpha_blank_e[lo + LANES..][..n]);
    let (of_labels, of_blanks) = (&mut meeting.labels[lo..][..n], &mut meeting.blanks[lo..][..n]);
    let (x, caps) = (&frame.labels[lo..][..n], &frame.caps[lo + 1..][..n]);
    let p_blank = power::<T>(frame.blank);
    // at most 2^127, should rounding ever drift that far
    let meet = |m: f32, e: i32, forward_m: f32, forward_e: f32| {
        let e = e + exponent(forward_e) - meeting.exponent;
        m * forward_m * two_to(if e < 120 { e } else { 120 })
    };
    for i in 0..n {
        let (here, after) = ((label.0[i], exponent(label.1[i])), (next_blank.0[i], exponent(next_blank.1[i])));
        let (next, cap) = ((next_label.0[i], exponent(next_label.1[i])), exponent(caps[i]));
        let skipped = (next.0, if next.1 < cap { next.1 } else { cap });
        let (p, all) = (power::<T>(x[i]), sum_of_three::<T>(here, after, skipped));
        of_labels[i] = meet(all.0, all.1, alpha_label.0[i], alpha_label.1[i]);
        (label_m[i], label_e[i]) = normal(all.0 * p.0, all.1 + p.1);
        let all = sum_of_two::<T>((blank.0[i], exponent(blank.1[i])), here);
        of_blanks[i] = meet(all.0, all.1, alpha_blank.0[i], alpha_blank.1[i]);
        (blank_m[i], blank_e[i]) = normal(all.0 * p_blank.0, all.1 + p_blank.1);
    }
}
isa_dispatch!(
    /// `sum = after[i] + after[i + 1] + after[i + 2]` over the states that may follow, `now[i] = p sum`, and the posterior
    /// `forward[i] sum`.
    pub(super) fn step_backward(after: &[f32], now: &mut [f32], frame: Frame<'_>, meeting: Meeting<'_>) = step_backward_body
);

#[inline(always)]
fn greatest_and_sum_body<T: Target>(x: &[f32], row: &mut [f32]) -> (f32, f32) {
    row[..x.len()].copy_from_slice(x);
    let row_max = max(row);
    (row_max, exponentials::<T>(row, row_max))
}
isa_dispatch!(
    /// The greatest of a row of logits, and Σ e^(x - greatest). `row` is longer than `x` by some -∞, and overwritten.
    pub(super) fn greatest_and_sum(x: &[f32], row: &mut [f32]) -> (f32, f32) = greatest_and_sum_body
);

#[inline(always)]
fn softmax_body<T: Target>(x: &[f32], row_max: f32, factor: f32, row: &mut [f32]) {
    row[..x.len()].copy_from_slice(x);
    let factor = factor / exponentials::<T>(row, row_max);
    let (blocks, _) = row.as_chunks_mut::<{ 2 * LANES }>();
    blocks.iter_mut().for_each(|block| block.iter_mut().for_each(|x| *x *= factor));
}
isa_dispatch!(
    /// The softmax of a row of logits, times `factor`, into `row`, which is longer by some -∞ and has zeros there then.
    pub(super) fn softmax(x: &[f32], row_max: f32, factor: f32, row: &mut [f32]) = softmax_body
);

#[inline(always)]
fn exponentials<T: Target>(row: &mut [f32], row_max: f32) -> f32 {
    let (blocks, _) = row.as_chunks_mut::<{ 2 * LANES }>();
    blocks.iter_mut().for_each(|block| block.iter_mut().for_each(|x| *x = exp::<T>(*x - row_max)));
    sum(row, |x| x)
}

#[inline(always)]
fn total_body<T: Target>(x: &[f32]) -> f32 {
    sum(x, |x| x)
}
isa_dispatch!(
    /// Σ x.
    pub(super) fn total(x: &[f32]) -> f32 = total_body
);
