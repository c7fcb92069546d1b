//! What is said and asked of `builtin:scenes`.
//!
//! A question's words must not give its answer away. So what is asked is drawn before the scene is, an answer that would
//! otherwise be rare is drawn with it, and a scene is looked for to which it suits; what else an answer hangs on, a shape or
//! a colour, is drawn evenly.
//!
//! *Above* in a question means in a higher row of the lattice, whatever the column; *left of* in a column further to the
//! left, whatever the row.

use super::homographs::Dice;
use super::scenes::{SCENE_COLOURS, SCENE_SHAPES, SceneObject};

const COUNTS: [&str; 4] = ["zero", "one", "two", "three"];

/// How one shape stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Above,
    Below,
    Left,
    Right,
}

const RELATIONS: [Relation; 4] = [Relation::Above, Relation::Below, Relation::Left, Relation::Right];

impl Relation {
    fn words(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
            Self::Left => "left of",
            Self::Right => "right of",
        }
    }

    /// Whether `one` stands so to `other`.
    fn holds(self, one: &SceneObject, other: &SceneObject) -> bool {
        match self {
            Self::Above => one.row < other.row,
            Self::Below => one.row > other.row,
            Self::Left => one.column < other.column,
            Self::Right => one.column > other.column,
        }
    }
}

fn shape(object: &SceneObject) -> &'static str {
    SCENE_SHAPES[object.shape]
}

fn colour(object: &SceneObject) -> &'static str {
    SCENE_COLOURS[object.colour]
}

/// `red circle`.
fn named(object: &SceneObject) -> String {
    format!("{} {}", colour(object), shape(object))
}

fn same_name(one: &SceneObject, other: &SceneObject) -> bool {
    (one.shape, one.colour) == (other.shape, other.colour)
}

/// The layout in words; the shapes come row by row.
pub(super) fn describe(objects: &[SceneObject]) -> String {
    let mut words = String::new();
    for (place, object) in objects.iter().enumerate() {
        if let Some(before) = place.checked_sub(1).map(|before| &objects[before]) {
            words.push_str(if place == 1 { " " } else { ", which is " });
            words.push_str(relation(before, object).words());
            words.push(' ');
        }
        words.push_str("a ");
        words.push_str(&named(object));
    }
    words
}

/// How a shape stands to one that comes after it row by row: by the larger distance, above if both are the same.
fn relation(one: &SceneObject, other: &SceneObject) -> Relation {
    if other.row - one.row >= one.column.abs_diff(other.column) {
        Relation::Above
    } else if one.column < other.column {
        Relation::Left
    } else {
        Relation::Right
    }
}

/// What is asked, before there is a scene.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// `how many shapes are there?`
    Count,
    /// `how many shapes are red?`
    CountOf { colour: usize, count: usize },
    /// `is there a blue square?`
    Any { yes: bool },
    /// `what colour is the square?`
    ColourOf,
    /// `what shape is the red one?`
    ShapeOf,
    /// `what colour is the shape above the square?`
    ColourBeside,
    /// `what shape is left of the red circle?`
    ShapeBeside,
    /// `is the red circle left of the blue square?`
    Stands { yes: bool },
}

impl Wanted {
    /// Each kind as likely as any other.
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let yes = dice.below(2) == 1;
        match dice.below(8) {
            0 => Self::Count,
            1 => Self::CountOf { colour: dice.below(SCENE_COLOURS.len()), count: dice.below(3) },
            2 => Self::Any { yes },
            3 => Self::ColourOf,
            4 => Self::ShapeOf,
            5 => Self::ColourBeside,
            6 => Self::ShapeBeside,
            _ => Self::Stands { yes },
        }
    }

    /// The question and its answer, if it can be asked of this layout and has one answer.
    pub(super) fn ask(self, objects: &[SceneObject], dice: &mut Dice) -> Option<(String, String)> {
        let (question, answer) = match self {
            Self::Count => ("how many shapes are there?".to_owned(), COUNTS[objects.len()]),
            Self::CountOf { colour, count } => {
                let found = objects.iter().filter(|object| object.colour == colour).count();
                (found == count).then(|| (format!("how many shapes are {}?", SCENE_COLOURS[colour]), COUNTS[count]))?
            }
            Self::Any { yes } => any(objects, yes, dice)?,
            Self::ColourOf => {
                let object = *dice.pick(&single(objects, |one, other| one.shape == other.shape))?;
                (format!("what colour is the {}?", shape(object)), colour(object))
            }
            Self::ShapeOf => {
                let object = *dice.pick(&single(objects, |one, other| one.colour == other.colour))?;
                (format!("what shape is the {} one?", colour(object)), shape(object))
            }
            Self::ColourBeside => {
                let anchors = single(objects, |one, other| one.shape == other.shape);
                let (relation, anchor, object) = *dice.pick(&beside(objects, &anchors))?;
                let question = format!("what colour is the shape {} the {}?", relation.words(), shape(anchor));
                (question, colour(object))
            }
            Self::ShapeBeside => {
                let anchors = single(objects, same_name);
                let (relation, anchor, object) = *dice.pick(&beside(objects, &anchors))?;
                (format!("what shape is {} the {}?", relation.words(), named(anchor)), shape(object))
            }
            Self::Stands { yes } => stands(objects, yes, dice)?,
        };
        Some((question, answer.to_owned()))
    }
}

