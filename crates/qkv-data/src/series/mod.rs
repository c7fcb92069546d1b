//! Series: sequences of vectors of numbers, such as what sensors measure, with a label for each step or for the whole.
//!
//! Here belong reading them, their store, mean and deviation, and packed batches. Sound has a module of its own.
//!
//! A source is one of:
//!
//! - **CSV, TSV or Parquet** in long form: a row for each step. The column `series`, `sequence` or `id` says which sequence a
//!   step is of; the steps of one follow each other. Without it, the file is one sequence. The columns `label` (or `class`,
//!   `category`, `target`, `y`) and `split` are what they are called; all others are numbers, unless [`SeriesOptions::columns`] or
//!   [`SeriesOptions::ignore`] say otherwise.
//! - **JSON lines**: an object for each sequence, `{"vectors": [[1.0, 2.0], [3.0, 4.0]]}` or, of one number for each step,
//!   `{"values": [1.0, 2.0]}`. Beside it there may be `label` for the whole or `labels` for each step, `split`, and `id`.
//! - **NPY**: an array `[sets, steps, dim]`, one sequence `[steps, dim]`, or one of single numbers `[steps]`. The labels stand
//!   beside `NAME.npy` in `NAME-labels.npy`, `NAME_labels.npy` or `labels.npy`, and beside `x.npy` in `y.npy` as well:
//!   `[sets]`, `[sets, steps]` or, of one sequence, `[steps]`; numbers or texts. A folder holds `x.npy` and `y.npy`, or the
//!   parts `x_train.npy`, `x_dev.npy` (`x_val.npy`), `x_test.npy`, each with its `y`, in capitals or not.
//!
//! Numbers are kept in single precision and have to be there and finite: what is missing is refused with its place. Times in
//! seconds since 1970 do not keep their seconds; count from the beginning of the sequence instead.
//!
//! ```
//! use qkv_data::series::{SeriesOptions, read_series};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("train.csv");
//! # std::fs::write(&path, "series,x,y,label\na,1,2,up\na,3,4,up\nb,5,6,down\n")?;
//! let set = read_series(path, &SeriesOptions::default())?;
//! let standard = set.standard(&[0, 1]);
//! let batch = set.batch(&[1, 0], Some(&standard));
//! assert_eq!(batch.offsets.as_slice(), [0, 1, 3]);
//! assert_eq!(set.labels().get(1), Some("down"));
//! # Ok(())
//! # }
//! ```

mod build;
mod json;
mod npy;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use qkv::Offsets;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::examples::{ending, format_named};
use crate::listing::ListedPart;
use crate::numbers::{GivenLabels, Standard};
use crate::source::Source;
use crate::tables::{Records, TableFormat};

use build::Builder;

/// The formats that series are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeriesFormat {
    /// Comma-separated fields, a row for each step.
    Csv,
    /// Tab-separated fields, a row for each step.
    Tsv,
    /// A JSON object on each line, which is a sequence.
    Jsonl,
    /// A Parquet file, a row for each step.
    Parquet,
    /// An array of NumPy, or a folder of such.
    Npy,
}

impl SeriesFormat {
    /// Every format, in the order in which they are listed to users.
    pub const ALL: [Self; 5] = [Self::Csv, Self::Tsv, Self::Jsonl, Self::Parquet, Self::Npy];

    /// The name that chooses this format in `data.format`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::Npy => "npy",
        }
    }

    /// What the file is by its name; the format of a table is told by its beginning as well.
    fn of(source: &Source) -> Option<Self> {
        let is_folder = source.path().is_some_and(|path| path.is_dir());
        match ending(source.path()).as_str() {
            _ if is_folder => Some(Self::Npy),
            "npy" => Some(Self::Npy),
            ending => TableFormat::of_ending(ending).map(|format| match format {
                TableFormat::Csv => Self::Csv,
                TableFormat::Tsv => Self::Tsv,
                TableFormat::Jsonl => Self::Jsonl,
                TableFormat::Parquet => Self::Parquet,
            }),
        }
    }
}

