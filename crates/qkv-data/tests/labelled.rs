//! Labelled texts through the public door: every format, every way to break one, and that texts come back as written.

// In a test a panic is the report.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::PathBuf;

use proptest::prelude::*;
use qkv_data::builtin::{Part, RecallOptions, recall};
use qkv_data::{
    Error, Group, LabelledFormat, LabelledOptions, LabelledText, Result, numbers, read_labelled, stream_labelled,
};
use tempfile::TempDir;

fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn read(name: &str, content: &str, options: &LabelledOptions) -> Result<Vec<LabelledText>> {
    let (_folder, path) = file(name, content.as_bytes());
    read_labelled(&path, options)
}

fn prediction() -> LabelledOptions {
    LabelledOptions { need_labels: false, ..LabelledOptions::default() }
}

fn as_format(format: LabelledFormat) -> LabelledOptions {
    LabelledOptions { format: Some(format), ..LabelledOptions::default() }
}

fn columns(text: &str, label: &str) -> LabelledOptions {
    LabelledOptions { text: Some(text.to_owned()), label: Some(label.to_owned()), ..LabelledOptions::default() }
}

/// Checks that the error is one line that begins with the file and `expected`.
fn refused(name: &str, content: &str, options: &LabelledOptions, expected: &str) {
    let (folder, path) = file(name, content.as_bytes());
    let message = read_labelled(&path, options).unwrap_err().to_string();
    let message = message.strip_prefix(&format!("{}/", folder.path().display())).unwrap();
    assert!(message.starts_with(&format!("{name}{expected}")) && !message.contains('\n'), "{message}");
    assert!(message.contains("; "), "nothing to mend it: {message}");
}

fn labelled(text: &str, label: &str, line: usize) -> LabelledText {
    LabelledText { text: text.to_owned(), label: Some(label.to_owned()), line, group: None }
}

fn unlabelled(text: &str, line: usize) -> LabelledText {
    LabelledText { text: text.to_owned(), label: None, line, group: None }
}

#[test]
fn every_format_gives_the_same_texts() {
    let expected = [labelled("Who, me?", "1", 2), labelled("花 \"x\"", "no", 4)];
    let options = LabelledOptions::default();
    for (name, content) in [
        ("label.text", "\n1 Who, me?\r\n\nno  花 \"x\""),
        ("label.tab", " \n1\tWho, me?\n\nno \t花 \"x\"\n"),
        ("a.csv", "text,label\n\"Who, me?\",1\n\n\"花 \"\"x\"\"\", no\n"),
        ("a.tsv", "label\tid\ttext\n1\t7\tWho, me?\n\nno\t8\t花 \"x\"\n"),
        ("a.jsonl", "\n{\"label\": 1, \"text\": \"Who, me?\"}\n\n{\"text\": \"花 \\\"x\\\"\", \"label\": \" no\"}\n"),
    ] {
        assert_eq!(read(name, content, &options).unwrap(), expected, "{name}");
        assert_eq!(read(name, content, &prediction()).unwrap().len(), 2, "{name}");
    }
}

#[test]
fn labels_are_kept_where_none_are_needed() {
    for (name, content) in
        [("a.tab", "x\tone\n"), ("a.csv", "label,text\nx,one\n"), ("a.jsonl", "{\"label\":\"x\",\"text\":\"one\"}\n")]
    {
        assert_eq!(read(name, content, &prediction()).unwrap()[0].label.as_deref(), Some("x"), "{name}");
    }
    let options = LabelledOptions { need_labels: false, ..as_format(LabelledFormat::LabelText) };
    assert_eq!(read("a", "x one\n", &options).unwrap(), [labelled("one", "x", 1)]);
}

#[test]
fn where_no_labels_are_needed_they_may_be_missing() {
    let expected = [unlabelled("one", 1)];
    assert_eq!(read("a.txt", "one\n\n", &prediction()).unwrap(), expected);
    assert_eq!(read("a.jsonl", "{\"text\":\"one\",\"label\":null}", &prediction()).unwrap(), expected);
    let options = LabelledOptions { format: Some(LabelledFormat::LabelTab), ..prediction() };
    assert_eq!(read("a", "one\n\ttwo\n", &options).unwrap(), [unlabelled("one", 1), unlabelled("two", 2)]);
    let options = LabelledOptions { need_labels: false, ..columns("t", "gold") };
    assert_eq!(read("a.csv", "id,t\n7,one\n", &options).unwrap(), [unlabelled("one", 2)]);
    assert_eq!(read("a.csv", "t,gold\none, \n", &options).unwrap(), [unlabelled("one", 2)]);
    // The first object lacks the label that the second has.
    let content = "{\"t\":\"one\"}\n{\"t\":\"two\",\"gold\":\"x\"}\n";
    assert_eq!(read("a.jsonl", content, &options).unwrap(), [unlabelled("one", 1), labelled("two", "x", 2)]);
}

