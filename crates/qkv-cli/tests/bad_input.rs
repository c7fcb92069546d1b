//! Data that is not as it should be: one line that names file, line and remedy, and nothing begun.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use common::*;

/// One small tagger for all tests, and what it was trained on.
fn model() -> (&'static str, &'static str) {
    static MODEL: OnceLock<(Room, String, String)> = OnceLock::new();
    let (_, model, data) = MODEL.get_or_init(|| {
        let room = Room::new();
        let model = small_model(&room);
        let data = room.name("train.conllu");
        (room, model, data)
    });
    (model, data)
}

/// Asserts that `train` (of a training and of a dev set), `evaluate` and, where `predict` is true, `predict` refuse the
/// file, and that nothing is written.
#[track_caller]
fn all_refuse(data: &str, predict: bool, wanted: &[&str]) {
    let (model, good) = model();
    let room = Room::new();
    let out = room.name("never");
    let before = snapshot(Path::new(model));
    assert_refused(&qkv(&training(data, &out, &[])), 1, wanted);
    assert_refused(&qkv(&training(good, &out, &["--dev", data])), 1, wanted);
    assert_refused(&qkv(&training(data, &out, &["--dry-run"])), 1, wanted);
    assert_refused(&qkv(&["evaluate", model, data]), 1, wanted);
    if predict {
        assert_refused(&qkv(&["predict", model, data]), 1, wanted);
    }
    assert!(snapshot(Path::new(model)) == before, "the model is as it was");
    assert!(snapshot(room.folder.path()).is_empty(), "nothing is begun");
}

#[test]
fn an_empty_file() {
    let (room, (model, _)) = (Room::new(), model());
    for (name, content) in
        [("empty.conllu", ""), ("blank.tsv", "\n\n  \n"), ("mark.conllu", "\u{feff}"), ("c.conllu", "# only\n\n")]
    {
        let data = room.write(name, content);
        all_refuse(&data, false, &[&data, "there is no sentence", "is it the right file?"]);
    }
    for (data, left) in [(room.write("empty.txt", ""), ""), (room.write("blank.txt", "\n\n"), "\n\n")] {
        let ended = qkv(&["predict", model, &data]);
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), left), "{ended:?}");
        let warned = ended.stderr == format!("warning: {data}: there is no sentence in it\n");
        assert_eq!(warned, left.is_empty(), "{ended:?}");
    }
    assert_eq!(Talk::start(&["predict", model]).end(), (Some(0), vec![]));
}

#[test]
fn a_wrong_number_of_columns() {
    let room = Room::new();
    let text = conllu(&sentences(20, 0, 3));
    let line = text.lines().position(|line| line.starts_with("2\t")).unwrap();
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let cut = lines[line].rfind('\t').unwrap();
    lines[line].truncate(cut);
    let data = room.write("nine.conllu", lines.join("\n") + "\n");
    all_refuse(&data, true, &[&format!("{data}:{}:", line + 1), "expected 10 tab-separated columns, found 9"]);

    let mut lines: Vec<String> = bio(&sentences(20, 0, 3)).lines().map(String::from).collect();
    lines[30] = "word\tmore\tO".into();
    let data = room.write("three.tsv", lines.join("\n") + "\n");
    let wanted =
        [&format!("{data}:31:"), "expected 2 tab-separated columns as on line 1, found 3", "give every line as many"];
    all_refuse(&data, true, &wanted);
}

#[test]
fn a_word_without_its_label() {
    let room = Room::new();
    let text = conllu(&sentences(20, 0, 3)).replacen("\tVERB\tVE\t", "\t_\tVE\t", 1);
    let line = text.lines().position(|line| line.contains("\t_\tVE\t")).unwrap();
    let data = room.write("unlabelled.conllu", text);
    all_refuse(&data, false, &[&format!("{data}:{}:", line + 1), "upos", "annotate the word", "data.label"]);
    let data = room.write("unlabelled.tsv", "they\tPRON\nsaw\t\n");
    all_refuse(&data, false, &[&format!("{data}:2:"), "\"saw\" has no label", "token, tab, label"]);
    let data = room.write("plain.txt", "they\n\nsaw\n");
    all_refuse(&data, false, &[&data, "plain text, which has no labels", "CoNLL-U"]);
}

