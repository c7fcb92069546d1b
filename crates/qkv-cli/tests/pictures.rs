//! Pictures: classified, asked about, described, cut into classes pixel by pixel, and damaged ones refused.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::*;
use serde_json::Value;

/// What the end of a PNG chunk and of its data are checked by.
fn crc32(bytes: &[u8]) -> u32 {
    let of_bit = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| of_bit(crc)))
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

/// A PNG file of `width` by `height` pixels of 8 bits, grey or with three `channels`, its data `rows` as they are: stored, not packed.
fn png_of(width: u32, height: u32, channels: u8, rows: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        bytes.extend((data.len() as u32).to_be_bytes());
        let body = [kind, data].concat();
        bytes.extend(&body);
        bytes.extend(crc32(&body).to_be_bytes());
    };
    let colour = if channels == 1 { 0 } else { 2 };
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    chunk(b"IHDR", &[&size[..], &[8, colour, 0, 0, 0]].concat());
    let length = u16::try_from(rows.len()).unwrap();
    let parts = [&[0x78, 0x01, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), rows];
    chunk(b"IDAT", &[&parts.concat()[..], &adler32(rows).to_be_bytes()].concat());
    chunk(b"IEND", &[]);
    bytes
}

/// A grey PNG file of what `pixel` says of each row and column.
fn grey(height: usize, width: usize, mut pixel: impl FnMut(usize, usize) -> u8) -> Vec<u8> {
    let mut rows = Vec::new();
    for row in 0..height {
        rows.push(0);
        rows.extend((0..width).map(|column| pixel(row, column)));
    }
    png_of(width as u32, height as u32, 1, &rows)
}

/// A picture of one bright half, `left`, `right`, `top` or `bottom`, on a dark ground.
fn half(label: &str, side: usize, draw: &mut Draw) -> Vec<u8> {
    grey(side, side, |row, column| {
        let bright = match label {
            "left" => 2 * column < side,
            "right" => 2 * column >= side,
            "top" => 2 * row < side,
            _ => 2 * row >= side,
        };
        (if bright { 200 } else { 20 }) + draw.below(40) as u8
    })
}

const LABELS: [&str; 4] = ["left", "right", "top", "bottom"];

/// Folders of parts, and in them of labels, with `count` pictures for each in training; most of 8 pixels to a side, some of 12.
fn halves(room: &Room, name: &str, count: usize) -> String {
    let mut draw = Draw::new(5);
    for (part, count) in [("train", count), ("dev", 3), ("test", 5)] {
        for label in LABELS {
            fs::create_dir_all(room.path(name).join(part).join(label)).unwrap();
            for number in 0..count {
                let side = if number % 5 == 4 { 12 } else { 8 };
                room.write(&format!("{name}/{part}/{label}/{number}.png"), half(label, side, &mut draw));
            }
        }
    }
    room.name(name)
}

/// Arguments that train a small model of pictures quickly.
fn training<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--train", data, "--out", out, "--threads", "1", "--input", "image"];
    for setting in [
        "input.patch=4",
        "model.d_model=16",
        "model.layers=1",
        "model.heads=2",
        "training.batch_tokens=100",
        "training.learning_rate=1e-2",
        "training.dropout=0",
    ] {
        args.extend(["--set", setting]);
    }
    more.iter().for_each(|setting| args.extend(["--set", setting]));
    args
}

const CLASSIFY: [&str; 2] = ["model.task=classify", "model.positions=learned"];

/// A model for all tests that only use it: its room, itself, and the data that it learned from.
type Trained = (Room, String, String);

fn classifier() -> &'static Trained {
    static MODEL: OnceLock<Trained> = OnceLock::new();
    MODEL.get_or_init(|| {
        let room = Room::new();
        let (data, out) = (halves(&room, "halves", 20), room.name("model"));
        done(&training(&data, &out, &[&CLASSIFY[..], &["training.epochs=40"]].concat()));
        (room, out, data)
    })
}

