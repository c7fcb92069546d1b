//! A small model with every kind of part, data to train it on, and views of what it has learned.

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Gradients, Tensor};
use qkv::activation::Activation;
use qkv::gather::NONE;
use qkv::options::{Mask, Normalizer};
use qkv::{Key, Offsets};
use qkv_nn::attention::{Grid, Layout, Score};
use qkv_nn::layers::{
    Encoder, EncoderOptions, Geometry, Init, Linear, MixerOptions, NormPlace, Pass, PositionsOptions,
    SelfAttentionOptions, TextEmbedding, TextEmbeddingOptions,
};
use qkv_nn::ops::cross_entropy;
use qkv_nn::optim::{FusedAdamW, clip_scale, global_norm};

const WORDS: usize = 20;
const AFFIXES: usize = 10;
const AFFIX_WIDTH: usize = 2;
const EMBEDDING_DIM: usize = 24;
const D_MODEL: usize = 32;
const CLASSES: usize = 5;

/// The norm that gradients are clipped to. Those of a fresh model are longer.
const CLIP: f64 = 0.5;

/// Attention to the whole set, told distances by a learned bias.
pub(crate) const RELATIVE: SelfAttentionOptions = SelfAttentionOptions {
    heads: 4,
    score: Score::DOT,
    normalizer: Normalizer::Softmax,
    mask: Mask::Full,
    rotary: false,
    relative_range: Some(8),
    dropout: 0.1,
};

/// Attention to what comes before, told distances by turning queries and keys.
pub(crate) const CAUSAL_ROTARY: SelfAttentionOptions =
    SelfAttentionOptions { mask: Mask::Causal { offset: 0 }, rotary: true, relative_range: None, ..RELATIVE };

/// Vectors that lie on the grids of a batch.
pub(crate) const GRID: Geometry = Geometry::Grid { max_rows: 5, max_columns: 2 };

/// An encoder of two blocks that drops wherever it can.
pub(crate) const fn encoder(mixer: MixerOptions, norm: NormPlace) -> EncoderOptions {
    EncoderOptions {
        mixer,
        layers: 2,
        d_model: D_MODEL,
        d_ff: 64,
        norm,
        activation: Activation::Gelu,
        positions: PositionsOptions::None,
        geometry: Geometry::Line,
        dropout: 0.1,
        hidden_dropout: 0.1,
    }
}

/// Sets of words, each word with its affixes and with what is to be said of it.
pub(crate) struct Batch {
    words: Arc<[u32]>,
    affixes: Arc<[u32]>,
    targets: Arc<[u32]>,
    offsets: Offsets,
    grids: Vec<Grid>,
}

impl Batch {
    /// Random words in sets of the given lengths. The class of a word is that of the word before it in its set; nothing is
    /// asked of the first. Two words of a set stand before a grid of three columns, for those who look at grids, and what is left
    /// behind it.
    pub(crate) fn new(lengths: &[usize], seed: u64) -> Self {
        let (key, offsets) = (Key::new(seed), Offsets::from_lengths(lengths.iter().copied()));
        let draw = |key: Key, n: usize, below: usize| key.bits(n as u64) % below as u32;
        let words: Arc<[u32]> = (0..offsets.tokens()).map(|n| draw(key.fold(0), n, WORDS)).collect();
        // One more than there are stands for a word that has no such affix.
        let affix = |n| Some(draw(key.fold(1), n, AFFIXES + 1)).filter(|&id| id < AFFIXES as u32).unwrap_or(NONE);
        let affixes = (0..words.len() * AFFIX_WIDTH).map(affix).collect();
        let mut targets = vec![NONE; words.len()];
        for set in 0..offsets.sets() {
            for row in offsets.range(set).skip(1) {
                targets[row] = words[row - 1] % CLASSES as u32;
            }
        }
        let grid = |length: usize| Grid { first: length.min(2), rows: length.saturating_sub(4) / 3, columns: 3 };
        let grids = offsets.lengths().map(grid).collect();
        Self { words, affixes, targets: targets.into(), offsets, grids }
    }
}

