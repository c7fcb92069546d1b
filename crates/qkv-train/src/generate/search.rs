//! Which of all texts that could be written is: beam search.
//!
//! ```text
//! live[0] = { (nothing, 0) }
//! for each length:  candidates = { (ids + id, log p + log p(id | ids)) for ids in live, for each id }
//!                   of the `beam` best, those that end are finished; the best that do not are live on
//! best = argmax over finished of  log p / length^penalty
//! ```
//!
//! All sources are searched side by side: a step of the model is one product for all beginnings of all sources. What this
//! file knows of a model is how it takes a step.

use std::cmp::Ordering;

use qkv::gather::NONE;
use qkv::loss::cross_entropy_forward;
use rayon::prelude::*;

/// A model that writes several texts side by side, a row each.
pub(super) trait Steps {
    /// Logits of what follows, row by row, once `ids` are the next of each row.
    fn step(&mut self, ids: &[u32]) -> Vec<f32>;

    /// Takes back what a step gave.
    fn recycle(&mut self, _vocab_logits: Vec<f32>) {}

    /// Goes on with these of the present rows, in this order.
    fn select(&mut self, rows: &[usize]);
}

/// What may be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// What every text begins with; it is not part of it.
    pub(super) begin: u32,
    /// What ends a text; it is not part of it either. No id below it is ever written.
    pub(super) end: u32,
    /// The longest text, in ids.
    pub(super) max_length: usize,
}

/// How widely is searched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beam {
    /// Beginnings of each source that are gone on with.
    pub(super) width: usize,
    /// The power of the length that log-probabilities are divided by.
    pub(super) length_penalty: f64,
}

impl Beam {
    /// What texts of different lengths are compared by; `length` counts the end.
    fn score(&self, log_probability: f64, length: usize) -> f64 {
        log_probability / (length.max(1) as f64).powf(self.length_penalty)
    }
}

/// A text that was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written {
    /// Its ids.
    pub(super) ids: Vec<u32>,
    /// The logarithm of its probability, its end included if it has one.
    pub(super) log_probability: f64,
    /// Whether it came to its end, or to the limit of length.
    pub(super) complete: bool,
}

/// The state of one source.
#[derive(Debug, Default)]
struct Search {
    live: Vec<Written>,
    finished: Vec<Written>,
}

/// One of the live with one more id.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    log_probability: f64,
    /// Which of the live of its source.
    from: usize,
    id: u32,
}

/// The texts for each of `sources`, best first; at least one for each, at most as many as the beam is wide. Every row of `steps`
/// is one source to begin with. `stop` ends the search early, with what there is.
pub(super) fn beam_search(
    steps: &mut impl Steps,
    sources: usize,
    beam: Beam,
    rules: Rules,
    stop: &dyn Fn() -> bool,
) -> Vec<Vec<Written>> {
    let nothing = Written { ids: Vec::new(), log_probability: 0.0, complete: false };
    let begin = || Search { live: vec![nothing.clone()], finished: Vec::new() };
    let mut searches: Vec<Search> = (0..sources).map(|_| begin()).collect();
    // One step more than there are ids: after the last of them a text may still end.
    for _ in 0..=rules.max_length {
        let live = searches.iter().flat_map(|search| &search.live);
        let ids: Vec<u32> = live.map(|text| text.ids.last().copied().unwrap_or(rules.begin)).collect();
        if ids.is_empty() || stop() {
            break;
        }
        let vocab_logits = steps.step(&ids);
        let vocabulary = vocab_logits.len() / ids.len();
        let rows = log_sums(&vocab_logits, vocabulary);
        let mut first = 0;
        let places: Vec<usize> = searches
            .iter()
            .map(|search| {
                first += search.live.len();
                first - search.live.len()
            })
            .collect();
        let kept: Vec<Vec<usize>> = searches
            .par_iter_mut()
            .zip(&places)
            .map(|(search, &first)| {
                let rows = rows[first..].iter().zip(vocab_logits[first * vocabulary..].chunks_exact(vocabulary));
                let rows: Vec<(f64, &[f32])> =
                    rows.take(search.live.len()).map(|(sum, row)| (f64::from(*sum), row)).collect();
                search.advance(&rows, beam, rules).into_iter().map(|from| first + from).collect()
            })
            .collect();
        steps.recycle(vocab_logits);
        steps.select(&kept.concat());
    }
    searches.into_iter().map(|search| search.end(beam)).collect()
}

