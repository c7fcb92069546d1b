//! Sentences, and the one door to them whatever their format.
//!
//! Here belong what a sentence is, reading all of a file or one sentence at a time, and writing predictions back. What
//! the lines of a format mean is in the format's own file; a new format is a new file and one more arm in three places
//! here.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::builtin::{self, Part};
use crate::columns;
use crate::conllu::{self, Column};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::source::{Lines, Source};
use crate::text::{self, Lexicon};

/// A sentence: its words and, if it came with them, their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sentence {
    /// The words.
    pub words: Vec<String>,
    /// A label for each word, or `None` if any word has none.
    pub labels: Option<Vec<String>>,
    /// The line of its first word, counted from one; of a sentence without words the first line. 0 if it came from no
    /// file.
    pub line: usize,
    /// The line of each word.
    pub word_lines: Vec<usize>,
    /// The lines that it was read from, for writing it back.
    pub source: Option<Arc<RawSentence>>,
}

impl Sentence {
    /// A sentence that came from no file.
    pub fn from_words(words: Vec<String>) -> Self {
        Self { word_lines: vec![0; words.len()], words, ..Self::default() }
    }
}

/// The lines that a sentence was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawSentence {
    /// The format that it was read in.
    pub format: Format,
    /// The lines with their endings: comments, words, and the blank lines around it.
    pub lines: Vec<String>,
    /// Which of `lines` each word stands on; empty for plain text, where all stand on one.
    pub words: Vec<usize>,
}

/// How files are read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The format; `None` tells it by ending and content.
    pub format: Option<Format>,
    /// The column of CoNLL-U that is the label.
    pub label: Column,
    /// The encoding; `None` is UTF-8.
    pub encoding: Option<String>,
    /// Whether a word without a label is an error.
    pub need_labels: bool,
    /// Whether plain text is split into words as [`tokenize`](crate::tokenize) does it, or at spaces only.
    pub tokenize: bool,
    /// Words that plain text is split with regard to; needed for text without spaces between words.
    pub lexicon: Option<Lexicon>,
    /// The part of `builtin:` data.
    pub part: Part,
}

impl Default for ReadOptions {
    /// For training: any format, universal parts of speech, labels needed.
    fn default() -> Self {
        Self {
            format: None,
            label: Column::default(),
            encoding: None,
            need_labels: true,
            tokenize: true,
            lexicon: None,
            part: Part::Train,
        }
    }
}

/// Reads all sentences that have words.
///
/// # Errors
///
/// What cannot be opened or decoded, lines that are not of the format, missing labels if `need_labels`, and a file
/// without a single word.
pub fn read_tagged(source: impl Into<Source>, options: &ReadOptions) -> Result<Vec<Sentence>> {
    let source = source.into();
    let stream = stream(source.clone(), options)?;
    let format = stream.format();
    let mut sentences = Vec::new();
    for sentence in stream {
        let sentence = sentence?;
        if !sentence.words.is_empty() {
            sentences.push(sentence);
        }
    }
    if sentences.is_empty() {
        let format = format.map_or_else(|| "data".to_owned(), |format| format!("{format} file"));
        let what = format!("there is no sentence in this {format}");
        return Err(Error::unusable(&source.name(), what, "is it the right file? it needs at least one sentence"));
    }
    Ok(sentences)
}

/// Opens a source to be read one sentence at a time, in the memory of one sentence.
///
/// A sentence may have no words: a blank line of plain text, or comments at the end of a file. It still belongs into
/// the output.
///
/// # Errors
///
/// What cannot be opened, and what is wrong with the first lines if the format is told by them.
pub fn stream(source: impl Into<Source>, options: &ReadOptions) -> Result<SentenceStream> {
    let source = source.into();
    if let Source::Builtin(name) = &source {
        return builtin_sentences(name, options.part);
    }
    stream_lines(source.open(options.encoding.as_deref())?, source.path(), options)
}

/// As [`stream`], from a reader of UTF-8, such as text that is in memory; messages call it `name`.
///
/// # Errors
///
/// As [`stream`].
pub fn stream_reader(reader: impl Read + Send + 'static, name: &str, options: &ReadOptions) -> Result<SentenceStream> {
    stream_lines(Lines::from_reader(reader, name), Some(Path::new(name)), options)
}

