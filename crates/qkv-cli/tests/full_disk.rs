//! A disk that fills up, and one that cannot be written to: one clear line, nothing half-written, nothing lost.
//!
//! They are small file systems in memory, which only root may mount; elsewhere the tests say that they are skipped.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::*;

/// What a file system in memory gives away at a time, at least.
const PAGE: usize = 4096;

/// A file system of one mebibyte. Unmounted when dropped, before its folder goes.
struct Disk {
    path: PathBuf,
    _room: Room,
}

impl Disk {
    /// `None`, and says so, where mounting is not permitted.
    fn new() -> Option<Self> {
        let room = Room::new();
        let path = room.path("disk");
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { path, _room: room });
        }
        println!("skipped: a file system cannot be mounted here");
        None
    }

    fn name(&self, name: &str) -> String {
        self.path.join(name).to_str().unwrap().to_string()
    }

    /// Takes all room but `left` bytes.
    fn fill(&self, left: usize) {
        fs::write(self.path.join("ballast"), vec![1; (1 << 20) - used(&self.path) - left]).unwrap();
    }

    /// Takes all room but so many pages, to the page.
    fn fill_but(&self, pages: usize) {
        let ballast = fs::File::create(self.path.join("ballast")).unwrap();
        let page = vec![1; PAGE];
        let mut taken = 0;
        while (&ballast).write_all(&page).is_ok() {
            taken += PAGE;
        }
        assert!(taken >= pages * PAGE, "{taken}");
        ballast.set_len((taken - pages * PAGE) as u64).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.path.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}

/// Bytes in files below `folder`, in whole pages, and a page for each folder's entries to be safe.
fn used(folder: &Path) -> usize {
    snapshot(folder).values().map(|(content, _)| content.len().next_multiple_of(PAGE) + PAGE).sum()
}

/// Arguments of a run whose checkpoints need some hundred kilobytes.
fn args<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let settings = ["training.epochs=12", "training.average=last", "training.checkpoint_every=5", "model.d_model=32"];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    training(data, out, &settings.chain(more.iter().copied()).collect::<Vec<_>>())
}

/// Starts a run and interrupts it, so that it leaves a model that is of use and a checkpoint to go on from.
fn stop_at_first_checkpoint(args: &[&str], out: &str) {
    let child = program().args(args).spawn().unwrap();
    let start = Instant::now();
    while !Path::new(out).join("checkpoint/state.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "no checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal("INT", child.id());
    assert_eq!(ended(child).status, Some(1));
}

/// The files of a stopped run that nothing names: what a write left half done, parts of a checkpoint that was not made.
fn litter(model: &Path) -> Vec<PathBuf> {
    let state = fs::read_to_string(model.join("checkpoint/state.json")).unwrap_or_default();
    let is_litter = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let unnamed = path.parent().unwrap().ends_with("checkpoint") && name != "state.json" && !state.contains(name);
        name.starts_with(".writing-") || unnamed
    };
    snapshot(model).into_keys().filter(is_litter).collect()
}

#[test]
fn a_full_disk_ends_training_without_loss_and_resume_finishes_with_the_same_bits() {
    let Some(disk) = Disk::new() else { return };
    let room = Room::new();
    let (data, whole, out) = (room.conllu("train.conllu", 150, 1), room.name("whole"), disk.name("model"));
    done(&args(&data, &whole, &[]));
    let (mut before_first, mut later) = (0, 0);
    for left in (4..900).step_by(64).map(|kib| kib << 10) {
        disk.fill(left);
        let ended = qkv(&args(&data, &out, &[]));
        if ended.status == Some(0) {
            fs::remove_dir_all(&out).unwrap();
            disk.make_room();
            break;
        }
        assert_refused(
            &ended,
            1,
            &["cannot write ", &out, "No space left", "make room", "--resume", "nothing that was there is lost"],
        );
        assert!(!Path::new(&out).join("config.json").exists(), "a model that is not there is not promised");
        assert_eq!(litter(Path::new(&out)), Vec::<PathBuf>::new());
        match Path::new(&out).join("checkpoint/state.json").exists() {
            true => later += 1,
            false => before_first += 1,
        }
        disk.make_room();
        done(&args(&data, &out, &["--resume"]));
        assert!(weights(&out) == weights(&whole), "{left} bytes left");
        done(&["evaluate", &out, &data]);
        fs::remove_dir_all(&out).unwrap();
    }
    println!("failed before the first checkpoint: {before_first}, later: {later}");
    assert!(before_first > 0 && later > 1, "before the first checkpoint: {before_first}, later: {later}");
}

