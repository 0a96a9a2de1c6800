//! Tests of what is the embedded engine's own: the folder, group commit, sessions, closing.

use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use tempfile::TempDir;

use super::*;
use crate::batch::Check;
use crate::fan_out::{FanOutAction, Target};
use crate::ids::RequestId;
use crate::store::Durability;

fn options() -> LocalOptions {
    let store = RocksOptions { block_cache_bytes: 8 << 20, write_buffer_bytes: 8 << 20, ..RocksOptions::default() };
    LocalOptions { store, ..LocalOptions::default() }
}

fn new() -> (TempDir, LocalEngine) {
    let dir = tempfile::tempdir().unwrap();
    let engine = LocalEngine::open(dir.path(), options()).unwrap();
    (dir, engine)
}

async fn keyspace(engine: &LocalEngine) -> Keyspace {
    engine.keyspace("things", KeyspaceKind::Hashed).await.unwrap()
}

async fn value(engine: &LocalEngine, key: &Key) -> Option<Bytes> {
    engine.get(key.clone(), Consistency::Linearizable).await.unwrap().map(|record| record.value)
}

fn kind(result: Result<impl Sized>) -> ErrorKind {
    result.err().expect("must be refused").kind()
}

#[tokio::test]
async fn what_was_written_is_there_after_a_reopen() {
    let (dir, engine) = new();
    let things = keyspace(&engine).await;
    let ordered = engine.keyspace("ordered", KeyspaceKind::Ordered { partition_bytes: 4 }).await.unwrap();
    let key = things.key("alice", "a");
    let first = engine.write(Batch::new().put(key.clone(), "1")).await.unwrap();
    engine.write(Batch::new().put(ordered.key("part", "a"), "2")).await.unwrap();
    let cluster = engine.cluster_id();
    drop(engine);

    let engine = LocalEngine::open(dir.path(), options()).unwrap();
    assert_eq!(engine.cluster_id(), cluster);
    assert_eq!(engine.find_keyspace("things").await.unwrap(), things);
    assert_eq!(engine.find_keyspace("ordered").await.unwrap(), ordered);
    let record = engine.get(key.clone(), Consistency::Linearizable).await.unwrap().unwrap();
    assert_eq!((record.value.as_ref(), record.revision), (b"1".as_slice(), first.revision));
    let second = engine.write(Batch::new().put(key, "3")).await.unwrap();
    assert!(second.revision > first.revision, "revisions go on growing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_few_syncs() {
    const WRITERS: u64 = 64;
    const EACH: u64 = 20;
    let (_dir, engine) = new();
    let things = keyspace(&engine).await;
    let before = engine.stats().unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                let key = things.key(format!("writer{writer}"), number.to_be_bytes().to_vec());
                engine.write(Batch::new().put(key, "x")).await.unwrap();
            }
        })
    });
    for done in join_all(writers).await {
        done.unwrap();
    }
    let after = engine.stats().unwrap();
    let (writes, groups) = (after.writes - before.writes, after.groups - before.groups);
    let syncs = after.store.wal_syncs - before.store.wal_syncs;
    assert_eq!(writes, WRITERS * EACH);
    assert!(groups * 4 < writes, "{groups} groups for {writes} writes");
    assert_eq!(syncs, groups, "one sync a group");
    for writer in 0..WRITERS {
        let page = engine.scan(Scan::partition(things, format!("writer{writer}"), 1_000)).await.unwrap();
        assert_eq!(page.records.len(), usize::try_from(EACH).unwrap());
    }
}

#[tokio::test]
async fn one_writer_alone_syncs_each_write_and_buffered_ones_do_not() {
    let (_dir, engine) = new();
    let things = keyspace(&engine).await;
    let before = engine.stats().unwrap();
    for number in 0..10_u8 {
        engine.write(Batch::new().put(things.key("p", vec![number]), "x")).await.unwrap();
    }
    let after = engine.stats().unwrap();
    assert_eq!(after.store.wal_syncs - before.store.wal_syncs, 10);

    let dir = tempfile::tempdir().unwrap();
    let buffered = LocalOptions { durability: Durability::Buffered, ..options() };
    let engine = LocalEngine::open(dir.path(), buffered).unwrap();
    let things = keyspace(&engine).await;
    let before = engine.stats().unwrap();
    for number in 0..10_u8 {
        engine.write(Batch::new().put(things.key("p", vec![number]), "x")).await.unwrap();
    }
    let after = engine.stats().unwrap();
    assert_eq!(after.store.wal_syncs, before.store.wal_syncs);
    assert_eq!(after.groups - before.groups, 10, "{after}");
}

