use std::path::Path;

use super::tests::data;
use super::*;
use crate::builtin::Part;

fn read(name: &str, text: &str, options: &MoleculeOptions) -> Result<MoleculeSet, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let result = read_molecules(&path, options);
    result.map_err(|error| {
        let message = error.to_string().replace(&*folder.path().to_string_lossy(), "").replace('/', "");
        assert!(!message.contains('\n'), "{message}");
        message
    })
}

fn with_targets(targets: &[&str]) -> MoleculeOptions {
    MoleculeOptions { targets: targets.iter().map(|&name| name.to_owned()).collect(), ..Default::default() }
}

fn no_targets() -> MoleculeOptions {
    MoleculeOptions { need_targets: false, ..Default::default() }
}

/// Formulas and targets of a set.
fn told<'set>(set: &'set MoleculeSet) -> Vec<(String, Vec<Option<&'set str>>)> {
    let targets = |item: &'set MoleculeItem| item.targets.iter().map(Option::as_deref).collect();
    set.items.iter().map(|item| (item.molecule.formula(), targets(item))).collect()
}

#[test]
fn formats_hold_the_same() {
    let expected = vec![("C2H6O".to_owned(), vec![Some("1.5")]), ("C6H6".to_owned(), vec![Some("-2")])];
    for (name, text) in [
        ("a.csv", "name,smiles,target\n\"x, y\",CCO ,1.5\nz,c1ccccc1,-2\n"),
        ("a.tsv", "name\tSMILES\tlabel\nx\tCCO\t1.5\n\nz\tc1ccccc1\t-2\n"),
        ("a.jsonl", "{\"smiles\": \"CCO\", \"y\": 1.5}\n{\"y\": -2, \"smiles\": \"c1ccccc1\"}\n"),
        ("a.txt", "structure,y\nCCO,1.5\nc1ccccc1,-2\n"),
        ("a", "y\tsmiles\n1.5\tCCO\n-2\tc1ccccc1\n"),
        ("b", "{\"smiles\": \"CCO\", \"y\": 1.5}\n{\"y\": -2, \"smiles\": \"c1ccccc1\"}\n"),
    ] {
        let set = read(name, text, &MoleculeOptions::default()).unwrap();
        assert_eq!(told(&set), expected, "{name}");
        assert_eq!(set.numbers(0).unwrap(), [Some(1.5), Some(-2.0)], "{name}");
        assert_eq!(set.items[0].smiles, "CCO");
    }
    for (name, text) in [
        ("a.smi", "CCO ethanol and more\nc1ccccc1\n"),
        ("a.txt", "CCO\tethanol and more\nc1ccccc1"),
        ("a.ism", "smiles name\nCCO ethanol and more\n\nc1ccccc1\n"),
    ] {
        let set = read(name, text, &no_targets()).unwrap();
        assert_eq!((set.items.len(), set.targets.len()), (2, 0), "{name}");
        let set = read(name, text, &with_targets(&["name"])).map(|set| set.items[0].targets.clone());
        assert!(set.unwrap_err().contains("has no target"), "{name}");
        let options = MoleculeOptions { need_targets: false, ..with_targets(&["name"]) };
        let set = read(name, text, &options).unwrap();
        assert_eq!(told(&set)[0].1, [Some("ethanol and more")], "{name}");
    }
    for format in MoleculeFormat::ALL {
        assert_eq!(format.to_string().parse::<MoleculeFormat>().unwrap(), format);
    }
    assert!("sdf".parse::<MoleculeFormat>().unwrap_err().to_string().contains("known are csv, tsv, jsonl, smi"));
}

