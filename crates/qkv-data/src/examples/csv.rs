//! Records of comma-separated fields (RFC 4180), one at a time.
//!
//! Here belongs what a quote, a comma and the end of a line mean. What the fields mean is [`choice`](super::choice)'s.
//!
//! The state machine is `csv-core`'s, which is fed a line at a time. So each record knows the line that it begins on, a
//! quote that nothing closes is told from a text of many lines, and it cannot fill the memory with the rest of the
//! file.

use csv_core::{ReadRecordResult, Reader};

use crate::error::{Error, Result};
use crate::source::{Lines, MAX_LINE_BYTES, is_blank};

/// The records of a text. A line with nothing on it is no record.
pub(crate) struct CsvRecords {
    lines: Lines,
    core: Reader,
    /// The line that is being read, from `place`; its number is `number`.
    line: String,
    place: usize,
    number: usize,
    /// Lines that a carriage return alone has ended, which `number` does not count.
    returns: usize,
    /// The fields of the record one after the other, without quotes, of which `ends` are the ends.
    text: Vec<u8>,
    ends: Vec<usize>,
    /// How many of `ends` are the record's.
    count: usize,
    max_bytes: usize,
}

impl CsvRecords {
    pub(crate) fn new(lines: Lines) -> Self {
        Self {
            lines,
            core: Reader::new(),
            line: String::new(),
            place: 0,
            number: 0,
            returns: 0,
            text: vec![0; 1 << 10],
            ends: vec![0; 16],
            count: 0,
            max_bytes: MAX_LINE_BYTES as usize,
        }
    }

    /// How messages name the text.
    pub(crate) fn name(&self) -> &str {
        self.lines.name()
    }

