use std::collections::HashSet;

use proptest::prelude::*;
use qkv::random::Key;

use super::tests::{data, parse, sets};
use super::*;
use crate::examples::CsvRecords;
use crate::source::Source;

/// No bond joins what another joins, and none an atom to itself.
fn check_bonds(molecule: &Molecule) {
    let pairs: HashSet<_> = molecule.bonds().iter().map(|bond| (bond.a.min(bond.b), bond.a.max(bond.b))).collect();
    assert!(pairs.len() == molecule.bonds().len() && pairs.iter().all(|(one, other)| one != other));
}

fn error(smiles: &str) -> SmilesError {
    let error = parse_smiles(smiles).expect_err(smiles);
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    assert!((1..=smiles.chars().count().max(1)).contains(&error.position), "{smiles:?}: {message}");
    error
}

#[test]
fn formulas_of_known_molecules() {
    for (name, smiles, formula) in [
        ("water", "O", "H2O"),
        ("methane", "C", "CH4"),
        ("ethanol", "CCO", "C2H6O"),
        ("acetic acid", "CC(=O)O", "C2H4O2"),
        ("hydrogen cyanide", "C#N", "CHN"),
        ("aspirin", "CC(=O)Oc1ccccc1C(=O)O", "C9H8O4"),
        ("caffeine", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "C8H10N4O2"),
        ("caffeine, aromatic", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "C8H10N4O2"),
        ("nicotine", "CN1CCC[C@H]1c2cccnc2", "C10H14N2"),
        ("ibuprofen", "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O", "C13H18O2"),
        ("glucose", "OC[C@@H](O1)[C@@H](O)[C@H](O)[C@@H](O)[C@@H](O)1", "C6H12O6"),
        ("cholesterol", "C[C@H](CCCC(C)C)[C@H]1CC[C@@H]2[C@@]1(CC[C@H]3[C@H]2CC=C4[C@@]3(CC[C@@H](C4)O)C)C", "C27H46O"),
        ("pyrrole", "[nH]1cccc1", "C4H5N"),
        ("thiophene", "s1cccc1", "C4H4S"),
        ("furan", "o1cccc1", "C4H4O"),
        ("pyridine", "n1ccccc1", "C5H5N"),
        ("pyridine oxide", "O=n1ccccc1", "C5H5NO"),
        ("borinine", "b1ccccc1", "C5H5B"),
        ("phosphinine", "p1ccccc1", "C5H5P"),
        ("selenophene", "[se]1cccc1", "C4H4Se"),
        ("naphthalene", "c1ccc2ccccc2c1", "C10H8"),
        ("biphenyl", "c1ccccc1c1ccccc1", "C12H10"),
        ("nitrobenzene", "O=N(=O)c1ccccc1", "C6H5NO2"),
        ("sulphuric acid", "OS(=O)(=O)O", "H2O4S"),
        ("phosphoric acid", "OP(=O)(O)O", "H3O4P"),
        ("dimethyl sulphoxide", "CS(C)=O", "C2H6OS"),
        ("salt", "[Na+].[Cl-]", "ClNa"),
        ("ammonium", "[NH4+]", "H4N"),
        ("hydrogen", "[H][H]", "H2"),
        ("sulphur hexafluoride", "FS(F)(F)(F)(F)F", "F6S"),
        ("borane", "B", "BH3"),
        ("iodobenzene", "Ic1ccccc1", "C6H5I"),
        ("dirhenium", "[Rh-](Cl)(Cl)(Cl)(Cl)$[Rh-](Cl)(Cl)(Cl)Cl", "Cl8Rh2"),
        ("any atom", "*C", "*CH3"),
    ] {
        let found = parse(smiles).formula();
        // The star is sorted as a symbol.
        let formula = if name == "any atom" { "CH3*" } else { formula };
        assert_eq!(found, formula, "{name}");
    }
}

