//! Words in, one row of class logits for each out.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::activation::Activation;
use qkv::options::{Mask, Normalizer};
use qkv_data::{AffixOptions, TextBatch};
use qkv_nn::attention::Layout;
use qkv_nn::attention::Score;
use qkv_nn::layers::{
    Encoder, EncoderOptions, Init, Linear, MixerOptions, NormPlace, Pass, PositionsOptions, SelfAttentionOptions,
    TextEmbedding, TextEmbeddingOptions,
};

use crate::recipe::{self, Characters, Mixer, Positions, Recipe, Words};

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
        let (input, model) = (&recipe.input, &recipe.model);
        let embedding = TextEmbeddingOptions {
            vocabulary: sizes.vocabulary,
            buckets: affix_options(recipe).map_or(0, |affixes| affixes.buckets),
            embedding_dim: match input.words {
                Words::OneHot => model.d_model,
                Words::Embedding => input.embedding_dim.unwrap_or(model.d_model),
            },
            d_model: model.d_model,
            deviation: input.embedding_deviation as f32,
            pretrained: sizes.pretrained.clone(),
        };
        Self {
            embedding: TextEmbedding::new(&embedding, init),
            encoder: Encoder::new(&encoder_options(recipe), init),
            head: Linear::new(model.d_model, sizes.labels, init),
            dropout: recipe.training.dropout as f32,
        }
    }

    /// How many numbers [`TagModel::new`] would make a model of, without making one.
    pub fn parameter_count(recipe: &Recipe, sizes: &ModelSizes) -> u128 {
        let (input, options) = (&recipe.input, encoder_options(recipe));
        let [d, ff, layers] = [options.d_model, options.d_ff, options.layers].map(|n| n as u128);
        let linear = |dim_in: u128, dim_out: u128| dim_in * dim_out + dim_out;
        let norm = 2 * d;
        let dim = match input.words {
            Words::OneHot => d,
            Words::Embedding => input.embedding_dim.map_or(d, |dim| dim as u128),
        };
        let rows = sizes.vocabulary + affix_options(recipe).map_or(0, |affixes| affixes.buckets);
        let embedding = rows as u128 * dim + if dim == d { 0 } else { linear(dim, d) };
        let positions = match options.positions {
            PositionsOptions::Learned { max_positions } => max_positions as u128 * d,
            PositionsOptions::None | PositionsOptions::Sinusoidal => 0,
        };
        let window = |radius: usize| linear((2 * radius as u128 + 1) * d, d) + norm;
        let mixers = match options.mixer {
            MixerOptions::None => 0,
            MixerOptions::Window { radius } => window(radius),
            MixerOptions::Cnn { radius } => layers * window(radius),
            MixerOptions::Rnn { hidden } => {
                let h = hidden as u128;
                layers * (2 * (linear(d, 4 * h) + 4 * h * h) + linear(2 * h, d) + norm)
            }
            MixerOptions::Attention(attention) => {
                let bias =
                    attention.relative_range.map_or(0, |range| (2 * range as u128 + 1) * attention.heads as u128);
                let additive = if attention.score == Score::Additive { d } else { 0 };
                layers * (4 * linear(d, d) + bias + additive + norm)
            }
        };
        let blocks = layers * (linear(d, ff) + linear(ff, d) + norm);
        let last = if options.norm == NormPlace::Before { norm } else { 0 };
        embedding + positions + mixers + blocks + last + linear(d, sizes.labels as u128)
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

    fn embed(&self, batch: &TextBatch) -> Tensor<2> {
        self.embedding.forward(batch.words.clone(), batch.affixes.clone(), batch.affix_width)
    }
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

fn encoder_options(recipe: &Recipe) -> EncoderOptions {
    let (model, training) = (&recipe.model, &recipe.training);
    let mixer = match model.mixer {
        Mixer::None => MixerOptions::None,
        Mixer::Window => MixerOptions::Window { radius: model.window.unwrap_or(2) },
        Mixer::Cnn => MixerOptions::Cnn { radius: model.window.unwrap_or(1) },
        Mixer::Rnn => MixerOptions::Rnn { hidden: model.hidden.unwrap_or(model.d_model.div_ceil(2)) },
        Mixer::Attention => MixerOptions::Attention(SelfAttentionOptions {
            heads: model.heads,
            score: match model.score {
                recipe::Score::Dot => Score::Dot { scale: None },
                recipe::Score::Additive => Score::Additive,
            },
            normalizer: match model.normalizer {
                recipe::Normalizer::Softmax => Normalizer::Softmax,
                recipe::Normalizer::Relu => Normalizer::Relu,
            },
            mask: model.window.map_or(Mask::Full, |window| Mask::Window { left: window, right: window }),
            rotary: model.positions == Positions::Rotary,
            relative_range: (model.positions == Positions::Relative)
                .then(|| model.relative_range.or(model.window).unwrap_or(16)),
            dropout: training.attention_dropout as f32,
        }),
    };
    EncoderOptions {
        mixer,
        layers: model.layers,
        d_model: model.d_model,
        d_ff: model.d_ff.unwrap_or(4 * model.d_model),
        norm: match model.norm {
            recipe::Norm::Before => NormPlace::Before,
            recipe::Norm::After => NormPlace::After,
        },
        activation: match model.activation {
            recipe::Activation::Relu => Activation::Relu,
            recipe::Activation::Gelu => Activation::Gelu,
        },
        positions: match model.positions {
            Positions::None | Positions::Rotary | Positions::Relative => PositionsOptions::None,
            Positions::Sinusoidal => PositionsOptions::Sinusoidal,
            Positions::Learned => PositionsOptions::Learned { max_positions: model.max_positions },
        },
        dropout: training.dropout as f32,
    }
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
