//! The decoders of this crate that nobody calls directly: rows of the state machine, files on disk, page tokens.
//!
//! For keevo-fuzz alone, behind the feature `fuzzing`. Each promises that no bytes make it panic, and that what it
//! accepts is encoded and decoded to the same again.

use bytes::Bytes;

use crate::batch::Written;
use crate::call::{CallDoor, CallId, CallOrigin, CallRequest, EntryNote, Envelope, Note, Outcomes};
use crate::command::{Command, Entry, Hlc, Outcome};
use crate::data_dir;
use crate::error::{Error, ErrorKind};
use crate::ids::{ClusterId, KeyspaceId, NodeId, Revision, ShardId};
use crate::key::{Keyspace, KeyspaceKind};
use crate::machine;
use crate::scan::{Direction, PageToken, Scan};
use crate::seal::SealedHead;
use crate::store::files;
use crate::watch::Change;
use crate::wire::{ChangeRow, StoredOutcome, StoredOutcomes};

/// A decoder under test.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Decodes the input and says whether it was accepted. Panics where the decoder breaks a promise.
    pub accepts: fn(&[u8]) -> bool,
    /// Valid inputs to start from.
    pub samples: fn() -> Vec<Vec<u8>>,
}

const SPACE: Keyspace = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Hashed };

/// Every decoder of this module.
pub const DECODERS: &[Decoder] = &[
    Decoder { name: "call_envelope", accepts: call_envelope, samples: call_envelopes },
    Decoder { name: "change_row", accepts: change_row, samples: change_rows },
    Decoder {
        name: "changes_floor",
        accepts: |input| machine::decode_starts(input).is_ok(),
        samples: || vec![[&[1][..], &7_u64.to_be_bytes(), &9_u64.to_be_bytes()].concat()],
    },
    Decoder {
        name: "changes_last",
        accepts: |input| machine::decode_last(input).is_ok(),
        samples: || vec![7_u64.to_be_bytes().to_vec(), [7_u64.to_be_bytes(), 3_u64.to_be_bytes()].concat()],
    },
    Decoder { name: "entry_note", accepts: entry_note, samples: entry_notes },
    Decoder { name: "identity_file", accepts: data_dir::is_identity, samples: identity_files },
    Decoder { name: "page_token", accepts: page_token, samples: page_tokens },
    Decoder {
        name: "sealed_value",
        accepts: |input| SealedHead::read(input).is_ok_and(|head| head.is_some()),
        samples: || [0, 1].map(|flags: u8| [&[94, flags, 0, 0, 0, 7][..], &[3; 40]].concat()).to_vec(),
    },
    Decoder {
        name: "session_header",
        accepts: |input| machine::decode_header(input).is_ok(),
        samples: || vec![[&[1][..], &7_u64.to_be_bytes()].concat()],
    },
    Decoder { name: "session_outcome", accepts: session_outcome, samples: session_outcomes },
    Decoder { name: "snapshot_rows", accepts: snapshot_rows, samples: snapshot_files },
];

/// The CRC is made right, so that what lies behind it is reached.
fn call_envelope(input: &[u8]) -> bool {
    let mut bytes = input.to_vec();
    if let Some((head, message)) = bytes.split_first_chunk_mut::<5>() {
        let [_, crc @ ..] = head;
        *crc = crc32fast::hash(message).to_be_bytes();
    }
    let Ok(envelope) = Envelope::decode(&bytes.into()) else { return false };
    let again = Envelope::decode(&envelope.encode()).expect("what was encoded decodes");
    assert_eq!(again, envelope, "an envelope survives being encoded");
    true
}

fn sample_envelope() -> Envelope {
    Envelope {
        id: CallId { node: 3, stamp_us: 1_700_000_000_000_123 },
        at_us: 1_700_000_000_000_100,
        seed: 77,
        app: Some(9),
        door: CallDoor::Grpc,
        principal: "key 3f62".to_owned(),
        method: "keevo.feeds.v1.Feeds/Follow".to_owned(),
        request: CallRequest::Body(Bytes::from_static(b"request")),
        redacted: false,
        origin: Some(CallOrigin { cluster: ClusterId(5), shard: ShardId(2), index: 44 }),
        erased: false,
    }
}

fn call_envelopes() -> Vec<Vec<u8>> {
    let write = Envelope { request: CallRequest::Command, origin: None, ..sample_envelope() };
    [sample_envelope(), write, sample_envelope().erase()].map(|one| one.encode().to_vec()).into()
}

fn entry_note(input: &[u8]) -> bool {
    EntryNote::of_entry(&Bytes::copy_from_slice(input)).is_ok_and(|note| note.is_some())
}

fn entry_notes() -> Vec<Vec<u8>> {
    let entry = Entry { hlc: Hlc(1 << 20), command: Command::MoveClock }.encode();
    let outcomes = Outcomes(vec![(CallId { node: 3, stamp_us: 7 }, "CONFLICT".to_owned())]);
    let note = Note { envelope: sample_envelope().encode(), attempt: 1 };
    vec![note.append_to(&entry).to_vec(), outcomes.append_to(&entry).to_vec()]
}

