//! What is compiled for each instruction set: the steps over one tile, as a table of functions.
//!
//! Belongs here: the table, and the loops over rows that are too small for a file. The algorithm that calls them is
//! compiled once (`forward.rs`, `backward.rs`); a step takes microseconds, so that a call through a pointer is free.

use super::additive::{Additive, AdditiveBackward, RankOne, additive, additive_backward, rank_one};
use super::along::{
    EdgeAdditive, EdgeGradient, EdgeScores, EdgeSums, Nodes, edge_additive, edge_gradient, edge_scores, edge_sums,
    prefetch_nodes,
};
use super::direct::{Direct, DirectSums, direct, direct_sums};
use super::micro::{AsIs, Products, Sums, products, sums};
use super::pack::{Rows, pack_panels, pack_rows, pack_slabs, prefetch_bytes, prefetch_rows};
use super::scored_row::{ScoredQuery, ScoredRow, scored_query, scored_row};
use super::scored_steps::{EdgeKeep, EdgeKey, edge_keep, edge_key};
use super::softmax::{Again, Gradient, Online, again, online, totals};
use super::steps::{Chain, Diagonals, Drops, Logits, Mixed, Weigh, chain, diagonals, drops, logits, weigh};
use super::tables::{Runs, add_runs, copy_runs, look_up};
use crate::isa::Isa;
use crate::simd::{Vector, portable};

/// Queries of a forward tile: 3 × 14 rows of products and 7 × 6 of sums.
///
/// Its products with [`FORWARD_KEYS`] keys take 21 KiB, its queries and its sums 10.5 KiB each at width 64: with 8 KiB of a
/// panel or of values they stay in a 48 KiB first-level cache.
pub(crate) const FORWARD_QUERIES: usize = 42;

/// Keys of a forward tile. The more, the rarer are the sums loaded, rescaled and stored.
pub(crate) const FORWARD_KEYS: usize = 128;

/// Queries of a backward tile: 6 × 14 and 14 × 6 rows.
///
/// Weights and their gradient take 31.5 KiB each; what else a tile touches at width 64 is another 200 KiB: the
/// second-level cache is meant, where one load for several multiply-adds is quick enough.
pub(crate) const BACKWARD_QUERIES: usize = 84;

/// Keys of a backward tile: 3 panels, and 16 × 6 rows of sums.
pub(crate) const BACKWARD_KEYS: usize = 96;

