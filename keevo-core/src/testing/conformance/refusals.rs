//! Cases: malformed requests, each refused with its kind and without effect.

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::{Batch, Check};
use crate::engine::Engine;
use crate::error::{ErrorKind, Result};
use crate::fan_out::{FanOut, FanOutAction, FannedOut, Target};
use crate::ids::{ClientId, KeyspaceId, RequestId, Revision};
use crate::key::{Key, Keyspace, KeyspaceKind};
use crate::limits::{
    BATCH_OPS_MAX, FAN_OUT_TARGETS_MAX, MULTI_GET_KEYS_MAX, PARTITION_BYTES_MAX, SCAN_LIMIT_MAX, SORT_BYTES_MAX,
    TTL_MS_MAX, VALUE_BYTES_MAX,
};
use crate::read::Consistency;
use crate::scan::{PageToken, Scan, ScanRange};

fn kind<T: std::fmt::Debug>(answer: Result<T>) -> ErrorKind {
    answer.expect_err("the request is malformed").kind()
}

pub(super) async fn cross_partition_batches<F: Factory>(bench: Bench<'_, F>) {
    let (keyspace, other) = (bench.keyspace().await, bench.ordered(5).await);
    let (alice, bob) = (keyspace.key("alice", "k"), keyspace.key("bobby", "k"));
    let elsewhere = other.key("alice", "k");
    let put = || Batch::new().put(alice.clone(), "1");
    let torn = [
        put().put(bob.clone(), "1"),
        put().delete(bob.clone()),
        put().delete_range(bob.clone(), ""),
        put().merge(bob.clone(), 1),
        put().append(bob.clone(), "", "", None),
        put().require(bob.clone(), Check::Absent),
        put().put(elsewhere.clone(), "1"),
    ];
    for batch in torn {
        assert_eq!(bench.refused(batch).await, ErrorKind::CrossPartition);
    }
    for key in [alice, bob, elsewhere] {
        assert_eq!(bench.record(&key).await, None, "{key:?}");
    }
}

pub(super) async fn key_sizes<F: Factory>(bench: Bench<'_, F>) {
    let (keyspace, ordered) = (bench.keyspace().await, bench.ordered(4).await);
    let bad = [
        keyspace.key("", "k"),
        keyspace.key(vec![b'p'; PARTITION_BYTES_MAX + 1], "k"),
        keyspace.key("p", vec![b's'; SORT_BYTES_MAX + 1]),
        ordered.key("abc", "k"),
        ordered.key("abcde", "k"),
    ];
    for key in bad {
        assert_eq!(bench.refused(Batch::new().put(key.clone(), "1")).await, ErrorKind::KeySize);
        assert_eq!(bench.refused(Batch::new().require(key.clone(), Check::Absent)).await, ErrorKind::KeySize);
        assert_eq!(kind(bench.engine.get(key.clone(), Consistency::Linearizable).await), ErrorKind::KeySize);
        let both = vec![keyspace.key("p", "k"), key];
        assert_eq!(kind(bench.engine.multi_get(both, Consistency::Linearizable).await), ErrorKind::KeySize);
    }
    let wide = Bytes::from(vec![b's'; SORT_BYTES_MAX - 7]);
    let append = Batch::new().append(keyspace.key("p", "n"), wide, "", None);
    assert_eq!(bench.refused(append).await, ErrorKind::KeySize, "a prefix leaves room for the number");
    assert_eq!(kind(bench.engine.scan(Scan::partition(keyspace, "", 1)).await), ErrorKind::KeySize);
    assert_eq!(kind(bench.engine.scan(Scan::partition(ordered, "abc", 1)).await), ErrorKind::KeySize);
}

