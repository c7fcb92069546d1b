use std::path::PathBuf;

use qkv::gather::NONE;
use qkv::random::Key;

use super::graph::{Bond, Molecule};
use super::*;
use crate::plan::shuffle;

pub(super) fn parse(smiles: &str) -> Molecule {
    parse_smiles(smiles).unwrap_or_else(|error| panic!("{smiles}: {error}"))
}

/// A file of the data folder, if there is one.
pub(super) fn data(file: &str) -> Option<PathBuf> {
    let Some(data) = std::env::var_os("QKV_DATA") else {
        println!("skipped: QKV_DATA is not set");
        return None;
    };
    Some(PathBuf::from(data).join("molecules").join(file))
}

/// The sets of the data folder, as they are written.
pub(super) fn sets() -> Vec<MoleculeSet> {
    let options = MoleculeOptions { need_targets: false, as_written: true, ..Default::default() };
    let files = ["ESOL_delaney-processed.csv", "BBBP.csv"];
    files.into_iter().filter_map(data).map(|path| read_molecules(path, &options).unwrap()).collect()
}

/// The same molecule with its atoms, its bonds and the ends of its bonds in another order.
fn renumbered(molecule: &Molecule, seed: u64) -> Molecule {
    let key = Key::new(seed);
    let mut order: Vec<usize> = (0..molecule.atoms().len()).collect();
    shuffle(&mut order, key.fold(0));
    let mut places = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &atom)| places[atom] = place);
    let atoms = order.iter().map(|&atom| molecule.atoms()[atom]).collect();
    let turned = |(number, bond): (usize, &Bond)| {
        let (a, b) = (places[bond.a], places[bond.b]);
        match key.fold(1).bits(number as u64) % 2 {
            0 => Bond { a, b, ..*bond },
            _ => Bond { a: b, b: a, direction: bond.direction.flipped(), ..*bond },
        }
    };
    let mut bonds: Vec<Bond> = molecule.bonds().iter().enumerate().map(turned).collect();
    shuffle(&mut bonds, key.fold(2));
    Molecule::new(atoms, bonds)
}

fn key_of(smiles: &str) -> String {
    canonical_key(&parse(smiles))
}

fn scaffold_of(smiles: &str) -> String {
    scaffold_key(&parse(smiles).standard_form())
}

/// Buckminsterfullerene: twelve pentagons that do not touch, each atom in one of them and in two hexagons.
fn fullerene() -> Molecule {
    let smiles = "c12c3c4c5c1c1c6c7c2c2c8c3c3c9c4c4c%10c5c5c1c1c6c6c%11c7c2c2c7c8c3c3c8c9c4c4c9c%10c5c5c1c1c6c6c%11c2c2c7c3c3c8c4c4c9c5c1c1c6c2c3c41";
    parse(smiles)
}

/// A graph of carbon atoms in a row of `count` on a ring, each joined to those at the `steps` from it.
fn circulant(count: usize, steps: &[usize]) -> Molecule {
    let atoms = vec![graph::Atom::plain(6); count];
    let mut bonds = Vec::new();
    for a in 0..count {
        for step in steps {
            let b = (a + step) % count;
            bonds.push(Bond { a, b, order: BondOrder::Single, direction: Direction::None });
        }
    }
    Molecule::new(atoms, bonds)
}

