//! The changes of one entry, as they lie in the changes column.
//!
//! ```text
//! partitions × changes:   a batch is 1 × n,   a fan-out is n × 1 (its payload stands there once)
//! offset of an event    = partition's position × number of changes + change's position
//! ```
//!
//! Invariant: offsets are stable for ever; resumed cursors rely on them.

use bytes::Bytes;

use super::messages::{ChangeKindMessage, ChangeMessage, ChangedValueMessage, ChangesMessage, Unit};
use super::{decode_message, encode_message, keyspace_of, newer};
use crate::error::Result;
use crate::key::{Key, Keyspace};
use crate::watch::Change;

/// What one entry changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangeRow {
    /// The keyspace of all of them.
    pub(crate) keyspace: Keyspace,
    /// The partitions, in the order they were written.
    pub(crate) partitions: Vec<Bytes>,
    /// What happened in each of them: sort key and change, in order.
    pub(crate) changes: Vec<(Bytes, Change)>,
}

impl ChangeRow {
    pub(crate) fn encode(&self) -> Bytes {
        let changes = self.changes.iter().map(|(sort, change)| ChangeMessage {
            sort: sort.clone(),
            kind: Some(match change {
                Change::Put { value, expires_at_ms } => {
                    ChangeKindMessage::Put(ChangedValueMessage { value: value.clone(), expires_at_ms: *expires_at_ms })
                }
                Change::Delete => ChangeKindMessage::Delete(Unit {}),
                Change::DeleteRange { end } => ChangeKindMessage::DeleteRange(end.clone()),
            }),
        });
        encode_message(&ChangesMessage {
            keyspace: Some(self.keyspace.into()),
            changes: changes.collect(),
            partitions: self.partitions.clone(),
        })
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Self> {
        let message: ChangesMessage = decode_message(bytes, "change row")?;
        let changes = message.changes.into_iter().map(|change| {
            let kind = match change.kind.ok_or_else(|| newer("a change"))? {
                ChangeKindMessage::Put(ChangedValueMessage { value, expires_at_ms }) => {
                    Change::Put { value, expires_at_ms }
                }
                ChangeKindMessage::Delete(Unit {}) => Change::Delete,
                ChangeKindMessage::DeleteRange(end) => Change::DeleteRange { end },
            };
            Ok((change.sort, kind))
        });
        Ok(Self {
            keyspace: keyspace_of(message.keyspace)?,
            changes: changes.collect::<Result<_>>()?,
            partitions: message.partitions,
        })
    }

    /// The event at `offset`; `None` past the last one.
    pub(crate) fn event(&self, offset: u32) -> Option<(Key, &Change)> {
        let offset = usize::try_from(offset).ok()?;
        let partition = self.partitions.get(offset.checked_div(self.changes.len())?)?;
        let (sort, change) = self.changes.get(offset.checked_rem(self.changes.len())?)?;
        Some((self.keyspace.key(partition.clone(), sort.clone()), change))
    }
}
