use proptest::prelude::*;

use super::*;

fn counts(words: &[(&str, u64)]) -> BTreeMap<String, u64> {
    words.iter().map(|&(word, count)| (word.to_owned(), count)).collect()
}

/// Words of a few stems and endings.
fn compounds() -> BTreeMap<String, u64> {
    const STEMS: [&str; 6] = ["haus", "garten", "läuf", "spiel", "brücke", "see"];
    const ENDS: [&str; 5] = ["", "en", "er", "chen", "s"];
    let mut words = BTreeMap::new();
    for (rank, first) in ["▁", "▁haus", "▁see", "▁spiel"].into_iter().enumerate() {
        for (stem, end) in STEMS.into_iter().flat_map(|stem| ENDS.map(|end| (stem, end))) {
            words.insert(format!("{first}{stem}{end}"), 1 + (stem.len() * end.len() / (rank + 1)) as u64);
        }
    }
    words
}

fn spelling(model: &Model, piece: usize) -> String {
    model.text[model.pieces[piece].range()].iter().collect()
}

/// Every way to cut `word` into pieces, with the sum of their scores.
fn ways(word: &str, scores: &BTreeMap<String, f64>) -> Vec<(Vec<String>, f64)> {
    if word.is_empty() {
        return vec![(Vec::new(), 0.0)];
    }
    let mut all = Vec::new();
    for (end, _) in word.char_indices().skip(1).chain([(word.len(), ' ')]) {
        if let Some(score) = scores.get(&word[..end]) {
            for (mut pieces, sum) in ways(&word[end..], scores) {
                pieces.insert(0, word[..end].to_owned());
                all.push((pieces, score + sum));
            }
        }
    }
    all
}

fn scores(model: &Model) -> BTreeMap<String, f64> {
    (0..model.pieces.len()).map(|piece| (spelling(model, piece), model.scores[piece])).collect()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

/// Whether expectations, likelihood and best ways are those that going through every way to cut every word gives.
fn agrees_with_every_way(model: &Model, words: &BTreeMap<String, u64>) -> Result<(), TestCaseError> {
    let scores = scores(model);
    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
    let mut log_likelihood = 0.0;
    let mut path = Path::default();
    for ((word, &count), Word { range, .. }) in words.iter().zip(&model.words) {
        let ways = ways(word, &scores);
        let sum: f64 = ways.iter().map(|(_, score)| score.exp()).sum();
        log_likelihood += count as f64 * sum.ln();
        for (pieces, score) in &ways {
            for piece in pieces {
                *counts.entry(piece.clone()).or_default() += count as f64 * score.exp() / sum;
            }
        }
        path.find(model, range.clone(), NONE);
        let best = ways.iter().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max);
        let found: f64 = path.pieces.iter().map(|&piece| model.scores[piece as usize]).sum();
        prop_assert!(near(found, best), "{word}: {found} is not {best}");
        let pieces: String = path.pieces.iter().rev().map(|&piece| spelling(model, piece as usize)).collect();
        prop_assert_eq!(&pieces, word);
    }
    let (expected, found) = model.expected();
    prop_assert!(near(found, log_likelihood), "{found} is not {log_likelihood}");
    for (piece, &expected) in expected.iter().enumerate() {
        let count = counts.get(&spelling(model, piece)).copied().unwrap_or(0.0);
        prop_assert!(near(expected, count), "{}: {expected} is not {count}", spelling(model, piece));
    }
    Ok(())
}

