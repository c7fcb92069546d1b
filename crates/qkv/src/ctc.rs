//! Connectionist temporal classification (Graves et al. 2006): the loss of a sequence of labels, shorter than the frames it is read
//! from, where nobody said which frame holds which label.
//!
//! A path names a class for each frame. It spells a target if the target is left once equal neighbours are made one and blanks are
//! struck out. States, `2 labels + 1`: a blank before, between and after the labels. At each frame a path stays, goes on by one,
//! or by two over a blank, unless the labels on both sides of it are equal.
//!
//! ```text
//! p        = softmax(logits[t]);   s' → s: s' in { s, s-1, and s-2 if s is a label other than that of s-2 }
//! forward  alpha[t, s] = p[class of s] Σ_{s' → s} alpha[t-1, s'];   P = Σ_{s in the last two} alpha[frames-1, s]
//!          loss of a set = -ln P;   loss = Σ_sets (-ln P / max(labels, 1)) / sets that count
//! backward beta[t, s] = Σ_{s → s'} p[class of s'] beta[t+1, s']
//!          posterior[t, c] = Σ_{s of class c} alpha[t, s] beta[t, s] / Σ_s alpha[t, s] beta[t, s]
//!          d_logits[t] = d_loss / (sets that count · max(labels, 1)) (softmax(logits[t]) - posterior[t])
//! ```
//!
//! Departures.
//!
//! 1. Each alpha and beta has an exponent of its own (`steps.rs`). Scaled by frame, as Rabiner (1989) has it, paths that are
//!    unlikely by now would underflow, among them those that a later frame proves right. Logarithms need an exponential for each
//!    addition, and near 10⁵, where those of long recordings are, an f32 is only good to a hundredth.
//! 2. `e^(logit - greatest)` stands for `p` in both passes. What it lacks, `Σ ln Σ e^(logit - greatest)`, is the same for all paths,
//!    and is added in f64.
//! 3. Alpha is not kept. The forward pass leaves every `segment`th row and the last `segment` rows; the backward pass computes the
//!    rows of a segment again before it goes through them. A set of so many states that all its rows fit in 128 KiB is one
//!    segment, and none of it is computed twice. Otherwise there are at most as many rows in a segment as fit, and at least
//!    the root of the number of frames: `2 √frames` rows are held then.
//! 4. States that cannot be reached from the first, or that cannot reach the last, are left out.
//! 5. The posterior is divided by its own sum in each frame, not by P: what both passes have gathered of rounding cancels.
//!
//! Sets run side by side, and each alone from its first frame to its last.

mod steps;
#[cfg(test)]
mod tests;

use crate::blocks;
use crate::offsets::Offsets;
use steps::{Frame, LANES, Meeting, NEVER, clear, parts, stored};

/// Numbers of the rows of one segment: 128 KiB, which stay in a second-level cache with what goes by. A quarter of it and four times
/// as much were not told apart from the noise of a busy machine, a fifth in short sets; this takes less memory than more.
const SEGMENT: usize = 32 * 1024;

/// Labels to be spelled, end to end.
#[derive(Clone, Copy, Debug)]
pub struct CtcTargets<'a> {
    /// The labels of all sets.
    pub ids: &'a [u32],
    /// Which of them are whose; as many sets as there are of frames.
    pub offsets: &'a Offsets,
    /// The class that stands for no label.
    pub blank: u32,
}

/// What [`ctc_forward`] finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ctc {
    /// Mean over the sets that count of `-ln P / max(labels, 1)`, nats for each label; 0 if none counts.
    pub loss: f32,
    /// How many sets count.
    pub counted: usize,
    /// How many do not, since no path spells their target: there are fewer frames than [`ctc_frames_needed`], or logits of -∞
    /// rule out every path. They have no part in the loss, and their gradient is zero.
    pub impossible: usize,
}

/// What [`ctc_forward`] leaves for [`ctc_backward`], and what both compute in. It grows to what the largest call needs.
#[derive(Clone, Debug, Default)]
pub struct CtcSaved {
    numbers: Vec<f32>,
    ends: Vec<End>,
}

/// How the forward pass of a set ended.
#[derive(Clone, Copy, Debug)]
struct End {
    /// -ln P; ∞ if there is no path.
    nats: f64,
    /// The exponent of the last alphas.
    exponent: i32,
}

const IMPOSSIBLE: End = End { nats: f64::INFINITY, exponent: 0 };

impl CtcSaved {
    /// Without any memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// In memory that was used before, whatever it holds.
    pub fn with_memory(numbers: Vec<f32>) -> Self {
        Self { numbers, ends: Vec::new() }
    }

