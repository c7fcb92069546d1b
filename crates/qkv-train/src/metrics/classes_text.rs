//! A table of confusions as text, for a terminal.

use super::classes::{ClassCounts, Confusion, Mistake, class_name};
use super::share;

/// A table that would be wider than this many columns is not drawn.
const WIDEST: usize = 100;
/// Longer names are cut, in the table and in the list.
pub(super) const LONGEST_NAME: [usize; 2] = [12, 32];
/// So many mistakes are listed where the table is not drawn.
const LISTED: usize = 10;

impl Confusion {
    /// The table, a row for each class that was wanted, a column for each that was predicted, a point for none, with
    /// recall, precision and, in the corner, accuracy at its borders, in percent. With so many classes that it would be
    /// wider than 100 columns, the ten commonest mistakes instead. Every line ends in `\n`.
    ///
    /// A class is called by its name, or by its id if `names` has none for it. Long names are cut.
    pub fn to_text(&self, names: &[String]) -> String {
        let classes = self.classes();
        if classes.is_empty() {
            return "there is nothing to compare\n".to_owned();
        }
        // Without a look at the cells: a column takes at least five characters, and thousands of classes many cells.
        let few = classes.len() <= WIDEST / 5;
        let table = few.then(|| aligned(&self.cells(&classes, names), &[0]));
        let fits = |text: &String| text.lines().all(|line| line.chars().count() <= WIDEST);
        table.filter(fits).unwrap_or_else(|| self.list(&classes, names))
    }

    fn cells(&self, classes: &[ClassCounts], names: &[String]) -> Vec<Vec<String>> {
        let name = |class: &ClassCounts| cut(&class_name(names, class.class), LONGEST_NAME[0]);
        let around =
            |first: &str, middle: Vec<String>, last: String| [vec![first.to_owned()], middle, vec![last]].concat();
        let mut rows = vec![around("wanted \\ predicted", classes.iter().map(name).collect(), "recall %".to_owned())];
        for wanted in classes {
            let count = |predicted: &ClassCounts| match self.count(wanted.class, predicted.class) {
                0 => ".".to_owned(),
                count => count.to_string(),
            };
            rows.push(around(&name(wanted), classes.iter().map(count).collect(), percent(wanted.recall())));
        }
        let precisions = classes.iter().map(|class| percent(class.precision())).collect();
        rows.push(around("precision %", precisions, percent(self.accuracy())));
        rows
    }

    fn list(&self, classes: &[ClassCounts], names: &[String]) -> String {
        let mistakes = self.mistakes();
        let text = format!("{} classes, {} of {} right", classes.len(), self.right(), self.examples());
        if mistakes.is_empty() {
            return text + "\n";
        }
        let name = |class| cut(&class_name(names, class), LONGEST_NAME[1]);
        let mut rows = vec![["count", "% of wanted", "wanted", "predicted"].map(str::to_owned).to_vec()];
        for &Mistake { wanted, predicted, count } in mistakes.iter().take(LISTED) {
            let all = classes.iter().find(|class| class.class == wanted).map_or(0, |class| class.wanted);
            rows.push(vec![count.to_string(), percent(share(count, all)), name(wanted), name(predicted)]);
        }
        text + "; the commonest mistakes:\n" + &aligned(&rows, &[2, 3])
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// A name of at most `longest` characters, on one line whatever it holds.
pub(super) fn cut(name: &str, longest: usize) -> String {
    let plain = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    match name.chars().count() <= longest {
        true => name.chars().map(plain).collect(),
        false => name.chars().map(plain).take(longest - 1).chain(['…']).collect(),
    }
}

/// Lines of cells, two spaces apart, each as wide as the widest of its column: to the left in the columns `left`, else
/// to the right. All rows have as many cells.
pub(super) fn aligned(rows: &[Vec<String>], left: &[usize]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cell = |(column, (cell, &width)): (usize, (&String, &usize))| match left.contains(&column) {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        };
        let cells: Vec<String> = row.iter().zip(&widths).enumerate().map(cell).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_few_classes_are_a_table() {
        let mut confusion: Confusion = [(0, 1), (1, 1), (1, 0), (2, 1)].into_iter().collect();
        (0..120).for_each(|_| confusion.add(0, 0));
        let expected = "\
wanted \\ predicted  NOUN  VERB    2  recall %
NOUN                 120     1    .      99.2
VERB                   1     1    .      50.0
2                      .     1    .       0.0
precision %         99.2  33.3  0.0      97.6
";
        assert_eq!(confusion.to_text(&names(&["NOUN", "VERB"])), expected);
    }

    #[test]
    fn long_names_are_cut_and_stay_on_their_line() {
        let confusion: Confusion = [(0, 0), (1, 1)].into_iter().collect();
        let text = confusion.to_text(&names(&["überaus lange Bezeichnung", "a\nb\u{1b}[31m"]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "wanted \\ predicted  überaus lan…  a\u{fffd}b\u{fffd}[31m  recall %");
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
    }

    #[test]
    fn many_classes_are_a_list_of_the_commonest_mistakes() {
        let mut confusion: Confusion = (0..40).map(|class| (class, class)).collect();
        for class in 0..15 {
            (0..=class).for_each(|_| confusion.add(class, class + 1));
        }
        let text = confusion.to_text(&names(&["a"; 15]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "40 classes, 40 of 160 right; the commonest mistakes:");
        assert_eq!(lines[1], "count  % of wanted  wanted  predicted");
        assert_eq!(lines[2], "   15         93.8  a       15");
        assert_eq!(lines[11], "    6         85.7  a       a");
        assert_eq!(lines.len(), 12);
    }

    #[test]
    fn a_table_that_is_too_wide_is_not_drawn() {
        let confusion = |classes: u32| (0..classes).map(|class| (class, class)).collect::<Confusion>();
        let long = vec!["x".repeat(20); 20];
        assert_eq!(confusion(5).to_text(&long).lines().count(), 7);
        assert_eq!(confusion(6).to_text(&long), "6 classes, 6 of 6 right\n");
        assert_eq!(confusion(5_000).to_text(&[]), "5000 classes, 5000 of 5000 right\n");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert_eq!(Confusion::default().to_text(&[]), "there is nothing to compare\n");
    }
}
