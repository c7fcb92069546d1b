//! Plain text: one sentence on each line, split into words in the manner of the treebanks.
//!
//! Here belong the tokenizer and the word list that it may ask. It does not look for the ends of sentences: a line is
//! one, and a blank line is a sentence without words.
//!
//! Words are parted at white space first; text that is split already stays as it is. Then, within each piece:
//!
//! 1. A piece that the word list knows is a word, unless it is a contraction of words that it knows too. Words as well
//!    are contracted endings (`'s`, `n't`), emoticons, web and mail addresses, `@names` and `#tags`.
//! 2. Chinese characters and kana: the longest words that the word list knows, from left to right; else one character.
//! 3. Punctuation comes off both ends. A point stays with `U.S.`, `Dr.`, and `J.` before a capital; runs such as
//!    `...`, `--` and `?!` stay together; `$5` is two words, `-5` and `C++` are one.
//! 4. Brackets, quotation marks, dashes and the like part words from within, commas and colons unless between digits,
//!    slashes unless beside a digit.
//! 5. Contractions are parted as in the Penn Treebank: `do n't`, `they 're`, `can not`, `gon na`.
//! 6. A word with hyphens is parted at them if the word list knows every part but not the whole.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use crate::error::Result;
use crate::format::Format;
use crate::sentence::{RawSentence, Sentence};
use crate::source::Lines;
use crate::vocab::Vocabulary;

/// The words that a tokenizer may take for known, such as those of a training set.
#[derive(Clone)]
pub struct Lexicon {
    knows: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    longest: usize,
}

impl Lexicon {
    /// The words for which `knows` is true. None of them that is written without spaces is taken to be of more than
    /// `longest` characters.
    pub fn new(knows: impl Fn(&str) -> bool + Send + Sync + 'static, longest: usize) -> Self {
        Self { knows: Arc::new(knows), longest }
    }

    /// The words of a vocabulary.
    pub fn of(vocabulary: Arc<Vocabulary>) -> Self {
        let unspaced = vocabulary.words().iter().filter(|word| word.chars().any(is_unspaced));
        let longest = unspaced.map(|word| word.chars().count()).max().unwrap_or(1);
        Self::new(move |word| vocabulary.contains(word), longest)
    }

    fn knows(&self, word: &str) -> bool {
        (self.knows)(word)
    }
}

impl fmt::Debug for Lexicon {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lexicon").field("longest", &self.longest).finish_non_exhaustive()
    }
}

/// Reads a sentence from each line.
pub(crate) struct Reader {
    lines: Lines,
    tokenize: bool,
    lexicon: Option<Lexicon>,
}

impl Reader {
    pub(crate) fn new(lines: Lines, tokenize: bool, lexicon: Option<Lexicon>) -> Self {
        Self { lines, tokenize, lexicon }
    }

    pub(crate) fn next_sentence(&mut self) -> Result<Option<Sentence>> {
        let Some(line) = self.lines.next_line()? else { return Ok(None) };
        let words = match self.tokenize {
            true => tokenize(line.text(), self.lexicon.as_ref()),
            false => line.text().split_whitespace().map(str::to_owned).collect(),
        };
        let word_lines = vec![line.number; words.len()];
        let source = Some(Arc::new(RawSentence { format: Format::Text, lines: vec![line.raw], words: Vec::new() }));
        Ok(Some(Sentence { words, labels: None, line: line.number, word_lines, source }))
    }
}

/// Writes `word_LABEL word_LABEL` and a line's end; without words, a blank line.
pub(crate) fn write(words: &[String], labels: &[&str], out: &mut dyn Write) -> io::Result<()> {
    for (place, (word, label)) in words.iter().zip(labels).enumerate() {
        let space = if place > 0 { " " } else { "" };
        write!(out, "{space}{word}_{label}")?;
    }
    out.write_all(b"\n")
}

/// Splits a sentence into words, as this [module](self) says.
///
/// ```
/// assert_eq!(qkv_data::tokenize("I don't see a saw.", None), ["I", "do", "n't", "see", "a", "saw", "."]);
/// ```
pub fn tokenize(line: &str, lexicon: Option<&Lexicon>) -> Vec<String> {
    let mut words = Vec::new();
    let mut pieces = line.split_whitespace().peekable();
    // What is yet to be split, the next piece on top. Each round either keeps a piece or cuts it into smaller ones.
    let mut waiting: Vec<&str> = Vec::new();
    while let Some(piece) = waiting.pop().or_else(|| pieces.next()) {
        let following = waiting.last().or_else(|| pieces.peek()).and_then(|next| next.chars().next());
        let parts = split(piece, following, lexicon);
        match parts.len() {
            0 | 1 => words.push(piece.to_owned()),
            _ => waiting.extend(parts.into_iter().rev()),
        }
    }
    words
}

