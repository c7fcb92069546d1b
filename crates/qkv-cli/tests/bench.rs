//! `bench` and `explain`: what they print, and what they refuse.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;

#[test]
fn the_cases_are_listed_by_name() {
    let names = done(&["bench", "attention", "--list"]);
    let expected = [
        "float32 b1 h8 n512 d64 forward",
        "float32 b1 h8 n512 d64 forward+backward",
        "float32 b1 h8 n2048 d64 forward",
        "float32 b1 h8 n2048 d64 forward+backward",
        "float32 b1 h8 n2048 d64 causal forward",
        "float32 b1 h8 n2048 d64 causal forward+backward",
        "float32 b1 h1 n8192 d64 forward",
        "float32 b1 h1 n8192 d64 forward+backward",
        "float32 b8 h12 n128 d64 forward",
        "float32 b8 h12 n128 d64 forward+backward",
        "float32 b1 h8 n2048 d128 forward",
        "float32 b1 h8 n2048 d128 forward+backward",
        "float32 window128 h8 n4096 d64 forward",
        "float32 window128 h8 n4096 d64 forward+backward",
        "float32 ragged64 8-1024 h8 d64 forward+backward",
    ];
    assert_eq!(names.lines().collect::<Vec<_>>(), expected);
    let causal = done(&["bench", "attention", "--list", "--only", "causal"]);
    assert_eq!(causal.lines().count(), 2, "{causal}");
}

#[test]
fn each_case_is_one_line_of_json_or_one_row() {
    let lines = done(&["bench", "attention", "--only", "n512 d64 forward", "--json", "--threads", "1"]);
    let lines: Vec<_> = lines.lines().map(json).collect();
    let names: Vec<_> = lines.iter().map(|line| line["case"].as_str().unwrap()).collect();
    assert_eq!(names, ["float32 b1 h8 n512 d64 forward", "float32 b1 h8 n512 d64 forward+backward"]);
    for line in &lines {
        for figure in ["ms", "gflops", "of_peak"] {
            let figure = line[figure].as_f64().unwrap();
            assert!(figure.is_finite() && figure > 0.0, "{line}");
        }
        assert_eq!(line.as_object().unwrap().len(), 4, "{line}");
    }
    let name = "float32 b8 h12 n128 d64 forward";
    let table = done(&["bench", "attention", "--case", name, "--precision", "f32"]);
    assert!(table.starts_with("peak: ") && table.contains("GFLOP/s"), "{table}");
    let row = table.lines().last().unwrap();
    assert!(row.starts_with(name) && row.ends_with('%'), "{table}");
    assert!(!table.contains("forward+backward"), "that is another case: {table}");
}

#[test]
fn the_cases_of_options_are_listed_by_name() {
    let names = done(&["bench", "attention", "--options", "--list"]);
    let names: Vec<&str> = names.lines().collect();
    let expected = [
        "float32 relative bias h8 n4096 d64 forward+backward",
        "float32 dropout0.1 h8 n2048 d64 forward+backward",
        "float32 relu h8 n2048 d64 forward+backward",
        "float32 sigmoid h8 n2048 d64 forward+backward",
        "float32 additive h4 n512 d32 forward+backward",
        "float32 cache h32 n32768 d128 forward",
        "float32 cache h32 n32768 d128 forward token-major",
        "float32 cache h32 kv8 n32768 d128 forward",
        "float32 gat n100000 e1000000 h4 d16 forward+backward",
    ];
    assert_eq!(names[..expected.len()], expected);
    // then each option by itself, beside plain attention
    let options = [
        "softcap",
        "softmax-plus-one",
        "relu",
        "sigmoid",
        "alibi",
        "relative128",
        "relative2047",
        "grid64x32",
        "stored32",
        "dense bias",
        "dropout0.1",
        "full graph",
        "window32 edges",
    ];
    let expected_beside: Vec<String> = options
        .iter()
        .flat_map(|option| {
            ["forward", "forward+backward"].map(|pass| format!("float32 b1 h8 n2048 d64 {option} {pass}"))
        })
        .collect();
    assert_eq!(names[expected.len()..], expected_beside);
    let caches = done(&["bench", "attention", "--options", "--list", "--only", "cache"]);
    assert_eq!(caches.lines().count(), 3, "{caches}");
}

