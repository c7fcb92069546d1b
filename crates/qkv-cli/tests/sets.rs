//! Graphs, molecules, tables and rows of numbers: parts, answers, the same bits, and what is refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write as _;
use std::fs;

use common::*;

/// Arguments that train a small model of `kind` quickly.
fn small<'a>(kind: &'a str, task: &'a str, data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--input", kind, "--task", task, "--train", data, "--out", out];
    for setting in [
        "training.epochs=20",
        "training.learning_rate=1e-2",
        "training.batch_tokens=200",
        "model.d_model=16",
        "model.layers=1",
        "model.heads=2",
    ] {
        args.extend(["--set", setting]);
    }
    more.iter().for_each(|setting| args.extend(["--set", setting]));
    args
}

/// A ring of nodes in two halves, each of which has features of its own; its folder.
fn ring(room: &Room, name: &str) -> String {
    let mut draw = Draw::new(3);
    let (mut nodes, mut edges) = ("id\tsplit\tlabel\tfeatures\n".to_string(), "source\ttarget\trelation\n".to_string());
    for node in 0..80 {
        let (half, split) = (node / 40, ["train", "dev", "test", "none"][node % 4]);
        let (label, feature) = (["left", "right"][half], half * 4 + draw.below(4));
        let _ = writeln!(nodes, "n{node}\t{split}\t{label}\t{feature} {}", 8 + draw.below(4));
        let _ = writeln!(edges, "n{node}\tn{}\tnext", (node + 1) % 80);
    }
    fs::create_dir_all(room.path(name)).unwrap();
    room.write(&format!("{name}/nodes.tsv"), nodes);
    room.write(&format!("{name}/edges.tsv"), edges);
    room.name(name)
}

#[test]
fn nodes_are_learned_from_some_and_judged_by_others() {
    let room = Room::new();
    let (data, out) = (ring(&room, "ring"), room.name("model"));
    done(&small("graph", "tag", &data, &out, &["model.block=bare", "model.score=rank-one", "training.epochs=80"]));
    for (split, nodes) in [("train", 20), ("dev", 20), ("test", 20)] {
        let result = json(&done(&["evaluate", &out, &data, "--split", split, "--json"]));
        assert_eq!((&result["examples"], &result["tokens"]), (&1.into(), &nodes.into()), "{split}");
        assert!(result["accuracy"].as_f64() > Some(0.8), "{split}: {result}");
    }
    let answers = done(&["predict", &out, &data]);
    assert_eq!(answers.lines().count(), 80, "all nodes are answered");
    assert!(answers.starts_with("n0\t"), "{answers}");
    let object = json(&done(&["predict", &out, &data, "--json"]));
    assert_eq!((object["nodes"].as_array().unwrap().len(), object["labels"].as_array().unwrap().len()), (80, 80));
}

#[test]
fn a_graph_is_learned_in_the_same_bits_with_any_number_of_threads() {
    let room = Room::new();
    let data = ring(&room, "ring");
    for more in
        [&["model.block=bare", "model.score=rank-one", "training.attention_dropout=0.3"][..], &["model.layers=2"]]
    {
        let train = |threads: &str, name: &str| {
            let out = room.name(name);
            let mut args = small("graph", "tag", &data, &out, more);
            args.extend(["--threads", threads]);
            done(&args);
            let bits = weights(&out);
            fs::remove_dir_all(&out).unwrap();
            bits
        };
        assert!(train("1", "one") == train("2", "two"), "{more:?}");
    }
}

