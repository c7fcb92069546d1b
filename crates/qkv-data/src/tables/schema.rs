//! What the columns of a table are, as the training part says, and rows as numbers by it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use qkv::Offsets;
use serde::{Deserialize, Serialize};

use super::{Column, Table};
use crate::error::{Error, Result, nearest, quote};
use crate::examples::{Role, listed};
use crate::numbers::{DOUBLE, Moments, finite, is_missing, not_finite};

/// The rows of the embedding that every column has before those of its categories: one for a value (of numbers) or for
/// categories that training has not seen, and one for missing values.
const OWN_ROWS: u32 = 2;

/// What is not told from the data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaOptions {
    /// Columns of categories, though all they hold may be numbers.
    pub categorical: Vec<String>,
    /// Columns that are not looked at.
    pub ignore: Vec<String>,
    /// How often a category has to stand in the training part to be one; a rarer one is as if it had not been seen, which
    /// is how the vector for unseen ones gets trained. 0 and 1 take all.
    pub min_count: usize,
}

/// A column that a model looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// What it is called.
    pub name: String,
    /// What it is of.
    #[serde(flatten)]
    pub kind: FeatureKind,
}

/// What a column is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum FeatureKind {
    /// Numbers.
    Number {
        /// Their mean in the training part.
        mean: f64,
        /// Their deviation there; 1 if they are all the same.
        deviation: f64,
    },
    /// Categories. A column of which the training part has no value is of no categories.
    Category {
        /// Those of the training part, sorted.
        categories: Vec<String>,
    },
}

/// What a model knows of its table: which columns it looks at, by name, and what they are of.
///
/// A table with the same columns in another order is read alike; other columns are ignored, one that is not there is an
/// error. Every cell has a row in one embedding table, and every column of numbers a weight vector beside it. Of the
/// [`rows`](Self::rows) of the embedding, column after column has
///
/// - a row that a value is added to (the bias), of numbers; that of categories which training has not seen, of categories;
/// - the row of missing values;
/// - a row for each category.
///
/// So the vector of a cell is `embedding[row] + scale · weight[column]`, where `scale` is the standardised number, and 0 of a
/// category and of what is missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SchemaParts", into = "SchemaParts")]
pub struct TableSchema {
    features: Vec<Feature>,
    targets: Vec<String>,
    /// The first embedding row of each column, and how many there are in all.
    starts: Vec<u32>,
    /// The embedding row of each category, for each column.
    category_rows: Vec<HashMap<String, u32>>,
}

#[derive(Serialize, Deserialize)]
struct SchemaParts {
    features: Vec<Feature>,
    targets: Vec<String>,
}

impl From<TableSchema> for SchemaParts {
    fn from(schema: TableSchema) -> Self {
        Self { features: schema.features, targets: schema.targets }
    }
}

impl TryFrom<SchemaParts> for TableSchema {
    type Error = String;

    fn try_from(SchemaParts { features, targets }: SchemaParts) -> std::result::Result<Self, String> {
        let names: HashSet<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
        if features.is_empty() {
            return Err("there is no column left to look at".to_owned());
        }
        if names.len() < features.len() {
            return Err("a column stands there twice".to_owned());
        }
        let (mut starts, mut category_rows) = (vec![0], Vec::new());
        let mut end = 0_u32;
        for feature in &features {
            let mut rows = HashMap::new();
            match &feature.kind {
                FeatureKind::Number { mean, deviation } => {
                    if !mean.is_finite() || !deviation.is_finite() || *deviation <= 0.0 {
                        return Err(format!("mean or deviation of {} are no numbers", quote(&feature.name)));
                    }
                }
                FeatureKind::Category { categories } => {
                    rows.extend(categories.iter().cloned().zip(end + OWN_ROWS..));
                    if rows.len() < categories.len() {
                        return Err(format!("a category of {} stands there twice", quote(&feature.name)));
                    }
                }
            }
            let count = u32::try_from(rows.len()).ok().and_then(|count| count.checked_add(OWN_ROWS));
            end = count.and_then(|count| end.checked_add(count)).ok_or("there are too many categories")?;
            starts.push(end);
            category_rows.push(rows);
        }
        Ok(Self { features, targets, starts, category_rows })
    }
}

/// A category that training has not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnseenCategory {
    /// The column.
    pub column: String,
    /// The category.
    pub category: String,
    /// The rows where it stands, and the line of each.
    pub places: Vec<(usize, usize)>,
}

