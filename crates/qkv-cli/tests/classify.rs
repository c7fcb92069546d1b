//! A label, or a number, for a whole text: trained, judged, predicted, interrupted, and asked wrongly.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::*;

/// Generated texts with what they are about: `water` if there is a river in them, else `person` or `thing`, by who does it.
fn labelled(count: usize, seed: u64) -> Vec<(&'static str, String)> {
    let of = |words: Vec<Word>| {
        let text: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
        let label = match words[0].1 {
            _ if text.contains(&"river") => "water",
            "PRON" => "person",
            _ => "thing",
        };
        (label, text.join(" "))
    };
    sentences(count, 0, seed).into_iter().map(of).collect()
}

/// The texts, one on each line behind its label.
fn lines(texts: &[(&str, String)]) -> String {
    texts.iter().map(|(label, text)| format!("{label} {text}\n")).collect()
}

/// Numbers that say who does it, and whether a river is in it.
fn numbered(count: usize, seed: u64) -> String {
    let number = |label: &str| match label {
        "water" => -1250.5,
        "person" => 40.0,
        _ => 2000.0,
    };
    labelled(count, seed).iter().map(|(label, text)| format!("{} {text}\n", number(label))).collect()
}

/// Arguments that train a small model quickly.
fn training<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--train", data, "--out", out, "--threads", "1", "--task", "classify"];
    for setting in [
        "training.epochs=16",
        "training.batch_tokens=200",
        "training.learning_rate=1e-2",
        "model.d_model=16",
        "model.layers=1",
        "model.heads=2",
    ] {
        args.extend(["--set", setting]);
    }
    more.iter().for_each(|setting| args.extend(["--set", setting]));
    args
}

/// One small model for all tests that only use it: the folder it lives in, and its path.
fn model() -> &'static (Room, String) {
    static MODEL: OnceLock<(Room, String)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let room = Room::new();
        let (data, out) = (room.write("train.txt", lines(&labelled(300, 1))), room.name("model"));
        done(&training(&data, &out, &[]));
        (room, out)
    })
}

/// The texts alone, one on each line.
fn plain(texts: &[(&str, String)]) -> String {
    texts.iter().map(|(_, text)| format!("{text}\n")).collect()
}

#[test]
fn a_model_is_trained_judged_and_asked_about_itself() {
    let room = Room::new();
    let (data, dev) =
        (room.write("train.txt", lines(&labelled(300, 1))), room.write("dev.txt", lines(&labelled(90, 2))));
    let (out, setting) = (room.name("model"), format!("data.dev={dev}"));
    let args = training(&data, &out, &[&setting]);
    let said = done(&args);
    assert!(said.contains(&out) && said.contains("dev accuracy "), "{said}");
    let parts: Vec<_> =
        snapshot(&room.path("model")).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(parts, ["config.json", "metrics.json", "model.safetensors", "vocab.json"]);
    let info = json(&done(&["info", &out, "--json"]));
    assert_eq!((&info["task"], &info["finished"]), (&"classify".into(), &true.into()));

    let result = json(&done(&["evaluate", &out, &dev, "--json"]));
    let keys: Vec<&String> = result.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["task", "examples", "tokens", "seconds", "accuracy", "f1", "loss", "confusion"]);
    assert_eq!((&result["task"], &result["examples"]), (&"classify".into(), &90.into()));
    let words: usize = labelled(90, 2).iter().map(|(_, text)| text.split(' ').count()).sum();
    assert_eq!(result["tokens"], words);
    for name in ["accuracy", "f1", "loss"] {
        assert_eq!(result[name], info["metrics"][name], "{name}");
    }
    assert!(result["accuracy"].as_f64().unwrap() > 0.95, "{result}");
    assert_eq!(result["confusion"]["accuracy"], result["accuracy"]);
    let names: Vec<_> = result["confusion"]["classes"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["person", "thing", "water"]);
    let text = done(&["evaluate", &out, &dev]);
    for part in ["texts)", "f1 ", "loss ", "words a second", "wanted \\ predicted", "person", "water"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let again = done(&[&args[..], &["--resume"]].concat());
    assert!(again.contains("nothing was changed"), "{again}");
}

