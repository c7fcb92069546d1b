//! Modules: what holds parameters. Each works on packed vectors, `[tokens, dim]`.
//!
//! An encoder is a stack of blocks; a block is a *mixer*, by which a position learns of the others, and a fully connected
//! part, which works on each vector alone. The mixers are those that self-attention is compared with, and itself. A decoder is
//! such a stack in which no place sees what comes after it, and which may look at the vectors of an encoder; it can also go step
//! by step. A pooling makes one vector of a set. Vectors lie on a line or, those of a picture, on a grid: [`Geometry`].

use burn::tensor::{Device, Int, Tensor, TensorData};

mod attention;
mod cross_attention;
mod decoder;
mod edge_stack;
mod embedding;
mod encoder;
mod feed_forward;
mod geometry;
mod grid_pooling;
mod init;
mod linear;
mod lstm;
mod mixer;
mod norm;
mod pass;
mod pooling;
mod positions;
mod stem;
mod vectors;
mod window;

pub use attention::{SelfAttention, SelfAttentionOptions};
pub use cross_attention::{CrossAttention, CrossAttentionOptions};
pub use decoder::{Decoder, DecoderBlock, DecoderOptions, DecoderState, Memory};
pub use edge_stack::{EdgeAttention, EdgeScore, EdgeStack, EdgeStackOptions, NodeInput, SparseNodes};
pub use embedding::{TextEmbedding, TextEmbeddingOptions};
pub use encoder::{Block, Encoder, EncoderOptions};
pub use feed_forward::FeedForward;
pub use geometry::{Geometry, Sees};
pub use grid_pooling::GridPooling;
pub use init::Init;
pub use linear::Linear;
pub use lstm::{Directions, Lstm};
pub use mixer::{Mixer, MixerOptions};
pub use norm::LayerNorm;
pub use pass::Pass;
pub use pooling::{Pooling, PoolingKind};
pub use positions::{Positions, PositionsOptions};
use positions::{rotary_angles, rotary_angles_at};
pub use qkv::sublayer::NormPlace;
pub use stem::ConvStem;
pub use vectors::{CellEmbedding, Joined, KindEmbedding, NodeEmbedding, VectorEmbedding, VectorEmbeddingOptions, join};
pub use window::WindowLinear;

/// Numbers of rows, as Burn takes them.
fn indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

#[cfg(test)]
mod tests;