#[test]
fn a_disk_that_fills_up_leaves_the_model_that_was_there() {
    let Some(disk) = Disk::new() else { return };
    let room = Room::new();
    let (data, whole, out) = (room.conllu("train.conllu", 150, 1), room.name("whole"), disk.name("model"));
    done(&args(&data, &whole, &[]));
    stop_at_first_checkpoint(&args(&data, &out, &[]), &out);
    let judged = || json(&done(&["evaluate", &out, &data, "--json"]))["loss"].clone();
    let loss = judged();
    for left in [4 << 10, 70 << 10, 150 << 10] {
        disk.fill(left);
        let before = snapshot(&disk.path.join("model"));
        let ended = qkv(&args(&data, &out, &["--resume"]));
        assert_refused(&ended, 1, &["cannot write ", "No space left", "make room", "--resume"]);
        assert_eq!(judged(), loss, "the model that was there");
        assert_eq!(litter(Path::new(&out)), Vec::<PathBuf>::new());
        let parts = |files: Files| files.into_iter().filter(|(path, _)| !path.to_str().unwrap().contains("checkpoint"));
        assert!(parts(snapshot(&disk.path.join("model"))).eq(parts(before)));
        disk.make_room();
    }
    done(&args(&data, &out, &["--resume"]));
    assert!(weights(&out) == weights(&whole));
}

#[test]
fn a_disk_with_room_for_half_a_model_keeps_the_whole_one() {
    let Some(disk) = Disk::new() else { return };
    let room = Room::new();
    let (data, whole, out) = (room.conllu("train.conllu", 150, 1), room.name("whole"), disk.name("model"));
    done(&args(&data, &whole, &[]));
    stop_at_first_checkpoint(&args(&data, &out, &[]), &out);
    let judged = || json(&done(&["evaluate", &out, &data, "--json"]))["loss"].clone();
    let loss = judged();
    // The checkpoints elsewhere, so that only the model itself meets the full disk.
    let checkpoint = Path::new(&out).join("checkpoint");
    fs::create_dir(room.path("checkpoint")).unwrap();
    for (path, (content, _)) in snapshot(&checkpoint) {
        fs::write(room.path("checkpoint").join(path.file_name().unwrap()), content).unwrap();
    }
    fs::remove_dir_all(&checkpoint).unwrap();
    std::os::unix::fs::symlink(room.path("checkpoint"), &checkpoint).unwrap();
    let model_pages = weights(&out).len().div_ceil(PAGE);
    for pages in (0..model_pages + 3).rev().take(6) {
        disk.fill_but(pages);
        let ended = qkv(&args(&data, &out, &["--resume"]));
        assert_refused(&ended, 1, &["cannot write ", &out, "No space left", "make room", "--resume"]);
        assert_eq!(judged(), loss, "{pages} pages left");
        disk.make_room();
    }
    done(&args(&data, &out, &["--resume"]));
    assert!(weights(&out) == weights(&whole));
}

#[test]
fn a_disk_that_is_read_only_is_told_before_training_and_read_from() {
    let Some(disk) = Disk::new() else { return };
    let room = Room::new();
    let (data, out) = (room.conllu("train.conllu", 60, 1), disk.name("model"));
    done(&training(&data, &out, &[]));
    fs::create_dir(disk.path.join("empty")).unwrap();
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.path).status().unwrap().success());
    let (new, empty) = (disk.name("new"), disk.name("empty"));
    let ended = qkv(&training(&data, &new, &[]));
    assert_refused(&ended, 1, &["cannot make the folder", &new, "Read-only", "choose another place"]);
    let ended = qkv(&training(&data, &empty, &[]));
    assert_refused(&ended, 1, &["cannot write to the folder", &empty, "Read-only", "choose another place"]);
    assert_eq!(ended.stderr.lines().count(), 1, "before the first epoch: {ended:?}");
    done(&["evaluate", &out, &data]);
    assert!(done(&training(&data, &out, &["--resume"])).contains("nothing was changed"));
}
