use std::fs;

use image::{ImageBuffer, Luma, LumaA, Rgb, Rgba};

use super::*;

fn options() -> PictureOptions {
    PictureOptions::default()
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A picture with something different everywhere.
fn ramp(height: u32, width: u32) -> ImageBuffer<Rgb<u8>, Vec<u8>> {
    ImageBuffer::from_fn(width, height, |x, y| Rgb([(x * 20) as u8, (y * 20) as u8, (x * y) as u8]))
}

fn error_of(bytes: &[u8]) -> String {
    let error = decode_picture(bytes, "a.png", &options()).unwrap_err().to_string();
    assert!(error.starts_with("a.png: ") && error.contains("; ") && !error.contains('\n'), "{error}");
    error
}

/// A PNG file whose header says that it has that many pixels, and that ends with the first of them.
fn header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    drop(encoder.write_header().unwrap());
    // Signature and header; then the beginning of a hundred bytes of packed pixels.
    bytes.truncate(8 + 25);
    bytes.extend(b"\0\0\0\x64IDAT\x78\x9c");
    bytes
}

#[test]
fn all_formats_are_told_by_content_and_those_without_loss_give_the_same_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let expected = ramp(7, 9).into_raw();
    for format in KNOWN {
        let bytes = encoded(ramp(7, 9), format);
        // The ending of another format.
        let path = folder.path().join("some.tiff");
        fs::write(&path, &bytes).unwrap();
        let picture = read_picture(&path, &options()).unwrap();
        assert_eq!((picture.height(), picture.width(), picture.colour()), (7, 9, Colour::Rgb));
        let worst = picture.pixels().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let allowed = if format == ImageFormat::Jpeg || format == ImageFormat::Gif { 120 } else { 0 };
        assert!(worst <= allowed, "{format:?}: {worst}");
    }
}

#[test]
fn sixteen_bits_become_eight_and_alpha_is_seen_on_white() {
    let grey = ImageBuffer::from_fn(3, 1, |x, _| Luma([[0_u16, 0x8080, 0xffff][x as usize]]));
    let picture = decode_picture(&encoded(grey, ImageFormat::Png), "a", &options()).unwrap();
    assert_eq!((picture.colour(), picture.pixels()), (Colour::Grey, &[0, 0x80, 255][..]));
    let grey = ImageBuffer::from_fn(3, 1, |x, _| LumaA([[0_u8, 0, 100][x as usize], [0, 255, 51][x as usize]]));
    let picture = decode_picture(&encoded(grey, ImageFormat::Png), "a", &options()).unwrap();
    assert_eq!(picture.pixels(), [255, 0, (0.2_f64 * 100.0 + 0.8 * 255.0).round() as u8]);
    let colours = ImageBuffer::from_fn(1, 1, |_, _| Rgba([200_u8, 0, 10, 0]));
    let picture = decode_picture(&encoded(colours, ImageFormat::Png), "a", &options()).unwrap();
    assert_eq!(picture.pixels(), [255; 3]);
    let deep = ImageBuffer::from_fn(1, 1, |_, _| Rgba([0xffff_u16, 0, 0x0101, 0xffff]));
    let picture = decode_picture(&encoded(deep, ImageFormat::Png), "a", &options()).unwrap();
    assert_eq!(picture.pixels(), [255, 0, 1]);
}

#[test]
fn palettes_become_their_colours() {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 3, 1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Two);
    encoder.set_palette(vec![1, 2, 3, 40, 50, 60, 255, 0, 0]);
    encoder.write_header().unwrap().write_image_data(&[0b10_00_01_00]).unwrap();
    let picture = decode_picture(&bytes, "a", &options()).unwrap();
    assert_eq!(picture.pixels(), [255, 0, 0, 1, 2, 3, 40, 50, 60]);
}

