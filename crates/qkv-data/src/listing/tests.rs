use std::fs;

use proptest::prelude::*;

use super::*;

const WAV: &[&str] = &["wav", "flac"];

/// A folder with files that hold nothing, at the given paths.
fn folder(paths: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in paths {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    folder
}

fn options(names: Option<&str>, dev: Option<&str>, test: Option<&str>) -> ListOptions {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    ListOptions { endings: WAV, names: owned(names), dev: owned(dev), test: owned(test), ..ListOptions::default() }
}

/// Each file as path from `top`, label and part.
fn shown(top: &Path, files: &[Listed]) -> Vec<String> {
    let show = |file: &Listed| {
        let path = file.path.strip_prefix(top).unwrap().to_str().unwrap().replace('\\', "/");
        let part = file.part.map_or("-".to_owned(), |part| format!("{part:?}").to_lowercase());
        format!("{path} {} {part}", file.label.as_deref().unwrap_or("-"))
    };
    files.iter().map(show).collect()
}

fn message(set: impl AsRef<Path>, options: &ListOptions) -> String {
    let message = list_files(set, options).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn folders_are_labels_and_order_is_that_of_bytes() {
    let set = folder(&["b/2.wav", "b/10.WAV", "a/x/1.flac", "a/.DS_Store", ".git/1.wav", "a/notes.txt", "B/1.wav"]);
    let files = list_files(set.path(), &options(None, None, None)).unwrap();
    assert_eq!(shown(set.path(), &files), ["B/1.wav B -", "a/x/1.flac a -", "b/10.WAV b -", "b/2.wav b -"]);
}

#[test]
fn folders_called_by_parts_are_parts_if_all_are() {
    let set = folder(&["train/a/1.wav", "train/2.wav", "valid/a/1.wav", "Test/b/1.wav", "docs/read.txt"]);
    let files = list_files(set.path(), &options(None, None, None)).unwrap();
    let expected = ["Test/b/1.wav b test", "train/2.wav - train", "train/a/1.wav a train", "valid/a/1.wav a dev"];
    assert_eq!(shown(set.path(), &files), expected);
    let set = folder(&["train/1.wav", "boat/1.wav"]);
    let files = list_files(set.path(), &options(None, None, None)).unwrap();
    assert_eq!(shown(set.path(), &files), ["boat/1.wav boat -", "train/1.wav train -"]);
    let set = folder(&["train/a/1.wav", "test/a/1.wav", "boat/1.wav"]);
    let message = message(set.path(), &options(None, None, None));
    assert!(message.contains("folders that are parts (\"test\", \"train\") beside others (\"boat\")"), "{message}");
}

#[test]
fn names_give_fields_labels_and_parts() {
    let set = folder(&["7_jo_0.wav", "7_jo_12.wav", "3_theo_5.wav", "3_theo_04.wav", "x.txt"]);
    let files = list_files(set.path(), &options(Some("{label}_{who}_{n}"), None, Some("n 0-4,7"))).unwrap();
    let expected = ["3_theo_04.wav 3 test", "3_theo_5.wav 3 train", "7_jo_0.wav 7 test", "7_jo_12.wav 7 train"];
    assert_eq!(shown(set.path(), &files), expected);
    assert_eq!(files[0].field("who"), Some("theo"));
    let files =
        list_files(set.path(), &options(Some("{label}_{who}_{n}"), Some("who theo, ann"), Some("n 0"))).unwrap();
    let expected = ["3_theo_04.wav 3 dev", "3_theo_5.wav 3 dev", "7_jo_0.wav 7 test", "7_jo_12.wav 7 train"];
    assert_eq!(shown(set.path(), &files), expected);
    // What both rules take is test, and the folder is the label where the name has none.
    let set = folder(&["yes/jo_0.wav", "yes/jo_1.wav", "no/theo_0.wav"]);
    let files = list_files(set.path(), &options(Some("{who}_{n}"), Some("who jo"), Some("n 0"))).unwrap();
    assert_eq!(shown(set.path(), &files), ["no/theo_0.wav no test", "yes/jo_0.wav yes test", "yes/jo_1.wav yes dev"]);
}

#[test]
fn rules_leave_held_out_parts_as_they_are() {
    let set = folder(&["train/a/1.wav", "train/a/2.wav", "test/a/1.wav"]);
    let files = list_files(set.path(), &options(Some("{n}"), Some("n 1"), None)).unwrap();
    assert_eq!(shown(set.path(), &files), ["test/a/1.wav a test", "train/a/1.wav a dev", "train/a/2.wav a train"]);
}

#[test]
fn wrong_names_and_rules_are_refused() {
    let set = folder(&["7_jo_0.wav", "7_jo_1.wav"]);
    for (names, rule, expected) in [
        (Some("{label}-{n}"), None, "7_jo_0.wav: its name does not fit {label}-{n}: there is no n; rename it"),
        (None, Some("n 0"), "no file has a field \"n\"; give a name pattern"),
        (Some("{label}_{who}_{index}"), Some("indx 0"), "no file has a field \"indx\"; did you mean \"index\"?"),
        (Some("{label}_{who}_{index}"), Some("index"), "has no values; write a field and its values"),
        (Some("{label}_{who}_{index}"), Some("index "), "has no values"),
        (Some("{label}_{who}_{index}"), Some("index 1,,2"), "has an empty value"),
        (Some("{label}_{who}_{index}"), Some("index 4-0"), "a range that ends before it begins, 4-0"),
        (
            Some("{label}_{who}_{index}"),
            Some("index 5-9"),
            "takes none of the 2 files; values of index are \"0\", \"1\"",
        ),
    ] {
        for held_out in [options(names, rule, None), options(names, None, rule)] {
            let message = message(set.path(), &held_out);
            assert!(message.contains(expected), "{names:?} {rule:?}: {message}");
        }
    }
}

#[test]
fn a_rule_for_the_dev_part_has_to_take_more_than_the_test_part() {
    let set = folder(&["7_jo_0.wav", "7_jo_1.wav"]);
    let both = options(Some("{label}_{who}_{index}"), Some("index 1"), Some("index 1"));
    assert!(message(set.path(), &both).contains("takes none that is not of the test part already"));
}

#[test]
fn sets_without_files_or_labels_are_refused() {
    let set = folder(&["a.txt", "b/c.MP3", ".hidden.wav"]);
    let said = message(set.path(), &options(None, None, None));
    assert!(said.contains("there is no file ending in .wav, .flac") && said.contains("ending in .mp3, .txt"), "{said}");
    let said = message(set.path().join("none"), &options(None, None, None));
    assert!(said.contains("check the path"), "{said}");
    let said = message(set.path().join("a.txt"), &options(None, None, None));
    assert!(said.contains("is neither a folder, nor a manifest (.csv, .tsv") && said.contains(".flac"), "{said}");
    let set = folder(&["a/1.wav", "2.wav"]);
    let need = ListOptions { need_labels: true, ..options(None, None, None) };
    assert!(
        message(set.path(), &need).contains("2.wav: has no label, but labels are needed here; put it into a folder")
    );
    let need = ListOptions { need_labels: true, ..options(Some("{n}"), None, None) };
    assert!(message(set.path(), &need).contains("a field {label}"));
}

#[test]
fn one_file_is_a_set() {
    let set = folder(&["7_jo_0.wav"]);
    let files = list_files(set.path().join("7_jo_0.wav"), &options(Some("{label}_{rest}"), None, None)).unwrap();
    assert_eq!((files.len(), files[0].label.as_deref()), (1, Some("7")));
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    let set = folder(&["a/1.wav", "elsewhere.txt"]);
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, set.path().join(at)).unwrap();
    link("..", "a/up");
    link("a", "b");
    link("nowhere", "lost.txt");
    let files = list_files(set.path(), &options(None, None, None)).unwrap();
    assert_eq!(shown(set.path(), &files), ["a/1.wav a -", "b/1.wav b -"]);
    link("nowhere", "lost.wav");
    assert!(message(set.path(), &options(None, None, None)).contains("lost.wav: "));
}

#[cfg(unix)]
#[test]
fn names_that_are_no_text_are_refused_where_they_are_needed() {
    use std::os::unix::ffi::OsStrExt;
    let set = folder(&[]);
    let odd = std::ffi::OsStr::from_bytes(b"a\xff\n");
    fs::create_dir(set.path().join(odd)).unwrap();
    fs::write(set.path().join(odd).join("1.wav"), "").unwrap();
    assert!(message(set.path(), &options(None, None, None)).contains("a folder whose name is not UTF-8"));
    let set = folder(&[]);
    fs::write(set.path().join(std::ffi::OsStr::from_bytes(b"\xff.wav")), "").unwrap();
    assert_eq!(list_files(set.path(), &options(None, None, None)).unwrap().len(), 1);
    assert!(message(set.path(), &options(Some("{label}"), None, None)).contains("it is not UTF-8"));
}

/// Lists a manifest with the given ending and content, which lies in a folder with `a.wav`, `d/b.wav` and `c.ogg`.
fn manifest(ending: &str, content: &str, options: &ListOptions) -> std::result::Result<Vec<String>, String> {
    let set = folder(&["a.wav", "d/b.wav", "c.ogg"]);
    let path = set.path().join(format!("list.{ending}"));
    fs::write(&path, content).unwrap();
    let files = list_files(&path, options).map_err(|error| error.to_string())?;
    let shown = shown(set.path(), &files).into_iter().zip(&files).map(|(shown, file)| {
        let fields: Vec<String> = file.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}: {shown} {} {}", file.line.unwrap(), file.text.as_deref().unwrap_or("-"), fields.join(","))
    });
    Ok(shown.collect())
}