impl FromStr for SeriesFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        format_named(&Self::ALL, Self::name, name)
    }
}

impl fmt::Display for SeriesFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What a label is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelLevel {
    /// Of a whole sequence. Labels of steps are taken if all of a sequence are the same.
    #[default]
    Set,
    /// Of each step.
    Step,
}

/// How series are read.
#[derive(Debug, Clone)]
pub struct SeriesOptions {
    /// The format; `None` tells it by ending and beginning.
    pub format: Option<SeriesFormat>,
    /// The column that says which sequence a step is of; `None` takes `series`, `sequence` or `id`.
    pub series: Option<String>,
    /// The column or key of the label; `None` takes the usual names, of JSON `label` and `labels`.
    pub label: Option<String>,
    /// The column or key of the part; `None` takes `split`.
    pub split: Option<String>,
    /// The columns of the numbers, in this order; empty takes all that play no other role.
    pub columns: Vec<String>,
    /// Columns that are not looked at.
    pub ignore: Vec<String>,
    /// What labels are of.
    pub level: LabelLevel,
    /// Whether a sequence without a label (for [`LabelLevel::Step`], without any) is an error.
    pub need_labels: bool,
    /// Whether nothing but the numbers is wanted: labels and parts are not looked at.
    pub plain: bool,
    /// The encoding of a text; `None` is UTF-8.
    pub encoding: Option<String>,
}

impl Default for SeriesOptions {
    /// For training: any format, a label for each sequence.
    fn default() -> Self {
        Self {
            format: None,
            series: None,
            label: None,
            split: None,
            columns: Vec::new(),
            ignore: Vec::new(),
            level: LabelLevel::Set,
            need_labels: true,
            plain: false,
            encoding: None,
        }
    }
}

/// Sequences of vectors end to end, and what is known of each.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSet {
    name: String,
    dim: usize,
    columns: Vec<String>,
    values: Vec<f32>,
    offsets: Offsets,
    labels: GivenLabels,
    level: LabelLevel,
    parts: Option<Vec<ListedPart>>,
    names: Vec<Option<String>>,
    lines: Vec<usize>,
}

/// Some sequences, packed: all their vectors end to end.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesBatch {
    /// The vectors, `[tokens, dim]`.
    pub values: Vec<f32>,
    /// Numbers in a vector.
    pub dim: usize,
    /// Which vectors are which sequence's: set `s` is the sequence `indices[s]`.
    pub offsets: Offsets,
    /// Which sequences these are.
    pub indices: Vec<usize>,
}

/// Reads all sequences of a source. What a source may be is said at the [module](self).
///
/// # Errors
///
/// What cannot be opened or decoded and what is not of its format; a number that is missing or not finite, by line or by
/// place; vectors of different sizes; a sequence without a step, or whose steps are apart; labels that are missing where they
/// are needed, or of another [level](SeriesOptions::level); a part that is none; and a source without a sequence.
pub fn read_series(source: impl Into<Source>, options: &SeriesOptions) -> Result<SeriesSet> {
    let source = source.into();
    let told = options.format.or_else(|| SeriesFormat::of(&source));
    let told = if told.is_none() && npy::begins_as_npy(&source) { Some(SeriesFormat::Npy) } else { told };
    let mut builder = Builder::new(source.name());
    let encoding = options.encoding.as_deref();
    match told {
        Some(SeriesFormat::Npy) => npy::read(&source, options, &mut builder)?,
        Some(SeriesFormat::Jsonl) => json::read(source.open(encoding)?, options, &mut builder)?,
        Some(SeriesFormat::Csv) => read_rows(&source, TableFormat::Csv, options, &mut builder)?,
        Some(SeriesFormat::Tsv) => read_rows(&source, TableFormat::Tsv, options, &mut builder)?,
        Some(SeriesFormat::Parquet) => read_rows(&source, TableFormat::Parquet, options, &mut builder)?,
        None => {
            // A pipe can be opened once: the lines that were looked at are those that are read.
            if source.path().is_none() || !crate::tables::begins_as_parquet(&source) {
                let mut lines = source.open(encoding)?;
                if lines.peek_not_blank()?.is_some_and(|line| line.trim_start().starts_with('{')) {
                    json::read(lines, options, &mut builder)?;
                } else {
                    rows::read(Records::of_lines(lines, None)?, options, &mut builder)?;
                }
            } else {
                read_rows(&source, TableFormat::Parquet, options, &mut builder)?;
            }
        }
    }
    builder.finish(options)
}

