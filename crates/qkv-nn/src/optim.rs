//! AdamW as a Burn optimiser, one fused pass for each tensor, and the global norm that gradients are clipped by.
//!
//! Burn's modules, records and schedules stay usable: [`FusedAdamW`] is an [`Optimizer`] like those it ships.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension, tensor::FloatTensor};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};
use burn_flex::FlexTensor;
use qkv::optim::{AdamW, adamw_step, sum_of_squares};

use crate::memory;
use crate::ops::flex;

#[backend_extension(Flex)]
pub(crate) trait OptimOps: Backend {
    /// `(param, moment_1, moment_2)` after one step.
    fn adamw(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        options: AdamW,
        step: u64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Adds the sum of the squares to `total`, and returns the tensor as it is.
    fn add_squares(grad: FloatTensor<Self>, total: Arc<Mutex<f64>>) -> FloatTensor<Self>;
}

impl OptimOps for Flex {
    fn adamw(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        options: AdamW,
        step: u64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let grad = flex::contiguous(grad);
        // Written in place where nobody else holds the tensor, into a copy otherwise.
        let [mut param, mut moment_1, mut moment_2] =
            [param, moment_1, moment_2].map(FlexTensor::into_owned_contiguous);
        adamw_step(
            &options,
            step,
            param.storage_mut(),
            flex::slice(&grad),
            moment_1.storage_mut(),
            moment_2.storage_mut(),
        );
        memory::give(grad);
        (param, moment_1, moment_2)
    }

    fn add_squares(grad: FloatTensor<Self>, total: Arc<Mutex<f64>>) -> FloatTensor<Self> {
        let grad = flex::contiguous(grad);
        *total.lock().unwrap_or_else(PoisonError::into_inner) += sum_of_squares(flex::slice(&grad));
        grad
    }
}

/// A tensor whose storage is exactly its elements in order, as an in-place update needs it.
trait IntoOwnedContiguous {
    fn into_owned_contiguous(self) -> Self;
}

impl IntoOwnedContiguous for FlexTensor {
    fn into_owned_contiguous(self) -> Self {
        let elements = self.shape().num_elements();
        if self.as_slice::<f32>().is_some() && self.storage::<f32>().len() == elements {
            self
        } else {
            self.to_contiguous()
        }
    }
}

/// AdamW (Loshchilov and Hutter, 2019): Adam with decoupled weight decay, in one pass over memory.
#[derive(Clone, Debug)]
pub struct FusedAdamW {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Share of the parameter, times the learning rate, taken off at each step.
    pub weight_decay: f32,
    /// What each gradient is multiplied by first: [`clip_scale`]. Shared by all clones, since Burn's optimiser keeps one.
    pub grad_scale: GradScale,
}

/// A number that changes from step to step, seen by all its clones; 1 at first.
#[derive(Clone, Debug)]
pub struct GradScale(Arc<AtomicU32>);

impl GradScale {
    /// Sets it for the steps that follow.
    pub fn set(&self, scale: f32) {
        self.0.store(scale.to_bits(), Ordering::Relaxed);
    }

    /// Its present value.
    pub fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Default for GradScale {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1.0_f32.to_bits())))
    }
}

impl FusedAdamW {
    /// The usual settings: β 0.9 and 0.98, ε 1e-8.
    pub fn new(weight_decay: f32) -> Self {
        Self { beta_1: 0.9, beta_2: 0.98, epsilon: 1e-8, weight_decay, grad_scale: GradScale::default() }
    }
}

/// What [`FusedAdamW`] keeps for one parameter.
#[derive(Clone, Debug)]
pub struct FusedAdamWState<const D: usize> {
    /// Running mean of the gradient.
    pub moment_1: Tensor<D>,
    /// Running mean of its square.
    pub moment_2: Tensor<D>,
    /// Steps taken.
    pub time: u64,
}

// By hand: Burn's derive for this trait names modules that only its own crates can see.
impl<const D: usize> RecordState for FusedAdamWState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "moment_1", self.moment_1.to_data());
        out.push_tensor(prefix, "moment_2", self.moment_2.to_data());
        out.push_scalar(prefix, "time", self.time.into());
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        Some(Self {
            moment_1: Tensor::from_data(source.take_tensor(prefix, "moment_1")?, device),
            moment_2: Tensor::from_data(source.take_tensor(prefix, "moment_2")?, device),
            time: source.take_scalar(prefix, "time")?.try_into().ok()?,
        })
    }
}

impl Optimizer for FusedAdamW {
    type State<const D: usize> = FusedAdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let FusedAdamWState { moment_1, moment_2, time } = state.unwrap_or_else(|| FusedAdamWState {
            moment_1: tensor.zeros_like(),
            moment_2: tensor.zeros_like(),
            time: 0,
        });
        let options = AdamW {
            lr: lr as f32,
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            epsilon: self.epsilon,
            // A bias or a gain is no weight that could grow with its inputs: it is not decayed.
            weight_decay: if D > 1 { self.weight_decay } else { 0.0 },
            grad_scale: self.grad_scale.get(),
        };
        let time = time + 1;
        if !memory::has_kernels(&tensor.device()) {
            let (tensor, moment_1, moment_2) = adamw_twin(&options, time, tensor, grad, moment_1, moment_2);
            return (tensor, Some(FusedAdamWState { moment_1, moment_2, time }));
        }
        let (tensor, moment_1, moment_2) = Dispatch::adamw(
            tensor.into_dispatch(),
            grad.into_dispatch(),
            moment_1.into_dispatch(),
            moment_2.into_dispatch(),
            options,
            time,
        );
        let state = FusedAdamWState {
            moment_1: Tensor::from_dispatch(moment_1),
            moment_2: Tensor::from_dispatch(moment_2),
            time,
        };
        (Tensor::from_dispatch(tensor), Some(state))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        FusedAdamWState {
            moment_1: state.moment_1.to_device(device),
            moment_2: state.moment_2.to_device(device),
            time: state.time,
        }
    }
}

