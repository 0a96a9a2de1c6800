//! The key encoding: order, round trip, golden bytes, and no panic on any bytes.

use std::fmt::Write as _;

use expect_test::expect;
use proptest::prelude::*;

use super::*;

/// Bytes that escapes, terminators and carries trip over, and others.
fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0), Just(1), Just(0xfe), Just(0xff), any::<u8>()], length)
}

fn keyspace_id() -> impl Strategy<Value = KeyspaceId> {
    prop_oneof![Just(1), Just(255), Just(256), Just(u32::MAX), 1..=u32::MAX].prop_map(KeyspaceId)
}

fn hashed() -> impl Strategy<Value = Key> {
    (keyspace_id(), bytes(1..6), bytes(0..6))
        .prop_map(|(id, partition, sort)| Keyspace { id, kind: KeyspaceKind::Hashed }.key(partition, sort))
}

fn ordered() -> impl Strategy<Value = Key> {
    let kind = KeyspaceKind::Ordered { partition_bytes: 3 };
    (keyspace_id(), bytes(3..4), bytes(0..6))
        .prop_map(move |(id, partition, sort)| Keyspace { id, kind }.key(partition, sort))
}

fn hashed_order(key: &Key) -> (u16, KeyspaceId, Bytes, Bytes) {
    (partition_hash(&key.partition), key.keyspace.id, key.partition.clone(), key.sort.clone())
}

fn ordered_order(key: &Key) -> (KeyspaceId, Bytes, Bytes) {
    (key.keyspace.id, key.partition.clone(), key.sort.clone())
}

fn kind_of(key: &Key) -> impl Fn(KeyspaceId) -> Option<KeyspaceKind> {
    let keyspace = key.keyspace;
    move |id| (id == keyspace.id).then_some(keyspace.kind)
}

proptest! {
    #[test]
    fn hashed_keys_sort_by_hash_keyspace_partition_and_sort_key(a in hashed(), b in hashed()) {
        prop_assert_eq!(a.encode().cmp(&b.encode()), hashed_order(&a).cmp(&hashed_order(&b)));
        let b = Key { sort: b.sort, ..a.clone() };
        prop_assert_eq!(a.encode().cmp(&b.encode()), a.sort.cmp(&b.sort));
    }

    #[test]
    fn partitions_of_one_hash_sort_by_their_bytes(a in bytes(1..8), b in bytes(1..8), sort in bytes(0..3)) {
        // Equal hashes are rare: cut them off, and what is left must still keep the order.
        let keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
        let (left, right) = (keyspace.key(a.clone(), sort.clone()).encode(), keyspace.key(b.clone(), sort).encode());
        prop_assert_eq!(left[3..].cmp(&right[3..]), a.cmp(&b));
    }

    #[test]
    fn ordered_keys_sort_by_keyspace_partition_and_sort_key(a in ordered(), b in ordered()) {
        prop_assert_eq!(a.encode().cmp(&b.encode()), ordered_order(&a).cmp(&ordered_order(&b)));
    }

    #[test]
    fn decode_undoes_encode(a in hashed(), b in ordered()) {
        for key in [a, b] {
            prop_assert_eq!(Key::decode(&key.encode(), kind_of(&key)).expect("it was encoded"), key);
        }
    }

    #[test]
    fn a_partition_prefix_covers_its_keys_and_no_others(a in hashed(), b in hashed()) {
        let (prefix, inside) = (a.partition_prefix(), a.same_partition(&b));
        prop_assert!(a.encode().starts_with(&prefix));
        prop_assert_eq!(b.encode().starts_with(&prefix), inside);
        let end = prefix_end(&prefix);
        prop_assert_eq!(b.encode() >= prefix && b.encode() < end, inside);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(head in prop::sample::select(vec![0x00, 0x08, 0x10, 0x20, 0x30]), rest in bytes(0..24)) {
        let encoded: Bytes = [&[head], rest.as_slice()].concat().into();
        for kind in [None, Some(KeyspaceKind::Hashed), Some(KeyspaceKind::Ordered { partition_bytes: 3 })] {
            match Key::decode(&encoded, |_| kind) {
                Ok(key) => prop_assert_eq!(key.encode(), encoded.clone(), "a key has one encoding"),
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Corrupt),
            }
        }
    }

    #[test]
    fn a_damaged_key_is_never_taken_for_another_partition(key in hashed(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut damaged = key.encode().to_vec();
        let at = at.index(damaged.len());
        damaged[at] = to;
        if let Ok(found) = Key::decode(&damaged.into(), |_| None) {
            prop_assert_eq!(partition_hash(&found.partition), partition_hash(&key.partition));
        }
    }

    #[test]
    fn the_prefix_end_is_the_first_key_behind(prefix in bytes(0..5), other in bytes(0..7)) {
        let end = prefix_end(&prefix);
        let inside = other.as_slice() >= prefix.as_slice() && (end.is_empty() || other.as_slice() < end.as_ref());
        prop_assert_eq!(inside, other.starts_with(&prefix));
    }
}

#[test]
fn truncated_keys_are_corrupt() {
    let keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
    let whole = keyspace.key("a\0b", "").encode();
    for length in 0..whole.len() {
        let error = Key::decode(&whole.slice(..length), |_| None).expect_err("it is cut short");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{length} bytes");
    }
}

#[test]
fn the_class_and_the_keyspace_agree() {
    let mut user = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed }.key("p", "k").encode().to_vec();
    user[0] = CLASS_META;
    assert_eq!(Key::decode(&user.into(), |_| None).expect_err("keyspace 7 is not meta").kind(), ErrorKind::Corrupt);
    let mut meta = Keyspace::META.key("p", "k").encode().to_vec();
    meta[0] = CLASS_HASHED;
    assert_eq!(Key::decode(&meta.into(), |_| None).expect_err("keyspace 0 is meta").kind(), ErrorKind::Corrupt);
}