fn change_row(input: &[u8]) -> bool {
    let Ok(row) = ChangeRow::decode(&Bytes::copy_from_slice(input)) else { return false };
    let again = ChangeRow::decode(&row.encode()).expect("what was encoded decodes");
    assert_eq!(again, row, "a change row survives being encoded");
    // Any offset is harmless, and those that name an event lie side by side.
    let events = u32::try_from(row.partitions.len().saturating_mul(row.changes.len())).unwrap_or(u32::MAX);
    assert_eq!(row.event(0).is_some(), events > 0, "the first offset names an event where there is one");
    assert!(row.event(events).is_none() && row.event(u32::MAX).is_none(), "no event lies past the last");
    true
}

fn change_rows() -> Vec<Vec<u8>> {
    let changes = vec![
        (Bytes::from_static(b"a"), Change::Put { value: Bytes::from_static(b"v"), expires_at_ms: Some(9) }),
        (Bytes::from_static(b"b"), Change::Delete),
        (Bytes::from_static(b"c"), Change::DeleteRange { end: Bytes::from_static(b"d") }),
    ];
    let batch = ChangeRow { keyspace: SPACE, partitions: vec![Bytes::from_static(b"p")], changes: changes.clone() };
    let partitions = vec![Bytes::from_static(b"p"), Bytes::from_static(b"q")];
    let fan_out = ChangeRow { keyspace: SPACE, partitions, changes: changes.into_iter().take(1).collect() };
    [batch, fan_out].iter().map(|row| row.encode().to_vec()).collect()
}

fn identity_files() -> Vec<Vec<u8>> {
    let identity = data_dir::Identity { cluster: ClusterId(7), pair: 9, role: data_dir::Role::Data, node: NodeId(3) };
    vec![data_dir::identity_text(&identity).into_bytes()]
}

/// Input: a byte for the direction, then the token. Whatever a client sends, the page stays within its range.
fn page_token(input: &[u8]) -> bool {
    let Some((&direction, token)) = input.split_first() else { return false };
    let mut scan = Scan::partition(SPACE, "alice", 10);
    let (first, last) = scan.encoded_bounds();
    scan.direction = if direction.is_multiple_of(2) { Direction::Forward } else { Direction::Backward };
    let scan = scan.after(Some(PageToken(Bytes::copy_from_slice(token))));
    if scan.validate().is_err() {
        return false;
    }
    let (lower, upper) = scan.encoded_bounds();
    assert!(lower >= upper || (lower >= first && upper <= last), "a token leads out of the scan's range");
    true
}

fn page_tokens() -> Vec<Vec<u8>> {
    let key = SPACE.key("alice", "m/0001").encode();
    vec![[&[0][..], key.as_ref()].concat(), [&[1][..], key.as_ref()].concat()]
}

fn session_outcome(input: &[u8]) -> bool {
    let Ok(stored) = StoredOutcomes::decode(&Bytes::copy_from_slice(input)) else { return false };
    let encoded = stored.encode();
    let again = StoredOutcomes::decode(&encoded).expect("what was encoded decodes");
    assert_eq!(again.encode(), encoded, "a session's outcome survives being encoded");
    true
}

fn session_outcomes() -> Vec<Vec<u8>> {
    let outcomes = [
        Outcome::Written(Written { revision: Revision(8), assigned: vec![1, -1] }),
        Outcome::Refused(Error::new(ErrorKind::Conflict, "key a/b is at revision 7, not 5")),
    ];
    let stored = outcomes.map(|outcome| StoredOutcome { hlc: Hlc(1 << 20), acked_below: 3, outcome });
    let both = StoredOutcomes((3..).zip(stored).collect());
    let one = StoredOutcomes(both.0.clone().into_iter().take(1).collect());
    [one, both].map(|row| row.encode().to_vec()).into()
}

/// The file of a snapshot of the store in memory: `[a, z)`.
fn snapshot_rows(input: &[u8]) -> bool {
    let bounds = (Bytes::from_static(b"a"), Bytes::from_static(b"z"));
    let Ok(rows) = files::rows::read(input, u64::try_from(input.len()).unwrap_or(u64::MAX), &bounds) else {
        return false;
    };
    assert!(rows.keys().all(|key| bounds.0 <= *key && *key < bounds.1), "no row lies outside of the file's range");
    true
}

fn snapshot_files() -> Vec<Vec<u8>> {
    let rows = [(&b"key1"[..], &b"value"[..]), (b"key2", b"")];
    let frames = rows.iter().map(|(key, value)| files::rows::frame(key, value).expect("short enough"));
    vec![files::rows::MAGIC.to_vec(), std::iter::once(files::rows::MAGIC.to_vec()).chain(frames).flatten().collect()]
}
