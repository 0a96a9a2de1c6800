//! Sizes: what is allowed at each limit, and what is not beyond it.

use bytes::Bytes;
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::limits::{
    BATCH_BYTES_MAX, BATCH_OPS_MAX, FAN_OUT_EXPANDED_BYTES_MAX, FAN_OUT_TARGETS_MAX, MULTI_GET_KEYS_MAX,
    PARTITION_BYTES_MAX, SORT_BYTES_MAX, VALUE_BYTES_MAX,
};
use keevo_core::{Batch, Engine, KeyspaceKind};
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::admin::v1 as admin;
use keevo_proto::admin::v1::admin_client::AdminClient;
use keevo_proto::kv::v1 as pb;

use super::golden::Golden;
use super::wire::{Wire, bytes, fan_out, get, key, put, scan, target, watch, write};

pub(crate) async fn run(golden: &mut Golden, wire: &Wire) {
    golden.section("Wrong key sizes");
    partitions(golden, wire).await;
    sort_keys(golden, wire).await;
    golden.section("Oversized batches");
    batches(golden, wire).await;
    many_keys(golden, wire).await;
    fan_outs(golden, wire).await;
    golden.section("Batches across partitions");
    across(golden, wire).await;
}

async fn partitions(golden: &mut Golden, wire: &Wire) {
    let mut kv = wire.kv.clone();
    for length in [0, 1, PARTITION_BYTES_MAX, PARTITION_BYTES_MAX + 1] {
        let answer = kv.write(write(wire.notes, bytes(length), vec![put("s", "1")]));
        golden.call(&format!("a put into a partition of {length} bytes"), answer).await;
    }
    for length in [7, 8, 9] {
        let answer = kv.write(write(wire.events, bytes(length), vec![put("s", "1")]));
        golden.call(&format!("a put into a partition of {length} bytes, where the keyspace declares 8"), answer).await;
    }
    let long = || bytes(PARTITION_BYTES_MAX + 1);
    golden.call("a get in a partition of 0 bytes", kv.get(get(wire.notes, "", "s"))).await;
    golden.call("a get in a partition of 513 bytes", kv.get(get(wire.notes, long(), "s"))).await;
    golden.call("a scan of a partition of 0 bytes", kv.scan(scan(wire.notes, "", 10))).await;
    golden.call("a watch of a partition of 0 bytes", kv.watch(watch(wire.notes, ""))).await;
    let to = vec![target("a"), target("")];
    golden.call("a fan-out that reaches a partition of 0 bytes", kv.fan_out(fan_out(wire.notes, bytes(1), to))).await;
    let session = pb::OpenSessionRequest {
        client: Bytes::from_static(&[7; 16]),
        scope: Some(pb::open_session_request::Scope::Key(key(wire.notes, long(), ""))),
        deadline_ms: 0,
    };
    golden.call("a session for a partition of 513 bytes", kv.open_session(session)).await;
}

async fn sort_keys(golden: &mut Golden, wire: &Wire) {
    let mut kv = wire.kv.clone();
    for length in [0, SORT_BYTES_MAX, SORT_BYTES_MAX + 1] {
        let answer = kv.write(write(wire.notes, "p", vec![put(bytes(length), "1")]));
        golden.call(&format!("a put under a sort key of {length} bytes"), answer).await;
    }
    let long = || bytes(SORT_BYTES_MAX + 1);
    golden.call("a get of a sort key of 2,049 bytes", kv.get(get(wire.notes, "p", long()))).await;
    for length in [SORT_BYTES_MAX - 8, SORT_BYTES_MAX - 7] {
        let append = pb::Append { counter: "n".into(), prefix: bytes(length), value: "1".into(), index: None };
        let op = pb::Op { op: Some(pb::op::Op::Append(append)) };
        let answer = kv.write(write(wire.notes, "p", vec![op]));
        golden.call(&format!("an append under a prefix of {length} bytes, to which 8 are added"), answer).await;
    }
    let range = pb::op::Op::DeleteRange(pb::DeleteRange { start: "a".into(), end: long() });
    let answer = kv.write(write(wire.notes, "p", vec![pb::Op { op: Some(range) }]));
    golden.call("a range delete up to a sort key of 2,049 bytes", answer).await;
}