#[test]
fn manifests_of_every_format_are_read_alike() {
    let expected = ["2: d/b.wav x train hello, you label=x,n=1", "4: c.ogg y test - label=y,n=2"];
    let expected = expected.map(str::to_owned);
    let all = ListOptions {
        columns: ManifestColumns { part: Some("n".into()), ..ManifestColumns::default() },
        ..options(None, None, None)
    };
    for (ending, content) in [
        ("csv", "File,label,text,n\nd/b.wav,x,\"hello, you\",1\n\nc.ogg,y,,2\n"),
        ("tsv", "file\tlabel\ttext\tn\nd/b.wav\tx\thello, you\t1\r\n\nc.ogg\ty\t \t2"),
        (
            "jsonl",
            "\n{\"file\":\"d/b.wav\",\"label\":\"x\",\"text\":\"hello, you\",\"n\":1,\"z\":[1]}\n \n{\"label\":\"y\",\"text\":null,\"file\":\"c.ogg\",\"n\":2}",
        ),
    ] {
        let ruled = options(None, None, Some("n 2"));
        assert_eq!(manifest(ending, content, &ruled).unwrap(), expected, "{ending}");
        let said = manifest(ending, content, &all).unwrap_err();
        assert!(
            said.contains("list.") && said.contains(":2: \"1\" is no part of a data set; write train, dev or test"),
            "{said}"
        );
    }
}

