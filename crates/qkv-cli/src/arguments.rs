//! What can be written behind `qkv`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Self-attention for your own data, on an ordinary machine: train, evaluate and use models whose input is a set of vectors.
#[derive(Parser, Debug)]
#[command(name = "qkv", version, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Threads to compute with; all cores if not given. The results do not depend on it
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// The case for self-attention, on an embedded corpus: no files, no network
    Demo(Demo),
    /// Train a model by a recipe, by flags, or by both
    Train(Train),
    /// Judge a model on labelled data, on pairs, on a text, or on ratings
    Evaluate(Evaluate),
    /// Use a model: labels for words or texts, what is written from each text, what follows each prompt, what to recommend
    Predict(Predict),
    /// The vectors that know their context, of any layer, as a file; or the nearest neighbours of a word, before and after context
    Embed(Embed),
    /// What a model is, on what it was trained, what it reached
    Info(Info),
    /// Measure this program on this machine
    #[command(subcommand)]
    Bench(Bench),
    /// What a call of attention does: kernel, tiles, operations, memory
    Explain(Explain),
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// The folder that the page of attention weights and the table go to
    #[arg(long, value_name = "DIR", default_value = "qkv-demo")]
    pub(crate) out: PathBuf,
    /// What parameters, order and dropout are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print the results as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Train {
    /// The recipe, a TOML file; its keys are listed in docs/recipes.md
    #[arg(value_name = "RECIPE.toml")]
    pub(crate) recipe: Option<PathBuf>,
    /// The folder that the model goes to
    #[arg(long, value_name = "MODEL", required_unless_present = "dry_run")]
    pub(crate) out: Option<PathBuf>,
    /// Set a key of the recipe, as in model.layers=3; may be given often
    #[arg(long, value_name = "TABLE.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// What comes out (model.task)
    #[arg(long, value_name = "TASK")]
    pub(crate) task: Option<String>,
    /// What comes in (input.kind)
    #[arg(long, value_name = "KIND")]
    pub(crate) input: Option<String>,
    /// What to train on: a file or builtin:NAME; of parallel text two files, source then target (data.train)
    #[arg(long, value_name = "DATA", num_args = 1..=2)]
    pub(crate) train: Option<Vec<String>>,
    /// What the best epoch is judged on (data.dev)
    #[arg(long, value_name = "DATA", num_args = 1..=2)]
    pub(crate) dev: Option<Vec<String>>,
    /// Passes over the training set, at most (training.epochs)
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<u64>,
    /// The format of the data, one of those of the task; told by ending and content if not given (data.format)
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// The encoding of the data, such as latin-1; UTF-8 if not given (data.encoding)
    #[arg(long, value_name = "NAME")]
    pub(crate) encoding: Option<String>,
    /// The precision of arithmetic (training.precision)
    #[arg(long, value_name = "P")]
    pub(crate) precision: Option<String>,
    /// What parameters, order and dropout are drawn from (training.seed)
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Go on with the run in the folder
    #[arg(long)]
    pub(crate) resume: bool,
    /// Train so many seeds, into MODEL/seed-N, and report mean and deviation
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) runs: NonZeroUsize,
    /// Check recipe and data and predict time and memory; nothing is written
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Evaluate {
    /// The folder of the model
    pub(crate) model: PathBuf,
    /// Labelled data, pairs, a text, or ratings: a file or builtin:NAME; of parallel text two files, source then target
    #[arg(num_args = 1..=2, required = true)]
    pub(crate) data: Vec<String>,
    /// The part of data that carries its own splits: train, dev or test
    #[arg(long, value_name = "S", default_value = "test")]
    pub(crate) split: String,
    /// The format of the data, one of those of the task; told by ending and content if not given
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// The encoding of the data, such as latin-1; that of the training data if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) encoding: Option<String>,
    /// Set a key of [decoding] otherwise than in training, as in decoding.beam=5; may be given often
    #[arg(long, value_name = "DECODING.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Predict {
    /// The folder of the model
    pub(crate) model: PathBuf,
    /// Sentences: a file (CoNLL-U, one word a line, or plain text), or - for standard input; a text on each line for a model that
    /// classifies or translates, a prompt on each line for one that goes on with a text, ratings (or with --format text a line of
    /// items with tabs between them) for one that recommends, a folder of pictures for one that reads these
    #[arg(default_value = "-")]
    pub(crate) data: String,
    /// The format of the data, one of those of the task; told by ending and content if not given
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// The encoding of the data, such as latin-1; that of the training data if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) encoding: Option<String>,
    /// Set a key of [decoding] otherwise than in training, as in decoding.temperature=0.5; may be given often
    #[arg(long, value_name = "DECODING.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// What is drawn from, where something is; that of training if not given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Write the class of each pixel of each picture as a PNG file into this folder, and what the values mean into its classes.txt
    #[arg(long, value_name = "DIR")]
    pub(crate) masks: Option<PathBuf>,
    /// Print one JSON object for each sentence, prompt or picture
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Embed {
    /// The folder of the model
    pub(crate) model: PathBuf,
    /// What vectors are made of: a file, builtin:NAME, or - for standard input
    #[arg(required_unless_present = "nearest", conflicts_with = "nearest")]
    pub(crate) data: Option<String>,
    /// The file of vectors, one row for each word or other unit; a table with a line for each row goes beside it
    #[arg(long, value_name = "VECTORS.npy", required_unless_present = "nearest", conflicts_with = "nearest")]
    pub(crate) out: Option<PathBuf>,
    /// Whose vectors: 0 for what goes into the first block, N for what comes out of block N; the last if not given
    #[arg(long, value_name = "N")]
    pub(crate) layer: Option<usize>,
    /// One row for each text, the mean of its vectors
    #[arg(long, conflicts_with = "nearest")]
    pub(crate) pooled: bool,
    /// Print the nearest neighbours of this word instead: as one-hot vectors, as embeddings, and in context
    #[arg(long, value_name = "WORD")]
    pub(crate) nearest: Option<String>,
    /// Neighbours to print
    #[arg(long, value_name = "N", default_value = "10", conflicts_with_all = ["data", "out"], requires = "nearest")]
    pub(crate) count: NonZeroUsize,
    /// A text in which the word stands, for its neighbours in context; may be given often
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["data", "out"], requires = "nearest")]
    pub(crate) text: Vec<String>,
    /// Where neighbours in context are looked for: a file or builtin:NAME; in the texts if not given
    #[arg(long = "data", value_name = "FILE", id = "corpus", conflicts_with_all = ["data", "out"], requires = "nearest")]
    pub(crate) corpus: Option<String>,
    /// The part of data that carries its own splits: train, dev or test
    #[arg(long, value_name = "S", default_value = "test")]
    pub(crate) split: String,
    /// The format of the data, one of those of the task; told by ending and content if not given
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// The encoding of the data, such as latin-1; that of the training data if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) encoding: Option<String>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Info {
    /// The folder of the model
    pub(crate) model: PathBuf,
    /// Print it as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Bench {
    /// The attention kernels, beside the peak of the machine
    Attention(BenchAttention),
    /// Steps of training and inference of an encoder, beside the peak of the machine
    Train(BenchTrain),
    /// Epochs of graph attention networks on one graph
    Graphs(BenchGraphs),
}

