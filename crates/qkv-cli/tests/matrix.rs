//! Every input with every task: each pair that has a meaning is trained on little data, saved, loaded, judged and used. What the pairs
//! are, and which have none, is said in `docs/tasks.md`.

#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write as _;
use std::fs;

use common::*;

/// One pair of an input and a task.
struct Cell {
    kind: &'static str,
    task: &'static str,
    settings: &'static [&'static str],
    /// Writes data to learn from and to be asked; returns the paths of both.
    data: fn(&Room) -> (String, String),
}

const CELLS: &[Cell] = &[
    Cell { kind: "text", task: "tag", settings: &[], data: tagged },
    Cell { kind: "text", task: "classify", settings: &[], data: |room| texts(room, false) },
    Cell { kind: "text", task: "regress", settings: &[], data: |room| texts(room, true) },
    Cell { kind: "text", task: "generate", settings: &["input.unit=characters"], data: plain },
    Cell { kind: "text", task: "generate", settings: &["input.unit=characters", "decoding.max_length=8"], data: pairs },
    Cell { kind: "audio", task: "tag", settings: SOUND, data: |room| sounds(room, &["low", "high"]) },
    Cell { kind: "audio", task: "classify", settings: SOUND, data: |room| sounds(room, &["low", "high"]) },
    Cell { kind: "audio", task: "regress", settings: SOUND, data: |room| sounds(room, &["1", "2.5"]) },
    Cell {
        kind: "audio",
        task: "generate",
        settings: &[
            "input.rate=8000",
            "input.bands=12",
            "data.names={label}_{i}",
            "data.join=[1,2]",
            "model.output=ctc",
        ],
        data: |room| sounds(room, &["low", "high"]),
    },
    Cell { kind: "image", task: "tag", settings: SCENES, data: |_| scenes() },
    Cell { kind: "image", task: "classify", settings: &["input.patch=4"], data: pictures },
    Cell { kind: "image", task: "regress", settings: &["input.patch=4"], data: pictures },
    Cell {
        kind: "image",
        task: "generate",
        settings: &["input.patch=8", "data.builtin_count=60", "decoding.max_length=6", "training.epochs=2"],
        data: |_| scenes(),
    },
    Cell { kind: "image+text", task: "classify", settings: SCENES, data: |_| scenes() },
    Cell { kind: "image+text", task: "regress", settings: &["input.patch=4"], data: counted },
    Cell {
        kind: "graph",
        task: "tag",
        settings: &["model.block=bare", "model.score=rank-one", "training.epochs=60"],
        data: one_graph,
    },
    Cell { kind: "graph", task: "tag", settings: &["model.score=additive"], data: graphs },
    Cell {
        kind: "graph",
        task: "classify",
        settings: &["data.label=shape", "model.layers=2", "training.epochs=40"],
        data: graphs,
    },
    Cell { kind: "graph", task: "regress", settings: &["data.label=size", "model.pooling=sum"], data: graphs },
    Cell { kind: "molecule", task: "classify", settings: &["data.label=kind"], data: molecules },
    Cell {
        kind: "molecule",
        task: "regress",
        settings: &["data.label=weight", "model.sees=distances", "model.pooling=sum"],
        data: molecules,
    },
    Cell { kind: "table", task: "classify", settings: &["data.label=kind", "data.ignore=sum"], data: table },
    Cell {
        kind: "table",
        task: "regress",
        settings: &["data.label=sum", "data.ignore=kind", "model.mixer=none"],
        data: table,
    },
    Cell { kind: "vectors", task: "tag", settings: &["data.ignore=kind", "data.label=step"], data: series },
    Cell { kind: "vectors", task: "classify", settings: &["data.ignore=step", "data.label=kind"], data: series },
    Cell {
        kind: "vectors",
        task: "regress",
        settings: &["data.ignore=[\"step\", \"kind\"]", "data.label=much"],
        data: series,
    },
];

const SOUND: &[&str] = &["input.rate=8000", "input.bands=12", "data.names={label}_{i}"];
const SCENES: &[&str] = &["input.patch=8", "data.builtin_count=60", "training.epochs=2"];

