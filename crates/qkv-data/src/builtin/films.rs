//! `builtin:films`: a seeded world of films and the people who see them, to show what a dot product can say and what
//! needs attention to what was seen before.
//!
//! A film is a vector of features, a person a vector of tastes over the same features, both signed and known. What a
//! person thinks of a film is the dot product of the two and a little noise, so a factorisation of the ratings can find
//! the vectors again, up to a linear map. What a person *sees next* has four causes:
//!
//! - how popular a film is, which counting finds;
//! - the taste, which a vector for each person finds;
//! - the series: after one part the next, at once or after other films, never before the one that precedes it;
//! - the mood: [`MOOD_FILMS`] films with much of one feature, then another feature's turn.
//!
//! The last two are in the order of what was seen and nowhere else. The mood needs more than the last film: that there
//! were three of a kind says that the fourth will be of another.
//!
//! Here belongs what is drawn; what was written down by hand is in [`films_titles`](super::films_titles).

use qkv::random::Key;

use super::films_titles::{FEATURE_NAMES, FILM_FEATURES, KINDS, PLACES, SERIES, TASTES};
use super::homographs::Dice;
use crate::ratings::{Rating, Ratings};

/// Any number would do; the world is a function of it and of the constants below. These are set so that popularity, taste
/// and order each let the next film be guessed markedly better than what comes before, as the tests ask.
const SEED: u64 = 0xf1_1335;

const PEOPLE: usize = 1000;
/// The fewest and the most films that a person sees.
const SEEN: (usize, usize) = (15, 60);

/// How far a film may be from its series or kind, in each feature.
const FILM_VARIATION: f64 = 0.2;
/// How far a person may be from their kind, in each taste.
const TASTE_VARIATION: f64 = 0.3;
/// A film of rank r, from 0, is as popular as (1 + r / `POPULAR_RANKS`)⁻².
const POPULAR_RANKS: f64 = 200.0;

/// The logarithm of a film's odds grows by so much for each 1 of taste·features, and of the feature of the mood.
const TASTE_WEIGHT: f64 = 2.5;
const MOOD_WEIGHT: f64 = 4.0;
/// The logarithm of a mood's odds grows by so much for each 1 of the taste for its feature.
const MOOD_TASTE: f64 = 2.0;
/// How many films a mood lasts.
pub const MOOD_FILMS: usize = 3;

/// How much more popular the beginning of a series is than a film of its own.
const SERIES_POPULAR: f64 = 2.0;
/// The chance that somebody else chose the film, by how popular it is: so people come to see what they do not like, without
/// which the ratings would hardly tell the features.
const COMPANY: f64 = 0.08;
/// The chance that the next part of a series follows at once, and that one which was left off is taken up again.
const CONTINUE: f64 = 0.75;
const RESUME: f64 = 0.2;

/// A rating is `MIDDLE` + `STARS` · taste·features + noise, in half stars from 1 to 5.
const MIDDLE: f64 = 3.0;
const STARS: f64 = 1.0;
/// Standard deviation of the noise, in stars, before the rating is rounded to half a star.
const NOISE: f64 = 0.3;

