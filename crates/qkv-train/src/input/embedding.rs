//! From a batch of any kind to vectors of the model.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use qkv::Offsets;
use qkv_data::TextBatch;
use qkv_nn::attention::{Grid, Layout};
use qkv_nn::layers::{
    CellEmbedding, ConvStem, Init, KindEmbedding, NodeEmbedding, TextEmbedding, VectorEmbedding,
    VectorEmbeddingOptions, join,
};
use qkv_nn::ops::gather_sum;

use super::nodes::NodeSizes;
use super::{Batch, VectorBatch};
use crate::recipe::{InputKind, Recipe};
use crate::tag::{embedding_options, embedding_parameters};

/// What of an embedding's size comes from the data.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputSizes {
    /// Ids of units; 0 where no text comes in.
    pub(crate) vocabulary: usize,
    /// Vectors to start from: `vocabulary · embedding_dim` numbers, NaN where there is none.
    pub(crate) pretrained: Option<Vec<f32>>,
    /// Numbers of a plain vector; 0 where none comes in.
    pub(crate) dim: usize,
    /// Of graphs and molecules, what nodes and edges have.
    pub(crate) nodes: Option<NodeSizes>,
    /// Of tables: rows of the embedding of cells, and columns.
    pub(crate) cells: [usize; 2],
}

/// Units by a table, plain vectors by a linear layer or convolutions, and a vector for each kind where there are two.
#[derive(Module, Debug)]
pub(crate) struct InputEmbedding {
    text: Option<TextEmbedding>,
    vectors: Option<VectorEmbedding>,
    convolutions: Option<ConvStem>,
    kinds: Option<KindEmbedding>,
    nodes: Option<NodeEmbedding>,
    cells: Option<CellEmbedding>,
}

impl InputEmbedding {
    /// A layer with fresh parameters.
    pub(crate) fn new(recipe: &Recipe, sizes: &InputSizes, init: &Init) -> Self {
        let (parts, d_model) = (Parts::of(recipe), recipe.model.d_model);
        let text = || TextEmbedding::new(&embedding_options(recipe, sizes.vocabulary, sizes.pretrained.clone()), init);
        Self {
            text: parts.text.then(text),
            vectors: (parts.vectors && parts.convolutions == 0)
                .then(|| VectorEmbedding::new(&vector_options(recipe, sizes), init)),
            convolutions: (parts.convolutions > 0).then(|| ConvStem::new(sizes.dim, d_model, parts.convolutions, init)),
            kinds: (parts.text && parts.vectors).then(|| KindEmbedding::new(2, d_model, init)),
            nodes: sizes.nodes.map(|nodes| NodeEmbedding::new([nodes.features, nodes.numbers], d_model, init)),
            cells: (sizes.cells[1] > 0).then(|| CellEmbedding::new(sizes.cells, d_model, init)),
        }
    }

    /// How many numbers [`InputEmbedding::new`] would make, without making them.
    pub(crate) fn parameter_count(recipe: &Recipe, sizes: &InputSizes) -> u128 {
        let (parts, d_model) = (Parts::of(recipe), recipe.model.d_model);
        let mut count = 0;
        if parts.text {
            count += embedding_parameters(recipe, sizes.vocabulary);
        }
        if parts.vectors {
            count += match parts.convolutions {
                0 => VectorEmbedding::parameter_count(&vector_options(recipe, sizes)),
                layers => ConvStem::parameter_count(sizes.dim, d_model, layers),
            };
        }
        if parts.text && parts.vectors {
            count += 2 * d_model as u128;
        }
        if let Some(nodes) = sizes.nodes {
            count += NodeEmbedding::parameter_count([nodes.features, nodes.numbers], d_model);
        }
        if sizes.cells[1] > 0 {
            count += CellEmbedding::parameter_count(sizes.cells, d_model);
        }
        count
    }

