//! How the work of one call is split: by its shape and mask alone, so that the bits do not depend on the threads.
//!
//! Belongs here: what is done together, and in which order. Does not: doing it.
//!
//! ```text
//! forward    a set that is short, or one of many, or under a narrow window: a unit packs the keys and values it needs and
//!            meets them with its queries
//!            another: first its keys and values are packed, by pieces; then units of queries meet all of them
//! backward   a set that is short, or one of many: one unit walks its blocks of keys
//!            another: a unit for each block of keys, which meets all queries; blocks add to the gradient of a query in
//!            their order, each waiting for its turn
//! few queries    parts of the keys, for each head or for all, and merges of what they leave (few.rs)
//! sparse graphs  units of queries with about as many edges; backward then units of keys (edges.rs)
//! ```
//!
//! A set is one of many if it is at most one part in [`MANY`] of the work: threads then find enough to do without sharing it,
//! and what belongs to it stays in the caches of one. Units go from the largest to the smallest, so that threads end together.
//!
//! Sets are packed beforehand in waves of at most [`WAVE`] numbers (or one set), so that scratch memory is bounded by the
//! longest set and not by the batch.

use std::cmp::Reverse;
use std::ops::Range;

use super::choice::Choice;
use super::edges;
use super::few::{self, Merge, Part};
use super::forward;
use super::kernels::{BACKWARD_KEYS, BACKWARD_QUERIES, FORWARD_KEYS, FORWARD_QUERIES};
use super::pack::padded;
use super::shape::{Inputs, Shape};
use crate::csr::Csr;
use crate::options::Mask;

/// Keys up to which a set is short: at width 64 they and their values take 256 KiB, a quarter of a second-level cache of 1 MiB.
const SHORT_KEYS: usize = 512;

/// Numbers of the keys, values and gradients of a block that a thread of the backward pass holds: half of a second-level
/// cache of 1 MiB. The larger a block, the rarer are queries packed and their gradients added.
const BLOCK: usize = 128 << 10;

/// Tiles of keys of a block, at most.
const BLOCK_TILES: usize = 4;

/// Blocks into which the sets that threads share are cut, at least, where there are enough tiles.
const BLOCKS: usize = 20;

/// Pairs up to which the backward pass walks a set in one unit: some hundred microseconds at width 64.
const SHORT_PAIRS: usize = (4 * BACKWARD_KEYS) * (4 * BACKWARD_KEYS);

/// A set that is at most so small a part of the work is not shared by threads.
const MANY: usize = 32;

/// Keys up to which a unit packs those of one set of many: at width 64 they and their values take 1 MiB.
const MANY_KEYS: usize = 2048;

/// Queries of a unit that packs its own keys: packing 512 of them is then some percent of the unit's work, at most.
const OWN_QUERIES: usize = 24 * FORWARD_QUERIES;

/// Units under a narrow window, where there would be fewer: enough for several threads to have as much to do.
const NARROW_UNITS: usize = 32;

/// Queries of a unit that meets long sets.
const LONG_QUERIES: usize = 2 * FORWARD_QUERIES;

/// Keys of a panel of the widest kind. Packed keys begin at a multiple of it, so that the plan is the same for every instruction
/// set.
const WIDEST_PANEL: usize = 32;

/// Keys packed by one unit.
const PACKED_KEYS: usize = 1024;

/// Numbers packed before any query is met: 32 MiB.
const WAVE: usize = 8 << 20;

/// Multiply-adds below which units are done together: some ten microseconds, several times what it costs to hand a unit to
/// another thread.
const TASK: usize = 1 << 20;

/// Pairs of a tile that take as long as one edge that is followed: a tile computes with whole registers, in order, and packs its
/// keys once for all queries, but it computes every pair.
const PAIRS_OF_AN_EDGE: usize = 8;

/// Edges, and nodes, of a unit that follows edges.
const FOLLOWED: usize = 4096;

/// Keys of all heads that a part has, at least, where a few queries share them: some ten microseconds of reading, beside the two that it
/// takes to hand a part to a thread that is awake.
const PART_KEYS: usize = 4 * FORWARD_KEYS;

