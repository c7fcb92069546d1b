//! Writing many texts, and how good they are.

use std::ops::Range;

use qkv::random::Key;
use qkv_data::{Codec, plan_in_order};
use qkv_nn::attention::Layout;
use qkv_nn::layers::{DecoderState, Memory, Pass};
use qkv_nn::recycle;

use super::data::{EncodedPairs, Sources};
use crate::generate::GenerateModel;
use crate::generate::sample::Sampling;
pub(super) use crate::generate::search::Written;
use crate::generate::search::{Beam, Rules, Steps, beam_search};
use crate::metrics::{ErrorRate, bleu, chrf, share};
use crate::numbers::{argmax, floats};
use crate::recipe::{Recipe, Strategy, Unit};

/// Keeps the draws of units apart from those of training.
const SAMPLING_STREAM: u64 = 0x5A3F;

/// How texts are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoding {
    beam: usize,
    length_penalty: f64,
    max_length: usize,
    batch_tokens: usize,
    /// The number of the first text, for which what is drawn depends on where it stands.
    first: u64,
    /// Where units are drawn instead of searched for: how, and from what.
    sampling: Option<(Sampling, Key)>,
}

impl Decoding {
    /// The same, with the likeliest unit each time.
    pub(super) fn greedy(self) -> Self {
        Self { beam: 1, sampling: None, ..self }
    }

    /// What a source of so many units counts in a batch: its length, but enough that the texts that are written side by side, and what is
    /// kept of them, do not become many where sources are short or the beam is wide.
    fn weight(&self, source: usize) -> usize {
        const SHORTEST: usize = 8;
        source.max(SHORTEST).max(2 * self.beam)
    }

    /// The same, for texts that so many stand before.
    pub(super) fn starting_at(self, first: u64) -> Self {
        Self { first, ..self }
    }

    pub(super) fn of(recipe: &Recipe) -> Self {
        let decoding = &recipe.decoding;
        let sampled = decoding.strategy == Some(Strategy::Sample);
        Self {
            beam: decoding.beam,
            length_penalty: decoding.length_penalty,
            max_length: decoding.max_length,
            batch_tokens: decoding.batch_tokens,
            first: 0,
            sampling: sampled.then(|| (Sampling::of(decoding), Key::new(recipe.training.seed).fold(SAMPLING_STREAM))),
        }
    }
}

/// Several texts, a row each, on their way through a model.
struct Rows<'a> {
    model: &'a GenerateModel,
    state: DecoderState,
}

impl Steps for Rows<'_> {
    fn step(&mut self, ids: &[u32]) -> Vec<f32> {
        qkv::awake(|| self.model.step(ids, &mut self.state))
    }

    fn recycle(&mut self, vocab_logits: Vec<f32>) {
        recycle(vocab_logits);
    }

    fn select(&mut self, rows: &[usize]) {
        self.state.select(rows);
    }
}

/// What is written for each of the `which` of `sources`, best first. `stop` ends the work early, with what there is.
pub(super) fn write_all(
    model: &GenerateModel,
    sources: &Sources,
    which: Range<usize>,
    decoding: &Decoding,
    stop: &dyn Fn() -> bool,
) -> Vec<Vec<Written>> {
    let mut all = vec![Vec::new(); which.len()];
    let weights: Vec<usize> = sources.lengths()[which.clone()].iter().map(|&length| decoding.weight(length)).collect();
    for places in plan_in_order(&weights, decoding.batch_tokens) {
        if stop() {
            break;
        }
        let numbers: Vec<usize> = places.iter().map(|place| which.start + place).collect();
        let batch = sources.batch(&numbers);
        let memory: Memory = qkv::awake(|| batch.read(model, &Pass::inference()));
        let mut rows = Rows { model, state: model.begin(Some(&memory), numbers.len()) };
        let rules = Rules { begin: Codec::BEGIN, end: Codec::END, max_length: decoding.max_length };
        let written = match decoding.sampling {
            Some((sampling, key)) => {
                let keys: Vec<Key> = numbers.iter().map(|&number| key.fold(decoding.first + number as u64)).collect();
                draw(&mut rows, &keys, sampling, rules, stop)
            }
            None => {
                let beam = Beam { width: decoding.beam, length_penalty: decoding.length_penalty };
                beam_search(&mut rows, numbers.len(), beam, rules, stop)
            }
        };
        for (place, written) in places.into_iter().zip(written) {
            all[place] = written;
        }
    }
    all
}

