//! A layer of self-attention can be any convolution (Cordonnier, Loukas and Jaggi, 2020, "On the relationship between
//! self-attention and convolutional layers").
//!
//! A convolution with a kernel of `side × side` adds up, over its shifts, what the kernel makes of the vector that lies one shift
//! away: `out_p = b + Σ_shift W_shift · x_{p + shift}`. Attention with as many heads as there are shifts does the same when head
//! `h` looks at the vector one shift away and at nothing else:
//!
//! ```text
//! logits_h[p, k]  = bias_h[p - k]        query and key weights are 0, so nothing but the learned bias of places is left
//! bias_h[d]       = +1000 if d = -shift_h, else -1000
//! weights_h[p, k] = 1 if k = p + shift_h, else 0
//! value_h         = x                    head h takes the channels as they are
//! out_p           = Σ_h W_h · value_h at p + shift_h     the output projection carries the kernel
//! ```
//!
//! Here `d_model = side² · channels`, so that a head is as wide as the picture has channels: these stand in the first elements of a
//! vector, zeros in the others. The convolution goes from `channels` to any number up to `d_model`; it goes to all of them.
//!
//! What is exact, and what is not:
//!
//! - *The weights are exactly 0 and 1*: e^-2000 is no f32. What differs from a convolution in f64 is the rounding of its sums.
//! - *The range of the bias is one more than the radius.* Distances beyond the range share the bucket of the range, so with a range
//!   of 1 the head for the vector above would look at all vectors above.
//! - *At the edges of the picture* the vector that a head looks for may not be there. The softmax must then give its weight of 1 to
//!   something, and gives it to all vectors alike: it equals the convolution where the whole kernel lies inside the picture, and
//!   nowhere else. There are two ways to have the zeros that a convolution pads with. One is to pad the set: a border of zero
//!   vectors, whose results are not looked at. The other is to let a head look at nothing, with weights of
//!   `exp(logit) / (1 + Σ exp(logit))`, [`Normalizer::SoftmaxPlusOne`]: e^1000 / (1 + e^1000) is 1, and where all logits are -1000
//!   all weights are 0. Then attention is the convolution everywhere.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use qkv::options::{Mask, Normalizer};
use qkv::{Key, Offsets};
use qkv_nn::attention::{Grid, Layout, Score};
use qkv_nn::composed;
use qkv_nn::layers::{Geometry, Init, Pass, SelfAttention, SelfAttentionOptions};

const GEOMETRY: Geometry = Geometry::Grid { max_rows: 1, max_columns: 1 };

/// A convolution with as many channels out as a vector of the attention has elements.
struct Convolution {
    radius: usize,
    channels: usize,
    /// `[shifts, channels, d_model]`, shifts by rows, then by columns.
    kernel: Vec<f32>,
    /// `[d_model]`.
    bias: Vec<f32>,
}

fn random(len: usize, seed: u64) -> Vec<f32> {
    let key = Key::new(seed);
    (0..len as u64).map(|n| key.normal(n)).collect()
}

impl Convolution {
    fn new(radius: usize, channels: usize) -> Self {
        let shifts = (2 * radius + 1) * (2 * radius + 1);
        let d_model = shifts * channels;
        Self { radius, channels, kernel: random(shifts * channels * d_model, 1), bias: random(d_model, 2) }
    }

    fn shifts(&self) -> usize {
        (2 * self.radius + 1) * (2 * self.radius + 1)
    }

    fn d_model(&self) -> usize {
        self.shifts() * self.channels
    }

    /// Of a picture `[rows, columns, channels]`, with zeros beyond its edges, in f64: `[rows, columns, d_model]`.
    fn forward(&self, picture: &[f32], rows: usize, columns: usize) -> Vec<f64> {
        let (side, radius, channels, d) = (2 * self.radius + 1, self.radius, self.channels, self.d_model());
        let mut out = Vec::with_capacity(rows * columns * d);
        for row in 0..rows {
            for column in 0..columns {
                let mut sums: Vec<f64> = self.bias.iter().map(|&x| f64::from(x)).collect();
                for shift in 0..side * side {
                    let (y, x) = (row + shift / side, column + shift % side);
                    if y < radius || x < radius || y - radius >= rows || x - radius >= columns {
                        continue;
                    }
                    let pixel = &picture[((y - radius) * columns + x - radius) * channels..][..channels];
                    for (channel, &pixel) in pixel.iter().enumerate() {
                        let taps = &self.kernel[(shift * channels + channel) * d..][..d];
                        for (sum, &tap) in sums.iter_mut().zip(taps) {
                            *sum += f64::from(pixel) * f64::from(tap);
                        }
                    }
                }
                out.extend(sums);
            }
        }
        out
    }

