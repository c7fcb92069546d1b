//! Weights as panels.

use super::{for_each, padded};
use crate::attention::kernels::Kernels;
use crate::attention::pack::Rows;
use crate::isa::Isa;
use crate::pool::{Buffer, Pool};

/// Weights laid out as the right operand of products: `[columns / P][inner][P]`, zeros behind the last column.
#[derive(Debug)]
pub struct Panels {
    pub(crate) numbers: Buffer,
    pub(crate) inner: usize,
    pub(crate) columns: usize,
}

/// What panels are made of.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// `[w_0 | w_1 | …]`: matrices side by side.
    SideBySide {
        /// `[inner, …]` each.
        parts: &'a [&'a [f32]],
        /// Rows of each.
        inner: usize,
    },
    /// `[w_0ᵀ; w_1ᵀ; …]`: transposed matrices one below the other; what each gives is followed, but for the last, by zeros up to
    /// whole slabs.
    Transposed {
        /// `[columns, …]` each.
        parts: &'a [&'a [f32]],
        /// Columns of the operand, rows of each part.
        columns: usize,
    },
}

/// The work of copying a number, in multiply-adds: a nanosecond, for weights come from afar.
const COPY: usize = 64;

impl Panels {
    /// The panels of several weights, made side by side.
    ///
    /// # Panics
    ///
    /// If a part is no whole number of rows or columns.
    pub fn of<const N: usize>(all: [Weights<'_>; N], pool: &Pool) -> [Self; N] {
        let panel = Kernels::of(Isa::detect()).panel();
        let mut panels = all.map(|weights| {
            let (inner, columns) = weights.dims();
            Self { numbers: pool.take(columns.div_ceil(panel) * inner * panel), inner, columns }
        });
        let work: usize = panels.iter().map(|panels| panels.numbers.len() * COPY).sum();
        let tasks = panels.iter_mut().zip(&all).flat_map(|(panels, weights)| {
            let len = (panels.inner * panel).max(1);
            panels.numbers.chunks_exact_mut(len).enumerate().map(move |(index, out)| (weights, index * panel, out))
        });
        for_each(work, tasks, |(weights, first, out)| weights.pack(first, out));
        panels
    }

    /// The panels of [`Weights::SideBySide`] alone.
    ///
    /// # Panics
    ///
    /// If a part is no whole number of columns.
    pub fn side_by_side(parts: &[&[f32]], inner: usize, pool: &Pool) -> Self {
        let [panels] = Self::of([Weights::SideBySide { parts, inner }], pool);
        panels
    }

    /// The panels of [`Weights::Transposed`] alone.
    ///
    /// # Panics
    ///
    /// If a part is no whole number of rows.
    pub fn transposed(parts: &[&[f32]], columns: usize, pool: &Pool) -> Self {
        let [panels] = Self::of([Weights::Transposed { parts, columns }], pool);
        panels
    }

    /// Rows and columns of the operand.
    pub fn dims(&self) -> (usize, usize) {
        (self.inner, self.columns)
    }
}

impl Weights<'_> {
    /// The other side of each part.
    fn width(&self, part: &[f32]) -> usize {
        let (&Weights::SideBySide { inner: side, .. } | &Weights::Transposed { columns: side, .. }) = self;
        assert_eq!(part.len() % side.max(1), 0, "weights: {} numbers are not {side} rows", part.len());
        part.len() / side.max(1)
    }

    /// Rows that a part of transposed matrices takes.
    fn taken(&self, parts: &[&[f32]], number: usize) -> usize {
        let width = self.width(parts[number]);
        if number + 1 == parts.len() { width } else { padded(width) }
    }

    fn dims(&self) -> (usize, usize) {
        match *self {
            Weights::SideBySide { parts, inner } => (inner, parts.iter().map(|part| self.width(part)).sum()),
            Weights::Transposed { parts, columns } => {
                ((0..parts.len()).map(|number| self.taken(parts, number)).sum(), columns)
            }
        }
    }

    /// One panel, from column `first` on.
    fn pack(&self, first: usize, out: &mut [f32]) {
        let kernels = Kernels::of(Isa::detect());
        let panel = kernels.panel();
        let (_, columns) = self.dims();
        match *self {
            Weights::SideBySide { parts, .. } => {
                if first + panel > columns {
                    out.fill(0.0);
                }
                let mut part_first = 0;
                for part in parts {
                    let width = self.width(part);
                    // the columns of the panel that this part has
                    let (from, to) = (first.max(part_first), (first + panel).min(part_first + width));
                    if from == first && to == first + panel {
                        let start = part[from - part_first..].as_ptr();
                        let rows = Rows { start, stride: width, count: part.len() / width, dim: panel };
                        // SAFETY: the kernels are those of this processor; the rows exist, and the panel has as many.
                        unsafe { (kernels.pack_rows)(rows, out.as_mut_ptr(), panel) };
                    } else if from < to {
                        for (row, out) in part.chunks_exact(width).zip(out.chunks_exact_mut(panel)) {
                            out[from - first..to - first].copy_from_slice(&row[from - part_first..to - part_first]);
                        }
                    }
                    part_first += width;
                }
            }
            Weights::Transposed { parts, columns } => {
                let mut rest = out;
                for (number, part) in parts.iter().enumerate() {
                    let width = self.width(part);
                    let (out, behind) = rest.split_at_mut(self.taken(parts, number) * panel);
                    rest = behind;
                    out[width * panel..].fill(0.0);
                    let start = part[first * width..].as_ptr();
                    let rows = Rows { start, stride: width, count: panel.min(columns - first), dim: width };
                    // SAFETY: the kernels are those of this processor; the rows exist, and the part of the panel takes them.
                    unsafe { (kernels.pack_panels)(rows, out.as_mut_ptr()) };
                }
            }
        }
    }
}
