//! Pictures whose pixels are names: which class each pixel of another picture belongs to.
//!
//! The number of a pixel is the class, whether it is a grey value or an index into a palette; colours are not read, for
//! many colours could be the same class. Classes are numbered from 0 in the order of a `classes.txt`, whose line k names
//! value k, or else in the order of the values that there are, which are then their own names.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat};
use qkv::gather::NONE;
use qkv::random::Key;
use rayon::prelude::*;

use super::augment::{AugmentOptions, Warp};
use super::decode::{check_size, decode, format_of, one_line};
use super::patches::{Pictures, grid};
use super::resize;
use crate::error::{Error, Result, quote};
use crate::source::Source;

/// The value of pixels that have no class, where `classes.txt` names the classes and does not name 255; kept in a
/// [`Masks`] for the same.
pub const NO_CLASS: u8 = 255;

/// The values of a mask, as its file has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// The values, `[height, width]`.
    pub values: Vec<u8>,
}

impl Mask {
    /// The mask at another size: each pixel the one that its centre falls on.
    #[must_use]
    pub fn resized(self, height: usize, width: usize) -> Self {
        if (height, width) == (self.height, self.width) {
            return self;
        }
        Self { values: resize::nearest(&self.values, [self.height, self.width], height, width), height, width }
    }

    /// The mask of `height` rows of `width` pixels that patches make, as [`Masks::pixel_targets`] has them: `classes`
    /// `[patches, patch, patch]`, of which those beyond the edge are left out.
    ///
    /// # Panics
    ///
    /// If `patch` is 0, or there are not as many classes as such patches have pixels.
    #[must_use]
    pub fn of_patches(classes: &[u8], height: usize, width: usize, patch: usize) -> Self {
        let (rows, columns) = grid(height, width, patch);
        assert_eq!(classes.len(), rows * columns * patch * patch, "classes of {height} x {width} pixels");
        let mut values = vec![0; height * width];
        for (row, strip) in classes.chunks(columns * patch * patch).enumerate() {
            for (column, square) in strip.chunks(patch * patch).enumerate() {
                let (left, kept) = (column * patch, patch.min(width - column * patch));
                for (y, line) in (row * patch..height).zip(square.chunks(patch)) {
                    values[y * width + left..][..kept].copy_from_slice(&line[..kept]);
                }
            }
        }
        Self { height, width, values }
    }
}

/// The mask in `bytes`; `name` is for messages.
///
/// # Errors
///
/// What [`decode_picture`](super::decode_picture) refuses; a JPEG, whose values are only about right; a picture with
/// colours; and values above 255.
pub fn decode_mask(bytes: &[u8], name: &str) -> Result<Mask> {
    const SAVE: &str = "save the mask as PNG, the value of a pixel its class";
    match format_of(bytes, name)? {
        ImageFormat::Png => decode_png(bytes, name),
        ImageFormat::Jpeg => Err(Error::unusable(name, "is a JPEG, which does not keep values as they were", SAVE)),
        format => grey_values(decode(bytes, format, name)?, name),
    }
}

/// A PNG file's numbers as they stand there: the image crate would give a palette's colours for them.
fn decode_png(bytes: &[u8], name: &str) -> Result<Mask> {
    use png::{BitDepth, ColorType};

    let damaged = |error: png::DecodingError| {
        let what = format!("is a damaged or cut off picture ({})", one_line(&error));
        Error::unusable(name, what, "fetch it again, or take it out")
    };
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let header = decoder.read_header_info().map_err(damaged)?;
    let (height, width) = (header.height as usize, header.width as usize);
    check_size(height, width, name)?;
    let (kind, depth) = (header.color_type, header.bit_depth);
    if !matches!(kind, ColorType::Grayscale | ColorType::Indexed) || depth == BitDepth::Sixteen {
        return grey_values(decode(bytes, ImageFormat::Png, name)?, name);
    }
    let mut reader = decoder.read_info().map_err(damaged)?;
    // One byte for each pixel is the most that they can take; whole bytes for each row of them.
    let mut packed = vec![0; reader.output_buffer_size().unwrap_or(0)];
    let frame = reader.next_frame(&mut packed).map_err(damaged)?;
    let bits = depth as usize;
    let value = |row: &[u8], x: usize| {
        let bit = x * bits;
        // From the highest bit down, in the order of the pixels.
        (row[bit / 8] >> (8 - bits - bit % 8)) & (0xff >> (8 - bits))
    };
    let rows = packed.chunks_exact(frame.line_size).take(height);
    let values = rows.flat_map(|row| (0..width).map(move |x| value(row, x))).collect();
    Ok(Mask { height, width, values })
}

