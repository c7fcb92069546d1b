//! What a model is told of atoms and bonds, as ids to be embedded.
//!
//! Here belongs the choice of features and their numbering. Models add up the vectors of an atom's ids.

use super::graph::{BondOrder, Chirality, Molecule};
use super::perceive::{BondStereo, Hybridisation, bond_stereo, conjugated, hybridisations};
use super::rings::{LARGEST_RING, Rings};

/// How many values each slot of an atom has, in their order:
///
/// 1. the element: the atomic number, 0 for any atom;
/// 2. the number of neighbours, 0 to 6 and more;
/// 3. the number of hydrogens, 0 to 4 and more;
/// 4. the charge, below −2, −2, −1, 0, 1, 2, above 2;
/// 5. not aromatic, aromatic;
/// 6. the hybridisation: sp, sp², sp³, sp³d, sp³d², other;
/// 7. the smallest ring: none, 3 to 8 atoms, more;
/// 8. bonds in rings: none, 2, 3, more;
/// 9. the mark of chirality, as written: none, counter-clockwise, clockwise, other.
const SLOTS: [u32; 9] = [119, 8, 6, 7, 2, 6, 8, 4, 4];

/// How many ids each atom has.
pub const ATOM_FEATURE_WIDTH: usize = SLOTS.len();

/// How many ids of atoms there are: the rows of one table for all slots.
pub const ATOM_FEATURE_COUNT: usize = {
    let (mut count, mut slot) = (0, 0);
    while slot < SLOTS.len() {
        count += SLOTS[slot] as usize;
        slot += 1;
    }
    count
};

/// How many ids of bonds there are: five orders, in a ring or not, conjugated or not, and three geometries.
pub const BOND_KINDS: usize = 5 * 2 * 2 * 3;

/// The features of a molecule's atoms.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AtomFeatures {
    /// `[atoms, ATOM_FEATURE_WIDTH]`, each below [`ATOM_FEATURE_COUNT`]; no two slots share an id. The slots are element,
    /// neighbours, hydrogens, charge, aromaticity, hybridisation, smallest ring, bonds in rings, and chirality.
    pub ids: Vec<u32>,
}

/// The features of the atoms, in their order.
#[must_use]
pub fn atom_features(molecule: &Molecule) -> AtomFeatures {
    let rings = molecule.rings();
    let hybridisations = hybridisations(molecule);
    let mut ids = Vec::with_capacity(molecule.atoms().len() * ATOM_FEATURE_WIDTH);
    for (place, atom) in molecule.atoms().iter().enumerate() {
        let ring_bonds = molecule.neighbours(place).iter().filter(|near| rings.bonds[near.bond]).count();
        let values = [
            usize::from(atom.element),
            molecule.degree(place),
            molecule.total_hydrogens(place),
            usize::from((atom.charge.clamp(-3, 3) + 3).unsigned_abs()),
            usize::from(atom.aromatic),
            hybridisation_value(hybridisations[place]),
            match rings.smallest[place] {
                0 => 0,
                size => usize::from(size.min(LARGEST_RING + 1)) - 2,
            },
            ring_bonds.saturating_sub(1),
            match atom.chirality {
                Chirality::None => 0,
                Chirality::CounterClockwise => 1,
                Chirality::Clockwise => 2,
                _ => 3,
            },
        ];
        let mut offset = 0;
        for (value, size) in values.into_iter().zip(SLOTS) {
            // What is beyond a slot's last value is as the last.
            let value = u32::try_from(value).unwrap_or(u32::MAX).min(size - 1);
            ids.push(offset + value);
            offset += size;
        }
    }
    AtomFeatures { ids }
}

fn hybridisation_value(hybridisation: Hybridisation) -> usize {
    match hybridisation {
        Hybridisation::Sp => 0,
        Hybridisation::Sp2 => 1,
        Hybridisation::Sp3 => 2,
        Hybridisation::Sp3d => 3,
        Hybridisation::Sp3d2 => 4,
        Hybridisation::Other => 5,
    }
}

/// The kind of each bond, in their order, each below [`BOND_KINDS`]: `((order · 2 + ring) · 2 + conjugated) · 3 + stereo`,
/// where the orders are single, double, triple, quadruple and aromatic, and stereo is 0, 1 for neighbours on the same side
/// and 2 for those on opposite sides, as [`bond_stereo`] says.
#[must_use]
pub fn bond_features(molecule: &Molecule) -> Vec<u32> {
    let Rings { bonds: in_ring, .. } = molecule.rings();
    let (conjugated, stereo) = (conjugated(molecule), bond_stereo(molecule));
    let kind = |(place, order): (usize, BondOrder)| {
        let order = match order {
            BondOrder::Single => 0,
            BondOrder::Double => 1,
            BondOrder::Triple => 2,
            BondOrder::Quadruple => 3,
            BondOrder::Aromatic => 4,
        };
        let stereo = match stereo[place] {
            BondStereo::None => 0,
            BondStereo::SameSide => 1,
            BondStereo::OppositeSides => 2,
        };
        ((order * 2 + u32::from(in_ring[place])) * 2 + u32::from(conjugated[place])) * 3 + stereo
    };
    molecule.bonds().iter().map(|bond| bond.order).enumerate().map(kind).collect()
}
