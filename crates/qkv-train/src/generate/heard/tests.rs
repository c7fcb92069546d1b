//! From files of sound to what is heard in them, in a whole and in a stream.

use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::Device;
use qkv_data::audio::SoundStream;
use qkv_nn::layers::Init;

use super::*;
use crate::input::testing::{recordings, tone, wav};
use crate::model::Style;
use crate::trainer::{Scores, Task as _, train};

fn recipe(folder: &Path, more: &[&str]) -> Recipe {
    let mut recipe = Recipe::default();
    let train = format!("data.train={}", folder.display());
    for assignment in [
        train.as_str(),
        "data.names={label}_{index}",
        "data.test_files=index 0-1",
        "data.dev_files=index 2-3",
        "data.join=[1, 4]",
        "data.join_count=60",
        "input.kind=audio",
        "input.rate=8000",
        "input.bands=20",
        "input.convolutions=1",
        "model.task=generate",
        "model.output=ctc",
        "model.layers=2",
        "model.d_model=24",
        "model.heads=2",
        "model.window=5",
        "model.positions=rotary",
        "training.batch_tokens=300",
        "training.learning_rate=5e-3",
        "training.dropout=0",
        "training.epochs=25",
    ]
    .iter()
    .chain(more)
    {
        recipe.set(assignment).expect(assignment);
    }
    recipe
}

#[test]
fn tones_are_told_apart_in_strings_and_in_files() {
    let folder = tempfile::tempdir().expect("a folder");
    recordings(folder.path());
    let recipe = recipe(folder.path(), &[]);
    let task = HearTask::prepare(&recipe).expect("a task");
    let before: Scores = task.evaluate(&task.new_model(&Init::new(1, &Device::flex())));
    let outcome = train(&task, &recipe, None, &AtomicBool::new(false), &mut ()).expect("trained");
    let best = outcome.best.clone().expect("an epoch");
    assert!(best.loss < 0.3 * before.loss, "{} after {}", best.loss, before.loss);
    let wer = best.metrics["wer"].as_f64().expect("a number");
    assert!(wer < 0.1, "{wer}");
}

/// A model that nobody trained: what it hears is anything, and changes from vector to vector.
fn untrained(folder: &Path, more: &[&str]) -> Transcriber {
    let recipe = recipe(folder, more);
    let task = HearTask::prepare(&recipe).expect("a task");
    let (reader, codec) = task.parts();
    let sizes = reader.sizes();
    let model = EachModel::new(&recipe, &sizes, codec.len(), &Init::new(3, &Device::flex()));
    assert_eq!(EachModel::parameter_count(&recipe, &sizes, codec.len()), model.num_params() as u128, "{more:?}");
    Transcriber { recipe, reader, codec, model: model.valid() }
}

#[test]
fn a_stream_is_heard_as_its_whole_wherever_a_vector_sees_so_far_and_no_further() {
    let folder = tempfile::tempdir().expect("a folder");
    recordings(folder.path());
    let song: Vec<f32> = (0..220).flat_map(|n| tone(200.0 + 97.0 * ((n * 7) % 23) as f32, 60 + n % 50)).collect();
    for more in [
        &[][..],
        &["input.convolutions=0", "input.stack=3", "model.layers=3"],
        &["input.convolutions=2", "model.positions=relative"],
        &["model.mixer=cnn", "model.positions=none", "model.window=2"],
        &["model.mixer=none", "model.positions=none"],
    ] {
        let transcriber = untrained(folder.path(), more);
        let reach = crate::listen::reach(transcriber.recipe()).expect("bounded");
        let heard = |whole: bool| {
            let mut out = Vec::new();
            let sound = SoundStream::from_reader(Cursor::new(wav(&song)), "song", true).expect("sound");
            let stop = AtomicBool::new(false);
            if whole {
                let path = folder.path().join("song.bin.wav");
                std::fs::write(&path, wav(&song)).expect("written");
                let path = path.display().to_string();
                transcriber.predict_stream(&path, Style::Same, &mut out, &stop, &mut |_, _| {}).expect("heard");
                std::fs::remove_file(path).expect("removed");
            } else {
                transcriber.listen_to((sound, reach), Style::Same, &mut out, &stop, &mut |_, _| {}).expect("heard");
            }
            String::from_utf8(out).expect("text")
        };
        let (whole, stream) = (heard(true), heard(false));
        assert!(whole.split_whitespace().count() > 20, "{more:?} hears next to nothing: {whole}");
        assert_eq!(whole.trim(), stream.trim(), "{more:?}");
    }
}

#[test]
fn what_needs_the_end_or_a_place_has_no_reach() {
    let reach = |more: &[&str]| crate::listen::reach(&recipe(Path::new("x"), more));
    assert_eq!(reach(&[]), Some(10));
    for more in [
        &["model.mixer=rnn", "model.positions=none", "model.window=none"][..],
        &["model.window=none"],
        &["model.positions=sinusoidal"],
        &["input.normalise=recording"],
    ] {
        assert_eq!(reach(more), None, "{more:?}");
    }
}
