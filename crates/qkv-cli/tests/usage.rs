//! Flags, keys and recipes: what they do together, and how wrong ones are answered.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::*;

#[test]
fn several_seeds_give_mean_and_deviation() {
    let room = Room::new();
    let (train, dev) = (room.conllu("train.conllu", 100, 1), room.conllu("dev.conllu", 40, 2));
    let out = room.name("models");
    let args = training(&train, &out, &["--dev", &dev, "--runs", "2", "--seed", "7", "--json"]);
    let result = json(&done(&args));
    let runs = result["runs"].as_array().unwrap();
    let scores: Vec<f64> = runs.iter().map(|run| run["accuracy"].as_f64().unwrap()).collect();
    assert_eq!(scores.len(), 2);
    assert_ne!(scores[0], scores[1]);
    let mean = (scores[0] + scores[1]) / 2.0;
    assert!((result["mean"].as_f64().unwrap() - mean).abs() < 1e-12, "{result}");
    let deviation = (scores[0] - scores[1]).abs() / 2_f64.sqrt();
    assert!((result["deviation"].as_f64().unwrap() - deviation).abs() < 1e-12, "{result}");
    for (name, score) in ["seed-7", "seed-8"].iter().zip(&scores) {
        let model = room.name(&format!("models/{name}"));
        let judged = json(&done(&["evaluate", &model, &dev, "--json"]));
        assert_eq!(judged["accuracy"], *score, "{name}");
    }
    // Again, of the one that is finished and the one that is not.
    fs::remove_dir_all(room.path("models/seed-8")).unwrap();
    let mut again = args.clone();
    again.retain(|arg| *arg != "--json");
    again.push("--resume");
    let text = done(&again);
    assert!(text.contains("seed-7 is finished already") && text.contains("seed-8: dev accuracy"), "{text}");
    let last = format!("2 runs: mean {mean:.4}, standard deviation {deviation:.4}");
    assert_eq!(text.lines().last(), Some(last.as_str()));
    // A folder that holds something else is not that of several runs.
    fs::write(room.path("models/notes.txt"), "mine").unwrap();
    assert_refused(&qkv(&again), 1, &["--runs", "notes.txt", "give another --out"]);
    // One seed alone is the same as among several.
    let alone = room.name("alone");
    done(&training(&train, &alone, &["--dev", &dev, "--seed", "8"]));
    assert!(weights(&alone) == weights(&room.name("models/seed-8")));
}

