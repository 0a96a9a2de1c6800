//! A change as it is told: a JSON object, or the value alone with the rest in headers.
//!
//! ```text
//! {"shard":3,"revision":120,"index":0,"keyspace":"orders","partition":"alice","sort":"1","op":"put","value":"…"}
//! ```
//!
//! Bytes are text where they are UTF-8 and base64 is not shorter than they are as JSON, else `{"base64":"…"}`, so that both can
//! be told apart.
//!
//! Invariant: what is told of a value takes no more than base64 does, a third more than the value.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use keevo_core::{Change, CommitEvent, Cursor};
use serde_json::{Map, Value, json};

use crate::places::Place;
use crate::spec::Format;

/// The header with the dedup key of a change: `shard/revision/index`.
pub const DEDUP_HEADER: &str = "keevo-dedup";

/// A change on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it stands in the changes of its shard.
    pub cursor: Cursor,
    /// What keeps it in order with others: its partition; of the raw format its whole key.
    pub key: Bytes,
    /// What is told; `None` = a tombstone.
    pub value: Option<Bytes>,
    /// Headers, besides that with the dedup key.
    pub headers: Vec<(&'static str, Bytes)>,
}

impl Outgoing {
    /// A change of a keyspace in a form.
    pub(crate) fn new(event: &CommitEvent, keyspace: &str, format: Format) -> Self {
        match format {
            Format::Json => Self {
                cursor: event.cursor,
                key: event.key.partition.clone(),
                value: Some(Value::Object(object(event, keyspace)).to_string().into()),
                headers: Vec::new(),
            },
            Format::Raw => raw(event),
        }
    }

    /// The dedup key: the same change has the same one, however often it is told.
    pub fn dedup(&self) -> String {
        let Cursor { shard, revision, offset, .. } = self.cursor;
        format!("{shard}/{revision}/{offset}")
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + 128
    }
}

fn text(bytes: &Bytes) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if escaped_bytes(bytes) <= BASE64_OBJECT_BYTES + bytes.len().div_ceil(3) * 4 => Value::from(text),
        _ => json!({ "base64": BASE64_STANDARD.encode(bytes) }),
    }
}

/// What an object with base64 takes more than a text, besides what it holds.
const BASE64_OBJECT_BYTES: usize = r#"{"base64":}"#.len();

/// How long a text is in JSON, without the quotation marks: a control character takes up to six bytes for one.
fn escaped_bytes(text: &[u8]) -> usize {
    let of = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.iter().map(of).sum()
}

fn op(change: &Change) -> &'static str {
    match change {
        Change::Put { .. } => "put",
        Change::Delete => "delete",
        Change::DeleteRange { .. } => "delete_range",
    }
}

fn object(event: &CommitEvent, keyspace: &str) -> Map<String, Value> {
    let Cursor { shard, revision, offset, .. } = event.cursor;
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    set("shard", shard.0.into());
    set("revision", revision.0.into());
    set("index", offset.into());
    set("keyspace", keyspace.into());
    set("partition", text(&event.key.partition));
    set("sort", text(&event.key.sort));
    set("op", op(&event.change).into());
    match &event.change {
        Change::Put { value, expires_at_ms } => {
            set("value", text(value));
            if let Some(expires_at_ms) = expires_at_ms {
                set("expires_at_ms", (*expires_at_ms).into());
            }
        }
        Change::Delete => {}
        Change::DeleteRange { end } => set("end", text(end)),
    }
    fields
}

/// The key is `[length of the partition u16 BE][partition][sort key]`, so that different ones differ.
fn raw(event: &CommitEvent) -> Outgoing {
    let (partition, sort) = (&event.key.partition, &event.key.sort);
    let length = u16::try_from(partition.len()).unwrap_or(u16::MAX).to_be_bytes();
    let key = Bytes::from([length.as_slice(), partition, sort].concat());
    let mut headers = vec![("keevo-op", Bytes::from_static(op(&event.change).as_bytes()))];
    let value = match &event.change {
        Change::Put { value, expires_at_ms } => {
            headers.extend(expires_at_ms.map(|at| ("keevo-expires-at-ms", at.to_string().into())));
            Some(value.clone())
        }
        Change::Delete => None,
        Change::DeleteRange { end } => {
            headers.push(("keevo-end", end.clone()));
            None
        }
    };
    Outgoing { cursor: event.cursor, key, value, headers }
}

