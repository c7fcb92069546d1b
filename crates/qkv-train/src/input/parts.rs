//! Parts that nothing in the data names: drawn by the seed, or told by the scaffolds of molecules.
//!
//! Here belongs also what is carved off training examples to choose the epoch, and a share of them.
//!
//! Only what a model is trained on is parted, and only where no data of its own chooses the epoch. The model keeps by what, and a
//! hash of the examples: by it the same examples are known again when the model is judged, and others are judged as a whole.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use qkv::random::Key;
use qkv_data::builtin::Part;
use qkv_data::carve;
use qkv_data::molecules::{PartIndices, Shares, random_split, scaffold_split};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Wants;
use super::media::Media;
use super::reader::{Item, Read, nouns};
use crate::error::{Error, Result};
use crate::files;
use crate::recipe::Recipe;

/// What `data.split` says that is no column.
const DRAWN: [&str; 2] = ["random", "scaffold"];

/// The column that says of which part something is, if the recipe names one.
pub(super) fn column_of_parts(recipe: &Recipe) -> Option<String> {
    recipe.data.split.clone().filter(|split| !DRAWN.contains(&split.as_str()))
}

/// How the examples that a model was trained on were parted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parting {
    /// `random` or `scaffold`.
    by: String,
    seed: u64,
    /// A hash of the examples.
    examples: String,
}

impl Parting {
    /// How what was read is to be parted to train on it; `None` where it says so itself, or the recipe does not ask for it.
    pub(super) fn of(recipe: &Recipe, read: &Read, wanted: Wants) -> Option<Self> {
        let by = recipe.data.split.clone().filter(|split| DRAWN.contains(&split.as_str()))?;
        (!read.says_parts(wanted)).then(|| Self { by, seed: recipe.training.seed, examples: read.hash() })
    }

    /// The part of each of so many nodes of one graph.
    ///
    /// # Errors
    /// If there are too few for three parts.
    pub(super) fn of_nodes(&self, path: &str, count: usize) -> Result<Vec<Part>> {
        Ok(of_each(drawn(path, count, "nodes with a label", self.seed)?, count))
    }

    /// Whether what was read at `path` to judge a model are the examples that this parts; if not, all of them are judged.
    ///
    /// # Errors
    /// If they are at the same place as the examples, and are others.
    pub(super) fn is_of(&self, recipe: &Recipe, path: &str, read: &Read, wanted: Wants) -> Result<bool> {
        let Some(asked) = recipe.data.split.as_deref().filter(|_| !read.says_parts(wanted)) else { return Ok(false) };
        if asked != self.by {
            return Err(Error::Recipe(format!(
                "data.split = \"{asked}\": the model was trained on a part by `{}`, and another would hold what it has seen: leave it out, or --set data.split=none judges all of {path}",
                self.by
            )));
        }
        if read.hash() == self.examples {
            return Ok(true);
        }
        if recipe.train_path().is_ok_and(|train| same_file(train, path)) {
            return Err(Error::Training(format!(
                "{path}: it is what the model was trained on and has changed since, or is read otherwise, so which {} are its test part cannot be told: restore it, or --set data.split=none judges all of it",
                nouns(recipe).0
            )));
        }
        Ok(false)
    }

    /// Says of each of the examples which part it is of.
    ///
    /// # Errors
    /// If there are too few for three parts.
    pub(super) fn draw(&self, recipe: &Recipe, path: &str, read: &mut Read) -> Result<()> {
        let (count, noun) = (read.items.len(), nouns(recipe).0);
        let parts = match (self.by.as_str(), &read.media) {
            ("scaffold", Media::Molecules(molecules)) => {
                let keys: Vec<&str> = molecules.iter().map(|molecule| molecule.scaffold()).collect();
                scaffold_split(&keys, Shares::default()).map_err(|_| {
                    Error::Training(format!(
                        "{path}: its {count} {noun} are too few, or have too few scaffolds, to be parted eight to one to one by data.split = \"scaffold\": give more, choose data.split = \"random\", or name files in data.train and data.dev"
                    ))
                })?
            }
            _ => drawn(path, count, noun, self.seed)?,
        };
        for (item, part) in read.items.iter_mut().zip(of_each(parts, count)) {
            item.part = Some(part);
        }
        Ok(())
    }

    /// What `vocab.json` says of it, if anything.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn from_json(vocab: &Value) -> std::result::Result<Option<Self>, String> {
        vocab
            .get("parting")
            .map(|parting| serde_json::from_value(parting.clone()))
            .transpose()
            .map_err(|e| e.to_string())
    }
}

/// So many of something at `path`, parted by `seed`.
///
/// # Errors
/// If there are too few.
fn drawn(path: &str, count: usize, noun: &str, seed: u64) -> Result<PartIndices> {
    random_split(count, Shares::default(), seed).map_err(|_| {
        Error::Training(format!(
            "{path}: its {count} {noun} are too few to be parted eight to one to one by data.split = \"random\": give ten or more, say the parts in a column `split`, or name another file in data.dev"
        ))
    })
}

