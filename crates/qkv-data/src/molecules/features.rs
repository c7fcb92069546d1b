//! What a model is told of atoms and bonds, as ids to be embedded.
//!
//! Here belongs the choice of features and their numbering. Models add up the vectors of an atom's ids.

use qkv::gather::NONE;

use super::graph::{Atom, BondOrder, Chirality, Molecule, Neighbour};
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
/// 9. the mark of chirality, as written: none, counter-clockwise, clockwise, other;
/// 10. the neighbours that are neither carbon nor hydrogen, 0 to 3 and more;
/// 11. hydrogen bonds: none, accepts, gives, both;
/// 12. the aromatic neighbours, 0 to 2 and more;
/// 13. the conjugated bonds, 0 to 2 and more.
const SLOTS: [u32; 13] = [119, 8, 6, 7, 2, 6, 8, 4, 4, 5, 4, 4, 4];

/// How many ids each atom has: one of each slot, and one for each of its first neighbours.
pub const ATOM_FEATURE_WIDTH: usize = SLOTS.len() + NEIGHBOURS;

/// How many neighbours are told one by one.
const NEIGHBOURS: usize = 6;

/// The elements that are told apart in neighbours, by their atomic numbers; all others are alike.
const NEIGHBOUR_ELEMENTS: [u8; 9] = [6, 7, 8, 9, 15, 16, 17, 35, 53];

/// How many ids of neighbours there are: an element and a bond that is single, double, triple or more, or aromatic.
const NEIGHBOUR_KINDS: usize = (NEIGHBOUR_ELEMENTS.len() + 1) * 4;

/// How many ids of atoms there are: the rows of one table for all slots and for neighbours.
pub const ATOM_FEATURE_COUNT: usize = NEIGHBOUR_KINDS + {
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
    /// number of neighbours, hydrogens, charge, aromaticity, hybridisation, smallest ring, bonds in rings, chirality, neighbours other
    /// than carbon, hydrogen bonds, aromatic neighbours, and conjugated bonds. Behind them stands for each of up to six neighbours an
    /// id of its element and the bond to it, rising, and [`NONE`] for those that are not there.
    pub ids: Vec<u32>,
}

/// The features of the atoms, in their order.
#[must_use]
pub fn atom_features(molecule: &Molecule) -> AtomFeatures {
    let rings = molecule.rings();
    let (hybridisations, conjugated) = (hybridisations(molecule), conjugated(molecule));
    let mut ids = Vec::with_capacity(molecule.atoms().len() * ATOM_FEATURE_WIDTH);
    for (place, atom) in molecule.atoms().iter().enumerate() {
        let near = molecule.neighbours(place);
        let atom_at = |near: &Neighbour| &molecule.atoms()[near.atom];
        let ring_bonds = near.iter().filter(|near| rings.bonds[near.bond]).count();
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
            near.iter().filter(|near| !matches!(atom_at(near).element, 1 | 6)).count(),
            usize::from(accepts(molecule, place, hybridisations[place])) + 2 * usize::from(gives(molecule, place)),
            near.iter().filter(|near| atom_at(near).aromatic).count(),
            near.iter().filter(|near| conjugated[near.bond]).count(),
        ];
        let mut offset = 0;
        for (value, size) in values.into_iter().zip(SLOTS) {
            // What is beyond a slot's last value is as the last.
            let value = u32::try_from(value).unwrap_or(u32::MAX).min(size - 1);
            ids.push(offset + value);
            offset += size;
        }
        let id = |near: &Neighbour| offset + neighbour(atom_at(near), molecule.bonds()[near.bond].order);
        let mut around: Vec<u32> = near.iter().map(id).collect();
        // They have no order, and are not to get one by how a molecule is written.
        around.sort_unstable();
        around.resize(NEIGHBOURS, NONE);
        ids.extend(around);
    }
    AtomFeatures { ids }
}

/// The number of a neighbour's element and bond, below [`NEIGHBOUR_KINDS`].
fn neighbour(atom: &Atom, order: BondOrder) -> u32 {
    let known = NEIGHBOUR_ELEMENTS.iter().position(|element| *element == atom.element);
    let order = match order {
        BondOrder::Single => 0,
        BondOrder::Double => 1,
        BondOrder::Triple | BondOrder::Quadruple => 2,
        BondOrder::Aromatic => 3,
    };
    known.unwrap_or(NEIGHBOUR_ELEMENTS.len()) as u32 * 4 + order
}

/// Whether an atom can give a hydrogen to a hydrogen bond.
fn gives(molecule: &Molecule, place: usize) -> bool {
    matches!(molecule.atoms()[place].element, 7 | 8 | 16) && molecule.total_hydrogens(place) > 0
}

/// Whether an atom has a lone pair for a hydrogen bond: oxygen, fluorine, and nitrogen whose pair is not drawn into an aromatic ring
/// or a conjugated system, as it is in pyrrole, amides and aniline.
fn accepts(molecule: &Molecule, place: usize, hybridisation: Hybridisation) -> bool {
    let (atom, near) = (&molecule.atoms()[place], molecule.neighbours(place));
    let only_single = near.iter().all(|near| molecule.bonds()[near.bond].order == BondOrder::Single);
    let drawn_in = match atom.aromatic {
        true => molecule.total_hydrogens(place) > 0 || near.len() == 3,
        false => hybridisation == Hybridisation::Sp2 && only_single,
    };
    atom.charge <= 0 && (matches!(atom.element, 8 | 9) || (atom.element == 7 && !drawn_in))
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
