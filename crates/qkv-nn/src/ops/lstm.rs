//! A packed LSTM: each set is read from its own first vector to its own last one, whoever stands beside it.

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
use burn::tensor::{Tensor, activation};
use qkv::Offsets;
use qkv::lstm::{self as kernel, LstmSaved};

use super::flex;
use crate::memory::{self, Slot};

#[backend_extension(Flex, Autodiff)]
pub(crate) trait LstmOps: Backend {
    /// With `keep`, what the backward pass needs is put there.
    fn lstm_forward(
        gates_x: FloatTensor<Self>,
        w_h: FloatTensor<Self>,
        offsets: Offsets,
        reverse: bool,
        keep: Option<Slot<LstmSaved>>,
    ) -> FloatTensor<Self>;

    /// `(d_gates_x, d_w_h)`.
    fn lstm_backward(
        d_out: FloatTensor<Self>,
        w_h: FloatTensor<Self>,
        out: FloatTensor<Self>,
        offsets: Offsets,
        reverse: bool,
        saved: Slot<LstmSaved>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl LstmOps for Flex {
    fn lstm_forward(
        gates_x: FloatTensor<Self>,
        w_h: FloatTensor<Self>,
        offsets: Offsets,
        reverse: bool,
        keep: Option<Slot<LstmSaved>>,
    ) -> FloatTensor<Self> {
        let (gates_x, w_h) = (flex::contiguous(gates_x), flex::contiguous(w_h));
        let ([tokens, _], [hidden, _]) = (flex::dims::<2>(&gates_x), flex::dims::<2>(&w_h));
        let mut out = memory::take(tokens * hidden);
        let mut saved = LstmSaved { gates: memory::take(4 * tokens * hidden), cell: memory::take(tokens * hidden) };
        kernel::lstm_forward(flex::slice(&gates_x), flex::slice(&w_h), hidden, &offsets, reverse, &mut out, &mut saved);
        memory::give(gates_x);
        match keep {
            Some(keep) => memory::fill(Some(&keep), Some(saved)),
            None => give_back(saved),
        }
        flex::tensor(out, [tokens, hidden])
    }

    fn lstm_backward(
        d_out: FloatTensor<Self>,
        w_h: FloatTensor<Self>,
        out: FloatTensor<Self>,
        offsets: Offsets,
        reverse: bool,
        saved: Slot<LstmSaved>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (d_out, w_h) = (flex::contiguous(d_out), flex::contiguous(w_h));
        let ([tokens, _], [hidden, _]) = (flex::dims::<2>(&out), flex::dims::<2>(&w_h));
        let (mut d_gates_x, mut d_w_h) = (memory::take(4 * tokens * hidden), memory::take(4 * hidden * hidden));
        let saved = memory::take_out(&saved);
        kernel::lstm_backward(
            flex::slice(&d_out),
            flex::slice(&w_h),
            hidden,
            &offsets,
            reverse,
            flex::slice(&out),
            &saved,
            &mut d_gates_x,
            &mut d_w_h,
        );
        give_back(saved);
        memory::give(d_out);
        memory::give(out);
        (flex::tensor(d_gates_x, [tokens, 4 * hidden]), flex::tensor(d_w_h, [hidden, 4 * hidden]))
    }
}

fn give_back(saved: LstmSaved) {
    memory::pool().give(saved.gates);
    memory::pool().give(saved.cell);
}

impl<B: LstmOps, C: CheckpointStrategy> LstmOps for Autodiff<B, C> {
    fn lstm_forward(
        gates_x: FloatTensor<Self>,
        w_h: FloatTensor<Self>,
        offsets: Offsets,
        reverse: bool,
        _: Option<Slot<LstmSaved>>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct LstmBackward;
        impl<B: LstmOps> Backward<B, 2> for LstmBackward {
            type State = ([FloatTensor<B>; 2], Offsets, bool, Slot<LstmSaved>);
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let d_out = grads.consume::<B>(&ops.node);
                let ([w_h, out], offsets, reverse, saved) = ops.state;
                let (d_gates_x, d_w_h) = B::lstm_backward(d_out, w_h, out, offsets, reverse, saved);
                for (parent, gradient) in ops.parents.into_iter().zip([d_gates_x, d_w_h]) {
                    if let Some(node) = parent {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
        let nodes = [gates_x.node(), w_h.node()];
        let (gates_x, w_h) = (gates_x.into_primitive(), w_h.into_primitive());
        match LstmBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let saved = memory::slot();
                let out = B::lstm_forward(gates_x, w_h.clone(), offsets.clone(), reverse, Some(saved.clone()));
                prep.finish(([w_h, out.clone()], offsets, reverse, saved), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::lstm_forward(gates_x, w_h, offsets, reverse, None)),
        }
    }

    fn lstm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Offsets,
        _: bool,
        _: Slot<LstmSaved>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("lstm has no second derivative")
    }
}

/// The hidden states of an LSTM (Hochreiter and Schmidhuber, 1997, with forget gates) over each set, forwards or, with
/// `reverse`, from its last vector to its first. The product with the inputs is hoisted out.
///
/// Shapes: `gates_x` `[tokens, 4 · hidden]` (input product and bias; gates in the order input, forget, cell, output),
/// `w_h` `[hidden, 4 · hidden]`; the result is `[tokens, hidden]`. State and cell start at zero in each set.
pub fn lstm(gates_x: Tensor<2>, w_h: Tensor<2>, offsets: &Offsets, reverse: bool) -> Tensor<2> {
    if !memory::has_kernels(&gates_x.device()) {
        return lstm_twin(gates_x, w_h, offsets, reverse);
    }
    let (gates_x, w_h) = (gates_x.into_dispatch(), w_h.into_dispatch());
    Tensor::from_dispatch(Dispatch::lstm_forward(gates_x, w_h, offsets.clone(), reverse, None))
}

/// The same as [`lstm`], composed of Burn's own operations, one set and one step at a time.
pub fn lstm_twin(gates_x: Tensor<2>, w_h: Tensor<2>, offsets: &Offsets, reverse: bool) -> Tensor<2> {
    let ([hidden, _], device) = (w_h.dims(), w_h.device());
    let mut rows: Vec<Option<Tensor<2>>> = vec![None; offsets.tokens()];
    for set in 0..offsets.sets() {
        let (mut state, mut cell) = (Tensor::zeros([1, hidden], &device), Tensor::zeros([1, hidden], &device));
        let mut steps: Vec<usize> = offsets.range(set).collect();
        if reverse {
            steps.reverse();
        }
        for row in steps {
            let gates = gates_x.clone().slice(row..row + 1) + state.matmul(w_h.clone());
            let gate = |n: usize| gates.clone().slice([0..1, n * hidden..(n + 1) * hidden]);
            let (input, forget) = (activation::sigmoid(gate(0)), activation::sigmoid(gate(1)));
            cell = forget * cell + input * activation::tanh(gate(2));
            state = activation::sigmoid(gate(3)) * activation::tanh(cell.clone());
            rows[row] = Some(state.clone());
        }
    }
    Tensor::cat(rows.into_iter().flatten().collect(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random};

    #[test]
    fn lstm_and_its_gradients_equal_the_twin() {
        for (lengths, hidden) in [(vec![1], 1), (vec![3, 1, 5], 7), (vec![0, 4, 2, 0, 9], 16)] {
            for reverse in [false, true] {
                let offsets = Offsets::from_lengths(lengths.iter().copied());
                let gates_x = random([offsets.tokens(), 4 * hidden], 1).require_grad();
                let w_h = (random([hidden, 4 * hidden], 2) * 0.5).detach().require_grad();
                let d_out = random([offsets.tokens(), hidden], 3);
                let ours = lstm(gates_x.clone(), w_h.clone(), &offsets, reverse);
                let twin = lstm_twin(gates_x.clone(), w_h.clone(), &offsets, reverse);
                assert_close(ours.clone(), twin.clone(), 1e-5);
                let (a, b) = ((ours * d_out.clone()).sum().backward(), (twin * d_out).sum().backward());
                assert_close(gates_x.grad(&a).expect("gates"), gates_x.grad(&b).expect("gates"), 1e-4);
                assert_close(w_h.grad(&a).expect("w_h"), w_h.grad(&b).expect("w_h"), 1e-4);
            }
        }
    }
}
