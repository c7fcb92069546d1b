//! The encoder: blocks of a mixer and a fully connected part, in alternation.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::activation::Activation;

use super::{
    FeedForward, Geometry, Init, LayerNorm, Mixer, MixerOptions, NormPlace, Pass, Positions, PositionsOptions,
};
use crate::attention::Layout;

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
    /// How vectors lie: what positions, windows and relative biases go by.
    pub geometry: Geometry,
    /// Dropout behind each part of a block.
    pub dropout: f32,
    /// Dropout inside the fully connected part.
    pub hidden_dropout: f32,
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
            positions: Positions::new(options.positions, options.geometry, options.d_model, init),
            blocks: (0..options.layers).map(|layer| Block::new(options, layer, init)).collect(),
            last_norm: (options.norm == NormPlace::Before).then(|| LayerNorm::new(options.d_model, init)),
        }
    }

    /// `[tokens, d_model]` to the same: vectors that know their context.
    pub fn forward(&self, x: Tensor<2>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let x = self.blocks_of(self.blocks.len(), x, layout, pass);
        match &self.last_norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// How many blocks there are.
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// The vectors of one layer, `[tokens, d_model]`: of layer 0 what comes in, which knows neither place nor context; of layer
    /// *n* what comes out of block *n*; of the last what [`forward`](Self::forward) gives, behind the last normalisation.
    ///
    /// # Panics
    /// If there are not so many layers.
    pub fn forward_to(&self, layer: usize, x: Tensor<2>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let layers = self.layers();
        assert!(layer <= layers, "encoder: layer {layer} of {layers}");
        match layer {
            0 => x,
            _ if layer == layers => self.forward(x, layout, pass),
            _ => self.blocks_of(layer, x, layout, pass),
        }
    }

    /// Positions and the first `count` blocks.
    fn blocks_of(&self, count: usize, x: Tensor<2>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let x = self.positions.forward(x, layout);
        self.blocks[..count].iter().fold(x, |x, block| block.forward(x, layout, pass))
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
