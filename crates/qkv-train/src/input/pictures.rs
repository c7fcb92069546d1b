//! What the recipe says of pictures.

use std::sync::Arc;

use qkv_data::LabelledText;
use qkv_data::image::{
    self, AugmentOptions, Masks, PatchOptions, PictureItem, PictureOptions, Pictures, list_pictures, read_listed,
    read_pictures, read_segmented,
};
use qkv_data::listing::{ListOptions, Listed};

use super::Wants;
use super::media::Media;
use super::reader::{Item, Purpose, Read};
use crate::error::{Error, Result};
use crate::recipe::{Colour, InputKind, Recipe};

/// How pictures are read and cut, before anything of them is known.
pub(crate) fn picture_options(recipe: &Recipe) -> PictureOptions {
    let input = &recipe.input;
    PictureOptions {
        colour: input.colour.map(|colour| match colour {
            Colour::Grey => image::Colour::Grey,
            Colour::Rgb => image::Colour::Rgb,
        }),
        resize: input.resize.map(|[height, width]| (height, width)),
        patches: PatchOptions { patch: input.patch, standard: None },
    }
}

/// How far training may change pictures.
pub(super) fn vary(recipe: &Recipe) -> AugmentOptions {
    let training = &recipe.training;
    AugmentOptions {
        shift: training.shift,
        rotate: training.rotate as f32,
        scale: training.scale as f32,
        flip: training.flip,
        brightness: training.brightness as f32,
        contrast: training.brightness as f32,
        erase: training.erase as f32,
    }
}

/// How a folder of files, or a manifest, is listed, for what.
pub(super) fn list_options(recipe: &Recipe, purpose: Purpose, need_labels: bool) -> ListOptions {
    let wanted = purpose.wanted;
    let data = &recipe.data;
    // Who judges may have one part alone.
    let mut options =
        ListOptions { need_labels, may_take_none: !purpose.trains, parts: purpose.parts, ..ListOptions::default() };
    options.columns.encoding = data.encoding.clone();
    // Of what is only to be answered nothing has to be known.
    if wanted != Wants::Nothing {
        options.names = data.names.clone();
        options.dev = data.dev_files.clone();
        options.test = data.test_files.clone();
        options.columns.label = data.one_label().map(str::to_string);
    }
    options.scenes.train = data.builtin_count;
    options.columns.text =
        data.text.clone().filter(|_| wanted != Wants::Nothing || recipe.input.kind == InputKind::ImageText);
    options
}

/// Reads pictures, and what is known of them.
pub(super) fn read(recipe: &Recipe, path: &str, options: &PictureOptions, purpose: Purpose) -> Result<Read> {
    let list = listing(recipe, purpose);
    if purpose.wanted == Wants::Masks {
        let set = read_segmented(path, options, &list)?;
        return to_read(recipe, path, (set.items, set.pictures), Some(Arc::new(set.masks)), purpose.wanted);
    }
    let set = read_pictures(path, options, &list)?;
    to_read(recipe, path, (set.items, set.pictures), None, purpose.wanted)
}

/// The files of pictures that are to be answered; `None` where they are no files of their own.
pub(super) fn files(recipe: &Recipe, path: &str, purpose: Purpose) -> Result<Option<Vec<Listed>>> {
    Ok(list_pictures(path, &listing(recipe, purpose))?)
}

/// Reads some of these files.
pub(super) fn read_files(recipe: &Recipe, path: &str, files: &[Listed], options: &PictureOptions) -> Result<Read> {
    let set = read_listed(files.to_vec(), options)?;
    to_read(recipe, path, (set.items, set.pictures), None, Wants::Nothing)
}

fn listing(recipe: &Recipe, purpose: Purpose) -> ListOptions {
    // What is asked has its answer in another place than a label may be.
    let asked = recipe.input.kind == InputKind::ImageText;
    list_options(recipe, purpose, purpose.wanted == Wants::Labels && !asked)
}

fn to_read(
    recipe: &Recipe,
    path: &str,
    (items, pictures): (Vec<PictureItem>, Pictures),
    masks: Option<Arc<Masks>>,
    wanted: Wants,
) -> Result<Read> {
    let asked = recipe.input.kind == InputKind::ImageText;
    let items = (0..).zip(items).map(|(place, item)| to_item(path, place, item, asked, wanted));
    Ok(Read { items: items.collect::<Result<_>>()?, media: Media::Pictures(Arc::new(pictures), masks) })
}

fn to_item(path: &str, place: usize, item: PictureItem, asks: bool, wanted: Wants) -> Result<Item> {
    let field = |names: &[&str]| names.iter().find_map(|name| item.field(name)).map(str::to_string);
    let missing = |what: &str, mend: &str| Error::Training(format!("{path}: {} has no {what}: {mend}", item.name));
    let (text, label) = match (asks, wanted) {
        (true, _) => {
            let text = field(&["question"]).or(item.text.clone());
            let text =
                text.ok_or_else(|| missing("text to go with it", "give the manifest a column `question` or `text`"))?;
            let label = field(&["answer"]).or(item.label.clone());
            if wanted == Wants::Labels && label.is_none() {
                return Err(missing("answer", "give the manifest a column `answer` or `label`"));
            }
            (text, label)
        }
        (false, Wants::Texts) => {
            let text = item.text.clone().ok_or_else(|| {
                missing(
                    "text",
                    "give a manifest with a column `text`, or name the column by data.text, and fill it in each line",
                )
            })?;
            (item.name.clone(), Some(text))
        }
        (false, _) => (item.name.clone(), item.label.clone()),
    };
    Ok(Item {
        labelled: LabelledText { text, label, line: place + 1, group: None },
        file: item.name,
        targets: Vec::new(),
        part: item.part,
    })
}