#[tokio::test]
async fn a_locked_folder_and_a_foreign_one_are_refused() {
    let (dir, engine) = new();
    let error = LocalEngine::open(dir.path(), options()).expect_err("open already");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("one process"), "{error}");
    drop(engine);

    let node = tempfile::tempdir().unwrap();
    let identity = Identity { cluster: ClusterId(1), pair: 2, role: Role::Data, node: NodeId(3) };
    drop(DataDir::create(node.path(), identity).unwrap());
    assert_eq!(kind(LocalEngine::open(node.path(), options())), ErrorKind::WrongCluster);

    let strange = tempfile::tempdir().unwrap();
    std::fs::write(strange.path().join("letter.txt"), "dear").unwrap();
    assert_eq!(kind(LocalEngine::open(strange.path(), options())), ErrorKind::WrongCluster);

    std::fs::remove_dir_all(dir.path().join(STORE)).unwrap();
    assert_eq!(kind(LocalEngine::open(dir.path(), options())), ErrorKind::Corrupt, "a lost store is no new one");
}

#[tokio::test]
async fn bad_options_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for options in [
        LocalOptions { durability: Durability::Unlogged, ..options() },
        LocalOptions { queue_bytes_max: 1, ..options() },
        LocalOptions { queue_writes_max: 0, ..options() },
        LocalOptions { group_writes_max: 0, ..options() },
    ] {
        assert_eq!(kind(LocalEngine::open(dir.path(), options)), ErrorKind::Config);
    }
}

#[tokio::test]
async fn after_close_calls_give_closed_and_the_folder_is_free() {
    let (dir, engine) = new();
    let things = keyspace(&engine).await;
    let key = things.key("p", "a");
    let other = engine.clone();
    let queued = join_all((0..32_u8).map(|number| {
        let batch = Batch::new().put(things.key("queued", vec![number]), "x");
        engine.write(batch)
    }));
    let mut watch = engine.watch(WatchRange::Keyspace(things), WatchFrom::Now).await.unwrap();
    let (written, ()) = tokio::join!(queued, async {
        tokio::task::yield_now().await;
        other.close().await.unwrap();
    });
    engine.close().await.unwrap();
    let applied = written.iter().filter(|result| result.is_ok()).count();
    for result in written {
        assert!(result.is_ok() || kind(result) == ErrorKind::Closed);
    }
    assert_eq!(kind(engine.get(key.clone(), Consistency::Linearizable).await), ErrorKind::Closed);
    assert_eq!(kind(engine.write(Batch::new().put(key.clone(), "1")).await), ErrorKind::Closed);
    assert_eq!(kind(engine.scan(Scan::partition(things, "p", 1)).await), ErrorKind::Closed);
    assert_eq!(kind(engine.keyspace("x", KeyspaceKind::Hashed).await), ErrorKind::Closed);
    assert_eq!(kind(engine.watch(WatchRange::Keyspace(things), WatchFrom::Now).await.map(drop)), ErrorKind::Closed);
    assert_eq!(kind(engine.flush().await), ErrorKind::Closed);
    assert_eq!(kind(engine.stats()), ErrorKind::Closed);
    let mut events = 0;
    let ended = loop {
        match tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("the watch goes on") {
            Some(Ok(_)) => events += 1,
            Some(Err(error)) => break error.kind(),
            None => panic!("a watch ends with an error"),
        }
    };
    assert_eq!((ended, events), (ErrorKind::Closed, applied));

    let again = LocalEngine::open(dir.path(), options()).expect("closed, though a clone is still there");
    let page = again.scan(Scan::partition(things, "queued", 100)).await.unwrap();
    assert_eq!(page.records.len(), applied, "answered writes are there, refused ones are not");
}

