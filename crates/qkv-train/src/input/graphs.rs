//! Graphs as sets of nodes: many of them, each an example, or one of which some nodes are learned from and others judge.

use std::sync::{Arc, OnceLock};

use qkv::gather::NONE;
use qkv_data::builtin::Part;
use qkv_data::graphs::{GraphOptions, GraphVocabulary, Graphs, read_graphs};
use qkv_data::numbers::Standard;
use qkv_data::{LabelledText, Source};
use qkv_nn::attention::Graph;
use qkv_nn::layers::SparseNodes;
use serde::{Deserialize, Serialize};

use super::Wants;
use super::classes::Classes;
use super::media::Media;
use super::nodes::{NodeBatch, NodeSizes, padded};
use super::parts::{Parting, column_of_parts};
use super::reader::{Item, Purpose, Read, format_of};
use crate::error::{Error, Result};
use crate::recipe::{Normalise, Recipe};

/// How graphs become sets. A model keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GraphReader {
    vocabulary: GraphVocabulary,
    /// Mean and deviation of the numbers of nodes; `None` if they stay as they are.
    standard: Option<Standard>,
    /// Whether the features of a node of which it has few are divided by their sum.
    mean: bool,
}

impl GraphReader {
    /// What the training graphs `train` decide.
    pub(super) fn of(recipe: &Recipe, graphs: &Graphs, train: &[usize]) -> Self {
        let normalises = recipe.input.normalise != Normalise::None;
        let dim = graphs.dense_dim();
        let rows = || train.iter().map(|&graph| &graphs.dense()[range(graphs, graph, dim)]);
        Self {
            vocabulary: GraphVocabulary::build(graphs, train),
            standard: (normalises && dim > 0).then(|| Standard::of(rows(), dim)),
            mean: normalises,
        }
    }

    pub(super) fn sizes(&self) -> NodeSizes {
        let vocabulary = &self.vocabulary;
        NodeSizes {
            features: vocabulary.features(),
            numbers: vocabulary.dense_dim(),
            kinds: vocabulary.kinds(),
            edge_numbers: vocabulary.edge_dim(),
        }
    }

    /// The graphs by the names of training, and what the user should know of others.
    pub(super) fn encode(&self, graphs: Graphs) -> Result<(Graphs, Vec<String>)> {
        let name = graphs.name().to_string();
        let (graphs, unseen) = graphs.encode(&self.vocabulary)?;
        check_widths(&graphs)?;
        let told = |unseen: qkv_data::graphs::UnseenName| {
            let called = if unseen.name.is_empty() { "without a name".into() } else { format!("`{}`", unseen.name) };
            format!("{name}: {} {called} never occurs in training ({} times here)", unseen.what, unseen.count)
        };
        Ok((graphs, unseen.into_iter().map(told).collect()))
    }
}

/// Features of all nodes together, where each has as many as the one that has most: 2 GiB of ids.
const MOST_FEATURES: usize = 1 << 29;

/// Checks that a node with very many features does not fill the memory: a batch has rows as long as the longest.
fn check_widths(graphs: &Graphs) -> Result<()> {
    let nodes = graphs.nodes().tokens();
    let width = (0..nodes).map(|node| graphs.features_of(node).0.len()).max().unwrap_or(0);
    if nodes.saturating_mul(width) <= MOST_FEATURES {
        return Ok(());
    }
    Err(Error::Training(format!(
        "{}: one of its nodes has {width} features, and room for so many of each of {nodes} nodes is too much: leave out the commonest features, or give columns of numbers",
        graphs.name()
    )))
}

/// The numbers of the nodes of a graph.
fn range(graphs: &Graphs, graph: usize, dim: usize) -> std::ops::Range<usize> {
    let nodes = graphs.nodes().range(graph);
    nodes.start * dim..nodes.end * dim
}

/// Some graphs, and the classes of their nodes.
#[derive(Clone, Debug)]
pub(crate) struct GraphSets {
    reader: Arc<GraphReader>,
    graphs: Arc<Graphs>,
    which: Vec<usize>,
    /// The place of each node's class among all nodes of `graphs`, [`NONE`] where it has none or is of another part.
    labels: Arc<[u32]>,
    classes: Classes,
    /// A batch of all of them, where there is one graph: it is the same in each step.
    whole: Arc<OnceLock<NodeBatch>>,
}

