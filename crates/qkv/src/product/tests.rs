use super::*;
use crate::activation::{Activation, bias_activation_backward, bias_activation_forward};
use crate::dropout::dropout_in_place;
use crate::pool::Pool;
use crate::random::Key;
use crate::testing::{assert_close, numbers, poisoned, same_bits_with_any_threads, to_f64};
use proptest::prelude::*;

const ROWS: [usize; 7] = [1, 2, 13, 14, 15, 57, 113];
const DIMS: [usize; 8] = [1, 3, 31, 33, 64, 65, 192, 200];
const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::Tanh, Activation::Sigmoid];

fn dims() -> impl Strategy<Value = usize> {
    prop::sample::select(&DIMS[..])
}

fn row_counts() -> impl Strategy<Value = usize> {
    prop::sample::select(&ROWS[..])
}

/// One part, or three.
fn widths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![prop::collection::vec(dims(), 1), prop::collection::vec(dims(), 3)]
}

/// `a · b` with `b` of `n` columns.
fn reference(a: &[f32], b: &[f32], n: usize) -> Vec<f64> {
    let row = |a: &[f32]| -> Vec<f64> {
        let at = |n_| a.iter().zip(b.chunks_exact(n)).map(|(&a, b)| f64::from(a) * f64::from(b[n_])).sum();
        (0..n).map(at).collect()
    };
    a.chunks_exact(b.len() / n).flat_map(row).collect()
}

/// `run` of the first row and the product of each block of `x · panels`.
fn each_block(x: &[f32], panels: &Panels, pool: &Pool, mut run: impl FnMut(usize, &Product<'_>)) {
    let (inner, _) = panels.dims();
    let blocks = RowBlocks::of(x.len() / inner);
    for (block, x) in x.chunks(blocks.height * inner).enumerate() {
        let mut left = pool.take(blocks.slabs_of_one(inner));
        pack(Rows::dense(x, inner), blocks.height, &mut left);
        let rows = x.len() / inner;
        run(blocks.first(block), &Product { left: &left, height: blocks.height, rows, panels });
    }
}

fn multiply(x: &[f32], panels: &Panels, bias: Option<&[f32]>, pool: &Pool) -> Vec<f32> {
    let (inner, columns) = panels.dims();
    let mut out = vec![f32::NAN; x.len() / inner * columns];
    each_block(x, panels, pool, |first_row, block| {
        let out = &mut out[first_row * columns..];
        let sink = Sink { out, place: Place::Rows { stride: columns } };
        product(block, &mut Finish::Plain { bias, sink });
    });
    out
}

/// All rows in slabs, with room for `parts` operands in each block.
fn in_slabs(x: &[f32], dim: usize, parts: usize, part: usize, slabs: &mut [f32]) {
    let blocks = RowBlocks::of(x.len() / dim);
    let one = blocks.slabs_of_one(dim);
    for (x, slabs) in x.chunks(blocks.height * dim).zip(slabs.chunks_mut(parts * one)) {
        pack(Rows::dense(x, dim), blocks.height, &mut slabs[part * one..][..one]);
    }
}

/// One of three operands in each block.
fn of_three(slabs: &[f32], blocks: RowBlocks, dim: usize, part: usize) -> Columns<'_> {
    let one = blocks.slabs_of_one(dim);
    Columns { slabs: &slabs[part * one..], next: 3 * one, dim }
}

/// A block as a finish left it.
fn rows_of(place: Place, block: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * columns];
    out.chunks_exact_mut(columns).enumerate().for_each(|(row, out)| place.copy_row(block, row, out));
    out
}

