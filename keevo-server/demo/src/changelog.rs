//! Debian changelogs: who released which version when.
//!
//! Invariant: what does not parse is left out, entry by entry; no text makes the reader fail.

use serde::{Deserialize, Serialize};

use crate::mask::{mask, person};

/// The longest first line that is kept, in characters.
const LINE_CHARS_MAX: usize = 200;

/// An entry of a changelog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The binary package whose documentation holds the changelog.
    pub package: String,
    /// The version that was released.
    pub version: String,
    /// Who released it; no address.
    pub maintainer: String,
    /// When, in seconds since the epoch.
    pub time: i64,
    /// The first line of what changed.
    pub line: String,
}

/// Reads a changelog, newest entry first as it stands there, up to `limit` entries. A version that comes again is
/// left out.
pub(crate) fn parse(package: &str, text: &str, limit: usize) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let mut version: Option<&str> = None;
    let mut line = String::new();
    for text in text.lines() {
        if changes.len() == limit {
            break;
        }
        if let Some(trailer) = text.strip_prefix(" -- ") {
            if let Some(version) = version.take()
                && let Some((maintainer, time)) = parse_trailer(trailer)
                && !changes.iter().any(|known| known.version == version)
            {
                let line = std::mem::take(&mut line);
                changes.push(Change {
                    package: package.to_owned(),
                    version: version.to_owned(),
                    maintainer,
                    time,
                    line,
                });
            }
        } else if !text.starts_with(char::is_whitespace) && !text.is_empty() {
            version =
                text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(version, _)| version.trim());
            line.clear();
        } else if line.is_empty() {
            let first = text.trim().trim_start_matches(['*', '-']).trim();
            line = mask(first).chars().take(LINE_CHARS_MAX).collect();
        }
    }
    changes.retain(|change| !change.version.is_empty());
    changes
}

/// `Name <address>  Sat, 04 Jan 2026 10:00:00 +0100`
fn parse_trailer(trailer: &str) -> Option<(String, i64)> {
    let (maintainer, date) = trailer.split_once('>')?;
    Some((person(maintainer), parse_date(date)?))
}

/// A date as mails and changelogs have it, in seconds since the epoch.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true);
    parser.parse_timestamp(text.trim()).ok().map(jiff::Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_version_time_and_first_line() {
        let text = "x (2-1) sid; urgency=low\n\n  * Fix it, says a@b.c.\n  * More.\n\n -- Ann <a@b.c>  Thu, 01 Jan 1970 01:00:10 +0100\n\n\
                    x (1-1) sid\n\n  [ Bob ]\n\n -- Bob <b@b.c>  nonsense\n\n\
                    x (0-1) sid\n -- Bob <b@b.c>  Thu, 01 Jan 1970 00:00:00 +0000\n";
        let changes = parse("x", text, 10);
        let seen: Vec<_> = changes.iter().map(|one| (one.version.as_str(), one.time, one.line.as_str())).collect();
        assert_eq!(seen, [("2-1", 10, "Fix it, says ***@***."), ("0-1", 0, "")]);
        assert_eq!(changes[0].maintainer, "Ann");
        assert_eq!(parse("x", text, 1).len(), 1);
    }
}
