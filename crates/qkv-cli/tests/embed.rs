//! Vectors of every kind of model as a file, and the neighbours of a word before and after context.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;

use common::*;
use serde_json::Value;

/// A tagger, the data that it was trained on, and the sentences of that data.
fn tagger() -> &'static (Room, String, String) {
    static MODEL: OnceLock<(Room, String, String)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let room = Room::new();
        let model = small_model(&room);
        let data = room.name("train.conllu");
        (room, model, data)
    })
}

/// Some lines of plain text.
fn plain(count: usize) -> String {
    let line = |words: Vec<Word>| words.into_iter().map(|(word, _)| word).collect::<Vec<_>>().join(" ") + "\n";
    sentences(count, 0, 1).into_iter().map(line).collect()
}

/// Rows of a file of vectors, read as the format says.
fn rows(path: &str) -> Vec<Vec<f32>> {
    let content = fs::read(path).unwrap();
    assert_eq!(&content[..8], b"\x93NUMPY\x01\x00");
    let length = usize::from(u16::from_le_bytes([content[8], content[9]]));
    let head = std::str::from_utf8(&content[10..10 + length]).unwrap();
    assert!((10 + length) % 64 == 0 && head.ends_with('\n'), "{head:?}");
    let shape = head.trim_end().strip_prefix("{'descr': '<f4', 'fortran_order': False, 'shape': (").unwrap();
    let (rows, columns) = shape.strip_suffix("), }").unwrap().split_once(", ").unwrap();
    let (rows, columns): (usize, usize) = (rows.parse().unwrap(), columns.parse().unwrap());
    let numbers: Vec<f32> =
        content[10 + length..].chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(numbers.len(), rows * columns);
    assert!(numbers.iter().all(|number| number.is_finite()));
    numbers.chunks_exact(columns).map(<[f32]>::to_vec).collect()
}

/// The cells of the table beside it.
fn table(path: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path.replace(".npy", ".tsv")).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_string).collect()).collect()
}

/// Makes vectors; returns them with the cells of the table.
fn embedded(room: &Room, model: &str, data: &str, more: &[&str]) -> (Vec<Vec<f32>>, Vec<Vec<String>>) {
    let out = room.name("vectors.npy");
    let told = json(&done(&[&["embed", model, data, "--out", &out, "--json"], more].concat()));
    let (rows, table) = (rows(&out), table(&out));
    assert_eq!((told["rows"].as_u64().unwrap() as usize, rows.len()), (table.len(), table.len()));
    assert_eq!(told["d_model"].as_u64().unwrap() as usize, rows[0].len());
    (rows, table)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

#[test]
fn a_row_for_each_word_of_each_sentence() {
    let (_, model, data) = tagger();
    let room = Room::new();
    let (vectors, table) = embedded(&room, model, data, &[]);
    let mut expected = Vec::new();
    for (number, sentence) in (1..).zip(sentences(200, 0, 1)) {
        expected
            .extend((1..).zip(sentence).map(|(place, (word, _))| vec![format!("{number}"), format!("{place}"), word]));
    }
    assert!(table == expected, "{:?}", &table[..5]);
    assert_eq!(vectors[0].len(), 16);
    // The last layer is the default; the one before it is another, and nothing that training has is needed.
    let (last, _) = embedded(&room, model, data, &["--layer", "1", "--threads", "1"]);
    assert!(vectors == last);
    let (first, _) = embedded(&room, model, data, &["--layer", "0"]);
    assert!(first != last);
    let bare: String = sentences(200, 0, 1)
        .iter()
        .map(|words| words.iter().map(|(word, _)| format!("{word}\n")).collect::<String>() + "\n")
        .collect();
    let bare = room.write("bare.tsv", bare);
    let (same, _) = embedded(&room, model, &bare, &["--format", "columns"]);
    assert!(same == vectors, "labels are not looked at");
    let shown = done(&["embed", model, data, "--out", &room.name("shown.npy")]);
    assert!(shown.contains("layer 1, of 200 sentences") && shown.contains("shown.tsv"), "{shown}");
}

#[test]
fn a_word_is_one_vector_before_context_and_many_after() {
    let (_, model, data) = tagger();
    let room = Room::new();
    let spread = |layer: &str| {
        let (vectors, table) = embedded(&room, model, data, &["--layer", layer]);
        let of = |tag: &str| -> Vec<Vec<f32>> {
            let tags = sentences(200, 0, 1).concat();
            let chosen = tags.iter().zip(&vectors).filter(|((word, of), _)| word == "saw" && *of == tag);
            chosen.map(|(_, vector)| vector.clone()).collect()
        };
        assert_eq!(table.len(), vectors.len());
        (of("NOUN"), of("VERB"))
    };
    let (noun, verb) = spread("0");
    assert!(noun.len() > 3 && verb.len() > 3);
    assert!(noun.iter().chain(&verb).all(|vector| *vector == noun[0]), "the same wherever it stands");
    let (noun, verb) = spread("1");
    let mean = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        let all: Vec<f32> = a.iter().flat_map(|a| b.iter().map(move |b| cosine(a, b))).collect();
        all.iter().sum::<f32>() / all.len() as f32
    };
    let (alike, across) = ((mean(&noun, &noun) + mean(&verb, &verb)) / 2.0, mean(&noun, &verb));
    assert!(alike > across + 0.2, "context tells the noun from the verb: {alike} {across}");
}

