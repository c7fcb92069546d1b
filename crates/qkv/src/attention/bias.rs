//! What is added to logits, tile by tile, and where its gradient goes.
//!
//! | bias | lies | gradient |
//! | --- | --- | --- |
//! | by difference (slopes, relative places) | for each head in the order of differences, so that the row of a tile is a part of it | along diagonals of a tile, summed by each task, then over the tasks in their order |
//! | by two coordinates | the same by pairs of differences; the row of a tile is a few runs of it | run by run, summed as above |
//! | by stored bucket | as the caller stored it; looked up | bucket by bucket, summed as above |
//! | dense | as the caller stored it; read in place | written in place: each pair has its own number |
//! | by edge | as the caller stored it; collected | written in place |
//!
//! Where coordinates lie so far apart that their differences cannot be laid out, buckets are computed pair by pair.

use std::ops::Range;

use super::choice::{PAD, distance, edges_between, grid, is_whole, relative, slope_of};
use super::kernels::FORWARD_KEYS;
use super::micro::Span;
use super::pack::Rows;
use super::pipeline::{Keys, Pipeline, Place, ROWS, Tally, Tile};
use super::steps::Diagonals;
use super::tables::{ENTRIES, Entries, Run, Runs};
use super::workspace::Shared;
use crate::options::{Bias, Buckets};

/// Where gradients of biases go.
#[derive(Clone, Copy)]
pub(super) struct ToBias {
    /// Sums over pairs that a head has in a tally.
    pub(super) per_head: usize,
    /// Where those by number begin among them; those by difference come first.
    pub(super) by_number: usize,
    /// The gradient itself, where each pair has a number of its own.
    pub(super) own: Shared,
}

