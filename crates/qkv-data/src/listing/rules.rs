//! Rules that say which files are held out.

use super::{Listed, ListedPart};
use crate::error::{Error, Result, nearest, quote};
use crate::examples::listed;

/// A field and the values that it may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) field: String,
    values: Vec<Value>,
    /// How messages call the rule.
    name: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    /// Whole numbers from the first to the last.
    Range(u64, u64),
}

impl Rule {
    /// Reads the rule `text` for `part`, whose field has to be one that a file has.
    pub(super) fn parse(text: &str, part: ListedPart, files: &[Listed]) -> Result<Self> {
        let part = if part == ListedPart::Test { "test" } else { "dev" };
        let name = format!("the rule {} for the {part} part", quote(text));
        let malformed = |what: String| {
            Error::unusable(&name, what, "write a field and its values, such as `index 0-4,7` or `speaker theo`")
        };
        let known = known_fields(files);
        let text = text.trim();
        // A column's name may have spaces in it: the longest that the rule begins with is meant.
        let begins =
            |field: &&&str| text.strip_prefix(**field).is_some_and(|rest| rest.starts_with(char::is_whitespace));
        let found = known.iter().filter(begins).max_by_key(|field| field.len());
        let Some(field) = found else {
            let Some((given, _)) = text.split_once(char::is_whitespace) else {
                return Err(malformed("has no values".to_owned()));
            };
            let mend = match (nearest(given, &known), known.is_empty()) {
                (_, true) => "give a name pattern such as {label}_{index}, or a manifest".to_owned(),
                (Some(near), _) => format!("did you mean {near:?}? there are {}", listed(&known)),
                (None, _) => format!("there are {}", listed(&known)),
            };
            return Err(Error::unusable(&name, format!("no file has a field {given:?}"), mend));
        };
        let mut values = Vec::new();
        for value in text[field.len()..].split(',').map(str::trim) {
            if value.is_empty() {
                return Err(malformed("has an empty value".to_owned()));
            }
            values.push(match range(value) {
                Some((first, last)) if first > last => {
                    return Err(malformed(format!("has a range that ends before it begins, {value}")));
                }
                Some((first, last)) => Value::Range(first, last),
                None => Value::Text(value.to_owned()),
            });
        }
        Ok(Self { field: (*field).to_owned(), values, name })
    }

    /// Whether a file is taken whose field has this value. A whole number is the same whatever zeros it begins with.
    pub(super) fn takes(&self, value: &str) -> bool {
        let value = value.trim();
        let number = whole_number(value);
        self.values.iter().any(|wanted| match wanted {
            Value::Text(text) => text == value,
            Value::Range(first, last) => number.is_some_and(|number| (*first..=*last).contains(&number)),
        })
    }

    /// The refusal of a rule that takes nothing but what is of the test part.
    pub(super) fn takes_those_of_test(&self) -> Error {
        Error::unusable(&self.name, "takes none that is not of the test part already", "give other values")
    }

    /// The refusal of a rule that takes none of the `files`.
    pub(super) fn takes_none(&self, files: &[Listed]) -> Error {
        const MOST: usize = 1000;
        let mut values: Vec<&str> = Vec::new();
        for value in files.iter().filter_map(|file| file.field(&self.field)) {
            if values.len() < MOST && !values.contains(&value) {
                values.push(value);
            }
        }
        let what = format!("takes none of the {} files", files.len());
        Error::unusable(&self.name, what, format!("values of {} are {}", self.field, listed(&values)))
    }
}

/// The names of all fields, each once, in the order in which they come.
fn known_fields(files: &[Listed]) -> Vec<&str> {
    let mut known: Vec<&str> = Vec::new();
    let mut before: &[(String, String)] = &[];
    for file in files {
        // Most files have the same fields as the one before.
        let same =
            before.len() == file.fields.len() && before.iter().zip(&file.fields).all(|(one, other)| one.0 == other.0);
        if !same {
            for (name, _) in &file.fields {
                if !known.contains(&name.as_str()) {
                    known.push(name);
                }
            }
            before = &file.fields;
        }
    }
    known
}

/// The range that `value` is: two whole numbers, or one.
fn range(value: &str) -> Option<(u64, u64)> {
    match value.split_once('-') {
        Some((first, last)) => Some((whole_number(first.trim())?, whole_number(last.trim())?)),
        None => whole_number(value).map(|number| (number, number)),
    }
}

fn whole_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}
