//! What is done to a tile of products while it is in the first-level cache.

use super::{TILE_COLUMNS, Tile};
use crate::activation::Activation;
use crate::attention::pack::SLAB;
use crate::dropout;
use crate::isa::{Target, isa_dispatch};
use crate::math::{elu_and_slope, gelu, gelu_and_slope, sigmoid, tanh};
use crate::random::Key;
use crate::simd::Vector;

/// Dropout, ready to be applied: position `i` is kept if its bits are not below the threshold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropping {
    threshold: u32,
    scale: f32,
    key: Key,
}

impl Dropping {
    /// That of a rate and a key; `None` where nothing is dropped.
    ///
    /// # Panics
    ///
    /// If the rate is not in `[0, 1)`.
    pub(crate) fn new(dropout: Option<(f32, Key)>) -> Option<Self> {
        let (rate, key) = dropout?;
        let (threshold, scale) = dropout::plan_or_panic(rate)?;
        Some(Self { threshold, scale, key })
    }

    /// Drops from numbers that are the `first`-th and following of the batch.
    #[inline(always)]
    pub(crate) fn row(self, x: &mut [f32], first: usize) {
        let first = first as u64;
        if (first as u32).checked_add(x.len() as u32).is_some() {
            let block = self.key.block(first);
            for (i, x) in (first as u32..).zip(x) {
                *x = dropout::kept_or_zero(*x, block.bits(i), self.threshold, self.scale);
            }
        } else {
            for (i, x) in (first..).zip(x) {
                *x = dropout::kept_or_zero(*x, self.key.bits(i), self.threshold, self.scale);
            }
        }
    }

    /// Drops from a tile whose first number stands in row `row` of the batch, of `columns` columns, and in column `first`.
    #[inline(always)]
    fn tile<T: Target>(self, tile: &mut [f32], row: usize, columns: usize, first: usize) {
        for (row, x) in (row..).zip(tile.chunks_exact_mut(panel::<T>())) {
            self.row(x, row * columns + first);
        }
    }
}

/// How the rows of a block lie in a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// Row after row.
    Rows {
        /// From one to the next.
        stride: usize,
    },
    /// As slabs.
    Slabs {
        /// Rows of a slab.
        height: usize,
    },
}

impl Place {
    /// Copies a row that begins at column 0.
    pub(crate) fn copy_row(self, from: &[f32], row: usize, to: &mut [f32]) {
        for (slab, to) in to.chunks_mut(SLAB).enumerate() {
            to.copy_from_slice(&from[self.at(row, slab * SLAB)..][..to.len()]);
        }
    }

    /// Where a number is.
    #[inline(always)]
    pub(crate) fn at(self, row: usize, column: usize) -> usize {
        match self {
            Place::Rows { stride } => row * stride + column,
            Place::Slabs { height } => column / SLAB * height * SLAB + row * SLAB + column % SLAB,
        }
    }
}

/// Where the numbers of a block go.
pub(crate) struct Sink<'a> {
    pub(crate) out: &'a mut [f32],
    pub(crate) place: Place,
}

/// What becomes of the products of a block. `first_row` is the number of the block's first row in the batch.
pub(crate) enum Finish<'a> {
    /// `out = product (+ bias)`.
    Plain { bias: Option<&'a [f32]>, sink: Sink<'a> },
    /// `z = product + bias;  out = dropout(act(z))`; z is kept where it is wanted, in the same place.
    Activate {
        bias: &'a [f32],
        act: Activation,
        pre: Option<&'a mut [f32]>,
        drop: Option<Dropping>,
        first_row: usize,
        sink: Sink<'a>,
    },
    /// `out = residual + dropout(product + bias)`, all of them rows.
    Residual { bias: &'a [f32], drop: Option<Dropping>, first_row: usize, residual: &'a [f32], out: &'a mut [f32] },
    /// Undoes `Activate`, of which the products are the gradient: `d_z` goes to the sink, `d_bias` receives its sum over rows,
    /// and `pre`, in the same place, becomes `dropout(act(z))`.
    Deactivate {
        act: Activation,
        pre: &'a mut [f32],
        drop: Option<Dropping>,
        first_row: usize,
        d_bias: &'a mut [f32],
        sink: Sink<'a>,
        columns: usize,
    },
}