#[test]
fn blank_lines_of_plain_text_are_texts_where_they_are_to_be_kept() {
    let options = LabelledOptions { keep_blank: true, ..prediction() };
    let expected = [unlabelled("", 1), unlabelled("one", 2), unlabelled("", 3), unlabelled("two", 4)];
    assert_eq!(read("a.txt", "\none\n \t\r\ntwo\n", &options).unwrap(), expected);
    assert_eq!(read("a.csv", "text\n\none\n", &options).unwrap(), [unlabelled("one", 3)], "a record has columns");
    assert_eq!(read("a.jsonl", "\n{\"text\":\"one\"}\n", &options).unwrap(), [unlabelled("one", 2)]);
}

#[test]
fn json_labels_may_be_numbers_and_truth_values() {
    let content = "{\"text\":\"a\",\"label\":-1.5}\n{\"text\":\"b\",\"label\":true}\n";
    let texts = read("a.jsonl", content, &LabelledOptions::default()).unwrap();
    assert_eq!(texts, [labelled("a", "-1.5", 1), labelled("b", "true", 2)]);
}

#[test]
fn columns_may_be_named() {
    let options = columns("smiles", "measured log");
    let content = "Compound,measured log,smiles\n\"a, b\",-0.5,CC O\n";
    assert_eq!(read("a.csv", content, &options).unwrap(), [labelled("CC O", "-0.5", 2)]);
    assert_eq!(read("a.tsv", "measured log\tsmiles\n1\tC\n", &options).unwrap(), [labelled("C", "1", 2)]);
    let content = "{\"smiles\":\"C\",\"text\":\"D\",\"measured log\":2}";
    assert_eq!(read("a.jsonl", content, &options).unwrap(), [labelled("C", "2", 1)]);
    let expected = ":1: there is no column \"smiles\" (data.text); did you mean \"smile\"? there are \"smile\", \"y\"";
    refused("a.csv", "smile,y\nC,1\n", &options, expected);
    refused("a.tsv", "smile\ty\nC\t1\n", &options, expected);
    refused("a.jsonl", "{\"smile\":\"C\"}\n", &options, ":1: there is no key \"smiles\" (data.text); did you mean");
}

#[test]
fn a_record_is_named_by_the_line_it_begins_on() {
    let content = "text,label\n\"one\n\ntwo\",1\nthree,2\n";
    let texts = read("a.csv", content, &LabelledOptions::default()).unwrap();
    assert_eq!(texts, [labelled("one\n\ntwo", "1", 2), labelled("three", "2", 5)]);
}

#[test]
fn any_encoding_can_be_named() {
    let options = LabelledOptions { encoding: Some("latin-1".to_owned()), ..LabelledOptions::default() };
    for (name, content) in [("a", &b"0 caf\xe9\n"[..]), ("a.csv", b"label,text\n0,\"caf\xe9\"\n")] {
        let (_folder, path) = file(name, content);
        assert_eq!(read_labelled(&path, &options).unwrap()[0].text, "café");
        let message = read_labelled(&path, &LabelledOptions::default()).unwrap_err().to_string();
        assert!(message.contains("is not UTF-8; name the file's encoding"), "{message}");
    }
}

#[test]
fn malformed_lines_are_named() {
    let options = LabelledOptions::default();
    refused("labels", "0\n1\n0\n", &options, ":1: there is no text beside the label \"0\"");
    refused("labels", "0 fine\n1 \n", &options, ":2: there is no text beside the label \"1\"");
    refused("a", " fine\n", &options, ":1: \"fine\" has no label, but labels are needed here");
    refused("a.tab", "x\tone\n\ttwo\n", &options, ":2: \"two\" has no label");
    refused("a.tab", "x\tone\ntwo\n", &options, ":2: \"two\" has no label");
    refused("a.tab", "x\tone\nx\t\n", &options, ":2: there is no text beside the label \"x\"");
    refused("a.tab", "x\tone\nx\ta\tb\n", &options, ":2: expected label, tab, text, found 2 tabs");
    refused("a.tsv", "x one\n", &options, ":1: \"x one\" has no label");
}

