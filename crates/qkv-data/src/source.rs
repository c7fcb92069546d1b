//! Where data comes from, and its lines.
//!
//! Here belong opening, decoding and cutting into lines, the same for every format. What a line means belongs to the
//! formats, each in a file of its own.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};

use crate::error::{Error, Result, quote};

/// A longer line is taken for a file that is not text, so that a wrong path cannot fill the memory.
pub(crate) const MAX_LINE_BYTES: u64 = 64 << 20;

/// Something that data can be read from, as a user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// `builtin:NAME`, data that the program carries.
    Builtin(String),
    /// `-`, standard input.
    Stdin,
}

impl Source {
    /// What `given` names: `-`, `builtin:NAME`, or a path.
    pub fn parse(given: &str) -> Self {
        match given.strip_prefix("builtin:") {
            Some(name) => Self::Builtin(name.to_owned()),
            None if given == "-" => Self::Stdin,
            None => Self::File(PathBuf::from(given)),
        }
    }

    /// How messages name it, on one line whatever a path holds.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => {
                let name = path.to_string_lossy();
                if name.contains(char::is_control) { quote(&name) } else { name.into_owned() }
            }
            Self::Builtin(name) => format!("builtin:{name}"),
            Self::Stdin => "standard input".to_owned(),
        }
    }

    /// The path, if it is a file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    /// Opens it as lines of text in `encoding` (UTF-8 if `None`).
    ///
    /// # Errors
    ///
    /// What the operating system refuses, a folder, an unknown encoding, and `builtin:` data, which is not lines.
    pub fn open(&self, encoding: Option<&str>) -> Result<Lines> {
        let encoding = encoding.map(encoding_named).transpose()?;
        let name = self.name();
        let reader: Box<dyn Read + Send> = match self {
            Self::File(path) => {
                if path.is_dir() {
                    return Err(Error::unusable(&name, "is a folder", "name one of the files in it"));
                }
                Box::new(File::open(path).map_err(|source| Error::io(&name, source))?)
            }
            Self::Stdin => Box::new(io::stdin()),
            Self::Builtin(_) => {
                return Err(Error::unusable(&name, "is not a file of lines", "name a file or `-`"));
            }
        };
        Ok(Lines::new(reader, name, encoding))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

impl From<&str> for Source {
    fn from(given: &str) -> Self {
        Self::parse(given)
    }
}

impl From<&String> for Source {
    fn from(given: &String) -> Self {
        Self::parse(given)
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for Source {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// The encoding that a user calls `name`: any label of the WHATWG's encoding standard, and `latin-1`, which is
/// not one. As there, latin-1 is read as windows-1252, which has letters where latin-1 has control characters.
fn encoding_named(name: &str) -> Result<&'static Encoding> {
    let joined: String = name.chars().filter(|character| !matches!(character, '-' | '_' | ' ')).collect();
    Encoding::for_label(name.as_bytes()).or_else(|| Encoding::for_label(joined.as_bytes())).ok_or_else(|| {
        let known =
            ["utf-8", "latin-1", "iso-8859-15", "windows-1252", "utf-16le", "gb18030", "big5", "shift_jis", "euc-kr"];
        Error::unknown_name("data.encoding", name, known)
    })
}

/// One line of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number, counted from one.
    pub number: usize,
    /// What it holds, its ending included.
    pub raw: String,
}

impl Line {
    /// What the line holds without its ending, `\n` or `\r\n`.
    pub fn text(&self) -> &str {
        text_of(&self.raw)
    }

    /// Whether there is nothing on the line but spaces and tabs.
    pub fn is_blank(&self) -> bool {
        is_blank(self.text())
    }
}

/// A raw line without its ending.
pub(crate) fn text_of(raw: &str) -> &str {
    let text = raw.strip_suffix('\n').unwrap_or(raw);
    text.strip_suffix('\r').unwrap_or(text)
}

/// Whether there is nothing in `text` but spaces and tabs.
pub(crate) fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte == b'\t' || byte == b'\r')
}

/// The lines of a text, one at a time: decoded, without a byte order mark, line endings kept.
pub struct Lines {
    reader: Box<dyn BufRead + Send>,
    name: String,
    encoding: Option<&'static Encoding>,
    /// How many lines were read from `reader`.
    read: usize,
    /// Lines that were looked at but not yet taken.
    waiting: VecDeque<Line>,
    max_line_bytes: u64,
}

