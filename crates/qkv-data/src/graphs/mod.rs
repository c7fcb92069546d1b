//! Graphs: nodes with features and labels, edges with kinds and numbers.
//!
//! Here belong reading one or many graphs, their store, the numbers of their names, and packed batches. A graph is a set whose
//! vectors are its nodes, of which each attends to those that its edges come from.
//!
//! A source is one of:
//!
//! - **A folder with `nodes.tsv` and `edges.tsv`** (or `.csv`, `.parquet`), or the path of the nodes, whose edges lie beside
//!   them under the same name with `edges` for `nodes`: one graph.
//!   - Nodes have the columns `id`; `split` (`train`, `dev`, `test`; or `none`, `-` or nothing, of a node that takes part in
//!     the graph alone); `label`; and `features`, a list between blanks of numbers of features, `19 81 146`, or of their
//!     names, `red round`, each maybe with a value behind a colon, `19:0.5`. All other columns are dense features.
//!   - Edges have the columns `source`, `target` and maybe `relation` (or `kind`); all others are numbers of the edge.
//! - **JSON lines**, an object for each graph:
//!   `{"nodes": ["C", "O"], "edges": [[0, 1, "double"]], "label": "toxic", "split": "train"}`.
//!   - A node is a category, `"C"`; an array of numbers, `[1.0, 2.0]`; or an object `{"category": "C", "features": [1.0, 2.0],
//!     "label": "x"}` of which each key may lack. `labels` beside `nodes` may hold a label for each node; so may a key that is
//!     named for the labels.
//!   - An edge is an array `[source, target]` of the places of nodes, counted from 0, maybe followed by its kind and by
//!     numbers, or an object `{"source": 0, "target": 1, "kind": "double", "features": [1.5]}`.
//!   - A line without a node is an error; one without an edge is not.
//!
//! What becomes of the edges, see [`GraphOptions`]:
//!
//! - An edge that stands there more than once counts once. If it does so with several kinds, it gets a kind of its own that is
//!   called by all of them, such as `knows + likes`; with different numbers it is an error.
//! - Nodes without any feature all have the feature 0.
//!
//! Names, of features and of kinds, get their numbers by a [`GraphVocabulary`] of the training part.
//!
//! ```
//! use qkv_data::graphs::{GraphOptions, GraphVocabulary, read_graphs};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("train.jsonl");
//! # std::fs::write(&path, "{\"nodes\": [\"C\", \"O\"], \"edges\": [[0, 1]], \"label\": \"a\"}\n")?;
//! let graphs = read_graphs(path, &GraphOptions::default())?;
//! let vocabulary = GraphVocabulary::build(&graphs, &[0]);
//! let (graphs, unseen) = graphs.encode(&vocabulary)?;
//! assert!(unseen.is_empty());
//! let batch = graphs.batch(&[0]);
//! // Each node attends to itself and to the other.
//! assert_eq!((batch.offsets.tokens(), batch.edges.edges()), (2, 4));
//! # Ok(())
//! # }
//! ```

mod build;
mod files;
mod json;
mod random;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::ops::Range;
use std::sync::Arc;

use qkv::{Csr, Offsets};

use crate::error::Result;
use crate::examples::ending;
use crate::listing::ListedPart;
use crate::numbers::GivenLabels;
use crate::source::Source;
use crate::tables::TableFormat;

pub use random::random_graph;
pub use vocabulary::{GraphVocabulary, UnseenName};

