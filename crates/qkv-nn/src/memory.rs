//! Where tensors of the CPU get their memory, and which device has our kernels.

use std::cell::Cell;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use burn::backend::DispatchDevice;
use burn::tensor::{Bytes, Device, TensorData};
use burn_flex::FlexTensor;
use qkv::pool::Pool;
use qkv::product::Panels;

use crate::ops::flex;

/// Memory that is used again from step to step, by all models of the process.
pub(crate) fn pool() -> &'static Pool {
    static POOL: LazyLock<Pool> = LazyLock::new(Pool::new);
    &POOL
}

thread_local! {
    static COMPOSED: Cell<bool> = const { Cell::new(false) };
}

/// Whether `device` runs the kernels of `qkv`, with or without gradients; others run what is composed of Burn's operations.
pub(crate) fn has_kernels(device: &Device) -> bool {
    matches!(device.as_dispatch().clone().inner(), DispatchDevice::Flex(_)) && !COMPOSED.get()
}

/// Runs the layers that `run` calls on this thread as any other device runs them: composed of Burn's own operations. For
/// comparisons.
pub fn composed<R>(run: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            COMPOSED.set(self.0);
        }
    }
    let _restore = Restore(COMPOSED.replace(true));
    run()
}

/// `len` numbers to be written over: what they are is not said.
pub(crate) fn take(len: usize) -> Vec<f32> {
    pool().take_vec(len)
}

/// Takes back the memory of a tensor that nobody else holds.
pub(crate) fn give(tensor: FlexTensor) {
    if tensor.is_unique() && tensor.as_slice::<f32>().is_some_and(|x| x.len() == tensor.storage::<f32>().len()) {
        let data: TensorData = tensor.into_data();
        if let Ok(numbers) = data.try_into_vec::<f32>() {
            pool().give(numbers);
        }
    }
}

/// Takes back the numbers of a result that was read, for the next results.
pub fn recycle(numbers: Vec<f32>) {
    pool().give(numbers);
}

/// What an operation leaves for its backward pass and what is no tensor.
pub(crate) type Slot<T> = Arc<Mutex<Option<T>>>;

/// An empty slot.
pub(crate) fn slot<T>() -> Slot<T> {
    Slot::default()
}

/// Puts something into a slot that may not be there.
pub(crate) fn fill<T>(slot: Option<&Slot<T>>, content: Option<T>) {
    if let Some(slot) = slot {
        *lock(slot) = content;
    }
}

/// Takes what the forward pass left.
pub(crate) fn take_out<T>(slot: &Slot<T>) -> T {
    lock(slot).take().expect("a backward pass runs once, after its forward pass")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic elsewhere leaves is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Panels, and of which tensors they are: the memory that holds them, and where in it they begin and how many they are.
struct Packed {
    of: Vec<(Weak<Bytes>, usize, usize)>,
    panels: Arc<[Panels]>,
}

impl Packed {
    fn is_of(&self, weights: &[&FlexTensor]) -> bool {
        let same = |(known, start, len): &(Weak<Bytes>, usize, usize), weights: &FlexTensor| {
            (*start, *len) == place(weights)
                && known.upgrade().is_some_and(|known| Arc::ptr_eq(&known, &weights.data_arc()))
        };
        self.of.len() == weights.len() && self.of.iter().zip(weights).all(|(known, weights)| same(known, weights))
    }

    fn is_alive(&self) -> bool {
        self.of.iter().all(|(known, ..)| known.strong_count() > 0)
    }
}

fn place(weights: &FlexTensor) -> (usize, usize) {
    let numbers = flex::slice(weights);
    (numbers.as_ptr().addr(), numbers.len())
}

/// The panels of an operation's weights: its own in training, shared in inference.
pub(crate) enum PanelsFor<const N: usize> {
    Own([Panels; N]),
    Shared(Arc<[Panels]>),
}

impl<const N: usize> PanelsFor<N> {
    pub(crate) fn array(&self) -> &[Panels; N] {
        match self {
            Self::Own(panels) => panels,
            Self::Shared(panels) => panels.as_array().expect("as many as were made"),
        }
    }
}

/// The panels of `weights`, which are contiguous, made by `make`. Where something is kept for a backward pass, they are made each
/// time, for weights change with each step of training.
///
/// Otherwise those that were made before are taken, while the weights live. They are then what they were: who changes a
/// tensor's numbers holds it alone, and Rust's `Arc` moves what is held alone, but remembered here, to another place.
pub(crate) fn panels_for<T, const N: usize>(
    keep: Option<&Slot<T>>,
    weights: &[&FlexTensor],
    make: impl FnOnce() -> [Panels; N],
) -> PanelsFor<N> {
    static KNOWN: Mutex<Vec<Packed>> = Mutex::new(Vec::new());
    // What was made of weights that have changed since, or are gone, is memory for others.
    lock(&KNOWN).retain(Packed::is_alive);
    if keep.is_some() {
        return PanelsFor::Own(make());
    }
    if let Some(found) = lock(&KNOWN).iter().find(|packed| packed.is_of(weights)) {
        return PanelsFor::Shared(found.panels.clone());
    }
    let panels: Arc<[Panels]> = Arc::new(make());
    let of = weights.iter().map(|weights| (Arc::downgrade(&weights.data_arc()), place(weights).0, place(weights).1));
    lock(&KNOWN).push(Packed { of: of.collect(), panels: panels.clone() });
    PanelsFor::Shared(panels)
}
