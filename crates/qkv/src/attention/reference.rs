//! Attention as the formulas say it, one pair of a query and a key after the other, and its backward derived by hand: in f64
//! what the kernels are compared with, in f32 the error that is allowed them.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use super::Shape;
use crate::offsets::Offsets;
use crate::options::{Bias, Buckets, Dropout, Mask, Normalizer, Options, Score, ScoreActivation};
use crate::random::Key;

pub(crate) trait Float:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + From<f32>
    + Into<f64>
{
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn tanh(self) -> Self;
    fn abs(self) -> Self;
}

macro_rules! float {
    ($($ty:ty)*) => { $(impl Float for $ty {
        fn exp(self) -> Self {
            self.exp()
        }
        fn ln(self) -> Self {
            self.ln()
        }
        fn tanh(self) -> Self {
            self.tanh()
        }
        fn abs(self) -> Self {
            self.abs()
        }
    })* };
}
float!(f32 f64);

/// What the reference computes with: packed `[tokens, heads, dim]`.
pub(crate) struct Problem<'a, F> {
    pub(crate) shape: Shape,
    pub(crate) options: Options<'a>,
    pub(crate) queries: &'a Offsets,
    pub(crate) keys: &'a Offsets,
    pub(crate) q: Vec<F>,
    pub(crate) k: Vec<F>,
    pub(crate) v: Vec<F>,
    /// The weights of an additive score, read instead of those that the options hold; empty for others.
    pub(crate) w: Vec<F>,
    /// The numbers of the bias, read instead of those that the options hold.
    pub(crate) bias: Vec<F>,
    /// Pairs of a query and a key, masked or not, in the sets before each.
    pairs_before: Vec<usize>,
}

/// Results, or gradients, of a problem.
pub(crate) struct Results<F> {
    pub(crate) out: Vec<F>,
    pub(crate) lse: Vec<F>,
    pub(crate) dq: Vec<F>,
    pub(crate) dk: Vec<F>,
    pub(crate) dv: Vec<F>,
    /// Of the weights of an additive score.
    pub(crate) d_score: Vec<F>,
    /// Of the numbers of the bias.
    pub(crate) d_bias: Vec<F>,
    /// What only the reference knows; zero for the kernels.
    pub(crate) slack: Slack,
}

/// By what gradients may differ although nobody is wrong.
///
/// Rounding errors of many terms add up like the root of the sum of their squares: here of the gradients of logits, as the sum
/// of what they are differences of, and of the number for which it is largest. For score and bias, which are summed over pairs
/// with weights of all sizes, times the logit if it is larger than 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slack {
    /// Of all pairs of a head, which `d_score` is summed over.
    pub(crate) score_terms: f64,
    /// Of all pairs that read the same number of the bias.
    pub(crate) bias_terms: f64,
    /// Of all pairs with the same key.
    pub(crate) key_terms: f64,
    /// Of all pairs with the same query.
    pub(crate) query_terms: f64,
    /// The sum of the gradients of logits so near to the kink of the ReLU that rounding decides whether they are zero.
    pub(crate) undecided: f64,
    /// The same, each times the factor in front of its number of the bias.
    pub(crate) undecided_bias: f64,
}

/// One row of logits: a set, a head, and a query counted from the beginning of the set.
#[derive(Clone, Copy)]
struct At {
    set: usize,
    head: usize,
    i: usize,
}

/// What comes of a row, for each of the keys that the mask allows.
struct Row<F> {
    /// Counted from the beginning of the set.
    keys: Vec<usize>,
    logits: Vec<F>,
    /// Before dropout.
    weights: Vec<F>,
    lse: F,
}

fn sum<F: Float>(numbers: impl Iterator<Item = F>) -> F {
    numbers.fold(F::from(0.0), |a, b| a + b)
}

/// `x` if positive, else `slope · x`, and its derivative.
fn leaky_relu<F: Float>(x: F, slope: f32) -> (F, F) {
    if x > F::from(0.0) { (x, F::from(1.0)) } else { (F::from(slope) * x, F::from(slope)) }
}

/// What the additive score does to a sum, and its derivative.
fn activate<F: Float>(activation: ScoreActivation, x: F) -> (F, F) {
    match activation {
        ScoreActivation::Tanh => {
            let tanh = x.tanh();
            (tanh, F::from(1.0) - tanh * tanh)
        }
        ScoreActivation::LeakyRelu { slope } => leaky_relu(x, slope),
    }
}

