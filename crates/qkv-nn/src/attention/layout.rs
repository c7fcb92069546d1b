//! How the sets of a batch are laid side by side for Burn's operations: worked out once for a batch, used by each layer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use qkv::Offsets;
use qkv::gather::NONE;
use qkv::options::Mask;

/// Queries attended at once: few enough that a tile of logits stays small, many enough that products are worth their call.
const TILE_Q: usize = 128;

/// Vectors of a set that is attended alone.
const LONG: usize = 4 * TILE_Q;

/// Sets of a batch, grouped by length, with what each layer needs to know of their places.
#[derive(Debug)]
pub struct Layout {
    offsets: Offsets,
    pub(super) groups: Vec<Group>,
    /// For each packed row its row in the padded groups, end to end.
    pub(super) pack: Arc<[u32]>,
    tiles: RefCell<Vec<(Mask<'static>, Tiles)>>,
    windows: RefCell<BTreeMap<usize, Arc<[u32]>>>,
}

/// The tiles of each group.
type Tiles = Arc<Vec<Vec<Tile>>>;

/// Sets of like length, padded to the longest.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) lengths: Vec<usize>,
    pub(super) max_len: usize,
    /// For each padded row its packed row, or [`NONE`].
    pub(super) unpack: Arc<[u32]>,
}

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

impl Layout {
    /// The layout of a batch whose sets own the rows that `offsets` says.
    pub fn new(offsets: Offsets) -> Self {
        let mut order: Vec<usize> = (0..offsets.sets()).filter(|&set| offsets.len_of(set) > 0).collect();
        order.sort_by_key(|&set| (offsets.len_of(set), set));
        let mut groups = Vec::new();
        let mut pack = vec![NONE; offsets.tokens()];
        let mut padded_rows = 0;
        let mut rest = order.as_slice();
        while let Some(&first) = rest.first() {
            // Padding within a group stays under a fifth of it, give or take a few rows. A long set goes alone: it fills its
            // tiles by itself, and needs no mask of N².
            let limit = offsets.len_of(first) * 5 / 4 + 4;
            let most = if offsets.len_of(first) > LONG { 1 } else { usize::MAX };
            let count = rest.iter().take(most).take_while(|&&set| offsets.len_of(set) <= limit).count();
            let (sets, tail) = rest.split_at(count);
            rest = tail;
            let max_len = sets.iter().map(|&set| offsets.len_of(set)).max().unwrap_or(0);
            let mut unpack = vec![NONE; sets.len() * max_len];
            for (place, &set) in sets.iter().enumerate() {
                for (i, row) in offsets.range(set).enumerate() {
                    unpack[place * max_len + i] = row as u32;
                    pack[row] = (padded_rows + place * max_len + i) as u32;
                }
            }
            padded_rows += unpack.len();
            let lengths = sets.iter().map(|&set| offsets.len_of(set)).collect();
            groups.push(Group { lengths, max_len, unpack: unpack.into() });
        }
        Self { offsets, groups, pack: pack.into(), tiles: RefCell::default(), windows: RefCell::default() }
    }

    /// Which rows belong to which set.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The place of each vector in its set, from 0.
    pub fn positions(&self) -> Arc<[u32]> {
        self.offsets.lengths().flat_map(|length| 0..length as u32).collect()
    }

    /// For each row the rows from `radius` before to `radius` behind it in its set, [`NONE`] beyond its ends:
    /// `tokens · (2 · radius + 1)` ids.
    pub fn window(&self, radius: usize) -> Arc<[u32]> {
        let make = || {
            let mut ids = Vec::with_capacity(self.offsets.tokens() * (2 * radius + 1));
            for set in 0..self.offsets.sets() {
                let rows = self.offsets.range(set);
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

    /// The tiles of each group under `mask`.
    ///
    /// # Panics
    /// If the mask is a graph, which tiles of ranges cannot express.
    pub(super) fn tiles(&self, mask: Mask<'static>, device: &Device) -> Tiles {
        assert!(!matches!(mask, Mask::Graph(_)), "attention: composed of Burn's operations, it has no mask by edges");
        let mut known = self.tiles.borrow_mut();
        if let Some((_, tiles)) = known.iter().find(|(of, _)| *of == mask) {
            return tiles.clone();
        }
        let tiles = Arc::new(self.groups.iter().map(|group| group.tiles(mask, device)).collect());
        known.push((mask, Arc::clone(&tiles)));
        tiles
    }
}

impl Group {
    fn tiles(&self, mask: Mask<'_>, device: &Device) -> Vec<Tile> {
        let starts = (0..self.max_len).step_by(TILE_Q);
        starts
            .map(|start| {
                let queries = start..(start + TILE_Q).min(self.max_len);
                // A tensor needs a column, if only one that is hidden from all.
                let keys = mask.keys(queries.clone(), self.max_len);
                let keys = if keys.is_empty() { 0..1 } else { keys };
                self.tile(mask, queries, keys, device)
            })
            .collect()
    }

    fn tile(&self, mask: Mask<'_>, queries: Range<usize>, keys: Range<usize>, device: &Device) -> Tile {
        let (sets, rows, columns) = (self.lengths.len(), queries.len(), keys.len());
        if mask == Mask::Full && self.lengths.iter().all(|&length| length == self.max_len) {
            let counts = Tensor::full([sets, 1, rows, 1], columns as f32, device);
            return Tile { queries, keys, hidden: None, counts, attends: None };
        }
        let mut hidden = vec![f32::NEG_INFINITY; sets * rows * columns];
        let mut counts = vec![0.0; sets * rows];
        let mut attends = vec![1.0; sets * rows];
        let mut row_start = 0;
        for &length in &self.lengths {
            for i in queries.clone() {
                for (slot, j) in hidden[row_start..row_start + columns].iter_mut().zip(keys.clone()) {
                    // A row of padding sees itself alone: what it computes is thrown away, but must not be NaN, which
                    // its zero gradient would not silence.
                    let allowed = if i < length { j < length && mask.allows(i, j) } else { i == j };
                    if allowed {
                        *slot = 0.0;
                        counts[row_start / columns] += 1.0;
                    }
                }
                // A row without a key computes with all of them, so that it is not NaN, and its weights are zeroed after.
                let row = row_start / columns;
                if counts[row] == 0.0 {
                    hidden[row_start..row_start + columns].fill(0.0);
                    (counts[row], attends[row]) = (1.0, 0.0);
                }
                row_start += columns;
            }
        }
        let all = hidden.iter().all(|&x| x == 0.0);
        let hidden = (!all).then(|| Tensor::from_data(TensorData::new(hidden, [sets, 1, rows, columns]), device));
        let by_row = |numbers| Tensor::from_data(TensorData::new(numbers, [sets, 1, rows, 1]), device);
        let attends = attends.contains(&0.0).then(|| by_row(attends));
        Tile { queries, keys, hidden, counts: by_row(counts), attends }
    }
}