    /// The layer of attention that is this convolution.
    fn attention(&self, normalizer: Normalizer) -> SelfAttention {
        let options = SelfAttentionOptions {
            heads: self.shifts(),
            score: Score::DOT,
            normalizer,
            mask: Mask::Full,
            rotary: false,
            relative_range: Some(self.radius + 1),
            dropout: 0.0,
        };
        let layer = SelfAttention::new(self.d_model(), options, GEOMETRY, &Init::new(3, &Device::flex()));
        layer.map(&mut ByHand { of: self, path: Vec::new() })
    }

    /// The bias of each head, `[heads, buckets]`: what a query sees at its shift stands at minus the shift, query less key.
    fn relative_bias(&self) -> Vec<f32> {
        let (side, range) = (2 * self.radius + 1, self.radius + 1);
        let bucket = |shift: usize| {
            let minus = |shift: usize| self.radius + range - shift;
            minus(shift / side) * (2 * range + 1) + minus(shift % side)
        };
        let of_head = |shift| {
            let buckets = 0..GEOMETRY.relative_buckets(range);
            buckets.map(move |n| if n == bucket(shift) { 1000.0 } else { -1000.0 })
        };
        (0..side * side).flat_map(of_head).collect()
    }
}

/// Sets the parameters of a layer of attention.
struct ByHand<'a> {
    of: &'a Convolution,
    path: Vec<String>,
}

impl ModuleMapper for ByHand<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (d, channels) = (self.of.d_model(), self.of.channels);
        let numbers = match self.path.join(".").as_str() {
            "query.weight" | "key.weight" => vec![0.0; d * d],
            // Element `h · channels + c` of the values is channel `c`, for each head `h`.
            "value.weight" => (0..d * d).map(|n| if n / d == n % d % channels { 1.0 } else { 0.0 }).collect(),
            "output.weight" => self.of.kernel.clone(),
            "query.bias" | "key.bias" | "value.bias" => vec![0.0; d],
            "output.bias" => self.of.bias.clone(),
            "relative_bias" => self.of.relative_bias(),
            name => panic!("what is {name}?"),
        };
        param.map(|before| Tensor::from_data(TensorData::new(numbers, before.dims()), &before.device()))
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

/// The sides of three pictures of one batch; the last is smaller than a kernel.
const SIDES: [[usize; 2]; 3] = [[6, 7], [5, 9], [2, 1]];

/// A picture `[rows, columns, channels]`.
fn picture([rows, columns]: [usize; 2], channels: usize) -> Vec<f32> {
    random(rows * columns * channels, (10 * rows + columns) as u64)
}

/// What attention makes of pictures, each `[rows, columns, d_model]`.
fn attend(
    layer: &SelfAttention,
    d_model: usize,
    channels: usize,
    pictures: &[([usize; 2], Vec<f32>)],
) -> Vec<Vec<f32>> {
    let pixels = pictures.iter().flat_map(|(_, picture)| picture.chunks_exact(channels));
    let zeros = vec![0.0; d_model - channels];
    let x: Vec<f32> = pixels.flat_map(|pixel| pixel.iter().chain(&zeros).copied()).collect();
    let lengths = pictures.iter().map(|([rows, columns], _)| rows * columns);
    let grids = pictures.iter().map(|&([rows, columns], _)| Grid::new(rows, columns)).collect();
    let layout = Layout::with_grids(Offsets::from_lengths(lengths), grids);
    let shape = [layout.offsets().tokens(), d_model];
    let x = Tensor::from_data(TensorData::new(x, shape), &Device::flex());
    let out: Vec<f32> = layer.forward(x, &layout, &Pass::inference()).into_data().try_to_vec().expect("f32");
    (0..pictures.len())
        .map(|set| out[layout.offsets().range(set).start * d_model..layout.offsets().range(set).end * d_model].to_vec())
        .collect()
}

