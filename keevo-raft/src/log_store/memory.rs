//! The log store in memory, for the simulator and tests: plain, without threads, and it can crash.
//!
//! A [`MemoryDisk`] is what survives: opening it again is a power cut, which ends the store that had it open
//! and drops what was not synced. When a sync happens is the caller's choice: at once, or only on
//! [`MemoryLogStore::flush`], so that a simulation decides which appends and votes are lost.
//!
//! A disk may hold a log of segments ([`MemoryDisk::with_segments`]): then what is flushed is written by that log's own
//! code, a power cut takes sectors from it, and what a store finds is what that code recovers. The plain contents are
//! kept beside it and say what must have been found.
//!
//! Invariant: the disk holds a prefix of the calls, and every call that was told to be durable is in it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, ready};
use keevo_core::{Error, ErrorKind, Result};

use super::op::{LogOp, check_append};
use super::segmented::medium::{Found, Medium};
use super::{Done, GroupId, LogCounters, LogStore};
use crate::types::{Entry, LogId, LogState, Vote};
use crate::wire;

#[cfg(test)]
mod tests;

/// The medium behind a [`MemoryLogStore`]: outlives it, and its crashes.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    durable: Mutex<Contents>,
    /// Written to the medium and not synced: a power cut takes all of it, or leaves a prefix.
    leaked: Mutex<Vec<LogOp>>,
    medium: Option<Medium>,
    /// The store that has the disk open; an older one is closed.
    opened: Mutex<u64>,
}

/// A log store on a [`MemoryDisk`].
pub struct MemoryLogStore {
    disk: Arc<MemoryDisk>,
    number: u64,
    syncs_at_once: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Contents {
    stamp: Option<Bytes>,
    groups: BTreeMap<GroupId, Group>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Group {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

#[derive(Default)]
struct State {
    visible: Contents,
    /// Calls that are not yet on the disk, in their order.
    pending: VecDeque<(LogOp, Option<Done>)>,
    failed: Option<Error>,
    counters: LogCounters,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// An empty disk with a log of segments of so many bytes on it. `seed` decides what power cuts take.
    pub fn with_segments(seed: u64, segment_bytes: u64) -> Arc<Self> {
        Arc::new(Self { medium: Some(Medium::new(seed, segment_bytes)), ..Self::default() })
    }

    /// Opens the disk. A store that has it open is cut off as by a power cut: what it has not synced is
    /// lost, its callbacks do not come, and its calls fail with `Closed`. The new store syncs at once.
    pub fn open(self: &Arc<Self>) -> Arc<MemoryLogStore> {
        self.open_as(true)
    }

    /// As [`MemoryDisk::open`], but the new store syncs only when [`MemoryLogStore::flush`] is called.
    pub fn open_unsynced(self: &Arc<Self>) -> Arc<MemoryLogStore> {
        self.open_as(false)
    }

    fn open_as(self: &Arc<Self>, syncs_at_once: bool) -> Arc<MemoryLogStore> {
        let mut opened = lock(&self.opened);
        *opened += 1;
        let (visible, failed) = match self.recover() {
            Ok(contents) => (contents, None),
            Err(error) => (Contents::default(), Some(error)),
        };
        let state = State { visible, failed, ..State::default() };
        Arc::new(MemoryLogStore {
            disk: Arc::clone(self),
            number: *opened,
            syncs_at_once: AtomicBool::new(syncs_at_once),
            state: Mutex::new(state),
        })
    }
}

impl MemoryDisk {
    /// What is there after a power cut. `Corrupt` when that is something else than what was synced and a prefix of what was
    /// written besides.
    fn recover(&self) -> Result<Contents> {
        let mut durable = lock(&self.durable);
        let leaked = std::mem::take(&mut *lock(&self.leaked));
        let Some(medium) = &self.medium else {
            for op in leaked {
                durable.apply(op);
            }
            return Ok(durable.clone());
        };
        let found = Contents::from(medium.cut()?);
        let mut steps = leaked.into_iter().flat_map(in_single_entries);
        while *durable != found {
            let Some(step) = steps.next() else {
                return Err(unlike(&durable, &found));
            };
            durable.apply(step);
        }
        Ok(found)
    }

    /// Writes operations, and makes them durable with all before them, or not yet.
    fn write(&self, ops: Vec<LogOp>, sync: bool) -> Result<()> {
        if let Some(medium) = &self.medium {
            medium.write(&ops, sync)?;
        }
        let mut leaked = lock(&self.leaked);
        leaked.extend(ops);
        if sync {
            let mut durable = lock(&self.durable);
            for op in leaked.drain(..) {
                durable.apply(op);
            }
        }
        Ok(())
    }
}

/// What is wrong with a log that was found to hold `found`, where it had come to hold `written`.
fn unlike(written: &Contents, found: &Contents) -> Error {
    let mut groups: Vec<GroupId> = written.groups.keys().chain(found.groups.keys()).copied().collect();
    groups.sort_unstable();
    groups.dedup();
    let tell = |group: Option<&Group>| match group {
        Some(Group { vote, committed, purged, entries }) => {
            let ends = (entries.keys().next(), entries.keys().next_back());
            format!("vote {vote:?}, committed {committed:?}, purged {purged:?}, entries {ends:?}")
        }
        None => "nothing".to_owned(),
    };
    let differing = groups
        .into_iter()
        .filter(|id| written.groups.get(id) != found.groups.get(id))
        .map(|id| format!("group {id} had {} and has {}", tell(written.groups.get(&id)), tell(found.groups.get(&id))));
    let differing: Vec<String> = differing.collect();
    Error::corrupt(format!("the log came back other than it was at any time since its sync: {}", differing.join("; ")))
}

/// What of an operation may reach the disk by itself.
fn in_single_entries(op: LogOp) -> Vec<LogOp> {
    match op {
        LogOp::Append { group, entries } => {
            entries.into_iter().map(|entry| LogOp::Append { group, entries: vec![entry] }).collect()
        }
        other => vec![other],
    }
}

impl From<Found> for Contents {
    fn from(found: Found) -> Self {
        let groups = found.groups.into_iter().map(|(id, group, entries)| {
            let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry)).collect();
            (id, Group { vote: group.vote, committed: group.committed, purged: group.purged, entries })
        });
        Self { stamp: found.stamp, groups: groups.collect() }
    }
}

impl fmt::Debug for MemoryLogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = lock(&self.state).pending.len();
        f.debug_struct("MemoryLogStore")
            .field("number", &self.number)
            .field("pending", &pending)
            .finish_non_exhaustive()
    }
}

