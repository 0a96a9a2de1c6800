//! Applying a batch: preconditions against the state before it, then its operations in order.
//!
//! Invariant: all of it or nothing. A delete of what is not there is no change. A merge or append that fails half-way takes back what came before it.

use bytes::{Bytes, BytesMut};

use super::{Applier, Check, Op, Step, Stop, join};
use crate::batch::{Batch, Precondition, Written};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Revision;
use crate::key::{Key, Keyspace, prefix_end};
use crate::record::{Record, StoredRecord};
use crate::store::Store;
use crate::watch::Change;
use crate::wire::ChangeRow;

/// What a batch in progress has done.
#[derive(Debug, Default)]
struct Done {
    changes: Vec<(Bytes, Change)>,
    assigned: Vec<i64>,
}

fn conflict(key: &Key, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Conflict, format!("key {}/{} {what}", key.partition.escape_ascii(), key.sort.escape_ascii()))
}

impl<S: Store> Applier<'_, S> {
    pub(super) fn batch(&mut self, revision: Revision, batch: Batch, prefix: &[u8]) -> Step<Written> {
        for precondition in &batch.preconditions {
            if let Some(refusal) = self.check(precondition, prefix)? {
                return Err(Stop::Refuse(refusal));
            }
        }
        let Some((keyspace, partition)) =
            batch.ops.first().map(Op::key).map(|key| (key.keyspace, key.partition.clone()))
        else {
            return Ok(Written { revision, assigned: Vec::new() });
        };
        let mut done = Done { changes: Vec::with_capacity(batch.ops.len()), assigned: Vec::new() };
        if batch.ops.iter().any(|op| matches!(op, Op::Merge { .. } | Op::Append { .. })) {
            self.overlay.begin();
        }
        for op in batch.ops {
            if let Err(stop) = self.op(revision, op, prefix, &mut done) {
                self.overlay.roll_back();
                return Err(stop);
            }
        }
        self.overlay.keep();
        self.log_changes(revision, keyspace, vec![partition], done.changes);
        Ok(Written { revision, assigned: done.assigned })
    }

    /// Writes the change row of an entry that changed something.
    pub(super) fn log_changes(
        &mut self,
        revision: Revision,
        keyspace: Keyspace,
        partitions: Vec<Bytes>,
        changes: Vec<(Bytes, Change)>,
    ) {
        if !partitions.is_empty() && !changes.is_empty() {
            self.changes.push(revision, ChangeRow { keyspace, partitions, changes }.encode());
        }
    }

    /// Why a precondition does not hold, if it does not.
    fn check(&self, precondition: &Precondition, prefix: &[u8]) -> Result<Option<Error>> {
        let Precondition { key, check } = precondition;
        let found = self.overlay.visible(self.store, &join(prefix, &key.sort), self.now_ms())?;
        Ok(match (check, found) {
            (Check::Absent, None) | (Check::Exists, Some(_)) => None,
            (Check::Absent, Some(record)) => {
                Some(conflict(key, format_args!("exists at revision {}", record.revision)))
            }
            (Check::RevisionIs(wanted), Some(record)) if record.revision == *wanted => None,
            (Check::RevisionIs(wanted), Some(record)) => {
                Some(conflict(key, format_args!("is at revision {}, not {wanted}", record.revision)))
            }
            (Check::ValueIs(wanted), Some(record)) if record.value == *wanted => None,
            (Check::ValueIs(_), Some(record)) => {
                Some(conflict(key, format_args!("holds another value, of revision {}", record.revision)))
            }
            (_, None) => Some(conflict(key, "is absent")),
        })
    }

    fn op(&mut self, revision: Revision, op: Op, prefix: &[u8], done: &mut Done) -> Step<()> {
        match op {
            Op::Put { key, value, ttl_ms } => {
                let expires_at_ms = ttl_ms.map(|ttl_ms| self.now_ms().saturating_add(ttl_ms));
                self.put(prefix, key.sort, Record { revision, expires_at_ms, value }, done);
            }
            Op::Delete { key } => {
                let encoded = join(prefix, &key.sort);
                let now_ms = self.now_ms();
                let found = self.overlay.get(self.store, &encoded)?.filter(|stored| !stored.is_expired(now_ms));
                // A live tombstone stays: there is nothing to delete, and late puts must still meet it.
                if found.as_ref().is_none_or(|stored| !stored.tombstone) {
                    self.overlay.delete(encoded);
                }
                if found.is_some_and(|stored| !stored.tombstone) {
                    done.changes.push((key.sort, Change::Delete));
                }
            }
            Op::DeleteRange { start, end } => {
                let lower = join(prefix, &start.sort);
                let upper = if end.is_empty() { prefix_end(prefix) } else { join(prefix, &end) };
                let was_there = self.overlay.any_visible(self.store, &lower, &upper, self.now_ms())?;
                self.overlay.delete_range(lower, upper);
                if was_there {
                    done.changes.push((start.sort, Change::DeleteRange { end }));
                }
            }
            Op::Merge { key, delta } => {
                self.merge(revision, key, delta, prefix, done)?;
            }
            Op::Append { counter, prefix: sequence, value, index } => {
                let number = self.merge(revision, counter.clone(), 1, prefix, done)?;
                let Ok(unsigned) = u64::try_from(number) else {
                    return Err(Stop::Refuse(conflict(
                        &counter,
                        format_args!("counts {number}, which numbers nothing"),
                    )));
                };
                let digits = Bytes::copy_from_slice(&unsigned.to_be_bytes());
                let mut sort = BytesMut::with_capacity(sequence.len() + digits.len());
                sort.extend_from_slice(&sequence);
                sort.extend_from_slice(&digits);
                self.put(prefix, sort.freeze(), Record { revision, expires_at_ms: None, value }, done);
                if let Some(index) = index {
                    self.put(prefix, index, Record { revision, expires_at_ms: None, value: digits }, done);
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, prefix: &[u8], sort: Bytes, record: Record, done: &mut Done) {
        let change = Change::Put { value: record.value.clone(), expires_at_ms: record.expires_at_ms };
        self.overlay.put(join(prefix, &sort), StoredRecord::value(record));
        done.changes.push((sort, change));
    }

    fn merge(&mut self, revision: Revision, key: Key, delta: i64, prefix: &[u8], done: &mut Done) -> Step<i64> {
        let found = self.overlay.visible(self.store, &join(prefix, &key.sort), self.now_ms())?;
        let (old, expires_at_ms) = match &found {
            None => (0, None),
            Some(record) => {
                let Ok(bytes) = <[u8; 8]>::try_from(record.value.as_ref()) else {
                    let length = record.value.len();
                    return Err(Stop::Refuse(conflict(
                        &key,
                        format_args!("holds {length} bytes, not a 64-bit integer"),
                    )));
                };
                (i64::from_be_bytes(bytes), record.expires_at_ms)
            }
        };
        let Some(new) = old.checked_add(delta) else {
            return Err(Stop::Refuse(conflict(&key, format_args!("holds {old}; adding {delta} overflows"))));
        };
        let value = Bytes::copy_from_slice(&new.to_be_bytes());
        self.put(prefix, key.sort, Record { revision, expires_at_ms, value }, done);
        done.assigned.push(new);
        Ok(new)
    }
}
