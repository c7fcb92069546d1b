//! Series in every format, what is refused, and what must hold of any.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::listing::ListedPart::{Dev, Test, Train};

const CSV: &str = "series,x,y,label,split\na,1,2,up,train\na,3,4,up,train\nb,5,6,down,test\n";

fn written(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let path = folder.path().join(files[0].0);
    (folder, path)
}

fn text(name: &str, text: &str, options: &SeriesOptions) -> Result<SeriesSet> {
    let (_folder, path) = written(&[(name, text.as_bytes().to_vec())]);
    read_series(&path, options)
}

fn unlabelled() -> SeriesOptions {
    SeriesOptions { need_labels: false, ..SeriesOptions::default() }
}

fn steps() -> SeriesOptions {
    SeriesOptions { level: LabelLevel::Step, ..SeriesOptions::default() }
}

fn message<T>(result: Result<T>) -> String {
    let message = result.err().expect("an error").to_string();
    assert!(!message.contains('\n') && message.contains("; "), "{message}");
    message
}

fn npy_of(version: u8, descr: &str, fortran: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

fn floats(shape: &str, values: &[f32]) -> Vec<u8> {
    npy_of(1, "<f4", "False", shape, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

fn labels_of(set: &SeriesSet) -> Vec<Option<&str>> {
    set.labels().iter().collect()
}

#[test]
fn long_form_makes_sequences_of_rows_that_follow_each_other() {
    for (name, given) in [("a.csv", CSV.to_owned()), ("a.tsv", CSV.replace(',', "\t")), ("a", CSV.to_owned())] {
        let set = text(name, &given, &SeriesOptions::default()).unwrap();
        assert_eq!((set.dim(), set.columns(), set.lengths()), (2, &["x".to_owned(), "y".to_owned()][..], vec![2, 1]));
        assert_eq!((set.values(0), set.values(1)), (&[1.0, 2.0, 3.0, 4.0][..], &[5.0, 6.0][..]));
        assert_eq!(labels_of(&set), [Some("up"), Some("down")]);
        assert_eq!(set.parts(), Some(&[Train, Test][..]));
        assert_eq!((set.name_of(1), set.lines()), (Some("b"), &[2, 4][..]));
        let set = text(name, &given, &steps()).unwrap();
        assert_eq!(labels_of(&set), [Some("up"), Some("up"), Some("down")]);
    }
    let options = SeriesOptions { columns: vec!["y".into()], series: Some("label".into()), ..unlabelled() };
    let set = text("a.csv", CSV, &options).unwrap();
    assert_eq!((set.values(0), set.name_of(0)), (&[2.0, 4.0][..], Some("up")));
    // Without a column that parts them, all rows are one sequence.
    let set =
        text("a.csv", "x,note\n1,a\n2,b\n", &SeriesOptions { ignore: vec!["note".into()], ..unlabelled() }).unwrap();
    assert_eq!((set.lengths(), set.labels().has_none()), (vec![2], true));
}

#[test]
fn objects_are_sequences() {
    let lines = "{\"vectors\":[[1,2],[3,4]],\"label\":\"up\",\"id\":7}\n\n{\"vectors\":[[5,6.5]],\"label\":2,\"split\":\"dev\"}\n";
    for name in ["a.jsonl", "a"] {
        let set = text(name, lines, &SeriesOptions::default()).unwrap();
        assert_eq!((set.values(1), set.lengths(), set.lines()), (&[5.0, 6.5][..], vec![2, 1], &[1, 3][..]));
        assert_eq!((labels_of(&set), set.name_of(0)), (vec![Some("up"), Some("2")], Some("7")));
        assert_eq!(set.parts(), Some(&[Train, Dev][..]));
    }
    let lines = "{\"values\":[1,2,3],\"labels\":[\"a\",null,\"b\"]}\n{\"values\":[4],\"labels\":[\"c\"]}\n";
    let set = text("a.jsonl", lines, &steps()).unwrap();
    assert_eq!((set.dim(), labels_of(&set)), (1, vec![Some("a"), None, Some("b"), Some("c")]));
    let named = SeriesOptions { label: Some("tags".into()), ..steps() };
    let tags = text("a.jsonl", &lines.replace("labels", "tags"), &named).unwrap();
    assert_eq!(labels_of(&tags), labels_of(&set));
}

#[test]
fn arrays_are_sequences() {
    let values: Vec<f32> = (0..12).map(|value| value as f32).collect();
    let labels = npy_of(
        2,
        "<U2",
        "False",
        "(2,)",
        &"a\0ü\0".chars().flat_map(|one| (one as u32).to_le_bytes()).collect::<Vec<_>>(),
    );
    for name in ["a-labels.npy", "a_labels.npy", "labels.npy"] {
        let (_folder, path) = written(&[("a.npy", floats("(2, 3, 2)", &values)), (name, labels.clone())]);
        let set = read_series(&path, &SeriesOptions::default()).unwrap();
        assert_eq!((set.dim(), set.lengths(), set.values(1)), (2, vec![3, 3], &values[6..]));
        assert_eq!(labels_of(&set), [Some("a"), Some("ü")]);
    }
    let (_folder, path) =
        written(&[("x.npy", floats("(4, 3)", &values)), ("y.npy", npy_of(1, "|i1", "False", "(4,)", &[0, 255, 1, 1]))]);
    for path in [path.as_path(), path.parent().unwrap()] {
        let set = read_series(path, &steps()).unwrap();
        assert_eq!((set.lengths(), labels_of(&set)), (vec![4], vec![Some("0"), Some("-1"), Some("1"), Some("1")]));
    }
    let per_step = npy_of(
        3,
        "<f8",
        "False",
        "(2, 2)",
        &[0.5, 1.0, 2.0, 2.5_f64].iter().flat_map(|one| one.to_le_bytes()).collect::<Vec<_>>(),
    );
    let (_folder, path) = written(&[("x.npy", floats("(2, 2, 3)", &values)), ("y.npy", per_step)]);
    assert_eq!(labels_of(&read_series(&path, &steps()).unwrap()), [Some("0.5"), Some("1"), Some("2"), Some("2.5")]);
    let (_folder, path) = written(&[("no-ending", floats("(12,)", &values))]);
    assert_eq!(read_series(&path, &unlabelled()).unwrap().values(0), values);
}

#[test]
fn a_folder_of_arrays_has_parts() {
    let (folder, _) = written(&[
        ("X_test.npy", floats("(1, 1, 1)", &[3.0])),
        ("y_test.npy", npy_of(1, "|u1", "False", "(1,)", &[3])),
        ("X_train.npy", floats("(2, 1, 1)", &[1.0, 2.0])),
        ("Y_train.npy", npy_of(1, "|b1", "False", "(2,)", &[0, 1])),
        ("x_val.npy", floats("(1, 2, 1)", &[4.0, 5.0])),
        ("y_val.npy", npy_of(1, "|S3", "False", "(1,)", b"ab\0")),
        ("xylophone.npy", vec![]),
    ]);
    let set = read_series(folder.path(), &SeriesOptions::default()).unwrap();
    assert_eq!(set.parts(), Some(&[Train, Train, Dev, Test][..]));
    assert_eq!(set.lengths(), [1, 1, 2, 1]);
    assert_eq!(labels_of(&set), [Some("false"), Some("true"), Some("ab"), Some("3")]);
    fs::write(folder.path().join("x.npy"), floats("(1, 1, 1)", &[3.0])).unwrap();
    assert!(message(read_series(folder.path(), &unlabelled())).contains("hold sequences of one part"));
    let empty = tempfile::tempdir().unwrap();
    assert!(message(read_series(empty.path(), &unlabelled())).contains("holds no arrays of sequences"));
}

#[test]
fn numbers_of_every_kind_are_read() {
    let one = |descr: &str, bytes: &[u8]| {
        let (_folder, path) = written(&[("a.npy", npy_of(1, descr, "False", "(1,)", bytes))]);
        read_series(&path, &unlabelled()).unwrap().values(0)[0]
    };
    for (descr, bytes, expected) in [
        ("<f4", &1.5_f32.to_le_bytes()[..], 1.5),
        (">f4", &1.5_f32.to_be_bytes(), 1.5),
        ("<f8", &(-2.5_f64).to_le_bytes(), -2.5),
        (">f8", &(-2.5_f64).to_be_bytes(), -2.5),
        ("<f2", &[0x00, 0xc1], -2.5),
        ("<f2", &[0x01, 0x00], 2_f32.powi(-24)),
        (">f2", &[0x7b, 0xff], 65504.0),
        ("<i2", &(-300_i16).to_le_bytes(), -300.0),
        (">i4", &(-70000_i32).to_be_bytes(), -70000.0),
        ("<i8", &(-5_i64).to_le_bytes(), -5.0),
        ("<u4", &u32::MAX.to_le_bytes(), u32::MAX as f32),
        ("<u8", &(1_u64 << 63).to_le_bytes(), 2_f32.powi(63)),
        ("|u1", &[200], 200.0),
        ("|b1", &[1], 1.0),
    ] {
        assert_eq!(one(descr, bytes), expected, "{descr}");
    }
}

#[test]
fn malformed_arrays_are_refused() {
    let huge = "(1099511627776, 1099511627776, 4)";
    for (bytes, what) in [
        (floats(huge, &[1.0]), "is cut off: 4 bytes are too few"),
        (floats("(1000000000000,)", &[1.0]), "is cut off"),
        (floats("(1,)", &[1.0, 2.0]), "goes on after the 4 bytes"),
        (floats("(1, 1, 1, 1)", &[1.0]), "has the shape [1, 1, 1, 1]"),
        (floats("()", &[1.0]), "has the shape []"),
        (floats("(0, 5, 2)", &[]), "holds no number"),
        (floats("(1, 1, 2)", &[1.0, f32::NAN]), "the number at [0, 0, 1] is NaN"),
        (floats("(2, 1, 1)", &[1.0, f32::INFINITY]), "the number at [1, 0, 0] is inf"),
        (npy_of(1, "<f8", "False", "(1,)", &1e300_f64.to_le_bytes()), "the number at [0, 0, 0]"),
        (npy_of(1, "<f4", "True", "(2, 2)", &[0; 16]), "has its first axis the fastest"),
        (npy_of(1, "|O", "False", "(1,)", &[0; 8]), "holds objects of Python"),
        (npy_of(1, "<c8", "False", "(1,)", &[0; 8]), "holds complex numbers"),
        (npy_of(1, "<M8[ns]", "False", "(1,)", &[0; 8]), "holds dates or times"),
        (npy_of(1, "ü4", "False", "(1,)", &[0; 8]), "holds values of the kind"),
        (npy_of(1, "<U0", "False", "(1099511627776, 1099511627776, 1099511627776)", &[]), "holds values of the kind"),
        (npy_of(1, "<U1", "False", "(1,)", &[65, 0, 0, 0]), "holds texts, not numbers"),
        (npy_of(9, "<f4", "False", "(1,)", &[0; 4]), "is of version 9"),
        (npy_of(1, "<f4", "False", "(x,)", &[0; 4]), "has a damaged header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "has a header of"),
        (b"something else".to_vec(), "does not begin as an NPY file"),
    ] {
        let (_folder, path) = written(&[("a.npy", bytes)]);
        let message = message(read_series(&path, &unlabelled()));
        assert!(message.contains(what), "{message} / {what}");
    }
    let whole = floats("(2, 2)", &[1.0; 4]);
    for length in 0..whole.len() {
        let (_folder, path) = written(&[("a.npy", whole[..length].to_vec())]);
        assert!(message(read_series(&path, &unlabelled())).contains("is cut off"), "{length}");
    }
    let labels = npy_of(1, "|u1", "False", "(3,)", &[0; 3]);
    let (_folder, path) = written(&[("x.npy", floats("(2, 2)", &[1.0; 4])), ("y.npy", labels)]);
    assert!(message(read_series(&path, &steps())).contains("has the shape [3], but"));
}

#[test]
fn malformed_texts_are_refused_by_line() {
    let (labelled, plain) = (SeriesOptions::default(), unlabelled());
    for (name, given, options, what) in [
        ("a.csv", "", &plain, "there is no sequence in it"),
        ("a.csv", "x\n", &plain, "there is no sequence in it"),
        ("a.csv", "x\n1\nnan\n", &plain, "a.csv:3: \"nan\" in the column \"x\" is not a finite number"),
        ("a.csv", "x,z\n1,\n", &plain, "a.csv:2: a number is missing in the column \"z\""),
        ("a.csv", "x,z\n1,two\n", &plain, "a.csv:2: \"two\" in the column \"z\" is not a number"),
        ("a.csv", "x\n1\n2,3\n", &plain, "a.csv:3: expected 1 columns"),
        ("a.csv", "series,x\na,1\nb,2\na,3\n", &plain, "a.csv:4: the sequence \"a\" goes on after others"),
        ("a.csv", "series,x\n,1\n", &plain, "a.csv:2: the step is of no sequence"),
        ("a.csv", "series\na\n", &plain, "there is a row without a number"),
        ("a.csv", "x\n1\n", &labelled, "a.csv:1: no column has a usual name of a label"),
        (
            "a.csv",
            "series,x,label\na,1,p\na,1,q\n",
            &labelled,
            "a.csv:2: the sequence that begins here has the labels \"p\" and \"q\"",
        ),
        ("a.csv", "series,x,label\na,1,p\nb,1,\n", &labelled, "a.csv:3: the sequence that begins here has no label"),
        ("a.csv", "series,x,split\na,1,dev\na,1,\n", &plain, "a.csv:3: the step is of another part"),
        ("a.csv", "x,split\n1,nose\n", &plain, "a.csv:2: \"nose\" is no part"),
        ("a.jsonl", "", &plain, "there is no sequence in it"),
        ("a.jsonl", "{\"values\":[1]}\n{\"values\":[]}", &plain, "a.jsonl:2: the sequence has no step"),
        (
            "a.jsonl",
            "{\"vectors\":[[1,2],[3]]}",
            &plain,
            "a.jsonl:1: step 2: a vector has 1 numbers where the first has 2",
        ),
        ("a.jsonl", "{\"vectors\":[[]]}", &plain, "a.jsonl:1: step 1: there is a vector without a number"),
        ("a.jsonl", "{\"vectors\":[1]}", &plain, "a.jsonl:1: step 1 is a number"),
        ("a.jsonl", "{\"values\":[1,null]}", &plain, "a.jsonl:1: step 2 lacks a number"),
        ("a.jsonl", "{\"values\":[\"1\"]}", &plain, "a.jsonl:1: step 1 holds a string"),
        ("a.jsonl", "{\"values\":[1e39]}", &plain, "is not a finite number"),
        ("a.jsonl", "{\"values\":[NaN]}", &plain, "a.jsonl:1: this is not valid JSON"),
        ("a.jsonl", "{\"values\":1}", &plain, "expected an array of steps, found a number"),
        ("a.jsonl", "{\"x\":1}", &plain, "there are neither vectors nor values"),
        ("a.jsonl", "{\"values\":[1],\"vectors\":[[1]]}", &plain, "there are both vectors and values"),
        ("a.jsonl", "{\"values\":[1],\"labels\":[]}", &plain, "there are 0 labels for 1 steps"),
        ("a.jsonl", "{\"values\":[1],\"label\":{}}", &plain, "the key \"label\" is an object"),
        ("a.jsonl", "{\"values\":[1]}", &labelled, "a.jsonl:1: the sequence that begins here has no label"),
        ("a.jsonl", "{\"values\":[1],\"label\":1}", &steps(), "has labels of whole sequences, not of steps"),
    ] {
        let message = message(text(name, given, options));
        assert!(message.contains(what), "{message} / {what}");
    }
    for options in [
        SeriesOptions { columns: vec!["z".into()], ..unlabelled() },
        SeriesOptions { ignore: vec!["z".into()], ..unlabelled() },
        SeriesOptions { series: Some("z".into()), ..unlabelled() },
        SeriesOptions { label: Some("z".into()), ..SeriesOptions::default() },
    ] {
        assert!(message(text("a.csv", "x\n1\n", &options)).contains("no column \"z\""));
    }
    assert!(message(read_series(Path::new("no/such.csv"), &unlabelled())).contains("check the path"));
    let set = text("a.csv", "x\n1\n", &unlabelled()).unwrap();
    assert!(message(set.check_dim(3)).contains("has vectors of 1 numbers, but the model was trained with 3"));
}

#[test]
fn of_what_is_only_asked_labels_and_parts_are_not_looked_at() {
    let plain = SeriesOptions { plain: true, columns: vec!["x".into()], ignore: vec!["time".into()], ..unlabelled() };
    let set = text("a.csv", "run,x,label,split\na,1,p,nose\na,2,q,\n", &plain).unwrap();
    assert_eq!((set.values(0), set.parts(), set.labels().has_none()), (&[1.0, 2.0][..], None, true));
    let set = text("a.jsonl", "{\"values\":[1],\"label\":{},\"split\":7}", &plain).unwrap();
    assert_eq!(set.lengths(), [1]);
    let (_folder, path) = written(&[("a.npy", floats("(2,)", &[1.0, 2.0])), ("labels.npy", b"damaged".to_vec())]);
    assert_eq!(read_series(&path, &plain).unwrap().lengths(), [2]);
}

#[test]
fn labels_of_arrays_may_be_missing_and_are_those_of_one_array() {
    let numbers = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let labels = npy_of(1, "<f8", "False", "(2, 1)", &numbers(&[0.5, f64::NAN]));
    let (folder, path) = written(&[("x.npy", floats("(2, 1, 1)", &[1.0, 2.0])), ("labels.npy", labels.clone())]);
    let set = read_series(&path, &SeriesOptions { need_labels: false, ..steps() }).unwrap();
    assert_eq!(labels_of(&set), [Some("0.5"), None]);
    assert!(message(read_series(&path, &SeriesOptions::default())).contains("has no label"));
    // Of a folder with more arrays nobody knows whose they are.
    fs::write(folder.path().join("other.npy"), floats("(2, 1, 1)", &[1.0, 2.0])).unwrap();
    let message = message(read_series(&path, &steps()));
    assert!(message.contains("x.npy") && message.contains("has no labels beside it"), "{message}");
    let (folder, _) = written(&[
        ("x_train.npy", floats("(1, 1, 1)", &[1.0])),
        ("y_train.npy", npy_of(1, "|u1", "False", "(1,)", &[3])),
        ("x_test.npy", floats("(1, 1, 1)", &[1.0])),
    ]);
    let message = self::message(read_series(folder.path(), &SeriesOptions::default()));
    assert!(message.contains("x_test.npy") && message.contains("has no labels beside it"), "{message}");
}

proptest! {
    #[test]
    fn a_batch_is_its_sequences_and_standardised_alike(
        sets in prop::collection::vec(prop::collection::vec(prop::array::uniform2(-1e3_f32..1e3), 1..6), 1..8),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let lines: Vec<String> = sets.iter().map(|set| serde_json::json!({ "vectors": set }).to_string()).collect();
        let read = text("a.jsonl", &lines.join("\n"), &unlabelled()).unwrap();
        let csv: Vec<String> = sets.iter().enumerate().flat_map(|(name, set)| set.iter().map(move |[x, y]| format!("{name},{x},{y}"))).collect();
        let long = text("a.csv", &format!("series,x,z\n{}\n", csv.join("\n")), &unlabelled()).unwrap();
        prop_assert_eq!(&read.values, &long.values);
        prop_assert_eq!(&read.offsets, &long.offsets);
        let indices: Vec<usize> = order.iter().map(|index| index.index(sets.len())).collect();
        let standard = read.standard(&(0..sets.len()).collect::<Vec<_>>());
        for standard in [None, Some(&standard)] {
            let batch = read.batch(&indices, standard);
            let single: Vec<f32> = indices.iter().flat_map(|&index| read.batch(&[index], standard).values).collect();
            prop_assert_eq!(&batch.values, &single);
            prop_assert_eq!(batch.offsets.lengths().collect::<Vec<_>>(), indices.iter().map(|&index| sets[index].len()).collect::<Vec<_>>());
        }
        let plain: Vec<f32> = indices.iter().flat_map(|&index| sets[index].concat()).collect();
        prop_assert_eq!(read.batch(&indices, None).values, plain);
    }
}
