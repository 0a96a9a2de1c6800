//! An engine that breaks on purpose, and one that lets others in between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use keevo_core::{
    Batch, Consistency, Engine, Error, ErrorKind, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, Random, Record,
    Result, Scan, ScanPage, ScanRange, SeededRandom, Watch, WatchFrom, WatchRange, Written,
};

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before the call is applied.
    StopBefore,
    /// The process dies after the call was applied, before it hears of it.
    StopAfter,
    /// The process dies when a fan-out reached half of its targets; another write is not applied.
    StopHalfway,
    /// The call is applied, but its answer is lost; later calls work.
    AnswerLost,
    /// The call is refused for the moment; later calls work.
    Refused,
}

/// A wrapper around an engine: breaks at the n-th mutating call, or yields around every call.
#[derive(Debug, Clone)]
pub struct TestEngine<E> {
    inner: E,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    left: AtomicI64,
    fault: Option<Fault>,
    fired: AtomicBool,
    dead: AtomicBool,
    jitter: Option<SeededRandom>,
    reads: AtomicU64,
    /// How many rows scans have read of each partition.
    scanned: Mutex<BTreeMap<Bytes, usize>>,
}

impl<E: Engine> TestEngine<E> {
    /// Breaks at mutating call number `at`, counted from 0.
    pub fn faulty(inner: E, fault: Fault, at: i64) -> Self {
        Self::with(inner, Some(fault), at, None)
    }

    /// Gives way to other tasks a random number of times around every call.
    pub fn yielding(inner: E, seed: u64) -> Self {
        Self::with(inner, None, i64::MAX, Some(SeededRandom::new(seed)))
    }

    fn with(inner: E, fault: Option<Fault>, at: i64, jitter: Option<SeededRandom>) -> Self {
        let left = AtomicI64::new(at);
        let shared = Shared {
            left,
            fault,
            fired: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            jitter,
            reads: AtomicU64::new(0),
            scanned: Mutex::default(),
        };
        Self { inner, shared: Arc::new(shared) }
    }

    /// Whether the fault has happened.
    pub fn fired(&self) -> bool {
        self.shared.fired.load(Ordering::SeqCst)
    }

    /// How many gets, multi-gets and scans there were.
    pub fn reads(&self) -> u64 {
        self.shared.reads.load(Ordering::SeqCst)
    }

    /// How many rows scans have read of a partition.
    pub fn scanned(&self, partition: &Bytes) -> usize {
        self.scans().get(partition).copied().unwrap_or_default()
    }

    fn scans(&self) -> MutexGuard<'_, BTreeMap<Bytes, usize>> {
        self.shared.scanned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn step(&self) -> Result<()> {
        if let Some(jitter) = &self.shared.jitter {
            // Mostly a little; now and then so long that others finish what they are at.
            let most = if jitter.next_u64().is_multiple_of(8) { 60 } else { 4 };
            for _ in 0..jitter.next_u64() % most {
                tokio::task::yield_now().await;
            }
        }
        if self.shared.dead.load(Ordering::SeqCst) { Err(stopped()) } else { Ok(()) }
    }

    /// The fault to be played at this mutating call.
    async fn mutation(&self) -> Result<Option<Fault>> {
        self.step().await?;
        if self.shared.left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return Ok(None);
        }
        self.shared.fired.store(true, Ordering::SeqCst);
        let stops = matches!(self.shared.fault, Some(Fault::StopBefore | Fault::StopAfter | Fault::StopHalfway));
        self.shared.dead.store(stops, Ordering::SeqCst);
        Ok(self.shared.fault)
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Closed, "the test has stopped this engine")
}

fn lost() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "the test has lost the answer")
}

fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "the test refuses this call")
}

impl<E: Engine> Engine for TestEngine<E> {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.inner.keyspace(name, kind).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.inner.find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.shared.reads.fetch_add(1, Ordering::SeqCst);
        self.step().await?;
        let read = self.inner.get(key, consistency).await;
        self.step().await?;
        read
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        self.shared.reads.fetch_add(1, Ordering::SeqCst);
        self.step().await?;
        let read = self.inner.multi_get(keys, consistency).await;
        self.step().await?;
        read
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        self.shared.reads.fetch_add(1, Ordering::SeqCst);
        self.step().await?;
        let read = self.inner.scan(scan.clone()).await;
        if let (Ok(page), ScanRange::Partition { partition, .. }) = (&read, scan.range) {
            *self.scans().entry(partition).or_default() += page.records.len();
        }
        self.step().await?;
        read
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        match self.mutation().await? {
            Some(Fault::StopBefore | Fault::StopHalfway) => Err(stopped()),
            Some(Fault::StopAfter) => self.inner.write(batch).await.and_then(|_| Err(stopped())),
            Some(Fault::AnswerLost) => self.inner.write(batch).await.and_then(|_| Err(lost())),
            Some(Fault::Refused) => Err(refused()),
            None => {
                let written = self.inner.write(batch).await;
                self.step().await?;
                written
            }
        }
    }

    async fn fan_out(&self, mut fan_out: FanOut) -> Result<FannedOut> {
        match self.mutation().await? {
            Some(Fault::StopBefore) => Err(stopped()),
            Some(Fault::StopHalfway) => {
                fan_out.targets.truncate(fan_out.targets.len().div_ceil(2));
                self.inner.fan_out(fan_out).await.and_then(|_| Err(stopped()))
            }
            Some(Fault::StopAfter) => self.inner.fan_out(fan_out).await.and_then(|_| Err(stopped())),
            Some(Fault::AnswerLost) => self.inner.fan_out(fan_out).await.and_then(|_| Err(lost())),
            Some(Fault::Refused) => Err(refused()),
            None => {
                let done = self.inner.fan_out(fan_out).await;
                self.step().await?;
                done
            }
        }
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        self.inner.watch(range, from).await
    }
}
