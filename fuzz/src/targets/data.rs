//! The decoders of keevo-core: keys, records, log entries, outcomes, system rows.
//!
//! Beside not panicking, each promises that what it accepts is encoded and decoded to the same again.

use bytes::Bytes;
use keevo_core::keyspaces::decode_keyspace;
use keevo_core::system::ShardState;
use keevo_core::{
    Archived, Batch, Check, ClientId, Command, Entry, Error, ErrorKind, FanOut, FanOutAction, FannedOut, Hlc, Key,
    Keyspace, KeyspaceId, KeyspaceKind, Outcome, Record, RequestId, Restore, RestoreFence, Revision, StoredRecord,
    Target as Reached, Written,
};

use super::{Target, survives};

/// The length of the key that a record's input starts with.
const RECORD_KEY_BYTES: usize = 4;

const HASHED: Keyspace = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Hashed };
const ORDERED: Keyspace = Keyspace { id: KeyspaceId(10), kind: KeyspaceKind::Ordered { partition_bytes: 3 } };

pub(crate) const ENTRY: Target = Target { name: "entry", accepts: entry, samples: entries };
pub(crate) const KEY: Target = Target { name: "key", accepts: key, samples: keys };
pub(crate) const KEYSPACE_ROW: Target = Target {
    name: "keyspace_row",
    accepts: |input| {
        let Ok(keyspace) = decode_keyspace(input) else { return false };
        assert!(keyspace.kind.validate().is_ok(), "a keyspace that is read is one that could be made");
        true
    },
    samples: || vec![vec![1, 0, 0, 0, 9, 0], vec![1, 0, 0, 1, 0, 64]],
};
pub(crate) const OUTCOME: Target = Target { name: "outcome", accepts: outcome, samples: outcomes };
pub(crate) const RECORD: Target = Target { name: "record", accepts: record, samples: records };
pub(crate) const RECORD_SEALED: Target = Target { name: "record_sealed", accepts: record_sealed, samples: records };
pub(crate) const STATE_ROW: Target = Target {
    name: "state_row",
    accepts: |input| {
        let Ok(state) = ShardState::decode(input) else { return false };
        assert_eq!(state.encode(), input, "a state row is encoded in one way only");
        true
    },
    samples: || {
        let state =
            ShardState { base: 7, hlc: Hlc(1 << 20), revision: Revision(9), tombstones_until_ms: 1_700_000_000_000 };
        vec![ShardState::default().encode().to_vec(), state.encode().to_vec()]
    },
};

fn kind_of(id: KeyspaceId) -> Option<KeyspaceKind> {
    [HASHED, ORDERED].iter().find(|keyspace| keyspace.id == id).map(|keyspace| keyspace.kind)
}

fn key(input: &[u8]) -> bool {
    let encoded = Bytes::copy_from_slice(input);
    let Ok(key) = Key::decode(&encoded, kind_of) else { return false };
    assert_eq!(key.encode(), encoded, "a key is encoded in one way only");
    assert!(encoded.starts_with(&key.partition_prefix()), "a key starts with its partition's prefix");
    true
}

fn keys() -> Vec<Vec<u8>> {
    let keys = [
        HASHED.key("user:1", "timeline/0001"),
        HASHED.key(&b"\0a\0\0b\xff"[..], ""),
        ORDERED.key("abc", "sort"),
        Keyspace::META.key("keyspaces", "n/feeds"),
    ];
    keys.iter().map(|key| key.encode().to_vec()).collect()
}

/// Input: four bytes of key, then what is stored under it.
fn record(input: &[u8]) -> bool {
    let Some((key, stored)) = input.split_at_checked(RECORD_KEY_BYTES) else { return false };
    let stored = Bytes::copy_from_slice(stored);
    let Ok(record) = StoredRecord::decode(key, &stored) else { return false };
    assert_eq!(record.encode(key), stored, "a record is encoded in one way only");
    true
}

/// The same with a checksum that fits, so that what lies behind the check is reached.
fn record_sealed(input: &[u8]) -> bool {
    let Some((key, stored)) = input.split_at_checked(RECORD_KEY_BYTES) else { return false };
    let header = if stored.get(1).is_some_and(|flags| flags & 1 != 0) { 18 } else { 10 };
    let (Some(head), Some(value)) = (stored.get(..header), stored.get(header + 4..)) else { return record(input) };
    let crc = crc32fast::hash(&[key, head, value].concat()).to_be_bytes();
    record(&[key, head, &crc, value].concat())
}

