//! The outbox: how a change in a channel reaches its members' own partitions, crashes included.
//!
//! ```text
//! 1  read the channel's epoch e
//! 2  put a pointer to the channel into its bucket        a worker can find the channel now
//! 3  write change + job in one batch, if the epoch is e  the change cannot be lost now
//! 4  do the job: write each member's listing, if the listing is of an older job
//! 5  delete the job
//! ```
//!
//! The worker walks the pointers, does what jobs it finds, and removes a pointer only so: raise the epoch,
//! look for jobs once more, delete the pointer if it is still the one that it read.
//!
//! Invariant: where there is a job, there is a pointer. A writer that put its pointer before the epoch was
//! raised either wrote its job before (then the second look finds it) or fails at step 3 and starts again;
//! one that put it later changed the pointer's revision, and the delete fails. No clock takes part.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use keevo_core::{Batch, Check, Engine, ErrorKind, Key, Result, Scan, partition_hash};
use tokio::task::JoinHandle;

use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::ChannelId;
use crate::keys::{self, ChannelKeys, OUTBOX_BUCKETS};
use crate::rows::{self, JobChange, JobRow, ListingRow};

/// The most users in one job.
pub(crate) const JOB_CHANGES_MAX: usize = 200;
const JOBS_PAGE: usize = 16;
const POINTERS_PAGE: usize = 100;
const CONCURRENCY: usize = 8;
/// How long a removal stays in a member's list: far longer than any worker can lag behind another.
const REMOVED_TTL_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// What one run of the outbox did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxRun {
    /// Channels that were looked at.
    pub channels: u64,
    /// Jobs that were done.
    pub jobs: u64,
    /// Pointers that were removed, since their channels had nothing left to do.
    pub pointers_removed: u64,
}

/// A running worker; it ends when this is dropped, which is safe at any point.
#[derive(Debug)]
pub struct OutboxWorker {
    task: JoinHandle<()>,
}

impl Drop for OutboxWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<E: Engine> Chat<E> {
    /// Runs the outbox every `every` until the worker is dropped. Several workers do no harm. Must be called
    /// within a tokio runtime.
    pub fn spawn_worker(&self, every: Duration) -> OutboxWorker {
        let chat = self.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(error) = chat.run_outbox_once().await {
                    tracing::warn!(app = %chat.app, %error, "the outbox worker tries again later");
                }
            }
        });
        OutboxWorker { task }
    }

    /// Does all jobs that lie in the outbox, and removes the pointers that lead nowhere any more.
    pub async fn run_outbox_once(&self) -> Result<OutboxRun> {
        let keyspace = self.keyspace().await?;
        let mut run = OutboxRun::default();
        for bucket in 0..OUTBOX_BUCKETS {
            let partition = keys::outbox_partition(self.app, bucket);
            let mut scan = Scan::partition(keyspace, partition, POINTERS_PAGE);
            loop {
                let page = self.engine.scan(scan.clone()).await?;
                for (pointer, record) in page.records {
                    let check = Check::RevisionIs(record.revision);
                    self.follow_pointer(pointer, check, &mut run).await?;
                }
                if page.next.is_none() {
                    break;
                }
                scan = scan.after(page.next);
            }
        }
        Ok(run)
    }

    async fn follow_pointer(&self, pointer: Key, unchanged: Check, run: &mut OutboxRun) -> Result<()> {
        let channel: ChannelId = String::from_utf8_lossy(&pointer.sort).parse()?;
        let keys = self.keys(&channel).await?;
        run.channels += 1;
        run.jobs += self.run_jobs(&channel, &keys).await?;
        // A pointer that was put again belongs to somebody who is about to write a job: leave it for later.
        let current = self.get(pointer.clone()).await?.map(|record| Check::RevisionIs(record.revision));
        if current.as_ref() != Some(&unchanged) {
            return Ok(());
        }
        self.engine.write(Batch::new().merge(keys.epoch(), 1)).await?;
        run.jobs += self.run_jobs(&channel, &keys).await?;
        match self.engine.write(Batch::new().delete(pointer.clone()).require(pointer, unchanged)).await {
            Ok(_) => run.pointers_removed += 1,
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Steps 1 and 2: puts the pointer, and returns what must hold of the epoch when the job is written.
    pub(crate) async fn announce(&self, channel: &ChannelId, keys: &ChannelKeys) -> Result<Check> {
        let epoch = self.get(keys.epoch()).await?;
        let bucket = partition_hash(&keys.partition) % OUTBOX_BUCKETS;
        let sort = Bytes::copy_from_slice(channel.as_str().as_bytes());
        let pointer = keys.keyspace.key(keys::outbox_partition(self.app, bucket), sort);
        self.engine.write(Batch::new().put(pointer, Bytes::new())).await?;
        Ok(epoch.map_or(Check::Absent, |record| Check::ValueIs(record.value)))
    }

    /// Steps 4 and 5 for all jobs of a channel. Repeatable, and safe beside another worker.
    pub(crate) async fn run_jobs(&self, channel: &ChannelId, keys: &ChannelKeys) -> Result<u64> {
        let mut done = 0;
        loop {
            let scan = Scan::prefix(keys.keyspace, keys.partition.clone(), keys::prefix::jobs(), JOBS_PAGE);
            let jobs = self.first(scan, JOBS_PAGE).await?;
            if jobs.is_empty() {
                return Ok(done);
            }
            for (key, record) in jobs {
                let job: JobRow = rows::decode(&record.value, "an outbox job")?;
                let number = keys::trailing_number(&key.sort)?;
                let updates = job.changes.into_iter().map(|change| {
                    let (chat, channel) = (self.clone(), channel.clone());
                    async move { chat.update_listing(&channel, number, change).await }
                });
                stream::iter(updates).buffer_unordered(CONCURRENCY).try_collect::<Vec<()>>().await?;
                self.engine.write(Batch::new().delete(key)).await?;
                done += 1;
            }
        }
    }

    async fn update_listing(&self, channel: &ChannelId, job: u64, change: JobChange) -> Result<()> {
        let key = self.user_key(&change.user_id, keys::listing(channel.as_str())).await?;
        let row = ListingRow { role: change.role, joined_at_ms: change.joined_at_ms, job, removed: change.removed };
        for _ in 0..ATTEMPTS_MAX {
            let check = match self.get(key.clone()).await? {
                None => Check::Absent,
                Some(record) if rows::decode::<ListingRow>(&record.value, "a listing")?.job >= job => return Ok(()),
                Some(record) => Check::RevisionIs(record.revision),
            };
            let batch = Batch::new().require(key.clone(), check);
            let batch = if row.removed {
                batch.put_ttl(key.clone(), rows::encode(&row), REMOVED_TTL_MS)
            } else {
                batch.put(key.clone(), rows::encode(&row))
            };
            match self.engine.write(batch).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the user's list of channels"))
    }
}
