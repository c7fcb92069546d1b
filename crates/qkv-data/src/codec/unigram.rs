//! Learns the unigram model of subwords: each subword has a probability, and a word is cut into those whose product is
//! greatest. <https://arxiv.org/abs/1804.10959>
//!
//! Here belongs how subwords and their probabilities are learnt from counted words. Which parts of words may become subwords
//! is in `seeds`, where the words come from in `train`, and how a text is cut with what was learnt in `subwords`.
//!
//! ```text
//! pieces := every character; of the longer parts of words the best few by count · length
//! repeat
//!     twice: expect how often each piece occurs, over all ways to cut each word;      E step
//!            its probability := its share of what was expected                        M step
//!     cut each word in the best way; drop the pieces that occur in none of them, and a quarter in all if so many
//!         are too many, first those without which the best ways lose the least likelihood; never a character
//! until there are as few as wanted
//! ```
//!
//! 1. The M step takes the plain shares, so that no step makes the words less likely. Counts are often put through a digamma
//!    first, which makes rare pieces rarer; on 58,000 sentences that saved 0.1 % of the subwords, and no such promise holds.
//! 2. The loss without a piece is an estimate: its occurrences go to the best way to cut the piece itself without it, and no
//!    word is cut anew.
//! 3. The words stand one after the other in one array of characters, in a fixed order, and pieces are places in it. Nothing
//!    is hashed and every sum has its one order, so that the same words give the same bits.

use std::collections::BTreeMap;
use std::ops::Range;

use super::seeds::{Seed, Suffixes};

/// How many pieces there are at first, at most, for each that is wanted.
const SEEDS_PER_PIECE: usize = 10;
/// More of them change hardly a subword.
const STEPS_PER_ROUND: usize = 2;
/// How many pieces of each [`OF_PIECES`] outlast a round.
const KEPT: usize = 3;
const OF_PIECES: usize = 4;
/// A character is taken to occur this often at least: in other words it may have to stand where a longer piece stood.
const MIN_EXPECTED: f64 = 0.5;
/// Scores are rounded to a millionth: more digits than the texts can tell, and they would differ with the mathematics library.
const SCORE_PRECISION: f64 = 1e6;
/// No piece.
const NONE: u32 = u32::MAX;

/// At most `size` pieces that the words with these counts are made of and the logarithms of their probabilities, the
/// likeliest first. There are no more than `size` different characters in the words, and all of them are pieces.
pub(super) fn learn(words: &BTreeMap<String, u64>, size: usize) -> Vec<(String, f64)> {
    let mut model = Model::seeded(words, size * SEEDS_PER_PIECE);
    model.improve();
    // Once at least, since many of the seeds occur in no best way.
    loop {
        model.prune(size);
        model.improve();
        if model.pieces.len() <= size {
            return model.into_pieces();
        }
    }
}

/// A piece of the words: a place where it stands.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u32,
    length: u8,
}

impl Piece {
    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + usize::from(self.length)
    }

    fn is_character(self) -> bool {
        self.length == 1
    }
}

struct Word {
    range: Range<usize>,
    count: f64,
}

/// A piece at a place.
#[derive(Debug, Clone, Copy)]
struct Edge {
    piece: u32,
    /// Behind its last character.
    end: u32,
}

struct Model {
    /// The characters of the words, one word after the other.
    text: Vec<char>,
    words: Vec<Word>,
    pieces: Vec<Piece>,
    /// The logarithm of each piece's probability.
    scores: Vec<f64>,
    /// The pieces that start at the first character, at the second and so on; none reaches over the end of its word.
    edges: Vec<Edge>,
    /// Where the edges of each character start, and last of all how many edges there are.
    offsets: Vec<usize>,
}

impl Model {
    /// All characters of the words, and at most `most` pieces in all.
    fn seeded(words: &BTreeMap<String, u64>, most: usize) -> Self {
        let mut text = Vec::new();
        let mut ranges = Vec::with_capacity(words.len());
        for (word, &count) in words {
            let start = text.len();
            text.extend(word.chars());
            ranges.push((start..text.len(), count));
        }
        let suffixes = Suffixes::sorted(&text, &ranges);
        let seeds = suffixes.seeds(most);
        let total: u64 = seeds.iter().map(Seed::weight).sum();
        let scores = seeds.iter().map(|seed| (seed.weight() as f64 / total as f64).ln()).collect();
        let piece = |seed: &Seed| Piece { start: suffixes.places(seed)[0], length: seed.length as u8 };
        let pieces = seeds.iter().map(piece).collect();
        let words = ranges.into_iter().map(|(range, count)| Word { range, count: count as f64 }).collect();
        let (edges, offsets) = edges(&suffixes, &seeds, text.len());
        Self { text, words, pieces, scores, edges, offsets }
    }