impl Lines {
    fn new(reader: Box<dyn Read + Send>, name: String, encoding: Option<&'static Encoding>) -> Self {
        // Bytes that already should be UTF-8 are only checked, line by line.
        let encoding = encoding.filter(|&encoding| encoding != UTF_8);
        let reader: Box<dyn BufRead + Send> = match encoding {
            Some(encoding) => Box::new(BufReader::new(Decoding::new(reader, encoding))),
            None => Box::new(BufReader::new(reader)),
        };
        Self { reader, name, encoding, read: 0, waiting: VecDeque::new(), max_line_bytes: MAX_LINE_BYTES }
    }

    /// The lines of a reader of UTF-8; messages call it `name`.
    pub fn from_reader(reader: impl Read + Send + 'static, name: &str) -> Self {
        Self::new(Box::new(reader), name.to_owned(), None)
    }

    /// How messages name the text.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next line, or `None` at the end.
    ///
    /// # Errors
    ///
    /// What the operating system refuses, bytes that the encoding does not know, and a line without an end.
    pub fn next_line(&mut self) -> Result<Option<Line>> {
        match self.waiting.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read_line(),
        }
    }

    /// The first of the coming lines that is neither blank nor begins with `#`, without taking it or those before it.
    /// If there is none among the next thousand, `None`.
    ///
    /// # Errors
    ///
    /// As [`next_line`](Self::next_line).
    pub fn peek_content(&mut self) -> Result<Option<&str>> {
        self.peek(|line| !line.is_blank() && !line.raw.starts_with('#'))
    }

    /// As [`peek_content`](Self::peek_content), for formats without comments: the first line that is not blank.
    ///
    /// # Errors
    ///
    /// As [`next_line`](Self::next_line).
    pub fn peek_not_blank(&mut self) -> Result<Option<&str>> {
        self.peek(|line| !line.is_blank())
    }

    fn peek(&mut self, wanted: impl Fn(&Line) -> bool) -> Result<Option<&str>> {
        const MOST: usize = 1000;
        let mut place = self.waiting.iter().position(&wanted);
        while place.is_none() && self.waiting.len() < MOST {
            let Some(line) = self.read_line()? else { break };
            if wanted(&line) {
                place = Some(self.waiting.len());
            }
            self.waiting.push_back(line);
        }
        Ok(place.and_then(|place| self.waiting.get(place)).map(Line::text))
    }

    fn read_line(&mut self) -> Result<Option<Line>> {
        let number = self.read + 1;
        let mut bytes = Vec::new();
        // One byte beyond the limit tells a line that reaches it from one that exceeds it.
        let mut limited = (&mut self.reader).take(self.max_line_bytes + 1);
        if let Err(source) = limited.read_until(b'\n', &mut bytes) {
            return Err(match (source.kind(), self.encoding) {
                (io::ErrorKind::InvalidData, Some(encoding)) => {
                    self.not_in_encoding(number, bytes.len(), encoding.name())
                }
                _ => Error::io(&self.name, source),
            });
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() as u64 > self.max_line_bytes {
            let what = format!("the line is longer than {} bytes", self.max_line_bytes);
            return Err(Error::malformed(&self.name, number, what, "is this a text file? break its lines"));
        }
        self.read = number;
        if number == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
            if bytes.is_empty() {
                return Ok(None);
            }
        }
        if let Some((what, mend)) = is_no_text(&bytes).filter(|_| self.encoding.is_none() && number == 1) {
            return Err(Error::unusable(&self.name, what, mend));
        }
        if self.encoding.is_none() && number == 1 && (bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff"))
        {
            let encoding = if bytes[0] == 0xff { "utf-16le" } else { "utf-16be" };
            let mend =
                format!("it looks like UTF-16: give --encoding {encoding} or set data.encoding = \"{encoding}\"");
            return Err(Error::Encoding { path: self.name.clone(), line: 1, byte: 1, encoding: "UTF-8".into(), mend });
        }
        match String::from_utf8(bytes) {
            Ok(raw) => Ok(Some(Line { number, raw })),
            Err(error) => Err(self.not_in_encoding(number, error.utf8_error().valid_up_to(), "UTF-8")),
        }
    }

    fn not_in_encoding(&self, line: usize, valid: usize, encoding: &str) -> Error {
        let mend =
            "name the file's encoding in data.encoding or by --encoding, such as \"latin-1\" or \"windows-1252\""
                .to_owned();
        Error::Encoding { path: self.name.clone(), line, byte: valid + 1, encoding: encoding.to_owned(), mend }
    }
}