impl Finish<'_> {
    /// Asks for the memory that the tile will be read from and written to, while its sums are computed: rows lie too far apart
    /// for the processor to guess it.
    #[inline(always)]
    pub(crate) fn prefetch<T: Target>(&self, (row, rows): (usize, usize), first: usize) {
        let ask = |x: &[f32], at: usize| {
            for line in 0..=panel::<T>() / LINE {
                // SAFETY: `isa_dispatch!` compiles this for processors that have the instruction; what is asked for need not exist.
                unsafe { T::Vector::prefetch(x.as_ptr().wrapping_add(at + line * LINE)) };
            }
        };
        for row in row..row + rows {
            match self {
                Finish::Plain { sink, .. } => ask(sink.out, sink.place.at(row, first)),
                Finish::Activate { pre, sink, .. } => {
                    let at = sink.place.at(row, first);
                    ask(sink.out, at);
                    if let Some(pre) = pre {
                        ask(pre, at);
                    }
                }
                Finish::Residual { bias, residual, out, .. } => {
                    let at = row * bias.len() + first;
                    ask(residual, at);
                    ask(out, at);
                }
                Finish::Deactivate { pre, sink, .. } => {
                    let at = sink.place.at(row, first);
                    ask(pre, at);
                    ask(sink.out, at);
                }
            }
        }
    }

    /// A tile whose columns all exist, from its registers, where no more than an addition is done to it: what it goes through
    /// on the way to memory is then nothing. `false` if there is more to be done.
    ///
    /// # Safety
    ///
    /// The instruction set of `T`.
    #[inline(always)]
    pub(crate) unsafe fn registers<T: Target, const ROWS: usize>(
        &mut self,
        acc: [[T::Vector; 2]; ROWS],
        row: usize,
        first: usize,
    ) -> bool {
        let lanes = T::Vector::LANES;
        // SAFETY: by the contract; slices of two registers are loaded and stored.
        unsafe {
            let load = |x: &[f32], at: usize| {
                let x = x[at..at + 2 * lanes].as_ptr();
                [T::Vector::load(x), T::Vector::load(x.add(lanes))]
            };
            let store = |[a, b]: [T::Vector; 2], x: &mut [f32], at: usize| {
                let x = x[at..at + 2 * lanes].as_mut_ptr();
                a.store(x);
                b.store(x.add(lanes));
            };
            let add = |[a, b]: [T::Vector; 2], [c, d]: [T::Vector; 2]| [a.add(c), b.add(d)];
            match self {
                Finish::Plain { bias, sink } => {
                    let bias = bias.map_or([T::Vector::splat(0.0); 2], |bias| load(bias, first));
                    for (row, acc) in (row..).zip(acc) {
                        store(add(acc, bias), sink.out, sink.place.at(row, first));
                    }
                }
                Finish::Residual { bias, drop: None, residual, out, .. } => {
                    let (columns, bias) = (bias.len(), load(bias, first));
                    for (row, acc) in (row..).zip(acc) {
                        let at = row * columns + first;
                        store(add(add(acc, bias), load(residual, at)), out, at);
                    }
                }
                _ => return false,
            }
        }
        true
    }

    /// Rows `row..row + rows` of the block and `width` columns from `first` on.
    ///
    /// What is done to each number goes over the whole tile at once: many independent chains hide the latency of each.
    #[inline(always)]
    pub(crate) fn tile<T: Target>(
        &mut self,
        tile: &mut Tile,
        (row, rows): (usize, usize),
        (first, width): (usize, usize),
    ) {
        let panel = panel::<T>();
        let tile = &mut tile.0[..rows * panel];
        match self {
            Finish::Plain { bias, sink } => {
                let bias = bias.map_or([0.0; TILE_COLUMNS], |bias| segment::<T>(bias, first, width));
                for (row, x) in (row..).zip(tile.chunks_exact_mut(panel)) {
                    add::<T>(x, &bias);
                    put::<T>(sink.out, sink.place.at(row, first), x, width);
                }
            }
            Finish::Activate { bias, act, pre, drop, first_row, sink } => {
                let (columns, bias) = (bias.len(), segment::<T>(bias, first, width));
                for x in tile.chunks_exact_mut(panel) {
                    add::<T>(x, &bias);
                }
                if let Some(pre) = pre {
                    for (row, z) in (row..).zip(tile.chunks_exact(panel)) {
                        put::<T>(pre, sink.place.at(row, first), z, width);
                    }
                }
                activate::<T>(*act, tile);
                if let Some(drop) = drop {
                    drop.tile::<T>(tile, *first_row + row, columns, first);
                }
                for (row, x) in (row..).zip(tile.chunks_exact(panel)) {
                    put::<T>(sink.out, sink.place.at(row, first), x, width);
                }
            }
            Finish::Residual { bias, drop, first_row, residual, out } => {
                let (columns, bias) = (bias.len(), segment::<T>(bias, first, width));
                for x in tile.chunks_exact_mut(panel) {
                    add::<T>(x, &bias);
                }
                if let Some(drop) = drop {
                    drop.tile::<T>(tile, *first_row + row, columns, first);
                }
                for (row, x) in (row..).zip(tile.chunks_exact_mut(panel)) {
                    let at = row * columns + first;
                    add::<T>(x, &segment::<T>(residual, at, width));
                    put::<T>(out, at, x, width);
                }
            }
            Finish::Deactivate { act, pre, drop, first_row, d_bias, sink, columns } => {
                let mut z = Tile::ZERO;
                let z = &mut z.0[..rows * panel];
                for (row, z) in (row..).zip(z.chunks_exact_mut(panel)) {
                    z.copy_from_slice(&segment::<T>(pre, sink.place.at(row, first), width)[..panel]);
                }
                if let Some(drop) = drop {
                    drop.tile::<T>(tile, *first_row + row, *columns, first);
                }
                deactivate::<T>(*act, z, tile);
                if let Some(drop) = drop {
                    drop.tile::<T>(z, *first_row + row, *columns, first);
                }
                let mut sums = [0.0; TILE_COLUMNS];
                for (row, (hidden, d)) in (row..).zip(z.chunks_exact(panel).zip(tile.chunks_exact(panel))) {
                    let at = sink.place.at(row, first);
                    put::<T>(pre, at, hidden, width);
                    put::<T>(sink.out, at, d, width);
                    add::<T>(&mut sums, d);
                }
                for (d_bias, sum) in d_bias[first..first + width].iter_mut().zip(sums) {
                    *d_bias += sum;
                }
            }
        }
    }
}

