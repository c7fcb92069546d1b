//! One form for molecules that may be written in several.
//!
//! Here belong hydrogens, nitro groups and rings that are written with alternating bonds; other tautomers and charges are
//! left as they are written.
//!
//! The same molecule may be written `C1=CC=CC=C1` and `c1ccccc1`. Here the first becomes the second, by Hückel's rule: a
//! ring of atoms that all take part is aromatic if they give it 4n + 2 electrons together. Rings of up to eight atoms are
//! looked at, alone and joined by twos and threes. What is written as aromatic stays so, but for a bond within such rings that
//! is part of no aromatic one, as that between both rings of azulene.

use std::collections::HashSet;

use super::graph::{BondOrder, Molecule};
use super::rings::{LARGEST_RING, in_cycles};

/// With more rings, or more pairs of rings that share a bond, than this none are joined: no molecule has so many.
const MOST_RINGS: usize = 500;
const MOST_PAIRS: usize = 2000;

/// A ring: its bonds, rising.
type Ring = Vec<usize>;

impl Molecule {
    /// The form that features and keys are best made from: [hydrogens folded](Self::fold_hydrogens), nitrogen doubly bonded
    /// to a terminal oxygen beyond its valence with separate charges (`N(=O)=O` as `[N+](=O)[O-]`), and [aromatic rings
    /// found](Self::aromatic_form).
    #[must_use]
    pub fn standard_form(&self) -> Self {
        self.fold_hydrogens().with_separate_charges().aromatic_form()
    }

    fn with_separate_charges(&self) -> Self {
        let mut atoms = self.atoms().to_vec();
        let mut bonds = self.bonds().to_vec();
        let is_plain = |atom: usize, element| self.atoms()[atom].element == element && self.atoms()[atom].charge == 0;
        for nitrogen in (0..atoms.len()).filter(|&atom| is_plain(atom, 7)) {
            // A double bond in an aromatic ring counts but 1.
            let pi = u32::from(atoms[nitrogen].aromatic);
            if self.valence_used(nitrogen) + pi != 5 {
                continue;
            }
            let oxide = self.neighbours(nitrogen).iter().find(|near| {
                let is_double = bonds[near.bond].order == BondOrder::Double;
                is_double && is_plain(near.atom, 8) && self.degree(near.atom) == 1 && atoms[near.atom].hydrogens == 0
            });
            if let Some(oxide) = oxide {
                (atoms[nitrogen].charge, atoms[oxide.atom].charge) = (1, -1);
                bonds[oxide.bond].order = BondOrder::Single;
            }
        }
        Self::new(atoms, bonds)
    }

    /// The same molecule with all aromatic rings written as such, and with bonds that join aromatic rings written as single.
    ///
    /// An atom gives a ring one electron if one of its double or aromatic bonds is in a ring, two if it has a lone pair to
    /// give (nitrogen, oxygen, sulphur and the like, and carbon with a negative charge), and none if it is boron, carbon with
    /// a positive charge, or carbon doubly bonded to oxygen, nitrogen or sulphur outside. All other atoms take no part.
    #[must_use]
    pub fn aromatic_form(&self) -> Self {
        let in_ring = in_cycles(self, |_| true);
        let electrons: Vec<Option<u32>> = (0..self.atoms().len()).map(|atom| self.gives(atom, &in_ring)).collect();
        let takes_part = |bond: usize| {
            let bond = &self.bonds()[bond];
            electrons[bond.a].is_some() && electrons[bond.b].is_some()
        };
        let rings = small_rings(self, takes_part);
        let mut aromatic = vec![false; self.bonds().len()];
        for ring in &rings {
            self.mark_if_aromatic(&[ring], &electrons, &mut aromatic);
        }
        if rings.len() <= MOST_RINGS {
            self.mark_joined(&rings, &electrons, &mut aromatic);
        }
        let mut atoms = self.atoms().to_vec();
        let mut bonds = self.bonds().to_vec();
        // An atom with two aromatic bonds has no electron left for a third bond.
        let is_full = |atom: usize| self.neighbours(atom).iter().filter(|near| aromatic[near.bond]).count() > 1;
        for (bond, aromatic) in bonds.iter_mut().zip(&aromatic) {
            if *aromatic {
                bond.order = BondOrder::Aromatic;
                (atoms[bond.a].aromatic, atoms[bond.b].aromatic) = (true, true);
            } else if bond.order == BondOrder::Aromatic && is_full(bond.a) && is_full(bond.b) {
                bond.order = BondOrder::Single;
            }
        }
        Self::new(atoms, bonds)
    }

