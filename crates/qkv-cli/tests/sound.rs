//! Recordings: classified, written down, heard from a pipe, interrupted, and damaged ones refused.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Duration;

use common::*;
use serde_json::Value;

/// What is said, and how high: a tone of so many vibrations a second.
const TONES: [(&str, f64); 3] = [("low", 300.0), ("mid", 900.0), ("high", 2400.0)];

/// Samples a second.
const RATE: u32 = 8000;

/// What a header says that is written before the end of the sound is known.
const UNKNOWN_SIZE: u32 = u32::MAX;

/// Sound as a WAV file: one channel of 16 bits. The header says that there are `size` bytes of sound.
fn wav_of_size(samples: &[i16], size: u32) -> Vec<u8> {
    let mut bytes = b"RIFF".to_vec();
    bytes.extend(size.saturating_add(36).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16_u32.to_le_bytes());
    bytes.extend([1_u16, 1].iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend([RATE, 2 * RATE].iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend([2_u16, 16].iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend(b"data");
    bytes.extend(size.to_le_bytes());
    assert_eq!(bytes.len(), 44);
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    bytes
}

fn wav(samples: &[i16]) -> Vec<u8> {
    wav_of_size(samples, 2 * samples.len() as u32)
}

/// A tone, and noise so soft that it is there and no more; 0 Hz for noise alone.
fn tone(hertz: f64, seconds: f64, draw: &mut Draw) -> Vec<i16> {
    let count = (seconds * f64::from(RATE)) as usize;
    let of = |n: usize| {
        let angle = std::f64::consts::TAU * hertz * n as f64 / f64::from(RATE);
        (8000.0 * angle.sin()) as i16 + draw.below(41) as i16 - 20
    };
    (0..count).map(of).collect()
}

/// The name of a recording and what is in it, for each tone, speaker and index: 0.2 to 0.5 seconds.
fn recordings(indices: usize) -> Vec<(String, &'static str, Vec<u8>)> {
    let mut draw = Draw::new(7);
    let mut all = Vec::new();
    for (label, hertz) in TONES {
        for (who, pitch) in [("a", 0.95), ("b", 1.05)] {
            for index in 0..indices {
                let seconds = 0.2 + draw.below(300) as f64 / 1000.0;
                let bytes = wav(&tone(hertz * pitch, seconds, &mut draw));
                all.push((format!("{label}_{who}_{index}.wav"), label, bytes));
            }
        }
    }
    all
}

/// Writes the recordings into the folder `name`; returns its path.
fn folder(room: &Room, name: &str, indices: usize) -> String {
    fs::create_dir_all(room.path(name)).unwrap();
    for (file, _, bytes) in recordings(indices) {
        room.write(&format!("{name}/{file}"), bytes);
    }
    room.name(name)
}

const NAMES: &str = "data.names={label}_{who}_{index}";

/// Arguments that train a small model of recordings quickly.
fn training<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--train", data, "--out", out, "--threads", "1", "--input", "audio"];
    for setting in [
        "input.rate=8000",
        "input.bands=16",
        "model.d_model=16",
        "model.layers=1",
        "model.heads=2",
        "training.batch_tokens=400",
        "training.learning_rate=1e-2",
        "training.dropout=0",
    ] {
        args.extend(["--set", setting]);
    }
    more.iter().for_each(|setting| args.extend(["--set", setting]));
    args
}

/// What makes it a model that gives a label.
const CLASSIFY: [&str; 4] = ["model.task=classify", NAMES, "data.test_files=index 0-1", "data.dev_files=index 2"];

/// What makes it one that writes what it hears, and can do so while it hears.
const HEAR: [&str; 10] = [
    "model.task=generate",
    "model.output=ctc",
    NAMES,
    "data.test_files=index 0-1",
    "data.join=[1,3]",
    "data.join_count=120",
    "input.convolutions=1",
    "model.window=4",
    "model.positions=rotary",
    "training.batch_tokens=800",
];

/// A model for all tests that only use it: its room, itself, and the folder that it learned from.
type Trained = (Room, String, String);

fn trained(indices: usize, settings: &[&str]) -> Trained {
    let room = Room::new();
    let (data, out) = (folder(&room, "tones", indices), room.name("model"));
    done(&training(&data, &out, settings));
    (room, out, data)
}

fn classifier() -> &'static Trained {
    static MODEL: OnceLock<Trained> = OnceLock::new();
    MODEL.get_or_init(|| trained(7, &[&CLASSIFY[..], &["training.epochs=8"]].concat()))
}

fn hearer() -> &'static Trained {
    static MODEL: OnceLock<Trained> = OnceLock::new();
    MODEL.get_or_init(|| trained(6, &[&HEAR[..], &["training.epochs=14"]].concat()))
}

