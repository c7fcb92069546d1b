//! Sound in files, made for tests: WAV of every kind, FLAC, MP3 and OGG Vorbis as small as their specifications allow.

/// A sine of amplitude one half.
pub(super) fn sine(rate: u32, hertz: f64, count: usize) -> Vec<f32> {
    let step = std::f64::consts::TAU * hertz / f64::from(rate);
    (0..count).map(|n| (0.5 * (step * n as f64).sin()) as f32).collect()
}

/// A chunk of a RIFF file.
pub(super) fn chunk(id: &[u8; 4], length: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = [id, length.to_le_bytes().as_slice(), body].concat();
    if body.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

/// The body of a chunk `fmt `.
pub(super) fn format(code: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let frame = channels.wrapping_mul(bits.div_ceil(8));
    let mut bytes = [code.to_le_bytes(), channels.to_le_bytes()].concat();
    bytes.extend(rate.to_le_bytes());
    bytes.extend(rate.wrapping_mul(u32::from(frame)).to_le_bytes());
    bytes.extend([frame.to_le_bytes(), bits.to_le_bytes()].concat());
    bytes
}

/// A WAV of a `fmt ` chunk and samples as they are written.
pub(super) fn wav(format: &[u8], data: &[u8]) -> Vec<u8> {
    riff(b"RIFF", &[chunk(b"fmt ", format.len() as u32, format), chunk(b"data", data.len() as u32, data)].concat())
}

/// A RIFF file of chunks.
pub(super) fn riff(id: &[u8; 4], chunks: &[u8]) -> Vec<u8> {
    [id, (chunks.len() as u32 + 4).to_le_bytes().as_slice(), b"WAVE", chunks].concat()
}

/// A WAV of 16-bit samples, interleaved.
pub(super) fn wav16(rate: u32, channels: u16, samples: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|x| ((x * 32_767.0).round() as i16).to_le_bytes()).collect();
    wav(&format(1, channels, rate, 16), &data)
}

/// Bits in the order of FLAC and MP3, the highest first, or of Vorbis, the lowest first.
struct Bits {
    bytes: Vec<u8>,
    count: usize,
    highest_first: bool,
}

impl Bits {
    fn new(highest_first: bool) -> Self {
        Self { bytes: Vec::new(), count: 0, highest_first }
    }

    fn put(&mut self, value: u64, width: usize) {
        for n in 0..width {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let (from, to) = match self.highest_first {
                true => (width - 1 - n, 7 - self.count % 8),
                false => (n, self.count % 8),
            };
            *self.bytes.last_mut().unwrap() |= ((value >> from & 1) as u8) << to;
            self.count += 1;
        }
    }
}

fn crc(bytes: &[u8], polynomial: u32, width: u32) -> u32 {
    let mut crc = 0_u32;
    for &byte in bytes {
        crc ^= u32::from(byte) << (width - 8);
        for _ in 0..8 {
            let over = crc >> (width - 1) & 1 == 1;
            crc = (crc << 1) ^ if over { polynomial } else { 0 };
        }
    }
    if width == 32 { crc } else { crc & ((1 << width) - 1) }
}

/// A FLAC (RFC 9639) of 16-bit samples, interleaved, without prediction, in blocks of 192. The header promises `promised`
/// frames, nothing if that is 0.
pub(super) fn flac(rate: u32, channels: u16, samples: &[i16], promised: u64) -> Vec<u8> {
    const BLOCK: usize = 192;
    let mut info = Bits::new(true);
    for (value, width) in [(0x664c_6143, 32), (0x80, 8), (34, 24), (BLOCK as u64, 16), (BLOCK as u64, 16), (0, 48)] {
        info.put(value, width);
    }
    for (value, width) in
        [(u64::from(rate), 20), (u64::from(channels) - 1, 3), (15, 5), (promised, 36), (0, 64), (0, 64)]
    {
        info.put(value, width);
    }
    let mut file = info.bytes;
    for (number, block) in samples.chunks(BLOCK * usize::from(channels)).enumerate() {
        let mut frame = Bits::new(true);
        let count = block.len() / usize::from(channels);
        // Fixed blocks; a size of 16 bits and the rate of the header; independent channels of 16 bits.
        for (value, width) in [(0xfff8, 16), (7, 4), (0, 4), (u64::from(channels) - 1, 4), (4, 3), (0, 1)] {
            frame.put(value, width);
        }
        assert!(number < 128, "a longer number takes more bytes");
        frame.put(number as u64, 8);
        frame.put(count as u64 - 1, 16);
        frame.put(u64::from(crc(&frame.bytes, 7, 8)), 8);
        for channel in 0..usize::from(channels) {
            frame.put(0b0000_0010, 8);
            for sample in block.iter().skip(channel).step_by(usize::from(channels)) {
                frame.put(*sample as u16 as u64, 16);
            }
        }
        frame.put(u64::from(crc(&frame.bytes, 0x8005, 16)), 16);
        file.extend(frame.bytes);
    }
    file
}

