//! What is to be answered, some files at a time: the first are answered while the others are not read yet, and they are not all in memory.

use qkv_data::Source;
use qkv_data::builtin::Part;
use qkv_data::listing::Listed;

use super::reader::{Purpose, Read, Taking};
use super::{Examples, Reader, Wants, pictures, recordings};
use crate::error::Result;
use crate::recipe::Recipe;

/// Recordings, and pictures, that are read at once.
const RECORDINGS: usize = 64;
const PICTURES: usize = 256;

/// Examples to be answered, in their order.
pub(crate) struct Pieces<'a> {
    reader: &'a Reader,
    recipe: &'a Recipe,
    source: String,
    left: Left,
}

/// What is left to be read.
enum Left {
    Files(std::vec::IntoIter<Listed>),
    /// What could not be read in pieces, and is read already.
    Whole(Option<Box<Examples>>),
}

impl Reader {
    /// What of `source`, a file, a folder or a manifest of pictures or recordings, is to be answered.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub(crate) fn pieces<'a>(&'a self, recipe: &'a Recipe, source: &str) -> Result<Pieces<'a>> {
        let purpose = Purpose::using(Wants::Nothing, Part::Test);
        let files = match (self, Source::parse(source)) {
            (Self::Sounds(_), Source::File(_)) => Some(recordings::files(recipe, source, purpose)?),
            (Self::Pictures(_) | Self::Asked(..), _) => pictures::files(recipe, source, purpose)?,
            _ => None,
        };
        let left = match files {
            Some(files) => Left::Files(files.into_iter()),
            None => Left::Whole(Some(Box::new(self.read(recipe, source, Part::Test, Wants::Nothing)?))),
        };
        Ok(Pieces { reader: self, recipe, source: source.to_string(), left })
    }

    /// Reads some files of `source`.
    fn read_files(&self, recipe: &Recipe, source: &str, files: Vec<Listed>) -> Result<Examples> {
        let Read { items, media } = match self {
            Self::Sounds(options) => {
                let purpose = Purpose::using(Wants::Nothing, Part::Test);
                recordings::read_files(recipe, source, files, &options.frames, purpose)?
            }
            Self::Pictures(options) | Self::Asked(options, _) => pictures::read_files(recipe, source, &files, options)?,
            _ => unreachable!("others are no files of their own"),
        };
        let which = (0..items.len()).collect();
        let taking = Taking { train: false, joins: false, wanted: Wants::Nothing, nodes: None };
        self.examples(recipe, source, (&items, &media.by(self)?), which, taking)
    }
}

impl Pieces<'_> {
    /// What those that are left are called, in their order.
    pub(crate) fn names(&self) -> Vec<String> {
        match &self.left {
            Left::Files(files) => files.as_slice().iter().map(Listed::name).collect(),
            Left::Whole(examples) => {
                examples.iter().flat_map(|examples| &examples.labelled).map(|example| example.text.clone()).collect()
            }
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Examples>;

    fn next(&mut self) -> Option<Result<Examples>> {
        let files: Vec<Listed> = match &mut self.left {
            Left::Whole(examples) => return examples.take().map(|examples| Ok(*examples)),
            Left::Files(files) => {
                let most = if matches!(self.reader, Reader::Sounds(_)) { RECORDINGS } else { PICTURES };
                files.take(most).collect()
            }
        };
        if files.is_empty() {
            return None;
        }
        let read = self.reader.read_files(self.recipe, &self.source, files);
        if read.is_err() {
            self.left = Left::Whole(None);
        }
        Some(read)
    }
}
