//! Data sets of pictures, read from files as a user has them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use qkv::random::Key;
use qkv_data::builtin::{Part, SCENE_CLASSES, SceneOptions, scenes, write_scenes};
use qkv_data::image::{Colour, Picture, PictureOptions, encode_png, read_pictures, read_segmented};
use qkv_data::listing::ListOptions;

fn write(path: &Path, height: usize, width: usize, colour: Colour, seed: u64) {
    let key = Key::new(seed);
    let pixels = (0..height * width * colour.channels()).map(|place| key.bits(place as u64) as u8 % 4).collect();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, encode_png(&Picture::new(height, width, colour, pixels).unwrap())).unwrap();
}

fn options() -> PictureOptions {
    PictureOptions::default()
}

#[test]
fn folders_give_labels_and_parts_and_one_coloured_picture_makes_all_rgb() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    write(&top.join("train/cat/a.png"), 5, 6, Colour::Grey, 1);
    write(&top.join("train/dog/b.png"), 3, 3, Colour::Rgb, 2);
    write(&top.join("test/cat/c.png"), 1, 1, Colour::Grey, 3);
    let set = read_pictures(top, &options(), &ListOptions::default()).unwrap();
    let known: Vec<_> = set.items.iter().map(|item| (item.label.as_deref().unwrap(), item.part.unwrap())).collect();
    assert_eq!(known, [("cat", Part::Test), ("cat", Part::Train), ("dog", Part::Train)]);
    assert_eq!((set.pictures.colour(), set.pictures.size(1)), (Colour::Rgb, (5, 6)));
    assert!(set.pictures.pixels(1).chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
    let grey = PictureOptions { colour: Some(Colour::Grey), resize: Some((4, 4)), ..options() };
    let set = read_pictures(top, &grey, &ListOptions::default()).unwrap();
    assert_eq!((set.pictures.colour(), set.pictures.len()), (Colour::Grey, 3));
    assert!((0..3).all(|index| set.pictures.size(index) == (4, 4)));
}

#[test]
fn of_several_damaged_files_the_first_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..200 {
        write(&folder.path().join(format!("a/{index:03}.png")), 2, 2, Colour::Grey, index);
    }
    for index in [70, 71, 150] {
        fs::write(folder.path().join(format!("a/{index:03}.png")), b"no picture").unwrap();
    }
    for _ in 0..5 {
        let error = read_pictures(folder.path(), &options(), &ListOptions::default()).unwrap_err().to_string();
        assert!(error.contains("a/070.png: is no PNG"), "{error}");
    }
}

#[test]
fn masks_go_with_pictures_by_folder_and_by_column() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    for (index, (height, width)) in [(4, 5), (3, 2)].into_iter().enumerate() {
        write(&top.join(format!("images/train/{index}.png")), height, width, Colour::Rgb, 1);
        write(&top.join(format!("masks/train/{index}.png")), height, width, Colour::Grey, 2);
    }
    let set = read_segmented(top, &options(), &ListOptions::default()).unwrap();
    assert_eq!((set.pictures.len(), set.masks.classes()), (2, &["0", "1", "2", "3"].map(str::to_owned)[..]));
    assert!(set.masks.fit(&set.pictures) && set.items[0].part == Some(Part::Train));
    fs::write(top.join("classes.txt"), "a\nb\nc\nd\n").unwrap();
    fs::write(top.join("list.csv"), "image,mask\nimages/train/1.png,masks/train/1.png\n").unwrap();
    let listed = read_segmented(top.join("list.csv"), &options(), &ListOptions::default()).unwrap();
    assert_eq!((listed.masks.classes()[0].as_str(), listed.masks.mask(0)), ("a", set.masks.mask(1)));
    let small = PictureOptions { resize: Some((2, 2)), ..options() };
    let set = read_segmented(top, &small, &ListOptions::default()).unwrap();
    assert!(set.masks.fit(&set.pictures) && set.masks.mask(0).len() == 4);
}

#[test]
fn masks_that_are_missing_are_named_together_and_other_sizes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    for index in 0..4 {
        write(&top.join(format!("images/{index}.png")), 4, 4, Colour::Rgb, 1);
    }
    write(&top.join("masks/2.png"), 4, 5, Colour::Grey, 2);
    let error = read_segmented(top, &options(), &ListOptions::default()).unwrap_err().to_string();
    let expected = "0.png: has no mask, and so have 2 others of 4: \"1.png\", \"3.png\"; give each picture a mask";
    assert!(error.contains(expected), "{error}");
    for index in [0, 1, 3] {
        write(&top.join(format!("masks/{index}.png")), 4, 4, Colour::Grey, 2);
    }
    let error = read_segmented(top, &options(), &ListOptions::default()).unwrap_err().to_string();
    assert!(error.contains("2.png: is 5 x 4, and its picture 4 x 4"), "{error}");
    fs::remove_dir_all(top.join("masks")).unwrap();
    let error = read_segmented(top, &options(), &ListOptions::default()).unwrap_err().to_string();
    assert!(error.contains("neither masks nor labels"), "{error}");
    let error = read_segmented(top.join("images"), &options(), &ListOptions::default()).unwrap_err().to_string();
    assert!(error.contains("has no folder `images`"), "{error}");
}

