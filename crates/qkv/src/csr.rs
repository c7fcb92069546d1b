//! The edges of a graph in compressed rows.

use std::sync::{Arc, OnceLock};

use crate::offsets::{ShapeError, check};

/// Compressed sparse rows: row `i` lists the nodes that node `i` may attend to, sorted and without repetition. Cloning
/// shares the numbers. Edge `e` of the graph is entry `e` of the columns, and edge features are stored in that order.
#[derive(Clone, Debug)]
pub struct Csr {
    row_offsets: Arc<[usize]>,
    columns: Arc<[u32]>,
    nodes: usize,
    /// The same edges by column, once they were asked for.
    by_column: Arc<OnceLock<ByColumn>>,
}

impl PartialEq for Csr {
    fn eq(&self, other: &Self) -> bool {
        (&self.row_offsets, &self.columns, self.nodes) == (&other.row_offsets, &other.columns, other.nodes)
    }
}

impl Eq for Csr {}

/// The edges of a graph in compressed columns.
#[derive(Debug)]
pub(crate) struct ByColumn {
    /// Where each column begins below.
    pub(crate) offsets: Vec<usize>,
    /// The rows that name a column, sorted.
    pub(crate) rows: Vec<u32>,
    /// The edge of each.
    pub(crate) edges: Vec<u32>,
}

impl Csr {
    /// From compressed rows: `rows + 1` offsets into `columns`, each column below `nodes`.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] unless the offsets start at 0, never decrease and end at the number of columns, and each row's
    /// columns rise and stay below `nodes`.
    pub fn new(row_offsets: Vec<usize>, columns: Vec<u32>, nodes: usize) -> Result<Self, ShapeError> {
        check(&row_offsets)?;
        let last = row_offsets[row_offsets.len() - 1];
        if last != columns.len() {
            return Err(ShapeError::ColumnCount { last, columns: columns.len() });
        }
        if nodes > u32::MAX as usize {
            return Err(ShapeError::TooManyNodes { nodes });
        }
        for (row, bounds) in row_offsets.windows(2).enumerate() {
            let neighbours = &columns[bounds[0]..bounds[1]];
            if let Some(&column) = neighbours.iter().find(|&&column| column as usize >= nodes) {
                return Err(ShapeError::NodeOutOfRange { row, column: column as usize, nodes });
            }
            if !neighbours.is_sorted_by(|a, b| a < b) {
                return Err(ShapeError::Unsorted { row });
            }
        }
        Ok(Self { row_offsets: row_offsets.into(), columns: columns.into(), nodes, by_column: Arc::default() })
    }

    /// From a list of `(row, column)` pairs in any order, `nodes` rows. A repeated edge counts once.
    ///
    /// # Errors
    ///
    /// [`ShapeError::NodeOutOfRange`] if an edge names a node that does not exist, [`ShapeError::TooManyNodes`] if a
    /// `u32` cannot name them all.
    pub fn from_edges(nodes: usize, edges: &[(usize, usize)]) -> Result<Self, ShapeError> {
        if let Some(&(row, column)) = edges.iter().find(|&&(row, column)| row >= nodes || column >= nodes) {
            return Err(ShapeError::NodeOutOfRange { row, column, nodes });
        }
        let mut sorted = edges.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut row_offsets = vec![0; nodes + 1];
        for &(row, _) in &sorted {
            row_offsets[row + 1] += 1;
        }
        for row in 0..nodes {
            row_offsets[row + 1] += row_offsets[row];
        }
        // a column beyond `u32` wraps here and is refused by `new`, which sees `nodes` before any column
        Self::new(row_offsets, sorted.iter().map(|&(_, column)| column as u32).collect(), nodes)
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.row_offsets.len() - 1
    }

    /// How many nodes a row may name.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// How many edges in all rows together.
    pub fn edges(&self) -> usize {
        self.columns.len()
    }

