//! From operands to products, and from products to weights, forward and backward: the part of both passes that depends on score
//! and normaliser.

use std::f64::consts::{LN_2, LOG2_E};
use std::ops::Range;

use super::additive::{Additive, RankOne};
use super::choice::Scoring;
use super::kernels::BACKWARD_KEYS;
use super::micro::Products;
use super::pack::SLAB;
use super::pipeline::{Pipeline, Place, Tile};
use super::softmax::{self, Online, ROW_SUMS};
use super::steps::Second;
use crate::options::Normalizer;

/// The sums of some rows so far.
#[derive(Clone, Copy)]
pub(super) struct State {
    /// The largest product, or logit, of each row.
    pub(super) row_max: *mut f32,
    /// `ROW_SUMS` partial sums of each row's weights.
    pub(super) row_sum: *mut f32,
    /// What the sums so far are to be multiplied by, after each step.
    pub(super) rescale: *mut f32,
}

impl State {
    /// From row `row` of more.
    pub(super) fn beginning_at(self, row: usize) -> Self {
        Self {
            row_max: self.row_max.wrapping_add(row),
            row_sum: self.row_sum.wrapping_add(row * ROW_SUMS),
            rescale: self.rescale.wrapping_add(row),
        }
    }
}

impl Pipeline<'_> {
    /// Whether products are turned to weights as they are, with the scale as a factor of the exponent.
    pub(super) fn is_bare(&self) -> bool {
        self.choice.has_plain_logits() && self.choice.edges().is_none()
    }

    /// What queries are multiplied by when they are packed: the sign of the scale, which changes no digit, so that the largest
    /// product has the largest weight.
    pub(super) fn query_factor(&self) -> f32 {
        if self.is_bare() { self.choice.scale.signum() } else { 1.0 }
    }

    /// What a product or logit in a tile is multiplied by before 2 is raised to it.
    pub(super) fn exponent_factor(&self) -> f32 {
        exponent_factor(if self.is_bare() { self.choice.scale } else { 1.0 })
    }

    /// The same in the backward pass, where queries are packed as they are: with the sign of the scale.
    pub(super) fn backward_factor(&self) -> f32 {
        let scale = if self.is_bare() { self.choice.scale } else { 1.0 };
        exponent_factor(scale).copysign(scale)
    }

    /// No key seen yet.
    ///
    /// # Safety
    ///
    /// The state has so many rows.
    pub(super) unsafe fn begin(&self, state: State, rows: usize) {
        // SAFETY: by the contract.
        unsafe { self.begin_with(state, rows, self.choice.normalizer == Normalizer::SoftmaxPlusOne) }
    }

    /// The same; `plus_one` counts the key whose logit is 0, as one of several that share the keys does.
    ///
    /// # Safety
    ///
    /// That of [`Pipeline::begin`].
    pub(super) unsafe fn begin_with(&self, state: State, rows: usize, plus_one: bool) {
        // SAFETY: by the contract.
        unsafe {
            std::slice::from_raw_parts_mut(state.row_sum, rows * ROW_SUMS).fill(0.0);
            let largest = if plus_one { 0.0 } else { f32::NEG_INFINITY };
            std::slice::from_raw_parts_mut(state.row_max, rows).fill(largest);
            if plus_one {
                (0..rows).for_each(|row| *state.row_sum.add(row * ROW_SUMS) = 1.0);
            }
        }
    }

    /// Weights from products; returns what the sums so far are to be multiplied by, for each row, or null for nothing. Under dropout
    /// `whole`, if it is not null, becomes a tile of the weights before it.
    ///
    /// # Safety
    ///
    /// Tile, state, `whole` and `biases` have the rows of the place.
    pub(super) unsafe fn weights(
        &self,
        place: &Place<'_>,
        tile: Tile<'_>,
        state: State,
        whole: *mut f32,
        biases: *mut f32,
    ) -> *const f32 {
        let bare = self.is_bare();
        // SAFETY: by the contract.
        unsafe {
            if !bare {
                self.logits(place, tile, std::ptr::null_mut(), biases);
            }
            let sums = self.choice.normalizer.has_sum();
            if sums {
                let (Tile { start: tile, spans, columns, .. }, factor) = (tile, self.exponent_factor());
                let State { row_max, row_sum, rescale } = state;
                (self.kernels.online)(&Online { tile, spans, columns, factor, row_max, row_sum, rescale });
            } else {
                let scale = if bare { self.choice.scale.abs() } else { 1.0 };
                self.weigh(place, tile, scale, std::ptr::null_mut());
            }
            self.drop(place, tile, whole, if whole.is_null() { Second::None } else { Second::Copied });
            if sums { state.rescale } else { std::ptr::null() }
        }
    }

    /// The factor of a row's sums, and its log-sum-exp, once all keys are seen.
    pub(super) fn end(&self, largest: f32, sum: f32) -> (f32, f64) {
        let kept = self.choice.kept_factor();
        if !self.choice.normalizer.has_sum() {
            return (kept, 0.0);
        }
        // a row without a key: nothing was added to it, so any factor leaves zero
        if largest == f32::NEG_INFINITY && sum == 0.0 {
            return (0.0, f64::NEG_INFINITY);
        }
        // the factor rounded as in the exponents
        (kept / sum, (f64::from(largest) * f64::from(self.exponent_factor()) + f64::from(sum).log2()) * LN_2)
    }
}

