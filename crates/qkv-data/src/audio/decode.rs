//! Files and streams of sound to mono samples.
//!
//! Here belong telling formats apart by what they begin with, averaging channels, and what is wrong with a recording. WAV
//! is read by [`wav`](super::wav), FLAC, MP3 and OGG Vorbis by the crate `symphonia`.

use std::fs::File;
use std::io::{self, Cursor, Read};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Symphonia;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;

use super::wav::Wav;
use crate::error::{Error, Result};
use crate::source::Source;

/// Nothing records faster; a header that says so is damaged.
const MOST_HZ: u32 = 768_000;

/// A sample beyond this is no sound, and its power is near the end of what an `f32` holds. Whole numbers of 32 bits that
/// were written as floats without being scaled are well below.
const LOUDEST: f32 = 1e12;

/// How many bytes tell a format.
const PREFIX: u64 = 64;

/// A recording: one channel of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// The samples, -1 to 1 unless the file has floats beyond.
    pub samples: Vec<f32>,
    /// Samples a second.
    pub rate: u32,
}

impl Sound {
    /// How long it is.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }
}

/// Sound that is read block by block, in the memory of a block.
pub struct SoundStream {
    name: String,
    body: Body,
    rate: u32,
    channels: usize,
    /// Whether less sound than the header promises is an error.
    whole: bool,
    /// How many frames were read.
    taken: u64,
    interleaved: Vec<f32>,
    mono: Vec<f32>,
}

enum Body {
    Wav(Wav),
    Packets(Packets),
}

type Reader = Box<dyn Read + Send + Sync>;

impl SoundStream {
    /// Opens a file or standard input. The format is told by what it begins with: WAV (8 to 32 bits, or floats), FLAC, MP3
    /// or OGG Vorbis.
    ///
    /// A file must have as much sound as its header promises (WAV and FLAC do so). From standard input or a pipe that is
    /// nobody's fault, and a WAV there may promise nothing at all.
    ///
    /// # Errors
    ///
    /// What cannot be opened, is not sound or in a codec that is not read here, ends in its header, or has a header that
    /// cannot be true (0 channels, 0 Hz or more than 768 kHz).
    pub fn open(source: &Source) -> Result<Self> {
        let name = source.name();
        match source {
            Source::File(path) => {
                if path.is_dir() {
                    return Err(Error::unusable(&name, "is a folder", "name one of the files in it"));
                }
                let file = File::open(path).map_err(|source| Error::io(&name, source))?;
                let kind = file.metadata().map_err(|source| Error::io(&name, source))?;
                Self::from_reader(file, &name, kind.is_file())
            }
            Source::Stdin => Self::from_reader(io::stdin(), &name, false),
            Source::Builtin(_) => Err(Error::unusable(&name, "is not sound", "name a file or `-`")),
        }
    }

