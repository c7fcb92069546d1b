//! Recordings as sets of frames: one by one as they are, or several joined to one.

use std::sync::Arc;

use qkv::Offsets;
use qkv::random::Key;
use qkv_data::Source;
use qkv_data::audio::{
    FrameOptions, Framer, JoinLength, JoinOptions, Joined, MaskOptions, Normalise, PerturbOptions, Recording,
    RecordingOptions, Scale, Spoken, join, mask, perturb, read_sound, stack,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::VectorBatch;
use super::tracks::{Stretch, Tracks};
use crate::error::Result;
use crate::recipe::{self, Features, Recipe, Training};

/// How sound becomes vectors. A model keeps it, so that what it is asked later is read as what it learned from was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SoundOptions {
    /// Up to frames and how they are normalised.
    pub(crate) frames: FrameOptions,
    /// Mean and deviation of the frames of training.
    pub(crate) scale: Scale,
}

impl SoundOptions {
    /// Frames as the recipe wants them.
    pub(super) fn frames(recipe: &Recipe) -> FrameOptions {
        let input = &recipe.input;
        let (bands, coefficients) = (input.bands, input.coefficients);
        FrameOptions {
            rate: input.rate,
            window_ms: input.frame_ms as f32,
            step_ms: input.step_ms as f32,
            features: match input.features {
                Features::LogMel => qkv_data::audio::Features::LogMel { bands },
                Features::Mfcc => qkv_data::audio::Features::Mfcc { bands, coefficients },
            },
            deltas: false,
            normalise: match input.normalise {
                recipe::Normalise::Recording => Normalise::Recording,
                recipe::Normalise::Corpus => Normalise::Corpus,
                recipe::Normalise::None => Normalise::None,
            },
            stack: input.stack,
        }
    }

    /// Whether what was read from a file can be.
    pub(super) fn is_sound(&self) -> bool {
        self.frames.check().is_ok() && self.scale.is_sound() && self.scale.dim() == self.frames.frame_dim()
    }
}

/// Makes frames of samples; what it takes to begin is prepared once.
#[derive(Clone)]
struct Framing {
    options: Arc<SoundOptions>,
    framer: Framer,
}

impl std::fmt::Debug for Framing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.options.fmt(formatter)
    }
}

impl Framing {
    fn new(options: Arc<SoundOptions>) -> Result<Self> {
        Ok(Self { framer: Framer::new(&options.frames)?, options })
    }

    /// The frames of samples, normalised.
    fn frames(&self, samples: &[f32]) -> Vec<f32> {
        let (mut framer, mut frames) = (self.framer.clone(), Vec::new());
        framer.push(samples, &mut frames);
        framer.finish(&mut frames);
        match self.options.frames.normalise {
            Normalise::None => {}
            Normalise::Corpus => self.options.scale.apply(&mut frames),
            Normalise::Recording => {
                Scale::of([&frames[..]], self.options.frames.frame_dim()).apply(&mut frames);
            }
        }
        frames
    }
}

/// Whether the samples of recordings are needed beside their frames: to be joined, or changed in training.
pub(super) fn needs_samples(recipe: &Recipe, trains: bool) -> bool {
    let training = &recipe.training;
    join_options(recipe).is_some() || (trains && (training.speed > 0.0 || training.noise > 0.0))
}

/// The recording that comes from standard input.
///
/// # Errors
/// If it is no sound.
pub(super) fn from_stdin(frames: &FrameOptions) -> Result<Recording> {
    let sound = read_sound(Source::Stdin, RecordingOptions::default().max_seconds)?;
    // By the mean of training it is normalised where that is known.
    let normalise = if frames.normalise == Normalise::Corpus { Normalise::None } else { frames.normalise };
    let options = FrameOptions { normalise, ..frames.clone() };
    let found = options.frames_of(&sound.samples, sound.rate, None)?;
    Ok(Recording { frames: found, samples: None, seconds: sound.seconds() })
}

