//! Model directories that are not whole: refused by the name of the part, and left as they are.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use common::*;

const PARTS: [&str; 4] = ["config.json", "metrics.json", "model.safetensors", "vocab.json"];

fn model() -> &'static (Room, String) {
    static MODEL: OnceLock<(Room, String)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let room = Room::new();
        let model = small_model(&room);
        (room, model)
    })
}

/// A copy of the model that may be broken.
struct Copy {
    _room: Room,
    path: PathBuf,
    name: String,
}

impl Copy {
    fn new() -> Self {
        let room = Room::new();
        let (path, name) = (room.path("model"), room.name("model"));
        copy_model(&model().1, &path);
        Self { _room: room, path, name }
    }

    fn change(&self, part: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = fs::read(self.path.join(part)).unwrap();
        let before = content.clone();
        change(&mut content);
        assert!(content != before, "{part}");
        fs::write(self.path.join(part), content).unwrap();
    }

    fn replace(&self, part: &str, old: &str, new: &str) {
        self.change(part, |content| {
            let text = String::from_utf8(content.clone()).unwrap();
            assert!(text.contains(old), "{old}: {text}");
            *content = text.replacen(old, new, 1).into_bytes();
        });
    }

    /// Asserts that every command refuses it and that nothing in it changes.
    #[track_caller]
    fn refused(&self, wanted: &[&str]) {
        let data = model().0.name("train.conllu");
        let before = snapshot(&self.path);
        assert_refused(&qkv(&["evaluate", &self.name, &data]), 1, wanted);
        assert_refused(&qkv(&["predict", &self.name, &data]), 1, wanted);
        assert_refused(&qkv(&["info", &self.name]), 1, wanted);
        assert!(snapshot(&self.path) == before);
    }
}

#[test]
fn a_whole_copy_is_used() {
    let copy = Copy::new();
    let data = model().0.name("train.conllu");
    assert!(done(&["predict", &copy.name, &data]) == done(&["predict", &model().1, &data]));
}

#[test]
fn a_missing_part() {
    for part in PARTS {
        let copy = Copy::new();
        fs::remove_file(copy.path.join(part)).unwrap();
        copy.refused(&[&copy.name, part, "is missing", "train again"]);
    }
}

#[test]
fn a_part_cut_short() {
    for part in PARTS {
        for left in [0, 1, 50] {
            let copy = Copy::new();
            copy.change(part, |content| content.truncate(left));
            let what = if part == "config.json" { "is not what qkv wrote" } else { "is cut short" };
            copy.refused(&[&copy.name, part, what, "copy the model again or train again"]);
        }
        let copy = Copy::new();
        copy.change(part, |content| content.truncate(content.len() - 1));
        copy.refused(&[&copy.name, part]);
    }
}

#[test]
fn a_changed_part() {
    for part in &PARTS[1..] {
        let copy = Copy::new();
        copy.change(part, |content| *content.last_mut().unwrap() ^= 1);
        copy.refused(&[&copy.name, part, "was changed since training", "copy the model again or train again"]);
        let copy = Copy::new();
        copy.change(part, |content| content.push(b'\n'));
        copy.refused(&[&copy.name, part, "was changed since training"]);
    }
    for (old, new) in [
        ("\"heads\": 2", "\"heads\": 4"),
        ("\"d_model\": 16", "\"d_model\": 999999999"),
        ("\"unit\": \"words\"", "\"unit\": \"bpe\""),
        ("\"finished\": true", "\"finished\": false"),
        ("\"task\": \"tag\"", "\"task\": \"tug\""),
    ] {
        let copy = Copy::new();
        copy.replace("config.json", old, new);
        copy.refused(&[&copy.name, "config.json", "was changed since training", "train again"]);
    }
    let copy = Copy::new();
    copy.change("config.json", |content| *content = b"[1, 2]\n".to_vec());
    copy.refused(&[&copy.name, "config.json", "is not what qkv wrote", "train again"]);
}

#[test]
fn a_newer_version() {
    let copy = Copy::new();
    copy.replace("config.json", "\"format_version\": 2", "\"format_version\": 3, \"more\": {}");
    copy.refused(&[&copy.name, "config.json", "format version 3", "use a newer qkv"]);
}

#[test]
fn parts_of_two_models() {
    let room = Room::new();
    let data = room.write("train.tsv", bio(&sentences(60, 0, 1)));
    let other = room.name("other");
    done(&training(&data, &other, &["--set", "training.epochs=1"]));
    for part in &PARTS[1..] {
        let copy = Copy::new();
        fs::copy(room.path("other").join(part), copy.path.join(part)).unwrap();
        copy.refused(&[&copy.name, part, "train again"]);
    }
}

#[test]
fn something_that_is_no_model() {
    let (room, model) = model();
    let data = room.name("train.conllu");
    let missing = room.name("nothing");
    let empty = room.name("empty");
    fs::create_dir_all(&empty).unwrap();
    for (path, wanted) in [
        (missing.as_str(), &["there is no such folder", "qkv train"][..]),
        (&data, &["train.conllu", "is a file, not a folder", "qkv train"]),
        (&empty, &["config.json is missing", "train again"]),
    ] {
        let wanted = [&[path], wanted].concat();
        assert_refused(&qkv(&["evaluate", path, &data]), 1, &wanted);
        assert_refused(&qkv(&["predict", path, &data]), 1, &wanted);
        assert_refused(&qkv(&["info", path]), 1, &wanted);
    }
    let part = format!("{model}/model.safetensors");
    assert_refused(&qkv(&["info", &part]), 1, &[&part, "not a folder"]);
}
