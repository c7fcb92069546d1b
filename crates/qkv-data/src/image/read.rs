//! Data sets of pictures: folders, manifests, IDX files and `builtin:scenes`.
//!
//! Which files there are and what is known of each comes from [`list_files`]; here they are read, and put together with
//! their masks.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::decode::{check_resize, read_bytes};
use super::idx::{self, IdxPair};
use super::masks::{Mask, Masks, decode_mask, read_classes};
use super::patches::{check_patches, check_stored};
use super::{Colour, Picture, PictureOptions, Pictures, read_picture};
use crate::builtin::{self, Part, Scene};
use crate::error::{Error, Result};
use crate::examples::listed;
use crate::listing::{ListOptions, Listed, list_files, part_named};
use crate::source::Source;

/// The endings of pictures' files.
pub const PICTURE_ENDINGS: &[&str] = &["png", "jpg", "jpeg", "gif", "bmp", "webp"];

/// The names that the folder of masks may have.
const MASK_FOLDERS: [&str; 2] = ["masks", "labels"];

/// How many files are read before the first that failed is told of.
const AT_ONCE: usize = 64;

/// A manifest's column for the file of the mask.
const MASK_FIELD: &str = "mask";

/// What is known of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureItem {
    /// How messages call it: its path, or the file or data it is in and its place there, counted from 0.
    pub name: String,
    /// Its label, if it has one.
    pub label: Option<String>,
    /// What is said of it, if anything is.
    pub text: Option<String>,
    /// The part that it is of; `None` for all where nothing says anything of parts.
    pub part: Option<Part>,
    /// Other fields, name and value; of `builtin:scenes` `question` and `answer`.
    pub fields: Vec<(String, String)>,
}

impl PictureItem {
    /// The value of the field `name`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Pictures and what is known of each.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureSet {
    /// The pictures.
    pub pictures: Pictures,
    /// As many items as pictures, in the same order.
    pub items: Vec<PictureItem>,
}

/// Pictures and the class of each of their pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentedSet {
    /// The pictures.
    pub pictures: Pictures,
    /// Their masks, in the same order and of the same sizes.
    pub masks: Masks,
    /// What else is known of each picture.
    pub items: Vec<PictureItem>,
}

/// Reads pictures and their labels or texts from
///
/// - a folder or a manifest, listed as [`list_files`] says with `list` (without endings, those of [`PICTURE_ENDINGS`]);
/// - a folder of IDX files, such as MNIST's four, or one IDX file of pictures beside its labels;
/// - `builtin:scenes`, as by [`ListOptions::scenes`]: descriptions as texts, questions and answers as fields.
///
/// Of parts that `list` does not want nothing is read or drawn.
///
/// # Errors
///
/// What cannot be listed or read, a picture that is none, pictures too large or too many, and a label that is missing where
/// `list` asks for it.
pub fn read_pictures(source: impl Into<Source>, options: &PictureOptions, list: &ListOptions) -> Result<PictureSet> {
    check_resize(options.resize)?;
    match source.into() {
        Source::Builtin(name) => {
            let mut store = Store::new(options)?;
            let mut items = Vec::new();
            for (item, scene) in builtin_scenes(&name, list)? {
                store.push(&item.name, scene.picture)?;
                items.push(item);
            }
            if list.need_labels {
                let mend = "give it the output `text`, or the field `answer`";
                return Err(Error::unusable(
                    &format!("builtin:{name}"),
                    "has descriptions and answers, no labels",
                    mend,
                ));
            }
            Ok(PictureSet { pictures: store.finish()?, items })
        }
        Source::Stdin => Err(from_stdin()),
        Source::File(path) => match idx_pairs(&path)? {
            Some(pairs) => read_idx_set(&pairs, options, list),
            None => read_listed(list_files(&path, &with_endings(list))?, options),
        },
    }
}

