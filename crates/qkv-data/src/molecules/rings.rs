//! Which atoms and bonds are in rings, and how large the smallest of those is.
//!
//! A bond is in a ring exactly if it is no bridge. Bridges are found by one walk through the graph (Tarjan 1974), which
//! keeps its own stack.

use super::graph::Molecule;

/// Rings larger than this are all alike.
pub(super) const LARGEST_RING: u8 = 8;

/// Which atoms and bonds are in rings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rings {
    /// Whether each atom is in a ring.
    pub atoms: Vec<bool>,
    /// Whether each bond is in a ring.
    pub bonds: Vec<bool>,
    /// The size of the smallest ring that each atom is in: 0 for none, 3 to 8, and [`Rings::LARGER`] for all above.
    pub smallest: Vec<u8>,
}

impl Rings {
    /// Stands for the size of a ring of more than eight atoms.
    pub const LARGER: u8 = LARGEST_RING + 1;

    pub(super) fn of(molecule: &Molecule) -> Self {
        let bonds = in_cycles(molecule, |_| true);
        let count = molecule.atoms().len();
        let mut rings = Self { atoms: vec![false; count], bonds, smallest: vec![0; count] };
        let mut search = RingSearch { distance: vec![u8::MAX; count], reached: Vec::new() };
        for (place, bond) in molecule.bonds().iter().enumerate().filter(|(place, _)| rings.bonds[*place]) {
            let size = search.smallest_ring(molecule, &rings.bonds, place);
            for atom in [bond.a, bond.b] {
                rings.atoms[atom] = true;
                let smallest = &mut rings.smallest[atom];
                *smallest = if *smallest == 0 { size } else { size.min(*smallest) };
            }
        }
        rings
    }
}

/// What the searches for the smallest rings share.
struct RingSearch {
    distance: Vec<u8>,
    reached: Vec<usize>,
}

impl RingSearch {
    /// The size of the smallest ring that the bond `place` is in.
    fn smallest_ring(&mut self, molecule: &Molecule, in_ring: &[bool], place: usize) -> u8 {
        let bond = &molecule.bonds()[place];
        self.reached.push(bond.a);
        self.distance[bond.a] = 1;
        let mut next = 0;
        let mut size = Rings::LARGER;
        'search: while let Some(&atom) = self.reached.get(next) {
            next += 1;
            let distance = self.distance[atom] + 1;
            if distance > LARGEST_RING {
                break;
            }
            for neighbour in molecule.neighbours(atom) {
                if neighbour.bond == place || !in_ring[neighbour.bond] {
                    continue;
                }
                if neighbour.atom == bond.b {
                    size = distance;
                    break 'search;
                }
                if self.distance[neighbour.atom] == u8::MAX {
                    self.distance[neighbour.atom] = distance;
                    self.reached.push(neighbour.atom);
                }
            }
        }
        for atom in self.reached.drain(..) {
            self.distance[atom] = u8::MAX;
        }
        size
    }
}

/// Whether each bond is in a cycle of those bonds for which `takes_part` holds.
pub(super) fn in_cycles(molecule: &Molecule, takes_part: impl Fn(usize) -> bool) -> Vec<bool> {
    const NOT_SEEN: usize = usize::MAX;
    const NO_BOND: usize = usize::MAX;
    let count = molecule.atoms().len();
    let mut in_cycle: Vec<bool> = (0..molecule.bonds().len()).map(&takes_part).collect();
    // When each atom was seen, and the earliest atom that it or what hangs on it leads back to.
    let (mut seen, mut low) = (vec![NOT_SEEN; count], vec![0; count]);
    let mut clock = 0;
    // An atom, the bond that led to it, and how many of its neighbours were looked at.
    let mut stack: Vec<(usize, usize, usize)> = Vec::new();
    for first in 0..count {
        if seen[first] != NOT_SEEN {
            continue;
        }
        stack.push((first, NO_BOND, 0));
        (seen[first], low[first]) = (clock, clock);
        clock += 1;
        while let Some((atom, by, looked)) = stack.last_mut() {
            let (atom, by) = (*atom, *by);
            if let Some(neighbour) = molecule.neighbours(atom).get(*looked) {
                *looked += 1;
                if neighbour.bond == by || !takes_part(neighbour.bond) {
                    continue;
                }
                if seen[neighbour.atom] == NOT_SEEN {
                    (seen[neighbour.atom], low[neighbour.atom]) = (clock, clock);
                    clock += 1;
                    stack.push((neighbour.atom, neighbour.bond, 0));
                } else {
                    low[atom] = low[atom].min(seen[neighbour.atom]);
                }
                continue;
            }
            stack.pop();
            if let Some((before, ..)) = stack.last() {
                low[*before] = low[*before].min(low[atom]);
                if low[atom] > seen[*before] {
                    in_cycle[by] = false;
                }
            }
        }
    }
    in_cycle
}
