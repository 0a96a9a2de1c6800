//! The decoders of this crate that nobody calls directly: what nodes send each other, and the rows of the log store.
//!
//! For keevo-fuzz alone, behind the feature `fuzzing`. Each promises that no bytes make it panic; where a message is
//! sent again as it was received, that it arrives as the same.

use bytes::Bytes;
use keevo_core::fuzzing::Decoder;
use keevo_core::seal::KeyUse;
use keevo_core::{
    Batch, Change, ClusterId, Command, CommitEvent, Consistency, Cursor, Hlc, Key, Keyspace, KeyspaceId, KeyspaceKind,
    PageToken, Record, Result, Revision, Scan, ScanPage, ShardId, WatchRange,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use crate::membership::operation;
use crate::node::{ChangesPage, ChangesRequest, decode_hello, decode_status};
use crate::peer_messages::{
    HelloWire, MembershipWire, ProposeWire, ReadRequest, ReplicaStatusWire, StatusWire, StorageWire, pack, parse,
};
use crate::quorum::Freshness;
use crate::types::{Entry, EntryPayload, Payload, SnapshotMeta, StoredMembership, TypeConfig, Vote, log_id};
use crate::{messages, peer_messages};

const SPACE: Keyspace = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Hashed };
const CURSOR: Cursor = Cursor { cluster: ClusterId(1 << 99), shard: ShardId(3), revision: Revision(8), offset: 2 };

