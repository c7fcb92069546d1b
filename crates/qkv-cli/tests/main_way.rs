//! The main way through the program: train, evaluate, predict, info.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::OnceLock;

use common::*;

/// One small tagger for all tests that only use it: the folder it lives in, and its path.
fn model() -> (&'static Room, &'static str) {
    static MODEL: OnceLock<(Room, String)> = OnceLock::new();
    let (room, model) = MODEL.get_or_init(|| {
        let room = Room::new();
        let model = small_model(&room);
        (room, model)
    });
    (room, model)
}

#[test]
fn a_tagger_is_trained_judged_and_asked_about_itself() {
    let room = Room::new();
    let (train, dev) = (room.conllu("train.conllu", 300, 1), room.conllu("dev.conllu", 60, 2));
    let test = room.conllu("test.conllu", 80, 3);
    let out = room.name("model");
    let ended = qkv(&training(&train, &out, &["--dev", &dev]));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 6, "one line for each epoch: {ended:?}");
    assert!(
        ended.stderr.lines().all(|line| line.starts_with("epoch ") && line.contains("dev accuracy 0.")),
        "{ended:?}"
    );
    assert!(ended.stdout.contains(&out) && ended.stdout.contains("dev accuracy 0."), "{ended:?}");
    let parts: Vec<_> =
        snapshot(&room.path("model")).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(parts, ["config.json", "metrics.json", "model.safetensors", "vocab.json"]);

    let result = done(&["evaluate", &out, &test, "--json"]);
    assert_eq!(result.lines().count(), 1, "{result}");
    let result = json(&result);
    let keys: Vec<&String> = result.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["task", "examples", "tokens", "seconds", "accuracy", "loss"]);
    assert_eq!(result["task"], "tag");
    assert_eq!(result["examples"], 80);
    let words: usize = sentences(80, 0, 3).iter().map(Vec::len).sum();
    assert_eq!(result["tokens"], words);
    let accuracy = result["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.85 && accuracy <= 1.0, "{result}");
    assert!(result["loss"].as_f64().unwrap() > 0.0 && result["seconds"].as_f64().unwrap() > 0.0, "{result}");
    let text = done(&["evaluate", &out, &test]);
    assert!(text.contains("examples   80\n") && text.contains(&format!("accuracy   {accuracy:.4}")), "{text}");

    let info = json(&done(&["info", &out, "--json"]));
    assert_eq!(info["task"], "tag");
    assert_eq!(info["finished"], true);
    assert_eq!(info["recipe"]["model"]["d_model"], 16);
    assert_eq!(info["metrics"]["epochs"].as_array().unwrap().len(), 6);
    let best = info["metrics"]["best_epoch"].as_u64().unwrap() as usize;
    assert_eq!(info["metrics"]["epochs"][best - 1]["accuracy"], info["metrics"]["accuracy"]);
    let text = done(&["info", &out]);
    for part in ["task         tag", "finished     yes", "[model]\n", "d_model = 16\n", &format!("train = \"{train}\"")]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("d_ff"), "only what differs from the defaults: {text}");
}

/// Predicts `content` and asserts that only the column `place` of words' lines differs; returns the share of words whose
/// label is that of `content`.
fn column_is_filled(model: &str, path: &str, place: usize) -> f64 {
    let (before, after) = (fs::read_to_string(path).unwrap(), done(&["predict", model, path]));
    assert_eq!(before.lines().count(), after.lines().count());
    assert_eq!(before.ends_with('\n'), after.ends_with('\n'));
    let (mut words, mut same) = (0, 0);
    for (old, new) in before.split_inclusive('\n').zip(after.split_inclusive('\n')) {
        let first = old.split('\t').next().unwrap();
        let is_word = old.contains('\t') && !first.starts_with('#') && !first.contains(['-', '.']) || first == ".";
        if !is_word {
            assert_eq!(old, new);
            continue;
        }
        let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\t').collect(), new.split('\t').collect());
        assert_eq!(old.len(), new.len());
        for (column, (a, b)) in old.iter().zip(&new).enumerate() {
            assert!(column == place || a == b, "column {column}: {old:?} {new:?}");
        }
        words += 1;
        same += usize::from(old[place] == new[place]);
    }
    same as f64 / words as f64
}

