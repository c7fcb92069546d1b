//! The encoder: blocks of a mixer and a fully connected part, in alternation.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::activation::Activation;

use super::{
    BiLstm, FeedForward, Init, LayerNorm, NormPlace, Pass, Positions, PositionsOptions, SelfAttention,
    SelfAttentionOptions, WindowLinear,
};
use crate::attention::Layout;

/// How a position learns of the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MixerOptions {
    /// Not at all: the plain fully connected net.
    None,
    /// A fully connected layer over a window, in the first block alone.
    Window {
        /// Vectors on each side.
        radius: usize,
    },
    /// A fully connected layer over a window in each block: a convolutional net.
    Cnn {
        /// Vectors on each side; the kernel's width is `2 · radius + 1`.
        radius: usize,
    },
    /// A bidirectional LSTM in each block.
    Rnn {
        /// Width of one direction.
        hidden: usize,
    },
    /// Self-attention in each block.
    Attention(SelfAttentionOptions),
}

/// What an encoder is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EncoderOptions {
    /// How a position learns of the others.
    pub mixer: MixerOptions,
    /// Blocks.
    pub layers: usize,
    /// Elements of a vector.
    pub d_model: usize,
    /// Elements inside the fully connected part.
    pub d_ff: usize,
    /// Where a block normalises.
    pub norm: NormPlace,
    /// The non-linearity of the fully connected part.
    pub activation: Activation,
    /// How vectors are told their place.
    pub positions: PositionsOptions,
    /// Dropout behind each part of a block.
    pub dropout: f32,
    /// Dropout inside the fully connected part.
    pub hidden_dropout: f32,
}

/// The part of a block by which a position learns of the others.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each block, and it is never moved about")]
pub enum Mixer {
    /// Over a window.
    Window(WindowLinear),
    /// By recurrence.
    Rnn(BiLstm),
    /// By self-attention.
    Attention(SelfAttention),
}

impl Mixer {
    fn new(options: &EncoderOptions, layer: usize, init: &Init) -> Option<Self> {
        let d_model = options.d_model;
        match options.mixer {
            MixerOptions::None => None,
            MixerOptions::Window { radius } => {
                (layer == 0).then(|| Self::Window(WindowLinear::new(d_model, radius, options.activation, init)))
            }
            MixerOptions::Cnn { radius } => {
                Some(Self::Window(WindowLinear::new(d_model, radius, options.activation, init)))
            }
            MixerOptions::Rnn { hidden } => Some(Self::Rnn(BiLstm::new(d_model, hidden, init))),
            MixerOptions::Attention(attention) => Some(Self::Attention(SelfAttention::new(d_model, attention, init))),
        }
    }

    /// The half of a block that the mixer is the heart of.
    fn sublayer(
        &self,
        x: Tensor<2>,
        norm: &LayerNorm,
        place: NormPlace,
        dropout: f32,
        layout: &Layout,
        pass: &Pass,
    ) -> Tensor<2> {
        let residual = |part: &dyn Fn(Tensor<2>) -> Tensor<2>| match place {
            NormPlace::Before => x.clone() + pass.dropout(part(norm.forward(x.clone())), dropout),
            NormPlace::After => norm.forward(x.clone() + pass.dropout(part(x.clone()), dropout)),
        };
        match self {
            Self::Window(window) => residual(&|x| window.forward(x, layout)),
            Self::Rnn(lstm) => residual(&|x| lstm.forward(x, layout)),
            Self::Attention(attention) => attention.sublayer(x, norm, place, dropout, layout, pass),
        }
    }
}

/// A mixer and a fully connected part, each with a residual connection and a normalisation.
#[derive(Module, Debug)]
pub struct Block {
    mixer: Option<Mixer>,
    mixer_norm: Option<LayerNorm>,
    feed_forward: FeedForward,
    feed_forward_norm: LayerNorm,
    #[module(skip)]
    norm: NormPlace,
    #[module(skip)]
    dropout: f32,
}

impl Block {
    /// Block number `layer` of an encoder.
    pub fn new(options: &EncoderOptions, layer: usize, init: &Init) -> Self {
        let mixer = Mixer::new(options, layer, init);
        let mixer_norm = mixer.as_ref().map(|_| LayerNorm::new(options.d_model, init));
        Self {
            mixer,
            mixer_norm,
            feed_forward: FeedForward::new(
                options.d_model,
                options.d_ff,
                options.activation,
                options.hidden_dropout,
                init,
            ),
            feed_forward_norm: LayerNorm::new(options.d_model, init),
            norm: options.norm,
            dropout: options.dropout,
        }
    }

    /// `[tokens, d_model]` to the same.
    pub fn forward(&self, mut x: Tensor<2>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        if let (Some(mixer), Some(norm)) = (&self.mixer, &self.mixer_norm) {
            x = mixer.sublayer(x, norm, self.norm, self.dropout, layout, pass);
        }
        self.feed_forward.sublayer(x, &self.feed_forward_norm, self.norm, self.dropout, pass)
    }

    /// What the block's attention looks at when `x` comes in; `None` if it has none.
    fn weights(&self, x: Tensor<2>, layout: &Layout) -> Option<Tensor<3>> {
        let (Some(Mixer::Attention(attention)), Some(norm)) = (&self.mixer, &self.mixer_norm) else { return None };
        let x = if self.norm == NormPlace::Before { norm.forward(x) } else { x };
        Some(attention.weights(x, layout))
    }
}

/// Positions, then blocks.
#[derive(Module, Debug)]
pub struct Encoder {
    positions: Positions,
    blocks: Vec<Block>,
    last_norm: Option<LayerNorm>,
}

impl Encoder {
    /// An encoder with fresh parameters.
    pub fn new(options: &EncoderOptions, init: &Init) -> Self {
        Self {
            positions: Positions::new(options.positions, options.d_model, init),
            blocks: (0..options.layers).map(|layer| Block::new(options, layer, init)).collect(),
            last_norm: (options.norm == NormPlace::Before).then(|| LayerNorm::new(options.d_model, init)),
        }
    }

    /// `[tokens, d_model]` to the same: vectors that know their context.
    pub fn forward(&self, x: Tensor<2>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let mut x = self.positions.forward(x, layout);
        for block in &self.blocks {
            x = block.forward(x, layout, pass);
        }
        match &self.last_norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// The attention weights of each block that has any, `[heads, tokens, tokens]`, of a batch that holds one set.
    pub fn attention_weights(&self, x: Tensor<2>, layout: &Layout) -> Vec<Tensor<3>> {
        let mut x = self.positions.forward(x, layout);
        let mut weights = Vec::new();
        for block in &self.blocks {
            weights.extend(block.weights(x.clone(), layout));
            x = block.forward(x, layout, &Pass::inference());
        }
        weights
    }
}
