//! Watches and commit events.

use keevo_core::{Change, CommitEvent, Cursor, Error, Result, WatchFrom, WatchRange, watches_nothing};

use super::required;
use crate::kv::v1 as pb;

/// The request of a watch. "Now" is a request without cursors.
impl From<(WatchRange, WatchFrom)> for pb::WatchRequest {
    fn from((range, from): (WatchRange, WatchFrom)) -> Self {
        let range = match range {
            WatchRange::Partition { keyspace, partition, prefix } => {
                pb::watch_request::Range::Partition(pb::PartitionWatch {
                    keyspace: Some(keyspace.into()),
                    partition,
                    prefix,
                })
            }
            WatchRange::Keyspace(keyspace) => pb::watch_request::Range::Keyspace(keyspace.into()),
        };
        let (cursors, only) = match from {
            WatchFrom::Now => (Vec::new(), false),
            WatchFrom::After(cursors) => (cursors, false),
            WatchFrom::Only(cursors) => (cursors, true),
        };
        Self { range: Some(range), after: cursors.into_iter().map(Into::into).collect(), only }
    }
}

impl TryFrom<pb::WatchRequest> for (WatchRange, WatchFrom) {
    type Error = Error;

    fn try_from(wire: pb::WatchRequest) -> Result<Self> {
        let range = match required(wire.range, "watch.range")? {
            pb::watch_request::Range::Partition(pb::PartitionWatch { keyspace, partition, prefix }) => {
                let keyspace = required(keyspace, "watch.partition.keyspace")?.try_into()?;
                WatchRange::Partition { keyspace, partition, prefix }
            }
            pb::watch_request::Range::Keyspace(keyspace) => WatchRange::Keyspace(keyspace.try_into()?),
        };
        let cursors = wire.after.into_iter().map(TryInto::try_into).collect::<Result<Vec<Cursor>>>()?;
        let from = match (wire.only, cursors.is_empty()) {
            (true, true) => return Err(watches_nothing()),
            (true, false) => WatchFrom::Only(cursors),
            (false, true) => WatchFrom::Now,
            (false, false) => WatchFrom::After(cursors),
        };
        Ok((range, from))
    }
}

impl From<CommitEvent> for pb::CommitEvent {
    fn from(event: CommitEvent) -> Self {
        let change = match event.change {
            Change::Put { value, expires_at_ms } => {
                pb::commit_event::Change::Put(pb::ChangePut { value, expires_at_ms })
            }
            Change::Delete => pb::commit_event::Change::Delete(pb::ChangeDelete {}),
            Change::DeleteRange { end } => pb::commit_event::Change::DeleteRange(pb::ChangeDeleteRange { end }),
        };
        Self { cursor: Some(event.cursor.into()), key: Some(event.key.into()), change: Some(change) }
    }
}

impl TryFrom<pb::CommitEvent> for CommitEvent {
    type Error = Error;

    fn try_from(wire: pb::CommitEvent) -> Result<Self> {
        let change = match required(wire.change, "event.change")? {
            pb::commit_event::Change::Put(pb::ChangePut { value, expires_at_ms }) => {
                Change::Put { value, expires_at_ms }
            }
            pb::commit_event::Change::Delete(_) => Change::Delete,
            pb::commit_event::Change::DeleteRange(pb::ChangeDeleteRange { end }) => Change::DeleteRange { end },
        };
        Ok(Self {
            cursor: required(wire.cursor, "event.cursor")?.try_into()?,
            key: required(wire.key, "event.key")?.try_into()?,
            change,
        })
    }
}
