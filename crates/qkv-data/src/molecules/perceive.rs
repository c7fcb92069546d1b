//! What follows from the graph about single atoms, bonds and pairs of atoms.
//!
//! Here belong conjugation, hybridisation, the geometry of double bonds and distances. Rings are in `rings`.

use super::elements::outer_electrons;
use super::graph::{BondOrder, Direction, Molecule};

/// How the orbitals of an atom are mixed, guessed from its bonds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hybridisation {
    /// Two directions or fewer with a multiple bond, as in acetylene.
    Sp,
    /// Three directions, or an aromatic atom, or a lone pair that is drawn into a conjugated system, as in amides.
    Sp2,
    /// Four directions, lone pairs counted.
    Sp3,
    /// Five directions.
    Sp3d,
    /// Six directions.
    Sp3d2,
    /// None of these: single atoms and ions, hydrogens, metals of the side groups, any atom.
    Other,
}

/// Where the heavier neighbours of a double bond's ends lie, if the string tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BondStereo {
    /// Nothing is told; or at one end both neighbours are of the same element, so that this rule does not decide.
    #[default]
    None,
    /// On the same side (`Z`).
    SameSide,
    /// On opposite sides (`E`).
    OppositeSides,
}

/// Whether an atom has a multiple or aromatic bond whose electrons others can join. Those of sulphur and phosphorus with
/// several neighbours cannot.
fn has_pi(molecule: &Molecule, place: usize) -> bool {
    let atom = &molecule.atoms()[place];
    let around = molecule.neighbours(place);
    let flat = around.len() + usize::from(atom.hydrogens) <= 3 && (atom.element <= 10 || around.len() == 1);
    atom.aromatic || (flat && around.iter().any(|near| molecule.bonds()[near.bond].order != BondOrder::Single))
}

/// Whether each bond is part of a conjugated system.
///
/// Aromatic bonds are; single bonds between two atoms of which each has a multiple or aromatic bond, or one has and the
/// other is nitrogen or oxygen with a lone pair; and multiple bonds beside one of these. Multiple bonds of sulphur
/// and phosphorus count only where these are at the end of a chain, as in thioamides.
#[must_use]
pub fn conjugated(molecule: &Molecule) -> Vec<bool> {
    let (atoms, bonds) = (molecule.atoms(), molecule.bonds());
    let pi: Vec<bool> = (0..atoms.len()).map(|atom| has_pi(molecule, atom)).collect();
    let lone_pair = |atom: usize| {
        let directions = molecule.degree(atom) + usize::from(atoms[atom].hydrogens);
        matches!(atoms[atom].element, 7 | 8) && atoms[atom].charge <= 0 && directions <= 3 && !pi[atom]
    };
    let mut conjugated: Vec<bool> = bonds
        .iter()
        .map(|bond| match bond.order {
            BondOrder::Aromatic => true,
            BondOrder::Single => (pi[bond.a] && (pi[bond.b] || lone_pair(bond.b))) || (pi[bond.b] && lone_pair(bond.a)),
            _ => false,
        })
        .collect();
    let joins_a_system = |atom: usize| {
        let mut around = molecule.neighbours(atom).iter();
        around.any(|near| conjugated[near.bond])
    };
    let multiple: Vec<bool> = bonds
        .iter()
        .map(|bond| {
            let is_multiple = !matches!(bond.order, BondOrder::Aromatic | BondOrder::Single);
            is_multiple && (joins_a_system(bond.a) || joins_a_system(bond.b))
        })
        .collect();
    conjugated.iter_mut().zip(multiple).for_each(|(conjugated, multiple)| *conjugated |= multiple);
    conjugated
}

/// The hybridisation of each atom.
///
/// An atom's bonds, hydrogens and lone pairs each take a direction; the number of directions tells. One with four
/// directions, of which at most three are bonds, counts as three where it is part of a [conjugated] system.
#[must_use]
pub fn hybridisations(molecule: &Molecule) -> Vec<Hybridisation> {
    let in_system = conjugated(molecule);
    (0..molecule.atoms().len()).map(|atom| hybridisation(molecule, &in_system, atom)).collect()
}