#[test]
fn several_targets_may_be_missing_in_some_rows_and_parts_are_read() {
    let text = "smiles,a,b,split\nC,1,,train\nCC,,0,valid\nCCC,1,1,TEST\nCCCC,0,0,\n";
    let set = read("a.csv", text, &with_targets(&["b", "A"])).unwrap();
    assert_eq!(set.targets, ["b", "a"]);
    let targets: Vec<_> = told(&set).into_iter().map(|(_, targets)| targets).collect();
    assert_eq!(targets, [[None, Some("1")], [Some("0"), None], [Some("1"), Some("1")], [Some("0"), Some("0")]]);
    let parts: Vec<Option<Part>> = set.items.iter().map(|item| item.part).collect();
    assert_eq!(parts, [Some(Part::Train), Some(Part::Dev), Some(Part::Test), None]);
    assert_eq!(set.numbers(0).unwrap(), [None, Some(0.0), Some(1.0), Some(0.0)]);
    let lines: Vec<usize> = set.items.iter().map(|item| item.line).collect();
    assert_eq!(lines, [2, 3, 4, 5]);
    let message = read("a.csv", "smiles,a,split\nC,1,some\n", &MoleculeOptions::default()).unwrap_err();
    assert_eq!(message, "a.csv:2: \"some\" is no part of a data set; write train, dev or test");
}

#[test]
fn the_only_column_of_numbers_is_the_target_and_of_several_none_is() {
    let set = read("a.csv", "id,smiles,logp\nx,C,1\ny,CC,\nz,CCC,2\n", &no_targets()).unwrap();
    assert_eq!(set.targets, ["logp"]);
    let text = "id,smiles,logp,predicted,note\n1,C,1,1.1,x\n2,CC,2,2.1,y\n";
    let message = read("a.csv", text, &MoleculeOptions::default()).unwrap_err();
    assert_eq!(
        message,
        "a.csv:1: several columns hold numbers, and none has a usual name of a target; name those to be learnt in \
         data.label: \"id\", \"logp\", \"predicted\""
    );
    assert!(read("a.csv", text, &no_targets()).unwrap().targets.is_empty());
    let message = read("a.csv", "smiles,note\nC,x\n", &MoleculeOptions::default()).unwrap_err();
    assert!(message.contains("no column has a usual name of a label"), "{message}");
    let message = read("a.smi", "C 12\n", &MoleculeOptions::default()).unwrap_err();
    assert!(message.contains("holds SMILES and names, and no targets"), "{message}");
}

#[test]
fn lines_that_cannot_be_read_are_named_with_the_place_and_counted() {
    let text = "smiles,y\nCCO,1\nC1CC,2\nC=,3\n,4\nCC,5\n";
    let message = read("a.csv", text, &MoleculeOptions::default()).unwrap_err();
    assert_eq!(
        message,
        "a.csv:3: \"C1CC\" is no SMILES: character 2: the ring number 1 is never closed (and there are 2 other such \
         lines); write it a second time, behind the atom to be joined"
    );
    let message = read("a.csv", "smiles,y\nCX,1\n", &MoleculeOptions::default()).unwrap_err();
    assert!(message.starts_with("a.csv:2: \"CX\" is no SMILES: character 2: 'X' is no element"), "{message}");
    let message = read("a.csv", "smiles,y\n,1\n,2\n", &MoleculeOptions::default()).unwrap_err();
    assert_eq!(
        message,
        "a.csv:2: there is no molecule (and there is another such line); write its SMILES there, or take the line out"
    );
}