/// Cuts a piece once, by the first rule that cuts it; one part or none means that it is a word.
fn split<'text>(piece: &'text str, following: Option<char>, lexicon: Option<&Lexicon>) -> Vec<&'text str> {
    if is_whole(piece) || lexicon.is_some_and(|lexicon| is_known(piece, lexicon)) {
        return Vec::new();
    }
    let cut = |parts: Vec<&'text str>| Some(parts).filter(|parts| parts.len() > 1);
    cut(split_unspaced(piece, lexicon))
        .or_else(|| cut(split_ends(piece, following)))
        .or_else(|| cut(split_inside(piece)))
        .or_else(|| cut(split_contraction(piece)))
        .or_else(|| cut(split_hyphens(piece, lexicon?)))
        .unwrap_or_default()
}

/// Whether the word list knows a piece. Where it knows both parts of a contraction, the whole is a slip that some
/// treebank's text has (`it's` among thousands of `it 's`).
fn is_known(piece: &str, lexicon: &Lexicon) -> bool {
    let contraction = split_contraction(piece);
    lexicon.knows(piece) && (contraction.is_empty() || !contraction.iter().all(|part| lexicon.knows(part)))
}

const CLITICS: [&str; 12] = ["'s", "'re", "'ve", "'ll", "'d", "'m", "n't", "'em", "'tis", "'twas", "'til", "'cause"];

/// Whether a piece is a word although it has punctuation at its ends: a contracted ending, an emoticon, a bracket as
/// treebanks write it.
fn is_whole(piece: &str) -> bool {
    if piece.len() > 32 {
        return false;
    }
    let plain = piece.replace('’', "'");
    let is_bracket = plain.len() == 5 && plain.starts_with('-') && plain.ends_with("RB-");
    CLITICS.iter().any(|clitic| clitic.eq_ignore_ascii_case(&plain)) || is_bracket || is_emoticon(&plain)
}

/// `:)`, `;-)`, `:D`, `<3` and their like.
fn is_emoticon(piece: &str) -> bool {
    let Some(mouth) = piece.strip_prefix([':', ';', '=', '8']) else { return piece == "<3" };
    let mouth = mouth.strip_prefix(['-', '\'', 'o', '^']).unwrap_or(mouth);
    let mut characters = mouth.chars();
    let Some(first) = characters.next() else { return false };
    // `8)` closes a list's item more often than it smiles.
    !piece.starts_with('8') && "()[]DPp/|*3".contains(first) && characters.all(|character| character == first)
}

/// Parts runs of characters that are written without spaces from others, and cuts them into words.
fn split_unspaced<'text>(piece: &'text str, lexicon: Option<&Lexicon>) -> Vec<&'text str> {
    let mut parts = Vec::new();
    let mut rest = piece;
    while let Some(first) = rest.chars().next() {
        let length = if is_unspaced(first) {
            longest_known(rest, lexicon).unwrap_or(first.len_utf8())
        } else if is_wide_punctuation(first) {
            first.len_utf8()
        } else {
            rest.find(|character| is_unspaced(character) || is_wide_punctuation(character)).unwrap_or(rest.len())
        };
        let (part, after) = rest.split_at(length);
        parts.push(part);
        rest = after;
    }
    parts
}

/// The bytes of the longest word at the beginning of `text` that the word list knows.
fn longest_known(text: &str, lexicon: Option<&Lexicon>) -> Option<usize> {
    let lexicon = lexicon?;
    let ends: Vec<usize> = text
        .char_indices()
        .take(lexicon.longest)
        .take_while(|(_, character)| is_unspaced(*character))
        .map(|(at, character)| at + character.len_utf8())
        .collect();
    ends.into_iter().rev().find(|&end| lexicon.knows(&text[..end]))
}

/// Chinese characters and kana. Hangul is written with spaces.
fn is_unspaced(character: char) -> bool {
    matches!(
        character,
        '々' | '〇' | '\u{3040}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'
    )
}

/// Punctuation as wide as a Chinese character; wide letters and digits are not.
fn is_wide_punctuation(character: char) -> bool {
    match character {
        '々' | '〇' => false,
        '\u{3000}'..='\u{303f}' | '\u{30fb}' => true,
        '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}' => true,
        _ => false,
    }
}

