//! Shared watches against the engine's contract, and what they spare.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use futures::future::join_all;
use keevo_core::testing::conformance::Factory;
use keevo_core::{Change, ClientId, Error, ErrorKind, MemoryEngine, ScanRange, ShardId};

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

/// Two shards: partitions that begin with `q` are in another than all others, and that one may be out of reach. Watches can be made
/// to break.
#[derive(Clone)]
struct Split {
    shards: Arc<[MemoryEngine; 2]>,
    /// Whether the second shard cannot be reached.
    down: Arc<AtomicBool>,
    /// Breaks the watches of all of a shard's changes, for want of changes.
    gap: tokio::sync::watch::Sender<u64>,
    /// Watches of partitions that were opened.
    own: Arc<AtomicUsize>,
    /// The revision from which on changes are kept; whoever comes from before hears so with the first item of its watch.
    kept: Arc<AtomicU64>,
}

impl Split {
    fn new() -> Self {
        let shards = Arc::new([MemoryEngine::new(), MemoryEngine::new()]);
        let gap = tokio::sync::watch::Sender::new(0);
        Self { shards, down: Arc::default(), gap, own: Arc::default(), kept: Arc::default() }
    }

    fn of(partition: &Bytes) -> usize {
        usize::from(partition.starts_with(b"q"))
    }

    fn shard(&self, at: usize) -> Result<&MemoryEngine> {
        if at == 1 && self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the shard has no leader"));
        }
        Ok(&self.shards[at])
    }

    /// A cursor of one of the engines as this one gives it.
    fn outside(&self, at: usize, cursor: Cursor) -> Cursor {
        Cursor {
            cluster: self.shards[0].cluster_id(),
            shard: ShardId(10 + u64::try_from(at).expect("small")),
            ..cursor
        }
    }

    /// And back, with its engine.
    fn inside(&self, cursor: Cursor) -> (usize, Cursor) {
        let at = usize::from(cursor.shard == ShardId(11));
        (at, Cursor { cluster: self.shards[at].cluster_id(), shard: ShardId::LOCAL, ..cursor })
    }
}

impl Engine for Split {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        let one = self.shards[0].keyspace(name, kind).await?;
        assert_eq!(self.shards[1].keyspace(name, kind).await?, one);
        Ok(one)
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.shards[0].find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.shard(Self::of(&key.partition))?.get(key, consistency).await
    }

    async fn multi_get(&self, _keys: Vec<Key>, _consistency: Consistency) -> Result<Vec<Option<Record>>> {
        Err(Error::invalid("nobody asks"))
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        let ScanRange::Partition { partition, .. } = &scan.range else { return Err(Error::invalid("nobody asks")) };
        let at = Self::of(partition);
        let page = self.shard(at)?.scan(scan).await?;
        Ok(ScanPage { as_of: self.outside(at, page.as_of), ..page })
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        let at = batch.partition_key().map_or(0, |key| Self::of(&key.partition));
        self.shard(at)?.write(batch).await
    }

    async fn fan_out(&self, _fan_out: FanOut) -> Result<FannedOut> {
        Err(Error::invalid("nobody asks"))
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        let (cursors, only) = match from {
            WatchFrom::Now => (Vec::new(), false),
            WatchFrom::After(cursors) => (cursors, false),
            WatchFrom::Only(cursors) => (cursors, true),
        };
        let [cursor] = cursors.as_slice() else { return Err(Error::invalid("nobody asks")) };
        let (at, cursor) = self.inside(*cursor);
        if !only {
            // As a cluster does, which asks every shard of a keyspace where it is.
            self.shard(if matches!(range, WatchRange::Keyspace(_)) { 1 } else { at })?;
            self.own.fetch_add(1, Ordering::SeqCst);
        }
        let gone = || Err(Error::new(ErrorKind::CursorCompacted, "the changes are not kept any more"));
        if cursor.revision.0 < self.kept.load(Ordering::SeqCst) {
            // Not at once, as it has to be asked for elsewhere.
            let asked = async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                gone()
            };
            return Ok(stream::once(asked).boxed());
        }
        let (split, mut gap) = (self.clone(), self.gap.subscribe());
        let broken = stream::once(async move {
            gap.changed().await.expect("the engine lives");
            gone()
        });
        let watch = self.shard(at)?.watch(range, WatchFrom::After(vec![cursor])).await?;
        let watch =
            watch.map(move |event| event.map(|one| CommitEvent { cursor: split.outside(at, one.cursor), ..one }));
        Ok(if only { stream::select(watch, broken).boxed() } else { watch.boxed() })
    }
}

