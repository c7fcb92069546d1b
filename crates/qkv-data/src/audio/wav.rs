//! WAV: a header and uncompressed samples (Microsoft's *Multimedia Programming Interface and Data Specifications 1.0*,
//! 1991; `RF64` with 64-bit lengths: EBU Tech 3306).
//!
//! Our own because of what recorders do to the header: it is told here whether a length is meant, was cut off, or was
//! never known because the writer wrote to a pipe.

use std::io::{self, Read};

use crate::error::{Error, Result};

/// Writers to a pipe leave a length of this or more, since they cannot go back to write the true one. RIFF's own limit
/// is twice as much, but who has so much sound takes another format.
const NOT_MEANT: u64 = 0x7fff_f000;

/// Frames that are read at a time.
const BLOCK: usize = 4096;

/// More channels than any microphone array has: the header is damaged.
const MOST_CHANNELS: u16 = 256;

/// How a sample is written. All are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// 0 to 255, silence is 128.
    Unsigned8,
    Signed16,
    Signed24,
    Signed32,
    Float32,
    Float64,
}

impl Coding {
    fn bytes(self) -> usize {
        match self {
            Self::Unsigned8 => 1,
            Self::Signed16 => 2,
            Self::Signed24 => 3,
            Self::Signed32 | Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }

    /// Appends the samples in `bytes`; whole numbers become -1 to 1.
    fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::Unsigned8 => out.extend(bytes.iter().map(|&byte| (f32::from(byte) - 128.0) / 128.0)),
            Self::Signed16 => {
                let (pieces, _) = bytes.as_chunks::<2>();
                out.extend(pieces.iter().map(|&piece| f32::from(i16::from_le_bytes(piece)) / 32_768.0));
            }
            Self::Signed24 => {
                let (pieces, _) = bytes.as_chunks::<3>();
                // In the upper three bytes of four, so that the sign is where it belongs.
                let sample = |&[a, b, c]: &[u8; 3]| i32::from_le_bytes([0, a, b, c]) as f32 / 2_147_483_648.0;
                out.extend(pieces.iter().map(sample));
            }
            Self::Signed32 => {
                let (pieces, _) = bytes.as_chunks::<4>();
                out.extend(pieces.iter().map(|&piece| i32::from_le_bytes(piece) as f32 / 2_147_483_648.0));
            }
            Self::Float32 => out.extend(bytes.as_chunks::<4>().0.iter().map(|&piece| f32::from_le_bytes(piece))),
            Self::Float64 => out.extend(bytes.as_chunks::<8>().0.iter().map(|&piece| f64::from_le_bytes(piece) as f32)),
        }
    }
}

/// What the chunk `fmt ` says.
#[derive(Debug, Clone, Copy)]
struct Layout {
    channels: u16,
    rate: u32,
    coding: Coding,
}

/// The samples of a WAV file.
pub(super) struct Wav {
    reader: Box<dyn Read + Send + Sync>,
    layout: Layout,
    /// How many bytes of samples may still come.
    left: u64,
    /// How many frames the header promises, if it does.
    expected: Option<u64>,
    bytes: Vec<u8>,
}

impl Wav {
    /// Reads the header. `whole` says that a length of nothing is meant, which a writer to a pipe may also leave.
    pub(super) fn open(reader: Box<dyn Read + Send + Sync>, name: &str, whole: bool) -> Result<Self> {
        let mut header = Header { reader, name };
        let [id, _, form] = [header.take()?, header.take()?, header.take()?];
        if &form != b"WAVE" {
            return Err(header.unusable("is a RIFF file but not WAV", "convert it to WAV or FLAC"));
        }
        if &id == b"RIFX" {
            return Err(header.unusable("is a WAV with the bytes of numbers turned around", "convert it to plain WAV"));
        }
        let (mut layout, mut long) = (None, None);
        loop {
            let (id, length) = (header.take()?, u32::from_le_bytes(header.take()?));
            match &id {
                b"fmt " => layout = Some(header.layout(length)?),
                b"ds64" => long = Some(header.data_length(length)?),
                b"data" => {
                    let Some(layout) = layout else {
                        return Err(header.unusable("has samples before it says what they are", "write it anew"));
                    };
                    let length = match (length, long) {
                        (u32::MAX, Some(long)) => long,
                        _ => u64::from(length),
                    };
                    let meant = if long.is_some() { length < u64::MAX } else { length < NOT_MEANT };
                    let meant = meant && (length > 0 || whole);
                    let left = if meant { length } else { u64::MAX };
                    let frame = layout.coding.bytes() as u64 * u64::from(layout.channels);
                    let expected = meant.then_some(length / frame);
                    return Ok(Self { reader: header.reader, layout, left, expected, bytes: Vec::new() });
                }
                // A chunk of an odd length is followed by a byte that belongs to none.
                _ => header.skip(u64::from(length) + u64::from(length & 1))?,
            }
        }
    }