/// Words and affixes, an encoder, and a linear layer that tells classes.
#[derive(Module, Debug)]
pub(crate) struct Model {
    embedding: TextEmbedding,
    encoder: Encoder,
    head: Linear,
}

impl Model {
    /// The same numbers on any device.
    pub(crate) fn new(options: &EncoderOptions, device: &Device) -> Self {
        let init = Init::new(7, device);
        let text = TextEmbeddingOptions {
            vocabulary: WORDS,
            buckets: AFFIXES,
            embedding_dim: EMBEDDING_DIM,
            d_model: D_MODEL,
            deviation: 1.0,
            pretrained: None,
        };
        Self {
            embedding: TextEmbedding::new(&text, &init),
            encoder: Encoder::new(options, &init),
            head: Linear::new(D_MODEL, CLASSES, &init),
        }
    }

    /// Logits of each word, `[tokens, CLASSES]`.
    pub(crate) fn forward(&self, batch: &Batch, pass: &Pass) -> Tensor<2> {
        let x = self.embedding.forward(batch.words.clone(), batch.affixes.clone(), AFFIX_WIDTH);
        let x = self.encoder.forward(x, &Layout::with_grids(batch.offsets.clone(), batch.grids.clone()), pass);
        self.head.forward(x, Activation::Identity)
    }

    /// The loss in training step `step`, from which follows what is dropped.
    pub(crate) fn loss(&self, batch: &Batch, step: usize) -> Tensor<1> {
        let pass = Pass::training(Key::new(11).fold(step as u64));
        cross_entropy(self.forward(batch, &pass), batch.targets.clone(), 0.1)
    }
}

/// A training step for each of `batches`: the trained model, and the loss before each step.
pub(crate) fn train<'a>(
    mut model: Model,
    optimizer: FusedAdamW,
    batches: impl IntoIterator<Item = &'a Batch>,
) -> (Model, Vec<f32>) {
    let mut moments: ModuleOptimizer = optimizer.clone().into();
    let mut losses = Vec::new();
    for (step, batch) in batches.into_iter().enumerate() {
        let loss = model.loss(batch, step);
        losses.push(loss.clone().into_scalar::<f32>());
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        optimizer.grad_scale.set(clip_scale(global_norm(&model, &grads), Some(CLIP)));
        model = moments.step(0.005, model, grads);
    }
    (model, losses)
}

/// The numbers of one parameter, or of its gradient.
pub(crate) struct Numbers {
    pub(crate) name: String,
    pub(crate) values: Vec<f32>,
}

/// All parameters of a model.
pub(crate) fn parameters(model: &Model) -> Vec<Numbers> {
    collect(model, None)
}

/// The gradients of all parameters of a model; each must have one.
pub(crate) fn gradients(model: &Model, grads: &Gradients) -> Vec<Numbers> {
    collect(model, Some(grads))
}

fn collect(model: &Model, grads: Option<&Gradients>) -> Vec<Numbers> {
    struct Collect<'a> {
        grads: Option<&'a Gradients>,
        path: Vec<String>,
        found: Vec<Numbers>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = self.path.join(".");
            let tensor = match self.grads {
                Some(grads) => param.val().grad(grads).unwrap_or_else(|| panic!("{name} has no gradient")),
                None => param.val().inner(),
            };
            let values = tensor.into_data().try_to_vec().expect("all numbers are f32");
            self.found.push(Numbers { name, values });
        }

        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
    }
    let mut collect = Collect { grads, path: Vec::new(), found: Vec::new() };
    model.visit(&mut collect);
    collect.found
}

/// Fails unless each number of `ours` is that of `theirs`, but for `tolerance` times the largest of its tensor, and `floor`.
#[track_caller]
pub(crate) fn assert_close(ours: &[Numbers], theirs: &[Numbers], tolerance: f32, floor: f32) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        let name = &ours.name;
        assert_eq!((name, ours.values.len()), (&theirs.name, theirs.values.len()));
        let largest = theirs.values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        for (n, (x, y)) in ours.values.iter().zip(&theirs.values).enumerate() {
            let apart = (x - y).abs();
            assert!(apart <= tolerance * largest + floor, "{name}[{n}]: {x} against {y}, the largest is {largest}");
        }
    }
}
