//! The table of limits in `docs/LIMITS.md`, made from the constants that the code keeps to.
//!
//! A limit is a public constant of a library or of the daemon whose name holds `_MAX`: its value is computed from its
//! expression, its meaning is the first sentence of its comment.
//!
//! Invariant: a limit whose expression is not understood stands there as it is written, never with a guess.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Why writing to a string cannot fail.
const GROWS: &str = "a string grows as needed";
/// The page.
pub const PAGE: &str = "docs/LIMITS.md";
/// The heading below which the table stands, up to the end.
pub const HEADING: &str = "## Limits in the code";

/// Whose limits are listed, and what they are called.
const PARTS: &[(&str, &str)] = &[
    ("keevo-core/src/", "Keys and values"),
    ("keevo-raft/src/", "Clusters"),
    ("feeds/src/", "Feeds"),
    ("chat/src/", "Chat"),
    ("keevo-server/gateway/src/", "Apps and the feeds REST API"),
    ("keevo-server/chat-gateway/src/", "Chat over HTTP and WebSocket"),
    ("keevo-server/moderation/src/", "Moderation"),
    ("keevo-server/search/src/", "Search"),
    ("keevo-server/streams/src/", "Change streams"),
    ("keevo-server/proto/src/", "gRPC"),
    ("keevo-server/archive/src/", "Archive and backups"),
    ("keevo-server/src/", "The daemon"),
];

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its value, as it is written.
    pub expression: String,
    /// What it bounds: the first sentence of its comment.
    pub about: String,
}

/// Whether the constants of this file are listed.
pub fn is_listed(path: &str) -> bool {
    part(path).is_some() && !path.contains("/tests") && !path.contains("/testing") && !path.ends_with("fuzzing.rs")
}

fn part(path: &str) -> Option<usize> {
    PARTS.iter().position(|(folder, _)| path.starts_with(folder))
}

/// `page` with the table below [`HEADING`], from the sources of the code by their paths.
///
/// # Errors
/// Where there is no such heading.
pub fn page(page: &str, sources: &[(String, String)]) -> Result<String, String> {
    let (before, _) = page.split_once(HEADING).ok_or_else(|| format!("{PAGE} lacks `{HEADING}`"))?;
    let mut found: BTreeMap<usize, Vec<(&str, Limit)>> = BTreeMap::new();
    let mut named: BTreeMap<String, i128> = BTreeMap::new();
    for (path, text) in sources {
        let of_file = limits(text);
        for one in &of_file {
            if let Some(value) = value(&one.expression, &named) {
                named.insert(one.name.clone(), value);
            }
        }
        if let Some(part) = part(path) {
            found.entry(part).or_default().extend(of_file.into_iter().map(|one| (path.as_str(), one)));
        }
    }
    let mut out = format!("{before}{HEADING}\n");
    for (part, limits) in found {
        let title = PARTS.get(part).map_or("", |(_, title)| title);
        write!(out, "\n### {title}\n\n| what | at most | where |\n| --- | --- | --- |\n").expect(GROWS);
        for (path, Limit { name, expression, about, .. }) in limits {
            let unit = if about.starts_with("Bytes") { "BYTES" } else { name.as_str() };
            let shown =
                value(&expression, &named).map_or_else(|| format!("`{expression}`"), |value| shown(unit, value));
            let about = about.replace('|', "\\|").replace('[', "\\[");
            writeln!(out, "| {about} | {shown} | [{name}](../{path}) |").expect(GROWS);
        }
    }
    Ok(out)
}

/// The limits of a source file, in its order.
pub fn limits(text: &str) -> Vec<Limit> {
    let mut found = Vec::new();
    let mut about = String::new();
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("///") {
            about.push_str(said);
            continue;
        }
        found.extend(limit(line, &about));
        about.clear();
    }
    found
}

fn limit(line: &str, about: &str) -> Option<Limit> {
    let rest = line.strip_prefix("pub")?;
    let rest = if rest.starts_with('(') { rest.split_once(')')?.1 } else { rest };
    let (name, rest) = rest.strip_prefix(" const ")?.split_once(": ")?;
    let (kind, expression) = rest.strip_suffix(';')?.split_once(" = ")?;
    let is_number = matches!(kind, "usize" | "u8" | "u16" | "u32" | "u64" | "Duration");
    let about = unlinked(about.trim());
    let end = about.find(". ").unwrap_or(about.len());
    let about = about.get(..end).unwrap_or(&about).trim_end_matches('.').to_owned();
    (name.contains("_MAX") && is_number).then(|| Limit {
        name: name.to_owned(),
        kind: kind.to_owned(),
        expression: expression.to_owned(),
        about,
    })
}

/// A comment without its links to code: [`Name`] and [`Name`](path) become `Name`.
fn unlinked(about: &str) -> String {
    let mut out = String::new();
    let mut rest = about;
    while let Some((before, after)) = rest.split_once("[`") {
        let Some((name, after)) = after.split_once("`]") else { break };
        let target = after.strip_prefix('(').and_then(|target| target.split_once(')'));
        out.push_str(before);
        write!(out, "`{name}`").expect(GROWS);
        rest = target.map_or(after, |(_, after)| after);
    }
    out + rest
}

