//! Files of molecules: tables and JSON objects with a column of SMILES, and `.smi` files.
//!
//! Here belong the choice of the columns and what is said of lines that cannot be read. SMILES is `smiles`' affair, and
//! what a target means that of the task.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::graph::Molecule;
use super::smiles::parse_smiles;
use crate::builtin::Part;
use crate::error::{Error, Result, quote};
use crate::examples::{
    CsvRecords, Refusal, Role, ending, format_named, kind, listed, next_not_blank, object_like, wrong_count,
};
use crate::listing::part_named;
use crate::numbers::is_missing;
use crate::source::{Lines, Source};

/// Columns that hold the SMILES if none is named, the likeliest first.
const USUAL_SMILES: [&str; 5] = ["smiles", "canonical_smiles", "structure", "mol", "molecule"];
/// Columns that hold the target if none is named, the likeliest first.
const USUAL_TARGET: [&str; 6] = ["target", "label", "class", "category", "activity", "y"];
const USUAL_PART: [&str; 2] = ["split", "part"];

/// The formats that molecules are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoleculeFormat {
    /// Comma-separated fields, of which some stand in quotes; the first line names the columns.
    Csv,
    /// Tab-separated fields; the first line names the columns.
    Tsv,
    /// A JSON object on each line. A target may be a string, a number, or true or false; null is none.
    Jsonl,
    /// A SMILES on each line, and maybe a name behind a space or a tab: the columns `smiles` and `name`.
    Smi,
}

impl MoleculeFormat {
    /// Every format, in the order in which they are listed to users.
    pub const ALL: [Self; 4] = [Self::Csv, Self::Tsv, Self::Jsonl, Self::Smi];

    /// The name that chooses this format in `data.format`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Smi => "smi",
        }
    }

    /// The format of a file called `name` whose first line that is not blank is `first`.
    fn detect(name: Option<&Path>, first: &str, options: &MoleculeOptions) -> Self {
        match ending(name).as_str() {
            "csv" => return Self::Csv,
            "tsv" => return Self::Tsv,
            "jsonl" | "ndjson" | "json" => return Self::Jsonl,
            "smi" | "smiles" | "ism" => return Self::Smi,
            _ => {}
        }
        let role = options.smiles_role();
        let names_columns = |separator| {
            let columns: Vec<&str> = first.split(separator).map(str::trim).collect();
            let named = role.column.as_ref().and_then(|name| Role::named_among(name, &columns));
            columns.len() > 1 && named.or_else(|| role.usual_among(&columns, None)).is_some()
        };
        match first {
            _ if first.starts_with('{') => Self::Jsonl,
            _ if names_columns('\t') => Self::Tsv,
            _ if names_columns(',') => Self::Csv,
            _ => Self::Smi,
        }
    }
}

impl FromStr for MoleculeFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        format_named(&Self::ALL, Self::name, name)
    }
}

impl fmt::Display for MoleculeFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How files of molecules are read.
#[derive(Debug, Clone)]
pub struct MoleculeOptions {
    /// The format; `None` tells it by ending, and if that says nothing by the first line: one that begins with `{` is that
    /// of JSON lines, one that names a column of SMILES that of TSV or CSV, and any other one that of `smi`.
    pub format: Option<MoleculeFormat>,
    /// The column or key that holds the SMILES; `None` takes the first usual name that is there (`smiles`,
    /// `canonical_smiles`, `structure`, `mol`, `molecule`).
    pub smiles: Option<String>,
    /// The columns or keys that hold the targets. If none is named, the first usual name that is there (`target`,
    /// `label`, `class`, `category`, `activity`, `y`), else the only other column that holds nothing but numbers; if there
    /// are several such, none is taken.
    pub targets: Vec<String>,
    /// The column or key that says of which part a molecule is; `None` takes `split` or `part`.
    pub part: Option<String>,
    /// The encoding; `None` is UTF-8.
    pub encoding: Option<String>,
    /// Whether nothing but the molecules is wanted: what the columns and keys of targets and parts hold is passed over.
    pub plain: bool,
    /// Whether a molecule needs one target at least. If not, targets that are there are read all the same; a column that is
    /// named has to be there in any case.
    pub need_targets: bool,
    /// Whether there has to be a column of targets, though a molecule may be without.
    pub need_column: bool,
    /// The most atoms that a molecule may have, hydrogens counted by their neighbours aside.
    pub max_atoms: usize,
    /// Whether molecules stay as they are written. If not, they are brought to their [standard
    /// form](Molecule::standard_form), so that different ways to write a molecule give the same.
    pub as_written: bool,
}

