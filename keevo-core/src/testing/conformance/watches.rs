//! Cases: watches miss nothing, keep the order within a shard, and resume where they were left.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::StreamExt;

use super::Factory;
use super::bench::{Bench, Replayed, WAIT, next, next_after};
use crate::batch::{Batch, Check};
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::fan_out::{FanOut, FanOutAction, Target};
use crate::ids::{ClusterId, ShardId};
use crate::key::Keyspace;
use crate::scan::Scan;
use crate::watch::{Change, Cursor, WatchFrom, WatchRange};

fn put(value: &'static str) -> Change {
    Change::Put { value: value.into(), expires_at_ms: None }
}

pub(super) async fn watch_from_now<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = |sort: &'static str| keyspace.key("p", sort);
    bench.put(&key("before"), "0").await;
    let mut watch = bench.watch(keyspace, "p", WatchFrom::Now).await;
    let first = bench.put(&key("a"), "1").await;
    bench.put(&keyspace.key("q", "a"), "another partition").await;
    let conflict = Batch::new().put(key("a"), "never").require(key("a"), Check::Absent);
    assert_eq!(bench.refused(conflict).await, ErrorKind::Conflict);
    let second = bench.write(Batch::new().delete(key("a"))).await.revision;
    let third = bench.put(&key("b"), "2").await;
    let mut last: Option<Cursor> = None;
    for (sort, change, revision) in [("a", put("1"), first), ("a", Change::Delete, second), ("b", put("2"), third)] {
        let event = match last {
            None => next(&mut watch).await,
            Some(last) => next_after(&mut watch, last).await,
        };
        assert_eq!((&event.key, &event.change), (&key(sort), &change));
        assert_eq!(event.cursor.revision, revision, "an event carries its write's revision");
        last = Some(event.cursor);
    }
}

pub(super) async fn watch_shows_every_kind_of_change<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = |sort: &'static str| keyspace.key("p", sort);
    let mut watch = bench.watch(keyspace, "p", WatchFrom::Now).await;
    bench.write(Batch::new().put(key("a"), "1").put(key("b"), "2").put(key("c"), "3").put(key("d"), "4")).await;
    bench.write(Batch::new().delete(key("a")).put(key("a"), "5").delete(key("b"))).await;
    bench.write(Batch::new().delete_range(key("c"), "d").merge(key("n"), 9)).await;
    bench.write(Batch::new().append(key("n"), "m/", "hello", Some("id".into()))).await;
    bench.write(Batch::new().put_ttl(key("t"), "6", 3_600_000)).await;
    let end = bench.put(&key("end"), "").await;
    let (mut replayed, mut last, mut expiries) = (Replayed::default(), None::<Cursor>, BTreeMap::new());
    loop {
        let event = next(&mut watch).await;
        assert!(last.is_none_or(|last| event.cursor > last), "{:?} does not come after {last:?}", event.cursor);
        last = Some(event.cursor);
        let at_end = event.cursor.revision == end;
        if let Change::Put { expires_at_ms, .. } = &event.change {
            expiries.insert(event.key.sort.clone(), *expires_at_ms);
        }
        replayed.apply(event);
        if at_end {
            break;
        }
    }
    let found = bench.collect(Scan::partition(keyspace, "p", 100)).await;
    for (key, record) in &found {
        assert_eq!(expiries.get(&key.sort), Some(&record.expires_at_ms), "{key:?}");
    }
    let state = found.into_iter().map(|(key, record)| (key.sort, record.value)).collect();
    assert_eq!(replayed, Replayed(state), "the events make up the partition");
}

pub(super) async fn watch_resumes_from_a_cursor<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let number = |at: u8| keyspace.key("p", vec![at]);
    let from = WatchFrom::After(vec![bench.cursor(keyspace, "p").await]);
    for at in 0..10 {
        bench.write(Batch::new().put(number(at * 2), "x").put(number(at * 2 + 1), "x")).await;
    }
    let mut watch = bench.watch(keyspace, "p", from.clone()).await;
    let mut cursors: Vec<Cursor> = Vec::new();
    while cursors.len() < 20 {
        let event = next(&mut watch).await;
        if cursors.last().is_none_or(|last| event.cursor > *last) {
            let at = u8::try_from(cursors.len()).expect("it is small");
            assert_eq!(event.key, number(at), "the past is delivered in order");
            cursors.push(event.cursor);
        }
    }
    drop(watch);
    let last = bench.put(&number(20), "x").await;
    for (at, cursor) in cursors.into_iter().enumerate() {
        let mut watch = bench.watch(keyspace, "p", WatchFrom::After(vec![cursor])).await;
        let event = next_after(&mut watch, cursor).await;
        assert_eq!(event.key, number(u8::try_from(at + 1).expect("it is small")), "after the event {at}");
        assert!(at < 19 || event.cursor.revision == last);
    }
    let mut again = bench.watch(keyspace, "p", from).await;
    assert_eq!(next(&mut again).await.key, number(0), "a cursor may be used again");
}