/// Parts of one set, at most.
const PARTS: usize = 32;

/// How a set is walked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Tiles of queries against tiles of keys.
    Tiles,
    /// A few queries against parts of the keys.
    Few,
    /// Query after query along its edges.
    Edges,
}

/// Queries of some heads of one set that meet its keys.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) set: usize,
    pub(crate) kv_head: usize,
    pub(crate) heads: Range<usize>,
    /// Counted from the beginning of the set.
    pub(crate) queries: Range<usize>,
    /// Where keys and values come from.
    pub(crate) packed: Packed,
    /// Multiply-adds, about.
    cost: usize,
}

/// Where the keys and values of a unit come from.
#[derive(Clone, Debug)]
pub(crate) enum Packed {
    /// From the wave, which has packed the whole set there.
    At(usize),
    /// From the unit, which packs these; they begin with a whole panel.
    Own(Range<usize>),
}

/// Some keys and values of a long set to be packed.
#[derive(Clone, Debug)]
pub(crate) struct Packing {
    pub(crate) set: usize,
    pub(crate) kv_head: usize,
    pub(crate) keys: Range<usize>,
    /// Where those of the set lie.
    pub(crate) packed: usize,
}

/// Keys whose gradients one unit of the backward pass computes.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) set: usize,
    pub(crate) kv_head: usize,
    pub(crate) keys: Range<usize>,
    /// Where the turns of the set's tiles of queries are counted; nowhere if no other unit adds to them.
    pub(crate) turns: Option<usize>,
    /// Under a graph, the tiles of queries among which are all that see its keys.
    pub(crate) tiles: Range<usize>,
    /// Multiply-adds, about.
    cost: usize,
}

/// One set and one head of keys, as the plan goes through them.
#[derive(Debug)]
struct Item {
    set: usize,
    kv_head: usize,
    q_len: usize,
    kv_len: usize,
    /// Pairs that take part, about.
    pairs: usize,
    /// Where the turns of its tiles of queries are counted.
    turns: usize,
}

/// How the work of one call is split. Its vectors keep their capacity from call to call.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) units: Vec<Unit>,
    pub(crate) packings: Vec<Packing>,
    /// Packings, then tasks, of each wave.
    pub(crate) waves: Vec<(Range<usize>, Range<usize>)>,
    pub(crate) blocks: Vec<Block>,
    /// How many of them, from the first, share their queries with others.
    pub(crate) shared: usize,
    /// Units or blocks that are done together.
    pub(crate) tasks: Vec<Range<usize>>,
    /// Numbers that the largest wave packs.
    pub(crate) packed: usize,
    /// Keys that a unit packs for itself, at most.
    pub(crate) own_keys: usize,
    /// Keys of a block of the backward pass.
    pub(crate) block_keys: usize,
    /// Tiles of queries whose turns are counted.
    pub(crate) turns: usize,
    /// Keys of sets with a few queries, and how what their parts find is merged.
    pub(crate) parts: Vec<Part>,
    pub(crate) merges: Vec<Merge>,
    /// Numbers that all parts leave.
    pub(crate) partial: usize,
    /// Rows whose sums a thread keeps at once, at most, beyond those of a tile.
    rows: usize,
    /// Queries, and keys, of sets that go along their edges.
    pub(crate) by_query: Vec<edges::Unit>,
    pub(crate) by_key: Vec<edges::Unit>,
    /// How each set is walked through.
    ways: Vec<Way>,
    /// For each tile of queries of the backward pass, of each graph that is walked through by tiles, the keys from the first to the
    /// last that it sees.
    pub(crate) hulls: Vec<Range<usize>>,
    /// What [`Plan::find_tiles`] finds for the blocks of a set.
    by_block: Vec<Range<usize>>,
    /// Of each set, where its hulls begin, and how many pairs they hold; of graphs alone.
    pub(crate) graphs: Vec<(usize, usize)>,
    /// Long sets on whose blocks the plan is at work.
    long: Vec<Item>,
}

