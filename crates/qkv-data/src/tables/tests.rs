//! Tables in every format, what is refused, and what must hold of any table.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::*;
use crate::listing::ListedPart::{Dev, Test, Train};

const CSV: &str = "age,colour,split,label\n30,red,train,yes\n,blue,dev,no\n40,NA,,no\n50,red,test,yes\n";

fn written(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn table(text: &str) -> Table {
    let (_folder, path) = written("a.csv", text);
    read_table(&path, &TableOptions { need_labels: false, ..TableOptions::default() }).unwrap()
}

fn all(table: &Table) -> Vec<usize> {
    (0..table.len()).collect()
}

fn message<T>(result: Result<T>) -> String {
    let message = result.err().expect("an error").to_string();
    assert!(!message.contains('\n') && message.contains("; "), "{message}");
    message
}

/// A Parquet file of a number and two texts, some of them missing.
fn parquet_file(path: &Path, rows: &[(Option<f64>, Option<&str>, &str)], compression: Compression) {
    let schema = "message t { optional double age; optional binary colour (UTF8); required binary label (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let ages: Vec<f64> = rows.iter().filter_map(|row| row.0).collect();
    let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.0.is_some())).collect();
    column.typed::<DoubleType>().write_batch(&ages, Some(&levels), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let colours: Vec<ByteArray> = rows.iter().filter_map(|row| row.1).map(ByteArray::from).collect();
    let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.1.is_some())).collect();
    column.typed::<ByteArrayType>().write_batch(&colours, Some(&levels), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let labels: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(row.2)).collect();
    column.typed::<ByteArrayType>().write_batch(&labels, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

const PARQUET_ROWS: [(Option<f64>, Option<&str>, &str); 4] = [
    (Some(30.0), Some("red"), "yes"),
    (None, Some("blue"), "no"),
    (Some(40.5), None, "no"),
    (Some(f64::NAN), None, "yes"),
];

#[test]
fn a_table_has_features_labels_and_parts() {
    let (_folder, path) = written("a.csv", CSV);
    let table = read_table(&path, &TableOptions::default()).unwrap();
    assert_eq!(table.columns().collect::<Vec<_>>(), ["age", "colour"]);
    assert_eq!((table.targets(), table.len(), table.lines()), (&["label".to_owned()][..], 4, &[2, 3, 4, 5][..]));
    assert_eq!(table.parts(), Some(&[Train, Dev, Train, Test][..]));
    assert_eq!(table.labels()[0].iter().collect::<Vec<_>>(), [Some("yes"), Some("no"), Some("no"), Some("yes")]);
}

#[test]
fn every_format_encodes_alike() {
    let csv = "age,colour,label\n30,red,yes\n,blue,no\n40.5,NA,no\nnan,,yes\n";
    let json = "{\"age\":30,\"colour\":\"red\",\"label\":\"yes\"}\n{\"label\":\"no\",\"colour\":\"blue\"}\n\
                {\"age\":40.5,\"colour\":null,\"label\":\"no\"}\n{\"label\":\"yes\"}\n";
    let mut found = Vec::new();
    for (name, text) in [("a.csv", csv.to_owned()), ("a.tsv", csv.replace(',', "\t")), ("a.json", json.to_owned())] {
        let (_folder, path) = written(name, text);
        found.push(read_table(&path, &TableOptions::default()).unwrap());
    }
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
    ] {
        let (_folder, path) = written("without-ending", "");
        parquet_file(&path, &PARQUET_ROWS, compression);
        found.push(read_table(&path, &TableOptions::default()).unwrap());
    }
    let schema = TableSchema::fit(&found[0], &all(&found[0]), &SchemaOptions::default()).unwrap();
    let first = schema.encode(&found[0]).unwrap();
    // age, missing, colour unseen, missing, blue, red
    assert_eq!(first.0.batch(&[0, 1, 2, 3]).rows[..], [0, 5, 1, 4, 0, 3, 1, 3]);
    assert_eq!(first.0.batch(&[0]).scales[..], [-1.0, 0.0]);
    for table in &found[1..] {
        assert_eq!(schema.encode(table).unwrap(), first, "{}", table.name());
        assert_eq!(table.labels(), found[0].labels());
    }
}

