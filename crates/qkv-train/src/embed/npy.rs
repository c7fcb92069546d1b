//! The head of an NPY file, version 1.0: a magic string, the version, the length of what follows, and a Python dictionary that
//! says how the numbers behind it are laid out, padded with spaces to a multiple of 64 bytes and ended by a line feed.

/// Bytes of the head. As long for any number of rows, so that it can be written again once they are counted.
pub(super) const HEAD: usize = 128;

/// The head of `[rows, columns]` little-endian f32, row by row.
pub(super) fn head(rows: usize, columns: usize) -> [u8; HEAD] {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    const LENGTH: u16 = (HEAD - MAGIC.len() - 2) as u16;
    let dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let mut head = [b' '; HEAD];
    let mut place = 0;
    for part in [MAGIC, &LENGTH.to_le_bytes(), dictionary.as_bytes()] {
        head[place..place + part.len()].copy_from_slice(part);
        place += part.len();
    }
    head[HEAD - 1] = b'\n';
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_that_of_version_1() {
        let head = head(3, 128);
        assert_eq!(&head[..8], b"\x93NUMPY\x01\x00");
        let length = usize::from(u16::from_le_bytes([head[8], head[9]]));
        assert_eq!((10 + length, (10 + length) % 64), (HEAD, 0));
        let text = std::str::from_utf8(&head[10..]).expect("ASCII");
        assert_eq!(text.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 128), }");
        assert!(text.ends_with(" \n"));
    }

    #[test]
    fn any_number_of_rows_finds_room() {
        let text = head(usize::MAX, usize::MAX);
        let text = std::str::from_utf8(&text[10..]).expect("ASCII");
        assert!(text.ends_with('\n') && text.contains(&format!("({}, {}), }}", usize::MAX, usize::MAX)));
    }
}
