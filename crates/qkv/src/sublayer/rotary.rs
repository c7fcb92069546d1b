//! Rotary positions (Su et al., 2021): queries and keys are turned by angles that grow with their place, so that their product
//! depends on the distance alone.
//!
//! ```text
//! (x_p, x_{p + half})  ←  (x_p cos - x_{p + half} sin,  x_p sin + x_{p + half} cos)
//! ```
//!
//! A turn is undone by the turn the other way: that is the backward pass.

/// The angles of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'a> {
    /// `[tokens, head_dim / 2]`.
    pub cos: &'a [f32],
    /// `[tokens, head_dim / 2]`.
    pub sin: &'a [f32],
}

impl Rotary<'_> {
    /// Turns `vectors` heads, which stand one behind the other, at the beginning of each row of `stride` numbers; the block
    /// begins with row `first_row`. Backwards if `back`.
    pub(crate) fn turn(
        &self,
        rows: &mut [f32],
        stride: usize,
        (vectors, head_dim): (usize, usize),
        first_row: usize,
        back: bool,
    ) {
        let half = head_dim / 2;
        for (row, x) in (first_row..).zip(rows.chunks_exact_mut(stride)) {
            let (cos, sin) = (&self.cos[row * half..][..half], &self.sin[row * half..][..half]);
            for x in x[..vectors * head_dim].chunks_exact_mut(head_dim) {
                let (first, second) = x.split_at_mut(half);
                for ((a, b), (&cos, &sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                    let sin = if back { -sin } else { sin };
                    (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                }
            }
        }
    }
}
