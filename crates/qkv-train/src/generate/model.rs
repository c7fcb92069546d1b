//! What was read and what has been written so far in, for each place one row of logits for what comes next out.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use qkv::activation::Activation;
use qkv_nn::attention::Layout;
use qkv_nn::layers::{
    Decoder, DecoderState, Encoder, Init, Linear, Memory, Pass, Pooling, TextEmbedding, TextEmbeddingOptions,
};

use qkv_nn::ops::gather_sum;

use crate::input::{Batch, InputEmbedding, InputSizes};
use crate::numbers::floats;
use crate::recipe::{Cross, Recipe, Words};
use crate::stack::{decoder_options, decoder_parameters, encoder_options, encoder_parameters, pooling};

/// What of a model's size comes from the data, on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vocabularies {
    /// Of what is read; `None` for a language model, which reads nothing.
    pub source: Option<SourceSize>,
    /// Ids of what is written.
    pub target: usize,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceSize {
    /// Units of texts, which have so many ids.
    Units(usize),
    /// Vectors of so many numbers each, as of the patches of a picture or the frames of a recording.
    Vectors(usize),
}

/// The side that reads.
#[derive(Module, Debug)]
pub(crate) struct Reader {
    /// `None` where both sides share one table, and where what is read is no text.
    embedding: Option<TextEmbedding>,
    /// `None` where what is read is text.
    input: Option<InputEmbedding>,
    encoder: Encoder,
    /// What makes the one vector *c*, where the decoder is fed one.
    summary: Option<Pooling>,
}

/// An embedding, a decoder in which no place sees what comes after it, and logits over the vocabulary; where something is read
/// first, an encoder beside them.
#[derive(Module, Debug)]
pub struct GenerateModel {
    reader: Option<Reader>,
    embedding: TextEmbedding,
    decoder: Decoder,
    /// `None` where the table of embeddings gives the logits.
    head: Option<Linear>,
    head_bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    dropout: f32,
    /// What embeddings are multiplied by: where they also give the logits they are small, and would drown in their positions.
    #[module(skip)]
    scale: f32,
}

impl GenerateModel {
    /// A model with fresh parameters.
    pub fn new(recipe: &Recipe, vocabularies: Vocabularies, init: &Init) -> Self {
        let (d_model, tied) = (recipe.model.d_model, recipe.model.tied);
        let embedding = |vocabulary| {
            let deviation = if tied { 1.0 / (d_model as f32).sqrt() } else { recipe.input.embedding_deviation as f32 };
            let embedding_dim = embedding_dim(recipe);
            let options =
                TextEmbeddingOptions { vocabulary, buckets: 0, embedding_dim, d_model, deviation, pretrained: None };
            TextEmbedding::new(&options, init)
        };
        let sizes = read_sizes(vocabularies.source);
        let reader = vocabularies.source.map(|source| Reader {
            embedding: match source {
                SourceSize::Units(source) => (!recipe.input.shared).then(|| embedding(source)),
                SourceSize::Vectors(_) => None,
            },
            input: match source {
                SourceSize::Units(_) => None,
                SourceSize::Vectors(dim) => Some(InputEmbedding::new(recipe, &input_sizes(dim), init)),
            },
            encoder: Encoder::new(&encoder_options(recipe, &sizes), init),
            summary: (recipe.model.cross == Cross::None).then(|| Pooling::new(pooling(recipe, &sizes), d_model, init)),
        });
        let decoder = decoder_options(recipe, reader.is_some());
        Self {
            reader,
            embedding: embedding(vocabularies.target),
            decoder: Decoder::new(&decoder, init),
            head: (!tied).then(|| Linear::new(d_model, vocabularies.target, init)),
            head_bias: tied.then(|| init.constant([vocabularies.target], 0.0)),
            dropout: recipe.training.dropout as f32,
            scale: if tied { (d_model as f32).sqrt() } else { 1.0 },
        }
    }