impl Pipeline<'_> {
    /// For each row, where what is added to column 0 lies, or would.
    ///
    /// # Safety
    ///
    /// That of [`Pipeline::logits`].
    pub(super) unsafe fn addends(
        &self,
        place: &Place<'_>,
        tile: Tile<'_>,
        biases: *mut f32,
        to: &mut [*const f32; ROWS],
    ) {
        if let (&Keys::From(first), true) = (&place.keys, self.bias_is_laid_out_by_place()) {
            // SAFETY: by the contract.
            unsafe { self.copy_runs(place, first, tile, biases) }
        }
        for (row, span) in tile.spans.iter().enumerate() {
            if span.is_empty() {
                continue;
            }
            let (head, query) = place.row(row);
            // SAFETY: a row of a tile.
            unsafe {
                let collected = biases.wrapping_add(row * tile.stride);
                to[row] = match &place.keys {
                    &Keys::From(first) => {
                        self.row_addend(place.set, (head, query), first, (*span, tile.columns), collected)
                    }
                    Keys::Edges { .. } if self.choice.bias == Bias::None => std::ptr::null(),
                    Keys::Edges { first, list, count } => {
                        for (column, &key) in list.iter().enumerate().take(*count) {
                            *collected.add(column) = self.bias_of(place.set, head, query, key as usize, first + column);
                        }
                        collected
                    }
                };
            }
        }
    }

    /// Where what is added to the logits of a query with keys from `first` on lies; `collected` is a row of so many columns.
    ///
    /// # Safety
    ///
    /// The row can be written, and holds the row of a bias that is laid out by place.
    unsafe fn row_addend(
        &self,
        set: usize,
        (head, query): (usize, usize),
        first: usize,
        (span, columns): (Span, usize),
        collected: *mut f32,
    ) -> *const f32 {
        let (queries, keys) = (self.inputs.queries.range(set), self.inputs.keys.range(set));
        let with_gaps = self.choice.edges().filter(|edges| !is_whole(edges.neighbours(queries.start + query)));
        if let Some(edges) =
            with_gaps.or(self.choice.edges().filter(|_| matches!(self.choice.bias, Bias::Edges { .. })))
        {
            // SAFETY: by the contract.
            let row = unsafe { std::slice::from_raw_parts_mut(collected, columns) };
            let seen = keys.start + first + span.first..keys.start + first + span.end;
            let some = edges_between(edges, queries.start + query, &seen);
            // (the span in whole registers)
            row[span.first / PAD * PAD..].fill(f32::NEG_INFINITY);
            let columns = edges.columns()[some.clone()].iter().map(|&key| key as usize - keys.start - first);
            match self.choice.bias {
                Bias::None => columns.for_each(|column| row[column] = 0.0),
                Bias::Edges { values } => {
                    let heads = self.inputs.shape.heads;
                    let values = values[some.start * heads..some.end * heads].chunks_exact(heads);
                    columns.zip(values).for_each(|(column, of_edge)| row[column] = of_edge[head]);
                }
                _ => {
                    for (column, edge) in columns.zip(some) {
                        row[column] = self.bias_of(set, head, query, first + column, edge);
                    }
                }
            }
            return collected;
        }
        match self.choice.bias {
            Bias::None | Bias::Edges { .. } => std::ptr::null(),
            Bias::Dense { values } => values.as_ptr().wrapping_add(self.pair_at(set, head, query, 0) + first),
            Bias::Alibi { .. } | Bias::Buckets { buckets: Buckets::Relative { .. }, .. } => {
                let differences = self.choice.differences;
                let row = self.differences.at(head * differences.width());
                row.wrapping_offset(differences.at(first as isize - query as isize)).cast_const()
            }
            Bias::Buckets { buckets: Buckets::Grid { .. }, .. } if self.bias_is_laid_out_by_place() => collected,
            Bias::Buckets { table, buckets } => {
                let table = &table[head * buckets.count()..][..buckets.count()];
                let (column, count) = (span.first, span.end - span.first);
                if let Buckets::Stored { pairs, .. } = buckets {
                    let row = &pairs[self.starts[set] + query * keys.len() + first + column..][..count];
                    // SAFETY: the row of the tile has these columns; what is stored was checked to be in the table.
                    unsafe { (self.kernels.look_up)(table, row, collected.add(column)) }
                } else {
                    // SAFETY: the row of the tile has these columns.
                    let row = unsafe { std::slice::from_raw_parts_mut(collected.add(column), count) };
                    self.each_bucket(set, query, first + column, row, buckets, |to, bucket| *to = table[bucket]);
                }
                collected
            }
        }
    }

    /// Whether the bias goes by two coordinates, and all of their differences are laid out.
    fn bias_is_laid_out_by_place(&self) -> bool {
        self.choice.differences.are_of_places()
    }

    /// The keys of a tile as runs of neighbouring places, and how many runs there are.
    fn runs(&self, set: usize, first: usize, columns: usize) -> ([Run; FORWARD_KEYS], usize) {
        let mut runs = [Run::default(); FORWARD_KEYS];
        let Bias::Buckets { buckets: Buckets::Grid { keys, .. }, .. } = self.choice.bias else { return (runs, 0) };
        let own = self.inputs.keys.range(set);
        let keys = &keys[own.start + first..own.end.min(own.start + first + columns)];
        let mut count = 0_usize;
        for (column, &place) in keys.iter().enumerate() {
            let code = self.choice.differences.code(place);
            match runs[..count].last_mut() {
                Some(run) if run.code + run.len as isize == code => run.len += 1,
                _ => {
                    runs[count] = Run { column, len: 1, code };
                    count += 1;
                }
            }
        }
        (runs, count)
    }

    /// For each row of a tile, where a key's place of code 0 lies among a head's numbers by difference.
    fn run_rows(&self, place: &Place<'_>, of_head: impl Fn(usize) -> *mut f32) -> [*mut f32; ROWS] {
        let mut rows = [std::ptr::null_mut(); ROWS];
        let Bias::Buckets { buckets: Buckets::Grid { queries, .. }, .. } = self.choice.bias else { return rows };
        let differences = self.choice.differences;
        let first_token = self.inputs.queries.range(place.set).start;
        for (row, to) in rows.iter_mut().enumerate().take(place.rows()) {
            let (head, query) = place.row(row);
            let code = differences.code(queries[first_token + query]);
            *to = of_head(head).wrapping_offset(differences.origin() - code);
        }
        rows
    }

    /// Puts together what is added to the logits of a tile.
    ///
    /// # Safety
    ///
    /// The tile of biases has the rows of the place, and a register more.
    unsafe fn copy_runs(&self, place: &Place<'_>, first: usize, tile: Tile<'_>, biases: *mut f32) {
        let (runs, count) = self.runs(place.set, first, tile.columns);
        let rows = self.run_rows(place, |head| self.differences.at(head * self.choice.differences.width()));
        let (stride, rows) = (tile.stride, &rows[..place.rows()]);
        // SAFETY: by the contract; all differences of places were laid out.
        unsafe { (self.kernels.copy_runs)(&Runs { tile: biases, stride, runs: &runs[..count], rows }) }
    }

    /// Asks for what a bias that is stored by pair has for a tile that comes soon, and for where its gradient goes.
    pub(super) fn prefetch_bias(&self, place: &Place<'_>, columns: usize, gradient: Option<Shared>) {
        let &Keys::From(first) = &place.keys else { return };
        let (kv_len, rows, head) = (self.inputs.keys.len_of(place.set), place.queries.len(), place.heads.start);
        match self.choice.bias {
            Bias::Dense { values } => {
                let at = self.pair_at(place.set, head, place.queries.start, first);
                let both = [Some(values.as_ptr()), gradient.map(|gradient| gradient.at(0).cast_const())];
                for start in both.into_iter().flatten() {
                    let rows = Rows { start: start.wrapping_add(at), stride: kv_len, count: rows, dim: columns };
                    // SAFETY: what is asked for need not exist.
                    unsafe { (self.kernels.prefetch_rows)(rows) }
                }
            }
            Bias::Buckets { buckets: Buckets::Stored { pairs, .. }, .. } => {
                let at = self.starts[place.set] + place.queries.start * kv_len + first;
                // SAFETY: what is asked for need not exist.
                unsafe { (self.kernels.prefetch_bytes)(pairs.as_ptr().wrapping_add(at), kv_len, rows, columns) }
            }
            _ => {}
        }
    }

    /// Calls `run` with each of `numbers` and the bucket of the query and the key that it belongs to, keys from `first` on.
    fn each_bucket<T>(
        &self,
        set: usize,
        query: usize,
        first: usize,
        numbers: &mut [T],
        buckets: Buckets<'_>,
        mut run: impl FnMut(&mut T, usize),
    ) {
        match buckets {
            Buckets::Stored { pairs, .. } => {
                let kv_len = self.inputs.keys.len_of(set);
                let row = &pairs[self.starts[set] + query * kv_len + first..][..numbers.len()];
                numbers.iter_mut().zip(row).for_each(|(x, &bucket)| run(x, usize::from(bucket)));
            }
            Buckets::Grid { queries, keys, reach } => {
                let place = queries[self.inputs.queries.range(set).start + query];
                let keys = &keys[self.inputs.keys.range(set).start + first..][..numbers.len()];
                numbers.iter_mut().zip(keys).for_each(|(x, &key)| run(x, grid(reach, place, key)));
            }
            Buckets::Relative { .. } => {}
        }
    }

    /// What is added to one logit; `edge` counts where the mask is a graph.
    pub(super) fn bias_of(&self, set: usize, head: usize, query: usize, key: usize, edge: usize) -> f32 {
        match self.choice.bias {
            Bias::None => 0.0,
            Bias::Edges { values } => values[edge * self.inputs.shape.heads + head],
            Bias::Dense { values } => values[self.pair_at(set, head, query, key)],
            Bias::Buckets { table, buckets: buckets @ (Buckets::Grid { .. } | Buckets::Stored { .. }) } => {
                table[head * buckets.count() + self.bucket_of(set, query, key, buckets)]
            }
            Bias::Alibi { .. } | Bias::Buckets { .. } => {
                let differences = self.choice.differences;
                let at = differences.at(key as isize - query as isize);
                // SAFETY: the difference occurs, and those of all heads were laid out.
                unsafe { *self.differences.at(head * differences.width()).offset(at) }
            }
        }
    }

    /// Where the number of a pair lies in a dense bias.
    fn pair_at(&self, set: usize, head: usize, query: usize, key: usize) -> usize {
        let (q_len, kv_len) = (self.inputs.queries.len_of(set), self.inputs.keys.len_of(set));
        self.starts[set] + (head * q_len + query) * kv_len + key
    }

    /// The bucket of one pair.
    fn bucket_of(&self, set: usize, query: usize, key: usize, buckets: Buckets<'_>) -> usize {
        let mut found = [0];
        self.each_bucket(set, query, key, &mut found, buckets, |to, bucket| *to = bucket);
        found[0]
    }

    /// Adds the gradient of the logits to that of the bias.
    ///
    /// # Safety
    ///
    /// The tile has the rows of the place, zeros outside of their spans and where edges leave gaps; the tally and what is the
    /// bias' own are those of the call, and no other thread has these pairs.
    pub(super) unsafe fn bias_gradient(&self, place: &Place<'_>, tile: Tile<'_>, tally: &mut Tally<'_>, to: ToBias) {
        // SAFETY: by the contract.
        unsafe {
            match (&place.keys, self.choice.bias) {
                (_, Bias::None) => {}
                (&Keys::Edges { first, list, count }, _) => {
                    for row in 0..place.rows() {
                        let d_logits = std::slice::from_raw_parts(tile.start.add(row * tile.stride), count);
                        let pairs = d_logits.iter().zip(list).enumerate();
                        let pairs = pairs.map(|(n, (&x, &key))| (x, key as usize, first + n));
                        self.add_pairs(place, row, pairs, tally, to);
                    }
                }
                (&Keys::From(first), Bias::Edges { .. }) => self.edge_gradient(place, first, tile, to),
                (&Keys::From(first), Bias::Dense { .. }) => self.dense_gradient(place, first, tile, to),
                (&Keys::From(first), Bias::Buckets { buckets: Buckets::Stored { pairs, count }, .. })
                    if count <= ENTRIES =>
                {
                    self.stored_gradient(place, first, tile, (pairs, count), tally, to);
                }
                (&Keys::From(first), _) if self.bias_is_laid_out_by_place() => {
                    self.place_gradient(place, first, tile, tally, to);
                }
                (&Keys::From(first), _) if self.choice.differences.width() > 0 => {
                    self.difference_gradient(place, first, tile, tally, to);
                }
                (&Keys::From(first), _) => {
                    for (row, span) in tile.spans.iter().enumerate() {
                        let d_logits = std::slice::from_raw_parts(tile.start.add(row * tile.stride), tile.columns);
                        let columns = if span.is_empty() { 0..0 } else { span.first..span.end };
                        let pairs = columns.map(|column| (d_logits[column], first + column, 0));
                        self.add_pairs(place, row, pairs, tally, to);
                    }
                }
            }
        }
    }

    /// Pair by pair: gradients of logits, keys, and edges if there are any, of one row.
    ///
    /// # Safety
    ///
    /// That of [`Pipeline::bias_gradient`].
    unsafe fn add_pairs(
        &self,
        place: &Place<'_>,
        row: usize,
        pairs: impl Iterator<Item = (f32, usize, usize)>,
        tally: &mut Tally<'_>,
        to: ToBias,
    ) {
        let (head, query) = place.row(row);
        let sums = tally.sums.wrapping_add(head * to.per_head + to.by_number);
        let mut touched = Range { start: usize::MAX, end: 0 };
        for (x, key, edge) in pairs {
            let difference = key as isize - query as isize;
            let (number, factor) = match self.choice.bias {
                Bias::None => return,
                // SAFETY: a number of the bias, which was checked to have as many.
                Bias::Edges { .. } => unsafe {
                    *to.own.at(edge * self.inputs.shape.heads + head) = x;
                    continue;
                },
                // SAFETY: as above.
                Bias::Dense { .. } => unsafe {
                    *to.own.at(self.pair_at(place.set, head, query, key)) = x;
                    continue;
                },
                Bias::Alibi { offset, .. } => (0, slope_of(offset, difference) as f32),
                Bias::Buckets { buckets: Buckets::Relative { reach, offset }, .. } => {
                    (relative(reach, distance(offset, difference)), 1.0)
                }
                Bias::Buckets { buckets, .. } => (self.bucket_of(place.set, query, key, buckets), 1.0),
            };
            touched = touched.start.min(number)..touched.end.max(number + 1);
            // SAFETY: the sums of a head are as many as there are numbers.
            unsafe { *sums.add(number) += factor * x }
        }
        if !touched.is_empty() {
            tally.touch(head, to.by_number + touched.start..to.by_number + touched.end);
        }
    }

    /// # Safety
    ///
    /// That of [`Pipeline::bias_gradient`].
    unsafe fn edge_gradient(&self, place: &Place<'_>, first: usize, tile: Tile<'_>, to: ToBias) {
        let Some(edges) = self.choice.edges() else { return };
        let (queries, keys) = (self.inputs.queries.range(place.set), self.inputs.keys.range(place.set));
        for (row, span) in tile.spans.iter().enumerate().filter(|(_, span)| !span.is_empty()) {
            let (head, query) = place.row(row);
            let seen = keys.start + first + span.first..keys.start + first + span.end;
            let some = edges_between(edges, queries.start + query, &seen);
            let heads = self.inputs.shape.heads;
            for (&key, edge) in edges.columns()[some.clone()].iter().zip(some) {
                let column = key as usize - keys.start - first;
                // SAFETY: a number of the bias, and one of the tile.
                unsafe { *to.own.at(edge * heads + head) = *tile.start.add(row * tile.stride + column) }
            }
        }
    }

    /// # Safety
    ///
    /// That of [`Pipeline::bias_gradient`].
    unsafe fn dense_gradient(&self, place: &Place<'_>, first: usize, tile: Tile<'_>, to: ToBias) {
        for (row, span) in tile.spans.iter().enumerate().filter(|(_, span)| !span.is_empty()) {
            let (head, query) = place.row(row);
            let at = self.pair_at(place.set, head, query, first + span.first);
            // SAFETY: numbers of the bias, and of the tile.
            unsafe {
                let from = tile.start.add(row * tile.stride + span.first);
                to.own.at(at).copy_from_nonoverlapping(from, span.end - span.first);
            }
        }
    }

    /// # Safety
    ///
    /// That of [`Pipeline::bias_gradient`].
    unsafe fn difference_gradient(
        &self,
        place: &Place<'_>,
        first: usize,
        tile: Tile<'_>,
        tally: &mut Tally<'_>,
        to: ToBias,
    ) {
        // tiles of neighbouring keys have one head
        let (head, differences) = (place.heads.start, self.choice.differences);
        let at = differences.at(first as isize - place.queries.start as isize);
        let (rows, columns) = (place.rows() as isize, tile.columns as isize);
        let reached = (at - rows).max(0) as usize..((at + columns).max(0) as usize + 1).min(differences.width());
        tally.touch(head, reached);
        let out = tally.sums.wrapping_add(head * to.per_head).wrapping_offset(at);
        // SAFETY: the differences of all pairs of the tile are among those of the head.
        unsafe {
            let (tile, stride, spans) = (tile.start.cast_const(), tile.stride, tile.spans);
            (self.kernels.diagonals)(&Diagonals { tile, stride, spans, out });
        }
    }

    /// # Safety
    ///
    /// That of [`Pipeline::bias_gradient`].
    unsafe fn place_gradient(
        &self,
        place: &Place<'_>,
        first: usize,
        tile: Tile<'_>,
        tally: &mut Tally<'_>,
        to: ToBias,
    ) {
        let head = place.heads.start;
        let (runs, count) = self.runs(place.set, first, tile.columns);
        let (runs, sums) = (&runs[..count], tally.sums.wrapping_add(head * to.per_head));
        let rows = self.run_rows(place, |_| sums);
        let rows = &rows[..place.rows()];
        // the first and the last that any row adds to
        let codes = runs.iter().map(|run| (run.code, run.code + run.len as isize));
        let codes = codes.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let offsets = rows.iter().map(|row| (row.addr() as isize - sums.addr() as isize) / size_of::<f32>() as isize);
        let offsets = offsets.map(|at| (at, at)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let (Some(codes), Some(offsets)) = (codes, offsets) else { return };
        tally.touch(head, (codes.0 + offsets.0) as usize..(codes.1 + offsets.1) as usize);
        let (tile, stride) = (tile.start, tile.stride);
        // SAFETY: by the contract; the sums have all differences of places.
        unsafe { (self.kernels.add_runs)(&Runs { tile, stride, runs, rows }) }
    }

    /// # Safety
    ///
    /// That of [`Pipeline::bias_gradient`].
    unsafe fn stored_gradient(
        &self,
        place: &Place<'_>,
        first: usize,
        tile: Tile<'_>,
        (pairs, count): (&[u8], usize),
        tally: &mut Tally<'_>,
        to: ToBias,
    ) {
        // tiles of neighbouring keys have one head
        let (head, kv_len) = (place.heads.start, self.inputs.keys.len_of(place.set));
        let mut entries = Entries::new();
        for (row, span) in tile.spans.iter().enumerate().filter(|(_, span)| !span.is_empty()) {
            let at = self.starts[place.set] + (place.queries.start + row) * kv_len + first;
            // SAFETY: the row of the tile has the columns of its span. Where edges leave gaps, the gradient is 0.
            let d_logits = unsafe { std::slice::from_raw_parts(tile.start.add(row * tile.stride), span.end) };
            entries.add(&pairs[at + span.first..at + span.end], &d_logits[span.first..]);
        }
        tally.touch(head, to.by_number..to.by_number + count);
        // SAFETY: the sums of a head are at least as many as there are buckets.
        entries.finish(unsafe {
            std::slice::from_raw_parts_mut(tally.sums.add(head * to.per_head + to.by_number), count)
        });
    }
}