#[test]
fn a_case_of_an_option_tells_what_the_option_costs() {
    let bench = |name: &str, more: &[&str]| {
        done(&[&["bench", "attention", "--options", "--case", name, "--threads", "2"], more].concat())
    };
    let alone = "float32 additive h4 n512 d32 forward+backward";
    let edges = "float32 b1 h8 n2048 d64 window32 edges forward";
    for (name, figures) in
        [(alone, &["ms", "gflops", "of_peak"][..]), (edges, &["ms", "gflops", "of_peak", "costs"][..])]
    {
        let line = json(&bench(name, &["--json"]));
        assert_eq!(line["case"], name);
        assert_eq!(line.as_object().unwrap().len(), 1 + figures.len(), "{line}");
        for figure in figures {
            let figure = line[figure].as_f64().unwrap();
            assert!(figure.is_finite() && figure > 0.0, "{line}");
        }
    }
    let table = bench(edges, &[]);
    let row = table.lines().last().unwrap();
    assert!(row.starts_with(edges) && row.ends_with("of plain"), "{table}");
    assert!(table.contains("costs"), "{table}");
}

#[test]
fn what_options_have_no_use_for_is_refused() {
    let bench = |more: &[&str]| qkv(&[&["bench", "attention", "--options"], more].concat());
    assert_refused(&bench(&["--lengths", "8,9"]), 2, &["--options", "--lengths"]);
    assert_refused(&bench(&["--only", "causal"]), 2, &["`causal`", "relative bias h8 n4096 d64", "--list"]);
    assert_refused(&bench(&["--case", "relu"]), 2, &["`relu`", "relative bias h8 n4096 d64"]);
    assert_refused(&bench(&["--peak", "--list"]), 2, &["--peak", "--list"]);
    assert_refused(&bench(&["--precision", "bf16"]), 2, &["bf16", "not yet"]);
    let without = qkv(&["bench", "attention", "--case", "float32 relu h8 n2048 d64 forward+backward"]);
    assert_refused(&without, 2, &["relu", "--options"]);
}

#[test]
fn the_peak_alone_is_one_object() {
    let peak = json(&done(&["bench", "attention", "--peak", "--threads", "2"]));
    assert!(peak["peak_gflops"].as_f64().unwrap() > 0.0, "{peak}");
    assert_eq!(peak["threads"], 2);
    let mut command = program();
    command.args(["bench", "attention", "--peak"]).env("QKV_ISA", "scalar");
    assert_eq!(json(&finish(command).stdout)["isa"], "scalar");
}

#[test]
fn ragged_lengths_can_be_given() {
    let room = Room::new();
    let name = "float32 ragged64 8-1024 h8 d64 forward+backward";
    let args = |lengths: &str| ["bench", "attention", "--json", "--case", name, "--lengths", lengths].map(String::from);
    let list = vec!["8"; 64].join(",");
    let file = room.write("lengths.json", format!("{{\"other\": 1}}\n{{\"lengths\": [{list}]}}\n"));
    for lengths in [&list, &file] {
        let short = json(&done(&args(lengths)));
        assert_eq!(short["case"], name);
        assert!(short["ms"].as_f64().unwrap() > 0.0, "{short}");
    }
    assert_refused(&qkv(&args("8,9")), 2, &["--lengths", "expected 64", "found 2"]);
    assert_refused(&qkv(&args(&list.replacen('8', "1025", 1))), 2, &["--lengths", "8 to 1024", "1025"]);
    assert_refused(&qkv(&args(&list.replacen('8', "x", 1))), 2, &["--lengths"]);
    assert_refused(&qkv(&args(&room.write("words", "eight nine"))), 2, &["words", "`eight`"]);
    assert_refused(&qkv(&args(&room.write("empty", ""))), 2, &["empty", "found none"]);
}

#[test]
fn what_bench_does_not_know_is_refused() {
    let bench = |more: &[&str]| qkv(&[&["bench", "attention"], more].concat());
    assert_refused(&bench(&["--only", "n513"]), 2, &["`n513`", "b1 h8 n512 d64", "--list"]);
    assert_refused(&bench(&["--case", "n512"]), 2, &["`n512`", "b1 h8 n512 d64"]);
    assert_refused(&bench(&["--precision", "bf16"]), 2, &["bf16", "not yet", "f32"]);
    assert_refused(&bench(&["--precision", "f8"]), 2, &["f8", "f32"]);
    for args in [&["bench"][..], &["bench", "attentoin"], &["bench", "attention", "--only", "a", "--case", "b"]] {
        let ended = qkv(args);
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
    }
}