impl Default for MoleculeOptions {
    /// For training: any format, usual columns, targets needed, at most 1,024 atoms.
    fn default() -> Self {
        Self {
            format: None,
            smiles: None,
            targets: Vec::new(),
            part: None,
            encoding: None,
            plain: false,
            need_targets: true,
            need_column: false,
            max_atoms: 1024,
            as_written: false,
        }
    }
}

impl MoleculeOptions {
    fn smiles_role(&self) -> Role {
        Role { name: "smiles", usual: &USUAL_SMILES, column: self.smiles.clone() }
    }

    fn target_role(&self, column: Option<&String>) -> Role {
        Role { name: "label", usual: &USUAL_TARGET, column: column.cloned() }
    }

    fn part_role(&self) -> Role {
        Role { name: "split", usual: &USUAL_PART, column: self.part.clone() }
    }
}

/// A molecule and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoleculeItem {
    /// Its SMILES, as it stands in the file but for spaces around it.
    pub smiles: String,
    /// The line where it stands, counted from one.
    pub line: usize,
    /// The molecule.
    pub molecule: Molecule,
    /// Its targets, as many as the set has names, without spaces around them; `None` where there is nothing.
    pub targets: Vec<Option<String>>,
    /// The part that it is of; `None` where nothing is said of parts.
    pub part: Option<Part>,
}

/// Molecules of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoleculeSet {
    /// The molecules, in the order of the file.
    pub items: Vec<MoleculeItem>,
    /// The names of the columns of the targets.
    pub targets: Vec<String>,
    /// How messages name the file.
    pub source: String,
}

