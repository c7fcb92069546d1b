//! A key of a molecule that no numbering of its atoms changes.
//!
//! The atoms of each connected piece are coloured by what they are, and colours are split by the colours of the neighbours
//! until nothing changes (McKay 1981; Hopcroft's queue of splitters). Where atoms remain alike, each of them in turn is
//! given a colour of its own and the rest refined again: a tree of choices, whose leaves are numberings. The smallest
//! piece of text that a leaf writes is the key.
//!
//! Two leaves that write the same text show an automorphism, by which whole branches of the tree are known to be alike and
//! are not visited. So t-butyl groups, cubane and fullerenes cost few leaves. The search is bounded all the same: beyond
//! the bound the best leaf so far counts, and a piece that is too large to search takes the first leaf. That one is the
//! right one where atoms that refinement leaves alike are alike, which is so in all trees and in nearly all molecules.
//! Where it is not, one molecule could get two keys, but never do two molecules get the same.

use std::collections::VecDeque;
use std::fmt::Write;

use super::graph::{Atom, BondOrder, Molecule};

/// Above this product of atoms and of atoms that are not told apart, only the first leaf is taken.
const MOST_ALIKE: usize = 1 << 22;

/// How many atoms may be looked at in one search, each as often as it is looked at.
const MOST_WORK: usize = 1 << 25;

/// How many automorphisms are kept.
const MOST_AUTOMORPHISMS: usize = 256;

/// A text that two molecules share exactly if one is the other with its atoms numbered anew: the same elements, charges,
/// isotopes, aromaticity, hydrogens and bond orders. Stereo marks and classes do not count. Empty for no atoms.
///
/// It lists the atoms of each connected piece and then its bonds by the numbers of their atoms. The pieces are sorted.
/// Molecules beyond what is looked through may, where they are very symmetric, get a key that depends on the numbering.
#[must_use]
pub fn canonical_key(molecule: &Molecule) -> String {
    let pieces = molecule.pieces();
    let count = pieces.iter().max().map_or(0, |last| last + 1);
    let mut members = vec![Vec::new(); count];
    let mut places = vec![0; pieces.len()];
    for (atom, &piece) in pieces.iter().enumerate() {
        places[atom] = members[piece].len();
        members[piece].push(atom);
    }
    let mut keys: Vec<String> = members.iter().map(|atoms| Piece::new(molecule, atoms, &places).key()).collect();
    keys.sort_unstable();
    keys.join(".")
}

/// What tells atoms apart before anything is known of their neighbours.
type Kind = (u8, i8, Option<u16>, bool, u8, usize);

fn kind(atom: &Atom, degree: usize) -> Kind {
    (atom.element, atom.charge, atom.isotope, atom.aromatic, atom.hydrogens, degree)
}

/// What a bond adds to the sum by which neighbours are compared. Sums of these differ for different neighbours but by a
/// chance of 2⁻⁶⁴; if they did not, atoms would only be told apart later.
fn weight(order: BondOrder) -> u64 {
    match order {
        BondOrder::Single => 0x9e37_79b9_7f4a_7c15,
        BondOrder::Double => 0xbf58_476d_1ce4_e5b9,
        BondOrder::Triple => 0x94d0_49bb_1331_11eb,
        BondOrder::Quadruple => 0xd6e8_feb8_6659_fd93,
        BondOrder::Aromatic => 0xa076_1d64_78bd_642f,
    }
}

/// A connected piece of a molecule, its atoms numbered from 0.
struct Piece<'molecule> {
    kinds: Vec<Kind>,
    atoms: Vec<&'molecule Atom>,
    /// The neighbours of each atom and the orders of the bonds to them.
    around: Vec<Vec<(usize, BondOrder)>>,
}

/// An order of the atoms into cells of atoms that are not told apart.
#[derive(Clone)]
struct Partition {
    /// The atoms, cell by cell.
    order: Vec<usize>,
    /// The place of each atom in `order`.
    place: Vec<usize>,
    /// The place where the cell of each atom begins. It is the atom's colour.
    start: Vec<usize>,
    /// The length of the cell that begins at each place.
    length: Vec<usize>,
    cells: usize,
}

