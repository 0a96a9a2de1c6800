//! The one writer of a log store: it takes what has queued up, writes it as one batch with at most one
//! sync, and tells every caller.
//!
//! While a sync runs, the next calls queue up; so the busier the node, the more calls share a sync.
//!
//! Invariant: operations reach the backend in the order of the queue, and after a failure none does.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result, failpoint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::cache::Cache;
use super::group::{Group, LoadedGroup};
use super::op::LogOp;
use super::{Done, GroupId, LogCounters};
use crate::types::Entry;

/// Where a log store keeps its operations.
pub(super) trait Backend: Debug + Send + Sync + 'static {
    /// Everything that is stored, but for the entries themselves.
    fn load(&self) -> Result<Loaded>;

    /// Writes operations together and in order; with `sync` they, and all before them, are durable on
    /// return. Gives the bytes written.
    fn write(&self, ops: &[LogOp], sync: bool) -> Result<u64>;

    /// The entries of `range`, all of which must exist, cut to `bytes_max`, but at least one.
    fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>>;

    /// Gives the space of what was removed back to the disk, if that takes well below `free_bytes` of it.
    fn reclaim(&self, free_bytes: u64) -> Result<()> {
        let _ = free_bytes;
        Ok(())
    }

    /// Does what no caller should wait for, after a batch.
    fn tidy(&self) -> Result<()> {
        Ok(())
    }

    /// The number of the oldest key that entries may be sealed with; 0 = some may not be sealed.
    fn oldest_key(&self) -> u32 {
        0
    }

    /// No more calls will come: a write that waits for something gives up.
    fn close(&self) {}
}

/// What a backend holds when it is opened.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) stamp: Option<Bytes>,
    /// Groups; an error says why a group is damaged.
    pub(super) groups: BTreeMap<GroupId, Result<LoadedGroup>>,
}

/// One call on its way to the disk.
pub(super) struct Job {
    /// Grows with every call of a group.
    pub(super) number: u64,
    pub(super) op: LogOp,
    pub(super) done: Option<Done>,
    /// Its room in the queue.
    pub(super) room: OwnedSemaphorePermit,
}

/// What callers and the writer share.
#[derive(Debug)]
pub(super) struct Shared<B> {
    pub(super) backend: B,
    pub(super) groups: RwLock<BTreeMap<GroupId, Arc<Mutex<Group>>>>,
    pub(super) stamp: Mutex<Option<Bytes>>,
    pub(super) cache: Cache,
    pub(super) room: Arc<Semaphore>,
    pub(super) batch_ops_max: usize,
    pub(super) failed: OnceLock<Error>,
    pub(super) stats: Stats,
}

/// The counters behind [`LogCounters`].
#[derive(Debug, Default)]
pub(super) struct Stats {
    appends: AtomicU64,
    entries: AtomicU64,
    batches: AtomicU64,
    syncs: AtomicU64,
    bytes: AtomicU64,
    pub(super) disk_reads: AtomicU64,
    pub(super) queued: AtomicU64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until every sender is gone and the queue is empty.
///
/// A batch that is smaller than the one before, which had several calls, waits up to `linger` for one more: those callers
/// were just told, and their next calls are on their way. A lone caller never waits.
pub(super) fn run<B: Backend>(shared: &Shared<B>, jobs: &Receiver<Job>, linger: Duration) {
    let _alarm = Alarm(shared);
    let mut calls_before = 0;
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(shared.batch_ops_max.saturating_sub(1)));
        if calls_before > 1
            && batch.len() < calls_before
            && !linger.is_zero()
            && let Ok(late) = jobs.recv_timeout(linger)
        {
            batch.push(late);
            let room = shared.batch_ops_max.saturating_sub(batch.len());
            batch.extend(jobs.try_iter().take(room));
        }
        calls_before = batch.iter().filter(|job| job.op.needs_sync()).count();
        shared.commit(batch);
    }
}

/// Stops the store when the writer panics: its callers would wait for ever.
struct Alarm<'a, B>(&'a Shared<B>);

impl<B> Drop for Alarm<'_, B> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.get_or_init(|| Error::new(ErrorKind::Io, "the writer of the log store has panicked"));
            self.0.room.close();
        }
    }
}

impl<B> Shared<B> {
    /// The group, if it was ever written to.
    pub(super) fn find(&self, group: GroupId) -> Option<Arc<Mutex<Group>>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).get(&group).map(Arc::clone)
    }

    /// The group, made if it is new.
    pub(super) fn find_or_make(&self, group: GroupId) -> Arc<Mutex<Group>> {
        self.find(group).unwrap_or_else(|| {
            let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(groups.entry(group).or_default())
        })
    }

    /// Fails once a write has failed.
    pub(super) fn check(&self) -> Result<()> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Drops what is cached beyond the limit.
    pub(super) fn trim(&self) {
        self.cache.trim(|group, upto| self.find(group).map_or((0, true), |group| lock(&group).evict(upto)));
    }

    pub(super) fn counters(&self) -> LogCounters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Stats { appends, entries, batches, syncs, bytes, disk_reads, queued } = &self.stats;
        LogCounters {
            appends: load(appends),
            entries: load(entries),
            batches: load(batches),
            syncs: load(syncs),
            bytes: load(bytes),
            disk_reads: load(disk_reads),
            queued: load(queued),
            cached_bytes: u64::try_from(self.cache.bytes()).unwrap_or(u64::MAX),
            ..LogCounters::default()
        }
    }
}

impl<B: Backend> Shared<B> {
    fn commit(&self, batch: Vec<Job>) {
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let mut ops = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Job { number, op, done, room } in batch {
            waiting.push((number, op.group(), done, room));
            ops.push(op);
        }
        let result = self.check().and_then(|()| self.write(&ops));
        drop(ops);
        for (number, group, done, room) in waiting {
            if let (Ok(()), Some(group)) = (&result, group.and_then(|group| self.find(group))) {
                lock(&group).mark_written(number);
            }
            drop(room);
            if let Some(done) = done {
                done(result.clone());
            }
        }
        self.stats.queued.fetch_sub(count, Ordering::Relaxed);
        self.trim();
        if let Err(error) = result.and_then(|()| self.backend.tidy()) {
            self.failed.get().map_or_else(|| drop(self.fail(error)), drop);
        }
    }

    fn write(&self, ops: &[LogOp]) -> Result<()> {
        let sync = ops.iter().any(LogOp::needs_durability);
        failpoint(if sync { "log.before_sync" } else { "log.before_write" });
        let bytes = self.backend.write(ops, sync).map_err(|error| self.fail(error))?;
        failpoint(if sync { "log.after_sync" } else { "log.after_write" });
        let add = |counter: &AtomicU64, by: u64| counter.fetch_add(by, Ordering::Relaxed);
        add(&self.stats.batches, 1);
        add(&self.stats.syncs, u64::from(sync));
        add(&self.stats.bytes, bytes);
        for op in ops {
            if let LogOp::Append { entries, .. } = op {
                add(&self.stats.appends, 1);
                add(&self.stats.entries, u64::try_from(entries.len()).unwrap_or(u64::MAX));
            }
        }
        Ok(())
    }

    /// Stops the store for good.
    fn fail(&self, cause: Error) -> Error {
        tracing::error!(error = %cause, "the log store failed to write and stops");
        let error = Error::new(ErrorKind::Io, format!("the log store has stopped: {}", cause.message()));
        let error = self.failed.get_or_init(|| error.with_source(cause)).clone();
        self.room.close();
        error
    }
}
