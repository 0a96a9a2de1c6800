//! The writer: group commit.
//!
//! ```text
//! write ─┐  bounded queue
//! write ─┼──────────────▶ take all that wait ─▶ Machine::apply ─▶ one batch, one sync ─▶ answer each
//! write ─┘                     ▲                                                            │
//!                              └──────────── what came in meanwhile is the next group ◀─────┘
//! ```
//!
//! The writer thread does so. A caller that may block, and that nobody else writes beside, does it on its own thread: to
//! wake another one and be woken by it takes a good part of the time of a sync.
//!
//! Invariant: whoever holds the lock on the [`Committer`] owns the machine, and a write is answered after the group it
//! is in was written. After a failed write nothing more is applied.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::batch::Op;
use crate::clock::Clock;
use crate::command::{Command, Entry, Hlc, Outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::fan_out::FanOutAction;
use crate::ids::ClientId;
use crate::key::{CLASS_END, CLASS_META};
use crate::machine::{Machine, ShardView};
use crate::store::{Durability, ExpiryClock, RocksStore, Store};
use crate::views::Views;

/// What a write takes in the queue beside its payload, in bytes.
const JOB_BYTES: usize = 256;
/// How far the clock moves before compactions are told, in milliseconds.
const EXPIRY_STEP_MS: u64 = 1_000;
/// How often the writer lets other threads run before it takes fewer writes than it expects: some 20 µs where there are
/// none that want to.
const LINGER_YIELDS: usize = 64;

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
    /// Given back when it is answered.
    pub(super) place: Place,
}

/// A write's place in the queue: while it is held, nobody commits past it.
#[derive(Debug)]
pub(super) struct Place {
    counts: Arc<Counts>,
    /// Its share of the queue's bytes.
    _permit: OwnedSemaphorePermit,
}

impl Place {
    pub(super) fn new(counts: &Arc<Counts>, permit: OwnedSemaphorePermit) -> Self {
        counts.waiting.fetch_add(1, Ordering::SeqCst);
        Self { counts: Arc::clone(counts), _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts of a writer.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) writes: AtomicU64,
    pub(super) groups: AtomicU64,
    /// How many writes the last group had.
    last_group: AtomicUsize,
    /// How many writes have a place in the queue.
    waiting: AtomicUsize,
}

/// The clock of all keys.
pub(super) fn everything(now_ms: u64) -> ExpiryClock {
    let (lower, upper) = (Bytes::from_static(&[CLASS_META]), Bytes::from_static(&[CLASS_END]));
    ExpiryClock { lower, upper, now_ms }
}

/// The machine and what a commit needs beside it. `None` once the engine is closed.
pub(super) type SharedCommitter = Arc<Mutex<Option<Committer>>>;

/// What commits groups of writes.
#[derive(Debug)]
pub(super) struct Committer {
    pub(super) machine: Machine<RocksStore>,
    pub(super) store: RocksStore,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) durability: Durability,
    pub(super) counts: Arc<Counts>,
    /// The clock by which the store may drop what has expired, in milliseconds.
    pub(super) expiry_ms: u64,
    /// Swept as it writes: a view costs nothing but the space of what is overwritten.
    pub(super) views: Arc<Views<ShardView>>,
}

/// The writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) committer: SharedCommitter,
    pub(super) requests_rx: mpsc::Receiver<Request>,
    pub(super) counts: Arc<Counts>,
    pub(super) group_writes_max: usize,
    pub(super) group_bytes_max: usize,
}

/// The committer for a caller that may block while it commits one write by itself; `None` where others write too: then
/// the write belongs into a group with theirs.
pub(super) fn alone<'a>(
    committer: &'a Mutex<Option<Committer>>,
    counts: &Counts,
) -> Option<MutexGuard<'a, Option<Committer>>> {
    if counts.last_group.load(Ordering::Relaxed) > 1 || counts.waiting.load(Ordering::SeqCst) > 0 {
        return None;
    }
    // After a panic the queue says what it means for those who write.
    committer.try_lock().ok().filter(|committer| committer.is_some())
}