#[test]
fn every_pair_with_a_meaning_learns_is_kept_and_answers() {
    for (number, Cell { kind, task, settings, data }) in CELLS.iter().enumerate() {
        let room = Room::new();
        let ((data, asked), out) = (data(&room), room.name("model"));
        let mut args = vec!["train", "--out", &out, "--threads", "1", "--input", kind, "--task", task];
        data.split('|').for_each(|path| args.extend(["--train", path]));
        let usual = [
            "training.epochs=6",
            "training.batch_tokens=150",
            "training.learning_rate=1e-2",
            "training.dropout=0",
            "model.d_model=16",
            "model.layers=1",
            "model.heads=2",
        ];
        usual.iter().chain(*settings).for_each(|setting| args.extend(["--set", setting]));
        let ended = qkv(&args);
        assert_eq!(ended.status, Some(0), "{number}: {kind}, {task}: {ended:?}");
        let metrics = json(&fs::read_to_string(room.path("model/metrics.json")).unwrap());
        let epochs = metrics["epochs"].as_array().unwrap();
        let loss = |epoch: usize| epochs[epoch]["train_loss"].as_f64().unwrap();
        assert!(loss(epochs.len() - 1) < 0.95 * loss(0), "{kind}, {task}: the loss does not fall: {epochs:?}");

        let mut args = vec!["evaluate", out.as_str()];
        args.extend(data.split('|'));
        let ended = qkv(&[&args[..], &["--json"]].concat());
        assert_eq!(ended.status, Some(0), "{number}: {kind}, {task}: {ended:?}");
        let result = json(&ended.stdout);
        assert_eq!(result["task"], *task);
        assert!(result["loss"].as_f64().is_some_and(f64::is_finite), "{kind}, {task}: {result}");
        assert!(result["examples"].as_u64() > Some(0), "{kind}, {task}: {result}");

        for style in [&[][..], &["--json"]] {
            let ended = qkv(&[&["predict", &out, &asked], style].concat());
            assert_eq!(ended.status, Some(0), "{number}: {kind}, {task}: {ended:?}");
            assert!(!ended.stdout.trim().is_empty() || *task == "generate", "{kind}, {task}: {ended:?}");
            if !style.is_empty() {
                ended.stdout.lines().for_each(|line| assert!(json(line).is_object(), "{kind}, {task}: {line}"));
            }
        }
    }
}

#[test]
fn what_has_no_meaning_is_refused_by_name() {
    let room = Room::new();
    for (kind, task) in [
        ("molecule", "tag"),
        ("table", "tag"),
        ("image+text", "tag"),
        ("image+text", "generate"),
        ("graph", "generate"),
        ("molecule", "generate"),
        ("table", "generate"),
        ("vectors", "generate"),
    ] {
        let ended = qkv(&["train", "--input", kind, "--task", task, "--train", "x.csv", "--out", &room.name("never")]);
        assert_refused(&ended, 2, &["model.task"]);
    }
}

#[test]
fn the_documentation_has_a_command_for_each_pair() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tasks.md")).unwrap();
    for Cell { kind, task, .. } in CELLS {
        let has_both = |line: &str| line.contains(&format!("`{kind}`")) && line.contains(&format!("`{task}`"));
        assert!(page.lines().any(|line| has_both(line) && line.contains("qkv train")), "{kind}, {task}");
    }
}

fn tagged(room: &Room) -> (String, String) {
    let data = room.conllu("train.conllu", 80, 1);
    (data.clone(), data)
}

fn texts(room: &Room, numbers: bool) -> (String, String) {
    let mut draw = Draw::new(3);
    let mut lines = String::from("label,text\n");
    for _ in 0..60 {
        let good = draw.below(2) == 1;
        let label = if numbers { f64::from(u8::from(good)).to_string() } else { good.to_string() };
        let words = ["bad", "good"][usize::from(good)];
        let _ = writeln!(lines, "{label},a {words} day {}", draw.below(4));
    }
    let data = room.write("texts.csv", lines);
    (data, room.write("asked.txt", "a good day\n"))
}

fn plain(room: &Room) -> (String, String) {
    (room.write("plain.txt", "the sea and the sky and the sea again. ".repeat(60)), room.write("asked.txt", "the s\n"))
}

fn pairs(room: &Room) -> (String, String) {
    let mut draw = Draw::new(3);
    let lines: String = (0..60)
        .map(|_| {
            let word: String = (0..1 + draw.below(4)).map(|_| ['a', 'b', 'c'][draw.below(3)]).collect();
            format!("{word}\t{}\n", word.to_uppercase())
        })
        .collect();
    (room.write("pairs.tsv", lines), room.write("asked.txt", "abc\n"))
}

/// Tones of two pitches, called so.
fn sounds(room: &Room, labels: &[&str; 2]) -> (String, String) {
    fs::create_dir_all(room.path("tones")).unwrap();
    for (label, hertz) in labels.iter().zip([300.0, 1800.0]) {
        for index in 0..10 {
            let count = 1600 + 100 * index;
            let sample = |n: usize| (8000.0 * (n as f64 * hertz * std::f64::consts::TAU / 8000.0).sin()) as i16;
            let samples: Vec<u8> = (0..count).flat_map(|n| sample(n).to_le_bytes()).collect();
            let mut bytes = b"RIFF".to_vec();
            bytes.extend((36 + samples.len() as u32).to_le_bytes());
            bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
            bytes.extend([8000_u32, 16_000].iter().flat_map(|x| x.to_le_bytes()));
            bytes.extend(b"\x02\0\x10\0data");
            bytes.extend((samples.len() as u32).to_le_bytes());
            bytes.extend(samples);
            room.write(&format!("tones/{label}_{index}.wav"), bytes);
        }
    }
    (room.name("tones"), room.name("tones"))
}

fn scenes() -> (String, String) {
    ("builtin:scenes".into(), "builtin:scenes".into())
}

