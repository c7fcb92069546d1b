//! Around the two passes: the weights themselves, two partial results made one, and attention without parameters.
//!
//! None of it is in the hot path of training, so it is written plainly.

use super::choice::{Choice, Scoring};
use super::kernels::Kernels;
use super::pack::Rows;
use super::pipeline::Pipeline;
use super::shape::{AttentionError, Inputs, Saved, Shape, View, ViewMut};
use super::workspace::Workspace;
use crate::isa::Isa;
use crate::offsets::Offsets;
use crate::options::{Normalizer, Options, Score, ScoreActivation};

/// Of which heads and queries [`attention_weights`] are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    /// The set.
    pub set: usize,
    /// Heads of the query.
    pub heads: &'a [usize],
    /// Queries, counted from the beginning of the set.
    pub queries: &'a [usize],
}

/// The weights of some queries, from the log-sum-exps that [`attention_forward`](super::attention_forward) left:
///
/// ```text
/// weights[h][i][j] = e^(logit_ij - lse_i),  0 where the mask forbids
/// ```
///
/// or what other normalisers make of the logit; all of them, whatever dropout leaves out.
///
/// `weights` is `[chosen.heads, chosen.queries, kv_len]`. The values of `inputs` are not read. Takes time and memory in
/// proportion to the result, to the vectors of the batch, and to its graph or stored buckets, which are checked.
///
/// # Errors
///
/// [`AttentionError`] if the parts do not fit together or a choice does not exist.
pub fn attention_weights(
    inputs: &Inputs<'_>,
    options: &Options<'_>,
    lse: &[f64],
    chosen: &Chosen<'_>,
    weights: &mut [f32],
) -> Result<(), AttentionError> {
    inputs.check()?;
    inputs.check_lse(lse.len())?;
    let choice = Choice::new(inputs, options)?;
    let Shape { heads, .. } = inputs.shape;
    check_choice("set", &[chosen.set], inputs.queries.sets())?;
    check_choice("head", chosen.heads, heads)?;
    let queries = inputs.queries.range(chosen.set);
    check_choice("query", chosen.queries, queries.len())?;
    let keys = inputs.keys.range(chosen.set);
    let needed = chosen.heads.len() * chosen.queries.len() * keys.len();
    if weights.len() != needed {
        let (heads, queries, kv_len) = (chosen.heads.len(), chosen.queries.len(), keys.len());
        return Err(AttentionError::Weights { heads, queries, kv_len, found: weights.len() });
    }
    if needed == 0 {
        return Ok(());
    }
    let mut workspace = Workspace::new();
    let (differences, starts) = super::lay_out(inputs, &choice, &mut workspace);
    let kernels = Kernels::of(Isa::detect());
    let pipeline = Pipeline { kernels, inputs, choice: &choice, differences, starts: &starts };
    let chosen_rows = chosen.heads.iter().flat_map(|&head| chosen.queries.iter().map(move |&i| (head, i)));
    for ((head, i), row) in chosen_rows.zip(weights.chunks_exact_mut(keys.len())) {
        row.fill(0.0);
        let lse = lse[head * inputs.queries.tokens() + queries.start + i];
        if lse == f64::NEG_INFINITY {
            continue;
        }
        let edges = choice.edges().map(|edges| (edges, edges.row_offsets()[queries.start + i]));
        let allowed = match edges {
            None => options.mask.row(i, keys.len()),
            Some((edges, _)) => 0..edges.neighbours(queries.start + i).len(),
        };
        let count = allowed.len() as f64;
        for n in allowed {
            // the key, and its edge if there are any
            let (j, edge) = match edges {
                None => (n, 0),
                Some((edges, first)) => (edges.columns()[first + n] as usize - keys.start, first + n),
            };
            let bias = pipeline.bias_of(chosen.set, head, i, j, edge);
            let logit = pipeline.rounded_logit(chosen.set, (head, i, j), bias);
            row[j] = match options.normalizer {
                Normalizer::Softmax | Normalizer::SoftmaxPlusOne => (logit - lse).exp(),
                Normalizer::Relu => logit.max(0.0) / count,
                Normalizer::Sigmoid => 1.0 / (1.0 + count * (-logit).exp()),
            } as f32;
        }
    }
    Ok(())
}

impl Pipeline<'_> {
    /// The logit of one pair, rounded where the kernels round it: `lse` is the sum of such, and of logits of millions it fits no
    /// others.
    fn rounded_logit(&self, set: usize, (head, query, key): (usize, usize, usize), bias: f32) -> f64 {
        let Shape { head_dim, .. } = self.inputs.shape;
        let query = self.inputs.query.row(self.inputs.queries.range(set).start + query, head);
        let key = self.inputs.key.row(self.inputs.keys.range(set).start + key, head / self.inputs.shape.group());
        let scale = self.choice.scale;
        let logit = match self.choice.scoring {
            Scoring::Dot { cap } => {
                let [query, key] = [query, key].map(|start| Rows { start, stride: 0, count: 1, dim: head_dim });
                // SAFETY: the inputs were checked to hold both rows.
                let [product, ..] = unsafe { (self.kernels.row_dots)(query, key) };
                match cap {
                    _ if self.is_bare() => product,
                    None => product.mul_add(scale, bias),
                    Some(cap) => (product * (scale / cap)).tanh().mul_add(cap, bias),
                }
            }
            Scoring::Additive { activation, weights } => {
                // SAFETY: as above.
                let [query, key] = [query, key].map(|row| unsafe { std::slice::from_raw_parts(row, head_dim) });
                let terms = query.iter().zip(key).zip(&weights[head * head_dim..]);
                terms.map(|((q, k), w)| w * activated(activation, q + k)).sum::<f32>() + bias
            }
            Scoring::RankOne { slope } => {
                // SAFETY: as above.
                let sum = unsafe { *query + *key };
                activated(ScoreActivation::LeakyRelu { slope }, sum) + bias
            }
        };
        f64::from(logit) * f64::from(self.backward_factor()) * std::f64::consts::LN_2
    }
}

