//! CoNLL-U through the public door: what is read, what is refused, and that nothing is lost in writing back.

// In a test a panic is the report.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use qkv_data::{Column, Format, ReadOptions, Result, Sentence, stream_reader, write_labelled};

const TWO: &str = "\
# text = I don't
1\tI\tI\tPRON\tPRP\tCase=Nom\t3\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\t_
3.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t_\t_

1\tYes\tyes\tINTJ\tUH\t_\t0\troot\t_\t_
";

fn read(text: &str, options: &ReadOptions) -> Result<Vec<Sentence>> {
    stream_reader(std::io::Cursor::new(text.to_owned()), "x.conllu", options)?.collect()
}

fn message(text: &str) -> String {
    let message = read(text, &ReadOptions::default()).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

fn write_back(sentences: &[Sentence], label: Column, labels: impl Fn(&Sentence) -> Vec<String>) -> String {
    let mut out = Vec::new();
    for sentence in sentences {
        write_labelled(sentence, label, &labels(sentence), &mut out).unwrap();
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn multiword_tokens_and_empty_nodes_are_no_words() {
    let sentences = read(TWO, &ReadOptions::default()).unwrap();
    assert_eq!(sentences.len(), 2);
    assert_eq!(sentences[0].words, ["I", "do", "n't"]);
    assert_eq!(sentences[0].labels.as_deref().unwrap(), ["PRON", "AUX", "PART"]);
    assert_eq!((sentences[0].line, sentences[0].word_lines.as_slice()), (2, &[2, 4, 5][..]));
    assert_eq!((sentences[1].line, sentences[1].words.as_slice()), (8, &["Yes".to_owned()][..]));
}

#[test]
fn any_column_is_the_label() {
    for (label, expected) in [
        (Column::Xpos, ["PRP", "VBP", "RB"]),
        (Column::Feats, ["Case=Nom", "_", "_"]),
        (Column::Deprel, ["nsubj", "root", "advmod"]),
        (Column::Lemma, ["I", "do", "not"]),
        (Column::Head, ["3", "0", "2"]),
    ] {
        let sentences = read(TWO, &ReadOptions { label, ..ReadOptions::default() }).unwrap();
        assert_eq!(sentences[0].labels.as_deref().unwrap(), expected);
        assert_eq!(label.name().to_uppercase().parse::<Column>().unwrap(), label);
    }
    let message = "upso".parse::<Column>().unwrap_err().to_string();
    assert!(message.contains("unknown data.label \"upso\"; did you mean upos?"), "{message}");
}

#[test]
fn only_the_labels_column_changes() {
    let sentences = read(TWO, &ReadOptions::default()).unwrap();
    let written = write_back(&sentences, Column::Upos, |sentence| vec!["X".to_owned(); sentence.words.len()]);
    let expected = TWO.replace("\tPRON\t", "\tX\t").replace("\tAUX\t", "\tX\t").replace("\tPART\t", "\tX\t");
    assert_eq!(written, expected.replace("\tINTJ\t", "\tX\t"));
    let misc = write_back(&sentences[1..], Column::Misc, |_| vec![String::new()]);
    assert_eq!(misc, "1\tYes\tyes\tINTJ\tUH\t_\t0\troot\t_\t_\n", "no label is written _");
    let error = write_labelled(&sentences[0], Column::Upos, &["X"], &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("line 2 has 3 words but 1 labels"), "{error}");
}

#[test]
fn malformed_lines_are_named() {
    for (text, expected) in [
        (
            "# c\n1\tAl\tAl\n",
            "x.conllu:2: expected 10 tab-separated columns, found 3; is this CoNLL-U? give --format or set data.format if it is another format",
        ),
        ("1\ta\t_\tX\t_\t_\t_\t_\t_\t_\t_\n", "x.conllu:1: expected 10 tab-separated columns, found 11"),
        ("\n\t\t\t\t\t\t\t\t\tx\n", "x.conllu:2: the first column is \"\", not a word's number"),
        ("one\ta\t_\tX\t_\t_\t_\t_\t_\t_\n", "x.conllu:1: the first column is \"one\", not a word's number"),
        ("1\t\t_\tX\t_\t_\t_\t_\t_\t_\n", "x.conllu:1: the second column (FORM) is empty"),
        ("1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n", "x.conllu:1: the column upos is \"_\", but labels are needed here"),
        ("2\ta\t_\tX\t_\t_\t_\t_\t_\t_\n", "x.conllu:1: found word 2 where word 1 is next"),
        (
            "1\ta\t_\tX\t_\t_\t_\t_\t_\t_\n1\ta\t_\tX\t_\t_\t_\t_\t_\t_\n",
            "x.conllu:2: word 1 follows word 1; put a blank line between two sentences",
        ),
        ("99999999999999999999999\ta\t_\tX\t_\t_\t_\t_\t_\t_\n", "x.conllu:1: found word 18446744073709551615 where"),
    ] {
        let message = message(text);
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn nothing_follows_an_error() {
    let mut stream = stream_reader("x\n\n1\ta".as_bytes(), "x.conllu", &ReadOptions::default()).unwrap();
    assert_eq!(stream.format(), Some(Format::Conllu));
    assert!(stream.next().unwrap().is_err());
    assert!(stream.next().is_none());
}

#[test]
fn labels_may_be_missing_where_none_are_needed() {
    let options = ReadOptions { need_labels: false, ..ReadOptions::default() };
    let sentences = read("1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n2\tb\t_\tX\t_\t_\t_\t_\t_\t_\n", &options).unwrap();
    assert_eq!((sentences[0].words.len(), &sentences[0].labels), (2, &None));
}

#[test]
fn a_word_of_a_megabyte_is_a_word() {
    let word = "x".repeat(1 << 20);
    let sentences = read(&format!("1\t{word}\t_\tX\t_\t_\t_\t_\t_\t_\n"), &ReadOptions::default()).unwrap();
    assert_eq!(sentences[0].words, [word]);
}

#[test]
fn comments_and_blank_lines_survive_wherever_they_stand() {
    for text in ["\n\n# a\n\n# b\n1\ta\t_\tX\t_\t_\t_\t_\t_\t_\n\n\n# end\n", "# only\n", "\r\n", " \t\n"] {
        let sentences = read(text, &ReadOptions::default()).unwrap();
        assert_eq!(write_back(&sentences, Column::Upos, |sentence| sentence.labels.clone().unwrap()), text);
    }
}

fn cell() -> impl Strategy<Value = String> {
    "[a-zA-ZäÉ上花0-9_|=:. '\"#-]{0,6}[a-z花]"
}

/// A line's end, an ordinary word's line, and now and then one that is none.
fn sentence() -> impl Strategy<Value = String> {
    let word = (prop::collection::vec(cell(), 9), 0..6u8);
    let words = prop::collection::vec(word, 1..6);
    (prop::collection::vec("# ?[a-z\t=花 ]{0,9}", 0..3), words, prop::bool::ANY, 1..3usize).prop_map(
        |(comments, words, carriage, blanks)| {
            let mut lines = comments;
            for (index, (cells, extra)) in words.into_iter().enumerate() {
                let (id, rest) = (index + 1, cells.join("\t"));
                match extra {
                    0 => lines.push(format!("{id}-{}\t{rest}", id + 1)),
                    1 => lines.push(format!("{index}.1\t{rest}")),
                    2 => lines.push("# within".to_owned()),
                    _ => {}
                }
                lines.push(format!("{id}\t{rest}"));
            }
            lines.extend(vec![String::new(); blanks]);
            let end = if carriage { "\r\n" } else { "\n" };
            lines.iter().flat_map(|line| [line, end]).collect()
        },
    )
}

proptest! {
    #[test]
    fn reading_and_writing_the_same_labels_changes_no_byte(
        sentences in prop::collection::vec(sentence(), 1..5),
        cut_end: bool,
        label in prop::sample::select(Column::ALL.to_vec()),
    ) {
        let text: String = sentences.concat();
        let text = if cut_end { text.trim_end_matches(['\r', '\n']) } else { &text };
        let read = read(text, &ReadOptions { label, ..ReadOptions::default() }).unwrap();
        prop_assert_eq!(read.iter().filter(|sentence| !sentence.words.is_empty()).count(), sentences.len());
        let written = write_back(&read, label, |sentence| sentence.labels.clone().unwrap());
        prop_assert_eq!(written, text);
    }
}
