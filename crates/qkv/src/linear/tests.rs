use super::*;
use crate::activation::{bias_activation_backward, bias_activation_forward};
use crate::matmul::{Layout, matmul};
use crate::testing::{
    activated, assert_close, differences, dot, numbers, poisoned, same_bits_with_any_threads, to_f64,
};
use proptest::prelude::*;

const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::Tanh, Activation::Sigmoid];

/// `x`, `weight`, `bias`, and a gradient of `out`. The sums that are activated are of the size of one.
fn data(tokens: usize, dim_in: usize, dim_out: usize) -> [Vec<f32>; 4] {
    let lengths = [tokens * dim_in, dim_in * dim_out, dim_out, tokens * dim_out];
    let scale = [1.0, 0.5 / (dim_in as f32).sqrt(), 0.5, 1.0];
    std::array::from_fn(|i| numbers(lengths[i], i as u64 + 1).iter().map(|x| x * scale[i]).collect())
}

/// `out`, `d_x`, `d_weight`, `d_bias`
fn ours([x, weight, bias, d_out]: &[Vec<f32>; 4], act: Activation, pool: &Pool) -> [Vec<f32>; 4] {
    let dim_in = weight.len() / bias.len();
    let panels = Panels::side_by_side(&[weight], dim_in, pool);
    let [mut out, mut d_x, mut d_weight, mut d_bias] = [d_out, x, weight, bias].map(|x| vec![f32::NAN; x.len()]);
    linear_forward(x, &panels, bias, act, false, &mut out, pool);
    let not_kept = std::mem::replace(&mut out, vec![f32::NAN; d_out.len()]);
    let saved = linear_forward(x, &panels, bias, act, true, &mut out, pool);
    assert!(not_kept.iter().map(|x| x.to_bits()).eq(out.iter().map(|x| x.to_bits())), "keep changes the bits");
    let gradients = LinearGradients { x: Some(&mut d_x), weight: &mut d_weight, bias: &mut d_bias };
    linear_backward(d_out, x, weight, act, saved, gradients, pool);

    let saved = linear_forward(x, &panels, bias, act, true, &mut out, pool);
    let [mut weight_alone, mut bias_alone] = [weight, bias].map(|x| vec![f32::NAN; x.len()]);
    let gradients = LinearGradients { x: None, weight: &mut weight_alone, bias: &mut bias_alone };
    linear_backward(d_out, x, weight, act, saved, gradients, pool);
    assert_eq!((&weight_alone, &bias_alone), (&d_weight, &d_bias), "without d_x");
    [out, d_x, d_weight, d_bias]
}

fn reference(x: &[f64], weight: &[f64], bias: &[f64], act: Activation) -> Vec<f64> {
    let row = |x: &[f64]| -> Vec<f64> {
        let at = |n: usize| bias[n] + x.iter().zip(weight.chunks_exact(bias.len())).map(|(x, w)| x * w[n]).sum::<f64>();
        (0..bias.len()).map(|n| activated(at(n), act)).collect()
    };
    x.chunks_exact(weight.len() / bias.len()).flat_map(row).collect()
}

