//! What the name of a file says.

use std::path::Path;

/// A pattern for the names of files, such as `{label}_{speaker}_{index}`.
///
/// A word in braces is a field, everything else stands for itself. A field is as short as what follows it allows, so only
/// the last one may hold what parts the others; none is empty. What the pattern is held against is the name without its
/// ending, and as many folders before it as the pattern has `/`: `{label}/{speaker}-{index}` is a folder and a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    /// What stands before the first field.
    start: String,
    /// Each field and what stands behind it.
    fields: Vec<(String, String)>,
}

impl NamePattern {
    /// Reads a pattern. One of the `endings` at its end is left out.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`](crate::Error::Unusable) for a pattern without a field, a brace without its other, a field without a name or that occurs
    /// twice, and two fields with nothing between them.
    pub fn parse(text: &str, endings: &[&str]) -> crate::Result<Self> {
        let refuse = |what: String| {
            let mend = "write fields in braces and what parts them, such as {label}_{speaker}_{index}";
            Err(crate::Error::unusable(&format!("the name pattern {}", crate::error::quote(text)), what, mend))
        };
        let lower = text.to_ascii_lowercase();
        let ending = endings
            .iter()
            .find(|&&ending| lower.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1));
        let stem = &text[..text.len() - ending.map_or(0, |ending| ending.len() + 1)];
        let mut pieces = stem.split('{');
        let start = pieces.next().unwrap_or_default().to_owned();
        let mut fields: Vec<(String, String)> = Vec::new();
        for piece in pieces {
            let Some((name, behind)) = piece.split_once('}') else {
                return refuse("has a { without its }".to_owned());
            };
            let name = name.trim();
            if name.is_empty() || fields.iter().any(|(known, _)| known == name) {
                let what = if name.is_empty() { "a field without a name".to_owned() } else { format!("{name} twice") };
                return refuse(format!("has {what}"));
            }
            if let Some((before, behind)) = fields.last()
                && behind.is_empty()
            {
                return refuse(format!("has nothing between {before} and {name}"));
            }
            fields.push((name.to_owned(), behind.to_owned()));
        }
        if std::iter::once(&start).chain(fields.iter().map(|(_, behind)| behind)).any(|literal| literal.contains('}')) {
            return refuse("has a } without its {".to_owned());
        }
        if fields.is_empty() {
            return refuse("has no field".to_owned());
        }
        Ok(Self { text: stem.to_owned(), start, fields })
    }

    /// The names of the fields, in their order.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }

    /// Name and value of each field in the name of `path`, or what is wrong with it and what would mend it.
    pub(super) fn fields_of(&self, path: &Path) -> std::result::Result<Vec<(String, String)>, (String, String)> {
        let misfit = |what: String| {
            let mend = "rename it, take it out, or change the pattern".to_owned();
            (format!("its name does not fit {}: {what}", self.text), mend)
        };
        let stem = self.stem_of(path).ok_or_else(|| misfit("it is not UTF-8, or not so deep in folders".to_owned()))?;
        let Some(mut rest) = stem.strip_prefix(self.start.as_str()) else {
            return Err(misfit(format!("it does not begin with {:?}", self.start)));
        };
        let mut values = Vec::with_capacity(self.fields.len());
        let last = self.fields.len() - 1;
        for (place, (name, behind)) in self.fields.iter().enumerate() {
            let cut = match place == last {
                true => rest.strip_suffix(behind.as_str()).map(|value| (value, "")),
                false => rest.split_once(behind.as_str()),
            };
            let Some((value, after)) = cut else {
                // What should end this field is not there: all after it is missing, or the end of the pattern is.
                return Err(misfit(match self.fields.get(place + 1) {
                    Some((missing, _)) => format!("there is no {missing}"),
                    None => format!("it does not end in {behind:?}"),
                }));
            };
            if value.is_empty() {
                return Err(misfit(format!("there is no {name}")));
            }
            values.push((name.clone(), value.to_owned()));
            rest = after;
        }
        Ok(values)
    }

    /// The name of `path` without its ending, and as many folders before it as the pattern has.
    fn stem_of(&self, path: &Path) -> Option<String> {
        let depth = self.text.matches('/').count();
        let mut parts = vec![path.file_stem()?.to_str()?];
        let mut above = path.parent();
        for _ in 0..depth {
            let folder = above?;
            parts.push(folder.file_name()?.to_str()?);
            above = folder.parent();
        }
        parts.reverse();
        Some(parts.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pattern: &str, path: &str) -> Result<Vec<String>, String> {
        let pattern = NamePattern::parse(pattern, &["wav"]).map_err(|error| error.to_string())?;
        let fields = pattern.fields_of(Path::new(path)).map_err(|(what, mend)| format!("{what}; {mend}"))?;
        Ok(fields.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn fields_are_as_short_as_what_follows_them_allows() {
        for (pattern, path, expected) in [
            ("{label}_{speaker}_{index}", "a/7_jackson_32.wav", vec!["label=7", "speaker=jackson", "index=32"]),
            ("{label}_{rest}", "7_jackson_32.wav", vec!["label=7", "rest=jackson_32"]),
            ("{label}_{rest}.wav", "7_x.WAV", vec!["label=7", "rest=x"]),
            ("{ speaker }_nohash_{n}", "004ae714_nohash_0.wav", vec!["speaker=004ae714", "n=0"]),
            ("rec-{label}-end", "rec-a-b-end.wav", vec!["label=a-b"]),
            ("{label}/{n}", "x/cat/1.2.wav", vec!["label=cat", "n=1.2"]),
            ("{wort}-{größe}", "ä-ö.wav", vec!["wort=ä", "größe=ö"]),
        ] {
            assert_eq!(fields(pattern, path).unwrap(), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_name_that_does_not_fit_says_what_is_missing() {
        for (pattern, path, expected) in [
            ("{label}_{speaker}_{index}", "7_jackson.wav", "there is no index"),
            ("{label}_{speaker}_{index}", "7.wav", "there is no speaker"),
            ("{label}_{speaker}_{index}", "7__32.wav", "there is no speaker"),
            ("{label}_{speaker}_{index}", "7_jackson_.wav", "there is no index"),
            ("{label}_{speaker}_{index}", "_jackson_3.wav", "there is no label"),
            ("rec-{label}", "7.wav", "does not begin with \"rec-\""),
            ("{label}-end", "7.wav", "does not end in \"-end\""),
            ("{label}/{n}", "7.wav", "not so deep in folders"),
        ] {
            let message = fields(pattern, path).unwrap_err();
            assert!(message.contains(expected) && message.contains(pattern), "{pattern} {path}: {message}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for (pattern, expected) in [
            ("", "has no field"),
            ("label", "has no field"),
            ("{label", "a { without its }"),
            ("label}", "a } without its {"),
            ("{a}_b}", "a } without its {"),
            ("{}_x", "a field without a name"),
            ("{a}_{a}", "has a twice"),
            ("{a}{b}", "has nothing between a and b"),
        ] {
            let message = fields(pattern, "x.wav").unwrap_err();
            assert!(message.contains(expected) && !message.contains('\n'), "{pattern}: {message}");
        }
    }
}
