//! Which columns of a table, or which keys of an object, are the input and the output.
//!
//! Here belongs the choice, by the names that the user gives or by the usual ones, and what is said when there is none.

use super::{Parts, Refusal};
use crate::error::nearest;

/// One of the two things that are wanted of an example.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    /// What messages call it, such as `text`. The setting that names its column is `data.` and this.
    pub(crate) name: &'static str,
    /// What its column usually is called, the likeliest first.
    pub(crate) usual: &'static [&'static str],
    /// The column that the user named.
    pub(crate) column: Option<String>,
}

/// What is wanted of every example.
#[derive(Debug, Clone)]
pub(crate) struct Roles {
    pub(crate) input: Role,
    pub(crate) output: Role,
    /// Whether an example without an output is an error.
    pub(crate) need_output: bool,
}

/// The places of the chosen columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) input: usize,
    /// `None` if there is none and none is needed.
    pub(super) output: Option<usize>,
}

type Result<T> = std::result::Result<T, Refusal>;

impl Role {
    /// The setting that names its column.
    fn setting(&self) -> String {
        format!("data.{}", self.name)
    }

    /// The place of the first usual name among `columns`, `taken` left out.
    pub(crate) fn usual_among(&self, columns: &[&str], taken: Option<usize>) -> Option<usize> {
        let place_of = |usual: &&str| {
            let is_it = |(place, column): (usize, &&str)| Some(place) != taken && same_name(column, usual);
            columns.iter().enumerate().position(is_it)
        };
        self.usual.iter().find_map(place_of)
    }

    /// The place of the column `name`, written so, or else the same but for capitals.
    pub(crate) fn named_among(name: &str, columns: &[&str]) -> Option<usize> {
        let exactly = columns.iter().position(|column| *column == name);
        exactly.or_else(|| columns.iter().position(|column| same_name(column, name)))
    }

    /// The refusal of a column or key that the user named and that is not there.
    pub(crate) fn not_there(&self, name: &str, kind: &str, columns: &[&str]) -> Refusal {
        let what = format!("there is no {kind} {name:?} ({})", self.setting());
        let mend = match nearest(name, columns) {
            Some(near) => format!("did you mean {near:?}? there are {}", listed(columns)),
            None => format!("there are {}", listed(columns)),
        };
        Refusal::new(what, mend)
    }

    pub(crate) fn none_found(&self, kind: &str, columns: &[&str]) -> Refusal {
        let what = format!("no {kind} has a usual name of a {} ({})", self.name, self.usual.join(", "));
        Refusal::new(
            what,
            format!("give one such a name, or name it in {} to train: there are {}", self.setting(), listed(columns)),
        )
    }
}

impl Roles {
    /// Chooses among `columns`, which messages call a `kind`.
    ///
    /// Each of the two is the column that the user named, or else the first of the usual names that is there. If there
    /// are two columns and the names tell only one of them, the other one is the other, though no output is guessed so
    /// where none is needed; if they tell neither, the first is the input. A single column is the input.
    pub(super) fn choose(&self, kind: &str, columns: &[&str]) -> Result<Choice> {
        let (mut input, mut output) = (None, None);
        if let Some(name) = &self.input.column {
            let place = Role::named_among(name, columns).ok_or_else(|| self.input.not_there(name, kind, columns))?;
            input = Some(place);
        }
        if let Some(name) = &self.output.column {
            output = Role::named_among(name, columns);
            if output.is_none() && self.need_output {
                return Err(self.output.not_there(name, kind, columns));
            }
        }
        input = input.or_else(|| self.input.usual_among(columns, output));
        if self.output.column.is_none() {
            output = self.output.usual_among(columns, input);
        }
        let input = match (input, output, columns.len()) {
            (Some(input), ..) => input,
            (None, Some(output), 2) => 1 - output,
            (None, None, 1 | 2) => 0,
            _ => return Err(self.input.none_found(kind, columns)),
        };
        if output.is_none() && self.need_output {
            if columns.len() != 2 {
                return Err(self.output.none_found(kind, columns));
            }
            output = Some(1 - input);
        }
        for place in std::iter::once(input).chain(output) {
            if columns.iter().filter(|column| **column == columns[place]).count() > 1 {
                let what = format!("more than one {kind} is called {:?}", columns[place]);
                return Err(Refusal::new(what, "give each a name of its own"));
            }
        }
        Ok(Choice { input, output })
    }

