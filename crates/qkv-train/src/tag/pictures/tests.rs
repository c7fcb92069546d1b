use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::Device;
use qkv::gather::NONE;
use qkv::random::Key;
use qkv_data::builtin::{Part, SceneOptions, write_scenes};
use qkv_data::image::{Colour, Picture, decode_mask, encode_png};
use qkv_nn::layers::Init;
use serde_json::Value;
use tempfile::TempDir;

use super::judge::judge;
use super::model::{SegmentSizes, new_model, parameter_count};
use super::*;
use crate::input::InputSizes;
use crate::model::{FileKind, Model, Overrides, Style};
use crate::numbers::floats;
use crate::recipe::Recipe;
use crate::run::{Report, run};
use crate::trainer::{Criterion, Task, train};

const SIDE: usize = 24;

/// Few and small scenes as files, `images`, `masks` and `classes.txt`, in parts.
fn scenes() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SceneOptions { size: SIDE, train: 16, dev: 5, test: 6, seed: 3 };
    write_scenes(folder.path(), &options).expect("scenes");
    fs::remove_file(folder.path().join("manifest.csv")).expect("the list is not needed");
    folder
}

fn recipe(train: &Path, assignments: &[&str]) -> Recipe {
    let mut recipe = Recipe::default();
    recipe.set(&format!("data.train={:?}", train.display().to_string())).expect("a path");
    let common = [
        "model.task=tag",
        "input.kind=image",
        "model.d_model=16",
        "model.heads=2",
        "model.layers=1",
        "training.batch_tokens=150",
        "training.learning_rate=5e-3",
        "training.epochs=6",
    ];
    common.iter().chain(assignments).for_each(|assignment| recipe.set(assignment).expect(assignment));
    recipe
}

/// Every mixer that they are compared with.
const MIXERS: [&[&str]; 4] = [
    &["model.mixer=none", "model.positions=learned"],
    &["model.mixer=window", "model.positions=none", "model.window=1"],
    &["model.mixer=cnn", "model.positions=sinusoidal", "model.layers=2"],
    &["model.mixer=attention", "model.positions=relative", "model.relative_range=3"],
];

#[test]
fn every_mixer_learns() {
    let data = scenes();
    for mixer in MIXERS {
        let recipe = recipe(data.path(), mixer);
        let task = SegmentTask::prepare(&recipe).expect("data");
        let outcome = train(&task, &recipe, None, &AtomicBool::new(false), &mut ()).expect("a run");
        let (first, last) = (&outcome.history[0], &outcome.history[outcome.history.len() - 1]);
        assert!(last.train_loss < 0.8 * first.train_loss, "{mixer:?}: {} to {}", first.train_loss, last.train_loss);
        assert!(last.loss.is_finite() && outcome.best.is_some(), "{mixer:?}");
    }
}

#[test]
fn parameters_are_counted_without_making_them() {
    for mixer in MIXERS {
        for patch in ["input.patch=1", "input.patch=3"] {
            let recipe = recipe(Path::new("x"), &[mixer, &[patch]].concat());
            let dim = 3 * recipe.input.patch * recipe.input.patch;
            let sizes = SegmentSizes { input: InputSizes { dim, ..InputSizes::default() }, classes: 5 };
            let model = new_model(&recipe, &sizes, &Init::new(1, &Device::flex()));
            assert_eq!(parameter_count(&recipe, &sizes), model.num_params() as u128, "{mixer:?} {patch}");
        }
    }
}

#[test]
fn each_pixel_counts_once_whatever_the_patch() {
    let data = scenes();
    for patch in ["input.patch=1", "input.patch=4", "input.patch=5", "input.patch=40"] {
        let task = SegmentTask::prepare(&recipe(data.path(), &["model.mixer=none", patch])).expect(patch);
        let model = task.new_model(&Init::new(1, &Device::flex()));
        let reached = judge(&model, task.dev(), 5, 100);
        assert_eq!(reached.confusion.examples(), 5 * SIDE * SIDE, "{patch}");
        assert!(reached.loss > 0.0 && reached.loss.is_finite(), "{patch}");
        // In batches of another size: sums of other parts.
        let scores = task.evaluate(&model);
        assert_eq!(scores.metrics, reached.metrics());
        assert!((scores.loss - reached.loss).abs() < 1e-5, "{patch}: {} {}", scores.loss, reached.loss);
    }
}