impl<'a, F: Float> Problem<'a, F> {
    pub(crate) fn new(
        shape: Shape,
        options: Options<'a>,
        [queries, keys]: [&'a Offsets; 2],
        [q, k, v]: [&[f32]; 3],
    ) -> Self {
        let convert = |x: &[f32]| x.iter().map(|&x| F::from(x)).collect();
        let w: &[f32] = match options.score {
            Score::Additive { weights, .. } => weights,
            Score::Dot { .. } | Score::RankOne { .. } => &[],
        };
        let bias: &[f32] = match options.bias {
            Bias::None => &[],
            Bias::Alibi { slopes: x, .. }
            | Bias::Buckets { table: x, .. }
            | Bias::Edges { values: x }
            | Bias::Dense { values: x } => x,
        };
        let pairs = queries.lengths().zip(keys.lengths()).scan(0, |before, (q_len, kv_len)| {
            let first = *before;
            *before += q_len * kv_len;
            Some(first)
        });
        let pairs_before = pairs.collect();
        let [q, k, v, w, bias] = [q, k, v, w, bias].map(convert);
        Self { shape, options, queries, keys, q, k, v, w, bias, pairs_before }
    }

    fn q_at(&self, at: At) -> usize {
        ((self.queries.range(at.set).start + at.i) * self.shape.heads + at.head) * self.shape.head_dim
    }

    fn out_at(&self, at: At) -> usize {
        ((self.queries.range(at.set).start + at.i) * self.shape.heads + at.head) * self.shape.value_dim
    }

    fn k_at(&self, at: At, j: usize) -> usize {
        let token = self.keys.range(at.set).start + j;
        (token * self.shape.kv_heads + at.head / self.shape.group()) * self.shape.head_dim
    }

    fn v_at(&self, at: At, j: usize) -> usize {
        let token = self.keys.range(at.set).start + j;
        (token * self.shape.kv_heads + at.head / self.shape.group()) * self.shape.value_dim
    }

    /// The keys that the mask allows a query, counted from the beginning of the set.
    fn allowed(&self, at: At) -> Vec<usize> {
        let keys = self.keys.range(at.set);
        match self.options.mask {
            Mask::Graph(edges) => {
                let row = edges.neighbours(self.queries.range(at.set).start + at.i);
                row.iter().map(|&token| token as usize - keys.start).collect()
            }
            mask => mask.row(at.i, keys.len()).collect(),
        }
    }

    /// What a query and a key make of each other, before the bias.
    fn score(&self, at: At, j: usize) -> F {
        let (q, k) = (self.q_at(at), self.k_at(at, j));
        let width = 0..self.shape.head_dim;
        match self.options.score {
            Score::Dot { softcap, .. } => {
                let product = sum(width.map(|c| self.q[q + c] * self.k[k + c]));
                let x = product * F::from(self.options.score.scale(self.shape.head_dim));
                softcap.map_or(x, |cap| F::from(cap) * (x / F::from(cap)).tanh())
            }
            Score::Additive { activation, .. } => {
                let w = at.head * self.shape.head_dim;
                sum(width.map(|c| self.w[w + c] * activate(activation, self.q[q + c] + self.k[k + c]).0))
            }
            Score::RankOne { slope } => leaky_relu(self.q[q] + self.k[k], slope).0,
        }
    }

    /// From the gradient of a score those of query, key and additive weights.
    fn score_backward(&self, at: At, j: usize, d_score: F, r: &mut Results<F>) {
        let (q, k) = (self.q_at(at), self.k_at(at, j));
        match self.options.score {
            Score::Dot { softcap, .. } => {
                // of cap · tanh(x / cap): 1 - tanh²
                let bent = softcap.map(|cap| self.score(at, j) / F::from(cap));
                let d_x = bent.map_or(d_score, |bent| d_score * (F::from(1.0) - bent * bent));
                let d_product = d_x * F::from(self.options.score.scale(self.shape.head_dim));
                for c in 0..self.shape.head_dim {
                    r.dq[q + c] += d_product * self.k[k + c];
                    r.dk[k + c] += d_product * self.q[q + c];
                }
            }
            Score::Additive { activation, .. } => {
                let w = at.head * self.shape.head_dim;
                for c in 0..self.shape.head_dim {
                    let (activated, derivative) = activate(activation, self.q[q + c] + self.k[k + c]);
                    r.d_score[w + c] += d_score * activated;
                    r.dq[q + c] += d_score * self.w[w + c] * derivative;
                    r.dk[k + c] += d_score * self.w[w + c] * derivative;
                }
            }
            Score::RankOne { slope } => {
                let (_, derivative) = leaky_relu(self.q[q] + self.k[k], slope);
                r.dq[q] += d_score * derivative;
                r.dk[k] += d_score * derivative;
            }
        }
    }

    /// Which number of the bias a pair reads, and the factor in front of it.
    fn bias_of(&self, at: At, j: usize) -> Option<(usize, F)> {
        let (q_len, kv_len) = (self.queries.len_of(at.set), self.keys.len_of(at.set));
        let (query, key) = (self.queries.range(at.set).start + at.i, self.keys.range(at.set).start + j);
        let distance = |offset: isize| (at.i as isize).saturating_add(offset).saturating_sub(j as isize);
        let one = F::from(1.0);
        Some(match self.options.bias {
            Bias::None => return None,
            Bias::Alibi { offset, .. } => (at.head, -F::from(distance(offset).unsigned_abs() as f32)),
            Bias::Buckets { buckets, .. } => {
                let bucket = match buckets {
                    Buckets::Relative { reach, offset } => clamped(distance(offset) as i64, reach),
                    Buckets::Grid { queries, keys, reach } => {
                        let [y, x] = [0, 1].map(|axis| {
                            clamped(i64::from(queries[query][axis]) - i64::from(keys[key][axis]), reach[axis])
                        });
                        y * (2 * reach[1] + 1) + x
                    }
                    Buckets::Stored { pairs, .. } => usize::from(pairs[self.pairs_before[at.set] + at.i * kv_len + j]),
                };
                (at.head * buckets.count() + bucket, one)
            }
            Bias::Edges { .. } => {
                let Mask::Graph(edges) = self.options.mask else { panic!("a bias of edges without edges") };
                let place = edges.neighbours(query).binary_search(&(key as u32)).expect("an edge");
                ((edges.row_offsets()[query] + place) * self.shape.heads + at.head, one)
            }
            Bias::Dense { .. } => {
                let set = self.pairs_before[at.set] * self.shape.heads;
                (set + (at.head * q_len + at.i) * kv_len + j, one)
            }
        })
    }

    /// What dropout multiplies a weight by.
    fn dropout(&self, at: At, j: usize) -> F {
        // (a rate that is always there: the compiler would round that of no dropout before it asks whether there is any, and valgrind
        // complain)
        let Dropout { rate, key } = self.options.dropout.unwrap_or(Dropout { rate: 0.0, key: Key::new(0) });
        let row = key.fold(at.set as u64).fold(at.head as u64).fold(at.i as u64);
        let threshold = (f64::from(rate) * 4_294_967_296.0).round();
        if f64::from(row.bits(j as u64)) >= threshold {
            F::from(1.0) / (F::from(1.0) - F::from(rate))
        } else {
            F::from(0.0)
        }
    }

    fn row(&self, at: At) -> Row<F> {
        let (zero, one) = (F::from(0.0), F::from(1.0));
        let keys = self.allowed(at);
        let logit = |&j: &usize| match self.bias_of(at, j) {
            None => self.score(at, j),
            Some((number, factor)) => self.score(at, j) + factor * self.bias[number],
        };
        let logits: Vec<F> = keys.iter().map(logit).collect();
        let n = F::from(keys.len() as f32);
        let each = |f: &dyn Fn(F) -> F| logits.iter().map(|&x| f(x)).collect();
        let largest = |least: F| logits.iter().fold(least, |a, &b| if b > a { b } else { a });
        let (weights, lse) = match self.options.normalizer {
            // of nothing, or of nothing but -∞
            Normalizer::Softmax if logits.iter().all(|&x| x.into() == f64::NEG_INFINITY) => {
                (each(&|_| zero), F::from(f32::NEG_INFINITY))
            }
            Normalizer::Softmax => {
                let largest = largest(F::from(f32::NEG_INFINITY));
                let sum = sum(logits.iter().map(|&x| (x - largest).exp()));
                (each(&|x| (x - largest).exp() / sum), largest + sum.ln())
            }
            Normalizer::SoftmaxPlusOne => {
                let largest = largest(zero);
                let sum = (-largest).exp() + sum(logits.iter().map(|&x| (x - largest).exp()));
                (each(&|x| (x - largest).exp() / sum), largest + sum.ln())
            }
            Normalizer::Relu => (each(&|x| if x > zero { x / n } else { zero }), zero),
            Normalizer::Sigmoid => (each(&|x| one / (one + (n.ln() - x).exp())), zero),
        };
        Row { keys, logits, weights, lse }
    }

    /// The weights of query `i` of a set and head, for the keys that the mask allows, before dropout; and their log-sum-exp.
    pub(crate) fn weights(&self, set: usize, head: usize, i: usize) -> (Vec<F>, F) {
        let row = self.row(At { set, head, i });
        (row.weights, row.lse)
    }

    /// The weights of query `i` of a set and head, for all keys of the set, after dropout.
    pub(crate) fn dropped_weights(&self, set: usize, head: usize, i: usize) -> Vec<F> {
        let at = At { set, head, i };
        let mut all = vec![F::from(0.0); self.keys.len_of(set)];
        let row = self.row(at);
        row.keys.iter().zip(row.weights).for_each(|(&j, weight)| all[j] = weight * self.dropout(at, j));
        all
    }

    /// Result and gradients, for a gradient of the result.
    pub(crate) fn solve(&self, d_out: &[F]) -> Results<F> {
        let zeros = |n| vec![F::from(0.0); n];
        let Shape { heads, kv_heads, value_dim, .. } = self.shape;
        let tokens = self.queries.tokens();
        let mut r = Results {
            out: zeros(tokens * heads * value_dim),
            lse: zeros(heads * tokens),
            dq: zeros(self.q.len()),
            dk: zeros(self.k.len()),
            dv: zeros(self.v.len()),
            d_score: zeros(self.w.len()),
            d_bias: zeros(self.bias.len()),
            slack: Slack::default(),
        };
        let mut squares = Squares {
            score: vec![0.0; heads],
            bias: vec![0.0; self.bias.len()],
            key: vec![0.0; self.keys.tokens() * kv_heads],
        };
        for set in 0..self.queries.sets() {
            for head in 0..heads {
                for i in 0..self.queries.len_of(set) {
                    let at = At { set, head, i };
                    let row = self.row(at);
                    r.lse[head * tokens + self.queries.range(set).start + i] = row.lse;
                    self.finish_row(at, &row, d_out, &mut r, &mut squares);
                }
            }
        }
        let root = |squares: &[f64]| squares.iter().fold(0.0, |a: f64, &b| a.max(b)).sqrt();
        r.slack.score_terms = root(&squares.score);
        r.slack.bias_terms = root(&squares.bias);
        r.slack.key_terms = root(&squares.key);
        r
    }

    /// The result of a row, and what it adds to the gradients.
    fn finish_row(&self, at: At, row: &Row<F>, d_out: &[F], r: &mut Results<F>, squares: &mut Squares) {
        let (zero, one) = (F::from(0.0), F::from(1.0));
        let n = F::from(row.keys.len() as f32);
        let out = self.out_at(at);
        // out = Σ_j w_j drop_j v_j;  dw_j = drop_j d_out · v_j;  delta = Σ_j w_j dw_j
        let mut delta = zero;
        let mut d_weights = Vec::with_capacity(row.keys.len());
        let mut row_squares: f64 = 0.0;
        for (&w, &j) in row.weights.iter().zip(&row.keys) {
            let v = self.v_at(at, j);
            let drop = self.dropout(at, j);
            let mut product = zero;
            let mut size: f64 = 0.0;
            for c in 0..self.shape.value_dim {
                size += (d_out[out + c] * self.v[v + c]).into().powi(2);
                r.out[out + c] += w * drop * self.v[v + c];
                product += d_out[out + c] * self.v[v + c];
                r.dv[v + c] += w * drop * d_out[out + c];
            }
            delta += w * drop * product;
            d_weights.push((drop * product, size.sqrt() * drop.into()));
        }
        // what both are sums of: they may cancel among themselves, and their rounding does not
        let squares_of_delta = (0..self.shape.value_dim).map(|c| (d_out[out + c] * r.out[out + c]).into().powi(2));
        let delta_size = delta.into().abs().max(squares_of_delta.sum::<f64>().sqrt());
        for (((&w, &logit), &(dw, size)), &j) in row.weights.iter().zip(&row.logits).zip(&d_weights).zip(&row.keys) {
            let size = size.max(dw.into().abs());
            let (d_logit, terms) = match self.options.normalizer {
                Normalizer::Softmax | Normalizer::SoftmaxPlusOne => (w * (dw - delta), w.into() * (size + delta_size)),
                Normalizer::Relu => (if logit > zero { dw / n } else { zero }, size / n.into()),
                Normalizer::Sigmoid => (w * (one - w) * dw, w.into() * size),
            };
            let bias = self.bias_of(at, j);
            if self.is_undecided(at, j, logit) {
                r.slack.undecided += terms;
                r.slack.undecided_bias += bias.map_or(0.0, |(_, factor)| factor.into().abs() * terms);
            }
            // as exact as the weight, which is as exact as the logit in its exponent
            let logit_size = logit.into().abs();
            let terms_of_logits = if logit_size > 1.0 && terms > 0.0 { terms * logit_size } else { terms };
            if let Some((number, factor)) = bias {
                r.d_bias[number] += factor * d_logit;
                squares.bias[number] += (factor.into() * terms_of_logits).powi(2);
            }
            squares.score[at.head] += terms_of_logits.powi(2);
            row_squares += terms.powi(2);
            squares.key[self.k_at(at, j) / self.shape.head_dim] += terms.powi(2);
            self.score_backward(at, j, d_logit, r);
        }
        r.slack.query_terms = r.slack.query_terms.max(row_squares.sqrt());
    }

    /// Whether the ReLU of a logit would have another derivative if the logit had been rounded as an f32 is.
    fn is_undecided(&self, at: At, j: usize, logit: F) -> bool {
        let ulps: f64 = 4.0 * f64::from(f32::EPSILON);
        self.options.normalizer == Normalizer::Relu && logit.abs().into() < ulps * self.terms(at, j)
    }

    /// The sum of the magnitudes that a logit is summed from.
    fn terms(&self, at: At, j: usize) -> f64 {
        let (q, k) = (self.q_at(at), self.k_at(at, j));
        let magnitude = |c: usize| match self.options.score {
            Score::Dot { .. } => self.q[q + c] * self.k[k + c] * F::from(self.options.score.scale(self.shape.head_dim)),
            Score::Additive { activation, .. } => {
                let w = self.w[at.head * self.shape.head_dim + c];
                w * activate(activation, self.q[q + c] + self.k[k + c]).0
            }
            Score::RankOne { .. } => self.q[q] + self.k[k],
        };
        let score: F = sum((0..self.shape.head_dim).map(|c| magnitude(c).abs()));
        let bias = self.bias_of(at, j).map_or(F::from(0.0), |(number, factor)| (factor * self.bias[number]).abs());
        (score + bias).into()
    }

    /// The distance to the nearest place where the formulas have no derivative, in what they take the maximum or the leaky ReLU
    /// of.
    pub(crate) fn nearest_kink(&self) -> f64 {
        let mut nearest = f64::INFINITY;
        let leaky = match self.options.score {
            Score::Dot { .. } | Score::Additive { activation: ScoreActivation::Tanh, .. } => false,
            Score::Additive { .. } | Score::RankOne { .. } => true,
        };
        for set in 0..self.queries.sets() {
            for (head, i) in (0..self.shape.heads).flat_map(|h| (0..self.queries.len_of(set)).map(move |i| (h, i))) {
                let at = At { set, head, i };
                let row = self.row(at);
                let logits = row.logits.iter().filter(|_| self.options.normalizer == Normalizer::Relu).copied();
                let sums = row.keys.iter().filter(|_| leaky).flat_map(|&j| {
                    (0..self.shape.head_dim).map(move |c| self.q[self.q_at(at) + c] + self.k[self.k_at(at, j) + c])
                });
                nearest = logits.chain(sums).fold(nearest, |a, x| a.min(x.abs().into()));
            }
        }
        nearest
    }
}

/// The sums of squares that [`Slack`] is the roots of.
struct Squares {
    /// One for each head.
    score: Vec<f64>,
    /// One for each number of the bias.
    bias: Vec<f64>,
    /// One for each key and head.
    key: Vec<f64>,
}

/// A distance kept within `±reach`, counted from `-reach`.
fn clamped(distance: i64, reach: usize) -> usize {
    let reach = reach as i64;
    (distance.clamp(-reach, reach) + reach) as usize
}
