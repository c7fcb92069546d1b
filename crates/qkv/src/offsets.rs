//! Where each set of a packed batch begins and ends.

use std::ops::Range;
use std::sync::Arc;

/// Numbers that do not describe a batch or a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Offsets without a single entry; even an empty batch has one, the zero.
    #[error("offsets: expected at least one entry, the leading 0, found none")]
    Empty,
    /// Offsets that begin elsewhere than at zero.
    #[error("offsets: expected the first entry to be 0, found {first}")]
    FirstNotZero {
        /// The first entry.
        first: usize,
    },
    /// Offsets that decrease.
    #[error("offsets: expected entries that never decrease, found {previous} followed by {next} at index {index}")]
    Decreasing {
        /// Index of the smaller entry.
        index: usize,
        /// The entry before it.
        previous: usize,
        /// The entry itself.
        next: usize,
    },
    /// Row offsets whose last entry is not the number of columns.
    #[error("graph: expected the last row offset to equal the number of columns, found {last} and {columns}")]
    ColumnCount {
        /// The last row offset.
        last: usize,
        /// How many columns there are.
        columns: usize,
    },
    /// An edge to a node that does not exist.
    #[error("graph: expected nodes below {nodes}, found an edge between row {row} and node {column}")]
    NodeOutOfRange {
        /// The row of the edge.
        row: usize,
        /// The node at its other end.
        column: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// A row whose columns do not rise.
    #[error("graph: expected the columns of row {row} sorted and without repetition")]
    Unsorted {
        /// The row.
        row: usize,
    },
    /// More nodes than a `u32` can name.
    #[error("graph: expected at most {} nodes, found {nodes}", u32::MAX)]
    TooManyNodes {
        /// How many nodes there are.
        nodes: usize,
    },
}

/// Set `s` of a packed batch owns the rows `offsets[s]..offsets[s + 1]`. Cloning shares the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets(Arc<[usize]>);

impl Offsets {
    /// From `sets + 1` numbers.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] unless they start at 0 and never decrease.
    pub fn new(offsets: Vec<usize>) -> Result<Self, ShapeError> {
        check(&offsets)?;
        Ok(Self(offsets.into()))
    }

    /// From the length of each set.
    ///
    /// # Panics
    ///
    /// If there are more vectors than a `usize` can count.
    pub fn from_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut end = 0_usize;
        let ends = lengths.into_iter().map(|length| {
            end = end
                .checked_add(length)
                .unwrap_or_else(|| panic!("Offsets::from_lengths: more vectors than can be counted"));
            end
        });
        Self(std::iter::once(0).chain(ends).collect())
    }

    /// How many sets.
    pub fn sets(&self) -> usize {
        self.0.len() - 1
    }

    /// How many vectors in all sets together.
    pub fn tokens(&self) -> usize {
        self.0[self.sets()]
    }

    /// The rows of a set.
    ///
    /// # Panics
    ///
    /// If there is no such set.
    pub fn range(&self, set: usize) -> Range<usize> {
        assert!(set < self.sets(), "Offsets::range: set {set} of {}", self.sets());
        self.0[set]..self.0[set + 1]
    }

    /// How many vectors a set has.
    ///
    /// # Panics
    ///
    /// If there is no such set.
    pub fn len_of(&self, set: usize) -> usize {
        self.range(set).len()
    }

    /// The length of the longest set; 0 if there is none.
    pub fn max_len(&self) -> usize {
        self.lengths().max().unwrap_or(0)
    }

    /// The length of each set, in order.
    pub fn lengths(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.0.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// All `sets + 1` numbers.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }
}

/// Whether the numbers start at 0 and never decrease.
pub(crate) fn check(offsets: &[usize]) -> Result<(), ShapeError> {
    match offsets.first() {
        None => return Err(ShapeError::Empty),
        Some(&first) if first != 0 => return Err(ShapeError::FirstNotZero { first }),
        Some(_) => {}
    }
    match offsets.windows(2).position(|pair| pair[1] < pair[0]) {
        Some(at) => Err(ShapeError::Decreasing { index: at + 1, previous: offsets[at], next: offsets[at + 1] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_offsets_are_refused_by_name() {
        assert_eq!(Offsets::new(vec![]), Err(ShapeError::Empty));
        assert_eq!(Offsets::new(vec![1, 2]), Err(ShapeError::FirstNotZero { first: 1 }));
        let decreasing = ShapeError::Decreasing { index: 2, previous: 5, next: 4 };
        assert_eq!(Offsets::new(vec![0, 5, 4]), Err(decreasing.clone()));
        assert!(decreasing.to_string().contains("5 followed by 4 at index 2"));
    }

    #[test]
    fn an_empty_batch_and_empty_sets_are_batches() {
        let none = Offsets::new(vec![0]).expect("well formed");
        assert_eq!((none.sets(), none.tokens(), none.max_len()), (0, 0, 0));
        let empty = Offsets::new(vec![0, 0, 3, 3]).expect("well formed");
        assert_eq!(empty.lengths().collect::<Vec<_>>(), [0, 3, 0]);
        assert_eq!((empty.range(1), empty.len_of(2), empty.max_len()), (0..3, 0, 3));
    }

    #[test]
    #[should_panic(expected = "more vectors than can be counted")]
    fn lengths_beyond_counting_panic() {
        Offsets::from_lengths([usize::MAX / 2 + 1; 2]);
    }

    #[test]
    #[should_panic(expected = "set 3 of 3")]
    fn a_set_that_is_not_there_panics() {
        Offsets::from_lengths([1, 2, 3]).range(3);
    }

    proptest! {
        #[test]
        fn lengths_and_offsets_say_the_same(lengths in prop::collection::vec(0_usize..60, 0..20)) {
            let offsets = Offsets::from_lengths(lengths.iter().copied());
            prop_assert_eq!(offsets.lengths().collect::<Vec<_>>(), lengths.clone());
            prop_assert_eq!(offsets.tokens(), lengths.iter().sum::<usize>());
            prop_assert_eq!(Offsets::new(offsets.as_slice().to_vec()), Ok(offsets.clone()));
            for (set, &length) in lengths.iter().enumerate() {
                prop_assert_eq!(offsets.range(set).len(), length);
            }
        }
    }
}
