//! Variations of a picture that do not change what it shows, drawn anew each time that training sees it.
//!
//! ```text
//! geometry   source = centre + R(-angle) (place - centre - shift) / scale, and mirrored if it was flipped
//! light      value' = mean + contrast (value - mean) + brightness, kept within 0 and 255
//! cover      a rectangle somewhere, of the mean colour of the data
//! ```
//!
//! Where the source lies outside, the nearest pixel of the border is taken, so that a background goes on as it is. Between
//! pixels a picture is interpolated linearly, a mask takes the nearest pixel; both by the same draws.

use qkv::random::Key;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How far a picture may be changed; by default not at all. Every change is drawn for each picture and each time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AugmentOptions {
    /// By up to so many pixels to each side, whole ones, so that a picture that is only shifted stays sharp.
    pub shift: usize,
    /// Turned by up to so many degrees either way.
    pub rotate: f32,
    /// Made up to `1 + scale` times as large, or as many times smaller.
    pub scale: f32,
    /// Mirrored, left to right, every second time. Not for digits and letters.
    pub flip: bool,
    /// Lighter or darker by up to this share of the whole range.
    pub brightness: f32,
    /// Contrast from `1 - contrast` to `1 + contrast` times what it was.
    pub contrast: f32,
    /// A rectangle somewhere is covered, each of its sides up to this share of the picture's.
    pub erase: f32,
}

/// The draws of one picture.
const SHIFT_X: u64 = 0;
const SHIFT_Y: u64 = 1;
const ROTATE: u64 = 2;
const SCALE: u64 = 3;
const FLIP: u64 = 4;
const BRIGHTNESS: u64 = 5;
const CONTRAST: u64 = 6;
const ERASE: u64 = 7;

impl AugmentOptions {
    /// Refuses what cannot be meant.
    ///
    /// # Errors
    ///
    /// A number that is negative, not finite or above what it is a share of: 180 degrees, a scale of 10 and 1 for the others;
    /// a shift of more than 65536 pixels.
    pub fn check(&self) -> Result<()> {
        let bounded = [
            ("rotate", self.rotate, 180.0),
            ("scale", self.scale, 10.0),
            ("brightness", self.brightness, 1.0),
            ("contrast", self.contrast, 1.0),
            ("erase", self.erase, 1.0),
            ("shift", self.shift as f32, 65536.0),
        ];
        for (name, given, most) in bounded {
            if !(0.0..=most).contains(&given) {
                let mend = format!("give a number from 0 to {most}; 0 leaves it out");
                return Err(Error::unusable(&format!("augment.{name}"), format!("{given} is out of range"), mend));
            }
        }
        Ok(())
    }

    /// Whether nothing is ever changed.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Where each pixel of a varied picture comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Warp {
    height: usize,
    width: usize,
    shift: (isize, isize),
    flip: bool,
    /// Cosine and sine of the angle, both divided by the scale, unless it is neither turned nor scaled.
    turn: Option<(f32, f32)>,
}

/// One row of places in the source.
enum Place {
    Whole(usize, usize),
    Between(f32, f32),
}

impl Warp {
    pub(super) fn draw(options: &AugmentOptions, key: Key, height: usize, width: usize) -> Self {
        let both = |index| 2.0 * key.uniform(index) - 1.0;
        let shift = |index| {
            let choices = 2 * options.shift as u64 + 1;
            ((u64::from(key.bits(index)) * choices) >> 32) as isize - options.shift as isize
        };
        let turn = (options.rotate > 0.0 || options.scale > 0.0).then(|| {
            let (sine, cosine) = (options.rotate.to_radians() * both(ROTATE)).sin_cos();
            let scale = (1.0 + options.scale).powf(both(SCALE));
            (cosine / scale, sine / scale)
        });
        let flip = options.flip && key.uniform(FLIP) < 0.5;
        Self { height, width, shift: (shift(SHIFT_Y), shift(SHIFT_X)), flip, turn }
    }

    /// Where pixel (`y`, `x`) comes from, within the picture.
    fn source(&self, y: usize, x: usize) -> Place {
        let (rows, columns) = (self.height as isize - 1, self.width as isize - 1);
        let mirrored = |x: f32| if self.flip { columns as f32 - x } else { x };
        let (down, right) = (y as isize - self.shift.0, x as isize - self.shift.1);
        let Some((cosine, sine)) = self.turn else {
            let right = right.clamp(0, columns);
            let right = if self.flip { columns - right } else { right };
            return Place::Whole(down.clamp(0, rows) as usize, right as usize);
        };
        let (middle_y, middle_x) = (rows as f32 / 2.0, columns as f32 / 2.0);
        let (down, right) = (down as f32 - middle_y, right as f32 - middle_x);
        let source_x = (cosine * right + sine * down + middle_x).clamp(0.0, columns as f32);
        let source_y = (cosine * down - sine * right + middle_y).clamp(0.0, rows as f32);
        Place::Between(source_y, mirrored(source_x))
    }

