//! Round trips of every converted type, what is refused, and that no bytes panic.

use bytes::Bytes;
use keevo_core::{
    Batch, Change, Check, ClientId, ClusterId, CommitEvent, Consistency, Cursor, Direction, ErrorKind, FanOut,
    FanOutAction, FannedOut, Key, Keyspace, KeyspaceId, KeyspaceKind, Op, PageToken, Precondition, Record, RequestId,
    Revision, Scan, ScanPage, ScanRange, ShardId, Target, WatchFrom, WatchRange, Written,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;

use crate::kv::v1 as pb;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn partition() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..40).prop_map(Bytes::from)
}

fn keyspace() -> impl Strategy<Value = Keyspace> {
    let kind = prop_oneof![
        Just(KeyspaceKind::Hashed),
        (1_u8..=64).prop_map(|partition_bytes| KeyspaceKind::Ordered { partition_bytes })
    ];
    (any::<u32>(), kind).prop_map(|(id, kind)| Keyspace { id: KeyspaceId(id), kind })
}

fn key() -> impl Strategy<Value = Key> {
    (keyspace(), partition(), bytes(20)).prop_map(|(keyspace, partition, sort)| keyspace.key(partition, sort))
}

fn record() -> impl Strategy<Value = Record> {
    (any::<u64>(), option::of(any::<u64>()), bytes(40)).prop_map(|(revision, expires_at_ms, value)| Record {
        revision: Revision(revision),
        expires_at_ms,
        value,
    })
}

