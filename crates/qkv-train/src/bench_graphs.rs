//! What `qkv bench graphs` times: epochs of graph attention networks on one graph, by cases that have names.
//!
//! Belongs here: the models, the graphs, and how one epoch is done. What does not: clocks and output (`qkv-cli`). `cora` is trained as
//! the recipe `graph-cora` is, by the same task; the random graphs by the same layers.

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use qkv::random::Key;
use qkv_data::graphs::{GraphOptions, random_graph};
use qkv_nn::layers::{EdgeScore, EdgeStack, EdgeStackOptions, Init, Pass};
use qkv_nn::ops::cross_entropy;
use qkv_nn::optim::FusedAdamW;

use crate::each::EachModel;
use crate::error::{Error, Result};
use crate::input::random_nodes;
use crate::recipe::Recipe;
use crate::tag::each::EachTask;
use crate::trainer::{Task, squares};

const SEED: u64 = 1;
const RATE: f64 = 5e-3;
/// See `training.l2`.
const L2: f64 = 5e-4;

/// Numbers of a node, classes, heads and elements of one of them, of the random graphs.
const FEATURES: usize = 64;
const CLASSES: usize = 16;
const HEADS: usize = 4;
const HEAD_DIM: usize = 16;

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Case {
    /// The graph attention network of Veličković et al. (2018) on Cora: 2 layers, 8 heads of 8 and 1 of 7, dropout 0.6. An epoch is a step
    /// and the judgement of the dev nodes.
    Cora,
    /// Two layers of 4 heads of 16 on a random graph, all nodes of which are trained on; an epoch is a step.
    Random {
        /// Nodes.
        nodes: usize,
        /// Edges, each of which goes one way; beside them each node has one to itself.
        edges: usize,
    },
}

/// Every case, in the order in which they are shown.
pub fn cases() -> Vec<Case> {
    let random = [(100_000, 1_000_000), (1_000_000, 10_000_000)];
    std::iter::once(Case::Cora).chain(random.map(|(nodes, edges)| Case::Random { nodes, edges })).collect()
}

impl Case {
    /// How it is called, as in `random 100000 1000000`.
    pub fn name(&self) -> String {
        match self {
            Self::Cora => "cora".into(),
            Self::Random { nodes, edges } => format!("random {nodes} {edges}"),
        }
    }

    /// The model and its graph, ready for the first epoch. `cora` is the folder of `nodes.tsv` and `edges.tsv`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn prepare(&self, cora: Option<&Path>) -> Result<Prepared> {
        let device = Device::flex().autodiff();
        let init = Init::new(SEED, &device);
        let optimizer: ModuleOptimizer = FusedAdamW::new(0.0).into();
        Ok(match self {
            Self::Cora => {
                let folder = cora.ok_or_else(|| {
                    Error::Training(
                        "the case `cora` needs its graph: name the folder of nodes.tsv and edges.tsv with --data"
                            .into(),
                    )
                })?;
                let task = EachTask::prepare(&gat(folder)?)?;
                Prepared::Cora { model: Some(task.new_model(&init)), task: Box::new(task), optimizer, steps: 0 }
            }
            Self::Random { nodes, edges } => {
                let options = GraphOptions { directed: true, ..GraphOptions::default() };
                let graph = random_graph(*nodes, *edges, FEATURES, CLASSES, SEED, &options)?;
                let batch = random_nodes(graph)?;
                let options = EdgeStackOptions {
                    dim: FEATURES,
                    layers: 2,
                    heads: HEADS,
                    last_heads: HEADS,
                    head_dim: HEAD_DIM,
                    classes: CLASSES,
                    score: Some(EdgeScore::RankOne),
                    kinds: 0,
                    numbers: 0,
                    dropout: 0.0,
                    attention_dropout: 0.0,
                };
                let input = batch.input(&device);
                let layout = Box::new(batch.layout());
                let model = Some(EdgeStack::new(&options, &init));
                Prepared::Random { model, input, layout, targets: batch.targets, optimizer }
            }
        })
    }
}

/// The recipe of the network on Cora.
fn gat(folder: &Path) -> Result<Recipe> {
    let mut recipe = Recipe::default();
    let train = format!("data.train={}", folder.display());
    for assignment in [
        train.as_str(),
        "input.kind=graph",
        "model.task=tag",
        "model.block=bare",
        "model.score=rank-one",
        "model.layers=2",
        "model.d_model=64",
        "model.heads=8",
        "training.dropout=0.6",
        "training.attention_dropout=0.6",
    ] {
        recipe.set(assignment)?;
    }
    Ok(recipe)
}

/// A case that can be run.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Prepared {
    /// See [`Case::Cora`].
    Cora {
        /// `None` only while an optimiser step has it.
        model: Option<EachModel>,
        /// What gives loss and judgement.
        task: Box<EachTask>,
        /// With its moments.
        optimizer: ModuleOptimizer,
        /// Steps so far.
        steps: u64,
    },
    /// See [`Case::Random`].
    Random {
        /// `None` only while an optimiser step has it.
        model: Option<EdgeStack>,
        /// The nodes.
        input: qkv_nn::layers::NodeInput,
        /// The edges.
        layout: Box<qkv_nn::attention::Layout>,
        /// The class of each node.
        targets: Arc<[u32]>,
        /// With its moments.
        optimizer: ModuleOptimizer,
    },
}

impl Prepared {
    /// One epoch.
    ///
    /// # Errors
    /// If the loss is not a finite number.
    ///
    /// # Panics
    /// If it is called again after a panic.
    pub fn epoch(&mut self) -> Result<()> {
        qkv::awake(|| match self {
            Self::Cora { model, task, optimizer, steps } => {
                let own = model.take().expect("no step is running");
                let loss = task.loss(&own, &[0], Key::new(SEED).fold(*steps));
                *steps += 1;
                let (stepped, value) = step(own, loss, optimizer);
                task.evaluate(&stepped.valid());
                *model = Some(stepped);
                finite(value)
            }
            Self::Random { model, input, layout, targets, optimizer } => {
                let own = model.take().expect("no step is running");
                let class_logits = own.forward(input.clone(), layout, &Pass::inference());
                let loss = cross_entropy(class_logits, targets.clone(), 0.0);
                let (stepped, value) = step(own, loss, optimizer);
                *model = Some(stepped);
                finite(value)
            }
        })
    }
}

fn step<M: Module>(model: M, loss: burn::tensor::Tensor<1>, optimizer: &mut ModuleOptimizer) -> (M, f32) {
    let value = loss.clone().into_scalar::<f32>();
    let minimised = loss + squares(&model) * (L2 / 2.0);
    let grads = GradientsParams::from_grads(minimised.backward(), &model);
    (optimizer.step(RATE, model, grads), value)
}

fn finite(value: f32) -> Result<()> {
    match value.is_finite() {
        true => Ok(()),
        false => {
            Err(Error::Training(format!("the loss is {value}: the kernels are at fault; does QKV_ISA=scalar mend it?")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_on_a_random_graph_has_a_finite_loss() {
        let mut prepared = Case::Random { nodes: 60, edges: 300 }.prepare(None).expect("drawn");
        for _ in 0..3 {
            prepared.epoch().expect("a finite loss");
        }
        assert!(Case::Cora.prepare(None).is_err_and(|e| e.to_string().contains("--data")));
    }
}
