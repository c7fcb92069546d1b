//! Which format a text file is in: named by the user, or told by its ending and its first lines.
//!
//! Here belongs the choice; each format's reader and writer has a file of its own.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The formats that sentences are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// CoNLL-U: ten tab-separated columns, comments, multiword tokens and empty nodes.
    Conllu,
    /// A token and a label on each line, a blank line after each sentence.
    Columns,
    /// One sentence on each line, without labels.
    Text,
}

impl Format {
    /// Every format, in the order in which they are listed to users.
    pub const ALL: [Self; 3] = [Self::Conllu, Self::Columns, Self::Text];

    /// The name that chooses this format in `data.format`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conllu => "conllu",
            Self::Columns => "columns",
            Self::Text => "text",
        }
    }

    /// The format of a file called `name` (standard input has none), whose first line that is neither blank nor a
    /// comment is `first`.
    ///
    /// A line of ten tab-separated columns that begins with a word number is CoNLL-U under any name but one that says
    /// otherwise; `.conllu` is CoNLL-U, so that a mistake in the first line is reported as what it is; `.conll`,
    /// `.tsv` and `.bio` are columns. Anything else is columns if it has a tab and text if not, except that where labels
    /// are needed a line of two or more words is columns too, since text has none.
    pub fn detect(name: Option<&Path>, first: Option<&str>, need_labels: bool) -> Self {
        let ending = name.and_then(|name| name.extension()).and_then(|ending| ending.to_str()).unwrap_or_default();
        let ending = ending.to_ascii_lowercase();
        let first = first.unwrap_or_default();
        match ending.as_str() {
            "conllu" => Self::Conllu,
            _ if looks_like_conllu(first) => Self::Conllu,
            "conll" | "tsv" | "bio" => Self::Columns,
            "txt" if !need_labels => Self::Text,
            _ if first.contains('\t') || (need_labels && first.split_whitespace().nth(1).is_some()) => Self::Columns,
            _ => Self::Text,
        }
    }
}

/// Whether a line has ten columns and begins with the number of a word, a multiword token or an empty node.
fn looks_like_conllu(line: &str) -> bool {
    let id = line.split('\t').next().unwrap_or_default();
    line.split('\t').count() == 10
        && id.starts_with(|first: char| first.is_ascii_digit())
        && id.chars().all(|character| character.is_ascii_digit() || character == '-' || character == '.')
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let wanted = name.to_ascii_lowercase();
        let wanted = match wanted.as_str() {
            "conll-u" => "conllu",
            "tsv" | "conll" | "bio" => "columns",
            "txt" | "plain" => "text",
            other => other,
        };
        Self::ALL
            .into_iter()
            .find(|format| format.name() == wanted)
            .ok_or_else(|| Error::unknown_name("data.format", name, Self::ALL.map(Self::name)))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONLLU: &str = "1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_";

    #[test]
    fn format_is_told_by_ending_and_content() {
        for (name, first, need_labels, expected) in [
            ("a.conllu", "1\tonly three\tcolumns", true, Format::Conllu),
            ("a.txt", CONLLU, false, Format::Conllu),
            ("a.conll", CONLLU, true, Format::Conllu),
            ("a.conll", "EU NNP B-NP B-ORG", true, Format::Columns),
            ("a.TSV", "token", false, Format::Columns),
            ("a.txt", "a\ttab in the text", false, Format::Text),
            ("a.txt", "EU NNP B-NP B-ORG", true, Format::Columns),
            ("emerging.test.annotated", "&\tO", true, Format::Columns),
            ("emerging.test.annotated", "&\tO", false, Format::Columns),
            ("noending", "I saw a saw .", false, Format::Text),
            ("noending", "word", true, Format::Text),
        ] {
            assert_eq!(Format::detect(Some(Path::new(name)), Some(first), need_labels), expected, "{name} {first}");
        }
        assert_eq!(Format::detect(None, Some(CONLLU), false), Format::Conllu);
        assert_eq!(Format::detect(None, None, false), Format::Text);
    }

    #[test]
    fn ten_columns_of_other_things_are_not_conllu() {
        assert_eq!(Format::detect(None, Some("a\tb\tc\td\te\tf\tg\th\ti\tO"), true), Format::Columns);
        assert_eq!(Format::detect(None, Some("2016-\tb\tc\td\te\tf\tg\th\tO"), true), Format::Columns);
    }

    #[test]
    fn formats_have_names() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        assert_eq!("CoNLL-U".parse::<Format>().unwrap(), Format::Conllu);
        let message = "conlluu".parse::<Format>().unwrap_err().to_string();
        assert!(message.contains("did you mean conllu? known are conllu, columns, text"), "{message}");
    }
}