fn dropped(x: &[f32], dropout: Option<(f32, Key)>) -> Vec<f32> {
    let mut x = x.to_vec();
    if let Some((rate, key)) = dropout {
        dropout_in_place(&mut x, rate, key);
    }
    x
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_with_matrices_side_by_side_equal_the_reference(rows in row_counts(), inner in dims(), widths in widths()) {
        let pool = poisoned();
        let parts: Vec<_> = (1..).zip(&widths).map(|(seed, width)| numbers(inner * width, seed)).collect();
        let slices: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        let panels = Panels::side_by_side(&slices, inner, &pool);
        prop_assert_eq!(panels.dims(), (inner, widths.iter().sum()));
        let (x, bias) = (numbers(rows * inner, 9), numbers(widths.iter().sum(), 10));
        let out = multiply(&x, &panels, None, &pool);
        let mut first = 0;
        for (part, &width) in parts.iter().zip(&widths) {
            let columns = out.chunks_exact(bias.len()).flat_map(|row| row[first..first + width].to_vec());
            assert_close(&columns.collect::<Vec<_>>(), &reference(&x, part, width), 1e-5);
            first += width;
        }
        let mut expected = vec![0.0; out.len()];
        bias_activation_forward(&out, &bias, Activation::Identity, &mut expected);
        prop_assert_eq!(bits(&multiply(&x, &panels, Some(&bias), &pool)), bits(&expected));
    }

    #[test]
    fn products_with_transposed_matrices_equal_the_reference(rows in row_counts(), columns in dims(), widths in widths()) {
        let pool = poisoned();
        let parts: Vec<_> = (1..).zip(&widths).map(|(seed, width)| numbers(columns * width, seed)).collect();
        let xs: Vec<_> = (5..).zip(&widths).map(|(seed, width)| numbers(rows * width, seed)).collect();
        let slices: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        let panels = Panels::transposed(&slices, columns, &pool);
        let blocks = RowBlocks::of(rows);
        let mut out = vec![f32::NAN; rows * columns];
        for (block, out) in out.chunks_mut(blocks.height * columns).enumerate() {
            let rows = blocks.rows_of(block);
            let mut left = pool.take(widths.iter().map(|&width| blocks.slabs_of_one(width)).sum());
            let mut rest = &mut left[..];
            for (x, &width) in xs.iter().zip(&widths) {
                let (slabs, behind) = rest.split_at_mut(blocks.slabs_of_one(width));
                pack(Rows::dense(&x[blocks.first(block) * width..][..rows * width], width), blocks.height, slabs);
                rest = behind;
            }
            let sink = Sink { out, place: Place::Rows { stride: columns } };
            let block = Product { left: &left, height: blocks.height, rows, panels: &panels };
            product(&block, &mut Finish::Plain { bias: None, sink });
        }
        let mut expected = vec![0.0; out.len()];
        for ((x, part), &width) in xs.iter().zip(&parts).zip(&widths) {
            let transposed: Vec<_> = (0..width).flat_map(|i| part[i..].iter().step_by(width).copied()).collect();
            expected.iter_mut().zip(reference(x, &transposed, columns)).for_each(|(sum, x)| *sum += x);
        }
        assert_close(&out, &expected, 1e-5);
    }

    #[test]
    fn gradients_equal_the_reference_wherever_in_a_block_their_columns_begin(
        rows in row_counts(), left_dim in dims(), right_dim in dims(), part in 0_usize..3,
    ) {
        let pool = poisoned();
        let blocks = RowBlocks::of(rows);
        let (left, right) = (numbers(rows * left_dim, 1), numbers(rows * right_dim, 2));
        let transposed: Vec<_> = (0..left_dim).flat_map(|i| left[i..].iter().step_by(left_dim).copied()).collect();
        let expected = reference(&transposed, &right, right_dim);
        let operand = |x: &[f32], dim, parts, part| {
            let mut slabs = pool.take(parts * blocks.slabs(dim));
            in_slabs(x, dim, parts, part, &mut slabs);
            slabs
        };
        let alone = [operand(&left, left_dim, 1, 0), operand(&right, right_dim, 1, 0)];
        let mut out = vec![f32::NAN; left_dim * right_dim];
        gradient(blocks, Columns::all(blocks, &alone[0], left_dim), Columns::all(blocks, &alone[1], right_dim), &mut out);
        assert_close(&out, &expected, 1e-5);

        let among_three = [operand(&left, left_dim, 3, part), operand(&right, right_dim, 3, 2 - part)];
        let left = of_three(&among_three[0], blocks, left_dim, part);
        let right = of_three(&among_three[1], blocks, right_dim, 2 - part);
        let mut again = vec![f32::NAN; out.len()];
        gradient(blocks, left, right, &mut again);
        prop_assert_eq!(bits(&again), bits(&out));
    }

    #[test]
    fn finishes_equal_the_unfused_kernels(
        rows in row_counts(), columns in dims(), act in prop::sample::select(&ACTIVATIONS[..]), in_slabs: bool, drops: bool,
    ) {
        const INNER: usize = 5;
        let pool = poisoned();
        let dropout = drops.then(|| (0.3, Key::new(8)));
        let drop = Dropping::new(dropout);
        let (x, weight, bias) = (numbers(rows * INNER, 1), numbers(INNER * columns, 2), numbers(columns, 3));
        let (pre, residual) = (numbers(rows * columns, 4), numbers(rows * columns, 5));
        let panels = Panels::side_by_side(&[&weight], INNER, &pool);
        let plain = multiply(&x, &panels, None, &pool);
        let [mut z, mut a, mut d_pre, mut d_bias] = [rows, rows, rows, 1].map(|rows| vec![0.0; rows * columns]);
        bias_activation_forward(&plain, &bias, Activation::Identity, &mut z);
        bias_activation_forward(&plain, &bias, act, &mut a);
        let a = dropped(&a, dropout);
        bias_activation_backward(&dropped(&plain, dropout), &pre, &vec![0.0; columns], act, &mut d_pre, &mut d_bias);
        let mut activated = vec![0.0; pre.len()];
        bias_activation_forward(&pre, &vec![0.0; columns], act, &mut activated);
        let activated = dropped(&activated, dropout);
        let sums: Vec<f32> = residual.iter().zip(dropped(&z, dropout)).map(|(a, b)| a + b).collect();
        let mut found_bias = vec![0.0; columns];
        let close = |found: &[f32], expected: &[f32]| assert_close(found, &to_f64(expected), 2e-6);

        each_block(&x, &panels, &pool, |first_row, block| {
            let (height, rows) = (block.height, block.rows);
            let (place, len) = match in_slabs {
                true => (Place::Slabs { height }, height * padded(columns)),
                false => (Place::Rows { stride: columns }, rows * columns),
            };
            let of_block = |x: &[f32]| x[first_row * columns..][..rows * columns].to_vec();
            let (mut kept, mut out) = (pool.take(len), pool.take(len));
            for keeps in [true, false] {
                let (sink, pre) = (Sink { out: &mut out, place }, keeps.then_some(&mut kept[..]));
                product(block, &mut Finish::Activate { bias: &bias, act, pre, drop, first_row, sink });
                assert_eq!(bits(&rows_of(place, &out, rows, columns)), bits(&of_block(&a)));
            }
            assert_eq!(bits(&rows_of(place, &kept, rows, columns)), bits(&of_block(&z)));

            let mut out_rows = vec![f32::NAN; rows * columns];
            let (residual, out_of) = (&of_block(&residual)[..], &mut out_rows[..]);
            product(block, &mut Finish::Residual { bias: &bias, drop, first_row, residual, out: out_of });
            assert_eq!(bits(&out_rows), bits(&of_block(&sums)));

            let (mut pre_of, mut out) = (pool.take(len), pool.take(len));
            match in_slabs {
                true => pack(Rows::dense(&of_block(&pre), columns), height, &mut pre_of),
                false => pre_of.copy_from_slice(&of_block(&pre)),
            }
            let (pre, d_bias, sink) = (&mut pre_of[..], &mut found_bias[..], Sink { out: &mut out, place });
            product(block, &mut Finish::Deactivate { act, pre, drop, first_row, d_bias, sink, columns });
            close(&rows_of(place, &out, rows, columns), &of_block(&d_pre));
            close(&rows_of(place, &pre_of, rows, columns), &of_block(&activated));
        });
        assert_close(&found_bias, &to_f64(&d_bias), 1e-5);
    }

    #[test]
    fn rows_are_packed_dropped_summed_and_deactivated_as_by_the_unfused_kernels(
        rows in row_counts(), dim in dims(), act in prop::sample::select(&ACTIVATIONS[..]), drops: bool,
    ) {
        let pool = poisoned();
        let dropout = drops.then(|| (0.3, Key::new(8)));
        let (x, pre) = (numbers(rows * dim, 1), numbers(rows * dim, 2));
        let expected = dropped(&x, dropout);
        let [mut d_pre, mut d_bias] = [rows, 1].map(|rows| vec![0.0; rows * dim]);
        bias_activation_backward(&expected, &pre, &vec![0.0; dim], act, &mut d_pre, &mut d_bias);
        let blocks = RowBlocks::of(rows);
        let (mut found, mut found_sums) = (Vec::new(), vec![0.0; dim]);
        for (block, (x, pre)) in x.chunks(blocks.height * dim).zip(pre.chunks(blocks.height * dim)).enumerate() {
            let (rows, place) = (blocks.rows_of(block), Place::Slabs { height: blocks.height });
            let [mut slabs, mut pre_slabs] = [(); 2].map(|()| pool.take(blocks.slabs_of_one(dim)));
            let mut sums = pool.take(dim);
            let first_row = blocks.first(block);
            pack_dropped(Rows::dense(x, dim), first_row, Dropping::new(dropout), blocks.height, &mut slabs, &mut sums);
            let packed = rows_of(place, &slabs, rows, dim);
            prop_assert_eq!(bits(&packed), bits(&expected[first_row * dim..][..rows * dim]));
            assert_close(&sums, &reference(&vec![1.0; rows], &packed, dim), 1e-6);
            pack(Rows::dense(pre, dim), blocks.height, &mut pre_slabs);
            deactivate_rows(act, rows, dim, blocks.height, &pre_slabs, &mut slabs, &mut sums);
            found.extend(rows_of(place, &slabs, rows, dim));
            found_sums.iter_mut().zip(&*sums).for_each(|(sum, x)| *sum += x);
        }
        assert_close(&found, &to_f64(&d_pre), 2e-6);
        assert_close(&found_sums, &to_f64(&d_bias), 1e-5);
    }
}

