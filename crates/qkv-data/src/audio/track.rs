//! Tracks of labels: what is heard from when to when in a recording.
//!
//! A track is a text file beside the recording, of the same name with the ending `.txt`, `.tsv` or `.lab`, or one that a manifest
//! names in its column `track`. Each of its lines is a stretch, as Audacity writes them: where it begins and ends in seconds, and the
//! label, with tabs or blanks between them.
//!
//! ```text
//! 0.35    1.10    bird
//! 1.10    2.62    rain
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::listing::Listed;
use crate::source::Source;

/// The endings that a track beside a recording may have.
const TRACK_ENDINGS: [&str; 3] = ["txt", "tsv", "lab"];

/// A manifest's column for the track.
const TRACK_FIELD: &str = "track";

const MEND: &str = "write `begin end label`, in seconds";

/// A stretch of a recording that one label is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// Where it begins, in seconds.
    pub start: f64,
    /// Where it ends, in seconds.
    pub end: f64,
    /// What it is.
    pub label: String,
}

/// Where the track of a recording is, if it has one. Paths of a manifest go from the folder of `set`, the manifest.
#[must_use]
pub fn track_of(set: &Path, recording: &Listed) -> Option<PathBuf> {
    if let Some(given) = recording.field(TRACK_FIELD).map(str::trim).filter(|given| !given.is_empty()) {
        return Some(set.parent().unwrap_or(Path::new("")).join(given));
    }
    let beside = TRACK_ENDINGS.iter().map(|ending| recording.path.with_extension(ending));
    beside.into_iter().find(|path| path.is_file())
}

/// Reads a track: its stretches in the order of time.
///
/// # Errors
///
/// A file that cannot be read, a line that is no stretch, one that ends before it begins, and stretches that overlap.
pub fn read_track(path: &Path) -> Result<Vec<Stretch>> {
    let name = Source::from(path).name();
    let content = fs::read(path).map_err(|source| Error::io(&name, source))?;
    let content = String::from_utf8(content).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        Error::malformed(&name, line, "is not UTF-8", "save the track as UTF-8")
    })?;
    let mut found = Vec::new();
    for (line, text) in (1..).zip(content.trim_start_matches('\u{feff}').lines()) {
        let text = text.trim();
        // Audacity puts frequencies on lines that begin so.
        if text.is_empty() || text.starts_with('\\') {
            continue;
        }
        let stretch = stretch(text).map_err(|what| Error::malformed(&name, line, what, MEND))?;
        found.push((line, stretch));
    }
    found.sort_by(|(_, one), (_, other)| one.start.total_cmp(&other.start));
    for pair in found.windows(2) {
        let [(before, one), (line, other)] = pair else { continue };
        if other.start < one.end {
            let what =
                format!("begins at {} s, before the stretch of line {before} ends at {} s", other.start, one.end);
            return Err(Error::malformed(&name, *line, what, "a frame has one label: let them not overlap"));
        }
    }
    Ok(found.into_iter().map(|(_, stretch)| stretch).collect())
}

fn stretch(text: &str) -> std::result::Result<Stretch, String> {
    let (start, rest) = text.split_once(char::is_whitespace).ok_or("has a single field")?;
    let (end, label) = rest.trim_start().split_once(char::is_whitespace).ok_or("has no label")?;
    let seconds = |field: &str| match field.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(seconds),
        _ => Err(format!("{field:?} is no time in seconds")),
    };
    let (start, end) = (seconds(start)?, seconds(end)?);
    if start >= end {
        return Err(format!("ends at {end} s, and begins at {start} s"));
    }
    Ok(Stretch { start, end, label: label.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: impl AsRef<[u8]>) -> Result<Vec<Stretch>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, content).unwrap();
        read_track(&path)
    }

    #[test]
    fn stretches_come_in_the_order_of_time() {
        let found = read("\u{feff}1.5\t2\tlight rain\r\n\\\t100\t2000\n\n0 0.5 bird \n").unwrap();
        let stretch = |start, end, label: &str| Stretch { start, end, label: label.into() };
        assert_eq!(found, [stretch(0.0, 0.5, "bird"), stretch(1.5, 2.0, "light rain")]);
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_stretch_is_named_by_its_line() {
        for (content, line, what) in [
            ("0 1 a\n3", 2, "single field"),
            ("0 1", 1, "no label"),
            ("0 x a", 1, "\"x\" is no time"),
            ("-1 1 a", 1, "\"-1\" is no time"),
            ("0 NaN a", 1, "no time"),
            ("2 1 a", 1, "ends at 1 s"),
            ("1 1 a", 1, "ends at 1 s"),
            ("0 2 a\n5 6 b\n1 3 c", 3, "before the stretch of line 1 ends at 2 s"),
        ] {
            let error = read(content).unwrap_err().to_string();
            assert!(error.contains(&format!("a.txt:{line}: ")) && error.contains(what), "{content:?}: {error}");
        }
        assert!(read(b"0 1 a\n0 1 \xff").unwrap_err().to_string().contains("a.txt:2: is not UTF-8"));
    }

    #[test]
    fn a_track_lies_beside_its_recording_or_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str, fields: &[(&str, &str)]| Listed {
            path: folder.path().join(path),
            label: None,
            text: None,
            part: None,
            fields: fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            line: None,
        };
        fs::write(folder.path().join("a.lab"), "").unwrap();
        let set = folder.path().join("list.csv");
        assert_eq!(track_of(&set, &file("a.wav", &[])), Some(folder.path().join("a.lab")));
        assert_eq!(track_of(&set, &file("b.wav", &[])), None);
        assert_eq!(track_of(&set, &file("a.wav", &[("track", "x/t.txt")])), Some(folder.path().join("x/t.txt")));
    }
}