impl MoleculeSet {
    /// The target `index` of all molecules as numbers, `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for the first one that is no finite number.
    ///
    /// # Panics
    ///
    /// If there is no such target.
    pub fn numbers(&self, index: usize) -> Result<Vec<Option<f64>>> {
        let number = |item: &MoleculeItem| {
            let Some(target) = &item.targets[index] else { return Ok(None) };
            let number = finite(target).ok_or_else(|| {
                let what = format!("the {} {} is not a finite number", quote(&self.targets[index]), quote(target));
                let mend = "write one such as -1.5 or 2e-3, or leave the field empty if it is not known";
                Error::malformed(&self.source, item.line, what, mend)
            })?;
            Ok(Some(number))
        };
        self.items.iter().map(number).collect()
    }
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Reads all molecules of a file.
///
/// # Errors
///
/// What cannot be opened or decoded; a line that is not of the format; columns that are not there, or that nothing tells
/// apart; a part that is none; a missing target where one is needed; a molecule of too many atoms; a file without a
/// molecule. Of lines whose SMILES cannot be read the first is named, with the place and what would mend it, and the others
/// are counted.
pub fn read_molecules(source: impl Into<Source>, options: &MoleculeOptions) -> Result<MoleculeSet> {
    let source = source.into();
    let name = source.name();
    let mut lines = source.open(options.encoding.as_deref())?;
    let format = match options.format {
        Some(format) => format,
        None => {
            let first = lines.peek_not_blank()?.unwrap_or_default();
            MoleculeFormat::detect(source.path(), first, options)
        }
    };
    let table = Table::read(lines, format)?;
    if table.rows.is_empty() {
        let what = format!("there is no molecule in this {format} file");
        return Err(Error::unusable(&name, what, "is it the right file? it needs at least one molecule"));
    }
    let columns = table.choose(options).map_err(|refusal| refusal.at(&name, table.line))?;
    table.check_single_values(&columns).map_err(|(refusal, line)| refusal.at(&name, line))?;
    let targets = columns.targets.iter().map(|&target| table.names[target].clone()).collect();
    let mut set = MoleculeSet { items: Vec::with_capacity(table.rows.len()), targets, source: name };
    let mut bad = Bad::default();
    for row in &table.rows {
        let refuse = |refusal: Refusal| refusal.at(&set.source, row.line);
        let item = row.item(&columns, options).map_err(refuse)?;
        match item {
            Ok(item) => set.items.push(item),
            Err(refusal) => bad.add(row.line, refusal),
        }
    }
    match bad.first {
        Some((line, refusal)) => Err(refusal.at(&set.source, line, bad.count)),
        None => Ok(set),
    }
}

/// A SMILES that cannot be read, before it is known how many there are.
struct BadSmiles {
    what: String,
    mend: String,
}

impl BadSmiles {
    fn at(self, path: &str, line: usize, count: usize) -> Error {
        let others = match count - 1 {
            0 => String::new(),
            1 => " (and there is another such line)".to_owned(),
            others => format!(" (and there are {others} other such lines)"),
        };
        Error::malformed(path, line, format!("{}{others}", self.what), self.mend)
    }
}

/// Lines whose SMILES cannot be read.
#[derive(Default)]
struct Bad {
    first: Option<(usize, BadSmiles)>,
    count: usize,
}

impl Bad {
    fn add(&mut self, line: usize, refusal: BadSmiles) {
        self.count += 1;
        self.first.get_or_insert((line, refusal));
    }
}

/// A file as rows of fields.
struct Table {
    names: Vec<String>,
    rows: Vec<Row>,
    /// The line that names the columns.
    line: usize,
    format: MoleculeFormat,
    /// Of each key the first line where an object has a list or an object there, and what it is.
    not_single: Vec<Option<(usize, &'static str)>>,
}

struct Row {
    /// Those that are there, with the places of their columns, rising: objects may have keys of their own each.
    fields: Vec<(usize, String)>,
    line: usize,
}

/// The places of the columns that were chosen.
struct Columns {
    smiles: usize,
    targets: Vec<usize>,
    part: Option<usize>,
}

impl Table {
    fn read(lines: Lines, format: MoleculeFormat) -> Result<Self> {
        let mut table = Self { names: Vec::new(), rows: Vec::new(), line: 1, format, not_single: Vec::new() };
        match format {
            MoleculeFormat::Csv => {
                let mut records = CsvRecords::new(lines);
                while let Some(line) = records.next_record()? {
                    let added = table.add(records.fields(), line);
                    added.map_err(|refusal| refusal.at(records.name(), line))?;
                }
            }
            MoleculeFormat::Tsv => {
                let mut lines = lines;
                while let Some(line) = next_not_blank(&mut lines)? {
                    let added = table.add(line.text().split('\t'), line.number);
                    added.map_err(|refusal| refusal.at(lines.name(), line.number))?;
                }
            }
            MoleculeFormat::Jsonl => table.read_objects(lines)?,
            MoleculeFormat::Smi => table.read_smi(lines)?,
        }
        Ok(table)
    }

    /// Adds a record, the first one as the names.
    fn add<'text>(
        &mut self,
        fields: impl Iterator<Item = &'text str>,
        line: usize,
    ) -> std::result::Result<(), Refusal> {
        let fields = fields.map(str::trim);
        if self.names.is_empty() {
            (self.names, self.line) = (fields.map(str::to_owned).collect(), line);
            return Ok(());
        }
        let fields: Vec<(usize, String)> = fields.map(str::to_owned).enumerate().collect();
        if fields.len() != self.names.len() {
            return Err(wrong_count(self.names.len(), self.line, fields.len()));
        }
        self.rows.push(Row { fields, line });
        Ok(())
    }

    fn read_objects(&mut self, mut lines: Lines) -> Result<()> {
        const MEND: &str = "write one molecule on each line, such as {\"smiles\": \"CCO\"}";
        let mut places: HashMap<String, usize> = HashMap::new();
        while let Some(line) = next_not_blank(&mut lines)? {
            let object = object_like(line.text(), MEND).map_err(|refusal| refusal.at(lines.name(), line.number))?;
            if self.rows.is_empty() {
                self.line = line.number;
            }
            let mut fields = Vec::with_capacity(object.len());
            for (key, value) in object {
                let place = match places.get(&key) {
                    Some(&place) => place,
                    None => {
                        places.insert(key.clone(), self.names.len());
                        self.names.push(key);
                        self.not_single.push(None);
                        self.names.len() - 1
                    }
                };
                let field = match value {
                    Value::String(text) => text.trim().to_owned(),
                    Value::Number(number) => number.to_string(),
                    Value::Bool(value) => value.to_string(),
                    Value::Null => continue,
                    other => {
                        self.not_single[place].get_or_insert((line.number, kind(&other)));
                        continue;
                    }
                };
                fields.push((place, field));
            }
            fields.sort_unstable_by_key(|(place, _)| *place);
            self.rows.push(Row { fields, line: line.number });
        }
        Ok(())
    }

