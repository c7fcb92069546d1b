//! Self-attention on the CPU: the kernels and the types they speak.
//!
//! Everything takes and gives `f32` slices, row-major, without a framework. A batch is *packed*: the vectors of all sets
//! end to end, `[tokens, dim]`, with [`Offsets`] saying where each set begins.
//!
//! # What always holds
//!
//! - **Same input, same bits**, with any number of threads: work is split by shape alone, and partial sums are added in
//!   a fixed order. Threads are those of the current rayon pool; small inputs stay on the calling thread.
//! - **A wrong length panics**, with the shapes in the message; each function says so under `# Panics`. Data that comes
//!   from outside is checked by the constructors [`Offsets::new`] and [`Csr::new`], which return [`ShapeError`]. The functions of
//!   [`attention`], which take more than one can see at a glance, return an error instead.
//! - **The instruction set is picked at run time**, see [`Isa`].
//!
//! Each module of arithmetic begins with its formulas, forward and backward. How the latter are derived is written in
//! `docs/arithmetic.md` of the repository.

pub mod attention;
mod awake;
mod blocks;
mod math;
mod simd;
mod strip;
mod tile;
mod work;

pub mod activation;
pub mod csr;
pub mod ctc;
pub mod dropout;
pub mod gather;
pub mod isa;
pub mod linear;
pub mod loss;
pub mod lstm;
pub mod matmul;
pub mod norm;
pub mod offsets;
pub mod optim;
pub mod options;
pub mod pages;
pub mod peak;
pub mod pool;
pub mod product;
pub mod random;
pub mod rank_one;
pub mod sublayer;

#[cfg(test)]
mod testing;

pub use awake::awake;
pub use csr::Csr;
pub use isa::{Isa, IsaError};
pub use offsets::{Offsets, ShapeError};
pub use pages::LargePages;
pub use random::Key;