impl Plan {
    /// Plans the forward pass; `last` if no backward pass follows.
    pub(crate) fn forward(&mut self, inputs: &Inputs<'_>, choice: &Choice<'_>, last: bool) {
        self.clear();
        let (shape, mask) = (inputs.shape, choice.mask);
        self.find_ways(inputs, choice, Some(if last { few::is_few_for_good } else { few::is_few }));
        let (ways, graphs) = (std::mem::take(&mut self.ways), std::mem::take(&mut self.graphs));
        let walk = Walk { inputs, mask, ways: &ways, graphs: &graphs };
        let mut wave = Wave::default();
        let many = many(walk);
        for item in items(walk) {
            if let Some(queries) = own_queries(&item, many, inputs, mask) {
                self.add_own(&item, queries, shape, mask);
                continue;
            }
            let numbers = packed_numbers(shape, item.kv_len);
            if wave.packed > 0 && wave.packed + numbers > WAVE {
                self.close(&mut wave);
            }
            self.add_long(&item, &mut wave, shape, mask);
            wave.packed += numbers;
        }
        self.close(&mut wave);
        (self.ways, self.graphs) = (ways, graphs);
        for set in 0..inputs.queries.sets() {
            match self.ways[set] {
                Way::Tiles => {}
                Way::Few => self.add_few(inputs, mask, set),
                Way::Edges => self.add_edges(inputs, choice, set, false),
            }
        }
    }

    /// Scratch memory of a thread for the forward pass that was planned.
    pub(super) fn forward_layout(&self, shape: Shape, choice: &Choice<'_>, keeps: bool) -> forward::Layout {
        let own = packed_numbers(shape, self.own_keys);
        let packed = if self.parts.is_empty() { own } else { own.max(few::packed(shape)) };
        forward::Layout::new(shape, self.rows, choice.collects_bias(), packed, keeps)
    }

    /// How each set is gone through. `is_few` tells sets of few queries, of a shape and so many queries and keys, if there is a way of
    /// their own for them.
    fn find_ways(&mut self, inputs: &Inputs<'_>, choice: &Choice<'_>, is_few: Option<fn(Shape, usize, usize) -> bool>) {
        for set in 0..inputs.queries.sets() {
            let (q_len, kv_len) = (inputs.queries.len_of(set), inputs.keys.len_of(set));
            let way = match choice.mask {
                Mask::Graph(edges) => {
                    let (first, pairs) = (self.hulls.len(), self.add_hulls(inputs, edges, set));
                    let queries = inputs.queries.range(set);
                    let edges = edges.row_offsets()[queries.end] - edges.row_offsets()[queries.start];
                    let way = if edges == 0 || pairs / PAIRS_OF_AN_EDGE > edges { Way::Edges } else { Way::Tiles };
                    if way == Way::Edges {
                        self.hulls.truncate(first);
                    }
                    self.graphs.push((first, pairs));
                    way
                }
                _ if is_few.is_some_and(|is_few| is_few(inputs.shape, q_len, kv_len)) => Way::Few,
                _ => Way::Tiles,
            };
            self.ways.push(way);
        }
    }

    /// Adds the hulls of the tiles of a set, and returns how many pairs they hold.
    fn add_hulls(&mut self, inputs: &Inputs<'_>, edges: &Csr, set: usize) -> usize {
        let (queries, keys) = (inputs.queries.range(set), inputs.keys.range(set));
        let mut pairs = 0;
        for first in queries.clone().step_by(BACKWARD_QUERIES) {
            let tile = first..(first + BACKWARD_QUERIES).min(queries.end);
            let rows = tile.clone().filter_map(|query| {
                let row = edges.neighbours(query);
                Some((*row.first()?, *row.last()?))
            });
            let hull = rows.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
            let hull = hull.map_or(0..0, |(first, last)| first as usize - keys.start..last as usize + 1 - keys.start);
            pairs += tile.len() * hull.len();
            self.hulls.push(hull);
        }
        pairs
    }

