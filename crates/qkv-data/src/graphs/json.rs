//! Graphs as JSON objects, one on each line.

use serde_json::{Map, Value};

use super::build::{About, Builder, Conflict, Problem, Read};
use super::{GraphOptions, Graphs};
use crate::error::{Result, quote};
use crate::examples::{Refusal, kind, next_not_blank, object};
use crate::numbers::finite;
use crate::source::Lines;
use crate::tables::part_of;

const NODE: &str = "write a category \"C\", numbers [1.0, 2.0], or {\"category\": \"C\", \"features\": [1.0]}";
const EDGE: &str = "write [source, target] or [source, target, \"kind\", 1.5], or an object with these keys";

pub(super) fn read(mut lines: Lines, options: &GraphOptions) -> Result<Graphs> {
    let mut builder = Builder::new(lines.name().to_owned(), options);
    while let Some(line) = next_not_blank(&mut lines)? {
        let text = line.text();
        let taken = object(text).and_then(|object| take(&object, options, &mut builder, line.number));
        taken.map_err(|refusal| refusal.at(lines.name(), line.number))?;
    }
    builder.finish()
}

fn take(
    graph: &Map<String, Value>,
    options: &GraphOptions,
    builder: &mut Builder,
    line: usize,
) -> std::result::Result<(), Refusal> {
    let Some(Value::Array(nodes)) = graph.get("nodes") else {
        return Err(Refusal::new("there is no array of nodes", format!("give the key nodes; of each, {NODE}")));
    };
    if nodes.is_empty() {
        return Err(Refusal::new("the graph has no node", "give it one, or take the line out"));
    }
    let labels = match graph.get("labels").filter(|_| !options.plain) {
        None | Some(Value::Null) => None,
        Some(Value::Array(labels)) if labels.len() == nodes.len() => Some(labels),
        Some(Value::Array(labels)) => {
            let what = format!("there are {} labels for {} nodes", labels.len(), nodes.len());
            return Err(Refusal::new(what, "give each node one, or null"));
        }
        Some(other) => {
            let what = format!("expected an array of labels, found {}", kind(other));
            return Err(Refusal::new(what, "write a label for each node, or one as \"label\" for the graph"));
        }
    };
    for (place, node) in nodes.iter().enumerate() {
        let label = labels.and_then(|labels| labels.get(place));
        take_node(node, label, builder, line).map_err(|problem| problem.within("node", place).refusal())?;
    }
    match graph.get("edges") {
        None | Some(Value::Null) => {}
        Some(Value::Array(edges)) => {
            for (place, edge) in edges.iter().enumerate() {
                take_edge(edge, nodes.len(), builder).map_err(|problem| problem.within("edge", place).refusal())?;
            }
        }
        Some(other) => return Err(Refusal::new(format!("expected an array of edges, found {}", kind(other)), EDGE)),
    }
    let text_at = |key: Option<&str>, usual| {
        let key = key.unwrap_or(usual);
        graph.get(key).map(|value| text(value, key)).transpose().map(Option::flatten).map_err(Problem::refusal)
    };
    let label = match options.plain {
        true => None,
        false => text_at(options.label.as_deref(), "label")?,
    };
    let split_key = options.split.as_deref().unwrap_or("split");
    let part = match graph.contains_key(split_key) && !options.plain {
        true => Some(part_of(text_at(Some(split_key), "")?.unwrap_or_default().trim())?),
        false => None,
    };
    builder.end(nodes.len(), &About { label: label.as_deref(), part, line }).map_err(|Conflict { source, target }| {
        let what = format!("the edge between {source} and {target} stands there with different numbers");
        Refusal::new(what, "give it once, or set data.directed if there and back are two edges")
    })
}

