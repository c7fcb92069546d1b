//! The options of a call, checked against its inputs and brought into the form that the kernels compute with.
//!
//! Belongs here: what follows from options and shapes alone. What is done with it, tile by tile, is in `pipeline.rs`.

use std::ops::Range;

use super::shape::{AttentionError, Gradients, Inputs};
use rayon::prelude::*;

use crate::csr::Csr;
use crate::options::{Bias, Buckets, Mask, Normalizer, Options, Score, ScoreActivation};
use crate::random::Key;

/// Numbers before the first and behind the last difference of a head, so that whole registers may be loaded and stored.
pub(super) const PAD: usize = 16;

/// How a product becomes a logit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scoring<'a> {
    Dot { cap: Option<f32> },
    Additive { activation: ScoreActivation, weights: &'a [f32] },
    RankOne { slope: f32 },
}

/// Dropout, ready to be drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropping {
    pub(crate) key: Key,
    /// The smallest bits that are kept.
    pub(crate) least: u32,
    /// What the kept ones are multiplied by.
    pub(crate) factor: f32,
}

/// Checked options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) scoring: Scoring<'a>,
    pub(crate) scale: f32,
    pub(crate) normalizer: Normalizer,
    pub(crate) mask: Mask<'a>,
    pub(crate) bias: Bias<'a>,
    pub(crate) dropout: Option<Dropping>,
    /// Differences `j - i` that occur, or those of places, where the bias depends on nothing else.
    pub(crate) differences: Differences,
}

/// A range of `j - i`; or of places, key less query, two numbers each, laid out row by row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Differences {
    pub(crate) lowest: isize,
    pub(crate) count: usize,
    /// The lowest difference of either coordinate, and how many there are of the second; 0 where there are no places.
    lowest_places: [i64; 2],
    line: i64,
}

impl Differences {
    /// Numbers that one head takes.
    pub(crate) fn width(self) -> usize {
        if self.count == 0 { 0 } else { (self.count + 2 * PAD).next_multiple_of(PAD) }
    }

    /// Whether they are those of places.
    pub(crate) fn are_of_places(self) -> bool {
        self.line > 0
    }

    /// The code of a key's place: less that of a query's, it says where the difference lies, from [`Differences::origin`] on.
    pub(crate) fn code(self, place: [i32; 2]) -> isize {
        (i64::from(place[0]) * self.line + i64::from(place[1])) as isize
    }

    /// The bucket of the `n`-th difference of places.
    fn bucket(self, n: usize, reach: [usize; 2]) -> usize {
        // of the query less the key
        let of =
            |lowest: i64, n: i64| i32::try_from(-(lowest + n)).unwrap_or(if lowest < 0 { i32::MAX } else { i32::MIN });
        let [low_0, low_1] = self.lowest_places;
        let n = n as i64;
        grid(reach, [of(low_0, n / self.line), of(low_1, n % self.line)], [0, 0])
    }

    /// Where a difference of the codes of 0 lies.
    pub(crate) fn origin(self) -> isize {
        PAD as isize - (self.lowest_places[0] * self.line + self.lowest_places[1]) as isize
    }

    /// Where a difference lies among them; it need not occur.
    pub(crate) fn at(self, difference: isize) -> isize {
        difference - self.lowest + PAD as isize
    }
}

impl<'a> Choice<'a> {
    /// Checks everything that the inputs alone do not tell.
    pub(crate) fn new(inputs: &Inputs<'_>, options: &Options<'a>) -> Result<Self, AttentionError> {
        let dropout = dropping(inputs, options)?;
        check_mask(inputs, options.mask)?;
        check_bias(inputs, options)?;
        Ok(Self {
            scoring: scoring(inputs, options.score)?,
            scale: options.score.scale(inputs.shape.head_dim),
            normalizer: options.normalizer,
            mask: options.mask,
            bias: options.bias,
            dropout,
            differences: differences(inputs, options),
        })
    }

    /// Whether logits are products times the scale and nothing else.
    pub(crate) fn has_plain_logits(&self) -> bool {
        matches!(self.scoring, Scoring::Dot { cap: None }) && self.bias == Bias::None
    }

