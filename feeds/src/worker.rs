//! The worker: finishes what callers left in the outbox, and what a crash interrupted.
//!
//! Invariants: it may run anywhere, any number of times at once; claims on jobs only save double work. It never
//! loses a job: a failed attempt stays in the outbox for the next sweep. Pointers that wait take no room from jobs
//! that can be driven, and a run that drove nothing does not ask for another at once. The lanes are driven side by
//! side: a large job takes one slice of the prompt lane and no more. What a shard without a leader holds up waits apart
//! (`apart.rs`), and takes no room meanwhile.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use keevo_core::{Engine, Error, ErrorKind, Key, Record, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::deliver::Driven;
use crate::feed_id::FeedId;
use crate::feeds::{Feeds, is_passing};
use crate::ids::ActivityId;
use crate::keys;
use crate::lanes::Lane;
use crate::metrics::add;
use crate::outbox::{JobAt, Pointer};
use crate::rows::{PointerRow, decode};

/// How many targets one attempt at a large job reaches before it makes room for others.
const SLICE: usize = 65_536;
/// How many jobs a worker drives at once in the prompt lane.
const JOBS_AT_ONCE: usize = 8;
/// How many large ones.
const BULK_AT_ONCE: usize = 4;
/// How many times rarer the bulk lane is swept: this instance's jobs come there by themselves.
const BULK_EVERY: u32 = 4;
/// How many pages of a feed's edge jobs one attempt drives.
const EDGE_PAGES: usize = 16;
/// How many pointers one look into an outbox bucket finds.
const SWEEP_PAGE: usize = 1_000;

/// What one run over the outbox did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxRun {
    /// Jobs, or groups of follow jobs, that were driven on.
    pub driven: usize,
    /// Pointers that led to nothing and were dropped.
    pub dropped: usize,
    /// Pointers that wait: for their call to end, their grace time, another instance, or a better moment.
    pub waiting: usize,
    /// Attempts that failed, and pointers that cannot be read; they stay in the outbox.
    pub failed: usize,
    /// Whether the limit was reached before the outbox was empty; never after a run that drove nothing.
    pub more: bool,
}

impl OutboxRun {
    /// What two runs did together.
    fn plus(self, other: Self) -> Self {
        Self {
            driven: self.driven + other.driven,
            dropped: self.dropped + other.dropped,
            waiting: self.waiting + other.waiting,
            failed: self.failed + other.failed,
            more: self.more || other.more,
        }
    }
}

/// What became of one pointer.
enum Step {
    Driven,
    Dropped,
    Waiting,
}

impl<E: Engine> Feeds<E> {
    /// Drives up to `limit` jobs that are not known to be large, then up to `limit` large ones: each time those left to
    /// this instance first, then what a sweep of the outbox finds.
    pub async fn run_outbox_once(&self, limit: usize) -> Result<OutboxRun> {
        let run = self.run_lane(Lane::Prompt, limit).await?;
        Ok(run.plus(self.run_lane(Lane::Bulk, limit).await?))
    }

    /// Drives up to `limit` jobs of one lane.
    pub(crate) async fn run_lane(&self, lane: Lane, limit: usize) -> Result<OutboxRun> {
        self.flush_finished().await;
        let mut run = OutboxRun::default();
        let state = self.inner.lanes.of(lane);
        let left: Vec<Pointer> = {
            let mut left = state.left();
            let count = left.len().min(limit);
            left.drain(..count).collect()
        };
        let taken = left.len();
        self.drive_all(lane, left, true, &mut run).await;
        self.flush_finished().await;
        self.sweep(lane, limit - taken, &mut run).await?;
        self.flush_finished().await;
        run.more = run.driven > 0 && (run.more || !state.left().is_empty());
        Ok(run)
    }

