//! Units in, one row of outputs for each text out.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use qkv::activation::Activation;
use qkv_nn::attention::Layout;
use qkv_nn::layers::{Encoder, Init, Linear, Pass, Pooling};
use qkv_nn::ops::gather_sum;

use crate::input::{Batch, InputEmbedding, InputSizes, with_first};
use crate::recipe::{self, Recipe};
use crate::stack::{encoder_options, encoder_parameters, pooling};

/// What of a model's size comes from the data.
#[derive(Clone, Debug)]
pub(crate) struct ClassifySizes {
    /// What comes in.
    pub(crate) input: InputSizes,
    /// Numbers that come out: one for each label, or 1 where a number is wanted.
    pub(crate) outputs: usize,
}

/// Embedding, encoder, pooling, and a linear layer to the outputs; perhaps several of them, which answer together.
#[derive(Module, Debug)]
pub struct ClassifyModel {
    embedding: InputEmbedding,
    /// The vector that is put in front of each set to stand for the whole, `[1, d_model]`.
    class_vector: Option<Param<Tensor<2>>>,
    encoder: Encoder,
    pooling: Pooling,
    head: Linear,
    /// The other members, each with parameters of its own and without further ones.
    others: Vec<ClassifyModel>,
    #[module(skip)]
    dropout: f32,
}

impl ClassifyModel {
    /// A model with fresh parameters.
    pub(crate) fn new(recipe: &Recipe, sizes: &ClassifySizes, init: &Init) -> Self {
        let first = Self::member(recipe, sizes, init);
        Self { others: (1..recipe.model.members).map(|_| Self::member(recipe, sizes, init)).collect(), ..first }
    }

    fn member(recipe: &Recipe, sizes: &ClassifySizes, init: &Init) -> Self {
        let (d_model, pooling) = (recipe.model.d_model, pooling(recipe, &sizes.input));
        let deviation = recipe.input.embedding_deviation as f32;
        Self {
            embedding: InputEmbedding::new(recipe, &sizes.input, init),
            class_vector: has_class_vector(recipe).then(|| init.normal([1, d_model], deviation)),
            encoder: Encoder::new(&encoder_options(recipe, &sizes.input), init),
            pooling: Pooling::new(pooling, d_model, init),
            head: Linear::new(Pooling::width(pooling, d_model), sizes.outputs, init),
            others: Vec::new(),
            dropout: recipe.training.dropout as f32,
        }
    }

    /// How many numbers [`ClassifyModel::new`] would make a model of, without making one.
    pub(crate) fn parameter_count(recipe: &Recipe, sizes: &ClassifySizes) -> u128 {
        let (d_model, pooling) = (recipe.model.d_model, pooling(recipe, &sizes.input));
        let (d, width, outputs) = (d_model as u128, Pooling::width(pooling, d_model) as u128, sizes.outputs as u128);
        let class_vector = if has_class_vector(recipe) { d } else { 0 };
        let member = InputEmbedding::parameter_count(recipe, &sizes.input)
            + class_vector
            + encoder_parameters(&encoder_options(recipe, &sizes.input))
            + Pooling::parameter_count(pooling, d_model)
            + (width * outputs + outputs);
        member * recipe.model.members as u128
    }

    /// Class logits, or the number on its scale, of each set of a batch, `[sets, outputs]`: the mean over the members.
    pub(crate) fn forward(&self, batch: &Batch, pass: &Pass) -> Tensor<2> {
        let count = 1 + self.others.len();
        let sum = self.forward_each(batch, pass).reduce(|sum, outputs| sum + outputs);
        let sum = sum.expect("there is a first member");
        if count == 1 { sum } else { sum / count as f64 }
    }

    /// The same of each member for itself, as they are trained.
    pub(crate) fn forward_each<'a>(&'a self, batch: &'a Batch, pass: &'a Pass) -> impl Iterator<Item = Tensor<2>> + 'a {
        std::iter::once(self).chain(&self.others).map(|member| member.forward_alone(batch, pass))
    }

    fn forward_alone(&self, batch: &Batch, pass: &Pass) -> Tensor<2> {
        let (x, layout) = self.embed(batch);
        let x = self.encoder.forward(pass.dropout(x, self.dropout), &layout, pass);
        let pooled = pass.dropout(self.pooling.forward(x, &layout), self.dropout);
        self.head.forward(pooled, Activation::Identity)
    }

    /// How many blocks there are.
    pub fn layers(&self) -> usize {
        self.encoder.layers()
    }

    /// The vectors of one layer, `[tokens, d_model]`, without those that stand for the whole: of layer 0 what goes into the encoder,
    /// of layer *n* what comes out of block *n*, of the last what is pooled. Of several members they are those of the first.
    ///
    /// # Panics
    /// If there are not so many layers.
    pub(crate) fn vectors(&self, batch: &Batch, layer: usize) -> Tensor<2> {
        let (x, layout) = self.embed(batch);
        let x = self.encoder.forward_to(layer, x, &layout, &Pass::inference());
        if self.class_vector.is_none() {
            return x;
        }
        let behind_the_first = |set| layout.offsets().range(set).skip(1).map(|row| row as u32);
        gather_sum(x, (0..layout.offsets().sets()).flat_map(behind_the_first).collect(), 1)
    }

    /// What goes into the encoder, and which vectors belong together.
    fn embed(&self, batch: &Batch) -> (Tensor<2>, Layout) {
        let (x, layout) = self.embedding.forward(batch, &self.head.device());
        match &self.class_vector {
            Some(class_vector) => with_first(class_vector.val(), x, &layout),
            None => (x, layout),
        }
    }
}

