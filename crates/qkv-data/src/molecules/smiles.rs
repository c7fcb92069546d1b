//! The parser of SMILES, as the OpenSMILES specification 1.0 says.
//!
//! Beyond it, ring numbers may follow a branch, `si` and `te` may be aromatic in brackets, and charges may be written by
//! any number of signs. A bond without a symbol between aromatic atoms is aromatic only if it closes a ring of aromatic
//! atoms, so that the one between the rings of `c1ccccc1c1ccccc1` is single. Rings that are written with alternating
//! bonds stay as they are written; [`Molecule::standard_form`] finds them.
//!
//! The parser goes over the string once and keeps its own stack of branches, so that no depth is too deep.

use std::collections::HashSet;
use std::fmt;

use super::elements::{aromatic_number, element_number, valences};
use super::graph::{Atom, Bond, BondOrder, Chirality, Direction, Molecule};
use super::rings::in_cycles;

/// The most atoms that a string may name.
pub const MAX_ATOMS: usize = 100_000;

/// Why a string is no SMILES.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmilesError {
    /// The place of the character, counted from one.
    pub position: usize,
    /// What is wrong.
    pub what: String,
    /// What would mend it.
    pub mend: String,
}

impl fmt::Display for SmilesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "character {}: {}; {}", self.position, self.what, self.mend)
    }
}

impl std::error::Error for SmilesError {}

type Result<T> = std::result::Result<T, SmilesError>;

/// Reads a SMILES string, spaces around it aside.
///
/// # Errors
///
/// An empty string, one that is no SMILES, and one with more than [`MAX_ATOMS`] atoms.
pub fn parse_smiles(text: &str) -> Result<Molecule> {
    Parser::new(text).parse()
}

/// A bond as it is written, before it is known what its atoms are.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Written {
    /// `None` if there is no symbol.
    order: Option<BondOrder>,
    direction: Direction,
}

const NOT_WRITTEN: Written = Written { order: None, direction: Direction::None };

/// A ring number that waits for its second atom.
#[derive(Clone, Copy)]
struct OpenRing {
    atom: usize,
    /// The place of its bond among the bonds.
    bond: usize,
    written: Written,
    position: usize,
}

/// A `(` that waits for its `)`.
struct OpenBranch {
    atom: usize,
    position: usize,
    /// How many atoms there were before it.
    atoms: usize,
}

struct Parser<'text> {
    text: &'text str,
    bytes: &'text [u8],
    /// Where the string begins after the spaces before it.
    begin: usize,
    /// Where it ends before the spaces behind it.
    end: usize,
    place: usize,
    atoms: Vec<Atom>,
    /// Whether each atom stands in a bracket, so that its hydrogens are written.
    in_bracket: Vec<bool>,
    /// Bonds with their written orders. That of a ring has the same atom twice until its number comes again.
    bonds: Vec<(Bond, Option<BondOrder>)>,
    joined: HashSet<(usize, usize)>,
    /// The atom that the next one is bonded to.
    last: Option<usize>,
    /// The bond symbol that waits for an atom or a ring number, and its place.
    bond: Option<(Written, usize)>,
    /// The dot that waits for an atom.
    dot: Option<usize>,
    branches: Vec<OpenBranch>,
    rings: [Option<OpenRing>; 100],
}

impl<'text> Parser<'text> {
    fn new(text: &'text str) -> Self {
        let begin = text.len() - text.trim_ascii_start().len();
        let end = text.trim_ascii_end().len().max(begin);
        Self {
            text,
            bytes: text.as_bytes(),
            begin,
            end,
            place: begin,
            atoms: Vec::new(),
            in_bracket: Vec::new(),
            bonds: Vec::new(),
            joined: HashSet::new(),
            last: None,
            bond: None,
            dot: None,
            branches: Vec::new(),
            rings: [None; 100],
        }
    }

    fn parse(mut self) -> Result<Molecule> {
        if self.begin == self.end {
            return Err(self.error(self.begin, "the string is empty", "write a SMILES, such as CCO"));
        }
        while let Some(byte) = self.peek() {
            let position = self.place;
            match byte {
                b'[' => self.bracket()?,
                b'-' | b'=' | b'#' | b'$' | b':' | b'/' | b'\\' => self.bond_symbol(byte)?,
                b'0'..=b'9' | b'%' => self.ring_number()?,
                b'(' => self.open_branch()?,
                b')' => self.close_branch()?,
                b'.' => self.dot()?,
                _ => match self.organic() {
                    Some(atom) => self.add_atom(atom, false, position)?,
                    None => return Err(self.unexpected(position)),
                },
            }
        }
        self.check_end()?;
        Ok(self.finish())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes[..self.end].get(self.place).copied()
    }

