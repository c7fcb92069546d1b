//! Every choice that a recipe offers: a quick run trains, learns something, and its model predicts.

#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write as _;

use common::*;

/// Trains with `settings`, evaluates and predicts; returns the parameters' number.
fn works(settings: &[&str]) -> u64 {
    let room = Room::new();
    let train = room.conllu("train.conllu", 120, 1);
    let out = room.name("model");
    let more: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let result =
        json(&done(&training(&train, &out, &[&["--json", "--set", "training.epochs=12"], &more[..]].concat())));
    let test = room.conllu("test.conllu", 30, 2);
    let judged = json(&done(&["evaluate", &out, &test, "--json"]));
    let accuracy = judged["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.6, "{settings:?}: a third of all words are nouns, but {accuracy}");
    let plain = room.write("plain.txt", "they saw a saw .\n");
    let text = done(&["predict", &out, &plain]);
    assert_eq!(text.split_whitespace().count(), 5, "{text}");
    assert!(text.starts_with("they_") && text.contains(" saw_") && text.ends_with('\n'), "{text}");
    let info = json(&done(&["info", &out, "--json"]));
    for setting in settings {
        let (path, value) = setting.split_once('=').unwrap();
        let (table, key) = path.split_once('.').unwrap();
        let found = &info["recipe"][table][key];
        assert_eq!(found.as_str().map_or(found.to_string(), str::to_string), value, "{setting}: {info}");
    }
    assert_eq!(info["parameters"], result["parameters"]);
    info["parameters"].as_u64().unwrap()
}

#[test]
fn every_mixer() {
    let sizes: Vec<u64> = ["none", "window", "cnn", "rnn", "attention"]
        .map(|mixer| works(&[&format!("model.mixer={mixer}"), "model.positions=none", "model.layers=2"]))
        .into();
    assert!(sizes.iter().skip(1).all(|&size| size > sizes[0]), "{sizes:?}");
    assert!(sizes[2] > sizes[1], "a convolution in each block, a window in the first alone: {sizes:?}");
    let wider = works(&["model.mixer=window", "model.positions=none", "model.layers=2", "model.window=4"]);
    assert!(wider > sizes[1]);
}

#[test]
fn every_score_and_normalizer() {
    let dot = works(&["model.score=dot"]);
    assert_eq!(works(&["model.score=additive"]), dot + 16, "one vector a head");
    assert_eq!(works(&["model.normalizer=relu"]), dot);
    assert_eq!(works(&["model.score=additive", "model.normalizer=relu", "model.window=2"]), dot + 16);
}

#[test]
fn every_way_to_tell_positions() {
    let none = works(&["model.positions=none"]);
    assert_eq!(works(&["model.positions=sinusoidal"]), none);
    assert_eq!(works(&["model.positions=rotary"]), none);
    assert_eq!(works(&["model.positions=learned", "model.max_positions=8"]), none + 8 * 16, "shorter than a sentence");
    assert_eq!(works(&["model.positions=relative", "model.relative_range=5"]), none + 11 * 2);
    assert_eq!(works(&["model.positions=relative", "model.window=3"]), none + 7 * 2);
}

#[test]
fn every_norm_and_activation() {
    let before = works(&["model.norm=before", "model.activation=gelu"]);
    let after = works(&["model.norm=after", "model.activation=relu"]);
    assert_eq!(before, after + 2 * 16, "the norm at the end");
}

#[test]
fn every_way_to_make_a_vector_of_a_word() {
    let plain = works(&["input.words=embedding"]);
    assert_eq!(works(&["input.words=one-hot"]), plain, "a one-hot vector chooses a row of the first layer");
    assert!(works(&["input.words=embedding", "input.embedding_dim=5"]) < plain);
    let affixes = works(&["input.characters=affixes", "input.buckets=50", "input.prefixes=2", "input.suffixes=3"]);
    assert_eq!(affixes, plain + 50 * 16);
    works(&["input.words=one-hot", "input.characters=affixes", "input.buckets=50", "input.lowercase=true"]);
}

#[test]
fn every_part_of_training() {
    works(&["training.dropout=0.1", "training.attention_dropout=0.1", "training.word_dropout=0.1"]);
    works(&["training.label_smoothing=0.1", "training.clip=0.0", "training.decay=none", "training.warmup=0.0"]);
    works(&["training.average=last", "training.average_count=2", "training.decay=cosine"]);
    works(&["training.average=best", "training.average_count=2", "training.patience=2"]);
}

#[test]
fn unknown_words_are_told_apart_by_their_affixes() {
    let room = Room::new();
    let train = room.conllu("train.conllu", 200, 1);
    let out = room.name("model");
    let settings =
        ["--set", "input.characters=affixes", "--set", "input.buckets=500", "--set", "training.word_dropout=0.2"];
    done(&training(&train, &out, &[&settings[..], &["--set", "training.epochs=30"]].concat()));
    let plain = room.write("plain.txt", "they saw a xgarden .\nthey saw a zzzden .\n");
    let text = done(&["predict", &out, &plain]);
    assert!(text.contains("xgarden_NOUN") && text.contains("zzzden_NOUN"), "{text}");
}

#[test]
fn vectors_are_read_from_a_file() {
    let room = Room::new();
    let train = room.conllu("train.conllu", 120, 1);
    let known = ["the", "a", "watch", "duck", "park", "saw", "stone", "they"];
    let mut text = format!("{} 12\n", known.len());
    let mut draw = Draw::new(7);
    for word in known {
        text.push_str(word);
        (0..12).for_each(|_| _ = write!(text, " {:.3}", draw.below(2000) as f64 / 1000.0 - 1.0));
        text.push('\n');
    }
    let vectors = room.write("words.vec", &text);
    let out = room.name("model");
    let setting = format!("input.vectors={vectors}");
    done(&training(&train, &out, &["--set", &setting, "--set", "training.epochs=12"]));
    let info = json(&done(&["info", &out, "--json"]));
    assert_eq!(info["recipe"]["input"]["embedding_dim"], 12, "as the file has it");
    std::fs::remove_file(&vectors).unwrap();
    let accuracy = json(&done(&["evaluate", &out, &train, "--json"]))["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.8, "{accuracy}, and the file is not needed any more");

    let other = room.name("other");
    let args = training(&train, &other, &["--set", &setting]);
    assert_refused(&qkv(&args), 1, &["words.vec", "No such file", "check the path"]);
    let cut = room.write("words.vec", &text[..text.rfind(' ').unwrap()]);
    assert_refused(&qkv(&args), 1, &[&format!("{cut}:9:"), "12 numbers", "cut short?"]);
    room.write("words.vec", &text);
    let args = training(&train, &other, &["--set", &setting, "--set", "input.embedding_dim=7"]);
    assert_refused(&qkv(&args), 2, &["input.embedding_dim = 7", "words.vec", "12", "leave the key out"]);
    assert!(!room.path("other").exists(), "nothing was begun");
}
