//! The keys of a recipe: five tables, each key with its default and what it means. How they are read is in the module
//! above.

use serde::{Deserialize, Serialize};

use super::words::*;

/// One table of a recipe: its struct, its defaults, and its keys with what they mean.
macro_rules! table {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr,)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name { $($(#[doc = $doc])+ pub $key: $type,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl $name {
            /// Each key with what it means.
            pub const KEYS: &'static [(&'static str, &'static str)] = &[$((stringify!($key), concat!($($doc),+)),)+];
        }
    };
}

table! {
    /// `[data]`: where examples come from.
    Data {
        /// What to train on: a file or `builtin:NAME`; of parallel text two files, source then target.
        train: Option<Paths> = None,
        /// What early stopping and the best epoch are judged on; carved from `train` if not given.
        dev: Option<Paths> = None,
        /// The share of `train` that is carved off where `dev` is not given.
        dev_fraction: f64 = 0.1,
        /// The format, one of those of the task; told by content and ending if not given.
        format: Option<String> = None,
        /// The encoding of the files, by its usual name.
        encoding: Option<String> = None,
        /// The column that holds the labels: of CoNLL-U `upos` if not given, of a table one that is called like a label. Of molecules and
        /// tables it may be several, as in `["a", "b"]`, which are learned at once; what a row lacks of them is left out.
        label: Option<Paths> = None,
        /// The column of a table that holds the texts.
        text: Option<String> = None,
        /// The column of a table that holds what is read, where pairs are learned.
        source: Option<String> = None,
        /// The column of a table that holds what is written, where pairs are learned.
        target: Option<String> = None,
        /// The longest set that is trained on, in vectors.
        max_tokens: usize = 1024,
        /// How the names of a folder's recordings or pictures are made, as `{label}_{speaker}_{index}`: `label` is what is learned, the
        /// other fields serve the rules of the parts.
        names: Option<String> = None,
        /// Which files are the test part: a field and its values, as `index 0-4` or `speaker jackson,theo`.
        test_files: Option<String> = None,
        /// Which files are the dev part, likewise.
        dev_files: Option<String> = None,
        /// Recordings that are joined to one, at random and of one part: the fewest and the most; what is wanted is then all of their
        /// labels, one behind the other.
        join: Option<[usize; 2]> = None,
        /// Seconds of silence between joined recordings, at least and at most.
        join_gap: [f64; 2] = [0.0, 0.3],
        /// Seconds of each example that `evaluate` joins, instead of a number of recordings.
        join_seconds: Option<f64> = None,
        /// How many examples are joined from a part, in an epoch and for judging; as many as the part has recordings if not given.
        join_count: Option<usize> = None,
        /// How examples are parted where the data does not say it: `random` or `scaffold` (of molecules), eight to one to one, or the name
        /// of the column that says it; a column `split` if not given.
        split: Option<String> = None,
        /// Columns that are not looked at.
        ignore: Option<Paths> = None,
        /// Columns of a table that hold categories although they look like numbers.
        categories: Option<Paths> = None,
        /// The column that says which sequence a row of numbers is of; `series`, `sequence` or `id` if not given.
        series: Option<String> = None,
        /// The column that holds the SMILES of molecules; one with a usual name if not given.
        smiles: Option<String> = None,
        /// Whether an edge goes one way alone: its target learns of its source.
        directed: bool = false,
        /// Whether each node has an edge to itself.
        self_loops: bool = true,
        /// What the vectors are called, where each has a label, that no label is given for; they are not learned from if not given.
        background: Option<String> = None,
        /// How many examples there are to learn from where the program draws them, as in `builtin:scenes` and `builtin:recall`.
        builtin_count: usize = 20_000,
        /// Only so large a share of the training part is trained on, drawn by seed and the same share of each label.
        train_share: f64 = 1.0,
    }
}
table! {
    /// `[input]`: how an example becomes a set of vectors.
    Input {
        /// What comes in: `text`, `audio`, `image`, `image+text`, `graph`, `molecule`, `table` or `vectors`.
        kind: InputKind = InputKind::Text,
        /// What a text is a sequence of: `words`, `characters`, `bpe`, `unigram`, `phones` or `items`.
        unit: Unit = Unit::Words,
        /// What the text that is written is a sequence of, where it is another than `unit`.
        target_unit: Option<Unit> = None,
        /// Subwords of a vocabulary, at most.
        subwords: usize = 8000,
        /// Whether what is read and what is written share one vocabulary and one table of embeddings.
        shared: bool = false,
        /// How a word becomes a vector: `one-hot` or `embedding`.
        words: Words = Words::Embedding,
        /// Elements of a word's embedding; `model.d_model` if not given.
        embedding_dim: Option<usize> = None,
        /// Standard deviation of the initial embeddings.
        embedding_deviation: f64 = 0.1,
        /// A `.vec` text file whose vectors the embeddings start from.
        vectors: Option<String> = None,
        /// How often a word or character must occur in training to be known.
        min_count: usize = 1,
        /// Whether words are looked up in lower case (their shape is still seen by `affixes`).
        lowercase: bool = false,
        /// What a word's characters add to its vector: `none` or `affixes`.
        characters: Characters = Characters::None,
        /// Prefixes of 1 to so many characters.
        prefixes: usize = 3,
        /// Suffixes of 1 to so many characters.
        suffixes: usize = 4,
        /// Rows that prefixes, suffixes and shapes are hashed into.
        buckets: usize = 20_000,
        /// Samples a second that recordings are brought to.
        rate: u32 = 16_000,
        /// Milliseconds of sound that a frame sees.
        frame_ms: f64 = 25.0,
        /// Milliseconds from one frame to the next.
        step_ms: f64 = 10.0,
        /// What a frame is described by: `log-mel` or `mfcc`.
        features: Features = Features::LogMel,
        /// Bands of the mel scale.
        bands: usize = 40,
        /// Coefficients of `mfcc`.
        coefficients: usize = 13,
        /// Over what frames are brought to mean 0 and deviation 1: `recording`, `corpus` or `none`.
        normalise: Normalise = Normalise::Corpus,
        /// Frames that are put end to end to make one vector.
        stack: usize = 1,
        /// Convolutions of width 3 and stride 2 before the encoder, each of which halves the number of vectors.
        convolutions: usize = 0,
        /// Pixels to a side of a patch, each of which is a vector; 1 for every pixel.
        patch: usize = 4,
        /// What a pixel is: `grey` or `rgb`; grey where all pictures of the training data are if not given.
        colour: Option<Colour> = None,
        /// Height and width that pictures are brought to; as they are if not given.
        resize: Option<[usize; 2]> = None,
    }
}
table! {
    /// `[model]`: the encoder and what comes out of it.
    Model {
        /// What comes out: `tag`, `classify`, `regress` or `generate`.
        task: Task = Task::Tag,
        /// How a position learns of the others: `none`, `window`, `cnn`, `rnn` or `attention`.
        mixer: Mixer = Mixer::Attention,
        /// Blocks of a mixer and a fully connected part.
        layers: usize = 2,
        /// Blocks of the decoder, where there is one beside the encoder; as many as `layers` if not given.
        decoder_layers: Option<usize> = None,
        /// Elements of a vector.
        d_model: usize = 128,
        /// Elements inside the fully connected part; four times `d_model` if not given.
        d_ff: Option<usize> = None,
        /// Attention heads.
        heads: usize = 4,
        /// How a query and a key become a logit: `dot` or `additive`, and of bare blocks `rank-one`.
        score: Score = Score::Dot,
        /// What a block is: `full`, or of graphs whose nodes get labels `bare`, attention alone.
        block: Block = Block::Full,
        /// Whom a node of a graph or an atom of a molecule learns of: `edges`, `all`, or `distances`, all with a bias by how far they are.
        sees: Sees = Sees::Edges,
        /// Distances that are told apart, in edges; further ones are alike.
        distances: usize = 8,
        /// How logits become weights: `softmax` or `relu`.
        normalizer: Normalizer = Normalizer::Softmax,
        /// Vectors on each side that attention, `window` or `cnn` sees; not given: all for attention, 2 for `window`, 1 for `cnn`.
        window: Option<usize> = None,
        /// How vectors are told their place: `none`, `sinusoidal`, `learned`, `rotary` or `relative`.
        positions: Positions = Positions::Sinusoidal,
        /// How the vectors of a set become one: `mean`, `sum`, `sum-mean` and `class` (not for `generate`), `ends` or `attention`; `ends`
        /// for `rnn` and `mean` for others if not given.
        pooling: Option<Pooling> = None,
        /// Networks that are trained side by side, each from a start of its own, and answer with the mean of what they say.
        members: usize = 1,
        /// How what is written learns of what was read: `attention`, or `none` for one vector that is fed to every step.
        cross: Cross = Cross::Attention,
        /// How what is written is found among what was read: `decoder`, or `ctc` where it comes in the order of what was read and is
        /// shorter, as a transcript is.
        output: Output = Output::Decoder,
        /// Whether the table of embeddings also gives the logits of what is written.
        tied: bool = false,
        /// Units that `generate` sees at most to say what comes next.
        context: usize = 64,
        /// Rows of the table of learned positions.
        max_positions: usize = 512,
        /// The distance up to which relative positions are told apart; the window, or 16 without one, if not given.
        relative_range: Option<usize> = None,
        /// Width of one direction of the LSTM; half of `d_model` if not given, and all of it where nothing behind is seen.
        hidden: Option<usize> = None,
        /// Where a block normalises: `before` or `after`.
        norm: Norm = Norm::Before,
        /// The non-linearity of the fully connected parts: `gelu` or `relu`.
        activation: Activation = Activation::Gelu,
    }
}
table! {
    /// `[training]`: how parameters are found.
    Training {
        /// What parameters, order and dropout are drawn from.
        seed: u64 = 1,
        /// Passes over the training set, at most.
        epochs: usize = 20,
        /// Optimiser steps in all; where given, they and not `epochs` decide how long a run is.
        steps: Option<usize> = None,
        /// Vectors in a batch, at most (a longer set is a batch of its own).
        batch_tokens: usize = 2000,
        /// The highest learning rate.
        learning_rate: f64 = 1e-3,
        /// The share of all steps over which the rate rises to it.
        warmup: f64 = 0.05,
        /// How the rate falls after that: `none`, `linear` or `cosine`.
        decay: Decay = Decay::Linear,
        /// AdamW's weight decay.
        weight_decay: f64 = 0.01,
        /// Half of this times the sum of the squares of all parameters is added to the loss.
        l2: f64 = 0.0,
        /// The global norm that gradients are clipped to; 0 for no limit.
        clip: f64 = 1.0,
        /// Dropout behind the input, behind each part of a block, and in the fully connected parts.
        dropout: f64 = 0.1,
        /// Dropout on attention weights.
        attention_dropout: f64 = 0.0,
        /// The share of words, or characters, that are shown as unknown.
        word_dropout: f64 = 0.0,
        /// The share of a word's affixes that are hidden, each for itself.
        affix_dropout: f64 = 0.0,
        /// How much of the target is spread over all labels.
        label_smoothing: f64 = 0.0,
        /// Stretches of frames that are hidden in each recording (Park et al., 2019).
        time_masks: usize = 0,
        /// Frames of such a stretch, at most.
        time_mask_frames: usize = 20,
        /// Stretches of bands that are hidden in each recording.
        band_masks: usize = 0,
        /// Bands of such a stretch, at most.
        band_mask_bands: usize = 8,
        /// Recordings are played up to this share faster or slower.
        speed: f64 = 0.0,
        /// Noise is added to recordings, up to this share of their loudness.
        noise: f64 = 0.0,
        /// Pictures are shifted by up to so many pixels.
        shift: usize = 0,
        /// Pictures are turned by up to so many degrees.
        rotate: f64 = 0.0,
        /// Pictures are made up to this share larger or smaller.
        scale: f64 = 0.0,
        /// Whether every second picture is mirrored, left to right.
        flip: bool = false,
        /// Pictures become up to this share of the range lighter or darker.
        brightness: f64 = 0.0,
        /// A rectangle is covered in each picture, its sides up to this share of the picture's.
        erase: f64 = 0.0,
        /// How much each class counts in the loss of `classify`: `none`, all examples alike, or `balanced`, all classes alike.
        class_weights: ClassWeights = ClassWeights::None,
        /// The dev metric that decides which epoch is best; the task's own if not given.
        metric: Option<Metric> = None,
        /// Which weights the finished model gets: `none` (the best epoch's), `last` or `best` (means of several epochs').
        average: Average = Average::None,
        /// How many epochs are averaged.
        average_count: usize = 5,
        /// Epochs without a better dev metric after which training stops; 0 for never.
        patience: usize = 0,
        /// Steps between checkpoints.
        checkpoint_every: usize = 500,
        /// The precision of arithmetic: `f32`.
        precision: String = "f32".into(),
    }
}
table! {
    /// `[decoding]`: how a finished model is used.
    Decoding {
        /// Vectors predicted at once, at most (a longer set goes alone).
        batch_tokens: usize = 4000,
        /// How what comes next is chosen: `beam` or `sample`; `beam` where something is read and `sample` where not, if not given.
        strategy: Option<Strategy> = None,
        /// Beginnings that are gone on with side by side.
        beam: usize = 1,
        /// The power of its length that the logarithm of a text's probability is divided by, so that short ones do not win alone.
        length_penalty: f64 = 1.0,
        /// Units that `generate` adds to a prompt, or writes at most.
        max_length: usize = 200,
        /// What logits are divided by before a unit is drawn: below 1 the likely ones gain, 0 takes the likeliest.
        temperature: f64 = 1.0,
        /// Only so many of the likeliest units are drawn from, all if not given; so many items are recommended, ten if not given.
        top_k: Option<usize> = None,
        /// Only the likeliest units that make up this share of the probability are drawn from; all if not given.
        top_p: Option<f64> = None,
        /// Whether items that somebody has chosen before are recommended, too.
        seen: bool = false,
    }
}