    /// The pieces that start at `place`, up to `end`.
    fn edges(&self, place: usize, end: usize) -> impl Iterator<Item = Edge> {
        let edges = &self.edges[self.offsets[place]..self.offsets[place + 1]];
        edges.iter().copied().filter(move |edge| edge.end as usize <= end)
    }

    /// Steps of expectation maximization, before pieces are dropped or written.
    fn improve(&mut self) {
        let mut total = 0.0;
        for _ in 0..STEPS_PER_ROUND {
            let (expected, _) = self.expected();
            total = expected.iter().sum();
            self.maximize(&expected);
        }
        let least = (MIN_EXPECTED / total).ln();
        for (score, piece) in self.scores.iter_mut().zip(&self.pieces) {
            if piece.is_character() {
                *score = score.max(least);
            }
        }
    }

    /// How often each piece is to be expected, and the log-likelihood of the words.
    fn expected(&self) -> (Vec<f64>, f64) {
        let mut expected = vec![0.0; self.pieces.len()];
        let mut log_likelihood = 0.0;
        // The log-likelihood of what stands before each character of a word, and of all that stands from it on.
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for Word { range, count } in &self.words {
            let Range { start, end } = *range;
            reset(&mut before, range.len());
            for place in range.clone() {
                for edge in self.edges(place, end) {
                    let score = before[place - start] + self.scores[edge.piece as usize];
                    let sum = &mut before[edge.end as usize - start];
                    *sum = log_add(*sum, score);
                }
            }
            let word = before[end - start];
            log_likelihood += count * word;
            after.clear();
            after.resize(range.len() + 1, f64::NEG_INFINITY);
            after[end - start] = 0.0;
            for place in range.clone().rev() {
                let mut sum = f64::NEG_INFINITY;
                for edge in self.edges(place, end) {
                    let score = self.scores[edge.piece as usize] + after[edge.end as usize - start];
                    sum = log_add(sum, score);
                    expected[edge.piece as usize] += count * (before[place - start] + score - word).exp();
                }
                after[place - start] = sum;
            }
        }
        (expected, log_likelihood)
    }

    /// Gives each piece its share of what was expected.
    fn maximize(&mut self, expected: &[f64]) {
        let total: f64 = expected.iter().sum();
        // The least number rather than zero keeps every word possible, whichever pieces are dropped.
        let score = |expected: &f64| (expected / total).max(f64::MIN_POSITIVE).ln();
        self.scores = expected.iter().map(score).collect();
    }

    /// Drops pieces that no best way to cut the words has, and others as far as there are more than `size`.
    fn prune(&mut self, size: usize) {
        let mut counts = vec![0.0; self.pieces.len()];
        let mut path = Path::default();
        for Word { range, count } in &self.words {
            path.find(self, range.clone(), NONE);
            path.pieces.iter().for_each(|&piece| counts[piece as usize] += count);
        }
        let total: f64 = counts.iter().sum();
        let mut losses: Vec<(u32, f64)> = Vec::new();
        for (id, piece) in (0..).zip(&self.pieces) {
            let count: f64 = counts[id as usize];
            if piece.is_character() {
                losses.push((id, f64::INFINITY));
            } else if count > 0.0 {
                path.find(self, piece.range(), id);
                // Where a piece stood there are several now, and each of them has become more frequent.
                let total_without = total + count * (path.pieces.len() as f64 - 1.0);
                let without = path.pieces.iter().map(|&other| ((counts[other as usize] + count) / total_without).ln());
                losses.push((id, count * ((count / total).ln() - without.sum::<f64>())));
            }
        }
        losses.sort_unstable_by(|(a, a_loss), (b, b_loss)| b_loss.total_cmp(a_loss).then(a.cmp(b)));
        losses.truncate(size.max(self.pieces.len() * KEPT / OF_PIECES));
        let mut kept: Vec<u32> = losses.into_iter().map(|(id, _)| id).collect();
        kept.sort_unstable();
        self.keep(&kept);
    }

