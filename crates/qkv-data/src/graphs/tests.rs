//! Graphs in every format, what is refused, and what must hold of any.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::listing::ListedPart::{Dev, Test, Train};

const NODES: &str = "id\tsplit\tlabel\tfeatures\nx\ttrain\t1\t3 0\ny\tnone\t\t2:0.5\nz\ttest\t2\t\n";
const EDGES: &str = "source\ttarget\nx\ty\ny\tx\nz\ty\n";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn tables(nodes: &str, edges: &str, options: &GraphOptions) -> Result<Graphs> {
    let folder = folder(&[("nodes.tsv", nodes), ("edges.tsv", edges)]);
    read_graphs(folder.path(), options)
}

fn lines(text: &str, options: &GraphOptions) -> Result<Graphs> {
    let folder = folder(&[("a.jsonl", text)]);
    read_graphs(folder.path().join("a.jsonl"), options)
}

fn ways(directed: bool, self_loops: bool) -> GraphOptions {
    GraphOptions { directed, self_loops, ..GraphOptions::default() }
}

fn message<T>(result: Result<T>) -> String {
    let message = result.err().expect("an error").to_string();
    assert!(!message.contains('\n') && message.contains("; "), "{message}");
    message
}

/// Row, column and kind of each edge of the whole.
fn edges_of(graphs: &Graphs) -> Vec<(usize, u32, u32)> {
    let batch = graphs.batch(&(0..graphs.len()).collect::<Vec<_>>());
    let mut edges = Vec::new();
    for row in 0..batch.edges.rows() {
        let first = batch.edges.row_offsets()[row];
        for (place, &column) in batch.edges.neighbours(row).iter().enumerate() {
            edges.push((row, column, batch.kinds.as_ref().map_or(0, |kinds| kinds[first + place])));
        }
    }
    edges
}

#[test]
fn a_graph_is_read_from_its_tables() {
    let csv = (NODES.replace('\t', ","), EDGES.replace('\t', ","));
    let folder =
        folder(&[("nodes.tsv", NODES), ("edges.tsv", EDGES), ("my-nodes.csv", &csv.0), ("my-edges.csv", &csv.1)]);
    let paths = [PathBuf::new(), "nodes.tsv".into(), "my-nodes.csv".into()];
    for path in paths.map(|path| folder.path().join(path)) {
        let graphs = read_graphs(&path, &ways(true, false)).unwrap();
        assert_eq!((graphs.len(), graphs.lengths(), graphs.features(), graphs.kinds()), (1, vec![3], 4, 1));
        assert_eq!((graphs.features_of(0).0, graphs.features_of(1)), (&[3, 0][..], (&[2][..], Some(&[0.5][..]))));
        assert_eq!(graphs.node_labels().iter().collect::<Vec<_>>(), [Some("1"), None, Some("2")]);
        assert_eq!(graphs.node_parts(), Some(&[Some(Train), None, Some(Test)][..]));
        assert_eq!((graphs.node_name(1), graphs.node_name(2)), (Some("y"), Some("z")));
        // The row is the node that attends: the target.
        assert_eq!(edges_of(&graphs), [(0, 1, 0), (1, 0, 0), (1, 2, 0)]);
    }
}

#[test]
fn edges_go_both_ways_and_to_themselves_as_asked() {
    let read = |directed, self_loops| edges_of(&tables(NODES, EDGES, &ways(directed, self_loops)).unwrap());
    assert_eq!(read(false, false), [(0, 1, 0), (1, 0, 0), (1, 2, 0), (2, 1, 0)]);
    let all = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1), (1, 2, 0), (2, 1, 0), (2, 2, 1)];
    assert_eq!(read(false, true), all);
    // A node's own edge to itself keeps its kind.
    let own = tables(NODES, "source\ttarget\tkind\nx\tx\ta\ny\tz\tb\n", &ways(true, true)).unwrap();
    assert_eq!((own.kinds(), own.kind_names()), (3, &["a".to_owned(), "b".to_owned()][..]));
    assert_eq!(edges_of(&own), [(0, 0, 0), (1, 1, 2), (2, 1, 1), (2, 2, 2)]);
}