pub(super) async fn watch_filters_by_prefix<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = |sort: &'static str| keyspace.key("p", sort);
    let range = WatchRange::Partition { keyspace, partition: "p".into(), prefix: "m/".into() };
    let mut watch = bench.engine.watch(range, WatchFrom::Now).await.expect("the watch opens");
    for sort in ["m", "m/", "n/1", "m/1", "m0", "", "m/2"] {
        bench.put(&key(sort), "x").await;
    }
    bench.put(&keyspace.key("q", "m/3"), "x").await;
    bench.write(Batch::new().delete(key("m/1")).delete(key("n/1"))).await;
    bench.put(&key("m/end"), "x").await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(sort, _)| sort != "m/end") {
        let event = next(&mut watch).await;
        assert_eq!(event.key.partition, "p");
        seen.push((event.key.sort, event.change));
    }
    let expected =
        [("m/", put("x")), ("m/1", put("x")), ("m/2", put("x")), ("m/1", Change::Delete), ("m/end", put("x"))];
    assert_eq!(seen, expected.map(|(sort, change)| (Bytes::from(sort), change)));
}

pub(super) async fn watch_prefix_sees_range_deletes<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = |sort: &'static str| keyspace.key("p", sort);
    let range = WatchRange::Partition { keyspace, partition: "p".into(), prefix: "m/".into() };
    let cursor = bench.cursor(keyspace, "p").await;
    bench.write(["a", "m/1", "m/5", "z"].into_iter().fold(Batch::new(), |batch, sort| batch.put(key(sort), "x"))).await;
    bench.write(Batch::new().delete_range(key("m/3"), "")).await;
    bench.write(Batch::new().delete_range(key(""), "b")).await;
    bench.put(&key("m/7"), "x").await;
    bench.write(Batch::new().delete_range(key(""), "m/2")).await;
    let end = bench.put(&key("m/9"), "x").await;
    let mut watch = bench.engine.watch(range, WatchFrom::After(vec![cursor])).await.expect("the watch opens");
    let mut replayed = Replayed::default();
    loop {
        let event = next_after(&mut watch, cursor).await;
        let at_end = event.cursor.revision == end;
        replayed.apply(event);
        if at_end {
            break;
        }
    }
    let left: Vec<&Bytes> = replayed.0.keys().collect();
    assert_eq!(left, ["m/7", "m/9"], "range deletes that start outside of the prefix count too");
}

/// A watch of a whole keyspace, and how far it has seen each shard.
struct Followed {
    watch: crate::watch::Watch,
    seen: BTreeMap<ShardId, Cursor>,
}

impl Followed {
    /// Reads until `done`; checks that each shard's events come in order.
    async fn until(&mut self, mut done: impl FnMut(&crate::watch::CommitEvent) -> bool) {
        loop {
            let event = next(&mut self.watch).await;
            let last = self.seen.insert(event.cursor.shard, event.cursor);
            assert!(last.is_none_or(|last| last < event.cursor), "{:?} after {last:?}", event.cursor);
            if done(&event) {
                return;
            }
        }
    }
}

/// The oldest cursor of each shard that `partitions` lie in, at or before now.
async fn cursors<F: Factory>(bench: &Bench<'_, F>, keyspace: Keyspace, partitions: &[Bytes]) -> Vec<Cursor> {
    let mut oldest = BTreeMap::new();
    for partition in partitions {
        let cursor = bench.cursor(keyspace, partition.clone()).await;
        oldest.entry(cursor.shard).or_insert(cursor);
    }
    oldest.into_values().collect()
}