fn hybridisation(molecule: &Molecule, conjugated: &[bool], place: usize) -> Hybridisation {
    let atom = &molecule.atoms()[place];
    if atom.aromatic {
        return Hybridisation::Sp2;
    }
    let bonded = molecule.degree(place) + usize::from(atom.hydrogens);
    let Some(electrons) = outer_electrons(atom.element).filter(|_| atom.element > 1 && bonded > 0) else {
        return Hybridisation::Other;
    };
    let used = molecule.valence_used(place);
    let free = i64::from(electrons) - i64::from(atom.charge) - i64::from(used);
    let directions = bonded + usize::try_from(free / 2).unwrap_or(0);
    let in_system = || molecule.neighbours(place).iter().any(|near| conjugated[near.bond]);
    match directions {
        // Boron and the metals of the main groups have fewer electrons than directions.
        0 | 1 => Hybridisation::Other,
        2 => Hybridisation::Sp,
        3 => Hybridisation::Sp2,
        4 if bonded <= 3 && in_system() => Hybridisation::Sp2,
        4 => Hybridisation::Sp3,
        5 => Hybridisation::Sp3d,
        6 => Hybridisation::Sp3d2,
        _ => Hybridisation::Other,
    }
}

/// The geometry of each bond that is a double bond with marks at both of its ends.
///
/// It is told for the neighbour of the higher atomic number at each end, hydrogens lowest, so that it does not depend on
/// the way in which the string is written. This is the first step of the rules of Cahn, Ingold and Prelog; where it does
/// not decide, [`BondStereo::None`] stands.
#[must_use]
pub fn bond_stereo(molecule: &Molecule) -> Vec<BondStereo> {
    let geometry = |bond: usize| {
        let ends = &molecule.bonds()[bond];
        if ends.order != BondOrder::Double {
            return BondStereo::None;
        }
        match (heavier_is_above(molecule, ends.a, bond), heavier_is_above(molecule, ends.b, bond)) {
            (Some(one), Some(other)) if one == other => BondStereo::SameSide,
            (Some(_), Some(_)) => BondStereo::OppositeSides,
            _ => BondStereo::None,
        }
    };
    (0..molecule.bonds().len()).map(geometry).collect()
}

/// Whether the heavier of the neighbours of `atom`, an end of the double bond `double`, lies above it.
fn heavier_is_above(molecule: &Molecule, atom: usize, double: usize) -> Option<bool> {
    let mut told: Option<(u8, bool)> = None;
    let mut others = Vec::new();
    for near in molecule.neighbours(atom).iter().filter(|near| near.bond != double) {
        let bond = &molecule.bonds()[near.bond];
        let element = molecule.atoms()[near.atom].element;
        let above = match bond.direction_from(atom) {
            Direction::Up => true,
            Direction::Down => false,
            Direction::None => {
                others.push(element);
                continue;
            }
        };
        match told {
            None => told = Some((element, above)),
            // Two marks on one end have to lie on different sides.
            Some((_, before)) if before == above => return None,
            Some((first, before)) => {
                told = Some((first, before));
                others.push(element);
            }
        }
    }
    let (element, above) = told?;
    match others[..] {
        [] => Some(above),
        [other] if other != element => Some(if element > other { above } else { !above }),
        _ => None,
    }
}

/// The number of bonds between each two atoms, `[atoms, atoms]`: 0 to `cap`, where `cap` stands for all greater ones as
/// well, and `cap + 1` where no bonds lead from one to the other. A `cap` above 254 is as 254.
///
/// This takes the square of the number of atoms in bytes.
#[must_use]
pub fn distances(molecule: &Molecule, cap: u8) -> Vec<u8> {
    let count = molecule.atoms().len();
    let cap = cap.min(u8::MAX - 1);
    let pieces = molecule.pieces();
    let mut distances = Vec::with_capacity(count * count);
    let mut reached = Vec::with_capacity(count);
    for from in 0..count {
        let row = distances.len();
        distances.extend(pieces.iter().map(|piece| if *piece == pieces[from] { cap } else { cap + 1 }));
        let row = &mut distances[row..];
        reached.clear();
        reached.push(from);
        row[from] = 0;
        let mut next = 0;
        while let Some(&atom) = reached.get(next) {
            next += 1;
            let distance = row[atom].saturating_add(1);
            if distance >= cap {
                break;
            }
            for near in molecule.neighbours(atom) {
                if row[near.atom] == cap {
                    row[near.atom] = distance;
                    reached.push(near.atom);
                }
            }
        }
    }
    distances
}
