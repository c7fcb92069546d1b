//! Pooling: one vector for a whole set.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use qkv::Offsets;
use qkv::activation::Activation;
use qkv::gather::NONE;

use super::{Init, Linear};
use crate::attention::{AttentionExtras, AttentionOptions, Layout, attention};
use crate::ops::gather_sum;

/// How the vectors of a set become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingKind {
    /// Their mean.
    Mean,
    /// Their sum, over 16, which tells how many there are, as what grows with a molecule asks for.
    Sum,
    /// Their sum and their mean, end to end: what grows with a set, and what it is made of.
    SumMean,
    /// The first, of sets that begin with a vector that stands for the whole (Devlin et al., 2019).
    First,
    /// The first and the last, through a linear layer: what an LSTM knows at the end of either direction.
    Ends,
    /// All of them end to end through a fully connected layer with GELU, of sets that have so many vectors each.
    Flat {
        /// Vectors of a set.
        vectors: usize,
    },
    /// Attention with a learned query, in so many heads.
    Attention {
        /// Heads; `d_model` divides by it.
        heads: usize,
    },
}

/// What sums are divided by, so that those of sets of some dozen vectors are of the size of one.
pub(super) const SUMMED: f32 = 16.0;

/// One vector for each set.
#[derive(Module, Debug)]
pub struct Pooling {
    /// `[heads, head_dim]`.
    query: Option<Param<Tensor<2>>>,
    key: Option<Linear>,
    join: Option<Linear>,
    #[module(skip)]
    kind: PoolingKind,
}

impl Pooling {
    /// A pooling of vectors of `d_model` elements.
    ///
    /// # Panics
    /// If `d_model` does not divide by the number of heads.
    pub fn new(kind: PoolingKind, d_model: usize, init: &Init) -> Self {
        let pooling = Self { query: None, key: None, join: None, kind };
        match kind {
            PoolingKind::Mean | PoolingKind::Sum | PoolingKind::SumMean | PoolingKind::First => pooling,
            PoolingKind::Ends => Self { join: Some(Linear::new(2 * d_model, d_model, init)), ..pooling },
            PoolingKind::Flat { vectors } => {
                Self { join: Some(Linear::new(vectors * d_model, d_model, init)), ..pooling }
            }
            PoolingKind::Attention { heads } => {
                assert!(
                    heads > 0 && d_model.is_multiple_of(heads),
                    "d_model {d_model} does not divide by {heads} heads"
                );
                let deviation = 1.0 / (d_model as f32).sqrt();
                Self {
                    query: Some(init.normal([heads, d_model / heads], deviation)),
                    key: Some(Linear::new(d_model, d_model, init)),
                    ..pooling
                }
            }
        }
    }

    /// How many numbers [`Pooling::new`] would make.
    pub fn parameter_count(kind: PoolingKind, d_model: usize) -> u128 {
        let d = d_model as u128;
        match kind {
            PoolingKind::Mean | PoolingKind::Sum | PoolingKind::SumMean | PoolingKind::First => 0,
            PoolingKind::Ends => 2 * d * d + d,
            PoolingKind::Flat { vectors } => vectors as u128 * d * d + d,
            PoolingKind::Attention { .. } => d + d * d + d,
        }
    }

    /// How many elements come out for each set: `d_model`, or twice as many.
    pub fn width(kind: PoolingKind, d_model: usize) -> usize {
        if kind == PoolingKind::SumMean { 2 * d_model } else { d_model }
    }

