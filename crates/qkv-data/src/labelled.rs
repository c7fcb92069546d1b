//! Texts with one label, or one number, for the whole of each: what classification and regression learn from.
//!
//! Here belong the formats of such texts and how they are told. What serves pairs as well, such as the choice of
//! columns, is in `examples`; texts with a label for each word are [`sentence`](crate::sentence)'s.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::builtin::{self, Part, RECALL_RANGES, RecallOptions, recall};
use crate::error::{Error, Result, quote};
use crate::examples::{self, Examples, NamedFormat, Parts, Refusal, Role, Roles};
use crate::source::Source;

/// Columns and keys that hold the text if none is named, the likeliest first.
const USUAL_TEXT: [&str; 10] =
    ["text", "sentence", "review", "content", "document", "comment", "message", "body", "question", "tweet"];
/// Columns and keys that hold the label if none is named, the likeliest first.
const USUAL_LABEL: [&str; 8] = ["label", "class", "category", "target", "sentiment", "intent", "topic", "score"];

/// A text and the label of the whole of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledText {
    /// The text, as it stands in the file; blank only where [`LabelledOptions::keep_blank`] asks for it, and then empty.
    pub text: String,
    /// Its label, without spaces around it, or `None` if it has none.
    pub label: Option<String>,
    /// The line where it begins, counted from one.
    pub line: usize,
    /// What it is counted with where results are told apart; files have none.
    pub group: Option<Group>,
}

/// Examples that are alike in some measure, from one end of a range to the other, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// What results are told apart by, such as `by_distance`.
    pub by: &'static str,
    /// The least of the range.
    pub from: usize,
    /// The most of it.
    pub to: usize,
}

/// The formats that labelled texts are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelledFormat {
    /// `label text` on each line: the label goes up to the first space or tab. A line that begins with one has no
    /// label.
    LabelText,
    /// `label<TAB>text` on each line. A line without a tab is a text without a label.
    LabelTab,
    /// Comma-separated fields, of which some stand in quotes; the first line names the columns.
    Csv,
    /// Tab-separated fields; the first line names the columns. A quote is a character like any other, and a record is a
    /// line.
    Tsv,
    /// A JSON object on each line. A label may be a string, a number, or true or false; null is no label.
    Jsonl,
    /// A text on each line, without a label.
    Text,
}

impl LabelledFormat {
    /// Every format, in the order in which they are listed to users.
    pub const ALL: [Self; 6] = [Self::LabelText, Self::LabelTab, Self::Csv, Self::Tsv, Self::Jsonl, Self::Text];

    /// The name that chooses this format in `data.format`.
    pub fn name(self) -> &'static str {
        match self {
            Self::LabelText => "label-text",
            Self::LabelTab => "label-tab",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Text => "text",
        }
    }

    /// The format of a file called `name` (standard input has none) whose first line that is not blank is `first`.
    fn detect(name: Option<&Path>, first: Option<&str>, roles: &Roles) -> Self {
        let first = first.unwrap_or_default();
        match NamedFormat::detect(name, first, roles) {
            Some(NamedFormat::Csv) => Self::Csv,
            Some(NamedFormat::Tsv) => Self::Tsv,
            Some(NamedFormat::Jsonl) => Self::Jsonl,
            None if first.contains('\t') => Self::LabelTab,
            // So that a mistake in the first line is reported as what it is.
            None if examples::ending(name) == "tsv" && roles.need_output => Self::LabelTab,
            None if roles.need_output => Self::LabelText,
            None => Self::Text,
        }
    }
}

impl FromStr for LabelledFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        examples::format_named(&Self::ALL, Self::name, name)
    }
}

impl fmt::Display for LabelledFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How files of labelled texts are read.
#[derive(Debug, Clone)]
pub struct LabelledOptions {
    /// The format; `None` tells it by ending and content.
    ///
    /// The endings `.csv` and `.jsonl` (`.ndjson`, `.json`) say what they are, and so does a first line that begins
    /// with `{`. A first line with a tab is that of `tsv` if it names columns (one of two has a usual name and neither
    /// has a space in it, there are more than two, or `text` or `label` is given), else of `label-tab`. What is left is
    /// `label-text` where labels are needed and `text` where not.
    pub format: Option<LabelledFormat>,
    /// The column or key that holds the text; `None` takes the first usual name that is there (`text`, `sentence`,
    /// `review`, `content`, …). If only the other one of two columns is known, it is the one that is left, and the
    /// first if neither is.
    pub text: Option<String>,
    /// The column or key that holds the label; `None` takes the first usual name that is there (`label`, `class`,
    /// `category`, `target`, …), and the one of two columns that is not the text if labels are needed.
    pub label: Option<String>,
    /// The encoding; `None` is UTF-8.
    pub encoding: Option<String>,
    /// Whether a text without a label is an error. If not, labels that are there are read all the same.
    pub need_labels: bool,
    /// Whether a blank line of plain text is a text, an empty one, so that there are as many texts as lines. If not, and
    /// in all other formats, it is skipped.
    pub keep_blank: bool,
    /// The part of `builtin:` data.
    pub part: Part,
    /// Which texts of `builtin:recall` are made.
    pub recall: RecallOptions,
}