/// One instruction set. Every function asks, as its `# Safety`, that the processor has it, and what the function of the same
/// name asks.
pub(crate) struct Kernels {
    /// Numbers of a register.
    pub(crate) lanes: usize,
    /// Rows and columns of the register tile of products, and of that of sums.
    pub(crate) register_tiles: [[usize; 2]; 2],
    pub(crate) pack_panels: unsafe fn(Rows, *mut f32),
    pub(crate) pack_slabs: unsafe fn(Rows, f32, *mut f32, usize, isize),
    /// Asks for the cache lines of rows that are needed later.
    pub(crate) prefetch_rows: unsafe fn(Rows),
    pub(crate) prefetch_bytes: unsafe fn(*const u8, usize, usize, usize),
    pub(crate) pack_rows: unsafe fn(Rows, *mut f32, usize),
    /// Products of a forward tile.
    pub(crate) scores: unsafe fn(&Products<'_>),
    pub(crate) online: unsafe fn(&Online<'_>),
    pub(crate) totals: unsafe fn(*const f32, usize, *mut f32),
    /// Weights times values.
    pub(crate) mix: unsafe fn(&Sums<'_>),
    /// Products of a backward tile.
    pub(crate) scores_again: unsafe fn(&Products<'_>),
    pub(crate) again: unsafe fn(&Again<'_>),
    /// Gradient of the products.
    pub(crate) gradient: unsafe fn(&Products<'_>, &Gradient),
    /// Gradients of keys and values: rows are keys.
    pub(crate) by_key: unsafe fn(&Sums<'_>),
    /// Gradient of the queries: rows are queries.
    pub(crate) by_query: unsafe fn(&Sums<'_>),
    pub(crate) write_rows: unsafe fn(&Transfer),
    pub(crate) add_rows: unsafe fn(&Transfer),
    pub(crate) row_dots: unsafe fn(Rows, Rows) -> [f32; DOTS],
    pub(crate) logits: unsafe fn(&Logits<'_>),
    pub(crate) weigh: unsafe fn(&Weigh<'_>),
    pub(crate) drops: unsafe fn(&Drops<'_>),
    /// Gradient of the logits, where weights were dropped or do not depend on each other.
    pub(crate) mixed: unsafe fn(&Products<'_>, &Mixed),
    pub(crate) chain: unsafe fn(&Chain<'_>),
    pub(crate) diagonals: unsafe fn(&Diagonals<'_>),
    pub(crate) additive: unsafe fn(&Additive<'_>),
    pub(crate) additive_backward: unsafe fn(&AdditiveBackward<'_>),
    pub(crate) rank_one: unsafe fn(&RankOne<'_>),
    /// Products of a few queries with keys where they lie.
    pub(crate) direct: unsafe fn(&Direct<'_>),
    /// Sums of values where they lie.
    pub(crate) direct_sums: unsafe fn(&DirectSums<'_>),
    /// Asks for the rows of nodes that are needed soon.
    pub(crate) prefetch_nodes: unsafe fn(&Nodes, usize, &[u32]),
    /// Copies runs of a table to a tile, and adds a tile to them.
    pub(crate) copy_runs: unsafe fn(&Runs<'_>),
    pub(crate) add_runs: unsafe fn(&Runs<'_>),
    /// What a table has for stored numbers of its entries.
    pub(crate) look_up: unsafe fn(&[f32], &[u8], *mut f32),
    /// Scores, or other products, along edges.
    pub(crate) edge_scores: unsafe fn(&EdgeScores<'_>),
    /// Sums along edges.
    pub(crate) edge_sums: unsafe fn(&EdgeSums<'_>),
    /// The additive score's gradients along edges.
    pub(crate) edge_additive: unsafe fn(&EdgeAdditive<'_>),
    /// Gradient of the logits of edges, in place of that of their weights.
    pub(crate) edge_gradient: unsafe fn(&EdgeGradient<'_>),
    /// Gradients that a key gets by its edges, where scores are sums.
    pub(crate) edge_key: unsafe fn(&EdgeKey<'_>),
    /// Weights of edges, kept for these.
    pub(crate) edge_keep: unsafe fn(&EdgeKeep),
    /// The same for one query from its scores to its sums, and its gradient.
    pub(crate) scored_row: unsafe fn(&ScoredRow<'_>),
    pub(crate) scored_query: unsafe fn(&ScoredQuery),
    /// To be called when [`Kernels::scored_row`] has been, before others read what was kept.
    pub(crate) passed: unsafe fn(),
}

impl Kernels {
    /// Keys of a panel.
    pub(crate) fn panel(&self) -> usize {
        2 * self.lanes
    }

    /// Those of an instruction set that the processor has.
    pub(crate) fn of(isa: Isa) -> &'static Kernels {
        assert!(isa.is_available(), "this processor has no {}", isa.name());
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &avx512::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &neon::KERNELS,
            _ => &scalar::KERNELS,
        }
    }
}

/// Rows that leave a scratch buffer for the caller's memory.
pub(crate) struct Transfer {
    pub(crate) from: *const f32,
    pub(crate) from_stride: usize,
    pub(crate) to: *mut f32,
    pub(crate) to_stride: usize,
    pub(crate) rows: usize,
    pub(crate) dim: usize,
    /// What each row is multiplied by, if not null.
    pub(crate) factors: *const f32,
    /// What all rows are multiplied by otherwise.
    pub(crate) factor: f32,
}

/// `to[r][c] = from[r][c] · factors[r]`, or that added to it.
///
/// # Safety
///
/// The instruction set of `V`; the pointers hold what they say, `from` whole registers.
#[inline(always)]
unsafe fn transfer<V: Vector, const ADD: bool>(t: &Transfer) {
    for row in 0..t.rows {
        // SAFETY: by the contract.
        unsafe {
            let factor = V::splat(if t.factors.is_null() { t.factor } else { *t.factors.add(row) });
            for column in (0..t.dim).step_by(V::LANES) {
                let x = V::load(t.from.add(row * t.from_stride + column)).mul(factor);
                let to = t.to.add(row * t.to_stride + column);
                let count = V::LANES.min(t.dim - column);
                match (count == V::LANES, ADD) {
                    (true, true) => V::load(to).add(x).store(to),
                    (true, false) => x.store(to),
                    (false, true) => V::load_first(to, count).add(x).store_first(to, count),
                    (false, false) => x.store_first(to, count),
                }
            }
        }
    }
}

/// Rows whose products are summed side by side, to hide the latency of an addition.
pub(crate) const DOTS: usize = 8;

/// `Σ a[r][c] · b[r][c]` for `rows <= DOTS` rows, each as the chain that [`products`] makes of it: equal rows have equal sums.
///
/// # Safety
///
/// The instruction set of `V`; `a.count` and `a.dim` are those of `b`, and both can be read.
#[inline(always)]
unsafe fn row_dots<V: Vector>(a: Rows, b: Rows) -> [f32; DOTS] {
    let mut sums = [0.0; DOTS];
    for c in 0..a.dim {
        for (r, sum) in sums.iter_mut().enumerate() {
            // Rows that do not exist repeat the last one: no branch in the loop.
            let r = r.min(a.count - 1);
            // SAFETY: the row exists, by the contract.
            unsafe {
                *sum = V::mul_add_number(*a.start.add(r * a.stride + c), *b.start.add(r * b.stride + c), *sum);
            }
        }
    }
    sums
}

macro_rules! kernels {
    ($module:ident, $vector:ty $(, $features:literal)?) => {
        mod $module {
            use super::*;

            type V = $vector;
            const SLAB: usize = super::super::pack::SLAB;

            kernels!(@functions ($($features)?)
                pack_panels_of(from: Rows, to: *mut f32) => pack_panels::<V>(from, to);
                pack_slabs_of(from: Rows, factor: f32, to: *mut f32, height: usize, next: isize)
                    => pack_slabs::<V>(from, factor, to, height, next);
                prefetch_rows_of(rows: Rows) => prefetch_rows::<V>(rows);
                prefetch_bytes_of(start: *const u8, stride: usize, count: usize, len: usize)
                    => prefetch_bytes::<V>(start, stride, count, len);
                pack_rows_of(from: Rows, to: *mut f32, stride: usize) => pack_rows::<V>(from, to, stride);
                scores(p: &Products<'_>) => products::<V, _, FORWARD_KEYS>(p, &AsIs);
                online_step(o: &Online<'_>) => online::<V, FORWARD_KEYS>(o);
                totals_of(row_sum: *const f32, rows: usize, to: *mut f32) => totals::<V>(row_sum, rows, to);
                mix(s: &Sums<'_>) => sums::<V, FORWARD_KEYS, 1, SLAB>(s);
                scores_again(p: &Products<'_>) => products::<V, _, BACKWARD_KEYS>(p, &AsIs);
                again_step(a: &Again<'_>) => again::<V, BACKWARD_KEYS>(a);
                gradient(p: &Products<'_>, g: &Gradient) => products::<V, _, BACKWARD_KEYS>(p, g);
                by_key(s: &Sums<'_>) => sums::<V, 1, BACKWARD_KEYS, { BACKWARD_QUERIES * SLAB }>(s);
                by_query(s: &Sums<'_>) => sums::<V, BACKWARD_KEYS, 1, SLAB>(s);
                logits_of(l: &Logits<'_>) => logits::<V>(l);
                weigh_step(w: &Weigh<'_>) => weigh::<V>(w);
                drops_step(d: &Drops<'_>) => drops::<V>(d);
                mixed(p: &Products<'_>, m: &Mixed) => products::<V, _, BACKWARD_KEYS>(p, m);
                chain_step(c: &Chain<'_>) => chain::<V>(c);
                diagonals_of(d: &Diagonals<'_>) => diagonals::<V>(d);
                additive_scores(a: &Additive<'_>) => additive::<V>(a);
                additive_backward_step(a: &AdditiveBackward<'_>) => additive_backward::<V>(a);
                rank_one_scores(r: &RankOne<'_>) => rank_one::<V>(r);
                direct_scores(d: &Direct<'_>) => direct::<V>(d);
                direct_sums_of(d: &DirectSums<'_>) => direct_sums::<V>(d);
                prefetch_nodes_of(nodes: &Nodes, heads: usize, list: &[u32]) => prefetch_nodes::<V>(nodes, heads, list);
                copy_runs_of(r: &Runs<'_>) => copy_runs::<V>(r);
                add_runs_of(r: &Runs<'_>) => add_runs::<V>(r);
                look_up_in(table: &[f32], stored: &[u8], to: *mut f32) => look_up::<V>(table, stored, to);
                edge_scores_of(e: &EdgeScores<'_>) => edge_scores::<V>(e);
                edge_sums_of(e: &EdgeSums<'_>) => edge_sums::<V>(e);
                edge_additive_of(e: &EdgeAdditive<'_>) => edge_additive::<V>(e);
                edge_gradient_of(e: &EdgeGradient<'_>) => edge_gradient::<V>(e);
                edge_key_of(e: &EdgeKey<'_>) => edge_key::<V>(e);
                edge_keep_of(k: &EdgeKeep) => edge_keep(k);
                scored_row_of(r: &ScoredRow<'_>) => scored_row::<V>(r);
                scored_query_of(q: &ScoredQuery) => scored_query::<V>(q);
                passed_of() => V::passed();
                write_rows(t: &Transfer) => transfer::<V, false>(t);
                add_rows(t: &Transfer) => transfer::<V, true>(t);
            );

            $(#[target_feature(enable = $features)])?
            unsafe fn dots(a: Rows, b: Rows) -> [f32; DOTS] {
                // SAFETY: the contract of this function is that of the other.
                unsafe { row_dots::<V>(a, b) }
            }

            pub(super) static KERNELS: Kernels = Kernels {
                lanes: <V as Vector>::LANES,
                register_tiles: [
                    [<V as Vector>::PRODUCT_ROWS, 2 * <V as Vector>::LANES],
                    [<V as Vector>::SUM_ROWS, <V as Vector>::SUM_VECTORS * <V as Vector>::LANES],
                ],
                pack_panels: pack_panels_of,
                pack_slabs: pack_slabs_of,
                prefetch_rows: prefetch_rows_of,
                prefetch_bytes: prefetch_bytes_of,
                pack_rows: pack_rows_of,
                scores,
                online: online_step,
                totals: totals_of,
                mix,
                scores_again,
                again: again_step,
                gradient,
                by_key,
                by_query,
                write_rows,
                add_rows,
                row_dots: dots,
                logits: logits_of,
                weigh: weigh_step,
                drops: drops_step,
                mixed,
                chain: chain_step,
                diagonals: diagonals_of,
                additive: additive_scores,
                additive_backward: additive_backward_step,
                rank_one: rank_one_scores,
                direct: direct_scores,
                direct_sums: direct_sums_of,
                prefetch_nodes: prefetch_nodes_of,
                copy_runs: copy_runs_of,
                add_runs: add_runs_of,
                look_up: look_up_in,
                edge_scores: edge_scores_of,
                edge_sums: edge_sums_of,
                edge_additive: edge_additive_of,
                edge_gradient: edge_gradient_of,
                edge_key: edge_key_of,
                edge_keep: edge_keep_of,
                scored_row: scored_row_of,
                scored_query: scored_query_of,
                passed: passed_of,
            };
        }
    };
    (@functions ($($features:literal)?)) => {};
    (@functions ($($features:literal)?) $name:ident($($arg:ident: $ty:ty),*) => $body:expr; $($rest:tt)*) => {
        $(#[target_feature(enable = $features)])?
        unsafe fn $name($($arg: $ty),*) {
            // SAFETY: the contract of this function is that of the other.
            unsafe { $body }
        }
        kernels!(@functions ($($features)?) $($rest)*);
    };
}

kernels!(scalar, portable::Portable);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, crate::simd::x86::Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(avx512, crate::simd::x86::Avx512, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma");
#[cfg(target_arch = "aarch64")]
kernels!(neon, crate::simd::neon::Neon, "neon");
