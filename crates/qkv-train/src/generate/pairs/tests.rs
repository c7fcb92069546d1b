//! Pictures and what is written of them: from files to a finished model and its captions.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use qkv_data::builtin::{Part, SceneOptions, write_scenes};
use serde_json::Value;

use super::PairTask;
use crate::model::{FileKind, Model, Overrides, Style};
use crate::recipe::Recipe;
use crate::run::{Prepared, Report, estimate, run};
use crate::trainer::{Criterion, Task};

/// A folder with so many scenes to learn from, four for dev and five to be judged by.
fn scenes(train: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SceneOptions { size: 24, train, dev: 4, test: 5, seed: 1 };
    write_scenes(folder.path().join("scenes"), &options).expect("scenes");
    folder
}

fn manifest(folder: &Path) -> String {
    folder.join("scenes").join("manifest.csv").display().to_string()
}

fn recipe(folder: &Path, assignments: &[&str]) -> Recipe {
    let mut recipe = Recipe::default();
    let common = [
        "model.task=generate",
        "input.kind=image",
        "input.patch=6",
        "model.d_model=32",
        "model.layers=1",
        "training.dropout=0.0",
        "training.learning_rate=3e-3",
        "decoding.max_length=30",
    ];
    for assignment in common.iter().chain(assignments) {
        recipe.set(assignment).expect(assignment);
    }
    recipe.set(&format!("data.train={:?}", manifest(folder))).expect("a path");
    recipe
}

fn train(recipe: &Recipe, out: &Path) -> Model {
    let report = run(recipe, out, false, &AtomicBool::new(false), &mut (), &mut |_| {}).expect("a run");
    assert!(matches!(report, Report::Trained { interrupted: false, .. }));
    Model::load(out, &Overrides::default()).expect("the model")
}

fn predicted(model: &Model, source: &str, style: Style) -> Vec<String> {
    let mut out = Vec::new();
    let done = model
        .predict_stream(source, FileKind::default(), style, &mut out, &AtomicBool::new(false), &mut |_, _| {})
        .expect("captions");
    let lines: Vec<String> = String::from_utf8(out).expect("text").lines().map(str::to_string).collect();
    assert_eq!(done.examples, lines.len());
    lines
}

/// The texts of one part, in the manifest's order.
fn wanted(folder: &Path, part: &str) -> Vec<String> {
    let manifest = fs::read_to_string(manifest(folder)).expect("the manifest");
    let of_part = manifest.lines().filter(|line| line.ends_with(part));
    of_part.map(|line| line.split('"').nth(1).expect("a text in quotes").to_string()).collect()
}

#[test]
fn a_few_scenes_are_learned_by_heart_with_attention_and_with_one_vector() {
    let folder = scenes(8);
    for cross in ["model.cross=attention", "model.cross=none"] {
        let epochs = ["training.epochs=60", "training.batch_tokens=400", "training.metric=exact-match", cross];
        let recipe = recipe(folder.path(), &epochs);
        let out = folder.path().join(cross);
        let model = train(&recipe, &out);
        let metrics: Value =
            serde_json::from_slice(&fs::read(out.join("metrics.json")).expect("metrics")).expect("JSON");
        let epochs = metrics["epochs"].as_array().expect("epochs");
        let loss = |epoch: &Value| epoch["train_loss"].as_f64().expect("a loss");
        let (first, last) = (loss(&epochs[0]), loss(&epochs[epochs.len() - 1]));
        assert!(last < 0.3 * first, "{cross}: the loss went from {first} to {last}");
        assert_eq!(metrics["metric"], "exact_match");

        // Written from the folder and judged on the part are the same texts, in every loading.
        let judged = model.evaluate(&[manifest(folder.path())], Part::Test, FileKind::default()).expect("judged");
        let names: Vec<&str> = judged.metrics.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["bleu", "bleu_lowercase", "chrf", "exact_match", "wer", "loss", "perplexity", "accuracy"]);
        assert_eq!(judged.examples, 5);
        let images = folder.path().join("scenes").join("images").join("test").display().to_string();
        let written = predicted(&model, &images, Style::Same);
        let again = Model::load(&out, &Overrides::default()).expect("the model");
        assert_eq!((written.len(), &written), (5, &predicted(&again, &images, Style::Same)), "{cross}");
        let exact = written.iter().zip(wanted(folder.path(), "test")).filter(|(a, b)| *a == b).count();
        let told = judged.metrics.iter().find(|(name, _)| *name == "exact_match").map(|(_, share)| *share);
        assert_eq!(told, Some(exact as f64 / 5.0), "{cross}");
    }
}

