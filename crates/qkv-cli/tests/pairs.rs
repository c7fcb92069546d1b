//! What is learned from pairs: trained from every form that pairs come in, judged, asked to write, interrupted, and asked wrongly.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::*;
use serde_json::Value;

/// A few letters, and the same backwards; the number of the draw decides which.
fn pairs(count: usize, seed: u64) -> Vec<(String, String)> {
    let mut draw = Draw::new(seed);
    let mut pair = || {
        let word: String = (0..=draw.below(3)).map(|_| char::from(b'a' + draw.below(4) as u8)).collect();
        (word.clone(), word.chars().rev().collect())
    };
    (0..count).map(|_| pair()).collect()
}

/// The same with a space behind each letter, so that each is a word.
fn spaced(pairs: &[(String, String)]) -> Vec<(String, String)> {
    let space = |text: &str| text.chars().map(String::from).collect::<Vec<_>>().join(" ");
    pairs.iter().map(|(source, target)| (space(source), space(target))).collect()
}

fn lines(pairs: &[(String, String)], line: impl Fn(&str, &str) -> String) -> String {
    pairs.iter().map(|(source, target)| line(source, target) + "\n").collect()
}

fn tabs(pairs: &[(String, String)]) -> String {
    lines(pairs, |source, target| format!("{source}\t{target}"))
}

/// Arguments that train a small model quickly; `--train` and `--out` are still to be given.
fn learning<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--task", "generate", "--threads", "1"];
    for setting in [
        "input.unit=characters",
        "model.d_model=32",
        "model.layers=1",
        "model.heads=2",
        "training.batch_tokens=300",
        "training.learning_rate=1e-2",
        "training.dropout=0",
        "training.steps=300",
        "decoding.max_length=8",
    ] {
        args.extend(["--set", setting]);
    }
    more.iter().for_each(|setting| args.extend(["--set", setting]));
    args
}

/// Trains on one file, or two; returns the model.
fn trained(room: &Room, name: &str, train: &[&str], more: &[&str]) -> String {
    let out = room.name(name);
    done(&[&learning(more)[..], &["--train"], train, &["--out", &out]].concat());
    out
}

fn judged(model: &str, data: &[&str], more: &[&str]) -> Value {
    json(&done(&[&["evaluate", model], data, more, &["--json"]].concat()))
}

fn answers(model: &str, data: &str, more: &[&str]) -> Vec<Value> {
    let ended = qkv(&[&["predict", model, data, "--json"], more].concat());
    assert_eq!(ended.status, Some(0), "{ended:?}");
    ended.stdout.lines().map(json).collect()
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("no {key}: {object}"))
}

/// One model for all tests that only use it, and pairs to judge it by.
fn model() -> &'static (Room, String, String) {
    static MODEL: OnceLock<(Room, String, String)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let room = Room::new();
        let (data, dev) = (room.write("train.tsv", tabs(&pairs(400, 1))), room.write("dev.tsv", tabs(&pairs(60, 2))));
        let model = trained(&room, "model", &[&data], &["training.metric=exact_match"]);
        (room, model, dev)
    })
}

#[test]
fn a_model_is_trained_judged_and_asked_about_itself() {
    let (_, model, dev) = model();
    let info = json(&done(&["info", model, "--json"]));
    assert_eq!((&info["task"], &info["finished"]), (&"generate".into(), &true.into()));
    assert_eq!(info["recipe"]["training"]["metric"], "exact_match");
    let result = judged(model, &[dev], &[]);
    let keys: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).collect();
    let known = ["task", "examples", "tokens", "seconds", "bleu", "bleu_lowercase", "chrf", "exact_match", "wer"];
    assert_eq!(
        keys,
        [&known[..], &["loss", "perplexity", "accuracy"]].concat(),
        "all of one length, so no table of them"
    );
    assert_eq!((&result["task"], &result["examples"]), (&"generate".into(), &60.into()));
    // Each target has an end.
    let units: usize = pairs(60, 2).iter().map(|(_, target)| target.len() + 1).sum();
    assert_eq!(result["tokens"], units);
    assert!(number(&result, "exact_match") >= 0.95, "{result}");
    assert!((number(&result, "exact_match") + number(&result, "wer") - 1.0).abs() < 1e-9, "one word each: {result}");
    assert!((number(&result, "perplexity") - number(&result, "loss").exp()).abs() < 1e-9);
    assert!(done(&["evaluate", model, dev]).contains("\nexact match "));
}