    /// The nodes that a row names, sorted.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn neighbours(&self, row: usize) -> &[u32] {
        assert!(row < self.rows(), "Csr::neighbours: row {row} of {}", self.rows());
        &self.columns[self.row_offsets[row]..self.row_offsets[row + 1]]
    }

    /// Where each row begins in [`Csr::columns`]: `rows + 1` numbers.
    pub fn row_offsets(&self) -> &[usize] {
        &self.row_offsets
    }

    /// The columns of all rows, end to end.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// The same edges by column. Sorted once, by counting, and kept: O(rows + nodes + edges) time and memory.
    ///
    /// Of at most 2³² rows and edges.
    pub(crate) fn by_column(&self) -> &ByColumn {
        self.by_column.get_or_init(|| {
            let mut offsets = vec![0; self.nodes + 1];
            for &column in &*self.columns {
                offsets[column as usize + 1] += 1;
            }
            for column in 0..self.nodes {
                offsets[column + 1] += offsets[column];
            }
            let (mut rows, mut edges) = (vec![0; self.edges()], vec![0; self.edges()]);
            let mut next = offsets.clone();
            for row in 0..self.rows() {
                for edge in self.row_offsets[row]..self.row_offsets[row + 1] {
                    let place = &mut next[self.columns[edge] as usize];
                    (rows[*place], edges[*place]) = (row as u32, edge as u32);
                    *place += 1;
                }
            }
            ByColumn { offsets, rows, edges }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_rows_are_refused_by_name() {
        assert_eq!(Csr::new(vec![], vec![], 0), Err(ShapeError::Empty));
        assert_eq!(Csr::new(vec![0, 2], vec![0], 1), Err(ShapeError::ColumnCount { last: 2, columns: 1 }));
        assert_eq!(Csr::new(vec![0, 2, 1], vec![0], 1), Err(ShapeError::Decreasing { index: 2, previous: 2, next: 1 }));
        let outside = ShapeError::NodeOutOfRange { row: 1, column: 3, nodes: 3 };
        assert_eq!(Csr::new(vec![0, 1, 2], vec![0, 3], 3), Err(outside.clone()));
        assert_eq!(Csr::new(vec![0, 0, 2], vec![1, 0], 2), Err(ShapeError::Unsorted { row: 1 }));
        assert_eq!(Csr::new(vec![0, 0, 2], vec![1, 1], 2), Err(ShapeError::Unsorted { row: 1 }));
        assert_eq!(Csr::from_edges(3, &[(1, 3)]), Err(outside));
        assert!(matches!(Csr::from_edges(3, &[(3, 0)]), Err(ShapeError::NodeOutOfRange { row: 3, .. })));
        let many = u32::MAX as usize + 1;
        assert_eq!(Csr::new(vec![0], vec![], many), Err(ShapeError::TooManyNodes { nodes: many }));
    }

    #[test]
    fn edges_are_sorted_and_counted_once() {
        let graph = Csr::from_edges(4, &[(2, 3), (0, 1), (2, 0), (2, 3)]).expect("well formed");
        assert_eq!((graph.rows(), graph.nodes(), graph.edges()), (4, 4, 3));
        assert_eq!(graph.neighbours(2), [0, 3]);
        assert!(graph.neighbours(1).is_empty());
        assert_eq!(graph.row_offsets(), [0, 1, 1, 3, 3]);
    }

    proptest! {
        #[test]
        fn a_graph_holds_exactly_the_edges_it_was_given(edges in prop::collection::vec((0_usize..13, 0_usize..13), 0..80)) {
            let graph = Csr::from_edges(13, &edges).expect("all below 13");
            for row in 0..13 {
                for column in 0..13 {
                    let held = graph.neighbours(row).contains(&(column as u32));
                    prop_assert_eq!(held, edges.contains(&(row, column)));
                }
            }
            let by_column = graph.by_column();
            for column in 0..13 {
                let entries = by_column.offsets[column]..by_column.offsets[column + 1];
                prop_assert!(by_column.rows[entries.clone()].is_sorted_by(|a, b| a < b));
                for entry in entries {
                    let (row, edge) = (by_column.rows[entry] as usize, by_column.edges[entry] as usize);
                    prop_assert_eq!(graph.columns()[edge] as usize, column);
                    prop_assert!((graph.row_offsets()[row]..graph.row_offsets()[row + 1]).contains(&edge));
                }
            }
            let again = Csr::new(graph.row_offsets().to_vec(), graph.columns().to_vec(), 13);
            prop_assert_eq!(again, Ok(graph));
        }
    }
}
