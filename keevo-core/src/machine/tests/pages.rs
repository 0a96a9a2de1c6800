//! Scans and the shard's hash.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{CLUSTER, Rig, SHARD, SPACE, TestStore, key};
use crate::batch::Batch;
use crate::command::{Command, Entry, Hlc, Outcome};
use crate::fan_out::{FanOut, FanOutAction, Target};
use crate::ids::{ClientId, KeyspaceId, RequestId, Revision};
use crate::key::{Keyspace, KeyspaceKind, encode_ordered_prefix};
use crate::limits::SCAN_BYTES_MAX;
use crate::machine::Machine;
use crate::scan::{PageToken, Scan, ScanPage, ScanRange};
use crate::store::Durability;

fn page(rig: &Rig, scan: &Scan) -> ScanPage {
    rig.machine.reader().scan(scan).expect("the scan succeeds")
}

fn sorts(page: &ScanPage) -> Vec<Bytes> {
    page.records.iter().map(|(key, _)| key.sort.clone()).collect()
}

/// All pages of a scan.
fn collect(rig: &Rig, scan: &Scan) -> Vec<Bytes> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = page(rig, &scan.clone().after(after));
        all.extend(sorts(&page));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

fn digits(upto: u8) -> Vec<Bytes> {
    (0..upto).map(|at| vec![at].into()).collect()
}

#[test]
fn pages_follow_each_other_both_ways_and_skip_what_is_not_visible() {
    let mut rig = Rig::new();
    let fill = digits(20).into_iter().fold(Batch::new(), |batch, sort| batch.put(SPACE.key("p", sort), "x"));
    rig.write(fill);
    rig.write(Batch::new().put_ttl(SPACE.key("p", vec![4]), "x", 5).delete(SPACE.key("p", vec![7])));
    rig.fan_out(FanOut {
        keyspace: SPACE,
        sort: vec![9].into(),
        action: FanOutAction::Remove { tombstone_ttl_ms: 1_000 },
        guard_sort: None,
        targets: vec![Target { partition: "p".into(), guard: None }],
    });
    rig.now_ms += 5;
    rig.write(Batch::new().put(SPACE.key("q", "other"), "x"));
    let mut expected = digits(20);
    expected.retain(|sort| ![4, 7, 9].contains(&sort[0]));
    for limit in [1, 2, 3, 16, 17, 18, 100] {
        let scan = Scan::partition(SPACE, "p", limit);
        assert_eq!(collect(&rig, &scan), expected, "limit {limit}");
        let mut down = collect(&rig, &scan.backward());
        down.reverse();
        assert_eq!(down, expected, "limit {limit}");
    }
    let exact = page(&rig, &Scan::partition(SPACE, "p", 17));
    assert_eq!((exact.records.len(), exact.next), (17, None), "a full page at the end has no next one");
    let few = page(&rig, &Scan::prefix(SPACE, "p", vec![5], 10));
    assert_eq!(sorts(&few), [vec![5]]);
    assert_eq!(few.as_of.revision, rig.machine.revision());
}

#[test]
fn a_page_ends_at_its_bytes() {
    let mut rig = Rig::new();
    let value = Bytes::from(vec![7; 1 << 20]);
    let count = SCAN_BYTES_MAX / value.len() + 2;
    for sort in digits(u8::try_from(count).expect("small")) {
        rig.write(Batch::new().put(SPACE.key("p", sort), value.clone()));
    }
    let first = page(&rig, &Scan::partition(SPACE, "p", 100));
    assert!(first.next.is_some() && first.records.len() == count - 2, "{} records", first.records.len());
    assert_eq!(collect(&rig, &Scan::partition(SPACE, "p", 100)).len(), count);
}

#[test]
fn any_token_is_harmless() {
    let mut rig = Rig::new();
    rig.write(Batch::new().put(key("a"), "1"));
    for token in [&b""[..], &[0], &[0xff; 40], b"\x10zz"] {
        for scan in [Scan::partition(SPACE, "p", 10), Scan::partition(SPACE, "p", 10).backward()] {
            let page = page(&rig, &scan.after(Some(PageToken(Bytes::copy_from_slice(token)))));
            assert!(page.records.len() <= 1);
        }
    }
}

#[test]
fn an_ordered_scan_crosses_partitions_and_is_cut_to_the_shard() {
    let space = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Ordered { partition_bytes: 2 } };
    let start = encode_ordered_prefix(space.id).freeze();
    let end: Bytes = [start.as_ref(), b"cc"].concat().into();
    let mut machine = Machine::open(TestStore::new(), CLUSTER, SHARD, (start, end)).expect("opens");
    let writes = ["aa", "bb", "bc"].into_iter().zip(1..).map(|(partition, index)| {
        let command = Command::Write(Batch::new().put(space.key(partition, "k"), "v"));
        (index, Entry { hlc: Hlc::from_ms(1), command })
    });
    machine.apply(writes.collect(), Vec::new(), Durability::Sync).expect("applies");
    let range = ScanRange::Ordered { keyspace: space, start: "b".into(), end: "zz".into() };
    let scan = Scan { range, ..Scan::partition(space, "", 10) };
    let page = machine.reader().scan(&scan).expect("scans");
    let found: BTreeSet<_> = page.records.into_iter().map(|(key, _)| key.partition).collect();
    assert_eq!(found, BTreeSet::from(["bb".into(), "bc".into()]));
    assert_eq!(page.next, None);
}

fn checksum(rig: &mut Rig) -> (Revision, u64, u64) {
    match rig.one(Command::Checksum) {
        Outcome::Checksum { revision, hash, records } => (revision, hash, records),
        other => panic!("not a checksum: {other:?}"),
    }
}

#[test]
fn the_hash_covers_live_user_records_alone() {
    let (mut one, mut other) = (Rig::new(), Rig::new());
    let client = ClientId(5);
    for rig in [&mut one, &mut other] {
        rig.write(Batch::new().put(key("a"), "1").put(key("b"), "2"));
    }
    let (revision, hash, records) = checksum(&mut one);
    assert_eq!((revision, records), (Revision(2), 2));
    assert_eq!(one.machine.reader().checksum().expect("reads"), Some((revision, hash, records)));
    // Sessions, tombstones and what expired make no difference.
    other.one(Command::OpenSession(client));
    let request = RequestId { client, sequence: 1, acked_below: 0 };
    other.write(Batch::new().put_ttl(key("c"), "3", 1).with_request(request));
    other.fan_out(FanOut {
        keyspace: SPACE,
        sort: "gone".into(),
        action: FanOutAction::Remove { tombstone_ttl_ms: 1_000 },
        guard_sort: None,
        targets: vec![Target { partition: "p".into(), guard: None }],
    });
    other.now_ms += 1;
    assert_eq!((checksum(&mut other).1, checksum(&mut other).2), (hash, 2));
    // Any difference in a record does, also within one call.
    let outcomes = other.apply([Command::Write(Batch::new().put(key("b"), "2")), Command::Checksum]);
    assert!(matches!(outcomes[1], Outcome::Checksum { hash: now, records: 2, .. } if now != hash), "{outcomes:?}");
    let after = checksum(&mut other).1;
    assert!(matches!(outcomes[1], Outcome::Checksum { hash: now, .. } if now == after), "overlay = store");
}
