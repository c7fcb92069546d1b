//! What `qkv bench train` times: training steps and inference of one encoder, on random words, by cases that have names.
//!
//! Belongs here: the model, the cases, and how one step of a case is done. What does not: clocks and output (`qkv-cli`). The
//! model is made of the same modules as those that are trained by a recipe, and a step does what a step of the trainer
//! does, so that what makes one faster makes the other faster.

use std::hint::black_box;
use std::ops::RangeInclusive;
use std::sync::Arc;

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use qkv::Offsets;
use qkv::activation::Activation;
use qkv::options::{Mask, Normalizer};
use qkv::random::Key;
use qkv_nn::attention::{Layout, Score};
use qkv_nn::layers::{
    Directions, Encoder, EncoderOptions, Geometry, Init, Linear, MixerOptions, NormPlace, Pass, PositionsOptions,
    SelfAttentionOptions, TextEmbedding, TextEmbeddingOptions,
};
use qkv_nn::ops::cross_entropy;
use qkv_nn::optim::FusedAdamW;

use crate::error::{Error, Result};
use crate::memory;

/// Rows of the embedding table.
const VOCABULARY: usize = 10_000;

/// Labels that a word can have.
const CLASSES: usize = 50;

const DROPOUT: f32 = 0.1;
const LEARNING_RATE: f64 = 1e-4;
const BETA_2: f32 = 0.999;
const WEIGHT_DECAY: f32 = 0.01;

/// What parameters, words, targets, lengths and dropout are drawn from.
const SEED: u64 = 1;

/// Keep the draws of one use apart from those of the others.
const LENGTHS_STREAM: u64 = 0x1e46;
const WORDS_STREAM: u64 = 0x3035;
const TARGETS_STREAM: u64 = 0x7a46;
const STEPS_STREAM: u64 = 0x57e9;

/// How a position of a case learns of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseMixer {
    /// Self-attention, over all or over so many vectors on each side.
    Attention(Option<usize>),
    /// A convolution over so many vectors on each side.
    Cnn(usize),
    /// An LSTM in each direction, of half the width.
    Rnn,
}

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// How it is called: `train b32 n64 d256 l4 full` are training steps of 32 sets of 64 vectors of 256 elements, through
    /// 4 layers; behind it may stand the mixer, if it is another than full attention or cases differ in it.
    pub name: String,
    /// How a position learns of the others.
    pub mixer: CaseMixer,
    /// Whether a run is a step of training; otherwise it is inference.
    pub train: bool,
    /// Sets of the batch.
    pub sets: usize,
    /// Vectors of a set, at most.
    pub tokens: usize,
    /// Elements of a vector.
    pub d_model: usize,
    /// Blocks of the encoder.
    pub layers: usize,
    /// Heads of each block.
    pub heads: usize,
    /// Elements inside the fully connected part.
    pub d_ff: usize,
    /// Whether each set has as many vectors as there may be; otherwise at least half as many.
    pub full: bool,
    /// Whether it takes so long that it is run only where it is asked for.
    pub long: bool,
    /// Whether it is one of those that show how memory grows.
    pub memory: bool,
}

/// Every case, in the order in which they are shown.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (sets, tokens, d_model, layers) in [(32, 32, 128, 2), (32, 64, 256, 4), (8, 512, 256, 4)] {
        for (train, sets, full) in
            [(true, sets, false), (true, sets, true), (false, sets, false), (false, sets, true), (false, 1, true)]
        {
            cases.push(Case::new(train, [sets, tokens, d_model, layers], full));
        }
    }
    // The length of the sets of the last size, and on from there.
    for case in cases.iter_mut().filter(|case| case.train && case.tokens == 512 && !case.full) {
        case.memory = true;
    }
    for tokens in [8192, 16384, 32768] {
        cases.push(Case { long: true, memory: true, ..Case::new(true, [1, tokens, 256, 4], true) });
    }
    cases
}

/// The lengths that [`mixer_cases`] have.
const LENGTHS: [usize; 7] = [256, 512, 1024, 2048, 4096, 8192, 16384];

/// Vectors on each side that a window of [`mixer_cases`] sees.
const WINDOW: usize = 64;

