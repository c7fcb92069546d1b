//! Arrays of NumPy: the format NPY in its versions 1 to 3.
//!
//! ```text
//! magic \x93NUMPY, version (2 bytes), length of the header (2 bytes, from version 2 on 4), little-endian
//! header: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, padded with blanks
//! values, the last axis the fastest
//! ```

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::build::{About, Builder};
use super::{LabelLevel, SeriesOptions};
use crate::error::{Error, Result, quote};
use crate::listing::{ListedPart, part_named};
use crate::numbers::finite;
use crate::source::Source;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
const MOST_HEADER: usize = 1 << 20;
const MEND: &str = "write it again with numpy.save";

/// What a value of an array is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Signed,
    Unsigned,
    Truth,
    /// Text of four bytes for each character.
    Text,
    /// Text of one byte for each character.
    Bytes,
}

/// An array whose header has been read.
struct Array {
    name: String,
    kind: Kind,
    /// Bytes of a value.
    size: usize,
    is_big: bool,
    shape: Vec<usize>,
    reader: BufReader<File>,
}

/// Whether a file without a telling name is an array.
pub(super) fn begins_as_npy(source: &Source) -> bool {
    let Some(path) = source.path().filter(|path| path.is_file()) else { return false };
    let mut magic = [0; 6];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *MAGIC
}

/// Reads the sequences of an array or of the arrays of a folder.
pub(super) fn read(source: &Source, options: &SeriesOptions, builder: &mut Builder) -> Result<()> {
    let Some(path) = source.path() else {
        return Err(Error::unusable(&source.name(), "cannot be read as NPY", "name a file"));
    };
    let arrays = if path.is_dir() { in_folder(path)? } else { vec![(path.to_owned(), beside(path), None)] };
    for (vectors, labels, part) in arrays {
        let labels = labels.filter(|_| !options.plain);
        if labels.is_none() && options.need_labels {
            let mend = "save them beside it as NAME-labels.npy, or y.npy beside x.npy";
            return Err(Error::unusable(
                &Source::from(vectors).name(),
                "has no labels beside it, but labels are needed here",
                mend,
            ));
        }
        read_pair(&vectors, labels.as_deref(), part.filter(|_| !options.plain), options.level, builder)?;
    }
    Ok(())
}

/// An array of sequences, that of their labels, and their part.
type Pair = (PathBuf, Option<PathBuf>, Option<ListedPart>);

/// The arrays of a folder, train before dev before test, each with its labels.
fn in_folder(folder: &Path) -> Result<Vec<Pair>> {
    let name = Source::from(folder).name();
    let entries = fs::read_dir(folder).map_err(|source| Error::io(&name, source))?;
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(|source| Error::io(&name, source))?.file_name().to_string_lossy().into_owned());
    }
    files.sort_unstable();
    let labels_of = |stem: &str| {
        let wanted = format!("y{}.npy", &stem[1..]);
        files.iter().find(|file| file.to_lowercase() == wanted).map(|file| folder.join(file))
    };
    let mut arrays: Vec<Pair> = Vec::new();
    for file in &files {
        let lower = file.to_lowercase();
        let Some(stem) = lower.strip_suffix(".npy").filter(|stem| stem.starts_with('x')) else { continue };
        let part = match &stem[1..] {
            "" => None,
            rest => match rest.strip_prefix(['_', '-']).and_then(part_named) {
                Some(part) => Some(part),
                None => continue,
            },
        };
        if let Some((other, ..)) = arrays.iter().find(|(.., other)| *other == part || other.is_none() || part.is_none())
        {
            let what = format!("both {} and {} hold sequences of one part", Source::from(other).name(), quote(file));
            return Err(Error::unusable(
                &name,
                what,
                "leave one, or name the parts x_train.npy, x_dev.npy, x_test.npy",
            ));
        }
        arrays.push((folder.join(file), labels_of(stem), part));
    }
    if arrays.is_empty() {
        let mend = "name them x.npy and y.npy, or x_train.npy, y_train.npy and so on";
        return Err(Error::unusable(&name, "holds no arrays of sequences", mend));
    }
    arrays.sort_by_key(|(.., part)| *part);
    Ok(arrays)
}