    /// How many numbers [`GenerateModel::new`] would make a model of, without making one.
    pub fn parameter_count(recipe: &Recipe, vocabularies: Vocabularies) -> u128 {
        let d_model = recipe.model.d_model;
        let [d, dim] = [d_model, embedding_dim(recipe)].map(|n| n as u128);
        let linear = |dim_in: u128, dim_out: u128| dim_in * dim_out + dim_out;
        let table = |vocabulary: usize| vocabulary as u128 * dim + if dim == d { 0 } else { linear(dim, d) };
        let reader = vocabularies.source.map_or(0, |source| {
            let embedding = match source {
                SourceSize::Units(_) if recipe.input.shared => 0,
                SourceSize::Units(source) => table(source),
                SourceSize::Vectors(dim) => InputEmbedding::parameter_count(recipe, &input_sizes(dim)),
            };
            let sizes = read_sizes(vocabularies.source);
            let summary = match recipe.model.cross {
                Cross::None => Pooling::parameter_count(pooling(recipe, &sizes), d_model),
                Cross::Attention => 0,
            };
            embedding + encoder_parameters(&encoder_options(recipe, &sizes)) + summary
        });
        let target = vocabularies.target as u128;
        let head = if recipe.model.tied { target } else { linear(d, target) };
        let decoder = decoder_parameters(&decoder_options(recipe, vocabularies.source.is_some()));
        reader + table(vocabularies.target) + decoder + head
    }

    /// What an encoder makes of some sequences end to end.
    ///
    /// # Panics
    /// If the model reads nothing, or no texts.
    pub fn read(&self, ids: Arc<[u32]>, layout: &Layout, pass: &Pass) -> Memory {
        let reader = self.reader.as_ref().expect("a model that reads");
        self.remember(reader, self.embed(self.source_embedding(reader), ids), layout, pass)
    }

    /// The same of pictures or recordings.
    ///
    /// # Panics
    /// If the model reads nothing, or texts.
    pub(crate) fn read_sets(&self, batch: &Batch, pass: &Pass) -> Memory {
        let reader = self.reader.as_ref().expect("a model that reads");
        let input = reader.input.as_ref().expect("a model that reads no texts");
        let (x, layout) = input.forward(batch, &self.device());
        self.remember(reader, x, &layout, pass)
    }

    fn remember(&self, reader: &Reader, x: Tensor<2>, layout: &Layout, pass: &Pass) -> Memory {
        let vectors = reader.encoder.forward(pass.dropout(x, self.dropout), layout, pass);
        let summary = reader.summary.as_ref().map(|pooling| pooling.forward(vectors.clone(), layout));
        Memory { vectors, offsets: layout.offsets().clone(), summary }
    }

    /// The table of units that are read.
    fn source_embedding<'a>(&'a self, reader: &'a Reader) -> &'a TextEmbedding {
        assert!(reader.input.is_none(), "a model that reads texts");
        reader.embedding.as_ref().unwrap_or(&self.embedding)
    }

    /// Logits of what follows each place, `[tokens, vocabulary]`, of some sequences end to end; each is written from what was read
    /// in its set of `memory`.
    pub fn forward(&self, ids: Arc<[u32]>, layout: &Layout, memory: Option<&Memory>, pass: &Pass) -> Tensor<2> {
        let x = pass.dropout(self.embed(&self.embedding, ids), self.dropout);
        self.logits(self.decoder.forward(x, layout, memory, pass))
    }

    /// Logits of what follows the last place of each sequence, `[sequences, vocabulary]`, of some end to end that are written from
    /// nothing. None may be empty.
    pub fn forward_last(&self, ids: Arc<[u32]>, layout: &Layout, pass: &Pass) -> Tensor<2> {
        let x = pass.dropout(self.embed(&self.embedding, ids), self.dropout);
        let last: Arc<[u32]> = layout.offsets().as_slice()[1..].iter().map(|&end| end as u32 - 1).collect();
        self.logits(gather_sum(self.decoder.forward(x, layout, None, pass), last, 1))
    }

    /// The beginning of a sequence for each that was read, or of `sequences` that begin from nothing.
    pub fn begin(&self, memory: Option<&Memory>, sequences: usize) -> DecoderState {
        self.decoder.begin(memory, sequences)
    }

    /// Logits of what follows, `[sequences, vocabulary]` row by row, once `ids` are the next of each sequence of `state`.
    pub fn step(&self, ids: &[u32], state: &mut DecoderState) -> Vec<f32> {
        let x = self.embed(&self.embedding, ids.into());
        floats(self.logits(self.decoder.step(x, state)).into_data())
    }

    /// Blocks of the side that a text goes into: of the encoder, where something is read, else of the decoder.
    pub fn layers(&self) -> usize {
        self.reader.as_ref().map_or_else(|| self.decoder.layers(), |reader| reader.encoder.layers())
    }

