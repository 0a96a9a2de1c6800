//! Tests of the bytes: golden, round trips, and whatever bytes may come.

use std::fmt::Write;

use bytes::Bytes;
use expect_test::expect;
use proptest::prelude::*;

use super::{ChangeRow, StoredOutcome, StoredOutcomes};
use crate::batch::{Batch, Check, Written};
use crate::command::{Command, Entry, Hlc, Outcome};
use crate::error::{Error, ErrorKind};
use crate::fan_out::{FanOut, FanOutAction, FannedOut, Target};
use crate::ids::{ClientId, KeyspaceId, RequestId, Revision};
use crate::key::{Keyspace, KeyspaceKind};
use crate::restore::{Archived, Restore, RestoreFence};
use crate::watch::Change;

const SPACE: Keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
const ORDERED: Keyspace = Keyspace { id: KeyspaceId(8), kind: KeyspaceKind::Ordered { partition_bytes: 2 } };

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

fn entries() -> Vec<(&'static str, Entry)> {
    let request = RequestId { client: ClientId(1 << 64 | 2), sequence: 9, acked_below: 8 };
    let everything = Batch::new()
        .put_ttl(SPACE.key("p", "a"), "v", 5)
        .delete(SPACE.key("p", "b"))
        .delete_range(SPACE.key("p", "c"), "d")
        .merge(SPACE.key("p", "e"), -3)
        .append(SPACE.key("p", "f"), "g", "h", Some("i".into()))
        .require(SPACE.key("p", "j"), Check::Absent)
        .require(SPACE.key("p", "k"), Check::Exists)
        .require(SPACE.key("p", "l"), Check::RevisionIs(Revision(4)))
        .require(SPACE.key("p", "m"), Check::ValueIs("n".into()))
        .with_request(request);
    let put = FanOut {
        keyspace: ORDERED,
        sort: "s".into(),
        action: FanOutAction::Put { value: "v".into(), ttl_ms: None },
        guard_sort: Some("g".into()),
        targets: vec![
            Target { partition: "aa".into(), guard: Some(Revision(0)) },
            Target { partition: "bb".into(), guard: None },
        ],
    };
    let remove = FanOut { action: FanOutAction::Remove { tombstone_ttl_ms: 60 }, guard_sort: None, ..put.clone() };
    let rows = || vec![("k".into(), "s".into())];
    let fence = RestoreFence { restore: 3, source: 0, take: 300 };
    let torn = Batch::new().put(SPACE.key("p", "a"), "1").put(ORDERED.key("qq", "a"), "1");
    let commands = [
        ("small put", Command::Write(Batch::new().put(SPACE.key("p", "a"), "v"))),
        ("everything", Command::Write(everything)),
        ("empty batch", Command::Write(Batch::new())),
        ("two partitions", Command::Write(torn)),
        ("fan-out put", Command::FanOut(put)),
        ("fan-out remove", Command::FanOut(remove)),
        ("open session", Command::OpenSession(ClientId(u128::MAX - 1))),
        ("checksum", Command::Checksum),
        ("move clock", Command::MoveClock),
        ("restore", Command::Restore(Restore { base: 5, rows: rows(), fence: None })),
        ("fenced restore", Command::Restore(Restore { base: 5, rows: rows(), fence: Some(fence) })),
        ("archived", Command::Archived(Archived { from: 2, upto: 300 })),
    ];
    commands.into_iter().map(|(name, command)| (name, Entry { hlc: Hlc(0x0102_0304), command })).collect()
}

