//! Pictures in memory, and their patches.
//!
//! ```text
//! picture [height, width, channels] of bytes
//!   -> cut into squares of `patch` pixels, from the top left; what is missing at the right and at the bottom is zero
//!   -> vector of square (row, column) = its pixels, [patch, patch, channels], each (byte / 255 - mean) / deviation
//!   -> set of [rows * columns] vectors, row by row
//! ```
//!
//! A picture is kept as bytes, a quarter of what its vectors take, and cut when a batch asks for it. What is filled in at
//! the edge is zero *after* mean and deviation: the mean colour of the data, which says nothing.

use qkv::Offsets;
use qkv::random::Key;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::augment::{AugmentOptions, Warp, covered, light};
use super::{Colour, Picture};
use crate::error::{Error, Result};

/// The most patches of one picture.
pub const MAX_PATCHES: usize = 1 << 16;

/// The most bytes that the pictures of a data set may have together.
const MAX_STORED_BYTES: usize = 1 << 33;

/// The largest patch, in pixels to a side: as a vector it has 3 · 65536 numbers at most.
const MAX_PATCH: usize = 256;

/// How pictures are cut into vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PatchOptions {
    /// Pixels to a side of a patch; 1 makes a vector of every pixel.
    pub patch: usize,
    /// What is subtracted from the numbers and what they are divided by. `None`: they are from 0 to 1.
    pub standard: Option<Standard>,
}

impl Default for PatchOptions {
    fn default() -> Self {
        Self { patch: 4, standard: None }
    }
}

/// Mean and deviation of each channel's numbers, which are from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standard {
    /// The mean, `[channels]`.
    pub mean: Vec<f32>,
    /// The standard deviation, `[channels]`, above zero.
    pub deviation: Vec<f32>,
}

/// Some pictures, packed: all their patches end to end.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchBatch {
    /// The vectors, `[tokens, width]`.
    pub values: Vec<f32>,
    /// Numbers in a vector, `patch * patch * channels`.
    pub width: usize,
    /// Which vectors are which picture's.
    pub offsets: Offsets,
    /// Rows and columns of each picture's patches.
    pub grids: Vec<(usize, usize)>,
}

/// Pictures of one colour and of any sizes, kept as bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures {
    colour: Colour,
    options: PatchOptions,
    /// Height and width of each.
    sizes: Vec<(usize, usize)>,
    /// Where in `pixels` each begins; one more than there are pictures.
    starts: Vec<usize>,
    pixels: Vec<u8>,
}

impl Pictures {
    /// A store of no pictures yet.
    ///
    /// # Errors
    ///
    /// A patch of no pixels or of more than 256 to a side, and a mean and deviation for another number of channels, or of
    /// which one is not finite or a deviation not above zero.
    pub fn new(colour: Colour, options: PatchOptions) -> Result<Self> {
        check_patch(options.patch)?;
        let pictures = Self { colour, options: PatchOptions { standard: None, ..options }, ..Self::empty() };
        match options.standard {
            Some(standard) => pictures.with_standard(standard),
            None => Ok(pictures),
        }
    }

    fn empty() -> Self {
        let options = PatchOptions::default();
        Self { colour: Colour::Grey, options, sizes: Vec::new(), starts: vec![0], pixels: Vec::new() }
    }

    /// The same pictures, their vectors by that mean and deviation.
    ///
    /// # Errors
    ///
    /// As in [`new`](Self::new).
    pub fn with_standard(mut self, standard: Standard) -> Result<Self> {
        let channels = self.channels();
        let fits = standard.mean.len() == channels && standard.deviation.len() == channels;
        let sound = standard.mean.iter().all(|mean| mean.is_finite())
            && standard.deviation.iter().all(|&deviation| deviation.is_finite() && deviation > 0.0);
        if !fits || !sound {
            let what = format!("is no mean and deviation for pixels of {channels} numbers");
            let mend = format!("give {channels} finite means and as many deviations above 0, or none");
            return Err(Error::unusable("input.standard", what, mend));
        }
        self.options.standard = Some(standard);
        Ok(self)
    }

    /// Adds a picture; `name` is for messages.
    ///
    /// # Errors
    ///
    /// A picture of another colour, one of more than [`MAX_PATCHES`] patches, and more than 8 gigabytes of pictures.
    pub fn push(&mut self, name: &str, picture: &Picture) -> Result<()> {
        if picture.colour() != self.colour {
            let (own, others) = (picture.channels(), self.channels());
            let what = format!("has {own} numbers for each pixel, and the pictures before it have {others}");
            return Err(Error::unusable(name, what, "set input.colour to grey or rgb"));
        }
        self.push_bytes(name, picture.height(), picture.width(), picture.pixels())
    }