/// The part of each of so many examples.
fn of_each(parts: PartIndices, count: usize) -> Vec<Part> {
    let mut all = vec![Part::Train; count];
    parts.dev.into_iter().for_each(|place| all[place] = Part::Dev);
    parts.test.into_iter().for_each(|place| all[place] = Part::Test);
    all
}

fn same_file(one: &str, other: &str) -> bool {
    let real = |path: &str| fs::canonicalize(path).ok();
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

impl Read {
    /// Whether the data itself says of which part something is.
    pub(super) fn says_parts(&self, wanted: Wants) -> bool {
        let of_nodes = |media: &Media| matches!(media, Media::Graphs(graphs, _) if graphs.node_parts().is_some());
        self.has_parts() || (self.is_one_graph(wanted) && of_nodes(&self.media))
    }

    /// A hash of what is known of the examples, whatever their file is called and on which lines they stand.
    fn hash(&self) -> String {
        let mut content = Vec::new();
        add(&mut content, &self.items.len().to_string());
        for item in &self.items {
            let labels = std::iter::once(&item.labelled.label).chain(&item.targets);
            labels.for_each(|label| add_known(&mut content, label.as_deref()));
        }
        match &self.media {
            Media::Molecules(_) => self.items.iter().for_each(|item| add(&mut content, &item.labelled.text)),
            Media::Table(table) => {
                let mut columns: Vec<_> = table.values().collect();
                columns.sort_by_key(|(name, _)| *name);
                for (name, values) in columns {
                    add(&mut content, name);
                    values.for_each(|value| add(&mut content, value));
                }
            }
            Media::Series(series) => {
                series.lengths().iter().for_each(|length| content.extend(length.to_le_bytes()));
                let values = (0..series.len()).flat_map(|place| series.values(place));
                content.extend(values.flat_map(|value| value.to_le_bytes()));
                series.labels().iter().for_each(|label| add_known(&mut content, label));
            }
            Media::Graphs(graphs, _) => {
                let batch = graphs.batch(&(0..graphs.len()).collect::<Vec<_>>());
                batch.offsets.lengths().for_each(|length| content.extend(length.to_le_bytes()));
                if let Some(sparse) = &batch.sparse {
                    content.extend(sparse.offsets.iter().flat_map(|at| at.to_le_bytes()));
                    content.extend(sparse.ids.iter().flat_map(|id| id.to_le_bytes()));
                }
                content.extend(batch.dense.iter().flat_map(|x| x.to_le_bytes()));
                content.extend(batch.edges.row_offsets().iter().flat_map(|at| at.to_le_bytes()));
                content.extend(batch.edges.columns().iter().flat_map(|id| id.to_le_bytes()));
                graphs.node_labels().iter().for_each(|label| add_known(&mut content, label));
            }
            // (their parts are drawn nowhere)
            Media::Sounds(_) | Media::Pictures(..) | Media::Cells(..) => {}
        }
        files::hash(&content)
    }
}

fn add(content: &mut Vec<u8>, text: &str) {
    content.extend(text.len().to_le_bytes());
    content.extend_from_slice(text.as_bytes());
}

fn add_known(content: &mut Vec<u8>, text: Option<&str>) {
    content.push(u8::from(text.is_some()));
    text.into_iter().for_each(|text| add(content, text));
}

/// Carves the dev part off `train`: what stays and what goes. Examples of one file, as questions about a picture, stay together.
pub(super) fn carve_files(recipe: &Recipe, items: &[Item], train: &[usize]) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut of_files: Vec<Vec<usize>> = Vec::new();
    for &place in train {
        let number = *numbers.entry(items[place].file.as_str()).or_insert(of_files.len());
        match of_files.get_mut(number) {
            Some(places) => places.push(place),
            None => of_files.push(vec![place]),
        }
    }
    let (stay, go) = carve(of_files.len(), recipe.data.dev_fraction, recipe.training.seed)?;
    let places = |files: Vec<usize>| files.into_iter().flat_map(|file| of_files[file].iter().copied()).collect();
    Ok((places(stay), places(go)))
}

/// Keeps what a smaller training part is drawn from apart from other draws.
const SHARE_STREAM: u64 = 0x5A4E;

/// The share of `train` that is trained on: of each label as large a one, at least one example. Texts are no labels.
pub(super) fn share(recipe: &Recipe, items: &[Item], train: Vec<usize>, wanted: Wants) -> Vec<usize> {
    let share = recipe.data.train_share;
    if share >= 1.0 {
        return train;
    }
    let key = Key::new(recipe.training.seed).fold(SHARE_STREAM);
    let mut by_label: BTreeMap<Option<&str>, Vec<usize>> = Default::default();
    for place in train {
        let label = items[place].labelled.label.as_deref().filter(|_| wanted == Wants::Labels);
        by_label.entry(label).or_default().push(place);
    }
    let mut kept = Vec::new();
    for mut places in by_label.into_values() {
        places.sort_by_key(|&place| (key.bits(place as u64), place));
        let count = (places.len() as f64 * share).round().max(1.0) as usize;
        kept.extend_from_slice(&places[..count.min(places.len())]);
    }
    kept.sort_unstable();
    kept
}
