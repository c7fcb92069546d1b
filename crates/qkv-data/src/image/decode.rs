//! Picture files to pixels and back.
//!
//! What a file is, is told by its first bytes, never by its ending. Its size is read from its header and refused before
//! anything of that size is taken from memory. Masks, whose numbers are names and not brightness, are in
//! [`masks`](super::masks).

use std::fs::File;
use std::io::{Cursor, ErrorKind, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::{Colour, Picture, PictureOptions};
use crate::error::{Error, Result};
use crate::source::Source;

/// The most pixels that a picture may have: 64 megapixels, which take a gigabyte at most while a file is decoded.
pub const MAX_PIXELS: usize = 1 << 26;

/// A longer file is no picture that could be decoded within [`MAX_PIXELS`].
const MAX_FILE_BYTES: u64 = 1 << 30;

/// What a decoder may take beside the picture itself.
const MAX_DECODER_BYTES: u64 = 1 << 30;

/// The formats that are read.
const KNOWN: [ImageFormat; 5] =
    [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::WebP];

const CONVERT: &str = "convert it to PNG, or take it out";

/// The picture in the file `path`; see [`decode_picture`].
///
/// # Errors
///
/// What cannot be opened, and what [`decode_picture`] refuses.
pub fn read_picture(path: &Path, options: &PictureOptions) -> Result<Picture> {
    let name = Source::from(path).name();
    decode_picture(&read_bytes(path, &name)?, &name, options)
}

/// A picture file's bytes, no more than could be one.
pub(super) fn read_bytes(path: &Path, name: &str) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|source| Error::io(name, source))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|source| Error::io(name, source))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::unusable(name, "is longer than a gigabyte, too long for a picture", "take it out"));
    }
    Ok(bytes)
}

/// The picture in `bytes`: PNG, JPEG, GIF (its first frame), BMP or WebP, whatever its name ends in; `name` is for
/// messages.
///
/// Numbers of 16 bits are brought to 8, palettes to their colours. What is transparent is seen on white, as on a page; on
/// black the dark lines of a drawing without a background would vanish. A photograph is turned the way its Exif data say
/// that it was taken. Then it is resized and recoloured as `options` ask.
///
/// # Errors
///
/// Nothing at all, what is no picture of a known format, what is cut off or damaged, more than [`MAX_PIXELS`], and a size in
/// `options` of no or of more pixels.
pub fn decode_picture(bytes: &[u8], name: &str, options: &PictureOptions) -> Result<Picture> {
    check_resize(options.resize)?;
    let format = format_of(bytes, name)?;
    let mut picture = to_picture(decode(bytes, format, name)?, name)?;
    // In grey there are fewer numbers to resize.
    picture = if let Some(colour) = options.colour { picture.into_colour(colour) } else { picture };
    Ok(if let Some((height, width)) = options.resize { picture.resized(height, width) } else { picture })
}

/// Whether pictures can be brought to that size.
pub(super) fn check_resize(size: Option<(usize, usize)>) -> Result<()> {
    match size {
        Some((height, width)) if height.checked_mul(width).is_none_or(|count| count == 0 || count > MAX_PIXELS) => {
            let mend = "give a height and a width of a few hundred at most, such as [32, 32]";
            Err(Error::unusable("input.resize", format!("{height} x {width} is no size for a picture"), mend))
        }
        _ => Ok(()),
    }
}

/// The format of a file, by its first bytes.
pub(super) fn format_of(bytes: &[u8], name: &str) -> Result<ImageFormat> {
    if bytes.is_empty() {
        return Err(Error::unusable(name, "is empty", "fetch it again, or take it out"));
    }
    match image::guess_format(bytes) {
        Ok(format) if KNOWN.contains(&format) => Ok(format),
        Ok(format) => {
            let kind = format.extensions_str().first().copied().unwrap_or("other").to_uppercase();
            Err(Error::unusable(name, format!("is a picture in {kind} format, which is not read"), CONVERT))
        }
        Err(_) => Err(Error::unusable(name, "is no PNG, JPEG, GIF, BMP or WebP picture", CONVERT)),
    }
}

/// The pixels of a file, the right way up.
pub(super) fn decode(bytes: &[u8], format: ImageFormat, name: &str) -> Result<DynamicImage> {
    let damaged = |error| unreadable(name, &error);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(height as usize, width as usize, name)?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(cut_off(name));
    }
    // Metadata that cannot be read does not make the pixels any worse.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Whether a picture of that size can be decoded.