/// How a pair is written on a line.
type Form<'a> = &'a dyn Fn(&str, &str) -> String;

#[test]
fn every_form_of_pairs_gives_the_same_model() {
    let room = Room::new();
    let (train, dev) = (pairs(60, 1), pairs(20, 2));
    let forms: [(&str, Form, &str); 5] = [
        ("tsv", &|source, target| format!("{source}\t{target}"), ""),
        ("txt", &|source, target| format!("IN: {source} OUT: {target}"), ""),
        ("csv", &|source, target| format!("7,\"{target}\",{source}"), "number,target,source\n"),
        ("jsonl", &|source, target| format!(r#"{{"output": "{target}", "input": "{source}"}}"#), ""),
        ("table.tsv", &|source, target| format!("{target}\tx\t{source}"), "behind\tmore\tfront\n"),
    ];
    let mut models = Vec::new();
    for (ending, line, head) in forms {
        let write = |name: &str, pairs: &[(String, String)]| {
            room.write(&format!("{name}.{ending}"), format!("{head}{}", lines(pairs, line)))
        };
        let (train, dev) = (write("train", &train), write("dev", &dev));
        let out = room.name(&format!("model-{ending}"));
        let mut args = learning(&["training.steps=10"]);
        if ending == "table.tsv" {
            args.extend(["--set", "data.source=front", "--set", "data.target=behind"]);
        }
        args.extend(["--train", &train, "--dev", &dev, "--out", &out]);
        done(&args);
        assert_eq!(judged(&out, &[&dev], &[])["examples"], 20);
        models.push(weights(&out));
    }
    let side = |name: &str, pairs: &[(String, String)], first: bool| {
        room.write(name, lines(pairs, |source, target| if first { source } else { target }.to_string()))
    };
    let (source, target) = (side("train.a", &train, true), side("train.b", &train, false));
    let (dev_source, dev_target) = (side("dev.a", &dev, true), side("dev.b", &dev, false));
    let out = room.name("parallel");
    let files = ["--train", &source, &target, "--dev", &dev_source, &dev_target, "--out", &out];
    done(&[&learning(&["training.steps=10"])[..], &files].concat());
    assert_eq!(judged(&out, &[&dev_source, &dev_target], &[])["examples"], 20);
    models.push(weights(&out));
    assert!(models.iter().all(|other| *other == models[0]), "the same pairs, the same bits");
    // The sources alone are enough to write from.
    assert_eq!(answers(&out, &dev_source, &[]).len(), 20);
}

#[test]
fn every_mixer_learns_with_and_without_attention_to_the_source() {
    let room = Room::new();
    let (data, dev) = (room.write("train.tsv", tabs(&pairs(400, 1))), room.write("dev.tsv", tabs(&pairs(60, 2))));
    for mixer in ["attention", "rnn", "none"] {
        for cross in ["attention", "none"] {
            let settings = [format!("model.mixer={mixer}"), format!("model.cross={cross}")];
            let mut settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            if mixer == "rnn" {
                settings.push("model.positions=none");
            }
            let model = trained(&room, &format!("{mixer}-{cross}"), &[&data], &settings);
            let result = judged(&model, &[&dev], &[]);
            // One vector for the whole is harder to write from.
            let least = if cross == "attention" { 0.95 } else { 0.75 };
            assert!(number(&result, "exact_match") >= least, "{mixer}, {cross}: {result}");
        }
    }
}

#[test]
fn one_vocabulary_for_both_sides_and_one_table_for_embeddings_and_logits() {
    let room = Room::new();
    let (data, dev) = (room.write("train.tsv", tabs(&pairs(400, 1))), room.write("dev.tsv", tabs(&pairs(60, 2))));
    let mut sizes = Vec::new();
    for settings in [
        &["input.shared=false", "model.tied=false"][..],
        &["input.shared=true", "model.tied=false"],
        &["input.shared=true", "model.tied=true"],
    ] {
        let model = trained(&room, &format!("model-{}", sizes.len()), &[&data], settings);
        assert!(number(&judged(&model, &[&dev], &[]), "exact_match") >= 0.9, "{settings:?}");
        let vocabulary = json(&fs::read_to_string(Path::new(&model).join("vocab.json")).unwrap());
        assert_eq!(vocabulary.get("shared").is_some(), settings[0].ends_with("true"));
        sizes.push(json(&done(&["info", &model, "--json"]))["parameters"].as_u64().unwrap());
    }
    // Seven ids, of 32 numbers each: a table less, and then the weights of the logits less.
    assert_eq!([sizes[0] - sizes[1], sizes[1] - sizes[2]], [7 * 32, 7 * 32]);
}

#[test]
fn every_unit_that_texts_are_cut_into() {
    let room = Room::new();
    let (plain, wide) = (pairs(400, 1), spaced(&pairs(400, 1)));
    let (plain_dev, wide_dev) = (pairs(60, 2), spaced(&pairs(60, 2)));
    for (settings, train, dev, least) in [
        (&["input.unit=words"][..], &wide, &wide_dev, 0.9),
        (&["input.unit=phones", "training.metric=per"], &wide, &wide_dev, 0.9),
        (&["input.unit=characters", "input.target_unit=phones"], &wide, &wide_dev, 0.9),
        // Whole words of letters must be known by heart where subwords are long.
        (&["input.unit=bpe", "input.subwords=30", "model.cross=attention"], &plain, &plain_dev, 0.6),
    ] {
        let (train, dev) = (room.write("train.tsv", tabs(train)), room.write("dev.tsv", tabs(dev)));
        let model = trained(&room, &settings.join("-"), &[&train], settings);
        let result = judged(&model, &[&dev], &[]);
        assert!(number(&result, "exact_match") >= least, "{settings:?}: {result}");
        let phones = settings.iter().any(|setting| setting.ends_with("=phones"));
        assert_eq!((result.get("per").is_some(), result.get("bleu").is_some()), (phones, !phones), "{result}");
        if phones {
            assert!((number(&result, "wer") + number(&result, "exact_match") - 1.0).abs() < 1e-9, "{result}");
        }
    }
}

#[test]
fn every_metric_can_decide() {
    let room = Room::new();
    let data = room.write("train.tsv", tabs(&spaced(&pairs(60, 1))));
    for (metric, unit) in [
        ("bleu", "characters"),
        ("exact_match", "words"),
        ("exact-match", "words"),
        ("wer", "words"),
        ("per", "phones"),
        ("wer", "phones"),
        ("loss", "bpe"),
        ("accuracy", "words"),
    ] {
        let settings = [format!("training.metric={metric}"), format!("input.unit={unit}")];
        let more = [&settings[0], &settings[1], "training.steps=12", "input.subwords=20"];
        let out = room.name(&format!("{metric}-{unit}"));
        let told = done(&[&learning(&more)[..], &["--train", &data, "--out", &out, "--json"]].concat());
        let told = json(&told);
        let name = metric.replace('-', "_");
        assert_eq!(told["metric"], name);
        let metrics = json(&fs::read_to_string(Path::new(&out).join("metrics.json")).unwrap());
        assert_eq!(metrics[&name], told[&name]);
        let scores = metrics["epochs"].as_array().unwrap().iter().map(|epoch| number(epoch, &name));
        let best = match metric {
            "wer" | "per" | "loss" => scores.fold(f64::INFINITY, f64::min),
            _ => scores.fold(f64::NEG_INFINITY, f64::max),
        };
        assert_eq!(number(&told, &name), best, "{told}");
    }
    let never = room.name("never");
    for (settings, wanted) in [
        (&["training.metric=per"][..], "input.target_unit = \"phones\""),
        (&["training.metric=bleu", "input.target_unit=phones"], "per, wer or exact_match"),
        (&["training.metric=f1"], "f1"),
        (&["training.metric=blue"], "bleu"),
    ] {
        let args = [&learning(settings)[..], &["--train", &data, "--out", &never]].concat();
        assert_refused(&qkv(&args), 2, &["training.metric", wanted]);
    }
    assert!(!Path::new(&never).exists());
}

#[test]
fn a_beam_gives_alternatives_best_first() {
    let (_, model, dev) = model();
    let greedy = answers(model, dev, &[]);
    let wide = answers(model, dev, &["--set", "decoding.beam=4"]);
    assert_eq!((greedy.len(), wide.len()), (60, 60));
    let count = |wide: &Value| wide["alternatives"].as_array().map_or(0, Vec::len);
    assert!(wide.iter().map(count).sum::<usize>() > 60, "{wide:?}");
    for (greedy, wide) in greedy.iter().zip(&wide) {
        assert_eq!(greedy.get("alternatives"), None);
        let alternatives = wide["alternatives"].as_array().unwrap();
        // Fewer, where what is still unwritten could not become better any more.
        assert!(alternatives.len() <= 3, "{wide}");
        let all = || std::iter::once(wide).chain(alternatives);
        // They are compared by the mean over their units, the end among them: decoding.length_penalty is 1.
        let units = |text: &Value| text["text"].as_str().unwrap().len() as f64 + 1.0;
        let scores: Vec<f64> = all().map(|text| number(text, "log_probability") / units(text)).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{wide}");
        assert!(scores[0] >= number(greedy, "log_probability") / units(greedy) - 1e-5, "{greedy} {wide}");
        let likely: f64 = all().map(|text| number(text, "log_probability").exp()).sum();
        assert!(likely <= 1.0 + 1e-6, "different texts: {wide}");
        assert!(all().all(|text| text["complete"] == true));
    }
    let judged = judged(model, &[dev], &["--set", "decoding.beam=4"]);
    assert!(number(&judged, "exact_match") >= 0.95, "{judged}");
}

#[test]
fn what_is_drawn_depends_on_the_seed_and_the_number_alone() {
    let (room, model, _) = model();
    let sources = room.write("sources.txt", "abc\ncd\nabc\n\nda\n".repeat(3));
    let drawn = |more: &[&str]| {
        let hot = ["--set", "decoding.strategy=sample", "--set", "decoding.temperature=4"];
        done(&[&["predict", model, &sources, "--json"][..], &hot, more].concat())
    };
    let first = drawn(&["--seed", "1"]);
    assert_eq!(first, drawn(&["--seed", "1", "--threads", "1"]));
    assert_ne!(first, drawn(&["--seed", "2"]));
    let same: Vec<&str> = first.lines().filter(|line| line.contains(r#""source":"abc""#)).collect();
    assert!(same.windows(2).any(|two| two[0] != two[1]), "each draws for itself: {same:?}");
    // Line by line over a pipe it is the same as from a file.
    let hot = ["predict", model, "-", "--json", "--seed", "1", "--set", "decoding.strategy=sample"];
    let mut talk = Talk::start(&[&hot[..], &["--set", "decoding.temperature=4"]].concat());
    let text = fs::read_to_string(&sources).unwrap();
    for (source, answer) in text.lines().zip(first.lines()) {
        talk.say(&format!("{source}\n"));
        // The last bits of a probability may hang on how many texts were written side by side.
        assert_eq!(json(&talk.line())["text"], json(answer)["text"]);
    }
    assert_eq!(talk.end(), (Some(0), vec![]));
    // Cold, or of the likeliest alone, it is what is searched for.
    let searched = done(&["predict", model, &sources]);
    for setting in ["decoding.temperature=0", "decoding.top_k=1", "decoding.top_p=1e-9"] {
        let sample = ["--set", "decoding.strategy=sample", "--set", setting];
        assert_eq!(done(&[&["predict", model, &sources][..], &sample].concat()), searched, "{setting}");
    }
    for setting in ["decoding.top_k=0", "decoding.top_p=0", "decoding.top_p=1.5", "decoding.temperature=-1"] {
        assert_refused(&qkv(&["predict", model, &sources, "--set", setting]), 2, &[&setting[9..14]]);
    }
}

#[test]
fn lines_are_answered_in_order_and_at_once() {
    let (room, model, _) = model();
    let asked: Vec<String> = pairs(200, 5).into_iter().map(|(source, _)| source).collect();
    let file = room.write("asked.txt", asked.join("\n"));
    let answered = done(&["predict", model, &file]);
    let right = |(asked, answer): (&String, &str)| asked.chars().rev().eq(answer.chars());
    let count = asked.iter().zip(answered.lines()).filter(|&both| right(both)).count();
    assert!(answered.lines().count() == 200 && count >= 190, "{count} of 200 in their places");
    for (line, answer) in asked.iter().zip(answers(model, &file, &[])) {
        assert_eq!(answer["source"], *line);
    }
    let mut talk = Talk::start(&["predict", model]);
    for source in ["abc", "", "dca", "  "] {
        talk.say(&format!("{source}\n"));
        let expected: String = source.trim().chars().rev().collect();
        assert_eq!(talk.line(), expected, "a blank line for a blank line");
    }
    talk.say("ab");
    assert_eq!(talk.end(), (Some(0), vec!["ba".into()]), "a last line without an end");
    let blank = room.write("blank.txt", "abc\n\n\ncba\n");
    let blank: Vec<Value> = answers(model, &blank, &[]).into_iter().map(|mut answer| answer["text"].take()).collect();
    assert_eq!(blank, ["cba", "", "", "abc"]);
    let ended = qkv(&["predict", model]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), ""));
    assert!(ended.stderr.contains("there is no text in it"), "{ended:?}");
    // Pairs may be given as well: only what is read of them is.
    let both = room.write("both.tsv", "abc\tnonsense\ncd\t\n");
    assert_eq!(done(&["predict", model, &both]), "cba\ndc\n");
}

#[test]
fn a_text_that_does_not_end_is_told() {
    let (room, model, _) = model();
    let sources = room.write("cut.txt", "abc\na\n");
    for more in [&["--set", "decoding.strategy=beam"][..], &["--set", "decoding.strategy=sample", "--seed", "3"]] {
        let ended = qkv(&[&["predict", model, &sources, "--json", "--set", "decoding.max_length=2"], more].concat());
        let lines: Vec<Value> = ended.stdout.lines().map(json).collect();
        let [one, two] = &lines[..] else { panic!("{ended:?}") };
        assert_eq!((&one["complete"], &two["complete"]), (&false.into(), &true.into()), "{one} {two}");
        assert_eq!(one["text"], "cb");
        let told = told(&ended).join("\n");
        assert!(
            told.contains("1 of 2 texts (the first is number 1)") && told.contains("decoding.max_length = 2"),
            "{told}"
        );
    }
    let data = room.write("cut.tsv", "abc\tcba\n");
    let ended = qkv(&["evaluate", model, &data, "--set", "decoding.max_length=2"]);
    assert!(ended.status == Some(0) && ended.stderr.contains("decoding.max_length = 2"), "{ended:?}");
}

#[test]
fn units_never_seen_are_told() {
    let (room, model, _) = model();
    let sources = room.write("strange.txt", "aЖb\nab\n");
    let ended = qkv(&["predict", model, &sources]);
    assert_eq!(ended.stdout.lines().count(), 2);
    assert!(ended.stderr.contains("unknown to the model"), "{ended:?}");
    let data = room.write("strange.tsv", "ab\tbЖa\n");
    let ended = qkv(&["evaluate", model, &data, "--json"]);
    assert!(ended.status == Some(0) && ended.stderr.contains("do not occur in training"), "{ended:?}");
    assert!(number(&json(&ended.stdout), "loss").is_finite());
}

#[test]
fn threads_and_kills_do_not_change_a_bit() {
    let room = Room::new();
    let data = room.write("train.tsv", tabs(&pairs(200, 1)));
    let args = |out: &str, threads: &str| {
        let settings = ["training.checkpoint_every=7", "training.dropout=0.1", "training.metric=exact_match"];
        let mut args: Vec<String> = learning(&settings).into_iter().map(String::from).collect();
        let place = args.iter().position(|arg| arg == "--threads").unwrap() + 1;
        args[place] = threads.into();
        args.extend(["--train", &data, "--out", &room.name(out)].map(String::from));
        args
    };
    let start = Instant::now();
    done(&args("one", "1"));
    let whole = start.elapsed();
    done(&args("two", "2"));
    assert!(weights(&room.name("one")) == weights(&room.name("two")), "one thread or two");
    for (number, threads) in ["2", "1", "2"].into_iter().enumerate() {
        let mut child = program().args(args("killed", threads)).arg("--resume").spawn().unwrap();
        let state = room.path("killed/checkpoint/state.json");
        let wait = Instant::now();
        // Each time a little later, once there is something to go on from.
        while !state.exists() && child.try_wait().unwrap().is_none() {
            assert!(wait.elapsed() < Duration::from_secs(60), "no checkpoint");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(whole.mul_f64(0.15 * number as f64));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut last = args("killed", "1");
    last.push("--resume".into());
    done(&last);
    assert!(weights(&room.name("one")) == weights(&room.name("killed")), "killed and gone on with");
    assert!(done(&last).contains("nothing was changed"));
}

#[test]
fn bad_pairs_are_refused_by_file_and_line() {
    let (room, model, _) = model();
    let never = room.name("never");
    let refused = |train: &[&str], status: i32, wanted: &[&str]| {
        let args = [&learning(&[])[..], &["--train"], train, &["--out", &never]].concat();
        assert_refused(&qkv(&args), status, wanted);
        assert!(!Path::new(&never).exists(), "nothing is begun");
    };
    let (three, two) = (room.write("three.a", "a\nb\nc\n"), room.write("two.b", "a\nb\n"));
    refused(&[&three, &two], 1, &[&three, "has 3 lines", &two, "has 2"]);
    assert_refused(&qkv(&["evaluate", model, &three, &two]), 1, &["has 3 lines", "has 2"]);
    let hole = room.write("hole.b", "a\n\nc\n");
    refused(&[&three, &hole], 1, &[&format!("{hole}:2:"), "the target is empty"]);
    refused(&[&hole, &three], 1, &[&format!("{hole}:2:"), "the source is empty"]);
    for (content, line, wanted) in [
        ("a\tb\nc\n", 2, "target"),
        ("a\tb\n\tc\n", 2, "source"),
        ("a\tb\nc\td\te\n", 2, "2 tabs"),
        ("IN: a OUT: b\nIN: c\n", 2, "target"),
        ("IN: a OUT: b\nc d\n", 2, "IN:"),
        ("{\"source\": \"a\", \"target\": \"b\"}\n{\"source\": \"a\"}\n", 2, "target"),
        ("{\"source\": \"a\", \"target\": \"b\"}\n{\"source\": \n", 2, ""),
    ] {
        let file = room.write("bad.txt", content);
        refused(&[&file], 1, &[&format!("{file}:{line}"), wanted]);
    }
    let csv = room.write("bad.csv", "one,two,three\na,b,c\n");
    refused(&[&csv], 1, &[&csv, "source"]);
    let long = room.write("long.tsv", format!("a\tb\n{}\tb\na\tb\n", "ab".repeat(600)));
    refused(&[&long], 1, &[&format!("{long}:2:"), "data.max_tokens = 1024"]);
    let long = room.write("long-target.tsv", format!("a\tb\na\t{}\na\tb\n", "ab".repeat(600)));
    refused(&[&long], 1, &[&format!("{long}:2:"), "data.max_tokens = 1024"]);
    let latin = room.write("latin.tsv", b"a\tb\ncaf\xe9\tb\n");
    refused(&[&latin], 1, &[&format!("{latin}:2"), "is not UTF-8", "data.encoding"]);
    let one = room.write("one.tsv", "a\tb\n");
    refused(&[&one], 1, &["1 examples cannot be split", "data.dev"]);
    let empty = room.write("empty.tsv", "");
    refused(&[&empty], 1, &[&empty]);
    assert_refused(&qkv(&["evaluate", model, &empty]), 1, &[&empty]);
    let missing = room.name("missing.tsv");
    refused(&[&missing], 1, &[&missing, "check the path"]);
    // One pair is enough where another file is there to judge by.
    let out = room.name("of-one");
    let args = ["--train", &one, "--dev", &one, "--out", &out, "--set", "training.steps=3"];
    done(&[&learning(&[])[..], &args].concat());
    // A third file would be no side of a pair.
    refused(&[&three, &three, &three], 2, &[&three, "a recipe is a TOML file"]);
    let paths = format!("data.train=[\"{three}\", \"{three}\", \"{three}\"]");
    let args = [&learning(&[&paths])[..], &["--out", &never]].concat();
    assert_refused(&qkv(&args), 2, &["data.train names 3 files", "two of parallel text"]);
    assert_refused(&qkv(&["evaluate", model, &three, &three, &three]), 2, &[&three]);
}

#[test]
fn what_a_model_of_pairs_cannot_be_is_refused() {
    let room = Room::new();
    let (train, never) = (room.write("train.tsv", tabs(&pairs(20, 1))), room.name("never"));
    for (settings, wanted) in [
        (
            &["model.mixer=rnn", "model.positions=none", "model.d_model=31"][..],
            ["model.d_model (31)", "model.heads (2)"],
        ),
        (&["model.mixer=none", "model.positions=none", "model.heads=0"], ["model.heads (0)", "at least 1"]),
        (&["model.cross=none", "model.pooling=class"], ["model.pooling", "mean, ends or attention"]),
    ] {
        let args = [&learning(settings)[..], &["--train", &train, "--out", &never]].concat();
        assert_refused(&qkv(&args), 2, &wanted);
        assert!(!Path::new(&never).exists());
    }
    // A text of its own has nothing to look at.
    let settings =
        ["model.mixer=rnn", "model.positions=none", "model.d_model=31", "training.steps=2", "data.format=text"];
    done(&[&learning(&settings)[..], &["--train", &train, "--out", &room.name("text")]].concat());
}

#[test]
fn a_pipe_is_read_from_its_beginning_or_not_at_all() {
    let room = Room::new();
    let content = tabs(&pairs(40, 1));
    let (file, out) = (room.write("train.tsv", &content), room.name("piped"));
    let piped = |more: &[&str]| {
        let mut command = program();
        let args = [&learning(more)[..], &["--train", "-", "--out", &out]].concat();
        command.args(args).stdin(std::process::Stdio::from(fs::File::open(&file).unwrap()));
        finish(command)
    };
    assert_refused(&piped(&["training.steps=3"]), 2, &["data.train", "only once", "data.format"]);
    assert!(!Path::new(&out).exists());
    let ended = piped(&["training.steps=3", "data.format=pairs"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let named = trained(&room, "named", &[&file], &["training.steps=3", "data.format=pairs"]);
    assert_eq!(weights(&out), weights(&named));
}

#[test]
fn a_huge_line_is_read() {
    let (room, model, _) = model();
    let huge = room.write("huge.txt", format!("ab\n{}\ncd\n", "abcd".repeat(2500)));
    let answered = answers(model, &huge, &[]);
    let texts = [&answered[0]["text"], &answered[2]["text"]];
    assert_eq!((answered.len(), texts), (3, [&Value::from("ba"), &"dc".into()]));
    assert_eq!(answered[1]["source"].as_str().unwrap().len(), 10_000);
}

#[test]
fn a_damaged_vocabulary_is_refused_by_name() {
    let (room, model, dev) = model();
    let copy = room.path("damaged");
    copy_model(model, &copy);
    let path = copy.join("vocab.json");
    let whole = fs::read_to_string(&path).unwrap();
    for broken in [whole.replacen("\"b\"", "\"x\"", 1), whole[..whole.len() / 2].to_string(), String::new()] {
        assert_ne!(broken, whole);
        fs::write(&path, broken).unwrap();
        for command in ["evaluate", "predict"] {
            let ended = qkv(&[command, copy.to_str().unwrap(), dev]);
            assert_refused(&ended, 1, &["vocab.json", "copy the model again or train again"]);
        }
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(done(&["predict", copy.to_str().unwrap(), dev]), done(&["predict", model, dev]));
}
