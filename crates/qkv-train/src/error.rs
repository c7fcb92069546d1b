//! What can go wrong, each as one line that says what, where and what would mend it.

use std::path::Path;

/// An error of training, evaluating or using a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recipe, or a key set from outside, is wrong.
    #[error("{0}")]
    Recipe(String),
    /// The data could not be read or used.
    #[error(transparent)]
    Data(#[from] qkv_data::Error),
    /// A file or folder could not be read or written.
    #[error("cannot {what} {path}: {reason}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: String,
        /// What the system said, and what would mend it.
        reason: String,
    },
    /// A model directory is not whole, or not one.
    #[error("{path}: {reason}")]
    Model {
        /// The directory or the file in it.
        path: String,
        /// What is wrong and what would mend it.
        reason: String,
    },
    /// Training cannot go on.
    #[error("{0}")]
    Training(String),
}

/// What functions here return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of the file system, with what would mend the usual ones.
    pub fn io(what: &'static str, path: &Path, error: &std::io::Error) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::StorageFull => "; make room, then go on with --resume: nothing that was there is lost",
            std::io::ErrorKind::NotFound => "; check the path",
            std::io::ErrorKind::PermissionDenied => "; check its permissions",
            _ => "",
        };
        Self::Io { what, path: path.display().to_string(), reason: format!("{error}{hint}") }
    }

    /// A model directory, or a part of one, that cannot be used.
    pub fn model(path: &Path, reason: impl Into<String>) -> Self {
        Self::Model { path: path.display().to_string(), reason: reason.into() }
    }

    /// The exit status the program ends with: 2 for wrong usage, 1 for all else.
    pub fn exit_status(&self) -> u8 {
        if matches!(self, Self::Recipe(_)) { 2 } else { 1 }
    }
}