pub(super) fn check_size(height: usize, width: usize, name: &str) -> Result<()> {
    if height == 0 || width == 0 {
        return Err(Error::unusable(
            name,
            format!("is a picture of {width} x {height} pixels, which is none"),
            CONVERT,
        ));
    }
    if height.saturating_mul(width) > MAX_PIXELS {
        let what = format!("is a picture of {width} x {height} pixels; more than {MAX_PIXELS} pixels are not decoded");
        return Err(Error::unusable(name, what, "make it smaller with another program, or cut it into several"));
    }
    Ok(())
}

fn cut_off(name: &str) -> Error {
    Error::unusable(
        name,
        "is cut off: the picture's data end before the picture does",
        "fetch it again, or take it out",
    )
}

/// What a decoder refused, as one line.
fn unreadable(name: &str, error: &ImageError) -> Error {
    let mend = "fetch it again, or take it out";
    match error {
        ImageError::IoError(source) if source.kind() == ErrorKind::UnexpectedEof => cut_off(name),
        ImageError::Limits(_) => Error::unusable(name, "takes more memory to decode than a picture may", CONVERT),
        ImageError::Unsupported(_) => {
            Error::unusable(name, format!("is a picture of a kind that is not read ({})", one_line(error)), CONVERT)
        }
        _ => Error::unusable(name, format!("is a damaged or cut off picture ({})", one_line(error)), mend),
    }
}

/// What an error of another crate says, fit for a message of one line.
pub(super) fn one_line(error: &dyn std::fmt::Display) -> String {
    const MOST: usize = 160;
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(MOST).collect()
}

/// Whether a JPEG goes on to its end marker; the decoder fills up what is missing with grey.
///
/// The segments before the pixels are stepped over by their length, for one of them may hold a small picture with an end
/// marker of its own. In the pixels' data there can be no `FF D9` but the end.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const SOS: u8 = 0xda;
    const EOI: u8 = 0xd9;
    let mut at = 2;
    while let [first, marker, high, low, ..] = bytes.get(at..).unwrap_or_default() {
        at += match (*first, *marker) {
            (0xff, SOS) => return bytes[at..].windows(2).any(|two| two == [0xff, EOI]),
            // Bytes that fill up, and markers without a length.
            (0xff, 0xff) | (0..0xff, _) => 1,
            (0xff, 0x01 | 0xd0..=0xd8) => 2,
            _ => 2 + usize::from(u16::from_be_bytes([*high, *low])),
        };
    }
    false
}

/// Eight bits for each number, grey or RGB, nothing transparent.
fn to_picture(image: DynamicImage, name: &str) -> Result<Picture> {
    let (height, width) = (image.height() as usize, image.width() as usize);
    let on_white = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let (colour, pixels) = match image {
        DynamicImage::ImageLuma8(pixels) => (Colour::Grey, pixels.into_raw()),
        DynamicImage::ImageRgb8(pixels) => (Colour::Rgb, pixels.into_raw()),
        DynamicImage::ImageLuma16(_) => (Colour::Grey, image.into_luma8().into_raw()),
        DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgb32F(_) => (Colour::Rgb, image.into_rgb8().into_raw()),
        DynamicImage::ImageLumaA8(_) | DynamicImage::ImageLumaA16(_) => {
            let pixels = image.into_luma_alpha8().into_raw();
            (Colour::Grey, pixels.chunks_exact(2).map(|pixel| on_white(pixel[0], pixel[1])).collect())
        }
        _ => {
            let pixels = image.into_rgba8().into_raw();
            let opaque = |pixel: &[u8]| [0, 1, 2].map(|channel| on_white(pixel[channel], pixel[3]));
            (Colour::Rgb, pixels.chunks_exact(4).flat_map(opaque).collect())
        }
    };
    Picture::new(height, width, colour, pixels)
        .ok_or_else(|| Error::unusable(name, "is a picture without pixels", "take it out"))
}

/// The picture as a PNG file of eight bits for each number.
#[must_use]
pub fn encode_png(picture: &Picture) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A picture has MAX_PIXELS at most, so its sides are below 2^32.
    let mut encoder = png::Encoder::new(&mut bytes, picture.width() as u32, picture.height() as u32);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_color(match picture.colour() {
        Colour::Grey => png::ColorType::Grayscale,
        Colour::Rgb => png::ColorType::Rgb,
    });
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(picture.pixels())?;
        writer.finish()
    });
    // Memory takes all that is written, and a `Picture` has sides above zero and as many bytes as they ask for.
    written.expect("a picture in memory can be written");
    bytes
}

#[cfg(test)]
mod tests;
