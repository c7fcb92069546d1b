//! The small change of drawing: escaping, numbers, the width of text, the colours and the frame of a picture that
//! stands alone. What is drawn belongs in the files of the drawings.

use std::fmt::Write as _;

/// Text made safe for HTML and SVG, between tags and in quoted attributes alike.
///
/// Characters that no XML document may hold become U+FFFD, so that one odd byte in a word does not cost the picture.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate: at most one decimal, none where it is zero.
pub(crate) fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// Columns of a terminal that a character takes: two for the wide scripts of East Asia, none for what joins the
/// character before it.
fn columns(c: char) -> usize {
    match c as u32 {
        0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Columns of a terminal that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// About how many pixels a text is wide in a font of `size` pixels: half an em for each column, and a little.
pub(crate) fn pixels(text: &str, size: f64) -> f64 {
    width(text) as f64 * size * 0.54
}

/// A word cut to `most` columns, with an ellipsis where something is missing.
pub(crate) fn shorten(word: &str, most: usize) -> String {
    if width(word) <= most {
        return word.to_owned();
    }
    let mut out = String::new();
    let mut taken = 0;
    for c in word.chars() {
        taken += columns(c);
        if taken >= most {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Distinct colours, in the order in which they are given out; [`PALETTE_CSS`] names them.
const PALETTE: [&str; 8] = ["#3b74c4", "#e07b1a", "#2f9a62", "#c9405b", "#8a63c9", "#8c6d46", "#1f9aa8", "#b58900"];

/// The CSS name of the colour of series, head or line `index`.
pub(crate) fn colour(index: usize) -> String {
    format!("var(--c{})", index % PALETTE.len())
}

/// The colours as CSS, light and dark: shared by pages and by pictures that stand alone.
pub(crate) fn colours_css(selector: &str) -> String {
    let mut css = format!(
        "{selector}{{--paper:#ffffff;--ink:#1c2430;--faint:#66707f;--line:#dde2ea;--cell:#f1f4f9;--heat:#174ea6;\
         --odd:#d9a400"
    );
    for (index, colour) in PALETTE.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(css, ";--c{index}:{colour}");
    }
    let _ = write!(
        css,
        "}}\n@media (prefers-color-scheme:dark){{{selector}{{--paper:#12161d;--ink:#e4e9f0;--faint:#98a3b3;\
         --line:#2c3543;--cell:#1b222d;--heat:#8fb8ff;--odd:#ffcf4a;--c0:#78a9f2;--c1:#f2a35e;--c2:#5cc48c;\
         --c3:#ef7d93;--c4:#b596ec;--c5:#c2a177;--c6:#58c6d2;--c7:#dcb64a}}}}\n"
    );
    css
}

/// The font of all drawings: what the machine has, CJK included.
pub(crate) const FONT: &str = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','Noto Sans CJK SC',\
                               'PingFang SC','Microsoft YaHei',sans-serif";

/// A drawing as an SVG file of its own, with its colours and a background.
pub(crate) fn standalone(title: &str, (width, height): (f64, f64), body: &str) -> String {
    let (w, h) = (coordinate(width), coordinate(height));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\">\
         \n<title>{}</title>\n<style>{}text{{font-family:{FONT}}}</style>\n\
         <rect width=\"{w}\" height=\"{h}\" rx=\"8\" fill=\"var(--paper)\"/>\n{body}</svg>\n",
        escape(title),
        colours_css("svg"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_open_a_tag_or_close_a_quote_survives() {
        assert_eq!(escape("<b a=\"1\" c='2'>&"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;");
        assert_eq!(escape("a\u{0}b\nc\u{1b}"), "a\u{fffd}b c\u{fffd}");
        assert_eq!(escape("上花 ünï"), "上花 ünï");
    }

    #[test]
    fn coordinates_are_short_and_never_minus_zero() {
        assert_eq!([1.0, 1.25, -0.01, 3.96].map(coordinate), ["1", "1.2", "0", "4"]);
    }

    #[test]
    fn a_chinese_character_is_two_columns_wide() {
        assert_eq!([width("saw"), width("过去"), width("e\u{301}")], [3, 4, 1]);
        assert_eq!(shorten("过去的人在想", 7), "过去的…");
        assert_eq!(shorten("watch", 5), "watch");
        assert!(width(&shorten("an-extraordinarily-long-word", 12)) <= 12);
    }
}
