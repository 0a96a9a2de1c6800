//! Durations as people write them: `500ms`, `5s`, `10m`, `2h`, `7d`; a bare number counts seconds.

use std::time::Duration;

const UNITS_MS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("", 1_000)];

/// Parses a duration of at least one millisecond.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = UNITS_MS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms);
    let count = number.parse::<u64>().ok();
    match count.zip(unit_ms).and_then(|(count, unit_ms)| count.checked_mul(unit_ms)) {
        Some(0) | None => Err("write a number above 0 and a unit: 500ms, 5s, 10m, 2h or 7d".to_owned()),
        Some(ms) => Ok(Duration::from_millis(ms)),
    }
}

/// A duration in milliseconds; one too long for that counts as the longest.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood_and_nonsense_is_not() {
        for (text, ms) in [("500ms", 500), ("5s", 5_000), ("7", 7_000), ("10m", 600_000), ("1d", 86_400_000)] {
            assert_eq!(parse(text).map(millis), Ok(ms), "{text}");
        }
        for text in ["", "0s", "5 s", "-1s", "s", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
