//! Segments come back as they were, and damaged ones are refused, whatever is damaged.

use keevo_core::{Batch, Command, Keyspace, KeyspaceId, KeyspaceKind};
use proptest::prelude::*;

use super::*;

const CLUSTER: ClusterId = ClusterId(0xc1);
const SHARD: ShardId = ShardId(7);

fn put(index: u64, term: u64, ms: u64, value: &str) -> LoggedEntry {
    let space = Keyspace { id: KeyspaceId(1), kind: KeyspaceKind::Hashed };
    let command = Command::Write(Batch::new().put(space.key("p", "s"), value.to_owned()));
    let payload = Entry { hlc: Hlc::from_ms(ms), command }.encode();
    LoggedEntry { index, term, replica: 3, kind: LoggedKind::Command, payload }
}

fn sample() -> Vec<LoggedEntry> {
    vec![
        LoggedEntry { index: 40, term: 2, replica: 9, kind: LoggedKind::Blank, payload: Bytes::new() },
        put(41, 2, 500, "a"),
        LoggedEntry { index: 42, term: 2, replica: 9, kind: LoggedKind::Membership, payload: "m".into() },
        put(43, 3, 400, "b"),
    ]
}

#[test]
fn a_segment_comes_back_as_it_was() {
    let (head, bytes) = encode(CLUSTER, SHARD, &sample()).expect("good entries");
    assert_eq!((head.first, head.last, head.first_term, head.last_term, head.entries), (40, 43, 2, 3, 4));
    assert_eq!((head.hlc_min, head.hlc_max), (Hlc::from_ms(400), Hlc::from_ms(500)));
    assert_eq!(decode_head(&bytes).expect("a head"), head);
    assert_eq!(decode(&bytes).expect("intact"), Segment { head, entries: sample() });
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let (_, bytes) = encode(CLUSTER, SHARD, &sample()).expect("good entries");
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let kind = decode(&bad.into()).expect_err("a flipped bit").kind();
        assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::NewerFormat), "bit {bit}: {kind}");
    }
    for length in 0..bytes.len() {
        assert_eq!(decode(&bytes.slice(..length)).expect_err("cut").kind(), ErrorKind::Corrupt, "{length}");
    }
    assert!(decode(&[&bytes[..], b"x"].concat().into()).is_err(), "more than there was");
}

#[test]
fn entries_that_do_not_follow_each_other_make_no_segment() {
    let refused = |entries: &[LoggedEntry]| encode(CLUSTER, SHARD, entries).expect_err("refused").kind();
    assert_eq!(refused(&[]), ErrorKind::Invalid);
    assert_eq!(refused(&[put(1, 1, 1, "a"), put(3, 1, 1, "b")]), ErrorKind::Invalid, "a gap");
    assert_eq!(refused(&[put(1, 2, 1, "a"), put(2, 1, 1, "b")]), ErrorKind::Invalid, "a falling term");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_entries_hold_comes_back(
        first in 0_u64..1_000_000,
        payloads in proptest::collection::vec((0_u64..3, proptest::collection::vec(any::<u8>(), 0..200)), 1..50),
    ) {
        let kinds = [LoggedKind::Blank, LoggedKind::Command, LoggedKind::Membership];
        let entries: Vec<LoggedEntry> = (first..)
            .zip(payloads)
            .map(|(index, (kind, payload))| LoggedEntry {
                index,
                term: index / 10,
                replica: kind,
                kind: kinds[usize::try_from(kind).unwrap()],
                payload: payload.into(),
            })
            .collect();
        let (head, bytes) = encode(CLUSTER, SHARD, &entries).unwrap();
        prop_assert_eq!(decode(&bytes).unwrap(), Segment { head, entries });
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), sealed in any::<bool>()) {
        if sealed && bytes.len() >= HEAD_BYTES {
            bytes[..8].copy_from_slice(MAGIC);
            bytes[8] = VERSION;
            let crc = crc32c::crc32c(&bytes[..HEAD_BYTES - 4]).to_be_bytes();
            bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&crc);
        }
        drop(decode(&bytes.into()));
    }
}