/// One sequence through two layers of width 128, with each mixer, by its length: the cases that show how time grows.
pub fn mixer_cases() -> Vec<Case> {
    let mixers = [
        ("attention".to_string(), CaseMixer::Attention(None)),
        (format!("window{WINDOW}"), CaseMixer::Attention(Some(WINDOW))),
        ("rnn".to_string(), CaseMixer::Rnn),
        ("cnn".to_string(), CaseMixer::Cnn(1)),
    ];
    let mut cases = Vec::new();
    for train in [true, false] {
        for tokens in LENGTHS {
            for (name, mixer) in &mixers {
                let case = Case::new(train, [1, tokens, 128, 2], true);
                cases.push(Case { name: format!("{} {name}", case.name), mixer: *mixer, ..case });
            }
        }
    }
    cases
}

impl CaseMixer {
    fn options(self, case: &Case) -> MixerOptions {
        match self {
            Self::Attention(window) => MixerOptions::Attention(SelfAttentionOptions {
                heads: case.heads,
                score: Score::DOT,
                normalizer: Normalizer::Softmax,
                mask: window.map_or(Mask::Full, |window| Mask::Window { left: window, right: window }),
                rotary: false,
                relative_range: None,
                dropout: 0.0,
            }),
            Self::Cnn(radius) => MixerOptions::Cnn { radius },
            Self::Rnn => MixerOptions::Rnn { hidden: case.d_model / 2, directions: Directions::Both },
        }
    }

    /// Weights that each vector is multiplied with in a block whose vectors have `d` elements.
    fn weights(self, d: usize) -> usize {
        match self {
            Self::Attention(_) => 4 * d * d,
            Self::Cnn(radius) => (2 * radius + 1) * d * d,
            // Both directions: input and state to four gates, and from both states back.
            Self::Rnn => 2 * 4 * (d / 2) * (d + d / 2) + d * d,
        }
    }

    /// Pairs of a query and a key in a set of `length` vectors.
    fn pairs(self, length: usize) -> f64 {
        match self {
            Self::Attention(None) => (length as f64).powi(2),
            Self::Attention(Some(window)) => {
                // On each side a triangle is missing at the end of the set.
                let (length, reach) = (length as f64, window.min(length.saturating_sub(1)) as f64);
                length + 2.0 * (length * reach - reach * (reach + 1.0) / 2.0)
            }
            Self::Cnn(_) | Self::Rnn => 0.0,
        }
    }
}

impl Case {
    /// A case of 4 heads, with four times as many elements inside the fully connected part as outside.
    fn new(train: bool, [sets, tokens, d_model, layers]: [usize; 4], full: bool) -> Self {
        let what = if train { "train" } else { "infer" };
        let name = format!("{what} b{sets} n{tokens} d{d_model} l{layers}{}", if full { " full" } else { "" });
        let (heads, d_ff) = (4, 4 * d_model);
        let mixer = CaseMixer::Attention(None);
        Self { name, mixer, train, sets, tokens, d_model, layers, heads, d_ff, full, long: false, memory: false }
    }

    /// The lengths that a set may have.
    pub fn lengths(&self) -> RangeInclusive<usize> {
        if self.full { self.tokens..=self.tokens } else { self.tokens / 2..=self.tokens }
    }

    /// One length for each set, uniform over those that it may have, the same each time.
    pub fn draw_lengths(&self) -> Vec<usize> {
        let (low, high) = self.lengths().into_inner();
        draw(self.sets, high - low + 1, LENGTHS_STREAM).iter().map(|&above| low + above as usize).collect()
    }

    /// Operations of one run over sets of these lengths: the products with weights and those of attention, of the vectors and
    /// pairs that there are. A backward pass has two products for each with weights, and five for the two of attention, one of
    /// which is the first again.
    pub fn flops(&self, lengths: &[usize]) -> f64 {
        let tokens = lengths.iter().sum::<usize>() as f64;
        let pairs: f64 = lengths.iter().map(|&length| self.mixer.pairs(length)).sum();
        let mixer = self.mixer.weights(self.d_model) as f64;
        let [d, ff, layers] = [self.d_model, self.d_ff, self.layers].map(|n| n as f64);
        let products = 2.0 * tokens * (layers * (mixer + 2.0 * d * ff) + d * CLASSES as f64);
        let attention = 4.0 * pairs * d * layers;
        if self.train { 3.0 * products + 3.5 * attention } else { products + attention }
    }

