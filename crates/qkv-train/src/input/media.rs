//! What files hold before it is sets: as it was read, and as a reader has it.

use std::sync::Arc;

use qkv_data::audio::{FrameOptions, Normalise, Scale};
use qkv_data::graphs::Graphs;
use qkv_data::image::{Masks, PatchOptions, PictureOptions, Pictures};
use qkv_data::series::SeriesSet;
use qkv_data::tables::{EncodedTable, Table, TableSchema, UnseenCategory};

use super::graphs::GraphReader;
use super::molecules::MoleculeGraph;
use super::pictures::picture_options;
use super::rows::SeriesReader;
use super::sounds::{Recorded, SoundOptions};
use super::{Reader, Units, rows};
use crate::error::Result;
use crate::recipe::{InputKind, Recipe};

/// How files are to be read.
pub(super) enum Asks {
    Sounds(FrameOptions),
    Pictures(PictureOptions),
    Graphs,
    Molecules,
    /// With what a model knows of the columns.
    Cells(Option<Arc<TableSchema>>),
    Rows(Option<Arc<SeriesReader>>),
}

impl Asks {
    /// What the recipe says, before anything is known of the data.
    pub(super) fn of(recipe: &Recipe) -> Self {
        match recipe.input.kind {
            InputKind::Audio => Self::Sounds(SoundOptions::frames(recipe)),
            InputKind::Graph => Self::Graphs,
            InputKind::Molecule => Self::Molecules,
            InputKind::Table => Self::Cells(None),
            InputKind::Vectors => Self::Rows(None),
            _ => Self::Pictures(picture_options(recipe)),
        }
    }
}

/// What files hold.
pub(super) enum Media {
    Sounds(Recorded),
    /// And, where they were asked for, the class of each pixel.
    Pictures(Arc<Pictures>, Option<Arc<Masks>>),
    /// And what the user should know of them, once they are as their reader reads them.
    Graphs(Arc<Graphs>, Vec<String>),
    Molecules(Arc<Vec<MoleculeGraph>>),
    /// As it was read, and as the schema of a model has it.
    Table(Arc<Table>),
    Cells(Arc<EncodedTable>, Vec<UnseenCategory>),
    Series(Arc<SeriesSet>),
}

impl Media {
    /// How other files are read than these, which were read first.
    pub(super) fn asks(&self, recipe: &Recipe) -> Asks {
        match self {
            // Columns by the names that those of training have, in whatever order.
            Self::Series(series) => Asks::Rows(Some(Arc::new(SeriesReader::of(recipe, series, &[])))),
            Self::Pictures(pictures, _) => {
                Asks::Pictures(PictureOptions { colour: Some(pictures.colour()), ..picture_options(recipe) })
            }
            _ => Asks::of(recipe),
        }
    }

    /// The reader that the training examples `train` decide, and these as it reads them.
    pub(super) fn settled(self, recipe: &Recipe, train: &[usize], units: Option<Units>) -> Result<(Reader, Self)> {
        let reader = match &self {
            Self::Sounds(Recorded { recordings, .. }) => {
                let frames = SoundOptions::frames(recipe);
                let scale = Scale::of(train.iter().map(|&place| &recordings[place].frames[..]), frames.frame_dim());
                Reader::Sounds(Arc::new(SoundOptions { frames, scale }))
            }
            Self::Pictures(pictures, _) => {
                let patches = PatchOptions { patch: recipe.input.patch, standard: Some(pictures.standard(train)) };
                let options = PictureOptions { colour: Some(pictures.colour()), patches, ..picture_options(recipe) };
                match units {
                    Some(units) => Reader::Asked(options, units),
                    None => Reader::Pictures(options),
                }
            }
            Self::Graphs(graphs, _) => Reader::Graphs(Arc::new(GraphReader::of(recipe, graphs, train))),
            Self::Molecules(_) => Reader::Molecules,
            Self::Table(table) => Reader::Cells(Arc::new(rows::schema(recipe, table, train)?)),
            Self::Series(series) => Reader::Rows(Arc::new(SeriesReader::of(recipe, series, train))),
            Self::Cells(..) => unreachable!("a table is not read by a model before there is one"),
        };
        let media = self.by(&reader)?;
        Ok((reader, media))
    }

    /// These as the reader reads them: by the mean and deviation of its training.
    pub(super) fn by(self, reader: &Reader) -> Result<Self> {
        Ok(match (self, reader) {
            (Self::Sounds(recorded), Reader::Sounds(options)) if options.frames.normalise == Normalise::Corpus => {
                let mut recordings = Arc::unwrap_or_clone(recorded.recordings);
                recordings.iter_mut().for_each(|recording| options.scale.apply(&mut recording.frames));
                Self::Sounds(Recorded { recordings: Arc::new(recordings), ..recorded })
            }
            (Self::Pictures(pictures, masks), Reader::Pictures(options) | Reader::Asked(options, _)) => {
                let standard = options.patches.standard.clone();
                let pictures = Arc::unwrap_or_clone(pictures);
                let pictures = match standard {
                    Some(standard) => pictures.with_standard(standard)?,
                    None => pictures,
                };
                Self::Pictures(Arc::new(pictures), masks)
            }
            (Self::Graphs(graphs, _), Reader::Graphs(reader)) => {
                let (graphs, warnings) = reader.encode(Arc::unwrap_or_clone(graphs))?;
                Self::Graphs(Arc::new(graphs), warnings)
            }
            (Self::Table(table), Reader::Cells(schema)) => {
                let (cells, unseen) = schema.encode(&table)?;
                Self::Cells(Arc::new(cells), unseen)
            }
            (media, _) => media,
        })
    }
}
