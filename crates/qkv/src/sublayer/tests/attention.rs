use super::*;
use crate::attention::{
    Gradients, Inputs, Saved, Shape, View, ViewMut, Workspace, attention_backward, attention_forward,
};
use crate::offsets::Offsets;
use crate::options::{self, Bias, Buckets, Mask, Options, Score, ScoreActivation};

#[derive(Clone, Debug)]
struct Case {
    lengths: Vec<usize>,
    d_model: usize,
    heads: usize,
    place: NormPlace,
    mask: Mask<'static>,
    additive: bool,
    /// The reach of a relative bias.
    reach: Option<usize>,
    /// Rate and key of the dropout of the weights.
    attention_dropout: Dropout,
    rotary: bool,
    dropout: Dropout,
}

/// x, gamma, beta, query, key and value with their biases, output with its bias, the additive weights, the table of the bias.
type Parameters = [Vec<f32>; 13];

const CAUSAL: Mask<'static> = Mask::Causal { offset: 0 };
const WINDOW: Mask<'static> = Mask::Window { left: 2, right: 1 };

/// Of a shape, what attention is asked for in all its kinds, one by one and several at once.
fn cases(lengths: &[usize], d_model: usize, heads: usize) -> Vec<Case> {
    let [a, b] = [5, 6].map(|seed| Some((0.25, Key::new(seed))));
    let kinds = [
        (Mask::Full, false, None, None, false, None),
        (CAUSAL, false, None, None, true, b),
        (WINDOW, false, Some(3), None, false, b),
        (Mask::Full, true, None, None, false, None),
        (Mask::Full, false, None, a, false, b),
        (CAUSAL, true, Some(2), a, true, b),
    ];
    let case = |place, (mask, additive, reach, attention_dropout, rotary, dropout)| Case {
        lengths: lengths.to_vec(),
        d_model,
        heads,
        place,
        mask,
        additive,
        reach,
        attention_dropout,
        rotary: rotary && (d_model / heads).is_multiple_of(2),
        dropout,
    };
    PLACES.into_iter().flat_map(|place| kinds.map(|kind| case(place, kind))).collect()
}

impl Case {
    fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn sets(&self) -> Offsets {
        Offsets::from_lengths(self.lengths.iter().copied())
    }

    fn parameters(&self) -> Parameters {
        let d = self.d_model;
        let buckets = self.reach.map_or(0, |reach| 2 * reach + 1);
        let (score, bias) = (if self.additive { d } else { 0 }, self.heads * buckets);
        let lengths = [self.tokens() * d, d, d, d * d, d * d, d * d, d, d, d, d * d, d, score, bias];
        let scale = |i| if (3..6).contains(&i) || i == 9 { 1.0 / (d as f32).sqrt() } else { 1.0 };
        std::array::from_fn(|i| numbers(lengths[i], i as u64 + 1).iter().map(|x| x * scale(i)).collect())
    }

    fn d_out(&self) -> Vec<f32> {
        numbers(self.tokens() * self.d_model, 20)
    }

    /// The cosines and sines of any angles.
    fn angles(&self) -> [Vec<f32>; 2] {
        let angles = numbers(self.tokens() * (self.d_model / self.heads / 2), 30);
        [f32::cos, f32::sin].map(|f| angles.iter().map(|&angle| f(angle)).collect())
    }