/// Pictures 8 pixels high and 10 wide, with a bright box on a dark ground, and masks that say where it is, in a folder with both.
fn boxes(room: &Room, name: &str, count: usize, seed: u64) -> String {
    let mut draw = Draw::new(seed);
    for folder in ["images", "masks"] {
        fs::create_dir_all(room.path(name).join(folder)).unwrap();
    }
    for number in 0..count {
        let (top, left) = (draw.below(4), draw.below(6));
        let inside = |row: usize, column: usize| (top..top + 4).contains(&row) && (left..left + 4).contains(&column);
        let pixel = |row, column| (if inside(row, column) { 200 } else { 20 }) + draw.below(40) as u8;
        room.write(&format!("{name}/images/{number}.png"), grey(8, 10, pixel));
        let mask = grey(8, 10, |row, column| u8::from(inside(row, column)));
        room.write(&format!("{name}/masks/{number}.png"), mask);
    }
    room.write(&format!("{name}/classes.txt"), "ground\nbox\n");
    room.name(name)
}

fn segmenter() -> &'static Trained {
    static MODEL: OnceLock<Trained> = OnceLock::new();
    MODEL.get_or_init(|| {
        let room = Room::new();
        let (data, out) = (boxes(&room, "boxes", 60, 1), room.name("model"));
        let settings = ["model.task=tag", "input.patch=2", "training.epochs=8", "training.batch_tokens=200"];
        done(&training(&data, &out, &settings));
        (room, out, data)
    })
}

fn judged(model: &str, data: &str, more: &[&str]) -> Value {
    json(&done(&[&["evaluate", model, data, "--json"], more].concat()))
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("no {key}: {object}"))
}

#[test]
fn folders_are_learned_from_judged_and_predicted() {
    let (room, model, data) = classifier();
    let result = judged(model, data, &[]);
    let keys: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["task", "examples", "tokens", "seconds", "accuracy", "f1", "loss", "confusion"]);
    // Four patches, or nine.
    assert_eq!((&result["examples"], &result["tokens"]), (&20.into(), &(4 * (4 * 4 + 9)).into()));
    assert!(number(&result, "accuracy") > 0.9, "{result}");
    assert_eq!(judged(model, data, &["--split", "dev"])["examples"], 12);
    assert!(done(&["evaluate", model, data]).contains("\npatches "));
    let info = json(&done(&["info", model, "--json"]));
    assert_eq!((&info["task"], &info["recipe"]["input"]["kind"]), (&"classify".into(), &"image".into()));

    let test = format!("{data}/test");
    let answers = done(&["predict", model, &test]);
    assert_eq!(answers.lines().count(), 20);
    let mut names: Vec<&str> = answers.lines().map(|line| line.split_once('\t').unwrap().1).collect();
    let right = answers.lines().filter(|line| {
        let (label, name) = line.split_once('\t').unwrap();
        name.contains(&format!("/{label}/"))
    });
    assert!(right.count() > 17, "{answers}");
    let told = names.clone();
    names.sort_unstable();
    assert_eq!(told, names, "in the order of the files");
    let one = room.write("what is it.png", half("top", 8, &mut Draw::new(9)));
    assert_eq!(done(&["predict", model, &one]), format!("top\t{one}\n"));
    let object = json(&done(&["predict", model, &one, "--json"]));
    assert_eq!(object.as_object().unwrap().keys().collect::<Vec<_>>(), ["file", "label", "probabilities"]);
    let manifest = room.write("list.csv", format!("image\n{one}\n{one}\n"));
    assert_eq!(done(&["predict", model, &manifest]), format!("top\t{one}\n").repeat(2));
}

