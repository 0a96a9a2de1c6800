//! The encoded bounds of a scan hold exactly the keys that its range and its page token leave.

use proptest::prelude::*;

use super::*;
use crate::ids::KeyspaceId;
use crate::key::Key;

fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Bytes> {
    let byte = prop_oneof![Just(0), Just(1), Just(0xfe), Just(0xff), any::<u8>()];
    prop::collection::vec(byte, length).prop_map(Bytes::from)
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Forward), Just(Direction::Backward)]
}

fn in_bounds(scan: &Scan, key: &Key) -> bool {
    let (lower, upper) = scan.encoded_bounds();
    key.encode() >= lower && key.encode() < upper
}

/// Whether a page token at `last` leaves `at`.
fn left(direction: Direction, at: &[u8], last: Option<&[u8]>) -> bool {
    last.is_none_or(|last| if direction == Direction::Forward { at > last } else { at < last })
}

fn inside(at: &[u8], start: &[u8], end: &[u8]) -> bool {
    at >= start && (end.is_empty() || at < end)
}

proptest! {
    #[test]
    fn bounds_of_a_partition(
        (start, end, sort) in (bytes(0..4), bytes(0..4), bytes(0..4)),
        last in proptest::option::of(bytes(0..4)),
        direction in direction(),
        ordered in any::<bool>(),
        other in bytes(2..3),
    ) {
        let kind = if ordered { KeyspaceKind::Ordered { partition_bytes: 2 } } else { KeyspaceKind::Hashed };
        let keyspace = Keyspace { id: KeyspaceId(7), kind };
        let partition = Bytes::from_static(b"p\xff");
        let range = ScanRange::Partition { keyspace, partition: partition.clone(), start: start.clone(), end: end.clone() };
        let token = last.clone().map(|last| PageToken(keyspace.key(partition.clone(), last).encode()));
        let scan = Scan { range, direction, ..Scan::partition(keyspace, "p", 1) }.after(token);
        let expected = inside(&sort, &start, &end) && left(direction, &sort, last.as_deref());
        prop_assert_eq!(in_bounds(&scan, &keyspace.key(partition.clone(), sort.clone())), expected);
        let elsewhere = other != partition && in_bounds(&scan, &keyspace.key(other, sort));
        prop_assert!(!elsewhere, "a scan keeps to its partition");
    }

    #[test]
    fn bounds_of_an_ordered_keyspace(
        (start, end, at) in (bytes(0..5), bytes(0..5), bytes(2..6)),
        last in proptest::option::of(bytes(2..6)),
        direction in direction(),
        id in prop_oneof![Just(7), Just(u32::MAX)],
    ) {
        let keyspace = Keyspace { id: KeyspaceId(id), kind: KeyspaceKind::Ordered { partition_bytes: 2 } };
        let key = |at: &Bytes| keyspace.key(at.slice(..2), at.slice(2..));
        let range = ScanRange::Ordered { keyspace, start: start.clone(), end: end.clone() };
        let token = last.as_ref().map(|last| PageToken(key(last).encode()));
        let scan = Scan { range, direction, ..Scan::partition(keyspace, "", 1) }.after(token);
        let expected = inside(&at, &start, &end) && left(direction, &at, last.as_deref());
        prop_assert_eq!(in_bounds(&scan, &key(&at)), expected);
        let next = Keyspace { id: KeyspaceId(id - 1), ..keyspace };
        prop_assert!(!in_bounds(&scan, &next.key(at.slice(..2), at.slice(2..))), "a scan keeps to its keyspace");
    }

    #[test]
    fn a_prefix_scan_covers_the_prefix(prefix in bytes(0..4), sort in bytes(0..6)) {
        let keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
        let scan = Scan::prefix(keyspace, "p", prefix.clone(), 10);
        prop_assert_eq!(in_bounds(&scan, &keyspace.key("p", sort.clone())), sort.starts_with(&prefix));
    }

    #[test]
    fn any_token_leaves_bounds_within_the_range(token in bytes(0..12), direction in direction()) {
        let keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
        let whole = Scan { direction, ..Scan::partition(keyspace, "p", 1) };
        let (lower, upper) = whole.encoded_bounds();
        let (from, to) = whole.after(Some(PageToken(token))).encoded_bounds();
        prop_assert!(from >= lower && to <= upper);
    }
}

#[test]
fn limits_and_kinds_are_checked() {
    let hashed = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
    for (limit, good) in [(0, false), (1, true), (SCAN_LIMIT_MAX, true), (SCAN_LIMIT_MAX + 1, false)] {
        assert_eq!(Scan::partition(hashed, "p", limit).validate().is_ok(), good, "{limit}");
    }
    let range = ScanRange::Ordered { keyspace: hashed, start: Bytes::new(), end: Bytes::new() };
    assert!(Scan { range, ..Scan::partition(hashed, "p", 1) }.validate().is_err());
    assert!(Scan::partition(hashed, "", 1).validate().is_err());
}

/// Where a read view ended with its shard, the scan goes on from the shard's edge, which no record need lie at.
#[test]
fn a_consistent_scan_goes_on_from_a_bound() {
    let keyspace = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Ordered { partition_bytes: 1 } };
    let range = ScanRange::Ordered { keyspace, start: "b".into(), end: "y".into() };
    let scan = Scan { range, ..Scan::partition(keyspace, "", 10).consistent() };
    let bound =
        |text: &str| Bytes::from([crate::encode_ordered_prefix(keyspace.id).as_ref(), text.as_bytes()].concat());
    let forward = scan.clone().after(Some(PageToken::at_bound(&bound("m"))));
    assert_eq!(forward.encoded_bounds(), (bound("m"), bound("y")));
    let backward = scan.clone().backward().after(Some(PageToken::at_bound(&bound("m"))));
    assert_eq!(backward.encoded_bounds(), (bound("b"), bound("m")));
    assert!(forward.validate().is_ok() && forward.view().is_none());
    let view = ViewId { home: 3, number: 4 };
    let in_view = scan.clone().after(Some(PageToken::in_view(view, &bound("m"))));
    assert_eq!(in_view.encoded_bounds(), (bound("m\0"), bound("y")));
    assert_eq!((in_view.view(), in_view.resumes_at()), (Some(view), Some(bound("m"))));
    for token in [PageToken::at_bound(&bound("m")), PageToken::in_view(view, &bound("m"))] {
        let plain = Scan { consistent: false, ..scan.clone() }.after(Some(token));
        assert_eq!(plain.validate().expect_err("of a consistent scan").kind(), crate::ErrorKind::Invalid);
    }
    let other = scan.after(Some(PageToken(bound("m"))));
    assert_eq!(other.validate().expect_err("of a plain scan").kind(), crate::ErrorKind::Invalid);
}
