//! Rankings: what is recommended to somebody, and how high what they really chose next stands among it.

use qkv::gather::NONE;
use qkv_data::plan_in_order;

use super::histories::{Case, Query};
use super::model::RecommendModel;
use crate::metrics::Ranks;
use crate::recipe::Recipe;

/// The rank of what cannot be recommended at all.
const MISSED: usize = usize::MAX;

/// How many items are recommended, unless another number is asked for; metrics look at so many.
pub(super) const TOP: usize = 10;

/// What a model reached on held-out items.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    ranks: Ranks,
    /// Mean cross-entropy of the held-out items that the model knows, over all items.
    pub(super) loss: f64,
}

impl Reached {
    /// All but the loss, by their usual names.
    pub(super) fn metrics(&self) -> Vec<(&'static str, f64)> {
        let ranks = &self.ranks;
        vec![("hr@10", ranks.hit_rate(TOP)), ("ndcg@10", ranks.ndcg(TOP)), ("mrr", ranks.mean_reciprocal_rank())]
    }
}

/// How items are ranked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranking {
    /// Whether what was chosen before is recommended, too.
    seen: bool,
    context: usize,
    batch_tokens: usize,
}

impl Ranking {
    pub(super) fn of(recipe: &Recipe) -> Self {
        let decoding = &recipe.decoding;
        Self { seen: decoding.seen, context: recipe.model.context, batch_tokens: decoding.batch_tokens }
    }

    /// Judges `model` on `cases`.
    pub(super) fn judge(self, model: &RecommendModel, cases: &[Case]) -> Reached {
        let (mut ranks, mut loss, mut counted) = (vec![MISSED; cases.len()], 0.0, 0);
        let queries: Vec<&Query> = cases.iter().map(|case| &case.query).collect();
        self.for_each_batch(model, &queries, |batch, rows, items| {
            let targets: Vec<u32> = batch.iter().map(|&number| cases[number].next.unwrap_or(NONE)).collect();
            let mut lse = vec![0.0; targets.len()];
            let part = qkv::loss::cross_entropy_forward(rows, items, &targets, 0.0, &mut lse);
            loss += f64::from(part.loss) * part.counted as f64;
            counted += part.counted;
            for (&number, row) in batch.iter().zip(rows.chunks_exact(items)) {
                let Some(next) = cases[number].next else { continue };
                let excluded = self.excluded(queries[number], items);
                if !excluded[next as usize] {
                    ranks[number] = crate::metrics::rank_of(row, next as usize, |item| excluded[item]);
                }
            }
        });
        let mut reached =
            Reached { loss: if counted == 0 { 0.0 } else { loss / counted as f64 }, ..Reached::default() };
        reached.ranks.extend(ranks);
        reached
    }

    /// The `count` items that each is likeliest to choose next, best first, with their probability among all that may be
    /// recommended.
    pub(super) fn recommend(self, model: &RecommendModel, queries: &[&Query], count: usize) -> Vec<Vec<(u32, f64)>> {
        let mut answers = vec![Vec::new(); queries.len()];
        self.for_each_batch(model, queries, |batch, rows, items| {
            for (&number, row) in batch.iter().zip(rows.chunks_exact(items)) {
                answers[number] = likeliest(row, &self.excluded(queries[number], items), count);
            }
        });
        answers
    }

    /// Calls `look` with each batch: the numbers of its queries, their rows of logits, and how long a row is.
    fn for_each_batch(self, model: &RecommendModel, queries: &[&Query], mut look: impl FnMut(&[usize], &[f32], usize)) {
        let length = |query: &&Query| (1 + query.history.len()).min(self.context);
        let lengths: Vec<usize> = queries.iter().map(length).collect();
        for batch in plan_in_order(&lengths, self.batch_tokens) {
            let these: Vec<&Query> = batch.iter().map(|&number| queries[number]).collect();
            let rows = qkv::awake(|| model.item_logits(&these));
            look(&batch, &rows, rows.len() / batch.len());
        }
    }