    /// Looks through a lane for pointers old enough to be taken over, oldest first in each bucket. Drives up to `limit`
    /// jobs.
    async fn sweep(&self, lane: Lane, limit: usize, run: &mut OutboxRun) -> Result<()> {
        let now_us = self.now_ms().saturating_mul(1_000);
        let cutoff_us = now_us.saturating_sub(self.options().pickup_after_ms.saturating_mul(1_000));
        let (mut oldest_us, mut pending, mut room) = (u64::MAX, 0, limit);
        for bucket in self.inner.lanes.of(lane).buckets() {
            let mut token = None;
            loop {
                if room == 0 {
                    run.more = true;
                    break;
                }
                let partition = self.layout().outbox(bucket);
                let scan =
                    self.layout().scan(partition.clone(), lane.tag(), Bytes::from_static(lane.tag()), SWEEP_PAGE);
                // A shard that does not answer keeps nobody from the pointers in the others.
                if self.inner.apart.waits(&partition) {
                    run.waiting += 1;
                    break;
                }
                let page = match self.ask(&partition, self.engine().scan(scan.after(token))).await {
                    Err(error) if is_passing(error.kind()) => {
                        self.failed(&error, run);
                        break;
                    }
                    page => page?,
                };
                let read = |(key, record): &(Key, Record)| self.pointer_in(lane, bucket, key, record, run);
                let found: Vec<Pointer> = page.records.iter().filter_map(read).collect();
                let all = found.len();
                let mut due: Vec<Pointer> = found.into_iter().filter(|one| one.created_us <= cutoff_us).collect();
                let fresh = due.len() < all;
                // What this instance has done or will do by itself is not done twice.
                let held = self.held();
                due.retain(|one| !held.contains(&one.number));
                oldest_us = due.iter().map(|one| one.created_us).fold(oldest_us, u64::min);
                pending += due.len();
                let mut due = due.into_iter().peekable();
                while room > 0 && due.peek().is_some() {
                    let before = run.driven;
                    self.drive_all(lane, due.by_ref().take(room).collect(), false, run).await;
                    room = room.saturating_sub(run.driven - before);
                }
                run.more |= due.peek().is_some();
                token = page.next;
                // Pointers lie by age: after a fresh one there are only fresh ones.
                if fresh || token.is_none() {
                    break;
                }
            }
        }
        let lag_ms = if pending == 0 { 0 } else { now_us.saturating_sub(oldest_us) / 1_000 };
        let counters = self.counters();
        let (lag_gauge, pending_gauge) = match lane {
            Lane::Prompt => (&counters.lag_ms, &counters.jobs_pending),
            Lane::Bulk => (&counters.bulk_lag_ms, &counters.bulk_pending),
        };
        lag_gauge.store(lag_ms, Ordering::Relaxed);
        pending_gauge.store(u64::try_from(pending).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(())
    }

    /// The pointer in a row of the outbox. One that cannot be read is counted and left where it lies.
    fn pointer_in(&self, lane: Lane, bucket: u8, key: &Key, record: &Record, run: &mut OutboxRun) -> Option<Pointer> {
        let read = keys::parse_pointer(lane, &key.sort).and_then(|(created_us, number)| {
            let at = job_at(&decode(record)?)?;
            Ok(Pointer { lane, bucket, created_us, number, at })
        });
        match read {
            Ok(pointer) => Some(pointer),
            Err(error) => {
                run.failed += 1;
                add(&self.counters().jobs_failed, 1);
                tracing::error!(%error, bucket, "a pointer in the outbox cannot be read");
                None
            }
        }
    }

    /// Drives the jobs behind pointers. `ended` says that the calls that wrote them are over.
    async fn drive_all(&self, lane: Lane, pointers: Vec<Pointer>, ended: bool, run: &mut OutboxRun) {
        let drive = |pointer| Box::pin(self.drive_or_wait(pointer, ended));
        let at_once = if lane == Lane::Prompt { JOBS_AT_ONCE } else { BULK_AT_ONCE };
        let mut steps = futures::stream::iter(pointers.into_iter().map(drive)).buffer_unordered(at_once);
        while let Some(step) = steps.next().await {
            match step {
                Ok(Step::Driven) => run.driven += 1,
                Ok(Step::Dropped) => run.dropped += 1,
                Ok(Step::Waiting) => run.waiting += 1,
                Err(error) => self.failed(&error, run),
            }
        }
    }

    /// Counts an attempt that failed.
    fn failed(&self, error: &Error, run: &mut OutboxRun) {
        run.failed += 1;
        add(&self.counters().jobs_failed, 1);
        tracing::warn!(%error, "work in the outbox stays for the next sweep");
    }

    /// Drives the job behind a pointer on, unless it waits apart.
    async fn drive_or_wait(&self, pointer: Pointer, ended: bool) -> Result<Step> {
        if self.waits_apart(&pointer) {
            return Ok(Step::Waiting);
        }
        let number = pointer.number;
        let driven = self.drive_pointer(pointer, ended).await;
        self.drove(number, &driven);
        driven
    }

    async fn drive_pointer(&self, pointer: Pointer, ended: bool) -> Result<Step> {
        let _driving = self.inner.lanes.drive(pointer.number);
        let slice = if pointer.lane == Lane::Prompt { self.options().prompt_targets_max } else { SLICE };
        match pointer.at.clone() {
            JobAt::Activity(id) => {
                let driven = self.drive_activity(id, &pointer, slice).await?;
                self.after_drive(driven, pointer, ended).await
            }
            JobAt::Reaction(id) => {
                let driven = self.begin_drive(pointer.number, Box::pin(self.drive_reaction(&id, &pointer))).await?;
                self.after_drive(driven, pointer, ended).await
            }
            JobAt::Source(feed) => {
                let driven = self.drive_source(&feed, &pointer, slice).await?;
                self.after_drive(driven, pointer, ended).await
            }
            JobAt::Edges(feed) => {
                let mut driven = false;
                for _ in 0..EDGE_PAGES {
                    if self.begin_drive(pointer.number, Box::pin(self.drive_edges(&feed))).await? == 0 {
                        // The jobs may have been another call's: the pointer itself waits for its grace time.
                        let step = self.drop_pointer(pointer, ended).await?;
                        return Ok(if driven { Step::Driven } else { step });
                    }
                    driven = true;
                }
                self.leave_bulk(pointer).await?;
                Ok(Step::Driven)
            }
        }
    }

    /// What a drive of the job behind a pointer means for the pointer; `None` = there is no job.
    async fn after_drive(&self, driven: Option<Driven>, pointer: Pointer, ended: bool) -> Result<Step> {
        match driven {
            Some(Driven::Finished) => Ok(Step::Driven),
            Some(Driven::Further) => {
                self.leave_bulk(pointer).await?;
                Ok(Step::Driven)
            }
            Some(Driven::Elsewhere) => Ok(Step::Waiting),
            None => self.drop_pointer(pointer, ended).await,
        }
    }

    /// Drops a pointer that leads to no job, if its call can write none any more.
    async fn drop_pointer(&self, pointer: Pointer, ended: bool) -> Result<Step> {
        let age_ms = self.now_ms().saturating_sub(pointer.created_us / 1_000);
        if !ended && age_ms < self.options().pointer_grace_ms {
            return Ok(Step::Waiting);
        }
        self.delete_pointers(std::slice::from_ref(&pointer)).await?;
        add(&self.counters().pointers_dropped, 1);
        Ok(Step::Dropped)
    }

    /// Starts a worker on the current runtime: a task for each lane. It sweeps every `every`, the bulk lane more rarely,
    /// and at once when a call leaves work.
    pub fn spawn_worker(&self, every: Duration) -> WorkerHandle {
        let (stop_tx, stop_rx) = watch::channel(false);
        let start = |lane| tokio::spawn(self.clone().work(lane, every, stop_rx.clone()));
        WorkerHandle { stop_tx, tasks: Lane::ALL.map(start) }
    }

    /// Works in one lane until it is stopped.
    async fn work(self, lane: Lane, every: Duration, mut stop_rx: watch::Receiver<bool>) {
        let every = if lane == Lane::Bulk { every.saturating_mul(BULK_EVERY) } else { every };
        while !*stop_rx.borrow() {
            let more = match self.run_lane(lane, 1_024).await {
                Ok(run) => run.more && run.failed == 0,
                Err(error) => {
                    tracing::warn!(%error, "a sweep of the outbox failed");
                    false
                }
            };
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = self.inner.lanes.of(lane).wake.notified() => {}
                () = tokio::time::sleep(every) => {}
                // The handle is gone: nobody can stop the worker any more, so it stops itself.
                changed = stop_rx.changed() => if changed.is_err() {
                    break;
                },
            }
        }
        self.flush_finished().await;
    }
}

/// A running worker. Dropping the handle stops it too, without waiting.
#[derive(Debug)]
pub struct WorkerHandle {
    stop_tx: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl WorkerHandle {
    /// Stops the worker after the run that it is in. `Closed` when a task of it had failed.
    pub async fn stop(self) -> Result<()> {
        self.stop_tx.send_replace(true);
        for task in self.tasks {
            task.await
                .map_err(|error| Error::new(ErrorKind::Closed, "the outbox worker had failed").with_source(error))?;
        }
        Ok(())
    }
}

fn job_at(row: &PointerRow) -> Result<JobAt> {
    if !row.reaction.is_empty() {
        return Ok(JobAt::Reaction(row.reaction.clone()));
    }
    if !row.source.is_empty() {
        return FeedId::from_stored(row.source.as_bytes()).map(JobAt::Source);
    }
    if row.feed.is_empty() {
        let id = ActivityId::from_bytes(&row.activity);
        return id.map(JobAt::Activity).map_err(|_error| Error::corrupt("an outbox pointer names no activity"));
    }
    FeedId::from_stored(row.feed.as_bytes()).map(JobAt::Edges)
}