/// The world: what is to be found, and the ratings to find it in.
#[derive(Debug, Clone, PartialEq)]
pub struct Films {
    /// The films' titles, the same as `ratings.items`.
    pub titles: Vec<String>,
    /// How much there is of each feature in each film, from −1 to 1.
    pub features: Vec<[f32; FILM_FEATURES]>,
    /// What the features are called.
    pub feature_names: [&'static str; FILM_FEATURES],
    /// How much of each feature each of `ratings.users` wants, from −1 to 1.
    pub tastes: Vec<[f32; FILM_FEATURES]>,
    /// Who saw which film when, and liked it how well: from 1 to 5 in halves, a day for each film, no film twice.
    pub ratings: Ratings,
}

/// The world: the same people, films and ratings at every call, on every machine.
#[must_use]
pub fn films() -> Films {
    let key = Key::new(SEED);
    let catalogue = Catalogue::new(key.fold(0));
    let mut tastes = Vec::with_capacity(PEOPLE);
    let mut ratings = Vec::new();
    for person in 0..PEOPLE {
        let mut dice = Dice::new(key.fold(1).fold(person as u64));
        let taste = vary(&TASTES[dice.below(TASTES.len())], TASTE_VARIATION, &mut dice);
        let first_day = dice.below(1000);
        for (place, film) in Viewer::new(&catalogue, &taste).history(&mut dice).into_iter().enumerate() {
            ratings.push(Rating {
                user: person as u32,
                item: film as u32,
                rating: stars(dot(&taste, &catalogue.features[film]), &mut dice),
                time: (first_day + place) as f64,
            });
        }
        tastes.push(taste);
    }
    let users = (1..=PEOPLE).map(|person| format!("person {person}")).collect();
    let Catalogue { titles, features, .. } = catalogue;
    let ratings = Ratings { users, items: titles.clone(), ratings };
    Films { titles, features, feature_names: FEATURE_NAMES, tastes, ratings }
}

/// All films.
struct Catalogue {
    titles: Vec<String>,
    features: Vec<[f32; FILM_FEATURES]>,
    /// The odds of each film if nothing else is known.
    popularity: Vec<f64>,
    /// The film that each is the next part of.
    previous: Vec<Option<usize>>,
}

impl Catalogue {
    fn new(key: Key) -> Self {
        let mut dice = Dice::new(key);
        let (mut titles, mut features, mut previous) = (Vec::new(), Vec::new(), Vec::new());
        for (title, common, parts) in SERIES {
            for part in 1..=*parts {
                previous.push((part > 1).then(|| titles.len() - 1));
                titles.push(if part == 1 { (*title).to_owned() } else { format!("{title} {part}") });
                features.push(vary(common, FILM_VARIATION, &mut dice));
            }
        }
        for (title, common) in KINDS {
            for place in PLACES {
                previous.push(None);
                titles.push(title.replace('*', place));
                features.push(vary(common, FILM_VARIATION, &mut dice));
            }
        }
        let mut popularity = popularity(titles.len(), &mut dice);
        for (film, two) in previous.windows(2).enumerate() {
            if two[0].is_none() && two[1].is_some() {
                popularity[film] *= SERIES_POPULAR;
            }
        }
        Self { titles, features, popularity, previous }
    }
}

/// The odds of each of `count` films, in no order.
fn popularity(count: usize, dice: &mut Dice) -> Vec<f64> {
    let mut odds: Vec<f64> = (0..count)
        .map(|rank| {
            let root = 1.0 + rank as f64 / POPULAR_RANKS;
            1.0 / (root * root)
        })
        .collect();
    for last in (1..count).rev() {
        odds.swap(last, dice.below(last + 1));
    }
    odds
}

/// Somebody in front of the catalogue.
struct Viewer<'catalogue> {
    catalogue: &'catalogue Catalogue,
    /// The odds of each film in each mood, `[feature][film]`.
    odds: [Vec<f64>; FILM_FEATURES],
    /// The odds of each mood.
    moods: [f64; FILM_FEATURES],
    seen: Vec<bool>,
}

impl<'catalogue> Viewer<'catalogue> {
    fn new(catalogue: &'catalogue Catalogue, taste: &[f32; FILM_FEATURES]) -> Self {
        let odds = std::array::from_fn(|mood| {
            let films = catalogue.features.iter().zip(&catalogue.popularity);
            let wish =
                |film: &[f32; FILM_FEATURES]| TASTE_WEIGHT * dot(taste, film) + MOOD_WEIGHT * f64::from(film[mood]);
            films.map(|(film, popularity)| popularity * exp(wish(film))).collect()
        });
        let moods = taste.map(|wanted| exp(MOOD_TASTE * f64::from(wanted)));
        Self { catalogue, odds, moods, seen: vec![false; catalogue.titles.len()] }
    }

