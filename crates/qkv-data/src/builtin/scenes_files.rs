//! `builtin:scenes` as files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rayon::prelude::*;

use super::Part;
use super::scenes::{SCENE_CLASSES, Scene, SceneOptions, check, scene};
use crate::error::{Error, Result};
use crate::image::{Colour, Picture, encode_png};
use crate::source::Source;

/// The parts and what their folders are called.
const PARTS: [(Part, &str); 3] = [(Part::Train, "train"), (Part::Dev, "dev"), (Part::Test, "test")];

/// Scenes drawn before they are written: as many are in memory at once.
const AT_ONCE: usize = 1024;

/// Draws scenes into the folder `folder`, which is made and must be empty: `images/train/00000.png` and so on, the classes
/// of their pixels in `masks/` under the same names, what the classes are called in `classes.txt`, and in `manifest.csv` the
/// columns `image`, `mask`, `text` (the description), `question`, `answer` and `split`. Tells how many there are.
///
/// # Errors
///
/// What the operating system refuses, a folder that is not empty, and a size of fewer than 24 or more than 512 pixels.
pub fn write_scenes(folder: impl AsRef<Path>, options: &SceneOptions) -> Result<usize> {
    check(options)?;
    let folder = folder.as_ref();
    let name = Source::from(folder).name();
    let made = fs::create_dir_all(folder).and_then(|()| fs::read_dir(folder));
    if made.map_err(|source| Error::io(&name, source))?.next().is_some() {
        return Err(Error::unusable(&name, "is not empty", "name a new folder"));
    }
    let mut manifest = "image,mask,text,question,answer,split\n".to_owned();
    let mut total = 0;
    for (part, part_name) in PARTS {
        for kind in ["images", "masks"] {
            let path = folder.join(kind).join(part_name);
            fs::create_dir_all(&path).map_err(|source| Error::io(&Source::from(&path).name(), source))?;
        }
        for first in (0..options.count(part)).step_by(AT_ONCE) {
            let indices = first..options.count(part).min(first + AT_ONCE);
            let written = |index: usize| write_one(folder, part_name, index, &scene(options, part, index)?);
            let lines: Vec<Result<String>> = indices.into_par_iter().map(written).collect();
            for line in lines {
                manifest.push_str(&line?);
                total += 1;
            }
        }
    }
    write(&folder.join("classes.txt"), (SCENE_CLASSES.join("\n") + "\n").as_bytes())?;
    write(&folder.join("manifest.csv"), manifest.as_bytes())?;
    Ok(total)
}

/// Writes picture and mask of a scene; its line of the manifest.
fn write_one(folder: &Path, part: &str, index: usize, scene: &Scene) -> Result<String> {
    let (image, mask) = (format!("images/{part}/{index:05}.png"), format!("masks/{part}/{index:05}.png"));
    write(&folder.join(&image), &encode_png(&scene.picture))?;
    let values = Picture::new(scene.picture.height(), scene.picture.width(), Colour::Grey, scene.mask.clone());
    if let Some(values) = values {
        write(&folder.join(&mask), &encode_png(&values))?;
    }
    let mut line = String::new();
    // Of what scenes say only descriptions have a comma, and nothing has a quotation mark.
    let Scene { description, question, answer, .. } = scene;
    // Writing to a string cannot fail.
    let _ = writeln!(line, "{image},{mask},\"{description}\",{question},{answer},{part}");
    Ok(line)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|source| Error::io(&Source::from(path).name(), source))
}
