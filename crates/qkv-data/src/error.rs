//! What can go wrong between a file and a batch, as data.
//!
//! Every message is one line: the file, the line if there is one, what is wrong, and what would mend it. Printing and
//! exit codes belong to the program.

use std::fmt;
use std::io;

/// The result of anything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why data could not be read, split or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to open, read or write.
    #[error("{path}: {source}{}", io_advice(source))]
    Io {
        /// The file as the user named it.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line is not what its format asks for.
    #[error("{path}:{line}: {what}; {mend}")]
    Malformed {
        /// The file as the user named it.
        path: String,
        /// The line, counted from one.
        line: usize,
        /// What is wrong.
        what: String,
        /// What would mend it.
        mend: String,
    },
    /// A line holds bytes that the encoding does not know.
    #[error("{path}:{line}: byte {byte} of the line is not {encoding}; {mend}")]
    Encoding {
        /// The file as the user named it.
        path: String,
        /// The line, counted from one.
        line: usize,
        /// The offending byte of the line, counted from one.
        byte: usize,
        /// The encoding that was expected.
        encoding: String,
        /// What would mend it.
        mend: String,
    },
    /// A file, or a setting, as a whole is of no use for what was asked.
    #[error("{path}: {what}; {mend}")]
    Unusable {
        /// The file or the setting, as the user named it.
        path: String,
        /// What is wrong.
        what: String,
        /// What would mend it.
        mend: String,
    },
    /// A sentence is longer than the limit.
    #[error(
        "{path}:{line}: the sentence that starts here has {tokens} tokens, more than data.max_tokens = {max_tokens}; \
         split it, or raise data.max_tokens"
    )]
    TooLong {
        /// The file as the user named it.
        path: String,
        /// The line of the sentence's first word, counted from one.
        line: usize,
        /// How many tokens the sentence has.
        tokens: usize,
        /// The limit.
        max_tokens: usize,
    },
    /// A name that is not one of the known ones.
    #[error("unknown {kind} {given:?}; {}", known_advice(given, known))]
    UnknownName {
        /// What it would have been a name of, such as `data.format`.
        kind: &'static str,
        /// The name that was given.
        given: String,
        /// The names that are known.
        known: Vec<String>,
    },
    /// Too few examples to be split in two.
    #[error(
        "{count} examples cannot be split into a training and a dev part; give at least 2, or name a dev set in data.dev"
    )]
    TooFewToSplit {
        /// How many examples there are.
        count: usize,
    },
    /// As many labels as words are needed to write a sentence back.
    #[error("the sentence at line {line} has {words} words but {labels} labels; give one label for each word")]
    LabelCount {
        /// The line of the sentence's first word, counted from one.
        line: usize,
        /// How many words the sentence has.
        words: usize,
        /// How many labels came.
        labels: usize,
    },
}

impl Error {
    /// An operating system's error about the file `path`.
    pub(crate) fn io(path: &str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// A line that is not what its format asks for.
    pub(crate) fn malformed(path: &str, line: usize, what: impl fmt::Display, mend: impl fmt::Display) -> Self {
        Self::Malformed { path: path.to_owned(), line, what: what.to_string(), mend: mend.to_string() }
    }

    /// A file or setting that as a whole is of no use.
    pub(crate) fn unusable(path: &str, what: impl fmt::Display, mend: impl fmt::Display) -> Self {
        Self::Unusable { path: path.to_owned(), what: what.to_string(), mend: mend.to_string() }
    }

    /// A name that is not one of the `known`.
    pub(crate) fn unknown_name(kind: &'static str, given: &str, known: impl IntoIterator<Item = &'static str>) -> Self {
        Self::UnknownName { kind, given: given.to_owned(), known: known.into_iter().map(str::to_owned).collect() }
    }
}

/// What would mend the commonest refusals of an operating system.
fn io_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; check the path (a file, `builtin:NAME`, or `-` for standard input)",
        io::ErrorKind::PermissionDenied => "; check that you may read it",
        io::ErrorKind::IsADirectory => "; name a file in it",
        _ => "",
    }
}

/// The nearest of the `known` names if one is near, and all of them.
fn known_advice(given: &str, known: &[String]) -> String {
    let all = known.join(", ");
    match nearest(given, known) {
        Some(name) => format!("did you mean {name}? known are {all}"),
        None => format!("known are {all}"),
    }
}

/// The one of the `known` names that `given` may be a slip for.
pub(crate) fn nearest<'names, S: AsRef<str>>(given: &str, known: &'names [S]) -> Option<&'names str> {
    let given = given.to_lowercase();
    let distances = known.iter().map(AsRef::as_ref).map(|name| {
        let distance = strsim::damerau_levenshtein(&given, &name.to_lowercase());
        (distance, name)
    });
    let near = distances.filter(|(distance, name)| *distance <= 2 && *distance < name.chars().count());
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// A piece of the user's file, fit to stand in a one-line message: quoted, escaped, and cut if it is long.
pub(crate) fn quote(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(MOST).collect();
    format!("{head:?}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_name_suggests_the_nearest_and_lists_all() {
        let error = Error::unknown_name("data.format", "conlu", ["conllu", "columns", "text"]);
        let expected = "unknown data.format \"conlu\"; did you mean conllu? known are conllu, columns, text";
        assert_eq!(error.to_string(), expected);
        let error = Error::unknown_name("data.format", "parquet", ["conllu", "text"]);
        assert_eq!(error.to_string(), "unknown data.format \"parquet\"; known are conllu, text");
    }

    #[test]
    fn quoted_text_stays_on_one_line_and_is_cut() {
        assert_eq!(quote("a\nb"), "\"a\\nb\"");
        assert!(quote(&"x".repeat(1000)).chars().count() < 50);
    }
}
