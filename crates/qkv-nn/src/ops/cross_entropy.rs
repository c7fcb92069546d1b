//! Softmax cross-entropy with label smoothing, ignored targets, and a weight for each class.

use std::sync::Arc;

use burn::backend::{
    AutodiffBackend, Backend, Dispatch, Flex,
    autodiff::{
        Autodiff,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::FloatTensor,
};
use burn::tensor::{Tensor, TensorData, activation};
use qkv::gather::NONE;
use qkv::loss;

use super::flex;
use crate::memory;

/// How rows are judged. From a number: that label smoothing, and all classes alike.
#[derive(Clone, Debug, Default)]
pub struct CrossEntropyOptions {
    /// How much of the target is spread over all classes.
    pub smoothing: f32,
    /// How much a row counts, by the class of its target, one number for each class; `None` counts all alike.
    pub class_weights: Option<Arc<[f32]>>,
}

impl From<f32> for CrossEntropyOptions {
    fn from(smoothing: f32) -> Self {
        Self { smoothing, class_weights: None }
    }
}

impl CrossEntropyOptions {
    /// The same as the kernels take it.
    fn for_kernel(&self) -> loss::CrossEntropyOptions<'_> {
        loss::CrossEntropyOptions { smoothing: self.smoothing, class_weights: self.class_weights.as_deref() }
    }
}

#[backend_extension(Flex, Autodiff)]
pub(crate) trait CrossEntropyOps: Backend {
    /// `(loss [1], lse [tokens])`.
    fn cross_entropy_forward(
        class_logits: FloatTensor<Self>,
        targets: Arc<[u32]>,
        options: CrossEntropyOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    fn cross_entropy_backward(
        d_loss: FloatTensor<Self>,
        class_logits: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        targets: Arc<[u32]>,
        options: CrossEntropyOptions,
    ) -> FloatTensor<Self>;
}

impl CrossEntropyOps for Flex {
    fn cross_entropy_forward(
        class_logits: FloatTensor<Self>,
        targets: Arc<[u32]>,
        options: CrossEntropyOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let class_logits = flex::contiguous(class_logits);
        let [tokens, classes] = flex::dims(&class_logits);
        let mut lse = memory::take(tokens);
        let result =
            loss::cross_entropy_forward(flex::slice(&class_logits), classes, &targets, options.for_kernel(), &mut lse);
        (flex::tensor(vec![result.loss], [1]), flex::tensor(lse, [tokens]))
    }

    fn cross_entropy_backward(
        d_loss: FloatTensor<Self>,
        class_logits: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        targets: Arc<[u32]>,
        options: CrossEntropyOptions,
    ) -> FloatTensor<Self> {
        let (d_loss, class_logits) = (flex::contiguous(d_loss), flex::contiguous(class_logits));
        let [tokens, classes] = flex::dims(&class_logits);
        let mut d_logits = memory::take(tokens * classes);
        let d_loss = flex::slice(&d_loss)[0];
        loss::cross_entropy_backward(
            flex::slice(&class_logits),
            classes,
            &targets,
            options.for_kernel(),
            flex::slice(&lse),
            d_loss,
            &mut d_logits,
        );
        memory::give(class_logits);
        memory::give(lse);
        flex::tensor(d_logits, [tokens, classes])
    }
}

impl<B: CrossEntropyOps, C: CheckpointStrategy> CrossEntropyOps for Autodiff<B, C> {
    fn cross_entropy_forward(
        class_logits: FloatTensor<Self>,
        targets: Arc<[u32]>,
        options: CrossEntropyOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct CrossEntropyBackward(CrossEntropyOptions);
        impl<B: CrossEntropyOps> Backward<B, 1> for CrossEntropyBackward {
            type State = (FloatTensor<B>, FloatTensor<B>, Arc<[u32]>);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_loss = grads.consume::<B>(&ops.node);
                let ([parent], (class_logits, lse, targets)) = (ops.parents, ops.state);
                if let Some(node) = parent {
                    let d_logits = B::cross_entropy_backward(d_loss, class_logits, lse, targets, self.0);
                    grads.register::<B>(node.id, d_logits);
                }
            }
        }
        let node = class_logits.node();
        let class_logits = class_logits.into_primitive();
        let (loss, lse) = B::cross_entropy_forward(class_logits.clone(), targets.clone(), options.clone());
        let untracked = Self::from_inner(lse.clone());
        let loss = match CrossEntropyBackward(options).prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((class_logits, lse, targets), loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        };
        (loss, untracked)
    }

    fn cross_entropy_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Arc<[u32]>,
        _: CrossEntropyOptions,
    ) -> FloatTensor<Self> {
        panic!("cross_entropy has no second derivative")
    }
}

