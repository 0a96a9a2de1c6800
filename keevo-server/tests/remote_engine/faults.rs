//! Deadlines, full queues, servers that go and come back.

use std::time::Duration;

use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Batch, Consistency, ERROR_TABLE, Engine, Error, ErrorKind, KeyspaceKind, MemoryEngine, Result, Scan};

use super::support::{Fault, FaultyEngine, Server, TestHost, connect, integer, options, single};

#[tokio::test]
async fn a_read_past_its_deadline_says_so() -> Result<()> {
    let (engine, _server, client) = single().await;
    let keyspace = client.keyspace("users", KeyspaceKind::Hashed).await?;
    engine.stall(true);
    let hurried = client.with_deadline(Duration::from_millis(200));
    let started = tokio::time::Instant::now();
    let get = hurried.get(keyspace.key("alice", "n"), Consistency::Linearizable).await;
    assert_eq!(get.expect_err("late").kind(), ErrorKind::DeadlineExceeded);
    let scan = hurried.scan(Scan::partition(keyspace, "alice", 1)).await;
    assert_eq!(scan.expect_err("late").kind(), ErrorKind::DeadlineExceeded);
    assert!(started.elapsed() < Duration::from_secs(2), "two deadlines of 200 ms took {:?}", started.elapsed());
    engine.stall(false);
    assert_eq!(client.get(keyspace.key("alice", "n"), Consistency::Linearizable).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_slow_node_is_asked_again_before_the_deadline() -> Result<()> {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let server = Server::start(TestHost::new(engine.clone())).await;
    let patient = ClientOptions { attempt_timeout: Duration::from_millis(100), ..options() };
    let client = connect(server.address, patient).await;
    let key = client.keyspace("users", KeyspaceKind::Hashed).await?.key("alice", "n");
    client.write(Batch::new().merge(key.clone(), 1)).await?;
    engine.stall(true);
    let write = tokio::spawn({
        let (client, key) = (client.clone(), key.clone());
        async move { client.write(Batch::new().merge(key, 1)).await }
    });
    tokio::time::sleep(Duration::from_millis(350)).await;
    engine.stall(false);
    assert_eq!(write.await.expect("no panic")?.assigned, [2]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(integer(&client, key).await, Some(2), "several attempts arrived, one was applied");
    Ok(())
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() -> Result<()> {
    let (engine, server, client) = single().await;
    let key = client.keyspace("users", KeyspaceKind::Hashed).await?.key("alice", "n");
    client.write(Batch::new().merge(key.clone(), 1)).await?;
    let address = server.address;
    server.stop().await;
    let hurried = client.with_deadline(Duration::from_millis(300));
    let error = hurried.get(key.clone(), Consistency::Linearizable).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = hurried.write(Batch::new().merge(key.clone(), 1)).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "it was never sent: {error}");
    let write = tokio::spawn({
        let (client, key) = (client.clone(), key.clone());
        async move { client.write(Batch::new().merge(key, 1)).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _server = Server::start_on(TestHost::new(engine), address).await;
    assert_eq!(write.await.expect("no panic")?.assigned, [2], "a write waits for the server within its deadline");
    assert_eq!(integer(&client, key).await, Some(2));
    Ok(())
}

#[tokio::test]
async fn requests_in_flight_are_answered_before_a_server_stops() -> Result<()> {
    let (engine, server, client) = single().await;
    let key = client.keyspace("users", KeyspaceKind::Hashed).await?.key("alice", "n");
    client.write(Batch::new().merge(key.clone(), 1)).await?;
    engine.stall(true);
    let calls = engine.calls.load(std::sync::atomic::Ordering::SeqCst);
    let write = tokio::spawn({
        let (client, key) = (client.clone(), key.clone());
        async move { client.write(Batch::new().merge(key, 1)).await }
    });
    while engine.calls.load(std::sync::atomic::Ordering::SeqCst) == calls {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    engine.stall(false);
    assert_eq!(write.await.expect("no panic")?.assigned, [2]);
    assert_eq!(engine.calls.load(std::sync::atomic::Ordering::SeqCst), calls + 1, "the first attempt was answered");
    server.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_full_queue_is_resource_exhausted() -> Result<()> {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let server = Server::start(TestHost::new(engine.clone())).await;
    let narrow = ClientOptions { pipes_per_node: 1, in_flight_max: 2, queue_max: 4, ..options() };
    let client = connect(server.address, narrow).await;
    let key = client.keyspace("users", KeyspaceKind::Hashed).await?.key("alice", "n");
    engine.stall(true);
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..600 {
        let (client, key) = (client.clone(), key.clone());
        reads.spawn(async move { client.get(key, Consistency::Linearizable).await });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    engine.stall(false);
    let (mut answered, mut refused) = (0, 0);
    for read in reads.join_all().await {
        match read {
            Ok(_) => answered += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
                refused += 1;
            }
        }
    }
    assert!(answered >= 4 && refused > 100, "{answered} were answered, {refused} refused");
    assert_eq!(client.get(key, Consistency::Linearizable).await?, None, "the queue is free again");
    Ok(())
}

#[tokio::test]
async fn every_kind_of_error_arrives_as_it_was() -> Result<()> {
    let (engine, _server, client) = single().await;
    let keyspace = client.keyspace("users", KeyspaceKind::Hashed).await?;
    let key = keyspace.key("alice", "n");
    client.write(Batch::new().merge(key.clone(), 1)).await?;
    let hurried = client.with_deadline(Duration::from_millis(150));
    for row in ERROR_TABLE {
        let fault = || Fault::Refuse(Error::new(row.kind, "scripted"));
        let retried = matches!(
            row.kind,
            ErrorKind::NotLeader
                | ErrorKind::ShardMoved
                | ErrorKind::Unavailable
                | ErrorKind::NoQuorum
                | ErrorKind::ResourceExhausted
                | ErrorKind::DeadlineExceeded
                | ErrorKind::Closed
                | ErrorKind::OutcomeUnknown
        );
        if retried {
            engine.script([fault(), fault()]);
            assert!(client.get(key.clone(), Consistency::Linearizable).await?.is_some(), "{} is retried", row.name);
            engine.script(std::iter::repeat_with(fault).take(200));
            let error = hurried.get(key.clone(), Consistency::Linearizable).await.expect_err("to the end");
            let told = match row.kind {
                ErrorKind::NoQuorum | ErrorKind::ResourceExhausted | ErrorKind::DeadlineExceeded => row.kind,
                _ => ErrorKind::Unavailable,
            };
            assert_eq!(error.kind(), told, "{}: {error}", row.name);
            engine.clear_script();
            continue;
        }
        engine.script([fault()]);
        let error = client.get(key.clone(), Consistency::Linearizable).await.expect_err("scripted");
        assert_eq!((error.kind(), error.message()), (row.kind, "scripted"));
    }
    Ok(())
}

/// Listens and never answers; connections come up all the same.
fn hung_node() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    (listener, address)
}

#[tokio::test]
async fn nodes_that_hang_cost_no_more_than_the_deadline_and_hide_no_live_one() -> Result<()> {
    let hung: Vec<_> = (0..3).map(|_| hung_node()).collect();
    let mut addresses: Vec<String> = hung.iter().map(|(_, address)| address.clone()).collect();
    let options = ClientOptions { deadline: Duration::from_millis(500), ..options() };
    let started = tokio::time::Instant::now();
    let nobody = RemoteEngine::connect(addresses.clone(), options.clone()).await.expect_err("nobody answers");
    assert_eq!(nobody.kind(), ErrorKind::Unavailable, "{nobody}");
    assert!(started.elapsed() < Duration::from_millis(1_500), "a deadline of 500 ms took {:?}", started.elapsed());
    let server = Server::start(TestHost::new(FaultyEngine::new(MemoryEngine::new()))).await;
    addresses.push(server.address.to_string());
    for _ in 0..8 {
        RemoteEngine::connect(addresses.clone(), options.clone()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn addresses_are_checked() {
    let options = ClientOptions { deadline: Duration::from_millis(200), ..options() };
    let none = RemoteEngine::connect(vec![], options.clone()).await;
    assert_eq!(none.expect_err("none").kind(), ErrorKind::Invalid);
    let malformed = RemoteEngine::connect(vec!["not an address".to_owned()], options.clone()).await;
    assert_eq!(malformed.expect_err("malformed").kind(), ErrorKind::Invalid);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let nobody = RemoteEngine::connect(vec![address.clone()], options).await.expect_err("nobody listens");
    assert_eq!(nobody.kind(), ErrorKind::Unavailable);
    assert!(nobody.message().contains(&address), "{nobody}");
}
