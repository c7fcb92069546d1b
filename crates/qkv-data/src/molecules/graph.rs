//! A molecule as a graph: its atoms, its bonds, and which atoms are neighbours.
//!
//! Here belongs what a SMILES string says of a molecule; what follows from that is in the other files.

use super::elements::{aromatic_number, element_symbol};
use super::rings::Rings;

/// What a SMILES string says of an atom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Atom {
    /// The atomic number; 0 for `*`, any atom.
    pub element: u8,
    /// The mass number, if one is written.
    pub isotope: Option<u16>,
    /// The formal charge.
    pub charge: i8,
    /// How many hydrogens it bears that are no atoms of the graph: those written in its bracket, or without a bracket
    /// those that fill its valence.
    pub hydrogens: u8,
    /// Whether it is written as aromatic.
    pub aromatic: bool,
    /// Its mark of chirality, as written: it holds for the order in which the string names the neighbours.
    pub chirality: Chirality,
    /// The class, `:n`, if one is written. It means nothing to the molecule.
    pub class: Option<u32>,
}

/// A mark of chirality. Numbers count the orders that OpenSMILES lists for each shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Chirality {
    /// There is none.
    #[default]
    None,
    /// `@` or `@TH1`: seen from the first neighbour, the others follow each other counter-clockwise.
    CounterClockwise,
    /// `@@` or `@TH2`: clockwise.
    Clockwise,
    /// `@AL1` or `@AL2`: about the middle of an allene.
    Allene(u8),
    /// `@SP1` to `@SP3`: a square in a plane.
    SquarePlanar(u8),
    /// `@TB1` to `@TB20`: two pyramids on a triangle.
    TrigonalBipyramidal(u8),
    /// `@OH1` to `@OH30`: an octahedron.
    Octahedral(u8),
}

/// How many electron pairs a bond has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BondOrder {
    /// `-`, or nothing.
    Single,
    /// `=`
    Double,
    /// `#`
    Triple,
    /// `$`
    Quadruple,
    /// `:`, or nothing between aromatic atoms of one aromatic ring.
    Aromatic,
}

impl BondOrder {
    /// How much of a valence it takes; an aromatic one 1, as OpenSMILES counts.
    pub(super) fn valence(self) -> u32 {
        match self {
            Self::Single | Self::Aromatic => 1,
            Self::Double => 2,
            Self::Triple => 3,
            Self::Quadruple => 4,
        }
    }
}

/// The mark of a single bond beside a double bond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// There is none.
    #[default]
    None,
    /// `/`: the bond's second atom lies above its first.
    Up,
    /// `\`: the bond's second atom lies below its first.
    Down,
}

impl Direction {
    /// The mark for the bond seen from its other end.
    pub(super) fn flipped(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// A bond between two atoms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bond {
    /// The atom that the string names first.
    pub a: usize,
    /// The other one.
    pub b: usize,
    /// Its order.
    pub order: BondOrder,
    /// Its mark, as seen from `a`.
    pub direction: Direction,
}

impl Bond {
    /// Its mark as seen from one of its atoms.
    pub(super) fn direction_from(&self, atom: usize) -> Direction {
        if self.a == atom { self.direction } else { self.direction.flipped() }
    }
}

/// An atom's neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// The neighbour's place among the atoms.
    pub atom: usize,
    /// The place of the bond that leads to it among the bonds.
    pub bond: usize,
}

/// A molecule, or several that stand in one string.
///
/// No two bonds join the same atoms, and none joins an atom to itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Molecule {
    atoms: Vec<Atom>,
    bonds: Vec<Bond>,
    /// Where the neighbours of each atom begin among `around`, and the end.
    starts: Vec<usize>,
    around: Vec<Neighbour>,
}

impl Molecule {
    /// A molecule of these atoms and bonds, which have to be what the type promises.
    pub(super) fn new(atoms: Vec<Atom>, bonds: Vec<Bond>) -> Self {
        let mut starts = vec![0; atoms.len() + 1];
        for bond in &bonds {
            debug_assert!(bond.a != bond.b && bond.a.max(bond.b) < atoms.len());
            starts[bond.a + 1] += 1;
            starts[bond.b + 1] += 1;
        }
        for atom in 0..atoms.len() {
            starts[atom + 1] += starts[atom];
        }
        let mut next = starts.clone();
        let mut around = vec![Neighbour { atom: 0, bond: 0 }; 2 * bonds.len()];
        for (place, bond) in bonds.iter().enumerate() {
            for (from, to) in [(bond.a, bond.b), (bond.b, bond.a)] {
                around[next[from]] = Neighbour { atom: to, bond: place };
                next[from] += 1;
            }
        }
        Self { atoms, bonds, starts, around }
    }