#[test]
fn conllu_comes_back_with_one_column_filled_and_every_other_byte_as_it_was() {
    let (room, model) = model();
    let text = conllu(&sentences(40, 0, 4)).replacen("# sent_id = 7\n", "# sent_id = 7\r\n\n\n# two\tcolumns\n", 1);
    let path = room.write("test.conllu", &text);
    assert!(column_is_filled(model, &path, 3) > 0.8);
    let blank = text.lines().map(|line| {
        let mut columns: Vec<&str> = line.split('\t').collect();
        if columns[0].parse::<usize>().is_ok() {
            columns[3] = "_";
        }
        columns.join("\t") + "\n"
    });
    let blank = room.write("blank.conllu", blank.collect::<String>());
    let filled = done(&["predict", model, &blank]);
    assert_eq!(
        filled.replace('\r', ""),
        done(&["predict", model, &path]).replace('\r', ""),
        "labels are not looked at"
    );
}

#[test]
fn another_column_can_be_the_label() {
    let room = Room::new();
    let data = room.conllu("train.conllu", 150, 1);
    for (label, place, least) in [("xpos", 4, 0.8), ("deprel", 7, 0.8), ("feats", 5, 0.8)] {
        let out = room.name(label);
        let setting = format!("data.label={label}");
        done(&training(&data, &out, &["--set", &setting, "--set", "training.epochs=15"]));
        let share = column_is_filled(&out, &data, place);
        assert!(share > least, "{label}: {share}");
    }
}

#[test]
fn plain_sentences_become_words_with_tags_and_blank_lines_stay() {
    let (room, model) = model();
    let path = room.write("plain.txt", "they saw the old saw.\n\n   \nwe like a duck .\nwe found this river");
    let text = done(&["predict", model, &path]);
    let expected =
        "they_PRON saw_VERB the_DET old_ADJ saw_NOUN ._PUNCT\n\n\nwe_PRON like_VERB a_DET duck_NOUN ._PUNCT\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("we_PRON found_VERB this_DET river_NOUN\n"), "{text}");
    let lines = done(&["predict", model, &path, "--json"]);
    let lines: Vec<_> = lines.lines().map(json).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0]["words"], serde_json::json!(["they", "saw", "the", "old", "saw", "."]));
    assert_eq!(lines[0]["labels"], serde_json::json!(["PRON", "VERB", "DET", "ADJ", "NOUN", "PUNCT"]));
    assert_eq!(lines[1], serde_json::json!({ "words": [], "labels": [] }));
}

#[test]
fn standard_input_is_answered_sentence_by_sentence() {
    let (_, model) = model();
    let mut talk = Talk::start(&["predict", model, "-"]);
    talk.say("they saw a saw .\n");
    assert_eq!(talk.line(), "they_PRON saw_VERB a_DET saw_NOUN ._PUNCT");
    talk.say("we like the duck.\n");
    assert_eq!(talk.line(), "we_PRON like_VERB the_DET duck_NOUN ._PUNCT");
    talk.say("\n");
    assert_eq!(talk.line(), "");
    talk.say("we found a stone .");
    let rest = vec!["we_PRON found_VERB a_DET stone_NOUN ._PUNCT".to_string()];
    assert_eq!(talk.end(), (Some(0), rest), "a last line without its end");

    let mut talk = Talk::start(&["predict", model, "--json"]);
    talk.say("they saw a saw .\n");
    assert_eq!(json(&talk.line())["labels"], serde_json::json!(["PRON", "VERB", "DET", "NOUN", "PUNCT"]));
    assert_eq!(talk.end(), (Some(0), vec![]));

    let mut talk = Talk::start(&["predict", model, "-"]);
    for number in 1..4 {
        talk.say(&format!("# sent_id = {number}\n"));
        for (id, word) in ["they", "saw", "a", "saw", "."].iter().enumerate() {
            talk.say(&format!("{}\t{word}\t_\t_\t_\t_\t0\t_\t_\t_\n", id + 1));
        }
        talk.say("\n");
        assert_eq!(talk.line(), format!("# sent_id = {number}"));
        let tags = ["they\t_\tPRON", "saw\t_\tVERB", "a\t_\tDET", "saw\t_\tNOUN", ".\t_\tPUNCT"];
        for (id, tagged) in tags.iter().enumerate() {
            assert_eq!(talk.line(), format!("{}\t{tagged}\t_\t_\t0\t_\t_\t_", id + 1));
        }
        assert_eq!(talk.line(), "");
    }
    assert_eq!(talk.end(), (Some(0), vec![]));
}