/// The labels that stand beside an array.
fn beside(path: &Path) -> Option<PathBuf> {
    let stem = path.file_stem()?.to_string_lossy();
    let mut names = vec![format!("{stem}-labels.npy"), format!("{stem}_labels.npy")];
    for (x, y) in [('x', 'y'), ('X', 'y'), ('X', 'Y')] {
        if let Some(rest) = stem.strip_prefix(x).filter(|rest| rest.is_empty() || rest.starts_with(['_', '-'])) {
            names.push(format!("{y}{rest}.npy"));
        }
    }
    // The labels of a folder are those of its only array.
    if is_alone(path) {
        names.push("labels.npy".to_owned());
    }
    names.iter().map(|name| path.with_file_name(name)).find(|labels| labels.is_file() && labels != path)
}

/// Whether there is no other array in the folder of one, but for `labels.npy`.
fn is_alone(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let is_other = |name: &OsStr| Some(name) != path.file_name() && name != "labels.npy";
    let is_array = |name: &OsStr| Path::new(name).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy"));
    !entries.flatten().map(|entry| entry.file_name()).any(|name| is_array(&name) && is_other(&name))
}

fn read_pair(
    path: &Path,
    labels: Option<&Path>,
    part: Option<ListedPart>,
    level: LabelLevel,
    builder: &mut Builder,
) -> Result<()> {
    let mut array = Array::open(path)?;
    let name = array.name.clone();
    let (sets, steps, dim) = match array.shape[..] {
        [steps] => (1, steps, 1),
        [steps, dim] => (1, steps, dim),
        [sets, steps, dim] => (sets, steps, dim),
        _ => {
            let what = format!("has the shape {:?}, and sequences are [sets, steps, dim]", array.shape);
            return Err(Error::unusable(&name, what, "reshape it, or give one sequence as [steps, dim] or [steps]"));
        }
    };
    if sets == 0 || steps == 0 || dim == 0 {
        let what = format!("has the shape {:?}, which holds no number", array.shape);
        return Err(Error::unusable(&name, what, "is it the right file? give it at least one step"));
    }
    let as_many = |what: String| Error::unusable(&name, what, "let the arrays of all parts have as many");
    builder.take_dim(dim).map_err(as_many)?;
    let labels = labels.map(|labels| read_labels(labels, &name, [sets, steps], level)).transpose()?;
    // The file is as long as its shape says, so that this is not much more than the file.
    builder.values.reserve(sets * steps * dim);
    array.numbers(|index, number| match finite(number) {
        Some(number) => {
            builder.values.push(number);
            Ok(())
        }
        None => {
            let (set, step, place) = (index / (steps * dim), index / dim % steps, index % dim);
            let what = format!("the number at [{set}, {step}, {place}] is {number}, which is not a finite one");
            Err(Error::unusable(&name, what, "fill it in, or take the sequence out"))
        }
    })?;
    for set in 0..sets {
        let mut about = About { part, line: set + 1, ..About::default() };
        match &labels {
            Some(Labels::Sets(labels)) => about.label = Some(&labels[set]),
            Some(Labels::Steps(labels)) => {
                labels[set * steps..][..steps].iter().for_each(|label| builder.push_step_label(Some(label), set + 1));
            }
            None => {}
        }
        builder.end(&about, steps);
    }
    Ok(())
}

enum Labels {
    Sets(Vec<String>),
    Steps(Vec<String>),
}

fn read_labels(path: &Path, vectors: &str, [sets, steps]: [usize; 2], level: LabelLevel) -> Result<Labels> {
    let mut array = Array::open(path)?;
    let name = array.name.clone();
    let shape = array.shape.clone();
    let of_steps = match shape[..] {
        // Of sequences of one step it may be either.
        [count] | [count, 1] if count == sets => steps == 1 && level == LabelLevel::Step,
        [count] if sets == 1 && count == steps => true,
        [first, second] | [first, second, 1] if first == sets && second == steps => true,
        _ => {
            let what = format!("has the shape {shape:?}, but {vectors} holds {sets} sequences of {steps} steps");
            let mend = "labels are [sets] or [sets, steps]; sequences of single numbers are [sets, steps, 1]";
            return Err(Error::unusable(&name, what, mend));
        }
    };
    let labels = array.texts()?;
    Ok(if of_steps { Labels::Steps(labels) } else { Labels::Sets(labels) })
}