    fn read_smi(&mut self, mut lines: Lines) -> Result<()> {
        self.names = vec!["smiles".to_owned(), "name".to_owned()];
        while let Some(line) = next_not_blank(&mut lines)? {
            let text = line.text().trim();
            let (smiles, name) = text.split_once([' ', '\t']).unwrap_or((text, ""));
            // Some files name the columns in their first line.
            if self.rows.is_empty() && smiles.eq_ignore_ascii_case("smiles") {
                continue;
            }
            let fields = vec![(0, smiles.to_owned()), (1, name.trim().to_owned())];
            self.rows.push(Row { fields, line: line.number });
        }
        Ok(())
    }

    /// What messages call a column.
    fn kind(&self) -> &'static str {
        if self.format == MoleculeFormat::Jsonl { "key" } else { "column" }
    }

    fn choose(&self, options: &MoleculeOptions) -> std::result::Result<Columns, Refusal> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let kind = self.kind();
        let named =
            |role: &Role, name: &str| Role::named_among(name, &names).ok_or_else(|| role.not_there(name, kind, &names));
        let role = options.smiles_role();
        let smiles = match &role.column {
            Some(_) if self.format == MoleculeFormat::Smi => 0,
            Some(name) => named(&role, name)?,
            None => role.usual_among(&names, None).ok_or_else(|| role.none_found(kind, &names))?,
        };
        if options.plain {
            return Ok(Columns { smiles, targets: Vec::new(), part: None });
        }
        let role = options.part_role();
        let part = match &role.column {
            Some(name) => Some(named(&role, name)?),
            None => role.usual_among(&names, Some(smiles)),
        };
        let targets = self.choose_targets(options, &names, &[Some(smiles), part])?;
        let chosen = targets.iter().copied().chain([smiles]).chain(part);
        let chosen: Vec<usize> = chosen.collect();
        for (number, place) in chosen.iter().enumerate() {
            if chosen[..number].contains(place) {
                let what = format!("the {kind} {} is wanted twice", quote(names[*place]));
                return Err(Refusal::new(what, "name each target once, and not the column of SMILES or parts"));
            }
            if names.iter().filter(|name| **name == names[*place]).count() > 1 {
                let what = format!("more than one {kind} is called {}", quote(names[*place]));
                return Err(Refusal::new(what, "give each a name of its own"));
            }
        }
        Ok(Columns { smiles, targets, part })
    }

    fn choose_targets(
        &self,
        options: &MoleculeOptions,
        names: &[&str],
        taken: &[Option<usize>],
    ) -> std::result::Result<Vec<usize>, Refusal> {
        let needed = options.need_targets || options.need_column;
        let mut targets = Vec::new();
        for name in &options.targets {
            match Role::named_among(name, names) {
                Some(place) => targets.push(place),
                None => return Err(options.target_role(Some(name)).not_there(name, self.kind(), names)),
            }
        }
        if !options.targets.is_empty() || self.format == MoleculeFormat::Smi {
            if targets.is_empty() && needed {
                let mend = "give a CSV file with a column of SMILES and one of targets, or name data.label = \"name\"";
                return Err(Refusal::new("this file holds SMILES and names, and no targets", mend));
            }
            return Ok(targets);
        }
        let free: Vec<usize> = (0..names.len()).filter(|place| !taken.contains(&Some(*place))).collect();
        let free_names: Vec<&str> = free.iter().map(|&place| names[place]).collect();
        if let Some(place) = options.target_role(None).usual_among(&free_names, None) {
            return Ok(vec![free[place]]);
        }
        let is_numeric = self.numeric();
        let numeric: Vec<usize> = free.into_iter().filter(|&place| is_numeric[place]).collect();
        match numeric[..] {
            [only] => Ok(vec![only]),
            _ if !needed => Ok(Vec::new()),
            [] => Err(options.target_role(None).none_found(self.kind(), names)),
            _ => {
                let kind = self.kind();
                let numeric: Vec<&str> = numeric.iter().map(|&place| names[place]).collect();
                let what = format!("several {kind}s hold numbers, and none has a usual name of a target");
                let mend = format!("name those to be learnt in data.label: {}", listed(&numeric));
                Err(Refusal::new(what, mend))
            }
        }
    }

    /// Whether there are numbers in each column and nothing else.
    fn numeric(&self) -> Vec<bool> {
        let (mut holds, mut others) = (vec![false; self.names.len()], vec![false; self.names.len()]);
        for (place, value) in self.rows.iter().flat_map(|row| &row.fields).filter(|(_, value)| !is_missing(value)) {
            holds[*place] = true;
            others[*place] |= finite(value).is_none();
        }
        holds.into_iter().zip(others).map(|(holds, others)| holds && !others).collect()
    }

    /// Refuses lists and objects in columns that were chosen.
    fn check_single_values(&self, columns: &Columns) -> std::result::Result<(), (Refusal, usize)> {
        for place in columns.targets.iter().copied().chain([columns.smiles]).chain(columns.part) {
            if let Some((line, kind)) = self.not_single.get(place).copied().flatten() {
                let what = format!("the key {} is {kind}", quote(&self.names[place]));
                let mend = "write a string, a number, true or false there, and each target under a key of its own";
                return Err((Refusal::new(what, mend), line));
            }
        }
        Ok(())
    }
}