    /// The memory, for another use.
    pub fn into_memory(self) -> Vec<f32> {
        self.numbers
    }

    /// `-ln P` of each set of the last forward pass, in nats; ∞ where no path spells the target.
    pub fn losses(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.ends.iter().map(|end| end.nats as f32)
    }

    /// How many numbers of memory a call needs: for each set about 32 Ki in rows of `4 labels`, but at least `2 √frames` rows and at
    /// most one for each frame, and besides one number for each frame and some 13 for each label.
    pub fn numbers_for(classes: usize, frames: &Offsets, targets: &Offsets) -> usize {
        // and as many as may lie before the first cache line
        plans(classes, frames, targets).map(|plan| plan.numbers()).sum::<usize>() + LANES
    }
}

/// How few frames may hold a target: one for each label, and one for a blank between each two that are equal.
pub fn ctc_frames_needed(target: &[u32]) -> usize {
    target.len() + target.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

/// How the memory of a set is laid out.
#[derive(Clone, Copy, Debug)]
struct Plan {
    frames: usize,
    labels: usize,
    classes: usize,
    /// Numbers of a quarter of a row of states.
    stretch: usize,
    /// Rows of a segment.
    segment: usize,
}

fn plans(classes: usize, frames: &Offsets, targets: &Offsets) -> impl Iterator<Item = Plan> {
    frames.lengths().zip(targets.lengths()).map(move |(frames, labels)| Plan::new(frames, labels, classes, SEGMENT))
}

impl Plan {
    /// With about so many numbers in the rows of a segment.
    fn new(frames: usize, labels: usize, classes: usize, numbers: usize) -> Self {
        let stretch = (labels + 1).next_multiple_of(LANES) + LANES;
        let root = frames.isqrt() + 1;
        // at least two, so that a row and the one before it are not the same
        let segment = (numbers / (4 * stretch)).max(root).max(2).min(frames.max(1));
        Self { frames, labels, classes, stretch, segment }
    }

    fn row(&self) -> usize {
        4 * self.stretch
    }

    fn segments(&self) -> usize {
        self.frames.div_ceil(self.segment).max(1)
    }

    /// Numbers of a row of logits, with what is added to have no odd ones.
    fn class_row(&self) -> usize {
        self.classes.next_multiple_of(2 * LANES)
    }

    fn numbers(&self) -> usize {
        self.frames.next_multiple_of(LANES)
            + self.class_row()
            + 5 * self.stretch
            + (2 + self.segments() + self.segment) * self.row()
    }

    /// States that are computed for a frame, by label: multiples of [`LANES`]. At frame t no path is beyond label t, and one
    /// that is not `frames - t` labels from the end will not come to it.
    fn band(&self, frame: usize) -> (usize, usize) {
        let lo = (self.labels + frame).saturating_sub(self.frames) / LANES * LANES;
        (lo, (frame.min(self.labels) + 1).next_multiple_of(LANES))
    }

    fn split<'a>(&self, numbers: &'a mut [f32]) -> Memory<'a> {
        let (row_max, rest) = numbers.split_at_mut(self.frames.next_multiple_of(LANES));
        let (class_row, rest) = rest.split_at_mut(self.class_row());
        let (caps, rest) = rest.split_at_mut(self.stretch);
        let (x, rest) = rest.split_at_mut(2 * self.stretch);
        let (of_labels, rest) = rest.split_at_mut(self.stretch);
        let (of_blanks, rest) = rest.split_at_mut(self.stretch);
        let (beta, rest) = rest.split_at_mut(2 * self.row());
        let (starts, alpha) = rest.split_at_mut(self.segments() * self.row());
        Memory { row_max, class_row, caps, x, of_labels, of_blanks, beta, starts, alpha }
    }
}

/// The memory of a set.
struct Memory<'a> {
    /// The greatest logit of each frame.
    row_max: &'a mut [f32],
    /// A row of logits on its way to be a softmax.
    class_row: &'a mut [f32],
    /// [`Frame::caps`].
    caps: &'a mut [f32],
    /// [`Frame::labels`] of two frames, the even one before the odd one.
    x: &'a mut [f32],
    /// [`Meeting::labels`] and [`Meeting::blanks`].
    of_labels: &'a mut [f32],
    of_blanks: &'a mut [f32],
    /// Two rows.
    beta: &'a mut [f32],
    /// The row before each segment.
    starts: &'a mut [f32],
    /// The rows of one segment.
    alpha: &'a mut [f32],
}

/// One set.
struct Set<'a> {
    plan: Plan,
    logits: &'a [f32],
    target: &'a [u32],
    blank: u32,
    memory: Memory<'a>,
}