fn read_rows(source: &Source, format: TableFormat, options: &SeriesOptions, builder: &mut Builder) -> Result<()> {
    rows::read(Records::open(source, Some(format), options.encoding.as_deref())?, options, builder)
}

impl SeriesSet {
    /// How many sequences there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.sets()
    }

    /// Whether there are no sequences.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How messages name the source.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Numbers in a vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// What the numbers of a vector are called, if columns name them; else empty.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Which steps are which sequence's.
    #[must_use]
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// How many steps each sequence has.
    #[must_use]
    pub fn lengths(&self) -> Vec<usize> {
        self.offsets.lengths().collect()
    }

    /// The vectors of a sequence, `[steps, dim]`, as they were read.
    ///
    /// # Panics
    ///
    /// If there is no such sequence.
    #[must_use]
    pub fn values(&self, index: usize) -> &[f32] {
        let steps = self.offsets.range(index);
        &self.values[steps.start * self.dim..steps.end * self.dim]
    }

    /// The labels: one for each sequence, or for each step of all sequences end to end, as [`level`](Self::level) says.
    #[must_use]
    pub fn labels(&self) -> &GivenLabels {
        &self.labels
    }

    /// What the labels are of.
    #[must_use]
    pub fn level(&self) -> LabelLevel {
        self.level
    }

    /// The part of each sequence, if anything says so.
    #[must_use]
    pub fn parts(&self) -> Option<&[ListedPart]> {
        self.parts.as_deref()
    }

    /// What a sequence is called, if it has a name.
    ///
    /// # Panics
    ///
    /// If there is no such sequence.
    #[must_use]
    pub fn name_of(&self, index: usize) -> Option<&str> {
        self.names[index].as_deref()
    }

    /// The line where each sequence begins, counted from one; of NPY, its place in the array, counted from one.
    #[must_use]
    pub fn lines(&self) -> &[usize] {
        &self.lines
    }

    /// Mean and deviation of the sequences `train`.
    ///
    /// # Panics
    ///
    /// If an index is not below [`len`](Self::len).
    #[must_use]
    pub fn standard(&self, train: &[usize]) -> Standard {
        Standard::of(train.iter().map(|&index| self.values(index)), self.dim)
    }

    /// That the vectors are of `dim` numbers, as a model was trained with.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if they are not.
    pub fn check_dim(&self, dim: usize) -> Result<()> {
        if self.dim == dim {
            return Ok(());
        }
        let what = format!("has vectors of {} numbers, but the model was trained with {dim}", self.dim);
        Err(Error::unusable(&self.name, what, "give the same columns as in training, in the same order"))
    }

    /// The sequences `indices`, packed in that order, standardised if `standard` says how.
    ///
    /// # Panics
    ///
    /// If an index is not below [`len`](Self::len), or `standard` is of another [`dim`](Self::dim).
    #[must_use]
    pub fn batch(&self, indices: &[usize], standard: Option<&Standard>) -> SeriesBatch {
        let offsets = Offsets::from_lengths(indices.iter().map(|&index| self.offsets.len_of(index)));
        let mut values = Vec::with_capacity(offsets.tokens() * self.dim);
        indices.iter().for_each(|&index| values.extend_from_slice(self.values(index)));
        if let Some(standard) = standard {
            assert_eq!(standard.dim(), self.dim, "SeriesSet::batch: mean and deviation of vectors of another size");
            standard.apply(&mut values);
        }
        SeriesBatch { values, dim: self.dim, offsets, indices: indices.to_vec() }
    }
}
