//! Stacks of all kinds, over sets that are lines; `tests/grid.rs` has them over grids. Beside them, what tests of single layers share.

mod graph;
mod grid;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use qkv::Offsets;
use qkv::activation::Activation;
use qkv::options::{Mask, Normalizer};

use crate::attention::Score;
use qkv::random::Key;

use super::*;
use crate::attention::Layout;
use crate::composed;
use crate::ops::testing::{assert_close, device, random, values};

const D_MODEL: usize = 8;

fn attention() -> SelfAttentionOptions {
    SelfAttentionOptions {
        heads: 2,
        score: Score::DOT,
        normalizer: Normalizer::Softmax,
        mask: Mask::Full,
        rotary: false,
        relative_range: None,
        dropout: 0.0,
    }
}

fn options(mixer: MixerOptions, positions: PositionsOptions) -> EncoderOptions {
    EncoderOptions {
        mixer,
        layers: 2,
        d_model: D_MODEL,
        d_ff: 12,
        norm: NormPlace::Before,
        activation: Activation::Gelu,
        positions,
        geometry: Geometry::Line,
        dropout: 0.0,
        hidden_dropout: 0.0,
    }
}

/// One list of encoders for every test: each mixer, each kind of positions, norms before and after.
fn all_options() -> Vec<EncoderOptions> {
    let attentions = [
        attention(),
        SelfAttentionOptions { score: Score::ADDITIVE, ..attention() },
        SelfAttentionOptions { normalizer: Normalizer::Relu, mask: Mask::Window { left: 2, right: 1 }, ..attention() },
        SelfAttentionOptions { rotary: true, ..attention() },
        SelfAttentionOptions { relative_range: Some(3), ..attention() },
    ];
    let mut mixers = vec![
        MixerOptions::None,
        MixerOptions::Window { radius: 2 },
        MixerOptions::Cnn { radius: 1 },
        MixerOptions::Rnn { hidden: 5, directions: Directions::Both },
    ];
    mixers.extend(attentions.map(MixerOptions::Attention));
    let positions =
        [PositionsOptions::None, PositionsOptions::Sinusoidal, PositionsOptions::Learned { max_positions: 4 }];
    let mut all: Vec<EncoderOptions> =
        mixers.iter().flat_map(|&mixer| positions.map(|positions| options(mixer, positions))).collect();
    let after = all.iter().map(|&before| EncoderOptions { norm: NormPlace::After, ..before });
    all.extend(after.collect::<Vec<_>>());
    all
}

fn encoder(options: &EncoderOptions) -> Encoder {
    Encoder::new(options, &Init::new(3, &device()))
}

fn run(encoder: &Encoder, x: Tensor<2>, lengths: &[usize]) -> Tensor<2> {
    encoder.forward(x, &Layout::new(Offsets::from_lengths(lengths.iter().copied())), &Pass::inference())
}

#[test]
fn a_sets_result_does_not_depend_on_its_batch_mates() {
    for options in all_options() {
        let encoder = encoder(&options);
        let x = random([14, D_MODEL], 1);
        let together = run(&encoder, x.clone(), &[5, 2, 7]);
        let alone = Tensor::cat(
            vec![
                run(&encoder, x.clone().slice(0..5), &[5]),
                run(&encoder, x.clone().slice(5..7), &[2]),
                run(&encoder, x.slice(7..14), &[7]),
            ],
            0,
        );
        assert_close(together, alone, 1e-5);
    }
}

#[test]
fn every_parameter_gets_a_gradient() {
    struct Check<'a> {
        grads: &'a burn::tensor::Gradients,
        count: usize,
    }
    impl ModuleVisitor for Check<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.grads).expect("a gradient for each parameter");
            assert!(values(gradient).iter().all(|x| x.is_finite()));
            self.count += 1;
        }
    }
    for options in all_options() {
        let encoder = encoder(&options);
        let out = run(&encoder, random([14, D_MODEL], 1), &[5, 2, 7]);
        let grads = (out * random([14, D_MODEL], 2)).sum().backward();
        let mut check = Check { grads: &grads, count: 0 };
        encoder.visit(&mut check);
        assert!(check.count > 8, "{options:?}");
    }
}

