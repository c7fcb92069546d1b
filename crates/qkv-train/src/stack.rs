//! From a recipe to the stacks that all tasks share: the encoder, which reads, and the decoder, which writes.
//!
//! What belongs here: which options of `qkv-nn` the keys of `[model]` stand for, and how many numbers such a stack has.
//! What stands before a stack and behind it is the task's own.

use qkv::activation::Activation;
use qkv::options::{Mask, Normalizer};
use qkv_nn::attention::Score;
use qkv_nn::layers::{
    CrossAttentionOptions, DecoderOptions, Directions, EdgeScore, EdgeStackOptions, EncoderOptions, Geometry,
    MixerOptions, NormPlace, PoolingKind, PositionsOptions, Sees, SelfAttentionOptions,
};

use crate::input::{InputSizes, buckets};

use crate::recipe::{self, Cross, InputKind, Mixer, Pooling, Positions, Recipe};

/// Whom a place of a stack sees.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    /// All, or a window of both sides: it reads.
    All,
    /// Those before it: it writes.
    Past,
}

/// The encoder that a recipe asks for: each place sees all others.
pub(crate) fn encoder_options(recipe: &Recipe, sizes: &InputSizes) -> EncoderOptions {
    let max = recipe.model.max_positions;
    let (max_positions, geometry) = match recipe.input.kind {
        InputKind::Text | InputKind::Audio | InputKind::Vectors => (max, Geometry::Line),
        InputKind::Table => (1, Geometry::Line),
        InputKind::Graph | InputKind::Molecule => {
            let nodes = sizes.nodes.unwrap_or_default();
            let sees = match recipe.model.sees {
                recipe::Sees::Edges => Sees::Edges,
                recipe::Sees::All => Sees::All,
                recipe::Sees::Distances => buckets(recipe.model.distances),
            };
            (1, Geometry::Graph { sees, kinds: nodes.kinds, numbers: nodes.edge_numbers })
        }
        // Beside the picture there is a vector for the whole at most.
        InputKind::Image => (1, grid(max)),
        InputKind::ImageText => (max, grid(max)),
    };
    let mut options =
        EncoderOptions { geometry, ..stack_options(recipe, recipe.model.layers, max_positions, Looks::All) };
    if has_no_order(recipe) {
        options.positions = PositionsOptions::None;
    }
    if let (Geometry::Graph { sees: Sees::Buckets { .. }, .. }, MixerOptions::Attention(attention)) =
        (geometry, &mut options.mixer)
    {
        // (of graphs the bias is by buckets, of which the geometry says how many there are)
        attention.relative_range = Some(0);
    }
    options
}

/// Whether the vectors of a set have no order that could be told.
pub(crate) fn has_no_order(recipe: &Recipe) -> bool {
    matches!(recipe.input.kind, InputKind::Graph | InputKind::Molecule | InputKind::Table)
}

/// The bare stack that a recipe asks for, which gives `classes` numbers for each node; `None` if it asks for full blocks.
pub(crate) fn edge_stack_options(recipe: &Recipe, sizes: &InputSizes, classes: usize) -> Option<EdgeStackOptions> {
    let (model, nodes) = (&recipe.model, sizes.nodes?);
    (model.block == recipe::Block::Bare).then(|| EdgeStackOptions {
        dim: nodes.features + nodes.numbers,
        layers: model.layers,
        heads: model.heads,
        last_heads: 1,
        head_dim: model.d_model / model.heads.max(1),
        classes,
        score: (model.mixer == Mixer::Attention).then_some(match model.score {
            recipe::Score::Dot => EdgeScore::Dot,
            recipe::Score::Additive => EdgeScore::Additive,
            recipe::Score::RankOne => EdgeScore::RankOne,
        }),
        // Of one kind beside that of a node to itself nothing is to be told apart.
        kinds: if nodes.kinds > 2 { nodes.kinds } else { 0 },
        numbers: nodes.edge_numbers,
        dropout: recipe.training.dropout as f32,
        attention_dropout: recipe.training.attention_dropout as f32,
    })
}

/// Rows and columns of a picture's patches, of which so many are told apart at most.
fn grid(max_positions: usize) -> Geometry {
    let side = max_positions.min(MOST_ROWS);
    Geometry::Grid { max_rows: side, max_columns: side }
}

/// Rows of patches that learned positions tell apart, at most: a picture has 65,536 patches at most.
const MOST_ROWS: usize = 256;

/// The decoder that a recipe asks for: no place sees what comes after it. With `reads`, it writes from what an encoder has read.
pub(crate) fn decoder_options(recipe: &Recipe, reads: bool) -> DecoderOptions {
    let (model, training) = (&recipe.model, &recipe.training);
    let layers = model.decoder_layers.unwrap_or(model.layers);
    // Of a language model no place is beyond the context.
    let max_positions = if reads { model.max_positions } else { model.max_positions.min(model.context) };
    let cross = CrossAttentionOptions {
        heads: model.heads,
        score: score(recipe),
        normalizer: normalizer(recipe),
        dropout: training.attention_dropout as f32,
    };
    DecoderOptions {
        stack: stack_options(recipe, layers, max_positions, Looks::Past),
        cross: (reads && model.cross == Cross::Attention).then_some(cross),
        summary: reads && model.cross == Cross::None,
    }
}