/// Every decoder of this module.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "log_manifest",
        accepts: crate::log_store::segmented::fuzzing::is_manifest,
        samples: crate::log_store::segmented::fuzzing::sample_manifests,
    },
    #[cfg(feature = "rocksdb")]
    Decoder {
        name: "log_row",
        accepts: crate::log_store::codec::is_row,
        samples: crate::log_store::codec::sample_rows,
    },
    Decoder {
        name: "log_segment",
        accepts: crate::log_store::segmented::fuzzing::is_segment,
        samples: crate::log_store::segmented::fuzzing::sample_segments,
    },
    Decoder { name: "member_change", accepts: operation::is_record, samples: || vec![operation::sample_record()] },
    Decoder {
        name: "peer_append",
        accepts: |input| again(input, messages::decode_append, |(request, at)| messages::encode_append(request, *at)),
        samples: appends,
    },
    Decoder {
        name: "peer_append_answer",
        accepts: |input| again(input, messages::decode_append_answer, messages::encode_append_answer),
        samples: append_answers,
    },
    Decoder {
        name: "peer_changes_page",
        accepts: |input| again(input, |body| ChangesPage::decode(body, &CURSOR), ChangesPage::encode),
        samples: || vec![ChangesPage { events: events(), reached: CURSOR }.encode().to_vec()],
    },
    Decoder {
        name: "peer_changes_request",
        accepts: |input| again(input, ChangesRequest::decode, ChangesRequest::encode),
        samples: changes_requests,
    },
    Decoder {
        name: "peer_command",
        accepts: |input| {
            again(input, peer_messages::decode_command, |(one, hlc)| peer_messages::encode_command(one.clone(), *hlc))
        },
        samples: || {
            let write = Command::Write(Batch::new().put(key("a"), "v").merge(key("n"), 1));
            [write, Command::Checksum].map(|one| peer_messages::encode_command(one, Hlc(7)).to_vec()).into()
        },
    },
    Decoder {
        name: "peer_hello",
        accepts: |input| decode_hello(&Bytes::copy_from_slice(input)).is_ok(),
        samples: hellos,
    },
    Decoder {
        name: "peer_membership",
        accepts: |input| parse::<MembershipWire>("a change of members", &Bytes::copy_from_slice(input)).is_ok(),
        samples: || {
            let wire = MembershipWire { kind: 1, replica: 12, node_id: 4, address: "127.0.0.1:7104".to_owned() };
            vec![pack(&wire).to_vec()]
        },
    },
    Decoder {
        name: "peer_page",
        accepts: |input| again(input, peer_messages::decode_page, |page| peer_messages::encode_page(page.clone())),
        samples: || {
            let page = ScanPage {
                records: vec![(key("a"), record())].into(),
                next: Some(PageToken(key("a").encode())),
                as_of: CURSOR,
            };
            vec![peer_messages::encode_page(page).to_vec()]
        },
    },
    Decoder {
        name: "peer_propose",
        accepts: |input| parse::<ProposeWire>("a proposal", &Bytes::copy_from_slice(input)).is_ok(),
        samples: || {
            vec![
                pack(&ProposeWire { deadline_ms: 500, entry: Bytes::from_static(b"entry"), ..ProposeWire::default() })
                    .to_vec(),
            ]
        },
    },
    Decoder { name: "peer_read", accepts: read, samples: reads },
    Decoder {
        name: "peer_read_index",
        accepts: |input| peer_messages::decode_read_index(&Bytes::copy_from_slice(input)).is_ok(),
        samples: || vec![77_u64.to_be_bytes().to_vec()],
    },
    Decoder {
        name: "peer_records",
        accepts: |input| {
            again(input, peer_messages::decode_records, |records| peer_messages::encode_records(records.clone()))
        },
        samples: || vec![peer_messages::encode_records(vec![Some(record()), None]).to_vec()],
    },
    Decoder {
        name: "peer_snapshot_answer",
        accepts: |input| again(input, messages::decode_snapshot_answer, messages::encode_snapshot_answer),
        samples: || vec![messages::encode_snapshot_answer(&SnapshotResponse::new(Vote::new_committed(8, 13))).to_vec()],
    },
    Decoder {
        name: "peer_snapshot_head",
        accepts: |input| {
            let encode =
                |head: &(Vote, SnapshotMeta, Vec<KeyUse>)| messages::encode_snapshot_head(&head.0, &head.1, &head.2);
            again(input, messages::decode_snapshot_head, encode)
        },
        samples: || {
            let meta =
                SnapshotMeta { last_log_id: Some(log_id(3, 12, 400)), last_membership: StoredMembership::default() };
            let keys = [KeyUse::NONE, KeyUse { id: 2, check: [1, 2, 3, 4] }];
            vec![messages::encode_snapshot_head(&Vote::new_committed(8, 13), &meta, &keys).to_vec()]
        },
    },
    Decoder {
        name: "peer_status",
        accepts: |input| decode_status(&Bytes::copy_from_slice(input)).is_ok(),
        samples: statuses,
    },
    Decoder {
        name: "peer_transfer",
        accepts: |input| again(input, messages::decode_transfer, messages::encode_transfer),
        samples: || {
            let request: TransferLeaderRequest<TypeConfig> =
                TransferLeaderRequest::new(Vote::new_committed(8, 13), 12, Some(log_id(3, 12, 400)));
            vec![messages::encode_transfer(&request).to_vec()]
        },
    },
    Decoder {
        name: "peer_vote",
        accepts: |input| again(input, messages::decode_vote_request, messages::encode_vote_request),
        samples: || {
            let last_log_id = Some(log_id(3, 12, 400));
            let request = VoteRequest { vote: Vote::new(9, 12), last_log_id, leadership_transfer: true };
            vec![messages::encode_vote_request(&request).to_vec()]
        },
    },
    Decoder {
        name: "peer_vote_answer",
        accepts: |input| again(input, messages::decode_vote_answer, messages::encode_vote_answer),
        samples: || {
            let answer: VoteResponse<TypeConfig> =
                VoteResponse { vote: Vote::new(9, 12), vote_granted: true, last_log_id: Some(log_id(3, 12, 400)) };
            vec![messages::encode_vote_answer(&answer).to_vec()]
        },
    },
];

/// Whether `input` is decoded; panics where the message, sent again, arrives as another.
fn again<T>(input: &[u8], decode: impl Fn(&Bytes) -> Result<T>, encode: impl Fn(&T) -> Bytes) -> bool {
    let Ok(message) = decode(&Bytes::copy_from_slice(input)) else { return false };
    let encoded = encode(&message);
    let arrived = decode(&encoded).expect("what was encoded decodes");
    assert_eq!(encode(&arrived), encoded, "a message arrives as it was sent");
    true
}