#[test]
fn brackets_say_all_of_an_atom() {
    let atom = |smiles: &str| parse(smiles).atoms()[0];
    let plain = Atom::plain(6);
    for (smiles, expected) in [
        ("[C]", plain),
        ("[13CH4]", Atom { isotope: Some(13), hydrogens: 4, ..plain }),
        ("[0C]", Atom { isotope: Some(0), ..plain }),
        ("[999C]", Atom { isotope: Some(999), ..plain }),
        ("[2H]", Atom { isotope: Some(2), ..Atom::plain(1) }),
        ("[H+]", Atom { charge: 1, ..Atom::plain(1) }),
        ("[CH3-]", Atom { hydrogens: 3, charge: -1, ..plain }),
        ("[CH0]", plain),
        ("[C++]", Atom { charge: 2, ..plain }),
        ("[C+2]", Atom { charge: 2, ..plain }),
        ("[C---]", Atom { charge: -3, ..plain }),
        ("[C-15]", Atom { charge: -15, ..plain }),
        ("[C+0]", plain),
        ("[C:1]", Atom { class: Some(1), ..plain }),
        ("[CH2:0042]", Atom { hydrogens: 2, class: Some(42), ..plain }),
        ("[*]", Atom::plain(0)),
        ("[*H-:3]", Atom { hydrogens: 1, charge: -1, class: Some(3), ..Atom::plain(0) }),
        ("[nH]", Atom { hydrogens: 1, aromatic: true, ..Atom::plain(7) }),
        ("[se]", Atom { aromatic: true, ..Atom::plain(34) }),
        ("[as]", Atom { aromatic: true, ..Atom::plain(33) }),
        ("[te]", Atom { aromatic: true, ..Atom::plain(52) }),
        ("[si]", Atom { aromatic: true, ..Atom::plain(14) }),
        ("[Sc]", Atom::plain(21)),
        ("[Cn]", Atom::plain(112)),
        ("[238U+6]", Atom { isotope: Some(238), charge: 6, ..Atom::plain(92) }),
        ("[C@]", Atom { chirality: Chirality::CounterClockwise, ..plain }),
        ("[C@@H]", Atom { chirality: Chirality::Clockwise, hydrogens: 1, ..plain }),
        ("[C@TH1H]", Atom { chirality: Chirality::CounterClockwise, hydrogens: 1, ..plain }),
        ("[C@TH2]", Atom { chirality: Chirality::Clockwise, ..plain }),
        ("[C@AL2]", Atom { chirality: Chirality::Allene(2), ..plain }),
        ("[C@SP3]", Atom { chirality: Chirality::SquarePlanar(3), ..plain }),
        ("[C@TB20]", Atom { chirality: Chirality::TrigonalBipyramidal(20), ..plain }),
        ("[C@OH30H2+]", Atom { chirality: Chirality::Octahedral(30), hydrogens: 2, charge: 1, ..plain }),
    ] {
        assert_eq!(atom(smiles), expected, "{smiles}");
    }
    for number in 1..=118 {
        assert_eq!(atom(&format!("[{}]", element_symbol(number))).element, number);
    }
}