#[test]
fn parallel_edges_are_one_of_a_kind_of_their_own() {
    let edges = "source,target,relation,w\nx,y,likes,1\nx,y,knows,1\nx,y,likes,1\ny,z,,2\nx,z,knows,3\n";
    let folder = folder(&[("nodes.tsv", NODES), ("edges.csv", edges)]);
    let graphs = read_graphs(folder.path(), &ways(true, false)).unwrap();
    assert_eq!(graphs.kind_names(), ["likes", "knows", "knows + likes", ""]);
    assert_eq!(edges_of(&graphs), [(1, 0, 2), (2, 0, 1), (2, 1, 3)]);
    assert_eq!((graphs.batch(&[0]).edge_numbers, graphs.edge_names()), (vec![1.0, 3.0, 2.0], &["w".to_owned()][..]));
    let with_loops = read_graphs(folder.path(), &ways(false, true)).unwrap();
    assert_eq!(with_loops.batch(&[0]).edge_numbers, [0.0, 1.0, 3.0, 1.0, 0.0, 2.0, 3.0, 2.0, 0.0]);
    let differ = tables(NODES, "source\ttarget\tw\nx\ty\t1\ny\tx\t2\n", &ways(false, false));
    assert!(
        message(differ).contains("edges.tsv:3: the edge between \"y\" and \"x\" stands there with different numbers")
    );
    assert!(tables(NODES, "source\ttarget\tw\nx\ty\t1\ny\tx\t2\n", &ways(true, false)).is_ok());
}

#[test]
fn features_may_be_names_dense_both_or_none() {
    let edges = "source\ttarget\n";
    let read = |nodes| tables(nodes, edges, &ways(false, false)).unwrap();
    let named = read("id\tfeatures\tage\n0\tred round:2\t1.5\n1\tround\t2\n");
    assert_eq!(named.feature_names(), Some(&["red".to_owned(), "round".to_owned()][..]));
    assert_eq!(named.features_of(0), (&[0, 1][..], Some(&[1.0, 2.0][..])));
    assert_eq!((named.dense(), named.dense_names()), (&[1.5, 2.0][..], &["age".to_owned()][..]));
    let dense = read("id\ta\tb\nx\t1\t2\n");
    assert_eq!((dense.features(), dense.dense_dim(), dense.batch(&[0]).sparse), (0, 2, None));
    let none = read("id\nx\ny\n");
    assert_eq!((none.features(), none.batch(&[0]).sparse.unwrap().ids), (1, vec![0, 0]));
    let options = GraphOptions { ignore: vec!["a".into()], ..GraphOptions::default() };
    assert_eq!(tables("id\ta\nx\tword\n", edges, &options).unwrap().dense_dim(), 0);
}

#[test]
fn objects_are_graphs() {
    let text = "{\"nodes\":[\"C\",\"O\",\"C\"],\"edges\":[[0,1,\"double\"],{\"source\":2,\"target\":1,\"kind\":\"single\"}],\"label\":\"a\"}\n\n\
                {\"nodes\":[{\"category\":\"N\"}],\"labels\":[\"top\"],\"split\":\"dev\",\"label\":3}\n";
    let graphs = lines(text, &ways(false, false)).unwrap();
    assert_eq!((graphs.lengths(), graphs.lines(), graphs.features()), (vec![3, 1], &[1, 3][..], 3));
    assert_eq!(graphs.graph_labels().iter().collect::<Vec<_>>(), [Some("a"), Some("3")]);
    assert_eq!(graphs.node_labels().iter().collect::<Vec<_>>(), [None, None, None, Some("top")]);
    assert_eq!(graphs.graph_parts(), Some(&[Train, Dev][..]));
    assert_eq!(edges_of(&graphs), [(0, 1, 0), (1, 0, 0), (1, 2, 1), (2, 1, 1)]);
    let dense = lines(
        "{\"nodes\":[[1,2],{\"features\":[3,4],\"label\":true}],\"edges\":[[0,1,0.5],{\"source\":1,\"target\":1,\"features\":[2]}]}",
        &ways(true, false),
    );
    let batch = dense.as_ref().unwrap().batch(&[0]);
    assert_eq!((batch.dense, batch.edge_numbers, batch.edge_dim), (vec![1.0, 2.0, 3.0, 4.0], vec![0.5, 2.0], 1));
    assert_eq!(dense.unwrap().node_labels().get(1), Some("true"));
}

