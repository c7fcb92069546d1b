//! Records whose fields have names, one at a time, from whatever a table may be written in.
//!
//! Here belong formats and how they are told. What a field means is the affair of tables, series and graphs. Every value is
//! handed on as text: what is missing as an empty one, a number of JSON or Parquet as it would be written.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::parquet::ParquetRows;
use crate::error::{Error, Result, quote};
use crate::examples::{
    CsvRecords, Refusal, Role, ending, format_named, kind, listed, next_not_blank, object, wrong_count,
};
use crate::source::{Lines, Source};

/// The formats that tables are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    /// Comma-separated fields, of which some stand in quotes; the first line names the columns.
    Csv,
    /// Tab-separated fields; the first line names the columns. A quote is a character like any other.
    Tsv,
    /// A JSON object on each line. What an object lacks is missing.
    Jsonl,
    /// A Parquet file: rows of columns that are no lists.
    Parquet,
}

impl TableFormat {
    /// Every format, in the order in which they are listed to users.
    pub const ALL: [Self; 4] = [Self::Csv, Self::Tsv, Self::Jsonl, Self::Parquet];

    /// The name that chooses this format in `data.format`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// What the ending of a file's name says.
    pub(crate) fn of_ending(ending: &str) -> Option<Self> {
        match ending {
            "csv" => Some(Self::Csv),
            "tsv" | "tab" => Some(Self::Tsv),
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// What the first line says of a text.
    fn of_line(first: &str) -> Self {
        match first {
            _ if first.starts_with('{') => Self::Jsonl,
            _ if first.contains('\t') => Self::Tsv,
            _ => Self::Csv,
        }
    }
}

impl FromStr for TableFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        format_named(&Self::ALL, Self::name, name)
    }
}

impl fmt::Display for TableFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Records one at a time, in the memory of one.
pub(crate) struct Records {
    name: String,
    reader: Reader,
    names: Vec<String>,
    /// The place of each name.
    places: HashMap<String, usize>,
    /// The line of the header, where there is one.
    header: usize,
    record: Record,
}

enum Reader {
    None,
    Csv(Box<CsvRecords>),
    Tsv(Lines),
    Json(Lines),
    Parquet(Box<ParquetRows>),
}

/// The fields of one record.
#[derive(Default)]
pub(super) struct Record {
    text: String,
    /// Where in the text each field stands; empty ones are missing.
    spans: Vec<Range<usize>>,
    /// What cannot be a field's value, such as a list, and the place of it.
    nested: Vec<(usize, &'static str)>,
}

impl Record {
    fn clear(&mut self, count: usize) {
        self.text.clear();
        self.spans.clear();
        self.spans.resize(count, 0..0);
        self.nested.clear();
    }

    /// Writes the field at `place`.
    pub(super) fn set(&mut self, place: usize, value: impl fmt::Display) {
        let start = self.text.len();
        // (writing into a text cannot fail)
        let _ = write!(self.text, "{value}");
        if self.spans.len() <= place {
            self.spans.resize(place + 1, 0..0);
        }
        self.spans[place] = start..self.text.len();
    }

    /// A number, short and without a fraction where it has none; what is no number is missing.
    pub(super) fn set_number(&mut self, place: usize, number: f64) {
        match number {
            _ if number.is_nan() => {}
            _ if number.abs() < 1e15 => self.set(place, number),
            _ => self.set(place, format_args!("{number:e}")),
        }
    }

    /// A value that is none of a table.
    pub(super) fn set_nested(&mut self, place: usize, kind: &'static str) {
        self.nested.push((place, kind));
    }

    fn fields<'text>(&mut self, fields: impl Iterator<Item = &'text str>) {
        self.clear(0);
        for field in fields {
            let start = self.text.len();
            self.text.push_str(field);
            self.spans.push(start..self.text.len());
        }
    }
}

impl Records {
    /// Opens a source; its format is `format`, or else what its ending or its beginning says.
    pub(crate) fn open(source: &Source, format: Option<TableFormat>, encoding: Option<&str>) -> Result<Self> {
        let told = format.or_else(|| TableFormat::of_ending(&ending(source.path())));
        if told != Some(TableFormat::Parquet) && (told.is_some() || !begins_as_parquet(source)) {
            return Self::of_lines(source.open(encoding)?, told);
        }
        let rows = ParquetRows::open(source)?;
        let mut records = Self::new(source.name());
        records.name_columns(rows.names().to_vec(), 1)?;
        records.reader = Reader::Parquet(Box::new(rows));
        Ok(records)
    }