    /// As [`open`](Self::open), of a reader that messages call `name`. `whole` says that less sound than the header
    /// promises is an error.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_reader(mut reader: impl Read + Send + Sync + 'static, name: &str, whole: bool) -> Result<Self> {
        let mut prefix = Vec::new();
        (&mut reader).take(PREFIX).read_to_end(&mut prefix).map_err(|source| Error::io(name, source))?;
        if prefix.is_empty() {
            return Err(Error::unusable(name, "is empty", "copy it again, or take it out"));
        }
        let is_wav = [b"RIFF", b"RIFX", b"RF64", b"BW64"].iter().any(|id| prefix.starts_with(*id));
        if let Some(other) = not_sound(&prefix).filter(|_| !is_wav) {
            let what = format!("is not sound in a format that is read here, but {other}");
            return Err(Error::unusable(name, what, "convert it to WAV, FLAC, MP3 or OGG Vorbis"));
        }
        let reader: Reader = Box::new(Cursor::new(prefix).chain(reader));
        let body = match is_wav {
            true => Body::Wav(Wav::open(Box::new(io::BufReader::new(reader)), name, whole)?),
            false => Body::Packets(Packets::open(reader, name)?),
        };
        let (rate, channels) = match &body {
            Body::Wav(wav) => (wav.rate(), wav.channels()),
            Body::Packets(packets) => (packets.rate, packets.channels),
        };
        if rate == 0 || rate > MOST_HZ {
            let what = format!("has a header that says {rate} samples a second");
            return Err(Error::unusable(name, what, "it is damaged: write it anew, or take it out"));
        }
        let (interleaved, mono) = (Vec::new(), Vec::new());
        Ok(Self { name: name.to_owned(), body, rate, channels, whole, taken: 0, interleaved, mono })
    }

    /// Samples a second.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// How many channels the header says, of which blocks are the mean.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// How messages name it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next samples, or `None` at the end.
    ///
    /// # Errors
    ///
    /// What the operating system refuses, damaged data, a sample that is not a number or far beyond any sound, less sound
    /// than promised (see [`open`](Self::open)), and an end without any sound.
    pub fn next_block(&mut self) -> Result<Option<&[f32]>> {
        let channels = match &mut self.body {
            Body::Wav(wav) => {
                wav.read(&mut self.interleaved).map_err(|source| Error::io(&self.name, source))?;
                wav.channels()
            }
            Body::Packets(packets) => packets.read(&mut self.interleaved, &self.name, self.taken)?,
        };
        if self.interleaved.is_empty() {
            return self.end();
        }
        self.mono.clear();
        match channels {
            1 => self.mono.extend_from_slice(&self.interleaved),
            _ => {
                let frames = self.interleaved.chunks_exact(channels);
                self.mono.extend(frames.map(|frame| frame.iter().sum::<f32>() / channels as f32));
            }
        }
        if let Some(place) = self.mono.iter().position(|sample| sample.is_nan() || sample.abs() > LOUDEST) {
            let seconds = (self.taken + place as u64) as f64 / f64::from(self.rate);
            let what = format!("has a sample at {seconds:.3} s that is not a number or beyond any sound");
            return Err(Error::unusable(&self.name, what, "write it anew, or take it out"));
        }
        self.taken += self.mono.len() as u64;
        Ok(Some(&self.mono))
    }

    fn end(&self) -> Result<Option<&[f32]>> {
        let expected = match &self.body {
            Body::Wav(wav) => wav.expected(),
            Body::Packets(packets) => packets.expected,
        };
        let rate = f64::from(self.rate);
        match expected {
            Some(expected) if self.whole && self.taken < expected => {
                let (expected, found) = (expected as f64 / rate, self.taken as f64 / rate);
                let what = format!("is cut off: its header promises {expected:.3} s of sound, {found:.3} s are there");
                Err(Error::unusable(&self.name, what, "copy it again, or take it out"))
            }
            _ if self.taken == 0 => {
                Err(Error::unusable(&self.name, "has no sound in it, 0 s", "copy it again, or take it out"))
            }
            _ => Ok(None),
        }
    }
}

/// Reads a whole recording of at most `max_seconds`. What is read, and what is refused, is said at
/// [`SoundStream::open`] and [`SoundStream::next_block`].
///
/// # Errors
///
/// As there, and a recording that is longer.
pub fn read_sound(source: impl Into<Source>, max_seconds: f64) -> Result<Sound> {
    let mut stream = SoundStream::open(&source.into())?;
    let rate = stream.rate();
    let most = max_seconds * f64::from(rate);
    let mut samples: Vec<f32> = Vec::new();
    while let Some(block) = stream.next_block()? {
        samples.extend_from_slice(block);
        if samples.len() as f64 > most {
            let what = format!("is longer than {max_seconds} s");
            return Err(Error::unusable(
                stream.name(),
                what,
                "cut it into pieces, or let `predict -` listen to it as it comes",
            ));
        }
    }
    Ok(Sound { samples, rate })
}

/// What begins so, if it is not one of the formats that are read.
fn not_sound(prefix: &[u8]) -> Option<&'static str> {
    let has = |place: usize, bytes: &[u8]| prefix.get(place..).is_some_and(|rest| rest.starts_with(bytes));
    let holds = |bytes: &[u8]| prefix.windows(bytes.len()).any(|window| window == bytes);
    if has(0, b"fLaC") || has(0, b"ID3") || is_mp3_frame(prefix) {
        return None;
    }
    if has(0, b"OggS") {
        return if holds(b"OpusHead") { Some("OGG Opus") } else { None };
    }
    Some(match prefix {
        _ if has(0, b"FORM") => "AIFF",
        _ if has(4, b"ftyp") => "MP4 (M4A)",
        _ if has(0, b"\x1a\x45\xdf\xa3") => "Matroska or WebM",
        _ if has(0, b"#!AMR") => "AMR",
        _ if has(0, b".snd") => "Sun audio (au)",
        _ if has(0, b"\x89PNG") || has(0, b"\xff\xd8\xff") || has(0, b"GIF8") => "a picture",
        _ if has(0, b"PK\x03\x04") || has(0, b"\x1f\x8b") => "an archive or compressed",
        _ if prefix.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => "text",
        _ => "something unknown",
    })
}

