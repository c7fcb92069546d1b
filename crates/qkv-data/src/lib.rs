//! Files to packed sets of vectors: what stands between a user's data and a model.
//!
//! Here belong the readers of file formats (and the writers that put predictions back), the tokenizer, vocabularies,
//! word vectors, affixes, splits and batches. Models, tensors, losses and metrics do not: this crate knows no framework,
//! and of the kernels it knows only the types that say how vectors are packed.
//!
//! The way of a tagger's data through it:
//!
//! ```
//! use qkv_data::{
//!     AffixOptions, EncodedSentences, Labels, ReadOptions, Sentence, Vocabulary, VocabularyOptions, plan_epoch,
//!     read_tagged,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("train.tsv");
//! # std::fs::write(&path, "I\tPRON\nsaw\tVERB\na\tDET\nsaw\tNOUN\n")?;
//! let train: Vec<Sentence> = read_tagged(path, &ReadOptions::default())?;
//! let words = train.iter().flat_map(|sentence| &sentence.words);
//! let vocabulary = Vocabulary::build(words, &VocabularyOptions::default());
//! let labels = Labels::build(train.iter().filter_map(|sentence| sentence.labels.as_ref()).flatten());
//! let affixes = AffixOptions::default();
//! let (encoded, unseen) = EncodedSentences::from_sentences(&train, &vocabulary, Some(&affixes), Some(&labels));
//! assert!(unseen.is_empty());
//! for indices in plan_epoch(&encoded.lengths(), 2048, 0, 0) {
//!     let batch = encoded.batch(&indices);
//!     assert_eq!(batch.words.len() * batch.affix_width, batch.affixes.len());
//! }
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]
// In a test a panic is the report.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod affixes;
pub mod audio;
pub mod batch;
pub mod builtin;
pub mod characters;
pub mod codec;
pub mod columns;
pub mod conllu;
pub mod error;
mod examples;
pub mod format;
pub mod graphs;
pub mod image;
pub mod labelled;
pub mod listing;
pub mod molecules;
pub mod numbers;
pub mod pairs;
pub mod plan;
pub mod ratings;
pub mod sentence;
pub mod series;
pub mod source;
pub mod split;
pub mod tables;
pub mod text;
pub mod vectors;
pub mod vocab;

pub use affixes::AffixOptions;
pub use batch::{EncodedSentences, TextBatch, UNSEEN, UnseenLabel};
pub use characters::{carve_end, read_text};
pub use codec::{Codec, CodecOptions, Unit, UnknownUnit};
pub use conllu::Column;
pub use error::{Error, Result};
pub use format::Format;
pub use labelled::{
    Group, LabelledFormat, LabelledOptions, LabelledStream, LabelledText, numbers, read_labelled, stream_labelled,
};
pub use listing::{ListOptions, Listed, ListedPart, ManifestColumns, NamePattern, list_files};
pub use molecules::{Molecule, MoleculeOptions, MoleculeSet, parse_smiles, read_molecules};
pub use pairs::{Pair, PairFormat, PairOptions, PairStream, read_pairs, stream_pairs};
pub use plan::{plan_epoch, plan_following, plan_in_order, plan_windows, windows};
pub use ratings::{LeaveOneOut, Rating, Ratings, leave_one_out, part_of_rating, read_ratings};
pub use sentence::{
    RawSentence, ReadOptions, Sentence, SentenceStream, check_lengths, read_tagged, stream, stream_reader,
    write_labelled,
};
pub use source::Source;
pub use split::carve;
pub use text::{Lexicon, tokenize};
pub use vectors::{WordVectors, read_vectors};
pub use vocab::{Labels, Vocabulary, VocabularyOptions};