/// The bytes of a grey picture of 8 × 8 in the format BMP, of which so many columns are bright.
fn bmp(bright: usize) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    bytes.extend((54_u32 + 192).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(54_u32.to_le_bytes());
    bytes.extend(40_u32.to_le_bytes());
    bytes.extend([8_u32, 8].iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend(b"\x01\0\x18\0");
    bytes.extend([0_u32, 192, 2835, 2835, 0, 0].iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend((0..64).flat_map(|pixel| [if pixel % 8 < bright { 230 } else { 20 }; 3]));
    bytes
}

/// Pictures with numbers as labels.
fn pictures(room: &Room) -> (String, String) {
    let mut lines = String::from("image,label\n");
    for number in 0..30 {
        let bright = [1, 5][number % 2];
        room.write(&format!("{number}.bmp"), bmp(bright));
        let _ = writeln!(lines, "{number}.bmp,{bright}");
    }
    let data = room.write("pictures.csv", lines);
    (data.clone(), data)
}

/// Questions about pictures that are answered by numbers.
fn counted(room: &Room) -> (String, String) {
    let mut lines = String::from("image,question,answer\n");
    for number in 0..30 {
        let bright = 1 + number % 6;
        room.write(&format!("{number}.bmp"), bmp(bright));
        let _ = writeln!(lines, "{number}.bmp,how many columns are bright ?,{bright}");
    }
    let data = room.write("asked.csv", lines);
    (data.clone(), data)
}

/// Two communities, whose nodes have some of their own features.
fn one_graph(room: &Room) -> (String, String) {
    let mut draw = Draw::new(3);
    let (mut nodes, mut edges) = ("id\tsplit\tlabel\tfeatures\n".to_string(), "source\ttarget\n".to_string());
    for node in 0..60 {
        let (side, split) = (node % 2, ["train", "train", "dev", "test"][node / 2 % 4]);
        let _ = writeln!(
            nodes,
            "n{node}\t{split}\t{}\t{} {}",
            ["odd", "even"][side],
            side * 5 + draw.below(5),
            10 + draw.below(5)
        );
        let _ = writeln!(edges, "n{node}\tn{}", (node + 2 * (1 + draw.below(8))) % 60);
    }
    fs::create_dir_all(room.path("graph")).unwrap();
    room.write("graph/nodes.tsv", nodes);
    room.write("graph/edges.tsv", edges);
    (room.name("graph"), room.name("graph"))
}

/// Rings and chains, with labels for nodes and for the whole.
fn graphs(room: &Room) -> (String, String) {
    let mut lines = String::new();
    for number in 0..40 {
        let (size, ring) = (4 + number % 5, number % 2 == 1);
        let nodes: Vec<String> = (0..size)
            .map(|node| format!(r#"{{"features": [{}.0, 1.0], "label": "{}"}}"#, node % 2, ["a", "b"][node % 2]))
            .collect();
        let last = if ring { format!(", [{}, 0]", size - 1) } else { String::new() };
        let edges: Vec<String> = (1..size).map(|node| format!("[{}, {node}]", node - 1)).collect();
        let _ = writeln!(
            lines,
            r#"{{"nodes": [{}], "edges": [{}{last}], "shape": "{}", "size": {size}}}"#,
            nodes.join(", "),
            edges.join(", "),
            ["chain", "ring"][usize::from(ring)]
        );
    }
    let data = room.write("graphs.jsonl", lines);
    (data.clone(), data)
}

fn molecules(room: &Room) -> (String, String) {
    let mut lines = String::from("smiles,kind,weight\n");
    for number in 0..40 {
        let length = 1 + number % 7;
        let (end, kind) = [("O", "alcohol"), ("Cl", "chloride")][number % 2];
        let _ = writeln!(lines, "{}{end},{kind},{}", "C".repeat(length), 14 * length + 17);
    }
    let data = room.write("molecules.csv", lines);
    (data.clone(), data)
}

fn table(room: &Room) -> (String, String) {
    let mut draw = Draw::new(3);
    let mut lines = String::from("colour,height,width,kind,sum\n");
    for _ in 0..60 {
        let (colour, height, width) = (draw.below(2), draw.below(100), draw.below(100));
        let shown = if draw.below(9) == 0 { String::new() } else { width.to_string() };
        let kind = ["small", "large"][usize::from(height > 50)];
        let _ = writeln!(lines, "{},{height},{shown},{kind},{}", ["red", "blue"][colour], height + 50 * colour);
    }
    let data = room.write("table.csv", lines);
    (data.clone(), data)
}

fn series(room: &Room) -> (String, String) {
    let mut draw = Draw::new(3);
    let mut lines = String::from("series,x,y,step,kind,much\n");
    for number in 0..40 {
        let fast = number % 2 == 1;
        for step in 0..12 {
            let x = (step as f64 * if fast { 1.5 } else { 0.4 }).sin();
            let (above, kind) = (["below", "above"][usize::from(x > 0.0)], ["slow", "fast"][usize::from(fast)]);
            let _ = writeln!(lines, "s{number},{x:.3},{},{above},{kind},{}", draw.below(10), 1 + number % 2);
        }
    }
    let data = room.write("series.csv", lines);
    (data.clone(), data)
}