    /// The atoms, in the order in which the string names them.
    #[must_use]
    pub fn atoms(&self) -> &[Atom] {
        &self.atoms
    }

    /// The bonds, in the order in which the string first names them.
    #[must_use]
    pub fn bonds(&self) -> &[Bond] {
        &self.bonds
    }

    /// Whether there is no atom at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.atoms.is_empty()
    }

    /// The neighbours of an atom, in the order of the bonds.
    ///
    /// # Panics
    ///
    /// If there is no such atom; so do the other methods that take one.
    #[must_use]
    pub fn neighbours(&self, atom: usize) -> &[Neighbour] {
        &self.around[self.starts[atom]..self.starts[atom + 1]]
    }

    /// How many neighbours an atom has.
    #[must_use]
    pub fn degree(&self, atom: usize) -> usize {
        self.starts[atom + 1] - self.starts[atom]
    }

    /// How many hydrogens an atom bears, those that are atoms of the graph included.
    #[must_use]
    pub fn total_hydrogens(&self, atom: usize) -> usize {
        let hydrogens = self.neighbours(atom).iter().filter(|neighbour| self.atoms[neighbour.atom].element == 1);
        usize::from(self.atoms[atom].hydrogens) + hydrogens.count()
    }

    /// How much of its valence an atom uses, hydrogens included; each aromatic bond counts 1.
    pub(super) fn valence_used(&self, atom: usize) -> u32 {
        let bonds = self.neighbours(atom).iter().map(|neighbour| self.bonds[neighbour.bond].order.valence());
        bonds.sum::<u32>() + u32::from(self.atoms[atom].hydrogens)
    }

    /// Which atoms and bonds are in rings.
    #[must_use]
    pub fn rings(&self) -> Rings {
        Rings::of(self)
    }

    /// The number of the connected piece that each atom belongs to, counted from 0 in the order of their first atoms.
    #[must_use]
    pub fn pieces(&self) -> Vec<usize> {
        let mut pieces = vec![usize::MAX; self.atoms.len()];
        let mut count = 0;
        let mut waiting = Vec::new();
        for first in 0..self.atoms.len() {
            if pieces[first] != usize::MAX {
                continue;
            }
            pieces[first] = count;
            waiting.push(first);
            while let Some(atom) = waiting.pop() {
                for neighbour in self.neighbours(atom) {
                    if pieces[neighbour.atom] == usize::MAX {
                        pieces[neighbour.atom] = count;
                        waiting.push(neighbour.atom);
                    }
                }
            }
            count += 1;
        }
        pieces
    }

    /// The same molecule with plain hydrogen atoms, such as the one of `[H]O`, counted by the atom that bears them.
    ///
    /// Hydrogens stay that have an isotope, a charge, a class or another number of neighbours than one, or whose neighbour
    /// is a hydrogen. Atoms keep their order, and marks of chirality stay as they are written. The mark of a hydrogen's bond
    /// beside a double bond goes over to the other single bond there, turned; if there is none, or if that would tell something
    /// of a second double bond, it is lost.
    #[must_use]
    pub fn fold_hydrogens(&self) -> Self {
        let bearer = |atom: usize| {
            let hydrogen = &self.atoms[atom];
            let plain = hydrogen.element == 1
                && hydrogen.isotope.is_none()
                && hydrogen.charge == 0
                && hydrogen.hydrogens == 0
                && hydrogen.class.is_none();
            match self.neighbours(atom) {
                [neighbour] if plain => {
                    let bearer = &self.atoms[neighbour.atom];
                    let single = self.bonds[neighbour.bond].order == BondOrder::Single;
                    (single && bearer.element > 1 && bearer.hydrogens < u8::MAX).then_some(neighbour.atom)
                }
                _ => None,
            }
        };
        let (mut atoms, mut bonds) = (self.atoms.clone(), self.bonds.clone());
        let mut keep = vec![true; atoms.len()];
        for (atom, keep) in keep.iter_mut().enumerate() {
            if let Some(bearer) = bearer(atom) {
                // More than 255 hydrogens at one atom are no molecule, but may stand in a string.
                if let Some(hydrogens) = atoms[bearer].hydrogens.checked_add(1) {
                    atoms[bearer].hydrogens = hydrogens;
                    *keep = false;
                    self.hand_on_mark(atom, bearer, &mut bonds);
                }
            }
        }
        if keep.iter().all(|keep| *keep) { self.clone() } else { Self::part_of(&atoms, &bonds, &keep) }
    }

    /// The bonds of an atom but for the one to `other`.
    fn bonds_beside(&self, atom: usize, other: usize) -> impl Iterator<Item = &Neighbour> {
        self.neighbours(atom).iter().filter(move |near| near.atom != other)
    }

    /// Puts the mark of the bond between a hydrogen and its bearer, an end of a double bond, onto the other single bond of the
    /// bearer, which lies on the other side.
    fn hand_on_mark(&self, hydrogen: usize, bearer: usize, bonds: &mut [Bond]) {
        let order = |near: &Neighbour| self.bonds[near.bond].order;
        let is_marked = |near: &&Neighbour| self.bonds[near.bond].direction != Direction::None;
        let mark = self.bonds[self.neighbours(hydrogen)[0].bond].direction_from(bearer);
        let mut singles = self.bonds_beside(bearer, hydrogen).filter(|near| order(near) == BondOrder::Single);
        let (Some(single), None) = (singles.next(), singles.next()) else { return };
        let has_double = self.neighbours(bearer).iter().any(|near| order(near) == BondOrder::Double);
        if mark == Direction::None || !has_double || is_marked(&single) {
            return;
        }
        let turned = mark.flipped();
        // Seen from its other end the mark tells of a double bond there as well, if that has one at its far end.
        let (end, beside) = (single.atom, || self.bonds_beside(single.atom, bearer));
        let second = beside().find(|near| order(near) == BondOrder::Double);
        if second.is_some_and(|second| self.bonds_beside(second.atom, end).any(|near| is_marked(&near))) {
            let agrees = |near: &Neighbour| self.bonds[near.bond].direction_from(end) == turned;
            if !beside().filter(is_marked).any(agrees) {
                return;
            }
        }
        let bond = &mut bonds[single.bond];
        bond.direction = if bond.a == bearer { turned } else { turned.flipped() };
    }

    /// The molecule of those `atoms` that are to be kept and of the bonds between them.
    pub(super) fn part_of(atoms: &[Atom], bonds: &[Bond], keep: &[bool]) -> Self {
        let mut places = vec![0; atoms.len()];
        let mut kept = Vec::new();
        for (place, atom) in atoms.iter().enumerate().filter(|(place, _)| keep[*place]) {
            places[place] = kept.len();
            kept.push(*atom);
        }
        let bonds = bonds.iter().filter(|bond| keep[bond.a] && keep[bond.b]);
        let bonds = bonds.map(|bond| Bond { a: places[bond.a], b: places[bond.b], ..*bond }).collect();
        Self::new(kept, bonds)
    }

    /// The formula in Hill's order: carbon, hydrogen, then the others by their symbols; without carbon all by symbols.
    #[must_use]
    pub fn formula(&self) -> String {
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for atom in &self.atoms {
            *counts.entry(element_symbol(atom.element)).or_default() += 1;
            if atom.hydrogens > 0 {
                *counts.entry("H").or_default() += usize::from(atom.hydrogens);
            }
        }
        let mut order: Vec<&str> = counts.keys().copied().collect();
        if counts.contains_key("C") {
            order.sort_by_key(|symbol| match *symbol {
                "C" => 0,
                "H" => 1,
                _ => 2,
            });
        }
        let count = |symbol: &str| match counts[symbol] {
            1 => String::new(),
            count => count.to_string(),
        };
        order.into_iter().map(|symbol| format!("{symbol}{}", count(symbol))).collect()
    }
}

impl Atom {
    /// An atom of which nothing but the element is known.
    pub(super) fn plain(element: u8) -> Self {
        Self {
            element,
            isotope: None,
            charge: 0,
            hydrogens: 0,
            aromatic: false,
            chirality: Chirality::None,
            class: None,
        }
    }

    /// The symbol, in lower case if the atom is aromatic and its element may be written so.
    pub(super) fn symbol(&self) -> String {
        let symbol = element_symbol(self.element);
        let lower = symbol.to_ascii_lowercase();
        if self.aromatic && aromatic_number(&lower).is_some() { lower } else { symbol.to_owned() }
    }
}
