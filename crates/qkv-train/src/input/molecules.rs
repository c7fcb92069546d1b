//! Molecules as sets of atoms.

use std::sync::Arc;

use qkv::Offsets;
use qkv_data::molecules::{
    ATOM_FEATURE_COUNT, ATOM_FEATURE_WIDTH, BOND_KINDS, Molecule, MoleculeFormat, MoleculeItem, MoleculeOptions,
    atom_features, bond_features, distances, read_molecules, scaffold_key,
};
use qkv_data::{LabelledText, Source};
use qkv_nn::attention::Graph;
use qkv_nn::layers::{self, SparseNodes};
use rayon::prelude::*;

use super::Wants;
use super::media::Media;
use super::nodes::{NodeBatch, NodeSizes, side_by_side};
use super::parts::column_of_parts;
use super::reader::{Item, Purpose, Read, format_of};
use crate::error::{Error, Result};
use crate::recipe::{Recipe, Sees};

/// Sizes of what molecules become: nothing of them is learned from data.
pub(super) const SIZES: NodeSizes =
    // (one kind more: that of an atom to itself)
    NodeSizes { features: ATOM_FEATURE_COUNT, numbers: 0, kinds: BOND_KINDS + 1, edge_numbers: 0 };

/// Buckets of a pair of atoms, where so many distances are told apart: itself and each distance up to the last, farther ones, another
/// piece, and each kind of bond in the place of distance 1.
pub(crate) fn buckets(distances: usize) -> layers::Sees {
    layers::Sees::Buckets { distances: distances + 2, edges: BOND_KINDS }
}

/// An atom's features and edges.
#[derive(Clone, Debug)]
pub(crate) struct MoleculeGraph {
    /// `[atoms, ATOM_FEATURE_WIDTH]`.
    ids: Vec<u32>,
    /// Where the bonds of each atom begin.
    starts: Vec<usize>,
    /// The atoms at their other ends, sorted, the atom itself among them.
    columns: Vec<u32>,
    kinds: Vec<u32>,
    /// `[atoms, atoms]`; empty where distances do not matter.
    pairs: Vec<u8>,
    /// The scaffold, where it decides of the part; else empty.
    scaffold: String,
}

impl MoleculeGraph {
    fn new(molecule: &Molecule, distances_told: Option<usize>) -> Self {
        let (atoms, bonds) = (molecule.atoms().len(), bond_features(molecule));
        let (mut starts, mut columns, mut kinds) = (vec![0], Vec::new(), Vec::new());
        for atom in 0..atoms {
            let mut row: Vec<(u32, u32)> =
                molecule.neighbours(atom).iter().map(|near| (near.atom as u32, bonds[near.bond])).collect();
            row.push((atom as u32, BOND_KINDS as u32));
            row.sort_unstable();
            for (column, kind) in row {
                columns.push(column);
                kinds.push(kind);
            }
            starts.push(columns.len());
        }
        let mut pairs = Vec::new();
        if let Some(most) = distances_told {
            // There are fewer than 256 buckets (checked with the recipe).
            pairs = distances(molecule, most as u8);
            for (bond, kind) in molecule.bonds().iter().zip(&bonds) {
                let bucket = (most + 2) as u8 + *kind as u8;
                pairs[bond.a * atoms + bond.b] = bucket;
                pairs[bond.b * atoms + bond.a] = bucket;
            }
        }
        Self { ids: atom_features(molecule).ids, starts, columns, kinds, pairs, scaffold: String::new() }
    }

    pub(super) fn scaffold(&self) -> &str {
        &self.scaffold
    }
}

/// Some molecules.
#[derive(Clone, Debug)]
pub(crate) struct MoleculeSets {
    molecules: Arc<Vec<MoleculeGraph>>,
    which: Vec<usize>,
}

impl MoleculeSets {
    pub(super) fn new(molecules: Arc<Vec<MoleculeGraph>>, which: Vec<usize>) -> Self {
        Self { molecules, which }
    }

    pub(super) fn len(&self) -> usize {
        self.which.len()
    }

