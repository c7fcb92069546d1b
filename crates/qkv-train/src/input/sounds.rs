//! Recordings as sets of frames.

use qkv::Offsets;
use qkv::random::Key;

use super::VectorBatch;
use crate::recipe::Training;

/// Frames of recordings, end to end.
#[derive(Clone, Debug)]
pub(crate) struct Sounds {
    dim: usize,
    values: Vec<f32>,
    offsets: Offsets,
}

impl Sounds {
    /// How many recordings there are.
    pub(crate) fn len(&self) -> usize {
        self.offsets.sets()
    }

    /// How many frames each has.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.offsets.lengths().collect()
    }

    /// The recordings `indices`, packed; masked as `training` says where it is given.
    pub(super) fn batch(&self, indices: &[usize], _training: Option<(&Training, Key)>) -> VectorBatch {
        let offsets = Offsets::from_lengths(indices.iter().map(|&set| self.offsets.len_of(set)));
        let mut values = Vec::with_capacity(offsets.tokens() * self.dim);
        for &set in indices {
            let rows = self.offsets.range(set);
            values.extend_from_slice(&self.values[rows.start * self.dim..rows.end * self.dim]);
        }
        VectorBatch { values, dim: self.dim, offsets, grids: Vec::new() }
    }

    /// All of it, as bytes to be hashed.
    pub(super) fn add_content(&self, content: &mut Vec<u8>) {
        content.extend(self.values.iter().flat_map(|x| x.to_le_bytes()));
    }
}
