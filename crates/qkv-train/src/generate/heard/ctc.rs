//! Which labels a row of class probabilities for each frame spells: decoding of connectionist temporal classification.
//!
//! A path names a class for each frame, and spells what is left of it once equal neighbours are made one and blanks are struck out.
//! [`ctc_greedy`] takes the likeliest path. [`ctc_beam_search`] looks for the likeliest labels, each with the probability of all paths
//! that spell it (Hannun et al. 2014, without a language model):
//!
//! ```text
//! of each beginning l:  blank[l], label[l], the probability of all paths so far that spell l and end with a blank, with its last label
//! for each frame t:     blank'[l]      = p[t, blank] (blank[l] + label[l])
//!                       label'[l + c]  = p[t, c] (blank[l] + (0 if c is the last of l, else label[l])) + p[t, c] label[l + c]
//!                       the `width` best by blank' + label' are gone on with
//! ```
//!
//! A beginning that has left the beam and is found again has the probability of the paths that lead to it from then on. Pure functions over
//! `[frames, classes]`; what reads the frames is no concern of this file.

use std::cmp::Ordering;
use std::collections::HashMap;

/// The labels of a likeliest path, told as its frames come. All that is remembered is the class of the last frame.
#[derive(Clone, Copy, Debug)]
pub struct CtcGreedy {
    blank: u32,
    last: u32,
}

impl CtcGreedy {
    /// Before the first frame.
    pub fn new(blank: u32) -> Self {
        Self { blank, last: blank }
    }

    /// One frame more: logits or probabilities of its classes. Returns the label that begins with it, if one does. Of classes
    /// alike the first counts; what is not a number never does, and a frame of nothing else, or without classes, is a blank.
    pub fn push(&mut self, frame: &[f32]) -> Option<u32> {
        let mut best = (f32::NEG_INFINITY, self.blank);
        for (id, &x) in frame.iter().enumerate() {
            if x > best.0 {
                best = (x, id as u32);
            }
        }
        let before = std::mem::replace(&mut self.last, best.1);
        (best.1 != self.blank && best.1 != before).then_some(best.1)
    }
}

/// The labels of the likeliest path through `frames` `[frames, classes]`, logits or probabilities of any kind, each with the frame
/// in which it begins.
///
/// # Panics
///
/// If `classes` is 0.
pub fn ctc_greedy(frames: &[f32], classes: usize, blank: u32) -> Vec<(u32, usize)> {
    let mut decoder = CtcGreedy::new(blank);
    let begins = frames.chunks_exact(classes).enumerate();
    begins.filter_map(|(frame, row)| decoder.push(row).map(|id| (id, frame))).collect()
}

/// Labels that were found.
#[derive(Clone, Debug, PartialEq)]
pub struct CtcText {
    /// The labels.
    pub ids: Vec<u32>,
    /// The logarithm of the probability of all paths of the search that spell them.
    pub log_probability: f64,
}

/// The likeliest labels for `log_probs` `[frames, classes]`, natural logarithms of probabilities, best first; as many as the beam is
/// wide, or as there are. Of labels as likely as others those of the likelier beginning come first, then those of the lower id.
///
/// Time grows with `frames · width · classes`, memory with `frames · width`.
///
/// # Panics
///
/// If `classes` or `width` is 0, or `blank` is no class.
pub fn ctc_beam_search(log_probs: &[f32], classes: usize, blank: u32, width: usize) -> Vec<CtcText> {
    assert!(width > 0, "ctc_beam_search: a beam of no width");
    assert!((blank as usize) < classes, "ctc_beam_search: blank {blank} of {classes} classes");
    let mut search = Search::new();
    for row in log_probs.chunks_exact(classes) {
        search.advance(row, blank, width);
    }
    let text = |entry: &Entry| CtcText { ids: search.tree.ids(entry.node), log_probability: entry.total() };
    search.beam.iter().map(text).collect()
}

/// Beginnings, each one label longer than its parent. A beginning has one number for as long as the search lasts.
struct Tree {
    /// Parent and last label.
    nodes: Vec<(u32, u32)>,
    children: HashMap<(u32, u32), u32>,
}

