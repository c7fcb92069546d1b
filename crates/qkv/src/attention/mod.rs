//! Attention over packed sets, forward and backward, without ever holding N × N weights.
//!
//! For each set and each head, with query `i` and the keys `j` that the mask lets it see:
//!
//! ```text
//! logit_ij = scale · q_i · k_j        weight_ij = e^(logit_ij - lse_i),  lse_i = ln Σ_j e^logit_ij
//! out_i    = Σ_j weight_ij · v_j
//! ```
//!
//! and backward, from the gradient of `out`:
//!
//! ```text
//! delta_i   = d_out_i · out_i
//! d_logit_ij = weight_ij · (d_out_i · v_j - delta_i)
//! d_v_j = Σ_i weight_ij · d_out_i      d_q_i = scale · Σ_j d_logit_ij · k_j      d_k_j = scale · Σ_i d_logit_ij · q_i
//! ```
//!
//! Those are the default [`Options`]. Other scores, normalisers, masks, biases and dropout go each with each, and every learned
//! number among them has a gradient; [`options`](crate::options) has their formulas.
//!
//! Weights are computed tile by tile and computed again in the backward pass (Rabe and Staats, 2021; Dao et al., 2022), so
//! memory grows with the length of a set, or with its edges, never with its square. `docs/attention.md` of the repository
//! derives both and says where the time goes, `docs/attention-options.md` does so for the options.
//!
//! ```
//! use qkv::attention::{Inputs, Shape, View, ViewMut, Workspace, attention_forward};
//! use qkv::{Offsets, options::{Mask, Options}};
//!
//! // two sets, of 3 and of 5 vectors, end to end; 2 heads of width 4
//! let sets = Offsets::from_lengths([3, 5]);
//! let (query, key, value) = (vec![0.1; 8 * 2 * 4], vec![0.2; 8 * 2 * 4], vec![0.3; 8 * 2 * 4]);
//! let inputs = Inputs {
//!     shape: Shape::new(2, 4),
//!     query: View::new(&query, 2, 4),
//!     key: View::new(&key, 2, 4),
//!     value: View::new(&value, 2, 4),
//!     queries: &sets,
//!     keys: &sets,
//! };
//! let options = Options { mask: Mask::Causal { offset: 0 }, ..Options::default() };
//! let (mut out, mut lse) = (vec![0.0; 8 * 2 * 4], vec![0.0; 2 * 8]);
//! attention_forward(&inputs, &options, ViewMut::new(&mut out, 2, 4), &mut lse, &mut Workspace::new())?;
//! assert!(out.iter().all(|x| (x - 0.3_f32).abs() < 1e-6)); // the mean of equal values
//! # Ok::<(), qkv::attention::AttentionError>(())
//! ```
//!
//! # What always holds
//!
//! - **No set sees another**, whatever is in it. `out`, `lse` and the gradients of key and value have the bits that a set has
//!   alone; how the gradients of the query, of biases and of the score's weights are summed, by blocks of keys, depends on
//!   what else there is to do. Under dropout, what is left out depends on the set's number.
//! - **The same bits with any number of threads.** Every instruction set has its own.
//! - **A row that may attend to nothing** gives zeros and no gradient, and a log-sum-exp of -∞. So does one whose logits are all
//!   -∞. (Of [`SoftmaxPlusOne`](crate::options::Normalizer::SoftmaxPlusOne) the log-sum-exp is then 0. Normalisers without a
//!   sum have none: theirs is always 0.)
//! - **Finite logits give finite results**, however large. (Beyond 10¹² the log-sum-exp has no digits left for how many keys share
//!   the largest logit: `out` is right, weights and gradients computed from it are not.)
//! - **Infinity and NaN**: forward, a logit of -∞ takes no part, and one of ∞ or NaN makes its row of `out` NaN. A value that
//!   is not finite makes every row NaN that computes with it, which may be a few more than the mask lets see it: tiles
//!   compute with whole registers, and 0 · NaN is NaN. Backward, anything that is not finite may reach every gradient of
//!   its set and head, for the same reason. It never reaches another set.
//!
//! # What is where
//!
//! `forward.rs` and `backward.rs` are the algorithm over tiles, `edges.rs` the same along the edges of sparse graphs, `scored.rs` there for
//! scores of rank one (what both have in common is in `walk.rs`), `few.rs` for a few queries against many keys. `choice.rs` checks the options; `weights.rs` is what depends on score and normaliser,
//! `bias.rs` on the bias, `pipeline.rs` what tiles of all kinds go through between products and sums.
//!
//! What is compiled for each instruction set, as `kernels.rs` lists it: `micro.rs`, the two register tiles that nearly all time
//! goes into; `softmax.rs`, `steps.rs` and `tables.rs`, what is done between them; `additive.rs`, scores that are no products;
//! `along.rs` and `direct.rs`, products and sums of rows where they lie; `scored_row.rs` and `scored_steps.rs`, those for scores of rank one
//! along edges; `pack.rs`, how operands are laid out for tiles.
//!
//! `plan.rs` splits the work; `shape.rs` and `workspace.rs` are what callers hold.