#[test]
fn the_order_of_a_batch_changes_nothing() {
    let data = scenes();
    let vary = ["training.shift=2", "training.flip=true", "training.rotate=20", "input.patch=5"];
    let recipe = recipe(data.path(), &[&vary[..], &["model.mixer=attention", "training.dropout=0"]].concat());
    let task = SegmentTask::prepare(&recipe).expect("data");
    let model = task.new_model(&Init::new(1, &Device::flex()));
    let (here, there) = ([0, 3, 7, 2], [7, 2, 0, 3]);
    let key = Key::new(4);
    let [one, other] = [here, there].map(|order| floats(task.loss(&model, &order, key).into_data())[0]);
    assert!((one - other).abs() < 1e-5, "{one} {other}");
    let another = floats(task.loss(&model, &here, Key::new(5)).into_data())[0];
    assert_ne!(one, another, "pictures are varied by the key");
    // And the classes go the same ways as the pixels.
    let classes = |order: &[usize]| task.train().pixel_classes(order, Some(key));
    let size = classes(&[0]).len();
    for (order, place) in [(here, 0), (there, 2)] {
        assert_eq!(classes(&order)[place * size..][..size], classes(&[0]), "{order:?}");
    }
    assert_eq!(classes(&here).iter().filter(|&&class| class == NONE).count(), 4 * (25 * 25 - SIDE * SIDE));
}

/// What `model` writes of `source`, with its masks.
fn predicted(model: &Model, source: &Path, masks: Option<&Path>, style: Style) -> String {
    let (source, mut out, stop) = (source.display().to_string(), Vec::new(), AtomicBool::new(false));
    let watch = &mut |_: usize, _: usize| {};
    match masks {
        Some(folder) => model.predict_masks(&source, folder, style, &mut out, &stop, watch),
        None => model.predict_stream(&source, FileKind::default(), style, &mut out, &stop, watch),
    }
    .expect("a prediction");
    String::from_utf8(out).expect("UTF-8")
}

fn trained(data: &Path, out: &Path, assignments: &[&str]) -> (Model, f64) {
    let recipe = recipe(data, assignments);
    let report = run(&recipe, out, false, &AtomicBool::new(false), &mut (), &mut |_| {}).expect("a run");
    let Report::Trained { best: Some(best), metric, .. } = report else { panic!("{report:?}") };
    assert_eq!(metric, "mean_iou");
    (Model::load(out, &Overrides::default()).expect("a model"), best.score)
}