/// The beginning without labels.
const ROOT: u32 = 0;

/// No beginning, no label.
const NONE: u32 = u32::MAX;

impl Tree {
    /// The beginning of `parent` and `id`, which may have been there before.
    fn child(&mut self, parent: u32, id: u32) -> u32 {
        *self.children.entry((parent, id)).or_insert_with(|| {
            self.nodes.push((parent, id));
            (self.nodes.len() - 1) as u32
        })
    }

    fn ids(&self, mut node: u32) -> Vec<u32> {
        let mut ids = Vec::new();
        while node != ROOT {
            let (parent, id) = self.nodes[node as usize];
            ids.push(id);
            node = parent;
        }
        ids.reverse();
        ids
    }
}

/// A beginning that is gone on with.
#[derive(Clone, Copy, Debug)]
struct Entry {
    node: u32,
    /// Its last label.
    last: u32,
    /// Logarithms: of the paths that end with a blank, and with the last label.
    blank: f64,
    label: f64,
}

impl Entry {
    fn total(&self) -> f64 {
        log_add(self.blank, self.label)
    }

    /// What goes before `id`, where `id` is to be one more label.
    fn before(&self, id: u32) -> f64 {
        if id == self.last { self.blank } else { self.total() }
    }
}

/// What an entry may become in one frame.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    log_probability: f64,
    /// Which entry of the beam.
    from: u32,
    /// The label that it is longer by; [`NONE`] if it stays.
    id: u32,
    blank: f64,
    label: f64,
}

struct Search {
    tree: Tree,
    /// Best first.
    beam: Vec<Entry>,
    candidates: Vec<Candidate>,
    /// For each entry, for which labels the longer beginning is in the beam itself.
    longer: Vec<(u32, u32)>,
}

impl Search {
    fn new() -> Self {
        let tree = Tree { nodes: vec![(NONE, NONE)], children: HashMap::new() };
        let nothing = Entry { node: ROOT, last: NONE, blank: 0.0, label: f64::NEG_INFINITY };
        Self { tree, beam: vec![nothing], candidates: Vec::new(), longer: Vec::new() }
    }

    fn advance(&mut self, row: &[f32], blank: u32, width: usize) {
        self.candidates.clear();
        self.longer.clear();
        for from in 0..self.beam.len() {
            let entry = self.beam[from];
            let mut label = f64::NEG_INFINITY;
            if entry.last != NONE {
                label = entry.label;
                let parent = self.tree.nodes[entry.node as usize].0;
                if let Some(at) = self.beam.iter().position(|other| other.node == parent) {
                    label = log_add(label, self.beam[at].before(entry.last));
                    self.longer.push((at as u32, entry.last));
                }
                label += f64::from(row[entry.last as usize]);
            }
            let blank = entry.total() + f64::from(row[blank as usize]);
            self.consider(Candidate {
                log_probability: log_add(blank, label),
                from: from as u32,
                id: NONE,
                blank,
                label,
            });
        }
        self.longer.sort_unstable();
        for from in 0..self.beam.len() {
            let entry = self.beam[from];
            let total = entry.total();
            for (id, &log_p) in row.iter().enumerate().filter(|(id, _)| *id as u32 != blank) {
                let (from, id) = (from as u32, id as u32);
                let label = f64::from(log_p) + if id == entry.last { entry.blank } else { total };
                let is_there = self.longer.binary_search(&(from, id)).is_ok();
                if !is_there {
                    self.consider(Candidate { log_probability: label, from, id, blank: f64::NEG_INFINITY, label });
                }
            }
        }
        self.keep(width);
    }

    /// What is impossible, or not a number, is left out.
    fn consider(&mut self, candidate: Candidate) {
        if candidate.log_probability > f64::NEG_INFINITY {
            self.candidates.push(candidate);
        }
    }

