//! Entities of sentences that are labelled in BIO form.

use std::collections::BTreeSet;

use super::share;

/// Whether every label is `O` or `B-…` or `I-…`, and at least one begins an entity.
pub fn is_bio<'a>(labels: impl IntoIterator<Item = &'a str>) -> bool {
    let mut begins = false;
    labels.into_iter().all(|label| {
        begins |= label.starts_with("B-");
        label == "O" || label.starts_with("B-") || label.starts_with("I-")
    }) && begins
}

/// The entities of a sentence, `(first, past the last, type)`, as conlleval counts them (Tjong Kim Sang and Buchholz,
/// 2000): one begins at `B-`, and at an `I-` that follows nothing, or another type; it ends before the next that
/// begins, before `O`, and at the end.
pub fn entities<S: AsRef<str>>(labels: &[S]) -> BTreeSet<(usize, usize, &str)> {
    let mut found = BTreeSet::new();
    let mut open: Option<(usize, &str)> = None;
    for (i, label) in labels.iter().map(AsRef::as_ref).enumerate() {
        let (begins, kind) = match label.split_once('-') {
            Some(("B", kind)) => (true, Some(kind)),
            Some(("I", kind)) => (open.is_none_or(|(_, other)| other != kind), Some(kind)),
            _ => (false, None),
        };
        if (begins || kind.is_none())
            && let Some((start, kind)) = open.take()
        {
            found.insert((start, i, kind));
        }
        if begins && let Some(kind) = kind {
            open = Some((i, kind));
        }
    }
    if let Some((start, kind)) = open {
        found.insert((start, labels.len(), kind));
    }
    found
}

/// Counts of entities wanted, found, and both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntityCounts {
    /// In the right labels.
    pub wanted: usize,
    /// In the predicted labels.
    pub found: usize,
    /// In both, with the same borders and type.
    pub right: usize,
}

impl EntityCounts {
    /// Counts one more sentence.
    pub fn add<A: AsRef<str>, B: AsRef<str>>(&mut self, wanted: &[A], predicted: &[B]) {
        let (wanted, found) = (entities(wanted), entities(predicted));
        self.wanted += wanted.len();
        self.found += found.len();
        self.right += wanted.intersection(&found).count();
    }

    /// The share of found entities that are right; 0 if none was found.
    pub fn precision(&self) -> f64 {
        share(self.right, self.found)
    }

    /// The share of wanted entities that were found; 0 if none was wanted.
    pub fn recall(&self) -> f64 {
        share(self.right, self.wanted)
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        share(2 * self.right, self.wanted + self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<'a>(labels: &[&'a str]) -> Vec<(usize, usize, &'a str)> {
        entities(labels)
            .into_iter()
            .map(|(a, b, kind)| {
                (
                    a,
                    b,
                    match kind {
                        "X" => "X",
                        "Y" => "Y",
                        _ => "?",
                    },
                )
            })
            .collect()
    }

    #[test]
    fn entities_are_cut_as_conlleval_cuts_them() {
        assert_eq!(list(&["B-X", "I-X", "O", "B-Y"]), [(0, 2, "X"), (3, 4, "Y")]);
        assert_eq!(list(&["B-X", "B-X"]), [(0, 1, "X"), (1, 2, "X")]);
        assert_eq!(list(&["I-X", "I-X"]), [(0, 2, "X")], "an I without a B begins an entity");
        assert_eq!(list(&["B-X", "I-Y", "I-Y"]), [(0, 1, "X"), (1, 3, "Y")], "another type begins another entity");
        assert_eq!(list(&["O", "I-X", "B-X", "O"]), [(1, 2, "X"), (2, 3, "X")]);
        assert_eq!(list(&["O", "O"]), []);
        assert_eq!(list(&[]), []);
    }

    #[test]
    fn f1_counts_borders_and_type() {
        let mut counts = EntityCounts::default();
        counts.add(&["B-X", "I-X", "O", "B-Y"], &["B-X", "I-X", "O", "B-X"]);
        assert_eq!(counts, EntityCounts { wanted: 2, found: 2, right: 1 });
        counts.add(&["B-X", "I-X"], &["B-X", "O"]);
        assert_eq!(counts, EntityCounts { wanted: 3, found: 3, right: 1 });
        assert!((counts.f1() - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(EntityCounts::default().f1(), 0.0);
    }

    #[test]
    fn bio_is_told_from_other_labels() {
        assert!(is_bio(["O", "B-X", "I-X"]));
        assert!(!is_bio(["O", "NOUN"]));
        assert!(!is_bio(["O"]));
    }
}
