//! One query for each sequence against the keys and values of all places before it, kept from step to step.
//!
//! Each sequence has a stretch of its own in one buffer, with room to grow. To the kernel all stretches are sets of keys of the same
//! length, and a causal mask ends each where its sequence ends: work follows the mask, so that a step costs what is there and not
//! what there is room for. A window looks at the same buffer from a later row on.

use burn::tensor::{Tensor, TensorData};
use qkv::Offsets;
use qkv::attention::{Inputs, Shape, View, ViewMut, attention_forward};
use rayon::prelude::*;

use super::{AttentionExtras, AttentionOptions, Bias, Buckets, Mask};
use crate::memory::pool;

/// Places that there is room for at first.
const FIRST_CAPACITY: usize = 32;

/// Keys and values of some sequences, all equally long.
#[derive(Clone, Debug)]
pub struct KeyValueCache {
    shape: Shape,
    rows: usize,
    len: usize,
    capacity: usize,
    /// `[rows, capacity, kv_heads, head_dim]`, of which `[.., ..len]` is there.
    keys: Vec<f32>,
    /// `[rows, capacity, kv_heads, value_dim]`.
    values: Vec<f32>,
    /// What keys and values were before rows were selected last: room for the next time.
    spare: [Vec<f32>; 2],
}

impl KeyValueCache {
    /// Empty, for `rows` sequences.
    pub fn new(rows: usize, shape: Shape) -> Self {
        let mut cache = Self {
            shape,
            rows,
            len: 0,
            capacity: 0,
            keys: Vec::new(),
            values: Vec::new(),
            spare: [const { Vec::new() }; 2],
        };
        cache.grow(FIRST_CAPACITY);
        cache
    }

