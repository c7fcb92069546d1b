//! How good a model is: the class of each pixel against the one that was wanted.

use qkv::gather::NONE;
use qkv_data::image::Masks;
use qkv_data::{Result, plan_in_order};
use qkv_nn::layers::Pass;
use rayon::prelude::*;

use super::model::pixel_logits;
use crate::each::EachModel;
use crate::input::{Examples, Sets};
use crate::metrics::Confusion;
use crate::model::Detail;
use crate::numbers::{argmax, floats};

/// What a model reached.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    /// Mean cross-entropy in nats, of the pixels of a class that the model knows.
    pub(super) loss: f64,
    /// Which class was taken for which, of the pixels that have one.
    pub(super) confusion: Confusion,
}

impl Reached {
    /// Metrics by their usual names; the loss is not among them.
    pub(super) fn metrics(&self) -> Vec<(&'static str, f64)> {
        vec![("mean_iou", self.confusion.mean_iou()), ("accuracy", self.confusion.accuracy())]
    }

    /// The IoU of each of the classes `names`.
    pub(super) fn detail(&self, names: &[String]) -> Detail {
        Detail { name: "classes", json: self.confusion.iou_to_json(names), text: self.confusion.iou_to_text(names) }
    }
}

/// The class logits of a batch, `[tokens · patch², classes]`.
pub(super) fn class_logits(model: &EachModel, sets: &Sets, indices: &[usize], classes: usize) -> Vec<f32> {
    let batch = sets.batch(indices);
    floats(qkv::awake(|| pixel_logits(model, &batch, classes, &Pass::inference())).into_data())
}

/// Judges `model`, which gives the first `classes` classes, on sets with masks.
pub(super) fn judge(model: &EachModel, sets: &Sets, classes: usize, batch_tokens: usize) -> Reached {
    // By (wanted, predicted), as dense as it is small: there are millions of pixels.
    let mut counts = vec![0_usize; 256 * classes];
    let (mut loss, mut counted) = (0.0, 0);
    for indices in plan_in_order(&sets.lengths(), batch_tokens) {
        let class_logits = class_logits(model, sets, &indices, classes);
        let wanted = sets.pixel_classes(&indices, None);
        let known = |&class: &u32| if (class as usize) < classes { class } else { NONE };
        let targets: Vec<u32> = wanted.iter().map(known).collect();
        let mut lse = vec![0.0; targets.len()];
        let part = qkv::loss::cross_entropy_forward(&class_logits, classes, &targets, 0.0, &mut lse);
        loss += f64::from(part.loss) * part.counted as f64;
        counted += part.counted;
        let best: Vec<u32> = class_logits.par_chunks_exact(classes).map(argmax).collect();
        for (&wanted, best) in wanted.iter().zip(best).filter(|(wanted, _)| **wanted != NONE) {
            counts[wanted as usize * classes + best as usize] += 1;
        }
    }
    let mut confusion = Confusion::default();
    for (place, &count) in counts.iter().enumerate() {
        confusion.add_many((place / classes) as u32, (place % classes) as u32, count);
    }
    Reached { loss: if counted == 0 { 0.0 } else { loss / counted as f64 }, confusion }
}

/// Numbers the classes of `examples` as `known`; what its classes are called, those that are not known behind.
///
/// # Errors
/// If there are too many.
pub(super) fn by_classes(examples: &mut Examples, known: &[String]) -> Result<Vec<String>> {
    let Some((album, masks)) = examples.sets.album_mut().and_then(|album| {
        let masks = album.masks.take()?;
        Some((album, masks))
    }) else {
        return Ok(known.to_vec());
    };
    let masks = if masks.classes() == known {
        masks
    } else {
        let own = std::sync::Arc::unwrap_or_clone(masks);
        own.with_classes(known, &examples.name)?.into()
    };
    let names = masks.classes().to_vec();
    album.masks = Some(masks);
    Ok(names)
}

/// How many pixels of the pictures are of each class, `[classes of the masks]`.
pub(super) fn pixels_of_classes(sets: &Sets) -> Vec<usize> {
    let Some((album, masks)) = sets.album().and_then(|album| Some((album, album.masks.as_deref()?))) else {
        return Vec::new();
    };
    let mut counts = vec![0; masks.classes().len()];
    let add = |masks: &Masks, picture: usize, counts: &mut Vec<usize>| {
        for &class in masks.mask(picture) {
            // What has no class has none of these numbers.
            if let Some(count) = counts.get_mut(usize::from(class)) {
                *count += 1;
            }
        }
    };
    album.which.iter().for_each(|&picture| add(masks, picture, &mut counts));
    counts
}

/// What the user should know of classes of `name` that training did not have: `names` begin with the `known` ones.
pub(super) fn unseen_warnings(name: &str, names: &[String], known: usize, sets: &Sets) -> Vec<String> {
    let counts = pixels_of_classes(sets);
    let unseen = names.iter().zip(counts).skip(known).filter(|(_, count)| *count > 0);
    let told = |(class, count): (&String, usize)| {
        format!("{name}: class `{class}` is none of the training data's; its {count} pixels count as wrong")
    };
    unseen.map(told).collect()
}
