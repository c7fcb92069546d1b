//! What is chosen next, and how well it is liked: trained, judged, asked, interrupted, and asked wrongly.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::*;

/// Items stand in a ring, and after each comes the next.
const RING: usize = 40;

fn item(place: usize) -> String {
    format!("item {:02}", place % RING)
}

/// Everybody begins somewhere in the ring. The lines go back in time, so that whoever trusts their order learns nonsense.
fn histories(users: usize, seed: u64) -> String {
    let mut draw = Draw::new(seed);
    let mut text = String::from("time\tuserId\tmovieId\n");
    for user in 0..users {
        let (first, length) = (draw.below(RING), 6 + draw.below(6));
        for place in (0..length).rev() {
            let _ = writeln!(text, "{place}\tuser {user}\t{}", item(first + place));
        }
    }
    text
}

/// Users and items are of one of two kinds each, and like meets like.
fn opinions(users: usize, items: usize, seed: u64) -> String {
    let mut draw = Draw::new(seed);
    let mut text = String::new();
    for user in 0..users {
        for item in (0..items).filter(|_| draw.below(3) > 0).collect::<Vec<_>>() {
            let noise = draw.below(3) as f64 * 0.1 - 0.1;
            let rating = if user % 2 == item % 2 { 4.5 } else { 1.5 } + noise;
            let _ = writeln!(text, "u{user}::i{item}::{rating:.1}");
        }
    }
    text
}

/// Arguments that train a small model quickly.
fn training<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--train", data, "--out", out, "--threads", "1"];
    for setting in [
        "model.task=generate",
        "input.unit=items",
        "model.d_model=16",
        "model.layers=1",
        "model.heads=2",
        "training.batch_tokens=200",
        "training.learning_rate=1e-2",
        "training.epochs=12",
    ] {
        args.extend(["--set", setting]);
    }
    more.iter().for_each(|setting| args.extend(["--set", setting]));
    args
}

const FACTORS: &str = "model.mixer=factors";
const RATINGS: [&str; 4] = ["model.task=regress", FACTORS, "model.d_model=2", "training.dropout=0"];

/// One small model for all tests that only use it: the folder it lives in, its path, and what it learned from.
fn model() -> &'static (Room, String, String) {
    static MODEL: OnceLock<(Room, String, String)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let room = Room::new();
        let (data, out) = (room.write("ratings.tsv", histories(300, 1)), room.name("model"));
        done(&training(&data, &out, &[]));
        (room, out, data)
    })
}

#[test]
fn what_comes_next_is_learned_and_judged() {
    let (_, out, data) = model();
    let info = json(&done(&["info", out, "--json"]));
    assert_eq!((&info["task"], &info["finished"]), (&"generate".into(), &true.into()));
    let test = json(&done(&["evaluate", out, data, "--json"]));
    let keys: Vec<&String> = test.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["task", "examples", "tokens", "seconds", "hr@10", "ndcg@10", "mrr", "loss"]);
    assert_eq!((&test["task"], &test["examples"]), (&"generate".into(), &300.into()));
    // By counting it would be ten of about thirty.
    assert!(test["hr@10"].as_f64().unwrap() > 0.95 && test["ndcg@10"].as_f64().unwrap() > 0.9, "{test}");
    let dev = json(&done(&["evaluate", out, data, "--json", "--split", "dev"]));
    for name in ["hr@10", "ndcg@10", "mrr", "loss"] {
        assert_eq!(dev[name], info["metrics"][name], "{name}");
        assert_ne!(dev[name], serde_json::Value::Null, "{name}");
    }
    assert_eq!(info["metrics"]["metric"], "ndcg@10");
    assert_ne!(dev["loss"], test["loss"], "other items are held out");
    let again = done(&[&training(data, out, &[])[..], &["--resume"]].concat());
    assert!(again.contains("nothing was changed") && again.contains("dev ndcg@10"), "{again}");
    let shown = done(&["evaluate", out, data]);
    assert!(shown.contains("\nhr@10 ") && shown.contains("items "), "{shown}");
}

