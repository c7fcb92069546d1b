//! From files to examples: what a model must know to read as its training data was read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use qkv::random::Key;
use qkv_data::builtin::Part;
use qkv_data::image::PictureOptions;
use qkv_data::tables::TableSchema;
use qkv_data::{EncodedSentences, LabelledText};
use serde_json::{Value, json};

use super::graphs::{GraphReader, GraphSets};
use super::media::{Asks, Media};
use super::molecules::MoleculeSets;
use super::parts::{Parting, carve_files, share};
use super::pictures::vary;
use super::rows::{SeriesReader, SeriesSets, TableSets};
use super::sets::Album;
use super::sounds::{SoundOptions, Sounds, join_options};
use super::{InputSizes, Sets, Units, noun};
use super::{graphs, molecules, pictures, recordings, rows};
use crate::error::{Error, Result};
use crate::recipe::{InputKind, Recipe, Sees};

/// How files become sets.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    /// Texts, by their units.
    Texts(Units),
    /// Recordings, by their frames.
    Sounds(Arc<SoundOptions>),
    /// Pictures, by their patches.
    Pictures(PictureOptions),
    /// Pictures with a text each.
    Asked(PictureOptions, Units),
    /// Graphs, by their nodes.
    Graphs(Arc<GraphReader>),
    /// Molecules, by their atoms.
    Molecules,
    /// Rows of a table, by their columns.
    Cells(Arc<TableSchema>),
    /// Rows of numbers.
    Rows(Arc<SeriesReader>),
}

/// Examples as sets, with what is known of each.
#[derive(Clone, Debug)]
pub(crate) struct Examples {
    /// For each its text, or the name of its file where it is none, and its label. What stands for the line of a file that has none
    /// is its number.
    pub(crate) labelled: Vec<LabelledText>,
    /// What is known of each of several things that are learned at once: for each example, in the order of `data.label`. Empty where
    /// one thing is learned.
    pub(crate) targets: Vec<Vec<Option<String>>>,
    /// The sets.
    pub(crate) sets: Sets,
    /// How messages call where they are from.
    pub(crate) name: String,
    /// What the user should know of them, a line each.
    pub(crate) warnings: Vec<String>,
}

impl Examples {
    /// How messages call one of them: by its file and line where its name does not tell them.
    pub(crate) fn place(&self, recipe: &Recipe, example: &LabelledText) -> String {
        let (LabelledText { text, line, .. }, name) = (example, &self.name);
        let place = format!("{name}:{line}");
        match recipe.input.kind {
            InputKind::Molecule | InputKind::Vectors if !text.starts_with(&place) => format!("{place}: {text}"),
            _ => text.clone(),
        }
    }

    /// Examples of which one thing is learned, and nothing is to be told.
    pub(crate) fn new(labelled: Vec<LabelledText>, sets: Sets, name: &str) -> Self {
        Self { labelled, targets: Vec::new(), sets, name: name.to_string(), warnings: Vec::new() }
    }
}

/// Training and dev data with the reader that was made for them.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) reader: Reader,
    pub(crate) train: Examples,
    pub(crate) dev: Examples,
    /// How the training data was parted, where nothing in it says so.
    pub(crate) parting: Option<Parting>,
}

/// What is wanted of a picture or a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// Its label.
    Labels,
    /// The text that goes with it.
    Texts,
    /// The class of each of its pixels.
    Masks,
    /// The class of each of its vectors.
    Each,
    /// Nothing: it is what is asked of a model.
    Nothing,
}

/// What files are read for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    pub(super) wanted: Wants,
    /// Whether a model is trained on them.
    pub(super) trains: bool,
    /// Of which parts nothing else is read, all if `None`.
    pub(super) parts: Option<&'static [Part]>,
}

impl Purpose {
    /// To train a model, which does not see what it will be judged by; or else to choose the best of its states.
    fn training(wanted: Wants, trains: bool) -> Self {
        Self { wanted, trains, parts: Some(&[Part::Train, Part::Dev]) }
    }

