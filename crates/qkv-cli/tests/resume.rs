//! A run that was interrupted, even killed, and goes on ends in the same bits as one that was not; and no run harms what
//! is on disk.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Child;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::*;

/// Data, and arguments of a run of about a second with many checkpoints.
struct Job {
    room: Room,
    settings: Vec<&'static str>,
}

impl Job {
    fn new(more: &[&'static str]) -> Self {
        let room = Room::new();
        room.conllu("train.conllu", 300, 1);
        room.conllu("dev.conllu", 40, 2);
        let mut settings = vec!["training.epochs=40", "training.checkpoint_every=7", "training.dropout=0.2"];
        settings.extend(["training.word_dropout=0.1", "training.average_count=3"]);
        settings.extend(more);
        Self { room, settings }
    }

    fn args(&self, out: &str, more: &[&str]) -> Vec<String> {
        let (train, dev, out) = (self.room.name("train.conllu"), self.room.name("dev.conllu"), self.room.name(out));
        let mut args: Vec<String> = training(&train, &out, &["--dev", &dev]).into_iter().map(String::from).collect();
        args.extend(self.settings.iter().flat_map(|setting| ["--set".to_string(), setting.to_string()]));
        args.extend(more.iter().map(ToString::to_string));
        args
    }

    fn start(&self, out: &str, more: &[&str]) -> Child {
        let mut command = program();
        command.args(self.args(out, more)).spawn().unwrap()
    }

    /// Trains without interruption; returns how long it took.
    fn uninterrupted(&self, out: &str) -> Duration {
        let start = Instant::now();
        done(&self.args(out, &[]));
        start.elapsed()
    }

    /// Starts a run and kills it when it has made a checkpoint.
    fn killed(&self, out: &str) {
        let mut child = self.start(out, &[]);
        wait_for(&self.room.path(out).join("checkpoint/state.json"));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "{} does not appear", path.display());
        sleep(Duration::from_millis(2));
    }
}

/// What must not depend on interruptions: every part of the model but for the seconds it took.
fn outcome(model: &str) -> (Vec<u8>, Vec<u8>, serde_json::Value) {
    let folder = Path::new(model);
    let names: Vec<_> = snapshot(folder).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(
        names,
        ["config.json", "metrics.json", "model.safetensors", "vocab.json"],
        "nothing is left lying about"
    );
    let mut metrics = json(&fs::read_to_string(folder.join("metrics.json")).unwrap());
    metrics["seconds"].take();
    metrics["epochs"].as_array_mut().unwrap().iter_mut().for_each(|epoch| _ = epoch["seconds"].take());
    (weights(model), fs::read(folder.join("vocab.json")).unwrap(), metrics)
}

fn kills_change_nothing(settings: &[&'static str]) {
    let job = Job::new(settings);
    let mut pause = job.uninterrupted("whole") / 4;
    // Once more, with shorter pauses, where the machine has become so much faster that a run escapes with few kills.
    for out in ["killed", "killed-2", "killed-3", "killed-4"] {
        let kills = killed_at_random(&job, out, pause);
        done(&job.args(out, &["--resume"]));
        assert!(outcome(&job.room.name(out)) == outcome(&job.room.name("whole")), "after {kills} kills");
        if kills >= 3 {
            return;
        }
        pause /= 2;
    }
    panic!("too few kills");
}

/// Starts the run again and again and kills it after random pauses, `pause` at most; returns how often it was killed.
fn killed_at_random(job: &Job, out: &str, pause: Duration) -> usize {
    let mut draw = Draw::new(pause.as_nanos() as u64);
    for kills in 0..12 {
        let mut args = job.args(out, &["--resume"]);
        let place = args.iter().position(|arg| arg == "--threads").unwrap() + 1;
        args[place] = (1 + kills % 2).to_string();
        let mut child = program().args(args).spawn().unwrap();
        sleep(pause.mul_f64(0.05 + 0.95 * draw.below(1000) as f64 / 1000.0));
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0), "{:?}", ended(child));
            return kills;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    12
}

