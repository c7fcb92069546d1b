//! Connectionist temporal classification (Graves et al. 2006): the loss of labels of which nobody said where they are.

use std::sync::Arc;

use burn::backend::{
    Backend, Dispatch, Flex,
    autodiff::{
        Autodiff,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::FloatTensor,
};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};
use qkv::Offsets;
use qkv::ctc::{CtcSaved, CtcTargets, ctc_backward, ctc_forward};

use super::flex;
use crate::memory::{self, Slot};

/// The labels that are to be spelled.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    ids: Arc<[u32]>,
    offsets: Offsets,
    blank: u32,
}

impl Labels {
    fn for_kernel(&self) -> CtcTargets<'_> {
        CtcTargets { ids: &self.ids, offsets: &self.offsets, blank: self.blank }
    }
}

#[backend_extension(Flex, Autodiff)]
pub(crate) trait CtcOps: Backend {
    /// The loss, `[1]`. With `keep`, what the backward pass needs is put there.
    fn ctc_forward(
        class_logits: FloatTensor<Self>,
        frames: Offsets,
        labels: Labels,
        keep: Option<Slot<CtcSaved>>,
    ) -> FloatTensor<Self>;

    fn ctc_backward(
        d_loss: FloatTensor<Self>,
        class_logits: FloatTensor<Self>,
        frames: Offsets,
        labels: Labels,
        saved: Slot<CtcSaved>,
    ) -> FloatTensor<Self>;
}

impl CtcOps for Flex {
    fn ctc_forward(
        class_logits: FloatTensor<Self>,
        frames: Offsets,
        labels: Labels,
        keep: Option<Slot<CtcSaved>>,
    ) -> FloatTensor<Self> {
        let class_logits = flex::contiguous(class_logits);
        let [_, classes] = flex::dims(&class_logits);
        let needed = CtcSaved::numbers_for(classes, &frames, &labels.offsets);
        let mut saved = CtcSaved::with_memory(memory::take(needed));
        let found = ctc_forward(flex::slice(&class_logits), classes, &frames, &labels.for_kernel(), &mut saved);
        match keep {
            Some(keep) => memory::fill(Some(&keep), Some(saved)),
            None => memory::pool().give(saved.into_memory()),
        }
        flex::tensor(vec![found.loss], [1])
    }

    fn ctc_backward(
        d_loss: FloatTensor<Self>,
        class_logits: FloatTensor<Self>,
        frames: Offsets,
        labels: Labels,
        saved: Slot<CtcSaved>,
    ) -> FloatTensor<Self> {
        let (d_loss, class_logits) = (flex::contiguous(d_loss), flex::contiguous(class_logits));
        let [tokens, classes] = flex::dims(&class_logits);
        let mut d_logits = memory::take(tokens * classes);
        let mut saved = memory::take_out(&saved);
        ctc_backward(
            flex::slice(&class_logits),
            classes,
            &frames,
            &labels.for_kernel(),
            &mut saved,
            flex::slice(&d_loss)[0],
            &mut d_logits,
        );
        memory::pool().give(saved.into_memory());
        memory::give(class_logits);
        flex::tensor(d_logits, [tokens, classes])
    }
}

impl<B: CtcOps, C: CheckpointStrategy> CtcOps for Autodiff<B, C> {
    fn ctc_forward(
        class_logits: FloatTensor<Self>,
        frames: Offsets,
        labels: Labels,
        _: Option<Slot<CtcSaved>>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct CtcBackward;
        impl<B: CtcOps> Backward<B, 1> for CtcBackward {
            type State = (FloatTensor<B>, Offsets, Labels, Slot<CtcSaved>);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_loss = grads.consume::<B>(&ops.node);
                let ([parent], (class_logits, frames, labels, saved)) = (ops.parents, ops.state);
                if let Some(node) = parent {
                    grads.register::<B>(node.id, B::ctc_backward(d_loss, class_logits, frames, labels, saved));
                }
            }
        }
        let node = class_logits.node();
        let class_logits = class_logits.into_primitive();
        match CtcBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let saved = memory::slot();
                let keep = Some(saved.clone());
                let loss = B::ctc_forward(class_logits.clone(), frames.clone(), labels.clone(), keep);
                prep.finish((class_logits, frames, labels, saved), loss)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::ctc_forward(class_logits, frames, labels, None)),
        }
    }

    fn ctc_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Offsets,
        _: Labels,
        _: Slot<CtcSaved>,
    ) -> FloatTensor<Self> {
        panic!("ctc_loss has no second derivative")
    }
}