/// What begins so and is no text, and what to do about it.
fn is_no_text(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    match bytes {
        [b'P', b'K', 3, 4, ..] => {
            Some(("is a ZIP file, as .xlsx and .npz are", "save the sheet as CSV, or an array of it by itself as NPY"))
        }
        [0x1f, 0x8b, ..] => Some(("is packed by gzip", "unpack it first, as by gunzip")),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            Some(("is an array of NumPy", "name it as a file with the ending .npy where rows of numbers are read"))
        }
        [b'P', b'A', b'R', b'1', ..] => Some((
            "is a Parquet file",
            "name it as a file where a table or rows of numbers are read, or write it as CSV",
        )),
        _ => None,
    }
}

/// Turns bytes in some encoding into UTF-8 while they are read. Bytes that the encoding does not know are an error of
/// the kind `InvalidData`, after all text before them.
struct Decoding<R> {
    reader: R,
    decoder: Decoder,
    /// Bytes not yet decoded.
    input: Vec<u8>,
    at_end: bool,
    finished: bool,
    /// Text not yet handed on, from `start`.
    output: Vec<u8>,
    start: usize,
    broken: bool,
}

impl<R: Read> Decoding<R> {
    fn new(reader: R, encoding: &'static Encoding) -> Self {
        Self {
            reader,
            decoder: encoding.new_decoder_with_bom_removal(),
            input: Vec::new(),
            at_end: false,
            finished: false,
            output: Vec::new(),
            start: 0,
            broken: false,
        }
    }

