//! Pictures as sets of vectors.
//!
//! A picture is cut into square patches, and each patch, or with patches of one pixel each pixel, is a vector; the grid
//! that the patches stood in goes with them. Here belong the files that pictures come in ([`decode`], [`idx`],
//! [`masks`]), the folders and manifests that list them ([`read`]), the store that patches are cut from batch by batch
//! ([`patches`]), and the variations that training draws ([`augment`]). Which file has which label is
//! [`listing`](crate::listing)'s affair, and tensors are the trainer's.

pub mod augment;
pub mod decode;
pub mod idx;
pub mod masks;
pub mod patches;
pub mod read;
mod resize;

use serde::{Deserialize, Serialize};

pub use augment::AugmentOptions;
pub use decode::{MAX_PIXELS, decode_picture, encode_png, read_picture};
pub use masks::{Mask, Masks, decode_mask};
pub use patches::{MAX_PATCHES, PatchBatch, PatchOptions, Pictures, Standard};
pub use read::{PictureItem, PictureSet, SegmentedSet, list_pictures, read_listed, read_pictures, read_segmented};

/// What a pixel is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// One number, its brightness.
    #[serde(alias = "gray")]
    Grey,
    /// Three numbers: red, green and blue.
    Rgb,
}

impl Colour {
    /// How many numbers a pixel is made of.
    #[must_use]
    pub fn channels(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

/// How pictures are read and cut. A model keeps it, so that what it is asked later is read as what it learned from was.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PictureOptions {
    /// What pictures are turned into. `None`: grey if every picture of the data set is grey, and otherwise RGB.
    pub colour: Option<Colour>,
    /// Height and width that every picture is brought to, whatever its proportions. `None`: as it is.
    pub resize: Option<(usize, usize)>,
    /// How pictures are cut.
    pub patches: PatchOptions,
}

/// A picture in memory: `height` rows of `width` pixels, from the top left, each of 1 (grey) or 3 (red, green, blue) bytes.
///
/// It has at least one pixel and at most [`MAX_PIXELS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    colour: Colour,
    pixels: Vec<u8>,
}

impl Picture {
    /// A picture of these `pixels`, `[height, width, channels]`. `None` if their number is another, or if there are none or
    /// more than [`MAX_PIXELS`].
    #[must_use]
    pub fn new(height: usize, width: usize, colour: Colour, pixels: Vec<u8>) -> Option<Self> {
        let count = height.checked_mul(width).filter(|&count| count > 0 && count <= MAX_PIXELS)?;
        (pixels.len() == count * colour.channels()).then_some(Self { width, height, colour, pixels })
    }

    /// Pixels in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// What a pixel is made of.
    #[must_use]
    pub fn colour(&self) -> Colour {
        self.colour
    }

    /// Bytes of a pixel, 1 or 3.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.colour.channels()
    }

    /// The bytes, `[height, width, channels]`.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The picture in that colour.
    ///
    /// Grey becomes red, green and blue of the same number; these become grey by their share in brightness,
    /// `0.299 r + 0.587 g + 0.114 b` (ITU-R BT.601, what JPEG itself reckons with), rounded.
    #[must_use]
    pub fn into_colour(self, colour: Colour) -> Self {
        let pixels = match (self.colour, colour) {
            (Colour::Grey, Colour::Rgb) => self.pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
            (Colour::Rgb, Colour::Grey) => self.pixels.chunks_exact(3).map(brightness).collect(),
            _ => return self,
        };
        Self { colour, pixels, ..self }
    }

    /// The picture brought to `height` rows of `width` pixels.
    ///
    /// Each pixel of the result is a mean over the pixels that it covers, weighted by a triangle as wide as two of the
    /// coarser pixels: linear interpolation when it grows, and no pixel passed over when it shrinks.
    ///
    /// # Panics
    ///
    /// If there would be no pixel, or more than [`MAX_PIXELS`].
    #[must_use]
    pub fn resized(self, height: usize, width: usize) -> Self {
        let count = height.saturating_mul(width);
        assert!(count > 0 && count <= MAX_PIXELS, "a picture of {height} x {width} pixels");
        if (height, width) == (self.height, self.width) {
            return self;
        }
        let pixels = resize::triangle(&self.pixels, [self.height, self.width, self.channels()], height, width);
        Self { width, height, colour: self.colour, pixels }
    }
}

/// The brightness of a pixel of red, green and blue, in 65536ths: the shares add up to one.
fn brightness(pixel: &[u8]) -> u8 {
    let weighted = 19_595 * u32::from(pixel[0]) + 38_470 * u32::from(pixel[1]) + 7_471 * u32::from(pixel[2]);
    ((weighted + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_as_many_bytes_as_it_says_and_at_least_one() {
        assert!(Picture::new(1, 1, Colour::Rgb, vec![1, 2, 3]).is_some());
        assert!(Picture::new(1, 1, Colour::Rgb, vec![1]).is_none());
        assert!(Picture::new(0, 5, Colour::Grey, vec![]).is_none());
        assert!(Picture::new(usize::MAX, 3, Colour::Grey, vec![1]).is_none());
    }

    #[test]
    fn colours_go_to_their_brightness_and_grey_stays_grey() {
        let rgb = Picture::new(1, 5, Colour::Rgb, [[255; 3], [0; 3], [255, 0, 0], [0, 255, 0], [0, 0, 255]].concat());
        let grey = rgb.unwrap().into_colour(Colour::Grey);
        assert_eq!(grey.pixels(), [255, 0, 76, 150, 29]);
        let all: Vec<u8> = (0..=255).collect();
        let ramp = Picture::new(16, 16, Colour::Grey, all).unwrap();
        assert_eq!(ramp.clone().into_colour(Colour::Rgb).into_colour(Colour::Grey), ramp);
    }

    #[test]
    fn options_keep_their_names() {
        let given = r#"{"colour":"gray","resize":[8,4],"patches":{"patch":2}}"#;
        let options: PictureOptions = serde_json::from_str(given).unwrap();
        assert_eq!((options.colour, options.resize, options.patches.patch), (Some(Colour::Grey), Some((8, 4)), 2));
        let again: PictureOptions = serde_json::from_str(&serde_json::to_string(&options).unwrap()).unwrap();
        assert_eq!(again, options);
    }
}
