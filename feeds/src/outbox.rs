//! The outbox: how unfinished work is found again.
//!
//! Work that spans partitions is described by a *job* in the partition where the operation took effect, written
//! in that very batch. A *pointer* to it lies in one of a few outbox partitions, so that a worker need not
//! search. Invariants:
//!
//! * The pointer is written before the job: a job always has a pointer.
//! * The job is deleted before its pointer.
//! * A pointer whose job is absent is dropped only when it is older than the grace time; a call that took
//!   longer than half of that between the two writes writes its pointers again. A call that ends and certainly
//!   wrote no job drops its pointer itself; where the outcome of that write is unknown, the pointer waits.
//!
//! Finished work is taken out of the outbox in groups, after the caller was answered: when there is enough of it,
//! a moment after the first of it, and by every run of a worker. Until then a job may be driven again, which
//! repeats nothing: its writes are the same keys, and guards and tombstones hold. Work stays remembered until it
//! is out, so a caller that goes away in the middle of that forgets nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use keevo_core::{Batch, Engine, Key, Result, call};

use crate::feed_id::FeedId;
use crate::feeds::{Feeds, retry};
use crate::ids::ActivityId;
use crate::keys::{self, OUTBOX_BUCKETS};
use crate::lanes::Lane;
use crate::metrics::add;
use crate::rows::{PointerRow, encode};

/// Finished work is taken out once there is this much of it.
const FLUSH_AT: usize = 256;
/// Finished work waits at most this long for more, where its instance lives on.
const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// With this much finished work, whoever finishes more waits until it is taken out.
const FINISHED_MAX: usize = 4_096;
/// The most operations of one batch that this module writes.
const BATCH_OPS: usize = 1_000;

/// Where a job lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobAt {
    /// An activity's job, under the pointer's number in the activity's home.
    Activity(ActivityId),
    /// The jobs of follow edges in a feed's partition.
    Edges(FeedId),
    /// A reaction's job, under the pointer's number in the reaction's home.
    Reaction(String),
    /// The row of a feed that says how it reaches its followers.
    Source(FeedId),
}

/// A pointer in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) lane: Lane,
    pub(crate) bucket: u8,
    pub(crate) created_us: u64,
    pub(crate) number: u64,
    pub(crate) at: JobAt,
}

impl Pointer {
    pub(crate) fn row(&self) -> PointerRow {
        let row = PointerRow::default();
        match &self.at {
            JobAt::Activity(id) => PointerRow { activity: Bytes::copy_from_slice(id.as_bytes()), ..row },
            JobAt::Edges(feed) => PointerRow { feed: feed.to_string(), ..row },
            JobAt::Reaction(id) => PointerRow { reaction: id.clone(), ..row },
            JobAt::Source(feed) => PointerRow { source: feed.to_string(), ..row },
        }
    }
}

/// Work that is finished and may leave the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) pointer: Pointer,
    /// The job to delete first, where its last step did not delete it.
    pub(crate) job: Option<Key>,
}

impl<E: Engine> Feeds<E> {
    pub(crate) fn pointer_key(&self, pointer: &Pointer) -> Key {
        let sort = keys::pointer(pointer.lane, pointer.created_us, pointer.number);
        self.layout().key(self.layout().outbox(pointer.bucket), sort)
    }

    /// Pointers to jobs that are about to be written, all in one outbox partition.
    pub(crate) fn new_pointers(&self, jobs: impl IntoIterator<Item = JobAt>) -> Vec<Pointer> {
        let random = &self.options().random;
        let first = u8::try_from(random.next_u64() % u64::from(OUTBOX_BUCKETS)).unwrap_or_default();
        // The next one that answers, as far as is known.
        let answers = |bucket: &u8| !self.inner.apart.is_silent(&self.layout().outbox(*bucket));
        let bucket = (first..OUTBOX_BUCKETS).chain(0..first).find(answers).unwrap_or(first);
        let make =
            |at| Pointer { lane: Lane::Prompt, bucket, created_us: self.stamp_us(), number: random.next_u64(), at };
        jobs.into_iter().map(make).collect()
    }

    /// Makes the pointers of a call, before it writes their jobs. If that fails, the call must end.
    pub(crate) async fn point_at(&self, jobs: impl IntoIterator<Item = JobAt>) -> Result<Vec<Pointer>> {
        // Their times are those of the clock, by which workers judge them, and they are no effect of an API call.
        let (pointers, written) = call::aside(async {
            let pointers = self.new_pointers(jobs);
            let written = self.write_pointers(&pointers).await;
            (pointers, written)
        })
        .await;
        match written {
            Ok(()) => Ok(pointers),
            Err(error) => {
                // Some may have been written, but none will lead to a job.
                self.end(pointers).await;
                Err(error)
            }
        }
    }

