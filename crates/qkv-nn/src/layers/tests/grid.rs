//! Layers over sets whose vectors lie on grids.

use burn::tensor::TensorData;

use super::*;
use crate::attention::{Grid, Place};
use crate::composed;

pub(crate) const GEOMETRY: Geometry = Geometry::Grid { max_rows: 4, max_columns: 3 };

/// A picture, a picture with a vector before and words behind it, words, nothing, and a picture of another shape.
fn layout() -> Layout {
    let grids = vec![
        Grid::new(3, 4),
        Grid { first: 1, ..Grid::new(2, 3) },
        Grid::default(),
        Grid::default(),
        Grid { first: 0, ..Grid::new(5, 2) },
    ];
    Layout::with_grids(Offsets::from_lengths([12, 11, 4, 0, 10]), grids)
}

const TOKENS: usize = 37;

/// Each mixer over grids, each kind of positions.
fn grid_options() -> Vec<EncoderOptions> {
    all_options().into_iter().map(|options| EncoderOptions { geometry: GEOMETRY, ..options }).collect()
}

#[test]
fn a_pictures_result_does_not_depend_on_its_batch_mates() {
    let layout = layout();
    for options in grid_options() {
        let encoder = encoder(&options);
        let x = random([TOKENS, D_MODEL], 1);
        let together = encoder.forward(x.clone(), &layout, &Pass::inference());
        let alone = (0..layout.offsets().sets()).filter(|&set| layout.offsets().len_of(set) > 0).map(|set| {
            let rows = layout.offsets().range(set);
            let own = Layout::with_grids(Offsets::from_lengths([rows.len()]), vec![layout.grids()[set]]);
            encoder.forward(x.clone().slice(rows), &own, &Pass::inference())
        });
        assert_close(together, Tensor::cat(alone.collect(), 0), 1e-5);
    }
}

#[test]
fn every_gradient_over_grids_equals_that_of_the_composed_operations() {
    let layout = layout();
    for options in grid_options() {
        let encoder = encoder(&options);
        assert_gradients_are_those_composed(&encoder, &format!("{options:?}"), || {
            let x = random([TOKENS, D_MODEL], 1).require_grad();
            (encoder.forward(x.clone(), &layout, &Pass::inference()), x)
        });
    }
}

#[test]
fn a_model_of_grids_takes_sets_that_have_none_and_batches_that_have_nothing() {
    for options in grid_options() {
        let encoder = encoder(&options);
        let layout = Layout::new(Offsets::from_lengths([5, 0, 9]));
        assert_gradients_are_those_composed(&encoder, &format!("{options:?}"), || {
            let x = random([14, D_MODEL], 1).require_grad();
            (encoder.forward(x.clone(), &layout, &Pass::inference()), x)
        });
        let nothing = Layout::with_grids(Offsets::from_lengths([0, 0]), vec![Grid::default(), Grid::new(0, 3)]);
        let out = encoder.forward(Tensor::zeros([0, D_MODEL], &device()), &nothing, &Pass::inference());
        assert_eq!(out.dims(), [0, D_MODEL]);
    }
}

#[test]
fn a_model_of_lines_does_not_see_grids() {
    let (with, without) = (layout(), Layout::new(layout().offsets().clone()));
    for options in all_options() {
        let encoder = encoder(&options);
        let run = |layout| values(encoder.forward(random([TOKENS, D_MODEL], 1), layout, &Pass::inference()));
        assert_eq!(run(&with), run(&without), "{options:?}");
    }
}

#[test]
fn without_grids_a_model_of_grids_tells_places_as_one_of_lines() {
    let rotary = SelfAttentionOptions { rotary: true, ..attention() };
    let on_line = options(MixerOptions::Attention(rotary), PositionsOptions::Sinusoidal);
    let on_grid = EncoderOptions { geometry: GEOMETRY, ..on_line };
    let run = |options| values(run(&encoder(options), random([14, D_MODEL], 1), &[5, 2, 7]));
    assert_eq!(run(&on_line), run(&on_grid));
}

