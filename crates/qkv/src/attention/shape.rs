//! What attention is called with: shapes, views with strides, and the errors of calls that do not fit together.

use std::marker::PhantomData;

use super::pack::Rows;
use crate::offsets::Offsets;
use crate::options::Normalizer;

/// Heads and widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Heads of the query.
    pub heads: usize,
    /// Heads of key and value; a divisor of `heads`. Head `h` of the query attends to head `h · kv_heads / heads`.
    pub kv_heads: usize,
    /// Length of a query and of a key.
    pub head_dim: usize,
    /// Length of a value.
    pub value_dim: usize,
}

impl Shape {
    /// As many heads for key and value, and values as long as keys.
    pub fn new(heads: usize, head_dim: usize) -> Self {
        Self { heads, kv_heads: heads, head_dim, value_dim: head_dim }
    }

    /// Heads of the query that share one head of key and value.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// `[tokens, heads, dim]` in memory: number `(t, h, c)` is `data[t · row_stride + h · head_stride + c]`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: &'a [f32],
    row_stride: usize,
    head_stride: usize,
}

impl<'a> View<'a> {
    /// Packed: `[tokens, heads, dim]` without gaps.
    pub fn new(data: &'a [f32], heads: usize, dim: usize) -> Self {
        Self { data, row_stride: heads * dim, head_stride: dim }
    }

    /// One head after the other: `[heads, tokens, dim]` without gaps.
    pub fn by_head(data: &'a [f32], tokens: usize, dim: usize) -> Self {
        Self { data, row_stride: dim, head_stride: tokens * dim }
    }

    /// With any strides, counted in numbers.
    pub fn strided(data: &'a [f32], row_stride: usize, head_stride: usize) -> Self {
        Self { data, row_stride, head_stride }
    }

    /// Query, key and value of one fused projection `[tokens, 3, heads, dim]`, read in place.
    pub fn qkv(data: &'a [f32], heads: usize, dim: usize) -> [Self; 3] {
        [0, 1, 2].map(|part| Self {
            data: data.get(part * heads * dim..).unwrap_or_default(),
            row_stride: 3 * heads * dim,
            head_stride: dim,
        })
    }

    /// From one row to the next, and from one head to the next.
    pub(crate) fn strides(&self) -> (usize, usize) {
        (self.row_stride, self.head_stride)
    }

    /// Whether a row of one head is nearer to that of the next head than to the next row of its own.
    pub(crate) fn has_heads_side_by_side(&self) -> bool {
        self.head_stride < self.row_stride
    }

    /// `count` rows of head `h` from row `t` on, of `dim` numbers each.
    pub(crate) fn rows(&self, t: usize, h: usize, count: usize, dim: usize) -> Rows {
        Rows { start: self.row(t, h), stride: self.row_stride, count, dim }
    }

    /// Row `t` of head `h`.
    pub(crate) fn row(&self, t: usize, h: usize) -> *const f32 {
        self.data.as_ptr().wrapping_add(t * self.row_stride + h * self.head_stride)
    }

    pub(crate) fn check(
        &self,
        operand: &'static str,
        tokens: usize,
        heads: usize,
        dim: usize,
    ) -> Result<(), AttentionError> {
        let strides = (self.row_stride, self.head_stride);
        fits(operand, self.data.len(), strides, [tokens, heads, dim])
    }
}

/// A [`View`] to write to.
///
/// Several views may share one buffer, as those of [`ViewMut::qkv`] do, but no two of them a number.
#[derive(Debug)]
pub struct ViewMut<'a> {
    data: *mut f32,
    len: usize,
    row_stride: usize,
    head_stride: usize,
    /// Numbers of a row, from its first, that are the view's own.
    row_width: usize,
    // A view borrows its numbers as a slice of them would.
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: a view stands for numbers that are borrowed mutably and that no other view can reach, as `&mut [f32]` does.
unsafe impl Send for ViewMut<'_> {}
// SAFETY: as above; nothing is reached through a shared reference to it but its address.
unsafe impl Sync for ViewMut<'_> {}

impl<'a> ViewMut<'a> {
    /// Packed: `[tokens, heads, dim]` without gaps.
    pub fn new(data: &'a mut [f32], heads: usize, dim: usize) -> Self {
        Self::strided(data, heads * dim, dim)
    }

