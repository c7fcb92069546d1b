use proptest::prelude::*;

use super::super::testing::{chunk, flac, format, riff, silent_mp3, silent_vorbis, sine, wav, wav16};
use super::*;

/// Reads all of `bytes`, a few at a time as a pipe would give them.
fn read(bytes: &[u8], whole: bool) -> Result<(Vec<f32>, u32)> {
    struct Slow(Cursor<Vec<u8>>);
    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(997);
            self.0.read(&mut buffer[..count])
        }
    }
    let mut stream = SoundStream::from_reader(Slow(Cursor::new(bytes.to_vec())), "a.wav", whole)?;
    let mut all = Vec::new();
    while let Some(block) = stream.next_block()? {
        all.extend_from_slice(block);
    }
    Ok((all, stream.rate()))
}

fn message(bytes: &[u8], whole: bool) -> String {
    let message = read(bytes, whole).unwrap_err().to_string();
    assert!(message.starts_with("a.wav: ") && !message.contains('\n'), "{message}");
    message
}

fn near(one: &[f32], other: &[f32], tolerance: f32) {
    assert_eq!(one.len(), other.len());
    let furthest = one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest <= tolerance, "{furthest}");
}

#[test]
fn samples_of_every_kind_are_read() {
    let samples = sine(8000, 440.0, 1001);
    type Write = fn(f32) -> Vec<u8>;
    let kinds: [(u16, u16, f32, Write); 8] = [
        (1, 8, 5e-3, |x| vec![(x * 128.0 + 128.0).round() as u8]),
        (1, 16, 2e-5, |x| ((x * 32_768.0).round() as i16).to_le_bytes().to_vec()),
        (1, 24, 1e-7, |x| ((f64::from(x) * 8_388_608.0).round() as i32).to_le_bytes()[..3].to_vec()),
        (1, 32, 1e-7, |x| ((f64::from(x) * 2_147_483_648.0).round() as i32).to_le_bytes().to_vec()),
        (3, 32, 0.0, |x| x.to_le_bytes().to_vec()),
        (3, 64, 0.0, |x| f64::from(x).to_le_bytes().to_vec()),
        // Twelve bits stand in the upper ones of sixteen.
        (1, 12, 3e-4, |x| ((x * 2048.0).round() as i16 * 16).to_le_bytes().to_vec()),
        (1, 20, 1e-6, |x| ((f64::from(x) * 524_288.0).round() as i32 * 16).to_le_bytes()[..3].to_vec()),
    ];
    for (code, bits, tolerance, write) in kinds {
        let data: Vec<u8> = samples.iter().flat_map(|&x| write(x)).collect();
        let (found, rate) = read(&wav(&format(code, 1, 8000, bits), &data), true).unwrap();
        assert_eq!(rate, 8000);
        near(&found, &samples, tolerance);
        // The same with the longer header.
        let mut long = format(0xfffe, 1, 8000, bits);
        long.extend([22, 0, bits as u8, 0, 4, 0, 0, 0, code as u8, 0]);
        long.extend([0; 14]);
        assert_eq!(read(&wav(&long, &data), true).unwrap().0, found);
    }
    near(&read(&wav(&format(1, 1, 8000, 8), &[0, 128, 255]), true).unwrap().0, &[-1.0, 0.0, 127.0 / 128.0], 0.0);
}

#[test]
fn channels_are_averaged() {
    for channels in 1..=8_u16 {
        let samples: Vec<f32> =
            (0..500).flat_map(|n| (0..channels).map(move |c| f32::from(c) * (n as f32) * 1e-4)).collect();
        let expected: Vec<f32> = (0..500).map(|n| f32::from(channels - 1) / 2.0 * n as f32 * 1e-4).collect();
        for rate in [8000, 11_025, 12_345, 22_050, 44_100, 48_000] {
            let (found, told) = read(&wav16(rate, channels, &samples), true).unwrap();
            assert_eq!(told, rate);
            near(&found, &expected, 3e-5);
        }
        let whole: Vec<i16> = samples.iter().map(|x| (x * 32_768.0) as i16).collect();
        near(&read(&flac(44_100, channels, &whole, 500), true).unwrap().0, &expected, 4e-5);
    }
}

