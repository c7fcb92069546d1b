//! The heat map of one head: a row for each query, a column for each key, the stronger the colour the heavier the weight.
//!
//! Here belong its geometry, its scale and its legend. The colour of a weight is the square root of its share of the
//! full scale: an even spread over twenty words, 0.05 each, must not look like nothing.

use std::fmt::Write as _;

use crate::picture::{AttentionPicture, HeadWeights};
use crate::svg::{coordinate, escape, pixels, shorten, standalone};
use crate::{LayerWeights, ViewError};

/// Side of a cell, pixels: the smallest and the largest. Between them a heat map is about as wide as [`ROOM`].
const CELL: (f64, f64) = (22.0, 36.0);
/// The width that the cells of a short sentence fill, pixels.
const ROOM: f64 = 220.0;
/// Text of the labels, pixels.
const TEXT: f64 = 12.0;
/// Columns of a label; a longer word is cut and stands in full in the tooltip.
const LABEL: usize = 14;
/// Sine and cosine of the slope of the column labels, 55°.
const SLOPE: (f64, f64) = (0.819, 0.574);

/// Where the cells of a heat map lie in its drawing.
pub(crate) struct Layout {
    /// Side of a cell.
    pub(crate) cell: f64,
    /// Left edge of the first column.
    pub(crate) left: f64,
    /// Upper edge of the first row.
    pub(crate) top: f64,
    /// Width of the drawing.
    pub(crate) width: f64,
    /// Height of the drawing.
    pub(crate) height: f64,
}

impl Layout {
    pub(crate) fn of(words: &[String]) -> Self {
        let longest = words.iter().map(|word| pixels(&shorten(word, LABEL), TEXT)).fold(0.0, f64::max);
        let last = words.last().map_or(0.0, |word| pixels(&shorten(word, LABEL), TEXT));
        // Room for a label in bold too, which is what a chosen row gets.
        let (left, top) = (longest * 1.12 + 14.0, longest * SLOPE.0 + 16.0);
        let cell = (ROOM / words.len().max(1) as f64).clamp(CELL.0, CELL.1).floor();
        let cells = words.len() as f64 * cell;
        // The last column's label leans out to the right.
        let lean = (last * SLOPE.1 - cell / 2.0).max(2.0) + 6.0;
        Self { cell, left, top, width: left + cells + lean, height: top + cells + 2.0 }
    }
}

/// The heat map of one head as an SVG file of its own: heading, words, cells with the weights as tooltips, legend.
///
/// `layer` and `head` count from 0. It follows the reader's light or dark scheme.
///
/// # Errors
///
/// [`ViewError::NoSuchHead`], and those of [`AttentionPicture::check`].
pub fn heatmap_svg(picture: &AttentionPicture, layer: usize, head: usize) -> Result<String, ViewError> {
    picture.check()?;
    let weights = picture.layers.get(layer).and_then(|LayerWeights { heads }| heads.get(head));
    let Some(weights) = weights else {
        return Err(ViewError::NoSuchHead { picture: picture.heading.clone(), layer, head });
    };
    let layout = Layout::of(&picture.words);
    let full = picture.full_scale();
    let title = format!("{} · layer {}, head {}", picture.heading, layer + 1, head + 1);
    let (pad, head_room, foot) = (16.0, 34.0, 46.0);
    let width = (layout.width + 2.0 * pad).max(pixels(&title, 14.0) + 2.0 * pad).max(LEGEND_WIDTH + 2.0 * pad);
    let height = layout.height + head_room + foot + 2.0 * pad;
    let mut body = format!(
        "<text x=\"{}\" y=\"{}\" font-size=\"14\" font-weight=\"600\" fill=\"var(--ink)\">{}</text>\n",
        coordinate(pad),
        coordinate(pad + 12.0),
        escape(&title)
    );
    let _ = writeln!(body, "<g transform=\"translate({},{})\">", coordinate(pad), coordinate(pad + head_room));
    body.push_str(&cells(&picture.words, weights, full));
    body.push_str("</g>\n");
    let legend_top = pad + head_room + layout.height + 12.0;
    let _ = writeln!(body, "<g transform=\"translate({},{})\">", coordinate(pad), coordinate(legend_top));
    body.push_str(&legend(full));
    body.push_str("</g>\n");
    Ok(standalone(&title, (width, height), &body))
}

