//! Words in, one row of class logits for each out.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::activation::Activation;
use qkv_data::{AffixOptions, TextBatch};
use qkv_nn::attention::Layout;
use qkv_nn::layers::{Encoder, Init, Linear, Pass, TextEmbedding, TextEmbeddingOptions};

use crate::input::InputSizes;
use crate::recipe::{Characters, Recipe, Words};
use crate::stack::{encoder_options, encoder_parameters};

/// What of a model's size comes from the data.
#[derive(Clone, Debug)]
pub struct ModelSizes {
    /// Known words and the unknown one.
    pub vocabulary: usize,
    /// Labels.
    pub labels: usize,
    /// Vectors to start from: `vocabulary · embedding_dim` numbers, NaN where there is none.
    pub pretrained: Option<Vec<f32>>,
}

/// Embedding, encoder, and a linear layer to the labels.
#[derive(Module, Debug)]
pub struct TagModel {
    embedding: TextEmbedding,
    encoder: Encoder,
    head: Linear,
    #[module(skip)]
    dropout: f32,
}

impl TagModel {
    /// A model with fresh parameters.
    pub fn new(recipe: &Recipe, sizes: &ModelSizes, init: &Init) -> Self {
        let embedding = embedding_options(recipe, sizes.vocabulary, sizes.pretrained.clone());
        Self {
            embedding: TextEmbedding::new(&embedding, init),
            encoder: Encoder::new(&encoder_options(recipe, &InputSizes::default()), init),
            head: Linear::new(recipe.model.d_model, sizes.labels, init),
            dropout: recipe.training.dropout as f32,
        }
    }

    /// How many numbers [`TagModel::new`] would make a model of, without making one.
    pub fn parameter_count(recipe: &Recipe, sizes: &ModelSizes) -> u128 {
        let (options, labels) = (encoder_options(recipe, &InputSizes::default()), sizes.labels as u128);
        let head = options.d_model as u128 * labels + labels;
        embedding_parameters(recipe, sizes.vocabulary) + encoder_parameters(&options) + head
    }

    /// Class logits, `[tokens, labels]`.
    pub fn forward(&self, batch: &TextBatch, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let x = pass.dropout(self.embed(batch), self.dropout);
        self.head.forward(self.encoder.forward(x, layout, pass), Activation::Identity)
    }

    /// The attention weights of each layer, `[heads, tokens, tokens]`, over a batch of one sentence.
    pub fn attention_weights(&self, batch: &TextBatch, layout: &Layout) -> Vec<Tensor<3>> {
        self.encoder.attention_weights(self.embed(batch), layout)
    }

    /// Blocks of the encoder.
    pub fn layers(&self) -> usize {
        self.encoder.layers()
    }

    /// The vectors of one layer of the encoder, `[tokens, d_model]`: of layer 0 what goes into it, of layer *n* what comes out of
    /// block *n*, of the last what the labels are read from.
    ///
    /// # Panics
    /// If there are not so many layers.
    pub fn vectors(&self, batch: &TextBatch, layout: &Layout, layer: usize) -> Tensor<2> {
        self.encoder.forward_to(layer, self.embed(batch), layout, &Pass::inference())
    }

    fn embed(&self, batch: &TextBatch) -> Tensor<2> {
        self.embedding.forward(batch.words.clone(), batch.affixes.clone(), batch.affix_width)
    }
}

/// How the units of a text, of which there are `vocabulary`, become vectors.
pub(crate) fn embedding_options(
    recipe: &Recipe,
    vocabulary: usize,
    pretrained: Option<Vec<f32>>,
) -> TextEmbeddingOptions {
    let (input, model) = (&recipe.input, &recipe.model);
    TextEmbeddingOptions {
        vocabulary,
        buckets: affix_options(recipe).map_or(0, |affixes| affixes.buckets),
        embedding_dim: match input.words {
            Words::OneHot => model.d_model,
            Words::Embedding => input.embedding_dim.unwrap_or(model.d_model),
        },
        d_model: model.d_model,
        deviation: input.embedding_deviation as f32,
        pretrained,
    }
}

/// How many numbers such an embedding has, without making one.
pub(crate) fn embedding_parameters(recipe: &Recipe, vocabulary: usize) -> u128 {
    let options = embedding_options(recipe, vocabulary, None);
    let (dim, d) = (options.embedding_dim as u128, options.d_model as u128);
    (options.vocabulary + options.buckets) as u128 * dim + if dim == d { 0 } else { dim * d + d }
}

/// How a recipe's words show their characters; `None` if they do not.
pub(crate) fn affix_options(recipe: &Recipe) -> Option<AffixOptions> {
    let input = &recipe.input;
    (input.characters == Characters::Affixes).then_some(AffixOptions {
        prefixes: input.prefixes,
        suffixes: input.suffixes,
        shape: true,
        // A row for the whole word would tell it even where word dropout hides it.
        lowercase: false,
        buckets: input.buckets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn parameters_are_counted_without_making_them() {
        let sizes = ModelSizes { vocabulary: 11, labels: 5, pretrained: None };
        let common = ["model.d_model=8", "model.heads=2", "input.buckets=13"];
        for assignments in [
            vec![],
            vec!["model.mixer=none", "model.norm=after"],
            vec!["model.mixer=window", "model.window=3", "input.embedding_dim=6"],
            vec!["model.mixer=cnn", "model.positions=learned", "model.max_positions=9"],
            vec!["model.mixer=rnn", "model.hidden=3", "input.characters=affixes"],
            vec!["model.positions=relative", "model.window=2", "model.score=additive", "model.layers=3"],
            vec!["input.words=one-hot", "model.positions=rotary"],
        ] {
            let mut recipe = Recipe::default();
            for assignment in common.iter().chain(&assignments) {
                recipe.set(assignment).expect(assignment);
            }
            let model = TagModel::new(&recipe, &sizes, &Init::new(1, &Device::flex()));
            assert_eq!(TagModel::parameter_count(&recipe, &sizes), model.num_params() as u128, "{assignments:?}");
        }
    }
}
