//! Where a ranking puts the one item that is right, as when the last that a user chose is held out.

use super::{mean, share};

/// The rank, counted from 1, of `item` among all whose index is not `excluded`; the item itself takes part in any case.
///
/// Others of the same score stand before it: a model that gives all the same is no good, and gets no credit. A NaN
/// never wins: as another's score it stands behind every number, and as the item's own behind everything.
///
/// # Panics
///
/// If there is no score of `item`.
pub fn rank_of(scores: &[f32], item: usize, excluded: impl Fn(usize) -> bool) -> usize {
    let own = scores[item];
    let stands_before =
        |(other, score): (usize, &f32)| other != item && (*score >= own || own.is_nan()) && !excluded(other);
    1 + scores.iter().enumerate().filter(|&entry| stands_before(entry)).count()
}

/// The ranks of the right items of many queries, and what rankings are judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranks {
    ranks: Vec<usize>,
}

impl Ranks {
    /// Adds one more query, whose right item has the `rank`, counted from 1.
    ///
    /// # Panics
    ///
    /// If the rank is 0.
    pub fn add(&mut self, rank: usize) {
        assert!(rank > 0, "ranks are counted from 1");
        self.ranks.push(rank);
    }

    /// How many queries there are.
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// HR@k: the share of queries whose right item is among the first `k`; 0 of none.
    pub fn hit_rate(&self, k: usize) -> f64 {
        share(self.ranks.iter().filter(|&&rank| rank <= k).count(), self.ranks.len())
    }

    /// NDCG@k (Järvelin and Kekäläinen, 2002) with one right item: the mean of `1 / log2(rank + 1)`, taken as 0 beyond
    /// the first `k`; 0 of none.
    pub fn ndcg(&self, k: usize) -> f64 {
        self.mean(|rank| if rank <= k { 1.0 / (rank as f64 + 1.0).log2() } else { 0.0 })
    }

    /// MRR, the mean of `1 / rank`; 0 of none, and of a rank of [`usize::MAX`], which says that the item cannot be ranked.
    pub fn mean_reciprocal_rank(&self) -> f64 {
        self.mean(|rank| if rank == usize::MAX { 0.0 } else { 1.0 / rank as f64 })
    }

    fn mean(&self, gain: impl Fn(usize) -> f64) -> f64 {
        mean(self.ranks.iter().map(|&rank| gain(rank)))
    }
}

impl Extend<usize> for Ranks {
    fn extend<I: IntoIterator<Item = usize>>(&mut self, ranks: I) {
        ranks.into_iter().for_each(|rank| self.add(rank));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rank_counts_those_before() {
        let scores = [0.1, 0.9, 0.5, 0.7];
        assert_eq!([0, 1, 2, 3].map(|item| rank_of(&scores, item, |_| false)), [4, 1, 3, 2]);
        assert_eq!(rank_of(&scores, 2, |other| other == 1), 2, "what is excluded does not stand before");
        assert_eq!(rank_of(&scores, 2, |_| true), 1, "the item itself takes part in any case");
        assert_eq!(rank_of(&[3.0], 0, |_| false), 1);
    }

    #[test]
    fn equal_scores_stand_before() {
        assert_eq!(rank_of(&[0.5; 4], 0, |_| false), 4);
        assert_eq!(rank_of(&[0.0, -0.0], 0, |_| false), 2);
        assert_eq!(rank_of(&[f32::NEG_INFINITY; 3], 1, |other| other == 0), 2);
    }

    #[test]
    fn nan_never_wins() {
        let nan = f32::NAN;
        assert_eq!(rank_of(&[nan, 0.1, nan], 1, |_| false), 1);
        assert_eq!(rank_of(&[nan, 0.1, f32::NEG_INFINITY], 0, |_| false), 3);
        assert_eq!(rank_of(&[nan, nan], 0, |_| false), 2);
        assert_eq!(rank_of(&[f32::NEG_INFINITY, nan], 0, |_| false), 1);
    }

    #[test]
    fn known_figures() {
        let mut ranks = Ranks::default();
        ranks.extend([1, 3, 7, 20]);
        assert_eq!((ranks.len(), ranks.is_empty()), (4, false));
        assert_eq!([0, 1, 3, 10, 100].map(|k| ranks.hit_rate(k)), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!([0, 1, 3, 10].map(|k| ranks.ndcg(k)), [0.0, 0.25, 0.375, (1.0 + 0.5 + 1.0 / 3.0) / 4.0]);
        assert!((ranks.mean_reciprocal_rank() - (1.0 + 1.0 / 3.0 + 1.0 / 7.0 + 0.05) / 4.0).abs() < 1e-15);
        let mut none = Ranks::default();
        none.add(usize::MAX);
        assert_eq!([none.mean_reciprocal_rank(), none.hit_rate(10), none.ndcg(10)], [0.0; 3]);
    }

    #[test]
    fn no_queries_give_zero() {
        let ranks = Ranks::default();
        assert_eq!((ranks.hit_rate(10), ranks.ndcg(10), ranks.mean_reciprocal_rank()), (0.0, 0.0, 0.0));
    }

    #[test]
    #[should_panic(expected = "counted from 1")]
    fn there_is_no_rank_zero() {
        Ranks::default().add(0);
    }

    proptest! {
        #[test]
        fn rank_is_the_last_place_of_equals_in_a_sorted_list(
            scores in prop::collection::vec((0u8..8).prop_map(f32::from), 1..20),
            excluded in prop::collection::vec(any::<bool>(), 20),
            item: prop::sample::Index,
        ) {
            let item = item.index(scores.len());
            let taking_part = (0..scores.len()).filter(|&other| other == item || !excluded[other]);
            let mut sorted: Vec<f32> = taking_part.map(|other| scores[other]).collect();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let last = sorted.iter().rposition(|&score| score == scores[item]).map(|place| place + 1);
            prop_assert_eq!(Some(rank_of(&scores, item, |other| excluded[other])), last);
        }
    }
}
