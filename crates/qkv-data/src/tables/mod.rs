//! Tables: rows whose columns have names, each a number or one of some categories.
//!
//! Here belong reading them, the schema that is fitted to the rows of the training part, and packed batches. A row becomes a
//! set of vectors, one for each column; what the vectors are is the model's affair.
//!
//! - **Formats**: CSV and TSV, whose first line names the columns; JSON lines, an object for each row; Parquet. They are
//!   told by ending (`.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.json`, `.parquet`, `.pq`), or by how the file begins. A column
//!   without a name is called `column N` by its place. Lists and objects are no values: a column of them has to be ignored.
//! - **Missing values**: an empty field, null, a key that an object lacks, and the words of [`MISSING`](crate::numbers::MISSING)
//!   (`NA`, `nan`, `?` and the like). Missing is a state of its own, not a number and not a category.
//! - **Labels and parts**: the label is the column that is named, or the first of `label`, `class`, `category`, `target`, `y`
//!   that is there. Several columns may be named, and a row then needs a label in one of them. A column `split` says
//!   `train`, `dev` or `test`, or nothing, which is as `train`.
//! - **Schema**: a column is of numbers if all that is there in the training part is a number, else of categories. See
//!   [`TableSchema`].
//!
//! ```
//! use qkv_data::tables::{SchemaOptions, TableOptions, TableSchema, read_table};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("train.csv");
//! # std::fs::write(&path, "age,colour,label\n31,red,yes\n,blue,no\n27,red,no\n")?;
//! let table = read_table(path, &TableOptions::default())?;
//! let train: Vec<usize> = (0..table.len()).collect();
//! let schema = TableSchema::fit(&table, &train, &SchemaOptions::default())?;
//! let (rows, unseen) = schema.encode(&table)?;
//! assert!(unseen.is_empty());
//! let batch = rows.batch(&[0, 2]);
//! assert_eq!(batch.offsets.as_slice(), [0, 2, 4]);
//! # Ok(())
//! # }
//! ```

mod parquet;
mod records;
mod schema;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result, quote};
use crate::examples::{Refusal, Role};
use crate::listing::{ListedPart, part_named};
use crate::numbers::GivenLabels;
use crate::source::Source;

pub use records::TableFormat;
pub(crate) use records::{Records, begins_as_parquet};
pub use schema::{EncodedTable, Feature, FeatureKind, SchemaOptions, TableBatch, TableSchema, UnseenCategory};

/// Columns that hold the label if none is named, the likeliest first.
pub(crate) const USUAL_LABEL: [&str; 5] = ["label", "class", "category", "target", "y"];

/// How a table is read.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// The format; `None` tells it by ending and beginning.
    pub format: Option<TableFormat>,
    /// The columns of the labels; if none is named, the first that has a usual name. To read data for a model that is trained,
    /// name the [targets](TableSchema::targets) of its schema, so that no feature is taken for a label.
    pub labels: Vec<String>,
    /// The column of the part; `None` takes one that is called `split`.
    pub split: Option<String>,
    /// The encoding of a text; `None` is UTF-8.
    pub encoding: Option<String>,
    /// Whether a row without any label is an error. If not, the columns of labels may be missing altogether.
    pub need_labels: bool,
    /// Whether nothing but the features is wanted: no column is one of parts, whatever it is called.
    pub plain: bool,
}

impl Default for TableOptions {
    /// For training: any format, labels needed.
    fn default() -> Self {
        Self { format: None, labels: Vec::new(), split: None, encoding: None, need_labels: true, plain: false }
    }
}

/// The rows of a table as they were read: text, since what a column is of only the training part says.
#[derive(Debug, Clone)]
pub struct Table {
    name: String,
    columns: Vec<Column>,
    /// The columns of labels that are there, and the labels of each.
    targets: Vec<String>,
    labels: Vec<GivenLabels>,
    split: Option<String>,
    parts: Option<Vec<ListedPart>>,
    lines: Vec<usize>,
}

/// The values of a column end to end.
#[derive(Debug, Clone, Default)]
struct Column {
    name: String,
    text: String,
    ends: Vec<usize>,
    /// The first value that is none of a table: its line and what it is.
    nested: Option<(usize, &'static str)>,
}

impl Column {
    fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(self.text.len());
    }

    fn value(&self, row: usize) -> &str {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.text[start..self.ends[row]]
    }
}

/// Reads all rows of a source.
///
/// # Errors
///
/// What cannot be opened or decoded and what is not of its format, by line; a column that was named and is not there; a
/// label that is missing where labels are needed; a part that is none; and a table without a row.
pub fn read_table(source: impl Into<Source>, options: &TableOptions) -> Result<Table> {
    let source = source.into();
    let mut records = Records::open(&source, options.format, options.encoding.as_deref())?;
    let mut roles = Roles::new(options);
    let mut table = Table {
        name: source.name(),
        columns: Vec::new(),
        targets: Vec::new(),
        labels: vec![GivenLabels::default(); roles.labels.len()],
        split: None,
        parts: None,
        lines: Vec::new(),
    };
    while let Some(line) = records.next_record()? {
        if roles.known < records.names().len() {
            let line = if records.may_lack() { line } else { records.header_line() };
            roles.choose(&records, options, line)?;
        }
        table.push(&records, &roles, options.need_labels, line)?;
    }
    if table.is_empty() {
        return Err(Error::unusable(
            &table.name,
            "there is no row in it",
            "write a row below the names of the columns",
        ));
    }
    if let (true, Some((role, _))) = (options.need_labels, roles.labels.iter().find(|(_, place)| place.is_none())) {
        return Err(records.refuse(records.header_line(), no_label_column(&records, role)));
    }
    let has_none = |row: &usize| table.labels.iter().all(|labels| labels.get(*row).is_none());
    if let Some(row) = (0..table.len()).find(|row| options.need_labels && has_none(row)) {
        let mend = "write one, or name another column in data.label";
        return Err(Error::malformed(
            &table.name,
            table.lines[row],
            "there is no label, but labels are needed here",
            mend,
        ));
    }
    let name_of = |place: usize| records.names().get(place).cloned();
    table.targets = roles.labels.iter().filter_map(|(_, place)| place.and_then(name_of)).collect();
    let mut is_there = roles.labels.iter().map(|(_, place)| place.is_some());
    table.labels.retain(|_| is_there.next().unwrap_or_default());
    table.split = roles.split.and_then(name_of);
    if roles.split.is_none() && options.split.is_some() && !options.plain {
        return Err(records.lacks(options.split.as_deref().unwrap_or_default(), records.header_line()));
    }
    Ok(table)
}

