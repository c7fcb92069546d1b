//! `builtin:scenes`: small pictures of one to three shapes, with what each picture shows in words, the shape that each pixel
//! belongs to, and a question with an answer of one word.
//!
//! A scene is a *layout*, from one to three shapes with their colours in the cells of a lattice of 3 × 3, and what makes two
//! pictures of one layout differ: where in its cell, how large, how much turned, the shade of each colour, the background
//! and noise. Words, question and answer are functions of the layout.
//!
//! The layout alone, whatever the seed, says which part a scene is of, so no two parts share a picture, nor two that differ
//! in place, size and shade only.
//!
//! Here belongs what is drawn by lot; pixels are in [`scenes_draw`](super::scenes_draw), words in
//! [`scenes_words`](super::scenes_words).

use std::collections::{BTreeMap, HashMap};

use qkv::random::Key;
use rayon::prelude::*;

use super::Part;
use super::homographs::Dice;
use super::scenes_draw::draw;
use super::scenes_words::{Wanted, describe};
use crate::error::{Error, Result};
use crate::image::Picture;

/// The shapes.
pub const SCENE_SHAPES: [&str; 4] = ["circle", "square", "triangle", "cross"];

/// The colours.
pub const SCENE_COLOURS: [&str; 6] = ["red", "green", "blue", "yellow", "purple", "white"];

/// What a pixel may belong to: nothing, or a shape.
///
/// The shape and not its colour: a pixel's colour can be seen in the pixel, its shape only in what is around it, which is
/// what a model of sets is asked for.
pub const SCENE_CLASSES: [&str; 5] = ["background", "circle", "square", "triangle", "cross"];

/// Cells to a side.
pub(super) const LATTICE: usize = 3;

/// The most shapes in a scene.
const MOST_SHAPES: usize = 3;

/// Keeps the hash that parts scenes apart from everything that is drawn.
const PARTING: u64 = 0x5ce_4e5;

/// Which scenes are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SceneOptions {
    /// Pixels to a side, from 24 to 512; everything in a picture grows with it. At 32 a shape is 6 to 8 pixels wide.
    pub size: usize,
    /// How many scenes there are to learn from.
    pub train: usize,
    /// How many choose the best of a model's states.
    pub dev: usize,
    /// How many a model is judged by.
    pub test: usize,
    /// Scene i of a part is a function of the seed, the part and i: more scenes leave the first as they were.
    pub seed: u64,
}

impl Default for SceneOptions {
    fn default() -> Self {
        Self { size: 32, train: 20_000, dev: 1000, test: 1000, seed: 1 }
    }
}

impl SceneOptions {
    /// How many scenes a part has.
    #[must_use]
    pub fn count(&self, part: Part) -> usize {
        match part {
            Part::Train => self.train,
            Part::Dev => self.dev,
            Part::Test => self.test,
        }
    }
}

/// One shape of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SceneObject {
    /// The row of the lattice, from the top.
    pub row: usize,
    /// The column, from the left.
    pub column: usize,
    /// Which of [`SCENE_SHAPES`].
    pub shape: usize,
    /// Which of [`SCENE_COLOURS`].
    pub colour: usize,
}

/// A picture and what there is to be said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// The layout, row by row from the top left.
    pub objects: Vec<SceneObject>,
    /// The layout in words, `a red circle above a blue square, which is left of a green cross`: the shapes row by row from
    /// the top left, and how each stands to the next. It is above it if it is at least as many rows above as columns aside,
    /// and otherwise left or right of it.
    pub description: String,
    /// A question that the picture decides.
    pub question: String,
    /// Its one answer, one word.
    pub answer: String,
    /// The picture, RGB.
    pub picture: Picture,
    /// Which of [`SCENE_CLASSES`] each pixel is of, `[size, size]`: a shape where it covers half of the pixel.
    pub mask: Vec<u8>,
}

/// The scenes of one part, in order, the same with any number of threads.
///
/// # Errors
///
/// A size of fewer than 24 or more than 512 pixels.
pub fn scenes(options: &SceneOptions, part: Part) -> Result<Vec<Scene>> {
    check(options)?;
    Ok((0..options.count(part)).into_par_iter().map(|index| made(options, part, index)).collect())
}