/// Columns of a tile.
const fn panel<T: Target>() -> usize {
    2 * T::Vector::LANES
}

/// Numbers of a cache line.
const LINE: usize = 16;

/// `width` numbers from `first` on, zeros behind them. Whole tiles, which are nearly all, are copied without a call.
#[inline(always)]
fn segment<T: Target>(x: &[f32], first: usize, width: usize) -> [f32; TILE_COLUMNS] {
    let (mut out, x) = ([0.0; TILE_COLUMNS], &x[first..first + width]);
    if width == panel::<T>() {
        out[..panel::<T>()].copy_from_slice(x);
    } else {
        out[..width].copy_from_slice(x);
    }
    out
}

/// The first `width` numbers to `out[at..]`.
#[inline(always)]
fn put<T: Target>(out: &mut [f32], at: usize, x: &[f32], width: usize) {
    let out = &mut out[at..at + width];
    if width == panel::<T>() {
        out.copy_from_slice(&x[..panel::<T>()]);
    } else {
        out.copy_from_slice(&x[..width]);
    }
}

/// `x += y` for a row of a tile, in registers. (Of plain loops over a tile the compiler makes one over its columns, with every row on
/// the stack.)
#[inline(always)]
fn add<T: Target>(x: &mut [f32], y: &[f32]) {
    let (x, y) = (&mut x[..panel::<T>()], &y[..panel::<T>()]);
    for lane in (0..panel::<T>()).step_by(T::Vector::LANES) {
        // SAFETY: `isa_dispatch!` calls this only where the instruction set is there; both have as many numbers.
        unsafe {
            let (x, y) = (x.as_mut_ptr().add(lane), y.as_ptr().add(lane));
            T::Vector::load(x).add(T::Vector::load(y)).store(x);
        }
    }
}