    /// The model with words and targets for sets of these lengths, ready for the first run.
    ///
    /// # Errors
    /// If the machine has not even the memory for parameters and results.
    ///
    /// # Panics
    /// If there are more vectors than can be counted.
    pub fn prepare(&self, lengths: &[usize]) -> Result<Prepared> {
        memory::check(self.least_bytes(lengths), "choose other cases with --only")?;
        let tokens = lengths.iter().sum();
        let device = if self.train { Device::flex().autodiff() } else { Device::flex() };
        let model = Model::new(self, &Init::new(SEED, &device));
        let optimizer = FusedAdamW { beta_2: BETA_2, ..FusedAdamW::new(WEIGHT_DECAY) };
        Ok(Prepared {
            layout: Layout::new(Offsets::from_lengths(lengths.iter().copied())),
            words: draw(tokens, VOCABULARY, WORDS_STREAM),
            targets: draw(tokens, CLASSES, TARGETS_STREAM),
            model: Some(model),
            moments: self.train.then(|| optimizer.into()),
            steps: 0,
        })
    }

    /// Bytes that no way of doing it does without: parameters, in training with gradients and two moments, and the results
    /// of the products of one layer, in training of all of them.
    fn least_bytes(&self, lengths: &[usize]) -> u128 {
        let [tokens, d, ff, layers] =
            [lengths.iter().sum(), self.d_model, self.d_ff, self.layers].map(|n: usize| n as u128);
        let mixer = self.mixer.weights(self.d_model) as u128;
        let parameters = VOCABULARY as u128 * d + layers * (mixer + 2 * d * ff);
        let results = tokens * (5 * d + 2 * ff);
        let numbers = if self.train { 4 * parameters + layers * results } else { parameters + results };
        numbers * size_of::<f32>() as u128
    }
}

/// Random numbers below `limit`.
fn draw(count: usize, limit: usize, stream: u64) -> Arc<[u32]> {
    let key = Key::new(SEED).fold(stream);
    (0..count as u64).map(|i| ((u64::from(key.bits(i)) * limit as u64) >> 32) as u32).collect()
}

/// A case that can be run.
pub struct Prepared {
    layout: Layout,
    words: Arc<[u32]>,
    targets: Arc<[u32]>,
    /// `None` only while an optimiser step has it.
    model: Option<Model>,
    /// `None` in inference.
    moments: Option<ModuleOptimizer>,
    steps: u64,
}

impl Prepared {
    /// One step of training, with its own dropout, or inference once.
    ///
    /// # Errors
    /// If the loss is not a finite number.
    ///
    /// # Panics
    /// If it is called again after a panic.
    pub fn step(&mut self) -> Result<()> {
        qkv::awake(|| self.one_step())
    }

    fn one_step(&mut self) -> Result<()> {
        let model = self.model.take().expect("no step is running");
        let Some(moments) = &mut self.moments else {
            black_box(model.forward(self.words.clone(), &self.layout, &Pass::inference()));
            self.model = Some(model);
            return Ok(());
        };
        let key = Key::new(SEED).fold(STEPS_STREAM).fold(self.steps);
        self.steps += 1;
        let class_logits = model.forward(self.words.clone(), &self.layout, &Pass::training(key));
        let loss = cross_entropy(class_logits, self.targets.clone(), 0.0);
        let value = loss.clone().into_scalar::<f32>();
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(moments.step(LEARNING_RATE, model, grads));
        match value.is_finite() {
            true => Ok(()),
            false => Err(Error::Training(format!(
                "the loss is {value} at step {}: the kernels are at fault; does QKV_ISA=scalar mend it?",
                self.steps
            ))),
        }
    }
}

/// Embedding, encoder, and a linear layer to the labels.
#[derive(Module, Debug)]
struct Model {
    embedding: TextEmbedding,
    encoder: Encoder,
    head: Linear,
}

