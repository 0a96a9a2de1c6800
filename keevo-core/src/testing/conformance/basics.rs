//! Cases: put, get, overwrite, delete, `multi_get`, revisions, consistencies, what outlives a reopen.

use bytes::Bytes;

use super::Factory;
use super::bench::{Bench, WAIT};
use crate::batch::{Batch, Check};
use crate::engine::Engine;
use crate::limits::MULTI_GET_KEYS_MAX;
use crate::read::Consistency;
use crate::scan::Scan;

pub(super) async fn put_get_overwrite_delete<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = keyspace.key("alice", "name");
    assert_eq!(bench.record(&key).await, None, "nothing was written yet");
    bench.put(&key, "first").await;
    assert_eq!(bench.value(&key).await, Some(Bytes::from("first")));
    bench.put(&key, "second").await;
    assert_eq!(bench.value(&key).await, Some(Bytes::from("second")));
    assert_eq!(bench.value(&keyspace.key("alice", "nam")).await, None, "a prefix is another key");
    assert_eq!(bench.value(&keyspace.key("alicf", "name")).await, None, "another partition");
    bench.write(Batch::new().delete(key.clone())).await;
    assert_eq!(bench.record(&key).await, None);
    bench.write(Batch::new().delete(key.clone())).await;
    assert_eq!(bench.record(&key).await, None, "deleting what is absent is no error");
}

pub(super) async fn keyspaces_are_apart<F: Factory>(bench: Bench<'_, F>) {
    let (hashed, ordered) = (bench.keyspace().await, bench.ordered(4).await);
    bench.put(&hashed.key("same", "k"), "hashed").await;
    bench.put(&ordered.key("same", "k"), "ordered").await;
    assert_eq!(bench.value(&hashed.key("same", "k")).await, Some(Bytes::from("hashed")));
    assert_eq!(bench.value(&ordered.key("same", "k")).await, Some(Bytes::from("ordered")));
    bench.write(Batch::new().delete(hashed.key("same", "k"))).await;
    assert_eq!(bench.value(&ordered.key("same", "k")).await, Some(Bytes::from("ordered")));
}

pub(super) async fn empty_values_and_keys<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = keyspace.key("p", "");
    bench.put(&key, "").await;
    let record = bench.record(&key).await.expect("an empty value under an empty sort key is a record");
    assert_eq!((record.value.len(), record.expires_at_ms), (0, None));
    bench.write(Batch::new().put(keyspace.key("p", "x"), "1").require(key.clone(), Check::Exists)).await;
    bench.write(Batch::new().delete(key.clone())).await;
    assert_eq!(bench.sorts(Scan::partition(keyspace, "p", 10)).await, ["x"]);
}

pub(super) async fn binary_keys_and_values<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let all: Bytes = (0..=255_u8).collect::<Vec<_>>().into();
    let odd: [&[u8]; 6] = [b"\x00", b"\x00\x00", b"\xff", b"\x00\xff", b"\x00\xff\x00\x00", &all];
    for partition in odd {
        for sort in odd {
            let key = keyspace.key(Bytes::copy_from_slice(partition), Bytes::copy_from_slice(sort));
            bench.put(&key, [partition, b"/", sort].concat()).await;
        }
    }
    for partition in odd {
        let found = bench.collect(Scan::partition(keyspace, Bytes::copy_from_slice(partition), 4)).await;
        assert_eq!(found.len(), odd.len(), "partition {}", partition.escape_ascii());
        for (key, record) in found {
            assert_eq!(key.partition, partition);
            assert_eq!(record.value, [partition, b"/", &key.sort].concat());
        }
    }
}

pub(super) async fn revisions_match_and_grow<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let (a, b) = (keyspace.key("p", "a"), keyspace.key("p", "b"));
    let first = bench.write(Batch::new().put(a.clone(), "1").put(b.clone(), "1")).await.revision;
    let record = bench.record(&a).await.expect("just written");
    assert_eq!(record.revision, first, "the record carries the revision that the write returned");
    assert_eq!(bench.record(&b).await.expect("just written").revision, first, "one write, one revision");
    let second = bench.put(&a, "2").await;
    assert!(second > first, "{second} is not after {first}");
    assert_eq!(bench.record(&b).await.expect("untouched").revision, first, "an untouched record keeps its revision");
    let same = bench.put(&a, "2").await;
    assert!(same > second, "writing the same value again is a write");
    let removed = bench.write(Batch::new().delete(a.clone())).await.revision;
    let again = bench.put(&a, "3").await;
    assert!(removed > same && again > removed, "revisions go on growing over a delete: {same} {removed} {again}");
    let scanned = bench.collect(Scan::partition(keyspace, "p", 10)).await;
    let seen: Vec<_> = scanned.iter().map(|(_, record)| record.revision).collect();
    assert_eq!(seen, [again, first], "a scan shows the same revisions");
}

