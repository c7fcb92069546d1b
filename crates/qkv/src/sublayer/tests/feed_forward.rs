use super::*;

#[derive(Clone, Copy, Debug)]
struct Case {
    tokens: usize,
    d_model: usize,
    d_ff: usize,
    place: NormPlace,
    activation: Activation,
    hidden_dropout: Dropout,
    dropout: Dropout,
}

/// x, gamma, beta, up and its bias, down and its bias.
type Parameters = [Vec<f32>; 7];

const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::Tanh, Activation::Sigmoid];

/// Of a shape, every place of the norm and activation, with and without dropout.
fn cases((tokens, d_model, d_ff): (usize, usize, usize)) -> impl Iterator<Item = Case> {
    let dropouts = [[None; 2], [Some((0.3, Key::new(5))), Some((0.2, Key::new(6)))]];
    let kinds = PLACES.into_iter().flat_map(|place| ACTIVATIONS.map(|activation| (place, activation)));
    kinds.flat_map(move |(place, activation)| {
        dropouts.map(|[hidden_dropout, dropout]| Case {
            tokens,
            d_model,
            d_ff,
            place,
            activation,
            hidden_dropout,
            dropout,
        })
    })
}

impl Case {
    fn parameters(&self) -> Parameters {
        let Case { tokens, d_model, d_ff, .. } = *self;
        let lengths = [tokens * d_model, d_model, d_model, d_model * d_ff, d_ff, d_ff * d_model, d_model];
        let scale = [1.0, 1.0, 1.0, 1.0 / (d_model as f32).sqrt(), 1.0, 1.0 / (d_ff as f32).sqrt(), 1.0];
        std::array::from_fn(|i| numbers(lengths[i], i as u64 + 1).iter().map(|x| x * scale[i]).collect())
    }

    fn d_out(&self) -> Vec<f32> {
        numbers(self.tokens * self.d_model, 20)
    }

    fn layer<'a>(&self, [_, gamma, beta, up, up_bias, down, down_bias]: &'a Parameters) -> FeedForward<'a> {
        FeedForward {
            norm: Norm { place: self.place, gamma, beta, epsilon: EPSILON },
            up_weight: up,
            up_bias,
            down_weight: down,
            down_bias,
            activation: self.activation,
            hidden_dropout: self.hidden_dropout,
            dropout: self.dropout,
        }
    }

    /// The result and the gradients of all parameters.
    fn ours(&self, parameters: &Parameters, d_out: &[f32], pool: &Pool) -> (Vec<f32>, Parameters) {
        let layer = self.layer(parameters);
        let (x, panels) = (&parameters[0], layer.panels(pool));
        let [mut out, mut not_kept] = [(); 2].map(|()| vec![f32::NAN; x.len()]);
        assert!(layer.forward(x, &panels, false, &mut not_kept, pool).is_none());
        let saved = layer.forward(x, &panels, true, &mut out, pool).expect("kept");
        assert!(out.iter().map(|x| x.to_bits()).eq(not_kept.iter().map(|x| x.to_bits())), "keep changes the bits");
        let mut gradients = parameters.each_ref().map(|x| vec![f32::NAN; x.len()]);
        let [x_of, gamma, beta, up_weight, up_bias, down_weight, down_bias] = &mut gradients;
        let to = FeedForwardGradients { x: x_of, gamma, beta, up_weight, up_bias, down_weight, down_bias };
        layer.backward(d_out, x, saved, to, pool);
        (out, gradients)
    }

    fn reference(&self, [x, gamma, beta, up, up_bias, down, down_bias]: &[Vec<f64>; 7]) -> Vec<f64> {
        let h = if self.place == NormPlace::Before { &normed(x, gamma, beta) } else { x };
        let a: Vec<f64> = affine(h, up, up_bias).into_iter().map(|z| activated(z, self.activation)).collect();
        let s = affine(&dropped(&a, self.hidden_dropout), down, down_bias);
        let r = plus(x, &dropped(&s, self.dropout));
        if self.place == NormPlace::Before { r } else { normed(&r, gamma, beta) }
    }

    /// The same as `ours` by a kernel for each step.
    fn composed(&self, parameters: &Parameters, d_out: &[f32]) -> (Vec<f32>, Parameters) {
        let Case { tokens, d_model, d_ff, activation, .. } = *self;
        let [x, gamma, beta, up, up_bias, down, down_bias] = parameters;
        let before = self.place == NormPlace::Before;
        let norm = norm_forth(x, gamma, beta);
        let h = if before { &norm[0] } else { x };
        let product = forth(h, up, d_model);
        let a = without(&biased(&product, up_bias, activation), self.hidden_dropout);
        let second = forth(&a, down, d_ff);
        let r = sum(x, &without(&biased(&second, down_bias, Activation::Identity), self.dropout));
        let behind = norm_forth(&r, gamma, beta);

        let [mut d_r, mut d_gamma, mut d_beta] = norm_back(d_out, &r, gamma, &behind);
        if before {
            d_r = d_out.to_vec();
        }
        let [d_s, d_down_bias] = unbiased(&without(&d_r, self.dropout), &second, down_bias, Activation::Identity);
        let d_a = without(&back(&d_s, down, d_model), self.hidden_dropout);
        let [d_z, d_up_bias] = unbiased(&d_a, &product, up_bias, activation);
        let mut d_x = back(&d_z, up, d_ff);
        let d_up = of_weight(h, &d_z, tokens, up.len());
        if before {
            [d_x, d_gamma, d_beta] = norm_back(&d_x, x, gamma, &norm);
        }
        let d_down = of_weight(&a, &d_s, tokens, down.len());
        let out = if before { r } else { behind[0].clone() };
        (out, [sum(&d_x, &d_r), d_gamma, d_beta, d_up, d_up_bias, d_down, d_down_bias])
    }
}

