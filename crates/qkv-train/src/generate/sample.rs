//! Which unit is taken, of all that might come next.

/// How a unit is chosen by its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sampling {
    /// What logits are divided by; 0 takes the likeliest.
    pub(super) temperature: f64,
    /// How many of the likeliest are drawn from; all if `None`.
    pub(super) top_k: Option<usize>,
}

impl Sampling {
    /// The id that `draw`, uniform in `[0, 1)`, falls on. `first` is the lowest id that may be taken; of equally likely ones
    /// the lower goes first.
    pub(super) fn choose(&self, vocab_logits: &[f32], first: usize, draw: f32) -> u32 {
        let logit = |id: &usize| f64::from(vocab_logits[*id]);
        let mut ids: Vec<usize> = (first..vocab_logits.len()).collect();
        ids.sort_by(|a, b| logit(b).total_cmp(&logit(a)));
        if self.temperature > 0.0 {
            ids.truncate(self.top_k.unwrap_or(ids.len()));
        } else {
            ids.truncate(1);
        }
        let Some(likeliest) = ids.first().copied() else { return first as u32 };
        let weight = |id: &usize| match self.temperature > 0.0 {
            true => ((logit(id) - logit(&likeliest)) / self.temperature).exp(),
            false => 1.0,
        };
        let mut rest = f64::from(draw) * ids.iter().map(weight).sum::<f64>();
        for id in &ids {
            rest -= weight(id);
            if rest < 0.0 {
                return *id as u32;
            }
        }
        // What rounding left over.
        likeliest as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qkv::random::Key;

    const LOGITS: [f32; 5] = [9.0, 1.0, 3.0, 2.0, 3.0];

    #[test]
    fn without_temperature_the_likeliest_is_taken() {
        for draw in [0.0, 0.5, 0.999] {
            assert_eq!(Sampling { temperature: 0.0, top_k: None }.choose(&LOGITS, 0, draw), 0);
            assert_eq!(Sampling { temperature: 0.0, top_k: Some(3) }.choose(&LOGITS, 1, draw), 2, "the lower of two");
        }
    }

    #[test]
    fn units_are_drawn_as_often_as_they_are_likely() {
        for (temperature, top_k) in [(1.0, None), (0.5, None), (2.0, Some(3)), (1.0, Some(99))] {
            let sampling = Sampling { temperature, top_k };
            let mut counts = [0_u32; 5];
            let draws = 20_000;
            for i in 0..draws {
                counts[sampling.choose(&LOGITS, 1, Key::new(5).uniform(i)) as usize] += 1;
            }
            let kept: &[usize] = if top_k == Some(3) { &[2, 3, 4] } else { &[1, 2, 3, 4] };
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
                let id = Sampling { temperature, top_k: None }.choose(&logits, 0, draw);
                assert_eq!(id, 2, "{temperature} {draw}");
            }
        }
        assert_eq!(Sampling { temperature: 1.0, top_k: Some(1) }.choose(&[1.0], 1, 0.5), 1, "nothing to take");
    }
}