    /// One head after the other: `[heads, tokens, dim]` without gaps.
    pub fn by_head(data: &'a mut [f32], tokens: usize, dim: usize) -> Self {
        Self::strided(data, dim, tokens * dim)
    }

    /// With any strides, counted in numbers, under which no two rows overlap.
    pub fn strided(data: &'a mut [f32], row_stride: usize, head_stride: usize) -> Self {
        let (len, row_width) = (data.len(), usize::MAX);
        Self { data: data.as_mut_ptr(), len, row_stride, head_stride, row_width, borrow: PhantomData }
    }

    /// The gradients of query, key and value of one fused projection `[tokens, 3, heads, dim]`, written in place.
    ///
    /// # Panics
    ///
    /// If `data` is not a whole number of rows.
    pub fn qkv(data: &'a mut [f32], heads: usize, dim: usize) -> [Self; 3] {
        let (width, part_width) = (3 * heads * dim, heads * dim);
        assert!(
            width == 0 || data.len().is_multiple_of(width),
            "{} numbers for rows of [3, {heads}, {dim}]",
            data.len()
        );
        let (start, len) = (data.as_mut_ptr(), data.len());
        [0, 1, 2].map(|part| Self {
            data: start.wrapping_add((part * part_width).min(len)),
            // up to the end of the part's last row
            len: len.saturating_sub(2 * part_width),
            row_stride: width,
            head_stride: dim,
            row_width: part_width,
            borrow: PhantomData,
        })
    }

    pub(crate) fn row_stride(&self) -> usize {
        self.row_stride
    }

    pub(crate) fn head_stride(&self) -> usize {
        self.head_stride
    }

    /// Row `t` of head `h`.
    pub(crate) fn row(&self, t: usize, h: usize) -> *mut f32 {
        self.data.wrapping_add(t * self.row_stride + h * self.head_stride)
    }

    pub(crate) fn check(
        &self,
        operand: &'static str,
        tokens: usize,
        heads: usize,
        dim: usize,
    ) -> Result<(), AttentionError> {
        let (row, head) = (self.row_stride, self.head_stride);
        fits(operand, self.len, (row, head), [tokens, heads, dim])?;
        if tokens == 0 {
            return Ok(());
        }
        let own = (heads - 1).saturating_mul(head).saturating_add(dim) <= self.row_width;
        // products that `fits` has found to be within the slice
        let rows_hold_heads = (heads <= 1 || head >= dim) && (tokens <= 1 || row >= (heads - 1) * head + dim);
        let heads_hold_rows = (tokens <= 1 || row >= dim) && (heads <= 1 || head >= (tokens - 1) * row + dim);
        if own && (rows_hold_heads || heads_hold_rows) {
            return Ok(());
        }
        Err(AttentionError::Overlap { operand, row_stride: row, head_stride: head, dim })
    }
}

/// Whether the last number of `[tokens, heads, dim]` exists.
fn fits(
    operand: &'static str,
    len: usize,
    (row_stride, head_stride): (usize, usize),
    [tokens, heads, dim]: [usize; 3],
) -> Result<(), AttentionError> {
    if tokens == 0 {
        return Ok(());
    }
    let last_row = (tokens - 1).checked_mul(row_stride);
    let last_head = (heads - 1).checked_mul(head_stride);
    let needed = last_row.zip(last_head).and_then(|(a, b)| a.checked_add(b)).and_then(|n| n.checked_add(dim));
    match needed {
        Some(needed) if needed <= len => Ok(()),
        _ => {
            let needed = needed.unwrap_or(usize::MAX);
            Err(AttentionError::TooShort { operand, tokens, heads, dim, row_stride, head_stride, needed, found: len })
        }
    }
}

/// Numbers of an operand, at most: more fit into no memory, and fewer never overflow where they are counted.
const LARGEST: usize = isize::MAX as usize / 64;

/// What packing may add to a width.
const PADDING: usize = 64;