    /// What goes into an encoder, `[tokens, d_model]`, and which vectors belong together.
    ///
    /// # Panics
    /// If the batch is of another kind.
    pub(crate) fn forward(&self, batch: &Batch, device: &Device) -> (Tensor<2>, Layout) {
        match batch {
            Batch::Texts(texts) => (self.text(texts), Layout::new(texts.offsets.clone())),
            Batch::Vectors(vectors) => self.vectors(vectors, device),
            Batch::Nodes(nodes) => {
                let embedding = self.nodes.as_ref().expect("an embedding of nodes");
                (embedding.forward(&nodes.input(device)), nodes.layout())
            }
            Batch::Cells(cells) => {
                let embedding = self.cells.as_ref().expect("an embedding of cells");
                let x = embedding.forward(cells.rows.clone(), cells.columns.clone(), &cells.scales);
                (x, Layout::new(cells.offsets.clone()))
            }
            Batch::Asked(vectors, texts) => {
                let (x, _) = self.vectors(vectors, device);
                let joined = join(&[(x, &vectors.offsets), (self.text(texts), &texts.offsets)]);
                let kinds = self.kinds.as_ref().expect("an embedding of two kinds");
                // The picture is the first part of each set.
                let layout = Layout::with_grids(joined.offsets, vectors.grids.clone());
                (kinds.forward(joined.vectors, joined.kinds), layout)
            }
        }
    }

    fn text(&self, texts: &TextBatch) -> Tensor<2> {
        let text = self.text.as_ref().expect("an embedding of texts");
        text.forward(texts.words.clone(), texts.affixes.clone(), texts.affix_width)
    }

    fn vectors(&self, vectors: &VectorBatch, device: &Device) -> (Tensor<2>, Layout) {
        let shape = [vectors.offsets.tokens(), vectors.dim];
        let x = Tensor::from_data(TensorData::new(vectors.values.clone(), shape), device);
        match (&self.convolutions, &self.vectors) {
            (Some(convolutions), _) => convolutions.forward(x, &vectors.offsets),
            (None, Some(embedding)) => (embedding.forward(x), vectors.layout()),
            (None, None) => panic!("an embedding of plain vectors"),
        }
    }
}

/// What an embedding is made of.
struct Parts {
    text: bool,
    vectors: bool,
    convolutions: usize,
}

impl Parts {
    fn of(recipe: &Recipe) -> Self {
        let (text, vectors) = match recipe.input.kind {
            InputKind::Text => (true, false),
            InputKind::Audio | InputKind::Image | InputKind::Vectors => (false, true),
            InputKind::Graph | InputKind::Molecule | InputKind::Table => (false, false),
            InputKind::ImageText => (true, true),
        };
        let convolutions = if recipe.input.kind == InputKind::Audio { recipe.input.convolutions } else { 0 };
        Self { text, vectors, convolutions }
    }
}

fn vector_options(recipe: &Recipe, sizes: &InputSizes) -> VectorEmbeddingOptions {
    VectorEmbeddingOptions { dim: sizes.dim, d_model: recipe.model.d_model, norm: false }
}

/// The sets with `first` `[1, d_model]` in front of each.
pub(crate) fn with_first(first: Tensor<2>, x: Tensor<2>, layout: &Layout) -> (Tensor<2>, Layout) {
    let offsets = layout.offsets();
    // Row 0 is the one that goes in front, and behind it stands the batch.
    let rows =
        (0..offsets.sets()).flat_map(|set| std::iter::once(0).chain(offsets.range(set).map(|row| row as u32 + 1)));
    let rows: Arc<[u32]> = rows.collect();
    let longer = Offsets::from_lengths(offsets.lengths().map(|length| length + 1));
    let layout = match layout.grids() {
        [] => Layout::new(longer),
        grids => Layout::with_grids(longer, grids.iter().map(|&grid| Grid { first: grid.first + 1, ..grid }).collect()),
    };
    (gather_sum(Tensor::cat(vec![first, x], 0), rows, 1), layout)
}