/// The pictures of a folder or a manifest, to be read by [`read_listed`] some at a time; `None` where [`read_pictures`] finds them
/// in another way, several in a file or drawn.
///
/// # Errors
///
/// What cannot be listed.
pub fn list_pictures(source: impl Into<Source>, list: &ListOptions) -> Result<Option<Vec<Listed>>> {
    match source.into() {
        Source::File(path) if idx_pairs(&path)?.is_none() => list_files(&path, &with_endings(list)).map(Some),
        _ => Ok(None),
    }
}

/// Reads the pictures of some files.
///
/// # Errors
///
/// As [`read_pictures`].
pub fn read_listed(files: Vec<Listed>, options: &PictureOptions) -> Result<PictureSet> {
    let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    let pictures = read_all(&paths, options)?;
    Ok(PictureSet { pictures, items: files.into_iter().map(item).collect() })
}

/// Reads pictures whose pixels have classes from
///
/// - a folder with the folders `images` and `masks` (or `labels`), or with such folders in `train`, `dev` and `test`: a
///   picture's mask has its path without the ending; `classes.txt` in the folder may name the classes;
/// - a manifest with a column `mask` beside the one for the picture, and maybe a `classes.txt` beside the manifest;
/// - `builtin:scenes`, as in [`read_pictures`].
///
/// # Errors
///
/// As in [`read_pictures`]; pictures without a mask, which are counted and named together; a mask of another size than its
/// picture; and what [`Masks::new`] and [`read_classes`] refuse.
pub fn read_segmented(source: impl Into<Source>, options: &PictureOptions, list: &ListOptions) -> Result<SegmentedSet> {
    check_resize(options.resize)?;
    match source.into() {
        Source::Builtin(name) => segmented_scenes(&name, options, list),
        Source::Stdin => Err(from_stdin()),
        Source::File(path) => {
            let list = with_endings(list);
            let is_folder = path.is_dir();
            let (files, masks) = if is_folder { paired_folders(&path, &list)? } else { paired_columns(&path, &list)? };
            let folder = if is_folder { &path } else { path.parent().unwrap_or(Path::new("")) };
            let classes = folder.join("classes.txt");
            let classes = if classes.is_file() { Some(read_classes(&classes)?) } else { None };
            let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
            check_pairs(&paths, &masks)?;
            let pictures = read_all(&paths, options)?;
            let masks = read_masks(&masks, options, &pictures)?;
            let masks = Masks::new(&masks, classes.as_deref())?;
            Ok(SegmentedSet { pictures, masks, items: files.into_iter().map(item).collect() })
        }
    }
}

fn from_stdin() -> Error {
    Error::unusable("standard input", "cannot hold a set of pictures", "name a folder or a manifest")
}

fn with_endings(list: &ListOptions) -> ListOptions {
    let endings = if list.endings.is_empty() { PICTURE_ENDINGS } else { list.endings };
    ListOptions { endings, ..list.clone() }
}

fn item(file: Listed) -> PictureItem {
    PictureItem { name: file.name(), label: file.label, text: file.text, part: file.part, fields: file.fields }
}

/// Pictures as they come in: grey until the first that is not, unless a colour was asked for.
struct Store {
    asked: Option<Colour>,
    resize: Option<(usize, usize)>,
    patches: super::PatchOptions,
    pictures: Pictures,
}

impl Store {
    fn new(options: &PictureOptions) -> Result<Self> {
        // Mean and deviation are checked against the colour when that is settled.
        let patches = super::PatchOptions { standard: None, ..options.patches.clone() };
        let pictures = Pictures::new(options.colour.unwrap_or(Colour::Grey), patches)?;
        Ok(Self { asked: options.colour, resize: options.resize, patches: options.patches.clone(), pictures })
    }