/// `ln Σ exp(logits)` of each row.
fn log_sums(vocab_logits: &[f32], vocabulary: usize) -> Vec<f32> {
    let rows = vocab_logits.len() / vocabulary.max(1);
    let mut lse = vec![0.0; rows];
    // The loss of a target comes with it; no target counts.
    cross_entropy_forward(vocab_logits, vocabulary, &vec![NONE; rows], 0.0, &mut lse);
    lse
}

impl Search {
    /// One id more for the live ones, of each of which `rows` has the logarithm of the sum and the logits. Returns which of them the
    /// new live ones come from.
    fn advance(&mut self, rows: &[(f64, &[f32])], beam: Beam, rules: Rules) -> Vec<usize> {
        let (mut live, mut from) = (Vec::with_capacity(beam.width), Vec::with_capacity(beam.width));
        let full = self.live.first().is_some_and(|text| text.ids.len() == rules.max_length);
        // Twice as many: at worst half of them end.
        for (rank, candidate) in best_candidates(&self.live, rows, 2 * beam.width, rules.end).into_iter().enumerate() {
            let Candidate { log_probability, from: before, id } = candidate;
            let text = &self.live[before];
            if id == rules.end {
                if rank < beam.width {
                    self.finished.push(Written { ids: text.ids.clone(), log_probability, complete: true });
                }
            } else if live.len() < beam.width && !full {
                let ids = text.ids.iter().copied().chain([id]).collect();
                live.push(Written { ids, log_probability, complete: false });
                from.push(before);
            }
        }
        if full {
            return (0..self.live.len()).collect();
        }
        self.live = live;
        if self.finished.len() >= beam.width || self.is_decided(beam, rules) {
            self.live.clear();
            from.clear();
        }
        from
    }

    /// Whether no live text can become better than the best finished one: no probability rises any more, only lengths grow.
    fn is_decided(&self, beam: Beam, rules: Rules) -> bool {
        let best = self.finished.iter().map(|text| beam.score(text.log_probability, text.ids.len() + 1));
        let Some(best) = best.max_by(f64::total_cmp) else { return false };
        let longest = rules.max_length + 1;
        self.live.iter().all(|text| beam.score(text.log_probability, longest) <= best)
    }

    /// What was found, best first: first what is complete.
    fn end(self, beam: Beam) -> Vec<Written> {
        let score = |text: &Written| beam.score(text.log_probability, text.ids.len() + usize::from(text.complete));
        let mut found = self.finished;
        if found.is_empty() {
            found = self.live;
        }
        found.sort_by(|a, b| score(b).total_cmp(&score(a)));
        found.truncate(beam.width);
        found
    }
}