#[test]
fn a_caption_is_one_line_and_json_names_its_file() {
    let folder = scenes(6);
    let recipe = recipe(folder.path(), &["training.epochs=2", "decoding.beam=3", "decoding.batch_tokens=40"]);
    let model = train(&recipe, &folder.path().join("model"));
    assert_eq!(model.nouns(), ("pictures", "units"));
    // A manifest, all parts of it, in its order, chunk by chunk; and one file alone.
    let all = predicted(&model, &manifest(folder.path()), Style::Json);
    assert_eq!(all.len(), 6 + 4 + 5);
    let file = folder.path().join("scenes/images/test/00003.png").display().to_string();
    let alone: Value = serde_json::from_str(&predicted(&model, &file, Style::Json)[0]).expect("JSON");
    let among: Value = serde_json::from_str(&all[6 + 4 + 3]).expect("JSON");
    assert!(among["file"].as_str().is_some_and(|name| name.ends_with("00003.png")), "{among}");
    assert_eq!((&alone["text"], &alone["complete"]), (&among["text"], &among["complete"]));
    let log_probability = |line: &Value| line["log_probability"].as_f64().expect("a number");
    assert!((log_probability(&alone) - log_probability(&among)).abs() < 1e-4, "{alone} {among}");
    assert!(log_probability(&alone) < 0.0 && alone["alternatives"].as_array().is_some_and(|others| others.len() == 2));
    let error = model.evaluate(&[file.clone(), file], Part::Test, FileKind::default()).expect_err("two files");
    assert!(error.to_string().contains("judged on one file or folder of pictures"), "{error}");
    let texts = model.embedder().err().expect("no texts").to_string();
    assert!(texts.contains("of texts alone"), "{texts}");
}

#[test]
fn what_is_drawn_for_a_picture_does_not_depend_on_its_chunk() {
    let folder = scenes(6);
    let recipe = recipe(folder.path(), &["training.epochs=1"]);
    let out = folder.path().join("model");
    train(&recipe, &out);
    let drawn = |batch_tokens: &str| {
        let set = ["decoding.strategy=sample".to_string(), batch_tokens.to_string()];
        let model = Model::load(&out, &Overrides { set: &set, seed: Some(7) }).expect("the model");
        predicted(&model, &manifest(folder.path()), Style::Same)
    };
    let (one, many) = (drawn("decoding.batch_tokens=1"), drawn("decoding.batch_tokens=10000"));
    assert_eq!(one, many);
    assert!(one.iter().any(|text| *text != one[0]), "texts are drawn");
}

#[test]
fn pictures_change_in_training_batches_alone() {
    let folder = scenes(6);
    let assignments = ["training.shift=4", "training.brightness=0.5"];
    let plain = PairTask::prepare(&recipe(folder.path(), &[])).expect("a task");
    let varied = PairTask::prepare(&recipe(folder.path(), &assignments)).expect("a task");
    let init = qkv_nn::layers::Init::new(1, &burn::tensor::Device::flex().autodiff());
    let model = plain.new_model(&init);
    let loss = |task: &PairTask, step: u64| {
        let loss = task.loss(&model, &[0, 1, 2], qkv::random::Key::new(step));
        crate::numbers::floats(loss.into_data())[0]
    };
    assert_eq!(loss(&plain, 1), loss(&plain, 2));
    assert_ne!(loss(&varied, 1), loss(&varied, 2));
    assert_eq!(plain.evaluate(&model).loss, varied.evaluate(&model).loss);
}

#[test]
fn a_task_of_pictures_tells_what_it_has() {
    let folder = scenes(6);
    let plain = recipe(folder.path(), &["training.metric=exact-match"]);
    let task = PairTask::prepare(&plain).expect("a task");
    assert_eq!(task.criterion(), Criterion::Highest("exact_match"));
    let estimate = estimate(&plain).expect("an estimate");
    assert_eq!(estimate.counts[0].number, 6);
    assert_eq!((estimate.counts[0].name, estimate.counts[1].name), ("pictures", "target_units"));
    // 16 patches a picture, and the texts.
    let units: usize = wanted(folder.path(), "train").iter().map(|text| text.split(' ').count() + 1).sum();
    assert_eq!(estimate.tokens[0], 6 * 16 + units);
    let other = PairTask::prepare(&recipe(folder.path(), &["data.train_share=0.5"])).expect("a task");
    assert_eq!(other.counts()[0].number, 3);
    assert_ne!(task.fingerprint(), other.fingerprint());
    let characters = PairTask::prepare(&recipe(folder.path(), &["input.unit=characters"])).expect("a task");
    assert!((0..6).all(|i| characters.length(&i) > task.length(&i)), "the texts are of characters");
}

#[test]
fn what_cannot_be_learned_from_is_named() {
    let folder = scenes(3);
    let refusal = |assignments: &[&str]| match PairTask::prepare(&recipe(folder.path(), assignments)) {
        Ok(_) => panic!("{assignments:?} was taken"),
        Err(e) => e.to_string(),
    };
    let long = refusal(&["data.max_tokens=15"]);
    assert!(long.contains("00000.png: it has 16 patches, more than data.max_tokens = 15"), "{long}");
    let long = refusal(&["data.max_tokens=16", "input.unit=characters"]);
    assert!(long.contains(".png: it has ") && long.contains("units of text, more than data.max_tokens = 16"), "{long}");
    assert!(refusal(&["input.shared=true"]).starts_with("input.shared is of texts on both sides"));
    assert!(refusal(&["model.cross=none", "model.pooling=class"]).contains("model.pooling"));

    let path = manifest(folder.path());
    let content = fs::read_to_string(&path).expect("the manifest");
    let text = wanted(folder.path(), "train")[1].clone();
    fs::write(&path, content.replacen(&format!("\"{text}\""), "", 1)).expect("written");
    let missing = refusal(&[]);
    assert!(missing.contains("00001.png has no text: give a manifest with a column `text`"), "{missing}");
}
