//! Files that are either whole or not there.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Writes a file beside its place, syncs it, and renames it into its place, so that a reader finds the old content or the
/// new, whenever the power fails.
///
/// # Errors
/// If the folder cannot be written to or the disk is full. The old content is then still there.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let fail = |e: &std::io::Error| Error::io("write", path, e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder).map_err(|e| fail(&e))?;
    file.write_all(content).map_err(|e| fail(&e))?;
    file.as_file().sync_all().map_err(|e| fail(&e))?;
    make_readable(file.as_file());
    file.persist(path).map_err(|e| fail(&e.error))?;
    // The rename itself must reach the disk; a file system that cannot sync a folder loses nothing by our asking.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
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
    fn the_hash_is_sha_256() {
        assert_eq!(hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