/// What positions add to vectors of zeros.
fn told(options: PositionsOptions) -> Vec<Vec<f32>> {
    let positions = Positions::new(options, GEOMETRY, D_MODEL, &Init::new(3, &device()));
    let out = values(positions.forward(Tensor::zeros([TOKENS, D_MODEL], &device()), &layout()));
    out.chunks_exact(D_MODEL).map(<[f32]>::to_vec).collect()
}

#[test]
fn sinusoids_tell_the_row_in_one_half_and_the_column_in_the_other() {
    let half = D_MODEL / 2;
    let line = |place: u32, width: usize| -> Vec<f32> {
        let element = |i: usize| {
            let angle = f64::from(place) * 10_000_f64.powf(-((i / 2) as f64) / width.div_ceil(2) as f64);
            if i.is_multiple_of(2) { angle.sin() as f32 } else { angle.cos() as f32 }
        };
        (0..width).map(element).collect()
    };
    for (place, told) in layout().places().into_iter().zip(told(PositionsOptions::Sinusoidal)) {
        let expected = match place {
            Place::Line(place) => line(place, D_MODEL),
            Place::Grid([row, column]) => [line(row, half), line(column, half)].concat(),
        };
        assert_eq!(told, expected, "{place:?}");
    }
}

#[test]
fn learned_vectors_of_row_and_column_are_added() {
    const LINE: usize = 3;
    let options = PositionsOptions::Learned { max_positions: LINE };
    let positions = Positions::new(options, GEOMETRY, D_MODEL, &Init::new(3, &device()));
    let (_, table) = parameters(&positions).remove(0);
    assert_eq!(table.len(), GEOMETRY.learned_positions(LINE) * D_MODEL);
    let row = |n: usize| &table[n * D_MODEL..][..D_MODEL];
    for (place, told) in layout().places().into_iter().zip(told(options)) {
        let expected = match place {
            Place::Line(place) => row((place as usize).min(LINE - 1)).to_vec(),
            // Four rows and three columns are told apart.
            Place::Grid([down, right]) => {
                let (down, right) = (row(LINE + down.min(3) as usize), row(LINE + 4 + right.min(2) as usize));
                down.iter().zip(right).map(|(a, b)| a + b).collect()
            }
        };
        assert_eq!(told, expected, "{place:?}");
    }
}

#[test]
fn rotary_products_on_a_grid_depend_on_both_distances_alone() {
    const COLUMNS: usize = 6;
    let layout = Layout::with_grids(Offsets::from_lengths([5 * COLUMNS]), vec![Grid::new(5, COLUMNS)]);
    let angles = rotary_angles(&layout, GEOMETRY, 8);
    let [q, k] = [1, 2].map(|seed| random([1, 1, 8], seed).repeat_dim(0, 5 * COLUMNS));
    let [q, k] = [q, k].map(|x| crate::ops::turned_twin(x, &angles));
    let product = |query: [usize; 2], key: [usize; 2]| -> f32 {
        let [i, j] = [query, key].map(|[row, column]| row * COLUMNS + column);
        values((q.clone().slice(i..i + 1) * k.clone().slice(j..j + 1)).sum())[0]
    };
    assert!((product([0, 1], [2, 0]) - product([2, 5], [4, 4])).abs() < 1e-4);
    assert!((product([0, 1], [2, 0]) - product([0, 1], [1, 0])).abs() > 1e-3, "the row counts");
    assert!((product([0, 1], [2, 0]) - product([0, 1], [2, 1])).abs() > 1e-3, "the column counts");
}