/// All sets, each with its part of the memory.
fn sets<'a>(
    logits: &'a [f32],
    classes: usize,
    frames: &'a Offsets,
    targets: &'a CtcTargets<'a>,
    numbers: &'a mut [f32],
) -> impl Iterator<Item = Set<'a>> {
    // All parts are whole cache lines, if the first begins with one.
    let first = numbers.as_ptr().align_offset(LANES * size_of::<f32>()).min(LANES);
    let mut numbers = &mut numbers[first..];
    plans(classes, frames, targets.offsets).enumerate().map(move |(set, plan)| {
        let (own, rest) = std::mem::take(&mut numbers).split_at_mut(plan.numbers());
        numbers = rest;
        let (rows, labels) = (frames.range(set), targets.offsets.range(set));
        let logits = &logits[rows.start * classes..rows.end * classes];
        Set { plan, logits, target: &targets.ids[labels], blank: targets.blank, memory: plan.split(own) }
    })
}

/// The loss of `logits` `[tokens, classes]`, frames of sets end to end, against the labels of each set. An empty target is
/// spelled by blanks alone; without frames, too, its loss is 0. A logit of NaN makes the loss NaN.
///
/// # Panics
///
/// If `logits` has another length than its shape, frames and targets are of another number of sets, or a label is the blank or
/// not below `classes`.
pub fn ctc_forward(
    logits: &[f32],
    classes: usize,
    frames: &Offsets,
    targets: &CtcTargets<'_>,
    saved: &mut CtcSaved,
) -> Ctc {
    check(logits, classes, frames, targets);
    let needed = CtcSaved::numbers_for(classes, frames, targets.offsets);
    if saved.numbers.len() < needed {
        saved.numbers.resize(needed, 0.0);
    }
    let sets = sets(logits, classes, frames, targets, &mut saved.numbers);
    saved.ends = blocks::map(work(frames, targets.offsets), sets, |mut set| set.forward());
    let of_set = |(end, labels): (&End, usize)| end.nats / labels.max(1) as f64;
    let possible = saved.ends.iter().zip(targets.offsets.lengths()).filter(|(end, _)| end.is_possible());
    let (counted, total) = possible.map(of_set).fold((0, 0.0), |(counted, total), nats| (counted + 1, total + nats));
    let loss = if counted == 0 { 0.0 } else { (total / counted as f64) as f32 };
    Ctc { loss, counted, impossible: frames.sets() - counted }
}

impl End {
    fn is_possible(&self) -> bool {
        // what is not a number is not to be hidden
        self.nats != f64::INFINITY
    }
}

fn check(logits: &[f32], classes: usize, frames: &Offsets, targets: &CtcTargets<'_>) {
    let (found, tokens, blank) = (logits.len(), frames.tokens(), targets.blank);
    assert_eq!(found, tokens * classes, "ctc: logits has {found} numbers, expected [{tokens}, {classes}]");
    let (sets, found) = (frames.sets(), targets.offsets.sets());
    assert_eq!(found, sets, "ctc: targets of {found} sets, frames of {sets}");
    let (found, labels) = (targets.ids.len(), targets.offsets.tokens());
    assert_eq!(found, labels, "ctc: {found} labels, expected {labels}");
    assert!((blank as usize) < classes, "ctc: blank {blank} of {classes} classes");
    for &id in targets.ids {
        assert!((id as usize) < classes, "ctc: label {id} of {classes} classes");
        assert!(id != blank, "ctc: label {id} is the blank");
    }
}

/// How many numbers are touched in all, about.
fn work(frames: &Offsets, targets: &Offsets) -> usize {
    frames.lengths().zip(targets.lengths()).map(|(frames, labels)| frames * (labels + 1) * 4).sum()
}