impl Array {
    fn open(path: &Path) -> Result<Self> {
        let name = Source::from(path).name();
        let io = |source| Error::io(&name, source);
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut reader = BufReader::new(file);
        let mut read = |count: usize| -> Result<Vec<u8>> {
            let mut bytes = vec![0; count];
            reader.read_exact(&mut bytes).map_err(|source| cut_off(&name, source))?;
            Ok(bytes)
        };
        let begin = read(8)?;
        if begin[..6] != *MAGIC {
            return Err(Error::unusable(&name, "does not begin as an NPY file", MEND));
        }
        let (version, width) = (begin[6], if begin[6] == 1 { 2 } else { 4 });
        if !(1..=3).contains(&version) {
            return Err(Error::unusable(&name, format!("is of version {version} of NPY, and 1 to 3 are known"), MEND));
        }
        let count = read(width)?.iter().rev().fold(0, |count, &byte| count << 8 | usize::from(byte));
        if count > MOST_HEADER {
            return Err(Error::unusable(&name, format!("has a header of {count} bytes"), MEND));
        }
        let header = read(count)?;
        let header = String::from_utf8_lossy(&header);
        let (kind, size, is_big, shape) =
            parse_header(&header).map_err(|(what, mend)| Error::unusable(&name, what, mend))?;
        let start = (8 + width + count) as u64;
        let wanted = shape.iter().try_fold(size, |product, &dim| product.checked_mul(dim));
        match wanted.map(|wanted| wanted as u64) {
            Some(wanted) if length.saturating_sub(start) == wanted => {}
            Some(wanted) if length.saturating_sub(start) > wanted => {
                let what = format!("goes on after the {wanted} bytes of its shape {shape:?}");
                return Err(Error::unusable(&name, what, MEND));
            }
            _ => {
                let what =
                    format!("is cut off: {} bytes are too few for its shape {shape:?}", length.saturating_sub(start));
                return Err(Error::unusable(&name, what, "copy it again"));
            }
        }
        Ok(Self { name, kind, size, is_big, shape, reader })
    }

    fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Hands over the bytes of each value, the least significant first.
    fn values(&mut self, mut take: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        let mut bytes = vec![0; self.size];
        // Of a text, the bytes of each character are turned.
        let turned = if self.kind == Kind::Text { 4 } else { self.size };
        for index in 0..self.count() {
            self.reader.read_exact(&mut bytes).map_err(|source| cut_off(&self.name, source))?;
            if self.is_big {
                bytes.chunks_exact_mut(turned.max(1)).for_each(<[u8]>::reverse);
            }
            take(index, &bytes)?;
        }
        Ok(())
    }

    fn numbers(&mut self, mut take: impl FnMut(usize, f64) -> Result<()>) -> Result<()> {
        let kind = self.kind;
        if matches!(kind, Kind::Text | Kind::Bytes) {
            return Err(Error::unusable(&self.name, "holds texts, not numbers", "is it the right file?"));
        }
        self.values(|index, bytes| take(index, number(kind, bytes)))
    }

    fn texts(&mut self) -> Result<Vec<String>> {
        let (kind, name) = (self.kind, self.name.clone());
        let mut texts = Vec::new();
        self.values(|_, bytes| {
            let text = match kind {
                Kind::Text => {
                    let codes =
                        bytes.chunks_exact(4).map(|code| u32::from_le_bytes([code[0], code[1], code[2], code[3]]));
                    codes.take_while(|&code| code != 0).map(char::from_u32).collect()
                }
                Kind::Bytes => {
                    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
                    String::from_utf8(bytes[..end].to_vec()).ok()
                }
                Kind::Truth => Some((bytes[0] != 0).to_string()),
                Kind::Signed => Some(signed(bytes).to_string()),
                Kind::Unsigned => Some(unsigned(bytes).to_string()),
                Kind::Float if bytes.len() == 4 => Some((number(kind, bytes) as f32).to_string()),
                Kind::Float => Some(number(kind, bytes).to_string()),
            };
            let text = text.ok_or_else(|| Error::unusable(&name, "holds a text with damaged characters", MEND))?;
            texts.push(text);
            Ok(())
        })?;
        Ok(texts)
    }
}