#[test]
fn what_is_predicted_is_in_order_with_what_came() {
    let (room, model) = model();
    let texts = labelled(200, 3);
    let (data, alone) = (room.write("test.txt", lines(&texts)), room.write("alone.txt", plain(&texts)));
    let accuracy = json(&done(&["evaluate", model, &data, "--json"]))["accuracy"].as_f64().unwrap();
    let plain = done(&["predict", model, &alone]);
    let right = plain.lines().zip(&texts).filter(|(line, (label, text))| *line == format!("{label}\t{text}")).count();
    assert_eq!(right as f64 / 200.0, accuracy);
    assert!(plain.lines().zip(&texts).all(|(line, (_, text))| line.split_once('\t').unwrap().1 == text));

    let answers = done(&["predict", model, &alone, "--json"]);
    for ((line, (_, text)), plain) in answers.lines().zip(&texts).zip(plain.lines()) {
        let answer = json(line);
        let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["text", "label", "probabilities"]);
        assert_eq!(answer["text"].as_str(), Some(text.as_str()));
        assert_eq!(plain.split_once('\t').unwrap().0, answer["label"].as_str().unwrap());
        let probabilities = answer["probabilities"].as_object().unwrap();
        assert_eq!(probabilities.keys().collect::<Vec<_>>(), ["person", "thing", "water"]);
        let of = |name: &str| probabilities[name].as_f64().unwrap();
        assert!((of("person") + of("thing") + of("water") - 1.0).abs() < 1e-9);
        let label = answer["label"].as_str().unwrap();
        assert!(probabilities.keys().all(|name| of(name) <= of(label)), "{answer}");
    }
    assert_eq!(done(&["predict", model, &alone, "--json", "--threads", "1"]), answers);
    // Whatever else is in the batch, but for rounding.
    let one = room.write("one.txt", &texts[7].1);
    let (one, line) = (json(&done(&["predict", model, &one, "--json"])), json(answers.lines().nth(7).unwrap()));
    assert_eq!(one["label"], line["label"]);
}

#[test]
fn every_line_of_plain_text_gives_a_line() {
    let (room, model) = model();
    let odd = room.write("odd.txt", "the red river .\n\n  \t\nthey\tsaw a park .\r\n");
    let answers = done(&["predict", model, &odd]);
    let lines: Vec<&str> = answers.split('\n').collect();
    assert_eq!(lines.len(), 5, "{answers:?}");
    assert!(lines[0].ends_with("\tthe red river .") && lines[3].ends_with("\tthey saw a park ."), "{answers:?}");
    assert_eq!((lines[1], lines[2], lines[4]), ("", "", ""));
    let answers = done(&["predict", model, &odd, "--json"]);
    let answers: Vec<_> = answers.lines().map(json).collect();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[1], serde_json::json!({ "text": "", "label": null, "probabilities": null }));
    assert!(answers[0]["label"].is_string() && answers[3]["text"] == "they\tsaw a park .");

    let mut talk = Talk::start(&["predict", model, "-"]);
    for text in ["the old river .", "we saw a park ."] {
        talk.say(&format!("{text}\n"));
        assert!(talk.line().ends_with(&format!("\t{text}")));
    }
    talk.say("\n");
    assert_eq!(talk.line(), "");
    assert_eq!(talk.end(), (Some(0), vec![]));
    let ended = qkv(&["predict", model]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stderr.contains("there is no text in it"), "{ended:?}");
}