/// Rows that the forward pass has finished, and what their weights are found again with.
#[derive(Clone, Copy)]
pub(super) struct Finished {
    /// A tile of the same shape: what [`Pipeline::gradient_tiles`] names so, where that is not the tile of weights.
    pub(super) whole: *mut f32,
    /// Of each row, what [`origin_and_rest`] gives.
    pub(super) origin: *const f32,
    pub(super) rest: *const f32,
}

impl Pipeline<'_> {
    /// Products of a tile by whatever score there is; `slope`, if not null, becomes the derivative where the score has one.
    /// `dot` computes dot products for tiles of so many numbers a row.
    ///
    /// # Safety
    ///
    /// That of [`products`](super::micro::products); the rows are those of `heads`, as many for each.
    pub(super) unsafe fn scores(
        &self,
        heads: Range<usize>,
        products: &Products<'_>,
        (dot, stride): (unsafe fn(&Products<'_>), usize),
        slope: *mut f32,
    ) {
        // SAFETY: by the contract.
        unsafe {
            match self.choice.scoring {
                Scoring::Dot { .. } => dot(products),
                Scoring::RankOne { slope: factor } => {
                    let (operands, derivative) = (*products, slope);
                    (self.kernels.rank_one)(&RankOne { operands, stride, slope: factor, derivative });
                }
                Scoring::Additive { activation, weights } => {
                    let rows = products.spans.len() / heads.len();
                    for (n, head) in heads.enumerate() {
                        let operands = Products {
                            left: products.left.add(n * rows * SLAB),
                            spans: &products.spans[n * rows..][..rows],
                            out: products.out.add(n * rows * stride),
                            ..*products
                        };
                        let weights = weights[head * products.dim..].as_ptr();
                        (self.kernels.additive)(&Additive { operands, stride, weights, activation });
                    }
                }
            }
        }
    }

    /// Weights from products, as the forward pass had them, and what else the gradient needs.
    ///
    /// # Safety
    ///
    /// All tiles and numbers have the rows of the place.
    pub(super) unsafe fn weights_again(
        &self,
        place: &Place<'_>,
        tile: Tile<'_>,
        finished: Finished,
        slope: *mut f32,
        biases: *mut f32,
    ) {
        let scale = if self.is_bare() { self.choice.scale } else { 1.0 };
        let Finished { whole: gradient, origin, rest } = finished;
        // SAFETY: by the contract.
        unsafe {
            if !self.is_bare() {
                self.logits(place, tile, slope, biases);
            }
            if self.choice.normalizer.has_sum() {
                let Tile { start: tile_start, stride, spans, columns } = tile;
                debug_assert_eq!(stride, BACKWARD_KEYS);
                let factor = self.backward_factor();
                (self.kernels.again)(&softmax::Again {
                    tile: tile_start,
                    gradient,
                    spans,
                    columns,
                    factor,
                    origin,
                    rest,
                });
                self.drop(place, tile, gradient, Second::Copied);
            } else {
                self.weigh(place, tile, scale, gradient);
                self.drop(place, tile, gradient, Second::Dropped);
            }
        }
    }

    /// Of the two tiles that [`Pipeline::weights_again`] leaves: what the gradients of weights are multiplied by, and what
    /// those of all others of a row are.
    pub(super) fn gradient_tiles(&self, weights: *const f32, whole: *const f32) -> (*const f32, *const f32) {
        match (self.choice.normalizer.has_sum(), self.choice.dropout) {
            (true, None) => (weights, weights),
            (true, Some(_)) => (weights, whole),
            (false, _) => (whole, whole),
        }
    }

    /// What gradients of logits are multiplied by at once, and what those of queries and keys are when they are complete.
    pub(super) fn scales(&self) -> (f32, f32) {
        if self.is_bare() { (self.choice.scale, 1.0) } else { (1.0, self.choice.scale) }
    }
}

/// The product at which the weight of a row would be 1, if products are multiplied by `factor` before 2 is raised to them, and what
/// rounding took from it, in powers of 2.
pub(super) fn origin_and_rest(lse: f64, factor: f32) -> [f32; 2] {
    // A row that attends to nothing has no weights, now as before: 2^(x - ∞) = 0.
    if lse == f64::NEG_INFINITY {
        return [f32::INFINITY.copysign(factor), 0.0];
    }
    let exact = lse * LOG2_E / f64::from(factor);
    // (beyond an f32 where the factor is next to nothing; what is beyond goes to the rest)
    let most = f64::from(f32::MAX);
    let origin = if exact.is_finite() { exact.clamp(-most, most) } else { exact } as f32;
    let rest = f64::from(factor) * f64::from(origin) - lse * LOG2_E;
    // No larger than the logarithm of a sum over keys, unless an f64 has lost that beside the largest logit.
    [origin, if rest.abs() > 64.0 { 0.0 } else { rest as f32 }]
}

/// What a product is multiplied by before 2 is raised to it. Never 0, which would make NaN of the -∞ that masks.
pub(crate) fn exponent_factor(scale: f32) -> f32 {
    (scale.abs() * std::f32::consts::LOG2_E).max(f32::MIN_POSITIVE)
}