#[test]
fn a_key_does_not_depend_on_the_numbering() {
    let polystyrene = format!("C{}C", "CC(c1ccccc1)".repeat(30));
    let butyls = format!("C{}", "C(C(C)(C)C)".repeat(40));
    for molecule in [
        parse("CC(=O)Oc1ccccc1C(=O)O"),
        parse("CN1C=NC2=C1C(=O)N(C(=O)N2C)C"),
        parse("C12C3C4C1C5C2C3C45"),
        parse("C1C2CC3CC1CC(C2)C3"),
        parse("CC(C)(C)C(C(C)(C)C)(C(C)(C)C)C(C)(C)C"),
        parse("C1CC1.C1CC1.C1CC1.CCC.[Na+].[Cl-].[Na+].[Cl-]"),
        parse("O.".repeat(200).trim_end_matches('.')),
        parse(&"C".repeat(500)),
        parse(&polystyrene),
        parse(&butyls),
        fullerene(),
        circulant(13, &[1, 3, 4]),
        circulant(40, &[1, 7, 11]),
        circulant(300, &[1]),
    ] {
        let key = canonical_key(&molecule);
        for seed in 0..12 {
            assert_eq!(canonical_key(&renumbered(&molecule, seed)), key, "{}", molecule.formula());
        }
    }
}

/// A graph of carbon atoms, of which those are bonded for which `are_bonded` holds.
fn graph_of(count: usize, are_bonded: impl Fn(usize, usize) -> bool) -> Molecule {
    let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    let bond = |(a, b)| Bond { a, b, order: BondOrder::Single, direction: Direction::None };
    Molecule::new(vec![graph::Atom::plain(6); count], pairs.filter(|&(a, b)| are_bonded(a, b)).map(bond).collect())
}

/// Squares of a board, bonded in rows and columns.
fn rook(size: usize) -> Molecule {
    graph_of(size * size, |a, b| a / size == b / size || a % size == b % size)
}

#[test]
fn very_symmetric_graphs_have_keys_that_tell_them_apart() {
    let cube = graph_of(128, |a, b| (a ^ b).count_ones() == 1);
    let torus = graph_of(16, |a, b| {
        let (row, column) = ((b / 4 + 4 - a / 4) % 4, (b % 4 + 4 - a % 4) % 4);
        matches!((row, column), (0, 1 | 3) | (1 | 3, 0) | (1, 1) | (3, 3))
    });
    // Both have 16 atoms of six neighbours, and any two atoms have two neighbours in common.
    assert_ne!(canonical_key(&rook(4)), canonical_key(&torus));
    let all = graph_of(40, |_, _| true);
    for molecule in [cube, torus, rook(4), rook(10), all] {
        let key = canonical_key(&molecule);
        for seed in 0..4 {
            assert_eq!(canonical_key(&renumbered(&molecule, seed)), key, "{}", molecule.formula());
        }
    }
}

#[test]
fn large_molecules_have_keys_in_time() {
    let chain = parse(&"C".repeat(50_000));
    let butyls = parse(&format!("C{}", "C(C(C)(C)C)".repeat(1_000)));
    let rings = parse("C1CC1.".repeat(5_000).trim_end_matches('.'));
    for molecule in [chain, butyls, rings] {
        assert_eq!(canonical_key(&molecule), canonical_key(&renumbered(&molecule, 1)), "{}", molecule.formula());
    }
}

#[test]
fn different_ways_to_write_give_one_key() {
    for (one, other) in [
        ("OCC", "CCO"),
        ("c1ccccc1O", "Oc1ccccc1"),
        ("C1CCCCC1C", "CC1CCCCC1"),
        ("[CH4]", "C"),
        ("C1.C1", "CC"),
        ("[Na+].[Cl-]", "[Cl-].[Na+]"),
        ("c1ccccc1c1ccccc1", "c1ccccc1-c2ccccc2"),
        ("C%10CC%10", "C1CC1"),
        ("N[C@@H](C)C(=O)O", "CC(N)C(O)=O"),
        ("F/C=C/F", "FC=CF"),
        ("[CH3:7]C", "CC"),
    ] {
        assert_eq!(key_of(one), key_of(other), "{one} {other}");
    }
}