#[test]
fn columns_have_usual_names_or_are_named() {
    let split = "path,class,split\na.wav,1,train\nd/b.wav,2,Validation\nc.ogg,3,\n";
    let expected = [
        "2: a.wav 1 train - class=1,split=train",
        "3: d/b.wav 2 dev - class=2,split=Validation",
        "4: c.ogg 3 train - class=3,split=",
    ];
    assert_eq!(manifest("csv", split, &options(None, None, None)).unwrap(), expected);
    let columns =
        ManifestColumns { path: Some("where".into()), label: Some("who".into()), ..ManifestColumns::default() };
    let named = ListOptions { columns, ..options(None, None, None) };
    let read = manifest("csv", "who,where,path\nme,a.wav,x\n", &named).unwrap();
    assert_eq!(read, ["2: a.wav me - - who=me,path=x"]);
    // An object may lack its label, and a rule may name a column with spaces in it.
    let lines = "{\"audio\":\"a.wav\"}\n{\"audio\":\"c.ogg\",\"target\":3,\"take no\":\"7\"}\n";
    let read = manifest("jsonl", lines, &options(None, None, Some("take no 5-9"))).unwrap();
    assert_eq!(read, ["1: a.wav - train - ", "2: c.ogg 3 test - target=3,take no=7"]);
    // The name may say what the manifest does not.
    let read = manifest("csv", "path,n\na.wav,1\n", &options(Some("{label}"), None, None)).unwrap();
    assert_eq!(read, ["2: a.wav a - - n=1,label=a"]);
}

#[test]
fn relative_paths_go_from_the_folder_that_is_given() {
    let set = folder(&["clips/a.wav"]);
    let path = set.path().join("list.csv");
    fs::write(&path, "path\na.wav\n").unwrap();
    assert!(message(&path, &options(None, None, None)).contains("of 1 files named, 1 are not there"));
    let columns = ManifestColumns { folder: Some(set.path().join("clips")), ..ManifestColumns::default() };
    let files = list_files(&path, &ListOptions { columns, ..options(None, None, None) }).unwrap();
    assert_eq!(files[0].path, set.path().join("clips/a.wav"));
    let absolute = set.path().join("clips/a.wav");
    fs::write(&path, format!("path\n{}\n", absolute.display())).unwrap();
    assert_eq!(list_files(&path, &options(None, None, None)).unwrap()[0].path, absolute);
}