#[test]
fn a_row_has_the_bits_that_it_has_alone() {
    for (inner, columns) in [(1, 1), (65, 33), (200, 64)] {
        let (pool, x) = (poisoned(), numbers(1000 * inner, 1));
        let panels = Panels::side_by_side(&[&numbers(inner * columns, 2)], inner, &pool);
        let all = multiply(&x, &panels, None, &pool);
        for rows in ROWS {
            let few = multiply(&x[..rows * inner], &panels, None, &pool);
            assert_eq!(bits(&few), bits(&all[..rows * columns]), "{rows} rows");
        }
    }
}

#[test]
fn blocks_are_all_rows_once() {
    for rows in 0..1000 {
        let blocks = RowBlocks::of(rows);
        let heights: Vec<_> = (0..blocks.count()).map(|block| blocks.rows_of(block)).collect();
        assert_eq!(heights.iter().sum::<usize>(), rows);
        assert!(heights.iter().all(|height| (1..=56).contains(height)), "{rows} rows: {heights:?}");
    }
}

#[test]
fn the_bits_that_drop_follow_the_position_beyond_32_bits() {
    let (key, ones) = (Key::new(3), [1.0; 40]);
    for first in [0, (1 << 32) - 41, (1 << 32) - 40, (1 << 32) - 7, 1 << 32, (1 << 40) + 5] {
        let mut x = ones;
        Dropping::new(Some((0.5, key))).expect("something is dropped").row(&mut x, first);
        let expected: Vec<_> =
            (0..40).map(|i| if key.bits((first + i) as u64) >= 1 << 31 { 2.0 } else { 0.0 }).collect();
        assert_eq!(x[..], expected, "from {first} on");
    }
    assert!(Dropping::new(None).is_none() && Dropping::new(Some((0.0, key))).is_none());
}