#[test]
fn size_and_colour_are_brought_to_what_is_asked() {
    let asked = PictureOptions { colour: Some(Colour::Grey), resize: Some((3, 5)), ..options() };
    let picture = decode_picture(&encoded(ramp(12, 10), ImageFormat::Png), "a", &asked).unwrap();
    assert_eq!((picture.height(), picture.width(), picture.pixels().len()), (3, 5, 15));
    for size in [(0, 3), (usize::MAX, 2), (1 << 20, 1 << 20)] {
        let asked = PictureOptions { resize: Some(size), ..options() };
        let error = decode_picture(&encoded(ramp(2, 2), ImageFormat::Png), "a", &asked).unwrap_err().to_string();
        assert!(error.starts_with("input.resize: "), "{error}");
    }
}

#[test]
fn a_single_pixel_works() {
    for format in KNOWN {
        let picture = decode_picture(&encoded(ramp(1, 1), format), "a", &options()).unwrap();
        assert_eq!((picture.height(), picture.width()), (1, 1));
    }
}

#[test]
fn every_prefix_of_every_format_is_an_error_of_one_line() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::WebP] {
        let whole = encoded(ramp(9, 11), format);
        // What ends a PNG or a GIF after the pixels may be missing, and the last bytes of a JPEG are its end marker.
        let pixels_end = match format {
            ImageFormat::Png => whole.len() - 12 - 4,
            ImageFormat::Gif => whole.len() - 3,
            _ => whole.len(),
        };
        for length in 0..whole.len() {
            match decode_picture(&whole[..length], "a.png", &options()) {
                Ok(picture) => {
                    assert!(length >= pixels_end, "{format:?}: {length} of {} bytes", whole.len());
                    assert_eq!(picture, decode_picture(&whole, "a.png", &options()).unwrap());
                }
                Err(_) => drop(error_of(&whole[..length])),
            }
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_never_panics() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::WebP] {
        let whole = encoded(ramp(9, 11), format);
        for place in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[place] ^= flip;
                if let Err(error) = decode_picture(&damaged, "a.png", &options()) {
                    assert!(!error.to_string().contains('\n'), "{error}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_picture_is_refused_with_what_would_mend_it() {
    assert!(error_of(b"").contains("is empty"));
    assert!(error_of(b"hello, this is text").contains("is no PNG, JPEG, GIF, BMP or WebP picture"));
    assert!(error_of(b"MM\x00*\x00\x00\x00\x08").contains("in TIFF format"));
}

#[test]
fn a_picture_that_is_too_large_is_refused_by_its_header() {
    let error = error_of(&header(20_000, 20_000));
    assert!(error.contains("20000 x 20000 pixels; more than 67108864"), "{error}");
    let error = error_of(&header(8192, 8192));
    assert!(error.contains("cut off"), "{error}");
    let asked = PictureOptions { resize: Some((32, 32)), ..options() };
    assert!(decode_picture(&header(20_000, 20_000), "a", &asked).unwrap_err().to_string().contains("are not decoded"));
}

#[test]
fn a_photograph_is_turned_the_way_it_was_taken() {
    let jpeg = encoded(ImageBuffer::from_fn(16, 8, |x, _| Luma([if x < 8 { 0_u8 } else { 255 }])), ImageFormat::Jpeg);
    // Exif: a little endian TIFF with one entry, orientation (0x112) 6: to be turned a quarter clockwise.
    let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut turned = jpeg[..2].to_vec();
    turned.extend([0xff, 0xe1]);
    turned.extend(((exif.len() + 2) as u16).to_be_bytes());
    turned.extend(exif);
    turned.extend(&jpeg[2..]);
    let picture = decode_picture(&turned, "a", &options()).unwrap();
    assert_eq!((picture.height(), picture.width()), (16, 8));
    assert!(picture.pixels()[0] < 30 && picture.pixels()[15 * 8] > 220, "left is now the top");
}

#[test]
fn a_png_file_gives_back_the_picture_that_it_was_made_of() {
    for (height, width) in [(1, 1), (3, 5), (17, 2)] {
        for colour in [Colour::Grey, Colour::Rgb] {
            let pixels = (0..height * width * colour.channels()).map(|place| (place * 37) as u8).collect();
            let picture = Picture::new(height, width, colour, pixels).unwrap();
            assert_eq!(decode_picture(&encode_png(&picture), "a", &options()).unwrap(), picture);
        }
    }
}