#[test]
fn malformed_manifests_are_refused() {
    let none = options(None, None, None);
    let need = ListOptions { need_labels: true, ..options(None, None, None) };
    for (ending, content, options, expected) in [
        ("csv", "", &none, "names no file"),
        ("csv", "path,label\n", &none, "names no file"),
        ("csv", "path,label\na.wav\n", &none, ":2: expected 2 columns as on line 1, found 1"),
        ("csv", "path,label\n,x\n", &none, ":2: there is no path; write one as path"),
        ("csv", "where,label\na.wav,x\n", &none, "no column has a usual name of a path"),
        ("csv", "path,label,label\na.wav,x,y\n", &none, "more than one column is called \"label\""),
        ("csv", "path,label\n\"a.wav,x\n", &none, "a quote (\") that nothing closes"),
        ("tsv", "path\tlabel\na.wav\tx\ty\n", &none, ":2: expected 2 columns as on line 1, found 3"),
        ("jsonl", "[1]\n", &none, ":1: expected a JSON object, found an array"),
        ("jsonl", "{\"path\":[1]}\n", &none, ":1: the key \"path\" is an array"),
        ("jsonl", "{\"label\":1}\n", &none, "no key has a usual name of a path"),
        ("jsonl", "{\"path\":\n", &none, "is not valid JSON"),
        ("csv", "path,label\na.wav,x\nc.ogg,\n", &need, "list.csv:3: "),
        ("csv", "path\na.wav\n", &need, "has no label, but labels are needed here; write one, or name its column"),
    ] {
        let said = manifest(ending, content, options).unwrap_err();
        assert!(said.contains(expected) && !said.contains('\n'), "{content:?}: {said}");
    }
}

#[test]
fn missing_files_are_named_together() {
    let mut content = "path\na.wav\nd\n".to_owned();
    (0..20).for_each(|n| content.push_str(&format!("no{n}.wav\n")));
    let said = manifest("csv", &content, &options(None, None, None)).unwrap_err();
    assert!(said.contains("of 22 files named, 21 are not there: ") && said.contains("d (line 3), "), "{said}");
    assert!(said.contains("no8.wav (line 12) and 11 more; paths are looked up in ") && !said.contains("no9"), "{said}");
}

#[test]
fn spoken_digits_are_listed_by_their_names() {
    let Ok(data) = std::env::var("QKV_DATA") else {
        println!("skipped: QKV_DATA is not set");
        return;
    };
    let options = options(Some("{label}_{speaker}_{index}"), None, Some("index 0-4"));
    let files = list_files(Path::new(&data).join("fsdd/recordings"), &options).unwrap();
    let tested = files.iter().filter(|file| file.part == Some(ListedPart::Test)).count();
    assert_eq!((files.len(), tested), (3000, 300));
}

proptest! {
    #[test]
    fn names_that_are_built_are_taken_apart(values in prop::collection::vec("[a-zA-Z0-9.]{1,6}", 1..5), last in "[a-z0-9_]{1,8}") {
        let mut values = values;
        values.push(last);
        let pattern: Vec<String> = (0..values.len()).map(|place| format!("{{f{place}}}")).collect();
        let pattern = NamePattern::parse(&pattern.join("_"), &["wav"]).unwrap();
        let fields = pattern.fields_of(Path::new(&format!("x/{}.wav", values.join("_")))).unwrap();
        prop_assert_eq!(fields.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), values);
    }

    #[test]
    fn nothing_panics(pattern in ".{0,12}", rule in ".{0,12}", content in ".{0,40}") {
        let set = folder(&["a_1.wav"]);
        let _ = list_files(set.path(), &options(Some(&pattern), None, Some(&rule)));
        let _ = list_files(set.path(), &options(Some("{label}_{n}"), None, Some(&rule)));
        for ending in MANIFESTS {
            let path = set.path().join(format!("list.{ending}"));
            fs::write(&path, &content).unwrap();
            prop_assert!(list_files(&path, &options(None, None, None)).is_err());
        }
    }
}
