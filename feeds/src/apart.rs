//! What waits apart: shards that do not answer, and jobs that cannot go on, while the others do.
//!
//! A shard without a leader keeps whoever asks it waiting. The library knows no shards, but they cut the space of partition
//! hashes into ranges, so what lies in the same one of [`SLOTS`] slots of that space lies in one shard, or in two.
//!
//! ```text
//! a step ──▶ all of its targets at once ──▶ answered
//!                      │ no answer
//!                      ▼
//!            slot by slot, side by side ──▶ answered
//!                      │ no answer
//!                      ▼
//!            the slot waits apart ──▶ later steps leave its targets out and note that in the job
//! ```
//!
//! A job that left slots out walks its followers once more for these alone, as often as it takes. Only such a walk asks a
//! silent slot again, after a time that doubles and with patience that doubles: no other step ever waits for it.
//!
//! Invariant: nothing here is needed to be right. What is remembered is lost in a crash, and bounded: a wait for each slot,
//! and for so many jobs.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use keevo_core::{Engine, Error, ErrorKind, FanOut, Result, Target, partition_hash};
use tokio::time::Instant;

use crate::feeds::{Feeds, is_passing, retry};
use crate::keys::FOLLOWER_BUCKETS;
use crate::metrics::add;
use crate::outbox::{JobAt, Pointer};
use crate::rows::JobRow;

/// How many slots there are: one for each bit of a mask.
pub(crate) const SLOTS: u8 = 64;
/// By how much longer the longest wait, and the most patience, is than the first: two to the power of this.
const DOUBLINGS_MAX: u32 = 3;
/// The most jobs whose waits are remembered; others are tried at every sweep.
const JOBS_MAX: usize = 4_096;

/// The slot of a partition, below [`SLOTS`].
pub(crate) fn slot_of(partition: &[u8]) -> u8 {
    u8::try_from(partition_hash(partition) >> 10).unwrap_or_default()
}

/// The bit of a slot in a mask.
pub(crate) fn bit(slot: u8) -> u64 {
    1_u64.checked_shl(u32::from(slot)).unwrap_or_default()
}

/// What did not answer, and until when it is left alone.
#[derive(Debug, Clone, Copy)]
struct Wait {
    /// How often in a row it did not.
    failures: u32,
    until: Instant,
}

impl Wait {
    /// One more failure at `now`. `first` is how long the first wait is.
    fn after(before: Option<&Self>, now: Instant, first: Duration) -> Self {
        let failures = before.map_or(1, |wait| wait.failures.saturating_add(1));
        Self { failures, until: now + longer(first, failures - 1) }
    }
}

/// `first`, doubled so many times, but not without end.
fn longer(first: Duration, doublings: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(doublings.min(DOUBLINGS_MAX)))
}

/// What an instance knows of shards that do not answer and of jobs that cannot go on.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    slots: Mutex<BTreeMap<u8, Wait>>,
    /// By the numbers of their pointers.
    jobs: Mutex<BTreeMap<u64, Wait>>,
}

/// Masks of the slots that did not answer when they were asked last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Silent {
    /// Those that are left alone.
    waiting: u64,
    /// Those that may be asked again.
    due: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Apart {
    fn silent(&self, now: Instant) -> Silent {
        let mut silent = Silent::default();
        for (slot, wait) in lock(&self.slots).iter() {
            let mask = if wait.until > now { &mut silent.waiting } else { &mut silent.due };
            *mask |= bit(*slot);
        }
        silent
    }

    /// Whether all slots of a mask that has any wait.
    pub(crate) fn all_wait(&self, mask: u64) -> bool {
        mask != 0 && mask & !self.silent(Instant::now()).waiting == 0
    }

    /// Whether a partition's slot did not answer when it was asked last.
    pub(crate) fn is_silent(&self, partition: &[u8]) -> bool {
        lock(&self.slots).contains_key(&slot_of(partition))
    }

    /// Whether a partition's slot waits.
    pub(crate) fn waits(&self, partition: &[u8]) -> bool {
        self.all_wait(bit(slot_of(partition)))
    }

    /// Takes in whether a slot answered.
    fn heard(&self, slot: u8, answered: bool, first: Duration) {
        let mut slots = lock(&self.slots);
        if answered {
            slots.remove(&slot);
        } else {
            let wait = Wait::after(slots.get(&slot), Instant::now(), first);
            slots.insert(slot, wait);
        }
    }

    /// How often in a row a slot did not answer.
    fn failures(&self, slot: u8) -> u32 {
        lock(&self.slots).get(&slot).map_or(0, |wait| wait.failures)
    }

    /// Whether the job of a pointer waits.
    pub(crate) fn job_waits(&self, number: u64) -> bool {
        lock(&self.jobs).get(&number).is_some_and(|wait| wait.until > Instant::now())
    }

    /// How often in a row the job of a pointer could not go on.
    fn job_failures(&self, number: u64) -> u32 {
        lock(&self.jobs).get(&number).map_or(0, |wait| wait.failures)
    }

    /// Takes in whether the job of a pointer could go on.
    pub(crate) fn job_heard(&self, number: u64, went_on: bool, first: Duration) {
        let mut jobs = lock(&self.jobs);
        if went_on {
            jobs.remove(&number);
            return;
        }
        let now = Instant::now();
        let wait = Wait::after(jobs.get(&number), now, first);
        if jobs.len() >= JOBS_MAX {
            // Those whose waits are over may be gone, driven by another instance.
            jobs.retain(|_, wait| wait.until > now);
        }
        if jobs.len() < JOBS_MAX {
            jobs.insert(number, wait);
        }
    }
}