#[test]
fn different_molecules_have_different_keys() {
    let all = [
        "",
        "C",
        "[13CH4]",
        "[CH3]",
        "[CH3+]",
        "[CH3-]",
        "N",
        "CC",
        "C=C",
        "C#C",
        "C.C",
        "CO",
        "C=O",
        "C1CC1",
        "CCC",
        "C=CC",
        "c1ccccc1",
        "C1=CC=CC=C1",
        "C1CCCCC1",
        "c1ccncc1",
        "*",
        "[*+]",
        "CCCO",
        "CC(C)O",
        "CCOC",
        // One that refinement alone cannot tell from the other: two rings of five, or of six and four.
        "C1CCC2CCCC2C1",
        "C1CC2CCCCC2CC1",
        "C1CCCC1C1CCCC1",
        "C1CCC(C1)C1CCCC1CC",
        "C1CCCCC1.C1CCCCC1",
        "C1CCCCCCCCCCC1",
        "C1CCC1.C1CCCCCCC1",
    ];
    let keys: Vec<String> =
        all.iter().map(|smiles| if smiles.is_empty() { String::new() } else { key_of(smiles) }).collect();
    for (place, key) in keys.iter().enumerate() {
        let same = keys.iter().position(|other| other == key).unwrap();
        assert_eq!(same, place, "{} {}", all[same], all[place]);
    }
    // Decalin and bicyclopentyl look alike from each atom.
    let (decalin, pentyls) = (key_of("C1CCC2CCCCC2C1"), key_of("C1CCCC1C1CCCC1"));
    assert_ne!(decalin, pentyls);
}

#[test]
fn changing_an_atom_or_a_bond_changes_the_key() {
    for smiles in ["CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "C12C3C4C1C5C2C3C45"] {
        let molecule = parse(smiles);
        let key = canonical_key(&molecule);
        let (atoms, bonds) = (molecule.atoms(), molecule.bonds());
        for place in 0..atoms.len() {
            let changes: [fn(&mut Atom); 5] = [
                |atom| atom.element += 1,
                |atom| atom.charge += 1,
                |atom| atom.hydrogens += 1,
                |atom| atom.isotope = Some(14),
                |atom| atom.aromatic = !atom.aromatic,
            ];
            for change in changes {
                let mut atoms = atoms.to_vec();
                change(&mut atoms[place]);
                assert_ne!(canonical_key(&Molecule::new(atoms, bonds.to_vec())), key, "{smiles} {place}");
            }
        }
        for place in 0..bonds.len() {
            let mut bonds = bonds.to_vec();
            bonds[place].order = BondOrder::Quadruple;
            assert_ne!(canonical_key(&Molecule::new(atoms.to_vec(), bonds.clone())), key, "{smiles} {place}");
            bonds.remove(place);
            assert_ne!(canonical_key(&Molecule::new(atoms.to_vec(), bonds)), key, "{smiles} {place}");
        }
    }
}

#[test]
fn scaffolds_of_drugs() {
    for (name, smiles, expected) in [
        ("aspirin", "CC(=O)Oc1ccccc1C(=O)O", "c1ccccc1"),
        ("ibuprofen", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "c1ccccc1"),
        ("caffeine", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "O=c1[nH]c(=O)c2[nH]cnc2[nH]1"),
        ("diazepam", "CN1c2ccc(Cl)cc2C(=NCC1=O)c1ccccc1", "O=C1CN=C(c2ccccc2)c2ccccc2N1"),
        (
            "imatinib",
            "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(n1)-c1cccnc1",
            "O=C(Nc1cccc(Nc2nccc(n2)-c2cccnc2)c1)c1ccc(CN2CCNCC2)cc1",
        ),
        ("penicillin G", "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O", "O=C(Cc1ccccc1)NC1C(=O)N2CCSC12"),
        ("methylenecyclohexane", "C=C1CCCCC1C", "C=C1CCCCC1"),
        ("a salt", "[Cl-].C[N+]1(C)CCCCC1", "[NH2+]1CCCCC1"),
        ("written with single and double bonds", "CC1=CC=CC=C1", "c1ccccc1"),
    ] {
        assert_eq!(scaffold_of(smiles), scaffold_of(expected), "{name}");
        let plain = scaffold(&parse(smiles).standard_form());
        assert_eq!(canonical_key(&plain), canonical_key(&parse(expected).standard_form()), "{name}");
        assert_eq!(canonical_key(&scaffold(&plain)), canonical_key(&plain), "{name}: a scaffold is its own");
    }
    for acyclic in ["C", "CCO", "C(C)(C)(C)C", "[Na+].[Cl-]", "C=C=C"] {
        assert!(scaffold(&parse(acyclic)).is_empty() && scaffold_of(acyclic).is_empty(), "{acyclic}");
    }
}