/// What is split off words: ASCII punctuation and the commonest beyond it. Anything else, such as an emoji or a
/// combining accent, is part of a word.
fn is_punctuation(character: char) -> bool {
    match character {
        '_' => false,
        _ if character.is_ascii_punctuation() => true,
        '¡' | '¿' | '«' | '»' | '·' | '§' | '¶' | '£' | '¢' | '¥' | '°' => true,
        '\u{2010}'..='\u{201f}' | '†' | '‡' | '•' | '…' | '‹' | '›' | '€' | '₩' | '₹' | '₽' => true,
        _ => false,
    }
}

/// Takes punctuation off both ends.
fn split_ends(piece: &str, following: Option<char>) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = piece;
    while let Some(length) = punctuation_before(rest) {
        let (part, after) = rest.split_at(length);
        parts.push(part);
        rest = after;
    }
    let mut after = Vec::new();
    let mut following = following;
    while let Some(length) = punctuation_after(rest, following) {
        let (before, part) = rest.split_at(rest.len() - length);
        after.push(part);
        following = part.chars().next();
        rest = before;
    }
    parts.extend(Some(rest).filter(|rest| !rest.is_empty()));
    parts.extend(after.into_iter().rev());
    parts
}

/// The bytes of a mark, or of a run of marks that belong together.
fn run<'text>(mut characters: impl Iterator<Item = char> + 'text) -> usize {
    let Some(first) = characters.next() else { return 0 };
    let belongs = |next: char| match first {
        '!' | '?' => matches!(next, '!' | '?'),
        '.' | '-' | '*' | '=' | '~' | '`' | '\'' | '…' | '—' | '–' => next == first,
        _ => false,
    };
    first.len_utf8() + characters.take_while(|&next| belongs(next)).map(char::len_utf8).sum::<usize>()
}

/// The bytes of the punctuation that `text` begins with, if it is to come off.
fn punctuation_before(text: &str) -> Option<usize> {
    let mut characters = text.chars();
    let first = characters.next().filter(|&first| is_punctuation(first))?;
    let next = characters.next().unwrap_or(' ');
    let belongs = match first {
        '@' | '#' => next.is_alphanumeric() || next == '_',
        '-' | '+' | '.' => next.is_ascii_digit(),
        '\'' | '’' => is_whole(text),
        _ => false,
    };
    (!belongs).then(|| run(text.chars()))
}

/// The bytes of the punctuation that `text` ends with, if it is to come off.
fn punctuation_after(text: &str, following: Option<char>) -> Option<usize> {
    let last = text.chars().next_back().filter(|&last| is_punctuation(last))?;
    if is_whole(text) {
        return None;
    }
    let length = run(text.chars().rev());
    let before = &text[..text.len() - length];
    let after_letter = before.ends_with(char::is_alphanumeric);
    let belongs = match last {
        '.' => length == 1 && keeps_point(before, following),
        '+' => before.ends_with('+') || (after_letter && before.chars().count() == 1),
        '#' => after_letter,
        '$' => after_letter && !before.ends_with(char::is_numeric),
        // A bracket that was opened within an address closes within it.
        ')' => is_address(text) && text.matches('(').count() >= text.matches(')').count(),
        '/' | '=' | '&' | '%' | '~' | '*' => is_address(text),
        _ => false,
    };
    (!belongs).then_some(length)
}

/// Words that are written with a point, in lower case.
const ABBREVIATIONS: [&str; 59] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "etc", "inc", "corp", "ltd", "co", "bros", "gen", "sen",
    "rep", "gov", "capt", "lt", "col", "sgt", "rev", "hon", "messrs", "mt", "ft", "ave", "blvd", "rd", "dept", "univ",
    "assn", "approx", "est", "jan", "feb", "apr", "aug", "sept", "sep", "oct", "nov", "dec", "mon", "tue", "tues",
    "wed", "thu", "thurs", "fri", "cf", "al", "ed", "eds", "vol", "pp", "ca",
];

/// Whether the point after `word` is part of it.
fn keeps_point(word: &str, following: Option<char>) -> bool {
    let letters =
        |text: &str| text.split('.').all(|part| part.chars().count() == 1 && part.chars().all(char::is_alphabetic));
    if letters(word) {
        // `U.S.`, `e.g.`; a single letter is an initial only before a name.
        return word.contains('.') || following.is_some_and(char::is_uppercase) && word != "I";
    }
    let lower = word.to_lowercase();
    match lower.as_str() {
        // `No. 5`, `p. 7`: otherwise the word `no` ends a sentence.
        "no" | "nos" | "fig" | "figs" | "sec" | "art" | "ch" => following.is_some_and(|next| next.is_ascii_digit()),
        _ => ABBREVIATIONS.contains(&lower.as_str()),
    }
}