    /// For each block of keys of a graph, the tiles of queries from the first to the last that see it.
    fn find_tiles(&mut self, inputs: &Inputs<'_>) {
        let Self { blocks, hulls, graphs, block_keys, shared, by_block, .. } = self;
        if graphs.is_empty() {
            return;
        }
        let tiles = |set: usize| inputs.queries.len_of(set).div_ceil(BACKWARD_QUERIES);
        let (shared, others) = blocks.split_at_mut(*shared);
        others.iter_mut().for_each(|block| block.tiles = 0..tiles(block.set));
        for n in 0..shared.len() {
            let Block { set, kv_head: 0, keys: Range { start: 0, .. }, .. } = shared[n] else { continue };
            by_block.clear();
            by_block.resize(inputs.keys.len_of(set).div_ceil(*block_keys), Range { start: usize::MAX, end: 0 });
            let hulls = &hulls[graphs[set].0..][..tiles(set)];
            for (tile, hull) in hulls.iter().enumerate().filter(|(_, hull)| !hull.is_empty()) {
                for seen in &mut by_block[hull.start / *block_keys..=(hull.end - 1) / *block_keys] {
                    *seen = seen.start.min(tile)..seen.end.max(tile + 1);
                }
            }
            for block in shared.iter_mut().filter(|block| block.set == set) {
                block.tiles = by_block[block.keys.start / *block_keys].clone();
            }
        }
    }

    /// Parts of the keys of a set with a few queries.
    fn add_few(&mut self, inputs: &Inputs<'_>, mask: Mask<'_>, set: usize) {
        let shape = inputs.shape;
        let (q_len, kv_len) = (inputs.queries.len_of(set), inputs.keys.len_of(set));
        let seen = mask.keys(0..q_len, kv_len);
        let (record, rows) = (few::record(shape, q_len), shape.group() * q_len);
        let parts =
            (seen.len() * shape.kv_heads / PART_KEYS).clamp(1, PARTS).min(seen.len().div_ceil(FORWARD_KEYS).max(1));
        let size = seen.len().div_ceil(parts).next_multiple_of(FORWARD_KEYS).max(1);
        let parts = seen.len().div_ceil(size).max(1);
        let first = self.partial;
        // Heads that lie side by side are read together.
        let together = if inputs.key.has_heads_side_by_side() { shape.kv_heads } else { 1 };
        for kv_head in (0..shape.kv_heads).step_by(together) {
            for part in 0..parts {
                let start = seen.start + part * size;
                let keys = start..(start + size).min(seen.end);
                let partial = first + (part * shape.kv_heads + kv_head) * record;
                let kv_heads = kv_head..kv_head + together;
                self.parts.push(Part { set, kv_heads, keys, is_first: part == 0, partial });
            }
        }
        for kv_head in 0..shape.kv_heads {
            let stride = shape.kv_heads * record;
            self.merges.push(Merge { set, kv_head, first: first + kv_head * record, stride, parts });
        }
        self.partial += parts * shape.kv_heads * record;
        self.rows = self.rows.max(together * rows);
    }

    /// Units of a set that goes along its edges.
    fn add_edges(&mut self, inputs: &Inputs<'_>, choice: &Choice<'_>, set: usize, backward: bool) {
        let Some(edges) = choice.edges() else { return };
        let queries = inputs.queries.range(set);
        let offsets = edges.row_offsets();
        // What each hands in of a table's gradient must not take longer than what it computes.
        let size = FOLLOWED.max(choice.shared_numbers() / 4);
        units(&mut self.by_query, size, set, queries.len(), |query| {
            offsets[queries.start + query + 1] - offsets[queries.start + query]
        });
        if backward {
            let (keys, by_column) = (inputs.keys.range(set), edges.by_column());
            let offsets = &by_column.offsets;
            units(&mut self.by_key, FOLLOWED, set, keys.len(), |key| {
                offsets[keys.start + key + 1] - offsets[keys.start + key]
            });
        }
    }