#[test]
fn one_form_for_several_ways_to_write() {
    for (one, other) in [
        ("C1=CC=CC=C1", "c1ccccc1"),
        ("C1=CC2=CC=CC=C2C=C1", "c1ccc2ccccc2c1"),
        ("CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "Cn1cnc2c1c(=O)n(C)c(=O)n2C"),
        ("C1=CC=C2C=CC=C2C=C1", "c1ccc2cccc-2cc1"),
        ("N1C=CC=C1", "[nH]1cccc1"),
        ("O1C=CC=C1", "o1cccc1"),
        ("C1=CC=CN=C1", "n1ccccc1"),
        ("O=C1C=CNC=C1", "O=c1cc[nH]cc1"),
        ("C1=C[CH-]C=C1", "c1c[cH-]cc1"),
        ("C1=CC=CC=C[CH+]1", "c1ccccc[cH+]1"),
        ("C1=CN2C=CC=CC2=N1", "c1cn2ccccc2n1"),
        ("CN(=O)=O", "C[N+](=O)[O-]"),
        ("Cn1ccccc1=O", "CN1C=CC=CC1=O"),
        ("O=n1ccccc1", "[O-][n+]1ccccc1"),
        ("[H]C([H])([H])O[H]", "CO"),
        ("C1=CC=C2C=CC=C2C=C1", "c1ccc2cccc2cc1"),
        ("C1=CC=C2C3=CC=CC4=C3C(=CC=C4)C2=C1", "c1ccc2c(c1)c1cccc3cccc2c31"),
        ("C1=CC=C2C(=C1)C3=CC=CC=C23", "c1ccc2c(c1)c1ccccc12"),
    ] {
        let (one_form, other_form) = (parse(one).standard_form(), parse(other).standard_form());
        assert_eq!(canonical_key(&one_form), canonical_key(&other_form), "{one} {other}");
        assert_eq!(one_form.standard_form(), one_form, "{one}: the form is its own");
        assert_eq!(scaffold_of(one), scaffold_of(other), "{one} {other}");
    }
    for unchanged in ["C1=CC=C1", "C1=CCC=CC1", "O=C1C=CC(=O)C=C1", "C1=CC=CC=CC=C1", "C=C1C=CC=C1", "S1SSSSS1", "CC=C"]
    {
        let molecule = parse(unchanged);
        assert_eq!(molecule.standard_form(), molecule, "{unchanged}");
    }
    for kept in ["[2H]C", "[H][H]", "[H+].[Cl-]", "[H]", "C[H-]C"] {
        assert_eq!(parse(kept).fold_hydrogens(), parse(kept), "{kept}");
    }
}

#[test]
fn a_hydrogen_hands_its_mark_to_the_bond_on_the_other_side() {
    let stereo = |smiles: &str| {
        let molecule = parse(smiles).standard_form();
        let told: Vec<BondStereo> = bond_stereo(&molecule).into_iter().filter(|it| *it != BondStereo::None).collect();
        (canonical_key(&molecule), told)
    };
    for (written, plain) in [
        (r"[H]/C(F)=C(/F)[H]", r"F\C=C/F"),
        (r"[H]/C(F)=C(/[H])F", r"F/C=C/F"),
        (r"[H]\C(F)=C(/F)[H]", r"F/C=C/F"),
        (r"F/C(/[H])=C(/[H])F", r"F/C=C\F"),
        (r"F/C=C([H])/F", r"F/C=C/F"),
        (r"FC(/[H])=C/F", r"F\C=C\F"),
        // Between two double bonds, where the mark agrees with what stands there, and where it would change the second.
        (r"[H]/C(=C/F)C(/Cl)=C/F", r"F\C=C/C(/Cl)=C/F"),
        (r"[H]/C(=C/F)C(\Cl)=C/F", r"FC=CC(\Cl)=C/F"),
        (r"[H]/C(=C/F)C(Cl)=C/F", r"FC=CC(Cl)=CF"),
    ] {
        assert_eq!(stereo(written), stereo(plain), "{written} {plain}");
    }
}

#[test]
fn rings_and_their_sizes() {
    let rings = parse("CC1CC1CC(C)=C1CCCCC1.C1CCCCCCCCC1").rings();
    assert_eq!(rings.smallest[..7], [0, 3, 3, 3, 0, 0, 0]);
    assert_eq!(rings.smallest[7..13], [6; 6]);
    assert_eq!(rings.smallest[13..], [Rings::LARGER; 10]);
    assert_eq!(rings.bonds.iter().filter(|in_ring| **in_ring).count(), 3 + 6 + 10);
    assert_eq!(rings.atoms.iter().filter(|in_ring| **in_ring).count(), 3 + 6 + 10);
    assert_eq!(parse("C1CCC2CCCC2CC1").rings().smallest, [7, 7, 7, 5, 5, 5, 5, 5, 7, 7]);
    assert!(fullerene().rings().smallest.iter().all(|size| *size == 5));
    let chain = parse(&"C".repeat(MAX_ATOMS)).rings();
    assert!(chain.atoms.iter().all(|in_ring| !in_ring));
    let ring = parse(&format!("C1{}C1", "C".repeat(MAX_ATOMS - 2))).rings();
    assert!(ring.smallest.iter().all(|size| *size == Rings::LARGER));
}

#[test]
fn distances_count_bonds() {
    let one = distances(&parse("CC(C)C.O"), 10);
    #[rustfmt::skip]
    let expected = [
        0, 1, 2, 2, 11,
        1, 0, 1, 1, 11,
        2, 1, 0, 2, 11,
        2, 1, 2, 0, 11,
        11, 11, 11, 11, 0,
    ];
    assert_eq!(one, expected);
    let capped = distances(&parse("CCCCC.O"), 2);
    assert_eq!(capped[..6], [0, 1, 2, 2, 2, 3]);
    assert_eq!(distances(&parse("CC.O"), 0), [0, 0, 1, 0, 0, 1, 1, 1, 0]);
    assert_eq!(distances(&parse(&"C".repeat(300)), 255)[299], 254);
    assert!(distances(&Molecule::default(), 5).is_empty());
}

#[test]
fn hybridisation_and_conjugation_of_known_molecules() {
    use Hybridisation::{Other, Sp, Sp2, Sp3, Sp3d, Sp3d2};
    for (smiles, expected) in [
        ("CC", vec![Sp3, Sp3]),
        ("C=C", vec![Sp2, Sp2]),
        ("C#N", vec![Sp, Sp]),
        ("O=C=O", vec![Sp2, Sp, Sp2]),
        ("CC(=O)N", vec![Sp3, Sp2, Sp2, Sp2]),
        ("CN", vec![Sp3, Sp3]),
        ("[NH4+].[Na+]", vec![Sp3, Other]),
        ("FP(F)(F)(F)F", vec![Sp3, Sp3d, Sp3, Sp3, Sp3, Sp3]),
        ("FS(F)(F)(F)(F)F", vec![Sp3, Sp3d2, Sp3, Sp3, Sp3, Sp3, Sp3]),
        ("CS(=O)(=O)C", vec![Sp3, Sp3, Sp2, Sp2, Sp3]),
        ("B(C)(C)C", vec![Sp2, Sp3, Sp3, Sp3]),
        ("c1ccoc1", vec![Sp2; 5]),
        ("[Fe]", vec![Other]),
    ] {
        assert_eq!(hybridisations(&parse(smiles)), expected, "{smiles}");
    }
    for (smiles, expected) in [
        ("CC=C", vec![false, false]),
        ("C=CC=C", vec![true; 3]),
        ("CC(=O)N", vec![false, true, true]),
        ("C=CCC=C", vec![false; 4]),
        ("c1ccccc1CC", vec![true, true, true, true, true, true, false, false]),
        ("C=C[N+](C)(C)C", vec![false; 5]),
    ] {
        let molecule = parse(smiles);
        let mut found = conjugated(&molecule);
        // The ring bond of benzene comes first.
        found.sort_by_key(|conjugated| !conjugated);
        let mut expected = expected;
        expected.sort_by_key(|conjugated| !conjugated);
        assert_eq!(found, expected, "{smiles}");
    }
}

#[test]
fn the_geometry_of_double_bonds_does_not_depend_on_the_way_of_writing() {
    use BondStereo::{None, OppositeSides, SameSide};
    for (smiles, expected) in [
        ("F/C=C/F", OppositeSides),
        (r"F\C=C\F", OppositeSides),
        (r"F/C=C\F", SameSide),
        (r"C(\F)=C/F", OppositeSides),
        (r"F\C=C/F", SameSide),
        ("C(/F)=C/F", SameSide),
        ("F/C(Cl)=C/F", SameSide),
        ("F/C(/Cl)=C/F", SameSide),
        (r"F/C(\Cl)=C/F", None),
        ("F/C(F)=C/F", None),
        ("FC=C/F", None),
        ("FC=CF", None),
        ("F/C=C/1CCCO1", OppositeSides),
        ("F/C=C1/CCCO1", SameSide),
    ] {
        let molecule = parse(smiles);
        let double = |molecule: &Molecule| {
            let place = molecule.bonds().iter().position(|bond| bond.order == BondOrder::Double).unwrap();
            bond_stereo(molecule)[place]
        };
        assert_eq!(double(&molecule), expected, "{smiles}");
        for seed in 0..4 {
            assert_eq!(double(&renumbered(&molecule, seed)), expected, "{smiles}");
        }
    }
}

#[test]
fn features_are_ids_of_one_table_and_of_few_kinds() {
    let mut sets: Vec<Molecule> = sets().into_iter().flat_map(|set| set.items).map(|item| item.molecule).collect();
    sets.push(parse("[C-15].[Og+15].[CH9-].F[W](F)(F)(F)(F)(F)(F)F.[Fe@OH5].C[C@H](N)[C@@H](O)C(=O)O"));
    for molecule in &sets {
        let ids = atom_features(molecule).ids;
        assert_eq!(ids.len(), molecule.atoms().len() * ATOM_FEATURE_WIDTH);
        for atom in ids.chunks(ATOM_FEATURE_WIDTH) {
            // (neighbours that are alike share an id, and what is not there stands last)
            let (slots, neighbours) = atom.split_at(13);
            assert!(slots.is_sorted_by(|one, other| one < other), "{atom:?}");
            assert!(neighbours.is_sorted() && slots[12] < neighbours[0], "{atom:?}");
            assert!(atom.iter().all(|&id| id == NONE || (id as usize) < ATOM_FEATURE_COUNT), "{atom:?}");
        }
        let kinds = bond_features(molecule);
        assert_eq!(kinds.len(), molecule.bonds().len());
        assert!(kinds.iter().all(|kind| (*kind as usize) < BOND_KINDS));
    }
    assert!(atom_features(&Molecule::default()).ids.is_empty());
    let ids = atom_features(&parse("O")).ids;
    let (elements, degrees, hydrogens, charges) = (119, 8, 6, 7);
    let expected = [8, elements, elements + degrees + 2, elements + degrees + hydrogens + 3];
    assert_eq!(ids[..4], expected);
    assert_eq!(ids[4], elements + degrees + hydrogens + charges);
    let kind = |order: u32, ring: u32, conjugated: u32, stereo: u32| ((order * 2 + ring) * 2 + conjugated) * 3 + stereo;
    assert_eq!(bond_features(&parse("F/C=C/F")), [kind(0, 0, 0, 0), kind(1, 0, 0, 2), kind(0, 0, 0, 0)]);
    assert_eq!(bond_features(&parse("c1ccccc1")), [kind(4, 1, 1, 0); 6]);
}

#[test]
fn hydrogen_bonds_and_neighbours_are_features() {
    let offset: u32 = [119, 8, 6, 7, 2, 6, 8, 4, 4].iter().sum();
    // Of each atom: neighbours that are neither carbon nor hydrogen, hydrogen bonds, aromatic neighbours, conjugated bonds.
    let told = |smiles: &str| -> Vec<[u32; 4]> {
        let ids = atom_features(&parse(smiles)).ids;
        let of =
            |atom: &[u32]| [atom[9] - offset, atom[10] - offset - 5, atom[11] - offset - 9, atom[12] - offset - 13];
        ids.chunks(ATOM_FEATURE_WIDTH).map(of).collect()
    };
    assert_eq!(told("CO"), [[1, 0, 0, 0], [0, 3, 0, 0]]);
    assert_eq!(told("CC(=O)N"), [[0, 0, 0, 0], [2, 0, 0, 2], [0, 1, 0, 1], [0, 2, 0, 1]]);
    let bonds = |smiles: &str, place: usize| told(smiles)[place][1];
    assert_eq!([bonds("n1ccccc1", 0), bonds("[nH]1cccc1", 0), bonds("Nc1ccccc1", 0), bonds("CN(C)C", 1)], [1, 2, 2, 1]);
    assert_eq!([bonds("C[NH3+]", 1), bonds("CF", 1), bonds("CS", 1), bonds("CCl", 1)], [2, 1, 2, 0]);
    assert_eq!(told("Cc1ccccc1")[1], [0, 0, 2, 2]);
    let ids = atom_features(&parse("C(=O)(F)C[Si]")).ids;
    let first = offset + 17;
    assert_eq!(ids[13..ATOM_FEATURE_WIDTH], [first, first + 2 * 4 + 1, first + 3 * 4, NONE, NONE, NONE]);
    let carbon = &ids[3 * ATOM_FEATURE_WIDTH..];
    assert_eq!(carbon[13..16], [first, first + 9 * 4, NONE]);
}

#[test]
fn molecules_of_the_sets_keep_their_keys_and_features_when_renumbered() {
    for (number, item) in sets().iter().flat_map(|set| &set.items).enumerate() {
        let molecule = item.molecule.standard_form();
        let (key, frame) = (canonical_key(&molecule), scaffold_key(&molecule));
        let mut ids: Vec<Vec<u32>> =
            atom_features(&molecule).ids.chunks(ATOM_FEATURE_WIDTH).map(<[u32]>::to_vec).collect();
        let mut kinds = bond_features(&molecule);
        ids.sort_unstable();
        kinds.sort_unstable();
        let other = renumbered(&item.molecule, number as u64).standard_form();
        let mut other_ids: Vec<Vec<u32>> =
            atom_features(&other).ids.chunks(ATOM_FEATURE_WIDTH).map(<[u32]>::to_vec).collect();
        let mut other_kinds = bond_features(&other);
        other_ids.sort_unstable();
        other_kinds.sort_unstable();
        assert_eq!((canonical_key(&other), scaffold_key(&other)), (key, frame), "{}", item.smiles);
        assert_eq!((other_ids, other_kinds), (ids, kinds), "{}", item.smiles);
    }
}