#[test]
fn bonds_have_orders_ends_and_marks() {
    use BondOrder::{Aromatic, Double, Quadruple, Single, Triple};
    let bonds =
        |smiles: &str| parse(smiles).bonds().iter().map(|bond| (bond.a, bond.b, bond.order)).collect::<Vec<_>>();
    assert_eq!(bonds("C-C=C#C$C"), [(0, 1, Single), (1, 2, Double), (2, 3, Triple), (3, 4, Quadruple)]);
    assert_eq!(bonds("c:c"), [(0, 1, Aromatic)]);
    assert_eq!(bonds("cc"), [(0, 1, Single)], "no ring");
    assert_eq!(bonds("C(N)(O)F"), [(0, 1, Single), (0, 2, Single), (0, 3, Single)]);
    assert_eq!(bonds("C(=O)(.N)C"), [(0, 1, Double), (0, 3, Single)]);
    assert_eq!(bonds("C1CC1"), [(0, 2, Single), (0, 1, Single), (1, 2, Single)]);
    for double in ["C=1CCCCC=1", "C=1CCCCC1", "C1CCCCC=1", "C=%12CCCCC%12"] {
        assert_eq!(bonds(double)[0], (0, 5, Double), "{double}");
    }
    // A number may be used again, and may close across a dot.
    assert_eq!(bonds("C1CC1C1CC1").len(), 7);
    assert_eq!(bonds("C1.C12.C2"), [(0, 1, Single), (1, 2, Single)]);
    assert_eq!(bonds("C0CC0").len(), 3);
    assert_eq!(bonds("C%01CC1").len(), 3, "the same number");
    assert_eq!(bonds("C(CC)1CC1").len(), 5, "a ring number behind a branch");
    // Biphenyl and fluorene have a single bond between their rings, naphthalene has not.
    let singles = |smiles: &str| bonds(smiles).iter().filter(|(.., order)| *order == Single).count();
    assert_eq!((singles("c1ccccc1c1ccccc1"), singles("c1ccc2c(c1)Cc1ccccc12"), singles("c1ccc2ccccc2c1")), (1, 3, 0));
    let marks = |smiles: &str| parse(smiles).bonds().iter().map(|bond| bond.direction).collect::<Vec<_>>();
    assert_eq!(marks(r"F/C=C\F"), [Direction::Up, Direction::None, Direction::Down]);
    // At a ring's closing end the bond is seen from its second atom.
    assert_eq!(marks(r"C/1=CC\1")[0], Direction::Up);
    assert_eq!(marks("C1=CC/1")[0], Direction::Down);
}

