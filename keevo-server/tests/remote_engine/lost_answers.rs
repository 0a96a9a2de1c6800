//! Answers that get lost: a write is applied once, or its outcome is unknown and says so.

use std::time::Duration;

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, KeyspaceKind, MemoryEngine, RequestId, Result};

use super::proxy::Proxy;
use super::support::{Fault, FaultyEngine, Server, TestHost, connect, integer, new_client, options, single};

fn unknown() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "the leader stepped down")
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_applied_once() -> Result<()> {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let server = Server::start(TestHost::new(engine.clone())).await;
    let proxy = Proxy::before(server.address).await;
    let client = connect(proxy.address, options()).await;
    let keyspace = client.keyspace("counters", KeyspaceKind::Hashed).await?;
    let key = keyspace.key("alice", "n");
    client.write(Batch::new().merge(key.clone(), 1)).await?;
    for round in 2..=6 {
        proxy.lose_next_answer();
        let written = client.write(Batch::new().merge(key.clone(), 1)).await?;
        assert_eq!(written.assigned, [round], "round {round}");
    }
    assert_eq!(proxy.dropped(), 5, "each round lost an answer");
    assert_eq!(integer(&engine.memory, key.clone()).await, Some(6));
    // Conflicts are repeated too: the gate opens between the attempts, and the first answer stands.
    let gated = Batch::new().merge(key.clone(), 1).require(keyspace.key("alice", "gate"), Check::Exists);
    proxy.lose_next_answer();
    assert_eq!(client.write(gated).await.expect_err("refused").kind(), ErrorKind::Conflict);
    assert_eq!(integer(&engine.memory, key).await, Some(6));
    Ok(())
}

#[tokio::test]
async fn many_writes_at_once_survive_lost_answers() -> Result<()> {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let server = Server::start(TestHost::new(engine.clone())).await;
    let proxy = Proxy::before(server.address).await;
    let client = connect(proxy.address, options()).await;
    let keyspace = client.keyspace("counters", KeyspaceKind::Hashed).await?;
    for round in 0..5_i64 {
        let mut writes = tokio::task::JoinSet::new();
        for writer in 0..200 {
            let (client, key) = (client.clone(), keyspace.key(format!("p{}", writer % 7), "n"));
            writes.spawn(async move { client.write(Batch::new().merge(key, 1)).await });
        }
        proxy.lose_next_answer();
        for written in writes.join_all().await {
            written?;
        }
        let mut sum = 0;
        for partition in 0..7 {
            sum += integer(&engine.memory, keyspace.key(format!("p{partition}"), "n")).await.unwrap_or(0);
        }
        assert_eq!(sum, 200 * (round + 1), "every write is applied once");
    }
    assert_eq!(proxy.dropped(), 5);
    Ok(())
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_for_again() -> Result<()> {
    let (engine, _server, client) = single().await;
    let key = client.keyspace("counters", KeyspaceKind::Hashed).await?.key("alice", "n");
    client.write(Batch::new().merge(key.clone(), 1)).await?;
    engine.script([Fault::Answer(unknown()), Fault::Refuse(unknown())]);
    assert_eq!(client.write(Batch::new().merge(key.clone(), 1)).await?.assigned, [2], "the third attempt repeats it");
    assert_eq!(integer(&client, key).await, Some(2));
    Ok(())
}

#[tokio::test]
async fn a_write_in_doubt_ends_as_outcome_unknown() -> Result<()> {
    let (engine, _server, client) = single().await;
    let key = client.keyspace("counters", KeyspaceKind::Hashed).await?.key("alice", "n");
    // It was applied; then the node is sick, or has forgotten the session: neither says that it was not applied.
    let broken = Error::new(ErrorKind::Io, "the disk failed");
    for second in [broken, Error::session_not_open(new_client()), Error::request_forgotten(new_client(), 1)] {
        client.write(Batch::new().merge(key.clone(), 1)).await?;
        engine.script([Fault::Answer(unknown()), Fault::Refuse(second)]);
        let error = client.write(Batch::new().merge(key.clone(), 1)).await.expect_err("in doubt");
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    }
    assert_eq!(integer(&client, key.clone()).await, Some(6));
    // Without a doubt the error is passed on as it is.
    engine.script([Fault::Refuse(Error::new(ErrorKind::Io, "the disk failed"))]);
    assert_eq!(client.write(Batch::new().merge(key, 1)).await.expect_err("refused").kind(), ErrorKind::Io);
    Ok(())
}

#[tokio::test]
async fn a_write_that_is_never_answered_is_outcome_unknown() -> Result<()> {
    let (engine, _server, client) = single().await;
    let key = client.keyspace("counters", KeyspaceKind::Hashed).await?.key("alice", "n");
    client.write(Batch::new().merge(key.clone(), 1)).await?;
    engine.stall(true);
    let started = tokio::time::Instant::now();
    let error = client.write_within(Batch::new().merge(key, 1), Duration::from_millis(300)).await.expect_err("late");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "the deadline was 300 ms, not {:?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn an_unknown_outcome_of_opening_a_session_is_no_doubt_about_the_write() -> Result<()> {
    let (engine, _server, client) = single().await;
    let key = client.keyspace("counters", KeyspaceKind::Hashed).await?.key("alice", "n");
    engine.script([Fault::Answer(unknown()), Fault::Refuse(unknown())]);
    assert_eq!(client.write(Batch::new().merge(key.clone(), 1)).await?.assigned, [1], "opening is repeated");
    Ok(())
}

#[tokio::test]
async fn a_lost_session_is_opened_anew_on_the_first_send() -> Result<()> {
    let (engine, _server, client) = single().await;
    let keyspace = client.keyspace("counters", KeyspaceKind::Hashed).await?;
    let key = keyspace.key("alice", "n");
    client.write(Batch::new().merge(key.clone(), 1)).await?;
    engine.script([Fault::Refuse(Error::session_not_open(new_client()))]);
    assert_eq!(client.write(Batch::new().merge(key.clone(), 1)).await?.assigned, [2]);
    // A caller that names its requests keeps its own sessions.
    let request = RequestId { client: new_client(), sequence: 1, acked_below: 0 };
    let named = Batch::new().merge(key.clone(), 1).with_request(request);
    let error = client.write(named.clone()).await.expect_err("never opened");
    assert!(error.is_session_not_open(), "{error}");
    client.open_session(request.client).await?;
    assert_eq!(client.write(named.clone()).await?.assigned, [3]);
    assert_eq!(client.write(named).await?.assigned, [3], "applied once");
    Ok(())
}