    /// Whether `line`, the first of a file that may be TSV, names columns rather than being an example of two.
    ///
    /// It does if the user named a column, and if there are more than two. If there are two, or one, it does if one of
    /// them has a usual name and none has a space in it, which a text mostly has.
    pub(super) fn is_header(&self, line: &str) -> bool {
        let columns: Vec<&str> = line.split('\t').map(str::trim).collect();
        let named = self.input.column.is_some() || self.output.column.is_some();
        let usual = [&self.input, &self.output].iter().any(|role| role.usual_among(&columns, None).is_some());
        named || columns.len() > 2 || (usual && !columns.iter().any(|column| column.contains(' ')))
    }
}

/// The columns of a table, as its first line settles them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    choice: Choice,
    count: usize,
    /// The line that settled it.
    line: usize,
}

impl Columns {
    /// The columns whose names are `header`, on line `line`.
    pub(super) fn from_header<'text>(
        header: impl Iterator<Item = &'text str>,
        line: usize,
        roles: &Roles,
    ) -> Result<Self> {
        let names: Vec<&str> = header.map(str::trim).collect();
        Ok(Self { choice: roles.choose("column", &names)?, count: names.len(), line })
    }

    /// The chosen ones among the `fields` of a record.
    pub(super) fn parts<'text>(&self, fields: impl Iterator<Item = &'text str>) -> Result<Parts<'text>> {
        let mut parts = Parts { input: "", output: None };
        let mut count = 0;
        for (place, field) in fields.enumerate() {
            if place == self.choice.input {
                parts.input = field;
            }
            if Some(place) == self.choice.output {
                parts.output = Some(field);
            }
            count += 1;
        }
        if count == self.count {
            return Ok(parts);
        }
        Err(wrong_count(self.count, self.line, count))
    }
}

/// The refusal of a record of `found` fields where the header, on line `line`, has `expected`.
pub(crate) fn wrong_count(expected: usize, line: usize, found: usize) -> Refusal {
    let what = format!("expected {expected} columns as on line {line}, found {found}");
    let mend = match found < expected {
        true => "give every record as many, empty ones included",
        false => "give every record as many; in CSV a text that has a comma stands in quotes",
    };
    Refusal::new(what, mend)
}

