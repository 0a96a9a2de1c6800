//! The load: clients that write and read while faults happen, and checkers of what they saw.
//!
//! ```text
//! registers   read, put, compare-and-set     linearizable, by porcupine
//! bank        transfers, scans               the sum is the same at every scan
//! set         numbered inserts, a watcher    what was acknowledged is there, and was watched, in order
//! counter     +1 under request ids           as many as were asked for, each once
//! ```
//!
//! Invariant: what a call met with is judged in one place, [`Verdict`]. A call that was refused counts as not applied, one
//! in doubt as either; nothing else is forgiven.

mod bank;
mod counter;
mod registers;
mod set;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keevo_client::RemoteEngine;
use keevo_core::{Clock, Engine, Error, ErrorKind, Keyspace, KeyspaceKind, Random, Result, SeededRandom, SystemClock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::node::POLL;

/// How long the load may take to make progress, once nothing keeps it from that.
pub(crate) const PROGRESS_WITHIN: Duration = Duration::from_secs(45);
/// The pause of a client after a call, and after one that failed.
const PAUSE: Duration = Duration::from_millis(2);
const PAUSE_FAILED: Duration = Duration::from_millis(50);

/// What the clients of a load have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    clock: SystemClock,
    /// Calls that were answered.
    answered: AtomicU64,
    /// Calls whose outcome is not known.
    unknown: AtomicU64,
    complaints: Mutex<Vec<String>>,
    /// What the last calls that failed met with, by what they were.
    failures: Mutex<BTreeMap<String, String>>,
    stop: CancellationToken,
    /// The power is gone: what is answered from now on may never have been durable.
    cut: AtomicBool,
    /// Whether detected damage is an answer that a fault of this round excuses.
    damage: bool,
}

/// What a failed call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was not applied.
    Refused,
    /// It may have been applied.
    Unknown,
}

impl Shared {
    /// Monotonic time, in nanoseconds.
    fn now(&self) -> i64 {
        i64::try_from(self.clock.monotonic().as_nanos()).unwrap_or(i64::MAX)
    }

    fn complain(&self, text: String) {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn goes_on(&self) -> bool {
        !self.stop.is_cancelled()
    }

    /// Judges the result of a call that has just returned. An error that no fault explains is a complaint.
    fn judge<T>(&self, what: &str, result: Result<T>) -> Result<T, Verdict> {
        if self.cut.load(Ordering::SeqCst) {
            self.unknown.fetch_add(1, Ordering::Relaxed);
            return Err(Verdict::Unknown);
        }
        let error = match result {
            Ok(value) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                return Ok(value);
            }
            Err(error) => error,
        };
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).insert(what.to_owned(), error.to_string());
        match error.kind() {
            kind if kind.is_retryable() => Err(Verdict::Refused),
            ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                Err(Verdict::Unknown)
            }
            // A replica that met with damage says so and stops.
            ErrorKind::Corrupt | ErrorKind::Io if self.damage => Err(Verdict::Unknown),
            _ => {
                self.complain(format!("{what} failed with {error}"));
                Err(Verdict::Unknown)
            }
        }
    }

    /// The pause before a client's next call.
    async fn pause(&self, failed: bool) {
        let pause = if failed { PAUSE_FAILED } else { PAUSE };
        // Whoever is told to stop meanwhile looks for himself.
        drop(tokio::time::timeout(pause, self.stop.cancelled()).await);
    }
}

/// Random numbers below a bound.
fn below(random: &SeededRandom, bound: u64) -> u64 {
    random.next_u64() % bound.max(1)
}

/// What a load showed.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Calls that were answered and checked.
    pub(crate) checked: u64,
    /// Calls whose outcome is not known.
    pub(crate) unknown: u64,
    /// What was promised and not kept.
    pub(crate) complaints: Vec<String>,
}

/// A load under way.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    keyspace: Keyspace,
    name: String,
    registers: Vec<JoinHandle<Vec<registers::Call>>>,
    bank: Vec<JoinHandle<()>>,
    set: Vec<JoinHandle<set::Ledger>>,
    watchers: Vec<set::Watcher>,
    counters: Vec<JoinHandle<counter::Ledger>>,
}

