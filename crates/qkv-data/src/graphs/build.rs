//! Graphs as they come in: nodes and edges one at a time, compressed rows when a graph is whole.

use std::collections::HashMap;

use qkv::Offsets;

use super::{GraphOptions, Graphs, SparseRows};
use crate::error::{Error, Result, quote};
use crate::examples::Refusal;
use crate::listing::ListedPart;
use crate::numbers::{GivenLabels, Names, finite};

pub(super) type Read<T> = std::result::Result<T, Problem>;

/// What is wrong with a node or an edge, before it is known which it is and where it stands.
pub(super) struct Problem {
    what: String,
    mend: String,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into() }
    }

    /// Of the node or edge at `place` of a graph.
    pub(super) fn within(self, kind: &str, place: usize) -> Self {
        Self { what: format!("{kind} {place}: {}", self.what), mend: self.mend }
    }

    pub(super) fn refusal(self) -> Refusal {
        Refusal::new(self.what, self.mend)
    }
}

/// The kind of an edge of which nothing is said, and of a self-loop that was added, until all graphs are there.
const NO_KIND: u32 = u32::MAX - 1;
const SELF_LOOP: u32 = u32::MAX;

/// Ids of features are below, so that a slip does not become a table that fills the memory.
const MOST_FEATURES: u32 = 1 << 24;

/// Edges of a graph that is not whole yet, as they were given.
#[derive(Default)]
pub(super) struct Edges {
    pub(super) sources: Vec<u32>,
    pub(super) targets: Vec<u32>,
    kinds: Vec<u32>,
    numbers: Vec<f32>,
}

impl Edges {
    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }
}

/// Collects graphs. A reader adds the nodes and edges of a graph and then ends it.
pub(super) struct Builder {
    name: String,
    options: GraphOptions,
    lengths: Vec<usize>,
    /// Nodes of all graphs, those of the one that is not whole included.
    nodes: usize,
    features: Features,
    dense: Vec<f32>,
    dense_dim: Option<usize>,
    pub(super) dense_names: Vec<String>,
    pub(super) edges: Edges,
    rows: Vec<usize>,
    columns: Vec<u32>,
    kinds: Vec<u32>,
    relations: Names,
    combined: HashMap<Vec<u32>, u32>,
    edge_numbers: Vec<f32>,
    edge_dim: Option<usize>,
    pub(super) edge_names: Vec<String>,
    pub(super) node_labels: GivenLabels,
    graph_labels: GivenLabels,
    pub(super) node_parts: Option<Vec<Option<ListedPart>>>,
    graph_parts: Option<Vec<ListedPart>>,
    pub(super) node_names: Option<Vec<String>>,
    lines: Vec<usize>,
}

/// Sparse features as they come in.
#[derive(Default)]
struct Features {
    offsets: Vec<usize>,
    ids: Vec<u32>,
    values: Option<Vec<f32>>,
    /// Whether they have names; not known before the first.
    named: Option<bool>,
    names: Names,
    count: u32,
}

impl Features {
    fn push(&mut self, id: u32, value: f32) {
        if value != 1.0 && self.values.is_none() {
            self.values = Some(vec![1.0; self.ids.len()]);
        }
        self.ids.push(id);
        if let Some(values) = &mut self.values {
            values.push(value);
        }
        self.count = self.count.max(id + 1);
    }

