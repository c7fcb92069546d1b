//! A token and its label on each line, a blank line after each sentence: the format of the CoNLL shared tasks on
//! entities and chunks, and of most BIO data.
//!
//! Here belongs what stands in the columns. What a BIO label means is the metric's affair.
//!
//! - The first column is the token, the last the label; what stands between is ignored.
//! - Columns are parted by tabs if the first line has one, else by spaces (CoNLL-2003).
//! - Every line has as many columns as the first. Where no labels are needed, one column is a token without a label.
//! - A line of nothing but spaces and tabs is blank. A line that begins with `-DOCSTART-` ends a sentence, too.

use std::io::{self, Write};
use std::sync::Arc;

use crate::error::{Error, Result, quote};
use crate::format::Format;
use crate::sentence::{RawSentence, Sentence};
use crate::source::{Lines, text_of};

const DOCUMENT: &str = "-DOCSTART-";

/// Reads sentences, one at a time. Blank and document lines before a sentence belong to it.
pub(crate) struct Reader {
    lines: Lines,
    need_labels: bool,
    /// What the first line settles for all others.
    layout: Option<Layout>,
}

#[derive(Clone, Copy)]
struct Layout {
    tabs: bool,
    columns: usize,
    /// The line that settled it.
    line: usize,
}

impl Reader {
    pub(crate) fn new(lines: Lines, need_labels: bool) -> Self {
        Self { lines, need_labels, layout: None }
    }

    pub(crate) fn next_sentence(&mut self) -> Result<Option<Sentence>> {
        let mut sentence = Sentence::default();
        let mut labels = Some(Vec::new());
        let mut raw = RawSentence { format: Format::Columns, lines: Vec::new(), words: Vec::new() };
        while let Some(line) = self.lines.next_line()? {
            let number = line.number;
            if sentence.line == 0 {
                sentence.line = number;
            }
            if line.is_blank() || line.raw.starts_with(DOCUMENT) {
                raw.lines.push(line.raw);
                match sentence.words.is_empty() {
                    true => continue,
                    false => break,
                }
            }
            let (word, label) = self.columns(line.text(), number)?;
            if sentence.words.is_empty() {
                sentence.line = number;
            }
            sentence.words.push(word.to_owned());
            sentence.word_lines.push(number);
            match (label, &mut labels) {
                (Some(label), Some(labels)) => labels.push(label.to_owned()),
                _ => labels = None,
            }
            raw.words.push(raw.lines.len());
            raw.lines.push(line.raw);
        }
        if raw.lines.is_empty() {
            return Ok(None);
        }
        sentence.labels = labels;
        sentence.source = Some(Arc::new(raw));
        Ok(Some(sentence))
    }

    /// The token and, if there is one, the label of a line.
    fn columns<'line>(&mut self, text: &'line str, number: usize) -> Result<(&'line str, Option<&'line str>)> {
        let tabs = self.layout.map_or_else(|| text.contains('\t'), |layout| layout.tabs);
        let (count, first, last) = ends(text, tabs);
        let layout = *self.layout.get_or_insert(Layout { tabs, columns: count, line: number });
        let parted = if layout.tabs { "tab" } else { "space" };
        let path = self.lines.name();
        if count != layout.columns {
            let what = format!(
                "expected {} {parted}-separated columns as on line {}, found {count}",
                layout.columns, layout.line
            );
            let mend = "give every line as many (a blank line parts two sentences), or name data.format = text if it is plain text";
            return Err(Error::malformed(path, number, what, mend));
        }
        if first.is_empty() {
            let mend = "write the token there, or leave the whole line blank";
            return Err(Error::malformed(path, number, "the first column (the token) is empty", mend));
        }
        let label = (count > 1 && !last.is_empty()).then_some(last);
        if label.is_none() && self.need_labels {
            let what = format!("{} has no label, but labels are needed here", quote(first));
            let mend = "write token, tab, label; give --format or set data.format if it is another format";
            return Err(Error::malformed(path, number, what, mend));
        }
        Ok((first, label))
    }
}

/// How many columns a line has, and what stands in the first and the last.
fn ends(text: &str, tabs: bool) -> (usize, &str, &str) {
    let mut count = 0;
    let (mut first, mut last) = ("", "");
    let parts = text.split(|character| if tabs { character == '\t' } else { matches!(character, ' ' | '\t') });
    // Between tabs an empty column is a column; many spaces are one.
    for part in parts.map(|part| part.trim_matches(' ')).filter(|part| tabs || !part.is_empty()) {
        if count == 0 {
            first = part;
        }
        last = part;
        count += 1;
    }
    (count, first, last)
}

/// Writes the raw lines with `labels` in the last column, or in a second one where there was only the token.
pub(crate) fn write(raw: &RawSentence, labels: &[&str], out: &mut dyn Write) -> io::Result<()> {
    let mut next = raw.words.iter().zip(labels).peekable();
    for (index, line) in raw.lines.iter().enumerate() {
        let Some((_, new)) = next.next_if(|(place, _)| **place == index) else {
            out.write_all(line.as_bytes())?;
            continue;
        };
        let text = text_of(line);
        // What follows the last separator is the old label, and goes; a token alone gets a separator.
        let columns = text.trim_end_matches(' ');
        let first = columns.len() - columns.trim_start_matches(' ').len();
        match columns.rfind('\t').or_else(|| columns[first..].rfind(' ').map(|end| first + end)) {
            Some(end) => out.write_all(&columns.as_bytes()[..=end])?,
            None => write!(out, "{columns}\t")?,
        }
        out.write_all(new.as_bytes())?;
        out.write_all(&line.as_bytes()[text.len()..])?;
    }
    Ok(())
}