    /// Adds a picture of `pixels` `[height, width, channels]`.
    pub(super) fn push_bytes(&mut self, name: &str, height: usize, width: usize, pixels: &[u8]) -> Result<()> {
        debug_assert_eq!(pixels.len(), height * width * self.channels());
        check_patches(name, height, width, self.options.patch)?;
        check_stored(name, self.pixels.len() + pixels.len())?;
        self.pixels.extend_from_slice(pixels);
        self.starts.push(self.pixels.len());
        self.sizes.push((height, width));
        Ok(())
    }

    /// How many pictures there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// What a pixel is made of.
    #[must_use]
    pub fn colour(&self) -> Colour {
        self.colour
    }

    /// Numbers of a pixel, 1 or 3.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.colour.channels()
    }

    /// How pictures are cut.
    #[must_use]
    pub fn options(&self) -> &PatchOptions {
        &self.options
    }

    /// Numbers in a vector: `patch * patch * channels`.
    #[must_use]
    pub fn width(&self) -> usize {
        self.options.patch * self.options.patch * self.channels()
    }

    /// Height and width of a picture, in pixels.
    ///
    /// # Panics
    ///
    /// If there is no such picture; so do the other functions of one picture.
    #[must_use]
    pub fn size(&self, picture: usize) -> (usize, usize) {
        self.sizes[picture]
    }

    /// Rows and columns of a picture's patches.
    #[must_use]
    pub fn grid(&self, picture: usize) -> (usize, usize) {
        let (height, width) = self.sizes[picture];
        grid(height, width, self.options.patch)
    }

    /// How many vectors each picture has, for [`plan_epoch`](crate::plan_epoch).
    #[must_use]
    pub fn lengths(&self) -> Vec<usize> {
        (0..self.len()).map(|picture| self.grid(picture)).map(|(rows, columns)| rows * columns).collect()
    }

    /// A picture's bytes, `[height, width, channels]`.
    #[must_use]
    pub fn pixels(&self, picture: usize) -> &[u8] {
        &self.pixels[self.starts[picture]..self.starts[picture + 1]]
    }

    /// Mean and deviation of each channel over the pictures `indices`, such as the training part.
    ///
    /// Exact sums of whole numbers. A channel that is the same everywhere has a deviation of 1, so that dividing by it does
    /// nothing; without a pixel they are 0 and 1.
    #[must_use]
    pub fn standard(&self, indices: &[usize]) -> Standard {
        let channels = self.channels();
        let counted = |&picture: &usize| {
            let mut counts = vec![[0_u64; 256]; channels];
            for pixel in self.pixels(picture).chunks_exact(channels) {
                pixel.iter().zip(&mut counts).for_each(|(&value, counts)| counts[usize::from(value)] += 1);
            }
            counts
        };
        let none = || vec![[0_u64; 256]; channels];
        let added = |mut sum: Vec<[u64; 256]>, counts: Vec<[u64; 256]>| {
            sum.iter_mut().flatten().zip(counts.iter().flatten()).for_each(|(sum, count)| *sum += count);
            sum
        };
        let counts = indices.par_iter().map(counted).reduce(none, added);
        let (mean, deviation) = counts.iter().map(moments).unzip();
        Standard { mean, deviation }
    }

    /// The pictures `indices`, packed in that order, changed as `augment` says.
    ///
    /// What is drawn for a picture is a function of the key and of its index here, so a key for each epoch gives each picture
    /// another variation in each. The same bits with any number of threads.
    ///
    /// # Panics
    ///
    /// If an index is not below [`len`](Self::len).
    #[must_use]
    pub fn batch(&self, indices: &[usize], augment: Option<(&AugmentOptions, Key)>) -> PatchBatch {
        let grids: Vec<(usize, usize)> = indices.iter().map(|&picture| self.grid(picture)).collect();
        let offsets = Offsets::from_lengths(grids.iter().map(|(rows, columns)| rows * columns));
        let mut values = vec![0.0; offsets.tokens() * self.width()];
        let mut rest = values.as_mut_slice();
        let mut places = Vec::with_capacity(indices.len());
        for (set, &picture) in indices.iter().enumerate() {
            let (own, others) = rest.split_at_mut(offsets.len_of(set) * self.width());
            places.push((picture, own));
            rest = others;
        }
        let augment = augment.filter(|(options, _)| !options.is_none());
        let table = self.table();
        places.into_par_iter().for_each(|(picture, out)| match augment {
            None => self.cut(picture, self.pixels(picture), out, |channel, byte| table[channel][usize::from(byte)]),
            Some((options, key)) => self.cut_varied(picture, options, key.fold(picture as u64), out),
        });
        PatchBatch { values, width: self.width(), offsets, grids }
    }

    /// The vectors of a picture that is changed.
    fn cut_varied(&self, picture: usize, options: &AugmentOptions, key: Key, out: &mut [f32]) {
        let (height, width) = self.sizes[picture];
        let channels = self.channels();
        let mut seen = Vec::with_capacity(height * width * channels);
        Warp::draw(options, key, height, width).picture(self.pixels(picture), channels, &mut seen);
        light(options, key, &mut seen);
        let scales: Vec<(f32, f32)> = (0..channels).map(|channel| self.scale(channel)).collect();
        for pixel in seen.chunks_exact_mut(channels) {
            pixel.iter_mut().zip(&scales).for_each(|(value, (factor, added))| *value = *value * factor + added);
        }
        if let Some((rows, columns)) = covered(options, key, height, width) {
            for y in rows {
                let row = &mut seen[y * width * channels..][..width * channels];
                row[columns.start * channels..columns.end * channels].fill(0.0);
            }
        }
        self.cut(picture, &seen, out, |_, value| value);
    }

    /// Cuts `pixels` `[height, width, channels]` of a picture into the vectors `out`, which are zero.
    fn cut<T: Copy>(&self, picture: usize, pixels: &[T], out: &mut [f32], value: impl Fn(usize, T) -> f32) {
        let (channels, patch, width) = (self.channels(), self.options.patch, self.sizes[picture].1);
        let columns = self.grid(picture).1;
        for (y, row) in pixels.chunks_exact(width * channels).enumerate() {
            let squares = &mut out[y / patch * columns * self.width()..];
            // What one row of pixels has in one square stands together there as here.
            for (column, piece) in row.chunks(patch * channels).enumerate() {
                let place = column * self.width() + y % patch * patch * channels;
                for (pixel, to) in piece.chunks_exact(channels).zip(squares[place..].chunks_exact_mut(channels)) {
                    to.iter_mut().zip(pixel).enumerate().for_each(|(channel, (to, &from))| *to = value(channel, from));
                }
            }
        }
    }

    /// What a byte of a channel is multiplied by, and what is added then.
    fn scale(&self, channel: usize) -> (f32, f32) {
        match &self.options.standard {
            None => (1.0 / 255.0, 0.0),
            Some(standard) => {
                let (mean, deviation) = (standard.mean[channel], standard.deviation[channel]);
                (1.0 / (255.0 * deviation), -mean / deviation)
            }
        }
    }

    /// The number that stands for each byte, `[channels][256]`.
    fn table(&self) -> Vec<[f32; 256]> {
        let of_channel = |channel| {
            let (factor, added) = self.scale(channel);
            std::array::from_fn(|byte| byte as f32 * factor + added)
        };
        (0..self.channels()).map(of_channel).collect()
    }
}