#[test]
fn a_vocabulary_is_of_the_training_part() {
    let text = "{\"nodes\":[\"O\",\"C\"],\"edges\":[[0,1,\"b\"]]}\n{\"nodes\":[\"N\",\"C\"],\"edges\":[[0,1,\"a\"]]}\n\
                {\"nodes\":[\"O\",\"P\",\"P\"],\"edges\":[[0,1,\"a\"],[1,2,\"c\"]]}\n";
    let graphs = lines(text, &ways(false, true)).unwrap();
    let vocabulary = GraphVocabulary::build(&graphs, &[0, 1]);
    assert_eq!(vocabulary.feature_names(), Some(&["C".to_owned(), "N".to_owned(), "O".to_owned()][..]));
    assert_eq!(
        (vocabulary.features(), vocabulary.relations(), vocabulary.kinds()),
        (4, &["a".to_owned(), "b".to_owned()][..], 4)
    );
    let again: GraphVocabulary = serde_json::from_str(&serde_json::to_string(&vocabulary).unwrap()).unwrap();
    assert_eq!(again, vocabulary);
    let (encoded, unseen) = graphs.encode(&vocabulary).unwrap();
    let unseen: Vec<(&str, &str, usize)> = unseen.iter().map(|one| (one.what, &*one.name, one.count)).collect();
    assert_eq!(unseen, [("feature", "P", 2), ("edge kind", "c", 2)]);
    assert_eq!((encoded.kinds(), encoded.features()), (4, 4));
    let batch = encoded.batch(&[2, 0]);
    assert_eq!(batch.sparse.unwrap().ids, [3, 0, 0, 3, 1]);
    assert_eq!(batch.kinds.as_deref(), Some(&[3, 1, 1, 3, 0, 0, 3, 3, 2, 2, 3][..]));
    // What has its ids keeps them.
    let (again, _) = encoded.clone().encode(&vocabulary).unwrap();
    assert_eq!(again, encoded);
    // A model that knows kinds reads graphs without any, and the other way round.
    let plain = lines("{\"nodes\":[\"O\",\"C\"],\"edges\":[[0,1]]}\n", &ways(false, true)).unwrap();
    let (plain_encoded, unseen) = plain.clone().encode(&vocabulary).unwrap();
    assert_eq!((plain_encoded.batch(&[0]).kinds.as_deref(), unseen.len()), (Some(&[3, 0, 0, 3][..]), 1));
    let plain_vocabulary = GraphVocabulary::build(&plain, &[0]);
    assert_eq!((plain_vocabulary.kinds(), plain_vocabulary.relations().len()), (2, 0));
    let (encoded, _) = lines(text, &ways(false, true)).unwrap().encode(&plain_vocabulary).unwrap();
    assert_eq!(encoded.batch(&[0]).kinds.as_deref(), Some(&[1, 0, 0, 1][..]));
}

#[test]
fn features_with_numbers_beyond_training_are_left_out_and_counted() {
    let edges = "source\ttarget\n";
    let train = tables("id\tfeatures\n0\t0 2\n", edges, &GraphOptions::default()).unwrap();
    let vocabulary = GraphVocabulary::build(&train, &[0]);
    let again: GraphVocabulary = serde_json::from_str(&serde_json::to_string(&vocabulary).unwrap()).unwrap();
    assert_eq!(again, vocabulary);
    // The feature 1 is below one that training has seen, and has not been seen itself.
    let other = tables("id\tfeatures\n0\t1:0.5 9 2\n1\t7\n2\t0\n", edges, &GraphOptions::default()).unwrap();
    let (encoded, unseen) = other.encode(&vocabulary).unwrap();
    assert_eq!((encoded.features_of(0), encoded.features_of(1).0), ((&[2][..], Some(&[1.0][..])), &[][..]));
    assert_eq!(unseen.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["1", "7", "9"]);
}