    /// Which items are not to be recommended.
    fn excluded(self, query: &Query, items: usize) -> Vec<bool> {
        let mut excluded = vec![false; items];
        if !self.seen {
            query.history.iter().for_each(|&item| excluded[item as usize] = true);
        }
        excluded
    }
}

/// The `count` highest that are not excluded, with their softmax; of equals the first goes first.
fn likeliest(row: &[f32], excluded: &[bool], count: usize) -> Vec<(u32, f64)> {
    let mut items: Vec<u32> = (0..row.len() as u32).filter(|&item| !excluded[item as usize]).collect();
    items.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
    let highest = items.first().map_or(0.0, |&item| f64::from(row[item as usize]));
    let weight = |item: u32| (f64::from(row[item as usize]) - highest).exp();
    let sum: f64 = items.iter().map(|&item| weight(item)).sum();
    items.into_iter().take(count).map(|item| (item, weight(item) / sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::model::RecommendSizes;
    use super::*;
    use burn::tensor::Device;
    use qkv_nn::layers::Init;

    fn popularity() -> (RecommendModel, Recipe) {
        let mut recipe = Recipe::default();
        for assignment in ["model.task=generate", "input.unit=items", "model.mixer=popularity"] {
            recipe.set(assignment).expect(assignment);
        }
        let sizes = RecommendSizes { users: 0, items: 4, shares: vec![0.4, 0.1, 0.3, 0.2] };
        (RecommendModel::new(&recipe, &sizes, &Init::new(1, &Device::flex())), recipe)
    }

    fn case(history: &[u32], next: Option<u32>) -> Case {
        Case { query: Query { user: None, history: history.to_vec() }, next }
    }

    #[test]
    fn what_was_chosen_before_is_out_of_the_ranking_unless_it_is_wanted() {
        let (model, mut recipe) = popularity();
        let cases = [case(&[0, 2], Some(3)), case(&[], Some(1)), case(&[2], Some(2)), case(&[1], None)];
        let mrr = |recipe: &Recipe| {
            let reached = Ranking::of(recipe).judge(&model, &cases);
            let expected = [0.2_f64, 0.1, 0.3].iter().map(|share| -share.ln()).sum::<f64>() / 3.0;
            assert!((reached.loss - expected).abs() < 1e-6, "{} {expected}", reached.loss);
            reached.metrics()[2].1
        };
        // Ranks 1 and 4, and two that are missed.
        assert!((mrr(&recipe) - (1.0 + 0.25) / 4.0).abs() < 1e-9);
        recipe.decoding.seen = true;
        // Ranks 3, 4 and 2, and one that is unknown.
        assert!((mrr(&recipe) - (1.0 / 3.0 + 0.25 + 0.5) / 4.0).abs() < 1e-9);
        recipe.decoding.batch_tokens = 1;
        assert!((mrr(&recipe) - (1.0 / 3.0 + 0.25 + 0.5) / 4.0).abs() < 1e-9, "the batches do not matter");
    }

    #[test]
    fn the_likeliest_come_first_with_their_share_of_what_may_be() {
        let (model, recipe) = popularity();
        let cases = [case(&[0], None), case(&[0, 1, 2, 3], None)];
        let queries: Vec<&Query> = cases.iter().map(|case| &case.query).collect();
        let answers = Ranking::of(&recipe).recommend(&model, &queries, 2);
        let found: Vec<u32> = answers[0].iter().map(|(item, _)| *item).collect();
        assert_eq!(found, [2, 3]);
        assert!((answers[0][0].1 - 0.5).abs() < 1e-6 && (answers[0][1].1 - 1.0 / 3.0).abs() < 1e-6, "{answers:?}");
        assert!(answers[1].is_empty(), "who has seen it all is recommended nothing");
    }
}