/// A numbering of the atoms and what it writes.
struct Leaf {
    /// The bonds, each as the lower number, the higher number and the order; sorted.
    bonds: Vec<(usize, usize, BondOrder)>,
    /// The atom of each number.
    order: Vec<usize>,
    /// The atoms that were chosen on the way.
    path: Vec<usize>,
}

/// A node of the tree of choices.
struct Node {
    partition: Partition,
    /// The cell of which an atom is to be chosen.
    cell: Vec<usize>,
    /// How many of the cell were looked at.
    next: usize,
    /// Those that were chosen.
    chosen: Vec<usize>,
}

/// Of each place, whether the cell that begins there waits to split others, and those that do in their order.
struct Splitters {
    waits: Vec<bool>,
    queue: VecDeque<usize>,
}

impl Splitters {
    fn push(&mut self, start: usize) {
        if !std::mem::replace(&mut self.waits[start], true) {
            self.queue.push_back(start);
        }
    }
}

impl<'molecule> Piece<'molecule> {
    fn new(molecule: &'molecule Molecule, members: &[usize], places: &[usize]) -> Self {
        let around = |&atom: &usize| {
            let near = molecule.neighbours(atom).iter();
            near.map(|near| (places[near.atom], molecule.bonds()[near.bond].order)).collect()
        };
        Self {
            kinds: members.iter().map(|&atom| kind(&molecule.atoms()[atom], molecule.degree(atom))).collect(),
            atoms: members.iter().map(|&atom| &molecule.atoms()[atom]).collect(),
            around: members.iter().map(around).collect(),
        }
    }

    fn key(&self) -> String {
        let mut partition = self.first_partition();
        let count = self.atoms.len();
        let alike = count - partition.cells;
        let leaf = if count.saturating_mul(alike) > MOST_ALIKE {
            while let Some(cell) = partition.first_open_cell() {
                let atom = partition.order[cell];
                self.single_out(&mut partition, atom);
            }
            self.leaf(&partition, Vec::new())
        } else {
            self.search(partition)
        };
        self.write(&leaf)
    }