    /// Adds the feature that `text` is: its number or its name, maybe with a value behind a colon.
    fn push_text(&mut self, text: &str) -> Read<()> {
        let (key, value) = match text.rsplit_once(':').map(|(key, value)| (key, value.parse::<f64>())) {
            Some((key, Ok(value))) if !key.is_empty() => match finite(value) {
                Some(value) => (key, value),
                None => {
                    let what = format!("the value of the feature {} is not a finite number", quote(text));
                    return Err(Problem::new(what, "write one such as 19:0.5, or the feature alone for 1"));
                }
            },
            _ => (text, 1.0),
        };
        let number = key.parse::<u32>().ok();
        match (*self.named.get_or_insert(number.is_none()), number) {
            (true, _) => {
                let id = self.names.place_of(key);
                self.push(id, value);
                Ok(())
            }
            (false, Some(id)) if id < MOST_FEATURES => {
                self.push(id, value);
                Ok(())
            }
            (false, Some(id)) => {
                let mend = format!("number features from 0; the numbers have to be below {MOST_FEATURES}");
                Err(Problem::new(format!("the feature {id} is beyond what can be counted"), mend))
            }
            (false, None) => {
                let what = format!("{} is not the number of a feature, as those before are", quote(key));
                Err(Problem::new(what, "write numbers alone or names alone, with blanks between them"))
            }
        }
    }
}

/// What is known of a graph beside its nodes and edges.
#[derive(Default)]
pub(super) struct About<'text> {
    pub(super) label: Option<&'text str>,
    pub(super) part: Option<ListedPart>,
    pub(super) line: usize,
}

/// An edge that stands there with different numbers: the nodes of it.
pub(super) struct Conflict {
    pub(super) source: usize,
    pub(super) target: usize,
    /// The place of the one that differs from those before it, as edges were pushed.
    pub(super) edge: usize,
}

impl Builder {
    pub(super) fn new(name: String, options: &GraphOptions) -> Self {
        Self {
            name,
            options: options.clone(),
            lengths: Vec::new(),
            nodes: 0,
            features: Features::default(),
            dense: Vec::new(),
            dense_dim: None,
            dense_names: Vec::new(),
            edges: Edges::default(),
            rows: vec![0],
            columns: Vec::new(),
            kinds: Vec::new(),
            relations: Names::default(),
            combined: HashMap::new(),
            edge_numbers: Vec::new(),
            edge_dim: None,
            edge_names: Vec::new(),
            node_labels: GivenLabels::default(),
            graph_labels: GivenLabels::default(),
            node_parts: None,
            graph_parts: None,
            node_names: None,
            lines: Vec::new(),
        }
    }

    /// Adds a node without features.
    pub(super) fn begin_node(&mut self) {
        self.nodes += 1;
        self.features.offsets.push(self.features.ids.len());
    }

    /// Gives the node that was added last a feature, a number or a name, maybe with a value behind a colon.
    pub(super) fn push_feature(&mut self, text: &str) -> Read<()> {
        self.features.push_text(text)
    }

    /// Gives the node that was added last a feature that is a name, whatever it looks like.
    pub(super) fn push_name(&mut self, name: &str) {
        self.features.named = Some(true);
        let id = self.features.names.place_of(name);
        self.features.push(id, 1.0);
    }

    /// Gives the node that was added last a dense feature.
    pub(super) fn push_dense(&mut self, number: f32) {
        self.dense.push(number);
    }

    /// Adds dense features of many nodes, each `dim`.
    pub(super) fn set_dense(&mut self, dense: Vec<f32>, dim: usize) {
        (self.dense, self.dense_dim) = (dense, Some(dim));
    }

    /// That the node that was added last has `dim` dense features.
    pub(super) fn end_node(&mut self, dim: usize) -> Read<()> {
        match *self.dense_dim.get_or_insert(dim) {
            first if first == dim => Ok(()),
            first => {
                let what = format!("a node has {dim} numbers where the first has {first}");
                Err(Problem::new(what, "give all as many"))
            }
        }
    }

    /// Adds an edge between two nodes of the graph, whose numbers have been pushed.
    pub(super) fn push_edge(&mut self, source: u32, target: u32, kind: Option<&str>, dim: usize) -> Read<()> {
        if self.edge_dim.is_none() {
            // Nodes before it have edges to themselves alone, which have the numbers 0.
            self.edge_numbers.resize(self.columns.len() * dim, 0.0);
        }
        let first = *self.edge_dim.get_or_insert(dim);
        if first != dim {
            let what = format!("an edge has {dim} numbers where the first has {first}");
            return Err(Problem::new(what, "give all as many"));
        }
        self.edges.sources.push(source);
        self.edges.targets.push(target);
        let kind = kind.filter(|kind| !kind.is_empty());
        self.edges.kinds.push(kind.map_or(NO_KIND, |kind| self.relations.place_of(kind)));
        Ok(())
    }

