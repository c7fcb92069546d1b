//! Burn layers for self-attention.
//!
//! What belongs here: the operations of the hot path with their hand-written gradients ([`ops`]), attention over packed
//! sets ([`attention`]), the modules built on both ([`layers`]), and the step of the optimiser ([`optim`]). What does not:
//! files, vocabularies, tasks, losses of a particular task, training loops.
//!
//! On the CPU all of it runs on the kernels of the crate `qkv`; on other devices, and within [`composed`], on Burn's own
//! operations.
//!
//! Every tensor that holds the vectors of a batch is *packed*: `[tokens, dim]`, all vectors of all sets end to end, with
//! [`qkv::Offsets`] beside it.
#![deny(missing_docs)]

pub mod attention;
pub mod layers;
mod memory;
pub mod ops;
pub mod optim;

pub use memory::{composed, recycle};