    /// Places of each sequence.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no place is there yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn key_width(&self) -> usize {
        self.shape.kv_heads * self.shape.head_dim
    }

    fn value_width(&self) -> usize {
        self.shape.kv_heads * self.shape.value_dim
    }

    /// The next place of each sequence: `key` is `[rows, kv_heads, head_dim]`, `value` `[rows, kv_heads, value_dim]`.
    ///
    /// # Panics
    /// If the shapes are others.
    pub fn push(&mut self, key: Tensor<3>, value: Tensor<3>) {
        let Shape { kv_heads, head_dim, value_dim, .. } = self.shape;
        assert!(
            key.dims() == [self.rows, kv_heads, head_dim] && value.dims() == [self.rows, kv_heads, value_dim],
            "cache: {:?} and {:?} are no place of {} sequences with {:?}",
            key.dims(),
            value.dims(),
            self.rows,
            self.shape
        );
        if self.len == self.capacity {
            self.grow(2 * self.capacity);
        }
        let (key_width, value_width) = (self.key_width(), self.value_width());
        write(&mut self.keys, key, self.capacity * key_width, self.len * key_width);
        write(&mut self.values, value, self.capacity * value_width, self.len * value_width);
        self.len += 1;
    }

    fn grow(&mut self, capacity: usize) {
        let rows: Vec<usize> = (0..self.rows).collect();
        self.lay_out(&rows, capacity);
    }

    /// The sequences `rows` of those that were, in that order; a row may be taken often.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select(&mut self, rows: &[usize]) {
        if !rows.iter().copied().eq(0..self.rows) {
            self.lay_out(rows, self.capacity);
        }
    }

    fn lay_out(&mut self, rows: &[usize], capacity: usize) {
        let widths = [self.key_width(), self.value_width()];
        let [spare_keys, spare_values] = &mut self.spare;
        for ((numbers, spare), width) in
            [(&mut self.keys, spare_keys), (&mut self.values, spare_values)].into_iter().zip(widths)
        {
            let (before, after, used) = (self.capacity * width, capacity * width, self.len * width);
            // A view from a later row on reaches that much beyond the last sequence. What stands where nothing is copied to is never
            // looked at.
            spare.resize((rows.len() + 1) * after, 0.0);
            spare.par_chunks_exact_mut(after.max(1)).zip(rows).for_each(|(to, &row)| {
                to[..used].copy_from_slice(&numbers[row * before..][..used]);
            });
            std::mem::swap(numbers, spare);
        }
        (self.rows, self.capacity) = (rows.len(), capacity);
    }

    /// What the last place of each sequence sees: `query` is `[rows, heads, head_dim]`, the result `[rows, heads, value_dim]`.
    /// `options` are those of the whole sequences, whose mask is causal or a window of the past; nothing is dropped.
    ///
    /// # Panics
    /// If the cache is empty, or shapes or options do not fit.
    pub fn attend(&self, query: Tensor<3>, extras: &AttentionExtras, options: &AttentionOptions) -> Tensor<3> {
        assert!(self.len > 0, "cache: no place is there yet");
        let last = self.len - 1;
        let seen = match options.mask {
            Mask::Causal { offset: 0 } => last,
            Mask::Window { left, right: 0 } => left.min(last),
            ref other => panic!("cache: under {other:?} a place sees what comes after it, or a graph"),
        };
        let bias = match &options.bias {
            Bias::None => Bias::None,
            Bias::Alibi { slopes, offset: 0 } => Bias::Alibi { slopes: slopes.clone(), offset: seen as isize },
            Bias::Buckets(Buckets::Relative { reach, offset: 0 }) => {
                Bias::Buckets(Buckets::Relative { reach: *reach, offset: seen as isize })
            }
            other => panic!("cache: {other:?} does not follow from the distance alone"),
        };
        let mask = Mask::Causal { offset: seen as isize };
        let options = AttentionOptions { mask, bias, dropout: None, ..options.clone() };
        let device = query.device();
        let numbers = |tensor: Option<&Tensor<2>>| tensor.map(|tensor| floats(tensor.clone())).unwrap_or_default();
        let (score, bias) = (numbers(extras.score.as_ref()), numbers(extras.bias.as_ref()));
        let query = floats(query);
        let Shape { heads, kv_heads, head_dim, value_dim } = self.shape;
        let first = last - seen;
        let queries = Offsets::from_lengths(vec![1; self.rows]);
        let keys = Offsets::from_lengths(vec![self.capacity; self.rows]);
        let inputs = Inputs {
            shape: self.shape,
            query: View::new(&query, heads, head_dim),
            key: View::new(&self.keys[first * self.key_width()..], kv_heads, head_dim),
            value: View::new(&self.values[first * self.value_width()..], kv_heads, value_dim),
            queries: &queries,
            keys: &keys,
        };
        let mut out = vec![0.0; self.rows * heads * value_dim];
        let view = ViewMut::new(&mut out, heads, value_dim);
        let options = options.kernel_options(&score, &bias);
        pool()
            .with_workspace(|workspace| attention_forward(&inputs, &options, view, &mut [], workspace))
            .unwrap_or_else(|error| panic!("{error}"));
        Tensor::from_data(TensorData::new(out, [self.rows, heads, value_dim]), &device)
    }
}

/// Writes each row of `x` into its stretch of `to`.
fn write(to: &mut [f32], x: Tensor<3>, stretch: usize, at: usize) {
    let [rows, heads, dim] = x.dims();
    let x = floats(x);
    for (to, x) in to.chunks_exact_mut(stretch.max(1)).zip(x.chunks_exact((heads * dim).max(1))).take(rows) {
        to[at..at + x.len()].copy_from_slice(x);
    }
}

