//! Sets of which some vectors lie on a grid, as the patches of a picture do: the place of each vector, its neighbours, and the
//! bucket of a relative bias that a pair belongs to. All of it follows from offsets and grids; nothing is computed with vectors.

use std::sync::Arc;

use qkv::Offsets;
use qkv::gather::NONE;

use super::Buckets;

/// The vectors of a set that lie on a grid, row by row: `first` stand before it, and `rows · columns` on it.
///
/// What stands before and behind is on no grid: a vector for the whole set, or the words of a question about a picture. It lies
/// on *a line*, on which places are counted from 0, passing over the grid. The default has nothing on a grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// Vectors of the set that stand before it.
    pub first: usize,
    /// Rows, counted downwards.
    pub rows: usize,
    /// Columns, counted to the right.
    pub columns: usize,
}

/// Where a vector lies in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the line, so many vectors of it before this one.
    Line(u32),
    /// On the grid, in this row and this column.
    Grid([u32; 2]),
}

impl Grid {
    /// A grid that the set begins with.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { first: 0, rows, columns }
    }

    /// How many vectors lie on it.
    pub fn len(&self) -> usize {
        self.rows.saturating_mul(self.columns)
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of vector `n` of its set.
    pub fn place(&self, n: usize) -> Place {
        match n.checked_sub(self.first) {
            None => Place::Line(n as u32),
            Some(at) if at < self.len() => Place::Grid([(at / self.columns) as u32, (at % self.columns) as u32]),
            Some(_) => Place::Line((n - self.len()) as u32),
        }
    }

    /// The vector that lies `down` rows below and `right` columns to the right of vector `n` of a set of `len`. On the line
    /// behind is right, and nothing is above or below.
    fn neighbour(&self, n: usize, [down, right]: [isize; 2], len: usize) -> Option<usize> {
        let moved = |at: u32, by: isize| (at as usize).checked_add_signed(by);
        match self.place(n) {
            Place::Grid([row, column]) => {
                let row = moved(row, down).filter(|&row| row < self.rows)?;
                let column = moved(column, right).filter(|&column| column < self.columns)?;
                Some(self.first + row * self.columns + column)
            }
            Place::Line(place) => {
                let place = moved(place, right).filter(|_| down == 0)?;
                let n = if place < self.first { place } else { place + self.len() };
                (n < len).then_some(n)
            }
        }
    }
}

/// The grid of each set of `offsets`, of which fewer may be given: the rest has none.
fn of_sets<'a>(offsets: &'a Offsets, grids: &'a [Grid]) -> impl Iterator<Item = (std::ops::Range<usize>, Grid)> + 'a {
    (0..offsets.sets()).map(|set| (offsets.range(set), grids.get(set).copied().unwrap_or_default()))
}

/// The place of each vector.
pub(super) fn places(offsets: &Offsets, grids: &[Grid]) -> Vec<Place> {
    of_sets(offsets, grids).flat_map(|(rows, grid)| (0..rows.len()).map(move |n| grid.place(n))).collect()
}

/// For each vector those of the square of side `2 · radius + 1` around it, row by row, [`NONE`] where nothing lies.
pub(super) fn squares(offsets: &Offsets, grids: &[Grid], radius: usize) -> Arc<[u32]> {
    let reach = radius as isize;
    let mut ids = Vec::with_capacity(offsets.tokens() * (2 * radius + 1) * (2 * radius + 1));
    for (rows, grid) in of_sets(offsets, grids) {
        for n in 0..rows.len() {
            for down in -reach..=reach {
                for right in -reach..=reach {
                    let neighbour = grid.neighbour(n, [down, right], rows.len());
                    ids.push(neighbour.map_or(NONE, |n| (rows.start + n) as u32));
                }
            }
        }
    }
    ids.into()
}