/// Labels and cells, for a drawing of the size that [`Layout`] gives.
pub(crate) fn cells(words: &[String], head: &HeadWeights, full: f32) -> String {
    let layout = Layout::of(words);
    let Layout { cell, left, top, .. } = layout;
    let side = words.len() as f64 * cell;
    let mut out = String::new();
    if words.is_empty() {
        return format!("<text x=\"0\" y=\"14\" font-size=\"{TEXT}\" fill=\"var(--faint)\">no words</text>\n");
    }
    for (index, word) in words.iter().enumerate() {
        let middle = (index as f64 + 0.5) * cell;
        let (label, full_word) = (escape(&shorten(word, LABEL)), escape(word));
        let _ = writeln!(
            out,
            "<text class=\"q\" x=\"{}\" y=\"{}\" text-anchor=\"end\" font-size=\"{TEXT}\" fill=\"var(--ink)\">{label}\
             <title>{full_word}</title></text>",
            coordinate(left - 6.0),
            coordinate(top + middle + 4.0),
        );
        let _ = writeln!(
            out,
            "<text transform=\"translate({},{}) rotate(-55)\" font-size=\"{TEXT}\" fill=\"var(--faint)\">{label}\
             <title>{full_word}</title></text>",
            coordinate(left + middle + 3.0),
            coordinate(top - 6.0),
        );
    }
    let (x, y, side_text) = (coordinate(left), coordinate(top), coordinate(side));
    let _ = writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{side_text}\" height=\"{side_text}\" rx=\"3\" fill=\"var(--cell)\"/>"
    );
    let inner = coordinate(cell - 1.0);
    for (query, row) in head.weights.chunks(words.len()).enumerate() {
        for (key, &weight) in row.iter().enumerate() {
            let (fill, value) = if weight.is_finite() {
                (format!("var(--heat)\" fill-opacity=\"{}", opacity(weight, full)), format!("{weight:.4}"))
            } else {
                ("var(--odd)".to_owned(), format!("not a number ({weight})"))
            };
            let _ = writeln!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"{inner}\" height=\"{inner}\" rx=\"2\" fill=\"{fill}\">\
                 <title>{} → {}: {value}</title></rect>",
                coordinate(left + key as f64 * cell + 0.5),
                coordinate(top + query as f64 * cell + 0.5),
                escape(&words[query]),
                escape(&words[key]),
            );
        }
    }
    out
}

/// How strongly a finite weight is coloured, 0 to 1, as text.
fn opacity(weight: f32, full: f32) -> String {
    let share = (weight / full).clamp(0.0, 1.0).sqrt();
    let text = format!("{share:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Width of [`legend`], pixels.
pub(crate) const LEGEND_WIDTH: f64 = 300.0;
/// Height of [`legend`], pixels.
pub(crate) const LEGEND_HEIGHT: f64 = 32.0;

/// The scale: cells of growing weight with their values below.
pub(crate) fn legend(full: f32) -> String {
    let steps = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0];
    let mut out = "<text x=\"0\" y=\"12\" font-size=\"11\" fill=\"var(--faint)\">weight</text>\n".to_owned();
    for (index, share) in steps.into_iter().enumerate() {
        let x = 44.0 + index as f64 * 32.0;
        let weight = share * full;
        let value = if full > 1.0 { format!("{weight:.2}") } else { format!("{weight}") };
        let (left, middle) = (coordinate(x), coordinate(x + 15.0));
        let _ = writeln!(
            out,
            "<rect x=\"{left}\" y=\"1\" width=\"30\" height=\"14\" rx=\"2\" fill=\"var(--cell)\"/>\
             <rect x=\"{left}\" y=\"1\" width=\"30\" height=\"14\" rx=\"2\" fill=\"var(--heat)\" \
             fill-opacity=\"{}\"/>\
             <text x=\"{middle}\" y=\"28\" text-anchor=\"middle\" font-size=\"10\" fill=\"var(--faint)\">{value}</text>",
            opacity(weight, full),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::tests::picture;
    use crate::well_formed::assert_well_formed;

    #[test]
    fn a_heat_map_has_a_cell_for_each_pair_with_its_weight_as_tooltip() {
        let shown = picture(&["I", "saw", "a", "saw"], 1, 2);
        let svg = heatmap_svg(&shown, 0, 1).expect("the head is there");
        assert_well_formed(&svg);
        assert_eq!(svg.matches(" → ").count(), 16);
        let weight = shown.layers[0].heads[1].weights[4];
        assert!(svg.contains(&format!("saw → I: {weight:.4}")), "{svg}");
        assert!(!svg.contains("http") || svg.matches("http").count() == 1, "only the namespace");
    }

    #[test]
    fn words_that_look_like_markup_stay_words() {
        let svg = heatmap_svg(&picture(&["<script>alert(1)</script>", "a&b"], 1, 1), 0, 0).expect("the head is there");
        assert_well_formed(&svg);
        assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;alert(1)&lt;/script&gt; → a&amp;b"));
    }

    #[test]
    fn a_weight_that_is_no_number_is_shown_as_such() {
        let mut shown = picture(&["a", "b"], 1, 1);
        shown.layers[0].heads[0].weights = vec![f32::NAN, 0.25, f32::INFINITY, -0.5];
        let svg = heatmap_svg(&shown, 0, 0).expect("the head is there");
        assert_well_formed(&svg);
        assert!(svg.contains("a → a: not a number (NaN)") && svg.contains("b → a: not a number (inf)"));
        assert!(!svg.contains("fill-opacity=\"NaN") && svg.contains("fill-opacity=\"0.5\"><title>a → b: 0.2500"));
    }

    #[test]
    fn no_words_make_a_picture_too() {
        let svg = heatmap_svg(&picture(&[], 1, 1), 0, 0).expect("the head is there");
        assert_well_formed(&svg);
        assert!(svg.contains("no words"));
    }

    #[test]
    fn a_head_that_is_not_there_is_refused() {
        let error = heatmap_svg(&picture(&["a"], 1, 2), 0, 2).expect_err("two heads only");
        assert_eq!(error.to_string(), "picture \"a\" has no layer 0 with a head 2 (both count from 0)");
        assert!(heatmap_svg(&picture(&["a"], 1, 2), 1, 0).is_err());
    }

    #[test]
    fn long_and_wide_words_keep_their_cells_apart_from_their_labels() {
        let words = ["Donaudampfschifffahrtsgesellschaft".to_owned(), "什么".to_owned()];
        let layout = Layout::of(&words);
        assert!(layout.left < 130.0 && layout.left > pixels("什么", TEXT));
        assert!(layout.width >= layout.left + 2.0 * layout.cell);
    }
}