#[test]
fn windows_reach_as_far_in_rows_as_in_columns() {
    let (rows, columns) = (7, 9);
    let layout = Layout::with_grids(Offsets::from_lengths([rows * columns]), vec![Grid::new(rows, columns)]);
    let reached = |mixer: MixerOptions| {
        let encoder = encoder(&EncoderOptions { geometry: GEOMETRY, ..options(mixer, PositionsOptions::None) });
        let run = |x: Vec<f32>| {
            let x = Tensor::from_data(TensorData::new(x, [rows * columns, D_MODEL]), &device());
            values(encoder.forward(x, &layout, &Pass::inference()))
        };
        let x = values(random([rows * columns, D_MODEL], 1));
        let mut changed = x.clone();
        changed[(3 * columns + 4) * D_MODEL] += 1.0;
        let (a, b) = (run(x), run(changed));
        let differs = |n: usize| a[n * D_MODEL..][..D_MODEL] != b[n * D_MODEL..][..D_MODEL];
        (0..rows * columns).filter(|&n| differs(n)).map(|n| [n / columns, n % columns]).collect::<Vec<_>>()
    };
    let square = |radius: usize| -> Vec<[usize; 2]> {
        (3 - radius..=3 + radius).flat_map(|row| (4 - radius..=4 + radius).map(move |column| [row, column])).collect()
    };
    assert_eq!(reached(MixerOptions::None), square(0));
    assert_eq!(reached(MixerOptions::Window { radius: 2 }), square(2), "only the first block has a window");
    assert_eq!(reached(MixerOptions::Cnn { radius: 1 }), square(2), "one more in each block");
}

/// `activation` of the convolution of a picture with the weight `[side², d, d]`, with zeros beyond the edges, in f64.
fn convolution(x: &[f32], weight: &[f32], bias: &[f32], [rows, columns]: [usize; 2], radius: usize) -> Vec<f64> {
    let (d, side) = (D_MODEL, 2 * radius + 1);
    let mut out = Vec::new();
    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
        for to in 0..d {
            let mut sum = f64::from(bias[to]);
            for (down, right) in (0..side).flat_map(|down| (0..side).map(move |right| (down, right))) {
                let (Some(y), Some(z)) = ((row + down).checked_sub(radius), (column + right).checked_sub(radius))
                else {
                    continue;
                };
                if y < rows && z < columns {
                    let (pixel, tap) = (&x[(y * columns + z) * d..][..d], (down * side + right) * d);
                    sum += pixel
                        .iter()
                        .enumerate()
                        .map(|(e, x)| f64::from(*x) * f64::from(weight[(tap + e) * d + to]))
                        .sum::<f64>();
                }
            }
            out.push(sum);
        }
    }
    out
}

#[test]
fn a_window_on_a_grid_is_a_convolution_and_its_gradients_are_its_differences() {
    for (sides, radius) in [([3, 4], 1), ([1, 5], 1), ([4, 4], 2), ([2, 1], 3), ([1, 1], 1)] {
        let window = WindowLinear::new(D_MODEL, radius, GEOMETRY, Activation::Identity, &Init::new(3, &device()));
        let tokens = sides[0] * sides[1];
        let layout = Layout::with_grids(Offsets::from_lengths([tokens]), vec![Grid::new(sides[0], sides[1])]);
        let x = random([tokens, D_MODEL], 1).require_grad();
        let d_out = random([tokens, D_MODEL], 2);
        let out = window.forward(x.clone(), &layout);
        let grads = (out.clone() * d_out.clone()).sum().backward();
        let [weight, bias] = [0, 1].map(|n| parameters(&window).remove(n).1);
        let (x_values, d_out) = (values(x.clone()), values(d_out));
        let expected = convolution(&x_values, &weight, &bias, sides, radius);
        assert_eq!(expected.len(), tokens * D_MODEL);
        for (found, expected) in values(out).iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{found}, not {expected}: {sides:?}, radius {radius}");
        }
        let loss = |x: &[f32], weight: &[f32]| -> f64 {
            let out = convolution(x, weight, &bias, sides, radius);
            out.iter().zip(&d_out).map(|(out, d)| out * f64::from(*d)).sum()
        };
        // The loss is linear in each of both: a step of any size will do.
        let here = loss(&x_values, &weight);
        let check = |gradient: Vec<f32>, every: usize, at: &dyn Fn(usize) -> f64| {
            for (n, found) in gradient.into_iter().enumerate().step_by(every) {
                let difference = at(n) - here;
                assert!((f64::from(found) - difference).abs() < 2e-5, "{n}: {found}, not {difference}");
            }
        };
        let moved = |numbers: &[f32], n: usize| {
            let mut numbers = numbers.to_vec();
            numbers[n] += 1.0;
            numbers
        };
        check(values(x.grad(&grads).expect("x")), 1, &|n| loss(&moved(&x_values, n), &weight));
        let of_weight = gradients(&window, &grads).remove(0).1;
        check(of_weight, 37, &|n| loss(&x_values, &moved(&weight, n)));
    }
}

