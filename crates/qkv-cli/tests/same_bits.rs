//! A seed gives the same model, bit for bit, with any number of threads.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::OnceLock;

use common::*;

/// Sentences of many words, so that batches are large enough for the work to be split.
fn data() -> &'static (Room, String) {
    static DATA: OnceLock<(Room, String)> = OnceLock::new();
    DATA.get_or_init(|| {
        let room = Room::new();
        let path = room.write("train.conllu", conllu(&sentences(1500, 2000, 1)));
        (room, path)
    })
}

/// The parameters after one epoch by `settings`.
fn trained(settings: &[&str], threads: &str, seed: &str) -> Vec<u8> {
    let (_, data) = data();
    let room = Room::new();
    let out = room.name("model");
    let mut args = vec!["train", "--train", data, "--out", &out, "--threads", threads, "--seed", seed, "--epochs", "1"];
    for setting in
        ["model.d_model=64", "model.layers=1", "training.batch_tokens=2000", "training.attention_dropout=0.1"]
    {
        args.extend(["--set", setting]);
    }
    settings.iter().for_each(|setting| args.extend(["--set", setting]));
    done(&args);
    weights(&out)
}

fn same_bits(settings: &[&str]) {
    let one = trained(settings, "1", "1");
    assert!(one == trained(settings, "2", "1"), "{settings:?}: one thread or two");
    assert!(one == trained(settings, "3", "1"), "{settings:?}: one thread or three");
    assert!(one != trained(settings, "2", "2"), "{settings:?}: another seed");
}

#[test]
fn with_full_attention() {
    same_bits(&["model.mixer=attention", "input.characters=affixes", "training.word_dropout=0.1"]);
    let settings = ["model.mixer=attention"];
    assert!(trained(&settings, "2", "5") == trained(&settings, "2", "5"), "twice the same");
}

#[test]
fn with_attention_in_a_window() {
    same_bits(&["model.mixer=attention", "model.window=3", "model.positions=relative", "training.average=last"]);
}

#[test]
fn with_additive_attention() {
    same_bits(&["model.mixer=attention", "model.score=additive", "model.normalizer=relu", "model.positions=rotary"]);
}

#[test]
fn with_a_recurrent_net() {
    same_bits(&["model.mixer=rnn"]);
}

#[test]
fn with_a_convolutional_net() {
    same_bits(&["model.mixer=cnn"]);
}

#[test]
fn with_a_window() {
    same_bits(&["model.mixer=window", "input.words=one-hot", "model.positions=learned"]);
}

#[test]
fn predictions_do_not_depend_on_threads() {
    let (room, data) = data();
    let out = room.name("model");
    done(&[
        "train",
        "--train",
        data,
        "--out",
        &out,
        "--epochs",
        "1",
        "--set",
        "model.d_model=64",
        "--set",
        "model.layers=1",
    ]);
    let [one, two] = ["1", "2"].map(|threads| done(&["predict", &out, data, "--threads", threads]));
    assert!(one == two);
    let [one, two] = ["1", "2"].map(|threads| {
        let mut result = json(&done(&["evaluate", &out, data, "--json", "--threads", threads]));
        result["seconds"] = 0.into();
        result
    });
    assert_eq!(one, two);
}