impl Model {
    fn new(case: &Case, init: &Init) -> Self {
        let d_model = case.d_model;
        let embedding = TextEmbeddingOptions {
            vocabulary: VOCABULARY,
            buckets: 0,
            embedding_dim: d_model,
            d_model,
            deviation: 1.0,
            pretrained: None,
        };
        let encoder = EncoderOptions {
            mixer: case.mixer.options(case),
            layers: case.layers,
            d_model,
            d_ff: case.d_ff,
            norm: NormPlace::Before,
            activation: Activation::Gelu,
            positions: PositionsOptions::None,
            geometry: Geometry::Line,
            dropout: DROPOUT,
            hidden_dropout: 0.0,
        };
        Self {
            embedding: TextEmbedding::new(&embedding, init),
            encoder: Encoder::new(&encoder, init),
            head: Linear::new(d_model, CLASSES, init),
        }
    }

    /// Class logits, `[tokens, classes]`.
    fn forward(&self, words: Arc<[u32]>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let x = self.embedding.forward(words, Arc::from([]), 0);
        self.head.forward(self.encoder.forward(x, layout, pass), Activation::Identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(train: bool) -> Case {
        Case { d_model: 8, d_ff: 16, ..Case::new(train, [3, 8, 8, 1], false) }
    }

    #[test]
    fn lengths_are_drawn_from_those_that_a_case_may_have() {
        for case in cases() {
            let lengths = case.draw_lengths();
            assert_eq!(lengths.len(), case.sets, "{}", case.name);
            assert!(lengths.iter().all(|length| case.lengths().contains(length)), "{}: {lengths:?}", case.name);
            assert!(case.full || lengths.iter().any(|&length| length < case.tokens * 3 / 4), "{}", case.name);
            assert_eq!(lengths, case.draw_lengths());
        }
    }

    #[test]
    fn names_tell_cases_apart() {
        let mut names: Vec<String> = cases().into_iter().chain(mixer_cases()).map(|case| case.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn steps_change_the_model_and_drop_anew() {
        let case = small(true);
        let mut prepared = case.prepare(&[3, 8, 5]).expect("it fits");
        let logits = |prepared: &Prepared| {
            let model = prepared.model.as_ref().expect("no step is running");
            let out = model.forward(prepared.words.clone(), &prepared.layout, &Pass::inference());
            assert_eq!(out.dims(), [16, CLASSES]);
            out.into_data().try_to_vec::<f32>().expect("f32")
        };
        let before = logits(&prepared);
        for _ in 0..2 {
            prepared.step().expect("a finite loss");
        }
        assert_ne!(logits(&prepared), before);
        assert_eq!(prepared.steps, 2);
    }

    #[test]
    fn every_mixer_takes_a_step() {
        for case in mixer_cases().into_iter().filter(|case| case.tokens == LENGTHS[0]) {
            let mut prepared = Case { tokens: 32, ..case.clone() }.prepare(&[32]).expect("it fits");
            for _ in 0..2 {
                prepared.step().expect(&case.name);
            }
        }
    }

    #[test]
    fn pairs_of_a_window_are_counted_as_the_mask_lets_them() {
        for (window, length) in [(0, 5), (2, 1), (2, 3), (2, 9), (64, 40)] {
            let near = |i: usize| (0..length).filter(|&j: &usize| j.abs_diff(i) <= window).count();
            let counted: usize = (0..length).map(near).sum();
            assert_eq!(CaseMixer::Attention(Some(window)).pairs(length), counted as f64, "{window} of {length}");
        }
    }

    #[test]
    fn inference_leaves_the_model_as_it_is() {
        let mut prepared = small(false).prepare(&[8, 4, 4]).expect("it fits");
        for _ in 0..2 {
            prepared.step().expect("nothing to fail");
        }
        assert!(prepared.moments.is_none() && prepared.model.is_some());
    }

    #[test]
    fn operations_are_those_of_the_vectors_that_there_are() {
        let case = small(false);
        // two sets of 4 and one of 8, in one layer of width 8: products with 4·8·8 + 2·8·16 weights and a head of 8·50
        let (products, attention) = (2 * 16 * (4 * 64 + 2 * 128 + 400), 4 * (16 + 16 + 64) * 8);
        assert_eq!(case.flops(&[4, 4, 8]), f64::from(products + attention));
        assert_eq!(small(true).flops(&[4, 4, 8]), 3.0 * f64::from(products) + 3.5 * f64::from(attention));
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        if memory::available().is_some() {
            let error = small(true).prepare(&[1 << 50]).err().expect("too much").to_string();
            assert!(error.contains("--only") && !error.contains('\n'), "{error}");
        }
    }
}