    /// The atoms by kind, refined.
    fn first_partition(&self) -> Partition {
        let count = self.atoms.len();
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&atom| self.kinds[atom]);
        let mut partition =
            Partition { place: vec![0; count], start: vec![0; count], length: vec![0; count], cells: 0, order };
        let mut splitters = Splitters { waits: vec![false; count], queue: VecDeque::new() };
        let mut start = 0;
        for place in 0..count {
            let atom = partition.order[place];
            if place == 0 || self.kinds[atom] != self.kinds[partition.order[place - 1]] {
                start = place;
                partition.cells += 1;
                splitters.push(start);
            }
            partition.place[atom] = place;
            partition.start[atom] = start;
            partition.length[start] += 1;
        }
        self.refine(&mut partition, splitters);
        partition
    }

    /// Gives `atom` the first place of its cell for itself, and refines.
    fn single_out(&self, partition: &mut Partition, atom: usize) {
        let start = partition.start[atom];
        let first = partition.order[start];
        let place = partition.place[atom];
        partition.order.swap(start, place);
        (partition.place[atom], partition.place[first]) = (start, place);
        let rest = partition.length[start] - 1;
        (partition.length[start], partition.length[start + 1]) = (1, rest);
        for place in start + 1..=start + rest {
            partition.start[partition.order[place]] = start + 1;
        }
        partition.cells += 1;
        let mut splitters = Splitters { waits: vec![false; self.atoms.len()], queue: VecDeque::new() };
        splitters.push(start);
        self.refine(partition, splitters);
    }

    /// Splits cells by their bonds to the cells that wait, until all atoms of a cell have the same bonds to each cell.
    fn refine(&self, partition: &mut Partition, mut splitters: Splitters) {
        let mut sums = vec![0_u64; self.atoms.len()];
        let mut touched = Vec::new();
        while let Some(splitter) = splitters.queue.pop_front() {
            splitters.waits[splitter] = false;
            if partition.cells == self.atoms.len() {
                return;
            }
            for place in splitter..splitter + partition.length[splitter] {
                for &(near, order) in &self.around[partition.order[place]] {
                    if partition.length[partition.start[near]] > 1 {
                        touched.push(near);
                        sums[near] = sums[near].wrapping_add(weight(order));
                    }
                }
            }
            // Cells in their order, and the atoms of each by their sums: an order that numbering does not change.
            touched.sort_unstable_by_key(|&atom| (partition.start[atom], sums[atom], atom));
            touched.dedup();
            for cell in
                touched.chunk_by(|&one, &other| partition.start[one] == partition.start[other]).collect::<Vec<_>>()
            {
                split(partition, cell, &sums, &mut splitters);
            }
            for atom in touched.drain(..) {
                sums[atom] = 0;
            }
        }
    }

    /// The numbering of a partition all of whose cells are single atoms.
    fn leaf(&self, partition: &Partition, path: Vec<usize>) -> Leaf {
        let mut bonds = Vec::new();
        for (number, &atom) in partition.order.iter().enumerate() {
            for &(near, order) in &self.around[atom] {
                let other = partition.place[near];
                if number < other {
                    bonds.push((number, other, order));
                }
            }
        }
        bonds.sort_unstable();
        Leaf { bonds, order: partition.order.clone(), path }
    }

    /// The leaf of the smallest bonds. All leaves write the same atoms, as the cells are ordered by kind.
    fn search(&self, partition: Partition) -> Leaf {
        let mut search = Search { best: None, automorphisms: Vec::new(), nodes: Vec::new(), work: 0 };
        search.arrive(self, partition, Vec::new());
        while let Some((partition, path)) = search.next_choice(self) {
            search.arrive(self, partition, path);
        }
        search.best.unwrap_or(Leaf { bonds: Vec::new(), order: Vec::new(), path: Vec::new() })
    }

    fn write(&self, leaf: &Leaf) -> String {
        let mut key = String::new();
        // Writing to a string cannot fail.
        for &atom in &leaf.order {
            let atom = self.atoms[atom];
            if let Some(isotope) = atom.isotope {
                let _ = write!(key, "{isotope}");
            }
            key.push_str(&atom.symbol());
            if atom.hydrogens > 0 {
                let _ = write!(key, "H{}", atom.hydrogens);
            }
            if atom.charge != 0 {
                let _ = write!(key, "{:+}", atom.charge);
            }
            // Any atom may be aromatic, which its symbol does not show.
            key.push(if atom.aromatic { ':' } else { ',' });
        }
        for &(one, other, order) in &leaf.bonds {
            let symbol = match order {
                BondOrder::Single => '-',
                BondOrder::Double => '=',
                BondOrder::Triple => '#',
                BondOrder::Quadruple => '$',
                BondOrder::Aromatic => ':',
            };
            let _ = write!(key, " {one}{symbol}{other}");
        }
        key
    }
}

/// A search through the tree of choices, depth first.
struct Search {
    best: Option<Leaf>,
    /// Each as the atom that every atom is carried to.
    automorphisms: Vec<Vec<usize>>,
    /// The nodes on the way to the present one; the last atom that was chosen at each is the way.
    nodes: Vec<Node>,
    work: usize,
}

impl Search {
    /// Takes in what a choice led to: a node with choices of its own, or a leaf.
    fn arrive(&mut self, piece: &Piece<'_>, partition: Partition, path: Vec<usize>) {
        if let Some(start) = partition.first_open_cell() {
            let cell = partition.order[start..start + partition.length[start]].to_vec();
            self.nodes.push(Node { partition, cell, next: 0, chosen: Vec::new() });
            return;
        }
        let leaf = piece.leaf(&partition, path);
        match &self.best {
            Some(best) if best.bonds < leaf.bonds => {}
            Some(best) if best.bonds == leaf.bonds => {
                // From where the two ways parted, this one leads to nothing that the other did not.
                let common = best.path.iter().zip(&leaf.path).take_while(|(one, other)| one == other).count();
                self.nodes.truncate(common + 1);
                if self.automorphisms.len() < MOST_AUTOMORPHISMS {
                    let mut carries_to = vec![0; leaf.order.len()];
                    best.order.iter().zip(&leaf.order).for_each(|(&from, &to)| carries_to[from] = to);
                    self.automorphisms.push(carries_to);
                }
            }
            _ => self.best = Some(leaf),
        }
    }