mod additive;
mod along;
mod backward;
mod bias;
mod choice;
mod direct;
mod edges;
mod explain;
mod extras;
mod few;
mod forward;
pub(crate) mod kernels;
pub(crate) mod micro;
pub(crate) mod pack;
mod pipeline;
mod plan;
mod scored;
mod scored_row;
mod scored_steps;
mod shape;
mod softmax;
mod steps;
mod tables;
mod walk;
mod weights;
mod workspace;

pub(crate) use along::pair_dot;
pub use explain::{Explanation, Pass, Tile, explain};
pub use extras::{Chosen, attention_weights, merge, self_attention};
pub use shape::{AttentionError, Gradients, Inputs, Saved, Shape, VectorGradients, View, ViewMut};
pub use workspace::Workspace;

use crate::isa::Isa;
use crate::options::Options;
use choice::Choice;
use kernels::Kernels;
use pipeline::Pipeline;
use scored::Keep;
use workspace::Shared;

/// `out` and `lse` of `inputs`: see the [module](self).
///
/// `out` is `[query tokens, heads, value_dim]`. `lse` is `[heads, query tokens]`, in natural logarithms, -∞ for a row that
/// attends to nothing; in f64, because it is all that the backward pass has to normalise with. It may be empty where no backward pass
/// follows: a few queries then read keys and values where they lie.
///
/// # Errors
///
/// [`AttentionError`] if shapes, or the numbers of an option, do not fit together.
pub fn attention_forward(
    inputs: &Inputs<'_>,
    options: &Options<'_>,
    out: ViewMut<'_>,
    lse: &mut [f64],
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    attention_forward_keeping(inputs, options, out, lse, &mut [], workspace)
}

/// How many numbers [`attention_forward_keeping`] keeps for the backward pass: 0 but of a softmax of
/// [scores of rank one](crate::options::Score::RankOne) along the edges of a graph, without a bias. There it is a number for each edge and
/// head (two under dropout) and `value_dim + 2` for each query and head, filled up to cache lines.
///
/// # Errors
///
/// [`AttentionError`] if shapes, or the numbers of an option, do not fit together.
pub fn kept_numbers(inputs: &Inputs<'_>, options: &Options<'_>) -> Result<usize, AttentionError> {
    inputs.check()?;
    let choice = Choice::new(inputs, options)?;
    Ok(Keep::new(inputs, &choice).map_or(0, |keep| keep.numbers()))
}

/// The same as [`attention_forward`], which keeps [so many](kept_numbers) numbers for the backward pass, so that it need not compute
/// weights again: where neighbours lie anywhere in memory, that takes longer than to read what was kept.
///
/// `kept` then goes with `out` and `lse` into [`Saved`]. What is in it depends on inputs and options: with those of another call it fits
/// by its length alone, and the gradients are wrong.
///
/// # Errors
///
/// As [`attention_forward`], or if `kept` has another length; it may be empty, and nothing is kept.
pub fn attention_forward_keeping(
    inputs: &Inputs<'_>,
    options: &Options<'_>,
    out: ViewMut<'_>,
    lse: &mut [f64],
    kept: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    forward_with(Kernels::of(Isa::detect()), inputs, options, out, lse, kept, workspace)
}