async fn batches(golden: &mut Golden, wire: &Wire) {
    let mut kv = wire.kv.clone();
    for length in [VALUE_BYTES_MAX, VALUE_BYTES_MAX + 1] {
        let answer = kv.write(write(wire.notes, "p", vec![put("big", bytes(length))]));
        golden.call(&format!("a value of {length} bytes"), answer).await;
    }
    for count in [BATCH_OPS_MAX, BATCH_OPS_MAX + 1] {
        let answer = kv.write(write(wire.notes, "p", vec![put("s", "1"); count]));
        golden.call(&format!("a batch of {count} operations"), answer).await;
    }
    // Four puts, each with a partition and a sort key of one byte.
    for total in [BATCH_BYTES_MAX, BATCH_BYTES_MAX + 1] {
        let mut ops = vec![put("v", bytes(VALUE_BYTES_MAX)); 3];
        ops.push(put("v", bytes(total - 8 - 3 * VALUE_BYTES_MAX)));
        golden.call(&format!("a batch of {total} bytes"), kv.write(write(wire.notes, "p", ops))).await;
    }
    let ops = vec![put("v", bytes(VALUE_BYTES_MAX)); MESSAGE_BYTES_MAX / VALUE_BYTES_MAX];
    golden.call("a request of more than 64 MiB", kv.write(write(wire.notes, "p", ops))).await;
}

async fn many_keys(golden: &mut Golden, wire: &Wire) {
    let mut kv = wire.kv.clone();
    for count in [MULTI_GET_KEYS_MAX, MULTI_GET_KEYS_MAX + 1] {
        let keys = vec![key(wire.notes, "nobody", "s"); count];
        let answer = kv.multi_get(pb::MultiGetRequest { keys, ..Default::default() });
        golden.call(&format!("a read of {count} keys"), answer).await;
    }
    kv.write(write(wire.notes, "p", vec![put("big", bytes(VALUE_BYTES_MAX))])).await.expect("written");
    for count in [32, 33] {
        let keys = vec![key(wire.notes, "p", "big"); count];
        let answer = kv.multi_get(pb::MultiGetRequest { keys, deadline_ms: 20_000, ..Default::default() });
        golden.call(&format!("a read whose answer has {count} MiB"), answer).await;
    }
}

async fn fan_outs(golden: &mut Golden, wire: &Wire) {
    let mut kv = wire.kv.clone();
    for count in [FAN_OUT_TARGETS_MAX, FAN_OUT_TARGETS_MAX + 1] {
        let targets = (0..count).map(|one| target(one.to_string())).collect();
        let answer = kv.fan_out(fan_out(wire.notes, bytes(1), targets));
        golden.call(&format!("a fan-out to {count} targets"), answer).await;
    }
    // Sixteen targets, each with a partition and a sort key of one byte.
    for total in [FAN_OUT_EXPANDED_BYTES_MAX, FAN_OUT_EXPANDED_BYTES_MAX + 16] {
        let value = bytes(total / 16 - 2);
        let targets = (b'a'..).take(16).map(|one| target(vec![one])).collect();
        let answer = kv.fan_out(fan_out(wire.notes, value, targets));
        golden.call(&format!("a fan-out that expands to {total} bytes"), answer).await;
    }
}

/// On the wire a batch names its partition once, so only the client library can be asked for this.
async fn across(golden: &mut Golden, wire: &Wire) {
    let info = AdminClient::new(wire.channel.clone()).shard_map(admin::ShardMapRequest {}).await;
    let map = info.expect("a map").into_inner();
    let address = map.shards.first().and_then(|shard| shard.replica_addresses.first()).expect("an address").clone();
    let engine = RemoteEngine::connect(vec![address], ClientOptions::default()).await.expect("connects");
    let notes = engine.keyspace("notes", KeyspaceKind::Hashed).await.expect("found");
    let torn = Batch::new().put(notes.key("alice", "s"), "1").put(notes.key("bob", "s"), "1");
    golden.error(
        "a batch over two partitions, given to the client library",
        &engine.write(torn).await.expect_err("torn"),
        false,
    );
    let other = engine.keyspace("other", KeyspaceKind::Hashed).await.expect("made");
    let torn = Batch::new().put(notes.key("alice", "s"), "1").put(other.key("alice", "s"), "1");
    let refused = engine.write(torn).await.expect_err("torn");
    golden.hide(format!("keyspaces {} and {}", notes.id, other.id), "keyspaces A and B");
    golden.error("a batch over two keyspaces, given to the client library", &refused, false);
}
