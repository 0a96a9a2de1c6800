//! The model's state: records under structured keys, a revision, a clock.
//!
//! Invariant: `Place` orders as the contract does (keyspace, partition, sort key), without the key encoding, so that
//! the model can tell when the encoding is wrong.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::changes::Changes;
use super::keyspaces::Keyspaces;
use super::sessions::Sessions;
use crate::ids::{KeyspaceId, Revision};
use crate::key::Key;
use crate::record::Record;

/// Where a record lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) keyspace: KeyspaceId,
    pub(super) partition: Bytes,
    pub(super) sort: Bytes,
}

impl Place {
    pub(super) fn of(key: &Key) -> Self {
        Self { keyspace: key.keyspace.id, partition: key.partition.clone(), sort: key.sort.clone() }
    }
}

/// What lies at a place.
#[derive(Debug, Clone)]
pub(super) enum Held {
    /// A user's value.
    Value(Record),
    /// The mark of a fan-out removal.
    Tombstone { expires_at_ms: u64 },
}

impl Held {
    /// The record that a reader sees at `now_ms`.
    pub(super) fn seen(&self, now_ms: u64) -> Option<&Record> {
        match self {
            Self::Value(record) if record.expires_at_ms.is_none_or(|at| at > now_ms) => Some(record),
            Self::Value(_) | Self::Tombstone { .. } => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) records: BTreeMap<Place, Held>,
    pub(super) revision: Revision,
    pub(super) now_ms: u64,
    pub(super) keyspaces: Keyspaces,
    pub(super) sessions: Sessions,
    pub(super) changes: Changes,
}

impl State {
    pub(super) fn new(retained_entries: usize) -> Self {
        Self {
            records: BTreeMap::new(),
            revision: Revision(0),
            now_ms: 0,
            keyspaces: Keyspaces::default(),
            sessions: Sessions::default(),
            changes: Changes::new(retained_entries),
        }
    }

    /// Takes the next revision and moves the clock, which never goes back.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.revision = Revision(self.revision.0 + 1);
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// The record that a reader sees at `place`.
    pub(super) fn visible(&self, place: &Place) -> Option<&Record> {
        self.records.get(place).and_then(|held| held.seen(self.now_ms))
    }
}