    /// The next choice that may lead to something new: the partition it gives and the way to it.
    fn next_choice(&mut self, piece: &Piece<'_>) -> Option<(Partition, Vec<usize>)> {
        loop {
            let deepest = self.nodes.len().checked_sub(1)?;
            let mut path: Vec<usize> =
                self.nodes[..deepest].iter().filter_map(|node| node.chosen.last().copied()).collect();
            let node = &mut self.nodes[deepest];
            // Before the first choice there is nothing that others could be like.
            let automorphisms = if node.next > 0 { &self.automorphisms[..] } else { &[] };
            let orbits = Orbits::new(piece.atoms.len(), automorphisms, &path, &mut self.work);
            let fresh = node.cell[node.next..].iter().position(|&atom| !orbits.has_any(atom, &node.chosen));
            let may_go_on = self.work <= MOST_WORK || self.best.is_none();
            let Some(offset) = fresh.filter(|_| may_go_on) else {
                self.nodes.pop();
                continue;
            };
            let atom = node.cell[node.next + offset];
            node.next += offset + 1;
            node.chosen.push(atom);
            path.push(atom);
            let mut partition = node.partition.clone();
            piece.single_out(&mut partition, atom);
            self.work += 4 * piece.atoms.len();
            return Some((partition, path));
        }
    }
}

impl Partition {
    /// Where the smallest cell of more than one atom begins, the first of them.
    fn first_open_cell(&self) -> Option<usize> {
        if self.cells == self.order.len() {
            return None;
        }
        let mut place = 0;
        let mut found: Option<usize> = None;
        while place < self.order.len() {
            let length = self.length[place];
            if length > 1 && found.is_none_or(|found| length < self.length[found]) {
                found = Some(place);
            }
            place += length;
        }
        found
    }
}

/// Splits the cell of the `touched` atoms, which are sorted by their sums; the others of the cell have the sum 0 and come
/// first.
fn split(partition: &mut Partition, touched: &[usize], sums: &[u64], splitters: &mut Splitters) {
    let start = partition.start[touched[0]];
    let length = partition.length[start];
    let rest = length - touched.len();
    if rest == 0 && sums[touched[0]] == sums[touched[touched.len() - 1]] {
        return;
    }
    // The touched atoms go to the end of the cell, the last first, so that none is moved by another.
    for (offset, &atom) in touched.iter().enumerate().rev() {
        let (target, place) = (start + rest + offset, partition.place[atom]);
        let other = partition.order[target];
        partition.order.swap(target, place);
        (partition.place[atom], partition.place[other]) = (target, place);
    }
    let mut parts = Vec::new();
    if rest > 0 {
        parts.push((start, rest));
    }
    let mut at = start + rest;
    for part in touched.chunk_by(|&one, &other| sums[one] == sums[other]) {
        parts.push((at, part.len()));
        at += part.len();
    }
    let waited = splitters.waits[start];
    // All parts but one tell what the last one would.
    let largest = parts.iter().map(|(_, length)| *length).max().unwrap_or(0);
    let spared = if waited { None } else { parts.iter().position(|(_, length)| *length == largest) };
    partition.cells += parts.len() - 1;
    for (number, &(begin, length)) in parts.iter().enumerate() {
        partition.length[begin] = length;
        if begin != start {
            for place in begin..begin + length {
                partition.start[partition.order[place]] = begin;
            }
        }
        if Some(number) != spared {
            splitters.push(begin);
        }
    }
}

/// Which atoms the automorphisms that leave a way as it is carry into each other.
struct Orbits {
    parent: Vec<usize>,
}

impl Orbits {
    fn new(count: usize, automorphisms: &[Vec<usize>], path: &[usize], work: &mut usize) -> Self {
        let mut orbits = Self { parent: (0..count).collect() };
        *work += count;
        for carries_to in automorphisms {
            *work += path.len() + 1;
            if path.iter().any(|&atom| carries_to[atom] != atom) {
                continue;
            }
            *work += count;
            for (from, &to) in carries_to.iter().enumerate().filter(|(from, to)| from != *to) {
                let (one, other) = (orbits.root(from), orbits.root(to));
                orbits.parent[one.max(other)] = one.min(other);
            }
        }
        orbits
    }

    fn root(&self, mut atom: usize) -> usize {
        while self.parent[atom] != atom {
            atom = self.parent[atom];
        }
        atom
    }

    fn has_any(&self, atom: usize, chosen: &[usize]) -> bool {
        chosen.iter().any(|&other| self.root(other) == self.root(atom))
    }
}
