//! One graph from a table of nodes and a table of edges.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::build::{About, Builder, Conflict};
use super::{GraphOptions, Graphs};
use crate::error::{Error, Result, quote};
use crate::examples::{Refusal, Role};
use crate::listing::{ListedPart, part_named};
use crate::numbers::single;
use crate::source::Source;
use crate::tables::Records;

const ENDINGS: [&str; 5] = ["tsv", "csv", "parquet", "tab", "pq"];

/// Reads the graph of a folder, or of a file of nodes and the file of edges beside it.
pub(super) fn read(path: &Path, options: &GraphOptions) -> Result<Graphs> {
    let (nodes, edges) = if path.is_dir() { in_folder(path)? } else { (path.to_owned(), beside(path)?) };
    let mut builder = Builder::new(Source::from(path).name(), options);
    let names = read_nodes(&Source::from(&nodes), options, &mut builder)?;
    read_edges(&Source::from(&edges), options, &names, &mut builder)?;
    let ended = builder.end(names.len(), &About { line: 1, ..About::default() });
    ended.map_err(|Conflict { source, target, edge }| {
        let line = match line_of(&Source::from(&edges), options, edge) {
            Ok(line) => line,
            Err(error) => return error,
        };
        let what = format!(
            "the edge between {} and {} stands there with different numbers",
            quote(&names.name_of(source)),
            quote(&names.name_of(target))
        );
        let mend = "give it once, or set data.directed if there and back are two edges";
        Error::malformed(&Source::from(&edges).name(), line, what, mend)
    })?;
    if let NodeNames::Named(ids) = names {
        let mut names = vec![String::new(); ids.len()];
        ids.into_iter().for_each(|(name, node)| names[node as usize] = name);
        builder.node_names = Some(names);
    }
    builder.finish()
}

/// The line of the record `number`, counted from 0. Lines are not kept, as there may be very many.
fn line_of(source: &Source, options: &GraphOptions, number: usize) -> Result<usize> {
    let mut records = Records::open(source, options.format, options.encoding.as_deref())?;
    let mut line = records.header_line();
    for _ in 0..=number {
        line = records.next_record()?.unwrap_or(line);
    }
    Ok(line)
}

fn in_folder(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let find = |stem: &str| {
        let mut files = ENDINGS.iter().map(|ending| folder.join(format!("{stem}.{ending}")));
        files.find(|file| file.is_file()).ok_or_else(|| {
            let mend = "put nodes.tsv and edges.tsv into it, or name a file with a graph in JSON on each line";
            Error::unusable(&Source::from(folder).name(), format!("there is no {stem}.tsv in it"), mend)
        })
    };
    Ok((find("nodes")?, find("edges")?))
}

/// The file of edges that belongs to a file of nodes.
fn beside(nodes: &Path) -> Result<PathBuf> {
    let name = Source::from(nodes).name();
    let stem = nodes.file_stem().unwrap_or_default().to_string_lossy();
    let ending = nodes.extension().unwrap_or_default().to_string_lossy();
    let Some((before, after)) = stem.split_once("nodes") else {
        let what = "is not called as a file of nodes";
        return Err(Error::unusable(&name, what, "call it nodes.tsv, with edges.tsv beside it"));
    };
    let endings = std::iter::once(&*ending).chain(ENDINGS);
    let mut files = endings.map(|ending| nodes.with_file_name(format!("{before}edges{after}.{ending}")));
    files.find(|file| file.is_file()).ok_or_else(|| {
        let what = format!("there is no file of edges {before}edges{after}.{ending} beside it");
        Error::unusable(&name, what, "put it there, with the columns source and target")
    })
}

/// The nodes by what they are called.
enum NodeNames {
    /// They are called by their places, counted from 0.
    Places(usize),
    Named(HashMap<String, u32>),
}

impl NodeNames {
    fn len(&self) -> usize {
        match self {
            Self::Places(count) => *count,
            Self::Named(ids) => ids.len(),
        }
    }

    fn find(&self, name: &str) -> Option<u32> {
        match self {
            Self::Places(count) => place(name).filter(|&place| (place as usize) < *count),
            Self::Named(ids) => ids.get(name).copied(),
        }
    }

