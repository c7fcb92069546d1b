use proptest::prelude::*;

use super::*;

fn picture(height: usize, width: usize, colour: Colour, seed: u64) -> Picture {
    let key = Key::new(seed);
    let pixels = (0..height * width * colour.channels()).map(|place| key.bits(place as u64) as u8).collect();
    Picture::new(height, width, colour, pixels).unwrap()
}

fn store(patch: usize, pictures: &[Picture]) -> Pictures {
    let mut store = Pictures::new(pictures[0].colour(), PatchOptions { patch, standard: None }).unwrap();
    pictures.iter().for_each(|picture| store.push("a", picture).unwrap());
    store
}

/// What stands at a pixel of a set of patches, found the other way round.
fn at(pictures: &Pictures, batch: &PatchBatch, set: usize, y: usize, x: usize, channel: usize) -> f32 {
    let (patch, channels) = (pictures.options().patch, pictures.channels());
    let token = batch.offsets.range(set).start + y / patch * batch.grids[set].1 + x / patch;
    batch.values[token * batch.width + (y % patch * patch + x % patch) * channels + channel]
}

proptest! {
    #[test]
    fn patches_hold_every_pixel_once_and_zeros_beyond_the_edge(
        sizes in prop::collection::vec((1usize..12, 1usize..12), 1..5),
        patch in 1usize..8,
        rgb: bool,
        seed: u64,
    ) {
        let colour = if rgb { Colour::Rgb } else { Colour::Grey };
        let all: Vec<Picture> = sizes.iter().map(|&(height, width)| picture(height, width, colour, seed)).collect();
        let pictures = store(patch, &all);
        let indices: Vec<usize> = (0..all.len()).rev().collect();
        let batch = pictures.batch(&indices, None);
        prop_assert_eq!(batch.width, patch * patch * colour.channels());
        prop_assert_eq!(batch.values.len(), batch.offsets.tokens() * batch.width);
        for (set, &index) in indices.iter().enumerate() {
            let (own, (rows, columns)) = (&all[index], batch.grids[set]);
            prop_assert_eq!((rows, columns), pictures.grid(index));
            prop_assert_eq!(batch.offsets.len_of(set), pictures.lengths()[index]);
            prop_assert!(rows * patch >= own.height() && (rows - 1) * patch < own.height());
            for (y, x) in (0..rows * patch).flat_map(|y| (0..columns * patch).map(move |x| (y, x))) {
                for channel in 0..colour.channels() {
                    let expected = if y < own.height() && x < own.width() {
                        f32::from(own.pixels()[(y * own.width() + x) * colour.channels() + channel]) / 255.0
                    } else {
                        0.0
                    };
                    let found = at(&pictures, &batch, set, y, x, channel);
                    prop_assert!((found - expected).abs() < 1e-6, "({y}, {x}): {found} for {expected}");
                }
            }
        }
    }
}

#[test]
fn standardised_values_have_mean_zero_and_deviation_one_and_padding_is_zero() {
    let pictures = store(1, &[picture(31, 17, Colour::Rgb, 1), picture(12, 40, Colour::Rgb, 2)]);
    let standard = pictures.standard(&[0, 1]);
    let pictures = pictures.with_standard(standard).unwrap();
    let batch = pictures.batch(&[0, 1], None);
    for channel in 0..3 {
        let values: Vec<f64> = batch.values.iter().skip(channel).step_by(3).map(|&value| f64::from(value)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-5, "{mean} {variance}");
    }
    let one = picture(1, 1, Colour::Grey, 3);
    let standard = Standard { mean: vec![0.3], deviation: vec![0.5] };
    let padded = store(2, std::slice::from_ref(&one)).with_standard(standard).unwrap().batch(&[0], None).values;
    assert_eq!(padded[1..], [0.0; 3]);
    assert!((padded[0] - (f32::from(one.pixels()[0]) / 255.0 - 0.3) / 0.5).abs() < 1e-6);
}

