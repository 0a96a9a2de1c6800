//! Reading API calls from the committed log of a shard.
//!
//! Invariant: only what is applied here is read, and nothing of it is left out: what the log has purged is told by the
//! first index that is still there.

use std::sync::Arc;

use bytes::Bytes;
use keevo_core::call::EntryNote;
use keevo_core::{Entry as CommandEntry, Error, ErrorKind, Hlc, Record, Result, ShardId};

use super::Node;
use crate::blocking;
use crate::cluster_engine::DEADLINE;
use crate::types::EntryPayload;

/// The most bytes of entries that one page is read from.
const PAGE_BYTES: usize = 4 << 20;
/// The most entries that one page is read from.
const PAGE_ENTRIES: u64 = 16_384;

/// An entry that says something of API calls.
#[derive(Debug, Clone)]
pub struct CallEntry {
    /// Its index in the log of the shard.
    pub index: u64,
    /// Its clock and command.
    pub entry: CommandEntry,
    /// What it says.
    pub note: EntryNote,
}

/// What a part of the log says of API calls.
#[derive(Debug, Clone)]
pub struct CallsPage {
    /// The entries that say something, in order.
    pub calls: Vec<CallEntry>,
    /// The first index that the log still has.
    pub first: u64,
    /// Where the next page begins.
    pub next: u64,
    /// The index after the last one that is applied here.
    pub end: u64,
    /// The latest clock that was seen; zero where the page is empty.
    pub hlc: Hlc,
}

impl CallEntry {
    /// The payload of a log entry, read as one that says something of API calls, and its clock. `None` = it says nothing
    /// of them. `Corrupt`, `NewerFormat`.
    pub fn read(index: u64, payload: &Bytes) -> Result<(Hlc, Option<Self>)> {
        let note = EntryNote::of_entry(payload)?;
        let entry = CommandEntry::decode(payload)?;
        Ok((entry.hlc, note.map(|note| Self { index, entry, note })))
    }
}

impl Node {
    /// Gathers something from every record that has not expired in the shards that this node leads; of each shard as of
    /// one moment.
    pub async fn gather<T: Send + 'static>(
        &self,
        mut gathered: T,
        gather: impl Fn(&mut T, &[u8], &Record) + Send + Sync + 'static,
    ) -> Result<T> {
        let gather = Arc::new(gather);
        for group in self.inner.groups().into_iter().filter(|group| group.is_leader()) {
            group.read_barrier(DEADLINE).await?;
            let (reader, gather) = (group.reader().clone(), Arc::clone(&gather));
            let visit = move || {
                reader.visit(&mut |key, record| gather(&mut gathered, key, record))?;
                Ok(gathered)
            };
            gathered = blocking::run(&self.inner.parts.store, "a walk over the records", visit).await?;
        }
        Ok(gathered)
    }

    /// What the log of a shard says of API calls, from an index on. `Unavailable` where this node has no replica of the
    /// shard; `Corrupt` for an entry that cannot be read.
    pub async fn calls(&self, shard: ShardId, from: u64) -> Result<CallsPage> {
        let inner = &self.inner;
        let group = inner.group(shard).ok_or_else(|| {
            let message = format!("node {} holds no replica of shard {shard}; ask one that does", self.id());
            Error::new(ErrorKind::Unavailable, message)
        })?;
        let end = group.metrics().last_applied.map_or(0, |applied| applied.index.saturating_add(1));
        let log = &inner.parts.log;
        let first = log.log_state(shard.0)?.last_purged_log_id.map_or(0, |purged| purged.index.saturating_add(1));
        let start = from.max(first).min(end);
        let range = start..end.min(start.saturating_add(PAGE_ENTRIES));
        let mut page = CallsPage { calls: Vec::new(), first, next: start, end, hlc: Hlc::default() };
        if range.is_empty() {
            return Ok(page);
        }
        for entry in log.read(shard.0, range, PAGE_BYTES).await? {
            page.next = entry.log_id.index.saturating_add(1);
            if let EntryPayload::Normal(payload) = &entry.payload {
                let (hlc, call) = CallEntry::read(entry.log_id.index, &payload.0)?;
                page.hlc = page.hlc.max(hlc);
                page.calls.extend(call);
            }
        }
        Ok(page)
    }
}
