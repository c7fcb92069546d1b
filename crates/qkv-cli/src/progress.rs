//! What a run shows while it lasts: a live display on a terminal, one plain line an epoch in a pipe. All on standard error.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qkv_train::metrics::shown;
use qkv_train::trainer::{EpochRecord, Observer, Progress};

/// Watches training runs.
pub(crate) struct Display {
    live: Option<ProgressBar>,
    /// What stands before each line: which of several runs it is.
    name: String,
    /// Whether finished epochs are told line by line.
    epochs: bool,
    /// The best epoch so far: the dev metric that decides, and what it was.
    best: Option<(String, f64)>,
    /// Steps that were done before this process began, as a resumed run has.
    before: Option<u64>,
    tokens: u64,
}

impl Display {
    /// A display whose lines begin with `name`.
    pub(crate) fn new(name: &str, epochs: bool) -> Self {
        let live = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix}{wide_bar:.cyan/238} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(if name.is_empty() { String::new() } else { format!("{name}  ") });
            bar
        });
        Self { live, name: name.to_string(), epochs, best: None, before: None, tokens: 0 }
    }

    /// Shows a line that stays.
    pub(crate) fn line(&self, text: &str) {
        match &self.live {
            Some(bar) => bar.println(text),
            None => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        }
    }

    /// Takes the live line off the screen.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.live {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Display {
    fn step(&mut self, progress: &Progress) {
        self.tokens += progress.tokens as u64;
        let Some(bar) = &self.live else { return };
        let (done, all) = (progress.step, progress.steps.max(progress.step));
        bar.set_length(all);
        bar.set_position(done);
        let before = *self.before.get_or_insert(done.saturating_sub(1));
        let elapsed = bar.elapsed().as_secs_f64();
        let rate = self.tokens as f64 / elapsed.max(1e-9);
        let left = elapsed / done.saturating_sub(before).max(1) as f64 * (all - done) as f64;
        let best =
            self.best.as_ref().map_or(String::new(), |(name, best)| format!(" · best dev {name} {}", shown(*best)));
        bar.set_message(format!(
            "epoch {}/{} · loss {:.4}{best} · {} vectors/s · {} left",
            progress.epoch,
            progress.epochs,
            progress.loss,
            rounded(rate),
            duration(left),
        ));
    }

    fn epoch(&mut self, record: &EpochRecord, best: bool) {
        if best {
            self.best = Some((record.metric.clone(), record.score));
        }
        if !self.epochs {
            return;
        }
        let metrics: Vec<String> = record
            .metrics
            .iter()
            .map(|(name, value)| format!("{} {}", name.replace('_', " "), shown(value.as_f64().unwrap_or(f64::NAN))))
            .collect();
        let name = if self.name.is_empty() { String::new() } else { format!("{}  ", self.name) };
        self.line(&format!(
            "{name}epoch {:>3}  train loss {:.4}  dev loss {:.4}  dev {}{}  {}",
            record.epoch,
            record.train_loss,
            record.loss,
            metrics.join("  "),
            if best { " *" } else { "  " },
            duration(record.seconds),
        ));
    }
}

/// Seconds as a person reads them.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.clamp(0.0, 1e9)).as_secs();
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// A large number with its thousands set apart.
pub(crate) fn rounded(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_numbers_are_readable() {
        assert_eq!(duration(3.25), "3.2 s");
        assert_eq!(duration(61.0), "1 min 01 s");
        assert_eq!(duration(7300.0), "2 h 01 min");
        assert_eq!(rounded(1234567.0), "1,234,567");
        assert_eq!(rounded(999.0), "999");
        assert_eq!(rounded(f64::NAN), "0");
    }
}
