//! The decoder: a stack in which no place sees what comes after it, and which may look at what an encoder made of another
//! sequence. All places at once in training, step by step when it writes.
//!
//! What was read comes to it in one of two ways, or not at all. By *cross-attention* each block looks at all vectors of the source
//! (Bahdanau et al., 2015; Vaswani et al., 2017). Or one vector *c* sums the source up and is fed to every step (Cho et al., 2014).

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::Offsets;
use qkv::activation::Activation;

use super::cross_attention::Looked;
use super::mixer::MixerState;
use super::{
    CrossAttention, CrossAttentionOptions, EncoderOptions, FeedForward, Geometry, Init, LayerNorm, Linear, Mixer,
    NormPlace, Pass, Positions,
};
use crate::attention::Layout;
use crate::ops::gather_sum;
use std::sync::Arc;

/// What a decoder is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecoderOptions {
    /// The stack; its mixer must not see what comes after a place, and its geometry is a line.
    pub stack: EncoderOptions,
    /// How each block looks at the source; `None` if it does not.
    pub cross: Option<CrossAttentionOptions>,
    /// Whether a vector that sums the source up is fed to every step.
    pub summary: bool,
}

/// What a decoder knows of the sequences that were read.
#[derive(Clone, Debug)]
pub struct Memory {
    /// `[source tokens, d_model]`.
    pub vectors: Tensor<2>,
    /// Whose they are.
    pub offsets: Offsets,
    /// The vector *c* of each sequence, `[sets, d_model]`, for a decoder that is fed one.
    pub summary: Option<Tensor<2>>,
}

/// A mixer, a look at the source, and a fully connected part, each with a residual connection and a normalisation.
#[derive(Module, Debug)]
pub struct DecoderBlock {
    mixer: Option<Mixer>,
    mixer_norm: Option<LayerNorm>,
    cross: Option<CrossAttention>,
    cross_norm: Option<LayerNorm>,
    feed_forward: FeedForward,
    feed_forward_norm: LayerNorm,
    #[module(skip)]
    norm: NormPlace,
    #[module(skip)]
    dropout: f32,
}

impl DecoderBlock {
    fn new(options: &DecoderOptions, layer: usize, init: &Init) -> Self {
        let &EncoderOptions { d_model, d_ff, activation, hidden_dropout, norm, dropout, .. } = &options.stack;
        let mixer = Mixer::new(&options.stack, layer, init);
        let mixer_norm = mixer.as_ref().map(|_| LayerNorm::new(d_model, init));
        let cross = options.cross.map(|cross| CrossAttention::new(d_model, cross, init));
        let cross_norm = cross.as_ref().map(|_| LayerNorm::new(d_model, init));
        Self {
            mixer,
            mixer_norm,
            cross,
            cross_norm,
            feed_forward: FeedForward::new(d_model, d_ff, activation, hidden_dropout, init),
            feed_forward_norm: LayerNorm::new(d_model, init),
            norm,
            dropout,
        }
    }

    fn mix(&self, x: Tensor<2>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        match (&self.mixer, &self.mixer_norm) {
            (Some(mixer), Some(norm)) => mixer.sublayer(x, norm, self.norm, self.dropout, layout, pass),
            _ => x,
        }
    }

    fn look_at(&self, memory: Option<&Memory>) -> Option<Looked> {
        self.cross.as_ref().zip(memory).map(|(cross, memory)| cross.look_at(memory.vectors.clone()))
    }

    fn look(&self, x: Tensor<2>, looked: Option<&Looked>, layout: Option<&Layout>, pass: &Pass) -> Tensor<2> {
        match (&self.cross, &self.cross_norm, looked, layout) {
            (Some(cross), Some(norm), Some(looked), Some(layout)) => {
                cross.sublayer(x, looked, layout, (norm, self.norm), self.dropout, pass)
            }
            (None, ..) => x,
            _ => panic!("a decoder with cross-attention needs something to look at"),
        }
    }

    fn transform(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        self.feed_forward.sublayer(x, &self.feed_forward_norm, self.norm, self.dropout, pass)
    }
}

/// Positions, then blocks.
#[derive(Module, Debug)]
pub struct Decoder {
    positions: Positions,
    summary: Option<Linear>,
    blocks: Vec<DecoderBlock>,
    last_norm: Option<LayerNorm>,
}

impl Decoder {
    /// A decoder with fresh parameters.
    ///
    /// # Panics
    /// If it is to write on grids. (What it looks at may lie on some.)
    pub fn new(options: &DecoderOptions, init: &Init) -> Self {
        let stack = &options.stack;
        assert_eq!(stack.geometry, Geometry::Line, "a decoder writes one vector behind the other");
        Self {
            positions: Positions::new(stack.positions, stack.geometry, stack.d_model, init),
            summary: options.summary.then(|| Linear::new(stack.d_model, stack.d_model, init)),
            blocks: (0..stack.layers).map(|layer| DecoderBlock::new(options, layer, init)).collect(),
            last_norm: (stack.norm == NormPlace::Before).then(|| LayerNorm::new(stack.d_model, init)),
        }
    }

    /// `[tokens, d_model]` to the same. The sets of `layout` are those of `memory`, one sequence for each that was read.
    ///
    /// # Panics
    /// If the decoder looks at a source and there is none, or it is of another number of sequences.
    pub fn forward(&self, x: Tensor<2>, layout: &Layout, memory: Option<&Memory>, pass: &Pass) -> Tensor<2> {
        self.finish(self.blocks_of(self.blocks.len(), x, layout, memory, pass))
    }

