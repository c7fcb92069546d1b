//! Which files belong to a data set, with the label, the text and the part of each. Shared by sound and pictures.
//!
//! Here belong folders, file names, manifests and the rules that part a set; what the files hold does not.
//!
//! A set is named by a path, which is one of:
//!
//! - **a folder of folders**: the label of a file is the name of the folder at the top that it lies in. If all folders
//!   at the top are called `train`, `dev`, `test` or the like, they are the parts, and the labels are one level below.
//! - **a folder with a name pattern**, such as `{label}_{speaker}_{index}` for `7_jackson_32.wav`: see [`NamePattern`].
//!   The field `label` is the label, and where there is none, the folder is.
//! - **a manifest**: a file ending in `.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.json` (an object on each line) with a
//!   column for the path and maybe others for label, text and part. Its other columns are fields.
//! - **one file** of those that are wanted.
//!
//! Parts come from folders, from a manifest's column `split` or `part`, and from [rules](ListOptions::test) over fields.
//! If any file has a part, those that nothing gives one are for training.

mod folder;
mod manifest;
mod names;
mod rules;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::examples::ending;
use crate::source::Source;

pub use crate::builtin::Part as ListedPart;
use crate::builtin::SceneOptions;
pub use names::NamePattern;
use rules::Rule;

/// The endings of manifests.
const MANIFESTS: [&str; 5] = ["csv", "tsv", "jsonl", "ndjson", "json"];

/// A file of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it is: below the folder, or as the manifest says, from the manifest's folder.
    pub path: PathBuf,
    /// Its label, if anything gives one.
    pub label: Option<String>,
    /// What is said or shown in it, if a manifest says so.
    pub text: Option<String>,
    /// The part that it belongs to; `None` for all files where nothing says anything of parts.
    pub part: Option<ListedPart>,
    /// Name and value of the fields of its name and of the manifest's columns but for path and text.
    pub fields: Vec<(String, String)>,
    /// The line of the manifest that names it, counted from one.
    pub line: Option<usize>,
}

impl Listed {
    /// The value of the field `name`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// How messages name it.
    #[must_use]
    pub fn name(&self) -> String {
        Source::from(&self.path).name()
    }
}

/// How a data set is listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// The endings of the files that are wanted, without a dot, in lower case. Other files of a folder are passed over;
    /// what a manifest names is taken whatever its ending. All files, if this is empty.
    pub endings: &'static [&'static str],
    /// A [pattern](NamePattern) that every file's name has to fit.
    pub names: Option<String>,
    /// The rule that says which files are the dev part, see [`test`](Self::test).
    pub dev: Option<String>,
    /// The rule that says which files are the test part: a field and the values it may have, which are parted by commas
    /// and are texts or ranges of whole numbers, such as `index 0-4,7` or `speaker jackson,theo`. Files that something
    /// else has made dev or test stay what they are; what the rules for dev and for test both take is test.
    pub test: Option<String>,
    /// Whether a rule may take none of the files, as where only one part is there.
    pub may_take_none: bool,
    /// Whether a file without a label is an error.
    pub need_labels: bool,
    /// The columns of a manifest, where they have other names than the usual ones.
    pub columns: ManifestColumns,
    /// The parts that are wanted, all if `None`: nothing of another part is opened. Where nothing says anything of parts, all is wanted.
    pub parts: Option<&'static [ListedPart]>,
    /// Which scenes `builtin:scenes` are.
    pub scenes: SceneOptions,
}

impl ListOptions {
    /// Whether what is of `part` is wanted.
    #[must_use]
    pub fn wants(&self, part: Option<ListedPart>) -> bool {
        part.is_none_or(|part| self.parts.is_none_or(|parts| parts.contains(&part)))
    }
}

/// How a manifest is read. A column that is not named is found by its usual names, whatever their capitals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestColumns {
    /// Usually `path`, `file`, `audio`, `image`, `filename` or `file_name`.
    pub path: Option<String>,
    /// Usually `label`, `class` or `target`.
    pub label: Option<String>,
    /// Usually `text`, `transcript`, `transcription` or `sentence`.
    pub text: Option<String>,
    /// Usually `split` or `part`; it holds `train`, `dev` or `test`, or nothing, which is as `train`.
    pub part: Option<String>,
    /// The folder from which relative paths go; the manifest's own if `None`.
    pub folder: Option<PathBuf>,
    /// The encoding of the manifest, UTF-8 if `None`.
    pub encoding: Option<String>,
}