impl GraphSets {
    /// The graphs `which`; with `nodes`, the part of the nodes whose classes are wanted.
    pub(super) fn new(
        reader: Arc<GraphReader>,
        graphs: Arc<Graphs>,
        which: Vec<usize>,
        (wanted, nodes): (Wants, Option<&[bool]>),
    ) -> Self {
        let mut classes = Classes::default();
        let given = graphs.node_labels();
        let labels: Arc<[u32]> = if wanted == Wants::Each {
            let is_of_part = |node: usize| nodes.is_none_or(|nodes| nodes[node]);
            let place = |(node, label): (usize, Option<&str>)| {
                label.map_or(NONE, |label| {
                    let place = classes.place(label);
                    if is_of_part(node) { place } else { NONE }
                })
            };
            given.iter().enumerate().map(place).collect()
        } else {
            Arc::default()
        };
        Self { reader, graphs, which, labels, classes, whole: Arc::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.which.len()
    }

    pub(super) fn lengths(&self) -> Vec<usize> {
        self.which.iter().map(|&graph| self.graphs.nodes().range(graph).len()).collect()
    }

    pub(super) fn batch(&self, indices: &[usize]) -> NodeBatch {
        if self.which.len() == 1 && indices == [0] {
            return self.whole.get_or_init(|| self.packed(indices)).clone();
        }
        self.packed(indices)
    }

    fn packed(&self, indices: &[usize]) -> NodeBatch {
        let which: Vec<usize> = indices.iter().map(|&index| self.which[index]).collect();
        let mut batch = self.graphs.batch(&which);
        if let Some(standard) = &self.reader.standard {
            standard.apply(&mut batch.dense);
        }
        let sparse = batch.sparse.map(|sparse| {
            let rows = sparse.offsets.windows(2).map(|ends| &sparse.ids[ends[0]..ends[1]]);
            let (ids, width) = padded(rows.clone());
            let mut values = Vec::new();
            if let Some(given) = &sparse.values {
                values = vec![0.0; ids.len()];
                for (node, ends) in sparse.offsets.windows(2).enumerate() {
                    values[node * width..][..ends[1] - ends[0]].copy_from_slice(&given[ends[0]..ends[1]]);
                }
            }
            let sum = |(node, row): (usize, &[u32])| match &sparse.values {
                Some(given) => given[sparse.offsets[node]..sparse.offsets[node + 1]].iter().map(|x| x.abs()).sum(),
                None => row.len() as f32,
            };
            let scale = |sum: f32| if sum > 0.0 { 1.0 / sum } else { 1.0 };
            let scales =
                if self.reader.mean { rows.enumerate().map(|row| scale(sum(row))).collect() } else { [].into() };
            SparseNodes { ids, width, features: self.graphs.features(), values: values.into(), scales }
        });
        let targets = match self.labels.is_empty() {
            true => Arc::default(),
            false => {
                let number = |&node: &usize| match self.labels[node] {
                    NONE => NONE,
                    place => self.classes.number(place),
                };
                batch.nodes.iter().map(number).collect()
            }
        };
        let graph = Graph {
            edges: Arc::new(batch.edges),
            kinds: batch.kinds.unwrap_or_default(),
            numbers: batch.edge_numbers.into(),
            pairs: Arc::default(),
        };
        NodeBatch { sparse, dense: batch.dense.into(), dim: batch.dense_dim, offsets: batch.offsets, graph, targets }
    }

    /// The classes of the nodes of these graphs, by their names.
    pub(super) fn class_names(&self) -> Vec<String> {
        if self.labels.is_empty() {
            return Vec::new();
        }
        let nodes = self.which.iter().flat_map(|&graph| self.graphs.nodes().range(graph));
        self.classes.names_of(nodes.map(|node| self.labels[node]).filter(|&place| place != NONE))
    }

    pub(super) fn number_classes(&mut self, known: &[String]) -> Vec<String> {
        self.whole = Arc::default();
        self.classes.number_by(known)
    }

    /// What the nodes of a graph are called.
    pub(crate) fn node_names(&self, index: usize) -> impl Iterator<Item = String> + '_ {
        let nodes = self.graphs.nodes().range(self.which[index]);
        let first = nodes.start;
        nodes.map(move |node| self.graphs.node_name(node).map_or_else(|| (node - first).to_string(), str::to_string))
    }

    pub(super) fn add_content(&self, content: &mut Vec<u8>) {
        let batch = self.packed(&(0..self.len()).collect::<Vec<_>>());
        if let Some(sparse) = &batch.sparse {
            content.extend(sparse.ids.iter().flat_map(|id| id.to_le_bytes()));
            content.extend(sparse.values.iter().flat_map(|x| x.to_le_bytes()));
        }
        content.extend(batch.dense.iter().flat_map(|x| x.to_le_bytes()));
        content.extend(batch.graph.edges.row_offsets().iter().flat_map(|at| at.to_le_bytes()));
        content.extend(batch.graph.edges.columns().iter().flat_map(|id| id.to_le_bytes()));
        content.extend(batch.graph.kinds.iter().flat_map(|id| id.to_le_bytes()));
        content.extend(batch.graph.numbers.iter().flat_map(|x| x.to_le_bytes()));
        content.extend(batch.targets.iter().flat_map(|id| id.to_le_bytes()));
    }
}