fn cut_off(name: &str, source: std::io::Error) -> Error {
    match source.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::unusable(name, "is cut off", "copy it again"),
        _ => Error::io(name, source),
    }
}

fn unsigned(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn signed(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len() as u32;
    (unsigned(bytes) << unused) as i64 >> unused
}

fn number(kind: Kind, bytes: &[u8]) -> f64 {
    let bits = unsigned(bytes);
    match (kind, bytes.len()) {
        (Kind::Float, 8) => f64::from_bits(bits),
        (Kind::Float, 4) => f64::from(f32::from_bits(bits as u32)),
        (Kind::Float, _) => half(bits as u16),
        (Kind::Signed, _) => signed(bytes) as f64,
        (Kind::Truth, _) => f64::from(u8::from(bits != 0)),
        _ => bits as f64,
    }
}

/// A number of half precision: a sign, five bits of exponent, ten of fraction.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    match exponent {
        0 => sign * fraction * 2_f64.powi(-14),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        _ => sign * (1.0 + fraction) * 2_f64.powi(exponent - 15),
    }
}

type Header = (Kind, usize, bool, Vec<usize>);

fn parse_header(header: &str) -> std::result::Result<Header, (String, &'static str)> {
    let damaged = |what: &str| (format!("has a damaged header ({what})"), MEND);
    let after = |key: &str| {
        let quoted = [format!("'{key}'"), format!("\"{key}\"")];
        let rest = quoted.iter().find_map(|key| header.split_once(key.as_str())).map(|(_, rest)| rest.trim_start());
        rest.and_then(|rest| rest.strip_prefix(':')).map(str::trim_start).ok_or_else(|| damaged(&format!("no {key}")))
    };
    let kind = after("descr")?;
    if kind.starts_with('[') {
        return Err(("holds records of several fields".to_owned(), "save each field as an array of its own"));
    }
    let kind = kind.strip_prefix(['\'', '"']).and_then(|kind| kind.split(['\'', '"']).next());
    let (kind, size, is_big) = parse_kind(kind.ok_or_else(|| damaged("no kind of values"))?)?;
    let shape = after("shape")?.strip_prefix('(').and_then(|shape| shape.split_once(')')).map(|(shape, _)| shape);
    let dims = shape.ok_or_else(|| damaged("no shape"))?.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    let shape = dims.map(|dim| dim.trim_end_matches('L').parse::<usize>()).collect::<std::result::Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| damaged("a shape that is not of numbers"))?;
    if after("fortran_order")?.starts_with("True") && shape.iter().filter(|&&dim| dim != 1).count() > 1 {
        return Err(("has its first axis the fastest".to_owned(), "save numpy.ascontiguousarray of it"));
    }
    Ok((kind, size, is_big, shape))
}

fn parse_kind(given: &str) -> std::result::Result<(Kind, usize, bool), (String, &'static str)> {
    let unknown = || {
        let what = match given.trim_start_matches(['<', '>', '|', '=']).chars().next() {
            Some('O') => "objects of Python".to_owned(),
            Some('c') => "complex numbers".to_owned(),
            Some('M' | 'm') => "dates or times".to_owned(),
            _ => format!("values of the kind {}", quote(given)),
        };
        (format!("holds {what}"), "save it as numbers, such as numpy.float32; labels as texts or numbers")
    };
    let (order, rest) = match given.strip_prefix(['<', '>', '|', '=']) {
        Some(rest) => (&given[..1], rest),
        None => ("<", given),
    };
    let size: usize = rest.get(1..).and_then(|size| size.parse().ok()).ok_or_else(unknown)?;
    let (kind, size) = match (&rest[..1], size) {
        ("f", 2 | 4 | 8) => (Kind::Float, size),
        ("i", 1 | 2 | 4 | 8) => (Kind::Signed, size),
        ("u", 1 | 2 | 4 | 8) => (Kind::Unsigned, size),
        ("b", 1) => (Kind::Truth, size),
        ("U", 1..=MOST_HEADER) => (Kind::Text, 4 * size),
        ("S", 1..=MOST_HEADER) => (Kind::Bytes, size),
        _ => return Err(unknown()),
    };
    // A text of bytes has no order.
    Ok((kind, size, order == ">" && kind != Kind::Bytes))
}