    fn name_of(&self, node: usize) -> String {
        match self {
            Self::Places(_) => node.to_string(),
            Self::Named(ids) => {
                ids.iter().find(|(_, id)| **id as usize == node).map_or(String::new(), |(name, _)| name.clone())
            }
        }
    }

    /// Adds the node `name`, and says whether it is new.
    fn add(&mut self, name: &str) -> bool {
        if let Self::Places(count) = self {
            match place(name) {
                Some(place) if place as usize == *count => {
                    *count += 1;
                    return true;
                }
                Some(place) if (place as usize) < *count => return false,
                _ => *self = Self::Named((0..*count).map(|node| (node.to_string(), node as u32)).collect()),
            }
        }
        let Self::Named(ids) = self else { return false };
        let next = ids.len() as u32;
        ids.insert(name.to_owned(), next).is_none()
    }
}

/// The number that `name` is, if it is written as numbers are.
fn place(name: &str) -> Option<u32> {
    let is_plain = name == "0" || (!name.starts_with(['0', '+']) && !name.is_empty());
    if is_plain { name.parse().ok().filter(|&place| place < u32::MAX) } else { None }
}

fn role(name: &'static str, usual: &'static [&'static str], column: Option<&String>) -> Role {
    Role { name, usual, column: column.cloned() }
}

/// The place of a column that is needed.
fn needed(records: &Records, role: &Role) -> Result<usize> {
    let place = records.place_of(role, records.header_line())?;
    place.ok_or_else(|| records.lacks(role.name, records.header_line()))
}

/// The place of a column that may be there: the one that was named, or else the first usual one that is not ignored.
fn maybe(records: &Records, role: &Role, options: &GraphOptions) -> Result<Option<usize>> {
    if role.column.is_some() {
        return records.place_of(role, records.header_line());
    }
    let shown = |name: &String| !options.ignore.contains(name);
    let names = records.names().iter().map(|name| if shown(name) { name.as_str() } else { "" });
    Ok(role.usual_among(&names.collect::<Vec<_>>(), None))
}

/// The columns that play no role and are not ignored.
fn others(records: &Records, roles: &[Option<usize>], options: &GraphOptions) -> Vec<usize> {
    let is_ignored = |name: &String| options.ignore.contains(name);
    let names = records.names().iter().enumerate();
    let others = names.filter(|(place, name)| !roles.contains(&Some(*place)) && !is_ignored(name));
    others.map(|(place, _)| place).collect()
}

fn names_of(records: &Records, places: &[usize]) -> Vec<String> {
    places.iter().map(|&place| records.names()[place].clone()).collect()
}

fn number(records: &Records, place: usize, line: usize) -> Result<f32> {
    let column = &records.names()[place];
    let number = match records.nested(place) {
        Some(kind) => {
            let mend = "write a number there, or name the column in data.ignore";
            Err(Refusal::new(format!("there is {kind} in the column {}", quote(column)), mend))
        }
        None => single(records.field(place), column),
    };
    number.map_err(|refusal| records.refuse(line, refusal))
}

fn read_nodes(source: &Source, options: &GraphOptions, builder: &mut Builder) -> Result<NodeNames> {
    let mut records = Records::open(source, options.format, options.encoding.as_deref())?;
    let mut names = NodeNames::Places(0);
    if records.names().is_empty() {
        return Err(no_nodes(records.name()));
    }
    let id = needed(&records, &role("id", &["id", "node"], None))?;
    let asked = |role: Role| match maybe(&records, &role, options) {
        Err(_) if !options.need_labels => Ok(None),
        place => place,
    };
    let split = asked(role("split", &["split"], options.split.as_ref()))?;
    let label = asked(role("label", &["label", "class", "category"], options.label.as_ref()))?;
    let features = maybe(&records, &role("features", &["features"], None), options)?;
    let dense = others(&records, &[Some(id), split, label, features], options);
    builder.dense_names = names_of(&records, &dense);
    let (split, label) = (split.filter(|_| options.need_labels), label.filter(|_| options.need_labels));
    while let Some(line) = records.next_record()? {
        let name = records.field(id);
        if name.is_empty() {
            return Err(Error::malformed(records.name(), line, "the node has no id", "give each one of its own"));
        }
        if !names.add(name) {
            let what = format!("the node {} stands there twice", quote(name));
            return Err(Error::malformed(records.name(), line, what, "give each an id of its own"));
        }
        builder.begin_node();
        let refuse = |refusal: Refusal| records.refuse(line, refusal);
        if let Some(features) = features {
            if let Some(kind) = records.nested(features) {
                let refusal = Refusal::new(format!("the features are {kind}"), "write them with blanks between them");
                return Err(refuse(refusal));
            }
            let mut features = records.field(features).split_whitespace();
            features
                .try_for_each(|feature| builder.push_feature(feature))
                .map_err(|problem| refuse(problem.refusal()))?;
        }
        for &place in &dense {
            builder.push_dense(number(&records, place, line)?);
        }
        builder.end_node(dense.len()).map_err(|problem| refuse(problem.refusal()))?;
        builder.node_labels.push(label.map(|place| records.field(place)), line);
        if let Some(split) = split {
            let part = node_part(records.field(split)).map_err(refuse)?;
            builder.node_parts.get_or_insert_default().push(part);
        }
        if names.len() >= u32::MAX as usize {
            return Err(Error::unusable(records.name(), "holds too many nodes", "leave at most 4294967294"));
        }
    }
    match names.len() {
        0 => Err(no_nodes(records.name())),
        _ => Ok(names),
    }
}

fn no_nodes(name: &str) -> Error {
    Error::unusable(name, "there is no node in it", "write a row for each below the names of the columns, such as id")
}

fn node_part(given: &str) -> std::result::Result<Option<ListedPart>, Refusal> {
    match given.to_ascii_lowercase().as_str() {
        "" | "-" | "none" | "unlabelled" | "unlabeled" => Ok(None),
        _ => part_named(given).map(Some).ok_or_else(|| {
            let mend = "write train, dev, test or none, or name another column in data.split";
            Refusal::new(format!("{} is no part of a data set", quote(given)), mend)
        }),
    }
}

fn read_edges(source: &Source, options: &GraphOptions, names: &NodeNames, builder: &mut Builder) -> Result<()> {
    let mut records = Records::open(source, options.format, options.encoding.as_deref())?;
    let from = needed(&records, &role("source", &["source", "src", "from"], None))?;
    let to = needed(&records, &role("target", &["target", "dst", "to"], None))?;
    let kind = maybe(&records, &role("relation", &["relation", "kind", "type"], None), options)?;
    let numbers = others(&records, &[Some(from), Some(to), kind], options);
    builder.edge_names = names_of(&records, &numbers);
    let mut unknown: Option<(usize, String, usize)> = None;
    while let Some(line) = records.next_record()? {
        let ends = [records.field(from), records.field(to)];
        let [Some(source), Some(target)] = ends.map(|name| names.find(name)) else {
            let name = ends.into_iter().find(|name| names.find(name).is_none()).unwrap_or_default();
            unknown.get_or_insert_with(|| (line, name.to_owned(), 0)).2 += 1;
            continue;
        };
        for &place in &numbers {
            builder.push_edge_number(number(&records, place, line)?);
        }
        let kind = kind.map(|place| records.field(place));
        let pushed = builder.push_edge(source, target, kind, numbers.len());
        pushed.map_err(|problem| records.refuse(line, problem.refusal()))?;
        if builder.edges.len() >= u32::MAX as usize {
            return Err(Error::unusable(records.name(), "holds too many edges", "leave at most 4294967294"));
        }
    }
    let Some((line, name, count)) = unknown else { return Ok(()) };
    let others = match count {
        1 => String::new(),
        _ => format!(", the first of {count} edges to such nodes"),
    };
    let what = format!("the edge names the node {}, which is not among the nodes{others}", quote(&name));
    Err(Error::malformed(records.name(), line, what, "add the nodes, or take the edges out"))
}
