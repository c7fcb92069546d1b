//! One pass through a model: whether it trains, and from which numbers it drops.

use std::cell::Cell;

use burn::tensor::Tensor;
use qkv::random::Key;

use crate::ops::dropout;

/// Handed through a forward pass. Each dropout of a pass draws from its own stream: the key folded with its number in the
/// order of the pass, so a pass is a function of the key.
#[derive(Debug)]
pub struct Pass {
    key: Option<Key>,
    sites: Cell<u64>,
}

impl Pass {
    /// Nothing is dropped.
    pub fn inference() -> Self {
        Self { key: None, sites: Cell::new(0) }
    }

    /// Dropout draws from `key`, which names the seed and the step.
    pub fn training(key: Key) -> Self {
        Self { key: Some(key), sites: Cell::new(0) }
    }

    /// Rate and key for the next dropout of this pass; `None` if nothing is to be dropped.
    pub fn next(&self, rate: f32) -> Option<(f32, Key)> {
        let site = self.sites.get();
        self.sites.set(site + 1);
        self.key.filter(|_| rate > 0.0).map(|key| (rate, key.fold(site)))
    }

    /// `x` with dropout in training, `x` otherwise.
    pub fn dropout<const D: usize>(&self, x: Tensor<D>, rate: f32) -> Tensor<D> {
        match self.next(rate) {
            Some((rate, key)) => dropout(x, rate, key),
            None => x,
        }
    }
}
