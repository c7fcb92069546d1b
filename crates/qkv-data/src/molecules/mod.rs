//! Molecules: from SMILES strings to graphs of atoms and bonds, their features and their splits.
//!
//! Here belong the parser of SMILES (the OpenSMILES specification 1.0), what follows from a molecule's graph (rings,
//! conjugation, hybridisation, distances, scaffolds, a key that no numbering changes), features as ids, the reader of
//! files of molecules and the splits that are made of them. Tensors and models do not, nor coordinates in space.
//!
//! Stereo marks are kept as they are written. Only where a double bond's geometry follows from its nearest neighbours
//! alone does a feature interpret it, see [`BondStereo`].
//!
//! ```
//! use qkv_data::molecules::{canonical_key, parse_smiles, scaffold};
//!
//! # fn main() -> Result<(), qkv_data::molecules::SmilesError> {
//! let aspirin = parse_smiles("CC(=O)Oc1ccccc1C(=O)O")?;
//! assert_eq!(aspirin.formula(), "C9H8O4");
//! let benzene = parse_smiles("c1ccccc1")?;
//! assert_eq!(canonical_key(&scaffold(&aspirin)), canonical_key(&benzene));
//! # Ok(())
//! # }
//! ```

mod aromatic;
mod canonical;
mod elements;
mod features;
mod graph;
mod perceive;
mod read;
#[cfg(test)]
mod read_tests;
mod rings;
mod scaffold;
mod smiles;
#[cfg(test)]
mod smiles_tests;
mod split;
#[cfg(test)]
mod tests;

pub use canonical::canonical_key;
pub use elements::{element_number, element_symbol};
pub use features::{ATOM_FEATURE_COUNT, ATOM_FEATURE_WIDTH, AtomFeatures, BOND_KINDS, atom_features, bond_features};
pub use graph::{Atom, Bond, BondOrder, Chirality, Direction, Molecule, Neighbour};
pub use perceive::{BondStereo, Hybridisation, bond_stereo, conjugated, distances, hybridisations};
pub use read::{MoleculeFormat, MoleculeItem, MoleculeOptions, MoleculeSet, read_molecules};
pub use rings::Rings;
pub use scaffold::{scaffold, scaffold_key};
pub use smiles::{MAX_ATOMS, SmilesError, parse_smiles};
pub use split::{PartIndices, Shares, random_split, scaffold_split};
