//! The log of what was administered: who asked for what, when, at which node, and how it ended.
//!
//! ```text
//! meta keyspace, partition "audit":   e/NUMBER → entry, JSON          (NUMBER as u64 BE, from 1)
//!                                     head     → number and SHA-256 of the last entry
//! ```
//!
//! An action has an entry before it is carried out, and one with its outcome after; an entry without the latter may or may
//! not have been carried out. Invariant: every entry names the SHA-256 of the bytes of the one before it, and the head that
//! of the last, so that no entry can be changed, taken out or put in unless all after it and the head are written anew.
//! Whoever notes a head elsewhere notices that too. Entries are never taken away.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self};
use keevo_core::{Batch, Check, Clock, Error, Key, Keyspace, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::authority::hex;
use super::meta::{ATTEMPTS, Rows, contended};
use super::shorten::shortened;

/// The most entries that one call reads.
pub const PAGE_MAX: usize = 1_000;
/// How many entries are read at once.
const AT_ONCE: usize = 16;
/// The longest request in an entry, in bytes of JSON; of a longer one the short parts are kept, and a hash.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// What the first entry names as the one before it.
const NONE_BEFORE: &str = "";

/// An entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u64,
    /// SHA-256 of the bytes of the entry before it, as hexadecimal digits; empty for the first.
    pub before: String,
    /// When, milliseconds since 1970, by the clock of the node.
    pub at_ms: u64,
    /// The node that was asked.
    pub node: u64,
    /// Who asked.
    pub who: String,
    /// The method, `package.Service/Method`.
    pub method: String,
    /// What was asked, without secrets; of an outcome nothing.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub request: Value,
    /// Of an outcome: the number of the entry that it is the outcome of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome_of: Option<u64>,
    /// Of an outcome: `OK`, or the name of the error's kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    number: u64,
    sha256: String,
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries, as they are stored.
    pub entries: Vec<Bytes>,
    /// The number of the last entry that there is; 0 = none.
    pub last: u64,
    /// Its SHA-256.
    pub last_sha256: String,
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    rows: Rows,
    node: u64,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Audit")
    }
}

impl Audit {
    pub(super) fn new(rows: Rows, node: u64, clock: Arc<dyn Clock>) -> Self {
        Self { rows, node, clock }
    }

    /// Notes that somebody asks for something: the number of the entry. Until it is noted nothing may be done.
    pub async fn begin(&self, who: &str, method: &str, request: Value) -> Result<u64> {
        self.append(who, method, shortened(request, REQUEST_BYTES_MAX), None).await
    }

    /// Notes how it ended: `OK`, or the name of a kind of error.
    pub async fn end(&self, number: u64, who: &str, method: &str, outcome: &str) -> Result<u64> {
        self.append(who, method, Value::Null, Some((number, outcome))).await
    }

    async fn append(&self, who: &str, method: &str, request: Value, outcome: Option<(u64, &str)>) -> Result<u64> {
        for _ in 0..ATTEMPTS {
            let (head, check) = self.head().await?;
            let number = head.number.saturating_add(1);
            let entry = Entry {
                number,
                before: head.sha256,
                at_ms: self.clock.now_ms(),
                node: self.node,
                who: who.to_owned(),
                method: method.to_owned(),
                request: request.clone(),
                outcome_of: outcome.map(|(number, _)| number),
                outcome: outcome.map(|(_, outcome)| outcome.to_owned()),
            };
            let bytes = encode(&entry)?;
            let head = encode(&Head { number, sha256: hash(&bytes) })?;
            let batch = Batch::new()
                .require(head_key(), check)
                .require(entry_key(number), Check::Absent)
                .put(entry_key(number), bytes.clone())
                .put(head_key(), head);
            // A write whose answer was lost is found there.
            if self.rows.write(batch).await? || self.entry(number).await?.is_some_and(|found| found == bytes) {
                return Ok(number);
            }
        }
        Err(contended("the audit log"))
    }

    /// Reads up to `limit` entries after number `after`.
    pub async fn page(&self, after: u64, limit: usize) -> Result<Page> {
        let (head, _) = self.head().await?;
        let count = u64::try_from(limit.min(PAGE_MAX)).unwrap_or(u64::MAX);
        let numbers = after.saturating_add(1)..=head.number.min(after.saturating_add(count));
        let mut found =
            stream::iter(numbers.map(|number| async move { (number, self.entry(number).await) })).buffered(AT_ONCE);
        let mut entries = Vec::new();
        while let Some((number, entry)) = found.next().await {
            let gone = || Error::corrupt(format!("entry {number} of the audit log is gone"));
            entries.push(entry?.ok_or_else(gone)?);
        }
        Ok(Page { entries, last: head.number, last_sha256: head.sha256 })
    }

    async fn head(&self) -> Result<(Head, Check)> {
        match self.rows.get(head_key()).await? {
            None => Ok((Head { number: 0, sha256: NONE_BEFORE.to_owned() }, Check::Absent)),
            Some(record) => {
                let head = serde_json::from_slice(&record.value)
                    .map_err(|error| Error::corrupt("the head of the audit log is malformed").with_source(error))?;
                Ok((head, Check::RevisionIs(record.revision)))
            }
        }
    }

    async fn entry(&self, number: u64) -> Result<Option<Bytes>> {
        Ok(self.rows.get(entry_key(number)).await?.map(|record| record.value))
    }
}

/// SHA-256 as hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn encode(value: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::invalid("an entry of the audit log is no JSON").with_source(error))
}

fn head_key() -> Key {
    Keyspace::META.key("audit", "head")
}

fn entry_key(number: u64) -> Key {
    Keyspace::META.key("audit", [b"e/".as_slice(), &number.to_be_bytes()].concat())
}

#[cfg(test)]
mod tests;