    /// Adds an edge without kind and numbers to a graph of such edges.
    pub(super) fn push_plain_edge(&mut self, source: u32, target: u32) {
        self.edges.sources.push(source);
        self.edges.targets.push(target);
        self.edges.kinds.push(NO_KIND);
    }

    pub(super) fn push_edge_number(&mut self, number: f32) {
        self.edges.numbers.push(number);
    }

    /// Ends a graph of `nodes` nodes.
    pub(super) fn end(&mut self, nodes: usize, about: &About) -> std::result::Result<(), Conflict> {
        self.compress(nodes)?;
        self.edges = Edges::default();
        self.lengths.push(nodes);
        while self.node_labels.len() < self.nodes {
            self.node_labels.push(None, about.line);
        }
        self.graph_labels.push(about.label, about.line);
        if about.part.is_some() || self.graph_parts.is_some() {
            let before = self.lengths.len() - 1;
            let parts = self.graph_parts.get_or_insert_with(|| vec![ListedPart::Train; before]);
            parts.push(about.part.unwrap_or(ListedPart::Train));
        }
        self.lines.push(about.line);
        Ok(())
    }

    /// Sorts the edges of a graph into rows: by counting into the rows of their targets, there by their sources.
    fn compress(&mut self, nodes: usize) -> std::result::Result<(), Conflict> {
        let edges = std::mem::take(&mut self.edges);
        let both_ways = !self.options.directed;
        let mut starts = vec![0_usize; nodes + 1];
        for (&source, &target) in edges.sources.iter().zip(&edges.targets) {
            starts[target as usize + 1] += 1;
            starts[source as usize + 1] += usize::from(both_ways && source != target);
        }
        (0..nodes).for_each(|row| starts[row + 1] += starts[row]);
        // A source above and the place of the edge below, so that sorting goes by sources.
        let mut entries = vec![0_u64; starts[nodes]];
        let mut next = starts.clone();
        let mut put = |row: u32, column: u32, edge: usize| {
            entries[next[row as usize]] = u64::from(column) << 32 | edge as u64;
            next[row as usize] += 1;
        };
        for (edge, (&source, &target)) in edges.sources.iter().zip(&edges.targets).enumerate() {
            put(target, source, edge);
            if both_ways && source != target {
                put(source, target, edge);
            }
        }
        self.columns.reserve(entries.len());
        for row in 0..nodes {
            let entries = &mut entries[starts[row]..starts[row + 1]];
            entries.sort_unstable();
            let mut needs_loop = self.options.self_loops;
            for run in entries.chunk_by(|one, other| one >> 32 == other >> 32) {
                let column = (run[0] >> 32) as u32;
                if needs_loop && column as usize >= row {
                    needs_loop = false;
                    if column as usize > row {
                        self.push_loop(row);
                    }
                }
                let (source, target) = (column as usize, row);
                self.push_run(column, run, &edges).map_err(|edge| Conflict { source, target, edge })?;
            }
            if needs_loop {
                self.push_loop(row);
            }
            self.rows.push(self.columns.len());
        }
        Ok(())
    }

    fn push_loop(&mut self, row: usize) {
        self.columns.push(row as u32);
        self.kinds.push(SELF_LOOP);
        self.edge_numbers.extend(std::iter::repeat_n(0.0, self.edge_dim.unwrap_or(0)));
    }