#[tokio::test]
async fn requests_open_their_session_at_sequence_0_alone() {
    let (dir, engine) = new();
    let key = keyspace(&engine).await.key("p", "count");
    let add = |client: u128, sequence, acked_below| {
        let request = RequestId { client: ClientId(client), sequence, acked_below };
        Batch::new().merge(key.clone(), 1).with_request(request)
    };
    let first = engine.write(add(1, 0, 0)).await.unwrap();
    assert_eq!(engine.write(add(1, 0, 0)).await.unwrap(), first, "a retry is answered, not applied");
    assert_eq!(kind(engine.write(add(2, 5, 0)).await), ErrorKind::OutcomeUnknown, "no session, not the first request");
    engine.open_session(ClientId(2)).await.unwrap();
    engine.write(add(2, 5, 5)).await.unwrap();
    drop(engine);

    let engine = LocalEngine::open(dir.path(), options()).unwrap();
    assert_eq!(engine.write(add(1, 0, 0)).await.unwrap(), first, "also after a restart");
    engine.write(add(1, 1, 1)).await.unwrap();
    assert_eq!(kind(engine.write(add(1, 0, 0)).await), ErrorKind::OutcomeUnknown, "below the window");
    assert_eq!(value(&engine, &key).await.unwrap().as_ref(), 3_i64.to_be_bytes());
}

#[tokio::test]
async fn keyspaces_that_are_not_the_callers_are_refused() {
    let (_dir, engine) = new();
    let things = keyspace(&engine).await;
    let meta = Batch::new().put(Keyspace::META.key("keyspaces", "next"), "0");
    assert_eq!(kind(engine.write(meta).await), ErrorKind::Invalid);
    let unknown = Keyspace { id: KeyspaceId(99), kind: KeyspaceKind::Hashed };
    assert_eq!(kind(engine.write(Batch::new().put(unknown.key("p", "a"), "1")).await), ErrorKind::UnknownKeyspace);
    let other_kind = Keyspace { kind: KeyspaceKind::Ordered { partition_bytes: 1 }, ..things };
    assert_eq!(kind(engine.write(Batch::new().put(other_kind.key("p", "a"), "1")).await), ErrorKind::Invalid);
    let fan_out = FanOut {
        keyspace: unknown,
        sort: "s".into(),
        action: FanOutAction::Put { value: "v".into(), ttl_ms: None },
        guard_sort: None,
        targets: vec![Target { partition: "p".into(), guard: None }],
    };
    assert_eq!(kind(engine.fan_out(fan_out).await), ErrorKind::UnknownKeyspace);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_creators_get_one_keyspace() {
    let (_dir, engine) = new();
    let creators = (0..8).map(|number| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let own = engine.keyspace(&format!("own{number}"), KeyspaceKind::Hashed).await.unwrap();
            (engine.keyspace("shared", KeyspaceKind::Hashed).await.unwrap(), own)
        })
    });
    let made: Vec<_> = join_all(creators).await.into_iter().map(|made| made.unwrap()).collect();
    assert!(made.iter().all(|(shared, _)| *shared == made[0].0));
    let mut ids: Vec<_> = made.iter().map(|(_, own)| own.id).chain([made[0].0.id]).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 9, "every name has an id of its own");
}

#[tokio::test]
async fn a_checkpoint_opens_as_an_engine_of_its_own() {
    let (dir, engine) = new();
    let things = keyspace(&engine).await;
    let key = things.key("p", "a");
    engine.write(Batch::new().put(key.clone(), "1")).await.unwrap();
    let copy_path = dir.path().with_extension("copy");
    engine.checkpoint(&copy_path).await.unwrap();
    engine.write(Batch::new().put(key.clone(), "2").require(key.clone(), Check::Exists)).await.unwrap();
    let copy = LocalEngine::open(&copy_path, options()).unwrap();
    assert_eq!(value(&copy, &key).await.unwrap(), "1");
    assert_eq!(value(&engine, &key).await.unwrap(), "2");
    assert_eq!(kind(engine.checkpoint(&copy_path).await), ErrorKind::Unavailable, "the copy is open");
    drop(copy);
    assert_eq!(kind(engine.checkpoint(&copy_path).await), ErrorKind::WrongCluster, "the copy is no new folder");
    std::fs::remove_dir_all(copy_path).unwrap();
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future with nothing but the standard library.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            return done;
        }
        std::thread::park();
    }
}

