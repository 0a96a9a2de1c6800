//! Activity times: microseconds, UTC.
//!
//! Read as ISO 8601 with or without a zone and with 0 to 6 digits of fraction; written as
//! `YYYY-MM-DDTHH:MM:SS.ffffff`, without a zone.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use keevo_core::{Error, Result};

/// Between 1582-10-15, where UUID time starts, and the Unix epoch, in units of 100 ns.
const GREGORIAN_TO_UNIX_TICKS: i64 = 0x01B2_1DD2_1381_4000;
/// 1600-01-01 and 5000-01-01: what both an id and four-digit years can hold.
const MICROS_MIN: i64 = -11_676_096_000_000_000;
const MICROS_END: i64 = 95_617_584_000_000_000;

/// The time of an activity: microseconds since the Unix epoch, in the years 1600 to 4999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivityTime(i64);

impl ActivityTime {
    /// The time that many microseconds after the Unix epoch; `Invalid` outside the years 1600 to 4999.
    pub fn from_micros(micros: i64) -> Result<Self> {
        if (MICROS_MIN..MICROS_END).contains(&micros) {
            Ok(Self(micros))
        } else {
            Err(Error::invalid("a time lies in the years 1600 to 4999"))
        }
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// The time with its zone: `2026-05-01T12:00:00.000000Z`.
    pub fn to_zoned(self) -> String {
        format!("{self}Z")
    }

    /// The time by a format of `strftime`, in UTC; `Invalid` for a format that has none.
    pub(crate) fn strftime(self, format: &str) -> Result<String> {
        let timestamp = Timestamp::from_microsecond(self.0)
            .map_err(|error| Error::invalid("the time is out of range").with_source(error))?;
        jiff::fmt::strtime::format(format, &timestamp.to_zoned(TimeZone::UTC))
            .map_err(|error| Error::invalid(format!("{format:?} is no format of strftime: {error}")))
    }

    /// Units of 100 ns since 1582-10-15, as a version 1 UUID counts.
    pub(crate) fn ticks(self) -> u64 {
        // In range by construction: 1600 lies after 1582, and 4999 × 10^7 s fits 60 bits.
        u64::try_from(self.0 * 10 + GREGORIAN_TO_UNIX_TICKS).unwrap_or_default()
    }

    pub(crate) fn from_ticks(ticks: u64) -> Self {
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
        Self(((ticks - GREGORIAN_TO_UNIX_TICKS) / 10).clamp(MICROS_MIN, MICROS_END - 1))
    }
}

/// The time that many microseconds after the epoch, as rows keep it.
pub(crate) fn time_of_us(us: u64) -> Result<ActivityTime> {
    ActivityTime::from_micros(i64::try_from(us).unwrap_or(i64::MAX))
}

impl FromStr for ActivityTime {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            Error::invalid(format!(
                "{text:?} is no time: write 2026-05-01T12:00:00, with up to 6 digits of fraction and a zone if needed"
            ))
        })
    }
}

fn parse(text: &str) -> Option<ActivityTime> {
    let (seconds, rest) = text.split_at_checked(19)?;
    let shape = seconds.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    });
    if !shape {
        return None;
    }
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
    };
    if fraction.len() > 6 || (rest.starts_with('.') && fraction.is_empty()) || seconds.ends_with("60") {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    let civil: jiff::civil::DateTime = seconds.parse().ok()?;
    let utc = civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    let local = utc.checked_sub(zone_seconds(zone)?)?;
    ActivityTime::from_micros(local.checked_mul(1_000_000)?.checked_add(micros)?).ok()
}

/// The offset of ``, `Z`, `±HH`, `±HHMM` or `±HH:MM`, in seconds.
fn zone_seconds(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone == "Z" || zone == "z" {
        return Some(0);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let two = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse::<i64>().ok()).flatten()
    };
    let (hours, minutes) = match digits.len() {
        2 => (two(digits)?, 0),
        4 => (two(digits.get(..2)?)?, two(digits.get(2..)?)?),
        5 if digits.get(2..3) == Some(":") => (two(digits.get(..2)?)?, two(digits.get(3..)?)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

impl fmt::Display for ActivityTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The range fits jiff's; the epoch stands in only for what `from_micros` refuses.
        let civil = Offset::UTC.to_datetime(Timestamp::from_microsecond(self.0).unwrap_or_default());
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}",
            civil.year(),
            civil.month(),
            civil.day(),
            civil.hour(),
            civil.minute(),
            civil.second(),
            civil.subsec_nanosecond() / 1_000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_time() {
        let read = |text: &str| text.parse::<ActivityTime>().map(|time| time.to_string()).unwrap_or_default();
        for (text, expected) in [
            ("2026-05-01T12:00:00", "2026-05-01T12:00:00.000000"),
            ("2026-05-01T12:00:00Z", "2026-05-01T12:00:00.000000"),
            ("2026-05-01T12:00:00.5", "2026-05-01T12:00:00.500000"),
            ("2026-05-01T12:00:00.000001Z", "2026-05-01T12:00:00.000001"),
            ("2026-05-01T12:00:00.123456+02:00", "2026-05-01T10:00:00.123456"),
            ("2026-05-01T12:00:00-0530", "2026-05-01T17:30:00.000000"),
            ("2026-05-01T12:00:00+01", "2026-05-01T11:00:00.000000"),
            ("1969-12-31T23:59:59.999999", "1969-12-31T23:59:59.999999"),
            ("1600-01-01T00:00:00", "1600-01-01T00:00:00.000000"),
            ("4999-12-31T23:59:59.999999", "4999-12-31T23:59:59.999999"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        for bad in [
            "",
            "now",
            "2026-05-01",
            "2026-05-01 12:00:00",
            "2026-05-01T12:00",
            "2026-13-01T12:00:00",
            "2026-02-30T12:00:00",
            "2026-05-01T24:00:00",
            "2026-05-01T12:00:60",
            "2026-05-01T12:00:00.",
            "2026-05-01T12:00:00.1234567",
            "2026-05-01T12:00:00 Z",
            "2026-05-01T12:00:00+2",
            "2026-05-01T12:00:00+25:00",
            "1599-12-31T23:59:59",
            "5000-01-01T00:00:00",
            "2026-05-01T12:00:00Zx",
            "２026-05-01T12:00:00",
        ] {
            assert_eq!(read(bad), "", "{bad} is refused");
        }
    }

    #[test]
    fn ticks_round_trip() {
        for micros in [MICROS_MIN, -1, 0, 1, 1_700_000_000_123_456, MICROS_END - 1] {
            let time = ActivityTime::from_micros(micros).expect("in range");
            assert_eq!(ActivityTime::from_ticks(time.ticks()), time);
            assert!(time.ticks() >> 60 == 0);
        }
    }
}