fn floats<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec().expect("f32, the only precision there is")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{Layout, Score, attention};
    use crate::ops::testing::{assert_close, random};
    use qkv::options::Normalizer;
    use std::sync::Arc;

    const ROWS: usize = 3;

    fn shape() -> Shape {
        Shape { heads: 4, kv_heads: 2, head_dim: 6, value_dim: 5 }
    }

    /// Query, key and value of `ROWS` sequences of `len` places.
    fn sequences(len: usize) -> [Tensor<3>; 3] {
        let Shape { heads, kv_heads, head_dim, value_dim } = shape();
        [(heads, head_dim, 1), (kv_heads, head_dim, 2), (kv_heads, value_dim, 3)]
            .map(|(heads, dim, seed)| random([ROWS * len, heads, dim], seed).inner())
    }

    /// Place `place` of each sequence.
    fn places(x: &Tensor<3>, len: usize, place: usize) -> Tensor<3> {
        let rows = (0..ROWS).map(|row| x.clone().slice(row * len + place..row * len + place + 1)).collect();
        Tensor::cat(rows, 0)
    }

    fn all_options() -> Vec<(AttentionOptions, AttentionExtras)> {
        let heads = shape().heads;
        let plain = AttentionOptions { mask: Mask::Causal { offset: 0 }, ..AttentionOptions::default() };
        let window = Mask::Window { left: 3, right: 0 };
        let relative = Bias::Buckets(Buckets::Relative { reach: 4, offset: 0 });
        let table = AttentionExtras { bias: Some(random([heads, 9], 4).inner()), score: None };
        let slopes = Bias::Alibi { slopes: Arc::from([0.5, 0.25, 0.1, 0.7]), offset: 0 };
        vec![
            (plain.clone(), AttentionExtras::default()),
            (AttentionOptions { mask: window.clone(), ..plain.clone() }, AttentionExtras::default()),
            (
                AttentionOptions { normalizer: Normalizer::Relu, mask: window.clone(), ..plain.clone() },
                AttentionExtras::default(),
            ),
            (AttentionOptions { bias: relative.clone(), ..plain.clone() }, table.clone()),
            (AttentionOptions { bias: relative, mask: window.clone(), ..plain.clone() }, table),
            (AttentionOptions { bias: slopes, mask: window, ..plain.clone() }, AttentionExtras::default()),
            (
                AttentionOptions { score: Score::ADDITIVE, ..plain },
                AttentionExtras { score: Some(random([heads, 6], 5).inner()), bias: None },
            ),
        ]
    }

    #[test]
    fn place_by_place_gives_what_all_places_at_once_give() {
        // Long enough to grow twice.
        let len = 2 * FIRST_CAPACITY + 3;
        let [query, key, value] = sequences(len);
        let layout = Layout::new(Offsets::from_lengths([len; ROWS]));
        for (options, extras) in all_options() {
            let whole = attention(query.clone(), key.clone(), value.clone(), &extras, &layout, &options);
            let mut cache = KeyValueCache::new(ROWS, shape());
            for place in 0..len {
                cache.push(places(&key, len, place), places(&value, len, place));
                let found = cache.attend(places(&query, len, place), &extras, &options);
                assert_close(found, places(&whole, len, place), 1e-5);
            }
            assert_eq!(cache.len(), len);
        }
    }

    #[test]
    fn selected_rows_go_on_as_if_they_had_been_alone() {
        let len = 12;
        let [query, key, value] = sequences(len);
        let (options, extras) = all_options().remove(0);
        let row = |x: &Tensor<3>, row: usize, place: usize| x.clone().slice(row * len + place..row * len + place + 1);
        let mut cache = KeyValueCache::new(ROWS, shape());
        (0..5).for_each(|place| cache.push(places(&key, len, place), places(&value, len, place)));
        // The last twice, the first once; then the last of these alone.
        cache.select(&[2, 0, 2]);
        cache.select(&[1, 2]);
        let of = |x: &Tensor<3>| Tensor::cat(vec![row(x, 0, 5), row(x, 2, 5)], 0);
        cache.push(of(&key), of(&value));
        let found = cache.attend(of(&query), &extras, &options);
        for (at, sequence) in [0, 2].into_iter().enumerate() {
            let mut alone = KeyValueCache::new(1, shape());
            (0..6).for_each(|place| alone.push(row(&key, sequence, place), row(&value, sequence, place)));
            let expected = alone.attend(row(&query, sequence, 5), &extras, &options);
            assert_close(found.clone().slice(at..at + 1), expected, 1e-6);
        }
    }

    #[test]
    #[should_panic(expected = "sees what comes after it")]
    fn a_mask_that_looks_ahead_is_refused() {
        let [query, key, value] = sequences(1);
        let mut cache = KeyValueCache::new(ROWS, shape());
        cache.push(key, value);
        cache.attend(query, &AttentionExtras::default(), &AttentionOptions::default());
    }

    #[test]
    #[should_panic(expected = "no place of 3 sequences")]
    fn another_number_of_rows_is_refused() {
        let [_, key, value] = sequences(2);
        KeyValueCache::new(ROWS, shape()).push(key, value);
    }
}