fn activated(activation: ScoreActivation, x: f32) -> f32 {
    match activation {
        ScoreActivation::Tanh => x.tanh(),
        ScoreActivation::LeakyRelu { slope } => {
            if x > 0.0 {
                x
            } else {
                slope * x
            }
        }
    }
}

fn check_choice(what: &'static str, chosen: &[usize], count: usize) -> Result<(), AttentionError> {
    match chosen.iter().find(|&&n| n >= count) {
        Some(&found) => Err(AttentionError::Choice { what, found, count }),
        None => Ok(()),
    }
}

/// Attention over the keys of `a` and those of `b`, from the attention over each:
///
/// ```text
/// lse = ln(e^lse_a + e^lse_b);  out = e^(lse_a - lse) · out_a + e^(lse_b - lse) · out_b
/// ```
///
/// for keys that live elsewhere or come later. Under [`Normalizer::SoftmaxPlusOne`] the 1 that both have counted counts once:
/// `lse = ln(e^lse_a + e^lse_b - 1)`. `dims` are `[tokens, heads, value_dim]` of all results; log-sum-exps are
/// `[heads, tokens]`.
///
/// # Errors
///
/// [`AttentionError`] if a result is smaller than that, if there are more or fewer log-sum-exps, or if the normaliser has no sum.
pub fn merge(
    a: &Saved<'_>,
    b: &Saved<'_>,
    (dims, normalizer): ([usize; 3], Normalizer),
    out: ViewMut<'_>,
    lse: &mut [f64],
) -> Result<(), AttentionError> {
    if !normalizer.has_sum() {
        return Err(AttentionError::Merge { normalizer });
    }
    let twice = if normalizer == Normalizer::SoftmaxPlusOne { 1.0 } else { 0.0 };
    let [tokens, heads, value_dim] = dims;
    if heads == 0 {
        return Err(AttentionError::Heads { heads, kv_heads: heads });
    }
    if value_dim == 0 {
        return Err(AttentionError::Dims { head_dim: value_dim, value_dim });
    }
    a.out.check("a", tokens, heads, value_dim)?;
    b.out.check("b", tokens, heads, value_dim)?;
    out.check("out", tokens, heads, value_dim)?;
    for found in [a.lse.len(), b.lse.len(), lse.len()] {
        if found != heads * tokens {
            return Err(AttentionError::Lse { heads, tokens, found });
        }
    }
    for head in 0..heads {
        for token in 0..tokens {
            let n = head * tokens + token;
            // (a maximum that lets NaN through)
            let largest = if a.lse[n] > b.lse[n] || a.lse[n].is_nan() { a.lse[n] } else { b.lse[n] };
            // Neither saw a key: both results are zero, and any factors will do.
            let both = if largest == f64::NEG_INFINITY {
                largest
            } else {
                let sum = (a.lse[n] - largest).exp() + (b.lse[n] - largest).exp() - twice * (-largest).exp();
                largest + sum.ln()
            };
            let factor = |lse: f64| if lse == f64::NEG_INFINITY { 0.0 } else { (lse - both).exp() as f32 };
            let (factor_a, factor_b) = (factor(a.lse[n]), factor(b.lse[n]));
            lse[n] = both;
            for c in 0..value_dim {
                // SAFETY: all three were checked to hold the row.
                unsafe {
                    let (a, b) = (*a.out.row(token, head).add(c), *b.out.row(token, head).add(c));
                    *out.row(token, head).add(c) = factor_a * a + factor_b * b;
                }
            }
        }
    }
    Ok(())
}

/// Attention in its barest form, without a parameter: every vector becomes the mean of all, weighted by how well they go
/// with it.
///
/// ```text
/// y_i = Σ_j softmax_j(x_i · x_j) x_j
/// ```
///
/// `x` is `[tokens, dim]`, as is the result.
///
/// # Errors
///
/// [`AttentionError`] if `dim` is 0 or `x` is not a whole number of vectors.
pub fn self_attention(x: &[f32], dim: usize) -> Result<Vec<f32>, AttentionError> {
    if dim == 0 {
        return Err(AttentionError::Dims { head_dim: dim, value_dim: dim });
    }
    if !x.len().is_multiple_of(dim) {
        return Err(AttentionError::Remainder { dim, found: x.len() });
    }
    let tokens = x.len() / dim;
    let sets = Offsets::from_lengths([tokens]);
    let view = View::new(x, 1, dim);
    let shape = Shape::new(1, dim);
    let inputs = Inputs { shape, query: view, key: view, value: view, queries: &sets, keys: &sets };
    let options = Options { score: Score::Dot { scale: Some(1.0), softcap: None }, ..Options::default() };
    let (mut y, mut lse) = (vec![0.0; x.len()], vec![0.0; tokens]);
    super::attention_forward(&inputs, &options, ViewMut::new(&mut y, 1, dim), &mut lse, &mut Workspace::new())?;
    Ok(y)
}
