//! The edges of a batch of graphs.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use qkv::{Csr, Offsets};

use crate::ops::gather_sum;

/// The edges of a batch of graphs, and what is known of each: what attention along edges goes by.
///
/// Row `i` of the edges has the nodes that node `i` learns from, both counted through the whole batch. None leads out of its graph.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The edges.
    pub edges: Arc<Csr>,
    /// The kind of each edge; empty where there is one.
    pub kinds: Arc<[u32]>,
    /// Numbers of each edge, `[edges, dim]`; empty where there are none.
    pub numbers: Arc<[f32]>,
    /// A bucket for each pair of nodes, `[nodes, nodes]` of each graph, one graph after the other, such as how many edges lie
    /// between them; empty where pairs are not told apart.
    pub pairs: Arc<[u8]>,
}

impl Graph {
    /// Edges of one kind.
    pub fn new(edges: Arc<Csr>) -> Self {
        Self { edges, kinds: Arc::default(), numbers: Arc::default(), pairs: Arc::default() }
    }

    /// `[edges, heads]`: what the kind of each edge, by the table `[kinds, heads]`, and its numbers, by the weights `[dim, heads]`,
    /// add to its logits.
    pub(crate) fn bias(&self, kinds: Option<Tensor<2>>, numbers: Option<Tensor<2>>) -> Option<Tensor<2>> {
        let of_kinds = kinds.map(|table| gather_sum(table, self.kinds.clone(), 1));
        let of_numbers = numbers.map(|weight| {
            let shape = [self.edges.edges(), weight.dims()[0]];
            let numbers = TensorData::new(self.numbers.to_vec(), shape);
            Tensor::<2>::from_data(numbers, &weight.device()).matmul(weight)
        });
        match (of_kinds, of_numbers) {
            (Some(kinds), Some(numbers)) => Some(kinds + numbers),
            (kinds, numbers) => kinds.or(numbers),
        }
    }

    /// Checks that this is of sets that own the rows that `offsets` says.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn check(&self, offsets: &Offsets) {
        let (tokens, edges) = (offsets.tokens(), self.edges.edges());
        assert!(
            self.edges.rows() == tokens && self.edges.nodes() == tokens,
            "layout: edges of {} nodes, and {tokens} vectors",
            self.edges.rows()
        );
        assert!(
            self.kinds.is_empty() || self.kinds.len() == edges,
            "layout: {} kinds of {edges} edges",
            self.kinds.len()
        );
        assert!(
            edges == 0 || self.numbers.len().is_multiple_of(edges),
            "layout: {} numbers of {edges} edges",
            self.numbers.len()
        );
        let pairs: usize = offsets.lengths().map(|length| length * length).sum();
        assert!(
            self.pairs.is_empty() || self.pairs.len() == pairs,
            "layout: {} of {pairs} pairs have a bucket",
            self.pairs.len()
        );
    }
}