fn stream_lines(mut lines: Lines, path: Option<&Path>, options: &ReadOptions) -> Result<SentenceStream> {
    let format = match options.format {
        Some(format) => format,
        None => Format::detect(path, lines.peek_content()?, options.need_labels),
    };
    let reader = match format {
        Format::Conllu => Reader::Conllu(conllu::Reader::new(lines, options.label, options.need_labels)),
        Format::Columns => Reader::Columns(columns::Reader::new(lines, options.need_labels)),
        Format::Text if options.need_labels && lines.peek_content()?.is_some() => {
            let mend = "give CoNLL-U or `token<TAB>label` lines; give --format or set data.format if it is one of them";
            return Err(Error::unusable(lines.name(), "is plain text, which has no labels", mend));
        }
        Format::Text => Reader::Text(text::Reader::new(lines, options.tokenize, options.lexicon.clone())),
    };
    Ok(SentenceStream { format: Some(format), reader })
}

fn builtin_sentences(name: &str, part: Part) -> Result<SentenceStream> {
    if let Some(held) = builtin::held(name).filter(|_| !builtin::NAMES.contains(&name)) {
        let mend = format!("name a file, or one of builtin:{}", builtin::NAMES.join(", builtin:"));
        let what = format!("holds {held}, not tagged sentences");
        return Err(Error::unusable(&format!("builtin:{name}"), what, mend));
    }
    let marked =
        builtin::open(name, part).map_err(|_| Error::unknown_name("builtin", name, builtin::NAMES.iter().copied()))?;
    let sentences: Vec<Sentence> = marked
        .into_iter()
        .map(|marked| Sentence { labels: Some(marked.tags), ..Sentence::from_words(marked.words) })
        .collect();
    Ok(SentenceStream { format: None, reader: Reader::Builtin(sentences.into_iter()) })
}

/// Sentences one at a time. After an error there are no more.
pub struct SentenceStream {
    format: Option<Format>,
    reader: Reader,
}

enum Reader {
    Conllu(conllu::Reader),
    Columns(columns::Reader),
    Text(text::Reader),
    Builtin(std::vec::IntoIter<Sentence>),
    Ended,
}

impl SentenceStream {
    /// The format that is read; `None` for `builtin:` data.
    pub fn format(&self) -> Option<Format> {
        self.format
    }
}

impl fmt::Debug for SentenceStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SentenceStream").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Iterator for SentenceStream {
    type Item = Result<Sentence>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.reader {
            Reader::Conllu(reader) => reader.next_sentence().transpose(),
            Reader::Columns(reader) => reader.next_sentence().transpose(),
            Reader::Text(reader) => reader.next_sentence().transpose(),
            Reader::Builtin(sentences) => sentences.next().map(Ok),
            Reader::Ended => None,
        };
        if !matches!(next, Some(Ok(_))) {
            self.reader = Reader::Ended;
        }
        next
    }
}

/// Refuses sentences of more than `max_tokens` words, naming the first.
///
/// # Errors
///
/// [`Error::TooLong`].
pub fn check_lengths(sentences: &[Sentence], source: impl Into<Source>, max_tokens: usize) -> Result<()> {
    match sentences.iter().find(|sentence| sentence.words.len() > max_tokens) {
        None => Ok(()),
        Some(Sentence { line, words, .. }) => {
            Err(Error::TooLong { path: source.into().name(), line: *line, tokens: words.len(), max_tokens })
        }
    }
}

/// Writes a sentence with predicted labels in the format it came in: CoNLL-U with `label` replaced and every other byte
/// as it was, columns with the last one replaced or added, plain text as `word_LABEL word_LABEL`. One that came from no
/// file is written as plain text.
///
/// # Errors
///
/// [`Error::LabelCount`] if there is not one label for each word; [`Error::Io`] if `out` refuses.
pub fn write_labelled<S: AsRef<str>>(
    sentence: &Sentence,
    label: Column,
    labels: &[S],
    out: &mut dyn Write,
) -> Result<()> {
    if labels.len() != sentence.words.len() {
        let (words, labels) = (sentence.words.len(), labels.len());
        return Err(Error::LabelCount { line: sentence.line, words, labels });
    }
    let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
    let written: io::Result<()> = match sentence.source.as_deref() {
        Some(raw) if raw.format == Format::Conllu => conllu::write(raw, label, &labels, out),
        Some(raw) if raw.format == Format::Columns => columns::write(raw, &labels, out),
        _ => text::write(&sentence.words, &labels, out),
    };
    written.map_err(|source| Error::io("output", source))
}
