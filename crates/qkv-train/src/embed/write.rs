//! Vectors as a file of numbers, and beside it a table that says what each row is.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::npy::{HEAD, head};
use super::{Corpus, Text, chosen_layer, for_each};
use crate::error::{Error, Result};
use crate::files::Draft;
use crate::model::{Model, Watch};

/// What is to be written where.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What vectors are made of.
    pub corpus: Corpus<'a>,
    /// Of which layer; the last if not given.
    pub layer: Option<usize>,
    /// Whether a row is the mean of a text, and not the vector of a unit.
    pub pooled: bool,
    /// The file of vectors; its name ends in `.npy`.
    pub out: &'a Path,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Texts that were read.
    pub texts: usize,
    /// Rows, one for each unit or for each text.
    pub rows: usize,
    /// Elements of a row.
    pub d_model: usize,
    /// The layer.
    pub layer: usize,
    /// What the user should know at the end, a line each.
    pub warnings: Vec<String>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug)]
struct Rows {
    d_model: usize,
    /// One row for each text, the mean of its vectors, and not one for each unit.
    pooled: bool,
}

/// Writes the vectors that `model` makes of a corpus as NPY, `[rows, d_model]` little-endian f32, and to the file of the same name
/// that ends in `.tsv` a line for each row: the number of the text, the number of the unit in it, both counted from one, and the
/// unit; where a row is the mean of a text, the number of the text and how many units it has. A text without units has no row.
///
/// # Errors
/// If there is no such layer, the corpus cannot be read or has no unit, or a file cannot be written; then neither is.
pub fn write_vectors(model: &Model, request: &Request, stop: &AtomicBool, watch: Watch) -> Result<Written> {
    let &Request { ref corpus, layer, pooled, out } = request;
    if out.extension().is_none_or(|ending| ending != "npy") {
        return Err(Error::Recipe(format!(
            "--out {}: vectors are written as NPY, and a table beside them: give a name that ends in .npy",
            out.display()
        )));
    }
    let table = out.with_extension("tsv");
    check_places(corpus.source, out, &table)?;
    let embedder = model.embedder()?;
    let (layer, d_model) = (chosen_layer(embedder, layer)?, embedder.d_model());
    let texts = embedder.open(corpus)?;
    let (mut numbers, mut table) = (Draft::new(out)?, Draft::new(&table)?);
    // The rows are counted when all are there.
    numbers.write(&head(0, d_model))?;
    let (mut rows, mut units, mut empty) = (0, 0, 0);
    let layout = Rows { d_model, pooled };
    let texts = for_each(embedder, texts, layer, stop, |number, text, vectors| {
        rows += layout.write(number, text, vectors, &mut numbers, &mut table)?;
        units += text.units.len();
        empty += usize::from(text.units.is_empty());
        watch(number, units);
        Ok(())
    })?;
    if rows == 0 {
        return Err(Error::Training(format!(
            "{}: there is nothing in it that a vector could be made of: is it the right file?",
            corpus.source
        )));
    }
    let staged = [numbers.finish(&head(rows, d_model)[..HEAD])?, table.finish(&[])?];
    staged.into_iter().try_for_each(crate::files::Staged::publish)?;
    let told = || format!("{}: {empty} of {texts} texts are empty and have no row", corpus.source);
    let warnings = (empty > 0).then(told).into_iter().collect();
    Ok(Written { texts, rows, d_model, layer, warnings })
}

/// Checks that neither file would be written over what is read, or where a folder is.
fn check_places(source: &str, out: &Path, table: &Path) -> Result<()> {
    let place = |path: &Path| std::fs::canonicalize(path).ok();
    let read = place(Path::new(source));
    for path in [out, table] {
        let what = match () {
            () if path.is_dir() => "is a folder",
            () if read.is_some() && place(path) == read => "is the file that is read",
            () => continue,
        };
        return Err(Error::Recipe(format!(
            "--out {}: {} {what}, and would be written over: give another name",
            out.display(),
            path.display()
        )));
    }
    Ok(())
}

impl Rows {
    /// Writes the rows of one text; returns how many those are.
    fn write(
        self,
        number: usize,
        text: &Text,
        vectors: &[f32],
        numbers: &mut Draft,
        table: &mut Draft,
    ) -> Result<usize> {
        if text.units.is_empty() {
            return Ok(0);
        }
        if self.pooled {
            numbers.write(&bytes(&mean(vectors, self.d_model)))?;
            table.write(format!("{number}\t{}\n", text.units.len()).as_bytes())?;
            return Ok(1);
        }
        numbers.write(&bytes(vectors))?;
        let mut lines = String::new();
        for (place, unit) in (1..).zip(&text.units) {
            let _ = writeln!(lines, "{number}\t{place}\t{}", escaped(unit));
        }
        table.write(lines.as_bytes())?;
        Ok(text.units.len())
    }
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The mean of some rows.
fn mean(vectors: &[f32], d_model: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; d_model];
    for row in vectors.chunks_exact(d_model) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let rows = (vectors.len() / d_model) as f64;
    sums.into_iter().map(|sum| (sum / rows) as f32).collect()
}

/// A unit as a cell of the table: a tab among the characters would be two cells.
fn escaped(unit: &str) -> String {
    let escape = |c: char| if c.is_control() || c == '\\' { c.escape_default().to_string() } else { c.to_string() };
    unit.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_taken_row_by_row() {
        assert_eq!(mean(&[1.0, 2.0, 3.0, 5.0, 5.0, 8.0], 2), [3.0, 5.0]);
    }

    #[test]
    fn a_unit_is_one_cell_of_one_line() {
        assert_eq!(["a", "\t", "\n", "\\", "é▁"].map(escaped), ["a", "\\t", "\\n", "\\\\", "é▁"]);
    }

    #[test]
    fn numbers_are_little_endian() {
        assert_eq!(bytes(&[1.0, -2.0]), [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
    }
}
