//! Pairs of texts through the public door: every format, every way to break one, and that pairs come back as written.

// In a test a panic is the report.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use qkv_data::{Pair, PairFormat, PairOptions, Result, read_pairs, stream_pairs};
use tempfile::TempDir;

/// Files in a folder of their own.
struct Files {
    _folder: TempDir,
    paths: Vec<String>,
    prefix: String,
}

fn files(contents: &[(&str, &[u8])]) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let write = |(name, bytes): &(&str, &[u8])| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let paths = contents.iter().map(write).collect();
    let prefix = format!("{}/", folder.path().display());
    Files { _folder: folder, paths, prefix }
}

fn read(name: &str, content: &str, options: &PairOptions) -> Result<Vec<Pair>> {
    read_pairs(&files(&[(name, content.as_bytes())]).paths, options)
}

fn read_parallel(sources: &str, targets: &str, options: &PairOptions) -> Result<Vec<Pair>> {
    read_pairs(&files(&[("a.en", sources.as_bytes()), ("a.de", targets.as_bytes())]).paths, options)
}

fn prediction() -> PairOptions {
    PairOptions { need_targets: false, ..PairOptions::default() }
}

fn as_format(format: PairFormat) -> PairOptions {
    PairOptions { format: Some(format), ..PairOptions::default() }
}

/// Checks that the error is one line that begins with `expected`, the folder of the files left out.
fn refused(contents: &[(&str, &str)], options: &PairOptions, expected: &str) {
    let contents: Vec<_> = contents.iter().map(|(name, content)| (*name, content.as_bytes())).collect();
    let files = files(&contents);
    let message = read_pairs(&files.paths, options).unwrap_err().to_string().replace(&files.prefix, "");
    assert!(message.starts_with(expected) && !message.contains('\n'), "{message}");
    assert!(message.contains("; "), "nothing to mend it: {message}");
}

fn pair(source: &str, target: &str, line: usize) -> Pair {
    Pair { source: source.to_owned(), target: Some(target.to_owned()), line }
}

fn source(source: &str, line: usize) -> Pair {
    Pair { source: source.to_owned(), target: None, line }
}

#[test]
fn every_format_gives_the_same_pairs() {
    let expected = [pair("walk, twice", "W W", 2), pair("\"花\"", "x", 4)];
    for (name, content) in [
        ("a.txt", "\nIN: walk, twice OUT: W W\r\n\nIN:\"花\" OUT:x"),
        ("b.txt", "\nwalk, twice\tW W\n\t\n\"花\"\tx\n"),
        ("b.tsv", "\nwalk, twice\tW W\n\n\"花\"\tx\n"),
        ("a.csv", "source,target\n\"walk, twice\",W W\n\n\"\"\"花\"\"\",x\n"),
        ("a.tsv", "target\tid\tsource\nW W\t7\twalk, twice\n\nx\t8\t\"花\"\n"),
        (
            "a.jsonl",
            "\n{\"target\": \"W W\", \"source\": \"walk, twice\"}\n\n{\"source\": \"\\\"花\\\"\", \"target\": \"x\"}",
        ),
    ] {
        assert_eq!(read(name, content, &PairOptions::default()).unwrap(), expected, "{name}");
        assert_eq!(read(name, content, &prediction()).unwrap(), expected, "{name}");
    }
    let parallel = read_parallel("\nwalk, twice\n\t\n\"花\"", "\nW W\r\n\nx\n", &PairOptions::default());
    assert_eq!(parallel.unwrap(), expected);
}

#[test]
fn columns_may_be_named() {
    let options =
        PairOptions { source: Some("en".to_owned()), target: Some("de".to_owned()), ..PairOptions::default() };
    let expected = [pair("hat", "Hut", 2)];
    assert_eq!(read("a.csv", "de,source,en\nHut,x,hat\n", &options).unwrap(), expected);
    assert_eq!(read("a.tsv", "de\ten\nHut\that\n", &options).unwrap(), expected);
    assert_eq!(read("a.csv", "en,de\nhat,Hut\n", &PairOptions::default()).unwrap(), expected);
    assert_eq!(read("a.jsonl", "\n{\"en\":\"1+1\",\"de\":2}", &options).unwrap(), [pair("1+1", "2", 2)]);
    let expected = "a.csv:1: there is no column \"de\" (data.target); did you mean \"der\"? there are \"en\", \"der\"";
    refused(&[("a.csv", "en,der\nhat,Hut\n")], &options, expected);
}

#[test]
fn where_no_targets_are_needed_they_may_be_missing() {
    let options = |format| PairOptions { format: Some(format), ..prediction() };
    assert_eq!(read("a", "IN: walk\n", &options(PairFormat::InOut)).unwrap(), [source("walk", 1)]);
    assert_eq!(read("a", "IN: walk OUT:\n", &options(PairFormat::InOut)).unwrap(), [source("walk", 1)]);
    let pairs = read("a", "chat\nchien\t\n", &options(PairFormat::Tabs)).unwrap();
    assert_eq!(pairs, [source("chat", 1), source("chien", 2)]);
    assert_eq!(read("a.csv", "source\nwalk\n", &prediction()).unwrap(), [source("walk", 2)]);
    assert_eq!(read_parallel("walk\n", "\n", &prediction()).unwrap(), [source("walk", 1)]);
}