/// What attention reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Heads and widths.
    pub shape: Shape,
    /// `[query tokens, heads, head_dim]`.
    pub query: View<'a>,
    /// `[key tokens, kv_heads, head_dim]`.
    pub key: View<'a>,
    /// `[key tokens, kv_heads, value_dim]`.
    pub value: View<'a>,
    /// Which queries belong to which set.
    pub queries: &'a Offsets,
    /// Which keys belong to which set: the same offsets in self-attention, others in cross-attention, as many sets in both.
    pub keys: &'a Offsets,
}

impl Inputs<'_> {
    /// Whether everything fits together.
    pub(crate) fn check(&self) -> Result<(), AttentionError> {
        let Shape { heads, kv_heads, head_dim, value_dim } = self.shape;
        if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(AttentionError::Heads { heads, kv_heads });
        }
        if head_dim == 0 || value_dim == 0 {
            return Err(AttentionError::Dims { head_dim, value_dim });
        }
        for tokens in [self.queries.tokens(), self.keys.tokens()] {
            // Strides of 0 let a few numbers stand for many rows, but they are packed, and positions counted, one by one.
            let numbers = [tokens, heads, head_dim.max(value_dim).saturating_add(PADDING)];
            if numbers.iter().try_fold(1_usize, |a, &b| a.checked_mul(b)).is_none_or(|n| n > LARGEST) {
                return Err(AttentionError::TooLarge { tokens, heads, head_dim, value_dim });
            }
        }
        if self.queries.sets() != self.keys.sets() {
            return Err(AttentionError::Sets { queries: self.queries.sets(), keys: self.keys.sets() });
        }
        self.query.check("query", self.queries.tokens(), heads, head_dim)?;
        self.key.check("key", self.keys.tokens(), kv_heads, head_dim)?;
        self.value.check("value", self.keys.tokens(), kv_heads, value_dim)
    }

    /// Whether `out` can take, or holds, the result.
    pub(crate) fn check_out(&self, operand: &'static str, out: &View<'_>) -> Result<(), AttentionError> {
        out.check(operand, self.queries.tokens(), self.shape.heads, self.shape.value_dim)
    }

    /// Whether `lse` has one number for each head and query.
    pub(crate) fn check_lse(&self, lse: usize) -> Result<(), AttentionError> {
        let (heads, tokens) = (self.shape.heads, self.queries.tokens());
        if lse == heads * tokens { Ok(()) } else { Err(AttentionError::Lse { heads, tokens, found: lse }) }
    }

    /// Whether the result can be written.
    pub(crate) fn check_out_mut(&self, out: &ViewMut<'_>) -> Result<(), AttentionError> {
        out.check("out", self.queries.tokens(), self.shape.heads, self.shape.value_dim)
    }

    /// Whether the gradients can be written.
    pub(crate) fn check_gradients(&self, g: &Gradients<'_>) -> Result<(), AttentionError> {
        let Shape { heads, kv_heads, head_dim, value_dim } = self.shape;
        g.query.check("d_query", self.queries.tokens(), heads, head_dim)?;
        g.key.check("d_key", self.keys.tokens(), kv_heads, head_dim)?;
        g.value.check("d_value", self.keys.tokens(), kv_heads, value_dim)?;
        let Some(VectorGradients { vectors, gradient }) = &g.vectors else { return Ok(()) };
        let (tokens, numbers) = (self.queries.tokens(), 2 * heads * value_dim);
        let packed = |strides: (usize, usize), dim: usize| strides == (heads * dim, dim);
        let to = |view: &ViewMut<'_>| (view.row_stride(), view.head_stride());
        let fits = (head_dim, kv_heads, self.keys.tokens()) == (1, heads, tokens)
            && packed(self.value.strides(), value_dim)
            && packed(to(&g.value), value_dim)
            && packed(to(&g.query), 1)
            && packed(to(&g.key), 1)
            && [vectors.len(), gradient.len()] == [numbers; 2];
        if fits { Ok(()) } else { Err(AttentionError::Vectors { numbers }) }
    }
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// The result, `[query tokens, heads, value_dim]`.
    pub out: View<'a>,
    /// Its log-sum-exps, `[heads, query tokens]`. In f64, because the backward pass has nothing else to normalise with: at 500
    /// half of the last place of an f32 would be an error of 1.5·10⁻⁵ in every weight of the row.
    ///
    /// Of [`SoftmaxPlusOne`](crate::options::Normalizer::SoftmaxPlusOne) they are `ln(1 + Σ e^logit)`; of normalisers without a sum
    /// they are 0, and mean nothing.
    pub lse: &'a [f64],
    /// What [`attention_forward_keeping`](super::attention_forward_keeping) has kept of the same call; empty if it was not asked to. Sets
    /// that go along their edges then need no `lse`.
    pub kept: &'a [f32],
}