#[test]
fn a_schema_says_what_columns_are() {
    let text = "n,c,mixed,code,empty,label\n1,x,1,7,,a\n3,y,b,8,NA,b\n1000,x,2,7,,a\n";
    let table = table(text);
    let options = SchemaOptions { categorical: vec!["code".to_owned()], ..SchemaOptions::default() };
    let schema = TableSchema::fit(&table, &[0, 1], &options).unwrap();
    let category =
        |names: &[&str]| FeatureKind::Category { categories: names.iter().map(|&name| name.into()).collect() };
    let kinds: Vec<FeatureKind> = schema.features().iter().map(|feature| feature.kind.clone()).collect();
    let number = FeatureKind::Number { mean: 2.0, deviation: 1.0 };
    assert_eq!(kinds, [number, category(&["x", "y"]), category(&["1", "b"]), category(&["7", "8"]), category(&[])]);
    assert_eq!((schema.width(), schema.rows(), schema.targets()), (5, 2 + 4 + 4 + 4 + 2, &["label".to_owned()][..]));
    let names: Vec<String> = (0..schema.rows()).filter_map(|row| schema.row_name(row)).collect();
    assert_eq!(names[..6], ["n", "n missing", "c unseen", "c missing", "c = x", "c = y"]);
    assert_eq!((names.len(), schema.row_name(16)), (16, None));
    let (encoded, unseen) = schema.encode(&table).unwrap();
    assert_eq!(encoded.batch(&[2]).scales[..], [998.0, 0.0, 0.0, 0.0, 0.0]);
    let expected = UnseenCategory { column: "mixed".into(), category: "2".into(), places: vec![(2, 4)] };
    assert_eq!(unseen, [expected]);
    let ignore = SchemaOptions { ignore: vec!["n".into(), "empty".into()], min_count: 2, ..options };
    let schema = TableSchema::fit(&table, &[0, 1, 2], &ignore).unwrap();
    assert_eq!(schema.features()[0].kind, category(&["x"]));
}

#[test]
fn columns_are_found_by_name_in_any_order() {
    let train = table("a,b,label\n1,x,p\n3,y,q\n");
    let schema = TableSchema::fit(&train, &[0, 1], &SchemaOptions::default()).unwrap();
    let (encoded, _) = schema.encode(&train).unwrap();
    let other = table("more,B,a\n?,x,1\n[],y,3\n");
    assert_eq!(schema.encode(&other).unwrap().0, encoded);
    let what = message(schema.encode(&table("bb,a\n1,2\n")));
    assert!(
        what.contains("there is no column \"b\", which the model was trained with; did you mean \"bb\"?"),
        "{what}"
    );
    // What the model looks at may have a usual name of a label, if the label is named.
    let train = table("class,label\n1,p\n3,q\n");
    let schema = TableSchema::fit(&train, &[0, 1], &SchemaOptions::default()).unwrap();
    let what = message(schema.encode(&table("class\n1\n")));
    assert!(what.contains("it was taken for the label"), "{what}");
    let (_folder, path) = written("a.csv", "class\n1\n");
    let options = TableOptions { labels: vec!["label".into()], need_labels: false, ..TableOptions::default() };
    assert!(schema.encode(&read_table(&path, &options).unwrap()).is_ok());
}

#[test]
fn malformed_tables_are_refused_by_line() {
    let needed = TableOptions::default();
    let named = |label: &str| TableOptions { labels: vec![label.into()], ..TableOptions::default() };
    for (name, text, options, what) in [
        ("a.csv", "", &needed, "there is no row in it"),
        ("a.csv", "a,label\n", &needed, "there is no row in it"),
        ("a.csv", "a,b\n1,2\n", &needed, "a.csv:1: no column has a usual name of a label"),
        (
            "a.csv",
            "a,labels\n1,2\n",
            &named("lables"),
            "a.csv:1: there is no column \"lables\" (data.label); did you mean",
        ),
        ("a.csv", "a,label\n1,2\n1,\n", &needed, "a.csv:3: there is no label"),
        ("a.csv", "a,label\n1,2\n1\n", &needed, "a.csv:3: expected 2 columns"),
        ("a.csv", "a,label,split\n1,2,train\n1,1,nose\n", &needed, "a.csv:3: \"nose\" is no part"),
        ("a.jsonl", "{\"a\":1,\"label\":2}\n\n{\"a\":2}\n", &needed, "a.jsonl:3: there is no label"),
        ("a.jsonl", "{\"a\":1}\n{\"a\":2}\n", &needed, "no key has a usual name of a label"),
        ("a.jsonl", "{\"a\":1}\n{\"a\":2\n", &needed, "a.jsonl:2: this is not valid JSON"),
        ("a.jsonl", "{\"a\":1,\"label\":[2]}\n", &needed, "a.jsonl:1: the key \"label\" holds an array"),
        ("a.jsonl", "{\"a\":1,\"label\":2,\"split\":{}}\n", &needed, "a.jsonl:1: the key \"split\" holds an object"),
        ("a.csv", "a,label\n1,x\n1,NA\n", &needed, "a.csv:3: there is no label"),
        ("a.parquet", "PAR1", &needed, "cannot be read as Parquet"),
        ("a.parquet", "a,b\n", &needed, "cannot be read as Parquet"),
    ] {
        let (_folder, path) = written(name, text);
        let message = message(read_table(&path, options));
        assert!(message.contains(what), "{message} / {what}");
    }
    let split = TableOptions { split: Some("fold".into()), ..TableOptions::default() };
    for (name, text) in [("a.csv", "a,label\n1,2\n"), ("a.jsonl", "{\"a\":1,\"label\":2}")] {
        let (_folder, path) = written(name, text);
        assert!(message(read_table(&path, &split)).contains("\"fold\""));
    }
}

