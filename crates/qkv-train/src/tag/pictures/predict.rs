//! Predicting: the mask of each picture of a folder, as lines and as files.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use qkv_data::image::read::PICTURE_ENDINGS;
use qkv_data::image::{Colour, Mask, Picture, encode_png};
use qkv_data::plan_following;
use serde_json::{Value, json};

use super::Segmenter;
use crate::error::{Error, Result, gone};
use crate::files;
use crate::longest::check_longest;
use crate::model::{Predicted, Style, Watch};

impl Segmenter {
    /// Reads pictures from `source` (a folder, of which `images` is taken if it has that; a manifest; or `builtin:scenes`) and writes
    /// a line for each to `out`, in their order: its name and the share of each class that was found, or with [`Style::Json`] the
    /// class of every pixel.
    ///
    /// With `masks`, a folder, the mask of each picture goes there as well, as a grey PNG file of the picture's name, in which the
    /// value of a pixel is its class, of the size that the model reads pictures in. `classes.txt` beside them names the classes,
    /// line k that of value k, unless the training data knew them by their values alone: then these are written.
    ///
    /// # Errors
    /// If pictures cannot be read, two would have their masks in one file, or a mask would take its picture's place. If `out` or
    /// the folder refuses, unless the reader of `out` has gone, which ends the work in peace.
    pub fn predict_stream(
        &self,
        source: &str,
        style: Style,
        masks: Option<&Path>,
        out: &mut dyn Write,
        stop: &AtomicBool,
        watch: Watch,
    ) -> Result<Predicted> {
        let source = pictures_of(source);
        let pieces = self.reader().pieces(self.recipe(), &source)?;
        let files =
            masks.map(|folder| MaskFiles::plan(folder, &source, &pieces.names(), self.classes())).transpose()?;
        let mut done = Predicted::default();
        for examples in pieces {
            let examples = examples?;
            let (first, lengths) = (done.examples, examples.sets.lengths());
            check_longest(self.recipe(), &source, first, lengths.iter().copied())?;
            for chunk in plan_following(&lengths, self.recipe().decoding.batch_tokens) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(done);
                }
                let found = self.masks(&examples.sets, &chunk);
                if let Some(files) = &files {
                    chunk.iter().zip(&found).try_for_each(|(&place, mask)| files.write(first + place, mask))?;
                }
                let names = chunk.iter().map(|&place| examples.labelled[place].text.as_str());
                if gone(write_all(names.zip(&found), self.classes(), style, out))? {
                    return Ok(done);
                }
                done.examples += found.len();
                done.tokens += found.iter().map(|mask| mask.values.len()).sum::<usize>();
                watch(done.examples, done.tokens);
            }
        }
        Ok(done)
    }
}

/// The folder of pictures in a folder of pictures and masks; what is given if it is none.
fn pictures_of(source: &str) -> String {
    let images = Path::new(source).join("images");
    if images.is_dir() { images.to_string_lossy().into_owned() } else { source.to_string() }
}

fn write_all<'a>(
    found: impl Iterator<Item = (&'a str, &'a Mask)>,
    classes: &[String],
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    for (name, mask) in found {
        match style {
            Style::Same => writeln!(out, "{}", plain(name, mask, classes))?,
            Style::Json => writeln!(out, "{}", json_line(name, mask, classes))?,
        }
    }
    out.flush()
}

/// `name<TAB>class share<TAB>class share…`, the classes that occur, in their order.
fn plain(name: &str, mask: &Mask, classes: &[String]) -> String {
    let one_line = |text: &str| text.replace(['\t', '\n', '\r'], " ");
    let mut counts = vec![0_usize; classes.len()];
    mask.values.iter().for_each(|&class| counts[usize::from(class)] += 1);
    let mut line = one_line(name);
    for (class, count) in classes.iter().zip(counts).filter(|(_, count)| *count > 0) {
        let share = count as f64 / mask.values.len() as f64;
        line += &format!("\t{} {share:.4}", one_line(class));
    }
    line
}

fn json_line(name: &str, mask: &Mask, classes: &[String]) -> Value {
    let rows: Vec<&[u8]> = mask.values.chunks(mask.width.max(1)).collect();
    json!({ "file": name, "classes": classes, "mask": rows })
}

