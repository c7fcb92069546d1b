//! Token and label columns through the public door.

// In a test a panic is the report.
#![allow(clippy::unwrap_used)]

use qkv_data::{Column, Format, ReadOptions, Result, Sentence, stream_reader, write_labelled};

fn options(need_labels: bool) -> ReadOptions {
    ReadOptions { need_labels, ..ReadOptions::default() }
}

fn read(text: &'static str, need_labels: bool) -> Result<Vec<Sentence>> {
    stream_reader(text.as_bytes(), "x.tsv", &options(need_labels))?.collect()
}

fn words(sentences: &[Sentence]) -> Vec<String> {
    sentences.iter().map(|sentence| sentence.words.join(" ")).collect()
}

#[test]
fn tokens_and_labels_are_read_whatever_their_blank_lines_look_like() {
    for text in
        ["a\tO\nb\tB-x\n\nc\tO\n", "a\tO\r\nb\tB-x\r\n\t\r\nc\tO", "\u{feff}\n\t\na\tO\nb\tB-x\n \t \n\n\t\nc\tO\n\t\n"]
    {
        let mut sentences = read(text, true).unwrap();
        sentences.retain(|sentence| !sentence.words.is_empty());
        assert_eq!(words(&sentences), ["a b", "c"], "{text:?}");
        assert_eq!(sentences[0].labels.as_deref().unwrap(), ["O", "B-x"]);
    }
    assert_eq!(read("a\tO\n\t\nc\tO", true).unwrap()[1].word_lines, [3]);
}

#[test]
fn the_first_column_is_the_token_and_the_last_the_label() {
    let sentences = read("\"\tx\ty\tO\n a \t\t\t B-x \n", true).unwrap();
    assert_eq!(sentences[0].words, ["\"", "a"]);
    assert_eq!(sentences[0].labels.as_deref().unwrap(), ["O", "B-x"]);
}

#[test]
fn conll_2003_is_parted_by_spaces_and_documents() {
    let text =
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects  VBZ B-VP O\n-DOCSTART- -X- O\nPeter NNP B-NP B-PER\n";
    let sentences: Vec<_> =
        stream_reader(text.as_bytes(), "eng.train", &options(true)).unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(words(&sentences), ["EU rejects", "Peter"]);
    assert_eq!(sentences[0].labels.as_deref().unwrap(), ["B-ORG", "O"]);
    assert_eq!((sentences[0].line, sentences[1].line), (3, 6));
}

#[test]
fn malformed_lines_are_named() {
    for (text, expected) in [
        ("a\tO\nb\tx\tO\n", "x.tsv:2: expected 2 tab-separated columns as on line 1, found 3; give every line as many"),
        ("\na\tO\nb O\n", "x.tsv:3: expected 2 tab-separated columns as on line 2, found 1"),
        ("a O\nb\n", "x.tsv:2: expected 2 space-separated columns as on line 1, found 1"),
        ("a\tO\n\tO\n", "x.tsv:2: the first column (the token) is empty"),
        ("a\tO\nb\t\n", "x.tsv:2: \"b\" has no label, but labels are needed here"),
        ("a\nb\n", "x.tsv:1: \"a\" has no label, but labels are needed here"),
    ] {
        let message = read(text, true).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains('\n'));
    }
}

#[test]
fn without_need_of_labels_one_column_is_tokens() {
    let sentences = read("a\nb\n\nc\n", false).unwrap();
    assert_eq!(words(&sentences), ["a b", "c"]);
    assert!(sentences.iter().all(|sentence| sentence.labels.is_none()));
}

#[test]
fn predictions_replace_the_last_column_or_add_one() {
    for (text, expected) in [
        ("a\tO\r\n\t\nb\tO", "a\tX\r\n\t\nb\tX"),
        ("a x O\nb y  O \n\n\n", "a x X\nb y  X\n\n\n"),
        ("a\n\nb\n", "a\tX\n\nb\tX\n"),
        ("-DOCSTART- O\n\n a O\n", "-DOCSTART- O\n\n a X\n"),
    ] {
        let mut out = Vec::new();
        for sentence in read(text, false).unwrap() {
            write_labelled(&sentence, Column::Upos, &vec!["X"; sentence.words.len()], &mut out).unwrap();
        }
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn a_named_format_goes_before_what_the_file_looks_like() {
    let options = ReadOptions { format: Some(Format::Columns), need_labels: false, ..ReadOptions::default() };
    let stream = stream_reader("I\nsaw\n".as_bytes(), "x.txt", &options).unwrap();
    assert_eq!(stream.format(), Some(Format::Columns));
    assert_eq!(words(&stream.collect::<Result<Vec<_>>>().unwrap()), ["I saw"]);
}
