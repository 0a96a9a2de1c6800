//! A log store over a [`Backend`]: groups in memory, a bounded queue, one writer thread.
//!
//! A call first waits for room in the queue. Then, under the lock of its group, it changes the group in
//! memory and enters the queue; nothing in between waits, so a dropped future leaves no half of a call.
//!
//! Invariant: the order in which the calls of a group changed it in memory is their order in the queue.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use keevo_core::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::cache::Cache;
use super::group::{Group, join};
use super::op::{LogOp, queue_bytes};
use super::writer::{self, Backend, Job, Shared, Stats, lock};
use super::{Done, GroupId, LogCounters, LogStore};
use crate::types::{Entry, LogId, LogState, Vote};

#[cfg(test)]
mod tests;

/// How much a pipeline holds in memory, at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of calls that wait for the writer.
    pub(super) queue_bytes: usize,
    /// Bytes of entries in the cache.
    pub(super) cache_bytes: usize,
    /// Calls in one batch.
    pub(super) batch_ops: usize,
    /// How long a batch may wait for one more call.
    pub(super) linger: Duration,
}

/// A log store over a backend.
pub(super) struct Pipeline<B: Backend> {
    shared: Arc<Shared<B>>,
    queue_bytes_max: u32,
    next_job: AtomicU64,
    job_tx: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl<B: Backend> fmt::Debug for Pipeline<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogStore").field(&self.shared.backend).finish()
    }
}

