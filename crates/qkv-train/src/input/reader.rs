//! From files to examples: what a model must know to read as its training data was read.

use std::sync::Arc;

use qkv::random::Key;
use qkv_data::builtin::Part;
use qkv_data::image::{PictureItem, PictureOptions, Pictures, read_pictures};
use qkv_data::{EncodedSentences, LabelledText, carve};
use serde_json::{Value, json};

use super::pictures::{list_options, picture_options, vary};
use super::sets::Album;
use super::{Sets, Units, noun};
use crate::error::{Error, Result};
use crate::recipe::{InputKind, Recipe};

/// How files become sets.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    /// Texts, by their units.
    Texts(Units),
    /// Pictures, by their patches.
    Pictures(PictureOptions),
    /// Pictures with a text each.
    Asked(PictureOptions, Units),
}

/// Examples as sets, with what is known of each.
#[derive(Clone, Debug)]
pub(crate) struct Examples {
    /// For each its text, or the name of its file where it is none, and its label. What stands for the line of a file that has none
    /// is its number.
    pub(crate) labelled: Vec<LabelledText>,
    /// The sets.
    pub(crate) sets: Sets,
    /// How messages call where they are from.
    pub(crate) name: String,
}

/// Training and dev data with the reader that was made for them.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) reader: Reader,
    pub(crate) train: Examples,
    pub(crate) dev: Examples,
}

/// What is wanted of a picture or a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Its label.
    Labels,
    /// The text that goes with it.
    Texts,
    /// Nothing: it is what is asked of a model.
    Nothing,
}

impl Reader {
    /// Reads the recipe's training and dev data of pictures or recordings.
    ///
    /// # Errors
    /// If the recipe names no training data, it cannot be read, or an example is without what is wanted.
    pub(crate) fn prepare(recipe: &Recipe, wanted: Parts) -> Result<Prepared> {
        let train_path = recipe.train_path()?;
        let read = read(recipe, train_path, &picture_options(recipe), wanted)?;
        let of_part = |part| places(&read.items, part);
        let mut train = match has_parts(&read.items) {
            true => of_part(Part::Train),
            false => (0..read.items.len()).collect(),
        };
        if train.is_empty() {
            return Err(Error::Training(format!("{train_path}: none of its examples is of the train part")));
        }
        let dev_read = match recipe.dev_path()? {
            Some(path) => Some((path, self::read(recipe, path, &settled(recipe, &read.pictures), wanted)?)),
            None => None,
        };
        let dev: Vec<usize> = match &dev_read {
            Some((_, other)) if has_parts(&other.items) => places(&other.items, Part::Dev),
            Some((_, other)) => (0..other.items.len()).collect(),
            None if !of_part(Part::Dev).is_empty() => of_part(Part::Dev),
            None => {
                let (stay, go) = carve(train.len(), recipe.data.dev_fraction, recipe.training.seed)?;
                let dev = go.into_iter().map(|place| train[place]).collect();
                train = stay.into_iter().map(|place| train[place]).collect();
                dev
            }
        };
        if dev.is_empty() {
            let name = dev_read.as_ref().map_or(train_path, |(path, _)| path);
            return Err(Error::Training(format!("{name}: none of its examples is of the dev part")));
        }
        let train = share(recipe, &read.items, train);
        let standard = read.pictures.standard(&train);
        let standardised = |pictures: Pictures| pictures.with_standard(standard.clone()).map(Arc::new);
        let (items, pictures) = (read.items, standardised(read.pictures)?);
        let options = PictureOptions { colour: Some(pictures.colour()), ..settled(recipe, &pictures) };
        let texts = train.iter().filter_map(|&place| items[place].asked(wanted));
        let reader = match recipe.input.kind {
            InputKind::ImageText => {
                let units = Units::build(recipe, texts).map_err(|e| Error::Training(format!("{train_path}: {e}")))?;
                Self::Asked(options, units)
            }
            _ => Self::Pictures(options),
        };
        let train = reader.examples(recipe, train_path, (&items, &pictures), train, true);
        let dev = match dev_read {
            None => reader.examples(recipe, train_path, (&items, &pictures), dev, false),
            Some((path, other)) => {
                let pictures = standardised(other.pictures)?;
                reader.examples(recipe, path, (&other.items, &pictures), dev, false)
            }
        };
        Ok(Prepared { reader, train, dev })
    }

    /// Reads the examples of a file, a folder or `builtin:NAME`, of pictures or recordings: those of the part `part` where the data has
    /// parts.
    ///
    /// # Errors
    /// If it cannot be read, has no such part, or an example is without what is wanted.
    pub(crate) fn read(&self, recipe: &Recipe, path: &str, part: Part, wanted: Parts) -> Result<Examples> {
        let (Self::Pictures(options) | Self::Asked(options, _)) = self else {
            return Err(Error::Recipe(format!("{path}: this model reads texts")));
        };
        let read = read(recipe, path, options, wanted)?;
        let which = match has_parts(&read.items) && wanted != Parts::Nothing {
            true => places(&read.items, part),
            false => (0..read.items.len()).collect(),
        };
        if which.is_empty() {
            return Err(Error::Training(format!(
                "{path}: none of its examples is of the part that was asked for; see --split"
            )));
        }
        Ok(self.examples(recipe, path, (&read.items, &Arc::new(read.pictures)), which, false))
    }