#[test]
fn values_of_no_use_are_refused_by_line_and_missing_ones_are_not() {
    let train = table("a,b,label\n1,x,p\nNaN,y,q\n");
    let schema = TableSchema::fit(&train, &[0, 1], &SchemaOptions::default()).unwrap();
    for (text, what) in [
        ("a,b\n1,x\ninf,x\n", "a.csv:3: \"inf\" is not a finite number"),
        ("a,b\n1e300,x\n", "a.csv:2: \"1e300\" is not a finite number"),
        ("a,b\n1,x\ntwo,x\n", "a.csv:3: \"two\" is not a number, but the column \"a\" is of numbers"),
    ] {
        assert!(message(schema.encode(&table(text))).contains(what));
    }
    let infinite = table("a,label\ninf,p\n");
    assert!(message(TableSchema::fit(&infinite, &[0], &SchemaOptions::default())).contains("a.csv:2: \"inf\""));
    let unknown = SchemaOptions { ignore: vec!["bb".into()], ..SchemaOptions::default() };
    assert!(message(TableSchema::fit(&train, &[0], &unknown)).contains("no column \"bb\" (data.ignore)"));
    let nothing = SchemaOptions { ignore: vec!["a".into(), "b".into()], ..SchemaOptions::default() };
    assert!(message(TableSchema::fit(&train, &[0], &nothing)).contains("there is no column left to look at"));
    let (_folder, path) = written("a.jsonl", "{\"a\":1,\"label\":2}\n{\"a\":1,\"b\":[2],\"label\":2}\n");
    let nested = read_table(&path, &TableOptions::default()).unwrap();
    assert!(
        message(TableSchema::fit(&nested, &[0], &SchemaOptions::default()))
            .contains(":2: the column \"b\" holds an array")
    );
    let ignored = SchemaOptions { ignore: vec!["b".into()], ..SchemaOptions::default() };
    assert!(TableSchema::fit(&nested, &[0], &ignored).is_ok());
}

#[test]
fn a_damaged_parquet_file_is_an_error_of_one_line() {
    let (_folder, path) = written("a.parquet", "");
    parquet_file(&path, &PARQUET_ROWS, Compression::SNAPPY);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        message(read_table(&path, &TableOptions::default()));
    }
    // A byte that is changed may be one of a value; what must not be is a panic.
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        let _ = read_table(&path, &TableOptions::default()).map_err(|error| message::<()>(Err(error)));
    }
}