/// Whether a frame of MPEG audio, layer 3, begins here.
fn is_mp3_frame(prefix: &[u8]) -> bool {
    matches!(prefix, &[0xff, second, third, ..] if second & 0xe6 == 0xe2 // synchronisation, layer 3
        && second & 0x18 != 0x08 && third & 0xf0 != 0xf0 && third & 0x0c != 0x0c) // known version, bit rate and rate
}

/// Sound in packets that a decoder unpacks.
struct Packets {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    rate: u32,
    channels: usize,
    /// How many frames the header promises, if it does.
    expected: Option<u64>,
    /// Whether packets that cannot be unpacked are passed over: MP3 cut out of a longer one begins with some.
    lenient: bool,
}

impl Packets {
    fn open(reader: Reader, name: &str) -> Result<Self> {
        let refuse = |error: Symphonia| match error {
            Symphonia::IoError(source) if source.kind() != io::ErrorKind::UnexpectedEof => Error::io(name, source),
            Symphonia::IoError(_) => {
                Error::unusable(name, "is cut off before its sound begins", "copy it again, or take it out")
            }
            Symphonia::Unsupported(what) => {
                let what = format!("is in a format or codec that is not read here ({what})");
                Error::unusable(name, what, "convert it to WAV, FLAC, MP3 or OGG Vorbis")
            }
            other => Error::unusable(name, format!("has a damaged header ({other})"), "copy it again, or take it out"),
        };
        let source = MediaSourceStream::new(Box::new(ReadOnlySource::new(reader)), Default::default());
        let (options, meta) = (FormatOptions::default(), MetadataOptions::default());
        let probe = symphonia::default::get_probe();
        let format = probe.probe(&Hint::new(), source, options, meta).map_err(refuse)?;
        let track = format.default_track(TrackType::Audio);
        let Some((track, parameters)) = track.and_then(|track| Some((track, track.codec_params.as_ref()?.audio()?)))
        else {
            return Err(Error::unusable(name, "has no sound in it", "take it out"));
        };
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(refuse)?;
        let kind = format.format_info().short_name;
        // The other formats' counts are estimates, or are not brought up to date by programs that cut.
        let expected = track.num_frames.filter(|_| kind == "flac");
        Ok(Self {
            track: track.id,
            rate: parameters.sample_rate.unwrap_or_default(),
            channels: parameters.channels.as_ref().map_or(0, |channels| channels.count()),
            expected,
            lenient: kind != "flac" && kind != "ogg",
            decoder,
            format,
        })
    }

    /// Replaces `out` by some more frames and says of how many channels; by nothing at the end. `taken` frames came before.
    fn read(&mut self, out: &mut Vec<f32>, name: &str, taken: u64) -> Result<usize> {
        out.clear();
        let mut damage: Option<String> = None;
        let damaged = |what: &str, rate: u32| {
            let seconds = taken as f64 / f64::from(rate);
            Error::unusable(name, format!("is damaged at {seconds:.3} s ({what})"), "copy it again, or take it out")
        };
        loop {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                // What cannot be unpacked at the very end was cut off.
                Ok(None) => return Ok(1),
                Err(Symphonia::IoError(source)) if source.kind() == io::ErrorKind::UnexpectedEof => return Ok(1),
                Err(Symphonia::IoError(source)) => return Err(Error::io(name, source)),
                Err(Symphonia::ResetRequired) => {
                    let what = "holds several sounds one after the other";
                    return Err(Error::unusable(name, what, "cut it into a file for each"));
                }
                Err(other) => return Err(damaged(&other.to_string(), self.rate)),
            };
            if let Some(what) = damage {
                return Err(damaged(&what, self.rate));
            }
            if packet.track_id != self.track {
                continue;
            }
            match self.decoder.decode(&packet) {
                Ok(sound) => {
                    if sound.spec().rate() != self.rate {
                        let rates = format!("{} Hz after {} Hz", sound.spec().rate(), self.rate);
                        return Err(damaged(&rates, self.rate));
                    }
                    let channels = sound.num_planes();
                    sound.copy_to_vec_interleaved(out);
                    if !out.is_empty() && channels > 0 {
                        return Ok(channels);
                    }
                }
                Err(Symphonia::DecodeError(_) | Symphonia::IoError(_)) if self.lenient => {}
                Err(other) => damage = Some(other.to_string()),
            }
        }
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