    fn examples(
        &self,
        recipe: &Recipe,
        name: &str,
        (items, pictures): (&[Item], &Arc<Pictures>),
        which: Vec<usize>,
        train: bool,
    ) -> Examples {
        let labelled: Vec<LabelledText> = which.iter().map(|&place| items[place].labelled.clone()).collect();
        let vary = if train { vary(recipe) } else { Default::default() };
        let album = Album {
            pictures: pictures.clone(),
            which: which.iter().map(|&place| items[place].picture).collect(),
            vary,
        };
        let sets = match self {
            Self::Asked(_, units) => {
                let texts: Vec<&str> = labelled.iter().map(|text| text.text.as_str()).collect();
                Sets::Asked(album, units.encode(&texts))
            }
            _ => Sets::Pictures(album),
        };
        Examples { labelled, sets, name: name.to_string() }
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
            Self::Pictures(_) => None,
        }
    }

    /// Numbers of a plain vector that it gives; 0 where it gives none.
    pub(crate) fn dim(&self) -> usize {
        match self {
            Self::Texts(_) => 0,
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
            Self::Pictures(options) => with_pictures(options, json!({})),
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
        Ok(match recipe.input.kind {
            InputKind::Text => Self::Texts(Units::from_json(recipe, value)?),
            InputKind::Image => Self::Pictures(pictures()?),
            InputKind::ImageText => Self::Asked(pictures()?, Units::from_json(recipe, value)?),
            InputKind::Audio => return Err("sound is not read yet".into()),
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
    }
}

/// What was read.
struct Read {
    items: Vec<Item>,
    pictures: Pictures,
}

/// An example of what was read.
struct Item {
    labelled: LabelledText,
    part: Option<Part>,
    picture: usize,
}

impl Item {
    /// The text that goes in with it, if what is wanted is something else.
    fn asked(&self, wanted: Parts) -> Option<&str> {
        (wanted != Parts::Texts).then_some(self.labelled.text.as_str())
    }
}

fn read(recipe: &Recipe, path: &str, options: &PictureOptions, wanted: Parts) -> Result<Read> {
    let asks = recipe.input.kind == InputKind::ImageText;
    // What is asked has its answer in another place than a label may be.
    let list = list_options(recipe, wanted == Parts::Labels && !asks);
    let set = read_pictures(path, options, &list)?;
    let items = (0..).zip(set.items).map(|(picture, item)| to_item(path, picture, item, asks, wanted));
    Ok(Read { items: items.collect::<Result<_>>()?, pictures: set.pictures })
}

fn to_item(path: &str, picture: usize, item: PictureItem, asks: bool, wanted: Parts) -> Result<Item> {
    let field = |names: &[&str]| names.iter().find_map(|name| item.field(name)).map(str::to_string);
    let missing = |what: &str, mend: &str| Error::Training(format!("{path}: {} has no {what}: {mend}", item.name));
    let (text, label) = match (asks, wanted) {
        (true, _) => {
            let text = field(&["question"]).or(item.text.clone());
            let text =
                text.ok_or_else(|| missing("text to go with it", "give the manifest a column `question` or `text`"))?;
            let label = field(&["answer"]).or(item.label.clone());
            if wanted == Parts::Labels && label.is_none() {
                return Err(missing("answer", "give the manifest a column `answer` or `label`"));
            }
            (text, label)
        }
        (false, Parts::Texts) => {
            let text = item.text.clone().ok_or_else(|| missing("text", "give a manifest with a column `text`"))?;
            (item.name.clone(), Some(text))
        }
        (false, _) => (item.name.clone(), item.label.clone()),
    };
    Ok(Item { labelled: LabelledText { text, label, line: picture + 1 }, part: item.part, picture })
}

fn has_parts(items: &[Item]) -> bool {
    items.iter().any(|item| item.part.is_some())
}

fn places(items: &[Item], part: Part) -> Vec<usize> {
    let of_part = |place: &usize| items[*place].part.unwrap_or(Part::Train) == part;
    (0..items.len()).filter(of_part).collect()
}

/// How other pictures are read than the first that were.
fn settled(recipe: &Recipe, pictures: &Pictures) -> PictureOptions {
    let options = picture_options(recipe);
    PictureOptions { colour: Some(pictures.colour()), patches: pictures.options().clone(), ..options }
}

/// Keeps what a smaller training part is drawn from apart from other draws.
const SHARE_STREAM: u64 = 0x5A4E;

/// The share of `train` that is trained on: of each label as large a one, at least one example.
fn share(recipe: &Recipe, items: &[Item], train: Vec<usize>) -> Vec<usize> {
    let share = recipe.data.train_share;
    if share >= 1.0 {
        return train;
    }
    let key = Key::new(recipe.training.seed).fold(SHARE_STREAM);
    let mut by_label: std::collections::BTreeMap<Option<&str>, Vec<usize>> = Default::default();
    for place in train {
        by_label.entry(items[place].labelled.label.as_deref()).or_default().push(place);
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