impl<B: Backend> Pipeline<B> {
    /// Loads what the backend holds and starts the writer.
    pub(super) fn start(backend: B, limits: Limits) -> Result<Self> {
        let loaded = backend.load()?;
        let groups = loaded.groups.into_iter();
        let groups = groups.map(|(id, group)| (id, Arc::new(Mutex::new(Group::new(group))))).collect();
        let queue_bytes_max = u32::try_from(limits.queue_bytes.max(1)).unwrap_or(u32::MAX);
        let room = usize::try_from(queue_bytes_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            backend,
            groups: RwLock::new(groups),
            stamp: Mutex::new(loaded.stamp),
            cache: Cache::new(limits.cache_bytes),
            room: Arc::new(Semaphore::new(room)),
            batch_ops_max: limits.batch_ops.max(1),
            failed: std::sync::OnceLock::new(),
            stats: Stats::default(),
        });
        let (job_tx, job_rx) = mpsc::channel();
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("keevo-log".to_owned())
            .spawn(move || writer::run(&for_writer, &job_rx, limits.linger))
            .map_err(|error| Error::new(ErrorKind::Io, "the log store cannot start its writer").with_source(error))?;
        Ok(Self { shared, queue_bytes_max, next_job: AtomicU64::new(1), job_tx: Some(job_tx), writer: Some(writer) })
    }

    /// Waits for room in the queue.
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        self.shared.check()?;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.queue_bytes_max);
        let room = Arc::clone(&self.shared.room).acquire_many_owned(bytes).await;
        self.shared.check()?;
        room.map_err(|closed| stopped().with_source(closed))
    }

    /// Puts a call into the queue. The caller holds the lock of the group, if it has one.
    fn enqueue(&self, number: u64, op: LogOp, done: Option<Done>, room: OwnedSemaphorePermit) -> Result<()> {
        let job_tx = self.job_tx.as_ref().ok_or_else(stopped)?;
        self.shared.stats.queued.fetch_add(1, Ordering::Relaxed);
        job_tx.send(Job { number, op, done, room }).map_err(|_unsent| stopped())
    }

    fn next_job(&self) -> u64 {
        self.next_job.fetch_add(1, Ordering::Relaxed)
    }

    /// Changes a group in memory as `change` says, which gives the operation for the disk, if there is one,
    /// and the bytes that left the cache.
    async fn change(
        &self,
        id: GroupId,
        done: Option<Done>,
        change: impl FnOnce(&mut Group) -> Result<(Option<LogOp>, usize)> + Send,
    ) -> Result<()> {
        let room = self.room(queue_bytes(&[])).await?;
        let group = self.shared.find_or_make(id);
        let mut group = lock(&group);
        let (op, freed) = change(&mut group)?;
        self.shared.cache.shrank(freed);
        op.map_or(Ok(()), |op| self.enqueue(self.next_job(), op, done, room))
    }

    async fn append_entries(&self, id: GroupId, entries: Vec<Entry>, done: Done) -> Result<()> {
        let room = self.room(queue_bytes(&entries)).await?;
        {
            let group = self.shared.find_or_make(id);
            let mut group = lock(&group);
            group.check()?;
            let number = self.next_job();
            let last = entries.last().map(|entry| entry.log_id.index);
            let (op, grown) = group.append(id, entries, number)?;
            if let Some(last) = last {
                self.shared.cache.grew(id, last, grown);
            }
            self.enqueue(number, op, Some(done), room)?;
        }
        self.shared.trim();
        Ok(())
    }

    async fn read_entries(&self, id: GroupId, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>> {
        loop {
            self.shared.check()?;
            let Some(group) = self.shared.find(id) else { return Ok(Vec::new()) };
            let plan = {
                let group = lock(&group);
                group.check()?;
                group.plan_read(&range, bytes_max)
            };
            if plan.disk.is_empty() {
                return Ok(plan.cached);
            }
            let read = self.read_disk(id, plan.disk.clone(), bytes_max).await;
            if lock(&group).generation() == plan.generation {
                let disk = read?;
                let whole = disk.last().is_some_and(|last| last.log_id.index + 1 == plan.disk.end);
                return Ok(join(disk, whole, plan.cached, bytes_max));
            }
        }
    }

    /// Reads off the async threads, if there are any.
    async fn read_disk(&self, id: GroupId, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>> {
        self.shared.stats.disk_reads.fetch_add(1, Ordering::Relaxed);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return self.shared.backend.read(id, range, bytes_max);
        };
        let shared = Arc::clone(&self.shared);
        let read = runtime.spawn_blocking(move || shared.backend.read(id, range, bytes_max));
        read.await
            .map_err(|error| Error::new(ErrorKind::Io, "a read of the log store was stopped").with_source(error))?
    }

    /// Waits until a call is durable.
    async fn durable<'a>(&'a self, call: impl FnOnce(Done) -> BoxFuture<'a, Result<()>> + Send + 'a) -> Result<()> {
        let (done_tx, done_rx) = oneshot::channel();
        // The receiver is gone if the caller's future was dropped: nobody is left to tell.
        call(Box::new(move |result| drop(done_tx.send(result)))).await?;
        done_rx.await.map_err(|error| stopped().with_source(error))?
    }

    fn read_group<T>(&self, id: GroupId, read: impl FnOnce(&Group) -> T, absent: T) -> Result<T> {
        self.shared.check()?;
        let Some(group) = self.shared.find(id) else { return Ok(absent) };
        let group = lock(&group);
        group.check()?;
        Ok(read(&group))
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Io, "the writer of the log store has stopped")
}

impl<B: Backend> Drop for Pipeline<B> {
    /// Writes what is queued, then stops the writer.
    fn drop(&mut self) {
        self.job_tx = None;
        self.shared.backend.close();
        let Some(writer) = self.writer.take() else { return };
        // A callback may hold the last handle: the writer cannot wait for itself.
        if writer.thread().id() != std::thread::current().id() && writer.join().is_err() {
            tracing::error!("the writer of the log store has panicked");
        }
    }
}

