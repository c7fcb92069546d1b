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
        use std::io::ErrorKind;
        let hint = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "; make room and run it again (`train` with --resume): nothing that was there is lost"
            }
            ErrorKind::NotFound => "; check the path",
            ErrorKind::IsADirectory => "; name a file in it",
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "; a file stands where a folder should be",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                "; check its permissions, or choose another place"
            }
            ErrorKind::InvalidData => "; save it as UTF-8",
            _ => "",
        };
        Self::Io { what, path: path.display().to_string(), reason: format!("{error}{hint}") }
    }

    /// The output, whatever it is, takes no more.
    pub fn output(error: &std::io::Error) -> Self {
        let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let hint = if full { "; make room and run it again" } else { "" };
        Self::Io { what: "write", path: "the output".into(), reason: format!("{error}{hint}") }
    }

    /// A model directory, or a part of one, that cannot be used.
    pub fn model(path: &Path, reason: impl Into<String>) -> Self {
        Self::Model { path: path.display().to_string(), reason: reason.into() }
    }

    /// The exit status the program ends with: 2 for wrong usage, 1 for all else.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Recipe(_) | Self::Data(qkv_data::Error::UnknownName { .. }) => 2,
            _ => 1,
        }
    }
}

/// Whether the reader of the output has gone, which ends the work in peace.
///
/// # Errors
/// If the output takes no more for another reason.
pub(crate) fn gone(written: std::io::Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(false),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(true),
        Err(e) => Err(Error::output(&e)),
    }
}
