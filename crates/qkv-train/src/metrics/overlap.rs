//! How well areas are found: intersection over union of the pixels that were given a class and of those that are of it.
//!
//! ```text
//! IoU of class c = pixels of c that were given c / (pixels of c + pixels that were given c - the former)
//! ```
//!
//! The measure of Jaccard (1912); its mean over classes is how pictures' pixels are judged since PASCAL VOC (Everingham et al.,
//! 2015). Pixels of all pictures are counted together, so a class counts the same in a picture where it is small.

use serde_json::{Value, json};

use super::classes::{ClassCounts, Confusion, class_name};
use super::classes_text::{LONGEST_NAME, aligned, cut, percent};
use super::{mean, share};

impl ClassCounts {
    /// How often it was both wanted and predicted, of the times that it was either; 0 if it was neither.
    pub fn iou(&self) -> f64 {
        share(self.right, self.wanted + self.predicted - self.right)
    }
}

impl Confusion {
    /// The mean IoU of the classes that were wanted or predicted; 0 of none.
    pub fn mean_iou(&self) -> f64 {
        mean(self.classes().iter().map(ClassCounts::iou))
    }

    /// The IoU of each class that was wanted or predicted, with the counts that it comes from.
    pub fn iou_to_json(&self, names: &[String]) -> Value {
        let class = |class: &ClassCounts| {
            json!({
                "name": class_name(names, class.class),
                "iou": class.iou(),
                "wanted": class.wanted,
                "predicted": class.predicted,
                "right": class.right,
            })
        };
        self.classes().iter().map(class).collect()
    }

    /// The same as a table: a line for each class, percent of a hundred, and how many pixels were of it and were said to be.
    pub fn iou_to_text(&self, names: &[String]) -> String {
        let mut rows = vec![["class", "IoU %", "wanted", "predicted"].map(str::to_owned).to_vec()];
        rows.extend(self.classes().iter().map(|class| {
            let name = cut(&class_name(names, class.class), LONGEST_NAME[1]);
            vec![name, percent(class.iou()), class.wanted.to_string(), class.predicted.to_string()]
        }));
        aligned(&rows, &[0])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_figures() {
        // Wanted 0 0 0 1 1 3, found 0 0 1 1 2 1: of 0 two of three, of 1 one of four, of 2 and 3 none.
        let confusion: Confusion = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (3, 1)].into_iter().collect();
        let found: Vec<f64> = confusion.classes().iter().map(ClassCounts::iou).collect();
        assert_eq!(found, [2.0 / 3.0, 0.25, 0.0, 0.0]);
        assert!((confusion.mean_iou() - (2.0 / 3.0 + 0.25) / 4.0).abs() < 1e-12);
        assert_eq!(Confusion::default().mean_iou(), 0.0);
        let names = ["sea".to_owned(), "sky\n".to_owned()];
        let expected = "\
class  IoU %  wanted  predicted
sea     66.7       3          2
sky\u{fffd}    25.0       2          3
2        0.0       0          1
3        0.0       1          0
";
        assert_eq!(confusion.iou_to_text(&names), expected);
        let json = confusion.iou_to_json(&names);
        assert_eq!(json[1], json!({"name": "sky\n", "iou": 0.25, "wanted": 2, "predicted": 3, "right": 1}));
    }

    proptest! {
        #[test]
        fn iou_is_of_sets(pairs in prop::collection::vec((0u32..4, 0u32..4), 0..40)) {
            let mut confusion = Confusion::default();
            for wanted in 0..4 {
                for predicted in 0..4 {
                    let of_kind = pairs.iter().filter(|&&pair| pair == (wanted, predicted)).count();
                    confusion.add_many(wanted, predicted, of_kind);
                }
            }
            prop_assert_eq!(&confusion, &pairs.iter().copied().collect());
            for counts in confusion.classes() {
                let [both, either] = [
                    pairs.iter().filter(|(w, p)| *w == counts.class && *p == counts.class).count(),
                    pairs.iter().filter(|(w, p)| *w == counts.class || *p == counts.class).count(),
                ];
                prop_assert!(either > 0 && (counts.iou() - both as f64 / either as f64).abs() < 1e-12);
            }
            let mean = confusion.mean_iou();
            prop_assert!((0.0..=1.0).contains(&mean));
            prop_assert_eq!(mean == 1.0, !pairs.is_empty() && pairs.iter().all(|(w, p)| w == p));
        }
    }
}