/// Mean over the sets that count of `−ln P / max(labels, 1)`, shape `[1]`, where P is the probability that the frames of a set
/// spell its labels: the sum over all paths, a class for each frame, that are the labels once equal neighbours are made one and blanks
/// are struck out.
///
/// Shapes: `class_logits` `[tokens, classes]`, frames of all sets end to end, `frames` says whose; `targets` the labels of all sets,
/// `target_offsets` says whose. `blank` is the class that is no label. A set whose target no path spells, as with fewer frames than
/// [`qkv::ctc::ctc_frames_needed`], does not count, and its gradient is zero; if none counts, the loss is 0. So it is for
/// `torch.nn.functional.ctc_loss` with its mean and `zero_infinity`, which however divides by the number of all sets.
///
/// # Panics
///
/// If the numbers of sets or of labels differ, or a label is the blank or no class.
pub fn ctc_loss(
    class_logits: Tensor<2>,
    frames: &Offsets,
    targets: Arc<[u32]>,
    target_offsets: &Offsets,
    blank: u32,
) -> Tensor<1> {
    if !memory::has_kernels(&class_logits.device()) {
        return ctc_loss_twin(class_logits, frames, targets, target_offsets, blank);
    }
    let labels = Labels { ids: targets, offsets: target_offsets.clone(), blank };
    Tensor::from_dispatch(Dispatch::ctc_forward(class_logits.into_dispatch(), frames.clone(), labels, None))
}

/// The same as [`ctc_loss`], composed of Burn's own operations: logarithms, all sets side by side and padded, a frame at a time.
pub fn ctc_loss_twin(
    class_logits: Tensor<2>,
    frames: &Offsets,
    targets: Arc<[u32]>,
    target_offsets: &Offsets,
    blank: u32,
) -> Tensor<1> {
    let (device, [tokens, classes]) = (class_logits.device(), class_logits.dims());
    let (sets, longest) = (frames.sets(), frames.max_len());
    assert_eq!(sets, target_offsets.sets(), "ctc_loss: frames and targets of as many sets");
    if sets == 0 {
        return class_logits.sum() * 0.0;
    }
    let states = States::new(&targets, target_offsets, blank, &device);
    // as many states as the widest set has, of which a path begins in the first and, at once or later, enters the second
    let mut alpha =
        none([sets, states.count], &device).slice_assign([0..sets, 0..1], Tensor::zeros([sets, 1], &device));
    if tokens > 0 {
        let log_p = activation::log_softmax(class_logits, 1);
        for frame in 0..longest {
            // beyond its end a set reads its last frame, or anything, to no effect
            let runs: Vec<bool> = frames.lengths().map(|length| frame < length).collect();
            let row = |set: usize| (frames.as_slice()[set] + frame).min(tokens - 1) as i64;
            let rows: Vec<i64> = (0..sets).map(row).collect();
            let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [sets]), &device);
            let log_p = log_p.clone().select(0, rows).reshape([sets, classes]).gather(1, states.classes.clone());
            let next = states.step(alpha.clone()) + log_p;
            let runs = Tensor::<2, Bool>::from_data(TensorData::new(runs, [sets, 1]), &device);
            alpha = alpha.mask_where(runs.expand([sets, states.count]), next);
        }
    }
    let log_p = states.end(alpha);
    let impossible = is_none(log_p.clone());
    let counted = impossible.clone().bool_not().float().sum().clamp_min(1.0);
    let shares: Vec<f32> = target_offsets.lengths().map(|labels| -1.0 / labels.max(1) as f32).collect();
    let shares = Tensor::<2>::from_data(TensorData::new(shares, [sets, 1]), &device);
    (log_p.mask_fill(impossible, 0.0) * shares).sum() / counted
}

