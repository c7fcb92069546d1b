//! Rows of tables as sets of columns, and series as sets of rows.

use std::collections::HashSet;
use std::sync::Arc;

use qkv::gather::NONE;
use qkv_data::numbers::Standard;
use qkv_data::series::{LabelLevel, SeriesFormat, SeriesOptions, SeriesSet, read_series};
use qkv_data::tables::{
    EncodedTable, SchemaOptions, Table, TableBatch, TableFormat, TableOptions, TableSchema, UnseenCategory, read_table,
};
use qkv_data::{LabelledText, Source};
use serde::{Deserialize, Serialize};

use super::classes::Classes;
use super::media::Media;
use super::parts::column_of_parts;
use super::reader::{Item, Purpose, Read, format_of};
use super::{VectorBatch, Wants};
use crate::error::{Error, Result};
use crate::recipe::{Normalise, Recipe, Task};

/// How series become sets. A model keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeriesReader {
    /// The columns of the numbers, in their order.
    columns: Vec<String>,
    pub(super) dim: usize,
    /// Mean and deviation of each; `None` if numbers stay as they are.
    standard: Option<Standard>,
}

impl SeriesReader {
    pub(super) fn of(recipe: &Recipe, series: &SeriesSet, train: &[usize]) -> Self {
        let standard = (recipe.input.normalise != Normalise::None).then(|| series.standard(train));
        Self { columns: series.columns().to_vec(), dim: series.dim(), standard }
    }
}

/// Some series.
#[derive(Clone, Debug)]
pub(crate) struct SeriesSets {
    reader: Arc<SeriesReader>,
    series: Arc<SeriesSet>,
    which: Vec<usize>,
    /// The place of each row's class, [`NONE`] where it has none; empty where rows have no classes.
    labels: Arc<[u32]>,
    classes: Classes,
}

impl SeriesSets {
    pub(super) fn new(
        reader: Arc<SeriesReader>,
        series: Arc<SeriesSet>,
        which: Vec<usize>,
        wanted: Wants,
    ) -> Result<Self> {
        series.check_dim(reader.dim)?;
        let mut classes = Classes::default();
        let labels = match wanted {
            Wants::Each => {
                series.labels().iter().map(|label| label.map_or(NONE, |label| classes.place(label))).collect()
            }
            _ => Arc::default(),
        };
        Ok(Self { reader, series, which, labels, classes })
    }

    pub(super) fn len(&self) -> usize {
        self.which.len()
    }

    pub(super) fn lengths(&self) -> Vec<usize> {
        self.which.iter().map(|&place| self.series.offsets().range(place).len()).collect()
    }

    pub(super) fn batch(&self, indices: &[usize]) -> VectorBatch {
        let which: Vec<usize> = indices.iter().map(|&index| self.which[index]).collect();
        let batch = self.series.batch(&which, self.reader.standard.as_ref());
        let targets = match self.labels.is_empty() {
            true => Vec::new(),
            false => {
                let number = |step: usize| match self.labels[step] {
                    NONE => NONE,
                    place => self.classes.number(place),
                };
                which.iter().flat_map(|&place| self.series.offsets().range(place)).map(number).collect()
            }
        };
        VectorBatch { values: batch.values, dim: batch.dim, offsets: batch.offsets, grids: Vec::new(), targets }
    }

    pub(super) fn class_names(&self) -> Vec<String> {
        if self.labels.is_empty() {
            return Vec::new();
        }
        let steps = self.which.iter().flat_map(|&place| self.series.offsets().range(place));
        self.classes.names_of(steps.map(|step| self.labels[step]).filter(|&place| place != NONE))
    }

    pub(super) fn number_classes(&mut self, known: &[String]) -> Vec<String> {
        self.classes.number_by(known)
    }

    pub(super) fn add_content(&self, content: &mut Vec<u8>) {
        let batch = self.batch(&(0..self.len()).collect::<Vec<_>>());
        content.extend(batch.values.iter().flat_map(|x| x.to_le_bytes()));
        content.extend(batch.targets.iter().flat_map(|id| id.to_le_bytes()));
    }
}

/// Reads series and what is known of them. `known` are the columns of a model.
pub(super) fn read_rows(recipe: &Recipe, path: &str, purpose: Purpose, known: Option<&SeriesReader>) -> Result<Read> {
    let data = &recipe.data;
    let wants = matches!(purpose.wanted, Wants::Labels | Wants::Each);
    let options = SeriesOptions {
        format: format_of::<SeriesFormat>(recipe)?,
        series: data.series.clone(),
        label: data.one_label().map(str::to_string),
        split: column_of_parts(recipe),
        columns: known.map(|known| known.columns.clone()).unwrap_or_default(),
        ignore: data.ignore.as_ref().map(|names| names.all().to_vec()).unwrap_or_default(),
        level: if recipe.model.task == Task::Tag { LabelLevel::Step } else { LabelLevel::Set },
        need_labels: wants,
        plain: !wants,
        encoding: data.encoding.clone(),
    };
    let series = read_series(no_builtin(path, "rows of numbers")?, &options)?;
    let item = |place: usize| {
        let (line, name) = (series.lines()[place], series.name_of(place));
        let text = name.map_or_else(|| format!("{path}:{line}"), str::to_string);
        let label = match purpose.wanted {
            Wants::Labels => series.labels().get(place).map(str::to_string),
            _ => None,
        };
        let part = series.parts().map(|parts| parts[place]);
        Item {
            labelled: LabelledText { text: text.clone(), label, line, group: None },
            file: format!("{path}:{line}"),
            targets: Vec::new(),
            part,
        }
    };
    let items = (0..series.len()).map(item).collect();
    Ok(Read { items, media: Media::Series(Arc::new(series)) })
}