#[test]
fn a_huge_line_is_a_text_like_any_other() {
    let (room, model) = model();
    let huge = room.write("huge.txt", format!("{}\nthe red river .\n", "they saw a park ".repeat(5000)));
    let answers = done(&["predict", model, &huge, "--json"]);
    let answers: Vec<_> = answers.lines().map(json).collect();
    assert_eq!((answers.len(), answers[0]["text"].as_str().unwrap().len()), (2, 80_000));
    assert!(answers.iter().all(|answer| answer["label"].is_string()));
    // Of a million words each would look at all others, and that would never end.
    let endless = room.write("endless.txt", "they saw a park ".repeat(250_000));
    let wanted = [&endless, "text 1 has 1000000 units", "model.window"];
    assert_refused(&qkv(&["predict", model, &endless]), 1, &wanted);
    let out = room.name("endless.npy");
    assert_refused(&qkv(&["embed", model, &endless, "--out", &out]), 1, &wanted[1..]);
    let data = room.write("long.txt", format!("a b\nb {}\n", "word ".repeat(2000)).repeat(8));
    let never = room.name("never");
    assert_refused(&qkv(&training(&data, &never, &[])), 1, &[&data, "2000 words", "data.max_tokens = 1024"]);
}

#[test]
fn tables_and_objects_are_read_by_the_names_of_their_columns() {
    let room = Room::new();
    let texts = labelled(120, 1);
    let csv: String = texts.iter().map(|(label, text)| format!("7,\"{text}\",{label}\n")).collect();
    let csv = room.write("train.csv", format!("id,what,kind\n{csv}"));
    let out = room.name("model");
    done(&training(&csv, &out, &["data.text=what", "data.label=kind", "training.epochs=2"]));
    let object = |(label, text): &(&str, String)| format!("{}\n", serde_json::json!({ "what": text, "kind": label }));
    let objects = room.write("test.jsonl", texts.iter().map(object).collect::<String>());
    let result = |data: &str| json(&done(&["evaluate", &out, data, "--json"]))["accuracy"].clone();
    assert_eq!(result(&csv), result(&objects));
    // The label that stands in the file is no part of the text, and may be missing.
    let answers = done(&["predict", &out, &csv]);
    assert_eq!(answers.lines().count(), 120);
    assert!(answers.lines().zip(&texts).all(|(line, (_, text))| line.ends_with(&format!("\t{text}"))));
    let unlabelled = room.write("new.csv", "what\nthe red river .\n");
    assert!(done(&["predict", &out, &unlabelled]).ends_with("\tthe red river .\n"));
    let never = room.name("never");
    let ended = qkv(&training(&csv, &never, &["data.text=wat", "data.label=kind"]));
    assert_refused(&ended, 1, &[&csv, "\"wat\"", "did you mean \"what\"?"]);
}