/// How the vectors of a set become one.
pub(crate) fn pooling(recipe: &Recipe, sizes: &InputSizes) -> PoolingKind {
    let flat = PoolingKind::Flat { vectors: sizes.cells[1] };
    match (recipe.model.pooling, recipe.model.mixer) {
        (Some(Pooling::Mean), _) => PoolingKind::Mean,
        (Some(Pooling::Sum), _) => PoolingKind::Sum,
        (Some(Pooling::SumMean), _) => PoolingKind::SumMean,
        (Some(Pooling::Flat), _) => flat,
        (None, Mixer::None) if recipe.input.kind == InputKind::Table => flat,
        (Some(Pooling::Class), _) => PoolingKind::First,
        (Some(Pooling::Ends), _) | (None, Mixer::Rnn) => PoolingKind::Ends,
        (Some(Pooling::Attention), _) => PoolingKind::Attention { heads: recipe.model.heads },
        (None, _) => PoolingKind::Mean,
    }
}

fn score(recipe: &Recipe) -> Score {
    match recipe.model.score {
        recipe::Score::Dot => Score::DOT,
        recipe::Score::Additive => Score::ADDITIVE,
        recipe::Score::RankOne => unreachable!("refused but for bare blocks"),
    }
}

fn normalizer(recipe: &Recipe) -> Normalizer {
    match recipe.model.normalizer {
        recipe::Normalizer::Softmax => Normalizer::Softmax,
        recipe::Normalizer::Relu => Normalizer::Relu,
    }
}

fn stack_options(recipe: &Recipe, layers: usize, max_positions: usize, sees: Looks) -> EncoderOptions {
    let (model, training) = (&recipe.model, &recipe.training);
    let mixer = match model.mixer {
        // What is no stack of blocks at all has none here either.
        Mixer::None | Mixer::Factors | Mixer::Popularity => MixerOptions::None,
        Mixer::Window => MixerOptions::Window { radius: model.window.unwrap_or(2) },
        Mixer::Cnn => MixerOptions::Cnn { radius: model.window.unwrap_or(1) },
        Mixer::Rnn => MixerOptions::Rnn {
            hidden: model.hidden.unwrap_or(match sees {
                Looks::All => model.d_model.div_ceil(2),
                Looks::Past => model.d_model,
            }),
            directions: match sees {
                Looks::All => Directions::Both,
                Looks::Past => Directions::Forward,
            },
        },
        Mixer::Attention => MixerOptions::Attention(SelfAttentionOptions {
            heads: model.heads,
            score: score(recipe),
            normalizer: normalizer(recipe),
            mask: match (sees, model.window) {
                (Looks::All, None) => Mask::Full,
                (Looks::All, Some(window)) => Mask::Window { left: window, right: window },
                (Looks::Past, None) => Mask::Causal { offset: 0 },
                (Looks::Past, Some(window)) => Mask::Window { left: window, right: 0 },
            },
            rotary: model.positions == Positions::Rotary,
            relative_range: (model.positions == Positions::Relative)
                .then(|| model.relative_range.or(model.window).unwrap_or(16)),
            dropout: training.attention_dropout as f32,
        }),
    };
    EncoderOptions {
        mixer,
        layers,
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
            Positions::Learned => PositionsOptions::Learned { max_positions },
        },
        geometry: Geometry::Line,
        dropout: training.dropout as f32,
        hidden_dropout: training.dropout as f32,
    }
}

/// How many numbers such an encoder has, without making one.
pub(crate) fn encoder_parameters(options: &EncoderOptions) -> u128 {
    let [d, ff, layers] = [options.d_model, options.d_ff, options.layers].map(|n| n as u128);
    let linear = |dim_in: u128, dim_out: u128| dim_in * dim_out + dim_out;
    let norm = 2 * d;
    let geometry = options.geometry;
    let positions = match options.positions {
        PositionsOptions::Learned { max_positions } => geometry.learned_positions(max_positions) as u128 * d,
        PositionsOptions::None | PositionsOptions::Sinusoidal => 0,
    };
    let window = |radius: usize| linear(geometry.window(radius) as u128 * d, d) + norm;
    let mixers = match options.mixer {
        MixerOptions::None => 0,
        MixerOptions::Window { radius } => window(radius),
        MixerOptions::Cnn { radius } => layers * window(radius),
        MixerOptions::Rnn { hidden, directions } => {
            let (h, count) = (hidden as u128, if directions == Directions::Both { 2 } else { 1 });
            layers * (count * (linear(d, 4 * h) + 4 * h * h) + linear(count * h, d) + norm)
        }
        MixerOptions::Attention(attention) => {
            let bias = attention.relative_range.map_or(0, |range| geometry.relative_buckets(range));
            let edges: usize = geometry.edge_biases().iter().sum();
            let bias = (bias + edges) as u128 * attention.heads as u128;
            let additive = if matches!(attention.score, Score::Additive { .. }) { d } else { 0 };
            layers * (4 * linear(d, d) + bias + additive + norm)
        }
    };
    let blocks = layers * (linear(d, ff) + linear(ff, d) + norm);
    let last = if options.norm == NormPlace::Before { norm } else { 0 };
    positions + mixers + blocks + last
}

/// How many numbers such a decoder has, without making one.
pub(crate) fn decoder_parameters(options: &DecoderOptions) -> u128 {
    let [d, layers] = [options.stack.d_model, options.stack.layers].map(|n| n as u128);
    let linear = d * d + d;
    let cross = options.cross.map_or(0, |cross| {
        let additive = if matches!(cross.score, Score::Additive { .. }) { d } else { 0 };
        layers * (4 * linear + additive + 2 * d)
    });
    encoder_parameters(&options.stack) + cross + if options.summary { linear } else { 0 }
}