#[test]
fn numbers_of_edges_stay_with_them_after_graphs_without_edges() {
    let text = "{\"nodes\":[\"C\",\"C\"],\"edges\":[]}\n{\"nodes\":[\"C\",\"O\"],\"edges\":[[0,1,0.5]]}\n";
    let graphs = lines(text, &ways(false, true)).unwrap();
    assert_eq!(
        (graphs.batch(&[0]).edge_numbers, graphs.batch(&[1]).edge_numbers),
        (vec![0.0; 2], vec![0.0, 0.5, 0.5, 0.0])
    );
    // A model with numbers of edges reads graphs without edges, and with edges alone that are without numbers does not.
    let vocabulary = GraphVocabulary::build(&graphs, &[0, 1]);
    let (encoded, _) = lines("{\"nodes\":[\"C\"]}\n", &ways(false, true)).unwrap().encode(&vocabulary).unwrap();
    assert_eq!((encoded.edge_dim(), encoded.batch(&[0]).edge_numbers), (1, vec![0.0]));
    let own = lines("{\"nodes\":[\"C\"],\"edges\":[[0,0]]}\n", &ways(false, true)).unwrap();
    assert!(message(own.encode(&vocabulary)).contains("has edges of 0 numbers"));
}

#[test]
fn nodes_of_which_nothing_is_known_are_so_to_any_model() {
    let options = ways(false, false);
    let bare = lines("{\"nodes\":[{},{}]}\n", &options).unwrap();
    let named = lines("{\"nodes\":[\"C\",\"O\"]}\n", &options).unwrap();
    let (encoded, unseen) = bare.clone().encode(&GraphVocabulary::build(&named, &[0])).unwrap();
    assert_eq!((encoded.features_of(0).0, encoded.features(), unseen.len()), (&[][..], 3, 0));
    assert_eq!(encoded.batch(&[0]).sparse.unwrap().offsets, [0, 0, 0]);
    let numbered = tables("id\tfeatures\n0\t0 1\n", "source\ttarget\n", &options).unwrap();
    assert!(bare.clone().encode(&GraphVocabulary::build(&numbered, &[0])).unwrap().0.features_of(1).0.is_empty());
    // Where training knew nothing either, that is what it knows.
    let (encoded, _) = bare.clone().encode(&GraphVocabulary::build(&bare, &[0])).unwrap();
    assert_eq!(encoded.features_of(1).0, [0]);
    // Numbers alone, to a model of names and numbers.
    let both = lines("{\"nodes\":[{\"category\":\"C\",\"features\":[1]}]}\n", &options).unwrap();
    let (encoded, _) =
        lines("{\"nodes\":[[2]]}\n", &options).unwrap().encode(&GraphVocabulary::build(&both, &[0])).unwrap();
    assert_eq!((encoded.features(), encoded.batch(&[0]).sparse.unwrap().offsets), (2, vec![0, 0]));
}