/// Lists the files of a data set: those of a folder in the order of the bytes of their paths in it, those of a manifest in
/// its order. What a set may be is said at the [module](self). Hidden files and folders are passed over, links followed,
/// but for those that lead back into a folder they lie in.
///
/// # Errors
///
/// A folder that cannot be read or has none of the files that are wanted; a name that does not fit the pattern; a
/// manifest that is malformed or names files that are not there, which are counted and named together; a missing label
/// where labels are needed; a rule that is malformed, names a field that no file has, or takes no file.
pub fn list_files(set: impl AsRef<Path>, options: &ListOptions) -> Result<Vec<Listed>> {
    let set = set.as_ref();
    let name = Source::from(set).name();
    let pattern = options.names.as_deref().map(|names| NamePattern::parse(names, options.endings)).transpose()?;
    let kind = set.metadata().map_err(|source| Error::io(&name, source))?;
    let ending = ending(Some(set));
    let mut files = if kind.is_dir() {
        folder::list(set, options.endings)?
    } else if is_wanted(set, options.endings) && !(options.endings.is_empty() && is_manifest(&ending)) {
        vec![Listed { path: set.to_owned(), label: None, text: None, part: None, fields: Vec::new(), line: None }]
    } else if is_manifest(&ending) {
        manifest::list(set, &options.columns)?
    } else {
        let what = format!("is neither a folder, nor a manifest ({}), {}", joined(&MANIFESTS), wanted(options.endings));
        return Err(Error::unusable(&name, what, "name one of these, or give it the ending of what it is"));
    };
    if let Some(pattern) = &pattern {
        files.iter_mut().try_for_each(|file| add_fields(file, pattern))?;
    }
    apply_rules(&mut files, options)?;
    files.retain(|file| options.wants(file.part));
    if options.need_labels
        && let Some(file) = files.iter().find(|file| file.label.is_none())
    {
        return Err(no_label(&name, file, options));
    }
    Ok(files)
}

/// Adds what the name of `file` says. A label of the name goes before the folder's, a manifest before the name.
fn add_fields(file: &mut Listed, pattern: &NamePattern) -> Result<()> {
    let values = pattern.fields_of(&file.path).map_err(|(what, mend)| Error::unusable(&file.name(), what, mend))?;
    for (name, value) in values {
        if name == "label" && (file.line.is_none() || file.label.is_none()) {
            file.label = Some(value.clone());
        }
        if file.field(&name).is_none() {
            file.fields.push((name, value));
        }
    }
    Ok(())
}

/// Gives the files their parts by the rules, and training to those without one if any has one.
fn apply_rules(files: &mut [Listed], options: &ListOptions) -> Result<()> {
    for (rule, part) in [(&options.test, ListedPart::Test), (&options.dev, ListedPart::Dev)] {
        let Some(rule) = rule else { continue };
        let rule = Rule::parse(rule, part, files)?;
        let (mut fits, mut taken) = (0, 0);
        for file in files.iter_mut().filter(|file| file.field(&rule.field).is_some_and(|value| rule.takes(value))) {
            fits += 1;
            // What the other rule has taken is not taken again.
            taken += usize::from(part == ListedPart::Test || file.part != Some(ListedPart::Test));
            if matches!(file.part, None | Some(ListedPart::Train)) {
                file.part = Some(part);
            }
        }
        if taken == 0 && !options.may_take_none {
            return Err(if fits == 0 { rule.takes_none(files) } else { rule.takes_those_of_test() });
        }
    }
    if files.iter().any(|file| file.part.is_some()) {
        files.iter_mut().for_each(|file| file.part = file.part.or(Some(ListedPart::Train)));
    }
    Ok(())
}

fn no_label(set: &str, file: &Listed, options: &ListOptions) -> Error {
    const WHAT: &str = "has no label, but labels are needed here";
    match (file.line, &options.names) {
        (Some(line), _) => {
            Error::malformed(set, line, format!("{} {WHAT}", file.name()), "write one, or name its column")
        }
        (None, Some(_)) => Error::unusable(&file.name(), WHAT, "give the name pattern a field {label}"),
        (None, None) => {
            let mend =
                "put it into a folder that is called by its label, or give a name pattern such as {label}_{rest}";
            Error::unusable(&file.name(), WHAT, mend)
        }
    }
}

/// The part that a folder or a manifest calls `name`.
pub(crate) fn part_named(name: &str) -> Option<ListedPart> {
    match name.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(ListedPart::Train),
        "dev" | "val" | "valid" | "validation" | "development" => Some(ListedPart::Dev),
        "test" | "testing" => Some(ListedPart::Test),
        _ => None,
    }
}

fn is_manifest(ending: &str) -> bool {
    MANIFESTS.contains(&ending)
}

fn is_wanted(path: &Path, endings: &[&str]) -> bool {
    endings.is_empty() || endings.contains(&ending(Some(path)).as_str())
}

/// The files that are wanted, for messages.
fn wanted(endings: &[&str]) -> String {
    if endings.is_empty() { "nor a file".to_owned() } else { format!("nor a file ending in {}", joined(endings)) }
}

/// Endings for messages.
fn joined(endings: &[&str]) -> String {
    endings.iter().map(|ending| format!(".{ending}")).collect::<Vec<_>>().join(", ")
}
