//! What the end-to-end tests share: generated sentences, ways to run the program, and what must hold of its answers.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

/// A word and its part of speech.
pub(crate) type Word = (String, &'static str);

/// Numbers that look drawn and are the same every time (Steele, Lea and Flood, 2014).
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

/// Sentences such as `the old park watched a duck .`, where some words are nouns behind a determiner and verbs elsewhere.
/// `names` more nouns, all but unique, widen the vocabulary.
pub(crate) fn sentences(count: usize, names: usize, seed: u64) -> Vec<Vec<Word>> {
    let mut draw = Draw::new(seed);
    (0..count).map(|_| sentence(&mut draw, names)).collect()
}

fn sentence(draw: &mut Draw, names: usize) -> Vec<Word> {
    const BOTH: [&str; 5] = ["watch", "duck", "park", "saw", "fly"];
    let mut words: Vec<Word> = Vec::new();
    let phrase = |words: &mut Vec<Word>, draw: &mut Draw| {
        words.push((draw.of(&["the", "a", "this", "every"]).into(), "DET"));
        while draw.below(3) == 0 {
            words.push((draw.of(&["old", "red", "small", "quiet", "strange"]).into(), "ADJ"));
        }
        let noun = match draw.below(3) {
            0 if names > 0 => format!("thing{}", draw.below(names)),
            1 => draw.of(&BOTH).into(),
            _ => draw.of(&["stone", "river", "teacher", "garden", "engine"]).into(),
        };
        words.push((noun, "NOUN"));
    };
    match draw.below(2) {
        0 => words.push((draw.of(&["we", "you", "they", "I"]).into(), "PRON")),
        _ => phrase(&mut words, draw),
    }
    let verb = if draw.below(2) == 0 { draw.of(&BOTH) } else { draw.of(&["see", "like", "found", "carry"]) };
    words.push((verb.into(), "VERB"));
    phrase(&mut words, draw);
    while draw.below(3) == 0 {
        words.push((draw.of(&["in", "near", "with"]).into(), "ADP"));
        phrase(&mut words, draw);
    }
    words.push((".".into(), "PUNCT"));
    words
}

/// The sentences in CoNLL-U, with comments, multiword tokens and empty nodes.
pub(crate) fn conllu(sentences: &[Vec<Word>]) -> String {
    let mut text = String::new();
    for (number, words) in sentences.iter().enumerate() {
        let plain: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
        let _ = writeln!(text, "# sent_id = {number}\n# text = {}", plain.join(" "));
        for (place, (word, tag)) in words.iter().enumerate() {
            let id = place + 1;
            if id == 1 && number % 3 == 0 {
                let _ = writeln!(text, "1-2\t{word}{}\t_\t_\t_\t_\t_\t_\t_\t_", words[1].0);
            }
            let feats = if *tag == "NOUN" { "Number=Sing" } else { "_" };
            let relation = if *tag == "VERB" { "root" } else { "dep" };
            let _ = writeln!(text, "{id}\t{word}\t{word}\t{tag}\t{}\t{feats}\t0\t{relation}\t_\tNote={id}", &tag[..2]);
            if id == 3 && number % 4 == 0 {
                text.push_str("3.1\tghost\tghost\tVERB\t_\t_\t_\t_\t2:dep\t_\n");
            }
        }
        text.push('\n');
    }
    text
}

/// Two columns, in which a noun with its adjectives is an entity.
pub(crate) fn bio(sentences: &[Vec<Word>]) -> String {
    let mut text = String::new();
    for words in sentences {
        let mut inside = false;
        for (word, tag) in words {
            let entity = matches!(*tag, "ADJ" | "NOUN");
            let label = match (entity, inside) {
                (false, _) => "O",
                (true, false) => "B-thing",
                (true, true) => "I-thing",
            };
            inside = entity && *tag != "NOUN";
            let _ = writeln!(text, "{word}\t{label}");
        }
        text.push('\n');
    }
    text
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if it was killed.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, its standard output and error kept to be looked at.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qkv"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn finish(mut command: Command) -> Ended {
    ended(command.spawn().expect("start"))
}

pub(crate) fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().expect("run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ended { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs the program.
pub(crate) fn qkv<S: AsRef<OsStr>>(args: &[S]) -> Ended {
    let mut command = program();
    command.args(args);
    finish(command)
}

/// Runs the program, which must succeed without a word on standard error but progress; returns its standard output.
pub(crate) fn done<S: AsRef<OsStr> + std::fmt::Debug>(args: &[S]) -> String {
    let ended = qkv(args);
    assert_eq!(ended.status, Some(0), "{args:?}: {ended:?}");
    assert_eq!(told(&ended), Vec::<&str>::new(), "{args:?}");
    ended.stdout
}

/// The lines of standard error but for those of finished epochs.
pub(crate) fn told(ended: &Ended) -> Vec<&str> {
    // `epoch 1 …`, and `seed-1  epoch 1 …` where there are several runs.
    let progress = |line: &str| line.split_whitespace().take(2).any(|word| word == "epoch");
    ended.stderr.lines().filter(|line| !progress(line)).collect()
}

/// Asserts that the program refused as it should: this exit status, one line on standard error (warnings and progress
/// apart) that begins with `error: ` and holds every one of `wanted`.
#[track_caller]
pub(crate) fn assert_refused(ended: &Ended, status: i32, wanted: &[&str]) {
    assert_eq!(ended.status, Some(status), "{ended:?}");
    let lines: Vec<&str> = told(ended).into_iter().filter(|line| !line.starts_with("warning: ")).collect();
    let [line] = lines[..] else { panic!("not one line: {ended:?}") };
    assert!(line.starts_with("error: "), "{ended:?}");
    for part in wanted {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
}

/// A folder of its own with generated files in it.
pub(crate) struct Room {
    pub(crate) folder: tempfile::TempDir,
}

impl Room {
    pub(crate) fn new() -> Self {
        // In memory where that can be had: models are synced to disk epoch by epoch, and small ones wait for nothing else.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self { folder: folder.expect("tempdir") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text, for arguments.
    pub(crate) fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_string()
    }

    /// Writes a file; returns its path as text.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).expect("write");
        self.name(name)
    }

    /// Writes generated CoNLL-U.
    pub(crate) fn conllu(&self, name: &str, count: usize, seed: u64) -> String {
        self.write(name, conllu(&sentences(count, 0, seed)))
    }
}

/// Arguments that train a small model quickly.
pub(crate) fn training<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--train", data, "--out", out, "--threads", "1"];
    for setting in
        ["training.epochs=6", "model.d_model=16", "model.layers=1", "model.heads=2", "training.batch_tokens=200"]
    {
        args.extend(["--set", setting]);
    }
    args.extend(["--set", "training.learning_rate=1e-2"]);
    args.extend(more);
    args
}

/// Trains a small model on generated CoNLL-U into `model`.
pub(crate) fn small_model(room: &Room) -> String {
    let data = room.conllu("train.conllu", 200, 1);
    let out = room.name("model");
    done(&training(&data, &out, &["--set", "training.epochs=25"]));
    out
}

pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Files with their content and when they were changed.
pub(crate) type Files = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

/// Every file below `folder` with its content and when it was changed.
pub(crate) fn snapshot(folder: &Path) -> Files {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("list") {
        let path = entry.expect("entry").path();
        let meta = fs::metadata(&path).expect("metadata");
        if meta.is_dir() {
            files.insert(path.clone(), (Vec::new(), SystemTime::UNIX_EPOCH));
            files.extend(snapshot(&path));
        } else {
            files.insert(path.clone(), (fs::read(&path).expect("read"), meta.modified().expect("mtime")));
        }
    }
    files
}

/// The parameters of a model.
pub(crate) fn weights(model: &str) -> Vec<u8> {
    fs::read(Path::new(model).join("model.safetensors")).expect("model.safetensors")
}

/// Copies a model directory.
pub(crate) fn copy_model(from: &str, to: &Path) {
    fs::create_dir_all(to).expect("mkdir");
    for (path, (content, _)) in snapshot(Path::new(from)) {
        fs::write(to.join(path.file_name().expect("name")), content).expect("copy");
    }
}

/// A running program whose standard input is held open and whose lines are read as they come.
pub(crate) struct Talk {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Talk {
    pub(crate) fn start<S: AsRef<OsStr>>(args: &[S]) -> Self {
        let mut command = program();
        command.args(args).stdin(Stdio::piped());
        let mut child = command.spawn().expect("start");
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("stdout"));
        std::thread::spawn(move || {
            for line in output.lines() {
                let _ = send.send(line.expect("UTF-8"));
            }
        });
        Self { input: child.stdin.take(), child, lines }
    }

    pub(crate) fn say(&mut self, text: &str) {
        let input = self.input.as_mut().expect("open");
        input.write_all(text.as_bytes()).expect("write");
        input.flush().expect("flush");
    }

    /// The next line of the answer, which must come although the input is still open.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("an answer before the input ends")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the input; returns the exit status and what is left of the answer.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        drop(self.input.take());
        self.wait()
    }

    /// Waits for the end, although the input may still be open.
    pub(crate) fn wait(mut self) -> (Option<i32>, Vec<String>) {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("wait") {
                Some(status) => break status.code(),
                None if start.elapsed() > PATIENCE => {
                    self.child.kill().expect("kill");
                    panic!("the program does not end");
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        (status, self.lines.iter().collect())
    }
}

/// How long an answer may take that should come at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a signal by its name.
pub(crate) fn signal(name: &str, id: u32) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {id}")).status().expect("sh");
    assert!(sent.success(), "kill -{name} {id}");
}

/// Asserts that a run has the same parameters with one thread and with two, and killed and gone on with, and that a finished one is not
/// changed. `args` are those of the run called `out` with so many threads, into the folder `name-out` of the room.
pub(crate) fn assert_same_bits(room: &Room, name: &str, args: &dyn Fn(&str, &str) -> Vec<String>) {
    let of = |out: &str| weights(&room.name(&format!("{name}-{out}")));
    let start = Instant::now();
    done(&args("one", "1"));
    let whole = start.elapsed();
    done(&args("two", "2"));
    assert!(of("one") == of("two"), "{name}: one thread or two");
    let mut child = program().args(args("killed", "2")).spawn().unwrap();
    let state = room.path(&format!("{name}-killed/checkpoint/state.json"));
    let wait = Instant::now();
    while !state.exists() && child.try_wait().unwrap().is_none() {
        assert!(wait.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(whole.mul_f64(0.2));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut last = args("killed", "1");
    last.push("--resume".into());
    done(&last);
    assert!(of("one") == of("killed"), "{name}: killed and gone on with");
    assert!(done(&last).contains("nothing was changed"));
}
