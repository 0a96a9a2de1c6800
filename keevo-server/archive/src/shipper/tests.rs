//! The shipper against a log in memory: no entry is lost or doubled, whoever ships and whatever fails.

use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use keevo_core::{Batch, Hlc, Keyspace, KeyspaceId, KeyspaceKind};

use super::*;
use crate::storage::{Object, ObjectStorage};

const CLUSTER: ClusterId = ClusterId(0xc1);
const SHARD: ShardId = ShardId(7);

fn put(index: u64, value: String) -> LoggedEntry {
    let space = Keyspace { id: KeyspaceId(1), kind: KeyspaceKind::Hashed };
    let command = Command::Write(Batch::new().put(space.key("p", "s"), value));
    logged(index, &Entry { hlc: Hlc::from_ms(1_000 + index), command })
}

fn logged(index: u64, entry: &Entry) -> LoggedEntry {
    LoggedEntry { index, term: 1, replica: 1, kind: LoggedKind::Command, payload: entry.encode() }
}

/// One shard's log and cursor.
#[derive(Debug, Default)]
struct Log {
    state: Mutex<State>,
    /// Notes of the cursor get lost.
    notes_fail: AtomicBool,
}

#[derive(Debug, Default, Clone)]
struct State {
    entries: Vec<LoggedEntry>,
    first_held: u64,
    archived: Option<Archived>,
}

impl Log {
    fn with(count: u64) -> Arc<Self> {
        let log = Arc::new(Self::default());
        log.append(count);
        log
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, count: u64) {
        let mut state = self.state();
        let next = u64::try_from(state.entries.len()).expect("few");
        state.entries.extend((next..next + count).map(|index| put(index, format!("value {index}"))));
    }

    fn purge(&self, first_held: u64) {
        self.state().first_held = first_held;
    }

    fn archived(&self) -> Option<(u64, u64)> {
        self.state().archived.map(|archived| (archived.from, archived.upto))
    }
}

impl LogSource for Log {
    fn cluster(&self) -> Option<ClusterId> {
        Some(CLUSTER)
    }

    fn states(&self) -> Vec<ArchiveState> {
        let State { entries, first_held, archived } = self.state().clone();
        let applied_to = u64::try_from(entries.len()).expect("few");
        vec![ArchiveState { shard: SHARD, archived, first_held, applied_to, waiting_bytes: 0 }]
    }

    fn entries(&self, _shard: ShardId, from: u64, bytes_max: usize) -> BoxFuture<'_, Result<Vec<LoggedEntry>>> {
        let state = self.state().clone();
        let mut bytes = 0;
        let from = usize::try_from(from).expect("small");
        let mut found: Vec<LoggedEntry> = Vec::new();
        for entry in state.entries.into_iter().skip(from) {
            bytes += entry.payload.len();
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(entry);
        }
        std::future::ready(Ok(found)).boxed()
    }

    fn note(&self, _shard: ShardId, archived: Archived) -> BoxFuture<'_, Result<()>> {
        if self.notes_fail.load(Ordering::Relaxed) {
            return std::future::ready(Err(Error::new(ErrorKind::NotLeader, "another leads"))).boxed();
        }
        let mut state = self.state();
        state.archived = Some(archived);
        // As in a real log, the note is an entry itself.
        let index = u64::try_from(state.entries.len()).expect("few");
        let entry = Entry { hlc: Hlc::from_ms(9_000 + index), command: Command::Archived(archived) };
        state.entries.push(logged(index, &entry));
        std::future::ready(Ok(())).boxed()
    }
}

/// Storage that can be down.
#[derive(Debug)]
struct Flaky(ObjectStorage, AtomicBool);

impl Flaky {
    fn new() -> Arc<Self> {
        Arc::new(Self(ObjectStorage::memory(), AtomicBool::new(false)))
    }

    fn set_down(&self, down: bool) {
        self.1.store(down, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.1.load(Ordering::Relaxed) { Err(Error::new(ErrorKind::Unavailable, "it is down")) } else { Ok(()) }
    }
}

impl Storage for Flaky {
    fn put_new<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<bool>> {
        async move {
            self.check()?;
            self.0.put_new(name, bytes).await
        }
        .boxed()
    }

    fn replace<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        self.0.replace(name, bytes)
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.0.get(name)
    }

    fn get_range<'a>(&'a self, name: &'a str, range: std::ops::Range<u64>) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.0.get_range(name, range)
    }

    fn size<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        self.0.size(name)
    }

    fn list<'a>(&'a self, folder: &'a str, after: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Object>>> {
        self.0.list(folder, after)
    }

    fn folders<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        self.0.folders(folder)
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        self.0.delete(name)
    }
}

fn shipper(log: &Arc<Log>, storage: &Arc<Flaky>) -> Shipper {
    let options = ShipperOptions { segment_bytes: 400, every: Duration::from_millis(1) };
    Shipper::new(Arc::clone(log) as Arc<dyn LogSource>, Arc::clone(storage) as Arc<dyn Storage>, options)
}

