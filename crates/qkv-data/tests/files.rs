//! Whole files: the ones that are fine, and the ones that must be refused in one line.

// In a test a panic is the report.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use qkv_data::{
    Column, Error, Format, ReadOptions, Result, Sentence, Vocabulary, VocabularyOptions, check_lengths, read_tagged,
    read_vectors, stream, stream_reader, write_labelled,
};
use tempfile::TempDir;

fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn message(name: &str, bytes: &[u8]) -> String {
    let (_folder, path) = file(name, bytes);
    let message = read_tagged(&path, &ReadOptions::default()).unwrap_err().to_string();
    assert!(!message.contains('\n') && message.contains(name), "{message}");
    message
}

#[test]
fn a_file_without_sentences_is_an_error() {
    for (name, bytes, format) in [
        ("e.conllu", &b""[..], "conllu"),
        ("c.conllu", b"# only\n# comments\n\n", "conllu"),
        ("b.tsv", b"\n\t\n \n", "columns"),
        ("bom.tsv", b"\xef\xbb\xbf", "columns"),
        ("d.conll", b"-DOCSTART-\tO\n", "columns"),
        ("e.txt", b"\n\n", "text"),
    ] {
        let message = message(name, bytes);
        assert!(message.contains(&format!("{name}: there is no sentence in this {format} file")), "{message}");
    }
}

#[test]
fn text_has_no_labels_to_train_on() {
    assert!(message("a.txt", b"word\n").contains("a.txt: is plain text, which has no labels"));
}

#[test]
fn bytes_that_are_not_utf8_are_named_in_every_format() {
    assert!(message("a.conllu", b"1\tcaf\xe9\t_\tX\t_\t_\t_\t_\t_\t_\n").contains("a.conllu:1: byte 6 of the line"));
    assert!(message("a.tsv", b"a\tO\n\xff\tO\n").contains("a.tsv:2: byte 1 of the line is not UTF-8"));
    let options = ReadOptions { need_labels: false, ..ReadOptions::default() };
    let mut lines = stream_reader(&b"one\ntw\xc3"[..], "-", &options).unwrap();
    assert!(lines.next().unwrap().is_ok());
    assert!(lines.next().unwrap().unwrap_err().to_string().contains("-:2: byte 3 of the line"));
    let (_folder, path) = file("a.vec", b"a 1\n\xff 2\n");
    let vocabulary = Vocabulary::build(["a"], &VocabularyOptions::default());
    assert!(read_vectors(&path, &vocabulary).unwrap_err().to_string().contains("a.vec:2: byte 1"));
}

#[test]
fn an_encoding_can_be_named() {
    let (_folder, path) = file("a.tsv", b"caf\xe9\tO\n");
    let options = ReadOptions { encoding: Some("latin-1".to_owned()), ..ReadOptions::default() };
    assert_eq!(read_tagged(&path, &options).unwrap()[0].words, ["café"]);
    let options = ReadOptions { encoding: Some("klingon".to_owned()), ..ReadOptions::default() };
    assert!(matches!(read_tagged(&path, &options), Err(Error::UnknownName { kind: "data.encoding", .. })));
}

#[test]
fn text_is_streamed_with_its_blank_lines() {
    let options = ReadOptions { need_labels: false, ..ReadOptions::default() };
    let (_folder, path) = file("a.txt", b"\xef\xbb\xbfI saw a saw.\r\n\r\n  \nYes");
    let sentences: Vec<Sentence> = stream(&path, &options).unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(sentences.iter().map(|sentence| sentence.words.len()).collect::<Vec<_>>(), [5, 0, 0, 1]);
    assert_eq!((sentences[3].line, sentences[3].word_lines.as_slice()), (4, &[4][..]));
    let mut out = Vec::new();
    for sentence in &sentences {
        write_labelled(sentence, Column::Upos, &vec!["T"; sentence.words.len()], &mut out).unwrap();
    }
    assert_eq!(String::from_utf8(out).unwrap(), "I_T saw_T a_T saw_T ._T\n\n\nYes_T\n");
    let plain = ReadOptions { tokenize: false, ..options };
    assert_eq!(stream(&path, &plain).unwrap().next().unwrap().unwrap().words, ["I", "saw", "a", "saw."]);
}

