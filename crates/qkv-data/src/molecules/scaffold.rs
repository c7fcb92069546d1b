//! The framework of a molecule: its rings and what links them (Bemis and Murcko 1996).

use super::canonical::canonical_key;
use super::graph::{BondOrder, Chirality, Direction, Molecule};

/// The scaffold of a molecule: its rings, the chains between rings, and the atoms that a double bond joins to one of
/// these. It is empty if there is no ring.
///
/// What is cut off is replaced by hydrogens. Stereo marks and classes are dropped, as they may mean nothing any more.
#[must_use]
pub fn scaffold(molecule: &Molecule) -> Molecule {
    let count = molecule.atoms().len();
    let mut degrees: Vec<usize> = (0..count).map(|atom| molecule.degree(atom)).collect();
    let mut inner = vec![true; count];
    // What hangs on by one bond is no ring and no link; taking it off may leave the next such.
    let mut ends: Vec<usize> = (0..count).filter(|atom| degrees[*atom] <= 1).collect();
    while let Some(atom) = ends.pop() {
        inner[atom] = false;
        for near in molecule.neighbours(atom).iter().filter(|near| inner[near.atom]) {
            degrees[near.atom] -= 1;
            if degrees[near.atom] == 1 {
                ends.push(near.atom);
            }
        }
    }
    let doubly_bonded = |atom: usize| {
        let mut around = molecule.neighbours(atom).iter();
        around.any(|near| inner[near.atom] && molecule.bonds()[near.bond].order == BondOrder::Double)
    };
    let keep: Vec<bool> = (0..count).map(|atom| inner[atom] || doubly_bonded(atom)).collect();
    let mut atoms = molecule.atoms().to_vec();
    for atom in &mut atoms {
        (atom.chirality, atom.class) = (Chirality::None, None);
    }
    let mut bonds = molecule.bonds().to_vec();
    for bond in &mut bonds {
        bond.direction = Direction::None;
        let cut = match (keep[bond.a], keep[bond.b]) {
            (true, false) => bond.a,
            (false, true) => bond.b,
            _ => continue,
        };
        let hydrogens = u8::try_from(bond.order.valence()).unwrap_or(0);
        atoms[cut].hydrogens = atoms[cut].hydrogens.saturating_add(hydrogens);
    }
    Molecule::part_of(&atoms, &bonds, &keep)
}

/// The [canonical key](canonical_key) of a molecule's scaffold; empty if there is no ring.
#[must_use]
pub fn scaffold_key(molecule: &Molecule) -> String {
    canonical_key(&scaffold(molecule))
}
