//! The keys of a recipe: five tables, each key with its default and what it means. How they are read is in the module
//! above.

use serde::{Deserialize, Serialize};

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

/// An enum that is written in a recipe as a word.
macro_rules! word {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident,)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }
    };
}

word! {
    /// What comes out.
    Task {
        /// A label for each vector: N→N.
        Tag,
        /// What comes next, again and again: 1→N.
        Generate,
    }
}
word! {
    /// What a text is a sequence of.
    Unit {
        /// Words.
        Words,
        /// Characters.
        Characters,
    }
}
word! {
    /// What comes in.
    InputKind {
        /// Words.
        Text,
    }
}
word! {
    /// How a word becomes a vector.
    Words {
        /// A one-hot vector, one element for each known word and one for all others, through the first linear layer.
        OneHot,
        /// A row of a table of `embedding_dim` columns.
        Embedding,
    }
}
word! {
    /// Whether a word's characters add to its vector.
    Characters {
        /// They do not: unknown words are all alike.
        None,
        /// Hashed prefixes, suffixes and shape.
        Affixes,
    }
}
word! {
    /// How a position learns of the others.
    Mixer {
        /// Not at all: the plain fully connected net.
        None,
        /// A fully connected layer over a window.
        Window,
        /// A convolutional net.
        Cnn,
        /// A bidirectional LSTM.
        Rnn,
        /// Self-attention.
        Attention,
    }
}
word! {
    /// How a query and a key become a logit.
    Score {
        /// Scaled dot product.
        Dot,
        /// `w · tanh(q + k)`.
        Additive,
    }
}
word! {
    /// How logits become weights.
    Normalizer {
        /// Softmax.
        Softmax,
        /// ReLU over the number of keys.
        Relu,
    }
}
word! {
    /// How vectors are told their place.
    Positions {
        /// Not at all.
        None,
        /// Sines and cosines added to the vectors.
        Sinusoidal,
        /// A learned vector for each place.
        Learned,
        /// Queries and keys turned by their place.
        Rotary,
        /// A learned bias for each distance.
        Relative,
    }
}
word! {
    /// Where a block normalises.
    Norm {
        /// Before each part.
        Before,
        /// After each part.
        After,
    }
}
word! {
    /// The non-linearity of the fully connected parts.
    Activation {
        /// max(x, 0).
        Relu,
        /// x · Φ(x).
        Gelu,
    }
}
word! {
    /// How the learning rate falls after the warm-up.
    Decay {
        /// It does not.
        None,
        /// In a straight line to 0.
        Linear,
        /// Along half a cosine to 0.
        Cosine,
    }
}
word! {
    /// Which weights the finished model gets.
    Average {
        /// Those of the best epoch.
        None,
        /// The mean of `average_count` epochs in a row, those that end at the epoch whose mean is best.
        Last,
        /// The mean of the `average_count` epochs that are best by their own weights.
        Best,
    }
}

table! {
    /// `[data]`: where examples come from.
    Data {
        /// What to train on: a file or `builtin:NAME`.
        train: Option<String> = None,
        /// What early stopping and the best epoch are judged on; carved from `train` if not given.
        dev: Option<String> = None,
        /// The share of `train` that is carved off where `dev` is not given.
        dev_fraction: f64 = 0.1,
        /// `conllu`, `columns` or `text`; told by content and ending if not given.
        format: Option<String> = None,
        /// The encoding of the files, by its usual name.
        encoding: Option<String> = None,
        /// The column of a CoNLL-U file that holds the labels: `upos`, `xpos`, `feats`, `deprel`.
        label: String = "upos".into(),
        /// The longest set that is trained on, in vectors.
        max_tokens: usize = 1024,
    }
}
table! {
    /// `[input]`: how an example becomes a set of vectors.
    Input {
        /// What comes in: `text`.
        kind: InputKind = InputKind::Text,
        /// What a text is a sequence of: `words` or `characters`; `generate` needs `characters`.
        unit: Unit = Unit::Words,
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
    }
}
table! {
    /// `[model]`: the encoder and what comes out of it.
    Model {
        /// What comes out: `tag` or `generate`.
        task: Task = Task::Tag,
        /// How a position learns of the others: `none`, `window`, `cnn`, `rnn` or `attention`.
        mixer: Mixer = Mixer::Attention,
        /// Blocks of a mixer and a fully connected part.
        layers: usize = 2,
        /// Elements of a vector.
        d_model: usize = 128,
        /// Elements inside the fully connected part; four times `d_model` if not given.
        d_ff: Option<usize> = None,
        /// Attention heads.
        heads: usize = 4,
        /// How a query and a key become a logit: `dot` or `additive`.
        score: Score = Score::Dot,
        /// How logits become weights: `softmax` or `relu`.
        normalizer: Normalizer = Normalizer::Softmax,
        /// Vectors on each side that attention, `window` or `cnn` sees; not given: all for attention, 2 for `window`, 1 for `cnn`.
        window: Option<usize> = None,
        /// How vectors are told their place: `none`, `sinusoidal`, `learned`, `rotary` or `relative`.
        positions: Positions = Positions::Sinusoidal,
        /// Units that `generate` sees at most to say what comes next.
        context: usize = 64,
        /// Rows of the table of learned positions.
        max_positions: usize = 512,
        /// The distance up to which relative positions are told apart; the window, or 16 without one, if not given.
        relative_range: Option<usize> = None,
        /// Width of one direction of the LSTM; half of `d_model` if not given.
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
        /// Units that `generate` adds to a prompt.
        max_length: usize = 200,
        /// What logits are divided by before a unit is drawn: below 1 the likely ones gain, 0 takes the likeliest.
        temperature: f64 = 1.0,
        /// Only so many of the likeliest units are drawn from; all if not given.
        top_k: Option<usize> = None,
    }
}

impl Task {
    /// As it is written in a recipe and in a model directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Generate => "generate",
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
        }
    }
}