    fn options<'a>(&self, parameters: &'a Parameters) -> Options<'a> {
        let dot = Score::DOT;
        let additive = Score::Additive { activation: ScoreActivation::Tanh, weights: &parameters[11] };
        let buckets = self.reach.map(|reach| Buckets::Relative { reach, offset: 0 });
        Options {
            score: if self.additive { additive } else { dot },
            mask: self.mask,
            bias: buckets.map_or(Bias::None, |buckets| Bias::Buckets { table: &parameters[12], buckets }),
            dropout: self.attention_dropout.map(|(rate, key)| options::Dropout { rate, key }),
            ..Options::default()
        }
    }

    fn layer<'a>(&self, parameters: &'a Parameters, [cos, sin]: &'a [Vec<f32>; 2]) -> SelfAttention<'a> {
        let [_, gamma, beta, q, k, v, q_bias, k_bias, v_bias, output_weight, output_bias, ..] = parameters;
        SelfAttention {
            norm: Norm { place: self.place, gamma, beta, epsilon: EPSILON },
            weights: [q, k, v],
            biases: [q_bias, k_bias, v_bias],
            output_weight,
            output_bias,
            heads: self.heads,
            options: self.options(parameters),
            rotary: self.rotary.then_some(Rotary { cos, sin }),
            dropout: self.dropout,
        }
    }

    /// The result and the gradients of all parameters.
    fn ours(&self, parameters: &Parameters, d_out: &[f32], pool: &Pool) -> (Vec<f32>, Parameters) {
        let (angles, sets) = (self.angles(), self.sets());
        let layer = self.layer(parameters, &angles);
        let (x, panels) = (&parameters[0], layer.panels(pool));
        let [mut out, mut not_kept] = [(); 2].map(|()| vec![f32::NAN; x.len()]);
        assert!(layer.forward(x, &sets, &panels, false, &mut not_kept, pool).is_none());
        let saved = layer.forward(x, &sets, &panels, true, &mut out, pool).expect("kept");
        assert!(out.iter().map(|x| x.to_bits()).eq(not_kept.iter().map(|x| x.to_bits())), "keep changes the bits");
        let mut gradients = parameters.each_ref().map(|x| vec![f32::NAN; x.len()]);
        let [x_of, gamma, beta, q, k, v, q_bias, k_bias, v_bias, output_weight, output_bias, score, bias] =
            &mut gradients;
        let to = SelfAttentionGradients {
            x: x_of,
            gamma,
            beta,
            weights: [q, k, v],
            biases: [q_bias, k_bias, v_bias],
            output_weight,
            output_bias,
            score: self.additive.then_some(score),
            bias: self.reach.map(|_| &mut bias[..]),
        };
        layer.backward(d_out, x, &sets, saved, to, pool);
        (out, gradients)
    }

    fn reference(&self, all: &[Vec<f64>; 13]) -> Vec<f64> {
        let [x, gamma, beta, q, k, v, q_bias, k_bias, v_bias, output, output_bias, ..] = all;
        let h = if self.place == NormPlace::Before { &normed(x, gamma, beta) } else { x };
        let [mut q, mut k, v] = [(q, q_bias), (k, k_bias), (v, v_bias)].map(|(w, bias)| affine(h, w, bias));
        if self.rotary {
            self.turn(&mut q);
            self.turn(&mut k);
        }
        let s = affine(&self.attended([&q, &k, &v], &all[11], &all[12]), output, output_bias);
        let r = plus(x, &dropped(&s, self.dropout));
        if self.place == NormPlace::Before { r } else { normed(&r, gamma, beta) }
    }

    fn turn(&self, x: &mut [f64]) {
        let (width, [cos, sin]) = (self.d_model / self.heads, self.angles());
        for (vector, x) in x.chunks_exact_mut(width).enumerate() {
            for p in 0..width / 2 {
                let at = vector / self.heads * (width / 2) + p;
                let (cos, sin) = (f64::from(cos[at]), f64::from(sin[at]));
                (x[p], x[p + width / 2]) = (x[p] * cos - x[p + width / 2] * sin, x[p] * sin + x[p + width / 2] * cos);
            }
        }
    }

    fn attended(&self, [q, k, v]: [&[f64]; 3], score: &[f64], table: &[f64]) -> Vec<f64> {
        let (sets, width) = (self.sets(), self.d_model / self.heads);
        let mut out = vec![0.0; q.len()];
        for (set, head) in (0..sets.sets()).flat_map(|set| (0..self.heads).map(move |head| (set, head))) {
            let at = |i: usize| (sets.range(set).start + i) * self.d_model + head * width;
            for i in 0..sets.len_of(set) {
                let keys: Vec<usize> = (0..sets.len_of(set)).filter(|&j| self.mask.allows(i, j)).collect();
                let logit = |&j: &usize| {
                    let (q, k) = (&q[at(i)..][..width], &k[at(j)..][..width]);
                    let pairs = q.iter().zip(k).zip(head * width..);
                    let score: f64 = match self.additive {
                        true => pairs.map(|((q, k), c)| score[c] * (q + k).tanh()).sum(),
                        false => pairs.map(|((q, k), _)| q * k).sum::<f64>() / (width as f64).sqrt(),
                    };
                    let bucket = |reach: usize| (i as isize - j as isize + reach as isize).clamp(0, 2 * reach as isize);
                    let bias = |reach| table[head * (2 * reach + 1) + bucket(reach) as usize];
                    (score + self.reach.map_or(0.0, bias)).exp()
                };
                let exponentials: Vec<f64> = keys.iter().map(logit).collect();
                let sum: f64 = exponentials.iter().sum();
                for (&j, exponential) in keys.iter().zip(&exponentials) {
                    let factor = self.attention_dropout.map_or(1.0, |(rate, key)| {
                        let bits = key.fold(set as u64).fold(head as u64).fold(i as u64).bits(j as u64);
                        let kept = f64::from(bits) >= f64::from(rate) * 4_294_967_296.0;
                        if kept { 1.0 / (1.0 - f64::from(rate)) } else { 0.0 }
                    });
                    for c in 0..width {
                        out[at(i) + c] += factor * exponential / sum * v[at(j) + c];
                    }
                }
            }
        }
        out
    }

    /// The same as `ours` by a kernel for each step; without rotary positions.
    fn composed(&self, parameters: &Parameters, d_out: &[f32]) -> (Vec<f32>, Parameters) {
        let (tokens, d, heads, sets) = (self.tokens(), self.d_model, self.heads, self.sets());
        let [x, gamma, beta, w_q, w_k, w_v, b_q, b_k, b_v, output, output_bias, ..] = parameters;
        let (before, plain) = (self.place == NormPlace::Before, Activation::Identity);
        let norm = norm_forth(x, gamma, beta);
        let h = if before { &norm[0] } else { x };
        let products = [w_q, w_k, w_v].map(|w| forth(h, w, d));
        let [q, k, v] = [0, 1, 2].map(|i| biased(&products[i], [b_q, b_k, b_v][i], plain));
        let (shape, options) = (Shape::new(heads, d / heads), self.options(parameters));
        let [query, key, value] = [&q, &k, &v].map(|x| View::new(x, heads, d / heads));
        let inputs = Inputs { shape, query, key, value, queries: &sets, keys: &sets };
        let (mut o, mut lse, mut workspace) = (vec![0.0; tokens * d], vec![0.0; heads * tokens], Workspace::new());
        attention_forward(&inputs, &options, ViewMut::new(&mut o, heads, d / heads), &mut lse, &mut workspace)
            .expect("shapes that fit");
        let product = forth(&o, output, d);
        let r = sum(x, &without(&biased(&product, output_bias, plain), self.dropout));
        let behind = norm_forth(&r, gamma, beta);

        let [mut d_r, mut d_gamma, mut d_beta] = norm_back(d_out, &r, gamma, &behind);
        if before {
            d_r = d_out.to_vec();
        }
        let [d_s, d_output_bias] = unbiased(&without(&d_r, self.dropout), &product, output_bias, plain);
        let d_o = back(&d_s, output, d);
        let [mut d_q, mut d_k, mut d_v] = [(); 3].map(|()| vec![0.0; tokens * d]);
        let [mut d_score, mut d_bias] = [&parameters[11], &parameters[12]].map(|x| vec![0.0; x.len()]);
        let [query, key, value] = [&mut d_q, &mut d_k, &mut d_v].map(|x| ViewMut::new(x, heads, d / heads));
        let (score, bias) = (self.additive.then_some(&mut d_score[..]), self.reach.map(|_| &mut d_bias[..]));
        let saved = Saved { out: View::new(&o, heads, d / heads), lse: &lse, kept: &[] };
        let to = Gradients { query, key, value, score, bias, vectors: None };
        attention_backward(&inputs, &options, &saved, View::new(&d_o, heads, d / heads), to, &mut workspace)
            .expect("shapes that fit");
        let [of_q, of_k, of_v] = [(&d_q, 0), (&d_k, 1), (&d_v, 2)].map(|(d_projection, i)| {
            let bias = [b_q, b_k, b_v][i];
            let [_, d_bias] = unbiased(d_projection, &products[i], bias, plain);
            (of_weight(h, d_projection, tokens, d * d), d_bias, back(d_projection, [w_q, w_k, w_v][i], d))
        });
        let mut d_x = sum(&sum(&of_q.2, &of_k.2), &of_v.2);
        if before {
            [d_x, d_gamma, d_beta] = norm_back(&d_x, x, gamma, &norm);
        }
        let out = if before { r } else { behind[0].clone() };
        let d_output = of_weight(&o, &d_s, tokens, d * d);
        let first = [sum(&d_x, &d_r), d_gamma, d_beta, of_q.0, of_k.0, of_v.0, of_q.1];
        let [d_x, d_gamma, d_beta, w_q, w_k, w_v, b_q] = first;
        let (b_k, b_v) = (of_k.1, of_v.1);
        (out, [d_x, d_gamma, d_beta, w_q, w_k, w_v, b_q, b_k, b_v, d_output, d_output_bias, d_score, d_bias])
    }
}

