//! Files in folders.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Listed, is_wanted, joined, part_named};
use crate::error::{Error, Result};
use crate::examples::{ending, listed};
use crate::source::Source;

/// How deep folders may lie in one another: deeper, links make a maze.
const MOST_DEEP: usize = 32;

/// Lists the files with one of the `endings` that lie in the folder `top` and below.
pub(super) fn list(top: &Path, endings: &[&str]) -> Result<Vec<Listed>> {
    let mut walk = Walk { endings, found: Vec::new(), others: Vec::new(), inside: Vec::new() };
    walk.enter(top, Path::new(""))?;
    let Walk { mut found, others, .. } = walk;
    let name = Source::from(top).name();
    if found.is_empty() {
        return Err(none_found(&name, endings, &others));
    }
    found.sort_by(|one, other| one.as_os_str().as_encoded_bytes().cmp(other.as_os_str().as_encoded_bytes()));
    let parts = tops_are_parts(&name, &found)?;
    found.iter().map(|path| in_folders(top, path, parts)).collect()
}

struct Walk<'a> {
    endings: &'a [&'a str],
    /// Paths of the files that are wanted, from the top.
    found: Vec<PathBuf>,
    /// The first endings of other files.
    others: Vec<String>,
    /// The folders that the present one lies in and itself, without links.
    inside: Vec<PathBuf>,
}

impl Walk<'_> {
    fn enter(&mut self, folder: &Path, from_top: &Path) -> Result<()> {
        let refused = |path: &Path, source| Error::io(&Source::from(path).name(), source);
        let real = fs::canonicalize(folder).map_err(|source| refused(folder, source))?;
        if self.inside.contains(&real) {
            return Ok(());
        }
        if self.inside.len() == MOST_DEEP {
            let what = format!("lies in more than {MOST_DEEP} folders");
            return Err(Error::unusable(
                &Source::from(folder).name(),
                what,
                "name a folder that is nearer to the files",
            ));
        }
        self.inside.push(real);
        for entry in fs::read_dir(folder).map_err(|source| refused(folder, source))? {
            let name = entry.map_err(|source| refused(folder, source))?.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = folder.join(&name);
            // Of what a link leads to; one that leads nowhere is an error if it should have been a file that is wanted.
            let kind = match fs::metadata(&path) {
                Ok(kind) => kind,
                Err(_) if !is_wanted(&path, self.endings) => continue,
                Err(source) => return Err(refused(&path, source)),
            };
            if kind.is_dir() {
                self.enter(&path, &from_top.join(&name))?;
            } else if kind.is_file() && is_wanted(&path, self.endings) {
                self.found.push(from_top.join(&name));
            } else if kind.is_file() && self.others.len() < 5 && !self.others.contains(&ending(Some(&path))) {
                self.others.push(ending(Some(&path)));
            }
        }
        self.inside.pop();
        Ok(())
    }
}

fn none_found(name: &str, endings: &[&str], others: &[String]) -> Error {
    let wanted = if endings.is_empty() { String::new() } else { format!(" ending in {}", joined(endings)) };
    let mend = match others.is_empty() {
        true => "check the path".to_owned(),
        false => {
            let mut others: Vec<&str> = others.iter().map(String::as_str).collect();
            others.sort_unstable();
            format!("check the path; there are files ending in {}", joined(&others))
        }
    };
    Error::unusable(name, format!("there is no file{wanted} in this folder"), mend)
}

/// Whether the folders at the top are parts: all of them are called so.
fn tops_are_parts(name: &str, found: &[PathBuf]) -> Result<bool> {
    let mut parts: Vec<&str> = Vec::new();
    let mut labels: Vec<&str> = Vec::new();
    for path in found {
        let Some(top) = path.parent().and_then(|folders| folders.iter().next()).and_then(|top| top.to_str()) else {
            continue;
        };
        let tops = if part_named(top).is_some() { &mut parts } else { &mut labels };
        if tops.last() != Some(&top) {
            tops.push(top);
        }
    }
    let mut distinct: Vec<_> = parts.iter().map(|top| part_named(top)).collect();
    distinct.dedup();
    if distinct.len() > 1 && !labels.is_empty() {
        let what = format!("has folders that are parts ({}) beside others ({})", listed(&parts), listed(&labels));
        return Err(Error::unusable(name, what, "put the labels into the parts, or take the others out"));
    }
    Ok(!parts.is_empty() && labels.is_empty())
}

/// The file `path` below `top`, with the part and the label that its folders give it.
fn in_folders(top: &Path, path: &Path, parts: bool) -> Result<Listed> {
    let mut folders = path.parent().into_iter().flat_map(Path::iter);
    let part = if parts { folders.next().and_then(|top| part_named(top.to_str()?)) } else { None };
    let label = match folders.next().map(|folder| folder.to_str()) {
        Some(None) => {
            let what = "lies in a folder whose name is not UTF-8";
            return Err(Error::unusable(&Source::from(path).name(), what, "rename the folder"));
        }
        Some(label) => label.map(str::to_owned),
        None => None,
    };
    Ok(Listed { path: top.join(path), label, text: None, part, fields: Vec::new(), line: None })
}