impl TableSchema {
    /// Fits a schema to the rows `train` of a table.
    ///
    /// # Errors
    ///
    /// A column that `options` name and that is not there; a number that is infinite or beyond single precision, by line; a
    /// column of lists or objects that is not ignored; a table without a column left.
    ///
    /// # Panics
    ///
    /// If a row is not below the table's length.
    pub fn fit(table: &Table, train: &[usize], options: &SchemaOptions) -> Result<Self> {
        let names: Vec<&str> = table.columns().collect();
        for (setting, given) in [("data.categories", &options.categorical), ("data.ignore", &options.ignore)] {
            if let Some(name) = given.iter().find(|name| !names.contains(&name.as_str())) {
                let what = format!("there is no column {name:?} ({setting})");
                return Err(Error::unusable(&table.name, what, advice(name, &names)));
            }
        }
        let mut features = Vec::new();
        for column in table.features().filter(|column| !options.ignore.contains(&column.name)) {
            check_nested(table, column)?;
            let is_categorical = options.categorical.contains(&column.name);
            let kind = kind_of(table, column, train, is_categorical, options.min_count)?;
            features.push(Feature { name: column.name.clone(), kind });
        }
        let parts = SchemaParts { features, targets: table.targets.clone() };
        parts.try_into().map_err(|what: String| {
            let mend = "beside label and split there has to be a column that is not ignored";
            Error::unusable(&table.name, what, mend)
        })
    }

    /// The columns, in the order of the vectors of a set.
    #[must_use]
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// How many vectors a row becomes: one for each column.
    #[must_use]
    pub fn width(&self) -> usize {
        self.features.len()
    }

    /// How many rows the embedding has.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.starts[self.features.len()] as usize
    }

    /// The columns of labels in the training data, if it had such.
    #[must_use]
    pub fn targets(&self) -> &[String] {
        &self.targets
    }

    /// What the row `row` of the embedding stands for, to be shown: `age`, `colour = red`, `colour unseen`, `age missing`.
    #[must_use]
    pub fn row_name(&self, row: usize) -> Option<String> {
        let place = self.starts.iter().take(self.width()).rposition(|&start| start as usize <= row)?;
        let Feature { name, kind } = &self.features[place];
        match (row - self.starts[place] as usize, kind) {
            (0, FeatureKind::Number { .. }) => Some(name.clone()),
            (0, FeatureKind::Category { .. }) => Some(format!("{name} unseen")),
            (1, _) => Some(format!("{name} missing")),
            (more, FeatureKind::Category { categories }) => {
                categories.get(more - OWN_ROWS as usize).map(|category| format!("{name} = {category}"))
            }
            _ => None,
        }
    }

    /// The rows of a table as numbers, and the categories that training has not seen, in the order of columns and lines.
    ///
    /// # Errors
    ///
    /// A column that is not there, with the names of those that are; what is no number in a column of numbers, by line; and
    /// a column of lists or objects.
    pub fn encode(&self, table: &Table) -> Result<(EncodedTable, Vec<UnseenCategory>)> {
        let columns = self.features.iter().map(|feature| find(table, feature)).collect::<Result<Vec<_>>>()?;
        let (count, width) = (table.len(), self.width());
        let mut encoded = EncodedTable { rows: vec![0; count * width], scales: vec![0.0; count * width], width };
        let mut unseen = Vec::new();
        for (place, column) in columns.into_iter().enumerate() {
            self.encode_column(table, column, place, &mut encoded, &mut unseen)?;
        }
        Ok((encoded, unseen))
    }

    fn encode_column(
        &self,
        table: &Table,
        column: &Column,
        place: usize,
        encoded: &mut EncodedTable,
        unseen: &mut Vec<UnseenCategory>,
    ) -> Result<()> {
        let (start, ids) = (self.starts[place], &self.category_rows[place]);
        let mut unseen_places: HashMap<&str, usize> = HashMap::new();
        for (row, &line) in table.lines.iter().enumerate() {
            let value = column.value(row);
            let cell = row * self.width() + place;
            encoded.rows[cell] = match &self.features[place].kind {
                _ if is_missing(value) => start + 1,
                FeatureKind::Number { mean, deviation } => {
                    let number = number_of(table, column, value, line)?;
                    let scale = finite((number - mean) / deviation);
                    encoded.scales[cell] = scale.ok_or_else(|| not_finite(value).at(&table.name, line))?;
                    start
                }
                FeatureKind::Category { .. } => *ids.get(value).unwrap_or_else(|| {
                    let at = *unseen_places.entry(value).or_insert_with(|| {
                        let (column, category) = (column.name.clone(), value.to_owned());
                        unseen.push(UnseenCategory { column, category, places: Vec::new() });
                        unseen.len() - 1
                    });
                    unseen[at].places.push((row, line));
                    &self.starts[place]
                }),
            };
        }
        Ok(())
    }
}