impl<B: Backend> LogStore for Pipeline<B> {
    fn append(&self, group: GroupId, entries: Vec<Entry>, done: Done) -> BoxFuture<'_, Result<()>> {
        self.append_entries(group, entries, done).boxed()
    }

    fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Entry>>> {
        self.read_entries(group, range, bytes_max).boxed()
    }

    fn read_stored(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Entry>>> {
        async move {
            self.sync().await?;
            self.read_disk(group, range, bytes_max).await
        }
        .boxed()
    }

    fn save_vote(&self, group: GroupId, vote: Vote) -> BoxFuture<'_, Result<()>> {
        self.durable(move |done| {
            let save = move |state: &mut Group| {
                state.check()?;
                state.stored.vote = Some(vote);
                Ok((Some(LogOp::Vote { group, vote }), 0))
            };
            self.change(group, Some(done), save).boxed()
        })
        .boxed()
    }

    fn vote(&self, group: GroupId) -> Result<Option<Vote>> {
        self.read_group(group, |state| state.stored.vote, None)
    }

    fn save_committed(&self, group: GroupId, committed: Option<LogId>) -> BoxFuture<'_, Result<()>> {
        let save = move |state: &mut Group| {
            state.check()?;
            state.stored.committed = committed;
            Ok((Some(LogOp::Committed { group, committed }), 0))
        };
        self.change(group, None, save).boxed()
    }

    fn committed(&self, group: GroupId) -> Result<Option<LogId>> {
        self.read_group(group, |state| state.stored.committed, None)
    }

    fn truncate_after(&self, group: GroupId, keep: Option<LogId>) -> BoxFuture<'_, Result<()>> {
        let truncate = move |state: &mut Group| state.check().map(|()| state.truncate_after(group, keep));
        self.change(group, None, truncate).boxed()
    }

    fn purge(&self, group: GroupId, upto: LogId) -> BoxFuture<'_, Result<()>> {
        let purge = move |state: &mut Group| state.check().map(|()| state.purge(group, upto));
        self.change(group, None, purge).boxed()
    }

    fn log_state(&self, group: GroupId) -> Result<LogState> {
        self.read_group(group, Group::state, LogState::default())
    }

    fn groups(&self) -> Result<Vec<GroupId>> {
        self.shared.check()?;
        let groups = self.shared.groups.read().unwrap_or_else(PoisonError::into_inner);
        Ok(groups.iter().filter(|(_, group)| lock(group).exists()).map(|(id, _)| *id).collect())
    }

    fn destroy(&self, group: GroupId) -> BoxFuture<'_, Result<()>> {
        self.durable(move |done| {
            let destroy = move |state: &mut Group| Ok((Some(LogOp::Destroy { group }), state.destroy()));
            self.change(group, Some(done), destroy).boxed()
        })
        .boxed()
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        self.durable(move |done| {
            async move {
                let room = self.room(queue_bytes(&[])).await?;
                self.enqueue(self.next_job(), LogOp::Sync, Some(done), room)
            }
            .boxed()
        })
        .boxed()
    }

    fn save_stamp(&self, stamp: Bytes) -> BoxFuture<'_, Result<()>> {
        self.durable(move |done| {
            async move {
                let room = self.room(queue_bytes(&[]) + stamp.len()).await?;
                let mut current = lock(&self.shared.stamp);
                *current = Some(stamp.clone());
                self.enqueue(self.next_job(), LogOp::Stamp(stamp), Some(done), room)
            }
            .boxed()
        })
        .boxed()
    }

    fn stamp(&self) -> Result<Option<Bytes>> {
        self.shared.check()?;
        Ok(lock(&self.shared.stamp).clone())
    }

    fn reclaim(&self, free_bytes: u64) -> BoxFuture<'_, Result<()>> {
        async move {
            self.sync().await?;
            let shared = Arc::clone(&self.shared);
            let reclaimed = tokio::task::spawn_blocking(move || shared.backend.reclaim(free_bytes)).await;
            reclaimed.map_err(|error| Error::new(ErrorKind::Io, "space was not reclaimed").with_source(error))?
        }
        .boxed()
    }

    fn counters(&self) -> LogCounters {
        let free = u64::try_from(self.shared.room.available_permits()).unwrap_or(u64::MAX);
        let queued_bytes_max = u64::from(self.queue_bytes_max);
        let queued_bytes = queued_bytes_max.saturating_sub(free);
        let oldest_key = self.shared.backend.oldest_key();
        LogCounters { queued_bytes, queued_bytes_max, oldest_key, ..self.shared.counters() }
    }
}
