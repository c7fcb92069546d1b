//! Manifests: files that name the files of a set.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Listed, ListedPart, ManifestColumns, part_named};
use crate::error::{Error, Result, quote};
use crate::examples::{CsvRecords, Refusal, Role, ending, kind, next_not_blank, object, wrong_count};
use crate::source::{Lines, Source};

/// What messages call a column of objects.
const KEY: &str = "key";

/// Names and values of one record, in their order.
type Record = Vec<(String, String)>;

/// Lists the files that the manifest `path` names, in its order.
pub(super) fn list(path: &Path, columns: &ManifestColumns) -> Result<Vec<Listed>> {
    let source = Source::from(path);
    let name = source.name();
    let roles = Roles::new(columns);
    let folder = match &columns.folder {
        Some(folder) => folder.clone(),
        None => path.parent().map(Path::to_owned).unwrap_or_default(),
    };
    let mut records = Records::open(source.open(columns.encoding.as_deref())?, &ending(Some(path)))?;
    let mut files = Vec::new();
    let mut missing = Missing::default();
    let mut settled: Option<Names> = None;
    while let Some((line, record)) = records.next_record(&roles)? {
        let names = match settled.take() {
            // A header holds for all that follows, the keys of an object for it alone.
            Some(names) if records.kind() != KEY => names,
            _ => roles.choose(&names_of(&record), records.kind()).map_err(|refusal| refusal.at(&name, line))?,
        };
        let file = names.file(record, line, &folder).map_err(|refusal| refusal.at(&name, line))?;
        settled = Some(names);
        missing.look_for(&file.path, line);
        files.push(file);
    }
    if files.is_empty() {
        return Err(Error::unusable(&name, "names no file", "write a header and a line for each file"));
    }
    missing.refuse(&name, files.len(), &folder)?;
    Ok(files)
}

fn names_of(record: &Record) -> Vec<&str> {
    record.iter().map(|(name, _)| name.as_str()).collect()
}

/// What is wanted of a manifest.
struct Roles {
    path: Role,
    label: Role,
    text: Role,
    part: Role,
}

/// The names of the columns that were chosen.
struct Names {
    path: String,
    label: Option<String>,
    text: Option<String>,
    part: Option<String>,
}

impl Roles {
    fn new(columns: &ManifestColumns) -> Self {
        let role = |name, usual, column: &Option<String>| Role { name, usual, column: column.clone() };
        Self {
            path: role("path", &["path", "file", "audio", "image", "filename", "file_name"], &columns.path),
            label: role("label", &["label", "class", "target"], &columns.label),
            text: role("text", &["text", "transcript", "transcription", "sentence"], &columns.text),
            part: role("split", &["split", "part"], &columns.part),
        }
    }

    /// Chooses among the `columns`, which messages call a `kind`.
    fn choose(&self, columns: &[&str], kind: &str) -> std::result::Result<Names, Refusal> {
        // An object may lack what others have, a table may not.
        let may_lack = |role: &Role| kind == KEY && role.name != self.path.name;
        let place_of = |role: &Role, taken: Option<usize>| match &role.column {
            Some(name) => match Role::named_among(name, columns) {
                None if !may_lack(role) => Err(role.not_there(name, kind, columns)),
                found => Ok(found),
            },
            None => Ok(role.usual_among(columns, taken)),
        };
        let path = place_of(&self.path, None)?;
        let name_of = |role: &Role| Ok(place_of(role, path)?.map(|place| columns[place].to_owned()));
        let Some(place) = path else { return Err(self.path.none_found(kind, columns)) };
        let names = Names {
            path: columns[place].to_owned(),
            label: name_of(&self.label)?,
            text: name_of(&self.text)?,
            part: name_of(&self.part)?,
        };
        for chosen in [Some(&names.path), names.label.as_ref(), names.text.as_ref(), names.part.as_ref()] {
            if chosen.is_some_and(|name| columns.iter().filter(|column| *column == name).count() > 1) {
                let what = format!("more than one {kind} is called {}", quote(chosen.map_or("", String::as_str)));
                return Err(Refusal::new(what, "give each a name of its own"));
            }
        }
        Ok(names)
    }

    /// Whether the key or column `name` may be one that is wanted.
    fn know(&self, name: &str) -> bool {
        [&self.path, &self.label, &self.text, &self.part].iter().any(|role| match &role.column {
            Some(column) => column == name,
            None => role.usual_among(&[name], None).is_some(),
        })
    }
}