impl MemoryLogStore {
    /// Cuts the power: what was not synced is lost and this store is closed. Gives the store after the
    /// restart, which syncs when this one did.
    pub fn crash(&self) -> Arc<Self> {
        self.disk.open_as(self.syncs_at_once.load(Ordering::SeqCst))
    }

    /// From now on syncs wait for [`MemoryLogStore::flush`], as on a disk that hangs.
    pub fn hold_syncs(&self) {
        self.syncs_at_once.store(false, Ordering::SeqCst);
    }

    /// How many calls are not yet on the disk.
    pub fn unsynced(&self) -> usize {
        lock(&self.state).pending.len()
    }

    /// Syncs the oldest `count` calls; all of them with `usize::MAX`. Calls their callbacks.
    pub fn flush(&self, count: usize) {
        self.settle(count, true);
    }

    /// Moves the oldest `count` calls to the disk without telling anyone, as a disk may write more than
    /// it was told to before the power goes.
    pub fn leak(&self, count: usize) {
        self.settle(count, false);
    }

    /// Lets the disk fail: unsynced calls, and every call from now on, end with `Io`.
    pub fn fail(&self) {
        self.fail_with(&Error::new(ErrorKind::Io, "the log store has stopped: the disk failed"));
    }

    /// As [`MemoryLogStore::fail`], with the error that the calls end with.
    pub fn fail_with(&self, error: &Error) {
        let pending = {
            let mut state = lock(&self.state);
            state.failed = Some(error.clone());
            std::mem::take(&mut state.pending)
        };
        for done in pending.into_iter().filter_map(|(_, done)| done) {
            done(Err(error.clone()));
        }
    }

    fn settle(&self, count: usize, tell: bool) {
        let mut told = Vec::new();
        let written = {
            let opened = lock(&self.disk.opened);
            if *opened != self.number {
                return;
            }
            let mut state = lock(&self.state);
            let count = count.min(state.pending.len());
            let settled: Vec<_> = state.pending.drain(..count).collect();
            state.counters.batches += u64::from(count > 0);
            state.counters.syncs += u64::from(settled.iter().any(|(op, _)| op.needs_sync()));
            let mut ops = Vec::with_capacity(settled.len());
            for (op, done) in settled {
                if let LogOp::Append { entries, .. } = &op {
                    state.counters.appends += 1;
                    state.counters.entries += u64::try_from(entries.len()).unwrap_or(u64::MAX);
                    let bytes: usize = entries.iter().map(wire::entry_bytes).sum();
                    state.counters.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
                }
                ops.push(op);
                told.extend(done.filter(|_| tell));
            }
            self.disk.write(ops, tell)
        };
        if let Err(error) = &written {
            self.fail_with(error);
        }
        for done in told {
            done(written.clone());
        }
    }

    /// The state, unless the store is closed or has failed.
    fn state(&self) -> Result<MutexGuard<'_, State>> {
        if *lock(&self.disk.opened) != self.number {
            return Err(Error::new(ErrorKind::Closed, "the log store was closed by a crash"));
        }
        let state = lock(&self.state);
        state.failed.clone().map_or(Ok(state), Err)
    }

    fn write(&self, op: LogOp, done: Option<Done>) -> Result<()> {
        let confirmed_early = op.needs_sync() && !op.needs_durability();
        let (early, done) = if confirmed_early { (done, None) } else { (None, done) };
        {
            let mut state = self.state()?;
            if let LogOp::Append { group, entries } = &op {
                check_append(entries, state.visible.groups.get(group).and_then(Group::next))?;
            }
            state.visible.apply(op.clone());
            state.pending.push_back((op, done));
        }
        if let Some(done) = early {
            done(Ok(()));
        }
        if self.syncs_at_once.load(Ordering::SeqCst) {
            self.flush(usize::MAX);
        }
        Ok(())
    }

    fn write_durably(&self, op: LogOp) -> BoxFuture<'_, Result<()>> {
        async move {
            let (done_tx, done_rx) = oneshot::channel();
            self.write(op, Some(Box::new(move |result| drop(done_tx.send(result)))))?;
            let crashed = |_| Error::new(ErrorKind::Closed, "the log store crashed before the write was durable");
            done_rx.await.map_err(crashed)?
        }
        .boxed()
    }

    fn with_group<T: Default>(&self, group: GroupId, read: impl FnOnce(&Group) -> T) -> Result<T> {
        Ok(self.state()?.visible.groups.get(&group).map(read).unwrap_or_default())
    }
}