    /// Units of so many queries, each of which packs the keys that they see.
    fn add_own(&mut self, item: &Item, queries: usize, shape: Shape, mask: Mask<'_>) {
        let &Item { set, kv_head, q_len, kv_len, .. } = item;
        for queries in pieces(q_len, queries) {
            let keys = mask.keys(queries.clone(), kv_len);
            let keys = keys.start / WIDEST_PANEL * WIDEST_PANEL..keys.end;
            self.own_keys = self.own_keys.max(keys.len());
            let heads = kv_head * shape.group()..(kv_head + 1) * shape.group();
            let cost = forward_cost(shape, heads.len(), &queries, &keys);
            self.units.push(Unit { set, kv_head, heads, queries, packed: Packed::Own(keys), cost });
        }
    }

    fn add_long(&mut self, item: &Item, wave: &mut Wave, shape: Shape, mask: Mask<'_>) {
        let &Item { set, kv_head, q_len, kv_len, .. } = item;
        let seen = if q_len == 0 { 0..0 } else { mask.keys(0..q_len, kv_len) };
        for keys in pieces(seen.end, PACKED_KEYS) {
            if keys.end > seen.start {
                self.packings.push(Packing { set, kv_head, keys, packed: wave.packed });
            }
        }
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            for queries in pieces(q_len, LONG_QUERIES) {
                let cost = forward_cost(shape, 1, &queries, &mask.keys(queries.clone(), kv_len));
                let packed = Packed::At(wave.packed);
                self.units.push(Unit { set, kv_head, heads: head..head + 1, queries, packed, cost });
            }
        }
    }

    /// Ends a wave: groups what has been added since the last one into tasks.
    fn close(&mut self, wave: &mut Wave) {
        let first = self.tasks.len();
        let Self { units, tasks, .. } = self;
        units[wave.units..]
            .sort_unstable_by_key(|unit| (Reverse(unit.cost), unit.set, unit.heads.start, unit.queries.start));
        group(tasks, wave.units..units.len(), |n| units[n].cost);
        self.waves.push((wave.packings..self.packings.len(), first..self.tasks.len()));
        self.packed = self.packed.max(wave.packed);
        *wave = Wave { packed: 0, units: self.units.len(), packings: self.packings.len() };
    }

    /// Plans the backward pass.
    pub(crate) fn backward(&mut self, inputs: &Inputs<'_>, choice: &Choice<'_>) {
        self.clear();
        let (shape, mask) = (inputs.shape, choice.mask);
        self.find_ways(inputs, choice, None);
        let (ways, graphs) = (std::mem::take(&mut self.ways), std::mem::take(&mut self.graphs));
        let walk = Walk { inputs, mask, ways: &ways, graphs: &graphs };
        let many = many(walk);
        let cost = |set: usize, keys: &Range<usize>| {
            let (q_len, kv_len) = (inputs.queries.len_of(set), inputs.keys.len_of(set));
            let pairs = match graphs.get(set) {
                Some(&(_, pairs)) => (pairs as u128 * keys.len() as u128 / kv_len.max(1) as u128) as usize,
                None if keys.is_empty() => 0,
                None => keys.len() * mask.queries(keys.clone(), q_len).len(),
            };
            pairs * shape.group() * (3 * shape.head_dim + 2 * shape.value_dim)
        };
        for mut item in items(walk).filter(|item| item.has_blocks(many)) {
            item.turns = self.turns;
            self.turns += shape.group() * item.q_len.div_ceil(BACKWARD_QUERIES);
            self.long.push(item);
        }
        self.block_keys = block_keys(shape, &self.long);
        // Long sets side by side, block by block, so that threads seldom wait for each other's turn.
        let mut first = 0;
        while !self.long.is_empty() {
            for &Item { set, kv_head, kv_len, turns, .. } in &self.long {
                let keys = first..(first + self.block_keys).min(kv_len);
                let cost = cost(set, &keys);
                self.blocks.push(Block { set, kv_head, keys, turns: Some(turns), tiles: 0..0, cost });
            }
            first += self.block_keys;
            self.long.retain(|item| first < item.kv_len);
        }
        self.shared = self.blocks.len();
        for Item { set, kv_head, q_len, kv_len, .. } in items(walk).filter(|item| !item.has_blocks(many)) {
            if kv_len > 0 || q_len > 0 {
                let cost = cost(set, &(0..kv_len));
                self.blocks.push(Block { set, kv_head, keys: 0..kv_len, turns: None, tiles: 0..0, cost });
            }
        }
        let Self { blocks, tasks, shared, .. } = self;
        // the others, which nobody waits for
        blocks[*shared..].sort_unstable_by_key(|block| (Reverse(block.cost), block.set, block.kv_head));
        group(tasks, 0..blocks.len(), |n| blocks[n].cost);
        (self.ways, self.graphs) = (ways, graphs);
        self.find_tiles(inputs);
        for set in 0..inputs.queries.sets() {
            if self.ways[set] == Way::Edges {
                self.add_edges(inputs, choice, set, true);
            }
        }
    }

    fn clear(&mut self) {
        self.units.clear();
        self.packings.clear();
        self.waves.clear();
        self.blocks.clear();
        self.tasks.clear();
        self.parts.clear();
        self.merges.clear();
        self.by_query.clear();
        self.by_key.clear();
        self.ways.clear();
        self.hulls.clear();
        self.graphs.clear();
        (self.packed, self.own_keys, self.turns, self.partial, self.rows) = (0, 0, 0, 0, 0);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.units.capacity() * size_of::<Unit>()
            + self.packings.capacity() * size_of::<Packing>()
            + self.waves.capacity() * size_of::<(Range<usize>, Range<usize>)>()
            + self.blocks.capacity() * size_of::<Block>()
            + self.tasks.capacity() * size_of::<Range<usize>>()
            + self.parts.capacity() * size_of::<Part>()
            + self.merges.capacity() * size_of::<Merge>()
            + (self.by_query.capacity() + self.by_key.capacity()) * size_of::<edges::Unit>()
            + self.ways.capacity() * size_of::<Way>()
            + (self.hulls.capacity() + self.by_block.capacity()) * size_of::<Range<usize>>()
            + self.graphs.capacity() * size_of::<(usize, usize)>()
            + self.long.capacity() * size_of::<Item>()
    }
}