    /// Adds the edge that all of `run` are, or says which of them has other numbers.
    fn push_run(&mut self, column: u32, run: &[u64], edges: &Edges) -> std::result::Result<(), usize> {
        let dim = self.edge_dim.unwrap_or(0);
        let place = |entry: u64| (entry & u64::from(u32::MAX)) as usize;
        let numbers = |entry: u64| &edges.numbers[place(entry) * dim..(place(entry) + 1) * dim];
        if let Some(&other) = run.iter().find(|&&entry| numbers(entry) != numbers(run[0])) {
            return Err(place(other));
        }
        self.columns.push(column);
        self.edge_numbers.extend_from_slice(numbers(run[0]));
        let first = edges.kinds[place(run[0])];
        let kind = if run.iter().all(|&entry| edges.kinds[place(entry)] == first) {
            first
        } else {
            let mut kinds: Vec<u32> = run.iter().map(|&entry| edges.kinds[place(entry)]).collect();
            self.combine(&mut kinds)
        };
        self.kinds.push(kind);
        Ok(())
    }

    /// The kind that is all of `kinds`, of which some may stand there twice, or say nothing.
    fn combine(&mut self, kinds: &mut Vec<u32>) -> u32 {
        kinds.retain(|&kind| kind != NO_KIND);
        kinds.sort_unstable();
        kinds.dedup();
        if let [kind] = kinds[..] {
            return kind;
        }
        if let Some(&kind) = self.combined.get(kinds) {
            return kind;
        }
        let mut names: Vec<&str> = kinds.iter().map(|&kind| self.relations.names()[kind as usize].as_str()).collect();
        names.sort_unstable();
        let name = names.join(" + ");
        let kind = self.relations.place_of(&name);
        self.combined.insert(kinds.clone(), kind);
        kind
    }

    pub(super) fn finish(mut self) -> Result<Graphs> {
        if self.lengths.is_empty() {
            let mend = "is it the right file? write {\"nodes\": [\"C\", \"O\"], \"edges\": [[0, 1]]} for each graph";
            return Err(Error::unusable(&self.name, "there is no graph in it", mend));
        }
        let dense_dim = self.dense_dim.unwrap_or(0);
        let bare = self.features.ids.is_empty() && dense_dim == 0;
        if bare {
            // Nodes of which nothing is known are all alike.
            self.features.offsets = (0..self.nodes).collect();
            (self.features.ids, self.features.count) = (vec![0; self.nodes], 1);
        }
        let mut kind_names = self.relations.clone();
        let unnamed = if self.kinds.contains(&NO_KIND) || self.relations.names().is_empty() {
            kind_names.place_of("")
        } else {
            0
        };
        let kind_names = kind_names.into_names();
        let mut kinds = None;
        if kind_names.len() > 1 || self.options.self_loops {
            for kind in &mut self.kinds {
                match *kind {
                    NO_KIND => *kind = unnamed,
                    SELF_LOOP => *kind = kind_names.len() as u32,
                    _ => {}
                }
            }
            kinds = Some(self.kinds);
        }
        let sparse = (!self.features.ids.is_empty()).then(|| {
            let mut offsets = self.features.offsets;
            offsets.push(self.features.ids.len());
            SparseRows { offsets, ids: self.features.ids, values: self.features.values }
        });
        let is_named = sparse.is_some() && self.features.named == Some(true);
        Ok(Graphs {
            name: self.name,
            options: self.options,
            nodes: Offsets::from_lengths(self.lengths),
            bare,
            features: if sparse.is_some() { self.features.count as usize } else { 0 },
            sparse,
            feature_names: is_named.then(|| self.features.names.into_names()),
            dense: self.dense,
            dense_dim,
            dense_names: self.dense_names,
            rows: self.rows,
            columns: self.columns,
            kinds,
            kind_names,
            edge_numbers: self.edge_numbers,
            edge_dim: self.edge_dim.unwrap_or(0),
            edge_names: self.edge_names,
            node_labels: self.node_labels,
            graph_labels: self.graph_labels,
            node_parts: self.node_parts,
            graph_parts: self.graph_parts,
            node_names: self.node_names,
            lines: self.lines,
        })
    }
}
