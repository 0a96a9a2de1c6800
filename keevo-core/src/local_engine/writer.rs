//! The writer thread: group commit.
//!
//! ```text
//! write ─┐  bounded queue
//! write ─┼──────────────▶ take all that wait ─▶ Machine::apply ─▶ one batch, one sync ─▶ answer each
//! write ─┘                     ▲                                                            │
//!                              └──────────── what came in meanwhile is the next group ◀─────┘
//! ```
//!
//! Invariant: one thread owns the machine, so writes are applied in the order they are queued, and a write is
//! answered after the group it is in was written. After a failed write nothing more is applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::clock::Clock;
use crate::command::{Command, Entry, Hlc, Outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::ClientId;
use crate::key::{CLASS_END, CLASS_META};
use crate::store::{Durability, ExpiryClock, RocksStore, Store};

/// How far the clock moves before compactions are told, in milliseconds.
const EXPIRY_STEP_MS: u64 = 1_000;

/// The clock of all keys.
pub(super) fn everything(now_ms: u64) -> ExpiryClock {
    let (lower, upper) = (Bytes::from_static(&[CLASS_META]), Bytes::from_static(&[CLASS_END]));
    ExpiryClock { lower, upper, now_ms }
}
use crate::machine::{Machine, ShardView};
use crate::views::Views;

/// What is asked of the writer.
#[derive(Debug)]
pub(super) enum Request {
    /// Apply a command.
    Apply(Box<Job>),
    /// Apply what is queued already, then end.
    Stop,
}

/// A command and whom to answer.
#[derive(Debug)]
pub(super) struct Job {
    /// A session to open first.
    pub(super) opens: Option<ClientId>,
    pub(super) command: Command,
    pub(super) bytes: usize,
    pub(super) answer_tx: oneshot::Sender<Result<Outcome>>,
    /// Its share of the queue's bytes, given back when it is answered.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Counts of a writer.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) writes: AtomicU64,
    pub(super) groups: AtomicU64,
}

/// The state of the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) machine: Machine<RocksStore>,
    pub(super) store: RocksStore,
    pub(super) requests_rx: mpsc::Receiver<Request>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) durability: Durability,
    pub(super) group_writes_max: usize,
    pub(super) group_bytes_max: usize,
    pub(super) counts: Arc<Counts>,
    /// The clock by which the store may drop what has expired, in milliseconds.
    pub(super) expiry_ms: u64,
    /// Swept as it writes: a view costs nothing but the space of what is overwritten.
    pub(super) views: Arc<Views<ShardView>>,
}

/// Whom to answer with which of a group's outcomes.
struct Waiting {
    answer_tx: oneshot::Sender<Result<Outcome>>,
    outcome_at: usize,
    permit: OwnedSemaphorePermit,
}

impl Writer {
    /// Applies groups until it is told to stop or the last engine is dropped.
    pub(super) fn run(mut self) {
        while let Some(request) = self.requests_rx.blocking_recv() {
            let group = self.gather(request);
            if !group.is_empty() {
                self.views.sweep();
                self.commit(group);
            }
        }
    }

    /// The request and what waits behind it, up to the bounds of a group.
    fn gather(&mut self, first: Request) -> Vec<Job> {
        let mut group = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(request) = next.take() {
            match request {
                Request::Apply(job) => {
                    bytes += job.bytes;
                    group.push(*job);
                }
                // What was queued before stays and is applied; nothing new gets in.
                Request::Stop => self.requests_rx.close(),
            }
            if group.len() < self.group_writes_max && bytes < self.group_bytes_max {
                next = self.requests_rx.try_recv().ok();
            }
        }
        group
    }

    fn commit(&mut self, group: Vec<Job>) {
        let mut entries = Vec::with_capacity(group.len());
        let mut waiting = Vec::with_capacity(group.len());
        let now_ms = self.clock.now_ms();
        let mut hlc = self.machine.clock();
        let mut index = self.machine.revision().0.saturating_sub(self.machine.base());
        for Job { opens, command, answer_tx, permit, .. } in group {
            for command in opens.map(Command::OpenSession).into_iter().chain([command]) {
                hlc = Hlc::next(hlc, now_ms);
                index += 1;
                entries.push((index, Entry { hlc, command }));
            }
            waiting.push(Waiting { answer_tx, outcome_at: entries.len() - 1, permit });
        }
        let writes = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
        let stopped_before = self.store.has_stopped();
        let applied = self.machine.apply(entries, Vec::new(), self.durability);
        if applied.is_ok() {
            self.counts.writes.fetch_add(writes, Ordering::Relaxed);
            self.counts.groups.fetch_add(1, Ordering::Relaxed);
            self.move_expiry();
        }
        let applied = applied.map_err(|error| self.explain(error, stopped_before));
        for Waiting { answer_tx, outcome_at, permit } in waiting {
            let answer = applied.as_ref().map_err(Error::clone).and_then(|outcomes| {
                outcomes.get(outcome_at).cloned().ok_or_else(|| Error::corrupt("a write has no outcome"))
            });
            drop(permit);
            // Whoever asked may have given up waiting; the write stands all the same.
            drop(answer_tx.send(answer));
        }
    }

    /// Lets compactions drop what has expired by the clock that was just synced.
    fn move_expiry(&mut self) {
        let now_ms = self.machine.clock().ms();
        if self.durability == Durability::Sync && now_ms >= self.expiry_ms.saturating_add(EXPIRY_STEP_MS) {
            self.expiry_ms = now_ms;
            self.store.set_expiry(vec![everything(now_ms)]);
        }
    }

    /// A write that reached the store and failed may be there after a restart; any other failure was before it.
    fn explain(&self, error: Error, stopped_before: bool) -> Error {
        if stopped_before || !self.store.has_stopped() {
            return error;
        }
        let what = format!("the write failed, and may or may not be there after a restart: {}", error.message());
        Error::new(ErrorKind::OutcomeUnknown, what).with_source(error)
    }
}