    /// `[tokens, d_model]` to `[sets, width]`. A set without vectors counts as one of zeros.
    pub fn forward(&self, x: Tensor<2>, layout: &Layout) -> Tensor<2> {
        let ([_, d_model], offsets) = (x.dims(), layout.offsets());
        match self.kind {
            PoolingKind::First => gather_sum(x, ends(offsets, |rows| rows.start), 1),
            PoolingKind::Ends => {
                let first = gather_sum(x.clone(), ends(offsets, |rows| rows.start), 1);
                let last = gather_sum(x, ends(offsets, |rows| rows.end - 1), 1);
                let join = self.join.as_ref().expect("made with this kind");
                join.forward(Tensor::cat(vec![first, last], 1), Activation::Identity)
            }
            PoolingKind::Flat { vectors } => {
                let join = self.join.as_ref().expect("made with this kind");
                join.forward(x.reshape([offsets.sets(), vectors * d_model]), Activation::Gelu)
            }
            PoolingKind::Sum => summed(self.mean(x, layout), offsets),
            PoolingKind::SumMean => {
                let mean = self.mean(x, layout);
                Tensor::cat(vec![summed(mean.clone(), offsets), mean], 1)
            }
            PoolingKind::Mean => self.mean(x, layout),
            PoolingKind::Attention { heads } => {
                let (query, key) = self.query.as_ref().zip(self.key.as_ref()).expect("made with this kind");
                let (sets, head_dim) = (offsets.sets(), d_model / heads);
                // One and the same for each set, of which there may be none.
                let query = gather_sum(query.val().reshape([1, d_model]), vec![0; sets].into(), 1);
                let query = query.reshape([sets, heads, head_dim]);
                let key = key.forward(x.clone(), Activation::Identity).reshape([offsets.tokens(), heads, head_dim]);
                self.attend(query, key, x, heads, layout).reshape([sets, d_model])
            }
        }
    }

    /// The mean of each set.
    fn mean(&self, x: Tensor<2>, layout: &Layout) -> Tensor<2> {
        // Attention with logits of 0 looks at all alike.
        let ([_, d_model], offsets) = (x.dims(), layout.offsets());
        let zeros = |rows: usize| Tensor::zeros([rows, 1, 1], &x.device());
        let (query, key) = (zeros(offsets.sets()), zeros(offsets.tokens()));
        self.attend(query, key, x, 1, layout).reshape([offsets.sets(), d_model])
    }

    /// One query for each set.
    fn attend(&self, query: Tensor<3>, key: Tensor<3>, x: Tensor<2>, heads: usize, layout: &Layout) -> Tensor<3> {
        let ([tokens, d_model], offsets) = (x.dims(), layout.offsets());
        let value = x.reshape([tokens, heads, d_model / heads]);
        let queries = Offsets::from_lengths(vec![1; offsets.sets()]);
        let layout = Layout::cross(queries, offsets.clone());
        attention(query, key, value, &AttentionExtras::default(), &layout, &AttentionOptions::default())
    }
}

/// From the mean of each set to its sum over [`SUMMED`].
fn summed(mean: Tensor<2>, offsets: &Offsets) -> Tensor<2> {
    let lengths: Vec<f32> = offsets.lengths().map(|length| length as f32 / SUMMED).collect();
    let lengths = Tensor::from_data(TensorData::new(lengths, [offsets.sets(), 1]), &mean.device());
    mean * lengths
}

