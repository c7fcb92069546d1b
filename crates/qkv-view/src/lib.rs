//! What a person looks at: pages of attention, heat maps, training curves, tables.
//!
//! Here belongs everything that turns finished numbers into HTML, SVG or aligned text. How the numbers come about does
//! not: this crate takes plain structs of its own and knows no model and no file. All output is self-contained (no
//! links, no fonts, no scripts from elsewhere), the same bytes for the same input, and all text in it is escaped.
//!
//! ```
//! use qkv_view::{AttentionPage, AttentionPicture, HeadWeights, LayerWeights};
//!
//! # fn main() -> Result<(), qkv_view::ViewError> {
//! let head = HeadWeights { size: 2, weights: vec![0.9, 0.1, 0.4, 0.6] };
//! let picture = AttentionPicture {
//!     heading: "two words".into(),
//!     words: vec!["I".into(), "saw".into()],
//!     layers: vec![LayerWeights { heads: vec![head] }],
//!     ..AttentionPicture::default()
//! };
//! let page = AttentionPage { title: "Attention".into(), pictures: vec![picture], ..AttentionPage::default() };
//! assert!(page.to_html()?.starts_with("<!DOCTYPE html>"));
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

mod curves;
mod error;
mod heatmap;
mod page;
mod picture;
mod svg;
mod table;

pub use curves::{Curves, Series};
pub use error::ViewError;
pub use heatmap::heatmap_svg;
pub use page::AttentionPage;
pub use picture::{AttentionPicture, HeadWeights, LayerWeights};
pub use table::Table;

#[cfg(test)]
mod well_formed;