impl Names {
    /// The file that a record names.
    fn file(&self, record: Record, line: usize, folder: &Path) -> std::result::Result<Listed, Refusal> {
        let value_of = |name: &Option<String>| {
            let (_, value) = record.iter().find(|(known, _)| Some(known) == name.as_ref())?;
            Some(value.trim()).filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let Some(path) = value_of(&Some(self.path.clone())) else {
            return Err(Refusal::new("there is no path", format!("write one as {}, or take the line out", self.path)));
        };
        let part = value_of(&self.part).map(|given| part_of(&given)).transpose()?;
        let (label, text) = (value_of(&self.label), value_of(&self.text));
        let is_field = |name: &String| *name != self.path && Some(name) != self.text.as_ref();
        let fields = record.into_iter().filter(|(name, _)| is_field(name)).collect();
        Ok(Listed { path: folder.join(path), label, text, part, fields, line: Some(line) })
    }
}

fn part_of(given: &str) -> std::result::Result<ListedPart, Refusal> {
    let refusal = || Refusal::new(format!("{} is no part of a data set", quote(given)), "write train, dev or test");
    part_named(given).ok_or_else(refusal)
}

/// Files that are not there, to be named together.
#[derive(Default)]
struct Missing {
    count: usize,
    first: Vec<String>,
}

impl Missing {
    fn look_for(&mut self, path: &PathBuf, line: usize) {
        const MOST: usize = 10;
        if path.is_file() {
            return;
        }
        self.count += 1;
        if self.first.len() < MOST {
            self.first.push(format!("{} (line {line})", Source::from(path).name()));
        }
    }

    fn refuse(self, manifest: &str, all: usize, folder: &Path) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let more = match self.count - self.first.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let what = format!("of {all} files named, {} are not there: {}{more}", self.count, self.first.join(", "));
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mend = format!("paths are looked up in {}", Source::from(folder).name());
        Err(Error::unusable(manifest, what, mend))
    }
}

/// The records of a manifest, one at a time.
enum Records {
    Csv { records: Box<CsvRecords>, header: Header },
    Tsv { lines: Lines, header: Header },
    Json(Lines),
}

/// The names of the columns and the line they stand on.
#[derive(Default)]
struct Header {
    names: Vec<String>,
    line: usize,
}

impl Header {
    fn new<'text>(names: impl Iterator<Item = &'text str>, line: usize) -> Self {
        Self { names: names.map(|name| name.trim().to_owned()).collect(), line }
    }

    fn record<'text>(&self, fields: impl Iterator<Item = &'text str>) -> std::result::Result<Record, Refusal> {
        let values: Vec<&str> = fields.collect();
        if values.len() != self.names.len() {
            return Err(wrong_count(self.names.len(), self.line, values.len()));
        }
        Ok(self.names.iter().cloned().zip(values.into_iter().map(str::to_owned)).collect())
    }
}

impl Records {
    fn open(mut lines: Lines, ending: &str) -> Result<Self> {
        match ending {
            "csv" => {
                let mut records = Box::new(CsvRecords::new(lines));
                let line = records.next_record()?;
                let header = line.map(|line| Header::new(records.fields(), line)).unwrap_or_default();
                Ok(Self::Csv { records, header })
            }
            "tsv" => {
                let line = next_not_blank(&mut lines)?;
                let header = line.map(|line| Header::new(line.text().split('\t'), line.number)).unwrap_or_default();
                Ok(Self::Tsv { lines, header })
            }
            _ => Ok(Self::Json(lines)),
        }
    }

    /// What messages call a column.
    fn kind(&self) -> &'static str {
        if matches!(self, Self::Json(_)) { KEY } else { "column" }
    }

    /// The next record and the line it begins on.
    fn next_record(&mut self, roles: &Roles) -> Result<Option<(usize, Record)>> {
        match self {
            Self::Csv { records, header } => {
                let Some(line) = records.next_record()? else { return Ok(None) };
                let record = header.record(records.fields()).map_err(|refusal| refusal.at(records.name(), line))?;
                Ok(Some((line, record)))
            }
            Self::Tsv { lines, header } => {
                let Some(line) = next_not_blank(lines)? else { return Ok(None) };
                let record = header.record(line.text().split('\t'));
                Ok(Some((line.number, record.map_err(|refusal| refusal.at(lines.name(), line.number))?)))
            }
            Self::Json(lines) => {
                let Some(line) = next_not_blank(lines)? else { return Ok(None) };
                let record =
                    json_record(line.text(), roles).map_err(|refusal| refusal.at(lines.name(), line.number))?;
                Ok(Some((line.number, record)))
            }
        }
    }
}

/// The single values of an object. Nothing stands for null; lists and objects are left out where nothing is wanted of them.
fn json_record(text: &str, roles: &Roles) -> std::result::Result<Record, Refusal> {
    let mut record = Record::new();
    for (name, value) in object(text)? {
        let value = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Null => String::new(),
            other if roles.know(&name) => {
                let what = format!("the key {} is {}", quote(&name), kind(&other));
                return Err(Refusal::new(what, "write a string, a number, true or false there"));
            }
            _ => continue,
        };
        record.push((name, value));
    }
    Ok(record)
}
