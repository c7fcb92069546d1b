//! How much memory there is, and how much was taken.

use crate::error::{Error, Result};

/// The most memory that this process has held, in bytes; `None` where the system does not tell.
pub fn peak() -> Option<u64> {
    kibibytes("/proc/self/status", "VmHWM:")
}

/// The memory that this process holds now, in bytes; `None` where the system does not tell.
pub fn held() -> Option<u64> {
    kibibytes("/proc/self/status", "VmRSS:")
}

/// What this machine could still give, in bytes; `None` where the system does not tell.
pub fn available() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemAvailable:")
}

fn kibibytes(file: &str, name: &str) -> Option<u64> {
    let content = std::fs::read_to_string(file).ok()?;
    let line = content.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Refuses what this machine cannot hold, before it is asked for: an allocation that fails ends a program without a word.
///
/// # Errors
/// If `bytes` are more than the machine has left; the message ends with `mend`.
pub fn check(bytes: u128, mend: &str) -> Result<()> {
    match available() {
        Some(available) if bytes > u128::from(available) => Err(Error::Training(format!(
            "the model would take at least {:.1} GiB in training, and this machine has {:.1} GiB left: {mend}",
            gibibytes(bytes),
            gibibytes(u128::from(available)),
        ))),
        _ => Ok(()),
    }
}

fn gibibytes(bytes: u128) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused() {
        check(1, "").expect("a byte");
        if available().is_some() {
            let error = check(u128::MAX, "lower it").expect_err("too much").to_string();
            assert!(error.ends_with("lower it") && !error.contains('\n'), "{error}");
        }
    }
}
