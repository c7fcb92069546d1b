//! Which unit is taken, of all that might come next.

use crate::recipe::Decoding;

/// How a unit is chosen by its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sampling {
    /// What logits are divided by; 0 takes the likeliest.
    pub(super) temperature: f64,
    /// How many of the likeliest are drawn from; all if `None`.
    pub(super) top_k: Option<usize>,
    /// What share of the probability those that are drawn from make up at least (Holtzman et al., 2020); all if `None`.
    pub(super) top_p: Option<f64>,
}

impl Sampling {
    pub(super) fn of(decoding: &Decoding) -> Self {
        Self { temperature: decoding.temperature, top_k: decoding.top_k, top_p: decoding.top_p }
    }

    /// The id that `draw`, uniform in `[0, 1)`, falls on, and the logarithm of its probability among those that were drawn from.
    /// `first` is the lowest id that may be taken; of equally likely ones the lower goes first.
    pub(super) fn choose(&self, vocab_logits: &[f32], first: usize, draw: f32) -> (u32, f64) {
        let logit = |id: &usize| f64::from(vocab_logits[*id]);
        let likelier = |a: &usize, b: &usize| logit(b).total_cmp(&logit(a)).then(a.cmp(b));
        let mut ids: Vec<usize> = (first..vocab_logits.len()).collect();
        let most = if self.temperature > 0.0 { self.top_k.unwrap_or(ids.len()) } else { 1 };
        if (1..ids.len()).contains(&most) {
            ids.select_nth_unstable_by(most - 1, likelier);
            ids.truncate(most);
        }
        ids.sort_unstable_by(likelier);
        let Some(likeliest) = ids.first().copied() else { return (first as u32, 0.0) };
        let weight = |id: &usize| match self.temperature > 0.0 {
            true => ((logit(id) - logit(&likeliest)) / self.temperature).exp(),
            false => 1.0,
        };
        let mut weights: Vec<f64> = ids.iter().map(weight).collect();
        if let Some(top_p) = self.top_p {
            let enough = top_p * weights.iter().sum::<f64>();
            let mut sum = 0.0;
            let before = |weight: &&f64| {
                let goes_on = sum < enough;
                sum += **weight;
                goes_on
            };
            let count = weights.iter().take_while(before).count();
            weights.truncate(count.max(1));
        }
        let sum = weights.iter().sum::<f64>();
        let mut rest = f64::from(draw) * sum;
        let place = weights.iter().position(|weight| {
            rest -= weight;
            rest < 0.0
        });
        // What rounding left over goes to the likeliest.
        let place = place.unwrap_or(0);
        (ids[place] as u32, (weights[place] / sum).ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qkv::random::Key;

    const ALL: Sampling = Sampling { temperature: 1.0, top_k: None, top_p: None };
    const LOGITS: [f32; 5] = [9.0, 1.0, 3.0, 2.0, 3.0];

    #[test]
    fn without_temperature_the_likeliest_is_taken() {
        for draw in [0.0, 0.5, 0.999] {
            assert_eq!(Sampling { temperature: 0.0, ..ALL }.choose(&LOGITS, 0, draw), (0, 0.0));
            assert_eq!(
                Sampling { temperature: 0.0, top_k: Some(3), ..ALL }.choose(&LOGITS, 1, draw),
                (2, 0.0),
                "the lower of two"
            );
        }
    }

    #[test]
    fn units_are_drawn_as_often_as_they_are_likely() {
        for (temperature, top_k, top_p) in [
            (1.0, None, None),
            (0.5, None, None),
            (2.0, Some(3), None),
            (1.0, Some(99), None),
            // The two likeliest, 2 and 4, have 0.70 of the probability, the third 0.26.
            (1.0, None, Some(0.8)),
        ] {
            let sampling = Sampling { temperature, top_k, top_p };
            let mut counts = [0_u32; 5];
            let draws = 20_000;
            for i in 0..draws {
                counts[sampling.choose(&LOGITS, 1, Key::new(5).uniform(i)).0 as usize] += 1;
            }
            let kept: &[usize] = if top_k == Some(3) || top_p.is_some() { &[2, 3, 4] } else { &[1, 2, 3, 4] };
            let sum: f64 = kept.iter().map(|&id| (f64::from(LOGITS[id]) / temperature).exp()).sum();
            for (id, count) in counts.iter().enumerate() {
                let wanted = if kept.contains(&id) { (f64::from(LOGITS[id]) / temperature).exp() / sum } else { 0.0 };
                let found = f64::from(*count) / draws as f64;
                assert!((wanted - found).abs() < 0.015, "{sampling:?}: {id}: {found}, not {wanted}");
            }
        }
    }

    #[test]
    fn extreme_logits_do_no_harm() {
        let logits = [f32::NEG_INFINITY, -1e30, 1e30, 0.0];
        for temperature in [0.0, 1e-9, 1.0, 1e9] {
            for draw in [0.0, 0.3, 0.999_999_9] {
                let (id, _) = Sampling { temperature, ..ALL }.choose(&logits, 0, draw);
                assert_eq!(id, 2, "{temperature} {draw}");
            }
        }
        assert_eq!(Sampling { top_k: Some(1), ..ALL }.choose(&[1.0], 1, 0.5), (1, 0.0), "nothing to take");
    }

    #[test]
    fn of_a_share_at_least_the_likeliest_is_drawn_from() {
        for top_p in [0.0, 1e-9, 0.4] {
            for draw in [0.0, 0.7, 0.999] {
                let (id, log_probability) = Sampling { top_p: Some(top_p), ..ALL }.choose(&LOGITS, 0, draw);
                assert_eq!((id, log_probability), (0, 0.0));
            }
        }
        let (_, log_probability) = Sampling { top_k: Some(2), ..ALL }.choose(&LOGITS, 1, 0.9);
        assert!((log_probability - 0.5_f64.ln()).abs() < 1e-9, "two alike");
    }
}