fn has_class_vector(recipe: &Recipe) -> bool {
    recipe.model.pooling == Some(recipe::Pooling::Class)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use qkv::Offsets;
    use qkv_data::EncodedSentences;

    use super::*;
    use crate::input::Sets;
    use crate::numbers::floats;

    const SIZES: ClassifySizes = ClassifySizes {
        input: InputSizes { vocabulary: 11, pretrained: None, dim: 0, nodes: None, cells: [0, 0] },
        outputs: 3,
    };

    fn recipe(assignments: &[&str]) -> Recipe {
        let mut recipe = Recipe::default();
        for assignment in ["model.task=classify", "model.d_model=8", "model.heads=2"].iter().chain(assignments) {
            recipe.set(assignment).expect(assignment);
        }
        recipe.check().expect("a recipe that can be");
        recipe
    }

    fn model(recipe: &Recipe) -> ClassifyModel {
        ClassifyModel::new(recipe, &SIZES, &Init::new(1, &Device::flex()))
    }

    /// Every mixer and every pooling at least once.
    const CHOICES: [&[&str]; 11] = [
        &[],
        &["model.mixer=none", "model.pooling=mean", "input.embedding_dim=6"],
        &["model.mixer=window", "model.pooling=ends"],
        &["model.mixer=cnn", "model.pooling=attention"],
        &["model.mixer=rnn", "model.hidden=3"],
        &["model.mixer=rnn", "model.pooling=class"],
        &["model.pooling=class", "model.positions=learned", "model.max_positions=9"],
        &["model.pooling=attention", "model.positions=relative"],
        &["model.pooling=class", "model.positions=rotary", "input.words=one-hot"],
        &["model.pooling=sum-mean"],
        &["model.pooling=class", "model.members=3"],
    ];

    #[test]
    fn parameters_are_counted_without_making_them() {
        for assignments in CHOICES {
            let recipe = recipe(assignments);
            let count = ClassifyModel::parameter_count(&recipe, &SIZES);
            assert_eq!(count, model(&recipe).num_params() as u128, "{assignments:?}");
        }
    }

    #[test]
    fn a_texts_answer_does_not_depend_on_its_batch_mates_nor_on_their_order() {
        let texts = [vec![1, 2, 3, 4, 5], vec![], vec![6], vec![7, 7, 8]];
        let encoded = Sets::Texts(EncodedSentences::from_ids(texts));
        for assignments in CHOICES {
            let model = model(&recipe(assignments));
            let run =
                |indices: &[usize]| floats(model.forward(&encoded.batch(indices), &Pass::inference()).into_data());
            let together = run(&[3, 1, 0, 2]);
            for (place, text) in [3, 1, 0, 2].into_iter().enumerate() {
                for (a, b) in together[place * 3..][..3].iter().zip(run(&[text])) {
                    assert!((a - b).abs() < 1e-5, "{assignments:?}, text {text}: {a} against {b}");
                }
            }
            assert!(run(&[]).is_empty(), "{assignments:?}");
        }
    }

    #[test]
    fn several_members_differ_and_answer_with_their_mean() {
        let (one, three) = (model(&recipe(&[])), model(&recipe(&["model.members=3"])));
        let batch = Sets::Texts(EncodedSentences::from_ids([vec![1, 2, 3], vec![4]])).batch(&[0, 1]);
        let pass = Pass::inference();
        let each: Vec<Vec<f32>> =
            three.forward_each(&batch, &pass).map(|outputs| floats(outputs.into_data())).collect();
        assert_eq!(each.len(), 3);
        assert_eq!(each[0], floats(one.forward(&batch, &pass).into_data()), "the first is what one would be alone");
        assert!(each[0] != each[1] && each[1] != each[2]);
        for (place, mean) in floats(three.forward(&batch, &pass).into_data()).into_iter().enumerate() {
            let expected = each.iter().map(|outputs| outputs[place]).sum::<f32>() / 3.0;
            assert!((mean - expected).abs() < 1e-6, "{mean} against {expected}");
        }
    }

    #[test]
    fn the_class_vector_stands_before_each_set() {
        let tensor = |rows: &[f32]| {
            let data = TensorData::new(rows.iter().flat_map(|x| [*x, -x]).collect(), [rows.len(), 2]);
            Tensor::<2>::from_data(data, &Device::flex())
        };
        let offsets = Offsets::from_lengths([2, 0, 1]);
        let (x, longer) = with_first(tensor(&[9.0]), tensor(&[1.0, 2.0, 3.0]), &Layout::new(offsets));
        assert_eq!(longer.offsets().lengths().collect::<Vec<_>>(), [3, 1, 2]);
        assert_eq!(floats(x.into_data()), floats(tensor(&[9.0, 1.0, 2.0, 9.0, 9.0, 3.0]).into_data()));
    }
}