#[test]
fn to_everybody_in_a_file_something_new_is_recommended() {
    let (room, out, _) = model();
    let others = room.write("others.csv", "x,item 07\nx,item 08\ny,\"item 39\"\nx,item 09\n");
    let plain = done(&["predict", out, &others, "--set", "decoding.top_k=3"]);
    let lines: Vec<Vec<&str>> = plain.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 2, "{plain}");
    assert!(lines.iter().all(|line| line.len() == 4), "{plain}");
    assert_eq!((lines[0][..2].to_vec(), lines[1][..2].to_vec()), (vec!["x", "item 10"], vec!["y", "item 00"]));

    let told = done(&["predict", out, &others, "--json"]);
    let answers: Vec<_> = told.lines().map(json).collect();
    assert_eq!((&answers[0]["user"], &answers[1]["user"]), (&"x".into(), &"y".into()));
    let items = answers[0]["items"].as_array().unwrap();
    let names: Vec<_> = items.iter().map(|one| one["item"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names[0]), (10, "item 10"));
    assert!(names.iter().all(|name| !["item 07", "item 08", "item 09"].contains(name)), "{names:?}");
    let probabilities: Vec<f64> = items.iter().map(|one| one["probability"].as_f64().unwrap()).collect();
    assert!(probabilities.is_sorted_by(|a, b| a >= b) && probabilities[0] > 0.5, "{probabilities:?}");
    assert!(probabilities.iter().sum::<f64>() <= 1.0 + 1e-9);
    // All of them, those that were chosen before among them if that is wanted.
    let count = |settings: &[&str]| {
        let mut args = vec!["predict", out, &others, "--json", "--set", "decoding.top_k=1000"];
        settings.iter().for_each(|setting| args.extend(["--set", setting]));
        json(done(&args).lines().next().unwrap())["items"].as_array().unwrap().len()
    };
    assert_eq!((count(&[]), count(&["decoding.seen=true"])), (RING - 3, RING));
    // Batches do not matter.
    let small = done(&["predict", out, &others, "--set", "decoding.top_k=3", "--set", "decoding.batch_tokens=1"]);
    assert_eq!(small, plain);
}

#[test]
fn lines_of_items_are_answered_as_they_come() {
    let (_, out, _) = model();
    let mut talk = Talk::start(&["predict", out, "-", "--format", "text", "--set", "decoding.top_k=2"]);
    for (line, next) in [("item 03\titem 04", "item 05"), ("item 20", "item 21")] {
        talk.say(&format!("{line}\n"));
        let answer = talk.line();
        assert_eq!(answer.split('\t').next(), Some(next), "{answer}");
        assert_eq!(answer.split('\t').count(), 2);
    }
    talk.say("\n");
    assert_eq!(talk.line().split('\t').count(), 2, "somebody of whom nothing is known");
    assert_eq!(talk.end(), (Some(0), vec![]));
}