/// A web address, a mail address, a name or a tag.
fn is_address(text: &str) -> bool {
    let starts = |prefix: &str| text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    let is_name = |text: &str| text.chars().all(|character| character.is_alphanumeric() || "_-.".contains(character));
    if text.contains("://") || starts("www.") || starts("mailto:") {
        return true;
    }
    match text.split_once('@') {
        Some(("", name)) => !name.is_empty() && is_name(name),
        Some((name, host)) => {
            !name.is_empty() && host.contains('.') && !host.contains('@') && !host.contains(is_bracket)
        }
        None => text.strip_prefix('#').is_some_and(|tag| !tag.is_empty() && is_name(tag)),
    }
}

fn is_bracket(character: char) -> bool {
    "()[]{}<>\"“”„«»".contains(character)
}

/// Cuts at the punctuation within a piece.
fn split_inside(piece: &str) -> Vec<&str> {
    if is_address(piece) {
        return Vec::new();
    }
    let mut parts = Vec::new();
    // Where the part in hand begins, and what was passed last.
    let mut begin = 0;
    let mut at = 0;
    let mut before = ' ';
    while let Some(mark) = piece[at..].chars().next() {
        let length = run(piece[at..].chars());
        let after = piece[at + length..].chars().next().unwrap_or(' ');
        let (digit_before, digit_after) = (before.is_ascii_digit(), after.is_ascii_digit());
        let cuts = match mark {
            ',' | ':' | '–' => !(digit_before && digit_after),
            '/' => !digit_before && !digit_after,
            '.' | '-' => length > 1,
            '$' | '£' | '€' | '¥' => digit_after,
            ';' | '!' | '?' | '…' | '—' | '|' | '=' => true,
            _ => is_bracket(mark),
        };
        // What follows a currency's sign is a number; the sign stays with what it ends (`US$`).
        let keeps = cuts && "$£€¥".contains(mark);
        if cuts {
            let end = if keeps { at + length } else { at };
            parts.push(&piece[begin..end]);
            if !keeps {
                parts.push(&piece[at..at + length]);
            }
            begin = at + length;
        }
        at += length;
        before = mark;
    }
    parts.push(&piece[begin..]);
    parts.retain(|part| !part.is_empty());
    parts
}

/// Words that are two, and where the second begins.
const MERGED: [(&str, usize); 6] =
    [("cannot", 3), ("gonna", 3), ("gotta", 3), ("wanna", 3), ("gimme", 3), ("lemme", 3)];

/// Parts a contracted ending from its word.
fn split_contraction(piece: &str) -> Vec<&str> {
    if let Some((_, at)) = MERGED.iter().find(|(word, _)| word.eq_ignore_ascii_case(piece)) {
        return vec![&piece[..*at], &piece[*at..]];
    }
    for ending in &CLITICS[..7] {
        // The ending may be written with either apostrophe, and in capitals.
        let mut begin = piece.len();
        let mut characters = piece.char_indices().rev();
        let matches = ending.chars().rev().all(|wanted| {
            characters.next().is_some_and(|(at, character)| {
                begin = at;
                wanted.eq_ignore_ascii_case(&if character == '’' { '\'' } else { character })
            })
        });
        if matches && piece[..begin].ends_with(|character: char| !is_punctuation(character)) {
            return vec![&piece[..begin], &piece[begin..]];
        }
    }
    Vec::new()
}

