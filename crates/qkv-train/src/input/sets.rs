//! Sets of vectors of any kind, and packed batches of them.

use std::sync::Arc;

use qkv::Offsets;
use qkv::random::Key;
use qkv_data::image::{AugmentOptions, Masks, Pictures};
use qkv_data::tables::TableBatch;
use qkv_data::{EncodedSentences, TextBatch};
use qkv_nn::attention::{Grid, Layout};

use super::graphs::GraphSets;
use super::molecules::MoleculeSets;
use super::nodes::NodeBatch;
use super::rows::{SeriesSets, TableSets};
use super::sounds::Sounds;
use crate::recipe::Training;
use crate::tag::with_hidden;

/// Examples as sets that batches are packed of.
#[derive(Clone, Debug)]
pub(crate) enum Sets {
    /// Units of texts.
    Texts(EncodedSentences),
    /// Frames of recordings.
    Sounds(Sounds),
    /// Patches of pictures.
    Pictures(Album),
    /// Pictures, and behind each a text.
    Asked(Album, EncodedSentences),
    /// Nodes of graphs.
    Graphs(GraphSets),
    /// Atoms of molecules.
    Molecules(MoleculeSets),
    /// Columns of the rows of a table.
    Cells(TableSets),
    /// Rows of numbers.
    Rows(SeriesSets),
}

/// Some of the pictures of a store.
#[derive(Clone, Debug)]
pub(crate) struct Album {
    /// The store, which several albums share.
    pub(crate) pictures: Arc<Pictures>,
    /// The class of each of their pixels, if that is what is learned.
    pub(crate) masks: Option<Arc<Masks>>,
    /// Which pictures of it these are.
    pub(crate) which: Vec<usize>,
    /// How far training may change them.
    pub(crate) vary: AugmentOptions,
}

impl Album {
    fn lengths(&self) -> Vec<usize> {
        let length = |&picture: &usize| {
            let (rows, columns) = self.pictures.grid(picture);
            rows * columns
        };
        self.which.iter().map(length).collect()
    }

    /// Patches of some pictures; `key` if they are to be varied.
    fn batch(&self, indices: &[usize], key: Option<Key>) -> VectorBatch {
        let which: Vec<usize> = indices.iter().map(|&index| self.which[index]).collect();
        let batch = self.pictures.batch(&which, key.map(|key| (&self.vary, key)));
        let grids = batch.grids.iter().map(|&(rows, columns)| Grid::new(rows, columns)).collect();
        VectorBatch { values: batch.values, dim: batch.width, offsets: batch.offsets, grids, targets: Vec::new() }
    }

    fn add_content(&self, content: &mut Vec<u8>) {
        self.which.iter().for_each(|&picture| content.extend_from_slice(self.pictures.pixels(picture)));
        if let Some(masks) = &self.masks {
            self.which.iter().for_each(|&picture| content.extend_from_slice(masks.mask(picture)));
        }
    }
}

/// Some sets, packed.
#[derive(Clone, Debug)]
pub(crate) enum Batch {
    /// Units of texts.
    Texts(TextBatch),
    /// Vectors as they are.
    Vectors(VectorBatch),
    /// Vectors, and behind those of each set the units of a text.
    Asked(VectorBatch, TextBatch),
    /// Nodes of graphs.
    Nodes(NodeBatch),
    /// Columns of the rows of a table.
    Cells(TableBatch),
}

/// Some sets of plain vectors, packed.
#[derive(Clone, Debug)]
pub(crate) struct VectorBatch {
    /// `[tokens, dim]`.
    pub(crate) values: Vec<f32>,
    /// Numbers of a vector.
    pub(crate) dim: usize,
    /// Which vectors are which set's.
    pub(crate) offsets: Offsets,
    /// How the vectors of each set lie in its picture; empty where they are one behind the other.
    pub(crate) grids: Vec<Grid>,
    /// The class of each vector that comes out of a model, `NONE` where there is none; empty where vectors have no classes.
    pub(crate) targets: Vec<u32>,
}

impl Batch {
    /// The class of each vector that comes out of a model; empty where vectors have none.
    pub(crate) fn targets(&self) -> &[u32] {
        match self {
            Self::Vectors(vectors) => &vectors.targets,
            Self::Nodes(nodes) => &nodes.targets,
            Self::Texts(_) | Self::Asked(..) | Self::Cells(_) => &[],
        }
    }
}

impl VectorBatch {
    /// The layout of its sets.
    pub(crate) fn layout(&self) -> Layout {
        match self.grids.is_empty() {
            true => Layout::new(self.offsets.clone()),
            false => Layout::with_grids(self.offsets.clone(), self.grids.clone()),
        }
    }
}