pub(super) async fn watch_a_keyspace<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let other = bench.ordered(1).await;
    let partitions: Vec<Bytes> = (0..32).map(|number| Bytes::from(format!("p{number}"))).collect();
    let from = cursors(&bench, keyspace, &partitions).await;
    let only = *from.first().expect("a shard");
    let watch = bench.engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await.expect("the watch opens");
    let mut live = Followed { watch, seen: BTreeMap::new() };
    for (round, partition) in partitions.iter().enumerate() {
        for value in ["1", "2"] {
            bench.put(&keyspace.key(partition.clone(), "k"), value).await;
        }
        bench.put(&other.key(vec![u8::try_from(round).expect("it is small")], "k"), "not mine").await;
    }
    let resumed = bench.engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::After(from)).await;
    let mut past = Followed { watch: resumed.expect("the watch opens"), seen: BTreeMap::new() };
    for followed in [&mut live, &mut past] {
        let mut values: BTreeMap<Bytes, Vec<Change>> = BTreeMap::new();
        let mut events = 0;
        followed
            .until(|event| {
                assert_eq!(event.key.keyspace, keyspace, "another keyspace's event");
                values.entry(event.key.partition.clone()).or_default().push(event.change.clone());
                events += 1;
                events == 64
            })
            .await;
        assert_eq!(values.len(), 32);
        assert!(values.values().all(|changes| *changes == [put("1"), put("2")]), "{values:?}");
    }
    let rest = live.seen.into_values().collect();
    let resumed = bench.engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::After(rest)).await;
    bench.put(&keyspace.key("p5", "k"), "3").await;
    let event = next(&mut resumed.expect("the watch opens")).await;
    assert_eq!((event.key.partition, event.change), (Bytes::from("p5"), put("3")), "it goes on where it was left");
    // One shard alone.
    let mut mine = BTreeSet::new();
    for partition in &partitions {
        if cursors(&bench, keyspace, std::slice::from_ref(partition)).await.iter().any(|one| one.shard == only.shard) {
            mine.insert(partition.clone());
        }
    }
    let watch = bench.engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Only(vec![only])).await;
    let mut alone = Followed { watch: watch.expect("the watch opens"), seen: BTreeMap::from([(only.shard, only)]) };
    let (mut heard, mut left) = (BTreeSet::new(), 2 * mine.len() + usize::from(mine.contains(b"p5".as_slice())));
    alone
        .until(|event| {
            assert_eq!(event.cursor.shard, only.shard, "an event of a shard that is not watched");
            heard.insert(event.key.partition.clone());
            left -= 1;
            left == 0
        })
        .await;
    assert_eq!(heard, mine);
    let nothing = bench.engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Only(Vec::new())).await;
    assert_eq!(nothing.err().map(|error| error.kind()), Some(ErrorKind::Invalid));
}

pub(super) async fn watch_a_fan_out<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let partitions: Vec<Bytes> = (0..100).map(|number| Bytes::from(format!("p{number}"))).collect();
    let from = cursors(&bench, keyspace, &partitions).await;
    let mut one = bench.watch(keyspace, "p50", WatchFrom::Now).await;
    let fan_out = FanOut {
        keyspace,
        sort: "item".into(),
        action: FanOutAction::Put { value: "x".into(), ttl_ms: None },
        guard_sort: None,
        targets: partitions.iter().map(|name| Target { partition: name.clone(), guard: None }).collect(),
    };
    bench.engine.fan_out(fan_out).await.expect("a fan-out is applied");
    let event = next(&mut one).await;
    assert_eq!((event.key, event.change), (keyspace.key("p50", "item"), put("x")));
    let mut followed = from;
    let mut seen = BTreeSet::new();
    // Leave off after every seventh event: a cursor points into the middle of a fan-out.
    while seen.len() < 100 {
        let range = WatchRange::Keyspace(keyspace);
        let watch = bench.engine.watch(range, WatchFrom::After(followed.clone())).await.expect("the watch opens");
        let seen_before = followed.iter().map(|cursor| (cursor.shard, *cursor)).collect();
        let mut part = Followed { watch, seen: seen_before };
        let mut left = 7;
        part.until(|event| {
            assert!(seen.insert(event.key.partition.clone()), "{:?} came twice", event.key);
            left -= 1;
            left == 0 || seen.len() == 100
        })
        .await;
        followed = part.seen.into_values().collect();
    }
}