    pub(super) fn rate(&self) -> u32 {
        self.layout.rate
    }

    pub(super) fn channels(&self) -> usize {
        usize::from(self.layout.channels)
    }

    pub(super) fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// Replaces `out` by some more frames, channel by channel; by nothing at the end. Part of a frame at the end is left out.
    pub(super) fn read(&mut self, out: &mut Vec<f32>) -> io::Result<()> {
        out.clear();
        let frame = self.layout.coding.bytes() * self.channels();
        let wanted = ((BLOCK * frame) as u64).min(self.left);
        self.bytes.clear();
        (&mut self.reader).take(wanted).read_to_end(&mut self.bytes)?;
        self.left -= self.bytes.len() as u64;
        let whole = self.bytes.len() / frame * frame;
        self.layout.coding.decode(&self.bytes[..whole], out);
        Ok(())
    }
}

/// A header that is being read.
struct Header<'a> {
    reader: Box<dyn Read + Send + Sync>,
    name: &'a str,
}

impl Header<'_> {
    fn unusable(&self, what: &str, mend: &str) -> Error {
        Error::unusable(self.name, what, mend)
    }

    fn refused(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                self.unusable("is cut off before its samples begin", "copy it again, or take it out")
            }
            _ => Error::io(self.name, source),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|source| self.refused(source))?;
        Ok(bytes)
    }

    fn skip(&mut self, length: u64) -> Result<()> {
        let skipped = io::copy(&mut (&mut self.reader).take(length), &mut io::sink());
        match skipped {
            Ok(count) if count < length => Err(self.refused(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(source) => Err(self.refused(source)),
        }
    }

    /// The length of the samples in a chunk `ds64`.
    fn data_length(&mut self, length: u32) -> Result<u64> {
        if length < 16 {
            return Err(self.unusable("has a header that is too short (ds64)", "write it anew"));
        }
        let _riff: [u8; 8] = self.take()?;
        let data = u64::from_le_bytes(self.take()?);
        self.skip(u64::from(length) - 16 + u64::from(length & 1))?;
        Ok(data)
    }

    /// What a chunk `fmt ` of so many bytes says.
    fn layout(&mut self, length: u32) -> Result<Layout> {
        const EXTENSIBLE: u16 = 0xfffe;
        if length < 16 {
            return Err(self.unusable("has a header that is too short (fmt)", "write it anew"));
        }
        let mut code = u16::from_le_bytes(self.take()?);
        let channels = u16::from_le_bytes(self.take()?);
        let rate = u32::from_le_bytes(self.take()?);
        let _bytes_a_second: [u8; 4] = self.take()?;
        let frame = u16::from_le_bytes(self.take()?);
        let bits = u16::from_le_bytes(self.take()?);
        let mut read = 16;
        if code == EXTENSIBLE && length >= 26 {
            let _valid_bits_and_speakers: [u8; 8] = self.take()?;
            code = u16::from_le_bytes(self.take()?);
            read = 26;
        }
        self.skip(u64::from(length) - read + u64::from(length & 1))?;
        if channels == 0 || channels > MOST_CHANNELS {
            let what = format!("has a header that says {channels} channels");
            return Err(self.unusable(&what, "it is damaged: write it anew, or take it out"));
        }
        let coding = match (code, bits) {
            (1, 1..=8) => Coding::Unsigned8,
            (1, 9..=16) => Coding::Signed16,
            (1, 17..=24) => Coding::Signed24,
            (1, 25..=32) => Coding::Signed32,
            (3, 32) => Coding::Float32,
            (3, 64) => Coding::Float64,
            _ => {
                let named = match code {
                    1 => "plain numbers",
                    3 => "floats",
                    2 | 0x11 => "ADPCM",
                    6 => "A-law",
                    7 => "µ-law",
                    0x55 => "MP3",
                    _ => "unknown",
                };
                let what = format!("is a WAV in a codec that is not read here (code {code}, {named}, of {bits} bits)");
                return Err(self.unusable(&what, "convert it to WAV with 16-bit samples, or to FLAC"));
            }
        };
        if usize::from(frame) != usize::from(channels) * coding.bytes() {
            let what = format!("has a header that says {frame} bytes for {channels} samples of {bits} bits");
            return Err(self.unusable(&what, "it is damaged: write it anew, or take it out"));
        }
        Ok(Layout { channels, rate, coding })
    }
}
