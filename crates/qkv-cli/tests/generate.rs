//! A language model over characters: trained, judged, asked to go on with a text, interrupted, and asked wrongly.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::*;

/// Generated sentences, one on each line.
fn text(count: usize, seed: u64) -> String {
    let line = |words: Vec<Word>| words.into_iter().map(|(word, _)| word).collect::<Vec<_>>().join(" ") + "\n";
    sentences(count, 0, seed).into_iter().map(line).collect()
}

/// Arguments that train a small language model quickly.
fn writing<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--train", data, "--out", out, "--threads", "1", "--task", "generate"];
    for setting in [
        "input.unit=characters",
        "model.context=16",
        "model.d_model=16",
        "model.layers=1",
        "model.heads=2",
        "training.batch_tokens=200",
        "training.learning_rate=1e-2",
        "training.steps=150",
        "training.dropout=0.1",
        "decoding.max_length=40",
    ] {
        args.extend(["--set", setting]);
    }
    more.iter().for_each(|setting| args.extend(["--set", setting]));
    args
}

/// One small model for all tests that only use it: the folder it lives in, its path, and the text it learned from.
fn model() -> &'static (Room, String, String) {
    static MODEL: OnceLock<(Room, String, String)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let room = Room::new();
        let (data, out) = (room.write("train.txt", text(600, 1)), room.name("model"));
        done(&writing(&data, &out, &["training.steps=300"]));
        (room, out, data)
    })
}

#[test]
fn a_model_is_trained_judged_and_asked_about_itself() {
    let room = Room::new();
    let train = text(400, 1);
    let cut = train.len() - train.len().div_ceil(10);
    let (data, dev) = (room.write("train.txt", &train), room.write("dev.txt", &train[cut..]));
    let out = room.name("model");
    let ended = qkv(&writing(&data, &out, &[]));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let batches = (cut - 1).div_ceil(200);
    let epochs = 150_usize.div_ceil(batches);
    assert!(ended.stderr.lines().all(|line| line.starts_with("epoch ") && line.contains("dev loss ")), "{ended:?}");
    assert!(ended.stdout.contains(&out) && ended.stdout.contains("dev loss "), "{ended:?}");
    let info = json(&done(&["info", &out, "--json"]));
    assert_eq!((&info["task"], &info["finished"]), (&"generate".into(), &true.into()));
    assert_eq!(info["metrics"]["steps"], 150, "the last epoch is cut");
    assert!(epochs.abs_diff(info["metrics"]["epochs"].as_array().unwrap().len()) <= 1, "{info}");
    let parts: Vec<_> =
        snapshot(&room.path("model")).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(parts, ["config.json", "metrics.json", "model.safetensors", "vocab.json"]);

    // The dev part is the end of the text.
    let result = json(&done(&["evaluate", &out, &dev, "--json"]));
    let keys: Vec<&String> = result.as_object().unwrap().keys().collect();
    let expected = ["task", "examples", "tokens", "seconds", "loss", "perplexity", "bits_per_character", "accuracy"];
    assert_eq!(keys, expected);
    assert_eq!(result["task"], "generate");
    assert_eq!(result["tokens"], train.len() - cut - 1);
    assert_eq!(result["examples"], (train.len() - cut - 1).div_ceil(16));
    for name in ["loss", "perplexity", "bits_per_character", "accuracy"] {
        assert_eq!(result[name], info["metrics"][name], "{name}");
    }
    let loss = result["loss"].as_f64().unwrap();
    assert!(loss > 0.3 && loss < 2.2, "a third of all letters are known by what stands before them: {result}");
    let best = info["metrics"]["epochs"].as_array().unwrap().iter().map(|epoch| epoch["loss"].as_f64().unwrap());
    assert_eq!(loss, best.fold(f64::INFINITY, f64::min), "the lowest is the best");
    assert!(done(&["evaluate", &out, &dev]).contains(&format!("\nloss               {loss:.4}\n")));

    let again = done(&[&writing(&data, &out, &[])[..], &["--resume"]].concat());
    assert!(again.contains("nothing was changed") && again.contains(&format!("dev loss {loss:.4}")), "{again}");
}