#[test]
fn explain_tells_a_person_and_a_program_the_same() {
    let text = done(&["explain", "--heads", "4", "--tokens", "300", "--mask", "causal", "--threads", "1"]);
    for part in ["4 heads of width 64", "300 vectors", "causal", "forward", "backward", "scratch", "1 thread", "45,150"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("measured"), "{text}");

    let shape = ["explain", "--heads", "4", "--kv-heads", "2", "--head-dim", "16", "--value-dim", "8"];
    let said = json(&done(&[&shape[..], &["--lengths", "10,3", "--causal-offset", "0", "--json"]].concat()));
    assert_eq!(said["pairs"], 61);
    assert_eq!(said["forward"]["flops"], 2 * 61 * 4 * (16 + 8));
    assert_eq!(said["backward"]["flops"], 2 * 61 * 4 * (3 * 16 + 2 * 8));
    let bytes = |name: &str| said[name].as_u64().unwrap();
    let parts = ["input_bytes", "output_bytes", "gradient_bytes", "scratch_bytes"];
    assert_eq!(bytes("peak_bytes"), parts.iter().map(|part| bytes(part)).sum::<u64>());
    assert!(said.get("measured").is_none(), "{said}");

    let cross = json(&done(&["explain", "--tokens", "5", "--kv-tokens", "700", "--window", "2,0", "--json"]));
    assert_eq!((&cross["tokens"], &cross["kv_tokens"], &cross["pairs"]), (&5.into(), &700.into(), &12.into()));
}

#[test]
fn explain_measures_what_it_predicts() {
    let args = ["explain", "--heads", "2", "--tokens", "20000", "--window", "16", "--measure", "--threads", "2"];
    let said = json(&done(&[&args[..], &["--json"]].concat()));
    let measured = &said["measured"];
    for pass in ["forward", "backward"] {
        for figure in ["ms", "gflops", "of_peak"] {
            assert!(measured[pass][figure].as_f64().unwrap() > 0.0, "{said}");
        }
    }
    if let Some(found) = measured["peak_bytes"].as_f64() {
        let predicted = said["peak_bytes"].as_f64().unwrap();
        assert!((found / predicted - 1.0).abs() < 0.15, "predicted {predicted}, found {found}");
    }
    assert!(done(&args).contains("measured"));
}

#[test]
fn explain_refuses_what_cannot_be() {
    let explain = |args: &[&str]| qkv(&[&["explain"], args].concat());
    for (args, wanted) in [
        (&["--heads", "0"][..], &["heads", "found 0"][..]),
        (&["--heads", "8", "--kv-heads", "3"], &["kv_heads", "8 and 3"]),
        (&["--head-dim", "0"], &["head_dim", "found 0"]),
        (&["--value-dim", "0"], &["value_dim", "found 64 and 0"]),
        (&["--head-dim", "1000000000000"], &["1000000000000"]),
        (&["--heads", "18446744073709551615"], &["ask for less"]),
        (&["--tokens", "1000000000000"], &["ask for less", "8000000000000"]),
        (&["--tokens", "1000000000000", "--measure"], &["ask for less"]),
        (&["--kv-tokens", "18446744073709551615"], &["ask for less"]),
        (&["--lengths", "18446744073709551615,1"], &["ask for less"]),
        (&["--tokens", "0", "--heads", "100000000"], &["sets times heads"]),
        (&["--lengths", "1,-2"], &["--lengths"]),
        (&["--mask", "diagonal"], &["diagonal", "full, causal or window"]),
        (&["--mask", "window"], &["--window LEFT[,RIGHT]"]),
        (&["--mask", "full", "--window", "3"], &["--mask full", "--window"]),
        (&["--mask", "window", "--window", "3", "--causal-offset", "1"], &["--window LEFT,0"]),
        (&["--mask", "full", "--causal-offset", "-1"], &["--mask full", "--causal-offset"]),
        (&["--window", "3,4,5"], &["3,4,5", "128,0"]),
    ] {
        let ended = explain(args);
        assert_refused(&ended, 2, wanted);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
    // A machine that holds this has yet to be built for a person.
    if cfg!(target_os = "linux") {
        let large = ["--heads", "1", "--head-dim", "65536", "--tokens", "200000000", "--measure"];
        assert_refused(&explain(&large), 1, &["--measure", "TiB", "ask for fewer"]);
    }
}