fn judged(model: &str, data: &str, more: &[&str]) -> Value {
    json(&done(&[&["evaluate", model, data, "--json"], more].concat()))
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("no {key}: {object}"))
}

/// Runs the program with `input` on its standard input.
fn with_input(args: &[&str], input: Vec<u8>) -> Ended {
    let mut command = program();
    command.args(args).stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that refuses what it reads does not read all of it.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let ended = ended(child);
    writer.join().unwrap();
    ended
}

#[test]
fn a_folder_is_learned_from_and_its_parts_are_judged() {
    let (_, model, data) = classifier();
    let result = judged(model, data, &[]);
    let keys: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["task", "examples", "tokens", "seconds", "accuracy", "f1", "loss", "confusion"]);
    assert_eq!((&result["task"], &result["examples"]), (&"classify".into(), &12.into()));
    // A recording has a vector every 10 ms.
    assert!((12.0 * 18.0..12.0 * 51.0).contains(&number(&result, "tokens")), "{result}");
    assert!(number(&result, "accuracy") > 0.9, "{result}");
    let [dev, train] = ["dev", "train"].map(|part| judged(model, data, &["--split", part])["examples"].clone());
    assert_eq!((dev, train), (6.into(), 24.into()));
    let text = done(&["evaluate", model, data]);
    assert!(text.starts_with("examples ") && text.contains("\nframes "), "{text}");
    let info = json(&done(&["info", model, "--json"]));
    assert_eq!((&info["task"], &info["finished"]), (&"classify".into(), &true.into()));
    assert_eq!(info["recipe"]["input"]["kind"], "audio");
    let info = done(&["info", model]);
    assert!(info.contains("kind = \"audio\"") && info.contains("rate = 8000"), "{info}");
}

#[test]
fn a_part_that_is_not_there_is_told() {
    let (room, model, _) = classifier();
    let data = folder(room, "none of train", 3);
    assert_refused(&qkv(&["evaluate", model, &data, "--split", "train"]), 1, &[&data, "--split"]);
}

#[test]
fn a_folder_of_the_test_part_alone_is_judged() {
    let (room, model, _) = classifier();
    let data = folder(room, "test alone", 2);
    assert_eq!(judged(model, &data, &["--set", "data.dev_files=none"])["examples"], 12);
    // What is asked for is there, and the rule for the dev part is not of it.
    assert_eq!(judged(model, &data, &[])["examples"], 12);
}