    fn of(&self, indices: &[usize]) -> Vec<&MoleculeGraph> {
        indices.iter().map(|&index| &self.molecules[self.which[index]]).collect()
    }

    pub(super) fn lengths(&self) -> Vec<usize> {
        self.which.iter().map(|&place| self.molecules[place].starts.len() - 1).collect()
    }

    pub(super) fn batch(&self, indices: &[usize]) -> NodeBatch {
        let molecules = self.of(indices);
        let offsets = Offsets::from_lengths(molecules.iter().map(|molecule| molecule.starts.len() - 1));
        let rows: Vec<(&[usize], &[u32])> =
            molecules.iter().map(|molecule| (&molecule.starts[..], &molecule.columns[..])).collect();
        let graph = Graph {
            edges: Arc::new(side_by_side(&offsets, &rows)),
            kinds: molecules.iter().flat_map(|molecule| &molecule.kinds).copied().collect(),
            numbers: Arc::default(),
            pairs: molecules.iter().flat_map(|molecule| &molecule.pairs).copied().collect(),
        };
        let sparse = SparseNodes {
            ids: molecules.iter().flat_map(|molecule| &molecule.ids).copied().collect(),
            width: ATOM_FEATURE_WIDTH,
            features: ATOM_FEATURE_COUNT,
            ..SparseNodes::default()
        };
        NodeBatch { sparse: Some(sparse), dense: Arc::default(), dim: 0, offsets, graph, targets: Arc::default() }
    }

    pub(super) fn add_content(&self, content: &mut Vec<u8>) {
        for molecule in self.of(&(0..self.len()).collect::<Vec<_>>()) {
            for ids in [&molecule.ids, &molecule.columns, &molecule.kinds] {
                content.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
            }
            content.extend_from_slice(&molecule.pairs);
        }
    }
}

/// Reads molecules and what is known of them.
pub(super) fn read(recipe: &Recipe, path: &str, purpose: Purpose) -> Result<Read> {
    if let Source::Builtin(name) = Source::parse(path) {
        return Err(Error::Training(format!("builtin:{name}: holds no molecules: name a file of them")));
    }
    let (data, wants_labels) = (&recipe.data, purpose.wanted == Wants::Labels);
    let options = MoleculeOptions {
        format: format_of::<MoleculeFormat>(recipe)?,
        smiles: data.smiles.clone(),
        targets: data.labels().iter().filter(|_| wants_labels).cloned().collect(),
        part: column_of_parts(recipe),
        encoding: data.encoding.clone(),
        plain: !wants_labels,
        need_targets: false,
        need_column: true,
        max_atoms: recipe.data.max_tokens,
        ..MoleculeOptions::default()
    };
    let mut set = read_molecules(path, &options)?;
    if wants_labels {
        set.items.retain(|item| item.targets.iter().any(Option::is_some));
        if set.items.is_empty() {
            let targets = set.targets.join("` or `");
            return Err(Error::Training(format!("{path}: no molecule has a value of `{targets}`")));
        }
    }
    let told = (recipe.model.sees == Sees::Distances).then_some(recipe.model.distances);
    let parts_by_scaffold = wants_labels && data.split.as_deref() == Some("scaffold");
    let graph = |item: &MoleculeItem| {
        let scaffold = if parts_by_scaffold { scaffold_key(&item.molecule) } else { String::new() };
        MoleculeGraph { scaffold, ..MoleculeGraph::new(&item.molecule, told) }
    };
    let graphs = set.items.par_iter().map(graph).collect();
    let item = |item: MoleculeItem| {
        let mut targets = if wants_labels { item.targets } else { Vec::new() };
        let label = if targets.len() == 1 { targets.remove(0) } else { None };
        let labelled = LabelledText { text: item.smiles, label, line: item.line, group: None };
        Item { file: format!("{path}:{}", item.line), labelled, targets, part: item.part }
    };
    let items = set.items.into_iter().map(item).collect();
    Ok(Read { items, media: Media::Molecules(Arc::new(graphs)) })
}