/// Numbers that are worked on side by side.
const TOGETHER: usize = 2 * TILE_COLUMNS;

// (Plain loops: a closure handed to an iterator might not be compiled for the instruction set.)
#[inline(always)]
fn each(x: &mut [f32], f: impl Fn(f32) -> f32) {
    let (together, rest) = x.as_chunks_mut::<TOGETHER>();
    for x in together {
        for x in x {
            *x = f(*x);
        }
    }
    for x in rest {
        *x = f(*x);
    }
}

#[inline(always)]
fn activate<T: Target>(act: Activation, z: &mut [f32]) {
    // outside the loops, so that each of them is one straight line
    match act {
        Activation::Identity => {}
        Activation::Relu => each(z, |z| if z > 0.0 { z } else { 0.0 }),
        Activation::Gelu => each(z, gelu::<T>),
        Activation::Tanh => each(z, tanh::<T>),
        Activation::Sigmoid => each(z, sigmoid::<T>),
        Activation::Elu => each(z, |z| elu_and_slope::<T>(z).0),
    }
}

/// `z` becomes `act(z)`, and `d`, its gradient, that of `z`.
#[inline(always)]
fn deactivate<T: Target>(act: Activation, z: &mut [f32], d: &mut [f32]) {
    match act {
        Activation::Identity => {}
        Activation::Relu => each_slope(z, d, |z| if z > 0.0 { (z, 1.0) } else { (0.0, 0.0) }),
        Activation::Gelu => each_slope(z, d, gelu_and_slope::<T>),
        Activation::Tanh => each_slope(z, d, |z| {
            let y = tanh::<T>(z);
            (y, 1.0 - y * y)
        }),
        Activation::Sigmoid => each_slope(z, d, |z| {
            let y = sigmoid::<T>(z);
            (y, y * (1.0 - y))
        }),
        Activation::Elu => each_slope(z, d, elu_and_slope::<T>),
    }
}

#[inline(always)]
fn each_slope(z: &mut [f32], d: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
    let ((z, z_rest), (d, d_rest)) = (z.as_chunks_mut::<TOGETHER>(), d.as_chunks_mut::<TOGETHER>());
    for (z, d) in z.iter_mut().zip(d) {
        for (z, d) in z.iter_mut().zip(d) {
            let (value, slope) = f(*z);
            *z = value;
            *d *= slope;
        }
    }
    for (z, d) in z_rest.iter_mut().zip(d_rest) {
        let (value, slope) = f(*z);
        *z = value;
        *d *= slope;
    }
}

#[inline(always)]
fn deactivate_rows_body<T: Target>(
    act: Activation,
    rows: usize,
    dim: usize,
    height: usize,
    pre: &[f32],
    d: &mut [f32],
    sums: &mut [f32],
) {
    let place = Place::Slabs { height };
    for first in (0..dim).step_by(panel::<T>()) {
        let width = panel::<T>().min(dim - first);
        let mut sum = [0.0; TILE_COLUMNS];
        for row in 0..rows {
            let at = place.at(row, first);
            let (mut z, mut d_z) = (segment::<T>(pre, at, width), segment::<T>(d, at, width));
            deactivate::<T>(act, &mut z[..panel::<T>()], &mut d_z[..panel::<T>()]);
            put::<T>(d, at, &d_z, width);
            add::<T>(&mut sum, &d_z);
        }
        sums[first..first + width].copy_from_slice(&sum[..width]);
    }
}
isa_dispatch!(
    /// Undoes an activation for a block of rows in slabs: `d`, the gradient of `act(pre)`, becomes that of `pre`, and `sums` its
    /// sum over the rows.
    pub(crate) fn deactivate_rows(
        act: Activation, rows: usize, dim: usize, height: usize, pre: &[f32], d: &mut [f32], sums: &mut [f32],
    ) = deactivate_rows_body
);