fn archive(storage: &Arc<Flaky>) -> Archive {
    Archive::new(Arc::clone(storage) as Arc<dyn Storage>, CLUSTER)
}

/// All that the archive holds from `from` on.
async fn read(storage: &Arc<Flaky>, from: u64) -> Result<Vec<LoggedEntry>> {
    let mut log = archive(storage).log_from(SHARD, from).await?;
    let mut all = Vec::new();
    while let Some(entries) = log.next_entries().await? {
        all.extend(entries);
    }
    Ok(all)
}

async fn segments(storage: &Arc<Flaky>) -> usize {
    archive(storage).segments(SHARD, None).await.expect("listed").len()
}

#[tokio::test]
async fn what_is_committed_comes_back_and_idle_rounds_write_nothing() {
    let (log, storage) = (Log::with(50), Flaky::new());
    let shipper = shipper(&log, &storage);
    shipper.round().await;
    assert_eq!(log.archived(), Some((0, 49)));
    let entries = log.state().entries.clone();
    assert_eq!(read(&storage, 0).await.expect("no gap"), entries[..50]);
    assert_eq!(read(&storage, 33).await.expect("no gap"), entries[33..50]);
    let before = segments(&storage).await;
    assert!(before > 3, "{before} segments");
    for _ in 0..3 {
        shipper.round().await;
    }
    assert_eq!(segments(&storage).await, before, "only the note of the cursor is new");
    log.append(1);
    shipper.round().await;
    assert_eq!(read(&storage, 50).await.expect("no gap").len(), log.state().entries.len() - 51);
    assert_eq!(archive(&storage).shards().await.expect("listed"), [SHARD]);
    assert_eq!(Archive::clusters(storage.as_ref()).await.expect("listed"), [CLUSTER]);
}

#[tokio::test]
async fn a_new_leader_goes_on_without_gap_or_double() {
    let (log, storage) = (Log::with(20), Flaky::new());
    log.notes_fail.store(true, Ordering::Relaxed);
    shipper(&log, &storage).round().await;
    assert_eq!(log.archived(), None, "the leader was lost between the segments and the note");
    log.notes_fail.store(false, Ordering::Relaxed);
    log.append(20);
    let second = shipper(&log, &storage);
    second.round().await;
    let upto = log.archived().expect("a cursor").1;
    assert_eq!(upto, 39);
    assert_eq!(read(&storage, 0).await.expect("no gap"), log.state().entries[..40]);
}

#[tokio::test]
async fn segments_of_another_history_are_found_and_nothing_is_archived_over_them() {
    let (log, storage) = (Log::with(5), Flaky::new());
    shipper(&log, &storage).round().await;
    let other = Arc::new(Log::default());
    other.state().entries = (0..5).map(|index| put(index, format!("other {index}"))).collect();
    let second = shipper(&other, &storage);
    second.round().await;
    assert_eq!(other.archived(), None);
    assert_eq!(second.shipping().failures.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_waited_while_the_storage_was_down_is_shipped_after() {
    let (log, storage) = (Log::with(30), Flaky::new());
    let shipper = shipper(&log, &storage);
    storage.set_down(true);
    shipper.round().await;
    shipper.round().await;
    assert_eq!((log.archived(), shipper.shipping().failures.load(Ordering::Relaxed)), (None, 2));
    storage.set_down(false);
    shipper.round().await;
    assert_eq!(log.archived(), Some((0, 29)));
}

#[tokio::test]
async fn entries_that_were_purged_leave_a_gap_that_readers_name() {
    let (log, storage) = (Log::with(10), Flaky::new());
    let shipper = shipper(&log, &storage);
    shipper.round().await;
    log.append(20);
    log.purge(25);
    shipper.round().await;
    let archived = log.archived().expect("a cursor");
    assert_eq!((archived.0, shipper.shipping().gaps.load(Ordering::Relaxed)), (25, 1), "a new run begins");
    let error = read(&storage, 0).await.expect_err("a gap");
    assert!(error.kind() == ErrorKind::NotFound && error.message().contains("from 10 to 24"), "{error}");
    assert!(!read(&storage, 25).await.expect("the new run").is_empty());
}

#[tokio::test]
async fn the_segment_of_a_moment_is_found_by_its_clock() {
    let (log, storage) = (Log::with(50), Flaky::new());
    shipper(&log, &storage).round().await;
    let archive = archive(&storage);
    assert_eq!(archive.find(SHARD, Hlc::default()).await.expect("asked"), Some(0));
    let first = archive.find(SHARD, Hlc::from_ms(1_030)).await.expect("asked").expect("it is there");
    assert!((20..=30).contains(&first), "{first}");
    assert_eq!(archive.find(SHARD, Hlc::from_ms(99_000)).await.expect("asked"), None);
}
