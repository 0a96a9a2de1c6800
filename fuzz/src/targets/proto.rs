//! The decoders of keevo-proto: what clients send to a server and what a server answers.
//!
//! Each promises that a message it takes for a value becomes the same value again after the value was sent.

use std::fmt::Debug;

use bytes::Bytes;
use keevo_core::views::ViewId;
use keevo_core::{
    Batch, Change, Check, ClientId, ClusterId, CommitEvent, Consistency, Cursor, Direction, FanOut, FanOutAction, Key,
    Keyspace, KeyspaceId, KeyspaceKind, PageToken, Record, RequestId, Result, Revision, Scan, ScanPage, ScanRange,
    ShardId, Target as Reached, WatchFrom, WatchRange,
};
use keevo_proto::kv::v1 as pb;
use prost::Message;

use super::Target;

const HASHED: Keyspace = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Hashed };
const ORDERED: Keyspace = Keyspace { id: KeyspaceId(10), kind: KeyspaceKind::Ordered { partition_bytes: 3 } };
const CURSOR: Cursor = Cursor { cluster: ClusterId(1 << 99), shard: ShardId(3), revision: Revision(8), offset: 2 };

pub(crate) const KV_BATCH: Target = Target {
    name: "kv_batch",
    accepts: |input| arrives::<pb::Batch, Batch>(input, Batch::try_from, pb::Batch::try_from),
    samples: || batches().into_iter().map(|one| sent(pb::Batch::try_from(one))).collect(),
};
pub(crate) const KV_EVENT: Target = Target {
    name: "kv_event",
    accepts: |input| arrives::<pb::CommitEvent, CommitEvent>(input, CommitEvent::try_from, |one| Ok(one.into())),
    samples: || events().into_iter().map(|one| sent(Ok(pb::CommitEvent::from(one)))).collect(),
};
pub(crate) const KV_FAN_OUT: Target = Target {
    name: "kv_fan_out",
    accepts: |input| arrives::<pb::FanOut, FanOut>(input, FanOut::try_from, |one| Ok(one.into())),
    samples: || fan_outs().into_iter().map(|one| sent(Ok(pb::FanOut::from(one)))).collect(),
};
pub(crate) const KV_PAGE: Target = Target {
    name: "kv_page",
    accepts: |input| arrives::<pb::ScanResponse, ScanPage>(input, ScanPage::try_from, |one| Ok(one.into())),
    samples: || {
        let record = Record { revision: Revision(7), expires_at_ms: Some(9), value: Bytes::from_static(b"value") };
        let records = vec![(HASHED.key("alice", "a"), record.clone()), (HASHED.key("alice", "b"), record)];
        let page =
            ScanPage { records: records.into(), next: Some(PageToken(Bytes::from_static(b"\x10next"))), as_of: CURSOR };
        vec![sent(Ok(pb::ScanResponse::from(page)))]
    },
};
pub(crate) const KV_SCAN: Target = Target {
    name: "kv_scan",
    accepts: |input| arrives::<pb::ScanRequest, Scan>(input, Scan::try_from, |one| Ok(one.into())),
    samples: || scans().into_iter().map(|one| sent(Ok(pb::ScanRequest::from(one)))).collect(),
};
pub(crate) const KV_WATCH: Target = Target {
    name: "kv_watch",
    accepts: |input| {
        arrives::<pb::WatchRequest, (WatchRange, WatchFrom)>(input, TryFrom::try_from, |one| Ok(one.into()))
    },
    samples: || {
        let partition =
            WatchRange::Partition { keyspace: HASHED, partition: Bytes::from_static(b"alice"), prefix: Bytes::new() };
        let watches = [
            (partition, WatchFrom::Now),
            (WatchRange::Keyspace(ORDERED), WatchFrom::After(vec![CURSOR])),
            (WatchRange::Keyspace(HASHED), WatchFrom::Only(vec![CURSOR])),
        ];
        watches.into_iter().map(|one| sent(Ok(pb::WatchRequest::from(one)))).collect()
    },
};

fn sent(message: Result<impl Message>) -> Vec<u8> {
    message.expect("a sample is valid").encode_to_vec()
}

/// Whether `input` arrives as a value; panics where that value, sent again, arrives as another.
fn arrives<M: Message + Default, T: Clone + Debug + PartialEq>(
    input: &[u8],
    receive: impl Fn(M) -> Result<T>,
    send: impl Fn(T) -> Result<M>,
) -> bool {
    let receive = |input: &[u8]| M::decode(input).ok().and_then(|message| receive(message).ok());
    let Some(value) = receive(input) else { return false };
    // What has arrived need not be valid: a batch that names two partitions has no message.
    let Ok(message) = send(value.clone()) else { return false };
    assert_eq!(receive(&message.encode_to_vec()), Some(value), "a value arrives as it was sent");
    true
}

fn batches() -> Vec<Batch> {
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
    vec![everything, Batch::new().put(ORDERED.key("abc", ""), "")]
}

fn fan_outs() -> Vec<FanOut> {
    let targets = vec![
        Reached { partition: Bytes::from_static(b"abc"), guard: Some(Revision(4)) },
        Reached { partition: Bytes::from_static(b"abd"), guard: None },
    ];
    let fan_out = |action| FanOut {
        keyspace: ORDERED,
        sort: Bytes::from_static(b"activity"),
        action,
        guard_sort: Some(Bytes::from_static(b"edge")),
        targets: targets.clone(),
    };
    vec![
        fan_out(FanOutAction::Put { value: Bytes::from_static(b"payload"), ttl_ms: Some(9) }),
        fan_out(FanOutAction::Remove { tombstone_ttl_ms: 60_000 }),
    ]
}

fn scans() -> Vec<Scan> {
    let mut back = Scan::partition(HASHED, "alice", 10).after(Some(PageToken(Bytes::from_static(b"\x10last"))));
    back.direction = Direction::Backward;
    back.consistency = Consistency::Stale { max_age_ms: 500 };
    let mut across = Scan::partition(ORDERED, "abc", 1);
    across.range = ScanRange::Ordered { keyspace: ORDERED, start: Bytes::from_static(b"ab"), end: Bytes::new() };
    across.consistency = Consistency::Follower;
    let view = ViewId { home: 3, number: 1 << 70 };
    let held = Scan::partition(HASHED, "alice", 10).consistent().after(Some(PageToken::in_view(view, b"\x10last")));
    vec![back, across, held]
}

fn events() -> Vec<CommitEvent> {
    let event = |key: Key, change| CommitEvent { key, cursor: CURSOR, change };
    vec![
        event(HASHED.key("alice", "a"), Change::Put { value: Bytes::from_static(b"v"), expires_at_ms: Some(9) }),
        event(ORDERED.key("abc", ""), Change::Delete),
        event(HASHED.key("alice", "b"), Change::DeleteRange { end: Bytes::from_static(b"c") }),
    ]
}
