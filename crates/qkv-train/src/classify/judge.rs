//! How good a model is: its outputs against what was wanted.

use std::collections::BTreeMap;

use qkv::gather::NONE;
use qkv_data::{Group, plan_in_order};
use qkv_nn::layers::Pass;
use serde_json::{Value, json};

use super::answers::{Answers, Scale, Wanted};
use super::model::ClassifyModel;
use super::several;
use crate::input::Sets;
use crate::metrics::{Confusion, mae, pearson, r_squared, rmse, roc_auc, shown, spearman};
use crate::model::Detail;
use crate::numbers::{argmax, floats};

/// What a model reached.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    /// Mean cross-entropy in nats, of the texts whose label is known; or the mean squared error in squared deviations of
    /// the training numbers.
    pub(super) loss: f64,
    /// Metrics by their usual names; the loss is not among them.
    pub(super) metrics: Vec<(&'static str, f64)>,
    /// Which label was taken for which, and what they are called.
    pub(super) confusion: Option<(Confusion, Vec<String>)>,
    /// The same of each of several things that were learned at once.
    pub(super) targets: Option<Detail>,
}

impl Reached {
    /// The table of confusions, or that of several things.
    pub(super) fn detail(&self) -> Option<Detail> {
        let confusion = self.confusion.as_ref().map(|(confusion, names)| Detail {
            name: "confusion",
            json: confusion.to_json(names),
            text: confusion.to_text(names),
        });
        confusion.or_else(|| self.targets.clone())
    }
}

/// What `model` gives for each set, `[sets, outputs]`.
pub(super) fn outputs(model: &ClassifyModel, sets: &Sets, outputs: usize, batch_tokens: usize) -> Vec<f32> {
    let mut all = vec![0.0; sets.len() * outputs];
    for indices in plan_in_order(&sets.lengths(), batch_tokens) {
        let found = outputs_of(model, sets, &indices);
        for (row, index) in found.chunks_exact(outputs).zip(indices) {
            all[index * outputs..][..outputs].copy_from_slice(row);
        }
    }
    all
}

/// The same for the sets `indices` alone, which are one batch, in their order.
pub(super) fn outputs_of(model: &ClassifyModel, sets: &Sets, indices: &[usize]) -> Vec<f32> {
    let batch = sets.batch(indices);
    floats(qkv::awake(|| model.forward(&batch, &Pass::inference())).into_data())
}

/// Judges `outputs`, which a model gave for texts of which this was `wanted`.
pub(super) fn judge(outputs: &[f32], answers: &Answers, wanted: &Wanted) -> Reached {
    match (answers, wanted) {
        (Answers::Numbers(scale), Wanted::Numbers(numbers)) => judge_numbers(outputs, *scale, numbers),
        (_, Wanted::Classes { ids, names }) => judge_classes(outputs, answers.outputs(), ids, names),
        (Answers::Several(targets), Wanted::Several(known)) => several::judge(outputs, targets, known),
        _ => unreachable!("what is wanted is of the kind of the answers"),
    }
}

/// The same of each group of texts by itself, where texts are in groups.
pub(super) fn by_group(
    outputs: &[f32],
    answers: &Answers,
    wanted: &Wanted,
    groups: &[Option<Group>],
) -> Option<Detail> {
    let mut members: BTreeMap<Group, Vec<usize>> = BTreeMap::new();
    for (place, group) in groups.iter().enumerate() {
        if let Some(group) = group {
            members.entry(*group).or_default().push(place);
        }
    }
    let by = members.keys().next()?.by;
    let (mut rows, mut lines) = (Vec::new(), String::new());
    for (group, places) in members.iter().filter(|(group, _)| group.by == by) {
        let rows_of = |place: &usize| &outputs[place * answers.outputs()..][..answers.outputs()];
        let outputs: Vec<f32> = places.iter().flat_map(rows_of).copied().collect();
        let mut reached = judge(&outputs, answers, &wanted.some(places));
        reached.metrics.push(("loss", reached.loss));
        let told: String = reached.metrics.iter().map(|(name, value)| format!("  {name} {}", shown(*value))).collect();
        let range = format!("{} to {}", group.from, group.to);
        lines += &format!("  {range:<12} {:>6} examples{told}\n", places.len());
        let mut row = json!({ "from": group.from, "to": group.to, "examples": places.len() });
        for (name, value) in reached.metrics {
            row[name] = value.into();
        }
        rows.push(row);
    }
    Some(Detail { name: by, json: Value::Array(rows), text: format!("{}\n{lines}", by.replace('_', " ")) })
}

