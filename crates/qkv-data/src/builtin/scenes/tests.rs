use std::collections::{HashMap, HashSet};

use super::*;

fn some() -> SceneOptions {
    SceneOptions { train: 3000, dev: 600, test: 600, ..SceneOptions::default() }
}

#[test]
fn no_layout_is_in_two_parts_whatever_the_seed() {
    let mut parts: HashMap<Vec<SceneObject>, Part> = HashMap::new();
    for seed in [1, 2] {
        for part in [Part::Train, Part::Dev, Part::Test] {
            for scene in scenes(&SceneOptions { seed, ..some() }, part).unwrap() {
                assert_eq!(*parts.entry(scene.objects.clone()).or_insert(part), part, "{:?}", scene.objects);
            }
        }
    }
    assert!(parts.len() > 5000, "{} layouts", parts.len());
}

#[test]
fn a_scene_is_a_function_of_seed_part_and_index() {
    let options = SceneOptions { train: 40, ..some() };
    let all = scenes(&options, Part::Train).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| scenes(&options, Part::Train).unwrap()), all);
    assert_eq!(scene(&SceneOptions { train: 1, ..options.clone() }, Part::Train, 39).unwrap(), all[39]);
    assert_ne!(scene(&SceneOptions { seed: 2, ..options }, Part::Train, 0).unwrap(), all[0]);
    let pictures: HashSet<&[u8]> = all.iter().map(|scene| scene.picture.pixels()).collect();
    assert_eq!(pictures.len(), all.len());
}

#[test]
fn scenes_never_change_between_versions() {
    // What a model was judged by must be there for the next one.
    let scene = scene(&SceneOptions::default(), Part::Test, 0).unwrap();
    let sum =
        scene.picture.pixels().iter().fold(0_u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    assert_eq!((scene.description.as_str(), sum), PINNED);
}
const PINNED: (&str, u64) =
    ("a white triangle above a green square, which is left of a purple circle", 1_976_010_302_189_540_295);

#[test]
fn shapes_stand_apart_and_the_mask_shows_each_of_them() {
    for size in [24, 32, 50] {
        let options = SceneOptions { size, train: 500, ..some() };
        for scene in scenes(&options, Part::Train).unwrap() {
            assert_eq!((scene.picture.height(), scene.picture.width(), scene.mask.len()), (size, size, size * size));
            let areas = areas(&scene.mask, size);
            let mut expected: Vec<u8> = scene.objects.iter().map(|object| 1 + object.shape as u8).collect();
            let mut found: Vec<u8> = areas.iter().map(|(class, _)| *class).collect();
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "{}", scene.description);
            let least = size * size * 15 / 1024;
            assert!(areas.iter().all(|(_, pixels)| *pixels >= least), "{areas:?}");
        }
    }
}

/// The connected areas of a mask that are not background: class and pixels.
fn areas(mask: &[u8], size: usize) -> Vec<(u8, usize)> {
    let mut left = mask.to_vec();
    let mut areas = Vec::new();
    while let Some(start) = left.iter().position(|&class| class > 0) {
        let class = left[start];
        let (mut waiting, mut pixels) = (vec![start], 0);
        while let Some(at) = waiting.pop() {
            if left[at] == 0 {
                continue;
            }
            assert_eq!(left[at], class, "shapes that touch");
            left[at] = 0;
            pixels += 1;
            let (y, x) = (at / size, at % size);
            for (y, x) in (y.saturating_sub(1)..=y + 1).flat_map(|y| (x.saturating_sub(1)..=x + 1).map(move |x| (y, x)))
            {
                if y < size && x < size {
                    waiting.push(y * size + x);
                }
            }
        }
        areas.push((class, pixels));
    }
    areas
}

#[test]
fn the_picture_tells_each_colour_apart() {
    // The mean colour of a shape is nearer to every other shape of its colour than to any of another, or nearly always.
    let mut means: Vec<(usize, [f64; 3])> = Vec::new();
    for scene in scenes(&SceneOptions { train: 600, ..some() }, Part::Train).unwrap() {
        let [object] = scene.objects[..] else { continue };
        let inside: Vec<&[u8]> = scene
            .picture
            .pixels()
            .chunks_exact(3)
            .zip(&scene.mask)
            .filter(|(_, class)| **class > 0)
            .map(|(p, _)| p)
            .collect();
        let mean =
            |channel: usize| inside.iter().map(|pixel| f64::from(pixel[channel])).sum::<f64>() / inside.len() as f64;
        means.push((object.colour, [mean(0), mean(1), mean(2)]));
    }
    let distance = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let nearest_is_alike = |index: usize| {
        let others = (0..means.len()).filter(|&other| other != index);
        let by_distance = |&a: &usize, &b: &usize| {
            distance(&means[a].1, &means[index].1).total_cmp(&distance(&means[b].1, &means[index].1))
        };
        means[others.min_by(by_distance).unwrap()].0 == means[index].0
    };
    let alike = (0..means.len()).filter(|&index| nearest_is_alike(index)).count();
    assert!(means.len() > 80 && alike * 100 >= means.len() * 99, "{alike} of {}", means.len());
}

#[test]
fn a_question_is_no_help_without_the_picture() {
    let options = SceneOptions { train: 20_000, test: 3000, ..SceneOptions::default() };
    let train = scenes(&options, Part::Train).unwrap();
    let test = scenes(&options, Part::Test).unwrap();
    let blind = accuracy_without_pictures(&train, &test);
    // Evenly drawn answers: (1/3 + 1/3 + 1/2 + 1/6 + 1/4 + 1/6 + 1/4 + 1/2) / 8
    assert!((0.28..0.35).contains(&blind), "{blind}");
    assert!(test.iter().all(|scene| !scene.answer.contains(' ') && scene.question.ends_with('?')));
    assert_eq!(accuracy_without_pictures(&train, &[]), 1.0);
    // To each single text, none of whose answers is certain.
    let mut answers: HashMap<&str, HashMap<&str, usize>> = HashMap::new();
    for scene in &train {
        *answers.entry(&scene.question).or_default().entry(&scene.answer).or_default() += 1;
    }
    for (question, counts) in answers {
        let (all, most) = (counts.values().sum::<usize>(), *counts.values().max().unwrap());
        let even = 1.0 / counts.len() as f64;
        // Five standard deviations of an even draw, and something for shapes that may not be like their neighbour's.
        let allowed = even + 0.06 + 5.0 * (even / all as f64).sqrt();
        assert!(all < 100 || most as f64 / all as f64 <= allowed, "{question}: {counts:?}");
    }
}

#[test]
fn a_size_that_cannot_be_drawn_is_refused() {
    for size in [0, 23, 513] {
        assert!(scene(&SceneOptions { size, ..some() }, Part::Train, 0).unwrap_err().to_string().contains("24 to 512"));
    }
}