    /// Goes on by one character if it is `byte`.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.place += usize::from(found);
        found
    }

    /// An error at the byte `place`. An end that came too early is told of the last character.
    fn error(&self, place: usize, what: impl fmt::Display, mend: impl fmt::Display) -> SmilesError {
        // All before an error is ASCII but for spaces around, so that a byte is a character.
        let position = (place + 1).min(self.text.chars().count()).max(1);
        SmilesError { position, what: what.to_string(), mend: mend.to_string() }
    }

    fn character(&self, place: usize) -> char {
        self.text.get(place..).and_then(|rest| rest.chars().next()).unwrap_or(' ')
    }

    fn unexpected(&self, place: usize) -> SmilesError {
        let character = self.character(place);
        match character {
            'A'..='Z' | 'a'..='z' => {
                let what = format!("{character:?} is no element that may stand without brackets");
                self.error(place, what, "put atoms other than B C N O P S F Cl Br I b c n o p s into brackets: [Na+]")
            }
            ']' => self.error(place, "a ] without its [", "write the [ before the atom, or take the ] out"),
            '@' | '+' => {
                let what = format!("{character:?} stands outside brackets");
                self.error(place, what, "put the atom with its marks into brackets: [C@H], [NH4+]")
            }
            '~' => {
                self.error(place, "'~' is a symbol of SMARTS, not of SMILES", "write one of - = # $ : / \\ or nothing")
            }
            ' ' | '\t' => {
                let mend = "end the string there, and put what follows into a column of its own";
                self.error(place, "a space within the string", mend)
            }
            _ => {
                let what = format!("{character:?} means nothing in SMILES");
                self.error(place, what, "write atoms, bonds, branches and ring numbers")
            }
        }
    }

    /// The atom without brackets that stands here, if one does.
    fn organic(&mut self) -> Option<Atom> {
        let two = self.bytes[self.place..self.end].get(..2);
        let (element, aromatic, length) = match two {
            Some(b"Cl") => (17, false, 2),
            Some(b"Br") => (35, false, 2),
            _ => match self.peek()? {
                b'B' => (5, false, 1),
                b'C' => (6, false, 1),
                b'N' => (7, false, 1),
                b'O' => (8, false, 1),
                b'F' => (9, false, 1),
                b'P' => (15, false, 1),
                b'S' => (16, false, 1),
                b'I' => (53, false, 1),
                b'*' => (0, false, 1),
                b'b' => (5, true, 1),
                b'c' => (6, true, 1),
                b'n' => (7, true, 1),
                b'o' => (8, true, 1),
                b'p' => (15, true, 1),
                b's' => (16, true, 1),
                _ => return None,
            },
        };
        self.place += length;
        Some(Atom { aromatic, ..Atom::plain(element) })
    }

    /// Adds an atom, and the bond to the one before it.
    fn add_atom(&mut self, atom: Atom, in_bracket: bool, position: usize) -> Result<()> {
        if self.atoms.len() == MAX_ATOMS {
            let what = format!("there are more than {MAX_ATOMS} atoms");
            return Err(self.error(position, what, "is it one molecule? give each its own line"));
        }
        let place = self.atoms.len();
        self.atoms.push(atom);
        self.in_bracket.push(in_bracket);
        let written = self.bond.take().map_or(NOT_WRITTEN, |(written, _)| written);
        if let Some(last) = self.last {
            let bond = Bond { a: last, b: place, order: BondOrder::Single, direction: written.direction };
            self.bonds.push((bond, written.order));
            self.joined.insert((last, place));
        }
        self.last = Some(place);
        self.dot = None;
        Ok(())
    }

    fn bond_symbol(&mut self, byte: u8) -> Result<()> {
        let position = self.place;
        if self.last.is_none() || self.bond.is_some() {
            let what = format!("the bond {:?} has no atom before it", char::from(byte));
            return Err(self.error(position, what, "write a bond between two atoms, and one symbol only"));
        }
        let (order, direction) = match byte {
            b'=' => (BondOrder::Double, Direction::None),
            b'#' => (BondOrder::Triple, Direction::None),
            b'$' => (BondOrder::Quadruple, Direction::None),
            b':' => (BondOrder::Aromatic, Direction::None),
            b'/' => (BondOrder::Single, Direction::Up),
            b'\\' => (BondOrder::Single, Direction::Down),
            _ => (BondOrder::Single, Direction::None),
        };
        self.bond = Some((Written { order: Some(order), direction }, position));
        self.place += 1;
        Ok(())
    }

    fn ring_number(&mut self) -> Result<()> {
        let position = self.place;
        let digit = |byte: Option<u8>| byte.filter(u8::is_ascii_digit).map(|byte| usize::from(byte - b'0'));
        let number = if self.take(b'%') {
            let tens = digit(self.peek());
            let ones = digit(self.bytes[..self.end].get(self.place + 1).copied());
            let (Some(tens), Some(ones)) = (tens, ones) else {
                let mend = "write % and two digits, such as %10";
                return Err(self.error(position, "a ring number after % has two digits", mend));
            };
            self.place += 2;
            10 * tens + ones
        } else {
            self.place += 1;
            usize::from(self.bytes[position] - b'0')
        };
        let Some(atom) = self.last.filter(|_| !self.branch_is_empty()) else {
            let what = format!("the ring number {number} has no atom before it");
            return Err(self.error(position, what, "write it directly after an atom"));
        };
        let written = self.bond.take().map_or(NOT_WRITTEN, |(written, _)| written);
        match self.rings[number].take() {
            None => {
                let ring = OpenRing { atom, bond: self.bonds.len(), written, position };
                self.rings[number] = Some(ring);
                let bond = Bond { a: atom, b: atom, order: BondOrder::Single, direction: Direction::None };
                self.bonds.push((bond, None));
                Ok(())
            }
            Some(ring) => self.close_ring(ring, atom, written, position),
        }
    }

    /// Joins the atom that opened a ring number with the one that closes it.
    fn close_ring(&mut self, ring: OpenRing, atom: usize, written: Written, position: usize) -> Result<()> {
        if ring.atom == atom {
            let what = "this ring number joins an atom to itself";
            return Err(self.error(position, what, "put one of the two numbers behind another atom"));
        }
        // A ring that closes from a branch may name its atoms the other way round.
        if !self.joined.insert((ring.atom.min(atom), ring.atom.max(atom))) {
            let what = "this ring number joins two atoms that are bonded already";
            return Err(self.error(position, what, "put one of the two numbers behind another atom"));
        }
        // The closing end looks at the bond from the other side.
        let closing = written.direction.flipped();
        let opening = ring.written.direction;
        let orders_differ = matches!((ring.written.order, written.order), (Some(one), Some(other)) if one != other);
        let sides_differ = opening != Direction::None && closing != Direction::None && opening != closing;
        if orders_differ || sides_differ {
            let what =
                format!("this ring number closes with another bond than it opened with at {}", ring.position + 1);
            return Err(self.error(position, what, "write the bond at one of its ends only, or the same at both"));
        }
        let direction = if opening == Direction::None { closing } else { opening };
        let bond = Bond { a: ring.atom, b: atom, order: BondOrder::Single, direction };
        self.bonds[ring.bond] = (bond, ring.written.order.or(written.order));
        Ok(())
    }

    fn open_branch(&mut self) -> Result<()> {
        let position = self.place;
        let Some(atom) = self.last.filter(|_| self.bond.is_none() && !self.branch_is_empty()) else {
            let mend = "begin with an atom, and write a branch's bond inside it: C(=O)";
            return Err(self.error(position, "a branch with no atom directly before it", mend));
        };
        self.branches.push(OpenBranch { atom, position, atoms: self.atoms.len() });
        self.place += 1;
        Ok(())
    }

    /// Whether a branch was opened and holds no atom yet.
    fn branch_is_empty(&self) -> bool {
        self.branches.last().is_some_and(|branch| branch.atoms == self.atoms.len())
    }

    fn close_branch(&mut self) -> Result<()> {
        let position = self.place;
        let Some(branch) = self.branches.pop() else {
            return Err(self.error(position, "a ) without its (", "write the ( of this branch, or take the ) out"));
        };
        self.check_nothing_waits()?;
        if branch.atoms == self.atoms.len() {
            return Err(self.error(position, "there is no atom in this branch", "write one, or take the branch out"));
        }
        self.last = Some(branch.atom);
        self.place += 1;
        Ok(())
    }

    fn dot(&mut self) -> Result<()> {
        let position = self.place;
        self.check_nothing_waits()?;
        if self.last.is_none() {
            return Err(self.error(position, "a dot with no atom before it", "write a dot between two molecules"));
        }
        self.last = None;
        self.dot = Some(position);
        self.place += 1;
        Ok(())
    }

    /// Refuses a bond or a dot that no atom follows.
    fn check_nothing_waits(&self) -> Result<()> {
        if let Some((_, position)) = self.bond {
            let what = format!("no atom follows the bond {:?}", self.character(position));
            return Err(self.error(position, what, "write the atom, or take the bond out"));
        }
        match self.dot {
            Some(position) => Err(self.error(position, "no atom follows the dot", "write it, or take the dot out")),
            None => Ok(()),
        }
    }

    fn check_end(&self) -> Result<()> {
        self.check_nothing_waits()?;
        if let Some(branch) = self.branches.last() {
            return Err(self.error(branch.position, "a ( without its )", "close the branch"));
        }
        let open = self.rings.iter().enumerate().filter_map(|(number, ring)| ring.map(|ring| (number, ring)));
        if let Some((number, ring)) = open.min_by_key(|(_, ring)| ring.position) {
            let what = format!("the ring number {number} is never closed");
            return Err(self.error(ring.position, what, "write it a second time, behind the atom to be joined"));
        }
        Ok(())
    }

    /// An atom in brackets: `[13CH3-:2]`.
    fn bracket(&mut self) -> Result<()> {
        let position = self.place;
        self.place += 1;
        let isotope = self.number(999, "the isotope")?.and_then(|isotope| u16::try_from(isotope).ok());
        let (element, aromatic) = self.symbol()?;
        let chirality = self.chirality()?;
        let hydrogens = self.hydrogens(element)?;
        let charge = self.charge()?;
        let class = if self.take(b':') { Some(self.class()?) } else { None };
        match self.peek() {
            Some(b']') => self.place += 1,
            None => return Err(self.error(position, "a [ without its ]", "close the bracket")),
            Some(_) => {
                let what = format!("{:?} does not belong here in a bracket", self.character(self.place));
                let mend = "the order is isotope, symbol, chirality, hydrogens, charge, class: [13C@H2-:1]";
                return Err(self.error(self.place, what, mend));
            }
        }
        self.add_atom(Atom { element, isotope, charge, hydrogens, aromatic, chirality, class }, true, position)
    }

    /// The number that stands here, if one does, of at most `most`.
    fn number(&mut self, most: u32, name: &str) -> Result<Option<u32>> {
        let position = self.place;
        let mut number = None;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            let next =
                number.unwrap_or(0_u32).checked_mul(10).and_then(|tens| tens.checked_add(u32::from(digit - b'0')));
            number = next.filter(|next| *next <= most);
            if number.is_none() {
                let what = format!("{name} is more than {most}");
                return Err(self.error(position, what, "write a smaller number"));
            }
            self.place += 1;
        }
        Ok(number)
    }

    /// The element that stands here, and whether it is written as aromatic.
    fn symbol(&mut self) -> Result<(u8, bool)> {
        let known = |symbol: &str| match symbol.as_bytes().first() {
            Some(b'a'..=b'z') => aromatic_number(symbol).map(|number| (number, true)),
            _ => element_number(symbol).map(|number| (number, false)),
        };
        for length in [2, 1] {
            let symbol = self.text.get(self.place..(self.place + length).min(self.end));
            if let Some(found) = symbol.filter(|symbol| symbol.len() == length).and_then(known) {
                self.place += length;
                return Ok(found);
            }
        }
        let what = match self.peek() {
            Some(_) => format!("no element's symbol begins with {:?} here", self.character(self.place)),
            None => "the string ends within a bracket".to_owned(),
        };
        Err(self.error(self.place, what, "write an element such as Na, C, c or *, and close the bracket"))
    }

    fn chirality(&mut self) -> Result<Chirality> {
        let position = self.place;
        if !self.take(b'@') {
            return Ok(Chirality::None);
        }
        if self.take(b'@') {
            return Ok(Chirality::Clockwise);
        }
        let shape = self.text.get(self.place..(self.place + 2).min(self.end)).unwrap_or_default();
        let most = match shape {
            "TH" | "AL" => 2,
            "SP" => 3,
            "TB" => 20,
            "OH" => 30,
            _ => return Ok(Chirality::CounterClockwise),
        };
        self.place += 2;
        let number = self.number(most, "the number of the chirality")?.filter(|number| *number > 0);
        let Some(number) = number.and_then(|number| u8::try_from(number).ok()) else {
            let what = format!("the chirality @{shape} needs a number");
            return Err(self.error(position, what, format!("write one from 1 to {most}")));
        };
        Ok(match (shape, number) {
            ("TH", 1) => Chirality::CounterClockwise,
            ("TH", _) => Chirality::Clockwise,
            ("AL", _) => Chirality::Allene(number),
            ("SP", _) => Chirality::SquarePlanar(number),
            ("TB", _) => Chirality::TrigonalBipyramidal(number),
            _ => Chirality::Octahedral(number),
        })
    }

    fn hydrogens(&mut self, element: u8) -> Result<u8> {
        let position = self.place;
        if !self.take(b'H') {
            return Ok(0);
        }
        let count = match self.peek() {
            Some(digit @ b'0'..=b'9') => {
                self.place += 1;
                digit - b'0'
            }
            _ => 1,
        };
        if element == 1 && count > 0 {
            let what = "a hydrogen bears no hydrogens";
            return Err(self.error(position, what, "write molecular hydrogen as [H][H]"));
        }
        Ok(count)
    }

    /// The charge: a sign and a number, or signs.
    fn charge(&mut self) -> Result<i8> {
        const MOST: u32 = 15;
        let position = self.place;
        let Some(sign @ (b'+' | b'-')) = self.peek() else { return Ok(0) };
        self.place += 1;
        let size = match self.number(MOST, "the charge")? {
            Some(size) => size,
            None => {
                let mut size = 1;
                while self.take(sign) {
                    size += 1;
                }
                size
            }
        };
        let size = i8::try_from(size).ok().filter(|size| u32::from(size.unsigned_abs()) <= MOST);
        let Some(size) = size else {
            let what = format!("the charge is more than {MOST}");
            return Err(self.error(position, what, "write a smaller one"));
        };
        Ok(if sign == b'+' { size } else { -size })
    }

    fn class(&mut self) -> Result<u32> {
        let class = self.number(u32::MAX, "the class")?;
        class.ok_or_else(|| self.error(self.place, "the class needs a number", "write one after the :, or nothing"))
    }

    /// Settles the bonds without a symbol and the hydrogens that are not written.
    fn finish(self) -> Molecule {
        let Self { mut atoms, in_bracket, bonds, .. } = self;
        let written: Vec<Option<BondOrder>> = bonds.iter().map(|(_, order)| *order).collect();
        let mut bonds: Vec<Bond> = bonds.into_iter().map(|(bond, _)| bond).collect();
        let graph = Molecule::new(atoms.clone(), bonds.clone());
        let may_be_aromatic = |place: usize| {
            let bond = &graph.bonds()[place];
            let by_symbol = matches!(written[place], None | Some(BondOrder::Aromatic));
            by_symbol && graph.atoms()[bond.a].aromatic && graph.atoms()[bond.b].aromatic
        };
        let in_aromatic_ring = in_cycles(&graph, may_be_aromatic);
        for (place, bond) in bonds.iter_mut().enumerate() {
            bond.order = match written[place] {
                Some(order) => order,
                None if in_aromatic_ring[place] => BondOrder::Aromatic,
                None => BondOrder::Single,
            };
        }
        let molecule = Molecule::new(atoms.clone(), bonds.clone());
        for (place, atom) in atoms.iter_mut().enumerate().filter(|(place, _)| !in_bracket[*place]) {
            atom.hydrogens = implicit_hydrogens(atom, molecule.valence_used(place));
        }
        Molecule::new(atoms, bonds)
    }
}

/// The hydrogens of an atom without brackets whose bonds use up so much: those that fill the next normal valence, and one
/// fewer, if there are any, where the atom gives an electron to an aromatic ring.
fn implicit_hydrogens(atom: &Atom, used: u32) -> u8 {
    let valence = valences(atom.element).iter().find(|valence| **valence >= used);
    let free = valence.map_or(0, |valence| valence - used);
    u8::try_from(free.saturating_sub(u32::from(atom.aromatic))).unwrap_or(0)
}
