//! Cases: one order over all partitions of an ordered keyspace, whatever shards it spans.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::Batch;
use crate::key::Keyspace;
use crate::scan::{Direction, Scan, ScanRange};

fn across(keyspace: Keyspace, start: &[u8], end: &[u8], limit: usize) -> Scan {
    let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
    Scan { range: ScanRange::Ordered { keyspace, start, end }, ..Scan::partition(keyspace, "", limit) }
}

/// Two records in each of 64 partitions that span the whole range of two bytes; by `partition ++ sort`.
async fn fill<F: Factory>(bench: &Bench<'_, F>, keyspace: Keyspace) -> BTreeMap<Vec<u8>, Bytes> {
    let mut model = BTreeMap::new();
    for step in 0..64_u16 {
        let partition = (step * 1_040 + 3).to_be_bytes();
        let mut batch = Batch::new();
        for sort in [b"".as_slice(), b"\x00\xff"] {
            let value = Bytes::from(format!("{step}/{}", sort.len()));
            model.insert([&partition, sort].concat(), value.clone());
            batch = batch.put(keyspace.key(partition.to_vec(), sort.to_vec()), value);
        }
        bench.write(batch).await;
    }
    model
}

async fn compare<F: Factory>(bench: &Bench<'_, F>, scan: Scan, model: &BTreeMap<Vec<u8>, Bytes>) {
    let ScanRange::Ordered { start, end, .. } = scan.range.clone() else { return };
    let inside = |at: &[u8]| at >= start.as_ref() && (end.is_empty() || at < end.as_ref());
    let mut expected: Vec<(Vec<u8>, Bytes)> =
        model.iter().filter(|(at, _)| inside(at)).map(|(at, value)| (at.clone(), value.clone())).collect();
    if scan.direction == Direction::Backward {
        expected.reverse();
    }
    let shown = format!("{scan:?}");
    let found = bench.collect(scan).await;
    let found: Vec<(Vec<u8>, Bytes)> =
        found.into_iter().map(|(key, record)| ([key.partition, key.sort].concat(), record.value)).collect();
    assert_eq!(found, expected, "{shown}");
}

pub(super) async fn ordered_scan_across_partitions<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.ordered(2).await;
    let model = fill(&bench, keyspace).await;
    for limit in [1, 7, 1_000] {
        compare(&bench, across(keyspace, b"", b"", limit), &model).await;
        compare(&bench, across(keyspace, b"", b"", limit).backward(), &model).await;
    }
    let found = bench.collect(across(keyspace, b"", b"", 50)).await;
    for (key, _) in found {
        assert_eq!((key.keyspace, key.partition.len()), (keyspace, 2), "keys come back in their parts: {key:?}");
    }
}

pub(super) async fn ordered_scan_bounds<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.ordered(2).await;
    let model = fill(&bench, keyspace).await;
    let third: Vec<u8> = model.keys().nth(3).cloned().unwrap_or_default();
    let bounds: [&[u8]; 8] =
        [b"", b"\x00", b"\x10", b"\x10\x43", b"\x10\x43\x00", &third, b"\xff\xff", b"\xff\xff\xff\xff"];
    for start in bounds {
        for end in bounds {
            compare(&bench, across(keyspace, start, end, 9), &model).await;
            compare(&bench, across(keyspace, start, end, 9).backward(), &model).await;
        }
    }
}

pub(super) async fn ordered_keyspaces_are_apart<F: Factory>(bench: Bench<'_, F>) {
    let (narrow, wide) = (bench.ordered(1).await, bench.ordered(2).await);
    for partition in [0x00_u8, 0x80, 0xff] {
        bench.put(&narrow.key(vec![partition], "n"), "narrow").await;
        bench.put(&wide.key(vec![partition, partition], "w"), "wide").await;
    }
    for (keyspace, value) in [(narrow, "narrow"), (wide, "wide")] {
        for scan in [across(keyspace, b"", b"", 2), across(keyspace, b"", b"", 2).backward()] {
            let found = bench.collect(scan).await;
            assert_eq!(found.len(), 3);
            assert!(found.iter().all(|(_, record)| record.value == value), "{found:?}");
        }
    }
    let one = bench.collect(Scan::partition(wide, vec![0x80, 0x80], 10)).await;
    assert_eq!(one.len(), 1, "a partition of an ordered keyspace is scanned like any other");
    bench.write(Batch::new().delete_range(wide.key(vec![0x80, 0x80], ""), "")).await;
    assert_eq!(bench.collect(across(wide, b"", b"", 10)).await.len(), 2);
    assert_eq!(bench.collect(across(narrow, b"", b"", 10)).await.len(), 3);
}