/// One scene; there is one for every index.
///
/// # Errors
///
/// As [`scenes`].
pub fn scene(options: &SceneOptions, part: Part, index: usize) -> Result<Scene> {
    check(options)?;
    Ok(made(options, part, index))
}

pub(super) fn check(options: &SceneOptions) -> Result<()> {
    if (24..=512).contains(&options.size) {
        return Ok(());
    }
    let what = format!("pictures of {} pixels to a side are not drawn", options.size);
    Err(Error::unusable("builtin:scenes", what, "give a size from 24 to 512"))
}

fn made(options: &SceneOptions, part: Part, index: usize) -> Scene {
    let key = Key::new(options.seed).fold(part as u64).fold(index as u64);
    // The question comes before the scene: were it chosen to suit the scene, its words would tell how many shapes there are.
    let wanted = Wanted::draw(&mut Dice::new(key.fold(0)));
    let mut attempts = (2..).map(|attempt| key.fold(attempt));
    let (objects, question, answer) = loop {
        let mut dice = Dice::new(attempts.next().unwrap_or(key));
        let objects = layout(&mut dice);
        if part_of(&objects) != part {
            continue;
        }
        if let Some((question, answer)) = wanted.ask(&objects, &mut dice) {
            break (objects, question, answer);
        }
    };
    let (picture, mask) = draw(&objects, options.size, key.fold(1));
    Scene { description: describe(&objects), objects, question, answer, picture, mask }
}

/// Shapes in different cells, row by row.
fn layout(dice: &mut Dice) -> Vec<SceneObject> {
    let count = 1 + dice.below(MOST_SHAPES);
    let mut cells: Vec<usize> = (0..LATTICE * LATTICE).collect();
    let mut objects: Vec<SceneObject> = (0..count)
        .map(|_| {
            let cell = cells.swap_remove(dice.below(cells.len()));
            SceneObject {
                row: cell / LATTICE,
                column: cell % LATTICE,
                shape: dice.below(SCENE_SHAPES.len()),
                colour: dice.below(SCENE_COLOURS.len()),
            }
        })
        .collect();
    objects.sort_unstable();
    objects
}

/// The part that a layout is of: of 16 layouts about one is dev and one is test.
pub(super) fn part_of(objects: &[SceneObject]) -> Part {
    let key = objects.iter().fold(Key::new(PARTING), |key, object| {
        let cell = object.row * LATTICE + object.column;
        key.fold(((cell * SCENE_SHAPES.len() + object.shape) * SCENE_COLOURS.len() + object.colour) as u64)
    });
    match key.bits(0) >> 28 {
        0 => Part::Dev,
        1 => Part::Test,
        _ => Part::Train,
    }
}

/// How many questions of `judged` are answered rightly, as a share of one, by someone who sees no picture and gives to each
/// question the answer that is the commonest to the same words in `train`; to new words, the commonest of all.
///
/// Without questions: 1.
#[must_use]
pub fn accuracy_without_pictures(train: &[Scene], judged: &[Scene]) -> f64 {
    let mut answers: HashMap<Option<&str>, BTreeMap<&str, usize>> = HashMap::new();
    for scene in train {
        for words in [Some(scene.question.as_str()), None] {
            *answers.entry(words).or_default().entry(&scene.answer).or_default() += 1;
        }
    }
    let commonest: HashMap<Option<&str>, &str> = answers
        .iter()
        .filter_map(|(words, counts)| Some((*words, *counts.iter().max_by_key(|(_, count)| **count)?.0)))
        .collect();
    let right = |scene: &&Scene| {
        let guess = commonest.get(&Some(scene.question.as_str())).or_else(|| commonest.get(&None));
        guess == Some(&scene.answer.as_str())
    };
    if judged.is_empty() { 1.0 } else { judged.iter().filter(right).count() as f64 / judged.len() as f64 }
}

#[cfg(test)]
mod tests;
