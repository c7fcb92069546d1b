//! From a recipe to the encoder that all tasks share.
//!
//! What belongs here: which options of `qkv-nn` the keys of `[model]` stand for, and how many numbers such an encoder has.
//! What stands before the encoder and behind it is the task's own.

use qkv::activation::Activation;
use qkv::options::{Mask, Normalizer};
use qkv_nn::attention::Score;
use qkv_nn::layers::{EncoderOptions, MixerOptions, NormPlace, PositionsOptions, SelfAttentionOptions};

use crate::recipe::{self, Mixer, Positions, Recipe, Task};

/// The encoder that a recipe asks for. Where what comes next is to be said, no place sees what comes after it.
pub(crate) fn encoder_options(recipe: &Recipe) -> EncoderOptions {
    let (model, training) = (&recipe.model, &recipe.training);
    let mixer = match model.mixer {
        Mixer::None => MixerOptions::None,
        Mixer::Window => MixerOptions::Window { radius: model.window.unwrap_or(2) },
        Mixer::Cnn => MixerOptions::Cnn { radius: model.window.unwrap_or(1) },
        Mixer::Rnn => MixerOptions::Rnn { hidden: model.hidden.unwrap_or(model.d_model.div_ceil(2)) },
        Mixer::Attention => MixerOptions::Attention(SelfAttentionOptions {
            heads: model.heads,
            score: match model.score {
                recipe::Score::Dot => Score::DOT,
                recipe::Score::Additive => Score::ADDITIVE,
            },
            normalizer: match model.normalizer {
                recipe::Normalizer::Softmax => Normalizer::Softmax,
                recipe::Normalizer::Relu => Normalizer::Relu,
            },
            mask: mask(recipe),
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
            Positions::Learned => PositionsOptions::Learned {
                max_positions: match model.task {
                    Task::Tag => model.max_positions,
                    // No place is beyond it.
                    Task::Generate => model.max_positions.min(model.context),
                },
            },
        },
        dropout: training.dropout as f32,
        hidden_dropout: training.dropout as f32,
    }
}

/// Whom attention sees.
fn mask(recipe: &Recipe) -> Mask<'static> {
    match (recipe.model.task, recipe.model.window) {
        (Task::Tag, None) => Mask::Full,
        (Task::Tag, Some(window)) => Mask::Window { left: window, right: window },
        (Task::Generate, None) => Mask::Causal { offset: 0 },
        (Task::Generate, Some(window)) => Mask::Window { left: window, right: 0 },
    }
}

/// How many numbers such an encoder has, without making one.
pub(crate) fn encoder_parameters(options: &EncoderOptions) -> u128 {
    let [d, ff, layers] = [options.d_model, options.d_ff, options.layers].map(|n| n as u128);
    let linear = |dim_in: u128, dim_out: u128| dim_in * dim_out + dim_out;
    let norm = 2 * d;
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
            let bias = attention.relative_range.map_or(0, |range| (2 * range as u128 + 1) * attention.heads as u128);
            let additive = if matches!(attention.score, Score::Additive { .. }) { d } else { 0 };
            layers * (4 * linear(d, d) + bias + additive + norm)
        }
    };
    let blocks = layers * (linear(d, ff) + linear(ff, d) + norm);
    let last = if options.norm == NormPlace::Before { norm } else { 0 };
    positions + mixers + blocks + last
}