impl Writer {
    /// Applies groups until it is told to stop or the last engine is dropped.
    pub(super) fn run(mut self) {
        while let Some(request) = self.next(self.counts.last_group.load(Ordering::Relaxed).max(1)) {
            let (answers_tx, writes): (Vec<_>, Vec<_>) = self
                .gather(request)
                .into_iter()
                .map(|Job { opens, command, answer_tx, place, .. }| ((answer_tx, place), (opens, command)))
                .unzip();
            if writes.is_empty() {
                continue;
            }
            // A commit that panicked left a machine that nobody may use: those who wait hear of it as this thread ends.
            let Ok(mut committer) = self.committer.lock() else { return };
            let Some(answers) = committer.as_mut().map(|committer| committer.commit(writes)) else { return };
            drop(committer);
            for ((answer_tx, place), answer) in answers_tx.into_iter().zip(answers) {
                drop(place);
                // Whoever asked may have given up waiting; the write stands all the same.
                drop(answer_tx.send(answer));
            }
        }
    }

    /// The next request; `None` when there will be none. Those who were just answered often write again at once: for a
    /// moment it waits until as many are there as in the group before, letting them run meanwhile, since a sync for one
    /// of them would hold up all the others, and a thread that sleeps takes longer to wake.
    fn next(&mut self, expected: usize) -> Option<Request> {
        for _ in 0..LINGER_YIELDS {
            if self.requests_rx.len() >= expected {
                break;
            }
            std::thread::yield_now();
        }
        self.requests_rx.blocking_recv()
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
}

impl Committer {
    /// Commits one write.
    pub(super) fn commit_one(&mut self, opens: Option<ClientId>, command: Command) -> Result<Outcome> {
        self.commit(vec![(opens, command)]).pop().unwrap_or_else(|| Err(Error::corrupt("a write has no outcome")))
    }

    /// Applies a group in one batch with one sync; an answer for each of its writes.
    fn commit(&mut self, group: Vec<(Option<ClientId>, Command)>) -> Vec<Result<Outcome>> {
        self.views.sweep();
        let mut entries = Vec::with_capacity(group.len());
        let mut outcomes_at = Vec::with_capacity(group.len());
        let now_ms = self.clock.now_ms();
        let mut hlc = self.machine.clock();
        let mut index = self.machine.revision().0.saturating_sub(self.machine.base());
        for (opens, command) in group {
            for command in opens.map(Command::OpenSession).into_iter().chain([command]) {
                hlc = Hlc::next(hlc, now_ms);
                index += 1;
                entries.push((index, Entry { hlc, command }));
            }
            outcomes_at.push(entries.len() - 1);
        }
        let stopped_before = self.store.has_stopped();
        let applied = self.machine.apply(entries, Vec::new(), self.durability);
        self.counts.last_group.store(outcomes_at.len(), Ordering::Relaxed);
        if applied.is_ok() {
            let writes = u64::try_from(outcomes_at.len()).unwrap_or(u64::MAX);
            self.counts.writes.fetch_add(writes, Ordering::Relaxed);
            self.counts.groups.fetch_add(1, Ordering::Relaxed);
            self.move_expiry();
        }
        let applied = applied.map_err(|error| self.explain(error, stopped_before));
        let answer = |at: usize| {
            let outcomes = applied.as_ref().map_err(Error::clone)?;
            outcomes.get(at).cloned().ok_or_else(|| Error::corrupt("a write has no outcome"))
        };
        outcomes_at.into_iter().map(answer).collect()
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

/// What a command takes in the queue, about.
pub(super) fn queue_bytes(command: &Command) -> usize {
    let of_op = |op: &Op| {
        let payload = match op {
            Op::Put { value, .. } | Op::Append { value, .. } => value.len(),
            Op::Delete { .. } | Op::DeleteRange { .. } | Op::Merge { .. } => 0,
        };
        payload + op.key().partition.len() + op.key().sort.len() + 64
    };
    let payload = match command {
        Command::Write(batch) => batch.ops.iter().map(of_op).sum(),
        // What it expands to is what it takes while it is applied.
        Command::FanOut(fan_out) => {
            let value = match &fan_out.action {
                FanOutAction::Put { value, .. } => value.len(),
                FanOutAction::Remove { .. } => 0,
            };
            fan_out.targets.iter().map(|target| target.partition.len() + fan_out.sort.len() + value).sum()
        }
        Command::Restore(restore) => restore.bytes(),
        Command::OpenSession(_) | Command::Checksum | Command::MoveClock | Command::Archived(_) => 0,
    };
    JOB_BYTES + payload
}