#[test]
fn every_layer_and_every_weight_over_a_grid_can_be_looked_at() {
    let layout = Layout::with_grids(Offsets::from_lengths([15]), vec![Grid { first: 1, ..Grid::new(4, 3) }]);
    let x = random([15, D_MODEL], 1);
    for options in grid_options() {
        let encoder = encoder(&options);
        let layer = |layer| values(encoder.forward_to(layer, x.clone(), &layout, &Pass::inference()));
        assert_eq!(layer(0), values(x.clone()));
        assert_eq!(layer(2), values(encoder.forward(x.clone(), &layout, &Pass::inference())));
        let weights = encoder.attention_weights(x.clone(), &layout);
        let attends = matches!(options.mixer, MixerOptions::Attention(_));
        assert_eq!(weights.len(), if attends { 2 } else { 0 });
        let twin = composed(|| encoder.attention_weights(x.clone(), &layout));
        for (weights, twin) in weights.into_iter().zip(twin) {
            assert_eq!(weights.dims(), [2, 15, 15]);
            assert_close(weights, twin, 1e-5);
        }
    }
}

#[test]
fn a_relative_bias_is_in_the_weights() {
    // A bias that is large for the vector below to the left alone.
    let options = SelfAttentionOptions { relative_range: Some(2), ..attention() };
    let attention = SelfAttention::new(D_MODEL, options, GEOMETRY, &Init::new(3, &device()));
    // Query less key is -1 in rows and 1 in columns: bucket (-1 + 2) · 5 + (1 + 2).
    let below_left = 8;
    let attention =
        set(attention, "relative_bias", |n| if n % GEOMETRY.relative_buckets(2) == below_left { 50.0 } else { 0.0 });
    let layout = Layout::with_grids(Offsets::from_lengths([12]), vec![Grid::new(3, 4)]);
    let weights = values(attention.weights(random([12, D_MODEL], 1), &layout));
    for (row, column) in [(0, 1), (1, 3), (0, 2)] {
        let (query, key) = (row * 4 + column, (row + 1) * 4 + column - 1);
        assert!(weights[query * 12 + key] > 0.999, "row {row}, column {column}");
    }
}

#[test]
fn pooling_does_not_mind_grids() {
    let (with, without) = (layout(), Layout::new(layout().offsets().clone()));
    for kind in [PoolingKind::Mean, PoolingKind::First, PoolingKind::Ends, PoolingKind::Attention { heads: 2 }] {
        let pooling = Pooling::new(kind, D_MODEL, &Init::new(5, &device()));
        let run = |layout| values(pooling.forward(random([TOKENS, D_MODEL], 1), layout));
        assert_eq!(run(&with), run(&without), "{kind:?}");
    }
}

#[test]
fn a_decoder_looks_at_pictures_step_by_step_as_at_once() {
    let causal = SelfAttentionOptions { mask: Mask::Causal { offset: 0 }, ..attention() };
    let cross = CrossAttentionOptions { heads: 2, score: Score::DOT, normalizer: Normalizer::Softmax, dropout: 0.0 };
    let stack = options(MixerOptions::Attention(causal), PositionsOptions::Sinusoidal);
    let decoder = Decoder::new(&DecoderOptions { stack, cross: Some(cross), summary: false }, &Init::new(4, &device()));
    let relative = SelfAttentionOptions { relative_range: Some(2), ..attention() };
    let learned = PositionsOptions::Learned { max_positions: 3 };
    let reader = encoder(&EncoderOptions { geometry: GEOMETRY, ..options(MixerOptions::Attention(relative), learned) });
    let pictures = Layout::with_grids(Offsets::from_lengths([6, 12]), vec![Grid::new(2, 3), Grid::new(4, 3)]);
    let vectors = reader.forward(random([18, D_MODEL], 1), &pictures, &Pass::inference());
    let memory = Memory { vectors, offsets: pictures.offsets().clone(), summary: None };
    let captions = Layout::new(Offsets::from_lengths([3, 3]));
    let x = random([6, D_MODEL], 2);
    let whole = decoder.forward(x.clone(), &captions, Some(&memory), &Pass::inference());
    let mut state = decoder.begin(Some(&memory), 2);
    for place in 0..3 {
        let at =
            |x: &Tensor<2>| Tensor::cat([0, 3].map(|row| x.clone().slice(row + place..row + place + 1)).to_vec(), 0);
        assert_close(decoder.step(at(&x), &mut state), at(&whole), 1e-5);
    }
    // What the caption is judged by reaches what the reader learns of places.
    let grads = (whole * random([6, D_MODEL], 3)).sum().backward();
    for (name, gradient) in gradients(&reader, &grads) {
        let reached = gradient.iter().any(|x| x.abs() > 1e-6);
        assert!(reached || name.ends_with("key.bias"), "{name}: under softmax the gradient of a key's bias alone is 0");
    }
}