/// The place that a line of JSON tells; `None` where it is no line of ours.
pub(crate) fn place_of(line: &[u8]) -> Option<Place> {
    #[derive(serde::Deserialize)]
    struct Told {
        shard: u64,
        revision: u64,
        index: u32,
    }
    let Told { shard, revision, index } = serde_json::from_slice(line).ok()?;
    Some(Place { shard, revision, offset: index })
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::{ClusterId, Keyspace, KeyspaceId, KeyspaceKind, Revision, ShardId};

    fn event(change: Change) -> CommitEvent {
        let cursor = Cursor { cluster: ClusterId(1), shard: ShardId(3), revision: Revision(120), offset: 2 };
        let keyspace = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Hashed };
        CommitEvent { cursor, key: keyspace.key("alice", vec![0xff, 1]), change }
    }

    #[test]
    fn a_change_is_told_for_ever_so() {
        let told = |change| {
            let one = Outgoing::new(&event(change), "orders", Format::Json);
            assert_eq!((one.dedup().as_str(), &one.key[..]), ("3/120/2", b"alice".as_slice()));
            let line = one.value.expect("a line");
            assert_eq!(place_of(&line), Some(Place { shard: 3, revision: 120, offset: 2 }));
            serde_json::from_slice::<Value>(&line).expect("JSON")
        };
        let put = told(Change::Put { value: "a\n\"ü".into(), expires_at_ms: Some(7) });
        assert_eq!(
            put,
            json!({ "shard": 3, "revision": 120, "index": 2, "keyspace": "orders", "partition": "alice",
                    "sort": { "base64": "/wE=" }, "op": "put", "value": "a\n\"ü", "expires_at_ms": 7 })
        );
        assert_eq!(told(Change::Delete)["op"], "delete");
        let range = told(Change::DeleteRange { end: Bytes::new() });
        assert_eq!((&range["op"], &range["end"]), (&json!("delete_range"), &json!("")));
    }

    /// A value of control characters once took six times its size, more than the brokers take, and stopped its sink for good.
    #[test]
    fn no_value_is_longer_than_base64_makes_it() {
        let told = |value: &[u8]| text(&Bytes::copy_from_slice(value)).to_string().len();
        for value in [&[1_u8; 3_000][..], &[b'"'; 3_000], &[0xff; 3_000], &[b'x'; 3_000]] {
            assert!(told(value) <= r#"{"base64":""}"#.len() + 4_000, "{:?}", value.first());
        }
        for value in ["plain", "a\n\"\u{8}\u{c}\u{1}\u{7f}ü\\", ""] {
            assert_eq!(text(&Bytes::from(value)), Value::from(value), "{value:?}");
            assert_eq!(escaped_bytes(value.as_bytes()) + 2, Value::from(value).to_string().len(), "{value:?}");
        }
    }

    #[test]
    fn a_line_is_one_line() {
        let change = Change::Put { value: "a\nb\r\u{2028}".into(), expires_at_ms: None };
        let line = Outgoing::new(&event(change), "orders", Format::Json).value.expect("a line");
        assert!(!line.contains(&b'\n'), "{line:?}");
        for bad in [&b"{\"shard\":3,\"revi"[..], b"", b"[]", b"{}"] {
            assert_eq!(place_of(bad), None);
        }
    }

    #[test]
    fn raw_values_are_what_is_stored() {
        let put = Outgoing::new(&event(Change::Put { value: "x".into(), expires_at_ms: None }), "orders", Format::Raw);
        assert_eq!((&put.key[..], put.value.as_deref()), (&b"\0\x05alice\xff\x01"[..], Some(&b"x"[..])));
        assert_eq!(put.headers, [("keevo-op", Bytes::from("put"))]);
        let gone = Outgoing::new(&event(Change::DeleteRange { end: "z".into() }), "orders", Format::Raw);
        assert_eq!((gone.value, gone.headers.last()), (None, Some(&("keevo-end", Bytes::from("z")))));
    }
}