impl Item {
    /// Whether several units of the backward pass share the set.
    fn has_blocks(&self, many: usize) -> bool {
        self.kv_len > BACKWARD_KEYS && self.pairs > SHORT_PAIRS.max(many)
    }
}

/// How many queries a unit of the set has if it packs its own keys, as it does where that is cheap: where the set is short, and
/// where the window is narrow, so that neighbouring units pack few keys twice.
fn own_queries(item: &Item, many: usize, inputs: &Inputs<'_>, mask: Mask<'_>) -> Option<usize> {
    // as even as whole tiles can be
    let even = |most: usize| {
        let size = item.q_len.div_ceil(item.q_len.div_ceil(most.max(1)).max(1));
        size.next_multiple_of(FORWARD_QUERIES).max(FORWARD_QUERIES)
    };
    if item.kv_len <= SHORT_KEYS || (item.kv_len <= MANY_KEYS && item.pairs <= many) {
        return Some(even(OWN_QUERIES / inputs.shape.group()));
    }
    let Mask::Window { left, right } = mask else { return None };
    let rows = inputs.queries.tokens() * inputs.shape.kv_heads;
    let most = (rows / NARROW_UNITS).clamp(OWN_QUERIES / 4, OWN_QUERIES);
    let size = even(most);
    (left.saturating_add(right) <= size).then_some(size)
}

