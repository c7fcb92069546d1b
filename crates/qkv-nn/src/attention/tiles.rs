//! What of a group of sets is attended at once where attention is composed of Burn's operations: some queries against the
//! keys they may see, and what is told of each pair. It is worked out on the host.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::Mask;
use super::layout::{Group, Set};

/// Queries attended at once: few enough that a tile of logits stays small, many enough that products are worth their call.
pub(super) const TILE_Q: usize = 128;

/// The tiles of each group.
pub(super) type Tiles = Arc<Vec<Vec<Tile>>>;

/// Some queries of a group against the keys that they may see.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
    /// `[sets, 1, queries, keys]`, 0 or −∞; `None` if every key takes part.
    pub(super) hidden: Option<Tensor<4>>,
    /// `[sets, 1, queries, 1]`: how many keys take part, 1 where none does.
    pub(super) counts: Tensor<4>,
    /// `[sets, 1, queries, 1]`: 0 for a query that may attend to nothing, else 1; `None` if there is none such.
    pub(super) attends: Option<Tensor<4>>,
}

/// A query and a key that it may attend to.
pub(super) struct Pair<'a> {
    pub(super) set: &'a Set,
    pub(super) head: usize,
    /// Counted from the beginning of the set.
    pub(super) query: usize,
    pub(super) key: usize,
    /// Its edge, under a graph.
    pub(super) edge: usize,
}

impl Group {
    /// Its tiles under `mask`.
    pub(super) fn tiles(&self, mask: &Mask, device: &Device) -> Vec<Tile> {
        let starts = (0..self.q_len).step_by(TILE_Q);
        starts
            .map(|start| {
                let queries = start..(start + TILE_Q).min(self.q_len);
                // A tensor needs a column, if only one that is hidden from all.
                let keys = mask.kernel().keys(queries.clone(), self.kv_len);
                let keys = if keys.is_empty() { 0..1 } else { keys };
                self.tile(mask, queries, keys, device)
            })
            .collect()
    }

    fn tile(&self, mask: &Mask, queries: Range<usize>, keys: Range<usize>, device: &Device) -> Tile {
        let (sets, rows, columns) = (self.sets.len(), queries.len(), keys.len());
        let mut hidden = self.for_pairs((&queries, &keys), mask, 1, f32::NEG_INFINITY, |_| 0.0);
        let (mut counts, mut attends) = (vec![0.0; sets * rows], vec![1.0; sets * rows]);
        for ((row, count), attends) in hidden.chunks_exact_mut(columns).zip(&mut counts).zip(&mut attends) {
            *count = row.iter().filter(|&&x| x == 0.0).count() as f32;
            // A row without a key, or of padding, computes with all of them, so that it is not NaN, which a zero gradient
            // would not silence; its weights are zeroed after.
            if *count == 0.0 {
                row.fill(0.0);
                (*count, *attends) = (1.0, 0.0);
            }
        }
        let tensor =
            |numbers: Vec<f32>, width| Tensor::from_data(TensorData::new(numbers, [sets, 1, rows, width]), device);
        let all = hidden.iter().all(|&x| x == 0.0);
        let hidden = (!all).then(|| tensor(hidden, columns));
        let attends = attends.contains(&0.0).then(|| tensor(attends, 1));
        Tile { queries, keys, hidden, counts: tensor(counts, 1), attends }
    }

    /// What `of` says of each pair of a tile of `queries` and `keys` that takes part, and `rest` of all others:
    /// `[sets, heads, queries, keys]`.
    pub(super) fn for_pairs<T: Copy>(
        &self,
        (queries, keys): (&Range<usize>, &Range<usize>),
        mask: &Mask,
        heads: usize,
        rest: T,
        of: impl Fn(&Pair<'_>) -> T,
    ) -> Vec<T> {
        let mut values = vec![rest; self.sets.len() * heads * queries.len() * keys.len()];
        for (set, values) in self.sets.iter().zip(values.chunks_exact_mut(heads * queries.len() * keys.len())) {
            for (head, values) in values.chunks_exact_mut(queries.len() * keys.len()).enumerate() {
                let rows = queries.clone().zip(values.chunks_exact_mut(keys.len()));
                for (query, row) in rows.take_while(|&(query, _)| query < set.queries.len()) {
                    for (key, edge) in set.keys_of(query, mask) {
                        if keys.contains(&key) {
                            row[key - keys.start] = of(&Pair { set, head, query, key, edge });
                        }
                    }
                }
            }
        }
        values
    }
}

impl Set {
    /// The keys that a query may attend to, counted from the beginning of the set, each with its edge under a graph.
    fn keys_of<'a>(&self, query: usize, mask: &'a Mask) -> Box<dyn Iterator<Item = (usize, usize)> + 'a> {
        let Mask::Graph(edges) = mask else {
            return Box::new(mask.kernel().row(query, self.keys.len()).map(|key| (key, 0)));
        };
        let (row, first) = (self.queries.start + query, self.keys.start);
        let edge = edges.row_offsets()[row];
        Box::new(edges.neighbours(row).iter().zip(edge..).map(move |(&key, edge)| (key as usize - first, edge)))
    }
}