/// One step, composed of Burn's own operations: `(param, moment_1, moment_2)`.
fn adamw_twin<const D: usize>(
    options: &AdamW,
    step: u64,
    param: Tensor<D>,
    grad: Tensor<D>,
    moment_1: Tensor<D>,
    moment_2: Tensor<D>,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let &AdamW { lr, beta_1, beta_2, epsilon, weight_decay, grad_scale } = options;
    let grad = grad * grad_scale;
    let moment_1 = moment_1 * beta_1 + grad.clone() * (1.0 - beta_1);
    let moment_2 = moment_2 * beta_2 + grad.clone() * grad * (1.0 - beta_2);
    let correction = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
    let root = (moment_2.clone() / correction(beta_2)).sqrt() + epsilon;
    let direction = moment_1.clone() / correction(beta_1) / root;
    (param * (1.0 - lr * weight_decay) - direction * lr, moment_1, moment_2)
}

/// The Euclidean norm of all gradients of `module` together, summed in module order so that its bits do not vary.
pub fn global_norm<M: Module>(module: &M, grads: &GradientsParams) -> f64 {
    struct Norm<'a> {
        grads: &'a GradientsParams,
        total: Arc<Mutex<f64>>,
    }
    impl ModuleVisitor for Norm<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(grad) = self.grads.get::<D>(param.id) else { return };
            if memory::has_kernels(&grad.device()) {
                // read where it lies: to copy gradients of many megabytes would take longer than their norm
                Dispatch::add_squares(grad.into_dispatch(), self.total.clone());
            } else {
                let numbers = grad.into_data().try_into_vec::<f32>();
                let numbers = numbers.expect("gradients are f32, the only precision there is");
                *self.total.lock().unwrap_or_else(PoisonError::into_inner) += sum_of_squares(&numbers);
            }
        }
    }
    let total = Arc::default();
    module.visit(&mut Norm { grads, total: Arc::clone(&total) });
    let total = *total.lock().unwrap_or_else(PoisonError::into_inner);
    total.sqrt()
}

/// What the gradients must be multiplied by so that their norm does not exceed `limit` (Pascanu et al., 2013).
pub fn clip_scale(norm: f64, limit: Option<f64>) -> f32 {
    match limit {
        Some(limit) if norm > limit => (limit / norm) as f32,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, values};
    use burn::module::Param;
    use burn::optim::{AdamWConfig, ModuleOptimizer};

    #[test]
    fn fused_adamw_takes_the_same_steps_as_burns() {
        let start = random([13, 7], 1);
        let param = Param::from_tensor(start.clone());
        let mut ours: ModuleOptimizer = FusedAdamW::new(0.1).into();
        let mut burns =
            AdamWConfig::new().with_beta_1(0.9).with_beta_2(0.98).with_epsilon(1e-8).with_weight_decay(0.1).init();
        let (mut a, mut b) = (param.clone(), param);
        for seed in 0..5 {
            let target = random([13, 7], 10 + seed);
            let loss =
                |p: &Param<Tensor<2>>| ((p.val() - target.clone()) * (p.val() - target.clone())).sum().backward();
            let grads = GradientsParams::from_grads(loss(&a), &a);
            a = ours.step(0.01, a, grads);
            let grads = GradientsParams::from_grads(loss(&b), &b);
            b = burns.step(0.01, b, grads);
        }
        assert_close(a.val(), b.val(), 1e-5);
        let moved: f32 = values(a.val() - start).iter().map(|x| x.abs()).sum();
        assert!(moved > 1.0, "five steps moved the parameter by {moved}");
    }

    #[test]
    fn the_twin_takes_the_same_step() {
        let options = AdamW { lr: 0.01, beta_1: 0.9, beta_2: 0.98, epsilon: 1e-8, weight_decay: 0.1, grad_scale: 0.5 };
        let tensors = [1, 2, 3, 4].map(|seed| random([13, 7], seed));
        let [param, grad, moment_1, moment_2] = tensors.map(|tensor| tensor.inner());
        let moment_2 = moment_2.clone() * moment_2;
        let twin = adamw_twin(&options, 3, param.clone(), grad.clone(), moment_1.clone(), moment_2.clone());
        let [param, grad, moment_1, moment_2] = [param, grad, moment_1, moment_2].map(Tensor::into_dispatch);
        let ours = Dispatch::adamw(param, grad, moment_1, moment_2, options, 3);
        assert_close(Tensor::<2>::from_dispatch(ours.0), twin.0, 1e-6);
        assert_close(Tensor::<2>::from_dispatch(ours.1), twin.1, 1e-6);
        assert_close(Tensor::<2>::from_dispatch(ours.2), twin.2, 1e-6);
    }

    #[test]
    fn the_norm_is_clipped_only_above_its_limit() {
        assert_eq!(clip_scale(2.0, Some(1.0)), 0.5);
        assert_eq!(clip_scale(0.5, Some(1.0)), 1.0);
        assert_eq!(clip_scale(100.0, None), 1.0);
    }

    #[test]
    fn the_global_norm_is_that_of_all_gradients_together() {
        let param = Param::from_tensor(random([3, 4], 1));
        let grads = (param.val() * random([3, 4], 2)).sum().backward();
        let grads = GradientsParams::from_grads(grads, &param);
        let expected: f64 = values(random([3, 4], 2)).iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((global_norm(&param, &grads) - expected.sqrt()).abs() < 1e-6);
    }
}
