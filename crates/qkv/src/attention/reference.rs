//! Attention as the formulas say it, one query after the other, and its backward derived by hand: in f64 what the kernels
//! are compared with, in f32 the error that is allowed them.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

use super::Shape;
use crate::offsets::Offsets;
use crate::options::Mask;

pub(crate) trait Float:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + From<f32>
    + Into<f64>
{
    fn exp(self) -> Self;
    fn ln(self) -> Self;
}

macro_rules! float {
    ($($ty:ty)*) => { $(impl Float for $ty {
        fn exp(self) -> Self {
            self.exp()
        }
        fn ln(self) -> Self {
            self.ln()
        }
    })* };
}
float!(f32 f64);

/// What the reference computes with: packed `[tokens, heads, dim]`.
pub(crate) struct Problem<'a, F> {
    pub(crate) shape: Shape,
    pub(crate) mask: Mask,
    pub(crate) scale: f32,
    pub(crate) queries: &'a Offsets,
    pub(crate) keys: &'a Offsets,
    pub(crate) q: Vec<F>,
    pub(crate) k: Vec<F>,
    pub(crate) v: Vec<F>,
}

/// Results, or gradients, of a problem.
pub(crate) struct Results<F> {
    pub(crate) out: Vec<F>,
    pub(crate) lse: Vec<F>,
    pub(crate) dq: Vec<F>,
    pub(crate) dk: Vec<F>,
    pub(crate) dv: Vec<F>,
}

impl<F: Float> Problem<'_, F> {
    /// The weights of query `i` of a set and head, for the keys that the mask allows, and their log-sum-exp.
    pub(crate) fn weights(&self, set: usize, head: usize, i: usize) -> (Vec<F>, F) {
        let zero = F::from(0.0);
        let (queries, keys) = (self.queries.range(set), self.keys.range(set));
        let q = self.q_at(queries.start + i, head);
        let allowed = self.mask.row(i, keys.len());
        let logits: Vec<F> = allowed
            .map(|j| {
                let k = self.k_at(keys.start + j, head);
                let mut sum = zero;
                (0..self.shape.head_dim).for_each(|c| sum += self.q[q + c] * self.k[k + c]);
                sum * F::from(self.scale)
            })
            .collect();
        let largest = logits.iter().fold(F::from(f32::NEG_INFINITY), |a, &b| if b > a { b } else { a });
        let raised: Vec<F> = logits.iter().map(|&x| (x - largest).exp()).collect();
        let mut sum = zero;
        raised.iter().for_each(|&x| sum += x);
        (raised.iter().map(|&x| x / sum).collect(), largest + sum.ln())
    }

    fn q_at(&self, token: usize, head: usize) -> usize {
        (token * self.shape.heads + head) * self.shape.head_dim
    }

    fn out_at(&self, token: usize, head: usize) -> usize {
        (token * self.shape.heads + head) * self.shape.value_dim
    }

    fn k_at(&self, token: usize, head: usize) -> usize {
        (token * self.shape.kv_heads + head / self.shape.group()) * self.shape.head_dim
    }

    fn v_at(&self, token: usize, head: usize) -> usize {
        (token * self.shape.kv_heads + head / self.shape.group()) * self.shape.value_dim
    }

    /// Result and gradients, for a gradient of the result.
    pub(crate) fn solve(&self, d_out: &[F]) -> Results<F> {
        let zero = F::from(0.0);
        let Shape { heads, head_dim, value_dim, .. } = self.shape;
        let tokens = self.queries.tokens();
        let mut r = Results {
            out: vec![zero; tokens * heads * value_dim],
            lse: vec![F::from(f32::NEG_INFINITY); heads * tokens],
            dq: vec![zero; self.q.len()],
            dk: vec![zero; self.k.len()],
            dv: vec![zero; self.v.len()],
        };
        for set in 0..self.queries.sets() {
            let (queries, keys) = (self.queries.range(set), self.keys.range(set));
            for head in 0..heads {
                for i in 0..queries.len() {
                    let allowed = self.mask.row(i, keys.len());
                    if allowed.is_empty() {
                        continue;
                    }
                    let (weights, lse) = self.weights(set, head, i);
                    let token = queries.start + i;
                    r.lse[head * tokens + token] = lse;
                    let (q, out) = (self.q_at(token, head), self.out_at(token, head));
                    // out = Σ_j w_j v_j;  dw_j = d_out · v_j;  delta = Σ_j w_j dw_j
                    let mut delta = zero;
                    let mut d_weights = Vec::with_capacity(weights.len());
                    for (&w, j) in weights.iter().zip(allowed.clone()) {
                        let v = self.v_at(keys.start + j, head);
                        let mut d_weight = zero;
                        for c in 0..value_dim {
                            r.out[out + c] += w * self.v[v + c];
                            d_weight += d_out[out + c] * self.v[v + c];
                            r.dv[v + c] += w * d_out[out + c];
                        }
                        delta += w * d_weight;
                        d_weights.push(d_weight);
                    }
                    // logit_j = scale q · k_j;  d_logit_j = w_j (dw_j - delta)
                    for ((&w, &d_weight), j) in weights.iter().zip(&d_weights).zip(allowed) {
                        let k = self.k_at(keys.start + j, head);
                        let d_product = w * (d_weight - delta) * F::from(self.scale);
                        for c in 0..head_dim {
                            r.dq[q + c] += d_product * self.k[k + c];
                            r.dk[k + c] += d_product * self.q[q + c];
                        }
                    }
                }
            }
        }
        r
    }
}