    fn keep(&mut self, width: usize) {
        let better = |a: &Candidate, b: &Candidate| -> Ordering {
            // NONE, for staying, first
            let id = |candidate: &Candidate| candidate.id.wrapping_add(1);
            b.log_probability.total_cmp(&a.log_probability).then(a.from.cmp(&b.from)).then(id(a).cmp(&id(b)))
        };
        if self.candidates.len() > width {
            self.candidates.select_nth_unstable_by(width - 1, better);
            self.candidates.truncate(width);
        }
        self.candidates.sort_unstable_by(better);
        let entries = self.candidates.iter().map(|candidate| {
            let Entry { node, last, .. } = self.beam[candidate.from as usize];
            let (node, last) = match candidate.id {
                NONE => (node, last),
                id => (self.tree.child(node, id), id),
            };
            Entry { node, last, blank: candidate.blank, label: candidate.label }
        });
        self.beam = entries.collect();
    }
}

/// `ln (eᵃ + eᵇ)`.
fn log_add(a: f64, b: f64) -> f64 {
    let (less, more) = if a < b { (a, b) } else { (b, a) };
    if less == f64::NEG_INFINITY { more } else { more + (less - more).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qkv::random::Key;
    use std::collections::BTreeMap;

    const BLANK: u32 = 1;

    fn log_probs(frames: usize, classes: usize, seed: u64) -> Vec<f32> {
        let key = Key::new(seed);
        let rows = (0..frames).flat_map(|t| {
            let row: Vec<f64> = (0..classes).map(|c| 1.5 * f64::from(key.normal((t * classes + c) as u64))).collect();
            let sum = row.iter().map(|x| x.exp()).sum::<f64>().ln();
            row.into_iter().map(move |x| (x - sum) as f32)
        });
        rows.collect()
    }

    fn spelled(path: &[u32]) -> Vec<u32> {
        let mut path = path.to_vec();
        path.dedup();
        path.retain(|id| *id != BLANK);
        path
    }

    /// Every sequence of labels with the sum over all its paths, best first.
    fn exhaustive(rows: &[f32], classes: usize) -> Vec<(Vec<u32>, f64)> {
        let frames = rows.len() / classes;
        let mut all: BTreeMap<Vec<u32>, f64> = BTreeMap::new();
        for number in 0..classes.pow(frames as u32) {
            let path: Vec<u32> = (0..frames as u32).map(|t| (number / classes.pow(t) % classes) as u32).collect();
            let along = path.iter().enumerate().map(|(t, &id)| f64::from(rows[t * classes + id as usize]));
            *all.entry(spelled(&path)).or_default() += along.sum::<f64>().exp();
        }
        let mut all: Vec<_> = all.into_iter().map(|(ids, p)| (ids, p.ln())).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all
    }

    #[test]
    fn a_beam_as_wide_as_the_world_finds_all_with_their_probabilities() {
        for (frames, classes) in [(1, 2), (2, 3), (4, 3), (6, 3), (5, 4)] {
            for seed in 0..20 {
                let rows = log_probs(frames, classes, seed);
                let (found, expected) = (ctc_beam_search(&rows, classes, BLANK, 10_000), exhaustive(&rows, classes));
                assert_eq!(found.len(), expected.len());
                for (found, (ids, log_probability)) in found.iter().zip(&expected) {
                    assert_eq!(&found.ids, ids, "{frames} frames, seed {seed}");
                    assert!((found.log_probability - log_probability).abs() < 1e-9);
                }
            }
        }
    }

    #[test]
    fn a_wider_beam_is_no_worse_and_never_claims_too_much() {
        let mut gained = 0;
        for seed in 0..60 {
            let rows = log_probs(7, 3, seed);
            let all: BTreeMap<_, _> = exhaustive(&rows, 3).into_iter().collect();
            let best = [1, 2, 4, 400].map(|width| ctc_beam_search(&rows, 3, BLANK, width));
            for found in best.iter().flatten() {
                assert!(found.log_probability <= all[&found.ids] + 1e-9, "seed {seed}: {found:?}");
            }
            let of_best = best.each_ref().map(|found| all[&found[0].ids]);
            assert!(of_best.iter().all(|log_probability| *log_probability <= of_best[3] + 1e-9));
            gained += usize::from(of_best[3] > of_best[0] + 1e-9);
        }
        assert!(gained > 0, "a beam of one finds everything: the cases are too easy");
    }

    #[test]
    fn all_that_is_found_differs_and_is_in_order() {
        for seed in 0..20 {
            // long and narrow, so that beginnings leave the beam and come back
            let found = ctc_beam_search(&log_probs(200, 5, seed), 5, BLANK, 6);
            assert_eq!(found.len(), 6);
            assert!(found.is_sorted_by(|a, b| a.log_probability >= b.log_probability));
            let mut ids: Vec<_> = found.into_iter().map(|text| text.ids).collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), 6, "seed {seed}");
        }
    }

    #[test]
    fn the_likeliest_labels_need_not_be_those_of_the_likeliest_path() {
        // blank and blank again: 0.36; label 0 by the three other paths: 0.16 + 0.24 + 0.24
        let rows = [0.4_f32, 0.6, 0.4, 0.6].map(f32::ln);
        assert_eq!(ctc_greedy(&rows, 2, BLANK), []);
        let found = ctc_beam_search(&rows, 2, BLANK, 4);
        assert_eq!(found[0].ids, [0]);
        assert!(
            (found[0].log_probability - 0.64_f64.ln()).abs() < 1e-6
                && (found[1].log_probability - 0.36_f64.ln()).abs() < 1e-6
        );
    }

    #[test]
    fn the_likeliest_path_is_spelled_as_its_frames_come() {
        for seed in 0..30 {
            let rows = log_probs(40, 4, seed);
            let best = |row: &[f32]| (0..4).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("some class") as u32;
            let path: Vec<u32> = rows.chunks_exact(4).map(best).collect();
            let found = ctc_greedy(&rows, 4, BLANK);
            assert!(found.iter().map(|(id, _)| *id).eq(spelled(&path)), "seed {seed}");
            assert!(found.iter().all(|&(id, frame)| path[frame] == id && (frame == 0 || path[frame - 1] != id)));
            let mut decoder = CtcGreedy::new(BLANK);
            let streamed: Vec<u32> = rows.chunks_exact(4).filter_map(|row| decoder.push(row)).collect();
            assert!(streamed.into_iter().eq(found.into_iter().map(|(id, _)| id)));
        }
    }

    #[test]
    fn a_blank_parts_two_that_are_alike() {
        let rows = |path: &[usize]| -> Vec<f32> {
            path.iter().flat_map(|&id| (0..3).map(move |c| if c == id { -0.01_f32 } else { -6.0 })).collect()
        };
        for (path, ids) in [(&[0, 0, 1, 0, 2, 2][..], &[0, 0, 2][..]), (&[0, 0, 2, 2], &[0, 2]), (&[1, 1], &[])] {
            assert!(ctc_greedy(&rows(path), 3, BLANK).into_iter().map(|(id, _)| id).eq(ids.iter().copied()));
            assert_eq!(ctc_beam_search(&rows(path), 3, BLANK, 8)[0].ids, ids);
        }
    }

    #[test]
    fn without_frames_nothing_is_spelled() {
        assert_eq!(ctc_greedy(&[], 3, BLANK), []);
        let nothing = CtcText { ids: vec![], log_probability: 0.0 };
        assert_eq!(ctc_beam_search(&[], 3, BLANK, 5), [nothing]);
    }

    #[test]
    fn what_is_ruled_out_or_not_a_number_is_not_spelled() {
        let none = f32::NEG_INFINITY;
        let found = ctc_beam_search(&[none, 0.0, none, f32::NAN, -0.5, -1.0], 3, BLANK, 9);
        assert_eq!(found.iter().map(|text| text.ids.clone()).collect::<Vec<_>>(), [vec![], vec![2]]);
        assert_eq!(ctc_greedy(&[f32::NAN; 6], 3, BLANK), []);
        assert_eq!(ctc_greedy(&[f32::NAN, 0.0, 1.0], 3, BLANK), [(2, 0)]);
        assert_eq!(ctc_beam_search(&[f32::NAN; 3], 3, BLANK, 9), []);
    }
}