#[test]
fn one_row_for_each_text_is_the_mean() {
    let (_, model, _) = tagger();
    let room = Room::new();
    // A blank line is a text without a word: it has its number, and no row.
    let data = room.write("text.txt", "they saw a duck .\n\nwe watch the old park .\nfly\n");
    let out = room.name("pooled.npy");
    let ended = qkv(&["embed", model, &data, "--out", &out, "--pooled"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(told(&ended).join("\n").contains("1 of 4 texts are empty"), "{ended:?}");
    assert_eq!(fs::read_to_string(room.path("pooled.tsv")).unwrap(), "1\t5\n3\t6\n4\t1\n");
    let pooled = rows(&out);
    qkv(&["embed", model, &data, "--out", &out]);
    let (all, cells) = (rows(&out), table(&out));
    for (row, text) in pooled.iter().zip(["1", "3", "4"]) {
        let own: Vec<&Vec<f32>> =
            all.iter().zip(&cells).filter(|(_, cells)| cells[0] == text).map(|(row, _)| row).collect();
        for (element, mean) in row.iter().enumerate() {
            let sum: f32 = own.iter().map(|row| row[element]).sum();
            assert!((sum / own.len() as f32 - mean).abs() < 1e-5);
        }
    }
    // Standard input does as well.
    let mut command = program();
    command.args(["embed", model, "-", "--out", &room.name("stdin.npy"), "--pooled"]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(&data).unwrap()).unwrap();
    assert_eq!(ended_status(child), Some(0));
    assert!(rows(&room.name("stdin.npy")) == pooled);
}

fn ended_status(child: std::process::Child) -> Option<i32> {
    ended(child).status
}

#[test]
fn vectors_of_models_that_generate() {
    let room = Room::new();
    let text = room.write("train.txt", plain(200));
    let common = [
        "--set",
        "model.d_model=16",
        "--set",
        "model.heads=2",
        "--set",
        "training.steps=5",
        "--set",
        "model.context=6",
    ];
    let train = |name: &str, data: &str, unit: &str| {
        let (out, unit) = (room.name(name), format!("input.unit={unit}"));
        let args = [
            "train",
            "--task",
            "generate",
            "--train",
            data,
            "--out",
            &out,
            "--set",
            &unit,
            "--set",
            "input.subwords=60",
        ];
        done(&[&args[..], &common].concat());
        out
    };
    let data = room.write("data.txt", "they saw\n\nthe\told saw\n");
    let units = |table: &[Vec<String>]| table.iter().map(|cells| cells[2].clone()).collect::<Vec<_>>();
    let numbers = |table: &[Vec<String>]| table.iter().map(|cells| cells[0].clone()).collect::<String>();
    let embedded = |model: &str, layer: &str| {
        let out = room.name("vectors.npy");
        let ended = qkv(&["embed", model, &data, "--out", &out, "--layer", layer]);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        (rows(&out), table(&out))
    };
    let letters = train("characters", &text, "characters");
    let (vectors, table) = embedded(&letters, "2");
    // Neither a tab nor an end of a line breaks the table; an unknown character is shown as one.
    assert_eq!(units(&table).concat(), "they sawthe⁇old saw");
    assert_eq!(numbers(&table), "1".repeat(8) + &"3".repeat(11));
    // Of a language model nothing knows what comes after it, nor what is further back than the context: "saw" ends both texts, but
    // only behind "they " is the window still the first.
    let beginning = room.write("data2.txt", "they saw and more\n");
    let out = room.name("more.npy");
    done(&["embed", &letters, &beginning, "--out", &out]);
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(rows(&out).iter().zip(&vectors).take(6).all(|(a, b)| near(a, b)), "what follows is not seen");

    let pairs = room.write("train.tsv", plain(100).lines().map(|line| format!("{line}\t{line}\n")).collect::<String>());
    for (unit, shown) in [("words", "they|saw|the|old|saw"), ("bpe", "")] {
        for (kind, train_data) in [("language", &text), ("pairs", &pairs)] {
            let model = train(&format!("{kind}-{unit}"), train_data, unit);
            for layer in ["0", "1", "2"] {
                let (vectors, table) = embedded(&model, layer);
                assert_eq!((vectors.len(), vectors[0].len()), (table.len(), 16));
                let joined = units(&table);
                match unit {
                    "words" => assert_eq!(joined.join("|"), shown),
                    _ => assert!(joined.concat().starts_with("▁they▁saw▁the"), "{joined:?}"),
                }
                if unit == "words" && layer == "0" {
                    assert_eq!(vectors[1], vectors[4], "before context");
                }
                if unit == "words" && layer != "0" {
                    assert_ne!(vectors[1], vectors[4], "{kind}, layer {layer}: after context");
                }
            }
        }
    }
}

fn neighbours(list: &Value) -> Vec<(String, f64)> {
    let one = |one: &Value| (one["word"].as_str().unwrap().to_string(), one["cosine"].as_f64().unwrap());
    list.as_array().unwrap().iter().map(one).collect()
}

#[test]
fn neighbours_before_and_after_context() {
    let (_, model, data) = tagger();
    let text = ["--text", "they saw the old saw ."];
    let found = json(&done(
        &[&["embed", model, "--nearest", "saw", "--count", "6", "--data", data, "--json"][..], &text].concat(),
    ));
    let keys: Vec<&str> = found.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["word", "known", "one_hot", "before", "layer", "after"]);
    assert_eq!((&found["word"], &found["known"], &found["layer"]), (&"saw".into(), &true.into(), &1.into()));
    let one_hot = &found["one_hot"];
    assert_eq!(one_hot["cosine"], serde_json::json!([0.0, 0.0]));
    assert!(one_hot["distance"].as_array().unwrap().iter().all(|x| (x.as_f64().unwrap() - 2_f64.sqrt()).abs() < 1e-12));
    let before = neighbours(&found["before"]);
    assert!(before.len() == 6 && before.iter().all(|(word, _)| word != "saw"), "{before:?}");
    let after = found["after"].as_array().unwrap();
    assert_eq!(after.len(), 2, "it stands there twice");
    assert_eq!([&after[0]["unit"], &after[1]["unit"]], [2, 5]);
    assert_eq!(after[1]["context"], "they saw the old [saw] .");
    assert_eq!(after[0]["cosine_with_first"], 1.0);
    assert!(after[1]["cosine_with_first"].as_f64().unwrap() < 0.7, "{found}");
    // What is near in context is of the same part of speech.
    let tagged = sentences(200, 0, 1);
    for (occurrence, tag) in after.iter().zip(["VERB", "NOUN"]) {
        let list = neighbours(&occurrence["neighbours"]);
        let mut words: Vec<&String> = list.iter().map(|(word, _)| word).collect();
        assert!(list.len() == 6 && list.is_sorted_by(|a, b| a.1 >= b.1), "{list:?}");
        words.sort();
        words.dedup();
        assert_eq!(words.len(), 6, "each word once");
        for neighbour in occurrence["neighbours"].as_array().unwrap() {
            let place = |key: &str| neighbour[key].as_u64().unwrap() as usize - 1;
            let (word, found) = &tagged[place("text")][place("unit")];
            assert_eq!((neighbour["word"].as_str().unwrap(), *found), (word.as_str(), tag), "{neighbour}");
            assert!(neighbour["context"].as_str().unwrap().contains(&format!("[{word}]")));
        }
    }
    // For people.
    let shown = done(&[&["embed", model, "--nearest", "saw", "--data", data][..], &text].concat());
    let wanted = [
        "one-hot: the other 31 are all equally far: cosine 0, distance 1.4142",
        "before context",
        "in: they [saw] the old saw .",
    ];
    for part in [&wanted[..], &["in: they saw the old [saw] .", "1.000 before context, "]].concat() {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn a_corpus_alone_shows_the_two_places_that_context_drives_furthest_apart() {
    let (_, model, data) = tagger();
    let found = json(&done(&["embed", model, "--nearest", "park", "--data", data, "--json"]));
    let after = found["after"].as_array().unwrap();
    assert_eq!(after.len(), 2);
    let tagged = sentences(200, 0, 1);
    let tag = |place: &Value| {
        let at = |key: &str| place[key].as_u64().unwrap() as usize - 1;
        let (word, tag) = &tagged[at("text")][at("unit")];
        assert_eq!(word, "park");
        *tag
    };
    assert_ne!(tag(&after[0]), tag(&after[1]), "a noun and a verb: {found}");
    for occurrence in after {
        let own = (&occurrence["text"], &occurrence["unit"]);
        let others = occurrence["neighbours"].as_array().unwrap();
        assert!(others.len() == 10 && others.iter().all(|other| (&other["text"], &other["unit"]) != own));
    }
    // Without either there is no context to speak of.
    let found = json(&done(&["embed", model, "--nearest", "park", "--json"]));
    assert_eq!((found["after"].as_array().unwrap().len(), found["before"].as_array().unwrap().len()), (0, 10));
    assert!(done(&["embed", model, "--nearest", "park"]).contains("give --text"));
    // With texts alone their words are all that there is.
    let texts = ["--text", "we park", "--text", "the park fly", "--layer", "0"];
    let found = json(&done(&[&["embed", model, "--nearest", "park", "--json"][..], &texts].concat()));
    let after = found["after"].as_array().unwrap();
    assert_eq!(neighbours(&after[0]["neighbours"])[0].0, "park", "the same word, in the other text");
    assert!((after[1]["cosine_with_first"].as_f64().unwrap() - 1.0).abs() < 1e-6, "layer 0 knows no context");
}

#[test]
fn what_is_read_is_never_written_over() {
    let (_, model, data) = tagger();
    let room = Room::new();
    let source = room.write("words.tsv", fs::read(data).unwrap());
    let out = room.name("words.npy");
    let args = ["embed", model, &source, "--format", "conllu", "--out", &out];
    assert_refused(&qkv(&args), 2, &[&out, &source, "is the file that is read"]);
    assert_eq!(fs::read(&source).unwrap(), fs::read(data).unwrap());
    assert!(!Path::new(&out).exists());
    // A folder where the table would go: the vectors that were there stay.
    let (out, before) = (room.write("kept.npy", "before"), room.path("kept.tsv"));
    fs::create_dir(&before).unwrap();
    assert_refused(&qkv(&["embed", model, data, "--out", &out]), 2, &["kept.tsv", "is a folder"]);
    assert_eq!(fs::read(&out).unwrap(), b"before");
}

#[test]
fn wrong_usage_is_refused_in_one_line() {
    let (room, model, data) = tagger();
    let out = room.name("never.npy");
    let missing = room.name("missing.txt");
    let empty = room.write("empty.txt", "\n\n");
    for (args, status, wanted) in [
        (&[data.as_str()][..], 2, &["--out"][..]),
        (&["--out", &out], 2, &["DATA"]),
        (&[data, "--out", &out, "--layer", "2"], 2, &["--layer 2", "the model has 1", "0 for"]),
        (&[data, "--out", "vectors.txt"], 2, &["vectors.txt", "ends in .npy"]),
        (&[data, "--out", &out, "--split", "tset"], 2, &["tset", "train, dev or test"]),
        (&[data, "--out", &out, "--format", "conlu"], 2, &["conlu", "did you mean conllu?"]),
        (&[data, "--out", "/nowhere/at/all.npy"], 1, &["/nowhere/at/all.npy", "check the path"]),
        (&[&missing, "--out", &out], 1, &[&missing, "check the path"]),
        (&[&empty, "--out", &out], 1, &[&empty, "right file?"]),
        (&[data, "--out", &out, "--text", "saw"], 2, &["--text", "cannot be used with"]),
        (&[data, "--nearest", "saw"], 2, &["--nearest"]),
        (&["--nearest", "saw", "--pooled"], 2, &["--pooled"]),
        (&["--nearest", "saw", "--text", "they fly"], 2, &["\"saw\" does not stand in it"]),
        (&["--nearest", "duck", "--data", &missing], 1, &[&missing, "check the path"]),
        (&["--nearest", "zebra", "--data", data], 1, &[data, "\"zebra\" does not stand in it", "--text"]),
        (&["--nearest", "saw", "--data", "-"], 2, &["--data -", "name a file"]),
        (&["--nearest", "two words"], 2, &["2 units", "\"two\", \"words\""]),
        (&["--nearest", " "], 2, &["there is no word"]),
        (&["--nearest", "saw", "--count", "0"], 2, &["--count"]),
    ] {
        assert_refused(&qkv(&[&["embed", model], args].concat()), status, wanted);
    }
    assert!(!Path::new(&out).exists() && !room.path("never.tsv").exists());
    let litter = fs::read_dir(room.folder.path()).unwrap().flatten();
    assert_eq!(litter.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count(), 0);
    // A word that the model does not know is told to be one.
    let shown = done(&["embed", model, "--nearest", "zebra", "--text", "they saw the zebra"]);
    assert!(shown.contains("which the model does not know") && shown.contains("the [zebra]"), "{shown}");
}