#[test]
#[should_panic(expected = "a decoder writes one vector behind the other")]
fn a_decoder_on_grids_is_refused() {
    let stack = EncoderOptions { geometry: GEOMETRY, ..options(MixerOptions::None, PositionsOptions::None) };
    Decoder::new(&DecoderOptions { stack, cross: None, summary: false }, &Init::new(4, &device()));
}

#[test]
fn squares_of_two_by_two_become_their_mean_or_their_largest() {
    let layout = layout();
    let x = random([TOKENS, D_MODEL], 1).require_grad();
    let numbers = values(x.clone());
    let places: Vec<(usize, Place)> = (0..layout.offsets().sets())
        .flat_map(|set| layout.offsets().range(set).map(move |row| (set, row)))
        .zip(layout.places())
        .map(|((set, _), place)| (set, place))
        .collect();
    for pooling in [GridPooling::Mean, GridPooling::Max] {
        let (out, half) = pooling.forward(x.clone(), &layout);
        assert_eq!(half.grids()[0], Grid::new(2, 2));
        assert_eq!(half.grids()[4], Grid::new(3, 1));
        assert_eq!(half.offsets(), &Offsets::from_lengths([4, 7, 4, 0, 3]));
        let sets = (0..half.offsets().sets()).flat_map(|set| half.offsets().range(set).map(move |_| set));
        let mut expected = Vec::new();
        for (set, place) in sets.zip(half.places()) {
            let is_of = |other: Place| match (place, other) {
                (Place::Grid(half), Place::Grid(whole)) => whole.map(|n| n / 2) == half,
                (place, other) => place == other,
            };
            let rows: Vec<usize> = (0..TOKENS).filter(|&row| places[row].0 == set && is_of(places[row].1)).collect();
            expected.extend((0..D_MODEL).map(|e| {
                let of_rows = rows.iter().map(|row| numbers[row * D_MODEL + e]);
                match pooling {
                    GridPooling::Mean => of_rows.sum::<f32>() / rows.len() as f32,
                    GridPooling::Max => of_rows.fold(f32::NEG_INFINITY, f32::max),
                }
            }));
        }
        let expected = Tensor::from_data(TensorData::new(expected, out.dims()), &device());
        assert_close(out, expected, 1e-6);
        let gradient = || {
            let (out, _) = pooling.forward(x.clone(), &layout);
            let grads = (out.clone() * random(out.dims(), 2)).sum().backward();
            x.grad(&grads).expect("the vectors")
        };
        assert_close(gradient(), composed(gradient), 1e-6);
        let (none, left) =
            pooling.forward(Tensor::zeros([0, D_MODEL], &device()), &Layout::new(Offsets::from_lengths([0])));
        assert_eq!((none.dims(), left.offsets().sets()), ([0, D_MODEL], 1));
    }
    // What is largest has the whole gradient, and nothing else has any.
    let (out, _) = GridPooling::Max.forward(x.clone(), &layout);
    let gradient = values(x.grad(&out.clone().sum().backward()).expect("the vectors"));
    assert!(gradient.iter().all(|&g| g == 0.0 || g == 1.0));
    assert_eq!(gradient.iter().filter(|&&g| g == 1.0).count(), values(out).len());
}
