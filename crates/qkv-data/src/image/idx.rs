//! IDX files, the format of MNIST and of what was made after it.
//!
//! ```text
//! bytes    0 0 kind rank   kind 8 is unsigned bytes, the only one read here
//!          rank numbers    big endian, of 32 bits: the length of each dimension, the first the number of examples
//!          the values      the last dimension running fastest
//! ```
//!
//! A file may be packed with gzip, told by its first bytes.

use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::patches::check_stored;
use crate::builtin::Part;
use crate::error::{Error, Result};
use crate::source::Source;

/// More dimensions than these have no use here.
const MAX_RANK: usize = 8;

const FETCH: &str = "fetch it again";

/// What an IDX file of unsigned bytes holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// The length of each dimension, at least one.
    pub dims: Vec<usize>,
    /// The values, as many as the product of `dims`.
    pub values: Vec<u8>,
}

/// A file of pictures and the file of their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxPair {
    /// The pictures, three dimensions.
    pub images: PathBuf,
    /// The labels, one dimension, if such a file is there.
    pub labels: Option<PathBuf>,
    /// The part that the name says they are of.
    pub part: Option<Part>,
}

/// Pictures and labels as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxPictures {
    /// How many pictures, rows and columns of pixels, and numbers of a pixel (1 or 3).
    pub shape: [usize; 4],
    /// The pixels, as `shape` says.
    pub pixels: Vec<u8>,
    /// A label for each picture, if there are any.
    pub labels: Option<Vec<u8>>,
}

/// Reads a file, plain or packed.
///
/// # Errors
///
/// What cannot be opened; anything but an IDX file of unsigned bytes; a file cut off or longer than it says; more than 8
/// gigabytes, which are refused by the header.
pub fn read_idx(path: &Path) -> Result<Idx> {
    let name = Source::from(path).name();
    let mut file = BufReader::new(File::open(path).map_err(|source| Error::io(&name, source))?);
    let mut first = Vec::new();
    let refused = |source| refused(&name, source);
    file.by_ref().take(2).read_to_end(&mut first).map_err(refused)?;
    file.rewind().map_err(refused)?;
    if first == [0x1f, 0x8b] { parse(MultiGzDecoder::new(file), &name) } else { parse(file, &name) }
}

/// Reads what `reader` holds; `name` is for messages.
fn parse(mut reader: impl Read, name: &str) -> Result<Idx> {
    let refused = |source| refused(name, source);
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(refused)?;
    let [0, 0, kind, rank] = magic else {
        let what = format!("does not begin as an IDX file does, with two zeros, but with {:?}", &magic[..2]);
        return Err(Error::unusable(name, what, "name the file of pictures of a set such as MNIST"));
    };
    if kind != 8 {
        let kinds =
            [(9, "signed bytes"), (11, "16-bit numbers"), (12, "32-bit numbers"), (13, "floats"), (14, "doubles")];
        let held = kinds.iter().find(|(known, _)| *known == kind).map_or("values of no known kind", |(_, held)| held);
        return Err(Error::unusable(
            name,
            format!("holds {held} (kind {kind})"),
            "give a file of unsigned bytes (kind 8)",
        ));
    }
    let rank = usize::from(rank);
    if !(1..=MAX_RANK).contains(&rank) {
        return Err(Error::unusable(name, format!("has {rank} dimensions"), "give a file of pictures or of labels"));
    }
    let mut header = [0; 4 * MAX_RANK];
    reader.read_exact(&mut header[..4 * rank]).map_err(refused)?;
    let dims: Vec<usize> =
        header[..4 * rank].as_chunks::<4>().0.iter().map(|four| u32::from_be_bytes(*four) as usize).collect();
    let count = dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim)).unwrap_or(usize::MAX);
    check_stored(name, count)?;
    // Memory grows with what is there, not with what the header promises. One byte more tells whether there is any.
    let mut values = Vec::new();
    reader.take(count as u64 + 1).read_to_end(&mut values).map_err(refused)?;
    if values.len() < count {
        let what = format!("is cut off: {} values of {count} ({})", values.len(), shape_of(&dims));
        return Err(Error::unusable(name, what, FETCH));
    }
    if values.len() > count {
        let what = format!("goes on after the {count} values that its header promises ({})", shape_of(&dims));
        return Err(Error::unusable(name, what, FETCH));
    }
    Ok(Idx { dims, values })
}

fn shape_of(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// What the operating system or the unpacking refused.
fn refused(name: &str, source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::UnexpectedEof => Error::unusable(name, "is cut off", FETCH),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => {
            Error::unusable(name, "is packed with gzip, and damaged", FETCH)
        }
        _ => Error::io(name, source),
    }
}

