//! What the recipe says of pictures.

use qkv_data::image::{self, AugmentOptions, PatchOptions, PictureOptions};
use qkv_data::listing::ListOptions;

use super::Wants;
use super::reader::Purpose;
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
        options.columns.label = data.label.clone();
    }
    options.scenes.train = data.builtin_count;
    options.columns.text =
        data.text.clone().filter(|_| wanted != Wants::Nothing || recipe.input.kind == InputKind::ImageText);
    options
}