#[test]
fn forward_and_backward_equal_the_reference() {
    let shapes: [(&[usize], usize, usize); 6] = [
        (&[3, 0, 5, 1], 6, 1),
        (&[0, 4, 2], 12, 2),
        (&[7], 8, 4),
        (&[2, 3], 20, 2),
        (&[20, 0, 36, 2], 2, 1),
        (&[5, 1], 1, 1),
    ];
    for case in shapes.into_iter().flat_map(|(lengths, d_model, heads)| cases(lengths, d_model, heads)) {
        println!("{case:?}");
        let (parameters, d_out) = (case.parameters(), case.d_out());
        let (out, gradients) = case.ours(&parameters, &d_out, &poisoned());
        assert_close(&out, &case.reference(&parameters.each_ref().map(|x| to_f64(x))), 1e-5);
        assert_gradients(&parameters, &d_out, &gradients, |all| case.reference(all));
    }
}

#[test]
fn wide_results_equal_the_reference() {
    for (d_model, heads) in [(64, 4), (72, 1), (96, 2)] {
        for case in cases(&[31, 0, 1, 27], d_model, heads) {
            println!("{case:?}");
            let parameters = case.parameters();
            let (out, _) = case.ours(&parameters, &case.d_out(), &poisoned());
            assert_close(&out, &case.reference(&parameters.each_ref().map(|x| to_f64(x))), 1e-5);
        }
    }
}