/// Mean over the counted targets of `lse − (1 − ε) · logit(target) − ε · mean(logits)`, each by the weight of its class,
/// shape `[1]`.
///
/// Shapes: `class_logits` `[tokens, classes]`, `targets` `tokens` long; a target of [`NONE`] is not counted. `options` may
/// be a number, the ε of Szegedy et al. (2016). With nothing counted, or nothing of any weight, the loss is 0.
pub fn cross_entropy(
    class_logits: Tensor<2>,
    targets: Arc<[u32]>,
    options: impl Into<CrossEntropyOptions>,
) -> Tensor<1> {
    let options = options.into();
    if !memory::has_kernels(&class_logits.device()) {
        return cross_entropy_twin(class_logits, targets, options);
    }
    let (loss, _) = Dispatch::cross_entropy_forward(class_logits.into_dispatch(), targets, options);
    Tensor::from_dispatch(loss)
}

/// The same as [`cross_entropy`], composed of Burn's own operations.
pub fn cross_entropy_twin(
    class_logits: Tensor<2>,
    targets: Arc<[u32]>,
    options: impl Into<CrossEntropyOptions>,
) -> Tensor<1> {
    let CrossEntropyOptions { smoothing, class_weights } = options.into();
    let ([tokens, classes], device) = (class_logits.dims(), class_logits.device());
    let weight = |target: u32| class_weights.as_ref().map_or(1.0, |weights| weights[target as usize]);
    let all: f32 = targets.iter().filter(|&&t| t != NONE).map(|&t| weight(t)).sum();
    let all = if all == 0.0 { 1.0 } else { all };
    let mut wanted = vec![0.0; tokens * classes];
    for (row, &target) in wanted.chunks_exact_mut(classes).zip(targets.iter()).filter(|(_, t)| **t != NONE) {
        let share = weight(target) / all;
        row.fill(smoothing / classes as f32 * share);
        row[target as usize] += (1.0 - smoothing) * share;
    }
    let wanted = Tensor::<2>::from_data(TensorData::new(wanted, [tokens, classes]), &device);
    (activation::log_softmax(class_logits, 1) * wanted).sum().neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn cross_entropy_and_its_gradient_equal_the_twin() {
        for (tokens, classes, smoothing, weighted) in
            [(1, 2, 0.0, false), (7, 5, 0.1, false), (59, 17, 0.1, false), (7, 5, 0.0, true), (59, 17, 0.1, true)]
        {
            let class_weights = weighted.then(|| (0..classes).map(|class| class as f32 / 2.0).collect());
            let options = CrossEntropyOptions { smoothing, class_weights };
            let class_logits = (random([tokens, classes], 1) * 4.0).detach().require_grad();
            let targets: Arc<[u32]> =
                (0..tokens).map(|i| if i % 5 == 3 { NONE } else { (i * 7 % classes) as u32 }).collect();
            let ours = cross_entropy(class_logits.clone(), targets.clone(), options.clone());
            let twin = cross_entropy_twin(class_logits.clone(), targets, options);
            assert_close(ours.clone(), twin.clone(), 1e-5);
            let (a, b) = ((ours * 3.0).backward(), (twin * 3.0).backward());
            assert_close(class_logits.grad(&a).expect("logits"), class_logits.grad(&b).expect("logits"), 1e-4);
        }
    }

    #[test]
    fn nothing_of_any_weight_gives_zero_loss_and_zero_gradient() {
        let options = CrossEntropyOptions { smoothing: 0.1, class_weights: Some(Arc::from([0.0, 1.0])) };
        for loss_of in [cross_entropy, cross_entropy_twin] {
            let class_logits = random([3, 2], 1).require_grad();
            let loss = loss_of(class_logits.clone(), Arc::from([0, NONE, 0]), options.clone());
            let grads = loss.clone().backward();
            assert!(crate::ops::testing::values(loss)[0] == 0.0);
            let gradient = crate::ops::testing::values(class_logits.grad(&grads).expect("logits"));
            assert!(gradient.iter().all(|x| *x == 0.0), "{gradient:?}");
        }
    }

    #[test]
    fn nothing_counted_gives_zero_loss_and_zero_gradient() {
        let class_logits = random([3, 4], 1).require_grad();
        let loss = cross_entropy(class_logits.clone(), Arc::from([NONE; 3]), 0.1);
        let grads = loss.clone().backward();
        assert_eq!(crate::ops::testing::values(loss), [0.0]);
        assert_eq!(crate::ops::testing::values(class_logits.grad(&grads).expect("logits")), [0.0; 12]);
    }
}