/// The values of a picture that turns out to be grey, whatever it is saved as.
fn grey_values(image: DynamicImage, name: &str) -> Result<Mask> {
    let (height, width) = (image.height() as usize, image.width() as usize);
    let refused = |what: &str| {
        let mend = "save it as PNG with a palette or in grey, the value of a pixel its class";
        Error::unusable(name, what, mend)
    };
    let values: Option<Vec<u8>> = match image {
        DynamicImage::ImageLuma16(pixels) => pixels.iter().map(|&value| u8::try_from(value).ok()).collect(),
        DynamicImage::ImageLuma8(pixels) => Some(pixels.into_raw()),
        DynamicImage::ImageLumaA8(pixels) => Some(pixels.pixels().map(|pixel| pixel.0[0]).collect()),
        DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_) => {
            let pixels = image.into_rgb8();
            if pixels.pixels().any(|pixel| pixel.0 != [pixel.0[0]; 3]) {
                return Err(refused("has colours, and the pixel of a mask is one number"));
            }
            Some(pixels.pixels().map(|pixel| pixel.0[0]).collect())
        }
        _ => return Err(refused("is a mask of more than 8 bits for each number")),
    };
    let values = values.ok_or_else(|| refused("has values above 255"))?;
    Ok(Mask { height, width, values })
}

/// A class for each pixel of each of some [`Pictures`], of the same sizes and in the same order.
#[derive(Debug, Clone, PartialEq)]
pub struct Masks {
    classes: Vec<String>,
    /// Whether a list named them, and not their values.
    listed: bool,
    sizes: Vec<(usize, usize)>,
    starts: Vec<usize>,
    values: Vec<u8>,
}

impl Masks {
    /// The masks with the classes `names`, if there are any, or otherwise named by the values that they hold.
    ///
    /// Masks come with their names, for messages. With `names` a pixel of [`NO_CLASS`] that they do not name has no class.
    ///
    /// # Errors
    ///
    /// A value that `names` do not name, and more than 255 classes.
    pub fn new(masks: &[(String, Mask)], names: Option<&[String]>) -> Result<Self> {
        let mut seen = [false; 256];
        masks.iter().flat_map(|(_, mask)| &mask.values).for_each(|&value| seen[usize::from(value)] = true);
        let found: Vec<u8> = (0..=255).filter(|&value| seen[usize::from(value)]).collect();
        let classes = match names {
            Some(names) => names.to_vec(),
            None => found.iter().map(u8::to_string).collect(),
        };
        if classes.len() > usize::from(NO_CLASS) {
            let what = format!("there are {} classes; 255 is the most", classes.len());
            let mend = "give masks whose values are classes, not shades";
            return Err(Error::unusable(masks.first().map_or("masks", |(name, _)| name), what, mend));
        }
        let mut ids = [None; 256];
        match names {
            Some(names) => {
                (0..names.len()).for_each(|id| ids[id] = Some(id as u8));
                ids[usize::from(NO_CLASS)] = Some(NO_CLASS);
            }
            None => found.iter().enumerate().for_each(|(id, &value)| ids[usize::from(value)] = Some(id as u8)),
        }
        let listed = names.is_some();
        let mut built = Self { classes, listed, sizes: Vec::new(), starts: vec![0], values: Vec::new() };
        for (name, mask) in masks {
            for &value in &mask.values {
                let Some(id) = ids[usize::from(value)] else {
                    let what = format!("has pixels of value {value}, and {} classes are named", built.classes.len());
                    return Err(Error::unusable(name, what, "name the class in classes.txt, line 1 for value 0"));
                };
                built.values.push(id);
            }
            built.starts.push(built.values.len());
            built.sizes.push((mask.height, mask.width));
        }
        Ok(built)
    }

    /// The same masks with their classes numbered as in `classes`, by name; those that are not among them come behind.
    ///
    /// Where no list named the classes of these masks, and `classes` are not themselves called by their values, value k is
    /// `classes[k]`, and [`NO_CLASS`] none: as if `classes` were the list.
    ///
    /// # Errors
    ///
    /// More than 255 classes in all; `name` is for the message.
    pub fn with_classes(mut self, classes: &[String], name: &str) -> Result<Self> {
        if self.classes == classes {
            return Ok(self);
        }
        let value = |class: &String| class.parse::<u8>().ok();
        let by_value = !self.listed && !classes.iter().all(|class| value(class).is_some());
        let mut all = classes.to_vec();
        let mut ids = Vec::with_capacity(self.classes.len());
        for class in self.classes {
            let of_value =
                || value(&class).filter(|&id| by_value && (id == NO_CLASS || usize::from(id) < classes.len()));
            let id = classes.iter().position(|known| *known == class).or_else(|| of_value().map(usize::from));
            ids.push(id.unwrap_or(all.len()) as u8);
            if id.is_none() {
                all.push(class);
            }
            if all.len() > usize::from(NO_CLASS) {
                let what =
                    format!("has classes beside the {} that are known, 255 in all being the most", classes.len());
                return Err(Error::unusable(name, what, "give masks of the classes that were learned"));
            }
        }
        // A class that has no id of its own is none.
        self.values.iter_mut().for_each(|id| *id = ids.get(usize::from(*id)).copied().unwrap_or(NO_CLASS));
        (self.classes, self.listed) = (all, true);
        Ok(self)
    }

    /// What the classes are called.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How many masks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// The class of each pixel of one picture, `[height, width]`; [`NO_CLASS`] where there is none.
    ///
    /// # Panics
    ///
    /// If there is no such picture.
    #[must_use]
    pub fn mask(&self, picture: usize) -> &[u8] {
        &self.values[self.starts[picture]..self.starts[picture + 1]]
    }