    pub(crate) fn edges(&self) -> Option<&'a Csr> {
        if let Mask::Graph(edges) = self.mask { Some(edges) } else { None }
    }

    /// Whether weights are the softmax of scores alone, and all of them count.
    pub(crate) fn is_plain_softmax(&self) -> bool {
        self.normalizer == Normalizer::Softmax && self.bias == Bias::None && self.dropout.is_none()
    }

    /// What sums of weights and values are multiplied by, for what was dropped.
    pub(crate) fn kept_factor(&self) -> f32 {
        self.dropout.map_or(1.0, |dropout| dropout.factor)
    }

    /// Whether the derivative of a logit by its product is kept in a tile of its own.
    pub(crate) fn has_slope(&self) -> bool {
        matches!(self.scoring, Scoring::Dot { cap: Some(_) } | Scoring::RankOne { .. })
    }

    /// Whether what is added to logits lies nowhere in rows and is collected for each tile.
    pub(crate) fn collects_bias(&self) -> bool {
        let collected = matches!(
            self.bias,
            Bias::Buckets { buckets: Buckets::Grid { .. } | Buckets::Stored { .. }, .. } | Bias::Edges { .. }
        );
        collected || self.edges().is_some()
    }

    /// Numbers of the bias that a head has, if it has the same for several pairs; 0 where each pair has its own.
    pub(crate) fn shared_numbers(&self) -> usize {
        match self.bias {
            Bias::None | Bias::Edges { .. } | Bias::Dense { .. } => 0,
            Bias::Alibi { .. } => 1,
            Bias::Buckets { buckets, .. } => buckets.count(),
        }
    }

    /// Numbers of a head in which the gradient of such a bias is summed over pairs: by difference, where the bias is laid out so,
    /// and by number, where it is not, and along edges, which have few of many differences.
    pub(crate) fn summed_bias(&self) -> [usize; 2] {
        let by_difference = self.differences.width();
        let by_number = by_difference == 0 || self.edges().is_some();
        [by_difference, if by_number { self.shared_numbers().next_multiple_of(PAD) } else { 0 }]
    }

    /// How many numbers the weights of the score and the bias have.
    pub(crate) fn learned(&self) -> [usize; 2] {
        let score = match self.scoring {
            Scoring::Additive { weights, .. } => weights.len(),
            _ => 0,
        };
        let bias = match self.bias {
            Bias::None => 0,
            Bias::Alibi { slopes: values, .. }
            | Bias::Buckets { table: values, .. }
            | Bias::Edges { values }
            | Bias::Dense { values } => values.len(),
        };
        [score, bias]
    }

    /// Whether gradients of weights and of the bias can be written, and were asked of what there is.
    pub(crate) fn check_gradients(&self, gradients: &Gradients<'_>) -> Result<(), AttentionError> {
        let [score, bias] = self.learned();
        for (operand, needed, found) in [
            ("d_score, laid out as the weights of the additive score,", score, gradients.score.as_deref()),
            ("d_bias, laid out as the numbers of the bias,", bias, gradients.bias.as_deref()),
        ] {
            match found {
                Some(found) if found.len() != needed => {
                    return Err(AttentionError::Numbers { operand, needed, found: found.len() });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The score, if its numbers fit.
fn scoring<'a>(inputs: &Inputs<'_>, score: Score<'a>) -> Result<Scoring<'a>, AttentionError> {
    let shape = inputs.shape;
    match score {
        Score::Dot { scale: Some(found), .. } if !found.is_finite() => {
            Err(AttentionError::NotFinite { what: "scale", found: found.to_string() })
        }
        Score::RankOne { slope: found }
        | Score::Additive { activation: ScoreActivation::LeakyRelu { slope: found }, .. }
            if !found.is_finite() =>
        {
            Err(AttentionError::NotFinite { what: "slope", found: found.to_string() })
        }
        // one so small that the scale over it is infinite makes NaN of a product of 0
        Score::Dot { softcap: Some(cap), .. }
            if !(cap > 0.0 && cap.is_finite() && (score.scale(shape.head_dim) / cap).is_finite()) =>
        {
            Err(AttentionError::Softcap { found: cap.to_string() })
        }
        Score::Dot { softcap, .. } => Ok(Scoring::Dot { cap: softcap }),
        Score::Additive { activation, weights } => {
            numbers("weights of the additive score, [heads, head_dim],", shape.heads * shape.head_dim, weights)?;
            Ok(Scoring::Additive { activation, weights })
        }
        Score::RankOne { .. } if shape.head_dim != 1 => Err(AttentionError::RankOne { found: shape.head_dim }),
        Score::RankOne { slope } => Ok(Scoring::RankOne { slope }),
    }
}

fn dropping(inputs: &Inputs<'_>, options: &Options<'_>) -> Result<Option<Dropping>, AttentionError> {
    let Some(dropout) = options.dropout else { return Ok(None) };
    let Some((least, factor)) = crate::dropout::plan(dropout.rate) else {
        return Err(AttentionError::Rate { found: dropout.rate.to_string() });
    };
    // a draw is named by 32 bits of its key
    let most = u32::MAX as usize;
    if let Some(found) = inputs.keys.lengths().find(|&kv_len| kv_len > most) {
        return Err(AttentionError::Count { what: "keys of a set under dropout,", found, most });
    }
    Ok((least > 0).then_some(Dropping { key: dropout.key, least, factor }))
}

fn numbers<T>(operand: &'static str, needed: usize, found: &[T]) -> Result<(), AttentionError> {
    if found.len() == needed {
        return Ok(());
    }
    Err(AttentionError::Numbers { operand, needed, found: found.len() })
}

/// Whether the edges are those of the batch, and none leaves its set.
fn check_mask(inputs: &Inputs<'_>, mask: Mask<'_>) -> Result<(), AttentionError> {
    let Mask::Graph(edges) = mask else { return Ok(()) };
    let (queries, keys) = (inputs.queries.tokens(), inputs.keys.tokens());
    let most = u32::MAX as usize;
    for (what, found) in [("edges,", edges.edges()), ("queries under a graph,", queries)] {
        if found > most {
            return Err(AttentionError::Count { what, found, most });
        }
    }
    if (edges.rows(), edges.nodes()) != (queries, keys) {
        return Err(AttentionError::Graph { queries, keys, rows: edges.rows(), nodes: edges.nodes() });
    }
    for set in 0..inputs.queries.sets() {
        let own = inputs.keys.range(set);
        for query in inputs.queries.range(set) {
            // sorted: the first and the last tell
            if let [first, .., last] | [first @ last] = edges.neighbours(query) {
                for key in [*first as usize, *last as usize] {
                    if !own.contains(&key) {
                        return Err(AttentionError::EdgeLeaves { query, key });
                    }
                }
            }
        }
    }
    Ok(())
}

fn check_bias(inputs: &Inputs<'_>, options: &Options<'_>) -> Result<(), AttentionError> {
    let heads = inputs.shape.heads;
    let pairs = || {
        let lengths = inputs.queries.lengths().zip(inputs.keys.lengths());
        lengths.fold(0_usize, |total, (q_len, kv_len)| total.saturating_add(q_len.saturating_mul(kv_len)))
    };
    match options.bias {
        Bias::None => Ok(()),
        Bias::Alibi { slopes, .. } => numbers("slopes, one for each head,", heads, slopes),
        Bias::Dense { values } => {
            numbers("dense bias, [heads, q_len, kv_len] of each set,", pairs().saturating_mul(heads), values)
        }
        Bias::Edges { values } => match options.mask {
            Mask::Graph(edges) => {
                numbers("bias of the edges, [edges, heads],", edges.edges().saturating_mul(heads), values)
            }
            _ => Err(AttentionError::NoEdges),
        },
        Bias::Buckets { table, buckets } => {
            numbers("table of the bias, [heads, buckets],", buckets.count().saturating_mul(heads), table)?;
            match buckets {
                Buckets::Relative { .. } => Ok(()),
                Buckets::Grid { queries, keys, reach } => {
                    numbers("places of queries", inputs.queries.tokens(), queries)?;
                    numbers("places of keys", inputs.keys.tokens(), keys)?;
                    let most = i16::MAX as usize;
                    match reach.into_iter().find(|&reach| reach > most) {
                        Some(found) => Err(AttentionError::Count { what: "places, the reach of a bias,", found, most }),
                        None => Ok(()),
                    }
                }
                Buckets::Stored { pairs: stored, count } => {
                    numbers("buckets, [q_len, kv_len] of each set,", pairs(), stored)?;
                    // (the largest of each part, which is compiled to wide instructions; a search for the first is not)
                    let largest = |part: &[u8]| part.iter().copied().fold(0, u8::max);
                    let found = match count > usize::from(u8::MAX) {
                        true => 0,
                        false => usize::from(stored.par_chunks(1 << 20).map(largest).max().unwrap_or(0)),
                    };
                    if found < count || stored.is_empty() {
                        return Ok(());
                    }
                    Err(AttentionError::Choice { what: "bucket", found, count })
                }
            }
        }
    }
}

/// The differences of places, if they lie near enough to each other for all of them to be laid out.
fn places(inputs: &Inputs<'_>, queries: &[[i32; 2]], keys: &[[i32; 2]]) -> Option<Differences> {
    let range = |places: &[[i32; 2]], n: usize| {
        let of = places.iter().map(|place| i64::from(place[n]));
        Some((of.clone().min()?, of.max()?))
    };
    let side = |n: usize| {
        let ((q_low, q_high), (k_low, k_high)) = (range(queries, n)?, range(keys, n)?);
        Some((k_low - q_high, k_high - q_low - (k_low - q_high) + 1))
    };
    let ((low_0, count_0), (low_1, count_1)) = (side(0)?, side(1)?);
    // a full grid has about four for each of its places
    let most = 16 * (inputs.queries.tokens() + inputs.keys.tokens()) as i128 + 4096;
    let count = i128::from(count_0) * i128::from(count_1);
    let near = count <= most && queries.iter().chain(keys).flatten().all(|x| x.unsigned_abs() < 1 << 24);
    near.then_some(Differences { lowest: 0, count: count as usize, lowest_places: [low_0, low_1], line: count_1 })
}

/// The differences that the mask leaves, if the bias needs them.
fn differences(inputs: &Inputs<'_>, options: &Options<'_>) -> Differences {
    if let Bias::Buckets { buckets: Buckets::Grid { queries, keys, .. }, .. } = options.bias {
        return places(inputs, queries, keys).unwrap_or_default();
    }
    if !matches!(options.bias, Bias::Alibi { .. } | Bias::Buckets { buckets: Buckets::Relative { .. }, .. }) {
        return Differences::default();
    }
    let sets = inputs.queries.lengths().zip(inputs.keys.lengths()).filter(|&(q_len, kv_len)| q_len > 0 && kv_len > 0);
    let (q_len, kv_len) = sets.fold((0, 0), |(q, kv), (q_len, kv_len)| (q.max(q_len), kv.max(kv_len)));
    if q_len == 0 {
        return Differences::default();
    }
    let (lowest, highest) = (1 - q_len as isize, kv_len as isize - 1);
    let (lowest, highest) = match options.mask {
        Mask::Full | Mask::Graph(_) => (lowest, highest),
        Mask::Causal { offset } => (lowest, highest.min(offset)),
        Mask::Window { left, right } => {
            let bound = |n: usize| isize::try_from(n).unwrap_or(isize::MAX);
            (lowest.max(-bound(left)), highest.min(bound(right)))
        }
    };
    let count = usize::try_from(highest.saturating_sub(lowest).saturating_add(1)).unwrap_or(0);
    Differences { lowest, count, ..Differences::default() }
}

/// The distance `i + offset - j` of a difference `j - i`.
pub(super) fn distance(offset: isize, difference: isize) -> isize {
    offset.saturating_sub(difference)
}

/// What a slope is multiplied by, for a difference `j - i`.
pub(super) fn slope_of(offset: isize, difference: isize) -> f64 {
    -(distance(offset, difference).unsigned_abs() as f64)
}

/// The bucket of a distance.
pub(super) fn relative(reach: usize, distance: isize) -> usize {
    let side = isize::try_from(reach).unwrap_or(isize::MAX);
    (distance.clamp(-side, side) + side) as usize
}

impl Choice<'_> {
    /// What is added to the logits of one head, by difference: `to` has [`Differences::width`] numbers.
    pub(super) fn lay_out_differences(&self, head: usize, to: &mut [f32]) {
        let Differences { lowest, count, .. } = self.differences;
        for (n, to) in to.iter_mut().skip(PAD).take(count).enumerate() {
            let difference = lowest + n as isize;
            *to = match self.bias {
                Bias::Alibi { slopes, offset } => -slopes[head] * distance(offset, difference).unsigned_abs() as f32,
                Bias::Buckets { table, buckets: Buckets::Relative { reach, offset } } => {
                    table[head * (2 * reach + 1) + relative(reach, distance(offset, difference))]
                }
                Bias::Buckets { table, buckets: buckets @ Buckets::Grid { reach, .. } } => {
                    table[head * buckets.count() + self.differences.bucket(n, reach)]
                }
                _ => 0.0,
            };
        }
    }

    /// The gradient of the numbers of one head's bias, from the sums of [`Choice::summed_bias`].
    pub(super) fn collect_bias(&self, head: usize, [by_difference, by_number]: [&[f32]; 2], to: &mut [f32]) {
        let shared = self.shared_numbers();
        let to = &mut to[head * shared..][..shared];
        to.fill(0.0);
        to.iter_mut().zip(by_number).for_each(|(to, sum)| *to = *sum);
        let Differences { lowest, count, .. } = self.differences;
        let sums = by_difference.iter().skip(PAD).take(count).enumerate();
        match self.bias {
            Bias::Alibi { offset, .. } => {
                let slope = |(n, &sum): (usize, &f32)| f64::from(sum) * slope_of(offset, lowest + n as isize);
                to[0] += sums.map(slope).sum::<f64>() as f32;
            }
            Bias::Buckets { buckets: Buckets::Relative { reach, offset }, .. } => {
                // Distances fall from one to the next, so that those of a bucket stand together.
                let mut run: Option<(usize, f64)> = None;
                for (n, &sum) in sums {
                    let bucket = relative(reach, distance(offset, lowest + n as isize));
                    let before = run.filter(|&(of, _)| of == bucket).map_or(f64::from(to[bucket]), |(_, sum)| sum);
                    run = Some((bucket, before + f64::from(sum)));
                    to[bucket] = (before + f64::from(sum)) as f32;
                }
            }
            Bias::Buckets { buckets: Buckets::Grid { reach, .. }, .. } => {
                sums.for_each(|(n, sum)| to[self.differences.bucket(n, reach)] += sum);
            }
            _ => {}
        }
    }

    /// Where the numbers of each set begin in the bias, if they are stored by pair.
    pub(super) fn lay_out_starts(&self, inputs: &Inputs<'_>, starts: &mut Vec<usize>) {
        starts.clear();
        let heads = match self.bias {
            Bias::Dense { .. } => inputs.shape.heads,
            Bias::Buckets { buckets: Buckets::Stored { .. }, .. } => 1,
            _ => return,
        };
        let mut start = 0;
        for (q_len, kv_len) in inputs.queries.lengths().zip(inputs.keys.lengths()) {
            starts.push(start);
            start += heads * q_len * kv_len;
        }
    }
}

/// The bucket of a pair of places.
#[inline(always)]
pub(super) fn grid(reach: [usize; 2], query: [i32; 2], key: [i32; 2]) -> usize {
    let side = |n: usize| {
        let most = reach[n] as i32;
        (query[n].saturating_sub(key[n]).clamp(-most, most) + most) as usize
    };
    side(0) * (2 * reach[1] + 1) + side(1)
}

/// Whether a row of a graph names every key from its first to its last.
pub(super) fn is_whole(row: &[u32]) -> bool {
    match row {
        [first, .., last] => (last - first) as usize + 1 == row.len(),
        _ => true,
    }
}

/// The edges of a row whose keys lie in a range, as a range of the columns of the graph.
pub(super) fn edges_between(edges: &Csr, query: usize, keys: &Range<usize>) -> Range<usize> {
    let (start, columns) = (edges.row_offsets()[query], edges.neighbours(query));
    let place = |key: usize| match columns {
        // a row without gaps tells without a search
        [first, ..] if is_whole(columns) => start + key.saturating_sub(*first as usize).min(columns.len()),
        _ => start + columns.partition_point(|&column| (column as usize) < key),
    };
    place(keys.start)..place(keys.end)
}