/// One row of each set that has any.
fn ends(offsets: &Offsets, end: impl Fn(std::ops::Range<usize>) -> usize) -> Arc<[u32]> {
    let of = |set| match offsets.range(set) {
        rows if rows.is_empty() => NONE,
        rows => end(rows) as u32,
    };
    (0..offsets.sets()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use burn::module::{ModuleVisitor, ParamId};

    use super::*;
    use crate::composed;
    use crate::ops::testing::{assert_close, device, random, values};

    const D_MODEL: usize = 6;
    const HEADS: usize = 2;
    const KINDS: [PoolingKind; 6] = [
        PoolingKind::Mean,
        PoolingKind::Sum,
        PoolingKind::SumMean,
        PoolingKind::First,
        PoolingKind::Ends,
        PoolingKind::Attention { heads: HEADS },
    ];
    /// A single vector, many, none, and few.
    const LENGTHS: [usize; 4] = [1, 70, 0, 5];

    fn pooling(kind: PoolingKind) -> Pooling {
        Pooling::new(kind, D_MODEL, &Init::new(5, &device()))
    }

    fn pool(pooling: &Pooling, x: Tensor<2>, lengths: &[usize]) -> Tensor<2> {
        pooling.forward(x, &Layout::new(Offsets::from_lengths(lengths.iter().copied())))
    }

    fn vectors(lengths: &[usize]) -> Tensor<2> {
        random([lengths.iter().sum(), D_MODEL], 1)
    }

    fn width(kind: PoolingKind) -> usize {
        Pooling::width(kind, D_MODEL)
    }

    /// Row `row` of `x`.
    fn row(x: &[f32], row: usize) -> &[f32] {
        &x[row * D_MODEL..][..D_MODEL]
    }

    /// `rows` through a linear layer, one by one.
    fn through(linear: &Linear, rows: &[f32]) -> Vec<f32> {
        let dim = linear.dims()[0];
        let x = Tensor::from_data(TensorData::new(rows.to_vec(), [rows.len() / dim, dim]), &device());
        values(linear.forward(x, Activation::Identity))
    }

    /// What `pooling` makes of one set that is not empty, by plain loops.
    fn expected(pooling: &Pooling, set: &[f32]) -> Vec<f32> {
        let count = set.len() / D_MODEL;
        match pooling.kind {
            PoolingKind::First => row(set, 0).to_vec(),
            PoolingKind::Mean => {
                (0..D_MODEL).map(|e| (0..count).map(|i| row(set, i)[e]).sum::<f32>() / count as f32).collect()
            }
            PoolingKind::Sum => {
                (0..D_MODEL).map(|e| (0..count).map(|i| row(set, i)[e]).sum::<f32>() / SUMMED).collect()
            }
            PoolingKind::SumMean => {
                let sum = |e| (0..count).map(|i| row(set, i)[e]).sum::<f32>();
                let (sums, means) =
                    ((0..D_MODEL).map(|e| sum(e) / SUMMED), (0..D_MODEL).map(|e| sum(e) / count as f32));
                sums.chain(means).collect()
            }
            PoolingKind::Flat { .. } => unreachable!("of sets of one size, which these are not"),
            PoolingKind::Ends => {
                let ends = [row(set, 0), row(set, count - 1)].concat();
                through(pooling.join.as_ref().expect("ends are joined"), &ends)
            }
            PoolingKind::Attention { heads } => {
                let head_dim = D_MODEL / heads;
                let query = values(pooling.query.as_ref().expect("a query").val());
                let keys = through(pooling.key.as_ref().expect("keys"), set);
                (0..D_MODEL)
                    .map(|e| {
                        let head = e / head_dim * head_dim..(e / head_dim + 1) * head_dim;
                        let logit = |i: usize| -> f32 {
                            let products = head.clone().map(|e| query[e] * row(&keys, i)[e]);
                            products.sum::<f32>() / (head_dim as f32).sqrt()
                        };
                        let weights: Vec<f32> = (0..count).map(|i| logit(i).exp()).collect();
                        let sum: f32 = weights.iter().sum();
                        weights.iter().enumerate().map(|(i, weight)| weight / sum * row(set, i)[e]).sum()
                    })
                    .collect()
            }
        }
    }

    #[test]
    fn all_vectors_of_sets_of_one_size_go_through_a_layer() {
        let (pooling, x) = (pooling(PoolingKind::Flat { vectors: 3 }), vectors(&[3, 3]));
        let join = pooling.join.as_ref().expect("they are joined");
        let flat = x.clone().reshape([2, 3 * D_MODEL]);
        assert_close(pool(&pooling, x, &[3, 3]), join.forward(flat, Activation::Gelu), 1e-6);
        let count = PoolingKind::Flat { vectors: 3 };
        assert_eq!(Pooling::parameter_count(count, D_MODEL), pooling.num_params() as u128);
    }

    #[test]
    fn every_kind_equals_plain_loops() {
        for kind in KINDS {
            let (pooling, x) = (pooling(kind), vectors(&LENGTHS));
            let all = values(x.clone());
            let mut wanted = Vec::new();
            let mut start = 0;
            for length in LENGTHS {
                let set = &all[start * D_MODEL..][..length * D_MODEL];
                start += length;
                let empty = || match &pooling.join {
                    // The linear layer's bias is all that is left of no vectors.
                    Some(join) => through(join, &[0.0; 2 * D_MODEL]),
                    None => vec![0.0; width(kind)],
                };
                wanted.extend(if length == 0 { empty() } else { expected(&pooling, set) });
            }
            let wanted = Tensor::from_data(TensorData::new(wanted, [LENGTHS.len(), width(kind)]), &device());
            assert_close(pool(&pooling, x, &LENGTHS), wanted, 1e-5);
        }
    }

    #[test]
    fn a_sets_result_does_not_depend_on_its_batch_mates() {
        for kind in KINDS {
            let (pooling, x) = (pooling(kind), vectors(&LENGTHS));
            let together = values(pool(&pooling, x.clone(), &LENGTHS));
            let mut start = 0;
            for (set, length) in LENGTHS.into_iter().enumerate() {
                let alone = values(pool(&pooling, x.clone().slice(start..start + length), &[length]));
                start += length;
                let of_set = &together[set * width(kind)..][..width(kind)];
                let apart = of_set.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-6, "{kind:?}, set {set}: {apart}");
            }
        }
    }

    /// Gradients of all parameters, by their ids.
    fn gradients(pooling: &Pooling, grads: &burn::tensor::Gradients) -> Vec<(ParamId, Vec<f32>)> {
        struct Collect<'a>(&'a burn::tensor::Gradients, Vec<(ParamId, Vec<f32>)>);
        impl ModuleVisitor for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let gradient = param.val().grad(self.0).expect("a gradient for each parameter");
                self.1.push((param.id, values(gradient)));
            }
        }
        let mut collect = Collect(grads, Vec::new());
        pooling.visit(&mut collect);
        collect.1
    }

    #[test]
    fn every_gradient_equals_that_of_the_composed_operations() {
        for kind in KINDS {
            let pooling = pooling(kind);
            let run = || {
                let x = vectors(&LENGTHS).require_grad();
                let out = pool(&pooling, x.clone(), &LENGTHS);
                let grads = (out * random([LENGTHS.len(), width(kind)], 2)).sum().backward();
                let of_x = values(x.grad(&grads).expect("the vectors"));
                (of_x, gradients(&pooling, &grads))
            };
            let (fused, twin) = (run(), composed(run));
            let close = |ours: &[f32], theirs: &[f32], what: &str| {
                assert_eq!(ours.len(), theirs.len());
                let largest = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // Under softmax the gradient of a key's bias is 0, but for rounding: the floor is for it.
                assert!(apart <= 1e-5 * largest + 1e-6, "{kind:?}: {what} is {apart} apart, the largest is {largest}");
            };
            close(&fused.0, &twin.0, "the gradient of the vectors");
            for ((id, ours), (_, theirs)) in fused.1.iter().zip(&twin.1) {
                close(ours, theirs, &format!("that of parameter {id}"));
            }
            let parameters: usize = fused.1.iter().map(|(_, gradient)| gradient.len()).sum();
            assert_eq!(parameters as u128, Pooling::parameter_count(kind, D_MODEL), "{kind:?}");
        }
    }

    #[test]
    fn the_gradient_of_the_vectors_equals_finite_differences() {
        const STEP: f32 = 1e-2;
        let lengths = [3, 0, 2];
        for kind in KINDS {
            let (pooling, weights) = (pooling(kind), random([lengths.len(), width(kind)], 2));
            let loss = |x: Tensor<2>| (pool(&pooling, x, &lengths) * weights.clone()).sum();
            let x = vectors(&lengths).require_grad();
            let found = values(x.grad(&loss(x.clone()).backward()).expect("the vectors"));
            let x = values(x);
            for (place, found) in found.iter().enumerate() {
                let moved = |by: f32| {
                    let mut x = x.clone();
                    x[place] += by;
                    let x = Tensor::from_data(TensorData::new(x, [5, D_MODEL]), &device());
                    f64::from(loss(x).into_scalar::<f32>())
                };
                let difference = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
                assert!((difference - f64::from(*found)).abs() < 2e-3, "{kind:?}[{place}]: {found}, not {difference}");
            }
        }
    }

    #[test]
    fn nothing_but_empty_sets_gives_what_an_empty_set_gives() {
        for kind in KINDS {
            let pooling = pooling(kind);
            let among_others = values(pool(&pooling, vectors(&LENGTHS), &LENGTHS));
            let alone = values(pool(&pooling, Tensor::zeros([0, D_MODEL], &device()), &[0, 0]));
            assert_eq!(alone, among_others[2 * width(kind)..][..width(kind)].repeat(2), "{kind:?}");
            let none = pool(&pooling, Tensor::zeros([0, D_MODEL], &device()), &[]);
            assert_eq!(none.dims(), [0, width(kind)]);
        }
    }

    #[test]
    #[should_panic(expected = "d_model 6 does not divide by 4 heads")]
    fn heads_that_do_not_divide_are_refused() {
        pooling(PoolingKind::Attention { heads: 4 });
    }
}