fn judge_classes(class_logits: &[f32], classes: usize, wanted: &[u32], names: &[String]) -> Reached {
    let predicted = class_logits.chunks_exact(classes).map(argmax);
    let confusion: Confusion = wanted.iter().copied().zip(predicted).collect();
    let is_known = |label: u32| (label as usize) < classes;
    // A label that training never saw has no logit.
    let targets: Vec<u32> = wanted.iter().map(|&label| if is_known(label) { label } else { NONE }).collect();
    let mut lse = vec![0.0; targets.len()];
    let loss = qkv::loss::cross_entropy_forward(class_logits, classes, &targets, 0.0, &mut lse).loss;
    let mut metrics = vec![("accuracy", confusion.accuracy()), ("f1", confusion.macro_f1())];
    if classes == 2 {
        // The difference of the logits orders texts as the probability does, and does not come to an end at 1.
        let known = class_logits.chunks_exact(2).zip(wanted).filter(|(_, label)| is_known(**label));
        let (scores, second): (Vec<f32>, Vec<bool>) = known.map(|(z, &label)| (z[1] - z[0], label == 1)).unzip();
        metrics.push(("roc_auc", roc_auc(&second, &scores)));
    }
    Reached { loss: loss.into(), metrics, confusion: Some((confusion, names.to_vec())), targets: None }
}

fn judge_numbers(standard: &[f32], scale: Scale, wanted: &[f64]) -> Reached {
    let predicted: Vec<f64> = standard.iter().map(|&x| scale.number(x)).collect();
    let squares = standard.iter().zip(wanted).map(|(&x, &wanted)| f64::from(x - scale.standard(wanted)).powi(2));
    let metrics = vec![
        ("rmse", rmse(wanted, &predicted)),
        ("mae", mae(wanted, &predicted)),
        ("r2", r_squared(wanted, &predicted)),
        ("pearson", pearson(wanted, &predicted)),
        ("spearman", spearman(wanted, &predicted)),
    ];
    Reached { loss: squares.sum::<f64>() / wanted.len().max(1) as f64, metrics, confusion: None, targets: None }
}

#[cfg(test)]
mod tests {
    use qkv_data::LabelledText;

    use super::*;
    use crate::recipe::Task;

    fn texts(labels: &[&str]) -> Vec<LabelledText> {
        labels
            .iter()
            .map(|label| LabelledText { text: "x".into(), label: Some((*label).into()), line: 1, group: None })
            .collect()
    }