#[test]
fn one_operation_is_the_same_as_all_of_its_steps() {
    let shapes: [(&[usize], usize, usize); 9] = [
        // sets of one length, which are tasks of their own: with a last block of fewer, of one each, and too long for it
        (&[17; 50], 20, 2),
        (&[64; 8], 64, 4),
        (&[129; 8], 6, 1),
        (&[], 6, 1),
        (&[0, 0], 20, 2),
        (&[1], 64, 4),
        (&[31, 0, 1, 27], 72, 1),
        (&[100, 30], 96, 2),
        (&[5, 130, 0], 20, 4),
    ];
    for case in shapes.into_iter().flat_map(|(lengths, d_model, heads)| cases(lengths, d_model, heads)) {
        let case = Case { rotary: false, ..case };
        println!("{case:?}");
        let (parameters, d_out) = (case.parameters(), case.d_out());
        let (out, gradients) = case.ours(&parameters, &d_out, &poisoned());
        let (expected, expected_gradients) = case.composed(&parameters, &d_out);
        assert_close(&out, &to_f64(&expected), 1e-5);
        // Each is a sum over tokens, that of the key's bias of what cancels: what rounding leaves grows as their root.
        let tolerance = 3e-5 * (case.tokens() as f64 / 130.0).max(1.0).sqrt();
        for (i, (found, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
            println!("parameter {i}");
            assert_close(found, &to_f64(expected), tolerance);
        }
    }
}

#[test]
fn threads_and_what_a_pool_held_do_not_change_the_bits() {
    let [ragged, even]: [&[usize]; 2] = [&[60, 0, 71, 3], &[40; 10]];
    for case in [ragged, even].into_iter().flat_map(|lengths| cases(lengths, 72, 2)) {
        let (parameters, d_out) = (case.parameters(), case.d_out());
        let all = |pool: &Pool| {
            let (out, gradients) = case.ours(&parameters, &d_out, pool);
            [vec![out], gradients.to_vec()].concat()
        };
        same_bits_with_any_threads(|| all(&Pool::new()).concat());
        let pool = poisoned();
        let nothing: Parameters =
            std::array::from_fn(|i| if i < 11 { vec![f32::NAN; parameters[i].len()] } else { parameters[i].clone() });
        case.ours(&nothing, &vec![f32::NAN; d_out.len()], &pool);
        assert_eq!(bits(&all(&pool)), bits(&all(&Pool::new())), "{case:?}");
    }
}

#[test]
fn a_set_has_the_bits_that_it_has_alone() {
    let [ragged, even]: [&[usize]; 2] = [&[40, 0, 33], &[33; 8]];
    for case in [ragged, even].into_iter().flat_map(|lengths| cases(lengths, 72, 2)) {
        let case = Case { attention_dropout: None, dropout: None, rotary: false, ..case };
        let (parameters, d_out) = (case.parameters(), case.d_out());
        let (out, _) = case.ours(&parameters, &d_out, &poisoned());
        for set in [0, 2] {
            let range = case.sets().range(set);
            let of_set = |x: &[f32]| x[range.start * 72..range.end * 72].to_vec();
            let mut alone = parameters.clone();
            alone[0] = of_set(&parameters[0]);
            let case = Case { lengths: vec![range.len()], ..case.clone() };
            let (out_alone, _) = case.ours(&alone, &of_set(&d_out), &Pool::new());
            assert_eq!(bits(&[out_alone]), bits(&[of_set(&out)]), "set {set} of {case:?}");
        }
    }
}

fn small() -> Case {
    cases(&[2], 4, 2).remove(0)
}

#[test]
#[should_panic(expected = "self_attention: x has 9 numbers, expected 8")]
fn a_wrong_input_panics() {
    let mut parameters = small().parameters();
    parameters[0].push(0.0);
    small().ours(&parameters, &[0.0; 8], &Pool::new());
}

#[test]
#[should_panic(expected = "self_attention: its counterpart has 9 numbers, expected 8")]
fn a_wrong_gradient_panics() {
    small().ours(&small().parameters(), &[0.0; 9], &Pool::new());
}

#[test]
#[should_panic(expected = "self_attention: weights of 16 numbers and biases of 5, expected 16 and 4")]
fn a_wrong_bias_panics() {
    let mut parameters = small().parameters();
    parameters[7].push(0.0);
    small().ours(&parameters, &[0.0; 8], &Pool::new());
}

#[test]
#[should_panic(expected = "self_attention: 3 heads do not divide 4")]
fn heads_that_do_not_divide_panic() {
    let case = Case { heads: 3, ..small() };
    case.ours(&case.parameters(), &[0.0; 8], &Pool::new());
}

#[test]
#[should_panic(expected = "self_attention: rotary angles are not [2, 1]")]
fn angles_of_another_batch_panic() {
    let (parameters, pool) = (small().parameters(), Pool::new());
    let angles = [vec![1.0; 3], vec![0.0; 3]];
    let layer = Case { rotary: true, ..small() }.layer(&parameters, &angles);
    layer.forward(&parameters[0], &small().sets(), &layer.panels(&pool), false, &mut [0.0; 8], &pool);
}