/// The `count` likeliest, best first; of equally likely ones that of the earlier text, then of the lower id.
fn best_candidates(live: &[Written], rows: &[(f64, &[f32])], count: usize, lowest: u32) -> Vec<Candidate> {
    let mut best: Vec<Candidate> = Vec::with_capacity(count + 1);
    for (from, (text, (sum, row))) in live.iter().zip(rows).enumerate() {
        let base = text.log_probability - sum;
        for (id, &logit) in row.iter().enumerate().skip(lowest as usize) {
            let log_probability = base + f64::from(logit);
            if best.len() == count && best[count - 1].log_probability >= log_probability {
                continue;
            }
            let worse = |other: &Candidate| other.log_probability.total_cmp(&log_probability) == Ordering::Less;
            let place = best.iter().position(worse).unwrap_or(best.len());
            best.insert(place, Candidate { log_probability, from, id: id as u32 });
            best.truncate(count);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use qkv::random::Key;

    const RULES: Rules = Rules { begin: 1, end: 2, max_length: 4 };
    const VOCABULARY: usize = 6;

    /// A model whose logits are drawn anew for each beginning.
    #[derive(Clone)]
    struct Drawn {
        key: Key,
        texts: Vec<Vec<u32>>,
    }

    impl Drawn {
        fn new(seed: u64, sources: usize) -> Self {
            // Each source begins with something of its own.
            Self { key: Key::new(seed), texts: (0..sources as u32).map(|source| vec![100 + source]).collect() }
        }

        fn logits(&self, text: &[u32]) -> Vec<f32> {
            let key = text.iter().fold(self.key, |key, &id| key.fold(u64::from(id)));
            (0..VOCABULARY as u64).map(|id| 2.0 * key.normal(id)).collect()
        }
    }

    impl Steps for Drawn {
        fn step(&mut self, ids: &[u32]) -> Vec<f32> {
            self.texts.iter_mut().zip(ids).for_each(|(text, &id)| text.push(id));
            self.texts.iter().flat_map(|text| self.logits(text)).collect()
        }

        fn select(&mut self, rows: &[usize]) {
            self.texts = rows.iter().map(|&row| self.texts[row].clone()).collect();
        }
    }

    /// Every text that ends within the limit.
    fn all_texts(model: &Drawn, beam: Beam) -> Vec<(f64, Written)> {
        let mut all = Vec::new();
        let mut open = vec![(vec![model.texts[0][0], RULES.begin], 0.0)];
        while let Some((text, log_probability)) = open.pop() {
            let logits = model.logits(&text);
            let sum = f64::from(log_sums(&logits, VOCABULARY)[0]);
            let ids = text[2..].to_vec();
            for id in RULES.end..VOCABULARY as u32 {
                let log_probability = log_probability + f64::from(logits[id as usize]) - sum;
                if id == RULES.end {
                    let score = beam.score(log_probability, ids.len() + 1);
                    all.push((score, Written { ids: ids.clone(), log_probability, complete: true }));
                } else if ids.len() < RULES.max_length {
                    open.push(([text.clone(), vec![id]].concat(), log_probability));
                }
            }
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all
    }

    #[test]
    fn a_beam_as_wide_as_the_world_finds_what_exhaustive_search_finds() {
        for seed in 0..40 {
            for length_penalty in [0.0, 0.6, 1.0, 2.0] {
                let model = Drawn::new(seed, 1);
                let beam = Beam { width: 1000, length_penalty };
                let found = beam_search(&mut model.clone(), 1, beam, RULES, &|| false);
                let (_, best) = &all_texts(&model, beam)[0];
                assert_eq!(found[0][0].ids, best.ids, "seed {seed}, penalty {length_penalty}");
                assert!((found[0][0].log_probability - best.log_probability).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_wider_beam_finds_likelier_texts() {
        let mean = |width: usize| {
            let beam = Beam { width, length_penalty: 0.0 };
            let found = (0..200).map(|seed| beam_search(&mut Drawn::new(seed, 1), 1, beam, RULES, &|| false));
            found.map(|found| found[0][0].log_probability).sum::<f64>() / 200.0
        };
        let means = [1, 2, 4, 16].map(mean);
        assert!(means.is_sorted(), "{means:?}");
        assert!(means[0] < means[3] - 0.1, "{means:?}");
    }

    #[test]
    fn sources_are_searched_as_if_each_were_alone() {
        let beam = Beam { width: 3, length_penalty: 1.0 };
        for seed in 0..20 {
            let mut together = Drawn::new(seed, 5);
            let found = beam_search(&mut together, 5, beam, RULES, &|| false);
            for (source, found) in found.into_iter().enumerate() {
                let mut alone = Drawn::new(seed, 5);
                alone.texts = vec![alone.texts[source].clone()];
                assert_eq!(beam_search(&mut alone, 1, beam, RULES, &|| false)[0], found);
            }
        }
    }

    #[test]
    fn a_beam_of_one_takes_the_likeliest_each_time() {
        for seed in 0..20 {
            let mut model = Drawn::new(seed, 1);
            let beam = Beam { width: 1, length_penalty: 1.0 };
            let found = &beam_search(&mut model.clone(), 1, beam, RULES, &|| false)[0][0];
            let mut expected = Vec::new();
            let mut last = RULES.begin;
            loop {
                let logits = model.step(&[last]);
                let best = (RULES.end as usize..VOCABULARY).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
                last = best.expect("some id") as u32;
                if last == RULES.end || expected.len() == RULES.max_length {
                    break;
                }
                expected.push(last);
            }
            assert_eq!((found.complete, &found.ids), (last == RULES.end, &expected));
        }
    }

    #[test]
    fn nothing_forbidden_is_written_and_the_limit_is_told() {
        let mut incomplete = 0;
        for seed in 0..50 {
            let beam = Beam { width: 2, length_penalty: 1.0 };
            for text in &beam_search(&mut Drawn::new(seed, 1), 1, beam, Rules { max_length: 1, ..RULES }, &|| false)[0]
            {
                assert!(text.ids.iter().all(|&id| id > RULES.end) && text.ids.len() <= 1);
                incomplete += usize::from(!text.complete);
            }
        }
        assert!(incomplete > 0);
    }

    #[test]
    fn told_to_stop_it_ends_with_what_there_is() {
        let beam = Beam { width: 2, length_penalty: 1.0 };
        let found = beam_search(&mut Drawn::new(1, 3), 3, beam, RULES, &|| true);
        assert!(found.iter().all(|texts| texts.len() == 1 && !texts[0].complete && texts[0].ids.is_empty()));
    }
}
