//! CoNLL-U, the format of Universal Dependencies: read a sentence at a time, and written back with another column.
//!
//! Here belongs what the ten columns mean. Lines and their encoding are [`source`](crate::source)'s.
//!
//! <https://universaldependencies.org/format.html>

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, quote};
use crate::format::Format;
use crate::sentence::{RawSentence, Sentence};
use crate::source::{Lines, text_of};

const COLUMNS: usize = 10;
/// What stands in a column without a value.
const EMPTY: &str = "_";

/// A column of CoNLL-U that can be the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Column {
    /// The word itself.
    Form,
    /// Its lemma.
    Lemma,
    /// Its universal part of speech.
    #[default]
    Upos,
    /// The language's or treebank's own part of speech.
    Xpos,
    /// Morphological features.
    Feats,
    /// The number of its head.
    Head,
    /// Its relation to its head.
    Deprel,
    /// Enhanced dependencies.
    Deps,
    /// Anything else.
    Misc,
}

impl Column {
    /// Every column, from left to right.
    pub const ALL: [Self; 9] = [
        Self::Form,
        Self::Lemma,
        Self::Upos,
        Self::Xpos,
        Self::Feats,
        Self::Head,
        Self::Deprel,
        Self::Deps,
        Self::Misc,
    ];

    /// The name that chooses this column in `data.label`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Lemma => "lemma",
            Self::Upos => "upos",
            Self::Xpos => "xpos",
            Self::Feats => "feats",
            Self::Head => "head",
            Self::Deprel => "deprel",
            Self::Deps => "deps",
            Self::Misc => "misc",
        }
    }

    /// Its place in a line, counted from zero; the word's number has place 0.
    fn place(self) -> usize {
        self as usize + 1
    }

    /// Whether `_` is a value (no features) rather than the lack of one (not annotated).
    fn may_be_empty(self) -> bool {
        matches!(self, Self::Form | Self::Lemma | Self::Xpos | Self::Feats | Self::Deps | Self::Misc)
    }
}

impl FromStr for Column {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let wanted = name.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|column| column.name() == wanted)
            .ok_or_else(|| Error::unknown_name("data.label", name, Self::ALL.map(Self::name)))
    }
}

impl fmt::Display for Column {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Reads sentences, one at a time. Comments before a sentence and blank lines between two belong to the sentence that
/// follows; what remains at the end of the file is a sentence without words, so that nothing is lost in writing back.
pub(crate) struct Reader {
    lines: Lines,
    label: Column,
    need_labels: bool,
}

/// What the first column of a line says that the line is.
enum Id {
    Word(usize),
    /// A multiword token or an empty node.
    NotAWord,
}

impl Reader {
    pub(crate) fn new(lines: Lines, label: Column, need_labels: bool) -> Self {
        Self { lines, label, need_labels }
    }

    pub(crate) fn next_sentence(&mut self) -> Result<Option<Sentence>> {
        let mut sentence = Sentence::default();
        let mut labels = Some(Vec::new());
        let mut raw = RawSentence { format: Format::Conllu, lines: Vec::new(), words: Vec::new() };
        // Comments and multiword tokens are no words, but a line with columns opens a sentence all the same.
        let mut open = false;
        while let Some(line) = self.lines.next_line()? {
            if sentence.line == 0 {
                sentence.line = line.number;
            }
            let number = line.number;
            if line.is_blank() {
                raw.lines.push(line.raw);
                if open {
                    break;
                }
                continue;
            }
            if !line.raw.starts_with('#') {
                open = true;
                let columns = self.columns(line.text(), number)?;
                if let Id::Word(id) = self.id(columns[0], number)? {
                    self.check_order(id, sentence.words.len(), number)?;
                    if sentence.words.is_empty() {
                        sentence.line = number;
                    }
                    sentence.words.push(self.form(columns[Column::Form.place()], number)?.to_owned());
                    sentence.word_lines.push(number);
                    raw.words.push(raw.lines.len());
                    match (self.label(&columns, number)?, &mut labels) {
                        (Some(label), Some(labels)) => labels.push(label.to_owned()),
                        _ => labels = None,
                    }
                }
            }
            raw.lines.push(line.raw);
        }
        if raw.lines.is_empty() {
            return Ok(None);
        }
        sentence.labels = labels;
        sentence.source = Some(Arc::new(raw));
        Ok(Some(sentence))
    }

