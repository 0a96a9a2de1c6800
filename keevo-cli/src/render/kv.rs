//! Records and changes.

use keevo_core::{Change, CommitEvent, Key, Record};
use keevo_proto::admin::v1 as pb;
use serde_json::{Map, Value, json};

use super::table;
use crate::output::Answer;
use crate::text::{count, escape, line, put_bytes, shorten, show_key, time};

/// One record.
#[derive(Debug)]
pub(crate) struct One {
    pub(crate) key: Key,
    pub(crate) record: Record,
}

impl Answer for One {
    fn table(&self) -> String {
        records(std::slice::from_ref(&(self.key.clone(), self.record.clone())))
    }

    fn json(&self) -> Value {
        record_json(&self.key, &self.record)
    }
}

/// The records of a scan.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) records: Vec<(Key, Record)>,
    /// Whether there are more behind the limit.
    pub(crate) more: bool,
}

impl Answer for Found {
    fn table(&self) -> String {
        let all = count(self.records.len(), "record");
        let more = if self.more { "; there are more: raise --limit" } else { "" };
        if self.records.is_empty() {
            return records(&self.records);
        }
        format!("{}\n{all}{more}", records(&self.records))
    }

    fn json(&self) -> Value {
        let records: Vec<Value> = self.records.iter().map(|(key, record)| record_json(key, record)).collect();
        json!({ "records": records, "more": self.more })
    }

    fn list(&self) -> Option<&'static str> {
        Some("records")
    }
}

fn records(records: &[(Key, Record)]) -> String {
    let rows = records.iter().map(|(key, record)| {
        let expires = record.expires_at_ms.map_or_else(|| "never".to_owned(), time);
        [show_key(&key.partition, &key.sort), shorten(&record.value), record.revision.to_string(), expires]
    });
    table(["Key", "Value", "Revision", "Expires"], rows.collect(), "no records")
}

fn record_json(key: &Key, record: &Record) -> Value {
    let mut object = key_json(key);
    put_bytes(&mut object, "value", &record.value);
    object.insert("revision".to_owned(), record.revision.0.into());
    object.insert("expires_at_ms".to_owned(), record.expires_at_ms.into());
    object.into()
}

/// The two parts of a key as fields.
pub(crate) fn key_json(key: &Key) -> Map<String, Value> {
    let mut object = Map::new();
    put_bytes(&mut object, "partition", &key.partition);
    put_bytes(&mut object, "sort", &key.sort);
    object
}

/// All keyspaces.
#[derive(Debug)]
pub(crate) struct Keyspaces(pub(crate) Vec<pb::KeyspaceInfo>);

impl Answer for Keyspaces {
    fn table(&self) -> String {
        let rows = self.0.iter().map(|one| {
            let kind = match one.partition_bytes {
                0 => "hashed".to_owned(),
                bytes => format!("ordered, partitions of {}", count(usize::try_from(bytes).unwrap_or(0), "byte")),
            };
            [one.id.to_string(), line(&one.name), kind]
        });
        table(["Id", "Name", "Kind"], rows.collect(), "no keyspaces; the first put makes one")
    }

    fn json(&self) -> Value {
        let one = |one: &pb::KeyspaceInfo| {
            let partition_bytes = Some(one.partition_bytes).filter(|bytes| *bytes > 0);
            json!({ "id": one.id, "name": one.name, "ordered": partition_bytes.is_some(), "partition_bytes": partition_bytes })
        };
        json!({ "keyspaces": self.0.iter().map(one).collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("keyspaces")
    }
}

/// One change of a watch.
impl Answer for CommitEvent {
    fn table(&self) -> String {
        let key = show_key(&self.key.partition, &self.key.sort);
        let revision = self.cursor.revision;
        match &self.change {
            Change::Put { value, expires_at_ms: None } => format!("put {key} = {} @ {revision}", shorten(value)),
            Change::Put { value, expires_at_ms: Some(at) } => {
                format!("put {key} = {} @ {revision}, until {}", shorten(value), time(*at))
            }
            Change::Delete => format!("delete {key} @ {revision}"),
            Change::DeleteRange { end } if end.is_empty() => format!("delete {key} … (to the end) @ {revision}"),
            Change::DeleteRange { end } => format!("delete {key} … {} @ {revision}", escape(end, None)),
        }
    }

    fn json(&self) -> Value {
        let mut object = key_json(&self.key);
        let what = match &self.change {
            Change::Put { value, expires_at_ms } => {
                put_bytes(&mut object, "value", value);
                object.insert("expires_at_ms".to_owned(), (*expires_at_ms).into());
                "put"
            }
            Change::Delete => "delete",
            Change::DeleteRange { end } => {
                put_bytes(&mut object, "end", end);
                "delete_range"
            }
        };
        object.insert("change".to_owned(), what.into());
        object.insert("shard".to_owned(), self.cursor.shard.0.into());
        object.insert("revision".to_owned(), self.cursor.revision.0.into());
        object.insert("offset".to_owned(), self.cursor.offset.into());
        object.into()
    }
}
