//! Texts that come in by a queue, such as a topic of Kafka, rather than by Keevo's own changes.
//!
//! ```text
//! {"app":1,"id":"mail-7","text":"…","author":"alice","kind":"text"}
//! ```
//!
//! Invariant: a record that is no text holds up no other one; it is counted, and what it says is not logged.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use keevo_core::{Batch, Engine, Error, Result};
use serde::Deserialize;

use crate::text::{TextKind, TextVersion};
use crate::verdicts::{Verdicts, decode, encode, pipeline_key};

/// A record of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedText {
    /// Its partition of the queue.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// When it was written, in milliseconds since the epoch.
    pub at_ms: u64,
    /// What it says.
    pub payload: Bytes,
}

/// A queue of texts, in partitions that are read in order.
pub trait TextQueue: Send + Sync + 'static {
    /// Its name, under which the places in it are kept.
    fn name(&self) -> String;

    /// Begins to read at these offsets, by partition; where none is named, at the start.
    fn open(&self, next: BTreeMap<i32, i64>) -> BoxFuture<'_, Result<Box<dyn TextReader>>>;
}

/// Reads a queue.
pub trait TextReader: Send {
    /// The next records, a bounded number, of each partition in order; none where none came within `wait`.
    fn next(&mut self, wait: Duration) -> BoxFuture<'_, Result<Vec<QueuedText>>>;
}

/// A record as JSON. Fields that are not named here say nothing.
#[derive(Deserialize)]
struct Said {
    app: u32,
    id: String,
    text: String,
    #[serde(default)]
    author: String,
    #[serde(default)]
    kind: Option<TextKind>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    at_ms: Option<u64>,
}

impl QueuedText {
    /// The text version that the record brings.
    ///
    /// # Errors
    /// `Invalid` where it is none; the message does not show what it says.
    pub(crate) fn version(&self) -> Result<TextVersion> {
        let said: Said = serde_json::from_slice(&self.payload).map_err(|error| {
            // The error of the parser may quote the record.
            Error::invalid(format!("the record is no text as JSON, at byte {}", error.column()))
        })?;
        let kind = said.kind.unwrap_or(TextKind::Text);
        let id = match (kind, said.channel) {
            (TextKind::Message, Some(channel)) => format!("{channel}\0{}", said.id),
            (TextKind::Message, None) => return Err(Error::invalid("a message needs its channel")),
            (_, Some(_)) => return Err(Error::invalid("only messages have a channel")),
            (_, None) => said.id,
        };
        if said.author.len() > AUTHOR_BYTES_MAX
            || said.scope.as_ref().is_some_and(|scope| scope.len() > SCOPE_BYTES_MAX)
        {
            let message = format!("an author has at most {AUTHOR_BYTES_MAX} bytes, a scope {SCOPE_BYTES_MAX}");
            return Err(Error::invalid(message));
        }
        let scope = said.scope.unwrap_or_else(|| "queue".to_owned());
        let version = TextVersion::new(said.app, kind, id, said.text)?;
        Ok(version.by(said.author, scope, said.at_ms.unwrap_or(self.at_ms)))
    }
}

/// The longest name of an author, in bytes.
const AUTHOR_BYTES_MAX: usize = 512;
/// The longest scope, in bytes.
const SCOPE_BYTES_MAX: usize = 256;

/// The places in a queue: the next offset of each partition, kept in the keyspace of the verdicts.
pub(crate) struct Offsets<E> {
    verdicts: Verdicts<E>,
    name: String,
    next: BTreeMap<i32, i64>,
}

impl<E: Engine> Offsets<E> {
    pub(crate) async fn load(verdicts: &Verdicts<E>, queue: &str) -> Result<Self> {
        let name = format!("queue {queue}");
        let record = verdicts.get(pipeline_key(verdicts.keyspace, &name)).await?;
        let saved = record.map(|record| decode(&record.value, "the places in a queue")).transpose()?;
        Ok(Self { verdicts: verdicts.clone(), name, next: saved.unwrap_or_default() })
    }

    pub(crate) fn next(&self) -> BTreeMap<i32, i64> {
        self.next.clone()
    }

    /// These records are dealt with, and those before them; saves that. They come in order, so the last one counts, even where
    /// it is before what was saved: then the queue was made anew and counts from the start.
    pub(crate) async fn pass(&mut self, records: &[QueuedText]) -> Result<()> {
        for record in records {
            self.next.insert(record.partition, record.offset.saturating_add(1));
        }
        let key = pipeline_key(self.verdicts.keyspace, &self.name);
        self.verdicts.repeat(Batch::new().put(key, encode(&self.next)?)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &str) -> QueuedText {
        QueuedText { partition: 0, offset: 0, at_ms: 5, payload: Bytes::copy_from_slice(payload.as_bytes()) }
    }

    #[test]
    fn records_are_texts_or_say_why_not() {
        let text = record(r#"{"app":1,"id":"m7","text":"hi","author":"alice","more":[1]}"#).version().expect("a text");
        assert_eq!((text.kind, text.id.as_str(), text.scope.as_str(), text.at_ms), (TextKind::Text, "m7", "queue", 5));
        let said =
            r#"{"app":1,"id":"1","text":"hi","kind":"message","channel":"team:x","scope":"chat:team","at_ms":9}"#;
        let message = record(said).version().expect("a message");
        assert_eq!((message.id.as_str(), message.at_ms), ("team:x\u{0}1", 9));
        assert_eq!(message.scope, "chat:team");
        for bad in [
            "",
            "[]",
            r#"{"app":1,"id":"","text":"hush"}"#,
            r#"{"app":1,"text":"hush"}"#,
            r#"{"app":-1,"id":"a","text":"hush"}"#,
            r#"{"app":1,"id":"a","text":"hush","kind":"mail"}"#,
            r#"{"app":1,"id":"a","text":"hush","kind":"message"}"#,
            r#"{"app":1,"id":"a","text":"hush","channel":"team:x"}"#,
            "\u{0}\u{1}",
        ] {
            let error = record(bad).version().expect_err(bad);
            assert!(!error.message().contains("hush"), "{error}");
        }
        let long = format!(r#"{{"app":1,"id":"a","text":"x","author":"{}"}}"#, "a".repeat(513));
        assert!(record(&long).version().is_err());
    }
}