    /// The records of a text; without a format, its first line tells it.
    pub(crate) fn of_lines(mut lines: Lines, format: Option<TableFormat>) -> Result<Self> {
        let format = match format {
            Some(format) => format,
            None => TableFormat::of_line(lines.peek_not_blank()?.unwrap_or_default().trim_start()),
        };
        let mut records = Self::new(lines.name().to_owned());
        match format {
            TableFormat::Csv => {
                let mut csv = Box::new(CsvRecords::new(lines));
                if let Some(line) = csv.next_record()? {
                    records.header_of(csv.fields().map(str::to_owned).collect(), line)?;
                }
                records.reader = Reader::Csv(csv);
            }
            TableFormat::Tsv => {
                if let Some(line) = next_not_blank(&mut lines)? {
                    records.header_of(line.text().split('\t').map(str::to_owned).collect(), line.number)?;
                }
                records.reader = Reader::Tsv(lines);
            }
            TableFormat::Jsonl | TableFormat::Parquet => records.reader = Reader::Json(lines),
        }
        Ok(records)
    }

    fn new(name: String) -> Self {
        Self {
            name,
            reader: Reader::None,
            names: Vec::new(),
            places: HashMap::new(),
            header: 0,
            record: Record::default(),
        }
    }

    fn header_of(&mut self, names: Vec<String>, line: usize) -> Result<()> {
        if names.iter().all(|name| name.trim().parse::<f64>().is_ok()) {
            let what = "the first line holds numbers, not the names of columns";
            return Err(Error::malformed(
                &self.name,
                line,
                what,
                "write a first line that names them, such as a,b,label",
            ));
        }
        self.name_columns(names, line)
    }

    /// A column without a name, as spreadsheets write for numbers of rows, is called by its place.
    fn name_columns(&mut self, names: Vec<String>, line: usize) -> Result<()> {
        self.header = line;
        for (place, name) in names.into_iter().enumerate() {
            let name = name.trim();
            let name = if name.is_empty() { format!("column {}", place + 1) } else { name.to_owned() };
            if self.places.insert(name.clone(), place).is_some() {
                let what = format!("more than one column is called {}", quote(&name));
                return Err(Error::malformed(&self.name, line, what, "give each a name of its own"));
            }
            self.names.push(name);
        }
        Ok(())
    }

    /// How messages name the source.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The names of the columns; of JSON those that were seen so far.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// What messages call a column.
    pub(crate) fn kind(&self) -> &'static str {
        if self.may_lack() { "key" } else { "column" }
    }

    /// Whether a column that is not there may still come.
    pub(crate) fn may_lack(&self) -> bool {
        matches!(self.reader, Reader::Json(_))
    }

    /// Reads the next record and says on which line it begins (of Parquet, which row it is), or `None` at the end.
    pub(crate) fn next_record(&mut self) -> Result<Option<usize>> {
        let line = match &mut self.reader {
            Reader::None => return Ok(None),
            Reader::Csv(csv) => {
                let Some(line) = csv.next_record()? else { return Ok(None) };
                self.record.fields(csv.fields());
                line
            }
            Reader::Tsv(lines) => loop {
                let Some(line) = lines.next_line()? else { return Ok(None) };
                // Tabs alone are a row of which everything is missing; nothing at all is one only of a single column.
                if !line.text().trim_matches(' ').is_empty() {
                    self.record.fields(line.text().split('\t'));
                    break line.number;
                }
            },
            Reader::Json(lines) => {
                let Some(line) = next_not_blank(lines)? else { return Ok(None) };
                self.take_object(line.text()).map_err(|refusal| refusal.at(&self.name, line.number))?;
                return Ok(Some(line.number));
            }
            Reader::Parquet(rows) => {
                self.record.clear(self.names.len());
                return rows.next_row(&mut self.record);
            }
        };
        if self.record.spans.len() != self.names.len() {
            let found = self.record.spans.len();
            return Err(wrong_count(self.names.len(), self.header, found).at(&self.name, line));
        }
        Ok(Some(line))
    }

    fn take_object(&mut self, text: &str) -> std::result::Result<(), Refusal> {
        let object = object(text)?;
        self.record.clear(self.names.len());
        for (name, value) in object {
            let place = match self.places.get(&name) {
                Some(&place) => place,
                None => {
                    let place = self.names.len();
                    self.places.insert(name.clone(), place);
                    self.names.push(name);
                    self.record.spans.push(0..0);
                    place
                }
            };
            match value {
                Value::Null => {}
                Value::String(text) => self.record.set(place, text),
                Value::Number(number) => self.record.set(place, number),
                Value::Bool(truth) => self.record.set(place, truth),
                Value::Array(_) | Value::Object(_) => self.record.set_nested(place, kind(&value)),
            }
        }
        Ok(())
    }

    /// A field of the record that was read last, without spaces around it; empty if it is missing.
    pub(crate) fn field(&self, place: usize) -> &str {
        self.record.spans.get(place).map_or("", |span| self.record.text[span.clone()].trim())
    }

    /// What stands in the place of a field's value but cannot be one.
    pub(crate) fn nested(&self, place: usize) -> Option<&'static str> {
        self.record.nested.iter().find(|(nested, _)| *nested == place).map(|(_, kind)| *kind)
    }

    /// Where something of the record at `line` is wrong.
    pub(crate) fn refuse(&self, line: usize, refusal: Refusal) -> Error {
        refusal.at(&self.name, line)
    }

    /// The place of the column that plays `role`: the one that the user named, or the first of the usual names.
    ///
    /// One that was named and is not there is an error, unless it may still come.
    pub(crate) fn place_of(&self, role: &Role, line: usize) -> Result<Option<usize>> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        match &role.column {
            Some(name) => match Role::named_among(name, &names) {
                None if !self.may_lack() => Err(self.refuse(line, role.not_there(name, self.kind(), &names))),
                found => Ok(found),
            },
            None => Ok(role.usual_among(&names, None)),
        }
    }

    /// The line of the header.
    pub(crate) fn header_line(&self) -> usize {
        self.header.max(1)
    }

    /// That a column which is needed is not there.
    pub(crate) fn lacks(&self, name: &str, line: usize) -> Error {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let what = format!("there is no {} {}", self.kind(), quote(name));
        Error::malformed(&self.name, line, what, format!("give one that name; there are {}", listed(&names)))
    }
}