impl Group {
    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id).or(self.purged)
    }

    fn next(&self) -> Option<u64> {
        self.last().map(|last| last.index.saturating_add(1))
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut total = 0_usize;
        if range.start < range.end {
            for entry in self.entries.range(range).map(|(_, entry)| entry) {
                total = total.saturating_add(wire::entry_bytes(entry));
                if total > bytes_max && !entries.is_empty() {
                    break;
                }
                entries.push(entry.clone());
            }
        }
        entries
    }
}

impl Contents {
    fn apply(&mut self, op: LogOp) {
        let Some(id) = op.group() else {
            if let LogOp::Stamp(stamp) = op {
                self.stamp = Some(stamp);
            }
            return;
        };
        let group = self.groups.entry(id).or_default();
        match op {
            LogOp::Append { entries, .. } => {
                group.entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
            }
            LogOp::Vote { vote, .. } => group.vote = Some(vote),
            LogOp::Committed { committed, .. } => group.committed = committed,
            LogOp::Truncate { from, .. } => drop(group.entries.split_off(&from)),
            LogOp::Purge { upto, .. } => {
                group.purged = Some(upto);
                group.entries.retain(|index, _| *index > upto.index);
            }
            LogOp::Destroy { .. } => *group = Group::default(),
            LogOp::Stamp(_) | LogOp::Sync => {}
        }
        let Group { vote, committed, purged, entries } = group;
        if vote.is_none() && committed.is_none() && purged.is_none() && entries.is_empty() {
            self.groups.remove(&id);
        }
    }
}

impl LogStore for MemoryLogStore {
    fn append(&self, group: GroupId, entries: Vec<Entry>, done: Done) -> BoxFuture<'_, Result<()>> {
        async move { self.write(LogOp::Append { group, entries }, Some(done)) }.boxed()
    }

    fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Entry>>> {
        ready(self.with_group(group, |group| group.read(range, bytes_max))).boxed()
    }

    fn save_vote(&self, group: GroupId, vote: Vote) -> BoxFuture<'_, Result<()>> {
        self.write_durably(LogOp::Vote { group, vote })
    }

    fn vote(&self, group: GroupId) -> Result<Option<Vote>> {
        self.with_group(group, |group| group.vote)
    }

    fn save_committed(&self, group: GroupId, committed: Option<LogId>) -> BoxFuture<'_, Result<()>> {
        async move { self.write(LogOp::Committed { group, committed }, None) }.boxed()
    }

    fn committed(&self, group: GroupId) -> Result<Option<LogId>> {
        self.with_group(group, |group| group.committed)
    }

    fn truncate_after(&self, group: GroupId, keep: Option<LogId>) -> BoxFuture<'_, Result<()>> {
        let from = keep.map_or(0, |keep| keep.index.saturating_add(1));
        async move { self.write(LogOp::Truncate { group, from }, None) }.boxed()
    }

    fn purge(&self, group: GroupId, upto: LogId) -> BoxFuture<'_, Result<()>> {
        async move {
            let purged = self.with_group(group, |group| group.purged)?;
            if purged.is_some_and(|purged| purged.index >= upto.index) {
                return Ok(());
            }
            self.write(LogOp::Purge { group, from: 0, upto }, None)
        }
        .boxed()
    }

    fn log_state(&self, group: GroupId) -> Result<LogState> {
        self.with_group(group, |group| LogState { last_purged_log_id: group.purged, last_log_id: group.last() })
    }

    fn groups(&self) -> Result<Vec<GroupId>> {
        Ok(self.state()?.visible.groups.keys().copied().collect())
    }

    fn destroy(&self, group: GroupId) -> BoxFuture<'_, Result<()>> {
        self.write_durably(LogOp::Destroy { group })
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        self.write_durably(LogOp::Sync)
    }

    fn save_stamp(&self, stamp: Bytes) -> BoxFuture<'_, Result<()>> {
        self.write_durably(LogOp::Stamp(stamp))
    }

    fn stamp(&self) -> Result<Option<Bytes>> {
        Ok(self.state()?.visible.stamp.clone())
    }

    fn counters(&self) -> LogCounters {
        let state = lock(&self.state);
        let queued = u64::try_from(state.pending.len()).unwrap_or(u64::MAX);
        LogCounters { queued, ..state.counters }
    }
}