    /// To judge a finished model by one part, or to answer all that is there.
    pub(super) fn using(wanted: Wants, part: Part) -> Self {
        let parts: &[Part] = match part {
            Part::Train => &[Part::Train],
            Part::Dev => &[Part::Dev],
            Part::Test => &[Part::Test],
        };
        Self { wanted, trains: false, parts: (wanted != Wants::Nothing).then_some(parts) }
    }
}

impl Reader {
    /// Reads the recipe's training and dev data of pictures or recordings.
    ///
    /// # Errors
    /// If the recipe names no training data, it cannot be read, or an example is without what is wanted.
    pub(crate) fn prepare(recipe: &Recipe, wanted: Wants) -> Result<Data> {
        let train_path = recipe.train_path()?;
        let mut read = read(recipe, train_path, &Asks::of(recipe), Purpose::training(wanted, true))?;
        // Of one graph the dev nodes are in the same file.
        let dev_path = recipe.dev_path()?.filter(|path| *path != train_path || !read.is_one_graph(wanted));
        let parting = Parting::of(recipe, &read, wanted).filter(|_| dev_path.is_none());
        if let Some(parting) = parting.as_ref().filter(|_| !read.is_one_graph(wanted)) {
            parting.draw(recipe, train_path, &mut read)?;
        }
        let of_part = |part| places(&read.items, part);
        let mut train = match read.has_parts() {
            true => of_part(Part::Train),
            false => (0..read.items.len()).collect(),
        };
        if train.is_empty() {
            return Err(Error::Training(format!("{train_path}: none of its examples is of the train part")));
        }
        let dev_read = match dev_path {
            // What chooses the epoch is not what is learned from.
            Some(path) if path == train_path && of_part(Part::Dev).is_empty() => {
                return Err(Error::Training(format!(
                    "{path}: is named to train on and as data.dev, and has no dev part: leave data.dev out, and a part is carved off"
                )));
            }
            Some(path) => {
                Some((path, self::read(recipe, path, &read.media.asks(recipe), Purpose::training(wanted, false))?))
            }
            None => None,
        };
        let dev: Vec<usize> = match &dev_read {
            Some((_, other)) if !places(&other.items, Part::Dev).is_empty() => places(&other.items, Part::Dev),
            // What is named as the dev set is one, but for what is kept to be judged by.
            Some((_, other)) => (0..other.items.len()).filter(|&at| other.items[at].part != Some(Part::Test)).collect(),
            None if !of_part(Part::Dev).is_empty() => of_part(Part::Dev),
            // Of one graph nodes are carved.
            None if read.is_one_graph(wanted) => vec![0],
            None => {
                let (stay, go) = carve_files(recipe, &read.items, &train)?;
                train = stay;
                go
            }
        };
        if dev.is_empty() {
            let name = dev_read.as_ref().map_or(train_path, |(path, _)| path);
            return Err(Error::Training(format!("{name}: none of its examples is of the dev part")));
        }
        let mut train = share(recipe, &read.items, train, wanted);
        if read.is_one_graph(wanted) {
            train = vec![0];
        }
        let nodes_of = |read: &Read, part, dev_elsewhere| match &read.media {
            Media::Graphs(graphs, _) if wanted == Wants::Each => {
                graphs::nodes_of(recipe, graphs, part, (parting.as_ref(), dev_elsewhere))
            }
            _ => Ok(None),
        };
        let of_train = nodes_of(&read, Part::Train, dev_read.is_some())?;
        let of_dev = match &dev_read {
            Some((_, other)) => nodes_of(other, Part::Dev, true)?,
            None => nodes_of(&read, Part::Dev, false)?,
        };
        let texts = train.iter().filter_map(|&place| read.items[place].asked(wanted));
        let units = match recipe.input.kind {
            InputKind::ImageText => {
                Some(Units::build(recipe, texts).map_err(|e| Error::Training(format!("{train_path}: {e}")))?)
            }
            _ => None,
        };
        let (reader, media) = read.media.settled(recipe, &train, units)?;
        let usual = Taking { train: false, joins: true, wanted, nodes: of_dev };
        let taking = Taking { train: true, nodes: of_train, ..usual.clone() };
        let train = reader.examples(recipe, train_path, (&read.items, &media), train, taking)?;
        let dev = match dev_read {
            None => {
                let mut dev = reader.examples(recipe, train_path, (&read.items, &media), dev, usual)?;
                if matches!(media, Media::Graphs(..)) {
                    // (they are those of the training set)
                    dev.warnings.clear();
                }
                dev
            }
            Some((path, other)) => {
                let media = other.media.by(&reader)?;
                reader.examples(recipe, path, (&other.items, &media), dev, usual)?
            }
        };
        Ok(Data { reader, train, dev, parting })
    }

