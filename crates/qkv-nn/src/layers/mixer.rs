//! Mixers: how a position learns of the others.

use burn::module::Module;
use burn::tensor::Tensor;

use super::lstm::LstmState;
use super::{
    Directions, EncoderOptions, Init, LayerNorm, Lstm, NormPlace, Pass, SelfAttention, SelfAttentionOptions,
    WindowLinear,
};
use crate::attention::{KeyValueCache, Layout};

/// How a position learns of the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MixerOptions {
    /// Not at all: the plain fully connected net.
    None,
    /// A fully connected layer over a window, in the first block alone; on grids over a square.
    Window {
        /// Vectors on each side.
        radius: usize,
    },
    /// A fully connected layer over a window in each block: a convolutional net; on grids over a square, as those for pictures.
    Cnn {
        /// Vectors on each side; the kernel's width is `2 · radius + 1`.
        radius: usize,
    },
    /// An LSTM in each block.
    Rnn {
        /// Width of one direction.
        hidden: usize,
        /// Which way it reads.
        directions: Directions,
    },
    /// Self-attention in each block.
    Attention(SelfAttentionOptions),
}

/// The part of a block by which a position learns of the others.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each block, and it is never moved about")]
pub enum Mixer {
    /// Over a window.
    Window(WindowLinear),
    /// By recurrence.
    Rnn(Lstm),
    /// By self-attention.
    Attention(SelfAttention),
}

impl Mixer {
    pub(super) fn new(options: &EncoderOptions, layer: usize, init: &Init) -> Option<Self> {
        let &EncoderOptions { d_model, geometry, activation, .. } = options;
        let window = |radius| Self::Window(WindowLinear::new(d_model, radius, geometry, activation, init));
        match options.mixer {
            MixerOptions::None => None,
            MixerOptions::Window { radius } => (layer == 0).then(|| window(radius)),
            MixerOptions::Cnn { radius } => Some(window(radius)),
            MixerOptions::Rnn { hidden, directions } => Some(Self::Rnn(Lstm::new(d_model, hidden, directions, init))),
            MixerOptions::Attention(attention) => {
                Some(Self::Attention(SelfAttention::new(d_model, attention, geometry, init)))
            }
        }
    }

    /// The half of a block that the mixer is the heart of.
    pub(super) fn sublayer(
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

    /// One step of [`sublayer`](Self::sublayer): `x` `[sequences, d_model]` is the next vector of each sequence, and `state`
    /// what is left of those before it.
    ///
    /// # Panics
    /// If the mixer sees what comes after a place.
    pub(super) fn step(&self, x: Tensor<2>, norm: &LayerNorm, place: NormPlace, state: &mut MixerState) -> Tensor<2> {
        let residual = |part: &mut dyn FnMut(Tensor<2>) -> Tensor<2>| match place {
            NormPlace::Before => x.clone() + part(norm.forward(x.clone())),
            NormPlace::After => norm.forward(x.clone() + part(x.clone())),
        };
        match self {
            Self::Window(_) => panic!("a window of both sides cannot go step by step"),
            Self::Rnn(lstm) => residual(&mut |x| lstm.step(x, &mut state.lstm)),
            Self::Attention(attention) => residual(&mut |x| attention.step(x, &mut state.cache)),
        }
    }
}

/// What a mixer keeps from step to step, a row for each sequence.
#[derive(Clone, Debug, Default)]
pub(super) struct MixerState {
    lstm: Option<LstmState>,
    cache: Option<KeyValueCache>,
}

impl MixerState {
    /// The states of `rows`, in that order; a row may be taken often.
    pub(super) fn select(&mut self, rows: &[usize]) {
        self.lstm = self.lstm.take().map(|state| state.select(rows));
        if let Some(cache) = &mut self.cache {
            cache.select(rows);
        }
    }
}