#[test]
fn a_model_that_was_read_says_what_it_said() {
    let (data, out, masks) = (scenes(), tempfile::tempdir().expect("out"), tempfile::tempdir().expect("masks"));
    let (model, score) = trained(data.path(), out.path(), &["model.mixer=attention", "input.patch=5"]);
    let evaluate = || model.evaluate(&[data.path().display().to_string()], Part::Dev, FileKind::default());
    let judgement = evaluate().expect("dev");
    assert_eq!((judgement.metrics[0], judgement.tokens), (("mean_iou", score), 5 * SIDE * SIDE));
    assert!(judgement.warnings.is_empty() && judgement.details[0].json[0]["name"] == "background");
    let names = "background\ncircle\nsquare\ntriangle\ncross\n";

    // Lines, one for each picture, in the order of the files; the same however they are batched.
    let test = data.path().join("images/test");
    let lines = predicted(&model, &test, Some(masks.path()), Style::Json);
    let small = Overrides { set: &["decoding.batch_tokens=1".to_string()], seed: None };
    let again = Model::load(out.path(), &small).expect("a model");
    assert_eq!(lines, predicted(&again, &test, None, Style::Json));
    let shares = predicted(&model, &test, None, Style::Same);
    assert_eq!((lines.lines().count(), shares.lines().count()), (6, 6));

    // Files: the value of each pixel is its class in the lines.
    assert_eq!(fs::read_to_string(masks.path().join("classes.txt")).expect("names"), names);
    let mut found = Vec::new();
    for (place, line) in lines.lines().enumerate() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["file"], test.join(format!("{place:05}.png")).display().to_string());
        let bytes = fs::read(masks.path().join(format!("{place:05}.png"))).expect("a mask");
        let mask = decode_mask(&bytes, "mask").expect("a mask");
        let rows: Vec<Vec<u8>> = serde_json::from_value(line["mask"].clone()).expect("rows");
        assert_eq!((mask.height, mask.width, &mask.values), (SIDE, SIDE, &rows.concat()));
        found.push(mask);
    }

    // What was written judges itself: every pixel is right.
    for kind in ["images", "masks"] {
        fs::create_dir_all(out.path().join("own").join(kind)).expect("a folder");
    }
    for place in 0..6 {
        let file = format!("{place:05}.png");
        fs::copy(test.join(&file), out.path().join("own/images").join(&file)).expect("a copy");
        fs::copy(masks.path().join(&file), out.path().join("own/masks").join(&file)).expect("a copy");
    }
    let own = model.evaluate(&[out.path().join("own").display().to_string()], Part::Test, FileKind::default());
    assert_eq!(own.expect("its own masks").metrics[..2], [("mean_iou", 1.0), ("accuracy", 1.0)]);

    // Without the list of names, values are the model's classes.
    fs::remove_file(data.path().join("classes.txt")).expect("gone");
    assert_eq!(evaluate().expect("dev").metrics, judgement.metrics);
    // Classes that the model does not know count as wrong, and a file of nothing else is refused.
    fs::write(data.path().join("classes.txt"), names.replace("cross", "star")).expect("names");
    let other = evaluate().expect("most are known");
    assert!(other.warnings[0].contains("class `star`"), "{:?}", other.warnings);
    assert!(other.metrics[1].1 <= judgement.metrics[1].1);
    fs::write(data.path().join("classes.txt"), "a\nb\nc\nd\ne\n").expect("names");
    let error = evaluate().expect_err("other classes").to_string();
    assert!(error.contains("of a class that this model gives"), "{error}");
}

#[test]
fn classes_without_names_are_written_as_the_values_that_they_were() {
    let (data, out, masks) = (scenes(), tempfile::tempdir().expect("out"), tempfile::tempdir().expect("masks"));
    fs::remove_file(data.path().join("classes.txt")).expect("gone");
    for entry in fs::read_dir(data.path().join("masks/train"))
        .expect("masks")
        .chain(fs::read_dir(data.path().join("masks/dev")).expect("masks"))
    {
        let path = entry.expect("a mask").path();
        let mask = decode_mask(&fs::read(&path).expect("bytes"), "mask").expect("a mask");
        let values = mask.values.iter().map(|&value| if value == 0 { 40 } else { 200 }).collect();
        fs::write(&path, encode_png(&Picture::new(SIDE, SIDE, Colour::Grey, values).expect("a picture")))
            .expect("written");
    }
    fs::remove_dir_all(data.path().join("masks/test")).expect("gone");
    fs::remove_dir_all(data.path().join("images/test")).expect("gone");
    let (model, _) = trained(data.path(), out.path(), &["model.mixer=none", "training.epochs=2"]);
    let source = data.path().join("images/dev");
    let shares = predicted(&model, &source, Some(masks.path()), Style::Same);
    assert!(shares.lines().all(|line| line.contains("\t40 ")), "{shares}");
    let mask = decode_mask(&fs::read(masks.path().join("00000.png")).expect("bytes"), "mask").expect("a mask");
    assert!(mask.values.contains(&40) && mask.values.iter().all(|value| [40, 200].contains(value)));
    assert!(!masks.path().join("classes.txt").exists());
    let (source, stop) = (source.display().to_string(), AtomicBool::new(false));
    let onto = model.predict_masks(&source, Path::new(&source), Style::Same, &mut Vec::new(), &stop, &mut |_, _| {});
    assert!(onto.expect_err("pictures would be lost").to_string().contains("its mask would take its place"));
}

