//! Which rows of a batch belong together, and how its sets are laid side by side for Burn's operations: worked out once for
//! a batch, when first asked for. The kernels need the offsets alone; groups are for devices without them.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Device;
use qkv::Offsets;
use qkv::gather::NONE;

use crate::ops::RotaryAngles;

use super::Mask;
use super::graph::Graph;
use super::grid::{self, Grid, Place, Relative};
use super::tiles::{TILE_Q, Tiles};

/// Vectors of a set that is attended alone.
const LONG: usize = 4 * TILE_Q;

/// The sets of a batch, with what each layer needs to know of their places.
#[derive(Debug)]
pub struct Layout {
    queries: Offsets,
    keys: Offsets,
    /// Of each set; empty if no set has one.
    grids: Vec<Grid>,
    graph: Option<Graph>,
    grouped: OnceCell<Grouped>,
    tiles: RefCell<Vec<(Mask, Tiles)>>,
    windows: RefCell<BTreeMap<usize, Arc<[u32]>>>,
    squares: RefCell<BTreeMap<usize, Arc<[u32]>>>,
    relative: RefCell<BTreeMap<usize, Arc<Relative>>>,
    /// By width of a head, and whether grids are looked at.
    rotary: RefCell<BTreeMap<(usize, bool), Arc<RotaryAngles>>>,
}

/// All sets that have a query, grouped by length.
#[derive(Debug)]
pub(super) struct Grouped {
    pub(super) groups: Vec<Group>,
    /// For each packed query its row in the padded groups, end to end.
    pub(super) pack: Arc<[u32]>,
}

/// Sets of like length, padded to the longest.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) sets: Vec<Set>,
    /// Queries, and keys, of each set and its padding; at least 1.
    pub(super) q_len: usize,
    pub(super) kv_len: usize,
    /// For each padded row its packed row, or [`NONE`].
    pub(super) unpack_queries: Arc<[u32]>,
    pub(super) unpack_keys: Arc<[u32]>,
}

/// A set in its batch.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) number: usize,
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
    /// Pairs of a query and a key in all sets before it.
    pub(super) pairs_before: usize,
}

impl Layout {
    /// The layout of a batch that attends to itself, and whose sets own the rows that `offsets` says.
    pub fn new(offsets: Offsets) -> Self {
        Self::of(offsets.clone(), offsets, Vec::new())
    }

    /// The same, where vectors of each set lie on a grid: `grids` has one for each set. Whether a layer looks at them is its own
    /// choice; attention without a bias of places does not.
    ///
    /// # Panics
    /// If there is not a grid for each set, or one reaches beyond the end of its set.
    pub fn with_grids(offsets: Offsets, grids: Vec<Grid>) -> Self {
        assert_eq!(offsets.sets(), grids.len(), "layout: {} sets, {} grids", offsets.sets(), grids.len());
        for (set, (length, grid)) in offsets.lengths().zip(&grids).enumerate() {
            let end = grid.rows.checked_mul(grid.columns).and_then(|len| len.checked_add(grid.first));
            assert!(
                end.is_some_and(|end| end <= length),
                "layout: {grid:?} does not fit into set {set}, which has {length} vectors"
            );
        }
        Self::of(offsets.clone(), offsets, grids)
    }

    /// The layout of a batch whose sets are the nodes of graphs.
    ///
    /// # Panics
    /// If `graph` is of another number of nodes, edges or pairs.
    pub fn with_graph(offsets: Offsets, graph: Graph) -> Self {
        graph.check(&offsets);
        Self { graph: Some(graph), ..Self::new(offsets) }
    }

    /// The layout of a batch of queries that attend to the keys of another.
    ///
    /// # Panics
    /// If there are more sets of one than of the other.
    pub fn cross(queries: Offsets, keys: Offsets) -> Self {
        let (of_queries, of_keys) = (queries.sets(), keys.sets());
        assert_eq!(of_queries, of_keys, "attention: {of_queries} sets of queries, {of_keys} of keys");
        Self::of(queries, keys, Vec::new())
    }

    fn of(queries: Offsets, keys: Offsets, grids: Vec<Grid>) -> Self {
        Self {
            queries,
            keys,
            grids,
            graph: None,
            grouped: OnceCell::new(),
            tiles: RefCell::default(),
            windows: RefCell::default(),
            squares: RefCell::default(),
            relative: RefCell::default(),
            rotary: RefCell::default(),
        }
    }

    /// Which rows belong to which set; of cross-attention those of the queries.
    pub fn offsets(&self) -> &Offsets {
        &self.queries
    }

    /// Which queries belong to which set.
    pub fn queries(&self) -> &Offsets {
        &self.queries
    }

    /// Which keys belong to which set.
    pub fn keys(&self) -> &Offsets {
        &self.keys
    }

    /// Pairs of a query and a key of the same set.
    pub fn pairs(&self) -> usize {
        self.queries.lengths().zip(self.keys.lengths()).map(|(q_len, kv_len)| q_len * kv_len).sum()
    }

    /// The place of each vector in its set, from 0.
    pub fn positions(&self) -> Arc<[u32]> {
        self.queries.lengths().flat_map(|length| 0..length as u32).collect()
    }

    /// The grid of each set; empty if no set has one.
    pub fn grids(&self) -> &[Grid] {
        &self.grids
    }

    /// The edges, where the sets are graphs.
    pub fn graph(&self) -> Option<&Graph> {
        self.graph.as_ref()
    }

    /// Where each vector lies in its set; without grids all lie on lines.
    pub fn places(&self) -> Vec<Place> {
        grid::places(&self.queries, &self.grids)
    }