#[test]
fn bytes_that_are_not_utf8() {
    let (room, (model, _)) = (Room::new(), model());
    let mut text = conllu(&sentences(20, 0, 3));
    text = text.replacen("\tstone\t", "\tst\u{f6}ne\t", 1);
    let line = text.lines().position(|line| line.contains('\u{f6}')).unwrap() + 1;
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let data = room.write("latin.conllu", &latin);
    let wanted = format!("{data}:{line}: byte ");
    all_refuse(&data, true, &[&wanted, "is not UTF-8", "data.encoding", "latin-1"]);
    // Named, it is read.
    done(&["evaluate", model, &data, "--encoding", "latin-1"]);
    assert!(done(&["predict", model, &data, "--encoding", "latin-1"]).contains("\tst\u{f6}ne\t"));
    let out = room.name("latin");
    done(&training(&data, &out, &["--encoding", "latin-1"]));
    done(&["evaluate", &out, &data]);

    let wide: Vec<u8> = std::iter::once(0xfeff).chain("they saw".encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let data = room.write("wide.conllu", wide);
    all_refuse(&data, true, &[&format!("{data}:1:"), "UTF-16", "utf-16le"]);
    let binary = format!("{model}/model.safetensors");
    all_refuse(&binary, true, &[&format!("{binary}:1: byte "), "is not UTF-8"]);
}

#[test]
fn what_was_read_before_a_bad_line_is_answered() {
    let (room, (model, _)) = (Room::new(), model());
    let data = room.write("tail.txt", b"they saw a saw .\nthey saw a saw .\n\xff\xfe\nthey saw a saw .\n");
    let ended = qkv(&["predict", model, &data]);
    assert_refused(&ended, 1, &[&format!("{data}:3: byte 1"), "is not UTF-8"]);
    assert_eq!(ended.stdout, "they_PRON saw_VERB a_DET saw_NOUN ._PUNCT\n".repeat(2));
}

#[test]
fn a_label_never_seen_in_training() {
    let (room, (model, good)) = (Room::new(), model());
    let text = conllu(&sentences(20, 0, 3));
    let right = room.write("seen.conllu", &text);
    let unseen = text.replace("\tPUNCT\t", "\tSYM\t");
    let first = unseen.lines().position(|line| line.contains("\tSYM\t")).unwrap() + 1;
    let data = room.write("unseen.conllu", &unseen);
    let before = json(&done(&["evaluate", model, &right, "--json"]));
    let ended = qkv(&["evaluate", model, &data, "--json"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let after = json(&ended.stdout);
    let wanted =
        format!("warning: {data}:{first}: label `SYM` was never seen in training; its 20 words count as wrong\n");
    assert_eq!(ended.stderr, wanted);
    assert_eq!(before["tokens"], after["tokens"]);
    let (before, after) = (before["accuracy"].as_f64().unwrap(), after["accuracy"].as_f64().unwrap());
    let points = text.matches("\tPUNCT\t").count() as f64 / sentences(20, 0, 3).concat().len() as f64;
    assert!((before - after - points).abs() < 1e-9, "every point was right before: {before} {after} {points}");

    // In a dev set they are told before training begins.
    let out = room.name("unseen");
    let ended = qkv(&training(good, &out, &["--dev", &data]));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let first_line = ended.stderr.lines().next().unwrap();
    assert!(
        first_line.starts_with(&format!("warning: {data}:{first}: label `SYM` never occurs in training")),
        "{ended:?}"
    );

    // Of a multitude, some.
    let unknown = (0..9).map(|i| format!("they\tL{i}\n")).collect::<String>();
    let many = room.write("many.tsv", unknown.clone() + ".\tPUNCT\n");
    let ended = qkv(&["evaluate", model, &many, "--json"]);
    assert!(json(&ended.stdout)["accuracy"].as_f64().unwrap() <= 0.1);
    assert_eq!(ended.stderr.lines().count(), 6, "{ended:?}");
    assert!(ended.stderr.ends_with("4 more of the kind\n"), "{ended:?}");

    // None that is known: that is another kind of data.
    let foreign = room.write("foreign.tsv", unknown);
    assert_refused(&qkv(&["evaluate", model, &foreign, "--json"]), 1, &[&foreign, "right file", "right column"]);
    let ended = qkv(&["predict", model, &foreign]);
    assert_eq!((ended.status, ended.stdout.lines().count()), (Some(0), 9), "{ended:?}");
    assert!(ended.stderr.starts_with("warning: none of the labels") && ended.stderr.contains(&foreign), "{ended:?}");
    let out = room.name("foreign");
    assert_refused(&qkv(&training(good, &out, &["--dev", &foreign])), 1, &[&foreign, "right file"]);
    assert!(!std::path::Path::new(&out).exists());
}

/// Twenty thousand words, as a plain sentence and as training data whose second sentence it is.
fn long_sentence() -> (String, String) {
    let words: Vec<Word> = sentences(4000, 0, 5).concat().into_iter().take(20_000).collect();
    assert_eq!(words.len(), 20_000);
    let plain = words.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join(" ") + "\n";
    (plain, conllu(&[sentences(1, 0, 6).concat(), words]))
}

#[test]
fn a_sentence_of_20_000_words_is_not_trained_on() {
    let room = Room::new();
    let (_, labelled) = long_sentence();
    let first_words = labelled.lines().enumerate().filter(|(_, line)| line.starts_with("1\t"));
    let line = first_words.last().unwrap().0 + 1;
    let data = room.write("long.conllu", &labelled);
    let out = room.name("long");
    let wanted = [&format!("{data}:{line}:"), "20000 tokens", "data.max_tokens = 1024", "split it, or raise"];
    assert_refused(&qkv(&training(&data, &out, &[])), 1, &wanted);
    assert!(!room.path("long").exists());
}

#[test]
fn a_sentence_of_20_000_words_is_predicted() {
    let (room, (_, good)) = (Room::new(), model());
    let (plain, _) = long_sentence();
    let (plain, data) = (room.write("long.txt", &plain), good);
    for (name, setting) in [("full", "model.window=none"), ("windowed", "model.window=3"), ("rnn", "model.mixer=rnn")] {
        let out = room.name(name);
        done(&training(data, &out, &["--set", setting, "--set", "model.heads=1", "--set", "training.epochs=1"]));
        let text = done(&["predict", &out, &plain]);
        assert_eq!(text.split_whitespace().count(), 20_000, "{name}");
        assert_eq!(text.lines().count(), 1, "{name}");
    }
}

#[test]
fn a_missing_file_and_a_folder() {
    let room = Room::new();
    let missing = room.name("nowhere/none.conllu");
    all_refuse(&missing, true, &[&missing, "No such file", "check the path"]);
    let folder = room.name("folder");
    fs::create_dir(&folder).unwrap();
    all_refuse(&folder, true, &[&folder, "is a folder", "name one of the files in it"]);
}

#[test]
fn a_format_an_encoding_and_a_corpus_that_are_not_known() {
    let (room, (model, good)) = (Room::new(), model());
    let (data, out) = (good, room.name("never"));
    for (flag, name, wanted) in
        [("--format", "conlu", "did you mean conllu?"), ("--encoding", "latin-7", "did you mean latin-1?")]
    {
        assert_refused(&qkv(&training(data, &out, &[flag, name])), 2, &[name, wanted]);
        assert_refused(&qkv(&["evaluate", model, data, flag, name]), 2, &[name, wanted]);
        assert_refused(&qkv(&["predict", model, data, flag, name]), 2, &[name, wanted]);
    }
    assert_refused(&qkv(&training("builtin:homograph", &out, &[])), 2, &["homograph", "did you mean homographs?"]);
    assert_refused(&qkv(&["evaluate", model, "builtin:homograph"]), 2, &["homograph", "did you mean homographs?"]);
    assert_refused(&qkv(&["evaluate", model, data, "--format", "columns"]), 1, &[data, "columns"]);
}

#[test]
fn nothing_to_learn_and_too_little_to_split() {
    let room = Room::new();
    let out = room.name("never");
    let same = room.write("same.tsv", "they\tX\nsaw\tX\n\nwe\tX\n");
    assert_refused(&qkv(&training(&same, &out, &[])), 1, &["same label, `X`", "nothing to learn", "data.label"]);
    let one = room.write("one.tsv", "they\tX\nsaw\tY\n");
    assert_refused(&qkv(&training(&one, &out, &[])), 1, &["1 examples", "at least 2", "data.dev"]);
    assert!(!room.path("never").exists());
}

#[test]
fn a_folder_that_cannot_be_made() {
    let (room, (_, good)) = (Room::new(), model());
    let data = good;
    let file = room.write("file", "precious");
    let below = format!("{file}/model");
    assert_refused(&qkv(&training(data, &file, &[])), 1, &[&file, "Not a directory", "a file stands where"]);
    assert_refused(&qkv(&training(data, &below, &[])), 1, &[&below, "Not a directory", "a file stands where"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    if cfg!(target_os = "linux") {
        let ended = qkv(&training(data, "/proc/model", &[]));
        assert_refused(&ended, 1, &["cannot make the folder /proc/model", "check the path"]);
    }
}

#[test]
fn a_diverging_run_says_what_would_help() {
    let (room, (_, good)) = (Room::new(), model());
    let data = good;
    let out = room.name("diverged");
    let ended = qkv(&training(
        data,
        &out,
        &["--set", "training.learning_rate=1e30", "--set", "training.clip=0", "--set", "training.warmup=0"],
    ));
    assert_refused(&ended, 1, &["the loss is", "at step", "training.learning_rate"]);
    assert!(!room.path("diverged/config.json").exists());
}