pub(super) async fn watch_after_a_scan_misses_nothing<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let scan = || Scan::partition(keyspace, "p", 1_000);
    let mut views = vec![bench.engine.scan(scan()).await.expect("a page is answered")];
    let engine = bench.engine.clone();
    let writer = tokio::spawn(async move {
        for round in 0..151_u8 {
            let key = keyspace.key("p", vec![round % 20]);
            let batch = if round % 7 == 4 { Batch::new().delete(key) } else { Batch::new().put(key, vec![round]) };
            engine.write(batch).await.expect("a write is applied");
            if round % 10 == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
        engine.write(Batch::new().put(keyspace.key("p", "end"), "")).await.expect("a write is applied").revision
    });
    for _ in 0..8 {
        views.push(bench.engine.scan(scan()).await.expect("a page is answered"));
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    let end = writer.await.expect("the writer did not fail");
    let found = bench.collect(Scan::partition(keyspace, "p", 1_000)).await;
    let state = Replayed(found.into_iter().map(|(key, record)| (key.sort, record.value)).collect());
    for page in views {
        let view = page.records.into_iter().map(|(key, record)| (key.sort, record.value)).collect();
        let mut replayed = Replayed(view);
        let mut watch = bench.watch(keyspace, "p", WatchFrom::After(vec![page.as_of])).await;
        while replayed != state || page.as_of.revision < end {
            let event = next(&mut watch).await;
            let at_end = event.cursor.revision == end;
            replayed.apply(event);
            if at_end {
                break;
            }
        }
        assert_eq!(replayed, state, "a scan and the changes after it make up the state");
    }
}

/// The error that a watch ends with, at once or as its first item.
async fn watch_error<F: Factory>(bench: &Bench<'_, F>, keyspace: Keyspace, cursor: Cursor) -> ErrorKind {
    let range = WatchRange::Partition { keyspace, partition: "p".into(), prefix: Bytes::new() };
    let mut watch = match bench.engine.watch(range, WatchFrom::After(vec![cursor])).await {
        Ok(watch) => watch,
        Err(error) => return error.kind(),
    };
    match tokio::time::timeout(WAIT, watch.next()).await {
        Ok(Some(Err(error))) => error.kind(),
        other => panic!("the cursor {cursor:?} should be refused, not give {other:?}"),
    }
}

pub(super) async fn a_foreign_cursor_is_refused<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    bench.put(&keyspace.key("p", "k"), "1").await;
    let cursor = bench.cursor(keyspace, "p").await;
    bench.put(&keyspace.key("p", "k"), "2").await;
    let foreign = Cursor { cluster: ClusterId(cursor.cluster.0 ^ 1), ..cursor };
    let kind = watch_error(&bench, keyspace, foreign).await;
    assert!(matches!(kind, ErrorKind::WrongCluster | ErrorKind::Invalid | ErrorKind::CursorCompacted), "{kind}");
}

pub(super) async fn a_cursor_before_the_retained_changes<F: Factory>(bench: Bench<'_, F>) {
    const RETAINED: u16 = 64;
    let Some(engine) = bench.factory.retaining(RETAINED.into()).await else { return };
    let bench = Bench::on(bench.factory, engine, "retained");
    let keyspace = bench.keyspace().await;
    let key = |at: u16| keyspace.key("p", Bytes::copy_from_slice(&at.to_be_bytes()));
    let old = bench.cursor(keyspace, "p").await;
    let mut sleeper = bench.watch(keyspace, "p", WatchFrom::Now).await;
    // Twice as many, since an engine may drop its oldest changes by the page.
    for at in 0..RETAINED * 3 {
        bench.put(&key(at), "x").await;
    }
    assert_eq!(watch_error(&bench, keyspace, old).await, ErrorKind::CursorCompacted);
    let recent = bench.cursor(keyspace, "p").await;
    let mut watch = bench.watch(keyspace, "p", WatchFrom::After(vec![recent])).await;
    bench.put(&key(9_999), "x").await;
    assert_eq!(next_after(&mut watch, recent).await.key, key(9_999), "a recent cursor holds");
    loop {
        match tokio::time::timeout(WAIT, sleeper.next()).await {
            // It may have been read ahead; what it delivers before it ends is not in question.
            Ok(Some(Ok(event))) if event.key == key(9_999) => return,
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => {
                assert_eq!(error.kind(), ErrorKind::CursorCompacted, "a watch that lags too far is told so");
                return;
            }
            other => panic!("the lagging watch gave {other:?}"),
        }
    }
}