#[test]
fn packed_formats_are_told_by_their_content() {
    let samples: Vec<i16> = (0..1000).map(|n| (n * 37 % 2000 - 1000) as i16).collect();
    for promised in [1000, 0] {
        let (found, rate) = read(&flac(16_000, 1, &samples, promised), true).unwrap();
        let expected: Vec<f32> = samples.iter().map(|&x| f32::from(x) / 32_768.0).collect();
        assert_eq!((found, rate), (expected, 16_000));
    }
    let (found, rate) = read(&silent_mp3(5), true).unwrap();
    assert!(rate == 44_100 && found.len() == 5 * 1152 && found.iter().all(|&x| x == 0.0), "{}", found.len());
    let (found, rate) = read(&silent_vorbis(9), true).unwrap();
    assert!(rate == 8000 && found.len() == 8 * 128 && found.iter().all(|&x| x == 0.0), "{}", found.len());
}

#[test]
fn chunks_that_are_not_known_are_passed_over() {
    let (layout, data) = (format(1, 1, 8000, 16), [0, 64].repeat(10));
    let parts = [
        chunk(b"LIST", 3, b"abc"),
        chunk(b"fmt ", 16, &layout),
        chunk(b"JUNK", 5, b"fmt  "),
        chunk(b"data", 20, &data),
        chunk(b"id3 ", 4, b"tail"),
    ];
    assert_eq!(read(&riff(b"RIFF", &parts.concat()), true).unwrap().0, [0.5; 10]);
    // Lengths of more than 32 bits stand in a chunk of their own.
    let mut long = vec![0; 28];
    long[8] = 20;
    let parts = [
        chunk(b"ds64", 28, &long),
        chunk(b"fmt ", 16, &layout),
        chunk(b"data", u32::MAX, &data),
        chunk(b"tail", 4, b"1234"),
    ];
    assert_eq!(read(&riff(b"RF64", &parts.concat()), true).unwrap().0, [0.5; 10]);
}

#[test]
fn a_pipe_need_not_know_how_long_it_is() {
    let (layout, data) = (format(1, 1, 8000, 16), [0, 64].repeat(5000));
    for length in [u32::MAX, 0x7fff_f000, 0x8000_0024, 0] {
        let bytes = riff(b"RIFF", &[chunk(b"fmt ", 16, &layout), chunk(b"data", length, &data)].concat());
        assert_eq!(read(&bytes, false).unwrap().0, [0.5; 5000], "{length}");
        if length > 0 {
            assert_eq!(read(&bytes, true).unwrap().0.len(), 5000, "{length}");
        }
    }
    // It may also end before its time, in the middle of a frame.
    let bytes = riff(b"RIFF", &[chunk(b"fmt ", 16, &layout), chunk(b"data", 20_000, &data[..7])].concat());
    assert_eq!(read(&bytes[..bytes.len() - 1], false).unwrap().0, [0.5; 3]);
}

#[test]
fn cut_off_recordings_say_what_was_promised() {
    let whole = wav16(8000, 2, &[0.25; 16_000]);
    assert!(
        message(&whole[..16_044], true).contains("is cut off: its header promises 1.000 s of sound, 0.500 s are there")
    );
    assert_eq!(read(&whole[..16_044], false).unwrap().0.len(), 4000);
    for cut in [1, 4, 11, 12, 20, 30, 43] {
        assert!(
            message(&whole[..cut], false).contains(if cut < 4 { "is not sound" } else { "is cut off before" }),
            "{cut}"
        );
    }
    let whole = flac(8000, 1, &[1000; 2000], 2000);
    let said = message(&whole[..whole.len() / 2], true);
    assert!(said.contains("is cut off: its header promises 0.250 s of sound, 0."), "{said}");
    assert!(read(&whole[..whole.len() / 2], false).unwrap().0.len() >= 768);
}

#[test]
fn what_is_no_sound_is_told_for_what_it_is() {
    for (bytes, expected) in [
        (&b""[..], "is empty"),
        (b"hello, this is a text\n", "but text; convert it to WAV"),
        (b"\x89PNG\r\n\x1a\n....", "but a picture"),
        (b"....ftypM4A ....", "but MP4 (M4A)"),
        (b"FORM....AIFF....", "but AIFF"),
        (b"OggS....................OpusHead....", "but OGG Opus"),
        (b"\xff\xfeh\0e\0l\0l\0o\0", "but something unknown"),
        (b"RIFF\x10\0\0\0AVI LIST", "is a RIFF file but not WAV"),
    ] {
        assert!(message(bytes, true).contains(expected), "{}", message(bytes, true));
    }
    for garbage in
        [&b"fLaC"[..], b"OggS", b"ID3", b"\xff\xfb\x90\xc0", b"fLaC12345678901234567890123456789012345678901234567890"]
    {
        message(&[garbage, &[7; 3000]].concat(), true);
    }
}