impl Split {
    /// A watch of a partition from now on.
    async fn follow(shared: &SharedWatches<Self>, keyspace: Keyspace, partition: &str) -> Result<Watch> {
        let partition = Bytes::copy_from_slice(partition.as_bytes());
        let after = shared.scan(Scan::partition(keyspace, partition.clone(), 1)).await?.as_of;
        shared
            .watch(WatchRange::Partition { keyspace, partition, prefix: Bytes::new() }, WatchFrom::After(vec![after]))
            .await
    }

    async fn put(&self, keyspace: Keyspace, partition: &str, value: usize) {
        let key = keyspace.key(Bytes::copy_from_slice(partition.as_bytes()), Bytes::from_static(b"k"));
        self.write(Batch::new().put(key, value.to_string())).await.expect("written");
    }
}

/// One shard without a leader once held up the channels of all: the watch of the whole keyspace could not be opened.
#[tokio::test]
async fn a_shard_that_cannot_be_reached_holds_up_nobody_elses() {
    let engine = Split::new();
    let shared = SharedWatches::new(engine.clone(), CancellationToken::new());
    let keyspace = shared.keyspace("watched", KeyspaceKind::Hashed).await.expect("a keyspace");
    let mut far = Split::follow(&shared, keyspace, "q1").await.expect("a watch");
    engine.put(keyspace, "q1", 1).await;
    assert_eq!(values(&mut far, 1).await, [1]);
    engine.down.store(true, Ordering::SeqCst);
    let mut near = Vec::new();
    for number in 0..50 {
        near.push(Split::follow(&shared, keyspace, &format!("p{number}")).await.expect("a watch"));
    }
    for (number, watch) in near.iter_mut().enumerate() {
        engine.put(keyspace, &format!("p{number}"), number).await;
        assert_eq!(values(watch, 1).await, [number]);
    }
    assert!(Split::follow(&shared, keyspace, "q2").await.is_err(), "only this one waits");
    engine.down.store(false, Ordering::SeqCst);
    engine.put(keyspace, "q1", 2).await;
    assert_eq!(values(&mut far, 1).await, [2], "it goes on");
    assert_eq!((engine.own.load(Ordering::SeqCst), shared.hub.opened()), (0, 2), "one watch a shard, and no other");
}

/// After a gap all who followed once had a watch of their own, each of which read every change of the shard.
#[tokio::test]
async fn after_a_gap_all_follow_one_watch_again() {
    let engine = Split::new();
    let shared = SharedWatches::new(engine.clone(), CancellationToken::new());
    let keyspace = shared.keyspace("watched", KeyspaceKind::Hashed).await.expect("a keyspace");
    let mut watches = Vec::new();
    for number in 0..50 {
        watches.push((number, Split::follow(&shared, keyspace, &format!("p{number}")).await.expect("a watch")));
    }
    // Each has had its last change at another place, and some none.
    for (number, watch) in watches.iter_mut().skip(10) {
        engine.put(keyspace, &format!("p{number}"), 1).await;
        assert_eq!(values(watch, 1).await, [1]);
    }
    engine.gap.send_modify(|gaps| *gaps += 1);
    for round in 2..5 {
        for (number, watch) in &mut watches {
            engine.put(keyspace, &format!("p{number}"), round).await;
            assert_eq!(values(watch, 1).await, [round], "p{number}");
        }
    }
    assert_eq!((engine.own.load(Ordering::SeqCst), shared.hub.opened()), (0, 2), "before and after");
}

