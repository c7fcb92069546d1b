//! How good a model is: the label of each vector against the one that was wanted.

use std::collections::BTreeMap;

use qkv::Offsets;
use qkv::gather::NONE;
use qkv_data::plan_in_order;
use qkv_nn::layers::Pass;

use crate::each::EachModel;
use crate::input::{Batch, Sets};
use crate::metrics::Confusion;
use crate::model::Detail;
use crate::numbers::{argmax, floats};

/// What a model reached.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    /// Mean cross-entropy in nats, of the vectors whose label the model knows.
    pub(super) loss: f64,
    /// Which label was taken for which, of the vectors that have one.
    pub(super) confusion: Confusion,
}

impl Reached {
    /// Metrics by their usual names; the loss is not among them.
    pub(super) fn metrics(&self) -> Vec<(&'static str, f64)> {
        vec![("accuracy", self.confusion.accuracy()), ("f1", self.confusion.macro_f1())]
    }

    /// Which of the labels `names` was taken for which.
    pub(super) fn detail(&self, names: &[String]) -> Detail {
        Detail { name: "confusion", json: self.confusion.to_json(names), text: self.confusion.to_text(names) }
    }
}

/// The class logits of a batch, `[vectors, classes]`, and which vectors are which set's.
pub(super) fn class_logits(model: &EachModel, batch: &Batch) -> (Vec<f32>, Offsets) {
    let (class_logits, offsets) = qkv::awake(|| model.forward(batch, &Pass::inference()));
    (floats(class_logits.into_data()), offsets)
}

/// Judges `model`, which gives the first `classes` classes, on sets whose vectors have some.
pub(super) fn judge(model: &EachModel, sets: &Sets, classes: usize, batch_tokens: usize) -> Reached {
    let mut counts: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    let (mut loss, mut counted) = (0.0, 0);
    for indices in plan_in_order(&sets.lengths(), batch_tokens) {
        let batch = sets.batch(&indices);
        let ((class_logits, _), wanted) = (class_logits(model, &batch), batch.targets());
        let known = |&class: &u32| if (class as usize) < classes { class } else { NONE };
        let targets: Vec<u32> = wanted.iter().map(known).collect();
        let mut lse = vec![0.0; targets.len()];
        let part = qkv::loss::cross_entropy_forward(&class_logits, classes, &targets, 0.0, &mut lse);
        loss += f64::from(part.loss) * part.counted as f64;
        counted += part.counted;
        for (&wanted, row) in
            wanted.iter().zip(class_logits.chunks_exact(classes)).filter(|(wanted, _)| **wanted != NONE)
        {
            *counts.entry((wanted, argmax(row))).or_default() += 1;
        }
    }
    let mut confusion = Confusion::default();
    counts.into_iter().for_each(|((wanted, predicted), count)| confusion.add_many(wanted, predicted, count));
    Reached { loss: if counted == 0 { 0.0 } else { loss / counted as f64 }, confusion }
}