    /// Reads the examples of a file, a folder or `builtin:NAME`, of anything but texts: those of the part `part` where the data has
    /// parts.
    ///
    /// # Errors
    /// If it cannot be read, has no such part, or an example is without what is wanted.
    pub(crate) fn read(&self, recipe: &Recipe, path: &str, part: Part, wanted: Wants) -> Result<Examples> {
        self.read_parted(recipe, path, (part, None), wanted)
    }

    /// The same for a model whose training data was parted by `parting`: of these examples those of the part, of others that have no
    /// parts all of them.
    ///
    /// # Errors
    /// As for [`Reader::read`], and if the training data has changed.
    pub(crate) fn read_parted(
        &self,
        recipe: &Recipe,
        path: &str,
        (part, parting): (Part, Option<&Parting>),
        wanted: Wants,
    ) -> Result<Examples> {
        let asks = match self {
            Self::Texts(_) => return Err(Error::Recipe(format!("{path}: this model reads texts"))),
            Self::Sounds(options) => Asks::Sounds(options.frames.clone()),
            Self::Pictures(options) | Self::Asked(options, _) => Asks::Pictures(options.clone()),
            Self::Graphs(_) => Asks::Graphs,
            Self::Molecules => Asks::Molecules,
            Self::Cells(schema) => Asks::Cells(Some(schema.clone())),
            Self::Rows(reader) => Asks::Rows(Some(reader.clone())),
        };
        let mut read = read(recipe, path, &asks, Purpose::using(wanted, part))?;
        let mut part = part;
        let parting = match parting {
            Some(parting) if parting.is_of(recipe, path, &read, wanted)? => Some(parting),
            // Where nothing says which nodes are of a part, all are judged.
            Some(_) if !read.says_parts(wanted) => {
                part = Part::Test;
                None
            }
            _ => None,
        };
        if let Some(parting) = parting.filter(|_| !read.is_one_graph(wanted)) {
            parting.draw(recipe, path, &mut read)?;
        }
        let nodes = match &read.media {
            Media::Graphs(graphs, _) if wanted == Wants::Each => {
                graphs::nodes_of(recipe, graphs, part, (parting, false))?
            }
            _ => None,
        };
        let which = match read.has_parts() && wanted != Wants::Nothing {
            true => places(&read.items, part),
            false => (0..read.items.len()).collect(),
        };
        if which.is_empty() {
            return Err(Error::Training(format!(
                "{path}: none of its examples is of the part that was asked for; see --split"
            )));
        }
        let taking = Taking { train: false, joins: wanted != Wants::Nothing, wanted, nodes };
        self.examples(recipe, path, (&read.items, &read.media.by(self)?), which, taking)
    }