/// Four vectors for each that is left when squares of two by two become one: those of the square, and those at the edge of a
/// grid again where it has an odd side. A vector of the line stays, and is there four times. Beside it, what is left.
pub(super) fn halved(offsets: &Offsets, grids: &[Grid]) -> (Arc<[u32]>, Offsets, Vec<Grid>) {
    let (mut ids, mut lengths, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for (rows, grid) in of_sets(offsets, grids) {
        let half = Grid { rows: grid.rows.div_ceil(2), columns: grid.columns.div_ceil(2), ..grid };
        let len = rows.len() - grid.len() + half.len();
        for n in 0..len {
            let corner = match half.place(n) {
                Place::Grid([row, column]) => [row, column].map(|at| 2 * at as usize),
                Place::Line(_) => {
                    let n = if n < grid.first { n } else { n - half.len() + grid.len() };
                    ids.extend([(rows.start + n) as u32; 4]);
                    continue;
                }
            };
            ids.extend([[0, 0], [0, 1], [1, 0], [1, 1]].map(|[down, right]| {
                let row = (corner[0] + down).min(grid.rows - 1);
                let column = (corner[1] + right).min(grid.columns - 1);
                (rows.start + grid.first + row * grid.columns + column) as u32
            }));
        }
        lengths.push(len);
        left.push(half);
    }
    (ids.into(), Offsets::from_lengths(lengths), left)
}

/// How many numbers a head has in a relative bias over grids, as [`Relative`] says.
pub(crate) fn relative_buckets(range: usize) -> usize {
    let side = range.saturating_mul(2).saturating_add(1);
    side.saturating_mul(side).saturating_add(side).saturating_add(2)
}

/// A relative bias over sets with grids, as the kernels know it.
///
/// What is learned has for each head, with `side = 2 · range + 1` and distances as query less key, kept within `±range`:
///
/// | numbers | of pairs |
/// | --- | --- |
/// | `side²` | both on the grid, by the distance in rows, then in columns |
/// | `side` | both on the line, by their distance on it |
/// | 1 | query on the grid, key on the line |
/// | 1 | query on the line, key on the grid |
///
/// The kernels know pairs of coordinates alone ([`Buckets::Grid`]), and keep each within a reach of its own. So the line is laid so
/// far beyond the last row, for keys elsewhere than for queries, that the difference of rows tells which kind of pair it is: less
/// than `height`, that of the highest grid, in size if both are on the grid, `height` if both are on the line, and beyond it, on
/// either side, if one is on each. Their table, of all these differences, is picked from what is learned.
#[derive(Debug)]
pub(crate) struct Relative {
    /// What the kernels are asked for.
    pub(crate) buckets: Buckets,
    /// For each of their buckets the one that is learned, or [`NONE`] if no pair belongs to it.
    pub(crate) learned: Arc<[u32]>,
}

/// Rows of the highest grid: the kernels' reach is one more.
const MOST_ROWS: usize = i16::MAX as usize - 1;

impl Relative {
    /// # Panics
    /// If a grid has more than 32,766 rows.
    pub(super) fn new(offsets: &Offsets, grids: &[Grid], range: usize) -> Self {
        let height = grids.iter().filter(|grid| !grid.is_empty()).map(|grid| grid.rows).max().unwrap_or(0);
        assert!(
            height <= MOST_ROWS,
            "attention: a relative bias knows grids of {MOST_ROWS} rows at most, not {height}"
        );
        let (beyond, side) = (height as isize + 1, 2 * range + 1);
        let differences = (-beyond..=beyond).flat_map(|down| (0..side).map(move |right| (down, right)));
        let learned = differences.map(|(down, right)| learned_of(height, range, down, right)).collect();
        let lay = |line: i32| -> Arc<[[i32; 2]]> {
            let of = |place| match place {
                Place::Grid(at) => at.map(|at| at as i32),
                Place::Line(at) => [line, at as i32],
            };
            places(offsets, grids).into_iter().map(of).collect()
        };
        let (queries, keys) = (lay(3 * height as i32), lay(2 * height as i32));
        Self { buckets: Buckets::Grid { queries, keys, reach: [beyond as usize, range] }, learned }
    }
}

/// The learned bucket of the kernels' bucket for a difference of `down` rows, and the `right`-th of columns.
fn learned_of(height: usize, range: usize, down: isize, right: usize) -> u32 {
    let (side, reach, height) = (2 * range + 1, range as isize, height as isize);
    let bucket = match down {
        _ if down < -height => side * side + side,
        _ if down > height => side * side + side + 1,
        _ if down == height => side * side + right,
        _ if down == -height => return NONE,
        _ => (down.clamp(-reach, reach) + reach) as usize * side + right,
    };
    bucket as u32
}
