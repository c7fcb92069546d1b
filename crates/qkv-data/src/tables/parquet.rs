//! The rows of a Parquet file.
//!
//! Here belongs what the values of its columns become as text. Lists and structures are no values of a table; a column of
//! them is an error only if it is used.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};

use super::records::Record;
use crate::error::{Error, Result};
use crate::source::Source;

const MEND: &str = "is it whole? write it again, or as CSV";

/// Rows one at a time; the library reads some thousand of each column together.
pub(super) struct ParquetRows {
    name: String,
    names: Vec<String>,
    rows: RowIter<'static>,
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
            let count = usize::try_from(metadata.num_rows()).unwrap_or(0);
            Ok((names, count, RowIter::from_file_into(Box::new(reader))))
        });
        let (names, count, rows) = opened.map_err(|what| Error::unusable(&name, what, MEND))?;
        Ok(Self { name, names, rows, read: 0, count })
    }

    /// The names of the columns.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads the next row into an empty record and says which it is, counted from one, or `None` at the end.
    pub(super) fn next_row(&mut self, record: &mut Record) -> Result<Option<usize>> {
        let rows = &mut self.rows;
        let row = guarded(|| rows.next().transpose()).map_err(|what| Error::unusable(&self.name, what, MEND))?;
        let Some(row) = row else {
            if self.read < self.count {
                let what = format!("ends after {} of the {} rows that it says it has", self.read, self.count);
                return Err(Error::unusable(&self.name, what, MEND));
            }
            return Ok(None);
        };
        self.read += 1;
        take(&row, record);
        Ok(Some(self.read))
    }
}

/// What the library says on one line. What makes it panic, as a damaged file may, is an error as well.
fn guarded<T>(read: impl FnOnce() -> std::result::Result<T, ParquetError>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => {
            let said: String = error.to_string().chars().take(200).collect();
            Err(format!("cannot be read as Parquet ({})", said.replace(['\n', '\r'], " ")))
        }
        Err(_) => Err("cannot be read as Parquet (its parts contradict each other)".to_owned()),
    }
}

fn take(row: &Row, record: &mut Record) {
    for (place, (_, field)) in row.get_column_iter().enumerate() {
        match field {
            Field::Null => {}
            Field::Bool(value) => record.set(place, value),
            Field::Byte(value) => record.set(place, value),
            Field::Short(value) => record.set(place, value),
            Field::Int(value) => record.set(place, value),
            Field::Long(value) => record.set(place, value),
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
            // Decimals, dates and times write themselves.
            other => record.set(place, other),
        }
    }
}