#[test]
fn malformed_files_are_refused() {
    let one = MoleculeOptions::default();
    let smiles = MoleculeOptions { smiles: Some("mols".to_owned()), ..Default::default() };
    let small = MoleculeOptions { max_atoms: 3, ..Default::default() };
    for (name, text, options, expected) in [
        ("a.csv", "", &one, "there is no molecule in this csv file"),
        ("a.csv", "smiles,y\n", &one, "there is no molecule in this csv file"),
        ("a.smi", "\n\n", &one, "there is no molecule in this smi file"),
        ("a.csv", "name,y\nC,1\n", &one, "a.csv:1: no column has a usual name of a smiles"),
        ("a.csv", "mol,y\nC,1\n", &smiles, "a.csv:1: there is no column \"mols\" (data.smiles); did you mean \"mol\"?"),
        ("a.csv", "smiles,y\nC\n", &one, "a.csv:2: expected 2 columns as on line 1, found 1"),
        ("a.tsv", "smiles\ty\nC\t1\t2\n", &one, "a.tsv:2: expected 2 columns as on line 1, found 3"),
        ("a.csv", "smiles,y,y\nC,1,2\n", &one, "more than one column is called \"y\""),
        ("a.csv", "smiles,y\nC,\n", &one, "a.csv:2: \"C\" has no target, but targets are needed here"),
        ("a.csv", "smiles,y\nCCCC,1\n", &small, "a.csv:2: \"CCCC\" has 4 atoms, more than 3"),
        ("a.csv", "smiles,\"y\nC,1\n", &one, "has a quote"),
        ("a.jsonl", "C\n", &one, "a.jsonl:1: this is not valid JSON"),
        ("a.jsonl", "[1]\n", &one, "expected a JSON object"),
        (
            "a.jsonl",
            "{\"smiles\": \"C\", \"y\": 1}\n{\"smiles\": [\"C\"], \"y\": 1}\n",
            &one,
            "a.jsonl:2: the key \"smiles\" is an array",
        ),
        ("a.jsonl", "{\"smiles\": \"C\", \"y\": {}}\n", &one, "a.jsonl:1: the key \"y\" is an object"),
        ("a.jsonl", "{\"smiles\": \"C\", \"y\": 1}\n{\"y\": 1}\n", &one, "a.jsonl:2: there is no molecule"),
        ("a.jsonl", "{\"s\": \"C\"}\n", &one, "no key has a usual name"),
    ] {
        let message = read(name, text, options).unwrap_err();
        assert!(message.contains(expected), "{name} {text:?}: {message}");
    }
    let message = read("a.csv", "smiles,logp\nC,1\n", &with_targets(&["logq"])).unwrap_err();
    assert!(message.contains("there is no column \"logq\" (data.label); did you mean \"logp\"?"), "{message}");
    let message = read("a.csv", "smiles,y\nC,1\n", &with_targets(&["y", "Y"])).unwrap_err();
    assert!(message.contains("the column \"y\" is wanted twice"), "{message}");
    let message = read("a.csv", "smiles,y\nC,1\n", &with_targets(&["smiles"])).unwrap_err();
    assert!(message.contains("the column \"smiles\" is wanted twice"), "{message}");
    // A column that is named has to be there, also where a molecule may be without a target.
    let options = MoleculeOptions { need_targets: false, ..with_targets(&["gone"]) };
    assert!(read("a.csv", "smiles,y\nC,1\n", &options).unwrap_err().contains("no column \"gone\""));
    assert!(read_molecules(Path::new("nowhere.csv"), &one).is_err());
}

#[test]
fn words_for_what_is_missing_are_no_targets() {
    let set = read(
        "a.csv",
        "smiles,y\nC,1\nCC,NA\nCCC,nan\nCCCC,?\n",
        &MoleculeOptions { need_targets: false, ..MoleculeOptions::default() },
    )
    .unwrap();
    assert_eq!(set.numbers(0).unwrap(), [Some(1.0), None, None, None]);
    // Nor do they hide that a column is one of numbers.
    let set = read("a.csv", "smiles,logp\nC,1\nCC,NA\n", &no_targets()).unwrap();
    assert_eq!(set.targets, ["logp"]);
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    for number in ["inf", "-Infinity", "1e999", "x", "1,5"] {
        let text = format!("smiles,y\nC,1\nCC,\"{number}\"\n");
        let set = read("a.csv", &text, &MoleculeOptions::default()).unwrap();
        let message = set.numbers(0).unwrap_err().to_string();
        assert!(message.contains(&format!("a.csv:3: the \"y\" \"{number}\" is not a finite number")), "{message}");
    }
}

#[test]
fn molecules_are_brought_to_one_form_unless_asked() {
    let text = "smiles,y\n[H]C1=CC=CC=C1,1\n";
    let set = read("a.csv", text, &MoleculeOptions::default()).unwrap();
    assert_eq!(canonical_key(&set.items[0].molecule), canonical_key(&parse_smiles("c1ccccc1").unwrap()));
    let options = MoleculeOptions { as_written: true, ..Default::default() };
    assert_eq!(read("a.csv", text, &options).unwrap().items[0].molecule.atoms().len(), 7);
}

