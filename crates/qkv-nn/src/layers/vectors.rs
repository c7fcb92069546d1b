//! Vectors that come as they are, rows of a table, frames of sound, patches of a picture: how they become vectors of a model,
//! alone and joined with others.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use qkv::Offsets;
use qkv::activation::Activation;

use super::{Init, LayerNorm, Linear, NodeInput};
use crate::ops::gather_sum;

/// Sizes of a [`VectorEmbedding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorEmbeddingOptions {
    /// Elements of the vectors that come in.
    pub dim: usize,
    /// Elements of those that come out.
    pub d_model: usize,
    /// Whether each vector that comes in is normalised first.
    pub norm: bool,
}

/// `linear(x)`, or `linear(norm(x))`.
#[derive(Module, Debug)]
pub struct VectorEmbedding {
    norm: Option<LayerNorm>,
    linear: Linear,
}

impl VectorEmbedding {
    /// A layer of the given sizes.
    pub fn new(options: &VectorEmbeddingOptions, init: &Init) -> Self {
        let &VectorEmbeddingOptions { dim, d_model, norm } = options;
        Self { norm: norm.then(|| LayerNorm::new(dim, init)), linear: Linear::new(dim, d_model, init) }
    }

    /// How many numbers [`VectorEmbedding::new`] would make.
    pub fn parameter_count(options: &VectorEmbeddingOptions) -> u128 {
        let [dim, d_model] = [options.dim, options.d_model].map(|n| n as u128);
        dim * d_model + d_model + if options.norm { 2 * dim } else { 0 }
    }

    /// `[tokens, dim]` to `[tokens, d_model]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        self.linear.forward(x, Activation::Identity)
    }
}

/// Nodes of graphs, few of many features or numbers or both, to vectors: `x W + b`.
#[derive(Module, Debug)]
pub struct NodeEmbedding {
    /// `[features + numbers, d_model]`.
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl NodeEmbedding {
    /// For so many features, of which a node has few, and so many numbers, which all have.
    pub fn new([features, numbers]: [usize; 2], d_model: usize, init: &Init) -> Self {
        // A node has some features, and all numbers.
        let limit = (6.0 / (features.min(16) + numbers + d_model).max(1) as f32).sqrt();
        Self { weight: init.uniform([features + numbers, d_model], limit), bias: init.constant([d_model], 0.0) }
    }

    /// How many numbers [`NodeEmbedding::new`] would make.
    pub fn parameter_count([features, numbers]: [usize; 2], d_model: usize) -> u128 {
        (features as u128 + numbers as u128 + 1) * d_model as u128
    }

    /// `[tokens, d_model]`.
    pub fn forward(&self, x: &NodeInput) -> Tensor<2> {
        let product = x.product(self.weight.val(), None);
        let [_, d_model] = product.dims();
        product + self.bias.val().reshape([1, d_model])
    }
}

/// Cells of a table to vectors: a row of a table of vectors, and of a number so many times the vector of its column (Gorishniy et al.,
/// 2021).
#[derive(Module, Debug)]
pub struct CellEmbedding {
    /// `[rows, d_model]`: for each column its categories, what it has for none, and so on.
    table: Param<Tensor<2>>,
    /// `[columns, d_model]`.
    weight: Param<Tensor<2>>,
}

impl CellEmbedding {
    /// For so many rows of the table, and so many columns.
    pub fn new([rows, columns]: [usize; 2], d_model: usize, init: &Init) -> Self {
        let limit = 1.0 / (d_model as f32).sqrt();
        Self { table: init.uniform([rows, d_model], limit), weight: init.uniform([columns, d_model], limit) }
    }

    /// How many numbers [`CellEmbedding::new`] would make.
    pub fn parameter_count([rows, columns]: [usize; 2], d_model: usize) -> u128 {
        (rows as u128 + columns as u128) * d_model as u128
    }