    /// The class of each vector of the batch that [`Pictures::batch`] makes of the same `indices`, `augment` and patch,
    /// `[tokens]`: that of most of its pixels, of several as frequent the first; [`NONE`] where no pixel has a class. Pixels
    /// beyond the edge do not count.
    ///
    /// # Panics
    ///
    /// If an index is not below [`len`](Self::len), or `patch` is 0.
    #[must_use]
    pub fn targets(&self, indices: &[usize], patch: usize, augment: Option<(&AugmentOptions, Key)>) -> Vec<u32> {
        self.of_pictures(indices, augment, |mask, height, width| patch_classes(mask, height, width, patch))
    }

    /// The class of each pixel of each vector of the same batch, `[tokens, patch, patch]`; [`NONE`] where a pixel has no class
    /// or lies beyond the edge.
    ///
    /// # Panics
    ///
    /// As [`targets`](Self::targets).
    #[must_use]
    pub fn pixel_targets(&self, indices: &[usize], patch: usize, augment: Option<(&AugmentOptions, Key)>) -> Vec<u32> {
        self.of_pictures(indices, augment, |mask, height, width| pixel_classes(mask, height, width, patch))
    }

    /// What `found` makes of the mask of each picture as it is seen, of which it gets height and width, end to end.
    fn of_pictures(
        &self,
        indices: &[usize],
        augment: Option<(&AugmentOptions, Key)>,
        found: impl Fn(&[u8], usize, usize) -> Vec<u32> + Sync,
    ) -> Vec<u32> {
        let of_picture = |&picture: &usize| {
            let (height, width) = self.sizes[picture];
            let Some((options, key)) = augment else { return found(self.mask(picture), height, width) };
            let mut seen = Vec::with_capacity(height * width);
            Warp::draw(options, key.fold(picture as u64), height, width).mask(self.mask(picture), &mut seen);
            found(&seen, height, width)
        };
        indices.par_iter().map(of_picture).collect::<Vec<_>>().concat()
    }

    /// Whether the masks are those of `pictures`: as many, and of the same sizes.
    #[must_use]
    pub fn fit(&self, pictures: &Pictures) -> bool {
        self.len() == pictures.len() && (0..self.len()).all(|picture| self.sizes[picture] == pictures.size(picture))
    }
}

/// The class of most pixels of each square.
fn patch_classes(mask: &[u8], height: usize, width: usize, patch: usize) -> Vec<u32> {
    let (rows, columns) = grid(height, width, patch);
    let mut counts = [0_u32; 256];
    let mut classes = Vec::with_capacity(rows * columns);
    for (top, left) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row * patch, column * patch))) {
        let square = || (top..height.min(top + patch)).flat_map(|y| &mask[y * width..][left..width.min(left + patch)]);
        square().for_each(|&class| counts[usize::from(class)] += 1);
        counts[usize::from(NO_CLASS)] = 0;
        let most = square().map(|&class| (counts[usize::from(class)], std::cmp::Reverse(class))).max();
        classes.push(match most {
            Some((1.., std::cmp::Reverse(class))) => u32::from(class),
            _ => NONE,
        });
        square().for_each(|&class| counts[usize::from(class)] = 0);
    }
    classes
}

/// The class of each pixel of each square.
fn pixel_classes(mask: &[u8], height: usize, width: usize, patch: usize) -> Vec<u32> {
    let (rows, columns) = grid(height, width, patch);
    let mut classes = Vec::with_capacity(rows * columns * patch * patch);
    for (top, left) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row * patch, column * patch))) {
        for (y, x) in (top..top + patch).flat_map(|y| (left..left + patch).map(move |x| (y, x))) {
            let class = if y < height && x < width { mask[y * width + x] } else { NO_CLASS };
            classes.push(if class == NO_CLASS { NONE } else { u32::from(class) });
        }
    }
    classes
}

/// The names in a `classes.txt`, line k for value k.
///
/// # Errors
///
/// What cannot be read as UTF-8 lines; a line without a name, a name that stands twice, and more than 255 or no names.
pub fn read_classes(path: &Path) -> Result<Vec<String>> {
    let source = Source::from(path);
    let mut lines = source.open(None)?;
    let mut names: Vec<String> = Vec::new();
    while let Some(line) = lines.next_line()? {
        let name = line.text().trim();
        let number = names.len() + 1;
        if name.is_empty() {
            let mend = format!("name the class of value {}, or take the line out if it is the last", number - 1);
            return Err(Error::malformed(&source.name(), number, "the line names no class", mend));
        }
        if let Some(other) = names.iter().position(|other| other == name) {
            let what = format!("{} stands in line {} already", quote(name), other + 1);
            return Err(Error::malformed(&source.name(), number, what, "give each class a name of its own"));
        }
        names.push(name.to_owned());
    }
    if names.is_empty() || names.len() > usize::from(NO_CLASS) {
        let what = format!("names {} classes", names.len());
        return Err(Error::unusable(&source.name(), what, "name from 1 to 255 of them, one in a line"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
