//! A table of results: for a page, and as aligned text for a terminal.

use std::fmt::Write as _;

use crate::ViewError;
use crate::svg::{escape, width};

/// A header and rows of as many cells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Names of the columns.
    pub header: Vec<String>,
    /// The rows, first to last.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Checks that every row has as many cells as the header.
    ///
    /// # Errors
    ///
    /// [`ViewError::Row`] with the first row that has not.
    pub fn check(&self) -> Result<(), ViewError> {
        let header = self.header.len();
        match self.rows.iter().enumerate().find(|(_, row)| row.len() != header) {
            Some((row, cells)) => Err(ViewError::Row { row, header, found: cells.len() }),
            None => Ok(()),
        }
    }

    /// The table as an HTML `<table>`; columns of numbers stand to the right.
    ///
    /// # Errors
    ///
    /// As [`Table::check`].
    pub fn to_html(&self) -> Result<String, ViewError> {
        self.check()?;
        let numeric = self.numeric();
        let row = |cells: &[String], tag: &str| {
            let mut out = String::from("<tr>");
            for (cell, &numeric) in cells.iter().zip(&numeric) {
                let class = if numeric { " class=\"number\"" } else { "" };
                let _ = write!(out, "<{tag}{class}>{}</{tag}>", escape(cell));
            }
            out + "</tr>\n"
        };
        let mut out = format!("<table>\n<thead>\n{}</thead>\n<tbody>\n", row(&self.header, "th"));
        for cells in &self.rows {
            out.push_str(&row(cells, "td"));
        }
        Ok(out + "</tbody>\n</table>\n")
    }

    /// The table as lines of text, two spaces between columns, a rule under the header.
    ///
    /// # Errors
    ///
    /// As [`Table::check`].
    pub fn to_text(&self) -> Result<String, ViewError> {
        self.check()?;
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| self.lines().map(|cells| width(&cells[column])).max().unwrap_or(0))
            .collect();
        let numeric = self.numeric();
        let mut out = String::new();
        for (index, cells) in self.lines().enumerate() {
            let mut line = String::new();
            for ((cell, &wide), &numeric) in cells.iter().zip(&widths).zip(&numeric) {
                let space = " ".repeat(wide - width(cell));
                let (before, after) = if numeric { (space.as_str(), "") } else { ("", space.as_str()) };
                let _ = write!(line, "{before}{cell}{after}  ");
            }
            out.push_str(line.trim_end());
            out.push('\n');
            if index == 0 {
                let rules: Vec<String> = widths.iter().map(|&wide| "─".repeat(wide)).collect();
                out.push_str(&rules.join("  "));
                out.push('\n');
            }
        }
        Ok(out)
    }

    /// Header and rows.
    fn lines(&self) -> impl Iterator<Item = &[String]> {
        std::iter::once(&self.header).chain(&self.rows).map(Vec::as_slice)
    }

    /// Which columns hold numbers only (or nothing, or a dash).
    fn numeric(&self) -> Vec<bool> {
        let is_number = |cell: &String| {
            let bare = cell.trim().trim_end_matches(['%', 's', 'M', 'k']).trim_end();
            bare.is_empty() || bare == "-" || bare == "–" || bare.replace([',', '±', ' '], "").parse::<f64>().is_ok()
        };
        let column = |column| !self.rows.is_empty() && self.rows.iter().all(|row| is_number(&row[column]));
        (0..self.header.len()).map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::well_formed::assert_well_formed;

    fn table() -> Table {
        let strings = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect();
        Table {
            header: strings(&["mixer", "parameters", "far"]),
            rows: vec![strings(&["attention", "68,117", "100.0 %"]), strings(&["窗口 <2>", "9", "–"])],
        }
    }

    #[test]
    fn numbers_stand_to_the_right_and_text_is_escaped() {
        let html = table().to_html().expect("all rows have three cells");
        assert_well_formed(&html);
        assert!(html.contains("<td>窗口 &lt;2&gt;</td><td class=\"number\">9</td>"), "{html}");
    }

    #[test]
    fn text_columns_line_up_with_wide_characters_too() {
        let text = table().to_text().expect("all rows have three cells");
        let expected = "mixer      parameters      far\n─────────  ──────────  ───────\n\
                        attention      68,117  100.0 %\n窗口 <2>            9        –\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_row_of_another_length_is_refused() {
        let mut wrong = table();
        wrong.rows[1].pop();
        assert_eq!(wrong.to_html(), Err(ViewError::Row { row: 1, header: 3, found: 2 }));
        assert!(wrong.to_text().is_err());
    }

    #[test]
    fn a_table_of_nothing_is_a_table() {
        assert_well_formed(&Table::default().to_html().expect("no rows, no header"));
        assert_eq!(Table::default().to_text().as_deref(), Ok("\n\n"));
    }
}
