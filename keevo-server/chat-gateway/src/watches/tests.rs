//! Shared watches against the engine's contract, and what they spare.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::join_all;
use keevo_core::testing::conformance::Factory;
use keevo_core::{Change, ClientId, MemoryEngine};

use super::*;

/// Every case has an engine of its own whose watches are shared.
#[derive(Default)]
struct Shared {
    clients: AtomicU64,
}

impl Factory for Shared {
    type Engine = SharedWatches<MemoryEngine>;

    async fn fresh(&self) -> Self::Engine {
        SharedWatches::new(MemoryEngine::new(), CancellationToken::new())
    }

    async fn session(&self, engine: &Self::Engine) -> ClientId {
        let client = ClientId(self.clients.fetch_add(1, Ordering::Relaxed).into());
        engine.engine.open_session(client).await.expect("a session opens");
        client
    }
}

mod conformance {
    keevo_core::conformance_tests!(super::Shared::default());
}

type Tested = SharedWatches<MemoryEngine>;

async fn keyspace(engine: &Tested) -> Keyspace {
    engine.keyspace("watched", KeyspaceKind::Hashed).await.expect("a keyspace")
}

fn partition(number: usize) -> Bytes {
    format!("p{number}").into()
}

async fn put(engine: &Tested, keyspace: Keyspace, number: usize, value: usize) {
    let key = keyspace.key(partition(number), Bytes::from_static(b"k"));
    engine.write(Batch::new().put(key, value.to_string())).await.expect("written");
}

async fn now(engine: &Tested, keyspace: Keyspace) -> Cursor {
    engine.scan(Scan::partition(keyspace, partition(0), 1)).await.expect("scanned").as_of
}

async fn follow(engine: &Tested, keyspace: Keyspace, number: usize, after: Cursor) -> Watch {
    let range = WatchRange::Partition { keyspace, partition: partition(number), prefix: Bytes::new() };
    engine.watch(range, WatchFrom::After(vec![after])).await.expect("a watch")
}

async fn values(watch: &mut Watch, count: usize) -> Vec<usize> {
    let mut values = Vec::new();
    while values.len() < count {
        let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("in time");
        let Change::Put { value, .. } = event.expect("it goes on").expect("an event").change else {
            panic!("only puts were made")
        };
        values.push(std::str::from_utf8(&value).expect("a number").parse().expect("a number"));
    }
    values
}

#[tokio::test]
async fn a_thousand_watches_of_partitions_are_one_of_the_engine() {
    let engine = SharedWatches::new(MemoryEngine::new(), CancellationToken::new());
    let keyspace = keyspace(&engine).await;
    let from = now(&engine, keyspace).await;
    let mut watches = join_all((0..1_000).map(|number| follow(&engine, keyspace, number, from))).await;
    for value in 0..3 {
        for number in 0..1_000 {
            put(&engine, keyspace, number, value).await;
        }
    }
    for watch in &mut watches {
        assert_eq!(values(watch, 3).await, [0, 1, 2]);
    }
    assert_eq!(engine.hub.opened(), 1);
    drop(watches);
    assert!(engine.hub.is_idle(keyspace), "nobody follows any more");
}

#[tokio::test]
async fn whoever_comes_later_gets_everything_behind_its_cursor_once() {
    let engine = SharedWatches::new(MemoryEngine::new(), CancellationToken::new());
    let keyspace = keyspace(&engine).await;
    put(&engine, keyspace, 1, 0).await;
    let first = now(&engine, keyspace).await;
    for value in 1..=50 {
        put(&engine, keyspace, 1, value).await;
        put(&engine, keyspace, 2, value).await;
    }
    let middle = now(&engine, keyspace).await;
    let mut early = follow(&engine, keyspace, 2, middle).await;
    for value in 51..=60 {
        put(&engine, keyspace, 1, value).await;
        put(&engine, keyspace, 2, value).await;
    }
    assert_eq!(values(&mut early, 10).await, (51..=60).collect::<Vec<_>>());
    // From before the ring: by a watch of its own, and then by the hub's.
    let mut late = follow(&engine, keyspace, 1, first).await;
    assert_eq!(values(&mut late, 60).await, (1..=60).collect::<Vec<_>>());
    put(&engine, keyspace, 1, 61).await;
    assert_eq!(values(&mut late, 1).await, [61]);
    assert_eq!(engine.hub.opened(), 1);
}

#[tokio::test]
async fn one_who_is_too_slow_for_its_queue_misses_nothing() {
    let engine = SharedWatches::new(MemoryEngine::new(), CancellationToken::new());
    let keyspace = keyspace(&engine).await;
    let from = now(&engine, keyspace).await;
    let mut slow = follow(&engine, keyspace, 1, from).await;
    put(&engine, keyspace, 1, 0).await;
    assert_eq!(values(&mut slow, 1).await, [0]);
    let mut quick = follow(&engine, keyspace, 1, now(&engine, keyspace).await).await;
    for value in 1..=3_000 {
        put(&engine, keyspace, 1, value).await;
        if value % 100 == 0 {
            assert_eq!(values(&mut quick, 100).await, (value - 99..=value).collect::<Vec<_>>());
        }
    }
    assert_eq!(values(&mut slow, 3_000).await, (1..=3_000).collect::<Vec<_>>());
}
