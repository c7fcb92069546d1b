//! Reads recordings, and what is known of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qkv_data::audio::{FrameOptions, RecordingOptions, SOUND_ENDINGS, read_recordings};
use qkv_data::listing::{Listed, list_files};
use qkv_data::{LabelledText, Source};

use super::Wants;
use super::media::Media;
use super::pictures::list_options;
use super::reader::{Item, Purpose, Read};
use super::sounds::{Recorded, from_stdin, join_options, needs_samples};
use super::tracks::Tracks;
use crate::error::{Error, Result};
use crate::recipe::Recipe;

/// Reads recordings, and their tracks if they are wanted.
pub(super) fn read(recipe: &Recipe, path: &str, frames: &FrameOptions, purpose: Purpose) -> Result<Read> {
    let wanted = purpose.wanted;
    if path == "-" && wanted == Wants::Nothing {
        let labelled = LabelledText { text: "standard input".into(), label: None, line: 1, group: None };
        let recorded = Recorded { recordings: Arc::new(vec![from_stdin(frames)?]), tracks: None };
        return Ok(Read {
            items: vec![Item { labelled, file: path.to_string(), targets: Vec::new(), part: None }],
            media: Media::Sounds(recorded),
        });
    }
    if path == "-" {
        return Err(Error::Training(
            "standard input: a recording from it can be answered by `predict`, not trained on or judged by: name a folder or a manifest".into(),
        ));
    }
    if let Source::Builtin(name) = Source::parse(path) {
        return Err(Error::Training(format!(
            "builtin:{name}: holds no sound: name a folder or a manifest of recordings"
        )));
    }
    read_files(recipe, path, files(recipe, path, purpose)?, frames, purpose)
}

/// The files of recordings.
pub(super) fn files(recipe: &Recipe, path: &str, purpose: Purpose) -> Result<Vec<Listed>> {
    let (wanted, joins) = (purpose.wanted, join_options(recipe).is_some());
    let mut list = list_options(recipe, purpose, wanted == Wants::Labels || (joins && wanted == Wants::Texts));
    list.endings = SOUND_ENDINGS;
    Ok(list_files(path, &list)?)
}

/// Reads some of these files.
pub(super) fn read_files(
    recipe: &Recipe,
    path: &str,
    files: Vec<Listed>,
    frames: &FrameOptions,
    purpose: Purpose,
) -> Result<Read> {
    let (wanted, joins) = (purpose.wanted, join_options(recipe).is_some());
    let options = RecordingOptions {
        samples: wanted != Wants::Nothing && needs_samples(recipe, purpose.trains),
        ..RecordingOptions::default()
    };
    let never = AtomicBool::new(false);
    let recordings = read_recordings(&files, frames, &options, &|_| {}, &never)?.unwrap_or_default();
    let between = (recipe.data.background.as_deref(), recipe.input.convolutions);
    let tracks = match wanted {
        Wants::Each => Some(Arc::new(Tracks::read(path, &files, &recordings, between)?)),
        _ => None,
    };
    let item = |(place, file): (usize, Listed)| {
        let name = file.name();
        let label = match wanted {
            // Of strings the text is made of the labels.
            Wants::Texts if !joins => Some(file.text.or(file.label).ok_or_else(|| {
                Error::Training(format!("{path}: {name} has no text: give a manifest with a column `text`, or name the column by data.text, and fill it in each line"))
            })?),
            _ => file.label,
        };
        let labelled = LabelledText { text: name.clone(), label, line: place + 1, group: None };
        Ok(Item { labelled, file: name, targets: Vec::new(), part: file.part })
    };
    let items = files.into_iter().enumerate().map(item).collect::<Result<_>>()?;
    Ok(Read { items, media: Media::Sounds(Recorded { recordings: Arc::new(recordings), tracks }) })
}
