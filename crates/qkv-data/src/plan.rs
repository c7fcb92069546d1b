//! Which sentences go into which batch, and in what order.
//!
//! Here belongs every order that depends on a seed. What a batch holds is in [`batch`](crate::batch).

use qkv::random::Key;

/// How many batches' worth of sentences are sorted by length together. Wide enough that a batch's sentences are of
/// about one length, narrow enough that an epoch's batches are not the same sets every time.
const WINDOW: usize = 50;

/// Keeps the draws of an order apart from others of the same seed.
const ORDER_STREAM: u64 = 0x0BDE;

/// The batches of one epoch: every sentence once, each batch of about equally long sentences.
///
/// Shuffles all sentences, cuts them into windows of about fifty batches, sorts each window by length, cuts it where a
/// batch would exceed `batch_tokens`, and shuffles the batches. A sentence longer than `batch_tokens` is a batch of its
/// own. The plan is a function of its arguments alone.
pub fn plan_epoch(lengths: &[usize], batch_tokens: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let key = Key::new(seed).fold(ORDER_STREAM).fold(epoch);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    shuffle(&mut order, key.fold(0));
    let mut batches = Vec::new();
    for mut window in cut(order, lengths, batch_tokens.saturating_mul(WINDOW)) {
        window.sort_by_key(|&index| lengths[index]);
        batches.extend(cut(window, lengths, batch_tokens));
    }
    shuffle(&mut batches, key.fold(1));
    batches
}

/// The batches of an evaluation: every sentence once, from short to long, cut where a batch would exceed
/// `batch_tokens`. Results are put back in order by the indices.
pub fn plan_in_order(lengths: &[usize], batch_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    cut(order, lengths, batch_tokens)
}

/// Cuts `order` into runs whose lengths sum to no more than `limit`, unless a single one is longer.
fn cut(order: Vec<usize>, lengths: &[usize], limit: usize) -> Vec<Vec<usize>> {
    let mut runs = Vec::new();
    let mut run = Vec::new();
    let mut tokens = 0usize;
    for index in order {
        if !run.is_empty() && tokens.saturating_add(lengths[index]) > limit {
            runs.push(std::mem::take(&mut run));
            tokens = 0;
        }
        tokens = tokens.saturating_add(lengths[index]);
        run.push(index);
    }
    if !run.is_empty() {
        runs.push(run);
    }
    runs
}

/// Fisher and Yates's shuffle, its numbers drawn from `key`.
pub(crate) fn shuffle<T>(items: &mut [T], key: Key) {
    for last in (1..items.len()).rev() {
        // A 32-bit draw scaled to 0..=last: the bias is below last / 2^32, nothing beside what an epoch shows.
        let draw = u64::from(key.bits(last as u64));
        items.swap(last, ((draw * (last as u64 + 1)) >> 32) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_sentence_is_in_exactly_one_batch_within_the_limit(
            lengths in prop::collection::vec(0usize..60, 0..400),
            batch_tokens in 0usize..120,
            seed: u64,
            epoch in 0u64..5,
        ) {
            for plan in [plan_epoch(&lengths, batch_tokens, seed, epoch), plan_in_order(&lengths, batch_tokens)] {
                let mut seen: Vec<usize> = plan.iter().flatten().copied().collect();
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
                for batch in &plan {
                    let tokens: usize = batch.iter().map(|&index| lengths[index]).sum();
                    prop_assert!(tokens <= batch_tokens || batch.iter().filter(|&&index| lengths[index] > 0).count() == 1);
                    prop_assert!(!batch.is_empty());
                }
            }
            prop_assert_eq!(
                plan_epoch(&lengths, batch_tokens, seed, epoch),
                plan_epoch(&lengths, batch_tokens, seed, epoch)
            );
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let lengths: Vec<usize> = (0..500).map(|index| 1 + index * 7 % 40).collect();
        let plan = plan_epoch(&lengths, 100, 1, 0);
        assert_ne!(plan, plan_epoch(&lengths, 100, 1, 1));
        assert_ne!(plan, plan_epoch(&lengths, 100, 2, 0));
        let sets = |plan: &[Vec<usize>]| {
            let mut sets: Vec<Vec<usize>> = plan.to_vec();
            sets.iter_mut().for_each(|set| set.sort_unstable());
            sets.sort();
            sets
        };
        assert_ne!(sets(&plan), sets(&plan_epoch(&lengths, 100, 1, 1)), "the same sets, only in another order");
    }

    #[test]
    fn batches_are_well_filled_and_of_like_lengths() {
        let lengths: Vec<usize> = (0..5000).map(|index| 1 + index * 7919 % 50).collect();
        let plan = plan_epoch(&lengths, 1000, 3, 0);
        let ideal = lengths.iter().sum::<usize>().div_ceil(1000);
        assert!(plan.len() <= ideal + ideal / 10, "{} batches where {ideal} would do", plan.len());
        let spread: usize = plan
            .iter()
            .map(|batch| {
                let of = |index: &usize| lengths[*index];
                batch.iter().map(of).max().unwrap() - batch.iter().map(of).min().unwrap()
            })
            .sum();
        assert!(spread < plan.len() * 5, "mean spread {}", spread as f64 / plan.len() as f64);
    }

    #[test]
    fn an_epoch_does_not_go_from_short_to_long() {
        // All in one window, so that without the last shuffle the lengths would only rise.
        let lengths: Vec<usize> = (1..=40).collect();
        let firsts: Vec<usize> = plan_epoch(&lengths, 60, 5, 0).iter().map(|batch| lengths[batch[0]]).collect();
        assert!(!firsts.is_sorted(), "{firsts:?}");
    }

    #[test]
    fn plan_in_order_goes_from_short_to_long() {
        assert_eq!(plan_in_order(&[3, 1, 9, 2, 0], 4), [vec![4, 1, 3], vec![0], vec![2]]);
    }

    #[test]
    fn shuffle_reaches_every_place() {
        let mut counts = [[0usize; 4]; 4];
        for seed in 0..4000 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut items, Key::new(seed));
            items.iter().enumerate().for_each(|(place, &item)| counts[place][item] += 1);
        }
        assert!(counts.iter().flatten().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
