//! Cases: consistent scans, whose pages come from one read view. A partition lies in one shard, so they hold for it
//! whole.

use bytes::Bytes;

use super::Factory;
use super::bench::{Bench, WAIT};
use crate::batch::Batch;
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::key::{Key, Keyspace};
use crate::record::Record;
use crate::scan::{PageToken, Scan, ScanPage};
use crate::views::ViewId;

const RECORDS: u16 = 60;
const SHORT_MS: u64 = 300;

fn number(number: u16) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// Puts `value` under every number.
async fn fill<F: Factory>(bench: &Bench<'_, F>, keyspace: Keyspace, value: &'static str) {
    let put = |batch: Batch, at: u16| batch.put(keyspace.key("p", number(at)), value);
    bench.write((0..RECORDS).fold(Batch::new(), put)).await;
}

async fn page<F: Factory>(bench: &Bench<'_, F>, scan: Scan) -> ScanPage {
    bench.engine.scan(scan).await.expect("a page is answered")
}

/// The rest of a scan after its first page.
async fn rest<F: Factory>(bench: &Bench<'_, F>, scan: &Scan, first: ScanPage) -> Vec<(Key, Record)> {
    let mut all = first.records.into_vec();
    if first.next.is_some() {
        all.extend(bench.collect(scan.clone().after(first.next)).await);
    }
    all
}

/// Overwrites, removes and inserts everywhere in the partition.
async fn disturb<F: Factory>(bench: &Bench<'_, F>, keyspace: Keyspace) {
    let mut batch = Batch::new();
    for at in 0..RECORDS {
        let key = keyspace.key("p", number(at));
        batch = if at % 3 == 0 { batch.delete(key) } else { batch.put(key, "later") };
        batch = batch.put(keyspace.key("p", [number(at).as_ref(), b"+"].concat()), "inserted");
    }
    bench.write(batch).await;
}

pub(super) async fn consistent_scans_show_one_state<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    for limit in [1, 7, 59, 60, 61] {
        for backward in [false, true] {
            bench.write(Batch::new().delete_range(keyspace.key("p", ""), Bytes::new())).await;
            fill(&bench, keyspace, "first").await;
            let scan = Scan::partition(keyspace, "p", limit).consistent();
            let scan = if backward { scan.backward() } else { scan };
            let expected = bench.collect(Scan { consistent: false, ..scan.clone() }).await;
            let first = page(&bench, scan.clone()).await;
            assert!(first.next.is_some() || limit >= 60, "a page of {limit}");
            disturb(&bench, keyspace).await;
            let found = rest(&bench, &scan, first).await;
            assert_eq!(found, expected, "{limit} a page, backward: {backward}");
        }
    }
    let now = bench.collect(Scan::partition(keyspace, "p", 9).consistent()).await;
    assert_eq!(now, bench.collect(Scan::partition(keyspace, "p", 9)).await, "a new scan shows what is there now");
}

pub(super) async fn consistent_scans_are_apart<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let scan = Scan::partition(keyspace, "p", 10).consistent();
    let mut open = Vec::new();
    for value in ["first", "second", "third"] {
        fill(&bench, keyspace, value).await;
        open.push((value, page(&bench, scan.clone()).await));
    }
    fill(&bench, keyspace, "last").await;
    for (value, first) in open {
        let found = rest(&bench, &scan, first).await;
        assert_eq!(found.len(), usize::from(RECORDS));
        assert!(found.iter().all(|(_, record)| record.value == value), "each scan shows the state that it began in");
    }
}

pub(super) async fn a_consistent_page_comes_again<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    fill(&bench, keyspace, "first").await;
    let scan = Scan::partition(keyspace, "p", 25).consistent();
    let first = page(&bench, scan.clone()).await;
    let second = scan.after(first.next);
    let once = page(&bench, second.clone()).await;
    disturb(&bench, keyspace).await;
    assert_eq!(page(&bench, second).await, once, "a page whose answer was lost is the same when it is asked for again");
}

pub(super) async fn a_view_that_is_gone_ends_its_scan<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    fill(&bench, keyspace, "first").await;
    let scan = Scan::partition(keyspace, "p", 25).consistent();
    let first = page(&bench, scan.clone()).await;
    let view = scan.clone().after(first.next).view().expect("the token of a consistent scan names its view");
    let last = keyspace.key("p", number(24)).encode();
    let gone = ViewId { number: view.number ^ (1 << 100), ..view };
    let refused = bench.engine.scan(scan.after(Some(PageToken::in_view(gone, &last)))).await;
    let error = refused.expect_err("nobody holds that view");
    assert_eq!(error.kind(), ErrorKind::ScanExpired, "{error}");
}

pub(super) async fn consistent_and_other_tokens_do_not_mix<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    fill(&bench, keyspace, "first").await;
    for consistent in [false, true] {
        let scan = Scan { consistent, ..Scan::partition(keyspace, "p", 25) };
        let first = page(&bench, scan.clone()).await;
        let other = Scan { consistent: !consistent, ..scan }.after(first.next);
        let error = bench.engine.scan(other).await.expect_err("the token is of the other kind of scan");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

pub(super) async fn a_consistent_scan_hides_what_has_expired_for_good<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    fill(&bench, keyspace, "first").await;
    let mortal = keyspace.key("p", number(40));
    bench.write(Batch::new().put_ttl(mortal.clone(), "mortal", SHORT_MS)).await;
    let started = tokio::time::Instant::now();
    let scan = Scan::partition(keyspace, "p", 25).consistent();
    // Nothing is written meanwhile: no entry moves the shard's clock.
    loop {
        let found = bench.sorts(scan.clone()).await;
        if !found.contains(&mortal.sort) {
            break;
        }
        assert!(started.elapsed() < WAIT, "it does not expire");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(bench.record(&mortal).await, None, "what a scan has hidden is not shown again");
    let plain = bench.sorts(Scan::partition(keyspace, "p", 25)).await;
    assert!(!plain.contains(&mortal.sort) && plain.len() == usize::from(RECORDS) - 1);
}
