//! What a key of a recipe may be, where it is one of some words.

use serde::{Deserialize, Serialize};

/// An enum that is written in a recipe as a word.
macro_rules! word {
    ($(#[doc = $about:literal])+ $name:ident {
        $($(#[doc = $doc:literal])+ $(#[serde($($written:tt)+)])? $variant:ident,)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[doc = $doc])+ $(#[serde($($written)+)])? $variant,)+ }
    };
}

word! {
    /// What comes out.
    Task {
        /// A label for each vector: N→N.
        Tag,
        /// A label for the whole: N→1.
        Classify,
        /// A number for the whole: N→1.
        Regress,
        /// What comes next, again and again, from nothing or from what was read: N→M.
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
        /// Pieces of words, found by byte-pair encoding.
        Bpe,
        /// Pieces of words, found by a unigram language model.
        Unigram,
        /// The sounds of one word, between spaces.
        Phones,
        /// What a person chose, one after the other.
        Items,
    }
}
word! {
    /// What comes in.
    InputKind {
        /// Words, or other units of a text.
        Text,
        /// A recording: its frames.
        Audio,
        /// A picture: its patches.
        Image,
        /// A picture and a text as one set, such as a question about it.
        #[serde(rename = "image+text")]
        ImageText,
        /// A graph: its nodes, and the edges between them.
        Graph,
        /// A molecule: its atoms, and the bonds between them.
        Molecule,
        /// A row of a table: its columns.
        Table,
        /// Rows of numbers, one behind the other.
        Vectors,
    }
}
word! {
    /// What a frame of sound is described by.
    Features {
        /// The logarithms of the energies in bands of the mel scale.
        LogMel,
        /// Their cosine transform.
        Mfcc,
    }
}
word! {
    /// Over what frames are brought to mean 0 and deviation 1.
    Normalise {
        /// Each recording by itself.
        Recording,
        /// All of the training data.
        Corpus,
        /// Nothing: they stay as they are.
        None,
    }
}
word! {
    /// What a pixel is.
    Colour {
        /// One number.
        Grey,
        /// Red, green and blue.
        Rgb,
    }
}
word! {
    /// How what is written is found among the vectors of what was read.
    Output {
        /// A decoder writes unit by unit and looks at all that was read.
        Decoder,
        /// Every vector gives a unit or nothing (Graves et al., 2006).
        Ctc,
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
        /// An LSTM.
        Rnn,
        /// Self-attention.
        Attention,
        /// The dot product of a vector for the one and a vector for the other: matrix factorisation.
        Factors,
        /// What is chosen most, whoever chooses.
        Popularity,
    }
}
word! {
    /// How a query and a key become a logit.
    Score {
        /// Scaled dot product.
        Dot,
        /// `w · tanh(q + k)`; of bare blocks `w · leaky_relu(q + k)`.
        Additive,
        /// `leaky_relu(a · q + b · k)`, of bare blocks alone.
        RankOne,
    }
}
word! {
    /// What a block is.
    Block {
        /// A mixer and a fully connected part, each with a norm and a residual connection.
        Full,
        /// A mixer alone: a product, attention along edges, a non-linearity.
        Bare,
    }
}
word! {
    /// Whom a node of a graph learns of by attention.
    Sees {
        /// Those at the other end of its edges.
        Edges,
        /// All of its graph.
        All,
        /// All of its graph, and how far away they are.
        Distances,
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
    /// How the vectors of a set become one.
    Pooling {
        /// Their mean.
        Mean,
        /// Their sum, so that it counts how many there are.
        Sum,
        /// Their sum and their mean, end to end.
        SumMean,
        /// A vector that stands for the whole, put in front.
        Class,
        /// The first and the last.
        Ends,
        /// All end to end, of the columns of a table.
        Flat,
        /// Attention with a learned query.
        Attention,
    }
}
word! {
    /// How what is written learns of what was read.
    Cross {
        /// By one vector that sums it up and is fed to every step.
        None,
        /// By attention to all vectors of it.
        Attention,
    }
}
word! {
    /// How much each class counts in the loss.
    ClassWeights {
        /// Each example as much as any other.
        None,
        /// Each class as much as any other.
        Balanced,
    }
}
word! {
    /// What decides which epoch is best.
    Metric {
        /// Mean loss.
        Loss,
        /// The share of right labels.
        Accuracy,
        /// F1: of entities for `tag`, the mean over classes for `classify`.
        F1,
        /// BLEU of what is written.
        Bleu,
        /// The share of texts that are exactly right.
        #[serde(rename = "exact_match", alias = "exact-match")]
        ExactMatch,
        /// Word error rate.
        Wer,
        /// Phone error rate.
        Per,
        /// NDCG of the first ten items that are recommended.
        Ndcg,
        /// The mean over classes of intersection over union, of pixels.
        #[serde(rename = "mean_iou", alias = "mean-iou")]
        MeanIou,
        /// The area under the ROC curve, of two classes.
        #[serde(rename = "roc_auc", alias = "roc-auc")]
        RocAuc,
    }
}
word! {
    /// How what comes next is chosen.
    Strategy {
        /// The likeliest of several beginnings that are gone on with side by side.
        Beam,
        /// By drawing.
        Sample,
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
