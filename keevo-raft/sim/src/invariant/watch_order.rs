//! Watch: changes come in order per shard, all of them, and only those that took place.
//!
//! ```text
//! ∀ connection c of a watch, shard s, events e before f in c of s:   cursor(e) < cursor(f)
//! ∀ put p answered with revision r, begun after the watch was in place:  ∃ event (r, key(p), value(p))
//! ∀ event e:  ∃ put p: key, value and, if p was answered, revision are those of e; p was not refused
//! ∀ events e, f:  cursor(e) = cursor(f)  ⇒  e = f
//! ```
//!
//! A watch that was told that its cursor lies before what is kept starts anew; then the second line holds from there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use keevo_core::{Change, CommitEvent, Cursor, Revision, ShardId};

use crate::world::lock;

/// What a writer did.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) partition: String,
    pub(crate) value: u64,
    pub(crate) began_ms: u64,
    /// What it was answered.
    pub(crate) revision: Option<Revision>,
    /// It was not answered, and may have taken place.
    pub(crate) unsure: bool,
}

/// What all writers did. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record(Arc<Mutex<BTreeMap<u64, Put>>>);

impl Record {
    pub(crate) fn add(&self, put: Put) {
        lock(&self.0).insert(put.value, put);
    }
}

#[derive(Debug, Default)]
struct State {
    /// When the watch was in place.
    since_ms: u64,
    cursors: BTreeMap<ShardId, Cursor>,
    /// The last cursor of each shard on the current connection.
    on_connection: BTreeMap<ShardId, Cursor>,
    events: BTreeMap<Cursor, (String, u64)>,
    by_value: BTreeMap<u64, Cursor>,
    broken: Option<String>,
}

/// What one watcher has seen. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<State>>);

impl Seen {
    /// The watch is in place behind these cursors.
    pub(crate) fn begin(&self, now_ms: u64, cursors: Vec<Cursor>) {
        let mut state = lock(&self.0);
        state.since_ms = now_ms;
        state.cursors = cursors.into_iter().map(|cursor| (cursor.shard, cursor)).collect();
    }

    /// The cursors to resume after; none before the watch is in place.
    pub(crate) fn cursors(&self) -> Vec<Cursor> {
        lock(&self.0).cursors.values().copied().collect()
    }

    /// A new connection begins.
    pub(crate) fn connected(&self) {
        lock(&self.0).on_connection.clear();
    }

    /// The cursors are of no use any more.
    pub(crate) fn forget(&self) {
        lock(&self.0).cursors.clear();
    }

    pub(crate) fn add(&self, event: &CommitEvent) {
        let mut state = lock(&self.0);
        let cursor = event.cursor;
        if let Some(before) = state.on_connection.insert(cursor.shard, cursor)
            && before >= cursor
        {
            state.broken.get_or_insert_with(|| format!("{cursor:?} came after {before:?}"));
        }
        state.cursors.insert(cursor.shard, cursor);
        let partition = event.key.partition.escape_ascii().to_string();
        let value = match &event.change {
            Change::Put { value, .. } => <[u8; 8]>::try_from(value.as_ref()).map(u64::from_be_bytes).ok(),
            _ => None,
        };
        let Some(value) = value else {
            state.broken.get_or_insert_with(|| format!("an event that nobody caused: {event:?}"));
            return;
        };
        let content = (partition, value);
        match state.events.insert(cursor, content.clone()) {
            Some(before) if before != content => {
                state.broken.get_or_insert_with(|| format!("{cursor:?} is both {before:?} and {content:?}"));
            }
            _ => {}
        }
        state.by_value.insert(value, cursor);
    }

    /// An answered put that has not been seen and should have been, if there is one.
    pub(crate) fn missing(&self, record: &Record) -> Option<Put> {
        let state = lock(&self.0);
        let record = lock(&record.0);
        let mut owed = record.values().filter(|put| put.began_ms > state.since_ms && put.revision.is_some());
        owed.find(|put| !state.by_value.contains_key(&put.value)).cloned()
    }

    /// Judges what a watcher saw; gives how many events were looked at.
    pub(crate) fn judge(&self, watcher: usize, record: &Record) -> Result<u64, String> {
        let broken = |what: String| Err(format!("watch order and completeness: watcher {watcher}: {what}"));
        if let Some(put) = self.missing(record) {
            return broken(format!("never saw {put:?}"));
        }
        let state = lock(&self.0);
        if let Some(what) = &state.broken {
            return broken(what.clone());
        }
        let record = lock(&record.0);
        for (cursor, (partition, value)) in &state.events {
            let put = record.get(value).filter(|put| put.partition == *partition);
            let is_true = put.is_some_and(|put| match put.revision {
                Some(revision) => revision == cursor.revision,
                None => put.unsure,
            });
            if !is_true {
                return broken(format!("{value:#x} in {partition} at {cursor:?} is not what was written: {put:?}"));
            }
        }
        Ok(u64::try_from(state.events.len()).unwrap_or(u64::MAX))
    }
}
