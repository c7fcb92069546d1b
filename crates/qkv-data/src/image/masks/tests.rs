use proptest::prelude::*;

use super::super::{Colour, PatchOptions, Picture, encode_png};
use super::*;

fn mask(height: usize, width: usize, values: Vec<u8>) -> (String, Mask) {
    ("m.png".to_owned(), Mask { height, width, values })
}

/// A PNG file of packed values.
fn packed(kind: png::ColorType, depth: png::BitDepth, (width, height): (u32, u32), rows: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(kind);
    encoder.set_depth(depth);
    if kind == png::ColorType::Indexed {
        encoder.set_palette((0..48).map(|level| level * 5).collect::<Vec<u8>>());
    }
    encoder.write_header().unwrap().write_image_data(rows).unwrap();
    bytes
}

#[test]
fn values_are_read_as_they_stand_of_any_depth_grey_or_palette() {
    use png::{BitDepth, ColorType};
    for kind in [ColorType::Grayscale, ColorType::Indexed] {
        let read = |depth, size, rows: &[u8]| decode_mask(&packed(kind, depth, size, rows), "m").unwrap().values;
        assert_eq!(read(BitDepth::One, (9, 1), &[0b1010_0000, 0b1000_0000]), [1, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(read(BitDepth::Two, (3, 2), &[0b11_00_01_00, 0b00_10_11_00]), [3, 0, 1, 0, 2, 3]);
        assert_eq!(read(BitDepth::Four, (3, 1), &[0x0f, 0x20]), [0, 15, 2]);
        assert_eq!(read(BitDepth::Eight, (2, 1), &[9, 4]), [9, 4]);
    }
    let deep = packed(ColorType::Grayscale, BitDepth::Sixteen, (2, 1), &[0, 7, 0, 255]);
    assert_eq!(decode_mask(&deep, "m").unwrap().values, [7, 255]);
    let rgb = Picture::new(1, 2, Colour::Rgb, vec![3, 3, 3, 8, 8, 8]).unwrap();
    assert_eq!(decode_mask(&encode_png(&rgb), "m").unwrap().values, [3, 8]);
}

#[test]
fn what_is_no_mask_is_refused() {
    use png::{BitDepth, ColorType};
    let refused = |bytes: &[u8]| decode_mask(bytes, "m.png").unwrap_err().to_string();
    let deep = packed(ColorType::Grayscale, BitDepth::Sixteen, (2, 1), &[1, 0, 0, 255]);
    assert!(refused(&deep).contains("has values above 255"));
    let rgb = Picture::new(1, 1, Colour::Rgb, vec![3, 4, 3]).unwrap();
    assert!(refused(&encode_png(&rgb)).contains("has colours"));
    let jpeg = b"\xff\xd8\xff\xe0\0\x10JFIF\0";
    assert!(refused(jpeg).contains("is a JPEG"));
    let whole = packed(ColorType::Indexed, BitDepth::Four, (5, 3), &[0x01; 9]);
    for length in 0..whole.len() - 16 {
        let error = refused(&whole[..length]);
        assert!(error.starts_with("m.png: ") && !error.contains('\n'), "{length}: {error}");
    }
}

#[test]
fn classes_are_named_by_a_list_or_by_their_values() {
    let two = [mask(1, 3, vec![0, 255, 7]), mask(1, 1, vec![7])];
    let masks = Masks::new(&two, None).unwrap();
    assert_eq!(masks.classes(), ["0", "7", "255"]);
    assert_eq!((masks.mask(0), masks.mask(1)), (&[0, 2, 1][..], &[1][..]));
    let names = ["sky", "sea"].map(str::to_owned);
    let named = Masks::new(&[mask(1, 3, vec![1, 0, 255])], Some(&names)).unwrap();
    assert_eq!((named.classes(), named.mask(0)), (&names[..], &[1, 0, NO_CLASS][..]));
    assert_eq!(named.targets(&[0], 1, None), [1, 0, NONE], "255 is no class where the others are named");
    let error = Masks::new(&two, Some(&names)).unwrap_err().to_string();
    let expected =
        "m.png: has pixels of value 7, and 2 classes are named; name the class in classes.txt, line 1 for value 0";
    assert_eq!(error, expected);
    let shades = mask(16, 16, (0..=255).collect());
    assert!(Masks::new(&[shades], None).unwrap_err().to_string().contains("there are 256 classes"));
}

#[test]
fn a_patch_has_the_class_of_most_of_its_pixels_and_the_first_of_several() {
    let values = vec![
        0, 1, 2, //
        1, 1, 2, //
        3, 0, 1,
    ];
    let masks = Masks::new(&[mask(3, 3, values)], None).unwrap();
    assert_eq!(masks.targets(&[0], 2, None), [1, 2, 0, 1], "at the edge of what is there");
    assert_eq!(masks.targets(&[0], 3, None), [1]);
    let names = ["a", "b"].map(str::to_owned);
    let masks = Masks::new(&[mask(2, 2, vec![255, 255, 1, 255]), mask(2, 2, vec![255; 4])], Some(&names)).unwrap();
    assert_eq!(masks.targets(&[1, 0], 2, None), [NONE, 1], "pixels without a class do not count");
}

proptest! {
    #[test]
    fn targets_go_with_the_patches_of_the_same_batch(
        height in 1usize..14,
        width in 1usize..14,
        patch in 1usize..6,
        seed: u64,
    ) {
        // The picture is its own mask: what a target says must be seen in the patch.
        let key = Key::new(seed);
        let values: Vec<u8> = (0..height * width).map(|place| (key.bits(place as u64) % 3) as u8).collect();
        let mut pictures = Pictures::new(Colour::Grey, PatchOptions { patch, standard: None }).unwrap();
        for _ in 0..3 {
            pictures.push("a", &Picture::new(height, width, Colour::Grey, values.clone()).unwrap()).unwrap();
        }
        let names = ["0", "1", "2"].map(str::to_owned);
        let all: Vec<(String, Mask)> = (0..3).map(|_| mask(height, width, values.clone())).collect();
        let masks = Masks::new(&all, Some(&names)).unwrap();
        prop_assert!(masks.fit(&pictures));
        let options = AugmentOptions { shift: 3, flip: true, ..AugmentOptions::default() };
        for augment in [None, Some((&options, key))] {
            let batch = pictures.batch(&[2, 0], augment);
            let targets = masks.targets(&[2, 0], patch, augment);
            prop_assert_eq!(targets.len(), batch.offsets.tokens());
            for (target, vector) in targets.iter().zip(batch.values.chunks_exact(batch.width)) {
                // Padding is zero too, so zeros are an upper bound.
                let count = |class: u32| {
                    vector.iter().filter(|&&value| (value * 255.0).round() as u32 == class).count()
                };
                let own = count(*target);
                prop_assert!(own > 0 && (1..3).all(|class| count(class) <= own), "{target} of {vector:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn pixels_of_patches_make_the_mask_again(height in 1usize..14, width in 1usize..14, patch in 1usize..6, seed: u64) {
        let key = Key::new(seed);
        let classes = ["a", "b", "c"].map(str::to_owned);
        let random = |stream: u64| {
            let value = |place: usize| [0, 1, 2, NO_CLASS][(key.fold(stream).bits(place as u64) % 4) as usize];
            mask(height, width, (0..height * width).map(value).collect())
        };
        let all = [random(0), random(1)];
        let masks = Masks::new(&all, Some(&classes)).unwrap();
        let options = AugmentOptions { shift: 2, flip: true, ..AugmentOptions::default() };
        let targets = masks.pixel_targets(&[1, 0], patch, None);
        let varied = masks.pixel_targets(&[1, 0], patch, Some((&options, key)));
        prop_assert_eq!(targets.len(), varied.len());
        let bytes = |targets: &[u32]| targets.iter().map(|&class| u8::try_from(class).unwrap_or(NO_CLASS)).collect();
        for (half, (_, wanted)) in targets.chunks(targets.len() / 2).zip([&all[1], &all[0]]) {
            let half: Vec<u8> = bytes(half);
            prop_assert_eq!(&Mask::of_patches(&half, height, width, patch), wanted);
            let beyond = half.len() - height * width;
            let none = |values: &[u8]| values.iter().filter(|&&class| class == NO_CLASS).count();
            prop_assert_eq!(none(&half), none(&wanted.values) + beyond, "beyond the edge there is no class");
        }
        // Squares are of most of their pixels, so where all are of one class both say the same.
        for (one, square) in masks.targets(&[1, 0], patch, Some((&options, key))).iter().zip(varied.chunks(patch * patch)) {
            let real: Vec<u32> = square.iter().copied().filter(|&class| class != NONE).collect();
            if real.is_empty() || real.iter().all(|class| class == &real[0]) {
                prop_assert_eq!(*one, real.first().copied().unwrap_or(NONE));
            }
        }
    }
}

#[test]
fn classes_are_those_of_a_model_by_name_or_by_value() {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let (sea, sky) = (owned(&["sea", "sky"]), owned(&["sky", "sea", "land"]));
    let named = Masks::new(&[mask(1, 4, vec![0, 1, 2, 255])], Some(&sky)).unwrap();
    let other = named.clone().with_classes(&sea, "x").unwrap();
    assert_eq!((other.classes(), other.mask(0)), (&owned(&["sea", "sky", "land"])[..], &[1, 0, 2, NO_CLASS][..]));
    assert_eq!(named.clone().with_classes(&sky, "x").unwrap(), named);
    // Without a list a value is the line of the model's.
    let values = Masks::new(&[mask(1, 4, vec![1, 7, 255, 0])], None).unwrap();
    let read = values.clone().with_classes(&sea, "x").unwrap();
    assert_eq!((read.classes(), read.mask(0)), (&owned(&["sea", "sky", "7"])[..], &[1, 2, NO_CLASS, 0][..]));
    // Of a model that knows them by their values, a value is itself.
    let read = values.clone().with_classes(&owned(&["0", "7", "255"]), "x").unwrap();
    assert_eq!((read.classes(), read.mask(0)), (&owned(&["0", "7", "255", "1"])[..], &[3, 1, 2, 0][..]));
    let many: Vec<String> = (0..254).map(|class| format!("class {class}")).collect();
    let error = named.with_classes(&many, "x").unwrap_err().to_string();
    assert!(error.starts_with("x: has classes beside the 254"), "{error}");
}

#[test]
fn class_names_are_read_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("classes.txt");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_classes(&path).map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    };
    assert_eq!(read("background\n a cat \ndog").unwrap(), ["background", "a cat", "dog"]);
    assert!(read("").unwrap_err().contains("names 0 classes"));
    assert_eq!(
        read("a\n\nb").unwrap_err(),
        "classes.txt:2: the line names no class; name the class of value 1, or take the line out if it is the last"
    );
    assert!(read("a\nb\na").unwrap_err().starts_with("classes.txt:3: \"a\" stands in line 1 already"));
}