/// Reads the pictures of a pair and their labels.
///
/// # Errors
///
/// What [`read_idx`] refuses; pictures of other than three dimensions (or four, the last of 1 or 3), or without a pixel;
/// labels of other than one; and not as many labels as pictures.
pub fn read_idx_pictures(pair: &IdxPair) -> Result<IdxPictures> {
    let name = Source::from(&pair.images).name();
    let images = read_idx(&pair.images)?;
    let shape = match images.dims[..] {
        [count, height, width] => [count, height, width, 1],
        [count, height, width, channels @ (1 | 3)] => [count, height, width, channels],
        _ => {
            let what = format!("has the dimensions {}, and pictures have three", shape_of(&images.dims));
            return Err(Error::unusable(&name, what, "name the file of pictures, such as train-images-idx3-ubyte"));
        }
    };
    if shape.contains(&0) {
        let what = format!("holds no pixels ({})", shape_of(&images.dims));
        return Err(Error::unusable(&name, what, "give a file that does"));
    }
    let labels = match &pair.labels {
        None => None,
        Some(path) => {
            let labels = read_idx(path)?;
            let label_name = Source::from(path).name();
            if labels.dims.len() != 1 {
                let what = format!("has the dimensions {}, and labels have one", shape_of(&labels.dims));
                return Err(Error::unusable(&label_name, what, "put the file of labels there"));
            }
            if labels.values.len() != shape[0] {
                let what = format!("holds {} labels for the {} pictures of {name}", labels.values.len(), shape[0]);
                return Err(Error::unusable(&label_name, what, "put the two files that belong together in one folder"));
            }
            Some(labels.values)
        }
    };
    Ok(IdxPictures { shape, pixels: images.values, labels })
}

/// The pair that the file of pictures `images` belongs to: its labels are beside it, named alike.
#[must_use]
pub fn idx_pair(images: &Path) -> IdxPair {
    let name = file_name(images);
    let labels = labels_name(&name).and_then(|name| either(images.parent().unwrap_or(Path::new("")), &name));
    IdxPair { images: images.to_owned(), labels, part: part_of(&name) }
}

/// The pairs in a folder such as MNIST's: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same of `t10k`,
/// packed or not, and whatever stands before `train`. None if there are no such files.
///
/// # Errors
///
/// A folder that cannot be read; two files of pictures for one part; and pictures without a file of labels.
pub fn find_idx(folder: &Path) -> Result<Vec<IdxPair>> {
    let name = Source::from(folder).name();
    let entries = fs::read_dir(folder).map_err(|source| Error::io(&name, source))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::io(&name, source))?.file_name();
        names.push(entry.to_string_lossy().trim_end_matches(".gz").to_owned());
    }
    names.sort_unstable();
    names.dedup();
    let mut pairs: Vec<IdxPair> = Vec::new();
    for file in names.iter().filter(|file| is_images(file)) {
        let Some(images) = either(folder, file) else { continue };
        let pair = idx_pair(&images);
        if pair.labels.is_none() {
            let beside = labels_name(file).unwrap_or_default();
            let what = format!("there is no file of labels {beside} beside it");
            return Err(Error::unusable(&Source::from(&images).name(), what, "put it there, packed with gzip or not"));
        }
        if let Some(other) = pairs.iter().find(|other| other.part == pair.part) {
            let what = format!("holds several sets of pictures, {} and {file}", file_name(&other.images));
            return Err(Error::unusable(&name, what, "name one of the files, or leave one set in the folder"));
        }
        pairs.push(pair);
    }
    // Train before dev before test, whatever they are called.
    pairs.sort_by_key(|pair| pair.part);
    Ok(pairs)
}

/// Whether a file is named as files of pictures are.
#[must_use]
pub fn is_images(name: &str) -> bool {
    name.contains("images") && (name.contains("idx3") || name.contains("idx4"))
}

