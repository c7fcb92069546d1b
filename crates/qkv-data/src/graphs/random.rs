//! A graph that is drawn, to measure with.

use qkv::random::Key;

use super::build::{About, Builder};
use super::{GraphOptions, Graphs};
use crate::error::{Error, Result};
use crate::listing::ListedPart;

/// Of how many edges about one goes anywhere; the others stay within a class.
const ANYWHERE: u64 = 4;

/// Draws one graph of `nodes` nodes and `edges` edges before `options` are applied and repeated ones are merged.
///
/// Each node has one of `classes` classes as its label, `0`, `1` and so on, and `features` dense features: normal numbers around
/// a mean that is its class's. An edge has a target that is drawn from all nodes; its source is drawn from all nodes as well for
/// one of four, else from those of the target's class. Of ten nodes about six are for training, two for dev, two for test. A
/// function of its arguments alone, in O(nodes · features + edges).
///
/// # Errors
///
/// [`Error::Unusable`] for a graph without nodes or classes, and for more nodes or edges than a `u32` can count.
pub fn random_graph(
    nodes: usize,
    edges: usize,
    features: usize,
    classes: usize,
    seed: u64,
    options: &GraphOptions,
) -> Result<Graphs> {
    const NAME: &str = "random graph";
    let most = u32::MAX as usize;
    if nodes == 0 || classes == 0 || classes > nodes || nodes >= most || edges >= most {
        let what = format!("cannot be drawn with {nodes} nodes, {edges} edges and {classes} classes");
        return Err(Error::unusable(NAME, what, "give nodes, as many as classes or more, and at most 4294967294"));
    }
    let mut builder = Builder::new(NAME.to_owned(), options);
    let key = Key::new(seed);
    let (means, noise, parts) = (key.fold(0), key.fold(1), key.fold(2));
    let (targets, sources, ways) = (key.fold(3), key.fold(4), key.fold(5));
    let mut dense = Vec::with_capacity(nodes * features);
    let names: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
    let mut node_parts = Vec::with_capacity(nodes);
    for node in 0..nodes {
        // The classes take turns, so that the nodes of a class are those of one remainder.
        let class = node % classes;
        builder.begin_node();
        builder.node_labels.push(Some(&names[class]), 1);
        let (first, first_mean) = (node * features, class * features);
        dense.extend(
            (0..features).map(|place| means.normal((first_mean + place) as u64) + noise.normal((first + place) as u64)),
        );
        node_parts.push(Some(match below(parts, node, 10) {
            0..6 => ListedPart::Train,
            6..8 => ListedPart::Dev,
            _ => ListedPart::Test,
        }));
    }
    builder.set_dense(dense, features);
    builder.node_parts = Some(node_parts);
    for edge in 0..edges {
        let target = below(targets, edge, nodes as u64);
        let source = if below(ways, edge, ANYWHERE) == 0 {
            below(sources, edge, nodes as u64)
        } else {
            let (class, classes) = (target % classes as u64, classes as u64);
            let members = (nodes as u64 - class).div_ceil(classes);
            class + classes * below(sources, edge, members)
        };
        builder.push_plain_edge(source as u32, target as u32);
    }
    // Edges have no numbers, so that none are different.
    let _ = builder.end(nodes, &About { line: 1, ..About::default() });
    builder.finish()
}

/// A number below `count`, which is at most 2³².
fn below(key: Key, index: usize, count: u64) -> u64 {
    (u64::from(key.bits(index as u64)) * count) >> 32
}