impl Sets {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Texts(texts) | Self::Asked(_, texts) => texts.len(),
            Self::Sounds(sounds) => sounds.len(),
            Self::Pictures(album) => album.which.len(),
            Self::Graphs(graphs) => graphs.len(),
            Self::Molecules(molecules) => molecules.len(),
            Self::Cells(table) => table.len(),
            Self::Rows(series) => series.len(),
        }
    }

    /// What they are called.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::Texts(_) => "texts",
            Self::Sounds(_) => "recordings",
            Self::Pictures(_) => "pictures",
            Self::Asked(..) => "questions",
            Self::Graphs(_) => "graphs",
            Self::Molecules(_) => "molecules",
            Self::Cells(_) => "rows",
            Self::Rows(_) => "sequences",
        }
    }

    /// How many vectors each has.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        match self {
            Self::Texts(texts) => texts.lengths(),
            Self::Sounds(sounds) => sounds.lengths(),
            Self::Pictures(album) => album.lengths(),
            Self::Graphs(graphs) => graphs.lengths(),
            Self::Molecules(molecules) => molecules.lengths(),
            Self::Cells(table) => table.lengths(),
            Self::Rows(series) => series.lengths(),
            Self::Asked(album, texts) => album.lengths().iter().zip(texts.lengths()).map(|(a, b)| a + b).collect(),
        }
    }

    /// How many vectors all have together.
    pub(crate) fn tokens(&self) -> usize {
        self.lengths().iter().sum()
    }

    /// The sets `indices`, packed in that order, as they are.
    pub(crate) fn batch(&self, indices: &[usize]) -> Batch {
        self.packed(indices, None)
    }

    /// The same for the training step of `key`: hidden, masked and varied as `training` says.
    pub(crate) fn training_batch(&self, indices: &[usize], training: &Training, key: Key) -> Batch {
        match self.packed(indices, Some((training, key))) {
            Batch::Texts(texts) => Batch::Texts(with_hidden(texts, training, key)),
            Batch::Asked(vectors, texts) => Batch::Asked(vectors, with_hidden(texts, training, key)),
            other => other,
        }
    }

    fn packed(&self, indices: &[usize], training: Option<(&Training, Key)>) -> Batch {
        let key = training.map(|(_, key)| key.fold(VARYING_STREAM));
        match self {
            Self::Texts(texts) => Batch::Texts(texts.batch(indices)),
            Self::Sounds(sounds) => {
                Batch::Vectors(sounds.batch(indices, training.map(|(training, _)| training).zip(key)))
            }
            Self::Pictures(album) => Batch::Vectors(album.batch(indices, key)),
            Self::Graphs(graphs) => Batch::Nodes(graphs.batch(indices)),
            Self::Molecules(molecules) => Batch::Nodes(molecules.batch(indices)),
            Self::Cells(table) => Batch::Cells(table.batch(indices)),
            Self::Rows(series) => Batch::Vectors(series.batch(indices)),
            Self::Asked(album, texts) => Batch::Asked(album.batch(indices, key), texts.batch(indices)),
        }
    }

    /// The pictures; `None` where other sets are.
    pub(crate) fn album(&self) -> Option<&Album> {
        match self {
            Self::Pictures(album) | Self::Asked(album, _) => Some(album),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn album_mut(&mut self) -> Option<&mut Album> {
        match self {
            Self::Pictures(album) | Self::Asked(album, _) => Some(album),
            _ => None,
        }
    }

    /// The class of each pixel of each vector of a batch of the sets `indices`, `[tokens, patch, patch]`, `NONE` where there is none;
    /// of [`Sets::training_batch`] with its `key`. Nothing where pixels have no classes.
    pub(crate) fn pixel_classes(&self, indices: &[usize], key: Option<Key>) -> Vec<u32> {
        let Some(album) = self.album() else { return Vec::new() };
        let Some(masks) = &album.masks else { return Vec::new() };
        let which: Vec<usize> = indices.iter().map(|&index| album.which[index]).collect();
        let vary = key.map(|key| (&album.vary, key.fold(VARYING_STREAM)));
        masks.pixel_targets(&which, album.pictures.options().patch, vary)
    }

    /// The classes that their vectors have, by their names and sorted; empty where vectors have none.
    pub(crate) fn class_names(&self) -> Vec<String> {
        match self {
            Self::Sounds(sounds) => sounds.class_names(),
            Self::Graphs(graphs) => graphs.class_names(),
            Self::Rows(series) => series.class_names(),
            _ => Vec::new(),
        }
    }

    /// Numbers the classes of vectors as `known`, and others behind; what all are called then.
    pub(crate) fn number_classes(&mut self, known: &[String]) -> Vec<String> {
        match self {
            Self::Sounds(sounds) => sounds.number_classes(known),
            Self::Graphs(graphs) => graphs.number_classes(known),
            Self::Rows(series) => series.number_classes(known),
            _ => known.to_vec(),
        }
    }

    /// All that a model sees of them, as bytes to be hashed.
    pub(crate) fn content(&self) -> Vec<u8> {
        let mut content: Vec<u8> = self.lengths().iter().flat_map(|length| length.to_le_bytes()).collect();
        match self {
            Self::Texts(texts) => add_texts(&mut content, texts),
            Self::Sounds(sounds) => sounds.add_content(&mut content),
            Self::Pictures(album) => album.add_content(&mut content),
            Self::Graphs(graphs) => graphs.add_content(&mut content),
            Self::Molecules(molecules) => molecules.add_content(&mut content),
            Self::Cells(table) => table.add_content(&mut content),
            Self::Rows(series) => series.add_content(&mut content),
            Self::Asked(album, texts) => {
                album.add_content(&mut content);
                add_texts(&mut content, texts);
            }
        }
        content
    }
}

/// Keeps the draws that vary pictures and sounds apart from those of dropout.
const VARYING_STREAM: u64 = 0x5EE5;

fn add_texts(content: &mut Vec<u8>, texts: &EncodedSentences) {
    let batch = texts.batch(&(0..texts.len()).collect::<Vec<_>>());
    for ids in [&batch.words, &batch.affixes, &batch.targets] {
        content.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    }
}
