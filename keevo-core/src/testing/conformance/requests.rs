//! Cases: a request id is applied once, however often it is sent.

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::{Batch, Check};
use crate::clock::{Random, SeededRandom};
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::ids::{ClientId, RequestId};
use crate::key::Key;

fn request(client: ClientId, sequence: u64, acked_below: u64) -> RequestId {
    RequestId { client, sequence, acked_below }
}

fn add_one(key: &Key, request: RequestId) -> Batch {
    Batch::new().merge(key.clone(), 1).with_request(request)
}

pub(super) async fn a_request_is_applied_once<F: Factory>(bench: Bench<'_, F>) {
    let key = bench.keyspace().await.key("p", "n");
    let client = bench.session().await;
    let first = bench.write(add_one(&key, request(client, 1, 0))).await;
    assert_eq!(first.assigned, [1]);
    for _ in 0..3 {
        let again = bench.write(add_one(&key, request(client, 1, 0))).await;
        assert_eq!(again, first, "the first answer is repeated");
    }
    assert_eq!(bench.integer(&key).await, Some(1), "it was applied once");
    let second = bench.write(add_one(&key, request(client, 2, 1))).await;
    assert_eq!(second.assigned, [2]);
    assert_eq!(bench.write(add_one(&key, request(client, 1, 1))).await, first, "1 is not below the acknowledged 1");
    let other = bench.session().await;
    assert_ne!(other, client, "the factory gives every caller a client of its own");
    assert_eq!(bench.write(add_one(&key, request(other, 1, 0))).await.assigned, [3], "sequences are per client");
}

pub(super) async fn a_conflict_is_repeated_too<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let (key, gate) = (keyspace.key("p", "n"), keyspace.key("p", "gate"));
    let client = bench.session().await;
    let gated = add_one(&key, request(client, 1, 0)).require(gate.clone(), Check::Exists);
    assert_eq!(bench.refused(gated.clone()).await, ErrorKind::Conflict);
    bench.put(&gate, "open").await;
    assert_eq!(bench.refused(gated.clone()).await, ErrorKind::Conflict, "its answer stands, whatever changed since");
    assert_eq!(bench.integer(&key).await, None);
    let new = Batch { request: Some(request(client, 2, 0)), ..gated };
    assert_eq!(bench.write(new).await.assigned, [1], "a new request is tried anew");
}

pub(super) async fn requests_out_of_order<F: Factory>(bench: Bench<'_, F>) {
    let key = bench.keyspace().await.key("p", "n");
    let client = bench.session().await;
    for (place, sequence) in [5, 3, 4, 1, 2].into_iter().enumerate() {
        let written = bench.write(add_one(&key, request(client, sequence, 0))).await;
        assert_eq!(written.assigned.first().copied(), i64::try_from(place + 1).ok(), "sequence {sequence}");
    }
    for sequence in 1..=5 {
        bench.write(add_one(&key, request(client, sequence, 0))).await;
    }
    assert_eq!(bench.integer(&key).await, Some(5));
}

pub(super) async fn acknowledged_requests_are_forgotten<F: Factory>(bench: Bench<'_, F>) {
    let key = bench.keyspace().await.key("p", "n");
    let client = bench.session().await;
    for sequence in 1..=3 {
        bench.write(add_one(&key, request(client, sequence, 0))).await;
    }
    let fourth = bench.write(add_one(&key, request(client, 4, 4))).await;
    for sequence in 1..=3 {
        let late = bench.refused(add_one(&key, request(client, sequence, 0))).await;
        assert_eq!(late, ErrorKind::OutcomeUnknown, "sequence {sequence} was acknowledged");
    }
    assert_eq!(bench.write(add_one(&key, request(client, 4, 4))).await, fourth);
    assert_eq!(bench.integer(&key).await, Some(4), "none was applied twice");
}

pub(super) async fn an_unknown_session_is_refused<F: Factory>(bench: Bench<'_, F>) {
    let key = bench.keyspace().await.key("p", "n");
    let stranger = ClientId(SeededRandom::from_os().next_u128());
    let refused = bench.refused(add_one(&key, request(stranger, 1, 0))).await;
    assert_eq!(refused, ErrorKind::OutcomeUnknown);
    assert_eq!(bench.record(&key).await, None, "and it was not applied");
}

pub(super) async fn one_request_sent_at_once<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let (key, id) = (keyspace.key("p", "n"), Bytes::from("id"));
    let client = bench.session().await;
    for sequence in 1..=5 {
        let batch = Batch::new().append(key.clone(), "m/", "hello", Some(id.clone()));
        let batch = batch.with_request(request(client, sequence, sequence));
        let mut sends = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (engine, batch) = (bench.engine.clone(), batch.clone());
            sends.spawn(async move { engine.write(batch).await.expect("each send is answered") });
        }
        let answers = sends.join_all().await;
        let first = answers.first().expect("there are eight").clone();
        assert!(answers.iter().all(|answer| *answer == first), "one request, one answer: {answers:?}");
        assert_eq!(first.assigned, [i64::try_from(sequence).expect("it is small")]);
    }
    assert_eq!(bench.integer(&key).await, Some(5));
}