#[test]
fn a_prompt_is_gone_on_with_and_the_seed_decides_how() {
    let (room, model, _) = model();
    // (an unknown character is told on standard error)
    let done = |args: &[&str]| {
        let ended = qkv(args);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        ended.stdout
    };
    let prompts = room.write("prompts.txt", "they saw\n\nthe Ж old");
    let first = done(&["predict", model, &prompts, "--json"]);
    let answers: Vec<_> = first.lines().map(json).collect();
    let given: Vec<_> = answers.iter().map(|answer| answer["prompt"].as_str().unwrap()).collect();
    assert_eq!(given, ["they saw", "", "the Ж old"]);
    for answer in &answers {
        assert_eq!(answer["text"].as_str().unwrap().chars().count(), 40, "{answer}");
    }
    assert_eq!(done(&["predict", model, &prompts, "--json", "--threads", "1"]), first, "the same seed");
    assert_ne!(done(&["predict", model, &prompts, "--json", "--seed", "2"]), first, "another seed");
    let plain: String = answers
        .iter()
        .map(|answer| format!("{}{}\n", answer["prompt"].as_str().unwrap(), answer["text"].as_str().unwrap()))
        .collect();
    assert_eq!(done(&["predict", model, &prompts]), plain);

    // What follows a prompt does not depend on those before it, but on how many they are.
    let other = room.write("other.txt", "we like a stone .\n\nthe Ж old\n");
    let other = done(&["predict", model, &other, "--json"]);
    assert!(first.lines().skip(1).eq(other.lines().skip(1)));

    let greedy = |seed| done(&["predict", model, &prompts, "--set", "decoding.temperature=0", "--seed", seed]);
    assert_eq!(greedy("1"), greedy("2"), "the likeliest is the same whatever is drawn");
    let narrow = ["predict", model, &prompts, "--set", "decoding.top_k=1", "--set", "decoding.max_length=40"];
    assert_eq!(done(&narrow), greedy("1"), "one to draw from is the likeliest");
    let short = done(&["predict", model, &prompts, "--json", "--set", "decoding.max_length=3"]);
    assert!(short.lines().all(|line| json(line)["text"].as_str().unwrap().chars().count() == 3), "{short}");

    // More than the context is cut from the left.
    let long = room.write("long.txt", format!("{}they saw the old park", "x".repeat(5000)));
    let tail = room.write("tail.txt", "they saw the old park");
    let text = |path: &str| json(&done(&["predict", model, path, "--json"]))["text"].clone();
    assert_eq!(text(&long), text(&tail));
}

#[test]
fn standard_input_is_answered_prompt_by_prompt() {
    let (_, model, _) = model();
    let mut talk = Talk::start(&["predict", model, "-", "--json", "--set", "decoding.max_length=5"]);
    for prompt in ["they", "", "we saw a"] {
        talk.say(&format!("{prompt}\n"));
        assert_eq!(json(&talk.line())["prompt"], prompt);
    }
    assert_eq!(talk.end(), (Some(0), vec![]));
    let ended = qkv(&["predict", model]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stderr.contains("there is no prompt in it"), "{ended:?}");
    let mut talk = Talk::start(&["predict", model, "--set", "decoding.max_length=100000000"]);
    talk.say("they\n");
    assert!(talk.line().starts_with("they"));
    signal("INT", talk.id());
    assert_eq!(talk.wait().0, Some(1), "an interrupt ends a long text");
}