/// A Parquet file of a date, a decimal and a moment in each row.
fn dated_file(path: &Path, rows: &[(i32, i32, i64)]) {
    let schema = "message t { required int32 day (DATE); required int32 price (DECIMAL(5,0)); \
                  required int64 at (TIMESTAMP(NANOS,true)); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in 0..2 {
        let values: Vec<i32> = rows.iter().map(|row| [row.0, row.1][column]).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    let mut column = group.next_column().unwrap().unwrap();
    let moments: Vec<i64> = rows.iter().map(|row| row.2).collect();
    column.typed::<Int64Type>().write_batch(&moments, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn dates_are_texts_and_one_that_cannot_be_is_an_error_of_its_row() {
    let (_folder, path) = written("a.parquet", "");
    let plain = TableOptions { need_labels: false, ..TableOptions::default() };
    dated_file(&path, &[(1, 120, 1_500_000_000)]);
    let table = read_table(&path, &plain).unwrap();
    let values: Vec<Vec<String>> = table.values().map(|(_, values)| values.map(str::to_owned).collect()).collect();
    assert_eq!(values, [["1970-01-02"], ["120"], ["1970-01-01 00:00:01.500000 +00:00"]]);
    dated_file(&path, &[(1, 1, 1), (i32::MAX, 1, 1)]);
    assert!(message(read_table(&path, &plain)).contains("row 2 cannot be read as Parquet"));
    let whole = fs::read(&path).unwrap();
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        let _ = read_table(&path, &plain).map_err(|error| message::<()>(Err(error)));
    }
}

#[test]
fn a_column_called_split_is_looked_at_where_no_part_is_asked_for() {
    let (_folder, path) = written("a.csv", "split,n\n7,1\n");
    let plain = TableOptions { need_labels: false, plain: true, ..TableOptions::default() };
    assert_eq!(read_table(&path, &plain).unwrap().columns().collect::<Vec<_>>(), ["split", "n"]);
}

#[test]
fn numbers_far_from_zero_are_told_apart() {
    let table = table("n,label\n10000000000,a\n10000000001,b\n");
    let schema = TableSchema::fit(&table, &[0, 1], &SchemaOptions::default()).unwrap();
    assert_eq!(schema.encode(&table).unwrap().0.batch(&[0, 1]).scales[..], [-1.0, 1.0]);
}

#[test]
fn a_damaged_schema_is_refused() {
    let sound = r#"{"features":[{"name":"a","kind":"category","categories":["x"]}],"targets":[]}"#;
    assert!(serde_json::from_str::<TableSchema>(sound).is_ok());
    for json in [
        r#"{"features":[],"targets":[]}"#,
        r#"{"features":[{"name":"a","kind":"number","mean":0.0,"deviation":0.0}],"targets":[]}"#,
        r#"{"features":[{"name":"a","kind":"category","categories":["x","x"]}],"targets":[]}"#,
        r#"{"features":[{"name":"a","kind":"category","categories":[]},{"name":"a","kind":"category","categories":[]}],"targets":[]}"#,
        r#"{"features":[{"name":"a","kind":"other"}],"targets":[]}"#,
    ] {
        assert!(serde_json::from_str::<TableSchema>(json).is_err(), "{json}");
    }
}

proptest! {
    #[test]
    fn any_table_comes_back_and_batches_are_its_rows(
        rows in prop::collection::vec((prop::option::of(-1e6_f64..1e6), "[a-d]?", "[a-c]"), 2..30),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut text = "n,c,label\n".to_owned();
        for (number, category, label) in &rows {
            text.push_str(&format!("{},{category},{label}\n", number.map_or(String::new(), |number| number.to_string())));
        }
        let table = table(&text);
        prop_assert_eq!(table.len(), rows.len());
        let schema = TableSchema::fit(&table, &all(&table), &SchemaOptions::default()).unwrap();
        let again: TableSchema = serde_json::from_str(&serde_json::to_string(&schema).unwrap()).unwrap();
        prop_assert_eq!(&again, &schema);
        let (encoded, unseen) = again.encode(&table).unwrap();
        prop_assert!(unseen.is_empty());
        let indices: Vec<usize> = order.iter().map(|index| index.index(rows.len())).collect();
        let batch = encoded.batch(&indices);
        let single: Vec<TableBatch> = indices.iter().map(|&index| encoded.batch(&[index])).collect();
        prop_assert_eq!(batch.rows.to_vec(), single.iter().flat_map(|one| one.rows.to_vec()).collect::<Vec<_>>());
        prop_assert_eq!(batch.scales.to_vec(), single.iter().flat_map(|one| one.scales.to_vec()).collect::<Vec<_>>());
        prop_assert_eq!(batch.offsets.tokens(), batch.columns.len());
        // Of the numbers that are there, mean 0 and deviation 1 or 0.
        if matches!(schema.features()[0].kind, FeatureKind::Number { .. }) {
            let scales: Vec<f64> = (0..rows.len()).filter(|&row| rows[row].0.is_some()).map(|row| f64::from(encoded.batch(&[row]).scales[0])).collect();
            let mean = scales.iter().sum::<f64>() / scales.len() as f64;
            prop_assert!(mean.abs() < 1e-4);
        }
    }
}

#[test]
fn several_columns_may_be_labels_and_a_row_needs_one_of_them() {
    let (_folder, path) = written("a.csv", "n,p,q\n1,a,0.5\n2,,1.5\n3,b,\n");
    let options = TableOptions { labels: vec!["q".into(), "p".into()], ..TableOptions::default() };
    let table = read_table(&path, &options).unwrap();
    assert_eq!(table.targets(), ["q", "p"]);
    assert_eq!(table.columns().collect::<Vec<_>>(), ["n"]);
    let labels: Vec<Vec<_>> = table.labels().iter().map(|labels| labels.iter().collect()).collect();
    assert_eq!(labels, [[Some("0.5"), Some("1.5"), None], [Some("a"), None, Some("b")]]);
    // To predict from, none of them has to be there, and one alone is no feature.
    let (_folder, path) = written("b.csv", "n,p\n1,a\n");
    let asked = TableOptions { need_labels: false, ..options.clone() };
    let table = read_table(&path, &asked).unwrap();
    assert_eq!((table.targets(), table.labels().len()), (&["p".to_owned()][..], 1));
    assert!(message(read_table(&path, &options)).contains("no column \"q\" (data.label)"));
    let (_folder, path) = written("c.csv", "n,p,q\n1,a,0.5\n2,,\n");
    assert!(message(read_table(&path, &options)).contains("c.csv:3: there is no label"));
}