#[test]
fn without_positions_attention_cannot_tell_an_order() {
    let encoder = encoder(&options(MixerOptions::Attention(attention()), PositionsOptions::None));
    let x = random([6, D_MODEL], 1);
    let there = run(&encoder, x.clone(), &[6]);
    let back = run(&encoder, x.flip([0]), &[6]).flip([0]);
    assert_close(there, back, 1e-5);
}

#[test]
fn with_positions_attention_tells_an_order() {
    let told = [
        options(MixerOptions::Attention(attention()), PositionsOptions::Sinusoidal),
        options(MixerOptions::Attention(attention()), PositionsOptions::Learned { max_positions: 6 }),
        options(MixerOptions::Attention(SelfAttentionOptions { rotary: true, ..attention() }), PositionsOptions::None),
    ];
    for options in told {
        let encoder = encoder(&options);
        let x = random([6, D_MODEL], 1);
        let there = values(run(&encoder, x.clone(), &[6]));
        let back = values(run(&encoder, x.flip([0]), &[6]).flip([0]));
        let most = there.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most > 1e-2, "{options:?}: {most}");
    }
}

#[test]
fn rotary_products_depend_on_the_distance_alone() {
    let layout = Layout::new(Offsets::from_lengths([9]));
    let angles = super::rotary_angles(&layout, Geometry::Line, 6);
    let (q, k) = (random([1, 1, 6], 1).repeat_dim(0, 9), random([1, 1, 6], 2).repeat_dim(0, 9));
    let (q, k) = (crate::ops::turned_twin(q, &angles), crate::ops::turned_twin(k, &angles));
    let product =
        |i: usize, j: usize| -> f32 { values((q.clone().slice(i..i + 1) * k.clone().slice(j..j + 1)).sum())[0] };
    assert!((product(1, 3) - product(5, 7)).abs() < 1e-4);
    assert!((product(1, 3) - product(1, 4)).abs() > 1e-3);
}

#[test]
fn mixers_reach_as_far_as_they_should() {
    // How far from a changed vector the results change, on a set of 15, the change in the middle.
    let reach = |mixer: MixerOptions| {
        let encoder = encoder(&options(mixer, PositionsOptions::None));
        let x = random([15, D_MODEL], 1);
        let mut changed = values(x.clone());
        changed[7 * D_MODEL] += 1.0;
        let changed = Tensor::from_data(burn::tensor::TensorData::new(changed, [15, D_MODEL]), &device());
        let (a, b) = (values(run(&encoder, x, &[15])), values(run(&encoder, changed, &[15])));
        let differs = |row: usize| (0..D_MODEL).any(|e| a[row * D_MODEL + e] != b[row * D_MODEL + e]);
        (0..15).filter(|&row| differs(row)).map(|row| row.abs_diff(7)).max()
    };
    assert_eq!(reach(MixerOptions::None), Some(0));
    assert_eq!(reach(MixerOptions::Window { radius: 2 }), Some(2), "only the first block has a window");
    assert_eq!(reach(MixerOptions::Cnn { radius: 1 }), Some(2), "one more in each block");
    assert_eq!(reach(MixerOptions::Rnn { hidden: 5, directions: Directions::Both }), Some(7));
    assert_eq!(reach(MixerOptions::Attention(attention())), Some(7));
    let window = SelfAttentionOptions { mask: Mask::Window { left: 2, right: 2 }, ..attention() };
    assert_eq!(reach(MixerOptions::Attention(window)), Some(4));
}