#[test]
fn forward_and_backward_equal_the_reference() {
    for (tokens, dim_in, dim_out) in [(0, 3, 2), (1, 1, 1), (2, 1, 7), (5, 7, 1), (3, 2, 65), (59, 3, 2)] {
        for act in ACTIVATIONS {
            let data = data(tokens, dim_in, dim_out);
            let [out, d_x, d_weight, d_bias] = ours(&data, act, &poisoned());
            let [x, weight, bias, d_out] = &data;
            let [x_64, weight_64, bias_64] = [x, weight, bias].map(|x| to_f64(x));
            assert_close(&out, &reference(&x_64, &weight_64, &bias_64, act), 2e-6);
            assert_close(&d_x, &differences(x, |x| dot(&reference(x, &weight_64, &bias_64, act), d_out)), 1e-5);
            let expected = differences(weight, |weight| dot(&reference(&x_64, weight, &bias_64, act), d_out));
            assert_close(&d_weight, &expected, 1e-5);
            assert_close(
                &d_bias,
                &differences(bias, |bias| dot(&reference(&x_64, &weight_64, bias, act), d_out)),
                1e-5,
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_product_and_an_activation_are_the_same_in_two_passes(
        tokens in prop::sample::select(&[0_usize, 1, 2, 13, 57, 130][..]),
        dim_in in prop::sample::select(&[1_usize, 3, 64, 65, 200][..]), dim_out in prop::sample::select(&[1_usize, 3, 33, 64, 130][..]),
        act in prop::sample::select(&ACTIVATIONS[..]),
    ) {
        let data = data(tokens, dim_in, dim_out);
        let [out, d_x, d_weight, d_bias] = ours(&data, act, &poisoned());
        let [x, weight, bias, d_out] = &data;
        let [mut product, mut expected, mut d_z] = [(); 3].map(|()| vec![0.0; tokens * dim_out]);
        matmul(x, Layout::Normal, weight, Layout::Normal, &mut product, tokens, dim_in, dim_out);
        bias_activation_forward(&product, bias, act, &mut expected);
        assert_close(&out, &to_f64(&expected), 1e-5);
        // where rounding decides on which side of the kink a sum is, gradients may differ
        let at_the_kink = |(i, z): (usize, &f32)| (z + bias[i % dim_out]).abs() < 1e-5;
        prop_assume!(act != Activation::Relu || !product.iter().enumerate().any(at_the_kink));
        let [mut expected_x, mut expected_weight, mut expected_bias] = [x, weight, bias].map(|x| vec![0.0; x.len()]);
        bias_activation_backward(d_out, &product, bias, act, &mut d_z, &mut expected_bias);
        matmul(&d_z, Layout::Normal, weight, Layout::Transposed, &mut expected_x, tokens, dim_out, dim_in);
        matmul(x, Layout::Transposed, &d_z, Layout::Normal, &mut expected_weight, dim_in, tokens, dim_out);
        assert_close(&d_x, &to_f64(&expected_x), 1e-5);
        assert_close(&d_weight, &to_f64(&expected_weight), 1e-5);
        assert_close(&d_bias, &to_f64(&expected_bias), 1e-5);
    }
}

#[test]
fn threads_and_what_a_pool_held_do_not_change_the_bits() {
    let data = data(401, 65, 70);
    for act in ACTIVATIONS {
        same_bits_with_any_threads(|| ours(&data, act, &Pool::new()).concat());
        let bits = |pool| ours(&data, act, pool).concat().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&poisoned()), bits(&Pool::new()));
    }
}

#[test]
fn many_rows_have_the_gradients_of_few_at_a_time() {
    let (tokens, dim_in, dim_out) = (4001, 100, 33);
    let blocks = RowBlocks::of(tokens);
    assert!(blocks_together(blocks, dim_in, dim_out) > 1, "this is to be done by groups of blocks");
    for act in [Activation::Identity, Activation::Gelu] {
        let data = data(tokens, dim_in, dim_out);
        let [out, d_x, d_weight, d_bias] = ours(&data, act, &poisoned());
        let mut parts = [Vec::new(), Vec::new(), vec![0.0_f64; d_weight.len()], vec![0.0; d_bias.len()]];
        for first in (0..tokens).step_by(500) {
            let rows = first..(first + 500).min(tokens);
            let [x, weight, bias, d_out] = &data;
            let x = x[rows.start * dim_in..rows.end * dim_in].to_vec();
            let d_out = d_out[rows.start * dim_out..rows.end * dim_out].to_vec();
            let [out, d_x, d_weight, d_bias] = ours(&[x, weight.clone(), bias.clone(), d_out], act, &Pool::new());
            parts[0].extend(to_f64(&out));
            parts[1].extend(to_f64(&d_x));
            for (sum, part) in parts[2..].iter_mut().zip([d_weight, d_bias]) {
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
            }
        }
        for (found, expected) in [&out, &d_x, &d_weight, &d_bias].into_iter().zip(&parts) {
            assert_close(found, expected, 5e-6);
        }
        same_bits_with_any_threads(|| ours(&data, act, &Pool::new()).concat());
    }
}

fn forward_of(x: usize, bias: usize, out: usize) {
    let pool = Pool::new();
    let panels = Panels::side_by_side(&[&[0.0; 6]], 2, &pool);
    linear_forward(&vec![0.0; x], &panels, &vec![0.0; bias], Activation::Relu, false, &mut vec![0.0; out], &pool);
}

#[test]
#[should_panic(expected = "linear: x has 5 numbers, expected [2, 2]")]
fn a_wrong_input_panics() {
    forward_of(5, 3, 6);
}

#[test]
#[should_panic(expected = "linear: bias has 2 numbers, expected 3")]
fn a_wrong_bias_panics() {
    forward_of(4, 2, 6);
}

#[test]
#[should_panic(expected = "linear: out has 7 numbers, expected rows of 3")]
fn a_wrong_output_panics() {
    forward_of(4, 3, 7);
}

fn backward_of(d_out: usize, x: usize, act: Activation) {
    let saved = LinearSaved { pre: None };
    let gradients = LinearGradients { x: None, weight: &mut [0.0; 6], bias: &mut [0.0; 3] };
    linear_backward(&vec![0.0; d_out], &vec![0.0; x], &[0.0; 6], act, saved, gradients, &Pool::new());
}

#[test]
#[should_panic(expected = "linear: d_out has 7 numbers, expected 6")]
fn a_wrong_gradient_panics() {
    backward_of(7, 4, Activation::Identity);
}

#[test]
#[should_panic(expected = "linear: what was saved is not of 2 rows of 3 numbers")]
fn what_another_activation_saved_panics() {
    backward_of(6, 4, Activation::Gelu);
}
