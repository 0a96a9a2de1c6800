//! Engines with a fault: one that fails at its n-th call and stays dead from then on, as a process that crashes
//! there; one whose watches lose changes; one whose calls are held up, so that concurrent ones interleave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use keevo_core::{
    Batch, CommitEvent, Consistency, Engine, Error, ErrorKind, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, Random,
    Record, Result, Scan, ScanPage, SeededRandom, Watch, WatchFrom, WatchRange, Written,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call with this number (from 0) is not made; no later one is.
    Before(u64),
    /// The call with this number is made, but its answer is lost; no later call is made.
    After(u64),
    /// Watches lose the change with this number (from 0).
    LostChange(u64),
    /// Watches end at the change with this number, since its cursor is no longer retained.
    Compacted(u64),
    /// Calls give way to others a few times, drawn from this seed, before and after they take effect.
    Jitter(u64),
}

/// An engine with a fault.
#[derive(Debug, Clone)]
pub struct Faulty<E> {
    engine: E,
    fault: Fault,
    calls: Arc<AtomicU64>,
    random: Arc<SeededRandom>,
}

enum Step {
    Go,
    Stop,
    Last,
}

impl<E: Engine> Faulty<E> {
    /// `engine` with `fault`.
    pub fn new(engine: E, fault: Fault) -> Self {
        let seed = if let Fault::Jitter(seed) = fault { seed } else { 0 };
        Self { engine, fault, calls: Arc::new(AtomicU64::new(0)), random: Arc::new(SeededRandom::new(seed)) }
    }

    /// How many calls were tried.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn step(&self) -> Step {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Before(at) if call >= at => Step::Stop,
            Fault::After(at) if call == at => Step::Last,
            Fault::After(at) if call > at => Step::Stop,
            _ => Step::Go,
        }
    }

    async fn call<T>(&self, made: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match self.step() {
            Step::Go => {
                self.hold_up().await;
                let made = made.await;
                self.hold_up().await;
                made
            }
            Step::Stop => Err(Error::new(ErrorKind::Closed, "the process is dead")),
            Step::Last => {
                made.await?;
                Err(Error::new(ErrorKind::OutcomeUnknown, "the process died before the answer came"))
            }
        }
    }

    async fn hold_up(&self) {
        if let Fault::Jitter(_) = self.fault {
            for _ in 0..self.random.next_u64() % 6 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn spoil(&self, number: u64, change: Result<CommitEvent>) -> Option<Result<CommitEvent>> {
        match self.fault {
            Fault::LostChange(at) if number == at => None,
            Fault::Compacted(at) if number == at => {
                Some(Err(Error::new(ErrorKind::CursorCompacted, "the cursor lies before the retained changes")))
            }
            _ => Some(change),
        }
    }
}

impl<E: Engine> Engine for Faulty<E> {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.call(self.engine.keyspace(name, kind)).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.call(self.engine.find_keyspace(name)).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.call(self.engine.get(key, consistency)).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        self.call(self.engine.multi_get(keys, consistency)).await
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        self.call(self.engine.scan(scan)).await
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        self.call(self.engine.write(batch)).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        self.call(self.engine.fan_out(fan_out)).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        let watch = self.call(self.engine.watch(range, from)).await?;
        let this = self.clone();
        let numbered = watch.enumerate().filter_map(move |(number, change)| {
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            let spoiled = this.spoil(number, change);
            async move { spoiled }
        });
        Ok(numbered.boxed())
    }
}
