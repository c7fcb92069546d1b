//! Sound: files and streams to mono samples, samples to frames, frames to what a model reads.
//!
//! Here belongs everything between the bytes of a recording and rows of numbers, and what makes training recordings more
//! varied. Which files there are is told by a [listing](crate::listing); what is learned from them is not known here.
//!
//! ```text
//! bytes ─ decode ─▶ mono samples ─ resample ─▶ samples at FrameOptions::rate ─ Framer ─▶ log-mel bands or MFCC, deltas
//!       ─ Scale ─▶ normalised ─ mask ─▶ with holes, in training ─ Stacker ─▶ rows, FrameOptions::stack frames each
//! ```
//!
//! [`FrameStream`] is the whole way for a stream, in the memory of a window; [`FrameOptions::frames_of`] is it for a whole
//! recording up to the masks. All of it is a function of its input: same samples, same bits, in blocks of any size.

mod decode;
mod filters;
mod frames;
mod join;
mod mask;
mod normalise;
mod perturb;
mod recordings;
mod resample;
mod stream;
#[cfg(test)]
mod testing;
mod track;
mod wav;

pub use decode::{Sound, SoundStream, read_sound};
pub use frames::{Features, FrameOptions, Framer, Normalise};
pub use join::{JoinLength, JoinOptions, Joined, Spoken, join};
pub use mask::{MaskOptions, mask};
pub use normalise::{RunningScale, Scale};
pub use perturb::{PerturbOptions, perturb};
pub use recordings::{Recording, RecordingOptions, read_recordings};
pub use resample::Resampler;
pub use stream::{FrameStream, Stacker, stack};
pub use track::{Stretch, read_track, track_of};

/// The endings of files that [`read_sound`] can read, for [`ListOptions::endings`](crate::ListOptions::endings).
pub const SOUND_ENDINGS: &[&str] = &["wav", "wave", "flac", "mp3", "ogg", "oga"];
