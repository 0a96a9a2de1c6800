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
//! A writer does its own job and no other. The worker walks the pointers, does what jobs it finds, and removes a
//! pointer only so: raise the epoch, look for jobs once more, delete the pointer if it is still the one that it
//! read. What fails for one channel holds up no other: it is logged, and tried again at the next run.
//!
//! Invariant: where there is a job, there is a pointer. A writer that put its pointer before the epoch was
//! raised either wrote its job before (then the second look finds it) or fails at step 3 and starts again;
//! one that put it later changed the pointer's revision, and the delete fails. No clock takes part.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Key, Keyspace, Record, Result, Scan, call, partition_hash};
use tokio::task::JoinHandle;

use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::erasure::pointed_user;
use crate::ids::ChannelId;
use crate::keys::{self, ChannelKeys, OUTBOX_BUCKETS};
use crate::rows::{self, JobChange, JobRow, ListingRow};

/// The most users in one job.
pub(crate) const JOB_CHANGES_MAX: usize = 200;
const JOBS_PAGE: usize = 64;
const POINTERS_PAGE: usize = 100;
const CONCURRENCY: usize = 8;
/// How often the worker looks for reminders and for what is retained no longer, at most.
const SLOWER_EVERY_MS: u128 = 100;
/// How many messages one turn of the worker erases for retention.
const RETENTION_BUDGET: usize = 500;
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

/// A run with what went wrong in it.
#[derive(Debug, Default)]
struct Walk {
    run: OutboxRun,
    failed: u64,
    first: Option<Error>,
}