/// The name of the file of labels that belongs to a file of pictures, not packed.
fn labels_name(images: &str) -> Option<String> {
    let name = images.trim_end_matches(".gz");
    is_images(name).then(|| name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1"))
}

/// The part that a file is named after.
fn part_of(name: &str) -> Option<Part> {
    let parts =
        [("t10k", Part::Test), ("test", Part::Test), ("valid", Part::Dev), ("dev", Part::Dev), ("train", Part::Train)];
    parts.iter().find(|(word, _)| name.contains(word)).map(|(_, part)| *part)
}

/// The file of that name, or the packed one.
fn either(folder: &Path, name: &str) -> Option<PathBuf> {
    [name.to_owned(), format!("{name}.gz")].iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// An IDX file of unsigned bytes.
    fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn error_of(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some");
        fs::write(&path, bytes).unwrap();
        read_idx(&path).unwrap_err().to_string().replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn plain_and_packed_files_hold_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some");
        let bytes = idx(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        let expected = Idx { dims: vec![2, 1, 3], values: vec![1, 2, 3, 4, 5, 6] };
        for bytes in [packed(&bytes), bytes] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(read_idx(&path).unwrap(), expected);
        }
    }

    #[test]
    fn every_prefix_is_an_error_of_one_line_packed_or_not() {
        let bytes = idx(&[2, 2, 3], &[7; 12]);
        for whole in [packed(&bytes), bytes] {
            for length in 0..whole.len() {
                let error = error_of(&whole[..length]);
                assert!(error.starts_with("some: is cut off") && !error.contains('\n'), "{length}: {error}");
            }
        }
    }

    #[test]
    fn what_is_no_idx_file_is_refused_with_what_would_mend_it() {
        let wrong = [
            (b"\x89PNG1234".to_vec(), "does not begin as an IDX file"),
            (vec![0, 0, 13, 3, 0, 0, 0, 1], "holds floats (kind 13)"),
            (vec![0, 0, 99, 3, 0, 0, 0, 1], "no known kind (kind 99)"),
            (vec![0, 0, 8, 0], "has 0 dimensions"),
            (vec![0, 0, 8, 200], "has 200 dimensions"),
            (idx(&[3], &[1, 2, 3, 4]), "goes on after the 3 values"),
            (idx(&[u32::MAX, u32::MAX, u32::MAX], &[1]), "more than 8 gigabytes"),
        ];
        for (bytes, what) in wrong {
            let error = error_of(&bytes);
            assert!(error.contains(what) && error.contains("; ") && !error.contains('\n'), "{error}");
        }
        let mut damaged = packed(&idx(&[50], &[3; 50]));
        damaged[12] ^= 0x55;
        assert!(error_of(&damaged).contains("damaged"), "{}", error_of(&damaged));
    }

    fn write_set(folder: &Path, names: [&str; 2], pictures: &[u8], labels: &[u8]) {
        fs::write(folder.join(names[0]), pictures).unwrap();
        fs::write(folder.join(names[1]), labels).unwrap();
    }

    #[test]
    fn a_folder_holds_train_and_test_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(find_idx(path).unwrap().is_empty());
        let (two, one) = (idx(&[2, 1, 2], &[1, 2, 3, 4]), idx(&[1, 1, 2], &[5, 6]));
        write_set(path, ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"], &one, &idx(&[1], &[9]));
        let train = ["train-images.idx3-ubyte.gz", "train-labels.idx1-ubyte"];
        write_set(path, train, &packed(&two), &idx(&[2], &[0, 1]));
        let pairs = find_idx(path).unwrap();
        assert_eq!(pairs.iter().map(|pair| pair.part).collect::<Vec<_>>(), [Some(Part::Train), Some(Part::Test)]);
        let pictures = read_idx_pictures(&pairs[0]).unwrap();
        assert_eq!((pictures.shape, &pictures.pixels[..]), ([2, 1, 2, 1], &[1, 2, 3, 4][..]));
        assert_eq!(pictures.labels.as_deref(), Some(&[0, 1][..]));
        assert_eq!(idx_pair(&path.join(train[0])), pairs[0]);
        fs::write(path.join("other-train-images-idx3-ubyte"), &two).unwrap();
        fs::write(path.join("other-train-labels-idx1-ubyte"), idx(&[2], &[0, 1])).unwrap();
        let error = find_idx(path).unwrap_err().to_string();
        assert!(error.contains("several sets of pictures"), "{error}");
        fs::remove_file(path.join("other-train-labels-idx1-ubyte")).unwrap();
        let error = find_idx(path).unwrap_err().to_string();
        assert!(error.contains("no file of labels other-train-labels-idx1-ubyte beside it"), "{error}");
    }

    #[test]
    fn labels_and_pictures_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
        let two = idx(&[2, 1, 2], &[1, 2, 3, 4]);
        let wrong = [
            (two.clone(), idx(&[3], &[0, 1, 2]), "holds 3 labels for the 2 pictures of"),
            (two.clone(), two.clone(), "and labels have one"),
            (idx(&[2], &[0, 1]), idx(&[2], &[0, 1]), "and pictures have three"),
            (idx(&[1, 1, 1, 2], &[0, 1]), idx(&[1], &[0]), "and pictures have three"),
            (idx(&[2, 0, 2], &[]), idx(&[2], &[0, 1]), "holds no pixels (2 x 0 x 2)"),
            (idx(&[0, 28, 28], &[]), idx(&[0], &[]), "holds no pixels"),
        ];
        for (pictures, labels, what) in wrong {
            write_set(folder.path(), names, &pictures, &labels);
            let error = read_idx_pictures(&idx_pair(&folder.path().join(names[0]))).unwrap_err().to_string();
            assert!(error.contains(what) && !error.contains('\n'), "{error}");
        }
    }
}