    /// The picture `[height, width, channels]` as it is seen, in the same numbers, added to `out`.
    pub(super) fn picture(&self, pixels: &[u8], channels: usize, out: &mut Vec<f32>) {
        let at = |y: usize, x: usize| &pixels[(y * self.width + x) * channels..][..channels];
        for y in 0..self.height {
            for x in 0..self.width {
                match self.source(y, x) {
                    Place::Whole(y, x) => out.extend(at(y, x).iter().map(|&value| f32::from(value))),
                    Place::Between(y, x) => {
                        let (top, left) = (y as usize, x as usize);
                        let (below, beside) = (y - top as f32, x - left as f32);
                        let (bottom, right) = ((top + 1).min(self.height - 1), (left + 1).min(self.width - 1));
                        let corners = [at(top, left), at(top, right), at(bottom, left), at(bottom, right)];
                        out.extend((0..channels).map(|channel| {
                            let [a, b, c, d] = corners.map(|pixel| f32::from(pixel[channel]));
                            let (upper, lower) = (a + beside * (b - a), c + beside * (d - c));
                            upper + below * (lower - upper)
                        }));
                    }
                }
            }
        }
    }

    /// The mask `[height, width]` as it is seen, added to `out`.
    pub(super) fn mask(&self, pixels: &[u8], out: &mut Vec<u8>) {
        for y in 0..self.height {
            out.extend((0..self.width).map(|x| {
                let (y, x) = match self.source(y, x) {
                    Place::Whole(y, x) => (y, x),
                    Place::Between(y, x) => ((y + 0.5) as usize, (x + 0.5) as usize),
                };
                pixels[y * self.width + x]
            }));
        }
    }
}

/// Makes `values`, from 0 to 255, lighter or darker and harder or softer.
pub(super) fn light(options: &AugmentOptions, key: Key, values: &mut [f32]) {
    if options.brightness == 0.0 && options.contrast == 0.0 {
        return;
    }
    let both = |index| 2.0 * key.uniform(index) - 1.0;
    let (contrast, brightness) =
        (1.0 + options.contrast * both(CONTRAST), 255.0 * options.brightness * both(BRIGHTNESS));
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
    let added = mean as f32 * (1.0 - contrast) + brightness;
    values.iter_mut().for_each(|value| *value = (contrast * *value + added).clamp(0.0, 255.0));
}