impl Default for LabelledOptions {
    /// For training: any format, labels needed.
    fn default() -> Self {
        Self {
            format: None,
            text: None,
            label: None,
            encoding: None,
            need_labels: true,
            keep_blank: false,
            part: Part::Train,
            recall: RecallOptions::default(),
        }
    }
}

/// Reads all texts.
///
/// # Errors
///
/// As [`stream_labelled`], and a file without a single text.
pub fn read_labelled(source: impl Into<Source>, options: &LabelledOptions) -> Result<Vec<LabelledText>> {
    let source = source.into();
    let stream = stream_labelled(source.clone(), options)?;
    let format = stream.format();
    let texts = stream.collect::<Result<Vec<_>>>()?;
    if texts.is_empty() {
        let format = format.map_or_else(|| "data".to_owned(), |format| format!("{format} file"));
        let what = format!("there is no text in this {format}");
        return Err(Error::unusable(&source.name(), what, "is it the right file? it needs at least one text"));
    }
    Ok(texts)
}

/// Opens a source to be read one text at a time, in the memory of one text. Blank lines are skipped unless
/// [`LabelledOptions::keep_blank`] asks for them. `builtin:recall` is drawn while it is read.
///
/// # Errors
///
/// Here: `builtin:` data that is no labelled texts, what cannot be opened, what is wrong with the first lines if the format is told by them, columns that are not
/// there, and plain text where labels are needed. From the stream: what cannot be decoded, lines that are not of the
/// format, an empty text, and a missing label where labels are needed.
pub fn stream_labelled(source: impl Into<Source>, options: &LabelledOptions) -> Result<LabelledStream> {
    let source = source.into();
    if let Source::Builtin(name) = &source {
        return builtin_texts(name, options);
    }
    let roles = Roles {
        input: Role { name: "text", usual: &USUAL_TEXT, column: options.text.clone() },
        output: Role { name: "label", usual: &USUAL_LABEL, column: options.label.clone() },
        need_output: options.need_labels,
    };
    let mut lines = source.open(options.encoding.as_deref())?;
    let format = match options.format {
        Some(format) => format,
        None => LabelledFormat::detect(source.path(), lines.peek_not_blank()?, &roles),
    };
    let examples = match format {
        LabelledFormat::LabelText => Examples::lines(lines, roles, label_text),
        LabelledFormat::LabelTab => Examples::lines(lines, roles, label_tab),
        LabelledFormat::Csv => Examples::named(lines, roles, NamedFormat::Csv)?,
        LabelledFormat::Tsv => Examples::named(lines, roles, NamedFormat::Tsv)?,
        LabelledFormat::Jsonl => Examples::named(lines, roles, NamedFormat::Jsonl)?,
        LabelledFormat::Text if options.need_labels && lines.peek_not_blank()?.is_some() => {
            let mend =
                "give `label text` lines, CSV or JSON lines; give --format or set data.format if it is one of them";
            return Err(Error::unusable(lines.name(), "is plain text, which has no labels", mend));
        }
        LabelledFormat::Text if options.keep_blank => Examples::inputs(lines, roles),
        LabelledFormat::Text => Examples::lines(lines, roles, examples::whole_line),
    };
    Ok(LabelledStream { format: Some(format), texts: Texts::Read(Box::new(examples)) })
}

fn builtin_texts(name: &str, options: &LabelledOptions) -> Result<LabelledStream> {
    if !builtin::LABELLED.contains(&name) {
        return Err(match builtin::held(name) {
            Some(held) => {
                let mend = format!("name a file, or one of builtin:{}", builtin::LABELLED.join(", builtin:"));
                Error::unusable(&format!("builtin:{name}"), format!("holds {held}, not labelled texts"), mend)
            }
            None => Error::unknown_name("builtin", name, builtin::LABELLED.iter().copied()),
        });
    }
    let (part, recall) = (options.part, options.recall.clone());
    Ok(LabelledStream { format: None, texts: Texts::Recall { next: 0, part, options: recall } })
}

/// Text `index` of `builtin:recall`; what stands for its line is its number.
fn recalled(options: &RecallOptions, part: Part, index: usize) -> LabelledText {
    let text = recall(options, part, index);
    let (from, to) = RECALL_RANGES[text.answer().range];
    LabelledText {
        text: text.words.join(" "),
        label: Some(text.answer().value.to_owned()),
        line: index + 1,
        group: Some(Group { by: "by_distance", from, to }),
    }
}