/// Whether a file without a telling name is Parquet.
pub(crate) fn begins_as_parquet(source: &Source) -> bool {
    let Some(path) = source.path().filter(|path| path.is_file()) else { return false };
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"PAR1"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines and their fields.
    type Rows = Vec<(usize, Vec<String>)>;

    fn all(name: &str, text: &str) -> Result<(Vec<String>, Rows)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut records = Records::open(&Source::from(&path), None, None)?;
        let mut found = Vec::new();
        while let Some(line) = records.next_record()? {
            found.push((line, (0..records.names().len()).map(|place| records.field(place).to_owned()).collect()));
        }
        Ok((records.names().to_vec(), found))
    }

    fn rows(rows: &[(usize, &[&str])]) -> Rows {
        rows.iter().map(|(line, row)| (*line, row.iter().map(|field| (*field).to_owned()).collect())).collect()
    }

    #[test]
    fn every_text_format_gives_the_same_records() {
        for (name, text) in [
            ("a.csv", "a,b\n1, x \n\n,\"y\"\n"),
            ("a", "a,b\n1,x\n\n,y\n"),
            ("a.tsv", "a\tb\n1\tx\n\n\ty\n"),
            ("a", "a\tb\r\n1\tx\r\n\r\n\ty\r\n"),
            ("a.jsonl", "{\"a\":1,\"b\":\"x\"}\n{}\n{\"b\":\"y\",\"a\":null}"),
        ] {
            let (names, found) = all(name, text).unwrap();
            assert_eq!(names, ["a", "b"], "{name} {text}");
            let values: Vec<&[String]> =
                found.iter().map(|(_, row)| row.as_slice()).filter(|row| !row[1].is_empty()).collect();
            assert_eq!(values, [["1", "x"], ["", "y"]], "{name} {text}");
        }
        assert_eq!(all("a.tsv", "a\tb\n\t\n").unwrap().1, rows(&[(2, &["", ""])]));
        assert_eq!(all("a.csv", "").unwrap().1, rows(&[]));
    }

    #[test]
    fn keys_of_objects_may_come_later() {
        let (names, found) = all("a", "{\"a\":true}\n{\"b\":2.5,\"c\":[1]}\n").unwrap();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(found, rows(&[(1, &["true"]), (2, &["", "2.5", ""])]));
    }

    #[test]
    fn headers_and_records_that_do_not_fit_are_refused_by_line() {
        for (name, text, what) in [
            ("a.csv", "1,2\n3,4\n", "1: the first line holds numbers"),
            ("a.csv", "\na,a\n", "2: more than one column is called \"a\""),
            ("a.csv", "a,b\n1,2\n3\n", "3: expected 2 columns as on line 1, found 1"),
            ("a.tsv", "a\tb\n1\t2\t3\n", "2: expected 2 columns as on line 1, found 3"),
            ("a.jsonl", "{\"a\":1}\n[1]\n", "2: expected a JSON object, found an array"),
            ("a.jsonl", "{\"a\":NaN}\n", "1: this is not valid JSON"),
        ] {
            let message = all(name, text).unwrap_err().to_string();
            assert!(message.contains(&format!("{name}:{what}")) && !message.contains('\n'), "{message}");
        }
        assert_eq!(all("a.csv", ",b\n1,2\n").unwrap().0, ["column 1", "b"]);
    }
}