    /// Decodes some more into the empty `output`.
    fn refill(&mut self) -> io::Result<()> {
        const PIECE: usize = 16 << 10;
        if self.input.is_empty() && !self.at_end {
            self.input.resize(PIECE, 0);
            let count = loop {
                match self.reader.read(&mut self.input) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            let count = count.inspect_err(|_| self.input.clear())?;
            self.input.truncate(count);
            self.at_end = count == 0;
        }
        self.start = 0;
        self.output.resize(4 * PIECE, 0);
        let (result, used, written) =
            self.decoder.decode_to_utf8_without_replacement(&self.input, &mut self.output, self.at_end);
        self.input.drain(..used);
        self.output.truncate(written);
        match result {
            DecoderResult::InputEmpty => self.finished = self.at_end,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => self.broken = true,
        }
        Ok(())
    }
}

impl<R: Read> Read for Decoding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.start == self.output.len() {
            if self.broken {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.finished {
                return Ok(0);
            }
            self.refill()?;
        }
        let count = buffer.len().min(self.output.len() - self.start);
        buffer[..count].copy_from_slice(&self.output[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_called_what_it_is() {
        for (bytes, what) in [
            (&b"PK\x03\x04\x14\0\x06\0"[..], "is a ZIP file, as .xlsx and .npz are"),
            (b"\x1f\x8b\x08\0", "is packed by gzip"),
            (b"\x93NUMPY\x01\0", "is an array of NumPy"),
            (b"PAR1\x15\0", "is a Parquet file"),
        ] {
            let message = Lines::from_reader(std::io::Cursor::new(bytes), "a.csv").next_line().unwrap_err().to_string();
            assert!(message.starts_with(&format!("a.csv: {what}; ")), "{message}");
        }
    }

    fn lines(bytes: &'static [u8], encoding: Option<&str>) -> Lines {
        Lines::new(Box::new(bytes), "file".to_owned(), encoding.map(|name| encoding_named(name).unwrap()))
    }

    fn texts(mut lines: Lines) -> Vec<String> {
        std::iter::from_fn(|| lines.next_line().unwrap()).map(|line| line.text().to_owned()).collect()
    }

    #[test]
    fn a_name_is_a_path_or_builtin_or_standard_input() {
        assert_eq!(Source::parse("-"), Source::Stdin);
        assert_eq!(Source::parse("builtin:demo"), Source::Builtin("demo".to_owned()));
        assert_eq!(Source::from("a/b.txt"), Source::File(PathBuf::from("a/b.txt")));
        assert_eq!(Source::from(Path::new("-")), Source::File(PathBuf::from("-")));
        assert_eq!(Source::parse("builtin:demo").to_string(), "builtin:demo");
        assert!(!Source::parse("a\nb").name().contains('\n'));
    }

    #[test]
    fn byte_order_mark_and_carriage_returns_are_no_part_of_the_text() {
        assert_eq!(texts(lines(b"\xef\xbb\xbfone\r\n\r\ntwo", None)), ["one", "", "two"]);
        assert_eq!(texts(lines(b"\xef\xbb\xbf", None)), [""; 0]);
        assert_eq!(texts(lines(b"", None)), [""; 0]);
        let mut lines = lines(b"one\r\n", None);
        assert_eq!(lines.next_line().unwrap().unwrap().raw, "one\r\n");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_named_by_line_and_byte() {
        let mut lines = lines(b"one\ncaf\xe9\n", None);
        lines.next_line().unwrap();
        let message = lines.next_line().unwrap_err().to_string();
        assert!(
            message.starts_with("file:2: byte 4 of the line is not UTF-8; name the file's encoding in data.encoding")
        );
    }

    #[test]
    fn utf16_is_recognised_when_it_was_not_named() {
        let message = lines(b"\xff\xfea\0", None).next_line().unwrap_err().to_string();
        assert!(message.contains("data.encoding = \"utf-16le\""), "{message}");
    }

    #[test]
    fn encodings_are_decoded() {
        assert_eq!(texts(lines(b"caf\xe9\nna\xefve\n", Some("latin-1"))), ["café", "naïve"]);
        assert_eq!(texts(lines(b"\xff\xfea\0\n\0\xb1\x82\n\0", Some("utf-16"))), ["a", "花"]);
        assert_eq!(texts(lines("é\n".as_bytes(), Some("UTF8"))), ["é"]);
        let mut broken = lines(b"ok\nab\xff\n", Some("gb18030"));
        broken.next_line().unwrap();
        let message = broken.next_line().unwrap_err().to_string();
        assert!(message.starts_with("file:2: byte 3 of the line is not gb18030"), "{message}");
    }

    #[test]
    fn long_encoded_text_keeps_every_character() {
        let bytes: Vec<u8> = (0..200_000).map(|index| if index % 1000 == 999 { b'\n' } else { 0xe9 }).collect();
        let lines = Lines::new(Box::new(io::Cursor::new(bytes)), "file".to_owned(), Some(encoding_rs::WINDOWS_1252));
        assert_eq!(texts(lines), vec!["é".repeat(999); 200]);
    }

    #[test]
    fn unknown_encoding_is_an_error() {
        let message = encoding_named("latin-7").unwrap_err().to_string();
        assert!(message.contains("unknown data.encoding \"latin-7\"; did you mean latin-1?"), "{message}");
    }

    #[test]
    fn a_line_beyond_the_limit_is_an_error_and_one_at_the_limit_is_not() {
        let mut lines = lines(b"1234567\n12345678\n", None);
        lines.max_line_bytes = 8;
        lines.next_line().unwrap();
        let message = lines.next_line().unwrap_err().to_string();
        assert!(message.starts_with("file:2: the line is longer than 8 bytes"), "{message}");
    }

    #[test]
    fn looking_ahead_takes_nothing() {
        let mut lines = lines(b"# c\n\n1\tx\nrest\n", None);
        assert_eq!(lines.peek_content().unwrap(), Some("1\tx"));
        assert_eq!(lines.peek_content().unwrap(), Some("1\tx"));
        assert_eq!(lines.peek_not_blank().unwrap(), Some("# c"));
        assert_eq!(texts(lines), ["# c", "", "1\tx", "rest"]);
    }

    #[test]
    fn a_folder_and_a_missing_file_are_errors_that_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::from(folder.path());
        assert!(source.open(None).err().unwrap().to_string().contains("is a folder; name one of the files"));
        let message = Source::from(folder.path().join("none")).open(None).err().unwrap().to_string();
        assert!(message.contains("none: ") && message.contains("check the path"), "{message}");
    }
}