#[test]
fn labels_of_nodes_are_where_they_are_said_to_be() {
    let labels = |text: &str, label: Option<&str>| {
        let options = GraphOptions { label: label.map(str::to_owned), ..GraphOptions::default() };
        let graphs = lines(text, &options).unwrap();
        graphs.node_labels().iter().map(|label| label.map(str::to_owned)).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    let text = r#"{"nodes":[{"label":null},{"label":"own"},"C"],"labels":["a","b","c"],"side":["l","r",null]}"#;
    assert_eq!(labels(text, None), [some("a"), some("own"), some("c")]);
    assert_eq!(labels(text, Some("side")), [some("l"), some("r"), None]);
    assert_eq!(labels(r#"{"nodes":[{"label":"x","side":"l"},"C"]}"#, Some("side")), [some("l"), None]);
}

#[test]
fn what_is_not_asked_for_is_passed_over() {
    let asked = |split: &str, label: &str| GraphOptions {
        split: Some(split.to_owned()),
        label: Some(label.to_owned()),
        need_labels: false,
        ..GraphOptions::default()
    };
    let (nodes, edges) = ("id\tsplit\tlabel\theight\nx\tcv3\tA\t1.5\n", "source\ttarget\n");
    let usual = GraphOptions { need_labels: false, ..GraphOptions::default() };
    for options in [usual.clone(), asked("split", "label"), asked("SPLIT", "label")] {
        let graphs = tables(nodes, edges, &options).unwrap();
        assert_eq!((graphs.dense_names(), graphs.node_parts()), (&["height".to_owned()][..], None));
        assert_eq!(graphs.node_labels().get(0), None);
    }
    let other = "id\tfold\theight\nx\tA-113\t1.5\n";
    assert_eq!(tables(other, edges, &asked("fold", "gone")).unwrap().dense_names(), ["height"]);
    assert_eq!(tables("id\theight\nx\t1.5\n", edges, &asked("fold", "gone")).unwrap().dense_dim(), 1);
    assert!(
        message(tables(other, edges, &GraphOptions { need_labels: true, ..asked("gone", "fold") })).contains("gone")
    );
    let text = r#"{"nodes":[{"label":[1]}],"labels":7,"label":[1],"split":"cv3"}"#;
    assert_eq!(lines(text, &usual).unwrap().graph_labels().get(0), None);
}

#[test]
fn ignored_columns_play_no_role() {
    let nodes = "id\tsplit\tlabel\tclass\tfeatures\theight\nx\tcv3\tA\tB\tword 1\t2\n";
    let ignore = ["split", "label", "features"].map(str::to_owned).to_vec();
    let options = GraphOptions { ignore, ..GraphOptions::default() };
    let graphs = tables(nodes, "source\ttarget\n", &options).unwrap();
    assert_eq!((graphs.node_labels().get(0), graphs.node_parts(), graphs.features()), (Some("B"), None, 0));
    assert_eq!(graphs.dense_names(), ["height"]);
}

#[test]
fn graphs_of_another_make_than_in_training_are_refused() {
    let edges = "source\ttarget\n0\t0\n";
    let read = |nodes: &str, edges: &str| tables(nodes, edges, &GraphOptions::default()).unwrap();
    let vocabulary = GraphVocabulary::build(&read("id\tfeatures\n0\t1\n", edges), &[0]);
    for (nodes, edges, what) in [
        ("id\tfeatures\n0\tred\n", edges, "has features with names, but the model was trained with numbers"),
        ("id\tfeatures\ta\n0\t1\t2\n", edges, "has nodes of 1 numbers, but the model was trained with 0"),
        ("id\tfeatures\n0\t1\n", "source\ttarget\tw\n0\t0\t1\n", "has edges of 1 numbers"),
    ] {
        assert!(message(read(nodes, edges).encode(&vocabulary)).contains(what));
    }
    let directed = tables("id\tfeatures\n0\t1\n", edges, &ways(true, true)).unwrap();
    assert!(message(directed.encode(&vocabulary)).contains("was read with directed = true"));
    for json in [
        r#"{"names":["b","a"],"features":3,"dense_dim":0,"relations":[],"edge_dim":0,"directed":false,"self_loops":true}"#,
        r#"{"names":null,"features":3,"unused":[2,1],"dense_dim":0,"relations":[],"edge_dim":0,"directed":false,"self_loops":true}"#,
        r#"{"names":null,"features":3,"unused":[3],"dense_dim":0,"relations":[],"edge_dim":0,"directed":false,"self_loops":true}"#,
        r#"{"names":["a"],"features":3,"dense_dim":0,"relations":[],"edge_dim":0,"directed":false,"self_loops":true}"#,
        r#"{"names":null,"features":3,"dense_dim":0,"relations":["a","a"],"edge_dim":0,"directed":false,"self_loops":true}"#,
        r#"{"names":null,"features":3,"dense_dim":2,"dense_names":["a"],"relations":[],"edge_dim":0,"directed":false,"self_loops":true}"#,
    ] {
        assert!(serde_json::from_str::<GraphVocabulary>(json).is_err(), "{json}");
    }
}

#[test]
fn numbers_are_found_by_the_names_of_their_columns() {
    let read = |nodes: &str, edges: &str| tables(nodes, edges, &GraphOptions::default()).unwrap();
    let trained = read("id\tx\ty\n0\t1\t2\n1\t3\t4\n", "source\ttarget\tw\tv\n0\t1\t5\t6\n");
    let vocabulary = GraphVocabulary::build(&trained, &[0]);
    let kept: GraphVocabulary = serde_json::from_str(&serde_json::to_string(&vocabulary).unwrap()).unwrap();
    assert_eq!(kept, vocabulary);
    let asked = read("id\ty\tz\tx\n0\t2\t9\t1\n1\t4\t9\t3\n", "source\ttarget\tv\tw\n0\t1\t6\t5\n");
    let ((trained, _), (asked, _)) = (trained.encode(&vocabulary).unwrap(), asked.encode(&vocabulary).unwrap());
    assert_eq!(asked.dense(), trained.dense());
    assert_eq!(asked.batch(&[0]).edge_numbers, trained.batch(&[0]).edge_numbers);
    let edges = "source\ttarget\tw\tv\n0\t1\t5\t6\n";
    for (nodes, edges, what) in [
        ("id\tx\tz\n0\t1\t2\n1\t3\t4\n", edges, "its nodes have no column \"y\"; there are \"x\", \"z\""),
        ("id\tx\n0\t1\n1\t3\n", edges, "its nodes have no column \"y\""),
        ("id\tx\ty\n0\t1\t2\n1\t3\t4\n", "source\ttarget\tw\n0\t1\t5\n", "its edges have no column \"v\""),
    ] {
        assert!(message(read(nodes, edges).encode(&vocabulary)).contains(what), "{nodes}{edges}");
    }
    // Without an edge none of its columns is missed.
    read("id\tx\ty\n0\t1\t2\n", "source\ttarget\n").encode(&vocabulary).unwrap();
}

#[test]
fn malformed_tables_are_refused_by_line() {
    let edges = "source\ttarget\n";
    for (nodes, edges, what) in [
        ("", edges, "nodes.tsv: there is no node in it"),
        ("id\n", edges, "nodes.tsv: there is no node in it"),
        ("name\nx\n", edges, "nodes.tsv:1: there is no column \"id\""),
        ("id\nx\ny\nx\n", edges, "nodes.tsv:4: the node \"x\" stands there twice"),
        ("id\n0\n1\n0\n", edges, "nodes.tsv:4: the node \"0\" stands there twice"),
        ("id\ta\n\t1\n", edges, "nodes.tsv:2: the node has no id"),
        ("id\tsplit\nx\tnose\n", edges, "nodes.tsv:2: \"nose\" is no part"),
        ("id\ta\nx\tinf\n", edges, "nodes.tsv:2: \"inf\" in the column \"a\" is not a finite number"),
        ("id\ta\nx\t\n", edges, "nodes.tsv:2: a number is missing in the column \"a\""),
        ("id\tfeatures\nx\t1 red\n", edges, "nodes.tsv:2: \"red\" is not the number of a feature"),
        ("id\tfeatures\nx\t16777216\n", edges, "nodes.tsv:2: the feature 16777216 is beyond"),
        ("id\tfeatures\nx\t1:inf\n", edges, "nodes.tsv:2: the value of the feature \"1:inf\""),
        ("id\tlabel\nx\n", edges, "nodes.tsv:2: expected 2 columns"),
        ("id\nx\n", "source\n", "edges.tsv:1: there is no column \"target\""),
        ("id\nx\n", "", "edges.tsv:1: there is no column \"source\""),
        (
            "id\nx\n",
            "source\ttarget\nx\tx\nx\ty\nq\tx\n",
            "edges.tsv:3: the edge names the node \"y\", which is not among the nodes, the first of 2",
        ),
        ("id\n0\n1\n", "source\ttarget\n0\t01\n", "edges.tsv:2: the edge names the node \"01\""),
        ("id\nx\n", "source\ttarget\tw\nx\tx\tnan\n", "edges.tsv:2: \"nan\" in the column \"w\""),
    ] {
        let message = message(tables(nodes, edges, &GraphOptions::default()));
        assert!(message.contains(what), "{message} / {what}");
    }
    let lone = folder(&[("nodes.tsv", "id\nx\n"), ("people.tsv", "id\nx\n")]);
    for (path, what) in [
        (lone.path().to_owned(), "there is no edges.tsv in it"),
        (lone.path().join("nodes.tsv"), "there is no file of edges edges.tsv beside it"),
        (lone.path().join("people.tsv"), "is not called as a file of nodes"),
    ] {
        assert!(message(read_graphs(&path, &GraphOptions::default())).contains(what));
    }
}

#[test]
fn malformed_objects_are_refused_by_line() {
    for (text, what) in [
        ("", "there is no graph in it"),
        ("{\"nodes\":[\"C\"]}\n{\"nodes\":[]}", "a.jsonl:2: the graph has no node"),
        ("{\"edges\":[]}", "a.jsonl:1: there is no array of nodes"),
        ("{\"nodes\":[\"C\"]", "a.jsonl:1: this is not valid JSON"),
        ("[1]", "a.jsonl:1: expected a JSON object"),
        ("[1]", "such as {\"nodes\": ["),
        ("{\"nodes\":[\"C\"],\"edges\":[[\"0\",0]]}", "edge 0: the source \"0\" is a string and is not the place"),
        ("{\"nodes\":[6]}", "node 0: is a number"),
        ("{\"nodes\":[\"\"]}", "node 0: has an empty category"),
        ("{\"nodes\":[[1],[1,2]]}", "node 1: a node has 2 numbers where the first has 1"),
        ("{\"nodes\":[[1e39]]}", "node 0: the number 1e+39 is not finite"),
        ("{\"nodes\":[[null]]}", "node 0: there is null where a number belongs"),
        ("{\"nodes\":[{\"category\":1}]}", "node 0: the category is a number"),
        ("{\"nodes\":[\"C\"],\"labels\":[]}", "there are 0 labels for 1 nodes"),
        ("{\"nodes\":[\"C\"],\"edges\":[[0]]}", "edge 0: lacks source or target"),
        (
            "{\"nodes\":[\"C\"],\"edges\":[[0,0],[0,1]]}",
            "edge 1: the target \"1\" is not the place of one of the 1 nodes",
        ),
        ("{\"nodes\":[\"C\"],\"edges\":[[-1,0]]}", "edge 0: the source \"-1\""),
        ("{\"nodes\":[\"C\"],\"edges\":[[0,0,1],[0,0]]}", "edge 1: an edge has 0 numbers where the first has 1"),
        (
            "{\"nodes\":[\"C\"],\"edges\":[[0,0,1],[0,0,2]]}",
            "the edge between 0 and 0 stands there with different numbers",
        ),
        ("{\"nodes\":[\"C\"],\"edges\":[{\"source\":0}]}", "edge 0: lacks the target"),
        ("{\"nodes\":[\"C\"],\"edges\":[0]}", "edge 0: is a number"),
        ("{\"nodes\":[\"C\"],\"split\":\"nose\"}", "\"nose\" is no part"),
        ("{\"nodes\":[\"C\"],\"label\":[]}", "the key \"label\" is an array"),
    ] {
        let message = message(lines(text, &GraphOptions::default()));
        assert!(message.contains(what), "{message} / {what}");
    }
}

#[test]
fn a_random_graph_is_a_function_of_its_seed() {
    let draw = |seed| random_graph(50, 400, 3, 5, seed, &ways(true, false)).unwrap();
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let graphs = draw(1);
    assert_eq!((graphs.lengths(), graphs.dense().len(), graphs.node_labels().names().len()), (vec![50], 150, 5));
    assert!((250..=400).contains(&graphs.edges()), "{}", graphs.edges());
    let within = edges_of(&graphs).iter().filter(|(row, column, _)| row % 5 == *column as usize % 5).count();
    assert!(within * 10 > graphs.edges() * 6, "{within} of {}", graphs.edges());
    for (nodes, classes) in [(0, 1), (1, 0), (1, 2), (u32::MAX as usize, 1)] {
        assert!(matches!(random_graph(nodes, 1, 1, classes, 0, &GraphOptions::default()), Err(Error::Unusable { .. })));
    }
}

#[test]
fn a_large_graph_is_drawn_written_and_read() {
    let nodes = 20_000;
    let drawn = random_graph(nodes, 10 * nodes, 8, 10, 0, &ways(true, false)).unwrap();
    let folder = folder(&[]);
    let nodes: String = (0..nodes).map(|node| format!("{node}\t{} {}\n", node % 100, node % 77)).collect();
    fs::write(folder.path().join("nodes.tsv"), format!("id\tfeatures\n{nodes}")).unwrap();
    let mut edges = "source\ttarget\n".to_owned();
    edges_of(&drawn).iter().for_each(|(row, column, _)| edges.push_str(&format!("{column}\t{row}\n")));
    fs::write(folder.path().join("edges.tsv"), edges).unwrap();
    let read = read_graphs(folder.path(), &ways(true, false)).unwrap();
    assert_eq!((&read.columns, &read.rows), (&drawn.columns, &drawn.rows));
}

#[test]
fn cora_is_read() {
    let Ok(data) = std::env::var("QKV_DATA") else {
        println!("skipped: QKV_DATA is not set");
        return;
    };
    let graphs = read_graphs(&*format!("{data}/cora"), &GraphOptions::default()).unwrap();
    assert_eq!((graphs.lengths(), graphs.features(), graphs.kinds()), (vec![2708], 1433, 2));
    assert_eq!(graphs.node_labels().names().len(), 7);
    let parts = graphs.node_parts().unwrap();
    let count = |part| parts.iter().filter(|found| **found == part).count();
    assert_eq!([Some(Train), Some(Dev), Some(Test)].map(count), [140, 500, 1000]);
    // 5278 edges both ways, and each node's own.
    assert_eq!(graphs.edges(), 2 * 5278 + 2708);
}

type Drawn = (usize, Vec<(usize, usize, u8)>);

proptest! {
    #[test]
    fn graphs_hold_their_edges_and_batches_their_graphs(
        drawn in prop::collection::vec((1_usize..7, prop::collection::vec((0_usize..7, 0_usize..7, 0_u8..3), 0..20)), 1..6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        directed in any::<bool>(),
        self_loops in any::<bool>(),
        numbered in any::<bool>(),
    ) {
        let drawn: Vec<Drawn> = drawn.into_iter().map(|(nodes, edges)| {
            (nodes, edges.into_iter().map(|(source, target, kind)| (source % nodes, target % nodes, kind)).collect())
        }).collect();
        let text: Vec<String> = drawn.iter().map(|(nodes, edges)| {
            let nodes: Vec<[usize; 1]> = (0..*nodes).map(|node| [node]).collect();
            let edges: Vec<_> = edges.iter().map(|(source, target, kind)| match numbered {
                true => serde_json::json!([source, target, format!("k{kind}"), source + target + 1]),
                false => serde_json::json!([source, target, format!("k{kind}")]),
            }).collect();
            serde_json::json!({ "nodes": nodes, "edges": edges }).to_string()
        }).collect();
        let graphs = lines(&text.join("\n"), &ways(directed, self_loops)).unwrap();
        let indices: Vec<usize> = order.iter().map(|index| index.index(drawn.len())).collect();
        let batch = graphs.batch(&indices);
        prop_assert_eq!(batch.edges.nodes(), batch.offsets.tokens());
        let mut edge = 0;
        for (set, &index) in indices.iter().enumerate() {
            let (nodes, edges) = &drawn[index];
            let start = batch.offsets.range(set).start;
            prop_assert_eq!(batch.offsets.len_of(set), *nodes);
            let mut expected: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
            for &(source, target, kind) in edges {
                let mut note = |row, column| expected.entry((row, column)).or_default().push(format!("k{kind}"));
                note(target, source);
                if !directed {
                    note(source, target);
                }
            }
            if self_loops {
                (0..*nodes).for_each(|node| { expected.entry((node, node)).or_default(); });
            }
            for ((row, column), mut names) in expected {
                names.sort_unstable();
                names.dedup();
                prop_assert_eq!(batch.edges.columns()[edge] as usize, start + column);
                prop_assert!((batch.edges.row_offsets()[start + row]..batch.edges.row_offsets()[start + row + 1]).contains(&edge));
                if batch.edge_dim == 1 {
                    let number = if names.is_empty() { 0.0 } else { (row + column + 1) as f32 };
                    prop_assert_eq!(batch.edge_numbers[edge], number);
                }
                let kind = batch.kinds.as_ref().map_or(0, |kinds| kinds[edge] as usize);
                match names.is_empty() {
                    true => prop_assert_eq!(kind, graphs.kinds() - 1),
                    false => prop_assert_eq!(&graphs.kind_names()[kind], &names.join(" + ")),
                }
                edge += 1;
            }
            prop_assert_eq!(&batch.dense[start..start + nodes], &(0..*nodes).map(|node| node as f32).collect::<Vec<_>>());
        }
        prop_assert_eq!(edge, batch.edges.edges());
        prop_assert_eq!(batch.edge_numbers.len(), edge * batch.edge_dim);
    }
}