impl Set<'_> {
    fn forward(&mut self) -> End {
        if self.plan.frames < ctc_frames_needed(self.target) {
            return IMPOSSIBLE;
        }
        self.begin();
        let mut sums = Logarithm::default();
        for segment in 0..self.plan.segments() {
            for frame in self.frames_of(segment) {
                let x = &self.logits[frame * self.plan.classes..][..self.plan.classes];
                let (row_max, sum) = steps::greatest_and_sum(x, self.memory.class_row);
                self.pad();
                self.memory.row_max[frame] = row_max;
                sums.multiply(f64::from(sum));
            }
            self.alpha_of(segment);
            let (row, next) = (self.plan.row(), segment + 1);
            if next < self.plan.segments() {
                let last = &self.memory.alpha[(self.plan.segment - 1) * row..];
                self.memory.starts[next * row..][..row].copy_from_slice(last);
            }
        }
        let (m, exponent) = self.end();
        if exponent < NEVER / 2 {
            return IMPOSSIBLE;
        }
        End { nats: sums.ln() - (m.ln() + f64::from(exponent) * std::f64::consts::LN_2), exponent }
    }

    /// What does not change from frame to frame, and the row before the first.
    fn begin(&mut self) {
        let (labels, row) = (self.plan.labels, self.plan.row());
        self.memory.caps.fill(stored(NEVER));
        for (cap, pair) in self.memory.caps[1.min(labels)..].iter_mut().zip(self.target.windows(2)) {
            *cap = stored(if pair[0] == pair[1] { NEVER } else { i32::MAX });
        }
        self.memory.x.fill(f32::NEG_INFINITY);
        self.pad();
        let start = &mut self.memory.starts[..row];
        clear(start, 0, self.plan.stretch);
        let [.., exponents] = steps::parts_mut(start);
        exponents[LANES] = stored(0);
    }

    fn pad(&mut self) {
        self.memory.class_row[self.plan.classes..].fill(f32::NEG_INFINITY);
    }

    fn frames_of(&self, segment: usize) -> std::ops::Range<usize> {
        let first = segment * self.plan.segment;
        first..(first + self.plan.segment).min(self.plan.frames)
    }

    /// The rows of a segment, from the row before it.
    fn alpha_of(&mut self, segment: usize) {
        let row = self.plan.row();
        let frames = self.frames_of(segment);
        for (n, frame) in frames.clone().enumerate() {
            // One ahead, for a register that is read of numbers just written one by one has to wait for them.
            if n == 0 {
                self.pick(frame);
            }
            if frame + 1 < frames.end {
                self.pick(frame + 1);
            }
            let band = self.plan.band(frame);
            let (before, rest) = self.memory.alpha.split_at_mut(n * row);
            let before = if n == 0 { &self.memory.starts[segment * row..][..row] } else { &before[(n - 1) * row..] };
            let now = &mut rest[..row];
            let blank = self.logits[frame * self.plan.classes + self.blank as usize] - self.memory.row_max[frame];
            let labels = &self.memory.x[frame % 2 * self.plan.stretch..][..self.plan.stretch];
            let step = Frame { labels, caps: self.memory.caps, blank, band };
            steps::step_forward(before, now, step);
            // what the next step reads on both sides of the band
            let (lo, hi) = (band.0 + LANES, band.1 + LANES);
            clear(now, lo - 1, lo);
            if self.plan.band(frame + 1).1 > band.1 {
                clear(now, hi, hi + LANES);
            }
        }
    }

    /// Looks up the logits of the labels of a frame.
    fn pick(&mut self, frame: usize) {
        let (lo, hi) = self.plan.band(frame);
        let x = &self.logits[frame * self.plan.classes..][..self.plan.classes];
        let (from, to) = (lo.min(self.plan.labels), hi.min(self.plan.labels));
        let out = &mut self.memory.x[frame % 2 * self.plan.stretch..][from..to];
        steps::pick(x, self.memory.row_max[frame], &self.target[from..to], out);
    }

    /// The sum of the last two states after the last frame, as m 2ᵉ.
    fn end(&self) -> (f64, i32) {
        let (row, labels) = (self.plan.row(), self.plan.labels);
        let last = match self.plan.frames {
            0 => &self.memory.starts[..row],
            frames => &self.memory.alpha[(frames - 1) % self.plan.segment * row..][..row],
        };
        let [label_m, label_e, blank_m, blank_e] = parts(last);
        let label = (label_m[labels + LANES - 1], label_e[labels + LANES - 1].to_bits() as i32);
        let blank = (blank_m[labels + LANES], blank_e[labels + LANES].to_bits() as i32);
        let exponent = label.1.max(blank.1);
        let part = |(m, e): (f32, i32)| f64::from(m) * f64::from((e - exponent).max(-1000)).exp2();
        (part(label) + part(blank), exponent)
    }
}

/// The logarithm of a product of many numbers from 1 on.
struct Logarithm {
    before: f64,
    product: f64,
}

impl Default for Logarithm {
    fn default() -> Self {
        Self { before: 0.0, product: 1.0 }
    }
}

impl Logarithm {
    fn multiply(&mut self, x: f64) {
        self.product *= x;
        if self.product > 1e200 {
            self.before += self.product.ln();
            self.product = 1.0;
        }
    }

    fn ln(&self) -> f64 {
        self.before + self.product.ln()
    }
}