impl Task {
    /// As it is written in a recipe and in a model directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Classify => "classify",
            Self::Regress => "regress",
            Self::Generate => "generate",
        }
    }

    /// What can decide which epoch is best.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Tag => &[Metric::Loss, Metric::Accuracy, Metric::F1, Metric::MeanIou],
            Self::Classify => &[Metric::Loss, Metric::Accuracy, Metric::F1, Metric::RocAuc],
            Self::Regress => &[Metric::Loss],
            Self::Generate => &[
                Metric::Loss,
                Metric::Accuracy,
                Metric::Bleu,
                Metric::ExactMatch,
                Metric::Wer,
                Metric::Per,
                Metric::Ndcg,
            ],
        }
    }
}

impl Mixer {
    /// As it is written in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Window => "window",
            Self::Cnn => "cnn",
            Self::Rnn => "rnn",
            Self::Attention => "attention",
            Self::Factors => "factors",
            Self::Popularity => "popularity",
        }
    }
}

/// One name or several: of files that belong together line by line, or of columns. Written as a string or as a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OneOrMore", into = "OneOrMore")]
pub struct Paths(Vec<String>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Data {
    /// The columns that are learned, if any is named.
    pub fn labels(&self) -> &[String] {
        self.label.as_ref().map_or(&[], Paths::all)
    }

    /// The column that is learned, where it is one.
    pub fn one_label(&self) -> Option<&str> {
        self.labels().first().map(String::as_str)
    }
}

impl Paths {
    /// All of them.
    pub fn all(&self) -> &[String] {
        &self.0
    }

    /// How messages call them.
    pub fn name(&self) -> String {
        self.0.join(" and ")
    }
}

impl From<&str> for Paths {
    fn from(path: &str) -> Self {
        Self(vec![path.to_string()])
    }
}

impl From<OneOrMore> for Paths {
    fn from(paths: OneOrMore) -> Self {
        match paths {
            OneOrMore::One(path) => Self(vec![path]),
            OneOrMore::More(paths) => Self(paths),
        }
    }
}

impl From<Paths> for OneOrMore {
    fn from(Paths(mut paths): Paths) -> Self {
        match paths.len() {
            1 => Self::One(paths.remove(0)),
            _ => Self::More(paths),
        }
    }
}
