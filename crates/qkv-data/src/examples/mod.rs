//! What texts with a label and pairs of texts have in common: each is an *input*, which every example has, and an
//! *output*, which is needed to learn from and which prediction does without.
//!
//! Here belong the formats that serve both: lines that hold an example each, and CSV, TSV and JSON objects with names
//! for their parts. Which formats a task has, and what it calls input and output, is in [`labelled`](crate::labelled)
//! and [`pairs`](crate::pairs).

mod choice;
mod csv;
mod jsonl;

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result, quote};
use crate::source::{Lines, is_blank};

use choice::Columns;
pub(crate) use choice::{Role, Roles, listed, wrong_count};
pub(crate) use csv::CsvRecords;
use jsonl::JsonLines;
pub(crate) use jsonl::{kind, object, object_like};

/// What was read as one example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) input: String,
    /// `None` if it is absent or blank, which only is so where none is needed.
    pub(crate) output: Option<String>,
    /// The line where it begins, counted from one.
    pub(crate) line: usize,
}

/// An example as it stands in a line or a record, before anyone asked whether it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts<'text> {
    pub(crate) input: &'text str,
    pub(crate) output: Option<&'text str>,
}

/// Why something cannot be read, before the place is known.
#[derive(Debug)]
pub(crate) struct Refusal {
    what: String,
    mend: String,
}

impl Refusal {
    pub(crate) fn new(what: impl fmt::Display, mend: impl fmt::Display) -> Self {
        Self { what: what.to_string(), mend: mend.to_string() }
    }

    pub(crate) fn at(self, path: &str, line: usize) -> Error {
        Error::malformed(path, line, self.what, self.mend)
    }
}

/// How a format in which each line is an example divides the line.
pub(crate) type Divide = fn(&str) -> std::result::Result<Parts<'_>, Refusal>;

/// The formats in which columns or keys have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedFormat {
    Csv,
    Tsv,
    Jsonl,
}

impl NamedFormat {
    /// The format of a file called `name` whose first line that is not blank is `first`, if it is one of these.
    ///
    /// `.csv` is CSV, `.jsonl`, `.ndjson` and `.json` are lines of JSON objects, and so is what begins with `{`. What
    /// has the ending `.tsv` or a tab is TSV if its first line [names columns](Roles::is_header).
    pub(crate) fn detect(name: Option<&Path>, first: &str, roles: &Roles) -> Option<Self> {
        match ending(name).as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            _ if first.starts_with('{') => Some(Self::Jsonl),
            "tsv" => roles.is_header(first).then_some(Self::Tsv),
            _ => (first.contains('\t') && roles.is_header(first)).then_some(Self::Tsv),
        }
    }
}

/// The format that the user calls `name`, of `all`, whose names `name_of` gives.
pub(crate) fn format_named<F: Copy, const N: usize>(
    all: &[F; N],
    name_of: impl Fn(F) -> &'static str,
    name: &str,
) -> Result<F> {
    let wanted = name.to_ascii_lowercase();
    let wanted = match wanted.as_str() {
        "ndjson" => "jsonl",
        "txt" | "plain" => "text",
        other => other,
    };
    let found = all.iter().find(|&&format| name_of(format) == wanted);
    found.copied().ok_or_else(|| Error::unknown_name("data.format", name, all.map(name_of)))
}

/// The ending of a file's name in lower case; empty if there is none.
pub(crate) fn ending(name: Option<&Path>) -> String {
    let ending = name.and_then(Path::extension).and_then(|ending| ending.to_str());
    ending.unwrap_or_default().to_ascii_lowercase()
}

/// Examples one at a time, in the memory of one. After an error there are no more.
pub(crate) struct Examples {
    roles: Roles,
    reader: Reader,
}

enum Reader {
    Lines {
        lines: Lines,
        divide: Divide,
        /// Whether a blank line is an example with an empty input, or none.
        keep_blank: bool,
    },
    Csv {
        records: Box<CsvRecords>,
        columns: Columns,
    },
    Tsv {
        lines: Lines,
        columns: Columns,
    },
    Jsonl(JsonLines),
    Ended,
}

impl Examples {
    /// Lines of an example each. A blank one is skipped.
    pub(crate) fn lines(lines: Lines, roles: Roles, divide: Divide) -> Self {
        Self { roles, reader: Reader::Lines { lines, divide, keep_blank: false } }
    }

