//! Which sentences, or which windows of a long text, go into which batch, and in what order.
//!
//! Here belongs every order that depends on a seed. What a batch holds is in [`batch`](crate::batch).

use std::ops::Range;

use qkv::random::Key;

/// How many batches' worth of sentences are sorted by length together. Wide enough that a batch's sentences are of
/// about one length, narrow enough that an epoch's batches are not the same sets every time.
const WINDOW: usize = 50;

/// Keeps the draws of an order apart from others of the same seed.
const ORDER_STREAM: u64 = 0x0BDE;

/// Keeps the draws of where a text is cut apart from others of the same seed.
const OFFSET_STREAM: u64 = 0x0FF5;

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

/// The batches of what is told in its order: every example once, each batch those that follow each other, cut where it would exceed
/// `batch_tokens`.
pub fn plan_following(lengths: &[usize], batch_tokens: usize) -> Vec<Vec<usize>> {
    cut((0..lengths.len()).collect(), lengths, batch_tokens)
}

/// The windows of a long sequence whose `tokens` are each to be seen once: `context` at a time, the first only `offset` of
/// them, the last what is left. Without an offset all but the last are whole.
///
/// # Panics
///
/// If `context` is 0.
pub fn windows(tokens: usize, context: usize, offset: usize) -> Vec<Range<usize>> {
    assert!(context > 0, "a window of nothing");
    let first = offset.min(tokens);
    let rest = (first..tokens).step_by(context).map(|start| start..tokens.min(start.saturating_add(context)));
    (first > 0).then_some(0..first).into_iter().chain(rest).collect()
}

/// The batches of one epoch over a long sequence: its [`windows`] from an offset below `context` that is drawn anew for
/// each epoch, so that what stands at the beginning of a window in one epoch has its context in the next. Shuffled and put
/// into batches as by [`plan_epoch`]. A function of its arguments alone.
///
/// # Panics
///
/// If `context` is 0.
pub fn plan_windows(
    tokens: usize,
    context: usize,
    batch_tokens: usize,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<Range<usize>>> {
    let draw = u64::from(Key::new(seed).fold(OFFSET_STREAM).bits(epoch));
    let offset = ((u128::from(draw) * context as u128) >> 32) as usize;
    let windows = windows(tokens, context, offset);
    let lengths: Vec<usize> = windows.iter().map(Range::len).collect();
    let plan = plan_epoch(&lengths, batch_tokens, seed, epoch);
    plan.into_iter().map(|batch| batch.into_iter().map(|window| windows[window].clone()).collect()).collect()
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
    #[expect(clippy::single_range_in_vec_init, reason = "a list of one window")]
    fn windows_are_whole_but_for_the_first_and_the_last() {
        assert_eq!(windows(10, 4, 0), [0..4, 4..8, 8..10]);
        assert_eq!(windows(10, 4, 3), [0..3, 3..7, 7..10]);
        assert_eq!(windows(8, 4, 0), [0..4, 4..8]);
        assert_eq!(windows(2, 4, 3), [0..2]);
        assert_eq!(windows(5, usize::MAX, 0), [0..5]);
        assert!(windows(0, 4, 3).is_empty());
    }

    #[test]
    fn every_epoch_sees_every_token_once_cut_at_another_place() {
        let mut offsets = Vec::new();
        for epoch in 0..20 {
            let plan = plan_windows(1000, 16, 64, 3, epoch);
            assert_eq!(plan, plan_windows(1000, 16, 64, 3, epoch));
            assert!(plan.iter().all(|batch| batch.iter().map(Range::len).sum::<usize>() <= 64));
            let mut seen: Vec<Range<usize>> = plan.concat();
            assert!(!seen.is_sorted_by_key(|window| window.start), "in order");
            seen.sort_by_key(|window| window.start);
            offsets.push(seen[0].end);
            assert_eq!(seen.into_iter().flatten().collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
        }
        assert!(offsets.iter().all(|offset| (1..=16).contains(offset)), "{offsets:?}");
        offsets.sort_unstable();
        offsets.dedup();
        assert!(offsets.len() > 8, "{offsets:?}");
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

    #[test]
    fn what_follows_each_other_stays_in_its_order() {
        assert_eq!(plan_following(&[3, 1, 9, 2, 0], 4), [vec![0, 1], vec![2], vec![3, 4]]);
        assert_eq!(plan_following(&[], 4), Vec::<Vec<usize>>::new());
        assert_eq!(plan_following(&[5], 4), [vec![0]]);
    }
}