#[test]
fn an_even_channel_is_divided_by_one_and_no_pictures_by_nothing() {
    let even = Picture::new(4, 4, Colour::Grey, vec![51; 16]).unwrap();
    let pictures = store(2, &[even]);
    assert_eq!(pictures.standard(&[0]), Standard { mean: vec![0.2], deviation: vec![1.0] });
    assert_eq!(pictures.standard(&[]), Standard { mean: vec![0.0], deviation: vec![1.0] });
}

#[test]
fn augmented_batches_are_a_function_of_picture_and_key_with_any_number_of_threads() {
    let all: Vec<Picture> = (0..20).map(|seed| picture(13, 11, Colour::Rgb, seed)).collect();
    let pictures = store(4, &all);
    let options =
        AugmentOptions { shift: 2, rotate: 15.0, scale: 0.2, flip: true, brightness: 0.2, contrast: 0.3, erase: 0.4 };
    let indices: Vec<usize> = (0..20).collect();
    let batch = pictures.batch(&indices, Some((&options, Key::new(1))));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let alone = pool.install(|| pictures.batch(&indices, Some((&options, Key::new(1)))));
    assert_eq!(alone, batch);
    let only = pictures.batch(&[7], Some((&options, Key::new(1))));
    assert_eq!(only.values, batch.values[batch.offsets.range(7).start * batch.width..][..only.values.len()]);
    assert_ne!(pictures.batch(&indices, Some((&options, Key::new(2)))), batch);
    assert_ne!(pictures.batch(&indices, None), batch);
    let nothing = Some((&AugmentOptions::default(), Key::new(1)));
    assert_eq!(pictures.batch(&indices, nothing), pictures.batch(&indices, None));
}

#[test]
fn a_shifted_picture_is_the_picture_elsewhere() {
    let one = picture(9, 9, Colour::Grey, 5);
    let pictures = store(3, std::slice::from_ref(&one));
    let options = AugmentOptions { shift: 1, ..AugmentOptions::default() };
    let mut found = std::collections::BTreeSet::new();
    for draw in 0..100 {
        let batch = pictures.batch(&[0], Some((&options, Key::new(draw))));
        let fits = |(down, right): &(isize, isize)| {
            (1..8_usize).flat_map(|y| (1..8_usize).map(move |x| (y, x))).all(|(y, x)| {
                let source = y.wrapping_add_signed(-down) * 9 + x.wrapping_add_signed(-right);
                (at(&pictures, &batch, 0, y, x, 0) - f32::from(one.pixels()[source]) / 255.0).abs() < 1e-6
            })
        };
        let all = (-1..=1).flat_map(|down| (-1..=1).map(move |right| (down, right)));
        found.extend(all.filter(fits));
    }
    assert_eq!(found.len(), 9, "all shifts come");
}

#[test]
fn pictures_that_do_not_fit_are_refused_with_what_would_mend_it() {
    let mut pictures = store(1, &[picture(2, 2, Colour::Grey, 1)]);
    let large = Picture::new(300, 300, Colour::Grey, vec![0; 90_000]).unwrap();
    let error = pictures.push("big.png", &large).unwrap_err().to_string();
    let expected = "big.png: has 300 x 300 pixels, 90000 patches of 1 to a side; 65536 is the most; \
                    bring it to a smaller size with input.resize, or set a larger input.patch";
    assert_eq!(error, expected);
    let error = pictures.push("c.png", &picture(2, 2, Colour::Rgb, 1)).unwrap_err().to_string();
    assert!(error.contains("set input.colour"), "{error}");
    assert_eq!(pictures.len(), 1);
    assert!(check_stored("a", MAX_STORED_BYTES + 1).is_err());
    for patch in [0, 257] {
        assert!(Pictures::new(Colour::Grey, PatchOptions { patch, standard: None }).is_err());
    }
    for (mean, deviation) in [(vec![0.0; 3], vec![1.0; 3]), (vec![0.0], vec![0.0]), (vec![f32::NAN], vec![1.0])] {
        let standard = Some(Standard { mean, deviation });
        assert!(Pictures::new(Colour::Grey, PatchOptions { patch: 1, standard }).is_err());
    }
}