fn take_node(node: &Value, label: Option<&Value>, builder: &mut Builder, line: usize) -> Read<()> {
    builder.begin_node();
    let (mut dim, mut own_label) = (0, None);
    match node {
        Value::String(category) => take_category(category, builder)?,
        Value::Array(numbers) => dim = take_numbers(numbers, |number| builder.push_dense(number))?,
        Value::Object(node) => {
            match node.get("category") {
                None | Some(Value::Null) => {}
                Some(Value::String(category)) => take_category(category, builder)?,
                Some(other) => return Err(Problem::new(format!("the category is {}", kind(other)), NODE)),
            }
            match node.get("features") {
                None | Some(Value::Null) => {}
                Some(Value::Array(numbers)) => dim = take_numbers(numbers, |number| builder.push_dense(number))?,
                Some(other) => return Err(Problem::new(format!("the features are {}", kind(other)), NODE)),
            }
            own_label = node.get("label");
        }
        other => return Err(Problem::new(format!("is {}", kind(other)), NODE)),
    }
    builder.end_node(dim)?;
    let label = own_label.or(label).map(|label| text(label, "label")).transpose()?.flatten();
    builder.node_labels.push(label.as_deref(), line);
    Ok(())
}

fn take_category(category: &str, builder: &mut Builder) -> Read<()> {
    match category.trim() {
        "" => Err(Problem::new("has an empty category", "write one such as \"C\", or null for none")),
        category => {
            builder.push_name(category);
            Ok(())
        }
    }
}

/// Hands over the numbers of a node or an edge and says how many there are.
fn take_numbers(numbers: &[Value], mut push: impl FnMut(f32)) -> Read<usize> {
    for value in numbers {
        let number = value.as_f64().and_then(finite).ok_or_else(|| {
            let what = match value {
                Value::Number(number) => format!("the number {number} is not finite"),
                other => format!("there is {} where a number belongs", kind(other)),
            };
            Problem::new(what, "write finite numbers such as -1.5")
        });
        push(number?);
    }
    Ok(numbers.len())
}

fn take_edge(edge: &Value, nodes: usize, builder: &mut Builder) -> Read<()> {
    let (source, target, kind_of, numbers) = match edge {
        Value::Array(parts) => {
            let [source, target, rest @ ..] = parts.as_slice() else {
                return Err(Problem::new("lacks source or target", EDGE));
            };
            match rest {
                [kind @ (Value::String(_) | Value::Null), numbers @ ..] => {
                    (Some(source), Some(target), Some(kind), numbers)
                }
                numbers => (Some(source), Some(target), None, numbers),
            }
        }
        Value::Object(edge) => {
            let numbers = match edge.get("features") {
                None | Some(Value::Null) => &[][..],
                Some(Value::Array(numbers)) => numbers.as_slice(),
                Some(other) => return Err(Problem::new(format!("the features are {}", kind(other)), EDGE)),
            };
            let kind = edge.get("kind").or_else(|| edge.get("relation"));
            (edge.get("source"), edge.get("target"), kind, numbers)
        }
        other => return Err(Problem::new(format!("is {}", kind(other)), EDGE)),
    };
    let place = |end: Option<&Value>, name: &str| {
        let end = end.ok_or_else(|| Problem::new(format!("lacks the {name}"), EDGE))?;
        let place = end.as_u64().filter(|&place| place < nodes as u64);
        place.map(|place| place as u32).ok_or_else(|| {
            let what = format!("the {name} {} is not the place of one of the {nodes} nodes", quote(&end.to_string()));
            Problem::new(what, "count nodes from 0")
        })
    };
    let (source, target) = (place(source, "source")?, place(target, "target")?);
    let kind_of = kind_of.map(|kind| text(kind, "kind")).transpose()?.flatten();
    let dim = take_numbers(numbers, |number| builder.push_edge_number(number))?;
    builder.push_edge(source, target, kind_of.as_deref().map(str::trim), dim)
}

/// A value as text, whatever kind of single value it is.
fn text(value: &Value, key: &str) -> Read<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(_) | Value::Bool(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => {
            let what = format!("the key {} is {}", quote(key), kind(value));
            Err(Problem::new(what, "write a string, a number, true or false"))
        }
    }
}