    pub(super) fn examples(
        &self,
        recipe: &Recipe,
        name: &str,
        (items, media): (&[Item], &Media),
        which: Vec<usize>,
        Taking { train, joins, wanted, nodes }: Taking,
    ) -> Result<Examples> {
        let used: HashSet<usize> = match media {
            Media::Cells(..) => which.iter().copied().collect(),
            _ => HashSet::new(),
        };
        let mut labelled: Vec<LabelledText> = which.iter().map(|&place| items[place].labelled.clone()).collect();
        let targets = match wanted == Wants::Labels && recipe.data.labels().len() > 1 {
            true => which.iter().map(|&place| items[place].targets.clone()).collect(),
            false => Vec::new(),
        };
        let sets = match (self, media) {
            (Self::Sounds(options), Media::Sounds(recorded)) => match join_options(recipe).filter(|_| joins) {
                None => Sets::Sounds(Sounds::whole(options.clone(), recorded.clone(), which)?),
                Some(join) => {
                    let count = recipe.data.join_count.unwrap_or(which.len());
                    // Other strings for judging than for training, also of the same recordings.
                    let key = Key::new(recipe.training.seed).fold(JOIN_STREAM).fold(u64::from(!train));
                    let strings = (which, count);
                    let (sounds, of) = Sounds::joined(options.clone(), recorded.clone(), strings, join, key)?;
                    labelled = of.iter().enumerate().map(|(number, of)| joined_label(items, number, of)).collect();
                    Sets::Sounds(sounds)
                }
            },
            (_, Media::Pictures(pictures, masks)) => {
                let vary = if train { vary(recipe) } else { Default::default() };
                let album = Album { pictures: pictures.clone(), masks: masks.clone(), which, vary };
                match self {
                    Self::Asked(_, units) => {
                        let texts: Vec<&str> = labelled.iter().map(|text| text.text.as_str()).collect();
                        Sets::Asked(album, units.encode(&texts))
                    }
                    _ => Sets::Pictures(album),
                }
            }
            (Self::Graphs(reader), Media::Graphs(graphs, _)) => {
                let nodes = (wanted, nodes.as_deref());
                Sets::Graphs(GraphSets::new(reader.clone(), graphs.clone(), which, nodes))
            }
            (_, Media::Molecules(molecules)) => Sets::Molecules(MoleculeSets::new(molecules.clone(), which)),
            (_, Media::Cells(table, _)) => Sets::Cells(TableSets::new(table.clone(), which)),
            (Self::Rows(reader), Media::Series(series)) => {
                Sets::Rows(SeriesSets::new(reader.clone(), series.clone(), which, wanted)?)
            }
            (_, Media::Sounds(_) | Media::Graphs(..) | Media::Series(_) | Media::Table(_)) => {
                unreachable!("each kind is read by its own reader")
            }
        };
        let warnings = match media {
            Media::Graphs(_, warnings) => warnings.clone(),
            Media::Cells(_, unseen) => rows::unseen_warnings(recipe, name, unseen, &used),
            _ => Vec::new(),
        };
        Ok(Examples { labelled, targets, sets, name: name.to_string(), warnings })
    }

    /// The sets of texts.
    ///
    /// # Panics
    /// If it reads anything else.
    pub(crate) fn texts<T: AsRef<str> + Sync>(&self, texts: &[T]) -> EncodedSentences {
        let Self::Texts(units) = self else { panic!("a reader of texts") };
        units.encode(texts)
    }

    /// Its units, where texts come in.
    pub(crate) fn units(&self) -> Option<&Units> {
        match self {
            Self::Texts(units) | Self::Asked(_, units) => Some(units),
            _ => None,
        }
    }

    /// What it decides of a model's size.
    pub(crate) fn sizes(&self) -> InputSizes {
        let vocabulary = self.units().map_or(0, Units::len);
        let nodes = match self {
            Self::Graphs(reader) => Some(reader.sizes()),
            Self::Molecules => Some(molecules::SIZES),
            _ => None,
        };
        let cells = match self {
            Self::Cells(schema) => [schema.rows(), schema.width()],
            _ => [0, 0],
        };
        InputSizes { vocabulary, pretrained: None, dim: self.dim(), nodes, cells }
    }

    /// Numbers of a plain vector that it gives; 0 where it gives none.
    pub(crate) fn dim(&self) -> usize {
        match self {
            Self::Texts(_) | Self::Graphs(_) | Self::Molecules | Self::Cells(_) => 0,
            Self::Rows(reader) => reader.dim,
            Self::Sounds(options) => options.frames.row_dim(),
            Self::Pictures(options) | Self::Asked(options, _) => {
                let channels = options.colour.map_or(1, |colour| colour.channels());
                options.patches.patch * options.patches.patch * channels
            }
        }
    }

