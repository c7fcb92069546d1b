//! The elements: their symbols, and how many bonds an atom of them has.
//!
//! Here belongs what is known of an element alone.

/// The symbols in the order of the atomic numbers, from 1.
const SYMBOLS: [&str; 118] = [
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K", "Ca",
    "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y",
    "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce",
    "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir",
    "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm",
    "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc",
    "Lv", "Ts", "Og",
];

/// The atomic number of the element with this symbol, capitals as they are written; 0 for `*`.
#[must_use]
pub fn element_number(symbol: &str) -> Option<u8> {
    if symbol == "*" {
        return Some(0);
    }
    let place = SYMBOLS.iter().position(|known| *known == symbol)?;
    u8::try_from(place + 1).ok()
}

/// The symbol of the element with this atomic number; `*` for 0 and for numbers that no element has.
#[must_use]
pub fn element_symbol(number: u8) -> &'static str {
    usize::from(number).checked_sub(1).and_then(|place| SYMBOLS.get(place)).copied().unwrap_or("*")
}

/// The atomic number of an aromatic symbol, as it stands in brackets: OpenSMILES' and `si` and `te`, which others write.
pub(super) fn aromatic_number(symbol: &str) -> Option<u8> {
    match symbol {
        "b" => Some(5),
        "c" => Some(6),
        "n" => Some(7),
        "o" => Some(8),
        "si" => Some(14),
        "p" => Some(15),
        "s" => Some(16),
        "as" => Some(33),
        "se" => Some(34),
        "te" => Some(52),
        _ => None,
    }
}

/// The normal valences of an element of the organic subset, rising; none for all others.
pub(super) fn valences(element: u8) -> &'static [u32] {
    match element {
        5 => &[3],
        6 => &[4],
        7 | 15 => &[3, 5],
        8 => &[2],
        16 => &[2, 4, 6],
        9 | 17 | 35 | 53 => &[1],
        _ => &[],
    }
}

/// How many electrons the outer shell of an element of the main groups has.
pub(super) fn outer_electrons(element: u8) -> Option<u32> {
    let element = u32::from(element);
    let (core, between) = match element {
        1..=2 => (0, 0),
        3..=10 => (2, 0),
        11..=18 => (10, 0),
        19..=36 => (18, 10),
        37..=54 => (36, 10),
        55..=86 => (54, 24),
        87..=118 => (86, 24),
        _ => return None,
    };
    match element - core {
        first @ 1..=2 => Some(first),
        later if later > 2 + between => Some(later - between),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_and_numbers_belong_together() {
        for number in 1..=118 {
            assert_eq!(element_number(element_symbol(number)), Some(number));
        }
        for (symbol, number) in [("C", 6), ("Cl", 17), ("Br", 35), ("I", 53), ("Au", 79), ("U", 92), ("Og", 118)] {
            assert_eq!(element_number(symbol), Some(number), "{symbol}");
        }
        assert_eq!((element_number("*"), element_number("Xx"), element_number("cl")), (Some(0), None, None));
        assert_eq!((element_symbol(0), element_symbol(200)), ("*", "*"));
    }

    #[test]
    fn outer_electrons_follow_the_groups() {
        for (symbol, electrons) in [
            ("H", 1),
            ("He", 2),
            ("C", 4),
            ("Ne", 8),
            ("Na", 1),
            ("Cl", 7),
            ("Ca", 2),
            ("Ga", 3),
            ("Br", 7),
            ("Sn", 4),
            ("Tl", 3),
            ("Rn", 8),
        ] {
            assert_eq!(outer_electrons(element_number(symbol).unwrap()), Some(electrons), "{symbol}");
        }
        for symbol in ["*", "Fe", "Zn", "Ag", "Pt", "U"] {
            assert_eq!(outer_electrons(element_number(symbol).unwrap()), None, "{symbol}");
        }
    }
}