#[test]
fn forward_and_backward_equal_the_reference() {
    for shape in [(1, 1, 1), (2, 3, 1), (1, 1, 20), (2, 20, 3), (5, 3, 33), (57, 2, 1)] {
        for case in cases(shape) {
            println!("{case:?}");
            let (parameters, d_out) = (case.parameters(), case.d_out());
            let (out, gradients) = case.ours(&parameters, &d_out, &poisoned());
            assert_close(&out, &case.reference(&parameters.each_ref().map(|x| to_f64(x))), 1e-5);
            assert_gradients(&parameters, &d_out, &gradients, |all| case.reference(all));
        }
    }
}

#[test]
fn one_operation_is_the_same_as_all_of_its_steps() {
    let shapes = [(0, 20, 3), (1, 65, 100), (2, 100, 20), (33, 64, 100), (57, 20, 65), (130, 65, 64), (130, 1, 3)];
    for case in shapes.into_iter().flat_map(cases) {
        println!("{case:?}");
        let (parameters, d_out) = (case.parameters(), case.d_out());
        let (out, gradients) = case.ours(&parameters, &d_out, &poisoned());
        let (expected, expected_gradients) = case.composed(&parameters, &d_out);
        assert_close(&out, &to_f64(&expected), 1e-5);
        for (i, (found, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
            println!("parameter {i}");
            assert_close(found, &to_f64(expected), 2e-5);
        }
    }
}

#[test]
fn threads_and_what_a_pool_held_do_not_change_the_bits() {
    for case in cases((130, 65, 100)) {
        let (parameters, d_out) = (case.parameters(), case.d_out());
        let all = |pool: &Pool| {
            let (out, gradients) = case.ours(&parameters, &d_out, pool);
            [vec![out], gradients.to_vec()].concat()
        };
        same_bits_with_any_threads(|| all(&Pool::new()).concat());
        let pool = poisoned();
        let nothing = parameters.each_ref().map(|x| vec![f32::NAN; x.len()]);
        case.ours(&nothing, &vec![f32::NAN; d_out.len()], &pool);
        assert_eq!(bits(&all(&pool)), bits(&all(&Pool::new())), "{case:?}");
    }
}

#[test]
fn a_row_has_the_bits_that_it_has_alone() {
    for case in cases((33, 65, 100)).filter(|case| case.dropout.is_none()) {
        let (parameters, d_out) = (case.parameters(), case.d_out());
        let (out, [d_x, ..]) = case.ours(&parameters, &d_out, &poisoned());
        for (row, d_out) in d_out.chunks_exact(65).enumerate() {
            let mut alone = parameters.clone();
            let of_row = |x: &[f32]| x[row * 65..][..65].to_vec();
            alone[0] = of_row(&parameters[0]);
            let (out_alone, [d_x_alone, ..]) = Case { tokens: 1, ..case }.ours(&alone, d_out, &Pool::new());
            assert_eq!(bits(&[out_alone, d_x_alone]), bits(&[of_row(&out), of_row(&d_x)]), "row {row} of {case:?}");
        }
    }
}

fn small() -> Case {
    cases((2, 3, 4)).next().expect("a case")
}

#[test]
#[should_panic(expected = "feed_forward: x has 7 numbers, expected 6")]
fn a_wrong_input_panics() {
    let mut parameters = small().parameters();
    parameters[0].push(0.0);
    small().ours(&parameters, &[0.0; 6], &Pool::new());
}

#[test]
#[should_panic(expected = "feed_forward: its counterpart has 9 numbers, expected 6")]
fn a_wrong_gradient_panics() {
    small().ours(&small().parameters(), &[0.0; 9], &Pool::new());
}

#[test]
#[should_panic(expected = "feed_forward: gamma has 4 numbers, expected 3")]
fn a_wrong_gain_panics() {
    let mut parameters = small().parameters();
    parameters[1].push(0.0);
    small().ours(&parameters, &[0.0; 6], &Pool::new());
}

#[test]
#[should_panic(expected = "feed_forward: panels of other weights")]
fn panels_of_other_weights_panic() {
    let (parameters, pool) = (small().parameters(), Pool::new());
    let layer = small().layer(&parameters);
    let [up, down] = layer.panels(&pool);
    layer.forward(&parameters[0], &[down, up], false, &mut [0.0; 6], &pool);
}

#[test]
#[should_panic(expected = "feed_forward: what was saved is of another batch")]
fn what_was_saved_of_another_batch_panics() {
    let (parameters, pool) = (small().parameters(), Pool::new());
    let layer = small().layer(&parameters);
    let saved = layer.forward(&[0.0; 3], &layer.panels(&pool), true, &mut [0.0; 3], &pool).expect("kept");
    let mut gradients = parameters.clone();
    let [x, gamma, beta, up_weight, up_bias, down_weight, down_bias] = &mut gradients;
    let to = FeedForwardGradients { x, gamma, beta, up_weight, up_bias, down_weight, down_bias };
    layer.backward(&[0.0; 6], &parameters[0], saved, to, &pool);
}