#[derive(Args, Debug)]
pub(crate) struct BenchGraphs {
    /// Only the case of this name, or those whose name has this text in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// The folder of Cora's nodes.tsv and edges.tsv, for the case `cora`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Print one JSON object for each case
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct BenchAttention {
    /// The cases of scores, normalisers, masks, biases and dropout, instead of those of plain attention
    #[arg(long, conflicts_with = "lengths")]
    pub(crate) options: bool,
    /// Only the cases whose name has this text in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Only the case of exactly this name
    #[arg(long, value_name = "NAME", conflicts_with = "only")]
    pub(crate) case: Option<String>,
    /// Print the names of the cases and measure nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Print the measured peak alone, as one JSON object; with --options the speed of reading memory as well
    #[arg(long, conflicts_with_all = ["only", "case", "list"])]
    pub(crate) peak: bool,
    /// The precision of arithmetic: f32
    #[arg(long, value_name = "P", default_value = "f32")]
    pub(crate) precision: String,
    /// The lengths of the ragged sets: numbers between commas, or a file of them; drawn from a fixed seed if not given
    #[arg(long, value_name = "LENGTHS")]
    pub(crate) lengths: Option<String>,
    /// Print one JSON object for each case
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct BenchTrain {
    /// The cases of one sequence with each mixer, by its length, instead of those of attention
    #[arg(long)]
    pub(crate) mixers: bool,
    /// Only the cases whose name has this text in it; those that take minutes only if no other has
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Only the case of exactly this name
    #[arg(long, value_name = "NAME", conflicts_with = "only")]
    pub(crate) case: Option<String>,
    /// Print the names of the cases and measure nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// The cases that show how memory grows, with two runs of each
    #[arg(long)]
    pub(crate) memory: bool,
    /// The precision of arithmetic: f32
    #[arg(long, value_name = "P", default_value = "f32")]
    pub(crate) precision: String,
    /// The length of each set: numbers between commas, or a file of them; drawn from a fixed seed if not given
    #[arg(long, value_name = "LENGTHS")]
    pub(crate) lengths: Option<String>,
    /// Print one JSON object for each case
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// Heads of the query
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) heads: usize,
    /// Heads of key and value, a divisor of those of the query; as many if not given
    #[arg(long, value_name = "N")]
    pub(crate) kv_heads: Option<usize>,
    /// Length of a query and of a key
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) head_dim: usize,
    /// Length of a value; that of a key if not given
    #[arg(long, value_name = "N")]
    pub(crate) value_dim: Option<usize>,
    /// Vectors of one set
    #[arg(long, value_name = "N", default_value_t = 2048, conflicts_with = "lengths")]
    pub(crate) tokens: usize,
    /// Vectors of each of several sets: numbers between commas, or a file of them
    #[arg(long, value_name = "LENGTHS")]
    pub(crate) lengths: Option<String>,
    /// Keys and values, where they are other vectors than the queries
    #[arg(long, value_name = "N", conflicts_with = "lengths")]
    pub(crate) kv_tokens: Option<usize>,
    /// Which keys a query attends to: full, causal or window; full, or what --window or --causal-offset asks for
    #[arg(long, value_name = "MASK")]
    pub(crate) mask: Option<String>,
    /// Keys before and behind a query that it attends to; as many behind as before if one number is given
    #[arg(long, value_name = "LEFT[,RIGHT]")]
    pub(crate) window: Option<String>,
    /// How far the keys are ahead of the queries; 0 if not given
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) causal_offset: Option<isize>,
    /// Run it on random data: time, speed and memory
    #[arg(long)]
    pub(crate) measure: bool,
    /// Print it as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