pub(super) async fn batch_sizes<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = keyspace.key("p", "k");
    assert_eq!(bench.refused(Batch::new()).await, ErrorKind::Invalid);
    let large = Batch::new().put(key.clone(), vec![0; VALUE_BYTES_MAX + 1]);
    assert_eq!(bench.refused(large).await, ErrorKind::BatchTooLarge);
    let large = Batch::new().append(key.clone(), "", vec![0; VALUE_BYTES_MAX + 1], None);
    assert_eq!(bench.refused(large).await, ErrorKind::BatchTooLarge);
    let many = (0..=BATCH_OPS_MAX).fold(Batch::new(), |batch, _| batch.delete(key.clone()));
    assert_eq!(bench.refused(many).await, ErrorKind::BatchTooLarge);
    let heavy = (0..5_u8)
        .fold(Batch::new(), |batch, number| batch.put(keyspace.key("p", vec![number]), vec![number; VALUE_BYTES_MAX]));
    assert_eq!(bench.refused(heavy).await, ErrorKind::BatchTooLarge);
    for ttl_ms in [0, TTL_MS_MAX + 1] {
        assert_eq!(bench.refused(Batch::new().put_ttl(key.clone(), "1", ttl_ms)).await, ErrorKind::Invalid);
    }
    let request = RequestId { client: ClientId(1), sequence: 4, acked_below: 5 };
    assert_eq!(bench.refused(Batch::new().delete(key).with_request(request)).await, ErrorKind::Invalid);
    assert!(bench.collect(Scan::partition(keyspace, "p", 10)).await.is_empty());
}

pub(super) async fn reads_out_of_bounds<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    for limit in [0, SCAN_LIMIT_MAX + 1] {
        assert_eq!(kind(bench.engine.scan(Scan::partition(keyspace, "p", limit)).await), ErrorKind::Invalid);
    }
    let range = ScanRange::Ordered { keyspace, start: Bytes::new(), end: Bytes::new() };
    let across = Scan { range, ..Scan::partition(keyspace, "p", 1) };
    assert_eq!(kind(bench.engine.scan(across).await), ErrorKind::Invalid, "a hashed keyspace has no order");
    let many = vec![keyspace.key("p", "k"); MULTI_GET_KEYS_MAX + 1];
    let refused = kind(bench.engine.multi_get(many, Consistency::Linearizable).await);
    assert!(matches!(refused, ErrorKind::Invalid | ErrorKind::BatchTooLarge), "{refused}");
}

pub(super) async fn foreign_page_tokens<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    for partition in ["a", "b", "c"] {
        for sort in ["1", "2", "3"] {
            bench.put(&keyspace.key(partition, sort), "").await;
        }
    }
    let elsewhere = |partition: &'static str| PageToken(keyspace.key(partition, "2").encode());
    let tokens = [elsewhere("a"), elsewhere("c"), PageToken(Bytes::new()), PageToken(Bytes::from_static(b"\xff\xff"))];
    for token in tokens {
        for scan in [Scan::partition(keyspace, "b", 2), Scan::partition(keyspace, "b", 2).backward()] {
            // It may be refused; it may not lead out of the range.
            if let Ok(page) = bench.engine.scan(scan.after(Some(token.clone()))).await {
                assert!(page.records.iter().all(|(key, _)| key.partition == "b"), "{token:?} led astray: {page:?}");
            }
        }
    }
}

async fn fan_out<F: Factory>(
    bench: &Bench<'_, F>,
    keyspace: Keyspace,
    change: impl FnOnce(&mut FanOut),
) -> Result<FannedOut> {
    let mut fan_out = FanOut {
        keyspace,
        sort: Bytes::from("k"),
        action: FanOutAction::Put { value: Bytes::from("1"), ttl_ms: None },
        guard_sort: None,
        targets: vec![Target { partition: Bytes::from("p"), guard: None }],
    };
    change(&mut fan_out);
    bench.engine.fan_out(fan_out).await
}