    fn push(&mut self, name: &str, picture: Picture) -> Result<()> {
        let picture = match self.resize {
            Some((height, width)) => picture.resized(height, width),
            None => picture,
        };
        if self.asked.is_none() && self.pictures.colour() == Colour::Grey && picture.colour() == Colour::Rgb {
            let mut recoloured = Pictures::new(Colour::Rgb, self.pictures.options().clone())?;
            for index in 0..self.pictures.len() {
                let (height, width) = self.pictures.size(index);
                let pixels: Vec<u8> = self.pictures.pixels(index).iter().flat_map(|&grey| [grey; 3]).collect();
                recoloured.push_bytes(name, height, width, &pixels)?;
            }
            self.pictures = recoloured;
        }
        self.pictures.push(name, &picture.into_colour(self.pictures.colour()))
    }

    fn finish(self) -> Result<Pictures> {
        match self.patches.standard {
            Some(standard) => self.pictures.with_standard(standard),
            None => Ok(self.pictures),
        }
    }
}

/// Reads files in their order; of several that fail the first is told of.
fn read_all(paths: &[PathBuf], options: &PictureOptions) -> Result<Pictures> {
    let mut store = Store::new(options)?;
    for some in paths.chunks(AT_ONCE) {
        let read: Vec<Result<Picture>> = some.par_iter().map(|path| read_one(path, options)).collect();
        for (path, picture) in some.iter().zip(read) {
            store.push(&Source::from(path).name(), picture?)?;
        }
    }
    store.finish()
}

/// A picture that may be kept, so that many large ones are not in memory together.
fn read_one(path: &Path, options: &PictureOptions) -> Result<Picture> {
    let picture = read_picture(path, options)?;
    check_patches(&Source::from(path).name(), picture.height(), picture.width(), options.patches.patch)?;
    Ok(picture)
}

