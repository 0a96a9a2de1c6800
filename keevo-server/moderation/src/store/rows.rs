//! Keevo's rows of verdicts and decisions, as rows of the store's tables.
//!
//! Invariant: pure, and every row that Keevo can hold becomes one that PostgreSQL takes: U+0000 becomes U+FFFD, times
//! end with the year 9999.

use std::collections::BTreeMap;

use bytes::Bytes;
use keevo_core::{Change, CommitEvent, Result};
use serde_json::Value;

use crate::text::{TextKind, kind_of_tag, partition};
use crate::verdict::Verdict;
use crate::verdicts::{Decided, decode, row_of};

/// The last millisecond of the year 9999: later times are taken for it.
const MS_MAX: u64 = 253_402_300_799_999;

/// A text, as the tables name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TextRow {
    pub(super) app: i64,
    pub(super) kind: &'static str,
    pub(super) channel: String,
    pub(super) id: String,
}

/// A version, as the tables name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VersionRow {
    pub(super) text: TextRow,
    pub(super) hash: String,
}

/// What is to be done in the store, one thing a row; what was said last holds.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// What becomes of verdicts; `None` = they go.
    pub(super) verdicts: BTreeMap<VersionRow, Option<Box<Verdict>>>,
    /// Of decisions likewise.
    pub(super) reviews: BTreeMap<VersionRow, Option<Box<Decided>>>,
    /// Texts whose rows are all taken away first.
    pub(super) anew: Vec<TextRow>,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        self.verdicts.is_empty() && self.reviews.is_empty() && self.anew.is_empty()
    }

    /// How many rows it is about.
    pub(super) fn rows(&self) -> usize {
        self.verdicts.len() + self.reviews.len() + self.anew.len()
    }
}

/// What an event says of a text of verdicts.
#[derive(Debug)]
pub(super) struct Touched {
    /// The partition of the text's verdicts.
    pub(super) partition: Bytes,
    /// When its verdict or decision was made; `None` for what is gone.
    pub(super) at_ms: Option<u64>,
}

/// Takes what an event says into `work`; `None` for rows that the store does not hold.
pub(super) fn take_in(event: &CommitEvent, work: &mut Work) -> Result<Option<Touched>> {
    let Some((text, partition)) = text_of(&event.key.partition).map(|text| (text, event.key.partition.clone())) else {
        return Ok(None);
    };
    let touched = |at_ms| Ok(Some(Touched { partition, at_ms }));
    let row = row_of(&event.key.sort);
    match (&event.change, row) {
        (Change::DeleteRange { .. }, _) => {
            work.anew.push(text);
            touched(None)
        }
        (_, None) => Ok(None),
        (Change::Put { value, .. }, Some((is_verdict, hash))) => {
            let version = VersionRow { text, hash };
            let at_ms = put(work, version, is_verdict, value)?;
            touched(Some(at_ms))
        }
        (Change::Delete, Some((is_verdict, hash))) => {
            let version = VersionRow { text, hash };
            if is_verdict {
                work.verdicts.insert(version, None);
            } else {
                work.reviews.insert(version, None);
            }
            touched(None)
        }
    }
}

/// Takes a row into `work`; answers with when it was made.
pub(super) fn put(work: &mut Work, version: VersionRow, is_verdict: bool, value: &[u8]) -> Result<u64> {
    if is_verdict {
        let verdict: Box<Verdict> = decode(value, "a verdict")?;
        let at_ms = verdict.judged_ms;
        work.verdicts.insert(version, Some(verdict));
        return Ok(at_ms);
    }
    let decided: Box<Decided> = decode(value, "a decision")?;
    let at_ms = decided.decided_ms;
    work.reviews.insert(version, Some(decided));
    Ok(at_ms)
}

/// The text whose verdicts a partition holds; `None` for a partition of something else.
pub(super) fn text_of(partition: &[u8]) -> Option<TextRow> {
    let rest = partition.strip_prefix(b"v")?;
    let (app, rest) = rest.split_first_chunk::<4>()?;
    let (tag, id) = rest.split_first()?;
    let kind = kind_of_tag(*tag)?;
    let id = String::from_utf8_lossy(id);
    let (channel, id) = match kind {
        TextKind::Message => id.split_once('\0').unwrap_or(("", &id)),
        TextKind::Activity | TextKind::Reaction | TextKind::Text => ("", &*id),
    };
    let app = i64::from(u32::from_be_bytes(*app));
    Some(TextRow { app, kind: kind.name(), channel: shown(channel), id: shown(id) })
}

/// The partition of the verdicts on a text that the tables name so; `None` where its name is not the text's own, since
/// PostgreSQL could not hold it, or of no kind that is known.
pub(super) fn partition_of(app: i64, kind: &str, channel: &str, id: &str) -> Option<Vec<u8>> {
    let (app, kind) = (u32::try_from(app).ok()?, TextKind::from_name(kind)?);
    if id.is_empty() || channel.contains('\u{fffd}') || id.contains('\u{fffd}') {
        return None;
    }
    let id = if channel.is_empty() { id.to_owned() } else { format!("{channel}\0{id}") };
    Some(partition(app, kind, &id))
}

/// A text as PostgreSQL takes it.
pub(super) fn shown(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// JSON as PostgreSQL takes it.
pub(super) fn shown_json(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(shown(&text)),
        Value::Array(many) => many.into_iter().map(shown_json).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (shown(&name), shown_json(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

/// A time as PostgreSQL takes it, in milliseconds since the epoch.
pub(super) fn shown_ms(ms: u64) -> i64 {
    i64::try_from(ms.min(MS_MAX)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::TextVersion;

    #[test]
    fn partitions_name_their_texts() {
        let row = |kind, id: &str| {
            let version = TextVersion::new(7, kind, id, "x").expect("valid");
            text_of(&version.partition()).expect("a text's")
        };
        let message = row(TextKind::Message, "team:x\u{0}m\u{0}1");
        assert_eq!((message.app, message.kind), (7, "message"));
        assert_eq!((message.channel.as_str(), message.id.as_str()), ("team:x", "m\u{fffd}1"));
        let reaction = row(TextKind::Reaction, "r1");
        assert_eq!((reaction.kind, reaction.channel.as_str(), reaction.id.as_str()), ("reaction", "", "r1"));
        for other in [b"".as_slice(), b"v", b"p\x01", b"v\0\0\0\x01\x09x", b"q\0\0\0\x01"] {
            assert_eq!(text_of(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_postgresql_cannot_hold_is_replaced() {
        let value = serde_json::json!({"a\0": ["b\0", 1, {"c": "\0"}]});
        let wanted = serde_json::json!({"a\u{fffd}": ["b\u{fffd}", 1, {"c": "\u{fffd}"}]});
        assert_eq!(shown_json(value), wanted);
        assert_eq!((shown_ms(5), shown_ms(u64::MAX)), (5, 253_402_300_799_999));
    }
}