#[test]
fn characters_never_seen_are_counted_and_told() {
    let (room, model, _) = model();
    let strange = room.write("strange.txt", "they saw ЖЖ.\nthey saw Я.\n");
    let ended = qkv(&["evaluate", model, &strange, "--json"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let wanted = format!(
        "warning: {strange}: 3 characters are unknown to the model and count as wrong (2 different ones, the first \"Ж\" on line 1)\n"
    );
    assert_eq!(ended.stderr, wanted);
    assert!(json(&ended.stdout)["loss"].as_f64().unwrap().is_finite());
    // In a dev text they are told before training begins; a file of another encoding is read when that is named.
    let latin = room
        .write("latin.txt", text(100, 2).replace("river", "rivi\u{e8}re").chars().map(|c| c as u8).collect::<Vec<_>>());
    let (data, out) = (room.write("again.txt", text(100, 1)), room.name("again"));
    let setting = format!("data.dev={latin}");
    let steps = "training.steps=3";
    let ended = qkv(&writing(&data, &out, &[&setting, steps]));
    assert_refused(&ended, 1, &[&latin, "is not UTF-8", "data.encoding"]);
    let ended = qkv(&writing(&data, &out, &[&setting, steps, "data.encoding=latin-1"]));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stderr.starts_with(&format!("warning: {latin}: ")) && ended.stderr.contains("\"è\""), "{ended:?}");
}

#[test]
fn unknown_characters_of_a_prompt_are_told() {
    let (room, model, _) = model();
    let prompts = room.write("prompts.txt", "The\n你好\n");
    let ended = qkv(&["predict", model, &prompts, "--json"]);
    let warning = told(&ended).join("\n");
    assert!(
        ended.status == Some(0) && warning.contains("prompt 2: 2 characters are unknown") && warning.contains('你'),
        "{warning}"
    );
}

#[test]
fn epochs_asked_for_win_over_steps_of_the_recipe() {
    let room = Room::new();
    let (data, out) = (room.write("train.txt", text(200, 1)), room.name("model"));
    let recipe = room.write("recipe.toml", "[training]\nsteps = 100000\n");
    let mut args = writing(&data, &out, &["model.layers=1"]);
    let steps = args.iter().position(|arg| *arg == "training.steps=150").unwrap();
    args.drain(steps - 1..=steps);
    args.insert(1, &recipe);
    done(&[&args[..], &["--epochs", "2"]].concat());
    let metrics = fs::read_to_string(room.path("model/metrics.json")).unwrap();
    assert_eq!(json(&metrics)["epochs"].as_array().unwrap().len(), 2, "{metrics}");
}

#[test]
fn threads_and_kills_do_not_change_a_bit() {
    let room = Room::new();
    let data = room.write("train.txt", text(300, 1));
    let settings = ["training.checkpoint_every=5", "training.average=last", "training.average_count=2"];
    let args = |out: &str, threads: &str, more: &[&str]| {
        let out = room.name(out);
        let mut args: Vec<String> = writing(&data, &out, &settings).into_iter().map(String::from).collect();
        let place = args.iter().position(|arg| arg == "--threads").unwrap() + 1;
        args[place] = threads.into();
        args.extend(more.iter().map(ToString::to_string));
        args
    };
    let start = Instant::now();
    done(&args("one", "1", &[]));
    let whole = start.elapsed();
    done(&args("two", "2", &[]));
    assert!(weights(&room.name("one")) == weights(&room.name("two")), "one thread or two");
    done(&args("other", "1", &["--seed", "2"]));
    assert!(weights(&room.name("one")) != weights(&room.name("other")), "another seed");

    let mut ended_by_itself = false;
    for (number, share) in [0.2, 0.3, 0.2, 0.3].into_iter().enumerate() {
        let mut child = program().args(args("killed", ["1", "2"][number % 2], &["--resume"])).spawn().unwrap();
        if number == 0 {
            let state = room.path("killed/checkpoint/state.json");
            while !state.exists() {
                assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint");
                sleep(Duration::from_millis(2));
            }
        } else {
            sleep(whole.mul_f64(share));
        }
        if child.try_wait().unwrap().is_some() {
            ended_by_itself = true;
            break;
        }
        match number {
            2 => {
                signal("INT", child.id());
                let stopped = ended(child);
                assert!(matches!(stopped.status, Some(0 | 1)), "{stopped:?}");
            }
            _ => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
    }
    let last = done(&args("killed", "1", &["--resume"]));
    assert!(!ended_by_itself || last.contains("nothing was changed"), "{last}");
    assert!(weights(&room.name("one")) == weights(&room.name("killed")), "killed and gone on with");
    let metrics = |out: &str| json(&fs::read_to_string(room.path(out).join("metrics.json")).unwrap());
    let (mut one, mut killed) = (metrics("one"), metrics("killed"));
    for metrics in [&mut one, &mut killed] {
        metrics["seconds"].take();
        metrics["epochs"].as_array_mut().unwrap().iter_mut().for_each(|epoch| _ = epoch["seconds"].take());
    }
    assert_eq!(one, killed);
}

#[test]
fn every_choice_that_does_not_see_the_future() {
    let room = Room::new();
    let data = room.write("train.txt", text(100, 1));
    for (number, settings) in [
        &["model.mixer=none", "model.positions=none"][..],
        &["model.positions=learned", "input.words=one-hot"],
        &["model.positions=rotary", "model.window=4", "training.word_dropout=0.1"],
        &["model.positions=relative", "input.embedding_dim=7", "input.min_count=20"],
        &["model.score=additive", "model.normalizer=relu", "model.norm=after", "training.batch_tokens=10"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = room.name(&format!("model-{number}"));
        let ended = qkv(&writing(&data, &out, &[settings, &["training.steps=5"]].concat()));
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert_eq!(qkv(&["evaluate", &out, &data]).status, Some(0), "{settings:?}");
        let prompt = room.write("prompt.txt", "they\n");
        assert!(done(&["predict", &out, &prompt]).starts_with("they"));
    }
}

#[test]
fn a_dry_run_checks_and_predicts_and_writes_nothing() {
    let (room, out) = (Room::new(), model().1.as_str());
    let data = room.write("train.txt", text(600, 1));
    let never = room.name("never");
    let mut args = writing(&data, &never, &["training.steps=300"]);
    args.push("--dry-run");
    let told = done(&args);
    for part in ["recipe and data are in order", "characters   ", "for 300 steps", "memory "] {
        assert!(told.contains(part), "{part}: {told}");
    }
    args.push("--json");
    let result = json(&done(&args));
    let count = |name: &str| result[name].as_u64().unwrap() as usize;
    assert_eq!(count("train_tokens") + count("dev_tokens"), text(600, 1).len());
    assert_eq!(result["parameters"], json(&done(&["info", out, "--json"]))["parameters"]);
    assert!(!Path::new(&never).exists());
}

#[test]
fn wrong_usage_is_refused_in_one_line() {
    let (room, model, good) = model();
    let never = room.name("never");
    let refused = |data: &str, setting: &str, status: i32, wanted: &[&str]| {
        assert_refused(&qkv(&writing(data, &never, &[setting])), status, wanted);
        assert!(!Path::new(&never).exists(), "nothing is begun");
    };
    for (setting, wanted) in [
        ("model.mixer=cnn", &["model.mixer = \"cnn\"", "attention, rnn or none"][..]),
        ("model.mixer=window", &["model.mixer = \"window\"", "attention, rnn or none"]),
        ("input.unit=letters", &["input.unit", "letters", "characters"]),
        ("input.characters=affixes", &["input.characters"]),
        ("training.metric=bleu", &["training.metric", "loss or accuracy"]),
        ("decoding.strategy=beam", &["decoding.strategy", "decoding.temperature = 0"]),
        ("data.format=conllu", &["data.format", "conllu", "text"]),
        ("data.encoding=latin-7", &["latin-7", "did you mean latin-1?"]),
        ("training.steps=0", &["training.steps"]),
        ("model.context=0", &["model.context"]),
        ("decoding.top_k=0", &["top_k"]),
        ("decoding.temperature=-1", &["decoding.temperature"]),
    ] {
        let positions = if setting.starts_with("model.mixer") { "model.positions=none" } else { "model.layers=1" };
        assert_refused(&qkv(&writing(good, &never, &[positions, setting])), 2, wanted);
    }
    let empty = room.write("empty.txt", "");
    refused(&empty, "model.layers=1", 1, &[&empty, "there is no text in it", "right file?"]);
    assert_refused(&qkv(&["evaluate", model, &empty]), 1, &[&empty, "there is no text in it"]);
    let short = room.write("short.txt", "just 17 character");
    refused(&short, "model.layers=1", 1, &[&short, "15 characters to train on", "17", "model.context"]);
    let one = room.write("one.txt", "a");
    assert_refused(&qkv(&["evaluate", model, &one]), 1, &[&one, "too few", "at least 2"]);
    refused("builtin:homographs", "model.layers=1", 1, &["builtin:homographs", "name a file"]);
    let missing = room.name("none.txt");
    refused(&missing, "model.layers=1", 1, &[&missing, "check the path"]);
    assert_refused(&qkv(&["predict", model, &missing]), 1, &[&missing, "check the path"]);
    assert_refused(&qkv(&["predict", model, good, "--format", "columns"]), 2, &["columns", "known are", "text"]);
    assert_refused(&qkv(&["predict", model, good, "--format", "csv"]), 2, &["csv", "plain text"]);
    assert_refused(&qkv(&["evaluate", model, good, "--format", "conlu"]), 2, &["conlu", "known are", "text"]);
    for (setting, wanted) in [
        ("model.layers=2", "only keys of [decoding]"),
        ("decoding.topk=2", "`top_k`"),
        ("decoding.temperature=-1", "decoding.temperature"),
        ("decoding.strategy=beam", "decoding.strategy"),
    ] {
        assert_refused(&qkv(&["predict", model, good, "--set", setting]), 2, &[wanted]);
    }
    // A tagger does not learn from plain text.
    let args = ["train", "--train", good, "--out", &never];
    assert_refused(&qkv(&args), 1, &[good, "columns", "plain text"]);
    assert_refused(&qkv(&[&args[..], &["--format", "text"]].concat()), 1, &[good, "plain text, which has no labels"]);
    let args = ["train", "--train", good, "--out", &never, "--set", "input.unit=characters"];
    assert_refused(&qkv(&args), 2, &["model.task = \"tag\"", "input.unit"]);
    assert!(!Path::new(&never).exists());
}

/// What follows each prompt, 30 units by a seed.
fn followed(model: &str, prompts: &str) -> Vec<(String, String)> {
    let ended = qkv(&["predict", model, prompts, "--json", "--set", "decoding.max_length=30"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let plain = qkv(&["predict", model, prompts, "--set", "decoding.max_length=30"]).stdout;
    let text = |answer: &serde_json::Value, key: &str| answer[key].as_str().unwrap().to_string();
    let answers: Vec<_> =
        ended.stdout.lines().map(json).map(|answer| (text(&answer, "prompt"), text(&answer, "text"))).collect();
    let joined: String = answers.iter().map(|(prompt, text)| format!("{prompt}{text}\n")).collect();
    assert_eq!(plain, joined, "what is shown is the prompt and what follows it");
    answers
}

#[test]
fn words_and_subwords_are_put_together_as_texts_are_written() {
    let room = Room::new();
    let data = room.write("train.txt", text(400, 1));
    let prompts = room.write("prompts.txt", "they\nthey saw \n\n   \nthe old\t\n");
    for unit in ["words", "bpe"] {
        let out = room.name(unit);
        let unit_setting = format!("input.unit={unit}");
        done(&writing(&data, &out, &[&unit_setting, "input.subwords=60"]));
        let judged = json(&done(&["evaluate", &out, &data, "--json"]));
        assert!(judged["loss"].as_f64().unwrap() < 3.3, "{judged}");
        for (prompt, text) in followed(&out, &prompts) {
            let whole = format!("{prompt}{text}");
            let tail = &whole[prompt.trim_end().len()..];
            if unit == "words" {
                assert_eq!(text.split_whitespace().count(), 30, "{text:?}");
                assert_eq!(text.starts_with(' '), prompt == "they", "{whole:?}");
            }
            // A space that the prompt ends in is the one before the next word, so no two come together.
            assert!(!tail.trim_start().contains("  ") && !tail.contains('▁'), "{whole:?}");
            assert!(!prompt.ends_with(' ') || !text.starts_with(' '), "{whole:?}");
        }
    }
}

#[test]
fn prompts_longer_than_the_context_are_cut_from_the_left() {
    let room = Room::new();
    let data = room.write("train.txt", text(200, 1));
    for (number, settings) in [
        &["input.unit=words", "model.context=5"][..],
        &["input.unit=bpe", "input.subwords=60", "model.context=7"],
        &["model.context=1"],
        &["model.mixer=rnn", "model.positions=none", "model.context=6"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = room.name(&format!("model-{number}"));
        done(&writing(&data, &out, &[settings, &["training.steps=20"]].concat()));
        let tail = "they saw a stone near the river";
        let long = room.write("long.txt", format!("{} {tail}\n", "every red engine ".repeat(400).trim_end()));
        let short = room.write("short.txt", format!("{tail}\n"));
        // Both are longer than the context, so the model sees the same of both.
        assert_eq!(followed(&out, &long)[0].1, followed(&out, &short)[0].1, "{settings:?}");
    }
}

#[test]
fn a_recurrent_net_is_a_language_model_too() {
    let room = Room::new();
    let data = room.write("train.txt", text(400, 1));
    let (out, two) = (room.name("model"), room.name("two"));
    let settings = ["model.mixer=rnn", "model.positions=none", "training.metric=accuracy"];
    let told = done(&writing(&data, &out, &settings));
    assert!(told.contains("dev accuracy 0."), "{told}");
    let judged = json(&done(&["evaluate", &out, &data, "--json"]));
    assert!(judged["loss"].as_f64().unwrap() < 2.2, "as attention: {judged}");
    let mut args = writing(&data, &two, &settings);
    let threads = args.iter().position(|arg| *arg == "--threads").unwrap() + 1;
    args[threads] = "2";
    done(&args);
    assert!(weights(&out) == weights(&two), "one thread or two");
}