    /// The vectors of one layer of that side, `[tokens, d_model]`: of layer 0 what goes into it, of layer *n* what comes out of
    /// block *n*, of the last what the decoder looks at, or the logits are made from.
    ///
    /// # Panics
    /// If there are not so many layers, or the model reads no texts.
    pub fn vectors(&self, ids: Arc<[u32]>, layout: &Layout, layer: usize) -> Tensor<2> {
        let pass = Pass::inference();
        match &self.reader {
            Some(reader) => {
                let x = self.embed(self.source_embedding(reader), ids);
                reader.encoder.forward_to(layer, x, layout, &pass)
            }
            None => self.decoder.forward_to(layer, self.embed(&self.embedding, ids), layout, None, &pass),
        }
    }

    fn embed(&self, embedding: &TextEmbedding, ids: Arc<[u32]>) -> Tensor<2> {
        let x = embedding.forward(ids, Arc::from([]), 0);
        if self.scale == 1.0 { x } else { x * self.scale }
    }

    /// Where its parameters are.
    fn device(&self) -> Device {
        match (&self.head, &self.head_bias) {
            (Some(head), _) => head.device(),
            (None, Some(bias)) => bias.val().device(),
            (None, None) => unreachable!("a model is made with the one or the other"),
        }
    }

    fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        match (&self.head, &self.head_bias) {
            (Some(head), _) => head.forward(x, Activation::Identity),
            (None, Some(bias)) => self.embedding.logits(x, bias.val()),
            (None, None) => unreachable!("a model is made with the one or the other"),
        }
    }
}

fn read_sizes(source: Option<SourceSize>) -> InputSizes {
    match source {
        Some(SourceSize::Vectors(dim)) => input_sizes(dim),
        _ => InputSizes::default(),
    }
}

fn input_sizes(dim: usize) -> InputSizes {
    InputSizes { dim, ..InputSizes::default() }
}

