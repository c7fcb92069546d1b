//! Small recordings for tests.

use std::path::Path;

pub(crate) const RATE: u32 = 8000;

/// Mono, 16 bits a sample.
pub(crate) fn wav(samples: &[f32]) -> Vec<u8> {
    let size = 2 * samples.len() as u32;
    let mut bytes = Vec::new();
    bytes.extend(b"RIFF");
    bytes.extend((36 + size).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16_u32.to_le_bytes());
    for half in [1_u16, 1] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(RATE.to_le_bytes());
    bytes.extend((2 * RATE).to_le_bytes());
    for half in [2_u16, 16] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(b"data");
    bytes.extend(size.to_le_bytes());
    bytes.extend(samples.iter().flat_map(|x| ((x * 30_000.0) as i16).to_le_bytes()));
    bytes
}

/// A tone of so many hertz and milliseconds, with a soft beginning and end.
pub(crate) fn tone(hertz: f32, milliseconds: usize) -> Vec<f32> {
    let count = RATE as usize * milliseconds / 1000;
    let sample = |n: usize| {
        let edge = n.min(count - 1 - n) as f32 / 200.0;
        edge.min(1.0) * 0.5 * (n as f32 * hertz * std::f32::consts::TAU / RATE as f32).sin()
    };
    (0..count).map(sample).collect()
}

/// Three kinds of tones, several recordings of each.
pub(crate) fn recordings(folder: &Path) {
    for (label, hertz) in [("low", 300.0), ("middle", 900.0), ("high", 2200.0)] {
        for index in 0..8 {
            let samples = tone(hertz * (1.0 + 0.01 * index as f32), 150 + 10 * index);
            std::fs::write(folder.join(format!("{label}_{index}.wav")), wav(&samples)).expect("written");
        }
    }
}
