//! Parts of graphs, molecules, tables and rows of numbers: who says them, and what is judged by which.

#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write as _;
use std::fs;

use common::*;

/// Arguments that train a small model of `kind` quickly.
fn small<'a>(kind: &'a str, task: &'a str, data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--input", kind, "--task", task, "--train", data, "--out", out];
    for setting in ["training.epochs=2", "model.d_model=8", "model.layers=1", "model.heads=2"] {
        args.extend(["--set", setting]);
    }
    more.iter().for_each(|setting| args.extend(["--set", setting]));
    args
}

/// A table of so many rows, the first of which is number `from`.
fn rows(from: usize, count: usize) -> String {
    let mut text = "n,colour,label\n".to_string();
    (from..from + count).for_each(|row| {
        let _ = writeln!(text, "{row},{},{}", ["red", "blue"][row % 2], ["a", "b"][row / 2 % 2]);
    });
    text
}

/// Graphs of two nodes in JSON lines, with labels of graphs and of nodes.
fn graphs(from: usize, count: usize) -> String {
    let mut text = String::new();
    (from..from + count).for_each(|number| {
        let half = number % 2;
        let _ = writeln!(
            text,
            "{{\"nodes\": [[{half}, {number}], [1, 2]], \"edges\": [[0, 1]], \"label\": \"{}\", \"labels\": [\"x{half}\", \"y\"]}}",
            ["even", "odd"][half]
        );
    });
    text
}

/// Sequences in long form with labels, and a column that is of no use.
fn series(from: usize, count: usize) -> String {
    let mut text = "series,time,x,label\n".to_string();
    for number in from..from + count {
        for step in 0..3 {
            let _ = writeln!(text, "s{number},noon,{},{}", number * 7 % 5 + step, ["a", "b"][number % 2]);
        }
    }
    text
}

fn molecules(from: usize, count: usize) -> String {
    let mut text = "smiles,label\n".to_string();
    (from..from + count).for_each(|number| {
        // Rings of many sizes are many scaffolds.
        let _ = writeln!(text, "OC1{}C1,{}", "C".repeat(1 + number), ["a", "b"][number % 2]);
    });
    text
}

fn judged(out: &str, data: &str, more: &[&str]) -> serde_json::Value {
    let mut args = vec!["evaluate", out, data, "--json"];
    args.extend(more);
    let ended = qkv(&args);
    assert_eq!(ended.status, Some(0), "{args:?}: {ended:?}");
    json(&ended.stdout)["examples"].clone()
}