/// Some rows of a table.
#[derive(Clone, Debug)]
pub(crate) struct TableSets {
    table: Arc<EncodedTable>,
    which: Vec<usize>,
}

impl TableSets {
    pub(super) fn new(table: Arc<EncodedTable>, which: Vec<usize>) -> Self {
        Self { table, which }
    }

    pub(super) fn len(&self) -> usize {
        self.which.len()
    }

    pub(super) fn lengths(&self) -> Vec<usize> {
        let lengths = self.table.lengths();
        self.which.iter().map(|&row| lengths[row]).collect()
    }

    pub(super) fn batch(&self, indices: &[usize]) -> TableBatch {
        self.table.batch(&indices.iter().map(|&index| self.which[index]).collect::<Vec<_>>())
    }

    pub(super) fn add_content(&self, content: &mut Vec<u8>) {
        let batch = self.batch(&(0..self.len()).collect::<Vec<_>>());
        content.extend(batch.rows.iter().flat_map(|id| id.to_le_bytes()));
        content.extend(batch.scales.iter().flat_map(|x| x.to_le_bytes()));
    }
}

/// Reads the rows of a table and what is known of them. `known` is the schema of a model.
pub(super) fn read_cells(recipe: &Recipe, path: &str, purpose: Purpose, known: Option<&TableSchema>) -> Result<Read> {
    let data = &recipe.data;
    let wants_labels = purpose.wanted == Wants::Labels;
    // What a model has learned is looked for by its name, or by the one that is given for this file.
    let learned = known.map(TableSchema::targets).filter(|known| !known.is_empty()).unwrap_or(data.labels());
    let renamed = wants_labels && data.labels().len() == learned.len();
    let options = TableOptions {
        format: format_of::<TableFormat>(recipe)?,
        labels: if renamed { data.labels() } else { learned }.to_vec(),
        split: column_of_parts(recipe),
        encoding: data.encoding.clone(),
        need_labels: wants_labels,
        plain: !wants_labels,
    };
    let table = read_table(no_builtin(path, "a table")?, &options)?;
    let item = |row: usize| {
        let line = table.lines()[row];
        let labels = table.labels().iter().filter(|_| wants_labels);
        let mut targets: Vec<Option<String>> = labels.map(|labels| labels.get(row).map(str::to_string)).collect();
        let label = if targets.len() == 1 { targets.remove(0) } else { None };
        let part = table.parts().map(|parts| parts[row]);
        let text = format!("{path}:{line}");
        Item { labelled: LabelledText { text: text.clone(), label, line, group: None }, file: text, targets, part }
    };
    let items = (0..table.len()).map(item).collect();
    Ok(Read { items, media: Media::Table(Arc::new(table)) })
}

/// The schema that the training rows decide.
pub(super) fn schema(recipe: &Recipe, table: &Table, train: &[usize]) -> Result<TableSchema> {
    let names = |given: &Option<crate::recipe::Paths>| given.as_ref().map(|names| names.all().to_vec());
    let options = SchemaOptions {
        categorical: names(&recipe.data.categories).unwrap_or_default(),
        ignore: names(&recipe.data.ignore).unwrap_or_default(),
        min_count: recipe.input.min_count,
    };
    Ok(TableSchema::fit(table, train, &options)?)
}

/// What the user should know of categories that a model does not: those in the rows `used`, a line each, or one for a column of many.
pub(super) fn unseen_warnings(
    recipe: &Recipe,
    name: &str,
    unseen: &[UnseenCategory],
    used: &HashSet<usize>,
) -> Vec<String> {
    const MOST: usize = 5;
    let why = match recipe.input.min_count {
        0 | 1 => "never occurs in training".to_string(),
        count => format!("is too rare in training (input.min_count = {count})"),
    };
    let mut of_columns: Vec<(&str, Vec<String>)> = Vec::new();
    for UnseenCategory { column, category, places } in unseen {
        let lines: Vec<usize> = places.iter().filter(|(row, _)| used.contains(row)).map(|(_, line)| *line).collect();
        let Some(line) = lines.first() else { continue };
        let told = format!("{name}:{line}: `{category}` of {column} {why} ({} times here)", lines.len());
        match of_columns.last_mut().filter(|(last, _)| last == column) {
            Some((_, of_column)) => of_column.push(told),
            None => of_columns.push((column, vec![told])),
        }
    }
    let shortened = |(column, mut told): (&str, Vec<String>)| {
        let others = told.len().saturating_sub(MOST);
        if others > 0 {
            told.truncate(MOST);
            told.push(format!("{name}: of {others} other categories of {column} it is the same"));
        }
        told
    };
    of_columns.into_iter().flat_map(shortened).collect()
}

fn no_builtin(path: &str, what: &str) -> Result<Source> {
    match Source::parse(path) {
        Source::Builtin(name) => Err(Error::Training(format!("builtin:{name}: is not {what}: name a file"))),
        source => Ok(source),
    }
}
