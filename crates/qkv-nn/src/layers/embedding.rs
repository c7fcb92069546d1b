//! Words as vectors: rows of a table, with a vector composed from their characters added.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use qkv::activation::Activation;

use super::{Init, Linear};
use crate::ops::{gather_sum, linear};

/// Sizes of a [`TextEmbedding`].
#[derive(Clone, Debug)]
pub struct TextEmbeddingOptions {
    /// Rows of the table of words.
    pub vocabulary: usize,
    /// Rows of the table of affixes; 0 for none.
    pub buckets: usize,
    /// Elements of a word's vector.
    pub embedding_dim: usize,
    /// Elements of the vectors that come out.
    pub d_model: usize,
    /// Standard deviation of the initial vectors.
    pub deviation: f32,
    /// Vectors to start from: `vocabulary · embedding_dim` numbers, NaN where there is none.
    pub pretrained: Option<Vec<f32>>,
}

/// A word's vector: its row, plus the sum of the rows of its affixes, through a linear layer where the widths differ.
///
/// With `embedding_dim == d_model` this is what a linear layer does to one-hot vectors: a product with a one-hot vector
/// picks a row of the weights.
#[derive(Module, Debug)]
pub struct TextEmbedding {
    words: Param<Tensor<2>>,
    affixes: Option<Param<Tensor<2>>>,
    project: Option<Linear>,
}

impl TextEmbedding {
    /// Tables of the given sizes.
    pub fn new(options: &TextEmbeddingOptions, init: &Init) -> Self {
        let &TextEmbeddingOptions { vocabulary, buckets, embedding_dim, d_model, deviation, .. } = options;
        let mut words = init.normal([vocabulary, embedding_dim], deviation);
        if let Some(pretrained) = &options.pretrained {
            let mut values = words.val().into_data().try_to_vec::<f32>().unwrap_or_default();
            for (value, &given) in values.iter_mut().zip(pretrained).filter(|(_, given)| !given.is_nan()) {
                *value = given;
            }
            words = init.values(values, [vocabulary, embedding_dim]);
        }
        Self {
            words,
            affixes: (buckets > 0).then(|| init.normal([buckets, embedding_dim], deviation)),
            project: (embedding_dim != d_model).then(|| Linear::new(embedding_dim, d_model, init)),
        }
    }

    /// `[tokens, d_model]` from one id for each word and `affix_width` ids of its affixes.
    pub fn forward(&self, words: Arc<[u32]>, affixes: Arc<[u32]>, affix_width: usize) -> Tensor<2> {
        let mut x = gather_sum(self.words.val(), words, 1);
        if let Some(table) = &self.affixes {
            x = x + gather_sum(table.val(), affixes, affix_width);
        }
        match &self.project {
            Some(project) => project.forward(x, Activation::Identity),
            None => x,
        }
    }

    /// Logits over the rows of the table of words, `[tokens, vocabulary]`: the product of each vector with each row, plus `bias`
    /// (Press and Wolf, 2017). The rows must be as long as the vectors.
    pub fn logits(&self, x: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
        linear(x, self.words.val().transpose(), bias, Activation::Identity)
    }
}