/// Where the backward pass writes. What was there is overwritten.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// `[query tokens, heads, head_dim]`.
    pub query: ViewMut<'a>,
    /// `[key tokens, kv_heads, head_dim]`.
    pub key: ViewMut<'a>,
    /// `[key tokens, kv_heads, value_dim]`.
    pub value: ViewMut<'a>,
    /// Of the weights of [`Score::Additive`](crate::options::Score::Additive), laid out as they are, if it is wanted.
    pub score: Option<&'a mut [f32]>,
    /// Of the numbers of the [`Bias`](crate::options::Bias), laid out as they are, if it is wanted.
    pub bias: Option<&'a mut [f32]>,
    /// Of the vectors that query and key were made with, if they were made of the values.
    pub vectors: Option<VectorGradients<'a>>,
}

/// Where query and key are numbers made of the values, `q[t,h] = v[t,h] · a[h]` and `k[t,h] = v[t,h] · b[h]`, as
/// [`rank_one_forward`](crate::rank_one::rank_one_forward) makes them: their gradients, which are written as ever, then go on to the values
/// and to a and b.
///
/// That wants `head_dim = 1`, as many heads of keys as of queries, the same tokens on both sides, and values and all three gradients packed;
/// otherwise the call is refused with [`AttentionError::Vectors`].
#[derive(Debug)]
pub struct VectorGradients<'a> {
    /// `[2, heads, value_dim]`: a, then b.
    pub vectors: &'a [f32],
    /// Their gradient.
    pub gradient: &'a mut [f32],
}

impl<'a> Gradients<'a> {
    /// Those of query, key and value alone.
    pub fn new(query: ViewMut<'a>, key: ViewMut<'a>, value: ViewMut<'a>) -> Self {
        Self { query, key, value, score: None, bias: None, vectors: None }
    }
}