#[test]
fn kills_change_nothing_with_the_last_epochs_averaged() {
    kills_change_nothing(&["training.average=last", "model.mixer=attention"]);
}

#[test]
fn kills_change_nothing_with_the_best_epochs_averaged() {
    kills_change_nothing(&[
        "training.average=best",
        "model.mixer=cnn",
        "input.characters=affixes",
        "input.buckets=100",
    ]);
}

#[test]
fn kills_change_nothing_with_the_best_epoch_and_patience() {
    kills_change_nothing(&["training.average=none", "model.mixer=rnn", "training.patience=15"]);
}

#[test]
fn interrupts_leave_a_usable_model_and_change_nothing() {
    let job = Job::new(&["training.average=last"]);
    let whole = job.uninterrupted("whole");
    let (out, dev) = (job.room.name("stopped"), job.room.name("dev.conllu"));
    let mut interrupts = 0;
    for share in [0.1, 0.0, 0.2] {
        let mut child = job.start("stopped", &["--resume"]);
        let mut progress = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        progress.read_line(&mut text).unwrap();
        assert!(text.starts_with("epoch "), "{text}");
        sleep(whole.mul_f64(share));
        signal("INT", child.id());
        progress.read_to_string(&mut text).unwrap();
        let stopped = Ended { stderr: text, ..ended(child) };
        if stopped.status == Some(0) {
            break;
        }
        interrupts += 1;
        assert_eq!(stopped.status, Some(1), "{stopped:?}");
        let told = told(&stopped);
        let last = told.last().unwrap();
        assert!(last.starts_with("error: stopped; the best model so far is in "), "{stopped:?}");
        assert!(last.contains(&out) && last.contains("--resume"), "{stopped:?}");
        assert_eq!(told.iter().filter(|line| line.starts_with("error:")).count(), 1, "{stopped:?}");
        let accuracy = json(&done(&["evaluate", &out, &dev, "--json"]))["accuracy"].as_f64().unwrap();
        let info = json(&done(&["info", &out, "--json"]));
        assert_eq!(info["finished"], false);
        assert_eq!(info["metrics"]["accuracy"], accuracy, "the best model so far");
        assert!(done(&["info", &out]).contains("finished     no: --resume goes on"));
    }
    assert!(interrupts > 0, "no interrupt within a run of {whole:?}");
    done(&job.args("stopped", &["--resume"]));
    assert!(outcome(&out) == outcome(&job.room.name("whole")), "after {interrupts} interrupts");
}

#[test]
fn an_interrupt_in_the_first_epoch_leaves_the_model_as_it_stands() {
    let job = Job::new(&["training.batch_tokens=5", "training.checkpoint_every=1"]);
    let child = job.start("stopped", &[]);
    wait_for(&job.room.path("stopped/checkpoint/state.json"));
    signal("INT", child.id());
    let stopped = ended(child);
    assert_eq!(stopped.status, Some(1), "{stopped:?}");
    assert!(stopped.stderr.contains("error: stopped; the model as it stands is in"), "{stopped:?}");
    let (out, dev) = (job.room.name("stopped"), job.room.name("dev.conllu"));
    done(&["evaluate", &out, &dev]);
    assert!(json(&done(&["info", &out, "--json"]))["metrics"].get("best_epoch").is_none());
}

/// A finished model, made once.
fn finished() -> &'static (Job, String) {
    static FINISHED: OnceLock<(Job, String)> = OnceLock::new();
    FINISHED.get_or_init(|| {
        let mut job = Job::new(&[]);
        job.settings.push("training.epochs=2");
        job.uninterrupted("model");
        let out = job.room.name("model");
        (job, out)
    })
}

#[test]
fn resume_of_a_finished_run_changes_nothing_and_says_so() {
    let (job, out) = finished();
    let before = snapshot(Path::new(out));
    let said = done(&job.args("model", &["--resume"]));
    assert!(said.contains(out) && said.contains("finished already; nothing was changed"), "{said}");
    let said = json(&done(&job.args("model", &["--resume", "--json"])));
    assert_eq!(said["already_finished"], true);
    assert!(snapshot(Path::new(out)) == before);
}

