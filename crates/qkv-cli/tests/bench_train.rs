//! `bench train`: what it prints, and what it refuses.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;

const SMALLEST: &str = "infer b1 n32 d128 l2 full";

#[test]
fn the_cases_are_listed_by_name() {
    let list = |more: &[&str]| done(&[&["bench", "train", "--list"], more].concat());
    let mut expected = Vec::new();
    for (sets, size) in [("b32", "n32 d128 l2"), ("b32", "n64 d256 l4"), ("b8", "n512 d256 l4")] {
        for what in ["train", "infer"] {
            expected.push(format!("{what} {sets} {size}"));
            expected.push(format!("{what} {sets} {size} full"));
        }
        expected.push(format!("infer b1 {size} full"));
    }
    let long = [8192, 16384, 32768].map(|tokens| format!("train b1 n{tokens} d256 l4 full"));
    expected.extend(long.clone());
    assert_eq!(list(&[]).lines().collect::<Vec<_>>(), expected);
    assert_eq!(list(&["--only", "infer b1 "]).lines().count(), 3);
    let memory = list(&["--memory"]);
    assert_eq!(memory.lines().collect::<Vec<_>>(), [&["train b8 n512 d256 l4".to_string()], &long[..]].concat());
    assert_eq!(list(&["--case", &long[2], "--memory"]).trim_end(), long[2]);
}

#[test]
fn a_case_is_one_line_of_json_or_one_row() {
    let bench =
        |case: &str, more: &[&str]| done(&[&["bench", "train", "--case", case, "--threads", "1"], more].concat());
    for (case, more) in [(SMALLEST, &["--precision", "f32"][..]), ("train b32 n32 d128 l2", &["--memory"])] {
        let line = json(&bench(case, &[more, &["--json"]].concat()));
        assert_eq!(line["case"], case);
        let mut figures = vec!["ms", "gflops", "of_peak", "tokens_per_second"];
        if cfg!(target_os = "linux") {
            figures.push("peak_memory");
        }
        for figure in figures {
            let figure = line[figure].as_f64().unwrap();
            assert!(figure.is_finite() && figure > 0.0, "{line}");
        }
        assert_eq!(line.as_object().unwrap().len(), 6, "{line}");
    }
    let table = bench(SMALLEST, &[]);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.starts_with("case") && table.contains("GFLOP/s"), "{table}");
    assert!(table.lines().last().unwrap().starts_with(SMALLEST), "{table}");
}

#[test]
fn mixers_have_cases_of_their_own_by_length() {
    let list = done(&["bench", "train", "--mixers", "--list"]);
    assert_eq!(list.lines().count(), 2 * 7 * 4);
    let only = done(&["bench", "train", "--mixers", "--list", "--only", "train b1 n16384 "]);
    let names = ["attention", "window64", "rnn", "cnn"].map(|mixer| format!("train b1 n16384 d128 l2 full {mixer}"));
    assert_eq!(only.lines().collect::<Vec<_>>(), names);
    let args = ["bench", "train", "--mixers", "--only", "infer b1 n256 ", "--json", "--threads", "1"];
    let lines = done(&args);
    let found: Vec<_> = lines.lines().map(|line| json(line)["ms"].as_f64().unwrap()).collect();
    assert!(found.len() == 4 && found.iter().all(|ms| *ms > 0.0), "{lines}");
}

#[test]
fn several_cases_are_a_line_each() {
    let args = ["bench", "train", "--memory", "--only", "b32 n32 d128 l2 full", "--json", "--threads", "2"];
    let lines = done(&args);
    let names: Vec<_> = lines.lines().map(|line| json(line)["case"].as_str().unwrap().to_string()).collect();
    assert_eq!(names, ["train b32 n32 d128 l2 full", "infer b32 n32 d128 l2 full"]);
}

#[test]
fn lengths_can_be_given() {
    let bench = |case: &str, lengths: &[&str]| {
        let lengths = lengths.join(",");
        qkv(&["bench", "train", "--memory", "--json", "--threads", "2", "--case", case, "--lengths", &lengths])
    };
    let ragged = "infer b32 n32 d128 l2";
    let rate = |length: &str| {
        let ended = bench(ragged, &[length; 32]);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        let line = json(&ended.stdout);
        line["ms"].as_f64().unwrap() / 1e3 * line["tokens_per_second"].as_f64().unwrap()
    };
    for (length, tokens) in [("16", 512.0), ("32", 1024.0)] {
        let found = rate(length);
        assert!((found / tokens - 1.0_f64).abs() < 0.01, "{found} vectors, expected {tokens}");
    }
    assert_refused(&bench(ragged, &["16", "17"]), 2, &["--lengths", "expected 32", ragged, "found 2", "--case"]);
    for wrong in ["15", "33"] {
        assert_refused(&bench(ragged, &[wrong; 32]), 2, &["--lengths", "16 to 32", ragged, wrong]);
    }
    assert_refused(&bench(SMALLEST, &["31"]), 2, &["--lengths", "nothing but 32", SMALLEST, "31"]);
    assert_refused(&bench(ragged, &["x"]), 2, &["--lengths"]);
    // Two sizes cannot both be meant, and nothing is run before that is seen.
    let ended = qkv(&["bench", "train", "--only", "infer b", "--lengths", "32"]);
    assert_refused(&ended, 2, &["--lengths", "expected 32", "found 1"]);
    assert_eq!(ended.stdout, "");
}

#[test]
fn what_bench_train_does_not_know_is_refused() {
    let bench = |more: &[&str]| qkv(&[&["bench", "train"], more].concat());
    assert_refused(&bench(&["--only", "n33"]), 2, &["`n33`", "train b32 n32 d128 l2", "--list"]);
    assert_refused(&bench(&["--case", "train"]), 2, &["`train`", "train b32 n32 d128 l2"]);
    assert_refused(&bench(&["--precision", "bf16"]), 2, &["bf16", "not yet", "f32"]);
    assert_refused(&bench(&["--precision", "f8"]), 2, &["f8", "f32"]);
    assert_refused(&bench(&["--only", "a", "--case", "b"]), 2, &["--only", "--case"]);
}