/// A call of attention whose parts do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttentionError {
    /// No heads, or heads that cannot be shared evenly.
    #[error("attention: expected heads that are a multiple of kv_heads, both at least 1, found {heads} and {kv_heads}")]
    Heads {
        /// Heads of the query.
        heads: usize,
        /// Heads of key and value.
        kv_heads: usize,
    },
    /// Vectors without numbers.
    #[error("attention: expected head_dim and value_dim of at least 1, found {head_dim} and {value_dim}")]
    Dims {
        /// Length of a query and of a key.
        head_dim: usize,
        /// Length of a value.
        value_dim: usize,
    },
    /// Queries and keys of different numbers of sets.
    #[error("attention: expected as many sets of keys as of queries, found {keys} and {queries}")]
    Sets {
        /// Sets of queries.
        queries: usize,
        /// Sets of keys.
        keys: usize,
    },
    /// More numbers than any memory holds.
    #[error(
        "attention: {tokens} vectors of {heads} heads of {head_dim} and {value_dim} numbers are more than can be counted"
    )]
    TooLarge {
        /// Vectors of all sets.
        tokens: usize,
        /// Heads of the query.
        heads: usize,
        /// Length of a query and of a key.
        head_dim: usize,
        /// Length of a value.
        value_dim: usize,
    },
    /// A slice that does not reach to the last number of its view.
    #[error(
        "attention: {operand} [{tokens}, {heads}, {dim}] with strides {row_stride} and {head_stride} needs {needed} numbers, \
         found {found}"
    )]
    TooShort {
        /// Which one.
        operand: &'static str,
        /// Its rows.
        tokens: usize,
        /// Its heads.
        heads: usize,
        /// Its width.
        dim: usize,
        /// From one row to the next.
        row_stride: usize,
        /// From one head to the next.
        head_stride: usize,
        /// How many numbers the slice must have.
        needed: usize,
        /// How many it has.
        found: usize,
    },
    /// A view to write to whose rows overlap.
    #[error("attention: rows of {operand} overlap: width {dim}, strides {row_stride} and {head_stride}")]
    Overlap {
        /// Which one.
        operand: &'static str,
        /// From one row to the next.
        row_stride: usize,
        /// From one head to the next.
        head_stride: usize,
        /// Its width.
        dim: usize,
    },
    /// Log-sum-exps of another size.
    #[error("attention: expected [{heads}, {tokens}] log-sum-exps, found {found} numbers")]
    Lse {
        /// Heads of the query.
        heads: usize,
        /// Queries.
        tokens: usize,
        /// How many numbers there are.
        found: usize,
    },
    /// Another number of kept numbers.
    #[error("attention: expected {needed} kept numbers, found {found}")]
    Kept {
        /// How many a call keeps.
        needed: usize,
        /// How many numbers there are.
        found: usize,
    },
    /// Queries and keys that are not made of the values.
    #[error(
        "attention: gradients of vectors want queries and keys of one number for each value, all packed, and {numbers} numbers of \
         vectors"
    )]
    Vectors {
        /// How many numbers the vectors have.
        numbers: usize,
    },
    /// Weights of another size.
    #[error("attention: expected [{heads}, {queries}, {kv_len}] weights, found {found} numbers")]
    Weights {
        /// Chosen heads.
        heads: usize,
        /// Chosen queries.
        queries: usize,
        /// Keys of the set.
        kv_len: usize,
        /// How many numbers there are.
        found: usize,
    },
    /// A set, head or query that does not exist.
    #[error("attention: {what} {found} was chosen, but there are {count}")]
    Choice {
        /// Which of them.
        what: &'static str,
        /// Its number.
        found: usize,
        /// How many there are.
        count: usize,
    },
    /// Numbers that are not a whole number of vectors.
    #[error("attention: expected a multiple of {dim} numbers, found {found}")]
    Remainder {
        /// Numbers of a vector.
        dim: usize,
        /// How many there are.
        found: usize,
    },
    /// Numbers of an option that are too few or too many.
    #[error("attention: {operand} needs {needed} numbers, found {found}")]
    Numbers {
        /// Which ones.
        operand: &'static str,
        /// How many there must be.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// A bound of the logits that bounds nothing, or is too small beside the scale.
    #[error(
        "attention: expected a softcap greater than 0, finite, and not next to nothing beside the scale, found {found}"
    )]
    Softcap {
        /// What it is.
        found: String,
    },
    /// A score of one number for each vector, of longer ones.
    #[error("attention: the score of rank one needs a head_dim of 1, found {found}")]
    RankOne {
        /// The `head_dim`.
        found: usize,
    },
    /// A share that is none, or that leaves nothing.
    #[error("attention: expected a dropout rate of at least 0 and less than 1, found {found}")]
    Rate {
        /// What it is.
        found: String,
    },
    /// More than is provided for.
    #[error("attention: expected at most {most} {what} found {found}")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A factor that would make NaN.
    #[error("attention: expected a finite {what}, found {found}")]
    NotFinite {
        /// Which one.
        what: &'static str,
        /// What it is.
        found: String,
    },
    /// Results that cannot be made one.
    #[error("attention: results of a normaliser without a sum, {normalizer:?}, cannot be merged")]
    Merge {
        /// The normaliser.
        normalizer: Normalizer,
    },
    /// Edges of another batch.
    #[error(
        "attention: expected a graph with a row for each of {queries} queries that names {keys} keys, found {rows} rows and \
         {nodes} nodes"
    )]
    Graph {
        /// Queries of the batch.
        queries: usize,
        /// Keys of the batch.
        keys: usize,
        /// Rows of the graph.
        rows: usize,
        /// Nodes that a row may name.
        nodes: usize,
    },
    /// An edge between two sets.
    #[error("attention: the edge from query {query} to key {key} leaves its set")]
    EdgeLeaves {
        /// Counted through the batch.
        query: usize,
        /// Counted through the batch.
        key: usize,
    },
    /// A bias of edges under a mask without any.
    #[error("attention: a bias for each edge needs the mask of a graph")]
    NoEdges,
}