/// Cuts at hyphens if all parts are known.
fn split_hyphens<'text>(piece: &'text str, lexicon: &Lexicon) -> Vec<&'text str> {
    if is_address(piece) || piece.split('-').any(|part| part.is_empty() || !lexicon.knows(part)) {
        return Vec::new();
    }
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, hyphen) in piece.match_indices('-') {
        parts.extend([&piece[begin..at], hyphen]);
        begin = at + hyphen.len();
    }
    parts.push(&piece[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(line: &str) -> String {
        tokenize(line, None).join(" ")
    }

    fn lexicon(words: &'static [&'static str]) -> Lexicon {
        Lexicon::new(move |word| words.contains(&word), 4)
    }

    #[test]
    fn punctuation_and_contractions_are_split_as_treebanks_do() {
        for (line, expected) in [
            ("I saw a saw.", "I saw a saw ."),
            ("I don't; you can't, he WON'T.", "I do n't ; you ca n't , he WO N'T ."),
            ("It's John's, they’re the dogs' toys", "It 's John 's , they ’re the dogs ' toys"),
            ("I shouldn't've gone", "I should n't 've gone"),
            ("She cannot, I'm gonna", "She can not , I 'm gon na"),
            ("He lives in the U.S. now.", "He lives in the U.S. now ."),
            ("Dr. J. Smith of Acme Inc., e.g. here", "Dr. J. Smith of Acme Inc. , e.g. here"),
            ("It is I. No. 5? I said no.", "It is I . No. 5 ? I said no ."),
            ("\"No.\" (Really?!) Well... ok--fine", "\" No . \" ( Really ?! ) Well ... ok -- fine"),
            ("costs $1,000.50, or US$5; 10:30 or 50%", "costs $ 1,000.50 , or US$ 5 ; 10:30 or 50 %"),
            ("-5 and +3.5 and .5, C++ and C#", "-5 and +3.5 and .5 , C++ and C#"),
            ("see http://a.b/c_(d)?e=f. Or (www.x.org/a/).", "see http://a.b/c_(d)?e=f . Or ( www.x.org/a/ ) ."),
            ("mail me@x.org, @you_2 #tag!", "mail me@x.org , @you_2 #tag !"),
            ("and/or 1/2, a,b 9:a", "and / or 1/2 , a , b 9 : a"),
            ("word(s) “quoted” —yes—no… AT&T", "word ( s ) “ quoted ” — yes — no … AT&T"),
            ("hi :) ;-) <3 :P", "hi :) ;-) <3 :P"),
            ("'em and 's and n't", "'em and 's and n't"),
            ("state-of-the-art", "state-of-the-art"),
            ("  spaces \t and\u{a0}more ", "spaces and more"),
            ("", ""),
        ] {
            assert_eq!(joined(line), expected, "{line}");
        }
    }

    #[test]
    fn chinese_is_cut_into_characters_or_the_longest_known_words() {
        assert_eq!(joined("上海人，去2016年。"), "上 海 人 ， 去 2016 年 。");
        let lexicon = lexicon(&["上海", "上海人", "去年", "花"]);
        assert_eq!(tokenize("上海人去上海買花A股", Some(&lexicon)).join(" "), "上海人 去 上海 買 花 A 股");
        assert_eq!(joined("カレーを 食べる"), "カ レ ー を 食 べ る");
        assert_eq!(joined("한국어 문장."), "한국어 문장 .");
    }

    #[test]
    fn longest_known_word_is_bounded_by_the_longest_of_the_list() {
        let vocabulary = Vocabulary::build(["上海", "internationalisation"], &Default::default());
        let lexicon = Lexicon::of(Arc::new(vocabulary));
        assert_eq!(lexicon.longest, 2);
        assert_eq!(tokenize("上海上", Some(&lexicon)), ["上海", "上"]);
    }

    #[test]
    fn a_known_word_stays_whole_and_hyphens_part_known_words() {
        let lexicon = lexicon(&["don't", "it's", "it", "'s", "long", "term", "x-ray", "x", "ray"]);
        assert_eq!(
            tokenize("don't it's long-term x-ray long-lived", Some(&lexicon)).join(" "),
            "don't it 's long - term x-ray long-lived"
        );
    }

    #[test]
    fn a_huge_line_is_split_in_time() {
        let brackets = "([".repeat(100_000);
        assert_eq!(tokenize(&brackets, None).len(), 200_000);
        let commas = "a,b;".repeat(50_000);
        assert_eq!(tokenize(&commas, None).len(), 200_000);
        assert_eq!(tokenize(&"花".repeat(100_000), Some(&lexicon(&["花花"]))).len(), 50_000);
    }

    proptest! {
        #[test]
        fn nothing_but_space_is_lost_and_split_text_stays_as_it_is(line in "[aItnsU05.,'’\"()$:/@#!?+ 上。…-]{0,24}") {
            let words = tokenize(&line, None);
            let without_space = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(without_space(&words.concat()), without_space(&line));
            prop_assert!(words.iter().all(|word| !word.is_empty()));
            prop_assert_eq!(tokenize(&words.join(" "), None), words);
        }

        #[test]
        fn any_text_is_split_without_loss(line in "\\PC{0,60}") {
            let without_space = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(without_space(&tokenize(&line, None).concat()), without_space(&line));
        }
    }
}