#[cfg(unix)]
#[test]
fn one_interrupt_ends_a_wait_for_input() {
    let (_, model) = model();
    let mut talk = Talk::start(&["predict", model, "-"]);
    talk.say("they saw a saw .\n");
    assert_eq!(talk.line(), "they_PRON saw_VERB a_DET saw_NOUN ._PUNCT");
    signal("INT", talk.id());
    let (status, rest) = talk.wait();
    assert_eq!((status, rest), (Some(1), vec![]));
}

#[test]
fn entities_are_scored_as_entities() {
    let room = Room::new();
    let train = room.write("train.tsv", bio(&sentences(200, 0, 1)));
    let test = room.write("test.tsv", bio(&sentences(60, 0, 2)));
    let out = room.name("model");
    let result = json(&done(&training(&train, &out, &["--json", "--set", "training.epochs=25"])));
    assert_eq!(result["metric"], "f1");
    let result = json(&done(&["evaluate", &out, &test, "--json"]));
    for name in ["f1", "precision", "recall", "accuracy"] {
        let value = result[name].as_f64().unwrap_or_else(|| panic!("{name}: {result}"));
        assert!(value > 0.75 && value <= 1.0, "{name}: {result}");
    }
    assert!(done(&["evaluate", &out, &test]).contains("f1         0."));
    assert!(column_is_filled(&out, &test, 1) > 0.85);
    let tokens = room.write("tokens.tsv", "they\nsaw\na\nduck\n.\n\n");
    let filled = done(&["predict", &out, &tokens]);
    assert_eq!(filled, "they\tO\nsaw\tO\na\tO\nduck\tB-thing\n.\tO\n\n", "a column is added where there was none");
}

#[test]
fn a_builtin_corpus_is_trained_on_its_own_parts() {
    let room = Room::new();
    let out = room.name("model");
    done(&training("builtin:homographs", &out, &["--set", "training.epochs=1"]));
    let examples = |split: &str| {
        let result = json(&done(&["evaluate", &out, "builtin:homographs", "--split", split, "--json"]));
        result["examples"].as_u64().unwrap()
    };
    assert!(examples("train") > examples("test"));
    assert_eq!(json(&done(&["evaluate", &out, "builtin:homographs", "--json"]))["examples"], examples("test"));
}

#[test]
fn a_reader_that_goes_away_ends_the_work_in_peace() {
    let (room, model) = model();
    let many = room.write("many.txt", "they saw the old saw near every garden .\n".repeat(30_000));
    let wide =
        room.write("wide.txt", format!("{}\n", "they saw the old saw near every garden . ".repeat(500)).repeat(20));
    for (path, style) in [(&many, None), (&many, Some("--json")), (&wide, None), (&wide, Some("--json"))] {
        let mut command = program();
        command.args(["predict", model, path]).args(style).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("they") && line.contains("PRON"), "{line}");
        // The reader is gone by now.
        let ended = ended(child);
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{path} {style:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_is_full_is_told_in_one_line() {
    let (room, model) = model();
    let data = room.conllu("some.conllu", 20, 5);
    let dry = ["train", "--train", &data, "--dry-run"];
    for args in [&["predict", model, &data][..], &["evaluate", model, &data], &["info", model, "--json"], &dry] {
        let mut command = program();
        command.args(args).stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        assert_refused(&finish(command), 1, &["cannot write", "output", "No space left", "make room"]);
    }
}
