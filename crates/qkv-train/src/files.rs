//! Files that are either whole or not there.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Writes a file beside its place, syncs it, and renames it into its place, so that a reader finds the old content or the
/// new, whenever the power fails.
///
/// # Errors
/// If the folder cannot be written to or the disk is full. The old content is then still there.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    Staged::new(path, content)?.publish()
}

/// What files that are being written are called until they have their place.
const PREFIX: &str = ".writing-";

/// Whether a file of this name is what a write left behind that was killed.
pub fn is_litter(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// Removes what killed writes left in a folder.
pub fn remove_litter(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_litter(&entry.file_name())) {
        // It costs room, nothing else.
        let _ = fs::remove_file(entry.path());
    }
}

/// A file that is written and synced, but not yet in its place. Dropped, it is gone.
#[derive(Debug)]
pub struct Staged {
    file: NamedTempFile,
    path: PathBuf,
}

impl Staged {
    /// Writes `content` beside `path`.
    ///
    /// # Errors
    /// If the folder cannot be written to or the disk is full.
    pub fn new(path: &Path, content: &[u8]) -> Result<Self> {
        let fail = |e: &std::io::Error| Error::io("write", path, e);
        let mut file = temporary(folder_of(path)).map_err(|e| fail(&e))?;
        file.write_all(content).map_err(|e| fail(&e))?;
        file.as_file().sync_all().map_err(|e| fail(&e))?;
        make_readable(file.as_file());
        Ok(Self { file, path: path.to_path_buf() })
    }

    /// Renames it into its place.
    ///
    /// # Errors
    /// If the folder cannot be written to. The old content is then still there.
    pub fn publish(self) -> Result<()> {
        let Self { file, path } = self;
        file.persist(&path).map_err(|e| Error::io("write", &path, &e.error))?;
        // The rename itself must reach the disk; a file system that cannot sync a folder loses nothing by our asking.
        if let Ok(folder) = File::open(folder_of(&path)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

/// A file that is written beside its place piece by piece, by whoever does not hold all of it at once. Dropped, it is gone.
#[derive(Debug)]
pub struct Draft {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Draft {
    /// An empty file beside `path`.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn new(path: &Path) -> Result<Self> {
        let file = temporary(folder_of(path)).map_err(|e| Error::io("write", path, &e))?;
        Ok(Self { file: BufWriter::new(file), path: path.to_path_buf() })
    }

    /// Writes some more at the end.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, &e))
    }

    /// Writes `head` over the beginning, for what is known only at the end, and brings all of it to the disk.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn finish(self, head: &[u8]) -> Result<Staged> {
        let Self { file, path } = self;
        let fail = |e: std::io::Error| Error::io("write", &path, &e);
        let mut file = file.into_inner().map_err(|e| fail(e.into_error()))?;
        file.rewind().map_err(fail)?;
        file.write_all(head).map_err(fail)?;
        file.as_file().sync_all().map_err(fail)?;
        make_readable(file.as_file());
        Ok(Staged { file, path })
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary(folder: &Path) -> std::io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder)
}

/// Makes a folder that files can be written to.
///
/// # Errors
/// If it cannot be made, or no file can be made in it.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::io("make the folder", path, &e))?;
    temporary(path).map(drop).map_err(|e| Error::io("write to the folder", path, &e))
}

/// Holds a folder against other runs, until it is dropped or the process ends.
///
/// # Errors
/// If another run holds it.
pub fn lock(path: &Path) -> Result<Option<File>> {
    // Some systems cannot open a folder, some file systems cannot lock one: there a user has to take care.
    let Ok(folder) = File::open(path) else { return Ok(None) };
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => {
            Err(Error::model(path, "another run of qkv is training in this folder: wait for it, or give another --out"))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// A temporary file is private by default; a model is not.
fn make_readable(file: &File) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = file.set_permissions(fs::Permissions::from_mode(0o644));
    }
    #[cfg(not(unix))]
    let _ = file;
}

/// The whole content of a file.
///
/// # Errors
/// If it is not there or cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::io("read", path, &e))
}

/// The SHA-256 of some bytes, in hexadecimal.
pub fn hash(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_litter() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("file");
        write_atomically(&path, b"old").expect("write");
        write_atomically(&path, b"new").expect("rewrite");
        assert_eq!(read(&path).expect("read"), b"new");
        let missing = folder.path().join("no/such/folder/file");
        assert!(write_atomically(&missing, b"x").expect_err("no folder").to_string().contains("no/such/folder"));
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_draft_has_its_head_written_last_and_is_gone_if_dropped() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("file");
        let draft = |content: &[&[u8]]| {
            let mut draft = Draft::new(&path).expect("beside it");
            content.iter().for_each(|piece| draft.write(piece).expect("write"));
            draft
        };
        drop(draft(&[b"lost"]));
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 0);
        let staged = draft(&[b"????", b" and a tail"]).finish(b"head").expect("written");
        assert!(!path.exists());
        staged.publish().expect("renamed");
        assert_eq!(read(&path).expect("read"), b"head and a tail");
    }

    #[test]
    fn a_locked_folder_is_refused_until_it_is_let_go() {
        let folder = tempfile::tempdir().expect("tempdir");
        if let Some(lock) = lock(folder.path()).expect("free") {
            assert!(super::lock(folder.path()).expect_err("held").to_string().contains("another run"));
            drop(lock);
            super::lock(folder.path()).expect("free again");
        }
    }

    #[test]
    fn the_hash_is_sha_256() {
        assert_eq!(hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
