//! Pairs of a source text and the target text that a model is to make of it: what generation from a text learns from.
//!
//! Here belong the formats of pairs and how they are told. What serves texts with labels as well, such as the choice of
//! columns, is in `examples`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::examples::{self, Example, Examples, NamedFormat, Parts, Refusal, Role, Roles};
use crate::source::{Lines, Source, is_blank};

/// Columns and keys that hold the source if none is named, the likeliest first.
const USUAL_SOURCE: [&str; 6] = ["source", "src", "input", "prompt", "question", "text"];
/// Columns and keys that hold the target if none is named, the likeliest first.
const USUAL_TARGET: [&str; 7] = ["target", "tgt", "trg", "output", "completion", "response", "answer"];

/// A source text and its target text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pair {
    /// The source, as it stands in the file. Blank only if it is a blank line of plain text.
    pub source: String,
    /// The target, as it stands in the file, or `None` if there is none.
    pub target: Option<String>,
    /// The line where the pair begins, counted from one; of parallel lines the same in both files.
    pub line: usize,
}

/// The formats that pairs are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairFormat {
    /// Two files with as many lines: a source on a line of the first has its target on the same line of the second.
    /// Where no targets are needed the first file alone will do, and is read as [`Text`](Self::Text).
    Parallel,
    /// `IN: source OUT: target` on each line, as in SCAN.
    InOut,
    /// `source<TAB>target` on each line. A line without a tab is a source without a target.
    #[serde(rename = "pairs")]
    Tabs,
    /// Comma-separated fields, of which some stand in quotes; the first line names the columns.
    Csv,
    /// Tab-separated fields; the first line names the columns. A quote is a character like any other, and a record is a
    /// line.
    Tsv,
    /// A JSON object on each line. A target may be a string, a number, or true or false; null is no target.
    Jsonl,
    /// A source on each line, without a target. A blank line is a pair with an empty source, so that there are as many
    /// pairs as lines.
    Text,
}

impl PairFormat {
    /// Every format, in the order in which they are listed to users.
    pub const ALL: [Self; 7] = [Self::Parallel, Self::InOut, Self::Tabs, Self::Csv, Self::Tsv, Self::Jsonl, Self::Text];

    /// The name that chooses this format in `data.format`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parallel => "parallel",
            Self::InOut => "in-out",
            Self::Tabs => "pairs",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Text => "text",
        }
    }

    /// The format of a single file called `name` (standard input has none) whose first line that is not blank is
    /// `first`.
    fn detect(name: Option<&Path>, first: Option<&str>, roles: &Roles) -> Self {
        let first = first.unwrap_or_default();
        match NamedFormat::detect(name, first, roles) {
            Some(NamedFormat::Csv) => Self::Csv,
            Some(NamedFormat::Tsv) => Self::Tsv,
            Some(NamedFormat::Jsonl) => Self::Jsonl,
            None if first.starts_with(IN) => Self::InOut,
            None if first.contains('\t') => Self::Tabs,
            // So that a mistake in the first line is reported as what it is.
            None if examples::ending(name) == "tsv" && roles.need_output => Self::Tabs,
            None => Self::Text,
        }
    }
}

impl FromStr for PairFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        examples::format_named(&Self::ALL, Self::name, name)
    }
}

impl fmt::Display for PairFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How pairs are read.
#[derive(Debug, Clone)]
pub struct PairOptions {
    /// The format; `None` tells it by the number of files, ending and content.
    ///
    /// Two files are `parallel`. Of a single one the endings `.csv` and `.jsonl` (`.ndjson`, `.json`) say what it is,
    /// and so does a first line that begins with `{` or with `IN:`. A first line with a tab is that of `tsv` if it
    /// names columns (one of two has a usual name and neither has a space in it, there are more than two, or `source`
    /// or `target` is given), else of `pairs`. What is left is `text`.
    pub format: Option<PairFormat>,
    /// The column or key that holds the source; `None` takes the first usual name that is there (`source`, `src`,
    /// `input`, …). If only the other one of two columns is known, it is the one that is left, and the first if neither
    /// is.
    pub source: Option<String>,
    /// The column or key that holds the target; `None` takes the first usual name that is there (`target`, `tgt`,
    /// `output`, …), and the one of two columns that is not the source if targets are needed.
    pub target: Option<String>,
    /// The encoding of all files; `None` is UTF-8.
    pub encoding: Option<String>,
    /// Whether a source without a target is an error. If not, targets that are there are read all the same.
    pub need_targets: bool,
}

impl Default for PairOptions {
    /// For training: any format, targets needed.
    fn default() -> Self {
        Self { format: None, source: None, target: None, encoding: None, need_targets: true }
    }
}

/// Reads all pairs of one file, or of two files of parallel lines, sources first.
///
/// # Errors
///
/// As [`stream_pairs`], and files without a single pair.
pub fn read_pairs(paths: &[String], options: &PairOptions) -> Result<Vec<Pair>> {
    let stream = stream_pairs(paths, options)?;
    let format = stream.format();
    let pairs = stream.collect::<Result<Vec<_>>>()?;
    // Blank lines of plain text are pairs, too.
    if pairs.iter().all(|pair| is_blank(&pair.source)) {
        let what = format!("there is no source text here, read as {format}");
        return Err(Error::unusable(&names(paths), what, "is it the right file? it needs at least one line of text"));
    }
    Ok(pairs)
}