#[test]
fn pictures_of_any_size_and_colour_are_pictures() {
    let (room, model, _) = classifier();
    let single = room.write("single.png", grey(1, 1, |_, _| 200));
    let flat = room.write("flat.png", grey(1, 30, |_, column| 8 * column as u8));
    let coloured: Vec<u8> = (0..8).flat_map(|_| [&[0][..], &[200, 10, 10].repeat(8)].concat()).collect();
    let coloured = room.write("coloured.png", png_of(8, 8, 3, &coloured));
    for path in [&single, &flat, &coloured] {
        let object = json(&done(&["predict", model, path, "--json"]));
        let all = object["probabilities"].as_object().unwrap();
        assert!(all.len() == 4 && all.values().all(|p| p.as_f64().is_some_and(f64::is_finite)), "{object}");
    }
    // Pictures of one pixel are learned from as well, and a picture in colours makes all of them be seen so.
    let data = halves(room, "with-single", 8);
    fs::copy(&single, format!("{data}/train/left/single.png")).unwrap();
    fs::copy(&coloured, format!("{data}/train/left/coloured.png")).unwrap();
    let out = room.name("of-all");
    done(&training(&data, &out, &[&CLASSIFY[..], &["training.epochs=1"]].concat()));
    assert!(number(&judged(&out, &data, &["--split", "train"]), "loss").is_finite());
    for (number, settings) in [
        &["input.patch=1", "input.resize=[6,6]", "model.mixer=cnn", "model.pooling=attention"][..],
        &["input.colour=rgb", "model.mixer=window", "model.window=1", "training.shift=1", "training.flip=true"],
        &["model.positions=relative", "model.relative_range=2", "model.pooling=class", "training.erase=0.3"],
        &["model.mixer=none", "model.positions=sinusoidal", "training.rotate=10", "training.scale=0.1"],
        &["model.mixer=rnn", "model.positions=none", "training.brightness=0.2", "data.train_share=0.5"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = room.name(&format!("choice-{number}"));
        done(&training(&data, &out, &[&["model.task=classify", "training.epochs=1"], settings].concat()));
        assert_eq!(judged(&out, &data, &[])["examples"], 20, "{settings:?}");
        assert_eq!(done(&["predict", &out, &single]).lines().count(), 1, "{settings:?}");
    }
}

#[test]
fn threads_and_kills_do_not_change_a_bit() {
    let room = Room::new();
    let varied = [
        "training.shift=1",
        "training.rotate=10",
        "training.brightness=0.1",
        "training.dropout=0.1",
        "training.checkpoint_every=3",
    ];
    let (data, masked) = (halves(&room, "halves", 12), boxes(&room, "boxes", 30, 2));
    for (name, data, settings) in [
        ("labels", &data, &["model.task=classify", "model.positions=relative", "training.epochs=6"][..]),
        ("masks", &masked, &["model.task=tag", "input.patch=2", "training.epochs=4"]),
    ] {
        let settings = [settings, &varied].concat();
        let args = |out: &str, threads: &str| {
            let out = room.name(&format!("{name}-{out}"));
            let mut args: Vec<String> = training(data, &out, &settings).into_iter().map(String::from).collect();
            let place = args.iter().position(|arg| arg == "--threads").unwrap() + 1;
            args[place] = threads.into();
            args
        };
        assert_same_bits(&room, name, &args);
    }
}

#[test]
fn a_question_goes_with_a_picture() {
    let room = Room::new();
    let out = room.name("model");
    let mut args = training("builtin:scenes", &out, &["model.task=classify", "model.positions=learned"]);
    for setting in ["input.patch=8", "data.train_share=0.01", "training.steps=5", "training.batch_tokens=2000"] {
        args.extend(["--set", setting]);
    }
    let place = args.iter().position(|arg| *arg == "image").unwrap();
    args[place] = "image+text";
    // (of some answers so few are drawn that there is none of them)
    let ended = qkv(&args);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let ended = qkv(&["evaluate", &out, "builtin:scenes", "--json"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let result = json(&ended.stdout);
    assert_eq!((&result["task"], &result["examples"]), (&"classify".into(), &1000.into()));
    assert!(number(&result, "accuracy") >= 0.0 && number(&result, "loss").is_finite(), "{result}");

    let picture = room.write("a.png", half("left", 32, &mut Draw::new(1)));
    let manifest =
        room.write("asked.csv", "image,question\na.png,how many circles are there ?\na.png,\"what is it, then ?\"\n");
    let answers = qkv(&["predict", &out, &manifest]);
    assert_eq!(answers.status, Some(0), "{answers:?}");
    let lines: Vec<&str> = answers.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with("\thow many circles are there ?"), "{answers:?}");
    assert!(lines[1].ends_with("\twhat is it, then ?"), "{answers:?}");
    let unasked = room.write("unasked.csv", "image,label\na.png,2\n");
    assert_refused(&qkv(&["predict", &out, &unasked]), 1, &[&unasked, &picture, "question"]);
    let unanswered = room.write("unanswered.csv", "image,question\na.png,how many ?\n");
    assert_refused(&qkv(&["evaluate", &out, &unanswered]), 1, &[&unanswered, &picture, "answer"]);
}

#[test]
fn a_picture_is_described() {
    let room = Room::new();
    let mut draw = Draw::new(3);
    let mut lines = String::from("image,text,split\n");
    for number in 0..80 {
        let label = LABELS[number % 4];
        room.write(&format!("{number}.png"), half(label, 8, &mut draw));
        let split = ["train", "train", "train", "dev", "test"][number % 5];
        lines += &format!("{number}.png,it is bright at the {label} .,{split}\n");
    }
    let (data, out) = (room.write("described.csv", lines), room.name("model"));
    let settings = [
        "model.task=generate",
        "model.positions=learned",
        "input.unit=words",
        "training.epochs=50",
        "training.metric=exact-match",
        "decoding.max_length=12",
    ];
    done(&training(&data, &out, &settings));
    let result = judged(&out, &data, &[]);
    assert_eq!((&result["task"], &result["examples"]), (&"generate".into(), &16.into()));
    assert!(number(&result, "exact_match") > 0.8, "{result}");
    let one = room.write("one.png", half("right", 8, &mut draw));
    assert_eq!(done(&["predict", &out, &one]), "it is bright at the right .\n");
    let object = json(&done(&["predict", &out, &one, "--json", "--set", "decoding.beam=2"]));
    assert!(object.to_string().contains("it is bright at the right ."), "{object}");
    let undescribed = room.write("bare.csv", "image,label\none.png,right\n");
    assert_refused(&qkv(&["evaluate", &out, &undescribed]), 1, &[&undescribed, &one, "no text"]);
    let never = room.name("never");
    assert_refused(&qkv(&training(&undescribed, &never, &settings)), 1, &[&undescribed, &one, "no text"]);
}

#[test]
fn the_built_in_scenes_are_described() {
    let room = Room::new();
    let out = room.name("model");
    let settings = [
        "model.task=generate",
        "model.positions=learned",
        "input.patch=8",
        "data.train_share=0.01",
        "training.steps=4",
        "training.batch_tokens=1000",
        "decoding.max_length=4",
        "decoding.batch_tokens=16000",
    ];
    let ended = qkv(&training("builtin:scenes", &out, &settings));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let ended = qkv(&["evaluate", &out, "builtin:scenes", "--json"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let result = json(&ended.stdout);
    assert_eq!(result["examples"], 1000);
    assert!(number(&result, "loss").is_finite(), "{result}");
}

#[test]
fn each_pixel_gets_its_class() {
    let (room, model, data) = segmenter();
    let test = boxes(room, "test", 12, 3);
    let result = judged(model, &test, &[]);
    let keys: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["task", "examples", "tokens", "seconds", "mean_iou", "accuracy", "loss", "classes"]);
    assert_eq!((&result["task"], &result["examples"]), (&"tag".into(), &12.into()));
    assert!(number(&result, "mean_iou") > 0.8 && number(&result, "accuracy") > 0.9, "{result}");
    let text = done(&["evaluate", model, &test]);
    assert!(text.contains("ground") && text.contains("box"), "{text}");

    let masks = room.name("found/masks");
    let answers = done(&["predict", model, &test, "--masks", &masks]);
    let first = answers.lines().next().unwrap();
    assert!(first.starts_with(&format!("{test}/images/0.png\tground 0.")) && first.contains("\tbox 0."), "{first}");
    assert_eq!(answers.lines().count(), 12);
    assert_eq!(fs::read_to_string(format!("{masks}/classes.txt")).unwrap(), "ground\nbox\n");
    // What was found is right by itself.
    let found = room.path("found");
    fs::create_dir_all(found.join("images")).unwrap();
    for number in 0..12 {
        fs::copy(format!("{test}/images/{number}.png"), found.join(format!("images/{number}.png"))).unwrap();
    }
    fs::rename(format!("{masks}/classes.txt"), found.join("classes.txt")).unwrap();
    let again = judged(model, found.to_str().unwrap(), &[]);
    assert_eq!((number(&again, "mean_iou"), number(&again, "accuracy")), (1.0, 1.0));
    let objects = done(&["predict", model, &test, "--json"]);
    for (object, line) in objects.lines().map(json).zip(answers.lines()) {
        assert_eq!(object["classes"], serde_json::json!(["ground", "box"]));
        let rows = object["mask"].as_array().unwrap();
        assert!(rows.len() == 8 && rows.iter().all(|row| row.as_array().unwrap().len() == 10), "{object}");
        let bright = rows.iter().flat_map(|row| row.as_array().unwrap()).filter(|&class| class == 1).count();
        assert!(line.contains(&format!("\tbox {:.4}", bright as f64 / 80.0)), "{line}");
    }
    let single = room.write("single.png", grey(1, 1, |_, _| 220));
    assert!(done(&["predict", model, &single]).ends_with(" 1.0000\n"));
    // Over the pictures themselves no mask is written.
    let images = format!("{data}/images");
    let before = snapshot(Path::new(&images));
    let ended = qkv(&["predict", model, &images, "--masks", &images]);
    assert_refused(&ended, 1, &[&images, "would take its place"]);
    assert!(before == snapshot(Path::new(&images)));
    let (_, other, halves) = classifier();
    assert_refused(&qkv(&["predict", other, halves, "--masks", &room.name("no")]), 2, &["--masks"]);
}

#[test]
fn masks_that_cannot_be_are_refused_by_name() {
    let room = Room::new();
    let never = room.name("never");
    let refused = |data: &str, wanted: &[&str]| {
        assert_refused(&qkv(&training(data, &never, &["model.task=tag"])), 1, wanted);
        assert!(!Path::new(&never).exists(), "nothing is begun");
    };
    let data = boxes(&room, "without", 4, 1);
    fs::remove_file(format!("{data}/masks/2.png")).unwrap();
    refused(&data, &[&format!("{data}/images/2.png"), "has no mask"]);
    let data = boxes(&room, "small", 4, 1);
    let bad = room.write("small/masks/1.png", grey(8, 9, |_, _| 0));
    refused(&data, &[&bad]);
    let bad = room.write("small/masks/1.png", grey(8, 10, |_, _| 7));
    refused(&data, &[&bad, "value 7", "classes.txt"]);
    let whole = grey(8, 10, |_, _| 1);
    let bad = room.write("small/masks/1.png", &whole[..60]);
    refused(&data, &[&bad, "cut off"]);
    let bare = room.name("bare");
    fs::create_dir_all(&bare).unwrap();
    room.write("bare/1.png", whole);
    refused(&bare, &[&bare, "images"]);
}

#[test]
fn damaged_pictures_are_refused_by_name() {
    let (room, model, _) = classifier();
    let (_, segmenter, _) = segmenter();
    let good = half("left", 8, &mut Draw::new(1));
    let mut flipped = good.clone();
    flipped[60] ^= 1;
    for (number, (bytes, wanted)) in [
        (good[..70].to_vec(), "cut off"),
        (good[..20].to_vec(), "cut off"),
        (Vec::new(), "is empty"),
        (b"this is a text\n".repeat(20), "is no PNG"),
        (png_of(20_000, 20_000, 1, &[0; 100]), "20000 x 20000 pixels"),
        (png_of(u32::MAX, u32::MAX, 1, &[0; 100]), "picture"),
        (png_of(0, 8, 1, &[0; 100]), "picture"),
        (flipped, "damaged"),
        (b"RIFF\x24\0\0\0WAVEfmt ".to_vec(), "is no PNG"),
    ]
    .into_iter()
    .enumerate()
    {
        let data = halves(room, &format!("damaged-{number}"), 3);
        let bad = format!("{data}/train/left/9.png");
        fs::write(&bad, &bytes).unwrap();
        let never = room.name("never");
        let start = Instant::now();
        assert_refused(&qkv(&training(&data, &never, &CLASSIFY)), 1, &[&bad, wanted]);
        assert!(!Path::new(&never).exists(), "nothing is begun");
        let judged = ["evaluate", model, &data, "--split", "train"];
        for args in [&judged[..], &["predict", model, &bad], &["predict", segmenter, &bad]] {
            assert_refused(&qkv(args), 1, &[&bad, wanted]);
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{wanted}");
    }
}

#[test]
fn what_is_not_there_or_cannot_be_is_told_at_once() {
    let (room, model, data) = classifier();
    let never = room.name("never");
    let manifest =
        room.write("gone.csv", "image,label\ngone/1.png,left\nhalves/train/left/0.png,left\ngone/2.png,right\n");
    let wanted = [&manifest, "gone/1.png (line 2)", "gone/2.png (line 4)", "are not there"];
    assert_refused(&qkv(&training(&manifest, &never, &CLASSIFY)), 1, &wanted);
    assert_refused(&qkv(&["predict", model, &manifest]), 1, &wanted);
    let missing = room.name("nowhere");
    assert_refused(&qkv(&training(&missing, &never, &CLASSIFY)), 1, &[&missing, "check the path"]);
    let text = room.write("text.txt", "x one\ny two\n");
    assert_refused(&qkv(&["predict", model, &text]), 1, &[&text, ".png"]);
    assert_refused(&qkv(&["predict", model, "builtin:verse"]), 1, &["builtin:verse", "not pictures"]);
    assert_refused(&qkv(&training("builtin:scenes", &never, &CLASSIFY)), 1, &["builtin:scenes", "no labels"]);
    for (settings, wanted) in [
        (&["model.task=classify", "model.window=2"][..], &["model.window", "grid", "cnn"][..]),
        (&["model.task=classify", "model.mixer=cnn", "model.window=50"], &["model.window", "20"]),
        (&["model.task=generate", "model.output=ctc"], &["model.output = \"ctc\"", "audio"]),
        (&["model.task=classify", "data.join=[1,3]"], &["data.join", "audio"]),
        (&["model.task=classify", "input.patch=0"], &["input.patch", "1 to 256"]),
        (&["model.task=classify", "input.resize=[0,8]"], &["input.resize"]),
        (&["model.task=tag", "model.pooling=mean"], &["model.pooling"]),
        (&["model.task=tag", "training.metric=f1"], &["training.metric", "mean_iou"]),
        (&["model.task=tag", "input.kind=image+text"], &["image+text", "classify"]),
        (&["model.task=classify", "training.metric=mean-iou"], &["training.metric"]),
    ] {
        assert_refused(&qkv(&training(data, &never, settings)), 2, wanted);
    }
    assert!(!Path::new(&never).exists(), "nothing is begun");
}

#[test]
fn a_dry_run_says_what_a_run_would_be() {
    let (room, _, data) = classifier();
    let (_, _, masked) = segmenter();
    let never = room.name("never");
    for (data, settings, counted) in [(data, &CLASSIFY[..], 80), (masked, &["model.task=tag", "input.patch=2"], 54)] {
        let result = json(&done(&[&training(data, &never, settings)[..], &["--dry-run", "--json"]].concat()));
        assert_eq!(result["pictures"], counted, "{result}");
        assert!(number(&result, "parameters") > 1000.0);
    }
    assert!(!Path::new(&never).exists());
}