impl Walk {
    fn fail(&mut self, what: &str, error: Error) {
        tracing::warn!(what, %error, "a part of the outbox is left for the next run");
        self.failed += 1;
        self.first.get_or_insert(error);
    }
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
    /// Runs the outbox every `every` until the worker is dropped, fires reminders that are due, and erases a bounded number
    /// of messages that their channel's type retains no longer. Several workers do no harm. Must be called within a
    /// tokio runtime.
    pub fn spawn_worker(&self, every: Duration) -> OutboxWorker {
        let chat = self.clone();
        let task = tokio::spawn(async move {
            let mut retention = None;
            let slower = u32::try_from(SLOWER_EVERY_MS / every.as_millis().max(1)).unwrap_or(1).max(1);
            let mut until_slower = 0;
            let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(error) = chat.run_outbox_once().await {
                    tracing::warn!(app = %chat.app, %error, "the outbox worker tries again later");
                }
                // What can wait does not hold up what cannot.
                if until_slower > 0 {
                    until_slower -= 1;
                    continue;
                }
                until_slower = slower - 1;
                if let Err(error) = chat.run_reminders_once().await {
                    tracing::warn!(app = %chat.app, %error, "the worker of reminders tries again later");
                }
                match chat.run_retention(retention.take(), RETENTION_BUDGET).await {
                    Ok(run) => retention = run.next,
                    Err(error) => tracing::warn!(app = %chat.app, %error, "the worker of retention begins anew later"),
                }
            }
        });
        OutboxWorker { task }
    }

    /// Does all jobs that lie in the outbox, and removes the pointers that lead nowhere any more. What fails for
    /// one channel keeps no other from being done; then, in the end, the first failure is returned with their
    /// number, and another run tries those again.
    pub async fn run_outbox_once(&self) -> Result<OutboxRun> {
        let keyspace = self.keyspace().await?;
        let mut walk = Walk::default();
        for bucket in 0..OUTBOX_BUCKETS {
            if let Err(error) = self.walk_bucket(keyspace, bucket, &mut walk).await {
                walk.fail(&format!("bucket {bucket}"), error);
            }
        }
        match walk.first {
            None => Ok(walk.run),
            Some(first) => {
                let OutboxRun { channels, jobs, .. } = walk.run;
                let message = format!(
                    "{} parts of the outbox failed, {jobs} jobs of {channels} channels are done; first failure: {}",
                    walk.failed,
                    first.message()
                );
                Err(Error::new(first.kind(), message).with_source(first))
            }
        }
    }

    async fn walk_bucket(&self, keyspace: Keyspace, bucket: u16, walk: &mut Walk) -> Result<()> {
        let partition = keys::outbox_partition(self.app, bucket);
        let mut scan = Scan::partition(keyspace, partition, POINTERS_PAGE);
        loop {
            let page = self.engine.scan(scan.clone()).await?;
            let followed = page.records.into_iter().map(|(pointer, record)| {
                let chat = self.clone();
                async move {
                    let name = String::from_utf8_lossy(&pointer.sort).into_owned();
                    let outcome = chat.follow_pointer(&name, pointer, Check::RevisionIs(record.revision)).await;
                    (name, outcome)
                }
            });
            let mut followed = stream::iter(followed).buffer_unordered(CONCURRENCY);
            while let Some((name, outcome)) = followed.next().await {
                walk.run.channels += 1;
                match outcome {
                    Ok((jobs, removed)) => {
                        walk.run.jobs += jobs;
                        walk.run.pointers_removed += u64::from(removed);
                    }
                    Err(error) => walk.fail(&name, error),
                }
            }
            if page.next.is_none() {
                return Ok(());
            }
            scan = scan.after(page.next);
        }
    }

    /// Does the jobs of the channel or the user that the pointer names; how many, and whether the pointer is removed.
    async fn follow_pointer(&self, name: &str, pointer: Key, unchanged: Check) -> Result<(u64, bool)> {
        if let Some(user) = pointed_user(&pointer.sort) {
            let (steps, done) = Box::pin(self.run_erasure(user?)).await?;
            return Ok((steps, done && self.remove_pointer(pointer.clone(), unchanged).await?));
        }
        let channel: ChannelId = name.parse()?;
        let keys = self.keys(&channel).await?;
        let mut jobs = self.run_jobs(&channel, &keys).await?;
        let (steps, done) = Box::pin(self.run_deletion(&channel, &keys)).await?;
        jobs += steps;
        if !done {
            return Ok((jobs, false));
        }
        // A pointer that was put again belongs to somebody who is about to write a job: leave it for later.
        let current = self.get(pointer.clone()).await?.map(|record| Check::RevisionIs(record.revision));
        if current.as_ref() != Some(&unchanged) {
            return Ok((jobs, false));
        }
        self.engine.write(Batch::new().merge(keys.epoch(), 1)).await?;
        jobs += self.run_jobs(&channel, &keys).await?;
        if !self.is_deletion_done(&keys).await? {
            return Ok((jobs, false));
        }
        Ok((jobs, self.remove_pointer(pointer, unchanged).await?))
    }

    /// Removes a pointer; `false` where it was put again.
    async fn remove_pointer(&self, pointer: Key, unchanged: Check) -> Result<bool> {
        match self.engine.write(Batch::new().delete(pointer.clone()).require(pointer, unchanged)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where the pointer to a channel lies.
    pub(crate) fn pointer(&self, channel: &ChannelId, keys: &ChannelKeys) -> Key {
        let bucket = partition_hash(&keys.partition) % OUTBOX_BUCKETS;
        let sort = Bytes::copy_from_slice(channel.as_str().as_bytes());
        keys.keyspace.key(keys::outbox_partition(self.app, bucket), sort)
    }

    /// Step 2. The epoch must have been read before.
    pub(crate) async fn put_pointer(&self, channel: &ChannelId, keys: &ChannelKeys) -> Result<()> {
        let batch = Batch::new().put(self.pointer(channel, keys), Bytes::new());
        call::aside(self.engine.write(batch)).await?;
        Ok(())
    }

    /// Does all jobs of a channel. One that cannot be read is left where it is, and reported once the others are
    /// done. Repeatable, and safe beside another worker.
    async fn run_jobs(&self, channel: &ChannelId, keys: &ChannelKeys) -> Result<u64> {
        let mut done = 0;
        let mut broken = None;
        let mut scan = Scan::prefix(keys.keyspace, keys.partition.clone(), keys::prefix::jobs(), JOBS_PAGE);
        loop {
            let page = self.engine.scan(scan.clone()).await?;
            let mut jobs = Vec::new();
            for (key, record) in &page.records {
                match read_job(key, record) {
                    Ok(job) => {
                        jobs.push(job);
                        done += 1;
                    }
                    Err(error) => {
                        broken.get_or_insert(error);
                    }
                }
            }
            self.do_jobs(channel, keys, jobs).await?;
            if page.next.is_none() {
                return broken.map_or(Ok(done), Err);
            }
            scan = scan.after(page.next);
        }
    }

    /// Steps 4 and 5 for jobs of a channel, in the order of their numbers.
    pub(crate) async fn do_jobs(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        jobs: Vec<(u64, JobRow)>,
    ) -> Result<()> {
        let mut done = Batch::new();
        // Of several changes of one user the last one is enough.
        let mut changes: BTreeMap<String, (u64, JobChange)> = BTreeMap::new();
        for (number, job) in jobs {
            done = done.delete(keys.job(number));
            for change in job.changes {
                changes.insert(change.user_id.clone(), (number, change));
            }
        }
        if done.ops.is_empty() {
            return Ok(());
        }
        let updates = changes.into_values().map(|(number, change)| {
            let (chat, channel) = (self.clone(), channel.clone());
            async move { chat.update_listing(&channel, number, change).await }
        });
        stream::iter(updates).buffer_unordered(CONCURRENCY).try_collect::<Vec<()>>().await?;
        self.engine.write(done).await?;
        Ok(())
    }

    async fn update_listing(&self, channel: &ChannelId, job: u64, change: JobChange) -> Result<()> {
        let key = self.user_key(&change.user_id, keys::listing(channel.as_str())).await?;
        let JobChange { role, joined_at_ms, removed, invited, .. } = change;
        let row = ListingRow { role, joined_at_ms, job, removed, invited };
        // Who joins is mostly not in the list yet, so the first try of a join needs no look.
        let mut look = row.removed;
        for _ in 0..ATTEMPTS_MAX {
            let stored = if look { self.get(key.clone()).await? } else { None };
            look = true;
            let check = match stored {
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

/// What must hold of the epoch when a job is written, from what it was when it was read.
pub(crate) fn fence(epoch: Option<Record>) -> Check {
    epoch.map_or(Check::Absent, |record| Check::ValueIs(record.value))
}

fn read_job(key: &Key, record: &Record) -> Result<(u64, JobRow)> {
    Ok((keys::trailing_number(&key.sort)?, rows::decode(&record.value, "an outbox job")?))
}