/// How graphs are read and what becomes of their edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphOptions {
    /// Whether an edge goes one way alone, from its source to its target, which attends to the source. If not, it goes the
    /// other way as well, with the same kind and numbers.
    pub directed: bool,
    /// Whether each node that has no edge to itself gets one, of a kind of its own, the last, and with the numbers 0.
    pub self_loops: bool,
    /// The column or key of the label; `None` takes `label`, `class` or `category`, of JSON `label`, and `labels` for a list
    /// of all nodes'.
    pub label: Option<String>,
    /// Whether labels and parts are wanted. If not, what their columns and keys hold is passed over, and they may lack.
    pub need_labels: bool,
    /// The format of the file; `None` tells it by its ending.
    pub format: Option<TableFormat>,
    /// The column or key of the part; `None` takes `split`.
    pub split: Option<String>,
    /// Columns of nodes and of edges that are not looked at.
    pub ignore: Vec<String>,
    /// The encoding of a text; `None` is UTF-8.
    pub encoding: Option<String>,
}

impl Default for GraphOptions {
    /// Edges go both ways, and each node has one to itself.
    fn default() -> Self {
        Self {
            directed: false,
            self_loops: true,
            label: None,
            need_labels: true,
            format: None,
            split: None,
            ignore: Vec::new(),
            encoding: None,
        }
    }
}

/// Features of which each node has its own number: those of node `n` are `ids[offsets[n]..offsets[n + 1]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseRows {
    /// Where the features of each node begin, `[nodes + 1]`.
    pub offsets: Vec<usize>,
    /// The features of all nodes end to end.
    pub ids: Vec<u32>,
    /// Their values; `None` if all are 1.
    pub values: Option<Vec<f32>>,
}

/// Graphs, end to end.
#[derive(Debug, Clone, PartialEq)]
pub struct Graphs {
    name: String,
    options: GraphOptions,
    /// Which nodes are which graph's.
    nodes: Offsets,
    /// Whether nothing is known of any node, so that all have the feature 0.
    bare: bool,
    sparse: Option<SparseRows>,
    /// How many sparse features there are.
    features: usize,
    /// What the sparse features are called, by id, if they have names.
    feature_names: Option<Vec<String>>,
    dense: Vec<f32>,
    dense_dim: usize,
    dense_names: Vec<String>,
    /// Where the edges of each node begin, through all graphs.
    rows: Vec<usize>,
    /// The nodes that edges come from, counted in their graph.
    columns: Vec<u32>,
    /// The kind of each edge; none if there is one kind alone.
    kinds: Option<Vec<u32>>,
    /// What the kinds are called, by id, but for that of self-loops; one without a name if edges have no kinds.
    kind_names: Vec<String>,
    edge_numbers: Vec<f32>,
    edge_dim: usize,
    edge_names: Vec<String>,
    node_labels: GivenLabels,
    graph_labels: GivenLabels,
    node_parts: Option<Vec<Option<ListedPart>>>,
    graph_parts: Option<Vec<ListedPart>>,
    node_names: Option<Vec<String>>,
    lines: Vec<usize>,
}

/// Some graphs, packed: all their nodes end to end.
#[derive(Debug, Clone)]
pub struct GraphBatch {
    /// The features of each node that has its own number of them.
    pub sparse: Option<SparseRows>,
    /// Dense features, `[nodes, dense_dim]`.
    pub dense: Vec<f32>,
    /// How many dense features a node has, maybe none.
    pub dense_dim: usize,
    /// Which nodes are which graph's: set `s` is the graph `indices[s]`.
    pub offsets: Offsets,
    /// The nodes that each node attends to, both counted through the whole batch, as a mask wants them.
    pub edges: Csr,
    /// The kind of each edge, `[edges]`; `None` if there is one kind alone.
    pub kinds: Option<Arc<[u32]>>,
    /// The numbers of each edge, `[edges, edge_dim]`.
    pub edge_numbers: Vec<f32>,
    /// How many numbers an edge has, maybe none.
    pub edge_dim: usize,
    /// The place of each node among those of all graphs, for its label and part, `[nodes]`.
    pub nodes: Vec<usize>,
    /// Which graphs these are.
    pub indices: Vec<usize>,
}

