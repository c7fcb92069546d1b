//! What the ways back along edges have in common (`edges.rs`, `scored.rs`): a key's edges in pieces, with the sums of its gradients.

use super::along::Nodes;
use super::backward;
use super::edges::HEADS;
use super::kernels::{BACKWARD_KEYS, Transfer};
use super::pack::padded;
use super::shape::Shape;
use crate::csr::Csr;

/// Asks for what a key's gradients are sums of: rows of its edges, and of the queries that see it, each of so many heads.
///
/// # Safety
///
/// The key exists.
pub(super) unsafe fn prefetch_queries(
    call: &backward::Call<'_>,
    edges: &Csr,
    (set, key): (usize, usize),
    of_edge: &Nodes,
    of_query: &[(Nodes, usize)],
) {
    let token = call.pipeline.inputs.keys.range(set).start + key;
    let by_column = edges.by_column();
    let entries = by_column.offsets[token]..by_column.offsets[token + 1];
    let prefetch = call.pipeline.kernels.prefetch_nodes;
    // SAFETY: what is asked for need not exist.
    unsafe {
        prefetch(of_edge, 1, &by_column.edges[entries.clone()]);
        for (rows, heads) in of_query {
            prefetch(rows, *heads, &by_column.rows[entries.clone()]);
        }
    }
}

/// Some edges of a key, for some heads.
pub(super) struct KeyPiece<'a> {
    /// The queries that see it, counted from the first of the set.
    pub(super) list: &'a [u32],
    pub(super) first_query: usize,
    /// The edges that they see it by.
    pub(super) edges: &'a [u32],
    pub(super) first_head: usize,
    pub(super) heads: usize,
    /// Added to: the gradients of the key and of its value, rows of all heads.
    pub(super) dk: *mut f32,
    pub(super) dv: *mut f32,
}

/// Writes the gradients of a key and its value, to which `add` adds what comes by some of its edges.
///
/// # Safety
///
/// `scratch` has the size of the layout and is this thread's alone, and no other thread has the key.
pub(super) unsafe fn sum_key(
    call: &backward::Call<'_>,
    edges: &Csr,
    (set, key): (usize, usize),
    scratch: *mut f32,
    mut add: impl FnMut(KeyPiece<'_>),
) {
    let (pipeline, layout) = (&call.pipeline, call.layout);
    let (inputs, choice) = (pipeline.inputs, pipeline.choice);
    let Shape { heads: all_heads, kv_heads, head_dim, value_dim } = inputs.shape;
    let (head_padded, value_padded) = (padded(head_dim), padded(value_dim));
    let (token, first_query) = (inputs.keys.range(set).start + key, inputs.queries.range(set).start);
    let by_column = edges.by_column();
    let entries = by_column.offsets[token]..by_column.offsets[token + 1];
    // SAFETY: the layout has room for the sums of all heads of a key; the gradients were checked to hold its rows.
    unsafe {
        let (dk, dv) = (scratch.add(layout.dk), scratch.add(layout.dv));
        std::slice::from_raw_parts_mut(dk, kv_heads * head_padded).fill(0.0);
        std::slice::from_raw_parts_mut(dv, kv_heads * value_padded).fill(0.0);
        for first in entries.clone().step_by(BACKWARD_KEYS) {
            let some = first..(first + BACKWARD_KEYS).min(entries.end);
            let mut list = [0; BACKWARD_KEYS];
            for (to, &query) in list.iter_mut().zip(&by_column.rows[some.clone()]) {
                *to = query - first_query as u32;
            }
            let (list, edges) = (&list[..some.len()], &by_column.edges[some]);
            for first_head in (0..all_heads).step_by(HEADS) {
                let heads = HEADS.min(all_heads - first_head);
                add(KeyPiece { list, first_query, edges, first_head, heads, dk, dv });
            }
        }
        for (from, from_stride, to, dim, factor) in [
            (dk, head_padded, &call.gradients.key, head_dim, choice.scale),
            (dv, value_padded, &call.gradients.value, value_dim, choice.kept_factor()),
        ] {
            (pipeline.kernels.write_rows)(&Transfer {
                from,
                from_stride,
                to: to.row(token, 0),
                to_stride: to.head_stride(),
                rows: kv_heads,
                dim,
                factors: std::ptr::null(),
                factor,
            });
        }
    }
}