/// How the recipe joins recordings; `None` if it does not.
pub(super) fn join_options(recipe: &Recipe) -> Option<JoinOptions> {
    let data = &recipe.data;
    let length = match (data.join_seconds, data.join) {
        (Some(seconds), _) => JoinLength::Seconds(seconds as f32),
        (None, Some([least, most])) => JoinLength::Count { least, most },
        (None, None) => return None,
    };
    let [least, most] = data.join_gap.map(|seconds| seconds as f32);
    // Silence without any noise would tell where a recording ends.
    Some(JoinOptions { length, gap: (least, most), gain_db: 3.0, noise_db: Some(-60.0) })
}

/// Some recordings, or strings of them.
#[derive(Clone, Debug)]
pub(crate) struct Sounds {
    framing: Framing,
    recordings: Arc<Vec<Recording>>,
    takes: Takes,
    /// Vectors of each.
    lengths: Vec<usize>,
    /// What each vector is, if that is what is learned.
    tracks: Option<Arc<Tracks>>,
}

/// Recordings, and the tracks of each if they were asked for.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) recordings: Arc<Vec<Recording>>,
    pub(super) tracks: Option<Arc<Tracks>>,
}

/// What goes into a batch for one example.
struct Row {
    values: Vec<f32>,
    targets: Vec<u32>,
}

#[derive(Clone, Debug)]
enum Takes {
    /// These recordings.
    Whole(Vec<usize>),
    /// Strings that are made of some recordings, each with a key of its own.
    Joined { of: Vec<usize>, options: JoinOptions, key: Key },
}

impl Sounds {
    /// The recordings `which`, whose frames are normalised.
    ///
    /// # Errors
    /// If frames cannot be made so.
    pub(super) fn whole(
        options: Arc<SoundOptions>,
        Recorded { recordings, tracks }: Recorded,
        which: Vec<usize>,
    ) -> Result<Self> {
        let rows = |&place: &usize| recordings[place].frames.len().div_ceil(options.frames.row_dim());
        let lengths = which.iter().map(rows).collect();
        Ok(Self { framing: Framing::new(options)?, recordings, takes: Takes::Whole(which), lengths, tracks })
    }

    /// `count` strings of the recordings `of`, and of which recordings each is made.
    ///
    /// # Errors
    /// If no strings can be made of them.
    pub(super) fn joined(
        options: Arc<SoundOptions>,
        Recorded { recordings, tracks }: Recorded,
        (of, count): (Vec<usize>, usize),
        join: JoinOptions,
        key: Key,
    ) -> Result<(Self, Vec<Vec<usize>>)> {
        let takes = Takes::Joined { of, options: join, key };
        let framing = Framing::new(options.clone())?;
        let mut sounds = Self { framing, recordings, takes, lengths: Vec::new(), tracks };
        let frames = &options.frames;
        let made: Vec<(usize, Vec<usize>)> = (0..count)
            .into_par_iter()
            .map(|number| {
                let joined = sounds.string(number)?;
                Ok((frames.frame_count(joined.samples.len()).div_ceil(frames.stack), joined.recordings))
            })
            .collect::<Result<_>>()?;
        let (lengths, of) = made.into_iter().unzip();
        sounds.lengths = lengths;
        Ok((sounds, of))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// How many vectors each has, as it is.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.lengths.clone()
    }

    /// String `number`; which recordings it is made of is said by their places among all.
    fn string(&self, number: usize) -> Result<Joined> {
        let Takes::Joined { of, options, key } = &self.takes else { unreachable!("strings are joined") };
        let spoken: Vec<Spoken> =
            of.iter().map(|&place| Spoken { samples: samples(&self.recordings[place]), label: 0 }).collect();
        let joined = join(&spoken, self.framing.options.frames.rate, options, key.fold(number as u64))?;
        Ok(Joined { recordings: joined.recordings.iter().map(|&place| of[place]).collect(), ..joined })
    }

    /// The examples `indices`, packed; changed and masked as `training` says where it is given.
    pub(super) fn batch(&self, indices: &[usize], training: Option<(&Training, Key)>) -> VectorBatch {
        let dim = self.framing.options.frames.row_dim();
        let rows: Vec<Row> = indices.par_iter().map(|&index| self.row(index, training)).collect();
        let offsets = Offsets::from_lengths(rows.iter().map(|row| row.values.len() / dim));
        let (mut values, mut targets) = (Vec::with_capacity(offsets.tokens() * dim), Vec::new());
        for row in rows {
            values.extend_from_slice(&row.values);
            targets.extend_from_slice(&row.targets);
        }
        VectorBatch { values, dim, offsets, grids: Vec::new(), targets }
    }