/// How far from a convolution each pixel is, relative to the largest number, `[rows, columns]`.
fn apart(found: &[f32], expected: &[f64], d_model: usize) -> Vec<f64> {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    let pixels = found.chunks_exact(d_model).zip(expected.chunks_exact(d_model));
    pixels
        .map(|(found, expected)| {
            found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max) / largest
        })
        .collect()
}

/// Rounding: up to 3e-7 was seen.
const ROUNDING: f64 = 1e-6;

#[test]
fn with_a_head_that_may_look_at_nothing_attention_is_the_convolution() {
    for (radius, channels) in [(1, 3), (2, 2), (1, 1)] {
        let convolution = Convolution::new(radius, channels);
        let d_model = convolution.d_model();
        let layer = convolution.attention(Normalizer::SoftmaxPlusOne);
        let pictures = SIDES.map(|sides| (sides, picture(sides, channels)));
        let fused = attend(&layer, d_model, channels, &pictures);
        let twin = composed(|| attend(&layer, d_model, channels, &pictures));
        for (n, ([rows, columns], picture)) in pictures.iter().enumerate() {
            let expected = convolution.forward(picture, *rows, *columns);
            for found in [&fused[n], &twin[n]] {
                let worst = apart(found, &expected, d_model).into_iter().fold(0.0, f64::max);
                assert!(worst < ROUNDING, "{rows} × {columns}, radius {radius}: {worst}");
            }
        }
    }
}

#[test]
fn with_the_softmax_attention_is_the_convolution_inside_the_picture() {
    for (radius, channels) in [(1, 3), (2, 2)] {
        let convolution = Convolution::new(radius, channels);
        let d_model = convolution.d_model();
        let layer = convolution.attention(Normalizer::Softmax);
        let pictures = SIDES.map(|sides| (sides, picture(sides, channels)));
        let found = attend(&layer, d_model, channels, &pictures);
        for (([rows, columns], picture), found) in pictures.iter().zip(&found) {
            let expected = convolution.forward(picture, *rows, *columns);
            for (n, apart) in apart(found, &expected, d_model).into_iter().enumerate() {
                let inside = |at: usize, count: usize| at >= radius && at + radius < count;
                if inside(n / columns, *rows) && inside(n % columns, *columns) {
                    assert!(apart < ROUNDING, "pixel {n} of {rows} × {columns}, radius {radius}: {apart}");
                } else {
                    assert!(apart > 1e-3, "at an edge the softmax looks at something: pixel {n} of {rows} × {columns}");
                }
            }
        }
    }
}

#[test]
fn with_the_softmax_and_a_border_of_zeros_attention_is_the_convolution() {
    for (radius, channels) in [(1, 3), (2, 2)] {
        let convolution = Convolution::new(radius, channels);
        let d_model = convolution.d_model();
        let layer = convolution.attention(Normalizer::Softmax);
        for [rows, columns] in SIDES {
            let picture = picture([rows, columns], channels);
            let (high, wide) = (rows + 2 * radius, columns + 2 * radius);
            let mut bordered = vec![0.0; high * wide * channels];
            for (row, pixels) in picture.chunks_exact(columns * channels).enumerate() {
                bordered[((row + radius) * wide + radius) * channels..][..pixels.len()].copy_from_slice(pixels);
            }
            let all = attend(&layer, d_model, channels, &[([high, wide], bordered)]).remove(0);
            let rows_of_picture = all.chunks_exact(wide * d_model).skip(radius).take(rows);
            let found: Vec<f32> =
                rows_of_picture.flat_map(|row| &row[radius * d_model..][..columns * d_model]).copied().collect();
            let expected = convolution.forward(&picture, rows, columns);
            let worst = apart(&found, &expected, d_model).into_iter().fold(0.0, f64::max);
            assert!(worst < ROUNDING, "{rows} × {columns}, radius {radius}: {worst}");
        }
    }
}