#[test]
fn graphs_that_cannot_be_are_refused_by_line() {
    let room = Room::new();
    let out = room.name("never");
    let refused = |file: &str, content: &str, wanted: &[&str]| {
        let data = ring(&room, "bad");
        room.write(&format!("bad/{file}"), content);
        assert_refused(&qkv(&small("graph", "tag", &data, &out, &[])), 1, wanted);
    };
    refused("edges.tsv", "source\ttarget\nn0\tn1\nn0\tx7\nx8\tn1\n", &["edges.tsv:3", "x7", "2"]);
    refused("nodes.tsv", "id\tlabel\tfeatures\na\tx\t1\na\ty\t2\n", &["nodes.tsv:3", "a"]);
    refused("nodes.tsv", "id\tlabel\theight\nn0\tx\tNaN\n", &["nodes.tsv:2", "height"]);
    refused("nodes.tsv", "id\tlabel\theight\nn0\tx\tinf\n", &["nodes.tsv:2", "height"]);
    refused("nodes.tsv", "id\tlabel\tfeatures\n", &["nodes.tsv"]);
    refused("nodes.tsv", "name\tlabel\nn0\tx\n", &["nodes.tsv", "id"]);
    let one = room.write("one.jsonl", "{\"nodes\": [], \"edges\": [], \"label\": \"a\"}\n");
    assert_refused(&qkv(&small("graph", "classify", &one, &out, &[])), 1, &["one.jsonl:1", "node"]);
    let far = room.write("far.jsonl", "{\"nodes\": [[1.0]], \"edges\": [[0, 3]], \"label\": \"a\"}\n");
    assert_refused(&qkv(&small("graph", "classify", &far, &out, &[])), 1, &["far.jsonl:1", "3"]);
    let unlabelled =
        room.write("unlabelled.jsonl", "{\"nodes\": [[1.0]], \"edges\": []}\n{\"nodes\": [[2.0]], \"edges\": []}\n");
    assert_refused(&qkv(&small("graph", "classify", &unlabelled, &out, &[])), 1, &["unlabelled.jsonl", "label"]);
    let data = ring(&room, "ring");
    for (settings, wanted) in [
        (&["model.mixer=cnn"][..], "model.mixer"),
        (&["model.positions=learned"], "model.positions"),
        (&["model.score=rank-one"], "model.block"),
        (&["model.sees=distances"], "model.sees"),
        (&["data.split=scaffold"], "scaffold"),
        (&["training.shift=1"], "training.shift"),
    ] {
        assert_refused(&qkv(&small("graph", "tag", &data, &out, settings)), 2, &[wanted]);
    }
    assert!(!room.path("never").exists());
}

#[test]
fn molecules_are_parted_and_answered_by_their_strings() {
    let room = Room::new();
    let mut lines = String::from("name,smiles,logp\n");
    for number in 0..60 {
        let tail = "C".repeat(1 + number % 6);
        let (smiles, value) = match number % 3 {
            0 => (format!("{tail}C1{}1", "C".repeat(2 + number % 7)), 2 + number % 6),
            1 => (format!("{tail}O"), number % 6),
            _ => (format!("{tail}C1CCNCC1"), 1 + number % 6),
        };
        let value = if number == 7 { String::new() } else { value.to_string() };
        let _ = writeln!(lines, "m{number},{smiles},{value}");
    }
    let (data, out) = (room.write("m.csv", lines), room.name("model"));
    let settings = ["data.label=logp", "data.split=random", "model.sees=distances", "model.pooling=sum"];
    done(&small("molecule", "regress", &data, &out, &settings));
    let result = json(&done(&["evaluate", &out, &data, "--json"]));
    assert_eq!(result["examples"], 6, "a tenth of those that have a value");
    assert!(result["rmse"].as_f64() < Some(2.5) && result["mae"].is_number(), "{result}");
    let asked = room.write("asked.smi", "CCO\nc1ccccc1 benzene\n");
    let answers = done(&["predict", &out, &asked]);
    assert_eq!(answers.lines().count(), 2);
    assert!(answers.lines().all(|line| line.split('\t').next().unwrap().parse::<f64>().is_ok()), "{answers}");
    assert!(answers.lines().next().unwrap().ends_with("\tCCO"), "{answers}");
    let wrong = room.write("wrong.smi", "CCO\nC1CC(\n");
    assert_refused(&qkv(&["predict", &out, &wrong]), 1, &["wrong.smi:2", "character"]);
    let scaffolds = ["data.label=logp", "data.split=scaffold"];
    done(&small("molecule", "regress", &data, &room.name("scaffold"), &scaffolds));
    let unnamed = small("molecule", "regress", &data, &out, &[]);
    let other = room.name("other");
    let unnamed: Vec<&str> = unnamed.iter().map(|arg| if *arg == out { other.as_str() } else { arg }).collect();
    let ended = qkv(&unnamed);
    assert!(ended.status == Some(0) || ended.stderr.contains("data.label"), "{ended:?}");
}