fn cursor() -> impl Strategy<Value = Cursor> {
    (any::<u128>(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(cluster, shard, revision, offset)| Cursor {
        cluster: ClusterId(cluster),
        shard: ShardId(shard),
        revision: Revision(revision),
        offset,
    })
}

fn request() -> impl Strategy<Value = RequestId> {
    (any::<u128>(), any::<u64>(), any::<u64>()).prop_map(|(client, sequence, acked_below)| RequestId {
        client: ClientId(client),
        sequence,
        acked_below,
    })
}

fn check() -> impl Strategy<Value = Check> {
    prop_oneof![
        Just(Check::Absent),
        Just(Check::Exists),
        any::<u64>().prop_map(|revision| Check::RevisionIs(Revision(revision))),
        bytes(20).prop_map(Check::ValueIs),
    ]
}

fn op(keyspace: Keyspace, partition: Bytes) -> impl Strategy<Value = Op> {
    let key = bytes(20).prop_map(move |sort| keyspace.key(partition.clone(), sort)).boxed();
    prop_oneof![
        (key.clone(), bytes(40), option::of(any::<u64>())).prop_map(|(key, value, ttl_ms)| Op::Put {
            key,
            value,
            ttl_ms
        }),
        key.clone().prop_map(|key| Op::Delete { key }),
        (key.clone(), bytes(20)).prop_map(|(start, end)| Op::DeleteRange { start, end }),
        (key.clone(), any::<i64>()).prop_map(|(key, delta)| Op::Merge { key, delta }),
        (key, bytes(20), bytes(40), option::of(bytes(20))).prop_map(|(counter, prefix, value, index)| Op::Append {
            counter,
            prefix,
            value,
            index
        }),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    (keyspace(), partition())
        .prop_flat_map(|(keyspace, partition)| {
            let ops = vec(op(keyspace, partition.clone()), 1..6);
            let preconditions = vec((bytes(20), check()), 0..4).prop_map(move |all| {
                all.into_iter()
                    .map(|(sort, check)| Precondition { key: keyspace.key(partition.clone(), sort), check })
                    .collect()
            });
            (preconditions, ops, option::of(request()))
        })
        .prop_map(|(preconditions, ops, request)| Batch { preconditions, ops, request })
}

fn fan_out() -> impl Strategy<Value = FanOut> {
    let action = prop_oneof![
        (bytes(40), option::of(any::<u64>())).prop_map(|(value, ttl_ms)| FanOutAction::Put { value, ttl_ms }),
        any::<u64>().prop_map(|tombstone_ttl_ms| FanOutAction::Remove { tombstone_ttl_ms }),
    ];
    let target = (partition(), option::of(any::<u64>()))
        .prop_map(|(partition, guard)| Target { partition, guard: guard.map(Revision) });
    (keyspace(), bytes(20), action, option::of(bytes(20)), vec(target, 0..6)).prop_map(
        |(keyspace, sort, action, guard_sort, targets)| FanOut { keyspace, sort, action, guard_sort, targets },
    )
}

fn consistency() -> impl Strategy<Value = Consistency> {
    prop_oneof![
        Just(Consistency::Linearizable),
        Just(Consistency::Follower),
        any::<u64>().prop_map(|max_age_ms| Consistency::Stale { max_age_ms })
    ]
}

fn scan() -> impl Strategy<Value = Scan> {
    let range = prop_oneof![
        (keyspace(), partition(), bytes(20), bytes(20))
            .prop_map(|(keyspace, partition, start, end)| ScanRange::Partition { keyspace, partition, start, end }),
        (keyspace(), bytes(20), bytes(20)).prop_map(|(keyspace, start, end)| ScanRange::Ordered {
            keyspace,
            start,
            end
        }),
    ];
    (range, any::<bool>(), any::<u32>(), option::of(bytes(20)), consistency(), any::<bool>()).prop_map(
        |(range, backward, limit, after, consistency, consistent)| Scan {
            range,
            direction: if backward { Direction::Backward } else { Direction::Forward },
            limit: usize::try_from(limit).expect("64 bits"),
            after: after.map(PageToken),
            consistency,
            consistent,
        },
    )
}

fn page() -> impl Strategy<Value = ScanPage> {
    // Few partitions, so that neighbours often share one.
    let place = (0_u8..3, bytes(8), record());
    (keyspace(), vec(place, 0..8), option::of(bytes(20)), cursor()).prop_map(|(keyspace, places, next, as_of)| {
        let records = places.into_iter().map(|(at, sort, record)| (keyspace.key(vec![at, 7], sort), record)).collect();
        ScanPage { records, next: next.map(PageToken), as_of }
    })
}

fn event() -> impl Strategy<Value = CommitEvent> {
    let change = prop_oneof![
        (bytes(40), option::of(any::<u64>())).prop_map(|(value, expires_at_ms)| Change::Put { value, expires_at_ms }),
        Just(Change::Delete),
        bytes(20).prop_map(|end| Change::DeleteRange { end }),
    ];
    (cursor(), key(), change).prop_map(|(cursor, key, change)| CommitEvent { cursor, key, change })
}

/// The message as it arrives.
fn sent<M: prost::Message + Default>(message: &M) -> M {
    M::decode(Bytes::from(message.encode_to_vec())).expect("what was encoded decodes")
}

proptest! {
    #[test]
    fn batches_round_trip(batch in batch()) {
        let wire = pb::Batch::try_from(batch.clone()).expect("one partition");
        prop_assert_eq!(Batch::try_from(sent(&wire)).expect("round trip"), batch);
    }

    #[test]
    fn fan_outs_round_trip(fan_out in fan_out()) {
        let wire = pb::FanOut::from(fan_out.clone());
        prop_assert_eq!(FanOut::try_from(sent(&wire)).expect("round trip"), fan_out);
    }

    #[test]
    fn scans_round_trip(scan in scan()) {
        let wire = pb::ScanRequest::from(scan.clone());
        prop_assert_eq!(Scan::try_from(sent(&wire)).expect("round trip"), scan);
    }

    #[test]
    fn pages_round_trip(page in page()) {
        let wire = pb::ScanResponse::from(page.clone());
        prop_assert_eq!(ScanPage::try_from(sent(&wire)).expect("round trip"), page);
    }

    #[test]
    fn events_round_trip(event in event()) {
        let wire = pb::CommitEvent::from(event.clone());
        prop_assert_eq!(CommitEvent::try_from(sent(&wire)).expect("round trip"), event);
    }

    #[test]
    fn small_types_round_trip(key in key(), record in record(), consistency in consistency(), request in request()) {
        prop_assert_eq!(Key::try_from(sent(&pb::Key::from(key.clone()))).expect("round trip"), key);
        prop_assert_eq!(Record::from(sent(&pb::Record::from(record.clone()))), record);
        prop_assert_eq!(Consistency::try_from(pb::Consistency::from(consistency)).expect("round trip"), consistency);
        prop_assert_eq!(RequestId::try_from(sent(&pb::RequestId::from(request))).expect("round trip"), request);
    }

    #[test]
    fn answers_round_trip(revision: u64, assigned: Vec<i64>, applied: u64, skipped: u64) {
        let written = Written { revision: Revision(revision), assigned };
        prop_assert_eq!(Written::from(sent(&pb::WriteResponse::from(written.clone()))), written);
        let done = FannedOut { applied, skipped };
        prop_assert_eq!(FannedOut::from(sent(&pb::FanOutResponse::from(done))), done);
    }

    #[test]
    fn watches_round_trip(keyspace in keyspace(), partition in partition(), prefix in bytes(9), after in vec(cursor(), 1..4)) {
        let ranges = [WatchRange::Keyspace(keyspace), WatchRange::Partition { keyspace, partition, prefix }];
        for range in ranges {
            for from in [WatchFrom::Now, WatchFrom::After(after.clone()), WatchFrom::Only(after.clone())] {
                let wire = pb::WatchRequest::from((range.clone(), from.clone()));
                prop_assert_eq!(<(WatchRange, WatchFrom)>::try_from(sent(&wire)).expect("round trip"), (range.clone(), from));
            }
        }
    }

    #[test]
    fn no_bytes_panic(noise in vec(any::<u8>(), 0..200)) {
        let noise = Bytes::from(noise);
        if let Ok(wire) = pb::PipeRequests::decode(noise.clone()) {
            for one in wire.requests {
                if let Some(pb::pipe_request::Request::Write(pb::WriteRequest { batch: Some(batch), .. })) = one.request {
                    drop(Batch::try_from(batch));
                }
            }
        }
        drop(pb::Batch::decode(noise.clone()).map(Batch::try_from));
        drop(pb::FanOut::decode(noise.clone()).map(FanOut::try_from));
        drop(pb::ScanRequest::decode(noise.clone()).map(Scan::try_from));
        drop(pb::ScanResponse::decode(noise.clone()).map(ScanPage::try_from));
        drop(pb::CommitEvent::decode(noise.clone()).map(CommitEvent::try_from));
        drop(pb::WatchRequest::decode(noise).map(<(WatchRange, WatchFrom)>::try_from));
    }
}

fn invalid<T: std::fmt::Debug>(result: keevo_core::Result<T>) -> String {
    let error = result.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error.message().to_owned()
}

#[test]
fn missing_fields_are_invalid() {
    let keyspace = Some(pb::KeyspaceRef { id: 1, ordered_partition_bytes: 0 });
    assert_eq!(invalid(Key::try_from(pb::Key::default())), "key.keyspace is missing");
    assert_eq!(invalid(Batch::try_from(pb::Batch::default())), "batch.keyspace is missing");
    let no_op = pb::Batch { keyspace, ops: vec![pb::Op::default()], ..pb::Batch::default() };
    assert_eq!(invalid(Batch::try_from(no_op)), "op.op is missing");
    let no_check = pb::Batch { keyspace, preconditions: vec![pb::Precondition::default()], ..pb::Batch::default() };
    assert_eq!(invalid(Batch::try_from(no_check)), "precondition.check is missing");
    assert_eq!(invalid(FanOut::try_from(pb::FanOut::default())), "fan_out.action is missing");
    assert_eq!(invalid(Scan::try_from(pb::ScanRequest::default())), "scan.range is missing");
    assert_eq!(invalid(ScanPage::try_from(pb::ScanResponse::default())), "page.as_of is missing");
    assert_eq!(invalid(CommitEvent::try_from(pb::CommitEvent::default())), "event.change is missing");
    assert_eq!(invalid(<(WatchRange, WatchFrom)>::try_from(pb::WatchRequest::default())), "watch.range is missing");
    let range = keyspace.map(pb::watch_request::Range::Keyspace);
    invalid(<(WatchRange, WatchFrom)>::try_from(pb::WatchRequest { range, only: true, ..pb::WatchRequest::default() }));
}

#[test]
fn wrong_values_are_invalid() {
    let short = pb::RequestId { client: Bytes::from_static(b"short"), ..pb::RequestId::default() };
    assert_eq!(invalid(RequestId::try_from(short)), "request.client has 5 bytes, not 16");
    for ordered_partition_bytes in [65, 256, u32::MAX] {
        invalid(Keyspace::try_from(pb::KeyspaceRef { id: 1, ordered_partition_bytes }));
    }
    invalid(Consistency::try_from(pb::Consistency { level: 99, max_age_ms: None }));
    invalid(Consistency::try_from(pb::Consistency { level: 3, max_age_ms: None }));
    invalid(Consistency::try_from(pb::Consistency { level: 1, max_age_ms: Some(1) }));
}

#[test]
fn a_batch_that_the_wire_cannot_say_is_refused() {
    let keyspace = Keyspace { id: KeyspaceId(1), kind: KeyspaceKind::Hashed };
    let torn = Batch::new().put(keyspace.key("a", ""), "1").put(keyspace.key("b", ""), "1");
    assert_eq!(pb::Batch::try_from(torn).expect_err("torn").kind(), ErrorKind::CrossPartition);
    assert_eq!(pb::Batch::try_from(Batch::new()).expect_err("empty").kind(), ErrorKind::Invalid);
}

#[test]
fn the_descriptors_name_every_service() {
    let text = String::from_utf8_lossy(crate::FILE_DESCRIPTOR_SET);
    for file in
        ["kv/v1/kv.proto", "admin/v1/admin.proto", "raft/v1/raft.proto", "feeds/v1/feeds.proto", "chat/v1/chat.proto"]
    {
        assert!(text.contains(file), "{file}");
    }
}