/// Where masks go.
struct MaskFiles {
    /// The file of each picture's mask.
    paths: Vec<PathBuf>,
    /// The value of each class.
    values: Vec<u8>,
}

impl MaskFiles {
    /// Makes the folders and says in `classes.txt` what the classes are called.
    fn plan(folder: &Path, source: &str, names: &[String], classes: &[String]) -> Result<Self> {
        let mut paths: Vec<PathBuf> = Vec::with_capacity(names.len());
        let mut owners: HashMap<PathBuf, &str> = HashMap::new();
        for name in names {
            let path = folder.join(mask_name(source, name));
            if let Some(other) = owners.insert(path.clone(), name) {
                let what = format!("{name} and {other} would have one mask, {}: rename one", path.display());
                return Err(Error::Training(what));
            }
            if let (Ok(mask), Ok(picture)) = (fs::canonicalize(&path), fs::canonicalize(name))
                && mask == picture
            {
                return Err(Error::Training(format!("{name}: its mask would take its place: give another folder")));
            }
            paths.push(path);
        }
        files::make_folder(folder)?;
        for path in &paths {
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent).map_err(|e| Error::io("make the folder", parent, &e))?;
        }
        let values: Option<Vec<u8>> = classes.iter().map(|class| class.parse().ok()).collect();
        if values.is_none() {
            files::write_atomically(&folder.join("classes.txt"), (classes.join("\n") + "\n").as_bytes())?;
        }
        let values = values.unwrap_or_else(|| (0..classes.len()).map(|class| class as u8).collect());
        Ok(Self { paths, values })
    }

    fn write(&self, place: usize, mask: &Mask) -> Result<()> {
        let path = &self.paths[place];
        let pixels = mask.values.iter().map(|&class| self.values[usize::from(class)]).collect();
        let picture = Picture::new(mask.height, mask.width, Colour::Grey, pixels)
            .ok_or_else(|| Error::Training(format!("{}: a mask without pixels", path.display())))?;
        files::write_atomically(path, &encode_png(&picture))
    }
}

/// The path of a picture's mask in the folder of masks: that of the picture below its source, with the ending of PNG.
fn mask_name(source: &str, name: &str) -> PathBuf {
    let source = Path::new(source);
    let root = if source.is_dir() { source } else { source.parent().unwrap_or(Path::new("")) };
    let below = Path::new(name).strip_prefix(root).unwrap_or(Path::new(name));
    // Nothing leads out of the folder.
    let normal = |part: Component| match part {
        Component::Normal(part) => Some(part.to_string_lossy().replace(':', "-")),
        _ => None,
    };
    let path: PathBuf = below.components().filter_map(normal).collect();
    let has_ending = |ending: &str| PICTURE_ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending));
    let stem = match path.extension().and_then(|ending| ending.to_str()) {
        Some(ending) if has_ending(ending) => path.with_extension(""),
        _ => path,
    };
    let mut whole = stem.into_os_string();
    whole.push(".png");
    whole.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<String> {
        ["sea", "a\tsky", "land"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_picture_is_a_line_of_shares_or_rows_of_classes() {
        let mask = Mask { height: 2, width: 4, values: vec![0, 0, 0, 1, 1, 0, 0, 0] };
        assert_eq!(plain("x\ny", &mask, &classes()), "x y\tsea 0.7500\ta sky 0.2500");
        let expected = r#"{"file":"x","classes":["sea","a\tsky","land"],"mask":[[0,0,0,1],[1,0,0,0]]}"#;
        let read: Value = serde_json::from_str(expected).expect("json");
        assert_eq!(json_line("x", &mask, &classes()), read);
    }

    #[test]
    fn masks_are_called_after_their_pictures_and_stay_in_their_folder() {
        let name = |source, name| mask_name(source, name).to_string_lossy().replace('\\', "/");
        assert_eq!(name("list.csv", "a/b.c.jpg"), "a/b.c.png");
        assert_eq!(name("data/list.csv", "data/a.JPEG"), "a.png");
        assert_eq!(name("data/list.csv", "../../etc/a"), "etc/a.png");
        assert_eq!(name("data/list.csv", "/b/a.v2"), "b/a.v2.png");
        assert_eq!(name("builtin:scenes", "builtin:scenes:test:7"), "builtin-scenes-test-7.png");
    }
}