    /// Lines that are an input each, a blank line an empty one.
    pub(crate) fn inputs(lines: Lines, roles: Roles) -> Self {
        Self { roles, reader: Reader::Lines { lines, divide: whole_line, keep_blank: true } }
    }

    /// Records or objects whose parts have names. The first line of CSV and TSV is read here.
    pub(crate) fn named(mut lines: Lines, roles: Roles, format: NamedFormat) -> Result<Self> {
        let reader = match format {
            NamedFormat::Csv => {
                let mut records = Box::new(CsvRecords::new(lines));
                match records.next_record()? {
                    Some(line) => {
                        let columns = Columns::from_header(records.fields(), line, &roles)
                            .map_err(|refusal| refusal.at(records.name(), line))?;
                        Reader::Csv { records, columns }
                    }
                    None => Reader::Ended,
                }
            }
            NamedFormat::Tsv => match next_not_blank(&mut lines)? {
                Some(line) => {
                    let columns = Columns::from_header(line.text().split('\t'), line.number, &roles)
                        .map_err(|refusal| refusal.at(lines.name(), line.number))?;
                    Reader::Tsv { lines, columns }
                }
                None => Reader::Ended,
            },
            NamedFormat::Jsonl => Reader::Jsonl(JsonLines::new(lines)),
        };
        Ok(Self { roles, reader })
    }

    fn read(&mut self) -> Result<Option<Example>> {
        let roles = &self.roles;
        match &mut self.reader {
            Reader::Lines { lines, divide, keep_blank } => {
                let line = if *keep_blank { lines.next_line()? } else { next_not_blank(lines)? };
                let Some(line) = line else { return Ok(None) };
                let refuse = |refusal: Refusal| refusal.at(lines.name(), line.number);
                if *keep_blank && line.is_blank() {
                    return Ok(Some(Example { input: String::new(), output: None, line: line.number }));
                }
                let parts = divide(line.text()).map_err(refuse)?;
                roles.example(parts, line.number).map_err(refuse).map(Some)
            }
            Reader::Csv { records, columns } => {
                let Some(line) = records.next_record()? else { return Ok(None) };
                let parts = columns.parts(records.fields());
                let example = parts.and_then(|parts| roles.example(parts, line));
                example.map_err(|refusal| refusal.at(records.name(), line)).map(Some)
            }
            Reader::Tsv { lines, columns } => {
                let Some(line) = next_not_blank(lines)? else { return Ok(None) };
                let parts = columns.parts(line.text().split('\t'));
                let example = parts.and_then(|parts| roles.example(parts, line.number));
                example.map_err(|refusal| refusal.at(lines.name(), line.number)).map(Some)
            }
            Reader::Jsonl(objects) => objects.next_example(roles),
            Reader::Ended => Ok(None),
        }
    }
}

impl Iterator for Examples {
    type Item = Result<Example>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.reader = Reader::Ended;
        }
        next
    }
}

impl Roles {
    /// The example that `parts` make, if nothing that is needed is missing.
    pub(crate) fn example(&self, parts: Parts<'_>, line: usize) -> std::result::Result<Example, Refusal> {
        let (input, output) = (self.input.name, self.output.name);
        if parts.input.trim().is_empty() {
            let what = match parts.output {
                Some(given) if !given.trim().is_empty() => {
                    format!("there is no {input} beside the {output} {}", quote(given))
                }
                _ => format!("the {input} is empty"),
            };
            return Err(Refusal::new(what, "write it there, or take the line out"));
        }
        let given = parts.output.filter(|given| !given.trim().is_empty());
        if given.is_none() && self.need_output {
            let what = format!("{} has no {output}, but {output}s are needed here", quote(parts.input));
            return Err(Refusal::new(what, "write one, or set data.format if the file is in another format"));
        }
        Ok(Example { input: parts.input.to_owned(), output: given.map(str::to_owned), line })
    }
}

/// The whole line as an input.
pub(crate) fn whole_line(line: &str) -> std::result::Result<Parts<'_>, Refusal> {
    Ok(Parts { input: line, output: None })
}

/// The next line on which there is something.
pub(crate) fn next_not_blank(lines: &mut Lines) -> Result<Option<crate::source::Line>> {
    loop {
        match lines.next_line()? {
            Some(line) if is_blank(line.text()) => {}
            other => return Ok(other),
        }
    }
}