#[test]
fn what_the_model_does_not_know_is_told_and_left_out() {
    let (room, out, _) = model();
    let lines = room.write("lines.txt", "item 03\tЖ\titem 04\n");
    let ended = qkv(&["predict", out, &lines, "--format", "text", "--json"]);
    assert_eq!(
        told(&ended),
        [format!("warning: {lines}: 1 choices are of items that never occur in training: they are left out")]
    );
    let answer = json(&ended.stdout);
    assert_eq!((&answer["user"], &answer["items"][0]["item"]), (&serde_json::Value::Null, &"item 05".into()));

    let strange = "a\titem 01\na\titem 02\na\tnew\nb\titem 05\nb\titem 06\nb\titem 07\nc\titem 09\nd\titem 01\nd\titem 02\nd\titem 01\n";
    let strange = room.write("strange.tsv", strange);
    let ended = qkv(&["evaluate", out, &strange, "--json"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let warnings = told(&ended);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for (warning, wanted) in warnings.iter().zip([
        "1 users have fewer than three items",
        "1 of 3 held-out items never occur in training: they count as missed",
        "1 of 3 held-out items had been chosen before",
    ]) {
        assert!(warning.contains(&strange) && warning.contains(wanted), "{warning}");
    }
    let result = json(&ended.stdout);
    assert!((result["hr@10"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9, "{result}");
    let ended = qkv(&["predict", out]);
    assert_refused(&ended, 1, &["standard input", "no rating"]);
}

#[test]
fn each_mixer_goes_the_same_way() {
    let room = Room::new();
    let data = room.write("ratings.tsv", histories(60, 2));
    let stranger = room.write("stranger.tsv", "user 0\titem 01\nnobody\titem 01\nnobody\titem 02\nnobody\titem 03\n");
    for (number, settings) in [
        &[FACTORS, "training.label_smoothing=0.1"][..],
        &["model.mixer=popularity", "training.steps=7"],
        &["model.mixer=rnn", "model.positions=none", "training.word_dropout=0.1"],
        &["model.mixer=none", "model.positions=none", "training.metric=loss"],
        &[
            "model.tied=true",
            "model.positions=learned",
            "model.context=3",
            "input.min_count=2",
            "training.average=last",
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let out = room.name(&format!("model-{number}"));
        let ended = qkv(&training(&data, &out, &[settings, &["training.epochs=2"]].concat()));
        assert_eq!(ended.status, Some(0), "{settings:?}: {ended:?}");
        let result = json(&done(&["evaluate", &out, &data, "--json"]));
        assert!(result["loss"].as_f64().unwrap() < 4.5, "{settings:?}: {result}");
        let ended = qkv(&["predict", &out, &stranger]);
        assert_eq!((ended.status, ended.stdout.lines().count()), (Some(0), 2), "{settings:?}: {ended:?}");
        match settings[0] {
            FACTORS => {
                let warning = format!(
                    "warning: {stranger}: 1 of 2 users never occur in training: what is popular is recommended to them"
                );
                assert_eq!(told(&ended), [warning]);
                let ended = qkv(&["evaluate", &out, &stranger]);
                assert!(told(&ended).iter().any(|line| line.contains("1 of 1 users never occur")), "{ended:?}");
                let ended = qkv(&["predict", &out, &stranger, "--format", "text"]);
                assert!(told(&ended).iter().any(|line| line.contains("give ratings")), "{ended:?}");
            }
            "model.mixer=popularity" => {
                let info = json(&done(&["info", &out, "--json"]));
                assert_eq!(info["metrics"]["epochs"].as_array().unwrap().len(), 1, "there is nothing more to count");
            }
            _ => assert_eq!(told(&ended), Vec::<&str>::new(), "a history is all that is needed"),
        }
    }
}

#[test]
fn ratings_are_predicted() {
    let room = Room::new();
    let (data, out) = (room.write("opinions.dat", opinions(60, 40, 1)), room.name("model"));
    let trained = done(&training(&data, &out, &[&RATINGS[..], &["training.epochs=60"]].concat()));
    assert!(trained.contains("dev rmse"), "{trained}");
    let test = json(&done(&["evaluate", &out, &data, "--json"]));
    let keys: Vec<&String> = test.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["task", "examples", "tokens", "seconds", "rmse", "mae", "loss"]);
    assert_eq!(test["task"], "regress");
    // Ratings differ by 1.5 from their mean, and nobody knows 0.1 of it.
    assert!(test["rmse"].as_f64().unwrap() < 0.3, "{test}");
    let examples = |split: &str| {
        json(&done(&["evaluate", &out, &data, "--json", "--split", split]))["examples"].as_u64().unwrap() as usize
    };
    let all = std::fs::read_to_string(&data).unwrap().lines().count();
    assert_eq!(examples("train") + examples("dev") + examples("test"), all);
    assert!(examples("train") > 7 * all / 10 && examples("test") > all / 20);
    // Of the same ratings in another file nothing says which were trained on.
    assert_eq!(told(&qkv(&["evaluate", &out, &data])), Vec::<&str>::new());
    let sorted = room.write("sorted.dat", std::fs::read(&data).unwrap());
    assert!(told(&qkv(&["evaluate", &out, &sorted]))[0].contains("it is not the file that was trained on"));

    let asked = room.write("asked.tsv", "u0\ti0\nu0\ti1\nu1\ti0\nwho\ti3\nwho\twhat\n");
    let ended = qkv(&["predict", &out, &asked]);
    let lines: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(
        lines.iter().map(|line| line[..2].join(" ")).collect::<Vec<_>>(),
        ["u0 i0", "u0 i1", "u1 i0", "who i3", "who what"]
    );
    let ratings: Vec<f64> = lines.iter().map(|line| line[2].parse().unwrap()).collect();
    for (rating, wanted) in ratings.iter().zip([4.5, 1.5, 1.5, 3.0, 3.0]) {
        assert!((rating - wanted).abs() < 0.8, "{ratings:?}");
    }
    let warnings = told(&ended);
    assert!(warnings.len() == 2 && warnings[0].contains("2 of 5 ratings are of users"), "{warnings:?}");
    let first = qkv(&["predict", &out, &asked, "--json"]).stdout;
    let first = json(first.lines().next().unwrap());
    assert_eq!((&first["user"], &first["item"]), (&"u0".into(), &"i0".into()));
    assert!((first["rating"].as_f64().unwrap() - ratings[0]).abs() < 1e-4, "{first}");
}

#[test]
fn threads_and_kills_do_not_change_a_bit() {
    let room = Room::new();
    let (chosen, liked) = (room.write("chosen.tsv", histories(200, 3)), room.write("liked.dat", opinions(60, 40, 3)));
    for (number, (data, settings)) in [
        (&chosen, &["training.word_dropout=0.1", "training.epochs=10"][..]),
        (&chosen, &[FACTORS, "training.epochs=40"]),
        (&chosen, &["model.mixer=popularity"]),
        (&liked, &[&RATINGS[..], &["training.epochs=60"]].concat()),
    ]
    .into_iter()
    .enumerate()
    {
        let args = |out: &str, threads: &str, more: &[&str]| {
            let out = room.name(&format!("{out}-{number}"));
            let settings = [settings, &["training.checkpoint_every=5"]].concat();
            let mut args: Vec<String> = training(data, &out, &settings).into_iter().map(String::from).collect();
            let place = args.iter().position(|arg| arg == "--threads").unwrap() + 1;
            args[place] = threads.into();
            args.extend(more.iter().map(ToString::to_string));
            args
        };
        let trained = |out: &str| weights(&room.name(&format!("{out}-{number}")));
        done(&args("one", "1", &[]));
        done(&args("two", "2", &[]));
        assert!(trained("one") == trained("two"), "{settings:?}: one thread or two");
        if number != 2 {
            done(&args("other", "1", &["--seed", "2"]));
            assert!(trained("one") != trained("other"), "{settings:?}: another seed");
        }
        let mut child = program().args(args("killed", "2", &[])).spawn().unwrap();
        let (state, start) = (room.path(&format!("killed-{number}/checkpoint/state.json")), Instant::now());
        while !state.exists() && child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        done(&args("killed", "1", &["--resume"]));
        assert!(trained("one") == trained("killed"), "{settings:?}: killed and gone on with");
    }
}

#[test]
fn a_dry_run_checks_and_predicts_and_writes_nothing() {
    let room = Room::new();
    let (data, never) = (room.write("ratings.tsv", histories(60, 1)), room.name("never"));
    for settings in [&["model.layers=1"][..], &[FACTORS], &["model.mixer=popularity"]] {
        let mut args = training(&data, &never, settings);
        args.extend(["--dry-run", "--json"]);
        let result = json(&done(&args));
        assert_eq!((&result["users"], &result["items"], &result["dev_tokens"]), (&60.into(), &RING.into(), &60.into()));
    }
    let liked = room.write("liked.dat", opinions(20, 20, 1));
    let mut args = training(&liked, &never, &RATINGS);
    args.push("--dry-run");
    let told = done(&args);
    for part in ["recipe and data are in order", "users        20", "items        20", "time "] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!Path::new(&never).exists());
}

#[test]
fn wrong_usage_is_refused_in_one_line() {
    let (room, out, data) = model();
    let never = room.name("never");
    for (settings, wanted) in [
        (&["model.mixer=cnn", "model.positions=none"][..], &["model.mixer = \"cnn\"", "attention, rnn or none"][..]),
        (&["training.metric=bleu"], &["training.metric", "ndcg"]),
        (&["input.unit=characters", "training.metric=ndcg"], &["training.metric", "input.unit = \"items\""]),
        (&["model.task=regress"], &["model.mixer = \"attention\"", "factors"]),
        (&["model.task=tag"], &["model.task = \"tag\"", "input.unit"]),
        (&["data.dev=dev.tsv"], &["data.dev", "leave the key out"]),
        (&["data.format=csv"], &["data.format = \"csv\"", "ratings"]),
        (&["decoding.seen=maybe"], &["decoding.seen", "maybe"]),
        (&["decoding.top_k=0"], &["top_k"]),
    ] {
        assert_refused(&qkv(&training(data, &never, settings)), 2, wanted);
    }
    let refused = |data: &str, settings: &[&str], wanted: &[&str]| {
        assert_refused(&qkv(&training(data, &never, settings)), 1, wanted);
    };
    let missing = room.name("none.tsv");
    refused(&missing, &[], &[&missing, "check the path"]);
    refused("builtin:homographs", &[], &["builtin:homographs", "builtin:films"]);
    let words = room.write("words.txt", "one two three\n");
    refused(&words, &[], &[&words, "one field alone"]);
    let short = room.write("short.tsv", "a\tx\na\ty\nb\tx\n");
    refused(&short, &[], &[&short, "three items or more"]);
    refused(data, &["input.min_count=100000"], &[data, "input.min_count = 100000"]);
    refused(data, &[&RATINGS[..], &[]].concat(), &[data, "all ratings are 1", "generate"]);
    let few = room.write("few.tsv", "a\tx\t1\na\ty\t5\n");
    refused(&few, &RATINGS, &[&few, "2 ratings are too few"]);
    assert_refused(&qkv(&["evaluate", out, &short]), 1, &[&short, "three items or more"]);
    let strange = room.write("strange.tsv", "a\tnone\na\tof\na\tthese\n");
    assert_refused(&qkv(&["evaluate", out, &strange]), 1, &[&strange, "none of the items", "right file?"]);
    assert_refused(&qkv(&["evaluate", out, data, "--split", "train"]), 2, &["--split train", "dev"]);
    assert_refused(&qkv(&["evaluate", out, data, data]), 2, &["one file"]);
    assert_refused(&qkv(&["evaluate", out, data, "--format", "text"]), 2, &["data.format = \"text\"", "ratings"]);
    assert_refused(&qkv(&["predict", out, data, "--format", "conllu"]), 2, &["data.format = \"conllu\""]);
    assert_refused(&qkv(&["predict", out, data, "--set", "model.context=2"]), 2, &["only keys of [decoding]"]);
    assert_refused(&qkv(&["predict", out, &missing]), 1, &[&missing, "check the path"]);
    assert!(!Path::new(&never).exists(), "nothing is begun");
}
