//! From files of sound to what is heard when, in a whole and in a stream.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::Device;
use qkv_data::audio::SoundStream;
use qkv_nn::layers::Init;

use super::*;
use crate::each::EachModel;
use crate::input::testing::{recordings, tone, wav};
use crate::listen::reach;
use crate::model::{FileKind, Style};
use crate::recipe::Recipe;
use crate::run::Prepared as _;
use crate::trainer::{Scores, Task as _, train};

fn recipe(train: &Path, more: &[&str]) -> Recipe {
    let mut recipe = Recipe::default();
    let train = format!("data.train={}", train.display());
    for assignment in [
        train.as_str(),
        "data.names={label}_{index}",
        "data.test_files=index 0-1",
        "data.dev_files=index 2-3",
        "input.kind=audio",
        "input.rate=8000",
        "input.bands=20",
        "input.convolutions=1",
        "model.task=tag",
        "model.layers=2",
        "model.d_model=24",
        "model.heads=2",
        "model.window=5",
        "model.positions=rotary",
        "training.batch_tokens=300",
        "training.learning_rate=5e-3",
        "training.dropout=0",
        "training.epochs=12",
    ]
    .iter()
    .chain(more)
    {
        recipe.set(assignment).expect(assignment);
    }
    recipe
}

const STRINGS: [&str; 4] = ["data.join=[1, 4]", "data.join_count=60", "data.background=quiet", "training.speed=0.1"];

fn trained(recipe: &Recipe) -> (Scores, crate::trainer::EpochRecord) {
    let task = EachTask::prepare(recipe).expect("a task");
    let before = task.evaluate(&task.new_model(&Init::new(1, &Device::flex())));
    let outcome = train(&task, recipe, None, &AtomicBool::new(false), &mut ()).expect("trained");
    (before, outcome.best.expect("an epoch"))
}

#[test]
fn each_frame_of_a_string_is_told_from_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    recordings(folder.path());
    let recipe = recipe(folder.path(), &STRINGS);
    let task = EachTask::prepare(&recipe).expect("a task");
    assert_eq!(task.parts().1, ["high", "low", "middle", "quiet"]);
    let (before, best) = trained(&recipe);
    assert!(best.loss < 0.3 * before.loss, "{} after {}", best.loss, before.loss);
    let accuracy = best.metrics["accuracy"].as_f64().expect("a number");
    assert!(accuracy > 0.93, "{accuracy}");
}

/// Songs of low and high tones with pauses, and a track beside each but the last.
fn songs(folder: &Path) {
    for song in 0..8 {
        let (mut samples, mut track) = (Vec::new(), String::new());
        for note in 0..6 {
            let (label, hertz) = [("low", 300.0), ("high", 1500.0)][(song + note * note) % 2];
            let start = samples.len() as f64 / 8000.0;
            samples.extend(tone(hertz, 150 + 20 * note));
            track += &format!("{start}\t{}\t{label} tone\n", samples.len() as f64 / 8000.0);
            samples.extend(vec![0.0; 400]);
        }
        fs::write(folder.join(format!("song{song}.wav")), wav(&samples)).expect("written");
        fs::write(folder.join(format!("song{song}.txt")), track).expect("written");
    }
}

#[test]
fn tracks_beside_recordings_are_learned() {
    let folder = tempfile::tempdir().expect("a folder");
    songs(folder.path());
    let parts = ["data.names={song}", "data.test_files=song song0", "data.dev_files=song song1,song2"];
    let (before, best) = trained(&recipe(folder.path(), &[&parts[..], &["training.epochs=40"]].concat()));
    assert!(best.loss < 0.3 * before.loss, "{} after {}", best.loss, before.loss);
    assert!(best.metrics["f1"].as_f64().is_some_and(|f1| f1 > 0.9), "{:?}", best.metrics);
}