    /// How many electrons an atom gives to a ring; `None` if it takes no part.
    fn gives(&self, place: usize, in_ring: &[bool]) -> Option<u32> {
        let atom = &self.atoms()[place];
        let (mut inside, mut outside) = (0, Vec::new());
        let mut is_in_ring = false;
        for near in self.neighbours(place) {
            is_in_ring |= in_ring[near.bond];
            match self.bonds()[near.bond].order {
                BondOrder::Single => {}
                BondOrder::Aromatic => inside = 1,
                BondOrder::Double if in_ring[near.bond] => inside += 1,
                BondOrder::Double => outside.push(self.atoms()[near.atom].element),
                BondOrder::Triple | BondOrder::Quadruple => return None,
            }
        }
        let directions = self.degree(place) + usize::from(atom.hydrogens);
        if !is_in_ring || directions > 3 {
            return None;
        }
        let written = atom.aromatic;
        match (atom.element, atom.charge, inside, &outside[..]) {
            (6, 0, 0 | 1, [7 | 8 | 16]) if written || inside == 0 => Some(0),
            (6, -1, 0, []) => Some(2),
            (6, 1, 0, []) => Some(0),
            (6, -1, 1, []) if written => Some(2),
            (6, 1, 1, []) if written => Some(0),
            (6, 0, 1, []) => Some(1),
            (5, 0, 0, []) => Some(0),
            (5, 0, 1, []) if written => Some(0),
            // Of an atom written as aromatic the neighbours tell which of both it is: n or [nH].
            (7 | 15 | 33, 0, 1, []) if written && directions == 3 => Some(2),
            (7 | 15 | 33, 0, 1, []) => Some(1),
            (7 | 15 | 33, 0, 1, [8]) => Some(1),
            (7 | 15 | 33, 0, 0, []) => Some(2),
            (7 | 15 | 33, 1, 1, []) => Some(1),
            (7, -1, 0, []) => Some(2),
            (7, -1, 1, []) if written => Some(2),
            (8 | 16 | 34 | 52, 0, 0, []) if directions == 2 => Some(2),
            (8 | 16 | 34 | 52, 0, 1, []) if written => Some(2),
            (8 | 16 | 34 | 52, 1, 1, []) => Some(1),
            _ => None,
        }
    }

    /// Marks the outer bonds of `rings`, joined to one, if they are aromatic.
    fn mark_if_aromatic(&self, rings: &[&Ring], electrons: &[Option<u32>], aromatic: &mut [bool]) {
        let outer = |bond: &usize| rings.iter().filter(|ring| ring.binary_search(bond).is_ok()).count() == 1;
        // An atom within, where three rings meet, has no bond among the outer ones that the sum would count.
        let mut atoms = Vec::new();
        let mut pi = false;
        for &bond in rings.iter().flat_map(|ring| ring.iter()).filter(|bond| outer(bond)) {
            let ends = &self.bonds()[bond];
            pi |= ends.order != BondOrder::Single;
            atoms.extend([ends.a, ends.b]);
        }
        atoms.sort_unstable();
        atoms.dedup();
        let sum: Option<u32> = atoms.iter().map(|&atom| electrons[atom]).sum();
        // Without a double bond there is nothing for the lone pairs to join.
        if pi && sum.is_some_and(|sum| sum % 4 == 2) {
            rings
                .iter()
                .flat_map(|ring| ring.iter())
                .filter(|bond| outer(bond))
                .for_each(|&bond| aromatic[bond] = true);
        }
    }

    /// Marks what is aromatic of two and of three rings that share bonds, but for those that are so already.
    fn mark_joined(&self, rings: &[Ring], electrons: &[Option<u32>], aromatic: &mut [bool]) {
        let share = |one: &Ring, other: &Ring| one.iter().any(|bond| other.binary_search(bond).is_ok());
        let neighbours: Vec<Vec<usize>> = (0..rings.len())
            .map(|one| (0..rings.len()).filter(|&other| other != one && share(&rings[one], &rings[other])).collect())
            .collect();
        let mut joined = HashSet::new();
        for (one, others) in neighbours.iter().enumerate() {
            for &other in others.iter().filter(|other| **other > one) {
                joined.insert(vec![one, other]);
            }
        }
        if joined.len() > MOST_PAIRS {
            return;
        }
        let mut twos: Vec<Vec<usize>> = joined.into_iter().collect();
        twos.sort_unstable();
        let mut threes: Vec<Vec<usize>> = Vec::new();
        for two in &twos {
            for &third in two.iter().flat_map(|&ring| &neighbours[ring]).filter(|third| !two.contains(third)) {
                let mut three = vec![two[0], two[1], third];
                three.sort_unstable();
                threes.push(three);
            }
        }
        threes.sort_unstable();
        threes.dedup();
        for group in twos.iter().chain(&threes) {
            let group: Vec<&Ring> = group.iter().map(|&ring| &rings[ring]).collect();
            if group.iter().any(|ring| ring.iter().any(|&bond| !aromatic[bond])) {
                self.mark_if_aromatic(&group, electrons, aromatic);
            }
        }
    }
}

/// The smallest ring of the bonds that take part through each of them, of those of at most eight atoms.
fn small_rings(molecule: &Molecule, takes_part: impl Fn(usize) -> bool) -> Vec<Ring> {
    let in_ring = in_cycles(molecule, &takes_part);
    let mut found = HashSet::new();
    let mut rings = Vec::new();
    let mut from = vec![None; molecule.atoms().len()];
    for (place, bond) in molecule.bonds().iter().enumerate().filter(|(place, _)| in_ring[*place]) {
        // Of each atom the one before it and the bond to it.
        let mut reached = vec![(bond.a, 1_u8)];
        from[bond.a] = Some((bond.a, place));
        let mut next = 0;
        while let Some(&(atom, size)) = reached.get(next) {
            next += 1;
            if atom == bond.b || size == LARGEST_RING {
                break;
            }
            for near in molecule.neighbours(atom) {
                if near.bond != place && in_ring[near.bond] && from[near.atom].is_none() {
                    from[near.atom] = Some((atom, near.bond));
                    reached.push((near.atom, size + 1));
                }
            }
        }
        let mut ring = vec![place];
        let mut atom = bond.b;
        while let Some((before, bond)) = from[atom].filter(|(before, _)| *before != atom) {
            ring.push(bond);
            atom = before;
        }
        ring.sort_unstable();
        if ring.len() > 2 && found.insert(ring.clone()) {
            rings.push(ring);
        }
        for (atom, _) in reached {
            from[atom] = None;
        }
    }
    rings
}
