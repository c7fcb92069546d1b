//! The pixels of `builtin:scenes`.
//!
//! All arithmetic is sums, products and quotients, so that a scene is the same picture on every machine.

use qkv::random::Key;

use super::homographs::Dice;
use super::scenes::{LATTICE, SCENE_COLOURS, SceneObject};
use crate::image::{Colour, Picture};

/// The colours of [`SCENE_COLOURS`], before their shade is drawn.
const PAINT: [[f64; 3]; SCENE_COLOURS.len()] = [
    [215.0, 45.0, 45.0],
    [50.0, 175.0, 70.0],
    [60.0, 90.0, 225.0],
    [225.0, 205.0, 55.0],
    [165.0, 65.0, 190.0],
    [225.0, 225.0, 225.0],
];

/// Lengths are of a picture of 32 pixels to a side and grow with it.
const UNIT_SIZE: f64 = 32.0;
/// Half of a shape's width, from and to.
const RADIUS: (f64, f64) = (3.3, 4.0);
/// How far a shape may be from the middle of its cell, along each axis. Cells are 32/3 apart, so that the middles of two
/// shapes are at least 9.6 apart; two turned shapes of radius 4, reaching 1.04 times as far, leave 1.3 between them, and a
/// whole pixel in the smallest picture.
const JITTER: f64 = 0.5;
/// How far a shape may be turned, in radians.
const TURN: f64 = 0.17;
/// The grey that a background may have, from and to; how far each of its channels may be from that; and how much it may
/// change from one side to the other.
const BACKGROUND: (f64, f64) = (15.0, 75.0);
const TINT: f64 = 15.0;
const SLOPE: f64 = 20.0;
/// How far a channel of a colour may be from [`PAINT`], and the darkest that it may be as a share of it.
const SHADE: f64 = 15.0;
const DARKEST: f64 = 0.85;
/// How far each number of each pixel may be from what it should be.
const NOISE: f64 = 10.0;
/// Samples to a side of a pixel, to tell how much of it a shape covers.
const SAMPLES: usize = 4;

/// The picture of a layout, and the class of each pixel.
pub(super) fn draw(objects: &[SceneObject], size: usize, key: Key) -> (Picture, Vec<u8>) {
    let mut dice = Dice::new(key.fold(0));
    let mut canvas = background(size, &mut dice);
    let mut mask = vec![0; size * size];
    for object in objects {
        let drawn = Drawn::new(object, size, &mut dice);
        for y in drawn.rows.clone() {
            for x in drawn.columns.clone() {
                let covered = drawn.samples(x, y);
                let share = covered as f64 / (SAMPLES * SAMPLES) as f64;
                let pixel = &mut canvas[y * size + x];
                *pixel =
                    std::array::from_fn(|channel| pixel[channel] + share * (drawn.paint[channel] - pixel[channel]));
                if 2 * covered >= SAMPLES * SAMPLES {
                    mask[y * size + x] = 1 + object.shape as u8;
                }
            }
        }
    }
    (with_noise(&canvas, size, key.fold(1)), mask)
}

/// A number from −1 to 1.
fn either_way(dice: &mut Dice) -> f64 {
    2.0 * dice.uniform() - 1.0
}

fn between((low, high): (f64, f64), dice: &mut Dice) -> f64 {
    low + (high - low) * dice.uniform()
}

/// A dark plane, lighter to one side.
fn background(size: usize, dice: &mut Dice) -> Vec<[f64; 3]> {
    let grey = between(BACKGROUND, dice);
    let base = [0; 3].map(|_| grey + TINT * either_way(dice));
    let (across, down) = (SLOPE * either_way(dice), SLOPE * either_way(dice));
    let place = |at: usize| (at as f64 + 0.5) / size as f64 - 0.5;
    let pixel = |y: usize, x: usize| base.map(|level| level + across * place(x) + down * place(y));
    (0..size).flat_map(|y| (0..size).map(move |x| (y, x))).map(|(y, x)| pixel(y, x)).collect()
}

fn with_noise(canvas: &[[f64; 3]], size: usize, key: Key) -> Picture {
    let noisy = |(place, pixel): (usize, &[f64; 3])| {
        let drawn = key.bits(place as u64).to_le_bytes();
        std::array::from_fn::<u8, 3, _>(|channel| {
            let noise = NOISE * (f64::from(drawn[channel]) - 127.5) / 127.5;
            (pixel[channel] + noise + 0.5).clamp(0.0, 255.0) as u8
        })
    };
    let pixels = canvas.iter().enumerate().flat_map(noisy).collect();
    // A size that was checked, and three numbers for each pixel.
    Picture::new(size, size, Colour::Rgb, pixels).expect("a scene is a picture")
}

/// A shape in its place.
struct Drawn {
    shape: usize,
    centre: (f64, f64),
    radius: f64,
    /// Cosine and sine of the angle.
    turn: (f64, f64),
    paint: [f64; 3],
    /// The pixels that it may touch.
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl Drawn {
    fn new(object: &SceneObject, size: usize, dice: &mut Dice) -> Self {
        let unit = size as f64 / UNIT_SIZE;
        let middle = |cell: usize, dice: &mut Dice| {
            (cell as f64 + 0.5) * size as f64 / LATTICE as f64 + JITTER * unit * either_way(dice)
        };
        let centre = (middle(object.column, dice), middle(object.row, dice));
        let radius = between(RADIUS, dice) * unit;
        let angle = TURN * either_way(dice);
        // The first terms of their series: the next are below a millionth for so small an angle.
        let square = angle * angle;
        let turn = (1.0 - square / 2.0 + square * square / 24.0, angle * (1.0 - square / 6.0));
        let light = between((DARKEST, 1.0), dice);
        let paint = PAINT[object.colour].map(|level| light * (level + SHADE * either_way(dice)));
        let range = |middle: f64| {
            let reach = 1.25 * radius;
            (middle - reach).max(0.0) as usize..((middle + reach) as usize + 1).min(size)
        };
        Self { shape: object.shape, centre, radius, turn, paint, rows: range(centre.1), columns: range(centre.0) }
    }

    /// How many samples of a pixel the shape covers.
    fn samples(&self, x: usize, y: usize) -> usize {
        let at = |pixel: usize, sample: usize| pixel as f64 + (sample as f64 + 0.5) / SAMPLES as f64;
        let all = (0..SAMPLES * SAMPLES).map(|sample| (at(x, sample % SAMPLES), at(y, sample / SAMPLES)));
        all.filter(|&(x, y)| self.holds(x, y)).count()
    }

    /// Whether a place is in the shape.
    fn holds(&self, x: f64, y: f64) -> bool {
        let (right, down) = ((x - self.centre.0) / self.radius, (y - self.centre.1) / self.radius);
        let (cosine, sine) = self.turn;
        let (u, v) = (cosine * right + sine * down, cosine * down - sine * right);
        match self.shape {
            0 => u * u + v * v <= 1.0,
            1 => u.abs().max(v.abs()) <= 0.86,
            // From one corner at the top to a base 1.75 below it.
            2 => v <= 0.75 && u.abs() <= 0.92 * (v + 1.0) / 1.75,
            _ => u.abs().max(v.abs()) <= 1.0 && u.abs().min(v.abs()) <= 0.34,
        }
    }
}