#[test]
fn dropout_is_a_function_of_the_key() {
    let mut options =
        options(MixerOptions::Attention(SelfAttentionOptions { dropout: 0.2, ..attention() }), PositionsOptions::None);
    options.dropout = 0.3;
    let encoder = encoder(&options);
    let layout = Layout::new(Offsets::from_lengths([6]));
    let run = |pass: Pass| values(encoder.forward(random([6, D_MODEL], 1), &layout, &pass));
    assert_eq!(run(Pass::training(Key::new(1))), run(Pass::training(Key::new(1))));
    assert_ne!(run(Pass::training(Key::new(1))), run(Pass::training(Key::new(2))));
    assert_ne!(run(Pass::training(Key::new(1))), run(Pass::inference()));
}

#[test]
fn an_empty_batch_passes_through() {
    for options in all_options() {
        let out = run(&encoder(&options), Tensor::zeros([0, D_MODEL], &device()), &[0]);
        assert_eq!(out.dims(), [0, D_MODEL]);
    }
}

#[test]
fn a_long_set_is_attended_tile_by_tile() {
    let window = SelfAttentionOptions { mask: Mask::Window { left: 3, right: 3 }, ..attention() };
    let encoder = encoder(&options(MixerOptions::Attention(window), PositionsOptions::None));
    let x = random([500, D_MODEL], 1);
    let whole = run(&encoder, x.clone(), &[500]);
    // Two layers of ±3 see ±6: rows 206 to 294 of the piece 200 to 300 know all they would know of the whole.
    let piece = run(&encoder, x.slice(200..300), &[100]);
    assert_close(piece.slice(6..94), whole.slice(206..294), 1e-5);
}

#[test]
fn the_last_layer_is_what_comes_out_and_layer_0_what_goes_in() {
    let (x, layout) = (random([14, D_MODEL], 1), Layout::new(Offsets::from_lengths([5, 2, 7])));
    for options in all_options() {
        let encoder = encoder(&options);
        assert_eq!(encoder.layers(), 2);
        let layer = |layer| values(encoder.forward_to(layer, x.clone(), &layout, &Pass::inference()));
        assert_eq!(layer(2), values(run(&encoder, x.clone(), &[5, 2, 7])), "{options:?}");
        assert_eq!(layer(0), values(x.clone()));
        // The first block has the same parameters where it is the only one.
        let first = self::encoder(&EncoderOptions { layers: 1, ..options });
        let expected = values(run(&first, x.clone(), &[5, 2, 7]));
        let found = encoder.forward_to(1, x.clone(), &layout, &Pass::inference());
        match options.norm {
            NormPlace::After => assert_eq!(values(found), expected, "{options:?}"),
            NormPlace::Before => {
                let normed = LayerNorm::new(D_MODEL, &Init::new(1, &device())).forward(found.clone());
                assert_eq!(values(normed), expected, "{options:?}");
                assert_ne!(values(found), expected, "what comes out of a block in between is not normalised");
            }
        }
    }
}

#[test]
#[should_panic(expected = "layer 3 of 2")]
fn a_layer_that_there_is_not_is_refused() {
    let encoder = encoder(&all_options()[0]);
    encoder.forward_to(3, random([2, D_MODEL], 1), &Layout::new(Offsets::from_lengths([2])), &Pass::inference());
}