#[test]
fn it_works_without_a_runtime() {
    let (_dir, engine) = new();
    block_on(async {
        let things = keyspace(&engine).await;
        for number in 0..200_u8 {
            engine.write(Batch::new().put(things.key("p", vec![number]), "x")).await.unwrap();
        }
        let page = engine.scan(Scan::partition(things, "p", 10_000)).await.unwrap();
        assert_eq!(page.records.len(), 200);
        engine.flush().await.unwrap();
        engine.compact().await.unwrap();
        engine.close().await.unwrap();
    });
}

/// Notes which threads ask for the time: whoever commits does.
#[derive(Debug)]
struct WhoCommits(Mutex<Vec<std::thread::ThreadId>>);

impl Clock for WhoCommits {
    fn now_ms(&self) -> u64 {
        self.0.lock().unwrap().push(std::thread::current().id());
        1_700_000_000_000
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn a_caller_that_writes_alone_commits_on_its_own_thread_and_never_on_a_runtimes() {
    let clock = Arc::new(WhoCommits(Mutex::default()));
    let dir = tempfile::tempdir().unwrap();
    let engine =
        LocalEngine::open(dir.path(), LocalOptions { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..options() })
            .unwrap();
    let things = block_on(keyspace(&engine));
    let commit = |sort: &'static str| {
        clock.0.lock().unwrap().clear();
        (engine.clone(), Batch::new().put(things.key("p", sort), "1"))
    };
    let (writer, batch) = commit("a");
    block_on(writer.write(batch)).unwrap();
    let here = std::thread::current().id();
    assert!(clock.0.lock().unwrap().iter().all(|&thread| thread == here), "nobody else was woken");

    let (writer, batch) = commit("b");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(writer.write(batch)).unwrap();
    assert!(clock.0.lock().unwrap().iter().all(|&thread| thread != here), "a runtime's thread is not blocked");
}

#[test]
fn threads_without_a_runtime_share_syncs_and_a_close_between_them_loses_nothing() {
    let (dir, engine) = new();
    let things = block_on(keyspace(&engine));
    let write = |thread: u8| {
        let engine = engine.clone();
        move || {
            let mut acknowledged = Vec::new();
            for number in 0_u16..2_000 {
                let key = things.key(vec![thread], number.to_be_bytes().to_vec());
                match block_on(engine.write(Batch::new().put(key.clone(), "1"))) {
                    Ok(_) => acknowledged.push(key),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Closed);
                        break;
                    }
                }
            }
            acknowledged
        }
    };
    let threads: Vec<_> = (0..4).map(|thread| std::thread::spawn(write(thread))).collect();
    while engine.stats().unwrap().writes < 400 {
        std::thread::yield_now();
    }
    let stats = engine.stats().unwrap();
    block_on(engine.close()).unwrap();
    let acknowledged: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert!(acknowledged.len() >= 400, "{}", acknowledged.len());
    assert!(stats.groups < stats.writes, "some share a sync: {stats:?}");
    drop(engine);
    let engine = LocalEngine::open(dir.path(), options()).unwrap();
    let found = block_on(engine.multi_get(acknowledged.clone(), Consistency::Linearizable)).unwrap();
    assert!(found.iter().all(Option::is_some), "what was acknowledged before the close is there");
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_stop_the_others() {
    let (_dir, engine) = new();
    let things = keyspace(&engine).await;
    for number in 0..50_u8 {
        let write = engine.write(Batch::new().put(things.key("given-up", vec![number]), "x"));
        // Polled once, so that it is queued, then dropped.
        assert!(write.now_or_never().is_none_or(|done| done.is_ok()));
    }
    engine.write(Batch::new().put(things.key("p", "a"), "1")).await.unwrap();
    let page = engine.scan(Scan::partition(things, "given-up", 100)).await.unwrap();
    assert_eq!(page.records.len(), 50, "what was queued before is applied before");
}