/// One text for each source, drawn unit by unit, each by a key of its own.
fn draw(
    rows: &mut impl Steps,
    keys: &[Key],
    sampling: Sampling,
    rules: Rules,
    stop: &dyn Fn() -> bool,
) -> Vec<Vec<Written>> {
    let nothing = Written { ids: Vec::new(), log_probability: 0.0, complete: false };
    let mut texts = vec![nothing; keys.len()];
    let mut live: Vec<usize> = (0..keys.len()).collect();
    for step in 0..=rules.max_length {
        if live.is_empty() || stop() {
            break;
        }
        let ids: Vec<u32> = live.iter().map(|&text| texts[text].ids.last().copied().unwrap_or(rules.begin)).collect();
        let vocab_logits = rows.step(&ids);
        let vocabulary = vocab_logits.len() / ids.len();
        let mut kept = Vec::new();
        for (row, (&text, logits)) in live.iter().zip(vocab_logits.chunks_exact(vocabulary)).enumerate() {
            let draw = keys[text].uniform(step as u64);
            let (id, log_probability) = sampling.choose(logits, rules.end as usize, draw);
            if id == rules.end {
                texts[text].complete = true;
            } else if texts[text].ids.len() < rules.max_length {
                texts[text].ids.push(id);
                kept.push(row);
            } else {
                continue;
            }
            texts[text].log_probability += log_probability;
        }
        rows.recycle(vocab_logits);
        live = kept.iter().map(|&row| live[row]).collect();
        rows.select(&kept);
    }
    texts.into_iter().map(|text| vec![text]).collect()
}

/// What a model reached on pairs whose right beginnings it was shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    /// Units that were predicted, ends included.
    pub(super) tokens: usize,
    /// Mean cross-entropy, nats a unit.
    pub(super) loss: f64,
    /// The share of units that were thought the likeliest.
    pub(super) accuracy: f64,
}

/// Judges each unit of each pair by what was read and the right units before it.
pub(super) fn judge_loss(model: &GenerateModel, pairs: &EncodedPairs, batch_tokens: usize) -> Reached {
    let (mut tokens, mut right, mut loss) = (0, 0, 0.0);
    for numbers in plan_in_order(&pairs.lengths(), batch_tokens) {
        let batch = pairs.batch(&numbers);
        let vocab_logits = qkv::awake(|| {
            let pass = Pass::inference();
            let memory = batch.source.read(model, &pass);
            model.forward(batch.before, &Layout::new(batch.target_offsets), Some(&memory), &pass)
        });
        let vocabulary = vocab_logits.dims()[1];
        let vocab_logits = floats(vocab_logits.into_data());
        let mut lse = vec![0.0; batch.targets.len()];
        let part = qkv::loss::cross_entropy_forward(&vocab_logits, vocabulary, &batch.targets, 0.0, &mut lse);
        loss += f64::from(part.loss) * part.counted as f64;
        tokens += batch.targets.len();
        for (target, row) in batch.targets.iter().zip(vocab_logits.chunks_exact(vocabulary)) {
            // Whoever says *unknown* has not said which.
            right += usize::from(*target != Codec::UNKNOWN && argmax(row) == *target);
        }
    }
    Reached { tokens, loss: loss / tokens.max(1) as f64, accuracy: share(right, tokens) }
}

/// How near `written` texts are to the `wanted` ones, by the usual names of what is measured.
pub(in crate::generate) fn quality(recipe: &Recipe, written: &[String], wanted: &[String]) -> Vec<(&'static str, f64)> {
    let mut words = ErrorRate::default();
    for (written, wanted) in written.iter().zip(wanted) {
        let split = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        words.add(&split(wanted), &split(written));
    }
    if recipe.input.target_unit.unwrap_or(recipe.input.unit) == Unit::Phones {
        // The words of such a task are the sequences, and what stands between spaces is a phone.
        return vec![
            ("wer", words.sequence_error_rate()),
            ("per", words.item_error_rate()),
            ("exact_match", words.exact_match()),
        ];
    }
    let pairs = || written.iter().zip(wanted);
    vec![
        ("bleu", bleu(pairs(), false).score),
        ("bleu_lowercase", bleu(pairs(), true).score),
        ("chrf", chrf(pairs(), false)),
        ("exact_match", words.exact_match()),
        ("wer", words.item_error_rate()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_texts_are_written_side_by_side_where_sources_are_short_or_the_beam_is_wide() {
        for beam in [1, 5, 1000] {
            let mut recipe = Recipe::default();
            recipe.set(&format!("decoding.beam={beam}")).expect("a number");
            let decoding = Decoding::of(&recipe);
            let weights = vec![decoding.weight(1); 10_000];
            let batches = plan_in_order(&weights, decoding.batch_tokens);
            let rows = batches.iter().map(Vec::len).max().expect("a batch") * beam;
            assert!((1..=decoding.batch_tokens).contains(&rows), "{rows} rows of a beam of {beam}");
        }
        assert_eq!(Decoding::of(&Recipe::default()).weight(100), 100);
    }
}