/// The IDX files that `path` is or holds.
fn idx_pairs(path: &Path) -> Result<Option<Vec<IdxPair>>> {
    if path.is_dir() {
        return Ok(Some(idx::find_idx(path)?).filter(|pairs| !pairs.is_empty()));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(idx::is_images(&name).then(|| vec![idx::idx_pair(path)]))
}

fn read_idx_set(pairs: &[IdxPair], options: &PictureOptions, list: &ListOptions) -> Result<PictureSet> {
    let mut store = Store::new(options)?;
    let mut items = Vec::new();
    // A single file may be all that there is, whatever part it is named after.
    let has_parts = pairs.len() > 1;
    for pair in pairs {
        let part = if has_parts { pair.part.or(Some(Part::Train)) } else { pair.part };
        if has_parts && !list.wants(part) {
            continue;
        }
        let file = Source::from(&pair.images).name();
        if list.need_labels && pair.labels.is_none() {
            let mend = "put the file of labels beside it, named alike with labels for images and idx1 for idx3";
            return Err(Error::unusable(&file, "has no labels, but labels are needed here", mend));
        }
        let idx::IdxPictures { shape: [count, height, width, channels], pixels, labels } =
            idx::read_idx_pictures(pair)?;
        let colour = if channels == 1 { Colour::Grey } else { Colour::Rgb };
        check_patches(&file, height, width, options.patches.patch)?;
        for (index, bytes) in pixels.chunks_exact(height * width * channels).enumerate().take(count) {
            let name = format!("{file}:{index}");
            let Some(picture) = Picture::new(height, width, colour, bytes.to_vec()) else {
                return Err(Error::unusable(&file, "holds pictures of too many pixels", "make them smaller"));
            };
            store.push(&name, if let Some(colour) = options.colour { picture.into_colour(colour) } else { picture })?;
            let label = labels.as_ref().map(|labels| labels[index].to_string());
            items.push(PictureItem { name, label, text: None, part, fields: Vec::new() });
        }
    }
    Ok(PictureSet { pictures: store.finish()?, items })
}

/// The scenes of the parts that are wanted.
fn builtin_scenes(name: &str, list: &ListOptions) -> Result<Vec<(PictureItem, Scene)>> {
    if name != "scenes" {
        return Err(match builtin::held(name) {
            Some(held) => {
                let mend = "name builtin:scenes, a folder of pictures, or a manifest";
                Error::unusable(&format!("builtin:{name}"), format!("holds {held}, not pictures"), mend)
            }
            None => Error::unknown_name("builtin", name, builtin::PICTURES.iter().copied()),
        });
    }
    let mut all = Vec::new();
    for (part, part_name) in [(Part::Train, "train"), (Part::Dev, "dev"), (Part::Test, "test")] {
        if !list.wants(Some(part)) {
            continue;
        }
        for (index, scene) in builtin::scenes(&list.scenes, part)?.into_iter().enumerate() {
            let fields = [("question", &scene.question), ("answer", &scene.answer)];
            let item = PictureItem {
                name: format!("builtin:scenes:{part_name}:{index}"),
                label: None,
                text: Some(scene.description.clone()),
                part: Some(part),
                fields: fields.map(|(name, value)| (name.to_owned(), value.clone())).to_vec(),
            };
            all.push((item, scene));
        }
    }
    Ok(all)
}

fn segmented_scenes(name: &str, options: &PictureOptions, list: &ListOptions) -> Result<SegmentedSet> {
    let mut store = Store::new(options)?;
    let (mut items, mut masks) = (Vec::new(), Vec::new());
    for (item, scene) in builtin_scenes(name, list)? {
        let (height, width) = (scene.picture.height(), scene.picture.width());
        let mask = Mask { height, width, values: scene.mask };
        masks.push((item.name.clone(), resized(mask, options)));
        store.push(&item.name, scene.picture)?;
        items.push(item);
    }
    let names = builtin::SCENE_CLASSES.map(str::to_owned);
    Ok(SegmentedSet { pictures: store.finish()?, masks: Masks::new(&masks, Some(&names))?, items })
}

fn resized(mask: Mask, options: &PictureOptions) -> Mask {
    match options.resize {
        Some((height, width)) => mask.resized(height, width),
        None => mask,
    }
}

/// The pictures of a folder and the mask of each, by their paths below `images` and `masks`.
fn paired_folders(folder: &Path, list: &ListOptions) -> Result<(Vec<Listed>, Vec<Option<PathBuf>>)> {
    let name = Source::from(folder).name();
    let (mut files, mut masks) = (Vec::new(), Vec::new());
    for (root, part) in roots(folder)? {
        let Some(mask_folder) = MASK_FOLDERS.iter().map(|name| root.join(name)).find(|path| path.is_dir()) else {
            let what = format!("{} has a folder images, but neither masks nor labels", Source::from(&root).name());
            return Err(Error::unusable(&name, what, "put the masks into a folder `masks` beside `images`"));
        };
        let images = root.join("images");
        // Folders that are called as parts are found by the listing; the rules are for pictures alone.
        let mut found = list_files(&images, &ListOptions { need_labels: false, parts: None, ..list.clone() })?;
        let all_masks = ListOptions { endings: list.endings, ..ListOptions::default() };
        let stems = by_stem(&mask_folder, &list_files(&mask_folder, &all_masks)?)?;
        for file in &mut found {
            file.part = file.part.or(part);
            masks.push(stems.get(&stem(&images, &file.path)).cloned());
        }
        files.extend(found);
    }
    if files.iter().any(|file| file.part.is_some()) {
        files.iter_mut().for_each(|file| file.part = file.part.or(Some(Part::Train)));
    }
    Ok(files.into_iter().zip(masks).filter(|(file, _)| list.wants(file.part)).unzip())
}

/// The folders that hold a folder `images`: this one, or those in it that are called as parts are.
fn roots(folder: &Path) -> Result<Vec<(PathBuf, Option<Part>)>> {
    if folder.join("images").is_dir() {
        return Ok(vec![(folder.to_owned(), None)]);
    }
    let name = Source::from(folder).name();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| Error::io(&name, source))? {
        let entry = entry.map_err(|source| Error::io(&name, source))?.file_name();
        if let Some(part) = entry.to_str().and_then(part_named)
            && folder.join(&entry).join("images").is_dir()
        {
            found.push((folder.join(&entry), Some(part)));
        }
    }
    if found.is_empty() {
        let mend = "put pictures into `images` and masks of the same names into `masks`, or name a manifest";
        return Err(Error::unusable(&name, "has no folder `images`", mend));
    }
    found.sort_by(|(one, part), (other, other_part)| part.cmp(other_part).then(one.cmp(other)));
    Ok(found)
}