impl Row {
    /// What stands in a field, unless it is a word for what is missing.
    fn known(&self, place: usize) -> Option<&str> {
        self.value(place).filter(|value| !is_missing(value))
    }

    /// What stands in a field, if anything does.
    fn value(&self, place: usize) -> Option<&str> {
        let found = self.fields.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        Some(self.fields[found].1.as_str()).filter(|value| !value.is_empty())
    }

    /// The molecule of a row. A SMILES that cannot be read is told apart, so that such can be counted.
    fn item(
        &self,
        columns: &Columns,
        options: &MoleculeOptions,
    ) -> std::result::Result<std::result::Result<MoleculeItem, BadSmiles>, Refusal> {
        let part = columns.part.and_then(|place| self.value(place));
        let part = match part {
            Some(given) => Some(part_named(given).ok_or_else(|| {
                Refusal::new(format!("{} is no part of a data set", quote(given)), "write train, dev or test")
            })?),
            None => None,
        };
        let targets: Vec<Option<String>> =
            columns.targets.iter().map(|&place| self.known(place).map(str::to_owned)).collect();
        let Some(smiles) = self.value(columns.smiles) else {
            let mend = "write its SMILES there, or take the line out";
            return Ok(Err(BadSmiles { what: "there is no molecule".to_owned(), mend: mend.to_owned() }));
        };
        if options.need_targets && targets.iter().all(Option::is_none) {
            let what = format!("{} has no target, but targets are needed here", quote(smiles));
            return Err(Refusal::new(what, "write one, or take the line out"));
        }
        let molecule = match parse_smiles(smiles) {
            Ok(molecule) if options.as_written => molecule,
            Ok(molecule) => molecule.fold_hydrogens(),
            Err(error) => {
                let what = format!("{} is no SMILES: character {}: {}", quote(smiles), error.position, error.what);
                return Ok(Err(BadSmiles { what, mend: error.mend }));
            }
        };
        if molecule.atoms().len() > options.max_atoms {
            let (atoms, most) = (molecule.atoms().len(), options.max_atoms);
            let what = format!("{} has {atoms} atoms, more than {most}", quote(smiles));
            return Err(Refusal::new(what, "take the line out, or raise data.max_tokens"));
        }
        let molecule = if options.as_written { molecule } else { molecule.standard_form() };
        let smiles = smiles.to_owned();
        Ok(Ok(MoleculeItem { smiles, line: self.line, molecule, targets, part }))
    }
}