    /// The vectors of one example.
    fn row(&self, index: usize, training: Option<(&Training, Key)>) -> Row {
        let frames = &self.framing.options.frames;
        let training = training.map(|(training, key)| (training, key.fold(index as u64)));
        // The frames of samples, and how much faster than these they are.
        let change = |samples: &[f32]| match training {
            Some((training, key)) if training.speed > 0.0 || training.noise > 0.0 => {
                let changed = perturb(samples, &perturbations(training), key.fold(0));
                (self.framing.frames(&changed), samples.len() as f64 / changed.len().max(1) as f64)
            }
            _ => (self.framing.frames(samples), 1.0),
        };
        let changes = training.is_some_and(|(training, _)| training.speed > 0.0 || training.noise > 0.0);
        let stretches;
        let ((mut found, speed), stretches) = match &self.takes {
            Takes::Whole(which) => {
                let (recording, tracks) = (&self.recordings[which[index]], self.tracks.as_ref());
                let found = if changes { change(samples(recording)) } else { (recording.frames.clone(), 1.0) };
                (found, tracks.map(|tracks| tracks.of(which[index])))
            }
            Takes::Joined { .. } => {
                let joined = self.string(index).expect("it was made before");
                stretches = self.tracks.as_ref().map(|tracks| self.stretches(tracks, &joined));
                (change(&joined.samples), stretches.as_deref())
            }
        };
        if let Some((training, key)) = training
            && training.time_masks + training.band_masks > 0
        {
            let options = MaskOptions {
                time_masks: training.time_masks,
                time_frames: training.time_mask_frames,
                time_share: 0.2,
                band_masks: training.band_masks,
                bands: training.band_mask_bands,
            };
            mask(&mut found, frames.frame_dim(), frames.feature_dim(), &options, key.fold(1));
        }
        let values = stack(&found, frames.frame_dim(), frames.stack);
        let targets = match (&self.tracks, stretches) {
            (Some(tracks), Some(stretches)) => {
                tracks.targets(stretches, values.len() / frames.row_dim(), frames, speed)
            }
            _ => Vec::new(),
        };
        Row { values, targets }
    }

    /// What is heard from when to when in a string.
    fn stretches(&self, tracks: &Tracks, joined: &Joined) -> Vec<Stretch> {
        let seconds = |samples: usize| samples as f64 / f64::from(self.framing.options.frames.rate);
        let parts = joined.recordings.iter().zip(&joined.places);
        tracks.joined(parts.map(|(&recording, place)| (recording, seconds(place.start), seconds(place.end))))
    }

    /// What the vectors are called, where that is learned.
    pub(super) fn class_names(&self) -> Vec<String> {
        let (Takes::Whole(which) | Takes::Joined { of: which, .. }) = &self.takes;
        self.tracks.as_ref().map(|tracks| tracks.names_in(which)).unwrap_or_default()
    }

    /// Numbers classes as `known`, and others behind; what all are called then.
    pub(super) fn number_classes(&mut self, known: &[String]) -> Vec<String> {
        self.tracks.as_mut().map_or_else(|| known.to_vec(), |tracks| Arc::make_mut(tracks).number_by(known))
    }

    /// All that a model sees of them, as bytes to be hashed.
    pub(super) fn add_content(&self, content: &mut Vec<u8>) {
        let (Takes::Whole(which) | Takes::Joined { of: which, .. }) = &self.takes;
        for &place in which {
            content.extend(self.recordings[place].frames.iter().flat_map(|x| x.to_le_bytes()));
        }
    }
}

fn samples(recording: &Recording) -> &[f32] {
    recording.samples.as_deref().unwrap_or_default()
}

fn perturbations(training: &Training) -> PerturbOptions {
    PerturbOptions {
        speed: training.speed as f32,
        gain_db: 0.0,
        // A share of the loudness in decibels below it.
        noise_db: (training.noise > 0.0).then(|| (-20.0 * training.noise.log10()).max(0.0) as f32),
    }
}