fn no_label_column(records: &Records, role: &Role) -> Refusal {
    let names: Vec<&str> = records.names().iter().map(String::as_str).collect();
    match &role.column {
        Some(name) => role.not_there(name, records.kind(), &names),
        None => role.none_found(records.kind(), &names),
    }
}

/// Which column plays which role.
struct Roles {
    labels: Vec<(Role, Option<usize>)>,
    split_role: Role,
    split: Option<usize>,
    /// How many columns were there when they were chosen.
    known: usize,
}

impl Roles {
    fn new(options: &TableOptions) -> Self {
        let label =
            |column: Option<&String>| (Role { name: "label", usual: &USUAL_LABEL, column: column.cloned() }, None);
        Self {
            labels: match &options.labels[..] {
                [] => vec![label(None)],
                names => names.iter().map(|name| label(Some(name))).collect(),
            },
            split_role: Role { name: "split", usual: &["split"], column: options.split.clone() },
            split: None,
            known: 0,
        }
    }

    /// Chooses again when there are more columns: of JSON another may be the likelier one, but what has been taken for the
    /// label stays it. What is not there is missed on the line of the header, where there is one.
    fn choose(&mut self, records: &Records, options: &TableOptions, line: usize) -> Result<()> {
        for (role, place) in self.labels.iter_mut().filter(|(_, place)| place.is_none()) {
            *place = match records.place_of(role, line) {
                // Data to predict from has no label.
                Err(_) if !options.need_labels => None,
                found => found?,
            };
        }
        if self.split.is_none() && !options.plain {
            self.split = records.place_of(&self.split_role, line)?;
        }
        self.known = records.names().len();
        Ok(())
    }
}

/// The part that a field of a column for it means.
pub(crate) fn part_of(given: &str) -> std::result::Result<ListedPart, Refusal> {
    if given.is_empty() {
        return Ok(ListedPart::Train);
    }
    let mend = "write train, dev or test, or name another column in data.split";
    part_named(given).ok_or_else(|| Refusal::new(format!("{} is no part of a data set", quote(given)), mend))
}

impl Table {
    fn push(&mut self, records: &Records, roles: &Roles, needs_labels: bool, line: usize) -> Result<()> {
        for name in records.names().iter().skip(self.columns.len()) {
            let ends = vec![0; self.lines.len()];
            self.columns.push(Column { name: name.clone(), ends, ..Column::default() });
        }
        for (place, column) in self.columns.iter_mut().enumerate() {
            let has_role = roles.split == Some(place) || roles.labels.iter().any(|(_, label)| *label == Some(place));
            column.push(if has_role { "" } else { records.field(place) });
            if let Some(kind) = records.nested(place) {
                column.nested.get_or_insert((line, kind));
            }
        }
        let needed = roles.labels.iter().filter(|_| needs_labels).filter_map(|(_, place)| *place);
        if let Some((place, kind)) = needed.chain(roles.split).find_map(|place| Some((place, records.nested(place)?))) {
            let what = format!("the {} {} holds {kind}", records.kind(), quote(&records.names()[place]));
            return Err(records.refuse(line, Refusal::new(what, "write a text or a number there, or nothing")));
        }
        for (labels, (_, place)) in self.labels.iter_mut().zip(&roles.labels) {
            labels.push(place.map(|place| records.field(place)).filter(|label| !label.is_empty()), line);
        }
        if let Some(split) = roles.split {
            let part = part_of(records.field(split)).map_err(|refusal| records.refuse(line, refusal))?;
            self.parts.get_or_insert_with(|| vec![ListedPart::Train; self.lines.len()]).push(part);
        }
        self.lines.push(line);
        Ok(())
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How messages name the table.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns that may be features, in their order: all but those of labels and part.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.features().map(|column| column.name.as_str())
    }

    fn features(&self) -> impl Iterator<Item = &Column> {
        let has_role = |name: &String| self.targets.contains(name) || Some(name) == self.split.as_ref();
        self.columns.iter().filter(move |column| !has_role(&column.name))
    }

    /// The values of each of the [`columns`](Self::columns) as they were read, beside its name.
    pub fn values(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        self.features().map(|column| (column.name.as_str(), (0..self.len()).map(|row| column.value(row))))
    }

    /// The columns of labels that are there, in the order in which they were named.
    #[must_use]
    pub fn targets(&self) -> &[String] {
        &self.targets
    }

    /// The labels of all rows, for each of the [`targets`](Self::targets).
    #[must_use]
    pub fn labels(&self) -> &[GivenLabels] {
        &self.labels
    }

    /// The part of each row, if a column says so.
    #[must_use]
    pub fn parts(&self) -> Option<&[ListedPart]> {
        self.parts.as_deref()
    }

    /// The line where each row begins, counted from one; of Parquet, its number.
    #[must_use]
    pub fn lines(&self) -> &[usize] {
        &self.lines
    }
}