    /// As `vocab.json` holds it.
    pub(crate) fn to_json(&self) -> Value {
        let with_pictures = |options: &PictureOptions, mut object: Value| {
            object["pictures"] = json!(options);
            object
        };
        match self {
            Self::Texts(units) => units.to_json(),
            Self::Sounds(options) => json!({ "sounds": **options }),
            Self::Pictures(options) => with_pictures(options, json!({})),
            Self::Graphs(reader) => json!({ "graphs": **reader }),
            Self::Molecules => json!({}),
            Self::Cells(schema) => json!({ "table": **schema }),
            Self::Rows(reader) => json!({ "rows": **reader }),
            Self::Asked(options, units) => with_pictures(options, units.to_json()),
        }
    }

    /// What [`Reader::to_json`] wrote.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn from_json(recipe: &Recipe, value: &Value) -> std::result::Result<Self, String> {
        let pictures = || -> std::result::Result<PictureOptions, String> {
            let options = value.get("pictures").ok_or("it does not say how pictures are read")?;
            serde_json::from_value(options.clone()).map_err(|e| e.to_string())
        };
        fn part<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> std::result::Result<T, String> {
            let part = value.get(name).ok_or_else(|| format!("it does not say how the {name} are read"))?;
            serde_json::from_value(part.clone()).map_err(|e| e.to_string())
        }
        Ok(match recipe.input.kind {
            InputKind::Graph => Self::Graphs(Arc::new(part(value, "graphs")?)),
            InputKind::Molecule => Self::Molecules,
            InputKind::Table => Self::Cells(Arc::new(part(value, "table")?)),
            InputKind::Vectors => Self::Rows(Arc::new(part(value, "rows")?)),
            InputKind::Text => Self::Texts(Units::from_json(recipe, value)?),
            InputKind::Image => Self::Pictures(pictures()?),
            InputKind::ImageText => Self::Asked(pictures()?, Units::from_json(recipe, value)?),
            InputKind::Audio => {
                let options = value.get("sounds").ok_or("it does not say how sound is read")?;
                let options: SoundOptions = serde_json::from_value(options.clone()).map_err(|e| e.to_string())?;
                match options.is_sound() {
                    true => Self::Sounds(Arc::new(options)),
                    false => return Err("what it says of sound cannot be".into()),
                }
            }
        })
    }
}

/// What an example is called, and what it is a set of; many of each.
pub(crate) fn nouns(recipe: &Recipe) -> (&'static str, &'static str) {
    match recipe.input.kind {
        InputKind::Text => ("texts", noun(recipe)),
        InputKind::Audio => ("recordings", "frames"),
        InputKind::Image => ("pictures", "patches"),
        InputKind::ImageText => ("questions", "patches and words"),
        InputKind::Graph => ("graphs", "nodes"),
        InputKind::Molecule => ("molecules", "atoms"),
        InputKind::Table => ("rows", "columns"),
        InputKind::Vectors => ("sequences", "rows"),
    }
}

/// What an answer in JSON calls what it is about.
pub(crate) fn key(recipe: &Recipe) -> &'static str {
    match recipe.input.kind {
        InputKind::Text | InputKind::ImageText => "text",
        InputKind::Audio | InputKind::Image => "file",
        InputKind::Graph => "graph",
        InputKind::Molecule => "smiles",
        InputKind::Table => "row",
        InputKind::Vectors => "sequence",
    }
}

/// Checks that no example is so long that it must be a mistake.
pub(crate) fn check_lengths(recipe: &Recipe, examples: &Examples) -> Result<()> {
    // Along edges the work is linear, and one large graph is one example.
    if recipe.input.kind == InputKind::Graph && recipe.model.sees == Sees::Edges {
        return Ok(());
    }
    let (most, (_, noun)) = (recipe.data.max_tokens, nouns(recipe));
    let name = &examples.name;
    match examples.labelled.iter().zip(examples.sets.lengths()).find(|(_, length)| *length > most) {
        None => Ok(()),
        Some((text, length)) if recipe.input.kind == InputKind::Text => Err(Error::Training(format!(
            "{name}:{}: the text that starts here has {length} {noun}, more than data.max_tokens = {most}; split it, or raise data.max_tokens",
            text.line
        ))),
        Some((example, length)) => Err(Error::Training(format!(
            "{}: it has {length} {noun}, more than data.max_tokens = {most}; raise data.max_tokens, or make fewer of it by another key of [input]",
            examples.place(recipe, example)
        ))),
    }
}