#[test]
fn resume_of_a_finished_run_by_another_recipe_is_refused() {
    let (job, out) = finished();
    let before = snapshot(Path::new(out));
    for (more, wanted) in [
        (["--set", "training.dropout=0.3"], "training.dropout was"),
        (["--set", "training.epochs=3"], "training.epochs was"),
        (["--seed", "99"], "training.seed was"),
    ] {
        let args = job.args("model", &["--resume"]).into_iter().chain(more.map(String::from)).collect::<Vec<_>>();
        assert_refused(&qkv(&args), 2, &[wanted, "finished", "give another --out"]);
    }
    assert!(snapshot(Path::new(out)) == before);
}

#[test]
fn leftovers_of_a_kill_at_the_very_end_do_no_harm() {
    let (job, out) = finished();
    copy_model(out, &job.room.path("ended"));
    fs::create_dir(job.room.path("ended/checkpoint")).unwrap();
    fs::write(job.room.path("ended/checkpoint/model-9.bpk"), "left over").unwrap();
    let before = snapshot(&job.room.path("ended"));
    assert!(done(&job.args("ended", &["--resume"])).contains("nothing was changed"));
    assert!(snapshot(&job.room.path("ended")) == before);
    // Killed before the first checkpoint.
    fs::create_dir_all(job.room.path("begun/checkpoint")).unwrap();
    fs::write(job.room.path("begun/checkpoint/.writing-abc"), "half").unwrap();
    fs::write(job.room.path("begun/.writing-def"), "half").unwrap();
    done(&job.args("begun", &["--resume"]));
    assert!(outcome(&job.room.name("begun")) == outcome(out));
}

#[test]
fn a_folder_that_is_not_empty_is_not_trained_into() {
    let (job, out) = finished();
    let before = snapshot(Path::new(out));
    let wanted = [out.as_str(), "not empty", "--resume", "another --out"];
    assert_refused(&qkv(&job.args("model", &[])), 1, &wanted);
    assert!(snapshot(Path::new(out)) == before);

    fs::create_dir(job.room.path("notes")).unwrap();
    fs::write(job.room.path("notes/thoughts.txt"), "precious").unwrap();
    let before = snapshot(&job.room.path("notes"));
    assert_refused(&qkv(&job.args("notes", &[])), 1, &["notes", "not empty", "another --out"]);
    assert_refused(&qkv(&job.args("notes", &["--resume"])), 1, &["notes", "no run", "another --out"]);
    assert!(snapshot(&job.room.path("notes")) == before);

    fs::create_dir_all(job.room.path("several/seed-2")).unwrap();
    fs::write(job.room.path("several/seed-2/thoughts.txt"), "precious").unwrap();
    assert_refused(&qkv(&job.args("several", &["--runs", "2"])), 1, &["seed-2", "not empty"]);
    assert!(!job.room.path("several/seed-1").exists(), "the first run must not be made before the second is refused");
}

#[test]
fn a_run_goes_on_only_with_the_recipe_and_the_data_that_it_began_with() {
    let job = Job::new(&[]);
    job.killed("out");
    let before = snapshot(&job.room.path("out"));
    assert_refused(&qkv(&job.args("out", &[])), 1, &["out", "not empty", "--resume"]);
    for (setting, wanted) in [
        ("training.epochs=41", "training.epochs was `40` and is `41`"),
        ("model.window=3", "model.window was not given and is `3`"),
        ("model.mixer=cnn", "model.mixer was `\"attention\"` and is `\"cnn\"`"),
    ] {
        let ended = qkv(&job.args("out", &["--resume", "--set", setting]));
        assert_refused(&ended, 2, &["--resume", wanted, "another --out"]);
    }
    for (name, other) in [("train.conllu", 301), ("dev.conllu", 41)] {
        let path = job.room.name(name);
        let content = fs::read(&path).unwrap();
        job.room.conllu(name, other, 1);
        let ended = qkv(&job.args("out", &["--resume"]));
        assert_refused(&ended, 1, &["--resume", "data.train", "data.dev", "the same data"]);
        fs::write(&path, content).unwrap();
    }
    assert!(snapshot(&job.room.path("out")) == before);
    // A sentence cut in two has the same words.
    let path = job.room.name("train.conllu");
    let text = fs::read_to_string(&path).unwrap();
    let mut cut = sentences(300, 0, 1);
    assert_eq!(conllu(&cut), text);
    let rest = cut[0].split_off(2);
    cut.insert(1, rest);
    fs::write(&path, conllu(&cut)).unwrap();
    assert_refused(&qkv(&job.args("out", &["--resume"])), 1, &["--resume", "the same data"]);
    fs::write(&path, text).unwrap();
    done(&job.args("out", &["--resume"]));
}

