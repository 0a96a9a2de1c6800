//! Tests of the state machine over the in-memory store; what they share.

mod batches;
mod fan_outs;
mod faults;
mod known_guards;
mod model;
mod pages;
mod restores;
mod sessions;
mod watches;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::{Machine, Retention};
use crate::batch::{Batch, Written};
use crate::command::{Command, Entry, Hlc, Outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::fan_out::{FanOut, FannedOut};
use crate::ids::{ClusterId, KeyspaceId, ShardId};
use crate::key::{Key, Keyspace, KeyspaceKind};
use crate::scan::Direction;
use crate::store::{Column, Durability, Export, MemoryStore, SnapshotFile, Store, StoreBatch, StoreView, Visit};

const CLUSTER: ClusterId = ClusterId(0xc1);
const SHARD: ShardId = ShardId(3);
const SPACE: Keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
/// Where the tests' clock starts, in milliseconds.
const START_MS: u64 = 1_000_000;

/// The key of `sort` in the partition that most tests write to.
fn key(sort: &'static str) -> Key {
    SPACE.key("p", sort)
}

fn number(value: i64) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

/// A memory store whose writes can be made to fail.
#[derive(Debug, Clone)]
struct TestStore {
    inner: MemoryStore,
    broken: Arc<AtomicBool>,
}

impl TestStore {
    fn new() -> Self {
        Self { inner: MemoryStore::new(), broken: Arc::default() }
    }

    /// Everything in the store, in order.
    fn dump(&self) -> Vec<(Column, Bytes, Bytes)> {
        let mut rows = Vec::new();
        for column in Column::ALL {
            let mut visit = |key: &[u8], value: &[u8]| {
                rows.push((column, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                Ok(ControlFlow::Continue(()))
            };
            self.inner.scan(column, &[], &[], Direction::Forward, &mut visit).expect("the store reads");
        }
        rows
    }

    /// How many rows start with `prefix`.
    fn count(&self, column: Column, prefix: &[u8]) -> usize {
        self.dump().iter().filter(|(place, key, _)| *place == column && key.starts_with(prefix)).count()
    }
}

impl Store for TestStore {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.get(column, key)
    }

    fn multi_get(&self, column: Column, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.inner.multi_get(column, keys)
    }

    fn scan(&self, column: Column, lower: &[u8], upper: &[u8], direction: Direction, visit: Visit<'_>) -> Result<()> {
        self.inner.scan(column, lower, upper, direction, visit)
    }

    fn view(&self) -> Result<Arc<dyn StoreView>> {
        self.inner.view()
    }

    fn write(&self, batch: StoreBatch, durability: Durability) -> Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Io, "the disk is broken"));
        }
        self.inner.write(batch, durability)
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }

    fn get_flushed(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.get_flushed(key)
    }

    fn export(&self, tiles: &[(Bytes, Bytes)], rows: &[Bytes], dir: &std::path::Path) -> Result<Export> {
        self.inner.export(tiles, rows, dir)
    }

    fn install(&self, files: &[SnapshotFile]) -> Result<()> {
        self.inner.install(files)
    }
}

/// A machine with its store, the next log index, and a clock.
#[derive(Debug)]
struct Rig {
    store: TestStore,
    machine: Machine<TestStore>,
    index: u64,
    now_ms: u64,
    retention: Retention,
}

impl Rig {
    fn new() -> Self {
        Self::with_retention(Retention::default())
    }

    fn with_retention(retention: Retention) -> Self {
        let store = TestStore::new();
        let machine = open(&store, retention);
        Self { store, machine, index: 0, now_ms: START_MS, retention }
    }

    /// The same data, opened anew.
    fn reopen(&mut self) {
        self.machine = open(&self.store, self.retention);
    }

    fn entry(&mut self, command: Command) -> (u64, Entry) {
        self.index += 1;
        (self.index, Entry { hlc: Hlc::from_ms(self.now_ms), command })
    }

    /// Applies commands in one call.
    fn apply(&mut self, commands: impl IntoIterator<Item = Command>) -> Vec<Outcome> {
        let entries = commands.into_iter().map(|command| self.entry(command)).collect();
        self.machine.apply(entries, Vec::new(), Durability::Sync).expect("the call succeeds")
    }

    fn one(&mut self, command: Command) -> Outcome {
        self.apply([command]).pop().expect("one entry has one outcome")
    }

    fn write(&mut self, batch: Batch) -> Written {
        written(self.one(Command::Write(batch)))
    }

    fn refused(&mut self, batch: Batch) -> Error {
        refused(self.one(Command::Write(batch)))
    }

    fn fan_out(&mut self, fan_out: FanOut) -> FannedOut {
        match self.one(Command::FanOut(fan_out)) {
            Outcome::FannedOut(done) => done,
            other => panic!("not a fan-out's outcome: {other:?}"),
        }
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.machine.reader().get(key).expect("the read succeeds").map(|record| record.value)
    }

    /// The value under `sort` in the tests' partition.
    fn value(&self, sort: &'static str) -> Option<Bytes> {
        self.get(&key(sort))
    }
}

fn open(store: &TestStore, retention: Retention) -> Machine<TestStore> {
    Machine::open_with(store.clone(), CLUSTER, SHARD, (Bytes::new(), Bytes::new()), retention).expect("it opens")
}

fn written(outcome: Outcome) -> Written {
    match outcome {
        Outcome::Written(written) => written,
        other => panic!("not written: {other:?}"),
    }
}

fn refused(outcome: Outcome) -> Error {
    match outcome {
        Outcome::Refused(error) => error,
        other => panic!("not refused: {other:?}"),
    }
}