#[test]
fn layers_of_a_decoder_are_those_of_its_stack() {
    let causal = SelfAttentionOptions { mask: Mask::Causal { offset: 0 }, ..attention() };
    let cross = CrossAttentionOptions { heads: 2, score: Score::DOT, normalizer: Normalizer::Softmax, dropout: 0.0 };
    let (x, layout) = (random([7, D_MODEL], 1), Layout::new(Offsets::from_lengths([5, 2])));
    let vectors = random([6, D_MODEL], 2);
    let read = Memory { vectors, offsets: Offsets::from_lengths([4, 2]), summary: Some(random([2, D_MODEL], 3)) };
    for (mixer, cross, summary) in [
        (MixerOptions::Attention(causal), None, false),
        (MixerOptions::Attention(causal), Some(cross), false),
        (MixerOptions::Rnn { hidden: 5, directions: Directions::Forward }, None, true),
    ] {
        let memory = (cross.is_some() || summary).then_some(&read);
        let decoder = |layers| {
            let stack =
                EncoderOptions { layers, norm: NormPlace::After, ..options(mixer, PositionsOptions::Sinusoidal) };
            Decoder::new(&DecoderOptions { stack, cross, summary }, &Init::new(3, &device()))
        };
        let (two, pass) = (decoder(2), Pass::inference());
        assert_eq!(two.layers(), 2);
        let layer = |layer| values(two.forward_to(layer, x.clone(), &layout, memory, &pass));
        assert_eq!(layer(2), values(two.forward(x.clone(), &layout, memory, &pass)));
        assert_eq!(layer(1), values(decoder(1).forward(x.clone(), &layout, memory, &pass)));
        assert_eq!(layer(0), values(x.clone()));
        assert_ne!(layer(1), layer(2));
    }
}

/// Name and numbers of each parameter, or of its gradient.
struct Collect<'a> {
    grads: Option<&'a burn::tensor::Gradients>,
    path: Vec<String>,
    found: Vec<(String, Vec<f32>)>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.join(".");
        let numbers = match self.grads {
            Some(grads) => param.val().grad(grads).unwrap_or_else(|| panic!("{name} has no gradient")),
            None => param.val().inner(),
        };
        self.found.push((name, values(numbers)));
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

fn collect(module: &impl Module, grads: Option<&burn::tensor::Gradients>) -> Vec<(String, Vec<f32>)> {
    let mut collect = Collect { grads, path: Vec::new(), found: Vec::new() };
    module.visit(&mut collect);
    collect.found
}

/// All parameters of a module by name, in the order in which they stand.
pub(super) fn parameters(module: &impl Module) -> Vec<(String, Vec<f32>)> {
    collect(module, None)
}

/// The gradients of all parameters of a module; each must have one.
pub(super) fn gradients(module: &impl Module, grads: &burn::tensor::Gradients) -> Vec<(String, Vec<f32>)> {
    collect(module, Some(grads))
}

/// The module with number `n` of the parameter `name` set to `of(n)`.
fn set<M: Module>(module: M, name: &str, of: impl Fn(usize) -> f32) -> M {
    struct Set<'a, F> {
        name: &'a str,
        of: F,
        path: Vec<String>,
    }
    impl<F: Fn(usize) -> f32> ModuleMapper for Set<'_, F> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.path.last().is_none_or(|name| name != self.name) {
                return param;
            }
            param.map(|numbers| {
                let dims: [usize; D] = numbers.dims();
                let set = (0..dims.iter().product()).map(&self.of).collect::<Vec<f32>>();
                Tensor::from_data(burn::tensor::TensorData::new(set, dims), &numbers.device())
            })
        }

        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
    }
    module.map(&mut Set { name, of, path: Vec::new() })
}

/// Fails unless what comes out, and the gradients of all parameters and of what comes in, are what Burn's own operations make them.
/// `run` gives what comes out and what came in.
#[track_caller]
pub(super) fn assert_gradients_are_those_composed<M: Module>(
    module: &M,
    what: &str,
    run: impl Fn() -> (Tensor<2>, Tensor<2>),
) {
    let run = || {
        let (out, x) = run();
        let grads = (out.clone() * random(out.dims(), 2)).sum().backward();
        let mut found = gradients(module, &grads);
        found.push(("what comes in".to_owned(), values(x.grad(&grads).expect("what comes in has a gradient"))));
        found.push(("what comes out".to_owned(), values(out)));
        found
    };
    for ((name, ours), (_, theirs)) in run().iter().zip(composed(run)) {
        assert_eq!(ours.len(), theirs.len());
        let largest = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Under softmax the gradient of a key's bias is 0, but for rounding: the floor is for it.
        assert!(apart <= 3e-5 * largest + 3e-6, "{name} is {apart} apart, the largest is {largest}: {what}");
    }
}