fn embedding_dim(recipe: &Recipe) -> usize {
    match recipe.input.words {
        Words::OneHot => recipe.model.d_model,
        Words::Embedding => recipe.input.embedding_dim.unwrap_or(recipe.model.d_model),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::ModuleVisitor;
    use burn::tensor::{Gradients, TensorData};
    use qkv::Offsets;
    use qkv::random::Key;
    use qkv_nn::attention::Grid;

    use crate::input::VectorBatch;
    use crate::recipe::InputKind;

    fn recipe(assignments: &[&str], kind: &str) -> Recipe {
        let mut recipe = Recipe::default();
        let common = ["model.task=generate", "input.unit=characters", "model.d_model=8", "model.heads=2", kind];
        for assignment in common.iter().chain(assignments) {
            recipe.set(assignment).expect(assignment);
        }
        recipe.check().expect("a recipe that can be");
        recipe
    }

    /// One list of models for every test.
    const CHOICES: [&[&str]; 12] = [
        &[],
        &["model.mixer=none", "model.positions=none", "model.norm=after"],
        &["model.mixer=rnn", "model.positions=none"],
        &["model.mixer=rnn", "model.positions=none", "model.cross=none", "model.hidden=5"],
        &["model.cross=none", "model.pooling=attention", "input.shared=true"],
        &["model.positions=learned", "model.context=7", "model.tied=true"],
        &["model.positions=learned", "model.max_positions=3", "model.norm=after"],
        &["model.positions=rotary", "input.words=one-hot", "model.decoder_layers=1"],
        &["model.positions=relative", "model.relative_range=2", "input.embedding_dim=5"],
        &["model.window=2", "model.score=additive"],
        &["model.window=2", "model.normalizer=relu", "model.positions=relative"],
        &["model.mixer=rnn", "model.score=additive", "model.heads=1", "model.tied=true", "input.shared=true"],
    ];
    /// What is read, and which kind that is.
    const SIDES: [(&str, Option<SourceSize>); 4] = [
        ("input.kind=text", None),
        ("input.kind=text", Some(SourceSize::Units(11))),
        ("input.kind=image", Some(SourceSize::Vectors(5))),
        ("input.kind=audio", Some(SourceSize::Vectors(5))),
    ];

    /// Every choice that can be, with everything that can be read. Frames go through a convolution first.
    fn recipes() -> impl Iterator<Item = (Recipe, Vocabularies)> {
        let both = CHOICES.iter().flat_map(|choice| SIDES.map(|side| (choice, side)));
        both.filter_map(|(assignments, (kind, source))| {
            let has = |key: &str| assignments.iter().any(|assignment| assignment.starts_with(key));
            if kind == "input.kind=image" && has("model.window") || kind != "input.kind=text" && has("input.shared") {
                return None;
            }
            let assignments: Vec<&str> = (assignments.iter().copied())
                .chain((kind == "input.kind=audio").then_some("input.convolutions=1"))
                .collect();
            Some((recipe(&assignments, kind), Vocabularies { source, target: 11 }))
        })
    }

    fn for_all(check: impl Fn(GenerateModel, Recipe, Vocabularies)) {
        for (recipe, sides) in recipes() {
            check(GenerateModel::new(&recipe, sides, &Init::new(1, &Device::flex())), recipe, sides);
        }
    }

    fn layout(lengths: &[usize]) -> Layout {
        Layout::new(Offsets::from_lengths(lengths.iter().copied()))
    }

    /// What is read before two sequences are written, if anything is.
    fn memory(model: &GenerateModel, recipe: &Recipe, sides: Vocabularies) -> Option<Memory> {
        read(model, recipe, sides, false, &Pass::inference())
    }

    /// The same, with the first set another where `other` says so: texts of three units and two, or six and two vectors, which
    /// are pictures of two rows by three and of one by two, or recordings.
    fn read(model: &GenerateModel, recipe: &Recipe, sides: Vocabularies, other: bool, pass: &Pass) -> Option<Memory> {
        let is_picture = recipe.input.kind == InputKind::Image;
        Some(match sides.source? {
            SourceSize::Units(_) => {
                model.read(Arc::from([1, 3, if other { 6 } else { 5 }, 7, 9]), &layout(&[3, 2]), pass)
            }
            SourceSize::Vectors(dim) => {
                let mut values: Vec<f32> = (0..8 * dim as u64).map(|i| Key::new(3).normal(i)).collect();
                values[2 * dim] += if other { 1.0 } else { 0.0 };
                let grids = if is_picture { vec![Grid::new(2, 3), Grid::new(1, 2)] } else { Vec::new() };
                let offsets = Offsets::from_lengths([6, 2]);
                model.read_sets(&Batch::Vectors(VectorBatch { values, dim, offsets, grids, targets: Vec::new() }), pass)
            }
        })
    }

    #[track_caller]
    fn assert_near(a: &[f32], b: &[f32], recipe: &Recipe) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-5), "{:?}: {a:?} {b:?}", recipe.model);
    }

    #[test]
    fn parameters_are_counted_without_making_them() {
        for_all(|model, recipe, sides| {
            let counted = GenerateModel::parameter_count(&recipe, sides);
            assert_eq!(counted, model.num_params() as u128, "{sides:?}, {:?}", recipe.model);
        });
    }

    #[test]
    fn the_vectors_of_the_last_layer_are_those_that_are_worked_with() {
        for_all(|model, recipe, sides| {
            if let Some(SourceSize::Vectors(_)) = sides.source {
                return;
            }
            let (ids, layout): (Arc<[u32]>, _) = (Arc::from([1, 3, 5, 7, 9]), layout(&[3, 2]));
            let last = model.vectors(ids.clone(), &layout, model.layers());
            match memory(&model, &recipe, sides) {
                Some(memory) => assert_eq!(floats(last.into_data()), floats(memory.vectors.into_data())),
                None => {
                    let logits = model.forward(ids, &layout, None, &Pass::inference());
                    assert_eq!(
                        floats(model.logits(last).into_data()),
                        floats(logits.into_data()),
                        "{:?}",
                        recipe.model
                    );
                }
            }
        });
    }

    #[test]
    fn no_place_sees_what_comes_after_it_or_another_sequence() {
        for_all(|model, recipe, sides| {
            let memory = memory(&model, &recipe, sides);
            let logits = |ids: &[u32]| {
                floats(model.forward(ids.into(), &layout(&[3, 5]), memory.as_ref(), &Pass::inference()).into_data())
            };
            let whole = logits(&[1, 2, 3, 4, 5, 6, 7, 8]);
            // The last two of the second sequence are others.
            let other = logits(&[1, 2, 3, 4, 5, 6, 9, 10]);
            assert_near(&whole[..6 * 11], &other[..6 * 11], &recipe);
            assert!(whole[6 * 11..].iter().zip(&other[6 * 11..]).any(|(a, b)| (a - b).abs() > 1e-4));
            // The first sequence is another.
            let other = logits(&[8, 7, 6, 4, 5, 6, 7, 8]);
            assert_near(&whole[3 * 11..], &other[3 * 11..], &recipe);
        });
    }

    #[test]
    fn the_last_places_alone_are_the_last_of_all() {
        for_all(|model, recipe, sides| {
            if sides.source.is_some() {
                return;
            }
            let (ids, layout) = (Arc::from([1, 2, 3, 4, 5, 6, 7, 8]), layout(&[3, 5]));
            let all = floats(model.forward(Arc::clone(&ids), &layout, None, &Pass::inference()).into_data());
            let last = floats(model.forward_last(ids, &layout, &Pass::inference()).into_data());
            assert_near(&last, &[&all[2 * 11..3 * 11], &all[7 * 11..]].concat(), &recipe);
        });
    }

    #[test]
    fn step_by_step_gives_what_all_places_at_once_give() {
        for_all(|model, recipe, sides| {
            let memory = memory(&model, &recipe, sides);
            // Long enough that the cache has to grow.
            let length = 40;
            let ids: Vec<u32> = (0..2 * length as u32).map(|i| i * i % 11).collect();
            let at_once =
                model.forward(ids.as_slice().into(), &layout(&[length, length]), memory.as_ref(), &Pass::inference());
            let at_once = floats(at_once.into_data());
            let mut state = model.begin(memory.as_ref(), 2);
            for place in 0..length {
                let row = |set: usize| &at_once[(set * length + place) * 11..][..11];
                let step = model.step(&[ids[place], ids[length + place]], &mut state);
                assert_near(&step, &[row(0), row(1)].concat(), &recipe);
            }
            assert_eq!(state.position(), length);
        });
    }

    #[test]
    fn a_beginning_can_have_many_ends_and_none() {
        for_all(|model, recipe, sides| {
            let memory = memory(&model, &recipe, sides);
            let mut state = model.begin(memory.as_ref(), 2);
            model.step(&[1, 2], &mut state);
            // The first goes on twice, the second not at all; then the second of those alone.
            state.select(&[0, 0]);
            model.step(&[3, 4], &mut state);
            state.select(&[1]);
            let found = model.step(&[5], &mut state);
            let mut state = model.begin(memory.as_ref(), 2);
            for ids in [[1, 2], [4, 9]] {
                model.step(&ids, &mut state);
            }
            assert_near(&found, &model.step(&[5, 9], &mut state)[..11], &recipe);
        });
    }

    #[test]
    fn what_is_written_depends_on_what_was_read() {
        for_all(|model, recipe, sides| {
            let Some(memory) = memory(&model, &recipe, sides) else { return };
            let other = read(&model, &recipe, sides, true, &Pass::inference()).expect("as before");
            let logits = |memory: &Memory| {
                let ids = Arc::from([1, 2, 3, 4, 5, 6, 7, 8]);
                floats(model.forward(ids, &layout(&[3, 5]), Some(memory), &Pass::inference()).into_data())
            };
            let (one, two) = (logits(&memory), logits(&other));
            assert!(one[..33].iter().zip(&two).any(|(a, b)| (a - b).abs() > 1e-5), "{:?}", recipe.model);
            assert_near(&one[33..], &two[33..], &recipe);
        });
    }

    /// The gradient of each parameter, in module order, of a sum over all logits with random signs and sizes.
    fn gradients(recipe: &Recipe, sides: Vocabularies) -> Vec<Vec<f32>> {
        struct Collect<'a>(&'a Gradients, Vec<Vec<f32>>);
        impl ModuleVisitor for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let gradient = param.val().grad(self.0).expect("a gradient for each parameter");
                self.1.push(floats(gradient.into_data()));
            }
        }
        let device = Device::flex().autodiff();
        let model = GenerateModel::new(recipe, sides, &Init::new(1, &device));
        let key = Key::new(7);
        let pass = Pass::training(key);
        let memory = read(&model, recipe, sides, false, &pass);
        let ids = Arc::from([1, 2, 3, 4, 5, 6, 7, 8]);
        let logits = model.forward(ids, &layout(&[3, 5]), memory.as_ref(), &pass);
        let weights: Vec<f32> = (0..8 * 11).map(|i| key.normal(i)).collect();
        let weights = Tensor::from_data(TensorData::new(weights, [8, 11]), &device);
        let gradients = (logits * weights).sum().backward();
        let mut collect = Collect(&gradients, Vec::new());
        model.visit(&mut collect);
        collect.1
    }

    #[test]
    fn gradients_are_those_of_the_composed_twin() {
        for (recipe, sides) in recipes() {
            let ours = gradients(&recipe, sides);
            let twin = qkv_nn::composed(|| gradients(&recipe, sides));
            assert_eq!(ours.len(), twin.len());
            for (ours, twin) in ours.iter().zip(&twin) {
                let scale = twin.iter().fold(0.1_f32, |most, x| most.max(x.abs()));
                let worst = ours.iter().zip(twin).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= 1e-4 * scale, "{sides:?}, {:?}: {worst} of {scale}", recipe.model);
            }
        }
    }
}