/// An MP3 of silence: so many frames of 1152 samples, one channel at 44100 Hz.
pub(super) fn silent_mp3(frames: usize) -> Vec<u8> {
    let mut frame = vec![0; 417];
    frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0xc0]);
    frame.repeat(frames)
}

/// An OGG Vorbis (Vorbis I specification) of silence: so many packets of 256 samples, the first of which gives none, one
/// channel at 8000 Hz, a page each.
pub(super) fn silent_vorbis(packets: usize) -> Vec<u8> {
    let header = |kind: u8| {
        let mut bits = Bits::new(false);
        [kind].iter().chain(b"vorbis").for_each(|&byte| bits.put(u64::from(byte), 8));
        bits
    };
    let mut first = header(1);
    for (value, width) in [(0, 32), (1, 8), (8000, 32), (0, 32), (0, 32), (0, 32), (8, 4), (8, 4), (1, 8)] {
        first.put(value, width);
    }
    let mut comments = header(3);
    [0, 0].iter().for_each(|&none| comments.put(none, 32));
    comments.put(1, 8);
    let mut setup = header(5);
    for (value, width) in [
        // One code book of two words of a bit.
        (0, 8),
        (0x0056_4342, 24),
        (1, 16),
        (2, 24),
        (0, 2),
        (0, 5),
        (0, 5),
        (0, 4),
        // No transform of time; a floor of type 1 without partitions.
        (0, 6),
        (0, 16),
        (0, 6),
        (1, 16),
        (0, 5),
        (0, 2),
        (7, 4),
        // A residue of nothing, a mapping without coupling, a mode of short blocks.
        (0, 6),
        (0, 16),
        (0, 24),
        (0, 24),
        (0, 24),
        (0, 6),
        (0, 8),
        (0, 4),
        (0, 6),
        (0, 16),
        (0, 1),
        (0, 1),
        (0, 2),
        (0, 8),
        (0, 8),
        (0, 8),
        (0, 6),
        (0, 1),
        (0, 16),
        (0, 16),
        (0, 8),
        (1, 1),
    ] {
        setup.put(value, width);
    }
    let mut file = page(2, 0, 0, &[&first.bytes]);
    file.extend(page(0, 0, 1, &[&comments.bytes, &setup.bytes]));
    for n in 0..packets {
        // Half of a block of 256 is new with each packet. The floor is not used: silence.
        let last = if n + 1 == packets { 4 } else { 0 };
        file.extend(page(last, 128 * n as u64, n as u32 + 2, &[&[0]]));
    }
    file
}

/// A page of an OGG file (RFC 3533).
fn page(kind: u8, position: u64, number: u32, packets: &[&[u8]]) -> Vec<u8> {
    let mut page = [b"OggS\0".as_slice(), &[kind], &position.to_le_bytes(), &1_u32.to_le_bytes()].concat();
    page.extend(number.to_le_bytes());
    page.extend([0; 4]);
    assert!(packets.iter().all(|packet| packet.len() < 255));
    page.push(packets.len() as u8);
    page.extend(packets.iter().map(|packet| packet.len() as u8));
    packets.iter().for_each(|packet| page.extend_from_slice(packet));
    let sum = crc(&page, 0x04c1_1db7, 32);
    page[22..26].copy_from_slice(&sum.to_le_bytes());
    page
}