#[test]
fn recordings_are_predicted_in_order_whatever_they_are_called() {
    let (room, model, data) = classifier();
    let answers = done(&["predict", model, data]);
    let mut names: Vec<String> = recordings(7).into_iter().map(|(name, ..)| format!("{data}/{name}")).collect();
    names.sort();
    assert_eq!(answers.lines().map(|line| line.split_once('\t').unwrap().1).collect::<Vec<_>>(), names);
    let right = answers.lines().filter(|line| {
        let (label, name) = line.split_once('\t').unwrap();
        name.contains(&format!("/{label}_"))
    });
    assert!(right.count() > 38, "{answers}");
    let objects = done(&["predict", model, data, "--json"]);
    for (object, line) in objects.lines().map(json).zip(answers.lines()) {
        assert_eq!(object.as_object().unwrap().keys().collect::<Vec<_>>(), ["file", "label", "probabilities"]);
        assert_eq!(format!("{}\t{}", object["label"].as_str().unwrap(), object["file"].as_str().unwrap()), line);
        let sum: f64 = object["probabilities"].as_object().unwrap().values().map(|p| p.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{object}");
    }
    let strange = room.write("strange.wav", wav(&tone(2400.0, 0.3, &mut Draw::new(3))));
    assert_eq!(done(&["predict", model, &strange]), format!("high\t{strange}\n"));
    fs::create_dir_all(room.path("others")).unwrap();
    let other = room.write("others/voice 1.WAV", wav(&tone(300.0, 0.3, &mut Draw::new(3))));
    assert_eq!(done(&["predict", model, &room.name("others")]), format!("low\t{other}\n"));
    // At another rate it is the same sound. (Noise would not be: what lies above half of the lower rate is gone.)
    let of_rate = |rate: u32| {
        let sample = |n: u32| (8000.0 * (std::f64::consts::TAU * 900.0 * f64::from(n) / f64::from(rate)).sin()) as i16;
        let mut bytes = wav(&(0..rate / 4).map(sample).collect::<Vec<_>>());
        bytes[24..28].copy_from_slice(&rate.to_le_bytes());
        let path = room.write(&format!("{rate}.wav"), bytes);
        json(&done(&["predict", model, &path, "--json"]))["probabilities"].clone()
    };
    let own = of_rate(RATE);
    for rate in [16_000, 44_100] {
        let other = of_rate(rate);
        for (label, _) in TONES {
            assert!((number(&own, label) - number(&other, label)).abs() < 0.1, "{rate}: {own} {other}");
        }
    }
}

#[test]
fn a_manifest_says_what_a_folder_does_not() {
    let (room, model, _) = classifier();
    let strange: String = recordings(7)
        .into_iter()
        .enumerate()
        .map(|(number, (_, label, bytes))| {
            fs::create_dir_all(room.path("listed")).unwrap();
            room.write(&format!("listed/{number}.wav"), bytes);
            let split = ["train", "train", "dev", "test"][number % 4];
            format!("listed/{number}.wav,{label},{split}\n")
        })
        .collect();
    let manifest = room.write("list.csv", format!("path,label,split\n{strange}"));
    let out = room.name("from-list");
    done(&training(&manifest, &out, &["model.task=classify", "training.epochs=8"]));
    let result = judged(&out, &manifest, &[]);
    assert_eq!(result["examples"], 10);
    assert!(number(&result, "accuracy") > 0.8, "{result}");
    assert_eq!(done(&["predict", &out, &manifest]).lines().count(), 42);
    // A model whose training data were called by a pattern is asked by a list of what is not.
    let answers = done(&["predict", model, &manifest]);
    assert_eq!(answers.lines().count(), 42);
    assert!(answers.starts_with(&format!("low\t{}", room.name("listed/0.wav"))), "{answers}");
    let objects: String = (0..4).map(|n| format!("{{\"file\": \"listed/{n}.wav\"}}\n")).collect();
    let objects = room.write("list.jsonl", objects);
    assert_eq!(done(&["predict", model, &objects]).lines().count(), 4);
}

/// A long recording of tones one behind the other, and what is said in it.
fn speech(count: usize, seed: u64) -> (Vec<i16>, Vec<&'static str>) {
    let (mut draw, mut said) = (Draw::new(seed), Vec::new());
    let mut samples = tone(0.0, 0.2, &mut draw);
    for _ in 0..count {
        let (label, hertz) = TONES[draw.below(3)];
        said.push(label);
        let seconds = 0.25 + draw.below(200) as f64 / 1000.0;
        samples.extend(tone(hertz, seconds, &mut draw));
        samples.extend(tone(0.0, 0.2, &mut draw));
    }
    (samples, said)
}

#[test]
fn what_is_heard_is_written() {
    let (room, model, data) = hearer();
    let result = judged(model, data, &[]);
    assert_eq!((&result["task"], &result["examples"]), (&"generate".into(), &120.into()));
    assert!(number(&result, "wer") < 0.2 && number(&result, "loss").is_finite(), "{result}");
    let long = ["--set", "data.join_seconds=5", "--set", "data.join_count=2"];
    let result = judged(model, data, &long);
    assert_eq!(result["examples"], 2);
    assert!((600.0..=1000.0).contains(&number(&result, "tokens")), "twice about 5 s: {result}");
    assert!(number(&result, "wer") < 0.3, "{result}");
    let again = judged(model, data, &long);
    assert_eq!((&result["wer"], &result["loss"]), (&again["wer"], &again["loss"]));

    let (samples, said) = speech(6, 1);
    let file = room.write("six.wav", wav(&samples));
    let heard = done(&["predict", model, &file]);
    assert!(heard.split_whitespace().count().abs_diff(said.len()) <= 1, "{said:?}: {heard}");
    let object = json(&done(&["predict", model, &file, "--json"]));
    assert_eq!(object["text"], heard.trim_end());
    assert_eq!(object["file"], file.as_str());
    assert!(object["log_probability"].is_null(), "the likeliest path is not the likeliest text: {object}");
    let object = json(&done(&["predict", model, &file, "--json", "--set", "decoding.beam=4"]));
    assert!(number(&object, "log_probability") <= 0.0, "{object}");
    assert_eq!(done(&["predict", model, data]).lines().count(), 36, "each recording for itself");
    let info = json(&done(&["info", model, "--json"]));
    assert_eq!(info["recipe"]["data"]["join"], serde_json::json!([1, 3]));
    assert_eq!(info["recipe"]["model"]["output"], "ctc");
}

#[test]
fn each_frame_gets_its_label_in_files_and_in_a_pipe() {
    let room = Room::new();
    let (data, out) = (folder(&room, "tones", 8), room.name("model"));
    let settings = [
        "model.task=tag",
        NAMES,
        "data.test_files=index 0-1",
        "data.join=[1,3]",
        "data.join_count=80",
        "data.background=pause",
        "input.convolutions=1",
        "model.window=4",
        "model.positions=rotary",
        "training.batch_tokens=800",
        "training.epochs=8",
    ];
    done(&training(&data, &out, &settings));
    let result = judged(&out, &data, &[]);
    assert_eq!((&result["task"], &result["examples"]), (&"tag".into(), &80.into()));
    assert!(number(&result, "accuracy") > 0.9 && number(&result, "f1") > 0.85, "{result}");
    let (samples, said) = speech(12, 4);
    let file = room.write("twelve.wav", wav(&samples));
    let labelled = done(&["predict", &out, &file]);
    let labels = labelled.lines().map(|line| line.rsplit('\t').next().unwrap()).filter(|label| *label != "pause");
    assert!(labels.count().abs_diff(said.len()) <= 4, "{said:?}: {labelled}");
    assert!(labelled.lines().all(|line| line.starts_with(&format!("{file}\t")) && line.split('\t').count() == 4));
    let piped = with_input(&["predict", &out, "-"], wav(&samples));
    assert_eq!((piped.status, piped.stderr.as_str()), (Some(0), ""));
    assert_eq!(piped.stdout, labelled.replace(&format!("{file}\t"), ""), "a pipe has no name");
    let object = json(&done(&["predict", &out, &file, "--json"]));
    let stretches = object["stretches"].as_array().unwrap();
    assert_eq!((stretches.len(), &stretches[0]["start"]), (labelled.lines().count(), &0.0.into()));
    // A track of one's own is what a model can be judged by.
    let track: String = labelled.lines().map(|line| line.split_once('\t').unwrap().1.to_owned() + "\n").collect();
    room.write("twelve.txt", track);
    let of_itself =
        judged(&out, &file, &["--set", "data.names=none", "--set", "data.test_files=none", "--set", "data.join=none"]);
    assert_eq!((&of_itself["accuracy"], &of_itself["examples"]), (&1.0.into(), &1.into()), "{of_itself}");
    let pooled = [&settings[..], &["model.pooling=mean"]].concat();
    assert_refused(&qkv(&training(&data, &room.name("other"), &pooled)), 2, &["model.pooling"]);
}

#[test]
fn a_pipe_is_heard_as_a_file_is() {
    let (room, model, _) = hearer();
    // Long enough for several pieces.
    let (samples, said) = speech(60, 2);
    let file = room.write("long.wav", wav(&samples));
    let heard = done(&["predict", model, &file]);
    assert!(heard.split_whitespace().count() > said.len() / 2, "{heard}");
    for (input, what) in [
        (wav(&samples), "a whole file"),
        (wav_of_size(&samples, UNKNOWN_SIZE), "a header from before the end was known"),
        (wav_of_size(&samples, 4 * samples.len() as u32), "a header that promises more"),
    ] {
        let ended = with_input(&["predict", model, "-"], input);
        assert_eq!(
            (ended.status, ended.stdout.as_str(), ended.stderr.as_str()),
            (Some(0), heard.as_str(), ""),
            "{what}"
        );
    }
    let ended = with_input(&["predict", model, "--json", "--threads", "1"], wav(&samples));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let units: Vec<Value> = ended.stdout.lines().map(json).collect();
    let words: Vec<&str> = units.iter().map(|unit| unit["unit"].as_str().unwrap()).collect();
    assert_eq!(words, heard.split_whitespace().collect::<Vec<_>>());
    let times: Vec<f64> = units.iter().map(|unit| number(unit, "seconds")).collect();
    assert!(times.windows(2).all(|two| two[0] < two[1]), "{times:?}");
    let seconds = samples.len() as f64 / f64::from(RATE);
    assert!(times[0] >= 0.1 && times[times.len() - 1] <= seconds, "{times:?}");
}

#[test]
fn units_come_while_the_sound_goes_on() {
    let (_, model, _) = hearer();
    let (samples, _) = speech(60, 2);
    let mut child =
        program().args(["predict", model, "-", "--json"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let (send, lines) = channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || output.lines().for_each(|line| drop(send.send(line.unwrap()))));
    let mut input = child.stdin.take().unwrap();
    let bytes = wav_of_size(&samples, UNKNOWN_SIZE);
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    input.write_all(first).unwrap();
    input.flush().unwrap();
    let unit = json(&lines.recv_timeout(Duration::from_secs(20)).expect("a unit before the sound ends"));
    assert!(number(&unit, "seconds") < 3.0, "{unit}");
    input.write_all(rest).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
    assert!(lines.iter().count() > 20);
}

#[test]
fn recordings_with_their_texts_are_learned_without_being_joined() {
    let room = Room::new();
    let (mut lines, mut answers) = (String::from("path,text\n"), Vec::new());
    for number in 0..40 {
        let (samples, said) = speech(1 + number as usize % 3, number + 10);
        room.write(&format!("{number}.wav"), wav(&samples));
        lines += &format!("{number}.wav,{}\n", said.join(" "));
        answers.push(said.join(" "));
    }
    let manifest = room.write("said.csv", lines);
    let out = room.name("model");
    let settings = ["model.task=generate", "model.output=ctc", "training.epochs=2", "input.unit=characters"];
    done(&training(&manifest, &out, &settings));
    let result = judged(&out, &manifest, &[]);
    assert_eq!(result["examples"], 40);
    assert!(number(&result, "loss").is_finite() && number(&result, "wer").is_finite(), "{result}");
    assert_eq!(done(&["predict", &out, &manifest, "--set", "decoding.beam=4"]).lines().count(), 40);
    // Of a folder there are no texts.
    fs::create_dir_all(room.path("bare")).unwrap();
    let bare = room.write("bare/1.wav", wav(&speech(1, 1).0));
    let never = room.name("never");
    let ended = qkv(&training(&room.name("bare"), &never, &["model.task=generate", "model.output=ctc"]));
    assert_refused(&ended, 1, &[&bare, "text"]);
}

#[test]
fn threads_and_kills_do_not_change_a_bit() {
    let room = Room::new();
    let data = folder(&room, "tones", 5);
    let varied = [
        "training.speed=0.1",
        "training.noise=0.1",
        "training.time_masks=1",
        "training.time_mask_frames=5",
        "training.band_masks=1",
        "training.band_mask_bands=3",
        "training.dropout=0.1",
        "training.checkpoint_every=2",
        "training.average=last",
        "training.epochs=5",
    ];
    for (name, settings) in [("labels", &CLASSIFY[..]), ("units", &HEAR[..])] {
        let settings = [settings, &varied].concat();
        let args = |out: &str, threads: &str| {
            let out = room.name(&format!("{name}-{out}"));
            let mut args: Vec<String> = training(&data, &out, &settings).into_iter().map(String::from).collect();
            let place = args.iter().position(|arg| arg == "--threads").unwrap() + 1;
            args[place] = threads.into();
            args
        };
        assert_same_bits(&room, name, &args);
    }
    let of_threads = |threads: &str| {
        let [labels, units] = ["labels", "units"]
            .map(|name| done(&["predict", &room.name(&format!("{name}-one")), &data, "--threads", threads]));
        (labels, units)
    };
    assert_eq!(of_threads("1"), of_threads("2"));
}

#[test]
fn silence_and_the_shortest_sound_are_sound() {
    let (room, model, _) = classifier();
    let silence = room.write("silence.wav", wav(&vec![0; 4000]));
    let single = room.write("single.wav", wav(&[100]));
    for path in [&silence, &single] {
        let object = json(&done(&["predict", model, path, "--json"]));
        let known =
            object["probabilities"].as_object().unwrap().values().all(|p| p.as_f64().is_some_and(f64::is_finite));
        assert!(known, "{object}");
        let (_, hearer, _) = hearer();
        assert_eq!(done(&["predict", hearer, path]).lines().count(), 1);
        let ended = with_input(&["predict", hearer, "-"], fs::read(path).unwrap());
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    }
    for normalise in ["recording", "corpus", "none"] {
        let data = folder(room, &format!("with-silence-{normalise}"), 5);
        for (name, samples) in [("low_silent_3.wav", vec![0; 4000]), ("mid_short_3.wav", vec![5])] {
            fs::write(Path::new(&data).join(name), wav(&samples)).unwrap();
        }
        let (out, setting) = (room.name(&format!("silent-{normalise}")), format!("input.normalise={normalise}"));
        done(&training(&data, &out, &[&CLASSIFY[..], &[&setting, "training.epochs=1"]].concat()));
        assert!(number(&judged(&out, &data, &["--split", "train"]), "loss").is_finite(), "{normalise}");
    }
}

#[test]
fn damaged_recordings_are_refused_by_name() {
    let (room, model, _) = classifier();
    let (_, hearer, _) = hearer();
    let good = wav(&tone(300.0, 0.3, &mut Draw::new(1)));
    let mut no_rate = good.clone();
    no_rate[24..28].fill(0);
    for (number, (bytes, wanted)) in [
        (good[..1000].to_vec(), "is cut off"),
        (good[..30].to_vec(), "is cut off"),
        (Vec::new(), "is empty"),
        (b"this is a text and no sound, however it may be called\n".repeat(20), "sound"),
        (b"x\n".to_vec(), "sound"),
        (wav(&[]), "no sound"),
        (no_rate, "0 samples a second"),
        (b"\x89PNG\r\n\x1a\n and more".to_vec(), "sound"),
    ]
    .into_iter()
    .enumerate()
    {
        let data = folder(room, &format!("damaged-{number}"), 3);
        let bad = format!("{data}/low_c_2.wav");
        fs::write(&bad, &bytes).unwrap();
        let never = room.name("never");
        assert_refused(&qkv(&training(&data, &never, &CLASSIFY)), 1, &[&bad, wanted]);
        assert!(!Path::new(&never).exists(), "nothing is begun");
        let judged = ["evaluate", model, &data, "--split", "dev"];
        for args in [&judged[..], &["predict", model, &bad], &["predict", hearer, &bad]] {
            assert_refused(&qkv(args), 1, &[&bad, wanted]);
        }
        // What comes from a pipe may end where it will, but not before it begins.
        if number != 0 {
            assert_refused(&with_input(&["predict", hearer, "-"], bytes), 1, &["standard input", wanted]);
        }
    }
}

#[test]
fn what_is_not_there_or_may_not_be_read_is_told_at_once() {
    let (room, model, data) = classifier();
    let never = room.name("never");
    let lines = "path,label\ntones/low_a_0.wav,low\ngone/1.wav,low\ntones/mid_a_0.wav,mid\ngone/2.wav,mid\n";
    let manifest = room.write("gone.csv", lines);
    let wanted = [&manifest, "gone/1.wav (line 3)", "gone/2.wav (line 5)", "are not there"];
    assert_refused(&qkv(&training(&manifest, &never, &["model.task=classify"])), 1, &wanted);
    assert_refused(&qkv(&["predict", model, &manifest]), 1, &wanted);
    assert_refused(&qkv(&["evaluate", model, &manifest]), 1, &wanted);
    assert!(!Path::new(&never).exists(), "nothing is begun");

    let missing = room.name("nowhere");
    assert_refused(&qkv(&training(&missing, &never, &CLASSIFY)), 1, &[&missing, "check the path"]);
    assert_refused(&qkv(&["predict", model, &missing]), 1, &[&missing, "check the path"]);
    let empty = room.name("empty");
    fs::create_dir_all(&empty).unwrap();
    assert_refused(&qkv(&["predict", model, &empty]), 1, &[&empty, "there is no file ending in"]);
    // Names that do not fit, which in training they must.
    let odd = folder(room, "odd", 3);
    fs::write(format!("{odd}/strange.wav"), wav(&[1; 2000])).unwrap();
    let wanted = ["strange.wav", "does not fit {label}_{who}_{index}"];
    assert_refused(&qkv(&training(&odd, &never, &CLASSIFY)), 1, &wanted);
    let unnamed = qkv(&training(data, &never, &["model.task=classify"]));
    assert_refused(&unnamed, 1, &["_a_0.wav", "has no label", "name pattern"]);
    let rule = ["model.task=classify", NAMES, "data.test_files=indes 0-1"];
    assert_refused(&qkv(&training(data, &never, &rule)), 1, &["indes", "did you mean \"index\"?"]);

    let locked = folder(room, "locked", 3);
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&locked).is_err() {
        let ended = qkv(&training(&locked, &never, &CLASSIFY));
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
        assert_refused(&ended, 1, &[&locked, "check that you may read it"]);
    } else {
        println!("skipped: root may read everything");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn what_goes_with_sound_alone_is_refused_elsewhere() {
    let (room, model, data) = classifier();
    let never = room.name("never");
    let text = room.write("text.txt", "x one\ny two\n".repeat(20));
    let train = |data: &str, settings: &[&str]| {
        let mut args = vec!["train", "--train", data, "--out", &never];
        settings.iter().for_each(|setting| args.extend(["--set", setting]));
        qkv(&args)
    };
    for (settings, wanted) in [
        (&["model.task=generate", "model.output=ctc"][..], &["model.output = \"ctc\"", "input.kind = \"audio\""][..]),
        (&["model.task=classify", "data.join=[1,3]"], &["data.join", "input.kind = \"audio\""]),
        (&["model.task=classify", "data.join_seconds=5"], &["data.join", "input.kind = \"audio\""]),
        (&["model.task=classify", "model.output=ctc", "input.kind=audio"], &["model.output = \"ctc\"", "generate"]),
        (&["model.task=generate", "model.output=ctc", "input.kind=image"], &["model.output = \"ctc\"", "audio"]),
        (&["model.task=generate", "input.kind=audio", "data.join=[3,1]"], &["data.join", "[1, 8]"]),
        (&["model.task=generate", "input.kind=audio", "data.join_gap=[0.5,0.1]"], &["data.join_gap"]),
        (&["model.task=classify", "input.kind=audio", "input.rate=10"], &["input.rate", "1000"]),
    ] {
        assert_refused(&train(&text, settings), 2, wanted);
    }
    // And sound, where a text is wanted.
    assert_refused(&train(&text, &["model.task=classify", "input.kind=audio"]), 1, &[&text, ".wav"]);
    assert_refused(&qkv(&["predict", model, &text]), 1, &[&text, ".wav"]);
    assert_refused(&qkv(&["predict", model, data, "--set", "model.layers=2"]), 2, &["[decoding]"]);
    assert!(!Path::new(&never).exists(), "nothing is begun");
}

#[test]
fn a_dry_run_says_what_a_run_would_be() {
    let (room, _, data) = classifier();
    let never = room.name("never");
    for (settings, counted) in [(&CLASSIFY[..], 24), (&HEAR[..], 120)] {
        let args = [&training(data, &never, settings)[..], &["--dry-run", "--json"]].concat();
        let result = json(&done(&args));
        assert_eq!(result["recordings"], counted, "{result}");
        assert!(number(&result, "parameters") > 1000.0);
    }
    assert!(!Path::new(&never).exists());
}

#[test]
fn a_pipe_is_heard_as_a_file_is_whatever_the_model() {
    let room = Room::new();
    let data = folder(&room, "tones", 5);
    let (samples, _) = speech(30, 4);
    let file = room.write("long.wav", wav(&samples));
    for (number, settings) in [
        &["input.normalise=recording"][..],
        &["model.window=none", "model.positions=sinusoidal", "input.normalise=none"],
        &["model.mixer=cnn", "model.positions=none", "input.features=mfcc", "input.stack=2"],
        &["model.mixer=rnn", "model.positions=none", "input.convolutions=0"],
        &["model.positions=relative", "model.layers=2", "input.convolutions=2", "input.frame_ms=32"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = room.name(&format!("model-{number}"));
        let wanted = match settings[0].starts_with("model.mixer") {
            true => HEAR.iter().copied().filter(|key| !key.starts_with("model.window")).collect(),
            false => HEAR.to_vec(),
        };
        done(&training(&data, &out, &[&wanted[..], &["training.epochs=5"], settings].concat()));
        let heard = done(&["predict", &out, &file]);
        let ended = with_input(&["predict", &out, "-"], wav(&samples));
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{settings:?}");
        assert_eq!(ended.stdout, heard, "{settings:?}");
    }
}

#[test]
fn a_text_too_long_for_its_sound_is_told() {
    let room = Room::new();
    let mut lines = String::from("path,text\n");
    for number in 0..12 {
        let (samples, said) = speech(1, number);
        room.write(&format!("{number}.wav"), wav(&samples));
        lines += &format!("{number}.wav,{}\n", if number == 5 { "low mid ".repeat(100) } else { said.join(" ") });
    }
    let (manifest, out) = (room.write("said.csv", lines), room.name("model"));
    let dev = room.write("dev.csv", "path,text\n0.wav,low\n1.wav,mid\n");
    let dev = format!("data.dev={dev}");
    // 200 units cannot stand in half a second of 10 ms each, so nothing can be learned of it.
    let settings = ["model.task=generate", "model.output=ctc", "training.epochs=1", &dev];
    let ended = qkv(&training(&manifest, &out, &settings));
    assert!(told(&ended).iter().any(|line| line.contains(&room.name("5.wav"))), "{ended:?}");
}

#[test]
fn what_cannot_be_of_sound_is_refused_for_what_it_is() {
    let (room, model, data) = classifier();
    let never = room.name("never");
    let units = ["model.task=tag", "input.unit=characters", NAMES];
    assert_refused(&qkv(&training(data, &never, &units)), 2, &["input.unit"]);
    let none = [&HEAR[..], &["data.join_count=0"]].concat();
    assert_refused(&qkv(&training(data, &never, &none)), 2, &["data.join_count"]);
    let ended = qkv(&training("builtin:verse", &never, &["model.task=classify"]));
    assert_refused(&ended, 1, &["builtin:verse"]);
    assert!(!ended.stderr.contains("No such file"), "{ended:?}");
    // The recording is named, not the place of the file in the folder as a line.
    let ended = qkv(&training(data, &never, &["model.task=regress", NAMES]));
    assert_refused(&ended, 1, &["/high_a_0.wav", "finite number"]);
    // Standard input is heard by what writes what it hears; elsewhere it is either answered or refused as what it is.
    let ended = with_input(&["predict", model, "-"], wav(&tone(300.0, 0.3, &mut Draw::new(1))));
    if ended.status != Some(0) {
        assert_refused(&ended, 1, &[]);
        assert!(!ended.stderr.contains("No such file"), "{ended:?}");
    }
}