    fn columns<'line>(&self, text: &'line str, number: usize) -> Result<[&'line str; COLUMNS]> {
        let mut columns = [""; COLUMNS];
        let mut count = 0;
        for column in text.split('\t') {
            if let Some(place) = columns.get_mut(count) {
                *place = column;
            }
            count += 1;
        }
        if count == COLUMNS {
            return Ok(columns);
        }
        let what = format!("expected {COLUMNS} tab-separated columns, found {count}");
        let mend = "is this CoNLL-U? give --format or set data.format if it is another format";
        Err(Error::malformed(self.lines.name(), number, what, mend))
    }

    fn id(&self, id: &str, number: usize) -> Result<Id> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number(id) {
            // A number too large for the machine is out of order, and is reported so.
            return Ok(Id::Word(id.parse().unwrap_or(usize::MAX)));
        }
        match id.split_once(['-', '.']) {
            Some((first, second)) if is_number(first) && is_number(second) => Ok(Id::NotAWord),
            _ => {
                let what = format!("the first column is {}, not a word's number", quote(id));
                Err(Error::malformed(
                    self.lines.name(),
                    number,
                    what,
                    "number the words 1, 2, 3 (1-2 or 1.1 for others)",
                ))
            }
        }
    }

    fn check_order(&self, id: usize, words: usize, number: usize) -> Result<()> {
        if id == words + 1 {
            return Ok(());
        }
        let (what, mend) = match id {
            1 => (format!("word 1 follows word {words}"), "put a blank line between two sentences"),
            _ => {
                (format!("found word {id} where word {} is next", words + 1), "number the words of a sentence 1, 2, 3")
            }
        };
        Err(Error::malformed(self.lines.name(), number, what, mend))
    }

    fn form<'line>(&self, form: &'line str, number: usize) -> Result<&'line str> {
        match form.trim().is_empty() {
            false => Ok(form),
            true => Err(Error::malformed(
                self.lines.name(),
                number,
                "the second column (FORM) is empty",
                "write the word there, or delete the line",
            )),
        }
    }

    /// The label, or `None` if there is none and none is needed.
    fn label<'line>(&self, columns: &[&'line str; COLUMNS], number: usize) -> Result<Option<&'line str>> {
        let label = columns[self.label.place()];
        let absent = label.is_empty() || (label == EMPTY && !self.label.may_be_empty());
        if absent && self.need_labels {
            let what = format!("the column {} is {}, but labels are needed here", self.label, quote(label));
            let mend = "annotate the word, or choose another column in data.label";
            return Err(Error::malformed(self.lines.name(), number, what, mend));
        }
        Ok((!absent).then_some(label))
    }
}

/// Writes the raw lines with `labels` in the column `label` of the words' lines and every other byte as it was. A blank
/// line is added at the end where the file had none.
pub(crate) fn write(raw: &RawSentence, label: Column, labels: &[&str], out: &mut dyn Write) -> io::Result<()> {
    let mut next = raw.words.iter().zip(labels).peekable();
    for (index, line) in raw.lines.iter().enumerate() {
        let Some((_, new)) = next.next_if(|(place, _)| **place == index) else {
            out.write_all(line.as_bytes())?;
            continue;
        };
        let text = text_of(line);
        for (place, column) in text.split('\t').enumerate() {
            if place > 0 {
                out.write_all(b"\t")?;
            }
            let is_label = place == label.place();
            let new = if new.is_empty() { EMPTY } else { new };
            out.write_all(if is_label { new.as_bytes() } else { column.as_bytes() })?;
        }
        out.write_all(&line.as_bytes()[text.len()..])?;
    }
    Ok(())
}