    /// For each row those of the square of `radius` around it on its grid, from the row above to the row below, and in each from
    /// left to right; [`NONE`] beyond the edges: `tokens · (2 · radius + 1)²` ids. A vector on the line has its neighbours on the
    /// line in the middle row, and none above and below.
    pub fn square(&self, radius: usize) -> Arc<[u32]> {
        let make = || grid::squares(&self.queries, &self.grids, radius);
        self.squares.borrow_mut().entry(radius).or_insert_with(make).clone()
    }

    /// The relative bias that tells distances up to `range` apart, on grids and on lines.
    pub(crate) fn relative(&self, range: usize) -> Arc<Relative> {
        let make = || Arc::new(Relative::new(&self.queries, &self.grids, range));
        self.relative.borrow_mut().entry(range).or_insert_with(make).clone()
    }

    /// For each vector of the layout in which squares of two by two have become one, the four vectors of its square, as a width
    /// of [`gather_sum`](crate::ops::gather_sum); and that layout.
    pub(crate) fn halved(&self) -> (Arc<[u32]>, Self) {
        let (ids, offsets, grids) = grid::halved(&self.queries, &self.grids);
        (ids, Self::with_grids(offsets, grids))
    }

    /// For each row the rows from `radius` before to `radius` behind it in its set, [`NONE`] beyond its ends:
    /// `tokens · (2 · radius + 1)` ids.
    pub fn window(&self, radius: usize) -> Arc<[u32]> {
        let make = || {
            let mut ids = Vec::with_capacity(self.queries.tokens() * (2 * radius + 1));
            for set in 0..self.queries.sets() {
                let rows = self.queries.range(set);
                for row in rows.clone() {
                    ids.extend((0..=2 * radius).map(|step| match (row + step).checked_sub(radius) {
                        Some(other) if rows.contains(&other) => other as u32,
                        _ => NONE,
                    }));
                }
            }
            ids.into()
        };
        self.windows.borrow_mut().entry(radius).or_insert_with(make).clone()
    }

    /// The rotary angles for heads of so many elements, on grids or with all on lines, made by `make` when first asked for.
    pub(crate) fn rotary(&self, of: (usize, bool), make: impl FnOnce() -> RotaryAngles) -> Arc<RotaryAngles> {
        self.rotary.borrow_mut().entry(of).or_insert_with(|| Arc::new(make())).clone()
    }

    /// The sets, grouped by length.
    pub(super) fn grouped(&self) -> &Grouped {
        self.grouped.get_or_init(|| Grouped::new(&self.queries, &self.keys))
    }

    /// The tiles of each group under `mask`.
    pub(super) fn tiles(&self, mask: &Mask, device: &Device) -> Tiles {
        let mut known = self.tiles.borrow_mut();
        if let Some((_, tiles)) = known.iter().find(|(of, _)| of == mask) {
            return tiles.clone();
        }
        let tiles: Tiles = Arc::new(self.grouped().groups.iter().map(|group| group.tiles(mask, device)).collect());
        known.push((mask.clone(), Arc::clone(&tiles)));
        tiles
    }
}

impl Grouped {
    fn new(queries: &Offsets, keys: &Offsets) -> Self {
        let mut pairs_before = 0;
        let mut sets: Vec<Set> = (0..queries.sets())
            .map(|number| {
                let set = Set { number, queries: queries.range(number), keys: keys.range(number), pairs_before };
                pairs_before += set.queries.len() * set.keys.len();
                set
            })
            .filter(|set| !set.queries.is_empty())
            .collect();
        sets.sort_by_key(|set| (set.queries.len(), set.keys.len(), set.number));
        let mut groups = Vec::new();
        let mut pack = vec![NONE; queries.tokens()];
        let mut padded_rows = 0;
        let mut rest = sets.as_slice();
        while let Some(first) = rest.first() {
            let (group, tail) = rest.split_at(count_alike(first, rest));
            rest = tail;
            let group = Group::new(group.to_vec());
            for (place, &row) in group.unpack_queries.iter().enumerate().filter(|&(_, &row)| row != NONE) {
                pack[row as usize] = (padded_rows + place) as u32;
            }
            padded_rows += group.unpack_queries.len();
            groups.push(group);
        }
        Self { groups, pack: pack.into() }
    }
}

/// How many of the sets that begin with `first` share its group. Padding within a group stays under a fifth of it, give or take a
/// few rows. A long set goes alone: it fills its tiles by itself, and needs no mask of N².
fn count_alike(first: &Set, sets: &[Set]) -> usize {
    let is_long = |set: &Set| set.queries.len().max(set.keys.len()) > LONG;
    let alike = |a: usize, b: usize| a.max(b) <= a.min(b) * 5 / 4 + 4;
    let fits = |set: &&Set| {
        !is_long(set) && alike(set.queries.len(), first.queries.len()) && alike(set.keys.len(), first.keys.len())
    };
    sets.iter().take_while(fits).count().max(1)
}

impl Group {
    fn new(sets: Vec<Set>) -> Self {
        let longest = |of: fn(&Set) -> &Range<usize>| sets.iter().map(|set| of(set).len()).max().unwrap_or(0).max(1);
        let (q_len, kv_len) = (longest(|set| &set.queries), longest(|set| &set.keys));
        let unpack = |of: fn(&Set) -> &Range<usize>, len: usize| {
            let row = |rows: &Range<usize>, i: usize| if i < rows.len() { (rows.start + i) as u32 } else { NONE };
            sets.iter().flat_map(|set| (0..len).map(move |i| row(of(set), i))).collect()
        };
        let (unpack_queries, unpack_keys) = (unpack(|set| &set.queries, q_len), unpack(|set| &set.keys, kv_len));
        Self { sets, q_len, kv_len, unpack_queries, unpack_keys }
    }
}