#[test]
fn labels_that_training_never_saw_are_named_and_count_as_wrong() {
    let (room, model) = model();
    let data = room
        .write("strange.txt", "thing the old park .\nmystery they saw it .\nmystery the river .\nwater a river .\n");
    let ended = qkv(&["evaluate", model, &data, "--json"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let warning = format!("warning: {data}:2: label `mystery` never occurs in training; its 2 texts count as wrong");
    assert_eq!(told(&ended), [warning]);
    let result = json(&ended.stdout);
    assert!(result["accuracy"].as_f64().unwrap() <= 0.5 && result["loss"].as_f64().unwrap().is_finite(), "{result}");
    assert!(result["confusion"]["classes"].as_array().unwrap().iter().any(|class| class["name"] == "mystery"));
    // In a dev file they are told before training begins.
    let (train, out) = (room.write("train.lt", lines(&labelled(60, 1))), room.name("again"));
    let dev = format!("data.dev={data}");
    let ended = qkv(&training(&train, &out, &[&dev, "training.epochs=1"]));
    assert!(ended.status == Some(0) && ended.stderr.contains(&format!("{data}:2: label `mystery`")), "{ended:?}");
    let other = room.write("other.txt", "x one\ny two\n");
    assert_refused(&qkv(&["evaluate", model, &other]), 1, &[&other, "none of its labels", "right column"]);
    let dev = format!("data.dev={other}");
    assert_refused(&qkv(&training(&train, &room.name("never"), &[&dev])), 1, &[&other, "none of its labels"]);
}

#[test]
fn what_may_be_a_mistake_is_told() {
    let (room, model) = model();
    let data = room.write("labelled.txt", lines(&labelled(5, 4)));
    let ended = qkv(&["predict", model, &data]);
    assert!(ended.status == Some(0) && ended.stderr.contains("give --format label-text"), "{ended:?}");
    let texts = plain(&labelled(5, 4));
    let answers = done(&["predict", model, &data, "--format", "label-text"]);
    assert!(answers.lines().zip(texts.lines()).all(|(line, text)| line.ends_with(&format!("\t{text}"))), "{answers}");
    let unknown = room.write("unknown.txt", "Ж Щ\nthe river .\n");
    let ended = qkv(&["predict", model, &unknown]);
    assert!(ended.status == Some(0) && ended.stderr.contains("in 1 of 2 texts nothing is known"), "{ended:?}");
}

#[test]
fn numbers_are_learned_in_their_own_unit() {
    let room = Room::new();
    let (data, test) = (room.write("train.txt", numbered(300, 1)), room.write("test.txt", numbered(90, 2)));
    let out = room.name("model");
    let said = done(&training(&data, &out, &["model.task=regress", "training.epochs=24"]));
    assert!(said.contains("dev rmse "), "{said}");
    let result = json(&done(&["evaluate", &out, &test, "--json"]));
    let keys: Vec<&String> = result.as_object().unwrap().keys().collect();
    let expected = ["task", "examples", "tokens", "seconds", "rmse", "mae", "r2", "pearson", "spearman", "loss"];
    assert_eq!(keys, expected);
    let figure = |name: &str| result[name].as_f64().unwrap();
    assert!(figure("r2") > 0.9 && figure("pearson") > 0.9 && figure("rmse") < 400.0, "{result}");
    let texts = room.write("texts.txt", "the red river .\n\nthe old park saw a stone .\n");
    let answers = done(&["predict", &out, &texts]);
    let lines: Vec<&str> = answers.lines().collect();
    let value = |line: &str| line.split_once('\t').unwrap().0.parse::<f64>().unwrap();
    assert!(value(lines[0]) < -500.0 && lines[1].is_empty() && value(lines[2]) > 1000.0, "{answers}");
    let objects = done(&["predict", &out, &texts, "--json"]);
    let objects: Vec<_> = objects.lines().map(json).collect();
    assert_eq!(objects[0].as_object().unwrap().keys().collect::<Vec<_>>(), ["text", "value"]);
    assert_eq!(objects[0]["value"].as_f64(), Some(value(lines[0])));
    assert_eq!(objects[1], serde_json::json!({ "text": "", "value": null }));

    let never = room.name("never");
    let words = room.write("words.txt", lines_of_words());
    assert_refused(
        &qkv(&training(&words, &never, &["model.task=regress"])),
        1,
        &[&words, ":1: ", "finite number", "classify"],
    );
    let same = room.write("same.txt", "3 one\n3.0 two\n3 three\n".repeat(4));
    assert_refused(
        &qkv(&training(&same, &never, &["model.task=regress"])),
        1,
        &[&same, "same label", "nothing to learn"],
    );
    assert_refused(&qkv(&["evaluate", &out, &words]), 1, &[&words, "finite number"]);
}

fn lines_of_words() -> String {
    lines(&labelled(20, 1))
}

#[test]
fn two_classes_have_a_roc_curve_and_rare_ones_can_count_as_much_as_common_ones() {
    let room = Room::new();
    let two = |count: usize, seed: u64| {
        let binary = |label: &str| if label == "water" { "yes" } else { "no" };
        labelled(count, seed).iter().map(|(label, text)| format!("{}\t{text}\n", binary(label))).collect::<String>()
    };
    let (data, test) = (room.write("train.txt", two(200, 1)), room.write("test.txt", two(90, 2)));
    let (one, other) = (room.name("one"), room.name("other"));
    done(&training(&data, &one, &["training.metric=f1"]));
    let result = json(&done(&["evaluate", &one, &test, "--json"]));
    assert!(result["roc_auc"].as_f64().unwrap() > 0.95, "{result}");
    let info = json(&done(&["info", &one, "--json"]));
    assert_eq!(info["metrics"]["metric"], "f1");
    done(&training(&data, &other, &["training.metric=f1", "training.class_weights=balanced"]));
    assert!(weights(&one) != weights(&other));
}

#[test]
fn every_mixer_pooling_and_unit() {
    let room = Room::new();
    let data = room.write("train.txt", lines(&labelled(60, 1)));
    let vectors = room.write("small.vec", "2 3\nriver 1 2 3\nthey -1 0 1\n");
    let vectors = format!("input.vectors={vectors}");
    for (number, settings) in [
        &["model.mixer=none", "model.positions=none", "model.pooling=mean", "input.words=one-hot"][..],
        &["model.mixer=window", "model.pooling=ends", "training.word_dropout=0.1", &vectors],
        &["model.mixer=cnn", "model.pooling=attention", "input.characters=affixes", "training.affix_dropout=0.1"],
        &["model.mixer=rnn", "input.unit=characters", "input.lowercase=true"],
        &["model.pooling=class", "input.unit=bpe", "input.subwords=60", "training.label_smoothing=0.1"],
        &["model.positions=relative", "input.min_count=2", "training.average=last"],
        &["model.task=regress", "model.pooling=class", "model.positions=learned", "data.label=none"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = room.name(&format!("model-{number}"));
        let regress = settings.contains(&"model.task=regress");
        let data = if regress { room.write("numbers.txt", numbered(60, 1)) } else { data.clone() };
        done(&training(&data, &out, &[settings, &["training.epochs=1"]].concat()));
        done(&["evaluate", &out, &data]);
        let texts = room.write("texts.txt", "the red river .\n");
        assert!(done(&["predict", &out, &texts]).ends_with("\tthe red river .\n"), "{settings:?}");
    }
}

#[test]
fn threads_and_kills_do_not_change_a_bit() {
    let room = Room::new();
    let data = room.write("train.txt", lines(&labelled(200, 1)));
    let settings = ["training.checkpoint_every=3", "training.average=last", "model.pooling=class"];
    let regress = ["model.task=regress", "training.checkpoint_every=3"];
    let numbers = room.write("numbers.txt", numbered(200, 1));
    for (name, data, settings) in [("classes", &data, &settings[..]), ("numbers", &numbers, &regress)] {
        let args = |out: &str, threads: &str, more: &[&str]| {
            let out = room.name(&format!("{name}-{out}"));
            let mut args: Vec<String> = training(data, &out, settings).into_iter().map(String::from).collect();
            let place = args.iter().position(|arg| arg == "--threads").unwrap() + 1;
            args[place] = threads.into();
            args.extend(more.iter().map(ToString::to_string));
            args
        };
        let start = Instant::now();
        done(&args("one", "1", &[]));
        let whole = start.elapsed();
        done(&args("two", "2", &[]));
        let weights = |out: &str| weights(&room.name(&format!("{name}-{out}")));
        assert!(weights("one") == weights("two"), "one thread or two");

        let mut child = program().args(args("killed", "2", &[])).spawn().unwrap();
        let state = room.path(&format!("{name}-killed/checkpoint/state.json"));
        while !state.exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint");
            sleep(Duration::from_millis(1));
        }
        sleep(whole.mul_f64(0.2));
        child.kill().unwrap();
        child.wait().unwrap();
        let ended = qkv(&args("killed", "1", &["--resume"]));
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert!(weights("one") == weights("killed"), "killed and gone on with");
    }
    // Other data under the same run are refused.
    let out = room.name("other");
    let other = room.write("other.txt", lines(&labelled(200, 1)));
    let args: Vec<&str> = [&training(&other, &out, &settings)[..], &["--set", "training.epochs=2000"]].concat();
    let mut child = program().args(&args).spawn().unwrap();
    while !Path::new(&out).join("checkpoint/state.json").exists() {
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(&other, lines(&labelled(200, 2))).unwrap();
    assert_refused(&qkv(&[&args[..], &["--resume"]].concat()), 1, &["--resume", "data.train"]);
}

#[test]
fn a_dry_run_checks_and_predicts_and_writes_nothing() {
    let room = Room::new();
    let (data, never) = (room.write("train.txt", lines(&labelled(100, 1))), room.name("never"));
    let mut args = training(&data, &never, &[]);
    args.push("--dry-run");
    let said = done(&args);
    for part in ["recipe and data are in order", "texts        90\n", "words        ", "labels       3\n", "memory "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    args.push("--json");
    let result = json(&done(&args));
    assert_eq!((&result["labels"], &result["texts"]), (&3.into(), &90.into()));
    assert!(result["parameters"].as_u64().unwrap() > 1000 && !Path::new(&never).exists());
}

#[test]
fn wrong_usage_is_refused_in_one_line() {
    let room = Room::new();
    let (data, never) = (room.write("train.txt", lines(&labelled(40, 1))), room.name("never"));
    for (setting, wanted) in [
        ("input.unit=phones", &["classify", "words, characters"][..]),
        ("input.unit=items", &["classify", "words, characters"]),
        ("model.pooling=max", &["model.pooling", "mean"]),
        ("training.metric=bleu", &["training.metric", "classify"]),
        ("training.class_weights=even", &["class_weights", "balanced"]),
        ("data.format=conllu", &["data.format", "label-text"]),
        ("model.mixer=factors", &["model.mixer = \"factors\"", "items"]),
    ] {
        assert_refused(&qkv(&training(&data, &never, &[setting])), 2, wanted);
    }
    let refused = |content: &[u8], settings: &[&str], wanted: &[&str]| {
        let data = room.write("bad.txt", content);
        assert_refused(&qkv(&training(&data, &never, settings)), 1, &[&[data.as_str()], wanted].concat());
        assert!(!Path::new(&never).exists(), "nothing is begun");
    };
    refused(b"", &[], &["there is no text"]);
    let single = room.write("single.txt", "x one\n");
    assert_refused(&qkv(&training(&single, &never, &[])), 1, &["cannot be split", "at least 2", "data.dev"]);
    refused("x one\nx two\n".repeat(9).as_bytes(), &[], &["same label, `x`", "nothing to learn", "data.label"]);
    refused(b"x one\ny\n", &[], &[":2: ", "no text beside the label"]);
    refused(b"x one\ny caf\xe9\n", &[], &[":2: ", "is not UTF-8", "encoding"]);
    refused(b"x one\ny two\n", &["data.format=text"], &["plain text, which has no labels"]);
    refused(b"x \x01\ny \x02\n", &["input.unit=bpe"], &["nothing"]);
    let missing = room.name("none.txt");
    assert_refused(&qkv(&training(&missing, &never, &[])), 1, &[&missing, "check the path"]);
    assert_refused(&qkv(&training("builtin:homographs", &never, &[])), 1, &["builtin:homographs"]);

    // Of a file that is found to be damaged later, what came before is answered.
    let (good, model) = model();
    let broken = good.write("broken.txt", [b"the river .\n".repeat(3000), b"caf\xe9\n".to_vec()].concat());
    let ended = qkv(&["predict", model, &broken]);
    assert_refused(&ended, 1, &[&broken, ":3001: ", "is not UTF-8"]);
    assert_eq!(ended.stdout.lines().count(), 3000);
    assert!(qkv(&["predict", model, &broken, "--encoding", "latin-1"]).stdout.ends_with("\tcafé\n"));
    assert_refused(&qkv(&["evaluate", model, &data, &data]), 2, &["one file"]);
    let damaged = good.path("damaged");
    copy_model(model, &damaged);
    fs::write(damaged.join("vocab.json"), "{}").unwrap();
    assert_refused(&qkv(&["predict", damaged.to_str().unwrap(), &data]), 1, &["vocab.json"]);
}