/// Reads the graphs of a source. What a source may be is said at the [module](self).
///
/// # Errors
///
/// What cannot be opened or decoded and what is not of its format, by line; a column that is needed and is not there; a node
/// twice; edges that name nodes which are not there, counted, the first of them by line; a number that is missing or not
/// finite; nodes or edges of different kinds of features; an edge that stands there with different numbers; a part that is
/// none; a graph without a node.
pub fn read_graphs(source: impl Into<Source>, options: &GraphOptions) -> Result<Graphs> {
    let source = source.into();
    let is_folder = source.path().is_some_and(|path| path.is_dir());
    match (source.path(), ending(source.path()).as_str()) {
        (Some(path), _) if options.format.is_some_and(|format| format != TableFormat::Jsonl) => {
            files::read(path, options)
        }
        _ if options.format.is_some() => json::read(source.open(options.encoding.as_deref())?, options),
        (Some(path), "tsv" | "tab" | "csv" | "parquet" | "pq") => files::read(path, options),
        (Some(path), _) if is_folder => files::read(path, options),
        _ => json::read(source.open(options.encoding.as_deref())?, options),
    }
}

impl Graphs {
    /// How many graphs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.sets()
    }

    /// Whether there are no graphs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How messages name the source.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How they were read.
    #[must_use]
    pub fn options(&self) -> &GraphOptions {
        &self.options
    }

    /// Which nodes are which graph's.
    #[must_use]
    pub fn nodes(&self) -> &Offsets {
        &self.nodes
    }

    /// How many nodes each graph has.
    #[must_use]
    pub fn lengths(&self) -> Vec<usize> {
        self.nodes.lengths().collect()
    }

    /// How many edges all graphs have, those both ways counted twice, and those of a node to itself.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.columns.len()
    }

    /// How many sparse features there are: ids are below. 0 if nodes have none.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// The names of the sparse features by id, if they have any.
    #[must_use]
    pub fn feature_names(&self) -> Option<&[String]> {
        self.feature_names.as_deref()
    }

    /// The sparse features of a node, and their values if not all are 1.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    #[must_use]
    pub fn features_of(&self, node: usize) -> (&[u32], Option<&[f32]>) {
        let Some(SparseRows { offsets, ids, values }) = &self.sparse else { return (&[], None) };
        let range = offsets[node]..offsets[node + 1];
        (&ids[range.clone()], values.as_ref().map(|values| &values[range]))
    }

    /// How many dense features a node has.
    #[must_use]
    pub fn dense_dim(&self) -> usize {
        self.dense_dim
    }

    /// The dense features of all nodes, `[nodes, dense_dim]`. Mean and deviation of them may be taken here.
    #[must_use]
    pub fn dense(&self) -> &[f32] {
        &self.dense
    }

    /// What the dense features are called, if columns name them; else empty.
    #[must_use]
    pub fn dense_names(&self) -> &[String] {
        &self.dense_names
    }

    /// How many kinds of edges there are, that of self-loops included: ids are below.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.kind_names.len() + usize::from(self.options.self_loops)
    }

    /// The names of the kinds by id, but for that of self-loops, which is the last; one empty name if edges have no kinds.
    #[must_use]
    pub fn kind_names(&self) -> &[String] {
        &self.kind_names
    }

    /// How many numbers an edge has.
    #[must_use]
    pub fn edge_dim(&self) -> usize {
        self.edge_dim
    }

    /// What the numbers of an edge are called, if columns name them; else empty.
    #[must_use]
    pub fn edge_names(&self) -> &[String] {
        &self.edge_names
    }

    /// The label of each node of all graphs.
    #[must_use]
    pub fn node_labels(&self) -> &GivenLabels {
        &self.node_labels
    }

    /// The label of each graph.
    #[must_use]
    pub fn graph_labels(&self) -> &GivenLabels {
        &self.graph_labels
    }

    /// The part of each node of all graphs, if anything says so; a node of no part takes part in the graph alone.
    #[must_use]
    pub fn node_parts(&self) -> Option<&[Option<ListedPart>]> {
        self.node_parts.as_deref()
    }

    /// The part of each graph, if anything says so.
    #[must_use]
    pub fn graph_parts(&self) -> Option<&[ListedPart]> {
        self.graph_parts.as_deref()
    }

    /// What a node is called, if it has a name.
    #[must_use]
    pub fn node_name(&self, node: usize) -> Option<&str> {
        self.node_names.as_ref()?.get(node).map(String::as_str)
    }

    /// The line of each graph, counted from one.
    #[must_use]
    pub fn lines(&self) -> &[usize] {
        &self.lines
    }

    /// The graphs `indices`, packed in that order.
    ///
    /// O(nodes + edges). Of the same graphs at every step keep the batch, with which the kernels keep what they derive from
    /// its edges.
    ///
    /// # Panics
    ///
    /// If an index is not below [`len`](Self::len), or there are more nodes than a `u32` can name.
    #[must_use]
    pub fn batch(&self, indices: &[usize]) -> GraphBatch {
        let offsets = Offsets::from_lengths(indices.iter().map(|&index| self.nodes.len_of(index)));
        let ranges: Vec<Range<usize>> = indices.iter().map(|&index| self.nodes.range(index)).collect();
        let edges_of = |range: &Range<usize>| self.rows[range.start]..self.rows[range.end];
        let count: usize = ranges.iter().map(|range| edges_of(range).len()).sum();
        let mut rows = Vec::with_capacity(offsets.tokens() + 1);
        let mut columns = Vec::with_capacity(count);
        let mut dense = Vec::with_capacity(offsets.tokens() * self.dense_dim);
        let mut kinds = self.kinds.as_ref().map(|_| Vec::with_capacity(count));
        let mut edge_numbers = Vec::with_capacity(count * self.edge_dim);
        rows.push(0);
        for (range, &start) in ranges.iter().zip(offsets.as_slice()) {
            let (edges, before) = (edges_of(range), columns.len());
            rows.extend(self.rows[range.start + 1..=range.end].iter().map(|&row| row - edges.start + before));
            columns.extend(self.columns[edges.clone()].iter().map(|&column| column.wrapping_add(start as u32)));
            dense.extend_from_slice(&self.dense[range.start * self.dense_dim..range.end * self.dense_dim]);
            edge_numbers.extend_from_slice(&self.edge_numbers[edges.start * self.edge_dim..edges.end * self.edge_dim]);
            if let (Some(kinds), Some(all)) = (&mut kinds, &self.kinds) {
                kinds.extend_from_slice(&all[edges]);
            }
        }
        let edges = Csr::new(rows, columns, offsets.tokens()).unwrap_or_else(|error| panic!("Graphs::batch: {error}"));
        GraphBatch {
            sparse: self.sparse.as_ref().map(|sparse| sparse.pick(&ranges)),
            dense,
            dense_dim: self.dense_dim,
            offsets,
            edges,
            kinds: kinds.map(Arc::from),
            edge_numbers,
            edge_dim: self.edge_dim,
            nodes: ranges.into_iter().flatten().collect(),
            indices: indices.to_vec(),
        }
    }
}

impl SparseRows {
    /// The rows of some ranges, end to end.
    fn pick(&self, ranges: &[Range<usize>]) -> Self {
        let mut picked = Self { offsets: vec![0], ids: Vec::new(), values: self.values.as_ref().map(|_| Vec::new()) };
        for range in ranges {
            let (entries, before) = (self.offsets[range.start]..self.offsets[range.end], picked.ids.len());
            let ends = self.offsets[range.start + 1..=range.end].iter();
            picked.offsets.extend(ends.map(|&end| end - entries.start + before));
            picked.ids.extend_from_slice(&self.ids[entries.clone()]);
            if let (Some(picked), Some(all)) = (&mut picked.values, &self.values) {
                picked.extend_from_slice(&all[entries]);
            }
        }
        picked
    }
}
