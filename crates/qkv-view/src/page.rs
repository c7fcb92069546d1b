//! The page: tables of results, and the attention of every head over some sentences, as one HTML file.
//!
//! Here belongs the composition of the page; what each drawing looks like belongs in its own file, the look of the page
//! in `page.css`, and in `page.js` what happens when a word is pointed at. Without scripts every heat map is there; the
//! script adds the arcs from a chosen word.

use std::fmt::Write as _;

use crate::heatmap::{LEGEND_HEIGHT, LEGEND_WIDTH, Layout, cells, legend};
use crate::picture::AttentionPicture;
use crate::svg::{FONT, colour, colours_css, coordinate, escape, pixels};
use crate::{Table, ViewError};

/// What a page shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AttentionPage {
    /// Title and first heading.
    pub title: String,
    /// Paragraphs under it.
    pub intro: Vec<String>,
    /// Tables with their headings, before the pictures.
    pub tables: Vec<(String, Table)>,
    /// The sentences.
    pub pictures: Vec<AttentionPicture>,
}

impl AttentionPage {
    /// The page as one HTML file that needs nothing else, in the reader's light or dark scheme.
    ///
    /// # Errors
    ///
    /// Those of [`AttentionPicture::check`] and [`Table::check`].
    pub fn to_html(&self) -> Result<String, ViewError> {
        let title = escape(&self.title);
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{title}</title>\n\
             <style>\n{}body{{font-family:{FONT}}}\n{}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
            colours_css(":root"),
            include_str!("page.css"),
        );
        for paragraph in &self.intro {
            let _ = writeln!(out, "<p class=\"intro\">{}</p>", escape(paragraph));
        }
        for (heading, table) in &self.tables {
            let _ = writeln!(
                out,
                "<section>\n<h2>{}</h2>\n<div class=\"scroll\">\n{}</div>\n</section>",
                escape(heading),
                table.to_html()?
            );
        }
        for (index, picture) in self.pictures.iter().enumerate() {
            picture.check()?;
            section(&mut out, index, picture);
        }
        let _ = writeln!(out, "</main>\n<script>\n{}</script>\n</body>\n</html>", include_str!("page.js"));
        Ok(out)
    }
}

/// One sentence: its words to point at, then for each layer the arcs and the heat maps.
fn section(out: &mut String, index: usize, picture: &AttentionPicture) {
    let full = picture.full_scale();
    let _ = writeln!(out, "<section class=\"picture\" id=\"picture-{}\">", index + 1);
    let _ = writeln!(out, "<h2>{}</h2>", escape(&picture.heading));
    if !picture.note.is_empty() {
        let _ = writeln!(out, "<p class=\"note\">{}</p>", escape(&picture.note));
    }
    chips(out, picture);
    let _ = writeln!(
        out,
        "<svg class=\"legend\" width=\"{LEGEND_WIDTH}\" height=\"{LEGEND_HEIGHT}\" role=\"img\">\n{}</svg>",
        legend(full)
    );
    let layout = Layout::of(&picture.words);
    for (layer, heads) in picture.layers.iter().enumerate() {
        let _ = writeln!(out, "<div class=\"layer\">\n<h3>Layer {}</h3>", layer + 1);
        // Filled in by the script; hidden until then.
        let _ = writeln!(out, "<div class=\"scroll arcs\" data-layer=\"{layer}\"></div>");
        out.push_str("<div class=\"heads\">\n");
        for (head, weights) in heads.heads.iter().enumerate() {
            let _ = writeln!(
                out,
                "<figure>\n<figcaption><span class=\"dot\" style=\"background:{}\"></span>head {}</figcaption>\n\
                 <div class=\"scroll\"><svg class=\"heat\" width=\"{}\" height=\"{}\" role=\"img\" data-top=\"{}\" \
                 data-left=\"{}\" data-cell=\"{}\">\n<title>layer {}, head {}</title>\n{}</svg></div>\n</figure>",
                colour(head),
                head + 1,
                coordinate(layout.width),
                coordinate(layout.height),
                coordinate(layout.top),
                coordinate(layout.left),
                coordinate(layout.cell),
                layer + 1,
                head + 1,
                cells(&picture.words, weights, full),
            );
        }
        out.push_str("</div>\n</div>\n");
    }
    let _ = writeln!(out, "<script type=\"application/json\" class=\"data\">{}</script>", data(picture, full));
    out.push_str("</section>\n");
}

/// The words as buttons, each with its tag; a tag that is not the right one says so.
fn chips(out: &mut String, picture: &AttentionPicture) {
    if picture.words.is_empty() {
        out.push_str("<p class=\"note\">No words.</p>\n");
        return;
    }
    out.push_str("<div class=\"words\">\n");
    for (index, word) in picture.words.iter().enumerate() {
        let of = |tags: &Option<Vec<String>>| tags.as_ref().and_then(|tags| tags.get(index)).cloned();
        let (tag, gold) = (of(&picture.tags), of(&picture.gold));
        let (class, tag, hint) = match (tag, gold) {
            (Some(tag), Some(gold)) if tag == gold => (" right", tag, String::new()),
            (Some(tag), Some(gold)) => (" wrong", format!("{tag} ≠ {gold}"), format!("given {tag}, right is {gold}")),
            (Some(tag), None) => ("", tag, String::new()),
            (None, Some(gold)) => ("", gold, String::new()),
            (None, None) => ("", String::new(), String::new()),
        };
        let _ = writeln!(
            out,
            "<button type=\"button\" class=\"word{class}\" data-word=\"{index}\" title=\"{}\">{}<span>{}</span></button>",
            escape(&hint),
            escape(word),
            escape(&tag),
        );
    }
    out.push_str("</div>\n");
}