pub(super) async fn malformed_fan_outs<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let put = |bytes: usize, ttl_ms| FanOutAction::Put { value: vec![0; bytes].into(), ttl_ms };
    let target = |partition: Vec<u8>, guard| Target { partition: partition.into(), guard };
    let none = fan_out(&bench, keyspace, |one| one.targets.clear()).await;
    assert_eq!(kind(none), ErrorKind::Invalid);
    let many = vec![target(b"p".to_vec(), None); FAN_OUT_TARGETS_MAX + 1];
    assert_eq!(kind(fan_out(&bench, keyspace, |one| one.targets = many).await), ErrorKind::BatchTooLarge);
    let heavy = vec![target(b"p".to_vec(), None); 20];
    let answer = fan_out(&bench, keyspace, |one| {
        one.targets = heavy;
        one.action = put(VALUE_BYTES_MAX, None);
    });
    assert_eq!(kind(answer.await), ErrorKind::BatchTooLarge, "it expands to 20 MiB");
    let large = fan_out(&bench, keyspace, |one| one.action = put(VALUE_BYTES_MAX + 1, None)).await;
    assert_eq!(kind(large), ErrorKind::BatchTooLarge);
    assert_eq!(kind(fan_out(&bench, keyspace, |one| one.action = put(1, Some(0))).await), ErrorKind::Invalid);
    let zero = FanOutAction::Remove { tombstone_ttl_ms: 0 };
    assert_eq!(kind(fan_out(&bench, keyspace, |one| one.action = zero).await), ErrorKind::Invalid);
    let long = vec![b's'; SORT_BYTES_MAX + 1];
    assert_eq!(kind(fan_out(&bench, keyspace, |one| one.sort = long.into()).await), ErrorKind::KeySize);
    let empty = target(Vec::new(), None);
    assert_eq!(kind(fan_out(&bench, keyspace, |one| one.targets.push(empty)).await), ErrorKind::KeySize);
    let guarded = target(b"p".to_vec(), Some(Revision(1)));
    assert_eq!(kind(fan_out(&bench, keyspace, |one| one.targets.push(guarded)).await), ErrorKind::Invalid);
    assert_eq!(bench.record(&keyspace.key("p", "k")).await, None, "a refused fan-out writes nowhere");
}

pub(super) async fn the_cluster_keyspace_is_not_for_users<F: Factory>(bench: Bench<'_, F>) {
    let posing = Keyspace { id: KeyspaceId(0), kind: KeyspaceKind::Ordered { partition_bytes: 1 } };
    for meta in [Keyspace::META, posing] {
        let key = meta.key("p", "conformance");
        let batches = [
            Batch::new().put(key.clone(), "1"),
            Batch::new().delete(key.clone()),
            Batch::new().delete_range(key.clone(), ""),
            Batch::new().merge(key.clone(), 1),
            Batch::new().require(key.clone(), Check::Absent),
        ];
        for batch in batches {
            assert_eq!(bench.refused(batch).await, ErrorKind::Invalid);
        }
        assert_eq!(kind(fan_out(&bench, meta, |_| ()).await), ErrorKind::Invalid);
    }
    let hidden: Key = Keyspace::META.key("p", "conformance");
    if let Ok(found) = bench.engine.get(hidden, Consistency::Linearizable).await {
        assert_eq!(found, None, "a refused batch wrote");
    }
}

pub(super) async fn writes_to_keyspaces_that_nobody_made<F: Factory>(bench: Bench<'_, F>) {
    let (hashed, ordered) = (bench.keyspace().await, bench.ordered(1).await);
    let unknown = Keyspace { id: KeyspaceId(u32::MAX), ..hashed };
    let posing = [
        Keyspace { kind: KeyspaceKind::Ordered { partition_bytes: 1 }, ..hashed },
        Keyspace { kind: KeyspaceKind::Hashed, ..ordered },
    ];
    let put = |keyspace: Keyspace| Batch::new().put(keyspace.key("p", "k"), "1");
    assert_eq!(bench.refused(put(unknown)).await, ErrorKind::UnknownKeyspace);
    assert_eq!(kind(fan_out(&bench, unknown, |_| ()).await), ErrorKind::UnknownKeyspace);
    for keyspace in posing {
        for refused in [bench.refused(put(keyspace)).await, kind(fan_out(&bench, keyspace, |_| ()).await)] {
            let told = matches!(refused, ErrorKind::Invalid | ErrorKind::UnknownKeyspace);
            assert!(told, "{keyspace:?} has another kind: {refused}");
        }
    }
    for keyspace in [hashed, ordered] {
        assert!(bench.collect(Scan::partition(keyspace, "p", 10)).await.is_empty(), "a refused write wrote");
    }
}
