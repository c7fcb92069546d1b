//! Modules: what holds parameters. Each works on packed vectors, `[tokens, dim]`.
//!
//! An encoder is a stack of blocks; a block is a *mixer*, by which a position learns of the others, and a fully connected
//! part, which works on each vector alone. The mixers are those that self-attention is compared with, and itself.

mod attention;
mod embedding;
mod encoder;
mod feed_forward;
mod init;
mod linear;
mod lstm;
mod norm;
mod pass;
mod positions;
mod window;

pub use attention::{SelfAttention, SelfAttentionOptions};
pub use embedding::{TextEmbedding, TextEmbeddingOptions};
pub use encoder::{Block, Encoder, EncoderOptions, Mixer, MixerOptions};
pub use feed_forward::FeedForward;
pub use init::Init;
pub use linear::Linear;
pub use lstm::BiLstm;
pub use norm::LayerNorm;
pub use pass::Pass;
use positions::rotary_angles;
pub use positions::{Positions, PositionsOptions};
pub use qkv::sublayer::NormPlace;
pub use window::WindowLinear;

#[cfg(test)]
mod tests;
