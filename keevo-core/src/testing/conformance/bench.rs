//! What a case works with: an engine, keyspaces of its own, and shorthands that say what went wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use super::Factory;
use crate::batch::{Batch, Written};
use crate::clock::{Random, SeededRandom};
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::ids::{ClientId, Revision};
use crate::key::{Key, Keyspace, KeyspaceKind};
use crate::read::Consistency;
use crate::record::Record;
use crate::scan::Scan;
use crate::watch::{Change, CommitEvent, Cursor, Watch, WatchFrom, WatchRange};

/// How long a case waits for something that must come, such as an event or an expiry.
pub(super) const WAIT: Duration = Duration::from_secs(20);

/// A case's engine, with keyspaces that no other case names.
pub(super) struct Bench<'f, F: Factory> {
    pub(super) factory: &'f F,
    pub(super) engine: F::Engine,
    tag: String,
}

impl<'f, F: Factory> Bench<'f, F> {
    pub(super) async fn new(factory: &'f F, case: &str) -> Self {
        Self::on(factory, factory.fresh().await, case)
    }

    /// The same on an engine that the case got elsewhere.
    pub(super) fn on(factory: &'f F, engine: F::Engine, case: &str) -> Self {
        let case = case.get(..24).unwrap_or(case);
        Self { factory, engine, tag: format!("{case}.{:016x}", SeededRandom::from_os().next_u64()) }
    }

    /// A keyspace name of 64 bytes at most that nobody else uses.
    pub(super) fn name(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.tag)
    }

    /// A hashed keyspace of this case.
    pub(super) async fn keyspace(&self) -> Keyspace {
        let name = self.name("h");
        self.engine.keyspace(&name, KeyspaceKind::Hashed).await.expect("a hashed keyspace is created")
    }

    /// An ordered keyspace of this case.
    pub(super) async fn ordered(&self, partition_bytes: u8) -> Keyspace {
        let name = self.name(&format!("o{partition_bytes}"));
        let kind = KeyspaceKind::Ordered { partition_bytes };
        self.engine.keyspace(&name, kind).await.expect("an ordered keyspace is created")
    }

    pub(super) async fn session(&self) -> ClientId {
        self.factory.session(&self.engine).await
    }

    /// Writes a batch that must be applied.
    pub(super) async fn write(&self, batch: Batch) -> Written {
        let shown = shorten(&batch);
        match self.engine.write(batch).await {
            Ok(written) => written,
            Err(error) => panic!("the batch {shown} was refused: {error}"),
        }
    }

    /// Writes a batch that must be refused.
    pub(super) async fn refused(&self, batch: Batch) -> ErrorKind {
        let shown = shorten(&batch);
        match self.engine.write(batch).await {
            Ok(written) => panic!("the batch {shown} was applied: {written:?}"),
            Err(error) => error.kind(),
        }
    }

    pub(super) async fn put(&self, key: &Key, value: impl Into<Bytes>) -> Revision {
        self.write(Batch::new().put(key.clone(), value)).await.revision
    }

    pub(super) async fn record(&self, key: &Key) -> Option<Record> {
        self.engine.get(key.clone(), Consistency::Linearizable).await.expect("a get is answered")
    }

    pub(super) async fn value(&self, key: &Key) -> Option<Bytes> {
        self.record(key).await.map(|record| record.value)
    }

    /// The integer under `key`.
    pub(super) async fn integer(&self, key: &Key) -> Option<i64> {
        let value = self.value(key).await?;
        Some(i64::from_be_bytes(value.as_ref().try_into().expect("an integer has 8 bytes")))
    }

    /// All pages of a scan, in the order they came.
    pub(super) async fn collect(&self, scan: Scan) -> Vec<(Key, Record)> {
        let mut all = Vec::new();
        let mut after = scan.after.clone();
        for _ in 0..100_000 {
            let page = self.engine.scan(scan.clone().after(after)).await.expect("a page is answered");
            assert!(page.records.len() <= scan.limit, "{} records exceed the limit {}", page.records.len(), scan.limit);
            all.extend(page.records);
            match page.next {
                Some(next) => after = Some(next),
                None => return all,
            }
        }
        panic!("the scan {scan:?} has no end");
    }

    /// The sort keys that a scan returns.
    pub(super) async fn sorts(&self, scan: Scan) -> Vec<Bytes> {
        self.collect(scan).await.into_iter().map(|(key, _)| key.sort).collect()
    }

    /// A cursor of the partition's shard, at or before now.
    pub(super) async fn cursor(&self, keyspace: Keyspace, partition: impl Into<Bytes>) -> Cursor {
        self.engine.scan(Scan::partition(keyspace, partition, 1)).await.expect("a page is answered").as_of
    }

    /// A watch of all of a partition.
    pub(super) async fn watch(&self, keyspace: Keyspace, partition: impl Into<Bytes>, from: WatchFrom) -> Watch {
        let range = WatchRange::Partition { keyspace, partition: partition.into(), prefix: Bytes::new() };
        self.engine.watch(range, from).await.expect("the watch opens")
    }

    /// Writes to the partition of `key` until `done`, since only writes move a shard's clock.
    pub(super) async fn poke_until(&self, key: &Key, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let poke = Key { sort: Bytes::from_static(b"~poke"), ..key.clone() };
        let started = tokio::time::Instant::now();
        while !done().await {
            assert!(started.elapsed() < WAIT, "{what}: not within {} s", WAIT.as_secs());
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.put(&poke, "").await;
        }
    }
}

/// The next event of a watch.
pub(super) async fn next(watch: &mut Watch) -> CommitEvent {
    match tokio::time::timeout(WAIT, watch.next()).await {
        Ok(Some(Ok(event))) => event,
        Ok(Some(Err(error))) => panic!("the watch ended: {error}"),
        Ok(None) => panic!("the watch ended without an error"),
        Err(elapsed) => panic!("no event came within {} s: {elapsed}", WAIT.as_secs()),
    }
}

/// The next event behind `after`: watches deliver at least once, so what was seen may come again.
pub(super) async fn next_after(watch: &mut Watch, after: Cursor) -> CommitEvent {
    loop {
        let event = next(watch).await;
        if event.cursor.shard != after.shard || event.cursor > after {
            return event;
        }
    }
}

/// What the events of a watch make of a partition.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed(pub(super) BTreeMap<Bytes, Bytes>);

impl Replayed {
    pub(super) fn apply(&mut self, event: CommitEvent) {
        let sort = event.key.sort;
        match event.change {
            Change::Put { value, .. } => {
                self.0.insert(sort, value);
            }
            Change::Delete => {
                self.0.remove(&sort);
            }
            Change::DeleteRange { end } => self.0.retain(|at, _| *at < sort || (!end.is_empty() && *at >= end)),
        }
    }
}

/// A batch for a message: one of a thousand operations would hide what is wrong.
fn shorten(batch: &Batch) -> String {
    let shown = format!("{batch:?}");
    match shown.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", shown.split_at(at).0),
        None => shown,
    }
}
