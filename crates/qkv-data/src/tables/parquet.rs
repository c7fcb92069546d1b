//! The rows of a Parquet file.
//!
//! Here belongs what the values of its columns become as text. Lists and structures are no values of a table; a column of
//! them is an error only if it is used.

use std::cell::Cell;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use parquet::basic::{LogicalType, TimeUnit};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::records::Record;
use crate::error::{Error, Result};
use crate::source::Source;

const MEND: &str = "is it whole? write it again, or as CSV";

/// Rows one at a time; the library reads some thousand of each column together.
pub(super) struct ParquetRows {
    name: String,
    names: Vec<String>,
    rows: RowIter<'static>,
    /// Whether a column is of nanoseconds since 1970, of which the library makes plain numbers.
    nanoseconds: Vec<bool>,
    /// How many rows were read.
    read: usize,
    /// How many rows the file says that it has.
    count: usize,
}

impl ParquetRows {
    pub(super) fn open(source: &Source) -> Result<Self> {
        let name = source.name();
        let Some(path) = source.path() else {
            return Err(Error::unusable(&name, "cannot be read as Parquet", "name a file"));
        };
        if path.is_dir() {
            return Err(Error::unusable(&name, "is a folder", "name one of the files in it"));
        }
        let file = File::open(path).map_err(|source| Error::io(&name, source))?;
        let opened = guarded(|| {
            let reader = SerializedFileReader::new(file)?;
            let metadata = reader.metadata().file_metadata();
            let names: Vec<String> =
                metadata.schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
            let nanoseconds = metadata.schema().get_fields().iter().map(|field| is_of_nanoseconds(field)).collect();
            let count = usize::try_from(metadata.num_rows()).unwrap_or(0);
            Ok((names, nanoseconds, count, RowIter::from_file_into(Box::new(reader))))
        });
        let (names, nanoseconds, count, rows) = opened.map_err(|what| Error::unusable(&name, what, MEND))?;
        Ok(Self { name, names, rows, nanoseconds, read: 0, count })
    }

    /// The names of the columns.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads the next row into an empty record and says which it is, counted from one, or `None` at the end.
    pub(super) fn next_row(&mut self, record: &mut Record) -> Result<Option<usize>> {
        let rows = &mut self.rows;
        let nanoseconds = &self.nanoseconds;
        // What the library writes of a date that cannot be is a panic as well.
        let read = guarded(|| {
            let Some(row) = rows.next().transpose()? else { return Ok(false) };
            take(&row, nanoseconds, record);
            Ok(true)
        });
        let row = self.read + 1;
        let is_row = read.map_err(|what| Error::unusable(&self.name, format!("row {row} {what}"), MEND))?;
        if !is_row {
            if self.read < self.count {
                let what = format!("ends after {} of the {} rows that it says it has", self.read, self.count);
                return Err(Error::unusable(&self.name, what, MEND));
            }
            return Ok(None);
        }
        self.read += 1;
        Ok(Some(self.read))
    }
}

fn is_of_nanoseconds(field: &Type) -> bool {
    let unit = |logical: LogicalType| matches!(logical, LogicalType::Timestamp(time) if time.unit == TimeUnit::NANOS);
    field.is_primitive() && field.get_basic_info().logical_type_ref().cloned().is_some_and(unit)
}

thread_local! {
    /// Whether a panic on this thread is waited for, and is not to be told.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Lets panics that are waited for come without a word; others are told as before.
fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                told(panic);
            }
        }));
    });
}

/// What the library says on one line. What makes it panic, as a damaged file may, is an error as well.
fn guarded<T>(read: impl FnOnce() -> std::result::Result<T, ParquetError>) -> std::result::Result<T, String> {
    keep_quiet();
    IS_GUARDED.set(true);
    let read = catch_unwind(AssertUnwindSafe(read));
    IS_GUARDED.set(false);
    match read {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => {
            let said: String = error.to_string().chars().take(200).collect();
            Err(format!("cannot be read as Parquet ({})", said.replace(['\n', '\r'], " ")))
        }
        Err(_) => Err("cannot be read as Parquet (its parts contradict each other)".to_owned()),
    }
}

fn take(row: &Row, nanoseconds: &[bool], record: &mut Record) {
    for (place, (_, field)) in row.get_column_iter().enumerate() {
        match field {
            Field::Null => {}
            Field::Bool(value) => record.set(place, value),
            Field::Byte(value) => record.set(place, value),
            Field::Short(value) => record.set(place, value),
            Field::Int(value) => record.set(place, value),
            Field::Long(value) if nanoseconds.get(place) == Some(&true) => {
                record.set(place, Field::TimestampMicros(value.div_euclid(1000)));
            }
            Field::Long(value) => record.set(place, value),
            // (the library writes 1. for a decimal without a fraction)
            Field::Decimal(_) => record.set(place, field.to_string().trim_end_matches('.')),
            Field::UByte(value) => record.set(place, value),
            Field::UShort(value) => record.set(place, value),
            Field::UInt(value) => record.set(place, value),
            Field::ULong(value) => record.set(place, value),
            Field::Float16(value) => record.set_number(place, value.to_f64()),
            // (by way of its text, so that 0.1 of single precision is 0.1)
            Field::Float(value) => record.set_number(place, value.to_string().parse().unwrap_or(f64::NAN)),
            Field::Double(value) => record.set_number(place, *value),
            Field::Str(text) => record.set(place, text),
            Field::Bytes(bytes) => match bytes.as_utf8() {
                Ok(text) => record.set(place, text),
                Err(_) => record.set_nested(place, "bytes that are no text"),
            },
            Field::Group(_) | Field::MapInternal(_) => record.set_nested(place, "an object"),
            Field::ListInternal(_) => record.set_nested(place, "an array"),
            // Dates and times write themselves.
            other => record.set(place, other),
        }
    }
}
