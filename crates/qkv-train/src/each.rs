//! The model of all tasks that say something of each vector: sets in, one row of logits for each vector out.

use burn::module::Module;
use burn::tensor::Tensor;
use qkv::Offsets;
use qkv::activation::Activation;
use qkv_nn::layers::{EdgeStack, Encoder, Init, Linear, Pass};

use crate::input::{Batch, InputEmbedding, InputSizes};
use crate::recipe::Recipe;
use crate::stack::{edge_stack_options, encoder_options, encoder_parameters};

/// Embedding, encoder, and a linear layer to classes or units; or, of graphs, a bare stack of attention along edges.
#[derive(Module, Debug)]
pub struct EachModel {
    embedding: Option<InputEmbedding>,
    encoder: Option<Encoder>,
    head: Option<Linear>,
    bare: Option<EdgeStack>,
    #[module(skip)]
    dropout: f32,
}

impl EachModel {
    /// A model with fresh parameters, whose vectors give one of `classes`.
    pub(crate) fn new(recipe: &Recipe, sizes: &InputSizes, classes: usize, init: &Init) -> Self {
        let dropout = recipe.training.dropout as f32;
        if let Some(options) = edge_stack_options(recipe, sizes, classes) {
            let bare = Some(EdgeStack::new(&options, init));
            return Self { embedding: None, encoder: None, head: None, bare, dropout };
        }
        Self {
            embedding: Some(InputEmbedding::new(recipe, sizes, init)),
            encoder: Some(Encoder::new(&encoder_options(recipe, sizes), init)),
            head: Some(Linear::new(recipe.model.d_model, classes, init)),
            bare: None,
            dropout,
        }
    }

    /// How many numbers [`EachModel::new`] would make a model of, without making one.
    pub(crate) fn parameter_count(recipe: &Recipe, sizes: &InputSizes, classes: usize) -> u128 {
        if let Some(options) = edge_stack_options(recipe, sizes, classes) {
            return EdgeStack::parameter_count(&options);
        }
        let [d, classes] = [recipe.model.d_model, classes].map(|n| n as u128);
        InputEmbedding::parameter_count(recipe, sizes)
            + encoder_parameters(&encoder_options(recipe, sizes))
            + (d * classes + classes)
    }

    /// Logits `[vectors, classes]`, and which vectors are which set's.
    pub(crate) fn forward(&self, batch: &Batch, pass: &Pass) -> (Tensor<2>, Offsets) {
        if let (Some(bare), Batch::Nodes(nodes)) = (&self.bare, batch) {
            let out = bare.forward(nodes.input(&bare.device()), &nodes.layout(), pass);
            return (out, nodes.offsets.clone());
        }
        let (embedding, encoder, head) = match (&self.embedding, &self.encoder, &self.head) {
            (Some(embedding), Some(encoder), Some(head)) => (embedding, encoder, head),
            _ => unreachable!("a bare stack is of nodes"),
        };
        let (x, layout) = embedding.forward(batch, &head.device());
        let x = encoder.forward(pass.dropout(x, self.dropout), &layout, pass);
        (head.forward(x, Activation::Identity), layout.offsets().clone())
    }
}