pub(crate) fn forward_with(
    kernels: &'static Kernels,
    inputs: &Inputs<'_>,
    options: &Options<'_>,
    out: ViewMut<'_>,
    lse: &mut [f64],
    kept: &mut [f32],
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    inputs.check()?;
    inputs.check_out_mut(&out)?;
    if !lse.is_empty() {
        inputs.check_lse(lse.len())?;
    }
    let choice = Choice::new(inputs, options)?;
    let keep = keep_of(inputs, &choice, kept)?.map(|keep| keep.at(kept));
    let (differences, starts) = lay_out(inputs, &choice, workspace);
    let pipeline = Pipeline { kernels, inputs, choice: &choice, differences, starts: &starts };
    forward::forward(pipeline, &out, lse, keep, workspace);
    workspace.starts = starts;
    Ok(())
}

/// The gradients of query, key and value, and those of the score's weights and the bias if they are wanted, given that of the
/// result: see the [module](self).
///
/// `inputs` and `options` are those of the forward pass, `saved` is what it gave, `d_out` is laid out as `out`. Sums over the
/// queries of a set are taken in a fixed order; with grouped heads the gradients of keys and values are sums over the group.
///
/// # Errors
///
/// [`AttentionError`] if shapes, or the numbers of an option, do not fit together, or if a gradient is asked for of what the
/// options do not have.
pub fn attention_backward(
    inputs: &Inputs<'_>,
    options: &Options<'_>,
    saved: &Saved<'_>,
    d_out: View<'_>,
    gradients: Gradients<'_>,
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    backward_with(Kernels::of(Isa::detect()), inputs, options, saved, (d_out, gradients), workspace)
}

pub(crate) fn backward_with(
    kernels: &'static Kernels,
    inputs: &Inputs<'_>,
    options: &Options<'_>,
    saved: &Saved<'_>,
    (d_out, mut gradients): (View<'_>, Gradients<'_>),
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    inputs.check()?;
    inputs.check_out("out", &saved.out)?;
    inputs.check_out("d_out", &d_out)?;
    inputs.check_lse(saved.lse.len())?;
    inputs.check_gradients(&gradients)?;
    let choice = Choice::new(inputs, options)?;
    choice.check_gradients(&gradients)?;
    let keep = keep_of(inputs, &choice, saved.kept)?;
    let (differences, starts) = lay_out(inputs, &choice, workspace);
    let pipeline = Pipeline { kernels, inputs, choice: &choice, differences, starts: &starts };
    backward::backward(pipeline, saved, keep, (&d_out, &mut gradients), workspace);
    workspace.starts = starts;
    Ok(())
}

/// Where what is kept lies, if anything is.
fn keep_of(inputs: &Inputs<'_>, choice: &Choice<'_>, kept: &[f32]) -> Result<Option<Keep>, AttentionError> {
    let keep = Keep::new(inputs, choice);
    let (needed, found) = (keep.map_or(0, |keep| keep.numbers()), kept.len());
    match found {
        0 => Ok(None),
        _ if found == needed => Ok(keep.map(|keep| keep.of(kept))),
        _ => Err(AttentionError::Kept { needed, found }),
    }
}

/// What a bias needs beside its numbers: those by difference, for each head, and where each set's begin.
fn lay_out(inputs: &Inputs<'_>, choice: &Choice<'_>, workspace: &mut Workspace) -> (Shared, Vec<usize>) {
    let width = choice.differences.width();
    workspace.differences.reserve(inputs.shape.heads * width);
    let numbers = Shared(workspace.differences.as_mut_ptr());
    if width > 0 {
        for head in 0..inputs.shape.heads {
            // SAFETY: the buffer has room for all heads.
            let of_head = unsafe { std::slice::from_raw_parts_mut(numbers.at(head * width), width) };
            choice.lay_out_differences(head, of_head);
        }
    }
    let mut starts = std::mem::take(&mut workspace.starts);
    choice.lay_out_starts(inputs, &mut starts);
    (numbers, starts)
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