#[test]
fn threads_do_not_change_the_bits() {
    let (rows, left, right) = (301, 75, 67);
    let (x, y, wide) = (numbers(rows * left, 1), numbers(rows * right, 2), numbers(1031 * 1027, 3));
    same_bits_with_any_threads(|| {
        let (pool, blocks) = (Pool::new(), RowBlocks::of(rows));
        let [mut x_slabs, mut y_slabs] = [left, right].map(|dim| pool.take(blocks.slabs(dim)));
        in_slabs(&x, left, 1, 0, &mut x_slabs);
        in_slabs(&y, right, 1, 0, &mut y_slabs);
        let mut out = vec![f32::NAN; left * right];
        gradient(blocks, Columns::all(blocks, &x_slabs, left), Columns::all(blocks, &y_slabs, right), &mut out);
        let panels =
            [Panels::side_by_side(&[&wide, &wide], 1031, &pool), Panels::transposed(&[&wide, &wide], 1031, &pool)];
        panels.iter().for_each(|panels| out.extend(&*panels.numbers));
        out
    });
}

#[test]
#[should_panic(expected = "weights: 5 numbers are not 2 rows")]
fn weights_that_are_no_whole_columns_panic() {
    Panels::side_by_side(&[&[0.0; 5]], 2, &Pool::new());
}

#[test]
#[should_panic(expected = "gradient: out is not [2, 3]")]
fn a_gradient_of_another_shape_panics() {
    let blocks = RowBlocks::of(1);
    let slabs = [0.0; 64];
    gradient(blocks, Columns::all(blocks, &slabs, 2), Columns::all(blocks, &slabs, 3), &mut [0.0; 5]);
}

#[test]
#[should_panic(expected = "rate 1 is not in [0, 1)")]
fn a_rate_of_one_panics() {
    Dropping::new(Some((1.0, Key::new(1))));
}

fn gradient(blocks: RowBlocks, left: Columns<'_>, right: Columns<'_>, out: &mut [f32]) {
    weight_gradients(blocks, [Gradient { left, right, out }]);
}