#[test]
fn blank_lines_of_plain_text_are_pairs_with_an_empty_source() {
    let expected = [source("", 1), source("walk ", 2), source("", 3), source("", 4), source("jump", 5)];
    assert_eq!(read("a.en", "\nwalk \r\n \t\n\njump", &prediction()).unwrap(), expected);
    // The first of two parallel files alone.
    let options = PairOptions { format: Some(PairFormat::Parallel), ..prediction() };
    assert_eq!(read("a.en", "\nwalk \n\n\njump\n", &options).unwrap(), expected);
}

#[test]
fn malformed_lines_are_named() {
    let options = PairOptions::default();
    for (content, expected) in [
        ("IN: a OUT: b\nwalk\n", "a:2: the line does not begin with IN:"),
        ("IN: a OUT: b\nIN: OUT: x\n", "a:2: there is no source beside the target \"x\""),
        ("IN: a OUT: b\nIN: a OUT: \n", "a:2: \"a\" has no target, but targets are needed here"),
        ("IN: a OUT: b\nIN: a\n", "a:2: \"a\" has no target"),
        ("IN: a OUT: b\nIN:\n", "a:2: the source is empty"),
        ("a\tb\na\n", "a:2: \"a\" has no target"),
        ("a\tb\na\t\n", "a:2: \"a\" has no target"),
        ("a\tb\n\tb\n", "a:2: there is no source beside the target \"b\""),
        ("a\tb\na\tb\tc\n", "a:2: expected source, tab, target, found 2 tabs"),
    ] {
        refused(&[("a", content)], &options, expected);
    }
    refused(&[("a.csv", "source,target\na\n")], &options, "a.csv:2: expected 2 columns as on line 1, found 1");
    refused(&[("a.csv", "source,target\na,\n")], &options, "a.csv:2: \"a\" has no target");
    refused(&[("a.csv", "source,target\n,b\n")], &options, "a.csv:2: there is no source beside the target");
    refused(&[("a.jsonl", "{\"source\":\"a\"}\n")], &options, "a.jsonl:1: no key has a usual name of a target");
    refused(
        &[("a.jsonl", "{\"source\":[],\"target\":\"b\"}\n")],
        &options,
        "a.jsonl:1: the source, key \"source\", is an",
    );
}

#[test]
fn parallel_files_of_different_length_are_an_error() {
    for (sources, targets, expected) in [
        ("a\nb\nc\nd\n", "x\ny\n", "a.en: has 4 lines, but a.de has 2; "),
        ("a\n", "x\ny\n\n", "a.en: has 1 lines, but a.de has 3; "),
        ("", "x\n", "a.en: has 0 lines, but a.de has 1; "),
    ] {
        refused(&[("a.en", sources), ("a.de", targets)], &PairOptions::default(), expected);
    }
}

#[test]
fn an_empty_side_of_parallel_lines_is_an_error_in_its_file() {
    let options = PairOptions::default();
    refused(
        &[("a.en", "a\n \nc\n"), ("a.de", "x\ny\nz\n")],
        &options,
        "a.en:2: the source is empty, but line 2 of a.de",
    );
    refused(
        &[("a.en", "a\nb\nc\n"), ("a.de", "x\n\nz\n")],
        &options,
        "a.de:2: the target is empty, but line 2 of a.en",
    );
    refused(&[("a.en", "\n"), ("a.de", "x\n")], &prediction(), "a.en:1: the source is empty");
}

#[test]
fn the_number_of_files_and_the_format_go_together() {
    let one = &[("a.en", "a\n")][..];
    let two = &[("a.en", "a\n"), ("a.de", "x\n")][..];
    let three = &[("a.en", "a\n"), ("a.de", "x\n"), ("a.fr", "u\n")][..];
    refused(one, &as_format(PairFormat::Parallel), "a.en: is one file, and parallel lines are in two; ");
    refused(one, &PairOptions::default(), "a.en: is plain text, which has no targets; ");
    refused(two, &as_format(PairFormat::Csv), "data.format: \"csv\" is a format of one file, and two are named; ");
    refused(three, &PairOptions::default(), "a.en, a.de, a.fr: 3 files cannot be read as pairs; ");
    refused(&[], &PairOptions::default(), "data: no file of pairs was named; ");
    let stdin = ["-".to_owned(), "-".to_owned()];
    let message = stream_pairs(&stdin, &PairOptions::default()).unwrap_err().to_string();
    assert!(message.starts_with("standard input: cannot be both"), "{message}");
}