/// Rows and columns of squares of `patch` pixels that cover a picture.
pub(super) fn grid(height: usize, width: usize, patch: usize) -> (usize, usize) {
    (height.div_ceil(patch), width.div_ceil(patch))
}

/// Whether patches can be of that size.
pub(super) fn check_patch(patch: usize) -> Result<()> {
    if (1..=MAX_PATCH).contains(&patch) {
        return Ok(());
    }
    let what = format!("patches of {patch} pixels to a side cannot be made");
    Err(Error::unusable("input.patch", what, format!("give a number from 1 to {MAX_PATCH}")))
}

/// Whether a picture has few enough patches.
pub(super) fn check_patches(name: &str, height: usize, width: usize, patch: usize) -> Result<()> {
    let (rows, columns) = grid(height, width, patch);
    let count = rows * columns;
    if count <= MAX_PATCHES {
        return Ok(());
    }
    let what =
        format!("has {width} x {height} pixels, {count} patches of {patch} to a side; {MAX_PATCHES} is the most");
    Err(Error::unusable(name, what, "bring it to a smaller size with input.resize, or set a larger input.patch"))
}

/// Whether so many bytes of pictures can be kept.
pub(super) fn check_stored(name: &str, bytes: usize) -> Result<()> {
    if bytes <= MAX_STORED_BYTES {
        return Ok(());
    }
    let what = format!("the pictures up to here have more than {} gigabytes of pixels", MAX_STORED_BYTES >> 30);
    Err(Error::unusable(name, what, "bring them to a smaller size with input.resize, or give fewer"))
}

/// Mean and deviation of numbers from 0 to 1, given how often each 255th of them comes.
fn moments(counts: &[u64; 256]) -> (f32, f32) {
    let power = |power: u32| -> f64 {
        counts.iter().enumerate().map(|(byte, &count)| (byte as f64).powi(power as i32) * count as f64).sum()
    };
    let count = power(0);
    if count == 0.0 {
        return (0.0, 1.0);
    }
    let mean = power(1) / count;
    let variance = power(2) / count - mean * mean;
    // Less than a hundredth of the smallest step is the rounding of the sums.
    let deviation = if variance < 1e-4 { 1.0 } else { variance.sqrt() / 255.0 };
    ((mean / 255.0) as f32, deviation as f32)
}

#[cfg(test)]
mod tests;
