//! Cases: scans of a partition, both ways, page by page, while others write.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::Batch;
use crate::engine::Engine;
use crate::key::Keyspace;
use crate::limits::{SCAN_BYTES_MAX, VALUE_BYTES_MAX};
use crate::scan::{Scan, ScanRange};

fn number(number: u16) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// Puts the numbers of `range` under their two bytes.
async fn fill<F: Factory>(bench: &Bench<'_, F>, keyspace: Keyspace, range: impl Iterator<Item = u16>) {
    let batch = range.fold(Batch::new(), |batch, at| batch.put(keyspace.key("p", number(at)), at.to_string()));
    bench.write(batch).await;
}

pub(super) async fn scan_both_ways_page_by_page<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    for neighbour in ["o", "p\u{0}", "pp", "q"] {
        bench.put(&keyspace.key(neighbour, number(3)), "not mine").await;
    }
    fill(&bench, keyspace, (0..100).map(|at| at * 7)).await;
    let forward: Vec<Bytes> = (0..100).map(|at| number(at * 7)).collect();
    let backward: Vec<Bytes> = forward.iter().rev().cloned().collect();
    for limit in [1, 7, 99, 100, 101, 10_000] {
        let scan = Scan::partition(keyspace, "p", limit);
        assert_eq!(bench.sorts(scan.clone()).await, forward, "forward, {limit} a page");
        assert_eq!(bench.sorts(scan.backward()).await, backward, "backward, {limit} a page");
    }
    let page = bench.engine.scan(Scan::partition(keyspace, "p", 7)).await.expect("it is answered");
    assert!(!page.records.is_empty() && page.next.is_some(), "100 records do not fit on a page of 7");
    for (key, record) in bench.collect(Scan::partition(keyspace, "p", 33)).await {
        assert_eq!(Some(record), bench.record(&key).await, "a scan shows what a get shows");
    }
}

pub(super) async fn scan_bounds<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let sorts: [&'static [u8]; 7] = [b"", b"\x00", b"a", b"a\x00", b"a\xff\xff", b"b", b"\xff"];
    for sort in sorts {
        bench.put(&keyspace.key("p", sort), "1").await;
    }
    let bounds: [&'static [u8]; 9] =
        [b"", b"\x00", b"\x00\x00", b"a", b"a\x00", b"a\xff\xff", b"b", b"\xff", b"\xff\xff"];
    for start in bounds {
        for end in bounds {
            let range = ScanRange::Partition { keyspace, partition: "p".into(), start: start.into(), end: end.into() };
            let scan = Scan { range, ..Scan::partition(keyspace, "p", 2) };
            let inside = |sort: &&[u8]| *sort >= start && (end.is_empty() || *sort < end);
            let mut expected: Vec<&[u8]> = sorts.iter().copied().filter(inside).collect();
            assert_eq!(bench.sorts(scan.clone()).await, expected, "[{}, {})", start.escape_ascii(), end.escape_ascii());
            expected.reverse();
            let found = bench.sorts(scan.backward()).await;
            assert_eq!(found, expected, "[{}, {}) backward", start.escape_ascii(), end.escape_ascii());
        }
    }
}

pub(super) async fn scan_prefixes<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let sorts: [&'static [u8]; 8] = [b"", b"a", b"a/", b"a/1", b"a/\xff", b"a0", b"\xff", b"\xff\xff1"];
    for sort in sorts {
        bench.put(&keyspace.key("p", sort), "1").await;
    }
    let prefixes: [&'static [u8]; 6] = [b"", b"a", b"a/", b"\xff", b"\xff\xff", b"none"];
    for prefix in prefixes {
        let expected: Vec<&[u8]> = sorts.iter().copied().filter(|sort| sort.starts_with(prefix)).collect();
        let found = bench.sorts(Scan::prefix(keyspace, "p", prefix, 2)).await;
        assert_eq!(found, expected, "prefix {}", prefix.escape_ascii());
    }
}

pub(super) async fn scan_of_nothing<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    for scan in [Scan::partition(keyspace, "p", 10), Scan::partition(keyspace, "p", 10).backward()] {
        let page = bench.engine.scan(scan).await.expect("an empty partition is no error");
        assert!(page.records.is_empty() && page.next.is_none(), "{page:?}");
    }
    bench.put(&keyspace.key("p", "a"), "1").await;
    bench.write(Batch::new().delete(keyspace.key("p", "a"))).await;
    assert!(bench.collect(Scan::partition(keyspace, "p", 10)).await.is_empty(), "what was deleted is gone");
}

pub(super) async fn a_page_ends_at_its_bytes<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    for at in 0..7 {
        bench.put(&keyspace.key("p", number(at)), vec![7; VALUE_BYTES_MAX]).await;
    }
    for scan in [Scan::partition(keyspace, "p", 100), Scan::partition(keyspace, "p", 100).backward()] {
        let (mut after, mut found, mut pages) = (None, 0, 0);
        loop {
            let page = bench.engine.scan(scan.clone().after(after)).await.expect("a large page is answered");
            let bytes: usize = page.records.iter().map(|(_, record)| record.value.len()).sum();
            assert!(bytes <= SCAN_BYTES_MAX, "a page of {bytes} bytes");
            found += page.records.len();
            pages += 1;
            after = page.next;
            if after.is_none() || pages > 20 {
                break;
            }
        }
        assert_eq!(found, 7, "no record is lost between the pages");
        assert!(pages >= 2, "7 MiB do not fit on one page");
    }
}