/// Keeps the draws of what is joined apart from others.
const JOIN_STREAM: u64 = 0x1019;

/// What is known of a string of recordings.
fn joined_label(items: &[Item], number: usize, of: &[usize]) -> LabelledText {
    let labels: Vec<&str> = of.iter().filter_map(|&place| items[place].labelled.label.as_deref()).collect();
    LabelledText {
        text: format!("string {}", number + 1),
        label: Some(labels.join(" ")),
        line: number + 1,
        group: None,
    }
}

/// What was read.
pub(super) struct Read {
    pub(super) items: Vec<Item>,
    pub(super) media: Media,
}

impl Read {
    /// Whether this is one graph of which some nodes are learned from, and others judge.
    pub(super) fn is_one_graph(&self, wanted: Wants) -> bool {
        wanted == Wants::Each && matches!(&self.media, Media::Graphs(graphs, _) if graphs.len() == 1)
    }

    /// Whether it is said of the examples which part they are of.
    pub(super) fn has_parts(&self) -> bool {
        self.items.iter().any(|item| item.part.is_some())
    }
}

/// How examples are taken of what was read.
#[derive(Clone, Debug)]
pub(super) struct Taking {
    /// Whether a model is trained on them.
    pub(super) train: bool,
    /// Whether recordings are joined, if the recipe says so.
    pub(super) joins: bool,
    pub(super) wanted: Wants,
    /// Of one graph: the nodes whose labels count.
    pub(super) nodes: Option<Vec<bool>>,
}

/// An example of what was read.
pub(super) struct Item {
    pub(super) labelled: LabelledText,
    /// What is known of each of several things that are learned at once; empty where one is.
    pub(super) targets: Vec<Option<String>>,
    /// The file that it is of, which may be that of others too.
    pub(super) file: String,
    pub(super) part: Option<Part>,
}

impl Item {
    /// The text that goes in with it, if what is wanted is something else.
    fn asked(&self, wanted: Wants) -> Option<&str> {
        (wanted != Wants::Texts).then_some(self.labelled.text.as_str())
    }
}

/// The format that the recipe names.
///
/// # Errors
/// If there is none of that name for what is read.
pub(super) fn format_of<F: std::str::FromStr<Err = qkv_data::Error>>(recipe: &Recipe) -> Result<Option<F>> {
    let format = recipe.data.format.as_deref().map(str::parse::<F>).transpose();
    format.map_err(|e| Error::Recipe(e.to_string()))
}

fn read(recipe: &Recipe, path: &str, asks: &Asks, purpose: Purpose) -> Result<Read> {
    let read = read_any(recipe, path, asks, purpose)?;
    // Of one picture there may be several questions and descriptions, but one label.
    let once = matches!(recipe.input.kind, InputKind::Audio | InputKind::Image)
        && matches!(purpose.wanted, Wants::Labels | Wants::Each | Wants::Masks);
    if once {
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (place, item) in read.items.iter().enumerate() {
            if let Some(before) = places.insert(&item.file, place) {
                return Err(Error::Training(format!(
                    "{path}: {} is named twice, as number {} and as number {}: leave one of them",
                    item.file,
                    before + 1,
                    place + 1
                )));
            }
        }
    }
    Ok(read)
}

fn read_any(recipe: &Recipe, path: &str, asks: &Asks, purpose: Purpose) -> Result<Read> {
    match asks {
        Asks::Sounds(frames) => recordings::read(recipe, path, frames, purpose),
        Asks::Pictures(options) => pictures::read(recipe, path, options, purpose),
        Asks::Graphs => graphs::read(recipe, path, purpose),
        Asks::Molecules => molecules::read(recipe, path, purpose),
        Asks::Cells(known) => rows::read_cells(recipe, path, purpose, known.as_deref()),
        Asks::Rows(known) => rows::read_rows(recipe, path, purpose, known.as_deref()),
    }
}

fn places(items: &[Item], part: Part) -> Vec<usize> {
    let of_part = |place: &usize| items[*place].part.unwrap_or(Part::Train) == part;
    (0..items.len()).filter(of_part).collect()
}