/// Opens one file, or two files of parallel lines, sources first, to be read one pair at a time, in the memory of one
/// pair.
///
/// Blank lines are skipped, of parallel lines only those that are blank in both files; in plain text, where the output
/// is to have as many lines as the input, they are pairs with an empty source.
///
/// # Errors
///
/// Here: no file or more than two, what cannot be opened, what is wrong with the first lines if the format is told by
/// them, columns that are not there, and plain text where targets are needed. From the stream: what cannot be decoded,
/// lines that are not of the format, an empty source, a missing target where targets are needed, and parallel files of
/// different length, which shows at the end.
pub fn stream_pairs(paths: &[String], options: &PairOptions) -> Result<PairStream> {
    let roles = Roles {
        input: Role { name: "source", usual: &USUAL_SOURCE, column: options.source.clone() },
        output: Role { name: "target", usual: &USUAL_TARGET, column: options.target.clone() },
        need_output: options.need_targets,
    };
    match paths {
        [path] => stream_single(&Source::from(path), options, roles),
        [source, target] => stream_parallel(&Source::from(source), &Source::from(target), options, roles),
        [] => Err(Error::unusable("data", "no file of pairs was named", "name one, or two of parallel lines")),
        _ => {
            let what = format!("{} files cannot be read as pairs", paths.len());
            let mend = "name one file of pairs, or one of sources and one of targets, line by line";
            Err(Error::unusable(&names(paths), what, mend))
        }
    }
}

fn stream_single(source: &Source, options: &PairOptions, roles: Roles) -> Result<PairStream> {
    let mut lines = source.open(options.encoding.as_deref())?;
    let format = match options.format {
        Some(PairFormat::Parallel) if options.need_targets => {
            let mend = "name the file of targets after the file of sources, or set data.format to what this file is in";
            return Err(Error::unusable(lines.name(), "is one file, and parallel lines are in two", mend));
        }
        Some(PairFormat::Parallel) => PairFormat::Text,
        Some(format) => format,
        None => PairFormat::detect(source.path(), lines.peek_not_blank()?, &roles),
    };
    let examples = match format {
        PairFormat::InOut => Examples::lines(lines, roles, in_out),
        PairFormat::Tabs => Examples::lines(lines, roles, tabs),
        PairFormat::Csv => Examples::named(lines, roles, NamedFormat::Csv)?,
        PairFormat::Tsv => Examples::named(lines, roles, NamedFormat::Tsv)?,
        PairFormat::Jsonl => Examples::named(lines, roles, NamedFormat::Jsonl)?,
        PairFormat::Text | PairFormat::Parallel => {
            if options.need_targets && lines.peek_not_blank()?.is_some() {
                let mend = "name a second file with the targets line by line, or give `source<TAB>target` lines";
                return Err(Error::unusable(lines.name(), "is plain text, which has no targets", mend));
            }
            Examples::inputs(lines, roles)
        }
    };
    Ok(PairStream { format, reader: Reader::Single(Box::new(examples)) })
}

fn stream_parallel(source: &Source, target: &Source, options: &PairOptions, roles: Roles) -> Result<PairStream> {
    if let Some(format) = options.format.filter(|&format| format != PairFormat::Parallel) {
        let what = format!("\"{format}\" is a format of one file, and two are named");
        return Err(Error::unusable("data.format", what, "leave it out, or give \"parallel\""));
    }
    if (source, target) == (&Source::Stdin, &Source::Stdin) {
        let what = "cannot be both the sources and the targets";
        return Err(Error::unusable(&source.name(), what, "name a file for one of them"));
    }
    let encoding = options.encoding.as_deref();
    let (sources, targets) = (source.open(encoding)?, target.open(encoding)?);
    let reader = Reader::Parallel(Box::new(Parallel { sources, targets, read: 0, roles }));
    Ok(PairStream { format: PairFormat::Parallel, reader })
}

fn names(paths: &[String]) -> String {
    paths.iter().map(|path| Source::from(path).name()).collect::<Vec<_>>().join(", ")
}

const IN: &str = "IN:";
const OUT: &str = " OUT:";

fn in_out(line: &str) -> std::result::Result<Parts<'_>, Refusal> {
    let Some(rest) = line.trim_start().strip_prefix(IN) else {
        return Err(Refusal::new("the line does not begin with IN:", "write IN: source OUT: target"));
    };
    Ok(match rest.split_once(OUT) {
        Some((source, target)) => Parts { input: source.trim(), output: Some(target.trim()) },
        None => Parts { input: rest.trim(), output: None },
    })
}