#[test]
fn a_dry_run_checks_and_predicts_and_writes_nothing() {
    let room = Room::new();
    let train = room.conllu("train.conllu", 100, 1);
    let before = snapshot(room.folder.path());
    let out = room.name("model");
    let mut args = training(&train, &out, &["--dry-run"]);
    let text = done(&args);
    for part in ["recipe and data are in order", "known words  31", "labels       7", "parameters", "time ", "memory "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    args.push("--json");
    let result = json(&done(&args));
    let words: usize = sentences(100, 0, 1).iter().map(Vec::len).sum();
    let tokens = |part: &str| result[part].as_u64().unwrap() as usize;
    assert_eq!(tokens("train_tokens") + tokens("dev_tokens"), words);
    for part in ["words", "labels", "parameters", "seconds"] {
        assert!(result[part].as_f64().unwrap() > 0.0, "{part}: {result}");
    }
    done(&["train", "--train", &train, "--dry-run"]);
    assert!(snapshot(room.folder.path()) == before, "nothing is written");
    done(&training(&train, &out, &[]));
    assert_eq!(json(&done(&["info", &out, "--json"]))["parameters"], result["parameters"], "as predicted");

    let wrong = room.write("wrong.conllu", "1\tonly\tthree\n");
    let ended = qkv(&["train", "--train", &wrong, "--dry-run"]);
    assert_refused(&ended, 1, &[&format!("{wrong}:1:"), "10 tab-separated columns, found 3"]);
}

#[test]
fn what_is_said_later_wins() {
    let room = Room::new();
    let train = room.conllu("train.conllu", 60, 1);
    let recipe =
        "[data]\ntrain = \"nowhere\"\n[model]\nd_model = 8\nheads = 2\nlayers = 1\n[training]\nepochs = 9\nseed = 3\n"
            .to_string();
    let recipe = room.write("recipe.toml", recipe);
    let out = room.name("model");
    done(&[
        "train",
        &recipe,
        "--out",
        &out,
        "--train",
        &train,
        "--epochs",
        "7",
        "--set",
        "training.epochs=2",
        "--seed",
        "4",
    ]);
    let info = json(&done(&["info", &out, "--json"]));
    assert_eq!(info["recipe"]["data"]["train"], train);
    assert_eq!(info["recipe"]["model"]["d_model"], 8);
    assert_eq!(info["recipe"]["training"]["epochs"], 2);
    assert_eq!(info["recipe"]["training"]["seed"], 4);
    assert_eq!(info["metrics"]["epochs"].as_array().unwrap().len(), 2);
}

#[test]
fn a_wrong_setting_is_refused_by_name() {
    let room = Room::new();
    let train = room.conllu("train.conllu", 20, 1);
    let out = room.name("model");
    for (setting, wanted) in [
        ("model.layer=2", &["`layer`", "[model]", "`layers`"][..]),
        ("modle.layers=2", &["[modle]", "[model]"]),
        ("model.epochs=2", &["`epochs`", "[training]"]),
        ("layers=2", &["layers=2", "table.key=value"]),
        ("model.layers", &["model.layers", "table.key=value"]),
        ("model.layers=two", &["model.layers=two", "layers"]),
        ("model.layers=-1", &["model.layers=-1", "layers"]),
        ("model.mixer=attn", &["mixer", "attn", "attention"]),
        ("model.positions=rotari", &["positions", "rotary"]),
        ("model.heads=3", &["model.d_model (16)", "model.heads (3)"]),
        ("model.window=1e3", &["window"]),
        ("training.dropout=1", &["training.dropout"]),
        ("training.learning_rate=0", &["training.learning_rate"]),
        ("training.learning_rate=nan", &["training.learning_rate"]),
        ("training.precision=f16", &["training.precision", "f32"]),
        ("training.seed=18446744073709551615", &["training.seed"]),
        ("data.label=upo", &["data.label", "upo", "did you mean upos?"]),
        ("data.format=conlu", &["data.format", "did you mean conllu?"]),
        ("data.dev_fraction=1.5", &["data.dev_fraction"]),
        ("model.d_model=999999999999", &["model.d_model"]),
    ] {
        assert_refused(&qkv(&training(&train, &out, &["--set", setting])), 2, wanted);
        assert!(!room.path("model").exists(), "{setting}");
    }
    let ended = qkv(&training(&train, &out, &["--set", "data.encoding=latin-7"]));
    assert_refused(&ended, 2, &["data.encoding", "latin-7", "did you mean latin-1?"]);
    assert!(!room.path("model").exists());
}

#[test]
fn a_wrong_flag_is_wrong_usage() {
    let room = Room::new();
    let train = room.conllu("train.conllu", 20, 1);
    let out = room.name("model");
    for (args, wanted) in [
        (&["train", "--train", &train][..], "--out"),
        (&["train", "--trian", &train, "--out", &out], "--train"),
        (&["train", "--train", &train, "--out", &out, "--runs", "0"], "--runs"),
        (&["train", "--train", &train, "--out", &out, "--epochs", "many"], "--epochs"),
        (&["train", "--train", &train, "--out", &out, "--epochs", "0"], "training.epochs"),
        (&["train", "--train", &train, "--out", &out, "--epochs", "18446744073709551615"], "training.epochs"),
        (&["train", "--train", &train, "--out", &out, "--seed", "18446744073709551615"], "training.seed"),
        (&["train", "--train", &train, "--out", &out, "--seed", "9223372036854775807", "--runs", "2"], "--seed"),
        (
            &["train", "--train", &train, "--out", &out, "--task", "taag"],
            "error: `--task \"taag\"`: model.task: unknown variant `taag`, expected one of `tag`",
        ),
        (&["train", "--train", &train, "--out", &out, "--input", "sound"], "text"),
        (&["train", "--train", &train, "--out", &out, "--threads", "0"], "--threads"),
        (&["train", "--out", &out], "--train"),
        (&["evaluate", &out], "<DATA>"),
        (&["evaluate", &out, &train, "--split", "tset"], "test"),
        (&["predict"], "<MODEL>"),
        (&["preditc", &out], "predict"),
    ] {
        let ended = qkv(args);
        assert_eq!(ended.status, Some(2), "{args:?}: {ended:?}");
        assert_eq!(ended.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{args:?}: {ended:?}");
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(wanted), "{args:?}: {ended:?}");
        assert!(ended.stdout.is_empty() && !ended.stderr.contains("panicked"), "{args:?}: {ended:?}");
    }
    assert!(!room.path("model").exists());
    assert!(done(&["--help"]).contains("evaluate"));
    assert!(done(&["--version"]).starts_with("qkv "));
    assert_eq!(qkv::<&str>(&[]).status, Some(2));
}

#[test]
fn a_wrong_recipe_is_refused_by_file_and_key() {
    let room = Room::new();
    let out = room.name("model");
    for (text, wanted) in [
        ("[training]\nlearning_rat = 1\n", &["`learning_rat`", "[training]", "`learning_rate`"][..]),
        ("[modell]\nlayers = 1\n", &["[modell]", "[model]"]),
        ("[model]\nd_model = 16\nbatch_tokens = 3\n", &["`batch_tokens`", "[model]", "[training]"]),
        ("layers = 1\n", &["layers"]),
        ("model = 1\n", &["`model` must be a table, written [model]"]),
        ("[model]\nlayers = 1\n[model\n", &["line 3:"]),
        ("[model]\nlayers = 1\nlayers = 2\n", &["line 3:", "duplicate"]),
        ("[model]\nlayers = \"two\"\n", &["model.layers", "two"]),
        ("[model]\nmixer = \"lstm\"\n", &["model.mixer", "lstm", "rnn"]),
    ] {
        let recipe = room.write("recipe.toml", text);
        let wanted = [&[recipe.as_str()], wanted].concat();
        assert_refused(&qkv(&["train", &recipe, "--out", &out]), 2, &wanted);
    }
    let missing = room.name("none.toml");
    assert_refused(&qkv(&["train", &missing, "--out", &out]), 1, &[&missing, "check the path"]);
    let folder = room.folder.path().to_str().unwrap();
    assert_refused(&qkv(&["train", folder, "--out", &out]), 1, &[folder, "name a file in it"]);
    let binary = room.write("binary.toml", [0x80, 0xff, b'\n']);
    assert_refused(&qkv(&["train", &binary, "--out", &out]), 1, &[&binary, "UTF-8"]);
    assert!(!room.path("model").exists());
}

#[test]
fn an_instruction_set_that_cannot_be_is_refused() {
    let room = Room::new();
    let train = room.conllu("train.conllu", 20, 1);
    let out = room.name("model");
    let mut command = program();
    command.args(training(&train, &out, &[])).env("QKV_ISA", "nonsense");
    assert_refused(&finish(command), 2, &["QKV_ISA=nonsense", "scalar, avx2, avx512 or neon"]);
    assert!(!room.path("model").exists());
    let mut command = program();
    command.args(training(&train, &out, &[])).env("QKV_ISA", "scalar");
    assert_eq!(finish(command).status, Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn odd_paths_are_taken_as_they_are() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let room = Room::new();
    let train = room.write("with \"quotes\" = and\nlines.conllu", conllu(&sentences(40, 0, 1)));
    let out = room.folder.path().join(OsStr::from_bytes(b"m\xff\n"));
    let mut command = program();
    command.args(["train", "--train", &train, "--epochs", "1", "--json", "--out"]).arg(&out);
    let ended = finish(command);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(json(&ended.stdout)["metric"], "accuracy");
    let mut command = program();
    command.arg("info").arg(room.folder.path().join(OsStr::from_bytes(b"n\xff\no")));
    assert_refused(&finish(command), 1, &["no such folder", "qkv train"]);
}