/// Where the node has no replica of a shard, a watch from too long ago opens, and ends with its first item. Whoever followed
/// from there once began anew without end, and never heard of it.
#[tokio::test]
async fn whoever_comes_from_too_long_ago_hears_so_and_nobody_else() {
    let engine = Split::new();
    let shared = SharedWatches::new(engine.clone(), CancellationToken::new());
    let keyspace = shared.keyspace("watched", KeyspaceKind::Hashed).await.expect("a keyspace");
    let old = shared.scan(Scan::partition(keyspace, "p", 1)).await.expect("scanned").as_of;
    engine.put(keyspace, "p1", 1).await;
    let new = shared.scan(Scan::partition(keyspace, "p", 1)).await.expect("scanned").as_of;
    engine.kept.store(new.revision.0, Ordering::SeqCst);
    let missing = async |watch: &mut Watch| {
        let first = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("in time");
        first.expect("an item").expect_err("the changes are gone").kind()
    };
    let range = |partition| WatchRange::Partition { keyspace, partition, prefix: Bytes::new() };
    let follow = async |after| shared.watch(range(Bytes::from_static(b"p1")), WatchFrom::After(vec![after])).await;
    let mut late = follow(old).await.expect("a watch");
    let mut good = follow(new).await.expect("a watch");
    assert_eq!(missing(&mut late).await, ErrorKind::CursorCompacted);
    let mut app = shared.follow_prefix(keyspace, &Bytes::from_static(b"p"), vec![old]).await.expect("followed");
    let first = tokio::time::timeout(Duration::from_secs(20), app.next()).await.expect("in time");
    assert_eq!(first.expect("an item").expect_err("gone").kind(), ErrorKind::CursorCompacted);
    engine.put(keyspace, "p1", 2).await;
    assert_eq!(values(&mut good, 1).await, [2], "it goes on");
}

/// A hook follows all partitions of its app, and no other, from what is read anyhow; and knows how far that is.
#[tokio::test]
async fn whoever_follows_an_app_hears_of_it_alone_and_knows_how_far_it_is() {
    let engine = Split::new();
    let shared = SharedWatches::new(engine.clone(), CancellationToken::new());
    let keyspace = shared.keyspace("watched", KeyspaceKind::Hashed).await.expect("a keyspace");
    let mut from = Vec::new();
    for partition in ["p", "q"] {
        from.push(shared.scan(Scan::partition(keyspace, partition, 1)).await.expect("scanned").as_of);
    }
    let (mut one, mut other) = (
        shared.follow_prefix(keyspace, &Bytes::from_static(b"p1"), from.clone()).await.expect("followed"),
        shared.follow_prefix(keyspace, &Bytes::from_static(b"q"), from).await.expect("followed"),
    );
    let heard = async |watch: &mut AppWatch<Split>| {
        let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("in time");
        event.expect("it goes on").expect("a change")
    };
    for number in 0..20 {
        engine.put(keyspace, &format!("p{number}"), 0).await;
        engine.put(keyspace, &format!("q{number}"), 0).await;
    }
    let mut partitions = Vec::new();
    for _ in 0..11 {
        partitions.push(heard(&mut one).await.key.partition);
    }
    assert!(partitions.iter().all(|partition| partition.starts_with(b"p1")), "{partitions:?}");
    for _ in 0..20 {
        assert!(heard(&mut other).await.key.partition.starts_with(b"q"));
    }
    // Others go on: what is not its own moves its place too.
    engine.put(keyspace, "p2", 1).await;
    let end = shared.scan(Scan::partition(keyspace, "p", 1)).await.expect("scanned").as_of;
    let there = async {
        while !one.reached().iter().any(|at| at.shard == end.shard && at.revision == end.revision) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), there).await.expect("it comes there");
    engine.put(keyspace, "p1", 1).await;
    let waits = one.reached();
    assert!(
        waits.iter().all(|at| at.shard != end.shard || at.revision <= end.revision),
        "what waits is not passed over"
    );
    assert_eq!(heard(&mut one).await.key.partition, "p1");
    assert_eq!((engine.own.load(Ordering::SeqCst), shared.hub.opened()), (0, 2), "one watch a shard for both");
}
