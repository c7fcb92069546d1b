//! How well a model says what comes next, over a whole text.

use std::sync::Arc;

use qkv::Offsets;
use qkv_data::{Codec, UnknownUnit, plan_in_order, windows};
use qkv_nn::attention::Layout;
use qkv_nn::layers::Pass;

use super::GenerateModel;
use crate::metrics::share;
use crate::numbers::{argmax, floats};

/// What a model reached on a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    /// Windows that the text was cut into.
    pub(super) windows: usize,
    /// Units that were predicted.
    pub(super) tokens: usize,
    /// Mean cross-entropy, nats a unit.
    pub(super) loss: f64,
    /// The share of units that were thought the likeliest.
    pub(super) accuracy: f64,
}

impl Reached {
    /// All but the loss, by their usual names. The judged text has so many `characters`: what is lost on each of them can be compared
    /// whatever the units are.
    pub(super) fn metrics(&self, characters: usize) -> Vec<(&'static str, f64)> {
        let bits = self.loss * self.tokens as f64 / characters.max(1) as f64 / std::f64::consts::LN_2;
        vec![("perplexity", self.loss.exp()), ("bits_per_character", bits), ("accuracy", self.accuracy)]
    }
}

/// The inputs and the targets of some windows of a text, end to end: the target of a place is what stands behind it.
pub(super) fn packed(ids: &[u32], windows: &[std::ops::Range<usize>]) -> (Arc<[u32]>, Arc<[u32]>, Offsets) {
    let inputs = windows.iter().flat_map(|window| &ids[window.clone()]).copied().collect();
    let targets = windows.iter().flat_map(|window| &ids[window.start + 1..window.end + 1]).copied().collect();
    (inputs, targets, Offsets::from_lengths(windows.iter().map(std::ops::Range::len)))
}

/// Judges `model` on `ids`, cut into consecutive windows of `context`: each unit but the first is predicted once, from
/// what stands before it in its window.
pub(super) fn judge(model: &GenerateModel, ids: &[u32], context: usize, batch_tokens: usize) -> Reached {
    let windows = windows(ids.len().saturating_sub(1), context, 0);
    let lengths: Vec<usize> = windows.iter().map(std::ops::Range::len).collect();
    let (mut tokens, mut right, mut loss) = (0, 0, 0.0);
    for batch in plan_in_order(&lengths, batch_tokens) {
        let batch: Vec<_> = batch.into_iter().map(|window| windows[window].clone()).collect();
        let (inputs, targets, offsets) = packed(ids, &batch);
        let vocab_logits = qkv::awake(|| model.forward(inputs, &Layout::new(offsets), None, &Pass::inference()));
        let vocabulary = vocab_logits.dims()[1];
        let vocab_logits = floats(vocab_logits.into_data());
        let mut lse = vec![0.0; targets.len()];
        let part = qkv::loss::cross_entropy_forward(&vocab_logits, vocabulary, &targets, 0.0, &mut lse);
        loss += f64::from(part.loss) * part.counted as f64;
        tokens += targets.len();
        for (target, row) in targets.iter().zip(vocab_logits.chunks_exact(vocabulary)) {
            // Whoever says *unknown* has not said which.
            right += usize::from(*target != Codec::UNKNOWN && argmax(row) == *target);
        }
    }
    Reached { windows: windows.len(), tokens, loss: loss / tokens.max(1) as f64, accuracy: share(right, tokens) }
}

/// What the user is told of the units of `source`, called `noun`, that the model does not know; nothing if it knows all.
pub(super) fn unknown_warning(source: &str, unknown: &[UnknownUnit], noun: &str) -> Option<String> {
    let first = unknown.first()?;
    let (count, kinds): (usize, usize) = (unknown.iter().map(|unknown| unknown.count).sum(), unknown.len());
    let (text, line) = (&first.text, first.line);
    // Of subwords it is characters that can be unknown.
    let noun = if noun == "words" { noun } else { "characters" };
    Some(format!(
        "{source}: {count} {noun} are unknown to the model and count as wrong ({kinds} different ones, the first {text:?} on line {line})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Vocabularies;
    use crate::recipe::Recipe;
    use burn::tensor::Device;
    use qkv_data::CodecOptions;
    use qkv_nn::layers::Init;

    #[test]
    fn every_character_but_the_first_is_predicted_once() {
        let mut recipe = Recipe::default();
        for assignment in ["model.task=generate", "input.unit=characters", "model.d_model=8", "model.heads=2"] {
            recipe.set(assignment).expect(assignment);
        }
        let model =
            GenerateModel::new(&recipe, Vocabularies { source: None, target: 5 }, &Init::new(1, &Device::flex()));
        let ids: Vec<u32> = (0..23).map(|i| i * i % 5).collect();
        let reached = judge(&model, &ids, 4, 10);
        assert_eq!((reached.windows, reached.tokens), (6, 22));
        let same = judge(&model, &ids, 4, 1);
        assert!((reached.loss - same.loss).abs() < 1e-6, "the batches do not matter");
        // By the formula, window by window.
        let mut loss = 0.0;
        for start in (0..22).step_by(4) {
            let end = (start + 4).min(22);
            let layout = Layout::new(Offsets::from_lengths([end - start]));
            let rows = floats(model.forward(ids[start..end].into(), &layout, None, &Pass::inference()).into_data());
            for (row, target) in rows.chunks_exact(5).zip(&ids[start + 1..=end]) {
                let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
                loss += sum.ln() - f64::from(row[*target as usize]);
            }
        }
        assert!((reached.loss - loss / 22.0).abs() < 1e-5, "{} {}", reached.loss, loss / 22.0);
        let metrics = reached.metrics(22);
        assert_eq!(metrics[0], ("perplexity", reached.loss.exp()));
        assert!((metrics[1].1 - reached.loss.exp().log2()).abs() < 1e-9);
    }

    #[test]
    fn packed_windows_have_what_comes_next_as_targets() {
        let (inputs, targets, offsets) = packed(&[5, 6, 7, 8, 9], &[2..4, 0..2]);
        assert_eq!((&*inputs, &*targets), (&[7, 8, 5, 6][..], &[8, 9, 6, 7][..]));
        assert_eq!((offsets.sets(), offsets.range(1)), (2, 2..4));
    }

    #[test]
    fn unknown_characters_are_told_in_one_line() {
        let options = CodecOptions { unit: qkv_data::Unit::Characters, ..CodecOptions::default() };
        let codec = Codec::train(["ab"], &options).expect("letters");
        let unknown = codec.unknown("a\nxa\nyx");
        let told = unknown_warning("file", &unknown, "characters").expect("some are unknown");
        assert_eq!(
            told,
            "file: 5 characters are unknown to the model and count as wrong (3 different ones, the first \"\\n\" on line 1)"
        );
        assert_eq!(unknown_warning("file", &[], "characters"), None);
    }
}