    /// `table[rows] + scales · weight[columns]`, `[cells, d_model]`.
    pub fn forward(&self, rows: Arc<[u32]>, columns: Arc<[u32]>, scales: &[f32]) -> Tensor<2> {
        let device = self.table.val().device();
        let scales = Tensor::<2>::from_data(TensorData::new(scales.to_vec(), [scales.len(), 1]), &device);
        gather_sum(self.table.val(), rows, 1) + gather_sum(self.weight.val(), columns, 1) * scales
    }
}

/// Adds to each vector a learned one that tells its kind: patch or word, where both stand in one set.
#[derive(Module, Debug)]
pub struct KindEmbedding {
    /// `[kinds, d_model]`.
    table: Param<Tensor<2>>,
}

impl KindEmbedding {
    /// For so many kinds. Initial vectors are normal with a deviation of 0.02, as learned positions are.
    pub fn new(kinds: usize, d_model: usize, init: &Init) -> Self {
        Self { table: init.normal([kinds, d_model], 0.02) }
    }

    /// `[tokens, d_model]` to the same; `kinds` has the kind of each vector.
    ///
    /// # Panics
    /// If there are not as many kinds as vectors, or there is no such kind.
    pub fn forward(&self, x: Tensor<2>, kinds: Arc<[u32]>) -> Tensor<2> {
        assert_eq!(kinds.len(), x.dims()[0], "kinds: {} for {} vectors", kinds.len(), x.dims()[0]);
        x + gather_sum(self.table.val(), kinds, 1)
    }
}

/// Sets that were joined.
#[derive(Clone, Debug)]
pub struct Joined {
    /// `[tokens, d_model]`.
    pub vectors: Tensor<2>,
    /// Whose they are.
    pub offsets: Offsets,
    /// For each vector the number of the part that it comes from.
    pub kinds: Arc<[u32]>,
}

/// Joins sets of several kinds: set `s` has all vectors of set `s` of the first part, then those of the second, and so on. A part
/// is `[its tokens, d_model]` and whose they are.
///
/// # Panics
/// If there is no part, or parts have other numbers of sets or of elements.
pub fn join(parts: &[(Tensor<2>, &Offsets)]) -> Joined {
    let (_, first) = parts.first().expect("join: there is nothing to be joined");
    let sets = first.sets();
    for (vectors, offsets) in parts {
        let found = (offsets.sets(), offsets.tokens());
        let wanted = (sets, vectors.dims()[0]);
        assert_eq!(
            found, wanted,
            "join: expected offsets of {} sets and {} vectors, found {found:?}",
            wanted.0, wanted.1
        );
    }
    let starts: Vec<usize> = parts
        .iter()
        .scan(0, |end, (_, offsets)| {
            let start = *end;
            *end += offsets.tokens();
            Some(start)
        })
        .collect();
    let (mut rows, mut kinds, mut lengths) = (Vec::new(), Vec::new(), vec![0; sets]);
    for (set, length) in lengths.iter_mut().enumerate() {
        for (kind, ((_, offsets), start)) in parts.iter().zip(&starts).enumerate() {
            let own = offsets.range(set);
            *length += own.len();
            kinds.extend(std::iter::repeat_n(kind as u32, own.len()));
            rows.extend(own.map(|row| (start + row) as u32));
        }
    }
    let all = Tensor::cat(parts.iter().map(|(vectors, _)| vectors.clone()).collect(), 0);
    Joined { vectors: gather_sum(all, rows.into(), 1), offsets: Offsets::from_lengths(lengths), kinds: kinds.into() }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::super::tests::{assert_gradients_are_those_composed, parameters};
    use super::*;
    use crate::ops::LAYER_NORM_EPSILON;
    use crate::ops::testing::{assert_close, device, random, values};

    fn tensor(numbers: &[f32], dim: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(numbers.to_vec(), [numbers.len() / dim, dim]), &device())
    }

