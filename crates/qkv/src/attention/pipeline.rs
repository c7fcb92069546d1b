//! Between products and weighted sums: which steps a tile goes through, for the options of a call.
//!
//! The passes over tiles, over edges and over a cache differ in how they come by products, and in what they do with weights.
//! What lies between is the same for all of them, and is here. A row of a tile is a query of some head; its columns are keys
//! that follow each other, or those at the end of edges.

use std::ops::Range;

use super::choice::{Choice, Scoring};
use super::kernels::{BACKWARD_QUERIES, Kernels};
use super::micro::Span;
use super::shape::Inputs;
use super::steps::{Drops, Logits, Second, Weigh};
use super::workspace::Shared;
use crate::options::{Bias, Normalizer};
use crate::random::Block;

/// Rows of any tile, at most.
pub(super) const ROWS: usize = BACKWARD_QUERIES;

/// What the rows and columns of a tile are.
#[derive(Clone)]
pub(super) struct Place<'a> {
    pub(super) set: usize,
    /// One or more heads, the outer index of rows.
    pub(super) heads: Range<usize>,
    /// One or more queries of the set, the inner index of rows.
    pub(super) queries: Range<usize>,
    pub(super) keys: Keys<'a>,
}

/// What the columns of a tile are.
#[derive(Clone)]
pub(super) enum Keys<'a> {
    /// Keys of the set, from this one on.
    From(usize),
    /// Those that edges lead to.
    Edges {
        /// The first of the edges.
        first: usize,
        /// The keys, counted from the beginning of their set, in whole registers.
        list: &'a [u32],
        /// How many of them there are.
        count: usize,
    },
}

impl Place<'_> {
    /// Head and query of a row.
    pub(super) fn row(&self, row: usize) -> (usize, usize) {
        (self.heads.start + row / self.queries.len(), self.queries.start + row % self.queries.len())
    }

    /// How many rows.
    pub(super) fn rows(&self) -> usize {
        self.heads.len() * self.queries.len()
    }
}

/// A tile in scratch memory.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) start: *mut f32,
    /// Numbers of a row.
    pub(super) stride: usize,
    /// For each row, the columns it may attend to.
    pub(super) spans: &'a [Span],
    /// Columns, in whole registers.
    pub(super) columns: usize,
}

/// The sums of gradients over pairs that a thread keeps, and which of them it has touched.
pub(super) struct Tally<'a> {
    /// For each head: of the bias, then of the weights of the score.
    pub(super) sums: *mut f32,
    /// For each head: the range of its sums that are not zero.
    pub(super) touched: &'a mut [Range<usize>],
}

impl Tally<'_> {
    pub(super) fn touch(&mut self, head: usize, range: Range<usize>) {
        let touched = &mut self.touched[head];
        let before = if touched.start == touched.end { range.clone() } else { touched.clone() };
        *touched = before.start.min(range.start)..before.end.max(range.end);
    }
}

/// What the steps of all tiles of a call share.
#[derive(Clone, Copy)]
pub(super) struct Pipeline<'a> {
    pub(super) kernels: &'static Kernels,
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) choice: &'a Choice<'a>,
    /// What is added to logits by difference, for each head.
    pub(super) differences: Shared,
    /// Where the numbers of each set begin in a bias that is stored by pair.
    pub(super) starts: &'a [usize],
}

