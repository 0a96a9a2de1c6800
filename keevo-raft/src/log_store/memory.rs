//! The log store in memory, for the simulator and tests: plain, without threads, and it can crash.
//!
//! A [`MemoryDisk`] is what survives: opening it again is a power cut, which ends the store that had it open
//! and drops what was not synced. When a sync happens is the caller's choice: at once, or only on
//! [`MemoryLogStore::flush`], so that a simulation decides which appends and votes are lost.
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
use super::{Done, GroupId, LogCounters, LogStore};
use crate::types::{Entry, LogId, LogState, Vote};
use crate::wire;

#[cfg(test)]
mod tests;

/// The medium behind a [`MemoryLogStore`]: outlives it, and its crashes.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    durable: Mutex<Contents>,
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

#[derive(Debug, Default, Clone)]
struct Contents {
    stamp: Option<Bytes>,
    groups: BTreeMap<GroupId, Group>,
}

#[derive(Debug, Default, Clone)]
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
        let state = State { visible: lock(&self.durable).clone(), ..State::default() };
        Arc::new(MemoryLogStore {
            disk: Arc::clone(self),
            number: *opened,
            syncs_at_once: AtomicBool::new(syncs_at_once),
            state: Mutex::new(state),
        })
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
        {
            let opened = lock(&self.disk.opened);
            if *opened != self.number {
                return;
            }
            let mut state = lock(&self.state);
            let count = count.min(state.pending.len());
            let settled: Vec<_> = state.pending.drain(..count).collect();
            state.counters.batches += u64::from(count > 0);
            state.counters.syncs += u64::from(settled.iter().any(|(op, _)| op.needs_sync()));
            let mut durable = lock(&self.disk.durable);
            for (op, done) in settled {
                if let LogOp::Append { entries, .. } = &op {
                    state.counters.appends += 1;
                    state.counters.entries += u64::try_from(entries.len()).unwrap_or(u64::MAX);
                    let bytes: usize = entries.iter().map(wire::entry_bytes).sum();
                    state.counters.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
                }
                durable.apply(op);
                told.extend(done.filter(|_| tell));
            }
        }
        for done in told {
            done(Ok(()));
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
                if group.purged.is_none_or(|purged| purged.index < upto.index) {
                    group.purged = Some(upto);
                }
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
        async move { self.write(LogOp::Purge { group, from: 0, upto }, None) }.boxed()
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