/// Reads graphs and what is known of them.
pub(super) fn read(recipe: &Recipe, path: &str, purpose: Purpose) -> Result<Read> {
    if let Source::Builtin(name) = Source::parse(path) {
        return Err(Error::Training(format!("builtin:{name}: holds no graphs: name a folder or a file of them")));
    }
    // Of what is only to be answered nothing is known.
    let (data, asks) = (&recipe.data, purpose.wanted != Wants::Nothing);
    let options = GraphOptions {
        directed: data.directed,
        self_loops: data.self_loops,
        label: data.one_label().map(str::to_string),
        need_labels: asks,
        format: format_of(recipe)?,
        split: column_of_parts(recipe),
        ignore: data.ignore.as_ref().map(|names| names.all().to_vec()).unwrap_or_default(),
        encoding: data.encoding.clone(),
    };
    let graphs = read_graphs(path, &options)?;
    let labels = graphs.graph_labels();
    let key = data.one_label().unwrap_or("label");
    let nodes_have = graphs.node_labels().iter().any(|label| label.is_some());
    if purpose.wanted == Wants::Each && !nodes_have {
        let told = match labels.iter().any(|label| label.is_some()) {
            true => "the graphs have labels, and their nodes have none: train with --task classify, or with --task regress if they are numbers".into(),
            false => format!("no node has a label: give the nodes a column or key `{key}`, or name another by data.label"),
        };
        return Err(Error::Training(format!("{path}: {told}")));
    }
    let item = |graph: usize| {
        let line = graphs.lines()[graph];
        let text = if graphs.len() == 1 { path.to_string() } else { format!("{path}:{line}") };
        let label = labels.get(graph).map(str::to_string);
        if purpose.wanted == Wants::Labels && label.is_none() {
            let told = match nodes_have {
                true => format!(
                    "the graph has no label, but nodes have: train with --task tag, or give each graph a key `{key}`"
                ),
                false => format!("the graph has no label: give each a key `{key}`, or name another by data.label"),
            };
            return Err(Error::Training(format!("{path}:{line}: {told}")));
        }
        let part = graphs.graph_parts().map(|parts| parts[graph]);
        Ok(Item {
            labelled: LabelledText { text: text.clone(), label, line, group: None },
            file: text,
            targets: Vec::new(),
            part,
        })
    };
    let items = (0..graphs.len()).map(item).collect::<Result<_>>()?;
    Ok(Read { items, media: Media::Graphs(Arc::new(graphs), Vec::new()) })
}

/// Of one graph whose nodes have labels: which nodes are of the part `part`, by `parting` where they are drawn. `None` where there are
/// several graphs. With `dev_elsewhere` nothing is carved off the training nodes.
///
/// # Errors
/// If there is no such node.
pub(super) fn nodes_of(
    recipe: &Recipe,
    graphs: &Graphs,
    part: Part,
    (parting, dev_elsewhere): (Option<&Parting>, bool),
) -> Result<Option<Vec<bool>>> {
    if graphs.len() != 1 {
        return Ok(None);
    }
    let (given, name) = (graphs.node_labels(), graphs.name());
    let labelled: Vec<usize> = (0..given.len()).filter(|&node| given.get(node).is_some()).collect();
    let mut nodes = vec![false; given.len()];
    let parts: Vec<(usize, Part)> = match (graphs.node_parts(), parting) {
        (Some(parts), _) => labelled.iter().filter_map(|&node| Some((node, parts[node]?))).collect(),
        (None, Some(parting)) => labelled.iter().copied().zip(parting.of_nodes(name, labelled.len())?).collect(),
        (None, None) => labelled.iter().map(|&node| (node, Part::Train)).collect(),
    };
    let of = |wanted: Part| parts.iter().filter(move |(_, part)| *part == wanted).map(|(node, _)| *node);
    let train: Vec<usize> = of(Part::Train).collect();
    // Where nothing is said of a dev part, it is carved from the training nodes. Of the test part nothing is.
    let is_whole = part == Part::Test || train.is_empty();
    let carved = match is_whole || dev_elsewhere || of(Part::Dev).next().is_some() {
        true => None,
        false => Some(qkv_data::carve(train.len(), recipe.data.dev_fraction, recipe.training.seed)?),
    };
    let chosen: Vec<usize> = match (part, carved) {
        (Part::Train, Some((stay, _))) => stay.into_iter().map(|place| train[place]).collect(),
        (Part::Dev, Some((_, go))) => go.into_iter().map(|place| train[place]).collect(),
        // Who has no parts is judged as a whole, and so is a dev set of its own.
        (Part::Test, _) if graphs.node_parts().is_none() && parting.is_none() => labelled,
        (Part::Dev, None) if of(Part::Dev).next().is_none() => train,
        _ => of(part).collect(),
    };
    if chosen.is_empty() {
        return Err(Error::Training(format!(
            "{name}: no node with a label is of the part that was asked for; see the column `split` of the nodes, and --split"
        )));
    }
    chosen.into_iter().for_each(|node| nodes[node] = true);
    Ok(Some(nodes))
}

/// All nodes of one graph, as they are, with their classes.
///
/// # Errors
/// If it cannot be encoded.
pub(crate) fn random_nodes(graph: Graphs) -> Result<NodeBatch> {
    let reader = GraphReader { vocabulary: GraphVocabulary::build(&graph, &[0]), standard: None, mean: false };
    let (graph, _) = reader.encode(graph)?;
    let mut sets = GraphSets::new(Arc::new(reader), Arc::new(graph), vec![0], (Wants::Each, None));
    let names = sets.class_names();
    sets.number_classes(&names);
    Ok(sets.packed(&[0]))
}
