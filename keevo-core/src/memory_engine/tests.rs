//! Tests of what the conformance suite can't reach: the model's own clock, retention, session limits and end.

use std::sync::Arc;

use futures::StreamExt;

use super::*;
use crate::batch::Check;
use crate::clock::ManualClock;
use crate::ids::RequestId;
use crate::limits::{SESSION_IDLE_MS_MAX, SESSION_WINDOW, SESSIONS_MAX};
use crate::watch::Change;

async fn hashed(engine: &MemoryEngine) -> Keyspace {
    engine.keyspace("k", KeyspaceKind::Hashed).await.unwrap()
}

async fn value(engine: &MemoryEngine, key: &Key) -> Option<bytes::Bytes> {
    engine.get(key.clone(), Consistency::Linearizable).await.unwrap().map(|record| record.value)
}

fn one(key: &Key, client: u128, sequence: u64) -> Batch {
    let request = RequestId { client: ClientId(client), sequence, acked_below: 0 };
    Batch::new().merge(key.clone(), 1).with_request(request)
}

#[tokio::test]
async fn expiry_follows_the_clock() {
    let clock = Arc::new(ManualClock::new(1_000));
    let engine = MemoryEngine::with_clock(Arc::<ManualClock>::clone(&clock));
    let keyspace = hashed(&engine).await;
    let (key, other) = (keyspace.key("p", "k"), keyspace.key("q", "k"));
    engine.write(Batch::new().put_ttl(key.clone(), "1", 500)).await.unwrap();
    let record = engine.get(key.clone(), Consistency::Linearizable).await.unwrap().unwrap();
    assert_eq!(record.expires_at_ms, Some(1_500));
    clock.advance_ms(499);
    engine.write(Batch::new().put(other, "")).await.unwrap();
    assert!(value(&engine, &key).await.is_some(), "1 ms is left");
    clock.advance_ms(1);
    assert_eq!(value(&engine, &key).await, None, "reading is enough");
    engine.write(Batch::new().put(key.clone(), "2").require(key, Check::Absent)).await.unwrap();
}

#[tokio::test]
async fn the_clock_never_goes_back() {
    let clock = Arc::new(ManualClock::new(5_000));
    let engine = MemoryEngine::with_clock(Arc::<ManualClock>::clone(&clock));
    let keyspace = hashed(&engine).await;
    engine.write(Batch::new().put_ttl(keyspace.key("p", "k"), "1", 100)).await.unwrap();
    clock.advance_ms(200);
    engine.write(Batch::new().put(keyspace.key("p", "x"), "")).await.unwrap();
    clock.advance_ms(0_u64.wrapping_sub(5_000));
    engine.write(Batch::new().put(keyspace.key("p", "y"), "")).await.unwrap();
    assert_eq!(value(&engine, &keyspace.key("p", "k")).await, None, "what has expired stays so");
}

#[tokio::test]
async fn a_session_keeps_a_window_of_answers() {
    let engine = MemoryEngine::new();
    let key = hashed(&engine).await.key("p", "n");
    engine.open_session(ClientId(1)).await.unwrap();
    for sequence in 0..=SESSION_WINDOW {
        engine.write(one(&key, 1, sequence)).await.unwrap();
    }
    let refused = engine.write(one(&key, 1, 0)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::OutcomeUnknown, "its answer has left the window");
    engine.write(one(&key, 1, 1)).await.unwrap();
    engine.write(one(&key, 1, u64::MAX)).await.unwrap();
    let counted = i64::try_from(SESSION_WINDOW).unwrap() + 2;
    assert_eq!(value(&engine, &key).await.unwrap(), counted.to_be_bytes().as_slice(), "each was applied once");
}

#[tokio::test]
async fn idle_and_surplus_sessions_are_dropped() {
    let clock = Arc::new(ManualClock::new(1));
    let engine = MemoryEngine::with_clock(Arc::<ManualClock>::clone(&clock));
    let key = hashed(&engine).await.key("p", "n");
    engine.open_session(ClientId(1)).await.unwrap();
    engine.open_session(ClientId(2)).await.unwrap();
    clock.advance_ms(SESSION_IDLE_MS_MAX);
    engine.write(one(&key, 2, 1)).await.unwrap();
    clock.advance_ms(1);
    engine.open_session(ClientId(3)).await.unwrap();
    assert_eq!(engine.write(one(&key, 1, 1)).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown, "1 was idle");
    for client in 4..u128::try_from(SESSIONS_MAX).unwrap() + 3 {
        engine.write(one(&key, 2, 2)).await.unwrap();
        engine.open_session(ClientId(client)).await.unwrap();
    }
    assert_eq!(engine.write(one(&key, 3, 1)).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown, "3 gave way");
    engine.write(one(&key, 2, 3)).await.unwrap();
    engine.write(one(&key, 4, 1)).await.unwrap();
}

#[tokio::test]
async fn opening_an_open_session_keeps_its_answers() {
    let engine = MemoryEngine::new();
    let key = hashed(&engine).await.key("p", "n");
    engine.open_session(ClientId(7)).await.unwrap();
    let first = engine.write(one(&key, 7, 1)).await.unwrap();
    engine.open_session(ClientId(7)).await.unwrap();
    assert_eq!(engine.write(one(&key, 7, 1)).await.unwrap(), first);
}

#[tokio::test]
async fn a_watch_ends_when_the_engine_is_dropped() {
    let engine = MemoryEngine::new();
    let keyspace = hashed(&engine).await;
    let mut watch = engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await.unwrap();
    engine.write(Batch::new().put(keyspace.key("p", "k"), "1")).await.unwrap();
    drop(engine);
    assert!(matches!(watch.next().await.unwrap().unwrap().change, Change::Put { .. }), "what was written comes first");
    assert_eq!(watch.next().await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_quiet_watch_is_not_compacted() {
    let engine = MemoryEngine::with_clock_and_retained(Arc::new(SystemClock::new()), 4);
    let keyspace = hashed(&engine).await;
    let range = WatchRange::Partition { keyspace, partition: "quiet".into(), prefix: "".into() };
    let mut watch = engine.watch(range, WatchFrom::Now).await.unwrap();
    for at in 0..20_u8 {
        engine.write(Batch::new().put(keyspace.key("busy", vec![at]), "")).await.unwrap();
        assert!(futures::poll!(watch.next()).is_pending(), "nothing happened in its range");
    }
    engine.write(Batch::new().put(keyspace.key("quiet", "k"), "")).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().key, keyspace.key("quiet", "k"));
}