#[test]
fn malformed_records_are_named() {
    let options = LabelledOptions::default();
    refused("a.csv", "id,a,b\n", &options, ":1: no column has a usual name of a text");
    refused("a.csv", "text\none\n", &options, ":1: no column has a usual name of a label");
    refused("a.csv", "text,label\n\none\n", &options, ":3: expected 2 columns as on line 1, found 1");
    refused("a.csv", "text,label\none, two,x\n", &options, ":2: expected 2 columns as on line 1, found 3");
    refused("a.tsv", "text\tlabel\none\n", &options, ":2: expected 2 columns as on line 1, found 1");
    refused("a.csv", "text,label\n\"\",x\n", &options, ":2: there is no text beside the label \"x\"");
    refused("a.csv", "text,label\n , \n", &options, ":2: the text is empty");
    refused("a.csv", "text,label\none,\n", &options, ":2: \"one\" has no label, but labels are needed here");
    refused("a.csv", "text,label\none,x\n\"two,y\nthree,z\n", &options, ":3: the record that begins here has a quote");
}

#[test]
fn malformed_objects_are_named() {
    let options = LabelledOptions::default();
    let good = "{\"text\":\"a\",\"label\":\"x\"}\n";
    for (line, expected) in [
        ("{\"text\":\"a\",}", "this is not valid JSON (trailing comma, column 13)"),
        ("{\"text\":\"a", "this is not valid JSON (EOF while parsing a string, column 10)"),
        ("[{\"text\":\"a\"}]", "expected a JSON object, found an array"),
        ("{\"label\":\"x\"}", "there is no key \"text\" (data.text); there are \"label\""),
        ("{\"text\":\"a\",\"labl\":1}", "there is no key \"label\" (data.label); did you mean \"labl\"?"),
        ("{\"text\":7,\"label\":\"x\"}", "the text, key \"text\", is a number, not a string"),
        ("{\"text\":null,\"label\":\"x\"}", "the text, key \"text\", is null, not a string"),
        ("{\"text\":\"a\",\"label\":[1]}", "the label, key \"label\", is an array, not a string, a number"),
        ("{\"text\":\"a\",\"label\":null}", "\"a\" has no label"),
        ("{\"text\":\"a\",\"label\":\" \"}", "\"a\" has no label"),
        ("{\"text\":\" \",\"label\":\"x\"}", "there is no text beside the label \"x\""),
    ] {
        refused("a.jsonl", &format!("{good}{line}\n"), &options, &format!(":2: {expected}"));
    }
    refused("a.jsonl", "{}\n", &options, ":1: no key has a usual name of a text");
}

#[test]
fn a_file_without_texts_is_an_error() {
    let options = LabelledOptions::default();
    for (name, content, format) in [
        ("a", "", "label-text"),
        ("a", "\n \n", "label-text"),
        ("a.csv", "", "csv"),
        ("a.csv", "text,label\n", "csv"),
        ("a.tsv", "text\tlabel\n", "tsv"),
        ("a.jsonl", "\n", "jsonl"),
    ] {
        refused(name, content, &options, &format!(": there is no text in this {format} file"));
    }
    refused("a.tsv", "\n", &as_format(LabelledFormat::Tsv), ": there is no text in this tsv file");
    refused("a.txt", "", &prediction(), ": there is no text in this text file");
}

#[test]
fn plain_text_has_no_labels() {
    refused("a.txt", "one\n", &as_format(LabelledFormat::Text), ": is plain text, which has no labels");
}

#[test]
fn a_line_without_an_end_is_an_error() {
    let (_folder, path) = file("a.csv", b"");
    // A file with a hole takes no room.
    File::create(&path).unwrap().set_len((64 << 20) + 1).unwrap();
    let message = read_labelled(&path, &LabelledOptions::default()).unwrap_err().to_string();
    assert!(message.contains("a.csv:1: the line is longer than 67108864 bytes"), "{message}");
}

#[test]
fn a_stream_ends_with_its_first_error_and_can_be_sent() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let (_folder, path) = file("a.tab", b"x\tone\ntwo\nx\tthree\n");
    let mut stream = is_send(stream_labelled(&path, &LabelledOptions::default()).unwrap());
    assert_eq!(stream.format(), Some(LabelledFormat::LabelTab));
    assert_eq!(stream.next().unwrap().unwrap(), labelled("one", "x", 1));
    assert!(matches!(stream.next(), Some(Err(Error::Malformed { line: 2, .. }))));
    assert!(stream.next().is_none() && stream.next().is_none());
}