#[test]
fn a_table_is_read_by_the_names_of_its_columns() {
    let room = Room::new();
    let mut draw = Draw::new(5);
    let mut lines = String::from("colour,height,kind\n");
    for _ in 0..80 {
        let (colour, height) = (draw.below(3), draw.below(100));
        let shown = if draw.below(10) == 0 { "NA".into() } else { height.to_string() };
        let _ = writeln!(
            lines,
            "{},{shown},{}",
            ["red", "green", "blue"][colour],
            ["low", "high"][usize::from(height > 50)]
        );
    }
    let (data, out) = (room.write("t.csv", &lines), room.name("model"));
    done(&small("table", "classify", &data, &out, &["data.label=kind"]));
    let result = json(&done(&["evaluate", &out, &data, "--json"]));
    assert!(result["accuracy"].as_f64() > Some(0.8), "{result}");
    // In another order, with more columns, without the label.
    let asked = room.write("asked.csv", "other,height,colour\n1,90,red\n2,3,blue\n3,,green\n");
    let answers = done(&["predict", &out, &asked]);
    let labels: Vec<&str> = answers.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!((labels.len(), &labels[..2]), (3, &["high", "low"][..]), "{answers}");
    let ended = qkv(&["predict", &out, &room.write("unseen.csv", "height,colour\n90,mauve\n")]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let missing = room.write("missing.csv", "colour\nred\n");
    assert_refused(&qkv(&["predict", &out, &missing]), 1, &["missing.csv", "height"]);
    let infinite = room.write("infinite.csv", "colour,height\nred,inf\n");
    assert_refused(&qkv(&["predict", &out, &infinite]), 1, &["infinite.csv:2", "finite"]);
    let empty = room.write("empty.csv", "colour,height,kind\n");
    assert_refused(&qkv(&small("table", "classify", &empty, &room.name("never"), &[])), 1, &["empty.csv"]);
}

#[test]
fn rows_of_numbers_are_sequences_with_an_order() {
    let room = Room::new();
    let mut lines = String::from("series,x,label\n");
    for number in 0..60 {
        let up = number % 2 == 1;
        for step in 0..8 {
            let x = f64::from(if up { step } else { 7 - step }) + 0.1 * f64::from(number % 5);
            let _ = writeln!(lines, "s{number},{x},{}", ["down", "up"][usize::from(up)]);
        }
    }
    let (data, out) = (room.write("s.csv", lines), room.name("model"));
    done(&small("vectors", "classify", &data, &out, &["data.split=random", "model.layers=2"]));
    let result = json(&done(&["evaluate", &out, &data, "--json"]));
    assert_eq!((&result["examples"], &result["tokens"]), (&6.into(), &48.into()));
    assert!(result["accuracy"].as_f64() > Some(0.8), "{result}");
    for (name, content, wanted) in [
        ("gap.csv", "series,x,label\na,1,up\na,,up\n", "gap.csv:3"),
        ("inf.csv", "series,x,label\na,1,up\na,inf,up\n", "inf.csv:3"),
        ("other.csv", "series,y\na,1\n", "x"),
    ] {
        let file = room.write(name, content);
        assert_refused(&qkv(&["predict", &out, &file]), 1, &[name, wanted]);
    }
}

#[test]
fn nodes_are_answered_where_nothing_is_known_of_them() {
    let room = Room::new();
    let (data, out) = (ring(&room, "ring"), room.name("model"));
    let renamed = fs::read_to_string(room.path("ring/nodes.tsv")).unwrap().replace("label", "side");
    room.write("ring/nodes.tsv", &renamed);
    done(&small("graph", "tag", &data, &out, &["data.label=side"]));
    fs::create_dir_all(room.path("new")).unwrap();
    room.write("new/nodes.tsv", "id\tfeatures\na\t0 8\nb\t4 9\n");
    room.write("new/edges.tsv", "source\ttarget\trelation\na\ta\tnext\n");
    assert_eq!(done(&["predict", &out, &room.name("new")]).lines().count(), 2);
    assert_refused(&qkv(&["evaluate", &out, &room.name("new")]), 1, &["side"]);
}

#[test]
fn a_graph_of_its_own_chooses_the_epoch_and_no_test_node_is_learned_from() {
    let room = Room::new();
    let (data, out) = (ring(&room, "ring"), room.name("model"));
    let counted = |more: &[&str]| {
        let mut args = small("graph", "tag", &data, &out, &["training.epochs=1"]);
        args.extend(more);
        let ended = qkv(&args);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        let bits = weights(&out);
        fs::remove_dir_all(&out).unwrap();
        bits
    };
    let alone = counted(&[]);
    // The dev part is in the same file, and named as the dev set it is the same; and so are the training nodes beside another file.
    assert!(counted(&["--dev", &data]) == alone);
    let other = ring(&room, "other");
    assert!(counted(&["--dev", &other]) == alone);
}

#[test]
fn several_columns_are_learned_at_once_and_rows_may_lack_some() {
    let room = Room::new();
    let mut draw = Draw::new(9);
    let mut lines = String::from("smiles,carbons,oxygens,alcohol,gone\n");
    for number in 0..80 {
        let (carbons, oxygen) = (1 + draw.below(8), draw.below(2));
        let smiles = format!("{}{}", "C".repeat(carbons), ["", "O"][oxygen]);
        // Every third row is without one of them.
        let shown = |column: usize, value: String| if number % 6 == 2 * column { String::new() } else { value };
        let _ = writeln!(
            lines,
            "{smiles},{},{},{},",
            shown(0, carbons.to_string()),
            shown(1, (10 * oxygen).to_string()),
            shown(2, ["no", "yes"][oxygen].into())
        );
    }
    let (data, out) = (room.write("m.csv", lines), room.name("model"));
    let settings = ["data.label=[carbons, oxygens]", "data.split=random", "model.pooling=sum", "training.epochs=80"];
    done(&small("molecule", "regress", &data, &out, &settings));
    let result = json(&done(&["evaluate", &out, &data, "--json", "--split", "train"]));
    let [carbons, oxygens] = [0, 1].map(|place| result["targets"][place].clone());
    assert_eq!((&carbons["name"], &oxygens["name"]), (&"carbons".into(), &"oxygens".into()));
    assert!(carbons["r2"].as_f64() > Some(0.8) && oxygens["r2"].as_f64() > Some(0.8), "{result}");
    assert!(carbons["examples"].as_u64() < result["examples"].as_u64(), "{result}");
    let asked = room.write("asked.smi", "CCCCO\nCC\n");
    let answers = done(&["predict", &out, &asked]);
    let numbers: Vec<Vec<f64>> =
        answers.lines().map(|line| line.split('\t').take(2).map(|number| number.parse().unwrap()).collect()).collect();
    assert!(numbers[0][1] > numbers[1][1] + 5.0 && numbers[0][0] > numbers[1][0], "{answers}");
    let object: Vec<serde_json::Value> = done(&["predict", &out, &asked, "--json"]).lines().map(json).collect();
    assert_eq!(object[0]["answers"]["carbons"]["value"].as_f64(), Some(numbers[0][0]), "{object:?}");
    let renamed = ["evaluate", &out, &data, "--set"];
    assert_refused(&qkv(&[&renamed[..], &["data.label=carbons"]].concat()), 2, &["`carbons`, `oxygens`"]);
    // Labels, of a table; a column that is learned is none that is looked at.
    let out = room.name("labels");
    let settings = ["data.label=[alcohol, oxygens]", "data.ignore=[gone]"];
    done(&small("table", "classify", &data, &out, &settings));
    let result = json(&done(&["evaluate", &out, &data, "--json"]));
    assert!(result["targets"][1]["roc_auc"].is_number() && result["accuracy"].is_number(), "{result}");
    let answers: Vec<serde_json::Value> = done(&["predict", &out, &data, "--json"]).lines().map(json).collect();
    assert_eq!(answers.len(), 80);
    assert!(answers.iter().all(|answer| answer["answers"]["alcohol"]["label"].is_string()), "{answers:?}");
    let never = room.name("never");
    let refused = |kind: &str, settings: &[&str], status: i32, wanted: &[&str]| {
        assert_refused(&qkv(&small(kind, "classify", &data, &never, settings)), status, wanted);
    };
    refused("molecule", &["data.label=[alcohol, alcohl]"], 1, &["alcohl", "did you mean"]);
    refused("molecule", &["data.label=[alcohol, gone]"], 1, &["column `gone`"]);
    refused("molecule", &["data.label=[alcohol, alcohol]"], 2, &["twice"]);
    refused("vectors", &["data.label=[alcohol, gone]"], 2, &["data.label"]);
    refused("molecule", &["data.label=[alcohol, carbons]", "training.metric=roc_auc"], 1, &["two labels"]);
    assert!(!room.path("never").exists());
}

#[test]
fn a_graph_is_answered_whatever_its_columns_hold_and_told_of_what_is_unseen() {
    let room = Room::new();
    let (data, out) = (ring(&room, "ring"), room.name("model"));
    let nodes = fs::read_to_string(room.path("ring/nodes.tsv")).unwrap();
    room.write("ring/nodes.tsv", nodes.replacen("split", "fold", 1));
    done(&small("graph", "tag", &data, &out, &["data.split=fold", "training.epochs=1"]));
    let folder = |name: &str, nodes: &str| {
        fs::create_dir_all(room.path(name)).unwrap();
        room.write(&format!("{name}/nodes.tsv"), nodes);
        let kind = if name == "new" { "new" } else { "next" };
        room.write(&format!("{name}/edges.tsv"), format!("source\ttarget\trelation\na\tb\tnext\na\ta\t{kind}\n"));
        room.name(name)
    };
    let new = folder("new", "id\tfold\tfeatures\na\tA-113\t0 8\nb\tcv3\t4 99\n");
    let ended = qkv(&["predict", &out, &new, "--json"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(json(&ended.stdout)["graph"], new.as_str());
    for unseen in ["feature `99`", "edge kind `new`"] {
        assert_eq!(ended.stderr.matches(unseen).count(), 1, "{ended:?}");
    }
    assert_eq!(done(&["predict", &out, &folder("plain", "id\tfeatures\na\t0 8\nb\t4 9\n")]).lines().count(), 2);
    let tests = folder("tests", "id\tfold\tlabel\tfeatures\na\ttest\tleft\t0\nb\ttest\tright\t4\n");
    assert_eq!(json(&done(&["evaluate", &out, &tests, "--json"]))["tokens"], 2);
    assert_refused(&qkv(&["evaluate", &out, &tests, "--split", "train"]), 1, &["--split"]);
}

#[test]
fn graphs_in_lines_are_answered_without_edges_or_features_and_their_labels_are_found() {
    let room = Room::new();
    let mut lines = String::from("{\"nodes\":[\"C\"],\"edges\":[],\"label\":\"a\"}\n");
    for number in 0..20 {
        let (node, label) = [("C", "a"), ("O", "b")][number % 2];
        let _ = writeln!(
            lines,
            "{{\"nodes\":[{node:?},{node:?}],\"edges\":[[0,1,0.5]],\"label\":{label:?},\"labels\":[\"x\",\"y\"]}}"
        );
    }
    let (data, out) = (room.write("g.jsonl", &lines), room.name("model"));
    done(&small("graph", "classify", &data, &out, &["training.epochs=1"]));
    for asked in ["{\"nodes\":[\"C\"]}", "{\"nodes\":[{},{}]}", "{\"nodes\":[\"O\"],\"label\":[1],\"split\":\"cv3\"}"] {
        let asked = room.write("asked.jsonl", format!("{asked}\n"));
        assert_eq!(done(&["predict", &out, &asked]).lines().count(), 1);
    }
    let never = room.name("never");
    let refused = |task: &str, content: &str, settings: &[&str], wanted: &[&str]| {
        let data = room.write("bad.jsonl", content);
        assert_refused(&qkv(&small("graph", task, &data, &never, settings)), 1, wanted);
    };
    let of_graphs = "{\"nodes\":[\"C\"],\"label\":\"a\"}\n".repeat(4);
    refused("tag", &of_graphs, &[], &["bad.jsonl", "--task classify"]);
    refused("tag", &of_graphs, &["data.label=side"], &["bad.jsonl", "`side`"]);
    refused("classify", &of_graphs, &["data.label=side"], &["bad.jsonl:1", "`side`"]);
    refused("classify", &of_graphs.replace("label\":\"a\"", "labels\":[\"a\"]"), &[], &["bad.jsonl:1", "--task tag"]);
    let recording = small("graph", "classify", &data, &never, &["input.normalise=recording"]);
    assert_refused(&qkv(&recording), 2, &["input.normalise", "corpus"]);
    assert!(!room.path("never").exists());
}

#[test]
fn molecules_are_answered_whatever_stands_beside_them_and_refused_by_line() {
    let room = Room::new();
    let lines: String = (1..30).map(|number| format!("{},{number}\n", "C".repeat(1 + number % 8))).collect();
    let data = room.write("m.csv", format!("smiles,logp\n{lines}"));
    let out = room.name("model");
    done(&small("molecule", "regress", &data, &out, &["data.label=logp", "training.epochs=1", "data.max_tokens=10"]));
    let asked = room.write("asked.csv", format!("smiles,part\n{},A-113\n", "C".repeat(12)));
    assert_refused(&qkv(&["predict", &out, &asked]), 1, &["asked.csv:2", "data.max_tokens"]);
    assert_eq!(done(&["predict", &out, &asked, "--set", "data.max_tokens=20"]).lines().count(), 1);
    for (name, content, wanted) in [
        ("other.csv", "smiles,name\nC,x\n", "\"name\""),
        ("other.smi", "C x\n", "\"name\""),
        ("other.jsonl", "{\"smiles\": \"C\", \"name\": \"x\"}\n", "\"name\""),
    ] {
        let other = room.write(name, content);
        assert_refused(&qkv(&["evaluate", &out, &other]), 1, &[name, "\"logp\"", wanted]);
    }
    let never = room.name("never");
    let bad = room.write("bad.csv", format!("smiles,logp\nCC,inf\n{lines}"));
    let refused = qkv(&small("molecule", "regress", &bad, &never, &["data.label=logp"]));
    assert_refused(&refused, 1, &["bad.csv:2", "CC", "inf"]);
    let rows: String = (0..40).map(|row| format!("s{},{row},{}\n", row / 4, row / 4 % 2)).collect();
    let rows = room.write("rows.csv", format!("series,x,label\n{rows}"));
    let refused = qkv(&small("vectors", "classify", &rows, &never, &["data.max_tokens=3"]));
    assert_refused(&refused, 1, &["rows.csv:", "data.max_tokens = 3"]);
}