fn key(sort: &'static str) -> Key {
    SPACE.key("alice", sort)
}

fn record() -> Record {
    Record { revision: Revision(7), expires_at_ms: Some(9), value: Bytes::from_static(b"value") }
}

fn appends() -> Vec<Vec<u8>> {
    let entry = |index, payload| Entry { log_id: log_id(3, 12, index), payload };
    let request = |prev, entries, commit| AppendEntriesRequest::<TypeConfig> {
        vote: Vote::new_committed(3, 12),
        prev_log_id: prev,
        entries,
        leader_commit: commit,
    };
    let entries =
        vec![entry(400, EntryPayload::Blank), entry(401, EntryPayload::Normal(Payload(Bytes::from_static(b"\x01c"))))];
    let full = request(Some(log_id(3, 12, 399)), entries, Some(log_id(3, 12, 398)));
    let heartbeat = request(None, Vec::new(), None);
    let fresh = Freshness { revision: Revision(398), as_of_ms: 1_700_000_000_000, age_ms: 12 };
    [(full, fresh), (heartbeat, Freshness::default())]
        .map(|(request, freshness)| messages::encode_append(&request, freshness).to_vec())
        .into()
}

fn append_answers() -> Vec<Vec<u8>> {
    let answers: [AppendEntriesResponse<TypeConfig>; 4] = [
        AppendEntriesResponse::Success,
        AppendEntriesResponse::PartialSuccess(Some(log_id(3, 12, 400))),
        AppendEntriesResponse::Conflict,
        AppendEntriesResponse::HigherVote(Vote::new(9, 12)),
    ];
    answers.iter().map(|answer| messages::encode_append_answer(answer).to_vec()).collect()
}

fn events() -> Vec<CommitEvent> {
    let event = |sort, change| CommitEvent { cursor: CURSOR, key: key(sort), change };
    vec![
        event("a", Change::Put { value: Bytes::from_static(b"v"), expires_at_ms: Some(9) }),
        event("b", Change::Delete),
        event("c", Change::DeleteRange { end: Bytes::from_static(b"d") }),
    ]
}

fn changes_requests() -> Vec<Vec<u8>> {
    let partition = WatchRange::Partition { keyspace: SPACE, partition: "alice".into(), prefix: "m/".into() };
    [partition, WatchRange::Keyspace(SPACE)]
        .map(|range| ChangesRequest { range, after: CURSOR }.encode().to_vec())
        .into()
}

fn hellos() -> Vec<Vec<u8>> {
    let pair = Bytes::copy_from_slice(&9_u128.to_be_bytes());
    let cluster = Bytes::copy_from_slice(&7_u128.to_be_bytes());
    [Bytes::new(), cluster]
        .map(|cluster| {
            pack(&HelloWire { cluster, node_id: 3, pair: pair.clone(), level_min: 1, level_max: 2 }).to_vec()
        })
        .into()
}

fn read(input: &[u8]) -> bool {
    parse("a read", &Bytes::copy_from_slice(input)).and_then(peer_messages::read_of).is_ok()
}

fn reads() -> Vec<Vec<u8>> {
    let keys = ReadRequest::Keys(vec![key("a"), key("b")]);
    let scan = ReadRequest::Scan(Scan::partition(SPACE, "alice", 10).after(Some(PageToken(key("a").encode()))));
    [keys, scan]
        .map(|request| peer_messages::encode_read(&request, 500, Consistency::Stale { max_age_ms: 9 }).to_vec())
        .into()
}

fn statuses() -> Vec<Vec<u8>> {
    let replica =
        ReplicaStatusWire { shard: 3, replica: 12, role: "leader".to_owned(), ..ReplicaStatusWire::default() };
    let storage = Some(StorageWire { free_bytes: 1 << 30, low_water_bytes: 1 << 30, ..StorageWire::default() });
    vec![
        pack(&StatusWire { replicas: vec![replica], version: "0.1.0".to_owned(), storage, level_min: 1, level_max: 2 })
            .to_vec(),
    ]
}
