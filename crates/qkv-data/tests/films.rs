//! What `builtin:films` promises: ratings from which the features can be had, and histories in which order tells more
//! than taste, and taste more than popularity.

// In a test a panic is the report.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use qkv_data::builtin::{FILM_FEATURES, Films, MOOD_FILMS, Part, films};
use qkv_data::{LeaveOneOut, Rating, leave_one_out, part_of_rating};

type Vector = [f64; FILM_FEATURES];

fn wide(vectors: &[[f32; FILM_FEATURES]]) -> Vec<Vector> {
    vectors.iter().map(|vector| vector.map(f64::from)).collect()
}

fn dot(a: &Vector, b: &Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The film that each is the next part of.
fn previous(world: &Films) -> Vec<Option<usize>> {
    let part = |title: &str| -> Option<(String, usize)> {
        let (series, part) = title.rsplit_once(' ')?;
        Some((series.to_owned(), part.parse().ok()?))
    };
    world
        .titles
        .iter()
        .map(|title| {
            let (series, part) = part(title)?;
            let before = if part == 2 { series } else { format!("{series} {}", part - 1) };
            Some(world.titles.iter().position(|title| *title == before).unwrap())
        })
        .collect()
}

#[test]
fn the_world_is_as_large_as_promised_and_its_names_are_its_own() {
    let world = films();
    assert_eq!((world.titles.len(), world.features.len()), (241, 241));
    assert_eq!((world.ratings.users.len(), world.tastes.len()), (1000, 1000));
    assert_eq!(world.titles, world.ratings.items);
    assert_eq!(world.titles.iter().collect::<BTreeSet<_>>().len(), 241);
    assert_eq!(world.ratings.users.iter().collect::<BTreeSet<_>>().len(), 1000);
    assert!(world.features.iter().chain(&world.tastes).flatten().all(|x| (-1.0..=1.0).contains(x)));
    let mut seen = vec![0; 241];
    for history in world.ratings.histories() {
        assert!((15..=60).contains(&history.len()));
        assert_eq!(history.iter().collect::<BTreeSet<_>>().len(), history.len(), "no film is seen twice");
        history.iter().for_each(|&film| seen[film as usize] += 1);
    }
    assert!(seen.iter().all(|&count| count >= 8), "each film is rated often enough to be placed: {seen:?}");
}

#[test]
fn the_world_never_changes() {
    // Whatever is written about it, and every model trained on it, is about this one.
    let world = films();
    assert_eq!(world, films());
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut enter = |number: u32| hash = (hash ^ u64::from(number)).wrapping_mul(0x0100_0000_01b3);
    for rating in &world.ratings.ratings {
        [rating.user, rating.item, rating.rating.to_bits(), rating.time as u32].into_iter().for_each(&mut enter);
    }
    world.features.iter().chain(&world.tastes).flatten().for_each(|x| enter(x.to_bits()));
    assert_eq!(hash, 4_883_015_473_489_577_813);
}

#[test]
fn a_rating_is_the_dot_product_and_a_little_noise() {
    let world = films();
    let (features, tastes) = (wide(&world.features), wide(&world.tastes));
    let mut errors = 0.0;
    for rating in &world.ratings.ratings {
        assert!((1.0..=5.0).contains(&rating.rating) && (2.0 * rating.rating).fract() == 0.0, "{rating:?}");
        let suits = 3.0 + dot(&tastes[rating.user as usize], &features[rating.item as usize]);
        errors += (f64::from(rating.rating) - suits.clamp(1.0, 5.0)).powi(2);
    }
    // 0.3 of noise and the rounding to half stars, 0.5 / √12: together 0.333.
    let error = (errors / world.ratings.ratings.len() as f64).sqrt();
    assert!((error - 0.333).abs() < 0.01, "{error}");
}

#[test]
fn no_part_of_a_series_is_seen_before_the_one_it_follows() {
    let world = films();
    let previous = previous(&world);
    assert!(previous.iter().flatten().count() > 70);
    let (mut next_parts, mut steps) = (0, 0);
    for history in world.ratings.histories() {
        let mut seen = BTreeSet::new();
        for film in history {
            if let Some(before) = previous[film as usize] {
                assert!(seen.contains(&before), "{}", world.titles[film as usize]);
                next_parts += 1;
            }
            seen.insert(film as usize);
            steps += 1;
        }
    }
    let share = f64::from(next_parts) / f64::from(steps);
    assert!((0.3..0.5).contains(&share), "{share}");
}

#[test]
fn a_mood_lasts_three_films_so_the_fourth_needs_more_than_the_third() {
    let world = films();
    let previous = previous(&world);
    let strongest = |film: u32| {
        let features = world.features[film as usize];
        (0..FILM_FEATURES).max_by(|&a, &b| features[a].total_cmp(&features[b])).unwrap()
    };
    // After one, two, three films in a row with most of one feature: how often another such film follows. Where a next part
    // follows is left out, since that comes whatever the mood.
    let mut follows = [[0.0; 2]; MOOD_FILMS];
    for history in world.ratings.histories() {
        for end in MOOD_FILMS + 1..history.len() {
            let run = history[..end].iter().rev().take_while(|&&film| strongest(film) == strongest(history[end - 1]));
            if previous[history[end] as usize].is_none()
                && let Some(follows) = follows.get_mut(run.count() - 1)
            {
                follows[usize::from(strongest(history[end]) == strongest(history[end - 1]))] += 1.0;
            }
        }
    }
    let shares = follows.map(|[other, same]| same / (same + other));
    assert!(shares[0] > 0.45 && shares[1] > 0.45 && shares[2] < 0.37, "{shares:?}");
}

/// The share of users whose test film is among the ten films of the highest `score` that they have not seen.
fn hit_rate(parts: &LeaveOneOut, score: impl Fn(usize, &[u32]) -> Vec<f64>) -> f64 {
    let (mut hits, mut count) = (0.0, 0.0);
    for (user, train) in parts.train.iter().enumerate() {
        let (Some(dev), Some(test)) = (parts.dev[user], parts.test[user]) else { continue };
        let history = [train.as_slice(), &[dev]].concat();
        let scores = score(user, &history);
        let better = |film: &usize| scores[*film] >= scores[test as usize] && *film != test as usize;
        let rank = (0..scores.len()).filter(better).filter(|&film| !history.contains(&(film as u32))).count();
        hits += f64::from(u8::from(rank < 10));
        count += 1.0;
    }
    hits / count
}

#[test]
fn taste_says_more_than_popularity_and_order_more_than_taste() {
    let world = films();
    let (features, tastes) = (wide(&world.features), wide(&world.tastes));
    let count = features.len();
    let parts = leave_one_out(&world.ratings.histories());
    let mut seen = vec![0.0; count];
    let mut after = vec![vec![0.0; count]; count];
    for history in &parts.train {
        history.iter().for_each(|&film| seen[film as usize] += 1.0);
        history.windows(2).for_each(|two| after[two[0] as usize][two[1] as usize] += 1.0);
    }
    // The true taste: no vector of a user that is learned can know more of it.
    let by_taste = |user: usize| -> Vec<f64> {
        (0..count).map(|film| f64::ln(1.0 + seen[film]) + 1.5 * dot(&tastes[user], &features[film])).collect()
    };
    let popularity = hit_rate(&parts, |_, _| seen.clone());
    let taste = hit_rate(&parts, |user, _| by_taste(user));
    let last_film = hit_rate(&parts, |_, history| {
        let last = *history.last().unwrap() as usize;
        (0..count).map(|film| after[last][film] + 0.01 * seen[film] / seen[last]).collect()
    });
    let both = hit_rate(&parts, |user, history| {
        let last = *history.last().unwrap() as usize;
        let taste = by_taste(user).into_iter().enumerate();
        taste.map(|(film, taste)| f64::ln(1.0 + after[last][film]) * 2.0 + taste).collect()
    });
    let ladder = [popularity, taste, last_film, both];
    assert!(popularity > 0.09, "popularity carries information, 10 of 200 at random would be 0.05: {ladder:?}");
    assert!(popularity + 0.08 < taste && taste + 0.05 < last_film && last_film + 0.03 < both, "{ladder:?}");
}

/// Solves `a · x = b` for a positive definite `a`.
fn solve<const N: usize>(mut a: [[f64; N]; N], mut b: [f64; N]) -> [f64; N] {
    for column in 0..N {
        for row in 0..N {
            if row != column {
                let factor = a[row][column] / a[column][column];
                let pivot = a[column];
                a[row].iter_mut().zip(pivot).for_each(|(x, pivot)| *x -= factor * pivot);
                b[row] -= factor * b[column];
            }
        }
    }
    std::array::from_fn(|row| b[row] / a[row][row])
}

/// The weights that the linear regression from `inputs` to `targets` gives, with a ridge.
fn regression<const N: usize>(pairs: impl Iterator<Item = ([f64; N], f64)>, ridge: f64) -> [f64; N] {
    let (mut a, mut b) = ([[0.0; N]; N], [0.0; N]);
    (0..N).for_each(|i| a[i][i] = ridge);
    for (x, y) in pairs {
        for i in 0..N {
            b[i] += x[i] * y;
            (0..N).for_each(|j| a[i][j] += x[i] * x[j]);
        }
    }
    solve(a, b)
}

#[test]
fn factorising_the_ratings_finds_the_features_up_to_a_linear_map() {
    let world = films();
    let features = wide(&world.features);
    let key = qkv::random::Key::new(1);
    let start = |n: usize| std::array::from_fn(|i| f64::from(key.normal((n * FILM_FEATURES + i) as u64)));
    let mut items: Vec<Vector> = (0..features.len()).map(start).collect();
    let mut users: Vec<Vector> = vec![[0.0; FILM_FEATURES]; world.tastes.len()];
    let (train, test): (Vec<Rating>, Vec<Rating>) = {
        let placed = world.ratings.ratings.iter().enumerate();
        let placed = placed.filter(|(place, _)| part_of_rating(*place, 0) != Part::Dev);
        let (train, test): (Vec<_>, Vec<_>) = placed.partition(|(place, _)| part_of_rating(*place, 0) == Part::Train);
        let bare = |ratings: Vec<(usize, &Rating)>| ratings.into_iter().map(|(_, rating)| *rating).collect();
        (bare(train), bare(test))
    };
    let (mut of_user, mut of_item) = (vec![Vec::new(); users.len()], vec![Vec::new(); items.len()]);
    for rating in &train {
        of_user[rating.user as usize].push((rating.item as usize, f64::from(rating.rating) - 3.0));
        of_item[rating.item as usize].push((rating.user as usize, f64::from(rating.rating) - 3.0));
    }
    // Alternating least squares: each side is a linear regression while the other stands still.
    for _ in 0..30 {
        for (user, rated) in users.iter_mut().zip(&of_user) {
            *user = regression(rated.iter().map(|&(item, rating)| (items[item], rating)), 0.5);
        }
        for (item, rated) in items.iter_mut().zip(&of_item) {
            *item = regression(rated.iter().map(|&(user, rating)| (users[user], rating)), 0.5);
        }
    }
    let square = |rating: &Rating| {
        let predicted = 3.0 + dot(&users[rating.user as usize], &items[rating.item as usize]);
        (predicted - f64::from(rating.rating)).powi(2)
    };
    let error = (test.iter().map(square).sum::<f64>() / test.len() as f64).sqrt();
    assert!(error < 0.37, "0.333 of it is noise: {error}");
    for feature in 0..FILM_FEATURES {
        let with_one = |item: &Vector| [item[0], item[1], item[2], 1.0];
        let wanted = || items.iter().map(with_one).zip(features.iter().map(|film| film[feature]));
        let weights = regression(wanted(), 1e-9);
        let mean = features.iter().map(|film| film[feature]).sum::<f64>() / features.len() as f64;
        let predict = |x: &[f64; 4]| x.iter().zip(&weights).map(|(x, weight)| x * weight).sum::<f64>();
        let left: f64 = wanted().map(|(x, y)| (y - predict(&x)).powi(2)).sum();
        let all: f64 = wanted().map(|(_, y)| (y - mean).powi(2)).sum();
        let explained = 1.0 - left / all;
        assert!(explained > 0.95, "{}: {explained}", world.feature_names[feature]);
    }
}
