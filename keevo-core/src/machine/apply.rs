//! Applying entries: a pure function from (state, entry) to (operations, outcome).
//!
//! Invariant: everything here follows from the entries and the state alone. The time is the shard clock,
//! maps are ordered, and nothing depends on how entries are cut into calls; so replicas stay equal.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use super::changes::ChangeLog;
use super::overlay::Overlay;
use super::session::{Seen, Sessions};
use super::shared::Place;
use crate::batch::{Batch, Check, Op};
use crate::command::{Command, Entry, Outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Revision;
use crate::key::{Key, encode_partition};
use crate::record::StoredRecord;
use crate::restore::{Archived, Restore, RestoreFence, RestoreFences};
use crate::store::{Column, Store, StoreBatch, StoreOp};
use crate::system::{self, ARCHIVED, CHECKSUM, RESTORES, STATE, ShardState, row_key};

mod batch;
mod fan_out;

/// Why an entry was not applied.
#[derive(Debug)]
enum Stop {
    /// It is refused, on every replica alike.
    Refuse(Error),
    /// This replica cannot go on.
    Fail(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Fail(error)
    }
}

type Step<T> = std::result::Result<T, Stop>;

/// One apply call in progress.
#[derive(Debug)]
pub(super) struct Applier<'a, S> {
    pub(super) store: &'a S,
    pub(super) place: &'a Place,
    pub(super) state: &'a mut ShardState,
    pub(super) sessions: &'a mut Sessions,
    pub(super) changes: &'a mut ChangeLog,
    pub(super) overlay: Overlay<'a>,
    pub(super) checksum: Option<Bytes>,
    pub(super) archived: Option<Archived>,
    /// The row of the restores, once an entry has asked for it, and whether it has changed.
    pub(super) restores: Option<(RestoreFences, bool)>,
}

