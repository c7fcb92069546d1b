//! Packed nodes of graphs, whatever they are: what a batch of graphs and one of molecules have in common.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use qkv::gather::NONE;
use qkv::{Csr, Offsets};
use qkv_nn::attention::{Graph, Layout};
use qkv_nn::layers::{NodeInput, SparseNodes};
use serde::{Deserialize, Serialize};

/// What of a model's size nodes and edges decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeSizes {
    /// Features of which a node has few.
    pub(crate) features: usize,
    /// Numbers that each node has.
    pub(crate) numbers: usize,
    /// Kinds of edges.
    pub(crate) kinds: usize,
    /// Numbers that each edge has.
    pub(crate) edge_numbers: usize,
}

/// Some graphs, packed.
#[derive(Clone, Debug)]
pub(crate) struct NodeBatch {
    /// Features of which a node has few.
    pub(crate) sparse: Option<SparseNodes>,
    /// Numbers that each node has, `[nodes, dim]`.
    pub(crate) dense: Arc<[f32]>,
    /// How many of these a node has.
    pub(crate) dim: usize,
    /// Which nodes are which graph's.
    pub(crate) offsets: Offsets,
    /// The edges.
    pub(crate) graph: Graph,
    /// The class of each node, [`NONE`] where there is none; empty where nodes have no classes.
    pub(crate) targets: Arc<[u32]>,
}

impl NodeBatch {
    /// Which nodes belong together, and their edges.
    pub(crate) fn layout(&self) -> Layout {
        Layout::with_graph(self.offsets.clone(), self.graph.clone())
    }

    /// What goes into a layer.
    pub(crate) fn input(&self, device: &Device) -> NodeInput {
        let shape = [self.offsets.tokens(), self.dim];
        let dense = (self.dim > 0).then(|| Tensor::from_data(TensorData::new(self.dense.to_vec(), shape), device));
        NodeInput { sparse: self.sparse.clone(), dense }
    }
}

/// Rows of their own numbers of ids, each as long as the longest, [`NONE`] behind its end; and that length.
pub(crate) fn padded<'a>(rows: impl Iterator<Item = &'a [u32]> + Clone) -> (Arc<[u32]>, usize) {
    // A width of one at least, so that a batch without any features is one of zeros.
    let width = rows.clone().map(<[u32]>::len).max().unwrap_or(0).max(1);
    let row = |row: &'a [u32]| row.iter().copied().chain(std::iter::repeat_n(NONE, width - row.len()));
    (rows.flat_map(row).collect(), width)
}

/// The edges of some graphs side by side: for each its rows, counted from its first node.
pub(crate) fn side_by_side(offsets: &Offsets, rows: &[(&[usize], &[u32])]) -> Csr {
    let edges = rows.iter().map(|(_, columns)| columns.len()).sum();
    let (mut row_offsets, mut columns) = (Vec::with_capacity(offsets.tokens() + 1), Vec::with_capacity(edges));
    row_offsets.push(0);
    for (set, (starts, own)) in rows.iter().enumerate() {
        let (first, before) = (offsets.range(set).start as u32, columns.len());
        row_offsets.extend(starts[1..].iter().map(|end| before + end));
        columns.extend(own.iter().map(|column| first + column));
    }
    Csr::new(row_offsets, columns, offsets.tokens()).expect("rows that rise, of graphs that were checked")
}