proptest! {
    #[test]
    fn expectations_are_those_of_every_way_to_cut_every_word(
        words in prop::collection::btree_map("[aé花]{1,9}", 1_u64..5, 1..8),
        size in 3_usize..30,
    ) {
        let mut model = Model::seeded(&words, 1000);
        agrees_with_every_way(&model, &words)?;
        model.improve();
        model.prune(size);
        prop_assert!(!model.pieces.is_empty());
        agrees_with_every_way(&model, &words)?;
    }

    #[test]
    fn pieces_are_no_more_than_wanted_and_all_characters_are_among_them(
        words in prop::collection::btree_map("[aA.]{1,30}|\\PC{1,40}", 1_u64..5, 1..8),
        more in 0_usize..20,
    ) {
        let mut characters: Vec<char> = words.keys().flat_map(|word| word.chars()).collect();
        characters.sort_unstable();
        characters.dedup();
        let size = characters.len() + more;
        let pieces = learn(&words, size);
        prop_assert!(pieces.len() <= size);
        prop_assert!(pieces.is_sorted_by(|(_, a), (_, b)| a >= b));
        prop_assert!(pieces.iter().all(|(_, score)| score.is_finite() && *score <= 0.0));
        for character in characters {
            prop_assert!(pieces.iter().any(|(piece, _)| *piece == character.to_string()), "{character:?}");
        }
    }
}

#[test]
fn no_step_makes_the_words_less_likely() {
    let mut model = Model::seeded(&compounds(), 1000);
    let mut likelihoods = Vec::new();
    for _ in 0..30 {
        let (expected, log_likelihood) = model.expected();
        model.maximize(&expected);
        likelihoods.push(log_likelihood);
        let total: f64 = model.scores.iter().map(|score| score.exp()).sum();
        assert!(near(total, 1.0), "the probabilities add up to {total}");
    }
    for step in likelihoods.windows(2) {
        assert!(step[1] >= step[0] - 1e-13 * step[0].abs(), "{likelihoods:?}");
    }
    assert!(likelihoods[29] > likelihoods[0] * 0.9, "{likelihoods:?}");
}

/// The log-likelihood of `words` after many steps with no pieces but these.
fn likelihood_with(words: &BTreeMap<String, u64>, pieces: impl Fn(&str) -> bool) -> f64 {
    let mut model = Model::seeded(words, 100_000);
    let kept: Vec<u32> =
        (0..model.pieces.len()).filter(|&piece| pieces(&spelling(&model, piece))).map(|piece| piece as u32).collect();
    model.keep(&kept);
    for _ in 0..20 {
        let (expected, _) = model.expected();
        model.maximize(&expected);
    }
    model.expected().1
}

#[test]
fn pieces_make_words_likelier_than_characters_do() {
    let words = compounds();
    let pieces: BTreeMap<String, f64> = learn(&words, 40).into_iter().collect();
    assert!(pieces.len() <= 40);
    let characters = likelihood_with(&words, |piece| piece.chars().count() == 1);
    let learnt = likelihood_with(&words, |piece| pieces.contains_key(piece));
    assert!(learnt > characters * 0.6, "{learnt} with pieces, {characters} with characters");
    // What the words are made of, and no parts of it that occur nowhere else.
    for part in ["chen", "läuf", "▁garten", "▁haus", "▁spiel"] {
        assert!(pieces.contains_key(part), "{part}: {pieces:?}");
    }
    for part in ["hen", "äuf", "arten", "aus", "piel"] {
        assert!(!pieces.contains_key(part), "{part}: {pieces:?}");
    }
}

#[test]
fn the_piece_that_is_missed_least_goes_first() {
    // "xy" could be "x" and "y", which are rare; "ab" occurs far more often than all others.
    let words = counts(&[("ab", 100), ("xy", 3), ("abxy", 2)]);
    let pieces = |size| {
        let pieces = learn(&words, size).into_iter().map(|(piece, _)| piece);
        pieces.filter(|piece| piece.len() > 1).collect::<Vec<_>>()
    };
    assert_eq!(pieces(4), [""; 0]);
    assert_eq!(pieces(5), ["ab"]);
    assert_eq!(pieces(6), ["ab", "xy"]);
}

#[test]
fn what_occurs_in_no_best_way_is_dropped_even_if_there_is_room() {
    let pieces: Vec<String> = learn(&counts(&[("haus", 50)]), 100).into_iter().map(|(piece, _)| piece).collect();
    assert_eq!(pieces, ["haus", "a", "h", "s", "u"]);
}