/// Logarithms of zero.
fn none(shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::full(shape, f32::NEG_INFINITY, device)
}

fn is_none(x: Tensor<2>) -> Tensor<2, Bool> {
    x.equal_elem(f32::NEG_INFINITY)
}

/// `ln Σ eˣ` of several, element by element; -∞, with no gradient, where all are.
fn log_sum(terms: Vec<Tensor<2>>) -> Tensor<2> {
    let greatest = terms.iter().cloned().reduce(Tensor::max_pair).expect("some terms").detach();
    let nothing = is_none(greatest.clone());
    let shift = greatest.mask_fill(nothing.clone(), 0.0);
    let sum = terms.into_iter().map(|x| (x - shift.clone()).exp()).reduce(|a, b| a + b).expect("some terms");
    (sum.mask_fill(nothing.clone(), 1.0).log() + shift).mask_fill(nothing, f32::NEG_INFINITY)
}

/// The states of all sets, side by side: a blank before, between and behind the labels.
struct States {
    count: usize,
    /// The class of each, `[sets, count]`; the blank beyond the last.
    classes: Tensor<2, Int>,
    /// Where a path may not come from two states before.
    no_skip: Tensor<2, Bool>,
    /// The last state of each set, `[sets, 1]`, and the one before it.
    last: Tensor<2, Int>,
    before_last: Tensor<2, Int>,
    /// Sets that have but one state.
    single: Tensor<2, Bool>,
}

impl States {
    fn new(targets: &[u32], offsets: &Offsets, blank: u32, device: &Device) -> Self {
        let (sets, count) = (offsets.sets(), 2 * offsets.max_len() + 1);
        let (mut classes, mut no_skip) = (vec![i64::from(blank); sets * count], vec![true; sets * count]);
        let rows = classes.chunks_exact_mut(count).zip(no_skip.chunks_exact_mut(count));
        for (set, (classes, no_skip)) in rows.enumerate() {
            let labels = &targets[offsets.range(set)];
            for (n, &id) in labels.iter().enumerate() {
                classes[2 * n + 1] = i64::from(id);
                no_skip[2 * n + 1] = n == 0 || labels[n - 1] == id;
            }
        }
        let column = |of: fn(usize) -> usize| {
            let numbers: Vec<i64> = offsets.lengths().map(|labels| of(labels) as i64).collect();
            Tensor::<2, Int>::from_data(TensorData::new(numbers, [sets, 1]), device)
        };
        let single: Vec<bool> = offsets.lengths().map(|labels| labels == 0).collect();
        Self {
            count,
            classes: Tensor::from_data(TensorData::new(classes, [sets, count]), device),
            no_skip: Tensor::from_data(TensorData::new(no_skip, [sets, count]), device),
            last: column(|labels| 2 * labels),
            before_last: column(|labels| (2 * labels).saturating_sub(1)),
            single: Tensor::from_data(TensorData::new(single, [sets, 1]), device),
        }
    }

    /// The sum over the states that may precede each.
    fn step(&self, alpha: Tensor<2>) -> Tensor<2> {
        let [sets, count] = alpha.dims();
        let shifted = |by: usize| {
            let edge = none([sets, by.min(count)], &alpha.device());
            match count.checked_sub(by) {
                None | Some(0) => edge,
                Some(rest) => Tensor::cat(vec![edge, alpha.clone().slice([0..sets, 0..rest])], 1),
            }
        };
        let skipped = shifted(2).mask_fill(self.no_skip.clone(), f32::NEG_INFINITY);
        log_sum(vec![alpha.clone(), shifted(1), skipped])
    }

    /// The sum of the last two states of each set, `[sets, 1]`.
    fn end(&self, alpha: Tensor<2>) -> Tensor<2> {
        let before_last = alpha.clone().gather(1, self.before_last.clone());
        let before_last = before_last.mask_fill(self.single.clone(), f32::NEG_INFINITY);
        log_sum(vec![alpha.gather(1, self.last.clone()), before_last])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, values};
    use qkv::random::Key;

