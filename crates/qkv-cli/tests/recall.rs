//! `builtin:recall`: learned from with its own dev part, judged by distance, asked, and refused where it does not fit.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;

/// Arguments that train a model too small to learn it, in a moment.
fn training<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--task", "classify", "--train", "builtin:recall", "--out", out, "--threads", "1"];
    for setting in [
        "data.builtin_count=24",
        "training.epochs=1",
        "training.batch_tokens=500",
        "model.d_model=8",
        "model.layers=1",
        "model.heads=2",
        "model.mixer=none",
        "model.pooling=ends",
    ] {
        args.extend(["--set", setting]);
    }
    args.extend(more);
    args
}

#[test]
fn recall_is_learned_from_and_judged_by_distance() {
    let room = Room::new();
    let out = room.name("model");
    let plan = json(&done(&training(&out, &["--dry-run", "--json"])));
    assert_eq!((&plan["texts"], &plan["labels"]), (&24.into(), &8.into()), "{plan}");
    done(&training(&out, &[]));
    let evaluate = |more: &[&str]| json(&done(&[&["evaluate", &out, "builtin:recall", "--json"], more].concat()));
    let test = evaluate(&[]);
    assert_eq!(test["examples"], 2800);
    let rows = test["by_distance"].as_array().unwrap();
    let ranges: Vec<_> = rows.iter().map(|row| [&row["from"], &row["to"]].map(|end| end.as_u64().unwrap())).collect();
    assert_eq!(ranges, [[2, 3], [4, 7], [8, 15], [16, 31], [32, 63], [64, 127], [128, 256]]);
    assert!(rows.iter().all(|row| row["examples"] == 400));
    let mean = rows.iter().map(|row| row["accuracy"].as_f64().unwrap()).sum::<f64>() / 7.0;
    assert!((mean - test["accuracy"].as_f64().unwrap()).abs() < 1e-9, "{test}");
    // Whoever sees the question alone answers by chance.
    assert!(mean < 0.2, "{mean}");
    // The dev part is what training was judged by, and the part to learn from is as large as it was.
    let dev = evaluate(&["--split", "dev"]);
    let info = json(&done(&["info", &out, "--json"]));
    assert_eq!((&dev["examples"], &dev["accuracy"]), (&1400.into(), &info["metrics"]["accuracy"]));
    assert_eq!(evaluate(&["--split", "train"])["examples"], 24);
    let text = done(&["evaluate", &out, "builtin:recall"]);
    assert!(text.contains("by distance\n") && text.contains("128 to 256 "), "{text}");
    let answers = done(&["predict", &out, "builtin:recall"]);
    assert!(answers.lines().count() == 2800 && answers.lines().all(|line| line.contains(" ? ")), "{answers}");
}

#[test]
fn what_is_no_labelled_text_is_refused() {
    let room = Room::new();
    let out = room.name("model");
    let train = |data: &str, task: &str| qkv(&["train", "--task", task, "--train", data, "--out", &out]);
    for (data, parts) in [
        ("builtin:films", &["builtin:films: holds ratings, not labelled texts", "builtin:recall"][..]),
        ("builtin:homographs", &["holds tagged sentences, not labelled texts"]),
    ] {
        assert_refused(&train(data, "classify"), 1, parts);
    }
    assert_refused(&train("builtin:recal", "classify"), 2, &["did you mean recall?"]);
    let parts = ["builtin:recall: holds labelled texts, not tagged sentences", "builtin:homographs"];
    assert_refused(&train("builtin:recall", "tag"), 1, &parts);
    assert_refused(&train("builtin:recall", "regress"), 1, &["builtin:recall:1: the label", "classify"]);
}