#[test]
fn recall_is_read_by_part_with_its_distances() {
    let options = |part: Part| {
        let recall = RecallOptions { train: 30, dev: 14, ..RecallOptions::default() };
        LabelledOptions { part, recall, ..LabelledOptions::default() }
    };
    for (part, count) in [(Part::Train, 30), (Part::Dev, 14), (Part::Test, 2800)] {
        let texts = read_labelled("builtin:recall", &options(part)).unwrap();
        assert_eq!(texts.len(), count);
        for (index, text) in texts.iter().enumerate() {
            let drawn = recall(&RecallOptions::default(), part, index);
            assert_eq!((text.text.clone(), text.line), (drawn.words.join(" "), index + 1));
            assert_eq!(text.label.as_deref(), Some(drawn.answer().value));
            let Some(Group { by: "by_distance", from, to }) = text.group else { panic!("{:?}", text.group) };
            assert!((from..=to).contains(&drawn.answer().distance));
        }
    }
    assert_eq!(stream_labelled("builtin:recall", &prediction()).unwrap().format(), None);
    for (name, expected) in [
        ("films", "builtin:films: holds ratings, not labelled texts; name a file, or one of builtin:recall"),
        ("recal", "unknown builtin \"recal\"; did you mean recall? known are recall"),
    ] {
        let message = read_labelled(format!("builtin:{name}").as_str(), &prediction()).unwrap_err().to_string();
        assert_eq!(message, expected);
    }
}

#[test]
fn recall_never_changes_between_versions() {
    // What a model was judged by must be there for the next one.
    let sum = |text: &str| text.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let found = [Part::Train, Part::Dev, Part::Test].map(|part| {
        let text = recall(&RecallOptions::default(), part, 0);
        (text.answer().value, text.words.len(), sum(&text.words.join(" ")))
    });
    assert_eq!(found, PINNED);
}
const PINNED: [(&str, usize, u64); 3] = [
    ("orange", 13, 12_043_250_023_937_520_186),
    ("purple", 247, 10_669_877_121_569_605_307),
    ("white", 250, 2_320_105_625_121_747_962),
];

#[test]
fn labels_are_read_as_numbers() {
    let texts = |label: &str| [labelled("a", "-1.5e3", 1), labelled("b", label, 7)];
    assert_eq!(numbers(&texts("2"), "a.csv").unwrap(), [-1500.0, 2.0]);
    for label in ["", "one", "1,5", "nan", "inf", "-inf", "1e999"] {
        let message = numbers(&texts(label), "a.csv").unwrap_err().to_string();
        assert!(message.starts_with(&format!("a.csv:7: the label {label:?} is not a finite number; ")), "{message}");
    }
    let message = numbers(&[unlabelled("a", 3)], "a.csv").unwrap_err().to_string();
    assert!(message.starts_with("a.csv:3: \"a\" has no label, but a number is needed here; "), "{message}");
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
    fn texts_written_as_csv_come_back(texts in prop::collection::vec((text(), text()), 1..8)) {
        let mut content = String::new();
        write_record(&mut content, ["label", "text"]);
        for (text, label) in &texts {
            write_record(&mut content, [label, text]);
        }
        assert_same(&read("a.csv", &content, &LabelledOptions::default()).unwrap(), &texts)?;
    }

    #[test]
    fn texts_written_as_json_come_back(texts in prop::collection::vec((text(), text()), 1..8)) {
        let lines = texts.iter().map(|(text, label)| serde_json::json!({"text": text, "label": label}).to_string());
        let content = lines.collect::<Vec<_>>().join("\n");
        assert_same(&read("a.jsonl", &content, &LabelledOptions::default()).unwrap(), &texts)?;
    }
}

fn assert_same(read: &[LabelledText], written: &[(String, String)]) -> std::result::Result<(), TestCaseError> {
    let read: Vec<_> = read.iter().map(|read| (read.text.as_str(), read.label.as_deref().unwrap())).collect();
    let written: Vec<_> = written.iter().map(|(text, label)| (text.as_str(), label.trim())).collect();
    prop_assert_eq!(read, written);
    Ok(())
}

#[test]
fn real_data_has_its_published_counts() {
    let Some(data) = std::env::var_os("QKV_DATA").map(PathBuf::from) else {
        eprintln!("skipped: QKV_DATA is not set");
        return;
    };
    for (path, encoding, count, classes) in [
        ("trec/TREC.train.all", "latin-1", 5452, 6),
        ("trec/TREC.test.all", "latin-1", 500, 6),
        ("sst2/stsa.binary.train", "utf-8", 6920, 2),
        ("sst2/stsa.binary.dev", "utf-8", 872, 2),
        ("sst2/stsa.binary.test", "utf-8", 1821, 2),
    ] {
        let options = LabelledOptions { encoding: Some(encoding.to_owned()), ..LabelledOptions::default() };
        let texts = read_labelled(data.join(path), &options).unwrap();
        let labels: std::collections::BTreeSet<_> = texts.iter().map(|text| text.label.as_ref().unwrap()).collect();
        assert_eq!((texts.len(), labels.len()), (count, classes), "{path}");
    }
    let options = columns("smiles", "measured log solubility in mols per litre");
    let texts = read_labelled(data.join("molecules/ESOL_delaney-processed.csv"), &options).unwrap();
    assert_eq!(numbers(&texts, "ESOL").unwrap().len(), 1128);
}
