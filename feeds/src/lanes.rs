//! Lanes of the outbox: what is soon done, and what takes long.
//!
//! Every job starts in the prompt lane. One that is not finished after its first slice there moves on to the bulk
//! lane, which a worker drives beside the other. So a post to millions of followers takes one slice of the prompt
//! lane, and never holds up the post to a few thousand that comes after it.
//!
//! Invariant: a pointer moves by one batch, so its job has a pointer at every moment, in one lane.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use keevo_core::{Batch, Engine, Result};
use tokio::sync::Notify;

use crate::feeds::{Feeds, retry};
use crate::keys::OUTBOX_BUCKETS;
use crate::metrics::add;
use crate::outbox::Pointer;
use crate::rows::encode;

/// The most jobs that an instance remembers to have left to its worker in a lane; the sweep finds the others.
const LEFT_MAX: usize = 4_096;

/// A lane of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Jobs that are new.
    Prompt,
    /// Jobs that turned out large.
    Bulk,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub(crate) const ALL: [Self; 2] = [Self::Prompt, Self::Bulk];

    /// Start of the keys of its pointers in an outbox bucket.
    pub(crate) const fn tag(self) -> &'static [u8] {
        match self {
            Self::Prompt => b"p",
            Self::Bulk => b"q",
        }
    }
}

/// What an instance knows of one lane.
#[derive(Debug, Default)]
pub(crate) struct LaneState {
    /// Wakes the worker when a job was left to it.
    pub(crate) wake: Notify,
    /// The outbox bucket where the next sweep begins.
    next_bucket: AtomicU8,
    left: Mutex<VecDeque<Pointer>>,
}

impl LaneState {
    /// Jobs that were left to this instance, in the order of their coming.
    pub(crate) fn left(&self) -> MutexGuard<'_, VecDeque<Pointer>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All buckets, beginning with another one each time, so that none is always the last.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = u8> + use<> {
        let first = self.next_bucket.fetch_add(1, Ordering::Relaxed) % OUTBOX_BUCKETS;
        (first..OUTBOX_BUCKETS).chain(0..first)
    }
}

/// What an instance knows of its lanes.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    prompt: LaneState,
    bulk: LaneState,
    /// The numbers of the pointers that are being driven. A sweep of the bulk lane must not take up what the prompt
    /// lane is just moving there.
    driving: Mutex<BTreeSet<u64>>,
}

impl Lanes {
    pub(crate) fn of(&self, lane: Lane) -> &LaneState {
        match lane {
            Lane::Prompt => &self.prompt,
            Lane::Bulk => &self.bulk,
        }
    }

    fn numbers(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.driving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a pointer as being driven until the answer is dropped.
    pub(crate) fn drive(&self, number: u64) -> Driving<'_> {
        let first = self.numbers().insert(number);
        Driving { lanes: self, number: first.then_some(number) }
    }

    /// The numbers of pointers that this instance drives or will drive by itself.
    pub(crate) fn held(&self) -> BTreeSet<u64> {
        let mut held = self.numbers().clone();
        for lane in Lane::ALL {
            held.extend(self.of(lane).left().iter().map(|pointer| pointer.number));
        }
        held
    }
}

/// A pointer that is being driven.
#[derive(Debug)]
pub(crate) struct Driving<'a> {
    lanes: &'a Lanes,
    number: Option<u64>,
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.lanes.numbers().remove(&number);
        }
    }
}

impl<E: Engine> Feeds<E> {
    /// Leaves a job to the worker.
    pub(crate) fn leave(&self, pointer: Pointer) {
        add(&self.counters().jobs_left, 1);
        let lane = self.inner.lanes.of(pointer.lane);
        let mut left = lane.left();
        if left.len() < LEFT_MAX {
            left.push_back(pointer);
        }
        drop(left);
        lane.wake.notify_one();
    }

    /// Leaves a job that is not finished after a slice to the bulk lane. If the move fails, the job stays where it is.
    pub(crate) async fn leave_bulk(&self, pointer: Pointer) -> Result<()> {
        let bulk = Pointer { lane: Lane::Bulk, ..pointer.clone() };
        if pointer.lane != Lane::Bulk {
            let moved =
                Batch::new().delete(self.pointer_key(&pointer)).put(self.pointer_key(&bulk), encode(&bulk.row()));
            retry(|| self.engine().write(moved.clone())).await?;
            add(&self.counters().jobs_bulk, 1);
        }
        self.leave(bulk);
        Ok(())
    }
}