    #[test]
    fn vectors_go_through_a_norm_and_a_linear_layer() {
        for (norm, tokens, dim, d_model) in [(false, 5, 3, 4), (true, 7, 6, 4), (true, 1, 1, 1), (false, 0, 3, 2)] {
            let options = VectorEmbeddingOptions { dim, d_model, norm };
            let embedding = VectorEmbedding::new(&options, &Init::new(3, &device()));
            let found = parameters(&embedding);
            let count: usize = found.iter().map(|(_, numbers)| numbers.len()).sum();
            assert_eq!(count as u128, VectorEmbedding::parameter_count(&options));
            let [weight, bias] = [2, 1].map(|back| found[found.len() - back].1.clone());
            let x = random([tokens, dim], 1);
            let expected: Vec<f32> = values(x.clone())
                .chunks_exact(dim)
                .flat_map(|x| {
                    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                    let mean = x.iter().sum::<f64>() / dim as f64;
                    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / dim as f64;
                    let deviation = (variance + f64::from(LAYER_NORM_EPSILON)).sqrt();
                    let x: Vec<f64> = if norm { x.iter().map(|x| (x - mean) / deviation).collect() } else { x };
                    let element = |to: usize| -> f32 {
                        let sum: f64 = x.iter().enumerate().map(|(e, x)| x * f64::from(weight[e * d_model + to])).sum();
                        (sum + f64::from(bias[to])) as f32
                    };
                    (0..d_model).map(element).collect::<Vec<_>>()
                })
                .collect();
            assert_close(embedding.forward(x.clone()), tensor(&expected, d_model), 1e-5);
            if tokens > 0 {
                assert_gradients_are_those_composed(&embedding, &format!("{options:?}"), || {
                    let x = x.clone().require_grad();
                    (embedding.forward(x.clone()), x)
                });
            }
        }
    }

    #[test]
    fn each_kind_has_a_vector_of_its_own() {
        let kinds: Arc<[u32]> = Arc::from([1, 0, 1, 2]);
        let embedding = KindEmbedding::new(4, 3, &Init::new(3, &device()));
        let table = parameters(&embedding).remove(0).1;
        let x = random([4, 3], 1);
        let row = |kind: u32| &table[kind as usize * 3..][..3];
        let added: Vec<f32> = kinds.iter().flat_map(|&kind| row(kind).to_vec()).collect();
        assert_close(embedding.forward(x.clone(), kinds.clone()), x.clone() + tensor(&added, 3), 1e-6);
        assert_gradients_are_those_composed(&embedding, "kinds", || {
            let x = x.clone().require_grad();
            (embedding.forward(x.clone(), kinds.clone()), x)
        });
    }

    #[test]
    #[should_panic(expected = "kinds: 2 for 4 vectors")]
    fn a_kind_is_given_for_each_vector() {
        KindEmbedding::new(4, 3, &Init::new(3, &device())).forward(random([4, 3], 1), Arc::from([0, 1]));
    }

    #[test]
    fn sets_of_two_kinds_stand_one_behind_the_other() {
        let (pictures, words) = (Offsets::from_lengths([2, 0, 1]), Offsets::from_lengths([1, 0, 2]));
        let first = tensor(&[1.0, 2.0, 3.0], 1).require_grad();
        let second = tensor(&[10.0, 20.0, 30.0], 1);
        let joined = join(&[(first.clone(), &pictures), (second, &words)]);
        assert_eq!(values(joined.vectors.clone()), [1.0, 2.0, 10.0, 3.0, 20.0, 30.0]);
        assert_eq!(joined.offsets, Offsets::from_lengths([3, 0, 3]));
        assert_eq!(joined.kinds[..], [0, 0, 1, 0, 1, 1]);
        let d_out = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1);
        let grads = (joined.vectors * d_out).sum().backward();
        assert_eq!(values(first.grad(&grads).expect("a part")), [1.0, 2.0, 4.0]);
    }

    #[test]
    #[should_panic(expected = "join: expected offsets of 2 sets and 3 vectors, found (1, 3)")]
    fn parts_of_other_sets_are_refused() {
        let (two, one) = (Offsets::from_lengths([2, 1]), Offsets::from_lengths([3]));
        join(&[(random([3, 2], 1), &two), (random([3, 2], 2), &one)]);
    }
}