#[test]
fn golden_entries() {
    let lines: Vec<String> =
        entries().iter().map(|(name, entry)| format!("{name:<15} {}\n", hex(&entry.encode()))).collect();
    expect![[r"
        small put       0109040302010000000012130a070a0208071201701a080a01611a030a0176
        everything      0109040302010000000012720a070a02080712017012050a016a1a0012050a016b220012050a016c280412060a016d32016e1a0a0a01611a050a017610051a050a016222001a060a01632a01641a050a016530051a0e0a01663a090a01671201681a016922180a1209010000000000000011020000000000000010091808
        empty batch     010904030201000000001200
        two partitions  0109040302010000000012290a070a0208071201701a080a01611a030a01311a140a0161120a0a0408081002120271711a030a0131
        fan-out put     010904030201000000001a1f0a04080810021201731a016722030a017632060a026161100032040a026262
        fan-out remove  010904030201000000001a190a0408081002120173283c32060a026161100032040a026262
        open session    01090403020100000000221209ffffffffffffffff11feffffffffffffff
        checksum        010904030201000000002a00
        move clock      010904030201000000003200
        restore         01090403020100000000520a080512060a016b120173
        fenced restore  0109040302010000000062110a0a080512060a016b120173100320ac02
        archived        010904030201000000005a05080210ac02
    "]].assert_eq(&lines.concat());
}

#[test]
fn entries_round_trip() {
    for (name, entry) in entries() {
        assert_eq!(Entry::decode(&entry.encode()).expect(name), entry, "{name}");
        assert_eq!(Entry::peek_hlc(&entry.encode()), Some(entry.hlc), "{name}");
    }
}

fn outcomes() -> Vec<Outcome> {
    vec![
        Outcome::Written(Written { revision: Revision(7), assigned: vec![1, -2] }),
        Outcome::FannedOut(FannedOut { applied: 3, skipped: 4 }),
        Outcome::SessionOpened,
        Outcome::ClockMoved,
        Outcome::Done,
        Outcome::Checksum { revision: Revision(5), hash: 6, records: 7 },
        Outcome::Refused(Error::new(ErrorKind::Conflict, "key p/a is absent")),
    ]
}

#[test]
fn golden_outcomes_and_changes() {
    let changes = ChangeRow {
        keyspace: ORDERED,
        partitions: vec!["aa".into(), "bb".into()],
        changes: vec![
            ("s".into(), Change::Put { value: "v".into(), expires_at_ms: Some(9) }),
            ("t".into(), Change::Delete),
            ("u".into(), Change::DeleteRange { end: "w".into() }),
        ],
    };
    assert_eq!(ChangeRow::decode(&changes.encode()).expect("intact"), changes);
    let mut lines: Vec<String> = Vec::new();
    for outcome in outcomes() {
        assert_eq!(format!("{:?}", Outcome::decode(&outcome.encode()).expect("intact")), format!("{outcome:?}"));
        let one = StoredOutcome { hlc: Hlc(3), acked_below: 2, outcome };
        let stored = StoredOutcomes([(4, one.clone()), (9, one)].into());
        let again = StoredOutcomes::decode(&stored.encode()).expect("intact");
        assert_eq!(format!("{again:?}"), format!("{stored:?}"));
        lines.push(format!("stored  {}\n", hex(&stored.encode())));
    }
    lines.push(format!("changes {}\n", hex(&changes.encode())));
    expect![[r"
        stored  010a1709030000000000000010021a080a0608071202020320040a1709030000000000000010021a080a060807120202032009
        stored  010a1509030000000000000010021a0612040803100420040a1509030000000000000010021a061204080310042009
        stored  010a1109030000000000000010021a021a0020040a1109030000000000000010021a021a002009
        stored  010a1109030000000000000010021a02320020040a1109030000000000000010021a0232002009
        stored  010a1109030000000000000010021a023a0020040a1109030000000000000010021a023a002009
        stored  010a1e09030000000000000010021a0f220d0805110600000000000000180720040a1e09030000000000000010021a0f220d080511060000000000000018072009
        stored  010a2e09030000000000000010021a1f2a1d0a08434f4e464c49435412116b657920702f6120697320616273656e7420040a2e09030000000000000010021a1f2a1d0a08434f4e464c49435412116b657920702f6120697320616273656e742009
        changes 010a040808100212026161120262621a0a0a017312050a017610091a050a01741a001a060a0175220177
    "]]
    .assert_eq(&lines.concat());
}

#[test]
fn what_this_version_does_not_know_stops_it() {
    let decode = |bytes: &[u8]| Entry::decode(&Bytes::copy_from_slice(bytes)).expect_err("unknown").kind();
    let good = entries().remove(0).1.encode();
    let mut newer = good.to_vec();
    newer[0] = 2;
    assert_eq!(decode(&newer), ErrorKind::NewerFormat, "a newer version");
    assert_eq!(decode(&[1]), ErrorKind::NewerFormat, "no command that is known");
    assert_eq!(decode(&[1, 0x7a, 0]), ErrorKind::NewerFormat, "command 15");
    assert_eq!(decode(&[1, 0x12, 2, 0x1a, 0]), ErrorKind::Corrupt, "an operation without a partition");
    let keyspace = [0x0a, 4, 0x0a, 2, 0x08, 7];
    assert_eq!(decode(&[&[1, 0x12, 8][..], &keyspace, &[0x1a, 0]].concat()), ErrorKind::NewerFormat, "an operation");
    assert_eq!(decode(&[&[1, 0x12, 8][..], &keyspace, &[0x12, 0]].concat()), ErrorKind::NewerFormat, "a precondition");
    assert_eq!(decode(&[]), ErrorKind::Corrupt);
    assert_eq!(decode(&[0]), ErrorKind::Corrupt);
    assert_eq!(decode(&good[..good.len() - 1]), ErrorKind::Corrupt);
}

/// Decodes as everything; the point is that it returns.
fn decode_all(bytes: &Bytes) {
    if let Ok(entry) = Entry::decode(bytes) {
        assert_eq!(Entry::decode(&entry.encode()).expect("what was decoded encodes"), entry);
    }
    if let Ok(outcome) = Outcome::decode(bytes) {
        Outcome::decode(&outcome.encode()).expect("what was decoded encodes");
    }
    if let Ok(stored) = StoredOutcomes::decode(bytes) {
        StoredOutcomes::decode(&stored.encode()).expect("what was decoded encodes");
    }
    if let Ok(changes) = ChangeRow::decode(bytes) {
        assert_eq!(ChangeRow::decode(&changes.encode()).expect("what was decoded encodes"), changes);
        for offset in [0, 1, 5, u32::MAX] {
            assert!(changes.event(offset).is_none() || !changes.changes.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in any::<bool>()) {
        let mut bytes = bytes;
        if let (true, Some(first)) = (version, bytes.first_mut()) {
            *first = 1;
        }
        decode_all(&bytes.into());
    }

    #[test]
    fn mutated_entries_never_panic(
        which in 0_usize..8,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = entries().remove(which).1.encode().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        decode_all(&bytes.into());
    }
}