#[test]
fn a_line_of_twenty_thousand_words_is_a_sentence() {
    let text = "word ".repeat(20_000);
    let options = ReadOptions { need_labels: false, ..ReadOptions::default() };
    let sentence = stream_reader(std::io::Cursor::new(text), "-", &options).unwrap().next().unwrap().unwrap();
    assert_eq!(sentence.words.len(), 20_000);
}

#[test]
fn a_sentence_beyond_the_limit_is_named_by_its_line() {
    let (_folder, path) = file("a.tsv", b"a\tO\n\nb\tO\nc\tO\n");
    let sentences = read_tagged(&path, &ReadOptions::default()).unwrap();
    check_lengths(&sentences, &path, 2).unwrap();
    let message = check_lengths(&sentences, &path, 1).unwrap_err().to_string();
    assert!(message.contains("a.tsv:3: the sentence that starts here has 2 tokens"), "{message}");
    assert!(message.contains("raise data.max_tokens"), "{message}");
}

#[test]
fn a_refusing_output_is_an_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sentence = Sentence::from_words(vec!["a".to_owned()]);
    assert!(matches!(write_labelled(&sentence, Column::Upos, &["X"], &mut Full), Err(Error::Io { .. })));
}

#[test]
fn builtin_data_is_read_by_its_name() {
    let sentences = read_tagged("builtin:homographs", &ReadOptions::default()).unwrap();
    assert!(sentences.iter().all(|sentence| sentence.labels.as_ref().unwrap().len() == sentence.words.len()));
    let message = read_tagged("builtin:homograph", &ReadOptions::default()).unwrap_err().to_string();
    assert!(message.contains("did you mean homographs?"), "{message}");
}

#[test]
fn readers_can_be_sent_to_another_thread() {
    fn is_send<T: Send>(_: T) {}
    is_send(
        stream_reader("a\n".as_bytes(), "-", &ReadOptions { need_labels: false, ..ReadOptions::default() }).unwrap(),
    );
}

#[test]
fn real_data_has_its_published_counts() {
    let Some(data) = std::env::var_os("QKV_DATA").map(PathBuf::from) else {
        eprintln!("skipped: QKV_DATA is not set");
        return;
    };
    for (path, count) in [
        ("ud_english_ewt/en_ewt-ud-train.conllu", 12544),
        ("ud_english_ewt/en_ewt-ud-dev.conllu", 2001),
        ("ud_english_ewt/en_ewt-ud-test.conllu", 2077),
        ("ud_chinese_gsd/zh-ud-train.conllu", 3997),
        ("ud_chinese_gsd/zh-ud-dev.conllu", 500),
        ("ud_chinese_gsd/zh-ud-test.conllu", 500),
        ("wnut17/wnut17train.conll", 3394),
        ("wnut17/emerging.dev.conll", 1009),
        ("wnut17/emerging.test.annotated", 1287),
    ] {
        let path = data.join(path);
        for need_labels in [true, false] {
            let options = ReadOptions { need_labels, ..ReadOptions::default() };
            assert_eq!(read_tagged(&path, &options).unwrap().len(), count, "{}", path.display());
        }
        let mut out = Vec::new();
        let stream = stream(&path, &ReadOptions::default()).unwrap();
        assert_ne!(stream.format(), Some(Format::Text));
        for sentence in stream {
            let sentence = sentence.unwrap();
            write_labelled(&sentence, Column::Upos, sentence.labels.as_ref().unwrap(), &mut out).unwrap();
        }
        assert!(out == fs::read(&path).unwrap(), "{} changed in writing back", path.display());
    }
}
