//! The attention over one sentence, as data: words, tags, weights, and whether they fit together. No drawing here.

use crate::ViewError;

/// The weights of one head over one set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeadWeights {
    /// Queries, and keys: the weights are `size × size`.
    pub size: usize,
    /// Row-major `[query, key]`. A value that is not finite is shown as such.
    pub weights: Vec<f32>,
}

/// The heads of one layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LayerWeights {
    /// Its heads, in order.
    pub heads: Vec<HeadWeights>,
}

/// One sentence and the attention that every head of every layer pays in it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AttentionPicture {
    /// What it is, in a few words.
    pub heading: String,
    /// What to look for in it; may be empty.
    pub note: String,
    /// The words: queries and keys alike.
    pub words: Vec<String>,
    /// The tag that the model gives to each word.
    pub tags: Option<Vec<String>>,
    /// The right tag of each word.
    pub gold: Option<Vec<String>>,
    /// The layers, first to last.
    pub layers: Vec<LayerWeights>,
}

impl AttentionPicture {
    /// Checks that there is one tag for each word and one weight for each pair of words.
    ///
    /// # Errors
    ///
    /// [`ViewError::Tags`] or [`ViewError::Weights`], naming the picture and the place.
    pub fn check(&self) -> Result<(), ViewError> {
        let words = self.words.len();
        for (which, tags) in [("predicted", &self.tags), ("gold", &self.gold)] {
            if let Some(found) = tags.as_ref().map(Vec::len).filter(|&found| found != words) {
                return Err(ViewError::Tags { picture: self.heading.clone(), which, words, found });
            }
        }
        for (layer, heads) in self.layers.iter().enumerate() {
            for (head, weights) in heads.heads.iter().enumerate() {
                let (size, found) = (weights.size, weights.weights.len());
                if size != words || size.checked_mul(size) != Some(found) {
                    let picture = self.heading.clone();
                    return Err(ViewError::Weights { picture, layer, head, words, size, found });
                }
            }
        }
        Ok(())
    }

    /// The weight that is drawn in full colour: 1, or the largest where a normaliser allows more (ReLU).
    pub(crate) fn full_scale(&self) -> f32 {
        let weights = self.layers.iter().flat_map(|layer| &layer.heads).flat_map(|head| &head.weights);
        weights.copied().filter(|weight| weight.is_finite()).fold(1.0, f32::max)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A picture of these words with `layers × heads` heads that differ from each other.
    pub(crate) fn picture(words: &[&str], layers: usize, heads: usize) -> AttentionPicture {
        let size = words.len();
        let head = |seed: usize| {
            let raw = |query: usize, key: usize| 1.0 / (1 + (query * 3 + key * (seed + 2) + seed) % 7) as f32;
            let weights = (0..size).flat_map(|query| {
                let sum: f32 = (0..size).map(|key| raw(query, key)).sum();
                (0..size).map(move |key| raw(query, key) / sum)
            });
            HeadWeights { size, weights: weights.collect() }
        };
        AttentionPicture {
            heading: words.join(" "),
            words: words.iter().map(|&word| word.to_owned()).collect(),
            layers: (0..layers)
                .map(|layer| LayerWeights { heads: (0..heads).map(|h| head(layer * heads + h)).collect() })
                .collect(),
            ..AttentionPicture::default()
        }
    }

    #[test]
    fn weights_of_another_size_are_refused_by_place() {
        let mut wrong = picture(&["I", "saw"], 2, 3);
        wrong.layers[1].heads[2].weights.pop();
        let error = wrong.check().expect_err("one weight is missing").to_string();
        assert!(error.contains("\"I saw\", layer 1, head 2: 3 weights"), "{error}");
        assert!(!error.contains('\n'));
        let mut wrong = picture(&["I", "saw"], 1, 1);
        wrong.layers[0].heads[0] = HeadWeights { size: 1, weights: vec![1.0] };
        assert!(matches!(wrong.check(), Err(ViewError::Weights { size: 1, words: 2, .. })));
        wrong.layers[0].heads[0] = HeadWeights { size: usize::MAX, weights: vec![1.0] };
        assert!(wrong.check().is_err());
    }

    #[test]
    fn tags_of_another_number_are_refused_by_kind() {
        let mut wrong = picture(&["I", "saw"], 1, 1);
        wrong.tags = Some(vec!["PRON".into(), "VERB".into()]);
        assert_eq!(wrong.check(), Ok(()));
        wrong.gold = Some(vec!["PRON".into()]);
        wrong.heading = "two\nlines".into();
        let error = wrong.check().expect_err("one gold tag is missing").to_string();
        assert_eq!(error, "picture \"two\\nlines\": 2 words but 1 gold tags; give one for each word");
    }

    #[test]
    fn full_scale_is_one_unless_a_finite_weight_is_larger() {
        let mut large = picture(&["a", "b"], 1, 1);
        assert_eq!(large.full_scale(), 1.0);
        large.layers[0].heads[0].weights = vec![f32::NAN, f32::INFINITY, 2.5, -3.0];
        assert_eq!(large.full_scale(), 2.5);
    }
}