#[test]
fn what_cannot_be_learned_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    songs(folder.path());
    let whole = ["data.names={song}", "data.test_files=song song0", "data.dev_files=song song1"];
    let refused = || EachTask::prepare(&recipe(folder.path(), &whole)).expect_err("refused").to_string();
    let track = |content: &str| fs::write(folder.path().join("song5.txt"), content).expect("written");
    track("0 1 low tone\n99 100 high tone\n");
    assert!(
        refused().contains("song5.txt: a stretch of `high tone` begins at 99 s, and the recording has"),
        "{}",
        refused()
    );
    track("0 1 low tone\n1 x high tone\n");
    assert!(refused().contains("song5.txt:2: "), "{}", refused());
    fs::remove_file(folder.path().join("song5.txt")).expect("removed");
    assert!(refused().contains("song5.wav: has no labels: put a track beside it"), "{}", refused());
    for song in 0..8 {
        fs::write(folder.path().join(format!("song{song}.txt")), "0 1 tone\n").expect("written");
    }
    assert!(refused().contains("no label but `tone`"), "{}", refused());
    for song in [3, 4, 5, 6, 7] {
        fs::write(folder.path().join(format!("song{song}.txt")), "0 0.3 low\n0.3 0.6 high").expect("written");
    }
    // (songs 1 and 2 are not both of the dev part)
    fs::write(folder.path().join("song2.txt"), "0 1 low").expect("written");
    assert!(refused().contains("none of its labels was seen in training"), "{}", refused());
    fs::write(folder.path().join("song1.txt"), "0 0.5 low\n0.5 0.6 noise").expect("written");
    let task = EachTask::prepare(&recipe(folder.path(), &whole)).expect("a task");
    assert_eq!(task.warnings().len(), 1);
    assert!(task.warnings()[0].contains("label `noise` was never seen in training"), "{:?}", task.warnings());
}

/// A model that nobody trained: what it hears is anything, and changes from vector to vector.
fn untrained(folder: &Path, more: &[&str]) -> Labeller {
    let recipe = recipe(folder, more);
    let (reader, labels) = EachTask::prepare(&recipe).expect("a task").parts();
    let model = EachModel::new(&recipe, &reader.sizes(), labels.len(), &Init::new(3, &Device::flex()));
    Labeller { recipe, reader, parting: None, labels, model: model.valid() }
}

#[test]
fn a_stream_is_labelled_as_its_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    recordings(folder.path());
    let song: Vec<f32> = (0..120).flat_map(|n| tone(200.0 + 97.0 * ((n * 7) % 23) as f32, 60 + n % 50)).collect();
    let path = folder.path().join("song.bin.wav");
    for more in [&[][..], &["input.stack=3", "input.convolutions=0"], &["model.mixer=cnn", "model.positions=none"]] {
        let labeller = untrained(folder.path(), more);
        fs::write(&path, wav(&song)).expect("written");
        let (mut whole, mut stream, stop) = (Vec::new(), Vec::new(), AtomicBool::new(false));
        let name = path.display().to_string();
        labeller
            .predict_stream(&name, FileKind::default(), Style::Same, &mut whole, &stop, &mut |_, _| {})
            .expect("labelled");
        let sound = SoundStream::from_reader(Cursor::new(wav(&song)), "song", true).expect("sound");
        let reach = reach(&labeller.recipe).expect("bounded");
        labeller.listen_to((sound, reach), Style::Same, &mut stream, &stop, &mut |_, _| {}).expect("labelled");
        fs::remove_file(&path).expect("removed");
        let whole = String::from_utf8(whole).expect("text").replace(&format!("{name}\t"), "");
        assert!(whole.lines().count() > 20, "{more:?}: next to nothing changes: {whole}");
        assert_eq!(whole, String::from_utf8(stream).expect("text"), "{more:?}");
        // The stretches follow each other from the beginning on.
        let mut end = "0.000";
        for line in whole.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            assert_eq!(fields[0], end);
            end = fields[1];
        }
    }
}