impl Pipeline<'_> {
    /// The keys that some queries of a set see, as one range that holds them all.
    pub(super) fn seen(&self, set: usize, queries: Range<usize>) -> Range<usize> {
        let kv_len = self.inputs.keys.len_of(set);
        match self.choice.edges() {
            None => self.choice.mask.keys(queries, kv_len),
            Some(_) => {
                let rows = queries.map(|query| self.row(set, query)).filter(|row| !row.is_empty());
                rows.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
            }
        }
    }

    /// The keys that one query of a set sees, as one range that holds them all.
    pub(super) fn row(&self, set: usize, query: usize) -> Range<usize> {
        let keys = self.inputs.keys.range(set);
        match self.choice.edges() {
            None => self.choice.mask.row(query, keys.len()),
            Some(edges) => match edges.neighbours(self.inputs.queries.range(set).start + query) {
                [first, .., last] => *first as usize - keys.start..*last as usize + 1 - keys.start,
                [key] => *key as usize - keys.start..*key as usize + 1 - keys.start,
                [] => 0..0,
            },
        }
    }

    /// The columns of a tile that each of its rows may attend to, queries as the rows of one head.
    pub(super) fn fill_spans(&self, spans: &mut [Span], set: usize, queries: &Range<usize>, keys: &Range<usize>) {
        for (span, query) in spans.iter_mut().zip(queries.clone()) {
            let allowed = self.row(set, query);
            let (first, end) = (allowed.start.max(keys.start), allowed.end.min(keys.end));
            *span = if first < end { Span { first: first - keys.start, end: end - keys.start } } else { Span::NONE };
        }
    }

    /// How many keys a query of a set may attend to.
    fn allowed(&self, set: usize, query: usize) -> usize {
        match self.choice.edges() {
            Some(edges) => edges.neighbours(self.inputs.queries.range(set).start + query).len(),
            None => self.choice.mask.row(query, self.inputs.keys.len_of(set)).len(),
        }
    }

    /// Logits from products; `slope`, if not null, becomes their derivative where a cap bends them. `biases` is a tile of the
    /// same shape, if [`Choice::collects_bias`] asks for one.
    ///
    /// # Safety
    ///
    /// The tiles have the rows of the place, and `biases` can be written.
    pub(super) unsafe fn logits(&self, place: &Place<'_>, tile: Tile<'_>, slope: *mut f32, biases: *mut f32) {
        let choice = self.choice;
        let cap = if let Scoring::Dot { cap } = choice.scoring { cap } else { None };
        if cap.is_none() && choice.scale == 1.0 && choice.bias == Bias::None && !self.forbids(place) {
            return;
        }
        let mut addends = [std::ptr::null::<f32>(); ROWS];
        // SAFETY: by the contract.
        unsafe {
            self.addends(place, tile, biases, &mut addends);
            (self.kernels.logits)(&Logits {
                tile: tile.start,
                stride: tile.stride,
                spans: tile.spans,
                scale: choice.scale,
                cap,
                addends: &addends[..place.rows()],
                slope,
            });
        }
    }

    /// Whether columns within the spans may be forbidden.
    fn forbids(&self, place: &Place<'_>) -> bool {
        self.choice.edges().is_some() && matches!(place.keys, Keys::From(_))
    }

    /// Weights that do not depend on each other, of logits that are the tile times `scale`.
    ///
    /// # Safety
    ///
    /// The tile, and `derivative` if it is not null, have the rows of the place.
    pub(super) unsafe fn weigh(&self, place: &Place<'_>, tile: Tile<'_>, scale: f32, derivative: *mut f32) {
        let mut counts = [1.0; ROWS];
        for (row, count) in counts.iter_mut().enumerate().take(place.rows()) {
            let (_, query) = place.row(row);
            *count = self.allowed(place.set, query).max(1) as f32;
        }
        let sigmoid = self.choice.normalizer == Normalizer::Sigmoid;
        let Tile { start, stride, spans, columns } = tile;
        let counts = &counts[..place.rows()];
        // SAFETY: by the contract.
        unsafe {
            (self.kernels.weigh)(&Weigh { tile: start, stride, spans, columns, scale, counts, sigmoid, derivative })
        }
    }

    /// Zeros where weights are dropped, if any are.
    ///
    /// # Safety
    ///
    /// The tile, and `second` if it is used, have the rows of the place.
    pub(super) unsafe fn drop(&self, place: &Place<'_>, tile: Tile<'_>, second: *mut f32, use_second: Second) {
        let Some(dropout) = self.choice.dropout else { return };
        let of_set = dropout.key.fold(place.set as u64);
        let mut blocks = [Block { low: 0, high: 0 }; ROWS];
        for head in 0..place.heads.len() {
            let of_head = of_set.fold((place.heads.start + head) as u64);
            for query in 0..place.queries.len() {
                let of_query = of_head.fold((place.queries.start + query) as u64);
                blocks[head * place.queries.len() + query] = of_query.block(0);
            }
        }
        let (first, list) = match &place.keys {
            Keys::From(first) => (*first as u32, std::ptr::null()),
            Keys::Edges { list, .. } => (0, list.as_ptr()),
        };
        let Tile { start: tile, stride, columns, .. } = tile;
        let (rows, least) = (&blocks[..place.rows()], dropout.least);
        // SAFETY: by the contract; a list of keys has room for whole registers.
        unsafe { (self.kernels.drops)(&Drops { tile, stride, columns, rows, first, list, least, second, use_second }) }
    }
}
