//! How the vectors of a set lie, as far as a model is told. It decides the shapes of parameters, so it is known before any data is.

use crate::attention::{Layout, Place, relative_buckets};

/// How the vectors of a set lie, as far as a model is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Geometry {
    /// One behind the other, whatever the layout says: a picture is its rows end to end.
    #[default]
    Line,
    /// On the grids of the layout. What the layout has on no grid, all of it if it has none, lies on a line.
    Grid {
        /// Rows that learned positions tell apart; later ones share the last.
        max_rows: usize,
        /// Columns that learned positions tell apart.
        max_columns: usize,
    },
    /// As the nodes of graphs. There is no order among them, and so no positions.
    Graph {
        /// Whom a node learns of.
        sees: Sees,
        /// Kinds of edges that a learned bias tells apart; 0 or 1 for none.
        kinds: usize,
        /// Numbers of an edge, from which a learned bias is made; 0 for none.
        numbers: usize,
    },
}

/// Rows of a table of biases by the kind of an edge: none where there is one kind, which nothing would be told of.
pub(super) fn rows_of_kinds(kinds: usize) -> usize {
    if kinds > 1 { kinds } else { 0 }
}

/// Whom a node learns of by attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Those at the other end of its edges.
    Edges,
    /// All of its graph.
    All,
    /// All of its graph, with a learned bias for each bucket of [`Graph::pairs`](crate::attention::Graph::pairs), of which there
    /// are `distances + edges`. The first `distances` are of nodes 0, 1, 2, … edges away, the last of these of all that are farther or
    /// not to be reached; the others are of nodes one edge away, by its kind.
    Buckets {
        /// Distances that are told apart.
        distances: usize,
        /// Kinds of edges that are told apart.
        edges: usize,
    },
}

impl Sees {
    /// What a bias by buckets starts from, `[heads, buckets]`; nothing without buckets.
    ///
    /// As in ALiBi (Press et al., 2022) it falls with the distance, each head by half of what the one before it falls, the first by
    /// 2 an edge: some heads see the nearest at first, others nearly all alike.
    pub(super) fn first_bias(self, heads: usize) -> Vec<f32> {
        let Self::Buckets { distances, edges } = self else { return Vec::new() };
        let away = || (0..distances).map(|distance| distance as f32).chain(std::iter::repeat_n(1.0, edges));
        let of_head = |head: usize| away().map(move |edges| -2.0 * 0.5_f32.powi(head as i32) * edges);
        (0..heads).flat_map(of_head).collect()
    }
}

impl Geometry {
    /// How many vectors a window of `radius` holds: `2 · radius + 1`, or its square.
    pub fn window(self, radius: usize) -> usize {
        let side = radius.saturating_mul(2).saturating_add(1);
        match self {
            Self::Line | Self::Graph { .. } => side,
            Self::Grid { .. } => side.saturating_mul(side),
        }
    }

    /// How many numbers each head of a relative bias has: with `side = 2 · range + 1`, `side` on a line. On grids it is
    /// `side² + side + 2`: for two vectors on the grid one for each distance in rows and columns, for two on the line one for each
    /// distance, and one for a query on the grid and a key on the line, and the other way round.
    pub fn relative_buckets(self, range: usize) -> usize {
        match self {
            Self::Line => range.saturating_mul(2).saturating_add(1),
            Self::Grid { .. } => relative_buckets(range),
            Self::Graph { sees: Sees::Buckets { distances, edges }, .. } => distances + edges,
            Self::Graph { .. } => 0,
        }
    }

    /// How many numbers each head of a layer has for edges: for each kind, and for each number.
    pub fn edge_biases(self) -> [usize; 2] {
        match self {
            Self::Graph { sees: Sees::Edges, kinds, numbers } => [rows_of_kinds(kinds), numbers],
            _ => [0, 0],
        }
    }

    /// How many learned vectors tell places: one for each of the first `max_positions` on a line, and on grids one more for each
    /// row and each column. There is at least one of each.
    pub fn learned_positions(self, max_positions: usize) -> usize {
        let [line, rows, columns] = self.tables(max_positions);
        line.saturating_add(rows).saturating_add(columns)
    }

    /// Learned vectors for places on a line, rows, and columns.
    pub(super) fn tables(self, max_positions: usize) -> [usize; 3] {
        match self {
            Self::Line | Self::Graph { .. } => [max_positions.max(1), 0, 0],
            Self::Grid { max_rows, max_columns } => [max_positions.max(1), max_rows.max(1), max_columns.max(1)],
        }
    }

    /// Where each vector of `layout` lies.
    pub(super) fn places(self, layout: &Layout) -> Vec<Place> {
        match self {
            Self::Line | Self::Graph { .. } => {
                layout.positions().iter().map(|&position| Place::Line(position)).collect()
            }
            Self::Grid { .. } => layout.places(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_heads_start_near_and_kinds_of_edges_are_one_edge_away() {
        let sees = Sees::Buckets { distances: 3, edges: 2 };
        assert_eq!(sees.first_bias(2), [0.0, -2.0, -4.0, -2.0, -2.0, 0.0, -1.0, -2.0, -1.0, -1.0]);
        assert!(Sees::All.first_bias(2).is_empty() && Sees::Edges.first_bias(2).is_empty());
        assert_eq!(Geometry::Graph { sees, kinds: 7, numbers: 1 }.relative_buckets(0), 5);
    }
}