    /// Writes pointers; to be called before their jobs are written.
    pub(crate) async fn write_pointers(&self, pointers: &[Pointer]) -> Result<()> {
        for chunk in pointers.chunks(BATCH_OPS) {
            let put = |batch: Batch, one: &Pointer| batch.put(self.pointer_key(one), encode(&one.row()));
            let batch = chunk.iter().fold(Batch::new(), put);
            retry(|| self.engine().write(batch.clone())).await?;
        }
        Ok(())
    }

    /// Writes the pointers again if their jobs took so long that a worker might have dropped them.
    pub(crate) async fn renew_pointers(&self, pointers: &[Pointer]) -> Result<()> {
        let Some(oldest) = pointers.first() else { return Ok(()) };
        let age_ms = self.now_ms().saturating_sub(oldest.created_us / 1_000);
        if age_ms > self.options().pointer_grace_ms / 2 {
            call::aside(self.write_pointers(pointers)).await
        } else {
            Ok(())
        }
    }

    /// Remembers finished work, and takes it out when there is enough of it, or soon.
    pub(crate) async fn finish(&self, done: impl IntoIterator<Item = Done>) {
        let (before, count) = {
            let mut finished = self.finished();
            let before = finished.len();
            finished.extend(done);
            add(&self.counters().jobs_finished, finished.len() - before);
            (before, finished.len())
        };
        if count >= FINISHED_MAX || (count >= FLUSH_AT && self.inner.flushing.try_lock().is_ok()) {
            self.flush_finished().await;
        } else if before == 0 && count > 0 {
            self.flush_soon();
        }
    }

    /// Finishes pointers whose jobs are gone, or were never written and never will be.
    pub(crate) async fn end(&self, pointers: impl IntoIterator<Item = Pointer>) {
        self.finish(pointers.into_iter().map(|pointer| Done { pointer, job: None })).await;
    }

    /// Takes finished work out in a moment, unless this instance is gone by then.
    fn flush_soon(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let inner = Arc::downgrade(&self.inner);
        runtime.spawn(async move {
            tokio::time::sleep(FLUSH_AFTER).await;
            if let Some(inner) = inner.upgrade() {
                Self { inner }.flush_finished().await;
            }
        });
    }

    /// The numbers of pointers that this instance has finished or will drive by itself.
    pub(crate) fn held(&self) -> BTreeSet<u64> {
        let mut held = self.inner.lanes.held();
        held.extend(self.finished().iter().map(|done| done.pointer.number));
        held
    }

    /// Takes finished work out of the outbox: jobs first, then their pointers. What fails is driven again later.
    pub(crate) async fn flush_finished(&self) {
        let _flushing = self.inner.flushing.lock().await;
        let done: Vec<Done> = self.finished().clone();
        let count = done.len();
        let delete_job = |done: Done| async move {
            let Some(job) = done.job else { return Some(done.pointer) };
            let delete = retry(|| self.engine().write(Batch::new().delete(job.clone())));
            match self.ask(&job.partition, delete).await {
                Ok(_) => Some(done.pointer),
                Err(error) => {
                    tracing::debug!(%error, "a finished outbox job stays for now");
                    None
                }
            }
        };
        let mut pointers: Vec<Pointer> = futures::stream::iter(done.into_iter().map(delete_job))
            .buffer_unordered(self.options().concurrency)
            .filter_map(futures::future::ready)
            .collect()
            .await;
        pointers.sort_by_key(|pointer| pointer.bucket);
        for group in pointers.chunk_by(|a, b| a.bucket == b.bucket).flat_map(|group| group.chunks(BATCH_OPS)) {
            if let Err(error) = self.delete_pointers(group).await {
                tracing::debug!(%error, "pointers of finished outbox jobs stay for now");
            }
        }
        // Others only add behind these, and only one flush is at work. Whoever goes away before this line leaves
        // all of it to the next flush.
        self.finished().drain(..count);
    }

    /// Deletes pointers of one bucket.
    pub(crate) async fn delete_pointers(&self, pointers: &[Pointer]) -> Result<()> {
        let batch = pointers.iter().fold(Batch::new(), |batch, one| batch.delete(self.pointer_key(one)));
        if batch.ops.is_empty() {
            return Ok(());
        }
        let Some(partition) = pointers.first().map(|one| self.layout().outbox(one.bucket)) else { return Ok(()) };
        self.ask(&partition, retry(|| self.engine().write(batch.clone()))).await.map(|_| ())
    }
}
