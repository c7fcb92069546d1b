//! What can be wrong with what is to be shown: sizes that do not match. One line each, naming the place.

use std::fmt;

/// Why something cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewError {
    /// A picture has another number of tags than of words.
    Tags {
        /// Heading of the picture.
        picture: String,
        /// Which tags: `predicted` or `gold`.
        which: &'static str,
        /// Words in the picture.
        words: usize,
        /// Tags given.
        found: usize,
    },
    /// The weights of a head are not one for each query and key.
    Weights {
        /// Heading of the picture.
        picture: String,
        /// Layer, from 0.
        layer: usize,
        /// Head, from 0.
        head: usize,
        /// Words in the picture.
        words: usize,
        /// The size the head gives.
        size: usize,
        /// Weights given.
        found: usize,
    },
    /// There is no such head in the picture.
    NoSuchHead {
        /// Heading of the picture.
        picture: String,
        /// Layer asked for, from 0.
        layer: usize,
        /// Head asked for, from 0.
        head: usize,
    },
    /// A row of a table has another number of cells than its header.
    Row {
        /// The row, from 0.
        row: usize,
        /// Cells in the header.
        header: usize,
        /// Cells in the row.
        found: usize,
    },
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `{:?}` keeps a heading with a line break in it on one line.
        match self {
            Self::Tags { picture, which, words, found } => {
                write!(f, "picture {picture:?}: {words} words but {found} {which} tags; give one for each word")
            }
            Self::Weights { picture, layer, head, words, size, found } => write!(
                f,
                "picture {picture:?}, layer {layer}, head {head}: {found} weights of size {size} for {words} words; \
                 give words × words of them, and words as the size"
            ),
            Self::NoSuchHead { picture, layer, head } => {
                write!(f, "picture {picture:?} has no layer {layer} with a head {head} (both count from 0)")
            }
            Self::Row { row, header, found } => {
                write!(f, "table row {row} has {found} cells, its header {header}; give as many")
            }
        }
    }
}

impl std::error::Error for ViewError {}