/// The masks of a folder by their paths in it without the ending.
fn by_stem(folder: &Path, files: &[Listed]) -> Result<HashMap<PathBuf, PathBuf>> {
    let mut masks: HashMap<PathBuf, PathBuf> = HashMap::new();
    for file in files {
        if let Some(other) = masks.insert(stem(folder, &file.path), file.path.clone()) {
            let what = format!("is a second mask beside {}", Source::from(&other).name());
            return Err(Error::unusable(&file.name(), what, "leave one of them"));
        }
    }
    Ok(masks)
}

fn stem(folder: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(folder).unwrap_or(path).with_extension("")
}

/// The pictures of a manifest and the mask of each, by its column `mask`.
fn paired_columns(path: &Path, list: &ListOptions) -> Result<(Vec<Listed>, Vec<Option<PathBuf>>)> {
    let files = list_files(path, list)?;
    if files.iter().all(|file| file.field(MASK_FIELD).is_none()) {
        let mend = "give it the columns image and mask, or name a folder with `images` and `masks`";
        return Err(Error::unusable(&Source::from(path).name(), "names no masks", mend));
    }
    let folder = list.columns.folder.clone().or_else(|| path.parent().map(Path::to_owned)).unwrap_or_default();
    let mask = |file: &Listed| {
        let given = file.field(MASK_FIELD).map(str::trim).filter(|given| !given.is_empty())?;
        Some(folder.join(given)).filter(|path| path.is_file())
    };
    let masks = files.iter().map(mask).collect();
    Ok((files, masks))
}

/// Names all pictures without a mask, or the first of them.
fn check_pairs(pictures: &[PathBuf], masks: &[Option<PathBuf>]) -> Result<()> {
    let without: Vec<String> = pictures
        .iter()
        .zip(masks)
        .filter(|(_, mask)| mask.is_none())
        .map(|(picture, _)| Source::from(picture).name())
        .collect();
    let Some(first) = without.first() else { return Ok(()) };
    let what = match &without[1..] {
        [] => "has no mask".to_owned(),
        others => {
            let short =
                |name: &String| Path::new(name).file_name().unwrap_or(OsStr::new(name)).to_string_lossy().into_owned();
            let shown: Vec<String> = others.iter().map(short).collect();
            let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
            format!("has no mask, and so have {} others of {}: {}", others.len(), pictures.len(), listed(&shown))
        }
    };
    Err(Error::unusable(first, what, "give each picture a mask of its name, or take those without one out"))
}

/// Reads masks and compares their sizes with their pictures'.
fn read_masks(masks: &[Option<PathBuf>], options: &PictureOptions, pictures: &Pictures) -> Result<Vec<(String, Mask)>> {
    let paths: Vec<&PathBuf> = masks.iter().flatten().collect();
    let mut all = Vec::with_capacity(paths.len());
    let mut bytes = 0;
    for some in paths.chunks(AT_ONCE) {
        let read: Vec<Result<(String, Mask)>> = some
            .par_iter()
            .map(|path| {
                let name = Source::from(path.as_path()).name();
                let mask = decode_mask(&read_bytes(path, &name)?, &name)?;
                Ok((name, resized(mask, options)))
            })
            .collect();
        for one in read {
            let (name, mask) = one?;
            let size = pictures.size(all.len());
            if (mask.height, mask.width) != size {
                let what = format!("is {} x {}, and its picture {} x {}", mask.width, mask.height, size.1, size.0);
                return Err(Error::unusable(&name, what, "make them of one size"));
            }
            bytes += mask.values.len();
            check_stored(&name, bytes)?;
            all.push((name, mask));
        }
    }
    Ok(all)
}