/// What a step of a fan-out did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) applied: u64,
    pub(crate) skipped: u64,
    /// The slots whose targets were not reached, as a mask.
    pub(crate) missed: u64,
}

impl Sent {
    fn plus(self, other: Self) -> Self {
        Self {
            applied: self.applied + other.applied,
            skipped: self.skipped + other.skipped,
            missed: self.missed | other.missed,
        }
    }
}

/// Waits for a call that may be given up at any point, and repeated. `Unavailable` when it takes too long.
async fn within<T>(patience: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(patience, call).await.unwrap_or_else(|elapsed| {
        let message = format!("no answer within {} ms: the work goes on later", patience.as_millis());
        Err(Error::new(ErrorKind::Unavailable, message).with_source(elapsed))
    })
}

impl<E: Engine> Feeds<E> {
    /// How long a step waits for its shards, and how long who does not answer is left alone at first.
    fn patience(&self) -> Duration {
        Duration::from_millis(self.options().patience_ms.max(1))
    }

    /// Waits for a call as long as for a step.
    pub(crate) async fn patiently<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        within(self.patience(), call).await
    }

    /// Asks the shard of one partition, unless it is known not to answer. `Unavailable` then, and when it does not.
    pub(crate) async fn ask<T>(&self, partition: &[u8], call: impl Future<Output = Result<T>>) -> Result<T> {
        let apart = &self.inner.apart;
        if apart.waits(partition) {
            return Err(Error::new(ErrorKind::Unavailable, "the shard did not answer, and is asked again later"));
        }
        let slot = slot_of(partition);
        let answer = self.patiently(call).await;
        let answered = answer.as_ref().err().is_none_or(|error| !is_passing(error.kind()));
        apart.heard(slot, answered, self.patience());
        answer
    }

    /// Begins to drive the job of a pointer on: what must be done before its steps. It gets more time whenever it could
    /// not go on, so that a slow machine comes to an end too.
    pub(crate) async fn begin_drive<T>(&self, number: u64, begin: impl Future<Output = Result<T>>) -> Result<T> {
        let failures = self.inner.apart.job_failures(number);
        within(longer(self.patience(), failures), begin).await
    }

    /// Takes in what became of a drive of a pointer's job.
    pub(crate) fn drove<T>(&self, number: u64, driven: &Result<T>) {
        let went_on = driven.as_ref().err().is_none_or(|error| !is_passing(error.kind()));
        self.inner.apart.job_heard(number, went_on, self.patience());
    }

    /// Whether nobody whom a job has yet to reach can be reached now.
    pub(crate) fn is_held_up(&self, job: &JobRow) -> bool {
        let apart = &self.inner.apart;
        let feeds = job.entries.iter().filter_map(|entry| entry.feed_id().ok());
        let buckets = || (0..FOLLOWER_BUCKETS).filter(|bucket| job.only_lists & bit(*bucket) != 0);
        let mut lists = feeds.flat_map(|feed| buckets().map(move |bucket| self.layout().followers(&feed, bucket)));
        job.is_again() && (job.only == 0 || apart.all_wait(job.only)) && lists.all(|list| apart.waits(&list))
    }

    /// Whether a pointer's job waits apart, by itself or with the partition that it lies in.
    pub(crate) fn waits_apart(&self, pointer: &Pointer) -> bool {
        let layout = self.layout();
        let home = match &pointer.at {
            JobAt::Activity(id) => layout.home(*id),
            JobAt::Edges(feed) => layout.feed(feed),
            JobAt::Reaction(id) => layout.reaction(id),
            JobAt::Source(feed) => layout.followers(feed, 0),
        };
        self.inner.apart.job_waits(pointer.number) || self.inner.apart.waits(&home)
    }

    /// Sends one step of a fan-out. What is known to be silent is left out, unless the step `asks` it and its wait is over,
    /// and so is what does not answer now: the answer says which.
    pub(crate) async fn send_step(&self, step: FanOut, asks: bool) -> Result<Sent> {
        let silent = self.inner.apart.silent(Instant::now());
        if silent == Silent::default() {
            return self.send_whole(step).await;
        }
        let mut sent = Sent::default();
        let (mut whole, mut due) = (Vec::new(), Vec::new());
        for target in step.targets {
            let bit = bit(slot_of(&target.partition));
            if silent.waiting & bit != 0 || (!asks && silent.due & bit != 0) {
                sent.missed |= bit;
            } else if silent.due & bit != 0 {
                due.push(target);
            } else {
                whole.push(target);
            }
        }
        let rest = FanOut { targets: Vec::new(), ..step };
        let due = self.send_by_slot(&rest, due);
        let (whole, due) = futures::join!(self.send_whole(FanOut { targets: whole, ..rest.clone() }), due);
        Ok(sent.plus(whole?).plus(due?))
    }

    async fn send_whole(&self, step: FanOut) -> Result<Sent> {
        if step.targets.is_empty() {
            return Ok(Sent::default());
        }
        match within(self.patience(), retry(|| self.engine().fan_out(step.clone()))).await {
            Ok(done) => Ok(Sent { applied: done.applied, skipped: done.skipped, missed: 0 }),
            Err(error) if is_passing(error.kind()) => {
                tracing::debug!(%error, targets = step.targets.len(), "a step of a fan-out goes on slot by slot");
                let targets = step.targets;
                self.send_by_slot(&FanOut { targets: Vec::new(), ..step }, targets).await
            }
            Err(error) => Err(error),
        }
    }

    /// Sends the targets of each slot by themselves, side by side. A slot that does not answer waits from now on.
    async fn send_by_slot(&self, step: &FanOut, targets: Vec<Target>) -> Result<Sent> {
        let mut by_slot: BTreeMap<u8, Vec<Target>> = BTreeMap::new();
        for target in targets {
            by_slot.entry(slot_of(&target.partition)).or_default().push(target);
        }
        let send = |(slot, targets): (u8, Vec<Target>)| {
            let part = FanOut { targets, ..step.clone() };
            async move {
                let patience = longer(self.patience() / 2, self.inner.apart.failures(slot));
                let done = within(patience, self.engine().fan_out(part)).await;
                let silent = done.as_ref().is_err_and(|error| is_passing(error.kind()));
                self.inner.apart.heard(slot, !silent, self.patience());
                match done {
                    Ok(done) => Ok(Sent { applied: done.applied, skipped: done.skipped, missed: 0 }),
                    Err(error) if silent => {
                        tracing::debug!(%error, slot, "the followers in a slot that does not answer are served later");
                        add(&self.counters().jobs_failed, 1);
                        Ok(Sent { missed: bit(slot), ..Sent::default() })
                    }
                    Err(error) => Err(error),
                }
            }
        };
        let sends: Vec<_> = by_slot.into_iter().map(send).collect();
        let mut sends = futures::stream::iter(sends).buffer_unordered(usize::from(SLOTS));
        let mut sent = Sent::default();
        while let Some(one) = sends.next().await {
            sent = sent.plus(one?);
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn waits_double_up_to_a_bound_and_end_with_an_answer() {
        let (now, first) = (Instant::now(), ms(100));
        let mut wait = Wait::after(None, now, first);
        let mut waits = vec![wait.until - now];
        for _ in 0..5 {
            wait = Wait::after(Some(&wait), now, first);
            waits.push(wait.until - now);
        }
        assert_eq!(waits, [100, 200, 400, 800, 800, 800].map(ms));
        let apart = Apart::default();
        let partition = b"p".as_slice();
        assert!(!apart.waits(partition) && !apart.all_wait(0));
        apart.heard(slot_of(partition), false, Duration::from_hours(1));
        assert!(apart.waits(partition) && !apart.all_wait(u64::MAX));
        apart.heard(slot_of(partition), true, first);
        assert!(!apart.waits(partition));
    }

    #[test]
    fn slots_cover_the_space_of_hashes() {
        let mut seen = 0;
        for n in 0..4_096 {
            let partition = format!("partition {n}");
            assert_eq!(u16::from(slot_of(partition.as_bytes())), partition_hash(partition.as_bytes()) / 1_024);
            seen |= bit(slot_of(partition.as_bytes()));
        }
        assert_eq!(seen, u64::MAX, "each slot has its bit");
    }

    #[test]
    fn the_waits_of_so_many_jobs_are_remembered() {
        let (apart, first) = (Apart::default(), Duration::from_hours(1));
        for number in 0..4_097 {
            apart.job_heard(number, false, first);
        }
        assert!(apart.job_waits(4_095) && !apart.job_waits(4_096), "one too many is tried at every sweep");
        apart.job_heard(7, true, first);
        apart.job_heard(4_096, false, first);
        assert!(apart.job_waits(4_096) && !apart.job_waits(7));
    }
}