/// The gradient of [`ctc_forward`] with respect to the logits, times `d_loss`, into `d_logits` `[tokens, classes]`, overwritten.
/// `saved` is what the forward pass left; it is used up.
///
/// # Panics
///
/// As [`ctc_forward`], and if `saved` is of another call.
pub fn ctc_backward(
    logits: &[f32],
    classes: usize,
    frames: &Offsets,
    targets: &CtcTargets<'_>,
    saved: &mut CtcSaved,
    d_loss: f32,
    d_logits: &mut [f32],
) {
    check(logits, classes, frames, targets);
    let found = d_logits.len();
    assert_eq!(found, logits.len(), "ctc: d_logits has {found} numbers, logits {}", logits.len());
    let needed = CtcSaved::numbers_for(classes, frames, targets.offsets);
    let fits = saved.ends.len() == frames.sets() && saved.numbers.len() >= needed;
    assert!(fits, "ctc: what the forward pass left is of another shape, or was used up");
    let ends = std::mem::take(&mut saved.ends);
    let counted = ends.iter().filter(|end| end.is_possible()).count();
    let mut d_rest = d_logits;
    let sets = sets(logits, classes, frames, targets, &mut saved.numbers).zip(&ends).map(|(set, end)| {
        let (d_logits, rest) = std::mem::take(&mut d_rest).split_at_mut(set.logits.len());
        d_rest = rest;
        (set, end, d_logits)
    });
    blocks::for_each(work(frames, targets.offsets), sets, |(mut set, end, d_logits)| {
        if end.is_possible() {
            // undoes the mean
            let d_nats = d_loss / (counted as f64 * set.plan.labels.max(1) as f64) as f32;
            set.backward(end.exponent, d_nats, d_logits);
        } else {
            d_logits.fill(0.0);
        }
    });
}

impl Set<'_> {
    fn backward(&mut self, exponent: i32, d_nats: f32, d_logits: &mut [f32]) {
        let (row, classes, frames) = (self.plan.row(), self.plan.classes, self.plan.frames);
        // behind the last frame: in the last blank, and nowhere else
        let end = &mut self.memory.beta[frames % 2 * row..][..row];
        clear(end, 0, self.plan.stretch);
        let [.., exponents] = steps::parts_mut(end);
        exponents[self.plan.labels] = stored(0);
        for segment in (0..self.plan.segments()).rev() {
            if segment + 1 < self.plan.segments() {
                self.alpha_of(segment);
            }
            let frames = self.frames_of(segment);
            if let Some(last) = frames.clone().last() {
                self.pick(last);
            }
            for frame in frames.rev() {
                self.backward_frame(frame, exponent, d_nats, &mut d_logits[frame * classes..][..classes]);
            }
        }
    }

    fn backward_frame(&mut self, frame: usize, exponent: i32, d_nats: f32, d_row: &mut [f32]) {
        if frame > 0 {
            self.pick(frame - 1);
        }
        let (plan, row, row_max) = (self.plan, self.plan.row(), self.memory.row_max[frame]);
        let band @ (lo, hi) = plan.band(frame);
        let x = &self.logits[frame * plan.classes..][..plan.classes];
        let Memory { class_row, caps, x: labels_of_two, of_labels, of_blanks, beta, alpha, .. } = &mut self.memory;
        let (even, odd) = beta.split_at_mut(row);
        let (now, after) = if frame.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let labels = &labels_of_two[frame % 2 * plan.stretch..][..plan.stretch];
        let step = Frame { labels, caps, blank: x[self.blank as usize] - row_max, band };
        let forward = &alpha[frame % plan.segment * row..][..row];
        steps::step_backward(after, now, step, Meeting { forward, exponent, labels: of_labels, blanks: of_blanks });
        // what the next step reads on both sides of the band
        clear(now, hi, hi + 1);
        if frame > 0 && plan.band(frame - 1).0 < lo {
            clear(now, lo - LANES, lo);
        }
        class_row[plan.classes..].fill(f32::NEG_INFINITY);
        steps::softmax(x, row_max, d_nats, class_row);
        let blanks = steps::total(&of_blanks[lo..hi]);
        let factor = d_nats / (blanks + steps::total(&of_labels[lo..hi]));
        class_row[self.blank as usize] -= factor * blanks;
        let posteriors = of_labels[lo..hi].chunks(LANES).zip(self.target[lo.min(plan.labels)..].chunks(LANES));
        // nearly all are zero where frames and labels are many
        for (posteriors, ids) in posteriors.filter(|(posteriors, _)| posteriors.iter().any(|p| *p != 0.0)) {
            for (p, &id) in posteriors.iter().zip(ids) {
                class_row[id as usize] -= factor * p;
            }
        }
        d_row.copy_from_slice(&class_row[..plan.classes]);
    }
}