#[test]
fn scenes_are_written_as_files_and_read_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("scenes");
    let made = SceneOptions { train: 5, dev: 2, test: 3, ..SceneOptions::default() };
    assert_eq!(write_scenes(&top, &made).unwrap(), 10);
    let list = ListOptions::default();
    for source in [top.clone(), top.join("manifest.csv")] {
        let set = read_segmented(&source, &options(), &list).unwrap();
        assert_eq!(set.masks.classes(), SCENE_CLASSES);
        for part in [Part::Train, Part::Dev, Part::Test] {
            let there: Vec<usize> = (0..set.items.len()).filter(|&index| set.items[index].part == Some(part)).collect();
            let expected = scenes(&made, part).unwrap();
            assert_eq!(there.len(), expected.len());
            for (&index, scene) in there.iter().zip(&expected) {
                assert_eq!(set.pictures.pixels(index), scene.picture.pixels());
                assert_eq!(set.masks.mask(index), scene.mask);
            }
        }
    }
    let set = read_pictures(top.join("manifest.csv"), &options(), &list).unwrap();
    let first = &scenes(&made, Part::Train).unwrap()[0];
    assert_eq!(set.items[0].text.as_deref(), Some(first.description.as_str()));
    assert_eq!(set.items[0].field("question"), Some(first.question.as_str()));
    assert_eq!(set.items[0].field("answer"), Some(first.answer.as_str()));
    assert!(write_scenes(&top, &made).unwrap_err().to_string().contains("is not empty"));
}

#[test]
fn builtin_data_of_other_kinds_is_told_apart() {
    let error = |name: &str| read_pictures(name, &options(), &ListOptions::default()).unwrap_err().to_string();
    assert!(error("builtin:films").contains("holds ratings, not pictures"));
    assert!(error("builtin:scense").contains("did you mean scenes?"));
    assert!(error("-").contains("standard input"));
    let error = qkv_data::read_ratings("builtin:scenes", None).unwrap_err().to_string();
    assert!(error.contains("holds pictures, not ratings"), "{error}");
}

#[test]
fn the_embedded_scenes_have_text_question_and_masks() {
    let set = read_segmented("builtin:scenes", &options(), &ListOptions::default()).unwrap();
    assert_eq!((set.pictures.len(), set.masks.len()), (22_000, 22_000));
    assert!(set.items.iter().all(|item| item.text.is_some() && item.field("answer").is_some()));
    assert_eq!(set.items.iter().filter(|item| item.part == Some(Part::Test)).count(), 1000);
}

#[test]
fn mnist_is_read_from_its_files_and_from_folders() {
    let Ok(data) = std::env::var("QKV_DATA") else {
        eprintln!("skipped: QKV_DATA is not set");
        return;
    };
    let mnist = Path::new(&data).join("mnist");
    let labels = ListOptions { need_labels: true, ..ListOptions::default() };
    let set = read_pictures(mnist.as_path(), &options(), &labels).unwrap();
    assert_eq!((set.pictures.len(), set.pictures.size(0), set.pictures.grid(0)), (70_000, (28, 28), (7, 7)));
    assert_eq!(set.items.iter().filter(|item| item.part == Some(Part::Train)).count(), 60_000);
    assert_eq!((set.items[0].label.as_deref(), set.items[69_999].label.as_deref()), (Some("5"), Some("6")));
    let train: Vec<usize> = (0..60_000).collect();
    let standard = set.pictures.standard(&train);
    // The mean and deviation that everybody uses for it.
    assert!((standard.mean[0] - 0.1307).abs() < 1e-4 && (standard.deviation[0] - 0.3081).abs() < 1e-4);
    let one = read_pictures(mnist.join("t10k-images-idx3-ubyte.gz"), &options(), &labels).unwrap();
    assert_eq!((one.pictures.len(), one.items[0].label.as_deref()), (10_000, Some("7")));
    let folders = read_pictures(mnist.join("png"), &options(), &labels).unwrap();
    assert_eq!((folders.pictures.len(), folders.pictures.colour()), (500, Colour::Grey));
    assert!(folders.items.iter().all(|item| item.part.is_some()));
}
