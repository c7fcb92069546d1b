//! Which class each vector of a recording has: by its track, or by the label of the whole.

use std::path::Path;
use std::sync::Arc;

use qkv::gather::NONE;
use qkv_data::audio::{FrameOptions, Recording, read_track, track_of};
use qkv_data::listing::Listed;
use qkv_nn::layers::ConvStem;
use rayon::prelude::*;

use super::classes::Classes;
use crate::error::{Error, Result};

/// A stretch of a recording: from and to, in seconds, and the place of its class.
pub(super) type Stretch = (f64, f64, u32);

/// The stretches of all recordings of a data set.
#[derive(Clone, Debug)]
pub(crate) struct Tracks {
    classes: Classes,
    /// Of each recording, in the order of time.
    of: Arc<Vec<Vec<Stretch>>>,
    /// The class of what no stretch covers.
    background: Option<u32>,
    /// Convolutions before the encoder, each of which halves the number of vectors.
    halvings: usize,
}

impl Tracks {
    /// Reads the tracks of `files`; a file without one is a stretch of its label. What none covers is of the class `background`.
    ///
    /// # Errors
    /// If a track cannot be read or begins behind the end of its recording, or a file has neither track nor label.
    pub(super) fn read(
        set: &str,
        files: &[Listed],
        recordings: &[Recording],
        (background, halvings): (Option<&str>, usize),
    ) -> Result<Self> {
        let stretches = |(file, recording): (&Listed, &Recording)| match (track_of(Path::new(set), file), &file.label) {
            (Some(track), _) => {
                let found = read_track(&track)?;
                match found.iter().find(|stretch| stretch.start >= recording.seconds) {
                    None => Ok(found.into_iter().map(|one| (one.start, one.end, one.label)).collect()),
                    Some(stretch) => Err(Error::Training(format!(
                        "{}: a stretch of `{}` begins at {} s, and the recording has {:.3} s: is it the right track?",
                        track.display(),
                        stretch.label,
                        stretch.start,
                        recording.seconds
                    ))),
                }
            }
            (None, Some(label)) => Ok(vec![(0.0, f64::INFINITY, label.clone())]),
            (None, None) => Err(Error::Training(format!(
                "{}: has no labels: put a track beside it, lines of `begin end label` in a .txt file of its name, or give it a label for the whole",
                file.name()
            ))),
        };
        let named: Vec<Vec<(f64, f64, String)>> =
            files.par_iter().zip(recordings).map(stretches).collect::<Result<_>>()?;
        let mut classes = Classes::default();
        let background = background.map(|name| classes.place(name));
        let mut place = |(start, end, label): (f64, f64, String)| (start, end, classes.place(&label));
        let of = named.into_iter().map(|stretches| stretches.into_iter().map(&mut place).collect()).collect();
        Ok(Self { classes, of: Arc::new(of), background, halvings })
    }

    /// The stretches of a recording.
    pub(super) fn of(&self, recording: usize) -> &[Stretch] {
        &self.of[recording]
    }

    /// The stretches of a string of recordings, each of which is from and to so many seconds of it.
    pub(super) fn joined(&self, parts: impl Iterator<Item = (usize, f64, f64)>) -> Vec<Stretch> {
        let shifted = |(recording, from, to): (usize, f64, f64)| {
            self.of(recording).iter().map(move |&(start, end, class)| (from + start, (from + end).min(to), class))
        };
        parts.flat_map(shifted).collect()
    }

    /// The class of each vector that comes out of so many rows of `frames`, whose time runs `speed` times as fast as that of the
    /// stretches.
    ///
    /// A vector has the class of its middle. One that a convolution makes lies around every second of those before.
    pub(super) fn targets(&self, stretches: &[Stretch], rows: usize, frames: &FrameOptions, speed: f64) -> Vec<u32> {
        let (step, middle) = (frames.step() as f64, frames.window() as f64 / 2.0);
        let class = |vector: usize| {
            let frame = (frames.stack * (vector << self.halvings)) as f64 + (frames.stack - 1) as f64 / 2.0;
            let time = (frame * step + middle) / f64::from(frames.rate) * speed;
            let before = stretches.partition_point(|&(start, _, _)| start <= time);
            let covers = before.checked_sub(1).map(|place| stretches[place]).filter(|&(_, end, _)| time < end);
            covers.map(|(_, _, class)| class).or(self.background).map_or(NONE, |place| self.classes.number(place))
        };
        (0..ConvStem::length_after(rows, self.halvings)).map(class).collect()
    }

    /// The classes of some recordings, by their names; the background among them.
    pub(super) fn names_in(&self, recordings: &[usize]) -> Vec<String> {
        let in_stretches = recordings.iter().flat_map(|&recording| self.of(recording)).map(|&(_, _, class)| class);
        self.classes.names_of(in_stretches.chain(self.background))
    }

    /// See [`Classes::number_by`].
    pub(super) fn number_by(&mut self, known: &[String]) -> Vec<String> {
        self.classes.number_by(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracks(background: bool, halvings: usize) -> Tracks {
        let mut classes = Classes::default();
        let background = background.then(|| classes.place("quiet"));
        let (a, b) = (classes.place("a"), classes.place("b"));
        let of = vec![vec![(0.0, 0.1, a), (0.2, 0.3, b)], vec![(0.0, f64::INFINITY, b)]];
        Tracks { classes, of: Arc::new(of), background, halvings }
    }

    fn options(stack: usize) -> FrameOptions {
        FrameOptions { rate: 1000, window_ms: 20.0, step_ms: 10.0, stack, ..FrameOptions::default() }
    }

    #[test]
    fn a_vector_has_the_class_of_its_middle() {
        let of = |rows, halvings, stack, speed| {
            let tracks = tracks(true, halvings);
            let classes = tracks.targets(tracks.of(0), rows, &options(stack), speed);
            classes.into_iter().map(|class| ["-", "a", "b"][class as usize]).collect::<String>()
        };
        // Middles at 10, 20, 30 ... ms.
        assert_eq!(of(32, 0, 1, 1.0), "aaaaaaaaa----------bbbbbbbbbb---");
        // Of every second frame, and of the middles of two.
        assert_eq!(of(32, 1, 1, 1.0), "aaaaa-----bbbbb-");
        assert_eq!(of(16, 0, 2, 1.0), "aaaaa-----bbbbb-");
        // Twice as fast, all is over in half the time.
        assert_eq!(of(16, 0, 1, 2.0), "aaaa-----bbbbb--");
    }

    #[test]
    fn what_nothing_covers_has_no_class_unless_there_is_one_for_it() {
        let (quiet, none) = (tracks(true, 0), tracks(false, 0));
        assert!(!quiet.targets(quiet.of(0), 32, &options(1), 1.0).contains(&NONE));
        let found = none.targets(none.of(0), 32, &options(1), 1.0);
        assert_eq!(found.iter().filter(|&&class| class == NONE).count(), 13);
        assert_eq!(quiet.names_in(&[1]), ["b", "quiet"]);
        assert_eq!(none.names_in(&[0]), ["a", "b"]);
    }

    #[test]
    fn the_stretches_of_a_string_end_where_its_parts_do() {
        let tracks = tracks(false, 0);
        let joined = tracks.joined([(1, 0.5, 0.75), (0, 1.0, 1.25)].into_iter());
        assert_eq!(joined, [(0.5, 0.75, 1), (1.0, 1.1, 0), (1.2, 1.25, 1)]);
    }
}