#[test]
fn what_a_model_was_trained_on_is_parted_again_and_other_files_are_judged_as_a_whole() {
    let room = Room::new();
    type Kind<'a> = (&'a str, &'a str, &'a str, &'a str, fn(usize, usize) -> String, &'a [&'a str]);
    let kinds: [Kind; 6] = [
        ("table", "classify", "t.csv", "rows", rows, &["data.split=random"]),
        ("vectors", "classify", "s.csv", "sequences", series, &["data.split=random", "data.ignore=time"]),
        ("molecule", "classify", "m.csv", "molecules", molecules, &["data.split=random", "data.label=label"]),
        ("molecule", "classify", "f.csv", "molecules", molecules, &["data.split=scaffold", "data.label=label"]),
        ("graph", "classify", "g.jsonl", "graphs", graphs, &["data.split=random"]),
        ("graph", "tag", "e.jsonl", "graphs", graphs, &["data.split=random"]),
    ];
    for (number, (kind, task, file, noun, write, settings)) in kinds.into_iter().enumerate() {
        let (data, out) = (room.write(file, write(0, 40)), room.name(&format!("model{number}")));
        let args = small(kind, task, &data, &out, settings);
        assert_eq!(qkv(&args).status, Some(0), "{:?}", qkv(&args));
        assert_eq!(judged(&out, &data, &[]), 4, "{file}: the test part");
        assert_eq!(judged(&out, &data, &["--split", "train"]), 32, "{file}");
        assert_eq!(judged(&out, &data, &["--split", "dev"]), 4, "{file}");
        let copy = room.write(&format!("copy-{file}"), write(0, 40));
        assert_eq!(judged(&out, &copy, &[]), 4, "{file}: the same examples by another name");
        assert_eq!(judged(&out, &data, &["--set", "data.split=none"]), 40, "{file}");
        let other = room.write(&format!("other-{file}"), write(2, 20));
        assert_eq!(judged(&out, &other, &[]), 20, "{file}: another file is judged as a whole");
        room.write(file, write(1, 40));
        assert_refused(&qkv(&["evaluate", &out, &data]), 1, &[file, noun, "has changed", "data.split=none"]);
        // Where the dev data is a file of its own, nothing is parted.
        let (data, out) = (room.write(file, write(0, 20)), room.name(&format!("two{number}")));
        let mut args = small(kind, task, &data, &out, settings);
        args.extend(["--dev", &other]);
        assert_eq!(qkv(&args).status, Some(0), "{:?}", qkv(&args));
        assert_eq!(judged(&out, &data, &[]), 20, "{file}");
        // Too few to be parted.
        let few = room.write(&format!("few-{file}"), write(0, 5));
        let refused = qkv(&small(kind, task, &few, &room.name("never"), settings));
        assert_refused(&refused, 1, &[&few, &format!("its 5 {noun} are too few"), "data.dev"]);
        let asked = ["evaluate", &out, &data, "--set", "data.split=random", "--format", "nosuch"];
        assert_refused(&qkv(&asked), 2, &["nosuch"]);
    }
}

#[test]
fn a_column_of_parts_goes_before_those_that_are_drawn_and_prediction_looks_at_none() {
    let room = Room::new();
    let parted = rows(0, 30).lines().enumerate().fold(String::new(), |mut text, (line, row)| {
        let part = if line == 0 { "split" } else { ["train", "train", "dev", "test", "test"][line % 5] };
        let _ = writeln!(text, "{row},{part}");
        text
    });
    let (data, out) = (room.write("t.csv", parted), room.name("model"));
    done(&small("table", "classify", &data, &out, &["data.split=random"]));
    assert_eq!(judged(&out, &data, &[]), 12);
    let asked = room.write("asked.csv", "n,colour,split\n1,red,nose\n2,blue,\n");
    assert_eq!(done(&["predict", &out, &asked]).lines().count(), 2);
    // What is called `split` is looked at where the parts are in another column.
    let renamed = fs::read_to_string(&data).unwrap().replace("split", "fold").replace("colour", "split");
    let (data, out) = (room.write("r.csv", renamed), room.name("renamed"));
    done(&small("table", "classify", &data, &out, &["data.split=fold"]));
    let asked = room.write("asked.csv", "n,split\n1,red\n2,blue\n");
    assert_eq!(done(&["predict", &out, &asked]).lines().count(), 2);
}

#[test]
fn a_file_is_read_as_it_is_said_to_be() {
    let room = Room::new();
    let (data, out) = (room.write("t.csv", rows(0, 40).replace("blue", "blé")), room.name("model"));
    done(&small("table", "classify", &data, &out, &[]));
    let latin: Vec<u8> = "n,colour,kind\n1,bl\u{e9},a\n2,red,b\n".chars().map(|c| c as u32 as u8).collect();
    let asked = room.write("asked.txt", latin);
    assert_refused(&qkv(&["predict", &out, &asked]), 1, &["asked.txt", "encoding"]);
    assert_eq!(done(&["predict", &out, &asked, "--encoding", "latin-1", "--format", "csv"]).lines().count(), 2);
    for command in ["predict", "evaluate"] {
        assert_refused(&qkv(&[command, &out, &data, "--format", "nosuch"]), 2, &["nosuch"]);
    }
    // The label may be called otherwise in another file.
    assert_refused(&qkv(&["evaluate", &out, &asked, "--encoding", "latin-1"]), 1, &["label"]);
    let judged = done(&["evaluate", &out, &asked, "--encoding", "latin-1", "--set", "data.label=kind", "--json"]);
    assert_eq!(json(&judged)["examples"], 2);
    assert_refused(&qkv(&["evaluate", &out, &data, "--set", "data.ignore=n"]), 2, &["data.ignore"]);
    // Lines that end as on old systems, and categories that training has not seen.
    let asked = room.write("old.csv", "n,colour\r1,red\r2,green\r3,green\r4,grey\r");
    let ended = qkv(&["predict", &out, &asked]);
    let lines: Vec<&str> = ended.stdout.lines().map(|line| line.rsplit(':').next().unwrap()).collect();
    assert_eq!((ended.status, &lines[..]), (Some(0), &["2", "3", "4", "5"][..]), "{ended:?}");
    let [green, grey] = told(&ended)[..] else { panic!("{ended:?}") };
    assert!(green.ends_with("old.csv:3: `green` of colour never occurs in training (2 times here)"), "{green}");
    assert!(grey.ends_with("old.csv:5: `grey` of colour never occurs in training (1 times here)"), "{grey}");
    let packed = room.write("t.xlsx", "PK\u{3}\u{4}");
    assert_refused(&qkv(&["predict", &out, &packed]), 1, &["t.xlsx", "ZIP", "CSV"]);
    let same = room.write("same.csv", rows(0, 40).replace(",b", ",a"));
    let never = room.name("never");
    assert_refused(&qkv(&small("table", "classify", &same, &never, &[])), 1, &["same.csv", "all rows", "data.label"]);
}

#[test]
fn sequences_are_answered_without_what_was_ignored_and_whatever_stands_beside_them() {
    let room = Room::new();
    let (data, out) = (room.write("s.csv", series(0, 40)), room.name("model"));
    done(&small("vectors", "classify", &data, &out, &["data.ignore=time"]));
    let asked = room.write("asked.csv", "series,x\na,1\na,2\nb,1\n");
    assert_eq!(done(&["predict", &out, &asked]).lines().count(), 2);
    let asked = room.write("renamed.csv", "run,x,label\na,1,a\nb,2,b\n");
    assert_eq!(done(&["predict", &out, &asked]).lines().count(), 1, "without a column of sequences it is one");
    // Numbers that are beyond all that was learned from are far, and no more.
    let tiny = series(0, 40).replace("noon,", "noon,1e-30");
    let mut lines: Vec<String> = tiny.lines().map(str::to_string).collect();
    lines.push("far,noon,3e38,a".into());
    let (data, out) = (room.write("tiny.csv", lines.join("\n")), room.name("tiny"));
    done(&small("vectors", "classify", &data, &out, &["data.ignore=time", "data.dev_fraction=0.1"]));
    assert_eq!(done(&["predict", &out, &data]).lines().count(), 41);
}

#[test]
fn the_recipes_do_what_they_say() {
    let room = Room::new();
    let recipes = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes/");
    let quick =
        ["--set", "training.epochs=2", "--set", "model.d_model=8", "--set", "model.heads=2", "--set", "model.layers=1"];
    let (table, sequences) =
        (room.write("t.csv", rows(0, 40)), room.write("s.csv", series(0, 40).replace("noon", "1")));
    let commands: [(&str, &str, &[&str]); 9] = [
        ("table", &table, &[]),
        ("table", &table, &["--task", "regress", "--set", "data.label=n"]),
        ("table", &table, &["--set", "model.mixer=none"]),
        ("series", &sequences, &[]),
        ("series", &sequences, &["--task", "tag"]),
        ("series", &sequences, &["--set", "model.mixer=rnn", "--set", "model.positions=none"]),
        ("series", &sequences, &["--set", "model.mixer=cnn", "--set", "model.positions=none"]),
        ("series", &sequences, &["--set", "model.mixer=window", "--set", "model.positions=none"]),
        ("series", &sequences, &["--set", "model.mixer=none", "--set", "model.positions=none"]),
    ];
    for (number, (recipe, data, more)) in commands.into_iter().enumerate() {
        let (recipe, out) = (format!("{recipes}{recipe}.toml"), room.name(&number.to_string()));
        let mut args = vec!["train", &recipe, "--train", data, "--out", &out];
        args.extend(quick.iter().chain(more));
        let ended = qkv(&args);
        assert_eq!(ended.status, Some(0), "{args:?}: {ended:?}");
        assert_eq!(judged(&out, data, &[]), 4, "{args:?}");
    }
}