/// The rectangle that is covered, if one is: its rows and its columns.
pub(super) fn covered(
    options: &AugmentOptions,
    key: Key,
    height: usize,
    width: usize,
) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let side = |length: usize, index: u64| {
        let covered = ((length as f32 * options.erase * key.uniform(index)).round() as usize).min(length);
        let first = ((u64::from(key.bits(index + 1)) * (length - covered + 1) as u64) >> 32) as usize;
        first..first + covered
    };
    (options.erase > 0.0).then(|| (side(height, ERASE), side(width, ERASE + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEIGHT: usize = 5;
    const WIDTH: usize = 7;

    fn numbered() -> Vec<u8> {
        (0..(HEIGHT * WIDTH) as u8).collect()
    }

    fn warped(warp: &Warp) -> Vec<f32> {
        let mut out = Vec::new();
        warp.picture(&numbered(), 1, &mut out);
        out
    }

    fn still() -> Warp {
        Warp { height: HEIGHT, width: WIDTH, shift: (0, 0), flip: false, turn: None }
    }

    #[test]
    fn a_shift_moves_whole_pixels_and_repeats_the_border() {
        let out = warped(&Warp { shift: (1, -2), ..still() });
        let at = |y: usize, x: usize| out[y * WIDTH + x];
        // One down and two to the left: what is at (y, x) was at (y - 1, x + 2).
        assert_eq!((at(1, 0), at(4, 4), at(0, 0)), (2.0, (3 * WIDTH + 6) as f32, 2.0));
        assert_eq!(at(2, 6), (WIDTH + 6) as f32);
    }

    #[test]
    fn a_flip_mirrors_left_and_right_with_and_without_a_turn() {
        let mirrored: Vec<f32> =
            (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (y * WIDTH + WIDTH - 1 - x) as f32)).collect();
        assert_eq!(warped(&Warp { flip: true, ..still() }), mirrored);
        assert_eq!(warped(&Warp { flip: true, turn: Some((1.0, 0.0)), ..still() }), mirrored);
    }

    #[test]
    fn a_quarter_turn_puts_the_right_side_where_its_sine_says() {
        let square: Vec<u8> = (0..9).collect();
        let quarter = Warp { height: 3, width: 3, shift: (0, 0), flip: false, turn: Some((0.0, 1.0)) };
        let mut out = Vec::new();
        quarter.picture(&square, 1, &mut out);
        assert_eq!(out, [6.0, 3.0, 0.0, 7.0, 4.0, 1.0, 8.0, 5.0, 2.0], "clockwise, rows counting downwards");
        let mut mask = Vec::new();
        quarter.mask(&square, &mut mask);
        assert_eq!(mask, [6, 3, 0, 7, 4, 1, 8, 5, 2]);
    }

    #[test]
    fn twice_as_large_is_interpolated_between_pixels() {
        let twice = Warp { height: 1, width: 3, shift: (0, 0), flip: false, turn: Some((0.5, 0.0)) };
        let mut out = Vec::new();
        twice.picture(&[0, 100, 200], 1, &mut out);
        assert_eq!(out, [50.0, 100.0, 150.0]);
    }

    #[test]
    fn mask_and_picture_are_changed_alike() {
        let options = AugmentOptions { shift: 2, rotate: 30.0, scale: 0.3, flip: true, ..AugmentOptions::default() };
        // Even halves: away from the edge between them a mask must be what the picture is.
        let halves: Vec<u8> = (0..32 * 32).map(|place| if place % 32 < 16 { 0 } else { 200 }).collect();
        for draw in 0..50 {
            let warp = Warp::draw(&options, Key::new(draw), 32, 32);
            let (mut picture, mut mask) = (Vec::new(), Vec::new());
            warp.picture(&halves, 1, &mut picture);
            warp.mask(&halves, &mut mask);
            for (value, label) in picture.iter().zip(&mask) {
                assert!((value - f32::from(*label)).abs() <= 100.01, "{value} under {label}");
            }
            let sharp = picture.iter().filter(|&&value| value == 0.0 || value == 200.0).count();
            assert!(sharp > 900, "{sharp}");
        }
    }

    #[test]
    fn draws_stay_within_what_was_asked() {
        let options = AugmentOptions { shift: 3, erase: 0.5, flip: true, ..AugmentOptions::default() };
        let draws = (0..2000).map(|draw| Warp::draw(&options, Key::new(7).fold(draw), 20, 30));
        let (mut flips, mut shifts) = (0, std::collections::BTreeMap::new());
        for warp in draws {
            flips += usize::from(warp.flip);
            *shifts.entry(warp.shift.0).or_insert(0) += 1;
        }
        assert!((900..1100).contains(&flips), "{flips}");
        assert_eq!(shifts.keys().copied().collect::<Vec<_>>(), [-3, -2, -1, 0, 1, 2, 3]);
        assert!(shifts.values().all(|count| (200..380).contains(count)), "{shifts:?}");
        for draw in 0..500 {
            let (rows, columns) = covered(&options, Key::new(draw), 20, 30).unwrap();
            assert!(rows.end <= 20 && columns.end <= 30 && rows.len() <= 10 && columns.len() <= 15);
        }
    }

    #[test]
    fn light_keeps_the_mean_under_contrast_and_the_range_under_both() {
        let contrast = AugmentOptions { contrast: 0.5, ..AugmentOptions::default() };
        let mut values = vec![100.0, 120.0, 140.0];
        light(&contrast, Key::new(1), &mut values);
        assert!((values[1] - 120.0).abs() < 1e-4 && (values[0] + values[2] - 240.0).abs() < 1e-3, "{values:?}");
        assert!(values[0] != 100.0);
        let both = AugmentOptions { contrast: 1.0, brightness: 1.0, ..AugmentOptions::default() };
        for draw in 0..100 {
            let mut values = vec![0.0, 60.0, 255.0];
            light(&both, Key::new(draw), &mut values);
            assert!(values.iter().all(|value| (0.0..=255.0).contains(value)));
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        let wrong = [
            AugmentOptions { rotate: -1.0, ..AugmentOptions::default() },
            AugmentOptions { rotate: f32::NAN, ..AugmentOptions::default() },
            AugmentOptions { erase: 1.5, ..AugmentOptions::default() },
            AugmentOptions { shift: 1 << 20, ..AugmentOptions::default() },
        ];
        for (options, name) in wrong.iter().zip(["rotate", "rotate", "erase", "shift"]) {
            assert!(options.check().unwrap_err().to_string().starts_with(&format!("augment.{name}: ")));
        }
        assert!(AugmentOptions::default().check().is_ok() && AugmentOptions::default().is_none());
    }
}