/// The column of a table that a feature is about.
fn find<'table>(table: &'table Table, feature: &Feature) -> Result<&'table Column> {
    let names: Vec<&str> = table.columns().collect();
    let Some(place) = Role::named_among(&feature.name, &names) else {
        let what = format!("there is no column {}, which the model was trained with", quote(&feature.name));
        let taken = table.targets.iter().chain(&table.split).find(|name| **name == feature.name);
        let mend = match taken {
            Some(_) => "it was taken for the label or the part: name the columns of these in data.label and data.split"
                .to_owned(),
            None => advice(&feature.name, &names),
        };
        return Err(Error::unusable(&table.name, what, mend));
    };
    let name = names[place];
    let found = table.features().find(|column| column.name == name);
    let column = found.ok_or_else(|| Error::unusable(&table.name, "has lost a column", "read it again"))?;
    check_nested(table, column)?;
    Ok(column)
}

fn advice(name: &str, names: &[&str]) -> String {
    match nearest(name, names) {
        Some(near) => format!("did you mean {near:?}? there are {}", listed(names)),
        None => format!("there are {}", listed(names)),
    }
}

fn check_nested(table: &Table, column: &Column) -> Result<()> {
    let Some((line, kind)) = column.nested else { return Ok(()) };
    let what = format!("the column {} holds {kind}", quote(&column.name));
    let mend = "write a number or a text there, or name the column in data.ignore";
    Err(Error::malformed(&table.name, line, what, mend))
}

fn number_of(table: &Table, column: &Column, value: &str, line: usize) -> Result<f64> {
    let Ok(number) = value.parse::<f64>() else {
        let what = format!("{} is not a number, but the column {} is of numbers", quote(value), quote(&column.name));
        let mend = "write one, leave it empty, or train with the column named in data.categories";
        return Err(Error::malformed(&table.name, line, what, mend));
    };
    match finite(number) {
        Some(_) => Ok(number),
        None => Err(not_finite(value).at(&table.name, line)),
    }
}

fn kind_of(
    table: &Table,
    column: &Column,
    train: &[usize],
    is_categorical: bool,
    min_count: usize,
) -> Result<FeatureKind> {
    let values = || train.iter().map(|&row| (row, column.value(row))).filter(|(_, value)| !is_missing(value));
    let all_numbers = || values().all(|(_, value)| value.parse::<f64>().is_ok());
    if !is_categorical && values().next().is_some() && all_numbers() {
        let mut moments = Moments::default();
        for (row, value) in values() {
            moments.add(number_of(table, column, value, table.lines[row])?);
        }
        return Ok(FeatureKind::Number { mean: moments.mean(), deviation: moments.deviation(DOUBLE) });
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    values().for_each(|(_, value)| *counts.entry(value).or_default() += 1);
    let often = counts.into_iter().filter(|(_, count)| *count >= min_count);
    Ok(FeatureKind::Category { categories: often.map(|(category, _)| category.to_owned()).collect() })
}

/// The rows of a table as numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedTable {
    rows: Vec<u32>,
    scales: Vec<f32>,
    width: usize,
}

/// Some rows of a table, packed: a set for each, a vector for each column.
#[derive(Debug, Clone, PartialEq)]
pub struct TableBatch {
    /// The embedding row of each cell, `[tokens]`.
    pub rows: Arc<[u32]>,
    /// What the weight vector of the cell's column is multiplied by, `[tokens]`.
    pub scales: Arc<[f32]>,
    /// The column of each cell, `[tokens]`: the row of its weight vector.
    pub columns: Arc<[u32]>,
    /// Which cells are which row's: set `s` is the row `indices[s]`.
    pub offsets: Offsets,
    /// Which rows these are.
    pub indices: Vec<usize>,
}

impl EncodedTable {
    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len() / self.width
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many vectors each row becomes, for the plan of an epoch.
    #[must_use]
    pub fn lengths(&self) -> Vec<usize> {
        vec![self.width; self.len()]
    }

    /// The rows `indices`, packed in that order.
    ///
    /// # Panics
    ///
    /// If an index is not below [`len`](Self::len).
    #[must_use]
    pub fn batch(&self, indices: &[usize]) -> TableBatch {
        let cells = |index: usize| index * self.width..(index + 1) * self.width;
        TableBatch {
            rows: indices.iter().flat_map(|&index| &self.rows[cells(index)]).copied().collect(),
            scales: indices.iter().flat_map(|&index| &self.scales[cells(index)]).copied().collect(),
            columns: indices.iter().flat_map(|_| 0..self.width as u32).collect(),
            offsets: Offsets::from_lengths(indices.iter().map(|_| self.width)),
            indices: indices.to_vec(),
        }
    }
}