#[test]
fn the_answer_of_another_model_is_not_taken_for_the_target() {
    let Some(path) = data("ESOL_delaney-processed.csv") else { return };
    let message = read_molecules(&path, &MoleculeOptions::default()).unwrap_err().to_string();
    assert!(
        message.contains("several columns hold numbers") && message.contains("measured log solubility"),
        "{message}"
    );
    let options = with_targets(&["measured log solubility in mols per litre"]);
    let set = read_molecules(&path, &options).unwrap();
    let numbers = set.numbers(0).unwrap();
    assert_eq!((numbers.len(), numbers[0], numbers[1127]), (1128, Some(-0.77), Some(-4.522)));
}

#[test]
fn of_what_is_only_asked_nothing_else_is_read() {
    let options = MoleculeOptions { plain: true, need_targets: false, ..with_targets(&["gone"]) };
    let csv = "smiles,part,label\nCCO,A-113,x\n";
    let json = "{\"smiles\": \"CCO\", \"split\": [1], \"label\": [1]}\n";
    for (name, text) in [("a.csv", csv), ("a.jsonl", json)] {
        let set = read(name, text, &options).unwrap();
        assert_eq!((set.items.len(), set.targets.len(), set.items[0].part), (1, 0, None), "{name}");
        assert!(read(name, text, &no_targets()).is_err(), "{name}");
    }
    let long = read("a.csv", &csv.replace("CCO", &"C".repeat(2000)), &options).unwrap_err();
    assert!(long.contains("raise data.max_tokens"), "{long}");
}

#[test]
fn a_column_of_targets_may_be_needed_though_rows_are_without() {
    let options = MoleculeOptions { need_targets: false, need_column: true, ..Default::default() };
    assert_eq!(read("a.csv", "smiles,y\nC,1\nCC,\n", &options).unwrap().items.len(), 2);
    for (name, text, what) in [
        ("a.csv", "smiles,name\nC,x\n", "there are \"smiles\", \"name\""),
        ("a.csv", "smiles,a,b\nC,1,2\n", "data.label: \"a\", \"b\""),
        ("a.jsonl", "{\"smiles\": \"C\", \"name\": \"x\"}\n", "there are \"smiles\", \"name\""),
        ("a.smi", "C x\n", "no targets"),
    ] {
        let message = read(name, text, &options).unwrap_err();
        assert!(message.contains(what), "{message}");
    }
    for name in ["a.csv", "a.smi"] {
        let options = MoleculeOptions { targets: vec!["logp".into()], ..options.clone() };
        let message = read(name, "smiles,name\nC,x\n", &options).unwrap_err();
        assert!(message.contains("\"logp\"") && message.contains("\"name\""), "{message}");
    }
}

#[test]
fn objects_with_keys_of_their_own_each_are_read_in_time() {
    let line = |number: usize| format!("{{\"smiles\": \"C\", \"k{number}\": {number}}}\n");
    let set = read("a.jsonl", &(0..50_000).map(line).collect::<String>(), &no_targets()).unwrap();
    assert_eq!((set.items.len(), set.targets.len()), (50_000, 0));
}

#[test]
fn the_sets_are_split_by_scaffold() {
    for (file, target) in
        [("ESOL_delaney-processed.csv", "measured log solubility in mols per litre"), ("BBBP.csv", "p_np")]
    {
        let Some(path) = data(file) else { return };
        let set = read_molecules(&path, &with_targets(&[target])).unwrap();
        let keys: Vec<String> = set.items.iter().map(|item| scaffold_key(&item.molecule)).collect();
        let parts = scaffold_split(&keys, Shares::default()).unwrap();
        println!("{file}: {} {} {}", parts.train.len(), parts.dev.len(), parts.test.len());
        assert_eq!(parts.train.len() + parts.dev.len() + parts.test.len(), set.items.len());
        let share = parts.train.len() as f64 / set.items.len() as f64;
        assert!((0.79..=0.8).contains(&share), "{share}");
        let of =
            |part: &[usize]| part.iter().map(|&place| keys[place].as_str()).collect::<std::collections::HashSet<_>>();
        assert!(of(&parts.train).is_disjoint(&of(&parts.test)) && of(&parts.dev).is_disjoint(&of(&parts.test)));
    }
}