#[test]
fn a_broken_checkpoint_is_refused_by_name() {
    let job = Job::new(&[]);
    job.killed("out");
    let checkpoint = job.room.path("out/checkpoint");
    let parts: Vec<_> = snapshot(&checkpoint).into_keys().collect();
    assert!(parts.len() >= 3, "{parts:?}");
    for path in parts {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with(".writing-")
            || !fs::read_to_string(checkpoint.join("state.json")).unwrap().contains(name) && name != "state.json"
        {
            continue;
        }
        let content = fs::read(&path).unwrap();
        fs::write(&path, &content[..content.len() / 2]).unwrap();
        let before = snapshot(&job.room.path("out"));
        assert_refused(&qkv(&job.args("out", &["--resume"])), 1, &[name, "begin it again with another --out"]);
        assert!(snapshot(&job.room.path("out")) == before, "{name}");
        if name != "state.json" {
            fs::remove_file(&path).unwrap();
            assert_refused(&qkv(&job.args("out", &["--resume"])), 1, &[name, "missing", "another --out"]);
        }
        fs::write(&path, content).unwrap();
    }
    let out = job.room.name("out");
    let dev = job.room.name("dev.conllu");
    assert_refused(&qkv(&["evaluate", &out, &dev]), 1, &[&out, "not finished", "--resume"]);
    assert_refused(&qkv(&["info", &out]), 1, &[&out, "not finished", "--resume"]);
    done(&job.args("out", &["--resume"]));
}

#[test]
fn a_kill_between_two_files_of_the_model_is_mended_by_resume() {
    let job = Job::new(&[]);
    job.uninterrupted("whole");
    let child = job.start("out", &[]);
    wait_for(&job.room.path("out/checkpoint/state.json"));
    signal("INT", child.id());
    assert_eq!(ended(child).status, Some(1));
    let (out, dev) = (job.room.name("out"), job.room.name("dev.conllu"));
    fs::copy(job.room.path("whole/model.safetensors"), job.room.path("out/model.safetensors")).unwrap();
    assert_refused(&qkv(&["evaluate", &out, &dev]), 1, &["model.safetensors", "changed", "--resume"]);
    // Another name of a file keeps what it held if it is replaced, not if it is written over.
    for name in ["checkpoint/state.json", "model.safetensors", "config.json", "metrics.json"] {
        fs::hard_link(job.room.path("out").join(name), job.room.path(&format!("then-{}", name.replace('/', "-"))))
            .unwrap();
    }
    let then =
        || snapshot(job.room.folder.path()).into_iter().filter(|(path, _)| path.to_str().unwrap().contains("then-"));
    let before: Files = then().collect();
    done(&job.args("out", &["--resume"]));
    assert!(then().eq(before), "files are replaced, never written over");
    assert!(outcome(&out) == outcome(&job.room.name("whole")));
}

#[test]
fn a_stopped_model_without_its_checkpoint_is_not_trained_over() {
    let job = Job::new(&[]);
    let child = job.start("out", &[]);
    wait_for(&job.room.path("out/checkpoint/state.json"));
    signal("INT", child.id());
    assert_eq!(ended(child).status, Some(1));
    fs::remove_dir_all(job.room.path("out/checkpoint")).unwrap();
    let before = snapshot(&job.room.path("out"));
    assert_refused(&qkv(&job.args("out", &["--resume"])), 1, &["no run", "another --out"]);
    assert!(snapshot(&job.room.path("out")) == before);
}