fn records() -> Vec<Vec<u8>> {
    let record = |expires_at_ms, value| Record { revision: Revision(77), expires_at_ms, value };
    let stored = [
        StoredRecord::value(record(None, Bytes::from_static(b"value"))),
        StoredRecord::value(record(Some(1_700_000_000_000), Bytes::new())),
        StoredRecord { record: record(Some(5), Bytes::new()), tombstone: true },
    ];
    stored.iter().map(|one| [b"kkkk", one.encode(b"kkkk").as_ref()].concat()).collect()
}

fn entry(input: &[u8]) -> bool {
    if !survives(input, Entry::decode, Entry::encode) {
        return false;
    }
    // Before it is applied an entry is checked, and that check must stand whatever decodes.
    match Entry::decode(&Bytes::copy_from_slice(input)).map(|entry| entry.command) {
        Ok(Command::Write(batch)) => batch.validate().is_ok(),
        Ok(Command::FanOut(fan_out)) => fan_out.validate().is_ok(),
        Ok(Command::Restore(restore)) => restore.validate().is_ok(),
        Ok(Command::OpenSession(_) | Command::Checksum | Command::MoveClock | Command::Archived(_)) | Err(_) => true,
    }
}

fn entries() -> Vec<Vec<u8>> {
    let one = |sort: &'static str| HASHED.key("alice", sort);
    let request = RequestId { client: ClientId(1 << 100), sequence: 12, acked_below: 3 };
    let everything = Batch::new()
        .require(one("a"), Check::Absent)
        .require(one("b"), Check::Exists)
        .require(one("c"), Check::RevisionIs(Revision(5)))
        .require(one("d"), Check::ValueIs(Bytes::from_static(b"old")))
        .put(one("e"), "value")
        .put_ttl(one("f"), "short", 1_000)
        .delete(one("g"))
        .delete_range(one("h"), "i")
        .merge(one("j"), -7)
        .append(one("k"), "m/", "message", Some(Bytes::from_static(b"index")))
        .with_request(request);
    let fan_out = |action| FanOut {
        keyspace: ORDERED,
        sort: Bytes::from_static(b"activity"),
        action,
        guard_sort: Some(Bytes::from_static(b"edge")),
        targets: vec![
            Reached { partition: Bytes::from_static(b"abc"), guard: Some(Revision(4)) },
            Reached { partition: Bytes::from_static(b"abd"), guard: None },
        ],
    };
    let stored = StoredRecord::value(Record { revision: Revision(7), expires_at_ms: None, value: Bytes::new() });
    let restore = |fence| {
        let rows = vec![(Bytes::from_static(b"key"), stored.encode(b"key"))];
        Command::Restore(Restore { base: 9, rows, fence })
    };
    let commands = [
        Command::Write(everything),
        Command::FanOut(fan_out(FanOutAction::Put { value: Bytes::from_static(b"payload"), ttl_ms: Some(9) })),
        Command::FanOut(fan_out(FanOutAction::Remove { tombstone_ttl_ms: 60_000 })),
        Command::OpenSession(ClientId(u128::MAX)),
        Command::Checksum,
        Command::MoveClock,
        restore(None),
        restore(Some(RestoreFence { restore: 2, source: 1, take: 3 })),
        Command::Archived(Archived { from: 3, upto: 9_000 }),
    ];
    commands
        .into_iter()
        .map(|command| Entry { hlc: Hlc::from_ms(1_700_000_000_000), command }.encode().to_vec())
        .collect()
}

fn outcome(input: &[u8]) -> bool {
    let Ok(outcome) = Outcome::decode(&Bytes::copy_from_slice(input)) else { return false };
    let encoded = outcome.encode();
    let again = Outcome::decode(&encoded).expect("what was encoded decodes");
    assert_eq!(again.encode(), encoded, "an outcome survives being encoded");
    true
}

fn outcomes() -> Vec<Vec<u8>> {
    let outcomes = [
        Outcome::Written(Written { revision: Revision(8), assigned: vec![1, -1, i64::MAX] }),
        Outcome::FannedOut(FannedOut { applied: 3, skipped: 1 }),
        Outcome::SessionOpened,
        Outcome::ClockMoved,
        Outcome::Done,
        Outcome::Checksum { revision: Revision(8), hash: 0xdead_beef, records: 2 },
        Outcome::Refused(Error::new(ErrorKind::Conflict, "key a/b is at revision 7, not 5")),
    ];
    outcomes.iter().map(|one| one.encode().to_vec()).collect()
}
