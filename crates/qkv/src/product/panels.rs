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

impl Panels {
    /// Rows and columns of the operand.
    pub fn dims(&self) -> (usize, usize) {
        (self.inner, self.columns)
    }

    /// `[w_0 | w_1 | …]`, matrices of `inner` rows side by side.
    ///
    /// # Panics
    ///
    /// If a slice is no whole number of columns.
    pub fn side_by_side(parts: &[&[f32]], inner: usize, pool: &Pool) -> Self {
        let widths: Vec<usize> = parts
            .iter()
            .map(|part| {
                assert_eq!(part.len() % inner.max(1), 0, "weights: {} numbers are not {inner} rows", part.len());
                part.len() / inner.max(1)
            })
            .collect();
        let columns: usize = widths.iter().sum();
        let panel = Kernels::of(Isa::detect()).panel();
        let mut numbers = pool.take(columns.div_ceil(panel) * inner * panel);
        let panels = numbers.chunks_exact_mut((inner * panel).max(1)).enumerate();
        for_each(columns * inner, panels, |(index, panel_out)| {
            let first = index * panel;
            if first + panel > columns {
                panel_out.fill(0.0);
            }
            let mut part_first = 0;
            for (part, &width) in parts.iter().zip(&widths) {
                // the columns of the panel that this part has
                let (from, to) = (first.max(part_first), (first + panel).min(part_first + width));
                if from < to {
                    let rows = part.chunks_exact(width).zip(panel_out.chunks_exact_mut(panel));
                    for (row, out) in rows {
                        out[from - first..to - first].copy_from_slice(&row[from - part_first..to - part_first]);
                    }
                }
                part_first += width;
            }
        });
        Self { numbers, inner, columns }
    }

    /// `[w_0ᵀ; w_1ᵀ; …]`, transposed matrices one below the other: each part is `[columns, width]`, and its `width` rows are
    /// followed, but for the last part, by zeros up to whole slabs.
    ///
    /// # Panics
    ///
    /// If a slice is no whole number of rows.
    pub(crate) fn transposed(parts: &[&[f32]], columns: usize, pool: &Pool) -> Self {
        let widths: Vec<usize> = parts
            .iter()
            .map(|part| {
                assert_eq!(part.len() % columns.max(1), 0, "weights: {} numbers are not {columns} rows", part.len());
                part.len() / columns.max(1)
            })
            .collect();
        let last = widths.len().saturating_sub(1);
        let taken = |part: usize| if part == last { widths[part] } else { padded(widths[part]) };
        let inner: usize = (0..widths.len()).map(taken).sum();
        let kernels = Kernels::of(Isa::detect());
        let panel = kernels.panel();
        let mut numbers = pool.take(columns.div_ceil(panel) * inner * panel);
        let panels = numbers.chunks_exact_mut((inner * panel).max(1)).enumerate();
        for_each(columns * inner, panels, |(index, panel_out)| {
            let first = index * panel;
            let mut rest = panel_out;
            for (number, (part, &width)) in parts.iter().zip(&widths).enumerate() {
                let (part_out, behind) = rest.split_at_mut(taken(number) * panel);
                rest = behind;
                part_out[width * panel..].fill(0.0);
                let rows = Rows {
                    start: part[first * width..].as_ptr(),
                    stride: width,
                    count: panel.min(columns - first),
                    dim: width,
                };
                // SAFETY: the kernels are those of this processor; the rows exist, and the part of the panel takes them all.
                unsafe { (kernels.pack_panels)(rows, part_out.as_mut_ptr()) };
            }
        });
        Self { numbers, inner, columns }
    }
}