#[test]
fn files_without_pairs_are_an_error() {
    let options = PairOptions::default();
    refused(&[("a.txt", "")], &options, "a.txt: there is no source text here, read as text; ");
    refused(&[("a.txt", "\n\n")], &prediction(), "a.txt: there is no source text here, read as text; ");
    refused(&[("a.csv", "source,target\n")], &options, "a.csv: there is no source text here, read as csv; ");
    let expected = "a.en, a.de: there is no source text here, read as parallel; ";
    refused(&[("a.en", "\n\n"), ("a.de", "\n\n")], &options, expected);
}

#[test]
fn both_files_are_in_the_encoding_that_is_named() {
    let files = files(&[("a.en", b"caf\xe9\n"), ("a.de", b"na\xefv\n")]);
    let options = PairOptions { encoding: Some("latin-1".to_owned()), ..PairOptions::default() };
    assert_eq!(read_pairs(&files.paths, &options).unwrap(), [pair("café", "naïv", 1)]);
    let message = read_pairs(&files.paths, &PairOptions::default()).unwrap_err().to_string();
    assert!(message.contains("a.en:1: byte 4 of the line is not UTF-8"), "{message}");
}

#[test]
fn a_stream_ends_with_its_first_error_and_can_be_sent() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let files = files(&[("a.en", b"a\n\nc\nd\n"), ("a.de", b"x\ny\nz\nu\n")]);
    let mut stream = is_send(stream_pairs(&files.paths, &PairOptions::default()).unwrap());
    assert_eq!(stream.format(), PairFormat::Parallel);
    assert_eq!(stream.next().unwrap().unwrap(), pair("a", "x", 1));
    assert!(stream.next().unwrap().is_err());
    assert!(stream.next().is_none() && stream.next().is_none());
}

/// Anything that is not blank, rich in what means something to a format.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a\",;'\\\\\t\r\n {}é花]{1,12}", any::<String>()]
        .prop_filter("a blank text is an error", |text| !text.trim().is_empty())
}

/// A record as RFC 4180 has it, every field in quotes.
fn write_record<const N: usize>(content: &mut String, fields: [&str; N]) {
    let quoted = fields.map(|field| format!("\"{}\"", field.replace('"', "\"\"")));
    *content += &format!("{}\r\n", quoted.join(","));
}

proptest! {
    #[test]
    fn pairs_written_as_csv_come_back(pairs in prop::collection::vec((text(), text()), 1..8)) {
        let mut content = String::new();
        write_record(&mut content, ["source", "id", "target"]);
        for (source, target) in &pairs {
            write_record(&mut content, [source, "", target]);
        }
        assert_same(read("a.csv", &content, &PairOptions::default()).unwrap(), &pairs)?;
    }

    #[test]
    fn pairs_written_as_json_come_back(pairs in prop::collection::vec((text(), text()), 1..8)) {
        let lines = pairs.iter().map(|(source, target)| serde_json::json!({"target": target, "source": source}));
        let content = lines.map(|line| line.to_string()).collect::<Vec<_>>().join("\n");
        assert_same(read("a.jsonl", &content, &PairOptions::default()).unwrap(), &pairs)?;
    }
}

fn assert_same(read: Vec<Pair>, written: &[(String, String)]) -> std::result::Result<(), TestCaseError> {
    let read: Vec<_> = read.into_iter().map(|pair| (pair.source, pair.target.unwrap())).collect();
    prop_assert_eq!(read, written);
    Ok(())
}

#[test]
fn real_data_has_its_published_counts() {
    let Some(data) = std::env::var_os("QKV_DATA").map(PathBuf::from) else {
        eprintln!("skipped: QKV_DATA is not set");
        return;
    };
    for (paths, format, count) in [
        (&["multi30k/train.en", "multi30k/train.de"][..], PairFormat::Parallel, 29000),
        (&["multi30k/val.en", "multi30k/val.de"], PairFormat::Parallel, 1014),
        (&["multi30k/test_2016_flickr.en", "multi30k/test_2016_flickr.de"], PairFormat::Parallel, 1000),
        (&["scan/tasks_train_simple.txt"], PairFormat::InOut, 16728),
        (&["scan/tasks_test_length.txt"], PairFormat::InOut, 3920),
        (&["g2p/fre_train.tsv"], PairFormat::Tabs, 3600),
        (&["g2p/hun_dev.tsv"], PairFormat::Tabs, 450),
        (&["g2p/kor_test.tsv"], PairFormat::Tabs, 450),
    ] {
        let paths: Vec<String> = paths.iter().map(|path| data.join(path).to_str().unwrap().to_owned()).collect();
        assert_eq!(stream_pairs(&paths, &PairOptions::default()).unwrap().format(), format, "{paths:?}");
        assert_eq!(read_pairs(&paths, &PairOptions::default()).unwrap().len(), count, "{paths:?}");
    }
}