fn same_name(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

/// Names for a message, on one line however many they are and whatever they hold.
pub(crate) fn listed(names: &[&str]) -> String {
    const MOST: usize = 16;
    const LONGEST: usize = 100;
    let short = |name: &&str| format!("{:?}", name.chars().take(LONGEST).collect::<String>());
    let mut listed = names.iter().take(MOST).map(short).collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        listed.push_str("none");
    }
    if names.len() > MOST {
        listed.push_str(&format!(" and {} more", names.len() - MOST));
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(input: Option<&str>, output: Option<&str>, need_output: bool) -> Roles {
        let role = |name, usual, column: Option<&str>| Role { name, usual, column: column.map(str::to_owned) };
        Roles {
            input: role("text", &["text", "sentence"], input),
            output: role("label", &["label", "class"], output),
            need_output,
        }
    }

    fn choose(roles: &Roles, columns: &[&str]) -> std::result::Result<(usize, Option<usize>), String> {
        let choice = roles.choose("column", columns).map_err(|refusal| refusal.at("a.csv", 1).to_string())?;
        Ok((choice.input, choice.output))
    }

    #[test]
    fn columns_are_chosen_by_name_then_by_usual_name_then_by_exclusion() {
        for (input, output, columns, expected) in [
            (Some("b"), Some("c"), &["a", "b", "c"][..], (1, 2)),
            (Some("B"), None, &["class", "b", "c"], (1, 0)),
            (Some("b"), None, &["b", "B", "label"], (0, 2)),
            (None, None, &["id", "Label", "Sentence"], (2, 1)),
            // The order is that of the usual names, not of the columns.
            (None, None, &["class", "label", "sentence", "text"], (3, 1)),
            (None, None, &["gold", "text"], (1, 0)),
            (None, None, &["label", "tweet"], (1, 0)),
            (None, None, &["one", "two"], (0, 1)),
            (Some("two"), None, &["one", "two"], (1, 0)),
            // What has a role has no other.
            (Some("label"), None, &["label", "class"], (0, 1)),
            (None, Some("text"), &["sentence", "text"], (0, 1)),
        ] {
            let (input_place, output_place) = expected;
            let found = choose(&roles(input, output, true), columns);
            assert_eq!(found.unwrap(), (input_place, Some(output_place)), "{input:?} {output:?} {columns:?}");
        }
    }

    #[test]
    fn an_output_that_is_not_needed_is_taken_by_name_only() {
        for (output, columns, expected) in [
            (None, &["text", "label"][..], (0, Some(1))),
            (None, &["id", "text"], (1, None)),
            (None, &["one", "two"], (0, None)),
            (None, &["anything"], (0, None)),
            (Some("gold"), &["gold", "text"], (1, Some(0))),
            (Some("gold"), &["text", "label"], (0, None)),
        ] {
            assert_eq!(choose(&roles(None, output, false), columns).unwrap(), expected, "{output:?} {columns:?}");
        }
    }

    #[test]
    fn a_column_that_is_not_there_is_named_with_the_nearest_and_all() {
        let message = choose(&roles(Some("sentense"), None, true), &["id", "Sentence", "label"]).unwrap_err();
        let expected = "a.csv:1: there is no column \"sentense\" (data.text); did you mean \"Sentence\"? \
                        there are \"id\", \"Sentence\", \"label\"";
        assert_eq!(message, expected);
        let message = choose(&roles(None, Some("gold"), true), &["text", "p"]).unwrap_err();
        assert_eq!(message, "a.csv:1: there is no column \"gold\" (data.label); there are \"text\", \"p\"");
    }

    #[test]
    fn columns_that_do_not_tell_are_an_error() {
        let message = choose(&roles(None, None, true), &["a", "b", "label"]).unwrap_err();
        assert!(
            message.contains(
                "no column has a usual name of a text (text, sentence); give one such a name, or name it in data.text"
            ),
            "{message}"
        );
        for columns in [&["text", "b", "c"][..], &["text"]] {
            let message = choose(&roles(None, None, true), columns).unwrap_err();
            assert!(
                message
                    .contains("usual name of a label (label, class); give one such a name, or name it in data.label"),
                "{message}"
            );
        }
        let message = choose(&roles(None, None, true), &["text", "label", "text"]).unwrap_err();
        assert!(message.contains("more than one column is called \"text\""), "{message}");
        let many: Vec<String> = (0..100).map(|index| format!("{index}\n{}", "x".repeat(1000))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let message = choose(&roles(None, None, true), &many).unwrap_err();
        assert!(message.len() < 3000 && !message.contains('\n') && message.ends_with("and 84 more"), "{message}");
    }

    #[test]
    fn a_header_is_told_from_an_example() {
        for (line, expected) in [
            ("text\tlabel", true),
            ("Sentence\tgold", true),
            ("text", true),
            ("class\tWhat time is it?", false),
            ("word\tw o r d", false),
            ("word", false),
            ("1\tfine\t2", true),
        ] {
            assert_eq!(roles(None, None, true).is_header(line), expected, "{line}");
        }
        assert!(roles(None, Some("gold"), true).is_header("some text\tx"));
    }
}