#[test]
fn headers_that_cannot_be_true_are_refused() {
    let data = [0; 24];
    for (layout, expected) in [
        (format(1, 0, 8000, 16), "0 channels"),
        (format(1, 60_000, 8000, 16), "60000 channels"),
        (format(1, 1, 0, 16), "0 samples a second"),
        (format(1, 1, 768_001, 16), "768001 samples a second"),
        (format(1, 1, u32::MAX, 16), "samples a second"),
        (format(1, 1, 8000, 0), "code 1, plain numbers, of 0 bits"),
        (format(1, 1, 8000, 64), "of 64 bits"),
        (format(3, 1, 8000, 16), "code 3, floats, of 16 bits"),
        (format(2, 1, 8000, 4), "code 2, ADPCM"),
        (format(7, 1, 8000, 8), "µ-law"),
        (format(1, 1, 8000, 16)[..12].to_vec(), "too short (fmt)"),
    ] {
        assert!(message(&wav(&layout, &data), true).contains(expected), "{}", message(&wav(&layout, &data), true));
    }
    let mut odd = format(1, 2, 8000, 16);
    odd[12] = 3;
    assert!(message(&wav(&odd, &data), true).contains("3 bytes for 2 samples of 16 bits"));
    assert!(message(&riff(b"RIFF", &chunk(b"data", 4, &[0; 4])), true).contains("before it says what they are"));
    assert!(message(&riff(b"RIFX", &[]), true).contains("turned around"));
}

#[test]
fn no_samples_and_no_numbers_are_refused() {
    for whole in [true, false] {
        assert!(message(&wav16(8000, 1, &[]), whole).contains("has no sound in it, 0 s"));
    }
    for wrong in [f32::NAN, f32::INFINITY, -f32::INFINITY, 1e30] {
        let mut samples = vec![0.5_f32; 9000];
        samples[8000] = wrong;
        let data: Vec<u8> = samples.iter().flat_map(|x| x.to_le_bytes()).collect();
        let said = message(&wav(&format(3, 1, 8000, 32), &data), true);
        assert!(said.contains("has a sample at 1.000 s that is not a number"), "{said}");
    }
}

#[test]
fn files_are_opened_by_their_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.flac");
    // Whatever its ending says.
    std::fs::write(&path, wav16(8000, 1, &[0.5; 8000])).unwrap();
    let sound = read_sound(&path, 1.0).unwrap();
    assert_eq!((sound.samples.len(), sound.seconds()), (8000, 1.0));
    let said = read_sound(&path, 0.5).unwrap_err().to_string();
    assert!(said.contains("a.flac: is longer than 0.5 s"), "{said}");
    for (path, expected) in [(folder.path().to_owned(), "is a folder"), (path.join("none"), "none: ")] {
        let said = read_sound(&path, 1.0).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
    assert!(read_sound("builtin:films", 1.0).unwrap_err().to_string().contains("is not sound"));
}

#[test]
fn no_prefix_of_a_file_panics() {
    let long: Vec<i16> = (0..400).map(|n| n * 50).collect();
    for file in [wav16(8000, 1, &[0.5; 100]), flac(8000, 2, &long, 200), silent_mp3(3), silent_vorbis(5)] {
        for cut in 0..file.len().min(2000) {
            for whole in [true, false] {
                if let Err(error) = read(&file[..cut], whole) {
                    assert!(!error.to_string().contains('\n'), "{error}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn no_damage_panics(kind in 0..4_usize, damage in prop::collection::vec((0..2000_usize, any::<u8>()), 1..6)) {
        let long: Vec<i16> = (0..400).map(|n| n * 50).collect();
        let mut file = match kind {
            0 => wav16(8000, 1, &[0.5; 100]),
            1 => flac(8000, 2, &long, 200),
            2 => silent_mp3(3),
            _ => silent_vorbis(5),
        };
        let length = file.len();
        damage.into_iter().for_each(|(place, byte)| file[place % length] = byte);
        if let Ok((samples, _)) = read(&file, false) {
            prop_assert!(samples.iter().all(|x| x.is_finite()));
        }
    }
}
