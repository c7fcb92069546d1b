//! Sequences as they come in, and what must hold of all of them together.

use qkv::Offsets;

use super::{LabelLevel, SeriesOptions, SeriesSet};
use crate::error::{Error, Result, quote};
use crate::listing::ListedPart;
use crate::numbers::GivenLabels;

/// Collects sequences. A reader adds the steps of a sequence and then ends it.
pub(super) struct Builder {
    name: String,
    /// Numbers in a vector, once there is one.
    dim: Option<usize>,
    pub(super) columns: Vec<String>,
    pub(super) values: Vec<f32>,
    lengths: Vec<usize>,
    /// Steps of all sequences that have ended.
    steps: usize,
    /// A label for each step, or for each sequence, of those that have come so far.
    step_labels: GivenLabels,
    set_labels: GivenLabels,
    parts: Option<Vec<ListedPart>>,
    names: Vec<Option<String>>,
    lines: Vec<usize>,
}

/// What is known of a sequence beside its vectors.
#[derive(Default)]
pub(super) struct About<'text> {
    /// The label of the whole.
    pub(super) label: Option<&'text str>,
    pub(super) part: Option<ListedPart>,
    pub(super) name: Option<&'text str>,
    pub(super) line: usize,
}

impl Builder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            dim: None,
            columns: Vec::new(),
            values: Vec::new(),
            lengths: Vec::new(),
            steps: 0,
            step_labels: GivenLabels::default(),
            set_labels: GivenLabels::default(),
            parts: None,
            names: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// That vectors of `dim` numbers come; what is wrong, if others were of another size.
    pub(super) fn take_dim(&mut self, dim: usize) -> std::result::Result<(), String> {
        match self.dim {
            _ if dim == 0 => Err("there is a vector without a number".to_owned()),
            Some(first) if first != dim => Err(format!("a vector has {dim} numbers where the first has {first}")),
            _ => {
                self.dim = Some(dim);
                Ok(())
            }
        }
    }

    /// The label of the next step; those of earlier steps without one are none.
    pub(super) fn push_step_label(&mut self, label: Option<&str>, line: usize) {
        self.step_labels.push(label, line);
    }

    /// Ends a sequence of `steps` steps, whose numbers have come, maybe with those of others after it.
    pub(super) fn end(&mut self, about: &About, steps: usize) {
        self.steps += steps;
        self.lengths.push(steps);
        while self.step_labels.len() < self.steps {
            self.step_labels.push(None, about.line);
        }
        self.set_labels.push(about.label, about.line);
        if about.part.is_some() || self.parts.is_some() {
            let before = self.lengths.len() - 1;
            let parts = self.parts.get_or_insert_with(|| vec![ListedPart::Train; before]);
            parts.push(about.part.unwrap_or(ListedPart::Train));
        }
        self.names.push(about.name.map(str::to_owned));
        self.lines.push(about.line);
    }

    pub(super) fn finish(self, options: &SeriesOptions) -> Result<SeriesSet> {
        let (Some(dim), false) = (self.dim, self.lengths.is_empty()) else {
            let mend = "is it the right file? it needs at least one sequence of numbers";
            return Err(Error::unusable(&self.name, "there is no sequence in it", mend));
        };
        let offsets = Offsets::from_lengths(self.lengths);
        let (steps, sets) = (self.step_labels, self.set_labels);
        let labels = match options.level {
            LabelLevel::Step if steps.has_none() && !sets.has_none() => {
                let mend = "write one for each step, or learn one for the whole of each sequence";
                return Err(Error::unusable(&self.name, "has labels of whole sequences, not of steps", mend));
            }
            LabelLevel::Step => steps,
            LabelLevel::Set if sets.has_none() => of_sets(&steps, &offsets, &self.lines, &self.name)?,
            LabelLevel::Set => sets,
        };
        if options.need_labels {
            let has_label = |set: usize| match options.level {
                LabelLevel::Set => labels.get(set).is_some(),
                LabelLevel::Step => offsets.range(set).any(|step| labels.get(step).is_some()),
            };
            if let Some(set) = (0..offsets.sets()).find(|&set| !has_label(set)) {
                let what = "the sequence that begins here has no label, but labels are needed here";
                return Err(Error::malformed(
                    &self.name,
                    self.lines[set],
                    what,
                    "write one, or name its column in data.label",
                ));
            }
        }
        Ok(SeriesSet {
            name: self.name,
            dim,
            columns: self.columns,
            values: self.values,
            offsets,
            labels,
            level: options.level,
            parts: self.parts,
            names: self.names,
            lines: self.lines,
        })
    }
}

/// The label of each sequence, where each step has one: those of a sequence are the same, or it is an error.
fn of_sets(steps: &GivenLabels, offsets: &Offsets, lines: &[usize], name: &str) -> Result<GivenLabels> {
    let mut sets = GivenLabels::default();
    for (set, &line) in lines.iter().enumerate() {
        let mut labels = offsets.range(set).filter_map(|step| steps.get(step));
        let first = labels.next();
        if let (Some(first), Some(other)) = (first, labels.find(|label| Some(*label) != first)) {
            let what = format!(
                "the sequence that begins here has the labels {} and {}, but one for the whole is needed",
                quote(first),
                quote(other)
            );
            let mend = "give all its steps the same, or learn a label for each step";
            return Err(Error::malformed(name, line, what, mend));
        }
        sets.push(first, line);
    }
    Ok(sets)
}