#[test]
fn stereo_marks_and_spaces_around_change_nothing_else() {
    let molecule = parse(" \tN[C@@H](C)C(=O)O \r\n");
    assert_eq!(molecule.formula(), "C3H7NO2");
    assert_eq!((molecule.degree(1), molecule.total_hydrogens(1)), (3, 1));
    assert_eq!(molecule.neighbours(1).iter().map(|near| near.atom).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(parse("[H]O[H]").total_hydrogens(1), 2);
}

#[test]
fn errors_name_the_character_and_what_mends_it() {
    for (smiles, position, expected) in [
        ("", 1, "the string is empty; write a SMILES, such as CCO"),
        ("   ", 3, "the string is empty"),
        ("CCX", 3, "'X' is no element that may stand without brackets; put atoms other than"),
        ("CNa", 3, "'a' is no element"),
        ("CC~C", 3, "a symbol of SMARTS"),
        ("C C", 2, "a space within the string; end the string there"),
        ("CC é", 3, "a space within"),
        ("é", 1, "'é' means nothing in SMILES"),
        ("CC\u{a0}", 3, "means nothing in SMILES"),
        ("C]", 2, "a ] without its ["),
        ("C@H", 2, "'@' stands outside brackets"),
        ("=C", 1, "the bond '=' has no atom before it"),
        ("C==C", 3, "the bond '=' has no atom before it"),
        ("CC=", 3, "no atom follows the bond '='"),
        ("C(=)C", 3, "no atom follows the bond '='"),
        ("C=.C", 2, "no atom follows the bond"),
        ("C.=C", 3, "has no atom before it"),
        (".C", 1, "a dot with no atom before it"),
        ("C..C", 2, "no atom follows the dot"),
        ("C.", 2, "no atom follows the dot"),
        ("C(C.)C", 4, "no atom follows the dot"),
        ("(C)C", 1, "a branch with no atom directly before it"),
        ("C((C))C", 3, "a branch with no atom directly before it"),
        ("C(1CC1)C", 3, "the ring number 1 has no atom before it"),
        ("C(=1CC1)C", 4, "the ring number 1 has no atom before it"),
        ("C=(C)C", 3, "a branch with no atom directly before it; begin with an atom, and write a branch's bond inside"),
        ("C()C", 3, "there is no atom in this branch"),
        ("C(C", 2, "a ( without its )"),
        ("C)C", 2, "a ) without its ("),
        ("1CC1", 1, "the ring number 1 has no atom before it"),
        ("C1CC", 2, "the ring number 1 is never closed"),
        ("C2CC1CC", 2, "the ring number 2 is never closed"),
        ("C11", 3, "joins an atom to itself"),
        ("C1C1", 4, "bonded already"),
        ("C12CCCCC12", 10, "bonded already"),
        ("C(C1)1", 6, "bonded already"),
        ("C2(CC12)1", 9, "bonded already"),
        ("C%1CC", 2, "a ring number after % has two digits"),
        ("C%", 2, "a ring number after % has two digits"),
        ("C=1CCCC#1", 9, "closes with another bond than it opened with at 3"),
        ("C/1CCCC/1", 9, "closes with another bond"),
        ("[", 1, "the string ends within a bracket"),
        ("[C", 1, "a [ without its ]"),
        ("C[]C", 3, "no element's symbol begins with ']'"),
        ("[Xx]", 2, "no element's symbol begins with 'X'"),
        ("[cl]", 3, "'l' does not belong here"),
        ("[1000C]", 2, "the isotope is more than 999"),
        ("[99999999999C]", 2, "the isotope is more than 999"),
        ("[CH10]", 5, "'0' does not belong here"),
        ("[HH1]", 3, "a hydrogen bears no hydrogens; write molecular hydrogen as [H][H]"),
        ("[C+16]", 4, "the charge is more than 15"),
        ("[C++++++++++++++++]", 3, "the charge is more than 15"),
        ("[C+-]", 4, "'-' does not belong here"),
        ("[C:]", 4, "the class needs a number"),
        ("[C:99999999999]", 4, "the class is more than 4294967295"),
        ("[C-H]", 4, "'H' does not belong here in a bracket; the order is isotope"),
        ("[C@TH3]", 6, "the number of the chirality is more than 2"),
        ("[C@SP]", 3, "the chirality @SP needs a number; write one from 1 to 3"),
        ("[C@OH0]", 3, "needs a number"),
        ("[é]", 2, "begins with 'é'"),
        ("[Cé]", 3, "'é' does not belong here"),
        ("[C@é]", 4, "'é' does not belong here"),
    ] {
        let error = error(smiles);
        let message = error.to_string();
        assert_eq!(error.position, position, "{smiles}: {message}");
        assert!(message.contains(expected), "{smiles}: {message}");
    }
}

#[test]
fn no_depth_is_too_deep_and_no_string_too_large() {
    let depth = 30_000;
    assert_eq!(parse(&format!("C{}{}", "(C".repeat(depth), ")".repeat(depth))).atoms().len(), depth + 1);
    assert!(error(&format!("C{}", "(C".repeat(depth))).what.contains("without its )"));
    assert!(error(&"[".repeat(10_000)).what.contains("no element"));
    assert!(error(&"(".repeat(10_000)).what.contains("branch"));
    let most = "C".repeat(MAX_ATOMS);
    assert_eq!(parse(&most).atoms().len(), MAX_ATOMS);
    assert!(error(&format!("{most}C")).what.contains("more than 100000 atoms"));
    // Of a star every atom is bonded to one.
    assert_eq!(parse(&format!("C{}", "(C)".repeat(5_000))).degree(0), 5_000);
}

/// The mean masses of the elements in the set of solubilities.
fn mass(element: u8) -> f64 {
    match element_symbol(element) {
        "H" => 1.008,
        "C" => 12.011,
        "N" => 14.007,
        "O" => 15.999,
        "F" => 18.998,
        "P" => 30.974,
        "S" => 32.06,
        "Cl" => 35.45,
        "Br" => 79.904,
        "I" => 126.904,
        other => panic!("what is the mass of {other}?"),
    }
}

#[test]
fn masses_agree_with_those_of_the_set_of_solubilities() {
    let Some(path) = data("ESOL_delaney-processed.csv") else { return };
    let mut records = CsvRecords::new(Source::from(path).open(None).unwrap());
    records.next_record().unwrap();
    let mut count = 0;
    while records.next_record().unwrap().is_some() {
        let fields: Vec<&str> = records.fields().collect();
        let expected: f64 = fields[3].parse().unwrap();
        let molecule = parse(fields[9]);
        let atoms = molecule.atoms().iter();
        let found: f64 = atoms.map(|atom| mass(atom.element) + f64::from(atom.hydrogens) * mass(1)).sum();
        assert!((found - expected).abs() < 0.001 * expected, "{}: {found} instead of {expected}", fields[9]);
        assert!(molecule.standard_form().formula() == molecule.formula(), "{}", fields[9]);
        count += 1;
    }
    assert_eq!(count, 1128);
}

#[test]
fn all_strings_of_the_sets_parse() {
    let counts: Vec<usize> = sets().iter().map(|set| set.items.len()).collect();
    assert!(counts.is_empty() || counts == [1128, 2050], "{counts:?}");
}

/// `smiles` with a few characters taken out, put in or exchanged.
fn mutated(smiles: &str, key: Key) -> String {
    const CHARACTERS: &[u8] = b"CNOPSFIBrlcnops[]()=#$:/\\-+@H%0123456789.*~ se&a";
    let mut bytes = smiles.as_bytes().to_vec();
    for change in 0..1 + u64::from(key.bits(0) % 3) {
        let draw = |index: u64, below: usize| key.fold(change + 1).bits(index) as usize % below.max(1);
        let (place, byte) = (draw(0, bytes.len()), CHARACTERS[draw(1, CHARACTERS.len())]);
        match draw(2, 3) {
            0 if !bytes.is_empty() => drop(bytes.remove(place)),
            1 if !bytes.is_empty() => bytes[place] = byte,
            _ => bytes.insert(place, byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// What may be done with any molecule.
fn use_all(molecule: &Molecule) {
    for molecule in [molecule.clone(), molecule.standard_form()] {
        check_bonds(&molecule);
        let key = canonical_key(&molecule);
        assert!(!key.is_empty());
        let _ = (scaffold_key(&molecule), atom_features(&molecule), bond_features(&molecule), distances(&molecule, 20));
    }
}

#[test]
fn mutated_strings_parse_or_are_refused_at_a_place() {
    let mut seeds: Vec<String> = sets().into_iter().flat_map(|set| set.items).map(|item| item.smiles).collect();
    for smiles in
        ["N[C@@H](C)C(=O)O", "[13CH3-:2]c1cc%12ccc1C%12/C=C\\Cl", "[Fe@OH12H2+2](Cl)(Br)I.C1CC=1", "[se]1cccc1"]
    {
        seeds.push(smiles.to_owned());
    }
    let mut parsed = 0;
    for number in 0..10_000 {
        let smiles = mutated(&seeds[number % seeds.len()], Key::new(number as u64));
        match parse_smiles(&smiles) {
            Ok(molecule) => {
                parsed += 1;
                use_all(&molecule);
            }
            Err(_) => drop(error(&smiles)),
        }
    }
    assert!((500..9_500).contains(&parsed), "{parsed}");
}

proptest! {
    #[test]
    fn any_string_parses_or_is_refused_at_a_place(smiles in "\\PC{0,24}") {
        if parse_smiles(&smiles).is_err() {
            error(&smiles);
        }
    }

    #[test]
    fn any_string_of_smiles_characters_parses_or_is_refused(smiles in "[CNOcn\\[\\]()=#/:12%@H+.\\-*]{0,16}") {
        match parse_smiles(&smiles) {
            Ok(molecule) => use_all(&molecule),
            Err(_) => drop(error(&smiles)),
        }
    }
}