fn label_text(line: &str) -> std::result::Result<Parts<'_>, Refusal> {
    let (label, text) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    Ok(Parts { input: text.trim_start_matches([' ', '\t']), output: Some(label) })
}

fn label_tab(line: &str) -> std::result::Result<Parts<'_>, Refusal> {
    let Some((label, text)) = line.split_once('\t') else { return examples::whole_line(line) };
    if text.contains('\t') {
        let what = format!("expected label, tab, text, found {} tabs", line.matches('\t').count());
        let mend = "if there are more columns, name them in a first line and set data.format = \"tsv\"";
        return Err(Refusal::new(what, mend));
    }
    Ok(Parts { input: text, output: Some(label) })
}

/// Labelled texts one at a time. After an error there are no more.
pub struct LabelledStream {
    format: Option<LabelledFormat>,
    texts: Texts,
}

enum Texts {
    Read(Box<Examples>),
    Recall { next: usize, part: Part, options: RecallOptions },
}

impl LabelledStream {
    /// The format that is read; `None` of `builtin:` data, which has none.
    pub fn format(&self) -> Option<LabelledFormat> {
        self.format
    }
}

impl fmt::Debug for LabelledStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LabelledStream").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Iterator for LabelledStream {
    type Item = Result<LabelledText>;

    fn next(&mut self) -> Option<Self::Item> {
        let examples = match &mut self.texts {
            Texts::Read(examples) => examples,
            Texts::Recall { next, part, options } => {
                let index = *next;
                *next += 1;
                return (index < options.count(*part)).then(|| Ok(recalled(options, *part, index)));
            }
        };
        let example = examples.next()?;
        Some(example.map(|example| LabelledText {
            text: example.input,
            label: example.output.map(|label| label.trim().to_owned()),
            line: example.line,
            group: None,
        }))
    }
}

/// The labels of `texts`, which came from `source`, as numbers.
///
/// # Errors
///
/// [`Error::Malformed`], which names the line, for the first text whose label is no finite number, or that has none.
pub fn numbers(texts: &[LabelledText], source: &str) -> Result<Vec<f64>> {
    let number = |text: &LabelledText| {
        let label = text.label.as_deref().unwrap_or_default();
        let number = label.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| {
            let what = match text.label {
                Some(_) => format!("the label {} is not a finite number", quote(label)),
                None => format!("{} has no label, but a number is needed here", quote(&text.text)),
            };
            let mend = "write one such as -1.5 or 2e-3, or train with model.task = \"classify\" if labels are names";
            Error::malformed(source, text.line, what, mend)
        })
    };
    texts.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(name: &str, first: &str, need_labels: bool) -> LabelledFormat {
        let roles = Roles {
            input: Role { name: "text", usual: &USUAL_TEXT, column: None },
            output: Role { name: "label", usual: &USUAL_LABEL, column: None },
            need_output: need_labels,
        };
        LabelledFormat::detect(Some(Path::new(name)), Some(first), &roles)
    }

    #[test]
    fn format_is_told_by_ending_and_content() {
        use LabelledFormat::{Csv, Jsonl, LabelTab, LabelText, Text, Tsv};
        for (name, first, needed, not_needed) in [
            ("a.CSV", "one,two", Csv, Csv),
            ("a.jsonl", "not json", Jsonl, Jsonl),
            ("a.ndjson", "{", Jsonl, Jsonl),
            ("TREC.train.all", "{\"text\": 1}", Jsonl, Jsonl),
            ("TREC.train.all", "0 How far ?", LabelText, Text),
            ("a.txt", "pos\tI like it", LabelTab, LabelTab),
            ("a.txt", "sentence\tlabel", Tsv, Tsv),
            ("a.tsv", "sentence\tlabel", Tsv, Tsv),
            ("a.tsv", "id\tfoo\tbar", Tsv, Tsv),
            ("a.tsv", "pos\tfine", LabelTab, LabelTab),
            ("a.tsv", "topic\tA topic is a subject", LabelTab, LabelTab),
            ("a.tsv", "pos fine", LabelTab, Text),
            ("a.tsv", "text", Tsv, Tsv),
            ("", "", LabelText, Text),
        ] {
            assert_eq!(detect(name, first, true), needed, "{name} {first}");
            assert_eq!(detect(name, first, false), not_needed, "{name} {first}");
        }
    }

    #[test]
    fn formats_have_names() {
        for format in LabelledFormat::ALL {
            assert_eq!(format.to_string().parse::<LabelledFormat>().unwrap(), format);
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
        }
        assert_eq!("NDJSON".parse::<LabelledFormat>().unwrap(), LabelledFormat::Jsonl);
        let message = "label-tabs".parse::<LabelledFormat>().unwrap_err().to_string();
        assert!(message.contains("did you mean label-tab? known are label-text, label-tab, csv"), "{message}");
    }
}