/// `is there a blue square?` To be denied it is made, where it can be, of the colour of one shape and the form of another.
fn any(objects: &[SceneObject], yes: bool, dice: &mut Dice) -> Option<(String, &'static str)> {
    let mut asked = *dice.pick(objects)?;
    if !yes {
        asked.shape = dice.pick(objects)?.shape;
        while objects.iter().any(|object| same_name(object, &asked)) {
            asked.shape = dice.below(SCENE_SHAPES.len());
            asked.colour = dice.below(SCENE_COLOURS.len());
        }
    }
    Some((format!("is there a {}?", named(&asked)), answer(yes)))
}

/// `is the red circle left of the blue square?`
fn stands(objects: &[SceneObject], yes: bool, dice: &mut Dice) -> Option<(String, &'static str)> {
    let known = single(objects, same_name);
    let one = *dice.pick(&known)?;
    let others: Vec<&SceneObject> = known.into_iter().filter(|other| *other != one).collect();
    let other = *dice.pick(&others)?;
    let suited: Vec<Relation> = RELATIONS.into_iter().filter(|relation| relation.holds(one, other) == yes).collect();
    let relation = dice.pick(&suited)?;
    Some((format!("is the {} {} the {}?", named(one), relation.words(), named(other)), answer(yes)))
}

fn answer(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// The shapes that no other is like.
fn single(objects: &[SceneObject], alike: impl Fn(&SceneObject, &SceneObject) -> bool) -> Vec<&SceneObject> {
    objects.iter().filter(|one| objects.iter().filter(|other| alike(one, other)).count() == 1).collect()
}

/// Each relation to each of the `anchors` in which exactly one shape stands, and that shape.
fn beside<'scene>(
    objects: &'scene [SceneObject],
    anchors: &[&'scene SceneObject],
) -> Vec<(Relation, &'scene SceneObject, &'scene SceneObject)> {
    let mut found = Vec::new();
    for &anchor in anchors {
        for relation in RELATIONS {
            let mut there = objects.iter().filter(|object| relation.holds(object, anchor));
            if let (Some(object), None) = (there.next(), there.next()) {
                found.push((relation, anchor, object));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(row: usize, column: usize, colour: &str, shape: &str) -> SceneObject {
        let place = |names: &[&str], name| names.iter().position(|known| *known == name).unwrap();
        SceneObject { row, column, shape: place(&SCENE_SHAPES, shape), colour: place(&SCENE_COLOURS, colour) }
    }

    #[test]
    fn a_layout_has_its_words_row_by_row() {
        let (red, blue, green) = (at(0, 1, "red", "circle"), at(1, 0, "blue", "square"), at(1, 2, "green", "triangle"));
        assert_eq!(describe(&[red]), "a red circle");
        assert_eq!(describe(&[red, blue]), "a red circle above a blue square", "one row and one column: above");
        let all = "a red circle above a blue square, which is left of a green triangle";
        assert_eq!(describe(&[red, blue, green]), all);
        let aside = at(1, 0, "white", "cross");
        assert_eq!(describe(&[at(0, 2, "red", "circle"), aside]), "a red circle right of a white cross");
        assert_eq!(
            describe(&[at(0, 0, "red", "circle"), at(2, 1, "red", "circle")]),
            "a red circle above a red circle"
        );
    }

    #[test]
    fn every_question_has_the_one_answer_that_the_layout_gives() {
        let layout = [at(0, 1, "red", "circle"), at(1, 0, "blue", "square"), at(1, 2, "blue", "triangle")];
        let ask = |wanted: Wanted| {
            let asked = (0..200).filter_map(|n| wanted.ask(&layout, &mut Dice::new(qkv::random::Key::new(n))));
            asked.collect::<std::collections::BTreeMap<String, String>>()
        };
        let is = |asked: &std::collections::BTreeMap<String, String>, question: &str| asked.get(question).cloned();
        assert_eq!(is(&ask(Wanted::Count), "how many shapes are there?").as_deref(), Some("three"));
        let two = ask(Wanted::CountOf { colour: 2, count: 2 });
        assert_eq!(is(&two, "how many shapes are blue?").as_deref(), Some("two"));
        assert!(ask(Wanted::CountOf { colour: 2, count: 1 }).is_empty(), "there are two");
        let shapes = ask(Wanted::ShapeOf);
        assert_eq!(shapes.len(), 1, "blue is not the colour of one: {shapes:?}");
        assert_eq!(is(&shapes, "what shape is the red one?").as_deref(), Some("circle"));
        let beside = ask(Wanted::ColourBeside);
        assert_eq!(is(&beside, "what colour is the shape above the square?").as_deref(), Some("red"));
        assert_eq!(is(&beside, "what colour is the shape below the circle?"), None, "there are two");
        assert_eq!(is(&beside, "what colour is the shape left of the circle?").as_deref(), Some("blue"));
        let shapes = ask(Wanted::ShapeBeside);
        assert_eq!(is(&shapes, "what shape is right of the red circle?").as_deref(), Some("triangle"));
        let (yes, no) = (ask(Wanted::Stands { yes: true }), ask(Wanted::Stands { yes: false }));
        assert_eq!(is(&yes, "is the red circle above the blue square?").as_deref(), Some("yes"));
        assert_eq!(is(&no, "is the blue square above the blue triangle?").as_deref(), Some("no"));
        assert!(yes.keys().all(|question| !no.contains_key(question)));
        let (yes, no) = (ask(Wanted::Any { yes: true }), ask(Wanted::Any { yes: false }));
        assert_eq!(yes.len(), 3);
        assert!(yes.keys().all(|question| !no.contains_key(question)) && no.contains_key("is there a red square?"));
    }
}