pub(super) async fn scan_while_others_insert<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    fill(&bench, keyspace, (0..200).map(|at| at * 2)).await;
    let stable: BTreeSet<Bytes> = (0..200).map(|at| number(at * 2)).collect();
    let (stop_tx, stop_rx) = tokio::sync::watch::channel(false);
    let engine = bench.engine.clone();
    let writer = tokio::spawn(async move {
        for at in (0..200).cycle() {
            if *stop_rx.borrow() {
                break;
            }
            let odd = keyspace.key("p", number(at * 2 + 1));
            let batch = if at % 3 == 0 { Batch::new().delete(odd) } else { Batch::new().put(odd, "new") };
            engine.write(batch).await.expect("a write is applied");
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..3 {
        let forward = bench.sorts(Scan::partition(keyspace, "p", 9)).await;
        assert!(forward.is_sorted_by(|a, b| a < b), "in order, and none twice");
        let backward = bench.sorts(Scan::partition(keyspace, "p", 9).backward()).await;
        assert!(backward.is_sorted_by(|a, b| a > b), "in order, and none twice");
        for found in [forward, backward] {
            let found: BTreeSet<Bytes> = found.into_iter().collect();
            assert!(found.is_superset(&stable), "a scan missed {:?}", stable.difference(&found).next());
        }
    }
    stop_tx.send_replace(true);
    writer.await.expect("the writer did not fail");
}

pub(super) async fn a_token_survives_its_record<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    fill(&bench, keyspace, 0..10).await;
    for (scan, rest) in [
        (Scan::partition(keyspace, "p", 3), (3..10).collect::<Vec<u16>>()),
        (Scan::partition(keyspace, "p", 3).backward(), (0..7).rev().collect()),
    ] {
        fill(&bench, keyspace, 0..10).await;
        let page = bench.engine.scan(scan.clone()).await.expect("it is answered");
        assert_eq!(page.records.len(), 3);
        let seen = page.records.iter().fold(Batch::new(), |batch, (key, _)| batch.delete(key.clone()));
        bench.write(seen).await;
        let found = bench.sorts(scan.after(page.next)).await;
        assert_eq!(found, rest.into_iter().map(number).collect::<Vec<_>>(), "the page after records that are gone");
    }
}
