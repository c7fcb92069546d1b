//! The learning rate, a function of how much of the run is done.

use crate::recipe::{Decay, Training};

/// The rate at `progress` (0 at the start, 1 at the end): a linear warm-up, then the decay.
pub fn learning_rate(training: &Training, progress: f64) -> f64 {
    let (peak, warmup) = (training.learning_rate, training.warmup);
    if progress < warmup {
        // Not 0 at the very first step, which would be lost.
        return peak * ((progress + 1e-3) / (warmup + 1e-3)).min(1.0);
    }
    let rest = ((progress - warmup) / (1.0 - warmup)).clamp(0.0, 1.0);
    match training.decay {
        Decay::None => peak,
        Decay::Linear => peak * (1.0 - rest),
        Decay::Cosine => peak * 0.5 * (1.0 + (std::f64::consts::PI * rest).cos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_nothing() {
        for decay in [Decay::Linear, Decay::Cosine] {
            let training = Training { learning_rate: 2.0, warmup: 0.1, decay, ..Training::default() };
            let rates: Vec<f64> = (0..=100).map(|i| learning_rate(&training, f64::from(i) / 100.0)).collect();
            assert!(rates[0] > 0.0 && rates[0] < 0.1);
            assert!(rates[..11].windows(2).all(|w| w[0] < w[1]), "rises: {rates:?}");
            assert!(rates[10..].windows(2).all(|w| w[0] > w[1]), "falls: {rates:?}");
            assert_eq!(rates[10], 2.0);
            assert!(rates[100].abs() < 1e-9);
        }
        let constant = Training { decay: Decay::None, warmup: 0.0, ..Training::default() };
        assert_eq!(learning_rate(&constant, 0.0), learning_rate(&constant, 0.9));
    }
}