/// What the script draws from, as JSON of numbers alone: no word enters it, so nothing in it can end the script.
fn data(picture: &AttentionPicture, full: f32) -> String {
    let mut out = format!("{{\"full\":{full},\"widths\":[");
    list(&mut out, picture.words.iter().map(|word| coordinate(pixels(word, 13.0))));
    out.push_str("],\"layers\":[");
    for (layer, heads) in picture.layers.iter().enumerate() {
        out.push_str(if layer == 0 { "[" } else { ",[" });
        for (head, weights) in heads.heads.iter().enumerate() {
            out.push_str(if head == 0 { "[" } else { ",[" });
            list(&mut out, weights.weights.iter().map(|&weight| number(weight)));
            out.push(']');
        }
        out.push(']');
    }
    out + "]}"
}

fn list(out: &mut String, items: impl Iterator<Item = String>) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&item);
    }
}

/// A weight in JSON, which has no word for what is not a number.
fn number(weight: f32) -> String {
    if !weight.is_finite() {
        return "null".to_owned();
    }
    let text = format!("{weight:.4}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        "" | "-0" => "0".to_owned(),
        short => short.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::tests::picture;
    use crate::well_formed::assert_well_formed;

    fn page(pictures: Vec<AttentionPicture>) -> AttentionPage {
        let table = Table { header: vec!["mixer".into()], rows: vec![vec!["<attention>".into()]] };
        AttentionPage {
            title: "Attention & \"order\"".into(),
            intro: vec!["One <i>idea</i>.".into()],
            tables: vec![("Results".into(), table)],
            pictures,
        }
    }

    #[test]
    fn a_page_is_well_formed_self_contained_and_the_same_twice() {
        let mut shown = picture(&["I", "saw", "a", "saw", "."], 2, 4);
        shown.tags = Some(["PRON", "VERB", "DET", "VERB", "PUNCT"].map(str::to_owned).to_vec());
        shown.gold = Some(["PRON", "VERB", "DET", "NOUN", "PUNCT"].map(str::to_owned).to_vec());
        let page = page(vec![shown, picture(&["过去", "的", "人"], 1, 1)]);
        let html = page.to_html().expect("all sizes match");
        assert_well_formed(&html);
        assert_eq!(page.to_html().as_ref(), Ok(&html));
        for outside in ["http", "src=", "href=", "@import", "url("] {
            let namespace = "http://www.w3.org/2000/svg";
            assert!(!html.replace(namespace, "").contains(outside), "{outside}");
        }
        assert_eq!(html.matches("class=\"heat\"").count(), 9);
        assert_eq!(html.matches("VERB ≠ NOUN").count(), 1);
        assert!(html.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn every_text_is_escaped() {
        let evil = "</script><script>alert(1)</script>";
        let mut shown = picture(&[evil, "\"quoted\""], 1, 1);
        shown.note = evil.into();
        shown.tags = Some(vec![evil.into(), "'".into()]);
        shown.gold = Some(vec!["X".into(), evil.into()]);
        let mut page = page(vec![shown]);
        page.title = evil.into();
        page.intro.push(evil.into());
        page.tables.push((evil.into(), Table { header: vec![evil.into()], rows: vec![vec![evil.into()]] }));
        let html = page.to_html().expect("all sizes match");
        assert_well_formed(&html);
        assert!(!html.contains("<script>alert"));
        assert_eq!(html.matches("</script>").count(), 2);
    }

    #[test]
    fn sizes_that_do_not_match_are_refused() {
        let mut wrong = picture(&["a", "b"], 1, 1);
        wrong.words.pop();
        assert!(matches!(page(vec![wrong]).to_html(), Err(ViewError::Weights { .. })));
        let mut wrong = page(Vec::new());
        wrong.tables[0].1.rows.push(Vec::new());
        assert!(matches!(wrong.to_html(), Err(ViewError::Row { .. })));
    }

    #[test]
    fn no_words_no_layers_and_no_numbers_still_make_a_page() {
        let mut odd = picture(&["a", "b"], 1, 1);
        odd.layers[0].heads[0].weights = vec![f32::NAN, 0.5, f32::NEG_INFINITY, 1e-9];
        let html = page(vec![picture(&[], 2, 2), picture(&["alone"], 0, 0), odd]).to_html().expect("all sizes match");
        assert_well_formed(&html);
        assert!(html.contains("[[[null,0.5,null,0]]]"), "{html}");
        assert!(html.contains("No words."));
        assert_well_formed(&AttentionPage::default().to_html().expect("an empty page"));
    }
}