pub(super) async fn later_operations_see_earlier_ones<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = |sort: &'static str| keyspace.key("p", sort);
    bench.put(&key("old"), "1").await;
    let batch = Batch::new()
        .put(key("a"), "1")
        .put(key("a"), "2")
        .put(key("b"), "1")
        .delete(key("b"))
        .delete(key("old"))
        .put(key("old"), "2")
        .merge(key("n"), 5)
        .merge(key("n"), -7)
        .put(key("r1"), "1")
        .delete_range(key("r"), "s")
        .put(key("r2"), "2");
    let written = bench.write(batch).await;
    assert_eq!(written.assigned, [5, -2], "the second merge adds to the first");
    assert_eq!(bench.value(&key("a")).await, Some(Bytes::from("2")));
    assert_eq!(bench.value(&key("b")).await, None);
    assert_eq!(bench.value(&key("old")).await, Some(Bytes::from("2")));
    assert_eq!(bench.integer(&key("n")).await, Some(-2));
    assert_eq!(bench.sorts(Scan::prefix(keyspace, "p", "r", 10)).await, ["r2"], "the range delete saw r1 only");
}

pub(super) async fn multi_get_keeps_the_order<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let ordered = bench.ordered(2).await;
    let mut keys = Vec::new();
    for number in 0..40_u8 {
        let key = keyspace.key(format!("p{number}"), "k");
        if number % 3 != 0 {
            bench.put(&key, number.to_string()).await;
        }
        keys.push(key);
    }
    bench.put(&ordered.key("zz", "k"), "ordered").await;
    keys.insert(7, ordered.key("zz", "k"));
    keys.reverse();
    keys.push(keyspace.key("p1", "k"));
    let found = bench.engine.multi_get(keys.clone(), Consistency::Linearizable).await.expect("it is answered");
    assert_eq!(found.len(), keys.len(), "one answer a key, repeated and absent ones too");
    for (key, record) in keys.iter().zip(found) {
        assert_eq!(record, bench.record(key).await, "{key:?}");
    }
    let none = bench.engine.multi_get(Vec::new(), Consistency::Linearizable).await.expect("it is answered");
    assert!(none.is_empty());
    let most = vec![keyspace.key("p1", "k"); MULTI_GET_KEYS_MAX];
    let found = bench.engine.multi_get(most, Consistency::Linearizable).await.expect("the largest read is answered");
    assert!(found.len() == MULTI_GET_KEYS_MAX && found.iter().all(Option::is_some));
}

pub(super) async fn every_consistency_answers<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    for round in 0..20_u8 {
        let key = keyspace.key(format!("p{}", round % 4), "k");
        let value = Bytes::from(round.to_string());
        bench.put(&key, value.clone()).await;
        for consistency in [Consistency::Linearizable, Consistency::Follower] {
            let found = bench.engine.get(key.clone(), consistency).await.expect("it is answered");
            assert_eq!(found.map(|record| record.value), Some(value.clone()), "{consistency:?} missed a write");
        }
        let scan = Scan { consistency: Consistency::Follower, ..Scan::partition(keyspace, key.partition.clone(), 1) };
        let page = bench.engine.scan(scan).await.expect("it is answered");
        assert_eq!(page.records.first().map(|(_, record)| record.value.clone()), Some(value.clone()));
        let stale = Consistency::Stale { max_age_ms: 60_000 };
        let started = tokio::time::Instant::now();
        while bench.engine.get(key.clone(), stale).await.expect("it is answered").map(|record| record.value)
            != Some(value.clone())
        {
            assert!(started.elapsed() < WAIT, "a stale read never caught up");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

pub(super) async fn what_was_answered_outlives_a_reopen<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let name = bench.name("h");
    let counter = keyspace.key("p", "n");
    for number in 0..10_u8 {
        bench.put(&keyspace.key(format!("p{number}"), "k"), vec![number; 100]).await;
    }
    let before =
        bench.write(Batch::new().merge(counter.clone(), 41).put_ttl(keyspace.key("p", "ttl"), "", 3_600_000)).await;
    let cursor = bench.cursor(keyspace, "p").await;
    let factory = bench.factory;
    let Some(engine) = factory.reopen(bench.engine).await else { return };
    let bench = Bench::on(factory, engine, "reopened");
    assert_eq!(bench.engine.find_keyspace(&name).await.expect("the keyspace is still there"), keyspace);
    for number in 0..10_u8 {
        assert_eq!(bench.value(&keyspace.key(format!("p{number}"), "k")).await, Some(Bytes::from(vec![number; 100])));
    }
    assert_eq!(bench.record(&counter).await.expect("the counter").revision, before.revision);
    assert!(bench.record(&keyspace.key("p", "ttl")).await.is_some_and(|record| record.expires_at_ms.is_some()));
    let after = bench.write(Batch::new().merge(counter.clone(), 1)).await;
    assert_eq!(after.assigned, [42]);
    assert!(after.revision > before.revision, "revisions never go back");
    let from = crate::watch::WatchFrom::After(vec![cursor]);
    let mut watch = bench.watch(keyspace, "p", from).await;
    let event = super::bench::next_after(&mut watch, cursor).await;
    assert_eq!((event.key, event.cursor.revision), (counter, after.revision), "a cursor outlives a reopen");
}