    /// How many blocks there are.
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// The vectors of one layer, `[tokens, d_model]`: of layer 0 what comes in, which knows neither place nor context; of layer
    /// *n* what comes out of block *n*; of the last what [`forward`](Self::forward) gives, behind the last normalisation.
    ///
    /// # Panics
    /// As [`forward`](Self::forward), and if there are not so many layers.
    pub fn forward_to(
        &self,
        layer: usize,
        x: Tensor<2>,
        layout: &Layout,
        memory: Option<&Memory>,
        pass: &Pass,
    ) -> Tensor<2> {
        let layers = self.layers();
        assert!(layer <= layers, "decoder: layer {layer} of {layers}");
        match layer {
            0 => x,
            _ if layer == layers => self.forward(x, layout, memory, pass),
            _ => self.blocks_of(layer, x, layout, memory, pass),
        }
    }

    /// Positions, what is fed to every step, and the first `count` blocks.
    fn blocks_of(
        &self,
        count: usize,
        x: Tensor<2>,
        layout: &Layout,
        memory: Option<&Memory>,
        pass: &Pass,
    ) -> Tensor<2> {
        let mut x = self.positions.forward(x, layout);
        if let Some(fed) = self.fed(memory) {
            x = x + gather_sum(fed, set_of_each(layout.offsets()), 1);
        }
        let cross = memory.map(|memory| Layout::cross(layout.offsets().clone(), memory.offsets.clone()));
        for block in &self.blocks[..count] {
            x = block.mix(x, layout, pass);
            x = block.look(x, block.look_at(memory).as_ref(), cross.as_ref(), pass);
            x = block.transform(x, pass);
        }
        x
    }

    /// The beginning of a sequence for each that was read, or of `sequences` that begin from nothing.
    pub fn begin(&self, memory: Option<&Memory>, sequences: usize) -> DecoderState {
        DecoderState {
            position: 0,
            sets: (0..sequences).collect(),
            mixers: self.blocks.iter().map(|_| MixerState::default()).collect(),
            looked: self.blocks.iter().map(|block| block.look_at(memory)).collect(),
            fed: self.fed(memory),
            source: memory.map(|memory| memory.offsets.clone()),
        }
    }

    /// One step: `x` `[sequences, d_model]` is the next vector of each sequence of `state`. What comes out is what
    /// [`forward`](Self::forward) gives at that place.
    pub fn step(&self, x: Tensor<2>, state: &mut DecoderState) -> Tensor<2> {
        let pass = Pass::inference();
        let mut x = self.positions.at(x, state.position);
        if let Some(fed) = &state.fed {
            x = x + gather_sum(fed.clone(), state.sets.iter().map(|&set| set as u32).collect(), 1);
        }
        let cross = state.source.as_ref().map(|source| state.cross_layout(source));
        for ((block, mixer), looked) in self.blocks.iter().zip(&mut state.mixers).zip(&state.looked) {
            if let (Some(layer), Some(norm)) = (&block.mixer, &block.mixer_norm) {
                x = layer.step(x, norm, block.norm, mixer);
            }
            x = block.look(x, looked.as_ref(), cross.as_ref(), &pass);
            x = block.transform(x, &pass);
        }
        state.position += 1;
        self.finish(x)
    }

    fn fed(&self, memory: Option<&Memory>) -> Option<Tensor<2>> {
        let linear = self.summary.as_ref()?;
        let summary = memory.and_then(|memory| memory.summary.clone());
        Some(linear.forward(summary.expect("a decoder that is fed a summary needs one"), Activation::Identity))
    }

    fn finish(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.last_norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}

/// Sequences that are being written, and what is kept of their beginnings.
#[derive(Clone, Debug)]
pub struct DecoderState {
    position: usize,
    /// Which source each sequence is written from; ascending.
    sets: Vec<usize>,
    mixers: Vec<MixerState>,
    looked: Vec<Option<Looked>>,
    fed: Option<Tensor<2>>,
    source: Option<Offsets>,
}

impl DecoderState {
    /// How many steps were taken.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Goes on with `rows` of the present sequences, in that order; a row may be taken often, so that a beginning can have many
    /// ends.
    ///
    /// # Panics
    /// If there is no such row, or the rows of one source do not stand together, in the order of the sources.
    pub fn select(&mut self, rows: &[usize]) {
        if rows.iter().copied().eq(0..self.sets.len()) {
            return;
        }
        self.sets = rows.iter().map(|&row| self.sets[row]).collect();
        assert!(self.sets.is_sorted(), "decoder: rows must stay in the order of their sources");
        for mixer in &mut self.mixers {
            mixer.select(rows);
        }
    }

    fn cross_layout(&self, source: &Offsets) -> Layout {
        let mut queries = vec![0; source.sets()];
        for &set in &self.sets {
            queries[set] += 1;
        }
        Layout::cross(Offsets::from_lengths(queries), source.clone())
    }
}

fn set_of_each(offsets: &Offsets) -> Arc<[u32]> {
    offsets.lengths().zip(0..).flat_map(|(length, set)| std::iter::repeat_n(set, length)).collect()
}