    /// What the person sees, in order.
    fn history(mut self, dice: &mut Dice) -> Vec<usize> {
        let count = SEEN.0 + dice.below(SEEN.1 - SEEN.0 + 1);
        let mut history = Vec::with_capacity(count);
        // Nobody's first mood need have begun today: the place in a history does not tell where a mood ends.
        let (mut mood, mut left) = (draw(&self.moods, dice), 1 + dice.below(MOOD_FILMS));
        for _ in 0..count {
            if left == 0 {
                let mut others = self.moods;
                others[mood] = 0.0;
                (mood, left) = (draw(&others, dice), MOOD_FILMS);
            }
            left -= 1;
            let film = if dice.uniform() < COMPANY {
                self.new_film(&self.catalogue.popularity, dice)
            } else {
                self.next_part(&history, dice).unwrap_or_else(|| self.new_film(&self.odds[mood], dice))
            };
            self.seen[film] = true;
            history.push(film);
        }
        history
    }

    /// The next part of a series that was begun, if one is taken up.
    fn next_part(&self, history: &[usize], dice: &mut Dice) -> Option<usize> {
        // Both are drawn whether they are needed or not, so that a chance that is changed moves as little as it can.
        let (at_once, later) = (dice.uniform() < CONTINUE, dice.uniform() < RESUME);
        let next = |film: usize| {
            let part = film + 1;
            (self.catalogue.previous.get(part) == Some(&Some(film)) && !self.seen[part]).then_some(part)
        };
        let (last, earlier) = history.split_last()?;
        let at_once = if at_once { next(*last) } else { None };
        at_once.or_else(|| if later { earlier.iter().rev().find_map(|&film| next(film)) } else { None })
    }

    /// A film of its own, or the first part of a series, with these odds.
    fn new_film(&self, odds: &[f64], dice: &mut Dice) -> usize {
        let may_follow =
            |film: usize| !self.seen[film] && self.catalogue.previous[film].is_none_or(|part| self.seen[part]);
        let odds = odds.iter().enumerate().map(|(film, &odds)| if may_follow(film) { odds } else { 0.0 });
        draw(&odds.collect::<Vec<f64>>(), dice)
    }
}

/// An index, each as likely as its share of the sum.
fn draw(odds: &[f64], dice: &mut Dice) -> usize {
    let mut left = dice.uniform() * odds.iter().sum::<f64>();
    let mut last = 0;
    for (index, &odds) in odds.iter().enumerate().filter(|(_, odds)| **odds > 0.0) {
        last = index;
        left -= odds;
        if left < 0.0 {
            break;
        }
    }
    // Rounding may leave a little; it falls to the last that can be.
    last
}

/// A vector near `common`: each of its numbers by up to `most` more or less, within −1 and 1.
fn vary(common: &[f32; FILM_FEATURES], most: f64, dice: &mut Dice) -> [f32; FILM_FEATURES] {
    common.map(|feature| (f64::from(feature) + most * (2.0 * dice.uniform() - 1.0)).clamp(-1.0, 1.0) as f32)
}

fn dot(a: &[f32; FILM_FEATURES], b: &[f32; FILM_FEATURES]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// What a person says of a film that suits them so well.
fn stars(suits: f64, dice: &mut Dice) -> f32 {
    // The sum of twelve uniform numbers has variance 1 and is nearly normal.
    let normal = (0..12).map(|_| dice.uniform()).sum::<f64>() - 6.0;
    let stars = MIDDLE + STARS * suits + NOISE * normal;
    (((2.0 * stars).round() / 2.0).clamp(1.0, 5.0)) as f32
}

/// eˣ, near enough (about x²/2048 of it too small), by multiplications alone: the library functions of two systems differ
/// in the last bit, and a draw that hangs on that bit would be another film.
fn exp(x: f64) -> f64 {
    (0..10).fold(1.0 + x / 1024.0, |power, _| power * power)
}