#[tokio::test]
async fn a_failed_flush_stops_writes_and_not_reads() {
    let (dir, engine) = new();
    let things = keyspace(&engine).await;
    let key = things.key("p", "a");
    engine.write(Batch::new().put(key.clone(), "1")).await.unwrap();
    std::fs::remove_dir_all(dir.path().join(STORE)).unwrap();
    assert_eq!(kind(engine.flush().await), ErrorKind::Io);
    assert_eq!(kind(engine.write(Batch::new().put(key.clone(), "2")).await), ErrorKind::Io, "nothing was written");
    assert_eq!(value(&engine, &key).await.unwrap(), "1");
    assert_eq!(kind(engine.close().await), ErrorKind::Io);
}

#[tokio::test]
async fn a_failed_write_is_unknown_once_and_refused_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksOptions { write_buffer_bytes: 1 << 20, ..options().store };
    let engine = LocalEngine::open(dir.path(), LocalOptions { store, ..options() }).unwrap();
    let things = keyspace(&engine).await;
    std::fs::remove_dir_all(dir.path().join(STORE)).unwrap();
    // Sooner or later the store needs a new file, and can't have it.
    let mut first = None;
    for number in 0..200_u8 {
        let batch = Batch::new().put(things.key("p", vec![number]), vec![number; 100_000]);
        if let Err(error) = engine.write(batch).await {
            first = Some(error.kind());
            break;
        }
    }
    assert_eq!(first, Some(ErrorKind::OutcomeUnknown));
    assert_eq!(kind(engine.write(Batch::new().put(things.key("p", "a"), "1")).await), ErrorKind::Io);
}

/// A view holds the database open; a closed engine holds none.
#[tokio::test]
async fn a_closed_engine_ends_its_consistent_scans() {
    let (dir, engine) = new();
    let things = keyspace(&engine).await;
    let put = |batch: Batch, at: u8| batch.put(things.key("p", vec![at]), "x");
    engine.write((0..9).fold(Batch::new(), put)).await.unwrap();
    let scan = Scan::partition(things, "p", 4).consistent();
    let first = engine.scan(scan.clone()).await.unwrap();
    let next = scan.after(first.next);
    engine.close().await.unwrap();
    assert_eq!(kind(engine.scan(next.clone()).await), ErrorKind::Closed);
    let engine = LocalEngine::open(dir.path(), options()).expect("nothing holds the folder");
    assert_eq!(kind(engine.scan(next).await), ErrorKind::ScanExpired);
}

#[tokio::test]
async fn views_are_bounded_and_swept_by_writes() {
    let clock = Arc::new(crate::clock::ManualClock::new(1_000_000));
    let views = crate::views::ViewLimits { views_max: 2, ..options().views };
    let dir = tempfile::tempdir().unwrap();
    let settings = LocalOptions { clock: Arc::clone(&clock) as Arc<dyn Clock>, views, ..options() };
    let engine = LocalEngine::open(dir.path(), settings).unwrap();
    let things = keyspace(&engine).await;
    let put = |batch: Batch, at: u8| batch.put(things.key("p", vec![at]), "x");
    engine.write((0..9).fold(Batch::new(), put)).await.unwrap();
    let scan = Scan::partition(things, "p", 4).consistent();
    let open = [engine.scan(scan.clone()).await.unwrap(), engine.scan(scan.clone()).await.unwrap()];
    assert_eq!(kind(engine.scan(scan.clone()).await), ErrorKind::ResourceExhausted);
    // One scan that is read to its end makes room.
    let [first, second] = open;
    let mut page = first;
    while let Some(next) = page.next {
        page = engine.scan(scan.clone().after(Some(next))).await.unwrap();
    }
    engine.scan(scan.clone()).await.unwrap();
    clock.advance_ms(u64::try_from(views.idle.as_millis()).unwrap());
    engine.write(Batch::new().put(things.key("p", "later"), "x")).await.unwrap();
    assert_eq!(engine.opened().unwrap().views.held(), 0, "a write sweeps what is idle");
    assert_eq!(kind(engine.scan(scan.after(second.next)).await), ErrorKind::ScanExpired);
}