fn tabs(line: &str) -> std::result::Result<Parts<'_>, Refusal> {
    let Some((source, target)) = line.split_once('\t') else { return examples::whole_line(line) };
    if target.contains('\t') {
        let what = format!("expected source, tab, target, found {} tabs", line.matches('\t').count());
        let mend = "if there are more columns, name them in a first line and set data.format = \"tsv\"";
        return Err(Refusal::new(what, mend));
    }
    Ok(Parts { input: source, output: Some(target) })
}

/// Two texts that go on line by line.
struct Parallel {
    sources: Lines,
    targets: Lines,
    /// How many lines were read from each.
    read: usize,
    roles: Roles,
}

impl Parallel {
    fn next_example(&mut self) -> Result<Option<Example>> {
        loop {
            let (source, target) = match (self.sources.next_line()?, self.targets.next_line()?) {
                (Some(source), Some(target)) => (source, target),
                (None, None) => return Ok(None),
                (source, target) => return Err(self.different_lengths(source.is_some(), target.is_some())?),
            };
            self.read += 1;
            if source.is_blank() && target.is_blank() {
                continue;
            }
            // What is missing is reported in the file where it is missing.
            if source.text().trim().is_empty() {
                return Err(missing("source", &self.sources, &self.targets, self.read));
            }
            if self.roles.need_output && target.text().trim().is_empty() {
                return Err(missing("target", &self.targets, &self.sources, self.read));
            }
            let parts = Parts { input: source.text(), output: Some(target.text()) };
            let example = self.roles.example(parts, self.read);
            return example.map_err(|refusal| refusal.at(self.sources.name(), self.read)).map(Some);
        }
    }

    /// The error of one text that ends before the other, of which one more line was read and the rest is counted here.
    fn different_lengths(&mut self, more_sources: bool, more_targets: bool) -> Result<Error> {
        let sources = self.read + usize::from(more_sources) + count(&mut self.sources)?;
        let targets = self.read + usize::from(more_targets) + count(&mut self.targets)?;
        let what = format!("has {sources} lines, but {} has {targets}", self.targets.name());
        let mend = "parallel files have as many lines: is one cut short?";
        Ok(Error::unusable(self.sources.name(), what, mend))
    }
}

fn missing(side: &str, file: &Lines, other: &Lines, line: usize) -> Error {
    let what = format!("the {side} is empty, but line {line} of {} is not", other.name());
    Error::malformed(file.name(), line, what, "write it there, or take the line out of both files")
}

fn count(lines: &mut Lines) -> Result<usize> {
    let mut count = 0;
    while lines.next_line()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Pairs one at a time. After an error there are no more.
pub struct PairStream {
    format: PairFormat,
    reader: Reader,
}

enum Reader {
    Single(Box<Examples>),
    Parallel(Box<Parallel>),
    Ended,
}

impl PairStream {
    /// The format that is read; one file of what was named `parallel` is [`PairFormat::Text`].
    pub fn format(&self) -> PairFormat {
        self.format
    }
}

impl fmt::Debug for PairStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PairStream").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Iterator for PairStream {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.reader {
            Reader::Single(examples) => examples.next(),
            Reader::Parallel(parallel) => parallel.next_example().transpose(),
            Reader::Ended => None,
        };
        if !matches!(next, Some(Ok(_))) {
            self.reader = Reader::Ended;
        }
        Some(next?.map(|example| Pair { source: example.input, target: example.output, line: example.line }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_is_told_by_ending_and_content() {
        use PairFormat::{Csv, InOut, Jsonl, Tabs, Text, Tsv};
        let roles = |need_output| Roles {
            input: Role { name: "source", usual: &USUAL_SOURCE, column: None },
            output: Role { name: "target", usual: &USUAL_TARGET, column: None },
            need_output,
        };
        for (name, first, needed, not_needed) in [
            ("a.csv", "one,two", Csv, Csv),
            ("a.txt", "{}", Jsonl, Jsonl),
            ("a.json", "", Jsonl, Jsonl),
            ("a.txt", "IN: walk OUT: WALK", InOut, InOut),
            ("a.txt", "chat\tʃ a", Tabs, Tabs),
            ("a.tsv", "chat\tʃ a", Tabs, Tabs),
            ("a.tsv", "input\tɪ n p ʊ t", Tabs, Tabs),
            ("a.tsv", "input\toutput", Tsv, Tsv),
            ("a.tsv", "id\ten\tde", Tsv, Tsv),
            ("a.tsv", "chat", Tabs, Text),
            ("a.en", "A man in a hat.", Text, Text),
        ] {
            assert_eq!(PairFormat::detect(Some(Path::new(name)), Some(first), &roles(true)), needed, "{name} {first}");
            let found = PairFormat::detect(Some(Path::new(name)), Some(first), &roles(false));
            assert_eq!(found, not_needed, "{name} {first}");
        }
    }

    #[test]
    fn formats_have_names() {
        for format in PairFormat::ALL {
            assert_eq!(format.to_string().parse::<PairFormat>().unwrap(), format);
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
        }
        let message = "inout".parse::<PairFormat>().unwrap_err().to_string();
        assert!(message.contains("did you mean in-out? known are parallel, in-out, pairs"), "{message}");
    }
}