/// The value of an expression of numbers, names of other limits, `+ - * <<` and `Duration::from_…`, which is in
/// milliseconds; `None` where it has anything else.
pub fn value(expression: &str, named: &BTreeMap<String, i128>) -> Option<i128> {
    let text = expression.trim();
    for (call, ms) in [("millis", 1), ("secs", 1_000), ("mins", 60_000), ("hours", 3_600_000), ("days", 86_400_000)] {
        if let Some(rest) = text.strip_prefix(&format!("Duration::from_{call}(")) {
            return value(rest.strip_suffix(')')?, named)?.checked_mul(ms);
        }
    }
    if let Some((left, right)) = text.split_once(" << ") {
        let by = u32::try_from(value(right, named)?).ok()?;
        return value(left, named)?.checked_mul(2_i128.checked_pow(by)?);
    }
    if let Some((left, right)) = text.rsplit_once(" + ") {
        return value(left, named)?.checked_add(value(right, named)?);
    }
    if let Some((left, right)) = text.rsplit_once(" - ") {
        return value(left, named)?.checked_sub(value(right, named)?);
    }
    if let Some((left, right)) = text.rsplit_once(" * ") {
        return value(left, named)?.checked_mul(value(right, named)?);
    }
    let digits = text.replace('_', "");
    digits.parse().ok().or_else(|| named.get(text).copied())
}

/// A value with its unit, which the name tells.
fn shown(name: &str, value: i128) -> String {
    if name.contains("BYTES") {
        return match value {
            _ if value >= 1 << 30 && value % (1 << 30) == 0 => format!("{} GiB", value >> 30),
            _ if value >= 1 << 20 && value % (1 << 20) == 0 => format!("{} MiB", value >> 20),
            _ if value >= 1 << 13 && value % (1 << 10) == 0 => format!("{} KiB", value >> 10),
            _ => format!("{} B", grouped(value)),
        };
    }
    if name.contains("_MS") || name == "AGE_MAX" {
        const UNITS: [(i128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
        let unit = UNITS.into_iter().find(|(ms, _)| value >= *ms && value % ms == 0);
        return unit
            .map_or_else(|| format!("{} ms", grouped(value)), |(ms, unit)| format!("{} {unit}", grouped(value / ms)));
    }
    grouped(value)
}

fn grouped(value: i128) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.as_bytes().first() != Some(&b'-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! A file.\n/// The longest value. More.\npub const VALUE_BYTES_MAX: usize = 4 << 20;\n\
                          pub(crate) const OTHER: usize = 1;\n/// How long.\npub(super) const TTL_MS_MAX: u64 = 24 * 3_600 * 1_000;\n\
                          const PRIVATE_MAX: usize = 1;\n";

    #[test]
    fn limits_are_found_with_their_meaning() {
        let names: Vec<(String, String)> = limits(SOURCE).into_iter().map(|one| (one.name, one.about)).collect();
        assert_eq!(
            names,
            [("VALUE_BYTES_MAX".into(), "The longest value".into()), ("TTL_MS_MAX".into(), "How long".into())]
        );
    }

    #[test]
    fn links_to_code_become_code() {
        assert_eq!(unlinked("Of [`A::b`](crate::A::b), or [`C`]; [x"), "Of `A::b`, or `C`; [x");
    }

    #[test]
    fn values_are_computed_or_left_alone() {
        let named = BTreeMap::from([("A_MAX".to_owned(), 64 << 20)]);
        let of = |text: &str| value(text, &named);
        assert_eq!(of("A_MAX - 1_024"), Some((64 << 20) - 1_024));
        assert_eq!(of("10 * 365 * 24"), Some(87_600));
        assert_eq!(of("Duration::from_hours(12)"), Some(12 * 3_600_000));
        assert_eq!(of("usize::MAX"), None);
        let show = |name: &str, value| shown(name, value);
        assert_eq!((show("X_BYTES_MAX", 4 << 20), show("X_MAX", 65_536)), ("4 MiB".into(), "65,536".into()));
        assert_eq!((show("X_MS_MAX", 86_400_000), show("X_BYTES_MAX", 2_048)), ("1 d".into(), "2,048 B".into()));
    }

    #[test]
    fn the_table_replaces_what_stood_below_the_heading() {
        let sources = [("keevo-core/src/limits.rs".to_owned(), SOURCE.to_owned())];
        let made = page(&format!("# Limits\n\n{HEADING}\n\nold\n"), &sources).expect("made");
        assert!(made.starts_with("# Limits\n") && !made.contains("old"), "{made}");
        assert!(
            made.contains("| The longest value | 4 MiB | [VALUE_BYTES_MAX](../keevo-core/src/limits.rs) |"),
            "{made}"
        );
    }
}