impl Load {
    /// Starts the clients. `name` tells the keys of one load from those of another; `damage` excuses answers that say
    /// that stored bytes are damaged.
    pub(crate) async fn start(cluster: &Cluster, name: &str, seed: u64, damage: bool) -> Result<Self> {
        let shared = Arc::new(Shared {
            clock: SystemClock::new(),
            answered: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            complaints: Mutex::new(Vec::new()),
            failures: Mutex::new(BTreeMap::new()),
            stop: CancellationToken::new(),
            cut: AtomicBool::new(false),
            damage,
        });
        let engines = [cluster.connect().await?, cluster.connect().await?];
        let [first, second] = &engines;
        let keyspace = patiently(|| first.keyspace("faults", KeyspaceKind::Hashed)).await?;
        bank::open(first, keyspace, name).await?;
        let engine = |number: usize| if number.is_multiple_of(2) { first.clone() } else { second.clone() };
        let mut load = Self {
            shared: Arc::clone(&shared),
            keyspace,
            name: name.to_owned(),
            registers: Vec::new(),
            bank: Vec::new(),
            set: Vec::new(),
            watchers: Vec::new(),
            counters: Vec::new(),
        };
        for number in 0..registers::CLIENTS {
            let client = registers::Client::new(&shared, engine(number), keyspace, name, number, seed);
            load.registers.push(tokio::spawn(client.run()));
        }
        for number in 0..bank::CLIENTS {
            let teller = bank::Teller::new(&shared, engine(number), keyspace, name, number, seed);
            load.bank.push(tokio::spawn(teller.run()));
        }
        for number in 0..set::WRITERS {
            let partition = set::partition(name, number);
            load.watchers.push(set::Watcher::start(&shared, engine(number), keyspace, &partition).await?);
            load.set.push(tokio::spawn(set::write(Arc::clone(&shared), engine(number), keyspace, partition)));
        }
        for number in 0..counter::CLIENTS {
            let client = counter::Client::open(&shared, engine(number), keyspace, name, number, seed).await?;
            load.counters.push(tokio::spawn(client.run()));
        }
        Ok(load)
    }

    /// Waits until `more` further calls were answered. `Unavailable` when that takes too long.
    pub(crate) async fn wait_for(&self, more: u64, within: Duration) -> Result<()> {
        let goal = self.answered() + more;
        let reached = async {
            while self.answered() < goal {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(within, reached).await.map_err(|elapsed| {
            let left = goal.saturating_sub(self.answered());
            let failures = self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
            let message = format!(
                "{left} of {more} further calls are not answered after {} s; the last failures: {failures:?}",
                within.as_secs()
            );
            Error::new(ErrorKind::Unavailable, message).with_source(elapsed)
        })
    }

    /// How many calls were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// The instant of a power cut: what was answered before this call returns was durable or is a violation; what is
    /// answered later proves nothing. The clients end.
    pub(crate) fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.stop.cancel();
    }

    /// Stops the clients, reads everything back through a new client, and checks it. The cluster must be whole.
    pub(crate) async fn finish(mut self, cluster: &Cluster) -> Result<Outcome> {
        self.shared.stop.cancel();
        let was_cut = self.shared.cut.load(Ordering::SeqCst);
        let engine = cluster.connect().await?.with_deadline(Duration::from_secs(20));
        let mut calls = Vec::new();
        for task in std::mem::take(&mut self.registers) {
            calls.extend(ended(task).await?);
        }
        for task in std::mem::take(&mut self.bank) {
            ended(task).await?;
        }
        let mut inserted = Vec::new();
        for task in std::mem::take(&mut self.set) {
            inserted.push(ended(task).await?);
        }
        let mut counted = Vec::new();
        for task in std::mem::take(&mut self.counters) {
            counted.push(ended(task).await?);
        }
        // From here on everything is durable again.
        self.shared.cut.store(false, Ordering::SeqCst);
        let shared = &self.shared;
        registers::check(shared, &engine, self.keyspace, &self.name, calls).await?;
        bank::check(shared, &engine, self.keyspace, &self.name).await?;
        for (ledger, watcher) in inserted.into_iter().zip(std::mem::take(&mut self.watchers)) {
            let stored = set::check(shared, &engine, self.keyspace, &ledger).await?;
            // A watcher may have seen what the power cut took back.
            if !was_cut {
                watcher.check(shared, &ledger, &stored).await;
            }
        }
        for ledger in counted {
            counter::check(shared, &engine, ledger).await?;
        }
        let complaints = std::mem::take(&mut *shared.complaints.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Outcome { checked: self.answered(), unknown: shared.unknown.load(Ordering::Relaxed), complaints })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

async fn ended<T>(task: JoinHandle<T>) -> Result<T> {
    task.await.map_err(|error| Error::new(ErrorKind::Closed, "a client of the load ended badly").with_source(error))
}

/// Repeats a call that can be repeated until it is answered, or fails in a way that time does not mend.
pub(crate) async fn patiently<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    let mut left = PROGRESS_WITHIN;
    loop {
        match call().await {
            Err(error)
                if !left.is_zero()
                    && (error.kind().is_retryable()
                        || matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded)) =>
            {
                left = left.saturating_sub(PAUSE_FAILED * 10);
                tokio::time::sleep(PAUSE_FAILED).await;
            }
            done => return done,
        }
    }
}

/// A 64-bit number as it is stored.
fn number(value: &[u8]) -> Result<u64> {
    <[u8; 8]>::try_from(value)
        .map(u64::from_be_bytes)
        .map_err(|error| Error::corrupt(format!("a value of {} bytes is no number", value.len())).with_source(error))
}

/// The engine of a client, without what differs between engines.
type Client = RemoteEngine;
