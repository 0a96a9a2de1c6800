//! Writers whose writes are numbered, so that a lost and a doubled one show.
//!
//! Each write is one batch: it puts its number and adds one to the writer's counter. Invariant checked at the end: an
//! acknowledged number is stored, a refused one is not, and the counter equals the numbers stored.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keevo_client::RemoteEngine;
use keevo_core::{Batch, Consistency, Engine, Error, ErrorKind, Key, Keyspace, KeyspaceKind, Result, Scan};
use keevo_demo::Mismatches;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How many write at once.
const WRITERS: usize = 16;
const COUNTER: &str = "count";
const NUMBERS: &str = "n/";
const PAGE: usize = 5_000;

/// Writers at work.
#[derive(Debug)]
pub(super) struct Writers {
    keyspace: Keyspace,
    acknowledged: Arc<AtomicU64>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Result<Ledger>>>,
}

/// What one writer knows of its writes.
#[derive(Debug, Default)]
struct Ledger {
    writer: usize,
    acknowledged: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
}

/// What became of all writes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    /// Writes that were acknowledged.
    pub(super) acknowledged: u64,
    /// Of these, the ones that are gone.
    pub(super) lost: u64,
    /// Writes of which nobody heard whether they were applied.
    pub(super) unknown: u64,
}

impl Writers {
    /// Starts writing.
    pub(super) async fn start(engine: &RemoteEngine) -> Result<Self> {
        let keyspace = engine.keyspace("demo", KeyspaceKind::Hashed).await?;
        let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let tasks = (0..WRITERS)
            .map(|writer| {
                let (engine, acknowledged, stop) = (engine.clone(), Arc::clone(&acknowledged), stop.clone());
                tokio::spawn(write(engine, keyspace, writer, acknowledged, stop))
            })
            .collect();
        Ok(Self { keyspace, acknowledged, stop, tasks })
    }

    /// A key that the first writer writes to: its shard is worth killing.
    pub(super) fn first_key(&self) -> Key {
        self.keyspace.key(partition(0), COUNTER)
    }

    /// How many writes were acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` further writes were acknowledged; `Unavailable` when that takes longer than `within`.
    pub(super) async fn wait_for(&self, more: u64, within: Duration) -> Result<()> {
        let goal = self.acknowledged() + more;
        let waiting = async {
            while self.acknowledged() < goal {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(within, waiting).await.map_err(|elapsed| {
            let message = format!("{more} writes were not acknowledged within {} s", within.as_secs());
            Error::new(ErrorKind::Unavailable, message).with_source(elapsed)
        })
    }

    /// Stops writing, reads everything back, and compares. What is neither lost nor right is a mismatch.
    pub(super) async fn finish(mut self, engine: &RemoteEngine, mismatches: &Mismatches) -> Result<Outcome> {
        self.stop.cancel();
        let mut outcome = Outcome::default();
        for task in std::mem::take(&mut self.tasks) {
            let ledger = task
                .await
                .map_err(|error| Error::new(ErrorKind::Closed, "a writer ended badly").with_source(error))??;
            let (stored, counter) = read_back(engine, self.keyspace, ledger.writer).await?;
            let lost = ledger.acknowledged.difference(&stored).count();
            outcome.lost += u64::try_from(lost).unwrap_or(u64::MAX);
            outcome.acknowledged += u64::try_from(ledger.acknowledged.len()).unwrap_or(u64::MAX);
            outcome.unknown += u64::try_from(ledger.unknown.len()).unwrap_or(u64::MAX);
            let count = u64::try_from(stored.len()).unwrap_or(u64::MAX);
            if counter != count {
                mismatches.add(format!("writer {} stored {count} numbers and counted {counter}", ledger.writer));
            }
            for number in stored.iter().filter(|n| !ledger.acknowledged.contains(n) && !ledger.unknown.contains(n)) {
                mismatches.add(format!("write {number} of writer {} was refused and is there", ledger.writer));
            }
        }
        Ok(outcome)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn partition(writer: usize) -> String {
    format!("writer-{writer}")
}

async fn write(
    engine: RemoteEngine,
    keyspace: Keyspace,
    writer: usize,
    acknowledged: Arc<AtomicU64>,
    stop: CancellationToken,
) -> Result<Ledger> {
    let mut ledger = Ledger { writer, ..Ledger::default() };
    let mut number = 0u64;
    while !stop.is_cancelled() {
        number += 1;
        let key = |sort: String| keyspace.key(partition(writer), sort);
        let batch = Batch::new()
            .merge(key(COUNTER.to_owned()), 1)
            .put(key(format!("{NUMBERS}{number:020}")), format!("write {number} of writer {writer}"));
        match engine.write(batch).await {
            Ok(_) => {
                ledger.acknowledged.insert(number);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                ledger.unknown.insert(number);
            }
            // Not applied; the number must never appear.
            Err(error) if error.kind().is_retryable() => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error),
        }
    }
    Ok(ledger)
}

async fn read_back(engine: &RemoteEngine, keyspace: Keyspace, writer: usize) -> Result<(BTreeSet<u64>, u64)> {
    let counter = engine.get(keyspace.key(partition(writer), COUNTER), Consistency::Linearizable).await?;
    let counter = match counter {
        Some(record) => <[u8; 8]>::try_from(record.value.as_ref())
            .map(u64::from_be_bytes)
            .map_err(|error| Error::corrupt("a counter is no 64-bit integer").with_source(error))?,
        None => 0,
    };
    let mut stored = BTreeSet::new();
    let mut scan = Scan::prefix(keyspace, partition(writer), NUMBERS, PAGE);
    loop {
        let page = engine.scan(scan.clone()).await?;
        for (key, record) in &page.records {
            let number = std::str::from_utf8(&key.sort)
                .ok()
                .and_then(|sort| sort.strip_prefix(NUMBERS))
                .and_then(|digits| digits.parse::<u64>().ok())
                .ok_or_else(|| Error::corrupt("a writer's key is no number"))?;
            if record.value != format!("write {number} of writer {writer}") {
                return Err(Error::corrupt(format!("write {number} of writer {writer} has another text")));
            }
            stored.insert(number);
        }
        if page.next.is_none() {
            return Ok((stored, counter));
        }
        scan = scan.after(page.next);
    }
}