    /// Drops all pieces but these, which are sorted.
    fn keep(&mut self, kept: &[u32]) {
        let mut ids = vec![NONE; self.pieces.len()];
        (0..).zip(kept).for_each(|(id, &piece)| ids[piece as usize] = id);
        self.pieces = kept.iter().map(|&piece| self.pieces[piece as usize]).collect();
        self.scores = kept.iter().map(|&piece| self.scores[piece as usize]).collect();
        let mut len = 0;
        for place in 0..self.text.len() {
            // The next place has its old offset still.
            let edges = self.offsets[place]..self.offsets[place + 1];
            self.offsets[place] = len;
            for edge in edges {
                let Edge { piece, end } = self.edges[edge];
                if ids[piece as usize] != NONE {
                    self.edges[len] = Edge { piece: ids[piece as usize], end };
                    len += 1;
                }
            }
        }
        self.offsets[self.text.len()] = len;
        self.edges.truncate(len);
    }

    fn into_pieces(self) -> Vec<(String, f64)> {
        let spelling = |piece: &Piece| self.text[piece.range()].iter().collect::<String>();
        // Zero is added so that none is minus zero.
        let score = |score: f64| (score * SCORE_PRECISION).round() / SCORE_PRECISION + 0.0;
        let mut pieces: Vec<(String, f64)> =
            self.pieces.iter().map(spelling).zip(self.scores.iter().map(|&s| score(s))).collect();
        pieces.sort_unstable_by(|(a, a_score), (b, b_score)| b_score.total_cmp(a_score).then_with(|| a.cmp(b)));
        pieces
    }
}

/// The edges of a model whose pieces these seeds are, and their offsets.
fn edges(suffixes: &Suffixes<'_>, seeds: &[Seed], characters: usize) -> (Vec<Edge>, Vec<usize>) {
    let places = |seed: &Seed| suffixes.places(seed).iter().map(|&place| place as usize);
    let mut offsets = vec![0; characters + 1];
    seeds.iter().flat_map(places).for_each(|place| offsets[place + 1] += 1);
    for place in 0..characters {
        offsets[place + 1] += offsets[place];
    }
    let mut next = offsets.clone();
    let mut edges = vec![Edge { piece: NONE, end: 0 }; offsets[characters]];
    for (piece, seed) in (0..).zip(seeds) {
        for place in places(seed) {
            edges[next[place]] = Edge { piece, end: (place + seed.length) as u32 };
            next[place] += 1;
        }
    }
    (edges, offsets)
}

/// The best way to cut a word.
#[derive(Default)]
struct Path {
    /// What it is cut into, the last first.
    pieces: Vec<u32>,
    /// The score of the best way to cut what stands before each character.
    scores: Vec<f64>,
    /// The last piece on that way, and where it starts.
    last: Vec<(u32, usize)>,
}

impl Path {
    /// Finds the best way to cut the characters of `range` into pieces other than `without`.
    fn find(&mut self, model: &Model, range: Range<usize>, without: u32) {
        let Range { start, end } = range;
        reset(&mut self.scores, range.len());
        self.last.clear();
        self.last.resize(range.len() + 1, (NONE, 0));
        for place in range {
            for Edge { piece, end } in model.edges(place, end).filter(|edge| edge.piece != without) {
                let score = self.scores[place - start] + model.scores[piece as usize];
                let end = end as usize - start;
                if score > self.scores[end] {
                    self.scores[end] = score;
                    self.last[end] = (piece, place - start);
                }
            }
        }
        self.pieces.clear();
        let mut place = end - start;
        while place > 0 {
            let (piece, before) = self.last[place];
            self.pieces.push(piece);
            place = before;
        }
    }
}

/// One way to cut nothing, and none yet for the ends of `characters` characters.
fn reset(scores: &mut Vec<f64>, characters: usize) {
    scores.clear();
    scores.resize(characters + 1, f64::NEG_INFINITY);
    scores[0] = 0.0;
}

/// ln(exp(a) + exp(b))
fn log_add(a: f64, b: f64) -> f64 {
    let (greater, lesser) = if a > b { (a, b) } else { (b, a) };
    if lesser == f64::NEG_INFINITY { greater } else { greater + (lesser - greater).exp().ln_1p() }
}

#[cfg(test)]
mod tests;