    /// The fields of the record that was read last.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        let ends = &self.ends[..self.count];
        let starts = std::iter::once(0).chain(ends.iter().copied());
        // The text was cut at quotes and commas, so that every piece of it is still UTF-8.
        starts.zip(ends).map(|(start, end)| std::str::from_utf8(&self.text[start..*end]).unwrap_or_default())
    }

    /// Reads the next record and says on which line it begins, or `None` at the end.
    pub(crate) fn next_record(&mut self) -> Result<Option<usize>> {
        loop {
            let Some(start) = self.read_record()? else { return Ok(None) };
            let mut fields = self.fields();
            // Spaces alone on a line between others are a blank line, not a field.
            let blank = fields.next().is_some_and(|field| is_blank(field) && !field.is_empty());
            if !(blank && fields.next().is_none()) {
                return Ok(Some(start));
            }
        }
    }

    fn read_record(&mut self) -> Result<Option<usize>> {
        let (mut written, mut start, mut at_end) = (0, 0, false);
        self.count = 0;
        loop {
            if self.place == self.line.len() {
                at_end = !self.take_line()?;
            }
            // Until something of the record was read, it may begin on this line: those before were blank.
            if written == 0 && self.count == 0 {
                self.skip_ends();
                start = self.number + self.returns;
            }
            let input = &self.line.as_bytes()[self.place..];
            let (result, read, more, ended) =
                self.core.read_record(input, &mut self.text[written..], &mut self.ends[self.count..]);
            self.returns += returns_alone(&self.line.as_bytes()[self.place..], read);
            self.place += read;
            written += more;
            self.count += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.text.len() >= self.max_bytes => {
                    let what = format!("the record that begins here is longer than {} bytes", self.max_bytes);
                    let mend = "is there a quote (\") that nothing closes? write \"\" for one inside a quoted text";
                    return Err(Error::malformed(self.name(), start, what, mend));
                }
                ReadRecordResult::OutputFull => self.text.resize(self.max_bytes.min(2 * self.text.len()), 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                // Every line ends, so that a record which the end of the text ends stood in quotes.
                ReadRecordResult::Record if at_end => {
                    let what = "the record that begins here has a quote (\") that nothing closes";
                    let mend = "close it, and write \"\" for one inside a quoted text";
                    return Err(Error::malformed(self.name(), start, what, mend));
                }
                ReadRecordResult::Record => return Ok(Some(start)),
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// Goes over ends of lines before a record.
    fn skip_ends(&mut self) {
        let rest = &self.line.as_bytes()[self.place..];
        let ends = rest.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
        // The last end stays: with nothing behind it, it would be the end of the text.
        let ends = if ends == rest.len() { ends.saturating_sub(1) } else { ends };
        self.returns += returns_alone(rest, ends);
        self.place += ends;
    }

    /// Takes the next line, with an end if it has none. At the end of the text there is nothing, which is what the
    /// state machine takes for the end.
    fn take_line(&mut self) -> Result<bool> {
        self.place = 0;
        let Some(line) = self.lines.next_line()? else {
            self.line.clear();
            return Ok(false);
        };
        self.number = line.number;
        self.line = line.raw;
        if !self.line.ends_with('\n') {
            self.line.push('\n');
        }
        Ok(true)
    }
}

/// How many of the first `count` bytes are carriage returns that no line feed follows.
fn returns_alone(bytes: &[u8], count: usize) -> usize {
    (0..count).filter(|&place| bytes[place] == b'\r' && bytes.get(place + 1) != Some(&b'\n')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &'static str) -> CsvRecords {
        CsvRecords::new(Lines::from_reader(text.as_bytes(), "a.csv"))
    }

    fn all(text: &'static str) -> Result<Vec<(usize, Vec<String>)>> {
        let mut records = records(text);
        let mut all = Vec::new();
        while let Some(line) = records.next_record()? {
            all.push((line, records.fields().map(str::to_owned).collect()));
        }
        Ok(all)
    }

    fn expected(records: &[(usize, &[&str])]) -> Vec<(usize, Vec<String>)> {
        records.iter().map(|(line, fields)| (*line, fields.iter().map(|&field| field.to_owned()).collect())).collect()
    }

    #[test]
    fn records_know_the_line_they_begin_on() {
        let text = "a,b\n\n  \n\"1\n\n2\",\"x,\"\"y\"\"\"\r\n\r\n,\nlast,\"\"";
        let fields: [(usize, &[&str]); 4] =
            [(1, &["a", "b"]), (4, &["1\n\n2", "x,\"y\""]), (8, &["", ""]), (9, &["last", ""])];
        assert_eq!(all(text).unwrap(), expected(&fields));
        assert_eq!(all("").unwrap(), []);
        assert_eq!(all("\n \n").unwrap(), []);
    }

    #[test]
    fn line_ends_of_every_system_end_a_record_and_stay_as_they_are_in_quotes() {
        assert_eq!(all("a\r\nb\rc\n").unwrap(), expected(&[(1, &["a"]), (2, &["b"]), (3, &["c"])]));
        assert_eq!(all("a\rb\r\r\rc\r").unwrap(), expected(&[(1, &["a"]), (2, &["b"]), (5, &["c"])]));
        assert_eq!(all("\"a\rb\"\r\nc\rd\n").unwrap(), expected(&[(1, &["a\rb"]), (3, &["c"]), (4, &["d"])]));
        assert_eq!(all("\"a\r\nb\rc\"\r\n").unwrap(), expected(&[(1, &["a\r\nb\rc"])]));
    }

    #[test]
    fn many_and_long_fields_are_read() {
        let mut text = "é,".repeat(5000);
        text.push_str(&"花".repeat(5000));
        let mut records = CsvRecords::new(Lines::from_reader(std::io::Cursor::new(text), "a.csv"));
        records.next_record().unwrap();
        let fields: Vec<&str> = records.fields().collect();
        assert_eq!((fields.len(), fields[4999], fields[5000].chars().count()), (5001, "é", 5000));
    }

    #[test]
    fn a_quote_that_nothing_closes_is_named_by_the_line_of_its_record() {
        for text in ["a\n\nb,\"c\nd,e\n", "a\n\nb,\"c", "a\n\n\"b\n", "a\n\n\""] {
            let message = all(text).unwrap_err().to_string();
            assert!(message.starts_with("a.csv:3: the record that begins here has a quote"), "{message}");
        }
    }

    #[test]
    fn a_record_beyond_the_limit_is_an_error_and_one_below_is_not() {
        let mut records = records("a\n\"12345\n7\"\n\"12345\n78\n");
        (records.max_bytes, records.text) = (8, vec![0; 2]);
        assert_eq!((records.next_record().unwrap(), records.next_record().unwrap()), (Some(1), Some(2)));
        let message = records.next_record().unwrap_err().to_string();
        assert!(message.starts_with("a.csv:4: the record that begins here is longer than 8 bytes"), "{message}");
    }
}