/// Keys of a block: as many tiles as a thread's cache holds, fewer if there were too few blocks to share.
fn block_keys(shape: Shape, long: &[Item]) -> usize {
    let key = 3 * padded(shape.head_dim) + 2 * padded(shape.value_dim);
    let most = (BLOCK / (BACKWARD_KEYS * key)).clamp(1, BLOCK_TILES);
    let blocks = |tiles: usize| long.iter().map(|item| item.kv_len.div_ceil(tiles * BACKWARD_KEYS)).sum::<usize>();
    let enough = |&tiles: &usize| long.is_empty() || blocks(tiles) >= BLOCKS;
    (1..=most).rev().find(enough).unwrap_or(1) * BACKWARD_KEYS
}

/// Multiply-adds of a unit.
fn forward_cost(shape: Shape, heads: usize, queries: &Range<usize>, keys: &Range<usize>) -> usize {
    heads * queries.len() * keys.len() * (shape.head_dim + shape.value_dim)
}

/// Pairs up to which a set is one of many.
fn many(walk: Walk<'_>) -> usize {
    items(walk).fold(0_usize, |total, item| total.saturating_add(item.pairs)) / MANY
}

/// What it takes to go through the sets.
#[derive(Clone, Copy)]
struct Walk<'a> {
    inputs: &'a Inputs<'a>,
    mask: Mask<'a>,
    ways: &'a [Way],
    graphs: &'a [(usize, usize)],
}

/// Where a wave begins.
#[derive(Default)]
struct Wave {
    packed: usize,
    units: usize,
    packings: usize,
}

/// Numbers of the packed keys and values of a long set. Values begin on a new cache line.
pub(crate) fn packed_numbers(shape: Shape, kv_len: usize) -> usize {
    packed_keys(shape, kv_len) + kv_len * padded(shape.value_dim)
}

/// Numbers of the packed keys of a long set: whole panels of the widest kind.
pub(crate) fn packed_keys(shape: Shape, kv_len: usize) -> usize {
    kv_len.next_multiple_of(WIDEST_PANEL) * shape.head_dim
}

/// One less than the queries of a set whose keys are counted to estimate its work.
const SAMPLE: usize = 8;

/// Every head of keys of the sets that are walked through by tiles.
fn items(walk: Walk<'_>) -> impl Iterator<Item = Item> {
    let Walk { inputs, mask, ways, graphs } = walk;
    (0..inputs.queries.sets()).filter(|&set| ways[set] == Way::Tiles).flat_map(move |set| {
        let (q_len, kv_len) = (inputs.queries.len_of(set), inputs.keys.len_of(set));
        // A few queries tell enough; to count the keys of all would take longer for each call than it is worth.
        let sample = |n: usize| mask.row(n * (q_len - 1) / SAMPLE, kv_len).len();
        let pairs = match graphs.get(set) {
            Some(&(_, pairs)) => pairs,
            None if q_len == 0 => 0,
            None => q_len * (0..=SAMPLE).map(sample).sum::<usize>() / (SAMPLE + 1),
        };
        (0..inputs.shape.kv_heads).map(move |kv_head| Item { set, kv_head, q_len, kv_len, pairs, turns: 0 })
    })
}

/// Cuts the nodes of a set into units of about `size` edges.
fn units(units: &mut Vec<edges::Unit>, size: usize, set: usize, count: usize, degree: impl Fn(usize) -> usize) {
    let (mut first, mut total) = (0, 0);
    for node in 0..count {
        total += degree(node) + 8;
        if total >= size || node + 1 == count {
            units.push(edges::Unit { set, nodes: first..node + 1 });
            (first, total) = (node + 1, 0);
        }
    }
}

/// `0..count` in pieces of `size`, the last one of what remains.
fn pieces(count: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(size).map(move |first| first..(first + size).min(count))
}

/// Appends to `tasks` the `parts` in their order, as many together as reach the cost of a task.
fn group(tasks: &mut Vec<Range<usize>>, parts: Range<usize>, cost: impl Fn(usize) -> usize) {
    let (mut first, mut total) = (parts.start, 0);
    for part in parts.clone() {
        total += cost(part);
        if total >= TASK {
            tasks.push(first..part + 1);
            (first, total) = (part + 1, 0);
        }
    }
    if first < parts.end {
        tasks.push(first..parts.end);
    }
}
