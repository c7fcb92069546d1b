//! A JSON object on each line.
//!
//! Here belongs what the values of an object may be. Which keys count is [`choice`](super::choice)'s.

use serde_json::{Map, Value};

use super::{Example, Parts, Refusal, Role, Roles, next_not_blank};
use crate::error::{Result, quote};
use crate::source::Lines;

/// Reads an object from each line that is not blank.
pub(super) struct JsonLines {
    lines: Lines,
    /// What the first object settles for all others.
    keys: Option<Keys>,
}

struct Keys {
    input: String,
    output: Option<String>,
}

impl JsonLines {
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines, keys: None }
    }

    pub(super) fn next_example(&mut self, roles: &Roles) -> Result<Option<Example>> {
        let Some(line) = next_not_blank(&mut self.lines)? else { return Ok(None) };
        let example = self.example(line.text(), line.number, roles);
        example.map_err(|refusal| refusal.at(self.lines.name(), line.number)).map(Some)
    }

    fn example(&mut self, text: &str, line: usize, roles: &Roles) -> std::result::Result<Example, Refusal> {
        let object = object(text)?;
        let keys = match &mut self.keys {
            Some(keys) => keys,
            unsettled => unsettled.insert(Keys::of(&object, roles)?),
        };
        let input = match object.get(&keys.input) {
            Some(Value::String(input)) => input,
            Some(other) => return Err(wrong_kind(&roles.input, &keys.input, other, "a string")),
            None => return Err(roles.input.not_there(&keys.input, "key", &names(&object))),
        };
        let output = match &keys.output {
            Some(key) => output(&object, key, roles)?,
            None => None,
        };
        roles.example(Parts { input, output: output.as_deref() }, line)
    }
}

impl Keys {
    fn of(object: &Map<String, Value>, roles: &Roles) -> std::result::Result<Self, Refusal> {
        let names = names(object);
        let choice = roles.choose("key", &names)?;
        let output = choice.output.map(|place| names[place].to_owned());
        // A key that the user named may be missing here and be there later, where it is not needed.
        let output = output.or_else(|| roles.output.column.clone());
        Ok(Self { input: names[choice.input].to_owned(), output })
    }
}

/// The object that stands on a line.
pub(crate) fn object(text: &str) -> std::result::Result<Map<String, Value>, Refusal> {
    object_like(text, "write one object on each line, such as {\"text\": \"…\"}")
}

/// The object that stands on a line; `mend` says what else should have.
pub(crate) fn object_like(text: &str, mend: &str) -> std::result::Result<Map<String, Value>, Refusal> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Refusal::new(format!("expected a JSON object, found {}", kind(&other)), mend)),
        Err(error) => {
            // Its own line is always the first.
            let message = error.to_string();
            let cause = message.split(" at line ").next().unwrap_or_default();
            Err(Refusal::new(format!("this is not valid JSON ({cause}, column {})", error.column()), mend))
        }
    }
}

/// The output as text, whatever kind of single value it is.
fn output(object: &Map<String, Value>, key: &str, roles: &Roles) -> std::result::Result<Option<String>, Refusal> {
    match object.get(key) {
        Some(Value::String(output)) => Ok(Some(output.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(Value::Bool(value)) => Ok(Some(value.to_string())),
        Some(other @ (Value::Array(_) | Value::Object(_))) => {
            Err(wrong_kind(&roles.output, key, other, "a string, a number, true or false"))
        }
        None if roles.need_output => Err(roles.output.not_there(key, "key", &names(object))),
        Some(Value::Null) | None => Ok(None),
    }
}

fn names(object: &Map<String, Value>) -> Vec<&str> {
    object.keys().map(String::as_str).collect()
}

fn wrong_kind(role: &Role, key: &str, value: &Value, wanted: &str) -> Refusal {
    let what = format!("the {}, key {}, is {}, not {wanted}", role.name, quote(key), kind(value));
    Refusal::new(what, format!("write {wanted} there"))
}

/// What messages call a value.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