    fn judged(task: Task, train: &[&str], wanted: &[&str], outputs: &[f32]) -> (Reached, Vec<(&'static str, f64)>) {
        let answers = Answers::build(task, &texts(train), ("train", "texts")).expect("answers");
        let (wanted, _) = answers.wanted(&texts(wanted), "dev").expect("wanted");
        let reached = judge(outputs, &answers, &wanted);
        let metrics = reached.metrics.clone();
        (reached, metrics)
    }

    #[test]
    fn a_label_that_training_never_saw_counts_as_wrong_and_costs_no_loss() {
        let outputs = [0.0, 1.0, 3.0, 0.0, 5.0, 4.0];
        let (reached, metrics) = judged(Task::Classify, &["a", "b"], &["b", "a", "z"], &outputs);
        let accuracy = 2.0 / 3.0;
        // F1 of a, which was predicted for z as well, of b, and of z.
        let f1 = (2.0 / 3.0 + 1.0 + 0.0) / 3.0;
        assert_eq!(metrics, [("accuracy", accuracy), ("f1", f1), ("roc_auc", 1.0)]);
        let expected = ((1.0 + (-1.0_f64).exp()).ln() + (1.0 + (-3.0_f64).exp()).ln()) / 2.0;
        assert!((reached.loss - expected).abs() < 1e-6, "{} is not {expected}", reached.loss);
        let detail = reached.detail().expect("a table");
        assert_eq!(detail.json["mistakes"][0]["wanted"], "z");
        assert!(detail.text.contains('z'), "{}", detail.text);
    }

    #[test]
    fn each_group_is_judged_by_itself_and_what_is_in_none_is_left_out() {
        let answers = Answers::build(Task::Classify, &texts(&["a", "b", "c"]), ("train", "texts")).expect("answers");
        let (wanted, _) = answers.wanted(&texts(&["a", "b", "c", "z", "a"]), "test").expect("wanted");
        let [a, b] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
        let outputs = [a, a, b, a, a].concat();
        let group = |from: usize| Some(Group { by: "by_distance", from, to: 2 * from - 1 });
        let groups = [group(8), group(2), group(8), group(2), None];
        let detail = by_group(&outputs, &answers, &wanted, &groups).expect("groups");
        assert_eq!(detail.name, "by_distance");
        let row = |from: usize, right: f64| (json!([from, 2 * from - 1, 2]), right);
        let found: Vec<(Value, f64)> = detail
            .json
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| (json!([row["from"], row["to"], row["examples"]]), row["accuracy"].as_f64().expect("a share")))
            .collect();
        assert_eq!(found, [row(2, 0.0), row(8, 0.5)]);
        assert!(
            detail.text.starts_with("by distance\n  2 to 3 ") && detail.text.lines().count() == 3,
            "{}",
            detail.text
        );
        assert_eq!(by_group(&outputs, &answers, &wanted, &[None; 5]), None);
    }

    #[test]
    fn numbers_are_judged_by_group_as_well() {
        let answers =
            Answers::build(Task::Regress, &texts(&["100", "200", "300"]), ("train", "texts")).expect("answers");
        let (wanted, _) = answers.wanted(&texts(&["100", "400"]), "test").expect("wanted");
        let groups = [1, 2].map(|from| Some(Group { by: "by_distance", from, to: from }));
        let detail = by_group(&[-2.0, 2.0], &answers, &wanted, &groups).expect("groups");
        assert_eq!([0, 1].map(|row| detail.json[row]["rmse"].as_f64().expect("a number")), [100.0, 0.0]);
    }

    #[test]
    fn more_than_two_classes_have_no_roc_curve() {
        let (_, metrics) = judged(Task::Classify, &["a", "b", "c"], &["a"], &[1.0, 0.0, 0.0]);
        assert_eq!(metrics, [("accuracy", 1.0), ("f1", 1.0)]);
    }

    #[test]
    fn numbers_are_judged_in_their_own_unit() {
        // Mean 200, deviation 100.
        let (reached, metrics) = judged(Task::Regress, &["100", "200", "300"], &["100", "400"], &[-2.0, 1.0]);
        assert_eq!(metrics.len(), 5);
        assert_eq!(metrics[0], ("rmse", 100.0));
        assert_eq!(metrics[1], ("mae", 100.0));
        assert!((metrics[2].1 - (1.0 - 20_000.0 / 45_000.0)).abs() < 1e-12);
        for (place, name) in [(3, "pearson"), (4, "spearman")] {
            assert!(metrics[place].0 == name && (metrics[place].1 - 1.0).abs() < 1e-12, "{metrics:?}");
        }
        assert_eq!((reached.loss, reached.detail()), (1.0, None));
    }
}