#[test]
fn the_hash_spreads_sequential_partitions() {
    let mut buckets = [0_u32; 16];
    for number in 0..16_000 {
        let hash = partition_hash(format!("user:{number}").as_bytes());
        buckets[usize::from(hash >> 12)] += 1;
    }
    assert!(buckets.iter().all(|count| (850..1_150).contains(count)), "{buckets:?}");
}

/// These bytes lie on disks: a change here needs a new format and a migration.
#[test]
#[allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them so")]
fn golden_encodings() {
    let hashed = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
    let ordered = Keyspace { id: KeyspaceId(8), kind: KeyspaceKind::Ordered { partition_bytes: 4 } };
    let keys = [
        Keyspace::META.key("keyspaces", "n/feeds"),
        hashed.key("user:1", ""),
        hashed.key("user:2", "k"),
        hashed.key(b"\x00".as_slice(), b"\x00".as_slice()),
        hashed.key(b"a\x00\xffb".as_slice(), b"\x00\xff".as_slice()),
        ordered.key(b"\x00\x01\xfe\xff".as_slice(), "k"),
    ];
    let mut text = String::new();
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    for key in keys {
        let name = format!("{}/{}", key.partition.escape_ascii(), key.sort.escape_ascii());
        writeln!(text, "{} {name}: {}", key.keyspace.id, hex(&key.encode())).unwrap();
    }
    writeln!(text, "system row 0x03 of shard 258: {}", hex(&encode_system(ShardId(258), 3))).unwrap();
    expect![[r#"
        0 keyspaces/n/feeds: 086bcc000000006b657973706163657300006e2f6665656473
        7 user:1/: 10244400000007757365723a310000
        7 user:2/k: 10cbd900000007757365723a3200006b
        7 \x00/\x00: 10ad1a0000000700ff000000
        7 a\x00\xffb/\x00\xff: 104d95000000076100ffff62000000ff
        8 \x00\x01\xfe\xff/k: 20000000080001feff6b
        system row 0x03 of shard 258: 00000000000000010203
    "#]]
    .assert_eq(&text);
}

#[test]
fn sizes_are_checked_at_their_edges() {
    let hashed = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
    for (partition, sort, good) in [(0, 0, false), (1, 0, true), (512, 2_048, true), (513, 0, false), (1, 2_049, false)]
    {
        let key = hashed.key(vec![b'p'; partition], vec![b's'; sort]);
        assert_eq!(key.validate().is_ok(), good, "{partition} and {sort} bytes");
    }
    for partition_bytes in [0, 1, 64, 65] {
        let kind = KeyspaceKind::Ordered { partition_bytes };
        assert_eq!(kind.validate().is_ok(), (1..=64).contains(&partition_bytes), "{partition_bytes}");
    }
}