impl<S: Store> Applier<'_, S> {
    /// Applies entries, each with its revision, in order.
    pub(super) fn apply(&mut self, entries: Vec<(Revision, Entry)>) -> Result<Vec<Outcome>> {
        let wanted = entries.iter().filter_map(|(_, entry)| match &entry.command {
            Command::Write(batch) => Some(read_keys(batch)),
            _ => None,
        });
        self.overlay.read_ahead(self.store, wanted.flatten().collect())?;
        entries.into_iter().map(|(revision, entry)| self.entry(revision, entry)).collect()
    }

    fn entry(&mut self, revision: Revision, entry: Entry) -> Result<Outcome> {
        self.state.hlc = self.state.hlc.max(entry.hlc);
        self.state.revision = revision;
        let step = match entry.command {
            Command::Write(batch) => self.write(revision, batch),
            Command::FanOut(fan_out) => self.fan_out(revision, fan_out).map(Outcome::FannedOut),
            Command::OpenSession(client) => {
                self.sessions.open(client, self.state.hlc);
                Ok(Outcome::SessionOpened)
            }
            Command::Checksum => Ok(self.checksum(revision)?),
            Command::MoveClock => Ok(Outcome::ClockMoved),
            Command::Restore(restore) => self.restore(restore),
            Command::Archived(archived) => {
                self.archived = Some(archived);
                Ok(Outcome::Done)
            }
        };
        match step {
            Ok(outcome) => Ok(outcome),
            Err(Stop::Refuse(error)) => Ok(Outcome::Refused(error)),
            Err(Stop::Fail(error)) => Err(error),
        }
    }

    /// The shard clock, in milliseconds since the epoch.
    fn now_ms(&self) -> u64 {
        self.state.hlc.ms()
    }

    /// Refuses a partition that lies outside the shard.
    fn check_owned(&self, prefix: &[u8]) -> Step<()> {
        if self.place.owns(prefix) { Ok(()) } else { Err(Stop::Refuse(self.place.moved())) }
    }

    fn write(&mut self, revision: Revision, batch: Batch) -> Step<Outcome> {
        // A refusal up to here says nothing about the request: another shard may yet apply it.
        let prefix = home_prefix(&batch)?;
        self.check_owned(&prefix)?;
        let Some(request) = batch.request else {
            return self.batch(revision, batch, &prefix).map(Outcome::Written);
        };
        match self.sessions.seen(self.store, &request)? {
            Seen::Before(outcome) => return Ok(outcome),
            Seen::Unknown(error) => return Err(Stop::Refuse(error)),
            Seen::New => {}
        }
        let outcome = match self.batch(revision, batch, &prefix) {
            Ok(written) => Outcome::Written(written),
            Err(Stop::Refuse(error)) => Outcome::Refused(error),
            Err(fail) => return Err(fail),
        };
        self.sessions.record(self.store, &request, self.state.hlc, &outcome)?;
        Ok(outcome)
    }

    /// Stores rows as they are. What does not belong here, is damaged, or comes from a restore that another has taken over
    /// from, refuses all of them. Revisions go up all the same, as they have for the entries behind it.
    fn restore(&mut self, restore: Restore) -> Step<Outcome> {
        self.state.base = self.state.base.max(restore.base);
        match restore.fence {
            Some(fence) => self.pass(fence)?,
            None => self.pass_unfenced()?,
        }
        let mut rows = Vec::with_capacity(restore.rows.len());
        for (key, stored) in restore.rows {
            self.check_owned(&key)?;
            let record = StoredRecord::decode_owned(&key, stored).map_err(Stop::Refuse)?;
            rows.push((key, record));
        }
        for (key, record) in rows {
            if let Some(until_ms) = record.record.expires_at_ms.filter(|_| record.tombstone) {
                self.state.tombstones_until_ms = self.state.tombstones_until_ms.max(until_ms);
            }
            self.overlay.put(key, record);
        }
        Ok(Outcome::Done)
    }

    fn pass(&mut self, fence: RestoreFence) -> Step<()> {
        let (fences, changed) = self.fences()?;
        *changed |= fences.pass(fence).map_err(Stop::Refuse)?;
        Ok(())
    }

    /// Refuses rows of a restore that began before the cluster had fences once one with a fence was here. Such a row is there
    /// only where all replicas know of it.
    fn pass_unfenced(&mut self) -> Step<()> {
        self.fences()?.0.pass_unfenced().map_err(Stop::Refuse)
    }

    /// Who sends rows of restores, and whether that has changed.
    fn fences(&mut self) -> Result<&mut (RestoreFences, bool)> {
        if self.restores.is_none() {
            let row = self.store.get(Column::Data, &row_key(self.place.shard, RESTORES))?;
            let fences = row.map(|row| RestoreFences::decode(&row)).transpose()?.unwrap_or_default();
            self.restores = Some((fences, false));
        }
        Ok(self.restores.get_or_insert_with(Default::default))
    }

    fn checksum(&mut self, revision: Revision) -> Result<Outcome> {
        let now_ms = self.now_ms();
        let (mut hash, mut records) = (0_u64, 0_u64);
        let Place { lower, upper, .. } = self.place;
        self.overlay.scan(self.store, lower, upper, &mut |key, stored| {
            if stored.is_visible(now_ms) {
                hash = (hash ^ u64::from(record_crc(key, stored))).wrapping_mul(0x0000_0100_0000_01b3);
                hash ^= hash >> 29;
                records += 1;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let outcome = Outcome::Checksum { revision, hash, records };
        self.checksum = Some(outcome.encode());
        Ok(outcome)
    }

    /// The one batch that brings the store to where the entries lead, with the caller's own rows.
    pub(super) fn finish(self, rows: Vec<(Bytes, Bytes)>, entries: usize) -> StoreBatch {
        let mut ops = Vec::with_capacity(rows.len() + 4 + 3 * entries);
        self.overlay.into_ops(&mut ops);
        if entries > 0 {
            let shard = self.place.shard;
            self.sessions.drain_ops(&mut ops);
            self.changes.drain_ops(self.state, &mut ops);
            ops.push(StoreOp::Put(Column::Data, row_key(shard, STATE), self.state.encode()));
            let archived = self.archived.map(system::encode_archived);
            ops.extend(archived.map(|row| StoreOp::Put(Column::Data, row_key(shard, ARCHIVED), row)));
            let restores = self.restores.filter(|(_, changed)| *changed).map(|(fences, _)| fences.encode());
            ops.extend(restores.map(|row| StoreOp::Put(Column::Data, row_key(shard, RESTORES), row)));
            ops.extend(self.checksum.map(|row| StoreOp::Put(Column::Data, row_key(shard, CHECKSUM), row)));
        }
        ops.extend(rows.into_iter().map(|(key, row)| StoreOp::Put(Column::Data, key, row)));
        StoreBatch { ops }
    }
}

/// The encoded start of the batch's partition. A batch without one or with two is refused: `Batch::validate`
/// has refused it before, so this is for entries that never passed an engine.
fn home_prefix(batch: &Batch) -> Step<Bytes> {
    let Some(home) = batch.partition_key() else {
        return Err(Stop::Refuse(Error::invalid("the batch is empty")));
    };
    let mut keys = batch.ops.iter().map(Op::key).chain(batch.preconditions.iter().map(|one| &one.key));
    if !keys.all(|key| key.same_partition(home)) {
        return Err(Stop::Refuse(Error::new(ErrorKind::CrossPartition, "the batch names more than one partition")));
    }
    Ok(home.partition_prefix())
}

/// The keys whose records decide what the batch does.
fn read_keys(batch: &Batch) -> Vec<Bytes> {
    let checked = batch.preconditions.iter().map(|one| &one.key);
    let read = |op: &&Op| matches!(op, Op::Merge { .. } | Op::Append { .. } | Op::Delete { .. });
    checked.chain(batch.ops.iter().filter(read).map(Op::key)).map(Key::encode).collect()
}

fn join(prefix: &[u8], sort: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(prefix.len() + sort.len());
    key.put_slice(prefix);
    key.put_slice(sort);
    key.freeze()
}

fn record_crc(key: &[u8], stored: &StoredRecord) -> u32 {
    let record = &stored.record;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&u64::try_from(key.len()).unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(key);
    hasher.update(&record.revision.0.to_be_bytes());
    hasher.update(&record.expires_at_ms.unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(&record.value);
    hasher.finalize()
}