#[test]
fn what_is_wrong_with_masks_is_told() {
    let data = scenes();
    let told = || {
        let out = tempfile::tempdir().expect("out");
        let recipe = recipe(data.path(), &["model.mixer=none", "training.epochs=1"]);
        run(&recipe, out.path(), false, &AtomicBool::new(false), &mut (), &mut |_| {}).expect_err("told").to_string()
    };
    let mask = data.path().join("masks/train/00003.png");
    let whole = fs::read(&mask).expect("a mask");
    let png = |height, width, value| {
        encode_png(&Picture::new(height, width, Colour::Grey, vec![value; height * width]).expect("a picture"))
    };
    fs::write(&mask, png(5, 7, 0)).expect("written");
    let error = told();
    assert!(error.contains("00003.png: is 7 x 5, and its picture 24 x 24") && !error.contains('\n'), "{error}");
    fs::write(&mask, png(SIDE, SIDE, 9)).expect("written");
    assert!(told().contains("has pixels of value 9"), "{}", told());
    fs::remove_file(&mask).expect("gone");
    assert!(told().contains("00003.png: has no mask"), "{}", told());
    fs::write(&mask, whole).expect("back");
    for entry in fs::read_dir(data.path().join("masks/train")).expect("masks") {
        fs::write(entry.expect("a mask").path(), png(SIDE, SIDE, 0)).expect("written");
    }
    assert!(told().contains("no pixel of another class than `background`"), "{}", told());
    fs::remove_dir_all(data.path().join("masks")).expect("gone");
    assert!(told().contains("neither masks nor labels"), "{}", told());
}

#[test]
fn a_class_that_is_missing_in_training_is_told_and_a_change_of_masks_changes_the_fingerprint() {
    let data = scenes();
    let prepare = || SegmentTask::prepare(&recipe(data.path(), &["model.mixer=none"])).expect("data");
    let before = prepare();
    assert!(crate::run::Prepared::warnings(&before).is_empty());
    assert_eq!(before.fingerprint(), prepare().fingerprint());
    let classes = data.path().join("classes.txt");
    let more = fs::read_to_string(&classes).expect("names") + "moon\n";
    fs::write(&classes, more).expect("written");
    let warnings = crate::run::Prepared::warnings(&prepare()).to_vec();
    assert!(warnings.len() == 1 && warnings[0].contains("class `moon` never occurs"), "{warnings:?}");
    let renamed = prepare().fingerprint();
    let [one, other] = ["00000.png", "00001.png"].map(|name| data.path().join("masks/dev").join(name));
    fs::copy(one, other).expect("a copy");
    assert_ne!(renamed, prepare().fingerprint());
}

#[test]
fn what_decides_is_what_was_asked_for() {
    let data = scenes();
    for (assignments, wanted) in [
        (&["model.mixer=none"][..], Criterion::Highest("mean_iou")),
        (&["model.mixer=none", "training.metric=mean_iou"], Criterion::Highest("mean_iou")),
        (&["model.mixer=none", "training.metric=accuracy"], Criterion::Highest("accuracy")),
        (&["model.mixer=none", "training.metric=loss"], Criterion::Lowest("loss")),
    ] {
        assert_eq!(SegmentTask::prepare(&recipe(data.path(), assignments)).expect("task").criterion(), wanted);
    }
}

#[test]
fn a_recipe_of_pixels_refuses_what_is_of_words() {
    for (assignments, word) in [
        (&["training.metric=f1"][..], "training.metric"),
        (&["input.unit=characters"], "input.unit"),
        (&["model.pooling=mean"], "model.pooling"),
        (&["training.class_weights=balanced"], "class_weights"),
        (&["input.characters=affixes"], "input.characters"),
        (&["model.window=2"], "model.window"),
        (&["input.kind=text", "training.metric=mean_iou"], "input.kind"),
        (&["model.task=classify", "training.metric=mean_iou"], "training.metric"),
    ] {
        let error = recipe(Path::new("x"), assignments).check().expect_err("cannot be").to_string();
        assert!(error.contains(word) && !error.contains('\n'), "{assignments:?}: {error}");
    }
    recipe(Path::new("x"), &["training.label_smoothing=0.1"]).check().expect("can be");
}