    /// Sets of so many frames and labels.
    fn labels_of(sizes: &[(usize, usize)], classes: u32) -> (Offsets, Arc<[u32]>, Offsets) {
        let frames = Offsets::from_lengths(sizes.iter().map(|(frames, _)| *frames));
        let offsets = Offsets::from_lengths(sizes.iter().map(|(_, labels)| *labels));
        let ids = (0..offsets.tokens() as u64).map(|n| 1 + Key::new(4).bits(n) % (classes - 1)).collect();
        (frames, ids, offsets)
    }

    #[test]
    fn ctc_loss_and_its_gradient_equal_the_twin() {
        let all: [(&[(usize, usize)], usize); 6] = [
            (&[(1, 1)], 2),
            (&[(4, 0)], 3),
            (&[(9, 3), (20, 5), (6, 6)], 5),
            // of which some cannot be spelled, and some are empty
            (&[(7, 2), (0, 0), (2, 5), (0, 3), (30, 12)], 3),
            (&[(0, 0), (0, 2)], 3),
            (&[(59, 20), (40, 17), (3, 1)], 33),
        ];
        for (sizes, classes) in all {
            let (frames, ids, offsets) = labels_of(sizes, classes as u32);
            let class_logits = (random([frames.tokens().max(1), classes], 1) * 2.0).slice(0..frames.tokens());
            let class_logits = class_logits.detach().require_grad();
            let ours = ctc_loss(class_logits.clone(), &frames, ids.clone(), &offsets, 0);
            let twin = ctc_loss_twin(class_logits.clone(), &frames, ids, &offsets, 0);
            assert!(values(twin.clone())[0].is_finite(), "{sizes:?}");
            assert_close(ours.clone(), twin.clone(), 1e-5);
            if frames.tokens() > 0 {
                let (a, b) = ((ours * 3.0).backward(), (twin * 3.0).backward());
                assert_close(class_logits.grad(&a).expect("logits"), class_logits.grad(&b).expect("logits"), 1e-4);
            }
        }
    }

    #[test]
    fn other_devices_run_the_twin() {
        let (frames, ids, offsets) = labels_of(&[(9, 3), (5, 2)], 4);
        let class_logits = random([14, 4], 2);
        let ours = ctc_loss(class_logits.clone(), &frames, ids.clone(), &offsets, 0);
        let composed = memory::composed(|| ctc_loss(class_logits, &frames, ids, &offsets, 0));
        assert_close(ours, composed, 1e-5);
    }

    #[test]
    fn steps_against_the_gradient_learn_to_spell() {
        let (frames, ids, offsets) = labels_of(&[(12, 4), (9, 3)], 5);
        let mut class_logits = random([21, 5], 3);
        for _ in 0..300 {
            class_logits = class_logits.detach().require_grad();
            let grads = ctc_loss(class_logits.clone(), &frames, ids.clone(), &offsets, 0).backward();
            let gradient = Tensor::from_inner(class_logits.grad(&grads).expect("logits"));
            class_logits = class_logits - gradient * 5.0;
        }
        let best: Vec<i64> = class_logits.clone().argmax(1).into_data().iter::<i64>().collect();
        for set in 0..2 {
            let mut path = best[frames.range(set)].to_vec();
            path.dedup();
            path.retain(|id| *id != 0);
            assert!(path.iter().eq(ids[offsets.range(set)].iter().map(|&id| i64::from(id)).collect::<Vec<_>>().iter()));
        }
        assert!(values(ctc_loss(class_logits, &frames, ids, &offsets, 0))[0] < 0.05);
    }

    #[test]
    fn what_cannot_be_spelled_gives_zero_loss_and_zero_gradient() {
        let (frames, offsets) = (Offsets::from_lengths([2]), Offsets::from_lengths([2]));
        for loss_of in [ctc_loss, ctc_loss_twin] {
            let class_logits = random([2, 3], 1).require_grad();
            let loss = loss_of(class_logits.clone(), &frames, Arc::from([1, 1]), &offsets, 0);
            let grads = loss.clone().backward();
            assert_eq!(values(loss), [0.0]);
            assert_eq!(values(class_logits.grad(&grads).expect("logits")), [0.0; 6]);
        }
    }
}
